"""Reports from templates, and the sentence that defines each number."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from earmark.report.tables import cell, to_markdown


@cache
def definitions() -> dict[str, dict[str, str]]:
    """{number: {"label", "sentence"}}, as definitions.toml has them; METRICS.md explains the same names at length."""
    return tomllib.loads(files(__package__).joinpath("definitions.toml").read_text(encoding="utf-8"))


def render(template: str, **values: Any) -> str:
    """A report. In templates, `value | cell` prints a value and `table(headers, rows)` a Markdown table."""
    return _environment().get_template(template).render(define=definitions(), **values).rstrip() + "\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("earmark.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown and LaTeX, not HTML
    )
    environment.filters["cell"] = cell
    environment.globals["table"] = to_markdown
    return environment
