"""Runs kept by their system: what a system is called, and what tells it from others of its name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from earmark.cli import Invocation
from earmark.errors import shown_path
from earmark.files.hashing import file_hash
from earmark.files.runs import Content, runs_folder, write_run
from earmark.report.provenance import file_name, parameters_hash
from earmark.speaker.options import BackEndOptions, TrialsOptions
from earmark.speaker.system import System


def system_name(system: System, options: TrialsOptions) -> str:
    """As folders have it: --model-name, else the encoder's, else the stem of the file that holds the scores."""
    file = options.score_file
    stem = Path(file.name.removesuffix(".gz")).stem if file else ""
    return file_name(options.model_name or (system.encoder.name if system.encoder is not None else stem))


def system_state(system: System, options: TrialsOptions, hashes: Mapping[Path, str]) -> str:
    """The encoder's identity or the contents of the score file, and the back end where it does anything.

    hashes: {file: its sha256}, of those that were hashed already.
    """

    def hash_of(path: Path) -> str:
        return hashes.get(path) or file_hash(path)

    if system.encoder is not None:
        state = system.encoder.identity
    else:
        state = f"scores {hash_of(options.score_file)}" if options.score_file else ""
    asked = options.back_end
    if asked == BackEndOptions(top_n=asked.top_n):
        return state
    files = [asked.cohort, asked.cohort_embeddings, asked.calibrate, asked.enrolments, Path(asked.subtract_mean)]
    described = {
        "files": [hash_of(path) if path and path.is_file() else "" for path in files],
        "mean": asked.subtract_mean if not Path(asked.subtract_mean).is_file() else "",
        "top_n": asked.top_n if asked.cohort else None,
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
) -> None:
    """Write a run as `files.runs.write_run` does; say so where another system has the name already."""
    runs = runs or runs_folder(folder)
    kept = write_run(
        folder, contents, name=name, state=state, suite=f"speaker/{suite}", owned=owned, once=once, runs=runs
    )
    if kept.relative_to(runs).parts[0] != name:
        invocation.warn(
            f"{shown_path(runs / name)}/ holds runs of another system called {name}; this one's are in "
            f"{shown_path(kept)}/. --model-name NAME gives it a name of its own."
        )
