"""Conformance checks in a process of their own, which is ended when it takes more memory than allowed.

The parent reads the resident memory of the process every few milliseconds and kills it above the limit. Limits of the
address space (`RLIMIT_AS`, `RLIMIT_DATA`) are not used: torch and CUDA reserve far more address space than they fill.
An encoder fills memory gradually, so that the process exceeds the limit by little.
"""

import contextlib
import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from earmark.errors import EarmarkError, MissingError
from earmark.models.encoders.conformance.encoder_under_test import Measurement, prepare_encoder_under_test
from earmark.models.encoders.conformance.memory import format_size, held_bytes
from earmark.models.encoders.conformance.requirements import longest_clip_verdict
from earmark.models.encoders.conformance.runner import (
    LONGEST_CLIP,
    MAX_CLIP_SECONDS,
    REQUIREMENTS,
    CheckResult,
    check_requirement,
)
from earmark.models.encoders.from_options import load_encoder_from_options
from earmark.models.encoders.options import EncoderOptions
from earmark.workers import exit_with_parent

POLL_SECONDS = 0.02  # a process fills a few tens of MB in this time
OUT_OF_MEMORY_SCORE = 1000  # of /proc/self/oom_score_adj: the system ends this process before any other


@dataclass(frozen=True)
class Started:
    """A check has started."""

    name: str


@dataclass(frozen=True)
class ClipStarted:
    """The long clip of this length in seconds is being embedded."""

    clip_seconds: float


@dataclass(frozen=True)
class Refused:
    """The checks cannot start: an EarmarkError with its message."""

    missing: bool
    message: str


@dataclass(frozen=True)
class Ended:
    """The process ended; the reason matters if checks are left."""

    reason: str


Message = Started | ClipStarted | Measurement | CheckResult | Refused | Ended


@dataclass(frozen=True)
class CheckPlan:
    """What a process checks.

    Attributes
    ----------
    model : EncoderOptions
        The encoder.
    max_clip_seconds : float
        Length of the longest clip.
    names : tuple of str
        Checks to run, in order.
    measurement : Measurement or None
        Of the longest clip, from an earlier process.
    """

    model: EncoderOptions
    max_clip_seconds: float
    names: tuple[str, ...]
    measurement: Measurement | None = None


def check_apart(
    model: EncoderOptions,
    max_clip_seconds: float = MAX_CLIP_SECONDS,
    max_memory: int | None = None,
    on_clip: Callable[[float], None] | None = None,
) -> Iterator[CheckResult]:
    """Run all conformance checks in a process of their own.

    If the process ends during a check, that check fails with the reason, and a new process continues with the next.

    Parameters
    ----------
    model : EncoderOptions
        The encoder.
    max_clip_seconds : float
        Length of the longest test clip.
    max_memory : int or None
        Bytes that the process may hold, with everything that it loads; None for no limit.
    on_clip : callable, optional
        Called with the length in seconds of each long clip when it is started.

    Yields
    ------
    CheckResult
        In the order of `REQUIREMENTS`, each as soon as it is available. If the call is interrupted while the long
        clips are embedded, the longest so far is yielded, and the interruption follows.

    Raises
    ------
    MissingError
        If a file, package or device is missing.
    EarmarkError
        If the encoder stands for precomputed embeddings, or `max_clip_seconds` is not a finite number above 0.
    """
    plan = CheckPlan(model, max_clip_seconds, tuple(requirement.name for requirement in REQUIREMENTS))
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:  # files that a killed process leaves
        while plan.names:
            progress = _Progress(plan)
            messages = run_watched(run_plan, plan, max_memory, Path(folder))
            try:
                for message in messages:
                    if on_clip and isinstance(message, ClipStarted):
                        on_clip(message.clip_seconds)
                    yield from progress.results(message)
            except KeyboardInterrupt:
                yield from progress.results_of_interruption()
                raise
            finally:
                messages.close()
            plan = progress.next_plan()


