"""Similarity against mean ratings, for ordinal and interval scales.

The similarity of a clip with one sentence is correlated with the mean rating of the clip: Spearman, Pearson, and Lin's
concordance after a cross-fitted linear scaling. Similarities of different sentences have no common zero; where a subset
has several sentences, the mean over sentences of the correlation within each is reported too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.annotation.parity import Parity
from earmark.audio_text.pairs import PairTable
from earmark.audio_text.scale_pairs import MEAN_COLUMNS, HeldOutNumbers
from earmark.audio_text.scale_schema import ScaleBenchmarkResult, SentenceScores, SliceScores
from earmark.audio_text.sentence_scores import SentenceSimilarities, item_labels, wording_scores
from earmark.audio_text.single_raters import ALL_EQUAL, Ratings, ScoredItems, SingleRaters, compare_numbers
from earmark.audio_text.wordings import Wordings
from earmark.audio_text.zero_shot import ScaleEvaluation, slice_scores_table, slice_values
from earmark.metrics.bootstrap import Bootstrap, paired_difference
from earmark.metrics.classification import assign_folds
from earmark.metrics.estimate import Estimate
from earmark.metrics.group_correlation import (
    NO_GROUP,
    GroupCorrelations,
    cross_fitted_concordance,
    moment_replicates,
    spearman_replicates,
)
from earmark.metrics.interval_agreement import concordance, correlation
from earmark.metrics.intervals import COEFFICIENT
from earmark.metrics.rater_resampling import RaterVariation, noise_replicates, rater_variations
from earmark.metrics.resample import Resample

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PREFIX = "mean_rating_"
FOLDS = 5
NO_ITEM = "no item was scored"
NO_RATER = "no rater has three items whose ratings and references vary"
NOT_OVER_RATERS: Sequence[RaterVariation | None] = (None, None, None)
CHOSEN_BY_RATINGS = "the items were chosen by the ratings that would be held out (--unanimous-only)"


def evaluate_mean_ratings(
    pairs: PairTable,
    similarities: SentenceSimilarities,
    wordings: Wordings,
    *,
    held_out: HeldOutNumbers | str,
    replicates: int,
    rng: np.random.Generator,
    by: Sequence[str] = (),
    resample: Resample = "clips",
    ratings: Ratings | None = None,
) -> ScaleEvaluation:
    """Evaluate similarities against the mean ratings of an ordinal or interval subset.

    Parameters
    ----------
    pairs : PairTable
        From `load_scale_pairs`.
    similarities : SentenceSimilarities
        One row per item, one column per wording.
    wordings : Wordings
    held_out : HeldOutNumbers or str
        Held-out ratings of the items, or why there are none.
    replicates : int
        Number of bootstrap replicates over clips; 0 for no intervals.
    rng : numpy.random.Generator
    by : sequence of str
        Keys of the clips' JSON files to slice by, in addition to the slices of the subset.
    resample : {"clips", "raters", "both"}
        What intervals of the comparison with raters speak for.
    ratings : Ratings or None
        Single ratings of the items, for the comparison with single raters; None where `held_out` has a reason.

    Returns
    -------
    ScaleEvaluation
    """
    table, ok, similarity = pairs.table, similarities.ok, similarities.mean
    valid = np.flatnonzero(ok)
    labels = item_labels(table, pairs)
    sentence, names = _codes([labels[i] for i in valid])
    x, y = similarity[valid], table["mean"].to_numpy(dtype=float)[valid]
    bootstrap_rng, folds_rng, parity_rng = rng.spawn(3)
    clips = table["sampling_unit"].to_numpy(dtype=object).astype(str)
    bootstrap = Bootstrap.from_units(clips[valid], replicates, bootstrap_rng)
    metrics, scaled = _scores(x, y, sentence, bootstrap, folds_rng)
    full = np.full(len(table), np.nan)
    if len(scaled):
        full[valid] = scaled
    each = {}
    for k in range(wordings.count if wordings.path is not None else 0):
        has = np.isfinite(similarities.values[valid, k])
        own = _correlations(similarities.values[valid[has], k], y[has], _codes(sentence[has])[0], bootstrap.take(has))
        each[k] = (int(has.sum()), own)
    by_sentence = _sentences(x, y, sentence, names, wordings, bootstrap) if len(names) > 1 else []
    slices = {
        key: _slices(values[valid], x, y, bootstrap) for key, values in slice_values(pairs, table, by).items()
    }  # fmt: skip
    if isinstance(held_out, str):
        footing = NumbersOnEqualFooting(why=held_out)
        pairwise = SingleRaters(why=held_out)
    else:
        codes = np.full(len(table), -1, dtype=np.int64)
        codes[valid] = sentence
        footing = equal_footing(held_out, similarity, full, codes, clips, replicates, parity_rng, resample)
        pairwise = SingleRaters()
        if ratings is not None:
            items, (pairs_rng,) = ScoredItems(similarity, full, codes, clips), rng.spawn(1)
            pairwise = compare_numbers(ratings, items, replicates, pairs_rng, resample)
    mean_similarity = {name: metrics[name] for name in metrics if name != f"{PREFIX}concordance"}
    result = ScaleBenchmarkResult(
        scale=pairs.subset.scale,
        items_total=len(table),
        items_evaluated=len(valid),
        metrics=metrics,
        sentences=by_sentence,
        sentences_left_out=sum(row.spearman.value is None for row in by_sentence),
        equal_footing=footing.by_name,
        equal_footing_why=footing.why,
        equal_footing_raters=footing.raters,
        equal_footing_raters_left_out=footing.raters_left_out,
        pairwise=dict(pairwise.by_name),
        pairwise_why=pairwise.why,
        pairwise_pairs=pairwise.groups,
        pairwise_pairs_left_out=pairwise.groups_left_out,
        slices=slices,
        wordings=wording_scores(wordings, each, mean_similarity),
        warnings=_warnings(x),
    )
    predictions = table[[*pairs.subset.key, "n_raters", "mean", "audio_path"]].rename(
        columns={"mean": MEAN_COLUMNS[pairs.subset.scale]}
    )
    predictions = predictions.reset_index(drop=True).assign(
        prompt=[wordings.sentences[label][0] for label in labels],
        similarity=pd.array(np.where(ok, similarity, np.nan), dtype="Float64"),
        scaled_similarity=full,
        **{f"similarity_wording_{k + 1}": similarities.values[:, k] for k in each},
        ok=ok,
        error=similarities.errors,
    )
    tables = {f"metrics_by_{key}": slice_scores_table(key, rows) for key, rows in slices.items()}
    if by_sentence:
        tables["metrics_by_sentence"] = _sentence_table(by_sentence)
    scored = table.iloc[valid].assign(similarity=x, scaled=full[valid]).reset_index(drop=True)
    return ScaleEvaluation(predictions, tables, result, scored)


def _codes(labels: Sequence[object] | NDArray[np.int64]) -> tuple[IntArray, list[object]]:
    """Number of each label, from 0 in the order of first appearance, and the labels."""
    names = list(dict.fromkeys(labels.tolist() if isinstance(labels, np.ndarray) else labels))
    places = {name: code for code, name in enumerate(names)}
    return np.array([places[label] for label in labels], dtype=np.int64), names


def _correlations(x: FloatArray, y: FloatArray, sentence: IntArray, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Spearman's and Pearson's correlation over all items, and the mean over sentences where there are several."""
    one = np.zeros(len(x), dtype=np.int64)
    groups = {"": one, **({"_by_prompt": sentence} if sentence.max(initial=0) > 0 else {})}
    if not len(x):
        return {f"{PREFIX}{name}": Estimate(None, why=NO_ITEM) for name in ("spearman", "pearson")}
    estimates = {}
    for suffix, group in groups.items():
        estimates[f"{PREFIX}spearman{suffix}"] = spearman_replicates(x, y, group, bootstrap).mean()
        estimates[f"{PREFIX}pearson{suffix}"] = moment_replicates(correlation, x, y, group, bootstrap).mean()
    return estimates


