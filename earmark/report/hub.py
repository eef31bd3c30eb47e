"""Results in the formats of model hubs: `.eval_results/*.yaml` of the Hugging Face Hub and an MTEB result file.

eval_results.yaml  content of a file below `.eval_results/` of a model repository, see
                   https://huggingface.co/docs/hub/eval-results
mteb_results.json  layout of the result files of MTEB, with the version of Earmark instead of that of MTEB
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from earmark import __version__
from earmark.cli import DatasetId
from earmark.metrics.estimate import Estimate
from earmark.report.schema import SummaryBase
from earmark.report.signature import Signature

EVAL_RESULTS, MTEB_RESULTS = "eval_results.yaml", "mteb_results.json"
HUB_FILES = (EVAL_RESULTS, MTEB_RESULTS)
WHOLE_DATASET = "default"  # MTEB's name of the only subset of a dataset
# Characters that JSON allows in a string but YAML does not, or reads as line breaks.
NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class HubResult:
    """A headline number of a run.

    Attributes
    ----------
    metric : str
        Name within its task, such as balanced_accuracy.
    estimate : Estimate
        As in summary.json.
    signature : Signature
    """

    metric: str
    estimate: Estimate
    signature: Signature


@dataclass(frozen=True)
class HubTask:
    """The headline numbers of a task.

    Attributes
    ----------
    name : str
        Begins the task_id of each result.
    results : sequence of HubResult
        The first one is the main score.
    subset : str
        Subset of the dataset that the task uses.
    """

    name: str
    results: Sequence[HubResult]
    subset: str = WHOLE_DATASET


def hub_files(dataset: DatasetId | None, suite: str, tasks: Sequence[HubTask], summary: SummaryBase) -> dict[str, str]:
    """Create the files for model hubs.

    Parameters
    ----------
    dataset : DatasetId or None
        Dataset that the run used; without it, there are no files.
    suite : str
        Name of the evaluation.
    tasks : sequence of HubTask
    summary : SummaryBase
        Supplies the date and the signature of the run.

    Returns
    -------
    dict
        {file name: content}; empty if `dataset` is None.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    if dataset is None:
        return {}
    return {
        EVAL_RESULTS: eval_results(dataset, tasks, summary.created_utc[:10]),
        MTEB_RESULTS: mteb_results(dataset, suite, tasks, summary.signature),
    }


def eval_results(dataset: DatasetId, tasks: Sequence[HubTask], date: str) -> str:
    """Create the content of eval_results.yaml: one entry for each number.

    The hub requires a value. Undefined numbers are left out and listed in comments with the reason.

    Parameters
    ----------
    dataset : DatasetId
    tasks : sequence of HubTask
    date : str
        Day of the run in UTC, as YYYY-MM-DD.

    Raises
    ------
    ValueError
        If a number is not finite.

    Examples
    --------
    >>> result = HubResult("eer", Estimate(0.125, 0.1, 0.15, n=800), Signature.from_parts().replaced(earmark="1.0"))
    >>> print(eval_results(DatasetId("org/name"), [HubTask("trials", [result])], "2026-01-31"))
    - dataset:
        id: "org/name"
        task_id: "trials.eer"
      value: 0.125
      date: "2026-01-31"
      notes: "n = 800; 95 % confidence interval 0.1 to 0.15; earmark:1.0"
    <BLANKLINE>
    """
    entries, left_out = list[dict[str, Any]](), list[str]()
    for task in tasks:
        for result in task.results:
            task_id = f"{slug(task.name)}.{slug(result.metric)}"
            if result.estimate.value is None:
                left_out.append(f"# left out: {_quoted(f'{task_id}: {_reason(result.estimate)}')}")
                continue
            where = {"id": dataset.name, "task_id": task_id}
            entries.append(
                {
                    "dataset": where | ({"revision": dataset.revision} if dataset.revision else {}),
                    "value": result.estimate.value,
                    "date": date,
                    "notes": _notes(result),
                }
            )
    return "".join(f"{line}\n" for line in [*left_out, *([to_yaml(entries)] if entries else ["[]"])])


def mteb_results(dataset: DatasetId, suite: str, tasks: Sequence[HubTask], signature: Signature) -> str:
    """Create the content of mteb_results.json.

    Undefined numbers have no keys; `notes` of their task has the reasons.

    Parameters
    ----------
    dataset : DatasetId
    suite : str
        Name of the evaluation, written as `task_name`.
    tasks : sequence of HubTask
        One element of `scores` each.
    signature : Signature
        Of the run.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    content = {
        "task_name": suite,
        "dataset_revision": dataset.revision,
        "mteb_version": None,
        "earmark_version": __version__,
        "signature": str(signature),
        "scores": {"test": [_mteb_scores(task) for task in tasks]},
        "evaluation_time": None,
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _mteb_scores(task: HubTask) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for result in task.results:
        estimate, name = result.estimate, slug(result.metric)
        numbers = {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        scores |= {key: value for key, value in numbers.items() if value is not None}
        if estimate.value is not None:
            scores[f"{name}_n"] = estimate.n
    first = [result.estimate for result in task.results[:1] if result.estimate.value is not None]
    main = {key: value for estimate in first for key, value in (("main_score", estimate.value), ("n", estimate.n))}
    notes = [
        f"{slug(result.metric)}: {_reason(result.estimate)}"
        for result in task.results
        if result.estimate.value is None or result.estimate.why
    ]
    return {**main, "hf_subset": task.subset, "languages": [], **scores, **({"notes": notes} if notes else {})}


def slug(name: str) -> str:
    """Turn a name into a lower-case identifier.

    Examples
    --------
    >>> slug("emolia-emo"), slug("Speech Commands (v2)")
    ('emolia-emo', 'speech-commands-v2')
    """
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "task"


def _reason(estimate: Estimate) -> str:
    return estimate.why or "undefined"


def _notes(result: HubResult) -> str:
    estimate = result.estimate
    interval = "no confidence interval"
    if estimate.low is not None and estimate.high is not None:
        interval = f"95 % confidence interval {estimate.low:.6g} to {estimate.high:.6g}"
    caveats = [caveat for caveat in (estimate.why, estimate.note) if caveat]
    return "; ".join([f"n = {estimate.n:,}", interval, *caveats, str(result.signature)])


# --- YAML ---------------------------------------------------------------------------------------------------


def to_yaml(entries: Sequence[Mapping[str, Any]]) -> str:
    """Format a list of mappings as YAML; strings are quoted as in JSON.

    Parameters
    ----------
    entries : sequence of mappings
        Values are strings, finite numbers, or mappings of them; keys are words.

    Raises
    ------
    ValueError
        If a number is not finite.

    Examples
    --------
    >>> print(to_yaml([{"dataset": {"id": "a/b"}, "value": 0.00001}]))
    - dataset:
        id: "a/b"
      value: 1.0e-05
    """
    lines = []
    for entry in entries:
        first, *rest = _mapping_lines(entry)
        lines += [f"- {first}", *(f"  {line}" for line in rest)]
    return "\n".join(lines)


def _mapping_lines(mapping: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            lines += [f"{key}:", *(f"  {line}" for line in _mapping_lines(value))]
        else:
            lines.append(f"{key}: {_quoted(value) if isinstance(value, str) else _number(value)}")
    return lines


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _number(value: float) -> str:
    """YAML 1.1 reads 1e-05 as a string, but 1.0e-05 as a number."""
    if not isfinite(value):
        raise ValueError(f"{value} cannot be written to {EVAL_RESULTS}")
    mantissa, e, exponent = repr(value).partition("e")
    return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else repr(value)
