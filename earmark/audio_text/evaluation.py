"""Answers against labels: everything that benchmark.py reports about a scorer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from earmark.annotation.parity import HeldOutRatings, Parity, human_parity
from earmark.audio_text.pairs import PairTable
from earmark.audio_text.schema import BenchmarkResult, CrossFitted, Metrics, SliceMetrics
from earmark.audio_text.scorers import Score
from earmark.metrics.bootstrap import Bootstrap
from earmark.metrics.classification import NO_THRESHOLD, cross_fit, decision_contributions, evaluate
from earmark.metrics.estimate import Estimate

BANDS = (("Bad", 0.0), ("Weak", 0.55), ("Medium", 0.65), ("Good", 0.75), ("Excellent", 0.85))
SLICE_METRICS = ("accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision")
NOT_SAID = "(not said)"


@dataclass(frozen=True)
class Evaluation:
    """One row per question, tables by slice, and what summary.json holds about the scorer."""

    predictions: pd.DataFrame
    slices: dict[str, pd.DataFrame]
    result: BenchmarkResult


def evaluate_scores(
    questions: PairTable,
    answers: list[Score],
    *,
    threshold: float,
    replicates: int,
    rng: np.random.Generator,
    by: Sequence[str] = (),
    unanimous_only: bool = False,
    of_others: pd.DataFrame | None = None,
) -> Evaluation:
    """Hold answers against the labels. answers: one per question and then per further question, in order.

    unanimous_only: whether only items are left on which people agree. of_others: as `read_leave_one_out` gives it,
    for the comparison with people under Dawid and Skene's labels.

    An answer with an error is reported and enters no metric. A question is called present from the threshold up.
    by: keys of the clips' own JSON files to slice by, beside the columns that the subset lists; a clip whose file
    does not have the key is in the slice "(not said)".
    """
    asked = questions.with_further().table.assign(
        similarity=pd.array([answer.similarity for answer in answers], dtype="Float64"),
        ok=[not answer.error for answer in answers],
        error=[answer.error for answer in answers],
    )
    asked["pred_present"] = (asked["similarity"] >= threshold).astype("Int64")
    table = asked.head(len(questions.table)).copy()
    for key in by:
        said = {path: questions.described(path).get(key) for path in questions.clips}
        table[key] = [NOT_SAID if said[path] is None else str(said[path]) for path in table["audio_path"]]
    good = table[table["ok"].astype(bool)].reset_index(drop=True)
    resampling, dealing, of_people = rng.spawn(3)  # the folds must not depend on how many replicates are drawn
    bootstrap = Bootstrap.from_units(good["clip"], replicates, resampling)
    unanimous = good["benchmark_bucket"].str.startswith("unanimous_").to_numpy(dtype=bool)
    cross_fitted, of_clip = _cross_fitted(good, bootstrap, dealing)
    overall = _metrics(good, bootstrap)
    positive = good["label"].mean() if len(good) else None
    at_fixed, at_cross_fitted = _parities(asked, questions, replicates, of_people, unanimous_only, of_others, of_clip)
    slices = {key: _by(good, key, bootstrap) for key in [*questions.subset.slices, *by]}
    result = BenchmarkResult(
        rows_total=len(table),
        rows_evaluated_ok=len(good),
        majority_baseline=None if positive is None else float(max(positive, 1 - positive)),
        quality_band=quality_band(overall.balanced_accuracy),
        quality_band_cross_fitted=quality_band(cross_fitted.balanced_accuracy),
        overall=overall,
        unanimous_subset=_metrics(good[unanimous], bootstrap.take(unanimous)),
        cross_fitted_threshold=cross_fitted,
        slices=slices,
        questions_for_people=len(asked) - len(table),
        questions_for_people_failed=int((~asked["ok"].iloc[len(table) :].astype(bool)).sum()),
        human_parity=at_fixed,
        human_parity_cross_fitted=at_cross_fitted,
        warnings=similarity_warnings(good["similarity"].to_numpy(dtype=float), threshold),
    )
    other_truth = ["label"] if questions.truth != "majority" else []
    columns = [*questions.subset.key, "benchmark_bucket", "n_raters", "majority_present", *other_truth]
    predictions = table[[*columns, "audio_path", "prompt", "similarity", "pred_present", "ok", "error"]]
    return Evaluation(predictions, {key: slice_table(key, rows) for key, rows in slices.items()}, result)


def similarity_warnings(similarities: np.ndarray, threshold: float) -> list[str]:
    """What similarities look like that no good scorer gives, so that nobody takes its figures for a result.

    >>> similarity_warnings(np.array([0.2, 57.0]), 0.0)[0]
    'similarities lie between 0.2 and 57, and cosines between -1 and 1; --threshold 0 may mean nothing here'
    """
    if len(similarities) < 2:
        return []
    low, high = float(similarities.min()), float(similarities.max())
    told = []
    if low < -1.001 or high > 1.001:
        told.append(
            f"similarities lie between {low:.4g} and {high:.4g}, and cosines between -1 and 1; --threshold "
            f"{threshold:g} may mean nothing here"
        )
    if low == high:
        told.append(f"every answer is {low:.4g}: the scorer tells nothing apart")
    elif low >= threshold or high < threshold:
        called = "present" if low >= threshold else "absent"
        told.append(f"every question is called {called} at the threshold {threshold:g}; see the cross-fitted threshold")
    return told


def _metrics(rows: pd.DataFrame, bootstrap: Bootstrap) -> Metrics:
    labels, said = rows["label"].to_numpy(dtype=float), rows["pred_present"].to_numpy(dtype=bool)
    tp, fp, tn, fn = (_whole(count) for count in decision_contributions(said, labels).sum(axis=0))
    estimates = evaluate(rows["similarity"].to_numpy(dtype=float), said, labels, bootstrap)
    return Metrics(**estimates, tp=tp, fp=fp, tn=tn, fn=fn)


def _whole(count: float) -> int | float:
    """A count as a whole number, where it is one; soft labels count in shares."""
    return int(count) if float(count).is_integer() else float(count)


def _cross_fitted(
    rows: pd.DataFrame, bootstrap: Bootstrap, rng: np.random.Generator
) -> tuple[CrossFitted, dict[str, float]]:
    """Balanced accuracy at thresholds chosen on other clips, and the threshold of each clip."""
    scores, labels = rows["similarity"].to_numpy(dtype=float), rows["label"].to_numpy(dtype=float)
    found = cross_fit(scores, labels, bootstrap, rng)
    of_clip = dict(zip(rows["clip"], found.item_thresholds.tolist(), strict=False))
    threshold = float(np.median(found.thresholds)) if of_clip else None
    thresholds = found.thresholds.tolist()
    return CrossFitted(threshold=threshold, thresholds=thresholds, balanced_accuracy=found.balanced_accuracy), of_clip


def _parities(
    asked: pd.DataFrame,
    questions: PairTable,
    replicates: int,
    rng: np.random.Generator,
    unanimous_only: bool,
    of_others: pd.DataFrame | None,
    of_clip: Mapping[str, float],
) -> tuple[Parity, Parity]:
    """The model in each person's place, on every item that was answered: at the fixed threshold, and cross-fitted.

    of_clip: cross-fitted thresholds. A clip without a question of its own takes the median.
    """
    if not asked["ok"].any():
        none = Parity.undefined("no question was answered" if len(asked) else "there are no questions")
        return none, none
    places = _places(asked, questions, unanimous_only, of_others)
    if isinstance(places, str):
        return Parity.undefined(places), Parity.undefined(places)
    places = places.take(asked["ok"].to_numpy(dtype=bool)[places.item])
    similarity, clips = asked["similarity"].fillna(-np.inf).to_numpy(dtype=float), asked["clip"].to_numpy()
    fixed = asked["pred_present"].fillna(0).to_numpy(dtype=bool)
    at_fixed = human_parity(places, fixed, clips, replicates, rng)
    if not of_clip:
        return at_fixed, Parity.undefined(NO_THRESHOLD)
    middle = float(np.median(list(of_clip.values())))
    fitted = similarity >= np.array([of_clip.get(clip, middle) for clip in clips])
    return at_fixed, human_parity(places, fitted, clips, replicates, rng)


def _places(
    asked: pd.DataFrame, questions: PairTable, unanimous_only: bool, of_others: pd.DataFrame | None
) -> HeldOutRatings | str:
    """The places of people, or why there are none."""
    if questions.truth == "dawid-skene":
        if of_others is None:
            return "leave_one_out.csv is not there; `uv run analysis.py` makes it"
        places = HeldOutRatings.from_posteriors(of_others["item"], of_others["present"], of_others["probability"])
        if not unanimous_only:
            return places
        present, raters = (asked[c].to_numpy(dtype=float)[places.item] for c in ("present_votes", "n_raters"))
        share = (present - places.vote) / np.maximum(raters - 1, 1)
        return places.take((share == 0) | (share == 1))
    if "present_votes" not in asked or (len(asked) and asked["present_votes"].isna().all()):
        return "the labels do not say how many people said present (column soft_present)"
    votes, raters = asked["present_votes"].fillna(0).to_numpy(dtype=float), asked["n_raters"].to_numpy()
    return HeldOutRatings.from_counts(votes, raters, soft=questions.truth == "soft", unanimous=unanimous_only)


def _by(rows: pd.DataFrame, key: str, bootstrap: Bootstrap) -> list[SliceMetrics]:
    """The metrics of each value of a column."""
    found = []
    for value, of_slice in rows.groupby(key, sort=True):
        metrics = _metrics(of_slice, bootstrap.take(of_slice.index.to_numpy()))
        estimates = {name: getattr(metrics, name) for name in SLICE_METRICS}
        n_positive = _whole(of_slice["label"].sum())
        found.append(SliceMetrics(value=value, n=len(of_slice), n_positive=n_positive, **estimates))
    return found


def slice_table(key: str, rows: Sequence[SliceMetrics]) -> pd.DataFrame:
    """A slice as metrics_by_<key>.csv: values alone, empty cells for what does not exist (a class is missing)."""
    cells = [[r.value, r.n, r.n_positive, *(getattr(r, name).value for name in SLICE_METRICS)] for r in rows]
    return pd.DataFrame(cells, columns=[key, "n", "n_positive", *SLICE_METRICS])


def quality_band(balanced_accuracy: Estimate) -> str | None:
    """The word for a balanced accuracy: the last band whose lower edge it reaches; None where it does not exist."""
    value = balanced_accuracy.value
    return None if value is None else [name for name, low in BANDS if round(value, 12) >= low][-1]
