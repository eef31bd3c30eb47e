"""sham_server.py over real sockets: similarities, embeddings, invalid requests and faults."""

import base64
import json
import math
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

import sham_server
from earmark.audio_text.scorers.sham import sham_similarity
from sham_server import Faults, ShamServer, main, make_server
from tests.conftest import interruptible, wait_for

ROOT = Path(__file__).resolve().parent.parent
TEXT = "Speech audio in which the speaker expresses or conveys Affection."
CLIP = "emolia-emo/data/Affection_best/EN_-NOsyy0i0-A_W000028.mp3"
REQUEST = {"text": TEXT, "audio_relpath": CLIP}
PUBLISHED = 0.2560092555974329

NO_FAULTS = Faults()


@contextmanager
def running(faults: Faults = NO_FAULTS, **options: Any) -> Iterator[ShamServer]:
    with make_server("127.0.0.1", 0, faults, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[ShamServer]:
    with running(max_body=1000) as started:
        yield started


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False  # ignore proxies from the environment
        yield opened


def embeddings_url(server: ShamServer) -> str:
    return server.url.replace("similarity", "embeddings")


def raw_reply(server: ShamServer, sent: bytes) -> tuple[int, str]:
    """Status and error message for raw bytes; the server has to close the connection."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def outcome(session: requests.Session, url: str) -> str:
    """Describe a reply in a word."""
    try:
        reply = session.post(url, json=REQUEST, timeout=10)
    except requests.ConnectionError:
        return "dropped"
    if reply.status_code != 200:
        return str(reply.status_code)
    try:
        return "fine" if math.isfinite(reply.json()["similarity"]) else "NaN"
    except requests.JSONDecodeError:
        return "bad JSON"
    except KeyError:
        return "missing key"


# Numbers


def test_published_similarity(server: ShamServer, session: requests.Session) -> None:
    assert session.post(server.url, json=REQUEST).json() == {"similarity": PUBLISHED}


@pytest.mark.parametrize(
    ("named", "stem"),
    [
        ({"audio_relpath": CLIP}, "EN_-NOsyy0i0-A_W000028"),
        (
            {"audio_relpath": "emolia-dim/data/TEMP/5/positive/sample_03.mp3"},
            "emolia-dim/data/TEMP/5/positive/sample_03",
        ),
        ({"audio_relpath": "my-own/a/x.wav"}, "my-own/a/x"),
        ({"audio_relpath": "my-own/x.wav", "audio_stem": "y", "audio_filename": "z.wav"}, "my-own/x"),
        ({"audio_stem": "y", "audio_filename": "z.wav"}, "y"),
        ({"audio_filename": "z.wav"}, "z"),
        ({"audio_relpath": None, "audio_filename": "z.wav"}, "z"),
        ({"audio_filename": "z.wav", "audio_base64": "AAAA"}, "z"),
        ({"audio_filename": "Grüße.wav"}, "Grüße"),
    ],
)
def test_clip_name_that_is_hashed(
    server: ShamServer, session: requests.Session, named: dict[str, str], stem: str
) -> None:
    reply = session.post(server.url, json={"text": "a sentence", **named})
    assert reply.json() == {"similarity": sham_similarity(stem, "a sentence")}


@pytest.mark.parametrize("path", ["/v1/", "/v1/score", "/v1/models/x/similarity", "/v1/similarity?key=1"])
def test_any_path_below_v1_scores(server: ShamServer, session: requests.Session, path: str) -> None:
    reply = session.post(server.url.replace("/v1/similarity", path), json=REQUEST)
    assert reply.json() == {"similarity": PUBLISHED}


def embed(session: requests.Session, server: ShamServer, inputs: list[str] | str, **fields: str) -> Any:
    reply = session.post(embeddings_url(server), json={"model": "clap", "input": inputs, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_embeddings_are_unit_vectors(server: ShamServer, session: requests.Session) -> None:
    reply = embed(session, server, ["a", "data:audio/wav;base64,AAAA", "a"], modality="audio")
    vectors = np.array([row["embedding"] for row in reply["data"]])
    assert vectors.shape == (3, 64)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert abs(vectors[0] @ vectors[1]) < 0.9
    assert [row["index"] for row in reply["data"]] == [0, 1, 2]
    assert {row["object"] for row in reply["data"]} == {"embedding"}
    assert (reply["object"], reply["model"]) == ("list", "clap")


def test_embedding_does_not_depend_on_batch_or_server(server: ShamServer, session: requests.Session) -> None:
    with running(Faults(seed=5)) as another:
        alone, batched = embed(session, another, "a"), embed(session, server, ["b", "a"])
    assert alone["data"][0]["embedding"] == batched["data"][1]["embedding"]


def test_base64_embeddings(server: ShamServer, session: requests.Session) -> None:
    plain = embed(session, server, ["a"], encoding_format="float")["data"][0]["embedding"]
    coded = embed(session, server, ["a"], encoding_format="base64")["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(coded), "<f4").tolist() == plain


def test_dimension(session: requests.Session) -> None:
    with running(dimension=3) as server:
        assert len(embed(session, server, ["a"])["data"][0]["embedding"]) == 3


# Invalid requests


def test_health(server: ShamServer, session: requests.Session) -> None:
    reply = session.get(server.url.replace("/v1/similarity", "/health"))
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/similarity", 405, "POST"),
        ("POST", "/health", 405, "GET"),
        ("GET", "/", 404, None),
        ("POST", "/v2/similarity", 404, None),
        ("POST", "/v1", 404, None),
        ("PUT", "/v1/similarity", 501, None),
    ],
)
def test_invalid_paths_and_methods(
    server: ShamServer, session: requests.Session, method: str, path: str, status: int, allow: str | None
) -> None:
    reply = session.request(method, server.url.replace("/v1/similarity", path), json=REQUEST)
    assert (reply.status_code, reply.headers.get("Allow")) == (status, allow)
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Invalid JSON"),
        (b'{"text": ', "Invalid JSON"),
        (b'{"text": "\xff", "audio_stem": "x"}', "Invalid JSON"),
        (b'{"text": "\\ud800", "audio_stem": "x"}', "Invalid JSON"),
        (b"[" * 900, "Invalid JSON"),
        (b"[1]", "should be an object"),
        (b'{"audio_stem": "x"}', "text: Field required"),
        (b'{"text": 1, "audio_stem": "x"}', "text: Input should be a valid string"),
        (b'{"text": "a", "audio_relpath": ["x"]}', "audio_relpath: Input should be a valid string"),
        (b'{"text": "a", "audio_stem": "x", "audio_base64": 7}', "audio_base64: Input should be a valid string"),
        (b'{"text": "a", "audio_stem": "x", "audio_base64": "AAA"}', "audio_base64: not valid base64"),
        (b'{"text": "a", "audio_stem": "x", "audio_base64": "A*AA="}', "audio_base64: not valid base64"),
        (b'{"text": "a"}', "one of audio_relpath, audio_stem and audio_filename is required"),
        (b'{"text": "a", "audio_filename": ""}', "one of audio_relpath, audio_stem and audio_filename is required"),
        (b'{"text": 1, "audio_stem": 2}', "text: Input should be a valid string; audio_stem: Input should be a valid"),
    ],
)
def test_invalid_similarity_bodies(server: ShamServer, session: requests.Session, body: bytes, message: str) -> None:
    reply = session.post(server.url, data=body)
    assert reply.status_code == 400
    assert message in reply.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "input: Field required"),
        ({"input": []}, "input: List should have at least 1 item"),
        ({"input": ["a", 1]}, "input: 1: Input should be a valid string"),
        ({"input": {"a": 1}}, "input: Input should be a valid array"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format: Input should be 'float' or 'base64'"),
        ({"input": "a", "modality": "smell"}, "modality: Input should be 'audio' or 'text'"),
    ],
)
def test_invalid_embeddings_bodies(
    server: ShamServer, session: requests.Session, body: dict[str, Any], message: str
) -> None:
    reply = session.post(embeddings_url(server), json=body)
    assert reply.status_code == 400
    assert message in reply.json()["error"]


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        (b"", 411, "Content-Length is missing"),
        (b"Transfer-Encoding: chunked\r\n", 411, "Content-Length is missing"),
        (b"Content-Length: ten\r\n", 400, "'ten' is not a number of bytes"),
        (b"Content-Length: -1\r\n", 400, "'-1' is not a number of bytes"),
        (b"Content-Length: 1001\r\n", 413, "1001 bytes; the limit is 1000"),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", 413, "the limit is 1000"),
    ],
)
def test_invalid_content_length(server: ShamServer, headers: bytes, status: int, message: str) -> None:
    received = raw_reply(server, b"POST /v1/similarity HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    assert received[0] == status
    assert message in received[1]


def test_truncated_body(server: ShamServer) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(b"POST /v1/similarity HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{}")
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"the body ends after 2 of 10 bytes" in received


def test_errors_of_http_library_are_json(server: ShamServer) -> None:
    sent = b"POST /v1/similarity HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"
    assert raw_reply(server, sent) == (431, "Line too long")


def test_max_body(server: ShamServer, session: requests.Session) -> None:
    body = json.dumps(REQUEST).encode()
    assert session.post(server.url, data=body.ljust(1000)).json() == {"similarity": PUBLISHED}
    assert session.post(server.url, data=body.ljust(1001)).status_code == 413


def test_client_that_sends_too_much_receives_error(server: ShamServer) -> None:
    head = b"POST /v1/similarity HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n"
    assert raw_reply(server, head + bytes(20_000_000))[0] == 413


def test_expect_100_continue(server: ShamServer) -> None:
    body = json.dumps(REQUEST).encode()
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        head = f"POST /v1/similarity HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert str(PUBLISHED).encode() in connection.recv(65536)


# Limits on the cost of a request


@pytest.fixture(scope="module")
def roomy() -> Iterator[ShamServer]:
    with running(dimension=1025) as started:
        yield started


COSTLY: dict[str, tuple[str, bytes, int, str]] = {
    "inputs": ("embeddings", b'{"input": [' + b'"a",' * 2048 + b'"a"]}', 400, "at most 2048 items"),
    "numbers": (
        "embeddings",
        b'{"input": [' + b'"a",' * 2047 + b'"a"]}',
        413,
        "2099200 numbers; the limit is 2097152",
    ),
    "invalid inputs": (
        "embeddings",
        b'{"input": [' + b"1," * 3_000_000 + b"1]}",
        400,
        "input: 0: Input should be a valid",
    ),
    "a long sentence": (
        "embeddings",
        b'{"input": "' + b"a" * 65_537 + b'"}',
        400,
        "65537 characters; the limit is 65536",
    ),
    "a long text": (
        "similarity",
        b'{"audio_stem": "x", "text": "' + b"a" * 9_000_000 + b'"}',
        400,
        "at most 65536 char",
    ),
    "a long stem": ("similarity", b'{"text": "x", "audio_stem": "' + b"a" * 65_537 + b'"}', 400, "at most 65536 char"),
    "a long model": ("embeddings", b'{"input": "x", "model": "' + b"a" * 65_537 + b'"}', 400, "at most 65536 char"),
    "nested lists": ("similarity", b"[" * 30_000_000, 400, "Invalid JSON"),
    "nested objects": ("similarity", b'{"a":' * 6_000_000, 400, "Invalid JSON"),
    "nested beside": ("similarity", b'{"text": "x", "a": ' + b"[" * 1000 + b"]" * 1000 + b"}", 400, "Invalid JSON"),
    "a long number": ("similarity", b'{"text": ' + b"9" * 5_000_000 + b"}", 400, ""),
}


@pytest.mark.parametrize("name", COSTLY)
def test_costly_requests_are_rejected_quickly(roomy: ShamServer, session: requests.Session, name: str) -> None:
    path, body, status, message = COSTLY[name]
    started = time.monotonic()
    reply = session.post(roomy.url.replace("similarity", path), data=body, timeout=20)
    assert reply.status_code == status
    assert message in reply.json()["error"]
    assert len(reply.content) < 2000
    assert time.monotonic() - started < 4


def test_largest_request_is_served(session: requests.Session) -> None:
    with running(dimension=1024) as server:
        assert len(embed(session, server, ["a"] * 100)["data"]) == 100
        clip = "data:audio/wav;base64," + "A" * 1_000_000
        assert len(embed(session, server, [clip], modality="audio")["data"]) == 1


def test_max_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sham_server, "MAX_CONNECTIONS", 3)
    with running() as server:
        address = ("127.0.0.1", server.server_port)
        held = [socket.create_connection(address, timeout=10) for _ in range(3)]
        wait_for(lambda: len(server.arriving) == 3)
        with socket.create_connection(address, timeout=10) as extra:
            received = b"".join(iter(lambda: extra.recv(65536), b""))
        assert received.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in received
        for connection in held:
            connection.close()
        wait_for(lambda: not server.arriving)
        assert requests.get(server.url.replace("/v1/similarity", "/health"), timeout=10).status_code == 200


@pytest.mark.parametrize(
    "sent", [b"", b"POST /v1/x HTTP/1.1\r\n", b"POST /v1/x HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"]
)
def test_slow_request_is_closed(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(sham_server, "ARRIVAL_SECONDS", 0.3)
    with running() as server, socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(sent)
        started = time.monotonic()
        with suppress(ConnectionError):
            for i in range(100):  # one byte at a time
                time.sleep(0.02)
                connection.sendall(b"X: y\r\n"[i % 6 : i % 6 + 1])
            while connection.recv(65536):
                pass
        assert time.monotonic() - started < 5
        wait_for(lambda: not server.arriving)


def test_latency_does_not_count_as_slow_request(monkeypatch: pytest.MonkeyPatch, session: requests.Session) -> None:
    monkeypatch.setattr(sham_server, "ARRIVAL_SECONDS", 0.2)
    with running(Faults(latency_ms=(800, 0))) as server:
        assert session.post(server.url, json=REQUEST, timeout=10).json() == {"similarity": PUBLISHED}


# Faults


def outcomes(faults: Faults, n: int) -> list[str]:
    with running(faults) as server, requests.Session() as session:
        session.trust_env = False
        return [outcome(session, server.url) for _ in range(n)]


def test_error_statuses_alternate() -> None:
    assert outcomes(Faults(error_rate=1, status=(429, 503)), 3) == ["429", "503", "429"]


def test_garbage_replies_alternate() -> None:
    assert outcomes(Faults(garbage_rate=1), 4) == ["bad JSON", "NaN", "missing key", "bad JSON"]


def test_dropped_connections() -> None:
    assert outcomes(Faults(drop_rate=1), 2) == ["dropped", "dropped"]


def test_retry_after(session: requests.Session) -> None:
    with running(Faults(error_rate=1, retry_after=7)) as server:
        reply = session.post(server.url, json=REQUEST)
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "7")
        assert reply.json() == {"error": "injected fault"}
    with running(Faults(retry_after=7)) as server:
        assert "Retry-After" not in session.post(server.url, json=REQUEST).headers


def test_garbage_embeddings(session: requests.Session) -> None:
    with running(Faults(garbage_rate=1)) as server:
        bad_json = session.post(embeddings_url(server), json={"input": "a"})
        with pytest.raises(requests.JSONDecodeError):
            bad_json.json()
        coded = embed(session, server, "a", encoding_format="base64")["data"][0]["embedding"]
        assert np.isnan(np.frombuffer(base64.b64decode(coded), "<f4")).all()
        assert embed(session, server, "a") == {}


def test_health_has_no_faults(session: requests.Session) -> None:
    with running(Faults(latency_ms=(60_000, 0), error_rate=1, drop_rate=1)) as server:
        assert session.get(server.url.replace("/v1/similarity", "/health"), timeout=10).json() == {"status": "ok"}


def test_seed_repeats_faults() -> None:
    def mixed(seed: int) -> Faults:
        return Faults(error_rate=0.2, status=(429, 500), garbage_rate=0.3, drop_rate=0.2, seed=seed)

    first = outcomes(mixed(1), 60)
    assert first == outcomes(mixed(1), 60)
    assert first != outcomes(mixed(2), 60)
    assert set(first) == {"fine", "dropped", "429", "500", "bad JSON", "NaN", "missing key"}


def test_fault_rates_are_independent() -> None:
    with running(Faults(drop_rate=0.1)) as alone, running(Faults(drop_rate=0.1, error_rate=0.5)) as both:
        drops = [alone.next_fault()[1] == "drop" for _ in range(10_000)]
        faults = [both.next_fault()[1] for _ in range(10_000)]
    assert drops == [fault == "drop" for fault in faults]
    assert sum(drops) == pytest.approx(1000, abs=150)  # five standard deviations
    assert faults.count(503) == pytest.approx(4500, abs=250)


@pytest.mark.slow
def test_threads_share_sequence_of_faults() -> None:
    faults = Faults(error_rate=0.3, garbage_rate=0.3, drop_rate=0.3)
    with running(faults) as one, running(faults) as many, ThreadPoolExecutor(8) as pool:
        in_turn = Counter(one.next_fault() for _ in range(4000))
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # switch threads often enough to interrupt a draw
        at_once = Counter(pool.map(lambda _: many.next_fault(), range(4000)))
        sys.setswitchinterval(interval)
    assert at_once == in_turn


def test_latency_distribution() -> None:
    with running(Faults(latency_ms=(200, 50))) as near, running(Faults(latency_ms=(10, 100))) as wide:
        waits = [near.next_fault()[0] for _ in range(1000)]
        assert 0.150 <= min(waits) < 0.155 < 0.245 < max(waits) <= 0.250
        assert min(wide.next_fault()[0] for _ in range(1000)) == 0


def test_latency_of_parallel_requests() -> None:
    with running(Faults(latency_ms=(500, 0))) as server, ThreadPoolExecutor(50) as pool:
        started = time.monotonic()
        words = list(pool.map(lambda _: outcome(requests.Session(), server.url), range(50)))
        elapsed = time.monotonic() - started
    assert words == ["fine"] * 50
    assert 0.5 <= elapsed < 2.5


def test_connection_serves_many_requests(server: ShamServer) -> None:
    body = json.dumps(REQUEST).encode()
    sent = f"POST /v1/similarity HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        started = time.monotonic()
        for _ in range(100):
            connection.sendall(sent)
            received = connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 ")
            assert received.endswith(b"}")  # the whole reply in one packet
        assert time.monotonic() - started < 2  # a delayed acknowledgement would cost 40 ms each


# The script


@contextmanager
def script(*flags: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    command = [sys.executable, str(ROOT / "sham_server.py"), "--port", "0", *flags]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, preexec_fn=interruptible, **pipes) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().rstrip("\n")
        finally:
            process.kill()


def test_script_prints_url(session: requests.Session) -> None:
    with script() as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1/similarity", url)
        assert session.post(url, json=REQUEST).json() == {"similarity": PUBLISHED}
        process.terminate()
        out, err = process.communicate(timeout=10)
    assert (out, err) == ("", "")


def test_keyboard_interrupt_has_no_traceback(session: requests.Session) -> None:
    with script() as (process, url):
        session.post(url, json=REQUEST)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in err


@pytest.mark.slow
def test_flags(session: requests.Session) -> None:
    flags = "--verbose --max-body 200 --dimension 5 --latency-ms 1:1 --error-rate 1 --status 418 --retry-after 3"
    with script(*flags.split()) as (process, url):
        reply = session.post(url, json=REQUEST)
        assert (reply.status_code, reply.headers["Retry-After"]) == (418, "3")
        assert session.post(url, data=bytes(201)).status_code == 413
        process.terminate()
        _, err = process.communicate(timeout=10)
    assert '"POST /v1/similarity HTTP/1.1" 418' in err
    with script("--garbage-rate", "1", "--dimension", "5") as (_, url):
        assert outcome(session, url) == "bad JSON"
        reply = session.post(url.replace("similarity", "embeddings"), json={"input": "a"})
        assert len(reply.json()["data"][0]["embedding"]) == 5
    with script("--drop-rate", "1", "--verbose") as (process, url):
        assert outcome(session, url) == "dropped"
        process.terminate()
        assert '"POST /v1/similarity HTTP/1.1" dropped' in process.communicate(timeout=10)[1]


def test_port_in_use(server: ShamServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", str(server.server_port)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"127.0.0.1:{server.server_port}: ")
    assert err.endswith("Choose another --port, or 0 for a free one.\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--error-rate", "1.5"], "'1.5' is not a number from 0 to 1"),
        (["--drop-rate", "nan"], "'nan' is not a number from 0 to 1"),
        (["--status", "200"], "'200' is not a number from 400 to 599"),
        (["--latency-ms", "fast"], "'fast' is not a number"),
        (["--latency-ms", "5:-1"], "'-1' is not a number"),
        (["--dimension", "3000000"], "'3000000' is not a number from 1 to"),
        (["--port", "70000"], "'70000' is not a number from 0 to 65535"),
    ],
)
def test_invalid_usage(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(flags)
    assert message in capsys.readouterr().err
