"""Turn annotations into labels, and say how far people agree.

Reads   annotations/<subset>/{annotations,users[,flags]}.csv
Writes  analysis_outputs/<subset>/{benchmark_labels,leave_one_out,per_*_summary,incomplete_items}.csv, summary.json
        analysis_outputs/{report.md, report.tex}

  uv run analysis.py
  uv run analysis.py --subset emolia-dim --required-raters 2
  uv run analysis.py --exclude-rater user_1 --min-reaction-ms 300 --output-dir analysis_strict

--ties absent counts a tie as absent, which is what emolia-bench published.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.annotation.options import TIES, AnalysisOptions
from earmark.annotation.subsets import subsets


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.annotation.run import run_analysis  # pandas and scipy wait until the flags are right

    return run_analysis(cli.options(AnalysisOptions, arguments), invocation)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument(
        "--subset", choices=[*subsets(), "all"], default="all", help="which subset (default: all there are)"
    )
    parser.add_argument("--required-raters", type=cli.positive_int, default=3, help="raters of a complete item (3)")
    parser.add_argument(
        "--ties", choices=TIES, default="exclude", help="what a tied item is labelled (exclude: nothing)"
    )
    parser.add_argument("--exclude-rater", nargs="+", default=[], metavar="NAME", help="leave these people out")
    parser.add_argument("--min-reaction-ms", type=cli.positive_float, metavar="MS", help="leave faster ratings out")
    parser.add_argument("--exact-keys", action="store_true", help="keys that differ only in spelling stay apart")
    parser.add_argument("--show-names", action="store_true", help="name people in outputs who have no pseudonym")
    parser.add_argument(
        "--bootstrap", type=cli.natural_int, default=1000, metavar="N", help="replicates per interval (1000)"
    )
    parser.add_argument("--annotations-root", type=Path, default=Path("annotations"))
    parser.add_argument("--output-dir", type=Path, default=Path("analysis_outputs"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
