"""The tasks of X-ARES and of the ICME 2025 Audio Encoder Capability Challenge, and what their authors published.

A task is a row of xares_tasks.csv. Five tasks are private to the challenge's organisers; their data are not to be had,
and the table says so.
Sources: Zhang et al. (2025), X-ARES; Zhang et al. (2025), The ICME 2025 Audio Encoder Capability Challenge.
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

MAX_SIZE_WEIGHT, MIN_TEST_SHARE = (
    5000,
    0.5,
)  # weights below the first count test clips, of a fold where there are folds; see below
AVERAGES = ("average_public", "average_all")
SOURCES = ("xares_full", "xares_early", "icme2025")


@cache
def published_tasks() -> dict[str, Task]:
    """The 27 tasks of X-ARES and three more of the challenge, by name, in the table's order.

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
    """{fold: its files}, from the first and last number of a span such as 0-9."""
    if not span:
        return {}
    first, last = map(int, span.split("-"))
    return {str(fold): pattern.format(fold=fold) for fold in range(first, last + 1)}


def _rows(name: str) -> list[dict[str, str]]:
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def differences_from_published(task: Task, classes: Sequence[str], parts: Sequence[str], *, folds: bool) -> str:
    """How a published task's data differ from the published ones, in words; empty where they do not seem to.

    classes: of training; parts: the split or fold of each clip. Of the test clips' number all that the table tells is
    the weight, which was the size of a test set (the smaller variant's, where there is one; of librispeech and the
    challenge's own tasks it is a round number). Half of that is asked for. A task of your own, or one that no published
    encoder has a score of, is compared with nothing: empty.

    >>> differences_from_published(published_tasks()["esc50"], list("abcdefghij"), ["1", "2", "3"] * 700, folds=True)
    '10 of 50 classes, 3 of 5 folds'
    """
    if task.home is not None or not any((track, task.name) in _compared() for track in ("linear", "knn")):
        return ""
    counts, found = Counter(parts), []
    if task.n_classes is not None and classes and len(classes) != task.n_classes:
        found.append(_of(len(classes), task.n_classes, "classes"))
    if folds != bool(task.folds):
        found.append("folds in place of splits" if folds else f"splits in place of {len(task.folds)} folds")
    elif folds and len(counts) != len(task.folds):
        found.append(_of(len(counts), len(task.folds), "folds"))
    elif not folds:
        found += [f"no {part} split" for part in task.patterns if part not in counts]
        found += [f"a {part} split, which the published data have not" for part in counts if part not in task.patterns]
    tested = len(parts) if folds else counts["test"]
    least = MIN_TEST_SHARE * task.weight * max(1, len(task.folds))
    if (
        task.weight < MAX_SIZE_WEIGHT
        and folds == bool(task.folds)
        and len(counts) >= len(task.folds)
        and tested < least
    ):
        found.append(f"{tested:,} test clips, where the published are about {2 * least:,.0f} or more")
    return ", ".join(found)


def _of(n: int, published: int, what: str) -> str:
    return f"{n:,} of {published:,} {what}" if n < published else f"{n:,} {what}, where {published:,} are published"


@cache
def _compared() -> set[tuple[str, str]]:
    """(track, task) that a published encoder has a score of."""
    return {(track, task) for source in SOURCES for track, task, _ in published_scores(source)}


# --- what was published ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedScore:
    """A published score. mini: on the suite's smaller variant of the data, not to be compared with the whole."""

    score: float
    mini: bool


@cache
def published_scores(source: str = "xares_full") -> dict[tuple[str, str, str], PublishedScore]:
    """Published scores by (track, task, encoder), with our names of tasks; averages apart.

    source: xares_full, the suite's table on whole data sets; xares_early, its first table; icme2025, the challenge's
    page. The two older ones were made with mini variants. Other sources: KeyError.

    >>> published_scores()["linear", "esc50", "dasheng"].score
    0.857
    >>> published_scores("icme2025")["knn", "asvspoof2015", "whisper"].mini
    True
    """
    return {key: found for key, found in _published(source).items() if key[1] not in AVERAGES}


@cache
def published_averages(source: str = "xares_full") -> dict[tuple[str, str, str], float]:
    """Published weighted averages by (track, average_public or average_all, encoder), as `baselines`.

    xares_full: average_public follows from its scores and the table's weights on both tracks, to rounding, and so does
    average_all for kNN; for linear it lies up to 0.004 higher. The two older sources have one average each, over the
    public tasks they list, and weighted them otherwise (by the sizes of the test sets they ran on, they say; of
    the mini variants these are not published). The table's weights miss them by up to 0.08, whichever one or two
    tasks are left out.

    >>> published_averages()["knn", "average_public", "dasheng"]
    0.504
    """
    return {key: found.score for key, found in _published(source).items() if key[1] in AVERAGES}


def weighted_average(scores: Iterable[tuple[Task, float]], *, private: bool = False) -> float:
    """Mean of (task, score), weighted by the tasks' constant weights. No task that counts: NaN.

    private: also over private tasks. Metrics of which lower is better have no place in a mean of scores, and
    are not counted. A task of your own has the weight that its file says.

    >>> known = published_tasks()
    >>> weighted_average([(known["esc50"], 0.9), (known["gtzan_genre"], 0.4), (known["finger_snap"], 0.0)])
    0.8
    """
    counted = [
        (task.weight, score)
        for task, score in scores
        if not METRICS[task.metric].lower_is_better and (private or not task.private)
    ]
    total = sum(weight for weight, _ in counted)
    return sum(weight * score for weight, score in counted) / total if total else float("nan")


def _published(source: str) -> dict[tuple[str, str, str], PublishedScore]:
    if source not in SOURCES:
        raise KeyError(f"{source!r} is not one of {', '.join(SOURCES)}")
    return {
        (row["track"], row["task"], row["encoder"]): PublishedScore(float(row["score"]), row["mini"] == "yes")
        for row in _rows("xares_baselines.csv")
        if row["source"] == source
    }
