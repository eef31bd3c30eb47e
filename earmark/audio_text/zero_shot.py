"""Zero-shot choice among classes: every clip is scored against one sentence per class, the highest similarity answers.

A clip on which several classes share the highest similarity has no answer and counts as wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.audio_text.comparison_with_raters import (
    ZERO_SHOT,
    ComparisonWithRaters,
    Ratings,
    answers_against_others,
    answers_against_single_raters,
)
from earmark.audio_text.evaluation import MISSING_VALUE
from earmark.audio_text.pairs import PairTable
from earmark.audio_text.prompt_metrics import SELECTED
from earmark.audio_text.scale_pairs import SHARE
from earmark.audio_text.scale_schema import ClassScores, ScaleBenchmarkResult, SliceScores
from earmark.audio_text.sentence_scores import SentenceSimilarities, wording_scores
from earmark.audio_text.wordings import Wordings
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.choice import (
    NO_ANSWER,
    choice_contributions,
    constant_answer,
    evaluate_choice,
    evaluate_classes,
    highest,
)
from earmark.metrics.estimate import Estimate
from earmark.metrics.resample import Resample

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PREFIX = ZERO_SHOT
NO_COMPARISON = "leave_one_out.csv does not exist; run `uv run analysis.py` to create it"


@dataclass(frozen=True)
class ScaleEvaluation:
    """Scores on a nominal, ordinal or interval scale.

    Attributes
    ----------
    predictions : DataFrame
        One row per item, as predictions.csv.
    tables : dict of str to DataFrame
        Further tables by file name without suffix.
    result : ScaleBenchmarkResult
    scored : DataFrame
        Items with a score and what figures need: `audio_path`, `prompt`, `similarity`, …
    """

    predictions: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    result: ScaleBenchmarkResult
    scored: pd.DataFrame


def class_sentences(levels: Sequence[str], wordings: Wordings) -> tuple[list[str], list[list[int]]]:
    """All sentences of the classes, and for each class the places of its own.

    Examples
    --------
    >>> class_sentences(["Joy", "Fear"], Wordings({("Joy",): ("Happy.", "Glad."), ("Fear",): ("Afraid.",)}))
    (['Happy.', 'Glad.', 'Afraid.'], [[0, 1], [2]])
    """
    sentences: list[str] = []
    places: list[list[int]] = []
    for level in levels:
        own = wordings.sentences[(level,)]
        places.append(list(range(len(sentences), len(sentences) + len(own))))
        sentences += own
    return sentences, places


def class_similarities(values: FloatArray, places: Sequence[Sequence[int]], wording: int | None = None) -> FloatArray:
    """Similarity of each item with each class.

    Parameters
    ----------
    values : (n, S) float
        Similarities with all sentences.
    places : sequence of K sequences of int
        Sentences of each class.
    wording : int or None
        The wording, from 0; a class with fewer wordings uses its last. None for the mean over the wordings of a class.

    Returns
    -------
    (n, K) float

    Examples
    --------
    >>> values = np.array([[0.1, 0.3, 0.5]])
    >>> class_similarities(values, [[0, 1], [2]]).tolist(), class_similarities(values, [[0, 1], [2]], 1).tolist()
    ([[0.2, 0.5]], [[0.3, 0.5]])
    """
    if wording is None:
        columns = [values[:, list(own)].mean(axis=1) for own in places]
    else:
        columns = [values[:, own[min(wording, len(own) - 1)]] for own in places]
    return np.stack(columns, axis=1) if columns else np.empty((len(values), 0))


def evaluate_zero_shot(
    pairs: PairTable,
    similarities: SentenceSimilarities,
    wordings: Wordings,
    *,
    ratings: Ratings | None,
    replicates: int,
    rng: np.random.Generator,
    by: Sequence[str] = (),
    unanimous: bool = False,
    resample: Resample = "clips",
) -> ScaleEvaluation:
    """Evaluate a choice among the classes of a nominal subset.

    Parameters
    ----------
    pairs : PairTable
        From `load_scale_pairs`.
    similarities : SentenceSimilarities
        One row per row of `pairs.with_comparison_only().table`, one column per sentence, in the order of
        `class_sentences`.
    wordings : Wordings
    ratings : Ratings or None
        All ratings of the rows of `pairs.with_comparison_only().table`; None without leave_one_out.csv.
    replicates : int
        Number of bootstrap replicates over clips; 0 for no intervals.
    rng : numpy.random.Generator
    by : sequence of str
        Keys of the clips' JSON files to slice by, in addition to the slices of the subset.
    unanimous : bool
        Whether the items were restricted to unanimous ones. If so, the comparison with raters uses only ratings whose
        other raters all agree.
    resample : {"clips", "raters", "both"}
        What intervals of the comparison with raters speak for.

    Returns
    -------
    ScaleEvaluation
    """
    levels = pairs.subset.levels
    everything, n = pairs.with_comparison_only().table, len(pairs.table)
    _, places = class_sentences(levels, wordings)
    by_class = class_similarities(similarities.values, places)
    ok = similarities.ok
    answers = np.full(len(everything), NO_ANSWER, dtype=np.int64)
    answers[ok] = highest(by_class[ok])
    table = everything.head(n)
    valid = np.flatnonzero(ok[:n])
    references = reference_shares(table, pairs)[valid]
    bootstrap_rng, parity_rng = rng.spawn(2)
    bootstrap = Bootstrap.from_units(
        table["sampling_unit"].to_numpy(dtype=object)[valid].astype(str), replicates, bootstrap_rng
    )
    metrics = _named(evaluate_choice(answers[valid], references, bootstrap))
    each = {}
    for k in range(wordings.count if wordings.path is not None else 0):
        own = highest(class_similarities(similarities.values[valid], places, k))
        each[k] = (len(valid), _named(evaluate_choice(own, references, bootstrap)))
    confusion = np.asarray(choice_contributions(answers[valid], references).sum(axis=0), dtype=float)
    confusion = confusion.reshape(len(levels), len(levels) + 1)
    classes = _classes(levels, wordings, confusion, evaluate_classes(answers[valid], references, bootstrap))
    slices = {
        key: _slices(table.iloc[valid], values[valid], answers[valid], references, bootstrap)
        for key, values in slice_values(pairs, table, by).items()
    }
    clips = everything["sampling_unit"].to_numpy(dtype=object).astype(str)
    if ratings is None:
        others = pairwise = ComparisonWithRaters(why=NO_COMPARISON)
    else:
        (pairs_rng,) = rng.spawn(1)
        common = (ratings.of_items(ok), answers, len(levels), clips, replicates)
        soft = pairs.label_source == "soft"
        others = answers_against_others(*common, parity_rng, resample, soft=soft, unanimous=unanimous)
        pairwise = (
            ComparisonWithRaters(why=SELECTED)
            if unanimous
            else answers_against_single_raters(*common, pairs_rng, resample)
        )
    tied = int((answers[valid] == NO_ANSWER).sum())
    result = ScaleBenchmarkResult(
        scale="nominal",
        items_total=n,
        items_evaluated=len(valid),
        items_tied_excluded=0,
        metrics=metrics,
        classes=classes,
        confusion=[[_whole(cell) for cell in row] for row in confusion],
        answers_tied=tied,
        baselines=_baselines(references),
        equal_footing=dict(others.by_name),
        equal_footing_why=others.why,
        pairwise=dict(pairwise.by_name),
        pairwise_why=pairwise.why,
        questions_for_people=len(everything) - n,
        questions_for_people_failed=int((~ok[n:]).sum()),
        slices=slices,
        wordings=wording_scores(wordings, each, metrics),
        warnings=_warnings(by_class[valid], answers[valid], levels),
    )
    predictions = _predictions(pairs, similarities, by_class, answers)
    tables = {"confusion": confusion_table(confusion, levels)}
    tables |= {f"metrics_by_{key}": slice_scores_table(key, rows) for key, rows in slices.items()}
    scored = table.iloc[valid].assign(
        similarity=by_class[valid].max(axis=1) if len(valid) else np.empty(0),
        answer=[levels[a] if a != NO_ANSWER else "" for a in answers[valid]],
        correct=_correct(answers[valid], references),
    )
    return ScaleEvaluation(predictions, tables, result, scored.reset_index(drop=True))


def reference_shares(table: pd.DataFrame, pairs: PairTable) -> FloatArray:
    """Reference of each item, (n, K): 1 for its class, or for soft labels the share of raters who chose each class."""
    levels = pairs.subset.levels
    if pairs.label_source == "soft":
        return table[[SHARE + level for level in levels]].to_numpy(dtype=float)
    return np.stack([(table["reference"] == level).to_numpy(dtype=float) for level in levels], axis=1)


def slice_values(pairs: PairTable, table: pd.DataFrame, by: Sequence[str]) -> dict[str, NDArray[np.object_]]:
    """Value of each item by which scores are sliced: columns of the labels, and keys of the clips' JSON files."""
    values = {key: table[key].astype(str).to_numpy(dtype=object) for key in pairs.subset.slices if key in table}
    for key in by:
        of_clip = {path: pairs.clip_metadata(path).get(key) for path in pairs.clips}
        own = [MISSING_VALUE if of_clip[path] is None else str(of_clip[path]) for path in table["audio_path"]]
        values[key] = np.array(own, dtype=object)
    return values


