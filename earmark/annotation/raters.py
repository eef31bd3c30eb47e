"""Statistics of each rater: agreement with the other raters, reaction times and Dawid-Skene reliability."""

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
from earmark.metrics.multisets import distinct_members
from earmark.metrics.ratio import ratio

TOO_FAST_MS = 300
MIN_RATINGS = 20  # raters with fewer ratings are not flagged by these rules
MAX_RATERS = 500  # for Dawid-Skene intervals, which solve a linear system with two unknowns per rater
MIN_CLIPS = 100  # for Dawid-Skene intervals: with fewer, pseudo-counts bias them (docs/coverage.md)
NO_COMMON_ITEM = "no item in common with another rater, or all ratings are equal"
NO_UNTIED_OTHERS = "no rated item has an untied majority of other raters"
SINGLE_CATEGORY = "the rater and the majority of the other raters used the same single category"

# Rules for flagging a rater: a test on a row of the table, and the reason.
FLAG_RULES: list[tuple[Callable[[Any], bool], str]] = [
    (
        lambda r: r.share_under_300_ms >= 0.1,
        "{share_under_300_ms:.0%} of reaction times are under 300 ms, too fast to have judged a clip",
    ),
    (
        lambda r: r.compared >= MIN_RATINGS and r.kappa_high < 0.2,
        "agreement with the majority of the other raters is close to chance"
        " (kappa {kappa:.2f}, upper limit {kappa_high:.2f})",
    ),
    (
        lambda r: r.ratings >= MIN_RATINGS and not 0.02 <= r.positive_rate <= 0.98,
        "almost all ratings are equal ({positive_rate:.0%} present)",
    ),
    (
        lambda r: r.ratings >= MIN_RATINGS and r.ds_sensitivity + r.ds_specificity < 1.1,
        "ratings are almost uninformative (sensitivity {ds_sensitivity:.2f}, specificity {ds_specificity:.2f})",
    ),
]


def fit_dawid_skene(votes: Votes) -> DawidSkene:
    """Fit the Dawid-Skene model to the binary ratings.

    Parameters
    ----------
    votes : Votes

    Returns
    -------
    DawidSkene
        Sensitivity and specificity are NaN for raters without an item in common with another rater, and for all raters
        if all ratings are equal.

    References
    ----------
    Dawid and Skene (1979), Maximum likelihood estimation of observer error-rates using the EM algorithm, Journal of the
    Royal Statistical Society C 28(1):20–28.
    """
    fit = dawid_skene(
        votes.item, votes.rater, votes.codes("binary"), n_items=len(votes.items), n_raters=len(votes.raters)
    )
    # Without common items, or with a single category, the estimates would equal the prior of the pseudo-counts.
    shared = np.bincount(votes.rater, votes.raters_per_item[votes.item] > 1, len(votes.raters)) > 0
    known = shared & (len(np.unique(votes.codes("binary"))) > 1)
    sensitivity, specificity = (np.where(known, rates, np.nan) for rates in (fit.sensitivity, fit.specificity))
    return replace(fit, sensitivity=sensitivity, specificity=specificity)


def dawid_skene_estimates(votes: Votes, fit: DawidSkene, bootstrap: Bootstrap) -> dict[str, list[Estimate]]:
    """Sensitivity and specificity of each rater, with intervals over clips.

    Parameters
    ----------
    votes : Votes
    fit : DawidSkene
    bootstrap : Bootstrap
        Bootstrap over the clips of `votes.items`.

    Returns
    -------
    dict of str to list of Estimate
        "sensitivity" and "specificity", one estimate per rater. n is the number of rated items that are present (for
        specificity: absent) according to their posterior.

    Notes
    -----
    Intervals are centred on the value without pseudo-counts. Estimates from fewer than MIN_CLIPS clips have a note, as
    the pseudo-counts of all raters bias them. With more than MAX_RATERS raters there are no intervals.
    """
    present, n_raters = fit.posterior[votes.item] >= 0.5, len(votes.raters)
    why = "" if n_raters <= MAX_RATERS else f"no interval: more than {MAX_RATERS} raters"
    errors = tuple(np.full(n_raters, np.nan) for _ in range(2))
    if bootstrap.n_units > 1 and not why:
        errors = standard_errors(fit, votes.item, votes.rater, votes.codes("binary"), bootstrap.unit)
    result: dict[str, list[Estimate]] = {}
    categories = (("sensitivity", fit.sensitivity, present), ("specificity", fit.specificity, ~present))
    for (name, values, mask), error in zip(categories, errors, strict=True):
        n = np.bincount(votes.rater[mask], minlength=n_raters)
        clips = distinct_members(votes.rater[mask], bootstrap.unit[votes.item[mask]], n_raters, bootstrap.n_units)
        centre = remove_pseudo_counts(values, n)
        category = "present" if name == "sensitivity" else "absent"
        rows = zip(values.tolist(), centre.tolist(), error.tolist(), n.tolist(), clips.tolist(), strict=True)
        result[name] = [_dawid_skene_estimate(*row, category, why) for row in rows]
    return result


