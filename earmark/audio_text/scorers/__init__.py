"""Scorers: (clip, sentence) → one similarity.

A scorer is a function from questions to answers that yields each answer as soon as it is known, in any order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ClipTextPair:
    """A clip and a sentence. stem: what the sham scorer hashes; relative_path: the clip's path below dataset/."""

    clip: Path
    relative_path: str
    stem: str
    text: str


@dataclass(frozen=True)
class Score:
    """One similarity, or why there is none; `similarity` is finite whenever `error` is empty."""

    similarity: float | None
    error: str = ""


Scorer = Callable[[Sequence[ClipTextPair]], Iterator[tuple[int, Score]]]
