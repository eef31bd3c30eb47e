"""Base class of encoders: audio to one embedding and, if supported, frames and means of all layers."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import AudioError
from earmark.errors import EarmarkError
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest, crops

Array = NDArray[np.float32]
Prepared = Any  # model input computed from a waveform on the CPU
SAME_EMBEDDING_TOLERANCE = 1e-6  # relative distance below which two embeddings count as identical


class EmbeddingError(EarmarkError):
    """An encoder returned an invalid embedding."""


@dataclass
class Encoder(ABC):
    """A frozen model that maps a clip to one embedding and, if supported, to frames and means of all layers.

    Attributes
    ----------
    name : str
        Name for messages and reports.
    sample_rate : int
        Sample rate of its input in Hz.
    identity : str
        Changes whenever weights, source or settings change; valid as a file name.
    description : dict
        Model, weights and settings, as recorded in summaries.
    dimension : int or None
        Of an embedding; None until the first embedding is known.
    """

    name: str
    sample_rate: int
    identity: str
    description: dict[str, Any]
    dimension: int | None

    @property
    def has_frames(self) -> bool:
        """Whether the encoder returns frames."""
        return False

    @property
    def hop_seconds(self) -> float | None:
        """Time between frames in seconds; None without frames or if unknown."""
        return None

    @property
    def layers(self) -> int:
        """Number of layers L; with `EmbeddingRequest.layers` a row has L·`dimension` values."""
        return 1

    @property
    def layers_advice(self) -> str:
        """What a user can do to get several layers from an encoder with one layer; empty if nothing is known."""
        return ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about how the encoder was loaded, one sentence each."""
        return ()

    @property
    def n_parameters(self) -> int | None:
        """Number of parameters of the network; None without a network or if unknown."""
        return count_parameters([getattr(self, "network", None)])

    def width(self, request: EmbeddingRequest = DEFAULT_REQUEST) -> int | None:
        """Number of values per row.

        Parameters
        ----------
        request : EmbeddingRequest
            What to compute.

        Returns
        -------
        int or None
            D, or L·D for all layers; None until the first embedding is known.
        """
        return self.dimension and self.dimension * (self.layers if request.layers else 1)

    def require_support(self, request: EmbeddingRequest) -> None:
        """Raise EarmarkError if the encoder does not support a request."""
        if request.frames and not self.has_frames:
            raise EarmarkError(
                f"{self.name}: returns one embedding per clip and no frames. Encoders with frames: X-ARES and HEAR "
                "files, hf:, logmel, and onnx: files with output (batch, frames, d)."
            )

    def prepare(self, waveform: Array) -> Prepared:
        """Compute the model input for one clip on the CPU; thread-safe.

        Parameters
        ----------
        waveform : (n,) float32
            Samples at `sample_rate`.

        Returns
        -------
        Any
            Input of `embed_prepared` and `layers_prepared`.

        Raises
        ------
        AudioError
            If the clip is too short or silent for the encoder.
        """
        return np.ascontiguousarray(waveform, dtype=np.float32)

    def prepare_frames(self, waveform: Array) -> Prepared:
        """Compute the model input for the frames of one clip; by default the same as `prepare`.

        Parameters
        ----------
        waveform : (n,) float32
            Samples at `sample_rate`.

        Returns
        -------
        Any
            Input of `frames_prepared`.

        Raises
        ------
        AudioError
            If the clip is too short or silent for the encoder.
        """
        return self.prepare(waveform)

    def prepare_clip(self, waveform: Array, request: EmbeddingRequest) -> list[Prepared]:
        """Compute the model inputs for one clip: one for the clip or one per crop.

        Crops that are all zeros, or that the encoder rejects as too short or silent, are excluded.

        Parameters
        ----------
        waveform : (n,) float32
            Samples at `sample_rate`.
        request : EmbeddingRequest
            What to compute.

        Returns
        -------
        list
            Model inputs.

        Raises
        ------
        AudioError
            If the encoder rejects the clip or all of its crops.
        """
        if request.crop_seconds is None:
            return [self.prepare_frames(waveform) if request.frames else self.prepare(waveform)]
        inputs: list[Prepared] = []
        reason = AudioError("is silent in every crop")
        for crop in crops(waveform, request.crop_seconds, self.sample_rate):
            try:
                if crop.any():
                    inputs.append(self.prepare(crop))
            except AudioError as error:
                reason = error
        if not inputs:
            raise reason
        return inputs

    @abstractmethod
    def embed_prepared(self, prepared: Sequence[Prepared]) -> Array:
        """Embed prepared clips. Subclasses implement this method.

        Parameters
        ----------
        prepared : sequence
            n results of `prepare`.

        Returns
        -------
        (n, d) float32
            Embeddings, independent of the rest of the batch; not checked.
        """

    def frames_prepared(self, prepared: Sequence[Prepared]) -> list[Array]:
        """Compute frames of prepared clips.

        Parameters
        ----------
        prepared : sequence
            n results of `prepare_frames`.

        Returns
        -------
        list of (T', D) float32
            Frames per clip without padding, independent of the rest of the batch; not checked.
        """
        raise NotImplementedError(f"{type(self).__name__} has no frames; call `require_support` first")

    def layers_prepared(self, prepared: Sequence[Prepared]) -> Array:
        """Compute the means over frames of all layers in one forward pass.

        Parameters
        ----------
        prepared : sequence
            n results of `prepare`.

        Returns
        -------
        (n, L·D) float32
            Layers in order; the last D values are the embedding. Not checked.
        """
        return self.embed_prepared(prepared)

    def encode_prepared(self, prepared: Sequence[Prepared], request: EmbeddingRequest) -> Sequence[Array]:
        """Encode prepared inputs.

        Parameters
        ----------
        prepared : sequence
            n model inputs.
        request : EmbeddingRequest
            What to compute.

        Returns
        -------
        sequence of arrays
            A row (D,) or (L·D,), or frames (T', D), per input. Only the shapes are checked.

        Raises
        ------
        EmbeddingError
            If the number or the shape of the results is invalid.
        """
        if request.frames:
            frames = self.frames_prepared(prepared)
            if len(frames) != len(prepared) or any(array.ndim != 2 for array in frames):
                shapes = ", ".join(str(array.shape) for array in frames[:4])
                raise EmbeddingError(f"{self.name}: returned frames of shapes {shapes} for {len(prepared)} clips")
            return frames
        rows = self.layers_prepared(prepared) if request.layers else self.embed_prepared(prepared)
        self.require_shape(rows, len(prepared), self.layers if request.layers else 1)
        return list(rows)

    def combine_pieces(self, rows: Sequence[Array], request: EmbeddingRequest) -> Array:
        """Combine the rows of one clip.

        Parameters
        ----------
        rows : sequence of arrays
            Results of `encode_prepared` in the order of `prepare_clip`.
        request : EmbeddingRequest
            What to compute.

        Returns
        -------
        array
            The only row, or all rows stacked for crops.
        """
        return rows[0] if request.crop_seconds is None else np.stack(rows)

    def embed(self, waveforms: Sequence[Array]) -> Array:
        """Embed clips, one embedding each.

        Parameters
        ----------
        waveforms : sequence of (n,) float32
            Mono waveforms at `sample_rate`.

        Returns
        -------
        (n, d) float32
            Embeddings, independent of the other clips.

        Raises
        ------
        EmbeddingError
            If an embedding is constant, not finite or of another dimension.
        AudioError
            If a waveform is too short or silent for the encoder.
        Exception
            Any exception of the model itself.
        """
        if not waveforms:
            return np.empty((0, self.dimension or 0), dtype=np.float32)
        return np.concatenate(self.embed_clips(waveforms, DEFAULT_REQUEST))

    def embed_clips(self, waveforms: Sequence[Array], request: EmbeddingRequest) -> list[Array]:
        """Embed clips as requested.

        Parameters
        ----------
        waveforms : sequence of (n,) float32
            Mono waveforms at `sample_rate`.
        request : EmbeddingRequest
            What to compute.

        Returns
        -------
        list of (rows, width) float32
            One array per clip.

        Raises
        ------
        EarmarkError
            If the encoder does not support the request.
        EmbeddingError, AudioError, Exception
            As `embed`.
        """
        self.require_support(request)
        prepared = [self.prepare_clip(waveform, request) for waveform in waveforms]
        pieces = [piece for clip in prepared for piece in clip]
        results = self.encode_prepared(pieces, request) if pieces else []
        for rows in results:
            if fault := embedding_fault(rows, self.width(request)):
                raise EmbeddingError(f"{self.name}: {fault}")
        ends = np.cumsum([len(clip) for clip in prepared])
        clips = (results[end - len(clip) : end] for clip, end in zip(prepared, ends, strict=True))
        return [np.atleast_2d(self.combine_pieces(rows, request)) for rows in clips]

    def require_shape(self, vectors: Array, n: int, layers: int = 1) -> None:
        """Check that there are n vectors, and set `dimension` if it is unknown.

        Parameters
        ----------
        vectors : array
            The output of a model for n clips.
        n : int
            Number of clips.
        layers : int
            Number of layers in a row.

        Raises
        ------
        EmbeddingError
            If the shape is not (n, d).
        """
        if vectors.ndim != 2 or len(vectors) != n:
            raise EmbeddingError(f"{self.name}: returned shape {vectors.shape} for {n} clips; expected ({n}, d)")
        if self.dimension is None and np.isfinite(vectors).all() and vectors.shape[1] % layers == 0:
            self.dimension = vectors.shape[1] // layers


