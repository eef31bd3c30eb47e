"""probe.py on real audio, tar files and tiny models: every task type, every kind of encoder, invalid inputs."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

pytest.importorskip("torch", reason="the extra `torch` is not installed")

import probe
from earmark.cli import Invocation
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.registry import load_encoder
from earmark.probing import probe as probe_of_a_task
from earmark.probing import releases, task_types
from earmark.probing import run as probe_run
from earmark.probing.evaluation import CALIBRATION_ERROR, OF_CLASSES
from earmark.probing.jobs import Job
from earmark.probing.layouts import locate_task
from earmark.probing.options import ProbeSettings, RunOptions
from earmark.probing.outcome import TaskOutcome, stored_outcome
from earmark.probing.schema import ClassTable, Failure, ProbeSummary
from earmark.probing.task_files import read_task_file
from earmark.probing.xares import published_tasks
from earmark.report.schema import read_summary
from tests.conftest import ROOT
from tests.file_server import file_server
from tests.hub_files import LOG, check_logged, read_hub_files
from tests.models.encoders.sources import HEAR, XARES, XARES_LLM, case, layered, save
from tests.probing import release_trees
from tests.probing.origins import a_task_origin

RATE = 16_000
QUICK = ["--seeds", "1", "--bootstrap", "20"]
CLASSES = {"low": 300, "mid": 900, "high": 2700}  # Hz


def tone(hertz, seed=0, seconds=0.4):
    """A tone in noise; every seed gives another signal."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    return (0.2 * np.sin(2 * np.pi * (hertz * t + rng.random())) + rng.normal(0, 0.01, len(t))).astype(np.float32)


def wav(waveform):
    out = io.BytesIO()
    soundfile.write(out, waveform, RATE, format="wav")
    return out.getvalue()


def pack(path, pairs):
    """A tar file of pairs {name: (waveform or bytes, JSON content)}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, (sound, label) in pairs.items():
            audio = sound if isinstance(sound, bytes) else wav(sound)
            for suffix, content in (("wav", audio), ("json", json.dumps(label).encode())):
                info = tarfile.TarInfo(f"{name}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def split(n, seed, content=lambda name: {"label": name}, seconds=0.4, prefix=""):
    """Pairs of n clips of each class; `content` gives the JSON of a class."""
    return {
        f"{prefix}{i:04}_{seed}_{name}": (tone(hertz, 1000 * seed + i, seconds), content(name))
        for i in range(n)
        for name, hertz in CLASSES.items()
    }


def tars(root, task, patterns, n=(6, 2, 3), **how):
    """The tar files of a published task, with n clips of each class per file."""
    for seed, (pattern, count) in enumerate(zip(patterns, n, strict=False), start=1):
        pack(root / task / f"{pattern}-0.tar", split(count, seed, **how))


def write_task(folder, name, toml="", n=(6, 2, 3), labels=lambda i, c: c, kind="clip", epochs=4):
    """Write a user's task (TOML, manifest, clips of three tones); return the path of the TOML file."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    lines = ["path,label,split"]
    for part, (part_name, count) in enumerate(zip(("train", "valid", "test"), n, strict=True)):
        for i in range(count):
            for c, (label, hertz) in enumerate(CLASSES.items()):
                path = f"{name}/{part}-{i}-{label}.wav"
                (folder / path).write_bytes(wav(tone(hertz, 100 * part + 10 * i + c)))
                lines.append(f"{path},{labels(i, label)},{part_name}")
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    file = folder / f"{name}.toml"
    file.write_text(
        f'name = "{name}"\ntype = "{kind}"\ndata = "{name}.csv"\nepochs = {epochs}\nbatch_size = 4\n{toml}\n'
    )
    return file


def run(tmp_path, *tasks, code=0, encoder="logmel", flags=(), out="out", quiet=True):
    """Run probe.py on these tasks; return its result folder."""
    words = ["--encoder", encoder, "--data-root", tmp_path / "data", "--embedding-cache", tmp_path / "store"]
    words += ["--output-dir", tmp_path / out, "--device", "cpu", *QUICK, *(["--quiet"] if quiet else []), *flags]
    assert probe.main([*map(str, words), "--tasks", *map(str, tasks)]) == code
    folders = sorted((tmp_path / out).iterdir()) if (tmp_path / out).exists() else []
    return folders[0] if folders else None


def summary(folder):
    return read_summary(ProbeSummary, folder / "summary.json").model_dump()


FURTHER = (*OF_CLASSES[1:], CALIBRATION_ERROR)


def values(folder, further=False):
    """{(task, track, recipe, metric, layer): score}; clip tasks of three classes have macro F1 beside accuracy."""
    keys = ("task", "track", "protocol", "metric", "layer")
    rows = [row for row in summary(folder)["scores"] if further or row["metric"] not in FURTHER]
    return {tuple(row[key] for key in keys): row["score"] for row in rows}


def errors(folder):
    return {failure["task"]: failure["error"] for failure in summary(folder)["failed"]}


# --- every type of task -------------------------------------------------------------------------------------

WORDS = {"low": "a dog barks", "mid": "rain on a roof", "high": "birds sing"}
TIMES = {"low": 0.0, "mid": 0.1, "high": 0.2}


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """Result folder of a run over published tasks of all types except speech recognition."""
    folder = tmp_path_factory.mktemp("everything")
    root = folder / "data"
    numbers = {"low": 3, "mid": 20, "high": 7}
    for fold in range(1, 6):
        pack(root / f"esc50/wds-audio-fold-{fold}-0.tar", split(2, fold, lambda name: {"label": numbers[name]}))
    tars(root, "fsd50k", ["fsd50k_train", "fsd50k_validation", "fsd50k_eval"],
         content=lambda name: {"soundevent": f"{name};any" if name != "low" else "low"})  # fmt: skip
    tars(root, "desed", ["wds-audio-train", "wds-audio-eval"], n=(6, 3), seconds=1.5,
         content=lambda name: [{"onset": TIMES[name], "offset": 1.2, "label": name}])  # fmt: skip
    tars(root, "maestro", ["maestro_train", "maestro_valid", "maestro_test"], n=(3, 1, 2),
         content=lambda name: [{"start": TIMES[name], "end": 0.35, "note": 60 + len(name)}])  # fmt: skip
    tars(root, "librispeechphoneme", ["train-clean-100", "dev-clean", "test-clean"],
         content=lambda name: {"phonemes": [{"start": 0.0, "end": 0.3, "phone": name}]})  # fmt: skip
    tars(root, "clotho", ["clotho_development", "clotho_evaluation", "clotho_validation"], n=(5, 1, 1),
         content=lambda name: {f"caption_{i}": f"{WORDS[name]} {'again ' * i}" for i in range(1, 6)})  # fmt: skip
    tars(root, "speechocean762", ["speechocean762_train", "speechocean762_test"], n=(6, 3),
         content=lambda name: {"accuracy": len(name), "fluency": 1, "prosodic": 2.5})  # fmt: skip
    tars(root, "asvspoof2015", ["asvspoof_train", "asvspoof_valid", "asvspoof_eval"],
         content=lambda name: {"binary_spoof": "human" if name == "low" else "spoof"})  # fmt: skip
    names = ["esc50", "fsd50k", "desed", "maestro", "librispeechphoneme", "clotho", "speechocean762", "asvspoof2015"]
    return run(folder, *names)


@pytest.mark.slow
def test_run_scores_every_task_type_with_both_recipes(everything):
    scores = values(everything, further=True)
    metrics = {
        "esc50": [*OF_CLASSES], "fsd50k": ["mAP"], "desed": ["segment_f1_macro"],
        "maestro": ["segment_f1_micro"],
        "librispeechphoneme": ["frame_accuracy"], "clotho": ["recall_at_1"], "speechocean762": ["mse", "mae"],
        "asvspoof2015": ["eer", *OF_CLASSES],
    }  # fmt: skip
    linear = {(task, protocol, metric) for task, track, protocol, metric, _ in scores if track == "linear"}
    expected = {(t, p, m) for t, listed in metrics.items() for m in listed for p in ("xares", "strict")}
    assert linear == expected | {(task, "strict", CALIBRATION_ERROR) for task in ("esc50", "asvspoof2015")}
    assert {task for task, track, *_ in scores if track == "knn"} == {"esc50", "asvspoof2015"}
    crops = {(row["task"], row["protocol"]) for row in summary(everything)["scores"] if row["counts"] != "clips"}
    assert crops == {("fsd50k", "xares")}  # the only task with crops
    for (*_, metric, _), score in scores.items():
        assert score["value"] is not None and score["low"] <= score["high"]
        assert 0 <= score["value"] <= (1 if metric not in ("mse", "mae") else 100)


