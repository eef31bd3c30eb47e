"""Submissions to TidyVoice: a ZIP with one file of scores per evaluation list, and its validation."""

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
MAX_SHOWN = 20  # faults per file, and unexpected files
MAX_LINE_BYTES = 256  # a number needs at most 25
MAX_FILE_BYTES = 1 << 30  # uncompressed; fifty million numbers
ROUNDING_TOLERANCE = 1e-5  # of submitted scores; relative, absolute below 1


def submitted_files() -> dict[str, str]:
    """Evaluation list to the name of its file in a submission.

    Examples
    --------
    >>> submitted_files()
    {'A': 'tv26_eval-A.txt', 'U': 'tv26_eval-U.txt'}
    """
    return {name: row["file"] for name, row in tidyvoice_definition()["lists"].items() if "file" in row}


def submission_bytes(scores: Mapping[str, ArrayLike]) -> bytes:
    """Create the ZIP file of a submission.

    It contains one file per list with one score per line, in the order of the list and without a header.

    Parameters
    ----------
    scores : mapping
        {"A": (n,), "U": (m,)}; finite.

    Returns
    -------
    bytes
        Scores are written with full precision. The same scores give the same bytes with the same version of zlib.

    Raises
    ------
    ValueError
        If the lists are not exactly A and U, or scores are not (n,) and finite.
    """
    names = submitted_files()
    if set(scores) != set(names):
        raise ValueError(f"a submission has the lists {', '.join(names)}, not {', '.join(scores) or 'none'}")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, file in names.items():
            values = np.asarray(scores[name], dtype=float)
            if values.ndim != 1 or not np.isfinite(values).all():
                raise ValueError(f"list {name}: expected one finite score per trial")
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
    """Validate the ZIP file of a submission.

    Parameters
    ----------
    path : Path
        Read as a stream; nothing is extracted, and at most `MAX_FILE_BYTES` are read per file.
    lists : mapping, optional
        {"A": trials or number of trials, "U": …}; the published numbers of trials if missing.
    scores : mapping, optional
        {"A": (n,), "U": (m,)} in the order of the lists. Files are compared with them up to rounding; without
        them, a wrong order cannot be detected.

    Returns
    -------
    list of str
        All violations, one per line to print; empty if the submission is valid.
    """
    names = submitted_files()
    counts = {name: row["trials"] for name, row in tidyvoice_definition()["lists"].items() if name in names}
    counts |= {name: n if isinstance(n, int) else len(n) for name, n in (lists or {}).items()}
    try:
        with zipfile.ZipFile(path) as archive:
            problems = _check_members(archive)
            for name, file in names.items():
                if archive.namelist().count(file) == 1:
                    expected = None if scores is None or name not in scores else np.asarray(scores[name], dtype=float)
                    problems += [f"{file}: {fault}" for fault in _check_file(archive, file, counts[name], expected)]
    except FileNotFoundError:
        return [f"{shown_path(path)}: does not exist"]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        return [f"{shown_path(path)}: not a ZIP archive, or damaged ({error})"]
    return problems


def _check_members(archive: zipfile.ZipFile) -> list[str]:
    members, expected = archive.namelist(), list(submitted_files().values())
    unexpected = sorted(set(members) - set(expected))
    problems = [f"{file}: is missing" for file in expected if file not in members]
    problems += [f"{file}: occurs {members.count(file)} times" for file in expected if members.count(file) > 1]
    for name in unexpected[:MAX_SHOWN]:
        in_folder = "/" in name or "\\" in name
        problem = "must be at the top level of the archive, not in a folder" if in_folder else "unexpected file"
        problems.append(f"{_printable(name)}: {problem}")
    if len(unexpected) > MAX_SHOWN:
        problems.append(f"{len(unexpected) - MAX_SHOWN:,} more unexpected files")
    return problems


def _check_file(archive: zipfile.ZipFile, file: str, count: int, scores: NDArray[np.float64] | None) -> Iterator[str]:
    """The faults of one file: up to MAX_SHOWN invalid lines, the number of lines, the first score in a wrong place."""
    info = archive.getinfo(file)
    if info.flag_bits & 0x1:
        yield "is encrypted"
        return
    if info.file_size > MAX_FILE_BYTES:
        yield f"has {info.file_size:,} bytes, too many for {count:,} scores; not read"
        return
    n_invalid, number, first_mismatch = 0, 0, None
    try:
        with archive.open(info) as member:
            reader = io.BufferedReader(member)  # type: ignore[type-var]
            while line := reader.readline(MAX_LINE_BYTES):
                number += 1
                value, fault = _parse_score(line, is_first=number == 1)
                if fault:
                    n_invalid += 1
                    if n_invalid <= MAX_SHOWN:
                        yield f"line {number:,}: {fault}"
                    if len(line) == MAX_LINE_BYTES:
                        yield "the lines after it were not read"
                        return
                elif scores is not None and first_mismatch is None and number <= len(scores):
                    first_mismatch = number if not _is_close(value, scores[number - 1]) else None
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, EOFError) as error:
        yield f"cannot be read after line {number:,} ({error})"
        return
    if n_invalid > MAX_SHOWN:
        yield f"{n_invalid - MAX_SHOWN:,} more invalid lines"
    if number != count:
        yield f"has {number:,} lines, but the list has {count:,} trials"
    if scores is not None and len(scores) != count:
        yield f"cannot be compared: {len(scores):,} scores were computed, but the list has {count:,} trials"
    if first_mismatch is not None and scores is not None:
        score = float(scores[first_mismatch - 1])
        yield f"line {first_mismatch:,}: expected the score {score!r} of trial {first_mismatch:,}; check the order"


def _parse_score(line: bytes, is_first: bool) -> tuple[float, str]:
    """The score on a line, and what is wrong with the line; the score is NaN if it cannot be parsed."""
    text = line.rstrip(b"\r\n")
    if NUMBER.fullmatch(text):
        value = float(text)
        return value, "" if np.isfinite(value) else f"{_printable(text)} is not finite"
    cells = text.split()
    if len(line) == MAX_LINE_BYTES:
        return np.nan, f"{_printable(text)} is too long for a number"
    if not cells:
        return np.nan, "is empty"
    if len(cells) > 1 and NUMBER.fullmatch(cells[-1]):
        return np.nan, f"{_printable(text)} has {len(cells)} columns; expected only the score"
    if cells[0].lower().lstrip(b"+-") in (b"nan", b"inf", b"infinity"):
        return np.nan, f"{_printable(text)} is not finite"
    return np.nan, f"{_printable(text)} is {'a header' if is_first else 'not a number'}; expected one score per line"


def _is_close(value: float, score: float) -> bool:
    return abs(value - score) <= ROUNDING_TOLERANCE * max(abs(score), 1)


def _printable(text: str | bytes) -> str:
    """Quote untrusted text in ASCII, truncated to 40 characters."""
    decoded = text.decode("ascii", "backslashreplace") if isinstance(text, bytes) else text
    return ascii(decoded if len(decoded) <= 40 else decoded[:40] + "…")