def _named(estimates: dict[str, Estimate]) -> dict[str, Estimate]:
    return {PREFIX + name: estimate for name, estimate in estimates.items()}


def _correct(answers: IntArray, references: FloatArray) -> FloatArray:
    """Credit of each answer: the share of its class in the reference; 0 without an answer."""
    credit = references[np.arange(len(answers)), np.maximum(answers, 0)] if references.size else np.zeros(len(answers))
    return np.where(answers == NO_ANSWER, 0.0, credit)


def _classes(
    levels: Sequence[str], wordings: Wordings, confusion: FloatArray, estimates: list[dict[str, Estimate]]
) -> list[ClassScores]:
    return [
        ClassScores(
            name=level,
            sentence=wordings.sentences[(level,)][0],
            n=_whole(confusion[c].sum()),
            answers=_whole(confusion[:, c].sum()),
            **estimates[c],
        )
        for c, level in enumerate(levels)
    ]


def _whole(count: float) -> int | float:
    return round(count) if abs(count - round(count)) < 1e-9 else float(count)


def _slices(
    table: pd.DataFrame, values: NDArray[np.object_], answers: IntArray, references: FloatArray, bootstrap: Bootstrap
) -> list[SliceScores]:
    rows = []
    for value in sorted(set(values)):
        inside = np.flatnonzero(values == value)
        scores = evaluate_choice(answers[inside], references[inside], bootstrap.take(inside))
        rows.append(SliceScores(value=str(value), n=len(inside), scores=_named(scores)))
    return rows