def _dawid_skene_estimate(
    value: float, centre: float, error: float, n: int, clips: int, category: str, why: str
) -> Estimate:
    """Estimate of one rate of one rater. centre: the rate without pseudo-counts; why: reason for a missing interval."""
    if not np.isfinite(value):
        return Estimate(None, n=n, why=NO_COMMON_ITEM)
    limits = interval(centre, error, units=max(clips, 2)) if np.isfinite(error) else None
    if limits is None:
        return Estimate(value, n=n, why=why or "no interval: the ratings do not identify the model")
    note = few_units(clips, f"clips with {category} items rated by this rater", MIN_CLIPS)
    return Estimate(value, min(limits[0], value), max(limits[1], value), n=n, note=note)


def per_rater(annotations: Annotations, votes: Votes, fit: DawidSkene, bootstrap: Bootstrap) -> pd.DataFrame:
    """Statistics of each rater.

    Parameters
    ----------
    annotations : Annotations
    votes : Votes
        Votes of the same annotations.
    fit : DawidSkene
    bootstrap : Bootstrap
        Bootstrap over the clips of `votes.items`.

    Returns
    -------
    DataFrame
        One row per rater with the columns of per_rater_summary.csv, the reason for an undefined kappa (`kappa_why`) and
        notes on the intervals (`note`, `ds_note`). Undefined values are NaN. Reaction times are in milliseconds.
        Agreement and kappa are as in `agreement_with_others`.
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
            # The values come first to keep the column order of earlier releases.
            "ds_sensitivity": fit.sensitivity,
            "ds_specificity": fit.specificity,
            **_columns("ds_sensitivity", reliability["sensitivity"]),
            **_columns("ds_specificity", reliability["specificity"]),
            "ds_note": [
                "; ".join(filter(None, dict.fromkeys([sensitivity.note, specificity.note])))
                for sensitivity, specificity in zip(reliability["sensitivity"], reliability["specificity"], strict=True)
            ],
        }
    )


def _columns(name: str, estimates: list[Estimate]) -> dict[str, list[float]]:
    def numbers(field: str) -> list[float]:
        return [np.nan if getattr(e, field) is None else getattr(e, field) for e in estimates]

    return {name: numbers("value"), f"{name}_low": numbers("low"), f"{name}_high": numbers("high")}


def agreement_with_others(votes: Votes, bootstrap: Bootstrap) -> tuple[list[Estimate], list[Estimate]]:
    """Agreement and Cohen's kappa of each rater with the majority of the other raters.

    Parameters
    ----------
    votes : Votes
    bootstrap : Bootstrap
        Bootstrap over the clips of `votes.items`.

    Returns
    -------
    agreement, kappa : list of Estimate
        One estimate per rater, over the rated items with an untied majority of one or more other raters. n is the
        number of these items.
    """
    vote, counts = votes.codes("binary"), votes.counts["binary"][votes.item]
    others = counts - np.eye(2, dtype=np.int64)[vote]
    compared = np.flatnonzero(others[:, 0] != others[:, 1])
    reference = (others[:, 1] > others[:, 0]).astype(np.int64)
    cells = (votes.rater * 2 + reference) * 2 + vote
    n_raters = len(votes.raters)
    shape = (len(compared), n_raters * 4)
    contributions = sparse.csr_array((np.ones(len(compared)), (np.arange(len(compared)), cells[compared])), shape=shape)
    n = np.bincount(votes.rater[compared], minlength=n_raters).tolist()

    def agreement_and_kappa(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        tables = sums.reshape(*sums.shape[:-1], n_raters, 2, 2)
        total = tables.sum(axis=(-2, -1))
        agreeing = tables[..., 0, 0] + tables[..., 1, 1]
        agreement = ratio(agreeing, total)
        return np.concatenate([agreement, cohen_kappa(tables)], axis=-1)

    agreement_why = ["" if size else NO_UNTIED_OTHERS for size in n]
    kappa_why = [SINGLE_CATEGORY if size else NO_UNTIED_OTHERS for size in n]
    rating_bootstrap = bootstrap.take(votes.item[compared])
    clips = distinct_members(votes.rater[compared], rating_bootstrap.unit, n_raters, rating_bootstrap.n_units)
    units = [Units(int(each), "clips rated by this rater that are compared") for each in clips]
    values = [SHARE] * n_raters + [COEFFICIENT] * n_raters
    estimates = rating_bootstrap.estimates(
        contributions, agreement_and_kappa, n=n * 2, why=agreement_why + kappa_why, units=units * 2, values=values
    )
    return estimates[:n_raters], estimates[n_raters:]


def flagged_raters(table: pd.DataFrame) -> dict[str, list[str]]:
    """Raters whose ratings should be reviewed, with the reasons.

    Parameters
    ----------
    table : DataFrame
        Statistics as returned by `per_rater`.

    Returns
    -------
    dict of str to list of str
        Reasons of each flagged rater; the rules are in FLAG_RULES.
    """
    flagged: dict[str, list[str]] = {}
    for row in table.itertuples(index=False):
        reasons = [text.format(**row._asdict()).replace("%", " %") for test, text in FLAG_RULES if test(row)]
        if reasons:
            flagged[str(row.username)] = reasons
    return flagged
