"""Worker processes: what each does first, so that none outlives the process that started it."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess

FAILED = 1


def exit_with_parent() -> None:
    """For the initializer of a pool: leave Ctrl-C to the process that started this one, and end when it ends.

    However that process ends, a worker that is left would go on for hours and hold locks.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=[parent], daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(FAILED)
