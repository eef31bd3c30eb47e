"""The commands simulate, download, verify, check and leaderboard of `evaluate_speaker.py`."""

import json
from collections.abc import Sequence

import numpy as np

from earmark import cli
from earmark.audio.decode import SUFFIXES
from earmark.cli import Invocation
from earmark.errors import shown_path
from earmark.files.atomic import locked, write_together
from earmark.files.download import RemoteFile
from earmark.report.tables import to_csv, to_markdown
from earmark.speaker.case.conditions import aggregate_eers, condition_names
from earmark.speaker.case.files import download_files, select_files, verify_files
from earmark.speaker.case.leaderboard import leaderboard, printable_leaderboard, read_results
from earmark.speaker.case.simulate.build import EXCLUDED_FILE, BenchmarkBuild, prepare_build
from earmark.speaker.case.simulate.clean_speech import describe_excluded, excluded_speakers
from earmark.speaker.case.submission import check_case_submission
from earmark.speaker.options import CheckOptions, DownloadOptions, LeaderboardOptions, SimulateOptions, VerifyOptions
from earmark.speaker.system import prefixed_errors
from earmark.speaker.tidyvoice.submission import check_submission
from earmark.speaker.trial_files import read_trials


def run_simulate(options: SimulateOptions, invocation: Invocation) -> int:
    """Simulate the CASE conditions; finished files are reused."""
    is_new, build = simulate(options, invocation)
    excluded = ""
    if build.excluded:
        n_speakers = len(excluded_speakers(build.excluded, build.used))
        excluded = f"Excluded files: {len(build.excluded):,}, speakers: {n_speakers:,} (see {EXCLUDED_FILE}). "
    cli.show(
        f"{shown_path(options.output_dir)}/: {len(is_new):,} files, {sum(is_new):,} new. {excluded}"
        "These conditions are simulated; results on them are not official CASE results."
    )
    return cli.COMPLETE


def simulate(options: SimulateOptions, invocation: Invocation) -> tuple[list[bool], BenchmarkBuild]:
    """Simulate the conditions and warn about excluded files.

    Returns
    -------
    is_new : list of bool
        For each file, whether it was written now; False if it was already finished.
    build : BenchmarkBuild
    """
    with locked([options.output_dir]):
        build = prepare_build(
            options.clean,
            options.output_dir,
            seed=invocation.seed,
            selected=options.conditions,
            workers=options.workers,
            noises=options.noises,
            rooms=options.rooms,
            trials_per_condition=options.trials,
            allow_missing=options.allow_missing,
        )
        clean = shown_path(options.clean)
        if build.not_audio:  # warn before the simulation, which takes a while
            description = describe_excluded(build.not_audio, build.sources)
            invocation.warn(f"{clean}: {description}\nAudio files have one of the suffixes {', '.join(SUFFIXES)}.")
        progress = invocation.progress(build, total=len(build), label="simulate", unit="file")
        is_new = [file.is_new for file in progress]
        if unusable := build.excluded[len(build.not_audio) :]:
            invocation.warn(f"{clean}: {describe_excluded(unusable, build.used)}")
    return is_new, build


def run_download(options: DownloadOptions, invocation: Invocation) -> int:
    """Download the official benchmark, or resume the download."""
    token = options.token
    selected = select_files(
        selected_categories=options.categories, selected_sets=options.sets, base=options.hub, token=token
    )
    total = sum(file.size or 0 for file in selected)
    with invocation.bytes_bar(total=total, label="CASE") as bar:

        def advance(_: RemoteFile, n: int) -> None:
            bar.update(n)

        download_files(selected, options.output_dir, advance, token)
    cli.show(f"{shown_path(options.output_dir)}/: {len(selected):,} files, {total / 1e9:.2f} GB.")
    return cli.COMPLETE


def run_verify(options: VerifyOptions, invocation: Invocation) -> int:
    """List all missing and invalid files of a benchmark."""
    valid = (
        f"{shown_path(options.benchmark)}: complete ({len(condition_names())} trial lists and all their audio files)."
    )
    return report_problems(verify_files(options.benchmark), valid)


def run_check(options: CheckOptions, invocation: Invocation) -> int:
    """Validate a submission to CASE (a folder) or TidyVoice (a ZIP file) and list all violations."""
    path = options.submission
    if path.is_dir():
        return report_problems(check_case_submission(path), f"{shown_path(path)}: valid CASE submission.")
    n_trials = {name: len(read_trials(file)) for name, file in options.evaluation.files.items()}
    return report_problems(check_submission(path, n_trials), f"{shown_path(path)}: valid TidyVoice submission.")


def report_problems(problems: Sequence[str], message_if_none: str) -> int:
    """Print one problem per line; return exit code 1 if there are any."""
    cli.show("\n".join(problems) if problems else message_if_none)
    return cli.FAILED if problems else cli.COMPLETE


def run_leaderboard(options: LeaderboardOptions, invocation: Invocation) -> int:
    """Rank results files among the published models."""
    models = []
    for path in options.results:
        model = read_results(path)
        with prefixed_errors(shown_path(path)):
            aggregate_eers(model.eers)
        models.append(model)
    table = leaderboard(models)
    printable = printable_leaderboard(table)
    text = to_markdown(printable.headers, printable.rows)
    if any(model.simulated for model in models):
        text += "\n\nResults on simulated conditions are not comparable and are not ranked."
    folder = options.output_dir
    table = table.replace(np.inf, np.nan)  # case_score_v1 is undefined if clean_eer is 0
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    write_together(
        {
            folder / "leaderboard.csv": to_csv(table),
            folder / "leaderboard.json": json.dumps(records, indent=2, allow_nan=False) + "\n",
            folder / "leaderboard.md": f"# CASE\n\n{text}\n",
        }
    )
    cli.show(text)
    return cli.COMPLETE
