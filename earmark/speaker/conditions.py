"""Results by condition: an attribute of utterances (language, gender, register, duration) crosses trials two by two.

The two utterances of a target trial have the same value of the attribute or not, and so have those of a non-target
trial. An error rate needs targets and non-targets, so there are four kinds of trials:

                          non-targets: same         non-targets: different
  targets: same           same, same                same, different  (easiest where the attribute is audible)
  targets: different      different, same (hardest) different, different

The difference between the two extreme kinds is how much the system depends on the attribute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.errors import DataError, EarmarkError, Fault, MissingError, shown_path
from earmark.files.csv_table import CsvTable, read_csv_table
from earmark.metrics.detection_intervals import MetricEstimate, combined_estimate
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import DIFFERENCE
from earmark.metrics.trial_groups import equalised_error_rate, equalised_min_dcf
from earmark.report.provenance import output_path
from earmark.speaker.evaluation import VerificationResult, evaluate
from earmark.speaker.schema import ConditionBreakdown, TrialKind
from earmark.speaker.speakers import match_similar, read_speaker_map
from earmark.speaker.trials import Trials, language_from_path

BoolArray = NDArray[np.bool_]
LANGUAGE = "language"
PATHS = "paths"  # source of languages that are read from paths
NAME_COLUMNS = ("utterance", "path", "file", "name")
METRICS = ("eer", "eer_interpolated", "min_dcf")  # eer_interpolated limits the interval of eer
MANY_NUMBERS = 10  # distinct numbers, from which a column is divided at its median
EXTREMES = ((False, True), (True, False))  # (targets same, non-targets same): the hardest kind, and the easiest
ALL = "all"
SAME = {True: "same", False: "different"}


@dataclass(frozen=True)
class Attribute:
    """An attribute of the utterances of a list.

    Attributes
    ----------
    name : str
        Such as language.
    source : str
        File or paths that the values come from.
    values : sequence of str or None
        Of each of `trials.names`; None where unknown.
    """

    name: str
    source: str
    values: Sequence[str | None]

    @property
    def numbers(self) -> NDArray[np.float64] | None:
        """The values as numbers, NaN where unknown; None if any value is not a number, or all are unknown."""
        try:
            numbers = np.array([np.nan if value is None else float(value) for value in self.values])
        except ValueError:
            return None
        return numbers if np.isfinite(numbers).any() else None

    @property
    def code(self) -> NDArray[np.int64]:
        """Number of the value of each utterance; −1 where unknown.

        A column of more than 10 distinct numbers, such as durations, has two values: up to its median, and above.

        Examples
        --------
        >>> Attribute("gender", "", ["f", None, "m", "f"]).code.tolist()
        [0, -1, 1, 0]
        >>> Attribute("duration", "", [str(n) for n in range(11)]).code.tolist()
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
        """
        distinct = {
            value: number for number, value in enumerate(dict.fromkeys(v for v in self.values if v is not None))
        }
        numbers = self.numbers
        if numbers is not None and len(distinct) > MANY_NUMBERS:
            above = (numbers > np.nanmedian(numbers)).astype(np.int64)
            return np.where(np.isfinite(numbers), above, -1)
        return np.array([-1 if value is None else distinct[value] for value in self.values], dtype=np.int64)


@dataclass(frozen=True)
class UtteranceTable:
    """A CSV with a row per utterance, for the utterances of a list.

    Attributes
    ----------
    path : Path
    columns : tuple of str
        Without the column of the names.
    rows : mapping
        {utterance of the list: {column: value}}; empty cells are missing.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]

    def attribute(self, column: str, names: Sequence[str]) -> Attribute:
        """A column for these utterances. MissingError if the table has no such column."""
        if column not in self.columns:
            raise MissingError(
                f"{shown_path(self.path)}: has no column {column!r}; its columns are {', '.join(self.columns)}."
            )
        return Attribute(column, output_path(self.path), [self.rows.get(name, {}).get(column) for name in names])


def read_utterance_table(path: Path, names: Sequence[str]) -> UtteranceTable:
    """Read a table of utterances.

    Parameters
    ----------
    path : Path
        A CSV with a column utterance, path, file or name, and any others. Names that are not in it are matched without
        their suffix, then without outer folders, like those of speaker maps.
    names : sequence of str
        Utterances of the list.

    Raises
    ------
    DataError
        With all structural faults, and utterances that occur twice with different values.
    EarmarkError
        If no utterance of the list is in the table.
    """
    table = read_csv_table(path)
    key = next((column for column in NAME_COLUMNS if column in table.columns), None)
    remedy = "Nothing was written. The table needs a column `utterance` or `path` and one column per attribute."
    if key is None or table.faults:
        table.require_columns([NAME_COLUMNS[0]] if key is None else [], remedy)
    assert key is not None
    by_name = _rows_by_name(table, key, remedy)
    matches = match_similar([name for name in names if name not in by_name], by_name)
    rows = {name: by_name[matches.get(name, name)] for name in names if name in by_name or name in matches}
    if not rows and names:
        example = next(iter(by_name), "no rows")
        raise EarmarkError(
            f"{shown_path(path)}: contains no utterance of the list (the list has {names[0]}, the table {example})."
        )
    return UtteranceTable(path, tuple(column for column in table.columns if column != key), rows)


