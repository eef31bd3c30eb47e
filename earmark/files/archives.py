"""Archives of strangers, unpacked: nothing leaves the folder, and nothing is in place until all could be read."""

import errno
import gzip
import hashlib
import json
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from filelock import FileLock

from earmark.errors import EarmarkError, shown_path
from earmark.files.hashing import file_hash

BLOCK = 1 << 20
LONGEST_NAME = 255  # bytes of a file's name, on every file system that is common
# By the first bytes of a file; what begins otherwise is taken for a plain tar.
TARS = {b"\x1f\x8b": "r:gz", b"BZ": "r:bz2", b"\xfd7": "r:xz"}
UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError)


def escapes_directory(name: str) -> bool:
    """Whether a path made elsewhere would lead out of the folder it is meant for, on any operating system.

    >>> [escapes_directory(name) for name in ("audio/a.wav", "../a.wav", "/etc/passwd", "C:\\\\a.wav", "a/../../b")]
    [False, True, True, True, True]
    """
    path = PureWindowsPath(name)  # knows both slashes, and drives
    return bool(path.drive or path.root or ".." in path.parts or not path.parts or "\0" in name)


def file_checksum(path: Path, algorithm: str) -> str:
    """`algorithm:digest` of a file; git-sha1 is how git names its content."""
    if algorithm != "git-sha1":
        return f"{algorithm}:{file_hash(path, algorithm)}"
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, lambda: blob).hexdigest()}"


def unpack(archive: Path, folder: Path) -> list[Path]:
    """The files of a tar (plain, gz, bz2, xz) or zip, below the folder.

    They are extracted into a hidden folder in it and moved into place once all could be read; then
    `.<archive>.unpacked` notes the archive's SHA-256 and its files, and as long as both are there the next call does
    nothing. A call that is killed leaves the hidden folder, which the next one replaces. Files that were there
    before are overwritten; empty folders are dropped. Other processes wait.

    EarmarkError, with nothing in place, when the archive is truncated or damaged, larger than the disk has room for,
    or holds what no data set needs: a path or link that leaves the folder, something below a link, one name
    twice, devices, links in a zip.
    """
    folder.mkdir(parents=True, exist_ok=True)
    marker, stage = folder / f".{archive.name}.unpacked", folder / f".{archive.name}.part"
    with FileLock(folder / f".{archive.name}.unpack.lock"):
        checksum = file_checksum(archive, "sha256")
        if (known := _noted(marker, checksum)) is not None and all((folder / name).exists() for name in known):
            return [folder / name for name in known]
        shutil.rmtree(stage, ignore_errors=True)
        try:
            names = _extract(archive, stage)
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (stage / name).replace(folder / name)
            note = stage / marker.name
            note.write_text(json.dumps({"archive": checksum, "files": names}), encoding="utf-8")
            note.replace(marker)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    return [folder / name for name in names]


def _noted(marker: Path, checksum: str) -> list[str] | None:
    """The files that an earlier call noted for this very archive."""
    try:
        note = json.loads(marker.read_text(encoding="utf-8"))
        return list(note["files"]) if note["archive"] == checksum else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class _Member:
    """size: bytes it says it has. kind: file, folder, symlink, hardlink or device. target: of a link."""

    name: str
    size: int
    kind: str
    target: str
    extract: Callable[[Path], object]


def _extract(archive: Path, stage: Path) -> list[str]:
    """The names of the files of an archive, extracted below stage."""
    stage.mkdir()
    kinds: dict[PurePosixPath, str] = {}
    try:
        for member in _members(archive):
            path = PurePosixPath(member.name)
            if not path.parts:
                continue  # the folder itself
            if fault := _fault(member, path, kinds) or _too_large(member, stage):
                raise EarmarkError(f"{shown_path(archive)}: {member.name!r} {fault}. Nothing of it was unpacked.")
            member.extract(stage)
            kinds |= dict.fromkeys(path.parents, "folder") | {path: member.kind}
    except (*UNREADABLE, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENAMETOOLONG, errno.EILSEQ):
            raise  # the disk's fault, not the archive's
        raise EarmarkError(
            f"{shown_path(archive)}: damaged or not complete: {error}. Nothing of it was unpacked; "
            "delete it and run the same command to fetch it again."
        ) from error
    return [path.as_posix() for path, kind in kinds.items() if kind != "folder"]


def _fault(member: _Member, path: PurePosixPath, kinds: Mapping[PurePosixPath, str]) -> str:
    """What is wrong with a member, after those before it; empty when nothing is.

    A link may lead up, out of folders that are real, and then down. So however links lead to links, none leaves.
    """
    if escapes_directory(member.name):
        return "leaves the folder"
    if (longest := max(len(os.fsencode(part)) for part in path.parts)) > LONGEST_NAME:
        return f"has {longest} bytes in one name, where file systems take {LONGEST_NAME}"
    if any(kinds.get(parent, "folder") != "folder" for parent in path.parents):
        return "lies below a file or link"
    if path in kinds and not kinds[path] == member.kind == "folder":
        return "is there twice"
    if member.kind == "device":
        return "is neither file, folder nor link"
    if member.kind == "hardlink" and kinds.get(PurePosixPath(member.target)) != "file":
        return f"is a link to {member.target!r}, which is no file before it"
    if member.kind == "symlink":
        down = list(PurePosixPath(member.target).parts)
        while down and down[0] == "..":
            down.pop(0)
        up = len(PurePosixPath(member.target).parts) - len(down)
        if up >= len(path.parts) or (down and escapes_directory("/".join(down))):
            return f"is a link to {member.target!r}, which leaves the folder"
    return ""


def _too_large(member: _Member, stage: Path) -> str:
    free = shutil.disk_usage(stage).free
    return f"has {member.size:,} bytes where the disk has {free:,} left" if member.size > free else ""


def _members(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as content:
        start = content.read(2)
    return _zip_members(archive) if start == b"PK" else _tar_members(archive, TARS.get(start, "r:"))


class _Header(tarfile.TarInfo):
    """A header as tarfile reads it, but one that is cut off or damaged is an error, not the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _tar_members(archive: Path, mode: str) -> Iterator[_Member]:
    kinds = {tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink"}
    with tarfile.open(archive, mode, tarinfo=_Header) as tar:  # type: ignore[call-overload]
        for info in tar:
            kind = "file" if info.isreg() else kinds.get(info.type, "device")
            size = info.size if info.isreg() else 0
            yield _Member(info.name, size, kind, info.linkname, partial(tar.extract, info, filter="data"))
        while tar.fileobj.read(BLOCK):
            pass  # to the checksum at the end of the compressed stream


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            plain = "folder" if info.is_dir() else "file"
            kind = plain if mode in (0, stat.S_IFREG, stat.S_IFDIR) else "device"
            yield _Member(info.filename, info.file_size, kind, "", partial(packed.extract, info))
