"""Questions → cosines of embeddings: each clip and each sentence embedded once, whoever does the embedding."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.models.scorers import Answer, Question

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Embedding:
    """A vector, or why there is none."""

    vector: Vector | None
    error: str = ""


def checked(vector: Vector, dimension: int | None) -> Embedding:
    """The vector scaled to length 1, or what is wrong with it. dimension: what earlier ones had, if there were any."""
    if vector.ndim != 1:
        return Embedding(None, f"the embedding has shape {vector.shape}; it must be a list of numbers")
    if dimension is not None and len(vector) != dimension:
        return Embedding(None, f"the embedding has {len(vector)} dimensions where earlier ones have {dimension}")
    if not np.isfinite(vector).all():
        return Embedding(None, "the embedding is not finite")
    length = np.linalg.norm(vector.astype(np.float64))
    if length == 0:
        return Embedding(None, "the embedding is all zeros")
    return Embedding((vector / length).astype(np.float32))


def unique_clips(questions: Sequence[Question]) -> dict[Path, list[int]]:
    """{clip: the questions about it}, in the order in which clips first appear."""
    asked: dict[Path, list[int]] = {}
    for i, question in enumerate(questions):
        asked.setdefault(question.clip, []).append(i)
    return asked


def unique_texts(questions: Sequence[Question]) -> list[str]:
    """The sentences, each once, in the order in which they first appear."""
    return list(dict.fromkeys(question.text for question in questions))


def answers(
    questions: Sequence[Question], about: Sequence[int], clip: Embedding, texts: Mapping[str, Embedding]
) -> Iterator[tuple[int, Answer]]:
    """The answers to all questions about a clip, once its embedding is known."""
    for i in about:
        text = texts[questions[i].text]
        if clip.vector is None or text.vector is None:
            yield i, Answer(None, clip.error or f"the sentence: {text.error}")
        elif len(clip.vector) != len(text.vector):
            yield i, Answer(None, f"the clip has {len(clip.vector)} dimensions, the sentence {len(text.vector)}")
        else:
            yield i, Answer(float(clip.vector.astype(np.float64) @ text.vector.astype(np.float64)))
