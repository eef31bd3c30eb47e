"""TidyVoice: speaker verification across languages. Who suffers when the language changes, and what is submitted.

Utterances are `spk/lang/file.wav`, so a path tells the language. Evaluation lists have neither labels nor such paths;
their scores are submitted as one ZIP, a file of bare numbers for each list.
"""

import io
import re
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from earmark.errors import shown_path
from earmark.metrics import detection
from earmark.metrics.estimate import Estimate
from earmark.speaker.evaluation import evaluate
from earmark.speaker.trials import Trials

BoolArray = NDArray[np.bool_]

CHUNK_LINES = 1 << 16
NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
SHOWN = 20  # faults of one file
LONGEST_LINE = 256  # bytes; a number needs 25
MOST_BYTES = 1 << 30  # of one file, unpacked: fifty million numbers
ROUNDING = 1e-5  # what a file may have lost of a score: relative, absolute below 1


@cache
def facts() -> dict[str, Any]:
    """The published facts: `lists`, `groups`, `conditions`, `baseline`."""
    return tomllib.loads(files(__package__).joinpath("tidyvoice.toml").read_text(encoding="utf-8"))


# --- languages ----------------------------------------------------------------------------------------------


def language(name: str) -> str | None:
    """The language of an utterance, the folder that holds it; None where the path is no `spk/lang/file`.

    >>> language("id0001/de/a.wav"), language("a.wav")
    ('de', None)
    """
    parts = name.split("/")
    return parts[-2] if len(parts) >= 3 and parts[-2] else None


def same_language(trials: Trials) -> BoolArray | None:
    """(n,) whether both sides of a trial are in one language; None where some path tells no language."""
    languages = [language(str(name)) for name in trials.names]
    if None in languages:
        return None
    code, _ = pd.factorize(np.array(languages, dtype=object))
    return np.asarray(code[trials.enrolment] == code[trials.test])


def categories(trials: Trials) -> dict[str, BoolArray] | None:
    """{group: (n,) the trials in it} of {target, non-target} × {same, different language}.

    None without labels, or where some path tells no language.
    """
    same = same_language(trials)
    if same is None or trials.labels is None:
        return None
    return {
        group["name"]: (trials.labels == group["target"]) & (same == group["same_language"])
        for group in facts()["groups"]
    }


@dataclass(frozen=True)
class Group:
    """One kind of trial. error: "miss rate" of targets or "false alarm rate" of the others, at the pooled threshold.

    mean_score and rate are NaN where the list has no such trial.
    """

    name: str
    n: int
    mean_score: float
    error: str
    rate: float


@dataclass(frozen=True)
class Condition:
    """Targets and non-targets of one condition of language. Rates have no value, but a reason, where one is lacking."""

    name: str
    n_target: int
    n_nontarget: int
    eer: Estimate
    min_dcf: Estimate


@dataclass(frozen=True)
class Breakdown:
    """Error rates by language. threshold: where the EER of all trials is met. why: there are no rows, in words."""

    groups: list[Group]
    conditions: list[Condition]
    threshold: float
    why: str = ""


def breakdown(
    trials: Trials,
    speakers: list[str] | None = None,
    p_target: float = detection.P_TARGET,
    *,
    intervals: bool = True,
) -> Breakdown:
    """Which kind of trial suffers: four groups at one threshold, and the error rates within each condition.

    trials: scored; finite scores. speakers, intervals: as in `verification.evaluate`. Lists without labels,
    or without `spk/lang/file` paths, have no breakdown: no rows, and the reason. ValueError without scores, or where
    the whole list lacks targets or non-targets.
    """
    if trials.scores is None:
        raise ValueError("a breakdown needs scores")
    if trials.labels is None:
        return Breakdown([], [], np.nan, "the list has no labels")
    same = same_language(trials)
    if same is None:
        return Breakdown([], [], np.nan, "the paths are no spk/lang/file, so languages are not known")
    curve = detection.roc(trials.scores, trials.labels)
    threshold = detection.interpolated_equal_error_rate(curve).threshold
    groups = [
        _group(row["name"], row["target"], trials.scores[of], threshold)
        for row, of in zip(facts()["groups"], (categories(trials) or {}).values(), strict=True)
    ]
    conditions = [
        _condition(row["name"], trials.take(np.isin(same, row["same_language"])), speakers, p_target, intervals)
        for row in facts()["conditions"]
    ]
    return Breakdown(groups, conditions, threshold)


