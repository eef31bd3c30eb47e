"""Predictions on disk give every metric again."""

import numpy as np
import pytest

from earmark.errors import EarmarkError
from earmark.metrics.bootstrap import Bootstrap
from earmark.probing.evaluation import (
    METRICS,
    CaptionPredictions,
    ClassPredictions,
    FramePredictions,
    Predictions,
    score_replicates,
)
from earmark.probing.stored_predictions import predictions_to_npz, read_predictions

N = 40
RNG = np.random.default_rng(0)
COMMON = {"group": [f"s{i // 4}" for i in range(N)], "fold": np.arange(N) % 2}
LENGTHS = RNG.integers(3, 9, N)
EDGES = np.concatenate([[0], np.cumsum(LENGTHS)])
FRAMES = int(EDGES[-1])


def logits(*shape):
    """Outputs of two heads."""
    return [RNG.normal(size=shape).astype(np.float32) for _ in range(2)]


def class_predictions(n_classes, **more):
    """One class for each item."""
    outputs = logits(N, n_classes)
    classes = [each.argmax(axis=1) for each in outputs]
    return ClassPredictions(**COMMON, labels=RNG.integers(0, n_classes, N), outputs=outputs, classes=classes, **more)


CASES = {
    "accuracy": class_predictions(5),
    "accuracy by fold": class_predictions(5, by_fold=True),
    "eer": class_predictions(2),
    "mAP": Predictions(**COMMON, labels=RNG.integers(0, 2, (N, 6)), outputs=logits(N, 6)),
    "mse": Predictions(**COMMON, labels=RNG.normal(size=(N, 1)).astype(np.float32), outputs=logits(N, 1)),
    "word_accuracy": Predictions(
        **COMMON, labels=["a b c d"] * N, outputs=[["a b c x" if i % 3 else "a b c d" for i in range(N)]]
    ),
    "frame_accuracy": FramePredictions(
        **COMMON, labels=RNG.integers(-1, 4, FRAMES), outputs=logits(FRAMES, 4), edges=EDGES
    ),
    "segment_f1_macro": FramePredictions(
        **COMMON,
        labels=RNG.integers(0, 2, (FRAMES, 9)),
        outputs=logits(FRAMES, 9),
        edges=EDGES,
        segment_frames=3,
        whole_segments=True,
    ),
    "recall_at_1": CaptionPredictions(**COMMON, labels=None, outputs=logits(N, 2 * N), owner=np.arange(2 * N) // 2),
}


@pytest.mark.parametrize("name", CASES)
def test_metrics_of_read_predictions_are_those_of_the_originals(tmp_path, name):
    predictions, metric = CASES[name], name.split(" ")[0]
    clips = [f"{i}.wav" for i in range(N)]
    (tmp_path / "x.npz").write_bytes(predictions_to_npz(predictions, clips))
    read, read_clips = read_predictions(tmp_path / "x.npz")
    assert read_clips == clips and type(read) is type(predictions)
    bootstrap = Bootstrap.from_units(np.array(predictions.group), 30, np.random.default_rng(1), "sources")
    expected, found = (score_replicates(metric, each, bootstrap) for each in (predictions, read))
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)
    assert found[2] == expected[2]
    assert metric in METRICS


def test_file_of_something_else_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.arange(3))
    with pytest.raises(EarmarkError, match=r"x\.npz cannot be read as predictions"):
        read_predictions(tmp_path / "x.npz")
    with pytest.raises(EarmarkError, match=r"y\.npz cannot be read"):
        read_predictions(tmp_path / "y.npz")
