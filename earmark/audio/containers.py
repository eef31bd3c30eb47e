"""What the headers of audio files say, and how far that can be relied on.

libsndfile decodes, but believes headers where it should not, and is silent about files that end early. `layout` reads
the headers of the containers that people use and says which parts of a file are decoded, one after the other, and what
is missing at the end.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from earmark.audio.clips import AudioError
from earmark.audio.content import WHOLE, Content, Stream
from earmark.audio.mpeg import mpeg_streams, skip_id3_tags

Order = Literal["little", "big"]
MAX_CHUNKS = 10_000  # headers of chunks that are read, before a file counts as damaged
MAX_TRAILING_BYTES = 4096  # bytes behind the sound that are passed over whatever they are
MP3_IN_WAV = 0x55
# What programs write as the size of the sound that goes to a pipe: nothing, as much as fits, or a little less (SoX,
# arecord), in 32 bits with and without a sign and in 64.
PLACEHOLDERS = ((0, 0), (0x7F000000, 0x7F000000), (0x7FFF0000, 0x80000000), (0xFFFF0000, 0xFFFFFFFF))
IMPLAUSIBLE_SIZE = 1 << 56  # bytes: no size that anything has
TAIL_BYTES = 1 << 17  # bytes from the end, among which the last frame of a FLAC file is looked for


@dataclass(frozen=True)
class Layout:
    """How a file is decoded.

    streams: its parts. kind: names the container, where the streams are not the whole file. held, promised: bytes of
    sound that are there and that the header says there are, where it says so and the file ends before. unended: the
    container marks its end, and the mark is missing.
    """

    streams: tuple[Stream, ...] = (WHOLE,)
    kind: str = ""
    held: int = 0
    promised: int = 0
    unended: bool = False

    @property
    def plain(self) -> bool:
        """Whether libsndfile is simply given the file."""
        return self.streams == (WHOLE,) and not self.promised and not self.unended


def layout(content: Content) -> Layout:
    """Raises AudioError for a file that is in none of the forms that can be decoded."""
    start = content.at(0, 16)
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
    after = skip_id3_tags(content, 0)
    if content.at(after, 4) == b"fLaC":
        return _flac(content, after)
    streams = mpeg_streams(content)
    return Layout() if streams is None else Layout(streams, "" if streams == (WHOLE,) else "mp3")


def _is_unknown(size: int) -> bool:
    """Whether a size says that the writer did not know it."""
    return any(low <= size <= high for low, high in PLACEHOLDERS) or size >= IMPLAUSIBLE_SIZE


def _check_size(content: Content, at: int, size: int) -> Layout:
    """Of a file whose sound begins at `at` and is said to have `size` bytes, which libsndfile cuts off at its end."""
    held = content.size - at
    if size < held and not _is_unknown(size):
        _require_no_trailing_sound(content, at + size + size % 2, size)
    return Layout() if size <= held or _is_unknown(size) else Layout(held=held, promised=size)


def _require_no_trailing_sound(content: Content, end: int, size: int) -> None:
    """AudioError where more follows the sound than there is of it, and it is no chunk, no tag and no padding.

    Then the header says too little, and nobody would notice that most of the clip is missing.
    """
    follows, rest = content.at(end, 8), content.size - end
    known = re.match(rb"[ -~]{4}|ID3|TAG|\0{8}", follows)
    if rest > max(MAX_TRAILING_BYTES, size) and not known:
        raise AudioError(
            f"{content.name}: is damaged, its header ends the sound after {size:,} bytes, and {rest:,} follow that are "
            "nothing else; make it again"
        )


# --- files in chunks ------------------------------------------------------------------------------------------------


def _wav(content: Content, order: Order) -> Layout:
    at, long_size, tag = 12, 0, 0
    for _ in range(MAX_CHUNKS):
        chunk = content.at(at, 8)
        if len(chunk) < 8:
            break
        name, size = chunk[:4], int.from_bytes(chunk[4:], order)
        if name == b"ds64":
            long_size = int.from_bytes(content.at(at + 16, 8), "little")
        elif name == b"fmt ":
            tag = int.from_bytes(content.at(at + 8, 2), order)
        elif name == b"data":
            if size == 0xFFFFFFFF and long_size:
                size = long_size
            if tag == MP3_IN_WAV:
                return _mp3_in_wav(content, at + 8, size)
            held = content.size - at - 8
            if not size and 0 < held < 1 << 32 and int.from_bytes(content.at(4, 4), order) <= at:
                # Not the size of the file either: written to a pipe, and libsndfile believes that nothing follows.
                return _with_patched_size(content, at + 4, held.to_bytes(4, order), "wav")
            return _check_size(content, at + 8, size)
        at += 8 + size + size % 2
    return Layout()


def _mp3_in_wav(content: Content, at: int, size: int) -> Layout:
    held = content.size - at
    known = size if not _is_unknown(size) else held
    streams = mpeg_streams(content, at, at + min(known, held))
    promised = known if known > held else 0
    return Layout(streams or (WHOLE,), "mp3 in wav", held if promised else 0, promised)


def _aiff(content: Content) -> Layout:
    at = 12
    for _ in range(MAX_CHUNKS):
        chunk = content.at(at, 8)
        if len(chunk) < 8:
            break
        size = int.from_bytes(chunk[4:], "big")
        if chunk[:4] == b"SSND":
            return _check_size(content, at + 8, size)
        at += 8 + size + size % 2
    return Layout()


def _w64(content: Content) -> Layout:
    """Sony Wave64: sizes have 64 bits and count their own header of 24 bytes; chunks begin at multiples of 8."""
    at = 40
    for _ in range(MAX_CHUNKS):
        chunk = content.at(at, 24)
        if len(chunk) < 24:
            break
        size = int.from_bytes(chunk[16:], "little")
        if chunk[:4] == b"data":
            held = content.size - at
            if size <= 24 or _is_unknown(size):
                return _with_patched_size(content, at + 16, held.to_bytes(8, "little"), "w64", 16)
            if size > held:
                repaired = _with_patched_size(content, at + 16, held.to_bytes(8, "little"), "w64", 16)
                return Layout(repaired.streams, "w64", held - 24, size - 24)
            if size + -size % 8 < held:  # libsndfile would play what follows the sound
                return Layout((Stream(0, at + size),), "w64")
            return Layout()
        at += max(24, size + -size % 8)
    return Layout()


def _caf(content: Content) -> Layout:
    """Apple Core Audio: libsndfile opens no file whose sound has another size than its header says."""
    at = 8
    for _ in range(MAX_CHUNKS):
        chunk = content.at(at, 12)
        if len(chunk) < 12:
            break
        size, held = int.from_bytes(chunk[4:], "big", signed=True), content.size - at - 12
        if chunk[:4] == b"data":
            if size == -1 or _is_unknown(size):
                return _with_patched_size(content, at + 4, held.to_bytes(8, "big"), "caf")
            if size > held:
                repaired = _with_patched_size(content, at + 4, held.to_bytes(8, "big"), "caf")
                return Layout(repaired.streams, "caf", held, size)
            _require_no_trailing_sound(content, at + 12 + size, size)
            return Layout()
        at += 12 + max(0, size)
    return Layout()


def _with_patched_size(content: Content, at: int, size: bytes, kind: str, whole_at: int = 0) -> Layout:
    """The file with another size in its header, and the size of the whole file where that stands there too."""
    if at > TAIL_BYTES:
        raise AudioError(
            f"{content.name}: has no sound within its first {TAIL_BYTES:,} bytes; it is damaged, make it again"
        )
    head = bytearray(content.at(0, at) + size)
    if whole_at:
        head[whole_at : whole_at + 8] = content.size.to_bytes(8, "little")
    return Layout((Stream(0, None, bytes(head)),), kind)


def _au(content: Content, order: Order) -> Layout:
    offset, size = (int.from_bytes(content.at(at, 4), order) for at in (4, 8))
    if not size:  # libsndfile believes it
        return Layout((Stream(0, None, content.at(0, 8) + b"\xff" * 4),), "au")
    return _check_size(content, offset, size)


def _sphere(content: Content) -> Layout:
    """NIST SPHERE: lines of text, `name -type value`."""
    text = content.at(0, 4096).decode("ascii", "replace")
    fields = dict(re.findall(r"^(\w+) -\w+ (\S+)", text.split("end_head")[0], re.MULTILINE))
    if "shorten" in fields.get("sample_coding", ""):
        raise AudioError(
            f"{content.name}: is a SPHERE file compressed with Shorten, which nothing here decodes; unpack it with "
            "`sph2pipe -f wav`"
        )
    try:
        header = int(text.splitlines()[1])
        samples, channels = int(fields["sample_count"]), int(fields.get("channel_count", "1"))
        width = int(fields.get("sample_n_bytes", "0"))
    except (ValueError, KeyError, IndexError):
        return Layout()
    return _check_size(content, header, max(0, samples * channels * width))


# --- FLAC -----------------------------------------------------------------------------------------------------------


def _flac(content: Content, start: int) -> Layout:
    """A count of samples that is too low is set to 0, which stands for unknown; files joined are parted."""
    starts = [start]
    while (found := content.find(b'fLaC\0\0\0"', starts[-1] + 8)) >= 0:
        starts.append(found)
    if len(starts) > 1:
        return Layout(tuple(Stream(a, b) for a, b in zip(starts, [*starts[1:], None], strict=True)), "flac")
    header = content.at(start, 42)
    declared = int.from_bytes(header[21:26], "big") & (1 << 36) - 1
    if declared and _flac_samples(content, header) > declared:
        head = header[:21] + bytes([header[21] & 0xF0]) + bytes(4)
        return Layout((Stream(start, None, head),), "flac")
    return Layout()


def _flac_samples(content: Content, header: bytes) -> int:
    """How many samples a FLAC file has by the number of its last frame; 0 where that is not found."""
    declared = int.from_bytes(header[21:26], "big") & (1 << 36) - 1
    for length in (TAIL_BYTES >> 4, TAIL_BYTES):
        tail = content.at(max(0, content.size - length), length)
        for found in reversed(list(re.finditer(rb"\xff[\xf8\xf9]", tail))):
            frame = tail[found.start() : found.start() + 16].ljust(16, b"\0")
            samples = _flac_frame(frame, int.from_bytes(header[8:10], "big"))
            if samples is not None:
                # The check sum of the frame takes longer than all the rest, and matters only where it contradicts.
                return samples if samples <= declared or _crc(tail[found.start() :], 0x8005, 16) == 0 else 0
    return 0


def _flac_frame(frame: bytes, block: int) -> int | None:
    """The samples up to the end of a frame, or None for 16 bytes that are no frame's header. block: samples of each."""
    code, ones = frame[2] >> 4, 8 - (frame[4] ^ 0xFF).bit_length()
    after = 4 + max(ones, 1)  # the number of the frame, as UTF-8 writes it, is before
    last = after + {6: 1, 7: 2}.get(code, 0) + {12: 1, 13: 2, 14: 2}.get(frame[2] & 15, 0)  # its check sum
    if code == 0 or ones in (1, 8) or _crc(frame[: last + 1], 0x07, 8) != 0:
        return None
    number = frame[4] & (0x7F >> ones)
    for byte in frame[5:after]:
        number = number << 6 | byte & 0x3F
    sizes = {1: 192, **{n: 576 << n - 2 for n in range(2, 6)}, **{n: 256 << n - 8 for n in range(8, 16)}}
    own = sizes.get(code) or int.from_bytes(frame[after : after + code - 5], "big") + 1
    return (number if frame[1] & 1 else number * block) + own


