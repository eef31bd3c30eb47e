"""What every encoder is: audio → one embedding, and where it can, frames and means of layers."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import AudioError
from earmark.errors import EarmarkError
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest, crops

if TYPE_CHECKING:
    pass

Array = NDArray[np.float32]
Prepared = Any  # what an encoder makes of a waveform on the CPU
SAME_EMBEDDING_TOLERANCE = 1e-6  # relative: two embeddings closer than this do not tell two clips apart


class EmbeddingError(EarmarkError):
    """An encoder gave something that is no embedding."""


@dataclass
class Encoder(ABC):
    """A frozen model that turns a clip into one vector, and where it can into frames and means of layers.

    name: for people. sample_rate: Hz of the waveforms it takes. identity: names weights, source and settings, and
    changes when any of them does; fit for a file name. description: what a summary records. dimension: of its
    embeddings, None until the first one is known.
    """

    name: str
    sample_rate: int
    identity: str
    description: dict[str, Any]
    dimension: int | None

    @property
    def has_frames(self) -> bool:
        """Whether the view `frames` can be asked for."""
        return False

    @property
    def hop_seconds(self) -> float | None:
        """From one frame to the next; None where there are no frames or nothing says how far they are apart."""
        return None

    @property
    def layers(self) -> int:
        """How many layers the view `layers` tells apart: its width is that many times `dimension`."""
        return 1

    def width(self, request: EmbeddingRequest = DEFAULT_REQUEST) -> int | None:
        """How many numbers a row of a view has, None until the first one is known."""
        return self.dimension and self.dimension * (self.layers if request.layers else 1)

    def require_support(self, request: EmbeddingRequest) -> None:
        """Raise EarmarkError for a view that this encoder cannot give."""
        if request.frames and not self.has_frames:
            raise EarmarkError(
                f"{self.name}: gives one embedding for a clip and no frames; X-ARES and HEAR files, hf:, logmel and "
                "onnx: files whose output is (batch, frames, d) give frames."
            )

    def prepare(self, waveform: Array) -> Prepared:
        """The model's input for one clip, computed on the CPU; threads may call it at the same time."""
        return np.ascontiguousarray(waveform, dtype=np.float32)

    def prepare_frames(self, waveform: Array) -> Prepared:
        """The same where frames are wanted."""
        return self.prepare(waveform)

    def prepare_clip(self, waveform: Array, request: EmbeddingRequest) -> list[Prepared]:
        """The model's inputs for one clip: its crops, or the whole of it.

        Crops of digital silence, and those that the encoder says are too short or silent for it, are left out, as
        such clips are refused; AudioError where no crop is left.
        """
        if request.crop_seconds is None:
            return [self.prepare_frames(waveform) if request.frames else self.prepare(waveform)]
        found: list[Prepared] = []
        reason = AudioError("is silent in each of its crops")
        for crop in crops(waveform, request.crop_seconds, self.sample_rate):
            try:
                if crop.any():
                    found.append(self.prepare(crop))
            except AudioError as error:
                reason = error
        if not found:
            raise reason
        return found

    @abstractmethod
    def embed_prepared(self, prepared: Sequence[Prepared]) -> Array:
        """(n, d) vectors of n prepared clips, each the same whatever its neighbours are; not yet checked."""

    def frames_prepared(self, prepared: Sequence[Prepared]) -> list[Array]:
        """(T', D) real frames of each of n clips prepared for frames; not yet checked."""
        raise NotImplementedError(f"{type(self).__name__} gives no frames, which `require_support` says")

    def layers_prepared(self, prepared: Sequence[Prepared]) -> Array:
        """(n, L·D) means of all layers, from one pass over the audio; not yet checked."""
        return self.embed_prepared(prepared)

    def encode_prepared(self, prepared: Sequence[Prepared], request: EmbeddingRequest) -> Sequence[Array]:
        """A row (D,) or frames (T', D) for each of n prepared inputs; each an array as a view says, not yet checked."""
        if request.frames:
            found = self.frames_prepared(prepared)
            if len(found) != len(prepared) or any(one.ndim != 2 for one in found):
                shapes = ", ".join(str(one.shape) for one in found[:4])
                raise EmbeddingError(f"{self.name}: gave frames of shapes {shapes} for {len(prepared)} clips")
            return found
        rows = self.layers_prepared(prepared) if request.layers else self.embed_prepared(prepared)
        self.require_shape(rows, len(prepared), self.layers if request.layers else 1)
        return list(rows)

    def combine_pieces(self, rows: Sequence[Array], request: EmbeddingRequest) -> Array:
        """What a clip comes out as, from the rows of its pieces in the order in which `prepare_clip` gave them."""
        return rows[0] if request.crop_seconds is None else np.stack(rows)

    def embed(self, waveforms: Sequence[Array]) -> Array:
        """(n, d) float32 embeddings of n mono waveforms at `sample_rate`, each the same whatever its neighbours are.

        Raises EmbeddingError for vectors that are constant, not finite or of a wrong dimension, AudioError for a
        waveform that is too short or silent for the encoder; what a model raises itself passes.
        """
        if not waveforms:
            return np.empty((0, self.dimension or 0), dtype=np.float32)
        return np.concatenate(self.embed_clips(waveforms, DEFAULT_REQUEST))

    def embed_clips(self, waveforms: Sequence[Array], request: EmbeddingRequest) -> list[Array]:
        """(rows, width) float32 of each waveform, as a view says; errors as in `embed`, and of `require_support`."""
        self.require_support(request)
        prepared = [self.prepare_clip(waveform, request) for waveform in waveforms]
        pieces = [piece for clip in prepared for piece in clip]
        found = self.encode_prepared(pieces, request) if pieces else []
        for rows in found:
            if fault := embedding_fault(rows, self.width(request)):
                raise EmbeddingError(f"{self.name}: {fault}")
        ends = np.cumsum([len(clip) for clip in prepared])
        clips = (found[end - len(clip) : end] for clip, end in zip(prepared, ends, strict=True))
        return [np.atleast_2d(self.combine_pieces(rows, request)) for rows in clips]

    def require_shape(self, found: Array, n: int, layers: int = 1) -> None:
        """Make sure that n vectors came, and learn the dimension from the first ones."""
        if found.ndim != 2 or len(found) != n:
            raise EmbeddingError(f"{self.name}: gave an array of shape {found.shape} for {n} clips; (n, d) is expected")
        if self.dimension is None and np.isfinite(found).all() and found.shape[1] % layers == 0:
            self.dimension = found.shape[1] // layers


