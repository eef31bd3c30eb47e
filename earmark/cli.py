"""What every script does alike: flags, progress, exit codes, errors in one line.

The only module of the library that speaks to a terminal. Scripts and command functions import it; what computes does
not. A script parses its flags once into a frozen record (`options`), and passes that record and its `Invocation` on:
no `argparse.Namespace` below the script.
"""

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from earmark import __version__
from earmark.errors import SCRIPT_PLACEHOLDER, EarmarkError, shown_path

if TYPE_CHECKING:
    import numpy as np

COMPLETE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

Item = TypeVar("Item")
Options = TypeVar("Options")


@dataclass(frozen=True)
class Invocation:
    """How a script was called, and what it says while it works.

    script: its file. argv: the words after it, as given. seed: of everything random. quiet: no progress and no
    warnings. debug: errors with their traceback.
    """

    script: Path
    argv: tuple[str, ...] = ()
    seed: int = 0
    quiet: bool = False
    debug: bool = False

    def warn(self, text: str) -> None:
        """Something the user should know, on stderr unless --quiet."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def progress(self, items: Iterable[Item], *, total: int, label: str, unit: str) -> "tqdm[Item]":
        """The items, with a bar on stderr that stays away when stderr is no terminal."""
        return tqdm(items, total=total, desc=label, unit=unit, disable=self._no_bar, file=sys.stderr)

    def bytes_bar(self, *, total: int, label: str) -> "tqdm[Any]":
        """A bar that counts bytes; `update(n)` moves it on."""
        return tqdm(total=total, desc=label, unit="B", unit_scale=True, disable=self._no_bar, file=sys.stderr)

    @property
    def _no_bar(self) -> bool | None:
        return True if self.quiet else None  # None: tqdm looks whether stderr is a terminal

    def generator(self) -> "np.random.Generator":
        """The generator that --seed asks for, as fresh each time."""
        import numpy as np

        return np.random.default_rng(self.seed)


Command = Callable[[argparse.Namespace, Invocation], int]


def options(kind: type[Options], arguments: argparse.Namespace, **known: Any) -> Options:
    """A command's frozen record of options, from flags of the same names; lists become tuples.

    known: fields that no flag gives, such as secrets from the environment. A field that is a record itself is filled
    likewise. A field without a flag has its default.

    >>> @dataclass(frozen=True)
    ... class Clips:
    ...     limit: int
    ...     names: tuple[str, ...] = ()
    >>> options(Clips, argparse.Namespace(limit=3, names=["a"], seed=0))
    Clips(limit=3, names=('a',))
    """
    given = {**vars(arguments), **known}
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if is_dataclass(field.type) and field.name not in given:
            values[field.name] = options(field.type, arguments, **known)  # type: ignore[arg-type]
        elif field.name in given:
            value = given[field.name]
            values[field.name] = tuple(value) if isinstance(value, list) else value
        elif field.default is MISSING and field.default_factory is MISSING:
            raise TypeError(f"{kind.__name__}.{field.name} has no flag and no default")
    return kind(**values)


def argument_parser(documentation: str, command: Command | None = None) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring, with the flags that every script has, for `main`."""
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"earmark {__version__}")
    _add_common(parser, seed=0, switch=False)
    parser.set_defaults(command=command)
    return parser


def add_renamed_argument(parser: "argparse._ActionsContainer", name: str, former: str, **settings: Any) -> None:
    """Add a flag that had another name in the previous release; the former name still works and help omits it.

    Parameters
    ----------
    parser : a parser, an argument group or a mutually exclusive group.
    name, former : the flag and its former spelling, such as `--embedding-cache` and `--store`.
    settings : as for `argparse.ArgumentParser.add_argument`.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_renamed_argument(parser, "--workers", "--jobs", type=int, default=1)
    >>> parser.parse_args(["--jobs", "2"]).workers, parser.parse_args([]).workers
    (2, 1)
    >>> "jobs" in parser.format_help()
    False
    """
    flag = parser.add_argument(name, **settings)
    hidden = {"dest": flag.dest, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument(former, **{**settings, **hidden})


def subcommand(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Command,
    summary: str,
    examples: Sequence[str] = (),
    former: str | None = None,
) -> argparse.ArgumentParser:
    """A command of a script that has several; it takes the common flags too, before its name or after it.

    examples: commands to copy, shown below its flags. former: its name in the previous release, which still works.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n".join(["examples:", *(f"  {example}" for example in examples)]) if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_common(parser, seed=argparse.SUPPRESS, switch=argparse.SUPPRESS)
    parser.set_defaults(command=command)
    if former is not None:
        commands.choices[former] = parser
    return parser


def _add_common(parser: argparse.ArgumentParser, seed: object, switch: object) -> None:
    parser.add_argument("--seed", type=natural_int, default=seed, help="seed of everything random (default 0)")
    parser.add_argument("--quiet", action="store_true", default=switch, help="no progress and no warnings on stderr")
    parser.add_argument("--debug", action="store_true", default=switch, help="show the traceback of an error")


def main(parser: argparse.ArgumentParser, script: str, argv: Sequence[str] | None) -> int:
    """Parse argv and run the command that the parser's default `command` names, a `Command`.

    What goes wrong becomes one line on stderr and an exit code: 0 complete; 1 bad data or a failed item; 2 wrong usage
    or something missing; 130 interrupted. script: its __file__.
    """
    words = tuple(sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(words)
    invocation = Invocation(Path(script), words, arguments.seed, arguments.quiet, arguments.debug)
    return _exit_code(lambda: arguments.command(arguments, invocation), Path(script).name, arguments.debug)


def _exit_code(work: Callable[[], int], script: str, debug: bool) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        return work()
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. What was finished is kept; the same command continues.\n")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COMPLETE
    except EarmarkError as error:
        return _report(error, error.exit_code, debug, str(error).replace(SCRIPT_PLACEHOLDER, script))
    except OSError as error:
        return _report(error, FAILED, debug, format_os_error(error))


def _report(error: Exception, exit_code: int, debug: bool, text: str = "") -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"{text or error}\n")
    return exit_code


# What to do about errors of the operating system.
REMEDIES = {
    errno.ENOSPC: "Make room and run the same command again; what was finished is kept.",
    errno.EEXIST: "A file is where a folder has to be; choose another.",
    errno.ENOTDIR: "A file is where a folder has to be; choose another.",
    errno.EACCES: "Choose a folder or file that you may use.",
    errno.EROFS: "Choose a folder that can be written to.",
    errno.ENOENT: "Check the path.",
}


def format_os_error(error: OSError) -> str:
    """What went wrong, where, and what to do; an error that says so itself is left as it is."""
    if error.errno is None:
        return str(error)
    where = f"{shown_path(Path(os.fsdecode(error.filename)))}: " if error.filename is not None else ""
    return f"{where}{error.strerror}. {REMEDIES.get(error.errno, '')}".strip()


def show(text: str) -> None:
    """A result, on stdout; where nobody reads it any more, as behind `| head`, the exit code still says how it went."""
    try:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def finite_float(text: str) -> float:
    """An argparse type: a number that is neither NaN nor infinite."""
    value = float(text)
    if not isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not finite")
    return value


def positive_float(text: str) -> float:
    """An argparse type: a finite number above 0."""
    value = finite_float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def probability(text: str) -> float:
    """An argparse type: a number above 0 and below 1."""
    value = positive_float(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text} is not below 1")
    return value


def natural_int(text: str) -> int:
    """An argparse type: a whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return value


def positive_int(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
