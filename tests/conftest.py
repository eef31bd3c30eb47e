"""Small annotation tables written to disk, and helpers to run scripts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

# Workers of pytest-xdist share the cores; more threads than cores are many times slower.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import pandas as pd
import pytest
from hypothesis import settings

from earmark import cli
from earmark.annotation.subsets import Subset, subsets
from earmark.annotation.tables import Annotations, load_annotations
from earmark.report.trackers import Record
from tests import object_storage

settings.register_profile("untimed", deadline=None)  # how long an example takes depends on the machine
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent
EMO, DIM = subsets()["emolia-emo"], subsets()["emolia-dim"]
REST_OF_KEY = {"emolia-emo": ("Joy", "affirmative"), "emolia-dim": ("TEMP", "05", "positive")}

Votes = Mapping[str | tuple[str, ...], Mapping[str, int]]


def ratings_table(subset: Subset, votes: Votes) -> pd.DataFrame:
    """annotations.csv as a data frame of strings: one row per vote, one minute apart.

    votes: {item: {rater: position on the scale}}; an item is a full key, or a file name completed by REST_OF_KEY.
    """
    rows = []
    for item, by_rater in votes.items():
        key = (item, *REST_OF_KEY[subset.name]) if isinstance(item, str) else item
        for rater, code in by_rater.items():
            n = len(rows)
            rows.append(
                {
                    "annotation_id": f"id-{n}",
                    "username": rater,
                    **dict.fromkeys(subset.carried, "Sadness"),
                    **dict(zip(subset.key, key, strict=True)),
                    "rating": subset.levels[code],
                    "reaction_time_ms": str(1000 + n),
                    "sample_time_ms": "2000",
                    "created_at": f"2026-05-09 {12 + n // 60:02}:{n % 60:02}:00",
                }
            )
    return pd.DataFrame(rows, dtype=str)


def users_table(*names: str, **columns: Sequence[str]) -> pd.DataFrame:
    """users.csv as a data frame of strings. columns: further columns, one value per name."""
    return pd.DataFrame({"username": names, **columns}, dtype=str)


def flags_table(subset: Subset, *flags: tuple[str | tuple[str, ...], str, str]) -> pd.DataFrame:
    """flags.csv as a data frame of strings, from (item, rater, reason)."""
    rows = []
    for n, (item, rater, reason) in enumerate(flags):
        key = (item, *REST_OF_KEY[subset.name]) if isinstance(item, str) else item
        key_columns = dict(zip(subset.key, key, strict=True))
        rows.append(
            {
                "flag_id": f"f-{n}",
                "username": rater,
                **key_columns,
                "reason": reason,
                "created_at": "2026-05-09 18:00:00",
            }
        )
    return pd.DataFrame(rows, dtype=str)


def write_tables(
    folder: Path, annotations: pd.DataFrame, users: pd.DataFrame | None = None, flags: pd.DataFrame | None = None
) -> Path:
    """Write the tables of a subset's directory; without users, list the raters."""
    folder.mkdir(parents=True, exist_ok=True)
    users_csv = users_table(*sorted(set(annotations["username"]))) if users is None else users
    for name, table in {"annotations": annotations, "users": users_csv, "flags": flags}.items():
        if table is not None:
            table.to_csv(folder / f"{name}.csv", index=False)
    return folder


def annotated(folder: Path, subset: Subset, votes: Votes, flags: pd.DataFrame | None = None) -> Annotations:
    """Write votes to disk and load them."""
    return load_annotations(write_tables(folder / subset.name, ratings_table(subset, votes), flags=flags), subset)


def contents(folder: Path) -> dict[str, bytes]:
    """Content of every file below a directory except locks, by relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run_script(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script as a user would, in the root of the repository."""
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONWARNINGS": "error::RuntimeWarning"},
    )


def visible(folder: Path) -> list[str]:
    """Files below a directory that are not hidden."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name[0] != ".")


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def interruptible() -> None:
    """preexec_fn for Popen: let Ctrl-C reach the process even if the tests run in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Record]]:
    """What scripts log, as (tracker, record); the trackers themselves do not run."""
    if find_spec("wandb") is None or find_spec("trackio") is None:
        pytest.skip("the extras wandb and trackio are not installed")
    received: list[tuple[str, Record]] = []

    def receive(tracker: str, record: Record) -> str:
        received.append((tracker, record))
        return "logged"

    monkeypatch.setattr("earmark.report.trackers.log_to", receive)
    return received


@pytest.fixture(autouse=True, scope="session")
def scripts_draw_no_figures_by_default():
    """Figures take seconds; tests that look at them give --figures."""
    cli.DRAW_FIGURES = False


# --- object storage -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def s3_server():
    with object_storage.server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A bucket on an S3 server of this machine."""
    with object_storage.storage(s3_server, monkeypatch) as bucket:
        yield bucket
