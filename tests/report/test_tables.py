"""Tables in CSV, Markdown and LaTeX."""

import re

import numpy as np
import pandas as pd
import pytest

from earmark.metrics.detection import det_curve, roc
from earmark.metrics.estimate import Estimate
from earmark.report.plots import det_chart
from earmark.report.render import render
from earmark.report.tables import Table, cell, distinct_decimals, percent, table_notes, to_csv, to_markdown, to_tex
from tests.conftest import ROOT


def test_to_csv_line_ends_and_missing_values():
    table = pd.DataFrame(
        {
            "level": ["05", "a,b"],
            "label": pd.array([1, pd.NA], dtype="Int64"),
            "rate": [0.5, np.nan],
            "flagged": [True, False],
        }
    )
    assert to_csv(table) == 'level,label,rate,flagged\n05,1,0.5,True\n"a,b",,,False\n'


def test_to_markdown_escapes_pipes_and_line_breaks():
    assert to_markdown(["a|b", "n"], [["x|y\nz", 1]]) == "| a\\|b | n |\n|---|---:|\n| x\\|y z | 1 |"


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("<!-- hidden", "&lt;!-- hidden"),
        ("a `code` b", "a \\`code\\` b"),
        ("x | y", "x \\| y"),
        ("evil\u202etxt.exe\x07", "evil\ufffdtxt.exe\ufffd"),
        ("p < 0.05 and a<b", "p < 0.05 and a&lt;b"),
    ],
)
def test_to_markdown_escapes_untrusted_names(label, shown):
    assert to_markdown(["name"], [[label]]).splitlines()[2] == f"| {shown} |"


def test_render_escapes_names_but_not_markup():
    condition = {"protocol": "<i>clean</i>", "published": {"eer": Estimate(0.0503, 0.0421, 0.0593)}}
    summary = {
        "model_name": "<img src=x> `rm`",
        "self_made": True,
        "parameters": {"intervals": True, "versions": ["published"]},
        "aggregates": {},
        "protocols": [condition],
        "created_utc": "2026-01-31T23:59:59Z",
    }
    card, _ = render(
        "model_card.md.j2",
        s=summary,
        details=dict.fromkeys(DETAILS, "<b>x</b>"),
        signature="earmark:1|suite:<b>",
        aggregates=(),
        categories=(),
        placeholder="TODO",
    )
    assert card.startswith("# &lt;img src=x> \\`rm\\`\n")
    assert "<" not in card and "&lt;b>x&lt;/b>" in card
    assert "## Training" in card
    assert "| &lt;i>clean&lt;/i> | 5.03 % [4.21, 5.93] |" in card
    assert "- Date: 2026-01-31\n- Signature: earmark:1|suite:&lt;b>\n" in card
    assert "not official CASE results" in card


DETAILS = ("type", "parameters", "dimension", "sample_rate", "checkpoint")


def test_to_markdown_alignment():
    rule = to_markdown(["word", "number", "some missing"], [["x", 1, None], ["y", 2.5, 3]]).splitlines()[1]
    assert rule == "|---|---:|---:|"


def test_to_markdown_without_rows():
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
def test_cell_formats(value, text):
    assert cell(value) == text


TABLE = Table(
    "Rates of 50 % & more, by task_type",
    ["task_type", "rate [95 % interval]", "definition"],
    [
        [
            "ultimate",
            {"value": 0.5, "low": 0.4, "high": 0.6},
            "Share of items, in words long enough that they must be wrapped.",
        ],
        ["a<b", {"value": None, "low": None, "high": None}, "short"],
    ],
)


def test_to_tex_format():
    lines = to_tex([TABLE]).splitlines()
    assert lines[0] == r"% Needs \usepackage{booktabs}."
    assert r"\caption{Rates of 50 \% \& more, by task\_type}" in lines
    assert r"\begin{tabular}{lrp{4cm}}" in lines
    assert r"task\_type & rate [95 \% interval] & definition \\" in lines
    assert r"a\textless{}b & -- & short \\" in lines
    assert any(line.startswith(r"ultimate & 0.500 [0.400, 0.600] & Share") for line in lines)
    assert [line for line in lines if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]


def test_to_tex_skips_tables_without_caption_or_rows():
    tables = [
        Table("", ["a"], [[1]]),
        Table("empty", ["a"], []),
        Table("one", ["a"], [[1]]),
        Table("two", ["a"], [[1]]),
    ]
    text = to_tex(tables)
    assert [line for line in text.splitlines() if "label" in line] == [
        r"\label{tab:earmark-1}",
        r"\label{tab:earmark-2}",
    ]


