"""finetune_speaker.py: outputs, faults, resuming after a kill, several processes, and the demo speech."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("kaldi_native_fbank")

import evaluate_speaker  # noqa: E402
import finetune_speaker  # noqa: E402
from earmark.models.encoders.registry import load_encoder  # noqa: E402
from earmark.models.encoders.wespeaker.checkpoint import read_tensors  # noqa: E402
from earmark.speaker.finetune import loop  # noqa: E402
from tests.conftest import ROOT  # noqa: E402
from tests.models.encoders.wespeaker.checkpoints import write_checkpoint  # noqa: E402
from tests.speaker.finetune.voices import voice, write_voices  # noqa: E402

SMALL = ["segment_frames=40", "min_frames=20", "batch_size=4", "epochs=2", "learning_rate=0.01,0.001"]
STRICT = ["--recipe", "strict", "--set", *SMALL, "validation_share=0.34"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder with a checkpoint, init/, and clips of six voices, audio/."""
    folder = tmp_path_factory.mktemp("data")
    write_checkpoint(folder / "init")
    write_voices(folder / "audio")
    return folder


def words(data, output, *flags):
    own = ["--init", data / "init", "--train", data / "audio", "--output-dir", output, "--device", "cpu", "--quiet"]
    return list(map(str, [*own, *flags]))


def train(data, output, *flags):
    return finetune_speaker.main(words(data, output, *flags))


def epochs(output):
    return pd.read_csv(output / "log.csv").epoch.tolist() if (output / "log.csv").exists() else []


