"""A model behind an address: one JSON request a question, many at a time.

Request   {"text", "audio_filename", "audio_relpath", "audio_base64"}; without audio, "audio_stem" in its place
Reply     {"similarity": x}, {"score": x} or {"logit": x}, x finite

A run that finds answers in the journal asks the first of their questions again: another model behind the same address
answers it otherwise, and answers of two models do not belong into one result.
"""

import base64
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from earmark.audio_text.scorers import ClipTextPair, Score
from earmark.audio_text.scorers.parallel import in_parallel
from earmark.files.hashing import file_hash
from earmark.files.safe_text import one_line, shown_url
from earmark.models.http import Client, RefusedError, ReplyError, StoppedError, TransientError
from earmark.models.journal import Journal, journal_key

REPLY_KEYS = ("similarity", "score", "logit")


@dataclass(frozen=True)
class EndpointScorer:
    """Scores questions by asking a server, and remembers every answer in a journal.

    concurrency: requests at a time. send_audio: whether the clip itself goes along, or only its name.
    max_consecutive_failures: after so many questions in a row without an answer the run stops.
    """

    client: Client
    journal: Journal
    concurrency: int = 8
    send_audio: bool = True
    max_consecutive_failures: int = 20

    def __call__(self, questions: Sequence[ClipTextPair]) -> Iterator[tuple[int, Score]]:
        """Answers as they come in, those of the journal first.

        Pairs are scored clip by clip, so that each clip is read once. A pair that is asked for twice is asked
        once. Raises StoppedError or UnauthorisedError when going on makes no sense, MissingError when the journal's
        answers are another model's.
        """
        same: dict[tuple[str, str], list[int]] = {}
        for i in sorted(range(len(questions)), key=lambda i: questions[i].relative_path):
            same.setdefault((questions[i].relative_path, questions[i].text), []).append(i)
        clips = _Clips([questions[indices[0]] for indices in same.values()], self.send_audio)
        self._require_same_model([questions[indices[0]] for indices in same.values()])
        tasks = ((indices, questions[indices[0]]) for indices in same.values())
        for indices, answer in in_parallel(
            tasks,
            lambda question: self._answer(question, clips),
            self.client,
            self.concurrency,
            self.max_consecutive_failures,
        ):
            yield from ((i, answer) for i in indices)

    def _answer(self, question: ClipTextPair, clips: "_Clips") -> Score:
        try:
            part, audio_hash = clips.part(question)
            key = self._key(question, audio_hash)
            if (known := self._known(key)) is not None:
                return Score(known)
            similarity = self._ask(question, part)
        except (TransientError, RefusedError) as error:
            return Score(None, str(error))
        except (OSError, ValueError) as error:  # ValueError: a path that no file can have
            return Score(None, f"{one_line(question.clip.name)}: cannot be read ({_reason(error)})")
        finally:
            clips.release(question)
        self.journal.add(key, similarity)
        return Score(similarity)

    def _ask(self, question: ClipTextPair, part: bytes) -> float:
        text = json.dumps(question.text).encode()
        similarity: float = self.client.post(b'{"text": ' + text + b", " + part, _similarity)
        return similarity

    def _key(self, question: ClipTextPair, audio_hash: str) -> str:
        mode = "audio" if self.send_audio else "name"
        return journal_key(audio_hash, question.relative_path, question.text, self.client.url, mode)

    def _known(self, key: str) -> float | None:
        """What the journal has for a key, if that is a similarity."""
        value = self.journal.get(key)
        return value if isinstance(value, float) and math.isfinite(value) else None

    def _require_same_model(self, questions: Sequence[ClipTextPair]) -> None:
        """Ask the first question again whose answer the journal has, if there is one."""
        if not len(self.journal):
            return
        for clip, about in groupby(questions, key=lambda question: question.clip):
            try:
                audio_hash = file_hash(clip)
            except (OSError, ValueError):
                continue  # which its questions will say
            for question in about:
                before = self._known(self._key(question, audio_hash))
                if before is None:
                    continue
                address, part = shown_url(self.client.url), _Clips([question], self.send_audio).part(question)[0]
                try:
                    self.journal.require_same_score(before, self._ask(question, part), address)
                except TransientError as error:
                    raise StoppedError(f"{address}: gives no answer: {error}") from None
                except RefusedError as error:
                    self.journal.raise_model_changed(f"with an error ({error})", address)
                return


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _similarity(reply: Any) -> float:
    value = next((reply[key] for key in REPLY_KEYS if key in reply), None) if isinstance(reply, dict) else None
    if value is None:
        raise ReplyError(f"the reply has none of {', '.join(REPLY_KEYS)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReplyError("the similarity is no number")
    try:
        similarity = float(value)
    except OverflowError:
        similarity = math.inf
    if not math.isfinite(similarity):
        raise ReplyError("the similarity is not finite")
    return similarity


class _Clips:
    """Each clip's part of a request: read and encoded for its first question, forgotten after its last."""

    def __init__(self, questions: Sequence[ClipTextPair], send_audio: bool) -> None:
        self._left = Counter(question.clip for question in questions)
        self._locks = {clip: threading.Lock() for clip in self._left}
        self._parts: dict[Path, tuple[bytes, str]] = {}
        self._send_audio = send_audio

    def part(self, question: ClipTextPair) -> tuple[bytes, str]:
        """The request but for its text, and the sha256 of the audio."""
        with self._locks[question.clip]:
            if question.clip not in self._parts:
                self._parts[question.clip] = self._read(question)
            return self._parts[question.clip]

    def _read(self, question: ClipTextPair) -> tuple[bytes, str]:
        audio = question.clip.read_bytes()
        fields: dict[str, Any] = {"audio_filename": question.clip.name, "audio_relpath": question.relative_path}
        if self._send_audio:
            fields["audio_base64"] = base64.b64encode(audio).decode("ascii")
        else:
            fields["audio_stem"] = question.stem
        return json.dumps(fields)[1:].encode(), sha256(audio).hexdigest()

    def release(self, question: ClipTextPair) -> None:
        """Forget the clip when this was its last question."""
        with self._locks[question.clip]:
            self._left[question.clip] -= 1
            if not self._left[question.clip]:
                self._parts.pop(question.clip, None)
