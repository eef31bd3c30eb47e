"""Task types: how labels are read and encoded, how heads are trained, and how predictions are scored and shown.

Each type is a class in TYPES. A new type is a new class with its metrics in `evaluation.METRICS`. If tasks of one type
differ by metric, as frame classification and sound event detection do, the type has two classes with the same name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import shown_clip
from earmark.metrics.retrieval import rank_captions, rank_clips
from earmark.metrics.sound_events import events_to_frames, frames_per_segment, segment_maxima
from earmark.metrics.word_error_rate import normalise
from earmark.models.encoders.output import EmbeddingRequest
from earmark.probing.confusion import (
    confusion_matrix,
    lowest_recall_classes,
    per_class,
    per_event,
    per_label,
    recall_intervals,
)
from earmark.probing.data import TaskData
from earmark.probing.evaluation import (
    CALIBRATION_ERROR,
    OF_CLASSES,
    CaptionPredictions,
    ClassPredictions,
    FramePredictions,
    Predictions,
)
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
ClassNames = NDArray[np.object_]

MAX_CONFUSED_CLASSES = 8  # rows of a table of confusions


@dataclass(frozen=True)
class PredictionColumns:
    """Columns of a table of predictions.

    Attributes
    ----------
    label : sequence or None
        Reference label of each item; None if there is none to show.
    predicted : list of sequences
        Prediction of each head.
    """

    label: Any
    predicted: list[Any]

    @classmethod
    def from_predictions(
        cls, predictions: Predictions, format_values: Callable[[NDArray[Any]], list[str]]
    ) -> "PredictionColumns":
        """Format labels and outputs with the same function."""
        return cls(format_values(predictions.labels), [format_values(each) for each in predictions.outputs])


@dataclass(frozen=True)
class ClassTables:
    """Metrics by class or label, and the confusions of the classes with the lowest recall."""

    rows: list[ClassRow] = field(default_factory=list)
    lowest_recall: LowestRecallClasses | None = None

    @classmethod
    def from_predictions(
        cls, labels: IntArray, classes: Sequence[IntArray], names: Sequence[str], group: Sequence[str] = ()
    ) -> "ClassTables":
        """Tables for single-class predictions.

        Parameters
        ----------
        labels : (n,) int
            True classes.
        classes : sequence of (n,) int
            Predicted classes of each head.
        names : sequence of str
            Class names.
        group : (n,) sequence, optional
            Source of each item, for intervals.
        """
        table = confusion_matrix(labels, classes, len(names))
        ends = recall_intervals(labels, classes, group, len(names)) if len(group) else ()
        return cls(per_class(table, names, ends), lowest_recall_classes(table, names, MAX_CONFUSED_CLASSES))


class TaskType(ABC):
    """Base class of task types; an instance belongs to one task.

    Attributes
    ----------
    name : str
        Name in tables and task files.
    metrics : tuple of str
        Possible metrics; the first is the default.
    knn : bool
        Whether a user's task is also scored by k-NN.
    min_classes : int
        Number of classes that training must have.
    frames : bool
        Whether frames are needed instead of clip embeddings.
    supports_few_shot : bool
        Whether few-shot training is possible.
    scores_segments : bool
        Whether time segments are scored.
    reader : str
        Reader of JSON in the cells of a user's manifest (`labels.READERS`).
    keeps_outputs : bool
        Whether outputs are written in addition to predictions.
    item_kind : str
        Unit of a scored item, unless it is a crop.
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
        """Read the raw label in a cell of a manifest.

        Parameters
        ----------
        cell : str
            Text of the cell.
        folder : Path
            Base folder of paths in the cell.

        Raises
        ------
        ValueError
            If the label is invalid.
        """
        if not cell.strip():
            raise ValueError("is empty")
        return self.parse_label(cell.strip(), folder)

    @abstractmethod
    def parse_label(self, cell: str, folder: Path) -> Any:
        """Parse a cell that is not empty."""

    def label_files(self, cell: str) -> list[str]:
        """Files that a cell references instead of a label."""
        return []

    @abstractmethod
    def encode(self, raw: Sequence[Any], parts: Sequence[str], *, folds: bool) -> EncodedLabels:
        """Encode the raw labels of all clips for training.

        Parameters
        ----------
        raw : sequence
            Raw label of each clip.
        parts : sequence of str
            Split or fold of each clip.
        folds : bool
            Whether `parts` are folds.
        """

    def embedding_request(self, layers: bool = False) -> EmbeddingRequest:
        """The embeddings that the type needs: frames, or clip embeddings, in crops if the task has them."""
        if self.frames:
            return EmbeddingRequest(frames=True, dtype="float16")
        return EmbeddingRequest(crop_seconds=self.task.crop_seconds, layers=layers)

    @property
    def primary_metric(self) -> str:
        """Metric that represents the task in tables and means."""
        return self.task.metric

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """Metrics reported in addition."""
        return ()

    def metrics_on(self, track: str, *, calibration: bool) -> tuple[str, ...]:
        """Metrics of a track, the primary one first.

        Parameters
        ----------
        track : str
            `linear` or `knn`.
        calibration : bool
            Whether the confidences of linear heads are scored too.
        """
        return (self.primary_metric, *self.further_metrics)

    @abstractmethod
    def train(self, inputs: TrackInput) -> TrackResult:
        """Train the heads of the linear track, and predict the test clips.

        Raises
        ------
        ValueError
            If the data cannot be trained on.
        """

    def model_path(self, settings: ProbeSettings) -> str | None:
        """Name or folder of a model that heads need in addition to the embeddings."""
        return None

    @abstractmethod
    def prediction_columns(self, predictions: Any, names: ClassNames) -> PredictionColumns:
        """Columns of the table of predictions.

        Parameters
        ----------
        predictions : Predictions
            As returned by `train`.
        names : (C,) object
            Class names.
        """

    def class_tables(self, predictions: Any, names: Sequence[str]) -> ClassTables:
        """Metrics by class.

        Parameters
        ----------
        predictions : Predictions
            As returned by `train`.
        names : sequence of str
            Class names.
        """
        return ClassTables()


