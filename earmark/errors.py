"""The errors a user is expected to meet, each with the exit code it ends a script with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN_KINDS = 50  # of faults of a file: a screenful or two
SHOWN_LINES = 5  # of one kind
SHOWN_OF_CAUSE = 200
SCRIPT_PLACEHOLDER = (
    "SCRIPT.py"  # in a command that a message names: the script that is running, which `script` puts in
)


class EarmarkError(Exception):
    """An expected failure whose message says what was wrong, where, and what to do next. Exit code 1."""

    exit_code = 1


class MissingError(EarmarkError):
    """Something needed is not there: a folder, an extra, a program. The message names what supplies it. Exit code 2."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Fault:
    """One wrong cell of a table: its line (1-based, as an editor counts), column, and what is wrong with it."""

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
    """Bad data in one or more files: every fault of every file, then what to do.

    faults: {file as the user knows it: its faults}. remedy: the sentence that ends the message.
    """

    def __init__(self, faults: Mapping[str, Sequence[Fault]], remedy: str) -> None:
        self.faults = {name: sorted(found) for name, found in faults.items() if found}
        self.remedy = remedy
        super().__init__("\n".join([*(_block(name, found) for name, found in self.faults.items()), remedy]))

    @classmethod
    def merged(cls, errors: Sequence["DataError"]) -> "DataError":
        """One error for several, with all their faults and remedies."""
        faults: dict[str, list[Fault]] = {}
        for error in errors:
            for name, found in error.faults.items():
                faults.setdefault(name, []).extend(found)
        return cls(faults, "\n".join(dict.fromkeys(error.remedy for error in errors)))


def _block(name: str, faults: Sequence[Fault]) -> str:
    """The faults of a file, those alike in one line; of very many kinds the first, and how many more there are."""
    alike: dict[tuple[str, str], list[int]] = {}
    for fault in faults:
        alike.setdefault((fault.column, fault.problem), []).append(fault.line)
    kinds = list(alike.items())
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
    """A path as messages show it: relative to the working folder where it lies below, else as it is.

    >>> shown_path(Path("annotations/emolia-emo/users.csv"))
    'annotations/emolia-emo/users.csv'
    """
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return str(path)


def shown_cause(error: BaseException) -> str:
    """The first line of an error, short enough for a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:SHOWN_OF_CAUSE]
