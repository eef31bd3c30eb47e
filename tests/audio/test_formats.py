"""Audio suffixes, and formats that require the extra `formats`."""

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from earmark.audio.decode import (
    SUFFIXES,
    AudioError,
    check_audio,
    decoding_variant,
    read_audio,
    read_audio_and_native_rate,
    read_nonsilent_audio,
)
from earmark.errors import MissingError
from earmark.probing.layouts import locate_task
from earmark.probing.reading import read_task_data
from earmark.probing.xares import published_tasks
from earmark.speaker.case.simulate.noise_and_rooms import find_recordings
from earmark.speaker.system import audio_path
from tests.audio.files import encoded, ffmpeg_encoded, wav

# suffix, container, codec, rate, tolerance of the duration of 4 s in seconds
FFMPEG_FORMATS = [
    ("m4a", "ipod", "aac", 16_000, 0.13),
    ("m4a", "mov", "alac", 44_100, 0.0),
    ("aac", "adts", "aac", 16_000, 0.13),
    ("webm", "webm", "libopus", 48_000, 0.03),
    ("mka", "matroska", "aac", 16_000, 0.13),
    ("wma", "asf", "wmav2", 44_100, 0.06),
    ("amr", "amr", "libopencore_amrnb", 8_000, 0.03),
    ("ac3", "ac3", "ac3", 48_000, 0.04),
    ("eac3", "eac3", "eac3", 48_000, 0.04),
    ("wv", "wv", "wavpack", 16_000, 0.0),
]
each_ffmpeg_format = pytest.mark.parametrize(("suffix", "container", "codec", "rate", "tolerance"), FFMPEG_FORMATS)


def require_av() -> None:
    pytest.importorskip("av", reason="PyAV is not installed: `uv run --all-extras pytest` installs it")


@each_ffmpeg_format
def test_ffmpeg_formats_are_decoded(tmp_path, suffix, container, codec, rate, tolerance):
    require_av()
    path = tmp_path / f"clip.{suffix}"
    path.write_bytes(ffmpeg_encoded(container, codec, rate))
    waveform = read_nonsilent_audio(path, 16_000)
    assert len(waveform) / 16_000 == pytest.approx(4.0, abs=tolerance + 1e-3)
    spectrum = np.abs(np.fft.rfft(waveform[8000:-8000]))
    assert np.fft.rfftfreq(len(waveform) - 16_000, 1 / 16_000)[spectrum.argmax()] == pytest.approx(440, abs=1)
    assert np.abs(waveform[8000:-8000]).max() == pytest.approx(16_000 / 32_768, rel=0.1)
    check_audio(path, 4.0)
    assert read_audio_and_native_rate(path, 16_000)[1] == rate
    assert decoding_variant(path) != "" and f".{suffix}" in SUFFIXES


@each_ffmpeg_format
def test_truncated_ffmpeg_formats_are_rejected(tmp_path, suffix, container, codec, rate, tolerance):
    require_av()
    path = tmp_path / f"clip.{suffix}"
    content = ffmpeg_encoded(container, codec, rate)
    path.write_bytes(content[: len(content) // 2 + 7])
    with pytest.raises(AudioError, match=rf"^clip\.{suffix}: .*(ends after \d\.\d s of 4|damaged or truncated)"):
        check_audio(path, 4.0)


def test_missing_decoder_names_format_and_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    starts = {
        "speech.m4a": (b"\0\0\0\x1cftypM4A \0\0\2\0", "MPEG-4 audio"),
        "speech.aac": (b"\xff\xf1\x60\x40\x40\x9f\xfc\xde", "AAC"),
        "speech.webm": (b"\x1aE\xdf\xa3\x9fB\x86\x81", "WebM"),
        "speech.wma": (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "Windows Media Audio"),
        "speech.amr": (b"#!AMR\n", "AMR"),
        "speech.ac3": (bytes.fromhex("0b7708ce0c402f84"), "AC-3"),
        "speech.wav": (wav(bytes(800), tag=0x161), "WAV with codec 0x0161"),
    }
    for name, (content, kind) in starts.items():
        (tmp_path / name).write_bytes(content + bytes(500))
        with pytest.raises(MissingError) as caught:
            read_audio(tmp_path / name)
        assert str(caught.value).startswith(f"{name}: ") and kind in str(caught.value)
        assert str(caught.value).endswith("needs av, which is not installed; use `uv run --extra formats SCRIPT.py …`")
        assert caught.value.exit_code == 2


def test_content_determines_format(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.m4a").write_bytes(encoded("FLAC"))
    assert len(read_audio(tmp_path / "clip.m4a")) == 32_000


def test_sphere_with_shorten_names_sph2pipe(tmp_path):
    content = encoded("NIST", "PCM_16")
    coded = content.replace(b"sample_coding -s3 pcm", b"sample_coding -s26 pcm,embedded-shorten-v2.00", 1)
    assert coded != content
    (tmp_path / "clip.sph").write_bytes(coded)
    with pytest.raises(AudioError, match=r"^clip\.sph: is a SPHERE file compressed with Shorten.*`sph2pipe -f wav`"):
        read_audio(tmp_path / "clip.sph")


def test_audio_path_prefers_existing_file(tmp_path):
    for name in ("a.aiff", "b.m4a", "c.caf", "d.SPH"):
        assert audio_path(tmp_path, name) == tmp_path / name
    assert audio_path(tmp_path, "spk/de/e.12") == tmp_path / "spk/de/e.12.wav"
    (tmp_path / "e.mp4").touch()
    (tmp_path / "f").touch()
    assert audio_path(tmp_path, "e.mp4") == tmp_path / "e.mp4"
    assert audio_path(tmp_path, "f") == tmp_path / "f"


@pytest.mark.parametrize(
    ("suffix", "container"), [("aiff", "AIFF"), ("au", "AU"), ("caf", "CAF"), ("w64", "W64"), ("SPH", "NIST")]
)
def test_all_suffixes_in_folders_and_tar_files(tmp_path: Path, suffix: str, container: str):
    content = encoded(container, "PCM_16")
    (tmp_path / "noise").mkdir()
    (tmp_path / f"noise/clip.{suffix}").write_bytes(content)
    assert find_recordings(tmp_path / "noise").names == (f"clip.{suffix}",)
    for split in ("train", "valid", "test"):
        members = {f"1001_a.{suffix}": content, "1001_a.json": b'{"label": "ANG"}'}
        members |= {f"1002_b.{suffix}": content, "1002_b.json": b'{"label": "SAD"}'}
        pack(tmp_path / f"cremad/wds-audio-{split}-0.tar", members)
    data = read_task_data(locate_task(published_tasks()["cremad"], tmp_path))
    assert [clip.name for clip in data.clips][:2] == [f"1001_a.{suffix}", f"1002_b.{suffix}"]
    np.testing.assert_array_equal(read_audio(data.clips[0]), read_audio(tmp_path / f"noise/clip.{suffix}"))


def pack(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