def test_run_separates_tones_in_every_task_type(everything):
    scores = values(everything)
    for task, track, metric, least in [
        ("esc50", "linear", "accuracy", 0.9), ("esc50", "knn", "accuracy", 0.9), ("fsd50k", "linear", "mAP", 0.8),
        ("desed", "linear", "segment_f1_macro", 0.4), ("maestro", "linear", "segment_f1_micro", 0.5),
        ("librispeechphoneme", "linear", "frame_accuracy", 0.8), ("clotho", "linear", "recall_at_1", 0.6),
        ("asvspoof2015", "linear", "accuracy", 0.9),
    ]:  # fmt: skip
        assert scores[task, track, "strict", metric, None]["value"] >= least, task
    assert scores["asvspoof2015", "linear", "strict", "eer", None]["value"] <= 0.1
    mse = scores["speechocean762", "linear", "strict", "mse", None]["value"]
    assert mse < 2  # labels are 3 or 4, 1 and 2.5


def test_run_writes_all_files_without_local_paths(everything):
    files = {path.relative_to(everything).as_posix(): path for path in everything.rglob("*") if path.is_file()}
    assert {"scores.csv", "summary.json", "report.md", "report.tex", "per_class/esc50.csv"} <= files.keys()
    assert {f"predictions/esc50_{t}_{p}.csv" for t in ("linear", "knn") for p in ("xares", "strict")} <= files.keys()
    assert [name for name, path in files.items() if str(everything.parents[1]).encode() in path.read_bytes()] == []
    table = pd.read_csv(files["scores.csv"])
    assert len(table) == len(values(everything, further=True))
    assert list(table) == [
        *("task", "formal_name", "domain", "track", "protocol", "metric", "score", "low", "high", "n_test", "counts"),
        *("weight", "folds", "n_heads", "layer", "shots", "chosen"),
    ]
    assert all(row["seconds"] > 0 for row in summary(everything)["scores"])
    predictions = pd.read_csv(files["predictions/esc50_linear_strict.csv"], dtype=str)
    assert (
        len(predictions) == 30
        and set(predictions["label"]) == {"3", "7", "20"}
        and set(predictions["fold"]) == set("12345")
    )
    assert len(pd.read_csv(files["per_class/esc50.csv"])) == 3 * 4
    columns = {"fsd50k": "average_precision", "desed": "f1", "maestro": "f1", "librispeechphoneme": "taken_for"}
    assert {
        name: column for name, column in columns.items() if column in pd.read_csv(files[f"per_class/{name}.csv"])
    } == columns
    report = files["report.md"].read_text()
    for phrase in (
        "ESC-50",
        "- ESC-50: 3 of 50 classes, 30 test clips, published: 2,000",
        "- ASV2015: 9 test clips",
        "**strict**",
        "probe|track:knn|protocol:strict|metric",
    ):
        assert phrase in report
    assert re.search(r"\| eer \| \d+\.\d\d % \[\d", report)  # in per cent


def test_report_compares_no_other_data_with_published_encoders(everything):
    assert "Comparison with published encoders" not in (everything / "report.md").read_text()
    assert [one["task"] for one in summary(everything)["not_compared"]] == [
        "esc50", "fsd50k", "desed", "clotho", "asvspoof2015",
    ]  # fmt: skip


def test_report_compares_published_data_with_published_encoders(tmp_path, monkeypatch):
    monkeypatch.setattr(probe_of_a_task, "differences_from_published", lambda *_, **__: "")
    tars(tmp_path / "data", "asvspoof2015", ["asvspoof_train", "asvspoof_valid", "asvspoof_eval"],
         content=lambda name: {"binary_spoof": "human" if name == "low" else "spoof"})  # fmt: skip
    report = (run(tmp_path, "asvspoof2015", flags=["--track", "knn"]) / "report.md").read_text()
    assert "Comparison with published encoders: knn, xares_full" in report and "Not compared" not in report


def test_chosen_is_empty_for_xares(everything):
    rows = summary(everything)["scores"]
    assert all(row["chosen"] == "" for row in rows if row["protocol"] == "xares")
    assert all(row["chosen"].startswith(("learning rate", "k ")) for row in rows if row["protocol"] == "strict")
    assert {(row["folds"], row["n_test"]) for row in rows if row["task"] == "esc50"} == {(5, 30)}


@pytest.mark.slow
def test_run_asr_with_ctc_and_language_model(tmp_path):
    pytest.importorskip("sentence_transformers", reason="the extra `clap` is not installed")
    model = language_model(tmp_path / "tiny-qwen2")
    texts = {"low": "Low, low.", "mid": "mid mid", "high": "HIGH high"}
    task = write_task(tmp_path, "words", kind="asr", n=(2, 1, 2), labels=lambda i, c: f'"{texts[c]}"', epochs=2)
    folder = run(tmp_path, task, flags=["--language-model", str(model), "--track", "linear"])
    scores = values(folder)
    assert set(scores) == {("words", "linear", protocol, "word_accuracy", None) for protocol in ("xares", "strict")}
    for protocol in ("xares", "strict"):
        predictions = pd.read_csv(folder / f"predictions/words_linear_{protocol}.csv", keep_default_na=False)
        assert sorted(set(predictions["label"])) == ["high high", "low low", "mid mid"] and len(predictions) == 6
    (published,) = (row for row in summary(folder)["scores"] if row["protocol"] == "xares")
    assert (published["n_test"], published["counts"]) == (6, "utterances")
    assert re.fullmatch(r"tiny-qwen2(; [1-6] of 6 transcripts cut at the length limit)?", published["chosen"])
    assert not [path for path in folder.rglob("*.*") if path.is_file() and str(tmp_path).encode() in path.read_bytes()]


def test_run_counts_utterances_too_short_for_ctc(tmp_path):
    said = {"low": "low", "mid": "mid", "high": "high"}
    task = write_task(
        tmp_path, "words", kind="asr", n=(3, 1, 1), labels=lambda i, c: said[c] * (40 if i == 2 else 1), epochs=1
    )  # 40 frames of 10 ms; the third training clips have at least 120 letters
    folder = run(tmp_path, task, flags=["--track", "linear", "--recipe", "strict"])
    reason = "training utterances with fewer frames than CTC needs for their transcripts (words, linear, strict)"
    assert summary(folder)["exclusions"] == [{"reason": reason, "count": 3}]
    assert f"Excluded: 3 {reason}" in (folder / "report.md").read_text()


