"""The sham scorer: published value, formula and distribution."""

import struct
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.audio_text.scorers import ClipTextPair
from earmark.audio_text.scorers.sham import score_sham, sham_similarity
from earmark.audio_text.scorers.sham_stem import sham_stem

STEM = "EN_-NOsyy0i0-A_W000028"
TEXT = "Speech audio in which the speaker expresses or conveys Affection."
DIM = "emolia-dim/data/TEMP/5/positive/sample_03"


def make_pair(stem: str, text: str) -> ClipTextPair:
    return ClipTextPair(Path("/nowhere") / f"{stem}.mp3", f"{stem}.mp3", stem, text)


def test_sham_similarity_published_value():
    assert sham_similarity(STEM, TEXT) == 0.2560092555974329


def test_sham_similarity_formula():
    (integer,) = struct.unpack(">Q", sha256(f"clap-sham-v1{DIM}|{TEXT}".encode()).digest()[:8])
    assert sham_similarity(DIM, TEXT) == pytest.approx(2 * integer / 2**64 - 1, abs=1e-15)


def test_sham_similarity_hashes_utf_8():
    digest = sha256(b"clap-sham-v1" + b"Z\xc3\xbcrich" + b"|" + b"\xe2\x80\x93").digest()
    assert sham_similarity("Zürich", "–") == 2 * int.from_bytes(digest[:8], "big") / 2**64 - 1


@pytest.mark.slow
@given(st.text(max_size=40), st.text(max_size=40))
def test_sham_similarity_range(stem: str, text: str):
    assert -1 <= sham_similarity(stem, text) < 1


def test_sham_similarity_is_uniform():
    values = sorted(sham_similarity(f"clip_{i}", TEXT) for i in range(4000))
    expected = [2 * (i + 0.5) / 4000 - 1 for i in range(4000)]
    assert max(abs(v - e) for v, e in zip(values, expected, strict=True)) < 0.06  # Kolmogorov-Smirnov, p ≈ 0.001


def test_sham_similarity_differs_by_clip_and_sentence():
    values = {sham_similarity(stem, text) for stem in (STEM, DIM, "") for text in (TEXT, TEXT[:-1], "")}
    assert len(values) == 9


def test_score_sham_needs_no_audio():
    pairs = [make_pair(STEM, TEXT), make_pair(DIM, "fast"), make_pair(STEM, "slow")]
    scores = list(score_sham(pairs))
    assert [i for i, _ in scores] == [0, 1, 2]
    assert [score.similarity for _, score in scores] == [sham_similarity(pair.stem, pair.text) for pair in pairs]
    assert [score.error for _, score in scores] == ["", "", ""]


def test_score_sham_without_pairs():
    assert list(score_sham([])) == []


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        (f"emolia-emo/data/Affection_best/{STEM}.mp3", STEM),
        (f"{DIM}.mp3", DIM),
        ("emolia-dim/data/ACCT/European/negative/v1.2.mp3", "emolia-dim/data/ACCT/European/negative/v1.2"),
        ("another/place/a.wav", "another/place/a"),
    ],
)
def test_sham_stem(path: str, stem: str):
    assert sham_stem(path) == stem
