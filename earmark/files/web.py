"""Shared parts of HTTP clients: deadlines, strict JSON, and validation of tokens.

requests limits the wait for the next byte, not for a complete reply: slow headers, endless interim replies or trailers
would block a run forever. A `Deadline` closes the connection itself.
"""

import contextlib
import json
import socket
import threading
import time
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import requests
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager

from earmark.errors import MissingError

# Transient HTTP statuses. 520 to 529 are from proxies that cannot reach the server.
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 530)})


class Deadline:
    """Context manager that closes the connections of its thread after a time limit.

    Reads then fail as if the server had closed the connection, or return what has arrived; `passed` tells them apart
    from a complete reply. DNS lookups are not interrupted.

    Parameters
    ----------
    seconds : float
    renewed : bool
        Whether the limit restarts with every request and with `extend`; otherwise it applies to the whole block.
    """

    def __init__(self, seconds: float, *, renewed: bool = False) -> None:
        self.passed = False
        self._seconds, self._renewed = seconds, renewed
        self._until = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._copies: list[socket.socket] = []
        self._lock, self._over = threading.Lock(), threading.Event()

    def extend(self) -> None:
        """Restart the time limit, because data arrived."""
        self._until = time.monotonic() + self._seconds

    def watch(self, connection: socket.socket, *, new: bool) -> None:
        """Close this connection too when the time is up.

        Parameters
        ----------
        connection : socket
        new : bool
            Whether the TLS handshake is still to come, which takes over the socket.
        """
        with self._lock:
            if self._renewed:
                self.passed = False
                self.extend()
            if new:
                self._copies.append(connection.dup())
            self._sockets.append(self._copies[-1] if new else connection)
            if self.passed:
                _end(self._sockets[-1])

    def _watch(self) -> None:
        while not self._over.wait(max(0.0, self._until - time.monotonic())):
            with self._lock:
                if self._over.is_set() or time.monotonic() < self._until:
                    continue
                self.passed = True
                for connection in self._sockets:
                    _end(connection)
                if not self._renewed:
                    return
                self._sockets.clear()
                self.extend()

    def __enter__(self) -> "Deadline":
        self._token = _DEADLINE.set(self)
        threading.Thread(target=self._watch, daemon=True, name="deadline").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _DEADLINE.reset(self._token)
        with self._lock:
            self._over.set()
            self._sockets.clear()
            for copy in self._copies:  # an open copy would keep the connection open
                copy.close()


_DEADLINE: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def _end(connection: socket.socket) -> None:
    """Shut a connection down; a thread that waits for it wakes up."""
    with contextlib.suppress(OSError):  # already closed
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # also of TLS, without a TLS shutdown


def _opened(connection: HTTPConnection, opened: socket.socket) -> socket.socket:
    if deadline := _DEADLINE.get():
        deadline.watch(opened, new=True)
    return opened


def _used(connection: HTTPConnection) -> None:
    if (deadline := _DEADLINE.get()) and connection.sock is not None:
        deadline.watch(connection.sock, new=False)


class _Plain(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _opened(self, super()._new_conn())

    def request(self, *arguments: Any, **named: Any) -> None:
        _used(self)
        super().request(*arguments, **named)


class _Secure(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _opened(self, super()._new_conn())

    def request(self, *arguments: Any, **named: Any) -> None:
        _used(self)
        super().request(*arguments, **named)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


class DeadlineAdapter(requests.adapters.HTTPAdapter):
    """Transport adapter whose connections a `Deadline` can close, direct or through an HTTP proxy."""

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        _use_deadline_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **named)
        if not proxy.lower().startswith("socks"):
            _use_deadline_pools(manager)
        return manager


def _use_deadline_pools(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}


class RepeatedKeyError(ValueError):
    """JSON object with a duplicate key, which is ambiguous."""


def parse_json(content: bytes) -> Any:
    """Parse JSON, rejecting duplicate keys.

    Raises
    ------
    ValueError or RecursionError
        If the content is not valid JSON.
    RepeatedKeyError
        (a ValueError) If an object has a duplicate key.

    Examples
    --------
    >>> parse_json(b'{"a": [1]}')
    {'a': [1]}
    """
    return json.loads(content, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise RepeatedKeyError("an object has a duplicate key")
    return values


def require_sendable(token: str, name: str) -> None:
    """Require a token to be valid in an HTTP header.

    Parameters
    ----------
    token : str
        Not shown in messages.
    name : str
        Where the token comes from.

    Raises
    ------
    MissingError
        If it is not.
    """
    if "\n" in token or "\r" in token:
        fault = "contains a line break"
    elif any(c != "\t" and (ord(c) < 0x20 or ord(c) == 0x7F or ord(c) > 0xFF) for c in token):
        fault = "contains a character that is not allowed in HTTP headers"
    elif token != token.strip():
        fault = "starts or ends with white space"
    else:
        return
    raise MissingError(f"{name}: the token {fault}. Set it to the token only.")
