"""The tracks of a task: linear heads, nearest neighbours, captions, transcripts; each gives answers on test items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import shown_clip
from earmark.metrics.sound_events import frames_per_segment
from earmark.metrics.word_error_rate import normalise
from earmark.probing.data import TaskData
from earmark.probing.evaluation import Answers
from earmark.probing.features import STRICT, XARES, Rows, frame_labels
from earmark.probing.heads import ctc, llm_asr, optimise, retrieval
from earmark.probing.heads.ctc import Utterances
from earmark.probing.heads.few_shot import few_shot_logits
from earmark.probing.heads.knn import CHOICES_OF_K, PUBLISHED_K, nearest_classes
from earmark.probing.heads.linear import Fold, Head, Recipe, train_heads
from earmark.probing.heads.selection import mean_by_clip, selection
from earmark.probing.tasks import Task

IntArray = NDArray[np.int64]

LINEAR, KNN = "linear", "knn"
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # of the strict protocol, chosen on validation
DRAWS = 10  # of few-shot training
LOSSES = {"clip": "cross_entropy", "multilabel": "binary_cross_entropy", "regression": "squared_error"}
SELECTED_BY = {"eer": "accuracy", "mae": "mse"}  # what chooses the epoch where the metric itself does not


@dataclass(frozen=True)
class Settings:
    """What is asked of every task. seeds: of the strict protocol. layers: None for the last alone, or their numbers;
    empty for all. shots: clips of a class in few-shot training, None for all clips. device: of the heads.
    """

    tracks: tuple[str, ...] = (LINEAR, KNN)
    protocols: tuple[str, ...] = (XARES, STRICT)
    seed: int = 0
    seeds: int = 3
    layers: tuple[int, ...] | None = None
    shots: int | None = None
    replicates: int = 1000
    device: str = "cpu"
    language_model: str = llm_asr.PUBLISHED_MODEL
    tokenizer: str | None = None

    @property
    def needs_torch(self) -> bool:
        """Whether heads are trained; those of few shots are fitted without it."""
        return LINEAR in self.tracks and self.shots is None


# --- heads --------------------------------------------------------------------------------------------------


def linear(
    task: Task,
    data: TaskData,
    rows: Rows,
    folds: Sequence[Fold],
    settings: Settings,
    protocol: str,
    hop: float | None,
) -> tuple[Answers, str, IntArray]:
    """Heads of all folds, seeds and learning rates, trained together."""
    labels, recipe, by_clip = _recipe(task, data, rows, hop, protocol)
    size = frames_per_segment(task.segment_seconds or 1.0, hop) if hop is not None else 1
    published = protocol == XARES
    crops_apart = published and hop is None
    metric = SELECTED_BY.get(task.metric, task.metric)
    clip = None if crops_apart or task.one_label_per_frame else rows.clip
    heads = train_heads(
        rows.x,
        labels,
        folds if by_clip else [_in_rows(fold, rows) for fold in folds],
        recipe,
        selection(metric, labels, clip=clip, segment_frames=size, whole_segments=published),
        seeds=[settings.seed] if published else range(settings.seed, settings.seed + settings.seeds),
        learning_rates=[task.learning_rate] if published else RATES,
        offsets=rows.offsets if by_clip else None,
        best_rate_only=True,
        device=settings.device,
    )
    chosen = "" if published else "learning rate " + ", ".join(f"{head.learning_rate:g}" for head in heads)
    tested = np.concatenate([fold.test for fold in folds])
    outputs = [np.concatenate([head.test for head in own]) for own in _of_seeds(heads)]
    where = rows.of_clips(tested)
    if by_clip:
        edges = np.concatenate([[0], np.cumsum(np.diff(rows.offsets)[tested])])
        frames: dict[str, Any] = {"edges": edges, "segment_frames": size, "whole_segments": published}
        answers = _answers(data, folds, tested, labels[where], outputs, by_fold=published, **frames)
        return answers, chosen, tested
    if crops_apart:
        items = rows.clip[where]
    else:
        outputs = [_by_tested(each, rows.clip[where], tested) for each in outputs]
        items = tested
    answers = _answers(data, folds, items, np.asarray(data.labels)[items], outputs, by_fold=published)
    if task.type == "clip":
        answers.classes.extend(each.argmax(axis=1) for each in outputs)
    return answers, chosen, items


def _recipe(
    task: Task, data: TaskData, rows: Rows, hop: float | None, protocol: str
) -> tuple[NDArray[Any], Recipe, bool]:
    """Labels by row, how a head learns them, and whether batches are of whole clips."""
    if task.type != "frame":
        labels = np.asarray(data.labels)[rows.clip]
        n_outputs = len(data.classes) or labels.shape[1]
        loss: Any = LOSSES[task.type]
        return labels, Recipe(loss, n_outputs, task.epochs, task.batch_size, task.pos_weight), False
    if hop is None:
        raise ValueError("the encoder does not say how long a frame is (hop), so events have no frames")
    labels = frame_labels(task, data, rows, hop, protocol)
    loss = "cross_entropy" if task.one_label_per_frame else "binary_cross_entropy"
    return labels, Recipe(loss, len(data.classes), task.epochs, task.batch_size, task.pos_weight), True


def _in_rows(fold: Fold, rows: Rows) -> Fold:
    return Fold(fold.number, *(rows.of_clips(clips) for clips in (fold.train, fold.valid, fold.test)))


def _of_seeds(heads: Sequence[Head]) -> list[list[Head]]:
    """Heads that together answer all test clips once, of each seed."""
    seeds = list(dict.fromkeys(head.seed for head in heads))
    return [[head for head in heads if head.seed == seed] for seed in seeds]


def _by_tested(outputs: NDArray[Any], clip: IntArray, tested: IntArray) -> NDArray[Any]:
    """The mean over each clip's crops, in the order of the tested clips."""
    means, _ = mean_by_clip(outputs, clip)
    return np.asarray(means[np.searchsorted(np.unique(clip), tested)])


