"""Downloads from a server with simulated faults."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.errors import EarmarkError, MissingError
from earmark.files import download
from earmark.files.archives import escapes_directory
from earmark.files.download import RemoteFile, fetch, hub_files, zenodo_files
from tests.conftest import ROOT, visible, wait_for
from tests.file_server import Fault, file_server
from tests.hostile import Reply, drip, endless, hostile_server

CONTENT = hashlib.shake_256(b"content").digest(512_000)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
TOKEN = "Bearer hf_verysecret"


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch):
    monkeypatch.setattr(download, "BACK_OFF", 0.01)


@pytest.fixture
def server():
    with file_server() as running:
        running.files["/data.bin"] = CONTENT
        yield running


def remote(server, name="data.bin", size=512_000, checksum=MD5):
    return RemoteFile(name, f"{server.url}/data.bin", size, checksum)


# --- names and checksums --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "C:\\a", "..\\a", "\\\\host\\a", "", ".", "a\0b"])
def test_remote_file_rejects_escaping_name(name):
    assert escapes_directory(name)
    with pytest.raises(ValueError, match="leaves the target directory"):
        RemoteFile(name, "http://127.0.0.1/a")


@given(st.lists(st.sampled_from(["..", ".", "a", "b", "", "/", "\\", "c:"]), max_size=6), st.sampled_from(["/", "\\"]))
def test_remote_file_accepts_safe_name(parts, separator):
    name = separator.join(parts)
    if not escapes_directory(name):
        folder = Path("/somewhere/folder")
        assert Path(os.path.normpath(folder / name)).is_relative_to(folder)


@pytest.mark.parametrize("checksum", ["crc32:12345678", "md5:", "md5:xyz", "d41d8cd98f00b204e9800998ecf8427e"])
def test_remote_file_rejects_unknown_checksum(checksum):
    with pytest.raises(ValueError, match="checksum"):
        RemoteFile("a", "http://127.0.0.1/a", size=1, checksum=checksum)


@pytest.mark.parametrize(
    "checksum",
    [
        "md5:5eb63bbbe01eeed093cb22bb8f5acdc3",  # `printf 'hello world' | md5sum`, and so on
        "sha1:2aae6c35c94fcfb415dbe95f408b9ce91ee846ed",
        "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
        "git-sha1:95d09f2b10159347eece71399a7e2e907ea3df4f",  # `printf 'hello world' | git hash-object --stdin`
    ],
)
def test_file_checksum_known_values(tmp_path, server, checksum):
    server.files["/hello"] = b"hello world"
    assert fetch(RemoteFile("hello", f"{server.url}/hello", 11, checksum), tmp_path).read_bytes() == b"hello world"


# --- fetch ----------------------------------------------------------------------------------------------------------


def test_fetch_once(tmp_path, server):
    counts = []
    path = fetch(remote(server, "sub/data.bin"), tmp_path, on_bytes=counts.append)
    assert path == tmp_path / "sub" / "data.bin"
    assert path.read_bytes() == CONTENT
    assert sum(counts) == len(CONTENT)
    assert fetch(remote(server, "sub/data.bin"), tmp_path) == path
    assert len(server.requests) == 1
    assert visible(tmp_path) == ["sub/data.bin"]


def test_fetch_empty_file(tmp_path, server):
    server.files["/data.bin"] = b""
    empty = remote(server, size=0, checksum="md5:d41d8cd98f00b204e9800998ecf8427e")
    assert fetch(empty, tmp_path).read_bytes() == b""


def test_fetch_resumes_within_call(tmp_path, server):
    server.faults = [Fault(cut_after=200_000), Fault(cut_after=100_000)]
    counts = []
    assert fetch(remote(server), tmp_path, on_bytes=counts.append).read_bytes() == CONTENT
    assert server.ranges("/data.bin") == [None, "bytes=200000-", "bytes=300000-"]
    assert server.sent["/data.bin"] == len(CONTENT) == sum(counts)


def test_fetch_resumes_without_content_length(tmp_path, server):
    server.faults = [Fault(cut_after=200_000, no_length=True)]
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges("/data.bin") == [None, "bytes=200000-"]


def test_fetch_continues_while_file_grows(tmp_path, server):
    server.faults = [Fault(cut_after=30_000) for _ in range(12)]
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.sent["/data.bin"] == len(CONTENT)


def test_fetch_gives_up_without_progress(tmp_path, server):
    server.faults = [Fault(cut_after=200_000), *(Fault(cut_after=0) for _ in range(6))]
    with pytest.raises(
        EarmarkError, match=r"/data\.bin: the download is interrupted: .*Run the same command again to resume"
    ):
        fetch(remote(server), tmp_path)
    assert visible(tmp_path) == ["data.bin.part"]
    counts = []
    assert fetch(remote(server), tmp_path, on_bytes=counts.append).read_bytes() == CONTENT
    assert server.ranges("/data.bin")[-1] == "bytes=200000-"
    assert counts[0] == 200_000
    assert sum(counts) == len(CONTENT)
    assert visible(tmp_path) == ["data.bin"]


def test_fetch_resumes_after_kill(tmp_path, server):
    """Kill the process during a transfer that the server holds up."""
    release = threading.Event()
    server.faults = [Fault(cut_after=250_000, hold=release)]
    code = (
        "import sys; from pathlib import Path; from earmark.files.download import RemoteFile, fetch\n"
        "fetch(RemoteFile('data.bin', sys.argv[1], int(sys.argv[2]), sys.argv[3]), Path(sys.argv[4]))"
    )
    command = [sys.executable, "-c", code, f"{server.url}/data.bin", str(len(CONTENT)), MD5, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT)
    part = tmp_path / "data.bin.part"
    wait_for(lambda: part.exists() and part.stat().st_size > 0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    release.set()
    had = part.stat().st_size
    assert visible(tmp_path) == ["data.bin.part"]
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges("/data.bin") == [None, f"bytes={had}-"]


def test_fetch_server_ignores_range(tmp_path, server):
    server.faults = [Fault(cut_after=200_000), Fault(ignore_range=True)]
    counts = []
    assert fetch(remote(server), tmp_path, on_bytes=counts.append).read_bytes() == CONTENT
    assert server.sent["/data.bin"] == 200_000 + len(CONTENT)
    assert -200_000 in counts
    assert sum(counts) == len(CONTENT)


def test_fetch_server_sends_wrong_range(tmp_path, server):
    server.faults = [Fault(cut_after=200_000), Fault(shift=5)]
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges("/data.bin") == [None, "bytes=200000-", None]


def test_fetch_discards_part_of_other_version(tmp_path, server):
    (tmp_path / "data.bin.part").write_bytes(b"old" * 1000)
    counts = []
    assert fetch(remote(server), tmp_path, on_bytes=counts.append).read_bytes() == CONTENT
    assert server.ranges("/data.bin") == ["bytes=3000-", None]
    assert sum(counts) == len(CONTENT)


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 7])
def test_fetch_discards_complete_but_invalid_part(tmp_path, server, length):
    (tmp_path / "data.bin.part").write_bytes(b"x" * length)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges("/data.bin") == [None]


def test_fetch_complete_part_needs_no_request(tmp_path, server):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    assert fetch(remote(server, size=None), tmp_path).read_bytes() == CONTENT  # the server replies 416
    assert server.sent["/data.bin"] == 0


def test_fetch_restarts_without_checksum(tmp_path, server):
    (tmp_path / "data.bin.part").write_bytes(b"old" * 1000)
    server.faults = [Fault(cut_after=200_000)]
    counts = []
    assert fetch(remote(server, checksum=None), tmp_path, on_bytes=counts.append).read_bytes() == CONTENT
    assert server.ranges("/data.bin") == [None, None]
    assert sum(counts) == len(CONTENT)
    fetch(remote(server, checksum=None), tmp_path)  # only the size can be checked
    assert len(server.requests) == 2
    fetch(remote(server, checksum=None, size=None), tmp_path)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"X" + CONTENT[1:], r"the downloaded file has the checksum md5:\w+ instead of md5:"),
        (CONTENT + b"X", r"the downloaded file has 512,001 bytes instead of 512,000"),
    ],
)
def test_fetch_rejects_invalid_content(tmp_path, server, content, message):
    server.faults = [Fault(content=content)]
    with pytest.raises(EarmarkError, match=message):
        fetch(remote(server), tmp_path)
    assert visible(tmp_path) == []
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_fetch_replaces_damaged_file(tmp_path, server):
    path = fetch(remote(server), tmp_path)
    path.write_bytes(b"X" + CONTENT[1:])
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520, 529])
def test_fetch_retries_transient_errors(tmp_path, server, status):
    server.faults = [Fault(status=status)]
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_fetch_honours_retry_after(tmp_path, server):
    server.faults = [Fault(status=429, headers={"Retry-After": "1"})]
    started = time.monotonic()
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert time.monotonic() - started >= 1


def test_fetch_gives_up_on_server_errors(tmp_path, server):
    server.faults = [Fault(status=500) for _ in range(100)]
    with pytest.raises(EarmarkError, match=r"HTTP 500\. Run the same command again to resume"):
        fetch(remote(server), tmp_path)
    assert len(server.requests) == download.MAX_TRIES
    assert visible(tmp_path) == []


def test_fetch_missing_file_is_not_retried(tmp_path, server):
    with pytest.raises(EarmarkError, match=r"/nothing: HTTP 404"):
        fetch(RemoteFile("a", f"{server.url}/nothing"), tmp_path)
    assert len(server.requests) == 1


def test_fetch_connection_refused(tmp_path):
    with file_server() as server:
        gone = server.url
    with pytest.raises(EarmarkError, match=r"http://127\.0\.0\.1:\d+/a: .*refused.*again to resume"):
        fetch(RemoteFile("a", f"{gone}/a"), tmp_path)


@pytest.mark.parametrize("address", ["file:///etc/hostname", "gopher://127.0.0.1/a", "nonsense", "http://h:port/a"])
def test_remote_file_rejects_other_schemes(address):
    with pytest.raises(ValueError, match=r"url\n.*(http:// or https://|Port could not be cast)"):
        RemoteFile(name="a", url=address)


@pytest.mark.parametrize("location", ["file:///etc/hostname", "/data.bin", "http://127.0.0.1:99999/a"])
def test_fetch_rejects_invalid_redirect(tmp_path, server, location):
    server.redirects["/data.bin"] = location
    with pytest.raises(
        EarmarkError, match=r"/data\.bin: (InvalidSchema|TooManyRedirects|\w+: the server redirects to an invalid URL)"
    ):
        fetch(remote(server), tmp_path)
    assert visible(tmp_path) == []


def test_fetch_concurrent_calls_download_once(tmp_path, server):
    server.faults = [Fault(cut_after=100_000)]
    result, start = [], threading.Barrier(4)

    def one():
        start.wait()
        result.append(fetch(remote(server), tmp_path).read_bytes() == CONTENT)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert result == [True] * 4
    assert server.sent["/data.bin"] == len(CONTENT)


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_fetch_token_not_sent_to_redirect_target(tmp_path, server):
    with file_server() as elsewhere:
        elsewhere.files["/store"] = CONTENT
        server.redirects["/data.bin"] = f"{elsewhere.url}/store?signature=abc"
        elsewhere.faults = [Fault(cut_after=200_000)]
        headers = {"Authorization": TOKEN, "X-Api-Key": "verysecret"}
        assert fetch(remote(server), tmp_path, headers=headers).read_bytes() == CONTENT
        assert [seen["Authorization"] for _, seen in server.requests] == [TOKEN] * 2
        assert [seen["X-Api-Key"] for _, seen in server.requests] == ["verysecret"] * 2
        assert elsewhere.ranges("/store") == [None, "bytes=200000-"]
        for _, seen in elsewhere.requests:
            assert not {"authorization", "x-api-key"} & {name.lower() for name in seen}


def test_fetch_token_sent_on_same_host_redirect(tmp_path, server):
    server.redirects["/data.bin"] = f"{server.url}/moved"
    server.files["/moved"] = CONTENT
    fetch(remote(server), tmp_path, headers={"Authorization": TOKEN})
    assert [seen.get("Authorization") for _, seen in server.requests] == [TOKEN] * 2


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_messages_contain_no_secrets(tmp_path, server, status):
    server.faults = [Fault(status=status, headers={"X-Echo": TOKEN}) for _ in range(10)]
    address = server.url.replace("http://", "http://user:verysecret@") + "/data.bin?key=verysecret"
    with pytest.raises(EarmarkError, match=f"HTTP {status}") as caught:
        fetch(RemoteFile("a", address), tmp_path, headers={"Authorization": TOKEN})
    assert "verysecret" not in str(caught.value)
    assert isinstance(caught.value, MissingError) == (status in (401, 403))


@pytest.mark.parametrize("token", ["hf_verysecret\r\nX-Other: 1", "hf_verysecret\u2026"])
def test_invalid_token_is_not_shown(tmp_path, server, token):
    with pytest.raises(
        EarmarkError, match=r"data\.bin: the token contains a \w+.*Set it to the token only\.$"
    ) as caught:
        fetch(remote(server), tmp_path, headers={"Authorization": f"Bearer {token}"})
    assert "verysecret" not in str(caught.value)
    with pytest.raises(MissingError, match="datasets/owner/data: the token contains a") as caught:
        hub_files("owner/data", base=server.url, token=token)
    assert "verysecret" not in str(caught.value)


# --- Zenodo ---------------------------------------------------------------------------------------------------------


def test_zenodo_files_lists_record(tmp_path, server):
    server.add_record("123", {"clips.tar.gz": CONTENT, "meta.csv": b"a,b\n"})
    server.faults = [Fault(status=500)]
    files = zenodo_files(123, base=server.url)
    assert [(file.name, file.size) for file in files] == [("clips.tar.gz", len(CONTENT)), ("meta.csv", 4)]
    assert files[0].checksum == MD5
    assert [fetch(file, tmp_path).read_bytes() for file in files] == [CONTENT, b"a,b\n"]


ENTRY = {"key": "a", "size": 1, "checksum": MD5, "links": {"self": "/x"}}


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({}, r"files: Field required"),
        ({"files": []}, r"files: List should have at least 1 item"),
        ([], r"valid dictionary"),
        ({"files": [ENTRY | {"key": "../a"}]}, r"'\.\./a' leaves the target directory"),
        ({"files": [ENTRY | {"size": -1}]}, r"greater than or equal to 0"),
        ({"files": [ENTRY | {"checksum": "md5:no"}]}, r"checksum"),
        ({"files": [ENTRY | {"links": {}}]}, r"self"),
        ({"files": [ENTRY | {"links": {"self": "http://192.0.2.1/a"}}]}, r"a: on another host"),
        ({"files": [ENTRY | {"links": {"self": "file:///etc/passwd"}}]}, r"url: .* not http:// or https://"),
        ({"files": [ENTRY | {"key": "a\0b"}]}, r"'a\\x00b' leaves the target directory"),
        ({"files": [ENTRY | {"key": "x" * 300}]}, r"is longer than 255 bytes"),
        ({"files": [ENTRY | {"key": "a/" + "é" * 130}]}, r"is longer than 255 bytes"),
        ({"files": [ENTRY | {"key": "a\ud800"}]}, "surrogates not allowed"),
        ({"files": [ENTRY | {"links": {"self": "/x\ud800"}}]}, "not http:// or https://|surrogates"),
        ({"files": [ENTRY | {"links": {"\ud800": 1}}]}, "links"),
        ({"files": [ENTRY | {"checksum": "\ud800"}]}, "checksum|surrogates"),
        ({"files": [{}] * 1000}, r"; 3,995 more$"),
    ],
)
def test_zenodo_files_rejects_invalid_reply(server, reply, message):
    server.replies["/api/records/9"] = reply
    with pytest.raises(EarmarkError, match=rf"/api/records/9: the reply is not a record with files: .*{message}"):
        zenodo_files("9", base=server.url)


def test_zenodo_files_rejects_duplicate_name(server):
    link = f"{server.url}/x"
    server.replies["/api/records/9"] = {"files": [ENTRY | {"links": {"self": link}}, ENTRY | {"links": {"self": link}}]}
    with pytest.raises(EarmarkError, match=r"not a record with files: ValueError: a: duplicate file name"):
        zenodo_files("9", base=server.url)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[" * 100_000, b'{"files": [], "files": [{}]}', b'{"files": "\\ud800\xed\xa0\x80"}', b"9" * 9999],
)
def test_zenodo_files_rejects_invalid_json(body):
    with (
        hostile_server(lambda n, _: Reply(body)) as server,
        pytest.raises(EarmarkError, match=r"/api/records/9: the reply is not a record with files: ") as caught,
    ):
        zenodo_files("9", base=server.url.removesuffix("/v1/similarity"))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


SLOW = {
    "headers": lambda: chain([b"HTTP/1.1 200 OK\r\n"], endless(b"X: y\r\n", 0.05)),
    "interim replies": lambda: endless(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a chunk's extension": lambda: chain([OK_CHUNKED, b"2;"], endless(b"x", 0.05)),
    "trailers": lambda: chain([OK_CHUNKED, b"2\r\n{}\r\n0\r\n"], endless(b"X: y\r\n")),
    "nothing after a beginning": lambda: chain([b"HTTP/1.1 200 OK\r\n\r\n{"], endless(b"", 0.05)),
}
OK_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_listing_and_fetch_time_out(tmp_path, monkeypatch, name):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(download, "MAX_TRIES", 2)
    started = time.monotonic()
    with hostile_server(lambda n, body: Reply(raw=SLOW[name]())) as server:
        base = server.url.removesuffix("/v1/similarity")
        with pytest.raises(EarmarkError, match=r"/api/records/9: .*Run the same command"):
            zenodo_files(9, base=base)
        with pytest.raises(EarmarkError, match=r"/data\.bin: .*Run the same command"):
            fetch(RemoteFile("data.bin", f"{base}/data.bin", 512_000, MD5), tmp_path)
    assert time.monotonic() - started < 5


def test_fetch_gives_up_on_repeated_restarts(tmp_path):
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 512000\r\n\r\n" + CONTENT[:1000]
    with hostile_server(lambda n, body: Reply(raw=[cut])) as server:
        with pytest.raises(EarmarkError, match="the download is interrupted"):
            fetch(RemoteFile("data.bin", server.url, 512_000, MD5), tmp_path)
        assert len(server.requests) == 1 + download.MAX_TRIES


def test_slow_listing_times_out(monkeypatch):
    monkeypatch.setattr(download, "LISTING_TIMEOUT", 0.5)
    started = time.monotonic()
    with (
        hostile_server(lambda n, body: Reply(parts=endless(b" ", 0.05))) as server,
        pytest.raises(EarmarkError, match=r"records/9: the listing is incomplete after 0\.5 s\. Run the same"),
    ):
        zenodo_files(9, base=server.url.removesuffix("/v1/similarity"))
    assert time.monotonic() - started < 3


@pytest.mark.slow
def test_fetch_slow_file_succeeds(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
    with hostile_server(lambda n, body: Reply(raw=chain([head], drip(b"x" * 20, 0.06)))) as server:
        assert fetch(RemoteFile("slow", server.url, 20), tmp_path).read_bytes() == b"x" * 20
        assert len(server.requests) == 1


def test_tracebacks_contain_no_secrets(tmp_path):
    with file_server() as server:
        gone = server.url
    with pytest.raises(EarmarkError, match="refused") as caught:
        fetch(RemoteFile("a", f"{gone}/a?key={'very' + 'secret'}"), tmp_path)
    assert "verysecret" not in "".join(traceback.format_exception(caught.value))


def test_endless_listing_is_rejected(server, monkeypatch):
    monkeypatch.setattr(download, "MAX_LISTING", 1000)
    server.add_record("5", {f"file{n}": b"" for n in range(50)})
    with pytest.raises(EarmarkError, match="longer than 1,000 bytes"):
        zenodo_files(5, base=server.url)


def test_zenodo_files_missing_record(server):
    with pytest.raises(EarmarkError, match="records/77: HTTP 404"):
        zenodo_files(77, base=server.url)
    with pytest.raises(ValueError, match="invalid literal"):
        zenodo_files("../../admin", base=server.url)


# --- Hugging Face Hub -----------------------------------------------------------------------------------------------


def test_hub_files_lists_one_commit(tmp_path, server):
    small = b'{"a": 1}'
    server.add_data_set("owner/data", {"audio/a.tar.gz": CONTENT, "facts.json": small})
    files = hub_files("owner/data", base=server.url, token="hf_verysecret")
    assert [(file.name, file.size) for file in files] == [("audio/a.tar.gz", len(CONTENT)), ("facts.json", 8)]
    assert files[0].checksum == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert (files[1].checksum or "").startswith("git-sha1:")
    assert all(f"/resolve/{'c' * 40}/" in file.url for file in files)
    assert server.requests[0][1]["authorization"] == TOKEN
    assert [fetch(file, tmp_path).read_bytes() for file in files] == [CONTENT, small]


def test_hub_files_sends_no_stored_token(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_stored")
    server.add_data_set("owner/data", {"a.json": b"{}"})
    hub_files("owner/data", base=server.url)
    assert "authorization" not in {name.lower() for name in server.requests[0][1]}


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, MissingError, "HTTP 401: the data set does not exist or needs a token"),
        (404, MissingError, "HTTP 404: the data set does not exist"),
        (500, EarmarkError, "HTTP 500"),
    ],
)
def test_hub_files_refused(server, status, kind, message):
    server.faults = [Fault(status=status) for _ in range(10)]
    with pytest.raises(kind, match=f"datasets/owner/data: {message}") as caught:
        hub_files("owner/data", base=server.url, token="hf_verysecret")
    assert "verysecret" not in str(caught.value)


@pytest.mark.parametrize(
    "sibling", [{"rfilename": "../a", "blobId": "0" * 40}, {"rfilename": "a", "blobId": "0"}, {"size": 3}, "a"]
)
def test_hub_files_rejects_invalid_reply(server, sibling):
    server.replies["/api/datasets/owner/data"] = {"id": "owner/data", "sha": "c" * 40, "siblings": [sibling]}
    with pytest.raises(EarmarkError, match="datasets/owner/data: "):
        hub_files("owner/data", base=server.url)


def test_hub_files_connection_refused():
    with file_server() as server:
        gone = server.url
    with pytest.raises(EarmarkError, match=r"datasets/owner/data: .*(refused|connect)"):
        hub_files("owner/data", base=gone)


def test_hub_files_missing_extra(tmp_path):
    """In an interpreter that cannot import huggingface_hub, as without the extra."""
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from earmark.files.download import hub_files; from earmark.errors import MissingError\n"
        "try: hub_files('a/b')\n"
        "except MissingError as error: sys.exit(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "uv run --extra download" in done.stderr
