"""What the CASE leaderboard takes: results.json and a model card, and the rules both have to keep."""

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
from earmark.speaker.case.schema import CaseConfig, CaseResults, ProtocolResult

OPEN = "TO FILL IN"
RULES = {"Single model": "yes", "VoxCeleb1-O test speakers in the training data": "no"}
CARD = {
    "Architecture": ("Type", "Parameters", "Embedding dimension"),
    "Training": ("Data", "Augmentations", "Loss", "Training time"),
    "Preprocessing": ("Sample rate", "Features", "Duration"),
    "Reproducibility": ("Code", "Checkpoint"),
    "Rules": tuple(RULES),
}
SIXTEEN = re.compile(r"\b16([.,]?000|[.,]0)?\s*k?\s*hz\b|\b16[.,]?000\b", re.IGNORECASE)
TOLERANCE = 1e-6


def case_results(
    name: str, outcomes: Sequence[ConditionResult], published: Mapping[str, Estimate], config: CaseConfig
) -> CaseResults:
    """The contents of results.json. published: aggregates and categories' means by the published definitions."""
    values: dict[str, Any] = {key: estimate.value for key, estimate in published.items()}
    return CaseResults(
        model_name=name,
        **{key: values[key] for key in AGGREGATES},
        config=config,
        category_breakdown={category: values[category] for category in categories()},
        protocol_results={outcome.protocol: _protocol(outcome) for outcome in outcomes},
    )


def _protocol(outcome: ConditionResult) -> ProtocolResult:
    found, eer = outcome.found[PUBLISHED], outcome.eer(PUBLISHED)
    return ProtocolResult(
        eer=float(eer.estimate.value or 0.0),
        eer_threshold=eer.threshold,
        min_dcf=float(found.metrics["min_dcf"].value or 0.0),
        num_trials=found.counts.n_trials,
        num_targets=found.counts.n_target,
        num_impostors=found.counts.n_nontarget,
    )


@dataclass(frozen=True)
class Known:
    """What a model card can say without being told; empty where the program does not know."""

    type: str
    parameters: str
    dimension: str
    sample_rate: str
    checkpoint: str

    @classmethod
    def of(cls, encoder: Encoder | PrecomputedEmbeddings) -> "Known":
        """From what an encoder says of itself."""
        described = encoder.description
        parts = [described.get(key) for key in ("kind", "contract", "class")]
        parameters = getattr(getattr(encoder, "network", None), "parameters", None)
        count = sum(parameter.numel() for parameter in parameters()) if parameters else 0
        rate = getattr(encoder, "sample_rate", None)
        weights = described.get("weights_sha256")
        return cls(
            type=", ".join(str(part) for part in parts if part),
            parameters=f"{count:,}" if count else "",
            dimension=str(encoder.dimension or ""),
            sample_rate=f"{rate / 1000:g} kHz" if rate else "",
            checkpoint=f"weights sha256 {weights}" if weights else "",
        )


# --- the rules ----------------------------------------------------------------------------------------------


def check(folder: Path) -> list[str]:
    """Every rule that a folder with results.json and model_card.md breaks, in words; none where it can be submitted."""
    return [*_read_and_check(folder / "results.json"), *check_card(folder / "model_card.md")]


