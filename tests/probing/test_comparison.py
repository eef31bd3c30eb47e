"""Score tables by hand: means over tasks, ranks among published encoders, curves over layers."""

from dataclasses import replace
from pathlib import Path

import pytest

from earmark.metrics.estimate import Estimate
from earmark.probing.comparison import ENCODERS, averages, comparison_rows, comparison_tables, layer_curves
from earmark.probing.schema import TaskScore, leading_scores
from earmark.probing.task_types import task_type
from earmark.probing.xares import published_averages, published_scores, published_tasks

ESC, GTZAN, SNAP, PITCH = (published_tasks()[name] for name in ("esc50", "gtzan_genre", "finger_snap", "nsynthpitch"))
KNOWN = {
    task.name: task
    for task in (ESC, GTZAN, SNAP, PITCH, published_tasks()["speechocean762"], published_tasks()["desed"])
}


def row(task, value, n=100, **changes):
    """A row of summary.json."""
    known = {
        "task": task.name, "formal_name": task.formal_name, "domain": task.domain, "track": "linear",
        "protocol": "xares", "metric": task_type(task).primary_metric, "score": Estimate(value, n=n), "n_test": n,
        "counts": "clips", "weight": task.weight, "private": task.private, "folds": 1, "n_heads": 1, "seconds": 0.1,
    }  # fmt: skip
    return TaskScore(**{**known, **changes})


def test_averages_weighted_unweighted_and_by_test_size():
    (result,) = averages([row(ESC, 0.9, 400), row(GTZAN, 0.4, 200)], KNOWN)
    assert (result.n_tasks, result.scope) == (2, "public")
    assert result.weighted == pytest.approx((400 * 0.9 + 100 * 0.4) / 500)
    assert result.unweighted == pytest.approx(0.65)
    assert result.test_size == pytest.approx((400 * 0.9 + 200 * 0.4) / 600)


def test_averages_scope_of_private_tasks():
    public, everything = averages([row(ESC, 0.9), row(SNAP, 0.1)], KNOWN)
    assert (public.scope, public.n_tasks, public.unweighted) == ("public", 1, 0.9)
    assert (everything.scope, everything.unweighted) == ("all", 0.5)
    assert everything.weighted == pytest.approx((400 * 0.9 + 5000 * 0.1) / 5400)
    (alone,) = averages([row(SNAP, 0.1)], KNOWN)
    assert alone.scope == "all"


def test_averages_use_weight_of_user_task():
    mine = replace(ESC, name="mine", home=Path("here"), weight=1200.0)
    public, everything = averages([row(ESC, 0.9), row(mine, 0.5)], {**KNOWN, "mine": mine})
    assert (public.n_tasks, public.weighted) == (1, 0.9)
    assert everything.weighted == pytest.approx((400 * 0.9 + 1200 * 0.5) / 1600)


def test_averages_separate_tracks_recipes_and_layers():
    rows = [row(ESC, 0.1), row(ESC, 0.2, track="knn"), row(ESC, 0.3, protocol="strict"), row(ESC, 0.4, layer=2)]
    assert [result.unweighted for result in averages(rows, KNOWN)] == [0.1, 0.2, 0.3, 0.4]


def test_strict_given_splits_excluded_from_averages_and_comparison():
    rows = [row(ESC, 0.5, protocol="strict"), row(ESC, 0.9, protocol="strict_given_splits")]
    assert [(result.protocol, result.unweighted) for result in averages(rows, KNOWN)] == [("strict", 0.5)]
    (result,) = comparison_rows(rows, KNOWN, "linear", "xares_full")
    assert result[6:8] == [None, rows[0].score]


def test_averages_exclude_errors_undefined_and_secondary_metrics():
    rows = [
        row(KNOWN["speechocean762"], 3.0),
        row(ESC, None),
        row(GTZAN, 0.5, metric="eer"),
        row(replace(ESC, metric="eer"), 0.5, metric="accuracy"),
    ]
    assert averages(rows[:3], KNOWN) == []
    assert averages(rows[3:], {"esc50": replace(ESC, metric="eer")}) == []


def test_averages_without_weight_are_undefined():
    (result,) = averages([row(PITCH, 0.5)], KNOWN)
    assert result.weighted is None and result.unweighted == 0.5


def published(name, track="linear", source="xares_full"):
    return [published_scores(source)[track, name, encoder].score for encoder in ENCODERS]


def test_comparison_rank_among_published_encoders():
    theirs = published("esc50")
    for value, rank in ((1.0, 1), (max(theirs), 1), (sorted(theirs)[1] + 1e-6, 3), (0.0, 5), (None, None)):
        rows = [row(ESC, value), row(ESC, 0.123, protocol="strict", n_test=77)]
        (result,) = comparison_rows(rows, KNOWN, "linear", "xares_full")
        assert result == ["ESC-50", "accuracy", *theirs, rows[0].score, rows[1].score, rank, 100]


