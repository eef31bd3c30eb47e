"""Nominal scale: classes without an order."""

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from earmark.annotation.raters import FLAG_RULES, MIN_CLIPS, MIN_RATINGS, NO_UNTIED_OTHERS, SINGLE_CATEGORY
from earmark.annotation.reliability import NO_PAIRS
from earmark.annotation.scales.levels import Coefficient, LevelScale, majority
from earmark.annotation.scales.scale import BoolArray, FloatArray, IntArray, notes
from earmark.annotation.scales.sums import cell_sums, clip_bootstrap, estimate_columns, sums_by_clip
from earmark.metrics.agreement import Weighting, fleiss_kappa, gwet_ac, percent_agreement
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.class_agreement import (
    ClassSums,
    alpha_nominal,
    class_contributions,
    kappa_from_margins,
    specific_agreement,
)
from earmark.metrics.dawid_skene_classes import accuracy_errors, expected_ratings
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COEFFICIENT, SHARE, few_units, interval
from earmark.metrics.ratio import ratio

NO_MODEL = "no item in common with another rater, or all ratings are equal"
NO_ERRORS = "no interval: the ratings do not identify the model, or it has too many parameters"
ALL_CONFUSIONS = 1_000_000  # cells of rater_confusion.csv; of larger tables only those with a rating are listed

UNINFORMATIVE = 0.1  # mean recall of the Dawid-Skene model, from 0 at chance to 1


