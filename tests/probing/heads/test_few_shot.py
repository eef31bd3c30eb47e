"""Few-shot logistic regression, compared with scikit-learn for several dimensions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from earmark.probing.heads import few_shot
from earmark.probing.heads.few_shot import INVERSE_REGULARISATION, few_shot_logits, fit_logistic, layer_norm


def draw_data(seed, width, shots, classes=5, separation=0.3, tested=200):
    """Shots and test embeddings of overlapping classes, with labels."""
    rng = np.random.default_rng(seed)
    centres = separation * rng.normal(size=(classes, width)) + 2 * rng.normal(size=width)
    labels, test_labels = np.repeat(np.arange(classes), shots), np.arange(tested) % classes
    x, y = (centres[each] + rng.normal(size=(len(each), width)) for each in (labels, test_labels))
    return x.astype(np.float32), labels, y.astype(np.float32), test_labels


def scikit_learn_logits(x, labels, test, tol=1e-8):
    """Logits of scikit-learn for the same features."""
    shots, test_rows = layer_norm(x), layer_norm(test)
    mean = shots.mean(axis=0)
    size = np.sqrt(((shots - mean) ** 2).sum(axis=1).mean())
    model = LogisticRegression(C=INVERSE_REGULARISATION, tol=tol, max_iter=10_000).fit((shots - mean) / size, labels)
    return model.decision_function((test_rows - mean) / size)


@pytest.mark.parametrize("width", [8, 64, 768])
@pytest.mark.parametrize("shots", [1, 5, 20])
@pytest.mark.parametrize("separation", [0.1, 1.0])
def test_few_shot_logits_match_scikit_learn(width, shots, separation):
    x, labels, test, _ = draw_data(1, width, shots, separation=separation)
    ours, theirs = few_shot_logits(x, labels, test, 5), scikit_learn_logits(x, labels, test)
    ours, theirs = (each - each.mean(axis=1, keepdims=True) for each in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, atol=2e-2)
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() >= 0.99


def test_two_classes():
    x, labels, test, test_labels = draw_data(2, 32, 10, classes=2, separation=0.5)
    logits = few_shot_logits(x, labels, test, 2)
    assert (logits.argmax(axis=1) == test_labels).mean() > 0.9


def test_five_shots_in_high_dimension():
    """Ten classes in 768 dimensions: the accuracy of scikit-learn on the same data."""
    ours, theirs = [], []
    for seed in range(5):
        x, labels, test, test_labels = draw_data(seed, 768, 5, classes=10, separation=0.22)
        ours.append((few_shot_logits(x, labels, test, 10).argmax(axis=1) == test_labels).mean())
        theirs.append((scikit_learn_logits(x, labels, test, 1e-6).argmax(axis=1) == test_labels).mean())
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=0.005)
    assert np.mean(ours) > 0.8


def test_gradient_vanishes_at_the_solution():
    x, labels, *_ = draw_data(3, 40, 3)
    x = layer_norm(x) / np.sqrt(40)
    head = fit_logistic(x, labels)
    logits = head.logits(x, 5)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    errors = shares / shares.sum(axis=1, keepdims=True) - np.eye(5)[labels]
    assert np.abs(errors.T @ x + head.weight / INVERSE_REGULARISATION).max() < 1e-3
    assert np.abs(errors.sum(axis=0)).max() < 1e-3


@given(seed=st.integers(0, 1000), shift=st.floats(-50, 50), scale=st.floats(0.1, 30))
@settings(max_examples=15, deadline=None)
def test_predictions_invariant_to_shift_and_scale(seed, shift, scale):
    x, labels, test, _ = draw_data(seed, 12, 4)
    before, after = (
        few_shot_logits(x, labels, test, 5),
        few_shot_logits(scale * x + shift, labels, scale * test + shift, 5),
    )
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.97


def test_class_without_shots_is_never_predicted():
    x, labels, test, _ = draw_data(4, 16, 3, classes=3)
    logits = few_shot_logits(x, labels + 1, test, 6)
    assert np.isinf(logits[:, [0, 4, 5]]).all() and np.isfinite(logits[:, 1:4]).all()


def test_identical_shots_give_equal_logits():
    assert np.ptp(few_shot_logits(np.ones((4, 3)), [0, 1, 0, 1], np.eye(3), 2)) < 1e-6


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (np.eye(3), [1, 1, 1], "the training set has only one class"),
        (np.array([[1.0, np.nan], [0, 1]]), [0, 1], "embeddings must be finite"),
    ],
)
def test_fit_logistic_rejects_invalid_data(x, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_logistic(x, labels)


def test_fit_logistic_without_convergence(monkeypatch):
    monkeypatch.setattr(few_shot, "MAX_ITERATIONS", 2)
    x, labels, *_ = draw_data(5, 20, 5)
    with pytest.raises(ValueError, match="did not converge in 2 iterations"):
        fit_logistic(x, labels)
