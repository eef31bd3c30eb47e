"""What an encoder promises, tested one promise after the other.

For a class of X-ARES, first what X-ARES's own checker asks (name, type, attributes, one forward pass), then what it
does not: hop, repeatability, independence of neighbours and padding, silence, very short and very long clips, memory.
Every other encoder is asked whatever of that applies, through the interface that all encoders here share. Sounds are
made at the encoder's own sample rate: resampling is done before it and is no matter of its own.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from earmark.models.encoders.base import Encoder
from earmark.models.encoders.conformance import requirements as promises
from earmark.models.encoders.conformance.encoder_under_test import EncoderUnderTest, gib, subject
from earmark.models.encoders.conformance.requirements import Verdict
from earmark.models.encoders.user_file import XARES_ATTRIBUTES

if TYPE_CHECKING:
    from earmark.models.encoders.precomputed import PrecomputedEmbeddings

Source = Literal["x-ares", "earmark"]
MAX_CLIP_SECONDS = 600.0  # seconds: the longest clips of the challenge


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    passed: None where it does not apply, and then `seen` says why. source: whose promise it is; X-ARES's own checker
    tests those of "x-ares". The order of the fields is that of HEADERS, for a table.
    """

    name: str
    passed: bool | None
    expected: str
    seen: str
    source: Source


HEADERS = ("check", "passed", "expected", "seen", "source")


@dataclass(frozen=True)
class Requirement:
    """A row: a name, what is expected, the function that tests it, what it can be asked of, and whose it is."""

    name: str
    expected: str
    test: Callable[[EncoderUnderTest], Verdict]
    needs: tuple[str, ...] = ("encoder",)
    source: Source = "earmark"


# What a promise needs → why it does not apply to a subject, empty where it does.
NEEDS: dict[str, Callable[[EncoderUnderTest], str]] = {
    "class": lambda s: "" if s.network is not None else "no class of X-ARES",
    "module": lambda s: "" if s.is_module else "no torch.nn.Module",
    "encoder": lambda s: "" if s.encoder else "the encoder cannot be loaded",
    "frames": lambda s: "" if s.loaded.has_frames else "gives no frames",
    "longest": lambda s: "" if s.measured else "the longest clip gave nothing",
}
CLASS, MODULE, FRAMES, LONG = ("class",), ("class", "module"), ("encoder", "frames"), ("encoder", "longest")
REFUSAL = "finite numbers or a refusal that says why"

REQUIREMENTS: tuple[Requirement, ...] = (
    Requirement("loads", "an encoder", promises.loads, ()),
    Requirement("class name", "ends in Encoder", promises.class_name, CLASS, "x-ares"),
    Requirement("module", "derives from torch.nn.Module", promises.module, CLASS, "x-ares"),
    Requirement(
        "attributes", f"{', '.join(XARES_ATTRIBUTES)} are numbers that make sense", promises.attributes, CLASS, "x-ares"
    ),
    Requirement("forward", "takes 2 × 50,000 samples and gives one tensor", promises.forward, MODULE, "x-ares"),
    Requirement("rank", "three: batch, frames, numbers", promises.rank, MODULE, "x-ares"),
    Requirement("batch", "two for two clips", promises.batch, MODULE, "x-ares"),
    Requirement("output_dim", "the last dimension of what it gives", promises.output_dim, MODULE, "x-ares"),
    Requirement("hop", "frames of 10 s are 10 s / hop, ± 2 frames ± 2 %", promises.hop_size, FRAMES),
    Requirement("finite", "finite and not constant, loud and quiet", promises.finite),
    Requirement("dimension", "the same for every length, and the declared one", promises.dimension),
    Requirement("repeatable", "the same clip gives the same", promises.repeatable),
    Requirement("neighbours", "a clip gives the same alone and among others", promises.batch_invariance),
    Requirement("beside padding", "a whole clip gives the same beside a padded one", promises.beside_padding, MODULE),
    Requirement("own padding", "real frames stay the same when zeros follow", promises.own_padding, MODULE),
    Requirement("one dimension", "(T,) gives what (1, T) gives, or is refused", promises.one_dimensional, MODULE),
    Requirement("silence", f"1 s of zeros: {REFUSAL}", partial(promises.survives, seconds=1.0, silent=True)),
    Requirement("100 ms", REFUSAL, partial(promises.survives, seconds=0.1)),
    Requirement("10 ms", REFUSAL, partial(promises.survives, seconds=0.01)),
    Requirement("longest clip", "an embedding of 10 minutes, or of as much as was asked for", promises.longest),
    Requirement("memory", f"at most {gib(promises.RAM)} resident", promises.memory, LONG),
    Requirement("GPU memory", f"at most {gib(promises.GPU)} allocated", promises.gpu_memory, LONG),
    Requirement("speed", "faster than the audio lasts", promises.speed, LONG),
    Requirement("eval again", "the same after train() and eval()", promises.eval_again, MODULE),
)


def check_encoder(
    encoder: "str | Encoder | PrecomputedEmbeddings",
    device: str = "auto",
    dtype: str = "float32",
    max_clip_seconds: float = MAX_CLIP_SECONDS,
) -> Iterator[Check]:
    """The checks of an encoder in the order of REQUIREMENTS, each as soon as it is done.

    encoder: as for `load_encoder`, or loaded; device, dtype: for loading it. max_clip_seconds: of the longest clip,
    whose memory and speed are measured; peak memory is that of this process since it started, so that a fresh process
    is what to run this in. There is no time limit: an encoder that never returns is waited for.

    Whatever an encoder raises fails that check alone. A user's file that is there and cannot be loaded fails `loads`;
    of the others, those that X-ARES asks of its class are still made. A loaded encoder is not copied, and its module is
    switched to training and back at the end.

    Raises MissingError for what is not there (a file, a package, a device), and EarmarkError for embeddings that were
    made elsewhere or a length that is none; both at once, not at the first check.

    >>> [one.name for one in check_encoder("logmel", max_clip_seconds=20) if one.passed is False]
    []
    """
    about = subject(encoder, device, dtype, max_clip_seconds)
    return (_outcome(promise, about) for promise in REQUIREMENTS)


def _outcome(promise: Requirement, about: EncoderUnderTest) -> Check:
    reason = next((why for need in promise.needs if (why := NEEDS[need](about))), "")
    passed: bool | None
    if reason:
        passed, seen = None, reason
    else:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what a model prints is no result
                passed, seen = promise.test(about)
        except (Exception, SystemExit) as error:
            passed, seen = False, about.raised(error)
    return Check(promise.name, passed, promise.expected, seen, promise.source)
