"""What every request over HTTP needs, whoever makes it: an end in time, JSON without traps, tokens that headers hold.

requests bounds the wait for the next byte, not for a reply: headers that drip, interim replies without end or trailers
would hold a run for ever. A `Deadline` ends the connection itself, whatever is being waited for.
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

# Statuses that may be different next time; from 520 on, those of proxies that cannot reach the server behind them.
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 530)})


class Deadline:
    """Ends the connections that its thread opens or uses in the `with` block, once its seconds are over.

    What waits for them then fails as it does when a server hangs up, or takes what came for all there is: `passed`
    tells. renewed: the seconds begin again with every request, and with `extend`; else they are those of the block.
    Looking up a name is the one thing that it cannot end.
    """

    def __init__(self, seconds: float, *, renewed: bool = False) -> None:
        self.passed = False
        self._seconds, self._renewed = seconds, renewed
        self._until = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._copies: list[socket.socket] = []
        self._lock, self._over = threading.Lock(), threading.Event()

    def extend(self) -> None:
        """Something came: the seconds begin again."""
        self._until = time.monotonic() + self._seconds

    def watch(self, connection: socket.socket, *, new: bool) -> None:
        """End this connection too. new: TLS is still to be spoken, which will take the socket over."""
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
            for copy in self._copies:  # an open copy would keep the connection open after the other end is done with
                copy.close()


_DEADLINE: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def _end(connection: socket.socket) -> None:
    """Nothing more comes or goes; a thread that waits for this connection wakes up."""
    with contextlib.suppress(OSError):  # it has ended already
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # of TLS too, without a word of TLS


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
    """Connections that a `Deadline` can end, straight or through an HTTP proxy."""

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        _with_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **named)
        if not proxy.lower().startswith("socks"):
            _with_our_pools(manager)
        return manager


def _with_our_pools(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}


class RepeatedKeyError(ValueError):
    """JSON in which an object names a key twice: which of the two values holds depends on who reads it."""


def parse_json(content: bytes) -> Any:
    """JSON as plain data. ValueError or RecursionError where it is none, RepeatedKeyError for a key that stands twice.

    >>> parse_json(b'{"a": [1]}')
    {'a': [1]}
    """
    return json.loads(content, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RepeatedKeyError("an object names a key twice")
    return found


def require_sendable(token: str, name: str) -> None:
    """MissingError for a token that no header can hold. name: where it came from; the token itself is not shown."""
    if "\n" in token or "\r" in token:
        fault = "holds a line break"
    elif any(c != "\t" and (ord(c) < 0x20 or ord(c) == 0x7F or ord(c) > 0xFF) for c in token):
        fault = "holds a character that no HTTP header can"
    elif token != token.strip():
        fault = "begins or ends with a blank"
    else:
        return
    raise MissingError(f"{name}: the token {fault}. Set it to the token alone.")
