"""Labels into questions: sentences, clips, ties, and faults that are all named."""

import json
from pathlib import Path

import pandas as pd
import pytest

from earmark.annotation.subsets import subsets
from earmark.audio_text.pairs import ClipIndex, PairTable, load_pairs, prompt_for_label, read_rubric
from earmark.errors import DataError, MissingError

EMO, DIM = subsets()["emolia-emo"], subsets()["emolia-dim"]
EMO_HEADER = "file_name,queried_emotion,task_type,source_emotion,majority_present,benchmark_bucket,n_raters,flagged"
DIM_HEADER = "file_name,dimension,level,polarity,majority_present,benchmark_bucket,n_raters,flagged"
RUBRIC = {"TEMP": {"levels": {"5": "The speaker talks very fast."}}, "ACCT": {"levels": {"European": "European."}}}


def folder(tmp_path: Path, subset: str, *lines: str, rubric: object = RUBRIC) -> Path:
    """A project with these labels, and a rubric beside the clips."""
    labels = tmp_path / "analysis_outputs" / subset / "benchmark_labels.csv"
    labels.parent.mkdir(parents=True)
    labels.write_text("\n".join(lines) + "\n", encoding="utf-8")
    variables = tmp_path / "dataset" / subset / "variables.json"
    variables.parent.mkdir(parents=True)
    variables.write_text(json.dumps(rubric))
    return tmp_path


def loaded(root: Path, subset: str) -> PairTable:
    return load_pairs(subsets()[subset], root / "analysis_outputs", root / "dataset")


def touched(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


# --- sentences --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("Affection", "Affection"),
        ("Jealousy___Envy", "Jealousy / Envy"),
        ("Emotional_Numbness", "Emotional Numbness"),
        ("Hope_Enthusiasm___Optimism", "Hope Enthusiasm / Optimism"),
    ],
)
def test_three_underscores_read_as_a_slash_and_one_as_a_space(label: str, said: str):
    assert prompt_for_label(label, EMO) == f"Speech audio in which the speaker expresses or conveys {said}."


def test_the_sentence_about_a_dimension_is_the_rubric_of_its_level(tmp_path: Path):
    root = folder(
        tmp_path,
        "emolia-dim",
        DIM_HEADER,
        "sample_00.mp3,TEMP,5,positive,1,majority_yes,3,False",
        "sample_00.mp3,ACCT,European,negative,0,majority_no,3,True",
    )
    table = loaded(root, "emolia-dim").table
    assert table["prompt"].tolist() == ["The speaker talks very fast.", "European."]
    assert table["level"].tolist() == ["5", "European"]
    assert table["flagged"].tolist() == [False, True]
    assert table["audio_path"].tolist() == [
        "emolia-dim/data/TEMP/5/positive/sample_00.mp3",
        "emolia-dim/data/ACCT/European/negative/sample_00.mp3",
    ]


def test_a_level_that_looks_like_a_number_stays_text(tmp_path: Path):
    rubric = {"TEMP": {"levels": {"05": "Zero five.", "5": "Five."}}}
    root = folder(tmp_path, "emolia-dim", DIM_HEADER, "s.mp3,TEMP,05,positive,1,majority_yes,3,False", rubric=rubric)
    assert loaded(root, "emolia-dim").table["prompt"].tolist() == ["Zero five."]


def test_levels_without_a_rubric_are_all_named_with_file_line_dimension_and_level(tmp_path: Path):
    root = folder(
        tmp_path,
        "emolia-dim",
        DIM_HEADER,
        "sample_00.mp3,TEMP,6,positive,1,majority_yes,3,False",
        "sample_00.mp3,TEMP,5,positive,1,majority_yes,3,False",
        "sample_00.mp3,VOLU,European,negative,0,majority_no,3,False",
    )
    with pytest.raises(DataError) as caught:
        loaded(root, "emolia-dim")
    assert str(caught.value).splitlines()[:-1] == [
        f"{root}/analysis_outputs/emolia-dim/benchmark_labels.csv: 2 faults",
        "  line 2, column level: variables.json has no rubric for TEMP level '6'",
        "  line 4, column level: variables.json has no rubric for VOLU level 'European'",
    ]


def test_an_empty_rubric_text_is_no_rubric(tmp_path: Path):
    line = "sample_00.mp3,TEMP,5,positive,1,majority_yes,3,False"
    root = folder(tmp_path, "emolia-dim", DIM_HEADER, line, rubric={"TEMP": {"levels": {"5": " "}}})
    with pytest.raises(DataError, match=r"no rubric for TEMP level '5'"):
        loaded(root, "emolia-dim")


def test_a_rubric_that_is_null_is_no_rubric(tmp_path: Path):
    line = "sample_00.mp3,TEMP,5,positive,1,majority_yes,3,False"
    root = folder(tmp_path, "emolia-dim", DIM_HEADER, line, rubric={"TEMP": {"levels": {"5": None}}})
    with pytest.raises(DataError, match=r"rubric"):
        loaded(root, "emolia-dim")


