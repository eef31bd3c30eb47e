"""Decoding: any audio file to mono float32 at any rate, or an `AudioError` with the reason.

The length of a clip is the number of samples that decode, never what the header declares. Memory use follows the
decoded audio, whatever the header declares.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from earmark.audio.clips import AudioError as AudioError  # re-exported
from earmark.audio.clips import Clip, shown_clip
from earmark.audio.containers import Layout, layout
from earmark.audio.content import WHOLE, Content, Stream
from earmark.audio.ffmpeg import ffmpeg_blocks
from earmark.audio.formats import SUFFIXES as SUFFIXES
from earmark.audio.formats import ffmpeg_format

BLOCK_SAMPLES = 1 << 18  # decoded at a time
MAX_SAMPLES = 1 << 30  # of a clip in memory, 4 GiB: 18 hours at 16 kHz, 6 at 48 kHz
MIN_RATE, MAX_RATE = 1_000, 768_000
MAX_CHANNELS = 255  # the maximum of Opus and Vorbis
UNKNOWN_LENGTH = 1 << 62  # samples; libsndfile reports at least this many if the length is unknown

Block = NDArray[np.float32]


def read_audio(clip: Clip, rate: int | None = None) -> NDArray[np.float32]:
    """Decode a clip to a mono waveform; channels are averaged.

    Parameters
    ----------
    clip : Path or TarMember
        An audio file or a member of a tar file.
    rate : int, optional
        Sample rate of the result in Hz. By default, the rate of the clip.

    Returns
    -------
    (n,) float32
        Samples, nominally in [−1, 1].

    Raises
    ------
    AudioError
        If the clip does not exist, is empty, is not audio, is damaged, is longer than `MAX_SAMPLES`, or ends before
        the length that its header declares.
    MissingError
        If the decoder of the format is not installed.

    Notes
    -----
    The parts of a concatenated file are decoded one after the other. If their rates differ and `rate` is None, all
    parts are resampled to the rate of the first.

    Examples
    --------
    >>> from pathlib import Path
    >>> read_audio(Path("missing.wav"))
    Traceback (most recent call last):
    earmark.audio.clips.AudioError: missing.wav: file not found
    """
    return _resampled(_mono(clip), rate)


def read_audio_and_native_rate(clip: Clip, rate: int) -> tuple[NDArray[np.float32], int]:
    """Decode a clip and return its native sample rate too.

    Parameters
    ----------
    clip : Path or TarMember
        An audio file or a member of a tar file.
    rate : int
        Sample rate of the result in Hz.

    Returns
    -------
    waveform : (n,) float32
        As from `read_audio`.
    native_rate : int
        Sample rate of the clip in Hz; the lowest one if its parts differ.

    Raises
    ------
    AudioError, MissingError
        As `read_audio`.
    """
    parts = _mono(clip)
    return _resampled(parts, rate), min(native for native, _ in parts)


def read_nonsilent_audio(clip: Clip, rate: int) -> NDArray[np.float32]:
    """Decode a clip to a mono waveform and reject silence.

    Parameters
    ----------
    clip : Path or TarMember
        An audio file or a member of a tar file.
    rate : int
        Sample rate of the result in Hz.

    Returns
    -------
    (n,) float32
        Finite samples, not all of them zero.

    Raises
    ------
    AudioError
        As `read_audio`, and if the waveform is empty, all zeros or not finite.
    MissingError
        If the decoder of the format is not installed.
    """
    waveform = read_audio(clip, rate)
    if not len(waveform):
        raise AudioError(f"{shown_clip(clip)}: is too short for a single sample at {rate} Hz")
    if not np.isfinite(waveform).all():
        raise AudioError(f"{shown_clip(clip)}: has samples that are not finite")
    if not waveform.any():
        raise AudioError(f"{shown_clip(clip)}: is silent, all its samples are zero")
    return waveform


def check_audio(clip: Clip, seconds: float | None = None) -> None:
    """Check that a clip decodes to its end; at most one block of it is in memory.

    Parameters
    ----------
    clip : Path or TarMember
        An audio file or a member of a tar file.
    seconds : float, optional
        Duration of the clip from metadata. A clip that is shorter by more than 10 % and by more than 0.25 s counts as
        truncated.

    Raises
    ------
    AudioError, MissingError
        As `read_audio`.
    """
    decoded = sum(len(block) / rate for rate, block in _blocks(clip))
    if seconds is not None and decoded < min(0.9 * seconds, seconds - 0.25):
        raise AudioError(f"{shown_clip(clip)}: ends after {decoded:.1f} s of {seconds:.1f} s")


def decoding_variant(clip: Clip) -> str:
    """Name the way a clip is decoded, if plain libsndfile does not decode it.

    Embeddings of such clips that were stored by earlier versions may be wrong, so the name is part of their key.
    Only headers are read, in MP3 and Ogg files those of all frames and pages.

    Parameters
    ----------
    clip : Path or TarMember
        An audio file or a member of a tar file.

    Returns
    -------
    str
        Empty if libsndfile decodes the clip without help, and if the clip is not audio.

    Raises
    ------
    OSError
        If a tar file cannot be read.
    """
    try:
        with Content(clip) as content:
            if ffmpeg := ffmpeg_format(content):
                return ffmpeg[1]
            parts = layout(content)
            if not parts.plain:
                return parts.kind or "cut short"
            with _open_stream(content, parts, WHOLE) as file:
                return "" if _is_plausible(file.samplerate, file.channels) else "refused"
    except AudioError:
        return ""


def _mono(clip: Clip) -> list[tuple[int, NDArray[np.float32]]]:
    """(rate, waveform) of each part of a clip with a constant rate."""
    parts: list[tuple[int, list[NDArray[np.float32]]]] = []
    total = 0
    for rate, block in _blocks(clip):
        total += len(block)
        if total > MAX_SAMPLES:
            raise AudioError(
                f"{shown_clip(clip)}: has more than {MAX_SAMPLES:,} samples; split the file into shorter clips"
            )
        if not parts or parts[-1][0] != rate:
            parts.append((rate, []))
        parts[-1][1].append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32))
    return [(rate, blocks[0] if len(blocks) == 1 else np.concatenate(blocks)) for rate, blocks in parts]


def _resampled(parts: list[tuple[int, NDArray[np.float32]]], rate: int | None) -> NDArray[np.float32]:
    target = parts[0][0] if rate is None else rate
    waveforms = [
        mono if native == target else soxr.resample(mono, native, target).astype(np.float32, copy=False)
        for native, mono in parts
    ]
    return waveforms[0] if len(waveforms) == 1 else np.concatenate(waveforms)


def _blocks(clip: Clip) -> Iterator[tuple[int, Block]]:
    """(rate, (n, channels)) of consecutive blocks of a clip; AudioError if it ends early or has no samples."""
    has_samples = False
    with Content(clip) as content:
        ffmpeg = ffmpeg_format(content)
        blocks = ffmpeg_blocks(content, *ffmpeg) if ffmpeg else _libsndfile_blocks(content)
        for rate, block in blocks:
            _require_plausible(content.name, rate, block.shape[1])
            has_samples = has_samples or len(block) > 0
            yield rate, block
        if not has_samples:
            raise AudioError(f"{content.name}: contains no samples")


def _libsndfile_blocks(content: Content) -> Iterator[tuple[int, Block]]:
    parts = layout(content)
    before = 0.0  # seconds of the previous streams
    for stream in parts.streams:
        with _open_stream(content, parts, stream) as file:
            rate = file.samplerate
            _require_plausible(content.name, rate, file.channels)
            # Reading stops at the declared length: some decoders fail on tags after the audio.
            declared = UNKNOWN_LENGTH if stream.endless else min(file.frames, UNKNOWN_LENGTH)
            if declared < UNKNOWN_LENGTH:
                _require_complete(content, parts, declared / rate)
            decoded, block_size = 0, max(1, BLOCK_SAMPLES // file.channels)
            try:
                while size := min(block_size, declared - decoded):
                    block = file.read(size, dtype="float32", always_2d=True)
                    decoded += len(block)
                    yield rate, block
                    if len(block) < size:
                        break
            except soundfile.LibsndfileError as error:
                raise AudioError(f"{content.name}: cannot be decoded ({_reason(error)})") from error
        if decoded < declared < UNKNOWN_LENGTH:
            raise _truncated(content, before + decoded / rate, before + declared / rate)
        before += decoded / rate
    _require_complete(content, parts, before)
    if parts.unended:
        raise AudioError(f"{content.name}: ends after {before:.1f} s without an end-of-stream page (truncated)")


class _ForwardSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file read forward only; libsndfile cannot seek in every format."""

    def seekable(self) -> bool:
        return False


