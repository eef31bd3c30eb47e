"""Small tables of ratings on a nominal, ordinal or interval scale, built without files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.annotation.scales.analysis import ScaleAnalysis, analyse_scale
from earmark.annotation.schema import ScaleSummary
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import REPEATED, WITHDRAWN, Annotations
from earmark.report.schema import SummaryBase
from earmark.report.signature import Signature

COLOURS = Subset("colours", "nominal", ("file_name",), levels=("red", "green", "blue"))
AROUSAL = Subset("arousal", "ordinal", ("file_name",), levels=("1", "2", "3", "4", "5"))
NATURALNESS = Subset("naturalness", "interval", ("file_name",))

ByItem = Mapping[str | tuple[str, ...], Mapping[str, str | float]]


def annotations(subset: Subset, votes: ByItem, times: Sequence[float] | None = None, **columns: Mapping) -> Annotations:
    """Checked ratings. votes: {item: {rater: word or number}}; columns: carried columns as {item: value}."""
    rows = []
    for item, by_rater in votes.items():
        key = (item,) if isinstance(item, str) else item
        for rater, rating in by_rater.items():
            code = rating if subset.scale == "interval" else subset.levels.index(str(rating))
            carried = {name: values[item] for name, values in columns.items()}
            rows.append({**dict(zip(subset.key, key, strict=True)), "username": rater, **carried, "rating": code})
    names = [*subset.key, "username", *columns, "rating"]
    table = pd.DataFrame(rows, columns=names).assign(
        reaction_time_ms=np.nan if times is None else list(times), sample_time_ms=np.nan, created_at=pd.NaT
    )
    kind = float if subset.scale == "interval" else np.int64
    table = table.astype({"rating": kind}).sort_values([*subset.key, "username"], ignore_index=True)
    no_rows = pd.DataFrame()
    return Annotations(subset, table, no_rows, no_rows, {}, len(table), {REPEATED: 0, WITHDRAWN: 0})


def analysed(subset: Subset, votes: ByItem, replicates: int = 50, required: int = 2, **options) -> ScaleAnalysis:
    """Analysis of a small table."""
    carried = {name: options.pop(name) for name in subset.carried if name in options}
    data = annotations(subset, votes, options.pop("times", None), **carried)
    rng = np.random.default_rng(0)
    return analyse_scale(data, required=required, replicates=replicates, rng=rng, **options)


def summary_of(analysis: ScaleAnalysis) -> ScaleSummary:
    """summary.json of an analysis, with a made-up provenance."""
    common = SummaryBase(
        schema_version=2,
        script="analysis",
        argv=[],
        created_utc="2026-01-01T00:00:00Z",
        git={},
        python="3.12",
        packages={},
        device="cpu",
        seed=0,
        signature=Signature.from_parts(suite=analysis.result.subset, metric="percent"),
        inputs=[],
        parameters={"required_raters": 2, "bootstrap": 50},
        exclusions=[],
    )
    return ScaleSummary.from_common(common, analysis.result)


def random_votes(subset: Subset, items: int, raters: int, missing: float = 0.0, seed: int = 0) -> dict:
    """Noisy ratings of a latent value, at least one per item."""
    rng = np.random.default_rng(seed)
    votes = {}
    for number in range(items):
        latent = rng.normal()
        heard = latent + 0.7 * rng.normal(size=raters)
        present = rng.random(raters) >= missing
        present[rng.integers(raters)] = True
        n = max(len(subset.levels), 1)
        codes = np.clip(np.round(heard + (n - 1) / 2), 0, n - 1).astype(int)
        votes[f"clip_{number:03}.wav"] = {
            f"user_{r}": float(round(50 + 10 * heard[r], 2)) if subset.scale == "interval" else subset.levels[codes[r]]
            for r in np.flatnonzero(present)
        }
    return votes


def missing_audio(folder: Path) -> Path:
    """A directory without clips."""
    return folder / "dataset"
