"""Descriptions of subsets: what is accepted, and every fault of an invalid one with its line."""

from dataclasses import replace

import pytest

from earmark.annotation.subset_files import as_published, parse_subsets, read_subset_file, subset_problems, to_toml
from earmark.annotation.subsets import Columns, Prior, Slice, Subset, subsets
from earmark.errors import DataError, MissingError

MINIMAL = '[arousal]\nscale = "interval"\nkey = ["file"]\n'
FULL = {
    "scale": "binary",
    "levels": ["no", "yes"],
    "present_from": "yes",
    "key": ["file_name", "emotion"],
    "columns": {"rater": "who", "rating": "answer"},
    "prior": {"column": "emotion", "value": "joy"},
    "prompt": {"sentence": "Speech that sounds {label}.", "label": "emotion"},
    "summaries": {"by_emotion": {"slice": "emotion", "columns": {"n": "items", "rate": "present_rate"}}},
}


def only(text: str) -> Subset:
    (subset,) = parse_subsets(text, "mine.toml")
    return subset


def problems(**changes: object) -> dict[str, str]:
    """Problems of FULL with changes; None removes a key."""
    fields = {key: value for key, value in {**FULL, **changes}.items() if value is not None}
    return dict(subset_problems("mine", fields))


def test_only_scale_and_key_are_required():
    subset = only(MINIMAL)
    assert (subset.scale, subset.key, subset.columns, subset.format) == ("interval", ("file",), Columns(), "table")
    assert (subset.prior, subset.prompt, subset.clip_pattern, subset.clip_columns) == (None, {}, "{file}", ("file",))
    assert not subset.is_decided


def test_full_description_is_converted():
    subset = only(
        '[mine]\nscale = "binary"\nlevels = ["no", "yes"]\npresent_from = "yes"\nkey = ["file_name", "emotion"]\n'
        'columns = { rater = "who" }\nprior = { column = "emotion", value = "joy" }\n'
        'choices.emotion = ["joy", "fear"]\n'
        '[mine.summaries.by_emotion]\nslice = "emotion"\ncolumns = { n = "items" }\n'
    )
    assert subset.columns == Columns(rater="who")
    assert subset.prior == Prior("emotion", "joy")
    assert subset.choices == {"emotion": ("joy", "fear")}
    assert subset.summaries == {"by_emotion": Slice("emotion", {"n": "items"})}
    assert subset.is_decided
    assert subset.first_present == 1


def test_valid_description_has_no_problems():
    assert problems() == {}


@pytest.mark.parametrize(
    ("changes", "key", "problem"),
    [
        ({"scale": None}, "scale", "is missing: one of binary, nominal, ordinal, interval"),
        ({"scale": ["a", "b"]}, "scale", "must be the kind of scale"),
        ({"scale": "likert"}, "scale", 'must be one of binary, nominal, ordinal, interval, not "likert"'),
        ({"key": None}, "key", "is missing"),
        ({"key": []}, "key", "is empty"),
        ({"key": "file"}, "key", 'must be a list of texts, not "file"'),
        ({"key": ["file_name", "file_name"]}, "key", "has the same entry twice"),
        ({"levels": ["no", "yes", "maybe"]}, "levels", "must have two levels"),
        ({"levels": ["no", 1]}, "levels", "must be a list of texts"),
        ({"present_from": None}, "present_from", "is missing"),
        ({"present_from": "ja"}, "present_from", "'ja' is not one of the levels no, yes"),
        ({"present_from": "no"}, "present_from", "is the lowest level"),
        ({"scale": "interval", "present_from": None}, "levels", "has no meaning on an interval scale"),
        ({"scale": "interval", "levels": None}, "present_from", "has no meaning on an interval scale"),
        ({"scale": "ordinal", "levels": None, "present_from": None}, "levels", "must list the levels"),
        ({"columns": {"judge": "who"}}, "columns", "has no entry judge; its entries are rater, rating, time, id"),
        ({"columns": {"rater": "who", "rating": "who"}}, "columns", "'who' is both the rater and the rating"),
        ({"columns": {"rater": "emotion"}}, "key", "'emotion' is also the column of the rater"),
        ({"key": ["file_name", "emotion", "similarity"]}, "key", "'similarity' is the name of a column of the outputs"),
        ({"carried": ["emotion"]}, "carried", "'emotion' is also in key"),
        ({"by": ["speaker"]}, "by", "'speaker' is neither in key nor in carried"),
        ({"clip": "{speaker}/{file_name}"}, "clip", "'speaker' is neither in key nor in carried"),
        ({"clip": "{file_name"}, "clip", "expected '}'"),
        ({"prior": {"column": "emotion"}}, "prior", "lacks value"),
        ({"prior": {"column": "speaker", "value": "x"}}, "prior", "'speaker' is neither in key nor in carried"),
        ({"prompt": {"sentence": "a {colour}"}}, "prompt", "{colour} is neither label nor a column of the key"),
        ({"prompt": {"sentence": "a {label}"}}, "prompt", "needs label = the column"),
        ({"prompt": {"label": "emotion"}}, "prompt", "needs either a sentence or a rubric"),
        ({"prompt": {"rubric": "r.json"}}, "prompt", "lacks dimension, level"),
        ({"format": "csv"}, "format", "must be one of emolia-bench, table"),
        ({"labels": ["file_name"]}, "labels", "lacks majority_present, n_raters, benchmark_bucket, emotion"),
        ({"summaries": {"t": {"slice": "emotion"}}}, "summaries", "t needs slice"),
        ({"summaries": {"t": {"slice": "emotion", "columns": {"n": "median"}}}}, "summaries", "n must be one of items"),
        ({"colour": 1}, "colour", "is not a key of a subset"),
        ({"prompts": {}}, "prompts", "did you mean prompt?"),
    ],
)
def test_subset_problems_names_key_and_fault(changes, key, problem):
    found = problems(**changes)
    assert problem in found[key]


