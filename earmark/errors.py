"""Expected errors, each with the exit code of the script."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

SHOWN_KINDS = 30  # kinds of faults listed per file
SHOWN_LINES = 5  # lines listed per kind
SHOWN_VALUES = 5  # different values of a column that are listed one by one
SHOWN_WIDTH = 60  # characters of a value
MAX_CAUSE = 200  # characters
SCRIPT_PLACEHOLDER = "SCRIPT.py"  # in messages; `cli.main` replaces it with the name of the running script


class EarmarkError(Exception):
    """Expected failure. The message says what failed, where, and what to do. Exit code 1."""

    exit_code = 1


class MissingError(EarmarkError):
    """Something required is missing: a directory, an extra, a program. The message says how to get it. Exit code 2."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """An invalid cell or row of a table.

    Attributes
    ----------
    line : int
        From 1, as in an editor.
    column : str
        Empty if the fault concerns the whole row.
    problem : str
        What is wrong. With a value, the words that follow it, such as "is not a number".
    value : str or None
        The invalid cell, for faults that are reported by value.
    advice : str
        What would read the value, such as a flag; printed once for all cells with the same problem.
    """

    line: int
    column: str
    problem: str
    value: str | None = None
    advice: str = ""

    @property
    def text(self) -> str:
        """The problem with its value."""
        return self.problem if self.value is None else f"'{shown_value(self.value)}' {self.problem}"

    def __str__(self) -> str:
        return (
            f"  line {self.line}, column {self.column}: {self.text}"
            if self.column
            else f"  line {self.line}: {self.text}"
        )


def shown_value(value: str) -> str:
    """A cell for messages, on one line and shortened."""
    text = " ".join(value.split())
    return text if len(text) <= SHOWN_WIDTH else f"{text[: SHOWN_WIDTH - 1]}…"


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
        self.faults = {
            name: sorted(of_file, key=lambda fault: (fault.line, fault.column, fault.text))
            for name, of_file in faults.items()
            if of_file
        }
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
    """List the faults of a file; equal faults share a line, and only the first kinds are listed in full.

    Cells of a column with the same problem share a kind if they have many different values.
    """
    by_problem: dict[tuple[str, str, str], list[Fault]] = {}
    for fault in faults:
        by_problem.setdefault((fault.column, fault.problem, fault.advice), []).append(fault)
    kinds: list[list[Fault]] = []
    for of_problem in by_problem.values():
        by_text: dict[str, list[Fault]] = {}
        for fault in of_problem:
            by_text.setdefault(fault.text, []).append(fault)
        in_full = len(by_text) <= SHOWN_VALUES or of_problem[0].value is None
        kinds += by_text.values() if in_full else [of_problem]
    shown: list[str] = []
    for of_kind, following in zip_longest(kinds[:SHOWN_KINDS], kinds[1:SHOWN_KINDS]):
        shown += _kind(of_kind)
        advice = of_kind[0].advice
        if advice and (following is None or following[0].advice != advice):
            shown.append(f"    {advice}")
    hidden = kinds[SHOWN_KINDS:]
    rest = sum(len(of_kind) for of_kind in hidden)
    more = [f"  and {rest:,} more of {_count(len(hidden), 'other kind')}"] if rest else []
    return "\n".join([f"{name}: {_count(len(faults), 'fault')}", *shown, *more])


def _kind(faults: Sequence[Fault]) -> list[str]:
    """Lines of a message for faults of the same kind: equal faults, or cells of a column with the same problem."""
    first = faults[0]
    if len({fault.text for fault in faults}) > 1:
        values = Counter(shown_value(fault.value or "") for fault in faults).most_common()
        examples = ", ".join(f"'{value}' ({n:,})" for value, n in values[:SHOWN_VALUES])
        return [
            f"  {len(faults):,} cells of column {first.column}, the first in line {first.line}: {first.problem}",
            f"    {_count(len(values), 'value')}: {examples}{', …' if len(values) > SHOWN_VALUES else ''}",
        ]
    if len(faults) == 1:
        return [str(first)]
    listed = ", ".join(f"{fault.line}" for fault in faults[:SHOWN_LINES])
    more = f" and {len(faults) - SHOWN_LINES:,} more" if len(faults) > SHOWN_LINES else ""
    return [f"  lines {listed}{more}{f', column {first.column}' if first.column else ''}: {first.text}"]


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
