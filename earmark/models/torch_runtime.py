"""Helpers for PyTorch models: devices, data types, memory, loading from a folder or the Hugging Face hub.

torch is imported only when a model is loaded; the rest of the project works without it.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from earmark import optional
from earmark.errors import MissingError, shown_cause

DTYPES = ("float32", "bfloat16", "float16")
OUT_OF_MEMORY = ("out of memory", "_status_alloc_failed")
LOST = (
    *("device-side assert", "illegal memory access", "illegal instruction", "illegal address", "misaligned address"),
    *("unspecified launch failure", "launch timed out", "uncorrectable ecc error", "hardware stack error"),
)
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")


def require_library(name: str) -> Any:
    """Import a module of the extra `clap`; MissingError if it is not installed."""
    return optional.require_library(name, "--extra clap", "A local model")


def resolve_device(device: str, dtype: str) -> str:
    """Resolve `auto`, check device and data type, and turn TF32 off (`use_full_float32`).

    Parameters
    ----------
    device : str
        auto, cpu, cuda, cuda:1, mps, …; auto means cuda if available, else cpu.
    dtype : str
        One of `DTYPES`.

    Returns
    -------
    str
        The device.

    Raises
    ------
    MissingError
        If the device is not available, the data type is unknown, or torch is not installed.
    """
    torch = require_library("torch")
    use_full_float32()
    if dtype not in DTYPES:
        raise MissingError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}.")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises any of these
        raise MissingError(
            f"device {device!r} is not available ({shown_cause(error)}); use `auto` to select a GPU if there is one."
        ) from error
    return device


def use_full_float32() -> None:
    """Compute float32 on GPUs in float32.

    By default, torch rounds the inputs of convolutions to the 10 bits of TF32, and of matrix products too where
    TORCH_ALLOW_TF32_CUBLAS_OVERRIDE is set. Embeddings would then differ from those of a CPU by about 1e-3.
    """
    torch = require_library("torch")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that accelerator memory is exhausted.

    Libraries below torch report it as a RuntimeError with a text.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    True
    >>> is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    False
    """
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in OUT_OF_MEMORY)


def accelerator_is_lost(error: BaseException) -> bool:
    """Whether all further work on the accelerator will fail in this process, whatever the input.

    Examples
    --------
    >>> accelerator_is_lost(RuntimeError("CUDA error: device-side assert triggered"))
    True
    >>> accelerator_is_lost(RuntimeError("CUDA error: invalid configuration argument"))
    False
    """
    message = str(error).lower()
    return isinstance(error, RuntimeError) and "cuda error" in message and any(text in message for text in LOST)


def release_memory() -> None:
    """Release cached accelerator memory of torch."""
    torch = require_library("torch")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turn off progress bars and warnings of transformers within a `with` block."""
    logging = require_library("transformers").utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_complete_model(kind: Any, name: str, **options: Any) -> Any:
    """Load a transformers model whose checkpoint has all parameters.

    transformers initialises missing parameters at random.

    Parameters
    ----------
    kind : class
        A transformers class with `from_pretrained`.
    name : str
        Folder or name on the hub.
    **options
        For `from_pretrained`.

    Returns
    -------
    torch.nn.Module
        The model.

    Raises
    ------
    ValueError
        If parameters are missing from the checkpoint.
    """
    network, loaded = kind.from_pretrained(name, output_loading_info=True, **options)
    missing = sorted({parameter for parameter, _ in network.named_parameters()} & set(loaded["missing_keys"]))
    if missing:
        raise ValueError(f"the checkpoint has no weights for {len(missing)} parameters, such as {missing[0]}")
    return network


def dtype_option(dtype: str) -> dict[str, Any]:
    """Keyword argument of `from_pretrained` for the data type; its name depends on the transformers version."""
    version = int(require_library("transformers").__version__.split(".")[0])
    return {"dtype" if version >= 5 else "torch_dtype": getattr(require_library("torch"), dtype)}


@contextlib.contextmanager
def explain_load_errors(name: str, kind: str, hub: str = "") -> Iterator[None]:
    """Convert errors while a model is loaded to a MissingError, and redirect its output to stderr.

    Parameters
    ----------
    name : str
        Folder or name of the model.
    kind : str
        What is loaded, with its article, such as "a CLAP model".
    hub : str
        For models from a folder or the Hugging Face hub: the files that the folder needs. Empty for other models.

    Raises
    ------
    MissingError
        If loading fails, with the cause and what to check.
    """
    folder = Path(name).is_dir()
    if hub and not folder and (name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name):
        raise MissingError(f"{name}: no such folder; give the folder of {kind}, or a name on the Hugging Face hub.")
    try:
        with contextlib.redirect_stdout(sys.stderr), quiet_transformers() if hub else contextlib.nullcontext():
            yield
    except MissingError:
        raise
    except Exception as error:
        cause = f"({type(error).__name__}: {shown_cause(error)})"
        if hub and not folder:
            raise MissingError(
                f"{name}: not a local folder, and cannot be loaded from the Hugging Face hub as {kind} {cause}; check "
                "the name and the connection, or download the model and give its folder."
            ) from error
        remedy = f"its folder needs {hub}" if hub else "check the name, the files and the connection"
        raise MissingError(f"{name}: cannot be loaded as {kind} {cause}; {remedy}.") from error
