"""How often intervals hold the truth: simulated data sets, the interval of each, and what a very large one gives.

A `Scenario` draws data sets of one size and kind. Over many of them, an estimate's intervals are as wide as they should
be (`width`: their mean over 3.92 standard deviations of the estimate), and hold the truth as often as they say
(`covered`). Data are drawn so that there is no difference to find where a scenario has p-values (`rejected`: the share
below .05). Both sides are held: an interval that is too wide hides what a test set could have shown.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from earmark.metrics.estimate import Estimate

WIDTH = (0.9, 1.2)
COVERED = (0.92, 0.98)
REJECTED = (0.03, 0.07)

Drawn = Mapping[str, Estimate | float | None]  # an estimate, or the p-value of a true null hypothesis


@dataclass(frozen=True)
class Scenario:
    """Data sets of one size.

    draw: a data set's estimates and p-values by name. truth: {estimate: the value of a very large data set}; None takes
    the mean over the data sets, for estimates whose meaning hangs on the size of the test set. noted: names below the
    size at which their intervals hold, which must say so in a note; they are in the table without being held.
    loose: names that are reported and not held, since they are known to be too wide, or are there to show a fault.
    """

    area: str
    size: str
    draw: Callable[[np.random.Generator], Drawn]
    truth: Callable[[np.random.Generator], Mapping[str, float]] | None = None
    data_sets: int = 500
    seed: int = 0
    noted: frozenset[str] = frozenset()
    loose: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """What a test and a row of the table call it."""
        return f"{self.area}: {self.size}"


@dataclass(frozen=True)
class Result:
    """What the data sets of a scenario gave for one estimate or p-value; shares, and NaN where it has none.

    truth: what a very large data set gives. bias: mean less truth. above, below: intervals that lie wholly so.
    """

    name: str
    truth: float = np.nan
    mean: float = np.nan
    deviation: float = np.nan
    width: float = np.nan
    covered: float = np.nan
    above: float = np.nan
    below: float = np.nan
    rejected: float = np.nan
    noted: float = 0.0
    without: float = 0.0  # data sets in which it had no interval or no p-value
    held: bool = True
    has_truth: bool = True  # of its own, not the mean of the estimates


def simulate(scenario: Scenario, data_sets: int | None = None) -> list[Result]:
    """Draw the data sets and count. data_sets: fewer or more than the scenario asks for."""
    rng = np.random.default_rng(scenario.seed)
    truth = dict(scenario.truth(rng)) if scenario.truth is not None else {}
    drawn = [scenario.draw(rng) for _ in range(data_sets or scenario.data_sets)]
    results = []
    for name in drawn[0]:
        found = [each[name] for each in drawn]
        held = name not in scenario.noted | scenario.loose
        if any(isinstance(each, Estimate) for each in found):
            results.append(_of_estimates(name, found, truth.get(name), held))
        else:
            known = np.array([each for each in found if each is not None], dtype=float)
            without = 1 - len(known) / len(found)
            rejected = float((known < 0.05).mean()) if len(known) else np.nan
            results.append(Result(name, rejected=rejected, without=without, held=held))
    return results


def _of_estimates(name: str, found: list[Any], truth: float | None, held: bool) -> Result:
    values = np.array([each.value for each in found if each.value is not None])
    with_interval = [each for each in found if each.low is not None]
    if not with_interval:
        return Result(name, truth=np.nan if truth is None else truth, mean=float(values.mean()), without=1.0, held=held)
    low, high = np.array([(each.low, each.high) for each in with_interval]).reshape(-1, 2).T
    true = float(values.mean()) if truth is None else truth
    deviation = float(values.std(ddof=1))
    return Result(
        name,
        truth=true,
        mean=float(values.mean()),
        deviation=deviation,
        width=float((high - low).mean() / (2 * 1.96 * deviation)) if deviation else np.nan,
        covered=float(((low <= true + 1e-12) & (true - 1e-12 <= high)).mean()),
        above=float((low > true + 1e-12).mean()),
        below=float((high < true - 1e-12).mean()),
        noted=float(np.mean([each.note is not None for each in found])),
        without=1 - len(with_interval) / len(found),
        held=held,
        has_truth=truth is not None,
    )


def faults(scenario: Scenario, results: list[Result]) -> list[str]:
    """What does not hold: widths, coverage and rates of rejection of what is held, notes of what is not."""
    found = []
    for one in results:
        if one.name in scenario.noted and one.noted + one.without < 0.9:
            found.append(f"{one.name}: noted or without an interval in {one.noted + one.without:.0%} of the data sets")
        if not one.held:
            continue
        for value, (low, high), what in (
            (one.width, WIDTH, "width"),
            (one.covered, COVERED, "covered"),
            (one.rejected, REJECTED, "rejected"),
        ):
            if np.isfinite(value) and not low <= value <= high:
                found.append(f"{one.name}: {what} {value:.3f}, not {low} to {high}")
    return found
