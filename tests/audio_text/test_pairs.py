"""Loading clip–text pairs: sentences, clips, ties and invalid labels."""

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


def project(tmp_path: Path, subset: str, *lines: str, rubric: object = RUBRIC) -> Path:
    """Create a project with these labels and this rubric."""
    labels = tmp_path / "analysis_outputs" / subset / "benchmark_labels.csv"
    labels.parent.mkdir(parents=True)
    labels.write_text("\n".join(lines) + "\n", encoding="utf-8")
    variables = tmp_path / "dataset" / subset / "variables.json"
    variables.parent.mkdir(parents=True)
    variables.write_text(json.dumps(rubric))
    return tmp_path


def loaded(root: Path, subset: str) -> PairTable:
    return load_pairs(subsets()[subset], root / "analysis_outputs", root / "dataset")


def with_files(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


# --- sentences --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Affection", "Affection"),
        ("Jealousy___Envy", "Jealousy / Envy"),
        ("Emotional_Numbness", "Emotional Numbness"),
        ("Hope_Enthusiasm___Optimism", "Hope Enthusiasm / Optimism"),
    ],
)
def test_prompt_for_label(label: str, expected: str):
    assert prompt_for_label(label, EMO) == f"Speech audio in which the speaker expresses or conveys {expected}."


