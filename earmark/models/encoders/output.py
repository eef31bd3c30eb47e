"""What of a clip is wanted: one embedding, its frames, an embedding for each crop, the means of all layers."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from earmark.errors import EarmarkError

Array = NDArray[np.float32]
LEAST = 0.5  # of a crop's length: what the last crop must have


@dataclass(frozen=True)
class EmbeddingRequest:
    """What an encoder is asked for. The plain view is a clip's one embedding: of frames, the mean over real ones.

    frames: (T', D), all real frames in their order. crop_seconds: (k, D), the embeddings of consecutive crops of that
    length, each embedded alone. layers: instead of D numbers, L·D of them, the mean over frames of the first layer,
    then of the second, …, the last of which is the plain embedding. dtype: in which frames are stored; float16 keeps
    eleven bits of each number. Raises EarmarkError for what does not go together.

    >>> EmbeddingRequest(crop_seconds=2.5, layers=True).name
    'crops-2.5s-layers'
    """

    frames: bool = False
    crop_seconds: float | None = None
    layers: bool = False
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.frames and (self.layers or self.crop_seconds is not None):
            raise EarmarkError("Frames are those of the whole clip and the last layer: ask for no crops and no layers.")
        if self.crop_seconds is not None and not 0 < self.crop_seconds < np.inf:
            raise EarmarkError(f"Crops of {self.crop_seconds:g} s cannot be made; crop_seconds is a length above 0.")
        if self.dtype not in ("float32", "float16") or (self.dtype != "float32" and not self.frames):
            raise EarmarkError(f"{self.dtype}: frames are stored in float32 or float16, all else in float32.")

    @property
    def name(self) -> str:
        """Fit for a file name; empty for the plain view."""
        parts = ["frames"] if self.frames else []
        parts += [f"crops-{self.crop_seconds:.12g}s"] if self.crop_seconds is not None else []
        parts += ["layers"] if self.layers else []
        parts += [self.dtype] if self.dtype != "float32" else []
        return "-".join(parts)

    @property
    def ragged(self) -> bool:
        """Whether a clip has as many rows as its length gives, and not one."""
        return self.frames or self.crop_seconds is not None

    @property
    def description(self) -> dict[str, Any]:
        """What a summary or a sidecar records."""
        return asdict(self)


DEFAULT_REQUEST = EmbeddingRequest()


def crops(waveform: Array, seconds: float, rate: int) -> list[Array]:
    """Consecutive crops of a waveform; the last one is shorter, and is left out when shorter than half a crop.

    A waveform shorter than one crop is its only crop, however short it is.

    >>> [len(crop) for crop in crops(np.zeros(25, dtype=np.float32), seconds=10, rate=1)]
    [10, 10, 5]
    >>> [len(crop) for crop in crops(np.zeros(24, dtype=np.float32), seconds=10, rate=1)]
    [10, 10]
    """
    length = max(1, round(seconds * rate))
    found = [waveform[start : start + length] for start in range(0, len(waveform), length)]
    return found[:-1] if len(found) > 1 and len(found[-1]) < LEAST * length else found
