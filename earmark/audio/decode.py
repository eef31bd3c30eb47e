"""The one decoder: any audio file → mono float32 at any rate, or a sentence that says why not.

How long a clip is, is what decodes, and nothing that its header says. Whatever a header says, no more memory is taken
than the decoded sound needs.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from earmark.audio.clips import AudioError as AudioError  # for those who only decode
from earmark.audio.clips import Clip, shown_clip
from earmark.audio.containers import Layout, layout
from earmark.audio.content import WHOLE, Content, Stream
from earmark.audio.ffmpeg import ffmpeg_blocks
from earmark.audio.formats import SUFFIXES as SUFFIXES
from earmark.audio.formats import ffmpeg_format

BLOCK_SAMPLES = 1 << 18  # samples decoded at a time
MAX_SAMPLES = 1 << 30  # of a clip in memory, 4 GiB: 18 hours at 16 kHz, 6 at 48 kHz
MIN_RATE, MAX_RATE = 1_000, 768_000
MAX_CHANNELS = 255  # as many as Opus and Vorbis can have
UNKNOWN_LENGTH = 1 << 62  # samples; libsndfile gives a greater number where it knows none

Block = NDArray[np.float32]


def read_audio(clip: Clip, rate: int | None = None) -> NDArray[np.float32]:
    """A clip as mono float32 in [−1, 1] (channels averaged), resampled to `rate` Hz where one is given.

    clip: a file, or a member of a tar file. Files joined into one are decoded one after the other; where their rates
    differ and none is given, all get the first one's. Raises AudioError for a clip that is missing, empty, not audio,
    damaged, or shorter than it says, MissingError for a format whose decoder is not installed.

    >>> from pathlib import Path
    >>> read_audio(Path("missing.wav"))
    Traceback (most recent call last):
    earmark.audio.clips.AudioError: missing.wav: is not there
    """
    return _resampled(_mono(clip), rate)


def read_audio_and_native_rate(clip: Clip, rate: int) -> tuple[NDArray[np.float32], int]:
    """A clip as of `read_audio`, and the rate that it has itself (where parts differ, the lowest)."""
    parts = _mono(clip)
    return _resampled(parts, rate), min(native for native, _ in parts)


def read_nonsilent_audio(clip: Clip, rate: int) -> NDArray[np.float32]:
    """A clip's waveform at a model's rate. Raises AudioError for one in which there is nothing to hear."""
    waveform = read_audio(clip, rate)
    if not len(waveform):
        raise AudioError(f"{shown_clip(clip)}: is too short for a single sample at {rate} Hz")
    if not np.isfinite(waveform).all():
        raise AudioError(f"{shown_clip(clip)}: holds samples that are not finite")
    if not waveform.any():
        raise AudioError(f"{shown_clip(clip)}: is silent, all its samples are zero")
    return waveform


def check_audio(clip: Clip, seconds: float | None = None) -> None:
    """Make sure that a clip can be decoded to its end, holding no more than a block of it.

    seconds: how long the clip is said to be elsewhere, if anywhere; a file shorter than that by a tenth (and a
    quarter of a second) is truncated. Raises as `read_audio`.
    """
    got = sum(len(block) / rate for rate, block in _blocks(clip))
    if seconds is not None and got < min(0.9 * seconds, seconds - 0.25):
        raise AudioError(f"{shown_clip(clip)}: ends after {got:.1f} s of {seconds:.1f} s")


def decoding_variant(clip: Clip) -> str:
    """Names how a clip is decoded, where that is not libsndfile's plain way: what was made of it before may be wrong.

    Empty for all others, and for what is no audio. Nothing is decoded; the headers are read, of MP3 and Ogg those of
    all frames and pages. The name changes when the way does. OSError where a tar file cannot be read.
    """
    try:
        with Content(clip) as content:
            if beyond := ffmpeg_format(content):
                return beyond[1]
            found = layout(content)
            if not found.plain:
                return found.kind or "cut short"
            with _opened(content, found, WHOLE) as file:
                return "" if _is_plausible(file.samplerate, file.channels) else "refused"
    except AudioError:
        return ""


def _mono(clip: Clip) -> list[tuple[int, NDArray[np.float32]]]:
    """(rate, waveform) of a clip's parts; one part, unless its rate changes."""
    parts: list[tuple[int, list[NDArray[np.float32]]]] = []
    total = 0
    for rate, block in _blocks(clip):
        total += len(block)
        if total > MAX_SAMPLES:
            raise AudioError(f"{shown_clip(clip)}: has more than {MAX_SAMPLES:,} samples; cut it into clips")
        if not parts or parts[-1][0] != rate:
            parts.append((rate, []))
        parts[-1][1].append(block.mean(axis=1, dtype=np.float32))
    return [(rate, blocks[0] if len(blocks) == 1 else np.concatenate(blocks)) for rate, blocks in parts]


