"""An estimated value with its confidence interval."""

from dataclasses import asdict, dataclass
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

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data for JSON; `why` and `note` only where they are set."""
        return {k: v for k, v in asdict(self).items() if k not in ("why", "note") or v is not None}