def slice_scores_table(key: str, rows: Sequence[SliceScores]) -> pd.DataFrame:
    """Table of a slicing, as metrics_by_<key>.csv: values without intervals; undefined ones are empty."""
    names = list(rows[0].scores) if rows else []
    cells = [[row.value, row.n, *(row.scores[name].value for name in names)] for row in rows]
    return pd.DataFrame(cells, columns=[key, "n", *names])


def _baselines(references: FloatArray) -> dict[str, dict[str, float | None]]:
    k = int((references > 0).any(axis=0).sum()) if references.size else 0
    chance = 1 / references.shape[1] if references.size else None
    return {
        "most frequent class": {PREFIX + name: value for name, value in constant_answer(references).items()},
        "guessing": {
            f"{PREFIX}accuracy": chance,
            f"{PREFIX}balanced_accuracy": chance if k else None,
            f"{PREFIX}macro_f1": None,
        },
    }


def _warnings(by_class: FloatArray, answers: IntArray, levels: Sequence[str]) -> list[str]:
    """Similarities and answers that suggest a broken model."""
    if len(answers) < 2:
        return []
    tied = int((answers == NO_ANSWER).sum())
    warnings = []
    if tied:
        warnings.append(
            f"{tied:,} of {len(answers):,} items have no answer: several classes share the highest similarity; they "
            "count as wrong"
        )
    if np.ptp(by_class) == 0:
        warnings.append(f"all similarities are {by_class.flat[0]:.4g}; the model does not distinguish the pairs")
    elif not tied and (answers == answers[0]).all():
        warnings.append(f"the model answers {levels[answers[0]]} to every item")
    return warnings


def _predictions(
    pairs: PairTable, similarities: SentenceSimilarities, by_class: FloatArray, answers: IntArray
) -> pd.DataFrame:
    """Contents of predictions.csv."""
    levels, table, n = pairs.subset.levels, pairs.table, len(pairs.table)
    ok = similarities.ok[:n]
    correct = _correct(answers[:n], reference_shares(table, pairs))
    columns = table[[*pairs.subset.key, "n_raters", "reference", "audio_path"]].rename(
        columns={"reference": "reference_class"}
    )
    shown = {f"similarity_{level}": by_class[:n, c] for c, level in enumerate(levels)}
    hard = pd.array(np.where(ok, correct, 0).astype(int), dtype="Int64")
    credit = pd.Series(np.where(ok, correct, np.nan)) if pairs.label_source == "soft" else pd.Series(hard).where(ok)
    return pd.concat([columns.reset_index(drop=True), pd.DataFrame(shown, index=range(n))], axis=1).assign(
        predicted_class=[levels[a] if a != NO_ANSWER else "" for a in answers[:n]],
        correct=credit,
        ok=ok,
        error=similarities.errors[:n],
    )


def confusion_table(confusion: FloatArray, levels: Sequence[str]) -> pd.DataFrame:
    """Contents of confusion.csv: number and share of items by reference class and answer; no answer is empty.

    Examples
    --------
    >>> confusion_table(np.array([[3.0, 1, 0], [0, 2, 0]]), ["Joy", "Fear"])["share"].tolist()
    [0.75, 0.25, 0.0, 0.0, 1.0, 0.0]
    """
    totals = np.maximum(confusion.sum(axis=1), 1e-12)
    rows = [
        [reference, answer, _whole(confusion[r, a]), round(float(confusion[r, a] / totals[r]), 6)]
        for r, reference in enumerate(levels)
        for a, answer in enumerate([*levels, ""])
    ]
    return pd.DataFrame(rows, columns=["reference", "answer", "n", "share"])
