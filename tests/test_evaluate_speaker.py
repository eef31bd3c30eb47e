"""evaluate_speaker.py: trial lists with scores or embeddings, and leaderboards of CASE results."""

import csv
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import evaluate_speaker
from earmark.report.provenance import shown_text
from earmark.speaker.case.conditions import case_definition, condition_names
from earmark.speaker.trial_files import read_trials
from tests.conftest import contents
from tests.hub_files import LOG, check_logged, read_hub_files

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def trials(tmp_path):
    """Trials of ten speakers with four utterances each, with scores and embeddings."""
    rng = np.random.default_rng(0)
    utterances = [f"spk{s}/{u}.wav" for s in range(10) for u in range(4)]
    vectors = {u: rng.normal(size=16) + 2 * np.eye(16)[int(u[3])] for u in utterances}
    pairs = [tuple(rng.choice(utterances, 2)) for _ in range(400)]
    pairs += [(f"spk{s}/0.wav", f"spk{s}/{u}.wav") for s in range(10) for u in range(4)]  # some are self-trials
    labels = [int(a.split("/")[0] == b.split("/")[0]) for a, b in pairs]
    cosine = [
        float(vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])) for a, b in pairs
    ]
    (tmp_path / "trials.txt").write_text("".join(f"{y} {a} {b}\n" for (a, b), y in zip(pairs, labels, strict=True)))
    (tmp_path / "scores.txt").write_text("".join(f"{a} {b} {s!r}\n" for (a, b), s in zip(pairs, cosine, strict=True)))
    np.savez(tmp_path / "embeddings.npz", **vectors)
    return tmp_path


def run(folder, *flags):
    out = folder / "out"
    code = evaluate_speaker.main(
        ["--quiet", "trials", "--trials", str(folder / "trials.txt"), "--output-dir", str(out), *map(str, flags)]
    )
    path = out / "summary.json"
    return code, json.loads(path.read_text()) if path.exists() else None


def test_scores_and_embeddings_give_the_same_metrics(trials, capsys):
    code, by_scores = run(trials, "--scores", trials / "scores.txt", "--bootstrap", 100)
    assert code == 0
    _, by_vectors = run(trials, "--embeddings", trials / "embeddings.npz", "--bootstrap", 100)
    for name, estimate in by_scores["metrics"].items():
        assert by_vectors["metrics"][name] == pytest.approx(estimate)
    assert by_scores["n_trials"] == 440
    assert by_scores["n_speakers"] == 10
    assert by_scores["n_self_trials"] >= 10
    assert by_scores["resampled"] == "speakers"
    assert "Equal error rate" in capsys.readouterr().out


def test_trials_is_reproducible(trials):
    _, first = run(trials, "--scores", trials / "scores.txt")
    _, second = run(trials, "--scores", trials / "scores.txt")
    first.pop("created_utc")
    second.pop("created_utc")
    assert first == second


def test_no_self_trials_excludes_and_counts_them(trials):
    _, with_self = run(trials, "--scores", trials / "scores.txt")
    _, without = run(trials, "--scores", trials / "scores.txt", "--no-self-trials")
    assert without["n_self_trials"] == 0
    assert without["exclusions"] == [{"reason": "of a file against itself", "count": with_self["n_self_trials"]}]
    assert without["metrics"]["eer"]["value"] >= with_self["metrics"]["eer"]["value"]


def test_missing_scores_are_errors_unless_allowed(trials, capsys):
    lines = (trials / "scores.txt").read_text().splitlines(keepends=True)
    (trials / "fewer.txt").write_text("".join(lines[3:]))
    code, summary = run(trials, "--scores", trials / "fewer.txt")
    assert (code, summary) == (1, None)
    stderr = capsys.readouterr().err
    assert ": 3 missing:" in stderr
    assert lines[0].rsplit(" ", 1)[0] in stderr
    code, summary = run(trials, "--scores", trials / "fewer.txt", "--allow-missing")
    assert code == 0
    assert summary["exclusions"] == [{"reason": "without a score", "count": 3}]


def test_speakers_from_map_or_unknown(trials):
    flat = (trials / "trials.txt").read_text().replace("/", "_")
    (trials / "trials.txt").write_text(flat)
    (trials / "flat.txt").write_text((trials / "scores.txt").read_text().replace("/", "_"))
    _, unknown = run(trials, "--scores", trials / "flat.txt")
    assert (unknown["resampled"], unknown["n_speakers"]) == ("utterances", 0)
    names = {name for line in flat.splitlines() for name in line.split()[1:]}
    (trials / "map").write_text("".join(f"{name} {name.split('_')[0]}\n" for name in sorted(names)))
    _, known = run(trials, "--scores", trials / "flat.txt", "--speakers", trials / "map")
    assert (known["resampled"], known["n_speakers"]) == ("speakers", 10)


@pytest.mark.parametrize(
    ("line", "message"),
    [("2 a/1 a/2", "column label: '2' is not one of"), ("1 a/1", "has 2 values"), ("", "has 0 values")],
)
def test_invalid_line_of_list_is_reported(trials, line, message, capsys):
    (trials / "trials.txt").write_text((trials / "trials.txt").read_text() + line + "\n0 a/1 b/1\n")
    code, summary = run(trials, "--scores", trials / "scores.txt")
    assert (code, summary) == (1, None)
    stderr = capsys.readouterr().err
    assert f"line 441{',' if 'column' in message else ':'} {message}" in stderr


def test_list_without_non_targets_is_an_error(trials, capsys):
    (trials / "trials.txt").write_text("1 spk0/0.wav spk0/1.wav 0.3\n".replace(" 0.3", ""))
    (trials / "one.txt").write_text("spk0/0.wav spk0/1.wav 0.3\n")
    code, _ = run(trials, "--scores", trials / "one.txt")
    assert code == 1
    assert "only target trials" in capsys.readouterr().err