@pytest.fixture(scope="module")
def strict_run(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "strict"
    assert train(data, output, *STRICT, "--figures") == 0
    return output


# --- outputs --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_finetune_writes_checkpoint_that_evaluation_loads(strict_run):
    encoder = load_encoder(f"wespeaker:{strict_run}", device="cpu")
    assert encoder.embed([voice(0, 0)]).shape == (1, 16)
    names = {path.relative_to(strict_run).as_posix() for path in strict_run.rglob("*") if path.is_file()}
    assert names >= {
        *("avg_model.pt", "config.yaml", "log.csv", "summary.json", "report.md", "report.html", "model_card.md"),
        *("validation_trials.txt", "figures/training.svg", "figures/training.csv"),
    }


@pytest.mark.slow
def test_finetune_strict_writes_epoch_with_lowest_eer_of_held_out_speakers(strict_run):
    summary = json.loads((strict_run / "summary.json").read_text())
    assert (summary["training"]["n_speakers"], summary["held_out"]["n_speakers"]) == (4, 2)
    assert [row["epoch"] for row in summary["epochs"]] == epochs(strict_run) == [0, 1, 2]
    rates = {row["epoch"]: row["validation_eer"] for row in summary["epochs"][1:]}
    assert summary["written_epoch"] == min(rates, key=lambda epoch: (rates[epoch], epoch))
    compared = {part: estimate["value"] for part, estimate in summary["validation"]["rates"]["eer"].items()}
    assert compared["after"] == pytest.approx(rates[summary["written_epoch"]])
    assert compared["before"] == pytest.approx(summary["epochs"][0]["validation_eer"])
    assert compared["difference"] == pytest.approx(compared["after"] - compared["before"])


@pytest.mark.slow
def test_finetune_validation_eer_is_that_of_evaluate_speaker(strict_run, data, tmp_path):
    command = ["trials", "--trials", strict_run / "validation_trials.txt", "--audio-root", data / "audio"]
    command += ["--encoder", f"wespeaker:{strict_run}", "--output-dir", tmp_path / "out", "--no-figures", "--quiet"]
    command += ["--embedding-cache", tmp_path / "cache", "--device", "cpu"]
    assert evaluate_speaker.main(list(map(str, command))) == 0
    evaluated = json.loads((tmp_path / "out/summary.json").read_text())["metrics"]["eer"]["value"]
    summary = json.loads((strict_run / "summary.json").read_text())
    assert evaluated == pytest.approx(summary["validation"]["rates"]["eer"]["after"]["value"], abs=1e-9)


@pytest.mark.slow
def test_finetune_published_trains_on_all_and_writes_last_epoch(data, tmp_path, capsys):
    assert train(data, tmp_path / "out", "--set", *SMALL, "--no-figures") == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["training"]["n_speakers"] == 6 and summary["held_out"] is None and summary["validation"] is None
    assert summary["written_epoch"] == 2 and summary["seed"] == 42
    assert "No validation" in capsys.readouterr().out
    assert not (tmp_path / "out/report.html").exists()


@pytest.mark.slow
def test_finetune_validates_on_list(data, tmp_path):
    write_voices(tmp_path / "dev", 8)
    held_out = [f"spk{speaker}" for speaker in (6, 7)]
    lines = [f"1 {name}/de/0.wav {name}/en/1.wav" for name in held_out]
    lines += [f"0 spk6/{pair}.wav spk7/{pair}.wav" for pair in ("de/0", "en/1")]
    (tmp_path / "dev/dev.txt").write_text("\n".join(lines) + "\n")
    flags = ["--set", *SMALL, "epochs=1", "--validation", tmp_path / "dev/dev.txt", "--no-figures"]
    assert train(data, tmp_path / "out", *flags) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["validation"]["source"] == "dev.txt" and summary["validation"]["n_target"] == 2
    assert summary["training"]["n_speakers"] == 6


# --- resuming -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_finetune_gives_same_weights_after_kill(data, tmp_path):
    flags = [*STRICT, "epochs=6", "augment_probability=0.5", "--no-figures"]
    assert train(data, tmp_path / "whole", *flags) == 0
    command = [sys.executable, "finetune_speaker.py", *words(data, tmp_path / "killed", *flags)]
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(epochs(tmp_path / "killed")) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 3 <= len(epochs(tmp_path / "killed")) < 7  # killed between the first and the last epoch
    assert train(data, tmp_path / "killed", *flags) == 0
    whole, resumed = (read_tensors(tmp_path / name / "avg_model.pt") for name in ("whole", "killed"))
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    pd.testing.assert_frame_equal(*(pd.read_csv(tmp_path / name / "log.csv") for name in ("whole", "killed")))


@pytest.mark.slow
def test_finetune_does_not_mix_runs(strict_run, data, capsys):
    before = (strict_run / "avg_model.pt").read_bytes()
    assert train(data, strict_run, *STRICT, "epochs=3") == 1
    assert "has a run with other settings: epochs 2 ≠ 3. Give another --output-dir" in capsys.readouterr().err
    assert (strict_run / "avg_model.pt").read_bytes() == before
    assert train(data, strict_run, *STRICT) == 0  # finished: writes the reports again
    assert (strict_run / "avg_model.pt").read_bytes() == before


@pytest.mark.slow
def test_finetune_names_damaged_state(data, tmp_path, capsys):
    (tmp_path / "training_state.pt").write_bytes(b"damaged")
    assert train(data, tmp_path, "--set", *SMALL) == 1
    assert "training_state.pt: cannot be read. Give another --output-dir" in capsys.readouterr().err


@pytest.mark.slow
def test_finetune_keeps_edited_model_card_unless_restarted(data, tmp_path):
    flags = ["--set", *SMALL, "epochs=1", "--no-figures"]
    assert train(data, tmp_path / "out", *flags) == 0
    (tmp_path / "out/model_card.md").write_text("edited")
    assert train(data, tmp_path / "out", *flags) == 0
    assert (tmp_path / "out/model_card.md").read_text() == "edited"
    assert train(data, tmp_path / "out", *flags, "--restart", "--train", "none") == 2  # a fault removes nothing
    assert (tmp_path / "out/model_card.md").read_text() == "edited"
    assert train(data, tmp_path / "out", *flags, "--restart") == 0
    assert "edited" not in (tmp_path / "out/model_card.md").read_text()


# --- faults ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_finetune_stops_at_infinite_loss_and_keeps_last_good_checkpoint(data, tmp_path, capsys, monkeypatch):
    step, calls = loop.Trainer._step, []

    def failing(self, model, features, labels, rate):
        calls.append(rate)
        return step(self, model, features if len(calls) <= self.steps + 1 else features * torch.nan, labels, rate)

    monkeypatch.setattr(loop.Trainer, "_step", failing)
    assert train(data, tmp_path / "out", "--set", *SMALL) == 1
    error = capsys.readouterr().err
    assert "Training was stopped in epoch 2, step 2: the loss is nan" in error
    assert "avg_model.pt is the checkpoint of epoch 1, the last good one" in error
    assert all(value.isfinite().all() for value in read_tensors(tmp_path / "out/avg_model.pt").values())
    assert epochs(tmp_path / "out") == [0, 1]


@pytest.mark.slow
def test_finetune_stops_where_rate_is_too_high(data, tmp_path, capsys):
    assert train(data, tmp_path / "out", "--set", *SMALL, "learning_rate=1e30,1e30") == 1
    assert "Training was stopped in epoch 1" in (error := capsys.readouterr().err)
    assert "No epoch was finished" in error and not (tmp_path / "out/avg_model.pt").exists()


def test_finetune_refuses_training_speakers_in_test_list(data, tmp_path, capsys):
    (tmp_path / "test.txt").write_text("1 spk0/de/0.wav spk0/en/0.wav\n0 spk0/de/0.wav new/en/0.wav\n")
    assert train(data, tmp_path / "out", "--set", *SMALL, "--test", tmp_path / "test.txt") == 1
    assert "test.txt: 1 training speaker (spk0)" in capsys.readouterr().err


@pytest.mark.slow
def test_finetune_reports_allowed_overlap(data, tmp_path):
    (tmp_path / "test.txt").write_text("1 spk0/de/0.wav spk0/en/0.wav\n0 spk0/de/0.wav new/en/0.wav\n")
    flags = ["--set", *SMALL, "epochs=1", "--test", tmp_path / "test.txt", "--allow-overlap", "--no-figures"]
    assert train(data, tmp_path / "out", *flags) == 0
    assert json.loads((tmp_path / "out/summary.json").read_text())["overlap"] == {"test.txt": ["spk0"]}
    assert "error rates on these lists are too low" in (tmp_path / "out/report.md").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--set", "epoch=1"], "'epoch=1' is not one of"),
        (["--set", "select=best"], "select=best needs validation"),
        (["--device", "gpu"], "device 'gpu' is not available"),
        (["--train", "none"], "none does not exist"),
        (["--init", "none/here/deep"], "cannot be found|no such|has no config.yaml"),
    ],
)
def test_finetune_names_wrong_usage(data, tmp_path, capsys, flags, message):
    assert train(data, tmp_path / "out", *flags) == 2
    assert re.search(message, capsys.readouterr().err)


