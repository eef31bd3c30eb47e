"""JSON over HTTP with a server that may be slow, broken or hostile.

Transient errors are retried: HTTP 408, 425, 429, 500, 502, 503, 504, 520 to 529, time-outs and broken connections. The
wait grows exponentially with jitter and is at least the Retry-After of the reply. Replies are limited in size and time.
Redirects are not followed: the token and the audio are sent only to the address that the user gave.

An invalid reply fails one request, never the run. Messages that quote a server never show a secret, even if the server
echoes the request.
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
    """A failed request that may succeed on a retry.

    Attributes
    ----------
    retry_after : float or None
        Seconds to wait according to the server.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(Exception):
    """A failed request that would fail again on a retry."""


class ReplyError(ValueError):
    """An invalid reply. `Client.post` appends an excerpt of the reply to the message."""


class UnauthorisedError(MissingError):
    """The server requires a token or rejects the given one, so no request of this run can succeed."""


class StoppedError(EarmarkError):
    """Too many consecutive requests failed, so the run stops."""


@dataclass
class Traffic:
    """Request statistics of a client; thread-safe.

    Attributes
    ----------
    latencies : list of float
        Seconds per reply.
    retries : int
        Repeated requests.
    errors : int
        Inputs without a result.
    """

    latencies: list[float] = field(default_factory=list)
    retries: int = 0
    errors: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def replied(self, seconds: float) -> None:
        """Record the latency of a reply, valid or not."""
        with self._lock:
            self.latencies.append(seconds)

    def retried(self) -> None:
        """Record a retry."""
        with self._lock:
            self.retries += 1

    def failed(self) -> None:
        """Record an input without a result."""
        with self._lock:
            self.errors += 1

    def as_dict(self) -> dict[str, Any]:
        """Replies, retries, and latency percentiles (50, 95, 99) in milliseconds, None without a reply."""
        quantiles: Sequence[float | None] = [None] * 3
        if self.latencies:
            quantiles = [round(1000 * float(q), 1) for q in np.percentile(self.latencies, [50, 95, 99])]
        percentiles = dict(zip(("p50", "p95", "p99"), quantiles, strict=True))
        return {"replies": len(self.latencies), "retries": self.retries, "latency_ms": percentiles}


