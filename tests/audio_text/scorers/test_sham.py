"""The sham scorer against its published value, its formula, and what people count on it not to do."""

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


def question(stem: str, text: str) -> ClipTextPair:
    return ClipTextPair(Path("/nowhere") / f"{stem}.mp3", f"{stem}.mp3", stem, text)


def test_the_value_that_emolia_bench_gives_is_reproduced_to_the_last_digit():
    assert sham_similarity(STEM, TEXT) == 0.2560092555974329


def test_the_formula_reads_the_first_eight_bytes_as_a_big_endian_integer():
    (integer,) = struct.unpack(">Q", sha256(f"clap-sham-v1{DIM}|{TEXT}".encode()).digest()[:8])
    assert sham_similarity(DIM, TEXT) == pytest.approx(2 * integer / 2**64 - 1, abs=1e-15)


def test_a_name_beyond_ascii_is_hashed_as_utf_8():
    digest = sha256(b"clap-sham-v1" + b"Z\xc3\xbcrich" + b"|" + b"\xe2\x80\x93").digest()
    assert sham_similarity("Zürich", "–") == 2 * int.from_bytes(digest[:8], "big") / 2**64 - 1


@pytest.mark.slow
@given(st.text(max_size=40), st.text(max_size=40))
def test_every_similarity_lies_from_minus_one_to_below_one(stem: str, text: str):
    assert -1 <= sham_similarity(stem, text) < 1


def test_similarities_are_spread_evenly_over_their_range():
    values = sorted(sham_similarity(f"clip_{i}", TEXT) for i in range(4000))
    expected = [2 * (i + 0.5) / 4000 - 1 for i in range(4000)]
    assert max(abs(v - e) for v, e in zip(values, expected, strict=True)) < 0.06  # Kolmogorov-Smirnov, p ≈ 0.001


def test_another_clip_or_another_sentence_is_another_number():
    values = {sham_similarity(stem, text) for stem in (STEM, DIM, "") for text in (TEXT, TEXT[:-1], "")}
    assert len(values) == 9


def test_answers_come_in_order_without_any_audio():
    asked = [question(STEM, TEXT), question(DIM, "fast"), question(STEM, "slow")]
    answers = list(score_sham(asked))
    assert [i for i, _ in answers] == [0, 1, 2]
    assert [a.similarity for _, a in answers] == [sham_similarity(q.stem, q.text) for q in asked]
    assert [a.error for _, a in answers] == ["", "", ""]


def test_no_question_has_no_answer():
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
def test_a_clip_is_called_by_its_stem_where_stems_are_unique_and_by_its_path_elsewhere(path: str, stem: str):
    assert sham_stem(path) == stem
