"""Interval scale: numbers."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from earmark.annotation.raters import FLAG_RULES, MIN_RATINGS
from earmark.annotation.ratings import Ratings
from earmark.annotation.reliability import NO_PAIRS
from earmark.annotation.scales.levels import once, with_smallest_pair
from earmark.annotation.scales.scale import (
    ONE_RATER_EACH,
    BoolArray,
    FloatArray,
    IntArray,
    PairStatistics,
    RatingScale,
    notes,
)
from earmark.annotation.scales.sums import (
    clip_bootstrap,
    estimate_columns,
    group_sums,
    selected,
    units_of_groups,
    units_of_items,
)
from earmark.metrics.agreement import nanmean
from earmark.metrics.bootstrap import Bootstrap, Contributions
from earmark.metrics.estimate import Estimate
from earmark.metrics.interval_agreement import (
    ICCS,
    NO_VARIATION,
    IntervalSums,
    complete_ratings,
    concordance,
    correlation,
    icc_contributions,
    interval_contributions,
    intraclass_correlations,
    krippendorff_alpha_interval,
    mean_absolute_difference,
    means_of_others,
    moments,
    reliability_of_mean,
    standardised,
)
from earmark.metrics.intervals import COEFFICIENT, COST, DIFFERENCE, Range
from earmark.metrics.rater_resampling import PairDeletions, RecomputedDeletions
from earmark.metrics.ratio import ratio

ALL_EQUAL = "all ratings are equal"
NOTHING_VARIES = "ratings differ between raters alone, or not at all"
NO_CORRELATION = "no rater has a defined correlation with the others"
MIN_ITEMS = 3  # of a rater in the mean correlation: two points always lie on a line
CONSTANT = "the ratings of the rater or of the others do not vary"
CONSTANT_PAIR = "all ratings of both raters are equal"
SAME_MEANS = "all items have the same mean rating"


class Interval(RatingScale):
    """Numbers.

    Parameters
    ----------
    ratings : Ratings
    trimmed_mean : float, optional
        Share of each item's ratings to leave out at either end of the column `trimmed_mean_rating`, in [0, 0.5).
    """

    name = "interval"
    headline = "krippendorff_alpha_interval"
    pair_headline = "concordance"
    flag_rules = (
        FLAG_RULES[0],
        (
            lambda r: r.compared >= MIN_RATINGS and r.correlation_high < 0.2,
            "correlation with the mean of the other raters is close to 0"
            " ({correlation:.2f}, upper limit {correlation_high:.2f})",
        ),
        (
            lambda r: r.ratings >= MIN_RATINGS and r.largest_share >= 0.98,
            "almost all ratings are equal ({largest_share:.0%})",
        ),
        (
            lambda r: r.compared >= MIN_RATINGS and (r.bias_low > r.sd_of_others or r.bias_high < -r.sd_of_others),
            "the ratings differ from those of the other raters by {bias:+.3g} on average, more than their standard"
            " deviation ({sd_of_others:.3g})",
        ),
    )

    def __init__(self, ratings: Ratings, trimmed_mean: float | None = None) -> None:
        super().__init__(ratings)
        if trimmed_mean is not None and not 0 <= trimmed_mean < 0.5:
            raise ValueError(f"the share of a trimmed mean is in [0, 0.5), not {trimmed_mean}")
        self.trimmed_mean = trimmed_mean

    # --- labels -----------------------------------------------------------------------------------------------

    def labels(self) -> dict[str, Any]:
        """Mean, standard deviation (n − 1) and, on request, trimmed mean of each item's ratings."""
        item, value, n = self.ratings.item, self.ratings.value, self.raters_per_item
        mean = ratio(np.bincount(item, value, self.n_items), n)
        columns: dict[str, Any] = {"mean_rating": mean, "sd_rating": np.sqrt(ratio(self._squares, n - 1))}
        if self.trimmed_mean is not None:
            columns["trimmed_mean_rating"] = self._trimmed(self.trimmed_mean)
        return columns

    @cached_property
    def _squares(self) -> FloatArray:
        """Sum of squared deviations of each item's ratings from their mean."""
        item, value = self.ratings.item, self.ratings.value
        mean = ratio(np.bincount(item, value, self.n_items), self.raters_per_item, empty=0.0)
        return np.asarray(np.bincount(item, (value - mean[item]) ** 2, self.n_items), dtype=float)

    def _trimmed(self, share: float) -> FloatArray:
        """Mean without the lowest and highest floor(share · n) of the n ratings of each item."""
        item, value, n = self.ratings.item, self.ratings.value, self.raters_per_item
        order = np.lexsort((value, item))
        of_item = item[order]
        place = np.arange(len(item)) - np.searchsorted(of_item, of_item)
        cut = np.floor(share * n).astype(np.int64)[of_item]
        kept = (place >= cut) & (place < n[of_item] - cut)
        total = np.bincount(of_item[kept], value[order][kept], self.n_items)
        return ratio(total, np.bincount(of_item[kept], minlength=self.n_items))

    # --- agreement --------------------------------------------------------------------------------------------

    @cached_property
    def _contributions(self) -> FloatArray:
        return interval_contributions(self.ratings.item, self.ratings.value, self.n_items)

    @cached_property
    def _complete(self) -> tuple[IntArray, FloatArray]:
        own = self.ratings
        return complete_ratings(own.item, own.rater, own.value, n_items=self.n_items, n_raters=self.n_raters)

    def agreement(self, items: BoolArray, bootstrap: Bootstrap, required: int) -> dict[str, Estimate]:
        """Alpha, intraclass correlations, mean absolute difference and leave-one-out correlation."""
        n, units = self.pairable(items, bootstrap)
        names = ["krippendorff_alpha_interval", "mean_absolute_difference"]
        if not n:
            every = [names[0], *ICCS, names[1], "loo_correlation"]
            return dict.fromkeys(every, Estimate(None, why=NO_PAIRS))

        def formula(sums: FloatArray) -> FloatArray:
            named = IntervalSums.from_sums(sums)
            return np.stack([krippendorff_alpha_interval(named), mean_absolute_difference(named)], axis=-1)

        used, own = np.flatnonzero(items), self.ratings
        alpha, difference = selected(bootstrap, items).estimates(
            self._contributions[used],
            formula,
            n=[n, n],
            why=[ALL_EQUAL, NO_PAIRS],
            units=[units, units],
            values=[COEFFICIENT, COST],
            deletions=self._deletions(
                items, lambda left, item: interval_contributions(item, own.value[left], self.n_items)[used]
            ),
        )
        return {
            names[0]: alpha,
            **self._iccs(items, bootstrap),
            names[1]: difference,
            "loo_correlation": self._loo_correlation(items, bootstrap),
        }

    def _iccs(self, items: BoolArray, bootstrap: Bootstrap) -> dict[str, Estimate]:
        """Intraclass correlations on the items that every rater rated.

        The interval of a single rater's value is that of a coefficient between its bounds −1 / (k − 1) and 1; that of
        the mean of k raters follows by the formula of Spearman and Brown.
        """
        complete, table = self._complete
        k, kept = self.n_raters, items[complete]
        complete, table = complete[kept], table[kept]
        n = len(complete)
        if n < 2:
            few = f"only one item was rated by all {k:,} raters" if n else f"no item was rated by all {k:,} raters"
            few += "; Krippendorff's alpha allows missing ratings"
            return dict.fromkeys(ICCS, Estimate(None, n=n, why=few))
        single = ICCS[:3]
        own = bootstrap.take(complete)
        estimates = own.estimates(
            icc_contributions(table),
            lambda sums: np.stack([intraclass_correlations(sums)[name] for name in single], axis=-1),
            n=[n] * 3,
            why=[NOTHING_VARIES] * 3,
            units=[own.units] * 3,
            values=[Range(-1 / (k - 1), 1.0)] * 3,
            deletions=RecomputedDeletions(
                np.full(k, n), lambda rater: icc_contributions(np.delete(table, rater, axis=1))
            ),
        )
        values = {name: containing(each) for name, each in zip(single, estimates, strict=True)}
        return values | {of_mean: of_k_raters(values[name], k) for name, of_mean in zip(single, ICCS[3:], strict=True)}

    def _loo_correlation(self, items: BoolArray, bootstrap: Bootstrap) -> Estimate:
        """Mean over raters of the correlation with the mean of the others."""
        rows = np.flatnonzero(self._has_others & items[self.ratings.item])
        sums, n = self._rater_sums(rows, bootstrap, self._moments(rows)), np.array(self.ratings_of_raters(rows))
        enough, present = n >= MIN_ITEMS, int((n > 0).sum())

        def formula(sums: FloatArray) -> FloatArray:
            each = correlation(sums.reshape(*sums.shape[:-1], self.n_raters, 6))
            return nanmean(np.where(enough, each, np.nan))

        totals = np.asarray(sums.sum(axis=0)).reshape(self.n_raters, 6)
        defined = int((np.isfinite(correlation(totals)) & enough).sum())
        estimate = clip_bootstrap(bootstrap).estimate(
            sums,
            formula,
            n=defined,
            why=NO_CORRELATION,
            units=units_of_items(bootstrap, self.ratings.item[rows]),
            values=COEFFICIENT,
            deletions=self._deletions(items, lambda left, item: self._sums_with_others(left, items, bootstrap)),
        )
        left_out = present - defined
        if not left_out or estimate.value is None:
            return estimate
        note = f"{left_out:,} of {present:,} raters left out: fewer than {MIN_ITEMS} common items, or no variation"
        return replace(estimate, note="; ".join(filter(None, [estimate.note, note])))

    def _deletions(
        self, items: BoolArray, contribute: Callable[[IntArray, IntArray], Contributions]
    ) -> RecomputedDeletions:
        """Sums without each rater of some items.

        contribute: from the positions of the ratings that are left, and their items.
        """
        own = self.ratings
        raters, n = np.unique(own.rater[items[own.item]], return_counts=True)

        def without(at: int) -> Contributions:
            left = np.flatnonzero(own.rater != raters[at])
            return contribute(left, own.item[left])

        return RecomputedDeletions(n.astype(np.int64), without)

    def _sums_with_others(self, left: IntArray, items: BoolArray, bootstrap: Bootstrap) -> Contributions:
        """Moments of each rater's ratings and the mean of the others, from some of the ratings."""
        own, x = self.ratings, standardised(self.ratings.value)[left]
        item, rater = own.item[left], own.rater[left]
        others = means_of_others(item, x, self.n_items)
        shared = (np.bincount(item, minlength=self.n_items) > 1) & items
        rows = shared[item]
        columns = list(moments(x[rows], others[rows]).T)
        return group_sums(bootstrap, item[rows], rater[rows], self.n_raters, columns)

    @property
    def disagreement(self) -> FloatArray:
        """Variance of the ratings."""
        return ratio(self._squares, self.raters_per_item, empty=0.0)

    # --- pairs of raters --------------------------------------------------------------------------------------

    def pair_statistics(self, bootstrap: Bootstrap) -> PairStatistics:
        """Concordance, correlation and mean absolute difference of each pair, and the mean concordance."""
        pairs = self.rater_pairs()
        if isinstance(pairs, str):
            return PairStatistics({"concordance_mean": Estimate(None, why=pairs)})
        n_pairs, value = len(pairs.first), self.ratings.value
        x = self._standardised
        columns = [*moments(x[pairs.left], x[pairs.right]).T, np.abs(value[pairs.left] - value[pairs.right])]
        shared = np.bincount(pairs.pair, minlength=n_pairs).tolist()
        units = units_of_groups(bootstrap, pairs.item, pairs.pair, n_pairs, "rated by both")

        def formula(sums: FloatArray) -> FloatArray:
            of_pairs = sums.reshape(*sums.shape[:-1], n_pairs, len(columns))
            concordances = concordance(of_pairs[..., :6])
            difference = ratio(of_pairs[..., 6], of_pairs[..., 0])
            mean = nanmean(concordances)[..., np.newaxis]
            return np.concatenate([mean, concordances, correlation(of_pairs[..., :6]), difference], axis=-1)

        mean, *each = clip_bootstrap(bootstrap).estimates(
            group_sums(bootstrap, pairs.item, pairs.pair, n_pairs, columns),
            formula,
            n=[n_pairs, *shared * 3],
            why=["no pair of raters has a defined concordance", *[CONSTANT_PAIR] * n_pairs, *[CONSTANT] * 2 * n_pairs],
            units=[units_of_items(bootstrap, pairs.item), *units * 3],
            values=[COEFFICIENT] * (1 + 2 * n_pairs) + [COST] * n_pairs,
            deletions=PairDeletions(
                pairs.first, pairs.second, lambda sums: once(formula(sums)[..., 1 : 1 + n_pairs]), np.array(shared)
            ),
        )
        names = ("concordance", "correlation", "mean_absolute_difference")
        listed = {name: each[at * n_pairs : (at + 1) * n_pairs] for at, name in enumerate(names)}
        mean = replace(mean, n=sum(one.value is not None for one in listed["concordance"]))
        return PairStatistics(
            {"concordance_mean": with_smallest_pair(mean, min(shared), "krippendorff_alpha_interval")},
            self.listed_pairs(pairs, listed),
        )

    # --- raters -----------------------------------------------------------------------------------------------

    @cached_property
    def _others(self) -> FloatArray:
        """Mean of the others of each rating, NaN without others."""
        return means_of_others(self.ratings.item, self.ratings.value, self.n_items)

    @cached_property
    def _standardised(self) -> FloatArray:
        return standardised(self.ratings.value)

    @cached_property
    def _others_standardised(self) -> FloatArray:
        return means_of_others(self.ratings.item, self._standardised, self.n_items)

    @cached_property
    def _has_others(self) -> BoolArray:
        return self.raters_per_item[self.ratings.item] > 1

    def _moments(self, rows: IntArray) -> list[FloatArray]:
        """Moments of the rating and the mean of the others."""
        return list(moments(self._standardised[rows], self._others_standardised[rows]).T)

    def _rater_sums(self, rows: IntArray, bootstrap: Bootstrap, columns: list[FloatArray]) -> Any:
        own = self.ratings
        return group_sums(bootstrap, own.item[rows], own.rater[rows], self.n_raters, columns)

    def leave_one_out(self, rows: IntArray) -> dict[str, Any]:
        """The rating, and the mean of the others."""
        return {"rating": self.ratings.value[rows], "mean_of_others": self._others[rows]}

    def rater_statistics(self, bootstrap: Bootstrap) -> dict[str, Any]:
        """Bias, spread, correlation with the mean of the others, and mean absolute difference from it."""
        own, rows = self.ratings, np.flatnonzero(self._has_others)
        x = self._standardised
        squares = means_of_others(own.item, x * x, self.n_items)[rows]
        difference = own.value[rows] - self._others[rows]
        columns = [*self._moments(rows), squares, difference, np.abs(difference)]
        n, units = self.ratings_of_raters(rows), self.units_of_raters(bootstrap, rows)
        unit = float(np.ptp(own.value)) if len(own.value) else 0.0

        def formula(sums: FloatArray) -> FloatArray:
            return _rater_formulas(sums.reshape(*sums.shape[:-1], self.n_raters, len(columns)), unit)

        values = [DIFFERENCE, COST, COST, COST, COST, COEFFICIENT]
        alone = [ONE_RATER_EACH if not size else "" for size in n]
        estimates = clip_bootstrap(bootstrap).estimates(
            self._rater_sums(rows, bootstrap, columns),
            formula,
            n=n * 6,
            why=[*alone * 4, *[(why or CONSTANT) for why in alone] * 2],
            units=units * 6,
            values=[each for each in values for _ in range(self.n_raters)],
        )
        names = ("bias", "sd", "sd_of_others", "mean_absolute_difference", "sd_ratio", "correlation")
        by_name = {name: estimates[at * self.n_raters : (at + 1) * self.n_raters] for at, name in enumerate(names)}
        table: dict[str, Any] = {"largest_share": self._largest_shares(), "compared": n}
        for name, each in by_name.items():
            table |= (
                {name: estimate_columns(name, each)[name]} if name == "sd_of_others" else estimate_columns(name, each)
            )
        correlations = by_name["correlation"]
        return {
            **table,
            "correlation_why": [e.why if e.value is None else "" for e in correlations],
            "note": notes(by_name["bias"], correlations),
        }

    def _largest_shares(self) -> FloatArray:
        """Share of each rater's most frequent number."""
        own = self.ratings
        values, code = np.unique(own.value, return_inverse=True)
        cells, n = np.unique(own.rater * np.int64(max(len(values), 1)) + code.ravel(), return_counts=True)
        largest = np.zeros(self.n_raters)
        np.maximum.at(largest, cells // max(len(values), 1), n)
        return ratio(largest, np.bincount(own.rater, minlength=self.n_raters))


def _rater_formulas(sums: FloatArray, unit: float) -> FloatArray:
    """Bias, spread, spread of the others, absolute difference, ratio of spreads and correlation of each rater.

    sums: (…, raters, 9); unit: range of all ratings. Returns (…, 6 · raters).
    """
    n, own, other, own_squares, _, _, squares, difference, absolute = np.moveaxis(sums, -1, 0)
    variance = ratio(own_squares, n) - ratio(own, n) ** 2
    of_others = ratio(squares, n) - ratio(other, n) ** 2
    variance, of_others = (np.where(each > NO_VARIATION, each, each * 0.0) for each in (variance, of_others))
    bessel = ratio(n, n - 1)
    values = [
        ratio(difference, n),
        unit * np.sqrt(bessel * variance),
        unit * np.sqrt(bessel * of_others),
        ratio(absolute, n),
        np.sqrt(ratio(variance, of_others)),
        correlation(sums[..., :6]),
    ]
    return np.concatenate(values, axis=-1)


def containing(estimate: Estimate) -> Estimate:
    """The interval widened to contain its value, as icc_a1 can lie below the bound of the others."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=min(estimate.low, estimate.value), high=max(estimate.high, estimate.value))


def of_k_raters(estimate: Estimate, k: int) -> Estimate:
    """Estimate of the mean of k raters from that of one rater; no interval where its lower end is not finite."""
    if estimate.value is None:
        return estimate
    value, low, high = (
        None if end is None else reliability_of_mean(end, k) for end in (estimate.value, estimate.low, estimate.high)
    )
    if value is None or not np.isfinite(value):
        return Estimate(None, n=estimate.n, why=SAME_MEANS)
    if low is not None and not np.isfinite(low):
        return replace(estimate, value=value, low=None, high=None, why="no interval: its lower end is not finite")
    return replace(estimate, value=value, low=low, high=high)
