"""The sham scorer: a similarity from a hash of names, so that everything around a model can be tried without one."""

from collections.abc import Iterator, Sequence
from hashlib import sha256

from earmark.audio_text.scorers import ClipTextPair, Score


def sham_similarity(stem: str, text: str) -> float:
    """A number in [−1, 1) that depends only on the clip's stem and the sentence; it never reads audio.

    2 · h / 2^64 − 1, where h is the first eight bytes of sha256(b"clap-sham-v1" + stem + b"|" + text), big-endian.
    Source: emolia-bench (LAION), whose sham runs it reproduces.

    >>> sham_similarity("EN_-NOsyy0i0-A_W000028", "Speech audio in which the speaker expresses or conveys Affection.")
    0.2560092555974329
    """
    digest = sha256(b"clap-sham-v1" + stem.encode() + b"|" + text.encode()).digest()
    return 2.0 * int.from_bytes(digest[:8], "big") / 2**64 - 1.0


def score_sham(questions: Sequence[ClipTextPair]) -> Iterator[tuple[int, Score]]:
    """Sham answers to questions, in their order."""
    for i, question in enumerate(questions):
        yield i, Score(sham_similarity(question.stem, question.text))