def _crc(content: bytes, polynomial: int, bits: int) -> int:
    """The check sum of FLAC; 0 where the last bytes are the check sum of those before them."""
    table, mask, found = _crc_table(polynomial, bits), (1 << bits) - 1, 0
    for byte in content:
        found = (found << 8 & mask) ^ table[found >> bits - 8 ^ byte]
    return found


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
    """Opus, Vorbis or FLAC in pages. What begins anew after other pages is a file joined to the one before it."""
    starts, at, begins, ended, pages = [0], 0, True, False, 0
    while True:
        page = content.at(at, 27 + 255)
        if page[:4] != b"OggS" or len(page) < 27:
            if (found := content.find(b"OggS", at + 1)) < 0:
                break
            at = found
            continue
        length = 27 + page[26] + sum(page[27 : 27 + page[26]])
        first = bool(page[5] & 2)
        if first and not begins:
            starts.append(at)
            ended = False
        begins = first
        ended = at + length <= content.size and (ended or bool(page[5] & 4))
        at += length
        pages += at <= content.size
    if len(starts) == 1:
        return Layout(unended=bool(pages) and not ended)
    streams = tuple(Stream(a, b) for a, b in zip(starts, [*starts[1:], None], strict=True))
    return Layout(streams, "ogg", unended=not ended)
