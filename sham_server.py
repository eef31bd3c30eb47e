"""Serve the sham scorer, a scorer without a model, with configurable latency and faults, to test clients.

Reads   nothing; audio is not decoded
Writes  the URL of the similarity endpoint, on stdout

POST /v1/embeddings returns unit vectors in the format of the OpenAI API. POST to any other path below /v1/ returns the
similarity of the sham scorer, which is a hash of the request. GET /health returns {"status": "ok"}. Faults apply to
POST requests below /v1/ only and depend on --seed and the order of requests. Each request has at most one fault,
checked in this order: dropped connection, error status, invalid reply.

  uv run sham_server.py --port 8765
  uv run sham_server.py --latency-ms 200:50 --error-rate 0.2 --status 429 503 --retry-after 1
  uv run sham_server.py --port 0 --drop-rate 0.05 --garbage-rate 0.05 --seed 7 --verbose
"""

import json
import math
import random
import socket
import sys
import threading
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, FailFast, Field, ValidationError, field_validator, model_validator

from earmark import cli
from earmark.audio_text.scorers.sham import sham_similarity
from earmark.audio_text.scorers.sham_stem import sham_stem
from earmark.errors import EarmarkError

DIMENSION, MAX_BODY, LINGER_SECONDS = 64, 32 * 2**20, 2.0
# Limits on the cost of a request.
MAX_INPUTS = 2048  # inputs per embeddings request
MAX_NUMBERS = 2**21  # numbers per reply: 32 embeddings of 65,536 dimensions
MAX_TEXT = 2**16  # characters of a sentence, a path or a name
SHOWN_FAULTS = 10  # faults of a body that an error message lists
MAX_CONNECTIONS = 512  # concurrent connections, one thread each
ARRIVAL_SECONDS = 60.0  # time limit for a request to arrive
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Faults:
    """Faults to inject.

    Attributes
    ----------
    latency_ms : tuple of float
        Mean and half-width of a uniform distribution, in milliseconds; negative draws are set to 0.
    error_rate : float
        Probability of an error status, in [0, 1], among requests that are not dropped.
    status : tuple of int
        Status codes of errors, used in turn.
    retry_after : int or None
        Value of the Retry-After header of errors, in seconds; None for no header.
    garbage_rate : float
        Probability of an invalid reply, in [0, 1], among requests without another fault: invalid JSON, NaN and a
        missing key, in turn.
    drop_rate : float
        Probability of a connection closed without a reply, in [0, 1].
    seed : int
        Seed of the random generator.
    """

    latency_ms: tuple[float, float] = (0.0, 0.0)
    error_rate: float = 0.0
    status: tuple[int, ...] = (503,)
    retry_after: int | None = None
    garbage_rate: float = 0.0
    drop_rate: float = 0.0
    seed: int = 0


class SimilarityRequest(BaseModel):
    """Request for a similarity: a sentence, and a clip named by at least one of three fields."""

    text: Text
    audio_relpath: Text | None = None
    audio_stem: Text | None = None
    audio_filename: Text | None = None
    audio_base64: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "SimilarityRequest":
        if not (self.audio_relpath or self.audio_stem or self.audio_filename):
            raise ValueError("one of audio_relpath, audio_stem and audio_filename is required")
        try:
            b64decode(self.audio_base64 or "", validate=True)
        except ValueError as error:
            raise ValueError(f"audio_base64: not valid base64 ({error})") from None
        return self

    def reply(self, factor: float, dimension: int) -> dict[str, Any]:
        """JSON content of the reply; `factor` scales the similarity, NaN makes it invalid."""
        name = self.audio_stem or PurePosixPath(self.audio_filename or "").stem
        stem = sham_stem(self.audio_relpath) if self.audio_relpath else name
        return {"similarity": factor * sham_similarity(stem, self.text)}


