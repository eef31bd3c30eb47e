"""What `evaluate_speaker.py` can be asked for, as records that the flags of its commands fill once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from earmark.models.encoders.options import EncoderOptions
from earmark.speaker.case.conditions import PUBLISHED, STRICT

TOP_N = 300  # nearest speakers of a cohort that count
NO_MEAN, COHORT_MEAN = "none", "cohort"
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class StatisticsOptions:
    """What is made of scores. p_target: prior of the costs. allow_missing: leave trials without a score out."""

    p_target: float = 0.01
    allow_missing: bool = False
    no_intervals: bool = False
    bootstrap: int | None = None  # once the number of replicates; 0 still means no intervals

    @property
    def intervals(self) -> bool:
        """Whether intervals are asked for."""
        return not (self.no_intervals or self.bootstrap == 0)


@dataclass(frozen=True)
class BackEndOptions:
    """What happens between embeddings and scores.

    subtract_mean: none, cohort or a .npy file. cohort: a file of `utterance speaker` lines for AS-norm, of which the
    top_n nearest count; cohort_embeddings: theirs, where they are not the system's to make. calibrate: a
    labelled list. enrolments: models of several utterances.
    """

    subtract_mean: str = NO_MEAN
    cohort: Path | None = None
    cohort_embeddings: Path | None = None
    top_n: int = TOP_N
    calibrate: Path | None = None
    enrolments: Path | None = None


@dataclass(frozen=True)
class TrialsOptions:
    """trials: a labelled list. scores: a score file, where no encoder is named. name: of the system, the encoder's or
    the score file's by default. audio_root: the folder that paths in lists start from, a list's own by default.
    speakers: a file of `utterance speaker` lines. compare_with: another system's scores; compare_with_calibration: its
    scores of the calibration list.
    """

    trials: Path | None
    output_dir: Path
    encoder_options: EncoderOptions
    scores: Path | None = None
    model_name: str | None = None
    back_end: BackEndOptions = BackEndOptions()
    statistics: StatisticsOptions = StatisticsOptions()
    audio_root: Path | None = None
    speakers: Path | None = None
    no_self_trials: bool = False
    compare_with: Path | None = None
    compare_with_calibration: Path | None = None

    @property
    def inputs(self) -> list[Path]:
        """The files that a summary lists, which must be there."""
        back_end, embeddings = self.back_end, self.encoder_options.embeddings
        given = [
            self.trials,
            self.scores,
            embeddings and Path(embeddings),
            self.compare_with,
            self.compare_with_calibration,
        ]
        given += [back_end.calibrate, back_end.cohort, back_end.enrolments, self.speakers, Path(back_end.subtract_mean)]
        given += [back_end.cohort_embeddings]
        return [path for path in given if path and path.is_file()]

    @property
    def lists(self) -> list[Path]:
        """The lists and maps that were given, there or not."""
        back_end = self.back_end
        given = [self.trials, self.scores, back_end.calibrate, back_end.cohort, back_end.enrolments, self.speakers]
        return [path for path in (*given, self.compare_with, self.compare_with_calibration) if path]

    @property
    def score_file(self) -> Path | None:
        """The file that holds the scores, where no encoder makes them."""
        return self.scores or self.trials

    @property
    def parameters(self) -> dict[str, Any]:
        """What a summary records of them, beside the back end."""
        return {
            "p_target": self.statistics.p_target,
            "no_self_trials": self.no_self_trials,
            "allow_missing": self.statistics.allow_missing,
            "intervals": self.statistics.intervals,
        }


@dataclass(frozen=True)
class EvaluationLists:
    """The unlabelled lists of TidyVoice."""

    eval_a: Path | None = None
    eval_u: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """{list: its file}, of those given."""
        return {name: path for name, path in (("A", self.eval_a), ("U", self.eval_u)) if path}


NO_EVALUATION = EvaluationLists()


@dataclass(frozen=True)
class TidyVoiceOptions:
    """A labelled list, or both evaluation lists for a submission, or all three."""

    labelled: TrialsOptions
    evaluation: EvaluationLists


@dataclass(frozen=True)
class CaseOptions:
    """benchmark: its folder. protocol: published, strict or both. protocols: names, all if none. name: the model's."""

    benchmark: Path
    output_dir: Path
    encoder_options: EncoderOptions
    statistics: StatisticsOptions = StatisticsOptions()
    scoring: str = "both"
    conditions: tuple[str, ...] = ()
    model_name: str | None = None

    @property
    def scorings(self) -> list[str]:
        """Of the figures: published, strict or both."""
        return [PUBLISHED, STRICT] if self.scoring == "both" else [self.scoring]

    @property
    def parameters(self) -> dict[str, Any]:
        """What a summary records of them."""
        statistics = self.statistics
        parameters = {"p_target": statistics.p_target, "allow_missing": statistics.allow_missing}
        return parameters | {"intervals": statistics.intervals, "versions": self.scorings}


@dataclass(frozen=True)
class SimulateOptions:
    """clean: a folder or CSV of clean speech. protocols: names, all if none. trials: target and non-target.

    allow_missing: leave speech that is unusable out, and count it.
    """

    clean: Path
    output_dir: Path
    trials: tuple[int, int]
    conditions: tuple[str, ...] = ()
    workers: int = 1
    noises: Path | None = None
    rooms: Path | None = None
    allow_missing: bool = False


@dataclass(frozen=True)
class DownloadOptions:
    """conditions, sets: of the audio, all if none. hub: its address. token: of the hub; secret."""

    output_dir: Path
    categories: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    hub: str = HUB
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class VerifyOptions:
    """benchmark: its folder."""

    benchmark: Path


@dataclass(frozen=True)
class CheckOptions:
    """submission: a folder for CASE, a ZIP for TidyVoice. evaluation: TidyVoice's lists, for their lengths."""

    submission: Path
    evaluation: EvaluationLists


@dataclass(frozen=True)
class LeaderboardOptions:
    """results: results.json files."""

    results: tuple[Path, ...]
    output_dir: Path
