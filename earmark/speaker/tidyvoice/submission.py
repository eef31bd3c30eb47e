"""What TidyVoice takes: one ZIP with a file of bare numbers for each evaluation list, and the rules for it."""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sized
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.errors import shown_path
from earmark.speaker.tidyvoice.evaluation import tidyvoice_definition

CHUNK_LINES = 1 << 16
NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
SHOWN = 20  # faults of one file
LONGEST_LINE = 256  # bytes; a number needs 25
MOST_BYTES = 1 << 30  # of one file, unpacked: fifty million numbers
ROUNDING = 1e-5  # what a file may have lost of a score: relative, absolute below 1


def submitted_files() -> dict[str, str]:
    """{list: its file in a submission}.

    >>> submitted_files()
    {'A': 'tv26_eval-A.txt', 'U': 'tv26_eval-U.txt'}
    """
    return {name: row["file"] for name, row in tidyvoice_definition()["lists"].items() if "file" in row}


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
            info = zipfile.ZipInfo(file, (tidyvoice_definition()["archive_year"], 1, 1, 0, 0, 0))
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
    counts = {name: row["trials"] for name, row in tidyvoice_definition()["lists"].items() if name in names}
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
