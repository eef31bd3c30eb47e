"""Machines among the raters: how well they agree with people, compared with people among themselves.

Machines enter no label and no agreement of people. Each is compared on the items that it and at least two people rated.
On these items stand the agreement of two people, that of a person and the machine, and their difference on the same
bootstrap samples. Every item has the same weight in both, whatever its number of people, so that an exchangeable
machine has a true difference of 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.annotation.labels import clip_ranks
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import Annotations
from earmark.errors import MissingError
from earmark.metrics.agreement import Weighting, cohen_kappa
from earmark.metrics.bootstrap import Bootstrap, Units, estimate_from_replicates, paired_difference
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COEFFICIENT, COST, SHARE, Range
from earmark.metrics.rater_resampling import RecomputedDeletions
from earmark.metrics.ratio import ratio
from earmark.metrics.resample import Resample

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

PERMUTATIONS = 200
NO_SHARED_ITEM = "no item was rated by two people and this machine"
NO_VARIATION = "all ratings are equal"


@dataclass(frozen=True)
class MachineAgreement:
    """One coefficient of one machine.

    Attributes
    ----------
    name : str
        Name in definitions.toml.
    human_human, human_machine : Estimate
        Agreement of two people, and of a person and the machine, on the same items.
    difference : Estimate
        `human_machine` minus `human_human`.
    p : float or None
        Two-sided p-value of the difference; None where it has no interval.
    permuted : float or None
        `human_machine` with the machine's ratings permuted over the items; mean of 200 permutations.
    """

    name: str
    human_human: Estimate
    human_machine: Estimate
    difference: Estimate
    p: float | None
    permuted: float | None


@dataclass(frozen=True)
class MachineRater:
    """Agreement of one machine with people.

    Attributes
    ----------
    machine : str
    ratings : int
        Number of its ratings.
    items : int
        Number of its items with at least two people.
    agreement : list of MachineAgreement
    """

    machine: str
    ratings: int
    items: int
    agreement: list[MachineAgreement]


def split_machines(annotations: Annotations, names: Sequence[str]) -> tuple[Annotations, pd.DataFrame]:
    """Separate the ratings of machines from those of people.

    Parameters
    ----------
    annotations : Annotations
    names : sequence of str
        Usernames of machines.

    Returns
    -------
    people : Annotations
        Without the machines; `excluded` has one more entry for each.
    machines : DataFrame
        Ratings of the machines, with the columns of `annotations.ratings`.

    Raises
    ------
    MissingError
        If a machine has no ratings.
    """
    ratings = annotations.ratings
    known = set(ratings["username"].unique())
    if unknown := [name for name in names if name not in known]:
        raise MissingError(
            f"--machine-rater {unknown[0]}: no ratings by this rater. Raters with ratings: {', '.join(sorted(known))}"
        )
    by_machine = ratings["username"].isin(names)
    counts = ratings["username"][by_machine].value_counts()
    excluded = annotations.excluded | {
        f"ratings by {name}, a machine (--machine-rater)": int(counts[name]) for name in dict.fromkeys(names)
    }
    people = replace(annotations, ratings=ratings[~by_machine].reset_index(drop=True), excluded=excluded)
    return people, ratings[by_machine].reset_index(drop=True)


def machine_agreement(
    people: Annotations,
    machines: pd.DataFrame,
    *,
    replicates: int,
    rng: np.random.Generator,
    resample: Resample = "clips",
) -> list[MachineRater]:
    """Compare each machine with people.

    Parameters
    ----------
    people, machines
        As `split_machines` returns them.
    replicates : int
        Number of bootstrap replicates; 0 gives no intervals.
    rng : numpy.random.Generator
    resample : {"clips", "raters", "both"}
        What intervals speak for. People are resampled; the machine is always the same.

    Returns
    -------
    list of MachineRater
        Sorted by name. Undefined estimates have a reason.

    Notes
    -----
    Coefficients: percent agreement and Cohen's kappa of present/absent on a scale with such a decision, and of classes
    on a nominal scale; percent agreement and kappa with quadratic weights on an ordinal one; mean absolute difference
    and Lin's concordance on an interval one. METRICS.md has the formulas.
    """
    key = list(people.subset.key)
    results = []
    for name, own in sorted(machines.groupby("username", sort=True)):
        shared = SharedItems.of(people, own)
        if not len(shared.items):
            undefined = Estimate(None, why=NO_SHARED_ITEM)
            empty = [MachineAgreement(n, undefined, undefined, undefined, None, None) for n in names_of(people.subset)]
            results.append(MachineRater(str(name), len(own), 0, empty))
            continue
        clips = clip_ranks(shared.items[key], people.subset)
        bootstrap = Bootstrap.from_units(clips, replicates, rng, resample=resample)
        measure = _measure(people.subset, shared)
        agreement = _compare(shared, measure, bootstrap, rng)
        results.append(MachineRater(str(name), len(own), len(shared.items), agreement))
    return results


@dataclass(frozen=True)
class SharedItems:
    """Items that a machine and at least two people rated.

    Attributes
    ----------
    items : DataFrame
        Key of each item.
    machine : (n,) float
        Rating of the machine.
    item, rater : (m,) int
        Row in `items` and number of the rater of each rating by people.
    rating : (m,) float
    n_raters : int
        Number of people.
    """

    items: pd.DataFrame
    machine: FloatArray
    item: IntArray
    rater: IntArray
    rating: FloatArray
    n_raters: int

    @classmethod
    def of(cls, people: Annotations, own: pd.DataFrame) -> "SharedItems":
        """Select the items of one machine; own: its ratings."""
        key = list(people.subset.key)
        first = people.subset.first_present if people.subset.is_decided else None
        rated = people.ratings[[*key, "username", "rating"]].merge(
            own[[*key, "rating"]].rename(columns={"rating": "of_machine"}), on=key, how="inner"
        )
        size = rated.groupby(key)["rating"].transform("size") if len(rated) else pd.Series(dtype=int)
        rated = rated[size > 1] if len(rated) else rated
        item = rated.groupby(key, sort=True).ngroup().to_numpy(dtype=np.int64)
        _, places = np.unique(item, return_index=True)
        names, rater = np.unique(rated["username"].to_numpy(dtype=str), return_inverse=True)
        values = rated[["rating", "of_machine"]].to_numpy(dtype=float)
        if first is not None:
            values = (values >= first).astype(float)
        items = rated.iloc[places].reset_index(drop=True)
        return cls(items, values[places, 1], item, rater.astype(np.int64).ravel(), values[:, 0], len(names))


class _Measure(Protocol):
    """Two coefficients of a scale."""

    names: tuple[str, str]
    ranges: tuple[Range, Range]
    bounds: tuple[float, float]  # largest difference
    why: tuple[str, str]

    def contributions(self, kept: BoolArray) -> FloatArray:
        """Contributions of items, (n, d), from the ratings by people that are kept; zeros with fewer than two."""

    def formula(self, sums: FloatArray) -> FloatArray:
        """Both coefficients of two people and of a person and the machine: (…, 4)."""

    def permuted(self, order: IntArray) -> FloatArray:
        """Both coefficients of a person and the machine, its ratings in another order: (2,)."""

    def informative(self) -> BoolArray:
        """Items with a rating other than the most frequent one, (n,)."""


def names_of(subset: Subset) -> tuple[str, str]:
    """Names of both coefficients on the scale of a subset.

    Examples
    --------
    >>> names_of(Subset("arousal", "interval", ("file",)))
    ('human_machine_absolute_difference', 'human_machine_concordance')
    """
    if subset.scale == "interval":
        return "human_machine_absolute_difference", "human_machine_concordance"
    quadratic = subset.scale == "ordinal" and not subset.is_decided
    return "human_machine_percent", "human_machine_kappa_quadratic" if quadratic else "human_machine_kappa"


def _measure(subset: Subset, shared: SharedItems) -> "_Measure":
    names = names_of(subset)
    if subset.scale == "interval":
        return _Numbers(shared, names)
    weighting: Weighting = "quadratic" if names[1].endswith("quadratic") else "unweighted"
    return _Levels(shared, names, 2 if subset.is_decided else len(subset.levels), weighting)


def _compare(
    shared: SharedItems, measure: "_Measure", bootstrap: Bootstrap, rng: np.random.Generator
) -> list[MachineAgreement]:
    n = len(shared.items)
    contributions = measure.contributions(np.ones(len(shared.item), dtype=bool))
    deletions = RecomputedDeletions(
        np.bincount(shared.rater, minlength=shared.n_raters).astype(np.int64),
        lambda rater: measure.contributions(shared.rater != rater),
    )

    def formula(sums: FloatArray) -> FloatArray:
        values = measure.formula(sums)
        return np.concatenate([values, values[..., 2:] - values[..., :2]], axis=-1)

    point = formula(contributions.sum(axis=0)[np.newaxis])[0]
    replicates = bootstrap.replicates(contributions, formula, 6)
    variations = bootstrap.rater_variations(contributions, formula, 6, deletions)
    permuted = np.mean([measure.permuted(rng.permutation(n)) for _ in range(PERMUTATIONS)], axis=0)
    units = (bootstrap.units, _informative_units(measure, bootstrap))
    results = []
    for at, name in enumerate(measure.names):
        people, machine = (
            estimate_from_replicates(
                point[j],
                replicates[:, j],
                n=n,
                units=units[at],
                why=measure.why[at],
                values=measure.ranges[at],
                raters=variations[j],
            )
            for j in (at, at + 2)
        )
        difference, p = paired_difference(
            point[at + 2],
            point[at],
            replicates[:, at + 2],
            replicates[:, at],
            n=n,
            units=units[at],
            raters=variations[at + 4],
        )
        chance = float(permuted[at]) if np.isfinite(permuted[at]) else None
        within = _within(difference, measure.bounds[at], people.why or machine.why)
        results.append(MachineAgreement(name, people, machine, within, p, chance))
    return results


def _informative_units(measure: "_Measure", bootstrap: Bootstrap) -> Units:
    return bootstrap.units_with(measure.informative(), "with a rating other than the most frequent one")


def _within(difference: Estimate, bound: float, why: str | None) -> Estimate:
    """Keep an interval within the possible differences; why: reason if a coefficient is undefined."""
    if difference.value is None:
        return replace(difference, why=why or difference.why)
    if difference.low is None or difference.high is None:
        return difference
    return replace(difference, low=max(difference.low, -bound), high=min(difference.high, bound))


class _Levels:
    """Percent agreement and kappa of levels or classes."""

    ranges = (SHARE, COEFFICIENT)
    bounds = (1.0, 2.0)
    why = ("", "only one category was used")

    def __init__(self, shared: SharedItems, names: tuple[str, str], q: int, weighting: Weighting) -> None:
        self.names = names
        self.shared, self.q, self.weighting = shared, q, weighting
        self.one = np.eye(q)
        self.machine = shared.machine.astype(np.int64)
        self.code = shared.rating.astype(np.int64)
        self.of_people = self._shares(np.ones(len(self.code), dtype=bool))[0]

    def _shares(self, kept: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Shares of levels among the people of each item, and of ordered pairs; zeros with fewer than two people."""
        n = len(self.shared.items)
        cells = self.shared.item[kept] * self.q + self.code[kept]
        counts = np.bincount(cells, minlength=n * self.q).reshape(n, self.q).astype(float)
        people = counts.sum(axis=1)
        enough = (people > 1).astype(float)
        pairs = counts[:, :, np.newaxis] * counts[:, np.newaxis, :] - counts[:, :, np.newaxis] * self.one
        pairs = ratio(pairs, (people * (people - 1))[:, np.newaxis, np.newaxis], empty=0.0)
        return ratio(counts, people[:, np.newaxis], empty=0.0) * enough[:, np.newaxis], pairs

    def contributions(self, kept: BoolArray) -> FloatArray:
        shares, pairs = self._shares(kept)
        with_machine = shares[:, :, np.newaxis] * self.one[self.machine][:, np.newaxis, :]
        n, cells = len(shares), self.q**2
        return np.concatenate([pairs.reshape(n, cells), with_machine.reshape(n, cells)], axis=1)

    def formula(self, sums: FloatArray) -> FloatArray:
        tables = sums.reshape(*sums.shape[:-1], 2, self.q, self.q)
        percent = ratio(np.einsum("...kk->...", tables), tables.sum(axis=(-2, -1)))
        kappa = cohen_kappa(tables, self.weighting)
        return np.stack([percent[..., 0], kappa[..., 0], percent[..., 1], kappa[..., 1]], axis=-1)

    def permuted(self, order: IntArray) -> FloatArray:
        table = self.of_people.T @ self.one[self.machine[order]]
        return np.array([ratio(np.trace(table), table.sum()), cohen_kappa(table, self.weighting)], dtype=float)

    def informative(self) -> BoolArray:
        n = len(self.shared.items)
        used = np.zeros((n, self.q), dtype=bool)
        used[self.shared.item, self.code] = True
        used[np.arange(n), self.machine] = True
        most = np.bincount(np.r_[self.code, self.machine], minlength=self.q).argmax()
        return np.asarray(used[:, np.arange(self.q) != most].any(axis=1))


