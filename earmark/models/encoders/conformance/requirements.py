"""The promises of an encoder, a function each: what was seen, and whether it is as promised.

Whatever an encoder raises passes through; `checks` makes a failed check of it. Verdict: passed, and what was seen;
passed is None where a promise turns out not to apply.
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

RAM, GPU = 12 * GIB, 16 * GIB  # the challenge's limits
SAMPLES = 50_000  # of each of the two clips that X-ARES's checker passes
HOP_SECONDS, HOP_TOLERANCE = 10.0, 0.02  # of the number of frames, beside two frames at the edges
LOUDNESS = (1.0, 1e-2, 1e-4)  # times the test signal
LENGTHS = (1.0, 3.3, 10.0)  # seconds
RATES = (1_000, 192_000)  # Hz that make sense
# How far numbers that should be the same may lie apart, in parts of the largest one: kernels for batches of another
# size add in another order, and TF32 on a GPU keeps eleven bits.
CLOSE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
# Errors that say what is wrong with the input. An IndexError or a ZeroDivisionError is an accident and no refusal.
REFUSALS = (AudioError, ValueError, RuntimeError, AssertionError)
Verdict = tuple[bool | None, str]


# --- what X-ARES asks of a class ----------------------------------------------------------------------------


def loads(s: EncoderUnderTest) -> Verdict:
    """Whether there is an encoder at all."""
    if s.encoder is None:
        return False, s.fault
    width = f", {s.encoder.dimension:,} numbers" if s.encoder.dimension else ""
    return True, f"{s.encoder.name}: {s.encoder.sample_rate:,} Hz{width}"


def class_name(s: EncoderUnderTest) -> Verdict:
    """X-ARES finds encoders by their name."""
    return type(s.network).__name__.endswith("Encoder"), type(s.network).__name__


def module(s: EncoderUnderTest) -> Verdict:
    """Whether the class derives from torch's."""
    return s.is_module, ", ".join(f"{base.__module__}.{base.__name__}" for base in type(s.network).__bases__)


def attributes(s: EncoderUnderTest) -> Verdict:
    """Present, and numbers that make sense."""
    values = {name: getattr(s.network, name, None) for name in XARES_ATTRIBUTES}
    wrong = [name for name, value in values.items() if not _sensible(name, value)]
    seen = ", ".join(f"{name} {_shown(s.network, name)}" for name in XARES_ATTRIBUTES)
    return not wrong, f"{seen}; wrong: {', '.join(wrong)}" if wrong else seen


