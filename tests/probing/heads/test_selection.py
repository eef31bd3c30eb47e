import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from earmark.probing.heads.selection import mean_by_clip, selection_metric


def test_clip_metrics_by_hand():
    rows = np.arange(4)
    outputs = np.array([[2, 1], [0, 1], [3, 0], [0, 2]], np.float32)
    assert selection_metric("accuracy", np.array([0, 0, 1, 1]))(outputs, rows) == 0.5
    assert selection_metric("accuracy", np.array([0, -1, -1, 1]))(outputs, rows) == 1.0
    # Crops averaged: clip 0 is (1, 1), the first class wins the tie; clip 1 is (1.5, 1).
    assert selection_metric("accuracy", np.array([0, 0, 1, 1]), clip=[0, 0, 1, 1])(outputs, rows) == 0.5
    assert selection_metric("mse", outputs + np.array([1.0, 3.0]))(outputs, rows) == -5.0
    labels = np.array([[1, 0], [0, 0], [0, 0], [1, 0]])
    assert selection_metric("mAP", labels)(outputs, rows) == pytest.approx(
        average_precision_score(labels[:, 0], outputs[:, 0])
    )
    assert np.isnan(selection_metric("mAP", labels * 0)(outputs, rows))
    assert np.isnan(selection_metric("mAP", labels)(outputs * np.nan, rows))


def test_segment_metrics_by_hand():
    y = np.array([[1], [0], [0], [0], [1]])
    logits = np.array([[-1], [1], [-1], [-1], [-1]], np.float32)
    # Segments of two frames. Clip 0: {0, 1} true positive, {2} true negative. Clip 1: {3, 4} false negative.
    score = selection_metric("segment_f1_micro", y, clip=[0, 0, 0, 1, 1], segment_frames=2)
    assert score(logits, np.arange(5)) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="need `clip`"):
        selection_metric("segment_f1_macro", y)(logits, np.arange(5))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4), max_size=12))
def test_mean_by_clip_matches_loop(clip):
    outputs = np.arange(2 * len(clip), dtype=np.float32).reshape(-1, 2) ** 2
    means, first = mean_by_clip(outputs, clip)
    names = sorted(set(clip))
    assert [clip[i] for i in first] == names
    assert first.tolist() == [clip.index(name) for name in names]
    for mean, name in zip(means, names, strict=True):
        np.testing.assert_allclose(mean, outputs[np.array(clip) == name].mean(axis=0), rtol=1e-6)
