"""Figures, sizes and the state that the parts of perf/gpu.py share."""

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

DTYPES = ("float32", "bfloat16", "float16")
HEAD_TOLERANCE = 1e-3  # of the scores of probes


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes
    ----------
    section, subject, quantity : str
    value : float or None
        None if it was not measured; `note` says why.
    unit : str
    check : str
        What the value must be, such as "<= 0.0001"; empty for a plain measurement.
    passed : bool or None
        Whether the check passed; None without a check. A failed check makes the exit code 1.
    goal : str
        What the value should be on a GPU; depends on the machine, so the exit code does not.
    note : str
    """

    section: str
    subject: str
    quantity: str
    value: float | None = None
    unit: str = ""
    check: str = ""
    passed: bool | None = None
    goal: str = ""
    note: str = ""

    @property
    def line(self) -> str:
        """The figure as a line of text."""
        shown = "–" if self.value is None else shown_value(self.value)
        verdict = "" if self.passed is None else f"{'ok' if self.passed else 'FAILED'} ({self.check})"
        goal = f"goal {self.goal}" if self.goal else ""
        parts = f"  {self.subject:28} {self.quantity:42} {shown:>10} {self.unit:9}"
        return " ".join(filter(None, [parts, verdict, goal, self.note])).rstrip()

    def as_dict(self) -> dict[str, Any]:
        """The figure for JSON."""
        return asdict(self)


def shown_value(value: float) -> str:
    """Three significant digits; whole numbers from 100.

    >>> shown_value(1234.5), shown_value(0.98765), shown_value(1.2e-6)
    ('1,234', '0.988', '1.2e-06')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Sizes:
    """Sizes of a run.

    Attributes
    ----------
    small : bool
        Tiny models.
    clips : int
        Generated WAV clips of `seconds` each.
    mp3_clips : int
        Clips that are also written as MP3.
    seconds, timed_seconds : float
        Length of a clip; length of a timing.
    batch_size : int
    head_clips, head_width, head_classes, head_epochs : int
        Data of linear heads and k-NN.
    utterances : int
        Of the speech recognition heads.
    """

    small: bool
    clips: int
    mp3_clips: int
    seconds: float
    timed_seconds: float
    batch_size: int
    head_clips: int
    head_width: int
    head_classes: int
    head_epochs: int
    utterances: int


SMALL = Sizes(True, 12, 8, 1.0, 0.3, 3, 400, 24, 5, 4, 12)
REAL = Sizes(False, 1536, 384, 10.0, 4.0, 32, 20_000, 768, 50, 10, 64)


@dataclass
class Context:
    """State of a run.

    Attributes
    ----------
    device : str
    sizes : Sizes
    folder : Path
        For models, clips and embeddings; temporary.
    seed : int
    deadline : float
        `time.perf_counter` value at which the time is used up.
    prepare_rates : dict
        {model: seconds of audio that 8 threads, or all cores if fewer, decode and prepare per second}.
    built : dict
        {model: what loads it}; models are built once.
    """

    device: str
    sizes: Sizes
    folder: Path
    seed: int
    deadline: float
    prepare_rates: dict[str, float] = field(default_factory=dict)
    built: dict[str, Path] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return torch.device(self.device).type == "cuda"

    @property
    def time_is_up(self) -> bool:
        """Whether the time of the run is used up."""
        return time.perf_counter() > self.deadline

    def synchronise(self) -> None:
        """Wait for the GPU."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def seconds(self, function: Callable[[], object]) -> float:
        """Time of a function, with its work on the GPU."""
        self.synchronise()
        started = time.perf_counter()
        function()
        self.synchronise()
        return time.perf_counter() - started


Section = Callable[[Context], Iterator[Figure]]


def guarded(context: Context, section: str, subject: str, part: Callable[[], Iterator[Figure]]) -> Iterator[Figure]:
    """Figures of a part of a section; an error is a failed figure, and too little time a note."""
    if context.time_is_up:
        yield Figure(section, subject, "all", note="skipped: the time is used up")
        return
    try:
        yield from part()
    except Exception as error:  # whatever fails on a new machine, the other parts go on
        traceback.print_exc()
        note = f"{type(error).__name__}: {error}"
        yield Figure(section, subject, "runs to its end", check="no error", passed=False, note=note)


def tolerance(dtype: str, convolutions: bool = False) -> float:
    """Largest allowed difference of embeddings from float32 on the CPU, relative to the largest absolute value.

    Rounding the weights of a ResNet34 to the 8 bits of bfloat16 changes its embeddings by about 1e-2 on any device.

    >>> tolerance("float32"), tolerance("bfloat16"), tolerance("bfloat16", convolutions=True)
    (0.0001, 0.01, 0.05)
    """
    if dtype == "bfloat16" and convolutions:
        return 5e-2
    return 1e-4 if dtype == "float32" else 1e-2


def within(section: str, subject: str, quantity: str, value: float, limit: float, note: str = "") -> Figure:
    """A figure that must be at most `limit`; NaN fails."""
    return Figure(section, subject, quantity, value, "", f"<= {limit:g}", bool(value <= limit), note=note)
