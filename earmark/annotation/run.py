"""The run of `analysis.py`: load annotations, analyse each subset, write tables, summaries and the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from earmark import cli
from earmark.annotation.analysis import Analysis, analyse
from earmark.annotation.gold import GoldItems, GoldSummary, apply_gold, gold_from_column, read_gold
from earmark.annotation.leaks import cells_with_names
from earmark.annotation.machines import machine_agreement, split_machines
from earmark.annotation.options import AnalysisOptions
from earmark.annotation.page import analysis_figures, disputed_items
from earmark.annotation.pseudonyms import PSEUDONYM
from earmark.annotation.reading import fold_case
from earmark.annotation.scales.analysis import ScaleAnalysis, analyse_scale
from earmark.annotation.schema import AnalysisSummary, ScaleSummary
from earmark.annotation.selection import SUBSET_FILE, Source, select_sources
from earmark.annotation.spelling import canonical_key
from earmark.annotation.subset_files import as_published, to_toml
from earmark.annotation.subsets import EMOLIA_BENCH, Subset, subsets
from earmark.annotation.tables import Annotations, exclude_ratings, load_annotations
from earmark.cli import Invocation
from earmark.errors import DataError, EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.metrics.rater_resampling import interval_method
from earmark.report.figures import Figure, figure_files
from earmark.report.page import ClipList, page
from earmark.report.provenance import data_hash, exclusions, input_records, parameters_hash, provenance
from earmark.report.render import render
from earmark.report.schema import read_summary, to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv
from earmark.report.tex import to_tex

Summary = AnalysisSummary | ScaleSummary
MAX_CHECKED = 20_000  # different values of a column that are searched for names
OF_ONE_SCALE = ("rater_confusion",)  # tables that only one scale has


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
    selected = select_sources(options.subset, options.source, options.annotations_root, options.reading)
    if not selected:
        root = shown_path(options.annotations_root)
        raise MissingError(f"{root}/ contains no subset. Run `uv run anonymize.py` to create it from annotations_raw/.")
    loaded = load_all(selected, options)
    loaded, options, invocation = hide_usernames(loaded, *with_known_spelling(loaded, options, invocation))
    require_scale_of_options(loaded, options)
    require_known_raters(loaded, options)
    checked = [check_raters(annotations, options) for annotations in loaded]
    require_raters(checked, options)
    with locked([options.output_dir]):
        contents: dict[Path, str | bytes | None] = {}
        summaries: dict[str, Summary] = {}
        clips: dict[str, ClipList] = {}
        for raters in checked:
            annotations = raters.people
            name = annotations.subset.name
            n = len(annotations.ratings)
            invocation.warn(f"{name}: {n:,} ratings" if n else f"{name}: NO RATINGS")
            for warning in annotations.warnings:
                invocation.warn(f"{name}: {warning}.")
            analysis = analyse_subset(annotations, options, invocation)
            summaries[name] = summarise(raters, analysis, options, invocation)
            folder = options.output_dir / name
            contents |= {folder / f"{table}.csv": None for table in OF_ONE_SCALE}  # of an earlier run on another scale
            contents |= {folder / f"{table}.csv": to_csv(rows) for table, rows in analysis.tables.items()}
            contents[folder / "summary.json"] = to_json(summaries[name])
            if name not in subsets():
                contents[folder / SUBSET_FILE] = to_toml([as_published(annotations.subset)])
            if options.figures:
                clips[name] = disputed_items(annotations, analysis.tables["benchmark_labels"], options.dataset_root)
        described = {**subsets(), **{annotations.subset.name: annotations.subset for annotations in loaded}}
        reports = []
        for folder, in_report in reports_of(summaries, options.output_dir, invocation).items():
            shown = [clips[name] for name in in_report if name in clips]
            files, report = report_files(folder, list(in_report.values()), described, shown, options)
            contents |= files
            reports.append(report)
        write_together(contents)
    cli.show("\n\n".join(reports))
    return cli.COMPLETE


def require_scale_of_options(loaded: Sequence[Annotations], options: AnalysisOptions) -> None:
    """Raise MissingError for an option that has no meaning on the scale of a subset, or without another option."""
    has_gold = options.gold is not None or options.gold_column is not None
    if options.gold is not None and options.gold_column is not None:
        raise MissingError("--gold and --gold-column both name the quality items; use one of them.")
    if not has_gold and (options.min_gold_rate is not None or options.gold_tolerance):
        raise MissingError("--min-gold-rate and --gold-tolerance need --gold FILE or --gold-column COLUMN.")
    for subset in (annotations.subset for annotations in loaded):
        if options.trimmed_mean is not None and subset.scale != "interval":
            raise MissingError(f"--trimmed-mean: {subset.name} has {subset.scale} ratings, which have no mean.")
        if options.gold_tolerance and subset.scale != "interval":
            raise MissingError(f"--gold-tolerance: {subset.name} has {subset.scale} ratings; a rating passes or not.")
        if options.ties != "exclude" and not subset.is_decided:
            raise MissingError(f"--ties {options.ties}: {subset.name} has no decision between present and absent.")


def analyse_subset(
    annotations: Annotations, options: AnalysisOptions, invocation: Invocation
) -> Analysis | ScaleAnalysis:
    """Analyse one subset by its scale.

    Parameters
    ----------
    annotations : Annotations
    options : AnalysisOptions
    invocation : Invocation

    Returns
    -------
    Analysis or ScaleAnalysis
        The latter for a subset without a decision between present and absent.
    """
    rng = invocation.generator()
    if annotations.subset.is_decided:
        return analyse(
            annotations,
            ties=options.ties,
            required=options.required_raters,
            replicates=options.bootstrap,
            rng=rng,
            resample=options.resample,
        )
    return analyse_scale(
        annotations,
        required=options.required_raters,
        replicates=options.bootstrap,
        rng=rng,
        trimmed_mean=options.trimmed_mean,
        resample=options.resample,
    )


def reports_of(
    summaries: Mapping[str, Summary], folder: Path, invocation: Invocation
) -> dict[Path, dict[str, Summary]]:
    """Reports to write: one for all published subsets, and one for each other subset in its own folder.

    Parameters
    ----------
    summaries : mapping of str to AnalysisSummary or ScaleSummary
        Summaries of this run, by subset.
    folder : Path
        Output folder.
    invocation : Invocation
        Receives a warning for each earlier summary that cannot be read.

    Returns
    -------
    dict of Path to dict of str to AnalysisSummary or ScaleSummary
        Summaries in each report, by its folder.
    """
    reports = {folder / name: {name: summary} for name, summary in summaries.items() if name not in subsets()}
    published = {name: summary for name, summary in summaries.items() if name in subsets()}
    if not published:
        return reports
    published |= earlier_summaries(folder, published, invocation)
    return {folder: {name: published[name] for name in subsets() if name in published}, **reports}


def report_files(
    folder: Path,
    summaries: Sequence[Summary],
    described: Mapping[str, Subset],
    clips: Sequence[ClipList],
    options: AnalysisOptions,
) -> tuple[dict[Path, str | bytes | None], str]:
    """Files of a report: Markdown, LaTeX tables, and with --figures the page and its figures.

    Parameters
    ----------
    folder : Path
    summaries : sequence of AnalysisSummary or ScaleSummary
        In the order of the report.
    described : mapping of str to Subset
    clips : sequence of ClipList
        Clips to listen to.
    options : AnalysisOptions

    Returns
    -------
    contents : dict of Path to str, bytes or None
        None removes a file.
    report : str
        The report as Markdown.
    """
    report, tables = render("analysis.md.j2", summaries=summaries, subsets=described)
    figures: list[Figure] = []
    html = None
    if options.figures:
        figures = [one for summary in summaries for one in analysis_figures(summary, described[summary.subset])]
        html = page(
            "Annotation report", report, folder, figures=figures, clips=clips, embed_audio_mib=options.embed_audio
        )
    contents: dict[Path, str | bytes | None] = {
        folder / "report.md": report,
        folder / "report.tex": to_tex(tables, "annotation"),
        folder / "report.html": html,
        **figure_files(folder, figures),
    }
    return contents, report


def earlier_summaries(
    folder: Path, summaries: Mapping[str, Summary], invocation: Invocation
) -> dict[str, AnalysisSummary]:
    """Read the summaries of published subsets that were analysed by earlier runs, so that they stay in the report.

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
        Summaries of the other published subsets with a valid summary.json.
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


