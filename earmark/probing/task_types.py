"""The types of tasks. Each is a class: how its labels are read and encoded, what it wants of a clip's embeddings, how
its heads learn, what its predictions are scored by, and how they look in tables.

A new type is a class here, among TYPES, with its metrics in `evaluation.METRICS`. Where tasks of one type differ by
their metric, as frames of one class do from sound events, the type has two classes of the same name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import shown_clip
from earmark.metrics.retrieval import rank_captions, rank_clips
from earmark.metrics.sound_events import events_to_frames, frames_per_segment, segment_maxima
from earmark.metrics.word_error_rate import normalise
from earmark.models.encoders.output import EmbeddingRequest
from earmark.probing.confusion import confusion_matrix, lowest_recall_classes, per_class, per_event, per_label
from earmark.probing.data import TaskData
from earmark.probing.evaluation import CaptionPredictions, ClassPredictions, FramePredictions, Predictions
from earmark.probing.features import Features
from earmark.probing.heads import ctc, llm_asr, optimise, retrieval
from earmark.probing.heads.batched import Loss
from earmark.probing.heads.ctc import Utterances
from earmark.probing.heads.linear import HeadConfig
from earmark.probing.heads.selection import selection_metric
from earmark.probing.labels import (
    READERS,
    EncodedLabels,
    LabelFault,
    parse_captions,
    parse_json,
    parse_number,
    split_text,
    training_classes,
)
from earmark.probing.options import KNN, XARES, ProbeSettings
from earmark.probing.schema import ClassRow, LowestRecallClasses
from earmark.probing.tasks import Task
from earmark.probing.tracks import LEARNING_RATES, TrackInput, TrackResult, train_linear_heads

IntArray = NDArray[np.int64]
ClassNames = NDArray[np.object_]  # of classes

MAX_CONFUSED_CLASSES = 8  # classes whose confusions are shown


@dataclass(frozen=True)
class PredictionColumns:
    """Of a table of predictions: the label of each item, None where that says nothing, and what each head predicts."""

    label: Any
    predicted: list[Any]

    @classmethod
    def from_predictions(
        cls, predictions: Predictions, shown: Callable[[NDArray[Any]], list[str]]
    ) -> "PredictionColumns":
        """Labels and outputs, shown alike."""
        return cls(shown(predictions.labels), [shown(each) for each in predictions.outputs])


@dataclass(frozen=True)
class ClassTables:
    """A row for each class or label, and where one is taken for another, the hardest of them."""

    rows: list[ClassRow] = field(default_factory=list)
    lowest_recall: LowestRecallClasses | None = None

    @classmethod
    def from_predictions(cls, labels: IntArray, classes: Sequence[IntArray], names: Sequence[str]) -> "ClassTables":
        """Recall, precision, and what classes are taken for. labels: (n,); classes: (n,) of each head."""
        table = confusion_matrix(labels, classes, len(names))
        return cls(per_class(table, names), lowest_recall_classes(table, names, MAX_CONFUSED_CLASSES))


class TaskType(ABC):
    """A type, of one task.

    name: as tables and files of tasks have it. metrics: what its tasks may be scored by; the first is the default.
    knn: whether a user's task is scored by nearest neighbours too. fewest_classes: that training must have. frames:
    whether every frame of a clip is wanted. few_shot: whether shots can be drawn of each class. segments: whether
    segments of time are scored. reader: of JSON in the cells of a user's manifest (labels.READERS). keeps_outputs:
    whether the numbers behind predictions are written too. counts: what a scored item is, where it is no crop.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    knn: ClassVar[bool] = False
    min_classes: ClassVar[int] = 0
    frames: ClassVar[bool] = False
    supports_few_shot: ClassVar[bool] = False
    scores_segments: ClassVar[bool] = False
    reader: ClassVar[str] = ""
    keeps_outputs: ClassVar[bool] = False
    item_kind: ClassVar[str] = "clips"

    def __init__(self, task: Task) -> None:
        self.task = task

    def label_from_cell(self, cell: str, folder: Path) -> Any:
        """The raw label that a manifest's cell holds; folder: where its paths start. ValueError says what is wrong."""
        if not cell.strip():
            raise ValueError("is empty")
        return self.parse_label(cell.strip(), folder)

    @abstractmethod
    def parse_label(self, cell: str, folder: Path) -> Any:
        """The same of a cell that is not empty."""

    def label_files(self, cell: str) -> list[str]:
        """The files that a manifest's cell names in place of a label."""
        return []

    @abstractmethod
    def encode(self, raw: Sequence[Any], parts: Sequence[str], *, folds: bool) -> EncodedLabels:
        """Raw labels of all clips as training reads them. parts: each clip's split or fold (`training_classes`)."""

    def embedding_request(self, layers: bool = False) -> EmbeddingRequest:
        """What is wanted of a clip: frames, or its embedding, in crops where the task has them."""
        if self.frames:
            return EmbeddingRequest(frames=True, dtype="float16")
        return EmbeddingRequest(crop_seconds=self.task.crop_seconds, layers=layers)

    @property
    def primary_metric(self) -> str:
        """What stands for the task in tables and averages."""
        return self.task.metric

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """What is reported beside it."""
        return ()

    def metrics_on(self, track: str) -> tuple[str, ...]:
        """What a track is scored by, first what stands for it. Neighbours name a class and rank nothing."""
        return ("accuracy",) if track == KNN else (self.primary_metric, *self.further_metrics)

    @abstractmethod
    def train(self, on: TrackInput) -> TrackResult:
        """The linear track, or what stands for it: heads trained, and what they predict on the test clips.

        ValueError for data that cannot be trained on.
        """

    def model_path(self, settings: ProbeSettings) -> str | None:
        """The model that heads need beside the embeddings, by its name or its folder."""
        return None

    @abstractmethod
    def prediction_columns(self, predictions: Any, names: ClassNames) -> PredictionColumns:
        """Of the table of predictions. names: of the classes."""

    def class_tables(self, predictions: Any, names: Sequence[str]) -> ClassTables:
        """Class by class."""
        return ClassTables()