def _open_stream(content: Content, parts: Layout, stream: Stream) -> Any:
    """Open a stream with libsndfile. AudioError if it is not audio."""
    try:
        if stream == WHOLE and content.member is None:
            # Opened by descriptor: given a path, libsndfile takes any file named .au, .gsm or .vox for audio.
            os.lseek(content.descriptor, 0, os.SEEK_SET)
            return _ForwardSoundFile(content.descriptor, closefd=False)
        return _ForwardSoundFile(stream.open(content))
    except (soundfile.LibsndfileError, TypeError) as error:
        fault = "is not audio, or is truncated before the first sample"
        if parts.unended:
            fault = "cannot be decoded: truncated, has no end-of-stream page"
        raise AudioError(f"{content.name}: {fault} ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """The message of libsndfile without the path it starts with."""
    return str(getattr(error, "error_string", "")).strip().rstrip(".") or "damaged or truncated"


def _is_plausible(rate: int, channels: int) -> bool:
    return MIN_RATE <= rate <= MAX_RATE and 0 < channels <= MAX_CHANNELS


def _require_plausible(name: str, rate: int, channels: int) -> None:
    if not _is_plausible(rate, channels):
        raise AudioError(
            f"{name}: damaged header, it declares {rate:,} Hz and {channels:,} channels; expected {MIN_RATE:,} to "
            f"{MAX_RATE:,} Hz and 1 to {MAX_CHANNELS} channels. Create the file again"
        )


def _require_complete(content: Content, parts: Layout, seconds: float) -> None:
    """AudioError if the file has fewer bytes of audio than declared. seconds: duration of the available audio."""
    if parts.declared_bytes:
        raise _truncated(content, seconds, seconds * parts.declared_bytes / max(parts.available_bytes, 1))


def _truncated(content: Content, seconds: float, declared: float) -> AudioError:
    return AudioError(f"{content.name}: ends after {seconds:.1f} s of {declared:.1f} s")
