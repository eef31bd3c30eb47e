"""Saved runs: separated by system, without files of earlier runs."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from earmark.errors import EarmarkError
from earmark.files.atomic import locked
from earmark.files.runs import runs_folder, system_folder, write_run
from tests.conftest import contents, visible

FILES = {"summary.json": "{}\n", "scores/clean.csv": "a"}
OWNED = ("summary.json", "scores/*.csv", "det.svg")


def keep(folder, files=FILES, state="v1", **further):
    return write_run(folder, files, name="logmel", state=state, suite="speaker/case", owned=OWNED, **further)


@pytest.mark.parametrize(
    ("folder", "runs"),
    [
        ("benchmark_outputs", "benchmark_outputs/runs"),
        ("/data/benchmark_outputs/probe", "/data/benchmark_outputs/runs"),
        ("mine", "mine/runs"),
    ],
)
def test_runs_folder_location(folder, runs):
    assert runs_folder(Path(folder)) == Path(runs)


def test_system_folder_separates_states(tmp_path):
    given = [system_folder(tmp_path, "resnet", state).name for state in ("a", "b", "a", "c", "b")]
    assert given == ["resnet", "resnet-2", "resnet", "resnet-3", "resnet-2"]
    assert json.loads((tmp_path / "resnet-2/system.json").read_text()) == {"name": "resnet", "state": "b"}


@pytest.mark.parametrize("system", [None, "", "[]", '{"name": "resnet"}', "\udcff"])
def test_system_folder_skips_unknown_state(tmp_path, system):
    (tmp_path / "resnet").mkdir()
    (tmp_path / "resnet/mine.txt").write_text("kept")
    if system is not None:
        (tmp_path / "resnet/system.json").write_bytes(system.encode("utf-8", "surrogateescape"))
    assert system_folder(tmp_path, "resnet", "a").name == "resnet-2"


def test_system_folder_concurrent_calls(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        result = list(pool.map(lambda n: system_folder(tmp_path / "runs", "resnet", str(n % 4)), range(16)))
    assert len(set(result)) == 4
    assert [result[n] for n in range(4)] == [result[n] for n in range(12, 16)]


def test_write_run_writes_both_directories(tmp_path):
    latest = tmp_path / "benchmark_outputs/speaker/case"
    first = keep(latest)
    assert first == tmp_path / "benchmark_outputs/runs/logmel/speaker/case"
    assert contents(first) == contents(latest)
    second = keep(latest, {"summary.json": "2"}, state="v2")
    assert second == tmp_path / "benchmark_outputs/runs/logmel-2/speaker/case"
    assert contents(second) == contents(latest) == {"summary.json": b"2"}
    assert contents(first) == {"summary.json": b"{}\n", "scores/clean.csv": b"a"}


def test_write_run_removes_stale_files(tmp_path):
    saved = keep(tmp_path / "out", {**FILES, "det.svg": "<svg/>"})
    for folder in (saved, tmp_path / "out"):
        (folder / "notes.txt").write_text("mine")
    keep(tmp_path / "out", {"summary.json": "2"})
    assert visible(saved) == ["notes.txt", "summary.json"]
    assert set(visible(tmp_path / "out")) - {f"runs/logmel/speaker/case/{n}" for n in visible(saved)} == {
        "notes.txt", "summary.json", "runs/logmel/system.json",
    }  # fmt: skip


def test_write_run_keeps_edited_files(tmp_path):
    files = {**FILES, "model_card.md": "to be filled in"}
    saved = keep(tmp_path / "out", files, once=["model_card.md"])
    (tmp_path / "out/model_card.md").write_text("filled in")
    keep(tmp_path / "out", files, once=["model_card.md"])
    assert (tmp_path / "out/model_card.md").read_text() == "filled in"
    assert (saved / "model_card.md").read_text() == "to be filled in"


def test_write_run_fails_while_locked(tmp_path):
    saved = keep(tmp_path / "out")
    with locked([saved]), pytest.raises(EarmarkError, match="Another run is writing to"):
        keep(tmp_path / "out", {"summary.json": "2"})
    assert (tmp_path / "out/summary.json").read_text() == "{}\n"
