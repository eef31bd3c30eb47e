"""Options of the commands of `evaluate_speaker.py`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from earmark.cli import NO_RAY, NO_TRACKERS, DatasetId, RayOptions, TrackerOptions
from earmark.models.encoders.options import EncoderOptions
from earmark.speaker.case.conditions import PUBLISHED, STRICT

FALSE_ALARM_RATES = (0.001, 0.01, 0.05)  # of operating points
TOP_N = 300  # most similar cohort speakers that AS-norm uses
NO_MEAN, COHORT_MEAN = "none", "cohort"
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class StatisticsOptions:
    """Options of the metrics.

    Attributes
    ----------
    p_target : float
        Target prior of minDCF and actDCF, in (0, 1).
    allow_missing : bool
        Whether to exclude trials without a score instead of failing.
    no_intervals : bool
        Whether to skip confidence intervals.
    bootstrap : int or None
        No longer used, except that 0 means no intervals.
    far : tuple of float
        False alarm rates of the operating points, in (0, 1).
    threshold_from : Path or None
        summary.json of another run, whose thresholds are applied.
    """

    p_target: float = 0.01
    allow_missing: bool = False
    no_intervals: bool = False
    bootstrap: int | None = None
    far: tuple[float, ...] = FALSE_ALARM_RATES
    threshold_from: Path | None = None

    @property
    def intervals(self) -> bool:
        """Whether to compute confidence intervals."""
        return not (self.no_intervals or self.bootstrap == 0)


@dataclass(frozen=True)
class BackEndOptions:
    """Options of the back end, which computes scores from embeddings.

    Attributes
    ----------
    subtract_mean : str
        none, cohort or the path of a .npy file.
    cohort : Path or None
        `utterance speaker` lines of the AS-norm cohort.
    cohort_embeddings : Path or None
        Precomputed embeddings of the cohort; those of the system by default.
    top_n : int
        Number of most similar cohort speakers that AS-norm uses.
    calibrate : Path or None
        Labelled list to fit a linear calibration on.
    enrolments : Path or None
        `model utterance utterance …` lines of enrolment models.
    """

    subtract_mean: str = NO_MEAN
    cohort: Path | None = None
    cohort_embeddings: Path | None = None
    top_n: int = TOP_N
    calibrate: Path | None = None
    enrolments: Path | None = None


@dataclass(frozen=True)
class TrialsOptions:
    """Options of the command `trials`, and of `tidyvoice` for its labelled list.

    Attributes
    ----------
    trials : Path or None
        The labelled list.
    output_dir : Path
    encoder_options : EncoderOptions
    scores : Path or None
        Score file of a system without an encoder.
    model_name : str or None
        Name of the system; that of the encoder or of the score file by default.
    back_end : BackEndOptions
    statistics : StatisticsOptions
    audio_root : Path or None
        Folder that paths in lists are relative to; the folder of each list by default.
    speakers : Path or None
        `utterance speaker` lines.
    no_self_trials : bool
        Whether to exclude trials of an utterance with itself.
    target_means : str
        What target trials have in common; the speaker if empty.
    compare_with : Path or None
        Score file of another system.
    compare_with_calibration : Path or None
        Its scores on the calibration list.
    dataset_id : DatasetId or None
        Dataset to name in the files for model hubs; None writes none.
    trackers : TrackerOptions
    key : Path or None
        Labels of a list without labels.
    languages : Path or None
        `utterance language` lines.
    utterances : Path or None
        CSV with a row per utterance.
    condition : tuple of str
        Columns of `utterances` to report results by.
    cluster : RayOptions
        Ray cluster that embeds clips.
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
    target_means: str = ""
    compare_with: Path | None = None
    compare_with_calibration: Path | None = None
    figures: bool = True
    embed_audio: float = 0.0
    dataset_id: DatasetId | None = None
    trackers: TrackerOptions = NO_TRACKERS
    key: Path | None = None
    languages: Path | None = None
    utterances: Path | None = None
    condition: tuple[str, ...] = ()
    cluster: RayOptions = NO_RAY

    @property
    def inputs(self) -> list[Path]:
        """The existing input files, which the summary lists."""
        back_end, embeddings = self.back_end, self.encoder_options.embeddings
        paths = [
            self.trials,
            self.scores,
            embeddings and Path(embeddings),
            self.compare_with,
            self.compare_with_calibration,
        ]
        paths += [back_end.calibrate, back_end.cohort, back_end.enrolments, self.speakers, Path(back_end.subtract_mean)]
        paths += [back_end.cohort_embeddings, self.statistics.threshold_from]
        paths += [self.key, self.languages, self.utterances]
        return [path for path in paths if path and path.is_file()]

    @property
    def lists(self) -> list[Path]:
        """The lists, maps and score files, whether they exist or not."""
        back_end = self.back_end
        paths = [self.trials, self.scores, back_end.calibrate, back_end.cohort, back_end.enrolments, self.speakers]
        paths += [self.compare_with, self.compare_with_calibration, self.key, self.languages, self.utterances]
        return [path for path in paths if path]

    @property
    def score_file(self) -> Path | None:
        """The file with the scores of a system without an encoder."""
        return self.scores or self.trials

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters that the summary records, without the back end."""
        return {
            "p_target": self.statistics.p_target,
            "no_self_trials": self.no_self_trials,
            "allow_missing": self.statistics.allow_missing,
            "intervals": self.statistics.intervals,
            **({"target_means": self.target_means} if self.target_means else {}),
        }


@dataclass(frozen=True)
class EvaluationLists:
    """The unlabelled lists of TidyVoice, eval A and eval U, their keys, and a submission with scores of both."""

    eval_a: Path | None = None
    eval_u: Path | None = None
    key_a: Path | None = None
    key_u: Path | None = None
    submission: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """{A or U: its file}, without those that are not set."""
        return {name: path for name, path in (("A", self.eval_a), ("U", self.eval_u)) if path}

    @property
    def keys(self) -> dict[str, Path]:
        """{A or U: its key}, without those that are not set."""
        return {name: path for name, path in (("A", self.key_a), ("U", self.key_u)) if path}


NO_EVALUATION = EvaluationLists()


@dataclass(frozen=True)
class TidyVoiceOptions:
    """Options of the command `tidyvoice`: a labelled list, both evaluation lists for a submission, or all three."""

    labelled: TrialsOptions
    evaluation: EvaluationLists


@dataclass(frozen=True)
class CaseOptions:
    """Options of the command `case`.

    Attributes
    ----------
    benchmark : Path
        Folder of the benchmark.
    output_dir : Path
    encoder_options : EncoderOptions
    statistics : StatisticsOptions
    scoring : str
        published, strict or both.
    conditions : tuple of str
        Names of conditions; all if empty.
    model_name : str or None
        Name of the model; that of the encoder by default.
    figures : bool
        Whether to write figures and report.html.
    embed_audio : float
        MiB of audio that may be embedded in report.html.
    dataset_id : DatasetId or None
        Dataset to name in the files for model hubs; None writes none.
    trackers : TrackerOptions
    cluster : RayOptions
        Ray cluster that embeds clips.
    """

    benchmark: Path
    output_dir: Path
    encoder_options: EncoderOptions
    statistics: StatisticsOptions = StatisticsOptions()
    scoring: str = "both"
    conditions: tuple[str, ...] = ()
    model_name: str | None = None
    figures: bool = True
    embed_audio: float = 0.0
    dataset_id: DatasetId | None = None
    trackers: TrackerOptions = NO_TRACKERS
    cluster: RayOptions = NO_RAY

    @property
    def scorings(self) -> list[str]:
        """The scorings to compute, published first."""
        return [PUBLISHED, STRICT] if self.scoring == "both" else [self.scoring]

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters that the summary records."""
        statistics = self.statistics
        parameters = {"p_target": statistics.p_target, "allow_missing": statistics.allow_missing}
        return parameters | {"intervals": statistics.intervals, "versions": self.scorings}


