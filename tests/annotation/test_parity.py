"""Leave-one-rater-out comparison of a model with the raters."""

import json

import numpy as np
import pandas as pd
import pytest

from earmark.annotation.parity import NO_PAIR_OF_RATERS, HeldOutRatings, human_parity, pairwise_parity
from earmark.metrics.agreement import leave_one_out
from earmark.metrics.dawid_skene import dawid_skene, leave_one_rater_out_posteriors
from tests.conftest import ratings_table, write_tables


def held_out_rows(present, raters, soft=False, unanimous=False):
    held_out = HeldOutRatings.from_counts(present, raters, soft=soft, unanimous=unanimous)
    rows = zip(*(getattr(held_out, name).tolist() for name in ("item", "vote", "weight", "reference")), strict=True)
    return sorted(rows)


def test_held_out_ratings_from_counts():
    assert held_out_rows([3], [3]) == [(0, True, 3, 1)]
    assert held_out_rows([2], [3]) == [(0, False, 1, 1)]  # the others of a present rating are tied
    assert held_out_rows([2], [4]) == [
        (0, False, 2, 1),
        (0, True, 2, 0),
    ]  # tied, but not without the rater
    assert held_out_rows([1], [2]) == [] and held_out_rows([2], [2]) == []


def test_held_out_ratings_unanimous_ignores_own_vote():
    assert held_out_rows([3], [4], unanimous=True) == [(0, False, 1, 1)]
    assert held_out_rows([4], [4], unanimous=True) == [(0, True, 4, 1)]
    assert held_out_rows([1], [4], unanimous=True) == [(0, True, 1, 0)]
    assert held_out_rows([2], [4], unanimous=True) == []


def test_held_out_ratings_soft_uses_share_of_others():
    assert held_out_rows([3], [4], soft=True) == [(0, False, 1, 1), (0, True, 3, pytest.approx(2 / 3))]


def test_held_out_ratings_match_leave_one_out():
    rng = np.random.default_rng(0)
    raters = rng.integers(1, 7, 60)
    present = rng.binomial(raters, 0.4)
    held_out = HeldOutRatings.from_counts(present, raters, soft=False, unanimous=False)
    correct = held_out.vote == (held_out.reference == 1)
    counted = [
        (held_out.weight * correct * (held_out.reference == 1)).sum(),
        (held_out.weight * ~correct * (held_out.reference == 1)).sum(),
        (held_out.weight * correct * (held_out.reference == 0)).sum(),
        (held_out.weight * ~correct * (held_out.reference == 0)).sum(),
    ]
    assert counted == leave_one_out(np.stack([raters - present, present], axis=1)).sum(axis=0).tolist()


def test_human_parity_zero_for_model_equal_to_raters():
    """All raters of an item and the model agree."""
    present = np.array([3, 0] * 15)
    result = human_parity(
        HeldOutRatings.from_counts(present, np.full(30, 3), soft=False, unanimous=False),
        present > 0, np.arange(30), 100, np.random.default_rng(0),
    )  # fmt: skip
    assert (result.n, result.model.value, result.person.value, result.p) == (90, 1, 1, 1)
    assert (result.difference.value, result.difference.low, result.difference.high) == (0, 0, 0)
    assert result.model.high == 1 and result.model.low < 0.9


def test_human_parity_undefined_without_held_out_ratings():
    none = HeldOutRatings.from_counts([1, 0], [1, 2], soft=False, unanimous=False)
    result = human_parity(none, np.array([True, False]), ["a", "b"], 50, np.random.default_rng(0))
    assert (result.n, result.p, result.model.value) == (0, None, None)
    assert result.model.why == "no rating with at least two other raters and a defined reference"


def test_leave_one_rater_out_posteriors_match_refit():
    rng = np.random.default_rng(1)
    item, rater = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
    vote = rng.integers(0, 2, 120)
    fit = dawid_skene(item, rater, vote, n_items=40, n_raters=3)
    posteriors = leave_one_rater_out_posteriors(fit, item, rater, vote)
    for number in range(3):
        mine = rater == number
        others = dawid_skene(item[~mine], rater[~mine], vote[~mine], n_items=40, n_raters=3)
        assert posteriors[mine] == pytest.approx(others.posterior[item[mine]])


