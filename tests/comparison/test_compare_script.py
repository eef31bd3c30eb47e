"""compare.py as a user runs it: on results of the other scripts."""

import json
import shutil

import pandas as pd
import pytest
from scipy import stats

import benchmark
import compare
from earmark.comparison.run import comparison_name
from tests.comparison.runs import better_on, change_scores, copy_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the demo with the sham scorer."""
    folder = tmp_path_factory.mktemp("benchmark")
    assert benchmark.main(["--quiet", "--subset", "emolia-emo", "--output-dir", str(folder)]) == 0
    return folder / "emolia-emo"


@pytest.fixture
def runs(finished, tmp_path):
    """Kept runs of two systems with the same scores."""
    for name in ("first", "second"):
        copy_run(finished, tmp_path / "runs", name)
    return tmp_path / "runs"


def run(runs, *words):
    """The exit code, and the comparison's folder."""
    output = runs.parent / "out"
    code = compare.main(["--quiet", "--runs", str(runs), "--output-dir", str(output), *words])
    (folder,) = output.iterdir() if output.exists() else (None,)
    return code, folder


def row(folder, metric, slice_="", value=""):
    """One row of comparison.csv."""
    table = pd.read_csv(folder / "comparison.csv", keep_default_na=False, na_values={"p": [""], "p_holm": [""]})
    chosen = table[(table["metric"] == metric) & (table["slice"] == slice_) & (table["value_of_slice"] == value)]
    (only,) = chosen.to_dict("records")
    return only


@pytest.mark.slow
def test_equal_systems_have_no_difference(runs):
    code, folder = run(runs, "first", "second")
    assert code == 0
    found = row(folder, "balanced_accuracy")
    assert (float(found["difference"]), found["p"], found["tied_with_best"]) == (0.0, 1.0, "True")
    assert found["minimum_detectable"] == ""
    assert not pd.read_csv(folder / "flips.csv")["flip"].any()


def test_better_scorer_is_found_with_the_difference_of_its_values(runs):
    change_scores(runs / "second/emolia-emo", better_on(10))
    code, folder = run(runs, "first", "second")
    assert code == 0
    found = row(folder, "accuracy")
    assert float(found["difference"]) == pytest.approx(10 / 83)
    assert float(found["low"]) > 0 and found["p"] < 0.05 and found["p_holm"] >= found["p"]
    assert pd.read_csv(folder / "flips.csv")["flip"].sum() == 10
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["flips"] == 10 and [one["name"] for one in summary["systems"]] == ["first", "second"]


@pytest.mark.slow
def test_values_are_those_of_the_runs_themselves(runs):
    change_scores(runs / "second/emolia-emo", better_on(3))
    _, folder = run(runs, "first", "second")
    overall = json.loads((runs / "first/emolia-emo/summary.json").read_text())["overall"]
    for metric in ("balanced_accuracy", "accuracy", "f1", "precision", "recall", "roc_auc", "average_precision"):
        assert float(row(folder, metric)["reference_value"]) == pytest.approx(overall[metric]["value"]), metric


@pytest.mark.slow
def test_reference_changes_the_sign_of_the_difference(runs):
    change_scores(runs / "second/emolia-emo", better_on(10))
    _, folder = run(runs, "first", "second", "--reference", "second")
    found = row(folder, "accuracy")
    assert (found["system"], float(found["difference"]) < 0) == ("first", True)


@pytest.mark.slow
def test_every_output_is_written_and_the_page_names_both_systems(runs):
    code, folder = run(runs, "first", "second", "--figures")
    assert code == 0
    names = {path.name for path in folder.iterdir()}
    assert names >= {"comparison.csv", "flips.csv", "summary.json", "report.md", "report.tex", "report.html", "figures"}
    assert "first vs. second on emolia-emo" in (folder / "report.html").read_text(encoding="utf-8")
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".svg", ".pdf", ".csv"}


@pytest.mark.slow
def test_without_results_the_kept_runs_are_listed(runs, capsys):
    assert compare.main(["--runs", str(runs)]) == 0
    assert "uv run compare.py first second" in capsys.readouterr().out


@pytest.mark.slow
def test_listing_quotes_names_and_passes_over_what_cannot_be_compared(runs, finished, capsys):
    copy_run(finished, runs, "two words")
    broken = copy_run(finished, runs, "broken")
    (broken / "summary.json").write_text("{}", encoding="utf-8")
    assert compare.main(["--runs", str(runs)]) == 0
    shown = capsys.readouterr().out
    assert "uv run compare.py first second 'two words'" in shown and "broken" not in shown


