"""Where the frames of MPEG audio (MP3) are, and which of them the header counts.

Only what an encoder wrote into a Xing or Info frame says how long an MP3 is. Encoders that write to a pipe leave it
out, and then decoders guess from the bit rate; files joined end to end say in the first frame how long the first is.
The frames are counted here instead: a few bytes of each are read, nothing is decoded.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from earmark.audio.content import WHOLE, Content, Stream

# Kilobits a second by (MPEG 1 or later, layer) and index; samples a second of MPEG 1, halved in 2, and again in 2.5.
_KILOBITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)
_SEARCH_BYTES = 1 << 16  # how far the first frame may be from the start, and frames from one another
_BUFFER_BYTES = 1 << 18  # bytes held at a time
_FRAMES_TO_CONFIRM = 3  # frames in a row that tell audio from bytes that look like a frame


def _frame_lengths_by_header() -> dict[bytes, int]:
    """{second and third byte of a header: bytes of its frame}."""
    found = {}
    for second in range(0xE0, 0x100):
        version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
        if version == 1 or layer == 4:
            continue
        for third in range(256):
            bits, rate = third >> 4, third >> 2 & 3
            if bits in (0, 15) or rate == 3:  # 0: a bit rate of its own, which only decoding tells
                continue
            hertz = _RATES[rate] >> (0, 1, 2)[{3: 0, 2: 1, 0: 2}[version]]
            bit_rate = 1000 * _KILOBITS[version == 3, layer][bits - 1]
            padding = third >> 1 & 1
            if layer == 1:
                length = (12 * bit_rate // hertz + padding) * 4
            else:
                length = (72 if layer == 3 and version != 3 else 144) * bit_rate // hertz + padding
            found[bytes((second, third))] = length
    return found


FRAME_LENGTHS = _frame_lengths_by_header()


@dataclass(frozen=True)
class _FrameRun:
    """Frames that follow one another and are decoded together. start, end: in bytes.

    said: how many frames follow the first by its own count, or None. counted_at: where that count is in the file.
    frames: how many there are, the frame that counts left out.
    """

    start: int
    end: int
    said: int | None
    counted_at: int
    frames: int


def mpeg_streams(content: Content, start: int = 0, end: int | None = None) -> tuple[Stream, ...] | None:
    """The streams of an MP3 from `start` on, or None where there is none.

    An ordinary file, whose count of frames holds, is WHOLE. A count that is too high is left as it is: the file was
    cut short, and the decoder will come to its end early.
    """
    last = content.size if end is None else end
    runs = list(_frame_runs(content, start, last))
    if not runs:
        return None
    first = runs[0]
    ordinary = len(runs) == 1 and first.said is not None and first.frames <= first.said
    if ordinary and (start, last) == (0, content.size) and first.start == skip_id3_tags(content, 0):
        return (WHOLE,)
    return tuple(_stream(content, run) for run in runs)


def _stream(content: Content, run: _FrameRun) -> Stream:
    if run.said is None:
        return Stream(run.start, run.end, endless=True)
    if run.frames <= run.said:
        return Stream(run.start, run.end)
    # More frames than the header counts: the decoder is told of more than there are, and plays them all.
    head = content.at(run.start, run.counted_at - run.start) + struct.pack(">I", 2 * run.frames)
    return Stream(run.start, run.end, head, endless=True)


def _frame_runs(content: Content, at: int, end: int) -> Iterator[_FrameRun]:
    at = _first_frame(content, at, end)
    while 0 <= at < end:
        said, counted_at, skipped = _declared_count(content, at)
        start = at + skipped
        frames, whole, at = _count_frames(content, at, end, count_first=said is None and not skipped)
        if frames > 0 or said:
            yield _FrameRun(start, whole, said, counted_at, frames)
        at = _first_frame(content, at, end)


def _count_frames(content: Content, at: int, end: int, count_first: bool) -> tuple[int, int, int]:
    """How many whole frames follow one another from `at` on, where the last ends, and where to look for more.

    They end at other bytes, or at a new file. A frame that the end of the file cuts off is not among them: libsndfile
    would fail on it. A new file begins with a frame that counts, or one of another rate or number of channels.
    """
    first, frames = at, 0 if count_first else -1
    kind = _stream_kind(content.at(at, 4))
    lengths, mono, mark = _lengths_of(kind), kind[2], _xing_offset(kind[0], kind[2])
    while True:
        buffer = content.at(at, min(_BUFFER_BYTES, end - at))
        more = at + len(buffer) < end
        limit = len(buffer) - (64 if more else 3)
        buffer += bytes(64)  # so that marks can be looked for in the last frame too
        place = length = 0
        while place < limit:  # this loop takes most of the time
            length = lengths.get(buffer[place : place + 3], 0)
            if not length or (buffer[place + 3] > 191) != mono:
                return frames, at + place, at + place
            may_count = buffer[place + mark] in b"XI" or buffer[place + 36] == 86  # the first letters of the marks
            if may_count and _count_tag_offset(buffer[place : place + 64]) and at + place > first:
                return frames, at + place, at + place
            place += length
            frames += 1
        at += place
        if at > end:  # the last one is not whole
            return frames - 1, at - length, end
        if not more:
            return frames, at, at


@cache
def _lengths_of(kind: tuple[int, int, bool]) -> dict[bytes, int]:
    """{the first three bytes of a header: bytes of its frame} for frames of one kind."""
    return {
        b"\xff" + header: length
        for header, length in FRAME_LENGTHS.items()
        if (header[0] & 0xFE, header[1] & 0x0C) == kind[:2]
    }


def _stream_kind(header: bytes) -> tuple[int, int, bool]:
    """Version and layer, rate, mono or not: what stays the same throughout a stream."""
    return header[1] & 0xFE, header[2] & 0x0C, header[3] >> 6 == 3


def _count_tag_offset(frame: bytes) -> int:
    """Where in a frame the word Xing, Info or VBRI is, which says that it counts the others; 0 where it is not."""
    if frame[36:40] == b"VBRI":
        return 36
    at = _xing_offset(frame[1], frame[3] >> 6 == 3)
    return at if frame[at : at + 4] in (b"Xing", b"Info") else 0


def _xing_offset(second: int, mono: bool) -> int:
    """How far into a frame Xing or Info are: behind what tells how the sound is packed. second: byte of the header."""
    return 4 + ((17 if mono else 32) if second >> 3 & 3 == 3 else (9 if mono else 17))


def _declared_count(content: Content, at: int) -> tuple[int | None, int, int]:
    """How many frames the frame at `at` says will follow, where it says so, and how many bytes of it to pass over.

    A frame of this kind that gives no number is no sound, nor is VBRI, which libsndfile does not know: both are passed
    over.
    """
    frame = content.at(at, 64)
    mark = _count_tag_offset(frame)
    if not mark:
        return None, 0, 0
    if frame[mark : mark + 4] != b"VBRI" and frame[mark + 7] & 1:
        return int.from_bytes(frame[mark + 8 : mark + 12]), at + mark + 8, 0
    return None, 0, FRAME_LENGTHS[frame[1:3]]


def skip_id3_tags(content: Content, at: int) -> int:
    """Where what follows the ID3 tags at `at` begins; `at` itself where there are none."""
    while len(tag := content.at(at, 10)) == 10 and tag[:3] == b"ID3":
        at += 10 + (tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9])
    return at


def _first_frame(content: Content, at: int, end: int) -> int:
    """Where the next frame begins that others follow; −1 where there is none within reach."""
    at = skip_id3_tags(content, at)
    if (
        content.at(at, 1) == b"\xff"
        and content.at(at + 1, 2) in FRAME_LENGTHS
        and _starts_frame_sequence(content, at, end)
    ):
        return at
    buffer = content.at(at, min(_SEARCH_BYTES, max(0, end - at)))
    place = buffer.find(b"\xff")
    while place >= 0:
        if buffer[place + 1 : place + 3] in FRAME_LENGTHS and _starts_frame_sequence(content, at + place, end):
            return at + place
        place = buffer.find(b"\xff", place + 1)
    return -1


def _starts_frame_sequence(content: Content, at: int, end: int) -> bool:
    """Whether frames follow one another from here, up to the end of the file."""
    kind = None
    for number in range(_FRAMES_TO_CONFIRM):
        if at >= end - 3 or content.at(at, 3) == b"TAG":
            return number > 1 or (number == 1 and at <= end)
        header = content.at(at, 4)
        if header[0] != 255 or header[1:3] not in FRAME_LENGTHS or kind not in (None, _stream_kind(header)):
            return False
        kind = _stream_kind(header)
        at += FRAME_LENGTHS[header[1:3]]
    return True
