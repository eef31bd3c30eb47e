"""Comparisons of a model with raters whose intervals speak for other raters too.

`parity` and `audio_text` compare a model and the raters on the same held-out ratings, with intervals over clips. Where
asked, the variance over raters is added (`metrics.rater_resampling`): the whole comparison is computed again without
each rater, who then is neither compared nor part of a reference.

With more than MOST_GROUPS raters, groups of raters are left out together, which estimates the same variance.

References: Kott (2001), The delete-a-group jackknife, Journal of Official Statistics 17:521.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from earmark.annotation.parity import MOST_GROUPS, Parity
from earmark.metrics.bootstrap import Bootstrap, Units, estimate_from_replicates, paired_difference
from earmark.metrics.intervals import SHARE, Range
from earmark.metrics.rater_resampling import NOISE_REPLICATES, RaterVariation, rater_variations

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Ratings to keep, (m,) bool, and bootstrap → values of the model and of the raters, (1 + replicates, scores, 2): on the
# data, and on every replicate.
Evaluate = Callable[[NDArray[np.bool_], Bootstrap], FloatArray]


@dataclass(frozen=True)
class ComparedScore:
    """What `for_new_raters` needs to know of a score.

    Attributes
    ----------
    name : str
    parity : Parity
        With intervals over clips.
    units : Units
        Units that determine the precision.
    values : Range
        Possible values.
    """

    name: str
    parity: Parity
    units: Units
    values: Range = SHARE


def for_new_raters(
    scores: Sequence[ComparedScore], evaluate: Evaluate, rater: IntArray, bootstrap: Bootstrap
) -> Mapping[str, Parity]:
    """Intervals and p-values that speak for other raters.

    Parameters
    ----------
    scores : sequence of ComparedScore
        In the order of the values of `evaluate`.
    evaluate : callable
        Compares the model with the raters on some of the ratings.
    rater : (m,) int
        Rater of each rating, 0 … number of raters − 1.
    bootstrap : Bootstrap
        Handed to `evaluate`; its `resample` says what intervals speak for. With "clips" nothing changes.

    Returns
    -------
    dict of str to Parity
        With the values of `scores`. Without an interval, with the reason, where a score is undefined without one of
        the raters.
    """
    unchanged = {score.name: score.parity for score in scores}
    if bootstrap.resample == "clips" or bootstrap.n_units < 2 or not len(bootstrap.weights) or not len(rater):
        return unchanged
    group = rater % MOST_GROUPS
    ratings = np.bincount(group)
    few = replace(bootstrap, weights=bootstrap.weights[:NOISE_REPLICATES])
    everything = evaluate(np.full(len(rater), True), bootstrap)
    without = np.stack([evaluate(group != left_out, few) for left_out in np.flatnonzero(ratings)], axis=1)
    compared = {}
    for place, score in enumerate(scores):
        own = np.concatenate([without[:, :, place], -np.diff(without[:, :, place])], axis=-1)
        variations = rater_variations(own, ratings[ratings > 0], bootstrap.n_units, bootstrap.resample)
        compared[score.name] = _with_intervals(score, everything[:, place], variations)
    return compared


def _with_intervals(score: ComparedScore, values: FloatArray, variations: Sequence[RaterVariation]) -> Parity:
    """values: (1 + replicates, 2); variations of the model, of the raters and of the difference."""
    parity = score.parity
    if parity.model.value is None or parity.person.value is None or parity.difference.value is None:
        return parity
    model, person = (
        estimate_from_replicates(
            point, values[1:, who], n=parity.n, units=score.units, values=score.values, raters=variations[who]
        )
        for who, point in enumerate((parity.model.value, parity.person.value))
    )
    difference, p = paired_difference(
        parity.model.value, parity.person.value, values[1:, 0], values[1:, 1],
        n=parity.n, units=score.units, raters=variations[2],
    )  # fmt: skip
    return Parity(parity.n, model, person, difference, p).limited(score.values)
