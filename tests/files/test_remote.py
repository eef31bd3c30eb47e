"""Remote paths on the in-memory file system of fsspec: URLs, listings, reading ahead, retries and messages."""

import argparse
import io
import pickle
import sys
import tarfile
import uuid
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.audio.clips import AudioError, TarMember, file_stamp, tar_members
from earmark.audio.content import Content
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files import remote
from earmark.files.atomic import locked
from earmark.files.remote import RemotePath, location, read_together

memory = pytest.importorskip("fsspec.implementations.memory", reason="fsspec is not installed")


def new_folder() -> RemotePath:
    """An empty folder in memory."""
    folder = location(f"memory://{uuid.uuid4().hex}/data")
    assert isinstance(folder, RemotePath)
    return folder


@pytest.fixture
def folder():
    return new_folder()


@pytest.fixture
def requests(monkeypatch):
    """(key, start, end) of every read."""
    made = []
    read = memory.MemoryFileSystem.cat_file

    def cat_file(self, path, start=None, end=None, **how):
        made.append((path, start, end))
        return read(self, path, start, end, **how)

    monkeypatch.setattr(memory.MemoryFileSystem, "cat_file", cat_file)
    return made


@pytest.fixture
def no_wait(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(remote, "LONGEST_WAIT", 0.0)


def tar_file(sizes, end=True):
    """(content, {name: member content}) of a tar file whose members have these sizes."""
    out, members = io.BytesIO(), {}
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number, size in enumerate(sizes):
            for suffix, content in (("wav", bytes([number % 251]) * size), ("json", f'{{"label": {number}}}'.encode())):
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
                members[info.name] = content
    return out.getvalue() if end else out.getvalue()[: -(1 << 14)], members


# --- URLs ---


@pytest.mark.parametrize("text", ["data", "/data/x", "./a b", "c:/x", "~/data"])
def test_location_keeps_local_paths(text):
    path = location(text)
    assert path == Path(text) and not isinstance(path, RemotePath)


def test_location_of_file_url_is_local():
    assert location("file:///data/x") == Path("/data/x") and not isinstance(location("file:///data/x"), RemotePath)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://", "no bucket"),
        ("s3:///prefix", "no bucket"),
        ("s3://me:hunter2@bucket/x", "password"),
        ("s3://me:hun/ter2@bucket/x", "password"),
        ("sftp://me:hunter2@host/x", "password"),
        ("s3://bucket/x?key=hunter2", "query"),
        ("https://me:hunter2@host/x", "password"),
        ("https://host/x", "no folders"),
        ("zip::s3://bucket/x.zip", "unpack the archive"),
    ],
)
def test_location_refuses_url_without_repeating_it(url, words):
    with pytest.raises(argparse.ArgumentTypeError, match=words) as raised:
        location(url)
    assert "hunter2" not in str(raised.value) and "ter2" not in str(raised.value)


NAMES = st.text("ab.-_ é[*", min_size=1, max_size=5).filter(lambda name: name.strip(".") == name)


@given(st.lists(NAMES, min_size=1, max_size=4), NAMES)
def test_remote_path_behaves_as_posix_path(names, extra):
    plain = PurePosixPath("bucket", *names)
    path = location("s3://bucket").joinpath(*names)
    assert str(path) == f"s3://{plain}" and location(str(path)) == path and hash(location(str(path))) == hash(path)
    assert (path.name, path.stem, path.suffix) == (plain.name, plain.stem, plain.suffix)
    assert str(path / extra) == f"s3://{plain / extra}" and (path / extra).parent == path
    assert str(path.with_suffix(".ids")) == f"s3://{plain.with_suffix('.ids')}"
    assert str((path / extra).relative_to(path)) == extra and not path.is_relative_to(Path("/data"))
    assert pickle.loads(pickle.dumps(path)) == path and isinstance(pickle.loads(pickle.dumps(path)), RemotePath)
    assert path.resolve() == path.absolute() == path and path.is_absolute() and shown_path(path) == str(path)


def test_remote_path_joined_with_absolute_path_or_url_is_replaced():
    path = location("s3://bucket/a")
    assert path / "/data/x.wav" == Path("/data/x.wav") and not isinstance(path / "/data/x.wav", RemotePath)
    assert str(path / "s3://other/x.wav") == "s3://other/x.wav"
    for unusable in ("https://host/x.wav", "s3://me:hunter2@other/x.wav"):
        assert (path / unusable).is_relative_to(path)  # a cell of a manifest, which is reported as missing


def test_remote_path_is_no_local_file():
    with pytest.raises(TypeError, match="s3://bucket/a is not a local file"):
        open(location("s3://bucket/a"))  # noqa: PTH123, SIM115


@pytest.mark.parametrize("url", ["s3://bucket/out", "memory://bucket/out"])
def test_locked_refuses_url_as_results_folder(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingError, match="local folders only"), locked([Path(url)]):
        pass
    assert list(tmp_path.iterdir()) == []


# --- listings ---


