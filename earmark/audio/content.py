"""Random access to the bytes of a clip, and file objects over parts of it for decoders."""

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from earmark.audio.clips import AudioError, Clip, TarMember, shown_clip
from earmark.files.remote import RemotePath

# Reported length of an endless stream, in bytes. Decoders that estimate a duration from it get an upper bound.
ENDLESS_SIZE = 1 << 36
_HEAD_BYTES = 4096  # kept in memory, since most reads are a few bytes of the header
_TAG_BYTES = 4096  # at the end of a file, where decoders look for tags
FILE_NOT_FOUND = "file not found"  # how the error of a clip without a file ends


class Content:
    """An open clip; use it as a context manager.

    Attributes
    ----------
    clip : Path or TarMember
        The clip.
    name : str
        The name of the clip in messages.
    size : int
        In bytes.
    member : bytes or None
        The whole content of a tar member or remote file, None for a local file.
    descriptor : int
        File descriptor of a local file, −1 otherwise.

    Raises
    ------
    AudioError
        If the clip does not exist, is not a regular file, is empty or cannot be read.
    """

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.name = shown_clip(clip)
        self.member: bytes | None = None
        self.descriptor = -1
        if isinstance(clip, TarMember | RemotePath):
            self.member = _read_member(clip) if isinstance(clip, TarMember) else _read_remote(clip)
            self.size = len(self.member)
        else:
            self.descriptor = _open_regular_file(clip)
            self.size = os.fstat(self.descriptor).st_size
            if not self.size:
                os.close(self.descriptor)
                raise AudioError(f"{self.name}: is empty (0 bytes)")
            self._head = os.pread(self.descriptor, _HEAD_BYTES, 0)

    def __enter__(self) -> "Content":
        return self

    def __exit__(self, *raised: object) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer at the end of the clip."""
        if self.member is not None:
            return self.member[offset : offset + length]
        if offset >= self.size:
            return b""
        if offset + length <= len(self._head):
            return self._head[offset : offset + length]
        return os.pread(self.descriptor, length, offset)

    def find(self, pattern: bytes, start: int) -> int:
        """Offset of the first occurrence of `pattern` at or after `start`; −1 if there is none."""
        if self.member is not None:
            return self.member.find(pattern, start)
        while block := self.read_at(start, 1 << 20):
            if (at := block.find(pattern)) >= 0:
                return start + at
            if start + len(block) >= self.size:
                break
            start += max(len(block) - len(pattern) + 1, 1)
        return -1


@dataclass(frozen=True)
class Stream:
    """A part of a clip that is decoded separately.

    Attributes
    ----------
    start, end : int
        Byte range in the clip; `end` is None for the end of the clip.
    head : bytes
        Replaces the bytes from `start` on.
    endless : bool
        If true, the decoder gets no length and decodes until the data end.
    """

    start: int = 0
    end: int | None = None
    head: bytes = b""
    endless: bool = False

    def open(self, content: Content) -> io.BufferedIOBase:
        """Open the part as a file object."""
        if self == WHOLE and content.member is not None:
            return io.BytesIO(content.member)  # without a copy
        return io.BufferedReader(_StreamReader(content, self), 1 << 16)


WHOLE = Stream()


class _StreamReader(io.RawIOBase):
    def __init__(self, content: Content, stream: Stream) -> None:
        super().__init__()
        self._content, self._stream, self._at = content, stream, 0
        self._length = (content.size if stream.end is None else stream.end) - stream.start
        self._reported_length = ENDLESS_SIZE if stream.endless else self._length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, (0, self._at, self._reported_length)[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._bytes(len(buffer))
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)

    def _bytes(self, length: int) -> bytes:
        if self._stream.endless and self._at >= ENDLESS_SIZE - _TAG_BYTES:
            # Zeros contain no tag. A decoder that can read nothing here reports an error.
            return bytes(max(0, min(length, ENDLESS_SIZE - self._at)))
        head = self._stream.head
        if self._at < len(head):
            return head[self._at : self._at + length]
        return self._content.read_at(self._stream.start + self._at, max(0, min(length, self._length - self._at)))


def _open_regular_file(path: Path) -> int:
    """Open a regular file and return its descriptor. O_NONBLOCK avoids waiting for the writer of a named pipe."""
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = FILE_NOT_FOUND if missing else f"cannot be read ({error.strerror or type(error).__name__})"
        raise AudioError(f"{path.name}: {reason}") from error
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise AudioError(f"{path.name}: {'is a folder, not a file' if stat.S_ISDIR(kind) else 'is not a regular file'}")
    return descriptor


def _read_member(member: TarMember) -> bytes:
    if not member.tar.is_file():
        raise AudioError(f"{shown_clip(member)}: tar file not found")
    if not member.size:
        raise AudioError(f"{shown_clip(member)}: is empty (0 bytes)")
    return member.read()


def _read_remote(path: RemotePath) -> bytes:
    if not path.is_file():
        raise AudioError(f"{path.name}: {FILE_NOT_FOUND}")
    if not (content := path.read_clip()):
        raise AudioError(f"{path.name}: is empty (0 bytes)")
    return content
