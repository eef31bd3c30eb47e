"""Choice among classes: values by hand, scikit-learn, properties and degenerate data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from earmark.metrics.bootstrap import CONSTANT, Bootstrap
from earmark.metrics.choice import (
    CHOICE_METRICS,
    NO_ANSWER,
    choice_contributions,
    choice_metrics,
    class_metrics,
    compare_choices,
    constant_answer,
    evaluate_choice,
    evaluate_classes,
    highest,
)
from earmark.metrics.classification import balanced_accuracy, decision_contributions
from earmark.metrics.intervals import t_quantile, wilson_interval


def no_bootstrap(n: int) -> Bootstrap:
    return Bootstrap.from_units(np.arange(n), 0, np.random.default_rng(0))


def metrics(answers, references) -> dict[str, float]:
    sums = np.asarray(choice_contributions(answers, references).sum(axis=0), dtype=float).ravel()
    return dict(zip(CHOICE_METRICS, choice_metrics(sums, np.shape(references)[1]).tolist(), strict=True))


def test_choice_metrics_by_hand():
    # Six items: class 0 three times (answers 0, 0, 1), class 1 twice (1, 2), class 2 once (2).
    found = metrics([0, 0, 1, 1, 2, 2], np.eye(3)[[0, 0, 0, 1, 1, 2]])
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 4 + 2 / 3) / 3)


def test_choice_metrics_count_no_answer_as_wrong():
    found = metrics([0, NO_ANSWER, 1], np.eye(2)[[0, 0, 1]])
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_choice_metrics_of_shared_references():
    # One item that three of four raters call 0 and one calls 1; the answer 0 is right for three quarters.
    found = metrics([0], np.array([[0.75, 0.25]]))
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == 0.5  # recall 1 of class 0 and 0 of class 1


def test_choice_metrics_leave_out_classes_without_an_item():
    found = metrics([0, 1, 2], np.eye(3)[[0, 1, 1]])
    assert found["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)


@given(st.integers(0, 10_000))
def test_choice_metrics_equal_scikit_learn(seed: int):
    rng = np.random.default_rng(seed)
    reference = np.concatenate([np.arange(4), rng.integers(0, 4, 30)])
    answers = rng.integers(0, 4, len(reference))
    found = metrics(answers, np.eye(4)[reference])
    assert found["accuracy"] == pytest.approx(accuracy_score(reference, answers))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(reference, answers))
    assert found["macro_f1"] == pytest.approx(f1_score(reference, answers, average="macro"))


@given(st.integers(0, 10_000), st.permutations(range(3)))
def test_choice_metrics_ignore_names_of_classes(seed: int, order: list[int]):
    rng = np.random.default_rng(seed)
    reference, answers = rng.integers(0, 3, 20), rng.integers(-1, 3, 20)
    renamed = np.array([*order, NO_ANSWER])
    assert metrics(answers, np.eye(3)[reference]) == pytest.approx(
        metrics(renamed[answers], np.eye(3)[np.array(order)[reference]])
    )


def test_highest_names_ties():
    assert highest([[0.1, 0.3, 0.2], [0.2, 0.2, 0.1], [-1.0, -0.5, -0.5]]).tolist() == [1, NO_ANSWER, NO_ANSWER]
    assert highest(np.empty((0, 3))).tolist() == []


def test_evaluate_choice_of_two_classes_equals_binary_balanced_accuracy():
    rng = np.random.default_rng(0)
    label, decided = rng.random(200) < 0.3, rng.random(200) < 0.4
    bootstrap = Bootstrap.from_units(np.arange(200) // 2, 300, np.random.default_rng(1))
    ours = evaluate_choice(decided.astype(int), np.eye(2)[label.astype(int)], bootstrap)["balanced_accuracy"]
    binary = balanced_accuracy(
        decision_contributions(decided, label), bootstrap, bootstrap.units_of_classes(label), n=200
    )
    assert ours.value == pytest.approx(binary.value)
    assert (ours.low, ours.high) == pytest.approx((binary.low, binary.high), abs=1e-9)


def test_evaluate_choice_of_perfect_answers_has_wide_interval_below():
    reference = np.repeat(np.arange(3), 10)
    bootstrap = Bootstrap.from_units(np.arange(30), 200, np.random.default_rng(0))
    found = evaluate_choice(reference, np.eye(3)[reference], bootstrap)
    assert all(found[name].value == 1.0 for name in CHOICE_METRICS)
    assert all(found[name].low < 0.95 and found[name].high == 1.0 for name in CHOICE_METRICS)


def test_evaluate_choice_without_items():
    found = evaluate_choice(np.empty(0, dtype=int), np.empty((0, 3)), no_bootstrap(0))
    assert {name: (e.value, bool(e.why)) for name, e in found.items()} == dict.fromkeys(CHOICE_METRICS, (None, True))


def test_evaluate_classes_without_items_of_a_class():
    rows = evaluate_classes([0, 0], np.eye(2)[[0, 0]], no_bootstrap(2))
    assert rows[0]["recall"].value == 1.0
    assert rows[1]["recall"].value is None
    assert "no item" in (rows[1]["recall"].why or "")


def test_class_metrics_of_a_class_never_answered():
    sums = np.asarray(choice_contributions([0, 0], np.eye(2)).sum(axis=0), dtype=float).ravel()
    recall, precision, f1 = class_metrics(sums, 2)[1]
    assert (recall, f1) == (0.0, 0.0)
    assert np.isnan(precision)


def test_compare_choices_of_equal_answers_is_zero():
    rng = np.random.default_rng(0)
    reference, answers = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    bootstrap = Bootstrap.from_units(np.arange(60), 100, rng)
    for ours, theirs, difference, p in compare_choices(answers, answers, np.eye(3)[reference], bootstrap).values():
        assert ours == theirs
        assert (difference.value, difference.low, difference.high, p) == (0.0, 0.0, 0.0, 1.0)


def test_compare_choices_by_hand():
    found = compare_choices([0, 0, 1, 1], [0, 1, 0, 1], np.eye(2)[[0, 0, 1, 1]], no_bootstrap(4))
    assert [estimate.value for estimate in found["accuracy"][:3]] == [1.0, 0.5, 0.5]


def test_constant_answer_by_hand():
    found = constant_answer(np.eye(3)[[0, 0, 0, 1, 2]])
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["balanced_accuracy"] == pytest.approx(1 / 3)
    assert found["macro_f1"] == pytest.approx(2 * 0.6 / 1.6 / 3)


def test_balanced_accuracy_of_one_answer_to_everything_has_an_interval():
    # Recalls 1, 0 and 0 in every replicate: their mean is 1/3, whose bootstrap standard error is 0.
    bootstrap = Bootstrap.from_units(np.arange(90), 100, np.random.default_rng(0))
    references = np.eye(3)[np.arange(90) % 3]
    estimate = evaluate_choice(np.zeros(90, dtype=int), references, bootstrap)["balanced_accuracy"]
    of_30 = wilson_interval(1.0, 30, t_quantile(29))
    assert estimate.value == pytest.approx(1 / 3)
    assert estimate.low == pytest.approx(1 / 3 - (1 - of_30[0]) / 3)
    assert estimate.high == pytest.approx(1 / 3 + 2**0.5 * (1 - of_30[0]) / 3)
    assert estimate.why is None


def test_balanced_accuracy_has_no_interval_if_a_recall_inside_the_range_never_varies():
    # Recalls 1 and 0.5: every clip of the second class has one right and one wrong answer.
    clips, truth = np.repeat(np.arange(40), 2), np.repeat(np.arange(40) % 2, 2)
    answers = np.where(truth == 0, 0, np.tile([0, 1], 40))
    bootstrap = Bootstrap.from_units(clips, 100, np.random.default_rng(0))
    estimate = evaluate_choice(answers, np.eye(2)[truth], bootstrap)["balanced_accuracy"]
    assert (estimate.value, estimate.low, estimate.why) == (0.75, None, CONSTANT)
