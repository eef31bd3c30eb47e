"""Raters one by one: how much they rated, how well they agree with the others, how fast they were."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from earmark.annotation.reliability import Votes
from earmark.annotation.tables import Annotations
from earmark.metrics.agreement import cohen_kappa
from earmark.metrics.bootstrap import Bootstrap, Units
from earmark.metrics.dawid_skene import DawidSkene, dawid_skene, remove_pseudo_counts, standard_errors
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COEFFICIENT, SHARE, few_units, interval
from earmark.metrics.ratio import ratio

TOO_FAST_MS = 300
ENOUGH_RATINGS = 20
MOST_RATERS = 500  # for intervals of sensitivities: a matrix of twice as many rows and columns is solved
ENOUGH_CLIPS = 100  # for them: with fewer, what raters are credited with biases them (docs/coverage.md)
NO_COMMON_ITEM = "the rater shares no item with another, or everybody gave one answer"
NOBODY_ELSE = "no item of theirs has others who are not tied"
ALL_ALIKE = "they and the others gave one and the same answer throughout"

# What makes a rater stand out: how to tell from a row of the table, and how to say so.
STANDS_OUT: list[tuple[Callable[[Any], bool], str]] = [
    (
        lambda r: r.share_under_300_ms >= 0.1,
        "{share_under_300_ms:.0%} of reactions are under 300 ms, faster than anyone can judge a clip",
    ),
    (
        lambda r: r.compared >= ENOUGH_RATINGS and r.kappa_high < 0.2,
        "agrees with the majority of the others hardly beyond chance (kappa {kappa:.2f}, at most {kappa_high:.2f})",
    ),
    (
        lambda r: r.ratings >= ENOUGH_RATINGS and not 0.02 <= r.positive_rate <= 0.98,
        "gave almost always the same answer ({positive_rate:.0%} present)",
    ),
    (
        lambda r: r.ratings >= ENOUGH_RATINGS and r.ds_sensitivity + r.ds_specificity < 1.1,
        "their answers tell almost nothing about the item"
        " (sensitivity {ds_sensitivity:.2f}, specificity {ds_specificity:.2f})",
    ),
]


def fit_dawid_skene(votes: Votes) -> DawidSkene:
    """Dawid and Skene's model of the present/absent votes."""
    fit = dawid_skene(
        votes.item, votes.rater, votes.codes("binary"), n_items=len(votes.items), n_raters=len(votes.raters)
    )
    # A rater who shares no item with another, or one answer throughout, says nothing of how reliable anybody is: only
    # what was credited is left.
    shared = np.bincount(votes.rater, votes.raters_per_item[votes.item] > 1, len(votes.raters)) > 0
    known = shared & (len(np.unique(votes.codes("binary"))) > 1)
    unknown = (np.where(known, of_all, np.nan) for of_all in (fit.sensitivity, fit.specificity))
    sensitivity, specificity = unknown
    return replace(fit, sensitivity=sensitivity, specificity=specificity)


