"""Run benchmark.py: score pairs, evaluate the scores, write predictions, metrics and the report."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from earmark import cli
from earmark.annotation.parity import MIN_RATERS_OF_PAIR, RaterPanel
from earmark.annotation.schema import AnalysisSummary
from earmark.annotation.subsets import EMOLIA_BENCH, Subset
from earmark.audio.content import FILE_NOT_FOUND
from earmark.audio_text.evaluation import QUALITY_BANDS, Evaluation, evaluate_scores
from earmark.audio_text.options import BenchmarkOptions, FilterOptions, ScorerOptions, ServerOptions
from earmark.audio_text.page import benchmark_clips, benchmark_figures, predictions_table
from earmark.audio_text.pairs import TIED, PairTable, labels_path, load_pairs, read_leave_one_out
from earmark.audio_text.schema import BenchmarkSummary
from earmark.audio_text.scorers import Score
from earmark.audio_text.scorers.select import (
    Model,
    embeddings_model,
    endpoint_model,
    in_process_model,
    sham_model,
)
from earmark.audio_text.sentence_scores import with_wordings
from earmark.audio_text.subset_choice import benchmark_subsets, require_clips
from earmark.audio_text.wordings_of_pairs import add_wordings, score_wordings
from earmark.cli import Invocation
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked
from earmark.files.runs import RUNS, Content, write_run
from earmark.files.safe_text import encodable, shown_url
from earmark.models import embeddings_api
from earmark.models.http import MAX_REPLY, Client, StoppedError
from earmark.models.journal import Journal
from earmark.report.hub import HUB_FILES, HubResult, HubTask, hub_files
from earmark.report.page import page
from earmark.report.provenance import data_hash, exclusions, file_name, input_records, parameters_hash, provenance
from earmark.report.render import render
from earmark.report.schema import read_summary, to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv
from earmark.report.tex import to_tex
from earmark.report.trackers import FinishedRun, log_run, require_trackers

JOURNAL = "journal.jsonl"


def run_benchmark(options: BenchmarkOptions, invocation: Invocation) -> int:
    """Score, evaluate and report every requested subset.

    Parameters
    ----------
    options : BenchmarkOptions
    invocation : Invocation

    Returns
    -------
    int
        Exit code: 0 if every pair was scored, else 1. With `allow_missing`, absent clips do not count.

    Raises
    ------
    MissingError
        If labels, a rubric or a key of `--by` are not found.
    DataError
        If labels are invalid.
    EarmarkError
        If a server fails or another run writes to the same directory.
    """
    require_trackers(options.trackers)
    pair_tables = [load_subset(subset, options) for subset in benchmark_subsets(options)]
    for pairs in pair_tables:
        require_clips(pairs)
    folders = [options.output_dir / pairs.subset.name for pairs in pair_tables]
    require_metadata_keys(pair_tables, options.by)
    with locked(folders):
        complete = [
            evaluate_subset(pairs, folder, options, invocation)
            for pairs, folder in zip(pair_tables, folders, strict=True)
        ]
        if all(complete):
            # Not earlier: if a later subset fails, the next run still needs the scores of this one.
            for folder in folders:
                (folder / JOURNAL).unlink(missing_ok=True)
    return cli.COMPLETE if all(complete) else cli.FAILED


def load_subset(subset: Subset, options: BenchmarkOptions) -> PairTable:
    """Load and filter the items of a subset, with the sentences of --prompts."""
    if not subset.is_decided:
        from earmark.audio_text.scale_run import load_scale  # imports this module

        return load_scale(subset, options)
    pairs = load_pairs(subset, options.analysis_root, options.dataset_root, options.labels)
    pairs = apply_filters(with_wordings(pairs, options.prompts) if options.prompts else pairs, options.filters)
    read_panel(pairs, options)  # before anything is scored: its ratings may be missing
    return pairs


def require_metadata_keys(pair_tables: Sequence[PairTable], keys: Sequence[str]) -> None:
    """Raise MissingError for a key of --by that is in no clip's JSON file."""
    if not keys:
        return
    known = {key for pairs in pair_tables for path in pairs.clips for key in pairs.clip_metadata(path)}
    if unknown := [key for key in keys if key not in known]:
        available = ", ".join(sorted(known)) or "none"
        raise MissingError(f"--by {unknown[0]}: no clip's JSON file has this key. Available keys: {available}.")


