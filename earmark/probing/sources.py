"""Detect sources with clips in several parts of a split, and build splits without such sources.

A source is what clips share beside their labels: a speaker or a recording. If a source occurs in training and test, the
score measures partly how well the encoder recognises sources. `source_overlap` counts such sources;
`make_source_disjoint` assigns every source to one part.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from earmark.probing.data import TaskData
from earmark.probing.labels import sorted_names
from earmark.probing.splits import trained_and_tested

IntArray = NDArray[np.int64]
Parts = NDArray[np.str_]  # (N,) split or fold of each clip

EXCLUDED = ""
MIN_KEPT = 0.5  # least share of training and validation clips to keep, otherwise the splits are rebuilt


@dataclass(frozen=True)
class SourceOverlap:
    """Counts of sources with clips in several folds or splits.

    Attributes
    ----------
    parts : str
        "folds" or "splits".
    sources, spanning : int
        Number of sources, and of those with clips in at least two parts.
    test_clips, shared_test_clips : int
        Number of test clips, and of those whose source also occurs in training.
    """

    parts: str
    sources: int
    spanning: int
    test_clips: int
    shared_test_clips: int


@dataclass(frozen=True)
class SourceDisjointData:
    """Data in source-disjoint splits or folds.

    Attributes
    ----------
    data : TaskData
        The data; excluded clips have an empty split.
    description : str
        How the clips were assigned.
    n_excluded : int
        Clips that are in no part.
    """

    data: TaskData
    description: str
    n_excluded: int = 0


def source_overlap(data: TaskData) -> SourceOverlap | None:
    """Count the sources with clips in several folds or splits.

    Returns
    -------
    SourceOverlap or None
        None if there is no such source.
    """
    parts, source = _usable_parts(data), _sources(data)
    used = parts != EXCLUDED
    pairs = np.unique(np.stack([source[used], np.unique(parts, return_inverse=True)[1][used]]), axis=1)
    overlapping = np.bincount(pairs[0], minlength=source.max() + 1) > 1
    if not overlapping.any():
        return None
    if data.fold is not None:
        return SourceOverlap(
            "folds", len(overlapping), int(overlapping.sum()), len(source), int(overlapping[source].sum())
        )
    test = parts == "test"
    shared = np.isin(source[test], source[parts == "train"])
    return SourceOverlap("splits", len(overlapping), int(overlapping.sum()), int(test.sum()), int(shared.sum()))


def make_source_disjoint(data: TaskData, seed: int) -> SourceDisjointData:
    """Assign every source to one fold or one split.

    With folds, sources are reassigned to as many folds. With splits, the first rule that fits applies:

    1. The test clips stay. Training loses the sources of test and validation clips, and validation loses the sources of
       test clips, if training keeps every class and both keep half of their clips.
    2. The test clips stay, and the other sources are reassigned to training and validation, if half of these clips and
       every class of training remain.
    3. All sources are reassigned in the given proportions.

    Parameters
    ----------
    data : TaskData
        The data as given.
    seed : int
        Seed for the order of sources of equal size.

    Raises
    ------
    ValueError
        If there are fewer sources than folds or splits.
    """
    if data.fold is not None:
        fold_names = sorted_names(data.fold.tolist())
        fold = assign_sources(data, np.arange(len(data.clips)), dict.fromkeys(fold_names, 1 / len(fold_names)), seed)
        return SourceDisjointData(replace(data, fold=fold), "sources reassigned to folds")
    return _drop_shared(data) or _resplit_training(data, seed) or _resplit_all(data, seed)


def _drop_shared(data: TaskData) -> SourceDisjointData | None:
    """Rule 1 of `make_source_disjoint`; None if too little remains."""
    parts, source = _usable_parts(data), _sources(data)
    in_test = np.isin(source, source[parts == "test"])
    in_valid = np.isin(source, source[(parts == "valid") & ~in_test])
    dropped = ((parts == "train") & (in_test | in_valid)) | ((parts == "valid") & in_test)
    new_parts = np.where(dropped, EXCLUDED, parts)
    enough = all((new_parts == part).sum() >= MIN_KEPT * (parts == part).sum() for part in ("train", "valid"))
    if not enough or _training_classes(data, new_parts) != _training_classes(data, parts):
        return None
    return _with_split(data, new_parts, "given test clips; their sources are excluded from training and validation")


def _resplit_training(data: TaskData, seed: int) -> SourceDisjointData | None:
    """Rule 2 of `make_source_disjoint`; None if too little remains."""
    parts, source = _usable_parts(data), _sources(data)
    used = np.isin(parts, ("train", "valid"))
    available = used & ~np.isin(source, source[parts == "test"])
    shares = _proportions(parts[used])
    if len(shares) < 2 or available.sum() < MIN_KEPT * used.sum() or len(np.unique(source[available])) < 2:
        return None
    new_parts = np.where(used, EXCLUDED, parts)
    new_parts[available] = assign_sources(data, np.flatnonzero(available), shares, seed)
    if not _training_classes(data, new_parts) >= _training_classes(data, parts):
        return None
    description = (
        "given test clips; their sources are excluded, the other sources reassigned to training and validation"
    )
    return _with_split(data, new_parts, description)


def _resplit_all(data: TaskData, seed: int) -> SourceDisjointData:
    """Rule 3 of `make_source_disjoint`."""
    new_parts = _usable_parts(data).copy()
    used = new_parts != EXCLUDED
    new_parts[used] = assign_sources(data, np.flatnonzero(used), _proportions(new_parts[used]), seed)
    return _with_split(data, new_parts, "sources reassigned to splits in the given proportions")


def assign_sources(data: TaskData, clips: IntArray, shares: Mapping[str, float], seed: int) -> Parts:
    """Assign whole sources to parts so that each part gets its share of clips and classes.

    Sources are assigned one by one, the largest first and equal ones in random order, to the part with the smallest
    resulting excess over its shares. Every part gets a source.

    Parameters
    ----------
    data : TaskData
        The data.
    clips : (n,) int
        Indices of the clips to assign.
    shares : mapping
        {part: its share}, with sum 1.
    seed : int
        Seed for the order of sources of equal size.

    Returns
    -------
    (n,) str
        The part of each clip.

    Raises
    ------
    ValueError
        If there are fewer sources than parts.
    """
    names, target_share = np.array(list(shares)), np.array(list(shares.values()))
    source = np.unique([data.group[clip] for clip in clips], return_inverse=True)[1]
    clip_classes, n_sources = data.clip_classes, int(source.max()) + 1
    if n_sources < len(names):
        raise ValueError(f"{n_sources} sources are too few for the parts {', '.join(names)}; each needs at least one")
    counts = [Counter[int]() for _ in range(n_sources)]  # clips per class; -1: all clips
    for source_id, clip in zip(source.tolist(), clips.tolist(), strict=True):
        counts[source_id].update((-1, *clip_classes[clip]))
    total = sum(counts, Counter[int]())
    assigned = {code: np.zeros(len(names)) for code in total}
    order = np.random.default_rng(seed).permutation(n_sources).tolist()
    order.sort(key=lambda source_id: -counts[source_id][-1])
    part_of_source, filled = np.empty(n_sources, dtype=np.int64), np.zeros(len(names), dtype=bool)
    for position, source_id in enumerate(order):
        excess = np.zeros(len(names))
        for code, n in counts[source_id].items():
            excess += n * (2 * (assigned[code] - target_share * total[code]) + n) / (target_share * total[code])
        if n_sources - position == (~filled).sum():
            excess[filled] = np.inf
        part_of_source[source_id] = chosen = int(excess.argmin())
        filled[chosen] = True
        for code, n in counts[source_id].items():
            assigned[code][chosen] += n
    return np.asarray(names[part_of_source[source]])


def _usable_parts(data: TaskData) -> Parts:
    """Split or fold of each clip; empty for a training clip that is also a test clip."""
    return data.parts if data.fold is not None else np.where(trained_and_tested(data), EXCLUDED, data.parts)


def _sources(data: TaskData) -> IntArray:
    return np.unique(data.group, return_inverse=True)[1].astype(np.int64)


def _with_split(data: TaskData, split: Parts, description: str) -> SourceDisjointData:
    n_excluded = int(((split == EXCLUDED) & (_usable_parts(data) != EXCLUDED)).sum())
    return SourceDisjointData(replace(data, split=split), description, n_excluded)


def _training_classes(data: TaskData, parts: Parts) -> set[int]:
    clip_classes = data.clip_classes
    return {code for clip in np.flatnonzero(parts == "train") for code in clip_classes[clip]}


def _proportions(parts: Parts) -> dict[str, float]:
    """Proportions of train, valid and test, without absent splits."""
    return {name: share for name in ("train", "valid", "test") if (share := float((parts == name).mean()))}