def _resampled(parts: list[tuple[int, NDArray[np.float32]]], rate: int | None) -> NDArray[np.float32]:
    wanted = parts[0][0] if rate is None else rate
    found = [
        mono if native == wanted else soxr.resample(mono, native, wanted).astype(np.float32, copy=False)
        for native, mono in parts
    ]
    return found[0] if len(found) == 1 else np.concatenate(found)


def _blocks(clip: Clip) -> Iterator[tuple[int, Block]]:
    """(rate, (n, channels)) of a clip, piece by piece to its end; AudioError where the end is too early."""
    some = False
    with Content(clip) as content:
        beyond = ffmpeg_format(content)
        blocks = ffmpeg_blocks(content, *beyond) if beyond else _libsndfile_blocks(content)
        for rate, block in blocks:
            _require_plausible(content.name, rate, block.shape[1])
            some = some or len(block) > 0
            yield rate, block
        if not some:
            raise AudioError(f"{content.name}: holds no samples")


def _libsndfile_blocks(content: Content) -> Iterator[tuple[int, Block]]:
    found = layout(content)
    before = 0.0  # seconds, of the streams that are finished
    for stream in found.streams:
        with _opened(content, found, stream) as file:
            rate = file.samplerate
            _require_plausible(content.name, rate, file.channels)
            # No more is asked for than is declared: some decoders fail on tags behind the sound.
            declared = UNKNOWN_LENGTH if stream.endless else min(file.frames, UNKNOWN_LENGTH)
            if declared < UNKNOWN_LENGTH:
                _require_held(content, found, declared / rate)
            got, wanted = 0, max(1, BLOCK_SAMPLES // file.channels)
            try:
                while size := min(wanted, declared - got):
                    block = file.read(size, dtype="float32", always_2d=True)
                    got += len(block)
                    yield rate, block
                    if len(block) < size:
                        break
            except soundfile.LibsndfileError as error:
                raise AudioError(f"{content.name}: cannot be decoded ({_reason(error)})") from error
        if got < declared < UNKNOWN_LENGTH:
            raise _truncated(content, before + got / rate, before + declared / rate)
        before += got / rate
    _require_held(content, found, before)
    if found.unended:
        raise AudioError(f"{content.name}: ends after {before:.1f} s without the mark of its end: it was cut short")


class _ForwardSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """Read from the start to the end, without going back, which libsndfile cannot do in every file."""

    def seekable(self) -> bool:
        return False


def _opened(content: Content, found: Layout, stream: Stream) -> Any:
    """AudioError for a stream that is no audio."""
    try:
        if stream == WHOLE and content.member is None:
            # By its number, for libsndfile takes any file for sound whose name ends in .au, .gsm or .vox.
            os.lseek(content.descriptor, 0, os.SEEK_SET)
            return _ForwardSoundFile(content.descriptor, closefd=False)
        return _ForwardSoundFile(stream.opened(content))
    except (soundfile.LibsndfileError, TypeError) as error:
        what = "is not audio, or cut short before the first sample"
        if found.unended:
            what = "cannot be decoded, it was cut short: its last page is not marked as the end"
        raise AudioError(f"{content.name}: {what} ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """What libsndfile says, without the path, which it puts in front."""
    return str(getattr(error, "error_string", "")).strip().rstrip(".") or "damaged, or cut short"


def _is_plausible(rate: int, channels: int) -> bool:
    return MIN_RATE <= rate <= MAX_RATE and 0 < channels <= MAX_CHANNELS


def _require_plausible(name: str, rate: int, channels: int) -> None:
    if not _is_plausible(rate, channels):
        raise AudioError(
            f"{name}: is damaged, its header says {rate:,} Hz and {channels:,} channels, where audio has "
            f"{MIN_RATE:,} to {MAX_RATE:,} Hz and up to {MAX_CHANNELS} channels; make it again"
        )


def _require_held(content: Content, found: Layout, seconds: float) -> None:
    """AudioError where the file ends before its sound does. seconds: what there is of it."""
    if found.promised:
        raise _truncated(content, seconds, seconds * found.promised / max(found.held, 1))


def _truncated(content: Content, seconds: float, whole: float) -> AudioError:
    return AudioError(f"{content.name}: ends after {seconds:.1f} s of {whole:.1f} s")
