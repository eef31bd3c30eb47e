"""Derive labels from human ratings and report inter-rater agreement.

Reads   annotations/<subset>/{annotations,users[,flags]}.csv, or any table of ratings (--table)
Writes  analysis_outputs/<subset>/{benchmark_labels,leave_one_out,per_*_summary,incomplete_items}.csv, summary.json
        analysis_outputs/{report.md, report.tex}, or with --table in analysis_outputs/<name>/

  uv run analysis.py
  uv run analysis.py --subset emolia-dim --required-raters 2
  uv run analysis.py --exclude-rater user_1 --min-reaction-ms 300 --output-dir analysis_strict
  uv run analysis.py --table ratings.csv --item file --rater who --rating arousal --scale interval
  uv run analysis.py --table ratings.csv --item file --rater who --rating emotion --scale nominal --name emotions
  uv run analysis.py --table export.json --scale nominal

Reports agreement coefficients, the human ceiling, per-rater statistics and summaries by slice, each with a 95 %
bootstrap confidence interval over clips. --ties absent labels tied items absent, as emolia-bench does.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.annotation.flags import add_reading_flags, add_source_flags, pass_rate, trimmed_share
from earmark.annotation.options import TIES, AnalysisOptions
from earmark.metrics.resample import RESAMPLE


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.annotation.run import run_analysis  # slow import; not needed for --help

    return run_analysis(cli.options(AnalysisOptions, arguments), invocation)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    add_source_flags(parser, "analyse")
    add_reading_flags(parser)
    parser.add_argument(
        "--required-raters",
        type=cli.positive_int,
        default=3,
        metavar="N",
        help="number of raters that makes an item complete (default: 3)",
    )
    parser.add_argument(
        "--ties",
        choices=TIES,
        default="exclude",
        help="leave tied items without a label, or label them absent (default: exclude)",
    )
    parser.add_argument("--exclude-rater", nargs="+", default=[], metavar="NAME", help="raters to exclude")
    parser.add_argument(
        "--min-reaction-ms", type=cli.positive_float, metavar="MS", help="exclude ratings with a shorter reaction time"
    )
    parser.add_argument(
        "--trimmed-mean",
        type=trimmed_share,
        metavar="SHARE",
        help="interval scale: also report means without this share of ratings at either end",
    )
    parser.add_argument(
        "--resample",
        choices=RESAMPLE,
        default="clips",
        help="what intervals generalise over: clips, raters or both (default: clips)",
    )
    quality = parser.add_argument_group("machines and quality items")
    quality.add_argument(
        "--machine-rater", nargs="+", default=[], metavar="NAME", help="raters that are machines: they enter no label"
    )
    quality.add_argument(
        "--gold", type=Path, metavar="FILE", help="CSV of quality items: the item's columns and the expected rating"
    )
    quality.add_argument(
        "--gold-column", metavar="COLUMN", help="column with the expected rating of quality items, empty elsewhere"
    )
    quality.add_argument(
        "--gold-tolerance",
        type=cli.positive_or_zero_float,
        default=0.0,
        metavar="T",
        help="interval scale: largest difference from the expected rating that passes (default: 0)",
    )
    quality.add_argument(
        "--min-gold-rate", type=pass_rate, metavar="R", help="exclude raters who pass fewer quality items"
    )
    parser.add_argument("--show-names", action="store_true", help="write usernames even if they are not pseudonyms")
    parser.add_argument(
        "--bootstrap", type=cli.natural_int, default=1000, metavar="N", help="bootstrap replicates (default: 1000)"
    )
    parser.add_argument(
        "--annotations-root",
        type=Path,
        default=Path("annotations"),
        metavar="DIR",
        help="input directory (default: annotations)",
    )
    parser.add_argument(
        "--dataset-root",
        type=Path,
        default=Path("dataset"),
        metavar="DIR",
        help="directory of the clips, for report.html (default: dataset)",
    )
    cli.add_page_flags(parser)
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("analysis_outputs"),
        metavar="DIR",
        help="output directory (default: analysis_outputs)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
