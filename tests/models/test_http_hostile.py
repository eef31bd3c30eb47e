"""Hundreds of invalid replies: each gives a result or one error, in time, and shows no secret."""

import base64
import contextlib
import gzip
import html
import itertools
import json
import os
import re
import socket
import threading
import time
import traceback
import zlib
from contextlib import contextmanager
from email.utils import format_datetime
from urllib.parse import quote, unquote

import pytest

from earmark.audio_text.scorers.endpoint import parse_similarity
from earmark.errors import MissingError
from earmark.models.embeddings_api import embeddings_from_reply
from earmark.models.http import Client, RefusedError, TransientError, UnauthorisedError, _retry_after
from tests.hostile import Reply, drip, endless, hostile_server

EXPECTED = (TransientError, RefusedError, UnauthorisedError)
OK = b"HTTP/1.1 200 OK\r\n"
FINE = b'{"similarity": 0.5}'
NOISE = os.urandom(9999)
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def reply(body=FINE, status=b"200 OK", headers=b""):
    """The bytes of a complete reply."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)


JSON_VALUES = [
    *(b"", b" ", b"\0", b"null", b"true", b"1", b'"x"', b"[]", b"{}", b"{", b'{"similarity"', b'{"similarity": }'),
    *(
        b"{'similarity': 1}",
        b'{"similarity": 1,}',
        b'{"similarity": 01}',
        b'{"similarity": .5}',
        b'{"similarity": 0x1}',
    ),
    *(b'{"similarity": 1}{"similarity": 1}', b'{"similarity": 1} x', b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b"\x80\x81"),
    *(b'{"similarity": "1"}', b'{"similarity": null}', b'{"similarity": [1]}', b'{"similarity": {"value": 1}}'),
    *(b'{"similarity": NaN}', b'{"similarity": -Infinity}', b'{"similarity": 1e400}', b'{"similarity": -1e999}'),
    b'{"similarity": ' + b"9" * 4000 + b"}",
    b'{"similarity": ' + b"9" * 10_000 + b"}",
    b'{"similarity": 0.' + b"1" * 100_000 + b"x}",
    b'{"similarity": 1, "similarity": 2}',
    b'{"a": [{"b": 1, "b": 2}], "similarity": 1}',
    b'{"similarity": 1, "simil\\u0061rity": 2}',
    *(
        b'{"similarity": "%s"}' % half
        for half in (b"\\ud800", b"\\udfff", b"\\ud83d", b"\xed\xa0\x80", b"\\udc00\\ud800")
    ),
    *(b'{"%s": 1}' % half for half in (b"\\ud800", b"\xed\xa0\x80", b"\\u0000", b"\xff")),
    b'{"error": "\x1b[2J\x1b]0;title\x07 \\u001b[31m \xe2\x80\xae"}',
    b'{"error": "a\\nb\\r\\nc\\u2028d\\u0085e"}',
    *(b"[" * n + b"]" * n for n in (100, 500, 900, 950, 990, 1000, 5000)),
    *(b'{"similarity": ' + b"[" * n + b"]" * n + b"}" for n in (100, 900, 950, 990, 1000)),
    *(b'{"a":' * n + b"1" + b"}" * n for n in (100, 500, 900, 950, 990, 1000, 50_000)),
    "{}".encode("utf-16"),
    '{"similarity": "\ud800"}'.encode("utf-32", "surrogatepass"),
    b"<html>" + b"x" * 10_000,
    b" " * 100_000,
    b"\r\n" * 50_000 + b"x",
]
STATUSES = [*range(100, 110), *range(203, 209), 218, 226, *range(300, 309), 399, *range(400, 432), 444, 451, 499]
STATUSES += [*range(500, 512), *range(520, 532), 598, 599, 600, 700, 799, 999]
STATUS_LINES = [
    *(
        b"HTTP/1.1 0 Zero",
        b"HTTP/1.1 99 Low",
        b"HTTP/1.1 1000 High",
        b"HTTP/1.1 -1 Minus",
        b"HTTP/1.1 2OO OK",
        b"HTTP/1.1",
    ),
    *(
        b"HTTP/9.9 200 OK",
        b"HTTP/2 200",
        b"HTP/1.1 200 OK",
        b"ICY 200 OK",
        b"200 OK",
        b"\0\0\0",
        b"\xff\xfe",
        b"",
        b" ",
    ),
    *(
        b"HTTP/1.1 200 " + b"x" * 70_000,
        b"HTTP/1.1 200 \xed\xa0\x80",
        b"HTTP/1.1 999999999999999999999 x",
        b"SSH-2.0-x",
    ),
]
HEADERS = [
    *(b"Content-Length: -1", b"Content-Length: x", b"Content-Length: 5, 6", b"Content-Length: 99999999999999999999"),
    *(b"Content-Length: 19\r\nContent-Length: 3", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, chunked"),
    *(
        b"Content-Encoding: gzip",
        b"Content-Encoding: br",
        b"Content-Encoding: zstd",
        b"Content-Encoding: deflate, gzip",
    ),
    *(
        b"Content-Encoding: " + b"gzip," * 50,
        b"X: " + b"y" * 70_000,
        b": no name",
        b"no colon",
        b"\xff\xfe: \xff",
        b" folded: 1",
    ),
    *(
        b"Content-Type: application/json; charset=\xff",
        b"Content-Type: text/html; charset=utf-99",
        b"Set-Cookie: " + b"=" * 999,
    ),
    *(b"Set-Cookie: a=\xed\xa0\x80; expires=nonsense; domain=.; path=\0", b"Connection: upgrade\r\nUpgrade: websocket"),
    b"\r\n".join(b"X-%d: 1" % i for i in range(99)),
    b"\r\n".join(b"X-%d: 1" % i for i in range(500)),
]
LOCATIONS = [
    b"",
    b"/",
    b"//",
    b"http://",
    b"http://[",
    b"http://h:x/",
    b"\xff\xfe",
    b"file:///etc/passwd",
    b"\xed\xa0\x80",
    b"http://h:99999/",
]
RETRY_AFTERS = [
    *(
        "",
        "x",
        "-5",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "0x10",
        "9" * 400,
        "1 2",
        "\t",
        "Wed",
        "Wed, 99 Foo 2026 99:99:99 GMT",
    ),
    *("Mon, 01 Jan 99999 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 +9999", "Mon, 01 Jan 2026 00:00:00 +99999999999999"),
    *("Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359", "Mon, 01 Jan 2026 00:00:00 -0000", "1 Jan"),
]
CHUNKS = [
    *(
        b"",
        b"x",
        b"-1\r\n",
        b"ffffffffffffffffffff\r\n",
        b"5\r\nab",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"\r\n\r\n",
        b"0x3\r\n{} \r\n0\r\n\r\n",
    ),
    *(
        b"13;" + b"x" * 70_000 + b"\r\n" + FINE + b"\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"2\r\n{}\r\n",
    ),
]
ENCODED = [
    gzip.compress(FINE, mtime=0)[:-5],
    gzip.compress(FINE, mtime=0) + b"x",
    zlib.compress(FINE),
    b"\x1f\x8b" + b"\0" * 50,
]

CASES = {f"json {i}": reply(body) for i, body in enumerate(JSON_VALUES)}
CASES |= {f"json {i} as 500": reply(body, b"500 E") for i, body in enumerate(JSON_VALUES)}
CASES |= {f"status {status}": reply(status=b"%d X" % status) for status in STATUSES}
CASES |= {f"status line {i}": line + b"\r\n\r\n" + FINE for i, line in enumerate(STATUS_LINES)}
CASES |= {f"header {i}": OK + header + b"\r\n\r\n" + FINE for i, header in enumerate(HEADERS)}
CASES |= {
    f"location {status} {i}": reply(status=b"%d X" % status, headers=b"Location: " + location + b"\r\n")
    for (i, location), status in itertools.product(enumerate(LOCATIONS), (200, 300, 301, 308, 999))
}
CASES |= {
    f"retry after {i}": reply(status=b"429 X", headers=b"Retry-After: " + text.encode() + b"\r\n")
    for i, text in enumerate(RETRY_AFTERS)
}
CASES |= {f"chunks {i}": CHUNKED + chunks for i, chunks in enumerate(CHUNKS)}
CASES |= {f"encoded {i}": reply(body, headers=b"Content-Encoding: gzip\r\n") for i, body in enumerate(ENCODED)}
CASES |= {f"cut after {n}": reply()[:n] for n in range(0, len(reply()), 3)}
# Valid replies with harmless oddities of real servers.
ANSWERS = {
    "plain": reply(),
    "chunked": CHUNKED + b"13;ext=1\r\n" + FINE + b"\r\n0\r\nX: y\r\n\r\n",
    "no length": OK + b"\r\n" + FINE,
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + reply(),
    "created": reply(status=b"201 Created"),
    "gzip": reply(gzip.compress(FINE, mtime=0), headers=b"Content-Encoding: gzip\r\n"),
    "byte order mark": reply(b"\xef\xbb\xbf" + FINE),
    "utf-16": reply(FINE.decode().encode("utf-16")),
    "cookies": reply(headers=b"Set-Cookie: a=b\r\nX: \xff\r\n"),
    "location": reply(headers=b"Location: http://h:x/\r\n"),
    "further keys": reply(b'{"similarity": 0.5, "note": "\\ud800"}'),
}


def post_outcome(client, read=parse_similarity):
    """Post one request; return the result or the error."""
    try:
        return client.post(b"{}", read)
    except EXPECTED as error:
        return error


def require_harmless(error):
    text = str(error)
    text.encode("utf-8")
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text.split("\n")[0]) < 1000


def test_number_of_hostile_cases():
    assert len(CASES) > 350


@pytest.fixture(scope="module")
def scripted():
    """A server that sends the contents of `script`."""
    script = {}
    with hostile_server(lambda n, body: Reply(raw=[script["raw"]])) as server:
        yield server, script


@pytest.mark.parametrize("name", CASES)
def test_invalid_reply_fails_only_its_request(scripted, name):
    server, script = scripted
    script["raw"] = CASES[name]
    for read in (parse_similarity, lambda data: embeddings_from_reply(data, 1)):
        outcome = post_outcome(Client(server.url, retries=0, timeout=5), read)
        if outcome != 0.5:  # some of these contain a valid reply
            assert isinstance(outcome, EXPECTED), outcome
            require_harmless(outcome)


@pytest.mark.parametrize("name", ANSWERS)
def test_unusual_valid_replies_are_accepted(scripted, name):
    server, script = scripted
    script["raw"] = ANSWERS[name]
    assert post_outcome(Client(server.url, retries=0, timeout=5)) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("status", [*range(520, 530), 500, 408])
def test_proxy_statuses_are_retried(status):
    with hostile_server(lambda n, body: Reply({}, status if n == 0 else 200)) as server:
        assert Client(server.url).post(b"{}") == {}
        assert len(server.requests) == 2


@pytest.mark.parametrize("status", [300, 304, 399, 600, 999])
def test_error_status_with_valid_body_is_error(status):
    with hostile_server(lambda n, body: Reply(FINE, status)) as server:
        with pytest.raises(RefusedError, match=f"HTTP {status}"):
            Client(server.url).post(b"{}")
        assert len(server.requests) == 1


@pytest.mark.parametrize("header", RETRY_AFTERS)
def test_retry_after_parsing(header):
    seconds = _retry_after(header)
    assert seconds is None or seconds >= 0


# --- time -----------------------------------------------------------------------------------------------------------

SLOW = {
    "status line": lambda: drip(reply(), 0.05),
    "headers": lambda: itertools.chain([OK], drip(b"X: " + b"y" * 10_000, 0.05)),
    "headers line by line": lambda: itertools.chain([OK], endless(b"X: y\r\n", 0.05)),
    "interim replies": lambda: endless(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "interim replies that drip": lambda: endless(b"HTTP/1.1 100 Continue\r\n\r\n", 0.1),
    "headers of an interim reply": lambda: itertools.chain([b"HTTP/1.1 100 Continue\r\n"], endless(b"X: y\r\n", 0.05)),
    "body": lambda: itertools.chain([OK + b"Content-Length: 9999\r\n\r\n"], endless(b" ", 0.05)),
    "body without length": lambda: itertools.chain([OK + b"\r\n" + FINE], endless(b" ", 0.05)),
    "silence after a whole body without length": lambda: itertools.chain([OK + b"\r\n" + FINE], endless(b"", 0.05)),
    "a chunk's size": lambda: itertools.chain([CHUNKED], endless(b"0", 0.05)),
    "a chunk's extension": lambda: itertools.chain([CHUNKED + b"2;"], endless(b"x", 0.05)),
    "chunks' extensions": lambda: itertools.chain([CHUNKED], endless(b"1;" + b"x" * 60_000 + b"\r\n \r\n", 0.02)),
    "trailers": lambda: itertools.chain([CHUNKED + b"2\r\n{}\r\n0\r\n"], endless(b"X: y\r\n")),
    "trailers that drip": lambda: itertools.chain([CHUNKED + b"2\r\n{}\r\n0\r\n"], drip(b"X: y\r\n" * 999, 0.05)),
    "a redirect": lambda: itertools.chain([b"HTTP/1.1 301 X\r\nLocation: /\r\n\r\n"], endless(b"x", 0.05)),
    "an error": lambda: itertools.chain([b"HTTP/1.1 500 X\r\nContent-Length: 999\r\n\r\n"], endless(b"x", 0.05)),
    "gzip": lambda: itertools.chain(
        [OK + b"Content-Encoding: gzip\r\n\r\n"], drip(gzip.compress(os.urandom(9999)), 0.05)
    ),
    "nothing": lambda: endless(b"", 0.05),
}


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["timeout", "max_wait"])
@pytest.mark.parametrize("name", SLOW)
def test_reply_time_is_limited(name, bound):
    seconds = {"timeout": 60, "max_wait": 300, "retries": 0, bound: 0.4}
    with hostile_server(lambda n, body: Reply(raw=SLOW[name]())) as server:
        client = Client(server.url, **seconds)
        started = time.monotonic()
        with pytest.raises(TransientError, match=r"no complete reply within 0\.4 s"):
            client.post(b"{}")
        assert time.monotonic() - started < 2
    assert not [thread for thread in threading.enumerate() if thread.name == "deadline"]


@pytest.mark.slow
def test_max_wait_limits_all_retries():
    with hostile_server(lambda n, body: Reply(raw=SLOW["headers"]())) as server:
        started = time.monotonic()
        with pytest.raises(TransientError, match="no complete reply"):
            Client(server.url, timeout=0.5, max_wait=2.2, retries=50).post(b"{}")
        assert time.monotonic() - started < 4
        assert len(server.requests) >= 2


def test_reused_connection_times_out():
    def behave(n, body):
        return Reply(json.loads(FINE)) if n == 0 else Reply(raw=SLOW["headers"]())

    with hostile_server(behave) as server:
        client = Client(server.url, timeout=0.4, retries=0)
        assert client.post(b"{}") == {"similarity": 0.5}
        started = time.monotonic()
        with pytest.raises(TransientError, match=r"within 0\.4 s"):
            client.post(b"{}")
        assert time.monotonic() - started < 2


@pytest.mark.slow
def test_reply_after_timeout_is_not_mixed():
    def behave(n, body):
        return Reply(raw=SLOW["body"]()) if n % 2 == 0 else Reply({"n": n})

    with hostile_server(behave) as server:
        client = Client(server.url, timeout=0.4)
        assert [client.post(b"{}") for _ in range(3)] == [{"n": 1}, {"n": 3}, {"n": 5}]


@contextmanager
def listener(serve):
    """A TCP server that calls `serve` with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def dripping_bytes(connection):
    try:
        for part in drip(b"\x16\x03\x03\x3f\xff" + b"\x02" * 10_000, 0.05):
            connection.sendall(part)
    except OSError:
        pass


