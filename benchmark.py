"""Score clips against sentences and compare with what people heard.

Reads   analysis_outputs/<subset>/{benchmark_labels.csv, leave_one_out.csv, summary.json}, dataset/<subset>/
Writes  benchmark_outputs/<subset>/{predictions.csv, metrics_by_*.csv, summary.json, report.md, report.tex}

  uv run benchmark.py
  uv run benchmark.py --endpoint http://127.0.0.1:8765/v1/similarity --concurrency 32
  uv run benchmark.py --embeddings-endpoint http://127.0.0.1:7997/embeddings --model my-clap
  uv run --extra clap benchmark.py --clap-model laion/clap-htsat-unfused --device cuda
  uv run --extra clap benchmark.py --model voiceclap-small --subset emolia-dim --require-3-raters
  uv run benchmark.py --by language speaker --limit 100

Without a scorer, the sham scorer answers: numbers from a hash, which try everything but a model. A run against a
server that was interrupted continues where it stopped; --fresh asks everything again. A bearer token is read from
the environment variable EARMARK_API_KEY.
"""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from earmark import cli
from earmark.annotation.subsets import subsets
from earmark.audio_text.evaluation import BANDS, Evaluation, evaluate_answers
from earmark.audio_text.questions import (
    SHARES,
    TIED,
    Questions,
    labels_path,
    load_questions,
    probability_of_others,
)
from earmark.audio_text.scorers import Answer
from earmark.audio_text.scorers.select import (
    MAX_EMBEDDINGS_REPLY,
    Model,
    embeddings_model,
    endpoint_model,
    in_process_model,
    sham_model,
)
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.models.http import MAX_REPLY, TOKEN_VARIABLE, Client, StoppedError
from earmark.models.journal import Journal
from earmark.report.provenance import data_hash, exclusions, parameters_hash, provenance, shown_url, signature
from earmark.report.render import render
from earmark.report.summaries import AnalysisSummary, BenchmarkSummary, read_summary, to_json
from earmark.report.tables import to_csv, to_tex

JOURNAL = "journal.jsonl"
NO_CLIP = ": is not there"  # how the fault of a clip ends that does not exist
FILTERS = ("min_raters", "require_3_raters", "exclude_flagged", "unanimous_only", "limit")


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run(tell, argument_parser(), argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "")
    parser.add_argument(
        "--subset", choices=[*subsets(), "both"], default="both", help="which subset (default: all with labels)"
    )
    model = parser.add_argument_group("model")
    which = model.add_mutually_exclusive_group()
    which.add_argument("--endpoint", metavar="URL", type=address, help="a server that scores a clip and a sentence")
    which.add_argument("--embeddings-endpoint", metavar="URL", type=address, help="a server that embeds either")
    which.add_argument("--clap-model", metavar="PATH_OR_ID", help="a ClapModel, from a folder or the hub")
    model.add_argument(
        "--model", metavar="NAME", help="voiceclap-small, voiceclap-large, any sentence-transformers model"
    )
    model.add_argument("--device", default="auto", help="cpu, cuda, … (default: a GPU where there is one)")
    model.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    model.add_argument("--batch-size", type=cli.positive_int, default=16, metavar="N", help="clips at a time (16)")
    model.add_argument(
        "--max-seconds", type=cli.positive_float, metavar="S", help="longest piece that the model hears at once"
    )
    server = parser.add_argument_group("server")
    server.add_argument("--no-audio-send", action="store_true", help="send the clip's name but not its audio")
    server.add_argument("--sample-rate", type=cli.positive_int, metavar="HZ", help="resample clips before sending")
    server.add_argument("--concurrency", type=cli.positive_int, default=8, metavar="N", help="requests at a time (8)")
    server.add_argument(
        "--timeout", type=cli.positive_float, default=60.0, metavar="S", help="seconds for one reply (60)"
    )
    server.add_argument(
        "--retries", type=cli.natural_int, default=5, metavar="N", help="further tries of a request (5)"
    )
    server.add_argument(
        "--max-wait", type=cli.positive_float, default=300.0, metavar="S", help="seconds for all tries (300)"
    )
    server.add_argument("--max-consecutive-failures", type=cli.positive_int, default=20, metavar="N")
    server.add_argument("--fresh", action="store_true", help="forget what an interrupted run has found")
    items = parser.add_argument_group("which questions")
    items.add_argument("--min-raters", type=cli.positive_int, default=1, metavar="N", help="rated by N people or more")
    items.add_argument("--require-3-raters", action="store_true", help="the same as --min-raters 3")
    items.add_argument("--exclude-flagged", action="store_true", help="leave flagged items out")
    items.add_argument("--unanimous-only", action="store_true", help="items on which at least two people all agree")
    items.add_argument(
        "--limit",
        type=cli.positive_int,
        metavar="N",
        help="the first N questions, and what lies between them for the comparison with people",
    )
    parser.add_argument("--labels", choices=list(SHARES), default="majority", help="what to hold scores against")
    parser.add_argument("--threshold", type=cli.finite_float, default=0.0, help="present from this similarity up (0.0)")
    parser.add_argument(
        "--by", nargs="+", default=[], metavar="KEY", help="slice by these keys of the clips' JSON files"
    )
    parser.add_argument(
        "--bootstrap", type=cli.natural_int, default=1000, metavar="N", help="replicates per interval (1000)"
    )
    parser.add_argument("--allow-missing", action="store_true", help="exit 0 although clips are missing")
    parser.add_argument("--analysis-root", type=Path, default=Path("analysis_outputs"))
    parser.add_argument("--dataset-root", type=Path, default=Path("dataset"))
    parser.add_argument("--output-dir", type=Path, default=Path("benchmark_outputs"))
    return parser


