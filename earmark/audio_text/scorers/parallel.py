"""Many requests at a time, answers as they come in, and an early end when a server is gone."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from typing import Protocol, TypeVar

from earmark.models.http import Client, StoppedError

Label = TypeVar("Label")
Task = TypeVar("Task")


class Fallible(Protocol):
    """What a task gives: something with an `error`, empty when it went well."""

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
    """The results of labelled tasks, in the order in which they finish.

    Only a short queue is handed to the threads, so that a run that ends early leaves nothing behind but the
    requests in flight; those are told not to try again. Raises StoppedError when so many results in a row are
    failures, and whatever `work` raises.
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
                    raise StoppedError(f"{failures} requests in a row failed; the last one: {result.error}")
        except BaseException:
            client.close()
            for future in labels:
                future.cancel()
            raise
