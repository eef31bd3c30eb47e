"""A user's Python file as an encoder, unmodified, by any of three contracts.

X-ARES   an nn.Module whose class name ends in Encoder, with sampling_rate, output_dim, hop_size_in_ms; forward
         (B, T) → (B, T', D), of which the mean over frames counts, or a list of such frames, one for each layer
CASE     a class with load() and extract_embedding(path); it gets a temporary 16 kHz wav of the decoded audio
HEAR     a module with load_model(), get_scene_embeddings(audio, model) and get_timestamp_embeddings(audio, model)
"""

import contextlib
import importlib.util
import inspect
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import soundfile

from earmark.errors import SCRIPT_PLACEHOLDER, MissingError, shown_cause, shown_path
from earmark.files.hashing import files_hash
from earmark.models.batching import concatenate_batches
from earmark.models.encoders.base import Array, Encoder, encoder_key
from earmark.models.encoders.torch_encoder import (
    HearEncoder,
    XaresEncoder,
    as_embeddings,
    parameters_hash,
    torch_and_device,
    weight_files,
)

XARES_ATTRIBUTES = ("sampling_rate", "output_dim", "hop_size_in_ms")
CASE_METHODS = ("load", "extract_embedding")
HEAR_FUNCTIONS = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
CASE_RATE = 16_000
EXCLUDED_MODULES = ("__main__", "__mp_main__", "earmark")  # modules of the script that runs, which may lie beside one
INSTALLED_FOLDERS = ("site-packages", "dist-packages")
CONTRACTS = (
    "an nn.Module whose name ends in Encoder with sampling_rate, output_dim and hop_size_in_ms (X-ARES), a class with "
    "load() and extract_embedding(path) (CASE), or the functions load_model, get_scene_embeddings and "
    "get_timestamp_embeddings (HEAR)"
)


class CaseEncoder(Encoder):
    """A CASE EmbeddingModel, which wants a path: one temporary wav after the other."""

    def __init__(self, model: Any, file: Path, parts: dict[str, Any]) -> None:
        self._model = model
        dimension = getattr(model, "embedding_dim", None)
        name = getattr(model, "name", None)
        super().__init__(
            name if isinstance(name, str) and name else type(model).__name__,
            CASE_RATE,
            encoder_key(f"{file.stem}-{type(model).__name__}", **parts),
            {"file": file.name, "class": type(model).__name__, **parts},
            int(dimension) if isinstance(dimension, (int, np.integer)) else None,
        )

    def embed_prepared(self, prepared: Sequence[Array]) -> Array:
        """Clips one by one, written as 16-bit wav: 16 kHz 16-bit audio arrives as it was."""
        return concatenate_batches([self._extract(waveform) for waveform in prepared])

    def _extract(self, waveform: Array) -> Array:
        with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
            path = Path(folder) / "clip.wav"
            samples = np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)
            soundfile.write(path, samples, CASE_RATE, subtype="PCM_16")
            with contextlib.redirect_stdout(sys.stderr):
                found = self._model.extract_embedding(str(path))
        if found is None:
            raise ValueError("extract_embedding gave None")
        vector = as_embeddings(found, 1)
        if vector.shape[0] != 1:
            raise ValueError(f"extract_embedding gave an array of shape {vector.shape}")
        return vector


def load(file: Path, name: str | None, device: str = "auto", dtype: str = "float32") -> Encoder:
    """The encoder in a file. name: its class, where the file holds several. Raises MissingError with the reason."""
    module = import_file(file)
    found = _select_encoder(module, file, name)
    shown = f"{shown_path(file)}:{name}" if name else shown_path(file)
    with _explain_user_errors(file, f"{shown} cannot be loaded"):
        if isinstance(found, ModuleType):
            return _load_hear(found, file, device, dtype)
        if _is_case(found):
            return _load_case(found, file, device, dtype)
        return _load_xares(found, file, device, dtype)


