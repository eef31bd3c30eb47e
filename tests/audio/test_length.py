"""Length of clips whose header is wrong or missing, and detection of truncated files."""

import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from earmark.audio.clips import Clip, tar_members
from earmark.audio.containers import _crc
from earmark.audio.decode import AudioError, check_audio, decoding_variant, read_audio, read_audio_and_native_rate
from tests.audio.files import (
    encoded,
    flac_with_count,
    frame_count_offset,
    mp3,
    noise,
    ogg_pages,
    wav,
    without_xing_frame,
)

DELAY = 1105  # samples; added by MP3 encoder and decoder, removed if the number of frames is declared


def stored(tmp_path: Path, content: bytes, kind: str = "file") -> Clip:
    """Write the content to a file without a suffix, or to a member of a tar file."""
    path = tmp_path / "clip"
    path.write_bytes(content)
    if kind == "file":
        return path
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(path, "clip")
    return tar_members(tmp_path / "x.tar")[0]


files_and_members = pytest.mark.parametrize("kind", ["file", "member"])


# --- MP3 ------------------------------------------------------------------------------------------------------------


@files_and_members
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16_000, 1), (22_050, 2), (44_100, 2)])
def test_mp3_without_xing_frame_decodes_completely(tmp_path, mode, rate, channels, kind):
    counted = mp3(noise(2 * rate, channels=channels), rate, mode)
    expected = read_audio(stored(tmp_path, counted, kind))
    clip = stored(tmp_path, without_xing_frame(counted), kind)
    decoded = read_audio(clip)
    frames = int.from_bytes(counted[frame_count_offset(counted) :][:4])
    assert len(decoded) == frames * (1152 if rate > 24_000 else 576)
    np.testing.assert_array_equal(decoded[DELAY : DELAY + len(expected)], expected)
    check_audio(clip, 2.0)
    assert (len(expected), decoding_variant(clip)) == (2 * rate, "mp3")


@files_and_members
def test_concatenated_mp3s_decode_completely(tmp_path, kind):
    parts = [mp3(noise(32_000, 1)), mp3(noise(16_000, 2)), b"ID3\3\0\0\0\0\1\0" + bytes(128) + mp3(noise(20_000, 3))]
    expected = [read_audio(stored(tmp_path, part, kind)) for part in parts]
    clip = stored(tmp_path, b"".join(parts), kind)
    np.testing.assert_array_equal(read_audio(clip), np.concatenate(expected))
    assert len(read_audio(clip)) == 68_000
    check_audio(clip, 4.25)


def test_concatenated_mp3s_without_xing_frame(tmp_path):
    bare = without_xing_frame(mp3(noise(16_000, 1)))
    length = len(read_audio(stored(tmp_path, bare)))
    assert len(read_audio(stored(tmp_path, bare + mp3()))) == length + 32_000
    assert len(read_audio(stored(tmp_path, mp3() + bare))) == pytest.approx(length + 32_000, abs=1500)
    assert len(read_audio(stored(tmp_path, bare + bare))) == 2 * length


def test_concatenated_mp3s_with_different_rates_and_channels(tmp_path):
    parts = [mp3(noise(16_000, 1)), mp3(noise(44_100, 2, channels=2), 44_100), mp3(noise(16_000, 3, channels=2))]
    expected = [read_audio(stored(tmp_path, part), 16_000) for part in parts]
    clip = stored(tmp_path, b"".join(parts))
    for rate in (16_000, None):
        np.testing.assert_array_equal(read_audio(clip, rate), np.concatenate(expected))
    assert read_audio_and_native_rate(clip, 44_100)[1] == 16_000


@pytest.mark.parametrize("declared", [0, 1, 10, 57])
def test_mp3_with_low_declared_count_decodes_completely(tmp_path, declared):
    content = bytearray(mp3())
    at = frame_count_offset(content)
    expected = read_audio(stored(tmp_path, bytes(content)))
    assert content[at : at + 4] == struct.pack(">I", 58)
    content[at : at + 4] = struct.pack(">I", declared)
    decoded = read_audio(stored(tmp_path, bytes(content)))
    assert 32_000 <= len(decoded) < 33_408  # 58 frames of 576 samples
    np.testing.assert_array_equal(decoded[:32_000], expected)


@pytest.mark.parametrize(("lost", "frames"), [(1, 1), (35, 1), (37, 2), (467, 2)])  # the last have 432 and 36 bytes
def test_mp3_without_xing_frame_drops_incomplete_frames(tmp_path, lost, frames):
    content = without_xing_frame(mp3())
    whole = read_audio(stored(tmp_path, content))
    np.testing.assert_array_equal(read_audio(stored(tmp_path, content[:-lost])), whole[: -576 * frames])