def embedding_fault(found: Array, dimension: int | None) -> str:
    """What is wrong with an embedding (d,) or with frames (T', d), in words; empty when nothing is.

    >>> embedding_fault(np.array([3, 3, 3], dtype=np.float32), None)
    'the embedding is constant: all its 3 numbers are 3'
    """
    what = "the embedding is" if found.ndim == 1 else "the frames are"
    has = what.replace("is", "has").replace("are", "have")
    if dimension is not None and found.shape[-1] != dimension:
        return f"{has} {found.shape[-1]} dimensions where {dimension} are expected"
    if found.ndim == 2 and not len(found):
        return "there are no frames"
    if not np.isfinite(found).all():
        return f"{what} not finite"
    if not found.size or (np.ptp(found) == 0 and (found.size > 1 or found.flat[0] == 0)):
        numbers = "its" if found.ndim == 1 else "their"
        return f"{what} constant: all {numbers} {found.size} numbers are {found.flat[0] if found.size else 0:g}"
    return ""


def indistinguishable(one: Array, other: Array) -> bool:
    """Whether two embeddings are so close that they tell nothing apart."""
    distance = np.linalg.norm(one.astype(np.float64) - other)
    return bool(
        distance <= SAME_EMBEDDING_TOLERANCE * max(np.linalg.norm(one.astype(np.float64)), np.finfo(np.float32).tiny)
    )


def encoder_key(name: str, **parts: Any) -> str:
    """A file name made of a readable name and a hash of everything that decides the numbers.

    >>> encoder_key("hf-tiny/wavlm", weights="0a", dtype="float32")
    'hf-tiny-wavlm-6dbe89497aed8343'
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    readable = re.sub(r"[^\w.]+", "-", name).strip("-.")[-60:]
    return f"{readable}-{sha256(text.encode()).hexdigest()[:16]}"
