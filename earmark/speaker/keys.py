"""Join an unlabelled trial list with its key, a separate file of the labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.errors import EarmarkError, shown_path
from earmark.speaker.speakers import match_similar
from earmark.speaker.trial_files import read_trials
from earmark.speaker.trials import Trials


def with_key(trials: Trials, list_path: Path, key_path: Path) -> Trials:
    """Add the labels of a key to a list.

    Parameters
    ----------
    trials : Trials
        A list without labels, or with the same ones.
    list_path, key_path : Path
        Files of both. The key is a labelled list in any format and order, with at least the trials of the list. Names
        may differ by the suffix of audio files or by outer folders.

    Returns
    -------
    Trials
        The list with labels.

    Raises
    ------
    EarmarkError
        If the key has no labels, lacks trials of the list, or contradicts the labels of the list.
    """
    key = read_trials(key_path)
    if key.labels is None:
        raise EarmarkError(f"{shown_path(key_path)}: has no labels; a key has lines `enrol test target|nontarget`.")
    place = _places_in_key(trials, key)
    if (absent := np.flatnonzero(place < 0)).size:
        first = absent[0]
        pair = f"{trials.names[trials.enrolment[first]]} {trials.names[trials.test[first]]}"
        raise EarmarkError(
            f"{shown_path(key_path)}: lacks {len(absent):,} of {len(trials):,} trials of {shown_path(list_path)}, for "
            f"example {pair}. Is it the key of another list?"
        )
    labels = np.asarray(key.labels)[place]
    if trials.labels is not None and (other := int((labels != trials.labels).sum())):
        raise EarmarkError(f"{shown_path(key_path)}: contradicts {other:,} labels of {shown_path(list_path)}.")
    return replace(trials, labels=labels)


def _places_in_key(trials: Trials, key: Trials) -> NDArray[np.int64]:
    """Line of each trial in the key, (n,); −1 where it has none. Both orders of the two utterances are accepted."""
    position = {str(name): number for number, name in enumerate(key.names)}
    names = [str(name) for name in trials.names]
    matches = match_similar([name for name in names if name not in position], position)
    code = np.array([position.get(matches.get(name, name), -1) for name in names], dtype=np.int64)
    n = len(key.names)
    first, second = code[trials.enrolment], code[trials.test]
    pairs = key.enrolment.astype(np.int64) * n + key.test
    unique, line = np.unique(pairs, return_index=True)
    index = pd.Index(unique)
    place = np.full(len(trials), -1, dtype=np.int64)
    for one, other in ((first, second), (second, first)):
        found = index.get_indexer(one * n + other)
        found[(one < 0) | (other < 0)] = -1
        place = np.where((place < 0) & (found >= 0), line[np.maximum(found, 0)], place)
    return place
