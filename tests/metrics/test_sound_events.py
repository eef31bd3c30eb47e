from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from earmark.metrics.sound_events import (
    events_to_frames,
    frames_per_segment,
    segment_f1,
    segment_maxima,
)

# Two clips of 2 s, hop 0.25 s, segments of 1 s. Label 0 is a dog, 1 speech, 2 never occurs.
EVENTS = [[(0.2, 0.6, 0), (0.9, 1.3, 1)], [(1.5, 2.0, 0)]]
CLAIMS = [[(0.5, 1.2, 0), (1.0, 1.1, 1)], [(0.0, 0.3, 1), (1.75, 1.8, 0)]]
REFERENCE = [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]]
PREDICTED = [[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]]


def frames(clips):
    return np.concatenate([events_to_frames(events, 8, 0.25, 3) for events in clips])


def test_segment_f1_worked_example():
    reference, predicted = frames(EVENTS), frames(CLAIMS)
    assert segment_maxima(reference, 4, [0, 8, 16]).tolist() == REFERENCE
    assert segment_maxima(predicted, 4, [0, 8, 16]).tolist() == PREDICTED
    # Dog: 2 true positives, 1 false positive; speech: 1 true positive, 1 false negative, 1 false positive.
    size = frames_per_segment(1.0, 0.25)
    segments = [segment_maxima(each, size, [0, 8, 16]) for each in (predicted, reference)]
    macro, micro = segment_f1(*segments), segment_f1(*segments, "micro")
    assert macro == pytest.approx((4 / 5 + 2 / 4 + 0) / 3)
    assert micro == pytest.approx(6 / 9)
    assert macro == pytest.approx(f1_score(REFERENCE, PREDICTED, average="macro", zero_division=0))
    assert micro == pytest.approx(f1_score(REFERENCE, PREDICTED, average="micro", zero_division=0))


decisions = st.integers(1, 12).flatmap(
    lambda n: st.lists(
        st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=3), min_size=n, max_size=n
    )
)


@pytest.mark.slow
@given(decisions, st.sampled_from(["macro", "micro"]))
def test_segment_f1_matches_sklearn(pairs, average):
    predicted, expected_labels = np.moveaxis(np.array(pairs), -1, 0)
    assert segment_f1(predicted, expected_labels, average) == pytest.approx(
        f1_score(expected_labels, predicted, average=average, zero_division=0)
    )


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(1, 4))
def test_segment_maxima_match_loop(lengths, size):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.random.default_rng(0).random((offsets[-1], 2))
    expected = [
        values[t : min(t + size, stop)].max(axis=0)
        for start, stop in pairwise(offsets.tolist())
        for t in range(start, stop, size)
    ]
    assert segment_maxima(values, size, offsets).tolist() == [row.tolist() for row in expected]


def test_onset_rounding_and_drop_last():
    each = [[(0.1, 0.3, 0)], [(0.11, 0.3, 0)], [(0.11, 0.19, 0)]]
    rounded_up = [events_to_frames(events, 5, 0.1, 1, onset_rounding="ceil").ravel().tolist() for events in each]
    assert rounded_up == [[0, 1, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    frames = np.array([[0], [0], [1], [1], [0], [0], [1]])
    assert segment_maxima(frames, 2, [0, 3, 4, 7], drop_last=True).ravel().tolist() == [0, 0]
    assert segment_maxima(frames, 9, [0, 3, 4, 7], drop_last=True).shape == (0, 1)


def test_events_to_frames_boundaries():
    assert events_to_frames([(0.1, 0.3, 0)], 4, 0.1, 1).ravel().tolist() == [0, 1, 1, 0]  # 0.3 / 0.1 < 3 in binary
    assert events_to_frames([(0.7, 0.8, 0)], 9, 0.1, 1).ravel().tolist() == [0] * 7 + [1, 0]
    assert not events_to_frames([(0.2, 0.2, 0), (5.0, 6.0, 0)], 4, 0.1, 1).any()
    assert events_to_frames([], 0, 0.1, 2).shape == (0, 2)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ((0.0, 1.0, 2), "label 2 is not in 0 … 1"),
        ((2.0, 1.0, 0), "from 2.0 s to 1.0 s: onset must be"),
        ((-1.0, 1.0, 0), "from -1.0 s to 1.0 s: onset must be"),
    ],
)
def test_events_to_frames_rejects_invalid_events(event, message):
    with pytest.raises(ValueError, match=message):
        events_to_frames([event], 4, 0.1, 2)


def test_segments_reject_invalid_input():
    with pytest.raises(ValueError, match="hop must be positive, not 0 s"):
        frames_per_segment(1.0, 0)
    with pytest.raises(ValueError, match="segment must be positive, not -1 s"):
        frames_per_segment(-1, 0.1)
    with pytest.raises(ValueError, match="offsets must rise from 0 to the number of frames, 3"):
        segment_maxima(np.zeros((3, 1)), 2, [0, 2])
    with pytest.raises(ValueError, match="size must be at least 1 frame, not 0"):
        segment_maxima(np.zeros((3, 1)), 0)
    with pytest.raises(ValueError, match=r"must both be \(segments, labels\)"):
        segment_f1([[1]], [[1, 0]])
    with pytest.raises(ValueError, match="'weighted' is not one of macro, micro"):
        segment_f1([[1]], [[1]], "weighted")
    assert np.isnan(segment_f1(np.empty((2, 0)), np.empty((2, 0))))
