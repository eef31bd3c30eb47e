"""Evaluation of scores, on tables small enough to compute by hand."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from earmark.annotation.subsets import subsets
from earmark.audio_text.evaluation import QUALITY_BANDS, Evaluation, evaluate_scores, quality_band, similarity_warnings
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


def pair_table(rows: list[tuple[Any, ...]]) -> PairTable:
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
            "sampling_unit": pd.Series([clip for _, _, clip, _, _ in rows], dtype=str),
            "audio_path": [f"emolia-emo/data/Joy_best/{clip}.wav" for _, _, clip, _, _ in rows],
            "prompt": "Is there joy?",
        }
    )
    return PairTable(subsets()["emolia-emo"], Path("dataset"), table, {})


def evaluated(
    rows: list[tuple[Any, ...]], scores: list[Score] | None = None, threshold: float = 0.0, replicates: int = 50
) -> Evaluation:
    scores = scores if scores is not None else [Score(row[1]) for row in rows]
    rng = np.random.default_rng(0)
    return evaluate_scores(pair_table(rows), scores, threshold=threshold, replicates=replicates, rng=rng)


def counts(metrics: dict[str, Any]) -> tuple[int, ...]:
    values = metrics if isinstance(metrics, dict) else vars(metrics)
    return tuple(int(values[name]) for name in ("tp", "fp", "tn", "fn"))


def as_json(result: BenchmarkResult) -> Any:
    """Convert to JSON and back; NaN raises ValueError."""
    return json.loads(to_json(result))


# --- values by hand ---------------------------------------------------------------------------------------------


def test_metrics_match_hand_computation():
    overall = evaluated(ROWS).result.overall
    assert counts(overall) == (2, 1, 3, 1)
    expected = {
        "balanced_accuracy": (Fraction(2, 3) + Fraction(3, 4)) / 2,
        "accuracy": Fraction(5, 7),
        "precision": Fraction(2, 3),
        "recall": Fraction(2, 3),
        "f1": Fraction(4, 6),
        "roc_auc": Fraction(4 + 3 + 2, 12),  # 0.9 exceeds 4 of 4 absent items, 0.4 exceeds 3, −0.2 exceeds 2
        "average_precision": (Fraction(1, 1) + Fraction(2, 3) + Fraction(3, 5)) / 3,  # at ranks 1, 3 and 5
    }
    assert {name: getattr(overall, name).value for name in METRICS} == pytest.approx(
        {k: float(v) for k, v in expected.items()}
    )
    assert {getattr(overall, name).n for name in METRICS} == {7}


def test_majority_baseline():
    assert evaluated(ROWS).result.majority_baseline == pytest.approx(4 / 7)
    assert evaluated([(1 - row[0], *row[1:]) for row in ROWS]).result.majority_baseline == pytest.approx(4 / 7)


def test_unanimous_subset():
    unanimous = evaluated(ROWS).result.unanimous_subset
    assert counts(unanimous) == (1, 0, 2, 1)
    assert unanimous.balanced_accuracy.value == pytest.approx(0.75)
    assert unanimous.accuracy.n == 4
    assert unanimous.roc_auc.value == pytest.approx(3 / 4)


def test_threshold_is_inclusive():
    result = evaluated(ROWS, threshold=0.4)
    assert result.predictions["pred_present"].tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert evaluated(ROWS, threshold=0.4000001).predictions["pred_present"].tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_predictions_columns_and_order():
    predictions = evaluated(ROWS).predictions
    key = ["file_name", "queried_emotion", "task_type"]
    labels = ["benchmark_bucket", "n_raters", "majority_present"]
    pair = ["audio_path", "prompt"]
    assert list(predictions) == [*key, *labels, *pair, "similarity", "pred_present", "ok", "error"]
    assert predictions["similarity"].tolist() == [row[1] for row in ROWS]
    assert predictions["file_name"].str[0].tolist() == list("aabbccd")


def test_interval_contains_value_and_needs_replicates():
    accuracy = evaluated(ROWS, replicates=500).result.overall.accuracy
    assert 0 <= accuracy.low <= accuracy.value <= accuracy.high <= 1
    assert accuracy.low < accuracy.high
    without = evaluated(ROWS, replicates=0).result.overall.accuracy
    assert (without.value, without.low, without.high) == (accuracy.value, None, None)


def test_evaluation_is_reproducible():
    assert as_json(evaluated(ROWS).result) == as_json(evaluated(ROWS).result)


# --- slices -----------------------------------------------------------------------------------------------------


def test_slice_counts():
    by_task = evaluated(ROWS).slice_tables["task_type"].set_index("task_type")
    assert by_task.index.tolist() == ["affirmative", "contrastive_1", "ultimate"]
    assert by_task["n"].tolist() == [3, 2, 2]
    assert by_task["n_positive"].tolist() == [3, 0, 0]
    assert by_task["accuracy"].tolist() == pytest.approx([2 / 3, 1 / 2, 1])
    assert by_task.loc["affirmative", "f1"] == pytest.approx(4 / 5)


def test_slice_with_one_class_has_empty_cells():
    lines = to_csv(evaluated(ROWS).slice_tables["task_type"]).splitlines()
    columns = lines[0].split(",")
    cells = {line.split(",")[0]: dict(zip(columns, line.split(","), strict=True)) for line in lines[1:]}
    for task in cells:
        assert cells[task]["balanced_accuracy"] == cells[task]["roc_auc"] == ""
    assert cells["affirmative"]["average_precision"] == "1.0"
    assert cells["ultimate"]["average_precision"] == ""
    assert "nan" not in "".join(lines).lower()


def test_slice_with_both_classes():
    [row] = evaluated(ROWS).slice_tables["queried_emotion"].to_dict("records")
    assert (row["queried_emotion"], row["n"], row["n_positive"]) == ("Joy", 7, 3)
    assert row["balanced_accuracy"] == pytest.approx(17 / 24)
    assert row["roc_auc"] == pytest.approx(0.75)


def test_slices_omit_failed_rows():
    scores = [Score(None, "no connection"), *(Score(row[1]) for row in ROWS[1:])]
    by_task = evaluated(ROWS, scores).slice_tables["task_type"].set_index("task_type")
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
def test_quality_band_lower_bound_is_inclusive(value: float | None, band: str | None):
    assert quality_band(Estimate(value)) == band


def test_quality_band_names():
    assert [name for name, _ in QUALITY_BANDS] == ["Bad", "Weak", "Medium", "Good", "Excellent"]


@pytest.mark.parametrize(
    ("true_positives", "true_negatives", "band"),
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
def test_quality_band_ignores_rounding_error(true_positives: int, true_negatives: int, band: str):
    """Recall 7/10 and specificity 6/10 give 0.65 in spite of floating-point rounding."""
    rows = [(1, 0.5 if i < true_positives else -0.5, f"p{i}", "affirmative", "majority_present") for i in range(10)]
    rows += [(0, -0.5 if i < true_negatives else 0.5, f"n{i}", "ultimate", "majority_absent") for i in range(10)]
    assert evaluated(rows).result.quality_band == band


# --- cross-fitted threshold -------------------------------------------------------------------------------------


def cosines_around(centre: float) -> list[tuple[Any, ...]]:
    """Twenty clips with a present and an absent item each, separated perfectly by the threshold `centre`."""
    rows = []
    for i in range(20):
        rows.append((1, centre + 0.05 + i / 1000, f"clip{i}", "affirmative", "unanimous_present"))
        rows.append((0, centre - 0.05 - i / 1000, f"clip{i}", "ultimate", "unanimous_absent"))
    return rows


def test_cross_fitted_threshold_handles_uncentred_similarities():
    result = evaluated(cosines_around(0.3)).result
    assert result.overall.balanced_accuracy.value == 0.5
    assert result.quality_band == "Bad"
    assert result.cross_fitted_threshold.balanced_accuracy.value == 1.0
    assert result.cross_fitted_threshold.threshold == pytest.approx(0.3, abs=0.005)
    assert len(result.cross_fitted_threshold.thresholds) == 5
    assert result.quality_band_cross_fitted == "Excellent"


def test_cross_fitted_threshold_is_unbiased_for_random_scores():
    rng = np.random.default_rng(3)
    rows = [
        (i % 2, float(rng.normal()), f"clip{i}", "affirmative", ("unanimous_absent", "unanimous_present")[i % 2])
        for i in range(400)
    ]
    value = evaluated(rows).result.cross_fitted_threshold.balanced_accuracy.value
    assert value == pytest.approx(0.5, abs=0.07)  # a threshold chosen on the same items would be well above


def test_cross_fitted_threshold_undefined_for_one_class():
    numbers = as_json(evaluated([row for row in ROWS if row[0]]).result)
    fitted = numbers["cross_fitted_threshold"]
    assert (fitted["threshold"], fitted["thresholds"], fitted["balanced_accuracy"]["value"]) == (None, [], None)
    assert "single class" in fitted["balanced_accuracy"]["why"]
    assert numbers["quality_band"] is numbers["quality_band_cross_fitted"] is None
    assert "single class" in numbers["overall"]["balanced_accuracy"]["why"]
    assert numbers["overall"]["accuracy"]["value"] == pytest.approx(2 / 3)


# --- failed scores -----------------------------------------------------------------------------------------------


def test_failed_score_enters_no_metric():
    scores = [Score(row[1]) for row in ROWS]
    scores[1] = Score(None, "HTTP 500: sorry")  # the one false positive
    result = evaluated(ROWS, scores)
    assert counts(result.result.overall) == (2, 0, 3, 1)
    assert (result.result.rows_total, result.result.rows_evaluated_ok) == (7, 6)
    failed = to_csv(result.predictions).splitlines()[2]
    assert failed.endswith("Is there joy?,,,False,HTTP 500: sorry")
    assert result.predictions["ok"].tolist() == [True, False, True, True, True, True, True]


def check_undefined(numbers: dict[str, Any]) -> None:
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


def test_metrics_undefined_if_all_scores_failed():
    result = evaluated(ROWS, [Score(None, "no reply") for _ in ROWS])
    numbers = as_json(result.result)
    assert (numbers["rows_total"], numbers["rows_evaluated_ok"]) == (7, 0)
    check_undefined(numbers)
    assert [len(table) for table in result.slice_tables.values()] == [0, 0, 0]
    assert to_csv(result.slice_tables["task_type"]).startswith("task_type,n,n_positive,accuracy,")
    assert result.predictions["similarity"].isna().all()
    assert result.predictions["pred_present"].isna().all()


def test_metrics_undefined_without_pairs():
    result = evaluated([])
    numbers = as_json(result.result)
    assert (numbers["rows_total"], numbers["rows_evaluated_ok"]) == (0, 0)
    check_undefined(numbers)
    assert to_csv(result.predictions).startswith("file_name,queried_emotion,task_type,")


@pytest.mark.parametrize(
    ("similarities", "message"),
    [
        ([0.1, 57.0], "range from 0.1 to 57"),
        ([0.5, 0.5, 0.5], "all similarities are 0.5"),
        ([0.2, 0.9], "all pairs are predicted present"),
        ([-0.2, -0.9], "all pairs are predicted absent"),
    ],
)
def test_similarity_warnings(similarities, message):
    assert message in similarity_warnings(np.array(similarities), 0.0)[0]


def test_similarity_warnings_empty_for_ordinary_similarities():
    assert similarity_warnings(np.array([-0.2, 0.9]), 0.0) == similarity_warnings(np.array([0.4]), 0.0) == []
