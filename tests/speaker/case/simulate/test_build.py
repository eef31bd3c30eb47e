"""Carriers: every codec, microphone, noise and room measured; the benchmark on disk; speech that is no use."""

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
from earmark.speaker.case.simulate.build import build, degrade
from earmark.speaker.case.simulate.clean_speech import LeftOut, Source, clean_speech, told_of_left_out, trial_pairs
from tests.conftest import wait_for

ROOT = Path(__file__).resolve().parents[4]
DEMO = ROOT / "dataset" / "speaker-demo"
RATE = 16000
VOICES = ("m1/en/00", "f3/de/00", "croak/fr/01", "alicia/es/00", "denis/en/01")

NARROW = ("gsm", "ulaw", "alaw", "opus_6k")
WIDE = ("opus_12k", "opus_24k", "mp3_32k")
KBPS = {"gsm": 13, "ulaw": 64, "alaw": 64, "opus_6k": 6, "opus_12k": 12, "opus_24k": 24, "mp3_32k": 32}
NOISY = [protocol for protocol in conditions().values() if protocol.category == "noise"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def voice(name: str) -> np.ndarray:
    return read_audio(DEMO / f"{name}.mp3", RATE)


def rough_noise(seconds: float = 3.0) -> np.ndarray:
    """White noise with syllables: speech's rhythm and every frequency, so that no delay can hide."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * rng().standard_normal(len(time)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def lag(clean: np.ndarray, degraded: np.ndarray) -> float:
    """How many samples the second comes after the first: the peak of their cross-correlation, between samples too."""
    size = 2 * len(clean)
    product = np.fft.rfft(degraded, size) * np.conj(np.fft.rfft(clean, size))
    correlation = np.fft.fftshift(np.fft.irfft(product, size))
    peak = int(correlation.argmax())
    before, at, after = correlation[peak - 1 : peak + 2]
    return float(peak - size // 2 + 0.5 * (before - after) / (before - 2 * at + after))


def change_db(clean: np.ndarray, degraded: np.ndarray, low: float, high: float) -> float:
    """By how many dB the energy between two frequencies changed."""
    frequency = np.fft.rfftfreq(len(clean), 1 / RATE)
    band = (frequency >= low) & (frequency < high)
    one, other = (np.square(np.abs(np.fft.rfft(samples)[band])).sum() for samples in (clean, degraded))
    return float(10 * np.log10(other / one))


def payload(encoded: bytes) -> int:
    """Bytes of sound in a file: what its container adds is not the codec's."""
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
def test_every_protocol_keeps_the_length_and_stays_in_range(name: str, length: int):
    loud = 0.99 * voice("f3/de/00")[:length] / 0.7
    degraded, what = degrade(loud, conditions()[name], rng())
    assert degraded.shape == (length,)
    assert degraded.dtype == np.float32
    assert np.isfinite(degraded).all()
    assert 0.01 < np.abs(degraded).max() <= 1
    assert tuple(what) == module.MEASURES


@pytest.mark.parametrize("name", conditions())
def test_the_same_generator_gives_the_same_samples(name: str):
    one, other, third = (degrade(voice("m1/en/00"), conditions()[name], rng(seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, other)
    by_chance = conditions()[name].room or conditions()[name].snr is not None
    assert np.array_equal(one, third) != by_chance


def test_clean_is_the_input_itself():
    np.testing.assert_array_equal(degrade(voice("m1/en/00"), conditions()["clean_clean"], rng())[0], voice("m1/en/00"))


def test_playback_names_every_stage():
    _, what = degrade(voice("m1/en/00"), conditions()["clean_playback_gsm_snr20_webcam_budget"], rng())
    assert what["codec"] == "gsm"
    assert what["loudspeaker"] == "small"
    assert what["microphone"] == "webcam_budget"
    assert what["noise"] in rooms.COLOURS
    assert what["snr_db"] == "20"
    assert 0.25 <= float(what["rt60_s"]) <= 0.6
    assert 0.5 <= float(what["distance_m"]) <= 2.0


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(16000, np.float32), "is silent"),
        (np.full(160, 0.1, np.float32), "is 10 ms long"),
        (np.full((16000, 2), 0.1, np.float32), r"has shape \(16000, 2\)"),
        (np.full(16000, np.nan, np.float32), "not finite"),
    ],
)
def test_what_is_not_speech_is_refused(samples: np.ndarray, reason: str):
    with pytest.raises(ValueError, match=reason):
        degrade(samples, conditions()["clean_noise_snr_5"], rng())


