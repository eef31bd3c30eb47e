"""What a run has found so far, on disk: so that a run that was killed continues where it stopped.

A journal is a text file of JSON lines {"key", "value"}, appended to as soon as a value is known. Whatever moment
the process dies at, every earlier line is whole; a half-written last line is dropped on reading.
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

SAME_SCORE_TOLERANCE = 1e-6  # two answers of one model to one question are no further apart


def journal_key(*parts: str) -> str:
    """One key for what a value depends on: sha256 over the parts, none of which can run into the next."""
    return sha256(json.dumps(parts).encode()).hexdigest()


class Journal:
    """Values by key, each on disk before `add` returns. Threads may share a journal, processes may not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values: dict[str, Any] = {}
        self._lock = Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)  # nothing may linger in a buffer
        self._size = self._load()

    def _load(self) -> int:
        """Read every whole line and cut the rest off; returns the size that is left."""
        self._file.seek(0)
        whole = 0
        for line in self._file:
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
                self._values[entry["key"]] = entry["value"]  # type: ignore[index]
            except (ValueError, TypeError, KeyError, RecursionError):
                break
            whole += len(line)
        self._file.truncate(whole)
        return whole

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def get(self, key: str) -> Any:
        """The value of a key, None where there is none."""
        return self._values.get(key)

    def add(self, key: str, value: Any) -> None:
        """Write a value down. EarmarkError when the disk will not take it; the journal stays whole."""
        line = json.dumps({"key": key, "value": value}).encode() + b"\n"
        with self._lock:
            try:
                if self._file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._file.truncate(self._size)
                raise EarmarkError(
                    f"{shown_path(self.path)} cannot be written: {error.strerror}. Its {len(self):,} values are safe; "
                    "make room on the disk and give the same command again."
                ) from error
            self._size += len(line)
            self._values[key] = value

    def require_same_score(self, before: float, now: float, address: str) -> None:
        """MissingError where a question got another answer than the one kept: answers of two models are not mixed.

        address: of the model, fit for a message.
        """
        if not math.isclose(before, now, rel_tol=SAME_SCORE_TOLERANCE, abs_tol=SAME_SCORE_TOLERANCE):
            self.raise_model_changed(f"{now:.9g} where its answer to the same question is {before:.9g}", address)

    def raise_model_changed(self, answered: str, address: str) -> NoReturn:
        """Raise MissingError: what answers at the address is not what gave the answers kept here."""
        raise MissingError(
            f"{shown_path(self.path)}: holds {len(self):,} answers of another model than {address} has now, or of one "
            f"that does not repeat itself: it answers {answered}. Give --restart to ask everything again, or bring the "
            "earlier model back and give the same command."
        )

    def close(self) -> None:
        """Close the file; nothing is left to write."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
