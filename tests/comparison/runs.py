"""Finished results for tests of comparisons: real runs of the scripts on demo data, and copies with other scores."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.files.runs import SYSTEM_FILE


def copy_run(source: Path, runs: Path, name: str) -> Path:
    """A copy of a subset's run under another system's name."""
    folder = runs / name / source.name
    shutil.copytree(source, folder)
    (runs / name / SYSTEM_FILE).write_text(json.dumps({"name": name, "state": name}), encoding="utf-8")
    return folder


def change_scores(folder: Path, change: Callable[[pd.DataFrame], pd.Series]) -> None:
    """Replace the similarities of a run."""
    path = folder / "predictions.csv"
    table = pd.read_csv(path)
    table["similarity"] = change(table)
    table["pred_present"] = (table["similarity"] >= 0).astype(int)
    table.to_csv(path, index=False)


def better_on(n: int) -> Callable[[pd.DataFrame], pd.Series]:
    """Scores that are right on n more pairs."""

    def change(table: pd.DataFrame) -> pd.Series:
        wrong = table.index[(table["similarity"] >= 0).astype(int) != table["majority_present"]][:n]
        scores = table["similarity"].copy()
        scores[wrong] = np.where(table.loc[wrong, "majority_present"] == 1, 0.5, -0.5)
        return scores

    return change
