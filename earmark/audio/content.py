"""The bytes of a clip, read piece by piece, and views of parts of them that decoders take for files."""

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from earmark.audio.clips import AudioError, Clip, TarMember, shown_clip

# How long an endless view says it is. Decoders that estimate a length from it expect more than there can be.
ENDLESS_SIZE = 1 << 36
_HEAD_BYTES = 4096  # bytes that are kept, for most of what is asked for is a few bytes of them
_TAG_BYTES = 4096  # where decoders look for tags


class Content:
    """An open clip. size: in bytes. AudioError where it is missing, a folder, or empty."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.name = shown_clip(clip)
        self.member: bytes | None = None
        self.descriptor = -1
        if isinstance(clip, TarMember):
            self.member = _read_member(clip)
            self.size = len(self.member)
        else:
            self.descriptor = _open_regular_file(clip)
            self.size = os.fstat(self.descriptor).st_size
            if not self.size:
                os.close(self.descriptor)
                raise AudioError(f"{self.name}: is empty (0 bytes)")
            self._start = os.pread(self.descriptor, _HEAD_BYTES, 0)

    def __enter__(self) -> "Content":
        return self

    def __exit__(self, *raised: object) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset` on; fewer at the end."""
        if self.member is not None:
            return self.member[offset : offset + length]
        if offset >= self.size:
            return b""
        if offset + length <= len(self._start):
            return self._start[offset : offset + length]
        return os.pread(self.descriptor, length, offset)

    def find(self, pattern: bytes, start: int) -> int:
        """Where the pattern is first found at or after `start`; −1 where it is not."""
        if self.member is not None:
            return self.member.find(pattern, start)
        while block := self.at(start, 1 << 20):
            if (found := block.find(pattern)) >= 0:
                return start + found
            if start + len(block) >= self.size:
                break
            start += max(len(block) - len(pattern) + 1, 1)
        return -1


@dataclass(frozen=True)
class Stream:
    """A part of a clip that is decoded by itself.

    start, end: in bytes; end None is the end of the clip. head: stands in the place of the bytes from start on.
    endless: the decoder is told of no length, so that it goes on for as long as something decodes.
    """

    start: int = 0
    end: int | None = None
    head: bytes = b""
    endless: bool = False

    def opened(self, content: Content) -> io.BufferedReader:
        """The part, as a file."""
        return io.BufferedReader(_StreamReader(content, self), 1 << 16)


WHOLE = Stream()


class _StreamReader(io.RawIOBase):
    def __init__(self, content: Content, stream: Stream) -> None:
        super().__init__()
        self._content, self._stream, self._at = content, stream, 0
        self._length = (content.size if stream.end is None else stream.end) - stream.start
        self._said = ENDLESS_SIZE if stream.endless else self._length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, (0, self._at, self._said)[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        some = self._bytes(len(buffer))
        buffer[: len(some)] = some
        self._at += len(some)
        return len(some)

    def _bytes(self, wanted: int) -> bytes:
        if self._stream.endless and self._at >= ENDLESS_SIZE - _TAG_BYTES:
            return bytes(
                max(0, min(wanted, ENDLESS_SIZE - self._at))
            )  # no tag: a decoder that finds nothing here gives up
        head = self._stream.head
        if self._at < len(head):
            return head[self._at : self._at + wanted]
        return self._content.at(self._stream.start + self._at, max(0, min(wanted, self._length - self._at)))


def _open_regular_file(path: Path) -> int:
    """A descriptor of a regular file. Without waiting, for what is a pipe would wait for someone to write into it."""
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = "is not there" if missing else f"cannot be read ({error.strerror or type(error).__name__})"
        raise AudioError(f"{path.name}: {reason}") from error
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise AudioError(f"{path.name}: {'is a folder, not a file' if stat.S_ISDIR(kind) else 'is not a file'}")
    return descriptor


def _read_member(member: TarMember) -> bytes:
    if not member.tar.is_file():
        raise AudioError(f"{shown_clip(member)}: the tar file is not there")
    if not member.size:
        raise AudioError(f"{shown_clip(member)}: is empty (0 bytes)")
    return member.read()