# --- clip embeddings --------------------------------------------------------------------------------------


class ClipLevelType(TaskType):
    """Linear heads on clip embeddings.

    Attributes
    ----------
    loss : Loss
        Training loss.
    selected_by : str
        Metric that selects the epoch.
    """

    loss: ClassVar[Loss]
    selected_by: ClassVar[str]

    def predictions(self, **values: Any) -> Predictions:
        """Make predictions from labels and outputs."""
        return Predictions(**values)

    def train(self, inputs: TrackInput) -> TrackResult:
        """Train linear heads; xares scores crops, strict averages the outputs of each clip."""
        task, features, published = self.task, inputs.features, inputs.published
        labels = np.asarray(inputs.data.labels)
        row_labels = labels[features.clip]
        n_outputs = len(inputs.data.classes) or labels.shape[1]
        config = HeadConfig(
            self.loss, n_outputs, task.epochs, task.batch_size, task.pos_weight, most_trained_on_ties=not published
        )
        choose = selection_metric(self.selected_by, row_labels, clip=None if published else features.clip)
        heads = train_linear_heads(inputs, row_labels, config, choose, task.learning_rate)
        items, clip = inputs.test_clips, features.clip[features.row_indices(inputs.test_clips)]
        outputs = heads.outputs if published else heads.mean_by_clip(clip, items)
        items = clip if published else items
        values = {"labels": labels[items], "outputs": outputs, "by_fold": published}
        item_kind = "crops" if published and features.crops else self.item_kind
        return TrackResult(
            self.predictions(**inputs.sources_and_folds(items), **values), items, heads.chosen, item_kind
        )


