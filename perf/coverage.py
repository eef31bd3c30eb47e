"""Write the coverage simulations of tests/coverage as tables: how often confidence intervals contain the true value.

Reads   nothing: data are simulated
Writes  docs/coverage.md

  uv run --all-extras perf/coverage.py
  uv run --all-extras perf/coverage.py --only "Human parity" --data-sets 100 --output coverage.md

The slow tests run the same simulations against the same bounds.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from earmark import cli
from earmark.errors import MissingError
from earmark.files.atomic import write_together
from earmark.report.tables import to_markdown
from tests.coverage.framework import COVERAGE, REJECTION, WIDTH, Result, simulate
from tests.coverage.test_coverage import SCENARIOS

ROOT = Path(__file__).resolve().parents[1]
INTRODUCTION = f"""# Coverage of confidence intervals

Written by `uv run --all-extras perf/coverage.py`. Each row summarises many simulated data sets of one size.

- **true value**: the value of a very large data set of the same kind, with the same raters (Agreement, Dawid-Skene) or
  the same training (Probes), or with very many raters (New raters). For estimates that depend on the size of the test
  set, the mean over test sets of that size.
- **bias**: mean of the estimates minus the true value; a dash if the true value is that mean.
- **width**: mean width of the 95 % confidence intervals divided by 3.92 standard deviations of the estimate. Below 1,
  intervals are too narrow.
- **coverage**: proportion of intervals that contain the true value; nominally .95. **above**, **below**: proportion of
  intervals that lie entirely above or below it.
- **rejection**: proportion of p-values below .05 if there is no difference; nominally .05.
- **noted**: proportion of data sets in which the report prints the estimate with a note or without an interval.
- **tested**: the slow tests require a width of {WIDTH[0]} to {WIDTH[1]}, a coverage of {100 * COVERAGE[0]:.0f} % to
  {100 * COVERAGE[1]:.0f} % and a rejection rate of {REJECTION[0]} to {REJECTION[1]}. With a few raters, wider
  intervals are allowed: Student's t has few degrees of freedom. The other rows show sizes below which intervals are not
  valid (reports print notes there), intervals that are known to be too wide, or faults to compare with.
"""
HEADERS = ["estimate", "true value", "bias", "width", "coverage", "above", "below", "rejection", "noted", "tested"]


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument(
        "--data-sets",
        type=cli.positive_int,
        metavar="N",
        help="data sets per simulation (default: the simulation's own number)",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="run only simulations whose name contains TEXT")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/coverage.md", help="(default: docs/coverage.md)")
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    if arguments.only and arguments.output == ROOT / "docs/coverage.md":
        raise MissingError("--only needs --output FILE: docs/coverage.md holds all simulations.")
    chosen = [number for number, scenario in enumerate(SCENARIOS) if arguments.only.lower() in scenario.name.lower()]
    if not chosen:
        raise MissingError(
            f"--only {arguments.only}: no such simulation; areas: {', '.join({s.area for s in SCENARIOS})}"
        )
    with ProcessPoolExecutor() as pool:
        done = pool.map(partial(results_of, data_sets=arguments.data_sets), chosen)
        all_results = list(invocation.progress(done, total=len(chosen), label="simulations", unit="simulation"))
    parts, area = [INTRODUCTION], ""
    for number, results in zip(chosen, all_results, strict=True):
        scenario = SCENARIOS[number]
        if scenario.area != area:
            area = scenario.area
            parts.append(f"\n## {area}\n")
        sets = arguments.data_sets or scenario.data_sets
        parts.append(f"\n{scenario.size[0].upper() + scenario.size[1:]} ({sets} data sets)\n")
        parts.append(to_markdown(HEADERS, [row_of(result) for result in results]) + "\n")
    write_together({arguments.output: "\n".join(parts)})
    cli.show(f"{arguments.output}: {len(chosen)} simulations, {sum(map(len, all_results))} estimates and p-values.")
    return cli.COMPLETE


def results_of(number: int, data_sets: int | None) -> list[Result]:
    """Run one simulation, for a worker process."""
    return simulate(SCENARIOS[number], data_sets)


def row_of(result: Result) -> list[object]:
    """Format a result as a table row."""
    noted = result.noted + result.without if result.width == result.width else result.without
    bias = result.mean - result.truth if result.has_truth else None
    numbers = [result.truth, bias, result.width, result.coverage, result.above, result.below, result.rejection]
    return [result.name, *numbers, noted, "yes" if result.tested else ""]


if __name__ == "__main__":
    sys.exit(main())
