"""A number fit to print."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A number fit to print: its value, its 95 % interval, the n behind it, or why it does not exist.

    why: the reason for a missing value or interval. note: what to know before trusting the interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    why: str | None = None
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `why` and `note` are there only where there is something to say."""
        return {k: v for k, v in asdict(self).items() if k not in ("why", "note") or v is not None}
