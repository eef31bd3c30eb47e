"""Word error rate (WER) and character error rate (CER) from substitutions, deletions and insertions per utterance.

Errors are those of a minimum edit distance alignment of the hypothesis with the reference, by jiwer. The total number
of errors is that of every tool; the split into kinds is jiwer's where several alignments have the same distance.

Text is compared as it is, unless `normalise` is applied: "Hello" and "hello," are two words. Words of a hypothesis
whose reference is empty are insertions. If a corpus has no reference words, the rate is the number of insertions, as in
jiwer 4.
"""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

KINDS = ("substitute", "delete", "insert")  # columns of the counts, in jiwer's words


def normalise(text: str) -> str:
    r"""Normalise a transcript: lower case, no punctuation, single spaces.

    Punctuation is every character of the Unicode categories P, including apostrophes and hyphens. It is removed, not
    replaced by a space. Numbers are not spelt out.

    Parameters
    ----------
    text : str

    Returns
    -------
    str

    Examples
    --------
    >>> normalise("  Don't PANIC — it's\ta well-known  word.")
    'dont panic its a wellknown word'
    """
    without_punctuation = "".join(c for c in text.lower() if not unicodedata.category(c).startswith("P"))
    return " ".join(without_punctuation.split())


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> IntArray:
    """Count the word errors of each utterance's hypothesis.

    Words are separated by white space. Sums over utterances (of a corpus or a bootstrap replicate) are the argument of
    `error_rate`.

    Parameters
    ----------
    references, hypotheses : sequence of n str

    Returns
    -------
    (n, 4) int
        Substitutions, deletions, insertions and reference words.

    Raises
    ------
    ValueError
        If the numbers of references and hypotheses differ.

    References
    ----------
    Levenshtein (1966), Binary codes capable of correcting deletions, insertions, and reversals, Soviet Physics Doklady
    10:707.

    Examples
    --------
    >>> word_errors(["the cat sat", ""], ["the hat sat down", "oh"]).tolist()
    [[1, 0, 1, 3], [0, 0, 1, 0]]
    """
    import jiwer  # takes a tenth of a second

    return _edits(references, hypotheses, str.split, jiwer.process_words)


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> IntArray:
    """Count the character errors of each utterance's hypothesis.

    A run of white space counts as one character. White space at either end is ignored.

    Parameters
    ----------
    references, hypotheses : sequence of n str

    Returns
    -------
    (n, 4) int
        Substitutions, deletions, insertions and reference characters.

    Raises
    ------
    ValueError
        If the numbers of references and hypotheses differ.

    References
    ----------
    Levenshtein (1966), Soviet Physics Doklady 10:707.

    Examples
    --------
    >>> character_errors(["cat"], ["hats"]).tolist()
    [[1, 0, 1, 3]]
    """
    import jiwer

    return _edits(references, hypotheses, list, jiwer.process_characters)


def error_rate(sums: ArrayLike) -> FloatArray:
    """Word or character error rate: (substitutions + deletions + insertions) / reference length.

    Parameters
    ----------
    sums : (…, 4) float
        Sums of `word_errors` or `character_errors`.

    Returns
    -------
    (…) float
        At least 0; above 1 with many insertions. The number of insertions if the reference is empty.

    Raises
    ------
    ValueError
        If the last axis is not of length 4.

    References
    ----------
    Morris, Maier and Green (2004), From WER and RIL to MER and WIL: improved evaluation measures for connected speech
    recognition, Interspeech.

    Examples
    --------
    >>> float(error_rate([1, 0, 1, 4])), float(error_rate([0, 0, 0, 0]))
    (0.5, 0.0)
    """
    counts = np.asarray(sums, dtype=float)
    if counts.shape[-1:] != (4,):
        raise ValueError(
            f"sums must be (…, 4): substitutions, deletions, insertions, reference words; not {counts.shape}"
        )
    return np.asarray(counts[..., :3].sum(axis=-1) / np.maximum(counts[..., 3], 1))


def one_minus_wer(sums: ArrayLike) -> FloatArray:
    """max(0, 1 − WER), the score of X-ARES for speech recognition.

    Parameters
    ----------
    sums : (…, 4) float
        Sums of `word_errors`.

    Returns
    -------
    (…) float
        In [0, 1].

    References
    ----------
    Zhang et al. (2025), X-ARES: A Comprehensive Framework for Assessing Audio Encoder Performance.

    Examples
    --------
    >>> one_minus_wer([[1, 0, 1, 4], [0, 0, 9, 4]]).tolist()
    [0.5, 0.0]
    """
    return np.maximum(0.0, 1.0 - error_rate(sums))


def _edits(
    references: Sequence[str],
    hypotheses: Sequence[str],
    tokens: Callable[[str], Sequence[str]],
    process: Callable[[list[str], list[str]], Any],
) -> IntArray:
    """Count the edits of each utterance with a function of jiwer; equal texts, the most frequent case, are skipped."""
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, but {len(hypotheses)} hypotheses")
    texts = [[" ".join(text.split()) for text in own] for own in (references, hypotheses)]
    counts = np.zeros((len(references), 4), dtype=np.int64)
    counts[:, 3] = [len(tokens(text)) for text in texts[0]]
    differ = [i for i, (r, h) in enumerate(zip(*texts, strict=True)) if r != h]
    if differ:
        alignments = process(*([own[i] for i in differ] for own in texts)).alignments
        for i, chunks in zip(differ, alignments, strict=True):
            for chunk in chunks:
                if chunk.type != "equal":
                    length = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
                    counts[i, KINDS.index(chunk.type)] += length
    return counts
