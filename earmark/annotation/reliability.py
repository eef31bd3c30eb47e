"""How far raters agree, and how well a person predicts the others.

Every figure is a formula on sums over items, with an interval over clips (`metrics.resampling`).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from earmark.annotation.labels import item_counts
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import Annotations
from earmark.metrics import agreement as coefficients
from earmark.metrics.agreement import AgreementSums, RaterPairs
from earmark.metrics.bootstrap import Bootstrap, Units
from earmark.metrics.classification import balanced_accuracy
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import COEFFICIENT, MIN_UNITS, SHARE
from earmark.metrics.ratio import ratio

IntArray = NDArray[np.int64]

NO_PAIRS = "no item was rated by two raters"
ONE_CATEGORY = "only one category was used, so there was nothing to agree about"
NO_LEAVE_ONE_OUT = "no rating faces two others that are not tied"
TOO_MANY_PAIRS = "more pairs of raters than can be held in memory; the figures that do not name raters stand"
MAX_PAIR_ENTRIES = 20_000_000
RATED_TWICE = "with an item that two people rated"
SIDES = ("absent", "present")


@dataclass(frozen=True)
class Votes:
    """The ratings of a subset as arrays.

    items: keys, one row per item. counts: {"binary": (items, 2), "ordinal": (items, scale)}.
    item, rater, rating: (ratings,) codes. raters: pseudonyms by code.
    """

    subset: Subset
    items: pd.DataFrame
    counts: dict[str, IntArray]
    item: IntArray
    rater: IntArray
    rating: IntArray
    raters: list[str]

    @classmethod
    def from_annotations(cls, annotations: Annotations) -> "Votes":
        """The votes behind a subset's checked tables."""
        subset, ratings = annotations.subset, annotations.ratings
        items, counts, item = item_counts(annotations)
        binary = np.stack([counts[:, : subset.first_present].sum(1), counts[:, subset.first_present :].sum(1)], axis=1)
        raters = sorted(ratings["username"].unique(), key=lambda name: (len(name), name))  # user_9 before user_10
        rater = ratings["username"].map({name: code for code, name in enumerate(raters)}).to_numpy(dtype=np.int64)
        scales = {"binary": binary, "ordinal": counts} if subset.is_ordinal else {"binary": binary}
        return cls(subset, items, scales, item, rater, ratings["rating"].to_numpy(dtype=np.int64), raters)

    @property
    def raters_per_item(self) -> IntArray:
        """How many people rated each item."""
        return self.counts["binary"].sum(axis=1)

    def codes(self, scale: str) -> IntArray:
        """The ratings on a scale: (ratings,) positions on the subset's scale, or 0 absent, 1 present."""
        return self.rating if scale == "ordinal" else (self.rating >= self.subset.first_present).astype(np.int64)

    def with_prior(self) -> "Votes":
        """The binary votes on items with at least two humans, and what the sampling expected as one more rater."""
        kept = self.raters_per_item >= 2
        new_code = np.cumsum(kept) - 1
        mine = kept[self.item]
        items = self.items[kept].reset_index(drop=True)
        expected = (items[self.subset.prior.column] == self.subset.prior.value).to_numpy(dtype=np.int64)
        item = np.concatenate([new_code[self.item[mine]], np.arange(len(items))])
        rater = np.concatenate([self.rater[mine], np.full(len(items), len(self.raters))])
        present = np.concatenate([self.codes("binary")[mine], expected])
        counts = {"binary": self.counts["binary"][kept] + np.eye(2, dtype=np.int64)[expected]}
        # Present and absent sit at the ends of the scale, so that the subset still tells them apart.
        rating = present * (len(self.subset.scale) - 1)
        return Votes(self.subset, items, counts, item, rater, rating, [*self.raters, "prior"])


