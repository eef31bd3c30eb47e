"""What encoders that run a network share: toolkits, hashes of weights, equal-length batches, means."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from earmark.errors import MissingError
from earmark.models.audio_text import WEIGHTS, usable_device
from earmark.models.embedders import by_length, shown_cause
from earmark.models.encoders import Array, Encoder

SCRIPT = "evaluate_speaker.py"


def toolkit(name: str, options: str) -> Any:
    """A module that is not among the base dependencies. options: of `uv run`, that supply it."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not error.name or error.name.split(".")[0] != name.split(".")[0]:
            raise MissingError(
                f"{name} is installed, but cannot be imported ({shown_cause(error)}): `uv run {options} {SCRIPT} …`"
            ) from error
        raise MissingError(
            f"This encoder needs {name}, which is not installed: `uv run {options} {SCRIPT} …`"
        ) from error
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        raise MissingError(
            f"{name} is installed, but cannot be imported ({shown_cause(error)}); try `uv run {options} {SCRIPT} …`"
        ) from error


def torch_and_device(device: str, dtype: str, options: str = "--extra torch") -> tuple[Any, str]:
    """torch, and the device that `auto` stands for."""
    torch = toolkit("torch", options)
    return torch, usable_device(device, dtype)


@contextlib.contextmanager
def loading(name: str, what: str) -> Iterator[None]:
    """Turn whatever goes wrong while a model is loaded into one sentence, and keep its chatter off stdout."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except MissingError:
        raise
    except Exception as error:
        raise MissingError(
            f"{name}: cannot be loaded as {what} ({type(error).__name__}: {shown_cause(error)}); check the name, "
            "the files and the connection."
        ) from error


def weights_of(network: Any) -> str:
    """16 hex digits over the names, types, shapes and numbers of a network's parameters and buffers."""
    torch = toolkit("torch", "--extra torch")
    digest = sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        if torch.is_tensor(value):
            numbers = value.detach().cpu().contiguous()
            digest.update(f"{numbers.dtype}{tuple(numbers.shape)}".encode())
            digest.update(numbers.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def files_hash(paths: Sequence[Path], root: Path) -> str:
    """16 hex digits over the paths below `root` and the contents of files."""
    digest = sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            content = sha256()
            while block := file.read(1 << 20):
                content.update(block)
        digest.update(f"{path.relative_to(root).as_posix()}\0{content.hexdigest()}\0".encode())
    return digest.hexdigest()[:16]


def weight_files(folder: Path) -> list[Path]:
    """Files right in a folder that hold weights."""
    suffixes = {*WEIGHTS, ".ckpt", ".onnx", ".nemo", ".npz", ".h5"}
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in suffixes)


@dataclass
class NetworkEncoder(Encoder):
    """An encoder around a function of a batch of waveforms.

    forward: (B, T) float32 tensor on the device → (B, D), or (B, T', D) whose mean over frames counts. Only clips of
    one length share a batch, so nothing is ever padded. network: what a torch module has to be kept for.
    """

    forward: Callable[[Any], Any]
    device: str
    dtype: str = "float32"
    one_at_a_time: bool = False
    network: Any = field(default=None, repr=False)

    def embed_prepared(self, prepared: Sequence[Array]) -> Array:
        """Clips of as many samples together."""
        if self.one_at_a_time:
            return joined([self._batch([clip]) for clip in prepared])
        return by_length(prepared, len, self._batch)

    def _batch(self, clips: Sequence[Array]) -> Array:
        torch = toolkit("torch", "--extra torch")
        waveforms = torch.from_numpy(np.stack(clips)).to(self.device)
        kind, dtype = torch.device(self.device).type, getattr(torch, self.dtype)
        with (
            contextlib.redirect_stdout(sys.stderr),
            torch.inference_mode(),
            torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32),
        ):
            return pooled(self.forward(waveforms), len(clips))


def pooled(output: Any, n: int) -> Array:
    """(n, D) numbers of what a model gave for n clips: (n, D), (D) for one clip, or frames (n, T', D), averaged."""
    output = output.detach().float().cpu().numpy() if hasattr(output, "detach") else output
    found = np.asarray(output, dtype=np.float32)
    if found.ndim == 3 and len(found) == n:
        if not found.shape[1]:
            raise ValueError("the clip is too short for a single frame")
        return found.mean(axis=1, dtype=np.float64).astype(np.float32)
    if found.ndim == 1 and n == 1:
        return found[None]
    if found.ndim != 2 or len(found) != n:
        raise ValueError(f"the model gave an array of shape {found.shape} for {n} clips; (n, d) or (n, frames, d)")
    return found


def joined(batches: Sequence[Array]) -> Array:
    """Batches of embeddings as one; ValueError where their dimensions differ."""
    if len({batch.shape[1:] for batch in batches}) > 1:
        raise ValueError("the model gave embeddings of different dimensions")
    return np.concatenate(batches)