class EmbeddingsRequest(BaseModel):
    """Request for embeddings of sentences or of clips as data URIs: the OpenAI format with infinity's `modality`."""

    input: Annotated[list[str], FailFast(), Field(min_length=1, max_length=MAX_INPUTS)]
    model: Text = "sham"
    modality: Literal["audio", "text"] = "text"
    encoding_format: Literal["float", "base64"] = "float"

    @field_validator("input", mode="before")
    @classmethod
    def _wrap_single_input(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> "EmbeddingsRequest":
        if self.modality == "text" and (longest := max(map(len, self.input))) > MAX_TEXT:
            raise ValueError(f"input: a sentence has {longest} characters; the limit is {MAX_TEXT}")
        return self

    def reply(self, factor: float, dimension: int) -> dict[str, Any]:
        """JSON content of the reply; `factor` scales the embeddings, NaN makes them invalid."""
        vectors = [self._vector(text, factor, dimension) for text in self.input]
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
        return {"object": "list", "data": data, "model": self.model}

    def _vector(self, text: str, factor: float, dimension: int) -> list[float] | str:
        rng = np.random.default_rng(int.from_bytes(sha256(text.encode()).digest(), "big"))
        direction = rng.standard_normal(dimension)
        vector = (factor * direction / np.linalg.norm(direction)).astype("<f4")
        return b64encode(vector.tobytes()).decode() if self.encoding_format == "base64" else vector.tolist()


class ShamServer(ThreadingHTTPServer):
    """The server, with a daemon thread per connection."""

    request_queue_size = 256  # connections that may wait to be accepted

    def __init__(self, host: str, port: int, faults: Faults, max_body: int, dimension: int, verbose: bool) -> None:
        self.max_body, self.dimension, self.verbose = max_body, dimension, verbose
        self._free_connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.arriving: dict[
            socket.socket, float
        ] = {}  # when the server started to wait for the next request of each connection
        self.faults, self._random, self._lock = faults, random.Random(faults.seed), threading.Lock()
        self._statuses, self._garbage = cycle(faults.status), cycle(["bad JSON", "NaN", "missing key"])
        super().__init__((host, port), Handler)
        self.url = f"http://{host}:{self.server_port}/v1/similarity"

    def next_fault(self) -> tuple[float, str | int | None]:
        """Draw the latency and the fault of the next request.

        Returns
        -------
        tuple of float and fault
            Latency in seconds; "drop", an error status, a kind of invalid reply, or None.
        """
        mean, spread = self.faults.latency_ms
        with self._lock:
            # Always draw four numbers, so that changing one rate does not change which requests get other faults.
            latency, drop, error, garbage = (self._random.random() for _ in range(4))
            seconds = max(0.0, mean + spread * (2 * latency - 1)) / 1000
            if drop < self.faults.drop_rate:
                return seconds, "drop"
            if error < self.faults.error_rate:
                return seconds, next(self._statuses)
            return seconds, next(self._garbage) if garbage < self.faults.garbage_rate else None

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection; reply 503 if there are too many."""
        if self._free_connections.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.settimeout(0.1)
            request.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve all requests of a connection, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.arriving.pop(request, None)
            self._free_connections.release()

    def service_actions(self) -> None:
        """Close connections whose request has not arrived in time; called periodically."""
        oldest = time.monotonic() - ARRIVAL_SECONDS
        for connection, began in list(self.arriving.items()):
            if began < oldest:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect; report other errors."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def error_body(message: str) -> bytes:
    """JSON body of an error reply."""
    return json.dumps({"error": message}).encode()


class Handler(BaseHTTPRequestHandler):
    """Handle the requests of one connection."""

    server: ShamServer
    protocol_version, server_version, sys_version = "HTTP/1.1", "earmark-sham", ""
    disable_nagle_algorithm = True
    wbufsize = 2**16  # buffered, so that headers and body are sent in one write

    def handle_one_request(self) -> None:
        """Wait for the next request and handle it."""
        self.server.arriving[self.connection] = time.monotonic()
        super().handle_one_request()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            self.reply(200, b'{"status": "ok"}')
        elif path.startswith("/v1/"):
            self.send_error(405, f"{path}: use POST")
        else:
            self.send_error(404, f"{path}: not found. Use POST below /v1/ or GET /health")

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        if not path.startswith("/v1/"):
            self.send_error(405 if path == "/health" else 404, f"{path}: no POST here. Use POST below /v1/")
            return
        seconds, fault = self.server.next_fault()
        body = self.read_body()
        self.server.arriving.pop(self.connection, None)
        if body is None:
            return
        time.sleep(seconds)
        if fault == "drop":
            self.log_message('"%s" dropped', self.requestline)
            self.close_connection = True
        elif isinstance(fault, int):
            self.reply(fault, error_body("injected fault"), self.server.faults.retry_after)
        else:
            self.reply_to(EmbeddingsRequest if path == "/v1/embeddings" else SimilarityRequest, body, fault)

    def reply_to(self, form: type[SimilarityRequest | EmbeddingsRequest], body: bytes, garbage: str | None) -> None:
        """Reply to a valid body with its result, to an invalid one with its faults.

        garbage: kind of invalid reply to send, or None.
        """
        try:
            request = form.model_validate_json(body)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)[:SHOWN_FAULTS]
            faults = [[*map(str, e["loc"]), e["msg"].removeprefix("Value error, ")] for e in errors]
            self.reply(400, error_body("; ".join(": ".join(fault) for fault in faults)))
            return
        if isinstance(request, EmbeddingsRequest) and len(request.input) * self.server.dimension > MAX_NUMBERS:
            numbers = len(request.input) * self.server.dimension
            self.reply(413, error_body(f"the reply would have {numbers} numbers; the limit is {MAX_NUMBERS}"))
            return
        content = json.dumps(request.reply(math.nan if garbage == "NaN" else 1.0, self.server.dimension)).encode()
        self.reply(200, {"bad JSON": content[:-1], "missing key": b"{}"}.get(garbage or "", content))

    def read_body(self) -> bytes | None:
        """Read the body of a request; send an error and return None if it cannot be read."""
        length, limit = self.headers.get("Content-Length"), self.server.max_body
        if length is None:
            self.send_error(411, "Content-Length is missing")
        elif not (length.isascii() and length.isdigit()):
            self.send_error(400, f"Content-Length: {length!r} is not a number of bytes")
        elif len(length) > 18 or int(length) > limit:
            self.send_error(413, f"the body has {length} bytes; the limit is {limit}")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            self.send_error(400, f"the body ends after {len(body)} of {length} bytes")
        return None

    def reply(self, status: int, content: bytes, retry_after: int | None = None) -> None:
        """Send a reply with its headers."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        if status == 405:
            self.send_header("Allow", "GET" if self.command == "POST" else "POST")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send an error and close the connection, because the body of the request was not read."""
        self.close_connection = True
        self.reply(code, error_body(message or HTTPStatus(code).phrase))
        self.wfile.flush()
        # Closing with unread bytes resets the connection, and a client that is still sending would miss the reply.
        deadline = time.monotonic() + LINGER_SECONDS
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_SECONDS)
            while time.monotonic() < deadline and self.connection.recv(2**16):
                pass

    def handle_expect_100(self) -> bool:
        """Send "100 Continue" immediately, not with the reply."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        if self.server.verbose:
            super().log_message(format, *args)


def make_server(
    host: str = "127.0.0.1",
    port: int = 0,
    faults: Faults = Faults(),
    *,
    max_body: int = MAX_BODY,
    dimension: int = DIMENSION,
    verbose: bool = False,
) -> ShamServer:
    """Create a server that is bound to a port; call `serve_forever` to start it.

    Parameters
    ----------
    host : str
    port : int
        0 selects a free port; see the attribute `url`.
    faults : Faults
    max_body : int
        Maximum size of a request body, in bytes.
    dimension : int
        Dimension of the embeddings.
    verbose : bool
        Log each request on stderr.

    Raises
    ------
    OSError
        If the port is not available.
    """
    return ShamServer(host, port, faults, max_body, dimension, verbose)


def number(kind: Callable[[str], Number], low: float, high: float) -> Callable[[str], Number]:
    """Make an argparse type for numbers in [low, high]."""

    def parse(text: str) -> Number:
        with suppress(ValueError):
            if low <= kind(text) <= high:
                return kind(text)
        raise ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")

    return parse


def latency(text: str) -> tuple[float, float]:
    """Parse MEAN or MEAN:SPREAD in milliseconds, as an argparse type."""
    mean, _, spread = text.partition(":")
    milliseconds = number(float, 0, 600_000)
    return milliseconds(mean), milliseconds(spread or "0")


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    add, size, rate = parser.add_argument, cli.positive_int, number(float, 0, 1)
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=number(int, 0, 65535), default=8765, help="port to listen on; 0 for a free port (default: 8765)")
    add(
        "--dimension",
        type=number(int, 1, MAX_NUMBERS),
        default=DIMENSION,
        metavar="N",
        help="dimension of embeddings (default: 64)",
    )
    add(
        "--max-body",
        type=size,
        default=MAX_BODY,
        metavar="BYTES",
        help="maximum size of a request body (default: 32 MiB)",
    )
    add("--verbose", action="store_true", help="log each request on stderr")
    add(
        "--latency-ms",
        type=latency,
        default=(0, 0),
        metavar="MEAN[:SPREAD]",
        help="latency in ms, uniform in MEAN ± SPREAD (default: 0)",
    )
    add("--error-rate", type=rate, default=0.0, metavar="P", help="probability of an error status (default: 0)")
    add(
        "--status",
        type=number(int, 400, 599),
        nargs="+",
        default=[503],
        metavar="CODE",
        help="error statuses, in turn (default: 503)",
    )
    add(
        "--retry-after",
        type=number(int, 0, 86_400),
        metavar="S",
        help="Retry-After header of errors, in seconds (default: none)",
    )
    add(
        "--garbage-rate",
        type=rate,
        default=0.0,
        metavar="P",
        help="probability of an invalid reply: bad JSON, NaN or a missing key, in turn (default: 0)",
    )
    add(
        "--drop-rate",
        type=rate,
        default=0.0,
        metavar="P",
        help="probability of a connection closed without a reply (default: 0)",
    )
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    """Print the URL and serve until interrupted."""
    faults = cli.options(Faults, arguments)
    sizes = {"max_body": arguments.max_body, "dimension": arguments.dimension}
    try:
        server = make_server(arguments.host, arguments.port, faults, verbose=arguments.verbose, **sizes)
    except OSError as error:
        address = f"{arguments.host}:{arguments.port}"
        raise EarmarkError(f"{address}: {error.strerror}. Choose another --port, or 0 for a free one.") from None
    with server:
        cli.show(server.url)
        sys.stdout.flush()
        server.serve_forever()
    return cli.COMPLETE


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


if __name__ == "__main__":
    sys.exit(main())