def with_known_spelling(
    loaded: Sequence[Annotations], options: AnalysisOptions, invocation: Invocation
) -> tuple[AnalysisOptions, Invocation]:
    """Spell the raters that flags name as in the tables, where the reading flags join the two spellings.

    Parameters
    ----------
    loaded : sequence of Annotations
    options : AnalysisOptions
    invocation : Invocation

    Returns
    -------
    options : AnalysisOptions
    invocation : Invocation
        With the same names in `argv`, so that `hide_usernames` finds them.
    """
    known = {name for annotations in loaded for name in annotations.ratings["username"].unique()}
    folds: list[Callable[[str], str]] = [
        *([] if options.reading.exact_keys else [canonical_key]),
        *([fold_case] if options.reading.ignore_case else []),
    ]
    if len(folds) > 1:
        folds.append(lambda name: fold_case(canonical_key(name)))
    spelled: dict[str, str] = {}
    for fold in folds:
        by_fold = {fold(name): name for name in sorted(known)}
        for name in {*options.exclude_rater, *options.machine_rater} - known - spelled.keys():
            if fold(name) in by_fold:
                spelled[name] = by_fold[fold(name)]
    return replace(
        options,
        exclude_rater=tuple(spelled.get(name, name) for name in options.exclude_rater),
        machine_rater=tuple(spelled.get(name, name) for name in options.machine_rater),
    ), replace(invocation, argv=tuple(_with_alias(word, spelled) for word in invocation.argv))


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
    machines = set(options.machine_rater)
    known = {name for table in tables if "username" in table for name in table["username"].unique()}
    names = sorted(known - machines)
    if options.show_names or all(PSEUDONYM.fullmatch(name) for name in names):
        return loaded, options, invocation
    aliases = {name: f"rater_{number}" for number, name in enumerate(names)}
    table = options.source.table
    where = f"{shown_path(options.annotations_root)}/" if table is None else shown_path(table)
    same = "" if table is None else " with the same table and flags"
    invocation.warn(
        f"{where} contains usernames that are not pseudonyms (user_0, user_1, …). "
        f"Outputs use rater_0, rater_1, … in sorted order instead. Run `uv run anonymize.py`{same} before you publish "
        f"the table{'s' if table is None else ''}; --show-names writes usernames unchanged."
    )

    for annotations in loaded:
        for column in (*annotations.subset.key, *annotations.subset.carried):
            cells = annotations.ratings[column].unique()[:MAX_CHECKED]
            if n := cells_with_names(cells, names):
                invocation.warn(
                    f"{annotations.subset.name}: {n:,} of {len(cells):,} values of column {column} contain the name of "
                    "a rater, and outputs show them; rename these values before you publish the outputs."
                )

    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        if "username" not in table:
            return table
        return table.assign(username=table["username"].map({**aliases, **{name: name for name in machines}}))

    changed = [
        replace(annotations, ratings=renamed(annotations.ratings), users=renamed(annotations.users))
        for annotations in loaded
    ]
    excluded = tuple(aliases.get(name, name) for name in options.exclude_rater)
    argv = tuple(_with_alias(word, aliases) for word in invocation.argv)
    return changed, replace(options, exclude_rater=excluded), replace(invocation, argv=argv)


