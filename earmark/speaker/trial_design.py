"""Check of a trial list without its voices: what else predicts which trials are targets.

If all non-target trials are across languages, a language classifier solves the list. The check scores every trial by a
property of its two files alone (same language, similar duration, …) and reports how well that separates targets from
non-targets, as the area under the ROC curve: 0.5 if it says nothing, 1 or 0 if the list decides itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.detection import LabelledScores
from earmark.metrics.detection_intervals import ScoredTrials
from earmark.metrics.estimate import Estimate
from earmark.metrics.trial_groups import area_under_roc
from earmark.speaker.conditions import MANY_NUMBERS, Attribute, PairValues
from earmark.speaker.schema import DesignGroup, DesignPredictor, TrialDesign
from earmark.speaker.system import audio_path
from earmark.speaker.trials import Trials

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

DECISIVE = 0.9  # area under the ROC curve from which a list decides itself; 1 − this on the other side
MAX_FILES = 20_000  # whose headers are read for their duration
SPEAKER_COLUMNS = ("speaker", "speaker_id", "spk")  # they define the label


@dataclass(frozen=True)
class FileFacts:
    """Sizes and durations of the audio files of a list.

    Attributes
    ----------
    bytes, seconds : (m,) float
        NaN where unknown.
    """

    bytes: FloatArray
    seconds: FloatArray


def read_file_facts(names: Sequence[str], root: Path) -> FileFacts:
    """Read sizes and durations of files; durations only of lists of at most 20,000 files, from their headers.

    Parameters
    ----------
    names : sequence of str
        Paths relative to `root`. Files that do not exist are unknown.
    root : Path
    """
    sizes, seconds = np.full(len(names), np.nan), np.full(len(names), np.nan)
    if not names or not any(audio_path(root, name).is_file() for name in (names[0], names[-1])):
        return FileFacts(sizes, seconds)
    import soundfile

    for number, name in enumerate(names):
        path = audio_path(root, name)
        try:
            sizes[number] = path.stat().st_size
            if len(names) <= MAX_FILES:
                seconds[number] = soundfile.info(path).duration
        except (OSError, soundfile.LibsndfileError):
            continue
    return FileFacts(sizes, seconds)


def check_trial_design(
    trials: Trials,
    scored: LabelledScores,
    attributes: Iterable[Attribute],
    files: FileFacts,
    speakers: Sequence[str] | None,
) -> TrialDesign:
    """What predicts the labels of a list without listening.

    Parameters
    ----------
    trials : Trials
        A labelled list.
    scored : LabelledScores
        The same trials, `ScoredTrials` for intervals; its scores are not used.
    attributes : iterable of Attribute
        Attributes of the utterances; that of the speaker is ignored.
    files : FileFacts
        Of each of `trials.names`.
    speakers : sequence of str or None
        Speaker of each of `trials.names`.

    Returns
    -------
    TrialDesign
        With a warning for every predictor whose area under the ROC curve is at least 0.9 or at most 0.1.
    """
    kept = _shared(trials, [each for each in attributes if each.name.lower() not in SPEAKER_COLUMNS])
    folders = _folders(trials, speakers)
    if folders is not None and not any(tuple(each.values) == tuple(folders.values) for each, _ in kept):
        kept += _shared(trials, [folders])
    predictors = [_attribute_predictor(trials, scored, attribute, pairs) for attribute, pairs in kept]
    for name, values in (("duration", files.seconds), ("file size", files.bytes)):
        if np.isfinite(values).any() and not any(each.name == name for each, _ in kept):
            predictors.append(_similarity_predictor(trials, scored, name, values))
    groups = [_group("all", trials, np.ones(len(trials), bool), trials.is_repeated, speakers)]
    for attribute, pairs in kept:
        groups += _groups(trials, attribute.name, pairs, speakers)
    return TrialDesign(
        predictors=predictors,
        groups=groups,
        warnings=[
            f"The list decides itself: {each.name} ({each.rule}) alone separates target from non-target trials "
            f"(area under the ROC curve {each.auc.value:.3f}). Error rates on it say little about voices."
            for each in predictors
            if each.auc.value is not None and abs(each.auc.value - 0.5) >= DECISIVE - 0.5 - 1e-12
        ],
    )


def _shared(trials: Trials, attributes: Iterable[Attribute]) -> list[tuple[Attribute, PairValues]]:
    """Attributes of which both utterances of any trial share a value; those of a name or identifier never do."""
    pairs = ((attribute, PairValues.from_attribute(trials, attribute)) for attribute in attributes)
    return [(attribute, values) for attribute, values in pairs if values.same.any()]


def _folders(trials: Trials, speakers: Sequence[str] | None) -> Attribute | None:
    """Folders of the files below that of the speaker; None if there are none."""
    found: list[str | None] = []
    for number, name in enumerate(trials.names):
        parts = PurePosixPath(str(name)).parts[:-1]
        below = parts[1:] if speakers is None or (parts and parts[0] == speakers[number]) else parts
        found.append("/".join(below) if below else None)
    return Attribute("folder", "paths", found) if any(found) else None


def _attribute_predictor(
    trials: Trials, scored: LabelledScores, attribute: Attribute, pairs: PairValues
) -> DesignPredictor:
    numbers = attribute.numbers
    if numbers is not None and len({value for value in attribute.values if value is not None}) > MANY_NUMBERS:
        return _similarity_predictor(trials, scored, attribute.name, numbers)
    return _predictor(attribute.name, "same value", scored, pairs.same.astype(float), pairs.known)


def _similarity_predictor(trials: Trials, scored: LabelledScores, name: str, values: FloatArray) -> DesignPredictor:
    """Similar values predict a target: minus the absolute difference, of logarithms for positive values."""
    known = np.isfinite(values)
    positive = bool((values[known] > 0).all())
    scale = np.log(np.where(known, values, 1.0)) if positive else np.where(known, values, 0.0)
    similarity = -np.abs(scale[trials.enrolment] - scale[trials.test])
    return _predictor(name, "similar value", scored, similarity, known[trials.enrolment] & known[trials.test])


def _predictor(name: str, rule: str, scored: LabelledScores, score: FloatArray, known: BoolArray) -> DesignPredictor:
    n_unknown = int((~known).sum())
    labels = scored.labels[known] if n_unknown else scored.labels
    if not labels.any() or labels.all():
        auc = Estimate(None, n=len(labels), why="known for one class of trials only, or for none")
    elif isinstance(scored, ScoredTrials):
        n = scored.pairs.n_speakers
        part = LabelledScores(score[known], labels)
        own = ScoredTrials.from_trials(part, scored.first[known], scored.second[known], n, scored.units)
        auc = area_under_roc(own).estimate
    else:
        auc = area_under_roc(LabelledScores(score[known] if n_unknown else score, labels)).estimate
    return DesignPredictor(name=name, rule=rule, n_unknown=n_unknown, auc=auc)


def _groups(trials: Trials, name: str, pairs: PairValues, speakers: Sequence[str] | None) -> list[DesignGroup]:
    """Numbers of the four groups of trials of an attribute."""
    labels, repeated = np.asarray(trials.labels), trials.is_repeated
    return [
        _group(
            f"{'target' if is_target else 'non-target'}, {'same' if same else 'different'} {name}",
            trials,
            pairs.known & (labels == is_target) & (pairs.same == same),
            repeated,
            speakers,
        )
        for is_target in (True, False)
        for same in (True, False)
    ]


def _group(
    name: str, trials: Trials, members: BoolArray, repeated: BoolArray, speakers: Sequence[str] | None
) -> DesignGroup:
    used = np.zeros(len(trials.names), bool)
    used[trials.enrolment[members]] = used[trials.test[members]] = True
    return DesignGroup(
        name=name,
        n_trials=int(members.sum()),
        n_utterances=int(used.sum()),
        n_speakers=None if speakers is None else len({speakers[number] for number in np.flatnonzero(used).tolist()}),
        n_repeated_trials=int((members & repeated).sum()),
    )
