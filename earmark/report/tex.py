r"""Report tables as LaTeX that fits a two-column article.

A table that fits a column is a `table`, a wider one a `table*`. Texts wrap, and intervals move below their values
where a table would be wider than the page. Long tables continue in further floats.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from earmark.report.tables import Table, cell, table_notes

COLUMN_WIDTH, PAGE_WIDTH = 216.0, 450.0  # points: the narrowest of the two-column classes in use (ACL)
SEPARATION = 3.0  # \tabcolsep in points
LINES_PER_TABLE = 46
MOST_LINES = {COLUMN_WIDTH: 3.0, PAGE_WIDTH: 8.0}  # of a wrapped text, on average over columns
WIDE, NARROW = 6.6, 2.7  # points of a character at \footnotesize, and of most others
PREAMBLE = "% Needs \\usepackage{array,booktabs}."
ESCAPES = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # a row that begins with it would read as the argument of the row end before
    "*": "{*}",
    "–": "--",
    "−": r"$-$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "→": r"$\rightarrow$",
    "·": r"$\cdot$",
    "…": r"\dots{}",
    "½": r"$\frac{1}{2}$",
    "“": "``",
    "”": "''",
}
BREAK_AFTER = re.compile(r"(?<=[\w\]])([_/.:\-|])(?=\w)")


def to_tex(tables: Sequence[Table], prefix: str) -> str:
    r"""Format the tables that have a caption, for \input in an article.

    Parameters
    ----------
    tables : of a report.
    prefix : distinguishes the labels of several files in one article, such as a subset and a model. Labels are
        `tab:<prefix>-1`, `tab:<prefix>-2`, …

    Returns
    -------
    str
        Floats that need the packages array and booktabs.

    Examples
    --------
    >>> print(to_tex([Table("Agreement of raters", ["measure", "value"], [["alpha", 0.5]])], "demo").splitlines()[2])
    \begin{table}[tbp]
    """
    label = re.sub(r"[^\w]+", "-", prefix).strip("-").lower() or "earmark"
    captioned = [table for table in tables if table.caption and table.rows]
    floats = [_float(table, f"tab:{label}-{number}") for number, table in enumerate(captioned, 1)]
    return "\n\n".join([PREAMBLE, *floats]) + "\n"


def _float(table: Table, label: str) -> str:
    """A table, in as many floats as it has rows for."""
    layout = _layout(table)
    parts: list[list[Sequence[Any]]] = [[]]
    used = 0
    for row in table.rows:
        used += layout.height(row)
        if used > LINES_PER_TABLE and parts[-1]:
            parts.append([])
            used = layout.height(row)
        parts[-1].append(row)
    notes = table_notes(table.rows)
    floats = []
    for number, rows in enumerate(parts):
        last = number == len(parts) - 1
        caption = _sentence(table.caption) if not number else f"{_sentence(table.caption)} (continued)"
        environment = "table*" if layout.wide else "table"
        floats.append(
            "\n".join(
                [
                    rf"\begin{{{environment}}}[tbp]",
                    rf"\centering\footnotesize\setlength{{\tabcolsep}}{{{SEPARATION:g}pt}}",
                    rf"\caption{{{escape_tex(caption)}}}",
                    *([rf"\label{{{label}}}"] if not number else []),
                    rf"\begin{{tabular}}{{@{{}}{''.join(layout.columns)}@{{}}}}",
                    r"\toprule",
                    " & ".join(layout.header(place, text) for place, text in enumerate(table.headers)) + r" \\",
                    r"\midrule",
                    *(
                        " & ".join(layout.cell(place, value) for place, value in enumerate(row)) + r" \\"
                        for row in rows
                    ),
                    r"\bottomrule",
                    r"\end{tabular}",
                    *(rf"\par\smallskip {escape_tex(note)}." for note in (notes if last else ())),
                    rf"\end{{{environment}}}",
                ]
            )
        )
    return "\n\n".join(floats)


@dataclass(frozen=True)
class _Layout:
    """How a table is set: alignment and width of columns, whether intervals are stacked, whether it spans the page."""

    columns: tuple[str, ...]
    widths: tuple[float, ...]
    stacks: bool
    wide: bool

    def header(self, place: int, text: str) -> str:
        """A column's heading; of numbers its words lie below one another where that saves width."""
        if self.widths[place]:
            return _breakable(text)
        lines = _header_lines(text)
        if len(lines) == 1:
            return escape_tex(text)
        side = "r" if self.columns[place] == "r" else "l"
        stacked = r" \\ ".join(map(escape_tex, lines))
        return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stacked}\end{{tabular}}"

    def cell(self, place: int, value: Any) -> str:
        """A value; its interval lies below it where the table stacks."""
        text = cell(value)
        number, bracket, ends = text.partition(" [")
        if self.stacks and bracket and not self.widths[place]:
            stacked = rf"{escape_tex(number)} \\ {escape_tex('[' + ends)}"
            return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{stacked}\end{{tabular}}"
        return _breakable(text) if self.widths[place] else escape_tex(text)

    def height(self, row: Sequence[Any]) -> int:
        """How many lines a row takes."""
        wrapped = [
            -(-_width(cell(value)) // max(width - 6, 1.0))
            for value, width in zip(row, self.widths, strict=True)
            if width
        ]
        return max(1, *(int(n) for n in wrapped), 2 if self.stacks else 1)


def _layout(table: Table) -> _Layout:
    """The narrowest way to set a table that fits."""
    columns = list(zip(*table.rows, strict=True))
    texts = [any(isinstance(value, str) for value in column) for column in columns]
    gaps = 2 * SEPARATION * (len(columns) - 1)
    least = [
        max(map(_width, (part for text in [header, *map(cell, column)] for part in _unbreakable(text)))) + 2
        for header, column in zip(table.headers, columns, strict=True)
    ]
    for stacks in (False, True):
        natural = [
            max(map(_width, [*_header_lines(header), *_lines(column, stacks)]))
            for header, column in zip(table.headers, columns, strict=True)
        ]
        for width in (COLUMN_WIDTH, PAGE_WIDTH):
            widths = _wrapped(natural, least, texts, width - gaps, MOST_LINES[width])
            if widths is not None:
                return _Layout(_alignment(widths, texts), tuple(widths), stacks, width > COLUMN_WIDTH)
    # Too many columns of numbers for a page: texts get the least width, and the table is as wide as it has to be.
    widths = [own if text else 0.0 for own, text in zip(least, texts, strict=True)]
    return _Layout(_alignment(widths, texts), tuple(widths), True, True)


def _alignment(widths: Sequence[float], texts: Sequence[bool]) -> tuple[str, ...]:
    return tuple(
        rf">{{\raggedright\arraybackslash}}p{{{width:.0f}pt}}" if width else ("l" if text else "r")
        for width, text in zip(widths, texts, strict=True)
    )


def _wrapped(
    natural: Sequence[float], least: Sequence[float], texts: Sequence[bool], width: float, most_lines: float
) -> list[float] | None:
    """The width of each column that wraps, 0 for those that do not; None if the table does not fit."""
    if sum(natural) <= width:
        return [0.0] * len(natural)
    wraps = [text and own > least[i] for i, (own, text) in enumerate(zip(natural, texts, strict=True))]
    free = width - sum(own for own, wrap in zip(natural, wraps, strict=True) if not wrap)
    places = [i for i, wrap in enumerate(wraps) if wrap]
    if not places or free < sum(least[i] for i in places) or sum(natural[i] for i in places) > most_lines * free:
        return None
    widths = [0.0] * len(natural)
    spare = free - sum(least[i] for i in places)
    wish = {i: natural[i] - least[i] for i in places}
    while places:  # what a short text does not need goes to the others
        weights = {i: wish[i] ** 0.5 for i in places}
        share = {i: spare * weights[i] / sum(weights.values()) for i in places}
        full = [i for i in places if wish[i] <= share[i]]
        for i in full or places:
            given = wish[i] if full else share[i]
            widths[i] = least[i] + given
            spare -= given
        places = [i for i in places if i not in full] if full else []
    return widths


def _unbreakable(text: str) -> list[str]:
    """The parts of a text that no line end may divide."""
    words = text.split(" ")
    return [
        part for word in words for part in (BREAK_AFTER.sub("\\1\0", word).split("\0") if len(word) > 14 else [word])
    ]


def _lines(column: Sequence[Any], stacks: bool) -> list[str]:
    """The lines of a column's cells."""
    lines = []
    for value in column:
        number, bracket, ends = cell(value).partition(" [")
        lines += [number, f"[{ends}"] if stacks and bracket else [cell(value)]
    return lines


def _header_lines(text: str) -> list[str]:
    """A heading in up to three lines."""
    words = re.split(r" |(?<=_)", text)
    if len(words) == 1 or len(text) <= 8:
        return [text]
    target = max(max(map(len, words)), -(-len(text) // 3))
    lines = [words[0]]
    for word in words[1:]:
        gap = "" if lines[-1].endswith("_") else " "
        if len(lines[-1]) + len(gap) + len(word) <= target:
            lines[-1] += gap + word
        else:
            lines.append(word)
    return lines


def _width(text: str) -> float:
    """Approximate width in points at \\footnotesize in Computer Modern, on the safe side."""
    return sum(
        WIDE if c in "mwMWGOQDHNKXYRAVU%@&" else NARROW if c in "ijltfI.,:;'|()[]! " else 4.4 if c.isdigit() else 4.8
        for c in text
    )


def _sentence(text: str) -> str:
    """A caption as a sentence: full stop, and a capital first letter unless it begins with a name and a colon.

    >>> _sentence("agreement of raters"), _sentence("emolia-emo: items by number of raters")
    ('Agreement of raters.', 'emolia-emo: items by number of raters.')
    """
    if not text:
        return text
    first = text[0] if text.split()[0].endswith(":") else text[0].upper()
    return first + text[1:].rstrip(".") + "."


def _breakable(text: str) -> str:
    """Text that may break inside long words, as paths and names have them."""
    words = []
    for word in text.split(" "):
        parts = BREAK_AFTER.sub("\\1\0", word).split("\0") if len(word) > 14 else [word]
        words.append(r"\allowbreak{}".join(escape_tex(part) for part in parts))
    return " ".join(words)


def escape_tex(text: str) -> str:
    r"""Escape text for LaTeX.

    Examples
    --------
    >>> escape_tex("R&D_1: 50 %")
    'R\\&D\\_1: 50 \\%'
    """
    return "".join(ESCAPES.get(character, character) for character in text)