def language_model(folder):
    """A tiny Qwen2 with random weights, saved with its tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from tests.models.tiny import tokenizer

    words = tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Qwen2Config(
        vocab_size=len(words), num_key_value_heads=1, max_position_embeddings=512, bos_token_id=None,
        eos_token_id=words.eos_token_id, **sizes,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


# --- resuming ----------------------------------------------------------------------------------------------


def outcome(folder):
    """Scores and prediction files."""
    predictions = {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()}
    return values(folder), predictions


def test_finished_task_is_reused_unless_changed(tmp_path):
    tasks = [write_task(tmp_path, "one"), write_task(tmp_path, "two")]
    folder = run(tmp_path, *tasks)
    files = [*(folder / "tasks").iterdir(), *(path for path in (tmp_path / "store").rglob("*") if path.is_file())]
    before = {path: path.stat().st_mtime_ns for path in files if path.suffix in (".json", ".npy", ".bin")}
    assert len(before) >= 3
    first = outcome(folder)
    run(tmp_path, *tasks)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert outcome(folder) == first
    manifest = tmp_path / "one.csv"
    manifest.write_text(manifest.read_text().replace("one/0-0-low.wav,low", "one/0-0-low.wav,mid"))
    run(tmp_path, *tasks)
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"one.json"}


@pytest.mark.slow
def test_changed_settings_or_encoder_rerun_task(tmp_path):
    task = write_task(tmp_path, "one")
    folder = run(tmp_path, task)
    file = folder / "tasks/one.json"
    keys = [json.loads(file.read_text())["key"]]
    task.write_text(task.read_text().replace("epochs = 4", "epochs = 5"))
    for flags in ((), ("--seed", "1"), ("--track", "knn")):
        run(tmp_path, task, flags=flags)
        keys.append(json.loads(file.read_text())["key"])
    assert len(set(keys)) == 4
    assert {path.stem for path in (folder / "predictions").glob("one_*.csv")} == {"one_knn_xares", "one_knn_strict"}
    run(tmp_path, task, flags=["--shots", "2"])
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"logmel", "logmel-2-shot"}


@pytest.mark.slow
def test_changed_audio_or_lost_predictions_rerun_task(tmp_path):
    task = write_task(tmp_path, "one")
    folder = run(tmp_path, task)
    first, table = outcome(folder), folder / "predictions/one_knn_strict.csv"
    table.unlink()
    run(tmp_path, task)
    assert outcome(folder) == first
    clip = tmp_path / "one/2-0-low.wav"
    state = clip.stat()
    clip.write_bytes(wav(tone(CLASSES["high"], 7)))
    os.utime(clip, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert clip.stat().st_size == state.st_size
    run(tmp_path, task)
    assert outcome(folder)[1] != first[1]


@pytest.mark.slow
def test_encoder_folder_per_encoder_file(tmp_path):
    task = write_task(tmp_path, "one")
    for name in ("first", "second"):
        run(tmp_path, task, encoder=str(save(tmp_path / "encoders", f"{name}.py", XARES)), flags=["--track", "knn"])
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert folders == {"first-TinyEncoder", "second-TinyEncoder"}


@pytest.mark.slow
def test_run_demo(tmp_path):
    words = ["--output-dir", tmp_path / "out", "--embedding-cache", tmp_path / "store", "--quiet"]
    done = subprocess.run(
        [sys.executable, ROOT / "probe.py", *words], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    scores = values(tmp_path / "out/logmel")
    demo = {(track, protocol) for _, track, protocol, *_ in scores}
    assert {task for task, *_ in scores} == {"voice", "language", "tempo"}
    assert demo == {(track, protocol) for track in ("linear", "knn") for protocol in ("xares", "strict")}
    assert all(score["low"] <= score["value"] <= score["high"] for score in scores.values() if score["low"] is not None)
    assert scores["voice", "linear", "strict", "accuracy", None]["value"] > 0.5


@pytest.mark.slow
def test_run_reproducible_by_seed_and_across_workers(tmp_path):
    tasks = [
        write_task(tmp_path, "one"),
        write_task(tmp_path, "two", kind="regression", labels=lambda i, c: f"{i}|{len(c)}"),
    ]
    first = outcome(run(tmp_path, *tasks))
    assert outcome(run(tmp_path, *tasks, out="again")) == first
    assert outcome(run(tmp_path, *tasks, out="processes", flags=["--workers", "2"])) == first
    assert outcome(run(tmp_path, *tasks, out="seed", flags=["--seed", "5"])) != first


def test_run_single_track_and_recipe(tmp_path):
    task = write_task(tmp_path, "one")
    scores = values(run(tmp_path, task, flags=["--track", "knn", "--recipe", "strict"]))
    assert list(scores) == [("one", "knn", "strict", "accuracy", None)]


@pytest.mark.slow
def test_run_few_shot(tmp_path):
    folder = run(tmp_path, write_task(tmp_path, "one"), flags=["--shots", "2"])
    rows = summary(folder)["scores"]
    assert [(row["track"], row["protocol"], row["n_heads"], row["shots"], row["metric"]) for row in rows] == [
        (track, "strict", 10, 2, metric) for track in ("linear", "knn") for metric in OF_CLASSES
    ]
    assert "**2 shots**" in (folder / "report.md").read_text()


# --- overlapping sources --------------------------------------------------------------------------------------


def grouped(folder, name, source):
    """Write a task with three folds and sources; return the path of the TOML file."""
    task = write_task(folder, name, n=(9, 0, 0))
    rows = (folder / f"{name}.csv").read_text().splitlines()[1:]
    lines = [f"{','.join(row.split(',')[:2])},{i // 3 % 3},{source(i)}" for i, row in enumerate(rows)]
    (folder / f"{name}.csv").write_text("\n".join(["path,label,fold,group", *lines]) + "\n")
    return task


@pytest.mark.slow
def test_run_warns_of_source_overlap(tmp_path):
    spans, apart = grouped(tmp_path, "spans", lambda i: f"s{i // 9}-{i % 3}"), grouped(tmp_path, "apart", lambda i: i)
    words = ["--data-root", tmp_path, "--embedding-cache", tmp_path / "store", "--output-dir", tmp_path / "out", *QUICK]
    command = [sys.executable, ROOT / "probe.py", *words, "--track", "knn", "--tasks", spans, apart]

    def once():
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done

    done, folder = once(), tmp_path / "out/logmel"
    message = (
        "spans: 9 of 9 sources have clips in several folds; 27 of 27 test clips share a source with training. "
        "strict recipe: sources reassigned to folds."
    )
    assert message in done.stderr and "apart:" not in done.stderr
    assert (
        f"**Sources in several parts of a split.** {message}" in done.stdout
        and "- **strict_given_splits**" in done.stdout
    )
    assert [(task, protocol) for task, _, protocol, *_ in values(folder)] == [
        ("spans", "xares"), ("spans", "strict"), ("spans", "strict_given_splits"),
        ("apart", "xares"), ("apart", "strict"),
    ]  # fmt: skip
    expected = {
        "task": "spans",
        "parts": "folds",
        "sources": 9,
        "spanning": 9,
        "test_clips": 27,
        "shared_test_clips": 27,
    }
    assert summary(folder)["shared_sources"] == [{**expected, "strict": "sources reassigned to folds"}]
    tables = {
        part: pd.read_csv(folder / f"predictions/spans_knn_{part}.csv") for part in ("strict", "strict_given_splits")
    }
    assert {part: table.groupby("group")["fold"].nunique().max() for part, table in tables.items()} == {
        "strict": 1, "strict_given_splits": 3,
    }  # fmt: skip
    assert {row["protocol"] for row in summary(folder)["averages"]} == {"xares", "strict"}
    assert "heads of other folds" in values(folder)["apart", "knn", "strict", "accuracy", None]["note"]
    kept = (folder / "tasks/spans.json").stat().st_mtime_ns
    assert message in once().stderr and (folder / "tasks/spans.json").stat().st_mtime_ns == kept
    assert summary(folder)["shared_sources"] == [{**expected, "strict": "sources reassigned to folds"}]


@pytest.mark.slow
def test_run_warns_of_near_duplicate_classes(tmp_path, capsys):
    spelt = {"low": ["Sea waves", "sea  waves"], "mid": ["mid"] * 2, "high": ["high"] * 2}
    alike, apart = write_task(tmp_path, "alike", labels=lambda i, c: spelt[c][i % 2]), write_task(tmp_path, "apart")
    for _ in range(2):  # also if the task is finished
        folder = run(tmp_path, alike, apart, flags=["--track", "knn"], quiet=False)
        message = (
            "alike: class names that differ only in case or spaces are separate classes: 'Sea waves' and 'sea  waves'."
        )
        printed = capsys.readouterr()
        assert message in printed.err and f"**Near-duplicate class names.** {message}" in printed.out
        assert "apart: class names" not in printed.err
    assert summary(folder)["alike_classes"] == [{"task": "alike", "classes": [["Sea waves", "sea  waves"]]}]
    assert len(pd.read_csv(folder / "per_class/alike.csv")["class"].unique()) == 4


# --- encoders -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("name", "source"), [("xares", XARES), ("case", case()), ("hear", HEAR)])
def test_run_encoders_of_three_interfaces(tmp_path, name, source):
    file = save(tmp_path / "encoders", f"{name}_model.py", source)
    scores = values(run(tmp_path, write_task(tmp_path, "one"), encoder=str(file)))
    assert len(scores) == 4
    assert scores["one", "linear", "strict", "accuracy", None]["n"] == 9
    assert scores["one", "knn", "strict", "accuracy", None]["value"] > 0.6


@pytest.mark.slow
def test_run_precomputed_embeddings_by_clip_path(tmp_path):
    task = write_task(tmp_path / "data", "one", "learning_rate = 0.05", epochs=40)
    ids = [line.split(",")[0] for line in (tmp_path / "data/one.csv").read_text().splitlines()[1:]]
    rng = np.random.default_rng(0)
    vectors = np.array([np.eye(3)[list(CLASSES).index(i.split("-")[-1][:-4])] * 5 + rng.normal(size=3) for i in ids])
    np.savez(tmp_path / "mine.npz", ids=np.array(ids), embeddings=vectors.astype(np.float32))
    folder = run(tmp_path, task, flags=["--embeddings", str(tmp_path / "mine.npz")])
    assert folder.name == "mine"
    scores = {key[1:3]: score["value"] for key, score in values(folder).items()}
    assert scores["knn", "xares"] == scores["knn", "strict"] == scores["linear", "xares"] == 1.0
    assert scores.keys() == {("linear", "strict"), ("linear", "xares"), ("knn", "strict"), ("knn", "xares")}
    np.savez(tmp_path / "mine.npz", ids=np.array(ids[1:]), embeddings=vectors[1:].astype(np.float32))
    run(tmp_path, task, code=1, flags=["--embeddings", str(tmp_path / "mine.npz")])
    assert "one/0-0-low.wav: is not among the 32 ids of mine" in errors(folder.with_name("mine-2"))["one"]


def test_run_precomputed_embeddings_without_audio(tmp_path):
    task, root = write_task(tmp_path / "data", "one"), tmp_path / "data"
    ids = [line.split(",")[0] for line in (root / "one.csv").read_text().splitlines()[1:]]
    shutil.rmtree(root / "one")
    vectors = np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", ids=np.array(ids), embeddings=vectors)
    np.savez(tmp_path / "few.npz", ids=np.array(ids[1:]), embeddings=vectors[1:])
    flags = ["--track", "knn", "--embeddings"]
    assert len(values(run(tmp_path, task, flags=[*flags, str(tmp_path / "mine.npz")]))) == 2
    folder = run(tmp_path, task, code=1, out="few", flags=[*flags, str(tmp_path / "few.npz")])
    assert "one/0-0-low.wav: is not among the 32 ids of few" in errors(folder)["one"]
    folder = run(tmp_path, task, code=1, out="heard", flags=["--track", "knn"])
    assert "'one/0-0-low.wav' does not exist" in errors(folder)["one"]


@pytest.mark.slow
def test_run_layers(tmp_path, capsys):
    transformers = pytest.importorskip("transformers", reason="the extra `clap` is not installed")
    import torch

    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(16, 16),
        conv_stride=(20, 16), conv_kernel=(25, 16), num_feat_extract_layers=2, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "tiny")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "tiny")
    task, spec = write_task(tmp_path, "one"), f"hf:{tmp_path / 'tiny'}"
    plain = values(run(tmp_path, task, encoder=spec))
    folder = run(tmp_path, task, encoder=spec, out="all", flags=["--layers", "all"])
    scores = values(folder)
    assert {key[-1] for key in scores} == {0, 1, 2} and len(scores) == 3 * len(plain)
    for (*place, _), score in plain.items():
        assert scores[*place, 2] == score  # the last layer is the encoder's own output
    assert "## Layers" in (folder / "report.md").read_text() and (folder / "layers.svg").is_file()
    assert {row["layer"] for row in summary(folder)["averages"]} == {0, 1, 2}
    some = values(run(tmp_path, task, encoder=spec, out="some", flags=["--layers", "0,2"]))
    assert some == {key: score for key, score in scores.items() if key[-1] != 1}
    beyond = run(tmp_path, task, encoder=spec, out="beyond", code=2, flags=["--layers", "0,7"])
    assert beyond is None
    assert "--layers 7: tiny has layers 0 to 2" in capsys.readouterr().err


@pytest.mark.slow
def test_run_layers_of_error_metric_have_no_curve(tmp_path):
    encoder = save(tmp_path / "three", "mine.py", layered())
    task = write_task(tmp_path, "size", kind="regression", labels=lambda i, c: CLASSES[c] / 1000)
    flags = ["--layers", "all", "--recipe", "strict"]
    folder = run(tmp_path, task, encoder=str(encoder), flags=flags)
    scores = {key[-1]: score["value"] for key, score in values(folder).items() if key[3] == "mse"}
    assert set(scores) == {0, 1, 2}
    table = (folder / "report.md").read_text().partition("## Layers")[2]
    for layer, score in scores.items():
        assert re.search(rf"\| *size *\|.*\| *{layer} *\|.*{score:.3f}", table), (layer, score, table)
    assert not (folder / "layers.svg").exists()


@pytest.mark.slow
def test_run_layers_use_own_folder_and_skip_frame_tasks(tmp_path):
    encoder, tone_task = str(save(tmp_path / "three", "mine.py", layered())), write_task(tmp_path, "one")
    events = write_task(
        tmp_path, "events", kind="frame",
        labels=lambda i, c: f'"[{{""onset"": 0, ""offset"": 0.3, ""label"": ""{c}""}}]"',
    )  # fmt: skip
    plain = run(tmp_path, tone_task, events, encoder=encoder, flags=["--recipe", "strict"])
    before = outcome(plain)
    run(tmp_path, tone_task, events, encoder=encoder, flags=["--recipe", "strict", "--layers", "all"])
    assert outcome(plain) == before
    result = summary(tmp_path / "out/mine-TinyEncoder-layers")
    assert {row["task"] for row in result["scores"]} == {"one"}
    assert [row["task"] for row in result["skipped"] if "without --layers" in row["reason"]] == ["events"]


def changed(old, new):
    """The tiny X-ARES encoder with a replaced line."""
    assert old in XARES
    return XARES.replace(old, new)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("return self.frames(audio)", "return self.frames(audio) * float('nan')", "not finite"),
        ("self.output_dim = 12", "self.output_dim = 13", "12 dimensions where 13 are expected"),
        ("return self.frames(audio)", "return self.frames(audio)[:, ::2]", "returned 19 frames for 0.40 s"),
        ("return self.frames(audio)", "return self.frames(audio) * 0 + torch.arange(12)", "identical embeddings"),
        ("return self.frames(audio)", "raise RuntimeError('out of luck')", "out of luck"),
    ],
    ids=["nan", "width", "frames", "constant", "raises"],
)
def test_run_reports_encoder_that_violates_requirements(tmp_path, old, new, fault):
    file = save(tmp_path / "encoders", "broken.py", changed(old, new))
    (tmp_path / "events.json").write_text('[{"onset": 0.1, "offset": 0.3, "label": "tone"}]')
    task = write_task(tmp_path, "one", kind="frame", labels=lambda i, c: "events.json")
    folder = run(tmp_path, task, encoder=str(file), code=1)
    assert fault in errors(folder)["one"]
    assert "Some scores are missing" in (folder / "report.md").read_text()


@pytest.mark.slow
def test_run_batch_dependent_encoder_uses_batch_size_1(tmp_path, capsys):
    task = write_task(tmp_path, "one")
    mixing = changed("return self.frames(audio)", "return self.frames(audio / audio.std())")
    encoder = str(save(tmp_path / "mixing", "mine.py", mixing))
    alone = values(run(tmp_path, task, encoder=encoder, out="alone", flags=["--batch-size", "1"]))
    (tmp_path / "store").rename(tmp_path / "kept")
    for how in ([], ["--workers", "2"]):
        scores = values(
            run(
                tmp_path,
                task,
                write_task(tmp_path, "two"),
                encoder=encoder,
                out=f"out{len(how)}",
                flags=how,
                quiet=False,
            )
        )
        assert {place: score for place, score in scores.items() if place[0] == "one"} == alone
        assert "using batch size 1" in capsys.readouterr().err
        (tmp_path / "store").rename(tmp_path / f"kept{len(how)}")


@pytest.mark.slow
def test_run_warns_of_wrong_hop(tmp_path, capsys):
    encoder = str(save(tmp_path / "few", "mine.py", changed("hop_size_in_ms = 10", "hop_size_in_ms = 2")))
    run(tmp_path, write_task(tmp_path, "one"), encoder=encoder, flags=["--track", "knn"], quiet=False)
    message = "TinyEncoder: returned 998 frames for 10.00 s, but its hop of 2 ms implies about 5000; its frames are "
    message += "10 ms apart: declare hop_size_in_ms = 10; frame tasks will fail"
    assert message in capsys.readouterr().err
    for _ in range(2):  # also if nothing is embedded
        folder = run(tmp_path, tmp_path / "one.toml", encoder=encoder, flags=["--track", "knn"])
        assert message in (folder / "report.md").read_text(encoding="utf-8")
        assert message in json.loads((folder / "summary.json").read_text())["warnings"][0]


@pytest.mark.slow
def test_run_timestamps_in_seconds_fail_frame_tasks_only(tmp_path, capsys):
    encoder = str(save(tmp_path / "mine", "mine.py", HEAR.replace("* 256 / 22.05", "* 256 / 22_050")))
    event = json.dumps([{"onset": 0.0, "offset": 0.3, "label": "LABEL"}]).replace('"', '""')
    frames = write_task(
        tmp_path, "events", 'metric = "segment_f1_macro"\nsegment_seconds = 0.2', kind="frame",
        labels=lambda i, c: '"' + event.replace("LABEL", c) + '"',
    )  # fmt: skip
    message = "timestamps end at 3.97061 for a clip of 4.00 s: they look like seconds; HEAR requires milliseconds"
    for _ in range(2):
        folder = run(tmp_path, frames, write_task(tmp_path, "one"), code=1, encoder=encoder, quiet=False)
        assert f"mine: {message}; frame tasks will fail" in capsys.readouterr().err
        assert errors(folder) == {"events": f"mine: {message}."} and len(values(folder)) == 4
    assert probe.main(["check", encoder, "--device", "cpu"]) == 1
    assert message in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_run_layers_of_an_encoder_with_one_layer_says_so(tmp_path, capsys):
    task, encoder = write_task(tmp_path, "one"), str(save(tmp_path / "mine", "mine.py", XARES))
    folder = run(tmp_path, task, encoder=encoder, flags=["--track", "knn", "--layers", "all"], quiet=False)
    message = "TinyEncoder: has one layer; to score layers, return a list with the frames of each layer, (B, T', D), "
    message += "from forward."
    assert message in capsys.readouterr().err and message in summary(folder)["warnings"]
    run(tmp_path, task, out="none", code=2, encoder=encoder, flags=["--track", "knn", "--layers", "0,1"])
    assert "--layers 1: TinyEncoder has only layer 0; to score layers, return a list" in capsys.readouterr().err
    several = str(save(tmp_path / "several", "mine.py", layered()))
    for number, words in enumerate((["--layers", "all"], ["--layers", "last"], [])):
        model = several if number == 0 else encoder
        run(tmp_path, task, out=f"o{number}", encoder=model, flags=["--track", "knn", *words], quiet=False)
        assert "one layer" not in capsys.readouterr().err
    run(tmp_path, task, out="log", flags=["--track", "knn", "--layers", "all"], quiet=False)
    assert "logmel: has one layer.\n" in capsys.readouterr().err


@pytest.mark.slow
def test_run_xares_llm_encoder_on_clip_and_frame_tasks(tmp_path):
    """Frames are aligned by the hop that follows from them; scores are those of the X-ARES class with these weights."""
    event = json.dumps([{"onset": 0.0, "offset": 0.3, "label": "LABEL"}]).replace('"', '""')
    frames = write_task(
        tmp_path, "events", 'metric = "segment_f1_macro"\nsegment_seconds = 0.2', kind="frame",
        labels=lambda i, c: '"' + event.replace("LABEL", c) + '"',
    )  # fmt: skip
    tasks = [frames, write_task(tmp_path, "one")]
    found = {}
    for name, text in {"llm": XARES_LLM, "plain": XARES}.items():
        scores = values(run(tmp_path, *tasks, out=name, encoder=str(save(tmp_path / f"file-{name}", "mine.py", text))))
        found[name] = {key: score["value"] for key, score in scores.items()}
    assert found["llm"] == pytest.approx(found["plain"], abs=1e-6)
    assert {task for task, *_ in found["llm"]} == {"one", "events"}


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_run_encoder_that_exits(tmp_path, jobs):
    leaving = changed("return self.frames(audio)", "raise SystemExit(0) if len(audio[0]) < 8000 else ValueError(1)")
    tasks_of_mine = [write_task(tmp_path, "one"), write_task(tmp_path, "two")]
    folder = run(
        tmp_path,
        *tasks_of_mine,
        code=1,
        encoder=str(save(tmp_path / "mine", "mine.py", leaving)),
        flags=["--workers", jobs],
    )
    assert {task: "SystemExit" in error for task, error in errors(folder).items()} == {"one": True, "two": True}


@pytest.mark.slow
def test_encoder_folder_of_equal_names(tmp_path, capsys):
    task = write_task(tmp_path, "one")
    sources = {"a": XARES, "b": XARES.replace("12", "13")}
    encoders = {place: str(save(tmp_path / place, "mine.py", source)) for place, source in sources.items()}
    for place, warned in (("a", False), ("b", True), ("a", False), ("b", True)):
        run(tmp_path, task, encoder=encoders[place], flags=["--track", "knn"], quiet=False)
        assert ("holds the scores of another" in capsys.readouterr().err) == warned
    first, second = sorted((tmp_path / "out").iterdir())
    assert second.name == f"{first.name}-2"
    signatures = [json.loads((folder / "summary.json").read_text())["signature"] for folder in (first, second)]
    assert signatures[0] != signatures[1]


# --- invalid data -------------------------------------------------------------------------------------------

CREMAD = ["wds-audio-train", "wds-audio-valid", "wds-audio-test"]


def cut_short(root):
    path = root / "cremad/wds-audio-test-0.tar"
    path.write_bytes(path.read_bytes()[:20_000])


def rewritten(member, content):
    """A fault: replace the content of a member of the training tar."""

    def change(root):
        pairs = split(6, 1)
        pairs[member] = (content, {"label": "low"}) if isinstance(content, bytes) else (tone(300), content)
        pack(root / "cremad/wds-audio-train-0.tar", pairs)

    return change


def only(part, *names):
    """A fault: keep only these classes in a split."""

    def change(root):
        seed = CREMAD.index(part) + 1
        pairs = {key: pair for key, pair in split(6, seed).items() if key.rsplit("_", 1)[1] in names}
        pack(root / f"cremad/{part}-0.tar", pairs)

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (cut_short, r"wds-audio-test-0.tar"),
        (rewritten("0000_1_low", b"no audio at all"), "wds-audio-train-0.tar:0000_1_low.wav: "),
        (rewritten("0000_1_low", wav(tone(300))[:40]), "wds-audio-train-0.tar:0000_1_low.wav: "),
        (rewritten("0000_1_low", {"lable": "low"}), "0000_1_low.json: the JSON has no key 'label'; its keys: 'lable'"),
        (only("wds-audio-train", "low", "mid"), "'high' does not occur in the training labels"),
        (only("wds-audio-test"), "no clips in test"),
        (only("wds-audio-train", "low"), "'mid' does not occur in the training labels"),
    ],
    ids=["cut short", "no audio", "truncated", "key", "class", "empty", "one class"],
)
def test_run_continues_after_faulty_task(tmp_path, fault, message, capsys):
    tars(tmp_path / "data", "cremad", CREMAD)
    fault(tmp_path / "data")
    folder = run(tmp_path, "cremad", write_task(tmp_path, "one"), code=1, flags=["--track", "knn"], quiet=False)
    assert list(errors(folder)) == ["cremad"] and message in errors(folder)["cremad"]
    assert {task for task, *_ in values(folder)} == {"one"}
    assert "Some scores are missing" in (folder / "report.md").read_text()
    printed = capsys.readouterr()
    assert "cremad" in printed.err and message in printed.err and "Traceback" not in printed.err


def test_run_repaired_task_and_reuses_finished(tmp_path):
    tars(tmp_path / "data", "cremad", CREMAD)
    rewritten("0000_1_low", b"no audio")(tmp_path / "data")
    other = write_task(tmp_path, "one")
    folder = run(tmp_path, "cremad", other, code=1, flags=["--track", "knn"])
    kept = (folder / "tasks/one.json").stat().st_mtime_ns
    tars(tmp_path / "data", "cremad", CREMAD)
    run(tmp_path, "cremad", other, flags=["--track", "knn"])
    assert errors(folder) == {} and {task for task, *_ in values(folder)} == {"cremad", "one"}
    assert (folder / "tasks/one.json").stat().st_mtime_ns == kept


def test_run_rejects_single_class(tmp_path):
    same = write_task(tmp_path, "same", labels=lambda i, c: "x")
    folder = run(tmp_path, same, code=1)
    assert "classes in training: x" in errors(folder)["same"]


def test_run_names_class_without_training_clips(tmp_path):
    """Classes lost through unreadable clips, and through the validation fold of the strict recipe."""
    task = write_task(tmp_path, "one", n=(3, 1, 1))
    for i in range(3):
        (tmp_path / f"one/0-{i}-low.wav").write_bytes(b"no audio at all")
    folder = run(tmp_path, task, code=1, flags=["--track", "knn", "--allow-missing"])
    message = "no training clips of low"
    assert {error for _, error in _failures(folder)} == {message}
    folds = write_task(tmp_path, "folds", n=(4, 4, 4))
    manifest = tmp_path / "folds.csv"
    lines = [line for line in manifest.read_text().splitlines() if not ("low" in line and line.endswith("valid"))]
    manifest.write_text("\n".join(lines).replace("split", "fold"))
    folder = run(tmp_path, folds, code=1, flags=["--track", "knn"], out="other")
    assert _failures(folder) == [("strict", f"{message} when fold test is tested")]
    assert {place[2] for place in values(folder)} == {"xares"}


def _failures(folder):
    return [(row["protocol"], row["error"]) for row in summary(folder)["failed"]]


def test_run_training_on_test_clips_is_xares_only(tmp_path):
    pack(tmp_path / "data/subway_broadcast/subway_broadcast-0.tar", split(4, 1, lambda n: {"broadcasting": n}))
    flags = ["--track", "knn", "--recipe"]
    folder = run(tmp_path, "subway_broadcast", flags=[*flags, "xares"])
    assert "trains on the test clips of Subway broadcast" in (folder / "report.md").read_text()
    scores = values(folder)
    assert scores["subway_broadcast", "knn", "xares", "accuracy", None]["value"] == 1.0
    folder = run(tmp_path, "subway_broadcast", code=1, flags=[*flags, "strict"])
    assert "all training clips are also test clips" in errors(folder)["subway_broadcast"]


def test_run_binary_manifest_fails_only_its_task(tmp_path):
    broken, good = write_task(tmp_path, "broken"), write_task(tmp_path, "good")
    (tmp_path / "broken.csv").write_bytes(b"path,label,split\n\xff\xfe\xfa,a,train\n")
    folder = run(tmp_path, broken, good, code=1, flags=["--track", "knn"])
    assert "line 2: byte 0xff is not UTF-8; save the file as CSV UTF-8" in errors(folder)["broken"]
    assert {task for task, *_ in values(folder)} == {"good"}


def test_run_missing_data_names_download_command(tmp_path):
    folder = run(tmp_path, "cremad", write_task(tmp_path, "one"), code=1, flags=["--track", "knn"])
    assert "uv run probe.py download cremad" in errors(folder)["cremad"]


def test_run_rejects_too_many_shots(tmp_path):
    folder = run(tmp_path, write_task(tmp_path, "one"), code=1, flags=["--shots", "7"])
    assert errors(folder)["one"] == "7 shots: a class has only 6 training clips"


def test_run_task_file_with_unknown_keys(tmp_path, capsys):
    task = write_task(tmp_path, "one", "epoch = 5\ncolour = 'red'")
    run(tmp_path, task, code=1)
    printed = capsys.readouterr().err
    assert "epoch: unknown key; did you mean epochs?" in printed and "colour: unknown key" in printed
    assert "Valid keys: name, type, data, metric" in printed
    assert not (tmp_path / "out").exists()
    folder = run(tmp_path, task, write_task(tmp_path, "two"), code=1, flags=["--track", "knn"])
    assert {task for task, *_ in values(folder)} == {"two"}
    assert "epoch: unknown key" in errors(folder)["one.toml"]


def test_run_unknown_task_suggests_similar(tmp_path, capsys):
    run(tmp_path, "esc5", "cremda", code=2)
    printed = capsys.readouterr().err
    assert "esc5: unknown task; did you mean esc50" in printed and "cremad" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layers", "first"], "'first' is not all, last or a list of numbers"),
        (["--layers=-1"], "layer numbers start at 0"),
        (["--shots", "0"], "must be at least 1, not 0"),
        (["--track", "both", "--recipe", "mine"], "invalid choice: 'mine'"),
    ],
)
def test_run_rejects_invalid_flags(capsys, flags, message):
    with pytest.raises(SystemExit) as caught:
        probe.main(flags)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


# --- flags and commands -------------------------------------------------------------------------------------


def test_list_shows_state_of_data(tmp_path, capsys):
    tars(tmp_path / "data", "cremad", CREMAD)
    assert probe.main(["list", "cremad", "esc50", "liveenv", "--data-root", str(tmp_path / "data")]) == 0
    lines = {line.split("|")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "|" in line}
    assert "present" in lines["cremad"] and "missing" in lines["esc50"] and "private: no data" in lines["liveenv"]


def test_list_shows_layouts_and_what_is_missing(tmp_path, capsys, monkeypatch):
    (tmp_path / "trees").mkdir()
    for task in ("esc50", "urbansound8k", "gtzan_genre"):
        folder, write = release_trees.TREES[task]
        write(tmp_path / "trees" / folder)
    (tmp_path / "trees/UrbanSound8K/audio/fold7/701-1-0-0.wav").unlink()
    tars(tmp_path / "trees", "cremad", CREMAD[:2])
    names = ["esc50", "urbansound8k", "gtzan_genre", "cremad", "fsd50k"]
    assert probe.main(["list", *names, "--data-root", str(tmp_path / "trees")]) == 0
    printed = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if "|" in line]
    assert {row[0]: row[6:8] for row in cells[2:]} == {
        "esc50": ["ESC-50 release", "present"],
        "urbansound8k": ["UrbanSound8K release", "incomplete"],
        "gtzan_genre": ["GTZAN release", "present"],
        "cremad": ["tar files", "missing"],
        "fsd50k": ["–", "missing"],
    }
    assert "1 of 60 clips not found: audio/fold7/701-1-0-0.wav." in printed
    assert "gtzan_genre: own folds by track number" in printed and "cremad: no wds-audio-test*.tar" in printed


def run_release(tmp_path, task, code=0, flags=("--track", "knn")):
    (tmp_path / "trees").mkdir(exist_ok=True)
    (tmp_path / "data").symlink_to(tmp_path / "trees")
    folder, write = release_trees.TREES[task]
    write(tmp_path / "trees" / folder)
    return run(tmp_path, task, code=code, flags=flags)


@pytest.mark.slow
@pytest.mark.parametrize("task", release_trees.TREES)
def test_run_probes_the_release_of_a_data_set(tmp_path, monkeypatch, task):
    """Pitch tells the class; the small trees differ from the published data, which the report says."""
    monkeypatch.setattr(releases, "MIN_SHARE", 0)
    folder = run_release(tmp_path, task, flags=["--track", "linear" if task == "fsd50k" else "knn"])
    best = {key[2]: estimate["value"] for key, estimate in values(folder).items()}
    assert set(best) == {"xares", "strict"} and best["strict"] > 0.5
    report = (folder / "report.md").read_text()
    assert "Comparison with published encoders" not in report
    assert ("Not compared" in report) == (task != "speechcommandsv2")
    assert ("own split by actor" in report) == (task == "cremad")
    assert ("own folds by" in report) == (task in ("ravdess", "gtzan_genre"))


@pytest.mark.slow
def test_run_on_release_and_tar_files_of_the_same_clips_gives_the_same_scores(tmp_path):
    release = run_release(tmp_path, "esc50", flags=[])
    packed = tmp_path / "packed"
    for path in sorted((tmp_path / "trees/ESC-50-master/audio").iterdir()):
        fold, target = path.name[0], int(path.stem.rpartition("-")[2])
        packed.joinpath(fold).mkdir(parents=True, exist_ok=True)
        packed.joinpath(fold, path.stem + ".json").write_text(json.dumps({"label": target}))
        shutil.copy(path, packed / fold)
    (tmp_path / "again/data/esc50").mkdir(parents=True)
    listed = (tmp_path / "trees/ESC-50-master/meta/esc50.csv").read_text().splitlines()[1:]
    for fold in "12345":
        with tarfile.open(tmp_path / f"again/data/esc50/wds-audio-fold-{fold}-0.tar", "w") as tar:
            for name in (line.partition(",")[0] for line in listed if line.startswith(fold)):
                tar.add(packed / fold / name, name)
                tar.add(packed / fold / name.replace(".wav", ".json"), name.replace(".wav", ".json"))
    assert values(run(tmp_path / "again", "esc50")) == values(release)


@pytest.mark.slow
def test_run_on_incomplete_release_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(releases, "MIN_SHARE", 0)
    folder = run_release(tmp_path, "urbansound8k")
    (tmp_path / "trees/UrbanSound8K/audio/fold1/100-0-0-0.wav").unlink()
    run(tmp_path, "urbansound8k", code=2, flags=["--track", "knn"])
    assert "1 of 60 clips not found: audio/fold1/100-0-0-0.wav." in errors(folder)["urbansound8k"]
    release_trees.speech_commands_2(tmp_path / "trees/speechcommandsv1")
    run(tmp_path, "speechcommandsv1", code=1, flags=["--track", "knn"])
    assert "version 0.02 with 35 words is another task" in errors(folder)["speechcommandsv1"]


def test_download_all_skips_tasks_without_record(tmp_path, capsys):
    with file_server() as server:
        for task in published_tasks().values():
            if task.zenodo:
                tars(tmp_path / "made", task.name, [f"{task.name}_0"], n=(1,))
                made = (tmp_path / "made" / task.name).glob("*.tar")
                server.add_record(task.zenodo, {path.name: path.read_bytes() for path in made})
        words = ["all", "--data-root", str(tmp_path / "data"), "--zenodo", server.url, "--quiet"]
        assert probe.main(["download", *words]) == 0
        assert probe.main(["download", "liveenv", *words[1:]]) == 1
    printed = capsys.readouterr()
    left_out = re.findall(r"^(\w+): skipped; it has no public record", printed.out, re.M)
    assert set(left_out) == {task.name for task in published_tasks().values() if not (task.zenodo or task.disabled)}
    for task in published_tasks().values():
        assert bool(list((tmp_path / "data" / task.name).glob("*.tar"))) == bool(task.zenodo and not task.disabled)
    assert "liveenv: " in printed.err


HIDDEN = """
import sys
from importlib.abc import MetaPathFinder