def test_list_without_scores_needs_a_system(trials, capsys):
    code, _ = run(trials)
    assert code == 2
    assert "--encoder SPEC, --embeddings FILE or --scores FILE" in capsys.readouterr().err


def results_file(folder, name, eer):
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"model_name": name, "protocol_results": {p: {"eer": eer} for p in condition_names()}}))
    return path


@pytest.mark.slow
def test_leaderboard_includes_published_and_own_models(tmp_path):
    files = [results_file(tmp_path, "Great", 0.001), results_file(tmp_path, "Poor", 0.4)]
    done = subprocess.run(
        [sys.executable, "evaluate_speaker.py", "leaderboard", *files, "--output-dir", tmp_path / "out"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert [row["model_name"] for row in rows][:1] == ["Great"]
    assert rows[-1]["model_name"] == "Poor"
    assert {m["model_name"] for m in case_definition()["published"]} < {row["model_name"] for row in rows}
    header = (tmp_path / "out" / "leaderboard.csv").read_text().splitlines()[0]
    assert header.startswith("rank,model_name,clean_eer,absolute_eer,degradation_factor,case_score_v1,")
    assert "| 1 | Great |" in done.stdout


def test_leaderboard_rejects_incomplete_results(tmp_path, capsys):
    path = results_file(tmp_path, "Half", 0.1)
    results = json.loads(path.read_text())
    del results["protocol_results"]["clean_reverb"]
    path.write_text(json.dumps(results))
    assert evaluate_speaker.main(["leaderboard", str(path), "--output-dir", str(tmp_path / "out")]) == 1
    assert "clean_reverb is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- audio --------------------------------------------------------------------------------------------------

DEMO = ROOT / "dataset" / "speaker-demo"


def small_list(folder, voices=4):
    """Trials of a few speakers of the demo."""
    selected = [f"{sex}{i}" for sex in "mf" for i in range(1, voices // 2 + 1)]
    lines = (DEMO / "trials_crosslingual.txt").read_text().splitlines()
    lines = [line for line in lines if all(name.split("/")[0] in selected for name in line.split()[1:])]
    path = folder / "small.txt"
    path.write_text("\n".join(lines) + "\n")
    return path, len(lines)


def language_list(folder):
    """Trials of four pairs of voices of the demo, target for the same language."""
    lines = (DEMO / "trials_language.txt").read_text().splitlines()[: 4 * 16]
    path = folder / "language.txt"
    path.write_text("\n".join(lines) + "\n")
    return path, len(lines)


def test_demo_language_list_is_target_for_the_same_language():
    table = csv.DictReader((DEMO / "speakers.csv").open())
    known = {row["path"]: (row["speaker"], row["language"]) for row in table}
    lines = [line.split() for line in (DEMO / "trials_language.txt").read_text().splitlines()]
    assert len(lines) == 24 * 2 * 16  # 24 voices with two others each, 4 × 4 languages
    assert len({frozenset(line[1:]) for line in lines}) == len(lines)
    for label, first, second in lines:
        assert known[first][0] != known[second][0]
        assert (label == "1") == (known[first][1] == known[second][1])


@pytest.mark.slow
def test_target_means_keeps_the_speakers_of_language_trials(tmp_path):
    """Labels that do not name speakers contradict them; with --target-means they are speakers to resample."""
    path, n = language_list(tmp_path)
    _, without = run_audio(tmp_path, path, "--encoder", "logmel")
    code, summary = run_audio(tmp_path, path, "--encoder", "logmel", "--target-means", "same language")
    report = (tmp_path / "out/report.md").read_text()
    assert code == 0 and (summary["n_trials"], summary["n_speakers"], summary["units"]) == (n, 4, "speakers")
    assert summary["speakers_from"] == {"path": 16} and summary["parameters"]["target_means"] == "same language"
    assert report.startswith("# Verification: same language\n")
    assert "Target: same language (--target-means)" in report
    assert not any("contradict" in note for note in summary["notes"])
    assert any("contradict the speakers" in note for note in without["notes"])
    assert summary["metrics"]["eer"]["value"] == without["metrics"]["eer"]["value"]
    assert "target_means" not in without["parameters"]


@pytest.mark.slow
def test_target_means_counts_utterances_of_unknown_speakers(tmp_path):
    path, n = language_list(tmp_path)
    lines = [line.split() for line in path.read_text().splitlines()]
    rng = np.random.default_rng(0)
    flat = [f"{label} {a.replace('/', '-')} {b.replace('/', '-')} {rng.normal()}" for label, a, b in lines]
    (tmp_path / "flat.txt").write_text("\n".join(flat) + "\n")
    flags = ["--scores", str(tmp_path / "flat.txt"), "--target-means", "same language"]
    code, summary = run_audio(tmp_path, tmp_path / "flat.txt", *flags)
    assert code == 0 and summary["speakers_from"] == {"itself": 16} and summary["n_trials"] == n
    assert any(note.startswith("The speakers are unknown, so each utterance") for note in summary["notes"])


def run_audio(folder, path, *flags):
    out = folder / "out"
    code = evaluate_speaker.main(
        [
            "--quiet",
            "trials",
            "--trials",
            str(path),
            "--audio-root",
            str(DEMO),
            "--embedding-cache",
            str(folder / "store"),
            "--output-dir",
            str(out),
            "--bootstrap",
            "50",
            *map(str, flags),
        ]
    )
    return code, json.loads((out / "summary.json").read_text()) if code == 0 else None


def test_trials_with_encoder_on_demo_speech(tmp_path):
    path, n = small_list(tmp_path)
    code, summary = run_audio(tmp_path, path, "--encoder", "logmel")
    assert (code, summary["n_trials"], summary["n_speakers"]) == (0, n, 4)
    assert summary["metrics"]["eer"]["value"] < 0.4
    assert "|model:logmel" in summary["signature"]
    assert str(tmp_path) not in json.dumps(summary)
    assert len(read_trials(tmp_path / "out" / "scores.csv.gz")) == n
    _, again = run_audio(tmp_path, path, "--encoder", "logmel")
    assert again["metrics"] == summary["metrics"]


def test_missing_clip_is_an_error_unless_allowed(tmp_path, capsys):
    path, n = small_list(tmp_path)
    path.write_text(path.read_text() + "0 m1/en/00.mp3 m9/xx/77.mp3\n")
    assert run_audio(tmp_path, path, "--encoder", "logmel")[0] == 1
    assert "m9/xx/77.mp3 (not found)" in capsys.readouterr().err
    code, summary = run_audio(tmp_path, path, "--encoder", "logmel", "--allow-missing")
    assert (code, summary["n_trials"], summary["exclusions"]) == (0, n, [{"reason": "without a score", "count": 1}])


def test_unknown_encoder_is_a_usage_error(tmp_path, capsys):
    path, _ = small_list(tmp_path)
    assert run_audio(tmp_path, path, "--encoder", "magic")[0] == 2
    assert "unknown encoder" in capsys.readouterr().err


def test_simulate_then_trials(tmp_path, capsys):
    rows = (DEMO / "speakers.csv").read_text().splitlines()
    some = [row for row in rows[1:] if row.split(",")[1] in ("m1", "m2", "f1") and row.split(",")[3] == "en"]
    listed = [f"{DEMO}/{row}" for row in some]
    (tmp_path / "clean.csv").write_text("\n".join([rows[0], *listed]) + "\n")
    out = tmp_path / "carriers"
    command = ["--quiet", "carriers", str(tmp_path / "clean.csv"), "--output-dir", str(out)]
    assert evaluate_speaker.main([*command, "--conditions", "clean_codec_gsm"]) == 0
    assert "not official CASE results" in capsys.readouterr().out
    assert {path.stem for path in (out / "trials").glob("*.txt")} >= {"clean_codec_gsm"}
    code, _ = run_audio(tmp_path, out / "trials" / "clean_codec_gsm.txt", "--encoder", "logmel", "--audio-root", out)
    assert code == 0


# --- invalid audio ------------------------------------------------------------------------------------------


def recording(seconds, rate=16_000, channels=1, level=0.1, seed=0):
    noise = np.random.default_rng(seed).normal(0, level, (int(seconds * rate), channels))
    return noise if channels > 1 else noise[:, 0]


def truncated_wav(path):
    """Write a file whose header gives four times the actual number of samples."""
    soundfile.write(path, recording(1.0), 16_000, subtype="PCM_16")
    whole = bytearray(path.read_bytes())
    at = whole.index(b"data") + 4
    whole[at : at + 4] = (4 * 32_000).to_bytes(4, "little")
    path.write_bytes(whole)


def make_invalid(path, kind):
    path.unlink(missing_ok=True)
    if kind == "a directory":
        path.mkdir()
    elif kind == "a wrong header":
        truncated_wav(path)
    elif kind == "10 ms":
        soundfile.write(path, recording(0.01), 16_000)
    elif kind == "silence":
        soundfile.write(path, np.zeros(16_000), 16_000)
    elif kind == "text":
        path.write_text("this is no audio\n" * 100)
    elif kind == "an empty file":
        path.write_bytes(b"")


@pytest.fixture
def recordings(tmp_path):
    names = [f"spk{s}/{u}.wav" for s in range(3) for u in range(3)]
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, recording(0.5, seed=number), 16_000)
    pairs = [(a, b) for a in names for b in names if a < b]
    (tmp_path / "trials.txt").write_text("".join(f"{int(a[3] == b[3])} {a} {b}\n" for a, b in pairs))
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("a directory", "is a folder"),
        ("a wrong header", r"(ends after|header|cut)"),
        ("10 ms", "too short: 10 ms"),
        ("silence", "silent"),
        ("text", r"(not|no) "),
        ("an empty file", "empty"),
    ],
)
def test_invalid_audio_is_reported(recordings, capsys, kind, message):
    make_invalid(recordings / "spk1/1.wav", kind)
    flags = ["--encoder", "logmel", "--embedding-cache", recordings / "store", "--audio-root", recordings]
    code, summary = run(recordings, *flags, "--bootstrap", 0)
    stderr = capsys.readouterr().err
    assert (code, summary) == (1, None)
    assert ": 1 missing:" in stderr
    assert re.search(rf"spk1/1\.wav \(.*{message}", stderr), stderr
    assert not (recordings / "out" / "report.md").exists()
    code, summary = run(recordings, *flags, "--bootstrap", 0, "--allow-missing")
    assert (code, summary["exclusions"]) == (0, [{"reason": "without a score", "count": 8}])


def test_remote_embedding_cache_gives_the_scores_of_a_local_one(recordings):
    pytest.importorskip("fsspec", reason="the extra `s3` is not installed")
    flags = ["--encoder", "logmel", "--audio-root", recordings, "--bootstrap", 0, "--embedding-cache"]
    _, expected = run(recordings, *flags, recordings / "store")
    for _ in range(2):
        code, summary = run(recordings, *flags, f"memory://{recordings.name}/store")
        assert code == 0 and summary["metrics"] == expected["metrics"]


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (48_000, 1), (16_000, 2), (44_100, 2)])
def test_trials_accepts_other_rates_and_stereo(recordings, rate, channels):
    soundfile.write(recordings / "spk1/1.wav", recording(0.5, rate, channels), rate)
    flags = [
        "--encoder",
        "logmel",
        "--embedding-cache",
        recordings / "store",
        "--audio-root",
        recordings,
        "--bootstrap",
        0,
    ]
    assert run(recordings, *flags)[0] == 0