@dataclass(frozen=True)
class SimulateOptions:
    """Options of the command `simulate`.

    Attributes
    ----------
    clean : Path
        Folder or CSV of clean speech.
    output_dir : Path
    trials : tuple of (int, int)
        Maximum numbers of target and non-target trials per condition.
    conditions : tuple of str
        Names of conditions; all if empty.
    workers : int
        Number of worker processes.
    noises, rooms : Path or None
        Folders of noise recordings and of impulse responses; built-in ones by default.
    allow_missing : bool
        Whether to skip unusable speech instead of failing.
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
    """Options of the command `download`.

    Attributes
    ----------
    output_dir : Path
    categories, sets : tuple of str
        Categories of conditions and subsets of recordings; all if empty.
    hub : str
        Address of the hub.
    token : str or None
        Access token of the hub; secret.
    """

    output_dir: Path
    categories: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    hub: str = HUB
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class VerifyOptions:
    """Options of the command `verify`: the folder of the benchmark."""

    benchmark: Path


@dataclass(frozen=True)
class CheckOptions:
    """Options of the command `check`.

    Attributes
    ----------
    submission : Path
        A folder for CASE, a ZIP for TidyVoice.
    evaluation : EvaluationLists
        Lists of TidyVoice, whose numbers of lines the submission must have.
    """

    submission: Path
    evaluation: EvaluationLists


@dataclass(frozen=True)
class LeaderboardOptions:
    """Options of the command `leaderboard`: results.json files to rank, and the output folder."""

    results: tuple[Path, ...]
    output_dir: Path
