"""analysis.py as a script: files, report, exit codes and numbers checked by hand."""

import json
import re
import shutil

import pandas as pd
import pytest
from filelock import FileLock

import analysis
import earmark
from earmark.annotation.schema import AnalysisSummary
from earmark.annotation.subsets import subsets
from earmark.report.schema import read_summary
from tests.conftest import (
    DIM,
    EMO,
    ROOT,
    contents,
    flags_table,
    ratings_table,
    run_script,
    users_table,
    write_tables,
)

PEOPLE = ("user_0", "user_1", "user_2")


def votes(*by_rater):
    return dict(zip(PEOPLE, by_rater, strict=False))


EMOTIONS = {
    ("a.mp3", "Joy", "affirmative"): votes(2, 1, 0),  # present
    ("b.mp3", "Joy", "affirmative"): votes(2, 2),  # present, unanimous
    ("c.mp3", "Fear", "affirmative"): votes(0),  # one rater: absent
    ("a.mp3", "Fear", "ultimate"): votes(1, 0),  # tie
    ("b.mp3", "Fear", "ultimate"): votes(0, 0, 0),  # absent, unanimous
    ("c.mp3", "Joy", "ultimate"): votes(1, 2, 2),  # present, unanimous only on the binary scale
}
DIMENSIONS = {
    ("1.mp3", "TEMP", "05", "positive"): votes(1, 1, 1),
    ("2.mp3", "TEMP", "05", "positive"): votes(1, 1, 0),
    ("3.mp3", "ACCT", "European", "negative"): votes(0, 0),
    ("4.mp3", "ACCT", "European", "positive"): votes(1),
    ("5.mp3", "TEMP", "10", "positive"): votes(0, 0, 0),
}
FAST = ["--bootstrap", "20", "--quiet"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with both subsets under annotations/; user_0 rated the first item twice."""
    monkeypatch.chdir(tmp_path)
    older = ratings_table(EMO, {("a.mp3", "Joy", "affirmative"): votes(0)})
    older = older.assign(annotation_id="old", created_at="2026-01-01 00:00:00")
    people = users_table(
        *PEOPLE, "user_3", age=["29", "29", "", "50"], languages=["English, French", "English", "", ""]
    )
    flags = flags_table(EMO, (("b.mp3", "Fear", "ultimate"), "user_1", "noise, mostly"))
    write_tables(
        tmp_path / "annotations" / "emolia-emo", pd.concat([ratings_table(EMO, EMOTIONS), older]), people, flags
    )
    write_tables(tmp_path / "annotations" / "emolia-dim", ratings_table(DIM, DIMENSIONS))
    return tmp_path


def both(here, emotions, dimensions):
    """Write both subsets with these votes."""
    shutil.rmtree(here / "annotations")
    write_tables(here / "annotations" / "emolia-emo", ratings_table(EMO, emotions))
    write_tables(here / "annotations" / "emolia-dim", ratings_table(DIM, dimensions))


def refuse(constant):
    raise AssertionError(f"{constant} in a JSON file")


def summary(here, subset, folder="analysis_outputs"):
    """summary.json, validated against its model and free of NaN."""
    path = here / folder / subset / "summary.json"
    read_summary(AnalysisSummary, path)
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def estimates(value):
    """All estimates in a summary."""
    if isinstance(value, dict) and {"value", "low", "high", "n"} <= set(value):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from estimates(part)


def rows(here, subset, name):
    table = pd.read_csv(here / "analysis_outputs" / subset / f"{name}.csv", dtype=str, keep_default_na=False)
    return table.to_numpy().tolist()


def numbers(here, subset, name):
    """Rows of a table with one text column followed by numbers."""
    return [[first, *map(float, rest)] for first, *rest in rows(here, subset, name)]


def approximately(table):
    return [[first, *(pytest.approx(number) for number in rest)] for first, *rest in table]


# --- numbers by hand ----------------------------------------------------------------------------------------


def test_outputs_are_written(here):
    assert analysis.main(FAST) == 0
    emo = ["benchmark_labels", "incomplete_items", "per_emotion_summary", "per_task_type_summary"]
    dim = ["benchmark_labels", "incomplete_items", "per_dimension_summary", "per_polarity_summary"]
    expected = {f"emolia-emo/{name}.csv" for name in emo} | {f"emolia-dim/{name}.csv" for name in dim}
    expected |= {"emolia-emo/summary.json", "emolia-dim/summary.json", "report.md"}
    assert expected <= set(contents(here / "analysis_outputs"))


@pytest.mark.parametrize("subset", [EMO, DIM], ids=["emo", "dim"])
def test_label_columns_and_row_order(here, subset):
    assert analysis.main(FAST) == 0
    labels = pd.read_csv(here / "analysis_outputs" / subset.name / "benchmark_labels.csv", dtype=str)
    assert list(labels.columns) == list(subset.labels)
    keys = labels[list(subset.key)].to_numpy().tolist()
    assert keys == sorted(map(list, EMOTIONS if subset is EMO else DIMENSIONS))


A_TIE = """file_name a.mp3, queried_emotion Fear, task_type ultimate, source_emotion Sadness, usernames user_0|user_1,
majority_rating_int , majority_rating_votes 1, majority_rating_tie True, majority_present , majority_present_votes 1,
majority_present_tie True, strongly_present_votes 0, weakly_present_votes 1, not_present_votes 1, majority_rating ,
all_agree_binary False, all_agree_ordinal False, intended_present 0, matches_intended_label , benchmark_bucket tie,
n_raters 2, flagged False, soft_present 0.5"""
A_MAJORITY = """queried_emotion Joy, task_type affirmative, usernames user_0|user_1|user_2,
reaction_time_ms_mean 1001.0, reaction_time_ms_median 1001.0, sample_time_ms_mean 2000.0,
majority_rating_int 1, majority_rating_votes 1, majority_rating_tie True, majority_present 1,
majority_present_votes 2, majority_present_tie False,
strongly_present_votes 1, weakly_present_votes 1, not_present_votes 1, majority_rating weakly_present,
all_agree_binary False, intended_present 1, matches_intended_label True, benchmark_bucket majority_present,
n_raters 3, flagged False"""
A_FLAGGED = """queried_emotion Fear, task_type ultimate, majority_rating not_present, majority_rating_tie False,
all_agree_binary True, all_agree_ordinal True, benchmark_bucket unanimous_absent, flagged True, soft_present 0.0"""


@pytest.mark.parametrize(
    ("row", "cells"), [(0, A_TIE), (1, A_MAJORITY), (2, A_FLAGGED)], ids=["tie", "majority", "flagged"]
)
def test_label_format(here, row, cells):
    assert analysis.main(FAST) == 0
    path = here / "analysis_outputs" / "emolia-emo" / "benchmark_labels.csv"
    written = pd.read_csv(path, dtype=str, keep_default_na=False).loc[row]
    expected = dict(cell.split(" ", 1) for cell in cells.replace("\n", " ").split(", "))
    assert {column: written[column] for column in expected} == expected


def test_levels_stay_text(here):
    assert analysis.main(FAST) == 0
    assert [row[2] for row in rows(here, "emolia-dim", "benchmark_labels")] == [
        "05",
        "05",
        "European",
        "European",
        "10",
    ]
    assert rows(here, "emolia-dim", "incomplete_items") == [
        ["3.mp3", "ACCT", "European", "negative", "2", "user_0|user_1"],
        ["4.mp3", "ACCT", "European", "positive", "1", "user_0"],
    ]


def test_incomplete_items_use_required_raters(here):
    assert analysis.main([*FAST, "--required-raters", "2"]) == 0
    assert [row[0] for row in rows(here, "emolia-dim", "incomplete_items")] == ["4.mp3"]
    assert summary(here, "emolia-dim")["items_complete"] == 4


def test_slices_emo(here):
    """Majority rates exclude ties; unanimity rates exclude items with a single rater."""
    assert analysis.main(FAST) == 0
    # task_type: items, intended, present, confirmed, unanimous binary, unanimous ordinal
    assert numbers(here, "emolia-emo", "per_task_type_summary") == approximately(
        [["affirmative", 3, 1, 2 / 3, 2 / 3, 1 / 2, 1 / 2], ["ultimate", 3, 0, 1 / 2, 1 / 2, 2 / 3, 1 / 3]]
    )
    assert numbers(here, "emolia-emo", "per_emotion_summary") == approximately(
        [["Fear", 3, 0, 1 / 2, 1 / 2], ["Joy", 3, 1, 2 / 3, 1 / 3]]
    )


def test_slices_dim(here):
    assert analysis.main(FAST) == 0
    assert numbers(here, "emolia-dim", "per_dimension_summary") == approximately(
        [["ACCT", 2, 1 / 2, 1, 1], ["TEMP", 3, 2 / 3, 2 / 3, 2 / 3]]
    )
    assert numbers(here, "emolia-dim", "per_polarity_summary") == approximately(
        [["negative", 1, 0, 1], ["positive", 4, 3 / 4, 2 / 3]]
    )


def test_summary_counts(here):
    assert analysis.main(FAST) == 0
    result = summary(here, "emolia-emo")
    counted = {
        "rating_scale": ["not_present", "weakly_present", "strongly_present"],
        "rows_raw": 15,
        "rows_deduplicated": 14,
        "clips_total": 3,
        "items_total": 6,
        "items_complete": 3,
        "items_incomplete": 3,
        "items_flagged": 1,
        "items_tied": 1,
        "rater_coverage": {"1": 1, "2": 2, "3": 3},
        "annotators": list(PEOPLE),
        "exclusions": [{"reason": "superseded ratings", "count": 1}],
    }
    assert {key: result[key] for key in counted} == counted
    assert [(item["path"], item["rows"]) for item in result["inputs"]] == [
        ("annotations/emolia-emo/annotations.csv", 15),
        ("annotations/emolia-emo/users.csv", 4),
        ("annotations/emolia-emo/flags.csv", 1),
    ]


def test_demographics_count_raters(here):
    """user_3 has no ratings and user_2 no demographics; a rater with two languages counts for both."""
    assert analysis.main(FAST) == 0
    assert summary(here, "emolia-emo")["demographics"] == {"age": {"29": 2}, "languages": {"English": 2, "French": 1}}
    assert summary(here, "emolia-dim")["demographics"] == {}


@pytest.mark.parametrize(
    ("name", "value", "n"),
    [
        ("percent_binary", 8 / 11, 5),  # 1 of 3, 1 of 1, 0 of 1, 3 of 3, 3 of 3
        ("percent_ordinal", 5 / 11, 5),  # 0 of 3, 1 of 1, 0 of 1, 3 of 3, 1 of 3
        ("exact_all_binary", 2 / 3, 3),
        ("exact_all_ordinal", 1 / 3, 3),
    ],
)
def test_summary_agreement(here, name, value, n):
    assert analysis.main(FAST) == 0
    estimate = summary(here, "emolia-emo")["agreement"][name]
    assert (estimate["value"], estimate["n"]) == (pytest.approx(value), n)
    assert estimate["low"] <= estimate["value"] <= estimate["high"]


def test_majority_rates_exclude_ties(here):
    assert analysis.main(FAST) == 0
    result = summary(here, "emolia-emo")
    for name in ("majority_present_rate", "preselection_confirm_rate"):
        assert (result[name]["value"], result[name]["n"]) == (pytest.approx(3 / 5), 5)
    assert result["emolia_bench"]["majority_present_rate"] == pytest.approx(3 / 6)
    assert result["emolia_bench"]["preselection_confirm_rate"] == pytest.approx(4 / 6)


def test_human_upper_bound_is_percent_agreement(here):
    assert analysis.main(FAST) == 0
    for subset in ("emolia-emo", "emolia-dim"):
        result = summary(here, subset)
        assert result["human_upper_bound_binary"] == result["agreement"]["percent_binary"]
    assert summary(here, "emolia-dim")["human_upper_bound_binary"]["value"] == pytest.approx(0.8)


def test_binary_subset_has_no_ordinal_keys(here):
    assert analysis.main(FAST) == 0
    assert "ordinal" not in json.dumps(summary(here, "emolia-dim")["agreement"])
    assert set(summary(here, "emolia-dim")["agreement"]["pairs"]) == {
        "user_0__user_1",
        "user_0__user_2",
        "user_1__user_2",
    }


def test_ties_absent(here):
    assert analysis.main([*FAST, "--ties", "absent"]) == 0
    result = summary(here, "emolia-emo")
    assert rows(here, "emolia-emo", "benchmark_labels")[0][24] != "tie"
    assert result["items_tied"] == 1
    assert result["majority_present_rate"]["value"] == pytest.approx(3 / 6)
    assert result["parameters"]["ties"] == "absent"
    assert "|ties:absent|" in result["signature"]
    assert "labelled absent" in (here / "analysis_outputs" / "report.md").read_text(encoding="utf-8")


# --- report -------------------------------------------------------------------------------------------------


def test_stdout_is_report_and_stderr_progress(here, capsys):
    assert analysis.main(["--bootstrap", "20"]) == 0
    output = capsys.readouterr()
    assert output.out == (here / "analysis_outputs" / "report.md").read_text(encoding="utf-8")
    assert output.err == "emolia-emo: 14 ratings\nemolia-dim: 12 ratings\n"


def test_report_number_format(here):
    assert analysis.main(FAST) == 0
    report = (here / "analysis_outputs" / "report.md").read_text(encoding="utf-8")
    percent = summary(here, "emolia-dim")["agreement"]["percent_binary"]
    assert f"| 0.800 [{percent['low']:.3f}, {percent['high']:.3f}] |" in report
    assert "1 of 6 items are tied" in report
    assert not re.search(r"\d\.\d{4,}", report.replace(f"earmark:{earmark.__version__}", ""))


def test_report_numbers_are_in_summaries(here):
    assert analysis.main(FAST) == 0
    report = (here / "analysis_outputs" / "report.md").read_text(encoding="utf-8")
    texts = [(here / "analysis_outputs" / name / "summary.json").read_text() for name in ("emolia-emo", "emolia-dim")]
    known = {f"{float(number):.3f}" for text in texts for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?|-?\b\d\b", text)}
    printed = set(re.findall(r"(?<![\d.])-?\d+\.\d{3}(?![\d.])", report))
    assert len(printed) > 20
    assert printed <= known


# --- little data --------------------------------------------------------------------------------------------

ONE_CATEGORY = {"a.mp3": votes(1, 1, 1), "b.mp3": votes(1, 1, 1)}
LITTLE = {
    "one rater only": {"a.mp3": votes(1), "b.mp3": votes(0)},
    "no item with two raters": {"a.mp3": {"user_0": 1}, "b.mp3": {"user_1": 0}},
    "one category only": ONE_CATEGORY,
    "one rating": {"a.mp3": votes(1)},
    "ties only": {"a.mp3": votes(1, 0), "b.mp3": votes(0, 1)},
    "two raters at most": {"a.mp3": votes(1, 1), "b.mp3": votes(0, 1), "c.mp3": votes(0)},
    "four raters each": {f"{i}.mp3": {f"user_{r}": (i + r) % 2 for r in range(4)} for i in range(3)},
}


@pytest.mark.parametrize("few", LITTLE.values(), ids=LITTLE)
def test_little_data_gives_null_with_reason(here, few):
    both(here, few, few)
    assert analysis.main(FAST) == 0
    for subset in ("emolia-emo", "emolia-dim"):
        values = list(estimates(summary(here, subset)))
        assert len(values) > 15
        assert all(estimate["why"] for estimate in values if estimate["value"] is None)
    assert "nan" not in (here / "analysis_outputs" / "report.md").read_text(encoding="utf-8").casefold().split()


def test_kappa_undefined_for_one_category(here):
    both(here, ONE_CATEGORY, ONE_CATEGORY)
    assert analysis.main(FAST) == 0
    result = summary(here, "emolia-dim")["agreement"]
    assert result["percent_binary"]["value"] == 1
    assert result["fleiss_kappa_binary"]["value"] is None
    assert result["fleiss_kappa_binary"]["why"].startswith("only one category was used")


@pytest.mark.parametrize("content", ["", "\ufeff", "header"], ids=["zero bytes", "byte order mark", "header only"])
def test_empty_tables_give_empty_outputs(here, content):
    for path in (here / "annotations").rglob("*.csv"):
        header = path.read_text(encoding="utf-8").split("\n")[0] + "\n"
        path.write_text(header if content == "header" else content, encoding="utf-8")
    assert analysis.main(FAST) == 0
    for subset in (EMO, DIM):
        result = summary(here, subset.name)
        assert (result["rows_raw"], result["items_total"], result["annotators"]) == (0, 0, [])
        values = list(estimates(result))
        assert values
        assert all(estimate["value"] is None and estimate["why"] for estimate in values)
        labels = (here / "analysis_outputs" / subset.name / "benchmark_labels.csv").read_text()
        assert labels == ",".join(subset.labels) + "\n"


def test_outputs_invariant_to_csv_dialect(here):
    assert analysis.main(FAST) == 0
    before = contents(here / "analysis_outputs")
    for path in (here / "annotations").rglob("*.csv"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        path.write_bytes(table[sorted(table.columns)].to_csv(index=False, lineterminator="\r\n").encode("utf-8-sig"))
    assert analysis.main(FAST) == 0
    after = contents(here / "analysis_outputs")
    for name in before:
        if name.endswith(".csv"):
            assert after[name] == before[name], name


# --- reproducibility ----------------------------------------------------------------------------------------


def test_outputs_are_reproducible(here):
    def files():
        assert analysis.main([*FAST, "--seed", "7"]) == 0
        return {
            name: re.sub(rb'"created_utc": "[^"]*"', b"", data)
            for name, data in contents(here / "analysis_outputs").items()
        }

    assert files() == files()


def test_outputs_invariant_to_row_order_and_superseded_ratings(here):
    def outputs():
        assert analysis.main(FAST) == 0
        tables = {name: data for name, data in contents(here / "analysis_outputs").items() if name.endswith(".csv")}
        numbers = [summary(here, subset) for subset in ("emolia-emo", "emolia-dim")]
        volatile = ("created_utc", "signature", "inputs", "exclusions", "rows_raw")
        return tables, [{key: value for key, value in part.items() if key not in volatile} for part in numbers]

    before = outputs()
    for subset in (EMO, DIM):
        path = here / "annotations" / subset.name / "annotations.csv"
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        older = table.assign(annotation_id="again-" + table["annotation_id"], created_at="2025-12-31")
        pd.concat([older, table]).sample(frac=1, random_state=3).to_csv(path, index=False)
    assert outputs() == before


def test_seed_changes_only_intervals(here):
    by_seed = []
    for seed in ("1", "2"):
        assert analysis.main([*FAST, "--seed", seed]) == 0
        by_seed.append(list(estimates(summary(here, "emolia-emo"))))
    assert [e["value"] for e in by_seed[0]] == [e["value"] for e in by_seed[1]]
    assert [e["low"] for e in by_seed[0]] != [e["low"] for e in by_seed[1]]


def test_no_intervals_without_replicates(here):
    assert analysis.main(["--bootstrap", "0", "--quiet"]) == 0
    percent = summary(here, "emolia-dim")["agreement"]["percent_binary"]
    assert percent == {"value": pytest.approx(0.8), "low": None, "high": None, "n": 4}


# --- failures -----------------------------------------------------------------------------------------------


def test_faults_of_both_subsets_listed_and_outputs_unchanged(here, capsys):
    assert analysis.main(FAST) == 0
    for subset, cell in (("emolia-emo", "maybe"), ("emolia-dim", "perhaps")):
        path = here / "annotations" / subset / "annotations.csv"
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.loc[1, "rating"] = cell
        table.to_csv(path, index=False)
    before = contents(here)
    capsys.readouterr()
    assert analysis.main(FAST) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "annotations/emolia-emo/annotations.csv: 1 fault\n  line 3, column rating: 'maybe'" in output.err
    assert "annotations/emolia-dim/annotations.csv: 1 fault\n  line 3, column rating: 'perhaps'" in output.err
    assert contents(here) == before


def test_subset_ignores_faults_of_other_subset(here):
    (here / "annotations" / "emolia-emo" / "annotations.csv").write_text("not,a,table\n1,2,3\n")
    assert analysis.main([*FAST, "--subset", "emolia-dim"]) == 0
    assert not (here / "analysis_outputs" / "emolia-emo").exists()


def test_failed_write_leaves_outputs_unchanged(here, capsys):
    assert analysis.main(FAST) == 0
    (here / "analysis_outputs" / "report.md").unlink()
    (here / "analysis_outputs" / "report.md").mkdir()
    before = contents(here)
    assert analysis.main([*FAST, "--ties", "absent", "--seed", "5"]) == 1
    assert "report.md" in capsys.readouterr().err
    assert contents(here) == before


def test_missing_table_exits_2(here, capsys):
    shutil.rmtree(here / "annotations" / "emolia-dim")
    assert analysis.main([*FAST, "--subset", "emolia-dim"]) == 2
    assert capsys.readouterr().err.startswith("annotations/emolia-dim/annotations.csv does not exist.")
    assert not (here / "analysis_outputs").exists()


def test_unknown_subset_exits_2(here, capsys):
    assert analysis.main([*FAST, "--subset", "emolia"]) == 2
    assert capsys.readouterr().err == "--subset emolia: no such subset. Known subsets: emolia-emo, emolia-dim.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-flag"],
        ["--ties", "present"],
        ["--required-raters", "0"],
        ["--boot", "5"],
        ["--bootstrap", "-1"],
        ["--seed", "-1"],
        ["--seed", "x"],
        ["--scale", "likert"],
        ["surplus"],
    ],
    ids=" ".join,
)
def test_usage_error_exits_2(here, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        analysis.main(arguments)
    assert ended.value.code == 2
    assert "usage: " in capsys.readouterr().err


# --- as a process -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_process_reproduces_committed_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setenv("API_KEY", "hf_verysecret")
    done = run_script(
        "analysis.py",
        "--annotations-root",
        ROOT / "annotations",
        "--output-dir",
        tmp_path,
        "--no-figures",
        "--bootstrap",
        "20",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "report.md").read_text(encoding="utf-8")
    present = [name for name in subsets() if (ROOT / "annotations" / name).is_dir()]
    assert re.fullmatch("".join(rf"{name}: \d+ ratings\n" for name in present), done.stderr)
    written = contents(tmp_path)
    for name, data in written.items():
        text = data.decode()
        assert str(tmp_path) not in text
        assert str(ROOT) not in text
        assert "hf_verysecret" not in text
        if name.endswith("benchmark_labels.csv"):
            labels = pd.read_csv(tmp_path / name, dtype={"level": str})
            committed = pd.read_csv(ROOT / "analysis_outputs" / name, dtype={"level": str})
            pd.testing.assert_frame_equal(labels, committed)


def test_help_is_docstring(capsys):
    with pytest.raises(SystemExit) as ended:
        analysis.main(["--help"])
    assert ended.value.code == 0
    assert analysis.__doc__ is not None
    assert analysis.__doc__.strip() in capsys.readouterr().out


# --- keys, names, consent, reports of several runs ----------------------------------------------------------


def test_equivalent_keys_are_merged(here, capsys):
    votes_of_two = {
        ("1.mp3", "TEMP", "5", "positive"): votes(1, 1),
        ("1.mp3", "TEMP", "5.0", "positive"): {"user_2": 0},
        ("cafe\u0301.mp3", "TEMP", "5", "positive"): votes(1, 0),
        ("caf\u00e9.mp3", "TEMP", "5", "positive"): {"user_2": 1},
    }
    write_tables(here / "annotations" / "emolia-dim", ratings_table(DIM, votes_of_two), users_table(*PEOPLE))
    command = ["--subset", "emolia-dim", "--bootstrap", "20"]
    assert analysis.main(command) == 0
    assert summary(here, "emolia-dim")["items_total"] == 2
    stderr = capsys.readouterr().err
    assert "level: merged 1 spelling ('5.0' as '5'); --exact-keys treats them as different" in stderr
    assert any("'5.0' as '5'" in line for line in summary(here, "emolia-dim")["warnings"])
    assert "'5.0' as '5'" in (here / "analysis_outputs" / "report.md").read_text(encoding="utf-8")
    assert analysis.main([*command, "--exact-keys"]) == 0
    assert summary(here, "emolia-dim")["items_total"] == 4


def test_lookalike_keys_are_reported_not_merged(here, capsys):
    alike = {("A.mp3", "TEMP", "5", "positive"): votes(1, 1), ("x/a.wav", "TEMP", "05", "positive"): votes(1, 1)}
    write_tables(here / "annotations" / "emolia-dim", ratings_table(DIM, alike), users_table(*PEOPLE))
    assert analysis.main(["--subset", "emolia-dim", "--bootstrap", "20"]) == 0
    assert summary(here, "emolia-dim")["items_total"] == 2
    stderr = capsys.readouterr().err
    assert "file_name: similar keys count as different items ('A.mp3', 'x/a.wav')" in stderr
    assert "level: similar keys count as different items ('05', '5')" in stderr


def test_usernames_are_hidden(here, capsys):
    people = {"anna.schmidt": 1, "bob": 1, "cyd": 0}
    table = ratings_table(DIM, {("1.mp3", "TEMP", "5", "positive"): people, ("2.mp3", "TEMP", "5", "positive"): people})
    write_tables(here / "annotations" / "emolia-dim", table, users_table(*people))
    command = ["--subset", "emolia-dim", *FAST[:2], "--exclude-rater", "bob"]
    assert analysis.main(command) == 0
    assert "usernames that are not pseudonyms" in capsys.readouterr().err
    written = contents(here / "analysis_outputs" / "emolia-dim")
    for name in people:
        assert [path for path, content in written.items() if name.encode() in content] == []
    assert summary(here, "emolia-dim")["annotators"] == ["rater_0", "rater_2"]
    assert analysis.main([*command, "--show-names"]) == 0
    assert sorted(summary(here, "emolia-dim")["annotators"]) == ["anna.schmidt", "cyd"]


def test_withdrawn_consent_excludes_ratings(here):
    table = ratings_table(DIM, {("1.mp3", "TEMP", "5", "positive"): votes(1, 1, 0)})
    people = users_table(*PEOPLE).assign(consent=["True", "True", "CONSENT_REVOKED"])
    write_tables(here / "annotations" / "emolia-dim", table, people)
    assert analysis.main(["--subset", "emolia-dim", *FAST]) == 0
    result = summary(here, "emolia-dim")
    assert (result["rows_raw"], result["ratings_used"], result["annotators"]) == (3, 2, ["user_0", "user_1"])
    assert {"reason": "ratings by raters who withdrew consent", "count": 1} in result["exclusions"]


def test_report_keeps_subsets_of_earlier_runs(here):
    assert analysis.main(FAST) == 0
    report = here / "analysis_outputs" / "report.md"
    whole = report.read_text(encoding="utf-8")
    assert analysis.main([*FAST, "--subset", "emolia-dim"]) == 0
    assert report.read_text(encoding="utf-8") == whole
    (here / "analysis_outputs" / "emolia-emo" / "summary.json").write_text("{}")
    assert analysis.main([*FAST, "--subset", "emolia-dim"]) == 0
    assert "## emolia-emo" not in report.read_text(encoding="utf-8")


def test_concurrent_run_is_refused(here, capsys):
    (here / "analysis_outputs").mkdir()
    with FileLock(here / "analysis_outputs" / ".lock"):
        assert analysis.main(FAST) == 1
    assert "Another run is writing to analysis_outputs/" in capsys.readouterr().err
