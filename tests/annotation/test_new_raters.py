"""Intervals for new raters through the analysis of every scale: each coefficient against values without each rater."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from earmark.annotation.analysis import analyse
from earmark.annotation.ratings import Ratings
from earmark.annotation.scales.analysis import analyse_scale, scale_of
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import Annotations
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.rater_resampling import rater_variations
from tests.conftest import DIM, EMO, annotated

SCALES = {
    "nominal": Subset("choice", "nominal", ("file",), levels=("joy", "anger", "fear"), by=("file",)),
    "ordinal": Subset("arousal", "ordinal", ("file",), levels=("1", "2", "3", "4", "5")),
    "interval": Subset("valence", "interval", ("file",)),
}


def annotations_of(subset, missing=0.0, items=40, raters=6, seed=0):
    """Ratings with biased raters; the clip of an item is its file."""
    rng = np.random.default_rng(seed)
    item, rater = np.nonzero(rng.random((items, raters)) >= missing)
    latent = rng.normal(size=items)[item] + np.linspace(-1, 1, raters)[rater] + 0.7 * rng.normal(size=len(item))
    levels = len(subset.levels)
    rating = latent if subset.scale == "interval" else np.clip(np.round(latent + levels / 2), 0, levels - 1).astype(int)
    table = pd.DataFrame(
        {"file": [f"{i:03}" for i in item], "username": [f"user_{r}" for r in rater], "rating": rating}
    )
    empty = pd.DataFrame()
    return Annotations(subset, table, empty, empty, {}, len(table), {})


def agreement_of(annotations, bootstrap=None):
    """Values of all coefficients, with those of pairs."""
    scale = scale_of(Ratings.from_annotations(annotations))
    bootstrap = bootstrap or Bootstrap.from_units(np.arange(scale.n_items), 0, np.random.default_rng(0))
    everything = np.ones(scale.n_items, dtype=bool)
    estimates = {**scale.agreement(everything, bootstrap, 3), **scale.pair_statistics(bootstrap).summary}
    return estimates | {f"specific_{level}": e for level, e in scale.specific_agreement(bootstrap).items()}


@pytest.fixture
def recorded(monkeypatch):
    """Jackknife of each call of `rater_variations`, by the value on all ratings."""
    jackknives = {}
    original = Bootstrap.rater_variations

    def recording(self, contributions, formula, k, deletions):
        variations = original(self, contributions, formula, k, deletions)
        values = formula(np.asarray(contributions.sum(axis=0), dtype=float).ravel()[np.newaxis])[0]
        jackknives.update({float(value): each for value, each in zip(values, variations, strict=True) if each})
        return variations

    monkeypatch.setattr(Bootstrap, "rater_variations", recording)
    return jackknives


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("name", SCALES)
def test_jackknife_of_every_coefficient_is_that_of_tables_without_a_rater(name, missing, recorded):
    annotations = annotations_of(SCALES[name], missing)
    estimates = agreement_of(
        annotations, Bootstrap.from_units(np.arange(40), 60, np.random.default_rng(0), resample="both")
    )
    without = []
    for rater in range(6):
        left = annotations.ratings["username"] != f"user_{rater}"
        without.append(agreement_of(replace(annotations, ratings=annotations.ratings[left].reset_index(drop=True))))
    checked = 0
    for key, estimate in estimates.items():
        if estimate.value not in recorded or (key.startswith("icc") and missing):
            continue
        values = np.array([np.nan if each[key].value is None else each[key].value for each in without])
        assert recorded[estimate.value].jackknife == pytest.approx(5 / 6 * 6 * np.var(values), rel=1e-6), key
        checked += 1
    assert checked >= {"nominal": 8, "ordinal": 7, "interval": 4}[name]


@pytest.mark.parametrize("name", SCALES)
def test_intervals_of_every_scale_are_wider_for_new_raters(name):
    annotations = annotations_of(SCALES[name])
    clips, both, raters = (
        analyse_scale(
            annotations, required=3, replicates=100, rng=np.random.default_rng(0), resample=resample
        ).result.agreement.estimates
        for resample in ("clips", "both", "raters")
    )
    headline = {"nominal": "krippendorff_alpha_nominal", "ordinal": "krippendorff_alpha_ordinal"}
    key = headline.get(name, "krippendorff_alpha_interval")
    assert both[key].high - both[key].low > 1.2 * (clips[key].high - clips[key].low)
    for one, other, third in zip(clips.values(), both.values(), raters.values(), strict=True):
        assert one.value == other.value == third.value
        assert one.why == other.why or other.low is None or one.low is not None


@pytest.mark.parametrize("name", SCALES)
def test_default_intervals_speak_for_clips(name):
    annotations = annotations_of(SCALES[name])
    default, clips = (
        analyse_scale(annotations, required=3, replicates=50, rng=np.random.default_rng(0), **options).result
        for options in ({}, {"resample": "clips"})
    )
    assert default == clips and default.resample == "clips"


@pytest.mark.parametrize("subset", [EMO, DIM])
def test_decided_scales_speak_for_new_raters(tmp_path, subset):
    rng = np.random.default_rng(0)
    top = len(subset.levels) - 1
    votes = {
        f"{i}.mp3": {f"user_{r}": int(top * (rng.random() < 0.2 + 0.1 * r + 0.5 * (i % 2) * (r < 3))) for r in range(7)}
        for i in range(40)
    }
    annotations = annotated(tmp_path, subset, votes)
    results = {
        resample: analyse(
            annotations,
            ties="exclude",
            required=3,
            replicates=100,
            rng=np.random.default_rng(0),
            resample=resample,
        ).result
        for resample in ("clips", "both", "raters")
    }
    clips, both, raters = (results[name].agreement.estimates for name in ("clips", "both", "raters"))
    for name in ("percent_binary", "krippendorff_alpha_binary", "cohen_kappa_binary_mean"):
        assert both[name].value == clips[name].value == raters[name].value
        assert both[name].high - both[name].low > 1.2 * (clips[name].high - clips[name].low), name
    ceiling = {name: results[name].human_ceiling.estimates for name in results}
    wider = [
        name
        for name, one in ceiling["clips"].items()
        if ceiling["both"][name].high - ceiling["both"][name].low > 1.1 * (one.high - one.low)
    ]
    assert {"pairwise_accuracy", "pairwise_balanced_accuracy_pooled", "loo_accuracy"} <= set(wider)
    # Statistics of single raters speak for other clips.
    assert results["both"].raters == results["clips"].raters
    assert results["both"].slices == results["clips"].slices
    assert results["both"].resample == "both"


def test_prior_is_never_left_out(tmp_path, monkeypatch):
    votes = {f"{i}.mp3": {f"user_{r}": int((i + r) % 3 == 0) for r in range(5)} for i in range(12)}
    annotations = annotated(tmp_path, DIM, votes)
    seen = []
    original = rater_variations
    monkeypatch.setattr(
        "earmark.metrics.bootstrap.rater_variations",
        lambda without, ratings, clips, resample: (
            seen.append(len(ratings)) or original(without, ratings, clips, resample)
        ),
    )
    analyse(annotations, ties="exclude", required=3, replicates=30, rng=np.random.default_rng(0), resample="both")
    assert set(seen) == {5}
