"""Finished results on disk: where they lie, which script wrote them, what can be compared with what."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.runs import SYSTEM_FILE

SUMMARY = "summary.json"
PROBES = "probe"  # beside `runs`: a directory for each encoder that was probed
SCRIPTS = ("benchmark.py", "evaluate_speaker.py", "probe.py")


@dataclass(frozen=True)
class FinishedResult:
    """A finished run of one script on one suite.

    Attributes
    ----------
    system : its name in tables and figures.
    suite : what was evaluated: a subset, `speaker/trials`, `speaker/case`, `probe`.
    folder : where it lies.
    summary : the content of its summary.json.
    step : training step of the checkpoint, if there are several of one model.
    """

    system: str
    suite: str
    folder: Path
    summary: dict[str, Any]
    step: int | None = None

    @property
    def script(self) -> str:
        """The script that wrote it."""
        return str(self.summary["script"])

    @property
    def is_of_scale(self) -> bool:
        """Whether it is a result of benchmark.py on labels without a decision between present and absent."""
        return self.script == "benchmark.py" and "scale" in self.summary


def read_result(folder: Path, system: str, step: int | None = None) -> FinishedResult:
    """A result by its folder. EarmarkError if its summary.json cannot be read or is of another script."""
    path = folder / SUMMARY
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        script = summary["script"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EarmarkError(f"{shown_path(path)} cannot be read as the summary of a finished run.") from error
    if script not in SCRIPTS:
        raise EarmarkError(f"{shown_path(path)} was written by {script}; results of {', '.join(SCRIPTS)} are compared.")
    return FinishedResult(system, _suite(summary, folder), folder, summary, step)


def _suite(summary: dict[str, Any], folder: Path) -> str:
    """What a run evaluated, from its summary."""
    if summary["script"] == "benchmark.py":
        return str(summary["subset"])
    if summary["script"] == "probe.py":
        return "probe"
    if "protocols" in summary and "aggregates" in summary:
        return "speaker/case"
    return "speaker/tidyvoice" if summary.get("languages") else "speaker/trials"


def find_results(named: str, runs: Path) -> dict[str, Path]:
    """The finished runs of a system: {where they lie below it: their folder}.

    Parameters
    ----------
    named : a folder that holds a summary.json, a folder of several runs, or a name below `runs`.
    runs : the folder that keeps every system's runs.

    Raises
    ------
    MissingError
        If there is no such folder, or no finished run in it.
    """
    if (Path(named) / SUMMARY).is_file():
        return {"": Path(named)}
    found: dict[str, Path] = {}
    for folder in (Path(named), runs / named, runs.parent / PROBES / named):
        if not found or folder.parent.name == PROBES:
            found |= {path.parent.relative_to(folder).as_posix(): path.parent for path in sorted(folder.rglob(SUMMARY))}
    if found:
        return found
    raise MissingError(
        f"{named}: no finished result there or in {shown_path(runs)}. `uv run compare.py` lists what can be compared."
    )


def list_results(runs: Path) -> dict[str, list[tuple[str, str]]]:
    """Every kept run: {suite: [(system, its signature)]}."""
    names = {path.parent.name for path in runs.glob(f"*/{SYSTEM_FILE}")}
    names |= {path.parent.name for path in (runs.parent / PROBES).glob(f"*/{SUMMARY}")}
    table: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(names):
        for folder in (runs / name, runs.parent / PROBES / name):
            for path in sorted(folder.rglob(SUMMARY)):
                try:
                    result = read_result(path.parent, name)
                except EarmarkError:  # not a result that can be compared
                    continue
                table.setdefault(result.suite, []).append((result.system, signature_of(result.summary)))
    return table


def signature_of(summary: dict[str, Any]) -> str:
    """The first signature of a summary."""
    found = summary.get("signature") or next(iter(summary.get("signatures", {}).values()), "")
    return str(found)


def matched_results(
    named: Sequence[str], names: Sequence[str], steps: Sequence[int], runs: Path
) -> dict[str, list[FinishedResult]]:
    """The results to compare: {suite: one result of each system, in the order given}.

    Raises
    ------
    MissingError
        If fewer than two results are given, names or steps are not as many, or one occurs twice.
    EarmarkError
        If no suite is in all of the results.
    """
    if len(named) < 2:
        raise MissingError("Give two results or more: folders, or names that `uv run compare.py` lists.")
    for flag, values in (("--names", names), ("--steps", steps)):
        if values and len(values) != len(named):
            raise MissingError(f"{flag} needs one value for each of the {len(named)} results; it has {len(values)}.")
    if len(set(steps)) < len(steps):
        twice_step = next(step for step in steps if list(steps).count(step) > 1)
        raise MissingError(f"--steps has {twice_step} twice. Give each result a step of its own.")
    labels = list(names) or distinct_names([_without_suite(Path(one)) for one in named])
    steps = list(steps) or steps_in_names(labels)
    if len(set(labels)) < len(labels):
        twice = next(name for name in labels if labels.count(name) > 1)
        raise MissingError(f"Two results have the name {twice}. Give each result a name of its own with --names.")
    of_systems: list[dict[str, FinishedResult]] = []
    for place, (one, label) in enumerate(zip(named, labels, strict=True)):
        step = steps[place] if steps else None
        of_suites: dict[str, FinishedResult] = {}
        for folder in find_results(one, runs).values():
            result = read_result(folder, label, step)
            if result.suite in of_suites:
                raise MissingError(
                    f"{one} holds several results of {result.suite}: {shown_path(of_suites[result.suite].folder)}, "
                    f"{shown_path(folder)}. Name one of them."
                )
            of_suites[result.suite] = result
        of_systems.append(of_suites)
    suites = [suite for suite in of_systems[0] if all(suite in results for results in of_systems)]
    if not suites:
        each = "; ".join(f"{label}: {', '.join(sorted(r))}" for label, r in zip(labels, of_systems, strict=True))
        raise EarmarkError(f"The results have nothing in common that could be compared ({each}).")
    return {suite: [results[suite] for results in of_systems] for suite in suites}


def steps_in_names(names: Sequence[str]) -> list[int]:
    """Training steps in names; none unless the names differ in one number alone.

    The number stands at the end of the names, or before a separator; the `2` of `wav2vec` and the version in `v2-base`
    are no steps.

    >>> steps_in_names(["clap-step-1000", "clap-step-20000"]), steps_in_names(["a-1", "b-2"])
    ([1000, 20000], [])
    >>> steps_in_names(["ckpt_1000-MyEncoder", "ckpt_2000-MyEncoder"]), steps_in_names(["v1-base", "v2-base"])
    ([1000, 2000], [])
    """
    parts = [re.split(r"(\d+)", name) for name in names]  # text, number, text, …
    if len({len(one) for one in parts}) != 1:
        return []
    varying = [place for place, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return []
    place, first = varying[0], parts[0]
    after, before = first[place + 1], first[place - 1]
    inside = place + 2 < len(first) or after != ""
    if inside and (after[:1].isalpha() or before[-1:].lower() == "v"):
        return []
    return [int(one[place]) for one in parts]


def _without_suite(folder: Path) -> Path:
    """The folder of a system, where the last parts of a result's folder name what was evaluated."""
    if not (folder / SUMMARY).is_file():
        return folder
    suite = Path(read_result(folder, "").suite).parts
    return folder.parents[len(suite) - 1] if folder.parts[-len(suite) :] == suite else folder


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """A short name for each folder: the last parts of its path in which it differs from the others.

    >>> distinct_names([Path("runs/a/emolia-emo"), Path("runs/b/emolia-emo")])
    ['a', 'b']
    >>> distinct_names([Path("one"), Path("two")])
    ['one', 'two']
    """
    parts = [path.parts for path in folders]
    while len(parts) > 1 and all(len(one) > 1 for one in parts) and len({one[-1] for one in parts}) == 1:
        parts = [one[:-1] for one in parts]
    names = [one[-1] if one else "result" for one in parts]
    return names if len(set(names)) == len(names) else ["/".join(path.parts[-3:]) for path in folders]
