"""Archives: valid, malicious, truncated and damaged."""

import bz2
import gzip
import hashlib
import io
import lzma
import signal
import subprocess
import sys
import tarfile
import zipfile

import pytest

from earmark.errors import EarmarkError
from earmark.files.archives import unpack
from tests.conftest import ROOT, visible, wait_for

CONTENT = hashlib.shake_256(b"content").digest(512_000)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
TOKEN = "Bearer hf_verysecret"


def member(name, content=b"", kind=tarfile.REGTYPE, target="", size=None):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(content) if size is None else size
    return info, content


def tar(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


GOOD = (member("d", kind=tarfile.DIRTYPE), member("d/a.wav", b"A" * 1000), member("d/e/b.wav", b"B"), member("c", b""))
FILES = ["c", "d/a.wav", "d/e/b.wav"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_unpack_tar_once(tmp_path, mode):
    archive, folder = tar(tmp_path / "x.tar", *GOOD, mode=mode), tmp_path / "out"
    paths = unpack(archive, folder)
    assert sorted(p.relative_to(folder).as_posix() for p in paths) == FILES == visible(folder)
    assert (folder / "d/a.wav").read_bytes() == b"A" * 1000
    before = (folder / "c").stat().st_mtime_ns
    assert unpack(archive, folder) == paths
    assert (folder / "c").stat().st_mtime_ns == before


def test_unpack_zip_once(tmp_path):
    archive, folder = tmp_path / "x.zip", tmp_path / "out"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.mkdir("d")
        packed.writestr("d/a.wav", b"A" * 1000)
        packed.writestr("d/e/b.wav", b"B")
        packed.writestr("c", b"")
    assert sorted(p.relative_to(folder).as_posix() for p in unpack(archive, folder)) == FILES == visible(folder)
    inode = (folder / "c").stat().st_ino
    unpack(archive, folder)
    assert (folder / "c").stat().st_ino == inode


def test_unpack_again_after_change(tmp_path):
    archive, folder = tar(tmp_path / "x.tar", *GOOD), tmp_path / "out"
    unpack(archive, folder)
    (folder / "c").unlink()
    unpack(archive, folder)
    assert visible(folder) == FILES
    (folder / ".x.tar.unpacked").write_text("{")
    tar(archive, member("c", b"new"), mode="w:gz")
    assert unpack(archive, folder) == [folder / "c"]
    assert (folder / "c").read_bytes() == b"new"


def test_unpack_two_archives_to_one_directory(tmp_path):
    folder = tmp_path / "out"
    unpack(tar(tmp_path / "x.tar", *GOOD), folder)
    unpack(tar(tmp_path / "y.tar", member("d/f.wav", b"F")), folder)
    assert visible(folder) == sorted([*FILES, "d/f.wav"])


def test_unpack_keeps_safe_links(tmp_path):
    archive = tar(
        tmp_path / "x.tar",
        member("./d/e/a", b"A"),
        member("./d/up", kind=tarfile.SYMTYPE, target="../d/e/a"),
        member("./d/hard", kind=tarfile.LNKTYPE, target="./d/e/a"),
    )
    folder = tmp_path / "out"
    unpack(archive, folder)
    assert (folder / "d/up").is_symlink()
    assert [(folder / name).read_bytes() for name in ("d/up", "d/hard")] == [b"A", b"A"]


SYM, HARD, FIFO = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE
EVIL = {
    "parent": ([member("../evil", b"E")], r"'\.\./evil' leaves the target directory"),
    "parent within": ([member("a/../../evil", b"E")], "leaves the target directory"),
    "absolute": ([member("/tmp/evil", b"E")], "leaves the target directory"),
    "backslash": ([member("..\\evil", b"E")], "leaves the target directory"),
    "symlink up": ([member("a/l", kind=SYM, target="../../x")], r"link to '\.\./\.\./x', which leaves"),
    "symlink absolute": ([member("l", kind=SYM, target="/etc/passwd")], "link to '/etc/passwd', which leaves"),
    "symlink down then up": ([member("l", kind=SYM, target="a/../../x")], "which leaves the target directory"),
    "hard link up": ([member("l", kind=HARD, target="../x")], "which is not an earlier file"),
    "hard link absolute": ([member("l", kind=HARD, target="/etc/hostname")], "which is not an earlier file"),
    "hard link to a link": (
        [member("s", kind=SYM, target="c"), member("l", kind=HARD, target="s")],
        "not an earlier file",
    ),
    "below a link": ([member("s", kind=SYM, target="."), member("s/evil", b"E")], "is below a file or link"),
    "below a file": ([member("c/evil", b"E")], "is below a file or link"),
    "over a link": ([member("s", kind=SYM, target="d/a.wav"), member("s", b"E")], "occurs twice"),
    "over a folder": ([member("d", b"E")], "occurs twice"),
    "link over a folder": ([member("d/e", kind=SYM, target=".")], "occurs twice"),
    "twice": ([member("c", b"E")], "occurs twice"),
    "fifo": ([member("f", kind=FIFO)], "not a file, directory or link"),
    "device": ([member("f", kind=tarfile.CHRTYPE)], "not a file, directory or link"),
}


@pytest.mark.parametrize("name", EVIL)
def test_unpack_rejects_malicious_tar(tmp_path, name):
    members, message = EVIL[name]
    folder = tmp_path / "deep" / "out"
    archive = tar(tmp_path / "x.tar", *GOOD, *members)
    with pytest.raises(EarmarkError, match=rf"x\.tar: .*{message}.*No file was extracted"):
        unpack(archive, folder)
    assert visible(tmp_path) == ["x.tar"]
    assert not list(folder.glob(".*.part"))


NAMES = {
    "NUL": ("a\0b", "leaves the target directory"),
    "long": ("d/" + "x" * 300, "has a name of 300 bytes, more than 255"),
    "long in bytes": ("d/" + "é" * 130, "has a name of 260 bytes"),
    "deep": ("/".join(["x" * 200] * 30), "damaged or incomplete|leaves the target directory"),
}


@pytest.mark.parametrize("name", NAMES)
def test_unpack_rejects_tar_with_invalid_name(tmp_path, name):
    wanted, message = NAMES[name]
    info = tarfile.TarInfo("placeholder")
    info.pax_headers, info.size = {"path": wanted}, 1
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"E"))
    with pytest.raises(EarmarkError, match=rf"x\.tar: .*({message}).*No file was extracted") as caught:
        unpack(tmp_path / "x.tar", tmp_path / "out")
    assert str(caught.value).isprintable()
    assert visible(tmp_path) == ["x.tar"]