def import_file(file: Path) -> ModuleType:
    """A Python file as a module; modules beside it can be imported by it, as if it were run as a script."""
    if not file.is_file():
        raise MissingError(f"{shown_path(file)}: no such file; an encoder is FILE.py or FILE.py:Class.")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that nothing installed is hidden; it stays for imports inside functions
    name = f"earmark_encoder_{sha256(str(file.resolve()).encode() + file.read_bytes()).hexdigest()[:16]}"
    module = importlib.util.module_from_spec(_not_none(importlib.util.spec_from_file_location(name, file.resolve())))
    sys.modules[name] = module  # dataclasses and pickles look it up there
    try:
        with _explain_user_errors(file, f"{shown_path(file)} cannot be imported"):
            _not_none(_not_none(module.__spec__).loader).exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _not_none(value: Any) -> Any:
    assert value is not None  # a .py file always has a spec and a loader
    return value


@contextlib.contextmanager
def _explain_user_errors(file: Path, what: str) -> Iterator[None]:
    """An error in a user's file becomes one sentence that names its line."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except MissingError:
        raise
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) else _line(error, file)
        where = f", line {line}" if line else ""
        help_ = ""
        if isinstance(error, ModuleNotFoundError) and error.name:
            package = error.name.split(".")[0]
            options = "--extra torch" if package == "torch" else f"--with {package}"
            help_ = f"; `uv run {options} {SCRIPT_PLACEHOLDER} …` supplies a package of that name"
        raise MissingError(f"{what}{where}: {type(error).__name__}: {shown_cause(error)}{help_}") from error


def _line(error: BaseException, file: Path) -> int | None:
    """The line of a file that an error last passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno for f in reversed(frames) if Path(f.filename).resolve() == file.resolve()), None)


def _select_encoder(module: ModuleType, file: Path, name: str | None) -> Any:
    """The class that is asked for or the only one that keeps a contract, or the module itself."""
    if name is not None:
        found = getattr(module, name, None)
        if not inspect.isclass(found):
            there = ", ".join(n for n, c in _classes(module)) or "none"
            raise MissingError(f"{shown_path(file)}: has no class {name}; its classes: {there}.")
        if not _is_case(found) and not _is_module(found):
            raise MissingError(f"{shown_path(file)}: {name} is no encoder; it can be {CONTRACTS}.")
        return found
    if all(callable(getattr(module, function, None)) for function in HEAR_FUNCTIONS):
        return module
    own = [(n, c) for n, c in _classes(module) if _is_case(c) or _is_xares(c)]
    if not own:
        raise MissingError(f"{shown_path(file)}: holds no encoder. One is {CONTRACTS}.")
    if len(own) > 1:
        choice = ", ".join(f"{shown_path(file)}:{n}" for n, _ in own)
        raise MissingError(f"{shown_path(file)}: holds {len(own)} encoders; say which one: {choice}")
    return own[0][1]


def _classes(module: ModuleType) -> list[tuple[str, type]]:
    return [(n, c) for n, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]


def _is_case(kind: type) -> bool:
    return all(callable(getattr(kind, method, None)) for method in CASE_METHODS) and not inspect.isabstract(kind)


def _is_module(kind: type) -> bool:
    return any(base.__module__.startswith("torch.") and base.__name__ == "Module" for base in kind.__mro__)


def _is_xares(kind: type) -> bool:
    """By name, base, and the attributes it has or that its constructors set: parts of networks end in Encoder too."""
    if not kind.__name__.endswith("Encoder") or not _is_module(kind):
        return False
    constructors = [base.__dict__["__init__"] for base in kind.__mro__ if "__init__" in base.__dict__]
    set_there = {name for init in constructors if inspect.isfunction(init) for name in init.__code__.co_names}
    return set(XARES_ATTRIBUTES) <= set_there | set(dir(kind)) | set(getattr(kind, "__annotations__", {}))


def _source_hashes(file: Path) -> dict[str, str]:
    """Hashes of the file with what it imported from its own folder and packages in it, and of weights beside it."""
    folder = file.resolve().parent
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] not in EXCLUDED_MODULES]
    imported = (getattr(module, "__file__", None) for module in modules)
    found = {Path(path).resolve() for path in imported if path and path.endswith(".py") and Path(path).is_absolute()}
    sources = {
        file.resolve(),
        *(path for path in found if _belongs_to_folder(folder, path)),
    }  # torch.ops says it is "_ops.py"
    hashes = {"source_sha256": files_hash(sorted(sources), folder)}
    if weights := weight_files(folder):
        hashes["files_sha256"] = files_hash(weights, folder)
    return hashes


