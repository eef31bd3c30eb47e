"""The tasks of X-ARES and of the ICME 2025 Audio Encoder Capability Challenge, and what their authors published.

A task is a row of xares_tasks.csv: what is told apart, how its data are named, how its head is trained and scored.
Five tasks are private to the challenge's organisers; their data are not to be had, and the table says so.
Sources: Zhang et al. (2025), X-ARES; Zhang et al. (2025), The ICME 2025 Audio Encoder Capability Challenge.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

TaskType = Literal["clip", "multilabel", "frame", "regression", "retrieval", "asr"]
Track = Literal["linear", "knn"]
TYPES: tuple[TaskType, ...] = get_args(TaskType)

# What a task of each type may be scored with; the first is the default of a user's task.
METRICS: dict[TaskType, tuple[str, ...]] = {
    "clip": ("accuracy", "eer"),
    "multilabel": ("mAP",),
    "frame": ("segment_f1_macro", "segment_f1_micro", "accuracy"),
    "regression": ("mse", "mae"),
    "retrieval": ("recall_at_1",),
    "asr": ("word_accuracy",),
}
LOWER_IS_BETTER = ("eer", "mse", "mae")
SPLITS = ("train", "valid", "test")
AVERAGES = ("average_public", "average_all")
SOURCES = ("xares_full", "xares_early", "icme2025")


@dataclass(frozen=True)
class Task:
    """What a probe learns from frozen embeddings, and how.

    type: clip (one class), multilabel, frame (classes over time), regression (numbers), retrieval (captions), asr
    (transcripts). metric: one of METRICS[type]; word_accuracy is max(0, 1 − WER). A frame task scored by accuracy has
    one label for each frame, else any number. n_classes: as published; None where labels are no classes.
    splits: {train, valid, test: pattern of tar files}. folds: {fold: pattern}, in place of splits.
    learning_rate, epochs, batch_size: the published recipe; batches are of clips. crop_seconds: clips are cut into
    pieces of this length. segment_seconds: what a frame task is scored over. pos_weight: of what is there, in the
    binary cross-entropy. weight: in the weighted average; 0 where the published averages leave the task out.
    zenodo: the record that holds the data. disabled: left out by the suite itself. mini: the suite also has a smaller
    variant. knn: scored by nearest neighbours too. reader, key: how the JSON beside a clip is read
    (task_labels.READERS). group: regular expression that finds the source recording, or the speaker, in a clip's file
    name. manifest: of a user's task, relative to home, the folder of its TOML file, or to the data root.
    """

    name: str
    formal_name: str
    suite: str
    domain: str
    type: TaskType
    metric: str
    n_classes: int | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    folds: Mapping[str, str] = field(default_factory=dict)
    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 32
    crop_seconds: float | None = None
    segment_seconds: float | None = None
    pos_weight: float = 1.0
    weight: float = 1.0
    zenodo: str = ""
    private: bool = False
    disabled: bool = False
    mini: bool = False
    knn: bool = False
    reader: str = ""
    key: str = ""
    group: str = ""
    manifest: str = "manifest.csv"
    home: Path | None = None

    @property
    def select_on_test(self) -> bool:
        """Whether the published recipe chooses the epoch on the clips it reports: folds, and valid the same as test."""
        return bool(self.folds) or (bool(self.splits) and self.splits["valid"] == self.splits["test"])

    @property
    def trains_on_test(self) -> bool:
        """Whether the published recipe trains on the clips it reports (subway_broadcast); no score should be trusted.

        >>> [task.name for task in tasks().values() if task.trains_on_test]
        ['subway_broadcast']
        """
        return bool(self.splits) and self.splits["train"] == self.splits["test"]

    @property
    def one_label_per_frame(self) -> bool:
        """Of a frame task: whether its frames have exactly one label each, as phonemes do."""
        return self.type == "frame" and self.metric == "accuracy"

    @property
    def patterns(self) -> dict[str, str]:
        """{split or fold: pattern of its tar files}. Where valid and test are the same files, they are the test's.

        >>> tasks()["esc50"].patterns["5"], list(tasks()["desed"].patterns)
        ('wds-audio-fold-5-*.tar', ['train', 'test'])
        """
        if self.folds:
            return dict(self.folds)
        return {name: glob for name, glob in self.splits.items() if not (name == "valid" and self.select_on_test)}


@cache
def tasks() -> dict[str, Task]:
    """The 27 tasks of X-ARES and three more of the challenge, by name, in the table's order.

    >>> len(tasks()), tasks()["esc50"].formal_name, sum(task.private for task in tasks().values())
    (30, 'ESC-50', 5)
    """
    return {row["name"]: _task(row) for row in _rows("xares_tasks.csv")}


def _task(row: Mapping[str, str]) -> Task:
    return Task(
        name=row["name"],
        formal_name=row["formal_name"],
        suite=row["suite"],
        domain=row["domain"],
        type=next(kind for kind in TYPES if kind == row["type"]),
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


# --- what was published ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """A published score. mini: on the suite's smaller variant of the data, not to be compared with the whole."""

    score: float
    mini: bool


@cache
def baselines(source: str = "xares_full") -> dict[tuple[str, str, str], Published]:
    """Published scores by (track, task, encoder), with our names of tasks; averages apart.

    source: xares_full, the suite's table on whole data sets; xares_early, its first table; icme2025, the challenge's
    page. The two older ones were made with mini variants. Other sources: KeyError.

    >>> baselines()["linear", "esc50", "dasheng"].score, baselines("icme2025")["knn", "asvspoof2015", "whisper"].mini
    (0.857, True)
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

    private: also over private tasks. Errors (LOWER_IS_BETTER) have no place in a mean of scores and are not counted.
    A task of your own has the weight that its file says.

    >>> known = tasks()
    >>> weighted_average([(known["esc50"], 0.9), (known["gtzan_genre"], 0.4), (known["finger_snap"], 0.0)])
    0.8
    """
    counted = [
        (task.weight, score)
        for task, score in scores
        if task.metric not in LOWER_IS_BETTER and (private or not task.private)
    ]
    total = sum(weight for weight, _ in counted)
    return sum(weight * score for weight, score in counted) / total if total else float("nan")


def _published(source: str) -> dict[tuple[str, str, str], Published]:
    if source not in SOURCES:
        raise KeyError(f"{source!r} is not one of {', '.join(SOURCES)}")
    return {
        (row["track"], row["task"], row["encoder"]): Published(float(row["score"]), row["mini"] == "yes")
        for row in _rows("xares_baselines.csv")
        if row["source"] == source
    }