# --- codecs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", codecs.codecs())
def test_a_codec_spends_the_bits_it_is_named_after(name: str):
    speech = np.concatenate([voice(each) for each in VOICES])
    kbps = 8 * payload(codecs.encode(speech, codecs.codecs()[name])) / (len(speech) / RATE) / 1000
    assert kbps == pytest.approx(
        KBPS[name], rel=0.15 if name.startswith("opus") else 0.02
    )  # Opus runs at variable rate


@pytest.mark.parametrize("name", codecs.codecs())
def test_the_bands_a_codec_keeps_and_loses(name: str):
    clean = rough_noise()
    degraded = codecs.pass_codec(clean, codecs.codecs()[name])
    assert change_db(clean, degraded, 300, 3400) == pytest.approx(0, abs=2.5)
    if name in NARROW:
        assert change_db(clean, degraded, 4500, 8000) < -45
    else:
        assert change_db(clean, degraded, 4500, 7000) > -5


@pytest.mark.parametrize("name", codecs.codecs())
def test_a_codec_returns_speech_in_its_place(name: str):
    lags = [lag(voice(each), codecs.pass_codec(voice(each), codecs.codecs()[name])) for each in VOICES]
    # Opus at 6 kbps resamples to 8 kHz inside and comes half a sample early; that is less than can be shifted.
    assert np.abs(lags).max() < (1 if name == "opus_6k" else 0.2)
    assert round(abs(np.median(lags)) - 0.01) == 0


def test_mp3_would_come_1105_samples_late_and_would_lose_its_end():
    mp3 = codecs.codecs()["mp3_32k"]
    raw, _ = soundfile.read(io.BytesIO(codecs.encode(voice("m1/en/00"), mp3)), dtype="float32")
    clean = voice("m1/en/00")
    assert round(lag(clean, raw[: len(clean)])) == 1105
    tail = rough_noise(0.5)
    assert change_db(tail[-800:], codecs.pass_codec(tail, mp3)[-800:], 300, 6000) == pytest.approx(0, abs=1)


# --- microphones and loudspeakers -----------------------------------------------------------------------------------

CURVES = [(kind, name) for kind in ("microphones", "loudspeakers") for name in codecs.responses(kind)]


@pytest.mark.parametrize(("kind", "name"), CURVES)
def test_a_response_is_the_one_in_the_table(kind: str, name: str):
    curve = codecs.responses(kind)[name]
    clean = 0.1 * rng().standard_normal(20 * RATE).astype(np.float32)
    degraded = codecs.pass_response(clean, curve)
    for centre in (250, 400, 700, 1000, 1500, 2000, 2800, 4000, 5500, 7500):
        grid = np.linspace(0.95 * centre, 1.05 * centre, 50)
        expected = 10 * np.log10(np.mean(10 ** (codecs.gain_db(curve, grid) / 10)))
        if expected > -30:
            assert change_db(clean, degraded, grid[0], grid[-1]) == pytest.approx(expected, abs=0.8), centre


@pytest.mark.parametrize(("kind", "name"), CURVES)
def test_a_response_says_what_it_imitates_and_delays_nothing(kind: str, name: str):
    curve = codecs.responses(kind)[name]
    assert len(codecs.simulation_parameters()[kind][name]["imitates"]) > 20
    assert codecs.gain_db(curve, np.array([1000.0]))[0] == 0
    assert [hertz for hertz, _ in curve] == sorted(hertz for hertz, _ in curve)
    for each in VOICES:
        assert abs(lag(voice(each), codecs.pass_response(voice(each), curve))) < 0.01


def test_the_seven_microphones_differ():
    filters = [codecs.fir(curve) for curve in codecs.responses("microphones").values()]
    assert len(filters) == 7
    for one, other in itertools.combinations(filters, 2):
        assert np.abs(20 * np.log10(np.abs(np.fft.rfft(one)) / np.abs(np.fft.rfft(other))))[16:240].max() > 2


# --- noise ----------------------------------------------------------------------------------------------------------


def half_speech() -> tuple[np.ndarray, np.ndarray]:
    """A second of silence and a second of tone, and where the tone is."""
    tone = np.arange(2 * RATE) >= RATE
    return (0.3 * tone * np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE)).astype(np.float32), tone


