"""Intervals of the comparison with raters that speak for new raters: the jackknife by recomputation, and the script."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from earmark.annotation.parity import HeldOutRatings, Parity, RaterPanel, human_parity, pairwise_parity
from earmark.annotation.subsets import subsets
from earmark.audio_text.comparison_with_raters import (
    Ratings,
    ScoredItems,
    answers_against_others,
    answers_against_single_raters,
    numbers_against_others,
    numbers_against_single_raters,
)
from tests.audio_text.scale_projects import write_clips
from tests.conftest import ratings_table, write_tables

RATERS, ITEMS, CLASSES = 8, 30, 3
CLIPS = np.arange(ITEMS)
MAJORITY = partial(HeldOutRatings.from_counts, soft=False, unanimous=False)


def panel(values: np.ndarray, resample="raters", rater=None) -> RaterPanel:
    """All raters rate all items. values: (items, raters)."""
    item, number = np.nonzero(np.ones(values.shape, dtype=bool))
    return RaterPanel(resample, item, number if rater is None else rater[number], values.ravel())


def drawn(seed: int, highest: int) -> tuple[np.ndarray, np.ndarray]:
    """Ratings of raters who differ much, (items, raters), and answers of a model."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, highest, ITEMS)
    careful = np.linspace(0.35, 0.95, RATERS)
    values = np.where(rng.random((ITEMS, RATERS)) < careful, truth[:, None], rng.integers(0, highest, (ITEMS, RATERS)))
    return values, np.where(rng.random(ITEMS) < 0.7, truth, rng.integers(0, highest, ITEMS))


def of_votes(votes: np.ndarray, model: np.ndarray, given: RaterPanel | None, replicates: int) -> dict[str, Parity]:
    present, raters = votes.sum(axis=1), np.full(len(votes), votes.shape[1])
    options = (model.astype(bool), CLIPS, replicates, np.random.default_rng(0))
    pairs = pairwise_parity(present, raters, *options, given)
    loo = human_parity(MAJORITY(present, raters), *options, given, MAJORITY)
    return {"loo": loo, "pairs": pairs.accuracy, "balanced pairs": pairs.balanced_accuracy}


def single(values: np.ndarray, given: RaterPanel | None) -> Ratings:
    chosen = given or panel(values)
    return Ratings(chosen.item, chosen.rater, chosen.rating.astype(float))


def of_classes(values: np.ndarray, model: np.ndarray, given: RaterPanel | None, replicates: int) -> dict[str, Parity]:
    resample, rng = "clips" if given is None else given.resample, np.random.default_rng(0)
    common = (single(values, given), model, CLASSES, CLIPS.astype(str), replicates)
    pairs = answers_against_single_raters(*common, rng, resample).by_name
    return {f"{name}, pairs": parity for name, parity in pairs.items()} | dict(
        answers_against_others(*common, rng, resample).by_name
    )


def of_numbers(values: np.ndarray, model: np.ndarray, given: RaterPanel | None, replicates: int) -> dict[str, Parity]:
    resample, rng = "clips" if given is None else given.resample, np.random.default_rng(0)
    items = ScoredItems(model, model, np.zeros(ITEMS, dtype=np.int64), CLIPS.astype(str))
    ratings = single(values, given)
    pairs = numbers_against_single_raters(ratings, items, replicates, rng, resample).by_name
    return {f"{name}, pairs": parity for name, parity in pairs.items()} | dict(
        numbers_against_others(ratings, items, replicates, rng, resample).by_name
    )


def numbers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=ITEMS)
    values = truth[:, None] + rng.normal(size=RATERS) + np.linspace(0.2, 2, RATERS) * rng.normal(size=(ITEMS, RATERS))
    return values, truth + rng.normal(size=ITEMS)


CASES = {
    "votes": (of_votes, drawn(1, 2)),
    "classes": (of_classes, drawn(2, CLASSES)),
    "numbers": (of_numbers, numbers()),
}


@pytest.mark.parametrize("kind", CASES)
def test_interval_for_new_raters_is_the_jackknife_over_recomputed_differences(kind):
    compare, (values, model) = CASES[kind]
    without = [compare(np.delete(values, r, axis=1), model, None, 0) for r in range(RATERS)]
    found = compare(values, model, panel(values), 200)
    checked = 0
    for name, parity in found.items():
        each = np.array([one[name].difference.value for one in without])
        variance = (RATERS - 1) / RATERS * ((each - each.mean()) ** 2).sum()
        half = t.ppf(0.975, RATERS - 1) * variance**0.5
        low, high = parity.difference.low, parity.difference.high
        both = compare(values, model, replace(panel(values), resample="both"), 200)[name].difference
        if both.high - both.low < 2 * half:  # with the smaller of the two variances
            assert (low, high) == (both.low, both.high)
            continue
        checked += 1
        assert high - low == pytest.approx(2 * half)
    assert checked


@pytest.mark.parametrize("kind", CASES)
def test_values_do_not_depend_on_what_intervals_speak_for(kind):
    compare, (values, model) = CASES[kind]
    clips, both = compare(values, model, None, 200), compare(values, model, panel(values, "both"), 200)
    for name, parity in clips.items():
        for part in ("model", "person", "difference"):
            assert getattr(both[name], part).value == getattr(parity, part).value
        width = both[name].difference.high - both[name].difference.low
        assert width >= parity.difference.high - parity.difference.low - 1e-9
        assert both[name].p >= parity.p - 1e-9


