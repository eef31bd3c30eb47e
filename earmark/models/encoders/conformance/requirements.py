"""One function per requirement on an encoder. Each returns whether the encoder meets it and what was observed.

Errors raised by an encoder propagate; `runner` reports them as failed checks.
"""

import re
from typing import Any

import numpy as np

from earmark.audio.clips import AudioError
from earmark.models.encoders.base import Array, Encoder
from earmark.models.encoders.conformance.encoder_under_test import GIB, EncoderUnderTest, Measurement, gib
from earmark.models.encoders.output import EmbeddingRequest
from earmark.models.encoders.torch_encoder import (
    FRAMES_AT_EDGES,
    XaresEncoder,
    as_float32,
    as_frames,
    implied_hop,
    layer_outputs,
)
from earmark.models.encoders.user_file import XARES_ATTRIBUTES, mask_parameters
from earmark.models.torch_runtime import is_out_of_memory

RAM_LIMIT, GPU_LIMIT = 12 * GIB, 16 * GIB  # limits of the ICME 2025 challenge
FORWARD_SAMPLES = 50_000  # per clip in the forward pass of X-ARES's own checker
HOP_SECONDS, HOP_TOLERANCE = 10.0, 0.02  # relative tolerance on the number of frames, plus two frames at the edges
LENGTHS_PER_HOP = 8  # tried to measure the window
GAINS = (1.0, 1e-2, 1e-4)  # of the test signal
LENGTHS = (1.0, 3.3, 10.0)  # seconds
SAMPLING_RATES = (1_000, 192_000)  # plausible range in Hz
# Largest allowed difference between outputs that should be equal, relative to the largest value: kernels for other
# batch sizes sum in another order, and TF32 on a GPU has eleven bits of precision.
TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
# Errors that reject an input on purpose. An IndexError, a ZeroDivisionError or a RuntimeError, such as torch's about
# shapes, is a bug or says nothing about what would be accepted.
REJECTIONS = (AudioError, ValueError, AssertionError)
# Errors of torch, onnxruntime and librosa about clips that are shorter than a window or a kernel.
TOO_SHORT = re.compile(
    "kernel size|padding size|output size is too small|too short|maximum size for tensor|invalid input shape|"
    "too large for uncentered",
    re.I,
)
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


# --- the interface of XARES-LLM -----------------------------------------------------------------------------


def takes_mask(tested: EncoderUnderTest) -> Verdict:
    """The class has output_dim, and forward takes audio and a mask; sampling rate and hop are not required."""
    names = ", ".join(mask_parameters(type(tested.network)))
    dimension = getattr(tested.network, "output_dim", "missing")
    rate = "" if hasattr(tested.network, "sampling_rate") else f", {tested.rate:,} Hz assumed"
    return _is_plausible("output_dim", dimension), f"output_dim {dimension}, forward({names}){rate}"


def feature_pair(tested: EncoderUnderTest) -> Verdict:
    """A forward pass without a mask returns a pair of features and of a mask or None."""
    output = tested.module_output(_three_clips(tested), masked=False)
    if not isinstance(output, (list, tuple)):
        return False, type(output).__name__
    kinds = ", ".join(type(part).__name__ for part in output)
    is_pair = len(output) == 2 and hasattr(output[0], "detach") and (output[1] is None or hasattr(output[1], "detach"))
    if len(output) == 2 and isinstance(output[0], (list, tuple)):
        kinds += "; XARES-LLM accepts one tensor (further checks use the last layer)"
    return is_pair, f"{type(output).__name__} of {kinds}"


def feature_shape(tested: EncoderUnderTest) -> Verdict:
    """The features have one entry per clip, three axes, and output_dim dimensions."""
    shape = tuple(as_float32(tested.parsed(tested.module_output(_three_clips(tested)), 3).layers[-1]).shape)
    declared = tested.network.output_dim
    return len(shape) == 3 and (shape[0], shape[2]) == (3, declared), f"shape {shape}, output_dim {declared}"


