"""`benchmark.py`: labels + clips + a scorer → predictions, metrics, report."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from earmark import cli
from earmark.annotation.schema import AnalysisSummary
from earmark.annotation.subsets import select_subsets
from earmark.audio_text.evaluation import BANDS, Evaluation, evaluate_scores
from earmark.audio_text.options import BenchmarkOptions, FilterOptions, ScorerOptions, ServerOptions
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
from earmark.cli import Invocation
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked
from earmark.files.runs import RUNS, write_run
from earmark.files.safe_text import encodable, shown_url
from earmark.models import embeddings_api
from earmark.models.http import MAX_REPLY, Client, StoppedError
from earmark.models.journal import Journal
from earmark.report.provenance import data_hash, exclusions, file_name, input_records, parameters_hash, provenance
from earmark.report.render import render
from earmark.report.schema import read_summary, to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv, to_tex

JOURNAL = "journal.jsonl"
NO_CLIP = ": file not found"  # how the fault of a clip ends that does not exist


def run_benchmark(options: BenchmarkOptions, invocation: Invocation) -> int:
    """Score, evaluate, write and show every subset asked for; 1 where a question has no answer."""
    chosen = select_subsets(options.subset)
    if options.subset in ("both", "all"):
        chosen = [subset for subset in chosen if labels_path(options.analysis_root, subset).is_file()] or chosen
    every = [
        filtered(load_pairs(subset, options.analysis_root, options.dataset_root, options.labels), options.filters)
        for subset in chosen
    ]
    folders = [options.output_dir / questions.subset.name for questions in every]
    require_keys(every, options.by)
    with locked(folders):
        complete = [
            evaluate_subset(questions, folder, options, invocation)
            for questions, folder in zip(every, folders, strict=True)
        ]
        if all(complete):
            for folder in folders:  # only now: a second subset that fails must not cost the first its answers
                (folder / JOURNAL).unlink(missing_ok=True)
    return cli.COMPLETE if all(complete) else cli.FAILED


def require_keys(every: Sequence[PairTable], keys: Sequence[str]) -> None:
    """MissingError for a key of --by that no clip's JSON file has."""
    known = (
        {key for questions in every for path in questions.clips for key in questions.described(path)} if keys else set()
    )
    if unknown := [key for key in keys if key not in known]:
        raise MissingError(f"--by {unknown[0]}: no clip's JSON file has that key, only {', '.join(sorted(known))}")


def evaluate_subset(questions: PairTable, folder: Path, options: BenchmarkOptions, invocation: Invocation) -> bool:
    """Ask, evaluate, write and show one subset; returns whether every question was answered."""
    of_others = None
    if options.labels == "dawid-skene":
        of_others = read_leave_one_out(others_path(questions, options.analysis_root), questions.with_further())
        questions = questions if of_others is not None else questions.without_further()
    with chosen_model(folder, options, invocation) as model:
        answers = answer(questions.with_further(), model, invocation)
    for text in warnings(model):
        invocation.warn(f"{questions.subset.name}: {text}")
    result = evaluate_scores(
        questions,
        answers,
        threshold=options.threshold,
        replicates=options.bootstrap,
        rng=invocation.generator(),
        by=options.by,
        unanimous_only=options.filters.unanimous_only,
        of_others=of_others,
    )
    for warning in result.result.warnings:
        invocation.warn(f"{questions.subset.name}: {warning}.")
    n = len(questions.table)
    missing = sum(a.error.endswith(NO_CLIP) for a in answers[:n])
    errors = sum(bool(a.error) for a in answers[:n]) - missing
    further_missing = sum(a.error.endswith(NO_CLIP) for a in answers[n:])
    further_errors = sum(bool(a.error) for a in answers[n:]) - further_missing
    cli.show(write(questions, result, model, (missing, errors), folder, options, invocation))
    name = questions.subset.name
    if errors or missing:
        invocation.warn(f"{name}: {missing} questions lack their clip, {errors} failed; predictions.csv says why")
    if further_errors or further_missing:
        invocation.warn(
            f"{name}: of {len(questions.further)} further questions for the comparison with people, {further_missing} "
            f"lack their clip and {further_errors} failed ({next(a.error for a in answers[n:] if a.error)})"
        )
    if not len(questions.table):
        invocation.warn(f"{name}: NO QUESTIONS are left to ask")
    all_there = not (missing or further_missing) or options.allow_missing
    return not errors and not further_errors and all_there


def warnings(model: Model) -> list[str]:
    """What a scorer noticed about its model while it asked, each once."""
    return list(dict.fromkeys(getattr(model.scorer, "warnings", ())))


def others_path(questions: PairTable, analysis_root: Path) -> Path:
    """Where analysis.py leaves what the comparison with people needs under Dawid and Skene's labels."""
    return labels_path(analysis_root, questions.subset).with_name("leave_one_out.csv")


def filtered(questions: PairTable, filters: FilterOptions) -> PairTable:
    """The questions that the flags leave."""
    raters = filters.fewest_raters
    questions = questions.select(lambda t: t["n_raters"] >= raters, f"rated by fewer than {raters} people")
    if filters.exclude_flagged:
        questions = questions.select(lambda t: ~t["flagged"], "flagged")
    if filters.unanimous_only:
        questions = questions.select(
            lambda t: t["benchmark_bucket"].str.startswith("unanimous_"), "not unanimous", by_votes=True
        )
    questions = questions.first(filters.limit) if filters.limit else questions
    return questions.with_places(unanimous=filters.unanimous_only)