def dawid_skene_estimates(votes: Votes, fit: DawidSkene, bootstrap: Bootstrap) -> dict[str, list[Estimate]]:
    """Each rater's sensitivity and specificity with its interval over clips, under `sensitivity` and `specificity`.

    n: the present (or absent) items that the rater rated, by their posteriors. The interval is around the value without
    what the rater is credited with. With few such items a note says that the credit of all raters decides.
    """
    present, raters = fit.posterior[votes.item] >= 0.5, len(votes.raters)
    why = "" if raters <= MOST_RATERS else f"no interval: more than {MOST_RATERS} raters"
    errors = tuple(np.full(raters, np.nan) for _ in range(2))
    if bootstrap.n_units > 1 and not why:
        errors = standard_errors(fit, votes.item, votes.rater, votes.codes("binary"), bootstrap.unit)
    found: dict[str, list[Estimate]] = {}
    sides = (("sensitivity", fit.sensitivity, present), ("specificity", fit.specificity, ~present))
    for (name, values, of_side), error in zip(sides, errors, strict=True):
        n = np.bincount(votes.rater[of_side], minlength=raters)
        distinct = np.unique(votes.rater[of_side] * np.int64(bootstrap.n_units) + bootstrap.unit[votes.item[of_side]])
        clips = np.bincount(distinct // bootstrap.n_units, minlength=raters)
        own = remove_pseudo_counts(values, n)
        side = "present" if name == "sensitivity" else "absent"
        rows = zip(values.tolist(), own.tolist(), error.tolist(), n.tolist(), clips.tolist(), strict=True)
        found[name] = [_dawid_skene_estimate(*row, side, why) for row in rows]
    return found


def _dawid_skene_estimate(value: float, own: float, error: float, n: int, clips: int, side: str, why: str) -> Estimate:
    if not np.isfinite(value):
        return Estimate(None, n=n, why=NO_COMMON_ITEM)
    known = interval(own, error, units=max(clips, 2)) if np.isfinite(error) else None
    if known is None:
        return Estimate(value, n=n, why=why or "no interval: the votes do not determine the model")
    note = few_units(clips, f"clips with {side} items that the rater rated", ENOUGH_CLIPS)
    return Estimate(value, min(known[0], value), max(known[1], value), n=n, note=note)


def per_rater(annotations: Annotations, votes: Votes, fit: DawidSkene, bootstrap: Bootstrap) -> pd.DataFrame:
    """One row per rater, with the columns of per_rater_summary.csv; what does not exist is missing.

    Agreement and kappa are with the majority of the others on the same item: at least one other, not tied.
    Their intervals are over clips. kappa_why says why there is no kappa.
    """
    n_raters = len(votes.raters)
    ratings = np.bincount(votes.rater, minlength=n_raters)
    present = np.bincount(votes.rater, votes.codes("binary"), n_raters)
    agreement, kappa = agreement_with_others(votes, bootstrap)
    reliability = dawid_skene_estimates(votes, fit, bootstrap)
    reaction = annotations.ratings["reaction_time_ms"].groupby(votes.rater)
    known = annotations.ratings["reaction_time_ms"].notna()
    fast = (annotations.ratings["reaction_time_ms"] < TOO_FAST_MS)[known].groupby(votes.rater[known]).mean()
    return pd.DataFrame(
        {
            "username": votes.raters,
            "ratings": ratings,
            "positive_rate": present / np.maximum(ratings, 1),
            "compared": [e.n for e in agreement],
            **_columns("agreement", agreement),
            **_columns("kappa", kappa),
            "kappa_why": [e.why if e.value is None else "" for e in kappa],
            "note": [e.note or "" for e in agreement],
            "reaction_time_ms_median": reaction.median().reindex(range(n_raters)).to_numpy(),
            "share_under_300_ms": fast.reindex(range(n_raters)).to_numpy(dtype=float),
            # First the values, so that the columns of earlier releases keep their place.
            "ds_sensitivity": fit.sensitivity,
            "ds_specificity": fit.specificity,
            **_columns("ds_sensitivity", reliability["sensitivity"]),
            **_columns("ds_specificity", reliability["specificity"]),
            "ds_note": [
                "; ".join(filter(None, dict.fromkeys([one.note, other.note])))
                for one, other in zip(reliability["sensitivity"], reliability["specificity"], strict=True)
            ],
        }
    )


def _columns(name: str, estimates: list[Estimate]) -> dict[str, list[float]]:
    def numbers(field: str) -> list[float]:
        return [np.nan if getattr(e, field) is None else getattr(e, field) for e in estimates]

    return {name: numbers("value"), f"{name}_low": numbers("low"), f"{name}_high": numbers("high")}


def agreement_with_others(votes: Votes, bootstrap: Bootstrap) -> tuple[list[Estimate], list[Estimate]]:
    """Each rater's agreement and kappa with the majority of the others on an item: at least one other, not tied."""
    vote, counts = votes.codes("binary"), votes.counts["binary"][votes.item]
    others = counts - np.eye(2, dtype=np.int64)[vote]
    compared = np.flatnonzero(others[:, 0] != others[:, 1])
    truth = (others[:, 1] > others[:, 0]).astype(np.int64)
    cells = (votes.rater * 2 + truth) * 2 + vote
    n_raters = len(votes.raters)
    shape = (len(compared), n_raters * 4)
    contributions = sparse.csr_array((np.ones(len(compared)), (np.arange(len(compared)), cells[compared])), shape=shape)
    n = np.bincount(votes.rater[compared], minlength=n_raters).tolist()

    def figures(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        tables = sums.reshape(*sums.shape[:-1], n_raters, 2, 2)
        total = tables.sum(axis=(-2, -1))
        right = tables[..., 0, 0] + tables[..., 1, 1]
        agreement = ratio(right, total)
        return np.concatenate([agreement, cohen_kappa(tables)], axis=-1)

    why = [NOBODY_ELSE if not size else "" for size in n] + [ALL_ALIKE if size else NOBODY_ELSE for size in n]
    of_ratings = bootstrap.take(votes.item[compared])
    distinct = np.unique(votes.rater[compared] * np.int64(max(of_ratings.n_units, 1)) + of_ratings.unit)
    clips = np.bincount(distinct // max(of_ratings.n_units, 1), minlength=n_raters)
    units = [Units(int(each), "clips that the rater rated") for each in clips]
    values = [SHARE] * n_raters + [COEFFICIENT] * n_raters
    found = of_ratings.estimates(contributions, figures, n=n * 2, why=why, units=units * 2, values=values)
    return found[:n_raters], found[n_raters:]


def flagged_raters(table: pd.DataFrame) -> dict[str, list[str]]:
    """{rater: the reasons} for those whom a reader should look at before trusting the labels."""
    found: dict[str, list[str]] = {}
    for row in table.itertuples(index=False):
        reasons = [text.format(**row._asdict()) for test, text in STANDS_OUT if test(row)]
        if reasons:
            found[str(row.username)] = reasons
    return found
