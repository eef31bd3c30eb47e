"""The run of `analysis.py`: load annotations, analyse each subset, write tables, summaries and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from earmark import cli
from earmark.annotation.analysis import Analysis, analyse
from earmark.annotation.options import AnalysisOptions
from earmark.annotation.page import analysis_figures, disputed_items
from earmark.annotation.pseudonyms import PSEUDONYM
from earmark.annotation.schema import AnalysisSummary
from earmark.annotation.subsets import Subset, select_subsets, subsets
from earmark.annotation.tables import Annotations, exclude_ratings, load_annotations
from earmark.cli import Invocation
from earmark.errors import DataError, EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.report.figures import figure_files
from earmark.report.page import page
from earmark.report.provenance import data_hash, exclusions, input_records, parameters_hash, provenance
from earmark.report.render import render
from earmark.report.schema import read_summary, to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv
from earmark.report.tex import to_tex


def run_analysis(options: AnalysisOptions, invocation: Invocation) -> int:
    """Analyse the selected subsets, write all outputs and print the report.

    Parameters
    ----------
    options : AnalysisOptions
    invocation : Invocation

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    DataError
        If any table has faults; nothing is written.
    MissingError
        If there is no subset, a table does not exist or a rater to exclude has no ratings.
    """
    selected = select_subsets(options.subset)
    if options.subset == "all":
        selected = [subset for subset in selected if (options.annotations_root / subset.name).is_dir()]
    if not selected:
        root = shown_path(options.annotations_root)
        raise MissingError(f"{root}/ contains no subset. Run `uv run anonymize.py` to create it from annotations_raw/.")
    loaded, options, invocation = hide_usernames(load_all(selected, options), options, invocation)
    loaded = apply_exclusions(loaded, options)
    with locked([options.output_dir]):
        contents: dict[Path, str | bytes | None] = {}
        summaries = {}
        clips = []
        for annotations in loaded:
            name = annotations.subset.name
            n = len(annotations.ratings)
            invocation.warn(f"{name}: {n:,} ratings" if n else f"{name}: NO RATINGS")
            for warning in annotations.warnings:
                invocation.warn(f"{name}: {warning}.")
            analysis = analyse(
                annotations,
                ties=options.ties,
                required=options.required_raters,
                replicates=options.bootstrap,
                rng=invocation.generator(),
            )
            summaries[name] = summarise(annotations, analysis, options, invocation)
            folder = options.output_dir / name
            contents |= {folder / f"{table}.csv": to_csv(rows) for table, rows in analysis.tables.items()}
            contents[folder / "summary.json"] = to_json(summaries[name])
            if options.figures:
                clips.append(disputed_items(annotations, analysis.tables["benchmark_labels"], options.dataset_root))
        all_summaries = summaries | earlier_summaries(options.output_dir, summaries, invocation)
        in_order = [all_summaries[name] for name in subsets() if name in all_summaries]
        report, tables = render("analysis.md.j2", summaries=in_order, subsets=subsets())
        contents |= {
            options.output_dir / "report.md": report,
            options.output_dir / "report.tex": to_tex(tables, "annotation"),
        }
        figures = [figure for summary in in_order for figure in analysis_figures(summary)] if options.figures else []
        html = None
        if options.figures:
            html = page(
                "Annotation report",
                report,
                options.output_dir,
                figures=figures,
                clips=clips,
                embed_audio_mib=options.embed_audio,
            )
        contents |= {options.output_dir / "report.html": html, **figure_files(options.output_dir, figures)}
        write_together(contents)
    cli.show(report)
    return cli.COMPLETE


def earlier_summaries(
    folder: Path, summaries: Mapping[str, AnalysisSummary], invocation: Invocation
) -> dict[str, AnalysisSummary]:
    """Read the summaries of subsets that were analysed by earlier runs, so that they stay in the report.

    Parameters
    ----------
    folder : Path
        Output folder.
    summaries : mapping of str to AnalysisSummary
        Summaries of this run, by subset.
    invocation : Invocation
        Receives a warning for each summary that cannot be read.

    Returns
    -------
    dict of str to AnalysisSummary
        Summaries of all other subsets with a valid summary.json.
    """
    earlier = {}
    for name in subsets():
        path = folder / name / "summary.json"
        if name not in summaries and path.is_file():
            try:
                earlier[name] = read_summary(AnalysisSummary, path)
            except EarmarkError as error:
                invocation.warn(f"{name} is missing from the report: {error}")
    return earlier


def hide_usernames(
    loaded: list[Annotations], options: AnalysisOptions, invocation: Invocation
) -> tuple[list[Annotations], AnalysisOptions, Invocation]:
    """Replace usernames with rater_0, rater_1, … if any of them is not a pseudonym, unless --show-names is set.

    Parameters
    ----------
    loaded : list of Annotations
    options : AnalysisOptions
    invocation : Invocation

    Returns
    -------
    loaded : list of Annotations
    options : AnalysisOptions
        With the new names in `exclude_rater`.
    invocation : Invocation
        With the new names in `argv`, which is written to summary.json.
    """
    tables = [table for annotations in loaded for table in (annotations.ratings, annotations.users)]
    names = sorted({name for table in tables for name in table.get("username", ())})
    if options.show_names or all(PSEUDONYM.fullmatch(name) for name in names):
        return loaded, options, invocation
    aliases = {name: f"rater_{number}" for number, name in enumerate(names)}
    invocation.warn(
        f"{shown_path(options.annotations_root)}/ contains usernames that are not pseudonyms (user_0, user_1, …). "
        "Outputs use rater_0, rater_1, … in sorted order instead. Run `uv run anonymize.py` before you publish the "
        "tables; --show-names writes usernames unchanged."
    )

    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(username=table["username"].map(aliases)) if "username" in table else table

    changed = [
        replace(annotations, ratings=renamed(annotations.ratings), users=renamed(annotations.users))
        for annotations in loaded
    ]
    excluded = tuple(aliases.get(name, name) for name in options.exclude_rater)
    argv = tuple(aliases.get(word, word) for word in invocation.argv)
    return changed, replace(options, exclude_rater=excluded), replace(invocation, argv=argv)


def load_all(selected: Sequence[Subset], options: AnalysisOptions) -> list[Annotations]:
    """Load the tables of all selected subsets.

    Raises
    ------
    DataError
        If any table has faults; the error lists the faults of all subsets.
    MissingError
        If a required table does not exist.
    """
    loaded, failures = [], []
    for subset in selected:
        try:
            loaded.append(
                load_annotations(options.annotations_root / subset.name, subset, exact_keys=options.exact_keys)
            )
        except DataError as error:
            failures.append(error)
    if failures:
        raise DataError.merged(failures)
    return loaded


def apply_exclusions(loaded: list[Annotations], options: AnalysisOptions) -> list[Annotations]:
    """Apply --exclude-rater and --min-reaction-ms.

    Raises
    ------
    MissingError
        If a rater to exclude has no ratings in any subset.
    """
    known = {name for annotations in loaded for name in annotations.ratings["username"]}
    if unknown := sorted(set(options.exclude_rater) - known):
        raise MissingError(
            f"--exclude-rater {unknown[0]}: no ratings by this rater. Raters with ratings: {', '.join(sorted(known))}"
        )
    return [exclude_ratings(annotations, options.exclude_rater, options.min_reaction_ms) for annotations in loaded]


def summarise(
    annotations: Annotations, analysis: Analysis, options: AnalysisOptions, invocation: Invocation
) -> AnalysisSummary:
    """Combine the results of one subset with their provenance for summary.json.

    Parameters
    ----------
    annotations : Annotations
    analysis : Analysis
    options : AnalysisOptions
    invocation : Invocation

    Returns
    -------
    AnalysisSummary
    """
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
    return AnalysisSummary.from_common(common, analysis.result)
