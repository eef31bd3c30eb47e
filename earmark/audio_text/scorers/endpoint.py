"""A model behind an address: one JSON request a question, many at a time.

Request   {"text", "audio_filename", "audio_relpath", "audio_base64"}; without audio, "audio_stem" in its place
Reply     {"similarity": x}, {"score": x} or {"logit": x}, x finite
"""

import base64
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from earmark.audio_text.scorers import Answer, Question
from earmark.audio_text.scorers.parallel import in_parallel
from earmark.models.http import Client, PassingError, RefusedError, shown
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

    def __call__(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """Answers as they come in, those of the journal first.

        Questions are asked clip by clip, so that each clip is read once. A pair that is asked for twice is asked
        once. Raises StoppedError or UnauthorisedError when going on makes no sense.
        """
        same: dict[tuple[str, str], list[int]] = {}
        for i in sorted(range(len(questions)), key=lambda i: questions[i].relative_path):
            same.setdefault((questions[i].relative_path, questions[i].text), []).append(i)
        clips = _Clips([questions[indices[0]] for indices in same.values()], self.send_audio)
        tasks = ((indices, questions[indices[0]]) for indices in same.values())
        for indices, answer in in_parallel(
            tasks,
            lambda question: self._answer(question, clips),
            self.client,
            self.concurrency,
            self.max_consecutive_failures,
        ):
            yield from ((i, answer) for i in indices)

    def _answer(self, question: Question, clips: "_Clips") -> Answer:
        try:
            part, audio_hash = clips.part(question)
            mode = "audio" if self.send_audio else "name"
            key = journal_key(audio_hash, question.relative_path, question.text, self.client.url, mode)
            if key in self.journal:
                return Answer(self.journal[key])
            similarity = _similarity(self.client.post(b'{"text": ' + json.dumps(question.text).encode() + b", " + part))
        except (PassingError, RefusedError, OSError) as error:
            return Answer(None, str(error))
        finally:
            clips.release(question)
        self.journal.add(key, similarity)
        return Answer(similarity)


def _similarity(reply: Any) -> float:
    value = next((reply[key] for key in REPLY_KEYS if key in reply), None) if isinstance(reply, dict) else None
    if value is None:
        raise RefusedError(f"the reply has none of {', '.join(REPLY_KEYS)}: {shown(reply)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError(f"the similarity is no number: {shown(reply)}")
    try:
        similarity = float(value)
    except OverflowError:
        similarity = math.inf
    if not math.isfinite(similarity):
        raise RefusedError(f"the similarity is not finite: {shown(reply)}")
    return similarity


class _Clips:
    """Each clip's part of a request: read and encoded for its first question, forgotten after its last."""

    def __init__(self, questions: Sequence[Question], send_audio: bool) -> None:
        self._left = Counter(question.clip for question in questions)
        self._locks = {clip: threading.Lock() for clip in self._left}
        self._parts: dict[Path, tuple[bytes, str]] = {}
        self._send_audio = send_audio

    def part(self, question: Question) -> tuple[bytes, str]:
        """The request but for its text, and the sha256 of the audio."""
        with self._locks[question.clip]:
            if question.clip not in self._parts:
                self._parts[question.clip] = self._read(question)
            return self._parts[question.clip]

    def _read(self, question: Question) -> tuple[bytes, str]:
        audio = question.clip.read_bytes()
        fields: dict[str, Any] = {"audio_filename": question.clip.name, "audio_relpath": question.relative_path}
        if self._send_audio:
            fields["audio_base64"] = base64.b64encode(audio).decode("ascii")
        else:
            fields["audio_stem"] = question.stem
        return json.dumps(fields)[1:].encode(), sha256(audio).hexdigest()

    def release(self, question: Question) -> None:
        """Forget the clip when this was its last question."""
        with self._locks[question.clip]:
            self._left[question.clip] -= 1
            if not self._left[question.clip]:
                self._parts.pop(question.clip, None)