def never_reading(connection):
    time.sleep(5)
    connection.close()


def reading_slowly(connection):
    try:
        while connection.recv(1000):
            time.sleep(0.05)
    except OSError:
        pass


@pytest.mark.parametrize(
    ("scheme", "serve"),
    [("https", dripping_bytes), ("https", never_reading), ("http", never_reading), ("http", reading_slowly)],
)
def test_tls_and_sending_time_out(scheme, serve):
    with listener(serve) as port:
        started = time.monotonic()
        with pytest.raises(TransientError, match=r"within 0\.4 s"):
            Client(f"{scheme}://127.0.0.1:{port}/", timeout=0.4, retries=0).post(b"x" * 50_000_000)
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("url", ["http://example.invalid/v1", "https://example.invalid/v1"])
def test_proxy_times_out(monkeypatch, url):
    def dripping_proxy(connection):
        connection.recv(65536)
        try:
            for part in itertools.chain([b"HTTP/1.1 200 OK\r\n"], endless(b"X: y\r\n", 0.05)):
                connection.sendall(part)
        except OSError:
            pass

    with listener(dripping_proxy) as port:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://proxy-user:proxy-password@127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        started = time.monotonic()
        with pytest.raises(TransientError, match=r"within 0\.4 s"):
            Client(url, timeout=0.4, retries=0).post(b"{}")
        assert time.monotonic() - started < 2