def _group(name: str, is_target: bool, scores: NDArray[np.float64], threshold: float) -> Group:
    wrong = scores < threshold if is_target else scores >= threshold
    mean, rate = (float(scores.mean()), float(wrong.mean())) if len(scores) else (np.nan, np.nan)
    return Group(name, len(scores), mean, "miss rate" if is_target else "false alarm rate", rate)


def _condition(name: str, trials: Trials, speakers: list[str] | None, p_target: float, intervals: bool) -> Condition:
    labels = np.asarray(trials.labels)
    n_target, n_nontarget = int(labels.sum()), int((~labels).sum())
    if not n_target or not n_nontarget:
        none = Estimate(None, n=len(trials), why=f"no {'target' if not n_target else 'non-target'} trials")
        return Condition(name, n_target, n_nontarget, none, none)
    found = evaluate(trials, speakers, intervals=intervals, p_target=p_target).metrics
    return Condition(name, n_target, n_nontarget, found["eer"], found["min_dcf"])


# --- submission ---------------------------------------------------------------------------------------------


def submitted_files() -> dict[str, str]:
    """{list: its file in a submission}.

    >>> submitted_files()
    {'A': 'tv26_eval-A.txt', 'U': 'tv26_eval-U.txt'}
    """
    return {name: row["file"] for name, row in facts()["lists"].items() if "file" in row}


