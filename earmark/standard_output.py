"""Keep what models print out of the output of a script, in the thread that runs them only."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_redirected = threading.local()  # depth: number of `stdout_to_stderr` blocks that this thread is in


class _StdoutByThread:
    """Stands for sys.stdout: sys.stderr in redirected threads, the earlier stream in all others."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.users = stream, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr if getattr(_redirected, "depth", 0) else self.stream, name)


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Redirect what this thread writes to sys.stdout to sys.stderr.

    Unlike `contextlib.redirect_stdout`, it leaves the output of other threads alone. A block may run in several threads
    at once.
    """
    with _lock:
        if not isinstance(sys.stdout, _StdoutByThread):
            sys.stdout = _StdoutByThread(sys.stdout)
        standing = sys.stdout
        assert isinstance(standing, _StdoutByThread)
        standing.users += 1
    _redirected.depth = getattr(_redirected, "depth", 0) + 1
    try:
        yield
    finally:
        _redirected.depth -= 1
        with _lock:
            standing.users -= 1
            if not standing.users and sys.stdout is standing:
                sys.stdout = standing.stream
