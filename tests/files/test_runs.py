"""Runs under their system's name: found again, never another's, without files of an earlier run."""

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
def test_runs_folder_lies_in_the_outputs_or_in_the_folder_that_a_user_chose(folder, runs):
    assert runs_folder(Path(folder)) == Path(runs)


def test_system_folder_gives_each_state_of_a_name_one_of_its_own(tmp_path):
    given = [system_folder(tmp_path, "resnet", state).name for state in ("a", "b", "a", "c", "b")]
    assert given == ["resnet", "resnet-2", "resnet", "resnet-3", "resnet-2"]
    assert json.loads((tmp_path / "resnet-2/system.json").read_text()) == {"name": "resnet", "state": "b"}


@pytest.mark.parametrize("system", [None, "", "[]", '{"name": "resnet"}', "\udcff"])
def test_system_folder_leaves_a_folder_alone_whose_system_is_not_known(tmp_path, system):
    (tmp_path / "resnet").mkdir()
    (tmp_path / "resnet/mine.txt").write_text("kept")
    if system is not None:
        (tmp_path / "resnet/system.json").write_bytes(system.encode("utf-8", "surrogateescape"))
    assert system_folder(tmp_path, "resnet", "a").name == "resnet-2"


def test_system_folder_of_several_at_once_are_as_many_as_there_are_states(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: system_folder(tmp_path / "runs", "resnet", str(n % 4)), range(16)))
    assert len(set(found)) == 4
    assert [found[n] for n in range(4)] == [found[n] for n in range(12, 16)]


def test_kept_run_is_the_same_in_both_places_and_the_first_system_keeps_its_own(tmp_path):
    latest = tmp_path / "benchmark_outputs/speaker/case"
    first = keep(latest)
    assert first == tmp_path / "benchmark_outputs/runs/logmel/speaker/case"
    assert contents(first) == contents(latest)
    second = keep(latest, {"summary.json": "2"}, state="v2")
    assert second == tmp_path / "benchmark_outputs/runs/logmel-2/speaker/case"
    assert contents(second) == contents(latest) == {"summary.json": b"2"}
    assert contents(first) == {"summary.json": b"{}\n", "scores/clean.csv": b"a"}


def test_kept_run_removes_files_of_an_earlier_run_and_no_other(tmp_path):
    kept = keep(tmp_path / "out", {**FILES, "det.svg": "<svg/>"})
    for folder in (kept, tmp_path / "out"):
        (folder / "notes.txt").write_text("mine")
    keep(tmp_path / "out", {"summary.json": "2"})
    assert visible(kept) == ["notes.txt", "summary.json"]
    assert set(visible(tmp_path / "out")) - {f"runs/logmel/speaker/case/{n}" for n in visible(kept)} == {
        "notes.txt", "summary.json", "runs/logmel/system.json",
    }  # fmt: skip


def test_kept_run_does_not_replace_what_somebody_filled_in(tmp_path):
    files = {**FILES, "model_card.md": "to be filled in"}
    kept = keep(tmp_path / "out", files, once=["model_card.md"])
    (tmp_path / "out/model_card.md").write_text("filled in")
    keep(tmp_path / "out", files, once=["model_card.md"])
    assert (tmp_path / "out/model_card.md").read_text() == "filled in"
    assert (kept / "model_card.md").read_text() == "to be filled in"


def test_kept_run_changes_nothing_while_another_writes_there(tmp_path):
    kept = keep(tmp_path / "out")
    with locked([kept]), pytest.raises(EarmarkError, match="Another run is writing to"):
        keep(tmp_path / "out", {"summary.json": "2"})
    assert (tmp_path / "out/summary.json").read_text() == "{}\n"