def test_embedding_of_other_dimension_is_reported(trials, capsys):
    with np.load(trials / "embeddings.npz") as given:
        vectors = {name: given[name] for name in given.files} | {"spk3/1.wav": np.ones(7)}
    np.savez(trials / "embeddings.npz", **vectors)
    assert run(trials, "--embeddings", trials / "embeddings.npz")[0] == 1
    assert "nor one vector of equal dimension per clip" in capsys.readouterr().err


def test_non_finite_score_is_reported(trials, capsys):
    lines = (trials / "scores.txt").read_text().splitlines()
    lines[5] = " ".join([*lines[5].split()[:2], "nan"])
    (trials / "scores.txt").write_text("\n".join(lines) + "\n")
    assert run(trials, "--scores", trials / "scores.txt")[0] == 1
    assert "line 6, column score: 'nan' is not a finite number" in capsys.readouterr().err


# --- unusual input files ------------------------------------------------------------------------------------


def test_file_with_two_names_is_embedded_for_both(recordings):
    absolute = recordings / "spk1/1.wav"
    with (recordings / "trials.txt").open("a") as file:
        file.write(f"1 {absolute} spk1/0.wav\n0 spk0/0.wav {absolute}\n")
    flags = [
        "--encoder",
        "logmel",
        "--embedding-cache",
        recordings / "store",
        "--audio-root",
        recordings,
        "--bootstrap",
        0,
    ]
    code, summary = run(recordings, *flags)
    assert (code, summary["n_trials"], summary["exclusions"]) == (0, 38, [])


