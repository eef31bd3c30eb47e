"""Languages from paths, and error rates by language."""

from pathlib import Path

import numpy as np
import pytest

from earmark.speaker.tidyvoice.evaluation import (
    language_breakdown,
    language_groups,
    same_language,
    tidyvoice_definition,
)
from earmark.speaker.trial_files import read_trials
from earmark.speaker.trials import Trials, language_from_path

DEMO = Path(__file__).resolve().parents[3] / "dataset/speaker-demo/trials_crosslingual.txt"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a/de/1.wav", "de"), ("data/dev/a/pt-BR/1", "pt-BR"), ("a/1.wav", None), ("1.wav", None), ("a//1.wav", None)],
)
def test_language_is_folder_of_file(name, expected):
    assert language_from_path(name) == expected


def six_trials():
    """Two targets in one language, two across, one non-target in one language, one across."""
    names = np.array(["a/de/1", "a/de/2", "a/fr/1", "b/de/1", "b/fr/1"], dtype=object)
    enrolment, test = np.array([0, 1, 0, 1, 0, 0]), np.array([1, 0, 2, 2, 3, 4])
    labels = np.array([True, True, True, True, False, False])
    return Trials(names, enrolment, test, labels, np.array([0.9, 0.8, 0.2, 0.7, 0.5, 0.1]))


def test_language_groups_partition_trials():
    groups = language_groups(six_trials())
    assert {name: np.flatnonzero(members).tolist() for name, members in groups.items()} == {
        "target, same language": [0, 1],
        "target, different languages": [2, 3],
        "non-target, same language": [4],
        "non-target, different languages": [5],
    }


def test_language_breakdown_of_six_trials():
    result = language_breakdown(six_trials())
    # All: targets .9 .8 .7 .2, non-targets .5 .1. False alarms: ½ up to .5, none above it. Misses: ¼.
    assert result.threshold == pytest.approx(0.5)
    rows = {group.name: group for group in result.groups}
    assert [group.n for group in result.groups] == [2, 2, 1, 1]
    assert rows["target, same language"].rate == 0
    assert rows["target, different languages"].rate == 0.5
    assert rows["target, different languages"].error == "miss rate"
    assert rows["target, different languages"].mean_score == pytest.approx(0.45)
    assert rows["non-target, same language"].rate == 1
    assert rows["non-target, different languages"].rate == 0
    assert rows["non-target, same language"].error == "false alarm rate"
    conditions = {row.name: row for row in result.conditions}
    assert list(conditions) == ["all", "same language", "different languages"]
    assert conditions["same language"].eer.value == 0
    assert (conditions["same language"].n_target, conditions["same language"].n_nontarget) == (2, 1)
    assert conditions["different languages"].eer.value == 0
    assert conditions["all"].eer.value == pytest.approx(1 / 6)  # x = ¼ (1 − 2 x)
    assert conditions["all"].min_dcf.value == pytest.approx(0.25)


def test_language_breakdown_of_demo_list():
    trials = read_trials(DEMO)
    rng = np.random.default_rng(0)
    same = same_language(trials)
    scores = rng.normal(size=len(trials)) + 2.0 * trials.labels + 0.7 * same
    result = language_breakdown(Trials(trials.names, trials.enrolment, trials.test, trials.labels, scores))
    assert sum(group.n for group in result.groups) == len(trials)
    assert all(group.n > 50 for group in result.groups)
    targets = [group for group in result.groups if group.error == "miss rate"]
    missed = sum(group.n * group.rate for group in targets)
    assert missed == pytest.approx((scores[trials.labels] < result.threshold).sum())
    same_target, other_target = targets
    assert other_target.rate > same_target.rate  # by construction of the scores
    assert all(0 < row.eer.value < 0.5 for row in result.conditions)
    speakers = [str(name).split("/")[0] for name in trials.names]
    again = language_breakdown(trials.with_scores(scores), speakers)
    for row, before in zip(again.conditions, result.conditions, strict=True):
        assert row.eer.value == before.eer.value
        assert row.eer.low < row.eer.value < row.eer.high


def test_language_breakdown_without_languages_has_reason():
    trials = six_trials()
    unlabelled = Trials(trials.names, trials.enrolment, trials.test, None, trials.scores)
    flat = Trials(np.array(list("abcde"), dtype=object), trials.enrolment, trials.test, trials.labels, trials.scores)
    assert (language_breakdown(unlabelled).groups, language_breakdown(unlabelled).reason) == (
        [],
        "the list has no labels",
    )
    assert "paths are not spk/lang/file" in language_breakdown(flat).reason
    assert language_groups(unlabelled) is language_groups(flat) is None
    with pytest.raises(ValueError, match="needs scores"):
        language_breakdown(Trials(trials.names, trials.enrolment, trials.test, trials.labels))


def test_language_condition_without_non_targets_is_undefined():
    trials = six_trials()
    result = language_breakdown(trials.take(np.array([True, True, True, True, True, False])))
    row = next(row for row in result.conditions if row.name == "different languages")
    assert (row.eer.why, row.n_nontarget, row.eer.value) == ("no non-target trials", 0, None)
    group = next(group for group in result.groups if group.name == "non-target, different languages")
    assert group.n == 0
    assert group.rate is None


def test_tidyvoice_definition_has_published_values():
    results = tidyvoice_definition()["baseline"]["results"]
    assert [(name, r["eer"], r["min_dcf"]) for name, r in results.items()] == [
        ("dev", 0.0307, 0.82),
        ("A", 0.0906, 0.658),
        ("U", 0.116, 0.607),
    ]
    assert [row["trials"] for row in tidyvoice_definition()["lists"].values()] == [12_000_000, 4_000_000, 1_280_000]
