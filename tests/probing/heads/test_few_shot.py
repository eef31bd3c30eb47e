"""Logistic regression from few shots: scikit-learn's to the fourth decimal, whatever the width."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from earmark.probing.heads import few_shot
from earmark.probing.heads.few_shot import STRENGTH, few_shot_logits, fit_logistic, layer_norm


def drawn(seed, width, shots, classes=5, separation=0.3, tested=200):
    """Shots and test embeddings of classes that overlap, and their labels."""
    rng = np.random.default_rng(seed)
    centres = separation * rng.normal(size=(classes, width)) + 2 * rng.normal(size=width)
    labels, asked = np.repeat(np.arange(classes), shots), np.arange(tested) % classes
    x, y = (centres[each] + rng.normal(size=(len(each), width)) for each in (labels, asked))
    return x.astype(np.float32), labels, y.astype(np.float32), asked


def oracle(x, labels, test, tol=1e-8):
    """scikit-learn on the same features."""
    shots, asked = layer_norm(x), layer_norm(test)
    mean = shots.mean(axis=0)
    size = np.sqrt(((shots - mean) ** 2).sum(axis=1).mean())
    model = LogisticRegression(C=STRENGTH, tol=tol, max_iter=10_000).fit((shots - mean) / size, labels)
    return model.decision_function((asked - mean) / size)


@pytest.mark.parametrize("width", [8, 64, 768])
@pytest.mark.parametrize("shots", [1, 5, 20])
@pytest.mark.parametrize("separation", [0.1, 1.0])
def test_scikit_learn_fits_the_same_head(width, shots, separation):
    x, labels, test, _ = drawn(1, width, shots, separation=separation)
    ours, theirs = few_shot_logits(x, labels, test, 5), oracle(x, labels, test)
    ours, theirs = (each - each.mean(axis=1, keepdims=True) for each in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, atol=2e-2)
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() >= 0.99


def test_two_classes_are_fitted_as_several_are():
    x, labels, test, asked = drawn(2, 32, 10, classes=2, separation=0.5)
    found = few_shot_logits(x, labels, test, 2)
    assert (found.argmax(axis=1) == asked).mean() > 0.9


def test_five_shots_of_wide_embeddings_are_learnt_from():
    """Ten classes in 768 dimensions: what scikit-learn gets of the same draws, and the nearest centre nearly."""
    right, theirs = [], []
    for seed in range(5):
        x, labels, test, asked = drawn(seed, 768, 5, classes=10, separation=0.22)
        right.append((few_shot_logits(x, labels, test, 10).argmax(axis=1) == asked).mean())
        theirs.append((oracle(x, labels, test, 1e-6).argmax(axis=1) == asked).mean())
    assert np.mean(right) == pytest.approx(np.mean(theirs), abs=0.005)
    assert np.mean(right) > 0.8


def test_the_gradient_is_zero_where_the_fit_ends():
    x, labels, *_ = drawn(3, 40, 3)
    x = layer_norm(x) / np.sqrt(40)
    head = fit_logistic(x, labels)
    logits = head.logits(x, 5)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    errors = shares / shares.sum(axis=1, keepdims=True) - np.eye(5)[labels]
    assert np.abs(errors.T @ x + head.weight / STRENGTH).max() < 1e-3
    assert np.abs(errors.sum(axis=0)).max() < 1e-3


@given(seed=st.integers(0, 1000), moved=st.floats(-50, 50), scale=st.floats(0.1, 30))
@settings(max_examples=15, deadline=None)
def test_moving_and_scaling_embeddings_changes_nothing(seed, moved, scale):
    x, labels, test, _ = drawn(seed, 12, 4)
    before, after = (
        few_shot_logits(x, labels, test, 5),
        few_shot_logits(scale * x + moved, labels, scale * test + moved, 5),
    )
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.97


def test_a_class_that_was_not_shown_is_never_said():
    x, labels, test, _ = drawn(4, 16, 3, classes=3)
    found = few_shot_logits(x, labels + 1, test, 6)
    assert np.isinf(found[:, [0, 4, 5]]).all() and np.isfinite(found[:, 1:4]).all()


def test_shots_that_are_all_alike_say_nothing():
    assert np.ptp(few_shot_logits(np.ones((4, 3)), [0, 1, 0, 1], np.eye(3), 2)) < 1e-6


@pytest.mark.parametrize(
    ("x", "labels", "told"),
    [
        (np.eye(3), [1, 1, 1], "the training split holds one class only"),
        (np.array([[1.0, np.nan], [0, 1]]), [0, 1], "embeddings must be finite"),
    ],
)
def test_what_cannot_be_fitted_is_said(x, labels, told):
    with pytest.raises(ValueError, match=told):
        fit_logistic(x, labels)


def test_a_fit_that_does_not_end_is_an_error(monkeypatch):
    monkeypatch.setattr(few_shot, "MOST_STEPS", 2)
    x, labels, *_ = drawn(5, 20, 5)
    with pytest.raises(ValueError, match="not converged in 2 steps"):
        fit_logistic(x, labels)
