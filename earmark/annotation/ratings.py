"""Ratings of a subset as arrays, for scales without a decision between present and absent."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.annotation.keys import key_ranks
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import Annotations
from earmark.metrics.multisets import first_of_each

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Ratings:
    """Ratings of a subset as arrays.

    Attributes
    ----------
    subset : Subset
    items : DataFrame
        Key of each item, one row per item, sorted.
    item, rater : (n_ratings,) int
        Row in `items` and index in `raters` of each rating. At most one rating per item and rater.
    value : (n_ratings,) float
        The number on an interval scale; else the position of the rating in `subset.levels`, from 0.
    raters : list of str
        Names, in the order of their numbers.
    """

    subset: Subset
    items: pd.DataFrame
    item: IntArray
    rater: IntArray
    value: FloatArray
    raters: list[str]

    @classmethod
    def from_annotations(cls, annotations: Annotations) -> "Ratings":
        """Convert checked tables.

        Parameters
        ----------
        annotations : Annotations

        Returns
        -------
        Ratings
        """
        key, table = list(annotations.subset.key), annotations.ratings
        item = key_ranks(table, key)
        items = table[key].iloc[first_of_each(item)].reset_index(drop=True)
        raters = sorted(table["username"].unique(), key=lambda name: (len(name), name))  # user_9 before user_10
        rater = table["username"].map({name: code for code, name in enumerate(raters)}).to_numpy(dtype=np.int64)
        return cls(annotations.subset, items, item, rater, table["rating"].to_numpy(dtype=np.float64), raters)

    @property
    def codes(self) -> IntArray:
        """Position of each rating in `subset.levels`, (n_ratings,) int."""
        return self.value.astype(np.int64)

    @property
    def raters_per_item(self) -> IntArray:
        """Number of raters of each item, (n_items,) int."""
        return np.bincount(self.item, minlength=len(self.items))

    def counts(self) -> IntArray:
        """Number of ratings of each item at each level, (n_items, n_levels) int."""
        q = len(self.subset.levels)
        cells = np.bincount(self.item * q + self.codes, minlength=len(self.items) * q)
        return cells.reshape(len(self.items), q)

    def take(self, ratings: NDArray[np.bool_]) -> "Ratings":
        """Select ratings; items without a rating stay. ratings: (n_ratings,) bool."""
        return Ratings(
            self.subset, self.items, self.item[ratings], self.rater[ratings], self.value[ratings], self.raters
        )