def test_unpack_rejects_zip_with_invalid_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("d/" + "x" * 300, b"E")
    with pytest.raises(EarmarkError, match="has a name of 300 bytes"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert visible(tmp_path) == ["x.zip"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file systems insist on UTF-8")
def test_unpack_keeps_non_utf8_names(tmp_path):
    info, _ = member("cafX.wav", size=1)
    header = bytearray(info.tobuf(format=tarfile.GNU_FORMAT))
    header[3] = 0xE9
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x.tar").write_bytes(bytes(header) + b"A".ljust(512, b"\0") + bytes(1024))
    for _ in range(2):
        (path,) = unpack(tmp_path / "x.tar", tmp_path / "out")
        assert path.read_bytes() == b"A"
        assert path.name == "caf\udce9.wav"


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "d/../../evil", "C:/evil"])
def test_unpack_rejects_malicious_zip(tmp_path, name):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("good", b"G")
        packed.writestr(name, b"E")
    with pytest.raises(EarmarkError, match="leaves the target directory"):
        unpack(archive, tmp_path / "deep" / "out")
    assert visible(tmp_path) == ["x.zip"]


def test_unpack_rejects_link_in_zip(tmp_path):
    archive = tmp_path / "x.zip"
    link = zipfile.ZipInfo("l")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(EarmarkError, match="'l' is not a file, directory or link"):
        unpack(archive, tmp_path / "out")


