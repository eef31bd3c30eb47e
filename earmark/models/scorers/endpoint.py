"""A model behind an address: one JSON request a question, many at a time.

Request   {"text", "audio_filename", "audio_relpath", "audio_base64"}; without audio, "audio_stem" in its place
Reply     {"similarity": x}, {"score": x} or {"logit": x}, x finite

What the server says is untrusted: replies are bounded in size and time, redirects are not followed, and whatever
is no finite number is an error of that question alone.
"""

import base64
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import Path
from typing import Any

import requests
import tenacity

from earmark.models.scorers import Answer, Question

LATER = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that may be different next time
REPLY_KEYS = ("similarity", "score", "logit")
MAX_REPLY = 1 << 20
SHOWN_OF_MESSAGE = 500


class PassingError(Exception):
    """A failure that may be gone on the next try. retry_after: seconds that the server asks to wait."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(Exception):
    """A failure that the same request will meet again."""


@dataclass(frozen=True)
class EndpointScorer:
    """Scores questions by asking a server.

    timeout: seconds for one reply, from the request to its last byte. retries: further tries of a request that
    may succeed later. max_wait: seconds that a question may spend on all its tries. token: bearer token.
    """

    url: str
    concurrency: int = 8
    send_audio: bool = True
    timeout: float = 60.0
    retries: int = 5
    max_wait: float = 300.0
    token: str | None = field(default=None, repr=False)

    def __call__(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """Answers as they come in. Questions are asked in an order in which each clip is read once."""
        session = _Sessions(self.token)
        clips = _Clips(questions, self.send_audio)
        order = iter(sorted(range(len(questions)), key=lambda i: questions[i].relative_path))
        with ThreadPoolExecutor(self.concurrency) as pool:
            running: dict[Future[Answer], int] = {}
            try:
                while True:
                    # A short queue: what is not asked yet can be dropped at once when the run ends early.
                    for i in islice(order, 2 * self.concurrency - len(running)):
                        running[pool.submit(self._answer, questions[i], session, clips)] = i
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield running.pop(future), future.result()
            finally:
                for future in running:
                    future.cancel()

    def _answer(self, question: Question, sessions: "_Sessions", clips: "_Clips") -> Answer:
        try:
            body = clips.request_body(question)
            return Answer(self._retrying()(self._ask, sessions.mine, body))
        except (PassingError, RefusedError, OSError) as error:
            return Answer(None, str(error))
        finally:
            clips.release(question)

    def _retrying(self) -> tenacity.Retrying:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(PassingError),
            stop=tenacity.stop_after_attempt(self.retries + 1) | tenacity.stop_before_delay(self.max_wait),
            wait=_wait,
            reraise=True,
        )

    def _ask(self, session: requests.Session, body: bytes) -> float:
        deadline = time.monotonic() + self.timeout
        try:
            with session.post(self.url, data=body, timeout=self.timeout, stream=True, allow_redirects=False) as reply:
                content = _read(reply, deadline)
        except requests.Timeout as error:
            raise PassingError(f"no reply within {self.timeout:g} s") from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise PassingError(f"no connection, or one that broke: {_innermost(error)}") from error
        except requests.RequestException as error:
            raise RefusedError(f"the request could not be made: {_innermost(error)}") from error
        return _similarity(reply, content)


def _read(reply: requests.Response, deadline: float) -> bytes:
    content = b""
    for chunk in reply.iter_content(65536):
        content += chunk
        if len(content) > MAX_REPLY:
            raise RefusedError(f"the reply is longer than {MAX_REPLY:,} bytes")
        if time.monotonic() > deadline:
            raise requests.Timeout
    return content


def _similarity(reply: requests.Response, content: bytes) -> float:
    status = reply.status_code
    if status in LATER:
        raise PassingError(f"HTTP {status}: {_message(content)}", _retry_after(reply.headers.get("Retry-After", "")))
    if reply.is_redirect:
        raise RefusedError(f"HTTP {status}: redirects elsewhere; give the address it leads to as --endpoint")
    if not reply.ok:
        raise RefusedError(f"HTTP {status}: {_message(content)}")
    try:
        said = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the reply is no JSON: {_message(content)}") from error
    value = next((said[key] for key in REPLY_KEYS if key in said), None) if isinstance(said, dict) else None
    if value is None:
        raise RefusedError(f"the reply has none of {', '.join(REPLY_KEYS)}: {_message(content)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError(f"the similarity is no number: {_message(content)}")
    try:
        similarity = float(value)
    except OverflowError:
        similarity = math.inf
    if not math.isfinite(similarity):
        raise RefusedError(f"the similarity is not finite: {_message(content)}")
    return similarity


def _message(content: bytes) -> str:
    return " ".join(content.decode("utf-8", errors="replace").split())[:SHOWN_OF_MESSAGE] or "(empty reply)"


def _innermost(error: BaseException) -> str:
    """What happened, in the operating system's words: requests wraps them several times over."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _innermost(reason)
    return str(error.args[-1]) if error.args else type(error).__name__


# --- waiting ------------------------------------------------------------------------------------------------

_BACK_OFF = tenacity.wait_random_exponential(multiplier=0.5, max=30)


def _wait(state: tenacity.RetryCallState) -> float:
    """Exponential back-off with jitter; at least as long as the server asks for."""
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.retry_after if isinstance(failure, PassingError) and failure.retry_after else 0.0
    return max(asked, _BACK_OFF(state))


def _retry_after(header: str) -> float | None:
    """Seconds that a Retry-After header asks for, which may be a number or an HTTP date."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


# --- what threads share -------------------------------------------------------------------------------------


class _Bearer(requests.auth.AuthBase):
    """The token, held where neither a log nor an error message would print it; also keeps ~/.netrc out."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Sessions:
    """One session for each thread: requests does not promise that a session may be shared."""

    def __init__(self, token: str | None) -> None:
        self._local = threading.local()
        self._token = token

    @property
    def mine(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.auth = _Bearer(self._token)
            session.headers.update({"Content-Type": "application/json", "Accept": "application/json"})
            self._local.session = session
        return self._local.session


class _Clips:
    """Each clip's part of a request: read and encoded for its first question, forgotten after its last."""

    def __init__(self, questions: Sequence[Question], send_audio: bool) -> None:
        self._left = Counter(question.clip for question in questions)
        self._locks = {clip: threading.Lock() for clip in self._left}
        self._parts: dict[Path, bytes] = {}
        self._send_audio = send_audio

    def request_body(self, question: Question) -> bytes:
        with self._locks[question.clip]:
            if question.clip not in self._parts:
                self._parts[question.clip] = self._clip_part(question)
        return b'{"text": ' + json.dumps(question.text).encode() + b", " + self._parts[question.clip]

    def _clip_part(self, question: Question) -> bytes:
        fields: dict[str, Any] = {"audio_filename": question.clip.name, "audio_relpath": question.relative_path}
        if self._send_audio:
            fields["audio_base64"] = base64.b64encode(question.clip.read_bytes()).decode("ascii")
        else:
            fields["audio_stem"] = question.stem
        return json.dumps(fields)[1:].encode()

    def release(self, question: Question) -> None:
        with self._locks[question.clip]:
            self._left[question.clip] -= 1
            if not self._left[question.clip]:
                self._parts.pop(question.clip, None)
