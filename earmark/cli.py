"""Command-line basics shared by all scripts: flags, progress, exit codes and error messages.

This is the only module of the library that writes to the terminal. A script parses its flags once into a frozen record
(`options`) and passes that record and its `Invocation` on; `argparse.Namespace` is not used below the script.
"""

import argparse
import errno
import os
import re
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

EMBEDDED_MIB = 20.0
DRAW_FIGURES = True  # the default of --figures
COMPLETE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
TRACKIO, WANDB, MLFLOW = "trackio", "wandb", "mlflow"

Item = TypeVar("Item")
Options = TypeVar("Options")


@dataclass(frozen=True)
class Invocation:
    """How a script was called, with its terminal output.

    Attributes
    ----------
    script : Path
    argv : tuple of str
        Arguments as given.
    seed : int
        Random seed.
    quiet : bool
        No progress bars and no warnings.
    debug : bool
        Show the traceback of errors.
    """

    script: Path
    argv: tuple[str, ...] = ()
    seed: int = 0
    quiet: bool = False
    debug: bool = False

    def warn(self, text: str) -> None:
        """Print a warning on stderr unless --quiet is set."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def progress(self, items: Iterable[Item], *, total: int, label: str, unit: str) -> "tqdm[Item]":
        """Wrap an iterable in a progress bar on stderr, shown only on a terminal.

        Parameters
        ----------
        items : iterable
        total : int
            Number of items.
        label : str
            Text before the bar.
        unit : str
            What is counted.
        """
        return tqdm(items, total=total, desc=label, unit=unit, disable=self._no_bar, file=sys.stderr)

    def bytes_bar(self, *, total: int, label: str) -> "tqdm[Any]":
        """Progress bar for bytes; advance it with `update(n)`.

        Parameters
        ----------
        total : int
            Number of bytes.
        label : str
            Text before the bar.
        """
        return tqdm(total=total, desc=label, unit="B", unit_scale=True, disable=self._no_bar, file=sys.stderr)

    @property
    def _no_bar(self) -> bool | None:
        return True if self.quiet else None  # None: tqdm checks whether stderr is a terminal

    def generator(self) -> "np.random.Generator":
        """New random generator seeded with --seed."""
        import numpy as np

        return np.random.default_rng(self.seed)


@dataclass(frozen=True)
class DatasetId:
    """A dataset repository on the Hugging Face Hub.

    Attributes
    ----------
    name : str
        ORG/NAME.
    revision : str or None
        Commit, tag or branch; None if not given.
    """

    name: str
    revision: str | None = None


@dataclass(frozen=True)
class TrackerOptions:
    """Options of experiment trackers; filled from flags of the same names.

    Attributes
    ----------
    log : tuple of str
        Names of trackers.
    log_project : str
        Project, or experiment of MLflow.
    log_step : int or None
        Training step of the evaluated checkpoint.
    """

    log: tuple[str, ...] = ()
    log_project: str = "earmark"
    log_step: int | None = None


NO_TRACKERS = TrackerOptions()


@dataclass(frozen=True)
class RayOptions:
    """How to use a Ray cluster; filled from flags of the same names.

    Attributes
    ----------
    ray : str or None
        Address of the cluster; empty to look for one and otherwise start one on this machine; None for no cluster.
    ray_actors : int or None
        Number of workers with a model; None for as many as fit.
    ray_gpus : float or None
        GPUs of a worker, also a fraction; None for one if the cluster has GPUs.
    ray_cpus : int or None
        CPU cores of a worker; None for a share of the smallest node.
    """

    ray: str | None = None
    ray_actors: int | None = None
    ray_gpus: float | None = None
    ray_cpus: int | None = None


NO_RAY = RayOptions()


@dataclass(frozen=True)
class RayEnvironment:
    """What environment variables say about Ray.

    Attributes
    ----------
    address : str
        RAY_ADDRESS; empty if not set.
    uses_tls : bool
        RAY_USE_TLS.
    python_path : tuple of str
        Folders of PYTHONPATH.
    """

    address: str = ""
    uses_tls: bool = False
    python_path: tuple[str, ...] = ()

    @classmethod
    def read(cls) -> "RayEnvironment":
        """Read the variables. Ray's usage statistics are turned off unless the user has decided otherwise."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        return cls(
            os.environ.get("RAY_ADDRESS", ""), os.environ.get("RAY_USE_TLS", "0") != "0", tuple(filter(None, folders))
        )


