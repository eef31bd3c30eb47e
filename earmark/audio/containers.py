"""The headers of audio containers, and how reliable they are.

libsndfile decodes, but trusts headers that can be wrong and does not report truncated files. `layout` reads the headers
of common containers and returns the byte ranges to decode, in order, and what is missing at the end of the file.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from earmark.audio.clips import AudioError
from earmark.audio.content import WHOLE, Content, Stream
from earmark.audio.mpeg import mpeg_streams, skip_id3_tags

Order = Literal["little", "big"]
MAX_CHUNKS = 10_000  # chunk headers to read before giving up
MAX_TRAILING_BYTES = 4096  # after the audio, ignored whatever they are
MP3_IN_WAV = 0x55  # format tag
# Data sizes that programs write into a header if the output is a pipe and the size is unknown: zero, the maximum, or
# slightly less (SoX, arecord), as signed or unsigned 32-bit numbers or as 64-bit numbers.
PLACEHOLDERS = ((0, 0), (0x7F000000, 0x7F000000), (0x7FFF0000, 0x80000000), (0xFFFF0000, 0xFFFFFFFF))
IMPLAUSIBLE_SIZE = 1 << 56  # bytes
TAIL_BYTES = 1 << 17  # at the end of a FLAC file, searched for the last frame


@dataclass(frozen=True)
class Layout:
    """The parts of an audio file to decode.

    Attributes
    ----------
    streams : tuple of Stream
        The parts, in order.
    kind : str
        Name of the container if the streams are not the unchanged file, else empty.
    available_bytes, declared_bytes : int
        Bytes of audio in the file and according to its header; both 0 unless the file is truncated.
    unended : bool
        Whether the container marks its end and the mark is missing.
    """

    streams: tuple[Stream, ...] = (WHOLE,)
    kind: str = ""
    available_bytes: int = 0
    declared_bytes: int = 0
    unended: bool = False

    @property
    def plain(self) -> bool:
        """Whether libsndfile can decode the unchanged file."""
        return self.streams == (WHOLE,) and not self.declared_bytes and not self.unended


def layout(content: Content) -> Layout:
    """Find the parts of an audio file by its headers.

    Parameters
    ----------
    content : Content
        An open clip. Files of unknown type get the default layout; the decoder rejects them.

    Returns
    -------
    Layout
        The byte ranges to decode.

    Raises
    ------
    AudioError
        If a header is damaged, or declares much less audio than the file has, or the encoding has no decoder.
    """
    start = content.read_at(0, 16)
    if start[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return _wav(content, "big" if start[:4] == b"RIFX" else "little")
    if start[:4] == b"FORM":
        return _aiff(content)
    if start[:4] == b"riff":
        return _w64(content)
    if start[:4] == b"caff":
        return _caf(content)
    if start[:4] in (b".snd", b"dns."):
        return _au(content, "big" if start[:4] == b".snd" else "little")
    if start[:7] == b"NIST_1A":
        return _sphere(content)
    if start[:4] == b"OggS":
        return _ogg(content)
    start_of_audio = skip_id3_tags(content, 0)
    if content.read_at(start_of_audio, 4) == b"fLaC":
        return _flac(content, start_of_audio)
    streams = mpeg_streams(content)
    return Layout() if streams is None else Layout(streams, "" if streams == (WHOLE,) else "mp3")


def _is_unknown(size: int) -> bool:
    """Whether a declared size is a placeholder."""
    return any(low <= size <= high for low, high in PLACEHOLDERS) or size >= IMPLAUSIBLE_SIZE


def _layout_by_size(content: Content, at: int, size: int) -> Layout:
    """Layout of a file whose audio starts at `at` with a declared size of `size` bytes."""
    available = content.size - at
    if size < available and not _is_unknown(size):
        _require_no_trailing_sound(content, at + size + size % 2, size)
    return (
        Layout() if size <= available or _is_unknown(size) else Layout(available_bytes=available, declared_bytes=size)
    )


def _require_no_trailing_sound(content: Content, end: int, size: int) -> None:
    """AudioError if more bytes follow the audio than it has, and they are not a chunk, a tag or padding.

    Such a header declares too little audio; most of the clip would be lost without notice.
    """
    next_bytes, rest = content.read_at(end, 8), content.size - end
    known = re.match(rb"[ -~]{4}|ID3|TAG|\0{8}", next_bytes)
    if rest > max(MAX_TRAILING_BYTES, size) and not known:
        raise AudioError(
            f"{content.name}: damaged header, it declares {size:,} bytes of audio, but {rest:,} more bytes follow that "
            "are not a chunk, a tag or padding. Create the file again"
        )


# --- chunked files --------------------------------------------------------------------------------------------------


def _wav(content: Content, order: Order) -> Layout:
    at, long_size, tag = 12, 0, 0
    for _ in range(MAX_CHUNKS):
        chunk = content.read_at(at, 8)
        if len(chunk) < 8:
            break
        name, size = chunk[:4], int.from_bytes(chunk[4:], order)
        if name == b"ds64":
            long_size = int.from_bytes(content.read_at(at + 16, 8), "little")
        elif name == b"fmt ":
            tag = int.from_bytes(content.read_at(at + 8, 2), order)
        elif name == b"data":
            if size == 0xFFFFFFFF and long_size:
                size = long_size
            if tag == MP3_IN_WAV:
                return _mp3_in_wav(content, at + 8, size)
            available = content.size - at - 8
            if not size and 0 < available < 1 << 32 and int.from_bytes(content.read_at(4, 4), order) <= at:
                # The file size is missing too: written to a pipe. libsndfile would read no audio.
                return _with_patched_size(content, at + 4, available.to_bytes(4, order), "wav")
            return _layout_by_size(content, at + 8, size)
        at += 8 + size + size % 2
    return Layout()


def _mp3_in_wav(content: Content, at: int, size: int) -> Layout:
    available = content.size - at
    known = size if not _is_unknown(size) else available
    streams = mpeg_streams(content, at, at + min(known, available))
    declared = known if known > available else 0
    return Layout(streams or (WHOLE,), "mp3 in wav", available if declared else 0, declared)


def _aiff(content: Content) -> Layout:
    at = 12
    for _ in range(MAX_CHUNKS):
        chunk = content.read_at(at, 8)
        if len(chunk) < 8:
            break
        size = int.from_bytes(chunk[4:], "big")
        if chunk[:4] == b"SSND":
            return _layout_by_size(content, at + 8, size)
        at += 8 + size + size % 2
    return Layout()


def _w64(content: Content) -> Layout:
    """Sony Wave64: sizes are 64-bit and include the 24-byte chunk header; chunks are aligned to 8 bytes."""
    at = 40
    for _ in range(MAX_CHUNKS):
        chunk = content.read_at(at, 24)
        if len(chunk) < 24:
            break
        size = int.from_bytes(chunk[16:], "little")
        if chunk[:4] == b"data":
            available = content.size - at
            if size <= 24 or _is_unknown(size):
                return _with_patched_size(content, at + 16, available.to_bytes(8, "little"), "w64", 16)
            if size > available:
                repaired = _with_patched_size(content, at + 16, available.to_bytes(8, "little"), "w64", 16)
                return Layout(repaired.streams, "w64", available - 24, size - 24)
            if size + -size % 8 < available:  # libsndfile would decode the bytes after the audio
                return Layout((Stream(0, at + size),), "w64")
            return Layout()
        at += max(24, size + -size % 8)
    return Layout()


def _caf(content: Content) -> Layout:
    """Apple Core Audio: libsndfile rejects files whose audio does not have the declared size."""
    at = 8
    for _ in range(MAX_CHUNKS):
        chunk = content.read_at(at, 12)
        if len(chunk) < 12:
            break
        size, available = int.from_bytes(chunk[4:], "big", signed=True), content.size - at - 12
        if chunk[:4] == b"data":
            if size == -1 or _is_unknown(size):
                return _with_patched_size(content, at + 4, available.to_bytes(8, "big"), "caf")
            if size > available:
                repaired = _with_patched_size(content, at + 4, available.to_bytes(8, "big"), "caf")
                return Layout(repaired.streams, "caf", available, size)
            _require_no_trailing_sound(content, at + 12 + size, size)
            return Layout()
        at += 12 + max(0, size)
    return Layout()


def _with_patched_size(content: Content, at: int, size: bytes, kind: str, file_size_at: int = 0) -> Layout:
    """The file with `size` written into its header at `at`, and the file size at `file_size_at`, if not 0."""
    if at > TAIL_BYTES:
        raise AudioError(
            f"{content.name}: damaged, has no audio within its first {TAIL_BYTES:,} bytes. Create the file again"
        )
    head = bytearray(content.read_at(0, at) + size)
    if file_size_at:
        head[file_size_at : file_size_at + 8] = content.size.to_bytes(8, "little")
    return Layout((Stream(0, None, bytes(head)),), kind)


def _au(content: Content, order: Order) -> Layout:
    offset, size = (int.from_bytes(content.read_at(at, 4), order) for at in (4, 8))
    if not size:  # libsndfile would read no audio
        return Layout((Stream(0, None, content.read_at(0, 8) + b"\xff" * 4),), "au")
    return _layout_by_size(content, offset, size)


def _sphere(content: Content) -> Layout:
    """NIST SPHERE: the header is text, `name -type value` per line."""
    text = content.read_at(0, 4096).decode("ascii", "replace")
    fields = dict(re.findall(r"^(\w+) -\w+ (\S+)", text.split("end_head")[0], re.MULTILINE))
    if "shorten" in fields.get("sample_coding", ""):
        raise AudioError(
            f"{content.name}: is a SPHERE file compressed with Shorten, which is not supported; convert it with "
            "`sph2pipe -f wav`"
        )
    try:
        header = int(text.splitlines()[1])
        samples, channels = int(fields["sample_count"]), int(fields.get("channel_count", "1"))
        width = int(fields.get("sample_n_bytes", "0"))
    except (ValueError, KeyError, IndexError):
        return Layout()
    return _layout_by_size(content, header, max(0, samples * channels * width))


# --- FLAC -----------------------------------------------------------------------------------------------------------


def _flac(content: Content, start: int) -> Layout:
    """Split concatenated files; replace a sample count that is too low by 0, which means unknown."""
    starts = [start]
    while (at := content.find(b'fLaC\0\0\0"', starts[-1] + 8)) >= 0:
        starts.append(at)
    if len(starts) > 1:
        return Layout(tuple(Stream(a, b) for a, b in zip(starts, [*starts[1:], None], strict=True)), "flac")
    header = content.read_at(start, 42)
    declared = int.from_bytes(header[21:26], "big") & (1 << 36) - 1
    if declared and _flac_samples(content, header) > declared:
        head = header[:21] + bytes([header[21] & 0xF0]) + bytes(4)
        return Layout((Stream(start, None, head),), "flac")
    return Layout()


def _flac_samples(content: Content, header: bytes) -> int:
    """Number of samples in a FLAC file according to the header of its last frame; 0 if none is found."""
    declared = int.from_bytes(header[21:26], "big") & (1 << 36) - 1
    for length in (TAIL_BYTES >> 4, TAIL_BYTES):
        tail = content.read_at(max(0, content.size - length), length)
        for sync in reversed(list(re.finditer(rb"\xff[\xf8\xf9]", tail))):
            frame = tail[sync.start() : sync.start() + 16].ljust(16, b"\0")
            samples = _samples_to_frame_end(frame, int.from_bytes(header[8:10], "big"))
            if samples is not None:
                # The frame checksum is slow, so it is computed only if the frame contradicts the header.
                return samples if samples <= declared or _crc(tail[sync.start() :], 0x8005, 16) == 0 else 0
    return 0


def _samples_to_frame_end(frame: bytes, block: int) -> int | None:
    """Number of samples up to the end of a frame; None if the 16 bytes are not a frame header.

    block: samples per frame of a stream with a fixed block size.
    """
    code, ones = frame[2] >> 4, 8 - (frame[4] ^ 0xFF).bit_length()
    after = 4 + max(ones, 1)  # after the frame number, which is encoded as in UTF-8
    last = after + {6: 1, 7: 2}.get(code, 0) + {12: 1, 13: 2, 14: 2}.get(frame[2] & 15, 0)  # the header checksum
    if code == 0 or ones in (1, 8) or _crc(frame[: last + 1], 0x07, 8) != 0:
        return None
    number = frame[4] & (0x7F >> ones)
    for byte in frame[5:after]:
        number = number << 6 | byte & 0x3F
    sizes = {1: 192, **{n: 576 << n - 2 for n in range(2, 6)}, **{n: 256 << n - 8 for n in range(8, 16)}}
    frame_samples = sizes.get(code) or int.from_bytes(frame[after : after + code - 5], "big") + 1
    return (number if frame[1] & 1 else number * block) + frame_samples


def _crc(content: bytes, polynomial: int, bits: int) -> int:
    """Cyclic redundancy check of FLAC; 0 if `content` ends in the checksum of the bytes before."""
    table, mask, crc = _crc_table(polynomial, bits), (1 << bits) - 1, 0
    for byte in content:
        crc = (crc << 8 & mask) ^ table[crc >> bits - 8 ^ byte]
    return crc


@cache
def _crc_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for value in range(256):
        rest = value << bits - 8
        for _ in range(8):
            rest = (rest << 1 ^ (polynomial if rest >> bits - 1 else 0)) & (1 << bits) - 1
        table.append(rest)
    return table


# --- Ogg ------------------------------------------------------------------------------------------------------------


def _ogg(content: Content) -> Layout:
    """Ogg pages with Opus, Vorbis or FLAC. A first page after other pages starts a concatenated file."""
    starts, at, after_first, ended, pages = [0], 0, True, False, 0
    while True:
        page = content.read_at(at, 27 + 255)
        if page[:4] != b"OggS" or len(page) < 27:
            if (next_page := content.find(b"OggS", at + 1)) < 0:
                break
            at = next_page
            continue
        length = 27 + page[26] + sum(page[27 : 27 + page[26]])
        first = bool(page[5] & 2)
        if first and not after_first:
            starts.append(at)
            ended = False
        after_first = first
        ended = at + length <= content.size and (ended or bool(page[5] & 4))
        at += length
        pages += at <= content.size
    if len(starts) == 1:
        return Layout(unended=bool(pages) and not ended)
    streams = tuple(Stream(a, b) for a, b in zip(starts, [*starts[1:], None], strict=True))
    return Layout(streams, "ogg", unended=not ended)