class Nominal(LevelScale):
    """Classes without an order."""

    name = "nominal"
    headline = "krippendorff_alpha_nominal"
    pair_headline = "cohen_kappa"
    kappas: ClassVar[dict[str, Weighting]] = {"cohen_kappa": "unweighted"}
    flag_rules = (
        FLAG_RULES[0],
        FLAG_RULES[1],
        (
            lambda r: r.ratings >= MIN_RATINGS and r.largest_share >= 0.98,
            "almost all ratings are equal ({largest_share:.0%})",
        ),
        (
            lambda r: r.ratings >= MIN_RATINGS and r.ds_informedness < UNINFORMATIVE,
            "ratings are almost uninformative (Dawid-Skene accuracy {ds_accuracy:.2f})",
        ),
    )

    def labels(self) -> dict[str, Any]:
        """Majority class, shares, and the Dawid-Skene class."""
        return self.vote_columns("majority_class") | self.distribution_columns("ds_class")

    def coefficients(self) -> list[Coefficient]:
        """Percent agreement, Fleiss' and Cohen's kappa, alpha and AC1."""
        return [
            ("percent", SHARE, lambda sums: percent_agreement(sums.unweighted)),
            ("fleiss_kappa", COEFFICIENT, lambda sums: fleiss_kappa(sums.unweighted)),
            ("krippendorff_alpha_nominal", COEFFICIENT, alpha_nominal),
            ("gwet_ac1", COEFFICIENT, lambda sums: gwet_ac(sums.unweighted)),
            ("cohen_kappa_pooled", COEFFICIENT, _pooled_kappa),
        ]

    def contributions(self, counts: IntArray) -> FloatArray:
        """Contributions to `ClassSums`."""
        return class_contributions(counts)

    def named_sums(self, sums: FloatArray) -> ClassSums:
        """Sums of contributions with their names."""
        return ClassSums.from_sums(sums)

    def specific_agreement(self, bootstrap: Bootstrap) -> dict[str, Estimate]:
        """Agreement specific to each class."""
        pairable = self.raters_per_item > 1
        rated = (self.counts > 0) & pairable[:, np.newaxis]
        estimates = clip_bootstrap(bootstrap).estimates(
            sums_by_clip(self.counts, bootstrap, self.contributions),
            lambda sums: specific_agreement(self.named_sums(sums)),
            n=rated.sum(axis=0).tolist(),
            why=["no item with two ratings was rated so" if pairable.any() else NO_PAIRS] * self.q,
            units=[bootstrap.units_with(rated[:, code], f"rated {level}") for code, level in enumerate(self.levels)],
            deletions=self.deletions(np.ones(self.n_items, dtype=bool), bootstrap, self.contributions),
        )
        return dict(zip(self.levels, estimates, strict=True))

    @property
    def disagreement(self) -> FloatArray:
        """Share of pairs of ratings that differ."""
        n = self.raters_per_item.astype(float)
        return 1 - ratio((self.counts * (self.counts - 1)).sum(axis=1), n * (n - 1), empty=1.0)

    @cached_property
    def majority_of_others(self) -> tuple[IntArray, BoolArray]:
        """Majority class of the other raters of each rating's item, and whether it is unique."""
        mode, unique = self.from_others(np.arange(len(self.ratings.item)), majority, 2)
        return mode, unique

    def leave_one_out(self, rows: IntArray) -> dict[str, Any]:
        """The rating, and the majority of the others."""
        mode, unique = self.majority_of_others
        codes = self.codes[rows]
        return {
            "rating": self.words(codes, np.zeros(len(rows), dtype=bool)),
            "majority_of_others": self.words(mode[rows], ~unique[rows]),
        }

    def rater_statistics(self, bootstrap: Bootstrap) -> dict[str, Any]:
        """Agreement and kappa with the majority of the others, and accuracy of the Dawid-Skene model."""
        rows = np.flatnonzero(self.majority_of_others[1])
        agreement, kappa = self._with_majority(rows, bootstrap)
        accuracy, recalls = self.accuracies(bootstrap), np.einsum("rkk->rk", self.fit.confusion)
        return {
            "largest_share": self.shares_of_raters().max(axis=1, initial=0),
            "compared": self.ratings_of_raters(rows),
            **estimate_columns("agreement", agreement),
            **estimate_columns("kappa", kappa),
            **estimate_columns("ds_accuracy", accuracy),
            "ds_informedness": ratio(recalls.mean(axis=1) - 1 / max(self.q, 1), 1 - 1 / max(self.q, 1)),
            "kappa_why": [e.why if e.value is None else "" for e in kappa],
            "note": notes(agreement, kappa),
            "ds_note": notes(accuracy),
        }

    def accuracies(self, bootstrap: Bootstrap) -> list[Estimate]:
        """Dawid-Skene accuracy of each rater, with intervals over clips.

        Intervals are centred on the value without pseudo-counts, whose bias they would otherwise not contain.
        """
        own, fit = self.ratings, self.fit
        order = np.argsort(own.item, kind="stable")
        errors = accuracy_errors(fit, own.item[order], own.rater[order], self.codes[order], bootstrap.unit)
        if not len(bootstrap.weights):
            errors = np.full(self.n_raters, np.nan)
        expected = expected_ratings(fit, own.item, own.rater, self.codes)
        own_share = ratio(expected, expected.sum(axis=-1, keepdims=True), empty=fit.confusion)
        centres = np.einsum("k,rkk->r", fit.prevalence, own_share)
        every = np.arange(len(own.item))
        clips = [n for n, _ in self.units_of_raters(bootstrap, every)]
        rows = zip(fit.accuracy.tolist(), centres.tolist(), errors.tolist(), clips, strict=True)
        n = self.ratings_of_raters(every)
        intervals = bool(len(bootstrap.weights))
        return [_accuracy_estimate(*row, n=size, intervals=intervals) for row, size in zip(rows, n, strict=True)]

    def _with_majority(self, rows: IntArray, bootstrap: Bootstrap) -> tuple[list[Estimate], list[Estimate]]:
        """Agreement and kappa of each rater. rows: ratings with a majority of the others."""
        q, n_raters, width = self.q, self.n_raters, 2 * self.q + 1
        own, reference, start = (
            self.codes[rows],
            self.majority_of_others[0][rows],
            self.ratings.rater[rows] * width,
        )
        entries: list[tuple[IntArray, Any]] = [
            (start + own, 1.0),
            (start + q + reference, 1.0),
            (start + 2 * q, (own == reference).astype(float)),
        ]

        def formula(sums: FloatArray) -> FloatArray:
            of_raters = sums.reshape(*sums.shape[:-1], n_raters, width)
            first, second, equal = of_raters[..., :q], of_raters[..., q : 2 * q], of_raters[..., 2 * q]
            kappa = kappa_from_margins(equal, first, second, np.eye(q))
            return np.concatenate([ratio(equal, first.sum(axis=-1)), kappa], axis=-1)

        n, units = self.ratings_of_raters(rows), self.units_of_raters(bootstrap, rows)
        estimates = clip_bootstrap(bootstrap).estimates(
            cell_sums(bootstrap, self.ratings.item[rows], entries, n_raters * width),
            formula,
            n=n * 2,
            why=["" if size else NO_UNTIED_OTHERS for size in n]
            + [SINGLE_CATEGORY if size else NO_UNTIED_OTHERS for size in n],
            units=units * 2,
            values=[SHARE] * n_raters + [COEFFICIENT] * n_raters,
        )
        return estimates[:n_raters], estimates[n_raters:]

    def further_tables(self) -> dict[str, pd.DataFrame]:
        """Confusion of each rater with the majority of the others, and that of the Dawid-Skene model."""
        q, rows = self.q, np.flatnonzero(self.majority_of_others[1])
        cells = (self.ratings.rater[rows] * q + self.majority_of_others[0][rows]) * q + self.codes[rows]
        size = self.n_raters * q * q
        counts = np.bincount(cells, minlength=size)
        shown = np.arange(size) if size <= ALL_CONFUSIONS else np.flatnonzero(counts)
        share = ratio(counts, np.repeat(counts.reshape(-1, q).sum(axis=1), q))[shown] if q else np.empty(0)
        levels, names = np.array(self.levels, dtype=object), np.array(self.ratings.raters, dtype=object)
        rater, reference, rating = np.unravel_index(shown, (self.n_raters, q, q)) if size else (np.empty(0, int),) * 3
        table = pd.DataFrame(
            {
                "username": names[rater],
                "reference": levels[reference],
                "rating": levels[rating],
                "n": counts[shown],
                "share": share,
                "dawid_skene": self.fit.confusion.ravel()[shown].round(6),
            }
        )
        return {"rater_confusion": table}


def _pooled_kappa(sums: ClassSums) -> FloatArray:
    """Kappa of one symmetric table of all ordered pairs of ratings."""
    return kappa_from_margins(sums.agreeing.sum(axis=-1), sums.pairs, sums.pairs, np.eye(sums.pairs.shape[-1]))


def _accuracy_estimate(value: float, centre: float, error: float, clips: int, *, n: int, intervals: bool) -> Estimate:
    """Dawid-Skene accuracy of one rater. centre: the accuracy without pseudo-counts."""
    if not np.isfinite(value):
        return Estimate(None, n=n, why=NO_MODEL)
    limits = interval(centre, error, units=max(clips, 2)) if np.isfinite(error) else None
    if limits is None:
        return Estimate(value, n=n, why=NO_ERRORS if intervals else None)
    note = few_units(clips, "clips rated by this rater", MIN_CLIPS)
    return Estimate(value, min(limits[0], value), max(limits[1], value), n=n, note=note)
