"""Questions → cosines of embeddings: each clip and each sentence embedded once, whoever does the embedding."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from earmark.audio_text.scorers import ClipTextPair, Score
from earmark.models.embedding import Embedding, Vector

SAME = 1e-6  # vectors of length 1 that are closer tell nothing apart
NEAR = 0.01  # vectors of length 1 that are closer give scores that differ by no more than that


def pairs_by_clip(questions: Sequence[ClipTextPair]) -> dict[Path, list[int]]:
    """{clip: the questions about it}, in the order in which clips first appear."""
    asked: dict[Path, list[int]] = {}
    for i, question in enumerate(questions):
        asked.setdefault(question.clip, []).append(i)
    return asked


def unique_texts(questions: Sequence[ClipTextPair]) -> list[str]:
    """The sentences, each once, in the order in which they first appear."""
    return list(dict.fromkeys(question.text for question in questions))


def spread(vectors: Iterable[Vector]) -> float | None:
    """How far vectors of length 1 lie from the first of them at most; None where there are fewer than two.

    >>> one, other = np.eye(2, dtype=np.float32)
    >>> spread([one, other, one]) == 2**0.5, spread([one, one]), spread([one])
    (True, 0.0, None)
    """
    first, *others = [vector.astype(np.float64) for vector in vectors] or [np.empty(0)]
    found = [float(np.linalg.norm(first - other)) for other in others if len(other) == len(first)]
    return max(found, default=None)


def answers(
    questions: Sequence[ClipTextPair], about: Sequence[int], clip: Embedding, texts: Mapping[str, Embedding]
) -> Iterator[tuple[int, Score]]:
    """The answers to all questions about a clip, once its embedding is known."""
    for i in about:
        text = texts[questions[i].text]
        if clip.vector is None or text.vector is None:
            yield i, Score(None, clip.error or f"the sentence: {text.error}")
        elif len(clip.vector) != len(text.vector):
            yield i, Score(None, f"the clip has {len(clip.vector)} dimensions, the sentence {len(text.vector)}")
        else:
            yield i, Score(float(clip.vector.astype(np.float64) @ text.vector.astype(np.float64)))
