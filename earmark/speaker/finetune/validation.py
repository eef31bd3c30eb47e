"""Equal error rate of a model on validation trials, across languages too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import AudioError
from earmark.errors import EarmarkError
from earmark.metrics.detection import equal_error_rate, roc
from earmark.models.batching import in_batches
from earmark.models.encoders.wespeaker.loading import WeSpeakerEncoder
from earmark.speaker.evaluation import compare_systems, evaluate
from earmark.speaker.finetune.clips import Waveforms
from earmark.speaker.finetune.schema import ComparedRate
from earmark.speaker.system import BackEnd
from earmark.speaker.trials import Trials

BATCH = 32
Vectors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Rates:
    """Equal error rates in [0, 1]; None where they are undefined.

    Attributes
    ----------
    eer : float or None
        Of all trials.
    cross_language_eer : float or None
        Of the trials whose utterances differ in language.
    """

    eer: float | None = None
    cross_language_eer: float | None = None


@dataclass(frozen=True)
class Validation:
    """Validation trials and their audio.

    Attributes
    ----------
    trials : Trials
        Labelled.
    paths : mapping
        {utterance: file}.
    speakers : mapping
        {utterance: speaker}; empty if unknown.
    crossing : (n,) bool or None
        Trials across languages; None if the languages are unknown.
    waveforms : Waveforms
    """

    trials: Trials
    paths: Mapping[str, Path]
    speakers: Mapping[str, str] = field(default_factory=dict)
    crossing: NDArray[np.bool_] | None = None
    waveforms: Waveforms = field(default_factory=Waveforms)

    def scored(self, encoder: WeSpeakerEncoder) -> Trials:
        """Score the trials with cosines of the embeddings of whole clips.

        Parameters
        ----------
        encoder : WeSpeakerEncoder
            Its network is in evaluation mode.

        Raises
        ------
        EarmarkError
            If a clip cannot be embedded.
        """
        names = [str(name) for name in self.trials.names]
        vectors: Vectors = {}
        for batch in in_batches(names, BATCH):
            try:
                embedded = encoder.embed([self.waveforms(self.paths[name]) for name in batch])
            except AudioError as error:
                raise EarmarkError(f"Validation: {error}.") from error
            vectors |= dict(zip(batch, embedded, strict=True))
        return self.trials.with_scores(BackEnd().scores(self.trials, vectors))

    def rates(self, scored: Trials) -> Rates:
        """Equal error rates of scored trials, without intervals."""
        across = None if self.crossing is None else _eer(scored.take(self.crossing))
        return Rates(_eer(scored), across)

    def compared(self, before: Trials, after: Trials) -> dict[str, ComparedRate]:
        """Equal error rates of two models with intervals over speakers, and their paired difference.

        Parameters
        ----------
        before, after : Trials
            As scored by two models.

        Returns
        -------
        dict
            `eer`, and `cross_language_eer` if languages are known.
        """
        parts = {"eer": (before, after)}
        if self.crossing is not None:
            first, second = (scored.take(self.crossing).compact() for scored in (before, after))
            parts["cross_language_eer"] = (first, second)
        return {name: self._compared(*scored) for name, scored in parts.items()}

    def _compared(self, before: Trials, after: Trials) -> ComparedRate:
        own = [self.speakers.get(str(name)) for name in before.names]
        speakers = None if None in own else [str(speaker) for speaker in own]
        first, second = (evaluate(scored, speakers) for scored in (before, after))
        difference = compare_systems(second, first)["eer"].estimate
        return ComparedRate(before=first.metrics["eer"], after=second.metrics["eer"], difference=difference)


def _eer(trials: Trials) -> float:
    return float(equal_error_rate(roc(np.asarray(trials.scores), np.asarray(trials.labels))).rate)


def best_epoch(rates: Sequence[float | None]) -> int | None:
    """Position of the smallest rate, the first one of equal ones; None if all are undefined.

    >>> best_epoch([0.3, 0.1, 0.1]), best_epoch([None])
    (1, None)
    """
    known = [(rate, position) for position, rate in enumerate(rates) if rate is not None]
    return min(known)[1] if known else None
