"""Replace usernames with pseudonyms and check that no output contains a name.

Reads   annotations_raw/<subset>/{annotations,users[,flags]}.csv, _anon_map.csv; or any table of ratings (--table)
Writes  annotations/<subset>/{annotations,users[,flags]}.csv, summary.json
        annotations_raw/<subset>/_anon_map.csv (file mode 600)

  uv run anonymize.py
  uv run anonymize.py --k-min 2 --band-age 10 --drop degree languages
  uv run anonymize.py --coarsen-times day
  uv run anonymize.py --table ratings.csv --item file --rater who --rating arousal --scale interval

Pseudonyms are stable: _anon_map.csv stores them and is only ever extended. If a table is invalid or a name is
found, nothing is written. Withdrawn consent and columns outside the documented format are never published.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.annotation.flags import add_reading_flags, add_source_flags
from earmark.annotation.options import AnonymizeOptions


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.annotation.release import run_anonymize  # slow import; not needed for --help

    return run_anonymize(cli.options(AnonymizeOptions, arguments), invocation)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    add_source_flags(parser, "process")
    add_reading_flags(parser)
    parser.add_argument("--k-min", type=cli.positive_int, metavar="N", help="fail if k-anonymity is below N")
    parser.add_argument("--drop", nargs="+", default=[], metavar="COLUMN", help="columns of users.csv to leave out")
    parser.add_argument("--keep", nargs="+", default=[], metavar="COLUMN", help="additional columns to publish")
    parser.add_argument(
        "--band-age", type=cli.positive_int, metavar="YEARS", help="replace ages with bands of this many years"
    )
    parser.add_argument("--coarsen-times", choices=["day", "month"], help="truncate created_at to the day or month")
    parser.add_argument(
        "--raw-root",
        type=Path,
        default=Path("annotations_raw"),
        metavar="DIR",
        help="input directory (default: annotations_raw)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("annotations"),
        metavar="DIR",
        help="output directory (default: annotations)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
