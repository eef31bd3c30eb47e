"""A CASE benchmark on disk, and what a system's scores on it amount to, as published and strictly.

published  every line of the lists, equal error rates as the CASE tool computes them
strict     without trials of a recording against itself and without repeats, equal error rates on the convex hull
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.metrics import detection
from earmark.metrics.detection_intervals import combined_estimate
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COST, DIFFERENCE, SHARE
from earmark.speaker.case import protocols
from earmark.speaker.case.files import trials_folder
from earmark.speaker.evaluation import Verification, evaluate
from earmark.speaker.trials import Trials, read_trials

FloatArray = NDArray[np.float64]
PUBLISHED, STRICT = "published", "strict"
EER = {PUBLISHED: "eer_case", STRICT: "eer"}
STEP = 1e-6  # of an equal error rate, for slopes of aggregates


@dataclass(frozen=True)
class Benchmark:
    """A folder in the shape of CASE. lists: {protocol: trials}. self_made: of carriers made here, not CASE's own."""

    folder: Path
    files: dict[str, Path]
    lists: dict[str, Trials]
    speakers: dict[str, str]
    self_made: bool

    @property
    def names(self) -> list[str]:
        """Every utterance of every list, once."""
        return list(dict.fromkeys(str(name) for trials in self.lists.values() for name in trials.names))

    def speakers_of(self, trials: Trials) -> list[str]:
        """The speaker of each of the list's utterances."""
        return [self.speakers[name] for name in trials.names]


def read_benchmark(folder: Path, chosen: Sequence[str] = ()) -> Benchmark:
    """The lists of all 24 protocols, or of the chosen ones. EarmarkError with all that are missing.

    Speakers: of the manifest that `carriers` writes, else the folder that a file lies in, as CASE has it.
    """
    if unknown := [name for name in chosen if name not in protocols.protocols()]:
        raise MissingError(f"{', '.join(unknown)}: not a protocol. Known: {', '.join(protocols.protocols())}.")
    found = trials_folder(folder)
    files = {name: found / f"{name}.txt" for name in protocols.protocols() if name in chosen or not chosen}
    if missing := [shown_path(path) for path in files.values() if not path.is_file()]:
        raise EarmarkError(
            "\n  ".join([f"{len(missing)} trial list{'s are' if len(missing) > 1 else ' is'} missing:", *missing])
            + "\n`evaluate_speaker.py download` fetches the benchmark; --protocols NAME … runs some of it."
        )
    lists = {name: read_trials(path) for name, path in files.items()}
    if unlabelled := [name for name, trials in lists.items() if trials.labels is None]:
        raise EarmarkError(f"{shown_path(found)}: {', '.join(unlabelled)} without labels; a line is `1|0 enrol test`.")
    manifest = folder / "manifest.csv"
    known = _manifest(manifest) if manifest.is_file() else {}
    names = {str(name) for trials in lists.values() for name in trials.names}
    return Benchmark(folder, files, lists, {name: known.get(name) or speaker(name) for name in names}, bool(known))


def _manifest(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return {row["path"]: row["speaker"] for row in rows if row.get("path") and row.get("speaker")}


def speaker(name: str) -> str:
    """The speaker of an utterance of CASE: the folder that the file lies in.

    >>> speaker("voxceleb1_o/codec/gsm/id10308/utt_0005.wav")
    'id10308'
    """
    return Path(name).parent.name


def recording(name: str) -> str:
    """What an utterance is a version of: the same recording through another carrier has the same.

    >>> recording("voxceleb1_o/codec/gsm/id10308/utt_0005.wav") == recording("voxceleb1_o/clean/id10308/utt_0005.wav")
    True
    >>> recording("audio/clean_codec_gsm/anna/de/00.wav")
    'anna/de/00.wav'
    """
    parts = name.split("/")
    return "/".join(parts[2:] if parts[0] == "audio" else [parts[0], *parts[1:][-2:]])


def same_recording(trials: Trials) -> NDArray[np.bool_]:
    """Trials of a recording against itself, through whatever carriers."""
    codes: dict[str, int] = {}
    code = np.array([codes.setdefault(recording(str(name)), len(codes)) for name in trials.names], dtype=np.int64)
    return np.asarray(code[trials.enrolment] == code[trials.test])


# --- evaluation ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """One protocol. trials: scored, complete ones. found: {published or strict: metrics}."""

    protocol: str
    trials: Trials
    n_self: int
    n_repeated: int
    n_missing: int
    found: dict[str, Verification]

    def as_flat_row(self) -> dict[str, Any]:
        """A row of a CSV: published_eer, published_eer_low, …"""
        return dict(_flat(self.as_row()))

    def as_row(self) -> dict[str, Any]:
        """Plain data for summaries and tables."""
        row: dict[str, Any] = {"protocol": self.protocol, "category": protocols.category(self.protocol)}
        row |= {"n_self_trials": self.n_self, "n_repeated_trials": self.n_repeated, "n_missing": self.n_missing}
        for protocol in EER:
            found = self.found.get(protocol)
            row[protocol] = found and {
                "n_trials": found.counts["n_trials"],
                "n_target": found.counts["n_target"],
                "eer": found.metrics[EER[protocol]],
                "min_dcf": found.metrics["min_dcf"],
                "threshold": found.threshold,
            }
        return row


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}_")
        elif isinstance(value, Estimate):
            yield f"{prefix}{key}", value.value
            yield f"{prefix}{key}_low", value.low
            yield f"{prefix}{key}_high", value.high
        elif value is not None:
            yield f"{prefix}{key}", value