def test_pair_with_two_scores_is_an_error(trials, capsys):
    lines = (trials / "scores.txt").read_text().splitlines()
    pair = " ".join(lines[0].split()[:2])
    (trials / "scores.txt").write_text("\n".join(["a/1 b/1 0.1", *lines, f"{pair} 99"]) + "\n")
    assert run(trials, "--scores", trials / "scores.txt")[0] == 1
    stderr = capsys.readouterr().err
    assert "1 pair has several scores" in stderr
    assert pair in stderr and "99" in stderr


def test_swapped_enrolment_and_test_are_reported(trials, capsys):
    rows = [line.split() for line in (trials / "scores.txt").read_text().splitlines()]
    score_of_pair = {}
    for a, b, s in rows:
        score_of_pair.setdefault(tuple(sorted((a, b))), s)
    pairs = list(score_of_pair.items())
    (trials / "trials.txt").write_text("".join(f"{int(a[3] == b[3])} {a} {b}\n" for (a, b), _ in pairs if a != b))
    (trials / "scores.txt").write_text("".join(f"{b} {a} {s}\n" for (a, b), s in pairs if a != b))
    assert run(trials, "--scores", trials / "scores.txt")[0] == 1
    assert "enrolment and test are swapped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "separator", "decimal", "encoding"),
    [
        ("enrol;test;score", ";", ",", "utf-8-sig"),
        ("enrollment,test,similarity", ",", ".", "utf-8"),
        ("Enrol\tTest\tScore", "\t", ".", "utf-8"),
    ],
)
def test_scores_from_spreadsheet(trials, header, separator, decimal, encoding):
    _, plain = run(trials, "--scores", trials / "scores.txt", "--bootstrap", 0)
    rows = [line.split() for line in (trials / "scores.txt").read_text().splitlines()]
    lines = [separator.join([a, b, s.replace(".", decimal)]) for a, b, s in rows]
    (trials / "scores.csv").write_text("\r\n".join([header, *lines]) + "\r\n", encoding=encoding, newline="")
    _, summary = run(trials, "--scores", trials / "scores.csv", "--bootstrap", 0)
    assert summary["metrics"] == plain["metrics"]


def test_names_with_spaces_need_tabs(recordings, capsys):
    (recordings / "sp k").mkdir()
    for number in range(2):
        soundfile.write(recordings / f"sp k/o {number}.wav", recording(0.5, seed=20 + number), 16_000)
    lines = ["1\tsp k/o 0.wav\tsp k/o 1.wav", "0\tsp k/o 0.wav\tspk0/0.wav", "0\tspk1/0.wav\tsp k/o 1.wav"]
    (recordings / "trials.txt").write_text("\n".join(lines) + "\n")
    flags = [
        "--encoder",
        "logmel",
        "--embedding-cache",
        recordings / "store",
        "--audio-root",
        recordings,
        "--bootstrap",
        0,
    ]
    code, summary = run(recordings, *flags)
    assert (code, summary["n_trials"], summary["n_speakers"]) == (0, 3, 3)
    (recordings / "trials.txt").write_text("\n".join(line.replace("\t", " ") for line in lines) + "\n")
    assert run(recordings, *flags)[0] == 1
    assert "If names contain spaces, separate values by tabs" in capsys.readouterr().err


def test_message_about_huge_line_is_short(trials, capsys):
    (trials / "trials.txt").write_text("1 " + "x" * 3_000_000 + "\n")
    assert run(trials, "--scores", trials / "scores.txt")[0] == 1
    assert len(capsys.readouterr().err) < 2000