def _belongs_to_folder(folder: Path, path: Path) -> bool:
    """Whether a file belongs to a folder, and not to a Python or an environment that lies in there too."""
    if not path.is_relative_to(folder) or path.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve()):
        return False
    return not any(part.startswith(".") or part in INSTALLED_FOLDERS for part in path.relative_to(folder).parts)


def _load_xares(kind: type, file: Path, device: str, dtype: str) -> Encoder:
    torch, device = torch_and_device(device, dtype)
    network = kind()
    lacking = [attribute for attribute in XARES_ATTRIBUTES if not hasattr(network, attribute)]
    if lacking:
        raise MissingError(f"{shown_path(file)}: {kind.__name__} lacks {', '.join(lacking)}, which X-ARES asks for.")
    network.to(device).eval()
    rate, dimension = int(network.sampling_rate), int(network.output_dim)
    parts: dict[str, Any] = {
        "contract": "xares",
        "class": kind.__name__,
        **_source_hashes(file),
        "weights_sha256": parameters_hash(network),
    }
    parts |= {"dtype": dtype, "sample_rate": rate}
    described = {"file": file.name, **parts, "device": device, "torch": torch.__version__}
    hop = float(network.hop_size_in_ms)
    if not 0 < hop < np.inf:
        raise MissingError(f"{shown_path(file)}: {kind.__name__} has hop_size_in_ms {hop:g}; it is a time above 0.")
    described["hop_size_in_ms"] = hop
    name = encoder_key(f"{file.stem}-{kind.__name__}", **parts)
    return XaresEncoder(
        kind.__name__, rate, name, described, dimension, network, device, dtype, network=network, hop=hop / 1000
    )


def _load_case(kind: type, file: Path, device: str, dtype: str) -> Encoder:
    model = kind(**_device_argument(kind, device, dtype))
    model.load(**_device_argument(model.load, device, dtype))
    inside = {n: parameters_hash(v) for n, v in sorted(vars(model).items()) if _is_module(type(v))}
    return CaseEncoder(
        model, file, {"contract": "case", "class": kind.__name__, **_source_hashes(file), "weights": inside}
    )


def _device_argument(function: Any, device: str, dtype: str) -> dict[str, str]:
    if "device" not in inspect.signature(function).parameters:
        return {}
    return {"device": torch_and_device(device, dtype)[1]}


def _load_hear(module: ModuleType, file: Path, device: str, dtype: str) -> Encoder:
    torch, device = torch_and_device(device, dtype)
    weights = weight_files(file.resolve().parent)
    parameters = list(inspect.signature(module.load_model).parameters.values())
    # HEAR: load_model(model_file_path=""); the only weight file beside the module is taken for its checkpoint.
    path = str(weights[0]) if len(weights) == 1 else ""
    needed = parameters and (path or parameters[0].default is inspect.Parameter.empty)
    model = module.load_model(*([path] if needed else []))
    rate = int(model.sample_rate)
    parts: dict[str, Any] = {"contract": "hear", **_source_hashes(file), "dtype": dtype, "sample_rate": rate}
    if _is_module(type(model)):
        model.to(device).eval()
        parts["weights_sha256"] = parameters_hash(model)
    size = getattr(model, "scene_embedding_size", None)
    described = {"file": file.name, **parts, "device": device, "torch": torch.__version__}

    def forward(waveforms: Any) -> Any:
        return module.get_scene_embeddings(waveforms, model)

    def timestamps(waveforms: Any) -> Any:
        return module.get_timestamp_embeddings(waveforms, model)

    name = encoder_key(file.stem, **parts)
    dimension = int(size) if size is not None else None
    frame_size = getattr(model, "timestamp_embedding_size", None)
    return HearEncoder(
        file.stem,
        rate,
        name,
        described,
        dimension,
        forward,
        device,
        dtype,
        network=model,
        timestamps=timestamps,
        frame_dimension=int(frame_size) if frame_size is not None else None,
    )
