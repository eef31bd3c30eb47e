"""Tables as they are pasted."""

import numpy as np
import pandas as pd
import pytest

from earmark.report.tables import cell, to_csv, to_markdown


def test_csv_has_unix_line_ends_and_empty_cells_for_what_is_missing():
    table = pd.DataFrame(
        {
            "level": ["05", "a,b"],
            "label": pd.array([1, pd.NA], dtype="Int64"),
            "rate": [0.5, np.nan],
            "flagged": [True, False],
        }
    )
    assert to_csv(table) == 'level,label,rate,flagged\n05,1,0.5,True\n"a,b",,,False\n'


def test_markdown_escapes_pipes_and_line_ends():
    assert to_markdown(["a|b", "n"], [["x|y\nz", 1]]) == "| a\\|b | n |\n|---|---:|\n| x\\|y z | 1 |"


def test_markdown_aligns_numbers_right_and_text_left():
    rule = to_markdown(["word", "number", "some missing"], [["x", 1, None], ["y", 2.5, 3]]).splitlines()[1]
    assert rule == "|---|---:|---:|"


def test_markdown_without_rows_is_a_header():
    assert to_markdown(["a", "b"], []) == "| a | b |\n|---|---|"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (-0.5, "-0.500"),
        (1234, "1,234"),
        (True, "yes"),
        (False, "no"),
        (None, "–"),
        (float("nan"), "–"),
        (pd.NA, "–"),
        ("Joy", "Joy"),
        ({"value": 0.5, "low": 0.25, "high": 0.75, "n": 9}, "0.500 [0.250, 0.750]"),
        ({"value": 0.5, "low": None, "high": None, "n": 9}, "0.500"),
        ({"value": None, "low": None, "high": None, "n": 0, "why": "no pairs"}, "–"),
        (np.float64(0.5), "0.500"),
    ],
    ids=str,
)
def test_a_cell_is_printed_as_people_read_it(value, text):
    assert cell(value) == text
