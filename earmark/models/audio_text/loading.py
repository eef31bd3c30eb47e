"""Models that embed audio and text in one space, loaded from the hub or a local folder.

Nothing here is drawn at random: a model hears pieces that are never longer than its window, each prepared alone, and
what stands beside a piece in a batch does not matter, so that a clip always gets the same embedding.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from earmark.files.hashing import contents_hash
from earmark.models.audio_text.networks import (
    Array,
    Clap,
    Prepared,
    SentenceTransformerModel,
    VoiceClap,
    cast_inputs_hook,
    clap_log_mel,
)
from earmark.models.torch_runtime import (
    WEIGHT_SUFFIXES,
    dtype_option,
    explain_load_errors,
    load_complete_model,
    require_library,
    resolve_device,
)

MODEL_FILES = "the configuration, weights, tokenizer and feature extractor"
VOICECLAP_RATE = 16_000
VOICECLAP_SECONDS = 30.0  # its encoder is of Whisper's kind, which hears so much at once


class AudioTextModel(Protocol):
    """A model that embeds audio and text in one space.

    sample_rate: Hz of the waveforms it takes. window_seconds: the longest piece it hears at once, None for any.
    description: what was loaded, as a summary records it.
    """

    sample_rate: int
    window_seconds: float | None
    description: dict[str, Any]

    def prepare(self, waveform: Array) -> Prepared:
        """The model's input for one piece, computed on the CPU; threads may call it at the same time."""

    def embed_audio(self, pieces: Sequence[Prepared]) -> Array:
        """(n, d) embeddings of n prepared pieces, each the same whatever its neighbours are."""

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """(n, d) embeddings of n sentences, each the same whatever its neighbours are."""


def load_model(
    name: str, device: str = "auto", dtype: str = "float32", max_seconds: float | None = None, clap: bool = False
) -> AudioTextModel:
    """The model of a shortcut, a hub name or a local folder.

    clap: take it for a transformers ClapModel; otherwise a folder's files say what it is, and a hub name is one of
    sentence-transformers. device: auto, cpu, cuda, cuda:1, mps. dtype: one of DTYPES. max_seconds: a window shorter
    than the model's own. Raises MissingError for whatever is not there or not known.
    """
    loader, name = SHORTCUTS.get(name, (load_clap if clap else _loader_for_folder(name), name))
    return loader(name, device, dtype, max_seconds)


def load_clap(
    name: str, device: str = "auto", dtype: str = "float32", max_seconds: float | None = None
) -> AudioTextModel:
    """A ClapModel from a folder or the hub. max_seconds: a window shorter than the model's own."""
    device = resolve_device(device, dtype)
    with explain_load_errors(name, "a CLAP model", hub=MODEL_FILES):
        transformers = require_library("transformers")
        processor = transformers.ClapProcessor.from_pretrained(name)
        network = load_complete_model(transformers.ClapModel, name, **dtype_option(dtype)).to(device).eval()
    extractor = processor.feature_extractor
    extractor._np_extract_fbank_features = partial(clap_log_mel, extractor)
    rate = int(extractor.sampling_rate)
    seconds = _shorter_window(extractor.nb_max_samples / rate, max_seconds)
    known = _description(name, "clap", dtype, device, rate, seconds, "transformers")
    return Clap(network, device, rate, seconds, known, extractor, processor.tokenizer)


def load_sentence_transformer(
    name: str, device: str = "auto", dtype: str = "float32", max_seconds: float | None = None
) -> AudioTextModel:
    """An audio-text model of sentence-transformers from a folder or the hub. max_seconds as in `load_clap`."""
    device = resolve_device(device, dtype)
    with explain_load_errors(name, "a sentence-transformers model", hub=MODEL_FILES):
        network = (
            require_library("sentence_transformers")
            .SentenceTransformer(
                name, device=device, trust_remote_code=_trusts_code(name), model_kwargs=dtype_option(dtype)
            )
            .eval()
        )
        extractor = _audio_feature_extractor(network)
        rate = int(extractor.sampling_rate)
    longest = getattr(extractor, "nb_max_samples", None) or getattr(extractor, "n_samples", None)
    seconds = _shorter_window(longest / rate if longest else None, max_seconds)
    network[0].register_forward_pre_hook(cast_inputs_hook)
    known = _description(
        name, "sentence-transformers", dtype, device, rate, seconds, "transformers", "sentence_transformers"
    )
    return SentenceTransformerModel(network, device, rate, seconds, known)


