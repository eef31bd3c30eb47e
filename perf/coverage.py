"""How often intervals hold the truth: every simulation of tests/coverage, as a table.

Reads   nothing: data are drawn
Writes  docs/coverage.md

  uv run --all-extras perf/coverage.py
  uv run --all-extras perf/coverage.py --only "Human parity" --data-sets 100 --output coverage.md

The slow tests hold the same simulations to the same bounds.
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
from tests.coverage.framework import COVERED, REJECTED, WIDTH, Result, simulate
from tests.coverage.test_coverage import SCENARIOS

ROOT = Path(__file__).resolve().parents[1]
INTRODUCTION = f"""# Where intervals may be trusted

Written by `uv run --all-extras perf/coverage.py`. Each row stands for many simulated data sets of one size.

- **width**: the mean width of the 95 % intervals over 3.92 standard deviations of the estimate. 1 is right, below 1 is
  too narrow.
- **covered**: the share of the intervals that hold the truth; .95 is right. **above**, **below**: intervals that lie
  wholly above or below it.
- **rejected**: the share of p-values below .05 where there is no difference; .05 is right.
- **bias**: mean of the estimates less the truth; a dash where the truth is that mean.
- **noted**: the share of the data sets in which the report prints the estimate with a note, or without an interval.
- **held**: the slow tests hold the width to {WIDTH[0]} to {WIDTH[1]}, coverage to {COVERED[0]:.0%} to {COVERED[1]:.0%}
  and rejection to {REJECTED[0]} to {REJECTED[1]}. Rows that are not held show what happens below the sizes at which
  intervals work, where reports print notes, or an interval that is known to be too wide.

The truth is what a very large data set of the same kind gives, with the same raters (agreement, Dawid-Skene) or the
same training (probes); where it hangs on the size of the test set, what test sets of the size give on average.
"""
HEADERS = ["estimate", "truth", "bias", "width", "covered", "above", "below", "rejected", "noted", "held"]


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument("--data-sets", type=cli.positive_int, metavar="N", help="of each simulation (its own number)")
    parser.add_argument("--only", default="", metavar="TEXT", help="simulations whose name holds the text")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/coverage.md")
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    if arguments.only and arguments.output == ROOT / "docs/coverage.md":
        raise MissingError("--output FILE: docs/coverage.md holds all simulations, not some.")
    chosen = [number for number, one in enumerate(SCENARIOS) if arguments.only.lower() in one.name.lower()]
    if not chosen:
        raise MissingError(
            f"--only {arguments.only}: no simulation is called so: {', '.join({s.area for s in SCENARIOS})}"
        )
    with ProcessPoolExecutor() as pool:
        done = pool.map(partial(results_of, data_sets=arguments.data_sets), chosen)
        found = list(invocation.progress(done, total=len(chosen), label="simulations", unit="simulation"))
    parts, area = [INTRODUCTION], ""
    for number, results in zip(chosen, found, strict=True):
        scenario = SCENARIOS[number]
        if scenario.area != area:
            area = scenario.area
            parts.append(f"\n## {area}\n")
        sets = arguments.data_sets or scenario.data_sets
        parts.append(f"\n{scenario.size[0].upper() + scenario.size[1:]} ({sets} data sets)\n")
        parts.append(to_markdown(HEADERS, [row_of(one) for one in results]) + "\n")
    write_together({arguments.output: "\n".join(parts)})
    cli.show(f"{arguments.output}: {len(chosen)} simulations, {sum(map(len, found))} estimates and p-values.")
    return cli.COMPLETE


def results_of(number: int, data_sets: int | None) -> list[Result]:
    """One simulation, in a process of its own."""
    return simulate(SCENARIOS[number], data_sets)


def row_of(one: Result) -> list[object]:
    """A row of the table; a dash for what an estimate or a p-value does not have."""
    noted = one.noted + one.without if one.width == one.width else one.without
    bias = one.mean - one.truth if one.has_truth else None
    numbers = [one.truth, bias, one.width, one.covered, one.above, one.below, one.rejected]
    return [one.name, *numbers, noted, "yes" if one.held else ""]


if __name__ == "__main__":
    sys.exit(main())