def _with_alias(word: str, aliases: Mapping[str, str]) -> str:
    """An argument with the alias of the username that it is, or that it holds as --flag=NAME."""
    flag, equals, value = word.partition("=")
    return f"{flag}={aliases[value]}" if equals and value in aliases else aliases.get(word, word)


def load_all(selected: Sequence[Source], options: AnalysisOptions) -> list[Annotations]:
    """Load the tables of all selected subsets.

    Raises
    ------
    DataError
        If any table has faults; the error lists the faults of all subsets.
    MissingError
        If a required table does not exist.
    """
    loaded, failures = [], []
    for source in selected:
        folder = options.annotations_root / source.subset.name
        try:
            loaded.append(
                load_annotations(
                    folder,
                    source.subset,
                    reading=options.reading,
                    files=source.files,
                    keep=() if options.gold_column is None else (options.gold_column,),
                )
            )
        except DataError as error:
            failures.append(error)
    if failures:
        raise DataError.merged(failures)
    return loaded


def require_known_raters(loaded: Sequence[Annotations], options: AnalysisOptions) -> None:
    """Raise MissingError if a rater to exclude, or a machine, has no ratings in any subset."""
    known = {name for annotations in loaded for name in annotations.ratings["username"].unique()}
    for flag, names in (("--exclude-rater", options.exclude_rater), ("--machine-rater", options.machine_rater)):
        if unknown := sorted(set(names) - known):
            raise MissingError(
                f"{flag} {unknown[0]}: no ratings by this rater. Raters with ratings: {', '.join(sorted(known))}"
            )