def det_curves(outcomes: Iterable[Outcome]) -> dict[str, list[tuple[FloatArray, FloatArray]]]:
    """{category: [(false alarms, misses) of each of its protocols]} on probit axes, of all trials."""
    curves: dict[str, list[tuple[FloatArray, FloatArray]]] = {}
    for one in outcomes:
        curve = detection.roc(np.asarray(one.trials.scores), np.asarray(one.trials.labels))
        curves.setdefault(protocols.category(one.protocol), []).append(detection.det_curve(curve))
    return curves


def evaluate_protocols(
    benchmark: Benchmark,
    scored: Mapping[str, Trials],
    *,
    versions: Iterable[str],
    intervals: bool,
    p_target: float,
) -> Iterator[Outcome]:
    """Each protocol as soon as it is known. scored: {protocol: trials with scores, NaN where there is none}.

    Speakers are the same in all protocols, so that aggregates have intervals too. ValueError names the protocol that
    has no target or no non-target trials left.
    """
    complete_lists = {name: t.take(~np.isnan(np.asarray(t.scores))).compact() for name, t in scored.items()}
    there = {speaker for trials in complete_lists.values() for speaker in benchmark.speakers_of(trials)}
    column = {speaker: number for number, speaker in enumerate(sorted(there))}
    for name, complete in complete_lists.items():
        n_missing = len(scored[name]) - len(complete)
        itself, repeated = same_recording(complete), complete.is_repeated
        kept = {PUBLISHED: np.ones(len(complete), dtype=bool), STRICT: ~itself & ~repeated}
        speakers = benchmark.speakers_of(complete)
        found: dict[str, Verification] = {}
        try:
            for version in versions:
                if found and kept[version].all():  # nothing to leave out: the same trials once more
                    found[version] = found[PUBLISHED]
                else:
                    part = complete.take(kept[version])
                    found[version] = evaluate(part, speakers, intervals=intervals, column=column, p_target=p_target)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        yield Outcome(name, complete, int(itself.sum()), int(repeated.sum()), n_missing, found)


def aggregate(outcomes: Sequence[Outcome], version: str) -> dict[str, Estimate]:
    """The aggregates of CASE and the means of the categories, with intervals; of all 24 protocols.

    n is the number of trials behind them. An aggregate's error is that of the protocols' rates, each weighted by how
    much the aggregate changes with it; the ratio's interval is multiplicative.
    """
    details = {outcome.protocol: outcome.found[version].details[EER[version]] for outcome in outcomes}
    rates = {name: float(one.estimate.value or 0.0) for name, one in details.items()}
    values = _aggregates(rates)
    n = sum(one.estimate.n for one in details.values())
    slopes = {name: _slopes(rates, name) for name in rates}
    why = "there are no errors on clean speech to divide by"
    found = {}
    for name, value in values.items():
        can_be = {"degradation_factor": DIFFERENCE, "case_score_v1": COST}.get(name, SHARE)
        parts = [(slopes[protocol][name], one) for protocol, one in details.items() if slopes[protocol][name]]
        found[name] = combined_estimate(value, parts, n=n, values=can_be, why=why)
    return found


def _aggregates(rates: Mapping[str, float]) -> dict[str, float]:
    found = protocols.aggregates(rates)
    return {name: getattr(found, name) for name in protocols.COLUMNS[2:6]} | found.category_breakdown


def _slopes(rates: Mapping[str, float], protocol: str) -> dict[str, float]:
    """How fast each aggregate changes with the rate of a protocol."""
    rate = rates[protocol]
    below, above = max(rate - STEP, rate / 2), rate + STEP
    high, low = (_aggregates({**rates, protocol: moved}) for moved in (above, below))
    change = {name: (high[name] - low[name]) / (above - below) for name in high}
    return {name: slope if np.isfinite(slope) else 0.0 for name, slope in change.items()}
