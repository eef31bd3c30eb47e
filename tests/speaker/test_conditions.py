"""Attributes of utterances, the four kinds of trials, and what a list reveals without its voices."""

import numpy as np
import pytest

from earmark.errors import DataError, EarmarkError, MissingError
from earmark.metrics.detection import LabelledScores, equal_error_rate, roc
from earmark.speaker.conditions import Attribute, PairValues, condition_breakdown, read_languages, read_utterance_table
from earmark.speaker.evaluation import evaluate
from earmark.speaker.trial_design import FileFacts, check_trial_design
from earmark.speaker.trials import Trials


def drawn(n_speakers=30, seed=0):
    """Six utterances per speaker in two languages; scores drop across languages."""
    rng = np.random.default_rng(seed)
    names = np.array([f"s{s}/{'de' if u % 2 else 'fr'}/{u}.wav" for s in range(n_speakers) for u in range(6)], object)
    speaker = np.repeat(np.arange(n_speakers), 6)
    language = np.tile(np.arange(6) % 2, n_speakers)
    enrolment, test = rng.integers(0, len(names), (2, 6000))
    own = rng.random(6000) < 0.4
    test = np.where(own, speaker[enrolment] * 6 + rng.integers(0, 6, 6000), test)
    labels = speaker[enrolment] == speaker[test]
    same = language[enrolment] == language[test]
    scores = rng.normal(size=6000) + 2.0 * labels + 0.8 * same
    trials = Trials(names, enrolment, test, labels, scores)
    languages = Attribute("language", "test", ["de" if code else "fr" for code in language])
    return trials, languages, [f"s{s}" for s in speaker], same


def test_kinds_partition_targets_and_non_targets():
    trials, languages, speakers, same = drawn()
    breakdown = condition_breakdown(trials, languages, speakers, 0.01)
    everything, *kinds = breakdown.kinds
    assert everything.n_target == trials.labels.sum() and everything.eer == evaluate(trials, speakers).metrics["eer"]
    for row in kinds:
        target_same, other_same = (side.startswith("same") for side in (row.targets, row.nontargets))
        selected = same == np.where(trials.labels, target_same, other_same)
        assert row.n_target + row.n_nontarget == selected.sum()
        expected = equal_error_rate(roc(trials.scores[selected], trials.labels[selected])).rate
        assert row.eer.value == pytest.approx(expected)


def test_dependence_is_zero_within_its_interval_if_the_attribute_says_nothing():
    trials, languages, speakers, _ = drawn()
    trials = trials.take(~trials.is_self)  # a file has its own language and its own register
    rng = np.random.default_rng(1)
    random = Attribute("register", "test", rng.choice(["read", "free"], len(trials.names)).tolist())
    dependence = condition_breakdown(trials, random, speakers, 0.01).dependence
    assert dependence.low < 0 < dependence.high
    of_language = condition_breakdown(trials, languages, speakers, 0.01).dependence
    assert of_language.low > 0.05


def test_dependence_of_unknown_speakers_has_no_interval():
    trials, languages, _, _ = drawn()
    breakdown = condition_breakdown(trials, languages, None, 0.01)
    assert breakdown.dependence.low is None and "speakers are unknown" in breakdown.dependence.why


def test_values_of_kinds_do_not_depend_on_intervals():
    trials, languages, speakers, _ = drawn()
    with_, without = (
        condition_breakdown(trials, languages, speakers, 0.01, intervals=wanted) for wanted in (True, False)
    )
    assert [row.eer.value for row in with_.kinds] == [row.eer.value for row in without.kinds]
    assert with_.equalised_eer.value == without.equalised_eer.value and without.equalised_eer.low is None
    assert with_.dependence.value == pytest.approx(without.dependence.value)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([None, None, None, None], "the gender of the utterances is unknown"),
        (["f", "f", "f", "f"], "all trials are of the same gender"),
        (["f", "f", None, None], "all trials are of the same gender"),
    ],
)
def test_attribute_that_does_not_vary_has_a_reason(values, why):
    names = np.array(list("abcd"), object)
    trials = Trials(names, np.array([0, 2, 0]), np.array([1, 3, 2]), np.array([True, True, False]), np.arange(3.0))
    breakdown = condition_breakdown(trials, Attribute("gender", "t", values), None, 0.01)
    assert (breakdown.why, breakdown.kinds, breakdown.dependence) == (why, [], None)


def test_unknown_values_are_counted_and_left_out():
    trials, languages, speakers, _ = drawn()
    partly = Attribute("language", "test", [None, *languages.values[1:]])
    breakdown = condition_breakdown(trials, partly, speakers, 0.01)
    touched = (trials.enrolment == 0) | (trials.test == 0)
    assert breakdown.n_unknown == touched.sum() > 0
    assert breakdown.kinds[0].n_target == (trials.labels & ~touched).sum()


def test_many_numbers_are_divided_at_their_median():
    durations = Attribute("duration", "t", [*map(str, range(20)), None])
    assert durations.code.tolist() == [0] * 10 + [1] * 10 + [-1]
    assert Attribute("year", "t", ["1", "2", "1"]).code.tolist() == [0, 1, 0]


