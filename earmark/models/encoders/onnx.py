"""An ONNX file that takes waveforms: (1, T) or (B, T) → (B, D) or frames (B, T', D)."""

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

RATE = 16_000  # unless the file's metadata say `sample_rate`
OPTIONS = "--with onnxruntime"


class OnnxEncoder(Encoder):
    """A session of onnxruntime. Clips of one length share a batch where the file allows batches."""

    def __init__(self, file: Path, session: Any, version: str) -> None:
        self._session = session
        self._name = session.get_inputs()[0].name
        batch, self._samples = session.get_inputs()[0].shape
        self._one_at_a_time = isinstance(batch, int)
        properties = session.get_modelmeta().custom_metadata_map
        rate = int(properties.get("sample_rate", RATE))
        folder = file.resolve().parent
        outside = [path for path in folder.glob(f"{file.name}*") if path.is_file()]  # x.onnx, x.onnx.data, x.onnx_data
        parts = {"weights_sha256": files_hash(outside, folder), "sample_rate": rate, "onnxruntime": version}
        described = {"file": file.name, **parts, "providers": session.get_providers()}
        self._framed = len(session.get_outputs()[0].shape) == 3
        last = session.get_outputs()[0].shape[-1] if session.get_outputs()[0].shape else None
        dimension = last if isinstance(last, int) else None
        super().__init__(file.stem, rate, encoder_key(f"onnx-{file.stem}", **parts), described, dimension)

    def embed_prepared(self, prepared: Sequence[Array]) -> Array:
        """The first output, averaged over frames where it has them."""
        if self._one_at_a_time:
            return concatenate_batches([self._batch([clip]) for clip in prepared])
        return embed_by_length(prepared, len, self._batch)

    @property
    def has_frames(self) -> bool:
        """Where the first output has three dimensions. What their hop is, no ONNX file says."""
        return self._framed

    def frames_prepared(self, prepared: Sequence[Array]) -> list[Array]:
        """The first output as it is."""
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
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise RuntimeError(str(error)) from error
        return outputs[0]


def load(name: str, device: str = "auto", dtype: str = "float32") -> OnnxEncoder:
    """The encoder of a file. The device is a GPU where onnxruntime has one, unless it is to be cpu."""
    file = Path(name)
    if not file.is_file():
        raise MissingError(f"{shown_path(file)}: no such file; an encoder is onnx:FILE.")
    onnxruntime = require_encoder_library("onnxruntime", OPTIONS)
    providers = ["CPUExecutionProvider"]
    gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device.startswith("cuda") and not gpu:
        raise MissingError(f"device {device!r} needs `uv run --with onnxruntime-gpu …`; --device cpu works here.")
    if gpu and device != "cpu":
        providers.insert(0, "CUDAExecutionProvider")
    with explain_load_errors(shown_path(file), "an ONNX file"):
        session = onnxruntime.InferenceSession(str(file), providers=providers)
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 2 or inputs[0].type != "tensor(float)":
        seen = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise MissingError(
            f"{shown_path(file)}: takes {seen}; a waveform as float (batch, samples) is what can be given. "
            "Put the features into the exported graph, or wrap the model into a Python file (FILE.py)."
        )
    return OnnxEncoder(file, session, onnxruntime.__version__)
