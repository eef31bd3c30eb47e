"""Decoding what libsndfile has no decoder for, by FFmpeg through PyAV, which an extra brings."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import AudioError
from earmark.audio.content import WHOLE, Content
from earmark.errors import shown_cause
from earmark.optional import require_library

EXTRA = "formats"
DURATION_TOLERANCE = (
    0.25  # seconds by which what decodes may miss what a container says, for encoders add and take away a little
)
DECLARES_DURATION = {"mov", "matroska", "asf", "wv", "ape", "tta"}  # of the others FFmpeg makes a guess


def ffmpeg_blocks(content: Content, kind: str, container: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(rate, (n, channels)) of a file's first sound, piece by piece.

    kind: what people call the format, for the message of the MissingError where PyAV is not installed. container:
    FFmpeg's name of it; no other is tried, for some of those that FFmpeg knows open further files. AudioError for what
    cannot be decoded, or ends early.
    """
    av = require_library("av", f"--extra {EXTRA}", f"{content.name}: {kind}")
    got = 0.0
    try:
        with WHOLE.opened(content) as source, av.open(source, format=container, metadata_errors="replace") as file:
            if not file.streams.audio:
                raise AudioError(f"{content.name}: {kind} without any sound")
            stream = file.streams.audio[0]
            declared = _declared(file, stream) if container in DECLARES_DURATION else 0.0
            for frame in file.decode(stream):
                if frame.samples:
                    got += frame.samples / max(frame.sample_rate, 1)
                    yield frame.sample_rate, _samples(frame)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        reason = shown_cause(error).split("]")[-1].split(":")[0].strip()
        raise AudioError(f"{content.name}: {kind}, damaged or cut short ({reason})") from error
    if got + DURATION_TOLERANCE < declared:
        raise AudioError(f"{content.name}: ends after {got:.1f} s of {declared:.1f} s")


def _declared(file: Any, stream: Any) -> float:
    """Seconds, by the container; 0 where it does not say."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return file.duration / 1e6 if file.duration and len(file.streams) == 1 else 0.0


def _samples(frame: Any) -> NDArray[np.float32]:
    """(n, channels) in [−1, 1]."""
    found = frame.to_ndarray()
    if not frame.format.is_planar:
        found = found.reshape(-1, frame.layout.nb_channels).T
    if found.dtype.kind == "u":
        found = found.astype(np.float32) - 2.0 ** (8 * found.dtype.itemsize - 1)
        return (found / 2.0 ** (8 * frame.format.bytes - 1)).T.astype(np.float32)
    if found.dtype.kind == "i":
        return (found / 2.0 ** (8 * found.dtype.itemsize - 1)).T.astype(np.float32)
    return found.T.astype(np.float32)
