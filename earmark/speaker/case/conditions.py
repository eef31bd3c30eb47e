"""The CASE benchmark: how far speaker verification suffers from the carrier, from clean audio to playback.

Twenty-four conditions in six categories, each a protocol with a trial list of its own (case.toml); every aggregate
follows from the protocols' equal error rates. Nothing here needs more than Python, so that flags can name conditions.
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
PUBLISHED, STRICT = "published", "strict"  # how the protocols' figures are computed
AGGREGATES = ("clean_eer", "absolute_eer", "degradation_factor", "case_score_v1")


@cache
def case_definition() -> dict[str, Any]:
    """case.toml: `hub`, `trials` of each protocol, `categories`, `sets`, `protocols`, and the `published` models."""
    return tomllib.loads(files(__package__).joinpath("case.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Condition:
    """What the simulation passes clean speech through, in the order of the fields; None or False for nothing."""

    name: str
    category: str
    codec: str | None = None
    loudspeaker: str | None = None
    room: bool = False
    microphone: str | None = None
    snr: float | None = None


@cache
def conditions() -> dict[str, Condition]:
    """The 24 conditions by the names of their protocols, clean first.

    >>> len(conditions()), conditions()["clean_codec_gsm"].codec
    (24, 'gsm')
    """
    return {name: Condition(name, **fields) for name, fields in case_definition()["protocols"].items()}


def condition_names() -> list[str]:
    """The names of the 24 protocols, clean first.

    >>> len(condition_names()), condition_names()[0]
    (24, 'clean_clean')
    """
    return list(conditions())


def categories() -> list[str]:
    """The six categories of conditions, clean first."""
    return list(case_definition()["categories"])


def recording_sets() -> list[str]:
    """The two sets of recordings behind the official benchmark."""
    return list(case_definition()["sets"])


def category(protocol: str) -> str:
    """The category of a protocol.

    >>> category("clean_codec_opus_6k")
    'codec'
    """
    return conditions()[protocol].category


@dataclass(frozen=True)
class Aggregates:
    """What CASE makes of its protocols. Rates are shares in [0, 1]; lower is better everywhere."""

    clean_eer: float
    absolute_eer: float
    degradation_factor: float
    case_score_v1: float
    category_breakdown: dict[str, float]

    @classmethod
    def of_categories(cls, means: Mapping[str, float]) -> "Aggregates":
        """From the mean rate of each category; the ratio is infinite where clean speech has no errors."""
        clean = means["clean"]
        ratios = [mean if name == "clean" else mean / clean if clean else inf for name, mean in means.items()]
        absolute = _mean(means.values())
        return cls(clean, absolute, absolute - clean, _mean(ratios), dict(means))

    @property
    def by_name(self) -> dict[str, float]:
        """The four aggregates, then the categories' means."""
        return {name: getattr(self, name) for name in AGGREGATES} | self.category_breakdown


def aggregate_eers(eers: Mapping[str, float]) -> Aggregates:
    """The aggregates of {protocol: equal error rate}, of all 24 protocols.

    absolute_eer: mean of the six categories' means. degradation_factor: that less clean_eer. case_score_v1: mean
    over categories of mean / clean_eer, where the clean category enters with its raw rate, as in the published
    tool; the ratio flatters models that are poor on clean audio. A clean_eer of 0 has no such ratio: infinity.
    ValueError names protocols that are missing, unknown or not finite.
    """
    wrong = [f"{p} is missing" for p in condition_names() if p not in eers]
    wrong += [f"{p} is no protocol of CASE" for p in eers if p not in condition_names()]
    wrong += [f"{p} has the equal error rate {e}" for p, e in eers.items() if not 0 <= e <= 1]
    if wrong:
        raise ValueError("; ".join(wrong))
    rates = {name: [float(eers[p]) for p in condition_names() if category(p) == name] for name in categories()}
    return Aggregates.of_categories({name: _mean(of_category) for name, of_category in rates.items()})


def _mean(values: Collection[float]) -> float:
    return reduce(add, values) / len(values)  # from left to right, as the published figures are rounded