def test_listing_gives_existence_size_and_folders(folder):
    (folder / "a/b.txt").put(b"hello")
    (folder / "c.tar").put(b"")
    assert [path.name for path in folder.iterdir()] == ["a", "c.tar"]
    assert (folder / "a").is_dir() and not (folder / "a").is_file() and (folder / "a").exists()
    assert (folder / "a/b.txt").is_file() and (folder / "a/b.txt").stat().st_size == 5
    assert not (folder / "a/b").exists() and not (folder / "a/b.txt/c").exists() and not (folder / "none").is_dir()
    assert [str(path.relative_to(folder)) for path in folder.rglob("*.t*")] == ["a/b.txt", "c.tar"]
    assert (folder / "a" / ".." / "a" / "b.txt").read_bytes() == b"hello"
    assert (folder / "a/b.txt").read_text() == "hello"


def test_listing_is_kept_until_the_next_command(folder):
    others = memory.MemoryFileSystem()  # another machine
    (folder / "a").put(b"1")
    assert [path.name for path in folder.iterdir()] == ["a"]
    others.pipe_file(f"{folder}/b", b"2")
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert folder.list_now() == ["a", "b"]
    others.pipe_file(f"{folder}/c", b"3")
    assert [path.name for path in location(str(folder)).iterdir()] == ["a", "b", "c"]


def test_file_stamp_changes_with_content_and_reads_nothing(folder, requests):
    (folder / "a").put(b"1")
    first = file_stamp(folder / "a")
    assert file_stamp(folder / "a") == first
    (folder / "a").put(b"2")
    location(str(folder))
    assert file_stamp(folder / "a") != first and requests == []


@pytest.mark.parametrize("action", [RemotePath.stat, RemotePath.read_bytes, RemotePath.open, file_stamp])
def test_missing_file_raises_file_not_found(folder, action):
    with pytest.raises(FileNotFoundError, match=r"data/none: no such file"):
        action(folder / "none")


# --- reading ---


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 900)), max_size=12), st.integers(1, 2500))
def test_open_reads_what_a_local_file_reads(steps, size):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("FIRST_BLOCK", 16), ("LARGEST_BLOCK", 256), ("MAX_GAP", 64)):
            patch.setattr(remote, name, value)
        content = bytes(i * 7 % 256 for i in range(size))
        path = new_folder() / "x"
        path.put(content)
        local = io.BytesIO(content)
        with path.open("rb") as file:
            for position, length in steps:
                assert file.seek(position) == local.seek(position)
                assert file.read(length) == local.read(length) and file.tell() == local.tell()


def test_tar_members_reads_a_tar_of_small_clips_forward_once(folder, requests):
    content, members = tar_file([20_000] * 200)
    (folder / "x.tar").put(content)
    labels = {}
    found = tar_members(folder / "x.tar", labels)
    assert {each.name for each in found} == set(members)
    assert {each.name: labels[each.offset] for each in found if each.name.endswith("json")} == {
        name: content for name, content in members.items() if name.endswith("json")
    }
    spans = [(start, min(end, len(content))) for _, start, end in requests]
    assert len(spans) < 12 and sum(end - start for start, end in spans) <= len(content) + 200 * 512


def test_tar_members_skips_large_clips(folder, requests):
    content, _ = tar_file([6_000_000] * 4)
    (folder / "x.tar").put(content)
    assert len(tar_members(folder / "x.tar")) == 8
    assert sum(min(end, len(content)) - start for _, start, end in requests) < 1_000_000


def test_tar_members_of_damaged_tar_as_locally(folder, tmp_path):
    content, _ = tar_file([20_000] * 3)
    for name, damaged in (("cut", content[:30_000]), ("gzip", b"\x1f\x8b" + content), ("twice", content + content)):
        (tmp_path / f"{name}.tar").write_bytes(damaged)
        (folder / f"{name}.tar").put(damaged)
        with pytest.raises(EarmarkError) as local:
            tar_members(tmp_path / f"{name}.tar")
        with pytest.raises(EarmarkError) as distant:
            tar_members(folder / f"{name}.tar")
        assert str(distant.value).replace(str(folder), "X") == str(local.value).replace(str(tmp_path), "X")


def test_tar_member_is_one_request_of_its_bytes(folder, requests):
    content, members = tar_file([5000, 7000])
    (folder / "x.tar").put(content)
    member = next(each for each in tar_members(folder / "x.tar") if each.name == "1.wav")
    requests.clear()
    assert member.read() == members["1.wav"]
    with Content(member) as open_clip:
        assert open_clip.read_at(6990, 100) == members["1.wav"][6990:]
    assert [(start, end) for _, start, end in requests] == [(member.offset, member.offset + 7000)]


def test_tar_member_of_truncated_tar(folder):
    (folder / "x.tar").put(bytes(1000))
    with pytest.raises(AudioError, match="ends after 488 of the 600 bytes"):
        TarMember(folder / "x.tar", "a.wav", 512, 600).read()


