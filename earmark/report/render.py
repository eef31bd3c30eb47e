"""Reports from templates, with a one-sentence definition of each number."""

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from earmark.metrics.estimate import Estimate
from earmark.report.tables import (
    Table,
    cell,
    escape_markdown,
    p_value,
    percent,
    percentage_points,
    table_notes,
    to_markdown,
)


@cache
def definitions() -> dict[str, dict[str, str]]:
    """Read definitions.toml: label and sentence for each number. METRICS.md has the formulas."""
    return tomllib.loads(files(__package__).joinpath("definitions.toml").read_text(encoding="utf-8"))


class Markup(str):
    """Markdown that is already escaped."""


def render(template: str, **values: Any) -> tuple[str, list[Table]]:
    """Render a report as Markdown.

    In templates, `value | cell` formats a value, `value | percent | cell` a share in per cent,
    `table(headers, rows, caption)` a table, and `define` holds the definitions.

    Parameters
    ----------
    template : str
        File name in earmark/report/templates/.
    values
        Variables of the template.

    Returns
    -------
    report : str
    tables : list of Table
        The tables of the report in order, for other formats.
    """
    tables: list[Table] = []

    def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
        tables.append(Table(caption, headers, rows))
        notes = "\n".join(f"- {note}." for note in table_notes(rows))
        return Markup(to_markdown(headers, rows) + (f"\n\n{escape_markdown(notes)}\n" if notes else ""))

    text = _environment().get_template(template).render(define=definitions(), table=table, **values)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n", tables


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("earmark.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, not HTML
        finalize=lambda value: (
            escape_markdown(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    environment.filters["cell"] = cell
    environment.globals["estimate"] = Estimate
    environment.filters["p_value"] = p_value
    environment.filters["percent"] = percent
    environment.filters["percentage_points"] = percentage_points
    return environment
