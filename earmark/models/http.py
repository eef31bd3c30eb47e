"""JSON over HTTP with a server that may be slow, broken or hostile.

Only what can succeed later is tried again: 408, 425, 429, 500, 502, 503, 504, 520 to 529, time-outs and broken
connections, with exponential back-off, jitter and whatever Retry-After asks for. Replies are bounded in size and time,
and redirects are not followed: the token and the audio go to the address that the user gave and nowhere else.

Whatever a server says, one of its replies costs one answer and never the run; and whatever it sends back of what it was
sent, no message shows a secret.
"""

import http.client
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import numpy as np
import requests
import tenacity
import urllib3

from earmark.errors import EarmarkError, MissingError
from earmark.files.safe_text import Secrets, shown_url, url_secrets
from earmark.files.web import RETRY_STATUS, Deadline, DeadlineAdapter, RepeatedKeyError, parse_json, require_sendable

UNAUTHORISED_STATUS = frozenset({401, 403})
MAX_REPLY = 1 << 20
TOKEN_VARIABLE = "EARMARK_API_KEY"


class TransientError(Exception):
    """A failure that may be gone on the next try. retry_after: seconds that the server asks to wait."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(Exception):
    """A failure that the same request will meet again."""


class ReplyError(ValueError):
    """A reply that is not what was asked for: in words, which the client follows by what the server said."""


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
    left ends it. token: bearer token; MissingError for one that no header can hold. max_reply: bytes of a reply.
    Threads may share a client.
    """

    url: str = field(repr=False)  # may hold a password
    timeout: float = 60.0
    retries: int = 5
    max_wait: float = 300.0
    token: str | None = field(default=None, repr=False)
    max_reply: int = MAX_REPLY
    traffic: Traffic = field(default_factory=Traffic)
    _local: threading.local = field(default_factory=threading.local, repr=False)
    _closing: threading.Event = field(default_factory=threading.Event, repr=False)

    def __post_init__(self) -> None:
        require_sendable(self.token or "", TOKEN_VARIABLE)

    def post(self, body: bytes, read: Callable[[Any], Any] = lambda reply: reply) -> Any:
        """What `read` makes of the server's reply to a JSON body.

        read: plain data → a value; raises ReplyError for a reply that is of no use.
        Raises TransientError when every try failed, RefusedError when trying again is pointless, UnauthorisedError
        for 401 and 403.
        """
        until = time.monotonic() + self.max_wait
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            stop=tenacity.stop_after_attempt(self.retries + 1) | tenacity.stop_before_delay(self.max_wait),
            wait=_wait,
            sleep=self._sleep,
            before_sleep=lambda state: self.traffic.retried(),
            reraise=True,
        )
        return retrying(self._try, body, read, until)

    def require_reachable(self, seconds: float = 10.0) -> None:
        """Find out at once that nothing answers at the address, before patience with a busy server begins.

        Any reply will do, so the request goes the way that all others will, through a proxy if there is one. Raises
        MissingError.
        """
        fault = ""
        with Deadline(seconds) as deadline:
            try:
                self._session.get(self.url, timeout=seconds, stream=True, allow_redirects=False).close()
            except CONNECTION_ERRORS as error:
                fault = f"no reply within {seconds:g} s" if deadline.passed else self._told(error)
        if fault:
            raise MissingError(
                f"{shown_url(self.url)}: no connection ({fault}); check the address and that the server runs."
            )

    def close(self) -> None:
        """End all waiting: requests that would be tried again fail instead."""
        self._closing.set()

    def _sleep(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise RefusedError("the run is ending")

    def _try(self, body: bytes, read: Callable[[Any], Any], until: float) -> Any:
        """One request. Errors come without their cause, whose words, unlike ours, may hold a secret."""
        started = time.monotonic()
        status, retry_after, content = self._exchange(body, min(self.timeout, until - started))
        self.traffic.replied(time.monotonic() - started)
        if status in RETRY_STATUS:
            raise TransientError(f"HTTP {status}: {self._secrets.redacted_excerpt(content)}", _retry_after(retry_after))
        if status in UNAUTHORISED_STATUS:
            raise UnauthorisedError(
                f"HTTP {status}: {self._secrets.redacted_excerpt(content)}\n"
                f"Put the server's token into the environment variable {TOKEN_VARIABLE}."
            )
        if 300 <= status < 400:
            raise RefusedError(
                f"HTTP {status}: redirects elsewhere, which is not followed; give the address it leads to"
            )
        if not 200 <= status < 300:
            raise RefusedError(f"HTTP {status}: {self._secrets.redacted_excerpt(content)}")
        try:
            return read(parse_json(content))
        except RepeatedKeyError:
            fault = "the reply names a key twice"
        except ReplyError as error:
            fault = str(error)
        except (ValueError, RecursionError):
            fault = "the reply is no JSON"
        raise RefusedError(f"{fault}: {self._secrets.redacted_excerpt(content)}")

    def _exchange(self, body: bytes, seconds: float) -> tuple[int, str, bytes]:
        """Status, Retry-After and content of the reply to one request."""
        with Deadline(seconds) as deadline:
            failure: Exception | None = None
            try:
                with self._session.post(
                    self.url, data=body, timeout=seconds, stream=True, allow_redirects=False
                ) as reply:
                    content = self._read(reply, deadline)
            except (TransientError, RefusedError):
                raise
            except (requests.Timeout, urllib3.exceptions.TimeoutError):
                deadline.passed = True
            except CONNECTION_LOST_ERRORS as error:
                failure = TransientError(f"no connection, or one that broke: {self._told(error)}")
            except CONNECTION_ERRORS as error:
                failure = RefusedError(f"the request cannot be made: {self._told(error)}")
            if deadline.passed:  # also where a connection that was ended looks like a reply that has no more to say
                raise TransientError(f"no complete reply within {round(seconds, 2):g} s")
        if failure:
            raise failure
        return reply.status_code, reply.headers.get("Retry-After", ""), content

    def _read(self, reply: requests.Response, deadline: Deadline) -> bytes:
        content = bytearray()
        # read1 returns what has arrived; iter_content would wait for a full block of a reply that drips.
        while chunk := reply.raw.read1(1 << 16, decode_content=True):
            content += chunk
            if len(content) > self.max_reply:
                raise RefusedError(f"the reply is longer than {self.max_reply:,} bytes")
            if deadline.passed:
                break
        return bytes(content)

    def _told(self, error: BaseException) -> str:
        """What happened, in the operating system's words, without secrets."""
        return self._secrets.redacted_excerpt(_innermost(error))

    @cached_property
    def _secrets(self) -> Secrets:
        """What no message may show: of the token, the address, and the proxies that requests goes through."""
        try:
            proxies = [*requests.utils.get_environ_proxies(self.url).values()]
        except ValueError:  # of an address that cannot be read
            proxies = []
        return Secrets([self.token or "", *(s for url in (self.url, *proxies) for s in url_secrets(url))])

    @property
    def _session(self) -> requests.Session:
        """One session for each thread: requests does not promise that a session may be shared."""
        if not hasattr(self._local, "session"):
            self._local.session = _Session(self.token)
        return self._local.session


class _Session(requests.Session):
    """Follows no redirect, keeps no cookie, and holds the token where neither a log nor a message would print it."""

    def __init__(self, token: str | None) -> None:
        super().__init__()
        self.auth = _Bearer(token)
        self.headers.update({"Content-Type": "application/json", "Accept": "application/json"})
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self.mount(scheme, DeadlineAdapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would read all of a reply that redirects, however long, to find out where it leads."""


class _Bearer(requests.auth.AuthBase):
    """The token; without one, user and password of the address. Also keeps ~/.netrc out."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
            return request
        user, password = requests.utils.get_auth_from_url(request.url or "")
        return requests.auth.HTTPBasicAuth(user, password)(request) if user or password else request


# What requests raises: its own errors, and those of the libraries below it that it lets pass.
CONNECTION_LOST_ERRORS = (
    requests.ConnectionError,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    ConnectionError,
)
CONNECTION_ERRORS = (requests.RequestException, *CONNECTION_LOST_ERRORS, OSError, ValueError)


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
    text = str(error.args[-1]) if error.args else type(error).__name__
    return re.sub(r"^\S*\((host|HTTP)[^)]*\): ", "", text)  # urllib3 puts its connection before what happened


# 0.5, 1, 2, 4, 8 … s and up to one more: five retries outlast a server that is down for ten seconds.
_BACK_OFF = tenacity.wait_exponential_jitter(multiplier=0.5, max=30, jitter=1)


def _wait(state: tenacity.RetryCallState) -> float:
    """Exponential back-off with jitter, and at least as long as the server asks for."""
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.retry_after if isinstance(failure, TransientError) and failure.retry_after else 0.0
    return max(asked, _BACK_OFF(state))


def _retry_after(header: str) -> float | None:
    """Seconds that a Retry-After header asks for, which may be a number or an HTTP date."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