@pytest.mark.parametrize(("content", "fault"), [(None, "file not found"), (b"", "is empty")])
def test_content_of_absent_or_empty_file(folder, content, fault):
    if content is not None:
        (folder / "x.wav").put(content)
    with pytest.raises(AudioError, match=rf"x\.wav: {fault}"):
        Content(folder / "x.wav")


def test_read_together_leaves_out_files_that_are_gone(folder):
    (folder / "a[1]*.txt").put(b"1")
    (folder / "b").put(b"2")
    assert read_together(folder, ["a[1]*.txt", "none", "b"]) == {"a[1]*.txt": b"1", "b": b"2"}
    assert read_together(folder, []) == {}


# --- faults ---


def failing(monkeypatch, name, *errors):
    """Let the first calls of an operation fail with these errors; return the list of calls."""
    calls, remaining, works = [], list(errors), getattr(memory.MemoryFileSystem, name)

    def operation(self, path, *arguments, **how):
        calls.append(path)
        if remaining:
            raise remaining.pop(0)
        return works(self, path, *arguments, **how)

    monkeypatch.setattr(memory.MemoryFileSystem, name, operation)
    return calls


def test_put_is_repeated_after_transient_errors(folder, monkeypatch, no_wait):
    calls = failing(monkeypatch, "pipe_file", ConnectionResetError(), TimeoutError())
    (folder / "a").put(b"1")
    assert len(calls) == 3 and (folder / "a").read_bytes() == b"1"


def test_listing_is_repeated_after_transient_errors(folder, monkeypatch, no_wait):
    (folder / "a").put(b"1")
    calls = failing(monkeypatch, "ls", ConnectionResetError())
    assert [path.name for path in folder.iterdir()] == ["a"] and len(calls) == 2


def test_require_reachable_fails_at_once(folder, monkeypatch):
    calls = failing(monkeypatch, "ls", ConnectionResetError())
    with pytest.raises(EarmarkError, match="does not respond"):
        remote.require_reachable(folder)
    assert len(calls) == 1
    remote.require_reachable(folder / "none")  # a folder that the run will create


def test_put_gives_up_and_writes_nothing(folder, monkeypatch, no_wait):
    calls = failing(monkeypatch, "pipe_file", *[ConnectionResetError()] * 9)
    with pytest.raises(EarmarkError, match=r"data/a: the server does not respond"):
        (folder / "a").put(b"1")
    assert len(calls) == remote.ATTEMPTS and folder.list_now() == []


def test_denied_access_is_not_repeated(folder, monkeypatch):
    calls = failing(monkeypatch, "pipe_file", PermissionError("hunter2"))
    with pytest.raises(EarmarkError, match="access denied") as raised:
        (folder / "a").put(b"1")
    assert len(calls) == 1 and "hunter2" not in str(raised.value) and raised.value.__suppress_context__


class ServiceError(Exception):
    """As botocore's: a response with a code."""

    def __init__(self, code):
        super().__init__("hunter2")
        self.response = {"Error": {"Code": code, "Message": "hunter2"}}


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RuntimeError("token=hunter2"), EarmarkError, "cannot be accessed (RuntimeError)"),
        (ServiceError("NoSuchBucket"), MissingError, "the bucket"),
        (ServiceError("SlowDown"), EarmarkError, "busy (SlowDown)"),
        (ServiceError("AccessDenied"), EarmarkError, "access denied (AccessDenied)"),
        (ServiceError("key hunter2"), EarmarkError, "cannot be accessed (ServiceError)"),
        (type("NoCredentialsError", (Exception,), {})("hunter2"), MissingError, "no credentials found"),
        (type("EndpointConnectionError", (ConnectionError,), {})("hunter2"), EarmarkError, "does not respond"),
        (ImportError("hunter2", name="gcsfs"), MissingError, "`uv run --with gcsfs"),
        (ServiceError("InvalidRange"), OSError, "shorter than expected"),
    ],
)
def test_errors_name_url_and_remedy_without_their_text(folder, monkeypatch, no_wait, error, kind, words):
    failing(monkeypatch, "cat_file", *[error] * 9)
    with pytest.raises(kind) as raised:
        (folder / "a").read_bytes()
    assert words in str(raised.value) and str(raised.value).startswith(f"{folder}/a: ")
    assert "hunter2" not in str(raised.value) and raised.value.__suppress_context__
    assert type(raised.value) is kind or kind is EarmarkError


def test_endpoint_is_shown_without_password(folder, monkeypatch, no_wait):
    error = ConnectionError()
    error.kwargs = {"endpoint_url": "http://me:hunter2@host:9000/bucket?list-type=2"}
    failing(monkeypatch, "cat_file", *[error] * 9)
    with pytest.raises(EarmarkError, match=r"a: http://host:9000 does not respond"):
        (folder / "a").read_bytes()


@pytest.mark.parametrize(("url", "extra"), [("s3://b/x", "s3"), ("hf://datasets/a/b", "download"), ("gs://b/x", "s3")])
def test_missing_library_names_the_extra(monkeypatch, url, extra):
    for name in ("s3fs", "huggingface_hub", "fsspec"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingError, match=f"uv run --extra {extra} "):
        location(url).is_dir()