def evaluate_subset(pairs: PairTable, folder: Path, options: BenchmarkOptions, invocation: Invocation) -> bool:
    """Score, evaluate and report one subset.

    Parameters
    ----------
    pairs : PairTable
    folder : Path
        Directory of the results; locked by the caller.
    options : BenchmarkOptions
    invocation : Invocation

    Returns
    -------
    bool
        Whether every pair was scored; absent clips do not count with `allow_missing`.
    """
    if not pairs.subset.is_decided:
        from earmark.audio_text.scale_run import evaluate_scale  # imports this module

        return evaluate_scale(pairs, folder, options, invocation)
    leave_one_out, panel = None, read_panel(pairs, options)
    if options.labels == "dawid-skene":
        path = leave_one_out_path(pairs, options.analysis_root)
        leave_one_out = read_leave_one_out(path, pairs.with_comparison_only())
        pairs = pairs if leave_one_out is not None else pairs.without_comparison_only()
    similarities = None
    with open_model(folder, options, invocation) as model:
        if pairs.wordings is None:
            scores = score_pairs(pairs.with_comparison_only(), model, invocation)
        else:
            scored = partial(score_pairs, model=model, invocation=invocation)
            similarities = score_wordings(pairs.with_comparison_only(), scored)
            scores = similarities.scores
    name = pairs.subset.name
    for text in scorer_warnings(model):
        invocation.warn(f"{name}: {text}")
    evaluation = evaluate_scores(
        pairs,
        scores,
        threshold=options.threshold,
        replicates=options.bootstrap,
        rng=invocation.generator(),
        by=options.by,
        unanimous_only=options.filters.unanimous_only,
        leave_one_out=leave_one_out,
        panel=panel,
    )
    if similarities is not None:
        evaluation = add_wordings(evaluation, pairs, similarities, options.bootstrap, invocation.generator())
    for warning in evaluation.result.warnings:
        invocation.warn(f"{name}: {warning}.")
    n = len(pairs.table)
    missing, failed = count_errors(scores[:n])
    comparison_missing, comparison_failed = count_errors(scores[n:])
    report, finished = write_outputs(pairs, evaluation, model, (missing, failed), folder, options, invocation)
    cli.show(report)
    log_run(options.trackers, finished, invocation)
    if failed or missing:
        invocation.warn(
            f"{name}: {missing} pairs without their clip, {failed} failed; see the column `error` of predictions.csv"
        )
    if comparison_failed or comparison_missing:
        first_error = next(score.error for score in scores[n:] if score.error)
        invocation.warn(
            f"{name}: {len(pairs.comparison_only)} additional pairs for the comparison with raters: "
            f"{comparison_missing} without their clip, {comparison_failed} failed (first error: {first_error})"
        )
    if not len(pairs.table):
        invocation.warn(f"{name}: no pairs are left to score; relax the filters")
    clips_complete = not (missing or comparison_missing) or options.allow_missing
    return not failed and not comparison_failed and clips_complete


def count_errors(scores: Sequence[Score]) -> tuple[int, int]:
    """Numbers of scores without their clip and of scores with another error."""
    missing = sum(score.error.endswith(FILE_NOT_FOUND) for score in scores)
    return missing, sum(bool(score.error) for score in scores) - missing


def scorer_warnings(model: Model) -> list[str]:
    """Unique warnings that the scorer collected while it ran."""
    return list(dict.fromkeys(getattr(model.scorer, "warnings", ())))


def leave_one_out_path(pairs: PairTable, analysis_root: Path) -> Path:
    """Path of leave_one_out.csv, which the comparison with raters needs under Dawid–Skene labels."""
    return labels_path(analysis_root, pairs.subset).with_name("leave_one_out.csv")


def require_all_items(options: BenchmarkOptions) -> None:
    """Raise MissingError if intervals for new raters lack the items that are unanimous without one of the raters."""
    if options.resample != "clips" and options.filters.unanimous_only:
        raise MissingError(
            f"--resample {options.resample} cannot be combined with --unanimous-only: items that are unanimous without "
            "one of the raters would have to be scored too. Leave one of them out."
        )