def test_only_frames_with_speech_are_active():
    speech, tone = half_speech()
    np.testing.assert_array_equal(rooms.active_frames(speech), tone)
    assert not rooms.active_frames(np.zeros(1000, np.float32)).any()


@pytest.mark.parametrize("protocol", NOISY, ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("seed", range(6))
def test_noise_is_that_far_below_the_speech_and_pauses_do_not_count(protocol: Condition, seed: int):
    speech, tone = half_speech()
    degraded, what = degrade(speech, protocol, rng(seed))
    noise = degraded / 10 ** (float(what["gain_db"]) / 20) - speech
    snr = 10 * np.log10(np.mean(speech[tone] ** 2) / np.mean(noise[tone] ** 2))
    assert snr == pytest.approx(protocol.snr, abs=0.05)
    assert noise[~tone].std() > 0


@pytest.mark.parametrize(("colour", "slope"), [("white", 0), ("pink", -3), ("brown", -6)])
def test_a_colour_falls_by_its_decibels_an_octave(colour: str, slope: float):
    noise = rooms.COLOURS[colour](20 * RATE, rng())
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
    density = [power[(frequency >= 0.9 * hz) & (frequency < 1.1 * hz)].mean() for hz in (250, 4000)]
    assert 10 * np.log10(density[1] / density[0]) / 4 == pytest.approx(slope, abs=0.2)


def test_babble_is_mostly_below_4_khz_and_has_syllables():
    noise = rooms.babble(20 * RATE, rng()).astype(np.float32)
    assert change_db(noise, noise, 100, 8000) == 0
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    assert spectrum[: 4000 * 20].sum() > 0.9 * spectrum.sum()
    envelope = np.sqrt(np.square(noise).reshape(-1, 320).mean(axis=1))
    assert envelope.std() / envelope.mean() > 0.15  # white noise: 0.04


def test_recorded_noise_is_resampled_repeated_and_named(tmp_path: Path):
    hum = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100)
    (tmp_path / "hums").mkdir()
    soundfile.write(tmp_path / "hums" / "mains.flac", np.stack([hum, hum], axis=1), 44100)
    noises = rooms.find_recordings(tmp_path)
    speech, tone = half_speech()
    degraded, what = degrade(speech, conditions()["clean_noise_snr_10"], rng(), noises=noises)
    assert what["noise"] == "hums/mains.flac"
    noise = (degraded - speech)[tone]
    assert 10 * np.log10(np.mean(speech[tone] ** 2) / np.mean(noise**2)) == pytest.approx(10, abs=0.05)
    assert np.abs(np.fft.rfft(noise)).argmax() == 1000


def test_unusable_recordings_are_named_all_at_once(tmp_path: Path):
    with pytest.raises(EarmarkError, match="holds no audio"):
        rooms.find_recordings(tmp_path)
    soundfile.write(tmp_path / "silent.wav", np.zeros(1000), RATE)
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(EarmarkError, match=r"2 unusable\n  silent\.wav: is silent.*\n  text\.wav: is not audio"):
        rooms.find_recordings(tmp_path)


# --- rooms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_the_direct_path_of_a_room_stays_where_it_was(seed: int):
    click = np.zeros(RATE, np.float32)
    click[4000] = 0.5
    heard, _ = rooms.pass_room(click, rng(seed))
    assert np.abs(heard).argmax() == 4000
    assert not np.abs(heard[:3990]).max() > 1e-6
    assert np.square(heard).sum() == pytest.approx(np.square(click).sum(), rel=1e-3)
    assert abs(lag(rough_noise(), rooms.pass_room(rough_noise(), rng(seed))[0])) < 0.5


@pytest.mark.parametrize("seconds", [0.3, 0.6])
def test_a_simulated_room_rings_about_as_long_as_it_says(seconds: float):
    """T20 by Schroeder's backward integration; a shoebox rings longer than the diffuse field of Eyring's formula."""
    response = rooms.shoebox(np.array([5.1, 4.3, 2.7]), np.array([2.0, 1.7, 1.5]), np.array([3.1, 2.2, 1.4]), seconds)
    decay = np.cumsum(np.square(response[::-1], dtype=float))[::-1]
    level = 10 * np.log10(decay / decay[0])
    measured = 3 * (np.argmax(level < -25) - np.argmax(level < -5)) / RATE
    assert 0.9 * seconds < measured < 1.45 * seconds


