import time

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.word_error_rate import character_errors, error_rate, normalise, one_minus_wer, word_errors

texts = st.lists(st.sampled_from(["a", "b", "c", "ab"]), max_size=9).map(" ".join)
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("one two three", "one two three", [0, 0, 0, 3]),
        ("one two three", "one three", [0, 1, 0, 3]),
        ("one two three", "one too three four", [1, 0, 1, 3]),
        ("one two three", "", [0, 3, 0, 3]),
        ("", "one two", [0, 0, 2, 0]),
        ("", "", [0, 0, 0, 0]),
        ("One", "one", [1, 0, 0, 1]),
        (" one\ttwo\n", "one  two", [0, 0, 0, 2]),
    ],
)
def test_word_errors_worked_examples(reference, hypothesis, expected):
    assert word_errors([reference], [hypothesis]).tolist() == [expected]


def test_character_errors_include_spaces():
    assert character_errors(["a b"], ["ab"]).tolist() == [[0, 1, 0, 3]]
    assert character_errors([" a  b "], ["a b"]).tolist() == [[0, 0, 0, 3]]


def test_error_rate_is_ratio_of_sums():
    counts = word_errors(["a", "a b c d e f g h i"], ["x", "a b c d e f g h i"])
    assert error_rate(counts.sum(axis=0)) == pytest.approx(1 / 10)
    bootstrap = Bootstrap.from_units(["u", "v"], 200, np.random.default_rng(0))
    estimate = bootstrap.estimate(counts, error_rate, n=2)
    assert (estimate.value, estimate.note) == (0.1, "only 2 clips (95 % intervals need at least 20)")


def test_error_rate_without_reference_words():
    assert error_rate([0, 0, 3, 0]) == 3.0 == jiwer.wer("", "a b c")
    assert error_rate([0, 0, 0, 0]) == 0.0 == jiwer.wer("", "")
    assert one_minus_wer(word_errors(["a"], ["b c d"]).sum(axis=0)) == 0.0


def test_normalise():
    assert normalise("Well-known, isn’t it?\nYES…") == "wellknown isnt it yes"
    assert normalise("“ÄRGER” — $5") == "ärger $5"
    assert normalise("?!") == ""


def edit_distance(reference, hypothesis):
    """Levenshtein's distance of two sequences, one row of the table after the other."""
    row = list(range(len(hypothesis) + 1))
    for i, token in enumerate(reference, 1):
        before, row = row, [i]
        for j, other in enumerate(hypothesis, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (token != other)))
    return row[-1]


@given(pairs)
def test_errors_are_levenshtein_distances(result):
    references, hypotheses = map(list, zip(*result, strict=True))
    for errors, tokens in ((word_errors, str.split), (character_errors, list)):
        counts = errors(references, hypotheses)
        for (s, d, i, n), (reference, hypothesis) in zip(counts.tolist(), result, strict=True):
            assert s + d + i == edit_distance(tokens(reference), tokens(hypothesis))
            assert (n, i - d) == (len(tokens(reference)), len(tokens(hypothesis)) - len(tokens(reference)))
    assert error_rate(word_errors(references, hypotheses).sum(axis=0)) == pytest.approx(
        jiwer.wer(references, hypotheses)
    )


@given(pairs)
def test_word_errors_independent_of_batch(result):
    together = word_errors(*zip(*result, strict=True))
    assert together.tolist() == [word_errors([r], [h])[0].tolist() for r, h in result]


@given(texts, texts)
def test_word_errors_symmetric(reference, hypothesis):
    forward, backward = (word_errors([r], [h])[0] for r, h in ((reference, hypothesis), (hypothesis, reference)))
    assert forward[:3].sum() == backward[:3].sum()


def test_word_errors_speed():
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"w{i}" for i in range(500)])
    references = [" ".join(rng.choice(vocabulary, size=n)) for n in rng.integers(5, 35, 10_000)]
    hypotheses = [" ".join(w for w in text.split() if rng.random() > 0.2) for text in references]
    start = time.process_time()
    counts = word_errors(references, hypotheses)
    assert time.process_time() - start < 10
    assert counts[:, 0].sum() == 0 == counts[:, 2].sum()  # deletions only
    assert 0.18 < error_rate(counts.sum(axis=0)) < 0.22


def test_word_error_rate_rejects_invalid_input():
    with pytest.raises(ValueError, match="2 references, but 1 hypotheses"):
        word_errors(["a", "b"], ["a"])
    with pytest.raises(ValueError, match=r"must be \(…, 4\)"):
        error_rate([1, 2, 3])
