"""Read the files that scripts write for model hubs, and check what holds for every such file."""

import json
from pathlib import Path
from typing import Any

import pytest

from earmark import __version__


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
