"""One function per requirement on an encoder. Each returns whether the encoder meets it and what was observed.

Errors raised by an encoder propagate; `runner` reports them as failed checks.
"""

from typing import Any

import numpy as np

from earmark.audio.clips import AudioError
from earmark.models.encoders.base import Array
from earmark.models.encoders.conformance.encoder_under_test import GIB, EncoderUnderTest, gib
from earmark.models.encoders.output import EmbeddingRequest
from earmark.models.encoders.torch_encoder import FRAMES_AT_EDGES, as_float32, as_frames, layer_outputs
from earmark.models.encoders.user_file import XARES_ATTRIBUTES
from earmark.models.torch_runtime import is_out_of_memory

RAM_LIMIT, GPU_LIMIT = 12 * GIB, 16 * GIB  # limits of the ICME 2025 challenge
FORWARD_SAMPLES = 50_000  # per clip in the forward pass of X-ARES's own checker
HOP_SECONDS, HOP_TOLERANCE = 10.0, 0.02  # relative tolerance on the number of frames, plus two frames at the edges
GAINS = (1.0, 1e-2, 1e-4)  # of the test signal
LENGTHS = (1.0, 3.3, 10.0)  # seconds
SAMPLING_RATES = (1_000, 192_000)  # plausible range in Hz
# Largest allowed difference between outputs that should be equal, relative to the largest value: kernels for other
# batch sizes sum in another order, and TF32 on a GPU has eleven bits of precision.
TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
# Errors that reject an input on purpose. An IndexError or a ZeroDivisionError is a bug.
REJECTIONS = (AudioError, ValueError, RuntimeError, AssertionError)
Verdict = tuple[bool | None, str]  # (passed, or None where the requirement does not apply; what was observed)


# --- the interface of an X-ARES class -----------------------------------------------------------------------


def loadable(tested: EncoderUnderTest) -> Verdict:
    """The encoder can be loaded."""
    if tested.encoder is None:
        return False, tested.load_error
    width = f", {tested.encoder.dimension:,} dimensions" if tested.encoder.dimension else ""
    return True, f"{tested.encoder.name}: {tested.encoder.sample_rate:,} Hz{width}"


def class_name(tested: EncoderUnderTest) -> Verdict:
    """The class name ends in Encoder; X-ARES finds encoders by this suffix."""
    return type(tested.network).__name__.endswith("Encoder"), type(tested.network).__name__


def base_class(tested: EncoderUnderTest) -> Verdict:
    """The class derives from torch.nn.Module."""
    bases = type(tested.network).__bases__
    return tested.is_module, ", ".join(f"{base.__module__}.{base.__name__}" for base in bases)


def attributes(tested: EncoderUnderTest) -> Verdict:
    """The X-ARES attributes exist and have plausible values."""
    values = {name: getattr(tested.network, name, None) for name in XARES_ATTRIBUTES}
    invalid = [name for name, value in values.items() if not _is_plausible(name, value)]
    observed = ", ".join(f"{name} {_format_attribute(tested.network, name)}" for name in XARES_ATTRIBUTES)
    return not invalid, f"{observed}; invalid: {', '.join(invalid)}" if invalid else observed


