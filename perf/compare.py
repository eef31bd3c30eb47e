"""Measure comparisons at the size of real test sets, against the time that reading and evaluating takes alone.

  uv run perf/compare.py
  uv run perf/compare.py --trials 1000000 --pairs 5000

Prints seconds and ratios: three systems on a trial list without intervals, against three evaluations of one system;
three models on clip-text pairs with 1,000 replicates, against replicates item by item.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from earmark import cli  # noqa: E402
from earmark.comparison.differences import comparison_rows  # noqa: E402
from earmark.comparison.results import FinishedResult  # noqa: E402
from earmark.comparison.similarity import ScoredPairs, compare_pairs  # noqa: E402
from earmark.comparison.verification import compare_lists, read_scored_lists  # noqa: E402
from earmark.metrics.bootstrap import Bootstrap  # noqa: E402
from earmark.metrics.classification import ranking_replicates  # noqa: E402
from earmark.speaker.evaluation import evaluate  # noqa: E402

SYSTEMS = ("a", "b", "c")
SUMMARY = {"script": "evaluate_speaker.py", "parameters": {"p_target": 0.01}}


def seconds(work: object) -> tuple[float, object]:
    """Seconds that a function takes, and its result."""
    start = time.perf_counter()
    result = work()  # type: ignore[operator]
    return time.perf_counter() - start, result


def verification(n: int, rng: np.random.Generator) -> None:
    """Three systems on a list of n trials."""
    names = np.array([f"spk{i // 50:04d}/{i % 50:02d}.wav" for i in range(50_000)])
    enrolment, test = rng.integers(0, len(names), n), rng.integers(0, len(names), n)
    test[: n // 100] = enrolment[: n // 100] // 50 * 50 + rng.integers(0, 50, n // 100)
    label = enrolment // 50 == test // 50
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for number, name in enumerate(SYSTEMS):
            path = Path(folder) / name
            path.mkdir()
            table = pd.DataFrame({"enrol": names[enrolment], "test": names[test]})
            scores = np.round(rng.normal(size=n) + (2 + number / 10) * label, 4)
            table.assign(score=scores, label=label.astype(int)).to_csv(path / "scores.csv.gz", index=False)
            results.append(FinishedResult(name, "speaker/trials", path, SUMMARY))
        reading, scored = seconds(lambda: read_scored_lists(results, common=False))
        trials = scored.lists[""]  # type: ignore[attr-defined]
        alone, _ = seconds(lambda: evaluate(trials, None, intervals=False))
        comparing, metrics = seconds(lambda: compare_lists(scored, intervals=False))  # type: ignore[arg-type]
        comparison_rows(metrics, SYSTEMS, 0)  # type: ignore[arg-type]
    print(f"{n:,} trials, three systems, no intervals: {reading + comparing:.1f} s (target 180 s)")
    print(f"  reading {reading:.1f} s, comparing {comparing:.1f} s")
    print(f"  comparing / three evaluations: {comparing / (3 * alone):.2f}")


def similarity(n: int, rng: np.random.Generator) -> None:
    """Three models on n pairs of clip and sentence, with 1,000 replicates."""
    clip = np.arange(n) // 4
    table = pd.DataFrame(
        {
            "item": np.arange(n).astype(str),
            "benchmark_bucket": rng.integers(0, 6, n).astype(str),
            "emotion": rng.integers(0, 40, n).astype(str),
            "audio_path": clip.astype(str),
            "prompt": "",
            "label": rng.integers(0, 2, n).astype(float),
        }
    )
    scores = [rng.normal(size=n) + table["label"].to_numpy() for _ in SYSTEMS]
    pairs = ScoredPairs(table, scores, [0.0] * 3, ["benchmark_bucket", "emotion"], 0, [])
    taken, metrics = seconds(lambda: compare_pairs(pairs, 1000, np.random.default_rng(0)))
    comparison_rows(metrics, SYSTEMS, 0)  # type: ignore[arg-type]
    bootstrap = Bootstrap.from_units(clip, 50, np.random.default_rng(0))
    exact, _ = seconds(lambda: ranking_replicates(scores[0], table["label"], bootstrap))
    print(f"{n:,} pairs, three models, 1,000 replicates: {taken:.1f} s (target 10 s)")
    print(f"  all of it / ROC AUC and average precision item by item, three models: {taken / (3 * 20 * exact):.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=cli.positive_int, default=12_000_000, metavar="N", help="trials")
    parser.add_argument("--pairs", type=cli.positive_int, default=34_000, metavar="N", help="clip-text pairs")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    similarity(arguments.pairs, rng)
    verification(arguments.trials, rng)
    return 0


if __name__ == "__main__":
    sys.exit(main())
