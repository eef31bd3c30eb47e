"""Sources that have clips on both sides of a split, and splits or folds in which none has.

A source is what clips share beside their labels: a speaker, a recording. Where one trains and is tested, a score says
how well sources are known again, not what was asked. `spanning` counts; `by_source` gives each source one side.
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
Parts = NDArray[np.str_]  # (N,) the split or fold of each clip

EXCLUDED = ""
MIN_KEPT = 0.5  # of training and of validation at least, for the test clips to stay as they are given


@dataclass(frozen=True)
class SourceOverlap:
    """What spans: parts ("folds" or "splits"), how many sources there are and how many have clips in two of them or
    more, how many test clips there are and how many have a source that also trains.
    """

    parts: str
    sources: int
    spanning: int
    test_clips: int
    shared_test_clips: int


@dataclass(frozen=True)
class SourceDisjointData:
    """The data in splits or folds by source. how: in words; left_out: clips that are in none of them now."""

    data: TaskData
    description: str
    n_excluded: int = 0


def source_overlap(data: TaskData) -> SourceOverlap | None:
    """Counts of sources that span folds or splits; None where none does."""
    parts, source = _parts(data), _sources(data)
    there = parts != EXCLUDED
    pairs = np.unique(np.stack([source[there], np.unique(parts, return_inverse=True)[1][there]]), axis=1)
    spans = np.bincount(pairs[0], minlength=source.max() + 1) > 1
    if not spans.any():
        return None
    if data.fold is not None:
        return SourceOverlap("folds", len(spans), int(spans.sum()), len(source), int(spans[source].sum()))
    test = parts == "test"
    shared = np.isin(source[test], source[parts == "train"])
    return SourceOverlap("splits", len(spans), int(spans.sum()), int(test.sum()), int(shared.sum()))


def make_source_disjoint(data: TaskData, seed: int) -> SourceDisjointData:
    """The data with every source in one fold or one split.

    Folds: as many, sources dealt anew. Splits: test clips stay, and training loses the sources that they have, where it
    keeps every class and half of its clips; so does validation. Where validation shares too much with training, those
    two are dealt anew; where training shares too much with the test clips, all are, in the given proportions.
    ValueError where there are fewer sources than folds or splits.
    """
    if data.fold is not None:
        names = sorted_names(data.fold.tolist())
        fold = assign_sources(data, np.arange(len(data.clips)), dict.fromkeys(names, 1 / len(names)), seed)
        return SourceDisjointData(replace(data, fold=fold), "folds dealt anew, every source in one")
    return _losing_shared(data) or _training_anew(data, seed) or _all_anew(data, seed)


def _losing_shared(data: TaskData) -> SourceDisjointData | None:
    """Training without the sources of test and validation, validation without those of test; if enough is left."""
    given, source = _parts(data), _sources(data)
    tested = np.isin(source, source[given == "test"])
    validates = np.isin(source, source[(given == "valid") & ~tested])
    lost = ((given == "train") & (tested | validates)) | ((given == "valid") & tested)
    kept = np.where(lost, EXCLUDED, given)
    enough = all((kept == part).sum() >= MIN_KEPT * (given == part).sum() for part in ("train", "valid"))
    if not enough or _taught(data, kept) != _taught(data, given):
        return None
    return _split(data, kept, "the given test clips; the sources that they share are left out of what trains")


def _training_anew(data: TaskData, seed: int) -> SourceDisjointData | None:
    """Training and validation of the sources that are not tested, dealt anew; if enough is left."""
    given, source = _parts(data), _sources(data)
    used = np.isin(given, ("train", "valid"))
    left = used & ~np.isin(source, source[given == "test"])
    shares = _shares(given[used])
    if len(shares) < 2 or left.sum() < MIN_KEPT * used.sum() or len(np.unique(source[left])) < 2:
        return None
    anew = np.where(used, EXCLUDED, given)
    anew[left] = assign_sources(data, np.flatnonzero(left), shares, seed)
    if not _taught(data, anew) >= _taught(data, given):
        return None
    how = "the given test clips, their sources left out elsewhere; training and validation dealt anew by source"
    return _split(data, anew, how)


def _all_anew(data: TaskData, seed: int) -> SourceDisjointData:
    anew = _parts(data).copy()
    there = anew != EXCLUDED
    anew[there] = assign_sources(data, np.flatnonzero(there), _shares(anew[there]), seed)
    return _split(data, anew, "splits dealt anew in the given proportions, every source in one")


def assign_sources(data: TaskData, clips: IntArray, shares: Mapping[str, float], seed: int) -> Parts:
    """The part of each of the clips, (n,), whole sources to a part: each part gets its share of clips and classes.

    Sources go one by one, the largest first and equals in random order, to the part that then has the least too much
    of what the source has. Every part gets a source; ValueError where there are too few.
    """
    names, share = np.array(list(shares)), np.array(list(shares.values()))
    source = np.unique([data.group[clip] for clip in clips], return_inverse=True)[1]
    named, n_sources = data.clip_classes, int(source.max()) + 1
    if n_sources < len(names):
        raise ValueError(f"{n_sources} sources cannot be dealt to {', '.join(names)}; each needs one")
    counts = [Counter[int]() for _ in range(n_sources)]  # clips of each class, and of any (-1)
    for each, clip in zip(source.tolist(), clips.tolist(), strict=True):
        counts[each].update((-1, *named[clip]))
    total = sum(counts, Counter[int]())
    has = {code: np.zeros(len(names)) for code in total}
    order = np.random.default_rng(seed).permutation(n_sources).tolist()
    order.sort(key=lambda each: -counts[each][-1])
    part, filled = np.empty(n_sources, dtype=np.int64), np.zeros(len(names), dtype=bool)
    for place, each in enumerate(order):
        too_much = np.zeros(len(names))
        for code, n in counts[each].items():
            too_much += n * (2 * (has[code] - share * total[code]) + n) / (share * total[code])
        if n_sources - place == (~filled).sum():
            too_much[filled] = np.inf
        part[each] = best = int(too_much.argmin())
        filled[best] = True
        for code, n in counts[each].items():
            has[code][best] += n
    return np.asarray(names[part[source]])


def _parts(data: TaskData) -> Parts:
    """The split or fold of each clip; a training clip that is a test clip as well is left out."""
    return data.parts if data.fold is not None else np.where(trained_and_tested(data), EXCLUDED, data.parts)


def _sources(data: TaskData) -> IntArray:
    return np.unique(data.group, return_inverse=True)[1].astype(np.int64)


def _split(data: TaskData, split: Parts, how: str) -> SourceDisjointData:
    left_out = int(((split == EXCLUDED) & (_parts(data) != EXCLUDED)).sum())
    return SourceDisjointData(replace(data, split=split), how, left_out)


def _taught(data: TaskData, parts: Parts) -> set[int]:
    named = data.clip_classes
    return {code for clip in np.flatnonzero(parts == "train") for code in named[clip]}


def _shares(parts: Parts) -> dict[str, float]:
    """The proportions of train, valid and test, of those that there are."""
    return {name: share for name in ("train", "valid", "test") if (share := float((parts == name).mean()))}