def feature_mask(tested: EncoderUnderTest) -> Verdict:
    """Given the mask of a padded clip, the returned mask has an entry per frame and keeps some frames of each clip."""
    clips = _three_clips(tested)
    clips[0, FORWARD_SAMPLES // 2 :] = 0
    output = tested.parsed(tested.module_output(clips, [FORWARD_SAMPLES // 2, FORWARD_SAMPLES, FORWARD_SAMPLES]), 3)
    if output.mask is None:
        return True, "None: all frames count, also those of padding"
    kept = ", ".join(str(len(frames)) for frames in output.frames())
    return True, f"shape {output.mask.shape}, {kept} frames kept; the first clip is half as long"


def _three_clips(tested: EncoderUnderTest) -> Array:
    signals = (tested.test_signal(FORWARD_SAMPLES / tested.rate, seed) for seed in range(3))
    return np.stack([signal[:FORWARD_SAMPLES] for signal in signals])


# --- output values ------------------------------------------------------------------------------------------


def hop_size(tested: EncoderUnderTest) -> Verdict:
    """Ten seconds have 10 s / hop frames, ± 2 frames at the edges ± 2 % (a hop rounded to whole milliseconds).

    A hop that is not declared is derived from the numbers of frames.
    """
    hop = tested.loaded_encoder.hop_seconds
    if hop is None:
        return None, "unknown frame hop: frame tasks cannot be scored"
    encoder = tested.loaded_encoder
    clip = tested.test_signal(HOP_SECONDS)
    implied = HOP_SECONDS / hop
    tolerance = FRAMES_AT_EDGES + HOP_TOLERANCE * implied
    try:
        n_frames = len(encoder.embed_clips([clip], EmbeddingRequest(frames=True))[0])
    except ValueError as error:
        remedy = hop_remedy(encoder, hop)
        if not remedy:
            raise
        return False, f"{error}; {remedy}"
    observed = f"{n_frames} frames for {HOP_SECONDS:g} s, where a hop of {1000 * hop:g} ms implies about {implied:.0f}"
    if abs(n_frames - implied) > tolerance:
        return False, f"{observed}; {hop_remedy(encoder, hop)}".removesuffix("; ")
    derived = isinstance(encoder, XaresEncoder) and encoder.hop is None
    return True, f"{observed} (derived from the frames)" if derived else observed


def hop_remedy(encoder: Encoder, hop: float) -> str:
    """What makes the number of frames agree with the hop.

    Parameters
    ----------
    encoder : Encoder
        Only X-ARES classes are examined.
    hop : float
        The declared hop in seconds.

    Returns
    -------
    str
        For windows that are not padded: how much to pad. For another hop: the hop that would fit. Otherwise empty.
    """
    if not isinstance(encoder, XaresEncoder):
        return ""
    n_short, n_long = (encoder.count_frames(seconds) for seconds in (HOP_SECONDS, 3 * HOP_SECONDS))
    actual = implied_hop(n_short, n_long, 2 * HOP_SECONDS)
    if actual is None:
        return "the number of frames does not grow with the clip"
    if abs(actual - hop) > HOP_TOLERANCE * hop:
        return f"its frames are {1000 * actual:.4g} ms apart: declare hop_size_in_ms = {1000 * actual:.4g}"
    # Windows of w seconds that are not padded give floor((T - w) / hop) + 1 frames for T seconds: the least T that does
    # not lose the last of n frames is (n - 1) hop + w. With (w - hop) / 2 at each side there are T / hop frames.
    lengths = [HOP_SECONDS + hop * i / LENGTHS_PER_HOP for i in range(LENGTHS_PER_HOP)]
    window = min(seconds - (encoder.count_frames(seconds) - 1) * hop for seconds in lengths)
    if window < hop:
        return ""
    padding = round((window - hop) / 2 * encoder.sample_rate)
    return (
        f"its windows of about {window:.2g} s are not padded: pad the audio by half a window, less half a hop, at each "
        f"side, in forward: audio = torch.nn.functional.pad(audio, ({padding}, {padding}))"
    )


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
    n_samples = [clips.shape[1], clips.shape[1] // 2]
    return _compare(tested, tested.module_frames(clips[:1])[0], tested.module_frames(clips, n_samples)[0])


def trailing_zeros(tested: EncoderUnderTest) -> Verdict:
    """Zero padding does not change the frames of a clip, except the last two, whose windows may reach into it.

    An XARES-LLM class gets the mask of the padding.

    X-ARES pads batches with zeros and does not pass the clip lengths. Earmark does not pad clips for these encoders:
    if this check fails, only the scores of X-ARES's own scripts change.
    """
    clips = _full_and_padded_clip(tested)
    n_samples = [clips.shape[1], clips.shape[1] // 2]
    unpadded = tested.module_frames(clips[1:, : n_samples[1]])[0]
    n_compared = max(1, len(unpadded) - FRAMES_AT_EDGES)
    return _compare(tested, unpadded[:n_compared], tested.module_frames(clips, n_samples)[1][:n_compared])


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
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return None, f"takes batches only: {tested.describe_error(error)}"
    except Exception as error:
        return _judge_rejection(tested, error)
    has_batch_axis = output.ndim == 3 and len(output) == 1
    passed, observed = _compare(tested, expected, as_frames(output, 1)[0] if has_batch_axis else output)
    return passed, f"accepted: {observed}"


def handles_short_clip(tested: EncoderUnderTest, seconds: float, silent: bool = False) -> Verdict:
    """A short or silent clip has a finite embedding or is rejected.

    Where a library rejects a short clip in its own words, the check does not apply: the clip is an error, but the
    message lacks the length that the encoder needs.
    """
    clip = tested.test_signal(seconds) * np.float32(not silent)
    try:
        embedding = tested.unchecked_embedding(clip)
    except Exception as error:
        if isinstance(error, REJECTIONS) or silent or is_out_of_memory(error) or not TOO_SHORT.search(str(error)):
            return _judge_rejection(tested, error)
        return None, f"too short: {tested.describe_error(error)}; a ValueError could name the shortest clip"
    passed = bool(np.isfinite(embedding).all())
    return passed, f"{embedding.size:,} finite values" if passed else f"{embedding.size:,} values, not all finite"


def _judge_rejection(tested: EncoderUnderTest, error: Exception) -> Verdict:
    """Passed if the error rejects the input on purpose and has a message."""
    deliberate = isinstance(error, REJECTIONS) and not is_out_of_memory(error)
    label = "rejected" if deliberate else "failed"
    return deliberate and bool(str(error).strip()), f"{label}: {tested.describe_error(error)}"


def longest_clip(tested: EncoderUnderTest) -> Verdict:
    """The longest clip can be embedded. The checks of memory and speed use its measurement."""
    tested.measure_longest_clip()
    assert tested.measurement is not None
    return longest_clip_verdict(tested.measurement)


def longest_clip_verdict(measurement: Measurement) -> Verdict:
    """Whether the longest clip was embedded; otherwise the longest that was, and what happened with the next."""
    if measurement.shortfall:
        return False, f"up to {measurement.clip_seconds:g} s; {measurement.shortfall}"
    return True, f"{measurement.n_values:,} values for {measurement.clip_seconds:g} s"


def memory(tested: EncoderUnderTest) -> Verdict:
    """Peak resident memory of the whole process, including torch and the decoded clip."""
    assert tested.measurement is not None
    before, after = tested.measurement.bytes_before, tested.measurement.bytes_after
    if before is None or after is None:
        return None, "this system does not report peak memory"
    return _of_longest(
        tested.measurement, after <= RAM_LIMIT, f"peak {gib(after)} ({gib(before)} before the long clips)"
    )


def gpu_memory(tested: EncoderUnderTest) -> Verdict:
    """Peak memory allocated by torch, including the weights."""
    assert tested.measurement is not None
    gpu_bytes = tested.measurement.gpu_bytes
    if gpu_bytes is None:
        return None, f"runs on {tested.device}"
    return _of_longest(tested.measurement, gpu_bytes <= GPU_LIMIT, f"peak {gib(gpu_bytes)}")


def _of_longest(measurement: Measurement, passed: bool, observed: str) -> Verdict:
    """A verdict on the longest clip: if shorter clips alone were embedded, they can show that it fails, not more."""
    if not measurement.shortfall:
        return passed, observed
    return None if passed else False, f"{observed} for {measurement.clip_seconds:g} s, the longest clip embedded"


def speed(tested: EncoderUnderTest) -> Verdict:
    """The real-time factor is below 1. The challenge sets no limit; this one is Earmark's."""
    assert tested.measurement is not None
    factor = tested.measurement.seconds / tested.measurement.clip_seconds
    observed = f"{factor:.2g} s per second of audio on {tested.device}"
    return _of_longest(tested.measurement, factor < 1, observed)


def eval_mode(tested: EncoderUnderTest) -> Verdict:
    """train() followed by eval() does not change the output.

    The last check, because it changes a module that fails it.
    """
    clip = tested.test_signal(2.0)[None]
    (before,) = tested.module_frames(clip)
    tested.network.train()
    tested.network.eval()
    training = [name or "the encoder itself" for name, part in tested.network.named_modules() if part.training]
    if training:
        return False, f"still in training mode: {', '.join(training[:4])}"
    return _compare(tested, before, tested.module_frames(clip)[0])