class ClipClassification(ClipLevelType):
    """Clips with one class each; labels (N,) int64."""

    name = "clip"
    metrics = ("accuracy", "macro_f1", "balanced_accuracy", "eer")
    knn = supports_few_shot = keeps_outputs = True
    min_classes = 2
    loss = "cross_entropy"
    selected_by = "accuracy"

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """Equal error rate for spoofed speech."""
        return ("eer",) if self.task.reader == "spoof" else ()

    def metrics_on(self, track: str, *, calibration: bool) -> tuple[str, ...]:
        """Metrics of a track, the primary one first.

        k-NN predicts only classes, without the scores that an equal error rate and a calibration error need.
        """
        if track == KNN:
            return tuple(sorted(OF_CLASSES, key=lambda metric: metric != self.primary_metric))
        further = (*self.further_metrics, *OF_CLASSES, *([CALIBRATION_ERROR] if calibration else []))
        return tuple(dict.fromkeys((self.primary_metric, *further)))

    def parse_label(self, cell: str, folder: Path) -> str:
        return cell

    def encode(self, raw: Sequence[str], parts: Sequence[str], *, folds: bool) -> EncodedLabels:
        codes, faults = training_classes([(name,) for name in raw], parts, folds=folds)
        return EncodedLabels(np.array([codes.get(name, -1) for name in raw], dtype=np.int64), list(codes), faults)

    def predictions(self, **values: Any) -> ClassPredictions:
        return ClassPredictions(**values, classes=[each.argmax(axis=1) for each in values["outputs"]])

    def prediction_columns(self, predictions: ClassPredictions, names: ClassNames) -> PredictionColumns:
        return PredictionColumns(names[predictions.labels], [names[classes] for classes in predictions.classes])

    def class_tables(self, predictions: ClassPredictions, names: Sequence[str]) -> ClassTables:
        return ClassTables.from_predictions(predictions.labels, predictions.classes, names, predictions.group)


class MultilabelClassification(ClipLevelType):
    """Clips with any number of labels; labels (N, C) uint8 0/1."""

    name = "multilabel"
    metrics = ("mAP",)
    keeps_outputs = True
    min_classes = 1
    loss = "binary_cross_entropy"
    selected_by = "mAP"

    def label_from_cell(self, cell: str, folder: Path) -> list[str]:
        """Read a cell; an empty one means no label."""
        return self.parse_label(cell, folder)

    def parse_label(self, cell: str, folder: Path) -> list[str]:
        return sorted(split_text(cell, "|", ";"))

    def encode(self, raw: Sequence[Sequence[str]], parts: Sequence[str], *, folds: bool) -> EncodedLabels:
        codes, faults = training_classes(raw, parts, folds=folds)
        hot = np.zeros((len(raw), len(codes)), dtype=np.uint8)
        for row, names in zip(hot, raw, strict=True):
            row[[codes[name] for name in names if name in codes]] = 1
        return EncodedLabels(hot, list(codes), faults)

    def prediction_columns(self, predictions: Predictions, names: ClassNames) -> PredictionColumns:
        return PredictionColumns.from_predictions(
            predictions, lambda table: ["|".join(names[row > 0]) for row in table]
        )

    def class_tables(self, predictions: Predictions, names: Sequence[str]) -> ClassTables:
        return ClassTables(per_label(predictions, names))


class Regression(ClipLevelType):
    """Clips with one or more values each; labels (N, k) float64."""

    name = "regression"
    metrics = ("mse", "mae")
    loss = "squared_error"
    selected_by = "mse"

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """The other error metric."""
        return tuple(metric for metric in self.metrics if metric != self.task.metric)

    def parse_label(self, cell: str, folder: Path) -> list[float]:
        return [parse_number(part, "a value") for part in cell.split("|")]

    def encode(self, raw: Sequence[Sequence[float]], parts: Sequence[str], *, folds: bool) -> EncodedLabels:
        width = len(raw[0])
        faults = [
            LabelFault(i, f"{len(x)} numbers, expected {width} as in the first clip")
            for i, x in enumerate(raw)
            if len(x) != width
        ]
        return EncodedLabels(np.zeros((0, width)) if faults else np.array(raw, dtype=np.float64), [], faults)

    def prediction_columns(self, predictions: Predictions, names: ClassNames) -> PredictionColumns:
        return PredictionColumns.from_predictions(
            predictions, lambda table: ["|".join(f"{value:.6g}" for value in row) for row in table]
        )


# --- frames -------------------------------------------------------------------------------------------------


