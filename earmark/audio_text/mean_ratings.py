"""Similarity against mean ratings, for ordinal and interval scales.

The similarity of a clip with one sentence is correlated with the mean rating of the clip: Spearman, Pearson, and Lin's
concordance after a cross-fitted linear scaling. Similarities of different sentences have no common zero; where a subset
has several sentences, the mean over sentences of the correlation within each is reported too.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.audio_text.comparison_with_raters import (
    MEAN_RATING,
    ComparisonWithRaters,
    Ratings,
    ScoredItems,
    numbers_against_others,
    numbers_against_single_raters,
)
from earmark.audio_text.pairs import PairTable
from earmark.audio_text.scale_pairs import MEAN_COLUMNS
from earmark.audio_text.scale_schema import ScaleBenchmarkResult, SentenceScores, SliceScores
from earmark.audio_text.sentence_scores import SentenceSimilarities, item_labels, wording_scores
from earmark.audio_text.wordings import Wordings
from earmark.audio_text.zero_shot import ScaleEvaluation, slice_scores_table, slice_values
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import assign_folds
from earmark.metrics.estimate import Estimate
from earmark.metrics.group_correlation import cross_fitted_concordance, moment_replicates, spearman_replicates
from earmark.metrics.interval_agreement import correlation
from earmark.metrics.resample import Resample

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PREFIX = MEAN_RATING
FOLDS = 5
NO_ITEM = "no item was scored"
CHOSEN_BY_RATINGS = "the items were chosen by the ratings that would be held out (--unanimous-only)"


def evaluate_mean_ratings(
    pairs: PairTable,
    similarities: SentenceSimilarities,
    wordings: Wordings,
    *,
    ratings: Ratings | str,
    replicates: int,
    rng: np.random.Generator,
    by: Sequence[str] = (),
    resample: Resample = "clips",
) -> ScaleEvaluation:
    """Evaluate similarities against the mean ratings of an ordinal or interval subset.

    Parameters
    ----------
    pairs : PairTable
        From `load_scale_pairs`.
    similarities : SentenceSimilarities
        One row per item, one column per wording.
    wordings : Wordings
    ratings : Ratings or str
        All ratings of the items, or why there is no comparison with raters.
    replicates : int
        Number of bootstrap replicates over clips; 0 for no intervals.
    rng : numpy.random.Generator
    by : sequence of str
        Keys of the clips' JSON files to slice by, in addition to the slices of the subset.
    resample : {"clips", "raters", "both"}
        What intervals of the comparison with raters speak for.

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
    if isinstance(ratings, str):
        others = pairwise = ComparisonWithRaters(why=ratings)
    else:
        codes = np.full(len(table), -1, dtype=np.int64)
        codes[valid] = sentence
        items, (pairs_rng,) = ScoredItems(similarity, full, codes, clips), rng.spawn(1)
        others = numbers_against_others(ratings, items, replicates, parity_rng, resample)
        pairwise = numbers_against_single_raters(ratings, items, replicates, pairs_rng, resample)
    mean_similarity = {name: metrics[name] for name in metrics if name != f"{PREFIX}concordance"}
    result = ScaleBenchmarkResult(
        scale=pairs.subset.scale,
        items_total=len(table),
        items_evaluated=len(valid),
        metrics=metrics,
        sentences=by_sentence,
        sentences_left_out=sum(row.spearman.value is None for row in by_sentence),
        equal_footing=dict(others.by_name),
        equal_footing_why=others.why,
        equal_footing_raters=others.groups,
        equal_footing_raters_left_out=others.groups_left_out,
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


def _warnings(x: FloatArray) -> list[str]:
    if len(x) > 1 and np.ptp(x) == 0:
        return [f"all similarities are {x[0]:.4g}; the model does not distinguish the clips"]
    return []
