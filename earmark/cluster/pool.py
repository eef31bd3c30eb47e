"""A pool of workers on a Ray cluster: shards of clips go to whichever worker is free, and again if it is lost."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from earmark.audio.clips import Clip, shown_clip
from earmark.cluster.session import Share, ray_module
from earmark.cluster.worker import Shard, ShardReport, Worker, WorkerReport, WorkerSettings
from earmark.errors import EarmarkError, MissingError
from earmark.models.encoders.base import EmbeddingError

MAX_TRIES = 3  # of a clip whose workers end
MAX_LOSSES = 30  # in a row, without a finished shard in between
WAIT_SECONDS = 5.0
KILLED = f"the worker was killed {MAX_TRIES} times on this clip, possibly out of memory"


@dataclass(frozen=True)
class _Item:
    """A shard to embed, and how often its worker was lost."""

    shard: Shard
    losses: int = 0

    def after_loss(self) -> list["_Item"]:
        """What to try after the worker was lost: the same shard, then its halves, to find the clip."""
        clips, losses = self.shard.clips, self.losses + 1
        if losses < 2 or len(clips) == 1:
            return [replace(self, losses=losses)]
        batch = self.shard.batch_size  # whole batches, so that the others stay as they are
        half = -(-len(clips) // 2)
        half = -(-half // batch) * batch if len(clips) > batch else half
        parts = (clips[:half], clips[half:])
        return [_Item(replace(self.shard, clips=part), 1) for part in parts if part]


class WorkerPool:
    """Workers with a model each.

    A worker that is lost, with its node or alone, is replaced where there is room, and its shard is embedded again;
    clips in the cache are skipped. A shard that loses its worker twice is halved, until the clip is found.

    Parameters
    ----------
    settings : WorkerSettings
    share : Share
        Resources and number of workers.
    identity : str
        Identity of the encoder in this process, which all workers must have.
    """

    def __init__(self, settings: WorkerSettings, share: Share, identity: str) -> None:
        self._ray = ray_module()
        self._settings, self._share, self._identity = settings, share, identity
        self._starting: dict[Any, Any] = {}  # {result of load: worker}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, _Item]] = {}  # {result of embed: (worker, item)}
        self._losses = 0
        self._any_embedded = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in [*self._starting.values(), *self._idle, *(worker for worker, _ in self._busy.values())]:
            self._ray.kill(worker)
        self._starting, self._idle, self._busy = {}, [], {}

    def embed(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, dict[Clip, str]]]:
        """Embed shards into the cache.

        Yields
        ------
        shard : Shard
            A finished shard, or a part of one.
        errors : dict
            {clip: why it has no embedding}.

        Raises
        ------
        MissingError
            If a worker cannot load the model, or loads another one.
        EmbeddingError
            If the encoder fails on each of the first clips.
        EarmarkError
            If the cache cannot be written, all nodes are lost, or workers end again and again.
        """
        queue = deque(_Item(shard) for shard in shards)
        while len(self._starting) + len(self._idle) < min(self._share.workers, len(queue)):
            self._start()
        while queue or self._busy:
            while queue and self._idle:
                worker, item = self._idle.pop(), queue.popleft()
                self._busy[worker.embed.remote(item.shard)] = (worker, item)
            ready, _ = self._ray.wait([*self._busy, *self._starting], timeout=WAIT_SECONDS)
            if not ready and not self._busy:
                self._require_room()
            for result in ready:
                if result in self._starting:
                    self._started(result)
                else:
                    yield from self._finished(result, queue)

    def _start(self) -> None:
        """Start a worker; it is used once its model is loaded, so that a worker without room holds up nothing."""
        kind = self._ray.remote(Worker).options(max_restarts=0, max_task_retries=0, **self._share.resources)
        worker = kind.remote(self._settings)
        self._starting[worker.load.remote()] = worker

    def _started(self, result: Any) -> None:
        worker = self._starting.pop(result)
        report = self._get(result)
        if report is None:
            self._replace_lost(worker)
            return
        assert isinstance(report, WorkerReport)
        if report.error:
            raise MissingError(f"Node {report.host} of the Ray cluster: {report.error}")
        if report.identity != self._identity:
            raise MissingError(
                f"Node {report.host} of the Ray cluster loads another model: {report.identity} instead of "
                f"{self._identity}. All nodes need the same weights and versions of libraries."
            )
        self._idle.append(worker)

    def _finished(self, result: Any, queue: "deque[_Item]") -> Iterator[tuple[Shard, dict[Clip, str]]]:
        worker, item = self._busy.pop(result)
        report = self._get(result)
        if report is None:
            self._replace_lost(worker)
            (clip, *others) = item.shard.clips
            if not others and item.losses + 1 >= MAX_TRIES:
                yield item.shard, {clip: f"{shown_clip(clip)}: {KILLED}"}
            else:
                queue.extendleft(reversed(item.after_loss()))
            return
        assert isinstance(report, ShardReport)
        self._losses = 0
        self._idle.append(worker)
        self._any_embedded |= report.embedded > 0
        if report.stopped:
            raise EarmarkError(report.stopped)
        if report.useless and not self._any_embedded:
            raise EmbeddingError(report.useless)
        if report.useless:  # other clips were embedded, so this is about these clips
            queue.appendleft(replace(item, shard=replace(item.shard, stop_early=False)))
            return
        yield item.shard, report.errors or {}

    def _get(self, result: Any) -> Any:
        """The result of a worker; None if the worker was lost."""
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(result)
        except exceptions.RayTaskError as error:
            raise EarmarkError(f"A worker of the Ray cluster failed: {error.cause}") from error
        except exceptions.RuntimeEnvSetupError as error:
            raise MissingError(f"A worker of the Ray cluster cannot be started: {error}") from error
        except exceptions.RayError:
            return None

    def _replace_lost(self, worker: Any) -> None:
        self._ray.kill(worker)  # it may only be out of reach
        self._losses += 1
        if self._losses >= MAX_LOSSES:
            raise EarmarkError(
                f"{self._losses} workers of the Ray cluster ended one after the other, possibly out of memory. "
                "Finished embeddings are kept. Use fewer --ray-actors, a smaller --batch-size or more --ray-cpus."
            )
        self._start()

    def _require_room(self) -> None:
        """Raise EarmarkError if no node that is left has room for a worker."""
        needed = {"CPU": self._share.cpus, "GPU": self._share.gpus}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= n for name, n in needed.items()) for node in nodes):
            raise EarmarkError(
                "No node of the Ray cluster is left that has room for a worker. Finished embeddings are kept; run the "
                "same command again to resume."
            )
