"""Journal of completed results, so that an interrupted run can resume.

A journal is a JSON Lines file of {"key", "value"}. Each value is appended when it is known. After a crash all earlier
lines are complete; an incomplete last line is dropped on reading.
"""

import errno
import json
import math
import os
from hashlib import sha256
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, NoReturn

from earmark.errors import EarmarkError, MissingError, shown_path

SAME_SCORE_TOLERANCE = 1e-6  # relative and absolute, between two scores of one model for one input


def journal_key(*parts: str) -> str:
    """Hash everything that a value depends on.

    Parameters
    ----------
    *parts : str
        For example address, model and input. The boundaries between parts affect the key.

    Returns
    -------
    str
        SHA-256 as 64 hexadecimal digits.
    """
    return sha256(json.dumps(parts).encode()).hexdigest()


class Journal:
    """Values by key; each value is on disk before `add` returns.

    Thread-safe. Only one process may use a journal at a time.

    Parameters
    ----------
    path : Path
        The file; created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values: dict[str, Any] = {}
        self._lock = Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)  # unbuffered, so that values survive a crash
        self._size = self._load()

    def _load(self) -> int:
        """Read the complete lines, truncate the rest, and return the remaining size."""
        self._file.seek(0)
        size = 0
        for line in self._file:
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
                self._values[entry["key"]] = entry["value"]  # type: ignore[index]
            except (ValueError, TypeError, KeyError, RecursionError):
                break
            size += len(line)
        self._file.truncate(size)
        return size

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def get(self, key: str) -> Any:
        """The value of a key, None if there is none."""
        return self._values.get(key)

    def add(self, key: str, value: Any) -> None:
        """Append a value.

        Raises
        ------
        EarmarkError
            If the file cannot be written, for example on a full disk. The journal stays valid.
        """
        line = json.dumps({"key": key, "value": value}).encode() + b"\n"
        with self._lock:
            try:
                if self._file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._file.truncate(self._size)
                raise EarmarkError(
                    f"{shown_path(self.path)}: cannot be written ({error.strerror}). Its {len(self):,} values are "
                    "saved. Free disk space and repeat the command."
                ) from error
            self._size += len(line)
            self._values[key] = value

    def require_same_score(self, before: float, now: float, address: str) -> None:
        """Check that a repeated input gets its stored score, so that scores of two models are never mixed.

        Parameters
        ----------
        before, now : float
            The stored and the repeated score.
        address : str
            Address of the model, for the message.

        Raises
        ------
        MissingError
            If the scores differ.
        """
        if not math.isclose(before, now, rel_tol=SAME_SCORE_TOLERANCE, abs_tol=SAME_SCORE_TOLERANCE):
            self.raise_model_changed(f"{now:.9g} where the stored result is {before:.9g}", address)

    def raise_model_changed(self, answer: str, address: str) -> NoReturn:
        """Raise MissingError: the model at the address did not produce the stored results.

        Parameters
        ----------
        answer : str
            The new result in words, as in "It returns {answer}".
        address : str
            Address of the model, for the message.
        """
        raise MissingError(
            f"{shown_path(self.path)}: its {len(self):,} results are from a different model than the one at {address}, "
            f"or that model is not deterministic: it returns {answer}. Use --restart to compute all results again, or "
            "restore the earlier model and repeat the command."
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