# --- one embedding for a clip, or for each of its crops -----------------------------------------------------


class ClipLevelType(TaskType):
    """Linear heads on embeddings. loss: what they learn by; selected_by: the metric that chooses the epoch."""

    loss: ClassVar[Loss]
    selected_by: ClassVar[str]

    def predictions(self, **values: Any) -> Predictions:
        """From the labels and the outputs of the scored items."""
        return Predictions(**values)

    def train(self, on: TrackInput) -> TrackResult:
        """Crops count each for itself as published; strictly, outputs are averaged by clip."""
        task, rows, published = self.task, on.rows, on.published
        labels = np.asarray(on.data.labels)
        by_row = labels[rows.clip]
        n_outputs = len(on.data.classes) or labels.shape[1]
        recipe = HeadConfig(self.loss, n_outputs, task.epochs, task.batch_size, task.pos_weight)
        choose = selection_metric(self.selected_by, by_row, clip=None if published else rows.clip)
        heads = train_linear_heads(on, by_row, recipe, choose, task.learning_rate)
        items, clip = on.test_clips, rows.clip[rows.row_indices(on.test_clips)]
        outputs = heads.outputs if published else heads.mean_by_clip(clip, items)
        items = clip if published else items
        values = {"labels": labels[items], "outputs": outputs, "by_fold": published}
        counts = "crops" if published and rows.crops else self.item_kind
        return TrackResult(self.predictions(**on.sources_and_folds(items), **values), items, heads.chosen, counts)


