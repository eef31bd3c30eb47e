"""Headers that declare less audio than the file has."""

import numpy as np
import pytest
import soundfile

from earmark.audio.decode import AudioError, check_audio, read_audio


def written(path, kind):
    sound = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    soundfile.write(path, sound, 16_000, format=kind, subtype="PCM_16")
    return path


@pytest.mark.parametrize(("kind", "at", "order"), [("WAV", 40, "little"), ("AU", 8, "big")])
def test_header_with_low_size_is_rejected(tmp_path, kind, at, order):
    path = written(tmp_path / f"a.{kind.lower()}", kind)
    content = bytearray(path.read_bytes())
    assert int.from_bytes(content[at : at + 4], order) == 64_000
    content[at : at + 4] = (1000).to_bytes(4, order)
    path.write_bytes(content)
    for read in (read_audio, check_audio):
        with pytest.raises(AudioError, match=r"declares 1,000 bytes of audio, but 63,000 more bytes follow"):
            read(path)


@pytest.mark.parametrize(
    "behind", [b"LIST" + (8000).to_bytes(4, "little") + b"x" * 8000, bytes(100_000), b"ID3" + b"\xff" * 90_000]
)
def test_trailing_chunks_tags_and_padding_are_ignored(tmp_path, behind):
    path = written(tmp_path / "a.wav", "WAV")
    path.write_bytes(path.read_bytes() + behind)
    assert len(read_audio(path)) == 32_000
