"""The commands of `evaluate_speaker.py` that make, fetch, check and rank files."""

import json
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np

from earmark import cli
from earmark.errors import shown_path
from earmark.files.atomic import locked, write_together
from earmark.files.download import RemoteFile
from earmark.report.tables import to_csv, to_markdown
from earmark.speaker.case import files, protocols, submission
from earmark.speaker.case.simulate.build import build
from earmark.speaker.options import naming
from earmark.speaker.tidyvoice import evaluation
from earmark.speaker.trials import read_trials


def tell_carriers(arguments: Namespace) -> int:
    """Make the benchmark; what is there already is kept."""
    with locked([arguments.output_dir]):
        building = build(
            arguments.clean,
            arguments.output_dir,
            seed=arguments.seed,
            protocols=arguments.protocols,
            processes=arguments.processes,
            noises=arguments.noises,
            rooms=arguments.rooms,
            trials_per_protocol=tuple(arguments.trials),
        )
        bar = cli.progress(building, arguments, total=len(building), what="carriers", unit="file")
        fresh = sum(made.fresh for made in bar)
    cli.show(
        f"{len(building):,} files, {fresh:,} of them new, in {shown_path(arguments.output_dir)}/. These carriers are "
        "made here, from your speech: results on them are not official CASE results."
    )
    return cli.COMPLETE


def tell_download(arguments: Namespace) -> int:
    """Fetch the official benchmark, or go on fetching it."""
    wanted = files.wanted_files(**chosen_files(arguments))
    total = sum(file.size or 0 for file in wanted)
    with cli.bytes_bar(arguments, total=total, what="CASE") as bar:

        def advance(_: RemoteFile, n: int) -> None:
            bar.update(n)

        files.download(arguments.output_dir, **chosen_files(arguments), progress=advance)
    cli.show(f"{len(wanted):,} files, {total / 1e9:.2f} GB, in {shown_path(arguments.output_dir)}/.")
    return cli.COMPLETE


def chosen_files(arguments: Namespace) -> dict[str, Any]:
    """The part of the benchmark that is asked for."""
    return {
        "conditions": arguments.conditions or files.CONDITIONS,
        "sets": arguments.sets or files.SETS,
        "base": arguments.hub,
        "token": arguments.hub_token,
    }


def tell_verify(arguments: Namespace) -> int:
    """Name every file that is missing or broken."""
    problems = files.verify(arguments.benchmark)
    return say(problems, f"{shown_path(arguments.benchmark)}: all 24 lists and their audio are there.")


def tell_check(arguments: Namespace) -> int:
    """Name every rule that a submission breaks."""
    path = arguments.submission
    if path.is_dir():
        return say(submission.check(path), f"{shown_path(path)}: keeps the rules of the CASE leaderboard.")
    given = {"A": arguments.eval_a, "U": arguments.eval_u}
    lists = {name: len(read_trials(file)) for name, file in given.items() if file}
    return say(evaluation.check_submission(path, lists), f"{shown_path(path)}: keeps the rules of TidyVoice.")


def say(problems: Sequence[str], all_well: str) -> int:
    """Every problem on a line of its own; 1 where there is one."""
    cli.show("\n".join(problems) if problems else all_well)
    return cli.FAILED if problems else cli.COMPLETE


def tell_leaderboard(arguments: Namespace) -> int:
    """Rank results files among the published models."""
    results = []
    for path in arguments.results:
        found = protocols.read_results(path)
        with naming(shown_path(path)):
            protocols.aggregates(found.eers)
        results.append(found)
    table = protocols.leaderboard(results)
    columns = list(protocols.COLUMNS)
    board = to_markdown(columns, table[columns].astype(object).to_numpy().tolist())
    if any(found.self_made for found in results):
        board += "\n\nSelf-made carriers are other data than CASE's: they have no rank among published models."
    folder = arguments.output_dir
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
