"""HTTP server with scripted behaviour, over real sockets."""

import io
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """A scripted reply.

    Attributes
    ----------
    body : bytes or JSON-serialisable
    status : int
    headers : dict
    drop : bool
        Close the connection without a reply.
    parts : iterator of bytes, optional
        Parts of the body, sent one after the other.
    raw : iterable of bytes, optional
        Raw bytes including the status line, sent one after the other; then the connection closes.
    """

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    parts: Iterator[bytes] | None = None
    raw: Iterable[bytes] | None = None


def drip(content: bytes, seconds: float) -> Iterator[bytes]:
    """Yield the content byte by byte with a delay."""
    for i in range(len(content)):
        time.sleep(seconds)
        yield content[i : i + 1]


def endless(content: bytes, seconds: float = 0.001) -> Iterator[bytes]:
    """Yield the same content forever."""
    while True:
        time.sleep(seconds)
        yield content


@dataclass
class Hostile:
    """A running server. url: address for requests. requests: received requests as (headers, JSON body)."""

    url: str
    requests: list[tuple[dict[str, str], Any]]
    stop: Callable[[], None]


@contextmanager
def hostile_server(behave: Callable[[int, Any], Reply], port: int = 0) -> Iterator[Hostile]:
    """Start a server; behave(n, body) returns the reply to request n, counted from 0."""
    received: list[tuple[dict[str, str], Any]] = []
    lock, stopped = threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # headers and body in one packet

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            if stopped.is_set():
                self.close_connection = True
                return
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            with lock:
                n = len(received)
                received.append((dict(self.headers), body))
            reply = behave(n, body)
            if reply.drop:
                self.close_connection = True
                return
            if reply.raw is not None:
                self.send_in_turn(reply.raw)
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.parts is not None:
                self.send_header("Connection", "close")
                self.end_headers()
                self.send_in_turn(reply.parts)
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def send_in_turn(self, parts: Iterable[bytes]) -> None:
            self.close_connection = True
            try:
                for part in parts:
                    self.wfile.write(part)
                    self.wfile.flush()
            except OSError:
                self.wfile = io.BytesIO()  # the client closed the connection

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop() -> None:
        """Refuse new connections, and drop those that are open at their next request."""
        if not stopped.is_set():
            stopped.set()
            server.shutdown()
            server.server_close()

    try:
        yield Hostile(f"http://127.0.0.1:{server.server_address[1]}/v1/similarity", received, stop)
    finally:
        stop()
