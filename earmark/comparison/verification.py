"""Results of `evaluate_speaker.py` compared: the same trials, several systems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.cli import Invocation
from earmark.comparison.comparison import Comparison
from earmark.comparison.differences import Compared, MetricOfSystems
from earmark.comparison.options import CompareOptions
from earmark.comparison.results import FinishedResult
from earmark.errors import EarmarkError, shown_path
from earmark.metrics.detection import METRICS, interpolated_equal_error_rate, min_dcf, roc
from earmark.metrics.detection_intervals import MetricEstimate, difference
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import DIFFERENCE, interval, two_sided_p
from earmark.metrics.speaker_pairs import linear_combination
from earmark.report.figures import Figure, det_plot
from earmark.report.page import ClipList, ListedClip
from earmark.speaker.case.benchmark import compares_same_recording
from earmark.speaker.case.conditions import STRICT, aggregate_eers, category, condition_names
from earmark.speaker.case.evaluation import EER_METRIC, aggregate_derivatives
from earmark.speaker.evaluation import VerificationResult, evaluate
from earmark.speaker.page import rates_at
from earmark.speaker.saved_runs import SPEAKERS_FILE
from earmark.speaker.tidyvoice.evaluation import same_language
from earmark.speaker.trial_files import read_trials
from earmark.speaker.trials import Trials

SCORES = "scores.csv.gz"
SHOWN_TRIALS = 20
DECISIONS = ("different", "same speaker")
OF_SLICES = ("eer", "min_dcf")


@dataclass(frozen=True)
class ScoredLists:
    """The trials that all systems scored, list by list.

    Attributes
    ----------
    lists : {list: labelled trials}; CASE has one list for each condition.
    scores : for each system {list: (n,) scores}.
    speakers : {utterance: speaker}, or None if speakers are unknown.
    p_target : target prior of detection costs.
    n_left_out : trials that not all systems hold.
    notes : what was left out.
    """

    lists: dict[str, Trials]
    scores: list[dict[str, NDArray[np.float64]]]
    speakers: Mapping[str, str] | None
    p_target: float
    n_left_out: int
    notes: list[str]

    @property
    def n(self) -> int:
        """Trials of all lists."""
        return sum(map(len, self.lists.values()))


def read_scored_lists(results: Sequence[FinishedResult], common: bool) -> ScoredLists:
    """The trials of several results, in one order.

    Parameters
    ----------
    results : of `evaluate_speaker.py`, on one suite.
    common : keep the trials that all results hold; otherwise different trials are an error.

    Raises
    ------
    EarmarkError
        If a result has no scores, labels differ, or trials differ without `common`.
    """
    priors = {float(result.summary["parameters"].get("p_target", 0.01)) for result in results}
    if len(priors) > 1:
        raise EarmarkError(
            f"The results have different target priors: --p-target {', '.join(map(str, sorted(priors)))}."
        )
    files = [_score_files(result.folder) for result in results]
    names = [name for name in files[0] if all(name in own for own in files)]
    notes = [
        f"{result.system}: {len(own) - len(names)} conditions are not in all results"
        for result, own in zip(results, files, strict=True)
        if len(own) > len(names)
    ]
    if not names or (notes and not common):
        raise EarmarkError(
            "\n  ".join(["The results hold different lists:", *notes]) + "\nGive --common for the shared ones."
        )
    lists: dict[str, Trials] = {}
    scores: list[dict[str, NDArray[np.float64]]] = [{} for _ in results]
    n_left_out = 0
    for name in names:
        read = [read_trials(own[name]) for own in files]
        aligned, left_out = _align(read, [result.system for result in results], name, common)
        n_left_out += left_out
        lists[name] = aligned[0]
        for own, trials in zip(scores, aligned, strict=True):
            own[name] = np.asarray(trials.scores)
    if n_left_out:
        notes.append(f"{n_left_out:,} trials are not in all results and are left out")
    return ScoredLists(lists, scores, _speakers(results), priors.pop(), n_left_out, notes)


def _score_files(folder: Path) -> dict[str, Path]:
    """{list: its file of scores}."""
    one = folder / SCORES
    if one.is_file():
        return {"": one}
    several = {path.name.removesuffix(".csv.gz"): path for path in sorted((folder / "scores").glob("*.csv.gz"))}
    if not several:
        raise EarmarkError(f"{shown_path(folder)}: no scores found ({SCORES} or scores/*.csv.gz); run it again.")
    return {name: several[name] for name in [*condition_names(), *several] if name in several}


def _speakers(results: Sequence[FinishedResult]) -> dict[str, str] | None:
    """The speakers of the first result that records them."""
    for result in results:
        path = result.folder / SPEAKERS_FILE
        if path.is_file():
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            return dict(zip(table["utterance"], table["speaker"], strict=True))
    return None


def _align(lists: Sequence[Trials], systems: Sequence[str], name: str, common: bool) -> tuple[list[Trials], int]:
    """The lists with the trials of the first that all hold, in its order, and how many of all trials are left out."""
    first = lists[0]
    where = f" in {name}" if name else ""
    if any(trials.labels is None or trials.scores is None for trials in lists):
        raise EarmarkError(f"The score files need labels and scores{where}; run the evaluation again.")
    same = all(
        len(own) == len(first)
        and np.array_equal(own.enrolment, first.enrolment)
        and np.array_equal(own.test, first.test)
        and np.array_equal(own.names, first.names)
        for own in lists[1:]
    )
    if same:
        aligned, left_out = list(lists), 0
    else:
        codes = _codes(lists)
        shared = np.ones(len(first), dtype=bool)
        for code in codes[1:]:
            shared &= np.isin(codes[0], code)
        left_out = len(np.unique(np.concatenate(codes))) - len(np.unique(codes[0][shared]))
        repeats_differ = len({len(own) for own in lists}) > 1
        if (left_out or repeats_differ) and not common:
            raise EarmarkError(
                f"The results hold different trials{where}: {int(shared.sum()):,} are in all, "
                + ", ".join(f"{system} has {len(own):,}" for system, own in zip(systems, lists, strict=True))
                + ". Give --common to compare on those."
            )
        if not shared.any():
            raise EarmarkError(f"No trial{where} is in all results.")
        kept = codes[0][shared]
        aligned = [_in_order(own, code, kept) for own, code in zip(lists, codes, strict=True)]
    for system, own in zip(systems, aligned, strict=True):
        if not np.array_equal(np.asarray(own.labels), np.asarray(aligned[0].labels)):
            raise EarmarkError(
                f"{system} has other labels than {systems[0]}{where}: the results are of different lists."
            )
    return aligned, left_out


def _codes(lists: Sequence[Trials]) -> list[NDArray[np.int64]]:
    """A number for each trial of each list, the same for the same pair of utterances in every list."""
    place: dict[str, int] = {}
    for trials in lists:
        for name in trials.names:
            place.setdefault(name, len(place))
    codes = []
    for trials in lists:
        own = np.array([place[name] for name in trials.names], dtype=np.int64)
        codes.append(own[trials.enrolment] * len(place) + own[trials.test])
    return codes


def _in_order(trials: Trials, codes: NDArray[np.int64], wanted: NDArray[np.int64]) -> Trials:
    """The trials with these codes, in their order."""
    order = np.argsort(codes, kind="stable")
    place = order[np.searchsorted(codes[order], wanted)]
    assert trials.labels is not None and trials.scores is not None
    return Trials(trials.names, trials.enrolment[place], trials.test[place], trials.labels[place], trials.scores[place])


def compare_lists(scored: ScoredLists, *, intervals: bool) -> list[MetricOfSystems]:
    """Every metric of every system, with paired differences over speakers.

    Parameters
    ----------
    scored : the trials of all systems.
    intervals : whether to compute intervals and p-values, which takes longer.

    Returns
    -------
    list of MetricOfSystems
        For one list its metrics, then those of same-language and different-language trials if paths name languages.
        For CASE the aggregates with strict scoring, then the equal error rate of every condition.
    """
    if set(scored.lists) == {""}:
        return _compare_one_list(scored, intervals)
    return _compare_conditions(scored, intervals)


def _compare_one_list(scored: ScoredLists, intervals: bool) -> list[MetricOfSystems]:
    trials = scored.lists[""]
    everything = np.ones(len(trials), dtype=bool)
    metrics = _metrics(_evaluated(scored, "", everything, intervals), tuple(METRICS))
    same = same_language(trials)
    for value, inside in (("same", same), ("different", None if same is None else ~same)):
        labels = np.asarray(trials.labels)
        if inside is not None and labels[inside].any() and not labels[inside].all():
            metrics += _metrics(_evaluated(scored, "", inside, intervals), OF_SLICES, "language", value)
    return metrics


def _evaluated(
    scored: ScoredLists,
    name: str,
    kept: NDArray[np.bool_],
    intervals: bool,
    column: Mapping[str, int] | None = None,
) -> list[VerificationResult]:
    """Every system on some trials of a list."""
    trials = scored.lists[name].take(kept).compact()
    speakers = None
    if scored.speakers is not None and all(str(one) in scored.speakers for one in trials.names):
        speakers = [scored.speakers[str(one)] for one in trials.names]
    return [
        evaluate(
            trials.with_scores(own[name][kept]),
            speakers,
            intervals=intervals,
            speaker_numbers=column if speakers is not None else None,
            p_target=scored.p_target,
        )
        for own in scored.scores
    ]


def _metrics(
    evaluated: Sequence[VerificationResult], names: Sequence[str], slice_: str = "", value: str = ""
) -> list[MetricOfSystems]:
    return [
        _metric(name, [result.details[name] for result in evaluated], evaluated[0].counts.n_trials, slice_, value)
        for name in names
    ]


def _metric(name: str, details: Sequence[MetricEstimate], n: int, slice_: str, value: str) -> MetricOfSystems:
    def compare(first: int, second: int) -> Compared:
        found = difference(details[first], details[second])
        one, other = details[first].pairs, details[second].pairs
        error = (one - other).variance().standard_error if one is not None and other is not None else np.nan
        return Compared(found.estimate, found.p, error)

    values = [one.estimate.value for one in details]
    estimates = [one.estimate for one in details]
    return MetricOfSystems(name, values, compare, n, slice_, value, lower_is_better=True, estimates=estimates)


# --- CASE ---------------------------------------------------------------------------------------------------


def _compare_conditions(scored: ScoredLists, intervals: bool) -> list[MetricOfSystems]:
    """Strict scoring: without self-trials and repeated lines."""
    known = sorted(set((scored.speakers or {}).values()))
    column = {speaker: place for place, speaker in enumerate(known)} if known else None
    details: list[dict[str, MetricEstimate]] = [{} for _ in scored.scores]
    rows: list[MetricOfSystems] = []
    for name, trials in scored.lists.items():
        kept = ~compares_same_recording(trials) & ~trials.is_repeated
        evaluated = _evaluated(scored, name, kept, intervals, column)
        for own, result in zip(details, evaluated, strict=True):
            own[name] = result.details[EER_METRIC[STRICT]]
        n = evaluated[0].counts.n_trials
        rows.append(_metric("eer", [own[name] for own in details], n, "condition", name))
    if set(scored.lists) < set(condition_names()):
        return rows
    return [*_aggregates(details), *rows]


def _aggregates(details: Sequence[Mapping[str, MetricEstimate]]) -> list[MetricOfSystems]:
    """Absolute, clean and category equal error rates; the difference of an aggregate is a sum over conditions."""
    rates = [{name: float(one.estimate.value or 0.0) for name, one in own.items()} for own in details]
    values = [aggregate_eers(own).by_name for own in rates]
    slopes = [{name: aggregate_derivatives(own, name) for name in own} for own in rates]
    n = sum(one.estimate.n for one in details[0].values())
    rows = []
    for name in values[0]:
        if name == "case_score_v1":  # a ratio, which favours models that are poor on clean speech
            continue

        def compare(first: int, second: int, name: str = name) -> Compared:
            gap = values[first][name] - values[second][name]
            parts = [
                (sign * slopes[place][condition][name], one.pairs)
                for sign, place in ((1.0, first), (-1.0, second))
                for condition, one in details[place].items()
                if slopes[place][condition][name] and one.pairs is not None
            ]
            if not parts or not np.isfinite(gap):
                return Compared(Estimate(gap if np.isfinite(gap) else None, n=n, why="no intervals"), None, np.nan)
            pairs = linear_combination(parts)
            variance = pairs.variance()
            n_speakers = pairs.n_speakers
            ends = interval(gap, variance.standard_error, units=n_speakers, values=DIFFERENCE)
            low, high = ends or (None, None)
            estimate = Estimate(gap, low, high, n)
            p = two_sided_p(gap, variance.standard_error, n_speakers - 1)
            return Compared(estimate, p, variance.standard_error)

        shown = [own[name] if np.isfinite(own[name]) else None for own in values]
        slice_, value = ("category", name) if name in set(map(category, details[0])) else ("", "")
        metric = "eer" if slice_ else name
        rows.append(MetricOfSystems(metric, shown, compare, n, slice_, value, lower_is_better=True))
    return sorted(rows, key=lambda row: (row.slice != "", row.metric != "absolute_eer"))


def hardest_trials(
    scored: ScoredLists, systems: Sequence[str], reference: int, most: int = 2000
) -> tuple[pd.DataFrame, int]:
    """Trials by how far the systems are apart, those with different decisions first.

    Each system decides at its own equal-error threshold, since scores of two systems have no common scale.

    Parameters
    ----------
    scored : the trials of all systems.
    systems : names.
    reference : the place of the reference.
    most : rows at most.

    Returns
    -------
    table : pandas.DataFrame
        `condition`, `enrol`, `test`, `label`, for each system `score_<name>` and `decision_<name>`, `spread` (largest
        difference of percentile ranks) and `flip`.
    n_flips : int
        Trials with different decisions, in the table or not.
    """
    tables = []
    n_flips = 0
    for name, trials in scored.lists.items():
        labels = np.asarray(trials.labels)
        if not labels.any() or labels.all():
            continue
        columns: dict[str, NDArray[np.generic]] = {}
        ranks, decisions = [], []
        for system, own in zip(systems, scored.scores, strict=True):
            scores = own[name]
            threshold = interpolated_equal_error_rate(roc(scores, labels)).threshold
            order = np.argsort(scores, kind="stable")
            rank = np.empty(len(scores))
            rank[order] = np.arange(len(scores)) / max(len(scores) - 1, 1)
            ranks.append(rank)
            decisions.append(scores >= threshold)
            columns |= {f"score_{system}": scores, f"decision_{system}": decisions[-1].astype(int)}
        spread = np.ptp(np.array(ranks), axis=0)
        flipped = np.any(np.array(decisions) != decisions[reference], axis=0)
        n_flips += int(flipped.sum())
        kept = np.lexsort((-spread, ~flipped))[:most]
        table = pd.DataFrame(
            {
                "condition": name,
                "enrol": trials.names[trials.enrolment[kept]],
                "test": trials.names[trials.test[kept]],
                "label": labels[kept].astype(int),
            }
            | {column: values[kept] for column, values in columns.items()}
        )
        tables.append(table.assign(spread=spread[kept], flip=flipped[kept]))
    joined = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if len(joined):
        joined = joined.sort_values(["flip", "spread"], ascending=False, kind="stable").head(most)
    return joined.reset_index(drop=True), n_flips


def compare_verifications(
    results: Sequence[FinishedResult], reference: int, options: CompareOptions, invocation: Invocation
) -> Comparison:
    """Compare results of `evaluate_speaker.py`: every metric, conditions or languages, DET curves, hardest trials."""
    scored = read_scored_lists(results, options.common)
    names = [result.system for result in results]
    trials, n_flips = hardest_trials(scored, names, reference)
    if scored.speakers is None:
        scored.notes.append("the results do not record speakers; utterances linked by target trials count as one")
    return Comparison(
        metrics=compare_lists(scored, intervals=not options.no_intervals),
        flips=trials,
        n_flips=n_flips,
        n_items=scored.n,
        n_left_out=scored.n_left_out,
        notes=scored.notes,
        figures=[figure for figure in (_det(scored, names),) if figure is not None],
        clips=[_clips(trials, names, options)],
    )


def _det(scored: ScoredLists, names: Sequence[str]) -> Figure | None:
    """DET curves of all systems on all trials, with the points of the equal error rate and of minDCF."""
    labels = np.concatenate([np.asarray(trials.labels) for trials in scored.lists.values()])
    systems, eers, costs = {}, {}, {}
    for name, own in zip(names, scored.scores, strict=True):
        curve = roc(np.concatenate(list(own.values())), labels)
        systems[name] = (curve.false_alarms, curve.misses)
        eers[name] = interpolated_equal_error_rate(curve).rate
        costs[name] = rates_at(curve, min_dcf(curve, scored.p_target))
    pooled = f"all trials of {len(scored.lists)} conditions" if len(scored.lists) > 1 else "all trials"
    return det_plot("det", f"Detection error trade-off on {pooled}.", systems, eers, costs)


def _clips(trials: pd.DataFrame, names: Sequence[str], options: CompareOptions) -> ClipList:
    """The trials with different decisions on which the systems are furthest apart, both sides of each."""
    groups = []
    shown = trials[trials["flip"]].head(SHOWN_TRIALS) if len(trials) else trials
    for row in shown.to_dict("records"):
        facts = [("label", "target" if row["label"] else "non-target")]
        facts += [(name, f"{row[f'score_{name}']:.3f} ({DECISIONS[row[f'decision_{name}']]})") for name in names]
        sides = [("enrolment", str(row["enrol"])), ("test", str(row["test"]))]
        root = options.audio_root or Path()
        groups.append(
            [ListedClip(f"{side}: {path}", root / path, facts if side == "test" else ()) for side, path in sides]
        )
    return ClipList("Different decisions", "Decisions of each system at its own EER threshold.", groups)
