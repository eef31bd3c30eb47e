"""Coverage simulations: simulate many data sets and compare their confidence intervals with the true value.

A `Scenario` draws data sets of one size and kind. Over many of them, the width of the intervals should match the
sampling error of the estimate (`width`: mean width over 3.92 standard deviations of the estimate), and the intervals
should contain the true value in 95 % of cases (`coverage`). p-values are tested on data without a difference
(`rejection`: proportion below .05). Intervals that are too wide are faults too: they hide what a test set can show.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from earmark.metrics.estimate import Estimate

WIDTH = (0.9, 1.2)
COVERAGE = (0.92, 0.98)
REJECTION = (0.03, 0.07)

Drawn = Mapping[str, Estimate | float | None]  # estimates, and p-values under a true null hypothesis


@dataclass(frozen=True)
class Scenario:
    """Data sets of one size.

    Attributes
    ----------
    area, size : str
        Area of the library, and a description of the data sets.
    draw : callable
        Estimates and p-values of one data set, by name.
    truth : callable or None
        True values by name, from a very large data set. None: the mean over the data sets, for estimates that depend on
        the size of the test set.
    data_sets : int
    seed : int
    noted : frozenset of str
        Names below the size at which intervals are valid. They must carry a note; their intervals are not tested.
    untested : frozenset of str
        Names that are reported but not tested: known to be too wide, or examples of a fault.
    width : (float, float)
        Allowed width; with few degrees of freedom intervals are wider than 1.96 standard errors on either side.
    """

    area: str
    size: str
    draw: Callable[[np.random.Generator], Drawn]
    truth: Callable[[np.random.Generator], Mapping[str, float]] | None = None
    data_sets: int = 500
    seed: int = 0
    noted: frozenset[str] = frozenset()
    untested: frozenset[str] = frozenset()
    width: tuple[float, float] = WIDTH

    @property
    def name(self) -> str:
        """Name in tests and tables."""
        return f"{self.area}: {self.size}"


@dataclass(frozen=True)
class Result:
    """Results of a scenario for one estimate or p-value; NaN where not applicable.

    Attributes
    ----------
    name : str
    truth, mean, deviation : float
        True value; mean and standard deviation of the estimates.
    width : float
        Mean width of the intervals over 3.92 standard deviations of the estimates.
    coverage, above, below : float
        Proportion of intervals that contain the true value, or lie above or below it.
    rejection : float
        Proportion of p-values below .05.
    noted, without : float
        Proportion of data sets with a note; without an interval or p-value.
    tested : bool
    has_truth : bool
        False if the true value is the mean of the estimates.
    """

    name: str
    truth: float = np.nan
    mean: float = np.nan
    deviation: float = np.nan
    width: float = np.nan
    coverage: float = np.nan
    above: float = np.nan
    below: float = np.nan
    rejection: float = np.nan
    noted: float = 0.0
    without: float = 0.0
    tested: bool = True
    has_truth: bool = True


def simulate(scenario: Scenario, data_sets: int | None = None) -> list[Result]:
    """Run a scenario.

    Parameters
    ----------
    scenario : Scenario
    data_sets : int, optional
        Overrides the number of data sets.
    """
    rng = np.random.default_rng(scenario.seed)
    truth = dict(scenario.truth(rng)) if scenario.truth is not None else {}
    drawn = [scenario.draw(rng) for _ in range(data_sets or scenario.data_sets)]
    results = []
    for name in drawn[0]:
        values = [each[name] for each in drawn]
        tested = name not in scenario.noted | scenario.untested
        if any(isinstance(each, Estimate) for each in values):
            results.append(_of_estimates(name, values, truth.get(name), tested))
        else:
            p_values = np.array([each for each in values if each is not None], dtype=float)
            without = 1 - len(p_values) / len(values)
            rejection = float((p_values < 0.05).mean()) if len(p_values) else np.nan
            results.append(Result(name, rejection=rejection, without=without, tested=tested))
    return results


def _of_estimates(name: str, estimates: list[Any], truth: float | None, tested: bool) -> Result:
    values = np.array([each.value for each in estimates if each.value is not None])
    with_interval = [each for each in estimates if each.low is not None]
    if not with_interval:
        return Result(
            name, truth=np.nan if truth is None else truth, mean=float(values.mean()), without=1.0, tested=tested
        )
    low, high = np.array([(each.low, each.high) for each in with_interval]).reshape(-1, 2).T
    true = float(values.mean()) if truth is None else truth
    deviation = float(values.std(ddof=1))
    return Result(
        name,
        truth=true,
        mean=float(values.mean()),
        deviation=deviation,
        width=float((high - low).mean() / (2 * 1.96 * deviation)) if deviation else np.nan,
        coverage=float(((low <= true + 1e-12) & (true - 1e-12 <= high)).mean()),
        above=float((low > true + 1e-12).mean()),
        below=float((high < true - 1e-12).mean()),
        noted=float(np.mean([each.note is not None for each in estimates])),
        without=1 - len(with_interval) / len(estimates),
        tested=tested,
        has_truth=truth is not None,
    )


def faults(scenario: Scenario, results: list[Result]) -> list[str]:
    """List the violations: width, coverage and rejection of tested names, and missing notes of noted ones."""
    violations = []
    for each in results:
        if each.name in scenario.noted and each.noted + each.without < 0.9:
            violations.append(
                f"{each.name}: a note or no interval in only {100 * (each.noted + each.without):.0f} % of the data sets"
            )
        if not each.tested:
            continue
        for value, (low, high), label in (
            (each.width, scenario.width, "width"),
            (each.coverage, COVERAGE, "coverage"),
            (each.rejection, REJECTION, "rejection"),
        ):
            if np.isfinite(value) and not low <= value <= high:
                violations.append(f"{each.name}: {label} {value:.3f}, not {low} to {high}")
    return violations