def _answers(
    data: TaskData, folds: Sequence[Fold], items: IntArray, labels: Any, outputs: list[Any], **further: Any
) -> Answers:
    """items: the clip of each scored item."""
    number = np.zeros(len(data.clips), dtype=np.int64)
    for fold in folds:
        number[fold.test] = fold.number
    group = [data.group[clip] for clip in items]
    return Answers(group, number[items], labels, list(outputs), **further)


# --- neighbours ---------------------------------------------------------------------------------------------


def neighbours(data: TaskData, rows: Rows, folds: Sequence[Fold], protocol: str) -> tuple[Answers, str, IntArray]:
    """Nearest neighbours: published on crops as they are, strict on the means of clips with k chosen on validation."""
    labels = np.asarray(data.labels)
    published = protocol == XARES
    x = rows.x if published else rows.means()
    clip = rows.clip if published else np.arange(len(data.clips))
    said, chosen = [], []
    for fold in folds:
        train, valid, test = (
            rows.of_clips(part) if published else part for part in (fold.train, fold.valid, fold.test)
        )
        k = PUBLISHED_K
        if not published:
            tried = nearest_classes(x[train], labels[clip[train]], x[valid], CHOICES_OF_K)
            k = max(CHOICES_OF_K, key=lambda each: float((tried[each] == labels[clip[valid]]).mean()))
            chosen.append(f"{k}")
        kind: Any = "published" if published else "strict"
        said.append(nearest_classes(x[train], labels[clip[train]], x[test], (k,), protocol=kind)[k])
    items = np.concatenate([clip[rows.of_clips(fold.test)] if published else fold.test for fold in folds])
    answers = _answers(data, folds, items, labels[items], [], by_fold=published)
    answers.classes.append(np.concatenate(said))
    return answers, "" if published else f"k {', '.join(chosen)}", items


# --- few shots ----------------------------------------------------------------------------------------------


