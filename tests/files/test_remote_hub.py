"""hf:// paths against a server that speaks the protocol of the hub for one data set."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("huggingface_hub", reason="the extra `download` is not installed")

from earmark.audio.clips import tar_members
from earmark.files.remote import location
from tests.files.test_remote import tar_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT, MEMBERS = tar_file([20_000] * 20)
FILES = {"esc50/fold-1.tar": CONTENT, "esc50/notes.txt": b"hello", "README.md": b"# Data"}
NAME = "someone/sounds"


class Hub(BaseHTTPRequestHandler):
    """The parts of the hub that listing and reading use. `log`: (path, bytes sent)."""

    log: list[tuple[str, int]]

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if path.startswith(f"/api/datasets/{NAME}/tree/"):
            folder = path.split("/tree/")[1].partition("/")[2]
            return self.send(self.tree(folder)) if self.tree(folder) else self.send({"error": "none"}, 404)
        if path in (f"/api/datasets/{NAME}", f"/api/datasets/{NAME}/revision/main"):
            return self.send({"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]})
        if path.startswith(f"/datasets/{NAME}/resolve/"):
            return self.resolve(path.split("/resolve/")[1].partition("/")[2])
        return self.send({"error": "none"}, 404)

    do_HEAD = do_GET  # noqa: N815

    def tree(self, folder):
        prefix = f"{folder}/" if folder else ""
        inside = {name: len(content) for name, content in FILES.items() if name.startswith(prefix)}
        folders = {prefix + name[len(prefix) :].partition("/")[0] for name in inside if "/" in name[len(prefix) :]}
        rows = [{"type": "directory", "oid": "d", "size": 0, "path": name} for name in sorted(folders)]
        files = {name: size for name, size in inside.items() if "/" not in name[len(prefix) :]}
        return rows + [{"type": "file", "oid": f"b{n}", "size": n, "path": name} for name, n in files.items()]

    def resolve(self, name):
        if name not in FILES:
            return self.send({"error": "none"}, 404)
        content, status = FILES[name], 200
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            content, status = content[int(first) : int(last) + 1 if last else None], 206
        self.log.append((name, len(content)))
        return self.send_bytes(content, status)

    def send(self, data, status=200):
        self.send_bytes(json.dumps(data).encode(), status, {"X-Error-Code": "EntryNotFound"} if status == 404 else {})

    def send_bytes(self, content, status, headers=()):
        self.send_response(status)
        for key, value in {
            **dict(headers),
            "X-Repo-Commit": COMMIT,
            "ETag": '"e"',
            "Content-Length": len(content),
        }.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import HfFileSystem, constants

    handler = type("Handler", (Hub,), {"log": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    HfFileSystem.clear_instance_cache()
    yield handler.log
    HfFileSystem.clear_instance_cache()
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("name", [NAME, f"{NAME}@main"])
def test_hub_data_set_is_listed_and_read_by_range(hub, name):
    root = location(f"hf://datasets/{name}")
    assert sorted(path.name for path in root.iterdir()) == ["README.md", "esc50"]
    tar = next(root.rglob("*.tar"))
    assert str(tar) == f"hf://datasets/{name}/esc50/fold-1.tar" and tar.stat().st_size == len(CONTENT)
    labels = {}
    members = tar_members(tar, labels)
    assert {each.name for each in members} == set(MEMBERS) and len(labels) == 20
    assert sum(n for _, n in hub) <= len(CONTENT) + 20 * 512
    hub.clear()
    member = next(each for each in members if each.name == "7.wav")
    assert member.read() == MEMBERS["7.wav"]
    assert hub == [("esc50/fold-1.tar", 20_000)]
    assert not (root / "none").exists() and not (root / "none" / "manifest.csv").is_file()
