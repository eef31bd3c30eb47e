"""The HTTP client against servers that are slow, broken or hostile."""

import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from earmark.errors import MissingError
from earmark.models.http import Client, RefusedError, TransientError
from tests.hostile import Reply, hostile_server

BODY = b'{"text": "x"}'
FINE = Reply({"similarity": 0.5})


def first_then_fine(*first):
    return lambda n, body: first[n] if n < len(first) else FINE


def test_post_returns_decoded_json():
    with hostile_server(lambda n, body: Reply({"seen": body})) as server:
        assert Client(server.url).post(BODY) == {"seen": {"text": "x"}}


@pytest.mark.slow
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_transient_status_is_retried(status):
    with hostile_server(first_then_fine(Reply({"error": "busy"}, status))) as server:
        client = Client(server.url)
        assert client.post(BODY) == {"similarity": 0.5}
        assert (len(server.requests), client.traffic.retries) == (2, 1)


@pytest.mark.parametrize("status", [400, 404, 405, 413, 422])
def test_permanent_status_is_not_retried(status):
    with hostile_server(lambda n, body: Reply({"error": "no such thing"}, status)) as server:
        with pytest.raises(RefusedError, match=rf"HTTP {status}: .*no such thing"):
            Client(server.url).post(BODY)
        assert len(server.requests) == 1


def test_status_413_with_retry_after_is_not_retried():
    with hostile_server(lambda n, body: Reply({"error": "too large"}, 413, {"Retry-After": "0"})) as server:
        with pytest.raises(RefusedError, match="413"):
            Client(server.url).post(BODY)
        assert len(server.requests) == 1


@pytest.mark.slow
def test_retry_after_seconds():
    with hostile_server(first_then_fine(Reply({}, 429, {"Retry-After": "2"}))) as server:
        started = time.monotonic()
        Client(server.url).post(BODY)
        assert time.monotonic() - started >= 2


@pytest.mark.slow
def test_retry_after_date():
    def behave(n, body):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=4), usegmt=True)
        return Reply({}, 503, {"Retry-After": date}) if n == 0 else FINE

    with hostile_server(behave) as server:
        started = time.monotonic()
        Client(server.url).post(BODY)
        assert time.monotonic() - started >= 2.5  # a date has whole seconds


def test_retry_after_beyond_max_wait_fails_at_once():
    with hostile_server(lambda n, body: Reply({"error": "tomorrow"}, 503, {"Retry-After": "86400"})) as server:
        started = time.monotonic()
        with pytest.raises(TransientError, match="tomorrow"):
            Client(server.url, max_wait=5).post(BODY)
        assert time.monotonic() - started < 2


@pytest.mark.slow
def test_retries_bridge_outage_of_ten_seconds():
    born = time.monotonic()
    with hostile_server(lambda n, body: Reply({}, 500) if time.monotonic() - born < 10 else FINE) as server:
        client = Client(server.url)
        assert client.post(BODY) == {"similarity": 0.5}
        assert client.traffic.retries >= 3


@pytest.mark.slow
def test_retries_are_counted_and_limited():
    with hostile_server(lambda n, body: Reply({}, 500)) as server:
        client = Client(server.url, retries=2)
        with pytest.raises(TransientError, match="HTTP 500"):
            client.post(BODY)
        assert (len(server.requests), client.traffic.retries) == (3, 2)


@pytest.mark.slow
def test_dropped_connection_is_retried():
    with hostile_server(first_then_fine(Reply(drop=True))) as server:
        assert Client(server.url).post(BODY) == {"similarity": 0.5}


@pytest.mark.slow
def test_late_server_start_is_retried():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ready, done = threading.Event(), threading.Event()

    def start_late():
        ready.wait()
        time.sleep(1.5)
        with hostile_server(lambda n, body: FINE, port):
            done.wait(20)

    thread = threading.Thread(target=start_late)
    thread.start()
    try:
        ready.set()
        assert Client(f"http://127.0.0.1:{port}/v1/x").post(BODY) == {"similarity": 0.5}
    finally:
        done.set()
        thread.join()


def test_refused_connection_quotes_system_error():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/"
    with pytest.raises(TransientError, match=r"no connection.*refused"):
        Client(url, retries=0).post(BODY)


def dripping():
    while True:
        time.sleep(0.05)
        yield b" "


def test_endless_reply_times_out():
    with hostile_server(lambda n, body: Reply(parts=dripping())) as server:
        started = time.monotonic()
        with pytest.raises(TransientError, match=r"no complete reply within 0\.5 s"):
            Client(server.url, timeout=0.5, retries=0).post(BODY)
        assert time.monotonic() - started < 3


