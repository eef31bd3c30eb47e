"""A task's clips as arrays: embeddings one under the other, whichever of them an encoder makes or a file holds."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import Clip, TarMember, shown_clip
from earmark.embeddings.cache import EmbeddingCache
from earmark.errors import EarmarkError
from earmark.models.embedding import Embedding
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.output import EmbeddingRequest
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.probing.data import TaskData
from earmark.probing.heads.batched import item_rows

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]
ClipEmbeddings = Iterable[tuple[Clip, Embedding]]
TrackProgress = Callable[[ClipEmbeddings, int], ClipEmbeddings]

MAX_SHOWN = 20


@dataclass(frozen=True)
class Features:
    """Embeddings of all clips one under the other: x (R, D), clip (R,), and offsets (n + 1,) of each clip's rows.

    crops: whether a row is a crop of its clip, and not the whole.
    """

    x: FloatArray
    clip: IntArray
    offsets: IntArray
    crops: bool = False

    @classmethod
    def from_clips(cls, found: Sequence[FloatArray], crops: bool = False) -> "Features":
        """From the rows of each clip."""
        counts = np.array([len(each) for each in found], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return cls(np.concatenate(found), np.repeat(np.arange(len(found)), counts), offsets, crops)

    def row_indices(self, clips: IntArray) -> IntArray:
        """The rows of the clips, in their order."""
        return item_rows(clips, self.offsets)

    def means(self) -> FloatArray:
        """The mean of each clip's rows, (n, D)."""
        if len(self.x) == len(self.offsets) - 1:
            return np.asarray(self.x, dtype=np.float32)
        sums = np.add.reduceat(self.x.astype(np.float64), self.offsets[:-1], axis=0)
        return np.asarray(sums / np.diff(self.offsets)[:, np.newaxis], dtype=np.float32)


@dataclass(frozen=True)
class ClipEmbedder:
    """What embeds the clips of tasks: an encoder, whose embeddings go through the store, or embeddings made elsewhere.

    batch_size: clips at a time. allow_missing: clips without an embedding are left out. watch: follows the progress.
    """

    encoder: Encoder | PrecomputedEmbeddings
    store: EmbeddingCache
    batch_size: int
    allow_missing: bool = False
    track_progress: TrackProgress = lambda made, n: made

    @property
    def hop_seconds(self) -> float | None:
        """From frame to frame; None where nothing says so."""
        return getattr(self.encoder, "hop_seconds", None)

    def embed(
        self, clips: Sequence[Clip], request: EmbeddingRequest, ids: Mapping[Clip, Sequence[Path]] | None = None
    ) -> tuple[Features, NDArray[np.bool_]]:
        """The rows of the clips, from the store where they are known, and which clips have any.

        EarmarkError lists the clips that have none, unless they are allowed to be missing; then only where all are.
        ids: under which embeddings made elsewhere, one for a clip whatever its length, may have it (`ids_of`).
        """
        places: dict[Clip, list[int]] = {}
        for place, clip in enumerate(clips):
            places.setdefault(clip, []).append(place)
        found: list[FloatArray | None] = [None] * len(clips)
        faults: dict[str, list[str]] = {}
        for clip, embedding in self.track_progress(self._made(list(places), request, ids or {}), len(places)):
            if embedding.vector is None:
                reason = embedding.error.removeprefix(f"{shown_clip(clip)}: ")
                faults.setdefault(reason, []).append(shown_clip(clip))
                continue
            rows = np.atleast_2d(embedding.vector)
            rows = rows.astype(np.float16) if request.dtype == "float16" else rows
            for place in places[clip]:
                found[place] = rows
        if faults and not (self.allow_missing and sum(map(len, faults.values())) < len(places)):
            raise _without_embedding(faults)
        kept = np.array([rows is not None for rows in found])
        crops = request.crop_seconds is not None and not isinstance(self.encoder, PrecomputedEmbeddings)
        return Features.from_clips([rows for rows in found if rows is not None], crops), kept

    def _made(self, clips: list[Clip], request: EmbeddingRequest, ids: Mapping[Clip, Sequence[Path]]) -> ClipEmbeddings:
        if not isinstance(self.encoder, PrecomputedEmbeddings):
            return self.store.embed(self.encoder, clips, request=request, batch_size=self.batch_size)
        given = self.encoder
        given.require_support(replace(request, crop_seconds=None))
        return ((clip, given.lookup(*ids[clip])) for clip in clips)


def _without_embedding(faults: Mapping[str, Sequence[str]]) -> EarmarkError:
    """faults: {what is wrong: the clips}."""
    n = sum(map(len, faults.values()))
    lines = sorted(f"{format_names(sorted(of))}: {reason}" for reason, of in faults.items())
    more = [f"and {len(lines) - MAX_SHOWN:,} more"] if len(lines) > MAX_SHOWN else []
    many = "1 clip has" if n == 1 else f"{n:,} clips have"
    advice = "--allow-missing leaves them out and counts them."
    return EarmarkError("\n  ".join([f"{many} no embedding:", *lines[:MAX_SHOWN], *more, advice]))


def format_names(names: Sequence[str]) -> str:
    """Names in a message, and how many more there are."""
    more = f" and {len(names) - MAX_SHOWN:,} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def candidate_ids(task: str, data: TaskData, root: Path) -> dict[Clip, list[Path]]:
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