def agreement(votes: Votes, bootstrap: Bootstrap, required: int) -> dict[str, Estimate]:
    """The estimates under `agreement` of summary.json: shares of agreement, kappas, alphas.

    bootstrap: replicates of the clips of votes.items. required: raters an item needs to be complete.
    """
    found: dict[str, Estimate] = {}
    pairable = votes.raters_per_item > 1
    n_pairable = int(pairable.sum())
    for scale, counts in votes.counts.items():
        contributions = coefficients.item_contributions(counts)
        formulas = _formulas(scale)
        why = ONE_CATEGORY if n_pairable else NO_PAIRS
        units, beyond_chance = (
            bootstrap.units_with(pairable, RATED_TWICE),
            _units_of_categories(votes, bootstrap, pairable),
        )
        estimates = bootstrap.estimates(
            contributions,
            lambda sums, formulas=formulas: np.stack(
                [f(AgreementSums.from_sums(sums)) for f in formulas.values()], axis=-1
            ),  # type: ignore[misc]
            n=[n_pairable] * len(formulas),
            why=[why] * len(formulas),
            units=[units, *[beyond_chance] * (len(formulas) - 1)],
            values=[SHARE, *[COEFFICIENT] * (len(formulas) - 1)],
        )
        found |= {
            f"exact_all_{scale}": _exact_all(counts, bootstrap, required),
            **dict(zip(formulas, estimates, strict=True)),
        }
        alpha = f"krippendorff_alpha_{scale}"
        if found[alpha].value is not None:
            level: Any = "nominal" if scale == "binary" else "ordinal"
            found[alpha] = replace(found[alpha], value=coefficients.krippendorff_alpha(counts, level))
    return found


def _units_of_categories(votes: Votes, bootstrap: Bootstrap, items: NDArray[np.bool_]) -> Units:
    """Clips that tell how far people agree beyond chance: those with a rating of the side that fewer clips have."""
    binary = votes.counts["binary"] * items[:, np.newaxis]
    sides = [bootstrap.units_with(binary[:, side] > 0, f"with a rating {name}") for side, name in enumerate(SIDES)]
    return min(sides)


def _formulas(scale: str) -> dict[str, Any]:
    """Coefficients by name; adding one is adding a line here, a sentence to definitions.toml and one to METRICS.md."""
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


def _exact_all(counts: IntArray, bootstrap: Bootstrap, required: int) -> Estimate:
    raters = counts.sum(axis=1)
    complete = (raters >= required) & (raters > 1)
    contributions = np.stack([complete & (counts.max(axis=1, initial=0) == raters), complete], axis=1).astype(float)
    return bootstrap.estimate(
        contributions,
        _share,
        n=int(complete.sum()),
        why=f"no item was rated by {required} raters",
        units=bootstrap.units_with(complete, "with a complete item"),
    )


