"""Encoders in Python files of the user, unmodified, with one of four interfaces.

X-ARES     an nn.Module whose class name ends in Encoder, with sampling_rate, output_dim and hop_size_in_ms; forward
           maps (B, T) to frames (B, T', D), which are averaged, or to a list of frames, one per layer
XARES-LLM  the interface of the 2026 challenge: an nn.Module whose class name ends in Encoder, with output_dim; forward
           maps 16 kHz audio (B, T) and its mask (B, T) to frames (B, T', D) and their mask (B, T') or None; masks are
           1 for audio and 0 for padding
CASE       a class with load() and extract_embedding(path), called with a temporary 16 kHz WAV file of the decoded
           audio; lines below it that evaluate the model are not executed (`case_source`)
HEAR       a module with load_model(), get_scene_embeddings(audio, model) and get_timestamp_embeddings(audio, model)
"""

import ast
import contextlib
import importlib.util
import inspect
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import soundfile

from earmark.errors import SCRIPT_PLACEHOLDER, MissingError, shown_cause, shown_path
from earmark.files.hashing import files_hash
from earmark.models.batching import concatenate_batches
from earmark.models.encoders import case_source
from earmark.models.encoders.base import Array, Encoder, count_parameters, encoder_key
from earmark.models.encoders.torch_encoder import (
    HearEncoder,
    XaresEncoder,
    as_embeddings,
    frame_output,
    parameters_hash,
    sample_mask,
    torch_and_device,
    weight_files,
    white_noise,
)
from earmark.models.torch_runtime import use_full_float32
from earmark.standard_output import stdout_to_stderr

XARES_ATTRIBUTES = ("sampling_rate", "output_dim", "hop_size_in_ms")
CASE_METHODS = case_source.CASE_METHODS
HEAR_FUNCTIONS = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
CASE_RATE = XARES_LLM_RATE = 16_000
EXCLUDED_MODULES = (
    "__main__",
    "__mp_main__",
    "earmark",
)  # modules of the running script, which may be in the same folder
INSTALLED_FOLDERS = ("site-packages", "dist-packages")
INTERFACES = (
    "an nn.Module whose name ends in Encoder with sampling_rate, output_dim and hop_size_in_ms (X-ARES) or with "
    "output_dim and forward(audio, mask) (XARES-LLM), a class with load() and extract_embedding(path) (CASE), or the "
    "functions load_model, get_scene_embeddings and get_timestamp_embeddings (HEAR)"
)
# torchaudio's last release; it refuses a torch that was built for another CUDA version.
TORCHAUDIO_OPTIONS = "--with torchaudio==2.11.0 --with torch==2.11.0"
EXTRAS = {"sentence_transformers": "clap", "transformers": "clap", "torch": "torch"}  # {import: extra}, larger first


