"""A stand-in for Ray that runs workers in this process, one call at a time, and loses them when told to."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    pass


class RayTaskError(RayError):
    cause: Exception | None = None


class RuntimeEnvSetupError(RayError):
    pass


class LostError(Exception):
    """Raised in a worker whose process is to end."""


class FakeRay:
    """The part of the module `ray` that `WorkerPool` uses.

    Parameters
    ----------
    worker : callable
        Makes a worker from its settings.
    nodes : list of dict
        Resources of the nodes.
    """

    def __init__(self, worker: Callable[[Any], Any], nodes: list[dict[str, float]]) -> None:
        self.exceptions = SimpleNamespace(
            RayError=RayError, RayTaskError=RayTaskError, RuntimeEnvSetupError=RuntimeEnvSetupError
        )
        self.made: list[Any] = []
        self.killed: list[Any] = []
        self.room: int | None = None  # workers that can start; None for any number
        self._worker, self._nodes = worker, nodes

    def remote(self, kind: Any) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._make))

    def _make(self, settings: Any) -> Any:
        worker = self._worker(settings)
        number = len(self.made)

        def method(name: str) -> Any:
            return SimpleNamespace(remote=lambda *words: (number, name, words, object()))

        handle = SimpleNamespace(load=method("load"), embed=method("embed"))
        self.made.append(worker)
        return handle

    def wait(self, results: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        ready = [each for each in results if self.room is None or each[0] < self.room][:1]
        return ready, [each for each in results if each not in ready]

    def get(self, result: Any) -> Any:
        number, name, words, _ = result
        try:
            return getattr(self.made[number], name)(*words)
        except LostError as error:
            raise RayError(str(error)) from error

    def kill(self, worker: Any) -> None:
        self.killed.append(worker)

    def is_initialized(self) -> bool:
        return True

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "1")

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": node} for node in self._nodes]
