"""Safe extraction of untrusted archives: no path leaves the directory, and files appear all together or not at all."""

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

BLOCK_SIZE = 1 << 20
MAX_NAME_BYTES = 255  # limit of common file systems
# Mode by the first bytes of a file; other files are opened as plain tar.
TAR_MODES = {b"\x1f\x8b": "r:gz", b"BZ": "r:bz2", b"\xfd7": "r:xz"}
UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError)


def escapes_directory(name: str) -> bool:
    r"""Whether a relative path would lead out of its directory, on any operating system.

    Examples
    --------
    >>> [escapes_directory(name) for name in ("audio/a.wav", "../a.wav", "/etc/passwd", "C:\\a.wav", "a/../../b")]
    [False, True, True, True, True]
    """
    path = PureWindowsPath(name)  # handles both slashes and drive letters
    return bool(path.drive or path.root or ".." in path.parts or not path.parts or "\0" in name)


def file_checksum(path: Path, algorithm: str) -> str:
    """Checksum of a file as `algorithm:digest`.

    Parameters
    ----------
    path : Path
    algorithm : str
        A name known to hashlib, or git-sha1, the hash of a git blob.
    """
    if algorithm != "git-sha1":
        return f"{algorithm}:{file_hash(path, algorithm)}"
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, lambda: blob).hexdigest()}"


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Extract a tar (plain, gz, bz2, xz) or zip archive.

    Files are extracted to a hidden directory and moved into place when all have been read. The file
    `.<archive>.unpacked` then records the archive's SHA-256 and the extracted files; while they exist, the next call
    does nothing. The next call also replaces the hidden directory of an interrupted call. Existing files are
    overwritten, empty directories are dropped, and concurrent calls wait for each other.

    Parameters
    ----------
    archive : Path
    folder : Path
        Created if needed.

    Returns
    -------
    list of Path
        The extracted files.

    Raises
    ------
    EarmarkError
        If the archive is truncated, damaged or larger than the free disk space, or contains a path or link that leaves
        the directory, a member below a link, a duplicate name, a device, or (zip) a link. No file is extracted then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    marker, stage = folder / f".{archive.name}.unpacked", folder / f".{archive.name}.part"
    with FileLock(folder / f".{archive.name}.unpack.lock"):
        checksum = file_checksum(archive, "sha256")
        if (extracted := _noted(marker, checksum)) is not None and all((folder / name).exists() for name in extracted):
            return [folder / name for name in extracted]
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
    """Files recorded by an earlier call for the same archive, or None."""
    try:
        note = json.loads(marker.read_text(encoding="utf-8"))
        return list(note["files"]) if note["archive"] == checksum else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class _Member:
    """Archive member. size: declared bytes. kind: file, folder, symlink, hardlink or device. target: of a link."""

    name: str
    size: int
    kind: str
    target: str
    extract: Callable[[Path], object]


def _extract(archive: Path, stage: Path) -> list[str]:
    """Extract below `stage`; return the names of the files."""
    stage.mkdir()
    kinds: dict[PurePosixPath, str] = {}
    try:
        for member in _members(archive):
            path = PurePosixPath(member.name)
            if not path.parts:
                continue  # the directory itself
            if fault := _fault(member, path, kinds) or _too_large(member, stage):
                raise EarmarkError(f"{shown_path(archive)}: {member.name!r} {fault}. No file was extracted.")
            member.extract(stage)
            kinds |= dict.fromkeys(path.parents, "folder") | {path: member.kind}
    except (*UNREADABLE, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENAMETOOLONG, errno.EILSEQ):
            raise  # an error of the disk, not of the archive
        raise EarmarkError(
            f"{shown_path(archive)}: damaged or incomplete: {error}. No file was extracted. "
            "Delete the archive and run the same command to download it again."
        ) from error
    return [path.as_posix() for path, kind in kinds.items() if kind != "folder"]


def _fault(member: _Member, path: PurePosixPath, kinds: Mapping[PurePosixPath, str]) -> str:
    """Describe why a member is unsafe, given the kinds of earlier members; empty if it is safe.

    A symbolic link may ascend within real directories and then descend. So no chain of links leaves the directory.
    """
    if escapes_directory(member.name):
        return "leaves the target directory"
    if (longest := max(len(os.fsencode(part)) for part in path.parts)) > MAX_NAME_BYTES:
        return f"has a name of {longest} bytes, more than {MAX_NAME_BYTES}"
    if any(kinds.get(parent, "folder") != "folder" for parent in path.parents):
        return "is below a file or link"
    if path in kinds and not kinds[path] == member.kind == "folder":
        return "occurs twice"
    if member.kind == "device":
        return "is not a file, directory or link"
    if member.kind == "hardlink" and kinds.get(PurePosixPath(member.target)) != "file":
        return f"is a hard link to {member.target!r}, which is not an earlier file"
    if member.kind == "symlink":
        down = list(PurePosixPath(member.target).parts)
        while down and down[0] == "..":
            down.pop(0)
        up = len(PurePosixPath(member.target).parts) - len(down)
        if up >= len(path.parts) or (down and escapes_directory("/".join(down))):
            return f"is a link to {member.target!r}, which leaves the target directory"
    return ""


def _too_large(member: _Member, stage: Path) -> str:
    free = shutil.disk_usage(stage).free
    return f"has {member.size:,} bytes, but only {free:,} are free on the disk" if member.size > free else ""


def _members(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as content:
        magic = content.read(2)
    return _zip_members(archive) if magic == b"PK" else _tar_members(archive, TAR_MODES.get(magic, "r:"))


class _Header(tarfile.TarInfo):
    """Tar header for which a truncated or damaged header is an error instead of the end of the archive."""

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
        while tar.fileobj.read(BLOCK_SIZE):
            pass  # read up to the checksum of the compressed stream


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            plain = "folder" if info.is_dir() else "file"
            kind = plain if mode in (0, stat.S_IFREG, stat.S_IFDIR) else "device"
            yield _Member(info.filename, info.file_size, kind, "", partial(packed.extract, info))