def test_leave_one_rater_out_posteriors_with_many_raters(monkeypatch):
    monkeypatch.setattr("earmark.metrics.dawid_skene.MAX_REFITS", 2)
    rng = np.random.default_rng(1)
    item, rater = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
    vote = rng.integers(0, 2, 120)
    fit = dawid_skene(item, rater, vote, n_items=40, n_raters=3)
    posteriors = leave_one_rater_out_posteriors(fit, item, rater, vote)
    for k in (0, 7, 50):
        odds = fit.prevalence / (1 - fit.prevalence)
        for j in np.flatnonzero((item == item[k]) & (rater != rater[k])):
            sensitivity, specificity = fit.sensitivity[rater[j]], fit.specificity[rater[j]]
            odds *= sensitivity / (1 - specificity) if vote[j] else (1 - sensitivity) / specificity
        assert posteriors[k] == pytest.approx(odds / (1 + odds))


# --- analysis.py and benchmark.py ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """A folder with ratings of 60 clips by four raters, their labels and the clips; and the true label of each item."""
    import soundfile

    import analysis
    from earmark.annotation.subsets import subsets

    folder, rng, subset = tmp_path_factory.mktemp("rated"), np.random.default_rng(2), subsets()["emolia-emo"]
    truth, votes = {}, {}
    (folder / "dataset/emolia-emo/data/Sadness_best").mkdir(parents=True)
    for clip in range(60):
        name = f"clip_{clip:02d}.wav"
        soundfile.write(folder / "dataset/emolia-emo/data/Sadness_best" / name, 0.1 * rng.normal(size=800), 16_000)
        for task in ("affirmative", "contrastive_1", "ultimate"):
            truth[name, "Joy", task] = present = bool(rng.random() < 0.4)
            agrees = rng.random(4) < 0.75
            votes[name, "Joy", task] = {f"user_{r}": int(present == bool(agrees[r])) for r in range(4)}
    write_tables(folder / "annotations/emolia-emo", ratings_table(subset, votes))
    paths = ["--annotations-root", folder / "annotations", "--output-dir", folder / "analysis_outputs"]
    assert analysis.main(["--quiet", "--bootstrap", "50", "--subset", "emolia-emo", *map(str, paths)]) == 0
    return folder, truth


def parity_of(folder, *flags):
    import benchmark

    paths = ["--analysis-root", folder / "analysis_outputs", "--dataset-root", folder / "dataset"]
    argv = ["--quiet", "--subset", "emolia-emo", "--bootstrap", "200", "--output-dir", folder / "out", *paths, *flags]
    assert benchmark.main([str(each) for each in argv]) == 0
    return json.loads((folder / "out/emolia-emo/summary.json").read_text())


@pytest.mark.parametrize("flags", [[], ["--unanimous-only"], ["--labels", "soft"], ["--labels", "dawid-skene"]])
def test_benchmark_parity_uses_same_references(rated, flags):
    folder, _ = rated
    result = parity_of(folder, *flags)
    labels = pd.read_csv(folder / "analysis_outputs/emolia-emo/benchmark_labels.csv")
    present, parity = (labels["soft_present"] * 4).round(), result["human_parity"]
    ties, one_vote_off = int((present == 2).sum()), int(present.isin([1, 3]).sum())
    assert ties > 5 and one_vote_off > 5
    expected = {"--unanimous-only": one_vote_off, "--labels": 0}
    assert result["questions_for_people"] == (expected[flags[0]] if flags else ties)
    if not flags:
        assert parity["n"] == 4 * len(labels), "with four raters, the other three are never tied"
    assert parity["person"]["value"] < 1, "also with --unanimous-only: the held-out rating does not select items"
    difference = parity["model"]["value"] - parity["person"]["value"]
    assert parity["difference"]["value"] == pytest.approx(difference)
    report = (folder / "out/emolia-emo/report.md").read_text()
    assert f"balanced accuracy of **{parity['model']['value']:.3f}**" in report
    assert f"the rater that it replaces **{parity['person']['value']:.3f}**" in report


def test_benchmark_parity_respects_limit(rated):
    folder, _ = rated
    result = parity_of(folder, "--limit", "20", "--unanimous-only")
    assert result["rows_total"] == 20
    assert 0 < result["questions_for_people"] < 60


def test_benchmark_parity_undefined_without_leave_one_out_csv(rated, tmp_path):
    import shutil

    folder, _ = rated
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy/analysis_outputs/emolia-emo/leave_one_out.csv").unlink()
    parity = parity_of(tmp_path / "copy", "--labels", "dawid-skene")["human_parity"]
    assert parity["model"]["why"] == "leave_one_out.csv does not exist; run `uv run analysis.py` to create it"


# --- pairs of raters --------------------------------------------------------------------------------------------