class FrameLevelType(TaskType):
    """Linear heads on frames; labels are events (onset, offset, class index) of each clip."""

    name = "frame"
    frames = True
    reader = "events"
    loss: ClassVar[Loss]

    def parse_label(self, cell: str, folder: Path) -> Any:
        """Parse events from JSON, or from a JSON file that the cell names."""
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
        codes, faults = training_classes(names, parts, folds=folds)
        events = [[(onset, offset, codes.get(name, -1)) for onset, offset, name in events] for events in raw]
        return EncodedLabels(events, list(codes), faults)

    @abstractmethod
    def frame_labels(self, data: TaskData, features: Features, hop: float, recipe: str) -> NDArray[Any]:
        """Labels of all frames.

        Parameters
        ----------
        data : TaskData
            Its labels are events.
        features : Features
            Frames of the clips, R in total.
        hop : float
            Seconds between frames.
        recipe : str
            `xares`, `strict` or `strict_given_splits`.

        Returns
        -------
        (R,) int or (R, C) 0/1
            As described by the class.
        """

    def train(self, inputs: TrackInput) -> TrackResult:
        """Train on batches of whole clips; xares ignores a shorter last segment, strict scores it."""
        if inputs.hop is None:
            raise ValueError("the encoder has no frame duration (hop_seconds), which frame tasks need")
        task, features, items = self.task, inputs.features, inputs.test_clips
        labels = self.frame_labels(inputs.data, features, inputs.hop, inputs.recipe)
        size = frames_per_segment(task.segment_seconds or 1.0, inputs.hop)
        segments: dict[str, Any] = {"segment_frames": size, "whole_segments": inputs.published}
        config = HeadConfig(
            self.loss,
            len(inputs.data.classes),
            task.epochs,
            task.batch_size,
            task.pos_weight,
            most_trained_on_ties=not inputs.published,
        )
        choose = selection_metric(task.metric, labels, clip=features.clip if self.scores_segments else None, **segments)
        heads = train_linear_heads(inputs, labels, config, choose, task.learning_rate, whole_clips=True)
        predictions = FramePredictions(
            **inputs.sources_and_folds(items),
            labels=labels[features.row_indices(items)],
            outputs=heads.outputs,
            by_fold=inputs.published,
            edges=np.concatenate([[0], np.cumsum(np.diff(features.offsets)[items])]),
            **segments,
        )
        return TrackResult(predictions, items, heads.chosen, self.item_kind)


class SoundEventDetection(FrameLevelType):
    """Sound events: any number of labels per frame, scored by segments; frame labels (R, C) 0/1."""

    metrics = ("segment_f1_macro", "segment_f1_micro")
    scores_segments = True
    min_classes = 1
    loss = "binary_cross_entropy"

    def frame_labels(self, data: TaskData, features: Features, hop: float, recipe: str) -> NDArray[Any]:
        """Labels of all frames; in xares, an event starts with the first frame that begins within it."""
        clips = zip(data.labels, np.diff(features.offsets).tolist(), strict=True)
        n_labels = len(data.classes)
        rounding: Literal["floor", "ceil"] = "ceil" if recipe == XARES else "floor"
        frames = [events_to_frames(events, n, hop, n_labels, onset_rounding=rounding) for events, n in clips]
        return np.concatenate(frames)

    def prediction_columns(self, predictions: FramePredictions, names: ClassNames) -> PredictionColumns:
        """Columns with entries `segment:label`; segments count from 0."""
        size, whole = predictions.segment_frames, predictions.whole_segments

        def shown(table: NDArray[Any]) -> list[str]:
            clips = (table[first:last] > 0 for first, last in pairwise(predictions.edges.tolist()))
            present = (np.argwhere(segment_maxima(clip, size, drop_last=whole)) for clip in clips)
            return ["|".join(f"{segment}:{names[label]}" for segment, label in own) for own in present]

        return PredictionColumns.from_predictions(predictions, shown)

    def class_tables(self, predictions: FramePredictions, names: Sequence[str]) -> ClassTables:
        return ClassTables(per_event(predictions, names))


