import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score

from earmark.metrics import retrieval as module
from earmark.metrics.retrieval import mean_recall_at_1, rank_captions, rank_clips, retrieval_metrics


@st.composite
def matrices(draw, levels=4):
    """Similarities with few distinct values, so that ties are common, and captions in any order."""
    n = draw(st.integers(1, 6))
    clip = draw(st.permutations([*range(n), *draw(st.lists(st.integers(0, n - 1), max_size=8))]))
    values = draw(st.lists(st.integers(0, levels), min_size=n * len(clip), max_size=n * len(clip)))
    return np.array(values, dtype=float).reshape(n, len(clip)) / levels, np.array(clip)


def by_brute_force(row, belongs):
    """First rank and average precision at 10 of one query by sorting, with ties ranked pessimistically."""
    order = sorted(range(len(row)), key=lambda c: (-row[c], belongs[c]))
    ranks = [rank for rank, c in enumerate(order, start=1) if belongs[c]]
    precision = sum(i / rank for i, rank in enumerate(ranks, start=1) if rank <= 10)
    return ranks[0], precision / min(len(ranks), 10)


def test_retrieval_metrics_worked_example():
    # Clip 0 has captions 0 and 2, clip 1 has captions 1 and 3.
    similarity = [[0.1, 0.8, 0.9, 0.2], [0.7, 0.6, 0.3, 0.1]]
    clip = [0, 1, 0, 1]
    captions = rank_captions(similarity, clip)
    assert captions.first_rank.tolist() == [1, 2]
    # The captions of clip 0 have ranks 1 and 4, those of clip 1 ranks 2 and 4.
    assert captions.average_precision == pytest.approx([(1 / 1 + 2 / 4) / 2, (1 / 2 + 2 / 4) / 2])
    clips = rank_clips(similarity, clip)
    assert clips.first_rank.tolist() == [2, 2, 1, 2]
    assert clips.average_precision == pytest.approx([1 / 2, 1 / 2, 1, 1 / 2])
    metrics = retrieval_metrics(similarity, clip)
    assert metrics["audio_to_text_r1"] == 1 / 2
    assert metrics["text_to_audio_r1"] == 1 / 4
    assert metrics["mean_r1"] == mean_recall_at_1(similarity, clip) == 3 / 8
    assert metrics["audio_to_text_r5"] == metrics["text_to_audio_r10"] == 1.0
    assert metrics["audio_to_text_map10"] == pytest.approx((0.75 + 0.5) / 2)


def test_average_precision_ignores_ranks_above_10():
    similarity = -np.arange(12.0)[np.newaxis].repeat(12, axis=0)  # caption j has rank j + 1 for every clip
    ranking = rank_captions(similarity, np.arange(12))
    assert ranking.first_rank.tolist() == list(range(1, 13))
    assert ranking.average_precision[9:] == pytest.approx([1 / 10, 0, 0])
    assert ranking.recall_at(10) == pytest.approx(10 / 12)


def test_retrieval_metrics_constant_similarity():
    metrics = retrieval_metrics(np.ones((20, 100)), np.repeat(np.arange(20), 5))
    assert set(metrics.values()) == {0.0}


def test_retrieval_metrics_perfect_similarity():
    clip = np.repeat(np.arange(7), 5)
    metrics = retrieval_metrics(np.eye(7)[:, clip], clip)
    assert set(metrics.values()) == {1.0}


@given(matrices())
def test_ranking_matches_brute_force(result):
    similarity, clip = result
    captions, clips = rank_captions(similarity, clip), rank_clips(similarity, clip)
    for i, row in enumerate(similarity):
        expected = by_brute_force(row, clip == i)
        assert (captions.first_rank[i], captions.average_precision[i]) == pytest.approx(expected)
    for j, column in enumerate(similarity.T):
        expected = by_brute_force(column, np.arange(len(column)) == clip[j])
        assert (clips.first_rank[j], clips.average_precision[j]) == pytest.approx(expected)


def test_average_precision_matches_sklearn():
    rng = np.random.default_rng(0)
    clip = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
    similarity = rng.normal(size=(4, 10))
    expected = label_ranking_average_precision_score(clip == np.arange(4)[:, np.newaxis], similarity)
    assert retrieval_metrics(similarity, clip)["audio_to_text_map10"] == pytest.approx(expected)


@given(matrices(), st.randoms(use_true_random=False))
def test_retrieval_metrics_invariant_to_order(result, random):
    similarity, clip = result
    rows, columns = list(range(len(similarity))), list(range(len(clip)))
    random.shuffle(rows)
    random.shuffle(columns)
    moved = np.argsort(rows)[clip[columns]]
    assert retrieval_metrics(similarity[rows][:, columns], moved) == pytest.approx(retrieval_metrics(similarity, clip))


@given(matrices())
def test_ranking_invariant_to_blocks_and_increasing_transform(result):
    similarity, clip = result
    expected = retrieval_metrics(similarity, clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_CELLS", 1)
        assert retrieval_metrics(np.exp(3 * similarity), clip) == expected


@pytest.mark.parametrize(
    ("similarity", "clip", "match"),
    [
        ([[0.1, np.nan]], [0, 0], "must be finite"),
        ([[0.1, -np.inf]], [0, 0], "must be finite"),
        ([[0.1], [0.2]], [0], "clip 1 has no caption"),
        ([[0.1]], [1], r"whole numbers in 0 … 0"),
        ([[0.1]], [0.0], "whole numbers"),
        ([[0.1]], [0, 0], r"similarity must be \(clips, captions\)"),
        (np.empty((0, 0)), [], r"similarity must be \(clips, captions\)"),
    ],
)
def test_retrieval_rejects_invalid_input(similarity, clip, match):
    for metric in (rank_captions, rank_clips, retrieval_metrics):
        with pytest.raises(ValueError, match=match):
            metric(similarity, clip)


def test_recall_at_rejects_zero():
    with pytest.raises(ValueError, match="k must be at least 1"):
        rank_clips([[1.0]], [0]).recall_at(0)
