"""A clip is an audio file or a member of an uncompressed tar file; members are read without unpacking."""

import os
import tarfile
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.remote import RemotePath

# First bytes of compressed files, and the program that decompresses them.
COMPRESSION_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class AudioError(EarmarkError):
    """A clip that cannot be used. The message is reported for that clip."""


@dataclass(frozen=True, order=True)
class TarMember:
    """A file inside an uncompressed tar file, such as a webdataset shard.

    Attributes
    ----------
    tar : Path
        The tar file.
    name : str
        Name of the member within the tar file.
    offset, size : int
        Start and length of the content, in bytes of the tar file.
    """

    tar: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Read the content.

        Each call opens the tar file, or requests its range of a remote one, so threads can read concurrently. Within
        `reading_once`, a thread reads only once.

        Raises
        ------
        OSError
            If the tar file cannot be read.
        AudioError
            If the tar file ends within the member.
        """
        if getattr(_held, "clip", None) != self:
            return self._read()
        if _held.content is None:
            _held.content = self._read()
        content: bytes = _held.content
        return content

    def _read(self) -> bytes:
        if isinstance(self.tar, RemotePath):
            return self._complete(self.tar.read_clip(self.offset, self.offset + self.size))
        blocks, length = [], 0
        with self.tar.open("rb", buffering=0) as file:
            while length < self.size:  # pread may return fewer bytes than requested
                block = os.pread(file.fileno(), self.size - length, self.offset + length)
                if not block:
                    break
                blocks.append(block)
                length += len(block)
        return self._complete(blocks[0] if len(blocks) == 1 else b"".join(blocks))

    def _complete(self, content: bytes) -> bytes:
        if len(content) < self.size:
            raise AudioError(
                f"{shown_clip(self)}: the tar file ends after {len(content):,} of the {self.size:,} bytes of this "
                "member"
            )
        return content


Clip = Path | TarMember
_held = threading.local()


@contextmanager
def reading_once(clip: Clip) -> Iterator[None]:
    """Keep the content of a member of a tar file in memory, so that this thread reads it once within the context.

    Parameters
    ----------
    clip : Path or TarMember
        Files are read as usual.
    """
    _held.clip, _held.content = clip, None
    try:
        yield
    finally:
        _held.clip = _held.content = None


def shown_clip(clip: Clip) -> str:
    """Name a clip for messages, without its folder.

    >>> shown_clip(Path("audio/anna/1.wav"))
    '1.wav'
    >>> shown_clip(TarMember(Path("audio/train-0.tar"), "anna/1.wav", 512, 8044))
    'train-0.tar:anna/1.wav'
    """
    return f"{clip.tar.name}:{clip.name}" if isinstance(clip, TarMember) else clip.name


def file_stamp(path: Path) -> str:
    """Identify the state of a file by size, inode, modification time and change time.

    Unpacking tools can set the modification time, but not the change time. A remote file is identified by size and
    entity tag (or time of change) as listed; nothing is read.

    Raises
    ------
    OSError
        If the file cannot be examined.
    """
    if isinstance(path, RemotePath):
        return path.stamp
    status = path.stat()
    return f"{status.st_size} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}"


def tar_members(path: Path, labels: MutableMapping[int, bytes] | None = None) -> list[TarMember]:
    """List the regular files of an uncompressed tar file.

    Only headers are read. Folders and links are skipped. A remote file is read forward once.

    Parameters
    ----------
    path : Path
        The tar file.
    labels : mutable mapping, optional
        Filled with {offset: content} of the members named *.json, so that a remote file need not be read again.

    Returns
    -------
    list of TarMember
        In the order of the tar file.

    Raises
    ------
    MissingError
        If the file does not exist.
    EarmarkError
        If the tar file is compressed, truncated, damaged, concatenated from several tar files, or has a sparse
        member. A tar file without an end-of-archive block counts as truncated.
    """
    if not path.is_file():
        raise MissingError(f"{shown_path(path)}: no such tar file.")
    members: list[TarMember] = []
    name = ""
    with path.open("rb") as file:
        _require_uncompressed(path, file.read(6))
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    name = member.name
                    if member.issparse():
                        raise EarmarkError(
                            f"{shown_path(path)}: {name} is stored as a sparse file; make the tar file without -S."
                        )
                    if member.isreg():
                        members.append(TarMember(path, name, member.offset_data, member.size))
                        if labels is not None and name.lower().endswith(".json"):
                            file.seek(member.offset_data)
                            labels[member.offset_data] = file.read(member.size)
                end = tar.offset
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise EarmarkError(_damaged_message(path, name, str(error))) from error
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile does not require the end block
            raise EarmarkError(_damaged_message(path, name, "no end-of-archive block"))
        while block := file.read(1 << 20):
            if block.strip(b"\0"):
                raise EarmarkError(
                    f"{shown_path(path)}: has data after its end-of-archive block, as concatenated tar files have. "
                    "These data would be ignored; unpack the parts and make one tar file."
                )
    return members


def _require_uncompressed(path: Path, start: bytes) -> None:
    program = next((program for magic, program in COMPRESSION_MAGIC.items() if start.startswith(magic)), None)
    if program:
        raise EarmarkError(
            f"{shown_path(path)}: is compressed, but clips are read from uncompressed tar files. "
            f"Run `{program} -dc {path.name} > plain.tar` and replace the file with plain.tar."
        )


def _damaged_message(path: Path, last: str, reason: str) -> str:
    where = f"at or after its member {last}" if last else "before its first member"
    return f"{shown_path(path)}: truncated or damaged tar file, {where} ({reason}). Copy the file again."
