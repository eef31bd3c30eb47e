"""Several comparisons at once: Holm's adjustment, ties with the best system, detectable differences."""

from collections.abc import Sequence

import numpy as np

from earmark.metrics.intervals import NEGLIGIBLE_ERROR

POWER_FACTOR = 2.8  # 1.96 + 0.84: two-sided level of 5 %, power of 80 %


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted so that the chance of any false rejection among them stays below the level.

    Parameters
    ----------
    p_values : each in [0, 1]; None for a comparison without p-value, which is not counted.

    Returns
    -------
    list of float or None
        Adjusted p-values in the same order, each at least as large as its original and at most 1.

    References
    ----------
    Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6:65.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03, None])
    [0.03, 0.06, 0.06, None]
    """
    known = [(p, place) for place, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = largest
    return adjusted


def minimum_detectable_difference(standard_error: float) -> float:
    """The smallest true difference that a paired test would find with 80 % power at the level of 5 %.

    Parameters
    ----------
    standard_error : of the difference.

    Returns
    -------
    float
        2.8 standard errors; NaN if the standard error is not finite or 0, as that of equal systems is.

    References
    ----------
    Card et al. (2020), With Little Power Comes Great Responsibility, EMNLP.

    Examples
    --------
    >>> round(minimum_detectable_difference(0.01), 3)
    0.028
    """
    known = np.isfinite(standard_error) and standard_error > NEGLIGIBLE_ERROR
    return POWER_FACTOR * standard_error if known else float("nan")