def _scores(
    x: FloatArray, y: FloatArray, sentence: IntArray, bootstrap: Bootstrap, rng: np.random.Generator
) -> tuple[dict[str, Estimate], FloatArray]:
    """All headline scores, and the similarities on the scale of the ratings."""
    estimates = _correlations(x, y, sentence, bootstrap)
    found = cross_fitted_concordance(x, y, assign_folds(y, bootstrap, rng, FOLDS), bootstrap)
    estimates[f"{PREFIX}concordance"] = found.concordance
    order = ["spearman_by_prompt", "pearson_by_prompt", "spearman", "pearson", "concordance"]
    return {PREFIX + name: estimates[PREFIX + name] for name in order if PREFIX + name in estimates}, found.scaled


def _sentences(
    x: FloatArray,
    y: FloatArray,
    sentence: IntArray,
    names: Sequence[object],
    wordings: Wordings,
    bootstrap: Bootstrap,
) -> list[SentenceScores]:
    ranks = spearman_replicates(x, y, sentence, bootstrap)
    values = moment_replicates(correlation, x, y, sentence, bootstrap)
    return [
        SentenceScores(
            label="/".join(label),
            sentence=wordings.sentences[label][0],
            n=int(ranks.sizes[code]),
            spearman=spearman,
            pearson=of_values,
        )
        for code, (label, spearman, of_values) in enumerate(zip(names, ranks.each(), values.each(), strict=True))
        if isinstance(label, tuple)
    ]