class ClipClassification(ClipLevelType):
    """Clips of one class each; labels (N,) int64."""

    name = "clip"
    metrics = ("accuracy", "eer")
    knn = supports_few_shot = keeps_outputs = True
    min_classes = 2
    loss = "cross_entropy"
    selected_by = "accuracy"

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """The equal error rate of spoofed speech."""
        return ("eer",) if self.task.reader == "spoof" else ()

    def parse_label(self, cell: str, folder: Path) -> str:
        return cell

    def encode(self, raw: Sequence[str], parts: Sequence[str], *, folds: bool) -> EncodedLabels:
        places, wrong = training_classes([(name,) for name in raw], parts, folds=folds)
        return EncodedLabels(np.array([places.get(name, -1) for name in raw], dtype=np.int64), list(places), wrong)

    def predictions(self, **values: Any) -> ClassPredictions:
        return ClassPredictions(**values, classes=[each.argmax(axis=1) for each in values["outputs"]])

    def prediction_columns(self, predictions: ClassPredictions, names: ClassNames) -> PredictionColumns:
        return PredictionColumns(names[predictions.labels], [names[classes] for classes in predictions.classes])

    def class_tables(self, predictions: ClassPredictions, names: Sequence[str]) -> ClassTables:
        return ClassTables.from_predictions(predictions.labels, predictions.classes, names)


class MultilabelClassification(ClipLevelType):
    """Clips of any number of labels; labels (N, C) uint8 of 0 and 1."""

    name = "multilabel"
    metrics = ("mAP",)
    keeps_outputs = True
    min_classes = 1
    loss = "binary_cross_entropy"
    selected_by = "mAP"

    def label_from_cell(self, cell: str, folder: Path) -> list[str]:
        """An empty cell names none."""
        return self.parse_label(cell, folder)

    def parse_label(self, cell: str, folder: Path) -> list[str]:
        return sorted(split_text(cell, "|", ";"))

    def encode(self, raw: Sequence[Sequence[str]], parts: Sequence[str], *, folds: bool) -> EncodedLabels:
        places, wrong = training_classes(raw, parts, folds=folds)
        hot = np.zeros((len(raw), len(places)), dtype=np.uint8)
        for row, names in zip(hot, raw, strict=True):
            row[[places[name] for name in names if name in places]] = 1
        return EncodedLabels(hot, list(places), wrong)

    def prediction_columns(self, predictions: Predictions, names: ClassNames) -> PredictionColumns:
        return PredictionColumns.from_predictions(
            predictions, lambda table: ["|".join(names[row > 0]) for row in table]
        )

    def class_tables(self, predictions: Predictions, names: Sequence[str]) -> ClassTables:
        return ClassTables(per_label(predictions, names))


class Regression(ClipLevelType):
    """Clips of one or more numbers each; labels (N, k) float64."""

    name = "regression"
    metrics = ("mse", "mae")
    loss = "squared_error"
    selected_by = "mse"

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """The other error."""
        return tuple(metric for metric in self.metrics if metric != self.task.metric)

    def parse_label(self, cell: str, folder: Path) -> list[float]:
        return [parse_number(part, "a part of it") for part in cell.split("|")]

    def encode(self, raw: Sequence[Sequence[float]], parts: Sequence[str], *, folds: bool) -> EncodedLabels:
        width = len(raw[0])
        wrong = [
            LabelFault(i, f"{len(x)} numbers where others have {width}") for i, x in enumerate(raw) if len(x) != width
        ]
        return EncodedLabels(np.zeros((0, width)) if wrong else np.array(raw, dtype=np.float64), [], wrong)

    def prediction_columns(self, predictions: Predictions, names: ClassNames) -> PredictionColumns:
        return PredictionColumns.from_predictions(
            predictions, lambda table: ["|".join(f"{value:.6g}" for value in row) for row in table]
        )


# --- frames -------------------------------------------------------------------------------------------------


