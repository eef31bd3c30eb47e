"""Libraries that are not among the base dependencies: imported when needed, or named with what supplies them."""

import contextlib
import importlib
import sys
from typing import Any

from earmark.errors import SCRIPT_PLACEHOLDER, MissingError, shown_cause


def require_library(name: str, options: str, needed_by: str = "This") -> Any:
    """A module of an extra; what it prints while it is imported goes to stderr.

    options: of `uv run`, that supply it, such as `--extra torch`. needed_by: begins the message. Raises MissingError
    where it is not installed, or cannot be imported.
    """
    supply = f"`uv run {options} {SCRIPT_PLACEHOLDER} …`"
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == name.split(".")[0]:
            raise MissingError(f"{needed_by} needs {name}, which is not installed: {supply}") from error
        raise MissingError(f"{name} is installed, but cannot be imported ({shown_cause(error)}): {supply}") from error
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        raise MissingError(
            f"{name} is installed, but cannot be imported ({shown_cause(error)}); try {supply}"
        ) from error
