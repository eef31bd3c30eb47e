"""The kinds of encoders. One string names an encoder, in every script; adding a kind is adding a module and a row."""

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earmark.errors import MissingError

if TYPE_CHECKING:
    from earmark.models.encoders.base import Encoder
    from earmark.models.encoders.precomputed import PrecomputedEmbeddings


@dataclass(frozen=True)
class EncoderKind:
    """spec: how such an encoder is named; what comes before a colon is the kind. module: of this package, whose
    `load_<kind>` or `load` makes the encoder from the rest and device and dtype. summary: for help and README.
    """

    spec: str
    module: str
    summary: str

    @property
    def name(self) -> str:
        """What comes before the colon."""
        return self.spec.partition(":")[0]

    @property
    def alone(self) -> bool:
        """Whether the name is all there is."""
        return ":" not in self.spec


KINDS = {
    kind.name: kind
    for kind in (
        EncoderKind("logmel", "logmel", "log-mel mean and deviation, numpy only: a baseline"),
        EncoderKind("onnx:FILE", "onnx", "waveform in, embedding or frames out"),
        EncoderKind("hf:ID_OR_PATH", "huggingface", "wav2vec 2.0, HuBERT, WavLM, Whisper's encoder, … of transformers"),
        EncoderKind("resemblyzer", "resemblyzer", "Resemblyzer's GE2E encoder"),
        EncoderKind("speechbrain:SOURCE", "speaker_toolkits", "a speaker encoder of SpeechBrain"),
        EncoderKind("wespeaker:NAME_OR_DIR", "speaker_toolkits", "a speaker encoder of WeSpeaker"),
        EncoderKind("pyannote:ID", "speaker_toolkits", "a speaker encoder of pyannote.audio"),
        EncoderKind("nemo:ID", "speaker_toolkits", "a speaker encoder of NeMo"),
        EncoderKind("embeddings:FILE", "precomputed", "precomputed: .npz, .npy with ids, Kaldi .scp or .ark, .parquet"),
    )
}
# What is told by its look.
PYTHON_FILE = re.compile(r"^(?P<file>.*\.py)(:(?P<name>\w+))?$")
OTHER_SPECS = {
    "FILE.py[:Class]": "an X-ARES encoder, a CASE model or a HEAR module, unmodified",
    "https://…": "a server that embeds, in the shape of OpenAI and infinity",
}


def encoder_specs() -> dict[str, str]:
    """{how an encoder is named: what it is}, for help and documents.

    >>> list(encoder_specs())[:3]
    ['logmel', 'FILE.py[:Class]', 'https://…']
    """
    logmel, *others = KINDS.values()
    return {logmel.spec: logmel.summary, **OTHER_SPECS, **{kind.spec: kind.summary for kind in others}}


def load_encoder(
    spec: str, device: str = "auto", dtype: str = "float32", client: Any = None, model: str = "default"
) -> "Encoder | PrecomputedEmbeddings":
    """The encoder that a string names, one of `encoder_specs`.

    device: auto, cpu, cuda, cuda:1, mps. dtype: float32, bfloat16 or float16, for models that run on torch. client:
    an `http.Client` with token and time-outs, for an address; model: what the server calls its model. Raises
    MissingError for whatever is not there or not known, with the command that supplies it.
    """
    package = "earmark.models.encoders"
    if spec.startswith(("http://", "https://")):
        return importlib.import_module(f"{package}.endpoint").load(spec, client=client, model=model)
    if found := PYTHON_FILE.match(spec):
        module = importlib.import_module(f"{package}.user_file")
        return module.load(Path(found["file"]), found["name"], device=device, dtype=dtype)
    name, _, rest = spec.partition(":")
    kind = KINDS.get(name)
    if kind is None or bool(rest) == kind.alone:
        known = [known.name if known.alone else f"{known.name}:…" for known in KINDS.values()]
        raise MissingError(f"{spec!r} names no encoder; it can be {', '.join(known)}, FILE.py[:Class] or https://…")
    module = importlib.import_module(f"{package}.{kind.module}")
    loader = getattr(module, f"load_{name}", None) or module.load
    return loader(rest, device=device, dtype=dtype)
