"""Inter-rater agreement and the human ceiling.

Every estimate is a function of sums over items, with a bootstrap interval over clips (`metrics.bootstrap`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from earmark.annotation.labels import expected_labels, item_counts
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import Annotations
from earmark.metrics import agreement as coefficients
from earmark.metrics.agreement import AgreementSums, RaterPairs
from earmark.metrics.bootstrap import Bootstrap, Units
from earmark.metrics.classification import balanced_accuracy
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COEFFICIENT, MIN_UNITS, SHARE
from earmark.metrics.multisets import dense_ranks, distinct_members, multiset_ids
from earmark.metrics.rater_resampling import PairDeletions, RatingDeletions
from earmark.metrics.ratio import ratio

IntArray = NDArray[np.int64]

NO_PAIRS = "no item was rated by two raters"
ONE_CATEGORY = "only one category was used"
NO_LEAVE_ONE_OUT = "no rating with an untied majority of at least two other raters"
TOO_MANY_PAIRS = "too many pairs of ratings to hold in memory; use the pooled estimates"
MAX_PAIR_ENTRIES = 20_000_000
WITH_TWO_RATERS = "with an item rated by two raters"
CATEGORIES = ("absent", "present")


@dataclass(frozen=True)
class Votes:
    """Ratings of a subset as arrays.

    Attributes
    ----------
    subset : Subset
    items : DataFrame
        Key of each item, one row per item.
    counts : dict of str to (n_items, n_categories) int
        Number of ratings in each category, for the scales "binary" (absent, present) and, if defined, "ordinal".
    item, rater : (n_ratings,) int
        Row in `items` and index in `raters` of each rating.
    rating : (n_ratings,) int
        Position of each rating on the scale of the subset.
    raters : list of str
        Usernames, in the order of their numbers.
    fixed : tuple of int
        Raters that are not drawn from a population of raters: the sampling prior.
    """

    subset: Subset
    items: pd.DataFrame
    counts: dict[str, IntArray]
    item: IntArray
    rater: IntArray
    rating: IntArray
    raters: list[str]
    fixed: tuple[int, ...] = ()

    @classmethod
    def from_annotations(cls, annotations: Annotations) -> "Votes":
        """Convert checked tables.

        Parameters
        ----------
        annotations : Annotations

        Returns
        -------
        Votes
        """
        subset, ratings = annotations.subset, annotations.ratings
        items, counts, item = item_counts(annotations)
        binary = np.stack([counts[:, : subset.first_present].sum(1), counts[:, subset.first_present :].sum(1)], axis=1)
        raters: list[str] = sorted(
            ratings["username"].unique(), key=lambda name: (len(name), name)
        )  # user_9 before user_10
        codes, names = pd.factorize(ratings["username"])
        number = {name: code for code, name in enumerate(raters)}
        rater = np.array([number[name] for name in names], dtype=np.int64)[codes]
        scales = {"binary": binary, "ordinal": counts} if subset.is_ordinal else {"binary": binary}
        return cls(subset, items, scales, item, rater, ratings["rating"].to_numpy(dtype=np.int64), raters)

    @cached_property
    def patterns(self) -> IntArray:
        """Number of each item, (n_items,), equal for items with the same ratings by the same raters."""
        n_levels = int(self.rating.max(initial=0)) + 1
        return multiset_ids(self.item, self.rater * n_levels + self.rating, len(self.items))

    @cached_property
    def binary_pairs(self) -> RaterPairs:
        """All pairs of binary ratings of the same item."""
        return coefficients.rater_pairs(self.item, self.rater, self.codes("binary"))

    def alike(self, columns: Sequence[pd.Series] = ()) -> IntArray:
        """Number the items so that `Bootstrap.grouped` can treat those with equal ratings and columns alike.

        Parameters
        ----------
        columns : sequence of (n_items,) Series
            Values of the items on which estimates depend.

        Returns
        -------
        (n_items,) int
        """
        result = self.patterns
        for column in columns:
            codes = pd.factorize(column)[0]
            result = dense_ranks(result * (int(codes.max(initial=-1)) + 1) + codes)
        return result

    @property
    def raters_per_item(self) -> IntArray:
        """Number of raters of each item, (n_items,) int."""
        return self.counts["binary"].sum(axis=1)

    def codes(self, scale: str) -> IntArray:
        """Ratings on one scale.

        Parameters
        ----------
        scale : {"binary", "ordinal"}

        Returns
        -------
        (n_ratings,) int
            0 for absent and 1 for present, or the position on the ordinal scale.
        """
        return self.rating if scale == "ordinal" else (self.rating >= self.subset.first_present).astype(np.int64)

    def of_items(self, items: NDArray[np.bool_]) -> "Votes":
        """Select items, with all raters.

        Parameters
        ----------
        items : (n_items,) bool

        Returns
        -------
        Votes
        """
        new_row, selected = np.cumsum(items) - 1, items[self.item]
        return replace(
            self,
            items=self.items[items].reset_index(drop=True),
            counts={scale: counts[items] for scale, counts in self.counts.items()},
            item=new_row[self.item[selected]],
            rater=self.rater[selected],
            rating=self.rating[selected],
        )

    def with_prior(self) -> "Votes":
        """Add the sampling prior as a further rater.

        Returns
        -------
        Votes
            Binary ratings of items with at least two raters, with the expected label of each item as a rating by
            "prior".
        """
        pairable = self.raters_per_item >= 2
        new_row = np.cumsum(pairable) - 1
        selected = pairable[self.item]
        items = self.items[pairable].reset_index(drop=True)
        expected = expected_labels(items, self.subset)
        if expected is None:
            raise ValueError(f"{self.subset.name} has no prior")
        item = np.concatenate([new_row[self.item[selected]], np.arange(len(items))])
        rater = np.concatenate([self.rater[selected], np.full(len(items), len(self.raters))])
        present = np.concatenate([self.codes("binary")[selected], expected])
        counts = {"binary": self.counts["binary"][pairable] + np.eye(2, dtype=np.int64)[expected]}
        # Present and absent become the ends of the scale, so that `codes` still converts them.
        rating = present * (len(self.subset.levels) - 1)
        names = [*self.raters, "prior"]
        return Votes(self.subset, items, counts, item, rater, rating, names, fixed=(len(self.raters),))

    def deletions(
        self, scale: str, contribute: Callable[[IntArray], NDArray[np.float64]], bootstrap: Bootstrap
    ) -> RatingDeletions | None:
        """Sums without each rater, for intervals that speak for new raters.

        Parameters
        ----------
        scale : {"binary", "ordinal"}
        contribute : callable
            Maps the counts of items, (m, q), to their contributions, (m, d).
        bootstrap : Bootstrap
            Bootstrap over the clips of `items`.

        Returns
        -------
        RatingDeletions or None
            None if intervals speak for other clips only.
        """
        if bootstrap.resample == "clips":
            return None
        drawn = np.flatnonzero(~np.isin(self.rater, self.fixed))
        item, code, counts = self.item[drawn], self.codes(scale)[drawn], self.counts[scale]
        one = np.eye(counts.shape[1], dtype=np.int64)

        def change(ratings: IntArray) -> NDArray[np.float64]:
            before = counts[item[ratings]]
            return contribute(before - one[code[ratings]]) - contribute(before)

        return RatingDeletions(item, self.rater[drawn], change)


def agreement(votes: Votes, bootstrap: Bootstrap, required: int) -> dict[str, Estimate]:
    """Agreement coefficients over all raters.

    Parameters
    ----------
    votes : Votes
    bootstrap : Bootstrap
        Bootstrap over the clips of `votes.items`.
    required : int
        Number of raters that makes an item complete.

    Returns
    -------
    dict of str to Estimate
        Percent agreement, share of complete items on which all raters agree, Fleiss' kappa, Krippendorff's alpha,
        Gwet's AC1 or AC2 and the Brennan-Prediger coefficient, for each scale. The suffix of a name is the scale.

    Notes
    -----
    Estimates are undefined if no item has two ratings. Chance-corrected coefficients are also undefined if only one
    category was used.
    References are in METRICS.md and `metrics.agreement`.
    """
    result: dict[str, Estimate] = {}
    pairable = votes.raters_per_item > 1
    n_pairable = int(pairable.sum())
    for scale, counts in votes.counts.items():
        contributions = coefficients.item_contributions(counts)
        formulas = _formulas(scale)
        why = ONE_CATEGORY if n_pairable else NO_PAIRS
        units, category_units = (
            bootstrap.units_with(pairable, WITH_TWO_RATERS),
            _units_of_categories(votes, bootstrap, pairable),
        )
        estimates = bootstrap.estimates(
            contributions,
            lambda sums, formulas=formulas: np.stack(
                [f(AgreementSums.from_sums(sums)) for f in formulas.values()], axis=-1
            ),  # type: ignore[misc]
            n=[n_pairable] * len(formulas),
            why=[why] * len(formulas),
            units=[units, *[category_units] * (len(formulas) - 1)],
            values=[SHARE, *[COEFFICIENT] * (len(formulas) - 1)],
            deletions=votes.deletions(scale, coefficients.item_contributions, bootstrap),
        )
        result |= {
            f"exact_all_{scale}": _exact_all(votes, scale, bootstrap, required),
            **dict(zip(formulas, estimates, strict=True)),
        }
        alpha = f"krippendorff_alpha_{scale}"
        if result[alpha].value is not None:
            level: Any = "nominal" if scale == "binary" else "ordinal"
            result[alpha] = replace(result[alpha], value=coefficients.krippendorff_alpha(counts, level))
    return result


def _units_of_categories(votes: Votes, bootstrap: Bootstrap, items: NDArray[np.bool_]) -> Units:
    """Clips with a rating of the rarer category, which determine the precision of chance-corrected agreement."""
    binary = votes.counts["binary"] * items[:, np.newaxis]
    return min(
        bootstrap.units_with(binary[:, category] > 0, f"with an item rated {name}")
        for category, name in enumerate(CATEGORIES)
    )


def _formulas(scale: str) -> dict[str, Any]:
    """Coefficients by name. A new one also needs a sentence in definitions.toml and in METRICS.md."""
    level: Any = {"binary": "nominal", "ordinal": "ordinal"}[scale]
    weighting: Any = {"binary": "unweighted", "ordinal": "quadratic"}[scale]
    gwet = {"binary": "gwet_ac1_binary", "ordinal": "gwet_ac2_ordinal"}[scale]
    return {
        f"percent_{scale}": coefficients.percent_agreement,
        f"fleiss_kappa_{scale}": coefficients.fleiss_kappa,
        f"krippendorff_alpha_{scale}": lambda sums: coefficients.alpha_from_sums(sums, level),
        gwet: lambda sums: coefficients.gwet_ac(sums, weighting),
        f"brennan_prediger_{scale}": lambda sums: coefficients.brennan_prediger(sums, weighting),
    }


def _exact_all(votes: Votes, scale: str, bootstrap: Bootstrap, required: int) -> Estimate:
    def contribute(counts: IntArray) -> NDArray[np.float64]:
        raters = counts.sum(axis=1)
        complete = (raters >= required) & (raters > 1)
        return np.stack([complete & (counts.max(axis=1, initial=0) == raters), complete], axis=1).astype(float)

    contributions = contribute(votes.counts[scale])
    complete = contributions[:, 1] > 0
    return bootstrap.estimate(
        contributions,
        _share,
        n=int(complete.sum()),
        why=f"no item was rated by {required} raters",
        units=bootstrap.units_with(complete, "with a complete item"),
        deletions=votes.deletions(scale, contribute, bootstrap),
    )


def _share(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return ratio(sums[..., 0], sums[..., 1])


# --- pairs of raters ----------------------------------------------------------------------------------------


def co_ratings(votes: Votes, scale: str = "binary") -> RaterPairs | None:
    """All pairs of ratings of the same item by two raters.

    Parameters
    ----------
    votes : Votes
    scale : {"binary", "ordinal"}

    Returns
    -------
    RaterPairs or None
        None if there are more than MAX_PAIR_ENTRIES pairs.
    """
    raters = votes.raters_per_item
    if (raters * (raters - 1) // 2).sum() > MAX_PAIR_ENTRIES:
        return None
    if scale == "binary":
        return votes.binary_pairs
    return coefficients.rater_pairs(votes.item, votes.rater, votes.codes(scale))


def confusion_contributions(pairs: RaterPairs, n_categories: int) -> sparse.csr_array:
    """Contribution of each pair of ratings to the confusion matrix of its pair of raters.

    Parameters
    ----------
    pairs : RaterPairs
    n_categories : int

    Returns
    -------
    sparse array, (n_pairs_of_ratings, n_pairs_of_raters · n_categories²)
        Each row has a single 1.
    """
    n = len(pairs.pair)
    shape = (n, len(pairs.first) * n_categories**2)
    return sparse.csr_array((np.ones(n), (np.arange(n), pairs.cells(n_categories))), shape=shape)


def pair_kappas(votes: Votes, bootstrap: Bootstrap) -> tuple[dict[str, Estimate], dict[str, dict[str, Any]]]:
    """Cohen's kappa of each pair of raters, its mean over pairs, and the pooled kappa.

    Parameters
    ----------
    votes : Votes
    bootstrap : Bootstrap
        Bootstrap over the clips of `votes.items`.

    Returns
    -------
    summary : dict of str to Estimate
        `cohen_kappa_<scale>_mean` and `cohen_kappa_<scale>_pooled`; on an ordinal scale also with quadratic weights.
    pairs : dict of str to dict
        One entry per pair of raters with common items: {"user_0__user_1": {"n": items, "cohen_kappa_binary": …}}.

    Notes
    -----
    The mean is biased towards 0 if pairs have few common items. The pooled kappa, computed from one symmetric table of
    all pairs of ratings, is not.
    """
    means: dict[str, Estimate] = {}
    listed: dict[str, dict[str, Any]] = {}
    for scale, counts in votes.counts.items():
        q = counts.shape[1]
        pairs = co_ratings(votes, scale)
        weightings = {"": "unweighted"} if scale == "binary" else {"": "unweighted", "_quadratic": "quadratic"}
        for suffix, weighting in weightings.items():
            name = f"cohen_kappa_{scale}{suffix}"
            means[f"{name}_pooled"] = _pooled_kappa(votes, bootstrap, scale, weighting)
            if pairs is None or not len(pairs.first):
                means[f"{name}_mean"] = Estimate(None, why=NO_PAIRS if pairs is not None else TOO_MANY_PAIRS)
                continue

            def kappas(sums: NDArray[np.float64], q: int = q, weighting: Any = weighting) -> NDArray[np.float64]:
                per_pair = coefficients.cohen_kappa(sums.reshape(*sums.shape[:-1], -1, q, q), weighting)
                return np.concatenate([coefficients.nanmean(per_pair)[..., None], per_pair], axis=-1)

            def of_pairs(sums: NDArray[np.float64], kappas: Any = kappas) -> tuple[Any, Any]:
                per_pair = kappas(sums)[..., 1:, np.newaxis]
                return per_pair, np.ones_like(per_pair)

            shared = np.bincount(pairs.pair, minlength=len(pairs.first)).tolist()
            pair_bootstrap = bootstrap.take(pairs.item)
            mean, *kappa_estimates = pair_bootstrap.estimates(
                confusion_contributions(pairs, q),
                kappas,
                n=[len(shared), *shared],
                why=[
                    "no pair of raters has a defined kappa",
                    *["both raters used the same single category"] * len(shared),
                ],
                units=[pair_bootstrap.units, *_units_of_pairs(pairs, pair_bootstrap)],
                values=[COEFFICIENT] * (1 + len(shared)),
                deletions=_pair_deletions(votes, pairs, of_pairs),
            )
            mean = replace(mean, n=sum(each.value is not None for each in kappa_estimates))
            means[f"{name}_mean"] = _with_smallest_pair(mean, min(shared))
            for first, second, n, estimate in zip(pairs.first, pairs.second, shared, kappa_estimates, strict=True):
                pair = listed.setdefault(f"{votes.raters[first]}__{votes.raters[second]}", {"n": n})
                pair[name] = estimate
    return means, listed


def _pair_deletions(votes: Votes, pairs: RaterPairs, values: Callable[..., Any]) -> PairDeletions:
    """Means over pairs without each rater."""
    shared = np.bincount(pairs.pair, minlength=len(pairs.first)).astype(np.int64)
    return PairDeletions(pairs.first, pairs.second, values, shared, votes.fixed)


def _units_of_pairs(pairs: RaterPairs, bootstrap: Bootstrap) -> list[Units]:
    """Number of clips with a common item, for each pair of raters."""
    clips = distinct_members(pairs.pair, bootstrap.unit, len(pairs.first), bootstrap.n_units)
    return [Units(int(n), f"{bootstrap.name} rated by both") for n in clips]


def _with_smallest_pair(estimate: Estimate, smallest: int) -> Estimate:
    """Add a note to a mean over pairs if a pair has few common items, which biases the mean."""
    if smallest >= MIN_UNITS or estimate.value is None:
        return estimate
    items = "item" if smallest == 1 else "items"
    few = f"a pair of raters has only {smallest} common {items}, which biases means over pairs; use the pooled value"
    return replace(estimate, note="; ".join(filter(None, [estimate.note, few])))


def pooled_pairs(counts: IntArray) -> NDArray[np.float64]:
    """Ordered pairs of ratings of each item, by category.

    Parameters
    ----------
    counts : (n_items, q) int
        Number of ratings in each category.

    Returns
    -------
    (n_items, q²) float
        Symmetric q × q tables, flattened.

    Examples
    --------
    >>> pooled_pairs(np.array([[2, 1]])).tolist()
    [[2.0, 2.0, 2.0, 0.0]]
    """
    q = counts.shape[1]
    pairs = counts[:, :, np.newaxis] * counts[:, np.newaxis, :] - np.einsum("ik,kl->ikl", counts, np.eye(q))
    return np.asarray(pairs, dtype=float).reshape(len(counts), q * q)


def _pooled_kappa(votes: Votes, bootstrap: Bootstrap, scale: str, weighting: Any) -> Estimate:
    counts = votes.counts[scale]
    q, pairable = counts.shape[1], votes.raters_per_item > 1
    return bootstrap.estimate(
        pooled_pairs(counts),
        lambda sums: coefficients.cohen_kappa(sums.reshape(*sums.shape[:-1], q, q), weighting),
        n=int(pairable.sum()),
        why=ONE_CATEGORY if pairable.any() else NO_PAIRS,
        units=_units_of_categories(votes, bootstrap, pairable),
        values=COEFFICIENT,
        deletions=votes.deletions(scale, pooled_pairs, bootstrap),
    )


# --- the human ceiling --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HumanCeiling:
    """Human ceiling: accuracy of one rater as a predictor of the other raters.

    Attributes
    ----------
    pairwise_accuracy, pairwise_balanced_accuracy : Estimate
        Mean over pairs of raters, on their common items.
    pairwise_accuracy_weighted, pairwise_balanced_accuracy_weighted : Estimate
        Mean over pairs of raters, weighted by their number of common items.
    pairwise_balanced_accuracy_pooled : Estimate or None
        From one symmetric table of all pairs of ratings, which pairs with few common items do not bias. The pooled
        accuracy equals the weighted one.
    loo_accuracy, loo_balanced_accuracy : Estimate
        Leave-one-rater-out: each rating against the untied majority of at least two other raters of the item.
    loo_n_annotations : int
        Number of ratings in the leave-one-rater-out comparison.
    """

    pairwise_accuracy: Estimate
    pairwise_balanced_accuracy: Estimate
    pairwise_accuracy_weighted: Estimate
    pairwise_balanced_accuracy_weighted: Estimate
    pairwise_balanced_accuracy_pooled: Estimate | None = None  # absent from summaries of early versions
    loo_accuracy: Estimate
    loo_balanced_accuracy: Estimate
    loo_n_annotations: int

    @property
    def estimates(self) -> dict[str, Estimate]:
        """All estimates by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Estimate)}