def _share(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return ratio(sums[..., 0], sums[..., 1])


# --- pairs of raters ----------------------------------------------------------------------------------------


def co_ratings(votes: Votes, scale: str = "binary") -> RaterPairs | None:
    """Every two ratings of the same item; None where there are too many to hold."""
    raters = votes.raters_per_item
    if (raters * (raters - 1) // 2).sum() > MAX_PAIR_ENTRIES:
        return None
    return coefficients.rater_pairs(votes.item, votes.rater, votes.codes(scale))


def confusion_contributions(pairs: RaterPairs, n_categories: int) -> sparse.csr_array:
    """Each co-rating's place in the confusion matrices of all pairs of raters: (entries, pairs · q²), one 1 a row."""
    n = len(pairs.pair)
    shape = (n, len(pairs.first) * n_categories**2)
    return sparse.csr_array((np.ones(n), (np.arange(n), pairs.cells(n_categories))), shape=shape)


def pair_kappas(votes: Votes, bootstrap: Bootstrap) -> tuple[dict[str, Estimate], dict[str, dict[str, Any]]]:
    """Cohen's kappa of all pairs of raters together, of every pair with common items, and its mean over pairs.

    Returns the estimates `cohen_kappa_*_pooled` and `cohen_kappa_*_mean`, and {"user_0__user_1": {"n": items,
    "cohen_kappa_binary": …}}. Ordinal scales also get the quadratically weighted kappa. The mean is biased towards 0
    where pairs share few items; the pooled kappa, of one symmetric table of all pairs of ratings, is not.
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

            shared = np.bincount(pairs.pair, minlength=len(pairs.first)).tolist()
            of_pairs = bootstrap.take(pairs.item)
            mean, *each = of_pairs.estimates(
                confusion_contributions(pairs, q),
                kappas,
                n=[len(shared), *shared],
                why=[
                    "no pair of raters has a defined kappa",
                    *["both raters gave one and the same rating"] * len(shared),
                ],
                units=[of_pairs.units, *_units_of_pairs(pairs, of_pairs)],
                values=[COEFFICIENT] * (1 + len(shared)),
            )
            means[f"{name}_mean"] = _with_smallest_pair(mean, min(shared))
            for first, second, n, estimate in zip(pairs.first, pairs.second, shared, each, strict=True):
                pair = listed.setdefault(f"{votes.raters[first]}__{votes.raters[second]}", {"n": n})
                pair[name] = estimate
    return means, listed


def _units_of_pairs(pairs: RaterPairs, bootstrap: Bootstrap) -> list[Units]:
    """The clips on which each pair of raters has an item in common."""
    distinct = np.unique(pairs.pair * np.int64(bootstrap.n_units) + bootstrap.unit)
    clips = np.bincount(distinct // bootstrap.n_units, minlength=len(pairs.first))
    return [Units(int(n), f"{bootstrap.name} that both rated") for n in clips]


def _with_smallest_pair(estimate: Estimate, smallest: int) -> Estimate:
    """A mean over pairs with a note where some pair shares few items, which biases it."""
    if smallest >= MIN_UNITS or estimate.value is None:
        return estimate
    few = f"a pair of raters shares {smallest} items only, which biases means over pairs: see the pooled value"
    return replace(estimate, note="; ".join(filter(None, [estimate.note, few])))


def pooled_pairs(counts: IntArray) -> NDArray[np.float64]:
    """Each item's ordered pairs of ratings by two people, by category: (items, q²), symmetric.

    counts: (items, q) votes.

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
    )


# --- the human ceiling --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HumanCeiling:
    """How well a person predicts the others.

    pairwise_*: mean over pairs of raters; *_weighted: pairs weigh the items they share; *_pooled: of one symmetric
    table of all pairs of ratings, which few items of a pair do not bias (of accuracy the weighted mean is that).
    loo_*: each rating against the majority of at least two others, where they are not tied.
    """

    pairwise_accuracy: Estimate
    pairwise_balanced_accuracy: Estimate
    pairwise_accuracy_weighted: Estimate
    pairwise_balanced_accuracy_weighted: Estimate
    pairwise_balanced_accuracy_pooled: Estimate | None = None  # absent from summaries of early states
    loo_accuracy: Estimate
    loo_balanced_accuracy: Estimate
    loo_n_annotations: int

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Those that exist, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Estimate)}