def test_unpack_rejects_archive_larger_than_disk(tmp_path):
    info, _ = member("huge", size=1 << 60)
    (tmp_path / "x.tar").write_bytes(info.tobuf(format=tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(EarmarkError, match=r"'huge' has 1,152,921,504,606,846,976 bytes, but only"):
        unpack(tmp_path / "x.tar", tmp_path / "out")


NOISE = hashlib.shake_256(b"seed").digest(200_000)  # incompressible, so that truncation can fall anywhere
SHORTENED = {
    "tar": lambda data: data,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [*SHORTENED, "zip"])
def test_unpack_truncated_archive(tmp_path, suffix, share):
    path, folder = tmp_path / f"x.{suffix}", tmp_path / "out"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("a", NOISE)
            packed.writestr("b", NOISE)
        data = path.read_bytes()
    else:
        plain = tar(tmp_path / "plain", member("a", NOISE), member("b", NOISE), mode="w").read_bytes()
        (tmp_path / "plain").unlink()
        data = SHORTENED[suffix](plain[: 2 * (512 + 200_192) + 1024])  # two members, and the two end blocks of a tar
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        EarmarkError, match=rf"x\.{suffix}: damaged or incomplete: .*Delete the archive and run the same"
    ):
        unpack(path, folder)
    assert visible(folder) == []
    path.write_bytes(data)
    assert len(unpack(path, folder)) == 2


@pytest.mark.parametrize("members_kept", [1, 2])
def test_unpack_tar_truncated_between_members(tmp_path, members_kept):
    path = tar(tmp_path / "x.tar", *(member(name, b"A" * 512) for name in "abc"), mode="w")
    path.write_bytes(path.read_bytes()[: members_kept * 1024])
    with pytest.raises(EarmarkError, match="damaged or incomplete: empty header"):
        unpack(path, tmp_path / "out")


def test_unpack_tar_with_damaged_header(tmp_path):
    path = tar(tmp_path / "x.tar", *(member(name, b"A" * 512) for name in "abc"), mode="w")
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    with pytest.raises(EarmarkError, match="damaged or incomplete: bad checksum"):
        unpack(path, tmp_path / "out")


def test_unpack_detects_flipped_bit(tmp_path):
    path = tmp_path / "x.tar.gz"
    with gzip.open(
        path, "wb", compresslevel=0
    ) as stream:  # stored without compression, so that only the checksum detects it
        stream.write(tar(tmp_path / "plain", member("a", NOISE), mode="w").read_bytes())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(EarmarkError, match="CRC check failed"):
        unpack(path, tmp_path / "out")
    assert visible(tmp_path / "out") == []


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04", b"\x1f\x8b", NOISE])
def test_unpack_rejects_other_files(tmp_path, content):
    (tmp_path / "x.tar.gz").write_bytes(content)
    with pytest.raises(EarmarkError, match=r"x\.tar\.gz: damaged or incomplete"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")


@pytest.mark.slow
def test_unpack_restarts_after_kill(tmp_path):
    names = [f"d/{n}.wav" for n in range(3000)]
    archive, folder = (
        tar(tmp_path / "x.tar", *(member(name, b"A" * 2000) for name in names), mode="w"),
        tmp_path / "out",
    )
    code = (
        "import sys; from pathlib import Path; from earmark.files.archives import unpack\n"
        "unpack(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, archive, folder], cwd=ROOT)
    wait_for(lambda: (folder / ".x.tar.part" / "d" / "20.wav").exists())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / ".x.tar.part").is_dir()
    assert not (folder / "d").exists()
    unpack(archive, folder)
    assert visible(folder) == sorted(names)
    assert not (folder / ".x.tar.part").exists()
