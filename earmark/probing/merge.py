"""Command `report` of `probe.py`: collect finished tasks of several folders, encoders and machines into one report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from earmark import cli
from earmark.cli import Invocation
from earmark.errors import MissingError, shown_path
from earmark.files.atomic import write_together
from earmark.probing.folder import claim_folder, collected, owner_of, report_lock, task_lock
from earmark.probing.joint import FinishedEncoder, write_joint_report
from earmark.probing.options import ReportOptions
from earmark.probing.outcome import FAILED, TASKS, TaskOrigin, TaskOutcome, stored_outcomes
from earmark.probing.report import CompletedRun, ReportFlags, write_results
from earmark.probing.schema import Failure, SkippedTask, TaskScore
from earmark.report.provenance import file_name

NO_RESULT = "no finished result in these folders"
ROUNDING = 1e-9  # scores further apart are different


def run_report(options: ReportOptions, invocation: Invocation) -> int:
    """Write the report of each encoder, and a table of all encoders if there are several.

    Returns
    -------
    int
        Exit code: 1 if a task failed or one of --tasks has no result, otherwise 0.
    """
    encoders = find_encoders(options.folders)
    finished: list[FinishedEncoder] = []
    code = cli.COMPLETE
    for folders in encoders.values():
        folder, report, complete = report_encoder(folders, options, invocation)
        known = any(each.name == folder.name for each in finished)
        name = f"{folder.resolve().parent.name}/{folder.name}" if known else folder.name
        finished.append(FinishedEncoder.read(folder, name))
        code = code if complete else cli.FAILED
        if len(encoders) == 1:
            cli.show(report)
    if len(finished) > 1:
        cli.show(write_joint_report(options.output_dir, finished))
    return code


def find_encoders(folders: Sequence[Path]) -> dict[tuple[str, str], list[Path]]:
    """Group result folders by encoder.

    Parameters
    ----------
    folders : sequence of Path
        Result folders, or folders that contain some.

    Returns
    -------
    dict
        {(identity of an encoder, kind of run): its folders}. Runs of layers and few-shot runs have folders of their
        own beside those of the encoder.

    Raises
    ------
    MissingError
        If a folder holds no finished task.
    """
    found: dict[tuple[str, str], list[Path]] = {}
    for given in folders:
        inside = [given] if stored_outcomes(given) else [each for each in _subfolders(given) if stored_outcomes(each)]
        if not inside:
            raise MissingError(
                f"{shown_path(given)}: no finished tasks of probe.py there. Give result folders such as "
                "benchmark_outputs/probe/<encoder>, or their parent."
            )
        for folder in inside:
            origin = stored_outcomes(folder)[0][1].origin
            assert origin is not None
            kind = f"{origin.settings.get('layers')} {origin.settings.get('shots')}"
            own = found.setdefault((owner_of(folder) or origin.encoder_identity, kind), [])
            if not any(folder.resolve() == known.resolve() for known in own):
                own.append(folder)
    return found


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def report_encoder(folders: Sequence[Path], options: ReportOptions, invocation: Invocation) -> tuple[Path, str, bool]:
    """Write the report of one encoder.

    The report of a single folder is written there. Several folders are first merged into <output-dir>/<name>: their
    outcomes and predictions are copied, so that `compare.py` can read them.

    Parameters
    ----------
    folders : sequence of Path
        Result folders of one encoder.
    options : ReportOptions
        Tasks, contents and destination of the report.
    invocation : Invocation
        Prints what was left out.

    Returns
    -------
    folder : Path
        Where the report is.
    report : str
        As Markdown.
    complete : bool
        Whether nothing failed and no wanted task is missing.
    """
    notes: list[str] = []
    folder = folders[0]
    if len(folders) > 1:
        first = stored_outcomes(folders[0])[0][1].origin
        assert first is not None
        folder, _ = claim_folder(options.output_dir, folders[0].name, first.encoder_identity)
        notes = merge(folders, folder)
    for note in notes:
        invocation.warn(note)
    with report_lock(folder, invocation):
        stored = stored_outcomes(folder)
        common = most_common_origin([outcome.origin for _, outcome in stored if outcome.origin is not None])
        found = collected(stored, common)
        outcomes = found.outcomes
        if options.tasks:
            outcomes = {name: outcomes[name] if name in outcomes else _no_result() for name in options.tasks}
        skipped = [*found.left_out, *_without_knn(outcomes, common)]
        flags = ReportFlags(options.figures, options.embed_audio, options.dataset_id)
        run = CompletedRun(outcomes, skipped, common, flags)
        report, _ = write_results(folder, run, replace(invocation, seed=common.probe_settings.seed))
    for each in found.left_out:
        invocation.warn(f"{each.task}: {each.reason}.")
    for name, outcome in outcomes.items():
        for failure in outcome.failed_tasks(name, invocation.script.name):
            invocation.warn(", ".join(filter(None, (name, failure.track, failure.protocol))) + f": {failure.error}")
    return folder, report, not any(outcome.failed for outcome in outcomes.values())


def _no_result() -> TaskOutcome:
    return TaskOutcome(failed=[Failure(error=NO_RESULT, missing=True)])


def _without_knn(outcomes: Mapping[str, TaskOutcome], origin: TaskOrigin) -> list[SkippedTask]:
    """Tasks without a k-NN track, if that was asked for."""
    tasks = [each.origin.original_task() for each in outcomes.values() if each.origin is not None]
    wanted = "knn" in origin.probe_settings.tracks
    return [SkippedTask(task=task.formal_name, reason="no k-NN track") for task in tasks if wanted and not task.knn]


def most_common_origin(origins: Sequence[TaskOrigin]) -> TaskOrigin:
    """An origin with the settings, release and encoder that most outcomes have; of equally many, those of the last.

    Parameters
    ----------
    origins : sequence of TaskOrigin
        At least one.
    """
    counts: dict[str, int] = {}
    for origin in origins:
        counts[origin.run_key] = counts.get(origin.run_key, 0) + 1
    most = max(counts.values())
    chosen = [key for key, n in counts.items() if n == most][-1]
    return next(origin for origin in origins if origin.run_key == chosen)


# --- several folders of one encoder -----------------------------------------------------------------------------


def merge(folders: Sequence[Path], destination: Path) -> list[str]:
    """Copy the outcomes and predictions of several folders of one encoder into one folder.

    Of a task that several folders hold, the first complete outcome is kept: one with the settings of most tasks before
    one with others, one with scores before a failure, and one without failures before one with some.

    Parameters
    ----------
    folders : sequence of Path
        Result folders.
    destination : Path
        Result folder of the same encoder; it may be one of the folders.

    Returns
    -------
    list of str
        Where the folders disagree.
    """
    stored = [(folder, name, outcome) for folder in folders for name, outcome in stored_outcomes(folder)]
    common = most_common_origin([outcome.origin for _, _, outcome in stored if outcome.origin is not None])
    notes = []
    for name in dict.fromkeys(name for _, name, _ in stored):
        held = [(folder, outcome) for folder, own, outcome in stored if own == name]
        held.sort(key=lambda each: _rank(each[1], common))
        folder, kept = held[0]
        for other_folder, other in held[1:]:
            if difference := disagreement(kept, other):
                notes.append(
                    f"{name}: {shown_path(other_folder)} and {shown_path(folder)} disagree: {difference}. "
                    f"The report has the result in {shown_path(folder)}."
                )
        if folder.resolve() != destination.resolve():
            with task_lock(destination, name, wait=True):
                _copy(name, kept, folder, destination)
    return notes


def _rank(outcome: TaskOutcome, common: TaskOrigin) -> tuple[bool, bool, bool]:
    other = outcome.origin is None or outcome.origin.run_key != common.run_key
    return other, not outcome.scores, bool(outcome.failed)


def _copy(task: str, outcome: TaskOutcome, source: Path, destination: Path) -> None:
    """Copy an outcome and its prediction files; what the destination has of the task is replaced."""
    file = f"{file_name(task)}.json"
    kind, other = (TASKS, FAILED) if (source / TASKS / file).is_file() and outcome.scores else (FAILED, TASKS)
    contents: dict[Path, str | bytes | None] = {
        destination / "predictions" / name: (source / "predictions" / name).read_bytes() for name in outcome.predictions
    }
    contents |= {destination / kind / file: outcome.model_dump_json() + "\n", destination / other / file: None}
    write_together(contents)


def disagreement(kept: TaskOutcome, other: TaskOutcome) -> str:
    """How two outcomes of a task differ; empty if they agree or if one only lacks what the other has.

    Parameters
    ----------
    kept, other : TaskOutcome
        Outcomes of one task and encoder.

    Returns
    -------
    str
        Other settings, other data, or the largest difference between scores of the same track, recipe and metric.
    """
    assert kept.origin is not None and other.origin is not None
    if not (kept.scores and other.scores):
        return ""
    if kept.origin.run_key != other.origin.run_key:
        return f"other settings ({other.origin.differences(kept.origin)})"
    if kept.origin.labels_hash != other.origin.labels_hash:
        return "other data"
    if kept.origin.task != other.origin.task:
        return "another definition of the task"
    own = {_score_key(row): row for row in kept.scores}
    pairs = [(own[_score_key(row)], row) for row in other.scores if _score_key(row) in own]
    known = [(one, two, one.value, two.value) for one, two in pairs]
    gaps = [(abs(a - b), one, two) for one, two, a, b in known if a is not None and b is not None]
    gap, one, two = max(gaps, key=lambda each: each[0], default=(0.0, None, None))
    if one is None or two is None or gap <= ROUNDING:
        return ""
    return f"{one.metric} ({one.track}, {one.protocol}) is {two.value:.4f} and {one.value:.4f}"


def _score_key(row: TaskScore) -> tuple[str, str, str, int | None, int | None]:
    return (row.track, row.protocol, row.metric, row.layer, row.shots)
