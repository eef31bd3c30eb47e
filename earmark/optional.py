"""Imports of optional dependencies, with install instructions if one is missing."""

import importlib
from typing import Any

from earmark.errors import SCRIPT_PLACEHOLDER, MissingError, shown_cause
from earmark.standard_output import stdout_to_stderr


def require_library(name: str, options: str, needed_by: str = "This") -> Any:
    """Import a module of an extra; its output during the import goes to stderr.

    Parameters
    ----------
    name : str
    options : str
        Options of `uv run` that install it, such as `--extra torch`.
    needed_by : str
        Subject of the message.

    Raises
    ------
    MissingError
        If the module is not installed or its import fails.
    """
    command = f"`uv run {options} {SCRIPT_PLACEHOLDER} …`"
    try:
        with stdout_to_stderr():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == name.split(".")[0]:
            raise MissingError(f"{needed_by} needs {name}, which is not installed; use {command}") from error
        raise MissingError(
            f"{name} is installed but cannot be imported ({shown_cause(error)}); try {command}"
        ) from error
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        raise MissingError(
            f"{name} is installed but cannot be imported ({shown_cause(error)}); try {command}"
        ) from error
