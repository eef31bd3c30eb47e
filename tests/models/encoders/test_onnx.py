"""Small ONNX models; run with `uv run --with onnxruntime --with onnx pytest …`."""

from pathlib import Path

import numpy as np
import pytest

from earmark.errors import EarmarkError, MissingError
from earmark.models.encoders.output import EmbeddingRequest
from earmark.models.encoders.registry import load_encoder
from tests.models.encoders.sources import noises

WEIGHTS = np.random.default_rng(0).normal(0, 0.1, (5, 1, 200)).astype(np.float32)


def test_missing_onnxruntime_names_command(tmp_path):
    try:
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError:
        (tmp_path / "x.onnx").write_bytes(b"")
        with pytest.raises(MissingError, match=r"needs onnxruntime.*`uv run --with onnxruntime SCRIPT\.py"):
            load_encoder(f"onnx:{tmp_path}/x.onnx")
    else:
        pytest.skip("onnxruntime is installed")


def saved(file: Path, batch: object = "B", frames: bool = True, rate: int | None = None) -> Path:
    """A model: absolute value of a convolution with stride 100, as frames or their mean."""
    onnx = pytest.importorskip("onnx", reason="run with `--with onnxruntime --with onnx`")
    pytest.importorskip("onnxruntime", reason="run with `--with onnxruntime --with onnx`")
    node, numbers = onnx.helper.make_node, onnx.numpy_helper.from_array
    nodes = [
        node("Unsqueeze", ["waveform", "one"], ["x"]),
        node("Conv", ["x", "weights"], ["y"], strides=[100]),
        node("Abs", ["y"], ["z"]),
        node("Transpose", ["z"], ["frames"], perm=[0, 2, 1]),
        node("ReduceMean", ["frames", "one"], ["mean"], keepdims=0),
    ]
    shape = [batch, "T"]
    kind = onnx.TensorProto.FLOAT
    output = onnx.helper.make_tensor_value_info(
        *(("frames", kind, [batch, "F", 5]) if frames else ("mean", kind, [batch, 5]))
    )
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [onnx.helper.make_tensor_value_info("waveform", kind, shape)],
        [output],
        [numbers(WEIGHTS, "weights"), numbers(np.array([1]), "one")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    if rate:
        onnx.helper.set_model_props(model, {"sample_rate": str(rate)})
    onnx.save(model, file)
    return file


@pytest.mark.parametrize("batch", ["B", 1])
@pytest.mark.parametrize("frames", [True, False])
def test_embeddings_are_means_of_frames_independent_of_batch(tmp_path, batch, frames):
    encoder = load_encoder(f"onnx:{saved(tmp_path / 'x.onnx', batch, frames)}", device="cpu")
    waveforms = noises(5)
    embeddings = encoder.embed(waveforms)
    windows = np.lib.stride_tricks.sliding_window_view(waveforms[1], 200)[::100]
    np.testing.assert_allclose(embeddings[1], np.abs(windows @ WEIGHTS[:, 0].T).mean(axis=0), rtol=1e-4)
    alone = np.concatenate([encoder.embed([waveform]) for waveform in waveforms])
    np.testing.assert_allclose(embeddings, alone, rtol=1e-5)
    assert (encoder.sample_rate, encoder.dimension) == (16_000, 5)


def test_identity_rate_and_load_errors(tmp_path):
    one = load_encoder(f"onnx:{saved(tmp_path / 'x.onnx')}", device="cpu")
    other = load_encoder(f"onnx:{saved(tmp_path / 'x.onnx', rate=8000)}", device="cpu")
    assert other.sample_rate == 8000 and one.identity != other.identity
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(MissingError, match=r"bad\.onnx: cannot be loaded as an ONNX file"):
        load_encoder(f"onnx:{tmp_path}/bad.onnx", device="cpu")
    with pytest.raises(MissingError, match="no such file"):
        load_encoder(f"onnx:{tmp_path}/absent.onnx")


def test_model_with_feature_input_is_rejected(tmp_path):
    onnx = pytest.importorskip("onnx", reason="run with `--with onnxruntime --with onnx`")
    pytest.importorskip("onnxruntime", reason="run with `--with onnxruntime --with onnx`")
    value = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ReduceMean", ["fbank"], ["mean"], axes=[1], keepdims=0)],
        "fbank",
        [value("fbank", kind, ["B", "T", 80])],
        [value("mean", kind, ["B", 80])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(MissingError, match=r"its input is fbank .*expected one float waveform"):
        load_encoder(f"onnx:{tmp_path}/x.onnx", device="cpu")


@pytest.mark.parametrize("batch", ["B", 1])
def test_three_dimensional_output_is_frames(tmp_path, batch):
    encoder = load_encoder(f"onnx:{saved(tmp_path / 'x.onnx', batch)}", device="cpu")
    waveforms = noises(4)
    for waveform, actual in zip(waveforms, encoder.embed_clips(waveforms, EmbeddingRequest(frames=True)), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(waveform, 200)[::100]
        np.testing.assert_allclose(actual, np.abs(windows @ WEIGHTS[:, 0].T), rtol=1e-3, atol=1e-5)
    assert encoder.hop_seconds is None
    without = load_encoder(f"onnx:{saved(tmp_path / 'y.onnx', batch, frames=False)}", device="cpu")
    with pytest.raises(EarmarkError, match="y: returns one embedding per clip and no frames"):
        without.embed_clips(waveforms, EmbeddingRequest(frames=True))
