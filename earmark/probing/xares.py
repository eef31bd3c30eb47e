"""Tasks of X-ARES and of the ICME 2025 Audio Encoder Capability Challenge, and published scores.

Tasks are rows of xares_tasks.csv. The data of five tasks are private to the organisers of the challenge, as marked in
the table. Speech Commands V2 is not a task of X-ARES; it has no published scores and runs only if it is named.

Published scores are rows of xares_baselines.csv, by source:

xares_full       X-ARES, table on full data sets
xares_0.1.3      X-ARES 0.1.3 (https://github.com/jimbozhang/xares): new scores of LibriSpeech-100h only
xares_early      X-ARES, first table; some tasks on smaller variants of the data
icme2025         page of the ICME 2025 challenge; some tasks on smaller variants
interspeech2026  XARES-LLM (https://github.com/xiaomi-research/xares-llm), baselines of the Interspeech 2026 challenge:
                 a language model is trained on all data sets with the encoder and answers in text. Data sets with
                 folds are tested on the last fold only. The scores are therefore never shown beside those of probes.
rerun            X-ARES run by others with its own encoders (https://github.com/LudovicTuncay/xares, files
                 example/dasheng/results.md and example/whisper/results.md)

`test_clips` in xares_tasks.csv is the number of test clips in the data of X-ARES (over all folds). It is the size that
X-ARES gives as weight, where the scores of `rerun` are multiples of 1 / n, or the n of which they are multiples: 3,793
for Fluent Speech Commands, 6,835 for Speech Commands, 3,593 for VocalSound, 4,096 for NSynth; for GTZAN, nine folds of
100 clips and one of 99. That of FSD50K is the size of its evaluation set. Numbers with ~ are only orders of magnitude.

References
----------
Zhang et al. (2025), X-ARES: a comprehensive framework for assessing audio encoder performance.
Zhang et al. (2025), The ICME 2025 Audio Encoder Capability Challenge.
Dinkel et al. (2026), The Interspeech 2026 Audio Encoder Capability Challenge for Large Audio Language Models.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import median

from earmark.probing.evaluation import METRICS
from earmark.probing.tasks import SPLITS, Task

MIN_TEST_SHARE = 0.5  # of a number of test clips that is only known approximately
AVERAGES = ("average_public", "average_all")
SOURCES = ("xares_full", "xares_0.1.3", "xares_early", "icme2025")  # of scores by the same recipe
RERUN, INTERSPEECH_2026 = "rerun", "interspeech2026"


@cache
def published_tasks() -> dict[str, Task]:
    """The 27 tasks of X-ARES, three of the challenge and one of a release, by name, in the order of the table.

    >>> tasks = published_tasks()
    >>> len(tasks), tasks["esc50"].formal_name, sum(task.private for task in tasks.values())
    (31, 'ESC-50', 5)
    >>> [task.name for task in tasks.values() if task.trains_on_test]
    ['subway_broadcast']
    >>> tasks["esc50"].patterns["5"]
    'wds-audio-fold-5-*.tar'
    """
    return {row["name"]: _task(row) for row in _rows("xares_tasks.csv")}


def _task(row: Mapping[str, str]) -> Task:
    return Task(
        name=row["name"],
        formal_name=row["formal_name"],
        suite=row["suite"],
        domain=row["domain"],
        type=row["type"],
        metric=row["metric"],
        n_classes=int(row["n_classes"]) if row["n_classes"] else None,
        splits={} if row["folds"] else {name: f"{row[name]}*.tar" for name in SPLITS},
        folds=_folds(row["folds"], row["fold_files"]),
        epochs=int(row["epochs"]),
        learning_rate=float(row["learning_rate"]),
        batch_size=int(row["batch_size"]),
        crop_seconds=float(row["crop_seconds"]) if row["crop_seconds"] else None,
        segment_seconds=float(row["segment_seconds"]) if row["segment_seconds"] else None,
        pos_weight=float(row["pos_weight"] or 1),
        weight=float(row["weight"]),
        zenodo=row["zenodo"],
        private=row["private"] == "yes",
        disabled=row["disabled"] == "yes",
        mini=row["mini"] == "yes",
        knn=row["knn"] == "yes",
        reader=row["reader"],
        key=row["key"],
        group=row["group"],
    )


def _folds(span: str, pattern: str) -> dict[str, str]:
    """{fold: pattern of its files} for a span of numbers such as 0-9."""
    if not span:
        return {}
    first, last = map(int, span.split("-"))
    return {str(fold): pattern.format(fold=fold) for fold in range(first, last + 1)}


def _rows(name: str) -> list[dict[str, str]]:
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


@dataclass(frozen=True)
class ClipCount:
    """Number of test clips in the published data.

    Attributes
    ----------
    n : int
        Over all folds.
    exact : bool
        Whether the number is known, not only its order of magnitude.
    """

    n: int
    exact: bool

    def differ(self, n: int) -> bool:
        """Whether data with `n` test clips are other data; a damaged clip in 1,000 (at least one) is accepted.

        >>> ClipCount(999, exact=True).differ(1000), ClipCount(2000, exact=True).differ(1997)
        (False, True)
        >>> ClipCount(2000, exact=False).differ(1000), ClipCount(2000, exact=False).differ(999)
        (False, True)
        """
        return abs(n - self.n) > max(1, self.n // 1000) if self.exact else n < MIN_TEST_SHARE * self.n


@cache
def published_test_clips() -> dict[str, ClipCount]:
    """{task: number of its test clips}, where known.

    >>> published_test_clips()["cremad"]
    ClipCount(n=1116, exact=True)
    """
    numbers = {row["name"]: row["test_clips"] for row in _rows("xares_tasks.csv") if row["test_clips"]}
    return {name: ClipCount(int(number.lstrip("~")), number[0] != "~") for name, number in numbers.items()}


def differences_from_published(
    task: Task, classes: Sequence[str], parts: Sequence[str], *, folds: bool, own_split: str = ""
) -> str:
    """Describe how the data of a published task differ from the published data.

    Scores are shown beside published ones only if this is empty. The splits of tar files and manifests are taken as
    they are; only their names and the numbers of test clips are compared.

    Parameters
    ----------
    task : Task
        The task.
    classes : sequence of str
        Classes in training.
    parts : sequence of str
        Split or fold of each clip.
    folds : bool
        Whether `parts` are folds.
    own_split : str
        A difference of the splits that is known beforehand, as in `TaskData.own_split`.

    Returns
    -------
    str
        The differences; empty if none is found, for a user's task, and for tasks without published scores.

    Examples
    --------
    >>> differences_from_published(published_tasks()["esc50"], list("abcdefghij"), ["1", "2", "3"] * 700, folds=True)
    '10 of 50 classes, 3 of 5 folds, 2,100 test clips, published: 2,000'
    """
    if task.home is not None or not any(
        (track, task.name) in _tasks_with_published_scores() for track in ("linear", "knn")
    ):
        return ""
    counts, differences = Counter(parts), [own_split] if own_split else []
    if task.n_classes is not None and classes and len(classes) != task.n_classes:
        differences.append(_count_difference(len(classes), task.n_classes, "classes"))
    if folds != bool(task.folds):
        differences.append("folds instead of splits" if folds else f"splits instead of {len(task.folds)} folds")
    elif folds and len(counts) != len(task.folds):
        differences.append(_count_difference(len(counts), len(task.folds), "folds"))
    elif not folds:
        differences += [f"no {part} split" for part in task.patterns if part not in counts]
        differences += [
            f"a {part} split, which the published data do not have" for part in counts if part not in task.patterns
        ]
    n_test, published = len(parts) if folds else counts["test"], published_test_clips().get(task.name)
    if folds == bool(task.folds) and published is not None and published.differ(n_test):
        known = f"{published.n:,}" if published.exact else f"about {published.n:,} or more"
        differences.append(f"{n_test:,} test clips, published: {known}")
    return ", ".join(differences)


def _count_difference(n: int, published: int, noun: str) -> str:
    return f"{n:,} of {published:,} {noun}" if n < published else f"{n:,} {noun}, published: {published:,}"


@cache
def _tasks_with_published_scores() -> set[tuple[str, str]]:
    """(track, task) of all published scores."""
    return {(track, task) for source in SOURCES for track, task, _ in published_scores(source)}


# --- published scores ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedScore:
    """A published score.

    Attributes
    ----------
    score : float
        The score in the units of the metric.
    mini : bool
        Whether it was measured on the smaller variant of the data, which is not comparable with the full data.
    """

    score: float
    mini: bool


@cache
def published_scores(source: str = "xares_full") -> dict[tuple[str, str, str], PublishedScore]:
    """Published scores of encoders by task.

    Parameters
    ----------
    source : str
        A source of this module's table.

    Returns
    -------
    dict
        {(track, task, encoder): score}, without averages.

    Raises
    ------
    KeyError
        If the source is unknown.

    Examples
    --------
    >>> published_scores()["linear", "esc50", "dasheng"].score
    0.857
    >>> published_scores("icme2025")["knn", "asvspoof2015", "whisper"].mini
    True
    """
    return {key: published for key, published in _published(source).items() if key[1] not in AVERAGES}


def shown_scores(track: str, source: str) -> dict[tuple[str, str], float]:
    """Published scores that may stand beside those of the same data.

    Scores on smaller variants of the data are not among them, because the sizes of the variants are not published.

    Parameters
    ----------
    track, source : str
        As in `published_scores`.

    Returns
    -------
    dict
        {(task, encoder): score}.

    Examples
    --------
    >>> shown_scores("linear", "xares_0.1.3")["librispeech", "whisper"]
    0.815
    >>> ("asvspoof2015", "whisper") in shown_scores("linear", "icme2025")
    False
    """
    scores = published_scores(source).items()
    return {(task, encoder): row.score for (of, task, encoder), row in scores if of == track and not row.mini}


@dataclass(frozen=True)
class RerunDifferences:
    """Absolute differences between the scores of `xares_full` and those of an independent run of X-ARES.

    Attributes
    ----------
    n, n_rounded : int
        Scores in both, and those that agree to the three decimals of the published table.
    median, largest : float
        In the units of the metrics, shares in [0, 1].
    """

    n: int
    n_rounded: int
    median: float
    largest: float


@cache
def rerun_differences(track: str) -> RerunDifferences:
    """How far an independent run of X-ARES moved the published scores of Dasheng and Whisper.

    Examples
    --------
    >>> linear, knn = rerun_differences("linear"), rerun_differences("knn")
    >>> linear.n, linear.n_rounded, round(linear.median, 4), round(linear.largest, 3)
    (40, 5, 0.0035, 0.125)
    >>> knn.n, knn.n_rounded, round(knn.median, 4), round(knn.largest, 3)
    (32, 22, 0.0003, 0.016)
    """
    published, again = shown_scores(track, "xares_full"), shown_scores(track, RERUN)
    differences = [abs(score - published[key]) for key, score in again.items() if key in published]
    rounded = sum(difference <= 0.0005 + 1e-9 for difference in differences)
    return RerunDifferences(len(differences), rounded, median(differences), max(differences))


@cache
def published_averages(source: str = "xares_full") -> dict[tuple[str, str, str], float]:
    """Published weighted averages over tasks.

    xares_full: average_public follows from the scores and the weights of the table up to rounding, on both tracks;
    average_all does so for kNN and is up to 0.004 higher for linear. The older sources have one average over the public
    tasks they list. They state other weights (the sizes of their test sets, which are not published for the mini
    variants); the weights of the table differ from them by up to 0.08, whichever one or two tasks are excluded.

    Parameters
    ----------
    source : str
        As in `published_scores`.

    Returns
    -------
    dict
        {(track, average_public or average_all, encoder): average}.

    Examples
    --------
    >>> published_averages()["knn", "average_public", "dasheng"]
    0.504
    """
    return {key: published.score for key, published in _published(source).items() if key[1] in AVERAGES}


def weighted_average(scores: Iterable[tuple[Task, float]], *, private: bool = False) -> float:
    """Mean of scores, weighted by the constant weights of the tasks.

    Parameters
    ----------
    scores : iterable of (Task, float)
        Tasks and scores. Metrics that are better when lower are ignored.
    private : bool
        Whether to include private tasks.

    Returns
    -------
    float
        NaN if no task has a weight.

    Examples
    --------
    >>> known = published_tasks()
    >>> weighted_average([(known["esc50"], 0.9), (known["gtzan_genre"], 0.4), (known["finger_snap"], 0.0)])
    0.8
    """
    weighted = [
        (task.weight, score)
        for task, score in scores
        if not METRICS[task.metric].lower_is_better and (private or not task.private)
    ]
    total = sum(weight for weight, _ in weighted)
    return sum(weight * score for weight, score in weighted) / total if total else float("nan")


def _published(source: str) -> dict[tuple[str, str, str], PublishedScore]:
    if source not in (known := (*SOURCES, INTERSPEECH_2026, RERUN)):
        raise KeyError(f"{source!r} is not one of {', '.join(known)}")
    return {
        (row["track"], row["task"], row["encoder"]): PublishedScore(float(row["score"]), row["mini"] == "yes")
        for row in _rows("xares_baselines.csv")
        if row["source"] == source
    }