@pytest.mark.parametrize("kind", CASES)
def test_numbers_and_order_of_raters_do_not_matter(kind):
    compare, (values, model) = CASES[kind]
    shuffled = np.random.default_rng(5).permutation(RATERS * ITEMS)
    given = panel(values, "both", rater=np.arange(RATERS)[::-1] * 7)
    given = RaterPanel("both", given.item[shuffled], given.rater[shuffled], given.rating[shuffled])
    expected = compare(values, model, panel(values, "both"), 100)
    for name, parity in compare(values, model, given, 100).items():
        assert parity.difference.high == pytest.approx(expected[name].difference.high)


def test_three_raters_have_no_interval_for_new_raters():
    votes, model = drawn(1, 2)
    parity = of_votes(votes[:, :3], model, panel(votes[:, :3], "both"), 100)["loo"]
    assert parity.difference.value is not None and parity.difference.low is None and parity.p is None
    assert "undefined without one of the raters" in parity.difference.why


def test_few_raters_carry_a_note():
    votes, model = drawn(1, 2)
    parity = of_votes(votes[:, 3:7], model, panel(votes[:, 3:7], "both"), 100)["pairs"]
    assert "only 4 raters" in parity.difference.note


def test_panel_of_items_renumbers():
    given = RaterPanel("both", np.array([0, 0, 2, 5]), np.array([1, 2, 1, 1]), np.array([1, 0, 1, 1]))
    chosen = given.of_items(np.array([5, 0]))
    assert (chosen.item.tolist(), chosen.rater.tolist(), chosen.rating.tolist()) == ([1, 1, 0], [1, 2, 1], [1, 0, 1])


# --- the script -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Labels of 24 clips by eight raters: two of each of six clips, six of each of the others."""
    import analysis

    root, rng = tmp_path_factory.mktemp("new_raters"), np.random.default_rng(0)
    names = [f"clip_{c:02d}.wav" for c in range(24)]
    votes = {
        (name, "Joy", "affirmative"): {
            f"user_{r}": int(rng.random() < (0.8 if c % 2 else 0.2))
            for r in sorted(rng.permutation(RATERS)[: 2 if c < 6 else 6])
        }
        for c, name in enumerate(names)
    }
    write_tables(root / "annotations/emolia-emo", ratings_table(subsets()["emolia-emo"], votes))
    write_clips(root / "dataset/emolia-emo/data/Sadness_best", names)
    code = analysis.main(
        ["--annotations-root", f"{root}/annotations", "--output-dir", f"{root}/analysis_outputs", "--no-figures"]
    )
    assert code == 0
    return root


def run(root, out, *flags: str) -> int:
    import benchmark

    return benchmark.main(
        [
            *("--subset", "emolia-emo", "--analysis-root", f"{root}/analysis_outputs", "--no-figures"),
            *("--dataset-root", f"{root}/dataset", "--output-dir", f"{out}", "--bootstrap", "100", *flags),
        ]
    )


def test_script_reports_what_intervals_speak_for(project, tmp_path, capsys):
    assert run(project, tmp_path / "clips") == 0
    assert "`--resample both` covers new raters too" in capsys.readouterr().out
    assert run(project, tmp_path / "both", "--resample", "both") == 0
    assert "cover the choice of clips and of raters" in capsys.readouterr().out
    clips, both = (json.loads((tmp_path / name / "emolia-emo/summary.json").read_text()) for name in ("clips", "both"))
    assert (clips["resample"], both["resample"]) == ("clips", "both")
    assert "resample" not in clips["parameters"] and both["parameters"]["resample"] == "both"
    assert clips["overall"] == both["overall"]
    assert [any("leave_one_out.csv" in str(one) for one in run["inputs"]) for run in (clips, both)] == [False, True]
    for comparison in ("human_parity", "human_parity_cross_fitted"):
        assert clips[comparison]["difference"]["value"] == both[comparison]["difference"]["value"]
        assert clips[comparison]["difference"]["low"] != both[comparison]["difference"]["low"]
        assert both[comparison]["difference"]["low"] is not None


def test_leave_one_out_lists_items_of_two_raters_but_holds_out_only_those_of_three(project, tmp_path):
    table = pd.read_csv(project / "analysis_outputs/emolia-emo/leave_one_out.csv")
    sizes = table.groupby("file_name").size()
    assert sorted(sizes.unique()) == [2, 6]
    assert run(project, tmp_path, "--labels", "dawid-skene") == 0
    parity = json.loads((tmp_path / "emolia-emo/summary.json").read_text())["human_parity"]
    assert 0 < parity["n"] <= sizes[sizes > 2].sum()


@pytest.mark.parametrize("change", ["labels", "unanimous", "absent", "incomplete", "other votes"])
def test_missing_ratings_stop_the_run_before_anything_is_scored(project, tmp_path, capsys, change):
    root = tmp_path / "copy"
    shutil.copytree(project / "analysis_outputs", root / "analysis_outputs")
    (root / "dataset").symlink_to(project / "dataset")
    path, flags, message = root / "analysis_outputs/emolia-emo/leave_one_out.csv", [], "does not exist"
    if change == "labels":
        flags, message = ["--labels", "dawid-skene"], "cannot be combined with --labels dawid-skene"
    elif change == "unanimous":
        flags, message = ["--unanimous-only"], "cannot be combined with --unanimous-only"
    elif change == "absent":
        path.unlink()
    elif change == "other votes":
        table = pd.read_csv(path)
        table.assign(present=table["present"].where(table.index > 0, 1 - table["present"])).to_csv(path, index=False)
        message = "has other votes than benchmark_labels.csv (items that differ: 1)"
    else:
        table = pd.read_csv(path)
        table[table.groupby("file_name")["username"].transform("size") > 2].to_csv(path, index=False)
        message = "lacks ratings of 6 items with two or more raters"
    assert run(root, tmp_path / "out", "--resample", "both", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
