"""anonymize.py as a script, on tables with names."""

import json
import re
import shutil
import stat
from pathlib import Path

import pandas as pd
import pytest

import anonymize
from earmark import __version__
from earmark.annotation.labels import majority_labels
from earmark.annotation.tables import load_annotations
from tests.conftest import DIM, EMO, contents, flags_table, ratings_table, run_script, users_table, write_tables

PEOPLE = ("zoë", "ann.smith", "Ben K")
VOTES = {"a.mp3": {"zoë": 1, "ann.smith": 0, "Ben K": 1}, "b.mp3": {"zoë": 0, "ann.smith": 0}}
USERS = users_table(
    *PEOPLE, age=["29", "31", "38"], gender=["f", "f", "m"], languages=["Dutch, French", "Dutch", "Dutch"]
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with both subsets under annotations_raw/."""
    monkeypatch.chdir(tmp_path)
    for subset in (EMO, DIM):
        flags = flags_table(subset, ("a.mp3", "ann.smith", 'Noise, and a "hum"'))
        write_tables(tmp_path / "annotations_raw" / subset.name, ratings_table(subset, VOTES), USERS, flags)
    return tmp_path


def change(path, column, value, line):
    """Change one cell of a table; line as an editor shows it."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[line - 2, column] = value
    table.to_csv(path, index=False)


def fails(arguments, capsys, code=1):
    """stderr of a failing run, which must not write to stdout."""
    assert anonymize.main(arguments) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err
    return output.err


def read(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


# --- outputs ------------------------------------------------------------------------------------------------


def test_tables_have_pseudonyms_in_sorted_order(here):
    assert anonymize.main([]) == 0
    written = contents(here / "annotations")
    names = ["annotations.csv", "flags.csv", "summary.json", "users.csv"]
    assert list(written) == [f"{subset}/{name}" for subset in ("emolia-dim", "emolia-emo") for name in names]
    folder = here / "annotations" / "emolia-emo"
    assert read(folder / "users.csv")["username"].tolist() == ["user_2", "user_1", "user_0"]
    assert read(folder / "annotations.csv")["username"].tolist() == ["user_2", "user_1", "user_0", "user_2", "user_1"]
    assert read(folder / "flags.csv")[["username", "reason"]].to_numpy().tolist() == [["user_1", 'Noise, and a "hum"']]
    raw = read(here / "annotations_raw" / "emolia-emo" / "annotations.csv")
    assert read(folder / "annotations.csv").drop(columns="username").equals(raw.drop(columns="username"))


def test_map_file_mode(here):
    assert anonymize.main([]) == 0
    path = here / "annotations_raw" / "emolia-emo" / "_anon_map.csv"
    assert (
        path.read_text(encoding="utf-8") == "raw_username,anon_username\nBen K,user_0\nann.smith,user_1\nzoë,user_2\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_map_file_mode_is_restored(here):
    assert anonymize.main([]) == 0
    path = here / "annotations_raw" / "emolia-emo" / "_anon_map.csv"
    path.chmod(0o644)
    assert anonymize.main([]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_pseudonyms_are_stable(here):
    folder = here / "annotations_raw" / "emolia-dim"
    assert anonymize.main([]) == 0
    write_tables(folder, ratings_table(DIM, {"a.mp3": {"zoë": 1, "aaron": 0}}))
    (folder / "flags.csv").unlink()
    assert anonymize.main([]) == 0
    assert read(here / "annotations/emolia-dim/annotations.csv")["username"].tolist() == ["user_2", "user_3"]
    write_tables(folder, ratings_table(DIM, VOTES))
    assert anonymize.main([]) == 0
    assert read(here / "annotations/emolia-dim/annotations.csv")["username"].tolist()[:3] == [
        "user_2",
        "user_1",
        "user_0",
    ]
    pairs = read(folder / "_anon_map.csv").to_numpy().tolist()
    assert pairs == [["Ben K", "user_0"], ["ann.smith", "user_1"], ["zoë", "user_2"], ["aaron", "user_3"]]


def test_scan_includes_former_users(here, capsys):
    assert anonymize.main([]) == 0
    capsys.readouterr()
    votes = {"a.mp3": {"zoë": 1}}
    flags = flags_table(DIM, ("a.mp3", "zoë", "Ben K. said so"))
    write_tables(here / "annotations_raw" / "emolia-dim", ratings_table(DIM, votes), users_table("zoë"), flags)
    assert "line 2, column reason: contains a raw username" in fails([], capsys)


def test_removed_flags_are_removed_from_outputs(here):
    assert anonymize.main([]) == 0
    (here / "annotations_raw" / "emolia-emo" / "flags.csv").unlink()
    assert anonymize.main([]) == 0
    assert not (here / "annotations" / "emolia-emo" / "flags.csv").exists()
    assert (here / "annotations" / "emolia-dim" / "flags.csv").exists()


def test_outputs_are_reproducible(here):
    def files():
        assert anonymize.main([]) == 0
        return {name: re.sub(rb'"created_utc": "[^"]*"', b"", data) for name, data in contents(here).items()}

    files()  # creates the map
    assert files() == files()


def test_stdout_reports_k_anonymity(here, capsys):
    assert anonymize.main(["--subset", "emolia-emo"]) == 0
    output = capsys.readouterr()
    assert output.out == (
        "emolia-emo: 3 users (3 new), 5 ratings; k = 1 over age, gender, languages; "
        "3 of 3 users are unique (by one column: age (3), gender (1), languages (1))\n"
    )
    summary = json.loads((here / "annotations" / "emolia-emo" / "summary.json").read_text())
    assert (summary["k"], summary["people"], summary["unique_people"]) == (1, 3, 3)
    assert summary["unique_by"] == {"age": 3, "gender": 1, "languages": 1}
    assert not (here / "annotations" / "emolia-dim").exists()


def test_outputs_contain_no_name_or_absolute_path(here):
    out = here / "elsewhere"
    assert anonymize.main(["--raw-root", str(here / "annotations_raw"), "--output-dir", str(out)]) == 0
    everything = b"\n".join(contents(out).values()).decode().casefold()
    assert str(here) not in everything
    for name in PEOPLE:
        assert name.casefold() not in everything
    assert "sha256" not in everything  # a hash of a table with names could confirm a guess


def test_one_subset_is_enough(here):
    shutil.rmtree(here / "annotations_raw" / "emolia-dim")
    assert anonymize.main([]) == 0
    assert [path.name for path in (here / "annotations").iterdir() if path.is_dir()] == ["emolia-emo"]


@pytest.mark.parametrize("header_only", [True, False])
def test_empty_tables(here, header_only):
    for subset in ("emolia-emo", "emolia-dim"):
        for path in (here / "annotations_raw" / subset).glob("*.csv"):
            path.write_text(path.read_text().split("\n")[0] + "\n" if header_only else "")
    assert anonymize.main([]) == 0
    summary = json.loads((here / "annotations" / "emolia-emo" / "summary.json").read_text())
    assert (summary["people"], summary["k"]) == (0, 0)


# --- leaks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "column", "cell", "find"),
    [
        ("flags", "reason", "Ann Smith said it was loud, twice", "a raw username"),
        ("flags", "reason", "ask ZOË", "a raw username"),
        ("flags", "reason", "mail jo@example.org", "an e-mail address"),
        ("flags", "reason", r"on C:\Users\jo", "a path to a home folder"),
        ("annotations", "file_name", "ben_k_0001.mp3", "a raw username"),
        ("annotations", "file_name", "/home/jo/a.mp3", "a path to a home folder"),
        ("annotations", "annotation_id", "ann-smith-1", "a raw username"),
        ("users", "gender", "like zoë", "a raw username"),
        ("users", "languages", "/Users/jo", "a path to a home folder"),
    ],
)
def test_leak_stops_run_before_writing(here, capsys, table, column, cell, find):
    change(here / "annotations_raw" / "emolia-dim" / f"{table}.csv", column, cell, line=2)
    before = contents(here)
    message = fails([], capsys)
    assert f"annotations_raw/emolia-dim/{table}.csv: 1 fault\n  line 2, column {column}: contains {find}\n" in message
    assert cell not in message
    assert contents(here) == before


def test_leaks_of_both_subsets_listed_at_once(here, capsys):
    change(here / "annotations_raw" / "emolia-emo" / "flags.csv", "reason", "zoë", line=2)
    change(here / "annotations_raw" / "emolia-dim" / "flags.csv", "reason", "zoë", line=2)
    change(here / "annotations_raw" / "emolia-dim" / "users.csv", "gender", "zoë", line=4)
    message = fails([], capsys)
    assert message.count("contains a raw username") == 3
    assert [line for line in message.splitlines() if line.endswith(("fault", "faults"))] == [
        "annotations_raw/emolia-emo/flags.csv: 1 fault",
        "annotations_raw/emolia-dim/users.csv: 1 fault",
        "annotations_raw/emolia-dim/flags.csv: 1 fault",
    ]


def test_faults_of_both_subsets_listed_from_other_working_folder(here, capsys, monkeypatch):
    for subset, cell in (("emolia-emo", "strng"), ("emolia-dim", "yess")):
        change(here / "annotations_raw" / subset / "annotations.csv", "rating", cell, line=3)
    (here / "work").mkdir()
    monkeypatch.chdir(here / "work")
    message = fails(["--raw-root", str(here / "annotations_raw")], capsys)
    assert "'strng' is not one of" in message
    assert "'yess' is not one of" in message


def test_fault_in_one_subset_writes_neither(here, capsys):
    change(here / "annotations_raw" / "emolia-dim" / "annotations.csv", "rating", "maybe", line=3)
    before = contents(here)
    assert "line 3, column rating: 'maybe'" in fails([], capsys)
    assert contents(here) == before


def test_drop_removes_leaking_column(here):
    change(here / "annotations_raw" / "emolia-dim" / "users.csv", "languages", "ask zoë", line=2)
    assert anonymize.main(["--drop", "languages", "gender"]) == 0
    assert list(read(here / "annotations" / "emolia-dim" / "users.csv").columns) == ["username", "age"]


def test_pseudonymised_tables_are_refused(here, capsys):
    votes = {"a.mp3": {"user_3": 1, "zoë": 0}}
    write_tables(here / "annotations_raw" / "emolia-dim", ratings_table(DIM, votes), users_table("zoë", "user_3"))
    (here / "annotations_raw" / "emolia-dim" / "flags.csv").unlink()
    before = contents(here)
    assert "users.csv: 1 fault\n  line 3, column username: looks like a pseudonym" in fails([], capsys)
    assert contents(here) == before


def test_invalid_map_stops_run(here, capsys):
    assert anonymize.main([]) == 0
    capsys.readouterr()
    path = here / "annotations_raw" / "emolia-emo" / "_anon_map.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("user_1", "user_0"), encoding="utf-8")
    before = contents(here)
    message = fails([], capsys)
    assert "_anon_map.csv: 1 fault\n  line 3, column anon_username" in message
    assert "Restore the map" in message
    assert contents(here) == before


def test_failed_write_leaves_outputs_unchanged(here, capsys):
    assert anonymize.main([]) == 0
    (here / "annotations" / "emolia-emo" / "users.csv").unlink()
    (here / "annotations" / "emolia-emo" / "users.csv").mkdir()
    change(here / "annotations_raw" / "emolia-dim" / "users.csv", "age", "77", line=2)
    before = contents(here)
    capsys.readouterr()
    assert "users.csv" in fails([], capsys)
    assert contents(here) == before


# --- flags --------------------------------------------------------------------------------------------------


def test_k_min_too_high_fails(here, capsys):
    message = fails(["--k-min", "2"], capsys)
    assert message.startswith("emolia-emo: k = 1 over age, gender, languages; 3 of 3 users are unique")
    assert "--k-min requires 2. Nothing was written. Use --band-age 10 or --drop COLUMN" in message
    assert not (here / "annotations").exists()
    assert not list(here.rglob("_anon_map.csv"))


def test_k_min_satisfied_by_bands_and_drop(here):
    """Ages 29, 31 and 38 fall into two bands of ten years, but one of twenty: 20-39."""
    assert anonymize.main(["--k-min", "3", "--band-age", "20", "--drop", "gender", "languages"]) == 0
    assert read(here / "annotations" / "emolia-emo" / "users.csv")["age"].tolist() == ["20-39"] * 3


def test_band_age_rejects_invalid_age(here, capsys):
    change(here / "annotations_raw" / "emolia-emo" / "users.csv", "age", "thirty", line=3)
    assert "users.csv: 1 fault\n  line 3, column age: 'thirty' is not a number" in fails(["--band-age", "10"], capsys)


@pytest.mark.parametrize("unit", ["day", "month"])
def test_coarsen_times_keeps_labels(here, unit):
    """zoë rated the item three times in a day; the newest rating is the first line."""
    table = ratings_table(EMO, {"a.mp3": {"1": 2, "2": 0, "3": 1, "ann.smith": 0, "Ben K": 0}})
    table["username"] = ["zoë"] * 3 + ["ann.smith", "Ben K"]
    table["created_at"] = [f"2026-05-09 {hour}:00:00" for hour in (20, 9, 14, 10, 11)]
    write_tables(here / "annotations_raw" / "emolia-emo", table)
    labels = []
    for arguments in ([], ["--coarsen-times", unit]):
        assert anonymize.main(arguments) == 0
        labels.append(majority_labels(load_annotations(here / "annotations" / "emolia-emo", EMO)))
    pd.testing.assert_frame_equal(*labels)
    assert labels[0].loc[0, "strongly_present_votes"] == 1
    times = read(here / "annotations" / "emolia-emo" / "annotations.csv")["created_at"]
    assert set(times) == {"2026-05-09" if unit == "day" else "2026-05"}


def test_drop_rejects_username(here, capsys):
    assert "--drop username: this column is required" in fails(["--drop", "username"], capsys, code=2)


def test_drop_rejects_unknown_column(here, capsys):
    assert "gendre" in fails(["--drop", "gendre"], capsys, code=2)
    assert not (here / "annotations").exists()


def test_missing_raw_root_exits_2(here, capsys):
    message = fails(["--raw-root", "nowhere"], capsys, code=2)
    assert message == (
        "nowhere/ contains no subset. Put the tables into a subfolder named after a subset: emolia-emo, emolia-dim.\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [["--no-such-flag"], ["--k-min", "0"], ["--band-age", "-5"], ["--sub", "emolia-emo"], ["--coarsen-times", "year"]],
)
def test_usage_error_exits_2(here, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        anonymize.main(arguments)
    assert ended.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_output_dir_inside_raw_root_is_refused(here, capsys):
    before = contents(here)
    assert "annotations_raw" in fails(["--output-dir", "annotations_raw"], capsys, code=2)
    assert contents(here) == before


@pytest.mark.parametrize("name", ["12", "2026"])
def test_numeric_username_not_found_in_times(here, name):
    write_tables(here / "annotations_raw" / "emolia-emo", ratings_table(EMO, {"a.mp3": {name: 1}}))
    (here / "annotations_raw" / "emolia-emo" / "flags.csv").unlink()
    assert anonymize.main(["--subset", "emolia-emo"]) == 0


# --- as a process -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_process_prints_results_to_stdout(here):
    done = run_script("anonymize.py", "--raw-root", here / "annotations_raw", "--output-dir", here / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["emolia-emo", "emolia-dim"]
    assert len(contents(here / "out")) == 8


@pytest.mark.slow
def test_process_prints_faults_to_stderr(here):
    """A misspelt rating on line 17 and an unknown task type on line 40."""
    roots = ["--raw-root", here / "annotations_raw", "--output-dir", here / "annotations"]
    assert run_script("anonymize.py", *roots).returncode == 0
    table = ratings_table(EMO, {f"clip_{i:02}.mp3": {"zoë": 1} for i in range(50)})
    table.loc[17 - 2, "rating"] = "strongly_presnt"
    table.loc[40 - 2, "task_type"] = "contrastive_3"
    table.to_csv(here / "annotations_raw" / "emolia-emo" / "annotations.csv", index=False)
    before = contents(here)
    done = run_script("anonymize.py", *roots)
    assert (done.returncode, done.stdout) == (1, "")
    assert "annotations.csv: 2 faults\n  line 17, column rating: 'strongly_presnt' is not one of" in done.stderr
    assert "\n  line 40, column task_type: 'contrastive_3' is not one of affirmative, contrastive_1" in done.stderr
    assert contents(here) == before


def test_help_is_docstring():
    done = run_script("anonymize.py", "--help")
    assert done.returncode == 0
    assert anonymize.__doc__ is not None
    assert anonymize.__doc__.strip() in done.stdout
    for flag in ("--version", "--seed", "--quiet", "--debug", "--k-min", "--drop", "--band-age", "--coarsen-times"):
        assert flag in done.stdout


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        anonymize.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"earmark {__version__}\n"


def test_debug_prints_traceback(here, capsys):
    assert anonymize.main(["--raw-root", "nowhere", "--debug"]) == 2
    output = capsys.readouterr().err
    assert "Traceback" in output
    assert output.endswith("emolia-emo, emolia-dim.\n")


def test_output_dir(here):
    assert anonymize.main(["--output-dir", "release/2026"]) == 0
    assert (here / "release" / "2026" / "emolia-dim" / "users.csv").is_file()
    assert not Path("annotations").exists()


# --- unknown columns ----------------------------------------------------------------------------------------


def with_column(path, column, cells):
    table = read(path)
    table[column] = [cells[i % len(cells)] for i in range(len(table))]
    table.to_csv(path, index=False)


def test_unknown_columns_are_not_published(here, capsys):
    raw = here / "annotations_raw" / "emolia-emo"
    with_column(raw / "annotations.csv", "real_name", ["A. K. Schmidt"])
    with_column(raw / "users.csv", "nationality", ["x", "y", "z"])
    assert anonymize.main([]) == 0
    output = capsys.readouterr().out
    assert "annotations.csv: real_name" in output
    assert "users.csv: nationality" in output
    written = b"".join(contents(here / "annotations").values())
    assert b"Schmidt" not in written
    assert b"nationality" not in written


def test_keep_column_is_published_and_scanned(here, capsys):
    users = here / "annotations_raw" / "emolia-emo" / "users.csv"
    with_column(users, "nationality", ["x", "y", "z"])
    assert anonymize.main(["--keep", "nationality", "--drop", "age", "gender", "languages"]) == 0
    folder = here / "annotations" / "emolia-emo"
    assert read(folder / "users.csv")["nationality"].tolist() == ["x", "y", "z"]
    assert json.loads((folder / "summary.json").read_text())["unique_by"] == {"nationality": 3}
    with_column(users, "nationality", ["call ann.smith"])
    capsys.readouterr()
    assert "column nationality: contains a raw username" in fails(["--keep", "nationality"], capsys)


# --- consent and doubtful cells -----------------------------------------------------------------------------


def test_withdrawn_consent_is_not_published(here, capsys):
    folder = here / "annotations_raw" / "emolia-emo"
    users = pd.read_csv(folder / "users.csv", dtype=str, keep_default_na=False)
    name = users["username"][0]
    users.assign(consent=["False", *["True"] * (len(users) - 1)]).to_csv(folder / "users.csv", index=False)
    ratings = pd.read_csv(folder / "annotations.csv", dtype=str)
    n_withdrawn = int((ratings["username"] == name).sum())
    assert n_withdrawn
    assert anonymize.main(["--subset", "emolia-emo"]) == 0
    out = here / "annotations" / "emolia-emo"
    assert len(pd.read_csv(out / "annotations.csv")) == len(ratings) - n_withdrawn
    assert len(pd.read_csv(out / "users.csv")) == len(users) - 1
    exclusions = json.loads((out / "summary.json").read_text())["exclusions"]
    assert exclusions == [{"reason": "ratings by raters who withdrew consent", "count": n_withdrawn}]
    assert f"{n_withdrawn} ratings by raters who withdrew" in capsys.readouterr().err


def test_doubtful_cells_are_listed(here, capsys):
    folder = here / "annotations_raw" / "emolia-emo"
    users = pd.read_csv(folder / "users.csv", dtype=str, keep_default_na=False)
    name = users["username"][0]
    for table in ("users", "annotations", "flags"):
        if (folder / f"{table}.csv").is_file():
            text = pd.read_csv(folder / f"{table}.csv", dtype=str, keep_default_na=False)
            text["username"] = text["username"].replace({name: "greta.holm"})
            text.to_csv(folder / f"{table}.csv", index=False)
    flags = flags_table(EMO, (("b.mp3", "Fear", "ultimate"), "greta.holm", "what Greta heard"))
    flags.to_csv(folder / "flags.csv", index=False)
    assert anonymize.main(["--subset", "emolia-emo"]) == 0
    stderr = capsys.readouterr().err
    assert "flags.csv: review these cells before publication" in stderr
    assert "line 2, column reason: contains a possible name" in stderr
    assert "Greta" not in stderr


@pytest.mark.parametrize("word", ["nein", "N", "none", "CONSENT_REVOKED", "0"])
def test_consent_refusal_words(here, word):
    users = USERS.assign(consent=["ja", "TRUE", word])
    users.to_csv(here / "annotations_raw/emolia-emo/users.csv", index=False)
    assert anonymize.main(["--subset", "emolia-emo"]) == 0
    assert len(read(here / "annotations/emolia-emo/users.csv")) == 2


def test_invalid_consent_is_a_fault(here, capsys):
    users = USERS.assign(consent=["True", "True", "n/a"])
    users.to_csv(here / "annotations_raw/emolia-emo/users.csv", index=False)
    stderr = fails(["--subset", "emolia-emo"], capsys)
    assert "line 4, column consent: 'n/a' is neither yes nor no" in stderr