def test_require_reachable_times_out():
    def interim(connection):
        with contextlib.suppress(OSError):
            for part in endless(b"HTTP/1.1 100 Continue\r\n\r\n", 0.05):
                connection.sendall(part)

    with listener(interim) as port:
        started = time.monotonic()
        with pytest.raises(MissingError, match=r"http://127.*/v1: no connection \(no reply within 0\.4 s\); check"):
            Client(f"http://u:s3cret@127.0.0.1:{port}/v1?key=s3cret").require_reachable(0.4)
        assert time.monotonic() - started < 2


def test_redirect_body_is_not_read():
    sent = []

    def parts():
        yield b"HTTP/1.1 307 X\r\nLocation: /elsewhere\r\n\r\n"
        for _ in range(200):
            sent.append(1)
            yield b"x" * 1_000_000

    with hostile_server(lambda n, body: Reply(raw=parts())) as server:
        with pytest.raises(RefusedError, match="longer than 1,048,576 bytes"):
            Client(server.url).post(b"{}")
        assert len(sent) < 50


def test_cookies_are_not_kept():
    with hostile_server(lambda n, body: Reply({}, headers={"Set-Cookie": "model=1; Path=/"})) as server:
        client = Client(server.url)
        client.post(b"{}")
        client.post(b"{}")
        assert "Cookie" not in server.requests[1][0]