def test_a_shoebox_has_its_first_echoes_where_geometry_puts_them():
    """Talker and listener 2 m apart and 1 m above the floor: the floor's echo travels √8 m."""
    response = rooms.shoebox(np.array([8.0, 6.0, 3.5]), np.array([3.0, 3.0, 1.0]), np.array([5.0, 3.0, 1.0]), 0.5)
    direct, floor = round(2 / 343 * RATE), round(np.sqrt(8) / 343 * RATE)
    assert np.abs(response).argmax() == direct
    assert not response[:direct].any()
    assert direct + 1 + np.abs(response[direct + 1 : floor + 20]).argmax() == floor


def test_a_recorded_room_is_applied_from_its_direct_path_on(tmp_path: Path):
    response = np.zeros(500)
    response[[100, 180]] = -0.8, -0.4
    soundfile.write(tmp_path / "hall.wav", response, RATE, subtype="FLOAT")
    clean = rough_noise()
    heard, what = degrade(clean, conditions()["clean_reverb"], rng(), rooms=rooms.find_recordings(tmp_path))
    expected = clean + 0.5 * np.pad(clean, (80, 0))[: len(clean)]
    expected *= np.sqrt(np.mean(clean**2) / np.mean(expected**2))
    assert what["room"] == "hall.wav"
    np.testing.assert_allclose(heard, expected, atol=1e-5)


# --- trials ---------------------------------------------------------------------------------------------------------


def sources(*speakers: tuple[str, str, int]) -> list[Source]:
    """Files of (speaker, gender, how many)."""
    return [
        Source(Path(f"{who}/{n}.wav"), f"{who}/{n}.wav", f"{who}/{n}.wav", who, gender, 0)
        for who, gender, count in speakers
        for n in range(count)
    ]


def test_two_speakers_of_two_files_give_two_targets_and_four_non_targets():
    targets, others = trial_pairs(sources(("a", "", 2), ("b", "", 2)), rng())
    assert {frozenset(pair) for pair in targets.tolist()} == {frozenset((0, 1)), frozenset((2, 3))}
    assert {frozenset(pair) for pair in others.tolist()} == {
        frozenset(pair) for pair in [(0, 2), (0, 3), (1, 2), (1, 3)]
    }


people = st.lists(st.tuples(st.sampled_from(["", "f", "m"]), st.integers(1, 5)), min_size=1, max_size=8)