def _rows_by_name(table: CsvTable, key: str, remedy: str) -> dict[str, dict[str, str]]:
    """{name: its values}; DataError for a name with two different rows."""
    by_name: dict[str, dict[str, str]] = {}
    faults = []
    for line, record in table.records():
        name = record.pop(key)
        row = {column: value for column, value in record.items() if value}
        if by_name.setdefault(name, row) != row:
            faults.append(Fault(line, key, f"'{name}' occurs again with other values"))
    if faults:
        raise DataError({shown_path(table.path): faults}, remedy)
    return by_name


def read_languages(path: Path, names: Sequence[str]) -> Attribute:
    """Read a map of `utterance language` lines; names are matched as in speaker maps.

    Raises
    ------
    DataError
        With all invalid lines, or all utterances that have two languages.
    """
    found = read_speaker_map(path, names, LANGUAGE).speakers
    return Attribute(LANGUAGE, output_path(path), [found.get(name) for name in names])


@dataclass(frozen=True)
class AttributeSources:
    """Where attributes of utterances come from.

    Attributes
    ----------
    table : UtteranceTable or None
    languages : Attribute or None
        Of --languages, for `names`.
    names : tuple of str
        Utterances of the list when the files were read.
    from_paths : bool
        Whether paths are `spk/lang/file`, as in TidyVoice.
    """

    table: UtteranceTable | None = None
    languages: Attribute | None = None
    names: tuple[str, ...] = ()
    from_paths: bool = False

    def language(self, trials: Trials) -> Attribute | None:
        """Languages of the utterances: from --languages, the table, or the paths; None if there are none."""
        names = [str(name) for name in trials.names]
        if self.languages is not None:
            known = dict(zip(self.names, self.languages.values, strict=True))
            return Attribute(LANGUAGE, self.languages.source, [known.get(name) for name in names])
        if self.table is not None and LANGUAGE in self.table.columns:
            return self.table.attribute(LANGUAGE, names)
        if not self.from_paths:
            return None
        return Attribute(LANGUAGE, PATHS, [language_from_path(name) for name in names])

    def attribute(self, name: str, trials: Trials) -> Attribute:
        """An attribute by its name. MissingError if it is in no source."""
        language = self.language(trials) if name == LANGUAGE else None
        if language is not None:
            return language
        if self.table is None:
            raise MissingError(f"--condition {name} needs --utterances FILE, a CSV with the column {name}.")
        return self.table.attribute(name, [str(each) for each in trials.names])

    def all_attributes(self, trials: Trials) -> list[Attribute]:
        """All attributes that are known for any utterance."""
        language = self.language(trials)
        columns = [] if self.table is None else [name for name in self.table.columns if name != LANGUAGE]
        found = [] if language is None else [language]
        found += [self.attribute(name, trials) for name in columns]
        return [each for each in found if any(value is not None for value in each.values)]


@dataclass(frozen=True)
class PairValues:
    """Whether the two utterances of each trial have the same value of an attribute.

    Attributes
    ----------
    same, known : (n,) bool
        `same` is False where a value is unknown.
    """

    same: BoolArray
    known: BoolArray

    @classmethod
    def from_attribute(cls, trials: Trials, attribute: Attribute) -> "PairValues":
        """Compare the values of both sides of each trial."""
        code = attribute.code
        same, known = np.empty(len(trials), dtype=np.bool_), np.empty(len(trials), dtype=np.bool_)
        for part in trials.parts():
            first, second = code[trials.enrolment[part]], code[trials.test[part]]
            known[part] = (first >= 0) & (second >= 0)
            same[part] = (first == second) & known[part]
        return cls(same, known)


