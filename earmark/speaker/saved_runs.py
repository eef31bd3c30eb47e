"""Save runs by system: the name of a system, and the state that distinguishes it from others of that name."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from earmark.cli import Invocation
from earmark.errors import shown_path
from earmark.files.hashing import file_hash
from earmark.files.runs import Content, runs_folder, write_run
from earmark.report.provenance import file_name, parameters_hash
from earmark.report.tables import compressed, to_csv
from earmark.speaker.options import BackEndOptions, TrialsOptions
from earmark.speaker.system import System

SPEAKERS_FILE = "speakers.csv.gz"  # of every utterance, for comparisons of systems


def speakers_table(names: Iterable[str], speakers: Iterable[str]) -> bytes:
    """The speaker of every utterance as a compressed CSV with columns utterance and speaker."""
    return compressed([to_csv(pd.DataFrame({"utterance": list(names), "speaker": list(speakers)}))])


def system_name(system: System, options: TrialsOptions) -> str:
    """Folder name of a system: --model-name, else the name of the encoder, else the stem of the score file."""
    file = options.score_file
    stem = Path(file.name.removesuffix(".gz")).stem if file else ""
    return file_name(options.model_name or (system.encoder.name if system.encoder is not None else stem))


def system_state(system: System, options: TrialsOptions, hashes: Mapping[Path, str]) -> str:
    """Identify a system: the encoder or the hash of the score file, and the back end unless it is the default.

    Parameters
    ----------
    system : System
    options : TrialsOptions
    hashes : mapping
        {file: its SHA-256}, of files that are already hashed.

    Returns
    -------
    str
        Equal for runs of the same system. `top_n` has no effect without a cohort.
    """

    def hash_of(path: Path) -> str:
        return hashes.get(path) or file_hash(path)

    if system.encoder is not None:
        state = system.encoder.identity
    else:
        state = f"scores {hash_of(options.score_file)}" if options.score_file else ""
    back_end = options.back_end
    if back_end == BackEndOptions(top_n=back_end.top_n):
        return state
    files = [back_end.cohort, back_end.cohort_embeddings, back_end.calibrate, back_end.enrolments]
    files.append(Path(back_end.subtract_mean))
    described = {
        "files": [hash_of(path) if path and path.is_file() else "" for path in files],
        "mean": back_end.subtract_mean if not Path(back_end.subtract_mean).is_file() else "",
        "top_n": back_end.top_n if back_end.cohort else None,
    }
    return f"{state} back-end {parameters_hash(described)}"


def save_run(
    folder: Path,
    contents: Mapping[str, Content],
    invocation: Invocation,
    *,
    suite: str,
    name: str,
    state: str,
    owned: Sequence[str],
    once: Sequence[str] = (),
    runs: Path | None = None,
) -> Path:
    """Write a run with `files.runs.write_run`, and warn if another system already has the name.

    Parameters
    ----------
    folder : Path
        Folder of the latest run.
    contents : mapping
        {file below the folder: its content}.
    invocation : Invocation
        For the warning.
    suite : str
        Name of the evaluation below speaker/.
    name, state : str
        As returned by `system_name` and `system_state`.
    owned : sequence of str
        Files that every run replaces or removes.
    once : sequence of str
        Files that are only written if they do not exist.
    runs : Path, optional
        Folder of the runs of all systems (default: `files.runs.runs_folder`).

    Returns
    -------
    Path
        Folder of the saved run.
    """
    runs = runs or runs_folder(folder)
    saved = write_run(
        folder, contents, name=name, state=state, suite=f"speaker/{suite}", owned=owned, once=once, runs=runs
    )
    if saved.relative_to(runs).parts[0] != name:
        invocation.warn(
            f"{shown_path(runs / name)}/ contains runs of another system named {name}. This run is saved in "
            f"{shown_path(saved)}/. Use --model-name NAME to choose another name."
        )
    return saved