@given(people, st.integers(0, 30), st.integers(0, 30), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_trials_hold_their_rules_for_any_speakers(drawn: list[tuple[str, int]], n: int, m: int, seed: int):
    files = sources(*((f"s{place}", gender, count) for place, (gender, count) in enumerate(drawn)))
    possible = list(itertools.combinations(range(len(files)), 2))
    same = [pair for pair in possible if files[pair[0]].speaker == files[pair[1]].speaker]
    allowed = [
        (one, other)
        for one, other in possible
        if files[one].speaker != files[other].speaker
        and (files[one].gender == files[other].gender or not files[one].gender or not files[other].gender)
    ]
    if (n and not same) or (m and not allowed):
        with pytest.raises(EarmarkError, match="Trials need"):
            trial_pairs(files, rng(seed), (n, m))
        return
    targets, others = trial_pairs(files, rng(seed), (n, m))
    for pairs, pool, wanted in ((targets, same, n), (others, allowed, m)):
        got = [tuple(sorted(pair)) for pair in pairs.tolist()]
        assert len(got) == len(set(got)) == min(wanted, len(pool))
        assert set(got) <= set(pool)


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
def test_everything_is_there_and_as_the_manifest_says(tmp_path: Path, speech: Path):
    building = build(speech, tmp_path / "out", seed=0)
    made = list(building)
    assert len(building) == len(made) == 6 * 24
    assert all(each.fresh for each in made)
    rows = manifest(tmp_path / "out")
    assert Counter(row["protocol"] for row in rows) == dict.fromkeys(conditions(), 6)
    assert {row["path"] for row in rows} == {name for name in contents(tmp_path / "out") if name.endswith(".wav")}
    for row in rows:
        assert row["path"] == f"audio/{row['protocol']}/{row['source']}"
        info = soundfile.info(tmp_path / "out" / row["path"])
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
        assert info.frames == soundfile.info(speech / row["source"]).frames
    for row in rows:  # the noise in every noise file, measured from what is on disk
        if row["category"] == "noise":
            clean, _ = soundfile.read(tmp_path / "out" / f"audio/clean_clean/{row['source']}")
            noisy, _ = soundfile.read(tmp_path / "out" / row["path"])
            noise = noisy / 10 ** (float(row["gain_db"]) / 20) - clean
            frames = np.square(clean[: len(clean) // 320 * 320]).reshape(-1, 320).mean(axis=1)
            loud = np.repeat(frames > 0.001 * np.quantile(frames, 0.95), 320)
            power = [np.square(each[: len(loud)][loud]).mean() for each in (clean, noise)]
            assert 10 * np.log10(power[0] / power[1]) == pytest.approx(float(row["snr_db"]), abs=0.5)


def test_clean_16_bit_speech_is_copied_bit_for_bit(tmp_path: Path, speech: Path):
    list(build(speech, tmp_path / "out", seed=0, protocols=FEW))
    for path in speech.rglob("*.wav"):
        copied, _ = soundfile.read(tmp_path / "out/audio/clean_clean" / path.relative_to(speech), dtype="int16")
        np.testing.assert_array_equal(copied, soundfile.read(path, dtype="int16")[0])


def test_trial_lists_enrol_on_clean_speech_and_test_on_the_degraded(tmp_path: Path, speech: Path):
    list(build(speech, tmp_path / "out", seed=0, protocols=FEW, trials_per_protocol=(2, 5)))
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
def test_the_same_seed_gives_the_same_bytes_with_one_process_and_with_two(tmp_path: Path, speech: Path):
    list(build(speech, tmp_path / "one", seed=7, protocols=FEW))
    list(build(speech, tmp_path / "two", seed=7, protocols=FEW, processes=2))
    list(build(speech, tmp_path / "other", seed=8, protocols=FEW))
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    reverb = "audio/clean_reverb/m1/en/0.wav"
    assert not np.array_equal(*(soundfile.read(tmp_path / name / reverb)[0] for name in ("one", "other")))
    assert one["trials/clean_clean.txt"] != other["trials/clean_clean.txt"]


def test_a_finished_file_is_not_made_again_and_a_broken_or_stale_one_is(tmp_path: Path, speech: Path):
    building = build(speech, tmp_path / "out", seed=0, protocols=FEW)
    for _ in zip(range(8), building, strict=False):
        pass  # interrupted after the second speaker's first file
    assert not (tmp_path / "out" / "manifest.csv").exists()
    kept = len(list((tmp_path / "out").rglob("*.wav")))
    made = list(building)
    assert sum(not each.fresh for each in made) == kept > 8
    whole = contents(tmp_path / "out")
    gone, cut = (tmp_path / f"out/audio/clean_reverb/m1/en/{number}.wav" for number in (0, 1))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:100])
    remade = [each.row["path"] for each in building if each.fresh]
    assert remade == ["audio/clean_reverb/m1/en/0.wav", "audio/clean_reverb/m1/en/1.wav"]
    assert contents(tmp_path / "out") == whole
    shutil.copy(speech / "m2/en/0.wav", speech / "m1/en/0.wav")
    assert {each.row["source"] for each in building if each.fresh} == {"m1/en/0.wav"}


def test_a_file_carries_its_own_row(tmp_path: Path, speech: Path):
    list(build(speech, tmp_path / "out", seed=0, protocols=FEW))
    row = manifest(tmp_path / "out")[-1]
    with soundfile.SoundFile(tmp_path / "out" / row["path"]) as file:
        assert json.loads(file.comment)["row"] == row


def test_a_csv_gives_speakers_genders_and_its_own_paths(tmp_path: Path, speech: Path):
    table = tmp_path / "list.csv"
    lines = [
        f"clean/{who}/en/{n}.wav,Speaker {who},{'f' if who == 'f1' else 'Male'}" for who in ("m1", "f1") for n in (0, 1)
    ]
    table.write_text("\n".join(["path,speaker,gender", *lines]), encoding="utf-8")
    got = clean_speech(table)
    assert [each.name for each in got][:1] == ["Speaker_f1/clean/f1/en/0.wav"]
    assert {(each.speaker, each.gender) for each in got} == {("Speaker_f1", "f"), ("Speaker_m1", "m")}
    with pytest.raises(EarmarkError, match=r"two speakers \(of the same gender"):
        build(table, tmp_path / "out", seed=0)


def test_stereo_at_48_khz_is_speech_too(tmp_path: Path, speech: Path):
    wide = np.repeat(voice("m1/en/00"), 3)
    soundfile.write(speech / "m1/en/0.wav", np.stack([wide, wide], axis=1), 48000)
    list(build(speech, tmp_path / "out", seed=0, protocols=("clean_clean",)))
    row = next(row for row in manifest(tmp_path / "out") if row["source"] == "m1/en/0.wav")
    assert row["source_rate"] == "48000"
    assert float(row["seconds"]) == pytest.approx(len(wide) / 48000, abs=1e-3)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("listed", [False, True], ids=["folder", "csv"])
@pytest.mark.parametrize("processes", [1, 2])
def test_unusable_speech_is_named_all_at_once_and_nothing_half_made(
    tmp_path: Path, speech: Path, listed: bool, processes: int
):
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
        list(build(clean, tmp_path / "out", seed=0, protocols=FEW, processes=processes))
    message = str(caught.value)
    assert re.search(r"m1/en/0\.wav: is 10 ms long", message)
    assert re.search(r"m1/en/1\.wav: is silent", message)
    assert re.search(r"m2/en/0\.wav: is 8000 Hz: the band above 4000 Hz is lost already", message)
    assert re.search(r"m2/en/1\.wav: ends after \d\.\d s of \d\.\d s", message)
    assert re.search(r"f1/en/0\.wav: is not audio", message)
    assert ("line 2, column path" in message) == listed
    assert not (tmp_path / "out" / "manifest.csv").exists()
    assert not (tmp_path / "out" / "trials").exists()
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix == ".tmp"]


