"""Influences of sources on recall at 1, against a brute-force jackknife."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.metrics.retrieval import mean_recall_at_1
from earmark.probing import recall
from earmark.probing.recall import NO_SOURCE, SEVERAL_SOURCES, competitors, source_influences


def drawn(seed, sources=7, clips=3, captions=2):
    """Similarities with ties, clip of each caption, source of each clip."""
    rng = np.random.default_rng(seed)
    source = np.concatenate([np.arange(sources), rng.integers(0, sources, sources * (clips - 1))])
    owner = np.concatenate([np.arange(len(source)), rng.integers(0, len(source), len(source) * (captions - 1))])
    similarity = rng.normal(size=(len(source), len(owner)))
    similarity[owner, np.arange(len(owner))] += 1.5
    return similarity.round(1), owner, source


def without(similarity, owner, source, left_out):
    """Recall at 1 without some sources, as queries and as candidates."""
    clips = np.flatnonzero(~np.isin(source, left_out))
    captions = np.flatnonzero(np.isin(owner, clips))
    return mean_recall_at_1(similarity[np.ix_(clips, captions)], np.searchsorted(clips, owner[captions]))


def test_competitors_by_hand():
    """Clip 0 is correct; captions of source a precede clip 1's match, captions of a and b clip 2's match."""
    similarity = np.array([[0.9, 0.1, 0.1], [0.5, 0.4, 0.3], [0.7, 0.6, 0.6]])
    of_clips, of_captions = competitors(similarity, np.arange(3), np.array([0, 1, 2]))
    assert of_clips.tolist() == [NO_SOURCE, 0, SEVERAL_SOURCES]
    assert of_captions.tolist() == [NO_SOURCE, 2, NO_SOURCE]
    equal = np.ones((2, 2))
    assert [each.tolist() for each in competitors(equal, np.arange(2), np.array([0, 1]))] == [[1, 0], [1, 0]]


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_source_influences_match_corrected_jackknife(seed):
    similarity, owner, source = drawn(seed)
    n = source.max() + 1
    whole = mean_recall_at_1(similarity, owner)
    alone = np.array([without(similarity, owner, source, [s]) for s in range(n)])
    pseudo = n * whole - (n - 1) * alone
    influences = source_influences(similarity, owner, source)
    assert influences.mean() == pytest.approx(0, abs=1e-12)
    jackknife = pseudo.var(ddof=1) / n
    ratio = influences.var(ddof=1) / n / jackknife
    np.testing.assert_allclose(influences, (pseudo - pseudo.mean()) * np.sqrt(ratio), atol=1e-9)
    assert 0.5 - 1e-9 <= ratio <= 1 + 1e-9
    assert ratio == pytest.approx(max(1 - pairwise(similarity, owner, source) / jackknife, 0.5))


def pairwise(similarity, owner, source):
    """Variance from interactions: queries of one source whose only competitors are from the other."""
    n, together = source.max() + 1, []
    clip_own = [similarity[clip, owner == clip].max() for clip in range(len(source))]
    for pair in combinations(range(n), 2):
        lost = 0.0
        for one, other in (pair, pair[::-1]):
            for clip in np.flatnonzero(source == one):
                way = {source[owner[c]] for c in np.flatnonzero(similarity[clip] >= clip_own[clip]) if owner[c] != clip}
                lost += (way == {other}) / (2 * len(source))
            for caption in np.flatnonzero(source[owner] == one):
                column, own = similarity[:, caption], owner[caption]
                way = {source[c] for c in np.flatnonzero(column >= column[own]) if c != own}
                lost += (way == {other}) / (2 * len(owner))
        together.append(lost)
    return len(together) * np.var(together)


def test_competitors_independent_of_chunk_size(monkeypatch):
    case = drawn(3)
    whole = source_influences(*case)
    monkeypatch.setattr(recall, "CELLS_AT_ONCE", 50)
    assert source_influences(*case).tolist() == whole.tolist()


def test_source_influences_zero_for_perfect_recall():
    assert source_influences(np.eye(4), np.arange(4), np.array([0, 0, 1, 2])).tolist() == [0, 0, 0]