# A cell that is set in several lines: a table of one column.
STACKED = re.compile(r"\\begin\{tabular\}\[[bt]\]\{@\{\}[lr]@\{\}\}(.*?)\\end\{tabular\}")


def committed_tex() -> str:
    """The committed report.tex with every cell in one line."""
    text = (ROOT / "analysis_outputs" / "report.tex").read_text(encoding="utf-8")
    return STACKED.sub(lambda cell: cell[1].replace(r" \\ ", " "), text)


def test_committed_tex_column_counts():
    columns = 0
    rows = 0
    for line in committed_tex().splitlines():
        if line.startswith(r"\begin{tabular}"):
            columns = len(
                re.findall(r"[lr]|p\{\d+pt\}", re.sub(r">\{.*?\}(?=p)|@\{\}", "", line[len(r"\begin{tabular}") :]))
            )
        elif line.endswith(r"\\"):
            rows += 1
            assert len(re.findall(r"(?<!\\)&", line)) == columns - 1, line
    assert rows > 50


def test_committed_tex_matches_report():
    report = (ROOT / "analysis_outputs" / "report.md").read_text(encoding="utf-8")
    text = committed_tex().replace("{[}", "[")
    numbers = re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", report)
    assert len(numbers) > 40
    assert [number for number in numbers if number not in text] == []


@pytest.mark.parametrize("rows", [7, 48])
def test_to_csv_of_long_table_matches_pandas(monkeypatch, rows):
    monkeypatch.setattr("earmark.report.tables.LONG_TABLE", rows)
    rng = np.random.default_rng(0)
    n = 60
    table = pd.DataFrame(
        {
            "text": np.array(["a", "b,c", 'd"e', "f\ng", "h\ri", " x", "", None, "ß"], dtype=object)[
                rng.integers(0, 9, n)
            ],
            "count": rng.integers(-9, 9, n),
            "bool": rng.random(n) < 0.5,
            "rate": np.where(rng.random(n) < 0.2, np.nan, rng.normal(0, 1e-5, n)),
            "repeated": rng.choice([0.0, 1e-9, 0.1, 123456.789], n),
            "large": rng.normal(0, 1e20, n),
            "zero": np.where(rng.random(n) < 0.5, -0.0, np.inf),
            "Int64": pd.array(rng.integers(0, 3, n), dtype="Int64"),
            "boolean": pd.array(rng.random(n) < 0.5, dtype="boolean"),
            "Float64": pd.array(rng.random(n).round(6), dtype="Float64"),
        }
    )
    table.loc[::7, ["Int64", "boolean", "Float64"]] = pd.NA
    assert to_csv(table) == table.to_csv(index=False, lineterminator="\n")
    mixed = table.assign(mixed=np.array([1, "a", 2.5, True, None, 1], dtype=object)[rng.integers(0, 6, n)])
    assert to_csv(mixed) == mixed.to_csv(index=False, lineterminator="\n")


def test_missing_interval_says_why_below_the_table():
    missing = Estimate(0.0, why="no interval: a value of 0")
    undefined = Estimate(None, why="no trials")
    without = Estimate(0.5)
    assert table_notes([["minDCF", missing], ["EER", undefined], ["Cllr", without]]) == [
        "minDCF: no interval: a value of 0"
    ]


def test_both_the_note_and_the_reason_of_an_estimate_are_printed():
    estimate = Estimate(0.1, note="few errors", why="no interval: one speaker")
    assert table_notes([["EER", estimate]]) == ["EER: few errors", "EER: no interval: one speaker"]


def test_percent_has_the_decimals_it_is_given():
    assert (cell(percent(0.022101, 4)), cell(percent(Estimate(0.5, 0.25, 0.75), 3))) == (
        "2.2101 %",
        "50.000 % [25.000, 75.000]",
    )


@pytest.mark.parametrize(
    ("values", "expected"), [([1, 2], 2), ([1, 1], 2), ([1.001, 1.002], 3), ([], 2), ([1, 1 + 1e-12], 2)]
)
def test_distinct_decimals_make_ranks_visible(values, expected):
    assert distinct_decimals(values) == expected


def test_det_chart_carries_the_name_of_the_system():
    curve = det_curve(roc([0.9, 0.4, 0.6, 0.1, 0.5, 0.3], [True, True, False, False, True, False]))
    with_name, without = (det_chart({"": [curve]}, title) for title in ("My $model", ""))
    assert with_name != without and det_chart({"": [curve]}, "My $model") == with_name