class _Progress:
    """Turns the messages of one process into results, and knows what is left when it ends."""

    def __init__(self, plan: CheckPlan) -> None:
        self.plan = plan
        self.names = list(plan.names)
        self.measurement = plan.measurement
        self.current = ""
        self.loaded = False
        self.clip_seconds: float | None = None

    def results(self, message: Message) -> Iterator[CheckResult]:
        if isinstance(message, Refused):
            raise (MissingError if message.missing else EarmarkError)(message.message)
        if isinstance(message, Started):
            self.current, self.loaded = message.name, True
        elif isinstance(message, ClipStarted):
            self.clip_seconds = message.clip_seconds
        elif isinstance(message, Measurement):
            self.measurement = message
        elif isinstance(message, CheckResult):
            self.names.remove(message.name)
            self.current = ""
            yield message
        elif self.names:
            yield from self._after_end(message.reason)

    def _after_end(self, reason: str) -> Iterator[CheckResult]:
        """The failed check; if the encoder was not even loaded, all others, too.

        Between two checks, nothing has failed: the next process goes on.
        """
        if self.current:
            yield self._failed(self.current, reason)
        elif not self.loaded:
            first, *others = self.names
            yield _result(first, False, f"loading {reason}")
            yield from (_result(name, None, f"not checked: loading {reason}") for name in others)
            self.names = []

    def _failed(self, name: str, reason: str) -> CheckResult:
        self.names.remove(name)
        if name != LONGEST_CLIP or self.clip_seconds is None:
            return _result(name, False, reason)
        if self.measurement is None:
            return _result(name, False, f"{self.clip_seconds:g} s {reason}")
        self.measurement = replace(self.measurement, shortfall=f"{self.clip_seconds:g} s {reason}")
        return _result(name, *longest_clip_verdict(self.measurement))

    def results_of_interruption(self) -> Iterator[CheckResult]:
        if self.current == LONGEST_CLIP and self.clip_seconds is not None:
            yield self._failed(LONGEST_CLIP, "was interrupted")

    def next_plan(self) -> CheckPlan:
        return replace(self.plan, names=tuple(self.names), measurement=self.measurement)


def _result(name: str, passed: bool | None, observed: str) -> CheckResult:
    requirement = next(each for each in REQUIREMENTS if each.name == name)
    return CheckResult(name, passed, requirement.expected, observed, requirement.source)


# --- the watching process -----------------------------------------------------------------------------------


def run_watched(
    work: Callable[..., None], plan: CheckPlan, max_memory: int | None, folder: Path
) -> Generator[Message, None, None]:
    """Run a function in a process, and kill the process above a memory limit.

    Parameters
    ----------
    work : callable
        Called with the plan, a connection for its messages and the folder.
    plan : CheckPlan
        What to check.
    max_memory : int or None
        Bytes; None for no limit.
    folder : Path
        For temporary files of the process.

    Yields
    ------
    Message
        What the function sends, and `Ended` last.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(plan, sender, folder), daemon=True)
    process.start()
    sender.close()
    assert process.pid is not None
    try:
        while True:
            if max_memory is not None and (held_bytes(process.pid) or 0) > max_memory:
                process.kill()
                yield from _received(receiver)
                yield Ended(f"needs more than {format_size(max_memory)} of memory (--max-memory)")
                return
            if receiver.poll(POLL_SECONDS):
                try:
                    yield receiver.recv()
                except (EOFError, OSError):
                    process.join()
                    yield Ended(_end(process.exitcode))
                    return
                except Exception as error:
                    raise EarmarkError(f"a message of the checks cannot be read ({error}).") from error
    finally:
        process.kill()
        process.join()
        receiver.close()


def _received(receiver: Connection) -> Iterator[Message]:
    """Messages that a killed process had sent."""
    with contextlib.suppress(EOFError, OSError):
        while receiver.poll(0):
            yield receiver.recv()


def _end(exit_code: int | None) -> str:
    """How a process ended."""
    if exit_code == -signal.SIGKILL:
        return "ended the process with SIGKILL, as the system does when memory runs out"
    if exit_code is not None and exit_code < 0:
        return f"ended the process with {signal.Signals(-exit_code).name}"
    return f"ended the process with exit code {exit_code}"


# --- the watched process ------------------------------------------------------------------------------------


def run_plan(plan: CheckPlan, sender: Connection, folder: Path) -> None:
    """Load the encoder, run the checks of a plan and send the results.

    Parameters
    ----------
    plan : CheckPlan
        What to check.
    sender : Connection
        Takes the messages.
    folder : Path
        For temporary files.
    """
    exit_with_parent()
    tempfile.tempdir = str(folder)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_SCORE), encoding="ascii")
    encoder: Any = plan.model.spec
    try:
        if encoder.startswith(("http://", "https://")):
            encoder = load_encoder_from_options(plan.model)
        tested = prepare_encoder_under_test(encoder, plan.model.device, plan.model.dtype, plan.max_clip_seconds)
    except EarmarkError as error:
        sender.send(Refused(isinstance(error, MissingError), str(error)))
        return
    tested.measurement = plan.measurement
    tested.on_clip = lambda clip: sender.send(ClipStarted(clip) if not isinstance(clip, Measurement) else clip)
    for requirement in REQUIREMENTS:
        if requirement.name in plan.names:
            sender.send(Started(requirement.name))
            sender.send(check_requirement(requirement, tested))
