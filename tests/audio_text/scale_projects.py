"""Projects with labels of a nominal, ordinal or interval subset, as analysis.py writes them, and silent-free clips."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from earmark.annotation.subset_files import to_toml
from earmark.annotation.subsets import Subset

Ratings = Mapping[str, Mapping[str, str | float]]  # {file: {rater: class, level from 1, or number}}

CHOICE = Subset(
    "choice",
    "nominal",
    ("file",),
    levels=("Anger", "Joy", "Fear"),
    prompt={"sentence": "Speech that sounds {label}."},
)
AROUSAL = Subset("arousal", "interval", ("file",), prompt={"sentence": "Speech of a highly aroused speaker."})
WARMTH = Subset(
    "warmth",
    "ordinal",
    ("file", "trait"),
    levels=("low", "mid", "high"),
    prompt={"sentence": "A {label} voice.", "label": "trait"},
)


def write_project(root: Path, subset: Subset, ratings: Mapping[tuple[str, ...], Mapping[str, str | float]]) -> Path:
    """Write labels, held-out ratings, description and clips; ratings by key of the item and rater."""
    folder = root / "analysis_outputs" / subset.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "subset.toml").write_text(to_toml([subset]), encoding="utf-8")
    make = {"nominal": _nominal, "ordinal": _ordinal, "interval": _interval}[subset.scale]
    rows, held_out = [], []
    for key in sorted(ratings):
        own = ratings[key]
        common = dict(zip(subset.key, key, strict=True)) | {"usernames": "|".join(sorted(own))}
        label, others = make(subset, own)
        rows.append({**common, **label, "n_raters": len(own), "flagged": False})
        names = dict(zip(subset.key, key, strict=True))
        held_out += [{**names, "username": rater, **cells} for rater, cells in others.items() if len(own) > 1]
    pd.DataFrame(rows).to_csv(folder / "benchmark_labels.csv", index=False)
    pd.DataFrame(held_out).to_csv(folder / "leave_one_out.csv", index=False)
    write_clips(root / "dataset" / subset.name, sorted({key[0] for key in ratings}))
    return root


def write_clips(folder: Path, names: Sequence[str]) -> None:
    """A short tone of its own for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        tone = 0.3 * np.sin(2 * np.pi * (200 + 10 * i) * np.arange(1600) / 16000)
        soundfile.write(folder / name, tone, 16000)


def majority(ratings: Sequence[str]) -> str:
    """The most frequent class; empty for a tie."""
    first = Counter(ratings).most_common(2)
    return "" if not first or (len(first) > 1 and first[0][1] == first[1][1]) else first[0][0]


def _nominal(subset: Subset, own: Mapping) -> tuple[dict, dict]:
    votes = list(own.values())
    label = {
        "majority_class": majority(votes),
        "majority_votes": max(Counter(votes).values()),
        "majority_tie": not majority(votes),
        "all_agree": len(set(votes)) == 1,
        **{f"share_{level}": votes.count(level) / len(votes) for level in subset.levels},
        "ds_class": majority(votes) or votes[0],
        **{f"ds_probability_{level}": votes.count(level) / len(votes) for level in subset.levels},
    }
    others = {
        rater: {
            "rating": vote,
            "majority_of_others": majority([v for r, v in own.items() if r != rater]),
            "n_others": len(own) - 1,
        }
        for rater, vote in own.items()
    }
    return label, others


def _ordinal(subset: Subset, own: Mapping) -> tuple[dict, dict]:
    levels = list(own.values())
    label = {
        "median_level": float(np.median(levels)),
        "mean_level": float(np.mean(levels)),
        "all_agree": len(set(levels)) == 1,
    }
    others = {
        rater: {
            "rating": subset.levels[int(level) - 1],
            "level": int(level),
            "mean_level_of_others": _mean_of_others(own, rater),
            "n_others": len(own) - 1,
        }
        for rater, level in own.items()
    }
    return label, others


def _interval(subset: Subset, own: Mapping) -> tuple[dict, dict]:
    label = {"mean_rating": float(np.mean(list(own.values())))}
    others = {
        rater: {"rating": value, "mean_of_others": _mean_of_others(own, rater), "n_others": len(own) - 1}
        for rater, value in own.items()
    }
    return label, others


def _mean_of_others(own: Mapping, rater: str) -> float:
    others = [value for name, value in own.items() if name != rater]
    return float(np.mean(others)) if others else float("nan")


def simulated_choices(n: int, raters: int, rng: np.random.Generator) -> dict[tuple[str, ...], dict[str, str]]:
    """Ratings of n clips: every rater names the true class seven times of ten."""
    truth = rng.integers(0, 3, n)
    chosen = np.where(rng.random((n, raters)) < 0.7, truth[:, None], rng.integers(0, 3, (n, raters)))
    return {
        (f"clip_{i:03}.wav",): {f"user_{r}": CHOICE.levels[c] for r, c in enumerate(row)}
        for i, row in enumerate(chosen)
    }


def simulated_numbers(n: int, raters: int, rng: np.random.Generator) -> dict[tuple[str, ...], dict[str, float]]:
    """Ratings of n clips from 1 to 5, with noise and rater effects of the size of the clips'."""
    truth = rng.normal(size=(n, 1))
    values = 3 + truth + 0.5 * rng.normal(size=raters) + rng.normal(size=(n, raters))
    values = np.clip(np.round(values), 1, 5)
    return {(f"clip_{i:03}.wav",): {f"user_{r}": float(v) for r, v in enumerate(row)} for i, row in enumerate(values)}


def simulated_levels(n: int, raters: int, rng: np.random.Generator) -> dict[tuple[str, ...], dict[str, float]]:
    """Levels 1 to 3 of n clips for two traits each."""
    rows = {}
    for i in range(n):
        for trait in ("warm", "rough"):
            levels = np.clip(np.round(2 + rng.normal() + 0.7 * rng.normal(size=raters)), 1, 3)
            rows[(f"clip_{i:03}.wav", trait)] = {f"user_{r}": float(v) for r, v in enumerate(levels)}
    return rows