def test_a_missing_rubric_file_is_something_missing(tmp_path: Path):
    root = folder(tmp_path, "emolia-dim", DIM_HEADER, "sample_00.mp3,TEMP,5,positive,1,majority_yes,3,False")
    (root / "dataset/emolia-dim/variables.json").unlink()
    with pytest.raises(MissingError, match=r"variables\.json is not there"):
        loaded(root, "emolia-dim")


@pytest.mark.parametrize("text", ["{", "[]", '{"TEMP": 5}', '{"TEMP": {}}', '{"TEMP": {"levels": ["a"]}}', ""])
def test_a_file_that_is_no_rubric_is_named(tmp_path: Path, text: str):
    (tmp_path / "variables.json").write_text(text)
    with pytest.raises(DataError, match=r"variables\.json: 1 fault\n  line 1: is no rubric"):
        read_rubric(tmp_path / "variables.json")


# --- labels -----------------------------------------------------------------------------------------------------


def test_missing_labels_say_which_command_makes_them(tmp_path: Path):
    with pytest.raises(MissingError, match=r"benchmark_labels\.csv is not there.*`uv run analysis\.py`") as caught:
        loaded(tmp_path, "emolia-emo")
    assert caught.value.exit_code == 2


def test_ties_are_left_out_and_counted_and_the_rest_keeps_its_order(tmp_path: Path):
    root = folder(
        tmp_path,
        "emolia-emo",
        EMO_HEADER,
        "z.mp3,Joy,affirmative,Joy,1,majority_present,3,False",
        "a.mp3,Joy,affirmative,Joy,,tie,2,False",
        "m.mp3,Joy,affirmative,Joy,0,majority_absent,3,False",
        "b.mp3,Joy,affirmative,Joy,,tie,2,True",
    )
    questions = loaded(root, "emolia-emo")
    assert questions.table["file_name"].tolist() == ["z.mp3", "m.mp3"]
    assert questions.table["majority_present"].tolist() == [1, 0]
    assert sum(questions.excluded.values()) == 2


def test_every_fault_of_the_labels_is_listed_at_once(tmp_path: Path):
    root = folder(
        tmp_path,
        "emolia-emo",
        EMO_HEADER,
        "a.mp3,Joy,affirmative,Joy,2,majority_present,3,False",
        "b.mp3,Joy,affirmative,Joy,1,majority_present,x,False",
        "c.mp3,Joy,affirmative,Joy,1,majority_present,3,False",
        "c.mp3,Joy,affirmative,Joy,0,majority_absent,3,False",
        "d.mp3,Joy,affirmative,Joy,yes,majority_absent,-1,False",
    )
    with pytest.raises(DataError) as caught:
        loaded(root, "emolia-emo")
    said = str(caught.value).splitlines()
    assert said[0] == f"{root}/analysis_outputs/emolia-emo/benchmark_labels.csv: 5 faults"
    assert "  line 2, column majority_present: '2' is not 0, 1 or empty" in said
    assert "  line 3, column n_raters: 'x' is not a number of people" in said
    assert "  line 5, column file_name: the same item stands on a line above" in said
    assert "  line 6, column majority_present: 'yes' is not 0, 1 or empty" in said
    assert "  line 6, column n_raters: '-1' is not a number of people" in said
    assert "`uv run analysis.py`" in said[-1]
    assert caught.value.exit_code == 1


def test_every_missing_column_is_named(tmp_path: Path):
    root = folder(tmp_path, "emolia-emo", "file_name,queried_emotion,n_raters", "a.mp3,Joy,3")
    with pytest.raises(DataError) as caught:
        loaded(root, "emolia-emo")
    for column in ("task_type", "source_emotion", "majority_present", "benchmark_bucket"):
        assert f"column {column}: is missing" in str(caught.value)


def test_labels_of_a_release_without_flags_are_not_flagged(tmp_path: Path):
    header = EMO_HEADER.removesuffix(",flagged")
    root = folder(tmp_path, "emolia-emo", header, "a.mp3,Joy,affirmative,Joy,1,majority_present,3")
    assert loaded(root, "emolia-emo").table["flagged"].tolist() == [False]


@pytest.mark.parametrize("lines", [(EMO_HEADER,), ("",)])
def test_labels_without_rows_are_no_questions(tmp_path: Path, lines: tuple[str, ...]):
    questions = loaded(folder(tmp_path, "emolia-emo", *lines), "emolia-emo")
    assert len(questions.table) == 0
    assert sum(questions.excluded.values()) == 0


def test_a_selection_is_counted_under_its_reason_and_renumbered(tmp_path: Path):
    rows = [f"{c}.mp3,Joy,affirmative,Joy,1,majority_present,{n},False" for c, n in zip("abcd", "1231", strict=True)]
    questions = loaded(folder(tmp_path, "emolia-emo", EMO_HEADER, *rows), "emolia-emo")
    kept = questions.select(lambda t: t["n_raters"] >= 2, "too few").first(1)
    assert kept.table["file_name"].tolist() == ["b.mp3"]
    assert kept.table.index.tolist() == [0]
    assert kept.excluded == {**questions.excluded, "too few": 2, "beyond --limit": 1}


