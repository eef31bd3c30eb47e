"""Downloads from a mock Zenodo server, with interruptions; the files are then read as tasks."""

import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from earmark.errors import EarmarkError, MissingError
from earmark.probing.downloads import download_task, record_files
from earmark.probing.layouts import locate_task
from earmark.probing.reading import read_task_data
from earmark.probing.task_files import select_tasks
from earmark.probing.xares import published_tasks
from tests.file_server import Fault, FileServer, file_server
from tests.probing.test_reading import cremad

CREMAD = published_tasks()["cremad"]


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def tars(tmp_path: Path) -> dict[str, bytes]:
    folder = cremad(tmp_path / "made") / "cremad"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def zipped(files: dict[str, bytes], folder: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(folder + name, content)
    return out.getvalue()


def test_download_keeps_tar_files(tmp_path: Path, server: FileServer, tars: dict[str, bytes]):
    server.add_record(CREMAD.zenodo, tars)
    received: Counter[str] = Counter()
    files = download_task(CREMAD, tmp_path, base=server.url, on_bytes=lambda file, n: received.update({file.name: n}))
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [f"cremad/{name}" for name in tars]
    assert received == {name: len(content) for name, content in tars.items()}
    assert len(read_task_data(locate_task(CREMAD, tmp_path)).clips) == 4 and locate_task(CREMAD, tmp_path).present


@pytest.mark.parametrize("folder", ["", "cremad_wds/"])
def test_download_unpacks_zip(tmp_path: Path, server: FileServer, tars: dict[str, bytes], folder: str):
    server.add_record(CREMAD.zenodo, {"data.zip": zipped(tars, folder)})
    files = download_task(CREMAD, tmp_path, base=server.url)
    assert {path.name for path in files} == set(tars)
    assert len(read_task_data(locate_task(CREMAD, tmp_path)).clips) == 4


def test_download_resumes_after_interruption(tmp_path: Path, server: FileServer, tars: dict[str, bytes]):
    server.add_record(CREMAD.zenodo, tars)
    first = next(iter(tars))
    server.faults = [Fault(path=first, cut_after=700)]
    download_task(CREMAD, tmp_path, base=server.url)
    path = f"/api/records/{CREMAD.zenodo}/files/{first}/content"
    assert server.ranges(path) == [None, "bytes=700-"] and server.sent[path] == len(tars[first])
    sent = dict(server.sent)
    download_task(CREMAD, tmp_path, base=server.url)
    assert {name: n for name, n in server.sent.items() if name in sent and "files" in name} == {
        name: n for name, n in sent.items() if "files" in name
    }
    assert len(read_task_data(locate_task(CREMAD, tmp_path)).clips) == 4


def test_download_shares_record_between_tasks(tmp_path: Path, server: FileServer):
    first, second = published_tasks()["librispeech"], published_tasks()["librispeechmalefemale"]
    assert first.zenodo == second.zenodo
    server.add_record(first.zenodo, {"dev-clean-0.tar": bytes(5000)})
    for task in (first, second):
        (path,) = download_task(task, tmp_path, base=server.url)
        assert path == tmp_path / task.name / "dev-clean-0.tar" and path.read_bytes() == bytes(5000)
    content = [n for name, n in server.sent.items() if name.endswith("/content")]
    assert content == [5000]
    path.unlink()
    path.write_bytes(b"another")  # a wrong file is replaced in this folder only
    download_task(second, tmp_path, base=server.url)
    assert path.read_bytes() == (tmp_path / first.name / "dev-clean-0.tar").read_bytes() == bytes(5000)


def test_download_rejects_wrong_checksum(tmp_path: Path, server: FileServer, tars: dict[str, bytes]):
    server.add_record(CREMAD.zenodo, tars)
    first = next(iter(tars))
    server.faults = [Fault(path=first, content=bytes(len(tars[first])))]
    with pytest.raises(EarmarkError, match="has the checksum"):
        download_task(CREMAD, tmp_path, base=server.url)
    assert not locate_task(CREMAD, tmp_path).present


def test_record_files_lists_record(server: FileServer, tars: dict[str, bytes]):
    server.add_record(CREMAD.zenodo, tars)
    assert {file.name: file.size for file in record_files(CREMAD, server.url)} == {n: len(c) for n, c in tars.items()}


@pytest.mark.parametrize(
    ("name", "message"),
    [("liveenv", "liveenv: the data are private"), ("librispeechphoneme", "librispeechphoneme: no public record")],
)
def test_download_of_unpublished_task_fails(tmp_path: Path, name: str, message: str):
    with pytest.raises(MissingError, match=message):
        download_task(published_tasks()[name], tmp_path)


def test_download_of_user_task_fails(tmp_path: Path):
    (tmp_path / "x.toml").write_text('name = "x"\ntype = "clip"\ndata = "x.csv"\n')
    with pytest.raises(MissingError, match="x: nothing to download for your own task"):
        download_task(select_tasks([tmp_path / "x.toml"])[0], tmp_path)
