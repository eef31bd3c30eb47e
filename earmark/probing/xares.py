"""Tasks of X-ARES and of the ICME 2025 Audio Encoder Capability Challenge, and published scores.

Tasks are rows of xares_tasks.csv. The data of five tasks are private to the organisers of the challenge, as marked in
the table.

References
----------
Zhang et al. (2025), X-ARES.
Zhang et al. (2025), The ICME 2025 Audio Encoder Capability Challenge.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from earmark.probing.evaluation import METRICS
from earmark.probing.tasks import SPLITS, Task

MAX_SIZE_WEIGHT = 5000  # weights below are numbers of test clips (per fold)
MIN_TEST_SHARE = 0.5  # of the published number of test clips
AVERAGES = ("average_public", "average_all")
SOURCES = ("xares_full", "xares_early", "icme2025")


@cache
def published_tasks() -> dict[str, Task]:
    """The 27 tasks of X-ARES and three more of the challenge, by name, in the order of the table.

    >>> tasks = published_tasks()
    >>> len(tasks), tasks["esc50"].formal_name, sum(task.private for task in tasks.values())
    (30, 'ESC-50', 5)
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


def differences_from_published(task: Task, classes: Sequence[str], parts: Sequence[str], *, folds: bool) -> str:
    """Describe how the data of a published task differ from the published data.

    The published number of test clips is only known through the weight in the table, which is the size of a test set
    (of the smaller variant, if there is one; a round number for librispeech and the tasks of the challenge). Half of
    that number is accepted.

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

    Returns
    -------
    str
        The differences; empty if none is found, for a user's task, and for tasks without published scores.

    Examples
    --------
    >>> differences_from_published(published_tasks()["esc50"], list("abcdefghij"), ["1", "2", "3"] * 700, folds=True)
    '10 of 50 classes, 3 of 5 folds'
    """
    if task.home is not None or not any(
        (track, task.name) in _tasks_with_published_scores() for track in ("linear", "knn")
    ):
        return ""
    counts, differences = Counter(parts), []
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
    n_test = len(parts) if folds else counts["test"]
    minimum = MIN_TEST_SHARE * task.weight * max(1, len(task.folds))
    if (
        task.weight < MAX_SIZE_WEIGHT
        and folds == bool(task.folds)
        and len(counts) >= len(task.folds)
        and n_test < minimum
    ):
        differences.append(f"{n_test:,} test clips, published: about {2 * minimum:,.0f} or more")
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
        xares_full (table on full data sets), xares_early (first table) or icme2025 (page of the challenge). The two
        older sources use mini variants.

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
    if source not in SOURCES:
        raise KeyError(f"{source!r} is not one of {', '.join(SOURCES)}")
    return {
        (row["track"], row["task"], row["encoder"]): PublishedScore(float(row["score"]), row["mini"] == "yes")
        for row in _rows("xares_baselines.csv")
        if row["source"] == source
    }