@contextmanager
def chosen_model(folder: Path, options: BenchmarkOptions, invocation: Invocation) -> Iterator[Model]:
    """What the flags ask to score with; answers of a server go through a journal in the folder."""
    scorer = options.scorer
    if scorer.model and (scorer.endpoint or scorer.clap_model):
        raise MissingError("--model is a model of its own, or what an --embeddings-endpoint calls its model.")
    if scorer.address:
        with served_model(folder / JOURNAL, scorer, options.server, invocation) as model:
            yield model
    elif scorer.clap_model or scorer.model:
        yield in_process_model(scorer)
    else:
        yield sham_model()


@contextmanager
def served_model(
    journal_path: Path, scorer: ScorerOptions, server: ServerOptions, invocation: Invocation
) -> Iterator[Model]:
    """A model behind an address, continuing from the journal unless --restart."""
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
            invocation.warn(f"Continuing with {len(journal):,} answers from before; --restart starts over.")
        try:
            if scorer.endpoint:
                yield endpoint_model(client, journal, server)
            else:
                yield embeddings_model(client, journal, scorer, server)
        except StoppedError as error:
            kept = f"{len(journal):,} answers are kept in {shown_path(journal.path)}; the same command continues there."
            raise EarmarkError(f"{error}\n{kept}") from error


def answer(questions: PairTable, model: Model, invocation: Invocation) -> list[Score]:
    """An answer to every question, in order.

    A clip that cannot be used is never sent to the scorer; its questions say why.
    """
    name, paths = questions.subset.name, questions.clips
    with ThreadPoolExecutor() as pool:
        verdicts = pool.map(questions.clip_fault, paths)
        checked = invocation.progress(verdicts, total=len(paths), label=f"{name}: clips", unit="clip")
        faults = dict(zip(paths, checked, strict=True))
    answers = [Score(None, faults[path]) for path in questions.table["audio_path"]]
    usable = [i for i, known in enumerate(answers) if not known.error]
    asked = [questions.ask(i) for i in usable]
    bar = invocation.progress(model.scorer(asked), total=len(asked), label=f"{name}: questions", unit="q")
    for i, found in bar:
        answers[usable[i]] = found
        if model.traffic:
            bar.set_postfix(retries=model.traffic.retries, errors=model.traffic.errors, refresh=False)
    return answers


def write(
    questions: PairTable,
    result: Evaluation,
    model: Model,
    lost: tuple[int, int],
    folder: Path,
    options: BenchmarkOptions,
    invocation: Invocation,
) -> str:
    """All files of a subset at once; returns the report."""
    summary = summarise(questions, result, model, lost, options, invocation)
    report, report_tables = render("benchmark.md.j2", s=summary, bands=BANDS)
    tables = {"predictions": result.predictions} | {f"metrics_by_{key}": rows for key, rows in result.slices.items()}
    contents = {f"{name}.csv": to_csv(rows) for name, rows in tables.items()}
    contents |= {"summary.json": to_json(summary), "report.md": report, "report.tex": to_tex(report_tables)}
    write_run(
        folder,
        # A clip's name or its JSON file may hold what UTF-8 cannot; at the end of a run that must not cost its results.
        {name: encodable(text) for name, text in contents.items()},
        name=file_name(options.model_name or model.name),
        state=model.identity,
        suite=questions.subset.name,
        owned=("metrics_by_*.csv",),
        runs=options.output_dir / RUNS,
    )
    return encodable(report)


def summarise(
    questions: PairTable,
    result: Evaluation,
    model: Model,
    lost: tuple[int, int],
    options: BenchmarkOptions,
    invocation: Invocation,
) -> BenchmarkSummary:
    """summary.json: where the numbers came from, then the numbers, then what people do at the same task."""
    name = questions.subset.name
    analysis_path = options.analysis_root / name / "summary.json"
    people = read_summary(AnalysisSummary, analysis_path) if analysis_path.is_file() else None
    labels, others = labels_path(options.analysis_root, questions.subset), others_path(questions, options.analysis_root)
    rows = {labels: sum(questions.excluded.values()) + len(questions.table)}
    if options.labels == "dawid-skene" and others.is_file():
        rows[others] = result.result.human_parity.n if result.result.human_parity else 0
    inputs = input_records(rows)
    ties_of_labels = people.parameters.get("ties", "unknown") if people else "unknown"
    common = provenance(
        invocation,
        inputs=inputs,
        parameters=options.parameters,
        exclusions=exclusions(questions.excluded),
        signature=Signature.from_parts(
            suite=name,
            protocol="earmark",
            metric="balanced_accuracy",
            labels=options.labels,
            ties=ties_of_labels if options.labels == "majority" else "none",
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
        result.result,
        subset=name,
        mode=model.mode,
        endpoint=shown_url(options.scorer.address) if options.scorer.address else None,
        labels=options.labels,
        threshold=options.threshold,
        filters=vars(options.filters),
        missing_audio=lost[0],
        evaluation_errors=lost[1],
        items_tied_excluded=questions.excluded.get(TIED, 0),
        human_ceiling=people.human_ceiling if people else None,
        human_ceiling_with_prior=people.human_ceiling_with_prior if people else None,
        scorer={
            **model.description,
            **(model.traffic.as_dict() if model.traffic else {}),
            **({"warnings": warnings(model)} if warnings(model) else {}),
        },
    )
