"""Lists of a few trials: every number is defined or says why not, and nothing is NaN."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from earmark.report.schema import to_json
from earmark.speaker.conditions import Attribute, condition_breakdown
from earmark.speaker.evaluation import evaluate
from earmark.speaker.operating_points import apply_thresholds, choose_operating_points, thresholds_of
from earmark.speaker.trial_design import FileFacts, check_trial_design
from earmark.speaker.trials import Trials

UTTERANCES = 6  # two each of three speakers
PAIRS = st.tuples(
    st.integers(0, UTTERANCES - 1), st.integers(0, UTTERANCES - 1), st.sampled_from([0.0, 0.5, 1.0, -2.0])
)
VALUES = st.lists(st.sampled_from(["a", "b", None]), min_size=UTTERANCES, max_size=UTTERANCES)
SECONDS = st.lists(st.sampled_from([0.0, 1.5, 3.0, np.nan]), min_size=UTTERANCES, max_size=UTTERANCES)


@example([(0, 0, 0.0), (0, 0, 0.5), (0, 2, 0.0), (0, 2, 0.0)], ["a"] * 6, [0.0] * 6, False, True)  # one target speaker
@settings(max_examples=150)
@given(st.lists(PAIRS, min_size=2, max_size=12), VALUES, SECONDS, st.booleans(), st.booleans())
def test_tiny_lists_give_values_or_reasons(pairs, values, seconds, known, intervals):
    enrolment, test, scores = (np.array(column) for column in zip(*pairs, strict=True))
    labels = enrolment // 2 == test // 2
    if not labels.any() or labels.all():
        return
    names = np.array([f"s{u // 2}/{u}.wav" for u in range(UTTERANCES)], dtype=object)
    speakers = [f"s{u // 2}" for u in range(UTTERANCES)] if known else None
    trials = Trials(names, enrolment, test, labels, scores.astype(float))
    result = evaluate(trials, speakers, intervals=intervals)
    points = choose_operating_points(result.scored, (0.001, 0.5, 0.9), 0.01)
    points += apply_thresholds(result.scored, thresholds_of(points))
    attribute = Attribute("register", "test", values)
    breakdown = condition_breakdown(trials, attribute, speakers, 0.01, intervals=intervals, overall=result)
    facts = FileFacts(np.full(UTTERANCES, np.nan), np.array(seconds))
    design = check_trial_design(trials, result.scored, [attribute], facts, speakers)
    for record in (*points, breakdown, design):
        to_json(record)  # raises for a number that is not finite
    estimates = [rate for point in points for rate in (point.miss_rate, point.false_alarm_rate)]
    estimates += [row.eer for row in breakdown.kinds] + [each.auc for each in design.predictors]
    for estimate in estimates:
        assert estimate.why if estimate.value is None else 0 <= estimate.value <= 1
        assert estimate.low is None or 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low is not None or estimate.why or not intervals
    bounds = [(p.miss_rate, p.miss_rate_upper_bound) for p in points]
    bounds += [(p.false_alarm_rate, p.false_alarm_rate_upper_bound) for p in points]
    assert all(bound is None or bound >= rate.value - 1e-12 for rate, bound in bounds)
