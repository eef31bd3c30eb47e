"""JSON over HTTP with a server that may be slow, broken or hostile.

Only what can succeed later is tried again: 408, 425, 429, 500, 502, 503, 504, time-outs and broken connections,
with exponential back-off, jitter and whatever Retry-After asks for. Replies are bounded in size and time, and
redirects are not followed: the token and the audio go to the address that the user gave and nowhere else.
"""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests
import tenacity
import urllib3

from earmark.errors import EarmarkError, MissingError

LATER = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that may be different next time
UNAUTHORISED = frozenset({401, 403})
SHOWN_OF_MESSAGE = 500
MAX_REPLY = 1 << 20
TOKEN_VARIABLE = "EARMARK_API_KEY"


class PassingError(Exception):
    """A failure that may be gone on the next try. retry_after: seconds that the server asks to wait."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(Exception):
    """A failure that the same request will meet again."""


class UnauthorisedError(MissingError):
    """The server wants a token, or another one: no request of this run can succeed."""


class StoppedError(EarmarkError):
    """So many requests in a row failed that going on makes no sense."""


@dataclass
class Traffic:
    """What went over the wire so far; threads add to it."""

    latencies: list[float] = field(default_factory=list)
    retries: int = 0
    errors: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def replied(self, seconds: float) -> None:
        """Note a reply, good or bad, and how long it took."""
        with self._lock:
            self.latencies.append(seconds)

    def retried(self) -> None:
        """Note that a request is about to be made again."""
        with self._lock:
            self.retries += 1

    def failed(self) -> None:
        """Note a question that stays without answer."""
        with self._lock:
            self.errors += 1

    def as_dict(self) -> dict[str, Any]:
        """Requests, retries, and the 50th, 95th and 99th percentile of the latency in milliseconds (null: no reply)."""
        found: Sequence[float | None] = [None] * 3
        if self.latencies:
            found = [round(1000 * float(q), 1) for q in np.percentile(self.latencies, [50, 95, 99])]
        percentiles = dict(zip(("p50", "p95", "p99"), found, strict=True))
        return {"replies": len(self.latencies), "retries": self.retries, "latency_ms": percentiles}


@dataclass(frozen=True)
class Client:
    """Posts JSON to one address.

    timeout: seconds for one reply, from the request to its last byte. retries: further tries of a request that
    may succeed later. max_wait: seconds that a request may spend on all its tries; a Retry-After beyond what is
    left ends it. token: bearer token. max_reply: bytes of a reply. Threads may share a client.
    """

    url: str
    timeout: float = 60.0
    retries: int = 5
    max_wait: float = 300.0
    token: str | None = field(default=None, repr=False)
    max_reply: int = MAX_REPLY
    traffic: Traffic = field(default_factory=Traffic)
    _local: threading.local = field(default_factory=threading.local, repr=False)
    _closing: threading.Event = field(default_factory=threading.Event, repr=False)

    def post(self, body: bytes) -> Any:
        """The server's reply to a JSON body, as plain data.

        Raises PassingError when every try failed, RefusedError when trying again is pointless, UnauthorisedError
        for 401 and 403.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(PassingError),
            stop=tenacity.stop_after_attempt(self.retries + 1) | tenacity.stop_before_delay(self.max_wait),
            wait=_wait,
            sleep=self._sleep,
            before_sleep=lambda state: self.traffic.retried(),
            reraise=True,
        )
        return retrying(self._try, body)

    def require_reachable(self, seconds: float = 10.0) -> None:
        """Find out at once that nothing answers at the address, before patience with a busy server begins.

        Any reply will do, so the request goes the way that all others will, through a proxy if there is one. Raises
        MissingError.
        """
        try:
            self._session.get(self.url, timeout=seconds, stream=True, allow_redirects=False).close()
        except requests.RequestException as error:
            parts = urlsplit(self.url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            raise MissingError(
                f"{parts.hostname}:{port}: no connection ({self._without_token(_innermost(error))}); check the address "
                "and that the server runs."
            ) from error

    def close(self) -> None:
        """End all waiting: requests that would be tried again fail instead."""
        self._closing.set()

    def _sleep(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise RefusedError("the run is ending")

    def _try(self, body: bytes) -> Any:
        started = time.monotonic()
        try:
            with self._session.post(
                self.url, data=body, timeout=self.timeout, stream=True, allow_redirects=False
            ) as reply:
                content = self._read(reply, started + self.timeout)
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise PassingError(f"no complete reply within {self.timeout:g} s") from error
        except (requests.ConnectionError, urllib3.exceptions.HTTPError) as error:
            raise PassingError(f"no connection, or one that broke: {_innermost(error)}") from error
        except requests.RequestException as error:
            raise RefusedError(f"the request cannot be made: {_innermost(error)}") from error
        self.traffic.replied(time.monotonic() - started)
        try:
            return _data(reply, content)
        except (PassingError, RefusedError, UnauthorisedError) as error:
            error.args = (self._without_token(str(error)),)
            raise

    def _without_token(self, text: str) -> str:
        """A server may send back what it was sent."""
        return text.replace(self.token, "(the token)") if self.token else text

    def _read(self, reply: requests.Response, deadline: float) -> bytes:
        content = bytearray()
        # read1 returns what has arrived; iter_content would wait for a full block of a reply that drips.
        while chunk := reply.raw.read1(1 << 16, decode_content=True):
            content += chunk
            if len(content) > self.max_reply:
                raise RefusedError(f"the reply is longer than {self.max_reply:,} bytes")
            if time.monotonic() > deadline:
                raise requests.Timeout
        return bytes(content)

    @property
    def _session(self) -> requests.Session:
        """One session for each thread: requests does not promise that a session may be shared."""
        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.auth = _Bearer(self.token)
            session.headers.update({"Content-Type": "application/json", "Accept": "application/json"})
            self._local.session = session
        return self._local.session


class _Bearer(requests.auth.AuthBase):
    """The token, held where neither a log nor an error message would print it; without one, user and password of
    the address. Also keeps ~/.netrc out.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
            return request
        user, password = requests.utils.get_auth_from_url(request.url or "")
        return requests.auth.HTTPBasicAuth(user, password)(request) if user or password else request


def shown(data: object) -> str:
    """What a server said, short enough for a message and on one line."""
    text = data.decode("utf-8", errors="replace") if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False)
    return " ".join(text.split())[:SHOWN_OF_MESSAGE] or "(empty reply)"


def _data(reply: requests.Response, content: bytes) -> Any:
    status = reply.status_code
    if status in LATER:
        raise PassingError(f"HTTP {status}: {shown(content)}", _retry_after(reply.headers.get("Retry-After", "")))
    if status in UNAUTHORISED:
        raise UnauthorisedError(
            f"HTTP {status}: {shown(content)}\nPut the server's token into the environment variable {TOKEN_VARIABLE}."
        )
    if reply.is_redirect:
        raise RefusedError(f"HTTP {status}: redirects elsewhere, which is not followed; give the address it leads to")
    if not reply.ok:
        raise RefusedError(f"HTTP {status}: {shown(content)}")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the reply is no JSON: {shown(content)}") from error


def _innermost(error: BaseException) -> str:
    """What happened, in the operating system's words: requests wraps them several times over."""
    reason = getattr(error, "reason", None)
    inner = (
        reason
        if isinstance(reason, BaseException)
        else next((argument for argument in reversed(error.args) if isinstance(argument, BaseException)), None)
    )
    if inner is not None:
        return _innermost(inner)
    return str(error.args[-1]) if error.args else type(error).__name__


# 0.5, 1, 2, 4, 8 … s and up to one more: five retries outlast a server that is down for ten seconds.
_BACK_OFF = tenacity.wait_exponential_jitter(multiplier=0.5, max=30, jitter=1)


def _wait(state: tenacity.RetryCallState) -> float:
    """Exponential back-off with jitter, and at least as long as the server asks for."""
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
