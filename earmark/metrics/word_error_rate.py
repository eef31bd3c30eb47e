"""Word and character error rates of transcripts, from counts of each utterance.

Errors are those of the shortest edit from reference to hypothesis. Where several edits are as short, that with the
fewest substitutions (and so the most words right) is counted: the total is every tool's, the split is this rule's.

Nothing is normalised unless `normalise` is called: "Hello" and "hello," are two words. Utterances without reference
words count as any other: what was said into the silence are insertions. A corpus without any has no length to divide
by; its rate is the number of insertions, as in jiwer 4.
"""

import unicodedata
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EDIT = 1 << 32  # what an edit costs; a substitution costs 1 more, so that ties go to fewer of them
CELLS_AT_ONCE = 1 << 16  # of a table's rows: few enough that a core's cache holds them


def normalise(text: str) -> str:
    """Lower case, no punctuation, single spaces: the usual form for comparing transcripts of different sources.

    Punctuation is every character of the Unicode categories P, apostrophes and hyphens among them; it is removed,
    not replaced by a space. Numbers are not spelt out.

    >>> normalise("  Don't PANIC — it's\\ta well-known  word.")
    'dont panic its a wellknown word'
    """
    kept = "".join(c for c in text.lower() if not unicodedata.category(c).startswith("P"))
    return " ".join(kept.split())


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> IntArray:
    """Substitutions, deletions, insertions and reference words of each utterance, (n, 4).

    Words are what stands between white space. Sums over utterances, of a corpus or of a bootstrap's replicate, are
    what `error_rate` takes. ValueError: lists of different lengths.
    Source: Levenshtein (1966), Soviet Physics Doklady 10:707.

    >>> word_errors(["the cat sat", ""], ["the hat sat down", "oh"]).tolist()
    [[1, 0, 1, 3], [0, 0, 1, 0]]
    """
    return _edits([text.split() for text in references], [text.split() for text in hypotheses])


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> IntArray:
    """As `word_errors`, for characters: a run of white space is one character, none stands at either end.

    >>> character_errors(["cat"], ["hats"]).tolist()
    [[1, 0, 1, 3]]
    """
    return _edits(
        [list(" ".join(text.split())) for text in references], [list(" ".join(t.split())) for t in hypotheses]
    )


def error_rate(sums: ArrayLike) -> FloatArray:
    """Errors per reference word (or character): (…, 4) sums → (…), at least 0, above 1 where much is inserted.

    Reference of no words: the number of insertions.

    >>> float(error_rate([1, 0, 1, 4])), float(error_rate([0, 0, 0, 0]))
    (0.5, 0.0)
    """
    counts = np.asarray(sums, dtype=float)
    if counts.shape[-1:] != (4,):
        raise ValueError(f"sums {counts.shape} must be (…, 4): substitutions, deletions, insertions, reference words")
    return np.asarray(counts[..., :3].sum(axis=-1) / np.maximum(counts[..., 3], 1))


def one_minus_wer(sums: ArrayLike) -> FloatArray:
    """The score max(0, 1 − WER) of X-ARES's speech recognition task: (…, 4) sums → (…) in [0, 1].

    >>> one_minus_wer([[1, 0, 1, 4], [0, 0, 9, 4]]).tolist()
    [0.5, 0.0]
    """
    return np.maximum(0.0, 1.0 - error_rate(sums))


def _edits(references: Sequence[Sequence[Hashable]], hypotheses: Sequence[Sequence[Hashable]]) -> IntArray:
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references and {len(hypotheses)} hypotheses must be as many")
    counts = np.zeros((len(references), 4), dtype=np.int64)
    counts[:, 3] = [len(tokens) for tokens in references]
    differ = [i for i, (r, h) in enumerate(zip(references, hypotheses, strict=True)) if r != h]
    for batch in _batches(differ, references, hypotheses):
        found = [(references[i], hypotheses[i]) for i in batch]
        counts[batch, :3] = _batch_edits([r for r, _ in found], [h for _, h in found])
    return counts


def _batches(
    items: Sequence[int], references: Sequence[Sequence[Hashable]], hypotheses: Sequence[Sequence[Hashable]]
) -> Iterator[list[int]]:
    """The items in batches of like lengths, whose rows are bounded in memory."""
    batch: list[int] = []
    widest = 0
    for i in sorted(items, key=lambda i: (len(references[i]), len(hypotheses[i]))):
        wider = max(widest, len(hypotheses[i]) + 1)
        if batch and wider * (len(batch) + 1) > CELLS_AT_ONCE:
            yield batch
            batch, wider = [], len(hypotheses[i]) + 1
        batch.append(i)
        widest = wider
    if batch:
        yield batch


def _batch_edits(references: Sequence[Sequence[Hashable]], hypotheses: Sequence[Sequence[Hashable]]) -> IntArray:
    """Substitutions, deletions and insertions, (n, 3), of all pairs of a batch row by row of their tables."""
    number: dict[Hashable, int] = {}
    r, r_lengths = _padded(references, number, -1)
    h, h_lengths = _padded(hypotheses, number, -2)  # padding meets no padding
    inserted = np.arange(h.shape[1] + 1) * EDIT
    row = np.tile(inserted, (len(h), 1))
    cost = row[np.arange(len(h)), h_lengths]  # of those without a reference; the rest follow at their last word
    for i, token in enumerate(r.T, start=1):
        reached = np.empty_like(row)
        reached[:, 0] = i * EDIT
        substituted = row[:, :-1] + np.where(h == token[:, np.newaxis], 0, EDIT + 1)
        np.minimum(row[:, 1:] + EDIT, substituted, out=reached[:, 1:])
        row = np.minimum.accumulate(reached - inserted, axis=1) + inserted
        ends = np.flatnonzero(r_lengths == i)
        cost[ends] = row[ends, h_lengths[ends]]
    edits, substitutions = np.divmod(cost, EDIT)
    surplus = h_lengths - r_lengths  # insertions − deletions
    deletions = (edits - substitutions - surplus) // 2
    return np.stack([substitutions, deletions, deletions + surplus], axis=1)


def _padded(
    texts: Sequence[Sequence[Hashable]], number: dict[Hashable, int], padding: int
) -> tuple[IntArray, IntArray]:
    """Tokens as numbers, (n, longest), and how many each text has; new tokens get a number."""
    lengths = np.array([len(tokens) for tokens in texts], dtype=np.int64)
    numbers = np.full((len(texts), lengths.max(initial=0)), padding, dtype=np.int64)
    numbers[np.arange(numbers.shape[1]) < lengths[:, np.newaxis]] = [
        number.setdefault(token, len(number)) for tokens in texts for token in tokens
    ]
    return numbers, lengths
