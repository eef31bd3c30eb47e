"""Score clips against sentences and compare with what people heard.

Reads   analysis_outputs/<subset>/{benchmark_labels.csv, summary.json}, dataset/<subset>/
Writes  benchmark_outputs/<subset>/{predictions.csv, metrics_by_*.csv, summary.json, report.md}

  uv run benchmark.py
  uv run benchmark.py --endpoint http://127.0.0.1:8765/v1/similarity --concurrency 32
  uv run benchmark.py --subset emolia-dim --require-3-raters --limit 100

Without a scorer, the sham scorer answers: numbers from a hash, which try everything but a model.
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from earmark import script
from earmark.annotation.clips import sham_stem
from earmark.annotation.evaluation import BANDS, Evaluation, evaluate_answers
from earmark.annotation.questions import Questions, count_by_reason, labels_path, load_questions
from earmark.annotation.subsets import subsets
from earmark.audio.decode import AudioError, check_audio
from earmark.models.scorers import Answer, Question, Scorer
from earmark.models.scorers.endpoint import EndpointScorer
from earmark.models.scorers.sham import score_sham
from earmark.report.documents import render
from earmark.report.files import write_together
from earmark.report.provenance import data_hash, provenance, shown_url, signature
from earmark.report.summaries import AnalysisSummary, BenchmarkSummary, read_summary, to_json
from earmark.report.tables import to_csv

TOKEN_VARIABLE = "EARMARK_API_KEY"


def main(argv: Sequence[str] | None = None) -> int:
    return script.run(tell, argument_parser(), argv)


def argument_parser() -> ArgumentParser:
    parser = script.argument_parser(__doc__ or "")
    parser.add_argument("--subset", choices=[*subsets(), "both"], default="both", help="which subset (default both)")
    scorer = parser.add_argument_group("scorer")
    scorer.add_argument("--endpoint", metavar="URL", help=f"a similarity server; a token is read from {TOKEN_VARIABLE}")
    scorer.add_argument("--no-audio-send", action="store_true", help="send the clip's name but not its audio")
    scorer.add_argument(
        "--concurrency", type=script.positive_int, default=8, metavar="N", help="requests at a time (8)"
    )
    scorer.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds for one reply (60)")
    scorer.add_argument("--retries", type=int, default=5, metavar="N", help="further tries of a request (5)")
    which = parser.add_argument_group("which questions")
    which.add_argument(
        "--min-raters", type=script.positive_int, default=1, metavar="N", help="rated by at least N people"
    )
    which.add_argument("--require-3-raters", action="store_true", help="the same as --min-raters 3")
    which.add_argument("--exclude-flagged", action="store_true", help="leave flagged items out")
    which.add_argument("--unanimous-only", action="store_true", help="items on which at least two people all agree")
    which.add_argument("--limit", type=script.positive_int, metavar="N", help="the first N questions")
    parser.add_argument("--threshold", type=float, default=0.0, help="present from this similarity up (0.0)")
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="replicates per interval (1000)")
    parser.add_argument("--allow-missing", action="store_true", help="exit 0 although clips are missing")
    parser.add_argument("--analysis-root", type=Path, default=Path("analysis_outputs"))
    parser.add_argument("--dataset-root", type=Path, default=Path("dataset"))
    parser.add_argument("--output-dir", type=Path, default=Path("benchmark_outputs"))
    return parser


def tell(arguments: Namespace) -> int:
    failed = False
    every = [
        filtered(load_questions(subset, arguments.analysis_root, arguments.dataset_root), arguments)
        for subset in script.chosen(subsets(), arguments.subset)
    ]
    for questions in every:
        answers, missing = answer(questions, choose_scorer(arguments), arguments)
        result = evaluate_answers(
            questions,
            answers,
            threshold=arguments.threshold,
            replicates=arguments.bootstrap,
            rng=script.generator(arguments),
        )
        errors = sum(bool(a.error) for a in answers) - missing
        failed |= bool(errors) or bool(missing and not arguments.allow_missing)
        report = write(questions, result, missing, errors, arguments)
        script.show(report)
        if errors or missing:
            script.warn(
                f"{questions.subset.name}: {missing} clips missing, {errors} errors; predictions.csv says why",
                arguments,
            )
    return script.FAILED if failed else script.COMPLETE


def filtered(questions: Questions, arguments: Namespace) -> Questions:
    """The questions that the flags leave."""
    raters = max(arguments.min_raters, 3 if arguments.require_3_raters else 1)
    questions = questions.select(lambda t: t["n_raters"] >= raters, f"rated by fewer than {raters} people")
    if arguments.exclude_flagged:
        questions = questions.select(lambda t: ~t["flagged"], "flagged")
    if arguments.unanimous_only:
        questions = questions.select(lambda t: t["benchmark_bucket"].str.startswith("unanimous_"), "not unanimous")
    return questions.first(arguments.limit) if arguments.limit else questions


def choose_scorer(arguments: Namespace) -> Scorer:
    """What the flags ask to score with."""
    if arguments.endpoint:
        return EndpointScorer(
            arguments.endpoint,
            concurrency=arguments.concurrency,
            send_audio=not arguments.no_audio_send,
            timeout=arguments.timeout,
            retries=arguments.retries,
            token=os.environ.get(TOKEN_VARIABLE),
        )
    return score_sham


def answer(questions: Questions, scorer: Scorer, arguments: Namespace) -> tuple[list[Answer], int]:
    """An answer to every question, in order, and how many of them lack their clip.

    A clip that cannot be used is never sent to the scorer; its questions say why.
    """
    name = questions.subset.name
    paths = questions.table["audio_path"].unique()
    with ThreadPoolExecutor() as pool:
        verdicts = pool.map(lambda path: clip_fault(questions, path), paths)
        bar = script.progress(verdicts, arguments, total=len(paths), what=f"{name}: clips", unit="clip")
        faults = dict(zip(paths, bar, strict=True))
    answers = [Answer(None, faults[path]) for path in questions.table["audio_path"]]
    usable = [i for i, known in enumerate(answers) if not known.error]
    asked = [ask(questions, i) for i in usable]
    for i, found in script.progress(scorer(asked), arguments, total=len(asked), what=f"{name}: questions", unit="q"):
        answers[usable[i]] = found
    missing = {path for path, fault in faults.items() if fault.endswith(": is not there")}
    return answers, int(questions.table["audio_path"].isin(missing).sum())


def clip_fault(questions: Questions, path: str) -> str:
    """What is wrong with a clip; empty when nothing is."""
    try:
        check_audio(questions.dataset_root / path, questions.said_seconds(path))
    except AudioError as error:
        return str(error)
    return ""


def ask(questions: Questions, i: int) -> Question:
    """The i-th row as a scorer takes it."""
    path, prompt = questions.table.at[i, "audio_path"], questions.table.at[i, "prompt"]
    return Question(questions.dataset_root / path, path, sham_stem(path), prompt)


def write(questions: Questions, result: Evaluation, missing: int, errors: int, arguments: Namespace) -> str:
    """All files of a subset at once; returns the report."""
    folder = arguments.output_dir / questions.subset.name
    summary = summarise(questions, result, missing, errors, arguments)
    text = to_json(BenchmarkSummary, summary)
    report = render(
        "benchmark.md.j2", s=BenchmarkSummary.model_validate_json(text).model_dump(), slices=result.slices, bands=BANDS
    )
    tables = {"predictions": result.predictions} | {f"metrics_by_{key}": rows for key, rows in result.slices.items()}
    contents: dict[Path, str | bytes | None] = {folder / f"{name}.csv": to_csv(rows) for name, rows in tables.items()}
    write_together({**contents, folder / "summary.json": text, folder / "report.md": report})
    return report


def summarise(
    questions: Questions, result: Evaluation, missing: int, errors: int, arguments: Namespace
) -> dict[str, Any]:
    """summary.json: where the numbers came from, then the numbers, then what people do at the same task."""
    name, mode = questions.subset.name, "endpoint" if arguments.endpoint else "sham"
    analysis_path = arguments.analysis_root / name / "summary.json"
    people = read_summary(AnalysisSummary, analysis_path) if analysis_path.is_file() else None
    labels = labels_path(arguments.analysis_root, questions.subset)
    filters = {key: getattr(arguments, key) for key in FILTERS}
    excluded = dict(questions.excluded)
    return {
        **provenance(
            script=Path(__file__),
            argv=arguments.argv,
            seed=arguments.seed,
            inputs={labels: sum(excluded.values()) + len(questions.table)},
            parameters={"threshold": arguments.threshold, "bootstrap": arguments.bootstrap, **filters},
            exclusions=count_by_reason(excluded),
            signature=signature(
                suite=name,
                protocol="earmark",
                metric="balanced_accuracy",
                ties=people.parameters.get("ties", "unknown") if people else "unknown",
                ci=f"clip-bootstrap-{arguments.bootstrap}",
                seed=arguments.seed,
                data=data_hash([labels]),
                model=mode,
            ),
        ),
        "subset": name,
        "mode": mode,
        "endpoint": shown_url(arguments.endpoint) if arguments.endpoint else None,
        "threshold": arguments.threshold,
        "filters": filters,
        "missing_audio": missing,
        "evaluation_errors": errors,
        "items_tied_excluded": excluded["tied between present and absent"],
        **result.numbers,
        "human_ceiling": people.human_ceiling.model_dump() if people else None,
        "human_ceiling_with_prior": people.human_ceiling_with_prior.model_dump() if people else None,
    }


FILTERS = ("min_raters", "require_3_raters", "exclude_flagged", "unanimous_only", "limit")


if __name__ == "__main__":
    sys.exit(main())
