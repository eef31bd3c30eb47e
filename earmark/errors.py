"""Expected errors, each with the exit code of the script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN_KINDS = 50  # kinds of faults listed per file
SHOWN_LINES = 5  # lines listed per kind
MAX_CAUSE = 200  # characters
SCRIPT_PLACEHOLDER = "SCRIPT.py"  # in messages; `cli.main` replaces it with the name of the running script


class EarmarkError(Exception):
    """Expected failure. The message says what failed, where, and what to do. Exit code 1."""

    exit_code = 1


class MissingError(EarmarkError):
    """Something required is missing: a directory, an extra, a program. The message says how to get it. Exit code 2."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Fault:
    """An invalid cell or row of a table.

    Attributes
    ----------
    line : int
        From 1, as in an editor.
    column : str
        Empty if the fault concerns the whole row.
    problem : str
    """

    line: int
    column: str
    problem: str

    def __str__(self) -> str:
        return (
            f"  line {self.line}, column {self.column}: {self.problem}"
            if self.column
            else f"  line {self.line}: {self.problem}"
        )


class DataError(EarmarkError):
    """Invalid data in one or more files, with all faults.

    Parameters
    ----------
    faults : mapping of str to sequence of Fault
        Faults of each file, by the name shown to the user.
    remedy : str
        What to do; ends the message.
    """

    def __init__(self, faults: Mapping[str, Sequence[Fault]], remedy: str) -> None:
        self.faults = {name: sorted(of_file) for name, of_file in faults.items() if of_file}
        self.remedy = remedy
        super().__init__("\n".join([*(_block(name, of_file) for name, of_file in self.faults.items()), remedy]))

    @classmethod
    def merged(cls, errors: Sequence["DataError"]) -> "DataError":
        """Merge several errors into one with all faults and remedies."""
        faults: dict[str, list[Fault]] = {}
        for error in errors:
            for name, of_file in error.faults.items():
                faults.setdefault(name, []).extend(of_file)
        return cls(faults, "\n".join(dict.fromkeys(error.remedy for error in errors)))


def _block(name: str, faults: Sequence[Fault]) -> str:
    """List the faults of a file; equal faults share a line, and only the first kinds are listed in full."""
    lines_by_kind: dict[tuple[str, str], list[int]] = {}
    for fault in faults:
        lines_by_kind.setdefault((fault.column, fault.problem), []).append(fault.line)
    kinds = list(lines_by_kind.items())
    shown = [_kind(lines, column, problem) for (column, problem), lines in kinds[:SHOWN_KINDS]]
    rest = sum(len(lines) for _, lines in kinds[SHOWN_KINDS:])
    more = [f"  and {rest:,} more of {_count(len(kinds) - SHOWN_KINDS, 'other kind')}"] if rest else []
    return "\n".join([f"{name}: {_count(len(faults), 'fault')}", *shown, *more])


def _kind(lines: Sequence[int], column: str, problem: str) -> str:
    if len(lines) == 1:
        return str(Fault(lines[0], column, problem))
    listed = ", ".join(f"{line}" for line in lines[:SHOWN_LINES])
    more = f" and {len(lines) - SHOWN_LINES:,} more" if len(lines) > SHOWN_LINES else ""
    return f"  lines {listed}{more}{f', column {column}' if column else ''}: {problem}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n:,} {noun}s"


def shown_path(path: Path) -> str:
    """Path for messages: relative to the working directory if below it.

    Examples
    --------
    >>> shown_path(Path("annotations/emolia-emo/users.csv"))
    'annotations/emolia-emo/users.csv'
    """
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return str(path)


def shown_cause(error: BaseException) -> str:
    """First line of an error message, shortened."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:MAX_CAUSE]
