"""Ranks of rows by their key columns, so that tables are sorted and grouped as numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.metrics.multisets import dense_ranks


def key_ranks(table: pd.DataFrame, columns: Sequence[str], end: str = "") -> NDArray[np.int64]:
    """Rank each row by its key, as sorting by the columns would.

    Parameters
    ----------
    table : DataFrame
        With text in the columns.
    columns : sequence of str
    end : str
        Appended to the values of all columns but the last before they are compared.

    Returns
    -------
    (n_rows,) int
        From 0; rows with equal keys have equal ranks.

    Examples
    --------
    >>> key_ranks(pd.DataFrame({"clip": ["b", "a", "b"], "task": ["x", "y", "x"]}), ["clip", "task"]).tolist()
    [1, 0, 1]
    """
    result = np.zeros(len(table), dtype=np.int64)
    for position, column in enumerate(columns):
        codes, values = pd.factorize(table[column])
        last = position == len(columns) - 1
        order = np.argsort(np.array([value if last else value + end for value in values], dtype=object), kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        result = dense_ranks(result * max(len(order), 1) + rank[codes])
    return result
