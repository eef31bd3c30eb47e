"""The run of `anonymize.py`: read raw tables, replace usernames, scan for leaks and write the tables to publish."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from earmark import cli
from earmark.annotation import pseudonyms
from earmark.annotation.leaks import checked_columns, scan
from earmark.annotation.options import AnonymizeOptions
from earmark.annotation.pseudonyms import Anonymity
from earmark.annotation.reading import read_source
from earmark.annotation.schema import AnonymizeSummary
from earmark.annotation.selection import SUBSET_FILE, Source, select_sources
from earmark.annotation.subset_files import as_published, to_toml
from earmark.annotation.subsets import Subset, subsets
from earmark.annotation.tables import (
    OPTIONAL,
    TABLES,
    WITHDRAWN,
    RawTables,
    drop_withdrawn,
    read_tables,
    required_columns,
    table_path,
)
from earmark.cli import Invocation
from earmark.errors import DataError, EarmarkError, Fault, MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.report.provenance import exclusions, provenance
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv

MAP_FILE_MODE = 0o600
MAX_SHOWN_CELLS = 20  # doubtful cells listed per table
LEAK_REMEDY = "Nothing was written. Edit these cells in annotations_raw/, or drop columns of users.csv with --drop."


@dataclass(frozen=True)
class Release:
    """Pseudonymised tables of one subset, ready to be written.

    Attributes
    ----------
    raw : RawTables
    pseudonyms : dict of str to str
        {username: pseudonym}, of earlier runs too.
    n_new : int
        Number of pseudonyms added by this run.
    tables : dict of str to DataFrame
        Tables to publish.
    unknown_columns : list of str
        Columns that are not published because the format does not define them, such as "users.csv: city".
    anonymity : Anonymity
    n_withdrawn : int
        Number of ratings by raters who withdrew consent, which are not published.
    doubtful : dict of str to list of Fault
        Cells that may contain part of a name, by file.
    """

    raw: RawTables
    pseudonyms: dict[str, str]
    n_new: int
    tables: dict[str, pd.DataFrame]
    unknown_columns: list[str]
    anonymity: Anonymity
    n_withdrawn: int
    doubtful: dict[str, list[Fault]]


def run_anonymize(options: AnonymizeOptions, invocation: Invocation) -> int:
    """Pseudonymise the selected subsets, check them and write all tables.

    Parameters
    ----------
    options : AnonymizeOptions
    invocation : Invocation

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    DataError
        If a table has faults or contains a name; nothing is written.
    EarmarkError
        If k-anonymity is below --k-min; nothing is written.
    MissingError
        If there is no subset, a table does not exist or the options are inconsistent.
    """
    selected = select_sources(options.subset, options.source, options.raw_root, options.reading)
    if not selected:
        known = ", ".join(subsets())
        raise MissingError(
            f"{shown_path(options.raw_root)}/ contains no subset. Put the tables into a subfolder named after a "
            f"subset: {known}."
        )
    validate_options(selected, options)
    releases, failures = [], []
    for source in selected:
        try:
            releases.append(prepare_release(source, options))
        except DataError as error:
            failures.append(error)
    if failures:
        raise DataError.merged(failures)
    for release in releases:
        require_k_anonymity(release, options)
    with locked([options.raw_root, options.output_dir]):
        write_releases(releases, options, invocation)
    for release in releases:
        for warning in release_warnings(release):
            invocation.warn(warning)
        columns = pseudonyms.demographic_columns(release.tables["users"], options.keep)
        cli.show(
            f"{release.raw.subset.name}: {len(release.pseudonyms)} users ({release.n_new} new), "
            f"{len(release.tables['annotations']):,} ratings; "
            f"{pseudonyms.describe_anonymity(release.anonymity, columns)}"
        )
        if release.unknown_columns:
            cli.show(
                "  unknown columns, not published (--keep COLUMN publishes them): " + ", ".join(release.unknown_columns)
            )
    return cli.COMPLETE


def release_warnings(release: Release) -> list[str]:
    """Warnings to review before the tables are published: withdrawn consent and doubtful cells."""
    warnings = []
    if release.n_withdrawn:
        name = release.raw.subset.name
        ratings = "rating" if release.n_withdrawn == 1 else "ratings"
        warnings.append(f"{name}: excluded {release.n_withdrawn:,} {ratings} by raters who withdrew consent.")
    for file, faults in release.doubtful.items():
        if faults:
            shown = [str(fault) for fault in faults[:MAX_SHOWN_CELLS]]
            more = [f"  and {len(faults) - MAX_SHOWN_CELLS:,} more"] if len(faults) > MAX_SHOWN_CELLS else []
            warnings.append("\n".join([f"{file}: review these cells before publication", *shown, *more]))
    return warnings


def validate_options(selected: Sequence[Source], options: AnonymizeOptions) -> None:
    """Check options against the raw tables.

    Parameters
    ----------
    selected : sequence of Source
    options : AnonymizeOptions

    Raises
    ------
    MissingError
        If the output folder is inside the raw folder, or a column to drop is required or does not exist.
    """
    raw, out = options.raw_root.resolve(), options.output_dir.resolve()
    if out == raw or raw in out.parents:
        raise MissingError(
            f"--output-dir is inside {shown_path(raw)}/, which holds the raw tables. Choose a folder outside it."
        )
    of_source = (
        source.files.users or table_path(options.raw_root / source.subset.name, "users") for source in selected
    )
    users = [path for path in of_source if path.is_file()]
    columns = {column for path in users for column in read_source(path)[0].columns}
    for column in options.drop:
        if any(column in required_columns(source.subset)["users"] for source in selected):
            raise MissingError(f"--drop {column}: this column is required")
        if column not in columns:
            raise MissingError(f"--drop {column}: no such column in users.csv; it has {', '.join(sorted(columns))}")


def prepare_release(source: Source, options: AnonymizeOptions) -> Release:
    """Read, check, pseudonymise and scan the tables of one subset.

    Parameters
    ----------
    source : Source
    options : AnonymizeOptions

    Returns
    -------
    Release

    Raises
    ------
    DataError
        If a table has faults, a username looks like a pseudonym, an age to be banded is not a number, or a cell or
        header contains a name, an e-mail address or a path to a home folder.
    MissingError
        If a required table does not exist.
    """
    folder = options.raw_root / source.subset.name
    where = shown_path(source.files.annotations) if source.files.annotations else f"{shown_path(folder)}/"
    remedy = f"Fix the rows in {where}, or read them with the flags named above, and run this command again."
    raw = read_tables(folder, source.subset, remedy, options.reading, source.files)
    subset, users = raw.subset, raw.tables["users"]
    usernames = list(users["username"]) if "username" in users else []
    consented, n_withdrawn = drop_withdrawn(raw.tables)
    known = pseudonyms.read_map(raw.folder / pseudonyms.MAP_NAME)
    names = pseudonyms.assign_pseudonyms(usernames, known)
    shown = {name: shown_path(raw.paths.get(name, raw.path("annotations"))) for name in raw.tables}
    faults: dict[str, list[Fault]] = {file: [] for file in shown.values()}
    users_file = shown["users"]
    faults[users_file] += [
        Fault(int(line), "username", "looks like a pseudonym; pseudonymised tables belong in annotations/")
        for line, name in zip(users.index, usernames, strict=True)
        if pseudonyms.looks_like_pseudonym(name)
    ]
    tables = pseudonyms.pseudonymise(consented, names)
    unknown_columns: list[str] = []
    for name, columns in publishable_columns(subset, options).items():
        if name in tables:
            tables[name], dropped = pseudonyms.drop_other_columns(tables[name], columns)
            unknown_columns += [f"{name}.csv: {column}" for column in dropped if column not in options.drop]
    if options.band_age:
        tables["users"], invalid_ages = pseudonyms.band_ages(tables["users"], options.band_age)
        faults[users_file] += invalid_ages
    doubtful: dict[str, list[Fault]] = {}
    for name, table in tables.items():
        result = scan(table, names, checked_columns(subset))
        faults[shown[name]] += result.faults
        doubtful.setdefault(shown[name], []).extend(result.doubtful)
    if any(faults.values()):
        raise DataError(faults, LEAK_REMEDY)
    if options.coarsen_times:
        tables = {name: pseudonyms.coarsen_times(table, options.coarsen_times) for name, table in tables.items()}
    anonymity = pseudonyms.anonymity(tables["users"], options.keep)
    return Release(raw, names, len(names) - len(known), tables, unknown_columns, anonymity, n_withdrawn, doubtful)


def publishable_columns(subset: Subset, options: AnonymizeOptions) -> dict[str, list[str]]:
    """Columns of each table that may be published: those that the format defines and those of --keep, without --drop.

    Parameters
    ----------
    subset : Subset
    options : AnonymizeOptions

    Returns
    -------
    dict of str to list of str
    """
    known = {name: [*columns, *options.keep] for name, columns in required_columns(subset).items()}
    users = [*known["users"], *pseudonyms.ACCOUNT, *pseudonyms.DEMOGRAPHICS]
    return {**known, "users": [column for column in users if column not in options.drop]}


def require_k_anonymity(release: Release, options: AnonymizeOptions) -> None:
    """Raise EarmarkError if k-anonymity is below --k-min."""
    result, columns = release.anonymity, pseudonyms.demographic_columns(release.tables["users"], options.keep)
    if options.k_min and 0 < result.k < options.k_min:
        raise EarmarkError(
            f"{release.raw.subset.name}: {pseudonyms.describe_anonymity(result, columns)}; --k-min requires "
            f"{options.k_min}. Nothing was written. Use --band-age 10 or --drop COLUMN to increase k."
        )


def write_releases(releases: Sequence[Release], options: AnonymizeOptions, invocation: Invocation) -> None:
    """Write all tables, summaries and maps of pseudonyms in one transaction.

    An optional table that no longer exists in the raw folder is removed from the outputs.

    Parameters
    ----------
    releases : sequence of Release
    options : AnonymizeOptions
    invocation : Invocation
    """
    contents: dict[Path, str | bytes | None] = {}
    modes: dict[Path, int] = {}
    for release in releases:
        map_path = release.raw.folder / pseudonyms.MAP_NAME
        pairs = pd.DataFrame(list(release.pseudonyms.items()), columns=list(pseudonyms.MAP_COLUMNS))
        contents[map_path], modes[map_path] = to_csv(pairs), MAP_FILE_MODE
        folder = options.output_dir / release.raw.subset.name
        for name in TABLES:
            if name in release.tables:
                contents[table_path(folder, name)] = to_csv(release.tables[name])
            elif name in OPTIONAL:
                contents[table_path(folder, name)] = None
        contents[folder / "summary.json"] = to_json(summarise(release, options, invocation))
        if release.raw.subset.name not in subsets():
            contents[folder / SUBSET_FILE] = to_toml([as_published(release.raw.subset)])
    write_together(contents, modes=modes)


def summarise(release: Release, options: AnonymizeOptions, invocation: Invocation) -> AnonymizeSummary:
    """Contents of summary.json.

    It has no hashes of the raw tables, which could confirm a guessed username.

    Parameters
    ----------
    release : Release
    options : AnonymizeOptions
    invocation : Invocation

    Returns
    -------
    AnonymizeSummary
    """
    result = release.anonymity
    common = provenance(
        invocation,
        inputs=[],
        parameters=options.parameters,
        exclusions=exclusions({WITHDRAWN: release.n_withdrawn, **release.raw.excluded}),
        signature=Signature.from_parts(suite=release.raw.subset.name, protocol="earmark", metric="k-anonymity"),
    )
    return AnonymizeSummary.from_common(
        common,
        subset=release.raw.subset.name,
        people=result.n_users,
        k=result.k,
        unique_people=result.n_unique,
        unique_by=result.unique_by,
    )
