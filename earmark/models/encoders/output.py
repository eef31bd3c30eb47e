"""What to compute from a clip: one embedding, its frames, one embedding per crop, or the means of all layers."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from earmark.errors import EarmarkError

Array = NDArray[np.float32]
MIN_LAST_CROP = 0.5  # a shorter last crop is dropped; relative to the crop length


@dataclass(frozen=True)
class EmbeddingRequest:
    """The output to compute from each clip. The default is one embedding: for frame models, the mean over frames.

    Attributes
    ----------
    frames : bool
        Return all frames, (T', D), without padding.
    crop_seconds : float or None
        Cut the clip into consecutive crops of this length and embed each separately: (k, D).
    layers : bool
        Return the mean over frames of every layer, concatenated from first to last: L·D values in place of D. The
        last D values are the default embedding.
    dtype : {"float32", "float16"}
        Storage type of frames. float16 keeps eleven significant bits.

    Raises
    ------
    EarmarkError
        If options exclude each other or `crop_seconds` is not a finite number above 0.

    Examples
    --------
    >>> EmbeddingRequest(crop_seconds=2.5, layers=True).name
    'crops-2.5s-layers'
    """

    frames: bool = False
    crop_seconds: float | None = None
    layers: bool = False
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.frames and (self.layers or self.crop_seconds is not None):
            raise EarmarkError("frames cannot be combined with crop_seconds or layers.")
        if self.crop_seconds is not None and not 0 < self.crop_seconds < np.inf:
            raise EarmarkError(f"crop_seconds is {self.crop_seconds:g}; it must be a finite number above 0.")
        if self.dtype not in ("float32", "float16") or (self.dtype != "float32" and not self.frames):
            raise EarmarkError(f"dtype is {self.dtype}; it must be float32, or float16 for frames.")

    @property
    def name(self) -> str:
        """Short name for folders; empty for the default request."""
        parts = ["frames"] if self.frames else []
        parts += [f"crops-{self.crop_seconds:.12g}s"] if self.crop_seconds is not None else []
        parts += ["layers"] if self.layers else []
        parts += [self.dtype] if self.dtype != "float32" else []
        return "-".join(parts)

    @property
    def ragged(self) -> bool:
        """Whether the number of rows depends on the length of the clip."""
        return self.frames or self.crop_seconds is not None

    @property
    def description(self) -> dict[str, Any]:
        """The request as recorded in summaries and sidecar files."""
        return asdict(self)


DEFAULT_REQUEST = EmbeddingRequest()


def crops(waveform: Array, seconds: float, rate: int) -> list[Array]:
    """Cut a waveform into consecutive crops.

    Parameters
    ----------
    waveform : (n,) float32
    seconds : float
        Length of a crop.
    rate : int
        Sampling rate in Hz.

    Returns
    -------
    list of (≤ round(seconds · rate),) float32
        The last crop may be shorter. It is dropped if it is shorter than half a crop and not the only one.

    Examples
    --------
    >>> [len(crop) for crop in crops(np.zeros(25, dtype=np.float32), seconds=10, rate=1)]
    [10, 10, 5]
    >>> [len(crop) for crop in crops(np.zeros(24, dtype=np.float32), seconds=10, rate=1)]
    [10, 10]
    """
    length = max(1, round(seconds * rate))
    pieces = [waveform[start : start + length] for start in range(0, len(waveform), length)]
    return pieces[:-1] if len(pieces) > 1 and len(pieces[-1]) < MIN_LAST_CROP * length else pieces
