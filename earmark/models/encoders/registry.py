"""Types of encoders and their specifications. To add a type, add a module and a row to `KINDS`."""

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
    """A type of encoder.

    Attributes
    ----------
    spec : str
        Form of the specification; the part before the colon is the name of the type.
    module : str
        Module of this package. Its function `load_<name>` or `load` creates an encoder from the part after the colon.
    summary : str
        For `--help` and the README.
    """

    spec: str
    module: str
    summary: str

    @property
    def name(self) -> str:
        """The part before the colon."""
        return self.spec.partition(":")[0]

    @property
    def takes_no_argument(self) -> bool:
        """Whether the specification is the name alone."""
        return ":" not in self.spec


KINDS = {
    kind.name: kind
    for kind in (
        EncoderKind("logmel", "logmel", "mean and standard deviation of log-mel bands, without a model: a baseline"),
        EncoderKind("onnx:FILE", "onnx", "ONNX model: waveform in, embedding or frames out"),
        EncoderKind(
            "hf:ID_OR_PATH", "huggingface", "transformers model: wav2vec 2.0, HuBERT, WavLM, Whisper encoder, …"
        ),
        EncoderKind("resemblyzer", "resemblyzer", "GE2E speaker encoder of Resemblyzer"),
        EncoderKind("speechbrain:SOURCE", "speaker_toolkits", "SpeechBrain speaker encoder"),
        EncoderKind(
            "wespeaker:DIR_OR_ID", "wespeaker.loading", "WeSpeaker checkpoint: ResNet, SimAM-ResNet; others by toolkit"
        ),
        EncoderKind(
            "pyannote:ID",
            "speaker_toolkits",
            "pyannote.audio speaker encoder; it runs code in a checkpoint, so trust the file",
        ),
        EncoderKind("nemo:ID", "speaker_toolkits", "NeMo speaker encoder"),
        EncoderKind(
            "embeddings:FILE",
            "precomputed",
            "precomputed embeddings: .npz, .npy with ids, Kaldi .scp or .ark, .parquet",
        ),
    )
}
# Specifications that are recognised by their form.
PYTHON_FILE = re.compile(r"^(?P<file>.*\.py)(:(?P<name>\w+))?$")
OTHER_SPECS = {
    "FILE.py[:Class]": "X-ARES or XARES-LLM encoder, CASE model or HEAR module, unmodified",
    "https://…": "server with an OpenAI-compatible embeddings API, such as infinity",
}


def encoder_specs() -> dict[str, str]:
    """Forms of encoder specifications and their summaries, for `--help` and documentation.

    >>> list(encoder_specs())[:3]
    ['logmel', 'FILE.py[:Class]', 'https://…']
    """
    logmel, *others = KINDS.values()
    return {logmel.spec: logmel.summary, **OTHER_SPECS, **{kind.spec: kind.summary for kind in others}}


def load_encoder(
    spec: str, device: str = "auto", dtype: str = "float32", client: Any = None, model: str = "default"
) -> "Encoder | PrecomputedEmbeddings":
    """Load the encoder of a specification.

    Parameters
    ----------
    spec : str
        One of the forms in `encoder_specs`.
    device : str
        auto, cpu, cuda, cuda:1, mps, …
    dtype : str
        float32, bfloat16 or float16, for PyTorch models.
    client : http.Client, optional
        With token and time-outs, for a URL.
    model : str
        Model name on the server, for a URL.

    Returns
    -------
    Encoder or PrecomputedEmbeddings
        The encoder.

    Raises
    ------
    MissingError
        If the specification is unknown, or the model, a file or a library is missing. The message names the command
        that installs a library.
    EarmarkError
        If a file of precomputed embeddings is invalid.

    Examples
    --------
    >>> load_encoder("logmel").dimension
    80
    """
    package = "earmark.models.encoders"
    if spec.startswith(("http://", "https://")):
        return importlib.import_module(f"{package}.endpoint").load(spec, client=client, model=model)
    if match := PYTHON_FILE.match(spec):
        module = importlib.import_module(f"{package}.user_file")
        return module.load(Path(match["file"]), match["name"], device=device, dtype=dtype)
    name, _, rest = spec.partition(":")
    kind = KINDS.get(name)
    if kind is None or bool(rest) == kind.takes_no_argument:
        forms = [kind.name if kind.takes_no_argument else f"{kind.name}:…" for kind in KINDS.values()]
        raise MissingError(f"unknown encoder {spec!r}; expected {', '.join(forms)}, FILE.py[:Class] or https://…")
    module = importlib.import_module(f"{package}.{kind.module}")
    loader = getattr(module, f"load_{name}", None) or module.load
    return loader(rest, device=device, dtype=dtype)
