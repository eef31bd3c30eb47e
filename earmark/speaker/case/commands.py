"""The commands of `evaluate_speaker.py` that make, fetch, check and rank files."""

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
from earmark.speaker.case import files, submission
from earmark.speaker.case.conditions import aggregate_eers, condition_names
from earmark.speaker.case.leaderboard import COLUMNS, leaderboard, read_results
from earmark.speaker.case.simulate.build import LEFT_OUT, Building, build
from earmark.speaker.case.simulate.clean_speech import speakers_left_out, told_of_left_out
from earmark.speaker.options import CheckOptions, DownloadOptions, LeaderboardOptions, SimulateOptions, VerifyOptions
from earmark.speaker.system import prefixed_errors
from earmark.speaker.tidyvoice.submission import check_submission
from earmark.speaker.trial_files import read_trials


def run_simulate(options: SimulateOptions, invocation: Invocation) -> int:
    """Make the benchmark; what is there already is kept."""
    fresh, building = simulate(options, invocation)
    left_out = ""
    if building.left_out:
        speakers = len(speakers_left_out(building.left_out, building.used))
        left_out = f"{len(building.left_out):,} files and {speakers:,} speakers are left out, see {LEFT_OUT}. "
    cli.show(
        f"{len(fresh):,} files, {sum(fresh):,} of them new, in {shown_path(options.output_dir)}/. {left_out}These "
        "carriers are made here, from your speech: results on them are not official CASE results."
    )
    return cli.COMPLETE


def simulate(options: SimulateOptions, invocation: Invocation) -> tuple[list[bool], Building]:
    """Make what is not there yet; returns whether each file is new, and what was built."""
    with locked([options.output_dir]):
        building = build(
            options.clean,
            options.output_dir,
            seed=invocation.seed,
            protocols=options.conditions,
            processes=options.workers,
            noises=options.noises,
            rooms=options.rooms,
            trials_per_protocol=options.trials,
            allow_missing=options.allow_missing,
        )
        where = shown_path(options.clean)
        if building.not_by_suffix:  # at once, for the rest takes a while
            told = told_of_left_out(building.not_by_suffix, building.sources)
            invocation.warn(f"{where}: {told}\nAudio is told by its suffix: {', '.join(SUFFIXES)}.")
        bar = invocation.progress(building, total=len(building), label="carriers", unit="file")
        fresh = [made.fresh for made in bar]
        if unusable := building.left_out[len(building.not_by_suffix) :]:
            invocation.warn(f"{where}: {told_of_left_out(unusable, building.used)}")
    return fresh, building


def run_download(options: DownloadOptions, invocation: Invocation) -> int:
    """Fetch the official benchmark, or go on fetching it."""
    token = options.token
    wanted = files.wanted_files(conditions=options.categories, sets=options.sets, base=options.hub, token=token)
    total = sum(file.size or 0 for file in wanted)
    with invocation.bytes_bar(total=total, label="CASE") as bar:

        def advance(_: RemoteFile, n: int) -> None:
            bar.update(n)

        files.download(wanted, options.output_dir, advance, token)
    cli.show(f"{len(wanted):,} files, {total / 1e9:.2f} GB, in {shown_path(options.output_dir)}/.")
    return cli.COMPLETE


def run_verify(options: VerifyOptions, invocation: Invocation) -> int:
    """Name every file that is missing or broken."""
    all_well = f"{shown_path(options.benchmark)}: all {len(condition_names())} lists and their audio are there."
    return report_problems(files.verify(options.benchmark), all_well)


def run_check(options: CheckOptions, invocation: Invocation) -> int:
    """Name every rule that a submission breaks."""
    path = options.submission
    if path.is_dir():
        return report_problems(submission.check(path), f"{shown_path(path)}: keeps the rules of the CASE leaderboard.")
    lists = {name: len(read_trials(file)) for name, file in options.evaluation.files.items()}
    return report_problems(check_submission(path, lists), f"{shown_path(path)}: keeps the rules of TidyVoice.")


def report_problems(problems: Sequence[str], all_well: str) -> int:
    """Every problem on a line of its own; 1 where there is one."""
    cli.show("\n".join(problems) if problems else all_well)
    return cli.FAILED if problems else cli.COMPLETE


def run_leaderboard(options: LeaderboardOptions, invocation: Invocation) -> int:
    """Rank results files among the published models."""
    results = []
    for path in options.results:
        found = read_results(path)
        with prefixed_errors(shown_path(path)):
            aggregate_eers(found.eers)
        results.append(found)
    table = leaderboard(results)
    board = to_markdown(COLUMNS, table[list(COLUMNS)].astype(object).to_numpy().tolist())
    if any(found.self_made for found in results):
        board += "\n\nSelf-made carriers are other data than CASE's: they have no rank among published models."
    folder = options.output_dir
    table = table.replace(np.inf, np.nan)  # a score that divides by no errors does not exist
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    write_together(
        {
            folder / "leaderboard.csv": to_csv(table),
            folder / "leaderboard.json": json.dumps(records, indent=2, allow_nan=False) + "\n",
            folder / "leaderboard.md": f"# CASE\n\n{board}\n",
        }
    )
    cli.show(board)
    return cli.COMPLETE
