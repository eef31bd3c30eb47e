"""Thresholds by prompt: values by hand, direct loops as reference, invariances, missing classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark.metrics.bootstrap import Bootstrap, estimate_from_replicates
from earmark.metrics.classification import (
    best_threshold,
    cross_fit,
    decision_contributions,
    decision_metrics,
    recall_and_specificity,
)
from earmark.metrics.prompt_thresholds import MIN_ITEMS, PromptThresholds, thresholds_by_prompt


def found(scores, labels, prompts, replicates=0, seed=0, clips=None, permutations=20) -> PromptThresholds:
    rng = np.random.default_rng(seed)
    scores, labels = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
    bootstrap = Bootstrap.from_units(np.arange(len(scores)) if clips is None else clips, replicates, rng)
    fit = cross_fit(scores, labels, bootstrap, rng)
    return thresholds_by_prompt(scores, labels, prompts, bootstrap, fit, rng, permutations)


def simulated(n, prompts, seed, separation=1.0):
    """Scores on a level of their own for each prompt."""
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, prompts, n)
    label = rng.random(n) < 0.4
    return rng.normal(size=n) + separation * label + 2.0 * prompt, label.astype(float), prompt


def decided_by_loop(scores, labels, prompts, thresholds):
    """Recall and specificity of pooled decisions at {prompt: threshold}."""
    decisions = scores >= np.array([thresholds[prompt] for prompt in prompts])
    return recall_and_specificity(decision_contributions(decisions, labels).sum(axis=0))


def thresholds_by_loop(scores, labels, prompts, counts=None):
    """{prompt: threshold}. counts: number of items of each prompt, if not those given."""
    shared, chosen = best_threshold(scores, labels), {}
    for prompt in np.unique(prompts):
        own = prompts == prompt
        n = own.sum() if counts is None else counts[prompt]
        value = best_threshold(scores[own], labels[own]) if n >= MIN_ITEMS else np.nan
        chosen[prompt] = value if np.isfinite(value) else shared
    return chosen


# --- values by hand ---------------------------------------------------------------------------------------------

# Ten items each, scores 0 … 9 and 100 … 109. "low" is separable; "high" has one absent item among the present ones.
HAND_SCORES = np.concatenate([np.arange(10.0), 100 + np.arange(10.0)])
HAND_LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1], dtype=float)
HAND_PROMPTS = np.repeat(["low", "high"], 10)


def test_thresholds_by_prompt_by_hand():
    result = found(HAND_SCORES, HAND_LABELS, HAND_PROMPTS)
    assert (result.n_prompts, result.n_with_threshold) == (2, 2)
    # "high": between 103 and 104 (5 of 5 recalled, 4 of 5 rejected) or between 105 and 106 (4 of 5, 5 of 5).
    assert result.by_prompt.balanced_accuracy.value == pytest.approx((10 + 9) / 20)
    # One threshold: at 4.5 all 10 present are recalled and 5 of 10 absent are rejected; at 105.5 4 of 10 and 10 of 10.
    # At 103.5 5 of 10 and 9 of 10.
    assert result.threshold == pytest.approx(4.5)
    assert result.best_threshold.balanced_accuracy.value == pytest.approx((1 + 0.5) / 2)
    assert result.by_prompt.balanced_accuracy.n == 20


def test_prompt_with_nine_items_uses_the_threshold_for_all():
    kept = np.arange(20) != 9
    result = found(HAND_SCORES[kept], HAND_LABELS[kept], HAND_PROMPTS[kept])
    assert (result.n_prompts, result.n_with_threshold) == (2, 1)
    # The threshold for all separates the nine items of "low". Of the two best thresholds of "high", the upper one is
    # the middle one: 4 of 5 present items recalled, none of the absent ones.
    assert result.threshold == pytest.approx(4.5)
    assert result.by_prompt.balanced_accuracy.value == pytest.approx((8 / 9 + 10 / 10) / 2)


def test_permuted_similarities_change_nothing_if_labels_are_constant_within_prompts():
    scores, prompts = np.arange(24.0), np.repeat(["a", "b"], 12)
    result = found(scores, prompts == "b", prompts)
    assert result.best_threshold.permuted.value == result.best_threshold.balanced_accuracy.value == 1
    assert result.by_prompt.permuted.value == result.by_prompt.balanced_accuracy.value == 1
    assert result.n_with_threshold == 0


def test_permuted_similarities_show_the_optimism_of_thresholds_by_prompt():
    scores, labels, prompts = simulated(400, 20, 0, separation=0.0)
    result = found(scores, labels, prompts, permutations=100)
    assert 0.55 < result.by_prompt.permuted.value < 0.75
    assert result.by_prompt.permuted.value == pytest.approx(result.by_prompt.balanced_accuracy.value, abs=0.05)
    assert result.by_prompt.cross_fitted.value == pytest.approx(0.5, abs=0.08)
    assert result.best_threshold.permuted.value < result.by_prompt.permuted.value
    assert result.by_prompt.permuted.low is None


# --- direct loops -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_by_prompt_match_direct_loops(seed):
    scores, labels, prompts = simulated(150, 12, seed)
    result = found(scores, labels, prompts)
    expected = decided_by_loop(scores, labels, prompts, thresholds_by_loop(scores, labels, prompts))
    assert result.by_prompt.balanced_accuracy.value == pytest.approx(expected.mean())
    decisions = scores >= best_threshold(scores, labels)
    metrics = decision_metrics(decision_contributions(decisions, labels).sum(axis=0))
    assert result.best_threshold.balanced_accuracy.value == pytest.approx(metrics[0])


@pytest.mark.parametrize("seed", range(3))
def test_cross_fitted_thresholds_come_from_the_other_folds(seed):
    scores, labels, prompts = simulated(200, 8, seed)
    rng = np.random.default_rng(seed)
    bootstrap = Bootstrap.from_units(np.arange(200) // 2, 0, rng)
    fit = cross_fit(scores, labels, bootstrap, rng)
    sums = np.zeros(4)
    for fold in range(5):
        train, test = fit.fold != fold, fit.fold == fold
        chosen = thresholds_by_loop(scores[train], labels[train], prompts[train])
        chosen = {prompt: chosen.get(prompt, fit.thresholds[fold]) for prompt in range(8)}
        decisions = scores[test] >= np.array([chosen[prompt] for prompt in prompts[test]])
        sums += decision_contributions(decisions, labels[test]).sum(axis=0)
    result = thresholds_by_prompt(scores, labels, prompts, bootstrap, fit, rng, 1)
    assert result.by_prompt.cross_fitted.value == pytest.approx(decision_metrics(sums)[0])
    assert result.best_threshold.cross_fitted == fit.balanced_accuracy


def test_intervals_choose_thresholds_anew_in_each_replicate():
    scores, labels, prompts = simulated(160, 4, 0)
    rng = np.random.default_rng(1)
    bootstrap = Bootstrap.from_units(np.arange(160) // 2, 40, rng)
    fit = cross_fit(scores, labels, bootstrap, rng)
    result = thresholds_by_prompt(scores, labels, prompts, bootstrap, fit, rng, 1)
    rates = []
    for weights in bootstrap.weights:
        drawn = np.repeat(np.arange(160), weights[bootstrap.unit])
        sample = scores[drawn], labels[drawn], prompts[drawn]
        rates.append(decided_by_loop(*sample, thresholds_by_loop(*sample)))
    point = decided_by_loop(scores, labels, prompts, thresholds_by_loop(scores, labels, prompts))
    units, drawn = min(bootstrap.units_of_classes(labels)), np.mean(rates, axis=1)
    expected = estimate_from_replicates(float(point.mean()), drawn, n=160, units=units)
    ours = result.by_prompt.balanced_accuracy
    assert (ours.value, ours.low, ours.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_blocks_of_replicates_do_not_change_intervals(monkeypatch):
    scores, labels, prompts = simulated(120, 5, 0)
    whole = found(scores, labels, prompts, replicates=30)
    monkeypatch.setattr("earmark.metrics.prompt_thresholds.BLOCK_VALUES", 200)
    blocks = found(scores, labels, prompts, replicates=30)
    assert blocks.by_prompt.balanced_accuracy == whole.by_prompt.balanced_accuracy
    assert blocks.by_prompt.cross_fitted == whole.by_prompt.cross_fitted


# --- properties -------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 1000), st.lists(st.tuples(st.floats(0.1, 10), st.floats(-50, 50)), min_size=3, max_size=3))
def test_thresholds_by_prompt_ignore_the_level_and_scale_of_a_prompt(seed, scales):
    rng = np.random.default_rng(seed)
    prompts = np.repeat(np.arange(3), 15)
    scores, labels = rng.integers(0, 20, 45).astype(float), np.tile([0.0, 1.0, 1.0], 15)
    factor, shift = (np.array(column)[prompts] for column in zip(*scales, strict=True))
    first, second = (found(s, labels, prompts, permutations=1) for s in (scores, scores * factor + shift))
    assert first.by_prompt.balanced_accuracy == second.by_prompt.balanced_accuracy


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_thresholds_by_prompt_do_not_depend_on_the_order_of_items(seed):
    scores, labels, prompts = simulated(60, 4, seed)
    order = np.random.default_rng(seed).permutation(60)
    first = found(scores, labels, prompts, permutations=1)
    second = found(scores[order], labels[order], prompts[order], permutations=1)
    for name in ("best_threshold", "by_prompt"):
        one, other = (getattr(each, name).balanced_accuracy.value for each in (first, second))
        assert one == pytest.approx(other)


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_one_prompt_is_the_best_threshold_for_all(seed):
    scores, labels, _ = simulated(40, 2, seed)
    result = found(scores, labels, np.zeros(40), permutations=3)
    assert result.by_prompt.balanced_accuracy == result.best_threshold.balanced_accuracy
    assert result.by_prompt.permuted == result.best_threshold.permuted
    assert result.by_prompt.cross_fitted.value == result.best_threshold.cross_fitted.value


def test_soft_labels_are_counted_fractionally():
    scores, prompts = np.tile([0.0, 1.0], 10), np.zeros(20)
    result = found(scores, np.tile([0.25, 0.75], 10), prompts)
    assert result.by_prompt.balanced_accuracy.value == pytest.approx(0.75)


# --- missing classes --------------------------------------------------------------------------------------------


def test_one_class_is_undefined_with_a_reason():
    result = found(np.arange(20.0), np.ones(20), np.zeros(20))
    for fitted in (result.best_threshold, result.by_prompt):
        assert {each.value for each in vars(fitted).values()} == {None}
        assert fitted.balanced_accuracy.why == "the labels have a single class"
    assert np.isnan(result.threshold)


def test_no_items_are_undefined_with_a_reason():
    result = found([], [], [])
    assert (result.n_prompts, result.n_with_threshold) == (0, 0)
    assert result.by_prompt.balanced_accuracy.why == "no items"


def test_training_fold_with_one_class_leaves_only_the_cross_fitted_value_undefined():
    labels = np.r_[1.0, np.zeros(19)]
    result = found(np.arange(20.0)[::-1], labels, np.zeros(20))
    assert result.by_prompt.balanced_accuracy.value == 1
    assert result.by_prompt.cross_fitted.value is None
    assert "single class" in result.by_prompt.cross_fitted.why


def test_prompt_with_one_class_uses_the_threshold_for_all():
    scores = np.concatenate([np.arange(10.0), np.arange(10.0)])
    labels = np.concatenate([np.arange(10) >= 5, np.ones(10)])
    result = found(scores, labels, np.repeat(["both", "present"], 10))
    assert (result.n_prompts, result.n_with_threshold) == (2, 1)
    decisions = np.where(np.arange(20) < 10, scores >= 4.5, scores >= result.threshold)
    expected = decision_metrics(decision_contributions(decisions, labels).sum(axis=0))[0]
    assert result.by_prompt.balanced_accuracy.value == pytest.approx(expected)


def test_without_a_prompt_of_its_own_threshold_both_have_one_interval():
    rng = np.random.default_rng(0)
    labels, prompts = rng.integers(0, 2, 60), np.repeat(np.arange(12), 5).astype(str)
    scores = labels + rng.normal(size=60)
    bootstrap = Bootstrap.from_units(np.arange(60), 100, rng)
    fit = cross_fit(scores, labels, bootstrap, rng)
    found = thresholds_by_prompt(scores, labels, prompts, bootstrap, fit, rng)
    assert found.n_with_threshold == 0
    assert found.by_prompt.cross_fitted == found.best_threshold.cross_fitted == fit.balanced_accuracy
