"""Files of several sentences: CSV, TOML, templates and faults."""

from pathlib import Path

import pytest

from earmark.annotation.subsets import Subset
from earmark.audio_text.wordings import Wordings, label_columns, read_wordings, shared_sentences
from earmark.errors import DataError, MissingError

CLASSES = [("Anger",), ("Joy",)]


def read(tmp_path: Path, text: str, name: str = "wordings.csv", columns=("label",), labels=CLASSES) -> Wordings:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_wordings(path, columns, labels)


def faults(tmp_path: Path, text: str, name: str = "wordings.csv", columns=("label",), labels=CLASSES) -> list[str]:
    with pytest.raises(DataError) as caught:
        read(tmp_path, text, name, columns, labels)
    return [str(fault).strip() for own in caught.value.faults.values() for fault in own]


def test_read_wordings_numbers_sentences_in_file_order(tmp_path: Path):
    text = "label;sentence\nJoy;A happy voice.\nAnger;An angry voice.\nJoy;Laughter, joy.\n"
    found = read(tmp_path, text)
    assert found.sentences == {("Anger",): ("An angry voice.",), ("Joy",): ("A happy voice.", "Laughter, joy.")}
    assert (found.count, found.fewer) == (2, {"Anger": 1})


def test_read_wordings_from_toml(tmp_path: Path):
    text = 'Anger = ["An angry voice."]\nJoy = [\n  "A happy voice.",\n  "Laughter.",\n]\n'
    assert read(tmp_path, text, "w.toml").sentences[("Joy",)] == ("A happy voice.", "Laughter.")


def test_read_wordings_fills_label_into_sentence_for_every_label(tmp_path: Path):
    found = read(tmp_path, "sentence\nA voice of {label}.\n", labels=[("Jealousy___Envy",), ("Joy",)])
    assert found.sentences[("Jealousy___Envy",)] == ("A voice of Jealousy / Envy.",)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sentence\nFast.\nHurried.\n", "w.csv"),
        ("label,sentence\n,Fast.\n,Hurried.\n", "w.csv"),
        ('sentences = ["Fast.", "Hurried."]\n', "w.toml"),
    ],
)
def test_read_wordings_of_one_sentence_for_all(tmp_path: Path, text: str, name: str):
    assert read(tmp_path, text, name, columns=(), labels=[()]).sentences == {(): ("Fast.", "Hurried.")}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dimension,level,sentence\nTEMP,5,Fast.\nTEMP,1,Slow.\n", "w.csv"),
        ('[TEMP]\n5 = ["Fast."]\n1 = ["Slow."]\n', "w.toml"),
        ('TEMP.5 = ["Fast."]\nTEMP.1 = ["Slow."]\n', "w.toml"),
    ],
)
def test_read_wordings_of_rubric(tmp_path: Path, text: str, name: str):
    found = read(tmp_path, text, name, columns=("dimension", "level"), labels=[("TEMP", "1"), ("TEMP", "5")])
    assert found.sentences == {("TEMP", "1"): ("Slow.",), ("TEMP", "5"): ("Fast.",)}


def test_read_wordings_lists_all_faults_with_lines(tmp_path: Path):
    text = "label,sentence\nFear,An afraid voice.\nJoy,\nJoy,A happy voice.\nJoy,A happy voice.\n,Hm.\n"
    assert faults(tmp_path, text) == [
        "line 1: has no sentence for Anger",
        "line 2, column label: 'Fear' is not a label of the subset; its labels are Anger, Joy",
        "line 3, column sentence: is empty",
        "line 5, column sentence: repeats the sentence of line 4 for the same label",
        "line 6, column label: is empty; name the label of the sentence, or write {label} in it",
    ]


def test_read_wordings_names_lines_of_toml(tmp_path: Path):
    text = 'Anger = ["An angry voice."]\nJoy = "A happy voice."\nFear = ["Afraid.", "Afraid."]\n'
    assert faults(tmp_path, text, "w.toml") == [
        'line 2, column Joy: must be a list of sentences such as ["…", "…"]',
        "line 3, column label: 'Fear' is not a label of the subset; its labels are Anger, Joy",
        "line 3, column label: 'Fear' is not a label of the subset; its labels are Anger, Joy",
    ]


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        ("label,text\nJoy,A.\n", "w.csv", "line 1, column sentence: is missing; the header has label, text"),
        ("", "w.csv", "line 1, column sentence: is missing; the header has no columns"),
        ("Joy = [", "w.toml", "is not UTF-8 TOML"),
        ("Joy = []\nAnger = ['A.']\n", "w.toml", "line 1, column sentence: is empty"),
    ],
)
def test_read_wordings_rejects_other_files(tmp_path: Path, text: str, name: str, problem: str):
    assert any(problem in fault for fault in faults(tmp_path, text, name))


def test_read_wordings_rejects_labels_where_there_are_none(tmp_path: Path):
    found = faults(tmp_path, "label,sentence\nJoy,A happy voice.\n", columns=(), labels=[()])
    assert "line 2, column label: 'Joy' is a label, but the subset has none" in found


def test_read_wordings_without_file(tmp_path: Path):
    with pytest.raises(MissingError, match="no such file"):
        read_wordings(tmp_path / "none.csv", ("label",), CLASSES)


def test_shared_sentences_names_classes():
    wordings = Wordings({("Joy",): ("A voice.",), ("Fear",): ("Afraid.", "A voice.")})
    assert shared_sentences(wordings) == ["A voice. (Joy, Fear)"]


def test_label_columns():
    prompt = {"sentence": "A {label} {speaker} voice.", "label": "trait"}
    assert label_columns(Subset("a", "interval", ("file", "trait", "speaker"), prompt=prompt)) == ("trait", "speaker")
    assert label_columns(Subset("a", "nominal", ("file",), prompt={"sentence": "A {label} voice."})) == ()
    assert label_columns(Subset("a", "interval", ("file",))) == ()
