"""Simulated conditions: measurements of codecs, microphones, noise and rooms; the files written; unusable speech."""

import contextlib
import csv
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import evaluate_speaker
from earmark.audio.decode import read_audio
from earmark.errors import DataError, EarmarkError
from earmark.speaker.case.conditions import Condition, conditions
from earmark.speaker.case.simulate import build as module
from earmark.speaker.case.simulate import codecs
from earmark.speaker.case.simulate import noise_and_rooms as rooms
from earmark.speaker.case.simulate.build import degrade, prepare_build
from earmark.speaker.case.simulate.clean_speech import (
    ExcludedFile,
    Source,
    clean_speech,
    describe_excluded,
    sample_trial_pairs,
)
from tests.conftest import wait_for

ROOT = Path(__file__).resolve().parents[4]
DEMO = ROOT / "dataset" / "speaker-demo"
RATE = 16000
VOICES = ("m1/en/00", "f3/de/00", "croak/fr/01", "alicia/es/00", "denis/en/01")

NARROW = ("gsm", "ulaw", "alaw", "opus_6k")
WIDE = ("opus_12k", "opus_24k", "mp3_32k")
KBPS = {"gsm": 13, "ulaw": 64, "alaw": 64, "opus_6k": 6, "opus_12k": 12, "opus_24k": 24, "mp3_32k": 32}
NOISE_CONDITIONS = [condition for condition in conditions().values() if condition.category == "noise"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def voice(name: str) -> np.ndarray:
    return read_audio(DEMO / f"{name}.mp3", RATE)


def modulated_noise(seconds: float = 3.0) -> np.ndarray:
    """White noise with the rhythm of speech: any delay is measurable at all frequencies."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * rng().standard_normal(len(time)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def lag(clean: np.ndarray, degraded: np.ndarray) -> float:
    """Delay of the second signal in samples: the interpolated peak of the cross-correlation."""
    size = 2 * len(clean)
    product = np.fft.rfft(degraded, size) * np.conj(np.fft.rfft(clean, size))
    correlation = np.fft.fftshift(np.fft.irfft(product, size))
    peak = int(correlation.argmax())
    before, at, after = correlation[peak - 1 : peak + 2]
    return float(peak - size // 2 + 0.5 * (before - after) / (before - 2 * at + after))


def change_db(clean: np.ndarray, degraded: np.ndarray, low: float, high: float) -> float:
    """Change in dB of the energy between two frequencies."""
    frequency = np.fft.rfftfreq(len(clean), 1 / RATE)
    band = (frequency >= low) & (frequency < high)
    before, after = (np.square(np.abs(np.fft.rfft(samples)[band])).sum() for samples in (clean, degraded))
    return float(10 * np.log10(after / before))


def payload(encoded: bytes) -> int:
    """Bytes of encoded audio in a file, without the container."""
    if encoded[:4] == b"RIFF":
        return int.from_bytes(encoded[(at := encoded.index(b"data") + 4) : at + 4], "little")
    if encoded[:4] != b"OggS":
        return len(encoded)
    sizes, at = [], 0
    while at < len(encoded):
        segments = encoded[at + 26]
        sizes.append(sum(encoded[at + 27 : at + 27 + segments]))
        at += 27 + segments + sizes[-1]
    return sum(sizes[2:])  # after the two header pages


# --- degrading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", conditions())
@pytest.mark.parametrize("length", [1600, 16001, 33333])
def test_degrade_keeps_length_and_range(name: str, length: int):
    loud = 0.99 * voice("f3/de/00")[:length] / 0.7
    degraded, row = degrade(loud, conditions()[name], rng())
    assert degraded.shape == (length,)
    assert degraded.dtype == np.float32
    assert np.isfinite(degraded).all()
    assert 0.01 < np.abs(degraded).max() <= 1
    assert tuple(row) == module.PROCESSING_COLUMNS


@pytest.mark.parametrize("name", conditions())
def test_degrade_is_deterministic_per_seed(name: str):
    first, repeated, other_seed = (degrade(voice("m1/en/00"), conditions()[name], rng(seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, repeated)
    is_random = conditions()[name].room or conditions()[name].snr is not None
    assert np.array_equal(first, other_seed) != is_random


def test_degrade_clean_returns_input():
    np.testing.assert_array_equal(degrade(voice("m1/en/00"), conditions()["clean_clean"], rng())[0], voice("m1/en/00"))


def test_degrade_playback_records_all_steps():
    _, row = degrade(voice("m1/en/00"), conditions()["clean_playback_gsm_snr20_webcam_budget"], rng())
    assert row["codec"] == "gsm"
    assert row["loudspeaker"] == "small"
    assert row["microphone"] == "webcam_budget"
    assert row["noise"] in rooms.NOISE_TYPES
    assert row["snr_db"] == "20"
    assert 0.25 <= float(row["rt60_s"]) <= 0.6
    assert 0.5 <= float(row["distance_m"]) <= 2.0


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(16000, np.float32), "is silent"),
        (np.full(160, 0.1, np.float32), "is 10 ms long"),
        (np.full((16000, 2), 0.1, np.float32), r"has shape \(16000, 2\)"),
        (np.full(16000, np.nan, np.float32), "not finite"),
    ],
)
def test_degrade_rejects_unusable_audio(samples: np.ndarray, reason: str):
    with pytest.raises(ValueError, match=reason):
        degrade(samples, conditions()["clean_noise_snr_5"], rng())


# --- codecs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", codecs.codecs())
def test_codec_bit_rate(name: str):
    speech = np.concatenate([voice(clip) for clip in VOICES])
    kbps = 8 * payload(codecs.encode(speech, codecs.codecs()[name])) / (len(speech) / RATE) / 1000
    assert kbps == pytest.approx(
        KBPS[name], rel=0.15 if name.startswith("opus") else 0.02
    )  # Opus runs at variable rate


@pytest.mark.parametrize("name", codecs.codecs())
def test_codec_bandwidth(name: str):
    clean = modulated_noise()
    degraded = codecs.apply_codec(clean, codecs.codecs()[name])
    assert change_db(clean, degraded, 300, 3400) == pytest.approx(0, abs=2.5)
    if name in NARROW:
        assert change_db(clean, degraded, 4500, 8000) < -45
    else:
        assert change_db(clean, degraded, 4500, 7000) > -5


@pytest.mark.parametrize("name", codecs.codecs())
def test_codec_adds_no_delay(name: str):
    lags = [lag(voice(clip), codecs.apply_codec(voice(clip), codecs.codecs()[name])) for clip in VOICES]
    # Opus at 6 kbps resamples to 8 kHz internally and is half a sample early, which cannot be compensated.
    assert np.abs(lags).max() < (1 if name == "opus_6k" else 0.2)
    assert round(abs(np.median(lags)) - 0.01) == 0


def test_mp3_delay_of_1105_samples_is_removed_and_end_is_kept():
    mp3 = codecs.codecs()["mp3_32k"]
    raw, _ = soundfile.read(io.BytesIO(codecs.encode(voice("m1/en/00"), mp3)), dtype="float32")
    clean = voice("m1/en/00")
    assert round(lag(clean, raw[: len(clean)])) == 1105
    tail = modulated_noise(0.5)
    assert change_db(tail[-800:], codecs.apply_codec(tail, mp3)[-800:], 300, 6000) == pytest.approx(0, abs=1)


# --- microphones and loudspeakers -----------------------------------------------------------------------------------

CURVES = [(kind, name) for kind in ("microphones", "loudspeakers") for name in codecs.response_curves(kind)]


@pytest.mark.parametrize(("kind", "name"), CURVES)
def test_response_matches_table(kind: str, name: str):
    curve = codecs.response_curves(kind)[name]
    clean = 0.1 * rng().standard_normal(20 * RATE).astype(np.float32)
    degraded = codecs.apply_response(clean, curve)
    for centre in (250, 400, 700, 1000, 1500, 2000, 2800, 4000, 5500, 7500):
        grid = np.linspace(0.95 * centre, 1.05 * centre, 50)
        expected = 10 * np.log10(np.mean(10 ** (codecs.gain_db(curve, grid) / 10)))
        if expected > -30:
            assert change_db(clean, degraded, grid[0], grid[-1]) == pytest.approx(expected, abs=0.8), centre


@pytest.mark.parametrize(("kind", "name"), CURVES)
def test_response_is_described_and_adds_no_delay(kind: str, name: str):
    curve = codecs.response_curves(kind)[name]
    assert len(codecs.simulation_parameters()[kind][name]["imitates"]) > 20
    assert codecs.gain_db(curve, np.array([1000.0]))[0] == 0
    assert [hertz for hertz, _ in curve] == sorted(hertz for hertz, _ in curve)
    for clip in VOICES:
        assert abs(lag(voice(clip), codecs.apply_response(voice(clip), curve))) < 0.01


def test_microphone_responses_differ():
    filters = [codecs.fir_filter(curve) for curve in codecs.response_curves("microphones").values()]
    assert len(filters) == 7
    for first, second in itertools.combinations(filters, 2):
        assert np.abs(20 * np.log10(np.abs(np.fft.rfft(first)) / np.abs(np.fft.rfft(second))))[16:240].max() > 2


# --- noise ----------------------------------------------------------------------------------------------------------


def half_speech() -> tuple[np.ndarray, np.ndarray]:
    """One second of silence and one second of tone, and a mask of the tone."""
    tone = np.arange(2 * RATE) >= RATE
    return (0.3 * tone * np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE)).astype(np.float32), tone


def test_active_frames_excludes_silence():
    speech, tone = half_speech()
    np.testing.assert_array_equal(rooms.active_frames(speech), tone)
    assert not rooms.active_frames(np.zeros(1000, np.float32)).any()


@pytest.mark.parametrize("condition", NOISE_CONDITIONS, ids=lambda condition: condition.name)
@pytest.mark.parametrize("seed", range(6))
def test_noise_snr_is_measured_over_active_speech(condition: Condition, seed: int):
    speech, tone = half_speech()
    degraded, row = degrade(speech, condition, rng(seed))
    noise = degraded / 10 ** (float(row["gain_db"]) / 20) - speech
    snr = 10 * np.log10(np.mean(speech[tone] ** 2) / np.mean(noise[tone] ** 2))
    assert snr == pytest.approx(condition.snr, abs=0.05)
    assert noise[~tone].std() > 0


@pytest.mark.parametrize(("colour", "slope"), [("white", 0), ("pink", -3), ("brown", -6)])
def test_noise_colour_slope_per_octave(colour: str, slope: float):
    noise = rooms.NOISE_TYPES[colour](20 * RATE, rng())
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
    density = [power[(frequency >= 0.9 * hz) & (frequency < 1.1 * hz)].mean() for hz in (250, 4000)]
    assert 10 * np.log10(density[1] / density[0]) / 4 == pytest.approx(slope, abs=0.2)


def test_babble_noise_has_speech_spectrum_and_modulation():
    noise = rooms.babble_noise(20 * RATE, rng()).astype(np.float32)
    assert change_db(noise, noise, 100, 8000) == 0
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    assert spectrum[: 4000 * 20].sum() > 0.9 * spectrum.sum()
    envelope = np.sqrt(np.square(noise).reshape(-1, 320).mean(axis=1))
    assert envelope.std() / envelope.mean() > 0.15  # white noise: 0.04


def test_recorded_noise_is_resampled_and_repeated(tmp_path: Path):
    hum = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100)
    (tmp_path / "hums").mkdir()
    soundfile.write(tmp_path / "hums" / "mains.flac", np.stack([hum, hum], axis=1), 44100)
    noises = rooms.find_recordings(tmp_path)
    speech, tone = half_speech()
    degraded, row = degrade(speech, conditions()["clean_noise_snr_10"], rng(), noises=noises)
    assert row["noise"] == "hums/mains.flac"
    noise = (degraded - speech)[tone]
    assert 10 * np.log10(np.mean(speech[tone] ** 2) / np.mean(noise**2)) == pytest.approx(10, abs=0.05)
    assert np.abs(np.fft.rfft(noise)).argmax() == 1000


def test_find_recordings_reports_all_unusable_files(tmp_path: Path):
    with pytest.raises(EarmarkError, match="contains no audio"):
        rooms.find_recordings(tmp_path)
    soundfile.write(tmp_path / "silent.wav", np.zeros(1000), RATE)
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(EarmarkError, match=r"2 unusable files\n  silent\.wav: is silent.*\n  text\.wav: is not audio"):
        rooms.find_recordings(tmp_path)


# --- rooms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_room_keeps_direct_path_and_level(seed: int):
    click = np.zeros(RATE, np.float32)
    click[4000] = 0.5
    reverberant, _ = rooms.apply_room(click, rng(seed))
    assert np.abs(reverberant).argmax() == 4000
    assert not np.abs(reverberant[:3990]).max() > 1e-6
    assert np.square(reverberant).sum() == pytest.approx(np.square(click).sum(), rel=1e-3)
    assert abs(lag(modulated_noise(), rooms.apply_room(modulated_noise(), rng(seed))[0])) < 0.5


@pytest.mark.parametrize("seconds", [0.3, 0.6])
def test_shoebox_reverberation_time(seconds: float):
    """T20 by Schroeder integration; a shoebox decays more slowly than the diffuse field of Eyring's formula."""
    response = rooms.shoebox_response(
        np.array([5.1, 4.3, 2.7]), np.array([2.0, 1.7, 1.5]), np.array([3.1, 2.2, 1.4]), seconds
    )
    decay = np.cumsum(np.square(response[::-1], dtype=float))[::-1]
    level = 10 * np.log10(decay / decay[0])
    measured = 3 * (np.argmax(level < -25) - np.argmax(level < -5)) / RATE
    assert 0.9 * seconds < measured < 1.45 * seconds


def test_shoebox_first_reflections_match_geometry():
    """Talker and listener are 2 m apart and 1 m above the floor, so the floor reflection travels √8 m."""
    response = rooms.shoebox_response(
        np.array([8.0, 6.0, 3.5]), np.array([3.0, 3.0, 1.0]), np.array([5.0, 3.0, 1.0]), 0.5
    )
    direct, floor = round(2 / 343 * RATE), round(np.sqrt(8) / 343 * RATE)
    assert np.abs(response).argmax() == direct
    assert not response[:direct].any()
    assert direct + 1 + np.abs(response[direct + 1 : floor + 20]).argmax() == floor


def test_recorded_room_is_aligned_to_direct_path(tmp_path: Path):
    response = np.zeros(500)
    response[[100, 180]] = -0.8, -0.4
    soundfile.write(tmp_path / "hall.wav", response, RATE, subtype="FLOAT")
    clean = modulated_noise()
    reverberant, row = degrade(clean, conditions()["clean_reverb"], rng(), rooms=rooms.find_recordings(tmp_path))
    expected = clean + 0.5 * np.pad(clean, (80, 0))[: len(clean)]
    expected *= np.sqrt(np.mean(clean**2) / np.mean(expected**2))
    assert row["room"] == "hall.wav"
    np.testing.assert_allclose(reverberant, expected, atol=1e-5)


# --- trials ---------------------------------------------------------------------------------------------------------


def sources(*speakers: tuple[str, str, int]) -> list[Source]:
    """Files of (speaker, gender, how many)."""
    return [
        Source(Path(f"{speaker}/{n}.wav"), f"{speaker}/{n}.wav", f"{speaker}/{n}.wav", speaker, gender, 0)
        for speaker, gender, count in speakers
        for n in range(count)
    ]


def test_sample_trial_pairs_two_speakers_with_two_files():
    targets, non_targets = sample_trial_pairs(sources(("a", "", 2), ("b", "", 2)), rng())
    assert {frozenset(pair) for pair in targets.tolist()} == {frozenset((0, 1)), frozenset((2, 3))}
    assert {frozenset(pair) for pair in non_targets.tolist()} == {
        frozenset(pair) for pair in [(0, 2), (0, 3), (1, 2), (1, 3)]
    }


speaker_lists = st.lists(st.tuples(st.sampled_from(["", "f", "m"]), st.integers(1, 5)), min_size=1, max_size=8)


@given(speaker_lists, st.integers(0, 30), st.integers(0, 30), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_sample_trial_pairs_properties(drawn: list[tuple[str, int]], n: int, m: int, seed: int):
    files = sources(*((f"s{place}", gender, count) for place, (gender, count) in enumerate(drawn)))
    possible = list(itertools.combinations(range(len(files)), 2))
    same = [pair for pair in possible if files[pair[0]].speaker == files[pair[1]].speaker]
    allowed = [
        (first, second)
        for first, second in possible
        if files[first].speaker != files[second].speaker
        and (files[first].gender == files[second].gender or not files[first].gender or not files[second].gender)
    ]
    if (n and not same) or (m and not allowed):
        with pytest.raises(EarmarkError, match=r"No (target|non-target) trials"):
            sample_trial_pairs(files, rng(seed), (n, m))
        return
    targets, non_targets = sample_trial_pairs(files, rng(seed), (n, m))
    for pairs, pool, requested in ((targets, same, n), (non_targets, allowed, m)):
        sampled = [tuple(sorted(pair)) for pair in pairs.tolist()]
        assert len(sampled) == len(set(sampled)) == min(requested, len(pool))
        assert set(sampled) <= set(pool)


# --- the benchmark on disk ------------------------------------------------------------------------------------------

FEW = ("clean_codec_gsm", "clean_codec_opus_6k", "clean_noise_snr_10", "clean_reverb", "clean_mic_phone")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Three speakers with two files each, as spk/lang/file, in 16-bit WAV."""
    for speaker, number in itertools.product(("m1", "m2", "f1"), (0, 1)):
        target = tmp_path / "clean" / speaker / "en" / f"{number}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, voice(f"{speaker}/en/0{number}"), RATE, subtype="PCM_16")
    return tmp_path / "clean"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def manifest(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "manifest.csv").read_text(encoding="utf-8").splitlines()))


@pytest.mark.slow
def test_build_files_match_manifest(tmp_path: Path, speech: Path):
    build = prepare_build(speech, tmp_path / "out", seed=0)
    files = list(build)
    assert len(build) == len(files) == 6 * 24
    assert all(file.is_new for file in files)
    rows = manifest(tmp_path / "out")
    assert Counter(row["protocol"] for row in rows) == dict.fromkeys(conditions(), 6)
    assert {row["path"] for row in rows} == {name for name in contents(tmp_path / "out") if name.endswith(".wav")}
    for row in rows:
        assert row["path"] == f"audio/{row['protocol']}/{row['source']}"
        info = soundfile.info(tmp_path / "out" / row["path"])
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
        assert info.frames == soundfile.info(speech / row["source"]).frames
    for row in rows:  # measure the signal-to-noise ratio in the files
        if row["category"] == "noise":
            clean, _ = soundfile.read(tmp_path / "out" / f"audio/clean_clean/{row['source']}")
            noisy, _ = soundfile.read(tmp_path / "out" / row["path"])
            noise = noisy / 10 ** (float(row["gain_db"]) / 20) - clean
            frames = np.square(clean[: len(clean) // 320 * 320]).reshape(-1, 320).mean(axis=1)
            loud = np.repeat(frames > 0.001 * np.quantile(frames, 0.95), 320)
            power = [np.square(each[: len(loud)][loud]).mean() for each in (clean, noise)]
            assert 10 * np.log10(power[0] / power[1]) == pytest.approx(float(row["snr_db"]), abs=0.5)


def test_build_copies_clean_16_bit_speech_exactly(tmp_path: Path, speech: Path):
    list(prepare_build(speech, tmp_path / "out", seed=0, selected=FEW))
    for path in speech.rglob("*.wav"):
        copied, _ = soundfile.read(tmp_path / "out/audio/clean_clean" / path.relative_to(speech), dtype="int16")
        np.testing.assert_array_equal(copied, soundfile.read(path, dtype="int16")[0])


def test_build_trials_enrol_clean_and_test_degraded(tmp_path: Path, speech: Path):
    list(prepare_build(speech, tmp_path / "out", seed=0, selected=FEW, trials_per_condition=(2, 5)))
    assert len(list((tmp_path / "out" / "trials").iterdir())) == len(FEW) + 1
    for name in ("clean_clean", *FEW):
        lines = [line.split(" ") for line in (tmp_path / "out" / f"trials/{name}.txt").read_text().splitlines()]
        assert Counter(label for label, _, _ in lines) == {"1": 2, "0": 5}
        for label, enrol, test in lines:
            assert enrol.startswith("audio/clean_clean/")
            assert test.startswith(f"audio/{name}/")
            assert (enrol.split("/")[2] == test.split("/")[2]) == (label == "1")
            assert enrol.split("/", 2)[2] != test.split("/", 2)[2]
            assert (tmp_path / "out" / enrol).is_file()
            assert (tmp_path / "out" / test).is_file()


@pytest.mark.slow
def test_build_output_is_independent_of_workers(tmp_path: Path, speech: Path):
    list(prepare_build(speech, tmp_path / "one", seed=7, selected=FEW))
    list(prepare_build(speech, tmp_path / "two", seed=7, selected=FEW, workers=2))
    list(prepare_build(speech, tmp_path / "other", seed=8, selected=FEW))
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    reverb = "audio/clean_reverb/m1/en/0.wav"
    assert not np.array_equal(*(soundfile.read(tmp_path / name / reverb)[0] for name in ("one", "other")))
    assert one["trials/clean_clean.txt"] != other["trials/clean_clean.txt"]


def test_build_reuses_finished_and_replaces_broken_or_stale_files(tmp_path: Path, speech: Path):
    build = prepare_build(speech, tmp_path / "out", seed=0, selected=FEW)
    for _ in zip(range(8), build, strict=False):
        pass  # interrupted after the second speaker's first file
    assert not (tmp_path / "out" / "manifest.csv").exists()
    n_written = len(list((tmp_path / "out").rglob("*.wav")))
    files = list(build)
    assert sum(not file.is_new for file in files) == n_written > 8
    whole = contents(tmp_path / "out")
    gone, cut = (tmp_path / f"out/audio/clean_reverb/m1/en/{number}.wav" for number in (0, 1))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:100])
    rewritten = [file.row["path"] for file in build if file.is_new]
    assert rewritten == ["audio/clean_reverb/m1/en/0.wav", "audio/clean_reverb/m1/en/1.wav"]
    assert contents(tmp_path / "out") == whole
    shutil.copy(speech / "m2/en/0.wav", speech / "m1/en/0.wav")
    assert {file.row["source"] for file in build if file.is_new} == {"m1/en/0.wav"}


def test_build_stores_manifest_row_in_wav_comment(tmp_path: Path, speech: Path):
    list(prepare_build(speech, tmp_path / "out", seed=0, selected=FEW))
    row = manifest(tmp_path / "out")[-1]
    with soundfile.SoundFile(tmp_path / "out" / row["path"]) as file:
        assert json.loads(file.comment)["row"] == row


def test_clean_speech_reads_csv(tmp_path: Path, speech: Path):
    table = tmp_path / "list.csv"
    lines = [
        f"clean/{speaker}/en/{n}.wav,Speaker {speaker},{'f' if speaker == 'f1' else 'Male'}"
        for speaker in ("m1", "f1")
        for n in (0, 1)
    ]
    table.write_text("\n".join(["path,speaker,gender", *lines]), encoding="utf-8")
    listed = clean_speech(table)
    assert [source.name for source in listed][:1] == ["Speaker_f1/clean/f1/en/0.wav"]
    assert {(source.speaker, source.gender) for source in listed} == {("Speaker_f1", "f"), ("Speaker_m1", "m")}
    with pytest.raises(EarmarkError, match="two speakers, of the same gender"):
        prepare_build(table, tmp_path / "out", seed=0)


def test_build_accepts_stereo_at_48_khz(tmp_path: Path, speech: Path):
    wide = np.repeat(voice("m1/en/00"), 3)
    soundfile.write(speech / "m1/en/0.wav", np.stack([wide, wide], axis=1), 48000)
    list(prepare_build(speech, tmp_path / "out", seed=0, selected=("clean_clean",)))
    row = next(row for row in manifest(tmp_path / "out") if row["source"] == "m1/en/0.wav")
    assert row["source_rate"] == "48000"
    assert float(row["seconds"]) == pytest.approx(len(wide) / 48000, abs=1e-3)


# --- invalid input --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("listed", [False, True], ids=["folder", "csv"])
@pytest.mark.parametrize("workers", [1, 2])
def test_build_reports_all_unusable_speech(tmp_path: Path, speech: Path, listed: bool, workers: int):
    soundfile.write(speech / "m1/en/0.wav", voice("m1/en/00")[:160], RATE)
    soundfile.write(speech / "m1/en/1.wav", np.zeros(RATE), RATE)
    soundfile.write(speech / "m2/en/0.wav", voice("m1/en/00"), 8000)
    whole = (speech / "m2/en/1.wav").read_bytes()
    (speech / "m2/en/1.wav").write_bytes(whole[: len(whole) // 2])
    (speech / "f1/en/0.wav").write_text("no audio")
    clean = speech
    if listed:
        clean = speech / "list.csv"
        names = ["m1/en/0", "m1/en/1", "m2/en/0", "m2/en/1", "f1/en/0", "f1/en/1"]
        clean.write_text("path,speaker\n" + "".join(f"{name}.wav,{name[:2]}\n" for name in names), encoding="utf-8")
    with pytest.raises(EarmarkError) as caught:
        list(prepare_build(clean, tmp_path / "out", seed=0, selected=FEW, workers=workers))
    message = str(caught.value)
    assert re.search(r"m1/en/0\.wav: is 10 ms long", message)
    assert re.search(r"m1/en/1\.wav: is silent", message)
    assert re.search(r"m2/en/0\.wav: is sampled at 8000 Hz \(minimum 16000 Hz\)", message)
    assert re.search(r"m2/en/1\.wav: ends after \d\.\d s of \d\.\d s", message)
    assert re.search(r"f1/en/0\.wav: is not audio", message)
    assert ("line 2, column path" in message) == listed
    assert not (tmp_path / "out" / "manifest.csv").exists()
    assert not (tmp_path / "out" / "trials").exists()
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix == ".tmp"]


def test_clean_speech_reports_all_faults_of_csv(tmp_path: Path, speech: Path):
    table = speech / "list.csv"
    table.write_text("path,speaker,gender\n,m1,m\nm1/en/0.wav,,m\nm1/en/1.wav,m1,x\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)3 faults.*line 2, column path.*line 3, column speaker.*line 4, column g"):
        clean_speech(table)
    table.write_text(
        "path,speaker,gender\nm1/en/0.wav,m1,m\nm1/en/0.wav,m1,m\nm1/en/9.wav,m1,f\nm1/en,m1,m\n", encoding="utf-8"
    )
    with pytest.raises(DataError) as caught:
        clean_speech(table)
    assert "line 3, column path: m1/en/0.wav: same output file as m1/en/0.wav" in str(caught.value)
    assert "line 4, column path: m1/en/9.wav: does not exist" in str(caught.value)
    assert "line 4, column path: m1/en/9.wav: another row of m1 has a different gender" in str(caught.value)
    assert "line 5, column path: m1/en: is a folder" in str(caught.value)
    table.write_text("file,who\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)column path: is missing.*column speaker: is missing"):
        clean_speech(table)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EarmarkError, match="is not UTF-8; save the file as CSV UTF-8"):
        clean_speech(table)


def test_clean_speech_rejects_invalid_folder(tmp_path: Path, speech: Path):
    with pytest.raises(EarmarkError, match="nowhere does not exist"):
        clean_speech(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EarmarkError, match="no audio"):
        clean_speech(tmp_path / "empty")
    shutil.copy(speech / "m1/en/0.wav", speech / "loose.wav")
    with pytest.raises(EarmarkError, match=r"loose\.wav not in a speaker's folder"):
        clean_speech(speech)
    (speech / "loose.wav").unlink()
    shutil.copy(speech / "m1/en/0.wav", speech / "m1/en/0.flac")
    with pytest.raises(EarmarkError, match=r"m1/en/0\.wav: same output file as m1/en/0\.flac"):
        clean_speech(speech)


def test_prepare_build_rejects_invalid_arguments(tmp_path: Path, speech: Path):
    with pytest.raises(EarmarkError, match="clean_codec_amr: unknown condition"):
        prepare_build(speech, tmp_path / "out", seed=0, selected=("clean_codec_amr",))
    with pytest.raises(EarmarkError, match="is inside the folder of clean speech"):
        prepare_build(speech, speech / "out", seed=0)
    with pytest.raises(EarmarkError, match="contains no audio"):
        prepare_build(speech, tmp_path / "out", seed=0, noises=tmp_path / "none")
    shutil.rmtree(speech / "m2")
    shutil.rmtree(speech / "f1")
    with pytest.raises(EarmarkError, match="No non-target trials: they need two speakers"):
        prepare_build(speech, tmp_path / "out", seed=0)
    (speech / "m1/en/1.wav").unlink()
    with pytest.raises(EarmarkError, match="No target trials: no speaker has two files"):
        prepare_build(speech, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


# --- demo speech ------------------------------------------------------------------------------------------------


def test_demo_speech_has_24_voices_in_four_languages():
    rows = list(csv.DictReader((DEMO / "speakers.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["path"] for row in rows} == {path.relative_to(DEMO).as_posix() for path in DEMO.rglob("*.mp3")}
    cells = Counter((row["speaker"], row["language"]) for row in rows)
    assert cells == dict.fromkeys(itertools.product({row["speaker"] for row in rows}, ("en", "de", "fr", "es")), 2)
    assert Counter(row["gender"] for row in rows) == {"m": 96, "f": 96}
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 2.5e6
    for row in rows:
        assert row["path"].split("/")[:2] == [row["speaker"], row["language"]]
        assert 1.99 < soundfile.info(DEMO / row["path"]).duration < 3.2  # MP3 pads both ends


def test_demo_clips_are_distinct():
    """espeak-ng silently ignores an unknown voice variant, which would give two identical voices."""
    assert len({path.read_bytes() for path in DEMO.rglob("*.mp3")}) == 192


def test_demo_cross_lingual_list_has_all_four_groups():
    lines = [line.split() for line in (DEMO / "trials_crosslingual.txt").read_text(encoding="utf-8").splitlines()]
    cells = Counter()
    for label, enrol, test in lines:
        (speaker, language, _), (other, foreign, _) = enrol.split("/"), test.split("/")
        assert (speaker == other) == (label == "1")
        assert enrol != test
        assert (DEMO / enrol).is_file()
        cells[label, language == foreign] += 1
    assert cells == {("1", True): 96, ("1", False): 576, ("0", True): 1000, ("0", False): 1000}
    assert len({frozenset(line[1:]) for line in lines}) == len(lines)


# --- excluded files ----------------------------------------------------------------------------------------------


def excluded_files(folder: Path) -> list[tuple[str, ...]]:
    rows = csv.DictReader((folder / "left_out.csv").read_text(encoding="utf-8").splitlines())
    return [tuple(row.values()) for row in rows]


def make_unusable(speech: Path) -> None:
    """Make one file of m1, one of m2 and both files of f1 unusable."""
    (speech / "m1/en/1.wav").rename(speech / "m1/en/1.xyz")
    (speech / "f1/en/0.wav").rename(speech / "f1/en/0")
    soundfile.write(speech / "f1/en/1.wav", voice("m1/en/00")[:160], RATE)
    shutil.copy(speech / "m2/en/0.wav", speech / "m2/en/2.wav")
    (speech / "m2/en/1.wav").write_text("no audio")
    (speech / "readme.txt").write_text("about")
    (speech / "m2/.hidden").write_text("nobody's")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_allow_missing_excludes_unusable_speech_from_trials(tmp_path: Path, speech: Path, workers: int):
    make_unusable(speech)
    build = prepare_build(speech, tmp_path / "out", seed=0, selected=FEW, workers=workers, allow_missing=True)
    list(build)
    assert [each[:2] + each[3:] for each in excluded_files(tmp_path / "out")] == [
        ("f1/en/0", "f1", "0"), ("m1/en/1.xyz", "m1", "1"), ("readme.txt", "", "0"),
        ("f1/en/1.wav", "f1", "0"), ("m2/en/1.wav", "m2", "2"),
    ]  # fmt: skip
    reasons = [each[2] for each in excluded_files(tmp_path / "out")]
    assert reasons[:4] == [
        "has no suffix",
        "suffix .xyz is not supported",
        "suffix .txt is not supported",
        "is 10 ms long (minimum 100 ms)",
    ]
    assert reasons[4].startswith("is not audio")
    described = describe_excluded(build.excluded, build.used)
    assert "5 files excluded:" in described
    assert "1 × suffix .xyz is not supported: m1/en/1.xyz" in described
    assert described.splitlines()[-1] == "1 speaker excluded: f1"
    used = {"m1/en/0.wav", "m2/en/0.wav", "m2/en/2.wav"}
    assert {row["source"] for row in manifest(tmp_path / "out")} == used
    lines = (tmp_path / "out/trials/clean_clean.txt").read_text().splitlines()
    assert {name.split("/", 2)[2] for line in lines for name in line.split()[1:]} == used
    again = prepare_build(speech, tmp_path / "alone", seed=0, selected=FEW)
    with pytest.raises(EarmarkError, match=r"(?s)2 unusable files.*exclude them with --allow-missing"):
        list(again)
    assert not (tmp_path / "alone/left_out.csv").exists()


def test_left_out_csv_is_removed_if_nothing_is_excluded(tmp_path: Path, speech: Path):
    (speech / "m1/notes.txt").write_text("x")
    list(prepare_build(speech, tmp_path / "out", seed=0, selected=FEW[:1]))
    assert excluded_files(tmp_path / "out") == [("m1/notes.txt", "m1", "suffix .txt is not supported", "2")]
    (speech / "m1/notes.txt").unlink()
    list(prepare_build(speech, tmp_path / "out", seed=0, selected=FEW[:1]))
    assert not (tmp_path / "out/left_out.csv").exists()


@pytest.mark.slow
def test_error_without_trials_describes_excluded_files(tmp_path: Path, speech: Path):
    for path in speech.rglob("1.wav"):
        path.rename(path.with_suffix(".xyz"))
    with pytest.raises(
        EarmarkError, match=r"(?s)no speaker has two files.*3 × suffix \.xyz is not supported: f1/en/1\.xyz"
    ):
        prepare_build(speech, tmp_path / "out", seed=0)
    for path in speech.rglob("1.xyz"):
        path.rename(path.with_suffix(".wav")).write_text("no audio")
    with pytest.raises(EarmarkError, match=r"(?s)no speaker has two files.*3 × is not audio.*: f1/en/1\.wav"):
        list(prepare_build(speech, tmp_path / "out", seed=0, allow_missing=True))


def test_noise_files_without_audio_suffix_are_reported(tmp_path: Path, speech: Path):
    (tmp_path / "noises").mkdir()
    soundfile.write(tmp_path / "noises/hum.wav", modulated_noise(), RATE)
    (tmp_path / "noises/hiss.xyz").write_text("x")
    build = prepare_build(speech, tmp_path / "out", seed=0, selected=FEW[:1], noises=tmp_path / "noises")
    assert [(file.path, file.speaker) for file in build.not_audio] == [("noises/hiss.xyz", "")]


def test_describe_excluded_limits_reasons(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("earmark.speaker.case.simulate.clean_speech.MAX_REASONS", 2)
    described = describe_excluded([ExcludedFile(f"a/{n}", "a", f"is {n % 4} ms long") for n in range(40)], [])
    assert described.splitlines() == [
        "40 files excluded:",
        "  10 × is 0 ms long: a/0, a/4, a/8, a/12, a/16, …",
        "  10 × is 1 ms long: a/1, a/5, a/9, a/13, a/17, …",
        "  20 × other reasons",
        "1 speaker excluded: a",
    ]


def test_simulate_command_warns_about_excluded_files(tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]):
    make_unusable(speech)
    argv = ["simulate", str(speech), "--output-dir", str(tmp_path / "out"), "--conditions", "clean_clean"]
    assert evaluate_speaker.main(argv) == 1
    assert evaluate_speaker.main([*argv, "--allow-missing"]) == 0
    printed = capsys.readouterr()
    assert "clean: 3 files excluded:" in printed.err
    assert "Audio files have one of the suffixes .mp3, .wav" in printed.err
    assert "1 × is 10 ms long (minimum 100 ms): f1/en/1.wav" in printed.err
    assert "Excluded files: 5, speakers: 1 (see left_out.csv)." in printed.out


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="children are found in /proc")
def test_workers_exit_with_killed_parent(tmp_path: Path):
    command = ["evaluate_speaker.py", "--quiet", "simulate", str(DEMO / "speakers.csv"), "--workers", "2"]
    parent = subprocess.Popen([sys.executable, *command, "--output-dir", str(tmp_path / "out")], cwd=ROOT)

    def children() -> list[Path]:
        processes = []
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                if f"PPid:\t{parent.pid}\n" in status.read_text():
                    processes.append(status.parent)
        return processes

    try:
        wait_for(lambda: any((tmp_path / "out").rglob("*.wav")), 60)
        workers = children()
        assert len(workers) >= 2
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not any(is_running(worker) for worker in workers), 20)


def is_running(process: Path) -> bool:
    """Whether a process is running; a terminated one may remain in the table for a while."""
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except OSError:
        return False