def test_pairs_of_raters_by_enumeration():
    present, raters = np.array([3, 2, 0, 1, 1]), np.array([3, 4, 2, 1, 2])
    pairs = HeldOutRatings.from_pairs(present, raters)
    counted = {}
    for item, weight, vote, reference in zip(pairs.item, pairs.weight, pairs.vote, pairs.reference, strict=True):
        counted[int(item), bool(vote), bool(reference)] = int(weight)
    expected = {}
    for item, (k, n) in enumerate(zip(present, raters, strict=True)):
        votes = [True] * k + [False] * (n - k)
        for first in range(n):
            for second in range(n):
                if first != second:
                    key = item, votes[first], votes[second]
                    expected[key] = expected.get(key, 0) + 1
    assert counted == expected


def test_pairwise_parity_by_hand():
    # Votes 1 1 0 and 1 0 of two items; the model says present, absent. Pairs: (1,1) 2×, (1,0) 2× and (0,1) 2× of the
    # first item, (1,0) and (0,1) of the second.
    result = pairwise_parity([2, 1], [3, 2], np.array([True, False]), ["a", "b"], 0, np.random.default_rng(0))
    assert result.accuracy.n == 8
    assert result.accuracy.person.value == pytest.approx(2 / 8)
    assert result.accuracy.model.value == pytest.approx((4 + 1) / 8)
    assert result.accuracy.difference.value == pytest.approx(3 / 8)
    # Of 5 present references raters recall 2 and the model 4; of 3 absent ones raters find 0 and the model 1.
    assert result.balanced_accuracy.person.value == pytest.approx((2 / 5 + 0) / 2)
    assert result.balanced_accuracy.model.value == pytest.approx((4 / 5 + 1 / 3) / 2)


def test_pairwise_parity_of_raters_is_the_pooled_value_of_the_analysis(rated):
    folder, _ = rated
    result = parity_of(folder)
    analysed = json.loads((folder / "analysis_outputs/emolia-emo/summary.json").read_text())["human_ceiling"]
    pooled, weighted = (
        analysed[name]["value"] for name in ("pairwise_balanced_accuracy_pooled", "pairwise_accuracy_weighted")
    )
    parity = result["pairwise_parity"]
    assert parity["balanced_accuracy"]["person"]["value"] == pytest.approx(pooled)
    assert parity["accuracy"]["person"]["value"] == pytest.approx(weighted)
    cross_fitted = result["pairwise_parity_cross_fitted"]
    assert cross_fitted["accuracy"]["person"]["value"] == parity["accuracy"]["person"]["value"]
    report = (folder / "out/emolia-emo/report.md").read_text()
    assert f"| rater against another rater | {pooled:.3f} [" in report


@pytest.mark.parametrize(
    ("flags", "why"),
    [(["--unanimous-only"], "--unanimous-only selects items by their votes"), (["--labels", "soft"], None)],
)
def test_pairwise_parity_needs_items_that_are_not_selected_by_votes(rated, flags, why):
    folder, _ = rated
    assert parity_of(folder, *flags)["pairwise_parity"]["accuracy"]["model"].get("why") == why


def test_pairwise_parity_needs_two_raters_of_an_item():
    result = pairwise_parity([1, 0], [1, 1], np.array([True, False]), ["a", "b"], 30, np.random.default_rng(0))
    assert result.accuracy.model.why == result.balanced_accuracy.difference.why == NO_PAIR_OF_RATERS


def test_pairwise_parity_of_one_class_has_accuracy_alone():
    result = pairwise_parity([2, 2], [2, 2], np.array([True, False]), ["a", "b"], 30, np.random.default_rng(0))
    assert (result.accuracy.model.value, result.accuracy.person.value) == (0.5, 1.0)
    assert result.balanced_accuracy.difference.value is None
    assert result.balanced_accuracy.difference.why


@pytest.mark.slow
@pytest.mark.parametrize("raters", [2, 3, 4])
def test_a_model_that_answers_like_a_random_rater_equals_the_raters(raters):
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(200):
        true = rng.random(300) < 0.4
        votes = rng.random((raters + 1, 300)) < np.where(true, 0.8, 0.15)
        result = pairwise_parity(votes[1:].sum(axis=0), np.full(300, raters), votes[0], np.arange(300), 0, rng)
        differences.append((result.accuracy.difference.value, result.balanced_accuracy.difference.value))
    error = np.std(differences, axis=0) / np.sqrt(200)
    assert (np.abs(np.mean(differences, axis=0)) < 3 * error).all()