Command = Callable[[argparse.Namespace, Invocation], int]


def options(kind: type[Options], arguments: argparse.Namespace, **extra: Any) -> Options:
    """Fill a frozen record of options from flags with the same names; lists become tuples.

    Parameters
    ----------
    kind : dataclass
        Nested dataclass fields are filled in the same way. Fields without a flag keep their default.
    arguments : argparse.Namespace
    extra
        Values of fields without a flag, such as tokens from the environment.

    Raises
    ------
    TypeError
        If a field has neither a flag nor a default.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Clips:
    ...     limit: int
    ...     names: tuple[str, ...] = ()
    >>> options(Clips, argparse.Namespace(limit=3, names=["a"], seed=0))
    Clips(limit=3, names=('a',))
    """
    available = {**vars(arguments), **extra}
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if is_dataclass(field.type) and field.name not in available:
            values[field.name] = options(field.type, arguments, **extra)  # type: ignore[arg-type]
        elif field.name in available:
            value = available[field.name]
            values[field.name] = tuple(value) if isinstance(value, list) else value
        elif field.default is MISSING and field.default_factory is MISSING:
            raise TypeError(f"{kind.__name__}.{field.name} has no flag and no default")
    return kind(**values)


def argument_parser(documentation: str, command: Command | None = None, *, seed: int = 0) -> argparse.ArgumentParser:
    """Create a parser with the flags common to all scripts; its help is the script's docstring.

    Parameters
    ----------
    documentation : str
    command : Command, optional
        Run by `main` unless a subcommand is chosen.
    seed : int
        Default of --seed.
    """
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"earmark {__version__}")
    _add_common(parser, seed=seed, switch=False)
    parser.set_defaults(command=command)
    return parser


def add_renamed_argument(parser: "argparse._ActionsContainer", name: str, former: str, **settings: Any) -> None:
    """Add a renamed flag; its name in the previous release still works but is hidden from the help.

    Parameters
    ----------
    parser : ArgumentParser or argument group
    name, former : str
        New and former flag, such as `--embedding-cache` and `--store`.
    settings
        As for `argparse.ArgumentParser.add_argument`.

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


def add_figures_flag(parser: "argparse._ActionsContainer") -> None:
    """Add --no-figures, for scripts that write figures and report.html."""
    parser.add_argument(
        "--figures",
        action=argparse.BooleanOptionalAction,
        default=DRAW_FIGURES,
        help="write figures and report.html (default: yes)",
    )


def add_page_flags(parser: "argparse._ActionsContainer") -> None:
    """Add --no-figures and --embed-audio, for scripts whose report.html has clips."""
    add_figures_flag(parser)
    parser.add_argument(
        "--embed-audio",
        type=positive_float,
        default=0.0,
        nargs="?",
        const=EMBEDDED_MIB,
        metavar="MIB",
        help=f"embed up to this much audio in report.html (no value: {EMBEDDED_MIB:g} MiB; default: link to clips)",
    )


def add_dataset_id_flag(parser: "argparse._ActionsContainer") -> None:
    """Add --dataset-id, for scripts that write results for model hubs."""
    parser.add_argument(
        "--dataset-id",
        type=dataset_id,
        metavar="ORG/NAME",
        help="also write eval_results.yaml and mteb_results.json, for model hubs, with the results on this dataset of "
        "the Hugging Face Hub; ORG/NAME@REVISION names a revision",
    )


def add_log_flags(parser: "argparse._ActionsContainer") -> None:
    """Add --log, --log-project and --log-step, for scripts whose results can go to an experiment tracker."""
    parser.add_argument(
        "--log",
        action="append",
        choices=[TRACKIO, WANDB, MLFLOW],
        default=[],
        help="also log the headline numbers and the report to this experiment tracker; repeatable (default: none)",
    )
    parser.add_argument(
        "--log-project",
        default=TrackerOptions.log_project,
        metavar="NAME",
        help=f"project, or experiment of mlflow (default: {TrackerOptions.log_project})",
    )
    parser.add_argument(
        "--log-step",
        type=natural_int,
        metavar="N",
        help="training step of the model; results with the same model name continue one run (default: a new run)",
    )


def add_ray_flags(parser: "argparse._ActionsContainer") -> None:
    """Add --ray and its settings, for scripts that can compute embeddings on a Ray cluster."""
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="compute on the Ray cluster at HOST:PORT; without ADDRESS: that of RAY_ADDRESS, else the cluster of this "
        "machine, else one that is started for this command (default: no cluster)",
    )
    parser.add_argument(
        "--ray-actors", type=positive_int, metavar="N", help="workers on the cluster (default: as many as fit)"
    )
    parser.add_argument(
        "--ray-gpus",
        type=positive_or_zero_float,
        metavar="N",
        help="GPUs per worker; 0.5 shares one between two (default: 1, or 0 if the cluster has none)",
    )
    parser.add_argument(
        "--ray-cpus",
        type=positive_int,
        metavar="N",
        help="CPU cores per worker (default: a node's cores per GPU; without GPUs 4, or those of the smallest node)",
    )


def subcommand(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Command,
    summary: str,
    examples: Sequence[str] = (),
    former: str | None = None,
) -> argparse.ArgumentParser:
    """Add a subcommand, with the common flags before or after its name.

    Parameters
    ----------
    commands
        From `ArgumentParser.add_subparsers`.
    name : str
    command : Command
    summary : str
        One line for the help.
    examples : sequence of str
        Example commands shown below the flags.
    former : str, optional
        Name in the previous release, which still works.
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
    shown = 0 if seed == argparse.SUPPRESS else seed
    parser.add_argument("--seed", type=natural_int, default=seed, help=f"random seed (default: {shown})")
    parser.add_argument("--quiet", action="store_true", default=switch, help="hide progress bars and warnings")
    parser.add_argument("--debug", action="store_true", default=switch, help="show the traceback of errors")