class FrameLevelType(TaskType):
    """Linear heads on frames, whose labels come from events: onset, offset, position of the class, of each clip."""

    name = "frame"
    frames = True
    reader = "events"
    loss: ClassVar[Loss]

    def parse_label(self, cell: str, folder: Path) -> Any:
        """Events as JSON, or the path of a file of it."""
        try:
            content = cell if cell.startswith("[") else (folder / cell).read_bytes()
        except OSError as error:
            raise ValueError(f"{cell}: {error.strerror}") from None
        events = parse_json(content)
        return READERS[self.task.reader](events, "" if isinstance(events, list) else self.task.key)

    def label_files(self, cell: str) -> list[str]:
        return [cell] if cell[:1] not in ("", "[") else []

    def encode(self, raw: Sequence[Any], parts: Sequence[str], *, folds: bool) -> EncodedLabels:
        names = [sorted({name for _, _, name in events}) for events in raw]
        places, wrong = training_classes(names, parts, folds=folds)
        events = [[(on, off, places.get(name, -1)) for on, off, name in events] for events in raw]
        return EncodedLabels(events, list(places), wrong)

    @abstractmethod
    def frame_labels(self, data: TaskData, rows: Features, hop: float, protocol: str) -> NDArray[Any]:
        """The labels of all frames."""

    def train(self, on: TrackInput) -> TrackResult:
        """Batches are of whole clips. Segments have to be whole as published; strictly, a last one may be shorter."""
        if on.hop is None:
            raise ValueError("the encoder does not say how long a frame is (hop), so events have no frames")
        task, rows, items = self.task, on.rows, on.test_clips
        labels = self.frame_labels(on.data, rows, on.hop, on.recipe)
        size = frames_per_segment(task.segment_seconds or 1.0, on.hop)
        segments: dict[str, Any] = {"segment_frames": size, "whole_segments": on.published}
        recipe = HeadConfig(self.loss, len(on.data.classes), task.epochs, task.batch_size, task.pos_weight)
        choose = selection_metric(task.metric, labels, clip=rows.clip if self.scores_segments else None, **segments)
        heads = train_linear_heads(on, labels, recipe, choose, task.learning_rate, whole_clips=True)
        predictions = FramePredictions(
            **on.sources_and_folds(items),
            labels=labels[rows.row_indices(items)],
            outputs=heads.outputs,
            by_fold=on.published,
            edges=np.concatenate([[0], np.cumsum(np.diff(rows.offsets)[items])]),
            **segments,
        )
        return TrackResult(predictions, items, heads.chosen, self.item_kind)


class SoundEventDetection(FrameLevelType):
    """Sound events: any number of labels at a time, scored by segments; labels of frames (R, C) 0/1."""

    metrics = ("segment_f1_macro", "segment_f1_micro")
    scores_segments = True
    min_classes = 1
    loss = "binary_cross_entropy"

    def frame_labels(self, data: TaskData, rows: Features, hop: float, protocol: str) -> NDArray[Any]:
        """As published, an event begins with the first frame that begins within it."""
        clips = zip(data.labels, np.diff(rows.offsets).tolist(), strict=True)
        n_labels, late = len(data.classes), protocol == XARES
        return np.concatenate(
            [
                events_to_frames(events, n, hop, n_labels, onset_rounding="ceil" if late else "floor")
                for events, n in clips
            ]
        )

    def prediction_columns(self, predictions: FramePredictions, names: ClassNames) -> PredictionColumns:
        """Labels as `segment:label`, segments counted from 0."""
        size, whole = predictions.segment_frames, predictions.whole_segments

        def shown(table: NDArray[Any]) -> list[str]:
            clips = (table[first:last] > 0 for first, last in pairwise(predictions.edges.tolist()))
            present = (np.argwhere(segment_maxima(clip, size, drop_last=whole)) for clip in clips)
            return ["|".join(f"{segment}:{names[label]}" for segment, label in own) for own in present]

        return PredictionColumns.from_predictions(predictions, shown)

    def class_tables(self, predictions: FramePredictions, names: Sequence[str]) -> ClassTables:
        return ClassTables(per_event(predictions, names))


