"""Division where the denominator may be 0."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEGLIGIBLE = 1e-12  # a denominator that is 0 but for rounding


def ratio(numerator: ArrayLike, denominator: ArrayLike, empty: ArrayLike = np.nan) -> NDArray[np.float64]:
    """numerator / denominator, and `empty` where the denominator is 0; the three are broadcast.

    >>> ratio([1, 2], [4, 0]).tolist()
    [0.25, nan]
    """
    top, bottom, out = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (numerator, denominator, empty)))
    return np.divide(top, bottom, out=out.copy(), where=np.abs(bottom) > NEGLIGIBLE)