@pytest.mark.slow
def test_folder_with_two_results_of_a_subset_is_refused(runs, finished, capsys):
    shutil.copytree(finished, runs.parent / "all/emolia-emo")
    shutil.copytree(finished, runs.parent / "all/runs/other/emolia-emo")
    assert run(runs, "first", str(runs.parent / "all"))[0] == 2
    assert "holds several results of emolia-emo" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "\x00", "a,b\n1,2,3\n4\n"])
def test_unreadable_predictions_are_named(runs, capsys, content):
    (runs / "second/emolia-emo/predictions.csv").write_text(content, encoding="utf-8")
    assert run(runs, "first", "second")[0] == 1
    assert "predictions" in capsys.readouterr().err


@pytest.mark.slow
def test_result_without_predictions_is_named(runs, capsys):
    (runs / "second/emolia-emo/predictions.csv").unlink()
    assert run(runs, "first", "second")[0] == 1
    assert "the result has no predictions to compare" in capsys.readouterr().err
    assert not (runs.parent / "out").exists()  # what is refused leaves no folder


@pytest.mark.slow
def test_empty_results_are_refused(runs, capsys):
    for name in ("first", "second"):
        path = runs / name / "emolia-emo/predictions.csv"
        pd.read_csv(path).head(0).to_csv(path, index=False)
    assert run(runs, "first", "second")[0] == 1
    assert "No pair has a score of every system." in capsys.readouterr().err


@pytest.mark.slow
def test_other_filters_are_named_as_flags(runs, capsys):
    folder = runs / "second/emolia-emo"
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["filters"]["unanimous_only"] = True
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    pd.read_csv(folder / "predictions.csv").head(60).to_csv(folder / "predictions.csv", index=False)
    assert run(runs, "first", "second")[0] == 1
    assert "--unanimous-only: first: false, second: true" in capsys.readouterr().err


@pytest.mark.slow
def test_other_label_sources_are_named(runs, capsys):
    path = runs / "second/emolia-emo/summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**summary, "labels": "dawid-skene"}), encoding="utf-8")
    assert run(runs, "first", "second")[0] == 1
    assert "first with --labels majority, second with --labels dawid-skene" in capsys.readouterr().err


@pytest.mark.slow
def test_items_left_out_are_those_of_either_system(runs):
    for name, rows in (("first", slice(10, None)), ("second", slice(None, 60))):
        path = runs / name / "emolia-emo/predictions.csv"
        pd.read_csv(path).iloc[rows].to_csv(path, index=False)
    _, folder = run(runs, "first", "second", "--common")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["n_items"], summary["n_left_out"]) == (50, 33)


@pytest.mark.slow
def test_systems_are_named_by_their_folder_not_by_the_subset(runs, finished):
    shutil.copytree(finished, runs.parent / "my run/emolia-emo")
    _, folder = run(runs, "first", str(runs.parent / "my run/emolia-emo"))
    assert folder.name == "first-vs-my-run"


@pytest.mark.slow
def test_interval_of_the_difference_is_that_of_clips_drawn_together(runs):
    change_scores(runs / "second/emolia-emo", better_on(10))
    _, folder = run(runs, "first", "second")
    first, second = (pd.read_csv(runs / name / "emolia-emo/predictions.csv") for name in ("first", "second"))
    right = [(table["pred_present"] == table["majority_present"]).astype(float) for table in (first, second)]
    gain = right[1] - right[0]
    by_clip = (gain - gain.mean()).groupby(first["audio_path"]).sum()
    m = len(by_clip)
    error = (by_clip**2).sum() ** 0.5 / len(gain) * (m / (m - 1)) ** 0.5  # of a ratio, linearized
    found = row(folder, "accuracy")
    assert float(found["difference"]) == pytest.approx(gain.mean())
    half = (float(found["high"]) - float(found["low"])) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, m - 1) * error, rel=0.12)


@pytest.mark.slow
def test_tables_without_a_value_are_left_out(runs):
    _, folder = run(runs, "first", "second")
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert "## By benchmark bucket: Accuracy" in report
    assert "## By benchmark bucket: Balanced accuracy" not in report


@pytest.mark.slow
def test_line_of_no_difference_is_not_called_chance(runs):
    _, folder = run(runs, "first", "second", "--figures")
    drawn = (folder / "figures/differences.svg").read_text(encoding="utf-8")
    assert "no difference" in drawn and "chance" not in drawn


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["0.001", "20"])
def test_clips_are_embedded_up_to_the_limit(runs, limit):
    change_scores(runs / "second/emolia-emo", better_on(10))
    _, folder = run(runs, "first", "second", "--figures", "--embed-audio", limit)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ("data:audio/mpeg" in page) == (limit == "20")
    assert ("10 clips beyond the limit of 0.001 MiB are linked" in page) == (limit != "20")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["first"], 2, "two results or more"),
        (["first", "third"], 2, "third: no finished result"),
        (["first", "second", "--names", "A"], 2, "--names needs one value for each of the 2 results"),
        (
            ["first", "second", "--names", "A", "A"],
            2,
            "Two results have the name A. Give each result a name of its own",
        ),
        (["first", "second", "--steps", "1"], 2, "--steps needs one value"),
        (["first", "second", "--steps", "1", "1"], 2, "--steps has 1 twice"),
        (["first", "second", "--reference", "B"], 2, "--reference B: not one of first, second"),
    ],
)
def test_wrong_usage_is_named(runs, capsys, words, code, text):
    assert compare.main(["--runs", str(runs), *words]) == code
    assert text in capsys.readouterr().err


