"""The CASE benchmark (carrier-agnostic speaker verification): conditions, categories and aggregate scores.

CASE has 24 conditions in six categories. Each condition has its own trial list; every aggregate is computed from the
conditions' equal error rates. All definitions are in case.toml. This module imports the standard library only, so
that command-line parsers can list the conditions quickly.
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from importlib.resources import files
from math import inf
from operator import add
from typing import Any

CLEAN = "clean_clean"
PUBLISHED, STRICT = "published", "strict"  # the two scorings
AGGREGATES = ("clean_eer", "absolute_eer", "degradation_factor", "case_score_v1")


@cache
def case_definition() -> dict[str, Any]:
    """Contents of case.toml.

    Returns
    -------
    dict
        Keys: `hub` (repository of the data), `trials` (trials per condition), `categories`, `sets` (sets of
        recordings), `protocols` (the conditions) and `published` (published results).
    """
    return tomllib.loads(files(__package__).joinpath("case.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Condition:
    """A condition and the processing that simulates it.

    The processing steps are applied in the order of the fields.

    Attributes
    ----------
    name, category : str
    codec, loudspeaker, microphone : str or None
        Names in simulate/simulation.toml; None skips the step.
    room : bool
        Whether reverberation is added.
    snr : float or None
        Signal-to-noise ratio in dB; None adds no noise.
    """

    name: str
    category: str
    codec: str | None = None
    loudspeaker: str | None = None
    room: bool = False
    microphone: str | None = None
    snr: float | None = None


@cache
def conditions() -> dict[str, Condition]:
    """All conditions by name, clean first: the 24 of the benchmark, then further ones that can be simulated.

    Examples
    --------
    >>> conditions()["clean_codec_gsm"].codec
    'gsm'
    """
    definition = case_definition()
    tables = {**definition["protocols"], **definition["further_conditions"]}
    return {name: Condition(name, **fields) for name, fields in tables.items()}


def condition_names() -> list[str]:
    """The names of the benchmark's 24 conditions, clean first; aggregates and submissions use these alone.

    Examples
    --------
    >>> len(condition_names()), condition_names()[0]
    (24, 'clean_clean')
    """
    return list(case_definition()["protocols"])


def categories() -> list[str]:
    """The six categories of conditions, clean first."""
    return list(case_definition()["categories"])


def recording_sets() -> list[str]:
    """The two sets of recordings of the official benchmark."""
    return list(case_definition()["sets"])


def category(condition: str) -> str:
    """The category of a condition.

    Examples
    --------
    >>> category("clean_codec_opus_6k")
    'codec'
    """
    return conditions()[condition].category


@dataclass(frozen=True)
class Aggregates:
    """Aggregate scores of CASE; lower is better for all of them.

    Attributes
    ----------
    clean_eer : float
        Equal error rate of clean_clean, in [0, 1].
    absolute_eer : float
        Mean over the six categories of their mean equal error rate, in [0, 1].
    degradation_factor : float
        absolute_eer − clean_eer.
    case_score_v1 : float
        Mean over the categories of mean / clean_eer. As in the published tool, the clean category enters with its
        equal error rate instead of a ratio. The score favours models with a high clean_eer.
    category_breakdown : dict
        Category to mean equal error rate, in [0, 1].
    """

    clean_eer: float
    absolute_eer: float
    degradation_factor: float
    case_score_v1: float
    category_breakdown: dict[str, float]

    @classmethod
    def from_category_means(cls, means: Mapping[str, float]) -> "Aggregates":
        """Compute the aggregates from the mean equal error rate of each category.

        case_score_v1 is infinite if the clean rate is 0.
        """
        clean = means["clean"]
        ratios = [mean if name == "clean" else mean / clean if clean else inf for name, mean in means.items()]
        absolute = _mean(means.values())
        return cls(clean, absolute, absolute - clean, _mean(ratios), dict(means))

    @property
    def by_name(self) -> dict[str, float]:
        """The four aggregates, then the means of the categories."""
        return {name: getattr(self, name) for name in AGGREGATES} | self.category_breakdown


def aggregate_eers(eers: Mapping[str, float]) -> Aggregates:
    """Compute the aggregate scores of CASE.

    Parameters
    ----------
    eers : mapping
        Condition to equal error rate in [0, 1], for all 24 conditions.

    Returns
    -------
    Aggregates
        case_score_v1 is infinite if the equal error rate of clean_clean is 0.

    Raises
    ------
    ValueError
        If a condition is missing or unknown, or a rate is not in [0, 1].

    Examples
    --------
    >>> scores = aggregate_eers({name: 0.01 if name == "clean_clean" else 0.03 for name in condition_names()})
    >>> round(scores.absolute_eer, 4), round(scores.degradation_factor, 4)
    (0.0267, 0.0167)
    """
    problems = [f"{name} is missing" for name in condition_names() if name not in eers]
    problems += [f"{name} is not a CASE condition" for name in eers if name not in condition_names()]
    problems += [f"{name}: equal error rate {eer} is not in [0, 1]" for name, eer in eers.items() if not 0 <= eer <= 1]
    if problems:
        raise ValueError("; ".join(problems))
    rates = {name: [float(eers[c]) for c in condition_names() if category(c) == name] for name in categories()}
    return Aggregates.from_category_means({name: _mean(category_rates) for name, category_rates in rates.items()})


def _mean(values: Collection[float]) -> float:
    return reduce(add, values) / len(values)  # summed left to right, which reproduces the published rounding