# --- clips ------------------------------------------------------------------------------------------------------


def emo_row(file_name: str, source: str) -> dict[str, str]:
    return {"file_name": file_name, "queried_emotion": "Joy", "task_type": "ultimate", "source_emotion": source}


def dim_row(file_name: str, level: str, polarity: str = "positive") -> dict[str, str]:
    return {"file_name": file_name, "dimension": "TEMP", "level": level, "polarity": polarity}


def test_the_exact_path_comes_first(tmp_path: Path):
    touched(tmp_path, "data/Jealousy___Envy_best/a.mp3", "data/Jealousy_&_Envy_best/a.mp3", "data/Aaa_best/a.mp3")
    assert ClipIndex(tmp_path, EMO).path_of(emo_row("a.mp3", "Jealousy___Envy")) == "data/Jealousy___Envy_best/a.mp3"


def test_a_folder_spelt_with_an_ampersand_is_found_by_its_label(tmp_path: Path):
    touched(tmp_path, "data/Jealousy_&_Envy_best/a.mp3", "data/Joy_best/a.mp3", "data/Aaa_best/a.mp3")
    assert ClipIndex(tmp_path, EMO).path_of(emo_row("a.mp3", "Jealousy___Envy")) == "data/Jealousy_&_Envy_best/a.mp3"


def test_a_clip_in_another_folder_is_found_by_its_name_where_names_are_unique(tmp_path: Path):
    touched(tmp_path, "data/Renamed/a.mp3", "data/Joy_best/b.mp3")
    assert ClipIndex(tmp_path, EMO).path_of(emo_row("a.mp3", "Joy")) == "data/Renamed/a.mp3"


def test_a_clip_in_another_format_is_found_by_its_stem(tmp_path: Path):
    touched(tmp_path, "data/Joy_best/a.flac", "data/Joy_best/a.json")
    assert ClipIndex(tmp_path, EMO).path_of(emo_row("a.mp3", "Joy")) == "data/Joy_best/a.flac"


def test_a_clip_that_is_nowhere_is_where_it_should_be(tmp_path: Path):
    touched(tmp_path, "data/Joy_best/b.mp3", "data/Joy_best/a.json")
    assert ClipIndex(tmp_path, EMO).path_of(emo_row("a.mp3", "Joy")) == "data/Joy_best/a.mp3"
    assert ClipIndex(tmp_path / "gone", EMO).path_of(emo_row("a.mp3", "Joy")) == "data/Joy_best/a.mp3"


def test_of_several_sources_the_one_that_has_the_clip_is_taken(tmp_path: Path):
    touched(tmp_path, "data/Fear_best/a.mp3")
    assert ClipIndex(tmp_path, EMO).path_of(emo_row("a.mp3", "Joy|Fear")) == "data/Fear_best/a.mp3"


def test_where_names_repeat_a_clip_is_found_by_its_whole_path_alone(tmp_path: Path):
    touched(tmp_path, "data/TEMP/5/positive/sample_00.mp3", "data/TEMP/5/negative/sample_00.mp3")
    index = ClipIndex(tmp_path, DIM)
    assert index.path_of(dim_row("sample_00.mp3", "5")) == "data/TEMP/5/positive/sample_00.mp3"
    assert index.path_of(dim_row("sample_00.mp3", "5", "negative")) == "data/TEMP/5/negative/sample_00.mp3"
    assert index.path_of(dim_row("sample_00.mp3", "6")) == "data/TEMP/6/positive/sample_00.mp3"  # which is not there


@pytest.mark.parametrize(("there", "asked"), [("1", "-1"), ("1.5", "15"), ("C", "C#")])
def test_a_missing_clip_is_not_replaced_by_one_of_a_level_that_differs_in_signs_alone(
    tmp_path: Path, there: str, asked: str
):
    touched(tmp_path, f"data/TEMP/{there}/positive/sample_00.mp3", f"data/TEMP/{asked}/positive/sample_99.mp3")
    found = ClipIndex(tmp_path, DIM).path_of(dim_row("sample_00.mp3", asked))
    assert found == f"data/TEMP/{asked}/positive/sample_00.mp3"


def test_described_reads_json_that_no_table_could_hold(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"speaker": "x\\ud800", "k\\udfff": 1}', encoding="utf-8")
    (tmp_path / "b.json").write_text("[" * 100_000, encoding="utf-8")
    questions = PairTable(subsets()["emolia-emo"], tmp_path, pd.DataFrame(), {})
    assert questions.described("a.wav") == {"speaker": "x\\ud800", "k\\udfff": 1}
    assert questions.described("b.wav") == {}


def test_a_name_that_is_too_long_for_a_file_is_not_there(tmp_path: Path):
    index = ClipIndex(tmp_path, subsets()["emolia-emo"])
    row = emo_row("x" * 300 + ".mp3", "Joy")
    assert index.path_of(row).endswith("x.mp3")
