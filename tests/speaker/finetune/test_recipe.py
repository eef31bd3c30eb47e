"""Recipes and schedules: the published settings, changes to them, learning rates and margins."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.errors import MissingError
from earmark.speaker.finetune.options import RECIPES
from earmark.speaker.finetune.recipe import recipes, with_settings
from earmark.speaker.finetune.schedule import learning_rate, margin

PUBLISHED, STRICT = recipes()["published"], recipes()["strict"]
STEPS = 4265  # of an epoch of the published run


def test_recipes_are_those_of_the_flag_and_are_valid():
    assert tuple(recipes()) == RECIPES
    assert {name: recipe.faults for name, recipe in recipes().items()} == {name: [] for name in RECIPES}


def test_published_recipe_has_published_settings():
    own = PUBLISHED
    assert (own.segment_frames, own.min_frames, own.max_frames) == (600, 200, 800)
    assert (own.batch_size, own.epochs, own.scale, own.augment_probability) == (24, 6, 32, 0.3)
    assert (own.momentum, own.weight_decay, own.learning_rate) == (0.9, 1e-4, (5e-5, 1e-5))
    assert (own.validation_share, own.select, own.warmup_epochs) == (0, "last", 0)


def test_strict_recipe_differs_from_published_only_where_documented():
    differing = {name for name in vars(STRICT) if getattr(STRICT, name) != getattr(PUBLISHED, name)}
    assert differing == {"min_utterances", "margin_first_epoch", "reference_batch", "validation_share", "select"}


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0.1), (0.5, 0.15), (1, 0.2), (2, 0.3), (5, 0.3)])
def test_margin_of_published_recipe_starts_at_a_third(epoch, expected):
    # WeSpeaker: the rise begins at step −N and ends at 2N, so that step 0 is a third of the way.
    assert margin(PUBLISHED, round(epoch * STEPS), STEPS) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0), (1, 0.1), (1.5, 0.15), (3, 0.3), (5, 0.3)])
def test_margin_of_strict_recipe_is_as_written(epoch, expected):
    assert margin(STRICT, round(epoch * STEPS), STEPS) == pytest.approx(expected, abs=1e-4)


def test_margin_that_is_fixed_at_once():
    recipe = with_settings(STRICT, ["margin_epochs=2,2"])
    assert [margin(recipe, step, 10) for step in (0, 19, 20)] == [0, 0, 0.3]


def test_learning_rate_decays_exponentially_over_all_steps():
    total = 6 * STEPS
    assert learning_rate(STRICT, 0, STEPS) == 5e-5
    assert learning_rate(STRICT, total, STEPS) == pytest.approx(1e-5)
    assert learning_rate(STRICT, total // 2, STEPS) == pytest.approx(math.sqrt(5e-5 * 1e-5))


def test_learning_rate_of_published_recipe_is_for_batches_of_64():
    assert learning_rate(PUBLISHED, 0, STEPS) == pytest.approx(5e-5 * 24 / 64)
    assert learning_rate(PUBLISHED, 0, STEPS, processes=2) == pytest.approx(5e-5 * 48 / 64)


def test_learning_rate_rises_linearly_in_warm_up():
    recipe = with_settings(STRICT, ["warmup_epochs=1", "learning_rate=0.1,0.1"])
    np.testing.assert_allclose(
        [learning_rate(recipe, step, 4) for step in range(6)], [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]
    )


@given(st.integers(0, 60), st.integers(1, 10))
def test_margin_and_learning_rate_are_monotonic(step, steps):
    for recipe in (PUBLISHED, STRICT):
        assert 0 <= margin(recipe, step, steps) <= margin(recipe, step + 1, steps) <= 0.3
        assert learning_rate(recipe, step + 1, steps) < learning_rate(recipe, step, steps)


def test_with_settings_lists_all_faults():
    with pytest.raises(MissingError) as caught:
        with_settings(PUBLISHED, ["epoch=3", "batch_size=x", "margin=0.1", "scale=nan", "momentum=2", "select=first"])
    text = str(caught.value)
    for fault in (
        "'epoch=3' is not one of segment_frames=…",
        "batch_size must be like 24, not 'x'",
        "margin must be like 0,0.3, not '0.1'",
        "scale must be like 32.0, not 'nan'",
        "momentum must be from 0 to 1",
        "select must be last or best",
    ):
        assert fault in text
