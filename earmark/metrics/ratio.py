"""Division with a fallback for a denominator of 0."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEGLIGIBLE = 1e-12  # a denominator below this is 0 up to rounding


def ratio(numerator: ArrayLike, denominator: ArrayLike, empty: ArrayLike = np.nan) -> NDArray[np.float64]:
    """Divide, with a fallback where the denominator is 0.

    Parameters
    ----------
    numerator, denominator, empty : array_like
        Broadcast against each other. A denominator below 1e-12 in absolute value counts as 0.
    empty : array_like
        Value where the denominator is 0; NaN by default.

    Returns
    -------
    float array

    Examples
    --------
    >>> ratio([1, 2], [4, 0]).tolist()
    [0.25, nan]
    """
    top, bottom, out = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (numerator, denominator, empty)))
    return np.divide(top, bottom, out=out.copy(), where=np.abs(bottom) > NEGLIGIBLE)
