"""Loading of audio-text models from the Hugging Face hub or a local folder.

Embeddings are deterministic: windows are never longer than the model allows (so there is no random cropping), each
window is prepared separately, and the rest of the batch has no influence.
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
from earmark.models.audio_text.published import VOICECLAP, Kind, voiceclap_kind
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
VOICECLAP_SECONDS = 30.0  # the window of its Whisper encoder


class AudioTextModel(Protocol):
    """A model that embeds audio and text in one space.

    Attributes
    ----------
    sample_rate : int
        Sample rate of its input in Hz.
    window_seconds : float or None
        Maximum length of a window; None for no limit.
    description : dict
        Model, weights, settings and library versions, as recorded in summaries.
    """

    sample_rate: int
    window_seconds: float | None
    description: dict[str, Any]

    def prepare(self, waveform: Array) -> Prepared:
        """Compute the model input of one window on the CPU; thread-safe.

        Parameters
        ----------
        waveform : (n,) float32
            At most `window_seconds` of samples at `sample_rate`.

        Returns
        -------
        Any
            Input of `embed_audio`.
        """

    def embed_audio(self, windows: Sequence[Prepared]) -> Array:
        """Embed windows.

        Parameters
        ----------
        windows : sequence
            n results of `prepare`.

        Returns
        -------
        (n, d) float32
            Embeddings, independent of the rest of the batch.
        """

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Embed sentences.

        Parameters
        ----------
        texts : sequence of str
            n sentences; sentences beyond the limit of the model are truncated.

        Returns
        -------
        (n, d) float32
            Embeddings, independent of the rest of the batch.
        """


def load_model(
    name: str, device: str = "auto", dtype: str = "float32", max_seconds: float | None = None, clap: bool = False
) -> AudioTextModel:
    """Load an audio-text model.

    Parameters
    ----------
    name : str
        One of `published.VOICECLAP`, a name on the Hugging Face hub, or a local folder.
    device : str
        auto, cpu, cuda, cuda:1, mps, …
    dtype : str
        float32, bfloat16 or float16.
    max_seconds : float, optional
        Maximum length of a window, if shorter than the limit of the model.
    clap : bool
        Load a transformers ClapModel, unless the name is that of a VoiceCLAP model or the folder holds a
        sentence-transformers model. By default, the files of a folder determine the type; a name on the hub is a
        VoiceCLAP model if it belongs to that family, else a sentence-transformers model.

    Returns
    -------
    AudioTextModel
        The model.

    Raises
    ------
    MissingError
        If the model, the device or a library is not available.
    """
    name = VOICECLAP[name][0] if name in VOICECLAP else name
    other_kind = voiceclap_kind(name) is not None or (Path(name) / "modules.json").is_file()
    loader = load_clap if clap and not other_kind else _loader_for(name)
    return loader(name, device, dtype, max_seconds)


def load_clap(
    name: str, device: str = "auto", dtype: str = "float32", max_seconds: float | None = None
) -> AudioTextModel:
    """Load a transformers ClapModel.

    Parameters
    ----------
    name : str
        Folder, or name on the Hugging Face hub.
    device, dtype, max_seconds
        As in `load_model`.

    Returns
    -------
    AudioTextModel
        The model.

    Raises
    ------
    MissingError
        If the model, the device or a library is not available.
    """
    device = resolve_device(device, dtype)
    with explain_load_errors(name, "a CLAP model", hub=MODEL_FILES):
        transformers = require_library("transformers")
        processor = transformers.ClapProcessor.from_pretrained(name)
        network = load_complete_model(transformers.ClapModel, name, **dtype_option(dtype)).to(device).eval()
    extractor = processor.feature_extractor
    extractor._np_extract_fbank_features = partial(clap_log_mel, extractor)
    rate = int(extractor.sampling_rate)
    seconds = _shorter_window(extractor.nb_max_samples / rate, max_seconds)
    description = _description(name, "clap", dtype, device, rate, seconds, "transformers")
    return Clap(network, device, rate, seconds, description, extractor, processor.tokenizer)


def load_sentence_transformer(
    name: str, device: str = "auto", dtype: str = "float32", max_seconds: float | None = None
) -> AudioTextModel:
    """Load a sentence-transformers model.

    Parameters
    ----------
    name : str
        Folder, or name on the Hugging Face hub.
    device, dtype, max_seconds
        As in `load_model`.

    Returns
    -------
    AudioTextModel
        The model.

    Raises
    ------
    MissingError
        If the model, the device or a library is not available.
    """
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
    description = _description(
        name, "sentence-transformers", dtype, device, rate, seconds, "transformers", "sentence_transformers"
    )
    return SentenceTransformerModel(network, device, rate, seconds, description)


def load_voiceclap_small(
    name: str = "laion/voiceclap-small", device: str = "auto", dtype: str = "float32", max_seconds: float | None = None
) -> AudioTextModel:
    """Load a VoiceCLAP model, which runs code from its repository.

    Parameters
    ----------
    name : str
        Folder, or name on the Hugging Face hub.
    device, dtype, max_seconds
        As in `load_model`.

    Returns
    -------
    AudioTextModel
        The model.

    Raises
    ------
    MissingError
        If the model, the device or a library is not available.
    """
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
                raise ValueError(f"the model has no method {method}")
    seconds = _shorter_window(VOICECLAP_SECONDS, max_seconds)
    description = _description(name, "voiceclap", dtype, device, VOICECLAP_RATE, seconds, "transformers")
    return VoiceClap(network, device, VOICECLAP_RATE, seconds, description, tokenizer, dtype)


Loader = Callable[[str, str, str, float | None], AudioTextModel]
LOADERS: dict[Kind, Loader] = {"voiceclap": load_voiceclap_small, "sentence-transformers": load_sentence_transformer}


def _loader_for(name: str) -> Loader:
    """Choose the loader by the files of a folder, or by the family of a hub id."""
    kind = None if Path(name).is_dir() else voiceclap_kind(name)
    if kind is not None:
        return LOADERS[kind]
    if (Path(name) / "modules.json").is_file() or not (Path(name) / "config.json").is_file():
        return load_sentence_transformer
    config = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") == "clap":
        return load_clap
    return load_voiceclap_small if "auto_map" in config else load_sentence_transformer


def _trusts_code(name: str) -> bool:
    """Whether code from the model repository may run: for the VoiceCLAP family and local folders only."""
    return Path(name).is_dir() or voiceclap_kind(name) is not None


def _audio_feature_extractor(network: Any) -> Any:
    """The audio feature extractor within a sentence-transformers model."""
    for module in network.modules():
        for holder in (getattr(module, "processor", None), getattr(module, "tokenizer", None)):
            for extractor in (getattr(holder, "feature_extractor", None), holder):
                if hasattr(extractor, "sampling_rate"):
                    return extractor
    raise ValueError("the model has no feature extractor, so it does not take audio")


def _shorter_window(model_limit: float | None, requested: float | None) -> float | None:
    """The requested window length, or the limit of the model if that is shorter."""
    return min((seconds for seconds in (model_limit, requested) if seconds is not None), default=None)


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
    """First 16 hexadecimal digits of the SHA-256 of the concatenated weight files of a folder, sorted by path."""
    return contents_hash(sorted(path for path in folder.rglob("*") if path.suffix in WEIGHT_SUFFIXES))


def _revision(name: str) -> str | None:
    """The loaded commit on the hub, from the path of the file cache."""
    hub = require_library("huggingface_hub")
    cached = (hub.try_to_load_from_cache(name, file) for file in ("config.json", "modules.json"))
    return next((Path(path).parent.name for path in cached if isinstance(path, str)), None)
