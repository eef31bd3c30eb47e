"""Audio files as bytes: as encoders write them, as pipes do, and with wrong headers."""

import io
import struct
from typing import Any

import numpy as np
import soundfile

RATE = 16_000


def noise(samples: int = 32_000, seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (samples, channels)).astype(np.float32)


def encoded(kind: str, subtype: str | None = None, samples: np.ndarray | None = None, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise() if samples is None else samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def mp3(samples: np.ndarray | None = None, rate: int = RATE, mode: str = "CONSTANT") -> bytes:
    """An MP3 whose first frame (Xing or Info) declares the number of frames."""
    buffer = io.BytesIO()
    soundfile.write(buffer, noise() if samples is None else samples, rate, format="MP3", bitrate_mode=mode)
    return buffer.getvalue()


def frame_count_offset(content: bytes) -> int:
    """Offset of the declared number of frames in an MP3."""
    return max(content.find(b"Xing", 0, 64), content.find(b"Info", 0, 64)) + 8


def without_xing_frame(content: bytes) -> bytes:
    """An MP3 as written to a pipe: without the Xing or Info frame."""
    return content[content.index(content[:2], 2) :]


def wav(data: bytes, declared_size: int | None = None, rate: int = RATE, channels: int = 1, tag: int = 1) -> bytes:
    """A WAV file. declared_size: size of the data according to the header."""
    size = len(data) if declared_size is None else declared_size
    form = struct.pack("<HHIIHH", tag, channels, rate, 2 * channels * rate & 0xFFFFFFFF, 2 * channels & 0xFFFF, 16)
    if tag == 0x55:  # MP3
        form = struct.pack("<HHIIHHHHIHHH", tag, channels, rate, 4000, 1, 0, 12, 1, 2, 144, 1, 0)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", min(size + len(head), 0xFFFFFFFF)) + head + data


def ogg_pages(content: bytes) -> list[bytes]:
    pages, at = [], 0
    while at < len(content):
        length = 27 + content[at + 26] + sum(content[at + 27 : at + 27 + content[at + 26]])
        pages.append(content[at : at + length])
        at += length
    return pages


def flac_with_count(content: bytes, count: int) -> bytes:
    header = bytearray(content)
    header[21] = header[21] & 0xF0 | count >> 32
    header[22:26] = struct.pack(">I", count & 0xFFFFFFFF)
    return bytes(header)


def ffmpeg_encoded(container: str, codec: str, rate: int = RATE, seconds: float = 4.0) -> bytes:
    """A tone encoded by PyAV."""
    import av

    tone = np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)
    frame: Any = av.AudioFrame.from_ndarray((16_000 * tone).astype(np.int16)[None], format="s16", layout="mono")
    frame.sample_rate = rate
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=rate)
        stream.layout, stream.bit_rate = "mono", 12_200 if "amr" in codec else 64_000
        stream.format = av.codec.Codec(codec, "w").audio_formats[0]
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            piece.pts = None
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return buffer.getvalue()
