"""Figures of the page that `evaluate_speaker.py case` writes beside its report."""

from collections.abc import Mapping, Sequence

import numpy as np

from earmark.metrics.detection import interpolated_equal_error_rate, roc
from earmark.metrics.estimate import Estimate
from earmark.report.figures import Figure, Interval, det_plot, forest_plot
from earmark.speaker.case.conditions import case_definition, categories, category
from earmark.speaker.case.evaluation import ConditionResult


def case_figures(
    results: Sequence[ConditionResult], aggregates: Mapping[str, Estimate], model: str, *, official: bool
) -> list[Figure]:
    """Draw equal error rates by category beside the published models, by condition, and DET curves by category.

    Parameters
    ----------
    results : sequence of ConditionResult
    aggregates : mapping
        {aggregate or category: equal error rate}; empty unless all conditions were evaluated.
    model : str
        Name of the model.
    official : bool
        Whether the audio is the official one; otherwise published models are not comparable.

    Returns
    -------
    list of Figure
    """
    by_category = [Interval(name, aggregates[name].in_percent(), model) for name in categories() if name in aggregates]
    beside = ", beside the published models" if official else ""
    if by_category and official:
        by_category += [
            Interval(name, Estimate(100 * published["category_breakdown"][name]), published["model_name"])
            for published in case_definition()["published"]
            for name in categories()
        ]
    by_condition = [
        Interval(result.condition.removeprefix("clean_"), result.eer(scoring).estimate.in_percent(), scoring)
        for result in results
        for scoring in result.by_scoring
    ]
    curves = {}
    eers = {}
    for name in categories():
        own = [result.trials for result in results if category(result.condition) == name]
        if own:
            scores = np.concatenate([np.asarray(trials.scores) for trials in own])
            curve = roc(scores, np.concatenate([np.asarray(trials.labels) for trials in own]))
            curves[name] = (curve.false_alarms, curve.misses)
            eers[name] = interpolated_equal_error_rate(curve).rate
    figures = [
        forest_plot("categories", f"Equal error rates by category{beside}.", by_category, EER_AXIS),
        forest_plot("conditions", "Equal error rates by condition with 95 % intervals.", by_condition, EER_AXIS),
        det_plot("det", "Detection error trade-off of each category, all its trials together.", curves, eers),
    ]
    return [figure for figure in figures if figure is not None]


EER_AXIS = "equal error rate in %"
