"""Embed the clips of a task into one array, with an encoder or from precomputed embeddings."""

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

MAX_SHOWN = 20  # listed names; further ones are only counted


@dataclass(frozen=True)
class Features:
    """Embeddings of n clips, R rows in total.

    Attributes
    ----------
    x : (R, D) float
        Embeddings, crops or frames.
    clip : (R,) int
        Clip of each row.
    offsets : (n + 1,) int
        First row of each clip, and R.
    crops : bool
        Whether rows are crops of clips.
    """

    x: FloatArray
    clip: IntArray
    offsets: IntArray
    crops: bool = False

    @classmethod
    def from_clips(cls, clip_rows: Sequence[FloatArray], crops: bool = False) -> "Features":
        """Concatenate the rows of all clips.

        Parameters
        ----------
        clip_rows : sequence of (r, D) float
            Rows of each clip.
        crops : bool
            Whether rows are crops of clips.
        """
        counts = np.array([len(rows) for rows in clip_rows], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return cls(np.concatenate(clip_rows), np.repeat(np.arange(len(clip_rows)), counts), offsets, crops)

    def row_indices(self, clips: IntArray) -> IntArray:
        """Row indices of clips.

        Parameters
        ----------
        clips : (k,) int
            Clip indices.

        Returns
        -------
        (rows,) int
            In the order of `clips`.
        """
        return item_rows(clips, self.offsets)

    def means(self) -> FloatArray:
        """(n, D) mean over the rows of each clip."""
        if len(self.x) == len(self.offsets) - 1:
            return np.asarray(self.x, dtype=np.float32)
        sums = np.add.reduceat(self.x.astype(np.float64), self.offsets[:-1], axis=0)
        return np.asarray(sums / np.diff(self.offsets)[:, np.newaxis], dtype=np.float32)


class FeatureRows:
    """Collects the embeddings of n clips in any order.

    Vectors are written into the array of the features at once. A list of them would need the memory twice.

    Parameters
    ----------
    n : int
        Number of clips.

    Examples
    --------
    >>> rows = FeatureRows(3)
    >>> rows.add([2, 0], np.array([1.0, 2.0], dtype=np.float32))
    >>> features, has_embedding = rows.features()
    >>> features.x.tolist(), has_embedding.tolist()
    ([[1.0, 2.0], [1.0, 2.0]], [True, False, True])
    """

    def __init__(self, n: int) -> None:
        self._has_embedding = np.zeros(n, dtype=np.bool_)
        self._vectors: FloatArray | None = None
        self._ragged: list[FloatArray | None] = []

    def add(self, positions: Sequence[int], embedding: FloatArray) -> None:
        """Add the embedding of the clips at these positions: (D,), or (r, D) crops or frames."""
        self._has_embedding[positions] = True
        if embedding.ndim == 1:
            if self._vectors is None:
                self._vectors = np.empty((len(self._has_embedding), len(embedding)), embedding.dtype)
            self._vectors[positions] = embedding
            return
        self._ragged = self._ragged or [None] * len(self._has_embedding)
        for position in positions:
            self._ragged[position] = embedding

    def features(self, crops: bool = False) -> tuple[Features, NDArray[np.bool_]]:
        """The rows of the clips that have an embedding, and a mask of those clips.

        Parameters
        ----------
        crops : bool
            Whether rows are crops of clips.

        Raises
        ------
        ValueError
            If no clip has an embedding.
        """
        if self._vectors is None:
            return Features.from_clips([rows for rows in self._ragged if rows is not None], crops), self._has_embedding
        x = self._vectors if self._has_embedding.all() else self._vectors[self._has_embedding]
        return Features(x, np.arange(len(x)), np.arange(len(x) + 1), crops), self._has_embedding


@dataclass(frozen=True)
class ClipEmbedder:
    """Embeds the clips of tasks with an encoder and its embedding cache, or looks up precomputed embeddings.

    Attributes
    ----------
    encoder : Encoder or PrecomputedEmbeddings
        Source of the embeddings.
    cache : EmbeddingCache
        Cache of the encoder's embeddings.
    batch_size : int
        Clips per batch.
    allow_missing : bool
        Whether clips without an embedding are excluded instead of raising an error.
    track_progress : callable
        Wraps an iterable of embeddings and its length in a progress bar.
    """

    encoder: Encoder | PrecomputedEmbeddings
    cache: EmbeddingCache
    batch_size: int
    allow_missing: bool = False
    track_progress: TrackProgress = lambda embeddings, n: embeddings

    @property
    def hop_seconds(self) -> float | None:
        """Seconds between frames; None if unknown."""
        return getattr(self.encoder, "hop_seconds", None)

    def embed(
        self, clips: Sequence[Clip], request: EmbeddingRequest, ids: Mapping[Clip, Sequence[Path]] | None = None
    ) -> tuple[Features, NDArray[np.bool_]]:
        """Embed clips; a clip that occurs several times is embedded once.

        Parameters
        ----------
        clips : sequence of Clip
            The clips.
        request : EmbeddingRequest
            Requested form: frames, crops, layers.
        ids : mapping, optional
            {clip: possible ids in precomputed embeddings} (`candidate_ids`). There is one embedding per clip, whatever
            its length.

        Returns
        -------
        features : Features
            Rows of the clips that have an embedding.
        has_embedding : (n,) bool
            Clips that have an embedding.

        Raises
        ------
        EarmarkError
            With the clips that have no embedding; with `allow_missing` only if no clip has one.
        """
        positions: dict[Clip, list[int]] = {}
        for position, clip in enumerate(clips):
            positions.setdefault(clip, []).append(position)
        collected = FeatureRows(len(clips))
        faults: dict[str, list[str]] = {}
        for clip, embedding in self.track_progress(
            self._embeddings(list(positions), request, ids or {}), len(positions)
        ):
            if embedding.vector is None:
                reason = embedding.error.removeprefix(f"{shown_clip(clip)}: ")
                faults.setdefault(reason, []).append(shown_clip(clip))
                continue
            vector = embedding.vector
            collected.add(positions[clip], vector.astype(np.float16) if request.dtype == "float16" else vector)
        if faults and not (self.allow_missing and sum(map(len, faults.values())) < len(positions)):
            raise _missing_embeddings_error(faults)
        crops = request.crop_seconds is not None and not isinstance(self.encoder, PrecomputedEmbeddings)
        return collected.features(crops)

    def _embeddings(
        self, clips: list[Clip], request: EmbeddingRequest, ids: Mapping[Clip, Sequence[Path]]
    ) -> ClipEmbeddings:
        if not isinstance(self.encoder, PrecomputedEmbeddings):
            return self.cache.embed(self.encoder, clips, request=request, batch_size=self.batch_size)
        precomputed = self.encoder
        precomputed.require_support(replace(request, crop_seconds=None))
        return ((clip, precomputed.lookup(*ids[clip])) for clip in clips)


def _missing_embeddings_error(faults: Mapping[str, Sequence[str]]) -> EarmarkError:
    """Error that lists the clips without an embedding by reason."""
    n_clips = sum(map(len, faults.values()))
    lines = sorted(f"{format_names(sorted(names))}: {reason}" for reason, names in faults.items())
    more = [f"and {len(lines) - MAX_SHOWN:,} more"] if len(lines) > MAX_SHOWN else []
    count = "1 clip has" if n_clips == 1 else f"{n_clips:,} clips have"
    advice = "Use --allow-missing to exclude and count them."
    return EarmarkError("\n  ".join([f"{count} no embedding:", *lines[:MAX_SHOWN], *more, advice]))


def format_names(names: Sequence[str]) -> str:
    """Join names for a message; only the first ones are listed."""
    more = f" and {len(names) - MAX_SHOWN:,} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def candidate_ids(task: str, data: TaskData, root: Path) -> dict[Clip, list[Path]]:
    """Possible ids of each clip in precomputed embeddings, most specific first.

    The ids are: the path below the data root (for a tar member: <tar>:<member>); <task>/<name>, where the name is the
    path in the manifest or x.tar:member; the name; the name of the tar member. Ids shared by several clips are dropped.

    Parameters
    ----------
    task : str
        Name of the task.
    data : TaskData
        Its clips.
    root : Path
        The data root.

    Returns
    -------
    dict
        {clip: ids}.
    """
    candidates: dict[Clip, list[Path]] = {}
    for clip, name in zip(data.clips, data.names, strict=True):
        file, member = (clip.tar, f":{clip.name}") if isinstance(clip, TarMember) else (clip, "")
        under_root = [Path(f"{file.relative_to(root)}{member}")] if file.is_relative_to(root) else []
        member_names = [Path(clip.name)] if isinstance(clip, TarMember) else []
        candidates[clip] = list(dict.fromkeys([*under_root, Path(task) / name, Path(name), *member_names]))
    owners = Counter(id_ for ids in candidates.values() for id_ in ids)
    return {clip: [id_ for id_ in ids if owners[id_] == 1] or ids[:1] for clip, ids in candidates.items()}
