"""A benchmark in the shape of CASE on disk: its lists, and whose utterances they name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.csv_table import read_csv_table
from earmark.speaker.case.conditions import condition_names
from earmark.speaker.case.files import trials_folder
from earmark.speaker.trial_files import read_trials
from earmark.speaker.trials import Trials


@dataclass(frozen=True)
class Benchmark:
    """A folder in the shape of CASE. lists: {protocol: trials}. self_made: of carriers made here, not CASE's own."""

    folder: Path
    files: dict[str, Path]
    lists: dict[str, Trials]
    speakers: dict[str, str]
    self_made: bool

    @property
    def names(self) -> list[str]:
        """Every utterance of every list, once."""
        return list(dict.fromkeys(str(name) for trials in self.lists.values() for name in trials.names))

    def speakers_of(self, trials: Trials) -> list[str]:
        """The speaker of each of the list's utterances."""
        return [self.speakers[name] for name in trials.names]


def read_benchmark(folder: Path, chosen: Sequence[str] = ()) -> Benchmark:
    """The lists of all protocols, or of the chosen ones. EarmarkError with all that are missing.

    Speakers: of the manifest that `carriers` writes, else the folder that a file lies in, as CASE has it.
    """
    if unknown := [name for name in chosen if name not in condition_names()]:
        raise MissingError(f"{', '.join(unknown)}: not a protocol. Known: {', '.join(condition_names())}.")
    found = trials_folder(folder)
    files = {name: found / f"{name}.txt" for name in condition_names() if name in chosen or not chosen}
    if missing := [shown_path(path) for path in files.values() if not path.is_file()]:
        raise EarmarkError(
            "\n  ".join([f"{len(missing)} trial list{'s are' if len(missing) > 1 else ' is'} missing:", *missing])
            + "\n`evaluate_speaker.py download` fetches the benchmark; --conditions NAME … runs some of it."
        )
    lists = {name: read_trials(path) for name, path in files.items()}
    if unlabelled := [name for name, trials in lists.items() if trials.labels is None]:
        raise EarmarkError(f"{shown_path(found)}: {', '.join(unlabelled)} without labels; a line is `1|0 enrol test`.")
    known = _speakers_of_manifest(folder / "manifest.csv")
    names = {str(name) for trials in lists.values() for name in trials.names}
    return Benchmark(folder, files, lists, {name: known.get(name) or speaker(name) for name in names}, bool(known))


def _speakers_of_manifest(path: Path) -> dict[str, str]:
    """{utterance: speaker}; none where there is no manifest of ours."""
    if not path.is_file():
        return {}
    rows = [row for _, row in read_csv_table(path).records()]
    return {row["path"]: row["speaker"] for row in rows if row.get("path") and row.get("speaker")}


def speaker(name: str) -> str:
    """The speaker of an utterance of CASE: the folder that the file lies in.

    >>> speaker("voxceleb1_o/codec/gsm/id10308/utt_0005.wav")
    'id10308'
    """
    return Path(name).parent.name


def recording(name: str) -> str:
    """What an utterance is a version of: the same recording through another carrier has the same.

    >>> recording("voxceleb1_o/codec/gsm/id10308/utt_0005.wav") == recording("voxceleb1_o/clean/id10308/utt_0005.wav")
    True
    >>> recording("audio/clean_codec_gsm/anna/de/00.wav")
    'anna/de/00.wav'
    """
    parts = name.split("/")
    return "/".join(parts[2:] if parts[0] == "audio" else [parts[0], *parts[1:][-2:]])


def same_recording(trials: Trials) -> NDArray[np.bool_]:
    """Trials of a recording against itself, through whatever carriers."""
    codes: dict[str, int] = {}
    code = np.array([codes.setdefault(recording(str(name)), len(codes)) for name in trials.names], dtype=np.int64)
    return np.asarray(code[trials.enrolment] == code[trials.test])