class FrameClassification(FrameLevelType):
    """Exactly one label at a time, as phonemes are; labels of frames (R,), −1 where none is said."""

    metrics = ("accuracy",)
    min_classes = 2
    loss = "cross_entropy"

    @property
    def primary_metric(self) -> str:
        """Its accuracy is of frames."""
        return "frame_accuracy"

    def frame_labels(self, data: TaskData, rows: Features, hop: float, protocol: str) -> NDArray[Any]:
        clips = zip(data.labels, np.diff(rows.offsets).tolist(), strict=True)
        present = np.concatenate([events_to_frames(events, n, hop, len(data.classes)) for events, n in clips])
        return np.where(present.any(axis=1), present.argmax(axis=1), -1)

    def prediction_columns(self, predictions: FramePredictions, names: ClassNames) -> PredictionColumns:
        """The label of each frame."""
        known = np.array([*names, ""], dtype=object)  # −1 is no label

        def shown(codes: IntArray) -> list[str]:
            return ["|".join(known[codes[first:last]]) for first, last in pairwise(predictions.edges.tolist())]

        return PredictionColumns(
            shown(predictions.labels), [shown(each.argmax(axis=1)) for each in predictions.outputs]
        )

    def class_tables(self, predictions: FramePredictions, names: Sequence[str]) -> ClassTables:
        return ClassTables.from_predictions(*predictions.labelled_frames(), names)


# --- heads that are not linear ------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainedHeads:
    """One as published; strictly one for each seed, of the best learning rate, which `chosen` names."""

    heads: list[Any]
    chosen: str


class SingleSplitType(TaskType):
    """Texts as labels, and heads that are trained on one split."""

    def encode(self, raw: Sequence[Any], parts: Sequence[str], *, folds: bool) -> EncodedLabels:
        return EncodedLabels(list(raw), [], [])

    def train(self, on: TrackInput) -> TrackResult:
        if len(on.folds) > 1:
            raise ValueError(
                f"{self.name} tasks are trained on one split; give train, valid and test in place of folds"
            )
        return self.train_split(on, [on.folds[0].train, on.folds[0].valid, on.folds[0].test])

    @abstractmethod
    def train_split(self, on: TrackInput, split: Sequence[IntArray]) -> TrackResult:
        """The heads of the split, and what they predict. split: clips that train, choose the epoch and test."""

    def train_seeds(self, on: TrackInput, train: Callable[[int, optimise.TrainingConfig], Any]) -> TrainedHeads:
        """As published, one training by the task's rate; strictly, the rate that validation chooses for the first seed,
        then more seeds. train: of a seed and a recipe.
        """
        recipe, first = (
            optimise.TrainingConfig(self.task.epochs, self.task.batch_size, self.task.learning_rate),
            on.settings.seed,
        )
        if on.published:
            return TrainedHeads([train(first, recipe)], "")
        tried, errors = {}, []
        for rate in LEARNING_RATES:
            try:
                tried[rate] = train(first, replace(recipe, learning_rate=rate))
            except ValueError as error:  # a rate that diverges loses to one that does not
                errors.append(error)
        if not tried:
            raise errors[0]
        best = max(tried, key=lambda rate: tried[rate].fit.best_score)
        seeds = range(first + 1, first + on.settings.seeds)
        further = [train(seed, replace(recipe, learning_rate=best)) for seed in seeds]
        return TrainedHeads([tried[best], *further], f"learning rate {best:g}")


class Retrieval(SingleSplitType):
    """Clips and captions that find each other, through two towers."""

    name = "retrieval"
    metrics = ("recall_at_1",)

    def parse_label(self, cell: str, folder: Path) -> list[str]:
        return parse_captions([part for part in cell.split("|") if part.strip()], "")

    def model_path(self, settings: ProbeSettings) -> str | None:
        return settings.tokenizer

    def train_split(self, on: TrackInput, split: Sequence[IntArray]) -> TrackResult:
        """On the means of clips."""
        means, labels, items = on.rows.means(), on.data.labels, split[2]
        train, valid, test = (
            retrieval.CaptionedClips(means[clips], [list(labels[clip]) for clip in clips]) for clips in split
        )
        how: dict[str, Any] = {"tokenizer": on.settings.tokenizer, "device": on.settings.device}
        found = self.train_seeds(
            on, lambda seed, recipe: retrieval.train_retrieval(train, valid, test, recipe, seed=seed, **how)
        )
        outputs = [each.similarity for each in found.heads]
        predictions = CaptionPredictions(**on.sources_and_folds(items), labels=None, outputs=outputs, owner=test.clip)
        return TrackResult(predictions, items, found.chosen, self.item_kind)

    def prediction_columns(self, predictions: CaptionPredictions, names: ClassNames) -> PredictionColumns:
        """The rank of a clip's first caption among all; after a colon, the clip's rank for each of its captions."""
        owner = predictions.owner
        captions = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])  # of each clip

        def both(similarity: NDArray[Any]) -> list[str]:
            of_clips, of_captions = (rank(similarity, owner).first_rank for rank in (rank_captions, rank_clips))
            ranks = zip(of_clips, captions, strict=True)
            return [f"{rank}:{'|'.join(map(str, of_captions[own]))}" for rank, own in ranks]

        return PredictionColumns(None, [both(each) for each in predictions.outputs])


