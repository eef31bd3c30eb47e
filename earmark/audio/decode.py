"""The one decoder: any file that libsndfile reads → mono float32 at any rate, or a sentence that says why not."""

import re
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from earmark.errors import EarmarkError

SUFFIXES = (".mp3", ".wav", ".flac", ".ogg", ".opus")
BLOCK = 1 << 18
# libsndfile silently shortens a WAV whose header promises more than the file holds, and says so only in its log.
SHORT_WAV = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)


class AudioError(EarmarkError):
    """A clip that cannot be used; the message is what the clip's row says."""


def read_audio(path: Path, rate: int | None = None) -> NDArray[np.float32]:
    """A clip as mono float32 in [−1, 1] (channels averaged), resampled to `rate` Hz where one is given.

    Raises AudioError for a file that is missing, empty, not audio, or shorter than it says.

    >>> read_audio(Path("missing.wav"))
    Traceback (most recent call last):
    earmark.audio.decode.AudioError: missing.wav: is not there
    """
    with _open(path) as file:
        declared, native = file.frames, file.samplerate
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{path.name}: cannot be decoded ({error.error_string})") from error
    _require_length(path, len(samples), declared, native)
    mono = samples.mean(axis=1, dtype=np.float32)
    return mono if rate in (None, native) else soxr.resample(mono, native, rate).astype(np.float32)


def check_audio(path: Path, seconds: float | None = None) -> None:
    """Make sure that a clip can be decoded to its end, holding no more than a block of it.

    seconds: how long the clip is said to be elsewhere, if anywhere; a file shorter than that by a tenth (and a
    quarter of a second) is truncated. Raises AudioError as `read_audio`.
    """
    with _open(path) as file:
        declared, rate = file.frames, file.samplerate
        try:
            got = 0
            while block := len(file.read(BLOCK, dtype="float32")):  # blocks() would fill up what is missing
                got += block
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{path.name}: cannot be decoded ({error.error_string})") from error
    _require_length(path, got, declared, rate)
    if seconds is not None and got / rate < min(0.9 * seconds, seconds - 0.25):
        _require_length(path, got, int(seconds * rate), rate)


def _open(path: Path) -> soundfile.SoundFile:
    if not path.exists():
        raise AudioError(f"{path.name}: is not there")
    if not path.is_file():
        raise AudioError(f"{path.name}: is a folder, not a file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path.name}: is empty (0 bytes)")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: no known audio suffix, such as .raw
        reason = getattr(error, "error_string", "no known audio suffix")  # str(error) holds the whole path
        raise AudioError(f"{path.name}: is not audio, or cut short before the first sample ({reason})") from error
    if promised := SHORT_WAV.search(file.extra_info):
        seconds = file.frames / file.samplerate
        file.close()
        whole = seconds * int(promised[1]) / max(int(promised[2]), 1)
        raise AudioError(f"{path.name}: ends after {seconds:.1f} s of {whole:.1f} s")
    if file.frames == 0:
        file.close()
        raise AudioError(f"{path.name}: holds no samples")
    return file


def _require_length(path: Path, got: int, declared: int, rate: int) -> None:
    if got < declared:
        raise AudioError(f"{path.name}: ends after {got / rate:.1f} s of {declared / rate:.1f} s")
