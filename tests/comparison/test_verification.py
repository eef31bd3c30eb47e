"""Comparisons of verification results: the same trials in any order, CASE aggregates, speakers of the results."""

import json

import numpy as np
import pandas as pd
import pytest

import compare
import evaluate_speaker
from earmark.comparison.results import read_result
from earmark.comparison.verification import compare_lists, hardest_trials, read_scored_lists
from earmark.errors import EarmarkError
from earmark.metrics.detection import LabelledScores, equal_error_rate

SPEAKERS, UTTERANCES = 12, 4


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """A list with the scores of a good and a bad system; paths name the speakers."""
    folder = tmp_path_factory.mktemp("trials")
    rng = np.random.default_rng(0)
    names = [f"spk{s}/u{u}.wav" for s in range(SPEAKERS) for u in range(UTTERANCES)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if rng.random() < 0.5]
    target = np.array([a.split("/")[0] == b.split("/")[0] for a, b in pairs])
    for name, separation in (("good", 3.0), ("bad", 1.0)):
        scores = rng.normal(size=len(pairs)) + separation * target
        table = pd.DataFrame({"enrol": [a for a, _ in pairs], "test": [b for _, b in pairs], "score": scores})
        table.assign(label=target.astype(int)).to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.fixture
def results(lists, tmp_path):
    """The folders of both systems' results."""
    folders = []
    for name in ("good", "bad"):
        words = ["--quiet", "trials", "--trials", str(lists / f"{name}.csv"), "--model-name", name]
        assert evaluate_speaker.main([*words, "--output-dir", str(tmp_path / name)]) == 0
        folders.append(tmp_path / name)
    return folders


@pytest.mark.slow
def test_better_system_is_found_and_values_are_its_own(results, tmp_path):
    output = tmp_path / "out"
    words = ["--quiet", *map(str, results), "--names", "good", "bad", "--output-dir", str(output)]
    assert compare.main(words) == 0
    table = pd.read_csv(output / "good-vs-bad/comparison.csv")
    row = table[table["metric"] == "eer"].iloc[0]
    assert row["difference"] > 0.1 and row["low"] > 0 and row["p"] < 0.01
    assert (bool(row["tied_with_best"]), row["system"]) == (False, "bad")
    assert table.loc[table["p"].isna(), "minimum_detectable"].isna().all() and row["minimum_detectable"] > 0
    for name, column in (("good", "reference_value"), ("bad", "value")):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert row[column] == pytest.approx(summary["metrics"]["eer"]["value"])


def test_order_of_trials_does_not_matter(results):
    first, second = (read_result(folder, folder.name) for folder in results)
    expected = compare_lists(read_scored_lists([first, second], common=False), intervals=True)
    path = results[1] / "scores.csv.gz"
    pd.read_csv(path).sample(frac=1, random_state=1).to_csv(path, index=False)
    found = compare_lists(read_scored_lists([first, second], common=False), intervals=True)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one.compare(1, 0).difference.value, other.compare(1, 0).difference.value)
        np.testing.assert_allclose(one.compare(1, 0).difference.low, other.compare(1, 0).difference.low)


@pytest.mark.slow
def test_other_trials_are_refused_and_compared_with_common(results):
    path = results[1] / "scores.csv.gz"
    table = pd.read_csv(path)
    table.iloc[50:].to_csv(path, index=False)
    read = [read_result(folder, folder.name) for folder in results]
    with pytest.raises(EarmarkError, match=rf"good has {len(table):,}, bad has {len(table) - 50:,}. Give --common"):
        read_scored_lists(read, common=False)
    scored = read_scored_lists(read, common=True)
    assert (scored.n, scored.n_left_out) == (len(table) - 50, 50)
    trials, scores = scored.lists[""], scored.scores[1][""]
    expected = equal_error_rate(LabelledScores.from_arrays(table["score"][50:], table["label"][50:] == 1).curve).rate
    assert equal_error_rate(LabelledScores.from_arrays(scores, trials.labels).curve).rate == pytest.approx(expected)


@pytest.mark.slow
def test_trials_left_out_are_those_of_either_list(results):
    for folder, rows in zip(results, (slice(None, -30), slice(50, None)), strict=True):
        path = folder / "scores.csv.gz"
        pd.read_csv(path).iloc[rows].to_csv(path, index=False)
    read = [read_result(folder, folder.name) for folder in results]
    scored = read_scored_lists(read, common=True)
    assert scored.n_left_out == 80
    assert "80 trials are not in all results and are left out" in scored.notes


def test_other_labels_are_refused(results):
    path = results[1] / "scores.csv.gz"
    table = pd.read_csv(path)
    table["label"] = 1 - table["label"]
    table.to_csv(path, index=False)
    with pytest.raises(EarmarkError, match="bad has other labels than good"):
        read_scored_lists([read_result(folder, folder.name) for folder in results], common=False)


@pytest.mark.slow
def test_speakers_come_from_the_results(results):
    scored = read_scored_lists([read_result(folder, folder.name) for folder in results], common=False)
    assert scored.speakers is not None and len(set(scored.speakers.values())) == SPEAKERS
    (eer, *_) = compare_lists(scored, intervals=True)
    assert "only 12 speakers" in str(eer.compare(1, 0).difference.note)


@pytest.mark.slow
def test_trials_with_other_decisions_are_counted_beyond_the_listed_ones(results):
    scored = read_scored_lists([read_result(folder, folder.name) for folder in results], common=False)
    names = [folder.name for folder in results]
    listed, n_flips = hardest_trials(scored, names, 0)
    shorter, same = hardest_trials(scored, names, 0, most=3)
    assert len(shorter) == 3 < n_flips == same == listed["flip"].sum()


@pytest.mark.slow
def test_without_intervals_there_are_values_alone(results):
    scored = read_scored_lists([read_result(folder, folder.name) for folder in results], common=False)
    (eer, *_) = compare_lists(scored, intervals=False)
    compared = eer.compare(1, 0)
    assert compared.difference.value > 0 and compared.difference.low is None and compared.p is None
