"""Word error rate (WER) and character error rate (CER) from substitutions, deletions and insertions per utterance.

Errors are those of a minimum edit distance alignment of the hypothesis with the reference. Among alignments of equal
distance, the one with the fewest substitutions counts. The total number of errors is therefore that of every tool; the
split into kinds may differ.

Text is compared as it is, unless `normalise` is applied: "Hello" and "hello," are two words. Words of a hypothesis
whose reference is empty are insertions. If a corpus has no reference words, the rate is the number of insertions, as in
jiwer 4.
"""

import unicodedata
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EDIT = 1 << 32  # cost of an edit; a substitution costs 1 more, to prefer fewer substitutions among ties
BATCH_CELLS = 1 << 16  # cells per row of a batch; fits in a core's cache


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
    return _edits([text.split() for text in references], [text.split() for text in hypotheses])


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
    return _edits(
        [list(" ".join(text.split())) for text in references], [list(" ".join(t.split())) for t in hypotheses]
    )


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


def _edits(references: Sequence[Sequence[Hashable]], hypotheses: Sequence[Sequence[Hashable]]) -> IntArray:
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, but {len(hypotheses)} hypotheses")
    counts = np.zeros((len(references), 4), dtype=np.int64)
    counts[:, 3] = [len(tokens) for tokens in references]
    differ = [i for i, (r, h) in enumerate(zip(references, hypotheses, strict=True)) if r != h]
    for batch in _batches(differ, references, hypotheses):
        counts[batch, :3] = _batch_edits([references[i] for i in batch], [hypotheses[i] for i in batch])
    return counts


def _batches(
    items: Sequence[int], references: Sequence[Sequence[Hashable]], hypotheses: Sequence[Sequence[Hashable]]
) -> Iterator[list[int]]:
    """Yield batches of utterances with similar lengths, bounded in memory."""
    batch: list[int] = []
    widest = 0
    for i in sorted(items, key=lambda i: (len(references[i]), len(hypotheses[i]))):
        wider = max(widest, len(hypotheses[i]) + 1)
        if batch and wider * (len(batch) + 1) > BATCH_CELLS:
            yield batch
            batch, wider = [], len(hypotheses[i]) + 1
        batch.append(i)
        widest = wider
    if batch:
        yield batch


def _batch_edits(references: Sequence[Sequence[Hashable]], hypotheses: Sequence[Sequence[Hashable]]) -> IntArray:
    """Substitutions, deletions and insertions, (n, 3), by dynamic programming over all pairs of a batch at once."""
    number: dict[Hashable, int] = {}
    r, r_lengths = _padded(references, number, -1)
    h, h_lengths = _padded(hypotheses, number, -2)  # different padding values never match
    inserted = np.arange(h.shape[1] + 1) * EDIT
    row = np.tile(inserted, (len(h), 1))
    cost = row[np.arange(len(h)), h_lengths]  # for empty references; the others are set at their last word
    for i, token in enumerate(r.T, start=1):
        next_row = np.empty_like(row)
        next_row[:, 0] = i * EDIT
        substituted = row[:, :-1] + np.where(h == token[:, np.newaxis], 0, EDIT + 1)
        np.minimum(row[:, 1:] + EDIT, substituted, out=next_row[:, 1:])
        row = np.minimum.accumulate(next_row - inserted, axis=1) + inserted
        ends = np.flatnonzero(r_lengths == i)
        cost[ends] = row[ends, h_lengths[ends]]
    edits, substitutions = np.divmod(cost, EDIT)
    surplus = h_lengths - r_lengths  # insertions − deletions
    deletions = (edits - substitutions - surplus) // 2
    return np.stack([substitutions, deletions, deletions + surplus], axis=1)


def _padded(
    texts: Sequence[Sequence[Hashable]], number: dict[Hashable, int], padding: int
) -> tuple[IntArray, IntArray]:
    """Tokens as numbers, (n, longest), and the length of each text; new tokens are added to `number`."""
    lengths = np.array([len(tokens) for tokens in texts], dtype=np.int64)
    numbers = np.full((len(texts), lengths.max(initial=0)), padding, dtype=np.int64)
    numbers[np.arange(numbers.shape[1]) < lengths[:, np.newaxis]] = [
        number.setdefault(token, len(number)) for tokens in texts for token in tokens
    ]
    return numbers, lengths