def test_calibrate_on_evaluated_list_is_refused(trials, capsys):
    code, _ = run(trials, "--embeddings", trials / "embeddings.npz", "--calibrate", trials / "trials.txt")
    assert code == 1
    assert "it contains half of the evaluated trials or more" in capsys.readouterr().err


def test_unreachable_encoder_address_is_reported(trials, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert run(trials, "--encoder", f"http://127.0.0.1:{port}/v1")[0] == 2
    assert f"127.0.0.1:{port}/v1: no connection (" in capsys.readouterr().err


def test_output_dir_that_is_a_file_is_reported(trials, capsys):
    (trials / "out").write_text("a file")
    argv = ["--quiet", "trials", "--trials", str(trials / "trials.txt"), "--scores", str(trials / "scores.txt")]
    assert evaluate_speaker.main([*argv, "--output-dir", str(trials / "out")]) == 1
    assert "A file exists where a directory is needed" in capsys.readouterr().err


# --- the demo -----------------------------------------------------------------------------------------------


def test_common_flags_before_or_after_the_command(tmp_path, capsys):
    path, _ = small_list(tmp_path)
    for flags in (["--seed", "3", "trials"], ["trials", "--seed", "3"]):
        argv = [*flags, "--quiet", "--trials", str(path), "--encoder", "logmel", "--audio-root", str(DEMO)]
        argv += ["--bootstrap", "10", "--output-dir", str(tmp_path / "o"), "--embedding-cache", str(tmp_path / "s")]
        assert evaluate_speaker.main(argv) == 0
        assert json.loads((tmp_path / "o" / "summary.json").read_text())["seed"] == 3


@pytest.mark.slow
def test_demo_simulates_conditions_once(tmp_path, monkeypatch, capsys):
    rows = (DEMO / "case.csv").read_text().splitlines()
    some = [row for row in rows[1:] if row.split(",")[1] in ("m1", "m2", "f1", "f2")]
    (tmp_path / "case.csv").write_text("\n".join([rows[0], *(f"{DEMO}/{row}" for row in some)]) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate_speaker, "DEMO_SPEECH", tmp_path / "case.csv")
    assert evaluate_speaker.main(["--quiet"]) == 0
    first = capsys.readouterr().out
    assert "not official CASE results" in first
    assert "24 of 24 conditions, 4 speakers" in first
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    assert len(made) == 24 * len(some)
    assert evaluate_speaker.main(["--quiet"]) == 0
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime_ns for path in made} == made


# --- further checks -----------------------------------------------------------------------------------------


def test_speakers_that_contradict_labels_are_unknown(trials, capsys):
    """With one more outer folder, all utterances seem to have the same speaker."""
    for name in ("trials.txt", "scores.txt"):
        (trials / name).write_text((trials / name).read_text().replace("spk", "wav/spk"))
    argv = [
        "trials",
        "--trials",
        str(trials / "trials.txt"),
        "--scores",
        str(trials / "scores.txt"),
        "--bootstrap",
        "20",
    ]
    assert evaluate_speaker.main([*argv, "--output-dir", str(trials / "out")]) == 0
    summary = json.loads((trials / "out" / "summary.json").read_text())
    assert (summary["resampled"], summary["n_speakers"]) == ("utterances", 0)
    assert "labels contradict the speakers" in capsys.readouterr().err


def test_speakers_of_excluded_trials_do_not_count(trials):
    _, plain = run(trials, "--scores", trials / "scores.txt", "--bootstrap", 50)
    with (trials / "trials.txt").open("a") as file:
        file.writelines(f"0 spk0/0.wav new{i}/0.wav\n" for i in range(30))
    _, summary = run(trials, "--scores", trials / "scores.txt", "--bootstrap", 50, "--allow-missing")
    assert summary["n_speakers"] == plain["n_speakers"] == 10
    assert summary["metrics"] == plain["metrics"]