def test_a_faulty_csv_is_refused_with_every_line(tmp_path: Path, speech: Path):
    table = speech / "list.csv"
    table.write_text("path,speaker,gender\n,m1,m\nm1/en/0.wav,,m\nm1/en/1.wav,m1,x\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)3 faults.*line 2, column path.*line 3, column speaker.*line 4, column g"):
        clean_speech(table)
    table.write_text(
        "path,speaker,gender\nm1/en/0.wav,m1,m\nm1/en/0.wav,m1,m\nm1/en/9.wav,m1,f\nm1/en,m1,m\n", encoding="utf-8"
    )
    with pytest.raises(DataError) as caught:
        clean_speech(table)
    assert "line 3, column path: m1/en/0.wav: would be written to the same file as m1/en/0.wav" in str(caught.value)
    assert "line 4, column path: m1/en/9.wav: is not there" in str(caught.value)
    assert "line 4, column path: m1/en/9.wav: another row of m1 gives another gender" in str(caught.value)
    assert "line 5, column path: m1/en: is a folder" in str(caught.value)
    table.write_text("file,who\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)column path: is missing.*column speaker: is missing"):
        clean_speech(table)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EarmarkError, match="is not UTF-8; save the file as CSV UTF-8"):
        clean_speech(table)


def test_a_folder_that_is_no_speech_is_refused(tmp_path: Path, speech: Path):
    with pytest.raises(EarmarkError, match="nowhere: is not there"):
        clean_speech(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EarmarkError, match="holds no audio"):
        clean_speech(tmp_path / "empty")
    shutil.copy(speech / "m1/en/0.wav", speech / "loose.wav")
    with pytest.raises(EarmarkError, match=r"loose\.wav not in any speaker's folder"):
        clean_speech(speech)
    (speech / "loose.wav").unlink()
    shutil.copy(speech / "m1/en/0.wav", speech / "m1/en/0.flac")
    with pytest.raises(EarmarkError, match=r"m1/en/0\.wav: would be written to the same file as m1/en/0\.flac"):
        clean_speech(speech)