class CaseEncoder(Encoder):
    """An encoder with the CASE interface; each clip is written to a temporary WAV file.

    Parameters
    ----------
    model : object
        An instance with `extract_embedding(path)`.
    file : Path
        The Python file.
    parts : dict
        Everything that affects the embeddings, for `identity` and `description`.
    notes : sequence of str
        What was not executed as written.
    """

    def __init__(self, model: Any, file: Path, parts: dict[str, Any], notes: Sequence[str] = ()) -> None:
        self._model = model
        self._notes = tuple(notes)
        self._takes_path = _takes_path(model)
        dimension = getattr(model, "embedding_dim", None)
        name = getattr(model, "name", None)
        super().__init__(
            name if isinstance(name, str) and name else type(model).__name__,
            CASE_RATE,
            encoder_key(f"{file.stem}-{type(model).__name__}", **parts),
            {"file": file.name, "class": type(model).__name__, **parts, **({"notes": list(notes)} if notes else {})},
            int(dimension) if isinstance(dimension, (int, np.integer)) else None,
        )

    @property
    def n_parameters(self) -> int | None:
        """Number of parameters of all networks of the model."""
        return count_parameters([value for value in vars(self._model).values() if _is_module(type(value))])

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines of the file that were not executed, and a base class that was replaced."""
        return self._notes

    def embed_prepared(self, prepared: Sequence[Array]) -> Array:
        """(n, d) embeddings, one clip at a time; 16 kHz 16-bit audio reaches the model unchanged."""
        return concatenate_batches([self._extract(waveform) for waveform in prepared])

    def _extract(self, waveform: Array) -> Array:
        with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
            path = Path(folder) / "clip.wav"
            samples = np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)
            soundfile.write(path, samples, CASE_RATE, subtype="PCM_16")
            with stdout_to_stderr():
                output = self._model.extract_embedding(path if self._takes_path else str(path))
        if output is None:
            raise ValueError("extract_embedding returned None")
        vector = as_embeddings(output, 1)
        if vector.shape[0] != 1:
            raise ValueError(f"extract_embedding returned shape {vector.shape}")
        return vector


def load(file: Path, name: str | None, device: str = "auto", dtype: str = "float32") -> Encoder:
    """Load an encoder from a Python file.

    Parameters
    ----------
    file : Path
        The file.
    name : str or None
        Class name; None to use the only encoder in the file.
    device, dtype : str
        As in `load_encoder`.

    Returns
    -------
    Encoder
        The encoder.

    Raises
    ------
    MissingError
        If the file is missing, raises an error, or has no encoder or several.
    """
    module = import_file(file)
    selected = _select_encoder(module, file, name)
    shown = f"{shown_path(file)}:{name}" if name else shown_path(file)
    with _explain_user_errors(file, f"{shown} cannot be loaded"):
        if isinstance(selected, ModuleType):
            return _load_hear(selected, file, device, dtype)
        if _is_case(selected):
            return _load_case(selected, file, device, dtype)
        return _load_xares(selected, file, device, dtype)


def import_file(file: Path) -> ModuleType:
    """Import a Python file; it can import modules from its folder, as a script can.

    Lines that evaluate a CASE model below its class are not executed; `case_source.notes` names them.

    Parameters
    ----------
    file : Path
        The file.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    MissingError
        If the file does not exist or raises an error.
    """
    if not file.is_file():
        raise MissingError(f"{shown_path(file)}: no such file; expected FILE.py or FILE.py:Class.")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that installed packages take precedence; kept for imports inside functions
    name = f"earmark_encoder_{sha256(str(file.resolve()).encode() + file.read_bytes()).hexdigest()[:16]}"
    module = importlib.util.module_from_spec(_not_none(importlib.util.spec_from_file_location(name, file.resolve())))
    sys.modules[name] = module  # dataclasses and pickle look it up there
    try:
        with _explain_user_errors(file, f"{shown_path(file)} cannot be imported"), case_source.stand_in():
            tree, skipped = case_source.without_evaluation(ast.parse(file.read_bytes(), str(file.resolve())))
            if skipped:
                exec(compile(tree, str(file.resolve()), "exec", dont_inherit=True), module.__dict__)
            else:
                _not_none(_not_none(module.__spec__).loader).exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _not_none(value: Any) -> Any:
    assert value is not None  # a .py file always has a spec and a loader
    return value


@contextlib.contextmanager
def _explain_user_errors(file: Path, action: str) -> Iterator[None]:
    """Convert an error in user code to a MissingError with its line."""
    try:
        with stdout_to_stderr():
            yield
    except MissingError:
        raise
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) else _line(error, file)
        where = f", line {line}" if line else ""
        remedy = ""
        if isinstance(error, ModuleNotFoundError) and error.name:
            remedy = f"; try `uv run {_install_options(file, error.name)} {SCRIPT_PLACEHOLDER} …`"
        elif isinstance(error, RuntimeError) and "TorchAudio" in str(error):
            remedy = f"; try `uv run {_install_options(file, 'torchaudio')} {SCRIPT_PLACEHOLDER} …`"
        elif not isinstance(error, SyntaxError):
            remedy = case_source.last_statement_advice(ast.parse(file.read_bytes()), line)
        raise MissingError(f"{action}{where}: {type(error).__name__}: {shown_cause(error)}{remedy}") from error


def _install_options(file: Path, missing: str) -> str:
    """Options of `uv run` that install a missing module, and the extra that holds the file's other imports."""
    imported = {missing.split(".")[0]}
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.split(".")[0])
    package = missing.split(".")[0]
    extra = next((f"--extra {EXTRAS[name]}" for name in EXTRAS if name in imported), "")
    if package == "torchaudio":
        return f"{extra or '--extra torch'} {TORCHAUDIO_OPTIONS}"
    return extra if package in EXTRAS else f"{extra} --with {package}".strip()


