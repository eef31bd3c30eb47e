"""ONNX models that map waveforms (1, T) or (B, T) to embeddings (B, D) or frames (B, T', D)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earmark.errors import MissingError, shown_path
from earmark.files.hashing import files_hash
from earmark.models.batching import concatenate_batches, embed_by_length, map_by_length
from earmark.models.encoders.base import Array, Encoder, encoder_key
from earmark.models.encoders.torch_encoder import as_embeddings, as_frames, require_encoder_library
from earmark.models.torch_runtime import explain_load_errors

RATE = 16_000  # unless the metadata of the file have `sample_rate`
OPTIONS = "--with onnxruntime"


class OnnxEncoder(Encoder):
    """An ONNX model in onnxruntime; clips of equal length share a batch if the model allows batches.

    Parameters
    ----------
    file : Path
        The ONNX file.
    session : onnxruntime.InferenceSession
        The loaded model.
    version : str
        Version of onnxruntime.
    """

    def __init__(self, file: Path, session: Any, version: str) -> None:
        self._session = session
        self._name = session.get_inputs()[0].name
        batch, self._samples = session.get_inputs()[0].shape
        self._one_at_a_time = isinstance(batch, int)
        properties = session.get_modelmeta().custom_metadata_map
        rate = int(properties.get("sample_rate", RATE))
        folder = file.resolve().parent
        files = [path for path in folder.glob(f"{file.name}*") if path.is_file()]  # x.onnx, x.onnx.data, x.onnx_data
        parts = {"weights_sha256": files_hash(files, folder), "sample_rate": rate, "onnxruntime": version}
        description = {"file": file.name, **parts, "providers": session.get_providers()}
        self._returns_frames = len(session.get_outputs()[0].shape) == 3
        last = session.get_outputs()[0].shape[-1] if session.get_outputs()[0].shape else None
        dimension = last if isinstance(last, int) else None
        super().__init__(file.stem, rate, encoder_key(f"onnx-{file.stem}", **parts), description, dimension)

    def embed_prepared(self, prepared: Sequence[Array]) -> Array:
        """(n, d) first output; frames are averaged."""
        if self._one_at_a_time:
            return concatenate_batches([self._batch([clip]) for clip in prepared])
        return embed_by_length(prepared, len, self._batch)

    @property
    def has_frames(self) -> bool:
        """Whether the first output has three dimensions. The hop is unknown."""
        return self._returns_frames

    def frames_prepared(self, prepared: Sequence[Array]) -> list[Array]:
        """Frames: the first output."""
        if self._one_at_a_time:
            return [as_frames(self._output([clip]), 1)[0] for clip in prepared]
        return map_by_length(prepared, len, lambda clips: list(as_frames(self._output(clips), len(clips))))

    def _batch(self, clips: Sequence[Array]) -> Array:
        return as_embeddings(self._output(clips), len(clips))

    def _output(self, clips: Sequence[Array]) -> Any:
        if isinstance(self._samples, int) and len(clips[0]) != self._samples:
            raise ValueError(f"the model takes exactly {self._samples} samples; the clip has {len(clips[0])}")
        try:
            outputs = self._session.run(None, {self._name: np.stack(clips)})
        except Exception as error:  # errors of onnxruntime have no common base class
            raise RuntimeError(str(error)) from error
        return outputs[0]


def load(name: str, device: str = "auto", dtype: str = "float32") -> OnnxEncoder:
    """Load an ONNX model.

    Parameters
    ----------
    name : str
        The file.
    device : str
        cpu, or any other value for a GPU if onnxruntime supports one.
    dtype : str
        Ignored.

    Returns
    -------
    OnnxEncoder
        The encoder.

    Raises
    ------
    MissingError
        If the file, the device or onnxruntime is missing, or the input of the model is not a batch of waveforms.
    """
    file = Path(name)
    if not file.is_file():
        raise MissingError(f"{shown_path(file)}: no such file; expected onnx:FILE.")
    onnxruntime = require_encoder_library("onnxruntime", OPTIONS)
    providers = ["CPUExecutionProvider"]
    gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device.startswith("cuda") and not gpu:
        raise MissingError(f"device {device!r} requires `uv run --with onnxruntime-gpu …`; use --device cpu otherwise.")
    if gpu and device != "cpu":
        providers.insert(0, "CUDAExecutionProvider")
    with explain_load_errors(shown_path(file), "an ONNX file"):
        session = onnxruntime.InferenceSession(str(file), providers=providers)
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 2 or inputs[0].type != "tensor(float)":
        shown = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
        raise MissingError(
            f"{shown_path(file)}: its input is {shown}; expected one float waveform (batch, samples). Export the "
            "feature extraction with the model, or wrap the model in a Python file (FILE.py)."
        )
    return OnnxEncoder(file, session, onnxruntime.__version__)