def _sentence_table(rows: Sequence[SentenceScores]) -> pd.DataFrame:
    columns = ["label", "sentence", "n", "spearman", "pearson"]
    cells = [[row.label, row.sentence, row.n, row.spearman.value, row.pearson.value] for row in rows]
    return pd.DataFrame(cells, columns=columns)


def _slices(values: NDArray[np.object_], x: FloatArray, y: FloatArray, bootstrap: Bootstrap) -> list[SliceScores]:
    rows = []
    for value in sorted(set(values)):
        inside = np.flatnonzero(values == value)
        one = np.zeros(len(inside), dtype=np.int64)
        scores = _correlations(x[inside], y[inside], one, bootstrap.take(inside))
        rows.append(SliceScores(value=str(value), n=len(inside), scores=scores))
    return rows


@dataclass(frozen=True)
class NumbersOnEqualFooting:
    """Correlations of the model and of the raters with the mean of the other raters.

    Attributes
    ----------
    by_name : dict of str to Parity
        By name of the score; empty if there is no comparison.
    why : str
        Why there is none.
    raters, raters_left_out : int
        Raters who were compared, and those with too few items or without variation.
    """

    by_name: dict[str, Parity] = field(default_factory=dict)
    why: str = ""
    raters: int = 0
    raters_left_out: int = 0


def equal_footing(
    held_out: HeldOutNumbers,
    similarity: FloatArray,
    scaled: FloatArray,
    sentence: IntArray,
    clips: NDArray[np.str_],
    replicates: int,
    rng: np.random.Generator,
    resample: Resample = "clips",
) -> NumbersOnEqualFooting:
    """Compare the model with the raters: correlations with the mean of the other raters, on the items of each rater.

    Parameters
    ----------
    held_out : HeldOutNumbers
    similarity, scaled : (n,) float
        Of each item, as it is and on the scale of the ratings; NaN where an item has none.
    sentence : (n,) int
        Number of the sentence of each item; all 0 for one sentence.
    clips : (n,) str
    replicates : int
    rng : numpy.random.Generator
    resample : {"clips", "raters", "both"}
        What intervals speak for. For new raters each rater is left out in turn, of the raters that are compared and of
        those whose mean is the reference; the scaling of the similarities stays.

    Returns
    -------
    NumbersOnEqualFooting
        Means over the raters for whom both correlations are defined.
    """
    compared = _RatedItems(held_out, similarity, scaled, sentence).take(np.isfinite(similarity[held_out.item]))
    if not len(compared.ratings.item):
        return NumbersOnEqualFooting(why=NO_RATER)
    bootstrap = Bootstrap.from_units(clips[compared.ratings.item], replicates, rng)
    pairs = compared.correlations(bootstrap)
    raters = pairs["spearman"].shared
    if not raters.any():
        equal = np.ptp(compared.similarity[compared.ratings.item]) == 0
        return NumbersOnEqualFooting(why=ALL_EQUAL if equal else NO_RATER, raters_left_out=len(raters))
    variations = {} if resample == "clips" else _variations_over_raters(compared, bootstrap, list(pairs), resample)
    by_name = {PREFIX + name: _paired(own, variations.get(name, NOT_OVER_RATERS)) for name, own in pairs.items()}
    return NumbersOnEqualFooting(by_name, "", int(raters.sum()), int((~raters).sum()))


@dataclass(frozen=True)
class _Compared:
    """Correlations of the model and of the raters with the same references, within the same groups."""

    model: GroupCorrelations
    person: GroupCorrelations

    @property
    def shared(self) -> NDArray[np.bool_]:
        """(G,) groups in which both have a value."""
        return self.model.defined & self.person.defined

    @property
    def of_shared(self) -> tuple[GroupCorrelations, GroupCorrelations]:
        """The model and the raters in the groups in which both have a value."""
        return self.model.only(self.shared), self.person.only(self.shared)

    @property
    def means(self) -> FloatArray:
        """Mean over groups of model, raters and difference: on the data, then on the replicates, (1 + R, 3)."""
        both = [np.append(one.mean_value, one.mean_replicates) for one in self.of_shared]
        return np.stack([*both, both[0] - both[1]], axis=1)


