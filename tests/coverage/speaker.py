"""Simulated verification trials: speakers differ in how well they are recognised and how similar they are to others.

A target score is separation + quality of the speaker + noise. A non-target score is the sum of two speakers'
similarities + noise. Both are scaled to approximate log-likelihood ratios. Every pair of a speaker's utterances is a
target trial, with a fixed number of non-target trials for each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from earmark.metrics import detection
from earmark.metrics.detection import LabelledScores
from earmark.metrics.detection_intervals import ScoredTrials, with_intervals
from earmark.metrics.estimate import Estimate
from earmark.metrics.operating_points import RateAtThreshold, errors_at_false_alarm_rate, errors_at_threshold
from earmark.metrics.trial_groups import area_under_roc
from earmark.speaker.case.conditions import PUBLISHED, category, condition_names
from earmark.speaker.case.evaluation import ConditionResult, aggregate_estimates
from earmark.speaker.conditions import Attribute, condition_breakdown
from earmark.speaker.evaluation import SpeakerSource, VerificationResult, compare_systems, evaluate
from earmark.speaker.trials import Trials
from tests.coverage.framework import Scenario

LARGE, MANY = 6000, 4_000_000  # speakers and trials for true values
QUALITY, SIMILARITY = 0.5, 0.3
SYSTEM_NOISE = 0.5  # standard deviation of the noise that two systems do not share
METRICS = tuple(detection.METRICS)


@dataclass(frozen=True)
class Design:
    """Parameters of a trial list.

    Attributes
    ----------
    speakers, utterances : int
        Number of speakers, and of utterances per speaker.
    separation : float
        Difference between the mean scores of targets and non-targets.
    non_targets : int
        Non-target trials per target trial.
    quality, similarity : float
        Standard deviations of the speaker effects.
    """

    speakers: int
    utterances: int
    separation: float = 3.5
    non_targets: int = 1
    quality: float = QUALITY
    similarity: float = SIMILARITY

    def names(self, speakers: int) -> NDArray[np.object_]:
        """Names of all utterances."""
        return np.array([f"s{s:05d}/{u}" for s in range(speakers) for u in range(self.utterances)], dtype=object)

    def pairs(self, rng: np.random.Generator, speakers: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Utterances of either side: all pairs within speakers, then random pairs of two speakers."""
        one, other = np.triu_indices(self.utterances, 1)
        first = np.arange(speakers)[:, None] * self.utterances
        n = speakers * len(one) * self.non_targets
        a = rng.integers(0, speakers, n)
        b = (a + rng.integers(1, speakers, n)) % speakers
        u, v = rng.integers(0, self.utterances, (2, n))
        m = self.utterances
        return np.r_[(first + one).ravel(), a * m + u], np.r_[(first + other).ravel(), b * m + v]

    def draw(self, rng: np.random.Generator, speakers: int | None = None, systems: int = 1) -> list[Trials]:
        """The trial list scored by each system; difficulty is shared between systems except for SYSTEM_NOISE."""
        speakers = speakers or self.speakers
        enrolment, test = self.pairs(rng, speakers)
        first, second = enrolment // self.utterances, test // self.utterances
        labels, names = first == second, self.names(speakers)
        quality, similarity = rng.normal(size=(2, speakers))
        shared = rng.normal(size=len(labels)) * np.sqrt(1 - SYSTEM_NOISE**2)
        lists = []
        for _ in range(systems):
            q, k = (np.sqrt(0.75) * x + 0.5 * rng.normal(size=speakers) for x in (quality, similarity))
            mean = np.where(labels, self.separation + self.quality * q[first], self.similarity * (k[first] + k[second]))
            score = mean + shared + SYSTEM_NOISE * rng.normal(size=len(labels))
            lists.append(Trials(names, enrolment, test, labels, self.scaled(score)))
        return lists

    def scaled(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale scores to approximate log-likelihood ratios."""
        return 0.8 * max(self.separation, 0.5) * (score - self.separation / 2)


def speakers_from_paths(trials: Trials) -> list[str]:
    """Speaker of each utterance."""
    return [str(name).split("/")[0] for name in trials.names]


def estimates(
    rng: np.random.Generator, design: Design, speakers_known: bool = True
) -> Mapping[str, Estimate | float | None]:
    """All metrics of a list, and differences and p-values of two equally good systems."""
    results = [evaluate(t, speakers_from_paths(t) if speakers_known else None) for t in design.draw(rng, systems=2)]
    both = compare_systems(results[0], results[1])
    differences = {f"difference of {name}": each.estimate for name, each in both.items()}
    return results[0].metrics | differences | {f"p of {name}": each.p for name, each in both.items()}


def truth(rng: np.random.Generator, design: Design) -> dict[str, float]:
    """Values of independent trials from very many speakers; two systems do not differ."""
    labels = np.arange(MANY) < MANY // 2
    one, other, quality = rng.normal(size=(3, MANY))
    mean = np.where(labels, design.separation + design.quality * quality, design.similarity * (one + other))
    score = design.scaled(mean + rng.normal(size=MANY))
    curve = detection.roc(score, labels)
    rates = dict.fromkeys(("eer", "eer_interpolated", "eer_case"), detection.equal_error_rate(curve).rate)
    costs = {"min_dcf": detection.min_dcf(curve).rate, "act_dcf": detection.actual_dcf(score, labels).rate}
    bits = {"cllr": detection.cllr(score, labels), "min_cllr": detection.min_cllr(score, labels)}
    return rates | costs | bits | {f"difference of {name}": 0.0 for name in METRICS}


def scenario(size: str, design: Design, speakers_known: bool = True, **options) -> Scenario:
    """Speaker verification scenario."""
    draw = partial(estimates, design=design, speakers_known=speakers_known)
    return Scenario("Speaker verification", size, draw, partial(truth, design=design), **options)


def min_dcf_estimates(rng: np.random.Generator, design: Design) -> Mapping[str, Estimate | float | None]:
    """minDCF of lists with many false alarms at its threshold, and its difference between two systems."""
    results = [evaluate_metrics(t, ["min_dcf"]) for t in design.draw(rng, systems=2)]
    difference = compare_systems(results[0], results[1])["min_dcf"]
    return results[0].metrics | {"difference of min_dcf": difference.estimate, "p of min_dcf": difference.p}


# --- trials of languages --------------------------------------------------------------------------------------

LANGUAGES, TRIALS_PER_SPEAKER = 4, 40


def language_trials(rng: np.random.Generator, speakers: int) -> Trials:
    """Trials of two speakers, target for the same language; each speaker has an utterance in every language.

    Either kind of trial depends on two speakers, and pairs of speakers sound alike in every language.
    """
    names = np.array([f"s{s:05d}/{language}" for s in range(speakers) for language in range(LANGUAGES)], dtype=object)
    speaker, language = np.divmod(np.arange(len(names)), LANGUAGES)
    first, second = np.triu_indices(len(names), 1)
    two = np.flatnonzero(speaker[first] != speaker[second])
    chosen = rng.choice(two, min(len(two), speakers * TRIALS_PER_SPEAKER), replace=False)
    first, second = first[chosen], second[chosen]
    one, other = speaker[first], speaker[second]
    same = language[first] == language[second]
    quality, similarity = 0.4 * rng.normal(size=(2, speakers))
    alike = 0.3 * rng.normal(size=(speakers, speakers))
    mean = np.where(same, 2 + quality[one] + quality[other], similarity[one] + similarity[other])
    mean += alike[np.minimum(one, other), np.maximum(one, other)]
    return Trials(names, first, second, same, mean + rng.normal(size=len(same)))


def language_estimates(rng: np.random.Generator, speakers: int) -> Mapping[str, Estimate]:
    """Equal error rate of a list of language trials."""
    trials = language_trials(rng, speakers)
    return {"eer": evaluate(trials, speakers_from_paths(trials)).metrics["eer"]}


def language_truth(rng: np.random.Generator) -> dict[str, float]:
    """Equal error rate of very many independent trials."""
    same = np.arange(MANY) < MANY // 4
    score = 2 * same + np.sqrt(2 * 0.4**2 + 0.3**2 + 1) * rng.normal(size=MANY)
    return {"eer": detection.equal_error_rate(detection.roc(score, same)).rate}


# --- operating points and kinds of trials -------------------------------------------------------------------

FALSE_ALARM_RATES = (0.001, 0.01, 0.05)
RARE_ERRORS = 2  # expected, so that one list in seven has none
RARE_BOUND = "upper bound of the false alarm rate, two errors expected"


def scored_trials(trials: Trials, design: Design) -> ScoredTrials:
    """A drawn list with its speakers."""
    sides = trials.enrolment // design.utterances, trials.test // design.utterances
    return ScoredTrials.from_trials(LabelledScores.from_arrays(trials.scores, trials.labels), *sides, design.speakers)


def spreads(design: Design) -> tuple[float, float]:
    """Standard deviations of target and non-target scores, before scaling."""
    return np.sqrt(1 + design.quality**2), np.sqrt(1 + 2 * design.similarity**2)


def miss_rate_at(design: Design, rate: float) -> float:
    """Miss rate of very many speakers at a false alarm rate."""
    of_targets, of_others = spreads(design)
    return float(norm.cdf((norm.isf(rate) * of_others - design.separation) / of_targets))


def operating_points(rng: np.random.Generator, design: Design) -> Mapping[str, Estimate]:
    """Miss rates at false alarm rates and at fixed thresholds, and the false alarm rate of the chosen threshold.

    Its true value differs between lists; the estimate is shifted by that difference.
    """
    trials = scored_trials(design.draw(rng)[0], design)
    slope = 0.8 * max(design.separation, 0.5)
    of_others = spreads(design)[1]
    found = {}
    for rate in FALSE_ALARM_RATES:
        point = errors_at_false_alarm_rate(trials, rate)
        fixed = errors_at_threshold(trials, float(design.scaled(np.array(norm.isf(rate) * of_others))))
        true = norm.sf((point.threshold / slope + design.separation / 2) / of_others)
        false_alarms = point.false_alarms.estimate
        found |= {
            f"miss rate at {rate:g}": point.misses.estimate,
            f"miss rate at a fixed threshold, {rate:g}": fixed.misses.estimate,
            f"false alarm rate at a fixed threshold, {rate:g}": fixed.false_alarms.estimate,
            f"false alarm rate at the chosen threshold, {rate:g}": shifted(false_alarms, rate - true),
            f"upper bound of the false alarm rate, {rate:g}": up_to(fixed.false_alarms),
            f"upper bound of the miss rate, {rate:g}": up_to(fixed.misses),
        }
    rare = RARE_ERRORS / int((~trials.labels).sum())
    fixed = errors_at_threshold(trials, float(design.scaled(np.array(norm.isf(rare) * of_others))))
    return found | {RARE_BOUND: up_to(fixed.false_alarms)}


def up_to(rate: RateAtThreshold) -> Estimate:
    """An upper bound as an interval from 0."""
    return replace(rate.estimate, low=0.0, high=rate.upper_bound)


def shifted(estimate: Estimate, by: float) -> Estimate:
    """An estimate and its interval moved."""
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    return replace(estimate, value=estimate.value + by, low=estimate.low + by, high=estimate.high + by)


def true_operating_points(rng: np.random.Generator, design: Design) -> dict[str, float]:
    """Rates of very many speakers."""
    truth = {}
    for rate in FALSE_ALARM_RATES:
        truth |= dict.fromkeys(
            (f"miss rate at {rate:g}", f"miss rate at a fixed threshold, {rate:g}"), miss_rate_at(design, rate)
        )
        truth |= {f"false alarm rate at {which} threshold, {rate:g}": rate for which in ("a fixed", "the chosen")}
        truth |= {
            f"upper bound of the false alarm rate, {rate:g}": rate,
            f"upper bound of the miss rate, {rate:g}": miss_rate_at(design, rate),
        }
    n_targets = design.speakers * design.utterances * (design.utterances - 1) // 2
    return truth | {RARE_BOUND: RARE_ERRORS / (n_targets * design.non_targets)}


def kinds_of_trials(rng: np.random.Generator, design: Design) -> Mapping[str, Estimate]:
    """Rates by an attribute that half of the utterances of every speaker have; targets that differ score lower."""
    trials = design.draw(rng)[0]
    value = np.arange(len(trials.names)) % 2
    same = value[trials.enrolment] == value[trials.test]
    trials = trials.with_scores(np.asarray(trials.scores) + SHIFT * same)
    attribute = Attribute("register", "", ["read" if each else "free" for each in value])
    breakdown = condition_breakdown(trials, attribute, speakers_from_paths(trials), detection.P_TARGET)
    assert breakdown.dependence is not None and breakdown.equalised_eer is not None
    scored = scored_trials(trials, design)
    by_attribute = replace(scored, scores=same.astype(float))
    rates = {f"EER, {row.targets} / {row.nontargets}": row.eer for row in breakdown.kinds[1:]}
    return rates | {
        "count-equalised EER": breakdown.equalised_eer,
        "dependence": breakdown.dependence,
        "area under the ROC curve of the scores": area_under_roc(scored).estimate,
        "area under the ROC curve of the attribute": area_under_roc(by_attribute).estimate,
    }


def true_kinds(rng: np.random.Generator, design: Design) -> dict[str, float]:
    """Rates of very many speakers."""
    many = Design(**{**vars(design), "speakers": LARGE})
    return {name: float(each.value or 0.0) for name, each in kinds_of_trials(rng, many).items()}


SHIFT = 0.8

# --- CASE ---------------------------------------------------------------------------------------------------

SEVERITY = {"clean": 0.0, "codec": 0.15, "mic": 0.2, "noise": 0.4, "reverb": 0.5, "playback": 0.7}


def case_aggregates(rng: np.random.Generator, design: Design) -> Mapping[str, Estimate]:
    """CASE aggregates of 24 lists with the same speakers; harder categories have less separation."""
    state = rng.bit_generator.random_raw()
    results = []
    for number, condition in enumerate(condition_names()):
        harder = Design(**{**vars(design), "separation": design.separation - SEVERITY[category(condition)]})
        trials = with_same_speakers(harder, np.random.default_rng(state), np.random.default_rng((state, number)))
        evaluation = error_rate_only(trials)
        results.append(ConditionResult(condition, trials, 0, 0, 0, {PUBLISHED: evaluation}))
    return aggregate_estimates(results, PUBLISHED)


def with_same_speakers(design: Design, of_speakers: np.random.Generator, of_trials: np.random.Generator) -> Trials:
    """Draw a list with separate generators for speakers and trials."""
    enrolment, test = design.pairs(of_trials, design.speakers)
    first, second = enrolment // design.utterances, test // design.utterances
    labels = first == second
    quality, similarity = of_speakers.normal(size=(2, design.speakers))
    mean = np.where(
        labels,
        design.separation + design.quality * quality[first],
        design.similarity * (similarity[first] + similarity[second]),
    )
    return Trials(design.names(design.speakers), enrolment, test, labels, mean + of_trials.normal(size=len(labels)))


def error_rate_only(trials: Trials) -> VerificationResult:
    """Evaluate the equal error rate only, which suffices for aggregates."""
    return evaluate_metrics(trials, ["eer_case"])


def evaluate_metrics(trials: Trials, metrics: Iterable[str]) -> VerificationResult:
    """Evaluate a list with selected metrics."""
    names = speakers_from_paths(trials)
    column = {name: number for number, name in enumerate(sorted(set(names)))}
    speaker = np.array([column[name] for name in names])
    sides = speaker[trials.enrolment], speaker[trials.test]
    scored = ScoredTrials.from_trials(LabelledScores.from_arrays(trials.scores, trials.labels), *sides, len(column))
    results = with_intervals(scored, detection.evaluate(scored, names=metrics), detection.P_TARGET)
    return VerificationResult(results, SpeakerSource.SPEAKERS, trials, names)


def case_truth(rng: np.random.Generator, design: Design) -> dict[str, float]:
    """Aggregates of very many speakers."""
    many = Design(**{**vars(design), "speakers": LARGE})
    results = [case_aggregates(rng, many) for _ in range(2)]
    return {name: float(np.mean([each[name].value for each in results])) for name in results[0]}


OF_MIN_DCF = frozenset({"difference of min_dcf", "p of min_dcf"})
DIFFERENCES = frozenset(f"{kind}{name}" for kind in ("difference of ", "p of ") for name in METRICS)
# Too few false alarms: intervals carry a note or are somewhat too wide.
COSTS = frozenset(f"{kind}{name}" for kind in ("", "difference of ", "p of ") for name in ("min_dcf", "act_dcf"))
# Their true value is a bound that the hull and the optimal recalibration only approach; costs have few errors of one
# kind.
AT_CHANCE = COSTS | DIFFERENCES | {"eer", "min_cllr", "cllr"}
# Few false alarms, and one-sided bounds, which have no width and a nominal coverage of .95 or more.
OF_RARE = (
    frozenset({RARE_BOUND})
    | frozenset(
        f"upper bound of the {which} rate, {rate:g}" for rate in FALSE_ALARM_RATES for which in ("miss", "false alarm")
    )
    | frozenset(
        f"{name}{rate:g}"
        for rate in FALSE_ALARM_RATES[:1]
        for name in (
            "miss rate at ",
            "false alarm rate at a fixed threshold, ",
            "false alarm rate at the chosen threshold, ",
        )
    )
)
SCENARIOS = [
    Scenario(
        "Speaker verification",
        "language trials, 60 speakers",
        partial(language_estimates, speakers=60),
        language_truth,
    ),
    scenario(
        "60 speakers of 6 utterances, 20 non-targets per target", Design(60, 6, non_targets=20), untested=OF_MIN_DCF
    ),
    scenario("200 speakers of 6 utterances, 1 non-target per target", Design(200, 6), untested=COSTS),
    scenario("300 speakers of 2 utterances, 10 non-targets per target", Design(300, 2, non_targets=10), untested=COSTS),
    scenario(
        "40 speakers of 6 utterances, EER .02",
        Design(40, 6, separation=4.6, non_targets=10),
        noted=frozenset(METRICS),
        untested=DIFFERENCES,
    ),
    scenario("60 speakers of 6 utterances, uninformative scores", Design(60, 6, separation=0.0), untested=AT_CHANCE),
    scenario(
        "60 speakers of 6 utterances, speakers unknown",
        Design(60, 6, non_targets=20),
        speakers_known=False,
        untested=OF_MIN_DCF,
    ),
    Scenario(
        "Speaker verification",
        "120 speakers of 6 utterances, 40 non-targets per target",
        partial(min_dcf_estimates, design=Design(120, 6, non_targets=40)),
        partial(truth, design=Design(120, 6, non_targets=40)),
    ),
    scenario(
        "20 speakers of 6 utterances", Design(20, 6), data_sets=250, noted=frozenset(METRICS), untested=DIFFERENCES
    ),
    *(
        Scenario(
            "Operating points",
            size,
            partial(operating_points, design=design),
            partial(true_operating_points, design=design),
            untested=untested,
        )
        for size, design, untested in (
            ("60 speakers of 6 utterances, 20 non-targets per target", Design(60, 6, non_targets=20), OF_RARE),
            ("200 speakers of 6 utterances, 1 non-target per target", Design(200, 6), OF_RARE),
            ("100 speakers of 10 utterances, 10 non-targets per target", Design(100, 10, non_targets=10), OF_RARE),
        )
    ),
    Scenario(
        "Kinds of trials",
        "80 speakers of 6 utterances, 5 non-targets per target",
        partial(kinds_of_trials, design=Design(80, 6, non_targets=5)),
        partial(true_kinds, design=Design(80, 6, non_targets=5)),
    ),
    Scenario(
        "CASE",
        "60 speakers of 6 utterances",
        partial(case_aggregates, design=Design(60, 6, separation=3.9)),
        partial(case_truth, design=Design(60, 6, separation=3.9)),
    ),
]
