"""The sham scorer: placeholder similarities from a hash of names, to test the pipeline without a model."""

from collections.abc import Iterator, Sequence
from hashlib import sha256

from earmark.audio_text.scorers import ClipTextPair, Score


def sham_similarity(stem: str, text: str) -> float:
    """Placeholder similarity of a clip and a sentence, computed from their names.

    The value is 2 · h / 2^64 − 1, where h is the first eight bytes, big-endian, of
    sha256(b"clap-sham-v1" + stem + b"|" + text). No audio is read.

    Parameters
    ----------
    stem : str
        Name of the clip, as `sham_stem` returns it.
    text : str
        The sentence.

    Returns
    -------
    float
        In [−1, 1).

    References
    ----------
    emolia-bench (LAION); its sham runs are reproduced exactly.

    Examples
    --------
    >>> sham_similarity("EN_-NOsyy0i0-A_W000028", "Speech audio in which the speaker expresses or conveys Affection.")
    0.2560092555974329
    """
    digest = sha256(b"clap-sham-v1" + stem.encode() + b"|" + text.encode()).digest()
    return 2.0 * int.from_bytes(digest[:8], "big") / 2**64 - 1.0


def score_sham(pairs: Sequence[ClipTextPair]) -> Iterator[tuple[int, Score]]:
    """Score pairs with `sham_similarity`, in order."""
    for i, pair in enumerate(pairs):
        yield i, Score(sham_similarity(pair.stem, pair.text))