def test_silent_server_times_out():
    with hostile_server(lambda n, body: time.sleep(3) or FINE) as server:
        started = time.monotonic()
        with pytest.raises(TransientError, match=r"within 0\.5 s"):
            Client(server.url, timeout=0.5, retries=0).post(BODY)
        assert time.monotonic() - started < 2


def test_large_reply_is_not_read_completely():
    sent = []

    def hundred_megabytes():
        for _ in range(100):
            sent.append(1)
            yield b"x" * 1_000_000

    with hostile_server(lambda n, body: Reply(parts=hundred_megabytes())) as server:
        with pytest.raises(RefusedError, match="longer than 1,048,576 bytes"):
            Client(server.url).post(BODY)
        assert len(sent) < 50


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"similarity": 0.', "not JSON"),
        (b"<html><h1>Bad Gateway</h1></html>", "not JSON: <html>"),
        (b"", "empty reply"),
    ],
)
def test_invalid_json_is_quoted_and_not_retried(body, message):
    with hostile_server(lambda n, b: Reply(body)) as server:
        with pytest.raises(RefusedError, match=message):
            Client(server.url).post(BODY)
        assert len(server.requests) == 1


def test_deeply_nested_json_is_error():
    with hostile_server(lambda n, body: Reply(b"[" * 200_000)) as server, pytest.raises(RefusedError, match="not JSON"):
        Client(server.url).post(BODY)


def test_server_message_is_limited_to_500_characters():
    with hostile_server(lambda n, body: Reply(b"y" * 5000, 400)) as server:
        with pytest.raises(RefusedError) as caught:
            Client(server.url).post(BODY)
        assert str(caught.value).count("y") == 500


@pytest.mark.parametrize("status", [401, 403])
def test_unauthorised_names_token_variable(status):
    with hostile_server(lambda n, body: Reply({"error": "who are you"}, status)) as server:
        with pytest.raises(MissingError, match="EARMARK_API_KEY"):
            Client(server.url).post(BODY)
        assert len(server.requests) == 1


def test_token_is_sent_but_not_shown():
    with hostile_server(lambda n, body: Reply({"error": "no"}, 400)) as server:
        client = Client(server.url, token="s3cret-token")
        with pytest.raises(RefusedError) as caught:
            client.post(BODY)
        assert server.requests[0][0]["Authorization"] == "Bearer s3cret-token"
        assert "s3cret" not in f"{caught.value} {client!r} {client.traffic!r}"


def test_redirects_are_not_followed():
    with (
        hostile_server(lambda n, body: FINE) as elsewhere,
        hostile_server(lambda n, body: Reply({}, 307, {"Location": elsewhere.url})) as server,
    ):
        with pytest.raises(RefusedError, match="redirects are not followed"):
            Client(server.url, token="s3cret-token").post(BODY)
        assert elsewhere.requests == []


def test_close_stops_waiting_for_retry():
    with hostile_server(lambda n, body: Reply({}, 503, {"Retry-After": "30"})) as server:
        client = Client(server.url)
        threading.Timer(0.3, client.close).start()
        started = time.monotonic()
        with pytest.raises(RefusedError, match="stopping"):
            client.post(BODY)
        assert time.monotonic() - started < 5


def test_latency_percentiles_in_milliseconds():
    client = Client("http://127.0.0.1:1/")
    for milliseconds in range(1, 101):
        client.traffic.replied(milliseconds / 1000)
    summary = client.traffic.as_dict()
    assert summary["latency_ms"] == {"p50": 50.5, "p95": 95.0, "p99": 99.0}
    assert summary["replies"] == 100
    assert Client("http://127.0.0.1:1/").traffic.as_dict()["latency_ms"]["p50"] is None


def test_proxy_resolves_host(monkeypatch):
    with hostile_server(lambda n, body: FINE) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.rpartition("/v1")[0])
        monkeypatch.delenv("no_proxy", raising=False)
        client = Client("http://behind-the-proxy.invalid/v1/embeddings")
        client.require_reachable()
        assert client.post(BODY) == {"similarity": 0.5}
        assert len(proxy.requests) == 2


def test_require_reachable_names_address():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(
        MissingError, match=rf"127\.0\.0\.1:{port}/v1: no connection \(Failed .*refused\); check the address"
    ):
        Client(f"http://127.0.0.1:{port}/v1").require_reachable()
    assert time.monotonic() - started < 5