# --- secrets --------------------------------------------------------------------------------------------------------

TOKEN, USER, PASSWORD, KEY = "tok-Ab12Cd34.Xy98+Zw76/Q", "user-name", "pass/wört 77!", "qu3ry-k3y-9988"
ADDRESS = f"{USER}:{quote(PASSWORD, safe='')}"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (TOKEN, USER, PASSWORD, KEY, BASIC)


def spellings(secret):
    """Encodings in which a server may echo a secret."""
    data = secret.encode()
    yield from (
        secret,
        secret.upper(),
        secret[:-3],
        secret[3:],
        secret[2:12],
        f"{secret[:7]}…{secret[-7:]}",
        f"x{secret}x",
    )
    yield from (quote(secret), quote(secret, safe=""), quote(quote(secret, safe=""), safe=""))
    yield "".join(f"%{byte:02x}" for byte in data)
    yield "".join(f"%{byte:02X}" if i % 2 else chr(byte) for i, byte in enumerate(data) if byte < 128)
    yield from ("".join(f"\\u{ord(c):04x}" for c in secret), "".join(f"\\\\u{ord(c):04X}" for c in secret))
    yield from ("".join(f"\\x{ord(c):02x}" for c in secret), "".join(f"&#{ord(c)};" for c in secret))
    yield from ("".join(f"&#x{ord(c):x};" for c in secret), secret.replace("/", "\\/"), json.dumps(secret))
    yield from (base64.b64encode(data).decode(), base64.urlsafe_b64encode(b"x" + data).decode())
    yield from (base64.b64encode(b"Bearer " + data).decode(), base64.b64encode(b"ab" + data + b"cd").decode())
    yield from (data.hex(), data.hex().upper(), "".join(f"={byte:02X}" for byte in data), data.decode()[::-1])
    yield from ("\0".join(secret), secret[:6] + "\x1b[0m" + secret[6:], "\u200b".join(secret))


