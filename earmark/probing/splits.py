"""Which clips train, choose and test under each protocol.

xares   the published splits: where a task has no validation split, and with folds, the test clips choose the epoch
strict  held-out validation always: of folds, test i and validation i + 1; else a tenth of training, by source

Where sources span the given folds or splits, `strict` is of data that `sources.by_source` divides anew, and
`strict_given_splits` of the data as they are given.
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

VALIDATION_SHARE = 0.1  # of training, where there is no validation split


def published_folds(data: TaskData) -> list[Fold]:
    """Clips that train, choose the epoch and test, as published."""
    if data.fold is not None:
        names = sorted_names(data.fold.tolist())
        parts = [data.fold == name for name in names]
        return [Fold(i, *map(np.flatnonzero, (~test, test, test))) for i, test in enumerate(parts)]
    train, valid, test = _splits(data)
    return [Fold(0, train, valid if len(valid) else test, test)]


def strict_folds(data: TaskData, seed: int) -> list[Fold]:
    """Clips that train, choose and test, no clip in two of them. seed: of the validation split, where one is cut off.

    Sources stay together where validation is cut off; otherwise splits and folds are taken as the data have them.
    ValueError where nothing is left to train on.
    """
    if data.fold is not None:
        names = sorted_names(data.fold.tolist())
        if len(names) == 2:  # validation would leave nothing to train on
            parts = [data.fold == name for name in names]
            return [
                Fold(i, *hold_out_validation(np.flatnonzero(~test), data, seed), np.flatnonzero(test))
                for i, test in enumerate(parts)
            ]
        k, number = len(names), {name: i for i, name in enumerate(names)}
        place = np.array([number[name] for name in data.fold.tolist()])
        return [
            Fold(i, *map(np.flatnonzero, ((place != i) & (place != (i + 1) % k), place == (i + 1) % k, place == i)))
            for i in range(k)
        ]
    train, valid, test = _splits(data)
    train = train[~trained_and_tested(data)[train]]
    if not len(train):
        raise ValueError("all training clips are test clips; nothing is left to train on")
    if not len(valid):
        train, valid = hold_out_validation(train, data, seed)
    return [Fold(0, train, valid, test)]


def trained_and_tested(data: TaskData) -> NDArray[np.bool_]:
    """(N,) which clips train although they are test clips as well, as where the published recipe trains on these."""
    train, _, test = _splits(data)
    tested = {data.clips[place] for place in test}
    return np.isin(np.arange(len(data.clips)), [place for place in train if data.clips[place] in tested])


def require_training_classes(data: TaskData, folds: Sequence[Fold]) -> None:
    """ValueError with the classes of test clips that no training clip of their fold has."""
    named, names = data.clip_classes, [] if data.fold is None else sorted_names(data.fold.tolist())
    faults = []
    for fold in folds:
        taught, tested = ({code for place in part for code in named[place]} for part in (fold.train, fold.test))
        if lost := sorted(tested - taught):
            lacks = f"no training clip is left of {format_names([data.classes[code] for code in lost])}"
            faults.append(f"{lacks}, tested in fold {names[fold.number]}" if names else lacks)
    if faults:
        raise ValueError("; ".join(faults))


def _splits(data: TaskData) -> tuple[IntArray, IntArray, IntArray]:
    train, valid, test = (np.flatnonzero(data.parts == name) for name in SPLITS)
    return train, valid, test


def hold_out_validation(train: IntArray, data: TaskData, seed: int) -> tuple[IntArray, IntArray]:
    """Training without, and with, the sources drawn for validation: whole sources, as near to a tenth as they come.

    A source that alone has what is left of a class stays in training, unless none other can be held out.
    """
    names, source = np.unique([data.group[place] for place in train], return_inverse=True)
    named = data.clip_classes
    taught = [Counter[int]() for _ in names]  # clips of each class, by source
    for each, place in zip(source.tolist(), train.tolist(), strict=True):
        taught[each].update(named[place])
    left = Counter(code for place in train.tolist() for code in named[place])
    if len(names) < 2:
        raise ValueError("all training clips have one source; none can be held out for validation")
    sizes, wanted = np.bincount(source), VALIDATION_SHARE * len(train)
    drawn: list[int] = []
    total = 0
    for each in np.random.default_rng(seed).permutation(len(names)).tolist():
        last = any(left[code] == count for code, count in taught[each].items())
        if abs(total + sizes[each] - wanted) <= abs(total - wanted) and not last:  # too large a one is passed over
            drawn.append(each)
            left -= taught[each]
            total += int(sizes[each])
    held = np.isin(source, drawn or [int(sizes.argmin())])
    return train[~held], train[held]


def few_shot_folds(labels: IntArray, fold: Fold, shots: int, draws: int, seed: int) -> list[Fold]:
    """Few-shot training: `draws` folds whose training holds `shots` clips of each class, the rest as in `fold`.

    ValueError names how many clips a class has where they do not suffice.
    """
    classes = np.unique(labels[fold.train])
    members = [fold.train[labels[fold.train] == each] for each in classes]
    fewest = min(len(each) for each in members)
    if fewest < shots:
        raise ValueError(f"{shots} shots: a class has {fewest} training clips only")
    found = []
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        train = np.sort(np.concatenate([rng.choice(each, shots, replace=False) for each in members]))
        found.append(Fold(draw, train, fold.valid, fold.test))
    return found
