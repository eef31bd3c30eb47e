"""Store the coefficients that irrCAC (Gwet's Python package) computes on random ratings with missing values.

irrCAC is not a dependency: its values are stored with the ratings, and test_agreement.py compares against them.

Writes  tests/metrics/irrcac_values.json

  uv run --no-project --with irrCAC python tests/metrics/make_irrcac_values.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

TARGET = Path(__file__).with_name("irrcac_values.json")

# (items, raters, categories, proportion missing, proportion of random ratings)
SHAPES = [
    (12, 4, 3, 0.0, 0.4),
    (20, 3, 2, 0.15, 0.3),
    (30, 5, 4, 0.3, 0.5),
    (40, 7, 5, 0.55, 0.4),
    (60, 6, 3, 0.4, 0.8),
    (100, 10, 6, 0.7, 0.2),
]
WEIGHTS = {"unweighted": "identity", "linear": "linear", "quadratic": "quadratic"}
COEFFICIENTS = ("gwet", "fleiss", "conger", "bp")


def random_ratings(items, raters, categories, missing, noise, rng):
    """Noisy copies of a skewed reference, (items, raters) codes from 0 with NaN; every category is used."""
    while True:
        truth = rng.binomial(categories - 1, 0.35, items)[:, None]
        guess = rng.integers(0, categories, (items, raters))
        ratings = np.where(rng.random((items, raters)) < noise, guess, truth).astype(float)
        ratings[rng.random((items, raters)) < missing] = np.nan
        if len(np.unique(ratings[~np.isnan(ratings)])) == categories:
            return ratings


def irrcac_values(ratings, categories):
    """Coefficients of one matrix, {coefficient: {weighting: value}}; irrCAC expects raters in columns."""
    import pandas as pd
    from irrCAC.raw import CAC

    values = {name: {} for name in COEFFICIENTS}
    for weighting, irrcac_weights in WEIGHTS.items():
        cac = CAC(pd.DataFrame(ratings), weights=irrcac_weights, categories=list(range(categories)), digits=12)
        for name in COEFFICIENTS:
            values[name][weighting] = float(getattr(cac, name)()["est"]["coefficient_value"])
    return values


def main():
    """Draw the matrices and store the values of irrCAC."""
    rng = np.random.default_rng(20240611)
    cases = []
    for shape in SHAPES:
        ratings = random_ratings(*shape, rng)
        cases.append(
            {
                "categories": shape[2],
                "ratings": [[None if np.isnan(x) else int(x) for x in rater] for rater in ratings.T],
                "values": irrcac_values(ratings, shape[2]),
            }
        )
    head = json.dumps({"package": f"irrCAC {version('irrCAC')}", "digits": 12})[:-1]
    body = ",\n".join(json.dumps(case) for case in cases)
    TARGET.write_text(f'{head}, "cases": [\n{body}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
