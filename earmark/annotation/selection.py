"""Which subsets a run reads: published ones, those with a subset.toml, those of a file, or a single table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from earmark.annotation.options import ReadingOptions, TableOptions
from earmark.annotation.reading import read_source, shown_header
from earmark.annotation.subset_files import read_subset_file, subset_problems
from earmark.annotation.subsets import Columns, Subset, subsets
from earmark.annotation.tables import IN_FOLDER, TableFiles
from earmark.errors import DataError, EarmarkError, MissingError, shown_path

SUBSET_FILE = "subset.toml"
ALL = "all"
# Flag that sets each key of a description.
FLAGS = {
    "key": "--item",
    "columns": "--rater, --rating",
    "levels": "--order",
    "present_from": "--positive",
    "carried": "--by",
}


@dataclass(frozen=True)
class Source:
    """A subset and the files of its tables.

    Attributes
    ----------
    subset : Subset
    files : TableFiles
        By default the tables in the folder of the subset.
    """

    subset: Subset
    files: TableFiles = IN_FOLDER


def select_sources(name: str, options: TableOptions, root: Path, reading: ReadingOptions) -> list[Source]:
    """Subsets that a run reads.

    Parameters
    ----------
    name : str
        Name of a subset, or "all".
    options : TableOptions
    root : Path
        Folder with one folder per subset.
    reading : ReadingOptions

    Returns
    -------
    list of Source
        With "all" the published subsets that have a folder in `root`, then other folders with a subset.toml. May be
        empty.

    Raises
    ------
    DataError
        If a description has faults.
    MissingError
        If flags are missing or contradict one another, or no subset has this name.
    EarmarkError
        If the flags describe no valid subset.
    """
    if options.table is None and (lonely := _lonely_flags(options)):
        raise MissingError(f"{lonely} needs --table FILE, the table of ratings.")
    if options.subset_file is not None:
        if second := _described_twice(options):
            raise MissingError(f"{second} cannot be combined with --subset-file, which describes the table.")
        described = {subset.name: subset for subset in read_subset_file(options.subset_file)}
        if taken := next((one for one in described if one in subsets()), None):
            raise MissingError(f"{shown_path(options.subset_file)}: [{taken}] is the name of a published subset.")
        return _of_file(described, name, options)
    if options.table is not None:
        if name != ALL:
            raise MissingError(
                f"--subset {name} cannot be combined with --table, which is the only input; --name names its outputs."
            )
        return [Source(describe_table(options, reading), TableFiles(options.table, options.users))]
    known = {**subsets(), **described_folders(root)}
    if name == ALL:
        return [Source(subset) for subset in known.values() if (root / subset.name).is_dir()]
    if name not in known:
        raise MissingError(f"--subset {name}: no such subset. Known subsets: {', '.join(known)}.")
    return [Source(known[name])]


def described_folders(root: Path) -> dict[str, Subset]:
    """Subsets whose folder has a subset.toml, by name.

    Parameters
    ----------
    root : Path

    Raises
    ------
    DataError
        If a description has faults.
    """
    found: dict[str, Subset] = {}
    for path in sorted(root.glob(f"*/{SUBSET_FILE}")):
        found |= {subset.name: subset for subset in read_subset_file(path) if subset.name == path.parent.name}
    return {name: subset for name, subset in found.items() if name not in subsets()}


def _of_file(described: Mapping[str, Subset], name: str, options: TableOptions) -> list[Source]:
    if name != ALL and name not in described:
        raise MissingError(f"--subset {name}: not in the subset file, which describes {', '.join(described)}.")
    chosen = list(described.values()) if name == ALL else [described[name]]
    if options.table is None:
        return [Source(subset) for subset in chosen]
    if len(chosen) > 1:
        raise MissingError(f"--table is one table, but the file describes {', '.join(described)}; add --subset NAME.")
    return [Source(chosen[0], TableFiles(options.table, options.users))]


DESCRIBING = ("item", "rater", "rating", "scale", "order", "positive", "time", "name", "by")


def _described_twice(options: TableOptions) -> str:
    """First flag that describes a table; empty if there is none."""
    return next((f"--{name}" for name in DESCRIBING if getattr(options, name)), "")


def _lonely_flags(options: TableOptions) -> str:
    """First flag without the table that it needs; empty if there is none."""
    return _described_twice(options) or ("--users" if options.users else "")


def describe_table(options: TableOptions, reading: ReadingOptions) -> Subset:
    """Description of the table that the flags name.

    Parameters
    ----------
    options : TableOptions
        With a table.
    reading : ReadingOptions

    Returns
    -------
    Subset

    Raises
    ------
    MissingError
        If the table does not exist, a required flag is missing or the name is taken.
    DataError
        If a required flag is missing and the table cannot be read.
    EarmarkError
        If the flags contradict one another.
    """
    table = options.table
    assert table is not None
    if not table.is_file():
        raise MissingError(f"--table {shown_path(table)}: no such file.")
    options = _with_defaults(options)
    required = {"--item": options.item, "--rater": options.rater, "--rating": options.rating, "--scale": options.scale}
    if missing := [flag for flag, value in required.items() if not value]:
        header, faults = read_source(table)
        if faults and not len(header.columns):
            raise DataError({shown_path(table): faults}, "Nothing was written.")
        shown = f" Its columns are {shown_header(list(header.columns))}." if len(header.columns) else ""
        raise MissingError(f"--table {shown_path(table)} needs {', '.join(missing)}.{shown}")
    name = options.name or re.sub(r"[^\w.-]+", "-", table.stem).strip("-.") or "table"
    if name in subsets():
        raise MissingError(f"--name {name} is the name of a published subset; choose another one.")
    carried = [column for column in options.by if column not in options.item]
    columns_described = {"rater": options.rater, "rating": options.rating}
    if options.time:
        columns_described["time"] = options.time
    fields: dict[str, Any] = {"scale": options.scale, "key": list(options.item), "columns": columns_described}
    if options.order:
        fields["levels"] = list(options.order)
    if options.positive:
        fields["present_from"] = options.positive
    if options.by:
        fields["by"] = list(options.by)
        fields["carried"] = carried
    if options.scale == "ordinal" and not options.order:
        _require_order(table, str(options.rating), reading)
    if problems := subset_problems(name, fields):
        lines = [f"  {FLAGS.get(key, f'--{key}' if key else '--name')}: {problem}" for key, problem in problems]
        raise EarmarkError("\n".join(["The flags do not describe a table:", *lines, "Nothing was written."]))
    return Subset(
        name=name,
        scale=options.scale or "interval",
        key=tuple(options.item),
        levels=tuple(options.order),
        present_from=options.positive,
        columns=Columns(**{entry: str(column) for entry, column in columns_described.items()}),
        carried=tuple(carried),
        by=tuple(options.by),
    )


def _require_order(table: Path, rating: str, reading: ReadingOptions) -> None:
    """Raise MissingError with the ratings of the table, which --order must bring into order."""
    cells = read_source(table)[0]
    old = {new: old for old, new in reading.mapping().items()}.get(rating, rating)
    values = sorted(set(cells[old]) - {"", *(reading.missing or ())}) if old in cells else []
    shown = f"; the ratings are {', '.join(values[:20])}" if values else ""
    raise MissingError(f"--scale ordinal needs --order LOW,…,HIGH, the levels from low to high{shown}.")


def _with_defaults(options: TableOptions) -> TableOptions:
    """Columns of a Label Studio export that are unambiguous."""
    from earmark.annotation import label_studio

    assert options.table is not None
    if options.table.suffix.lower() != ".json":
        return options
    roles = label_studio.roles(options.table)
    return replace(
        options,
        item=options.item or roles.item,
        rater=options.rater or roles.rater,
        rating=options.rating or roles.rating,
    )
