"""Time and memory of the annotation analysis at the size of the published data, with and without summed statistics.

Reads   nothing: generates 34,097 ratings of 18,632 items by 8 raters, distributed as in the published emolia-dim
Prints  time, processor time and peak memory of `analysis.py` as a process, with 1,000 bootstrap replicates for every
        estimate, with figures and without; and the time to recompute every estimate from resampled ratings (measured on
        a few replicates and extrapolated), against that from summed statistics

  uv run perf/agreement.py
  uv run perf/agreement.py --replicates 200 --baseline-replicates 5
  uv run perf/agreement.py --size 100 --rounds 1 --baseline-replicates 1   (3.4 million ratings)
"""

import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from earmark import cli
from earmark.annotation.analysis import agreement_estimates
from earmark.annotation.labels import clip_ids, clip_ranks
from earmark.annotation.reliability import Votes
from earmark.annotation.subsets import subsets
from earmark.annotation.tables import Annotations, load_annotations
from earmark.metrics.bootstrap import Bootstrap

ROOT = Path(__file__).resolve().parents[1]
COVERAGE = {1: 4647, 2: 12562, 3: 1366, 4: 57}  # number of items by number of raters
REQUIRED = 3
SUBSET = "emolia-dim"


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument(
        "--replicates", type=cli.positive_int, default=1000, help="bootstrap replicates (default: 1000)"
    )
    parser.add_argument(
        "--baseline-replicates", type=cli.positive_int, default=3, help="replicates of the baseline (default: 3)"
    )
    parser.add_argument(
        "--size", type=cli.positive_int, default=1, help="items, in multiples of the published 18,632 (default: 1)"
    )
    parser.add_argument("--raters", type=cli.positive_int, default=8, help="number of raters, at least 4 (default: 8)")
    parser.add_argument("--rounds", type=cli.positive_int, default=3, help="runs of analysis.py (default: 3)")
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    with tempfile.TemporaryDirectory() as folder:
        coverage = {n: items * arguments.size for n, items in COVERAGE.items()}
        write_annotations(Path(folder) / SUBSET, coverage, arguments.raters, invocation.generator())
        for name, flags in (("", []), (" --no-figures", ["--no-figures"])):
            runs = [time_script(Path(folder), arguments.replicates, flags) for _ in range(arguments.rounds)]
            wall, processor, megabytes = (min(each) for each in zip(*runs, strict=True))
            cli.show(f"analysis.py{name}: {wall:.1f} s, processor {processor:.1f} s, peak {megabytes:,.0f} MB")
        annotations = load_annotations(Path(folder) / SUBSET, subsets()[SUBSET])
        with_sums = min(time_intervals(annotations, arguments.replicates) for _ in range(arguments.rounds))
        recomputed = time_recomputing(annotations, arguments, invocation.generator())
    cli.show(f"intervals of all estimates, {len(annotations.ratings):,} ratings, {arguments.replicates:,} replicates")
    cli.show(f"  recomputed for each replicate: {recomputed:,.0f} s")
    cli.show(f"  from summed statistics:        {with_sums:.2f} s")
    cli.show(f"  recomputed / from summed statistics: {recomputed / with_sums:,.0f}")
    return cli.COMPLETE


def write_annotations(folder: Path, coverage: Mapping[int, int], raters: int, rng: np.random.Generator) -> None:
    """Write the tables of a subset with these numbers of items by number of raters."""
    raters_of = rng.permutation(np.repeat(list(coverage), list(coverage.values())))
    item = np.repeat(np.arange(len(raters_of)), raters_of)
    rater = np.concatenate([rng.choice(raters, size=n, replace=False) for n in raters_of])
    truth = rng.random(len(raters_of)) < 0.3
    present_vote = rng.random(len(item)) < np.where(truth[item], 0.6, 0.3) + rng.normal(0, 0.05, raters)[rater]
    polarity = np.where(rng.random(len(raters_of)) < 0.5, "positive", "negative")
    table = pd.DataFrame(
        {
            "annotation_id": [f"a{i}" for i in range(len(item))],
            "username": [f"user_{i}" for i in rater],
            "dimension": [f"DIM{i % 58:02d}" for i in item],
            "level": [str(i // 58 % 7) for i in item],
            "polarity": polarity[item],
            "file_name": [f"sample_{i // 406:02d}.mp3" for i in item],
            "rating": np.where(present_vote, "yes", "no"),
            "reaction_time_ms": rng.lognormal(9, 0.7, len(item)).astype(int),
            "sample_time_ms": rng.integers(2000, 30000, len(item)),
            "created_at": pd.Timestamp("2026-05-01") + pd.to_timedelta(np.arange(len(item)), unit="s"),
        }
    )
    folder.mkdir(parents=True)
    table.to_csv(folder / "annotations.csv", index=False)
    pd.DataFrame({"username": [f"user_{i}" for i in range(raters)]}).to_csv(folder / "users.csv", index=False)


def time_script(annotations_root: Path, replicates: int, further_flags: Sequence[str]) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak memory (MB) of the script as a process."""
    flags = ["--subset", SUBSET, "--bootstrap", str(replicates), "--quiet", *further_flags]
    folders = ["--annotations-root", str(annotations_root), "--output-dir", str(annotations_root / "out")]
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, ROOT / "analysis.py", *flags, *folders], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "analysis.py")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def time_intervals(annotations: Annotations, replicates: int) -> float:
    """Seconds for all estimates with their intervals."""
    started = time.perf_counter()
    votes = Votes.from_annotations(annotations)
    clips = clip_ranks(votes.items, annotations.subset)
    alike = votes.alike([votes.items["polarity"]])
    bootstrap = Bootstrap.from_units(clips, replicates, np.random.default_rng(0), alike=alike)
    agreement_estimates(votes, bootstrap, REQUIRED)
    return time.perf_counter() - started


def time_recomputing(annotations: Annotations, arguments: Namespace, rng: np.random.Generator) -> float:
    """Seconds for the baseline: resample clips, collect their ratings and recompute every estimate."""
    ratings = annotations.ratings
    clip = pd.factorize(clip_ids(ratings, annotations.subset))[0]
    order = np.argsort(clip, kind="stable")
    rows_of = np.split(order, np.flatnonzero(np.diff(clip[order])) + 1)
    seconds = 0.0
    for _ in range(arguments.baseline_replicates):
        drawn = rng.integers(0, len(rows_of), len(rows_of))
        rows = np.concatenate([rows_of[i] for i in drawn])
        copy = np.repeat(np.arange(len(drawn)), [len(rows_of[i]) for i in drawn])
        # A clip that is drawn twice becomes two clips.
        names = ratings["file_name"].to_numpy()[rows] + "#" + copy.astype(str)
        resampled = replace(annotations, ratings=ratings.iloc[rows].reset_index(drop=True).assign(file_name=names))
        seconds += time_intervals(resampled, 0)
    return seconds / arguments.baseline_replicates * arguments.replicates


if __name__ == "__main__":
    sys.exit(main())
