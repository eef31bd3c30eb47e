"""95 % intervals from a value, its standard error and the number of units behind it.

One method for every estimate, chosen by what values it can take:

  a share or a coefficient with two bounds   Wilson's score interval on the effective sample size
  a cost or an error with the lower bound 0  value · exp(± t · error / value)
  a difference                               value ± t · error

The effective sample size of a value p in [0, 1] is p (1 − p) / error²: how many independent answers would be known as
well. At a bound, where every unit says the same and the error is 0, it is the number of units. Student's t stands for
the normal quantile, since the standard error is estimated from few units as well.

Sources: Wilson (1927), Journal of the American Statistical Association 22:209; for clustered data with the effective
sample size and Student's t, Korn and Graubard (1998), Survey Methodology 24:193, and Dean and Pagano (2015), Journal
of Survey Statistics and Methodology 3:484.
"""

from dataclasses import dataclass
from math import exp, inf, isfinite, sqrt

from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
# What coverage simulations (docs/coverage.md) show to be needed: fewer units of a class are printed with a note.
MIN_UNITS = 20
NEGLIGIBLE_ERROR = 1e-12  # a standard error below this is rounding


@dataclass(frozen=True)
class Range:
    """The values that an estimate can take: from lower to upper, either of which may be infinite."""

    lower: float
    upper: float


SHARE = Range(0.0, 1.0)
COEFFICIENT = Range(-1.0, 1.0)  # of agreement
COST = Range(0.0, inf)
DIFFERENCE = Range(-inf, inf)


def interval(
    value: float, deviation: float, *, units: float, df: float | None = None, values: Range = SHARE
) -> tuple[float, float] | None:
    """The 95 % interval of an estimate.

    Parameters
    ----------
    value : the estimate, within `values`.
    deviation : its standard error; 0 where all units agree.
    units : how many independent units (clips, speakers, …) stand behind it; the effective sample size at a bound.
    df : degrees of freedom of the standard error, at least 1; units − 1 by default.
    values : the values that the estimate can take.

    Returns
    -------
    (low, high), both within `values`; None with fewer than two units, and for a cost of 0, which has no scale.

    Examples
    --------
    20 of 20 right, and 15 of 20:

    >>> [round(x, 3) for x in interval(1.0, 0.0, units=20)]
    [0.82, 1.0]
    >>> [round(x, 3) for x in interval(0.75, (0.75 * 0.25 / 20) ** 0.5, units=20)]
    [0.516, 0.894]
    """
    if units < 2 or not isfinite(deviation):
        return None
    t = t_quantile(max(units - 1, 1) if df is None else max(df, 1.0))
    if isfinite(values.upper) and isfinite(values.lower):
        span = values.upper - values.lower
        share = min(max((value - values.lower) / span, 0.0), 1.0)
        low, high = wilson_interval(share, effective_sample_size(share, deviation / span, units), t)
        return values.lower + span * low, values.lower + span * high
    if isfinite(values.lower):
        if value <= values.lower:
            return None
        factor = exp(t * deviation / (value - values.lower))
        return values.lower + (value - values.lower) / factor, values.lower + (value - values.lower) * factor
    return value - t * deviation, value + t * deviation


def t_quantile(df: float) -> float:
    """Student's t that 95 % lie within, two-sided; 1.96 for many degrees of freedom."""
    return float(stdtrit(df, (1 + CONFIDENCE) / 2))


def two_sided_p(difference: float, deviation: float, df: float) -> float:
    """Chance of a difference at least so large if there is none, by Student's t; 1 for no difference.

    >>> round(two_sided_p(2.0, 1.0, 60.0), 3)
    0.05
    """
    if abs(difference) <= NEGLIGIBLE_ERROR:
        return 1.0
    return float(2 * stdtr(df, -abs(difference) / deviation)) if deviation > NEGLIGIBLE_ERROR else 0.0


def effective_sample_size(share: float, deviation: float, units: float) -> float:
    """How many independent answers would give the share this standard error; `units` at 0 and 1.

    >>> round(effective_sample_size(0.5, 0.1, 40), 6)
    25.0
    """
    spread = share * (1 - share)
    if spread <= NEGLIGIBLE_ERROR:
        return units
    return spread / max(deviation, NEGLIGIBLE_ERROR) ** 2


def wilson_interval(share: float, size: float, z: float) -> tuple[float, float]:
    """Wilson's score interval of a share of `size` independent answers.

    >>> [round(x, 4) for x in wilson_interval(0.0, 10, 1.96)]
    [0.0, 0.2775]
    """
    middle = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * sqrt(share * (1 - share) / size + (z / (2 * size)) ** 2)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def few_units(units: float, what: str, enough: int = MIN_UNITS) -> str | None:
    """The note of an interval from fewer units than intervals need; None where there are enough.

    >>> few_units(7, "clips of the rarer class")
    'only 7 clips of the rarer class; 95 % intervals need 20'
    """
    return None if units >= enough else f"only {units:.0f} {what}; 95 % intervals need {enough}"