def test_pairs_of_unknown_values_are_not_the_same():
    trials = Trials(np.array(["a", "b"], object), np.array([0, 0]), np.array([1, 0]))
    pairs = PairValues.from_attribute(trials, Attribute("x", "t", [None, "v"]))
    assert not pairs.same.any() and not pairs.known.any()


# --- tables of utterances -----------------------------------------------------------------------------------


def test_read_utterance_table_matches_names_without_suffix_or_folders(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,gender\na/1.flac,f\nb/2.wav,\nz.wav,m\n")
    table = read_utterance_table(path, ["data/a/1.wav", "b/2.wav", "c/3.wav"])
    assert table.attribute("gender", ["data/a/1.wav", "b/2.wav", "c/3.wav"]).values == ["f", None, None]
    with pytest.raises(MissingError, match="has no column 'age'; its columns are gender"):
        table.attribute("age", [])


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("gender,age\nf,3\n", DataError, "column utterance: is missing"),
        ("path,gender\na,f\na,m\n", DataError, "line 3, column path: 'a' occurs again with other values"),
        ("path,gender\nx,f\n", EarmarkError, "contains no utterance of the list"),
        ("path,gender\na,f,9\n", DataError, "has 3 values"),
    ],
)
def test_read_utterance_table_rejects_faults(tmp_path, content, error, message):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(error, match=message):
        read_utterance_table(path, ["a"])


def test_read_languages_names_utterances_with_two_languages(tmp_path):
    path = tmp_path / "langs"
    path.write_text("a de\nb fr\na fr\n")
    with pytest.raises(DataError, match="'a' has the language 'fr', but 'de' on line 1"):
        read_languages(path, ["a", "b"])
    path.write_text("a de\nb\n")
    with pytest.raises(DataError, match="expected `utterance language`"):
        read_languages(path, ["a", "b"])


# --- trial design -------------------------------------------------------------------------------------------


def nothing_known(trials):
    return FileFacts(np.full(len(trials.names), np.nan), np.full(len(trials.names), np.nan))


def test_list_whose_non_targets_all_differ_in_language_is_warned_about():
    trials, languages, speakers, same = drawn()
    chosen = trials.take(same == trials.labels)
    scored = LabelledScores.from_arrays(chosen.scores, chosen.labels)
    design = check_trial_design(chosen, scored, [languages], nothing_known(chosen), speakers)
    (predictor,) = design.predictors  # the folder says the same as the language
    assert (predictor.name, predictor.rule, predictor.auc.value) == ("language", "same value", 1.0)
    assert len(design.warnings) == 1 and "language (same value) alone separates" in design.warnings[0]
    fair = check_trial_design(trials, evaluate(trials, speakers).scored, [languages], nothing_known(trials), speakers)
    assert fair.warnings == []
    expected = (same[trials.labels].mean() - same[~trials.labels].mean()) / 2 + 0.5
    assert fair.predictors[0].auc.value == pytest.approx(expected)
    assert fair.predictors[0].auc.low < expected < fair.predictors[0].auc.high


def test_similar_durations_predict_targets():
    trials, _, speakers, _ = drawn()
    seconds = 1.0 + np.array([int(name[1:]) for name in speakers])  # each speaker has a length of their own
    facts = FileFacts(np.full(len(seconds), np.nan), seconds)
    scored = LabelledScores.from_arrays(trials.scores, trials.labels)
    design = check_trial_design(trials, scored, [], facts, speakers)
    assert [(each.name, each.auc.value) for each in design.predictors if each.name == "duration"] == [("duration", 1)]
    assert "duration (similar value)" in design.warnings[0]


def test_groups_count_speakers_utterances_and_repeats():
    names = np.array(["a/de/1", "a/de/2", "b/fr/1"], object)
    trials = Trials(
        names, np.array([0, 0, 0, 1]), np.array([1, 1, 2, 2]), np.array([True, True, False, False]), np.arange(4.0)
    )
    scored = LabelledScores.from_arrays(trials.scores, trials.labels)
    languages = Attribute("language", "t", ["de", "de", "fr"])
    design = check_trial_design(trials, scored, [languages], nothing_known(trials), ["a", "a", "b"])
    rows = {g.name: (g.n_trials, g.n_utterances, g.n_speakers, g.n_repeated_trials) for g in design.groups}
    assert rows["all"] == (4, 3, 2, 1)
    assert rows["target, same language"] == (2, 2, 1, 1)
    assert rows["non-target, different language"] == (2, 3, 2, 0)
    assert rows["target, different language"] == (0, 0, 0, 0)


def test_speakers_and_identifiers_are_no_predictors():
    trials, _, speakers, _ = drawn()
    attributes = [Attribute("Speaker", "t", speakers), Attribute("id", "t", [str(name) for name in trials.names])]
    different = trials.take(~trials.is_self)
    scored = LabelledScores.from_arrays(different.scores, different.labels)
    design = check_trial_design(different, scored, attributes, nothing_known(trials), speakers)
    assert [each.name for each in design.predictors] == ["folder"]
