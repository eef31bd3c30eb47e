"""Decoding of formats that libsndfile does not support, with FFmpeg through PyAV (extra `formats`)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import AudioError
from earmark.audio.content import WHOLE, Content
from earmark.errors import shown_cause
from earmark.optional import require_library

EXTRA = "formats"
DURATION_TOLERANCE = 0.25  # seconds; encoders add padding and remove it again
DECLARES_DURATION = {"mov", "matroska", "asf", "wv", "ape", "tta"}  # FFmpeg estimates the duration of the others


def ffmpeg_blocks(content: Content, kind: str, container: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Decode the first audio stream of a clip block by block.

    Parameters
    ----------
    content : Content
        An open clip.
    kind : str
        Name of the format for messages.
    container : str
        FFmpeg name of the container. FFmpeg tries no other: some of its formats open further files.

    Yields
    ------
    rate : int
        Sample rate in Hz.
    block : (n, channels) float32
        Samples, nominally in [−1, 1].

    Raises
    ------
    MissingError
        If PyAV is not installed.
    AudioError
        If the clip cannot be decoded, has no audio, or ends before its declared duration.
    """
    av = require_library("av", f"--extra {EXTRA}", f"{content.name}: {kind}")
    decoded = 0.0
    try:
        with WHOLE.open(content) as source, av.open(source, format=container, metadata_errors="replace") as file:
            if not file.streams.audio:
                raise AudioError(f"{content.name}: {kind} without an audio stream")
            stream = file.streams.audio[0]
            declared = _declared_seconds(file, stream) if container in DECLARES_DURATION else 0.0
            for frame in file.decode(stream):
                if frame.samples:
                    decoded += frame.samples / max(frame.sample_rate, 1)
                    yield frame.sample_rate, _samples(frame)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        reason = shown_cause(error).split("]")[-1].split(":")[0].strip()
        raise AudioError(f"{content.name}: {kind}, damaged or truncated ({reason})") from error
    if decoded + DURATION_TOLERANCE < declared:
        raise AudioError(f"{content.name}: ends after {decoded:.1f} s of {declared:.1f} s")


def _declared_seconds(file: Any, stream: Any) -> float:
    """Duration according to the container; 0 if it has none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return file.duration / 1e6 if file.duration and len(file.streams) == 1 else 0.0


def _samples(frame: Any) -> NDArray[np.float32]:
    """(n, channels) samples in [−1, 1]."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "u":
        samples = samples.astype(np.float32) - 2.0 ** (8 * samples.dtype.itemsize - 1)
        return (samples / 2.0 ** (8 * frame.format.bytes - 1)).T.astype(np.float32)
    if samples.dtype.kind == "i":
        return (samples / 2.0 ** (8 * samples.dtype.itemsize - 1)).T.astype(np.float32)
    return samples.T.astype(np.float32)