def few_shots(
    data: TaskData, rows: Rows, draws: Sequence[Fold], track: str, shots: int
) -> tuple[Answers, str, IntArray]:
    """Heads or neighbours of every draw, on the means of clips; validation clips are not looked at.

    draws: folds that differ in what trains alone. Of neighbours the nearest 10 vote, or as many as a class has shots.
    """
    labels, x, tested = np.asarray(data.labels), rows.means(), draws[0].test
    answers = _answers(data, draws[:1], tested, labels[tested], [], draws=True)
    if track == LINEAR:
        n = len(data.classes)
        answers.outputs.extend(few_shot_logits(x[one.train], labels[one.train], x[tested], n) for one in draws)
        answers.classes.extend(each.argmax(axis=1) for each in answers.outputs)
        return answers, "", tested
    k = max(PUBLISHED_K, shots)
    answers.classes.extend(nearest_classes(x[one.train], labels[one.train], x[tested], (k,))[k] for one in draws)
    return answers, f"k {k}", tested


# --- heads that are not linear ------------------------------------------------------------------------------


def _captions(
    task: Task, data: TaskData, rows: Rows, fold: Fold, settings: Settings, protocol: str
) -> tuple[Answers, str, IntArray]:
    means = rows.means()

    def part(clips: IntArray) -> retrieval.CaptionedClips:
        return retrieval.CaptionedClips(means[clips], [list(data.labels[clip]) for clip in clips])

    train, valid, test = (part(clips) for clips in (fold.train, fold.valid, fold.test))

    def towers(seed: int, rate: float) -> Any:
        recipe = optimise.Recipe(task.epochs, task.batch_size, rate)
        return retrieval.train_retrieval(
            train, valid, test, recipe, seed=seed, tokenizer=settings.tokenizer, device=settings.device
        )

    found, chosen = _with_rates(towers, task, settings, protocol)
    similarities = [each.similarity for each in found]
    return _answers(data, [fold], fold.test, None, similarities, owner=test.clip), chosen, fold.test


def _transcripts(
    task: Task, data: TaskData, rows: Rows, fold: Fold, settings: Settings, protocol: str
) -> tuple[Answers, str, IntArray]:
    """Speech recognition: a linear CTC head strictly, a language model that reads through an adapter as published."""

    def part(clips: IntArray) -> Utterances:
        frames = [rows.x[rows.offsets[clip] : rows.offsets[clip + 1]] for clip in clips]
        texts = [normalise(str(data.labels[clip])) for clip in clips]
        return Utterances(frames, texts, [shown_clip(data.clips[clip]) for clip in clips])

    train, valid, test = (part(clips) for clips in (fold.train, fold.valid, fold.test))

    def train_ctc(seed: int, rate: float) -> Any:
        recipe = optimise.Recipe(task.epochs, task.batch_size, rate)
        return ctc.train_ctc(train, valid, test, recipe, seed=seed, device=settings.device)

    if protocol != XARES:
        found, chosen = _with_rates(train_ctc, task, settings, protocol)
    else:
        model = llm_asr.load_language_model(settings.language_model, device=settings.device)
        recipe = optimise.Recipe(task.epochs, task.batch_size, task.learning_rate)
        found = [llm_asr.train_adapter(model, train, valid, test, recipe, seed=settings.seed)]
        saved = Path(settings.language_model)
        chosen = saved.resolve().name if saved.is_dir() else settings.language_model
    answers = _answers(data, [fold], fold.test, list(test.transcripts), [each.hypotheses for each in found])
    if too_short := len(found[0].left_out):
        answers.left_out["training utterances with fewer frames than CTC needs for their transcripts"] = too_short
    if unfinished := sum(each.unfinished for each in found):
        chosen += f"; {unfinished} of {len(fold.test)} transcripts cut at the length limit"
    return answers, chosen, fold.test


def _with_rates(
    train: Callable[[int, float], Any], task: Task, settings: Settings, protocol: str
) -> tuple[list[Any], str]:
    """As published, one training; strictly, the rate that validation chooses for the first seed, then more seeds."""
    if protocol == XARES:
        return [train(settings.seed, task.learning_rate)], ""
    tried, errors = {}, []
    for rate in RATES:
        try:
            tried[rate] = train(settings.seed, rate)
        except ValueError as error:  # a rate that diverges loses to one that does not
            errors.append(error)
    if not tried:
        raise errors[0]
    best = max(tried, key=lambda rate: tried[rate].fit.best_score)
    further = [train(settings.seed + i, best) for i in range(1, settings.seeds)]
    return [tried[best], *further], f"learning rate {best:g}"


TRAINED = {"retrieval": _captions, "asr": _transcripts}