@dataclass(frozen=True)
class CheckedRaters:
    """Ratings by people without quality items, with what the checks of raters found.

    Attributes
    ----------
    people : Annotations
    machines : DataFrame
        Ratings of the machines.
    gold : GoldSummary or None
        None without quality items.
    """

    people: Annotations
    machines: pd.DataFrame
    gold: GoldSummary | None


def check_raters(annotations: Annotations, options: AnalysisOptions) -> CheckedRaters:
    """Apply --gold, --exclude-rater, --min-reaction-ms and --machine-rater, in this order.

    Raises
    ------
    DataError, EarmarkError
        If the quality items have faults.
    MissingError
        If there is no such column.
    """
    items: GoldItems | None = None
    if options.gold is not None:
        items = read_gold(options.gold, annotations, options.reading)
    elif options.gold_column is not None:
        items = gold_from_column(annotations, options.gold_column, options.reading)
    gold: GoldSummary | None = None
    present = set(annotations.ratings["username"].unique())
    machines = [name for name in options.machine_rater if name in present]
    if items is not None:
        annotations, gold = apply_gold(
            annotations,
            items,
            tolerance=options.gold_tolerance,
            min_rate=options.min_gold_rate,
            machines=machines,
        )
    annotations = exclude_ratings(annotations, options.exclude_rater, options.min_reaction_ms)
    left = set(annotations.ratings["username"].unique())
    people, by_machines = split_machines(annotations, [name for name in machines if name in left])
    return CheckedRaters(people, by_machines, gold)


def require_raters(checked: Sequence[CheckedRaters], options: AnalysisOptions) -> None:
    """Raise EarmarkError if the checks of raters left no rating in a subset that had some, or one rater in a table."""
    has_checks = options.gold or options.gold_column or options.machine_rater
    for raters in checked:
        subset, left = raters.people.subset, raters.people.ratings["username"].nunique()
        if not left and raters.people.rows_raw and has_checks:
            raise EarmarkError(
                f"{subset.name}: no ratings by people are left. Relax --min-gold-rate, or name fewer machines or "
                "quality items. Nothing was written."
            )
        if subset.format != EMOLIA_BENCH and left < 2:
            n = "one rater" if left else "no rater"
            raise EarmarkError(
                f"{subset.name}: {n} is left; agreement needs two people. Exclude fewer raters, or relax "
                "--min-reaction-ms and --min-gold-rate. Nothing was written."
            )


def summarise(
    raters: CheckedRaters, analysis: Analysis | ScaleAnalysis, options: AnalysisOptions, invocation: Invocation
) -> Summary:
    """Combine the results of one subset with their provenance for summary.json.

    Parameters
    ----------
    raters : CheckedRaters
    analysis : Analysis or ScaleAnalysis
    options : AnalysisOptions
    invocation : Invocation

    Returns
    -------
    AnalysisSummary or ScaleSummary
    """
    annotations = raters.people
    files = annotations.rows
    if options.gold is not None and raters.gold is not None:
        files = {**files, options.gold: raters.gold.items}
    inputs, decided = input_records(files), annotations.subset.is_decided
    parameters = {name: value for name, value in options.parameters.items() if decided or name != "ties"}
    if annotations.subset.name not in subsets():
        parameters["table"] = annotations.subset.meaning
    common = provenance(
        invocation,
        inputs=inputs,
        parameters=parameters,
        exclusions=exclusions(annotations.excluded),
        signature=Signature.from_parts(
            suite=annotations.subset.name,
            protocol="earmark",
            metric="human_upper_bound_binary" if decided else f"krippendorff_alpha_{annotations.subset.scale}",
            **({"ties": options.ties} if decided else {}),
            ci=interval_method(options.resample, options.bootstrap),
            seed=invocation.seed,
            parameters=parameters_hash(parameters),
            data=data_hash(inputs),
        ),
    )
    kind = AnalysisSummary if isinstance(analysis, Analysis) else ScaleSummary
    machines = machine_agreement(
        annotations,
        raters.machines,
        replicates=options.bootstrap,
        rng=invocation.generator(),
        resample=options.resample,
    )
    result = analysis.result.model_copy(update={"machines": machines, "gold": raters.gold})
    return kind.from_common(common, result)
