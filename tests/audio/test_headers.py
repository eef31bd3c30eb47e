"""Wrong headers, rejected before memory is allocated, and fuzzed files."""

import struct
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from earmark.audio.decode import MAX_CHANNELS, AudioError, check_audio, read_audio
from tests.audio.files import encoded, flac_with_count, wav

ROOT = Path(__file__).resolve().parents[2]


def stored(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "clip.wav").write_bytes(content)
    return tmp_path / "clip.wav"


def peak_memory(read, path: Path) -> int:
    """Peak memory in bytes while a clip is rejected."""
    tracemalloc.start()
    try:
        with pytest.raises(AudioError) as caught:
            read(path)
        assert str(path.parent) not in str(caught.value)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rate", [1, 999, 768_001, 0x7FFFFFFF])
def test_implausible_rates_are_rejected_without_memory(tmp_path, rate):
    path = stored(tmp_path, wav(bytes(32_000), rate=rate))
    for read in (read_audio, check_audio, lambda path: read_audio(path, 16_000)):
        assert peak_memory(read, path) < 1 << 20
    with pytest.raises(
        AudioError, match=rf"^clip\.wav: damaged header, it declares {rate:,} Hz .*Create the file again$"
    ):
        read_audio(path, 16_000)


@pytest.mark.parametrize("rate", [1000, 768_000])
def test_minimum_and_maximum_rate(tmp_path, rate):
    samples = np.random.default_rng(0).integers(-9000, 9000, rate).astype("<i2")
    assert len(read_audio(stored(tmp_path, wav(samples.tobytes(), rate=rate)), 16_000)) == 16_000


@pytest.mark.parametrize("channels", [0, MAX_CHANNELS + 1, 1000, 0xFFFF])
def test_implausible_channels_are_rejected(tmp_path, channels):
    path = stored(tmp_path, wav(bytes(64_000), channels=channels))
    for read in (read_audio, check_audio):
        assert peak_memory(read, path) < 1 << 20


def test_maximum_channels_are_averaged(tmp_path):
    samples = np.random.default_rng(0).integers(-9000, 9000, (2000, MAX_CHANNELS)).astype("<i2")
    waveform = read_audio(stored(tmp_path, wav(samples.tobytes(), channels=MAX_CHANNELS)))
    np.testing.assert_allclose(waveform, samples.mean(axis=1) / 32768, atol=1e-6)


@pytest.mark.parametrize("read", [read_audio, check_audio], ids=["read_audio", "check_audio"])
def test_huge_declared_length_takes_no_memory(tmp_path, read):
    flac = flac_with_count(encoded("FLAC"), (1 << 36) - 1)
    huge = {
        "flac": flac,
        "wav": wav(bytes(64_000), 0x7E000000),
        "w64": _with(encoded("W64", "PCM_16"), b"data\xf3\xac", 16, struct.pack("<Q", 1 << 50)),
        "caf": _with(encoded("CAF", "PCM_16"), b"data", 4, struct.pack(">q", 1 << 50)),
        "sphere": encoded("NIST", "PCM_16").replace(b"sample_count -i 32000", b"sample_count -i 9" + b"9" * 4, 1),
    }
    for content in huge.values():
        assert peak_memory(read, stored(tmp_path, content)) < 8 << 20


def _with(content: bytes, name: bytes, after: int, value: bytes) -> bytes:
    at = content.index(name) + after
    return content[:at] + value + content[at + len(value) :]


def test_max_samples_is_enforced_while_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr("earmark.audio.decode.MAX_SAMPLES", 100_000)
    path = stored(tmp_path, wav(bytes(2 * 1_000_000)))
    assert peak_memory(read_audio, path) < 8 << 20
    check_audio(path)


def test_check_audio_memory_is_bounded(tmp_path):
    path = stored(tmp_path, encoded("FLAC", samples=np.zeros((20_000_000, 1), np.float32)))
    tracemalloc.start()
    check_audio(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_text_with_headerless_suffix_is_not_audio(tmp_path):
    for name in ("clip.au", "clip.snd", "clip.vox", "clip.gsm", "clip.mp3"):
        (tmp_path / name).write_text("A sentence, not a sound.\n" * 200)
        with pytest.raises(AudioError, match=r"^clip\.\w+: is not audio"):
            read_audio(tmp_path / name)


FUZZ = """
    import resource, sys, tempfile, time
    from pathlib import Path
    import numpy as np
    from earmark.audio.decode import AudioError, check_audio, decoding_variant, read_audio
    from tests.audio.files import ffmpeg_encoded, encoded, mp3, noise, wav, without_xing_frame

    kinds = "WAV/PCM_16 WAV/GSM610 WAV/IMA_ADPCM RF64/PCM_16 W64/PCM_16 AIFF/PCM_16 AU/PCM_16 CAF/PCM_16 CAF/ALAC_16 "
    kinds += "NIST/PCM_16 FLAC/PCM_16 OGG/VORBIS OGG/OPUS"
    files = [encoded(*kind.split("/"), noise(16000)) for kind in kinds.split()]
    bare = without_xing_frame(mp3())
    files += [mp3(noise(16000)), mp3() * 2, bare, wav(bare, tag=0x55)]
    files += [encoded("OGG", "OPUS", noise(8000)) * 2, encoded("FLAC", "PCM_16", noise(8000)) * 2]
    if sys.argv[1] == "with av":
        files += [ffmpeg_encoded("ipod", "aac"), ffmpeg_encoded("adts", "aac")]
        files += [ffmpeg_encoded("webm", "libopus", 48000)]
    path = Path(tempfile.mkdtemp()) / "clip"
    for content in files:
        path.write_bytes(content)
        assert len(read_audio(path, 16000)) > 7000
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (150 << 20),) * 2)
    rng, refused, slowest = np.random.default_rng(0), 0, 0.0
    for content in files:
        for number in range(30):
            changed = bytearray(content)
            if number % 5 < 3:
                for at in rng.integers(0, (64, 400, len(changed))[number % 5], 3):
                    changed[at] = rng.choice([0, 255, 127, 128, rng.integers(256)])
            elif number % 5 == 3:
                del changed[rng.integers(1, len(changed)) :]
            else:
                at = rng.integers(0, len(changed))
                changed[at : at + rng.integers(50)] = rng.bytes(rng.integers(50))
            path.write_bytes(changed)
            began = time.perf_counter()
            for read in (decoding_variant, check_audio, read_audio):
                try:
                    read(path)
                except AudioError as error:
                    refused += 1
                    assert str(error).startswith("clip: ") and str(path.parent) not in str(error), error
            slowest = max(slowest, time.perf_counter() - began)
    print(len(files) * 30, refused, slowest)
"""


@pytest.mark.slow
def test_fuzzed_files_are_decoded_or_rejected_within_150_mb():
    with_av = subprocess.run([sys.executable, "-c", "import av"], capture_output=True, check=False).returncode == 0
    command = [sys.executable, "-c", textwrap.dedent(FUZZ), "with av" if with_av else ""]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    files, refused, slowest = done.stdout.split()
    assert int(files) >= 500 and 100 < int(refused) < 2 * int(files) and float(slowest) < 10
