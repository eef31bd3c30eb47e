"""What all models that run on torch share: devices, precisions, memory, loading from a folder or the hub.

torch is imported only once a model is wanted: the rest of the project works without it.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from earmark import optional
from earmark.errors import MissingError, shown_cause

DTYPES = ("float32", "bfloat16", "float16")
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")


def require_library(name: str) -> Any:
    """A module of the extra `clap`. Raises MissingError where the extra is not installed."""
    return optional.require_library(name, "--extra clap", "A model that runs here")


def resolve_device(device: str, dtype: str) -> str:
    """The device that `auto` stands for; MissingError for one that is not there or a dtype that is not known."""
    torch = require_library("torch")
    if dtype not in DTYPES:
        raise MissingError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}.")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's three ways to say no
        raise MissingError(
            f"device {device!r} cannot be used here ({shown_cause(error)}); `auto` takes a GPU where there is one."
        ) from error
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the accelerator's memory is full."""
    return any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)


def release_memory() -> None:
    """Give memory that torch keeps for later back to the accelerator."""
    torch = require_library("torch")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """transformers without progress bars and warnings, for a while."""
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
    """A transformers model all of whose parameters are in the checkpoint: absent ones would be drawn at random."""
    network, loaded = kind.from_pretrained(name, output_loading_info=True, **options)
    absent = sorted({parameter for parameter, _ in network.named_parameters()} & set(loaded["missing_keys"]))
    if absent:
        raise ValueError(f"the weights lack {len(absent)} of its parameters, such as {absent[0]}")
    return network


def dtype_option(dtype: str) -> dict[str, Any]:
    """The option that loads weights in a precision; transformers 5 renamed it."""
    version = int(require_library("transformers").__version__.split(".")[0])
    return {"dtype" if version >= 5 else "torch_dtype": getattr(require_library("torch"), dtype)}


@contextlib.contextmanager
def explain_load_errors(name: str, what: str, hub: str = "") -> Iterator[None]:
    """Turn whatever goes wrong while a model is loaded into one sentence, and keep its chatter off stdout.

    hub: for what comes from a folder or the Hugging Face hub through transformers: the files that a folder needs.
    """
    folder = Path(name).is_dir()
    if hub and not folder and (name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name):
        raise MissingError(f"{name}: no such folder; give the folder of {what}, or a name on the Hugging Face hub.")
    try:
        with contextlib.redirect_stdout(sys.stderr), quiet_transformers() if hub else contextlib.nullcontext():
            yield
    except MissingError:
        raise
    except Exception as error:
        cause = f"({type(error).__name__}: {shown_cause(error)})"
        if hub and not folder:
            raise MissingError(
                f"{name}: is no folder here and did not come from the Hugging Face hub as {what} {cause}; check the "
                "name and the connection, or download the model and give its folder."
            ) from error
        remedy = f"its folder needs {hub}" if hub else "check the name, the files and the connection"
        raise MissingError(f"{name}: cannot be loaded as {what} {cause}; {remedy}.") from error