def read_panel(pairs: PairTable, options: BenchmarkOptions) -> RaterPanel | None:
    """Read who gave each rating, for a comparison with raters that speaks for new raters.

    Parameters
    ----------
    pairs : PairTable
    options : BenchmarkOptions

    Returns
    -------
    RaterPanel or None
        Of the rows of `pairs.with_comparison_only().table`; None if intervals speak for other clips only.

    Raises
    ------
    MissingError
        If leave_one_out.csv does not exist, lacks ratings or has other votes than the labels, or if the labels are
        those of Dawid and Skene.
    """
    if options.resample == "clips":
        return None
    require_all_items(options)
    flag = f"--resample {options.resample}"
    if options.labels == "dawid-skene":
        raise MissingError(
            f"{flag} cannot be combined with --labels dawid-skene: the labels would have to be fitted again without "
            "each rater. Use --labels majority or soft."
        )
    path, table = leave_one_out_path(pairs, options.analysis_root), pairs.with_comparison_only().table
    ratings = read_leave_one_out(path, pairs.with_comparison_only())
    if ratings is None:
        raise MissingError(f"{flag}: {shown_path(path)} does not exist. Run `uv run analysis.py` to create it.")
    item = ratings["item"].to_numpy(dtype=np.int64)
    raters = table["n_raters"].to_numpy()
    lacking = (raters >= MIN_RATERS_OF_PAIR) & (np.bincount(item, minlength=len(table)) != raters)
    if lacking.any():
        raise MissingError(
            f"{flag}: {shown_path(path)} lacks ratings of {lacking.sum():,} items with two or more raters. It is from "
            "an earlier release or from other ratings than the labels; run `uv run analysis.py` again."
        )
    rater, present = (ratings[column].to_numpy(dtype=np.int64) for column in ("rater", "present"))
    votes = table["present_votes"].to_numpy(dtype=float)
    differ = (raters >= MIN_RATERS_OF_PAIR) & np.isfinite(votes) & (np.bincount(item, present, len(table)) != votes)
    if differ.any():
        raise MissingError(
            f"{flag}: {shown_path(path)} has other votes than benchmark_labels.csv (items that differ: "
            f"{differ.sum():,}): the files are of different runs; run `uv run analysis.py` again."
        )
    return RaterPanel(options.resample, item, rater, present)


def apply_filters(pairs: PairTable, filters: FilterOptions) -> PairTable:
    """Filter the pairs and count the excluded ones by reason."""
    raters = filters.required_raters
    pairs = pairs.select(lambda t: t["n_raters"] >= raters, f"with fewer than {raters} raters")
    if filters.exclude_flagged:
        pairs = pairs.select(lambda t: ~t["flagged"], "flagged")
    if filters.unanimous_only:
        pairs = pairs.select(
            lambda t: t["benchmark_bucket"].str.startswith("unanimous_"), "not unanimous", by_votes=True
        )
    pairs = pairs.head(filters.limit) if filters.limit else pairs
    return pairs.drop_uninformative(unanimous=filters.unanimous_only)


@contextmanager
def open_model(folder: Path, options: BenchmarkOptions, invocation: Invocation) -> Iterator[Model]:
    """Open the model that the options select.

    Parameters
    ----------
    folder : Path
        Directory of the journal that keeps the replies of a server.
    options : BenchmarkOptions
    invocation : Invocation

    Yields
    ------
    Model

    Raises
    ------
    MissingError
        If `--model` is combined with `--clap-model`.
    EarmarkError
        If the server fails; the message says how to continue.
    """
    scorer = options.scorer
    if scorer.model and scorer.clap_model:
        raise MissingError(
            "--model cannot be combined with --clap-model. Use it alone, or with --endpoint or --embeddings-endpoint."
        )
    if scorer.address:
        with open_server_model(folder / JOURNAL, scorer, options.server, invocation) as model:
            yield model
    elif scorer.clap_model or scorer.model:
        yield in_process_model(scorer, options.cluster, invocation)
    else:
        yield sham_model()