def test_nominal_sentence_stands_for_each_class():
    fields = {"scale": "nominal", "key": ["file"], "prompt": {"sentence": "Angry speech.", "label": "file"}}
    texts = [problem for _, problem in subset_problems("mine", fields)]
    assert texts == [
        "needs {label} in the sentence, which stands for each class",
        "has a label column; on a nominal scale {label} is each class",
    ]


def test_parse_subsets_lists_all_faults_with_their_lines():
    text = '[one]\nscale = "likert"\n\n[two]\nkey = ["file"]\nscale = "interval"\nlevels = ["a", "b"]\n'
    with pytest.raises(DataError) as caught:
        parse_subsets(text, "mine.toml")
    assert [(fault.line, fault.column) for fault in caught.value.faults["mine.toml"]] == [
        (1, "one.key"),
        (2, "one.scale"),
        (7, "two.levels"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[one\n", 1, "invalid TOML"),
        ("", 1, "describes no subset"),
        ('scale = "interval"\n', 1, "stands outside a subset"),
        ('["a/b"]\nscale = "interval"\nkey = ["file"]\n', 1, "cannot be the name of a subset"),
        ('[all]\nscale = "interval"\nkey = ["file"]\n', 1, "cannot be the name of a subset"),
    ],
)
def test_parse_subsets_faults_of_the_file(text, line, problem):
    with pytest.raises(DataError, match=problem) as caught:
        parse_subsets(text, "mine.toml")
    assert [fault.line for fault in caught.value.faults["mine.toml"]] == [line]


def test_read_subset_file_missing_file(tmp_path):
    with pytest.raises(MissingError, match="no such file"):
        read_subset_file(tmp_path / "none.toml")


def test_read_subset_file_not_utf_8(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes('# Lycée\n[a]\nscale = "interval"'.encode("latin-1"))
    with pytest.raises(DataError, match="line 1: is not UTF-8"):
        read_subset_file(path)


def test_to_toml_round_trip_of_published_subsets():
    published = list(subsets().values())
    assert parse_subsets(to_toml(published), "x") == published


def test_to_toml_escapes_texts():
    subset = replace(
        only(MINIMAL), name="my arousal", clip='{file}"\\\n', prompt={"sentence": "Sounds «excité»\t– {file}."}
    )
    assert parse_subsets(to_toml([subset]), "x") == [subset]


def test_as_published_has_the_published_columns():
    assert as_published(replace(only(MINIMAL), columns=Columns("who", "score"))) == only(MINIMAL)
