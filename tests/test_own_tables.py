"""Tables of any shape, from the export of a tool to a report: anonymize.py, analysis.py."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import analysis
import anonymize
from earmark.metrics import bootstrap
from tests.conftest import contents

FAST = ["--bootstrap", "50", "--no-figures", "--quiet"]
RATERS, CLIPS = 6, 30
EMOTIONS = ["anger", "fear", "joy", "neutral", "sadness"]
LEVELS = ["low", "mid", "high"]


def ratings_of_clips(seed: int = 0) -> pd.DataFrame:
    """Ratings of every kind of scale by six raters; one in ten is missing."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=CLIPS)
    rows = []
    for clip in range(CLIPS):
        for rater in range(RATERS):
            score = int(np.clip(np.rint(3 + truth[clip] + rng.normal(0, 0.7)), 1, 5))
            rows.append(
                {
                    "file": f"clip_{clip:02}.wav",
                    "who": f"Rater{rater}@uni.example",
                    "arousal": str(score) if rng.random() > 0.1 else "",
                    "heat": LEVELS[(score - 1) // 2],
                    "emotion": EMOTIONS[score - 1],
                    "angry": "yes" if score > 3 else "no",
                    "speaker": f"s{clip % 3}",
                }
            )
    return pd.DataFrame(rows)


SCALES = {
    "interval": ["--rating", "arousal", "--scale", "interval"],
    "ordinal": ["--rating", "heat", "--scale", "ordinal", "--order", ",".join(LEVELS)],
    "nominal": ["--rating", "emotion", "--scale", "nominal"],
    "binary": ["--rating", "angry", "--scale", "binary", "--positive", "yes"],
}
TABLE = ["--table", "ratings.csv", "--item", "file", "--rater", "who"]
HEADLINE = {
    "interval": "krippendorff_alpha_interval",
    "ordinal": "krippendorff_alpha_ordinal",
    "nominal": "krippendorff_alpha_nominal",
    "binary": "krippendorff_alpha_binary",
}
LABEL = {
    "interval": "mean_rating",
    "ordinal": "median_level",
    "nominal": "majority_class",
    "binary": "majority_present",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with ratings.csv."""
    monkeypatch.chdir(tmp_path)
    ratings_of_clips().to_csv("ratings.csv", index=False)
    return tmp_path


def summary(name: str) -> dict:
    with open(f"analysis_outputs/{name}/summary.json", encoding="utf-8") as file:  # noqa: PTH123
        return json.load(file)


@pytest.mark.parametrize("scale", SCALES)
def test_one_command_analyses_a_table_of_each_scale(here, capsys, scale):
    assert analysis.main([*TABLE, *SCALES[scale], *FAST]) == 0
    report = capsys.readouterr().out
    assert "# Annotation report" in report
    assert "## ratings" in report
    assert "emolia" not in report
    result = summary("ratings")
    alpha = result["agreement"][HEADLINE[scale]]
    assert alpha["low"] < alpha["value"] < alpha["high"]
    assert result["annotators"] == [f"rater_{number}" for number in range(RATERS)]
    labels = pd.read_csv("analysis_outputs/ratings/benchmark_labels.csv")
    assert len(labels) == CLIPS
    assert LABEL[scale] in labels
    assert {"report.md", "report.tex", "subset.toml"} <= {
        path.name for path in (here / "analysis_outputs/ratings").iterdir()
    }
    assert not (here / "analysis_outputs/report.md").exists()


@pytest.mark.parametrize(
    "excluded", [["--exclude-rater", "Rater3@uni.example"], ["--exclude-rater=Rater3@uni.example"]]
)
@pytest.mark.parametrize("scale", SCALES)
def test_names_of_raters_reach_no_output(here, scale, excluded):
    assert analysis.main([*TABLE, *SCALES[scale], "--bootstrap", "50", *excluded]) == 0
    for path, content in contents(here / "analysis_outputs").items():
        assert b"uni.example" not in content, path


def test_names_of_raters_in_the_items_are_a_warning(here, capsys):
    table = pd.read_csv("ratings.csv", dtype=str)
    first = table["file"] == "clip_00.wav"
    table.assign(file=table["file"].where(~first, "rater0/clip_00.wav")).to_csv("ratings.csv", index=False)
    loud = [flag for flag in FAST if flag != "--quiet"]
    assert analysis.main([*TABLE, *SCALES["nominal"], *loud]) == 0
    assert "ratings: 1 of 30 values of column file contain the name of a rater" in capsys.readouterr().err
    assert analysis.main([*TABLE, *SCALES["nominal"], *loud, "--show-names"]) == 0
    assert "contain the name" not in capsys.readouterr().err


def test_nothing_without_meaning_is_printed_for_an_interval_scale(here, capsys):
    assert analysis.main([*TABLE, *SCALES["interval"], *FAST]) == 0
    report = capsys.readouterr().out.casefold()
    for word in ("present", "majority", "kappa", "dawid", "prior", "emolia"):
        assert word not in report


def test_table_of_another_scale_does_not_stay(here):
    for scale, has_confusions in (("nominal", True), ("interval", False)):
        assert analysis.main([*TABLE, *SCALES[scale], *FAST]) == 0
        assert (here / "analysis_outputs/ratings/rater_confusion.csv").exists() == has_confusions


def test_same_ratings_in_every_format_give_the_same_numbers(here):
    pytest.importorskip("pyarrow")
    table = pd.read_csv("ratings.csv", dtype=str, keep_default_na=False)
    table.to_csv("semicolons.csv", sep=";", index=False, encoding="utf-8-sig")
    table.to_csv("tabs.tsv", sep="\t", index=False, encoding="utf-16")
    table.to_parquet("ratings.parquet")
    values = []
    for file in ("ratings.csv", "semicolons.csv", "tabs.tsv", "ratings.parquet"):
        assert analysis.main([*TABLE, "--table", file, "--name", "same", *SCALES["nominal"], *FAST]) == 0
        values.append(summary("same")["agreement"])
    assert values[1:] == values[:-1]


def test_item_columns_and_agreement_by_one_of_them(here, capsys):
    long = pd.read_csv("ratings.csv", dtype=str, keep_default_na=False)
    both = pd.concat([long.assign(question="hot"), long.assign(question="loud")])
    both.to_csv("two.csv", index=False)
    arguments = ["--table", "two.csv", "--item", "file", "question", "--rater", "who", "--by", "question"]
    for scale in SCALES:
        assert analysis.main([*arguments, "--name", scale, *SCALES[scale], *FAST]) == 0
        rows = summary(scale)["slices"]["question"]
        assert [row["question"] for row in rows] == ["hot", "loud"]
        assert rows[0][HEADLINE[scale]]["value"] == rows[1][HEADLINE[scale]]["value"]
    assert "Agreement by question" in capsys.readouterr().out


def test_by_a_column_of_the_table_that_is_constant_within_items(here):
    assert analysis.main([*TABLE, *SCALES["ordinal"], "--by", "speaker", *FAST]) == 0
    assert [row["speaker"] for row in summary("ratings")["slices"]["speaker"]] == ["s0", "s1", "s2"]


def test_by_a_column_that_varies_within_items_is_a_fault(here, capsys):
    assert analysis.main([*TABLE, *SCALES["nominal"], "--by", "heat", *FAST]) == 1
    assert "column heat: has several values for" in capsys.readouterr().err
    assert not (here / "analysis_outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--scale", "ordinal", "--rating", "heat"], 2, "needs --order LOW,…,HIGH, the levels from low to high; the "),
        (["--scale", "ordinal", "--rating", "heat", "--order", "low,high"], 1, "'mid' is not one of low, high"),
        (["--scale", "interval", "--rating", "emotion"], 1, "is not a number, which an interval scale needs"),
        (["--scale", "binary", "--rating", "angry", "--positive", "ja"], 1, "no rating is 'ja'; the ratings are 'no'"),
        (["--scale", "binary", "--rating", "heat", "--positive", "high"], 1, "two levels, but there are 3 different"),
        (["--scale", "binary", "--rating", "angry"], 1, "--positive: is missing: the level that counts as present"),
        (["--scale", "nominal", "--rating", "speaker", "--item", "who"], 1, "'who' is also the column of the rater"),
        (["--scale", "nominal", "--rating", "mood"], 1, "column mood: is missing; the header has file, who, arousal"),
        (["--scale", "nominal"], 2, "needs --rating. Its columns are file, who, arousal, heat"),
        (["--scale", "nominal", "--rating", "emotion", "--rater", "file"], 1, "'file' is also the column of the rater"),
        (["--scale", "nominal", "--rating", "emotion", "--table", "none.csv"], 2, "--table none.csv: no such file"),
        (["--scale", "nominal", "--rating", "emotion", "--name", "emolia-emo"], 2, "the name of a published subset"),
        (["--scale", "nominal", "--rating", "emotion", "--subset-file", "x.toml"], 2, "cannot be combined with"),
        (["--scale", "nominal", "--rating", "emotion", "--map", "glee=joy"], 2, "neither a column nor a rating"),
        (["--scale", "nominal", "--rating", "emotion", "--trimmed-mean", "0.1"], 2, "nominal ratings"),
        (["--scale", "nominal", "--rating", "emotion", "--ties", "absent"], 2, "no decision between present and"),
        (
            ["--scale", "nominal", "--rating", "emotion", "--by", "who"],
            1,
            "--by: 'who' is also the column of the rater",
        ),
        (["--scale", "nominal", "--rating", "emotion", "--map", "who=name"], 1, "--map renamed it; its name is name"),
    ],
)
def test_wrong_description_is_named_and_nothing_is_written(here, capsys, arguments, code, message):
    assert analysis.main([*TABLE, *arguments, *FAST]) == code
    assert message in capsys.readouterr().err
    assert not (here / "analysis_outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trimmed-mean", "0.5"], "must be below 0.5, since it is left out at either end, not 0.5"),
        (["--gold", "gold.csv", "--gold-tolerance", "-1"], "must be at least 0, not -1"),
        (["--gold", "gold.csv", "--min-gold-rate", "70"], "must be above 0 and at most 1, not 70"),
    ],
)
def test_value_without_meaning_is_wrong_usage(here, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        analysis.main([*TABLE, *SCALES["interval"], *FAST, *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("script", [analysis, anonymize], ids=["analysis", "anonymize"])
@pytest.mark.parametrize(
    ("content", "message"),
    [("", "line 1: is empty"), ("file,who,emotion\n", "line 1: has no ratings"), ("\n\n", "line 1: is empty")],
)
def test_table_without_rows_is_named(here, capsys, script, content, message):
    (here / "ratings.csv").write_text(content)
    assert script.main([*TABLE, *SCALES["nominal"]]) == 1
    assert message in capsys.readouterr().err
    assert not (here / "analysis_outputs").exists()
    assert not (here / "annotations/ratings").exists()


def test_table_with_a_column_for_each_rater_is_named_without_addresses(here, capsys):
    table = pd.read_csv("ratings.csv", dtype=str)
    table.pivot(index="file", columns="who", values="emotion").to_csv("ratings.csv")
    assert analysis.main([*TABLE, *SCALES["nominal"], *FAST]) == 1
    stderr = capsys.readouterr().err
    assert "is missing; the header has file, 6 e-mail addresses" in stderr
    assert "table.melt(['file'], var_name='who', value_name='emotion')" in stderr
    assert "uni.example" not in stderr


def test_failed_run_leaves_earlier_outputs_as_they_were(here):
    assert analysis.main([*TABLE, *SCALES["nominal"], *FAST]) == 0
    before = contents(here / "analysis_outputs")
    table = pd.read_csv("ratings.csv", dtype=str, keep_default_na=False)
    table.assign(file="").to_csv("ratings.csv", index=False)
    assert analysis.main([*TABLE, *SCALES["nominal"], *FAST]) == 1
    assert contents(here / "analysis_outputs") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(who="x"), "every rating is by the same rater; agreement needs two raters"),
        (lambda t: t.assign(emotion="joy"), "every rating is 'joy'; agreement needs two different ratings"),
        (lambda t: t.assign(who=t["file"]), "no item was rated by two raters"),
        (lambda t: t.assign(file=""), "is empty; key columns need a value"),
        (lambda t: t.iloc[:0], "line 1: has no ratings"),
        (lambda t: t.assign(emotion=""), "line 1: has no ratings"),
    ],
    ids=["one rater", "one class", "item as rater", "no items", "no rows", "no rating"],
)
def test_table_without_agreement(here, capsys, change, message):
    change(pd.read_csv("ratings.csv", dtype=str, keep_default_na=False)).to_csv("ratings.csv", index=False)
    assert analysis.main([*TABLE, *SCALES["nominal"], *FAST]) == 1
    assert message in capsys.readouterr().err
    assert not (here / "analysis_outputs").exists()


def test_flags_without_a_table_need_one(here, capsys):
    assert analysis.main(["--scale", "nominal"]) == 2
    assert capsys.readouterr().err == "--scale needs --table FILE, the table of ratings.\n"


def test_signature_covers_what_the_ratings_mean(here):
    signatures = []
    for flags in (
        ["--rating", "heat", "--scale", "ordinal", "--order", "low,mid,high"],
        ["--rating", "heat", "--scale", "ordinal", "--order", "mid,low,high"],
        ["--rating", "heat", "--scale", "nominal"],
        ["--rating", "emotion", "--scale", "nominal"],
    ):
        assert analysis.main([*TABLE, *flags, "--name", "same", *FAST]) == 0
        found = summary("same")
        signatures.append(found["signature"].partition("parameters:")[2][:8])
        assert found["parameters"]["table"]["rating"] == flags[1]
    assert len(set(signatures)) == 4


def test_n_of_a_mean_over_pairs_counts_pairs_with_a_value(here):
    """Raters b and c, and a and c, gave one class to their common items, so that their kappa is undefined."""
    rows = [(f"{i}.wav", rater, "x") for i in range(4) for rater in "abc"]
    rows += [(f"{i}.wav", rater, "xy"[(i + (rater == "b")) % 2]) for i in range(4, 9) for rater in "ab"]
    pd.DataFrame(rows, columns=["file", "who", "kind"]).to_csv("ratings.csv", index=False)
    assert analysis.main([*TABLE, "--rating", "kind", "--scale", "nominal", *FAST]) == 0
    agreement = summary("ratings")["agreement"]
    assert sum(pair["cohen_kappa"]["value"] is not None for pair in agreement["pairs"].values()) == 1
    assert (agreement["cohen_kappa_mean"]["n"], len(agreement["pairs"])) == (1, 3)


def test_subset_beside_a_table_is_wrong_usage(here, capsys):
    assert analysis.main([*TABLE, *SCALES["interval"], "--subset", "emolia-emo", *FAST]) == 2
    assert "--subset emolia-emo cannot be combined with --table" in capsys.readouterr().err
    assert not (here / "analysis_outputs").exists()


def test_ten_thousand_raters(here):
    table = pd.DataFrame(
        {
            "file": [f"c{i // 5}" for i in range(10_000)],
            "who": [f"w{i}" for i in range(10_000)],
            "emotion": [EMOTIONS[(i // 5 + (i % 4 == 0)) % 5] for i in range(10_000)],
        }
    )
    table.to_csv("ratings.csv", index=False)
    assert analysis.main([*TABLE, *SCALES["nominal"], *FAST]) == 0
    result = summary("ratings")
    assert len(result["annotators"]) == 10_000
    assert result["warnings"] == [
        "each of the 10,000 raters has a single rating; check that who is the column of the rater"
    ]


# --- subset files and pseudonyms ----------------------------------------------------------------------------

SUBSET_FILE = """[arousal]
scale = "interval"
key = ["file"]
columns = { rater = "who", rating = "arousal" }

[heat]
scale = "ordinal"
levels = ["low", "mid", "high"]
key = ["file"]
columns = { rater = "who", rating = "heat" }
"""


def test_subset_file_for_anonymize_and_analysis(here):
    (here / "my.toml").write_text(SUBSET_FILE)
    described = ["--subset-file", "my.toml", "--subset", "arousal", "--table", "ratings.csv"]
    assert analysis.main([*described, *FAST]) == 0
    direct = summary("arousal")["agreement"]
    shutil.rmtree("analysis_outputs")
    assert anonymize.main([*described, "--quiet"]) == 0
    published = pd.read_csv("annotations/arousal/annotations.csv")
    assert list(published.columns) == ["file", "username", "rating"]
    for path, content in contents(here / "annotations").items():
        assert b"uni.example" not in content, path
    for arguments in (["--subset-file", "my.toml", "--subset", "arousal"], ["--subset", "arousal"], []):
        assert analysis.main([*arguments, *FAST]) == 0
        values = summary("arousal")["agreement"]
        assert values["krippendorff_alpha_interval"] == direct["krippendorff_alpha_interval"]


def test_subset_file_with_two_subsets_needs_one_for_a_table(here, capsys):
    (here / "my.toml").write_text(SUBSET_FILE)
    assert analysis.main(["--subset-file", "my.toml", "--table", "ratings.csv", *FAST]) == 2
    assert "the file describes arousal, heat; add --subset NAME" in capsys.readouterr().err


def test_wrong_subset_file_is_a_table_of_faults_and_help_still_works(here, capsys):
    (here / "my.toml").write_text('[arousal]\nscale = ["1", "2"]\ncolour = 3\n')
    assert analysis.main(["--subset-file", "my.toml", *FAST]) == 1
    error = capsys.readouterr().err
    assert "my.toml: 3 faults" in error
    assert "line 2, column arousal.scale: must be the kind of scale" in error
    assert "line 3, column arousal.colour: is not a key of a subset" in error
    with pytest.raises(SystemExit) as ended:
        analysis.main(["--help", "--subset-file", "my.toml"])
    assert ended.value.code == 0


def test_pseudonyms_of_an_own_table_are_stable(here):
    table = pd.read_csv("ratings.csv", dtype=str, keep_default_na=False)
    arguments = ["--table", "ratings.csv", "--item", "file", "--rater", "who", *SCALES["nominal"], "--quiet"]
    assert anonymize.main(arguments) == 0
    first = pd.read_csv("annotations_raw/ratings/_anon_map.csv")
    more = table[table["who"].str.startswith("Rater0")].assign(who="Another@uni.example")
    pd.concat([table, more]).to_csv("ratings.csv", index=False)
    assert anonymize.main(arguments) == 0
    second = pd.read_csv("annotations_raw/ratings/_anon_map.csv")
    assert second.head(len(first)).equals(first)
    assert second.iloc[-1].tolist() == ["Another@uni.example", "user_6"]


# --- a spreadsheet and Label Studio -------------------------------------------------------------------------

SPREADSHEET = """annotation_id;username;source_emotion;queried_emotion;task_type;file_name;rating;reaction_time_ms;\
sample_time_ms;created_at
a1;j.rater@uni.example;Anger;Anger;affirmative;c0.mp3;schwach;1688;2000;03.03.2025 09:04
a2;B.Rater@uni.example;Anger;Anger;affirmative;c0.mp3;stark;2156;2000;03.03.2025 09:03
a3;l.rater@uni.example;Anger;Anger;affirmative;c0.mp3;schwach;201;2000;2025-03-03T09:07:00Z
a4;j.rater@uni.example;Anger;Joy;contrastive_1;c0.mp3;Nicht vorhanden;2031;2000;45719,39097
a4;j.rater@uni.example;Anger;Joy;contrastive_1;c0.mp3;Nicht vorhanden;2031;2000;45719,39097
a5;b.rater@uni.example;Anger;Joy;contrastive_1;c0.mp3;NA;2095;2000;03.03.2025 09:09
a6;l.rater@uni.example;Anger;Joy;contrastive_1;c0.mp3;;2095;2000;03/03/2025 09:41 AM
"""
USERS = "username;age\nj.rater@uni.example;49\nb.rater@uni.example;25\nl.rater@uni.example;55\n"
READING = [
    "--map", "schwach=weakly_present", "stark=strongly_present", "Nicht vorhanden=not_present",
    "--missing", "NA", "--day-first", "--month-first", "--ignore-case", "--drop-identical",
]  # fmt: skip


@pytest.fixture
def spreadsheet(here):
    """A German spreadsheet export in annotations_raw/emolia-emo."""
    folder = here / "annotations_raw" / "emolia-emo"
    folder.mkdir(parents=True)
    (folder / "annotations.csv").write_text(SPREADSHEET, encoding="utf-8-sig")
    (folder / "users.csv").write_text(USERS, encoding="utf-8-sig")
    return here


def test_spreadsheet_faults_name_every_flag_that_reads_it(spreadsheet, capsys):
    assert anonymize.main([]) == 1
    error = capsys.readouterr().err
    for flag in ("--map", "--missing NA", "--missing reads", "--day-first", "--month-first", "--ignore-case"):
        assert flag in error
    assert "--drop-identical" in error
    assert len(error.splitlines()) < 30
    assert not (spreadsheet / "annotations").exists()


def test_spreadsheet_is_read_with_these_flags(spreadsheet):
    assert anonymize.main([*READING, "--quiet"]) == 0
    table = pd.read_csv("annotations/emolia-emo/annotations.csv", dtype=str)
    assert table[["username", "rating", "created_at"]].to_numpy().tolist() == [
        ["user_1", "weakly_present", "2025-03-03 09:04:00"],
        ["user_0", "strongly_present", "2025-03-03 09:03:00"],
        ["user_2", "weakly_present", "2025-03-03T09:07:00Z"],
        ["user_1", "not_present", "2025-03-03 09:22:59"],
    ]
    with open("annotations/emolia-emo/summary.json", encoding="utf-8") as file:  # noqa: PTH123
        written = json.load(file)
    assert {one["reason"]: one["count"] for one in written["exclusions"]} == {
        "rows without a rating": 2,
        "lines identical to an earlier line (--drop-identical)": 1,
    }
    assert written["parameters"]["missing"] == ["NA"]
    assert written["parameters"]["day_first"] is True
    assert analysis.main(FAST) == 0
    assert summary("emolia-emo")["ratings_used"] == 4


def test_label_studio_export_needs_only_the_scale(here):
    table = pd.read_csv("ratings.csv", dtype=str)
    tasks = []
    for number, (clip, rows) in enumerate(table.groupby("file")):
        annotations = [
            {
                "id": 100 * number + at,
                "completed_by": {"id": at, "email": row.who},
                "created_at": f"2026-05-01T10:00:{at:02}Z",
                "result": [
                    {"from_name": "mood", "to_name": "audio", "type": "choices", "value": {"choices": [row.emotion]}}
                ],
            }
            for at, row in enumerate(rows.itertuples())
        ]
        tasks.append({"id": number, "data": {"audio": f"/data/upload/1/{clip}"}, "annotations": annotations})
    (here / "export.json").write_text(json.dumps(tasks))
    assert analysis.main(["--table", "export.json", "--scale", "nominal", *FAST]) == 0
    assert analysis.main([*TABLE, *SCALES["nominal"], *FAST]) == 0
    alpha = "krippendorff_alpha_nominal"
    assert summary("export")["agreement"][alpha] == summary("ratings")["agreement"][alpha]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("export.json", '[{"clip": "a.wav"}]', "line 1: is not a JSON export of Label Studio"),
        ("export.json", "[]", "line 1: is not a JSON export of Label Studio"),
        ("export.json", '{"a": 1}\n{"a": 2}', "line 2: is not JSON"),
        ("export.jsonl", '{"a": 1}', "line 1: is JSON Lines"),
        ("export.csv", b"file,who\na,\xe4\n", "line 2: byte 0xe4 is not UTF-8"),
    ],
)
def test_unreadable_file_is_named_before_missing_flags(here, capsys, name, content, message):
    (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert analysis.main(["--table", name, "--scale", "nominal"]) == 1
    assert message in capsys.readouterr().err


def test_json_of_another_tool_is_named(here, capsys):
    (here / "export.json").write_text(json.dumps([{"clip": "a.wav", "votes": {"ann": "joy"}}]))
    arguments = ["--table", "export.json", "--item", "clip", "--rater", "who", "--rating", "x", "--scale", "nominal"]
    assert analysis.main(arguments) == 1
    assert "export.json: 1 fault\n  line 1: is not a JSON export of Label Studio" in capsys.readouterr().err


# --- machines, quality items, new raters --------------------------------------------------------------------


def with_machines(table: pd.DataFrame) -> pd.DataFrame:
    """The table with two machines: one that repeats the first rater, one that guesses."""
    first = table[table["who"].str.startswith("Rater0")]
    guesses = first["emotion"].sample(frac=1, random_state=0).to_numpy()
    return pd.concat([table, first.assign(who="parrot"), first.assign(who="guess", emotion=guesses)])


def test_machines_enter_no_label_and_are_compared_with_people(here, capsys):
    table = pd.read_csv("ratings.csv", dtype=str, keep_default_na=False)
    with_machines(table).to_csv("mixed.csv", index=False)
    assert analysis.main([*TABLE, *SCALES["nominal"], *FAST]) == 0
    arguments = ["--table", "mixed.csv", *TABLE[2:], "--name", "mixed", *SCALES["nominal"], *FAST]
    capsys.readouterr()
    assert analysis.main([*arguments, "--machine-rater", "parrot", "guess"]) == 0
    report = capsys.readouterr().out
    assert "### Machines among the raters" in report
    people, mixed = summary("ratings"), summary("mixed")
    assert mixed["agreement"] == people["agreement"]
    labels = [pd.read_csv(f"analysis_outputs/{name}/benchmark_labels.csv") for name in ("ratings", "mixed")]
    assert labels[0].equals(labels[1])
    agreement = {one["machine"]: one["agreement"][0] for one in mixed["machines"]}
    assert agreement["parrot"]["human_machine"]["value"] > agreement["parrot"]["human_human"]["value"]
    assert agreement["guess"]["difference"]["high"] < 0


@pytest.mark.parametrize("by_column", [False, True], ids=["file", "column"])
def test_quality_items_leave_careless_raters_out(here, capsys, by_column):
    table = pd.read_csv("ratings.csv", dtype=str, keep_default_na=False)
    gold = table.groupby("file")["emotion"].agg(lambda cells: cells.mode()[0]).head(12)
    careless = table["who"].str.startswith("Rater5")
    wrong = table["file"].map(gold).map(dict(zip(EMOTIONS, [*EMOTIONS[1:], EMOTIONS[0]], strict=True)))
    table.loc[careless, "emotion"] = wrong[careless].fillna(table["emotion"])
    table["expected"] = table["file"].map(gold).fillna("")
    table.to_csv("ratings.csv", index=False)
    gold.rename("expected").to_csv("gold.csv")
    source = ["--gold-column", "expected"] if by_column else ["--gold", "gold.csv"]
    assert analysis.main([*TABLE, *SCALES["nominal"], *FAST, *source, "--min-gold-rate", "0.3"]) == 0
    assert "### Quality items" in capsys.readouterr().out
    result = summary("ratings")
    assert result["gold"]["items"] == 12
    assert "rater_5" in {one["username"] for one in result["gold"]["raters"] if one["excluded"]}
    assert "rater_5" not in result["annotators"]
    assert result["items_total"] == CLIPS - 12


@pytest.mark.parametrize("name", ["RATER3@UNI.EXAMPLE", "  RATER3@UNI.EXAMPLE "])
@pytest.mark.parametrize("flag", ["--exclude-rater", "--machine-rater"])
def test_raters_are_named_in_another_case_with_ignore_case(here, flag, name):
    arguments = [*TABLE, *SCALES["nominal"], *FAST, flag, name]
    assert analysis.main(arguments) == 2
    assert analysis.main([*arguments, "--ignore-case"]) == 0
    result = summary("ratings")
    assert len(result["annotators"]) == RATERS - 1
    if flag == "--exclude-rater":
        assert "RATER3" not in json.dumps(result).upper()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gold", "all.csv"], "no ratings by people are left"),
        (["--exclude-rater", *(f"Rater{n}@uni.example" for n in range(1, RATERS))], "one rater is left"),
        (["--machine-rater", *(f"Rater{n}@uni.example" for n in range(1, RATERS))], "one rater is left"),
    ],
)
def test_fewer_than_two_people_are_named(here, capsys, arguments, message):
    table = pd.read_csv("ratings.csv", dtype=str)
    table[["file"]].drop_duplicates().assign(expected="joy").to_csv("all.csv", index=False)
    assert analysis.main([*TABLE, *SCALES["nominal"], *FAST, *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (here / "analysis_outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--min-gold-rate", "0.5"], "need --gold FILE or --gold-column COLUMN"),
        (["--gold", "gold.csv", "--gold-column", "x"], "both name the quality items"),
        (["--machine-rater", "nobody"], "--machine-rater nobody: no ratings by this rater"),
        (["--gold-column", "mood"], "--gold-column mood: the table of ratings has no such column"),
        (["--gold-column", "emotion", "--gold-tolerance", "1"], "--gold-tolerance: ratings has nominal ratings"),
    ],
)
def test_checks_of_raters_that_cannot_apply(here, capsys, arguments, message):
    assert analysis.main([*TABLE, *SCALES["nominal"], *FAST, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (here / "analysis_outputs").exists()


@pytest.mark.parametrize("scale", SCALES)
def test_intervals_for_new_raters_are_wider_and_say_so(here, capsys, scale):
    table = pd.read_csv("ratings.csv", dtype=str, keep_default_na=False)
    guesses = table["who"].str.startswith("Rater5")  # a rater unlike the others, so that the choice of raters matters
    for number, column in enumerate(("arousal", "heat", "emotion", "angry")):
        table.loc[guesses, column] = table.loc[guesses, column].sample(frac=1, random_state=number).to_numpy()
    table.to_csv("ratings.csv", index=False)
    widths = {}
    for resample in ("clips", "both"):
        capsys.readouterr()
        assert analysis.main([*TABLE, *SCALES[scale], *FAST, "--bootstrap", "200", "--resample", resample]) == 0
        report = capsys.readouterr().out
        alpha = summary("ratings")["agreement"][HEADLINE[scale]]
        widths[resample] = alpha["high"] - alpha["low"]
    assert widths["both"] > widths["clips"]
    assert "cover the choice of clips and of raters" in report
    assert "ci:clip-bootstrap-200+rater-jackknife" in report


@pytest.mark.parametrize("scale", SCALES)
def test_grouped_clips_give_the_same_numbers(here, monkeypatch, scale):
    results = []
    for smallest in (bootstrap.MIN_GROUPED, 0):
        monkeypatch.setattr(bootstrap, "MIN_GROUPED", smallest)
        assert analysis.main([*TABLE, *SCALES[scale], "--by", "speaker", *FAST]) == 0
        results.append(summary("ratings"))
    for name in ("agreement", "raters", "slices"):
        assert json.dumps(results[0][name], sort_keys=True) == json.dumps(results[1][name], sort_keys=True)
