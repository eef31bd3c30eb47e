"""Evaluation lists of TidyVoice with their keys: metrics, and the rank among the teams of the challenge."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.cli import Invocation
from earmark.errors import EarmarkError, shown_path
from earmark.files.runs import Content
from earmark.metrics.detection import P_TARGET
from earmark.report.provenance import data_hash, input_records, parameters_hash, provenance
from earmark.report.render import render
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv
from earmark.report.tex import to_tex
from earmark.speaker.conditions import AttributeSources, condition_breakdown
from earmark.speaker.evaluation import evaluate
from earmark.speaker.operating_points import choose_operating_points
from earmark.speaker.options import EvaluationLists, TrialsOptions
from earmark.speaker.schema import ConditionBreakdown
from earmark.speaker.speakers import resolve_speakers
from earmark.speaker.tidyvoice.ranking import EvaluationResult, printable_ranking, ranked
from earmark.speaker.tidyvoice.schema import EvaluationListResult, EvaluationSummary
from earmark.speaker.tidyvoice.submission import check_submission, submitted_files
from earmark.speaker.trials import Trials

FloatArray = NDArray[np.float64]
EVALUATION_FILES = ("evaluation.json", "evaluation.md", "evaluation.tex", "ranking.csv")


def read_submission(path: Path, lists: Mapping[str, Trials]) -> dict[str, FloatArray]:
    """Read the scores of a submission.

    Parameters
    ----------
    path : Path
        ZIP with one file of scores per evaluation list.
    lists : mapping
        {A or U: its trials}, in the order of the scores.

    Returns
    -------
    dict
        {A or U: (n,) scores}.

    Raises
    ------
    EarmarkError
        With all violations of the format.
    """
    if violations := check_submission(path, {name: len(trials) for name, trials in lists.items()}):
        raise EarmarkError("\n  ".join([f"{shown_path(path)}: invalid submission:", *violations]))
    with zipfile.ZipFile(path) as archive:
        return {
            name: np.array(archive.read(file).split(), dtype=float)
            for name, file in submitted_files().items()
            if name in lists
        }


def evaluate_keyed(
    name: str,
    lists: Mapping[str, Trials],
    evaluation: EvaluationLists,
    attributes: Mapping[str, AttributeSources],
    options: TrialsOptions,
    invocation: Invocation,
    identity: str,
) -> tuple[str, dict[str, Content]]:
    """Evaluate the lists whose keys are known.

    Parameters
    ----------
    name : str
        Name of the system.
    lists : mapping
        {A or U: labelled trials with scores}.
    evaluation : EvaluationLists
        Files of the lists and keys.
    attributes : mapping
        {A or U: sources of the languages of its utterances}.
    options : TrialsOptions
        For statistics and speakers.
    invocation : Invocation
    identity : str
        Identity of the system, for the signature.

    Returns
    -------
    report : str
        Markdown.
    contents : dict
        {file: its content}, of EVALUATION_FILES.

    Raises
    ------
    EarmarkError
        If a list has no targets or no non-targets.
    """
    results = {}
    for which, trials in lists.items():
        try:
            speakers = resolve_speakers(trials, options.speakers)
            for note in speakers.notes:
                invocation.warn(f"eval {which}: {note}")
            results[which] = _evaluate_list(trials, attributes[which], speakers.names, options)
        except ValueError as error:
            raise EarmarkError(f"{shown_path(evaluation.keys[which])}: {error}") from error
    comparable = options.statistics.p_target == P_TARGET
    table = ranked(
        name,
        {
            which: EvaluationResult(
                float(result.metrics["eer"].value or 0.0),
                float(result.metrics["min_dcf"].value or 0.0) if comparable else np.nan,
            )
            for which, result in results.items()
        },
    )
    own = table[table["own"]].iloc[0]
    results = {
        which: result.model_copy(
            update={"rank": int(own[f"rank_{which.lower()}"]), "ranked": int(table[f"rank_{which.lower()}"].count())}
        )
        for which, result in results.items()
    }
    summary = _summary(name, results, lists, evaluation, options, invocation, identity)
    report, tables = render("evaluation.md.j2", s=summary, ranking=printable_ranking(table))
    return report, {
        "evaluation.json": to_json(summary),
        "evaluation.md": report,
        "evaluation.tex": to_tex(tables, f"tidyvoice evaluation {name}"),
        "ranking.csv": to_csv(table.drop(columns="own")),
    }


def _evaluate_list(
    trials: Trials, sources: AttributeSources, speakers: list[str] | None, options: TrialsOptions
) -> EvaluationListResult:
    statistics = options.statistics
    result = evaluate(trials, speakers, intervals=statistics.intervals, p_target=statistics.p_target)
    assert result.scored is not None
    language = sources.language(trials)
    by_condition: list[ConditionBreakdown] = []
    if language is not None and any(value is not None for value in language.values):
        by_condition.append(
            condition_breakdown(
                trials, language, speakers, statistics.p_target, intervals=statistics.intervals, overall=result
            )
        )
    counts = result.counts
    return EvaluationListResult(
        n_trials=counts.n_trials,
        n_target=counts.n_target,
        n_nontarget=counts.n_nontarget,
        n_speakers=counts.n_speakers,
        units=str(result.speakers),
        metrics=result.metrics,
        rank=0,
        ranked=0,
        operating_points=choose_operating_points(result.scored, statistics.far, statistics.p_target),
        by_condition=by_condition,
    )


def _summary(
    name: str,
    results: Mapping[str, EvaluationListResult],
    lists: Mapping[str, Trials],
    evaluation: EvaluationLists,
    options: TrialsOptions,
    invocation: Invocation,
    identity: str,
) -> EvaluationSummary:
    rows = {path: len(lists[which]) for which in lists for path in (evaluation.files[which], evaluation.keys[which])}
    rows |= {path: 0 for path in (options.speakers, options.languages, options.utterances) if path}
    inputs = input_records(rows)
    return EvaluationSummary.from_common(
        provenance(
            invocation,
            device="cpu",
            inputs=inputs,
            parameters=options.parameters,
            exclusions=[],
            signature=Signature.from_parts(
                suite="tidyvoice-evaluation",
                protocol="earmark",
                metric="eer",
                ci="speaker-dyadic" if options.statistics.intervals else "none",
                seed=invocation.seed,
                parameters=parameters_hash(options.parameters),
                data=data_hash(inputs),
                model=identity,
            ),
        ),
        model_name=name,
        lists=dict(results),
    )