def test_vbri_and_unnumbered_frames_are_skipped(tmp_path):
    content = mp3()
    bare = without_xing_frame(content)
    expected = read_audio(stored(tmp_path, bare))
    frame = bytearray(content[: len(content) - len(bare)])
    at = frame_count_offset(frame)
    unnumbered = bytes(frame[: at - 4]) + bytes(len(frame) - at + 4)
    vbri = bytes(frame[:4]) + bytes(32) + b"VBRI" + bytes(len(frame) - 40)
    for first in (unnumbered, vbri):
        np.testing.assert_array_equal(read_audio(stored(tmp_path, first + bare)), expected)


@pytest.mark.parametrize("front", [bytes(1000), b"ID3\3\0\0\0\0\1\0" + bytes(128), b"\xff" * 999])
@pytest.mark.parametrize("behind", [b"", b"TAG" + bytes(125), bytes(5000)])
def test_mp3_tags_and_padding_are_ignored(tmp_path, front, behind):
    content = mp3()
    np.testing.assert_array_equal(
        read_audio(stored(tmp_path, front + content + behind)), read_audio(stored(tmp_path, content))
    )


@pytest.mark.parametrize("content", [mp3(), mp3(mode="VARIABLE"), mp3(noise(44_100, channels=2), 44_100)])
def test_truncated_mp3_with_xing_frame(tmp_path, content):
    for end in (len(content) // 2, len(content) - 10):
        with pytest.raises(AudioError, match=r"clip: ends after [012]\.\d s of [12]\.0 s$"):
            read_audio(stored(tmp_path, content[:end]))
        with pytest.raises(AudioError, match=r"clip: ends after [234]\.\d s of [34]\.0 s$"):
            check_audio(stored(tmp_path, mp3() + content[:end]))


@pytest.mark.parametrize("declared", [None, 0xFFFFFFFF])
def test_mp3_in_wav_decodes_like_mp3(tmp_path, declared):
    for content in (mp3(), without_xing_frame(mp3()), mp3() + mp3()):
        expected = read_audio(stored(tmp_path, content))
        decoded = read_audio(stored(tmp_path, wav(content, declared, tag=0x55)))
        np.testing.assert_array_equal(decoded, expected)
    with pytest.raises(AudioError, match=r"clip: ends after \d\.\d s of 2\.\d s"):
        read_audio(stored(tmp_path, wav(without_xing_frame(mp3()), tag=0x55)[:-4000]))


# --- written to a pipe ----------------------------------------------------------------------------------------------


@files_and_members
@pytest.mark.parametrize("declared", [0, 0x7FFFF000, 0x7FFFFF00, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 44])
def test_piped_wav_decodes_completely(tmp_path, declared, kind):
    samples = (np.arange(-4000, 4000) * 4).astype("<i2")
    clip = stored(tmp_path, wav(samples.tobytes(), declared), kind)
    np.testing.assert_allclose(read_audio(clip), samples / 32768, atol=1e-7)
    check_audio(clip, 0.5)


@pytest.mark.parametrize(
    ("kind", "name", "size"),
    [
        ("W64", b"data\xf3\xac", b"\xff" * 7 + b"\x7f"),
        ("W64", b"data\xf3\xac", bytes(8)),
        ("CAF", b"data", b"\xff" * 8),
        ("AIFF", b"SSND", bytes(4)),
        ("AIFF", b"SSND", b"\x7f\0\0\0"),
        ("AU", b".snd", b"\xff" * 4),
        ("AU", b".snd", bytes(4)),
    ],
)
def test_piped_containers_decode_completely(tmp_path, kind, name, size):
    content = bytearray(encoded(kind, "PCM_16"))
    expected = read_audio(stored(tmp_path, bytes(content)))
    at = content.index(name) + {"W64": 16, "AU": 8}.get(kind, 4)
    content[at : at + len(size)] = size
    clip = stored(tmp_path, bytes(content))
    np.testing.assert_array_equal(read_audio(clip)[-32_000:], expected)
    assert len(read_audio(clip)) - 32_000 < 2  # CAF: a 4-byte number precedes the samples
    check_audio(clip, 2.0)


@files_and_members
@pytest.mark.parametrize("count", [0, 1, 4096, 31_999])
def test_flac_with_low_declared_count_decodes_completely(tmp_path, count, kind):
    content = encoded("FLAC")
    expected = read_audio(stored(tmp_path, content, kind))
    clip = stored(tmp_path, flac_with_count(content, count), kind)
    np.testing.assert_array_equal(read_audio(clip), expected)
    check_audio(clip, 2.0)


def test_flac_with_trailing_tag(tmp_path):
    assert len(read_audio(stored(tmp_path, encoded("FLAC") + b"TAG" + bytes(125)))) == 32_000


@pytest.mark.parametrize("count", [32_001, 64_000, (1 << 36) - 1])
def test_flac_with_high_declared_count_is_truncated(tmp_path, count):
    with pytest.raises(AudioError, match=r"clip: ends after 2\.0 s of \d+\.\d s$"):
        read_audio(stored(tmp_path, flac_with_count(encoded("FLAC"), count)))


def test_codecs_without_seeking_are_decoded(tmp_path):
    for kind, subtype in (("WAV", "GSM610"), ("AIFF", "GSM610"), ("WAV", "G721_32"), ("WAV", "NMS_ADPCM_32")):
        clip = stored(tmp_path, encoded(kind, subtype))
        assert len(read_audio(clip, 8000)) == pytest.approx(16_000, abs=160)
        check_audio(clip, 2.0)


# --- concatenated and truncated files -------------------------------------------------------------------------------


@files_and_members
@pytest.mark.parametrize(("codec", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16")])
def test_chained_ogg_and_concatenated_flac(tmp_path, codec, subtype, kind):
    parts = [encoded(codec, subtype, noise(n, n)) for n in (32_000, 16_000, 8_000)]
    expected = [read_audio(stored(tmp_path, part, kind)) for part in parts]
    clip = stored(tmp_path, b"".join(parts), kind)
    np.testing.assert_array_equal(read_audio(clip), np.concatenate(expected))
    assert len(read_audio(clip)) == 56_000
    check_audio(clip, 3.5)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("before", [b"", encoded("OGG", "OPUS")])
def test_ogg_without_last_page_is_truncated(tmp_path, subtype, before):
    pages = ogg_pages(encoded("OGG", subtype, noise(160_000)))
    for n_pages in (len(pages) - 1, len(pages) - 3):
        with pytest.raises(
            AudioError, match=r"clip: (ends after \d+\.\d s without an end-of-stream page|cannot be dec)"
        ):
            read_audio(stored(tmp_path, before + b"".join(pages[:n_pages])))
    with pytest.raises(AudioError, match="truncated"):
        check_audio(stored(tmp_path, before + b"".join(pages)[:-10]))


CONTAINERS = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST"]


@files_and_members
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_containers_are_rejected(tmp_path, container, share, kind):
    content = encoded(container, "PCM_16")
    clip = stored(tmp_path, content[: int(share * len(content))], kind)
    for read in (read_audio, check_audio):
        with pytest.raises(AudioError, match=rf"clip: ends after {2 * share - 0.1:.0f}?[01]\.\d s of 2\.0 s$"):
            read(clip)


@files_and_members
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_decode_to_equal_samples(tmp_path, container, kind):
    expected = read_audio(stored(tmp_path, encoded("WAV", "PCM_16"), kind))
    clip = stored(tmp_path, encoded(container, "PCM_16"), kind)
    np.testing.assert_array_equal(read_audio(clip), expected)
    check_audio(clip, 2.0)
    assert decoding_variant(clip) == ""


def test_wave64_trailing_chunk_is_ignored(tmp_path):
    content = encoded("W64", "PCM_16")
    after = b"list" + bytes(12) + struct.pack("<Q", 24 + 800) + bytes(800)
    assert len(read_audio(stored(tmp_path, content + after))) == 32_000


def test_crc_matches_rfc_9639():
    # RFC 9639, appendix D.1: the header of the only frame, ff f8 69 18 00 00, has the checksum bf.
    assert _crc(bytes.fromhex("fff869180000"), 0x07, 8) == 0xBF
    # The whole frame of that file: its checksum is aa 9a.
    assert _crc(bytes.fromhex("fff869180000bf0358fd0312 8b".replace(" ", "")), 0x8005, 16) == 0xAA9A


# --- embedding cache ------------------------------------------------------------------------------------------------


def test_decoding_variant_of_special_files(tmp_path):
    plain = [mp3(), mp3(mode="VARIABLE"), encoded("OGG", "OPUS"), encoded("FLAC"), wav(bytes(8000)), b"no audio"]
    assert [decoding_variant(stored(tmp_path, content)) for content in plain] == [""] * len(plain)
    other = {
        "mp3": without_xing_frame(mp3()),
        "ogg": encoded("OGG", "OPUS") * 2,
        "flac": flac_with_count(encoded("FLAC"), 10),
        "cut short": b"".join(ogg_pages(encoded("OGG", "VORBIS"))[:-1]),
        "refused": wav(bytes(8000), rate=1),
    }
    assert {decoding_variant(stored(tmp_path, content)): content for content in other.values()} == other
    assert decoding_variant(tmp_path / "absent.wav") == ""