def address(text: str) -> str:
    """An argparse type: an address that can be posted to."""
    if not text.lower().startswith(("http://", "https://")):
        raise ArgumentTypeError("an address begins with http:// or https://")  # the value may hold a password
    return text


def tell(arguments: Namespace) -> int:
    chosen = cli.chosen(subsets(), arguments.subset)
    if arguments.subset == "both":
        chosen = [subset for subset in chosen if labels_path(arguments.analysis_root, subset).is_file()] or chosen
    every = [
        filtered(load_questions(subset, arguments.analysis_root, arguments.dataset_root, arguments.labels), arguments)
        for subset in chosen
    ]
    folders = [arguments.output_dir / questions.subset.name for questions in every]
    require_keys(every, arguments.by)
    with locked(folders):
        complete = [judge(questions, folder, arguments) for questions, folder in zip(every, folders, strict=True)]
        if all(complete):
            for folder in folders:  # only now: a second subset that fails must not cost the first its answers
                (folder / JOURNAL).unlink(missing_ok=True)
    return cli.COMPLETE if all(complete) else cli.FAILED


def require_keys(every: Sequence[Questions], keys: Sequence[str]) -> None:
    """MissingError for a key of --by that no clip's JSON file has."""
    known = (
        {key for questions in every for path in questions.clips for key in questions.described(path)} if keys else set()
    )
    if unknown := [key for key in keys if key not in known]:
        raise MissingError(f"--by {unknown[0]}: no clip's JSON file has that key, only {', '.join(sorted(known))}")


def judge(questions: Questions, folder: Path, arguments: Namespace) -> bool:
    """Ask, evaluate, write and show one subset; returns whether every question was answered."""
    of_others = None
    if arguments.labels == "dawid-skene":
        of_others = probability_of_others(others_path(questions, arguments), questions.with_further())
        questions = questions if of_others is not None else questions.without_further()
    with chosen_model(folder, arguments) as model:
        answers = answer(questions.with_further(), model, arguments)
    result = evaluate_answers(
        questions,
        answers,
        threshold=arguments.threshold,
        replicates=arguments.bootstrap,
        rng=cli.generator(arguments),
        by=arguments.by,
        unanimous_only=arguments.unanimous_only,
        of_others=of_others,
    )
    n = len(questions.table)
    missing = sum(a.error.endswith(NO_CLIP) for a in answers[:n])
    errors = sum(bool(a.error) for a in answers[:n]) - missing
    further_missing = sum(a.error.endswith(NO_CLIP) for a in answers[n:])
    further_errors = sum(bool(a.error) for a in answers[n:]) - further_missing
    cli.show(write(questions, result, model, (missing, errors), folder, arguments))
    name = questions.subset.name
    if errors or missing:
        cli.warn(f"{name}: {missing} questions lack their clip, {errors} failed; predictions.csv says why", arguments)
    if further_errors or further_missing:
        cli.warn(
            f"{name}: of {len(questions.further)} further questions for the comparison with people, {further_missing} "
            f"lack their clip and {further_errors} failed ({next(a.error for a in answers[n:] if a.error)})",
            arguments,
        )
    if not len(questions.table):
        cli.warn(f"{name}: NO QUESTIONS are left to ask", arguments)
    all_there = not (missing or further_missing) or arguments.allow_missing
    return not errors and not further_errors and all_there