@contextmanager
def open_server_model(
    journal_path: Path, scorer: ScorerOptions, server: ServerOptions, invocation: Invocation
) -> Iterator[Model]:
    """Open a model behind a URL. Continue from the journal unless `server.restart` is set."""
    if server.restart:
        journal_path.unlink(missing_ok=True)
    client = Client(
        scorer.address or "",
        server.timeout,
        server.retries,
        server.max_wait,
        token=server.token,
        max_reply=embeddings_api.MAX_REPLY if scorer.embeddings_endpoint else MAX_REPLY,
    )
    with Journal(journal_path) as journal:
        if len(journal):
            invocation.warn(f"Continuing with {len(journal):,} stored replies; use --restart to discard them.")
        try:
            if scorer.endpoint:
                yield endpoint_model(client, journal, server, scorer.model)
            else:
                yield embeddings_model(client, journal, scorer, server)
        except StoppedError as error:
            stored = f"{len(journal):,} replies are stored in {shown_path(journal.path)}."
            raise EarmarkError(f"{error}\n{stored} Run the same command again to continue.") from error


def score_pairs(pairs: PairTable, model: Model, invocation: Invocation) -> list[Score]:
    """Score all pairs of a table.

    Parameters
    ----------
    pairs : PairTable
    model : Model
    invocation : Invocation

    Returns
    -------
    list of Score
        One per row, in order. Pairs with an unusable clip get an error and are not passed to the scorer.
    """
    name, paths = pairs.subset.name, pairs.clips
    with ThreadPoolExecutor() as pool:
        clip_faults = pool.map(pairs.clip_fault, paths)
        progress = invocation.progress(clip_faults, total=len(paths), label=f"{name}: clips", unit="clip")
        faults = dict(zip(paths, progress, strict=True))
    scores = [Score(None, faults[path]) for path in pairs.table["audio_path"]]
    usable = [i for i, score in enumerate(scores) if not score.error]
    scorable = pairs.pairs(usable)
    bar = invocation.progress(model.scorer(scorable), total=len(scorable), label=f"{name}: pairs", unit="pair")
    for i, score in bar:
        scores[usable[i]] = score
        if model.traffic:
            bar.set_postfix(retries=model.traffic.retries, errors=model.traffic.errors, refresh=False)
    return scores


def write_outputs(
    pairs: PairTable,
    evaluation: Evaluation,
    model: Model,
    n_errors: tuple[int, int],
    folder: Path,
    options: BenchmarkOptions,
    invocation: Invocation,
) -> tuple[str, FinishedRun]:
    """Write all files of a subset at once.

    Parameters
    ----------
    pairs : PairTable
    evaluation : Evaluation
    model : Model
    n_errors : tuple of int
        Numbers of pairs without their clip and of pairs with another error.
    folder : Path
        Directory of the latest run. A copy goes to the directory of the model below `output_dir`/runs.
    options : BenchmarkOptions
    invocation : Invocation

    Returns
    -------
    report : str
        Markdown.
    finished : FinishedRun
        For experiment trackers.
    """
    summary = summarise(pairs, evaluation, model, n_errors, options, invocation)
    tasks = [hub_task(summary)]
    bands = QUALITY_BANDS if pairs.subset.format == EMOLIA_BENCH else ()
    report, report_tables = render("benchmark.md.j2", s=summary, bands=bands)
    slice_tables = {f"metrics_by_{key}": table for key, table in evaluation.slice_tables.items()}
    tables = {"predictions": evaluation.predictions} | slice_tables
    # File names and JSON files may hold text that UTF-8 cannot encode; escape it rather than lose the results.
    contents = {f"{name}.csv": to_csv(table) for name, table in tables.items()}
    contents |= {
        "summary.json": to_json(summary),
        "report.md": report,
        "report.tex": to_tex(report_tables, f"{pairs.subset.name} {model.name}"),
        **hub_files(options.dataset_id, summary.subset, tasks, summary),
    }
    figures = benchmark_figures(pairs, evaluation, summary) if options.figures else []

    def html(place: Path) -> str:  # the latest run and the kept one lie in different folders, so links to clips differ
        clips = benchmark_clips(pairs, evaluation, options.threshold)
        text = page(
            f"{summary.subset}: {summary.name or model.name}",
            report,
            place,
            figures=figures,
            clips=clips,
            tables=[predictions_table(evaluation)],
            embed_audio_mib=options.embed_audio,
        )
        return encodable(text)

    files: dict[str, Content] = {name: encodable(text) for name, text in contents.items()}
    if options.figures:
        files["report.html"] = html
    for figure in figures:
        files |= figure.contents("figures")
    saved = write_run(
        folder,
        files,
        name=file_name(options.model_name or model.name),
        state=model.identity,
        suite=pairs.subset.name,
        owned=("metrics_by_*.csv", "confusion.csv", "figures/*.*", "report.html", *HUB_FILES),
        runs=options.output_dir / RUNS,
    )
    return encodable(report), FinishedRun(summary.name or model.name, pairs.subset.name, tasks, summary, saved)