def test_other_labels_are_refused(runs, capsys):
    path = runs / "second/emolia-emo/predictions.csv"
    table = pd.read_csv(path)
    table["majority_present"] = 1 - table["majority_present"]
    table.to_csv(path, index=False)
    assert run(runs, "first", "second")[0] == 1
    assert "83 pairs have another label in second" in capsys.readouterr().err


@pytest.mark.slow
def test_other_items_are_refused_and_compared_with_common(runs, capsys):
    path = runs / "second/emolia-emo/predictions.csv"
    pd.read_csv(path).head(60).to_csv(path, index=False)
    assert run(runs, "first", "second")[0] == 1
    assert "first: 23 of 83 pairs are not in all results" in capsys.readouterr().err
    code, folder = run(runs, "first", "second", "--common")
    assert code == 0
    assert json.loads((folder / "summary.json").read_text())["n_items"] == 60


@pytest.mark.slow
def test_failed_pairs_are_left_out_for_all_systems_and_named(runs):
    path = runs / "second/emolia-emo/predictions.csv"
    table = pd.read_csv(path)
    table["error"] = table["error"].astype(object)
    table.loc[:4, ["ok", "similarity", "error"]] = [False, None, "HTTP 500"]
    table.to_csv(path, index=False)
    code, folder = run(runs, "first", "second")
    summary = json.loads((folder / "summary.json").read_text())
    assert (code, summary["n_items"]) == (0, 78)
    assert summary["notes"] == ["second has no score for 5 pairs, which are left out for all systems"]


@pytest.mark.slow
def test_checkpoints_are_drawn_against_their_steps(runs, finished):
    for step in (4, 3):
        change_scores(copy_run(finished, runs, f"step-{step}"), better_on(step))
    words = ["first", "step-4", "step-3", "--steps", "0", "4", "3", "--figures"]
    code, folder = run(runs, *words)
    assert code == 0
    steps = pd.read_csv(folder / "figures/steps.csv")
    assert steps[steps["panel"] == "Accuracy"]["x"].tolist() == [0, 3, 4]


@pytest.mark.slow
def test_folders_of_many_systems_differ_where_their_beginnings_agree(runs, finished):
    names = [f"a-long-name-of-a-checkpoint-{number}" for number in range(6)]
    assert comparison_name(names[:5]) != comparison_name(names)
    assert len(comparison_name(names)) < 120


@pytest.mark.slow
def test_hostile_names_are_escaped_in_every_output(runs, finished):
    folder = copy_run(finished, runs, "evil")
    path = folder / "predictions.csv"
    table = pd.read_csv(path)
    table["queried_emotion"] = table["queried_emotion"].replace("Joy", "<script>alert(1)</script> & $x_$")
    table.to_csv(path, index=False)
    first = runs / "first/emolia-emo/predictions.csv"
    table.to_csv(first, index=False)
    code, folder = run(runs, "first", "evil", "--names", "a/b", "<b>&_$", "--figures")
    assert code == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<b>&_$" not in page
    tex = (folder / "report.tex").read_text(encoding="utf-8")
    assert r"\&\_\$" in tex


@pytest.mark.slow
def test_mcnemar_is_given_for_accuracy_of_independent_items_alone(runs):
    change_scores(runs / "second/emolia-emo", better_on(10))
    _, folder = run(runs, "first", "second")
    table = pd.read_csv(folder / "comparison.csv")
    assert table[table["slice"].isna()]["p_mcnemar"].isna().all()  # several items of a clip
    for name in ("first", "second"):
        path = runs / name / "emolia-emo/predictions.csv"
        pd.read_csv(path).drop_duplicates("audio_path").to_csv(path, index=False)
    _, folder = run(runs, "first", "second")
    table = pd.read_csv(folder / "comparison.csv")
    accuracy = table[(table["metric"] == "accuracy") & table["slice"].isna()].iloc[0]
    better = pd.read_csv(folder / "flips.csv")["flip"].sum()
    assert accuracy["p_mcnemar"] == pytest.approx(2 * 0.5**better)
    assert table[table["metric"] != "accuracy"]["p_mcnemar"].isna().all()
