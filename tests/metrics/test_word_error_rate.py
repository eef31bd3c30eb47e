import time

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.metrics import word_error_rate as module
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
        # Two edits either way: both words wrong, or `b` right between a deletion and an insertion.
        ("a b", "b c", [0, 1, 1, 2]),
    ],
)
def test_counts_by_hand(reference, hypothesis, expected):
    assert word_errors([reference], [hypothesis]).tolist() == [expected]


def test_characters_include_the_spaces_between_words():
    assert character_errors(["a b"], ["ab"]).tolist() == [[0, 1, 0, 3]]
    assert character_errors([" a  b "], ["a b"]).tolist() == [[0, 0, 0, 3]]


def test_the_rate_of_a_corpus_is_a_ratio_of_sums_not_a_mean_of_rates():
    counts = word_errors(["a", "a b c d e f g h i"], ["x", "a b c d e f g h i"])
    assert error_rate(counts.sum(axis=0)) == pytest.approx(1 / 10)
    bootstrap = Bootstrap.from_units(["u", "v"], 200, np.random.default_rng(0))
    estimate = bootstrap.estimate(counts, error_rate, n=2)
    assert (estimate.value, estimate.note) == (0.1, "only 2 clips; 95 % intervals need 20")


def test_without_reference_words_the_rate_counts_insertions_and_the_score_is_floored():
    assert error_rate([0, 0, 3, 0]) == 3.0 == jiwer.wer("", "a b c")
    assert error_rate([0, 0, 0, 0]) == 0.0 == jiwer.wer("", "")
    assert one_minus_wer(word_errors(["a"], ["b c d"]).sum(axis=0)) == 0.0


def test_normalise():
    assert normalise("Well-known, isn’t it?\nYES…") == "wellknown isnt it yes"
    assert normalise("“ÄRGER” — $5") == "ärger $5"
    assert normalise("?!") == ""


@given(pairs)
def test_as_jiwer_counts(found):
    references, hypotheses = map(list, zip(*found, strict=True))
    for own, oracle in ((word_errors, jiwer.process_words), (character_errors, jiwer.process_characters)):
        expected = oracle(references, hypotheses)
        s, d, i, n = own(references, hypotheses).sum(axis=0)
        assert s + d + i == expected.substitutions + expected.deletions + expected.insertions
        assert i - d == expected.insertions - expected.deletions
        assert n == expected.hits + expected.substitutions + expected.deletions
        assert n - s - d >= expected.hits
    assert error_rate(word_errors(references, hypotheses).sum(axis=0)) == pytest.approx(
        jiwer.wer(references, hypotheses)
    )


@given(pairs)
def test_an_utterance_is_counted_alike_alone_and_among_others(found):
    together = word_errors(*zip(*found, strict=True))
    assert together.tolist() == [word_errors([r], [h])[0].tolist() for r, h in found]


def test_small_batches_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    said = [" ".join(rng.choice(list("abcd"), size=n)) for n in rng.integers(0, 20, 60)]
    heard = [" ".join(rng.choice(list("abcd"), size=n)) for n in rng.integers(0, 20, 60)]
    expected = word_errors(said, heard)
    monkeypatch.setattr(module, "BATCH_CELLS", 30)
    assert np.array_equal(word_errors(said, heard), expected)


@given(texts, texts)
def test_swapping_the_texts_swaps_deletions_and_insertions(reference, hypothesis):
    s, d, i, _ = word_errors([reference], [hypothesis])[0]
    assert word_errors([hypothesis], [reference])[0, :3].tolist() == [s, i, d]


def test_ten_thousand_utterances_take_seconds():
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"w{i}" for i in range(500)])
    said = [" ".join(rng.choice(vocabulary, size=n)) for n in rng.integers(5, 35, 10_000)]
    heard = [" ".join(w for w in text.split() if rng.random() > 0.2) for text in said]
    start = time.process_time()
    counts = word_errors(said, heard)
    assert time.process_time() - start < 10
    assert counts[:, 0].sum() == 0 == counts[:, 2].sum()  # words were only left out
    assert 0.18 < error_rate(counts.sum(axis=0)) < 0.22


def test_faults():
    with pytest.raises(ValueError, match="2 references, but 1 hypotheses"):
        word_errors(["a", "b"], ["a"])
    with pytest.raises(ValueError, match=r"must be \(…, 4\)"):
        error_rate([1, 2, 3])
