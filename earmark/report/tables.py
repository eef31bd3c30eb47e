"""Tables as people paste them: CSV for machines, Markdown for reports; numbers to three decimals."""

import gzip
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from earmark.metrics.estimate import Estimate

UNDEFINED = "–"
# Control characters but line ends and tabs, and characters that turn the direction of writing.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
LONG_TEXT = 40
SHOWN_NOTES = 6
SHOWN_ROWS = 4  # that have one note
TEX_CHARACTERS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
}


@dataclass(frozen=True)
class Percent(Estimate):
    """An estimate of a share that `cell` prints in per cent with two decimals; its fields are shares."""


def percent(value: Estimate | float | None) -> Percent:
    """Mark a share for printing in per cent.

    Parameters
    ----------
    value : Estimate, float or None
        A share or a difference of shares; None where it is undefined.

    Examples
    --------
    >>> cell(percent(Estimate(0.0503, 0.0421, 0.0593))), cell(percent(0.0503)), cell(percent(None))
    ('5.03 % [4.21, 5.93]', '5.03 %', '–')
    """
    return Percent(**vars(value)) if isinstance(value, Estimate) else Percent(value)


@dataclass(frozen=True)
class Table:
    """A table of a report, whatever it will be printed as. A table without caption is for the eye alone."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]


def to_csv(table: pd.DataFrame) -> str:
    """A table as CSV text: no index, Unix line ends, empty cells for what is missing."""
    return str(table.to_csv(index=False, lineterminator="\n"))


def to_csv_gz(parts: Iterable[pd.DataFrame]) -> bytes:
    """Tables one below the other as one CSV, compressed; the same bytes for the same numbers."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="", compresslevel=4) as file:
        for number, part in enumerate(parts):
            file.write(part.to_csv(index=False, header=not number, lineterminator="\n").encode())
    return buffer.getvalue()


def to_markdown(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; numbers align right, and every cell goes through `cell`.

    >>> print(to_markdown(["task", "rate"], [["ultimate", 0.5]]))
    | task | rate |
    |---|---:|
    | ultimate | 0.500 |
    """
    numeric = [bool(rows) and not any(isinstance(row[i], str) for row in rows) for i in range(len(headers))]
    lines = [
        _line(headers),
        "|" + "|".join("---:" if is_numeric else "---" for is_numeric in numeric) + "|",
        *(_line([cell(value) for value in row]) for row in rows),
    ]
    return "\n".join(lines)


def to_tex(tables: Sequence[Table]) -> str:
    """The captioned tables as LaTeX, ready for \\input; the document needs \\usepackage{booktabs}.

    Intervals stay beside their values; long texts wrap. Labels count up: tab:earmark-1, tab:earmark-2, …
    """
    captioned = [table for table in tables if table.caption and table.rows]
    return (
        "\n\n".join(
            ["% Needs \\usepackage{booktabs}.", *(_tex_table(table, i) for i, table in enumerate(captioned, 1))]
        )
        + "\n"
    )


def _tex_table(table: Table, number: int) -> str:
    columns = list(zip(*table.rows, strict=True))
    alignment = "".join(_tex_alignment(column) for column in columns)
    lines = [" & ".join(_tex(cell(value)) for value in row) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}[ht]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{_tex(table.caption)}}}",
            rf"\label{{tab:earmark-{number}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            " & ".join(_tex(header) for header in table.headers) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\smallskip {_tex(note)}." for note in table_notes(table.rows)),
            r"\end{table}",
        ]
    )


def _tex_alignment(column: Sequence[Any]) -> str:
    if not any(isinstance(value, str) for value in column):
        return "r"
    return "p{4cm}" if max(len(cell(value)) for value in column) > LONG_TEXT else "l"


def _tex(text: str) -> str:
    return "".join(TEX_CHARACTERS.get(character, character) for character in text)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape_markdown(text).replace("|", "\\|").replace("\n", " ") for text in cells) + " |"


def escape_markdown(text: str) -> str:
    """A text for Markdown in which names and labels of others cannot be markup: no HTML, no code, nothing invisible.

    >>> escape_markdown("<script>alert(`1`)</script> p < 0.05")
    '&lt;script>alert(\\\\`1\\\\`)&lt;/script> p < 0.05'
    """
    visible = INVISIBLE.sub("\ufffd", text)
    return re.sub(r"(?<!\\)`", r"\\`", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", visible))


def cell(value: Any) -> str:
    """One value as a report prints it: 0.123, 0.123 [0.100, 0.150], 1,234, yes, – for what does not exist."""
    if isinstance(value, Estimate):
        return _estimate(value)
    if isinstance(value, Mapping):
        return _estimate(Estimate(**value))
    if _missing(value):
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _decimal(value)
    return str(value)


def p_value(value: float | None) -> str:
    """A p-value as reports print it; one that rounds to 0 is said to be below.

    >>> p_value(0.0321), p_value(1e-9), p_value(None)
    ('0.032', '< 0.001', '–')
    """
    if value is None:
        return UNDEFINED
    return "< 0.001" if value < 0.0005 else f"{value:.3f}"


def _estimate(estimate: Estimate) -> str:
    if estimate.value is None or _missing(estimate.value):
        return UNDEFINED
    number, unit = (_percent, " %") if isinstance(estimate, Percent) else (_decimal, "")
    if estimate.low is None or estimate.high is None or _missing(estimate.low):
        return f"{number(estimate.value)}{unit}"
    return f"{number(estimate.value)}{unit} [{number(estimate.low)}, {number(estimate.high)}]"


def table_notes(rows: Sequence[Sequence[Any]]) -> list[str]:
    """The notes of a table's estimates, each once, with the rows that have it; of many the first few.

    >>> estimate = Estimate(0.1, 0.0, 0.3, note="only 7 speakers")
    >>> table_notes([["EER", estimate], ["minDCF", estimate], ["n", 12]])
    ['EER; minDCF: only 7 speakers']
    """
    found: dict[str, list[str]] = {}
    for row in rows:
        for value in row:
            estimate = Estimate(**value) if isinstance(value, Mapping) else value
            if isinstance(estimate, Estimate) and estimate.note and estimate.value is not None:
                found.setdefault(estimate.note, []).append(str(row[0]))
    lines = [f"{_several(list(dict.fromkeys(labels)))}: {note}" for note, labels in found.items()]
    more = [f"{len(lines) - SHOWN_NOTES} more notes are in summary.json"] if len(lines) > SHOWN_NOTES else []
    return [*lines[:SHOWN_NOTES], *more]


def _several(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - SHOWN_ROWS} more" if len(labels) > SHOWN_ROWS else ""
    return "; ".join(labels[:SHOWN_ROWS]) + more


def _decimal(value: float) -> str:
    return f"{value:z.3f}"  # z: a tiny negative number is 0.000, not -0.000


def _percent(value: float) -> str:
    return f"{100 * value:z.2f}"


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value