def test_finetune_needs_one_origin_of_weights(data, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        finetune_speaker.main(["--train", str(data / "audio"), "--output-dir", str(tmp_path)])
    assert caught.value.code == 2 and "--init" in capsys.readouterr().err


# --- several processes, mixed precision -----------------------------------------------------------------------


@pytest.mark.slow
def test_finetune_runs_on_two_processes(data, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["finetune_speaker.py", *words(data, tmp_path / "out", *STRICT, "batch_size=2", "--no-figures")]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("# Fine-tuning: out") == 1  # one process writes
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["processes"] == 2 and summary["steps_per_epoch"] == 16 // (2 * 2)
    assert load_encoder(f"wespeaker:{tmp_path / 'out'}", device="cpu").embed([voice(0, 0)]).shape == (1, 16)


@pytest.mark.slow
def test_finetune_trains_with_mixed_precision(data, tmp_path):
    assert train(data, tmp_path / "out", "--set", *SMALL, "--dtype", "bfloat16", "--no-figures") == 0
    log = pd.read_csv(tmp_path / "out/log.csv")
    assert log.loss[1:].notna().all() and len(log) == 3


# --- demo speech ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_finetune_on_demo_speech_improves_held_out_voices_across_languages(tmp_path):
    """The command of the README: about two minutes of one core."""
    command = ["--model", "simam-resnet-tiny", "--train", str(ROOT / "dataset/speaker-demo"), "--device", "cpu"]
    assert finetune_speaker.main([*command, "--output-dir", str(tmp_path / "tiny"), "--quiet", "--no-figures"]) == 0
    summary = json.loads((tmp_path / "tiny/summary.json").read_text())
    assert (summary["training"]["n_speakers"], summary["held_out"]["n_speakers"]) == (18, 6)
    rate = summary["validation"]["rates"]["cross_language_eer"]
    before, after = rate["before"]["value"], rate["after"]["value"]
    last = summary["epochs"][-1]["validation_cross_language_eer"]  # not chosen by validation
    assert before > 0.35 and max(after, last) < before - 0.05
