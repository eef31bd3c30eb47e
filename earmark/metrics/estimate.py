"""An estimated value with its confidence interval."""

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval and sample size.

    Attributes
    ----------
    value : float or None
        None where the value is undefined.
    low, high : float or None
        Ends of the 95 % confidence interval; None without an interval.
    n : int
        Sample size.
    why : str or None
        Why the value or its interval is missing.
    note : str or None
        A caveat about the interval, printed below tables.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    why: str | None = None
    note: str | None = None

    def in_percent(self) -> "Estimate":
        """The value and its interval times 100.

        >>> Estimate(0.5, 0.25, 0.75, 4).in_percent()
        Estimate(value=50.0, low=25.0, high=75.0, n=4, why=None, note=None)
        """
        value, low, high = (None if end is None else 100 * end for end in (self.value, self.low, self.high))
        return replace(self, value=value, low=low, high=high)

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data for JSON; `why` and `note` only where they are set."""
        return {k: v for k, v in asdict(self).items() if k not in ("why", "note") or v is not None}
