"""Write the tables of documents that repeat what the code says or what benchmarks measured.

Reads   the argument parsers of the scripts, the registry of encoders, perf/results.json and perf/scale.json
Writes  docs/flags.md, and the marked tables of README.md and docs/scaling.md

  uv run docs/make_tables.py

A test compares the documents with what this script would write.
"""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from earmark.models.encoders.registry import encoder_specs  # noqa: E402
from perf import all as benchmarks  # noqa: E402
from perf import scale  # noqa: E402

SCRIPTS = (
    "anonymize",
    "analysis",
    "benchmark",
    "evaluate_speaker",
    "finetune_speaker",
    "probe",
    "compare",
    "sham_server",
)
COMMON = ("--version", "--seed", "--quiet", "--debug")
HEADER = """# Flags

All flags of all scripts, as `--help` prints them. Written by `uv run docs/make_tables.py`.

Every script and command also takes these flags:

- `--help`
- `--seed N`: seed of all random numbers (default 0)
- `--quiet`: no progress bars and no warnings
- `--debug`: show the traceback of an error

`--version` prints the version.
"""


def parsers(name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A script's parser, or those of its commands, each with what is typed to run it."""
    parser = importlib.import_module(name).argument_parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for listed in action._choices_actions:  # former names of commands are not listed
                yield f"{name}.py {listed.dest}", action.choices[listed.dest]
            return
    yield f"{name}.py", parser


def rows(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> list[tuple[str, str]]:
    """(flag with its values, help) of every argument that help shows, but for the common ones."""
    shown = []
    for action in parser._group_actions if isinstance(parser, argparse._ArgumentGroup) else parser._actions:
        if action.help == argparse.SUPPRESS or {*action.option_strings} & {*COMMON, "--help"}:
            continue
        values = _values(action)
        name = action.option_strings[0] if action.option_strings else ""
        shown.append((f"`{f'{name} {values}'.strip()}`".replace("|", r"\|"), _help(action.help or "")))
    return shown


def _values(action: argparse.Action) -> str:
    """What follows the flag: its choices or its placeholder, once for each value."""
    if action.nargs == 0:
        return ""
    name: str | tuple[str, ...] = action.metavar or action.dest.upper()
    if action.choices is not None and action.metavar is None:
        name = "|".join(map(str, action.choices))
    if isinstance(name, tuple):
        return " ".join(name)
    if not action.option_strings and action.metavar is None:
        name = action.dest
    return f"{name} …" if action.nargs in ("+", "*") else name


def _help(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def table(headers: tuple[str, str], cells: list[tuple[str, str]]) -> str:
    """A Markdown table of two columns."""
    return "\n".join([f"| {headers[0]} | {headers[1]} |", "|---|---|", *(f"| {a} | {b} |" for a, b in cells)])


def flags() -> str:
    """The text of docs/flags.md."""
    parts = [HEADER]
    for name in SCRIPTS:
        for command, parser in parsers(name):
            flag_table = table(("flag", "meaning"), rows(parser))
            parts.append(f"## {command}\n\n`uv run {command} --help` shows examples.\n\n{flag_table}\n")
    return "\n".join(parts)


def readme_tables() -> dict[str, str]:
    """{name of a marked table of README.md: its text}."""
    ((_, benchmark),) = parsers("benchmark")
    (models,) = (group for group in benchmark._action_groups if group.title == "model")
    chosen = [row for row in rows(models) if row[0].split()[0].strip("`") in MODEL_FLAGS]
    encoders = [(f"`{spec}`", summary) for spec, summary in encoder_specs().items()]
    return {
        "models": table(("flag", "model"), chosen),
        "encoders": table(("string", "encoder"), encoders),
        "ratios": ratios(),
    }


def ratios() -> str:
    """The ratios of perf/results.json, and the machine that they were measured on."""
    found = json.loads(benchmarks.RESULTS.read_text(encoding="utf-8"))
    return f"{benchmarks.to_table([benchmarks.Ratio(**each) for each in found['ratios']])}\n\n{_machine(found)}"


def scaling_tables() -> dict[str, str]:
    """{name of a marked table of docs/scaling.md: its text}, from perf/scale.json."""
    found = json.loads(scale.RESULTS.read_text(encoding="utf-8"))
    return {"costs": f"{scale.cost_table(found)}\n\n{_machine(found)}", "growth": scale.growth_table(found)}


def _machine(found: Mapping[str, Mapping[str, object]]) -> str:
    """The machine of a measurement, in a sentence."""
    machine = found["machine"]
    return (
        f"Measured on {machine['cores']} cores ({machine['processor']}), with a load of {machine['load']} from all "
        f"processes at the end, Python {machine['python']}."
    )


MODEL_FLAGS = ("--endpoint", "--embeddings-endpoint", "--clap-model", "--model")


def with_tables(document: str, tables: Mapping[str, str]) -> str:
    """A document with its marked tables written anew."""
    for name, text in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
        document, n = pattern.subn(lambda found, text=text: found[1] + text + found[2], document)
        if n != 1:
            raise ValueError(f"the document has {n} tables marked {name}, not one")
    return document


def main() -> int:
    (ROOT / "docs/flags.md").write_text(flags(), encoding="utf-8")
    for name, tables in (("README.md", readme_tables()), ("docs/scaling.md", scaling_tables())):
        path = ROOT / name
        path.write_text(with_tables(path.read_text(encoding="utf-8"), tables), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