def load_voiceclap_small(
    name: str = "laion/voiceclap-small", device: str = "auto", dtype: str = "float32", max_seconds: float | None = None
) -> AudioTextModel:
    """A model of VoiceCLAP's kind, which runs code that comes with it. max_seconds as in `load_clap`."""
    device = resolve_device(device, dtype)
    with explain_load_errors(name, "a VoiceCLAP model", hub=MODEL_FILES):
        transformers = require_library("transformers")
        trusted = {"trust_remote_code": _trusts_code(name)}
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **trusted)
        network = (
            load_complete_model(transformers.AutoModel, name, **dtype_option("float32"), **trusted).to(device).eval()
        )
        for method in ("encode_waveform", "encode_text"):
            if not hasattr(network, method):
                raise ValueError(f"it has no method {method}")
    seconds = _shorter_window(VOICECLAP_SECONDS, max_seconds)
    known = _description(name, "voiceclap", dtype, device, VOICECLAP_RATE, seconds, "transformers")
    return VoiceClap(network, device, VOICECLAP_RATE, seconds, known, tokenizer, dtype)


Loader = Callable[[str, str, str, float | None], AudioTextModel]
SHORTCUTS: dict[str, tuple[Loader, str]] = {
    "voiceclap-small": (load_voiceclap_small, "laion/voiceclap-small"),
    "voiceclap-large": (load_sentence_transformer, "laion/voiceclap-large"),
}


def _loader_for_folder(name: str) -> Loader:
    """How to load a folder that is not said to be a ClapModel, by its files."""
    if (Path(name) / "modules.json").is_file() or not (Path(name) / "config.json").is_file():
        return load_sentence_transformer
    config = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") == "clap":
        return load_clap
    return load_voiceclap_small if "auto_map" in config else load_sentence_transformer


def _trusts_code(name: str) -> bool:
    """Whether code that comes with a model may run: that of our shortcuts and of folders that the user has here."""
    return Path(name).is_dir() or name in {known for _, known in SHORTCUTS.values()}


def _audio_feature_extractor(network: Any) -> Any:
    """What turns audio into features within a sentence-transformers model."""
    for module in network.modules():
        for holder in (getattr(module, "processor", None), getattr(module, "tokenizer", None)):
            for extractor in (getattr(holder, "feature_extractor", None), holder):
                if hasattr(extractor, "sampling_rate"):
                    return extractor
    raise ValueError("it has no feature extractor, so it does not hear audio")


def _shorter_window(own: float | None, asked: float | None) -> float | None:
    """The window: what the user asks for, unless the model's own is shorter."""
    return min((seconds for seconds in (own, asked) if seconds is not None), default=None)


def _description(
    name: str, kind: str, dtype: str, device: str, rate: int, seconds: float | None, *libraries: str
) -> dict[str, Any]:
    folder = Path(name).is_dir()
    return {
        "model": Path(name).resolve().name if folder else name,
        "kind": kind,
        **({"weights_sha256": weights_hash(Path(name))} if folder else {"revision": _revision(name)}),
        "dtype": dtype,
        "device": device,
        "sample_rate": rate,
        "window_seconds": seconds,
        **{name: require_library(name).__version__ for name in libraries},
    }


def weights_hash(folder: Path) -> str:
    """The first 16 hex digits of the sha256 of a folder's weight files, one after the other in order of path."""
    return contents_hash(sorted(path for path in folder.rglob("*") if path.suffix in WEIGHT_SUFFIXES))


def _revision(name: str) -> str | None:
    """The commit of the hub that was loaded, which is where the cache keeps it."""
    hub = require_library("huggingface_hub")
    cached = (hub.try_to_load_from_cache(name, file) for file in ("config.json", "modules.json"))
    return next((Path(path).parent.name for path in cached if isinstance(path, str)), None)