def embedding_fault(embedding: Array, dimension: int | None) -> str:
    """Describe the fault of an invalid embedding.

    Parameters
    ----------
    embedding : (d,) or (T', d) float32
        An embedding or frames.
    dimension : int or None
        Expected number of dimensions, None for any.

    Returns
    -------
    str
        A sentence if the embedding is constant, empty, not finite or of another dimension; else an empty string.

    Examples
    --------
    >>> embedding_fault(np.array([3, 3, 3], dtype=np.float32), None)
    'the embedding is constant: all 3 values are 3'
    """
    subject = "the embedding is" if embedding.ndim == 1 else "the frames are"
    has = subject.replace("is", "has").replace("are", "have")
    if dimension is not None and embedding.shape[-1] != dimension:
        return f"{has} {embedding.shape[-1]} dimensions where {dimension} are expected"
    if embedding.ndim == 2 and not len(embedding):
        return "there are no frames"
    if not np.isfinite(embedding).all():
        return f"{subject} not finite"
    if not embedding.size or (np.ptp(embedding) == 0 and (embedding.size > 1 or embedding.flat[0] == 0)):
        value = embedding.flat[0] if embedding.size else 0
        return f"{subject} constant: all {embedding.size} values are {value:g}"
    return ""


def indistinguishable(first: Array, second: Array) -> bool:
    """Whether two embeddings are identical up to rounding.

    Parameters
    ----------
    first, second : (d,) or (T', d) float32
        Embeddings of equal shape.

    Returns
    -------
    bool
        True if the norm of the difference is at most `SAME_EMBEDDING_TOLERANCE` times the norm of the first.

    Examples
    --------
    >>> indistinguishable(np.array([1.0, 2.0], dtype=np.float32), np.array([1.0, 2.1], dtype=np.float32))
    False
    """
    scale = max(np.linalg.norm(first.astype(np.float64)), np.finfo(np.float32).tiny)
    return bool(np.linalg.norm(first.astype(np.float64) - second) <= SAME_EMBEDDING_TOLERANCE * scale)


def encoder_key(name: str, **parts: Any) -> str:
    """Build a file name from a readable name and a hash of everything that affects the embeddings.

    Parameters
    ----------
    name : str
        Readable name; other characters than letters, digits, underscore and dot become hyphens.
    **parts
        Weights, source, settings and versions.

    Returns
    -------
    str
        Name and 16 hexadecimal digits.

    Examples
    --------
    >>> encoder_key("hf-tiny/wavlm", weights="0a", dtype="float32")
    'hf-tiny-wavlm-6dbe89497aed8343'
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    readable = re.sub(r"[^\w.]+", "-", name).strip("-.")[-60:]
    return f"{readable}-{sha256(text.encode()).hexdigest()[:16]}"


def count_parameters(networks: Sequence[Any]) -> int | None:
    """Number of parameters of torch networks; None if there are none. Other objects are not counted."""
    functions = [getattr(network, "parameters", None) for network in networks]
    return sum(values.numel() for function in functions if callable(function) for values in function()) or None
