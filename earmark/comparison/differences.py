"""From values of several systems to rows of a table: differences, adjusted p-values, ties, detectable differences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from earmark.comparison.schema import ComparisonRow
from earmark.metrics.bootstrap import Units, estimate_from_replicates, mcnemar_exact, paired_difference, standard_error
from earmark.metrics.comparison import holm, minimum_detectable_difference
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import SHARE, Range


@dataclass(frozen=True)
class Compared:
    """Two systems on one metric.

    Attributes
    ----------
    difference : first less second, with its interval.
    p : two-sided; None if there is none.
    standard_error : of the difference; NaN if unknown.
    """

    difference: Estimate
    p: float | None
    standard_error: float


@dataclass(frozen=True)
class MetricOfSystems:
    """One metric of every system on the same items, and how any two of them are compared.

    Attributes
    ----------
    metric, slice, value_of_slice : as in `ComparisonRow`.
    values : of each system, None if undefined.
    compare : gives the comparison of two systems by their places.
    n : items.
    lower_is_better : whether the best system has the lowest value.
    estimates : the values with their intervals, if they are known.
    correct : (n,) for each system whether an item is correct, if the items are independent; for McNemar's test.
    panel, line : in tables of systems side by side and in figures against training steps: what is measured, and with
        which track and recipe. Without a panel, such tables leave the metric out.
    """

    metric: str
    values: Sequence[float | None]
    compare: Callable[[int, int], Compared]
    n: int
    slice: str = ""
    value_of_slice: str = ""
    lower_is_better: bool = False
    estimates: Sequence[Estimate] = ()
    correct: Sequence[np.ndarray] = ()
    panel: str = ""
    line: str = ""

    @classmethod
    def from_replicates(
        cls,
        metric: str,
        values: Sequence[float],
        replicates: Sequence[np.ndarray],
        *,
        n: int,
        units: Units,
        why: str = "",
        value_range: Range = SHARE,
        **place: str | bool,
    ) -> "MetricOfSystems":
        """From values and bootstrap replicates of the same draws, (replicates,) for each system.

        value_range: possible values of the metric, for the interval of each system's own value.
        """

        def compare(first: int, second: int) -> Compared:
            if not (np.isfinite(values[first]) and np.isfinite(values[second])):
                return Compared(Estimate(None, n=n, why=why or "undefined for one of the systems"), None, np.nan)
            difference, p = paired_difference(
                values[first], values[second], replicates[first], replicates[second], n=n, units=units
            )
            drawn = replicates[first] - replicates[second]
            drawn = drawn[np.isfinite(drawn)]
            error = standard_error(drawn, units.n) if difference.low is not None else np.nan
            return Compared(difference, p, error)

        known = [float(value) if np.isfinite(value) else None for value in values]
        estimates = [
            estimate_from_replicates(value, drawn, n=n, units=units, why=why, values=value_range)
            for value, drawn in zip(values, replicates, strict=True)
        ]
        return cls(metric, known, compare, n, estimates=estimates, **place)  # type: ignore[arg-type]

    def estimate(self, place: int) -> Estimate:
        """The value of a system, with its interval if that is known."""
        return self.estimates[place] if self.estimates else Estimate(self.values[place], n=self.n)

    @property
    def best(self) -> int | None:
        """The place of the best system; None if all values are undefined."""
        known = [(value, place) for place, value in enumerate(self.values) if value is not None]
        if not known:
            return None
        value = (min if self.lower_is_better else max)(value for value, _ in known)
        return next(place for own, place in known if own == value)

    def tied_with_best(self) -> list[bool | None]:
        """Whether each system's difference to the best has an interval that holds 0; None if that is unknown."""
        best = self.best
        tied: list[bool | None] = []
        for place, value in enumerate(self.values):
            if best is None or value is None:
                tied.append(None)
            elif place == best:
                tied.append(True)
            else:
                tied.append(self._is_tied(place, best))
        return tied

    def ranks(self) -> list[int | None]:
        """Rank of each system; systems that are tied share one.

        The best system and all that are tied with it have rank 1: the intervals of their differences to it hold 0. The
        best of the others and those tied with that one have the next rank, and so on; a rank counts all systems before
        it. The intervals are not adjusted for the number of systems, and a tie is no proof of equality.

        Returns
        -------
        list of int or None
            None for undefined values, and for all systems if an interval of a difference is missing.

        Examples
        --------
        >>> values = [1.0, 4.0, 3.0, None, 0.0]
        >>> def compare(one: int, other: int) -> Compared:
        ...     gap = values[one] - values[other]
        ...     return Compared(Estimate(gap, gap - 1.5, gap + 1.5), None, 0.75)
        >>> MetricOfSystems("accuracy", values, compare, 9).ranks()
        [3, 1, 1, None, 3]
        """
        ranks: list[int | None] = [None] * len(self.values)
        left = [place for place, value in enumerate(self.values) if value is not None]
        rank = 1
        while left:
            best = (min if self.lower_is_better else max)(left, key=lambda place: self.values[place] or 0.0)
            tied = {place: place == best or self._is_tied(place, best) for place in left}
            if None in tied.values():
                return [None] * len(self.values)
            group = [place for place in left if tied[place]]
            for place in group:
                ranks[place] = rank
            rank += len(group)
            left = [place for place in left if place not in group]
        return ranks

    def _is_tied(self, place: int, best: int) -> bool | None:
        """Whether the interval of the difference of two systems holds 0; None if it is unknown."""
        difference = self.compare(place, best).difference
        if difference.low is None or difference.high is None:
            return None
        return difference.low <= 0 <= difference.high

    def _mcnemar(self, first: int, second: int) -> float | None:
        """McNemar's exact test of two systems on independent items."""
        if not self.correct:
            return None
        one, other = self.correct[first], self.correct[second]
        return mcnemar_exact(int((one & ~other).sum()), int((other & ~one).sum()))

    def rows(self, systems: Sequence[str], reference: int) -> list[ComparisonRow]:
        """A row for each system but the reference."""
        tied = self.tied_with_best()
        rows = []
        for place, system in enumerate(systems):
            if place == reference:
                continue
            compared = self.compare(place, reference)
            # Without a p-value the standard error is not to be trusted: too few errors at the threshold.
            detectable = minimum_detectable_difference(compared.standard_error if compared.p is not None else np.nan)
            rows.append(
                ComparisonRow(
                    metric=self.metric,
                    slice=self.slice,
                    value_of_slice=self.value_of_slice,
                    system=system,
                    reference=systems[reference],
                    value=self.values[place],
                    reference_value=self.values[reference],
                    difference=compared.difference,
                    p=compared.p,
                    p_mcnemar=self._mcnemar(place, reference),
                    minimum_detectable=detectable if np.isfinite(detectable) else None,
                    n=self.n,
                    tied_with_best=tied[place],
                    reference_tied_with_best=tied[reference],
                )
            )
        return rows


def comparison_rows(metrics: Sequence[MetricOfSystems], systems: Sequence[str], reference: int) -> list[ComparisonRow]:
    """The rows of all metrics and slices, with p-values adjusted within each table.

    A table is one metric of all slices of one kind and of all systems: the comparisons that a reader scans together.
    """
    rows = [row for metric in metrics for row in metric.rows(systems, reference)]
    tables: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        tables.setdefault((row.metric, row.slice), []).append(place)
    for places in tables.values():
        for place, adjusted in zip(places, holm([rows[i].p for i in places]), strict=True):
            rows[place] = rows[place].model_copy(update={"p_holm": adjusted})
    return rows
