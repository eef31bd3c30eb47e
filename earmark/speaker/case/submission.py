"""Submissions to the CASE leaderboard: results.json, the model card, and validation of both."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earmark.errors import MissingError, shown_path
from earmark.metrics.estimate import Estimate
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.speaker.case.conditions import (
    AGGREGATES,
    PUBLISHED,
    aggregate_eers,
    case_definition,
    categories,
    condition_names,
)
from earmark.speaker.case.evaluation import ConditionResult
from earmark.speaker.case.schema import CaseConfig, CaseResults, SubmittedCondition

PLACEHOLDER = "TO FILL IN"
REQUIRED_VALUES = {"Single model": "yes", "VoxCeleb1-O test speakers in the training data": "no"}
CARD_SECTIONS = {
    "Architecture": ("Type", "Parameters", "Embedding dimension"),
    "Training": ("Data", "Augmentations", "Loss", "Training time"),
    "Preprocessing": ("Sample rate", "Features", "Duration"),
    "Reproducibility": ("Code", "Checkpoint"),
    "Rules": tuple(REQUIRED_VALUES),
}
SIXTEEN_KHZ = re.compile(r"\b16([.,]?000|[.,]0)?\s*k?\s*hz\b|\b16[.,]?000\b", re.IGNORECASE)
RELATIVE_TOLERANCE = 1e-6  # of aggregates against the rates of the conditions


def case_results(
    name: str, results: Sequence[ConditionResult], published: Mapping[str, Estimate], config: CaseConfig
) -> CaseResults:
    """Build the contents of results.json.

    Parameters
    ----------
    name : str
        Name of the model.
    results : sequence of ConditionResult
        All 24 conditions, evaluated with the published scoring.
    published : mapping
        Aggregates and category means under the published scoring, see `aggregate_estimates`.
    config : CaseConfig
    """
    values: dict[str, Any] = {key: estimate.value for key, estimate in published.items()}
    return CaseResults(
        model_name=name,
        **{key: values[key] for key in AGGREGATES},
        config=config,
        category_breakdown={category: values[category] for category in categories()},
        protocol_results={result.condition: _submitted_condition(result) for result in results},
    )


def _submitted_condition(result: ConditionResult) -> SubmittedCondition:
    scores, eer = result.by_scoring[PUBLISHED], result.eer(PUBLISHED)
    return SubmittedCondition(
        eer=float(eer.estimate.value or 0.0),
        eer_threshold=eer.threshold,
        min_dcf=float(scores.metrics["min_dcf"].value or 0.0),
        num_trials=scores.counts.n_trials,
        num_targets=scores.counts.n_target,
        num_impostors=scores.counts.n_nontarget,
    )


@dataclass(frozen=True)
class ModelCardDetails:
    """Entries of the model card that can be read from an encoder; empty if unknown.

    Attributes
    ----------
    type, parameters, dimension, sample_rate, checkpoint : str
        Architecture, number of parameters, embedding dimension, sample rate with unit; name, revision and hash of the
        weights.
    """

    type: str
    parameters: str
    dimension: str
    sample_rate: str
    checkpoint: str

    @classmethod
    def from_encoder(cls, encoder: Encoder | PrecomputedEmbeddings, dimension: int | None = None) -> "ModelCardDetails":
        """Read the details from an encoder's description and network.

        Parameters
        ----------
        encoder : Encoder or PrecomputedEmbeddings
        dimension : int, optional
            Dimension of the embeddings, which an encoder may not know if they were cached.
        """
        described = encoder.description
        parts = [described.get(key) for key in ("toolkit", "kind", "contract", "class")]
        count = encoder.n_parameters if isinstance(encoder, Encoder) else None
        rate = getattr(encoder, "sample_rate", None)
        return cls(
            type=", ".join(str(part) for part in parts if part),
            parameters=f"{count:,}" if count else "",
            dimension=str(dimension or encoder.dimension or ""),
            sample_rate=f"{rate / 1000:g} kHz" if rate else "",
            checkpoint=_checkpoint(described),
        )


def _checkpoint(described: Mapping[str, Any]) -> str:
    """Name, revision and hash of the weights; empty if there is no hash."""
    weights = described.get("weights_sha256") or described.get("weights")
    if not weights:
        return ""
    if isinstance(weights, Mapping):  # one hash for each network of a CASE encoder
        weights = ", ".join(f"{name} {digest}" for name, digest in weights.items())
    revision = described.get("revision")
    source = [str(described[key]) for key in ("model", "file") if key in described]
    return ", ".join([*source, *([f"revision {revision}"] if revision else []), f"weights sha256 {weights}"])


# --- validation ---------------------------------------------------------------------------------------------


def check_case_submission(folder: Path) -> list[str]:
    """Validate a folder with results.json and model_card.md.

    Returns
    -------
    list of str
        All violations of the leaderboard's rules, one per line to print; empty if the submission is valid.

    Raises
    ------
    MissingError
        If results.json does not exist.
    """
    card = folder / "model_card.md"
    return [*_check_results_file(folder / "results.json"), *check_card(card), *_check_signature(card)]


def _check_signature(card: Path) -> list[str]:
    """Compare the signature of the card with that of summary.json: a run does not replace an existing card."""
    try:
        written = read_card(card.read_text(encoding="utf-8", errors="replace"))["Evaluation results", "Signature"]
        current = json.loads((card.parent / "summary.json").read_text(encoding="utf-8"))["signature"]
    except (OSError, ValueError, KeyError, TypeError):  # a card of the user's own, or no summary to compare with
        return []
    if written == current:
        return []
    return [f"{card.name}: Evaluation results are those of another run; delete the card and repeat the run, or edit it"]


def _check_results_file(path: Path) -> list[str]:
    if not path.is_file():
        raise MissingError(
            f"{shown_path(path)} does not exist. Run `evaluate_speaker.py case` on all 24 conditions to create it."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        return [f"{path.name}: not valid JSON ({error})"]
    if not isinstance(content, dict):
        return [f"{path.name}: not a JSON object"]
    return [f"{path.name}: {violation}" for violation in _merge_conditions(check_results(content))]


def _merge_conditions(violations: Sequence[str]) -> Iterator[str]:
    """Report a violation that several conditions share once."""
    names_by_text: dict[str, list[str]] = {}
    for violation in violations:
        name, _, rest = violation.partition(": ")
        names_by_text.setdefault(rest if name in condition_names() else violation, []).append(name)
    for text, names in names_by_text.items():
        if names[0] not in condition_names():
            yield text
        elif len(names) == 1:
            yield f"{names[0]}: {text}"
        else:
            yield f"{len(names)} conditions ({names[0]}, …): {text}"


def check_results(content: Mapping[str, Any]) -> list[str]:
    """Validate the contents of results.json.

    Aggregates are compared with the conditions' rates only if all rates are valid.

    Parameters
    ----------
    content : mapping
        Parsed JSON.

    Returns
    -------
    list of str
        Violations; those of one condition start with "<condition>: ".

    Examples
    --------
    >>> check_results({"config": {"benchmark_dir": "case", "device": "cpu"}})
    ['model_name is empty', 'protocol_results is missing']
    """
    violations = [] if str(content.get("model_name") or "").strip() else ["model_name is empty"]
    config = content.get("config")
    if not isinstance(config, dict) or not {"benchmark_dir", "device"} <= set(config):
        violations.append("config has no benchmark_dir or no device")
    elif config.get("self_made_carriers"):
        violations.append("results are on simulated conditions, not on the official benchmark")
    results = content.get("protocol_results")
    if not isinstance(results, dict):
        return [*violations, "protocol_results is missing"]
    violations += [f"condition {name} is missing" for name in condition_names() if name not in results]
    violations += [f"{name} is not a CASE condition" for name in results if name not in condition_names()]
    for name in condition_names():
        if name in results:
            violations += [f"{name}: {violation}" for violation in _check_condition(results[name])]
    has_all_rates = set(results) == set(condition_names()) and all(
        isinstance(result, dict) and _is_rate(result.get("eer")) for result in results.values()
    )
    return [*violations, *_check_aggregates(content)] if has_all_rates else violations


def _check_condition(content: Any) -> Iterator[str]:
    if not isinstance(content, dict):
        yield "is not an object with eer, min_dcf and num_trials"
        return
    for key in ("eer", "min_dcf"):
        if not _is_rate(value := content.get(key)):
            yield f"{key} is {value!r}, not a number in [0, 1]"
    expected = case_definition()["trials"]
    if content.get("num_trials") != expected:
        yield f"num_trials is {content.get('num_trials')!r}, expected {expected:,}"


def _check_aggregates(content: Mapping[str, Any]) -> Iterator[str]:
    expected = aggregate_eers({name: result["eer"] for name, result in content["protocol_results"].items()})
    breakdown = content.get("category_breakdown")
    breakdown = breakdown if isinstance(breakdown, dict) else {}
    for name, value in expected.by_name.items():
        is_aggregate = name in AGGREGATES
        reported: Any = content.get(name) if is_aggregate else breakdown.get(name)
        label = name if is_aggregate else f"category {name}"
        if not _is_finite(reported):
            yield f"{label} is {reported!r}, not a finite number"
        elif abs(reported - value) > RELATIVE_TOLERANCE * max(1.0, abs(value)):
            yield f"{label} is {reported:g}; the rates of the conditions give {value:g}"


def _is_rate(value: Any) -> bool:
    return _is_finite(value) and 0 <= value <= 1


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(float(value))
    except OverflowError:  # an integer too large for a float
        return False


def check_card(path: Path) -> list[str]:
    """Validate a model card.

    Returns
    -------
    list of str
        Entries that are missing or not filled in, a sample rate other than 16 kHz, and values that the rules of the
        leaderboard do not allow.
    """
    if not path.is_file():
        return [f"{path.name}: does not exist"]
    values = read_card(path.read_text(encoding="utf-8", errors="replace"))
    violations = []
    for section, entries in CARD_SECTIONS.items():
        for entry in entries:
            value = values.get((section, entry), "")
            if not value or PLACEHOLDER in value:
                violations.append(f"{section} / {entry} is {'not filled in' if value else 'missing'}")
            elif entry in REQUIRED_VALUES and not value.lower().startswith(REQUIRED_VALUES[entry]):
                violations.append(f"{section} / {entry} is {value!r}; CASE requires {REQUIRED_VALUES[entry]!r}")
            elif entry == "Sample rate" and not SIXTEEN_KHZ.search(value):
                violations.append(f"{section} / {entry} is {value!r}; CASE requires 16 kHz")
    return [f"{path.name}: {violation}" for violation in violations]


def read_card(text: str) -> dict[tuple[str, str], str]:
    """Parse a model card with sections `## Name` and entries `- Entry: value`.

    Returns
    -------
    dict
        (section, entry) to value.

    Examples
    --------
    >>> read_card("# M\\n## Training\\n- Loss: AAM-Softmax\\n")
    {('Training', 'Loss'): 'AAM-Softmax'}
    """
    values, section = {}, ""
    for line in text.splitlines():
        if heading := re.match(r"##\s+(.+?)\s*$", line):
            section = heading[1]
        elif line[:2] in ("- ", "* ") and ":" in line:
            name, _, value = line[2:].partition(":")
            values[section, name.strip(" *")] = value.strip(" *")
    return values