class Hidden(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "{library}":
            raise ModuleNotFoundError("No module named '{library}'", name="{library}")

{how}
import probe
sys.exit(probe.main(sys.argv[1:]))
"""
HOW = ["sys.modules['{library}'] = None", "sys.meta_path.insert(0, Hidden())"]


@pytest.mark.slow
@pytest.mark.parametrize(("library", "how"), [("torch", HOW[0]), ("torch", HOW[1]), ("numba", HOW[0])])
def test_run_without_torch(tmp_path, library, how):
    hidden = HIDDEN.format(how=how.format(library=library), library=library)
    task = write_task(tmp_path, "one")

    def without_torch(track, *flags):
        words = [
            "--tasks",
            task,
            "--track",
            track,
            "--output-dir",
            tmp_path / track,
            "--embedding-cache",
            tmp_path / "store",
            *flags,
        ]
        return subprocess.run(
            [sys.executable, "-c", hidden, *map(str, words), "--bootstrap", "20"],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    done = without_torch("knn")
    assert done.returncode == 0, done.stderr
    assert len(values(tmp_path / "knn/logmel")) == 2
    refused = without_torch("linear")
    assert refused.returncode == 2
    message = f"A linear probe needs {library}, which is not installed; use `uv run --extra torch probe.py …`"
    assert message in refused.stderr and "Traceback" not in refused.stderr
    assert not (tmp_path / "linear").exists()
    done = without_torch("linear", "--shots", "2")  # few-shot heads are fitted with scipy
    assert done.returncode == 0, done.stderr
    assert list(values(tmp_path / "linear/logmel-2-shot")) == [("one", "linear", "strict", "accuracy", None)]


# --- robustness -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_run_failure_of_one_recipe_keeps_the_other(tmp_path):
    """xares needs a language model that is not available; strict needs none."""
    pytest.importorskip("transformers", reason="the extra `clap` is not installed")
    task = write_task(tmp_path, "words", kind="asr", n=(2, 1, 2), labels=lambda i, c: c, epochs=1)
    folder = run(tmp_path, task, code=1, flags=["--track", "linear", "--language-model", str(tmp_path / "no")])
    assert [key[2] for key in values(folder)] == ["strict"]
    (failure,) = summary(folder)["failed"]
    assert (failure["task"], failure["track"], failure["protocol"]) == ("words", "linear", "xares")
    assert str(tmp_path) not in (folder / "report.md").read_text() + (folder / "summary.json").read_text()
    known = json.loads((folder / "tasks/words.json").read_text())
    run(tmp_path, task, code=1, flags=["--track", "linear", "--language-model", str(tmp_path / "no")])
    again = json.loads((folder / "tasks/words.json").read_text())  # only the failed recipe is retried
    assert again == known and again["scores"][0]["seconds"] == known["scores"][0]["seconds"]
    names = {path.name for path in (folder / "predictions").iterdir()}
    assert names == {"words_linear_strict.csv", "words_linear_strict.items.npz"}


def test_job_failed_keeps_earlier_outcome(tmp_path):
    table = ClassTable(track="linear", protocol="strict", rows=[])
    known = TaskOutcome(classes=[table], failed=[Failure(error="kNN")], predictions=["one_linear_strict.csv"])
    options = RunOptions(EncoderOptions(), (), tmp_path, tmp_path)
    located = locate_task(published_tasks()["esc50"], tmp_path)
    origin = a_task_origin()
    job = Job(located, ProbeSettings(), options, Invocation(tmp_path), tmp_path, "key", origin, known)
    later = job.failed("no audio")
    assert later.classes == known.classes and later.predictions == known.predictions
    assert [one.error for one in later.failed] == ["kNN", "no audio"]
    alone = replace(job, earlier=None).failed("no audio")
    assert (alone.failed, alone.key, alone.origin) == (TaskOutcome.from_error("no audio").failed, "key", origin)


def test_stored_outcome_ignores_earlier_release(tmp_path):
    folder = run(tmp_path, write_task(tmp_path, "one"), flags=["--track", "knn"])
    first, file = outcome(folder), folder / "tasks/one.json"
    kept = json.loads(file.read_text())
    assert stored_outcome(folder, "one", kept["key"]) is not None
    earlier = {
        "key": kept["key"], "rows": [], "classes": [], "confusions": [], "left_out": {}, "predictions": [],
        "failed": [{"error": "x", "missing": False, "again": True}], "shared_sources": None,
    }  # fmt: skip
    file.write_text(json.dumps(earlier))
    assert stored_outcome(folder, "one", kept["key"]) is None
    run(tmp_path, tmp_path / "one.toml", flags=["--track", "knn"])
    assert outcome(folder) == first


@pytest.mark.slow
def test_run_keeps_other_results_after_track_or_write_error(tmp_path, monkeypatch):
    """Such as out of accelerator memory, or a full disk."""
    one, two = write_task(tmp_path, "one"), write_task(tmp_path, "two")
    folder = run(tmp_path, two, flags=["--track", "knn"])
    (folder / "tasks/two.json").unlink()
    table = folder / "predictions/two_knn_strict.csv"
    table.unlink()
    (table / "in the way").mkdir(parents=True)

    def without_memory(*arguments, **further):
        raise RuntimeError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(task_types, "train_linear_heads", without_memory)
        run(tmp_path, one, two, code=1)
    assert set(values(folder)) == {("one", "knn", protocol, "accuracy", None) for protocol in ("xares", "strict")}
    errors_by_task = {(row["task"], row["track"]): row["error"] for row in summary(folder)["failed"]}
    assert errors_by_task["one", "linear"] == "RuntimeError: CUDA out of memory"
    assert errors(folder)["two"] == "two_knn_strict.csv: Is a directory."
    (table / "in the way").rmdir()
    table.rmdir()
    before = values(folder)
    run(tmp_path, one, two)
    after = values(folder)
    assert len(after) == 8 and all(after[place] == score for place, score in before.items())


def test_task_key_covers_preprocessing_and_tokenizer_files(tmp_path, monkeypatch):
    task = read_task_file(write_task(tmp_path, "one", kind="retrieval", labels=lambda i, c: c))
    words = tmp_path / "words"
    words.mkdir()
    (words / "tokenizer.json").write_text("{}")
    encoder, asked = load_encoder("logmel"), ProbeSettings(tokenizer=str(words))

    def key():
        return probe_run.task_key(locate_task(task, tmp_path), asked, encoder, False)

    keys = [key(), key()]
    (words / "tokenizer.json").write_text("{ }")
    keys.append(key())
    monkeypatch.setattr(probe_run, "PREPROCESSING_VERSION", -1)
    keys.append(key())
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_run_undefined_metric_is_not_retried(tmp_path, capsys):
    task = write_task(tmp_path, "one", 'metric = "eer"', labels=lambda i, c: "low" if c == "low" or i == 0 else "other")
    manifest = tmp_path / "one.csv"
    rows = [row for row in manifest.read_text().splitlines() if ",other,test" not in row]
    manifest.write_text("\n".join(rows) + "\n")
    folder = run(tmp_path, task, code=1, flags=["--track", "linear"], quiet=False)
    assert "one, linear, strict: eer is undefined: required labels are missing" in capsys.readouterr().err
    kept = (folder / "tasks/one.json").stat().st_mtime_ns
    run(tmp_path, task, code=1, flags=["--track", "linear"])
    assert (folder / "tasks/one.json").stat().st_mtime_ns == kept


SLOW = "import time\n" + XARES.replace("return self.frames(audio)", "time.sleep(5)\n        return self.frames(audio)")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_workers_exit_with_parent(tmp_path):
    tasks = [write_task(tmp_path, "one"), write_task(tmp_path, "two")]
    encoder = save(tmp_path / "encoders", "slow.py", SLOW)
    words = ["--encoder", encoder, "--tasks", *tasks, "--workers", "2", "--output-dir", tmp_path / "out"]
    command = [sys.executable, ROOT / "probe.py", *words, "--embedding-cache", tmp_path / "store", "--track", "knn"]
    parent = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def workers():
        found = []
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                if f"PPid:\t{parent.pid}\n" in status.read_text():
                    found.append(status.parent)
        return found

    def wait_for(true):
        end = time.monotonic() + 60
        while not true():
            assert time.monotonic() < end
            time.sleep(0.2)

    wait_for(lambda: len(workers()) >= 2 and any((tmp_path / "store").rglob("*")))
    started = workers()
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(process.exists() for process in started))


def test_run_track_without_tasks_is_usage_error(tmp_path, capsys):
    several = write_task(tmp_path, "several", 'multilabel = true\nmetric = "mAP"')
    assert run(tmp_path, several, code=2, flags=["--track", "knn"]) is None
    assert "several: no k-NN track" in capsys.readouterr().err


def test_run_skips_private_tasks(tmp_path):
    folder = run(tmp_path, write_task(tmp_path, "one"), "inside_outside_car", flags=["--track", "knn"])
    assert [one["reason"] for one in summary(folder)["skipped"]] == ["private: no data"]
    assert "Skipped: Inside/outside car (private: no data)." in (folder / "report.md").read_text()


def test_run_missing_data_is_usage_error(tmp_path):
    folder = run(tmp_path, "esc50", "cremad", code=2, flags=["--track", "knn"])
    report = (folder / "report.md").read_text()
    assert "probe.py download esc50" in report and "earmark:" not in report
    assert str(tmp_path) not in report


def test_run_few_shot_rejects_xares(tmp_path, capsys):
    assert run(tmp_path, write_task(tmp_path, "one"), code=2, flags=["--shots", "1", "--recipe", "xares"]) is None
    assert "--recipe strict" in capsys.readouterr().err


def test_run_allow_missing_counts_clips(tmp_path):
    task = write_task(tmp_path, "one")
    (tmp_path / "one/0-0-low.wav").write_bytes(b"no audio at all")
    run(tmp_path, task, code=1, flags=["--track", "knn"])
    folder = run(tmp_path, task, flags=["--track", "knn", "--allow-missing"])
    assert summary(folder)["exclusions"] == [{"reason": "clips of one without an embedding", "count": 1}]
    assert "Excluded: 1 clips of one without an embedding" in (folder / "report.md").read_text()


def test_predictions_name_clips_as_manifest(tmp_path):
    folder = run(tmp_path, write_task(tmp_path, "one"), flags=["--recipe", "strict"])
    table = pd.read_csv(folder / "predictions/one_linear_strict.csv")
    assert table["clip"].tolist()[0] == "one/2-0-low.wav"
    with np.load(folder / "predictions/one_linear_strict.npz") as kept:
        assert kept["outputs"].shape == (1, 9, 3)
        named = np.array(["high", "low", "mid"])[kept["outputs"][0].argmax(axis=1)]
    assert named.tolist() == table["said_0"].tolist()


@pytest.mark.parametrize("flags", [["--device", "cuda:99"], ["--device", "nonsense"]])
def test_run_missing_device_reported_once(tmp_path, capsys, flags):
    assert run(tmp_path, write_task(tmp_path, "one"), code=2, flags=["--track", "linear", *flags]) is None
    assert capsys.readouterr().err.count("is not available") == 1


def test_first_own_word(tmp_path):
    folder = run(tmp_path, write_task(tmp_path, "one"), flags=["--track", "knn", "--model-name", "run"])
    assert folder.name == "run"
    assert probe.first_own_word(["--seed", "3", "--quiet", "list"]) == "list"


@pytest.mark.slow
def test_exit_code_with_closed_stdout(tmp_path):
    task = write_task(tmp_path, "one")
    (tmp_path / "one/0-0-low.wav").write_bytes(b"no audio at all")
    words = [
        "--tasks",
        task,
        "--track",
        "knn",
        "--output-dir",
        tmp_path / "out",
        "--embedding-cache",
        tmp_path / "store",
    ]
    command = [sys.executable, "probe.py", *map(str, words), "--quiet"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        running.stdout.close()
        assert running.wait(120) == 1


# --- model hubs ---------------------------------------------------------------------------------------------


def test_dataset_id_writes_results_for_hubs(tmp_path):
    tasks = [write_task(tmp_path, "tones"), write_task(tmp_path, "absent")]
    for path in (tmp_path / "absent").iterdir():
        path.unlink()
    folder = run(tmp_path, *tasks, code=1, flags=["--track", "knn", "--dataset-id", "org/tones"])
    entries, mteb = read_hub_files(folder)
    scores = {
        f"{task}.{recipe}_{track}_{metric}": score
        for (task, track, recipe, metric, _), score in values(folder).items()
        if recipe != "strict_given_splits"
    }
    assert {name: entry["value"] for name, entry in entries.items()} == {k: v["value"] for k, v in scores.items()}
    assert "tones.strict_knn_accuracy" in entries
    assert "|track:knn|protocol:xares|metric:accuracy|" in entries["tones.xares_knn_accuracy"]["notes"]
    by_task = {row["hf_subset"]: row for row in mteb["scores"]["test"]}
    assert by_task["tones"]["main_score"] == scores["tones.strict_knn_accuracy"]["value"]
    assert "main_score" not in by_task["absent"] and len(by_task["absent"]["notes"]) >= 1
    assert '# left out: "absent.' in (folder / "eval_results.yaml").read_text()
    assert str(tmp_path) not in (folder / "mteb_results.json").read_text()
    run(tmp_path, *tasks, code=1, flags=["--track", "knn"])
    assert not list(folder.rglob("eval_results.yaml")) and not list(folder.rglob("mteb_results.json"))


def test_log_sends_the_headline_numbers_of_finished_tasks(tmp_path, logged, monkeypatch, capsys):
    tasks = [write_task(tmp_path, "tones"), write_task(tmp_path, "absent")]
    for path in (tmp_path / "absent").iterdir():
        path.unlink()
    log = ["--track", "knn", "--dataset-id", "org/tones", "--model-name", "my-encoder", *LOG]
    folder = run(tmp_path, *tasks, code=1, flags=log)
    check_logged(logged, folder, name="my-encoder", suite="probe")
    assert any(key.startswith("undefined.absent/") for key in logged[0][1].settings)
    monkeypatch.setitem(sys.modules, "wandb", None)
    run(tmp_path, *tasks, code=2, flags=log, out="new")
    assert "`uv run --extra wandb probe.py …`" in capsys.readouterr().err
    assert len(logged) == 1 and not (tmp_path / "new").exists()