class SpeechRecognition(SingleSplitType):
    """Transcripts: a linear CTC head strictly, a language model that reads through an adapter as published."""

    name = "asr"
    metrics = ("word_accuracy",)
    frames = True
    item_kind = "utterances"

    def parse_label(self, cell: str, folder: Path) -> str:
        return cell

    def model_path(self, settings: ProbeSettings) -> str | None:
        return settings.language_model

    def train_split(self, on: TrackInput, split: Sequence[IntArray]) -> TrackResult:
        """On normalised transcripts."""
        rows, name, device, items = on.rows, on.settings.language_model, on.settings.device, split[2]

        def part(clips: IntArray) -> Utterances:
            frames = [rows.x[rows.offsets[clip] : rows.offsets[clip + 1]] for clip in clips]
            texts = [normalise(str(on.data.labels[clip])) for clip in clips]
            return Utterances(frames, texts, [shown_clip(on.data.clips[clip]) for clip in clips])

        train, valid, test = map(part, split)

        def head(seed: int, recipe: optimise.TrainingConfig) -> ctc.Transcription:
            if not on.published:
                return ctc.train_ctc(train, valid, test, recipe, seed=seed, device=device)
            model = llm_asr.load_language_model(name, device=device)
            return llm_asr.train_adapter(model, train, valid, test, recipe, seed=seed)

        found = self.train_seeds(on, head)
        chosen = found.chosen or (Path(name).resolve().name if Path(name).is_dir() else name)
        left_out = {}
        if too_short := len(found.heads[0].left_out):
            left_out["training utterances with fewer frames than CTC needs for their transcripts"] = too_short
        if unfinished := sum(each.unfinished for each in found.heads):
            chosen += f"; {unfinished} of {len(items)} transcripts cut at the length limit"
        texts, outputs = list(test.transcripts), [each.hypotheses for each in found.heads]
        predictions = Predictions(**on.sources_and_folds(items), labels=texts, outputs=outputs, left_out=left_out)
        return TrackResult(predictions, items, chosen, self.item_kind)

    def prediction_columns(self, predictions: Predictions, names: ClassNames) -> PredictionColumns:
        return PredictionColumns(predictions.labels, list(predictions.outputs))


TYPES = (
    ClipClassification,
    MultilabelClassification,
    SoundEventDetection,
    FrameClassification,
    Regression,
    Retrieval,
    SpeechRecognition,
)


def type_class(name: str, metric: str) -> type[TaskType] | None:
    """The class of a type's name that has the metric; None where none has."""
    return next((kind for kind in TYPES if kind.name == name and metric in kind.metrics), None)


def task_type(task: Task) -> TaskType:
    """A task's type. ValueError where its type does not have its metric.

    >>> task_type(Task("x", "X", "mine", "", "frame", "accuracy")).primary_metric
    'frame_accuracy'
    """
    kind = type_class(task.type, task.metric)
    if kind is None:
        raise ValueError(f"{task.name}: no {task.type} task is scored by {task.metric}")
    return kind(task)


def metrics_by_type() -> dict[str, tuple[str, ...]]:
    """{name of a type: what its tasks may be scored by, first the default}.

    >>> metrics_by_type()["frame"]
    ('segment_f1_macro', 'segment_f1_micro', 'accuracy')
    """
    found: dict[str, tuple[str, ...]] = {}
    for kind in TYPES:
        found[kind.name] = (*found.get(kind.name, ()), *kind.metrics)
    return found
