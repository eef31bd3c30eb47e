"""95 % confidence intervals from a value, its standard error and the number of independent units.

The method depends on the possible values of the estimate:

  proportion, or coefficient with two bounds  Wilson's score interval on the effective sample size
  cost or error with the lower bound 0        value · exp(± t · standard error / value)
  difference                                  value ± t · standard error

The effective sample size of a value p in [0, 1] is p (1 − p) / standard error²: the number of independent observations
with the same standard error. At 0 and 1, where the standard error is 0, it is the number of units. Student's t replaces
the normal quantile, since the standard error is itself estimated from few units.

References: Wilson (1927), Probable inference, the law of succession, and statistical inference, Journal of the American
Statistical Association 22:209. Korn and Graubard (1998), Confidence intervals for proportions with small expected
number of positive counts estimated from survey data, Survey Methodology 24:193. Dean and Pagano (2015), Evaluating
confidence interval methods for binomial proportions in clustered surveys, Journal of Survey Statistics and Methodology
3:484.
"""

from dataclasses import dataclass
from math import exp, inf, isfinite, sqrt

from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
# From coverage simulations (docs/coverage.md); an interval from fewer units carries a note.
MIN_UNITS = 20
NEGLIGIBLE_ERROR = 1e-12  # a standard error below this is 0 up to rounding


@dataclass(frozen=True)
class Range:
    """Possible values of an estimate, from lower to upper; either may be infinite."""

    lower: float
    upper: float


SHARE = Range(0.0, 1.0)
MAX_EXPONENT = 700.0  # of e, below the largest number
COEFFICIENT = Range(-1.0, 1.0)
COST = Range(0.0, inf)
DIFFERENCE = Range(-inf, inf)


def interval(
    value: float, standard_error: float, *, units: float, df: float | None = None, values: Range = SHARE
) -> tuple[float, float] | None:
    """95 % confidence interval of an estimate.

    Parameters
    ----------
    value : float
        The estimate, within `values`.
    standard_error : float
        0 if all units are equal.
    units : float
        Number of independent units (clips, speakers, …); the effective sample size where the value is at a bound.
    df : float, optional
        Degrees of freedom of the standard error, at least 1; units − 1 by default.
    values : Range
        Possible values of the estimate.

    Returns
    -------
    (low, high) or None
        Both within `values`. None with fewer than two units, for a standard error that is not finite, for a cost of 0,
        which has no scale, and for a cost whose interval would end beyond the largest number.

    References
    ----------
    Wilson (1927), Journal of the American Statistical Association 22:209.
    Korn and Graubard (1998), Survey Methodology 24:193.

    Examples
    --------
    20 of 20 correct, and 15 of 20:

    >>> [round(x, 3) for x in interval(1.0, 0.0, units=20)]
    [0.82, 1.0]
    >>> [round(x, 3) for x in interval(0.75, (0.75 * 0.25 / 20) ** 0.5, units=20)]
    [0.516, 0.894]
    """
    if units < 2 or not isfinite(standard_error):
        return None
    t = t_quantile(max(units - 1, 1) if df is None else max(df, 1.0))
    if isfinite(values.upper) and isfinite(values.lower):
        span = values.upper - values.lower
        share = min(max((value - values.lower) / span, 0.0), 1.0)
        low, high = wilson_interval(share, effective_sample_size(share, standard_error / span, units), t)
        return values.lower + span * low, values.lower + span * high
    if isfinite(values.lower):
        if value <= values.lower or t * standard_error > MAX_EXPONENT * (value - values.lower):
            return None
        factor = exp(t * standard_error / (value - values.lower))
        return values.lower + (value - values.lower) / factor, values.lower + (value - values.lower) * factor
    return value - t * standard_error, value + t * standard_error


def t_quantile(df: float) -> float:
    """Two-sided 95 % quantile of Student's t.

    Parameters
    ----------
    df : float
        Degrees of freedom, above 0.

    Returns
    -------
    float

    Examples
    --------
    >>> round(t_quantile(10), 3), round(t_quantile(1e9), 3)
    (2.228, 1.96)
    """
    return float(stdtrit(df, (1 + CONFIDENCE) / 2))


def two_sided_p(difference: float, standard_error: float, df: float) -> float:
    """Two-sided p-value of a difference by Student's t.

    Parameters
    ----------
    difference, standard_error : float
    df : float
        Degrees of freedom, above 0.

    Returns
    -------
    float
        In [0, 1]; 1 if the difference is 0, and 0 if the standard error is 0 and the difference is not.

    Examples
    --------
    >>> round(two_sided_p(2.0, 1.0, 60.0), 3)
    0.05
    """
    if abs(difference) <= NEGLIGIBLE_ERROR:
        return 1.0
    return float(2 * stdtr(df, -abs(difference) / standard_error)) if standard_error > NEGLIGIBLE_ERROR else 0.0


def effective_sample_size(share: float, standard_error: float, units: float) -> float:
    """Number of independent observations that give a proportion this standard error.

    Parameters
    ----------
    share : float
        Proportion p in [0, 1].
    standard_error : float
    units : float
        Number of units.

    Returns
    -------
    float
        p (1 − p) / standard error²; `units` where p is 0 or 1.

    References
    ----------
    Korn and Graubard (1998), Survey Methodology 24:193.

    Examples
    --------
    >>> round(effective_sample_size(0.5, 0.1, 40), 6)
    25.0
    """
    variance = share * (1 - share)
    if variance <= NEGLIGIBLE_ERROR:
        return units
    return variance / max(standard_error, NEGLIGIBLE_ERROR) ** 2


def wilson_interval(share: float, size: float, z: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Parameters
    ----------
    share : float
        Proportion in [0, 1].
    size : float
        Number of independent observations, or the effective sample size; above 0.
    z : float
        Quantile of the normal or t distribution.

    Returns
    -------
    (low, high)
        Both in [0, 1].

    References
    ----------
    Wilson (1927), Journal of the American Statistical Association 22:209.

    Examples
    --------
    >>> [round(x, 4) for x in wilson_interval(0.0, 10, 1.96)]
    [0.0, 0.2775]
    """
    middle = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * sqrt(share * (1 - share) / size + (z / (2 * size)) ** 2)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def few_units(units: float, description: str, enough: int = MIN_UNITS) -> str | None:
    """Note for an interval from too few units.

    Parameters
    ----------
    units : float
    description : str
        What the units are.
    enough : int
        Number of units from which no note is needed.

    Returns
    -------
    str or None

    Examples
    --------
    >>> few_units(7, "clips of the rarer class")
    'only 7 clips of the rarer class (95 % intervals need at least 20)'
    >>> few_units(1, "clips of the rarer class")
    'only 1 clip of the rarer class (95 % intervals need at least 20)'
    """
    if units >= enough:
        return None
    first, space, rest = description.partition(" ")
    counted = {0: f"no {description}", 1: f"only 1 {first.removesuffix('s')}{space}{rest}"}
    shown = counted.get(round(units), f"only {units:.0f} {description}")
    return f"{shown} (95 % intervals need at least {enough})"
