"""Compare finished results of several systems on the same items.

Reads   results of benchmark.py, evaluate_speaker.py or probe.py: folders, or names below benchmark_outputs/runs
Writes  benchmark_outputs/compare/<names>/: comparison.csv, flips.csv, summary.json, report.{md,tex,html}, figures/
        For results of probe.py also scores.csv: every system with its rank

  uv run compare.py
  uv run compare.py my-model baseline
  uv run compare.py results/a/emolia-emo results/b/emolia-emo --names A B --common
  uv run compare.py clap-1000 clap-2000 clap-4000

Without arguments: lists the results that can be compared. The first result is the reference unless --reference names
another. Results of different items are refused; --common compares the items that all hold. Scores are drawn against
training steps if --steps gives them, or if the names differ in one number only.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.comparison.options import CompareOptions


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.comparison.run import run_compare

    return run_compare(cli.options(CompareOptions, arguments), invocation)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument("results", nargs="*", metavar="RESULT", help="folder of a finished result, or name of a run")
    parser.add_argument("--names", nargs="+", default=[], metavar="NAME", help="a name for each result")
    parser.add_argument("--reference", metavar="NAME", help="system the others are compared with (default: the first)")
    parser.add_argument(
        "--steps",
        nargs="+",
        type=cli.natural_int,
        default=[],
        metavar="N",
        help="training step of each result (default: the one number in which names differ)",
    )
    parser.add_argument("--common", action="store_true", help="compare only items that all results hold")
    parser.add_argument(
        "--bootstrap", type=cli.natural_int, default=1000, metavar="N", help="bootstrap replicates (default: 1000)"
    )
    parser.add_argument("--no-intervals", action="store_true", help="values and differences only, which is faster")
    cli.add_page_flags(parser)
    parser.add_argument(
        "--runs", type=Path, default=Path("benchmark_outputs/runs"), metavar="DIR", help="folder of kept runs"
    )
    parser.add_argument("--dataset-root", type=Path, default=Path("dataset"), metavar="DIR", help="folder of clips")
    parser.add_argument("--audio-root", type=Path, metavar="DIR", help="folder that the paths of trials start from")
    parser.add_argument(
        "--output-dir", type=Path, default=Path("benchmark_outputs/compare"), metavar="DIR", help="output folder"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
