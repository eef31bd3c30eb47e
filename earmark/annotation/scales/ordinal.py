"""Ordinal scale: levels in an order."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from earmark.annotation.raters import FLAG_RULES, MIN_RATINGS
from earmark.annotation.scales.levels import Coefficient, LevelScale, medians
from earmark.annotation.scales.scale import ONE_RATER_EACH, FloatArray, IntArray, notes
from earmark.annotation.scales.sums import clip_bootstrap, estimate_columns, group_sums
from earmark.metrics.agreement import (
    AgreementSums,
    Weighting,
    alpha_from_sums,
    cohen_kappa,
    gwet_ac,
    item_contributions,
    percent_agreement,
)
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.class_agreement import ordered_pairs, percent_within
from earmark.metrics.estimate import Estimate
from earmark.metrics.interval_agreement import concordance, moments
from earmark.metrics.intervals import COEFFICIENT, DIFFERENCE, SHARE
from earmark.metrics.ratio import ratio

NO_MEDIAN = "no rated item has a median of the other raters that is a level"
SAME_LEVEL = "the rater and the median of the other raters used the same single level"
LARGE_BIAS = 0.25  # of the way from the lowest to the highest level: a step on a scale of five


@dataclass(frozen=True)
class OrdinalSums:
    """Sums over items, and the table of all ordered pairs of ratings of the same item, (…, q, q)."""

    items: AgreementSums
    pairs: FloatArray


class Ordinal(LevelScale):
    """Levels in an order."""

    name = "ordinal"
    headline = "krippendorff_alpha_ordinal"
    pair_headline = "cohen_kappa_quadratic"
    kappas: ClassVar[dict[str, Weighting]] = {"cohen_kappa_linear": "linear", "cohen_kappa_quadratic": "quadratic"}
    flag_rules = (
        FLAG_RULES[0],
        (
            lambda r: r.median_compared >= MIN_RATINGS and r.kappa_high < 0.2,
            "agreement with the median of the other raters is close to chance"
            " (weighted kappa {kappa:.2f}, upper limit {kappa_high:.2f})",
        ),
        (
            lambda r: r.ratings >= MIN_RATINGS and r.largest_share >= 0.98,
            "almost all ratings are equal ({largest_share:.0%})",
        ),
        (
            lambda r: r.compared >= MIN_RATINGS and (r.bias_low > r.large_bias or r.bias_high < -r.large_bias),
            "the ratings differ from those of the other raters by {bias:+.1f} steps on average",
        ),
    )

    def labels(self) -> dict[str, Any]:
        """Median, mean, majority, shares, and the Dawid-Skene level."""
        median = medians(self.counts)
        between = np.isnan(median) | (median % 1 != 0)
        positions = np.arange(1, self.q + 1)
        return {
            "median_level": median + 1,
            "median_rating": self.words(np.nan_to_num(median).astype(np.int64), between),
            "mean_level": ratio(self.counts @ positions, self.raters_per_item),
            **self.vote_columns("majority_rating"),
            **self.distribution_columns("ds_rating"),
        }

    def coefficients(self) -> list[Coefficient]:
        """Percent agreement, within one step, weighted kappas, alpha and AC2."""
        # Any two of two levels are within one step.
        within: list[Coefficient] = [("percent_within_one", SHARE, lambda sums: percent_within(sums.pairs))]
        return [
            ("percent", SHARE, lambda sums: percent_agreement(sums.items)),
            *(within if self.q > 2 else []),
            ("krippendorff_alpha_ordinal", COEFFICIENT, lambda sums: alpha_from_sums(sums.items, "ordinal")),
            ("gwet_ac2", COEFFICIENT, lambda sums: gwet_ac(sums.items, "quadratic")),
            ("cohen_kappa_linear_pooled", COEFFICIENT, lambda sums: cohen_kappa(sums.pairs, "linear")),
            ("cohen_kappa_quadratic_pooled", COEFFICIENT, lambda sums: cohen_kappa(sums.pairs, "quadratic")),
        ]

    def contributions(self, counts: IntArray) -> FloatArray:
        """Contributions to the sums of items and the table of ordered pairs."""
        return np.concatenate([item_contributions(counts), ordered_pairs(counts)], axis=1)

    def named_sums(self, sums: FloatArray) -> "OrdinalSums":
        """Sums of contributions with their names."""
        q = self.q
        pairs = sums[..., sums.shape[-1] - q * q :].reshape(*sums.shape[:-1], q, q)
        return OrdinalSums(AgreementSums.from_sums(sums[..., : sums.shape[-1] - q * q]), pairs)

    @property
    def disagreement(self) -> FloatArray:
        """Variance of the levels."""
        positions = np.arange(self.q)
        mean = ratio(self.counts @ positions, self.raters_per_item, empty=0.0)
        return ratio(self.counts @ positions**2, self.raters_per_item, empty=0.0) - mean**2

    @cached_property
    def others(self) -> tuple[FloatArray, FloatArray]:
        """Mean and median position of the other ratings of each rating's item, from 0; NaN without others."""

        def mean_and_median(counts: IntArray) -> tuple[FloatArray, FloatArray]:
            return ratio(counts @ np.arange(self.q), counts.sum(axis=1)), medians(counts)

        mean, median = self.from_others(np.arange(len(self.ratings.item)), mean_and_median, 2)
        return mean, median

    def leave_one_out(self, rows: IntArray) -> dict[str, Any]:
        """The rating, its level, and the mean level of the others."""
        codes = self.codes[rows]
        return {
            "rating": self.words(codes, np.zeros(len(rows), dtype=bool)),
            "level": codes + 1,
            "mean_level_of_others": self.others[0][rows] + 1,
        }

    def rater_statistics(self, bootstrap: Bootstrap) -> dict[str, Any]:
        """Bias, use of the scale, and weighted kappa with the median of the others."""
        mean, median = self.others
        compared, at_level = np.flatnonzero(~np.isnan(mean)), np.flatnonzero(median % 1 == 0)
        bias, kappa = self._bias(compared, bootstrap), self._kappa(at_level, bootstrap)
        shares = self._shares(bootstrap)
        return {
            "largest_share": self.shares_of_raters().max(axis=1, initial=0),
            "compared": self.ratings_of_raters(compared),
            **estimate_columns("bias", bias),
            "median_compared": self.ratings_of_raters(at_level),
            **estimate_columns("kappa", kappa),
            # Not share_<level>_low, which is also the share of a level <level>_low.
            **{
                name.format(level): [getattr(each, field) for each in of_level]
                for level, of_level in zip(self.levels, shares, strict=True)
                for name, field in (("share_{}", "value"), ("low_share_{}", "low"), ("high_share_{}", "high"))
            },
            "large_bias": LARGE_BIAS * (self.q - 1),
            "kappa_why": [e.why if e.value is None else "" for e in kappa],
            "note": notes(bias, kappa),
        }

    def _bias(self, rows: IntArray, bootstrap: Bootstrap) -> list[Estimate]:
        """Mean difference of a rater's level from the mean level of the others."""
        own, n = self.ratings, self.ratings_of_raters(rows)
        difference = own.value[rows] - self.others[0][rows]
        sums = group_sums(bootstrap, own.item[rows], own.rater[rows], self.n_raters, [np.ones(len(rows)), difference])
        return clip_bootstrap(bootstrap).estimates(
            sums,
            lambda sums: ratio(sums[..., 1::2], sums[..., 0::2]),
            n=n,
            why=[ONE_RATER_EACH] * self.n_raters,
            units=self.units_of_raters(bootstrap, rows),
            values=[DIFFERENCE] * self.n_raters,
        )

    def _kappa(self, rows: IntArray, bootstrap: Bootstrap) -> list[Estimate]:
        """Cohen's kappa with quadratic weights, which is the concordance of the two positions."""
        own, n, unit = self.ratings, self.ratings_of_raters(rows), max(self.q - 1, 1)
        columns = moments(own.value[rows] / unit - 0.5, self.others[1][rows] / unit - 0.5).T
        return clip_bootstrap(bootstrap).estimates(
            group_sums(bootstrap, own.item[rows], own.rater[rows], self.n_raters, list(columns)),
            lambda sums: concordance(sums.reshape(*sums.shape[:-1], self.n_raters, 6)),
            n=n,
            why=[SAME_LEVEL if size else NO_MEDIAN for size in n],
            units=self.units_of_raters(bootstrap, rows),
            values=[COEFFICIENT] * self.n_raters,
        )

    def _shares(self, bootstrap: Bootstrap) -> list[list[Estimate]]:
        """Share of each level in each rater's ratings: one list of raters per level."""
        own, rows = self.ratings, np.arange(len(self.ratings.item))
        n = self.ratings_of_raters(rows)
        is_level = [self.codes == code for code in range(self.q)]
        estimates = clip_bootstrap(bootstrap).estimates(
            group_sums(bootstrap, own.item, own.rater, self.n_raters, is_level),
            lambda sums: _row_shares(sums.reshape(*sums.shape[:-1], self.n_raters, self.q)),
            n=n * self.q,
            why=[""] * (self.n_raters * self.q),
            units=self.units_of_raters(bootstrap, rows) * self.q,
        )
        return [estimates[at * self.n_raters : (at + 1) * self.n_raters] for at in range(self.q)]


def _row_shares(tables: FloatArray) -> FloatArray:
    """(…, raters, q) counts to (…, q · raters) shares, by level."""
    shares = ratio(tables, tables.sum(axis=-1, keepdims=True))
    return np.moveaxis(shares, -1, -2).reshape(*tables.shape[:-2], -1)
