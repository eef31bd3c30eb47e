"""Run all benchmarks of perf/ and collect their ratios, each against a baseline of the same run.

Reads   nothing: every benchmark generates its data
Prints  what the benchmarks print, and a table of their ratios
Writes  perf/results.json (machine, versions, ratios) and the table of benchmarks in README.md; with --small, or with
        --output FILE, only FILE

Each benchmark is a process of its own. A ratio is a line `MEASURED / BASELINE: number (target …)` of its output. The
exit code is 1 if a benchmark fails or prints no ratio; a missed target does not change it, because times depend on the
machine. perf/coverage.py and perf/scale.py measure something else and are run on their own.

  uv run --all-extras perf/all.py
  uv run --all-extras perf/all.py --only compare startup
  uv run --all-extras perf/all.py --small --output results.json   (what CI runs)
"""

import json
import math
import os
import re
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from earmark import cli
from earmark.errors import MissingError
from earmark.files.atomic import write_together

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "perf/results.json"
# MEASURED / BASELINE: 1,234.5 (target: at least 5)
RATIO = re.compile(
    r"^\s*(?P<measured>[^:/]*[^:/\s]) / (?P<baseline>[^:/]*[^:/\s]):\s+(?P<ratio>[\d.,]+|nan|inf)"
    r"(?:\s+(?:wall|processor|\(processor time\)))?\s*(?:\(target:? ?(?P<target>[^)]*)\))?\s*$"
)
PACKAGES = ("numpy", "pandas", "scipy", "torch", "numba", "transformers", "soundfile", "soxr")


@dataclass(frozen=True)
class Benchmark:
    """A script of perf/.

    Attributes
    ----------
    measures : str
        What it measures, for the table.
    small : tuple of str or None
        Flags of the small size; None for a benchmark that has a test of its own.
    has_ratios : bool
        Whether it prints ratios to baselines.
    """

    measures: str
    small: tuple[str, ...] | None
    has_ratios: bool = True


BENCHMARKS = {
    "startup": Benchmark("the time until `--help` appears", ("--rounds", "1")),
    "agreement": Benchmark(
        "agreement on 34,097 ratings with 1,000 replicates",
        ("--replicates", "50", "--baseline-replicates", "1", "--rounds", "1"),
    ),
    "scoring": Benchmark("questions to a server", ("--pairs", "64", "--few", "8", "--latency-ms", "20")),
    "in_process": Benchmark(
        "clips scored in the same process",
        ("--clips", "2", "--seconds", "2", "--rounds", "1", "--batch-size", "2", "--decoders", "1"),
    ),
    "speaker": Benchmark(
        "lists of 12 million trials",
        ("--trials", "20000", "--conditions", "1", "--case-trials", "200"),
    ),
    "probe": Benchmark(
        "linear and k-NN probes of 20,000 clips",
        ("--clips", "500", "--width", "32", "--frames", "2", "--epochs", "1", "--rounds", "1"),
    ),
    "compare": Benchmark("comparisons of 12 million trials", ("--trials", "20000", "--pairs", "400")),
    "gpu": Benchmark("models of real size on a GPU, if there is one", None, has_ratios=False),
}


@dataclass(frozen=True)
class Ratio:
    """A measurement relative to its baseline.

    Attributes
    ----------
    benchmark, measured, baseline : str
    ratio : float
    target : str
        As the benchmark states it; empty if there is none.
    """

    benchmark: str
    measured: str
    baseline: str
    ratio: float
    target: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument("--small", action="store_true", help="small sizes, to check that the benchmarks run")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON of the ratios (default: perf/results.json)")
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    if arguments.small and arguments.output is None:
        raise MissingError("--small needs --output FILE: perf/results.json holds ratios of the full size.")
    present = [name for name in BENCHMARKS if (ROOT / f"perf/{name}.py").is_file()]
    chosen = [name for name in present if name in (arguments.only or present)]
    if arguments.small:
        chosen = [name for name in chosen if BENCHMARKS[name].small is not None]
    ratios: list[Ratio] = []
    seconds, failed = {}, []
    for name in chosen:
        started = time.perf_counter()
        cli.show(f"--- perf/{name}.py")
        status, lines = run_benchmark(name, small=arguments.small)
        seconds[name] = round(time.perf_counter() - started, 1)
        found = ratios_in(name, lines)
        ratios += found
        if status != cli.COMPLETE or (BENCHMARKS[name].has_ratios and not found):
            failed.append(name)
    cli.show(to_table(ratios))
    results = {"machine": describe_machine(), "seconds": seconds, "ratios": [asdict(each) for each in ratios]}
    if failed:
        invocation.warn(f"failed, or without a ratio: {', '.join(failed)}. Nothing was written.")
        return cli.FAILED
    if arguments.output is None and arguments.only:
        results = added_to_earlier(results)
    write_together({arguments.output or RESULTS: json.dumps(results, indent=1, ensure_ascii=False) + "\n"})
    if arguments.output is None:
        subprocess.run([sys.executable, "docs/make_tables.py"], cwd=ROOT, check=True)
    return cli.COMPLETE


def run_benchmark(name: str, *, small: bool) -> tuple[int, list[str]]:
    """Run a benchmark and show its output; returns its exit code and the lines."""
    script = f"perf/{name}.py"
    flags = [*((BENCHMARKS[name].small or ()) if small else ())]
    lines = []
    with subprocess.Popen([sys.executable, script, *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            cli.show(line.rstrip("\n"))
            lines.append(line)
    return process.returncode, lines


def ratios_in(name: str, lines: Sequence[str]) -> list[Ratio]:
    """Ratios that a benchmark printed. ValueError if one is not a finite number.

    Examples
    --------
    >>> ratios_in("probe", ["  PyTorch / one head:   1,234.5 (target: at least 5)", "one head: 3 s"])
    [Ratio(benchmark='probe', measured='PyTorch', baseline='one head', ratio=1234.5, target='at least 5')]
    """
    matches = [match for line in lines if (match := RATIO.match(line))]
    found = [
        Ratio(name, each["measured"], each["baseline"], float(each["ratio"].replace(",", "")), each["target"] or "")
        for each in matches
    ]
    if wrong := [each for each in found if not math.isfinite(each.ratio)]:
        raise ValueError(f"perf/{name}.py: {wrong[0].measured} / {wrong[0].baseline} is {wrong[0].ratio}")
    return found


def to_table(ratios: Sequence[Ratio]) -> str:
    """Ratios as a Markdown table."""
    rows = ["| benchmark | measured | baseline | ratio | target |", "|---|---|---|---:|---|"]
    rows += [f"| `{r.benchmark}` | {r.measured} | {r.baseline} | {r.ratio:,.3g} | {r.target} |" for r in ratios]
    return "\n".join(rows)


def added_to_earlier(results: dict) -> dict:
    """Results with those of benchmarks that were not run this time, if there are any."""
    if not RESULTS.is_file():
        return results
    earlier = json.loads(RESULTS.read_text(encoding="utf-8"))
    ran = results["seconds"]
    ratios = [each for each in earlier["ratios"] if each["benchmark"] not in ran] + results["ratios"]
    order = [*BENCHMARKS]
    ratios.sort(key=lambda each: order.index(each["benchmark"]))
    return {**results, "seconds": {**earlier["seconds"], **ran}, "ratios": ratios}


def describe_machine() -> dict[str, object]:
    """What times depend on: processor, memory, load and versions."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return {
        "system": sys.platform,
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 1e9, 1),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": sys.version.split()[0],
        "packages": packages,
    }


def processor_name() -> str:
    """Model of the processor, as Linux names it; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    sys.exit(main())
