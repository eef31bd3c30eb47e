"""Reading a CASE benchmark, official or simulated: its trial lists and the speakers of its utterances."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.csv_table import read_csv_table
from earmark.speaker.case.conditions import condition_names, conditions
from earmark.speaker.case.files import trials_folder
from earmark.speaker.trial_files import read_trials
from earmark.speaker.trials import Trials


@dataclass(frozen=True)
class Benchmark:
    """The trial lists of a benchmark folder.

    Attributes
    ----------
    folder : Path
        Utterance names are relative to this folder.
    files : dict
        Condition to path of its trial list.
    lists : dict
        Condition to labelled trials.
    speakers : dict
        Utterance to speaker.
    simulated : bool
        True if `evaluate_speaker.py simulate` wrote the folder, False for the official benchmark.
    """

    folder: Path
    files: dict[str, Path]
    lists: dict[str, Trials]
    speakers: dict[str, str]
    simulated: bool

    @property
    def utterances(self) -> list[str]:
        """The utterances of all lists, without repeats."""
        return list(dict.fromkeys(str(name) for trials in self.lists.values() for name in trials.names))

    def speakers_of(self, trials: Trials) -> list[str]:
        """The speaker of each utterance in `trials.names`."""
        return [self.speakers[name] for name in trials.names]


def read_benchmark(folder: Path, selected: Sequence[str] = ()) -> Benchmark:
    """Read the trial lists of a benchmark.

    Parameters
    ----------
    folder : Path
        Contains trials/<condition>.txt or benchmark/trials/<condition>.txt.
    selected : sequence of str
        Conditions to read; all 24 if empty.

    Returns
    -------
    Benchmark
        Speakers come from manifest.csv if it exists (simulated conditions), otherwise from the folder of each file,
        as in the official benchmark.

    Raises
    ------
    MissingError
        If a selected condition is unknown or the folder has no trial lists.
    EarmarkError
        If trial lists are missing or have no labels.
    """
    if unknown := [name for name in selected if name not in conditions()]:
        raise MissingError(f"{', '.join(unknown)}: unknown condition. Known: {', '.join(conditions())}.")
    lists_folder = trials_folder(folder)
    files = {name: lists_folder / f"{name}.txt" for name in conditions() if name in selected or not selected}
    if not selected:  # conditions beyond those of the benchmark are evaluated if they were simulated
        files = {name: path for name, path in files.items() if name in condition_names() or path.is_file()}
    if missing := [shown_path(path) for path in files.values() if not path.is_file()]:
        raise EarmarkError(
            "\n  ".join([f"{len(missing)} trial list{'s' if len(missing) > 1 else ''} not found:", *missing])
            + "\nRun `evaluate_speaker.py download`, or select conditions with --conditions NAME …"
        )
    lists = {name: read_trials(path) for name, path in files.items()}
    if unlabelled := [name for name, trials in lists.items() if trials.labels is None]:
        raise EarmarkError(
            f"{shown_path(lists_folder)}: no labels in {', '.join(unlabelled)}. Expected lines: `1|0 enrol test`."
        )
    manifest_speakers = _read_manifest_speakers(folder / "manifest.csv")
    names = dict.fromkeys(str(name) for trials in lists.values() for name in trials.names)  # in the order of the lists
    speakers = {name: manifest_speakers.get(name) or speaker_from_path(name) for name in names}
    return Benchmark(folder, files, lists, speakers, bool(manifest_speakers))


def _read_manifest_speakers(path: Path) -> dict[str, str]:
    """Utterance to speaker; empty if there is no manifest."""
    if not path.is_file():
        return {}
    rows = [row for _, row in read_csv_table(path).records()]
    return {row["path"]: row["speaker"] for row in rows if row.get("path") and row.get("speaker")}


def speaker_from_path(name: str) -> str:
    """The speaker of an official CASE utterance: the folder of the file.

    Examples
    --------
    >>> speaker_from_path("voxceleb1_o/codec/gsm/id10308/utt_0005.wav")
    'id10308'
    """
    return Path(name).parent.name


def recording_id(name: str) -> str:
    """Identify the recording of an utterance; the same recording has the same id under every condition.

    Examples
    --------
    >>> recording_id("voxceleb1_o/codec/gsm/id10308/utt_0005.wav")
    'voxceleb1_o/id10308/utt_0005.wav'
    >>> recording_id("voxceleb1_o/clean/id10308/utt_0005.wav")
    'voxceleb1_o/id10308/utt_0005.wav'
    >>> recording_id("audio/clean_codec_gsm/anna/de/00.wav")
    'anna/de/00.wav'
    """
    parts = name.split("/")
    return "/".join(parts[2:] if parts[0] == "audio" else [parts[0], *parts[1:][-2:]])


def compares_same_recording(trials: Trials) -> NDArray[np.bool_]:
    """Find the trials that compare a recording with itself, possibly under another condition.

    Returns
    -------
    (n,) bool
    """
    code_by_recording: dict[str, int] = {}
    codes = np.array(
        [code_by_recording.setdefault(recording_id(str(name)), len(code_by_recording)) for name in trials.names],
        dtype=np.int64,
    )
    return np.asarray(codes[trials.enrolment] == codes[trials.test])
