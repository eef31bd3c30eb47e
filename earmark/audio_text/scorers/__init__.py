"""Scorers: compute a similarity for each pair of a clip and a sentence.

A scorer is a callable that takes a sequence of pairs and yields `(index, score)` tuples in any order, each as soon as
it is available.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ClipTextPair:
    """A clip and a sentence to score.

    Attributes
    ----------
    clip : Path
        Audio file.
    relative_path : str
        Path of the clip below dataset/, with forward slashes.
    stem : str
        Name that the sham scorer hashes.
    text : str
        The sentence.
    """

    clip: Path
    relative_path: str
    stem: str
    text: str


@dataclass(frozen=True)
class Score:
    """The score of a pair.

    Attributes
    ----------
    similarity : float or None
        Higher means a better match of clip and sentence; finite. None if there is an error.
    error : str
        Reason why the pair has no score; empty if it has one.
    """

    similarity: float | None
    error: str = ""


Scorer = Callable[[Sequence[ClipTextPair]], Iterator[tuple[int, Score]]]