def human_ceiling(votes: Votes, bootstrap: Bootstrap) -> HumanCeiling:
    """Estimate the human ceiling, against single other raters and against the majority of the others.

    Parameters
    ----------
    votes : Votes
    bootstrap : Bootstrap
        Bootstrap over the clips of `votes.items`.

    Returns
    -------
    HumanCeiling
        Undefined estimates have a reason.
    """
    pairs = co_ratings(votes)
    pairable = votes.raters_per_item > 1
    category_units = _units_of_categories(votes, bootstrap, pairable)
    names = ["accuracy", "balanced_accuracy", "accuracy_weighted", "balanced_accuracy_weighted"]
    if pairs is None or not len(pairs.first):
        pairwise = [Estimate(None, why=TOO_MANY_PAIRS if pairs is None else NO_PAIRS)] * 4
    else:
        pair_bootstrap = bootstrap.take(pairs.item)
        pairwise = pair_bootstrap.estimates(
            confusion_contributions(pairs, 2),
            lambda sums: coefficients.pairwise_accuracies(sums.reshape(*sums.shape[:-1], -1, 2, 2)),
            n=[len(pairs.item)] * 4,
            why=["no rater of any pair used both classes"] * 4,
            units=[pair_bootstrap.units, category_units, pair_bootstrap.units, category_units],
            deletions=_pair_deletions(votes, pairs, _accuracies_of_pairs),
        )
        smallest = int(np.bincount(pairs.pair).min())
        means = [_with_smallest_pair(estimate, smallest) for estimate in pairwise[:2]]
        pairwise = [*means, *pairwise[2:]]
    held_out = coefficients.leave_one_out(votes.counts["binary"])
    without_rater = votes.deletions("binary", coefficients.leave_one_out, bootstrap)
    n = int(held_out.sum())
    others_present, others_absent = held_out[:, :2].sum(axis=1) > 0, held_out[:, 2:].sum(axis=1) > 0
    untied = bootstrap.units_with(others_present | others_absent, "with an untied majority of other raters")
    classes = zip((others_present, others_absent), reversed(CATEGORIES), strict=True)
    loo = bootstrap.estimates(
        held_out,
        _accuracies,
        n=[n, n],
        why=[NO_LEAVE_ONE_OUT, NO_LEAVE_ONE_OUT if not n else "all majorities have the same class"],
        units=[untied, untied],
        deletions=without_rater,
    )
    class_units = [bootstrap.units_with(items, f"where the other raters chose {name}") for items, name in classes]
    # Columns of decision_contributions: true and false positives, true and false negatives.
    order = [0, 3, 2, 1]
    balanced_loo = balanced_accuracy(
        held_out[:, order],
        bootstrap,
        class_units,
        n=n,
        why=loo[1].why or "",
        deletions=votes.deletions("binary", lambda counts: coefficients.leave_one_out(counts)[:, order], bootstrap),
    )
    pooled = bootstrap.estimate(
        pooled_pairs(votes.counts["binary"]),
        lambda sums: coefficients.pairwise_accuracies(sums.reshape(*sums.shape[:-1], 1, 2, 2))[..., 1],
        n=int((votes.raters_per_item * (votes.raters_per_item - 1)).sum()) // 2,
        why=ONE_CATEGORY if pairable.any() else NO_PAIRS,
        units=category_units,
        deletions=votes.deletions("binary", pooled_pairs, bootstrap),
    )
    if len(np.flatnonzero(votes.counts["binary"][pairable].sum(axis=0))) < 2:
        pooled = Estimate(None, n=pooled.n, why=ONE_CATEGORY if pairable.any() else NO_PAIRS)
    return HumanCeiling(
        **{f"pairwise_{name}": estimate for name, estimate in zip(names, pairwise, strict=True)},
        pairwise_balanced_accuracy_pooled=pooled,
        loo_accuracy=loo[0],
        loo_balanced_accuracy=balanced_loo if loo[1].value is not None else loo[1],
        loo_n_annotations=n,
    )