def test_what_cannot_be_built_is_refused_at_once(tmp_path: Path, speech: Path):
    with pytest.raises(EarmarkError, match="clean_codec_amr: not a protocol"):
        build(speech, tmp_path / "out", seed=0, protocols=("clean_codec_amr",))
    with pytest.raises(EarmarkError, match="lies inside the clean speech"):
        build(speech, speech / "out", seed=0)
    with pytest.raises(EarmarkError, match="holds no audio"):
        build(speech, tmp_path / "out", seed=0, noises=tmp_path / "none")
    shutil.rmtree(speech / "m2")
    shutil.rmtree(speech / "f1")
    with pytest.raises(EarmarkError, match="Trials need two speakers"):
        build(speech, tmp_path / "out", seed=0)
    (speech / "m1/en/1.wav").unlink()
    with pytest.raises(EarmarkError, match="Trials need a speaker with two files"):
        build(speech, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


# --- the demo speech ------------------------------------------------------------------------------------------------


def test_the_demo_has_24_voices_in_four_languages_and_is_small():
    rows = list(csv.DictReader((DEMO / "speakers.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["path"] for row in rows} == {path.relative_to(DEMO).as_posix() for path in DEMO.rglob("*.mp3")}
    cells = Counter((row["speaker"], row["language"]) for row in rows)
    assert cells == dict.fromkeys(itertools.product({row["speaker"] for row in rows}, ("en", "de", "fr", "es")), 2)
    assert Counter(row["gender"] for row in rows) == {"m": 96, "f": 96}
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 2.5e6
    for row in rows:
        assert row["path"].split("/")[:2] == [row["speaker"], row["language"]]
        assert 1.99 < soundfile.info(DEMO / row["path"]).duration < 3.2  # MP3 pads both ends


def test_no_two_clips_of_the_demo_are_the_same():
    """espeak-ng silently drops a variant it does not know, and two voices would be one."""
    assert len({path.read_bytes() for path in DEMO.rglob("*.mp3")}) == 192


def test_the_cross_lingual_list_fills_its_four_cells():
    lines = [line.split() for line in (DEMO / "trials_crosslingual.txt").read_text(encoding="utf-8").splitlines()]
    cells = Counter()
    for label, enrol, test in lines:
        (who, language, _), (other, foreign, _) = enrol.split("/"), test.split("/")
        assert (who == other) == (label == "1")
        assert enrol != test
        assert (DEMO / enrol).is_file()
        cells[label, language == foreign] += 1
    assert cells == {("1", True): 96, ("1", False): 576, ("0", True): 1000, ("0", False): 1000}
    assert len({frozenset(line[1:]) for line in lines}) == len(lines)


# --- what is left out -----------------------------------------------------------------------------------------------


def left_out_of(folder: Path) -> list[tuple[str, ...]]:
    rows = csv.DictReader((folder / "left_out.csv").read_text(encoding="utf-8").splitlines())
    return [tuple(row.values()) for row in rows]


def spoilt(speech: Path) -> None:
    """m1 loses one of its files to its format and f1 both, one to its suffix and one to its length."""
    (speech / "m1/en/1.wav").rename(speech / "m1/en/1.xyz")
    (speech / "f1/en/0.wav").rename(speech / "f1/en/0")
    soundfile.write(speech / "f1/en/1.wav", voice("m1/en/00")[:160], RATE)
    shutil.copy(speech / "m2/en/0.wav", speech / "m2/en/2.wav")
    (speech / "m2/en/1.wav").write_text("no audio")
    (speech / "readme.txt").write_text("about")
    (speech / "m2/.hidden").write_text("nobody's")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_speech_that_is_left_out_is_named_and_trials_are_of_the_rest(tmp_path: Path, speech: Path, processes: int):
    spoilt(speech)
    building = build(speech, tmp_path / "out", seed=0, protocols=FEW, processes=processes, allow_missing=True)
    list(building)
    assert [each[:2] + each[3:] for each in left_out_of(tmp_path / "out")] == [
        ("f1/en/0", "f1", "0"), ("m1/en/1.xyz", "m1", "1"), ("readme.txt", "", "0"),
        ("f1/en/1.wav", "f1", "0"), ("m2/en/1.wav", "m2", "2"),
    ]  # fmt: skip
    reasons = [each[2] for each in left_out_of(tmp_path / "out")]
    assert reasons[:4] == ["has no suffix", ".xyz is no suffix of audio", ".txt is no suffix of audio", "is 10 ms long"]
    assert reasons[4].startswith("is not audio")
    told = told_of_left_out(building.left_out, building.used)
    assert "5 files are left out:" in told and "1 .xyz is no suffix of audio: m1/en/1.xyz" in told
    assert told.splitlines()[-1] == "No file of 1 speaker: f1"
    used = {"m1/en/0.wav", "m2/en/0.wav", "m2/en/2.wav"}
    assert {row["source"] for row in manifest(tmp_path / "out")} == used
    lines = (tmp_path / "out/trials/clean_clean.txt").read_text().splitlines()
    assert {name.split("/", 2)[2] for line in lines for name in line.split()[1:]} == used
    again = build(speech, tmp_path / "alone", seed=0, protocols=FEW)
    with pytest.raises(EarmarkError, match=r"(?s)2 unusable.*--allow-missing leaves the unusable out"):
        list(again)
    assert not (tmp_path / "alone/left_out.csv").exists()


def test_nothing_is_left_out_of_a_later_run_that_has_all(tmp_path: Path, speech: Path):
    (speech / "m1/notes.txt").write_text("x")
    list(build(speech, tmp_path / "out", seed=0, protocols=FEW[:1]))
    assert left_out_of(tmp_path / "out") == [("m1/notes.txt", "m1", ".txt is no suffix of audio", "2")]
    (speech / "m1/notes.txt").unlink()
    list(build(speech, tmp_path / "out", seed=0, protocols=FEW[:1]))
    assert not (tmp_path / "out/left_out.csv").exists()


@pytest.mark.slow
def test_speech_without_trials_is_said_with_what_is_left_out(tmp_path: Path, speech: Path):
    for path in speech.rglob("1.wav"):
        path.rename(path.with_suffix(".xyz"))
    with pytest.raises(
        EarmarkError, match=r"(?s)a speaker with two files.*3 \.xyz is no suffix of audio: f1/en/1\.xyz"
    ):
        build(speech, tmp_path / "out", seed=0)
    for path in speech.rglob("1.xyz"):
        path.rename(path.with_suffix(".wav")).write_text("no audio")
    with pytest.raises(EarmarkError, match=r"(?s)a speaker with two files.*3 is not audio.*: f1/en/1\.wav"):
        list(build(speech, tmp_path / "out", seed=0, allow_missing=True))


def test_recordings_of_noise_that_are_left_out_are_named_too(tmp_path: Path, speech: Path):
    (tmp_path / "noises").mkdir()
    soundfile.write(tmp_path / "noises/hum.wav", rough_noise(), RATE)
    (tmp_path / "noises/hiss.xyz").write_text("x")
    building = build(speech, tmp_path / "out", seed=0, protocols=FEW[:1], noises=tmp_path / "noises")
    assert [(one.given, one.speaker) for one in building.not_by_suffix] == [("noises/hiss.xyz", "")]


def test_many_reasons_are_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("earmark.speaker.case.simulate.clean_speech.REASONS", 2)
    told = told_of_left_out([LeftOut(f"a/{n}", "a", f"is {n % 4} ms long") for n in range(40)], [])
    assert told.splitlines() == [
        "40 files are left out:",
        "  10 is 0 ms long: a/0, a/4, a/8, a/12, a/16, …",
        "  10 is 1 ms long: a/1, a/5, a/9, a/13, a/17, …",
        "  20 for other reasons",
        "No file of 1 speaker: a",
    ]


def test_the_command_warns_of_what_it_leaves_out(tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]):
    spoilt(speech)
    argv = ["carriers", str(speech), "--output-dir", str(tmp_path / "out"), "--conditions", "clean_clean"]
    assert evaluate_speaker.main(argv) == 1
    assert evaluate_speaker.main([*argv, "--allow-missing"]) == 0
    said = capsys.readouterr()
    assert "clean: 3 files are left out:" in said.err and "Audio is told by its suffix: .mp3, .wav" in said.err
    assert "1 is 10 ms long: f1/en/1.wav" in said.err
    assert "5 files and 1 speakers are left out, see left_out.csv." in said.out


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="children are found in /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path):
    command = ["evaluate_speaker.py", "--quiet", "carriers", str(DEMO / "speakers.csv"), "--workers", "2"]
    parent = subprocess.Popen([sys.executable, *command, "--output-dir", str(tmp_path / "out")], cwd=ROOT)

    def children() -> list[Path]:
        found = []
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                if f"PPid:\t{parent.pid}\n" in status.read_text():
                    found.append(status.parent)
        return found

    try:
        wait_for(lambda: any((tmp_path / "out").rglob("*.wav")), 60)
        workers = children()
        assert len(workers) >= 2
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not any(ours(worker) for worker in workers), 20)


def ours(process: Path) -> bool:
    """Whether a process is still at work; one that has ended may be in the table for a while."""
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except OSError:
        return False
