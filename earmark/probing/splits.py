"""Training, validation and test clips of each recipe.

xares   the published splits; with folds, or without a validation split, the test clips select the epoch
strict  validation is always held out: with folds, fold i tests and fold i + 1 validates; without a validation split,
        about a tenth of the training sources is held out

If sources overlap between the given folds or splits, `strict` uses the output of `sources.make_source_disjoint` and
`strict_given_splits` uses the given ones.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from earmark.probing.data import TaskData
from earmark.probing.features import format_names
from earmark.probing.heads.linear import Fold
from earmark.probing.labels import sorted_names
from earmark.probing.tasks import SPLITS

IntArray = NDArray[np.int64]

VALIDATION_SHARE = 0.1  # of the training clips, without a validation split


def published_folds(data: TaskData) -> list[Fold]:
    """Folds of the xares recipe: training clips, clips that select the epoch, test clips."""
    if data.fold is not None:
        names = sorted_names(data.fold.tolist())
        parts = [data.fold == name for name in names]
        return [Fold(i, *map(np.flatnonzero, (~test, test, test))) for i, test in enumerate(parts)]
    train, valid, test = _splits(data)
    return [Fold(0, train, valid if len(valid) else test, test)]


def strict_folds(data: TaskData, seed: int) -> list[Fold]:
    """Folds of the strict recipe; no clip is in two parts of a fold.

    Parameters
    ----------
    data : TaskData
        Clips with splits or folds.
    seed : int
        Seed of a held-out validation set.

    Returns
    -------
    list of Fold
        One per fold, or a single one. A held-out validation set consists of whole sources.

    Raises
    ------
    ValueError
        If no training clips are left.
    """
    if data.fold is not None:
        names = sorted_names(data.fold.tolist())
        if len(names) == 2:  # a validation fold would leave no training fold
            parts = [data.fold == name for name in names]
            return [
                Fold(i, *hold_out_validation(np.flatnonzero(~test), data, seed), np.flatnonzero(test))
                for i, test in enumerate(parts)
            ]
        k, index_of = len(names), {name: i for i, name in enumerate(names)}
        fold_index = np.array([index_of[name] for name in data.fold.tolist()])
        return [
            Fold(
                i,
                *map(
                    np.flatnonzero,
                    ((fold_index != i) & (fold_index != (i + 1) % k), fold_index == (i + 1) % k, fold_index == i),
                ),
            )
            for i in range(k)
        ]
    train, valid, test = _splits(data)
    train = train[~trained_and_tested(data)[train]]
    if not len(train):
        raise ValueError("all training clips are also test clips; no training clips remain")
    if not len(valid):
        train, valid = hold_out_validation(train, data, seed)
    return [Fold(0, train, valid, test)]


def trained_and_tested(data: TaskData) -> NDArray[np.bool_]:
    """(N,) bool: training clips that are also test clips, as when the published recipe trains on the test clips."""
    train, _, test = _splits(data)
    test_clips = {data.clips[clip] for clip in test}
    return np.isin(np.arange(len(data.clips)), [clip for clip in train if data.clips[clip] in test_clips])


def require_training_classes(data: TaskData, folds: Sequence[Fold]) -> None:
    """Check that every class of the test clips occurs in training.

    Parameters
    ----------
    data : TaskData
        The data.
    folds : sequence of Fold
        Training and test clips.

    Raises
    ------
    ValueError
        With the classes that have no training clip in a fold that tests them.
    """
    clip_classes, names = data.clip_classes, [] if data.fold is None else sorted_names(data.fold.tolist())
    faults = []
    for fold in folds:
        trained, tested = ({code for clip in part for code in clip_classes[clip]} for part in (fold.train, fold.test))
        if untrained := sorted(tested - trained):
            problem = f"no training clips of {format_names([data.classes[code] for code in untrained])}"
            faults.append(f"{problem} when fold {names[fold.number]} is tested" if names else problem)
    if faults:
        raise ValueError("; ".join(faults))


def _splits(data: TaskData) -> tuple[IntArray, IntArray, IntArray]:
    train, valid, test = (np.flatnonzero(data.parts == name) for name in SPLITS)
    return train, valid, test


def hold_out_validation(train: IntArray, data: TaskData, seed: int) -> tuple[IntArray, IntArray]:
    """Split training clips into training and validation by source.

    Parameters
    ----------
    train : (n,) int
        Indices of the training clips.
    data : TaskData
        The data.
    seed : int
        Seed for the order of the sources.

    Returns
    -------
    train, valid : (a,), (b,) int
        Disjoint; b is close to n / 10. The only remaining source of a class stays in training unless no other source
        can be held out.

    Raises
    ------
    ValueError
        If all clips have the same source.
    """
    names, source = np.unique([data.group[clip] for clip in train], return_inverse=True)
    clip_classes = data.clip_classes
    class_counts = [Counter[int]() for _ in names]  # clips of each class, by source
    for source_id, clip in zip(source.tolist(), train.tolist(), strict=True):
        class_counts[source_id].update(clip_classes[clip])
    remaining = Counter(code for clip in train.tolist() for code in clip_classes[clip])
    if len(names) < 2:
        raise ValueError("all training clips have the same source; no source can be held out for validation")
    sizes, target = np.bincount(source), VALIDATION_SHARE * len(train)
    chosen: list[int] = []
    total = 0
    for source_id in np.random.default_rng(seed).permutation(len(names)).tolist():
        last_of_class = any(remaining[code] == count for code, count in class_counts[source_id].items())
        too_large = abs(total + sizes[source_id] - target) > abs(total - target)
        if not too_large and not last_of_class:
            chosen.append(source_id)
            remaining -= class_counts[source_id]
            total += int(sizes[source_id])
    is_validation = np.isin(source, chosen or [int(sizes.argmin())])
    return train[~is_validation], train[is_validation]


def few_shot_folds(labels: IntArray, fold: Fold, shots: int, draws: int, seed: int) -> list[Fold]:
    """Draw few-shot training sets.

    Parameters
    ----------
    labels : (N,) int
        Class index of each clip.
    fold : Fold
        Fold to draw training clips from; validation and test stay.
    shots : int
        Training clips per class.
    draws : int
        Number of folds.
    seed : int
        Seed of the draws.

    Raises
    ------
    ValueError
        If a class has fewer than `shots` training clips.
    """
    classes = np.unique(labels[fold.train])
    members = [fold.train[labels[fold.train] == code] for code in classes]
    smallest = min(map(len, members))
    if smallest < shots:
        raise ValueError(f"{shots} shots: a class has only {smallest} training clips")
    folds = []
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        train = np.sort(np.concatenate([rng.choice(clips, shots, replace=False) for clips in members]))
        folds.append(Fold(draw, train, fold.valid, fold.test))
    return folds