@dataclass(frozen=True)
class _RatedItems:
    """Held-out ratings beside the similarities of the same items."""

    ratings: HeldOutNumbers
    similarity: FloatArray
    scaled: FloatArray
    sentence: IntArray

    def take(self, mask: NDArray[np.bool_]) -> "_RatedItems":
        """Select ratings."""
        r = self.ratings
        selected = HeldOutNumbers(r.item[mask], r.rater[mask], r.rating[mask], r.mean_of_others[mask])
        return replace(self, ratings=selected)

    def without(self, rater: int) -> tuple["_RatedItems", NDArray[np.bool_]]:
        """The ratings of the other raters, beside means without this rater; and which ratings these are, (k,) bool."""
        item, own = self.ratings.item, self.ratings.rater == rater
        others = np.bincount(item)[item] - 1.0
        rating = np.bincount(item[own], self.ratings.rating[own], len(self.similarity))[item]
        rated = np.bincount(item[own], minlength=len(self.similarity))[item]
        left = others - rated
        kept = ~own & (left > 0)
        means = (self.ratings.mean_of_others * others - rating) / np.maximum(left, 1)
        changed = replace(self.ratings, mean_of_others=np.where(rated > 0, means, self.ratings.mean_of_others))
        return replace(self, ratings=changed).take(kept), kept

    def correlations(self, bootstrap: Bootstrap) -> dict[str, _Compared]:
        """By name of the score. bootstrap: over the clips of the ratings."""
        r = self.ratings
        both = (self.similarity[r.item], r.rating)

        def compared(group: IntArray, suffix: str = "") -> dict[str, _Compared]:
            ranks = [spearman_replicates(x, r.mean_of_others, group, bootstrap) for x in both]
            values = [moment_replicates(correlation, x, r.mean_of_others, group, bootstrap) for x in both]
            return {f"spearman{suffix}": _Compared(*ranks), f"pearson{suffix}": _Compared(*values)}

        by_rater = _codes(r.rater)[0]
        pairs = compared(by_rater)
        if self.sentence.max(initial=0) > 0:
            group = _codes(list(zip(r.rater.tolist(), self.sentence[r.item].tolist(), strict=True)))[0]
            pairs = {**compared(group, "_by_prompt"), **pairs}
        if np.isfinite(self.scaled[r.item]).all():
            scaled = (self.scaled[r.item], r.rating)
            pairs["concordance"] = _Compared(
                *(moment_replicates(concordance, x, r.mean_of_others, by_rater, bootstrap) for x in scaled)
            )
        return pairs


def _variations_over_raters(
    compared: _RatedItems, bootstrap: Bootstrap, names: Sequence[str], resample: Resample
) -> dict[str, Sequence[RaterVariation | None]]:
    """Variance over raters of the model, of the raters and of their difference, by name of the score."""
    if not len(bootstrap.weights) or bootstrap.n_units < 2:
        return {}
    few = replace(bootstrap, weights=bootstrap.weights[: noise_replicates(len(compared.ratings.item))])
    raters, ratings = np.unique(compared.ratings.rater, return_counts=True)
    without: dict[str, list[FloatArray]] = {name: [] for name in names}
    undefined = np.full((1 + len(few.weights), 3), np.nan)
    for rater in raters.tolist():
        left, kept = compared.without(rater)
        pairs = left.correlations(few.take(kept)) if kept.any() else {}
        for name in names:
            means = pairs[name].means if name in pairs else undefined
            without[name].append(means if len(means) == len(undefined) else undefined)  # one clip has no replicates
    counts = ratings.astype(np.int64)
    return {
        name: rater_variations(np.stack(own, axis=1), counts, bootstrap.n_units, resample)
        for name, own in without.items()
    }


def _paired(compared: _Compared, raters: Sequence[RaterVariation | None]) -> Parity:
    """Mean over the groups in which both have a value, and the paired difference."""
    if not compared.shared.any():
        return Parity.undefined(NO_GROUP)
    ours, theirs = compared.of_shared
    difference, p = paired_difference(
        ours.mean_value,
        theirs.mean_value,
        ours.mean_replicates,
        theirs.mean_replicates,
        n=ours.n,
        units=ours.units,
        raters=raters[2],
    )
    return Parity(ours.n, ours.mean(raters[0]), theirs.mean(raters[1]), difference, p).limited(COEFFICIENT)


def _warnings(x: FloatArray) -> list[str]:
    if len(x) > 1 and np.ptp(x) == 0:
        return [f"all similarities are {x[0]:.4g}; the model does not distinguish the clips"]
    return []
