"""A task's clips as arrays: embeddings, labels by row, and which clips train, choose and test under each protocol.

xares   the published splits: where a task has no validation split, and with folds, the test clips choose the epoch
strict  held-out validation always: of folds, test i and validation i + 1; else a tenth of training, by source

Where sources span the given folds or splits, `strict` is of data that `probe_sources.by_source` divides anew, and
`strict_given_splits` of the data as they are given.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import Clip, TarMember, shown_clip
from earmark.embeddings.store import EmbeddingStore
from earmark.errors import EarmarkError
from earmark.metrics.sound_events import events_to_frames
from earmark.models.embedding import Embedding
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.output import View
from earmark.models.encoders.precomputed import GivenEmbeddings
from earmark.probing.data import TaskData
from earmark.probing.heads.batched import rows_of
from earmark.probing.heads.linear import Fold
from earmark.probing.labels import in_order
from earmark.probing.tasks import Task

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]
Made = Iterable[tuple[Clip, Embedding]]
Watch = Callable[[Made, int], Made]

XARES, STRICT, STRICT_GIVEN = "xares", "strict", "strict_given_splits"
PROTOCOLS = (XARES, STRICT, STRICT_GIVEN)
FOLLOWED = ("frame", "asr")  # task types that need every frame
HELD_OUT = 0.1  # of training, where there is no validation split
SHOWN = 20


def view_of(task: Task, layers: bool = False) -> View:
    """What a task wants of a clip: frames, or its embedding, in crops where the task has them."""
    if task.type in FOLLOWED:
        return View(frames=True, dtype="float16")
    return View(crop_seconds=task.crop_seconds, layers=layers)


@dataclass(frozen=True)
class Rows:
    """Embeddings of all clips one under the other: x (R, D), clip (R,), and offsets (n + 1,) of each clip's rows."""

    x: FloatArray
    clip: IntArray
    offsets: IntArray

    @classmethod
    def of(cls, found: Sequence[FloatArray]) -> "Rows":
        """From the rows of each clip."""
        counts = np.array([len(each) for each in found], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return cls(np.concatenate(found), np.repeat(np.arange(len(found)), counts), offsets)

    def of_clips(self, clips: IntArray) -> IntArray:
        """The rows of the clips, in their order."""
        return rows_of(clips, self.offsets)

    def means(self) -> FloatArray:
        """The mean of each clip's rows, (n, D)."""
        if len(self.x) == len(self.offsets) - 1:
            return np.asarray(self.x, dtype=np.float32)
        sums = np.add.reduceat(self.x.astype(np.float64), self.offsets[:-1], axis=0)
        return np.asarray(sums / np.diff(self.offsets)[:, np.newaxis], dtype=np.float32)


def embedded(
    encoder: Encoder | GivenEmbeddings,
    clips: Sequence[Clip],
    view: View,
    store: EmbeddingStore,
    *,
    batch_size: int,
    allow_missing: bool = False,
    watch: Watch = lambda made, n: made,
    ids: Mapping[Clip, Sequence[Path]] | None = None,
) -> tuple[Rows, NDArray[np.bool_]]:
    """The rows of the clips, from the store where they are known, and which clips have any.

    EarmarkError lists the clips that have none, unless they are allowed to be missing; then only where all are.
    ids: under which embeddings made elsewhere, one for a clip whatever its length, may have it, as `ids_of` says.
    """
    places: dict[Clip, list[int]] = {}
    for place, clip in enumerate(clips):
        places.setdefault(clip, []).append(place)
    found: list[FloatArray | None] = [None] * len(clips)
    faults: dict[str, list[str]] = {}
    made: Made
    if isinstance(encoder, GivenEmbeddings):
        encoder.require_view(replace(view, crop_seconds=None))
        made = ((clip, encoder.lookup(*(ids or {})[clip])) for clip in places)
    else:
        made = store.embed(encoder, list(places), view=view, batch_size=batch_size)
    for clip, embedding in watch(made, len(places)):
        if embedding.vector is None:
            faults.setdefault(embedding.error.removeprefix(f"{shown_clip(clip)}: "), []).append(shown_clip(clip))
            continue
        rows = np.atleast_2d(embedding.vector)
        rows = rows.astype(np.float16) if view.dtype == "float16" else rows
        for place in places[clip]:
            found[place] = rows
    n_faults = sum(map(len, faults.values()))
    if faults and not (allow_missing and n_faults < len(places)):
        told = sorted(f"{_several(sorted(of))}: {reason}" for reason, of in faults.items())
        more = [f"and {len(told) - SHOWN:,} more"] if len(told) > SHOWN else []
        many = "1 clip has" if n_faults == 1 else f"{n_faults:,} clips have"
        advice = "--allow-missing leaves them out and counts them."
        raise EarmarkError("\n  ".join([f"{many} no embedding:", *told[:SHOWN], *more, advice]))
    kept = np.array([rows is not None for rows in found])
    return Rows.of([rows for rows in found if rows is not None]), kept


def _several(names: Sequence[str]) -> str:
    """Clips with one fault, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def ids_of(task: str, data: TaskData, root: Path) -> dict[Clip, list[Path]]:
    """The ids under which embeddings made elsewhere may have each clip, the surest first.

    The path below the data root, of a tar file's member with :member; <task>/<name>, where the name is the path in the
    manifest or x.tar:member; the name alone; and of a tar file's member the member's name. What two of the clips would
    share is the id of neither.
    """
    found: dict[Clip, list[Path]] = {}
    for clip, name in zip(data.clips, data.names, strict=True):
        file, member = (clip.tar, f":{clip.name}") if isinstance(clip, TarMember) else (clip, "")
        below = [Path(f"{file.relative_to(root)}{member}")] if file.is_relative_to(root) else []
        of_member = [Path(clip.name)] if isinstance(clip, TarMember) else []
        found[clip] = list(dict.fromkeys([*below, Path(task) / name, Path(name), *of_member]))
    owners = Counter(each for ids in found.values() for each in ids)
    return {clip: [each for each in ids if owners[each] == 1] or ids[:1] for clip, ids in found.items()}


def frame_labels(task: Task, data: TaskData, rows: Rows, hop: float, protocol: str = STRICT) -> NDArray[Any]:
    """(R,) the class of each frame, −1 where none is said, or (R, C) 0/1, as the task has one label or any number.

    As published, one of any number of labels begins with the first frame that begins within its event.
    """
    late = protocol == XARES and not task.one_label_per_frame
    found = []
    for place, events in enumerate(data.labels):
        n = int(rows.offsets[place + 1] - rows.offsets[place])
        there = events_to_frames(events, n, hop, len(data.classes), late=late)
        found.append(np.where(there.any(axis=1), there.argmax(axis=1), -1) if task.one_label_per_frame else there)
    return np.concatenate(found)


# --- splits -------------------------------------------------------------------------------------------------


def published_folds(data: TaskData) -> list[Fold]:
    """Clips that train, choose the epoch and test, as published."""
    if data.fold is not None:
        names = in_order(data.fold.tolist())
        parts = [data.fold == name for name in names]
        return [Fold(i, *map(np.flatnonzero, (~test, test, test))) for i, test in enumerate(parts)]
    train, valid, test = _splits(data)
    return [Fold(0, train, valid if len(valid) else test, test)]


def strict_folds(data: TaskData, seed: int) -> list[Fold]:
    """Clips that train, choose and test, no clip in two of them. seed: of the validation split, where one is cut off.

    Sources stay together where validation is cut off; otherwise splits and folds are taken as the data have them.
    ValueError where nothing is left to train on.
    """
    if data.fold is not None:
        names = in_order(data.fold.tolist())
        if len(names) == 2:  # validation would leave nothing to train on
            parts = [data.fold == name for name in names]
            return [
                Fold(i, *_cut_off(np.flatnonzero(~test), data, seed), np.flatnonzero(test))
                for i, test in enumerate(parts)
            ]
        k, number = len(names), {name: i for i, name in enumerate(names)}
        place = np.array([number[name] for name in data.fold.tolist()])
        return [
            Fold(i, *map(np.flatnonzero, ((place != i) & (place != (i + 1) % k), place == (i + 1) % k, place == i)))
            for i in range(k)
        ]
    train, valid, test = _splits(data)
    train = train[~also_tested(data)[train]]
    if not len(train):
        raise ValueError("all training clips are test clips; nothing is left to train on")
    if not len(valid):
        train, valid = _cut_off(train, data, seed)
    return [Fold(0, train, valid, test)]


def also_tested(data: TaskData) -> NDArray[np.bool_]:
    """(N,) which clips train although they are test clips as well, as where the published recipe trains on these."""
    train, _, test = _splits(data)
    tested = {data.clips[place] for place in test}
    return np.isin(np.arange(len(data.clips)), [place for place in train if data.clips[place] in tested])


def require_taught(data: TaskData, folds: Sequence[Fold]) -> None:
    """ValueError with the classes of test clips that no training clip of their fold has."""
    named, names = data.named, [] if data.fold is None else in_order(data.fold.tolist())
    faults = []
    for fold in folds:
        taught, tested = ({code for place in part for code in named[place]} for part in (fold.train, fold.test))
        if lost := sorted(tested - taught):
            lacks = f"no training clip is left of {_several([data.classes[code] for code in lost])}"
            faults.append(f"{lacks}, tested in fold {names[fold.number]}" if names else lacks)
    if faults:
        raise ValueError("; ".join(faults))


def _splits(data: TaskData) -> tuple[IntArray, IntArray, IntArray]:
    assert data.split is not None
    train, valid, test = (np.flatnonzero(data.split == name) for name in ("train", "valid", "test"))
    return train, valid, test


def _cut_off(train: IntArray, data: TaskData, seed: int) -> tuple[IntArray, IntArray]:
    """Training without, and with, the sources drawn for validation: whole sources, as near to a tenth as they come.

    A source that alone has what is left of a class stays in training, unless none other can be held out.
    """
    names, source = np.unique([data.group[place] for place in train], return_inverse=True)
    named = data.named
    taught = [Counter[int]() for _ in names]  # clips of each class, by source
    for each, place in zip(source.tolist(), train.tolist(), strict=True):
        taught[each].update(named[place])
    left = Counter(code for place in train.tolist() for code in named[place])
    if len(names) < 2:
        raise ValueError("all training clips have one source; none can be held out for validation")
    sizes, wanted = np.bincount(source), HELD_OUT * len(train)
    drawn: list[int] = []
    total = 0
    for each in np.random.default_rng(seed).permutation(len(names)).tolist():
        last = any(left[code] == count for code, count in taught[each].items())
        if abs(total + sizes[each] - wanted) <= abs(total - wanted) and not last:  # too large a one is passed over
            drawn.append(each)
            left -= taught[each]
            total += int(sizes[each])
    held = np.isin(source, drawn or [int(sizes.argmin())])
    return train[~held], train[held]


def drawn_folds(labels: IntArray, fold: Fold, shots: int, draws: int, seed: int) -> list[Fold]:
    """Few-shot training: `draws` folds whose training holds `shots` clips of each class, the rest as in `fold`.

    ValueError names how many clips a class has where they do not suffice.
    """
    classes = np.unique(labels[fold.train])
    members = [fold.train[labels[fold.train] == each] for each in classes]
    fewest = min(len(each) for each in members)
    if fewest < shots:
        raise ValueError(f"{shots} shots: a class has {fewest} training clips only")
    found = []
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        train = np.sort(np.concatenate([rng.choice(each, shots, replace=False) for each in members]))
        found.append(Fold(draw, train, fold.valid, fold.test))
    return found
