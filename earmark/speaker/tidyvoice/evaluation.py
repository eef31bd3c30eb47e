"""TidyVoice: speaker verification across languages. Who suffers when the language changes.

Utterances are `spk/lang/file.wav`, so a path tells the language.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.metrics import detection
from earmark.metrics.estimate import Estimate
from earmark.speaker.evaluation import evaluate
from earmark.speaker.schema import LanguageBreakdown, LanguageCondition, PublishedBaseline, TrialGroup
from earmark.speaker.trials import Trials

BoolArray = NDArray[np.bool_]


@cache
def tidyvoice_definition() -> dict[str, Any]:
    """The published facts: `lists`, `groups`, `conditions`, `baseline`."""
    return tomllib.loads(files(__package__).joinpath("tidyvoice.toml").read_text(encoding="utf-8"))


def language(name: str) -> str | None:
    """The language of an utterance, the folder that holds it; None where the path is no `spk/lang/file`.

    >>> language("id0001/de/a.wav"), language("a.wav")
    ('de', None)
    """
    parts = name.split("/")
    return parts[-2] if len(parts) >= 3 and parts[-2] else None


def same_language(trials: Trials) -> BoolArray | None:
    """(n,) whether both sides of a trial are in one language; None where some path tells no language."""
    languages = [language(str(name)) for name in trials.names]
    if None in languages:
        return None
    code, _ = pd.factorize(np.array(languages, dtype=object))
    return np.asarray(code[trials.enrolment] == code[trials.test])


def language_groups(trials: Trials) -> dict[str, BoolArray] | None:
    """{group: (n,) the trials in it} of {target, non-target} × {same, different language}.

    None without labels, or where some path tells no language.
    """
    same = same_language(trials)
    if same is None or trials.labels is None:
        return None
    return {
        group["name"]: (trials.labels == group["target"]) & (same == group["same_language"])
        for group in tidyvoice_definition()["groups"]
    }


@dataclass(frozen=True)
class ErrorsByLanguage:
    """Error rates by language. threshold: where the EER of all trials is met. why: there are no rows, in words."""

    groups: list[TrialGroup]
    conditions: list[LanguageCondition]
    threshold: float
    why: str = ""

    @property
    def summary(self) -> LanguageBreakdown:
        """As a summary holds it, beside the published baseline."""
        baseline = PublishedBaseline.model_validate(tidyvoice_definition()["baseline"])
        return LanguageBreakdown(why=self.why, groups=self.groups, conditions=self.conditions, baseline=baseline)


def language_breakdown(
    trials: Trials,
    speakers: list[str] | None = None,
    p_target: float = detection.P_TARGET,
    *,
    intervals: bool = True,
) -> ErrorsByLanguage:
    """Which kind of trial suffers: four groups at one threshold, and the error rates within each condition.

    trials: scored; finite scores. speakers, intervals: as in `speaker.evaluation.evaluate`. Lists without labels,
    or without `spk/lang/file` paths, have no breakdown: no rows, and the reason. ValueError without scores, or where
    the whole list lacks targets or non-targets.
    """
    if trials.scores is None:
        raise ValueError("a breakdown needs scores")
    if trials.labels is None:
        return ErrorsByLanguage([], [], np.nan, "the list has no labels")
    same, members = same_language(trials), language_groups(trials)
    if same is None or members is None:
        return ErrorsByLanguage([], [], np.nan, "the paths are no spk/lang/file, so languages are not known")
    threshold = detection.interpolated_equal_error_rate(detection.roc(trials.scores, trials.labels)).threshold
    return ErrorsByLanguage(
        [
            _group(row["name"], row["target"], trials.scores[members[row["name"]]], threshold)
            for row in tidyvoice_definition()["groups"]
        ],
        [
            _condition(row["name"], trials.take(np.isin(same, row["same_language"])), speakers, p_target, intervals)
            for row in tidyvoice_definition()["conditions"]
        ],
        threshold,
    )


def _group(name: str, is_target: bool, scores: NDArray[np.float64], threshold: float) -> TrialGroup:
    wrong = scores < threshold if is_target else scores >= threshold
    return TrialGroup(
        name=name,
        n=len(scores),
        mean_score=float(scores.mean()) if len(scores) else None,
        error="miss rate" if is_target else "false alarm rate",
        rate=float(wrong.mean()) if len(scores) else None,
    )


def _condition(
    name: str, trials: Trials, speakers: list[str] | None, p_target: float, intervals: bool
) -> LanguageCondition:
    n_target = int(np.asarray(trials.labels).sum())
    n_nontarget = len(trials) - n_target
    if n_target and n_nontarget:
        found = evaluate(trials, speakers, intervals=intervals, p_target=p_target).metrics
        eer, min_dcf = found["eer"], found["min_dcf"]
    else:
        lacking = "target" if not n_target else "non-target"
        eer = min_dcf = Estimate(None, n=len(trials), why=f"no {lacking} trials")
    return LanguageCondition(name=name, n_target=n_target, n_nontarget=n_nontarget, eer=eer, min_dcf=min_dcf)
