"""Tables as people paste them: CSV for machines, Markdown for reports; numbers to three decimals."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

UNDEFINED = "–"


def to_csv(table: pd.DataFrame) -> str:
    """A table as CSV text: no index, Unix line ends, empty cells for what is missing."""
    return str(table.to_csv(index=False, lineterminator="\n"))


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


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in cells) + " |"


def cell(value: Any) -> str:
    """One value as a report prints it: 0.123, 0.123 [0.100, 0.150], 1,234, yes, – for what does not exist."""
    if isinstance(value, Mapping):
        return _estimate(value)
    if _missing(value):
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def _estimate(estimate: Mapping[str, Any]) -> str:
    if _missing(estimate["value"]):
        return UNDEFINED
    interval = "" if _missing(estimate["low"]) else f" [{estimate['low']:.3f}, {estimate['high']:.3f}]"
    return f"{estimate['value']:.3f}{interval}"


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value