def others_path(questions: Questions, arguments: Namespace) -> Path:
    """Where analysis.py leaves what the comparison with people needs under Dawid and Skene's labels."""
    return labels_path(arguments.analysis_root, questions.subset).with_name("leave_one_out.csv")


def filtered(questions: Questions, arguments: Namespace) -> Questions:
    """The questions that the flags leave."""
    raters = max(arguments.min_raters, 3 if arguments.require_3_raters else 1)
    questions = questions.select(lambda t: t["n_raters"] >= raters, f"rated by fewer than {raters} people")
    if arguments.exclude_flagged:
        questions = questions.select(lambda t: ~t["flagged"], "flagged")
    if arguments.unanimous_only:
        questions = questions.select(
            lambda t: t["benchmark_bucket"].str.startswith("unanimous_"), "not unanimous", by_votes=True
        )
    questions = questions.first(arguments.limit) if arguments.limit else questions
    return questions.with_places(unanimous=arguments.unanimous_only)


@contextmanager
def chosen_model(folder: Path, arguments: Namespace) -> Iterator[Model]:
    """What the flags ask to score with; answers of a server go through a journal in the folder."""
    if arguments.model and (arguments.endpoint or arguments.clap_model):
        raise MissingError("--model is a model of its own, or what an --embeddings-endpoint calls its model.")
    if arguments.endpoint or arguments.embeddings_endpoint:
        with served_model(folder / JOURNAL, arguments) as model:
            yield model
    elif name := arguments.clap_model or arguments.model:
        settings = {key: getattr(arguments, key) for key in ("device", "dtype", "max_seconds", "batch_size")}
        yield in_process_model(name, clap=bool(arguments.clap_model), **settings)
    else:
        yield sham_model()


@contextmanager
def served_model(journal_path: Path, arguments: Namespace) -> Iterator[Model]:
    """A model behind an address, continuing from the journal unless --fresh."""
    if arguments.fresh:
        journal_path.unlink(missing_ok=True)
    client = Client(
        arguments.endpoint or arguments.embeddings_endpoint,
        arguments.timeout,
        arguments.retries,
        arguments.max_wait,
        token=os.environ.get(TOKEN_VARIABLE),
        max_reply=MAX_EMBEDDINGS_REPLY if arguments.embeddings_endpoint else MAX_REPLY,
    )
    pace = {key: getattr(arguments, key) for key in ("concurrency", "max_consecutive_failures")}
    with Journal(journal_path) as journal:
        if len(journal):
            cli.warn(f"Continuing with {len(journal):,} answers from before; --fresh starts over.", arguments)
        try:
            if arguments.endpoint:
                yield endpoint_model(client, journal, send_audio=not arguments.no_audio_send, **pace)
            else:
                batches = {key: getattr(arguments, key) for key in ("batch_size", "sample_rate")}
                yield embeddings_model(client, journal, model=arguments.model or "default", **batches, **pace)
        except StoppedError as error:
            kept = f"{len(journal):,} answers are kept in {shown_path(journal.path)}; the same command continues there."
            raise EarmarkError(f"{error}\n{kept}") from error


