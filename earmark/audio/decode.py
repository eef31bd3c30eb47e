"""The one decoder: any file that libsndfile reads → mono float32 at any rate, or a sentence that says why not."""

import io
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from earmark.audio.clips import AudioError as AudioError  # for those who only decode
from earmark.audio.clips import Clip, TarMember, shown_clip

SUFFIXES = (".mp3", ".wav", ".flac", ".ogg", ".opus")
BLOCK = 1 << 18
# libsndfile silently shortens a WAV whose header promises more than the file holds, and says so only in its log.
SHORT_WAV = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)


def read_audio(clip: Clip, rate: int | None = None) -> NDArray[np.float32]:
    """A clip as mono float32 in [−1, 1] (channels averaged), resampled to `rate` Hz where one is given.

    clip: a file, or a member of a tar file. Raises AudioError for one that is missing, empty, not audio, or shorter
    than it says.

    >>> read_audio(Path("missing.wav"))
    Traceback (most recent call last):
    earmark.audio.clips.AudioError: missing.wav: is not there
    """
    with _open(clip) as file:
        declared, native = file.frames, file.samplerate
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{shown_clip(clip)}: cannot be decoded ({error.error_string})") from error
    _require_length(clip, len(samples), declared, native)
    mono = samples.mean(axis=1, dtype=np.float32)
    return mono if rate in (None, native) else soxr.resample(mono, native, rate).astype(np.float32)


def heard(clip: Clip, rate: int) -> NDArray[np.float32]:
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
    quarter of a second) is truncated. Raises AudioError as `read_audio`.
    """
    with _open(clip) as file:
        declared, rate = file.frames, file.samplerate
        try:
            got = 0
            while block := len(file.read(BLOCK, dtype="float32")):  # blocks() would fill up what is missing
                got += block
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{shown_clip(clip)}: cannot be decoded ({error.error_string})") from error
    _require_length(clip, got, declared, rate)
    if seconds is not None and got / rate < min(0.9 * seconds, seconds - 0.25):
        _require_length(clip, got, int(seconds * rate), rate)


def _open(clip: Clip) -> soundfile.SoundFile:
    name = shown_clip(clip)
    source = _member(clip) if isinstance(clip, TarMember) else _file(clip)
    try:
        file = soundfile.SoundFile(source)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: no known audio suffix, such as .raw
        reason = getattr(error, "error_string", "no known audio suffix")  # str(error) holds the whole path
        raise AudioError(f"{name}: is not audio, or cut short before the first sample ({reason})") from error
    if promised := SHORT_WAV.search(file.extra_info):
        seconds = file.frames / file.samplerate
        file.close()
        whole = seconds * int(promised[1]) / max(int(promised[2]), 1)
        raise AudioError(f"{name}: ends after {seconds:.1f} s of {whole:.1f} s")
    if file.frames == 0:
        file.close()
        raise AudioError(f"{name}: holds no samples")
    return file


def _file(path: Path) -> Path:
    if not path.exists():
        raise AudioError(f"{path.name}: is not there")
    if not path.is_file():
        raise AudioError(f"{path.name}: is a folder, not a file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path.name}: is empty (0 bytes)")
    return path


def _member(member: TarMember) -> BinaryIO:
    if not member.tar.is_file():
        raise AudioError(f"{shown_clip(member)}: the tar file is not there")
    if not member.size:
        raise AudioError(f"{shown_clip(member)}: is empty (0 bytes)")
    return io.BytesIO(member.read())


def _require_length(clip: Clip, got: int, declared: int, rate: int) -> None:
    if got < declared:
        raise AudioError(f"{shown_clip(clip)}: ends after {got / rate:.1f} s of {declared / rate:.1f} s")
