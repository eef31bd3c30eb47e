"""Location of the frames of MPEG audio (MP3), and their number.

The length of an MP3 is declared only in an optional Xing or Info frame. Encoders that write to a pipe omit it, and then
decoders estimate the length from the bit rate. In concatenated files, the first such frame declares only the length of
the first file. This module counts the frames instead: it reads a few bytes of each frame and decodes nothing.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from earmark.audio.content import WHOLE, Content, Stream

# Bit rates in kbit/s by (is MPEG 1, layer) and index. Sample rates of MPEG 1; MPEG 2 has half, MPEG 2.5 a quarter.
_KILOBITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)
_SEARCH_BYTES = 1 << 16  # searched for the first frame, and for the next one after other bytes
_BUFFER_BYTES = 1 << 18  # in memory
_FRAMES_TO_CONFIRM = 3  # consecutive frames required, since arbitrary bytes can look like a frame header


def _frame_lengths_by_header() -> dict[bytes, int]:
    """Frame lengths in bytes by the second and third byte of the header."""
    lengths = {}
    for second in range(0xE0, 0x100):
        version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
        if version == 1 or layer == 4:
            continue
        for third in range(256):
            bits, rate = third >> 4, third >> 2 & 3
            if bits in (0, 15) or rate == 3:  # 0: free bit rate, known only after decoding
                continue
            hertz = _RATES[rate] >> (0, 1, 2)[{3: 0, 2: 1, 0: 2}[version]]
            bit_rate = 1000 * _KILOBITS[version == 3, layer][bits - 1]
            padding = third >> 1 & 1
            if layer == 1:
                length = (12 * bit_rate // hertz + padding) * 4
            else:
                length = (72 if layer == 3 and version != 3 else 144) * bit_rate // hertz + padding
            lengths[bytes((second, third))] = length
    return lengths


FRAME_LENGTHS = _frame_lengths_by_header()


@dataclass(frozen=True)
class _FrameRun:
    """Consecutive frames that are decoded together.

    start, end: in bytes. declared: number of frames according to the first one, or None. declared_at: offset of that
    number in the file. frames: number of frames, without the one that declares it.
    """

    start: int
    end: int
    declared: int | None
    declared_at: int
    frames: int


def mpeg_streams(content: Content, start: int = 0, end: int | None = None) -> tuple[Stream, ...] | None:
    """Find the MP3 streams in a part of a clip.

    Parameters
    ----------
    content : Content
        An open clip.
    start, end : int
        Byte range; `end` is None for the end of the clip.

    Returns
    -------
    tuple of Stream, or None
        `(WHOLE,)` for a single MP3 that declares enough frames, None if there is no MP3.

    Notes
    -----
    A declared number of frames that is too high is not changed: the file is truncated, and the decoder reports it.
    """
    last = content.size if end is None else end
    runs = list(_frame_runs(content, start, last))
    if not runs:
        return None
    first = runs[0]
    single = len(runs) == 1 and first.declared is not None and first.frames <= first.declared
    if single and (start, last) == (0, content.size) and first.start == skip_id3_tags(content, 0):
        return (WHOLE,)
    return tuple(_stream(content, run) for run in runs)


def _stream(content: Content, run: _FrameRun) -> Stream:
    if run.declared is None:
        return Stream(run.start, run.end, endless=True)
    if run.frames <= run.declared:
        return Stream(run.start, run.end)
    # More frames than declared: patch the header to declare more than there are, so the decoder reads them all.
    head = content.read_at(run.start, run.declared_at - run.start) + struct.pack(">I", 2 * run.frames)
    return Stream(run.start, run.end, head, endless=True)


def _frame_runs(content: Content, at: int, end: int) -> Iterator[_FrameRun]:
    at = _first_frame(content, at, end)
    while 0 <= at < end:
        declared, declared_at, skipped = _declared_count(content, at)
        start = at + skipped
        frames, run_end, at = _count_frames(content, at, end, count_first=declared is None and not skipped)
        if frames > 0 or declared:
            yield _FrameRun(start, run_end, declared, declared_at, frames)
        at = _first_frame(content, at, end)


def _count_frames(content: Content, at: int, end: int, count_first: bool) -> tuple[int, int, int]:
    """Number of consecutive complete frames from `at` on, end of the last one, and where to search for more.

    The sequence ends at other bytes or at the start of a concatenated file: a frame that declares a number of frames,
    or one with another rate or number of channels. A truncated frame at the end of the file is excluded, since
    libsndfile would fail on it.
    """
    first, frames = at, 0 if count_first else -1
    kind = _stream_kind(content.read_at(at, 4))
    lengths, mono, tag_offset = _lengths_of(kind), kind[2], _xing_offset(kind[0], kind[2])
    while True:
        buffer = content.read_at(at, min(_BUFFER_BYTES, end - at))
        has_more = at + len(buffer) < end
        limit = len(buffer) - (64 if has_more else 3)
        buffer += bytes(64)  # allows tag look-ups within the last frame
        position = length = 0
        while position < limit:  # the hot loop
            length = lengths.get(buffer[position : position + 3], 0)
            if not length or (buffer[position + 3] > 191) != mono:
                return frames, at + position, at + position
            # The first letters of Xing, Info and VBRI.
            may_be_tagged = buffer[position + tag_offset] in b"XI" or buffer[position + 36] == 86
            if may_be_tagged and _count_tag_offset(buffer[position : position + 64]) and at + position > first:
                return frames, at + position, at + position
            position += length
            frames += 1
        at += position
        if at > end:  # the last frame is incomplete
            return frames - 1, at - length, end
        if not has_more:
            return frames, at, at


@cache
def _lengths_of(kind: tuple[int, int, bool]) -> dict[bytes, int]:
    """Frame lengths in bytes by the first three bytes of the header, for frames of one kind."""
    return {
        b"\xff" + header: length
        for header, length in FRAME_LENGTHS.items()
        if (header[0] & 0xFE, header[1] & 0x0C) == kind[:2]
    }


def _stream_kind(header: bytes) -> tuple[int, int, bool]:
    """Version and layer, sample rate, mono or not: constant within a stream."""
    return header[1] & 0xFE, header[2] & 0x0C, header[3] >> 6 == 3


def _count_tag_offset(frame: bytes) -> int:
    """Offset within a frame of its Xing, Info or VBRI tag, which declares the number of frames; 0 if it has none."""
    if frame[36:40] == b"VBRI":
        return 36
    at = _xing_offset(frame[1], frame[3] >> 6 == 3)
    return at if frame[at : at + 4] in (b"Xing", b"Info") else 0


def _xing_offset(second: int, mono: bool) -> int:
    """Offset of a Xing or Info tag, after the side information. second: second byte of the header."""
    return 4 + ((17 if mono else 32) if second >> 3 & 3 == 3 else (9 if mono else 17))


def _declared_count(content: Content, at: int) -> tuple[int | None, int, int]:
    """Declared number of frames (or None) at `at`, its offset in the file, and the number of bytes to skip.

    A tagged frame without a number has no audio and is skipped, and so is a VBRI frame, which libsndfile does not know.
    """
    frame = content.read_at(at, 64)
    tag_offset = _count_tag_offset(frame)
    if not tag_offset:
        return None, 0, 0
    if frame[tag_offset : tag_offset + 4] != b"VBRI" and frame[tag_offset + 7] & 1:
        return int.from_bytes(frame[tag_offset + 8 : tag_offset + 12]), at + tag_offset + 8, 0
    return None, 0, FRAME_LENGTHS[frame[1:3]]


def skip_id3_tags(content: Content, at: int) -> int:
    """Offset after the ID3 tags that start at `at`; `at` if there are none."""
    while len(tag := content.read_at(at, 10)) == 10 and tag[:3] == b"ID3":
        at += 10 + (tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9])
    return at


def _first_frame(content: Content, at: int, end: int) -> int:
    """Offset of the next frame that starts a sequence; −1 if there is none within `_SEARCH_BYTES`."""
    at = skip_id3_tags(content, at)
    if (
        content.read_at(at, 1) == b"\xff"
        and content.read_at(at + 1, 2) in FRAME_LENGTHS
        and _starts_frame_sequence(content, at, end)
    ):
        return at
    buffer = content.read_at(at, min(_SEARCH_BYTES, max(0, end - at)))
    position = buffer.find(b"\xff")
    while position >= 0:
        if buffer[position + 1 : position + 3] in FRAME_LENGTHS and _starts_frame_sequence(content, at + position, end):
            return at + position
        position = buffer.find(b"\xff", position + 1)
    return -1


def _starts_frame_sequence(content: Content, at: int, end: int) -> bool:
    """Whether consecutive frames start here: `_FRAMES_TO_CONFIRM`, or fewer at the end of the file."""
    kind = None
    for number in range(_FRAMES_TO_CONFIRM):
        if at >= end - 3 or content.read_at(at, 3) == b"TAG":
            return number > 1 or (number == 1 and at <= end)
        header = content.read_at(at, 4)
        if header[0] != 255 or header[1:3] not in FRAME_LENGTHS or kind not in (None, _stream_kind(header)):
            return False
        kind = _stream_kind(header)
        at += FRAME_LENGTHS[header[1:3]]
    return True