def _sensible(name: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    low, high = {"sampling_rate": RATES, "output_dim": (1, np.inf), "hop_size_in_ms": (0, np.inf)}[name]
    whole = name == "hop_size_in_ms" or float(value).is_integer()
    return bool(whole and low <= value <= high and 0 < value < np.inf)


def _shown(network: Any, name: str) -> str:
    value = getattr(network, name, "missing")
    return f"{value:g}" if isinstance(value, float) else str(value)


def forward(s: EncoderUnderTest) -> Verdict:
    """One tensor: a list of layers is understood here and nowhere else."""
    output = s.raw(_pair(s))
    if isinstance(output, (list, tuple)):
        return False, f"a {type(output).__name__} of {len(output)} layers, which X-ARES does not take; the last counts"
    return hasattr(output, "detach"), f"{type(output).__name__} {_shape(s)}"


def rank(s: EncoderUnderTest) -> Verdict:
    """Batch, frames, numbers."""
    return len(_shape(s)) == 3, f"shape {_shape(s)}"


def batch(s: EncoderUnderTest) -> Verdict:
    """As many as went in."""
    return _shape(s)[:1] == (2,), f"shape {_shape(s)}"


def output_dim(s: EncoderUnderTest) -> Verdict:
    """The declared dimension is that of the frames."""
    return _shape(s)[-1:] == (s.network.output_dim,), f"shape {_shape(s)}, output_dim {s.network.output_dim}"


def _pair(s: EncoderUnderTest) -> Array:
    return np.stack([s.sound(SAMPLES / s.rate, seed)[:SAMPLES] for seed in (0, 1)])


def _shape(s: EncoderUnderTest) -> tuple[int, ...]:
    return tuple(as_float32(layer_outputs(s.raw(_pair(s)))[-1]).shape)


# --- numbers that hold still --------------------------------------------------------------------------------


def hop_size(s: EncoderUnderTest) -> Verdict:
    """Ten seconds have 10 s / hop frames, but for two at the edges and 2 % (a hop rounded to whole milliseconds)."""
    step = s.loaded.hop_seconds
    if step is None:
        return None, "nothing says how far its frames are apart"
    found = len(s.loaded.embed_clips([s.sound(HOP_SECONDS)], EmbeddingRequest(frames=True))[0])
    implied = HOP_SECONDS / step
    tolerance = FRAMES_AT_EDGES + HOP_TOLERANCE * implied
    seen = f"{found} frames for {HOP_SECONDS:g} s, where a hop of {1000 * step:g} ms implies about {implied:.0f}"
    return abs(found - implied) <= tolerance, seen


def finite(s: EncoderUnderTest) -> Verdict:
    """Loud, quiet and hardly audible; `embed` refuses what is not finite or constant."""
    s.loaded.embed([np.float32(loudness) * s.sound(2.0) for loudness in LOUDNESS])
    return True, f"finite at {', '.join(f'{20 * np.log10(loudness):.0f}' for loudness in LOUDNESS)} dB"


def dimension(s: EncoderUnderTest) -> Verdict:
    """The same for every length."""
    found = [s.unchecked(s.sound(seconds)).size for seconds in LENGTHS]
    seen = ", ".join(f"{size:,} numbers for {seconds:g} s" for size, seconds in zip(found, LENGTHS, strict=True))
    declared = s.loaded.dimension
    return set(found) == {declared or found[0]}, seen + (f"; {declared:,} declared" if declared else "")


def repeatable(s: EncoderUnderTest) -> Verdict:
    """No dropout, no noise, no memory of what came before."""
    first, _, second = (s.loaded.embed([s.sound(2.0, seed)]) for seed in (0, 1, 0))
    return _agree(s, first, second)


def batch_invariance(s: EncoderUnderTest) -> Verdict:
    """Three clips, two of them of one length, together and each alone."""
    clips = [s.sound(2.0, 0), 0.1 * s.sound(2.0, 1), s.sound(3.0, 2)]
    alone = np.concatenate([s.loaded.embed([clip]) for clip in clips])
    return _agree(s, alone, s.loaded.embed(clips))


def beside_padding(s: EncoderUnderTest) -> Verdict:
    """A whole clip beside one that was half as long and is padded with zeros."""
    clips = _padded(s)
    return _agree(s, s.frames(clips[:1])[0], s.frames(clips)[0])


def own_padding(s: EncoderUnderTest) -> Verdict:
    """The padded clip's real frames, but for the last two, whose windows may reach into what follows.

    X-ARES pads the clips of a batch with zeros and says nothing of their lengths. Nothing is padded here, so that a
    failure leaves the scores of this project alone and not those of X-ARES's own scripts.
    """
    clips = _padded(s)
    alone = s.frames(clips[1:, : clips.shape[1] // 2])[0]
    real = max(1, len(alone) - FRAMES_AT_EDGES)
    return _agree(s, alone[:real], s.frames(clips)[1][:real])


def _padded(s: EncoderUnderTest) -> Array:
    whole, half = s.sound(4.0, 0), s.sound(4.0, 1)
    half[len(half) // 2 :] = 0
    return np.stack([whole, half])


def _agree(s: EncoderUnderTest, one: Array, other: Array) -> Verdict:
    """Whether two arrays are the same, to the bit or in parts of the largest number."""
    if one.shape != other.shape:
        return False, f"shapes {one.shape} and {other.shape}"
    if np.array_equal(one, other):
        return True, "the same to the last bit"
    close = CLOSE.get(str(s.encoder.description.get("dtype")) if s.encoder else "", CLOSE["float32"])
    apart = np.abs(one.astype(np.float64) - other).max() / max(np.abs(one).max(), np.finfo(np.float32).tiny)
    return bool(apart <= close), f"largest difference {apart:.1e} of the largest number; {close:g} is allowed"


# --- inputs at the edge -------------------------------------------------------------------------------------


def one_dimensional(s: EncoderUnderTest) -> Verdict:
    """Without a batch: the same frames as with one, or a refusal, but nothing else."""
    clip = s.sound(2.0)
    expected = s.frames(clip[None])[0]
    try:
        found = as_float32(layer_outputs(s.raw(clip))[-1])
    except Exception as error:
        return _refused(s, error)
    passed, seen = _agree(s, expected, as_frames(found, 1)[0] if found.ndim == 3 and len(found) == 1 else found)
    return passed, f"accepted: {seen}"


def survives(s: EncoderUnderTest, seconds: float, silent: bool = False) -> Verdict:
    """A vector of finite numbers, or a refusal."""
    clip = s.sound(seconds) * np.float32(not silent)
    try:
        found = s.unchecked(clip)
    except Exception as error:
        return _refused(s, error)
    passed = bool(np.isfinite(found).all())
    return passed, f"{found.size:,} finite numbers" if passed else f"{found.size:,} numbers, not all of them finite"


def _refused(s: EncoderUnderTest, error: Exception) -> Verdict:
    clear = isinstance(error, REFUSALS) and not is_out_of_memory(error)
    return clear and bool(str(error).strip()), f"{'refused' if clear else 'failed'}: {s.raised(error)}"


def longest(s: EncoderUnderTest) -> Verdict:
    """The clip is the test signal again and again; what it takes is kept for the checks below."""
    found = s.measure()
    return True, f"{found.size:,} numbers for {s.max_clip_seconds:g} s"


def memory(s: EncoderUnderTest) -> Verdict:
    """Peak resident memory of the whole process, which holds torch and the decoded clip too."""
    assert s.measured is not None
    before, after = s.measured.bytes_before, s.measured.bytes_after
    if before is None or after is None:
        return None, "this system does not say how much memory a process held"
    return after <= RAM, f"peak {gib(after)}, of which {gib(before)} before the clip"


def gpu_memory(s: EncoderUnderTest) -> Verdict:
    """What torch allocated at most, weights included."""
    assert s.measured is not None
    if s.measured.gpu_bytes is None:
        return None, f"runs on {s.device}"
    return s.measured.gpu_bytes <= GPU, f"peak {gib(s.measured.gpu_bytes)}"


def speed(s: EncoderUnderTest) -> Verdict:
    """The challenge sets no limit; slower than the audio lasts is what is called too slow here."""
    assert s.measured is not None
    ratio = s.measured.seconds / s.measured.clip_seconds
    return ratio < 1, f"{ratio:.2g} s for a second of audio on {s.device}"


def eval_again(s: EncoderUnderTest) -> Verdict:
    """train() and back with nothing in between; last of all, for it changes a module that fails it."""
    clip = s.sound(2.0)[None]
    before = s.frames(clip)
    s.network.train()
    s.network.eval()
    left = [name or "itself" for name, part in s.network.named_modules() if part.training]
    if left:
        return False, f"still in training mode: {', '.join(left[:4])}"
    return _agree(s, before, s.frames(clip))
