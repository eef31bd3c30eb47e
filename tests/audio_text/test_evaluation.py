"""Answers against labels, on rows few enough to count by hand."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from earmark.annotation.subsets import subsets
from earmark.audio_text.evaluation import BANDS, Evaluation, evaluate_scores, quality_band, similarity_warnings
from earmark.audio_text.pairs import PairTable
from earmark.audio_text.schema import BenchmarkResult
from earmark.audio_text.scorers import Score
from earmark.metrics.estimate import Estimate
from earmark.report.schema import to_json
from earmark.report.tables import to_csv

# label, similarity, clip, task_type, bucket. At threshold 0: tp 2, fn 1, fp 1, tn 3.
ROWS = [
    (1, 0.9, "a", "affirmative", "unanimous_present"),
    (0, 0.6, "a", "contrastive_1", "majority_absent"),
    (1, 0.4, "b", "affirmative", "majority_present"),
    (0, -0.1, "b", "contrastive_1", "unanimous_absent"),
    (1, -0.2, "c", "affirmative", "unanimous_present"),
    (0, -0.5, "c", "ultimate", "unanimous_absent"),
    (0, -0.9, "d", "ultimate", "single_rater_absent"),
]
METRICS = ("balanced_accuracy", "accuracy", "f1", "precision", "recall", "roc_auc", "average_precision")


def questions(rows: list[tuple[Any, ...]]) -> PairTable:
    table = pd.DataFrame(
        {
            "file_name": [f"{clip}.wav" for _, _, clip, _, _ in rows],
            "queried_emotion": "Joy",
            "task_type": [task for *_, task, _ in rows],
            "benchmark_bucket": pd.Series([bucket for *_, bucket in rows], dtype=str),
            "n_raters": np.full(len(rows), 3),
            "majority_present": np.array([row[0] for row in rows], dtype=int),
            "label": np.array([row[0] for row in rows], dtype=float),
            "flagged": np.full(len(rows), False),
            "clip": pd.Series([clip for _, _, clip, _, _ in rows], dtype=str),
            "audio_path": [f"emolia-emo/data/Joy_best/{clip}.wav" for _, _, clip, _, _ in rows],
            "prompt": "Is there joy?",
        }
    )
    return PairTable(subsets()["emolia-emo"], Path("dataset"), table, {})


def evaluated(
    rows: list[tuple[Any, ...]], answers: list[Score] | None = None, threshold: float = 0.0, replicates: int = 50
) -> Evaluation:
    given = answers if answers is not None else [Score(row[1]) for row in rows]
    rng = np.random.default_rng(0)
    return evaluate_scores(questions(rows), given, threshold=threshold, replicates=replicates, rng=rng)


def counts(metrics: dict[str, Any]) -> tuple[int, ...]:
    found = metrics if isinstance(metrics, dict) else vars(metrics)
    return tuple(int(found[name]) for name in ("tp", "fp", "tn", "fn"))


def as_json(result: BenchmarkResult) -> Any:
    """Through JSON and back; a NaN anywhere is a ValueError here."""
    return json.loads(to_json(result))


# --- values by hand ---------------------------------------------------------------------------------------------


def test_every_metric_is_what_counting_gives():
    overall = evaluated(ROWS).result.overall
    assert counts(overall) == (2, 1, 3, 1)
    by_hand = {
        "balanced_accuracy": (Fraction(2, 3) + Fraction(3, 4)) / 2,
        "accuracy": Fraction(5, 7),
        "precision": Fraction(2, 3),
        "recall": Fraction(2, 3),
        "f1": Fraction(4, 6),
        "roc_auc": Fraction(4 + 3 + 2, 12),  # 0.9 beats 4 of 4 absent items, 0.4 beats 3, −0.2 beats 2
        "average_precision": (Fraction(1, 1) + Fraction(2, 3) + Fraction(3, 5)) / 3,  # at ranks 1, 3 and 5
    }
    assert {name: getattr(overall, name).value for name in METRICS} == pytest.approx(
        {k: float(v) for k, v in by_hand.items()}
    )
    assert {getattr(overall, name).n for name in METRICS} == {7}


def test_the_baseline_is_the_share_of_the_larger_class():
    assert evaluated(ROWS).result.majority_baseline == pytest.approx(4 / 7)
    assert evaluated([(1 - row[0], *row[1:]) for row in ROWS]).result.majority_baseline == pytest.approx(4 / 7)


def test_the_unanimous_subset_holds_unanimous_items_alone():
    unanimous = evaluated(ROWS).result.unanimous_subset
    assert counts(unanimous) == (1, 0, 2, 1)
    assert unanimous.balanced_accuracy.value == pytest.approx(0.75)
    assert unanimous.accuracy.n == 4
    assert unanimous.roc_auc.value == pytest.approx(3 / 4)


def test_a_similarity_at_the_threshold_is_present():
    result = evaluated(ROWS, threshold=0.4)
    assert result.predictions["pred_present"].tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert evaluated(ROWS, threshold=0.4000001).predictions["pred_present"].tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_predictions_hold_the_columns_of_the_format_in_the_order_of_the_questions():
    predictions = evaluated(ROWS).predictions
    key = ["file_name", "queried_emotion", "task_type"]
    labels = ["benchmark_bucket", "n_raters", "majority_present"]
    asked = ["audio_path", "prompt"]
    assert list(predictions) == [*key, *labels, *asked, "similarity", "pred_present", "ok", "error"]
    assert predictions["similarity"].tolist() == [row[1] for row in ROWS]
    assert predictions["file_name"].str[0].tolist() == list("aabbccd")


def test_an_interval_holds_its_value_and_no_replicate_means_no_interval():
    accuracy = evaluated(ROWS, replicates=500).result.overall.accuracy
    assert 0 <= accuracy.low <= accuracy.value <= accuracy.high <= 1
    assert accuracy.low < accuracy.high
    bare = evaluated(ROWS, replicates=0).result.overall.accuracy
    assert (bare.value, bare.low, bare.high) == (accuracy.value, None, None)


def test_the_same_seed_gives_the_same_numbers():
    assert as_json(evaluated(ROWS).result) == as_json(evaluated(ROWS).result)


# --- slices -----------------------------------------------------------------------------------------------------


def test_slices_are_counted_each_by_itself():
    by_task = evaluated(ROWS).slices["task_type"].set_index("task_type")
    assert by_task.index.tolist() == ["affirmative", "contrastive_1", "ultimate"]
    assert by_task["n"].tolist() == [3, 2, 2]
    assert by_task["n_positive"].tolist() == [3, 0, 0]
    assert by_task["accuracy"].tolist() == pytest.approx([2 / 3, 1 / 2, 1])
    assert by_task.loc["affirmative", "f1"] == pytest.approx(4 / 5)


def test_a_slice_with_one_class_has_empty_cells_where_a_metric_does_not_exist():
    lines = to_csv(evaluated(ROWS).slices["task_type"]).splitlines()
    columns = lines[0].split(",")
    cells = {line.split(",")[0]: dict(zip(columns, line.split(","), strict=True)) for line in lines[1:]}
    for task in cells:
        assert cells[task]["balanced_accuracy"] == cells[task]["roc_auc"] == ""
    assert cells["affirmative"]["average_precision"] == "1.0"
    assert cells["ultimate"]["average_precision"] == ""
    assert "nan" not in "".join(lines).lower()


def test_a_slice_with_both_classes_has_them_all():
    [row] = evaluated(ROWS).slices["queried_emotion"].to_dict("records")
    assert (row["queried_emotion"], row["n"], row["n_positive"]) == ("Joy", 7, 3)
    assert row["balanced_accuracy"] == pytest.approx(17 / 24)
    assert row["roc_auc"] == pytest.approx(0.75)


def test_a_failed_row_is_in_no_slice():
    answers = [Score(None, "no connection"), *(Score(row[1]) for row in ROWS[1:])]
    by_task = evaluated(ROWS, answers).slices["task_type"].set_index("task_type")
    assert by_task.loc["affirmative", ["n", "n_positive"]].tolist() == [2, 2]


# --- bands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "band"),
    [
        (0.0, "Bad"),
        (0.549999, "Bad"),
        (0.55, "Weak"),
        (0.649999, "Weak"),
        (0.65, "Medium"),
        (0.749999, "Medium"),
        (0.75, "Good"),
        (0.849999, "Good"),
        (0.85, "Excellent"),
        (1.0, "Excellent"),
        (None, None),
    ],
)
def test_a_band_begins_at_its_lower_edge(value: float | None, band: str | None):
    assert quality_band(Estimate(value)) == band


def test_the_bands_are_those_of_the_format():
    assert [name for name, _ in BANDS] == ["Bad", "Weak", "Medium", "Good", "Excellent"]


@pytest.mark.parametrize(
    ("hits", "rejections", "band"),
    [
        (6, 5, "Weak"),
        (7, 4, "Weak"),
        (7, 6, "Medium"),
        (6, 7, "Medium"),
        (9, 4, "Medium"),
        (8, 7, "Good"),
        (9, 8, "Excellent"),
    ],
)
def test_a_model_exactly_on_an_edge_is_in_the_upper_band(hits: int, rejections: int, band: str):
    """7 of 10 present and 6 of 10 absent items right are 0.65, whatever binary fractions make of it."""
    rows = [(1, 0.5 if i < hits else -0.5, f"p{i}", "affirmative", "majority_present") for i in range(10)]
    rows += [(0, -0.5 if i < rejections else 0.5, f"n{i}", "ultimate", "majority_absent") for i in range(10)]
    assert evaluated(rows).result.quality_band == band


# --- cross-fitted threshold -------------------------------------------------------------------------------------


def cosines_around(centre: float) -> list[tuple[Any, ...]]:
    """Twenty clips with a present and an absent item each, told apart perfectly at `centre`."""
    rows = []
    for i in range(20):
        rows.append((1, centre + 0.05 + i / 1000, f"clip{i}", "affirmative", "unanimous_present"))
        rows.append((0, centre - 0.05 - i / 1000, f"clip{i}", "ultimate", "unanimous_absent"))
    return rows


def test_a_cross_fitted_threshold_finds_a_model_whose_cosines_are_not_centred_on_zero():
    result = evaluated(cosines_around(0.3)).result
    assert result.overall.balanced_accuracy.value == 0.5
    assert result.quality_band == "Bad"
    assert result.cross_fitted_threshold.balanced_accuracy.value == 1.0
    assert result.cross_fitted_threshold.threshold == pytest.approx(0.3, abs=0.005)
    assert len(result.cross_fitted_threshold.thresholds) == 5
    assert result.quality_band_cross_fitted == "Excellent"


def test_a_model_that_knows_nothing_gains_nothing_from_cross_fitting():
    rng = np.random.default_rng(3)
    rows = [
        (i % 2, float(rng.normal()), f"clip{i}", "affirmative", ("unanimous_absent", "unanimous_present")[i % 2])
        for i in range(400)
    ]
    value = evaluated(rows).result.cross_fitted_threshold.balanced_accuracy.value
    assert value == pytest.approx(0.5, abs=0.07)  # chosen on the items themselves it would be well above


def test_one_class_has_no_cross_fitted_threshold_and_says_why():
    numbers = as_json(evaluated([row for row in ROWS if row[0]]).result)
    fitted = numbers["cross_fitted_threshold"]
    assert (fitted["threshold"], fitted["thresholds"], fitted["balanced_accuracy"]["value"]) == (None, [], None)
    assert "one class" in fitted["balanced_accuracy"]["why"]
    assert numbers["quality_band"] is numbers["quality_band_cross_fitted"] is None
    assert "one class" in numbers["overall"]["balanced_accuracy"]["why"]
    assert numbers["overall"]["accuracy"]["value"] == pytest.approx(2 / 3)


# --- answers that are none --------------------------------------------------------------------------------------


def test_a_failed_answer_is_neither_present_nor_absent_and_enters_no_metric():
    answers = [Score(row[1]) for row in ROWS]
    answers[1] = Score(None, "HTTP 500: sorry")  # the one false positive
    result = evaluated(ROWS, answers)
    assert counts(result.result.overall) == (2, 0, 3, 1)
    assert (result.result.rows_total, result.result.rows_evaluated_ok) == (7, 6)
    failed = to_csv(result.predictions).splitlines()[2]
    assert failed.endswith("Is there joy?,,,False,HTTP 500: sorry")
    assert result.predictions["ok"].tolist() == [True, False, True, True, True, True, True]


def check_nothing_exists(numbers: dict[str, Any]) -> None:
    for part in (numbers["overall"], numbers["unanimous_subset"]):
        assert counts(part) == (0, 0, 0, 0)
        for name in METRICS:
            assert part[name]["value"] is part[name]["low"] is part[name]["high"] is None
            assert part[name]["n"] == 0
            assert part[name]["why"]
    assert numbers["cross_fitted_threshold"]["threshold"] is None
    assert numbers["cross_fitted_threshold"]["balanced_accuracy"]["value"] is None
    assert numbers["cross_fitted_threshold"]["balanced_accuracy"]["why"]
    assert numbers["quality_band"] is numbers["quality_band_cross_fitted"] is numbers["majority_baseline"] is None


def test_when_every_answer_failed_every_number_is_null_and_says_why():
    result = evaluated(ROWS, [Score(None, "no reply") for _ in ROWS])
    numbers = as_json(result.result)
    assert (numbers["rows_total"], numbers["rows_evaluated_ok"]) == (7, 0)
    check_nothing_exists(numbers)
    assert [len(table) for table in result.slices.values()] == [0, 0, 0]
    assert to_csv(result.slices["task_type"]).startswith("task_type,n,n_positive,accuracy,")
    assert result.predictions["similarity"].isna().all()
    assert result.predictions["pred_present"].isna().all()


def test_no_question_at_all_gives_null_numbers_and_headers():
    result = evaluated([])
    numbers = as_json(result.result)
    assert (numbers["rows_total"], numbers["rows_evaluated_ok"]) == (0, 0)
    check_nothing_exists(numbers)
    assert to_csv(result.predictions).startswith("file_name,queried_emotion,task_type,")


@pytest.mark.parametrize(
    ("similarities", "told"),
    [
        ([0.1, 57.0], "lie between 0.1 and 57"),
        ([0.5, 0.5, 0.5], "every answer is 0.5"),
        ([0.2, 0.9], "every question is called present"),
        ([-0.2, -0.9], "every question is called absent"),
    ],
)
def test_doubts_name_similarities_that_no_good_scorer_gives(similarities, told):
    assert told in similarity_warnings(np.array(similarities), 0.0)[0]


def test_doubts_are_none_of_ordinary_similarities():
    assert similarity_warnings(np.array([-0.2, 0.9]), 0.0) == similarity_warnings(np.array([0.4]), 0.0) == []