@dataclass(frozen=True)
class Client:
    """Posts JSON to one address; thread-safe.

    Attributes
    ----------
    url : str
        The address.
    timeout : float
        Seconds for one reply, from the request to the last byte.
    retries : int
        Maximum number of retries after a transient error.
    max_wait : float
        Seconds for a request including all retries. A Retry-After beyond the rest of it fails the request.
    token : str or None
        Bearer token.
    max_reply : int
        Maximum size of a reply in bytes.
    traffic : Traffic
        Statistics of the requests.

    Raises
    ------
    MissingError
        If the token contains characters that an HTTP header cannot hold.
    """

    url: str = field(repr=False)  # may contain a password
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
        """Post a JSON body and convert the reply; retry after transient errors.

        Parameters
        ----------
        body : bytes
            The encoded JSON.
        read : callable
            Converts the decoded reply, and raises `ReplyError` if the reply is invalid.

        Returns
        -------
        Any
            The result of `read`.

        Raises
        ------
        TransientError
            If all retries failed.
        RefusedError
            If the server rejects the request, redirects it, or its reply is invalid or too long.
        UnauthorisedError
            For HTTP 401 and 403.
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
        """Check that a server answers, without retries; any reply is accepted.

        The request takes the same route as all others, through a proxy if one is set.

        Parameters
        ----------
        seconds : float
            Time limit.

        Raises
        ------
        MissingError
            If the connection fails or there is no reply in time.
        """
        fault = ""
        with Deadline(seconds) as deadline:
            try:
                self._session.get(self.url, timeout=seconds, stream=True, allow_redirects=False).close()
            except CONNECTION_ERRORS as error:
                fault = f"no reply within {seconds:g} s" if deadline.passed else self._describe(error)
        if fault:
            raise MissingError(
                f"{shown_url(self.url)}: no connection ({fault}); check the address and that the server is running."
            )

    def close(self) -> None:
        """Stop waiting for retries; requests that need one fail."""
        self._closing.set()

    def _sleep(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise RefusedError("the run is stopping")

    def _try(self, body: bytes, read: Callable[[Any], Any], until: float) -> Any:
        """Send one request. Errors have no `__cause__`, since its message could contain a secret."""
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
                f"HTTP {status}: redirects are not followed; use the address that the server redirects to"
            )
        if not 200 <= status < 300:
            raise RefusedError(f"HTTP {status}: {self._secrets.redacted_excerpt(content)}")
        try:
            return read(parse_json(content))
        except RepeatedKeyError:
            fault = "the reply has a duplicate key"
        except ReplyError as error:
            fault = str(error)
        except (ValueError, RecursionError):
            fault = "the reply is not JSON"
        raise RefusedError(f"{fault}: {self._secrets.redacted_excerpt(content)}")

    def _exchange(self, body: bytes, seconds: float) -> tuple[int, str, bytes]:
        """Status, Retry-After header and content of the reply to one request."""
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
                failure = TransientError(f"no connection, or connection lost: {self._describe(error)}")
            except CONNECTION_ERRORS as error:
                failure = RefusedError(f"invalid request: {self._describe(error)}")
            if deadline.passed:  # a connection closed by the deadline can look like the end of the reply
                raise TransientError(f"no complete reply within {round(seconds, 2):g} s")
        if failure:
            raise failure
        return reply.status_code, reply.headers.get("Retry-After", ""), content

    def _read(self, reply: requests.Response, deadline: Deadline) -> bytes:
        content = bytearray()
        # read1 returns available bytes; iter_content would wait for a full block of a slow reply.
        while chunk := reply.raw.read1(1 << 16, decode_content=True):
            content += chunk
            if len(content) > self.max_reply:
                raise RefusedError(f"the reply is longer than {self.max_reply:,} bytes")
            if deadline.passed:
                break
        return bytes(content)

    def _describe(self, error: BaseException) -> str:
        """The innermost error message, without secrets."""
        return self._secrets.redacted_excerpt(_innermost(error))

    @cached_property
    def _secrets(self) -> Secrets:
        """Secrets in the token, the address and the proxy settings, to remove from messages."""
        try:
            proxies = [*requests.utils.get_environ_proxies(self.url).values()]
        except ValueError:  # invalid address
            proxies = []
        return Secrets([self.token or "", *(s for url in (self.url, *proxies) for s in url_secrets(url))])

    @property
    def _session(self) -> requests.Session:
        """The session of this thread; requests does not guarantee thread-safe sessions."""
        if not hasattr(self._local, "session"):
            self._local.session = _Session(self.token)
        return self._local.session


class _Session(requests.Session):
    """A session without redirects and cookies; the token stays out of logs and messages."""

    def __init__(self, token: str | None) -> None:
        super().__init__()
        self.auth = _Bearer(token)
        self.headers.update({"Content-Type": "application/json", "Accept": "application/json"})
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self.mount(scheme, DeadlineAdapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, since requests would otherwise read the whole body of a redirect, however long."""


class _Bearer(requests.auth.AuthBase):
    """Authorization by token, else by user and password in the address; ignores ~/.netrc."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
            return request
        user, password = requests.utils.get_auth_from_url(request.url or "")
        return requests.auth.HTTPBasicAuth(user, password)(request) if user or password else request


# Errors that requests raises: its own, and those of underlying libraries.
CONNECTION_LOST_ERRORS = (
    requests.ConnectionError,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    ConnectionError,
)
CONNECTION_ERRORS = (requests.RequestException, *CONNECTION_LOST_ERRORS, OSError, ValueError)


def _innermost(error: BaseException) -> str:
    """The message of the innermost error; requests wraps the error of the system several times."""
    reason = getattr(error, "reason", None)
    inner = (
        reason
        if isinstance(reason, BaseException)
        else next((argument for argument in reversed(error.args) if isinstance(argument, BaseException)), None)
    )
    if inner is not None:
        return _innermost(inner)
    text = str(error.args[-1]) if error.args else type(error).__name__
    return re.sub(r"^\S*\((host|HTTP)[^)]*\): ", "", text)  # urllib3 prepends its connection


# 0.5, 1, 2, 4, 8, … s plus up to 1 s of jitter: five retries bridge an outage of ten seconds.
_BACK_OFF = tenacity.wait_exponential_jitter(multiplier=0.5, max=30, jitter=1)


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds until the next retry: exponential back-off with jitter, at least the Retry-After of the server."""
    failure = state.outcome.exception() if state.outcome else None
    requested = failure.retry_after if isinstance(failure, TransientError) and failure.retry_after else 0.0
    return max(requested, _BACK_OFF(state))


def _retry_after(header: str) -> float | None:
    """Seconds from a Retry-After header, which is a number or an HTTP date; None if it is neither."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
