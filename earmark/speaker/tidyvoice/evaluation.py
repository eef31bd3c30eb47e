"""Evaluation of TidyVoice (speaker verification across languages): error rates by language condition.

Utterances are named `spk/lang/file.wav`; the language is read from the path.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.metrics import detection
from earmark.metrics.detection import Roc
from earmark.metrics.estimate import Estimate
from earmark.speaker.conditions import ALL, LANGUAGE, SAME
from earmark.speaker.evaluation import evaluate
from earmark.speaker.schema import LanguageBreakdown, LanguageCondition, PublishedBaseline, TrialGroup, TrialKind
from earmark.speaker.trials import Trials, language_from_path

BoolArray = NDArray[np.bool_]
METRICS = ("eer", "eer_interpolated", "min_dcf")  # eer_interpolated limits the interval of eer
language = language_from_path  # of an utterance `spk/lang/file.wav`


@cache
def tidyvoice_definition() -> dict[str, Any]:
    """Contents of tidyvoice.toml: `lists`, `groups`, `conditions`, `baseline` and further constants."""
    return tomllib.loads(files(__package__).joinpath("tidyvoice.toml").read_text(encoding="utf-8"))


def same_language(trials: Trials, languages: Sequence[str | None] | None = None) -> BoolArray | None:
    """Find the trials whose two utterances are in the same language.

    Parameters
    ----------
    trials : Trials
    languages : sequence of str or None, optional
        Language of each of `trials.names`; that of the paths by default.

    Returns
    -------
    (n,) bool or None
        None if the language of any utterance is unknown.
    """
    known = [language_from_path(str(name)) for name in trials.names] if languages is None else list(languages)
    if None in known:
        return None
    code, _ = pd.factorize(np.array(known, dtype=object))
    return np.asarray(code[trials.enrolment] == code[trials.test])


def language_groups(trials: Trials, languages: Sequence[str | None] | None = None) -> dict[str, BoolArray] | None:
    """Assign trials to the four groups {target, non-target} × {same, different language}.

    Parameters
    ----------
    trials : Trials
    languages : sequence of str or None, optional
        As in `same_language`.

    Returns
    -------
    dict or None
        Group to (n,) bool; None if the list has no labels or the language of any utterance is unknown.
    """
    same = same_language(trials, languages)
    if same is None or trials.labels is None:
        return None
    return {
        group["name"]: (trials.labels == group["target"]) & (same == group["same_language"])
        for group in tidyvoice_definition()["groups"]
    }


@dataclass(frozen=True)
class ErrorsByLanguage:
    """Error rates by language group and language condition.

    Attributes
    ----------
    groups : list of TrialGroup
        Miss or false alarm rate of each group at `threshold`.
    conditions : list of LanguageCondition
        Equal error rate and minDCF of each condition.
    threshold : float
        Threshold of the interpolated equal error rate of all trials; NaN if there is no breakdown.
    reason : str
        Why there is no breakdown; empty otherwise.
    """

    groups: list[TrialGroup]
    conditions: list[LanguageCondition]
    threshold: float
    reason: str = ""

    @property
    def summary(self) -> LanguageBreakdown:
        """The record for summary.json, with the published baseline."""
        baseline = PublishedBaseline.model_validate(tidyvoice_definition()["baseline"])
        return LanguageBreakdown(why=self.reason, groups=self.groups, conditions=self.conditions, baseline=baseline)


def language_breakdown(
    trials: Trials,
    speakers: list[str] | None = None,
    p_target: float = detection.P_TARGET,
    *,
    intervals: bool = True,
    languages: Sequence[str | None] | None = None,
    curve: Roc | None = None,
    kinds: Sequence[TrialKind] = (),
) -> ErrorsByLanguage:
    """Compute error rates by language group and language condition.

    Parameters
    ----------
    trials : Trials
        With finite scores.
    speakers : list of str or None
        Speaker of each utterance in `trials.names`, see `speaker.evaluation.evaluate`.
    p_target : float
        Target prior of minDCF, in (0, 1).
    intervals : bool
        Whether to compute 95 % confidence intervals.
    languages : sequence of str or None, optional
        As in `same_language`.
    curve : Roc, optional
        That of all trials, if it is known.
    kinds : sequence of TrialKind
        Results by kind of trials from `condition_breakdown`, if they are known; they are not computed again.

    Returns
    -------
    ErrorsByLanguage
        Empty, with a reason, if the list has no labels or the language of any utterance is unknown.

    Raises
    ------
    ValueError
        If there are no scores, no target trials or no non-target trials.
    """
    if trials.scores is None:
        raise ValueError("a breakdown by language needs scores")
    if trials.labels is None:
        return ErrorsByLanguage([], [], np.nan, "the list has no labels")
    same, groups = same_language(trials, languages), language_groups(trials, languages)
    if same is None or groups is None:
        reason = (
            "because paths are not spk/lang/file; use --languages FILE" if languages is None else "for some utterances"
        )
        return ErrorsByLanguage([], [], np.nan, f"languages are unknown, {reason}")
    curve = curve or detection.roc(trials.scores, trials.labels)
    threshold = detection.interpolated_equal_error_rate(curve).threshold
    known = {kind.targets: kind for kind in kinds if kind.targets == kind.nontargets}
    definition = tidyvoice_definition()
    return ErrorsByLanguage(
        [
            _group(row["name"], row["target"], trials.scores[groups[row["name"]]], threshold)
            for row in definition["groups"]
        ],
        [
            _condition_of_kind(row["name"], kind)
            if (kind := known.get(_kind_name(row["same_language"])))
            else _condition(
                row["name"], trials.take(np.isin(same, row["same_language"])), speakers, p_target, intervals
            )
            for row in definition["conditions"]
        ],
        threshold,
    )


def _group(name: str, is_target: bool, scores: NDArray[np.float64], threshold: float) -> TrialGroup:
    errors = scores < threshold if is_target else scores >= threshold
    return TrialGroup(
        name=name,
        n=len(scores),
        mean_score=float(scores.mean()) if len(scores) else None,
        error="miss rate" if is_target else "false alarm rate",
        rate=float(errors.mean()) if len(scores) else None,
    )


def _kind_name(same: Sequence[bool]) -> str:
    """Name of the kind of trials, with targets and non-targets alike, that a language condition holds."""
    return ALL if len(same) == len(SAME) else f"{SAME[same[0]]} {LANGUAGE}"


def _condition_of_kind(name: str, kind: TrialKind) -> LanguageCondition:
    return LanguageCondition(
        name=name, n_target=kind.n_target, n_nontarget=kind.n_nontarget, eer=kind.eer, min_dcf=kind.min_dcf
    )


def _condition(
    name: str, trials: Trials, speakers: list[str] | None, p_target: float, intervals: bool
) -> LanguageCondition:
    n_target = int(np.asarray(trials.labels).sum())
    n_nontarget = len(trials) - n_target
    if n_target and n_nontarget:
        metrics = evaluate(trials, speakers, intervals=intervals, p_target=p_target, metrics=METRICS).metrics
        eer, min_dcf = metrics["eer"], metrics["min_dcf"]
    else:
        absent_class = "target" if not n_target else "non-target"
        eer = min_dcf = Estimate(None, n=len(trials), why=f"no {absent_class} trials")
    return LanguageCondition(name=name, n_target=n_target, n_nontarget=n_nontarget, eer=eer, min_dcf=min_dcf)
