"""Back end: small examples computed by hand, AS-norm against a double loop, and invalid embeddings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.errors import DataError
from earmark.speaker import back_end
from earmark.speaker.back_end import (
    adaptive_s_norm,
    cosine_scores,
    embedding_matrix,
    length_normalise,
    pool_enrolments,
    required_utterances,
    shared_speakers,
    speaker_means,
    subtract_mean,
)
from earmark.speaker.trial_files import read_enrolments
from earmark.speaker.trials import Trials


def trial_list(*pairs):
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    sides = np.array([[names.index(name) for name in pair] for pair in pairs])
    return Trials(np.array(names, dtype=object), sides[:, 0], sides[:, 1])


def simulated(n=40, d=6, n_trials=500, seed=0):
    rng = np.random.default_rng(seed)
    names = np.array([f"s{i // 4}/{i}" for i in range(n)], dtype=object)
    return Trials(names, *rng.integers(0, n, (2, n_trials))), rng.normal(size=(n, d)), rng


# --- embeddings ---------------------------------------------------------------------------------------------


def test_embedding_matrix_lists_missing_utterances():
    trials = trial_list(("a", "b"), ("a", "c"), ("c", "c"))
    matrix, missing = embedding_matrix(trials.names, {"a": [1.0, 0.0], "b": [1.0, 1.0], "z": [1.0]})
    assert missing == ["c"]
    scores = cosine_scores(trials, matrix)
    assert scores[0] == pytest.approx(np.sqrt(0.5))
    assert np.isnan(scores[1:]).all()


def test_embedding_matrix_without_embeddings():
    trials = trial_list(("a", "b"))
    matrix, missing = embedding_matrix(trials.names, {})
    assert (missing, np.isnan(cosine_scores(trials, matrix)).tolist()) == (["a", "b"], [True])


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"a": [1.0, 2.0], "b": [1.0]}, r"b: the embedding has shape \(1,\), expected \(2,\)"),
        ({"a": [[1.0, 2.0]], "b": [1.0, 2.0]}, r"a: the embedding has shape \(1, 2\)"),
        ({"a": 1.0, "b": 2.0}, r"a: the embedding has shape \(\)"),
        ({"a": [1.0, 2.0], "b": [np.nan, 1.0]}, "b: the embedding is not finite"),
        ({"a": [1.0, 2.0], "b": [np.inf, 1.0]}, "b: the embedding is not finite"),
        ({"a": [1.0, 2.0], "b": [0.0, 0.0]}, "b: the embedding is all zeros"),
        ({"a": [1.0, 2.0], "b": [2.0, 4.0]}, "all embeddings are identical up to scale"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0 + 1e-8]}, "all embeddings are identical up to scale"),
    ],
)
def test_embedding_matrix_rejects_invalid_embeddings(vectors, message):
    with pytest.raises(ValueError, match=message):
        embedding_matrix(["a", "b"], vectors)


def test_embedding_matrix_rejects_constant_encoder(monkeypatch):
    monkeypatch.setattr(back_end, "CHUNK_VALUES", 6)
    names = ["missing", *map(str, range(20))]
    identical = dict.fromkeys(names[1:], np.array([0.1, 0.2, 0.3]))
    with pytest.raises(ValueError, match="all embeddings are identical up to scale"):
        embedding_matrix(names, identical)
    matrix, _ = embedding_matrix(names, identical | {"19": np.array([0.1, 0.2, 0.4])})
    assert len(matrix) == 21


def test_length_normalise_does_not_overflow_or_underflow():
    unit = length_normalise(np.array([[3e200, 4e200], [3e-200, 4e-200], [np.nan, np.nan]]))
    assert unit[:2] == pytest.approx(np.array([[0.6, 0.8], [0.6, 0.8]]))
    assert np.isnan(unit[2]).all()
    with pytest.raises(ValueError, match="row 1 is all zeros"):
        length_normalise(np.array([[1.0, 0.0], [0.0, 0.0]]))


def test_subtract_mean():
    assert subtract_mean(np.array([[1.0, 2.0]]), [1.0, 1.0]).tolist() == [[0.0, 1.0]]
    with pytest.raises(ValueError, match=r"the mean has shape \(3,\), but embeddings have \(2,\)"):
        subtract_mean(np.ones((4, 2)), np.ones(3))
    with pytest.raises(ValueError, match="not finite"):
        subtract_mean(np.ones((4, 2)), [1.0, np.nan])


# --- enrolment models ---------------------------------------------------------------------------


def test_pool_enrolments_averages_unit_vectors():
    trials = trial_list(("M", "t"), ("u", "t"))
    models = {"M": ["x", "y"], "unused": ["z"]}
    needed = required_utterances(trials, models)
    assert needed == ["x", "y", "t", "u"]
    matrix, missing = embedding_matrix(needed, {"x": [9.0, 0.0], "y": [0.0, 1.0], "t": [0.0, 2.0], "u": [1.0, 0.0]})
    rows = pool_enrolments(trials, models, needed, matrix)
    assert not missing
    assert rows.tolist() == [[0.5, 0.5], [0.0, 2.0], [1.0, 0.0]]
    # By hand: (½, ½) against (0, 1) is √½, however long x is; u against t is 0.
    assert cosine_scores(trials, rows) == pytest.approx([np.sqrt(0.5), 0.0])


def test_pool_enrolments_with_missing_utterance_is_nan():
    trials, models = trial_list(("M", "t")), {"M": ["x", "y"]}
    needed = required_utterances(trials, models)
    matrix, missing = embedding_matrix(needed, {"x": [9.0, 0.0], "t": [0.0, 2.0]})
    assert missing == ["y"]
    assert np.isnan(cosine_scores(trials, pool_enrolments(trials, models, needed, matrix))).all()


def test_invalid_enrolment_models_are_errors():
    with pytest.raises(ValueError, match="M: an enrolment model is on the test side of a trial"):
        required_utterances(trial_list(("t", "M")), {"M": ["x"]})
    trials, models = trial_list(("M", "t")), {"M": ["x", "y"]}
    with pytest.raises(ValueError, match="M: the embeddings of its utterances sum to zero"):
        pool_enrolments(trials, models, ["x", "y", "t"], np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]]))


def test_read_enrolments_reports_all_faults(tmp_path):
    path = tmp_path / "spk2utt"
    path.write_text("m1 a b\nm2\tc\nm1 d\n")
    assert read_enrolments(path) == {"m1": ["a", "b", "d"], "m2": ["c"]}
    path.write_text("m1 a b\nm2\n\nm1 b\n")
    with pytest.raises(DataError) as caught:
        read_enrolments(path)
    assert "line 2: has fewer than 2 values (first of 2 lines)" in str(caught.value)
    assert "line 4: 'b' is repeated in 'm1'" in str(caught.value)
    path.write_text("")
    with pytest.raises(DataError, match="contains no models"):
        read_enrolments(path)


# --- scores -------------------------------------------------------------------------------------------------


def test_cosine_scores_in_chunks_match_formula(monkeypatch):
    trials, matrix, _ = simulated()
    monkeypatch.setattr(back_end, "CHUNK_VALUES", 100)
    expected = [
        x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in zip(matrix[trials.enrolment], matrix[trials.test], strict=True)
    ]
    assert cosine_scores(trials, matrix) == pytest.approx(expected, abs=1e-14)


@given(st.lists(st.floats(1e-3, 1e3), min_size=40, max_size=40))
def test_cosine_scores_ignore_embedding_length(lengths):
    trials, matrix, _ = simulated(n_trials=50)
    longer = matrix * np.array(lengths)[:, None]
    assert cosine_scores(trials, longer) == pytest.approx(cosine_scores(trials, matrix), abs=1e-12)


def test_speaker_means_average_unit_vectors():
    matrix = np.array([[2.0, 0.0], [np.nan, np.nan], [0.0, 1.0], [0.0, -3.0], [np.nan, np.nan]])
    means, speakers = speaker_means(matrix, ["b", "b", "b", "a", "lost"])
    assert (speakers, means.tolist()) == (["a", "b"], [[0.0, -1.0], [0.5, 0.5]])
    with pytest.raises(ValueError, match="2 speakers for 5 embeddings"):
        speaker_means(matrix, ["a", "b"])


def direct_s_norm(trials, scores, matrix, cohort, top_n):
    """The definition, trial by trial."""

    def cosine(x, y):
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    normalised = []
    for s, e, t in zip(scores, trials.enrolment, trials.test, strict=True):
        halves = []
        for side in (e, t):
            top = sorted((cosine(matrix[side], other) for other in cohort), reverse=True)[:top_n]
            mean = sum(top) / top_n
            halves.append((s - mean) / np.sqrt(sum((x - mean) ** 2 for x in top) / top_n))
        normalised.append(sum(halves) / 2)
    return normalised


@pytest.mark.parametrize("top_n", [2, 7, 15])
def test_adaptive_s_norm_matches_double_loop(monkeypatch, top_n):
    trials, matrix, rng = simulated(n_trials=60)
    cohort = rng.normal(size=(15, 6))
    scores = cosine_scores(trials, matrix)
    monkeypatch.setattr(back_end, "CHUNK_VALUES", 50)
    normalised = adaptive_s_norm(trials, scores, matrix, cohort, top_n)
    assert normalised == pytest.approx(direct_s_norm(trials, scores, matrix, cohort, top_n), abs=1e-9)


def test_adaptive_s_norm_by_hand():
    # Cosines with the cohort: a has 1 and 0 (mean ½, σ ½), b has .6 and .8 (mean .7, σ .1). s = a·b = .6.
    trials, matrix = trial_list(("a", "b")), np.array([[1.0, 0.0], [3.0, 4.0]])
    normalised = adaptive_s_norm(trials, np.array([0.6]), matrix, np.eye(2) * 7, top_n=2)
    assert normalised == pytest.approx([((0.6 - 0.5) / 0.5 + (0.6 - 0.7) / 0.1) / 2])


def test_adaptive_s_norm_is_symmetric_and_keeps_nan():
    trials, matrix, rng = simulated()
    matrix[3] = np.nan
    scores, cohort = cosine_scores(trials, matrix), rng.normal(size=(30, 6))
    normalised = adaptive_s_norm(trials, scores, matrix, cohort, 10)
    swapped = Trials(trials.names, trials.test, trials.enrolment)
    assert np.array_equal(normalised, adaptive_s_norm(swapped, scores, matrix, cohort, 10), equal_nan=True)
    assert np.array_equal(np.isnan(normalised), (trials.enrolment == 3) | (trials.test == 3))
    assert 0 < np.isnan(normalised).sum() < len(normalised)


def test_adaptive_s_norm_rejects_degenerate_cohort():
    trials, matrix = trial_list(("a", "b")), np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    scores = cosine_scores(trials, matrix)
    parallel = np.array([[1.0, 0.0, 1.0], [2.0, 0.0, 2.0]])
    with pytest.raises(ValueError, match="a: its 2 highest cosines with the cohort are all equal"):
        adaptive_s_norm(trials, scores, matrix, parallel, 2)
    with pytest.raises(ValueError, match="top_n is 300; it must be from 2 to 2, the number of cohort speakers"):
        adaptive_s_norm(trials, scores, matrix, parallel)
    with pytest.raises(ValueError, match="top_n is 1;"):
        adaptive_s_norm(trials, scores, matrix, parallel, 1)
    with pytest.raises(ValueError, match=r"the cohort of shape \(2, 3\) has missing rows"):
        adaptive_s_norm(trials, scores, matrix, np.full((2, 3), np.nan), 2)
    with pytest.raises(ValueError, match="a dimension other than 3"):
        adaptive_s_norm(trials, scores, matrix, np.eye(2), 2)


def test_shared_speakers():
    assert shared_speakers(["x", "y", "z"], {"z", "x"}) == ["x", "z"]
    assert shared_speakers(["x"], []) == []
