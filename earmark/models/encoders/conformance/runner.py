"""Conformance checks of an encoder.

For an X-ARES or XARES-LLM class, the checks of X-ARES's own checkers (class name, base class, attributes, one forward
pass) come first, then checks that these do not make: frame hop, repeatability, independence of batch and padding,
silence, very short and very long clips, memory. Other encoders get all checks that apply to them. Test signals have the
encoder's sampling rate; resampling is not tested.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from earmark.models.encoders.base import Encoder
from earmark.models.encoders.conformance import requirements
from earmark.models.encoders.conformance.encoder_under_test import EncoderUnderTest, gib, prepare_encoder_under_test
from earmark.models.encoders.conformance.requirements import Verdict
from earmark.models.encoders.user_file import XARES_ATTRIBUTES

if TYPE_CHECKING:
    from earmark.models.encoders.precomputed import PrecomputedEmbeddings

Source = Literal["x-ares", "xares-llm", "earmark"]
LONGEST_CLIP = "longest clip"
MAX_CLIP_SECONDS = 600.0  # longest clip in the ICME 2025 challenge


@dataclass(frozen=True)
class CheckResult:
    """Result of one check. The fields have the order of `HEADERS`.

    Attributes
    ----------
    name : str
    passed : bool or None
        None where the check does not apply; `observed` holds the reason.
    expected, observed : str
    source : {"x-ares", "xares-llm", "earmark"}
        Who requires it. X-ARES's own checker tests the requirements of "x-ares", that of XARES-LLM those of
        "xares-llm".
    """

    name: str
    passed: bool | None
    expected: str
    observed: str
    source: Source


HEADERS = ("check", "passed", "expected", "observed", "source")


@dataclass(frozen=True)
class Requirement:
    """A requirement on encoders.

    Attributes
    ----------
    name, expected : str
    test : callable
        Returns whether an encoder meets the requirement, and what was observed.
    preconditions : tuple of str
        Keys of `PRECONDITIONS`. Where one is not met, the requirement does not apply.
    source : {"x-ares", "xares-llm", "earmark"}
        Who requires it.
    """

    name: str
    expected: str
    test: Callable[[EncoderUnderTest], Verdict]
    preconditions: tuple[str, ...] = ("encoder",)
    source: Source = "earmark"


# {precondition: function that returns why an encoder does not meet it, or an empty string}
PRECONDITIONS: dict[str, Callable[[EncoderUnderTest], str]] = {
    "class": lambda tested: "" if tested.network is not None else "not an X-ARES class",
    "2025": lambda tested: "an XARES-LLM class" if tested.is_xares_llm else "",
    "2026": lambda tested: "" if tested.is_xares_llm else "not an XARES-LLM class",
    "module": lambda tested: "" if tested.is_module else "not a torch.nn.Module",
    "encoder": lambda tested: "" if tested.encoder else "the encoder cannot be loaded",
    "frames": lambda tested: "" if tested.loaded_encoder.has_frames else "no frame output",
    "longest": lambda tested: "" if tested.measurement else "the longest clip was not embedded",
}
CLASS, MODULE, FRAMES, LONGEST = ("class",), ("class", "module"), ("encoder", "frames"), ("encoder", "longest")
XARES, XARES_LLM = ("class", "module", "2025"), ("class", "module", "2026")  # contracts of the two challenges
FINITE_OR_REJECTED = "finite values or a clear error"
ATTRIBUTES = ", ".join(XARES_ATTRIBUTES)

REQUIREMENTS: tuple[Requirement, ...] = (
    Requirement("loadable", "the encoder can be loaded", requirements.loadable, ()),
    Requirement("class name", "ends in Encoder", requirements.class_name, CLASS, "x-ares"),
    Requirement("base class", "derives from torch.nn.Module", requirements.base_class, CLASS, "x-ares"),
    Requirement("attributes", f"{ATTRIBUTES} are valid numbers", requirements.attributes, (*CLASS, "2025"), "x-ares"),
    Requirement("forward", "one tensor for 2 clips of 50,000 samples", requirements.forward, XARES, "x-ares"),
    Requirement("output rank", "3 axes: batch, frames, dimensions", requirements.output_rank, XARES, "x-ares"),
    Requirement("batch axis", "2 entries for 2 clips", requirements.batch_axis, XARES, "x-ares"),
    Requirement("output_dim", "equals the size of the last axis", requirements.output_dim, XARES, "x-ares"),
    Requirement("mask", "output_dim and forward(audio, mask)", requirements.takes_mask, XARES_LLM, "xares-llm"),
    Requirement(
        "pair", "(features, mask or None) for 3 clips without mask", requirements.feature_pair, XARES_LLM, "xares-llm"
    ),
    Requirement("features", "3 clips, frames, output_dim", requirements.feature_shape, XARES_LLM, "xares-llm"),
    Requirement("feature mask", "None, or 0 and 1 for every frame", requirements.feature_mask, XARES_LLM, "xares-llm"),
    Requirement("hop", "number of frames in 10 s is 10 s / hop, ± 2 frames ± 2 %", requirements.hop_size, FRAMES),
    Requirement("finite", "finite and not constant for loud and quiet clips", requirements.finite),
    Requirement("dimension", "the declared dimension for every clip length", requirements.dimension),
    Requirement("repeatable", "same embedding when a clip is repeated", requirements.repeatable),
    Requirement("batch invariance", "same embedding alone and in a batch", requirements.batch_invariance),
    Requirement(
        "padded neighbour", "same frames alone and next to a zero-padded clip", requirements.padded_neighbour, MODULE
    ),
    Requirement("trailing zeros", "same frames when zeros follow the clip", requirements.trailing_zeros, MODULE),
    Requirement("1-D input", "same frames for (T,) as for (1, T), or a clear error", requirements.input_1d, XARES),
    Requirement(
        "silence",
        f"{FINITE_OR_REJECTED} for 1 s of zeros",
        partial(requirements.handles_short_clip, seconds=1.0, silent=True),
    ),
    Requirement("100 ms", FINITE_OR_REJECTED, partial(requirements.handles_short_clip, seconds=0.1)),
    Requirement("10 ms", FINITE_OR_REJECTED, partial(requirements.handles_short_clip, seconds=0.01)),
    Requirement(LONGEST_CLIP, "an embedding of 10 min (or --max-clip-seconds)", requirements.longest_clip),
    Requirement("memory", f"peak resident memory ≤ {gib(requirements.RAM_LIMIT)}", requirements.memory, LONGEST),
    Requirement("GPU memory", f"peak allocated ≤ {gib(requirements.GPU_LIMIT)}", requirements.gpu_memory, LONGEST),
    Requirement("speed", "faster than real time", requirements.speed, LONGEST),
    Requirement("eval mode", "same frames after train() and eval()", requirements.eval_mode, MODULE),
)


def check_encoder(
    encoder: "str | Encoder | PrecomputedEmbeddings",
    device: str = "auto",
    dtype: str = "float32",
    max_clip_seconds: float = MAX_CLIP_SECONDS,
) -> Iterator[CheckResult]:
    """Run all conformance checks on an encoder.

    Parameters
    ----------
    encoder : str or Encoder
        An encoder spec as for `load_encoder`, or a loaded encoder.
    device, dtype : str
        For loading a spec.
    max_clip_seconds : float
        Length of the longest test clip, whose memory and speed are measured.

    Yields
    ------
    CheckResult
        In the order of `REQUIREMENTS`, each as soon as it is available.

    Raises
    ------
    MissingError
        If a file, package or device is missing.
    EarmarkError
        If the encoder stands for precomputed embeddings, or `max_clip_seconds` is not a finite number above 0.

    Notes
    -----
    Errors are raised at the call, not at the first result. An error that the encoder raises fails only the check in
    progress. A user's file that exists but cannot be loaded fails `loadable`; checks of its X-ARES class still run.

    Peak memory is that of the process since its start, so run the checks in a fresh process: `isolation.check_apart`
    does so, with a memory limit. Here there is no limit of memory or time.
    A loaded encoder is not copied; the last check switches its module to training mode and back.

    Examples
    --------
    >>> [result.name for result in check_encoder("logmel", max_clip_seconds=20) if result.passed is False]
    []
    """
    tested = prepare_encoder_under_test(encoder, device, dtype, max_clip_seconds)
    return (check_requirement(requirement, tested) for requirement in REQUIREMENTS)


def check_requirement(requirement: Requirement, tested: EncoderUnderTest) -> CheckResult:
    """Run one check; an error of the encoder fails it."""
    unmet = next((reason for name in requirement.preconditions if (reason := PRECONDITIONS[name](tested))), "")
    passed: bool | None
    if unmet:
        passed, observed = None, unmet
    else:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # keeps output of the model out of the results
                passed, observed = requirement.test(tested)
        except (Exception, SystemExit) as error:
            passed, observed = False, tested.describe_error(error)
    return CheckResult(requirement.name, passed, requirement.expected, observed, requirement.source)