class FrameClassification(FrameLevelType):
    """One label per frame, such as a phoneme; frame labels (R,), −1 for unlabelled frames."""

    metrics = ("accuracy",)
    min_classes = 2
    loss = "cross_entropy"

    @property
    def primary_metric(self) -> str:
        """The accuracy over frames."""
        return "frame_accuracy"

    def frame_labels(self, data: TaskData, features: Features, hop: float, recipe: str) -> NDArray[Any]:
        clips = zip(data.labels, np.diff(features.offsets).tolist(), strict=True)
        present = np.concatenate([events_to_frames(events, n, hop, len(data.classes)) for events, n in clips])
        return np.where(present.any(axis=1), present.argmax(axis=1), -1)

    def prediction_columns(self, predictions: FramePredictions, names: ClassNames) -> PredictionColumns:
        """The label of each frame."""
        names_by_code = np.array([*names, ""], dtype=object)  # −1: no label

        def shown(codes: IntArray) -> list[str]:
            return ["|".join(names_by_code[codes[first:last]]) for first, last in pairwise(predictions.edges.tolist())]

        return PredictionColumns(
            shown(predictions.labels), [shown(each.argmax(axis=1)) for each in predictions.outputs]
        )

    def class_tables(self, predictions: FramePredictions, names: Sequence[str]) -> ClassTables:
        return ClassTables.from_predictions(*predictions.labelled_frames(), names)


# --- retrieval and speech recognition --------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainedHeads:
    """One head for xares; for strict one per seed, with the learning rate named in `chosen`."""

    heads: list[Any]
    chosen: str


class SingleSplitType(TaskType):
    """Types with text labels, whose heads are trained on one split."""

    def encode(self, raw: Sequence[Any], parts: Sequence[str], *, folds: bool) -> EncodedLabels:
        return EncodedLabels(list(raw), [], [])

    def train(self, inputs: TrackInput) -> TrackResult:
        """Train on the only split.

        Raises
        ------
        ValueError
            If the data have folds, or if training fails.
        """
        if len(inputs.folds) > 1:
            raise ValueError(f"{self.name} tasks need splits (train, valid, test), not folds")
        return self.train_split(inputs, [inputs.folds[0].train, inputs.folds[0].valid, inputs.folds[0].test])

    @abstractmethod
    def train_split(self, inputs: TrackInput, split: Sequence[IntArray]) -> TrackResult:
        """Train on one split and predict its test clips; `split` has the training, validation and test clips."""

    def train_seeds(self, inputs: TrackInput, train: Callable[[int, optimise.TrainingConfig], Any]) -> TrainedHeads:
        """Train the heads of one split.

        xares trains once with the learning rate of the task. strict selects the learning rate on validation with the
        first seed, the highest on ties, then trains the other seeds.

        Parameters
        ----------
        inputs : TrackInput
            Recipe and settings.
        train : callable
            Trains one head from a seed and an optimiser configuration.

        Raises
        ------
        ValueError
            If training fails for every learning rate.
        """
        config = optimise.TrainingConfig(self.task.epochs, self.task.batch_size, self.task.learning_rate)
        first_seed = inputs.settings.seed
        if inputs.published:
            return TrainedHeads([train(first_seed, config)], "")
        config = replace(config, most_trained_on_ties=True)
        candidates, errors = {}, []
        for rate in LEARNING_RATES:
            try:
                candidates[rate] = train(first_seed, replace(config, learning_rate=rate))
            except ValueError as error:  # training diverged with this learning rate
                errors.append(error)
        if not candidates:
            raise errors[0]
        best = max(candidates, key=lambda rate: (candidates[rate].history.best_score, rate))
        seeds = range(first_seed + 1, first_seed + inputs.settings.seeds)
        others = [train(seed, replace(config, learning_rate=best)) for seed in seeds]
        return TrainedHeads([candidates[best], *others], f"learning rate {best:g}")


