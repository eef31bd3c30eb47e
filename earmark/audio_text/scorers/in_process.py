"""A model in this process: each clip and each sentence embedded once, clips decoded in threads ahead of the model."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from earmark.audio.decode import AudioError, heard
from earmark.audio_text.scorers import Answer, Question
from earmark.audio_text.scorers.cosine import answers, unique_clips, unique_texts
from earmark.errors import shown_cause
from earmark.models.audio_text.loading import AudioTextModel, windows
from earmark.models.audio_text.networks import Prepared
from earmark.models.batching import Careful
from earmark.models.embedding import Embedding, checked


@dataclass(frozen=True)
class InProcessScorer:
    """Scores questions by the cosine of a model's embeddings.

    A clip longer than the model's window is the mean of its windows' embeddings, each scaled to length 1.
    batch_size: pieces that the model hears at once. decoders: threads that decode and prepare ahead of it. At most
    (decoders + 2) · batch_size prepared pieces and `decoders` waveforms exist at a time. Batches are formed in the
    order of the clips, whichever is decoded first, so that a run can be repeated to the last bit.
    """

    model: AudioTextModel
    batch_size: int = 16
    decoders: int = 4

    def __call__(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """Answers in the order of the clips, each clip's as soon as its batch is done."""
        asked = unique_clips(questions)
        with _Ahead(self.model, [_Clip(path) for path in asked], self.decoders, self.batch_size) as ahead:
            texts = self._texts(unique_texts(questions))
            dimension = next((len(e.vector) for e in texts.values() if e.vector is not None), None)
            for clip in self._heard(ahead):
                yield from answers(questions, asked[clip.path], clip.embedding(dimension), texts)

    def _texts(self, texts: Sequence[str]) -> dict[str, Embedding]:
        ordered = sorted(texts, key=len)  # sentences of one length can share a batch
        embed = Careful(self.model.embed_texts, self.batch_size)
        batches = (ordered[i : i + self.batch_size] for i in range(0, len(ordered), self.batch_size))
        return dict(zip(ordered, (found for batch in batches for found in embed(batch)), strict=True))

    def _heard(self, ahead: "_Ahead") -> Iterator["_Clip"]:
        """The clips in order, once the model has heard all of them that can be heard."""
        embed = Careful(self.model.embed_audio, self.batch_size)
        waiting = deque(ahead.clips)
        for batch in ahead.batches():
            for (clip, _), found in zip(batch, embed([piece for _, piece in batch]), strict=True):
                clip.heard.append(found)
            while waiting and waiting[0].complete:
                yield waiting.popleft()
        yield from waiting  # those after the last batch, none of which can be heard


@dataclass(eq=False)
class _Clip:
    """A clip on its way. pieces: how many windows it has, once known. prepared: how many so far. ready: those of
    them that wait for the model. heard: the embeddings of the others.
    """

    path: Path
    pieces: int | None = None
    error: str = ""
    prepared: int = 0
    ready: deque[Prepared] = field(default_factory=deque)
    heard: list[Embedding] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return len(self.heard) == self.pieces

    def embedding(self, dimension: int | None) -> Embedding:
        """The mean of its windows' embeddings, or what is wrong with it, in words that name the clip."""
        error = self.error or next((found.error for found in self.heard if found.error), "")
        if not error:
            mean = np.mean([found.vector for found in self.heard if found.vector is not None], axis=0)
            self.heard.clear()
            found = checked(mean, dimension)
            if not found.error:
                return found
            error = found.error
        return Embedding(None, error if error.startswith(self.path.name) else f"{self.path.name}: {error}")


class _Stopped(Exception):  # noqa: N818 - no error, only the end
    """The run is over; what is being prepared is not wanted any more."""


class _Ahead:
    """Clips decoded and prepared in threads while the model is busy; a context that ends the threads.

    Threads take clips in order. A clip that is not the next one for the model leaves a batch of slots free, so that
    the next one can always go on and nothing waits for itself.
    """

    def __init__(self, model: AudioTextModel, clips: Sequence[_Clip], decoders: int, batch_size: int) -> None:
        self.clips = clips
        self._model, self._batch_size = model, batch_size
        self._most = (decoders + 2) * batch_size
        self._alive = 0  # prepared pieces, from before their preparation until the model has heard them
        self._untaken = iter(clips)
        self._next: _Clip | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, name="decoder", daemon=True) for _ in range(decoders)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def batches(self) -> Iterator[list[tuple[_Clip, Prepared]]]:
        """All pieces in order, batch_size at a time; a batch counts as heard when the next one is asked for."""
        batch: list[tuple[_Clip, Prepared]] = []
        for clip, piece in self._pieces():
            batch.append((clip, piece))
            del piece
            if len(batch) == self._batch_size:
                yield batch
                self._release(len(batch))
                batch.clear()
        if batch:
            yield batch
            self._release(len(batch))

    def _pieces(self) -> Iterator[tuple[_Clip, Prepared]]:
        for clip in self.clips:
            taken = 0
            while True:
                with self._changed:
                    self._next = clip
                    self._changed.notify_all()
                    while not clip.ready and clip.pieces != taken:
                        self._changed.wait()
                    if not clip.ready:
                        break
                    piece = clip.ready.popleft()
                taken += 1
                yield clip, piece

    def _work(self) -> None:
        while (clip := self._take()) is not None:
            try:
                self._prepare(clip)
            except _Stopped:
                return
            except AudioError as error:
                self._fail(clip, str(error).replace(str(clip.path), clip.path.name))
            except OSError as error:
                self._fail(clip, f"cannot be read ({error.strerror or type(error).__name__})")
            except Exception as error:  # whatever an extractor raises, the other clips go on
                self._fail(clip, f"cannot be prepared for the model ({shown_cause(error)})")

    def _take(self) -> _Clip | None:
        with self._changed:
            return None if self._stopped else next(self._untaken, None)

    def _prepare(self, clip: _Clip) -> None:
        pieces = windows(heard(clip.path, self._model.sample_rate), self._model.sample_rate, self._model.window_seconds)
        with self._changed:
            clip.pieces = len(pieces)
        for piece in pieces:
            self._reserve(clip)
            try:
                prepared = self._model.prepare(piece)
            except BaseException:
                self._release(1)
                raise
            with self._changed:
                clip.ready.append(prepared)
                clip.prepared += 1
                self._changed.notify_all()
            del prepared

    def _fail(self, clip: _Clip, error: str) -> None:
        """Note that a clip ends here, with those of its pieces that were prepared."""
        with self._changed:
            clip.error = error
            clip.pieces = clip.prepared
            self._changed.notify_all()

    def _reserve(self, clip: _Clip) -> None:
        def free() -> bool:
            most = self._most if clip is self._next else self._most - self._batch_size
            return self._stopped or self._alive < most

        with self._changed:
            self._changed.wait_for(free)
            if self._stopped:
                raise _Stopped
            self._alive += 1

    def _release(self, n: int) -> None:
        with self._changed:
            self._alive -= n
            self._changed.notify_all()
