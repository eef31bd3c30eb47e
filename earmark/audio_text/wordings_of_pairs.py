"""Several wordings of the sentences of a binary decision: the score of each, and of their mean similarity."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from earmark.audio_text.evaluation import Evaluation
from earmark.audio_text.pairs import PairTable
from earmark.audio_text.scorers import Score
from earmark.audio_text.sentence_scores import (
    SentenceSimilarities,
    item_labels,
    score_sentences,
    wording_scores,
)
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import cross_fit, evaluate
from earmark.metrics.estimate import Estimate

FloatArray = NDArray[np.float64]
SPAWNED = 16  # streams of the generator; the first are those of `evaluate_scores`


def score_wordings(pairs: PairTable, score_pairs: Callable[[PairTable], list[Score]]) -> SentenceSimilarities:
    """Score each item against all wordings of its label.

    Parameters
    ----------
    pairs : PairTable
        With wordings and without comparison-only items.
    score_pairs : callable
        Scores the rows of a table of pairs.

    Returns
    -------
    SentenceSimilarities
        One column per wording.
    """
    assert pairs.wordings is not None
    sentences = [pairs.wordings.sentences[label] for label in item_labels(pairs.table, pairs)]
    return score_sentences(pairs, sentences, score_pairs)


def add_wordings(
    evaluation: Evaluation,
    pairs: PairTable,
    similarities: SentenceSimilarities,
    replicates: int,
    rng: np.random.Generator,
) -> Evaluation:
    """Add the score of each wording to an evaluation of their mean similarity.

    Parameters
    ----------
    evaluation : Evaluation
        Of `similarities.scores`.
    pairs : PairTable
        With wordings.
    similarities : SentenceSimilarities
        From `score_wordings`; rows beyond those of `pairs.table` are ignored.
    replicates : int
        Number of bootstrap replicates.
    rng : numpy.random.Generator

    Returns
    -------
    Evaluation
        The balanced accuracy at cross-fitted thresholds and the ROC AUC of each wording, on the items that have it, and
        the columns `similarity_wording_<k>` of the predictions.
    """
    assert pairs.wordings is not None
    *_, drawing, folding = rng.spawn(SPAWNED)
    seed = int(folding.integers(2**63))  # the same folds for every wording with the same items
    n = len(pairs.table)
    valid = np.flatnonzero(similarities.ok[:n])
    table, values = pairs.table.iloc[valid], similarities.values[valid]
    labels = table["label"].to_numpy(dtype=float)
    bootstrap = Bootstrap.from_units(table["sampling_unit"].to_numpy(dtype=object).astype(str), replicates, drawing)

    def scores(similarity: FloatArray, items: NDArray[np.int64]) -> dict[str, Estimate]:
        y, own = labels[items], bootstrap.take(items)
        fitted = cross_fit(similarity, y, own, np.random.default_rng(seed)).balanced_accuracy
        return {
            "balanced_accuracy_cross_fitted": fitted,
            "roc_auc": evaluate(similarity, similarity >= 0, y, own)["roc_auc"],
        }

    each = {}
    for k in range(pairs.wordings.count):
        items = np.flatnonzero(np.isfinite(values[:, k])) if k < values.shape[1] else np.empty(0, dtype=np.int64)
        each[k] = (len(items), scores(values[items, k], items))
    mean = scores(similarities.mean[valid], np.arange(len(valid)))
    result = evaluation.result.model_copy(update={"wordings": wording_scores(pairs.wordings, each, mean)})
    columns = {f"similarity_wording_{k + 1}": similarities.values[:n, k] for k in range(similarities.values.shape[1])}
    return replace(evaluation, result=result, predictions=evaluation.predictions.assign(**columns))