def _is_plausible(name: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    limits = {"sampling_rate": SAMPLING_RATES, "output_dim": (1, np.inf), "hop_size_in_ms": (0, np.inf)}
    low, high = limits[name]
    valid_type = name == "hop_size_in_ms" or float(value).is_integer()
    return bool(valid_type and low <= value <= high and 0 < value < np.inf)


def _format_attribute(network: Any, name: str) -> str:
    value = getattr(network, name, "missing")
    return f"{value:g}" if isinstance(value, float) else str(value)


def forward(tested: EncoderUnderTest) -> Verdict:
    """A forward pass returns one tensor. Earmark also accepts a list of layers; X-ARES does not."""
    output = tested.module_output(_two_clips(tested))
    if isinstance(output, (list, tuple)):
        kind = type(output).__name__
        return False, f"{kind} of {len(output)} layers; X-ARES accepts one tensor (further checks use the last layer)"
    return hasattr(output, "detach"), f"{type(output).__name__} {_output_shape(tested)}"


def output_rank(tested: EncoderUnderTest) -> Verdict:
    """The output has three axes: batch, frames, dimensions."""
    return len(_output_shape(tested)) == 3, f"shape {_output_shape(tested)}"


def batch_axis(tested: EncoderUnderTest) -> Verdict:
    """The output has one entry per clip."""
    return _output_shape(tested)[:1] == (2,), f"shape {_output_shape(tested)}"


def output_dim(tested: EncoderUnderTest) -> Verdict:
    """The last axis of the output has output_dim entries."""
    shape, declared = _output_shape(tested), tested.network.output_dim
    return shape[-1:] == (declared,), f"shape {shape}, output_dim {declared}"


def _two_clips(tested: EncoderUnderTest) -> Array:
    signals = (tested.test_signal(FORWARD_SAMPLES / tested.rate, seed) for seed in (0, 1))
    return np.stack([signal[:FORWARD_SAMPLES] for signal in signals])


def _output_shape(tested: EncoderUnderTest) -> tuple[int, ...]:
    return tuple(as_float32(layer_outputs(tested.module_output(_two_clips(tested)))[-1]).shape)


# --- output values ------------------------------------------------------------------------------------------


def hop_size(tested: EncoderUnderTest) -> Verdict:
    """Ten seconds have 10 s / hop frames, ± 2 frames at the edges ± 2 % (a hop rounded to whole milliseconds)."""
    hop = tested.loaded_encoder.hop_seconds
    if hop is None:
        return None, "unknown frame hop"
    clip = tested.test_signal(HOP_SECONDS)
    n_frames = len(tested.loaded_encoder.embed_clips([clip], EmbeddingRequest(frames=True))[0])
    implied = HOP_SECONDS / hop
    tolerance = FRAMES_AT_EDGES + HOP_TOLERANCE * implied
    observed = f"{n_frames} frames for {HOP_SECONDS:g} s, where a hop of {1000 * hop:g} ms implies about {implied:.0f}"
    return abs(n_frames - implied) <= tolerance, observed


def finite(tested: EncoderUnderTest) -> Verdict:
    """Embeddings are finite and not constant at three levels; `embed` raises otherwise."""
    tested.loaded_encoder.embed([np.float32(gain) * tested.test_signal(2.0) for gain in GAINS])
    return True, f"finite at {', '.join(f'{20 * np.log10(gain):.0f}' for gain in GAINS)} dB"


def dimension(tested: EncoderUnderTest) -> Verdict:
    """Embeddings of all clip lengths have the same dimension."""
    sizes = [tested.unchecked_embedding(tested.test_signal(seconds)).size for seconds in LENGTHS]
    observed = ", ".join(f"{size:,} for {seconds:g} s" for size, seconds in zip(sizes, LENGTHS, strict=True))
    declared = tested.loaded_encoder.dimension
    return set(sizes) == {declared or sizes[0]}, observed + (f"; declared: {declared:,}" if declared else "")


def repeatable(tested: EncoderUnderTest) -> Verdict:
    """The same clip gives the same embedding: no dropout, no noise, no state from earlier clips."""
    first, _, second = (tested.loaded_encoder.embed([tested.test_signal(2.0, seed)]) for seed in (0, 1, 0))
    return _compare(tested, first, second)


def batch_invariance(tested: EncoderUnderTest) -> Verdict:
    """Three clips, two of them equally long, have the same embeddings in one batch as alone."""
    clips = [tested.test_signal(2.0, 0), 0.1 * tested.test_signal(2.0, 1), tested.test_signal(3.0, 2)]
    alone = np.concatenate([tested.loaded_encoder.embed([clip]) for clip in clips])
    return _compare(tested, alone, tested.loaded_encoder.embed(clips))


def padded_neighbour(tested: EncoderUnderTest) -> Verdict:
    """A clip has the same frames alone and in a batch with a zero-padded clip."""
    clips = _full_and_padded_clip(tested)
    return _compare(tested, tested.module_frames(clips[:1])[0], tested.module_frames(clips)[0])


def trailing_zeros(tested: EncoderUnderTest) -> Verdict:
    """Zero padding does not change the frames of a clip, except the last two, whose windows may reach into it.

    X-ARES pads batches with zeros and does not pass the clip lengths. Earmark does not pad clips for these encoders:
    if this check fails, only the scores of X-ARES's own scripts change.
    """
    clips = _full_and_padded_clip(tested)
    unpadded = tested.module_frames(clips[1:, : clips.shape[1] // 2])[0]
    n_compared = max(1, len(unpadded) - FRAMES_AT_EDGES)
    return _compare(tested, unpadded[:n_compared], tested.module_frames(clips)[1][:n_compared])


def _full_and_padded_clip(tested: EncoderUnderTest) -> Array:
    full, padded = tested.test_signal(4.0, 0), tested.test_signal(4.0, 1)
    padded[len(padded) // 2 :] = 0
    return np.stack([full, padded])


def _compare(tested: EncoderUnderTest, expected: Array, observed: Array) -> Verdict:
    """Whether two arrays are equal within the tolerance of the encoder's precision."""
    if expected.shape != observed.shape:
        return False, f"shapes {expected.shape} and {observed.shape}"
    if np.array_equal(expected, observed):
        return True, "identical"
    dtype = str(tested.encoder.description.get("dtype")) if tested.encoder else ""
    tolerance = TOLERANCE.get(dtype, TOLERANCE["float32"])
    largest = max(np.abs(expected).max(), np.finfo(np.float32).tiny)
    difference = np.abs(expected.astype(np.float64) - observed).max() / largest
    return bool(difference <= tolerance), f"largest relative difference {difference:.1e} (tolerance {tolerance:g})"


# --- edge cases ---------------------------------------------------------------------------------------------


def input_1d(tested: EncoderUnderTest) -> Verdict:
    """Input without a batch axis gives the same frames as with one, or is rejected."""
    clip = tested.test_signal(2.0)
    expected = tested.module_frames(clip[None])[0]
    try:
        output = as_float32(layer_outputs(tested.module_output(clip))[-1])
    except Exception as error:
        return _judge_rejection(tested, error)
    has_batch_axis = output.ndim == 3 and len(output) == 1
    passed, observed = _compare(tested, expected, as_frames(output, 1)[0] if has_batch_axis else output)
    return passed, f"accepted: {observed}"


def handles_short_clip(tested: EncoderUnderTest, seconds: float, silent: bool = False) -> Verdict:
    """A short or silent clip has a finite embedding or is rejected."""
    clip = tested.test_signal(seconds) * np.float32(not silent)
    try:
        embedding = tested.unchecked_embedding(clip)
    except Exception as error:
        return _judge_rejection(tested, error)
    passed = bool(np.isfinite(embedding).all())
    return passed, f"{embedding.size:,} finite values" if passed else f"{embedding.size:,} values, not all finite"


def _judge_rejection(tested: EncoderUnderTest, error: Exception) -> Verdict:
    """Passed if the error rejects the input on purpose and has a message."""
    deliberate = isinstance(error, REJECTIONS) and not is_out_of_memory(error)
    label = "rejected" if deliberate else "failed"
    return deliberate and bool(str(error).strip()), f"{label}: {tested.describe_error(error)}"


def longest_clip(tested: EncoderUnderTest) -> Verdict:
    """The longest clip can be embedded. The checks of memory and speed use its measurement."""
    embedding = tested.measure_longest_clip()
    return True, f"{embedding.size:,} values for {tested.max_clip_seconds:g} s"


def memory(tested: EncoderUnderTest) -> Verdict:
    """Peak resident memory of the whole process, including torch and the decoded clip."""
    assert tested.measurement is not None
    before, after = tested.measurement.bytes_before, tested.measurement.bytes_after
    if before is None or after is None:
        return None, "this system does not report peak memory"
    return after <= RAM_LIMIT, f"peak {gib(after)} ({gib(before)} before the clip)"


def gpu_memory(tested: EncoderUnderTest) -> Verdict:
    """Peak memory allocated by torch, including the weights."""
    assert tested.measurement is not None
    if tested.measurement.gpu_bytes is None:
        return None, f"runs on {tested.device}"
    return tested.measurement.gpu_bytes <= GPU_LIMIT, f"peak {gib(tested.measurement.gpu_bytes)}"


def speed(tested: EncoderUnderTest) -> Verdict:
    """The real-time factor is below 1. The challenge sets no limit; this one is Earmark's."""
    assert tested.measurement is not None
    factor = tested.measurement.seconds / tested.measurement.clip_seconds
    return factor < 1, f"{factor:.2g} s per second of audio on {tested.device}"


def eval_mode(tested: EncoderUnderTest) -> Verdict:
    """train() followed by eval() does not change the output.

    The last check, because it changes a module that fails it.
    """
    clip = tested.test_signal(2.0)[None]
    before = tested.module_frames(clip)
    tested.network.train()
    tested.network.eval()
    training = [name or "the encoder itself" for name, part in tested.network.named_modules() if part.training]
    if training:
        return False, f"still in training mode: {', '.join(training[:4])}"
    return _compare(tested, before, tested.module_frames(clip))