def _accuracies_of_pairs(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracies of each pair of raters as in `pairwise_accuracies`, and their weights in the means, (…, pairs, 4)."""
    tables = sums.reshape(*sums.shape[:-1], -1, 2, 2)
    of_pairs = coefficients.pairwise_accuracies(tables[..., np.newaxis, :, :])
    shared = tables.sum(axis=(-2, -1))
    once = (shared > 0).astype(float)
    return of_pairs, np.stack([once, once, shared, shared], axis=-1)


def _accuracies(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracy and balanced accuracy from true positives, false negatives, true negatives, false positives."""
    accuracy = _share(np.stack([sums[..., 0] + sums[..., 2], sums.sum(axis=-1)], axis=-1))
    sensitivity = _share(np.stack([sums[..., 0], sums[..., 0] + sums[..., 1]], axis=-1))
    specificity = _share(np.stack([sums[..., 2], sums[..., 2] + sums[..., 3]], axis=-1))
    return np.stack([accuracy, (sensitivity + specificity) / 2], axis=-1)


# --- emolia-bench -------------------------------------------------------------------------------------------


def emolia_bench_agreement(votes: Votes, required: int) -> dict[str, float | int | None]:
    """Agreement as defined by emolia-bench, where it differs from `agreement`.

    Parameters
    ----------
    votes : Votes
    required : int
        Only items with exactly this number of ratings are used.

    Returns
    -------
    dict of str to float, int or None
        `items_complete`, and for each scale `exact_3way_*`, `pairwise_exact_*` (mean over pairs of raters of the share
        of items with equal ratings; items that either rater did not rate count as unequal) and `fleiss_*_kappa`. None
        if undefined.
    """
    exactly = np.flatnonzero(votes.raters_per_item == required)
    values: dict[str, float | int | None] = {"items_complete": len(exactly)}
    seen = np.isin(votes.item, exactly)
    n_raters = len(np.unique(votes.rater[seen]))
    for scale, counts in votes.counts.items():
        complete = counts[exactly]
        contributions = coefficients.item_contributions(complete)
        sums = AgreementSums.from_sums(contributions.sum(axis=0))
        comparisons = n_raters * (n_raters - 1) * len(exactly)
        values |= {
            f"exact_3way_{scale}": _number((complete.max(axis=1) == required).mean()) if len(exactly) else None,
            f"pairwise_exact_{scale}": float(sums.agreeing) / comparisons if comparisons else None,
            f"fleiss_{scale}_kappa": _number(coefficients.fleiss_kappa(sums)),
        }
    return values


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
