"""A server of files that answers as Zenodo and the Hugging Face hub do, over real sockets, and fails as told."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


@dataclass
class Fault:
    """How one request goes wrong. path: the requests it is for, by a part of their path.

    cut_after: bytes of the body, then the connection closes. ignore_range: send all. status: reply with it and
    nothing else. headers: further ones. content: send it in place of the file. shift: bytes by which a range is missed.
    no_length: do not announce the length. hold: what to wait for between the body and the end of the connection.
    """

    path: str = ""
    cut_after: int | None = None
    ignore_range: bool = False
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    shift: int = 0
    no_length: bool = False
    hold: threading.Event | None = None


@dataclass
class FileServer:
    """files: {path: content}. records: {Zenodo id: names}. data_sets: {repository: names}; their files lie under
    /api/records/<id>/files/<name>/content and /datasets/<repository>/resolve/<commit>/<name>.

    replies: {path: JSON that is sent in place of what a listing would be}. redirects: {path: address}.
    faults: each is used up by the first request that it is for. requests: what came in, as (path, headers).
    sent: bytes of bodies, by path. large: pattern of the names in data sets that carry a SHA-256.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    records: dict[str, list[str]] = field(default_factory=dict)
    data_sets: dict[str, list[str]] = field(default_factory=dict)
    replies: dict[str, object] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    large: str = r"\.tar\.gz$"
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_record(self, number: str, files: Mapping[str, bytes]) -> None:
        """A Zenodo record that holds these files."""
        self.records[number] = list(files)
        self.files |= {f"/api/records/{number}/files/{name}/content": content for name, content in files.items()}

    def add_data_set(self, repository: str, files: Mapping[str, bytes]) -> None:
        """A data set of the hub that holds these files."""
        self.data_sets[repository] = list(files)
        self.files |= {f"/datasets/{repository}/resolve/{COMMIT}/{name}": content for name, content in files.items()}

    def ranges(self, path: str) -> list[str | None]:
        """The Range of every request for a path."""
        return [headers.get("Range") for asked, headers in self.requests if asked == path]

    def listing(self, path: str) -> object | None:
        """What Zenodo or the hub reply to a request for a listing; None where the path asks for none."""
        if path in self.replies:
            return self.replies[path]
        if found := re.fullmatch(r"/api/records/(\d+)", path):
            return self._record(found[1]) if found[1] in self.records else None
        if found := re.fullmatch(r"/api/datasets/(.+?)(/revision/.+)?", path):
            return self._data_set(found[1]) if found[1] in self.data_sets else None
        return None

    def _record(self, number: str) -> object:
        files = []
        for name in self.records[number]:
            path = f"/api/records/{number}/files/{name}/content"
            content = self.files[path]
            md5 = hashlib.md5(content).hexdigest()
            files.append(
                {"key": name, "size": len(content), "checksum": f"md5:{md5}", "links": {"self": self.url + path}}
            )
        return {"id": int(number), "metadata": {"title": "A record"}, "files": files}

    def _data_set(self, repository: str) -> object:
        siblings = []
        for name in self.data_sets[repository]:
            content = self.files[f"/datasets/{repository}/resolve/{COMMIT}/{name}"]
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            sibling = {"rfilename": name, "size": len(content), "blobId": blob}
            if re.search(self.large, name):
                sha = hashlib.sha256(content).hexdigest()
                sibling |= {"blobId": "0" * 40, "lfs": {"sha256": sha, "size": len(content), "pointerSize": 130}}
            siblings.append(sibling)
        return {"id": repository, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FileServer

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        with self.state.lock:
            self.state.requests.append((path, dict(self.headers)))
            fault = next((fault for fault in self.state.faults if fault.path in path), None) or Fault()
            self.state.faults = [other for other in self.state.faults if other is not fault]
        listing = self.state.listing(path)
        if fault.status is not None:
            self._send(fault.status, b"", path, Fault(headers=fault.headers))
        elif path in self.state.redirects:
            self._send(302, b"", path, Fault(headers={"Location": self.state.redirects[path]}))
        elif listing is not None:
            self._send(200, json.dumps(listing).encode(), path, fault)
        elif path in self.state.files:
            self._send_file(path, self.state.files[path] if fault.content is None else fault.content, fault)
        else:
            self._send(404, b"", path, fault)

    def _send_file(self, path: str, content: bytes, fault: Fault) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not found or fault.ignore_range:
            self._send(200, content, path, fault)
            return
        start = int(found[1]) + fault.shift
        if start >= len(content):
            self._send(416, b"", path, Fault(headers={"Content-Range": f"bytes */{len(content)}"}))
            return
        fault.headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}", **fault.headers}
        self._send(206, content[start:], path, fault)

    def _send(self, status: int, content: bytes, path: str, fault: Fault) -> None:
        body = content if fault.cut_after is None else content[: fault.cut_after]
        with self.state.lock:  # before the client can look
            self.state.sent[path] = self.state.sent.get(path, 0) + len(body)
        self.send_response(status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        if fault.no_length:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            pass  # the client has seen enough
        if fault.hold:
            fault.hold.wait(60)
        if fault.cut_after is not None or fault.no_length:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def file_server() -> Iterator[FileServer]:
    """A server on 127.0.0.1 that has no files yet."""
    state = FileServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