def answer(questions: Questions, model: Model, arguments: Namespace) -> list[Answer]:
    """An answer to every question, in order.

    A clip that cannot be used is never sent to the scorer; its questions say why.
    """
    name, paths = questions.subset.name, questions.clips
    with ThreadPoolExecutor() as pool:
        verdicts = pool.map(questions.clip_fault, paths)
        checked = cli.progress(verdicts, arguments, total=len(paths), what=f"{name}: clips", unit="clip")
        faults = dict(zip(paths, checked, strict=True))
    answers = [Answer(None, faults[path]) for path in questions.table["audio_path"]]
    usable = [i for i, known in enumerate(answers) if not known.error]
    asked = [questions.ask(i) for i in usable]
    bar = cli.progress(model.scorer(asked), arguments, total=len(asked), what=f"{name}: questions", unit="q")
    for i, found in bar:
        answers[usable[i]] = found
        if model.traffic:
            bar.set_postfix(retries=model.traffic.retries, errors=model.traffic.errors, refresh=False)
    return answers


def write(
    questions: Questions, result: Evaluation, model: Model, lost: tuple[int, int], folder: Path, arguments: Namespace
) -> str:
    """All files of a subset at once; returns the report."""
    text = to_json(BenchmarkSummary, summarise(questions, result, model, lost, arguments))
    summary = BenchmarkSummary.model_validate_json(text).model_dump()
    report, report_tables = render("benchmark.md.j2", s=summary, bands=BANDS)
    tables = {"predictions": result.predictions} | {f"metrics_by_{key}": rows for key, rows in result.slices.items()}
    contents: dict[Path, str | bytes | None] = {folder / f"{name}.csv": to_csv(rows) for name, rows in tables.items()}
    contents = {**dict.fromkeys(folder.glob("metrics_by_*.csv")), **contents}  # an earlier run's slices go
    contents |= {folder / "summary.json": text, folder / "report.md": report}
    write_together({**contents, folder / "report.tex": to_tex(report_tables)})
    return report


def summarise(
    questions: Questions, result: Evaluation, model: Model, lost: tuple[int, int], arguments: Namespace
) -> dict[str, Any]:
    """summary.json: where the numbers came from, then the numbers, then what people do at the same task."""
    name = questions.subset.name
    analysis_path = arguments.analysis_root / name / "summary.json"
    people = read_summary(AnalysisSummary, analysis_path) if analysis_path.is_file() else None
    labels, others = labels_path(arguments.analysis_root, questions.subset), others_path(questions, arguments)
    inputs = {labels: sum(questions.excluded.values()) + len(questions.table)}
    if arguments.labels == "dawid-skene" and others.is_file():
        inputs[others] = result.numbers["human_parity"]["n"]
    filters = {key: getattr(arguments, key) for key in FILTERS}
    parameters = {"threshold": arguments.threshold, "bootstrap": arguments.bootstrap, **filters}
    return {
        **provenance(
            script=Path(__file__),
            argv=arguments.argv,
            seed=arguments.seed,
            inputs=inputs,
            parameters=parameters,
            exclusions=exclusions(questions.excluded),
            signature=signature(
                suite=name,
                protocol="earmark",
                metric="balanced_accuracy",
                labels=arguments.labels,
                ties=(people.parameters.get("ties", "unknown") if people else "unknown")
                if arguments.labels == "majority"
                else "none",
                ci=f"clip-bootstrap-{arguments.bootstrap}",
                seed=arguments.seed,
                parameters=parameters_hash(parameters),
                data=data_hash(list(inputs)),
                model=model.identity,
            ),
            device=model.description.get("device", "cpu"),
        ),
        "subset": name,
        "mode": model.mode,
        "endpoint": shown_url(url) if (url := arguments.endpoint or arguments.embeddings_endpoint) else None,
        "labels": arguments.labels,
        "threshold": arguments.threshold,
        "filters": filters,
        "missing_audio": lost[0],
        "evaluation_errors": lost[1],
        "items_tied_excluded": questions.excluded.get(TIED, 0),
        **result.numbers,
        "human_ceiling": people.human_ceiling.model_dump() if people else None,
        "human_ceiling_with_prior": people.human_ceiling_with_prior.model_dump() if people else None,
        "scorer": {**model.description, **(model.traffic.as_dict() if model.traffic else {})},
    }


if __name__ == "__main__":
    sys.exit(main())
