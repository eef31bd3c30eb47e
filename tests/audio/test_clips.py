"""Reading of tar members: valid, truncated, compressed and concatenated tar files."""

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earmark.audio.clips import AudioError, TarMember, reading_once, tar_members
from earmark.audio.decode import check_audio, read_audio, read_nonsilent_audio
from earmark.errors import EarmarkError, MissingError
from tests.models.encoders.sources import clips


def packed(tar: Path, files: list[Path], mode: str = "w", kind: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(tar, mode, format=kind) as archive:
        for file in files:
            archive.add(file, f"anna/{file.name}")
    return tar


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = clips(tmp_path / "audio", 6)
    for i, suffix in enumerate(("mp3", "flac", "ogg")):
        samples, rate = soundfile.read(paths[i])
        soundfile.write(paths[i].with_suffix(f".{suffix}"), samples, rate)
        paths.append(paths[i].with_suffix(f".{suffix}"))
    return paths


def test_tar_members_offsets_and_sizes(tmp_path: Path):
    for name, content in (("a", b"12345"), ("b", b"x" * 600)):
        (tmp_path / name).write_bytes(content)
    tar = packed(tmp_path / "x.tar", [tmp_path / "a", tmp_path / "b"])
    # Header of 512 bytes, content padded to 512 bytes; the second header is at 1024, its content at 1536.
    assert tar_members(tar) == [TarMember(tar, "anna/a", 512, 5), TarMember(tar, "anna/b", 1536, 600)]
    assert [member.read() for member in tar_members(tar)] == [b"12345", b"x" * 600]


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_tar_member_decodes_like_file(tmp_path: Path, files: list[Path], kind: int):
    members = tar_members(packed(tmp_path / "train-0.tar", files, kind=kind))
    assert [member.name for member in members] == [f"anna/{file.name}" for file in files]
    for file, member in zip(files, members, strict=True):
        assert member.read() == file.read_bytes()
        np.testing.assert_array_equal(read_audio(member, 8000), read_audio(file, 8000))
        np.testing.assert_array_equal(read_nonsilent_audio(member, 16_000), read_nonsilent_audio(file, 16_000))
        check_audio(member, 0.5)


def test_tar_members_skip_folders_and_links(tmp_path: Path, files: list[Path]):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(files[0].parent, "folder", recursive=False)
        archive.add(files[0], "one.wav")
        link = tarfile.TarInfo("link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "one.wav"
        archive.addfile(link)
    assert [member.name for member in tar_members(tmp_path / "x.tar")] == ["one.wav"]


def test_tar_member_read_is_thread_safe(tmp_path: Path, files: list[Path]):
    members = tar_members(packed(tmp_path / "x.tar", files))
    expected = {f"anna/{file.name}": file.read_bytes() for file in files}
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(members)), 200))
    with ThreadPoolExecutor(16) as pool:
        contents = list(pool.map(lambda i: (members[i].name, members[i].read()), order))
    assert len(contents) == 200 * len(files) and all(expected[name] == content for name, content in contents)


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_tar_members_reject_compressed_tar(tmp_path: Path, files: list[Path], mode: str):
    program = {"gz": "gzip", "bz2": "bzip2", "xz": "xz"}[mode]
    packed(tmp_path / f"x.tar.{mode}", files, f"w:{mode}")
    with pytest.raises(EarmarkError, match=rf"is compressed, .*`{program} -dc x\.tar\.{mode} > plain\.tar`"):
        tar_members(tmp_path / f"x.tar.{mode}")


@pytest.mark.parametrize("at", [0.3, 0.9, "in a header", "between members"])
def test_tar_members_name_last_member_of_truncated_tar(tmp_path: Path, files: list[Path], at: float | str):
    tar = packed(tmp_path / "x.tar", files[:3])
    members, content = tar_members(tar), tar.read_bytes()
    third = members[2].offset - 512
    end = {"in a header": third + 100, "between members": third}.get(str(at)) or int(members[2].offset * float(at))
    tar.write_bytes(content[:end])
    last = max(member.name for member in members if member.offset <= end)
    with pytest.raises(EarmarkError, match=rf"x\.tar: truncated or damaged tar file.*after its member {last} "):
        tar_members(tar)


def test_read_audio_names_member_of_truncated_tar(tmp_path: Path, files: list[Path]):
    tar = packed(tmp_path / "x.tar", files[:2])
    last = tar_members(tar)[1]
    tar.write_bytes(tar.read_bytes()[: last.offset + 1000])
    with pytest.raises(
        AudioError, match=rf"^x\.tar:anna/0-001\.wav: the tar file ends after 1,000 of the {last.size:,}"
    ):
        read_audio(last)
    tar.unlink()
    with pytest.raises(AudioError, match=r"^x\.tar:anna/0-001\.wav: tar file not found"):
        read_audio(last)


def test_tar_members_reject_other_files(tmp_path: Path):
    (tmp_path / "x.json").write_text('{"label": 3}')
    (tmp_path / "empty.wav").write_bytes(b"")
    tar = packed(tmp_path / "x.tar", [tmp_path / "x.json", tmp_path / "empty.wav"])
    text, empty = tar_members(tar)
    with pytest.raises(AudioError, match=r"^x\.tar:anna/x\.json: is not audio"):
        read_audio(text)
    with pytest.raises(AudioError, match=r"^x\.tar:anna/empty\.wav: is empty"):
        check_audio(empty)
    with pytest.raises(EarmarkError, match=r"truncated or damaged tar file.*before its first member"):
        tar_members(tmp_path / "x.json")
    with pytest.raises(MissingError, match="no such tar file"):
        tar_members(tmp_path / "absent.tar")


def test_tar_members_reject_concatenated_tars(tmp_path):
    files = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for file in files:
        file.write_bytes(b"x" * 100)
    one = packed(tmp_path / "one.tar", files)
    (tmp_path / "both.tar").write_bytes(one.read_bytes() * 2)
    with pytest.raises(EarmarkError, match=r"both\.tar: has data after its end-of-archive block"):
        tar_members(tmp_path / "both.tar")


def test_members_are_read_once_within_the_context(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("one", "two"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(name.encode()))
    one, two = tar_members(tmp_path / "a.tar")
    reads = []
    monkeypatch.setattr(TarMember, "_read", lambda member: reads.append(member.name) or member.name.encode())
    with reading_once(one):
        assert (one.read(), one.read(), two.read(), one.read()) == (b"one", b"one", b"two", b"one")
    assert reads == ["one", "two"]
    assert one.read() == one.read() == b"one" and reads == ["one", "two", "one", "one"]
