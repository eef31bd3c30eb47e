"""Replace annotators' names by pseudonyms, and refuse to write anything that still holds one.

Reads   annotations_raw/<subset>/{annotations,users[,flags]}.csv, _anon_map.csv
Writes  annotations/<subset>/{annotations,users[,flags]}.csv, summary.json
        annotations_raw/<subset>/_anon_map.csv, readable by you alone

  uv run anonymize.py
  uv run anonymize.py --k-min 2 --band-age 10 --drop degree languages
  uv run anonymize.py --coarsen-times day

A pseudonym stays an account's for good. All files of a run appear together or not at all.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.annotation.options import AnonymizeOptions
from earmark.annotation.subsets import subsets


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.annotation.release import run_anonymize  # pandas waits until the flags are right

    return run_anonymize(cli.options(AnonymizeOptions, arguments), invocation)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument(
        "--subset", choices=[*subsets(), "all"], default="all", help="which subset (default: all there are)"
    )
    parser.add_argument("--k-min", type=cli.positive_int, metavar="N", help="refuse when fewer than N people are alike")
    parser.add_argument("--drop", nargs="+", default=[], metavar="COLUMN", help="leave these columns of users.csv out")
    parser.add_argument("--keep", nargs="+", default=[], metavar="COLUMN", help="publish these columns too")
    parser.add_argument("--band-age", type=cli.positive_int, metavar="YEARS", help="ages as bands of so many years")
    parser.add_argument("--coarsen-times", choices=["day", "month"], help="cut created_at to the day or the month")
    parser.add_argument("--raw-root", type=Path, default=Path("annotations_raw"))
    parser.add_argument("--output-dir", type=Path, default=Path("annotations"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