def test_comparison_strict_score_has_no_rank():
    (result,) = comparison_rows([row(ESC, 0.9, protocol="strict")], KNOWN, "linear", "xares_full")
    assert result[6:] == [None, Estimate(0.9, n=100), None, 100]


def test_comparison_rows_leave_out_scores_on_smaller_variants_of_the_data():
    """ASVspoof 2015: 0.956 on the smaller variant (ICME 2025), 0.964 on the full data."""
    spoof, rows = published_tasks()["asvspoof2015"], [row(published_tasks()["asvspoof2015"], 0.9)]
    assert published_scores("icme2025")["linear", "asvspoof2015", "dasheng"].score == 0.956
    assert comparison_rows(rows, {spoof.name: spoof}, "linear", "icme2025") == []
    (result,) = comparison_rows(rows, {spoof.name: spoof}, "linear", "xares_full")
    assert result[:3] == ["ASV2015", "accuracy", 0.964]
    (part,) = comparison_tables(rows, {spoof.name: spoof})
    assert part.source == "xares_full"


def test_comparison_tables_of_librispeech_have_both_published_versions():
    task = published_tasks()["librispeech"]
    full, later, _ = comparison_tables([row(task, 0.7)], {task.name: task})
    assert (full.source, full.rows[0][2:6]) == ("xares_full", [0.608, 0.405, 0.721, 0.893])
    assert (later.source, later.rows[0][2:6]) == ("xares_0.1.3", [0.724, 0.545, 0.815, 0.866])
    assert [full.rows[0][8], later.rows[0][8]] == [3, 4]  # ranks of 0.7


def test_comparison_tables_never_show_the_scores_of_language_models():
    tasks = {name: task for name, task in published_tasks().items() if task.type == "clip"}
    rows = [row(task, 0.5, track=track) for task in tasks.values() for track in ("linear", "knn")]
    assert {part.source for part in comparison_tables(rows, tasks)} == {"xares_full", "xares_early", "icme2025"}


def test_comparison_excludes_unpublished_and_incomparable_scores():
    own_task = replace(ESC, name="mine")
    rows = [row(own_task, 0.9), row(ESC, 0.9, layer=1), row(ESC, 0.9, shots=5), row(ESC, 0.9, metric="eer")]
    assert comparison_tables(rows, {**KNOWN, "mine": own_task}) == []


def test_comparison_excludes_tasks_with_other_data():
    rows = [row(ESC, 0.9), row(GTZAN, 0.8)]
    assert comparison_tables(rows, KNOWN, {"esc50", "gtzan_genre"}) == []
    for part, alone in zip(comparison_tables(rows, KNOWN, {"esc50"}), comparison_tables(rows[1:], KNOWN), strict=True):
        assert part == alone and part.unpublished == []


def test_comparison_tables_per_track_and_source():
    result = comparison_tables([row(ESC, 0.9), row(ESC, 0.8, track="knn")], KNOWN)
    assert [(part.track, part.source) for part in result] == [
        (track, source) for track in ("linear", "knn") for source in ("xares_full", "xares_early", "icme2025")
    ]
    means = published_averages()
    published = {encoder: published_scores()["linear", "esc50", encoder].score for encoder in ENCODERS}
    assert result[0].averages == [
        ["this task", *published.values(), 0.9, None],
        *(
            [f"published, {scope} tasks", *(means["linear", f"average_{scope}", e] for e in ENCODERS), None, None]
            for scope in ("public", "all")
        ),
    ]
    assert len(result[1].averages) == 2


def test_layer_curves_per_task_track_and_recipe():
    rows = [row(ESC, 0.1, layer=0), row(ESC, 0.2, layer=1), row(ESC, 0.9), row(ESC, 0.3, layer=0, track="knn")]
    rows.append(row(KNOWN["speechocean762"], 3.0, layer=0))
    assert {
        name: [(layer, score.value) for layer, score in line] for name, line in layer_curves(rows).items()
    } == {"esc50, linear, xares": [(0, 0.1), (1, 0.2)], "esc50, knn, xares": [(0, 0.3)]}  # fmt: skip


def test_further_metrics_enter_no_mean_or_curve():
    """Macro F1 follows the accuracy of the same task, track, recipe and layer."""
    main = [row(ESC, 0.9), row(ESC, 0.8, track="knn"), row(GTZAN, 0.4), row(ESC, 0.3, layer=1), row(ESC, 0.2, shots=5)]
    further = [each.model_copy(update={"metric": "macro_f1", "score": Estimate(0.0, n=9)}) for each in main]
    rows = [each for pair in zip(main, further, strict=True) for each in pair]
    assert leading_scores(rows) == main
    assert averages(rows, KNOWN) == averages(main, KNOWN) and layer_curves(rows) == layer_curves(main)


def test_primary_metric_of_frame_tasks():
    assert task_type(published_tasks()["librispeechphoneme"]).primary_metric == "frame_accuracy"
    assert task_type(published_tasks()["desed"]).primary_metric == "segment_f1_macro"
