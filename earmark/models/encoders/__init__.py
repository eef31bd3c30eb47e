"""Encoders: audio → one embedding. One string names an encoder, in every script.

logmel                    log-mel mean and deviation, numpy only: the floor to beat
FILE.py[:Class]           an X-ARES encoder, a CASE EmbeddingModel or a HEAR module, unmodified
onnx:FILE                 waveform in, embedding or frames out
hf:ID_OR_PATH             wav2vec 2.0, HuBERT, WavLM, Whisper's encoder, … of transformers
resemblyzer  speechbrain:SOURCE  wespeaker:NAME_OR_DIR  pyannote:ID  nemo:ID
https://…                 a server that embeds, in the shape of OpenAI and infinity
embeddings:FILE           vectors made elsewhere (.npz, or .npy with its ids), by the path of the clip
"""

import importlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earmark.errors import EarmarkError, MissingError

if TYPE_CHECKING:
    from earmark.models.encoders.given import GivenEmbeddings

Array = NDArray[np.float32]
Prepared = Any  # what an encoder makes of a waveform on the CPU
SAME = 1e-6  # relative: two embeddings closer than this do not tell two clips apart


class EmbeddingError(EarmarkError):
    """An encoder gave something that is no embedding."""


@dataclass
class Encoder(ABC):
    """A frozen model that turns a clip into one vector.

    name: for people. sample_rate: Hz of the waveforms it takes. identity: names weights, source and settings, and
    changes when any of them does; fit for a file name. description: what a summary records. dimension: of its
    embeddings, None until the first one is known.
    """

    name: str
    sample_rate: int
    identity: str
    description: dict[str, Any]
    dimension: int | None

    def prepare(self, waveform: Array) -> Prepared:
        """The model's input for one clip, computed on the CPU; threads may call it at the same time."""
        return np.ascontiguousarray(waveform, dtype=np.float32)

    @abstractmethod
    def embed_prepared(self, prepared: Sequence[Prepared]) -> Array:
        """(n, d) vectors of n prepared clips, each the same whatever its neighbours are; not yet checked."""

    def embed(self, waveforms: Sequence[Array]) -> Array:
        """(n, d) float32 embeddings of n mono waveforms at `sample_rate`, each the same whatever its neighbours are.

        Raises EmbeddingError for vectors that are constant, not finite or of a wrong dimension, AudioError for a
        waveform that is too short or silent for the encoder; what a model raises itself passes.
        """
        if not waveforms:
            return np.empty((0, self.dimension or 0), dtype=np.float32)
        found = self.embed_prepared([self.prepare(waveform) for waveform in waveforms])
        self.require_shape(found, len(waveforms))
        for vector in found:
            if fault := wrong(vector, self.dimension):
                raise EmbeddingError(f"{self.name}: {fault}")
        return found

    def require_shape(self, found: Array, n: int) -> None:
        """Make sure that n vectors came, and learn the dimension from the first ones."""
        if found.ndim != 2 or len(found) != n:
            raise EmbeddingError(f"{self.name}: gave an array of shape {found.shape} for {n} clips; (n, d) is expected")
        if self.dimension is None and np.isfinite(found).all():
            self.dimension = found.shape[1]


def wrong(vector: Array, dimension: int | None) -> str:
    """What is wrong with an embedding, in words; empty when nothing is.

    >>> wrong(np.array([3, 3, 3], dtype=np.float32), None)
    'the embedding is constant: all its 3 numbers are 3'
    """
    if dimension is not None and len(vector) != dimension:
        return f"the embedding has {len(vector)} dimensions where {dimension} are expected"
    if not np.isfinite(vector).all():
        return "the embedding is not finite"
    if not len(vector) or (np.ptp(vector) == 0 and (len(vector) > 1 or vector[0] == 0)):
        return f"the embedding is constant: all its {len(vector)} numbers are {vector[0] if len(vector) else 0:g}"
    return ""


def same(one: Array, other: Array) -> bool:
    """Whether two embeddings are so close that they tell nothing apart."""
    distance = np.linalg.norm(one.astype(np.float64) - other)
    return bool(distance <= SAME * max(np.linalg.norm(one.astype(np.float64)), np.finfo(np.float32).tiny))


def identity(name: str, **parts: Any) -> str:
    """A file name made of a readable name and a hash of everything that decides the numbers.

    >>> identity("hf-tiny/wavlm", weights="0a", dtype="float32")
    'hf-tiny-wavlm-6dbe89497aed8343'
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    readable = re.sub(r"[^\w.]+", "-", name).strip("-.")[-60:]
    return f"{readable}-{sha256(text.encode()).hexdigest()[:16]}"


def in_batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Items in their order, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


# What stands before the colon → the module here whose `load(rest, device=…, dtype=…)` makes the encoder.
MODULES = {
    "logmel": "logmel",
    "onnx": "onnx",
    "hf": "huggingface",
    "resemblyzer": "resemblyzer",
    "speechbrain": "toolkits",
    "wespeaker": "toolkits",
    "pyannote": "toolkits",
    "nemo": "toolkits",
    "embeddings": "given",
}
ALONE = {"logmel", "resemblyzer"}
PYTHON_FILE = re.compile(r"^(?P<file>.*\.py)(:(?P<name>\w+))?$")


def load_encoder(
    spec: str, device: str = "auto", dtype: str = "float32", client: Any = None, model: str = "default"
) -> "Encoder | GivenEmbeddings":
    """The encoder that a string names (see the top of this file).

    device: auto, cpu, cuda, cuda:1, mps. dtype: float32, bfloat16 or float16, for models that run on torch. client:
    an `http.Client` with token and time-outs, for an address; model: what the server calls its model. Raises
    MissingError for whatever is not there or not known, with the command that supplies it.
    """
    load = "earmark.models.encoders"
    if spec.startswith(("http://", "https://")):
        return importlib.import_module(f"{load}.endpoint").load(spec, client=client, model=model)
    if found := PYTHON_FILE.match(spec):
        module = importlib.import_module(f"{load}.python_file")
        return module.load(Path(found["file"]), found["name"], device=device, dtype=dtype)
    kind, _, rest = spec.partition(":")
    if kind not in MODULES or bool(rest) == (kind in ALONE):
        known = [kind if kind in ALONE else f"{kind}:…" for kind in MODULES]
        raise MissingError(f"{spec!r} names no encoder; it can be {', '.join(known)}, FILE.py[:Class] or https://…")
    module = importlib.import_module(f"{load}.{MODULES[kind]}")
    loader = getattr(module, f"load_{kind}", None) or module.load
    return loader(rest, device=device, dtype=dtype)
