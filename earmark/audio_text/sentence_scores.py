"""Score every clip against one or several sentences, and compare wordings with one another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.audio_text.pairs import PairTable, prompt_for_label
from earmark.audio_text.scale_schema import Spread, WordingScore, WordingScores
from earmark.audio_text.scorers import Score
from earmark.audio_text.wordings import REMEDY, Label, Wordings, label_columns, read_wordings, shared_sentences
from earmark.errors import DataError, Fault, shown_path
from earmark.metrics.estimate import Estimate
from earmark.report.provenance import output_path

FloatArray = NDArray[np.float64]
ScorePairs = Callable[[PairTable], list[Score]]


@dataclass(frozen=True)
class SentenceSimilarities:
    """Similarities of each item with its sentences.

    Attributes
    ----------
    values : (n, S) float
        NaN where an item has fewer sentences, and in all columns of an item with an error.
    errors : list of str
        The first error among the sentences of each item; empty if every sentence has a score.
    """

    values: FloatArray
    errors: list[str]

    @property
    def ok(self) -> NDArray[np.bool_]:
        """(n,) items whose sentences all have a score."""
        return np.array([not error for error in self.errors], dtype=bool)

    @property
    def mean(self) -> FloatArray:
        """(n,) mean over the sentences of each item; NaN with an error."""
        known = np.isfinite(self.values)
        total = np.where(known, self.values, 0.0).sum(axis=1)
        return np.where(self.ok & known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)

    @property
    def scores(self) -> list[Score]:
        """The mean similarity of each item, or its error."""
        return [
            Score(None, error) if error else Score(float(value))
            for value, error in zip(self.mean, self.errors, strict=True)
        ]


def score_sentences(
    pairs: PairTable, sentences: Sequence[Sequence[str]], score_pairs: ScorePairs, columns: int = 1
) -> SentenceSimilarities:
    """Score each item against its own sentences.

    Parameters
    ----------
    pairs : PairTable
        Without comparison-only items.
    sentences : sequence of n sequences of str
        At least one sentence for each item.
    score_pairs : callable
        Scores the rows of a table of pairs.
    columns : int
        Smallest number of columns of the result, which items alone do not give where there are none.

    Returns
    -------
    SentenceSimilarities
    """
    counts = np.array([len(own) for own in sentences], dtype=np.int64)
    row = np.repeat(np.arange(len(sentences)), counts)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = pd.DataFrame(
        {
            "audio_path": pairs.table["audio_path"].to_numpy(dtype=object)[row],
            "prompt": [sentence for own in sentences for sentence in own],
        }
    )
    scores = score_pairs(replace(pairs, table=table, comparison_only=pd.DataFrame()))
    values = np.full((len(sentences), max(int(counts.max(initial=1)), columns)), np.nan)
    errors = [""] * len(sentences)
    for i, j, score in zip(row.tolist(), place.tolist(), scores, strict=True):
        if score.similarity is None:
            errors[i] = errors[i] or score.error
        else:
            values[i, j] = score.similarity
    values[[bool(error) for error in errors]] = np.nan
    return SentenceSimilarities(values, errors)


def item_labels(table: pd.DataFrame, pairs: PairTable) -> list[Label]:
    """The label of each item that selects its sentences."""
    columns = list(label_columns(pairs.subset))
    if not columns:
        return [()] * len(table)
    return list(map(tuple, table[columns].astype(str).to_numpy().tolist()))


def with_wordings(pairs: PairTable, path: Path | None) -> PairTable:
    """Add the sentences of all labels to a table of items that is not filtered yet.

    Parameters
    ----------
    pairs : PairTable
    path : Path or None
        The file of --prompts; None for the sentences of the subset's description.

    Returns
    -------
    PairTable
        With `wordings`, and on other scales than the nominal one the first wording of each item as `prompt`.

    Raises
    ------
    MissingError
        If the file does not exist.
    DataError
        If it has faults, or two classes share a sentence.
    """
    subset, nominal = pairs.subset, pairs.subset.scale == "nominal"
    tables = [pairs.table, pairs.comparison_only]
    if nominal:
        labels: list[Label] = [(level,) for level in subset.levels]
    else:
        labels = [label for table in tables if len(table) for label in item_labels(table, pairs)]
    if path is not None:
        columns = ("label",) if nominal else label_columns(subset)
        wordings = read_wordings(path, columns, labels)
    elif nominal:
        wordings = Wordings({label: (prompt_for_label(label[0], subset),) for label in labels})
    else:
        prompts = [str(prompt) for table in tables if len(table) for prompt in table["prompt"]]
        wordings = Wordings(dict(zip(labels, ((prompt,) for prompt in prompts), strict=True)))
    if nominal and (shared := shared_sentences(wordings)):
        source = "the description of the subset" if path is None else shown_path(path)
        faults = [Fault(1, "sentence", f"stands for several classes: {one}") for one in shared]
        raise DataError({source: faults}, REMEDY)
    if path is None or nominal:
        return replace(pairs, wordings=wordings)
    renamed = [
        table.assign(prompt=[wordings.sentences[label][0] for label in item_labels(table, pairs)])
        if len(table)
        else table
        for table in tables
    ]
    return replace(pairs, table=renamed[0], comparison_only=renamed[1], wordings=wordings)


def wording_scores(
    wordings: Wordings,
    each: Mapping[int, tuple[int, Mapping[str, Estimate]]],
    mean_similarity: Mapping[str, Estimate],
) -> WordingScores | None:
    """Put the scores of the wordings together.

    Parameters
    ----------
    wordings : Wordings
    each : mapping of int to (int, mapping)
        For each wording from 0 the number of items and the scores by name.
    mean_similarity : mapping of str to Estimate
        Scores of the mean similarity over wordings.

    Returns
    -------
    WordingScores or None
        None unless the wordings come from a file.
    """
    if wordings.path is None:
        return None
    rows = [
        WordingScore(
            wording=k + 1,
            n=n,
            sentence=next(own[k] for own in wordings.sentences.values() if len(own) > k),
            scores=dict(scores),
        )
        for k, (n, scores) in each.items()
    ]
    spread = {}
    for name in mean_similarity:
        known = [v for row in rows if name in row.scores and (v := row.scores[name].value) is not None]
        if known:
            sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
            spread[name] = Spread(low=min(known), high=max(known), mean=float(np.mean(known)), sd=sd)
    return WordingScores(
        file=output_path(Path(wordings.path)),
        count=wordings.count,
        fewer=wordings.fewer,
        scores=rows,
        spread=spread,
        mean_similarity=dict(mean_similarity),
    )