def reveals(text, secret):
    """Whether a text contains six consecutive characters of a secret: plain, escaped or in base64."""
    plain = [
        text,
        unquote(text),
        html.unescape(text),
        re.sub(r"\\+u00(..)|\\+x(..)", lambda m: chr(int(m[1] or m[2], 16)), text),
    ]
    plain += [text[::-1], re.sub("=([0-9A-Fa-f]{2})", lambda m: chr(int(m[1], 16)), text)]
    for run in re.findall("[0-9A-Fa-f]{12,}", text):
        plain += [bytes.fromhex(run[i : len(run) - (len(run) - i) % 2]).decode("latin-1") for i in range(2)]
    for run in re.findall(r"[\w+/-]{8,}", text, re.ASCII):
        for start in range(4):
            coded = run[start:].translate(str.maketrans("-_", "+/"))
            plain.append(base64.b64decode(coded[: len(coded) // 4 * 4]).decode("utf-8", "replace"))
    return any(secret[i : i + 6].lower() in seen.lower() for seen in plain for i in range(len(secret) - 5))


def test_secret_oracle_detects_secrets():
    assert all(reveals(spelled, TOKEN) for spelled in itertools.islice(spellings(TOKEN), 9))
    assert reveals(base64.b64encode(b"x" + TOKEN.encode()).decode(), TOKEN)
    assert not reveals("HTTP 400: nothing of it, and QmVhcmVyIH", TOKEN)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["start", "across the cut", "far behind the cut"])
@pytest.mark.parametrize("status", [200, 302, 400, 401, 429, 500, 999])
def test_messages_show_no_encoded_secret(place, status):
    before = {"start": 0, "across the cut": 490, "far behind the cut": 3990}[place]
    sent = [spelled for secret in SECRETS for spelled in spellings(secret)]
    filler = b"." * before
    with hostile_server(lambda n, body: Reply(filler + sent[n].encode("utf-8", "replace"), status)) as server:
        url = server.url.replace("http://", f"http://{ADDRESS}@") + f"?api_key={KEY}&v=1"
        client = Client(url, token=TOKEN, retries=0)
        for spelled in sent:
            with pytest.raises(EXPECTED) as caught:
                client.post(b"{}", parse_similarity)
            shown = "".join(traceback.format_exception(caught.value)) + str(caught.value) + repr(client)
            for secret in SECRETS:
                assert not reveals(str(caught.value), secret), (spelled, str(caught.value))
                assert secret not in shown
        assert server.requests[0][0]["Authorization"] == f"Bearer {TOKEN}"


def test_url_credentials_are_sent_but_not_shown():
    echo = {}

    def behave(n, body):
        return Reply({"you sent": echo.get("sent", "")}, 400)

    with hostile_server(behave) as server:
        client = Client(server.url.replace("http://", f"http://{ADDRESS}@"), retries=0)
        post_outcome(client)
        echo["sent"] = server.requests[0][0]["Authorization"]
        message = str(post_outcome(client))
    sent = base64.b64decode(echo["sent"].removeprefix("Basic "))
    assert sent in (f"{USER}:{PASSWORD}".encode(), f"{USER}:{PASSWORD}".encode("latin-1"))
    assert "(hidden)" in message and echo["sent"].removeprefix("Basic ")[:8] not in message


def test_text_around_secret_is_shown():
    with hostile_server(lambda n, body: Reply({"error": f"key {TOKEN} has no quota"}, 402)) as server:
        message = str(post_outcome(Client(server.url, token=TOKEN)))
    assert message == 'HTTP 402: {"error": "key (hidden) has no quota"}'


@pytest.mark.parametrize(
    "url",
    [
        "http://user-name:s3cret-pw@127.0.0.1:1/v1?key=s3cret-pw",
        "http://user-name:s3cret-pw@127.0.0.1:99999/v1",
        "http://user-name:s3cret-pw@127.0.0.1:port/v1",
        "http://user-name:s3cret/pw@127.0.0.1:1/v1",
        "http://user-name:s3cret[pw@127.0.0.1:1/v1",
        "http://user-name:s3cret-pw@[::1/v1",
        "http://user-name:s3cret-pw@/v1",
        "http://user-name:s3cret-pw@a..b/v1",
        "http://user-name:s3cret-pw@" + "x" * 300 + "/v1",
        "http://user-name:s3cret-pw@h\u0130/v1?s3cret-pw",
        "http://user-name:s3cret-pw@.example/v1",
        "http://user-name:s3cret-pw@127.0.0.1:1/\ud800",
        "http://s3cret-pw@127.0.0.1:1/\0",
        "ftp://user-name:s3cret-pw@127.0.0.1/v1",
        "http://",
        "nonsense-s3cret-pw",
    ],
)
def test_invalid_url_error_shows_no_secret(url):
    client = Client(url, retries=0)
    failure = post_outcome(client)
    assert isinstance(failure, EXPECTED)
    require_harmless(failure)
    with pytest.raises(
        MissingError, match=r"no connection .*; check the address and that the server is running"
    ) as caught:
        client.require_reachable()
    require_harmless(caught.value)
    for error in (failure, caught.value):
        shown = "".join(traceback.format_exception(error))
        assert "s3cret" not in shown.replace("nonsense-s3cret-pw", "")


@pytest.mark.parametrize(
    "token",
    [
        "s3cret\n",
        "s3cret\r\nX: 1",
        "s3\0cret",
        "s3cret\u2026",
        "s3cret\ud800",
        "s3cret\x7f",
        "\x1bs3cret",
        " s3cret",
        "s3cret\t",
    ],
)
def test_invalid_token_is_rejected_before_sending(token):
    with pytest.raises(MissingError, match=r"^EARMARK_API_KEY: the token .*\. Set it to the token only\.$") as caught:
        Client("http://127.0.0.1:1/", token=token)
    require_harmless(caught.value)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize("token", ["simple", "with blank inside", "ünïcode", "a=b;c,d\"e'f"])
def test_valid_tokens_are_sent(token):
    with hostile_server(lambda n, body: Reply({})) as server:
        Client(server.url, token=token).post(b"{}")
        assert server.requests[0][0]["Authorization"] == f"Bearer {token}"


def test_retry_after_future_date():
    from datetime import UTC, datetime, timedelta

    assert 8 < (_retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)) or 0) <= 10