def _line(error: BaseException, file: Path) -> int | None:
    """The innermost line of a file in the traceback of an error."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno for f in reversed(frames) if Path(f.filename).resolve() == file.resolve()), None)


def _select_encoder(module: ModuleType, file: Path, name: str | None) -> Any:
    """The requested class, the only class with a supported interface, or the module for HEAR."""
    if name is not None:
        requested = getattr(module, name, None)
        if not inspect.isclass(requested):
            available = ", ".join(n for n, c in _classes(module)) or "none"
            raise MissingError(f"{shown_path(file)}: has no class {name}; its classes: {available}.")
        if not _is_case(requested) and not _is_module(requested):
            raise MissingError(f"{shown_path(file)}: {name} is not an encoder; expected {INTERFACES}.")
        return requested
    if all(callable(getattr(module, function, None)) for function in HEAR_FUNCTIONS):
        return module
    encoders = [(n, c) for n, c in _classes(module) if _is_case(c) or _is_xares(c)]
    # Parts of a network may be called Encoder and take a mask, too: such classes count only if there is no other.
    encoders = encoders or [(n, c) for n, c in _classes(module) if c.__name__.endswith("Encoder") and is_xares_llm(c)]
    if not encoders:
        raise MissingError(f"{shown_path(file)}: contains no encoder; expected {INTERFACES}.")
    if len(encoders) > 1:
        choice = ", ".join(f"{shown_path(file)}:{n}" for n, _ in encoders)
        raise MissingError(f"{shown_path(file)}: contains {len(encoders)} encoders; select one: {choice}")
    return encoders[0][1]


def _classes(module: ModuleType) -> list[tuple[str, type]]:
    return [(n, c) for n, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]


def _is_case(kind: type) -> bool:
    return all(callable(getattr(kind, method, None)) for method in CASE_METHODS) and not inspect.isabstract(kind)


def _is_module(kind: type) -> bool:
    return any(base.__module__.startswith("torch.") and base.__name__ == "Module" for base in kind.__mro__)


def _is_xares(kind: type) -> bool:
    """Whether name, base class and attributes match: sub-modules of a network may be named Encoder too."""
    if not kind.__name__.endswith("Encoder") or not _is_module(kind):
        return False
    return set(XARES_ATTRIBUTES) <= _attributes(kind)


def _attributes(kind: type) -> set[str]:
    """Names of the attributes that a class has or sets in its constructors."""
    constructors = [base.__dict__["__init__"] for base in kind.__mro__ if "__init__" in base.__dict__]
    set_in_constructors = {name for init in constructors if inspect.isfunction(init) for name in init.__code__.co_names}
    return set_in_constructors | set(dir(kind)) | set(getattr(kind, "__annotations__", {}))


def is_xares_llm(kind: type, attributes: Collection[str] = ()) -> bool:
    """Whether a class has the interface of XARES-LLM and not all attributes of X-ARES.

    Parameters
    ----------
    kind : type
        A class.
    attributes : collection of str
        Names of further attributes, such as those of an instance.

    Returns
    -------
    bool
        True for a torch module with output_dim whose forward takes two positional arguments.
    """
    available = _attributes(kind) | set(attributes)
    if not _is_module(kind) or "output_dim" not in available or set(XARES_ATTRIBUTES) <= available:
        return False
    return len(mask_parameters(kind)) > 1


def mask_parameters(kind: type) -> list[str]:
    """Names of the first two positional parameters of forward after self; *args counts as two."""
    try:
        parameters = list(inspect.signature(kind.forward).parameters.values())[1:]  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):  # a compiled method shows no signature
        return []
    names: list[str] = []
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
        elif parameter.kind == parameter.VAR_POSITIONAL:
            names += [parameter.name] * 2
    return names[:2]


def _source_hashes(file: Path) -> dict[str, str]:
    """Hashes of the file, the modules it imported from its folder, and weight files in the folder."""
    folder = file.resolve().parent
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] not in EXCLUDED_MODULES]
    imported = (getattr(module, "__file__", None) for module in modules)
    paths = {path for path in imported if path and path.endswith(".py")}
    folders: dict[Path, Path] = {}  # each is resolved once: thousands of modules lie in a few hundred folders
    files = [_resolved(Path(path), folders) for path in paths if Path(path).is_absolute()]  # torch.ops: "_ops.py"
    sources = {file.resolve(), *(path for path in files if _belongs_to_folder(folder, path))}
    hashes = {"source_sha256": files_hash(sorted(sources), folder)}
    if weights := weight_files(folder):
        hashes["files_sha256"] = files_hash(weights, folder)
    return hashes


def _resolved(path: Path, folders: dict[Path, Path]) -> Path:
    """The path without symbolic links; `folders` keeps the resolved folders."""
    if path.is_symlink():
        return path.resolve()
    parent = path.parent
    if parent not in folders:
        folders[parent] = parent.resolve()
    return folders[parent] / path.name


def _belongs_to_folder(folder: Path, path: Path) -> bool:
    """Whether a file is in a folder, but not in a Python installation or virtual environment there."""
    if not path.is_relative_to(folder) or path.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve()):
        return False
    return not any(part.startswith(".") or part in INSTALLED_FOLDERS for part in path.relative_to(folder).parts)


def _load_xares(kind: type, file: Path, device: str, dtype: str) -> Encoder:
    torch, device = torch_and_device(device, dtype)
    network = kind()
    takes_mask = is_xares_llm(kind, vars(network))
    required = ("output_dim",) if takes_mask else XARES_ATTRIBUTES
    missing = [attribute for attribute in required if not hasattr(network, attribute)]
    if missing:
        raise MissingError(f"{shown_path(file)}: {kind.__name__} lacks {', '.join(missing)}, required by X-ARES.")
    network.to(device).eval()
    rate, dimension = int(getattr(network, "sampling_rate", XARES_LLM_RATE)), int(network.output_dim)
    takes_mask = takes_mask or _returns_mask(kind, network, rate, device)
    parts: dict[str, Any] = {
        "contract": "xares-llm" if takes_mask else "xares",
        "class": kind.__name__,
        **_source_hashes(file),
        "weights_sha256": parameters_hash(network),
    }
    parts |= {"dtype": dtype, "sample_rate": rate}
    description = {"file": file.name, **parts, "device": device, "torch": torch.__version__}
    hop = float(network.hop_size_in_ms) if hasattr(network, "hop_size_in_ms") else None
    if hop is not None and not 0 < hop < np.inf:
        raise MissingError(f"{shown_path(file)}: {kind.__name__} has hop_size_in_ms {hop:g}; it must be above 0.")
    description["hop_size_in_ms"] = hop
    name = encoder_key(f"{file.stem}-{kind.__name__}", **parts)
    return XaresEncoder(
        kind.__name__,
        rate,
        name,
        description,
        dimension,
        (lambda waveforms: network(waveforms, sample_mask(waveforms))) if takes_mask else network,
        device,
        dtype,
        network=network,
        hop=None if hop is None else hop / 1000,
        takes_mask=takes_mask,
    )


def _returns_mask(kind: type, network: Any, rate: int, device: str) -> bool:
    """Whether a class with all X-ARES attributes and forward(audio, mask) returns a pair of features and a mask."""
    if "mask" not in " ".join(mask_parameters(kind)[1:]).lower():
        return False
    torch = torch_and_device(device, "float32")[0]
    waveforms = torch.from_numpy(white_noise(1.0, rate)[None]).to(device)
    try:
        with torch.inference_mode():
            output = network(waveforms, sample_mask(waveforms))
        if not isinstance(output, (list, tuple)) or len(output) != 2:
            return False
        # A second layer has three axes, or as many entries as the first has dimensions.
        frame_output(output, 1, takes_mask=True).frames()
    except Exception:  # user code may raise anything; the checks and the tasks report it
        return False
    return True


def _load_case(kind: type, file: Path, device: str, dtype: str) -> Encoder:
    if "torch" in sys.modules:  # a model that takes no device chooses one itself
        use_full_float32()
    model = kind(**_device_argument(kind, device, dtype))
    model.load(**_device_argument(model.load, device, dtype))
    weights = {n: parameters_hash(v) for n, v in sorted(vars(model).items()) if _is_module(type(v))}
    return CaseEncoder(
        model,
        file,
        {"contract": "case", "class": kind.__name__, **_source_hashes(file), "weights": weights},
        case_source.notes(file),
    )


def _takes_path(model: Any) -> bool:
    """Whether extract_embedding expects a Path, as the benchmark passes, and not a str.

    It does if its parameter says so, and in classes of the benchmark's base class unless its parameter says otherwise.
    """
    try:
        parameters = [*inspect.signature(model.extract_embedding).parameters.values()]
    except (TypeError, ValueError):  # a compiled method shows no signature
        parameters = []
    annotation = parameters[0].annotation if parameters else inspect.Parameter.empty
    if annotation is not inspect.Parameter.empty:
        return "Path" in str(annotation)
    return any(base.__name__ == case_source.BASE_CLASS for base in type(model).__mro__)


def _device_argument(function: Any, device: str, dtype: str) -> dict[str, str]:
    """The argument `device` of a function that takes one; without torch, the CPU."""
    if "device" not in inspect.signature(function).parameters:
        return {}
    if device in ("auto", "cpu") and importlib.util.find_spec("torch") is None:
        return {"device": "cpu"}
    return {"device": torch_and_device(device, dtype)[1]}


def _load_hear(module: ModuleType, file: Path, device: str, dtype: str) -> Encoder:
    torch, device = torch_and_device(device, dtype)
    weights = weight_files(file.resolve().parent)
    parameters = list(inspect.signature(module.load_model).parameters.values())
    # HEAR: load_model(model_file_path=""). If the folder has a single weight file, it is the checkpoint.
    path = str(weights[0]) if len(weights) == 1 else ""
    takes_path = parameters and (path or parameters[0].default is inspect.Parameter.empty)
    model = module.load_model(*([path] if takes_path else []))
    rate = int(model.sample_rate)
    parts: dict[str, Any] = {"contract": "hear", **_source_hashes(file), "dtype": dtype, "sample_rate": rate}
    if _is_module(type(model)):
        model.to(device).eval()
        parts["weights_sha256"] = parameters_hash(model)
    size = getattr(model, "scene_embedding_size", None)
    description = {"file": file.name, **parts, "device": device, "torch": torch.__version__}

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
        description,
        dimension,
        forward,
        device,
        dtype,
        network=model,
        timestamps=timestamps,
        frame_dimension=int(frame_size) if frame_size is not None else None,
    )