class _Numbers:
    """Mean absolute difference and Lin's concordance of numbers.

    Sums over items, each the mean over the people or pairs of people of an item: 1, |x − y|, |x − m|, x, x², x y, m,
    m², x m for two people x and y and the machine m.
    """

    ranges = (COST, COEFFICIENT)
    bounds = (np.inf, 2.0)
    why = ("", NO_VARIATION)

    def __init__(self, shared: SharedItems, names: tuple[str, str]) -> None:
        self.names = names
        self.shared = shared
        origin = float(shared.rating.mean())
        spread = float(np.ptp(np.r_[shared.rating, shared.machine])) or 1.0
        self.raw_machine = shared.machine
        self.x = (shared.rating - origin) / spread  # concordance depends on neither origin nor unit
        self.machine = (shared.machine - origin) / spread

    def contributions(self, kept: BoolArray) -> FloatArray:
        n, item = len(self.shared.items), self.shared.item[kept]
        raw, x, m = self.shared.rating[kept], self.x[kept], self.machine

        def of_items(values: FloatArray) -> FloatArray:
            return np.bincount(item, values, n).astype(float)

        people = np.bincount(item, minlength=n).astype(float)
        enough = people > 1
        total, squares = of_items(x), of_items(x * x)
        order = np.lexsort((raw, item))
        place = np.arange(len(item)) - np.searchsorted(item[order], item[order])
        smallest = raw[order][np.arange(len(item)) - place]
        rank = 2 * place + 1 - people[item[order]]
        among = np.bincount(item[order], rank * (raw[order] - smallest), n)
        to_machine = of_items(np.abs(raw - self.raw_machine[item]))
        mean, square = ratio(total, people, empty=0.0), ratio(squares, people, empty=0.0)
        columns = [
            np.ones(n),
            ratio(2 * among, people * (people - 1), empty=0.0),
            ratio(to_machine, people, empty=0.0),
            mean,
            square,
            ratio(total * total - squares, people * (people - 1), empty=0.0),
            m,
            m * m,
            mean * m,
        ]
        return np.stack(columns, axis=1) * enough[:, np.newaxis]

    def formula(self, sums: FloatArray) -> FloatArray:
        n, among, to_machine, *moments = np.moveaxis(sums, -1, 0)
        x, xx, xy, m, mm, xm = (ratio(each, n) for each in moments)
        people = _concordance(x, x, xx, xx, xy)
        machine = _concordance(x, m, xx, mm, xm)
        return np.stack([ratio(among, n), people, ratio(to_machine, n), machine], axis=-1)

    def permuted(self, order: IntArray) -> FloatArray:
        item, n = self.shared.item, len(self.shared.items)
        m, raw, weight = self.machine[order], self.raw_machine[order], 1 / np.bincount(item)
        x, xx = np.bincount(item, self.x) * weight, np.bincount(item, self.x**2) * weight
        to_machine = np.bincount(item, np.abs(self.shared.rating - raw[item])) * weight
        moments = (each.sum() / n for each in (x, m, xx, m * m, x * m))
        return np.array([to_machine.sum() / n, _concordance(*moments)])

    def informative(self) -> BoolArray:
        n = len(self.shared.items)
        values, counts = np.unique(np.r_[self.shared.rating, self.shared.machine], return_counts=True)
        most = values[counts.argmax()]
        others = np.bincount(self.shared.item, self.shared.rating != most, n) > 0
        return np.asarray(others | (self.shared.machine != most))


def _concordance(x: FloatArray, y: FloatArray, xx: FloatArray, yy: FloatArray, xy: FloatArray) -> FloatArray:
    """Lin's concordance correlation from means: 2 cov / (var x + var y + (mean x − mean y)²)."""
    return ratio(2 * (xy - x * y), (xx - x * x) + (yy - y * y) + (x - y) ** 2)
