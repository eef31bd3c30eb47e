"""Decoding of valid, truncated and invalid files."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earmark.audio.decode import AudioError, check_audio, read_audio
from earmark.errors import EarmarkError

RATE, SECONDS = 16000, 2.1
Reader = Callable[[Path], object]
FORMATS = {
    "mp3": ("MP3", None),
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", None),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}

both_readers = pytest.mark.parametrize("read", [read_audio, check_audio], ids=["read_audio", "check_audio"])


def tone(seconds: float = SECONDS, rate: int = RATE, amplitude: float = 0.5) -> np.ndarray:
    """A tone with noise, which no format can compress to a few bytes."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.002, len(t))
    return (amplitude * np.sin(2 * np.pi * 440 * t) + noise).astype(np.float32)


def written(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    kind, subtype = FORMATS[path.suffix[1:]]
    soundfile.write(path, samples, rate, format=kind, subtype=subtype)
    return path


def cut(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


# --- valid files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_read_audio_resamples_to_16_khz_mono(tmp_path: Path, rate: int, channels: int):
    samples = np.tile(tone(rate=rate)[:, np.newaxis], (1, channels))
    got = read_audio(written(tmp_path / "clip.wav", samples, rate), 16000)
    assert got.dtype == np.float32
    assert got.shape == (33600,)  # 2.1 s
    assert np.abs(got).max() == pytest.approx(0.5, abs=0.02)
    spectrum = np.abs(np.fft.rfft(got))
    assert np.fft.rfftfreq(len(got), 1 / 16000)[spectrum.argmax()] == pytest.approx(440, abs=1)


def test_read_audio_averages_channels(tmp_path: Path):
    left, right = np.full(1600, 0.5, np.float32), np.full(1600, -0.25, np.float32)
    got = read_audio(written(tmp_path / "clip.wav", np.stack([left, right], axis=1)))
    np.testing.assert_allclose(got, 0.125, atol=1e-4)


def test_read_audio_without_rate_keeps_samples(tmp_path: Path):
    samples = tone(rate=8000)
    got = read_audio(written(tmp_path / "clip.wav", samples, 8000))
    np.testing.assert_allclose(got, samples, atol=1 / 32768)


@pytest.mark.parametrize("suffix", FORMATS)
def test_read_audio_reads_complete_file(tmp_path: Path, suffix: str):
    path = written(tmp_path / f"clip.{suffix}", tone())
    assert len(read_audio(path, 16000)) == pytest.approx(33600, abs=1200)
    check_audio(path)
    check_audio(path, SECONDS)


def test_check_audio_reads_all_blocks(tmp_path: Path):
    path = written(tmp_path / "clip.wav", tone(40.0))
    check_audio(path, 40.0)
    assert len(read_audio(path)) == 640_000


# --- truncated files ------------------------------------------------------------------------------------------------


@both_readers
def test_truncated_wav_reports_available_seconds(tmp_path: Path, read: Reader):
    path = written(tmp_path / "clip.wav", tone())
    path.write_bytes(path.read_bytes()[: 44 + 2 * 6400])  # a header of 44 bytes, then 0.4 s of 16-bit samples
    with pytest.raises(AudioError, match=r"^clip\.wav: ends after 0\.4 s of 2\.1 s$"):
        read(path)


@both_readers
def test_wav_without_last_samples_is_truncated(tmp_path: Path, read: Reader):
    path = written(tmp_path / "clip.wav", tone())
    path.write_bytes(path.read_bytes()[:-1600])
    with pytest.raises(AudioError, match=r"^clip\.wav: ends after 2\.\d s of 2\.1 s$"):
        read(path)


@both_readers
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_mp3_reports_available_seconds(tmp_path: Path, read: Reader, share: float):
    path = cut(written(tmp_path / "clip.mp3", tone()), share)
    with pytest.raises(AudioError, match=r"^clip\.mp3: ends after [01]\.\d s of 2\.\d s$"):
        read(path)


@both_readers
@pytest.mark.parametrize("suffix", ["flac", "ogg", "opus"])
def test_truncated_flac_and_ogg_are_rejected(tmp_path: Path, read: Reader, suffix: str):
    path = cut(written(tmp_path / f"clip.{suffix}", tone()), 0.5)
    with pytest.raises(
        AudioError, match=rf"^clip\.{suffix}: (ends after|cannot be decoded|is not audio, or is truncated|contains)"
    ):
        read(path)


@both_readers
@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "wav"])
def test_truncated_header_is_rejected(tmp_path: Path, read: Reader, suffix: str):
    path = cut(written(tmp_path / f"clip.{suffix}", tone()), 0.0)
    path.write_bytes(written(tmp_path / f"whole.{suffix}", tone()).read_bytes()[:20])
    with pytest.raises(AudioError, match=rf"^clip\.{suffix}: is not audio, or is truncated before the first sample"):
        read(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_check_audio_compares_with_metadata_duration(tmp_path: Path, suffix: str):
    path = written(tmp_path / f"clip.{suffix}", tone(1.0))
    with pytest.raises(AudioError, match=rf"^clip\.{suffix}: ends after 1\.\d s of 2\.1 s$"):
        check_audio(path, 2.1)


def test_check_audio_duration_tolerance(tmp_path: Path):
    path = written(tmp_path / "clip.wav", tone(2.1))
    check_audio(path, 2.33)  # 0.23 s short, less than a quarter of a second
    check_audio(written(tmp_path / "long.wav", tone(20.0)), 21.0)  # a second short, less than a tenth
    with pytest.raises(AudioError, match=r"ends after 2\.1 s of 2\.4 s"):
        check_audio(path, 2.41)
    check_audio(path, 1.0)  # a longer clip is valid


# --- invalid files --------------------------------------------------------------------------------------------------


@both_readers
def test_missing_file(tmp_path: Path, read: Reader):
    with pytest.raises(AudioError, match=r"^clip\.mp3: file not found$"):
        read(tmp_path / "clip.mp3")


@both_readers
def test_empty_file(tmp_path: Path, read: Reader):
    (tmp_path / "clip.mp3").write_bytes(b"")
    with pytest.raises(AudioError, match=r"^clip\.mp3: is empty \(0 bytes\)$"):
        read(tmp_path / "clip.mp3")


@both_readers
def test_folder_in_place_of_file(tmp_path: Path, read: Reader):
    (tmp_path / "clip.mp3").mkdir()
    with pytest.raises(AudioError, match=r"^clip\.mp3: is a folder, not a file$"):
        read(tmp_path / "clip.mp3")


@both_readers
@pytest.mark.parametrize("name", ["clip.mp3", "clip.wav", "clip.flac", "clip.ogg", "clip.raw", "clip.txt", "clip"])
def test_text_file_is_not_audio(tmp_path: Path, read: Reader, name: str):
    (tmp_path / name).write_text("A sentence, not a sound.\n" * 200)
    with pytest.raises(AudioError, match=rf"^{re.escape(name)}: is not audio"):
        read(tmp_path / name)


@both_readers
def test_wav_without_samples(tmp_path: Path, read: Reader):
    path = written(tmp_path / "clip.wav", np.zeros(0, np.float32))
    with pytest.raises(AudioError, match=r"^clip\.wav: contains no samples$"):
        read(path)


@both_readers
def test_dangling_link_is_missing_file(tmp_path: Path, read: Reader):
    (tmp_path / "clip.wav").symlink_to(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match=r"^clip\.wav: file not found$"):
        read(tmp_path / "clip.wav")


@both_readers
@pytest.mark.parametrize("suffix", ["mp3", "wav", "flac", "ogg"])
def test_messages_contain_no_folder(tmp_path: Path, read: Reader, suffix: str):
    """Messages are written to predictions.csv, and outputs contain no absolute paths."""
    (tmp_path / f"clip.{suffix}").write_text("A sentence, not a sound.\n" * 200)
    with pytest.raises(AudioError) as caught:
        read(tmp_path / f"clip.{suffix}")
    assert str(tmp_path) not in str(caught.value)


def test_audio_error_exit_code():
    assert issubclass(AudioError, EarmarkError)
    assert AudioError.exit_code == 1
