"""What stored outcomes of tests were computed from."""

from dataclasses import asdict
from typing import Any

from earmark.probing.options import ProbeSettings
from earmark.probing.outcome import TaskOrigin
from earmark.probing.tasks import Task


def a_task_origin(name: str = "one", **changes: Any) -> TaskOrigin:
    """Origin of a user's clip task with accuracy. changes: other values of its fields."""
    task = asdict(Task(name, name, "yours", "", "clip", "accuracy"))
    del task["home"]
    values: dict[str, Any] = {
        "release": "1.0", "versions": [1, 1], "settings": asdict(ProbeSettings()), "allow_missing": False,
        "encoder_identity": "mine", "encoder_name": "mine", "encoder": {}, "warnings": [], "task": task,
        "own_task": True,
    }  # fmt: skip
    return TaskOrigin(**values | changes)