def _read_and_check(path: Path) -> list[str]:
    if not path.is_file():
        raise MissingError(f"{shown_path(path)} is not there; `evaluate_speaker.py case` writes it for all protocols.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        return [f"{path.name}: is no JSON ({error})"]
    if not isinstance(content, dict):
        return [f"{path.name}: is no JSON object"]
    return [f"{path.name}: {problem}" for problem in _together(check_results(content))]


def _together(problems: Sequence[str]) -> Iterator[str]:
    """Problems of several protocols that are the same, in one line."""
    same: dict[str, list[str]] = {}
    for problem in problems:
        name, _, rest = problem.partition(": ")
        same.setdefault(rest if name in condition_names() else problem, []).append(name)
    for text, names in same.items():
        many = f"{len(names)} protocols, from {names[0]}: {text}"
        yield many if len(names) > 1 else f"{names[0]}: {text}" if names[0] in condition_names() else text


def check_results(content: Mapping[str, Any]) -> list[str]:
    """What is wrong with the contents of results.json."""
    problems = [] if str(content.get("model_name") or "").strip() else ["model_name is empty"]
    config = content.get("config")
    if not isinstance(config, dict) or not {"benchmark_dir", "device"} <= set(config):
        problems.append("config lacks benchmark_dir or device")
    elif config.get("self_made_carriers"):
        problems.append("the carriers are self-made; only CASE's own benchmark counts")
    by_protocol = content.get("protocol_results")
    if not isinstance(by_protocol, dict):
        return [*problems, "protocol_results is missing"]
    problems += [f"protocol {name} is missing" for name in condition_names() if name not in by_protocol]
    problems += [f"{name} is no protocol of CASE" for name in by_protocol if name not in condition_names()]
    for name in condition_names():
        if name in by_protocol:
            problems += [f"{name}: {problem}" for problem in _check_protocol(by_protocol[name])]
    return (
        problems if any("protocol" in p or "eer" in p for p in problems) else [*problems, *_check_aggregates(content)]
    )


def _check_protocol(content: Any) -> Iterator[str]:
    if not isinstance(content, dict):
        yield "is no table with eer, min_dcf, num_trials"
        return
    for key in ("eer", "min_dcf"):
        value: Any = content.get(key)
        if not _finite(value) or not 0 <= value <= 1:
            yield f"{key} is {value!r}, not a number from 0 to 1"
    expected = case_definition()["trials"]
    if content.get("num_trials") != expected:
        yield f"num_trials is {content.get('num_trials')!r}; CASE's list has {expected:,}"


def _check_aggregates(content: Mapping[str, Any]) -> Iterator[str]:
    follows = aggregate_eers({name: row["eer"] for name, row in content["protocol_results"].items()})
    breakdown = content.get("category_breakdown")
    breakdown = breakdown if isinstance(breakdown, dict) else {}
    for name, value in follows.by_name.items():
        is_aggregate = name in AGGREGATES
        given: Any = content.get(name) if is_aggregate else breakdown.get(name)
        label = name if is_aggregate else f"category {name}"
        if not _finite(given):
            yield f"{label} is {given!r}, not a finite number"
        elif abs(given - value) > TOLERANCE * max(1.0, abs(value)):
            yield f"{label} is {given:g}, but {value:g} follows from the protocols"


def _finite(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(float(value))
    except OverflowError:  # a whole number of hundreds of digits
        return False


def check_card(path: Path) -> list[str]:
    """What a model card lacks: entries that are missing or still open, another rate than 16 kHz, rules not stated."""
    if not path.is_file():
        return [f"{path.name} is missing"]
    given = read_card(path.read_text(encoding="utf-8", errors="replace"))
    problems = []
    for section, entries in CARD.items():
        for entry in entries:
            value = given.get((section, entry), "")
            if not value or OPEN in value:
                problems.append(f"{section} / {entry} is {'still open' if value else 'missing'}")
            elif entry in RULES and not value.lower().startswith(RULES[entry]):
                problems.append(f"{section} / {entry} is {value!r}, where the rules ask for {RULES[entry]!r}")
            elif entry == "Sample rate" and not SIXTEEN.search(value):
                problems.append(f"{section} / {entry} is {value!r}; CASE asks for 16 kHz input")
    return [f"{path.name}: {problem}" for problem in problems]


def read_card(text: str) -> dict[tuple[str, str], str]:
    """{(section, entry): value} of a card whose sections are `## Name` and whose entries are `- Entry: value`.

    >>> read_card("# M\\n## Training\\n- Loss: AAM-Softmax\\n")
    {('Training', 'Loss'): 'AAM-Softmax'}
    """
    found, section = {}, ""
    for line in text.splitlines():
        if heading := re.match(r"##\s+(.+?)\s*$", line):
            section = heading[1]
        elif line[:2] in ("- ", "* ") and ":" in line:
            name, _, value = line[2:].partition(":")
            found[section, name.strip(" *")] = value.strip(" *")
    return found