class Retrieval(SingleSplitType):
    """Clips and their captions; two projection heads."""

    name = "retrieval"
    metrics = ("recall_at_1",)

    def parse_label(self, cell: str, folder: Path) -> list[str]:
        return parse_captions([part for part in cell.split("|") if part.strip()], "")

    def model_path(self, settings: ProbeSettings) -> str | None:
        return settings.tokenizer

    def train_split(self, inputs: TrackInput, split: Sequence[IntArray]) -> TrackResult:
        """Train on clip means."""
        means, labels, items = inputs.features.means(), inputs.data.labels, split[2]
        train, valid, test = (
            retrieval.CaptionedClips(means[clips], [list(labels[clip]) for clip in clips]) for clips in split
        )
        options: dict[str, Any] = {"tokenizer": inputs.settings.tokenizer, "device": inputs.settings.device}
        trained = self.train_seeds(
            inputs, lambda seed, config: retrieval.train_retrieval(train, valid, test, config, seed=seed, **options)
        )
        outputs = [each.similarity for each in trained.heads]
        predictions = CaptionPredictions(
            **inputs.sources_and_folds(items), labels=None, outputs=outputs, owner=test.clip
        )
        return TrackResult(predictions, items, trained.chosen, self.item_kind)

    def prediction_columns(self, predictions: CaptionPredictions, names: ClassNames) -> PredictionColumns:
        """Columns with entries `rank:ranks`.

        The first number is the rank of the best caption of the clip among all captions; the others are the ranks of the
        clip for each of its captions.
        """
        owner = predictions.owner
        captions_of_clip = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])

        def ranks_of(similarity: NDArray[Any]) -> list[str]:
            of_clips, of_captions = (rank(similarity, owner).first_rank for rank in (rank_captions, rank_clips))
            ranks = zip(of_clips, captions_of_clip, strict=True)
            return [f"{rank}:{'|'.join(map(str, of_captions[own]))}" for rank, own in ranks]

        return PredictionColumns(None, [ranks_of(each) for each in predictions.outputs])


class SpeechRecognition(SingleSplitType):
    """Transcripts: a linear CTC head in strict, a language model with an adapter in xares."""

    name = "asr"
    metrics = ("word_accuracy",)
    frames = True
    item_kind = "utterances"

    def parse_label(self, cell: str, folder: Path) -> str:
        return cell

    def model_path(self, settings: ProbeSettings) -> str | None:
        return settings.language_model

    def train_split(self, inputs: TrackInput, split: Sequence[IntArray]) -> TrackResult:
        """Train on normalised transcripts."""
        features, name, device, items = (
            inputs.features,
            inputs.settings.language_model,
            inputs.settings.device,
            split[2],
        )

        def part(clips: IntArray) -> Utterances:
            frames = [features.x[features.offsets[clip] : features.offsets[clip + 1]] for clip in clips]
            texts = [normalise(str(inputs.data.labels[clip])) for clip in clips]
            return Utterances(frames, texts, [shown_clip(inputs.data.clips[clip]) for clip in clips])

        train, valid, test = map(part, split)

        def head(seed: int, config: optimise.TrainingConfig) -> ctc.Transcription:
            if not inputs.published:
                return ctc.train_ctc(train, valid, test, config, seed=seed, device=device)
            model = llm_asr.load_language_model(name, device=device)
            return llm_asr.train_adapter(model, train, valid, test, config, seed=seed)

        trained = self.train_seeds(inputs, head)
        chosen = trained.chosen or (Path(name).resolve().name if Path(name).is_dir() else name)
        left_out = {}
        if too_short := len(trained.heads[0].excluded):
            left_out["training utterances with fewer frames than CTC needs for their transcripts"] = too_short
        if unfinished := sum(each.n_truncated for each in trained.heads):
            chosen += f"; {unfinished} of {len(items)} transcripts cut at the length limit"
        texts, outputs = list(test.transcripts), [each.hypotheses for each in trained.heads]
        predictions = Predictions(**inputs.sources_and_folds(items), labels=texts, outputs=outputs, left_out=left_out)
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
    """Find the class of a type name and metric.

    Returns
    -------
    type or None
        None if no type with this name has the metric.
    """
    return next((class_ for class_ in TYPES if class_.name == name and metric in class_.metrics), None)


def task_type(task: Task) -> TaskType:
    """The type of a task.

    Raises
    ------
    ValueError
        If the type does not have the metric of the task.

    Examples
    --------
    >>> task_type(Task("x", "X", "mine", "", "frame", "accuracy")).primary_metric
    'frame_accuracy'
    """
    class_ = type_class(task.type, task.metric)
    if class_ is None:
        raise ValueError(f"{task.name}: {task.type} tasks do not have the metric {task.metric}")
    return class_(task)


def metrics_by_type() -> dict[str, tuple[str, ...]]:
    """{type name: its metrics, the default first}.

    >>> metrics_by_type()["frame"]
    ('segment_f1_macro', 'segment_f1_micro', 'accuracy')
    """
    metrics: dict[str, tuple[str, ...]] = {}
    for class_ in TYPES:
        metrics[class_.name] = (*metrics.get(class_.name, ()), *class_.metrics)
    return metrics