@pytest.mark.parametrize("prior", ["5", "1", "0", "nan"])
def test_p_target_must_be_between_0_and_1(trials, prior, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(trials, "--scores", trials / "scores.txt", "--p-target", prior)
    assert stopped.value.code == 2


@pytest.mark.parametrize("flags", [["--subtract-mean", "mean.npy"], ["--cohort", "cohort"], ["--enrolments", "models"]])
def test_back_end_options_need_embeddings(trials, flags, capsys):
    assert run(trials, "--scores", trials / "scores.txt", *flags)[0] == 2
    assert "need --encoder SPEC or --embeddings FILE" in capsys.readouterr().err


def test_new_run_replaces_scores_of_previous_system(trials):
    run(trials, "--embeddings", trials / "embeddings.npz", "--bootstrap", 0)
    path = trials / "out" / "scores.csv.gz"
    first = read_trials(path).scores
    run(trials, "--scores", trials / "scores.txt", "--bootstrap", 0)
    assert not np.array_equal(read_trials(path).scores, first)


def test_speaker_map_not_utf8_is_reported(trials, capsys):
    (trials / "map").write_bytes("spk0/0.wav Jürgen\n".encode("latin-1"))
    assert run(trials, "--scores", trials / "scores.txt", "--speakers", trials / "map")[0] == 1
    assert "line 1: is not UTF-8" in capsys.readouterr().err


def test_leaderboard_without_clean_errors_has_no_score_v1(tmp_path):
    path = results_file(tmp_path, "Perfect", 0.02)
    results = json.loads(path.read_text())
    results["protocol_results"]["clean_clean"]["eer"] = 0.0
    path.write_text(json.dumps(results))
    assert evaluate_speaker.main(["leaderboard", str(path), "--output-dir", str(tmp_path / "out")]) == 0
    rows = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert {row["model_name"]: row["case_score_v1"] for row in rows}["Perfect"] is None


@pytest.mark.parametrize("content", ["[" * 200_000, '{"protocol_results": {"clean_clean": 1' + "0" * 400 + "}}"])
def test_malicious_results_files_are_rejected(tmp_path, content, capsys):
    (tmp_path / "results.json").write_text(content)
    (tmp_path / "model_card.md").write_text("- " + " " * 50_000 + "x\n")
    out = str(tmp_path / "out")
    assert evaluate_speaker.main(["leaderboard", str(tmp_path / "results.json"), "--output-dir", out]) == 1
    assert evaluate_speaker.main(["check", str(tmp_path)]) == 1


# --- sources of speakers, plausibility of scores ------------------------------------------------------------


def run_with_output(trials, capsys, *flags):
    """Summary, report and warnings of a run."""
    argv = ["trials", "--trials", str(trials / "trials.txt"), "--output-dir", str(trials / "out"), *map(str, flags)]
    assert evaluate_speaker.main(argv) == 0
    summary = json.loads((trials / "out" / "summary.json").read_text())
    return summary, (trials / "out" / "report.md").read_text(), capsys.readouterr().err


def test_incomplete_speaker_map_is_reported_everywhere(trials, capsys):
    flat = (trials / "trials.txt").read_text().replace("/", "_")
    (trials / "trials.txt").write_text(flat)
    (trials / "flat.txt").write_text((trials / "scores.txt").read_text().replace("/", "_"))
    names = sorted({name for line in flat.splitlines() for name in line.split()[1:]})
    (trials / "map").write_text("".join(f"{name} {name.split('_')[0]}\n" for name in names[1:]))
    flags = ["--scores", trials / "flat.txt", "--speakers", trials / "map"]
    summary, report, warned = run_with_output(trials, capsys, *flags)
    assert summary["speakers_from"] == {"map": 39, "linked": 1}
    assert (summary["resampled"], summary["n_speakers"]) == ("speakers", 10)
    assert "no speaker for 1 of 40 utterances (spk0_0.wav): 1 assigned by target trials." in warned
    for file in trials.rglob("*.json"):
        assert str(trials) not in file.read_text(encoding="utf-8")
    assert summary["notes"] == [shown_text(warned.strip().splitlines()[-1])]
    assert "Speaker labels of the utterances: 39 from --speakers, 1 from target trials." in report
    (trials / "map").write_text("".join(f"{name} {name.split('_')[0]}\n" for name in names))
    complete, report, warned = run_with_output(trials, capsys, *flags)
    assert (complete["speakers_from"], complete["notes"], warned) == ({"map": 40}, [], "")
    assert complete["metrics"] == summary["metrics"]


def test_summary_records_source_of_speakers(trials, capsys):
    by_path, report, _ = run_with_output(trials, capsys, "--scores", trials / "scores.txt")
    assert (by_path["speakers_from"], by_path["notes"]) == ({"path": 40}, [])
    assert "Speaker labels of the utterances: 40 from the first directory of the path." in report
    for name in ("trials.txt", "scores.txt"):
        (trials / name).write_text((trials / name).read_text().replace("/", "_"))
    linked, _, _ = run_with_output(trials, capsys, "--scores", trials / "scores.txt")
    assert linked["speakers_from"] == {"linked": 40}


def test_scores_without_names_give_the_same_metrics(trials, capsys):
    by_name, _, _ = run_with_output(trials, capsys, "--scores", trials / "scores.txt")
    (trials / "alone.txt").write_text("".join(line.split()[2] + "\n" for line in (trials / "scores.txt").open()))
    alone, _, warned = run_with_output(trials, capsys, "--scores", trials / "alone.txt")
    assert (alone["metrics"], warned) == (by_name["metrics"], "")


def test_distances_as_scores_are_warned_about(trials, capsys):
    rows = [line.split() for line in (trials / "scores.txt").open()]
    (trials / "far.txt").write_text("".join(f"{a} {b} {1 - float(s)}\n" for a, b, s in rows))
    summary, report, warned = run_with_output(trials, capsys, "--scores", trials / "far.txt")
    assert "far.txt: targets score lower than non-targets" in warned and "look like distances" in warned
    assert summary["notes"] == [shown_text(warned.strip())]
    assert "look like distances" in report
    _, _, warned = run_with_output(
        trials, capsys, "--scores", trials / "scores.txt", "--compare-with", trials / "far.txt"
    )
    assert "far.txt: targets score lower than non-targets" in warned


def test_labels_as_scores_are_warned_about(trials, capsys):
    rows = [line.split() for line in (trials / "trials.txt").open()]
    (trials / "labels.txt").write_text("".join(f"{a} {b} {y}\n" for y, a, b in rows))
    assert run(trials, "--scores", trials / "labels.txt") == (1, None)
    assert (
        "labels.txt: 1 fault\n  line 1: contains no scores: all values next to the names are labels"
        in capsys.readouterr().err
    )
    lines = {"s.csv": ["enrol,test,score", *(f"{a},{b},{y}" for y, a, b in rows)], "alone.txt": [y for y, _, _ in rows]}
    for name, text in lines.items():
        (trials / name).write_text("\n".join(text) + "\n")
        summary, _, warned = run_with_output(trials, capsys, "--scores", trials / name)
        assert f"{name}: all scores are 0 or 1. Check that they are scores" in warned
        assert summary["notes"] == [shown_text(warned.strip())]


@pytest.mark.parametrize("order", [1, -1])
def test_labels_that_differ_from_list_are_counted(trials, capsys, order):
    rows = [(a, b, s, y) for (y, _, _), (a, b, s) in zip(
        (line.split() for line in (trials / "trials.txt").open()),
        (line.split() for line in (trials / "scores.txt").open()), strict=True)]  # fmt: skip
    other = [[a, b, s, "1" if y == "0" and i < 100 else y] for i, (a, b, s, y) in enumerate(rows)]
    n = len({(a, b) for a, b, *_, y in rows[:100] if y == "0"})
    (trials / "both.txt").write_text("".join(" ".join(row) + "\n" for row in other[::order]))
    plain, _, _ = run_with_output(trials, capsys, "--scores", trials / "scores.txt")
    summary, _, warned = run_with_output(trials, capsys, "--scores", trials / "both.txt")
    assert summary["metrics"] == plain["metrics"]
    match = re.search(
        r"both\.txt: (\d+) of its labels differ from the list, for example for spk\S+ spk\S+\. The labels",
        warned,
    )
    assert match and int(match[1]) >= n - 10  # only the first label of a repeated pair is compared


def test_list_with_scores_but_no_labels_is_an_error(trials, capsys):
    rows = [line.split() for line in (trials / "trials.txt").open()]
    (trials / "trials.txt").write_text("".join(f"{a} {b} {y}\n" for y, a, b in rows) + "a b 2\n")
    assert run(trials, "--scores", trials / "scores.txt")[0] == 1
    assert "has no labels, which error rates require. The last values are read as scores" in capsys.readouterr().err


# --- missing inputs are reported before anything is embedded ------------------------------------------------


def test_missing_utterances_of_all_lists_are_reported_first(recordings, capsys):
    names = [f"spk{s}/{u}.wav" for s in range(3) for u in range(3)]
    (recordings / "trials.txt").write_text("1 model0 spk0/1.wav\n0 model0 gone/1.wav\n1 spk1/0.wav spk1/1.wav\n")
    (recordings / "models").write_text("model0 spk0/0.wav gone/2.wav\n")
    (recordings / "cohort").write_text("".join(f"{name} {name[:4]}\n" for name in [*names, "gone/3.wav"]))
    (recordings / "calibrate.txt").write_text("1 spk2/0.wav spk2/1.wav\n0 spk2/0.wav gone/4.wav\n")
    flags = ["--encoder", "logmel", "--embedding-cache", recordings / "store", "--cohort", recordings / "cohort"]
    flags += ["--calibrate", recordings / "calibrate.txt", "--enrolments", recordings / "models"]
    assert run(recordings, *flags) == (1, None)
    stderr = capsys.readouterr().err
    for number in (1, 2, 3, 4):
        assert f"gone/{number}.wav (not found)" in stderr
    assert "trials.txt: 2 missing:" in stderr and "cohort: 1 missing:" in stderr
    assert "Use --allow-missing to exclude the trials" in stderr
    assert not (recordings / "store").exists()
    (recordings / "cohort").write_text("".join(f"{name} {name[:4]}\n" for name in names))
    flags += ["--allow-missing", "--top-n", 2, "--no-intervals"]
    (recordings / "trials.txt").write_text((recordings / "trials.txt").read_text() + "0 spk1/0.wav spk2/0.wav\n")
    (recordings / "calibrate.txt").write_text(
        "1 spk2/0.wav spk2/1.wav\n0 spk2/0.wav spk0/2.wav\n0 spk2/0.wav gone/4.wav\n"
    )
    code, summary = run(recordings, *flags)
    assert (code, summary["exclusions"]) == (0, [{"reason": "without a score", "count": 2}])


def test_missing_lists_and_faults_are_reported_together(trials, capsys):
    flags = ["--embeddings", trials / "embeddings.npz"]
    assert run(trials, *flags, "--cohort", trials / "no-cohort", "--speakers", trials / "no-map") == (1, None)
    stderr = capsys.readouterr().err
    assert "2 input files do not exist" in stderr and "no-cohort" in stderr and "no-map" in stderr
    (trials / "cohort").write_text("spk0/0.wav ann x\n")
    (trials / "models").write_text("model\n")
    assert run(trials, *flags, "--cohort", trials / "cohort", "--enrolments", trials / "models") == (1, None)
    stderr = capsys.readouterr().err
    assert "cohort: 1 fault" in stderr and "models: 1 fault" in stderr


def test_missing_mean_is_reported_before_embedding(recordings, capsys):
    (recordings / "cohort").write_text("spk0/0.wav ann\nspk1/0.wav ben\n")
    flags = ["--encoder", "logmel", "--embedding-cache", recordings / "store", "--cohort", recordings / "cohort"]
    assert run(recordings, *flags, "--subtract-mean", recordings / "mean.npy") == (2, None)
    assert "mean.npy does not exist" in capsys.readouterr().err
    assert not (recordings / "store").exists()


def test_existing_file_without_audio_suffix_is_used(recordings):
    for name in ("spk0/0", "spk1/1.take2"):
        (recordings / f"{name.split('.')[0]}.wav").rename(recordings / name)
    text = (recordings / "trials.txt").read_text()
    (recordings / "trials.txt").write_text(text.replace("spk0/0.wav", "spk0/0").replace("spk1/1.wav", "spk1/1.take2"))
    flags = ["--encoder", "logmel", "--embedding-cache", recordings / "store", "--no-intervals"]
    code, summary = run(recordings, *flags)
    assert (code, summary["n_trials"]) == (0, 36)


# --- precomputed embeddings of the cohort -------------------------------------------------------------------


def test_cohort_embeddings(trials, capsys):
    rng = np.random.default_rng(3)
    others = {f"other{s}/{u}.wav": rng.normal(size=16) for s in range(5) for u in range(2)}
    (trials / "cohort").write_text("".join(f"{name} {name.split('/')[0]}\n" for name in others))
    with np.load(trials / "embeddings.npz") as given:
        own = {name: given[name] for name in given.files}
    np.savez(trials / "cohort.npz", **others)
    np.savez(trials / "all.npz", **own, **others)
    cohort = ["--cohort", trials / "cohort", "--top-n", 3]
    _, together = run(trials, "--embeddings", trials / "all.npz", *cohort)
    separate = ["--embeddings", trials / "embeddings.npz", *cohort, "--cohort-embeddings"]
    _, apart = run(trials, *separate, trials / "cohort.npz")
    assert apart["metrics"] == together["metrics"]
    assert apart["back_end"]["cohort_embeddings"] == "cohort.npz"
    assert "cohort.npz" in [row["path"] for row in apart["inputs"]]
    assert "cohort_embeddings" not in together["back_end"]
    del others["other0/0.wav"]
    np.savez(trials / "cohort.npz", **others)
    assert run(trials, *separate, trials / "cohort.npz")[0] == 1
    assert "other0/0.wav (not among the 9 ids of cohort)" in capsys.readouterr().err
    np.savez(trials / "cohort.npz", **{name: vector[:4] for name, vector in others.items()})
    assert run(trials, *separate, trials / "cohort.npz")[0] == 1
    assert "cohort.npz: has 4 dimensions, but embeddings has 16" in capsys.readouterr().err
    assert run(trials, "--embeddings", trials / "all.npz", "--cohort-embeddings", trials / "cohort.npz")[0] == 2
    assert "--cohort-embeddings FILE needs --cohort FILE" in capsys.readouterr().err


# --- runs by system -----------------------------------------------------------------------------------------


def saved_systems(folder):
    return sorted(path.name for path in (folder / "out/runs").iterdir() if path.is_dir())


def test_runs_are_saved_by_system(trials, capsys):
    run(trials, "--embeddings", trials / "embeddings.npz", "--no-intervals")
    saved = trials / "out/runs/embeddings/speaker/trials"
    first = contents(saved)
    assert set(first) == {"summary.json", "report.md", "report.tex", "det.svg", "scores.csv.gz", "speakers.csv.gz"}
    assert {name: (trials / "out" / name).read_bytes() for name in first} == first
    run(trials, "--scores", trials / "scores.txt", "--no-intervals")
    assert saved_systems(trials) == ["embeddings", "scores"]
    assert contents(saved) == first
    run(trials, "--scores", trials / "scores.txt", "--no-intervals", "--model-name", "My system (v2)")
    assert saved_systems(trials) == ["My-system-v2", "embeddings", "scores"]


def test_other_system_of_same_name_is_saved_separately(trials, capsys):
    run(trials, "--embeddings", trials / "embeddings.npz", "--no-intervals")
    first = contents(trials / "out/runs/embeddings")
    with np.load(trials / "embeddings.npz") as given:
        other = {name: given[name] + 1 for name in given.files}
    np.savez(trials / "embeddings.npz", **other)
    _, _, warned = run_with_output(trials, capsys, "--embeddings", trials / "embeddings.npz", "--no-intervals")
    assert saved_systems(trials) == ["embeddings", "embeddings-2"]
    assert contents(trials / "out/runs/embeddings") == first
    assert "contains runs of another system named embeddings" in warned and "embeddings-2/speaker/trials" in warned
    np.save(trials / "mean.npy", np.ones(16))
    run(trials, "--embeddings", trials / "embeddings.npz", "--no-intervals", "--subtract-mean", trials / "mean.npy")
    assert saved_systems(trials) == ["embeddings", "embeddings-2", "embeddings-3"]
    run(trials, "--embeddings", trials / "embeddings.npz", "--no-intervals")
    assert saved_systems(trials) == ["embeddings", "embeddings-2", "embeddings-3"]


def test_scores_in_list_identify_the_system(trials):
    lines = zip((trials / "trials.txt").open(), (trials / "scores.txt").open(), strict=True)
    rows = [f"{scored.rstrip()} {labelled[0]}" for labelled, scored in lines]
    for n in (440, 440, 439):
        (trials / "trials.txt").write_text("\n".join(rows[:n]) + "\n")
        run(trials, "--no-intervals")
    assert saved_systems(trials) == ["trials", "trials-2"]


def test_dataset_id_writes_results_for_hubs(trials):
    scores_file = trials / "scores.txt"
    _, summary = run(trials, "--scores", scores_file, "--dataset-id", "org/trials", "--no-intervals")
    entries, mteb = read_hub_files(trials / "out")
    assert {name: entry["value"] for name, entry in entries.items()} == {
        f"trials.{metric}": summary["metrics"][metric]["value"] for metric in ("eer", "min_dcf")
    }
    assert entries["trials.eer"]["notes"] == f"n = 440; no confidence interval; {summary['signature']}"
    (scores,) = mteb["scores"]["test"]
    assert (scores["main_score"], scores["n"]) == (summary["metrics"]["eer"]["value"], 440)
    assert mteb["dataset_revision"] is None and "eer_low" not in scores
    run(trials, "--scores", scores_file)
    assert not list(trials.rglob("eval_results.yaml"))


def test_log_sends_the_headline_numbers(trials, logged, monkeypatch, capsys):
    log = ["--scores", trials / "scores.txt", "--dataset-id", "org/trials", *LOG]
    assert run(trials, *log)[0] == 0
    check_logged(logged, trials / "out", name="scores", suite="trials")
    (trials / "out/summary.json").unlink()
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert run(trials, *log) == (2, None)
    assert "`uv run --extra wandb evaluate_speaker.py …`" in capsys.readouterr().err and len(logged) == 1
