"""Store the intraclass correlations that pingouin computes on random ratings.

pingouin is not a dependency: its values are stored with the ratings, and test_interval_agreement.py compares with them.

Writes  tests/metrics/pingouin_values.json

  uv run --no-project --with pingouin python tests/metrics/make_pingouin_values.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

TARGET = Path(__file__).with_name("pingouin_values.json")
SHAPES = [(8, 2, 0.5), (12, 4, 1.0), (30, 3, 0.2), (40, 12, 2.0), (25, 5, 30.0)]  # items, raters, noise
NAMES = ("icc_1", "icc_a1", "icc_c1", "icc_1k", "icc_ak", "icc_ck")  # the order of pingouin's rows


def main():
    """Draw ratings with biased raters and store the values."""
    import pingouin

    rng = np.random.default_rng(20250301)
    cases = []
    for items, raters, noise in SHAPES:
        own_bias = rng.normal(scale=0.5, size=raters)
        ratings = (5 + rng.normal(size=(items, 1)) + own_bias + noise * rng.normal(size=(items, raters))).round(3)
        long = pd.DataFrame(
            {
                "item": np.repeat(np.arange(items), raters),
                "rater": np.tile(np.arange(raters), items),
                "rating": ratings.ravel(),
            }
        )
        table = pingouin.intraclass_corr(long, targets="item", raters="rater", ratings="rating")
        values = dict(zip(NAMES, table["ICC"].tolist(), strict=True))
        cases.append({"ratings": ratings.tolist(), "values": values})
    content = {"pingouin": version("pingouin"), "cases": cases}
    TARGET.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