def main(parser: argparse.ArgumentParser, script: str, argv: Sequence[str] | None) -> int:
    """Parse the arguments and run the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Its default `command` is a `Command`.
    script : str
        `__file__` of the script.
    argv : sequence of str, optional
        sys.argv[1:] by default.

    Returns
    -------
    int
        Exit code: 0 complete; 1 invalid data or a failed item; 2 wrong usage or something missing; 130 interrupted.
        Errors are printed on stderr.
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
        sys.stderr.write("\nInterrupted. Finished work is kept; run the same command to resume.\n")
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


# What to do about operating system errors.
REMEDIES = {
    errno.ENOSPC: "Free disk space and run the same command to resume; finished work is kept.",
    errno.EEXIST: "A file exists where a directory is needed; choose another path.",
    errno.ENOTDIR: "A file exists where a directory is needed; choose another path.",
    errno.EACCES: "Check its permissions, or choose another path.",
    errno.EROFS: "The file system is read-only; choose another path.",
    errno.ENOENT: "Check the path.",
}


def format_os_error(error: OSError) -> str:
    """Format an operating system error: path, cause and remedy."""
    if error.errno is None:
        return str(error)
    where = f"{shown_path(Path(os.fsdecode(error.filename)))}: " if error.filename is not None else ""
    return f"{where}{error.strerror}. {REMEDIES.get(error.errno, '')}".strip()


def show(text: str) -> None:
    """Print a result on stdout; a closed pipe, as after `| head`, is ignored."""
    try:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def finite_float(text: str) -> float:
    """argparse type: a finite number."""
    value = float(text)
    if not isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, not {text}")
    return value


def positive_float(text: str) -> float:
    """argparse type: a finite number above 0."""
    value = finite_float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def positive_or_zero_float(text: str) -> float:
    """argparse type: a finite number of at least 0."""
    value = finite_float(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {text}")
    return value


def probability(text: str) -> float:
    """argparse type: a number above 0 and below 1."""
    value = positive_float(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, not {text}")
    return value


def natural_int(text: str) -> int:
    """argparse type: a whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {text}")
    return value


def positive_int(text: str) -> int:
    """argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def dataset_id(text: str) -> DatasetId:
    """argparse type: ORG/NAME or ORG/NAME@REVISION.

    Examples
    --------
    >>> dataset_id("laion/emolia-emo@v1.0")
    DatasetId(name='laion/emolia-emo', revision='v1.0')
    """
    part = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
    match = re.fullmatch(rf"({part}/{part})(?:@({part}(?:/{part})*))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must have the form ORG/NAME or ORG/NAME@REVISION, not {text!r}")
    return DatasetId(match[1], match[2])