def summarise(
    pairs: PairTable,
    evaluation: Evaluation,
    model: Model,
    n_errors: tuple[int, int],
    options: BenchmarkOptions,
    invocation: Invocation,
) -> BenchmarkSummary:
    """Build the content of summary.json: provenance, metrics and the human ceiling.

    Parameters
    ----------
    pairs, evaluation, model, n_errors, options, invocation
        As in `write_outputs`.

    Returns
    -------
    BenchmarkSummary
        `human_ceiling` is None if analysis.py has not written its summary for the subset.
    """
    name, result = pairs.subset.name, evaluation.result
    analysis_path = options.analysis_root / name / "summary.json"
    analysis = read_summary(AnalysisSummary, analysis_path) if analysis_path.is_file() else None
    leave_one_out = leave_one_out_path(pairs, options.analysis_root)
    n_rows = {labels_path(options.analysis_root, pairs.subset): sum(pairs.excluded.values()) + len(pairs.table)}
    if (options.labels == "dawid-skene" or options.resample != "clips") and leave_one_out.is_file():
        n_rows[leave_one_out] = result.human_parity.n if result.human_parity else 0
    if options.prompts is not None and pairs.wordings is not None:
        n_rows[options.prompts] = sum(len(own) for own in pairs.wordings.sentences.values())
    inputs = input_records(n_rows)
    ties = analysis.parameters.get("ties", "unknown") if analysis else "unknown"
    common = provenance(
        invocation,
        inputs=inputs,
        parameters=options.parameters,
        exclusions=exclusions(pairs.excluded),
        signature=Signature.from_parts(
            suite=name,
            protocol=options.protocol,
            metric="balanced_accuracy",
            labels=options.labels,
            ties=ties if options.labels == "majority" else "none",
            ci=f"clip-bootstrap-{options.bootstrap}",
            seed=invocation.seed,
            parameters=parameters_hash(options.parameters),
            data=data_hash(inputs),
            model=model.identity,
        ),
        device=model.description.get("device", "cpu"),
    )
    return BenchmarkSummary.from_common(
        common,
        result,
        subset=name,
        mode=model.mode,
        name=options.model_name or (options.scorer.model if options.scorer.endpoint else None),
        protocol=options.protocol,
        endpoint=shown_url(options.scorer.address) if options.scorer.address else None,
        labels=options.labels,
        resample=options.resample,
        threshold=options.threshold,
        filters=vars(options.filters),
        missing_audio=n_errors[0],
        evaluation_errors=n_errors[1],
        items_tied_excluded=pairs.excluded.get(TIED, 0),
        human_ceiling=analysis.human_ceiling if analysis else None,
        human_ceiling_with_prior=analysis.human_ceiling_with_prior if analysis else None,
        scorer={
            **model.description,
            **(model.traffic.as_dict() if model.traffic else {}),
            **({"warnings": scorer_warnings(model)} if scorer_warnings(model) else {}),
        },
    )


def hub_task(summary: BenchmarkSummary) -> HubTask:
    """The numbers for model hubs; the main score is the balanced accuracy at the fixed threshold."""
    estimates = {
        "balanced_accuracy": summary.overall.balanced_accuracy,
        "balanced_accuracy_cross_fitted": summary.cross_fitted_threshold.balanced_accuracy,
        "roc_auc": summary.overall.roc_auc,
    }
    return HubTask(
        summary.subset,
        [
            HubResult(metric, estimate, summary.signature.replaced(metric=metric))
            for metric, estimate in estimates.items()
        ],
    )
