"""Scores on nominal, ordinal and interval labels: values by hand, model and raters on equal footing, faults."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr

from earmark.annotation.subsets import Subset
from earmark.audio_text.mean_ratings import CHOSEN_BY_RATINGS, evaluate_mean_ratings
from earmark.audio_text.options import FilterOptions
from earmark.audio_text.pairs import PairTable
from earmark.audio_text.scale_pairs import (
    apply_scale_filters,
    drop_unused,
    load_scale_pairs,
    ratings_of_items,
    read_scale_ratings,
)
from earmark.audio_text.sentence_scores import SentenceSimilarities, with_wordings
from earmark.audio_text.zero_shot import ScaleEvaluation, evaluate_zero_shot
from earmark.errors import DataError, MissingError
from tests.audio_text.scale_projects import (
    AROUSAL,
    CHOICE,
    WARMTH,
    simulated_choices,
    simulated_levels,
    simulated_numbers,
    write_project,
)

NO_FILTERS = FilterOptions()
VOTES = {
    ("a.wav",): {"u": "Anger", "v": "Anger", "w": "Joy"},
    ("b.wav",): {"u": "Joy", "v": "Fear"},
    ("c.wav",): {"u": "Joy", "v": "Joy", "w": "Joy", "x": "Fear"},
    ("d.wav",): {"u": "Fear"},
    ("e.wav",): {"u": "Fear", "v": "Fear", "w": "Joy", "x": "Joy"},
}
NUMBERS = {
    ("a.wav",): {"u": 1.0, "v": 2.0, "w": 3.0},
    ("b.wav",): {"u": 2.0, "v": 4.0, "w": 3.0},
    ("c.wav",): {"u": 5.0, "v": 4.0, "w": 4.5},
    ("d.wav",): {"u": 4.0, "v": 5.0, "w": 3.0},
}


def loaded(root: Path, subset: Subset, source="majority", filters: FilterOptions = NO_FILTERS, path=None) -> PairTable:
    pairs = with_wordings(load_scale_pairs(subset, root / "analysis_outputs", root / "dataset", source), path)
    return apply_scale_filters(pairs, filters)


def ratings_of(root: Path, pairs: PairTable) -> pd.DataFrame:
    ratings = read_scale_ratings(root / "analysis_outputs" / pairs.subset.name / "leave_one_out.csv", pairs.subset)
    assert ratings is not None
    return ratings


def choice(
    root: Path, answers: Mapping[str, str], source="majority", filters=NO_FILTERS, replicates: int = 0
) -> ScaleEvaluation:
    """Evaluate a model that gives these answers by file; an empty answer is a tie of all classes."""
    pairs = loaded(root, CHOICE, source, filters)
    soft, ratings = source == "soft", ratings_of(root, pairs)
    pairs = drop_unused(pairs, ratings, soft=soft, unanimous=filters.unanimous_only)
    table = pairs.with_comparison_only().table
    values = np.array([[float(answers[file] == level) for level in CHOICE.levels] for file in table["file"]])
    similarities = SentenceSimilarities(values, [""] * len(table))
    return evaluate_zero_shot(
        pairs,
        similarities,
        pairs.wordings,
        ratings=ratings_of_items(ratings, pairs.with_comparison_only()),
        replicates=replicates,
        rng=np.random.default_rng(0),
        unanimous=filters.unanimous_only,
    )


def values(scores: Mapping) -> dict[str, float | None]:
    return {name.removeprefix("zero_shot_").removeprefix("mean_rating_"): e.value for name, e in scores.items()}


# --- nominal ----------------------------------------------------------------------------------------------------


def test_zero_shot_by_hand(tmp_path: Path):
    # References: a Anger, c Joy, d Fear; b and e are tied. Answers: a right, c tied between classes, d wrong.
    root = write_project(tmp_path, CHOICE, VOTES)
    answers = {"a.wav": "Anger", "b.wav": "Joy", "c.wav": "", "d.wav": "Joy", "e.wav": "Joy"}
    found = choice(root, answers)
    result = found.result
    assert values(result.metrics) == pytest.approx({"accuracy": 1 / 3, "balanced_accuracy": 1 / 3, "macro_f1": 1 / 3})
    assert (result.items_total, result.items_evaluated, result.answers_tied) == (3, 3, 1)
    assert result.confusion == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    assert result.baselines["most frequent class"]["zero_shot_accuracy"] == pytest.approx(1 / 3)
    table = found.predictions.set_index("file")
    assert table["predicted_class"].to_dict() == {"a.wav": "Anger", "c.wav": "", "d.wav": "Joy"}
    assert table["correct"].to_dict() == {"a.wav": 1, "c.wav": 0, "d.wav": 0}
    assert list(table.columns[:5]) == [
        "n_raters",
        "reference_class",
        "audio_path",
        "similarity_Anger",
        "similarity_Joy",
    ]


def test_zero_shot_equal_footing_by_hand(tmp_path: Path):
    # Held out: a: w against Anger (u and v meet a tie). c: u, v, w against Joy (two Joy, one Fear of the others), x
    # against Joy. e: each Fear meets one Fear and two Joy, so Joy; each Joy meets Fear. b and d have too few raters.
    root = write_project(tmp_path, CHOICE, VOTES)
    answers = {"a.wav": "Anger", "b.wav": "Joy", "c.wav": "Joy", "d.wav": "Joy", "e.wav": "Joy"}
    found = choice(root, answers).result
    parity = found.equal_footing["zero_shot_accuracy"]
    assert parity.n == 1 + 4 + 4
    assert parity.model.value == pytest.approx((1 + 4 + 2) / 9)
    assert parity.person.value == pytest.approx((0 + 3 + 0) / 9)
    assert parity.difference.value == pytest.approx(4 / 9)
    assert found.questions_for_people == 2  # b, for pairs of raters, and e


def test_zero_shot_soft_labels_by_hand(tmp_path: Path):
    root = write_project(tmp_path, CHOICE, VOTES)
    answers = {"a.wav": "Anger", "b.wav": "Joy", "c.wav": "Fear", "d.wav": "Fear", "e.wav": "Anger"}
    found = choice(root, answers, "soft")
    assert values(found.result.metrics)["accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1 / 4 + 1 + 0) / 5)
    assert found.predictions["correct"].tolist() == pytest.approx([2 / 3, 1 / 2, 1 / 4, 1, 0])
    # The share of the others who chose the class: of a, u and v get 1/2, w gets 0.
    people = [1 / 2, 1 / 2, 0, 2 / 3, 2 / 3, 2 / 3, 0, 1 / 3, 1 / 3, 1 / 3, 1 / 3]
    assert found.result.equal_footing["zero_shot_accuracy"].person.value == pytest.approx(np.mean(people))


def test_zero_shot_unanimous_items_compare_where_others_agree(tmp_path: Path):
    root = write_project(tmp_path, CHOICE, VOTES | {("f.wav",): {"u": "Joy", "v": "Joy", "w": "Joy"}})
    answers = {f"{name}.wav": "Joy" for name in "abcdef"}
    found = choice(root, answers, filters=FilterOptions(unanimous_only=True)).result
    assert (found.items_total, found.equal_footing["zero_shot_accuracy"].n) == (1, 1 + 1 + 3)  # a: w; c: x; f: all


def test_zero_shot_dawid_skene_labels_keep_ties(tmp_path: Path):
    root = write_project(tmp_path, CHOICE, VOTES)
    assert len(loaded(root, CHOICE, "dawid-skene").table) == 5
    assert len(loaded(root, CHOICE).table) == 3


def test_zero_shot_filters(tmp_path: Path):
    root = write_project(tmp_path, CHOICE, VOTES)
    assert loaded(root, CHOICE, filters=FilterOptions(min_raters=4)).table["file"].tolist() == ["c.wav"]
    assert loaded(root, CHOICE, filters=FilterOptions(limit=2)).table["file"].tolist() == ["a.wav", "c.wav"]


@pytest.mark.slow
@pytest.mark.parametrize("raters", [3, 4])
def test_zero_shot_of_a_further_rater_is_on_par(tmp_path: Path, raters: int):
    differences = []
    for seed in range(8):
        ratings = simulated_choices(150, raters + 1, np.random.default_rng(seed))
        model = {key[0]: own.pop(f"user_{raters}") for key, own in ratings.items()}
        root = write_labels(tmp_path / str(seed), CHOICE, ratings)
        differences.append(choice(root, model).result.equal_footing["zero_shot_accuracy"].difference.value)
    assert abs(np.mean(differences)) < 0.03  # the mean of the model's accuracy against all would be .05 off


def test_zero_shot_without_held_out_ratings(tmp_path: Path):
    root = write_project(tmp_path, CHOICE, VOTES)
    pairs = loaded(root, CHOICE).without_comparison_only()
    values_ = SentenceSimilarities(np.eye(3), [""] * 3)
    found = evaluate_zero_shot(pairs, values_, pairs.wordings, ratings=None, replicates=0, rng=np.random.default_rng(0))
    assert found.result.equal_footing == {}
    assert "leave_one_out.csv" in found.result.equal_footing_why


def test_zero_shot_when_nothing_was_scored(tmp_path: Path):
    root = write_project(tmp_path, CHOICE, VOTES)
    pairs = loaded(root, CHOICE).without_comparison_only()
    failed = SentenceSimilarities(np.full((3, 3), np.nan), ["no reply"] * 3)
    ratings = ratings_of_items(ratings_of(root, pairs), pairs)
    rng = np.random.default_rng(0)
    found = evaluate_zero_shot(pairs, failed, pairs.wordings, ratings=ratings, replicates=20, rng=rng)
    assert set(values(found.result.metrics).values()) == {None}
    assert found.result.equal_footing == {}
    assert found.predictions["correct"].isna().all()


# --- ordinal and interval ---------------------------------------------------------------------------------------


def numbers(
    root: Path, subset: Subset, similarity: Mapping[str, float], replicates: int = 0, **filters
) -> ScaleEvaluation:
    pairs = loaded(root, subset, filters=FilterOptions(**filters))
    x = np.array([[similarity[file]] for file in pairs.table["file"]])
    ratings = ratings_of_items(ratings_of(root, pairs), pairs)
    chosen = CHOSEN_BY_RATINGS if filters.get("unanimous_only") else ratings
    similarities = SentenceSimilarities(x, ["" if np.isfinite(v[0]) else "no reply" for v in x])
    rng = np.random.default_rng(0)
    return evaluate_mean_ratings(pairs, similarities, pairs.wordings, ratings=chosen, replicates=replicates, rng=rng)


def test_mean_ratings_equal_scipy(tmp_path: Path):
    root = write_project(tmp_path, AROUSAL, NUMBERS)
    similarity = {"a.wav": 0.1, "b.wav": 0.3, "c.wav": 0.2, "d.wav": 0.9}
    found = numbers(root, AROUSAL, similarity).result
    means = [2.0, 3.0, 4.5, 4.0]
    x = list(similarity.values())
    assert found.metrics["mean_rating_spearman"].value == pytest.approx(spearmanr(x, means)[0])
    assert found.metrics["mean_rating_pearson"].value == pytest.approx(pearsonr(x, means)[0])


def test_mean_ratings_equal_footing_by_hand(tmp_path: Path):
    root = write_project(tmp_path, AROUSAL, NUMBERS)
    similarity = {"a.wav": 0.1, "b.wav": 0.3, "c.wav": 0.2, "d.wav": 0.9}
    found = numbers(root, AROUSAL, similarity).result.equal_footing["mean_rating_pearson"]
    model, person = [], []
    for rater in "uvw":
        others = [np.mean([v for name, v in own.items() if name != rater]) for own in NUMBERS.values()]
        model.append(pearsonr(list(similarity.values()), others)[0])
        person.append(pearsonr([own[rater] for own in NUMBERS.values()], others)[0])
    assert found.model.value == pytest.approx(np.mean(model))
    assert found.person.value == pytest.approx(np.mean(person))
    assert found.difference.value == pytest.approx(np.mean(model) - np.mean(person))
    assert found.n == 12


@pytest.mark.slow
def test_mean_ratings_of_a_further_rater_are_on_par(tmp_path: Path):
    differences = {"spearman": [], "pearson": []}
    for seed in range(8):
        ratings = simulated_numbers(150, 5, np.random.default_rng(seed))
        model = {key[0]: own.pop("user_4") for key, own in ratings.items()}
        found = numbers(write_labels(tmp_path / str(seed), AROUSAL, ratings), AROUSAL, model).result.equal_footing
        for name, own in differences.items():
            own.append(found[f"mean_rating_{name}"].difference.value)
    assert abs(np.mean(differences["spearman"])) < 0.03
    assert abs(np.mean(differences["pearson"])) < 0.03


def test_mean_ratings_by_sentence(tmp_path: Path):
    root = write_project(tmp_path, WARMTH, simulated_levels(12, 3, np.random.default_rng(0)))
    similarity = {f"clip_{i:03}.wav": i / 12 for i in range(12)}
    found = numbers(root, WARMTH, similarity).result
    labels = pd.read_csv(root / "analysis_outputs/warmth/benchmark_labels.csv")
    own = [
        spearmanr([similarity[file] for file in part["file"]], part["mean_level"])[0]
        for _, part in labels.groupby("trait")
    ]
    assert [row.label for row in found.sentences] == ["rough", "warm"]
    assert [row.sentence for row in found.sentences] == ["A rough voice.", "A warm voice."]
    assert [row.spearman.value for row in found.sentences] == pytest.approx(own)
    assert next(iter(found.metrics)) == "mean_rating_spearman_by_prompt"
    assert found.metrics["mean_rating_spearman_by_prompt"].value == pytest.approx(np.mean(own))


def test_mean_ratings_leave_failed_items_out(tmp_path: Path):
    root = write_project(tmp_path, AROUSAL, NUMBERS)
    found = numbers(root, AROUSAL, {"a.wav": 0.1, "b.wav": 0.3, "c.wav": float("nan"), "d.wav": 0.9})
    assert (found.result.items_total, found.result.items_evaluated) == (4, 3)
    assert found.predictions["error"].tolist() == ["", "", "no reply", ""]
    assert found.result.equal_footing["mean_rating_spearman"].n == 6  # without c, w always gave 3.0
    assert (found.result.equal_footing_raters, found.result.equal_footing_raters_left_out) == (2, 1)


def test_mean_ratings_of_equal_similarities_are_undefined(tmp_path: Path):
    root = write_project(tmp_path, AROUSAL, NUMBERS)
    found = numbers(root, AROUSAL, dict.fromkeys([key[0] for key in NUMBERS], 0.5), replicates=20).result
    assert set(values(found.metrics).values()) == {None}
    assert found.equal_footing == {}
    assert found.warnings == ["all similarities are 0.5; the model does not distinguish the clips"]


def test_mean_ratings_chosen_by_their_ratings_are_not_compared_with_raters(tmp_path: Path):
    levels = {
        ("a.wav", "warm"): {"u": 1, "v": 1},
        ("b.wav", "warm"): {"u": 2, "v": 2},
        ("c.wav", "warm"): {"u": 3, "v": 1},
    }
    root = write_project(tmp_path, WARMTH, levels)
    found = numbers(root, WARMTH, {"a.wav": 0.0, "b.wav": 1.0}, unanimous_only=True).result
    assert (found.items_total, found.equal_footing, found.equal_footing_why) == (2, {}, CHOSEN_BY_RATINGS)


# --- faults -----------------------------------------------------------------------------------------------------


def write_labels(root: Path, subset: Subset, ratings: Mapping) -> Path:
    """A project without clips."""
    from tests.audio_text import scale_projects

    write = scale_projects.write_clips
    scale_projects.write_clips = lambda folder, names: None
    try:
        return write_project(root, subset, ratings)
    finally:
        scale_projects.write_clips = write


def test_load_scale_pairs_lists_faults(tmp_path: Path):
    root = write_project(tmp_path, CHOICE, VOTES)
    path = root / "analysis_outputs/choice/benchmark_labels.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[0, "majority_class"], table.loc[1, "share_Joy"] = "Hope", "2"
    table.loc[2, "n_raters"], table.loc[3, "file"] = "many", "c.wav"
    table.to_csv(path, index=False)
    with pytest.raises(DataError) as caught:
        loaded(root, CHOICE)
    assert [str(fault).strip() for fault in next(iter(caught.value.faults.values()))] == [
        "line 2, column majority_class: 'Hope' is not one of Anger, Joy, Fear or empty",
        "line 3, column share_Joy: '2' is not a share in [0, 1]",
        "line 4, column n_raters: 'many' is not a number of raters",
        "line 5, column file: duplicate of an item on an earlier line",
    ]


def test_load_scale_pairs_takes_classes_from_labels(tmp_path: Path):
    root = write_project(tmp_path, CHOICE, VOTES)
    assert loaded(root, replace(CHOICE, levels=())).subset.levels == CHOICE.levels


def test_load_scale_pairs_names_missing_columns(tmp_path: Path):
    root = write_project(tmp_path, AROUSAL, NUMBERS)
    path = root / "analysis_outputs/arousal/benchmark_labels.csv"
    pd.read_csv(path).drop(columns="mean_rating").to_csv(path, index=False)
    with pytest.raises(DataError, match="line 1, column mean_rating: is missing"):
        loaded(root, AROUSAL)


def test_read_scale_ratings_lists_faults(tmp_path: Path):
    root = write_project(tmp_path, AROUSAL, NUMBERS)
    path = root / "analysis_outputs/arousal/leave_one_out.csv"
    path.write_text("file,username,rating,mean_of_others,n_others\na.wav,u,x,1,2\na.wav,v,1,,2\n")
    with pytest.raises(
        DataError, match=r"line 2, column rating: 'x' is not a number(.|\n)*line 3, column mean_of_others"
    ):
        read_scale_ratings(path, AROUSAL)


def test_read_scale_ratings_accepts_items_of_one_rater_and_counts_those_that_are_lacking(tmp_path: Path):
    root = write_project(tmp_path, CHOICE, VOTES)
    path = root / "analysis_outputs" / CHOICE.name / "leave_one_out.csv"
    table = pd.read_csv(path)
    alone = table[table["file"] == "b.wav"].head(1).assign(file="d.wav", username="u", rating="Fear", n_others=0)
    everything = pd.concat([table[table["file"] != "d.wav"], alone])
    everything.to_csv(path, index=False)
    assert len(read_scale_ratings(path, CHOICE)) == len(everything)
    everything[everything["file"] != "b.wav"].to_csv(path, index=False)
    with pytest.raises(DataError, match="lacks the ratings of 1 item of"):
        read_scale_ratings(path, CHOICE)


@pytest.mark.parametrize("source", ["soft", "dawid-skene"])
def test_load_scale_pairs_rejects_label_sources_without_meaning(tmp_path: Path, source: str):
    root = write_project(tmp_path, AROUSAL, NUMBERS)
    with pytest.raises(MissingError, match=f"--labels {source} has no meaning"):
        loaded(root, AROUSAL, source)


def test_apply_scale_filters_rejects_unanimous_numbers(tmp_path: Path):
    root = write_project(tmp_path, AROUSAL, NUMBERS)
    with pytest.raises(MissingError, match="--unanimous-only has no meaning"):
        loaded(root, AROUSAL, filters=FilterOptions(unanimous_only=True))


def test_with_wordings_rejects_one_sentence_for_two_classes(tmp_path: Path):
    root = write_project(tmp_path, CHOICE, VOTES)
    path = tmp_path / "w.csv"
    path.write_text("label,sentence\nAnger,A voice.\nJoy,A voice.\nFear,Afraid.\n")
    with pytest.raises(DataError, match=r"stands for several classes: A voice\. \(Anger, Joy\)"):
        loaded(root, CHOICE, path=path)
