"""What a comparison of several results amounts to, whatever script wrote them."""

from dataclasses import dataclass, field

import pandas as pd

from earmark.comparison.differences import MetricOfSystems
from earmark.report.figures import Figure
from earmark.report.page import ClipList
from earmark.report.tables import Table


@dataclass(frozen=True)
class Comparison:
    """What a comparison of one suite amounts to.

    Attributes
    ----------
    metrics : of every system.
    flips : items by how far the systems are apart, at most those that a reader looks at; `flip` marks different
        decisions.
    n_flips : items with another decision than the reference's, listed or not.
    n_items, n_left_out : items compared, and items that not all systems hold.
    notes : what the reader should know.
    figures : of this kind of result.
    clips : to listen to.
    tables : further tables of the report.
    """

    metrics: list[MetricOfSystems]
    flips: pd.DataFrame
    n_flips: int
    n_items: int
    n_left_out: int
    notes: list[str]
    figures: list[Figure] = field(default_factory=list)
    clips: list[ClipList] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