def submission_bytes(scores: Mapping[str, ArrayLike]) -> bytes:
    """The ZIP to submit: for each list a file with one number a line, in the order of the list, without a header.

    scores: {"A": (n,), "U": (m,)}. Numbers are written so that they are read back exactly. The same scores give the
    same bytes, on one version of zlib. ValueError for other or missing lists, or scores that are not finite.
    """
    names = submitted_files()
    if set(scores) != set(names):
        raise ValueError(f"a submission holds the lists {', '.join(names)}, not {', '.join(scores) or 'nothing'}")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, file in names.items():
            values = np.asarray(scores[name], dtype=float)
            if values.ndim != 1 or not np.isfinite(values).all():
                raise ValueError(f"list {name}: one finite score for each trial is expected")
            info = zipfile.ZipInfo(file, (facts()["archive_year"], 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            with archive.open(info, "w") as member:
                for start in range(0, len(values), CHUNK_LINES):
                    lines = map(repr, values[start : start + CHUNK_LINES].tolist())
                    member.write(("\n".join(lines) + "\n").encode())
    return packed.getvalue()


def check_submission(
    path: Path, lists: Mapping[str, Sized | int] | None = None, scores: Mapping[str, ArrayLike] | None = None
) -> list[str]:
    """Everything that is wrong with a submission; empty where nothing is.

    lists: {"A": its trials or their number, "U": …}; without them, the published sizes. A file of bare numbers does
    not tell their order: it is seen only against scores, {"A": (n,), …} in the order of the list, from which the
    file's numbers may differ by rounding. The archive is not trusted: it is read as a stream, each file up to
    MOST_BYTES, and nothing is unpacked onto the disk.
    """
    names = submitted_files()
    counts = {name: row["trials"] for name, row in facts()["lists"].items() if name in names}
    counts |= {name: n if isinstance(n, int) else len(n) for name, n in (lists or {}).items()}
    try:
        with zipfile.ZipFile(path) as archive:
            problems = _wrong_members(archive)
            for name, file in names.items():
                if archive.namelist().count(file) == 1:
                    known = None if scores is None or name not in scores else np.asarray(scores[name], dtype=float)
                    problems += [f"{file}: {what}" for what in _wrong_file(archive, file, counts[name], known)]
    except FileNotFoundError:
        return [f"{shown_path(path)}: is not there"]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        return [f"{shown_path(path)}: is no ZIP archive, or damaged ({error})"]
    return problems


def _wrong_members(archive: zipfile.ZipFile) -> list[str]:
    found, expected = archive.namelist(), list(submitted_files().values())
    others = sorted(set(found) - set(expected))
    problems = [f"{file}: is missing" for file in expected if file not in found]
    problems += [f"{file}: is there {found.count(file)} times" for file in expected if found.count(file) > 1]
    for name in others[:SHOWN]:
        inside = "/" in name or "\\" in name
        problems.append(
            f"{_shown(name)}: {'files belong at the top, not in a folder' if inside else 'is not expected'}"
        )
    return [*problems, *([f"and {len(others) - SHOWN:,} more files"] if len(others) > SHOWN else [])]


def _wrong_file(archive: zipfile.ZipFile, file: str, count: int, scores: NDArray[np.float64] | None) -> Iterator[str]:
    """The problems of one file: up to SHOWN wrong lines, then the number of lines, then the first of a wrong order."""
    info = archive.getinfo(file)
    if info.flag_bits & 0x1:
        yield "is encrypted"
        return
    if info.file_size > MOST_BYTES:
        yield f"has {info.file_size:,} bytes, too many for {count:,} numbers; it was not read"
        return
    n_wrong, number, moved = 0, 0, None
    try:
        with archive.open(info) as member:
            reader = io.BufferedReader(member)  # type: ignore[type-var]
            while line := reader.readline(LONGEST_LINE):
                number += 1
                value, fault = _value(line, first=number == 1)
                if fault:
                    n_wrong += 1
                    if n_wrong <= SHOWN:
                        yield f"line {number:,}: {fault}"
                    if len(line) == LONGEST_LINE:
                        yield "was not read beyond that line"
                        return
                elif scores is not None and moved is None and number <= len(scores):
                    moved = number if not _close(value, scores[number - 1]) else None
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, EOFError) as error:
        yield f"cannot be read beyond line {number:,} ({error})"
        return
    if n_wrong > SHOWN:
        yield f"{n_wrong - SHOWN:,} more lines are wrong"
    if number != count:
        yield f"has {number:,} lines where the list has {count:,} trials"
    if scores is not None and len(scores) != count:
        yield f"was compared with {len(scores):,} scores where the list has {count:,} trials"
    if moved is not None and scores is not None:
        score = float(scores[moved - 1])
        yield f"line {moved:,}: is not the score of trial {moved:,}, {score!r}; the order may be another"


def _value(line: bytes, first: bool) -> tuple[float, str]:
    """The number on a line, or what is wrong with the line."""
    text = line.rstrip(b"\r\n")
    if NUMBER.fullmatch(text):
        value = float(text)
        return value, "" if np.isfinite(value) else f"{_shown(text)} is not finite"
    cells = text.split()
    if len(line) == LONGEST_LINE:
        return np.nan, f"{_shown(text)} is longer than any number"
    if not cells:
        return np.nan, "is empty"
    if len(cells) > 1 and NUMBER.fullmatch(cells[-1]):
        return np.nan, f"{_shown(text)} has {len(cells)} columns; a line is the score alone"
    if cells[0].lower().lstrip(b"+-") in (b"nan", b"inf", b"infinity"):
        return np.nan, f"{_shown(text)} is not finite"
    return np.nan, f"{_shown(text)} is {'a header' if first else 'no number'}; a line is one score"


def _close(value: float, score: float) -> bool:
    return abs(value - score) <= ROUNDING * max(abs(score), 1)


def _shown(text: str | bytes) -> str:
    """Text of a stranger, on one short line."""
    known = text.decode("ascii", "backslashreplace") if isinstance(text, bytes) else text
    return ascii(known if len(known) <= 40 else known[:40] + "…")