def condition_breakdown(
    trials: Trials,
    attribute: Attribute,
    speakers: list[str] | None,
    p_target: float,
    *,
    intervals: bool = True,
    overall: VerificationResult | None = None,
    published: Mapping[tuple[bool, bool] | None, float] | None = None,
) -> ConditionBreakdown:
    """Error rates of the four kinds of trials of an attribute.

    Parameters
    ----------
    trials : Trials
        Labelled and scored.
    attribute : Attribute
    speakers : list of str or None
        Speaker of each of `trials.names`.
    p_target : float
        Target prior of minDCF.
    intervals : bool
        Whether to compute 95 % confidence intervals.
    overall : VerificationResult, optional
        Results of all trials, which are used if the attribute is known for all of them.
    published : mapping, optional
        {(targets same, non-targets same), None for all: published equal error rate}.

    Returns
    -------
    ConditionBreakdown
        Without kinds, with the reason, if the attribute is known for no trial or does not vary.
    """
    pairs, published = PairValues.from_attribute(trials, attribute), published or {}
    n_unknown = int((~pairs.known).sum())
    labels = np.asarray(trials.labels)
    name = attribute.name
    if why := _why_not(pairs, labels, name):
        return ConditionBreakdown(name=name, source=attribute.source, why=why, n_unknown=n_unknown)
    numbers = _speaker_numbers(trials, speakers)
    known = trials if pairs.known.all() else trials.take(pairs.known)
    if overall is None or known is not trials:
        overall = _evaluate(known, speakers, numbers, p_target, intervals)
    assert overall is not None and overall.scored is not None  # both classes are known
    group = pairs.same[pairs.known].astype(np.int64)
    cost = Estimate(
        equalised_min_dcf(overall.scored, group, p_target),
        n=len(known),
        why="no interval: that of a count-equalised cost is not computed" if intervals else None,
    )
    rows = [_row(None, name, known, overall, published.get(None))]
    results: dict[tuple[bool, bool], VerificationResult | None] = {}
    for kind in ((a, b) for a in (True, False) for b in (True, False)):
        part = trials.take(pairs.known & (pairs.same == np.where(labels, kind[0], kind[1])))
        result = _evaluate(part, speakers, numbers, p_target, intervals)
        rows.append(_row(kind, name, part, result, published.get(kind)))
        # The trials of all kinds together need much memory.
        results[kind] = result and replace(result, trials=None, scored=None)
    return ConditionBreakdown(
        name=name,
        source=attribute.source,
        n_unknown=n_unknown,
        kinds=rows,
        equalised_eer=equalised_error_rate(overall.scored, group).estimate,
        equalised_min_dcf=cost,
        dependence=_dependence(results, name),
    )


def _why_not(pairs: PairValues, labels: BoolArray, name: str) -> str:
    """Why there are no results by an attribute; empty if there are."""
    if not pairs.known.any():
        return f"the {name} of the utterances is unknown"
    same = pairs.same[pairs.known]
    if same.all() or not same.any():
        return f"all trials are of {'the same' if same.all() else 'different'} {name}"
    known = labels[pairs.known]
    return "" if known.any() and not known.all() else f"with a known {name}, one of the classes has no trials"


def _speaker_numbers(trials: Trials, speakers: list[str] | None) -> dict[str, int] | None:
    """Numbers that all kinds share, so that their intervals can be combined; None if speakers are unknown."""
    return None if speakers is None else {name: number for number, name in enumerate(sorted(set(speakers)))}


def _evaluate(
    trials: Trials, speakers: list[str] | None, numbers: Mapping[str, int] | None, p_target: float, intervals: bool
) -> VerificationResult | None:
    labels = np.asarray(trials.labels)
    if not labels.any() or labels.all():
        return None
    return evaluate(trials, speakers, intervals=intervals, speaker_numbers=numbers, p_target=p_target, metrics=METRICS)


def _row(
    kind: tuple[bool, bool] | None,
    name: str,
    trials: Trials,
    result: VerificationResult | None,
    published: float | None,
) -> TrialKind:
    labels = np.asarray(trials.labels)
    n_target = int(labels.sum())
    if result is None:
        missing = Estimate(None, n=len(trials), why=f"no {'target' if not n_target else 'non-target'} trials")
        eer = min_dcf = missing
    else:
        eer, min_dcf = result.metrics["eer"], result.metrics["min_dcf"]
    sides = (ALL, ALL) if kind is None else tuple(f"{SAME[same]} {name}" for same in kind)
    return TrialKind(
        targets=sides[0],
        nontargets=sides[1],
        n_target=n_target,
        n_nontarget=len(trials) - n_target,
        eer=eer,
        min_dcf=min_dcf,
        published_eer=published,
    )


def _dependence(results: Mapping[tuple[bool, bool], VerificationResult | None], name: str) -> Estimate:
    """Equal error rate of the hardest kind minus that of the easiest, paired by their speakers."""
    hard, easy = (results[kind] for kind in EXTREMES)
    if hard is None or easy is None:
        return Estimate(None, why=f"needs targets and non-targets of the same and of different {name}")
    parts: list[tuple[float, MetricEstimate]] = [(1.0, hard.details["eer"]), (-1.0, easy.details["eer"])]
    value = float(hard.details["eer"].estimate.value or 0.0) - float(easy.details["eer"].estimate.value or 0.0)
    n = sum(each.estimate.n for _, each in parts)
    if hard.speakers != easy.speakers or not hard.speaker_names:
        return Estimate(value, n=n, why="no interval: speakers are unknown, so the kinds cannot be paired")
    return combined_estimate(value, parts, n=n, values=DIFFERENCE, why="")
