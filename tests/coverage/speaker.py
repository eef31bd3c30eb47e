"""Verification trials: speakers differ in how well they are recognised, and in how alike others they are.

A target score is separation + quality of the speaker + noise, a non-target score the sum of two speakers' likeness +
noise; both are then scaled to be about log-likelihood ratios. Every pair of a speaker's utterances is a target trial,
and there are so many non-target trials for each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from earmark.metrics import detection
from earmark.metrics.detection import LabelledScores
from earmark.metrics.detection_intervals import ScoredTrials, with_intervals
from earmark.metrics.estimate import Estimate
from earmark.speaker.case.conditions import PUBLISHED, category, condition_names
from earmark.speaker.case.evaluation import ConditionResult, aggregate_estimates
from earmark.speaker.evaluation import SpeakerSource, TrialCounts, VerificationResult, compare_systems, evaluate
from earmark.speaker.trials import Trials
from tests.coverage.framework import Scenario

LARGE, MANY = 6000, 4_000_000  # speakers, and trials, whose values stand for the truth
QUALITY, LIKENESS = 0.5, 0.3
SYSTEM = 0.5  # standard deviation of what only one of two systems hears
METRICS = tuple(detection.METRICS)


@dataclass(frozen=True)
class Design:
    """A list. others: non-target trials for each target trial."""

    speakers: int
    utterances: int
    separation: float = 3.5
    others: int = 1
    quality: float = QUALITY
    likeness: float = LIKENESS

    def names(self, speakers: int) -> NDArray[np.object_]:
        """Every utterance."""
        return np.array([f"s{s:05d}/{u}" for s in range(speakers) for u in range(self.utterances)], dtype=object)

    def pairs(self, rng: np.random.Generator, speakers: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Utterances of either side: every pair of each speaker's, then pairs of two speakers."""
        one, other = np.triu_indices(self.utterances, 1)
        first = np.arange(speakers)[:, None] * self.utterances
        n = speakers * len(one) * self.others
        a = rng.integers(0, speakers, n)
        b = (a + rng.integers(1, speakers, n)) % speakers
        u, v = rng.integers(0, self.utterances, (2, n))
        m = self.utterances
        return np.r_[(first + one).ravel(), a * m + u], np.r_[(first + other).ravel(), b * m + v]

    def draw(self, rng: np.random.Generator, speakers: int | None = None, systems: int = 1) -> list[Trials]:
        """The list as each of the systems scores it. What is hard is hard for all, but for SYSTEM."""
        speakers = speakers or self.speakers
        enrolment, test = self.pairs(rng, speakers)
        first, second = enrolment // self.utterances, test // self.utterances
        labels, names = first == second, self.names(speakers)
        quality, likeness = rng.normal(size=(2, speakers))
        shared = rng.normal(size=len(labels)) * np.sqrt(1 - SYSTEM**2)
        lists = []
        for _ in range(systems):
            q, k = (np.sqrt(0.75) * x + 0.5 * rng.normal(size=speakers) for x in (quality, likeness))
            at = np.where(labels, self.separation + self.quality * q[first], self.likeness * (k[first] + k[second]))
            score = at + shared + SYSTEM * rng.normal(size=len(labels))
            lists.append(Trials(names, enrolment, test, labels, self.scaled(score)))
        return lists

    def scaled(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """About log-likelihood ratios."""
        return 0.8 * max(self.separation, 0.5) * (score - self.separation / 2)


def speakers_from_paths(trials: Trials) -> list[str]:
    """The speaker of each utterance."""
    return [str(name).split("/")[0] for name in trials.names]


def estimates(rng: np.random.Generator, design: Design, known: bool = True) -> Mapping[str, Estimate | float | None]:
    """Every metric of a list, and the p-values of two systems that are equally good."""
    found = [evaluate(t, speakers_from_paths(t) if known else None) for t in design.draw(rng, systems=2)]
    both = compare_systems(found[0], found[1])
    differences = {f"difference of {name}": one.estimate for name, one in both.items()}
    return found[0].metrics | differences | {f"p of {name}": one.p for name, one in both.items()}


def truth(rng: np.random.Generator, design: Design) -> dict[str, float]:
    """What independent trials of very many speakers give; two systems do not differ."""
    labels = np.arange(MANY) < MANY // 2
    one, other, quality = rng.normal(size=(3, MANY))
    at = np.where(labels, design.separation + design.quality * quality, design.likeness * (one + other))
    score = design.scaled(at + rng.normal(size=MANY))
    curve = detection.roc(score, labels)
    rates = dict.fromkeys(("eer", "eer_interpolated", "eer_case"), detection.equal_error_rate(curve).rate)
    costs = {"min_dcf": detection.min_dcf(curve).rate, "act_dcf": detection.actual_dcf(score, labels).rate}
    bits = {"cllr": detection.cllr(score, labels), "min_cllr": detection.min_cllr(score, labels)}
    return rates | costs | bits | {f"difference of {name}": 0.0 for name in METRICS}


def scenario(size: str, design: Design, known: bool = True, **further) -> Scenario:
    """Lists of a design."""
    draw = partial(estimates, design=design, known=known)
    return Scenario("Speaker verification", size, draw, partial(truth, design=design), **further)


def lowest_costs(rng: np.random.Generator, design: Design) -> Mapping[str, Estimate | float | None]:
    """minDCF alone, of lists with many false alarms at its threshold, and of two systems."""
    found = [only(t, ["min_dcf"]) for t in design.draw(rng, systems=2)]
    difference = compare_systems(found[0], found[1])["min_dcf"]
    return found[0].metrics | {"difference of min_dcf": difference.estimate, "p of min_dcf": difference.p}


# --- CASE ---------------------------------------------------------------------------------------------------

SEVERITY = {"clean": 0.0, "codec": 0.15, "mic": 0.2, "noise": 0.4, "reverb": 0.5, "playback": 0.7}


def case_aggregates(rng: np.random.Generator, design: Design) -> Mapping[str, Estimate]:
    """The aggregates of 24 lists on which speakers have the same quality, less separated by the harder categories."""
    state = rng.bit_generator.random_raw()
    results = []
    for number, condition in enumerate(condition_names()):
        harder = Design(**{**vars(design), "separation": design.separation - SEVERITY[category(condition)]})
        trials = with_same_speakers(harder, np.random.default_rng(state), np.random.default_rng((state, number)))
        found = error_rate_alone(trials)
        results.append(ConditionResult(condition, trials, 0, 0, 0, {PUBLISHED: found}))
    return aggregate_estimates(results, PUBLISHED)


def with_same_speakers(design: Design, of_speakers: np.random.Generator, of_trials: np.random.Generator) -> Trials:
    """A list whose speakers are drawn by one generator and whose trials by another."""
    enrolment, test = design.pairs(of_trials, design.speakers)
    first, second = enrolment // design.utterances, test // design.utterances
    labels = first == second
    quality, likeness = of_speakers.normal(size=(2, design.speakers))
    at = np.where(
        labels,
        design.separation + design.quality * quality[first],
        design.likeness * (likeness[first] + likeness[second]),
    )
    return Trials(design.names(design.speakers), enrolment, test, labels, at + of_trials.normal(size=len(labels)))


def error_rate_alone(trials: Trials) -> VerificationResult:
    """The equal error rate of a list, which is all that aggregates need."""
    return only(trials, ["eer_case"])


def only(trials: Trials, metrics: Iterable[str]) -> VerificationResult:
    """The evaluation of a list by some metrics."""
    names = speakers_from_paths(trials)
    column = {name: number for number, name in enumerate(sorted(set(names)))}
    place = np.array([column[name] for name in names])
    sides = place[trials.enrolment], place[trials.test]
    scored = ScoredTrials.from_trials(LabelledScores.from_arrays(trials.scores, trials.labels), *sides, len(column))
    found = with_intervals(scored, detection.evaluate(scored, names=metrics), detection.P_TARGET)
    return VerificationResult(found, TrialCounts.from_trials(trials, names), SpeakerSource.SPEAKERS)


def case_truth(rng: np.random.Generator, design: Design) -> dict[str, float]:
    """The aggregates of very many speakers."""
    many = Design(**{**vars(design), "speakers": LARGE})
    found = [case_aggregates(rng, many) for _ in range(2)]
    return {name: float(np.mean([each[name].value for each in found])) for name in found[0]}


OF_MIN_DCF = frozenset({"difference of min_dcf", "p of min_dcf"})
DIFFERENCES = frozenset(f"{kind}{name}" for kind in ("difference of ", "p of ") for name in METRICS)
# Too few false alarms: noted, and where they are not, somewhat too wide.
COSTS = frozenset(f"{kind}{name}" for kind in ("", "difference of ", "p of ") for name in ("min_dcf", "act_dcf"))
# Their truth is a bound that the hull and the best recalibration only approach; costs have few errors of one kind.
AT_CHANCE = COSTS | DIFFERENCES | {"eer", "min_cllr", "cllr"}
SCENARIOS = [
    scenario("60 speakers of 6 utterances, 20 non-targets a target", Design(60, 6, others=20), loose=OF_MIN_DCF),
    scenario("200 speakers of 6 utterances, a non-target a target", Design(200, 6), loose=COSTS),
    scenario("300 speakers of 2 utterances, 10 non-targets a target", Design(300, 2, others=10), loose=COSTS),
    scenario(
        "40 speakers of 6 utterances, EER .02",
        Design(40, 6, separation=4.6, others=10),
        noted=frozenset(METRICS),
        loose=DIFFERENCES,
    ),
    scenario(
        "60 speakers of 6 utterances, a scorer that knows nothing", Design(60, 6, separation=0.0), loose=AT_CHANCE
    ),
    scenario("60 speakers of 6 utterances, not known", Design(60, 6, others=20), known=False, loose=OF_MIN_DCF),
    Scenario(
        "Speaker verification",
        "120 speakers of 6 utterances, 40 non-targets a target",
        partial(lowest_costs, design=Design(120, 6, others=40)),
        partial(truth, design=Design(120, 6, others=40)),
    ),
    scenario("20 speakers of 6 utterances", Design(20, 6), data_sets=250, noted=frozenset(METRICS), loose=DIFFERENCES),
    Scenario(
        "CASE",
        "60 speakers of 6 utterances",
        partial(case_aggregates, design=Design(60, 6, separation=3.9)),
        partial(case_truth, design=Design(60, 6, separation=3.9)),
    ),
]
