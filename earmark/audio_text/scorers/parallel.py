"""Run requests in parallel and stop early if the server fails."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from typing import Protocol, TypeVar

from earmark.models.http import Client, StoppedError

Label = TypeVar("Label")
Task = TypeVar("Task")


class Fallible(Protocol):
    """A result with an `error`, which is empty on success."""

    @property
    def error(self) -> str: ...


Result = TypeVar("Result", bound=Fallible)


def in_parallel(
    tasks: Iterable[tuple[Label, Task]],
    work: Callable[[Task], Result],
    client: Client,
    concurrency: int,
    max_consecutive_failures: int,
) -> Iterator[tuple[Label, Result]]:
    """Run labelled tasks in threads.

    At most 2 × `concurrency` tasks are submitted at a time. If the iteration ends early, pending tasks are cancelled
    and `client` stops retrying the requests in flight.

    Parameters
    ----------
    tasks : iterable of (label, task)
    work : callable
        Maps a task to its result.
    client : Client
        Client that `work` sends its requests with.
    concurrency : int
        Number of threads.
    max_consecutive_failures : int
        Number of consecutive failed results after which to stop.

    Yields
    ------
    tuple of label and result
        In the order in which the tasks finish.

    Raises
    ------
    StoppedError
        If `max_consecutive_failures` results in a row have an error.
    Exception
        Any exception that `work` raises.
    """
    waiting = iter(tasks)
    finished: SimpleQueue[Future[Result]] = SimpleQueue()
    labels: dict[Future[Result], Label] = {}
    failures = 0
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            while True:
                for label, task in islice(waiting, 2 * concurrency - len(labels)):
                    future = pool.submit(work, task)
                    labels[future] = label
                    future.add_done_callback(finished.put)
                if not labels:
                    return
                future = finished.get()
                result = future.result()
                failures = failures + 1 if result.error else 0
                if result.error:
                    client.traffic.failed()
                yield labels.pop(future), result
                if failures >= max_consecutive_failures:
                    raise StoppedError(f"{failures} consecutive requests failed. Last error: {result.error}")
        except BaseException:
            client.close()
            for future in labels:
                future.cancel()
            raise
