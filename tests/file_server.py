"""File server that imitates Zenodo and the Hugging Face Hub over real sockets, with scripted faults."""

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
    """A fault of one request.

    Attributes
    ----------
    path : str
        Applies to requests whose path contains it.
    cut_after : int, optional
        Close the connection after so many bytes of the body.
    ignore_range : bool
        Send the whole file.
    status : int, optional
        Reply with this status only.
    headers : mapping
        Additional headers.
    content : bytes, optional
        Sent instead of the file.
    shift : int
        Offset of the range that is sent from the requested one.
    no_length : bool
        Omit Content-Length.
    hold : threading.Event, optional
        Awaited between the body and the end of the connection.
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
    """State of the server.

    Attributes
    ----------
    files : dict of str to bytes
        Content by path.
    records : dict of str to list of str
        File names of Zenodo records; files are under /api/records/<id>/files/<name>/content.
    data_sets : dict of str to list of str
        File names of Hub data sets; files are under /datasets/<repository>/resolve/<commit>/<name>.
    replies : dict
        JSON sent instead of a listing, by path.
    redirects : dict of str to str
    faults : list of Fault
        Each is used by the first request that it applies to.
    requests : list of (str, dict)
        Path and headers of received requests.
    sent : dict of str to int
        Bytes of bodies sent, by path.
    large : str
        Pattern of the names in data sets that have a SHA-256.
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
        """Add a Zenodo record with files."""
        self.records[number] = list(files)
        self.files |= {f"/api/records/{number}/files/{name}/content": content for name, content in files.items()}

    def add_data_set(self, repository: str, files: Mapping[str, bytes]) -> None:
        """Add a Hub data set with files."""
        self.data_sets[repository] = list(files)
        self.files |= {f"/datasets/{repository}/resolve/{COMMIT}/{name}": content for name, content in files.items()}

    def ranges(self, path: str) -> list[str | None]:
        """Range header of every request for a path."""
        return [headers.get("Range") for requested, headers in self.requests if requested == path]

    def listing(self, path: str) -> object | None:
        """Listing that Zenodo or the Hub returns for a path; None if the path is not a listing."""
        if path in self.replies:
            return self.replies[path]
        if matched := re.fullmatch(r"/api/records/(\d+)", path):
            return self._record(matched[1]) if matched[1] in self.records else None
        if matched := re.fullmatch(r"/api/datasets/(.+?)(/revision/.+)?", path):
            return self._data_set(matched[1]) if matched[1] in self.data_sets else None
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
        matched = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not matched or fault.ignore_range:
            self._send(200, content, path, fault)
            return
        start = int(matched[1]) + fault.shift
        if start >= len(content):
            self._send(416, b"", path, Fault(headers={"Content-Range": f"bytes */{len(content)}"}))
            return
        fault.headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}", **fault.headers}
        self._send(206, content[start:], path, fault)

    def _send(self, status: int, content: bytes, path: str, fault: Fault) -> None:
        body = content if fault.cut_after is None else content[: fault.cut_after]
        with self.state.lock:  # before the client continues
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
            pass  # the client closed the connection
        if fault.hold:
            fault.hold.wait(60)
        if fault.cut_after is not None or fault.no_length:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Start an empty server on 127.0.0.1."""
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
