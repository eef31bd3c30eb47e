"""`analysis.py`: annotations → labels, agreement, human ceiling, raters, report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from earmark import cli
from earmark.annotation.analysis import Analysis, analyse
from earmark.annotation.options import AnalysisOptions
from earmark.annotation.pseudonyms import PSEUDONYM
from earmark.annotation.schema import AnalysisSummary
from earmark.annotation.subsets import Subset, select_subsets, subsets
from earmark.annotation.tables import Annotations, exclude_ratings, load_annotations
from earmark.cli import Invocation
from earmark.errors import DataError, EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.report.provenance import data_hash, exclusions, input_records, parameters_hash, provenance
from earmark.report.render import render
from earmark.report.schema import read_summary, to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv, to_tex


def run_analysis(options: AnalysisOptions, invocation: Invocation) -> int:
    """Load, analyse, write and show every subset asked for."""
    chosen = select_subsets(options.subset)
    if options.subset == "all":
        chosen = [subset for subset in chosen if (options.annotations_root / subset.name).is_dir()]
    if not chosen:
        root = shown_path(options.annotations_root)
        raise MissingError(f"{root}/ holds no subset. Run `uv run anonymize.py` to fill it from annotations_raw/.")
    loaded, options, invocation = hidden_names(load_all(chosen, options), options, invocation)
    loaded = restricted(loaded, options)
    with locked([options.output_dir]):
        contents: dict[Path, str | bytes | None] = {}
        summaries = {}
        for annotations in loaded:
            name = annotations.subset.name
            n = len(annotations.ratings)
            invocation.warn(f"{name}: {n:,} ratings" if n else f"{name}: NO RATINGS")
            for warning in annotations.warnings:
                invocation.warn(f"{name}: {warning}.")
            found = analyse(
                annotations,
                ties=options.ties,
                required=options.required_raters,
                replicates=options.bootstrap,
                rng=invocation.generator(),
            )
            summaries[name] = summarise(annotations, found, options, invocation)
            folder = options.output_dir / name
            contents |= {folder / f"{table}.csv": to_csv(rows) for table, rows in found.tables.items()}
            contents[folder / "summary.json"] = to_json(summaries[name])
        everything = summaries | earlier(options.output_dir, summaries, invocation)
        in_order = [everything[name] for name in subsets() if name in everything]
        report, tables = render("analysis.md.j2", summaries=in_order, subsets=subsets())
        contents |= {options.output_dir / "report.md": report, options.output_dir / "report.tex": to_tex(tables)}
        write_together(contents)
    cli.show(report)
    return cli.COMPLETE


def earlier(
    folder: Path, summaries: Mapping[str, AnalysisSummary], invocation: Invocation
) -> dict[str, AnalysisSummary]:
    """What earlier runs found about other subsets, which stays in the report of all."""
    found = {}
    for name in subsets():
        path = folder / name / "summary.json"
        if name not in summaries and path.is_file():
            try:
                found[name] = read_summary(AnalysisSummary, path)
            except EarmarkError as error:
                invocation.warn(f"{name} is not in the report: {error}")
    return found


def hidden_names(
    loaded: list[Annotations], options: AnalysisOptions, invocation: Invocation
) -> tuple[list[Annotations], AnalysisOptions, Invocation]:
    """People who have no pseudonym as rater_0, rater_1, … in everything that is written, unless --show-names."""
    names = sorted({name for one in loaded for table in (one.ratings, one.users) for name in table.get("username", ())})
    if options.show_names or all(PSEUDONYM.fullmatch(name) for name in names):
        return loaded, options, invocation
    hidden = {name: f"rater_{number}" for number, name in enumerate(names)}
    invocation.warn(
        f"{shown_path(options.annotations_root)}/ holds names that are no pseudonyms (user_0, user_1, …); they are "
        "written as rater_0, rater_1, … in sorted order. Run `uv run anonymize.py` before you publish the tables; "
        "--show-names writes names as they are."
    )

    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(username=table["username"].map(hidden)) if "username" in table else table

    changed = [replace(one, ratings=renamed(one.ratings), users=renamed(one.users)) for one in loaded]
    excluded = tuple(hidden.get(name, name) for name in options.exclude_rater)
    argv = tuple(hidden.get(word, word) for word in invocation.argv)
    return changed, replace(options, exclude_rater=excluded), replace(invocation, argv=argv)


def load_all(chosen: Sequence[Subset], options: AnalysisOptions) -> list[Annotations]:
    """Every chosen subset's tables; the faults of all of them in one error."""
    loaded, failures = [], []
    for subset in chosen:
        try:
            loaded.append(
                load_annotations(options.annotations_root / subset.name, subset, exact_keys=options.exact_keys)
            )
        except DataError as error:
            failures.append(error)
    if failures:
        raise DataError.merged(failures)
    return loaded


def restricted(loaded: list[Annotations], options: AnalysisOptions) -> list[Annotations]:
    """Without the people and the hasty ratings that the flags leave out."""
    known = {name for annotations in loaded for name in annotations.ratings["username"]}
    if unknown := sorted(set(options.exclude_rater) - known):
        raise MissingError(
            f"--exclude-rater {unknown[0]}: rated nothing here. Those who did: {', '.join(sorted(known))}"
        )
    return [exclude_ratings(annotations, options.exclude_rater, options.min_reaction_ms) for annotations in loaded]


def summarise(
    annotations: Annotations, found: Analysis, options: AnalysisOptions, invocation: Invocation
) -> AnalysisSummary:
    """summary.json: where the numbers came from, then the numbers."""
    inputs = input_records(annotations.rows)
    common = provenance(
        invocation,
        inputs=inputs,
        parameters=options.parameters,
        exclusions=exclusions(annotations.excluded),
        signature=Signature.from_parts(
            suite=annotations.subset.name,
            protocol="earmark",
            metric="human_upper_bound_binary",
            ties=options.ties,
            ci=f"clip-bootstrap-{options.bootstrap}",
            seed=invocation.seed,
            parameters=parameters_hash(options.parameters),
            data=data_hash(inputs),
        ),
    )
    return AnalysisSummary.from_common(common, found.result)