def test_load_pairs_takes_prompt_from_rubric(tmp_path: Path):
    root = project(
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


def test_load_pairs_keeps_numeric_levels_as_text(tmp_path: Path):
    rubric = {"TEMP": {"levels": {"05": "Zero five.", "5": "Five."}}}
    root = project(tmp_path, "emolia-dim", DIM_HEADER, "s.mp3,TEMP,05,positive,1,majority_yes,3,False", rubric=rubric)
    assert loaded(root, "emolia-dim").table["prompt"].tolist() == ["Zero five."]


def test_load_pairs_lists_levels_without_rubric(tmp_path: Path):
    root = project(
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


def test_load_pairs_rejects_empty_rubric_text(tmp_path: Path):
    line = "sample_00.mp3,TEMP,5,positive,1,majority_yes,3,False"
    root = project(tmp_path, "emolia-dim", DIM_HEADER, line, rubric={"TEMP": {"levels": {"5": " "}}})
    with pytest.raises(DataError, match=r"no rubric for TEMP level '5'"):
        loaded(root, "emolia-dim")


def test_load_pairs_rejects_null_rubric_text(tmp_path: Path):
    line = "sample_00.mp3,TEMP,5,positive,1,majority_yes,3,False"
    root = project(tmp_path, "emolia-dim", DIM_HEADER, line, rubric={"TEMP": {"levels": {"5": None}}})
    with pytest.raises(DataError, match=r"rubric"):
        loaded(root, "emolia-dim")


def test_load_pairs_without_rubric_file(tmp_path: Path):
    root = project(tmp_path, "emolia-dim", DIM_HEADER, "sample_00.mp3,TEMP,5,positive,1,majority_yes,3,False")
    (root / "dataset/emolia-dim/variables.json").unlink()
    with pytest.raises(MissingError, match=r"variables\.json does not exist"):
        loaded(root, "emolia-dim")


@pytest.mark.parametrize("text", ["{", "[]", '{"TEMP": 5}', '{"TEMP": {}}', '{"TEMP": {"levels": ["a"]}}', ""])
def test_read_rubric_rejects_invalid_file(tmp_path: Path, text: str):
    (tmp_path / "variables.json").write_text(text)
    with pytest.raises(DataError, match=r"variables\.json: 1 fault\n  line 1: is not a rubric"):
        read_rubric(tmp_path / "variables.json")


# --- labels -----------------------------------------------------------------------------------------------------


def test_load_pairs_without_labels(tmp_path: Path):
    with pytest.raises(MissingError, match=r"benchmark_labels\.csv does not exist.*`uv run analysis\.py`") as caught:
        loaded(tmp_path, "emolia-emo")
    assert caught.value.exit_code == 2


def test_load_pairs_excludes_and_counts_ties(tmp_path: Path):
    root = project(
        tmp_path,
        "emolia-emo",
        EMO_HEADER,
        "z.mp3,Joy,affirmative,Joy,1,majority_present,3,False",
        "a.mp3,Joy,affirmative,Joy,,tie,2,False",
        "m.mp3,Joy,affirmative,Joy,0,majority_absent,3,False",
        "b.mp3,Joy,affirmative,Joy,,tie,2,True",
    )
    pairs = loaded(root, "emolia-emo")
    assert pairs.table["file_name"].tolist() == ["z.mp3", "m.mp3"]
    assert pairs.table["majority_present"].tolist() == [1, 0]
    assert sum(pairs.excluded.values()) == 2


def test_load_pairs_lists_all_faults(tmp_path: Path):
    root = project(
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
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{root}/analysis_outputs/emolia-emo/benchmark_labels.csv: 5 faults"
    assert "  line 2, column majority_present: '2' is not 0, 1 or empty" in lines
    assert "  line 3, column n_raters: 'x' is not a number of raters" in lines
    assert "  line 5, column file_name: duplicate of an item on an earlier line" in lines
    assert "  line 6, column majority_present: 'yes' is not 0, 1 or empty" in lines
    assert "  line 6, column n_raters: '-1' is not a number of raters" in lines
    assert "`uv run analysis.py`" in lines[-1]
    assert caught.value.exit_code == 1


def test_load_pairs_lists_missing_columns(tmp_path: Path):
    root = project(tmp_path, "emolia-emo", "file_name,queried_emotion,n_raters", "a.mp3,Joy,3")
    with pytest.raises(DataError) as caught:
        loaded(root, "emolia-emo")
    for column in ("task_type", "source_emotion", "majority_present", "benchmark_bucket"):
        assert f"column {column}: is missing" in str(caught.value)


def test_load_pairs_without_flagged_column(tmp_path: Path):
    header = EMO_HEADER.removesuffix(",flagged")
    root = project(tmp_path, "emolia-emo", header, "a.mp3,Joy,affirmative,Joy,1,majority_present,3")
    assert loaded(root, "emolia-emo").table["flagged"].tolist() == [False]


@pytest.mark.parametrize("lines", [(EMO_HEADER,), ("",)])
def test_load_pairs_from_empty_labels(tmp_path: Path, lines: tuple[str, ...]):
    pairs = loaded(project(tmp_path, "emolia-emo", *lines), "emolia-emo")
    assert len(pairs.table) == 0
    assert sum(pairs.excluded.values()) == 0


def test_select_counts_and_renumbers(tmp_path: Path):
    rows = [f"{c}.mp3,Joy,affirmative,Joy,1,majority_present,{n},False" for c, n in zip("abcd", "1231", strict=True)]
    pairs = loaded(project(tmp_path, "emolia-emo", EMO_HEADER, *rows), "emolia-emo")
    kept = pairs.select(lambda t: t["n_raters"] >= 2, "too few").head(1)
    assert kept.table["file_name"].tolist() == ["b.mp3"]
    assert kept.table.index.tolist() == [0]
    assert kept.excluded == {**pairs.excluded, "too few": 2, "beyond --limit": 1}


# --- clips ------------------------------------------------------------------------------------------------------


def emo_row(file_name: str, source: str) -> dict[str, str]:
    return {"file_name": file_name, "queried_emotion": "Joy", "task_type": "ultimate", "source_emotion": source}


def dim_row(file_name: str, level: str, polarity: str = "positive") -> dict[str, str]:
    return {"file_name": file_name, "dimension": "TEMP", "level": level, "polarity": polarity}


def test_clip_index_prefers_exact_path(tmp_path: Path):
    with_files(tmp_path, "data/Jealousy___Envy_best/a.mp3", "data/Jealousy_&_Envy_best/a.mp3", "data/Aaa_best/a.mp3")
    assert (
        ClipIndex(tmp_path, EMO).relative_path(emo_row("a.mp3", "Jealousy___Envy")) == "data/Jealousy___Envy_best/a.mp3"
    )


def test_clip_index_ignores_punctuation_in_folders(tmp_path: Path):
    with_files(tmp_path, "data/Jealousy_&_Envy_best/a.mp3", "data/Joy_best/a.mp3", "data/Aaa_best/a.mp3")
    assert (
        ClipIndex(tmp_path, EMO).relative_path(emo_row("a.mp3", "Jealousy___Envy")) == "data/Jealousy_&_Envy_best/a.mp3"
    )


def test_clip_index_finds_unique_name_in_other_folder(tmp_path: Path):
    with_files(tmp_path, "data/Renamed/a.mp3", "data/Joy_best/b.mp3")
    assert ClipIndex(tmp_path, EMO).relative_path(emo_row("a.mp3", "Joy")) == "data/Renamed/a.mp3"


def test_clip_index_finds_other_format(tmp_path: Path):
    with_files(tmp_path, "data/Joy_best/a.flac", "data/Joy_best/a.json")
    assert ClipIndex(tmp_path, EMO).relative_path(emo_row("a.mp3", "Joy")) == "data/Joy_best/a.flac"


def test_clip_index_returns_expected_path_if_absent(tmp_path: Path):
    with_files(tmp_path, "data/Joy_best/b.mp3", "data/Joy_best/a.json")
    assert ClipIndex(tmp_path, EMO).relative_path(emo_row("a.mp3", "Joy")) == "data/Joy_best/a.mp3"
    assert ClipIndex(tmp_path / "gone", EMO).relative_path(emo_row("a.mp3", "Joy")) == "data/Joy_best/a.mp3"


def test_clip_index_tries_all_sources(tmp_path: Path):
    with_files(tmp_path, "data/Fear_best/a.mp3")
    assert ClipIndex(tmp_path, EMO).relative_path(emo_row("a.mp3", "Joy|Fear")) == "data/Fear_best/a.mp3"


def test_clip_index_needs_full_path_for_repeated_names(tmp_path: Path):
    with_files(tmp_path, "data/TEMP/5/positive/sample_00.mp3", "data/TEMP/5/negative/sample_00.mp3")
    index = ClipIndex(tmp_path, DIM)
    assert index.relative_path(dim_row("sample_00.mp3", "5")) == "data/TEMP/5/positive/sample_00.mp3"
    assert index.relative_path(dim_row("sample_00.mp3", "5", "negative")) == "data/TEMP/5/negative/sample_00.mp3"
    assert index.relative_path(dim_row("sample_00.mp3", "6")) == "data/TEMP/6/positive/sample_00.mp3"  # does not exist


@pytest.mark.parametrize(("existing", "requested"), [("1", "-1"), ("1.5", "15"), ("C", "C#")])
def test_clip_index_does_not_confuse_similar_levels(tmp_path: Path, existing: str, requested: str):
    with_files(
        tmp_path, f"data/TEMP/{existing}/positive/sample_00.mp3", f"data/TEMP/{requested}/positive/sample_99.mp3"
    )
    path = ClipIndex(tmp_path, DIM).relative_path(dim_row("sample_00.mp3", requested))
    assert path == f"data/TEMP/{requested}/positive/sample_00.mp3"


def test_clip_metadata_reads_hostile_json(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"speaker": "x\\ud800", "k\\udfff": 1}', encoding="utf-8")
    (tmp_path / "b.json").write_text("[" * 100_000, encoding="utf-8")
    pairs = PairTable(subsets()["emolia-emo"], tmp_path, pd.DataFrame(), {})
    assert pairs.clip_metadata("a.wav") == {"speaker": "x\\ud800", "k\\udfff": 1}
    assert pairs.clip_metadata("b.wav") == {}


def test_clip_index_accepts_too_long_name(tmp_path: Path):
    index = ClipIndex(tmp_path, subsets()["emolia-emo"])
    row = emo_row("x" * 300 + ".mp3", "Joy")
    assert index.relative_path(row).endswith("x.mp3")
