"""Read the files that scripts write for model hubs, check what holds for every such file, and what trackers get."""

import json
from pathlib import Path
from typing import Any

import pytest

from earmark import __version__
from earmark.report.trackers import Record

LOG = ("--log", "wandb", "--log-project", "p", "--log-step", "7")


def read_hub_files(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The entries of eval_results.yaml by task_id, and the content of mteb_results.json."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    entries = yaml.safe_load((folder / "eval_results.yaml").read_text(encoding="utf-8"))
    for entry in entries:
        assert list(entry) == ["dataset", "value", "date", "notes"]
        assert isinstance(entry["value"], int | float) and isinstance(entry["date"], str)
        assert "earmark:" in entry["notes"] and entry["notes"].startswith("n = ")
    by_task = {entry["dataset"]["task_id"]: entry for entry in entries}
    assert len(by_task) == len(entries)
    text = (folder / "mteb_results.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    mteb = json.loads(text)
    assert (mteb["mteb_version"], mteb["earmark_version"], mteb["evaluation_time"]) == (None, __version__, None)
    assert list(mteb["scores"]) == ["test"]
    return by_task, mteb


def check_logged(logged: list[tuple[str, Record]], folder: Path, *, name: str, suite: str) -> None:
    """The last record, of a run with `LOG`, holds the numbers and reports of a folder."""
    tracker, record = logged[-1]
    assert (tracker, record.project, record.step) == ("wandb", "p", 7)
    assert (record.name, record.suite) == (name, suite)
    entries, _ = read_hub_files(folder)
    hub = {"/".join(task_id.rsplit(".", 1)): entry["value"] for task_id, entry in entries.items()}
    assert {key: record.metrics.get(key) for key in hub} == hub
    assert {key.removesuffix("_n") for key in record.metrics if key.endswith("_n")} == set(hub)
    assert {path.name for path in record.files} == {
        file for file in ("report.md", "report.html", "summary.json") if (folder / file).exists()
    }
    assert record.settings["signature"] == json.loads((folder / "summary.json").read_text())["signature"]
