"""`anonymize.py`: annotations_raw/ → annotations/, names replaced, checked and scanned for leaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from earmark import cli
from earmark.annotation import pseudonyms
from earmark.annotation.leaks import checked_columns, scan
from earmark.annotation.options import AnonymizeOptions
from earmark.annotation.pseudonyms import Anonymity
from earmark.annotation.schema import AnonymizeSummary
from earmark.annotation.subsets import Subset, select_subsets, subsets
from earmark.annotation.tables import (
    OPTIONAL,
    TABLES,
    WITHDRAWN,
    RawTables,
    drop_withdrawn,
    read_csv,
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

PRIVATE = 0o600
SHOWN_DOUBTS = 20
LEAKS = "Nothing was written. Edit those cells in annotations_raw/, or leave a column of users.csv out with --drop."


@dataclass(frozen=True)
class Release:
    """One subset, ready to be written: its tables, its map, and how many people are in it."""

    raw: RawTables
    names: dict[str, str]
    new: int
    tables: dict[str, pd.DataFrame]
    left_out: list[str]
    anonymity: Anonymity
    withdrawn: int
    doubtful: dict[str, list[Fault]]


def run_anonymize(options: AnonymizeOptions, invocation: Invocation) -> int:
    """Read, pseudonymise, check and write every subset asked for."""
    chosen = [s for s in select_subsets(options.subset) if (options.raw_root / s.name).is_dir()]
    if not chosen:
        known = ", ".join(subsets())
        raise MissingError(
            f"{shown_path(options.raw_root)}/ holds no subset. Put tables into a folder named {known} there."
        )
    require_sense(chosen, options)
    releases, failures = [], []
    for subset in chosen:
        try:
            releases.append(prepare(subset, options))
        except DataError as error:
            failures.append(error)
    if failures:
        raise DataError.merged(failures)
    for release in releases:
        require_k(release, options)
    with locked([options.raw_root, options.output_dir]):
        write(releases, options, invocation)
    for release in releases:
        for warning in warnings(release):
            invocation.warn(warning)
        columns = pseudonyms.demographic_columns(release.tables["users"], options.keep)
        cli.show(
            f"{release.raw.subset.name}: {len(release.names)} people ({release.new} new), "
            f"{len(release.tables['annotations']):,} ratings; {pseudonyms.describe(release.anonymity, columns)}"
        )
        if release.left_out:
            columns_left_out = ", ".join(release.left_out)
            cli.show(f"  not published, since nobody has said what they hold (--keep COLUMN): {columns_left_out}")
    return cli.COMPLETE


def warnings(release: Release) -> list[str]:
    """What a person should look at before the tables are published."""
    told = []
    if release.withdrawn:
        name = release.raw.subset.name
        told.append(f"{name}: {release.withdrawn:,} ratings of people who withdrew their consent are left out.")
    for file, faults in release.doubtful.items():
        if faults:
            shown = [str(fault) for fault in faults[:SHOWN_DOUBTS]]
            more = [f"  and {len(faults) - SHOWN_DOUBTS:,} more"] if len(faults) > SHOWN_DOUBTS else []
            told.append("\n".join([f"{file}: look at these before you publish", *shown, *more]))
    return told


def require_sense(chosen: Sequence[Subset], options: AnonymizeOptions) -> None:
    """MissingError for flags that would overwrite raw tables, or drop what is not there or must stay."""
    raw, out = options.raw_root.resolve(), options.output_dir.resolve()
    if out == raw or raw in out.parents:
        raise MissingError(f"--output-dir lies in {shown_path(raw)}/, among the raw tables; choose a folder outside.")
    users = [path for s in chosen if (path := table_path(options.raw_root / s.name, "users")).is_file()]
    columns = {column for path in users for column in read_csv(path)[0].columns}
    for column in options.drop:
        if any(column in required_columns(subset)["users"] for subset in chosen):
            raise MissingError(f"--drop {column}: that column is needed")
        if column not in columns:
            raise MissingError(f"--drop {column}: users.csv has no such column, only {', '.join(sorted(columns))}")


def prepare(subset: Subset, options: AnonymizeOptions) -> Release:
    """One subset read, checked, pseudonymised and scanned; DataError lists what stands in the way."""
    folder = options.raw_root / subset.name
    raw = read_tables(folder, subset, f"Fix the rows in {shown_path(folder)}/ and run this again.")
    users = raw.tables["users"]
    usernames = list(users["username"]) if "username" in users else []
    kept, n_withdrawn = drop_withdrawn(raw.tables)
    known = pseudonyms.read_map(raw.folder / pseudonyms.MAP_NAME)
    names = pseudonyms.assign_pseudonyms(usernames, known)
    faults: dict[str, list[Fault]] = {shown_path(raw.path(name)): [] for name in raw.tables}
    users_file = shown_path(raw.path("users"))
    faults[users_file] += [
        Fault(int(line), "username", "looks like a pseudonym; tables that are anonymous already belong in annotations/")
        for line, name in zip(users.index, usernames, strict=True)
        if pseudonyms.looks_like_pseudonym(name)
    ]
    tables = pseudonyms.pseudonymised(kept, names)
    left_out: list[str] = []
    for name, columns in known_columns(subset, options).items():
        if name in tables:
            tables[name], others = pseudonyms.published(tables[name], columns)
            left_out += [f"{name}.csv: {column}" for column in others if column not in options.drop]
    if options.band_age:
        tables["users"], wrong_ages = pseudonyms.band_ages(tables["users"], options.band_age)
        faults[users_file] += wrong_ages
    doubtful: dict[str, list[Fault]] = {}
    for name, table in tables.items():
        found = scan(table, names, checked_columns(subset))
        faults[shown_path(raw.path(name))] += found.faults
        doubtful[shown_path(raw.path(name))] = found.doubtful
    if any(faults.values()):
        raise DataError(faults, LEAKS)
    if options.coarsen_times:
        tables = {name: pseudonyms.coarsen_times(table, options.coarsen_times) for name, table in tables.items()}
    anonymity = pseudonyms.anonymity(tables["users"], options.keep)
    return Release(raw, names, len(names) - len(known), tables, left_out, anonymity, n_withdrawn, doubtful)


def known_columns(subset: Subset, options: AnonymizeOptions) -> dict[str, list[str]]:
    """The columns of each table that are published; any other may hold anything."""
    known = {name: [*columns, *options.keep] for name, columns in required_columns(subset).items()}
    users = [*known["users"], *pseudonyms.ACCOUNT, *pseudonyms.DEMOGRAPHICS]
    return {**known, "users": [column for column in users if column not in options.drop]}


def require_k(release: Release, options: AnonymizeOptions) -> None:
    """EarmarkError when people are easier to tell apart than --k-min allows."""
    found, columns = release.anonymity, pseudonyms.demographic_columns(release.tables["users"], options.keep)
    if options.k_min and 0 < found.k < options.k_min:
        raise EarmarkError(
            f"{release.raw.subset.name}: {pseudonyms.describe(found, columns)}; --k-min asks for {options.k_min}. "
            "Nothing was written. --band-age 10 and --drop COLUMN make people more alike."
        )


def write(releases: Sequence[Release], options: AnonymizeOptions, invocation: Invocation) -> None:
    """All tables and maps at once; an optional table that is gone from the raw folder goes from the outputs too."""
    contents: dict[Path, str | bytes | None] = {}
    modes: dict[Path, int] = {}
    for release in releases:
        map_path = release.raw.folder / pseudonyms.MAP_NAME
        pairs = pd.DataFrame(list(release.names.items()), columns=list(pseudonyms.MAP_COLUMNS))
        contents[map_path], modes[map_path] = to_csv(pairs), PRIVATE
        folder = options.output_dir / release.raw.subset.name
        for name in TABLES:
            if name in release.tables:
                contents[table_path(folder, name)] = to_csv(release.tables[name])
            elif name in OPTIONAL:
                contents[table_path(folder, name)] = None
        contents[folder / "summary.json"] = to_json(summarise(release, options, invocation))
    write_together(contents, modes=modes)


def summarise(release: Release, options: AnonymizeOptions, invocation: Invocation) -> AnonymizeSummary:
    """summary.json, without the hashes of raw tables, which would let anyone confirm a guess at a name."""
    found = release.anonymity
    common = provenance(
        invocation,
        inputs=[],
        parameters=options.parameters,
        exclusions=exclusions({WITHDRAWN: release.withdrawn}),
        signature=Signature.from_parts(suite=release.raw.subset.name, protocol="earmark", metric="k-anonymity"),
    )
    return AnonymizeSummary.from_common(
        common,
        subset=release.raw.subset.name,
        people=found.people,
        k=found.k,
        unique_people=found.unique,
        unique_by=found.unique_by,
    )