def human_ceiling(votes: Votes, bootstrap: Bootstrap) -> HumanCeiling:
    """How well a person predicts: against another person, and against the majority of the others."""
    pairs = co_ratings(votes)
    pairable = votes.raters_per_item > 1
    balanced = _units_of_categories(votes, bootstrap, pairable)
    names = ["accuracy", "balanced_accuracy", "accuracy_weighted", "balanced_accuracy_weighted"]
    if pairs is None or not len(pairs.first):
        pairwise_figures = [Estimate(None, why=TOO_MANY_PAIRS if pairs is None else NO_PAIRS)] * 4
    else:
        of_pairs = bootstrap.take(pairs.item)
        pairwise_figures = of_pairs.estimates(
            confusion_contributions(pairs, 2),
            lambda sums: coefficients.pairwise_accuracies(sums.reshape(*sums.shape[:-1], -1, 2, 2)),
            n=[len(pairs.item)] * 4,
            why=["no rater of any pair used both classes"] * 4,
            units=[of_pairs.units, balanced, of_pairs.units, balanced],
        )
        smallest = int(np.bincount(pairs.pair).min())
        means = [_with_smallest_pair(figure, smallest) for figure in pairwise_figures[:2]]
        pairwise_figures = [*means, *pairwise_figures[2:]]
    held_out = coefficients.leave_one_out(votes.counts["binary"])
    n = int(held_out.sum())
    said_present, said_absent = held_out[:, :2].sum(axis=1) > 0, held_out[:, 2:].sum(axis=1) > 0
    held = bootstrap.units_with(said_present | said_absent, "with such a rating")
    sides = zip((said_present, said_absent), reversed(SIDES), strict=True)
    loo = bootstrap.estimates(
        held_out,
        _accuracies,
        n=[n, n],
        why=[NO_LEAVE_ONE_OUT, NO_LEAVE_ONE_OUT if not n else "the majorities are all of one class"],
        units=[held, held],
    )
    of_sides = [bootstrap.units_with(of, f"whose others say {name}") for of, name in sides]
    # Columns of decision_contributions: true and false positives, true and false negatives.
    balanced_loo = balanced_accuracy(held_out[:, [0, 3, 2, 1]], bootstrap, of_sides, n=n, why=loo[1].why or "")
    pooled = bootstrap.estimate(
        pooled_pairs(votes.counts["binary"]),
        lambda sums: coefficients.pairwise_accuracies(sums.reshape(*sums.shape[:-1], 1, 2, 2))[..., 1],
        n=int((votes.raters_per_item * (votes.raters_per_item - 1)).sum()) // 2,
        why=ONE_CATEGORY if pairable.any() else NO_PAIRS,
        units=balanced,
    )
    if len(np.flatnonzero(votes.counts["binary"][pairable].sum(axis=0))) < 2:
        pooled = Estimate(None, n=pooled.n, why=ONE_CATEGORY if pairable.any() else NO_PAIRS)
    return HumanCeiling(
        **{f"pairwise_{name}": figure for name, figure in zip(names, pairwise_figures, strict=True)},
        pairwise_balanced_accuracy_pooled=pooled,
        loo_accuracy=loo[0],
        loo_balanced_accuracy=balanced_loo if loo[1].value is not None else loo[1],
        loo_n_annotations=n,
    )


def _accuracies(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracy and balanced accuracy from true positives, false negatives, true negatives, false positives."""
    accuracy = _share(np.stack([sums[..., 0] + sums[..., 2], sums.sum(axis=-1)], axis=-1))
    sensitivity = _share(np.stack([sums[..., 0], sums[..., 0] + sums[..., 1]], axis=-1))
    specificity = _share(np.stack([sums[..., 2], sums[..., 2] + sums[..., 3]], axis=-1))
    return np.stack([accuracy, (sensitivity + specificity) / 2], axis=-1)


# --- what emolia-bench printed ------------------------------------------------------------------------------


def emolia_bench_figures(votes: Votes, required: int) -> dict[str, float | int | None]:
    """The figures of emolia-bench where they differ from ours, computed as it computed them.

    On items with exactly `required` ratings. pairwise_exact_*: the mean over all pairs of raters of the share
    of items with equal ratings, where an item that either of them never saw counts as unequal.
    """
    exactly = np.flatnonzero(votes.raters_per_item == required)
    figures: dict[str, float | int | None] = {"items_complete": len(exactly)}
    seen = np.isin(votes.item, exactly)
    n_raters = len(np.unique(votes.rater[seen]))
    for scale, counts in votes.counts.items():
        complete = counts[exactly]
        contributions = coefficients.item_contributions(complete)
        sums = AgreementSums.from_sums(contributions.sum(axis=0))
        comparisons = n_raters * (n_raters - 1) * len(exactly)
        figures |= {
            f"exact_3way_{scale}": _number((complete.max(axis=1) == required).mean()) if len(exactly) else None,
            f"pairwise_exact_{scale}": float(sums.agreeing) / comparisons if comparisons else None,
            f"fleiss_{scale}_kappa": _number(coefficients.fleiss_kappa(sums)),
        }
    return figures


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
