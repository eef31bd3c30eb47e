"""Worker processes that end with their parent process."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess

FAILED = 1


def exit_with_parent() -> None:
    """Initialise a pool worker: ignore Ctrl-C, which the parent handles, and exit when the parent ends.

    Otherwise a worker whose parent was killed would keep running and hold locks.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=[parent], daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(FAILED)
