"""probe.py as jobs of an array run it: several processes in one folder, interrupted ones, several encoders."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")

import compare
import probe
from earmark.probing.schema import ProbeSummary
from earmark.report.schema import read_summary
from tests.conftest import ROOT, interruptible
from tests.models.encoders.sources import case, layered, save
from tests.test_probe import QUICK, write_task

KNN = ["--track", "knn", "--device", "cpu", "--quiet", "--no-figures", *QUICK]


def words(tmp_path, encoder, *tasks, out="out", cache="store"):
    """Arguments of a run with k-NN probes."""
    flags = ["--output-dir", tmp_path / out, "--embedding-cache", tmp_path / cache, "--data-root", tmp_path / "data"]
    return [str(word) for word in ["--encoder", encoder, *flags, *KNN, "--tasks", *tasks]]


def start(*arguments):
    """A real process of probe.py."""
    return subprocess.Popen(
        [sys.executable, "probe.py", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    )


def wait_for_lock(folder, task):
    """Wait until a process works on a task."""
    lock = folder / ".locks" / task / ".lock"
    for _ in range(1200):
        if lock.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"nobody worked on {task}")


def tasks_of(folder):
    return sorted({row.task for row in read_summary(ProbeSummary, folder / "summary.json").scores})


def report_of(folder):
    return read_summary(ProbeSummary, folder / "summary.json")


@pytest.mark.slow
def test_two_jobs_at_once_share_a_folder_and_the_report_has_both(tmp_path):
    files = [write_task(tmp_path, name) for name in ("one", "two")]
    encoder = save(tmp_path, "bands.py", case(0.01))
    jobs = [start(*words(tmp_path, encoder, file)) for file in files]
    assert [job.wait(timeout=300) for job in jobs] == [0, 0]
    (folder,) = (tmp_path / "out").iterdir()
    assert tasks_of(folder) == ["one", "two"]
    assert set(pd.read_csv(folder / "scores.csv")["task"]) == {"one", "two"}


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_job_holds_nothing_back(tmp_path, how):
    file, encoder = write_task(tmp_path, "one"), save(tmp_path, "bands.py", case(0.5))
    arguments = words(tmp_path, encoder, file)
    folder = tmp_path / "out/bands"
    first = start(*arguments)
    wait_for_lock(folder, "one")
    # another job skips the task and says so
    assert probe.main([*arguments[:-1], arguments[-1]]) == 0
    assert [each.reason for each in report_of(folder).skipped] == ["another process is working on it"]
    os.kill(first.pid, how)
    assert first.wait(timeout=60) == (-9 if how == signal.SIGKILL else 130)
    save(tmp_path, "bands.py", case(0.5))
    assert probe.main(arguments) == 0
    assert tasks_of(folder) == ["one"] and report_of(folder).skipped == []
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["bands"]


@pytest.mark.slow
def test_wait_takes_the_scores_of_the_other_process(tmp_path, monkeypatch):
    file, encoder = write_task(tmp_path, "one"), save(tmp_path, "bands.py", case(0.15))
    arguments = words(tmp_path, encoder, file)
    first = start(*arguments)
    wait_for_lock(tmp_path / "out/bands", "one")
    monkeypatch.setattr("earmark.probing.jobs._probe_and_store", lambda *_: pytest.fail("computed twice"))
    assert probe.main(["--wait", *arguments]) == 0
    assert first.wait(timeout=60) == 0
    assert tasks_of(tmp_path / "out/bands") == ["one"]


@pytest.mark.slow
def test_report_covers_tasks_of_earlier_calls_unless_restricted(tmp_path, capsys):
    one, two = write_task(tmp_path, "one"), write_task(tmp_path, "two")
    folder = tmp_path / "out/logmel"
    assert probe.main(words(tmp_path, "logmel", two)) == 0
    assert probe.main(words(tmp_path, "logmel", one)) == 0
    assert tasks_of(folder) == ["one", "two"] and report_of(folder).collected == ["two"]
    assert "Finished by other runs with the same settings: two." in capsys.readouterr().out
    assert probe.main(["--only-these-tasks", *words(tmp_path, "logmel", one)]) == 0
    assert tasks_of(folder) == ["one"]
    assert probe.main(["--recipe", "strict", *words(tmp_path, "logmel", one)]) == 0
    assert tasks_of(folder) == ["one"]
    (left_out,) = report_of(folder).skipped
    assert left_out.task == "two" and "protocols xares+strict instead of strict" in left_out.reason


@pytest.mark.slow
def test_report_leaves_out_tasks_whose_labels_changed(tmp_path):
    one, two = write_task(tmp_path, "one"), write_task(tmp_path, "two")
    folder = tmp_path / "out/logmel"
    assert probe.main(words(tmp_path, "logmel", one, two)) == 0
    (tmp_path / "two.csv").write_text((tmp_path / "two.csv").read_text().replace("low.wav,low", "low.wav,deep"))
    assert probe.main(words(tmp_path, "logmel", one)) == 0
    assert tasks_of(folder) == ["one"]
    assert ["its labels were changed" in each.reason for each in report_of(folder).skipped] == [True]
    assert probe.main(words(tmp_path, "logmel", two)) == 0
    assert tasks_of(folder) == ["one", "two"] and report_of(folder).skipped == []


@pytest.mark.slow
def test_report_command_joins_encoders_and_names_missing_tasks(tmp_path, capsys):
    one, two = write_task(tmp_path, "one"), write_task(tmp_path, "two")
    encoder = save(tmp_path, "bands.py", case())
    assert probe.main(words(tmp_path, "logmel", one, out="a")) == 0
    assert probe.main(words(tmp_path, "logmel", two, out="b")) == 0
    assert probe.main(words(tmp_path, encoder, one, out="b")) == 0
    out = ["--output-dir", str(tmp_path / "joint"), "--no-figures"]
    assert probe.main(["report", str(tmp_path / "a"), str(tmp_path / "b"), *out]) == 0
    assert tasks_of(tmp_path / "joint/logmel") == ["one", "two"]  # one encoder on two machines
    joint = pd.read_csv(tmp_path / "joint/scores.csv")
    assert set(zip(joint["encoder"], joint["task"], strict=True)) == {
        ("logmel", "one"), ("logmel", "two"), ("bands", "one"),
    }  # fmt: skip
    report = (tmp_path / "joint/report.md").read_text()
    assert "| task | metric | logmel | bands |" in report and "bands has no scores of two" in report
    folder = str(tmp_path / "joint/logmel")
    assert probe.main(["report", folder, "--tasks", "one", "three", *out]) == 1
    assert "three: no finished result in these folders" in capsys.readouterr().err
    assert tasks_of(tmp_path / "joint/logmel") == ["one"]


@pytest.mark.slow
def test_dry_run_lists_sizes_and_order_and_does_nothing(tmp_path, capsys):
    small, large = write_task(tmp_path, "small"), write_task(tmp_path, "large", n=(9, 2, 3))
    assert probe.main(["--dry-run", "--workers", "2", *words(tmp_path, "logmel", small, large)]) == 0
    shown = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines() if line.startswith("| ")]
    assert [row[:3] + row[4:] for row in rows[1:]] == [
        ["1", "large", "42", "0", "to run"], ["2", "small", "33", "0", "to run"],
    ]  # fmt: skip
    assert not (tmp_path / "out").exists() and not (tmp_path / "store").exists()
    assert probe.main(words(tmp_path, "logmel", small)) == 0
    capsys.readouterr()
    assert probe.main(["--dry-run", *words(tmp_path, "logmel", small, large)]) == 0
    assert re.search(r"\| – \| small \| 33 \| [\d.]+ MB \| \d+ \| finished \|", capsys.readouterr().out)
    for path in (tmp_path / "small").iterdir():
        os.utime(path, (time.time() - 60, time.time() - 60))
    assert probe.main(["--dry-run", *words(tmp_path, "logmel", small, large)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"\| 1 \| small \| 33 \| [\d.]+ MB \| 0 \| to run \|", shown)  # new time stamps


@pytest.mark.slow
def test_checkpoints_side_by_side_then_compared_with_steps(tmp_path, capsys):
    one, two = write_task(tmp_path, "one", n=(6, 2, 8)), write_task(tmp_path, "two", n=(6, 2, 8))
    steps = [100, 200, 1000]
    files = [save(tmp_path, f"step_{step}.py", case() + f"\n# {step}\n") for step in steps]
    arguments = words(tmp_path, files[0], one, two)
    arguments[1:2] = map(str, files)
    assert probe.main(arguments) == 0
    assert "| task | metric | step_100-bands | step_200-bands | step_1000-bands |" in capsys.readouterr().out
    folders = [str(tmp_path / f"out/step_{step}-bands") for step in steps]
    flags = ["--output-dir", str(tmp_path / "compare"), "--bootstrap", "50", "--quiet", "--figures"]
    assert compare.main([*folders, *flags]) == 0
    (folder,) = (tmp_path / "compare").iterdir()
    scores = pd.read_csv(folder / "scores.csv")
    assert sorted(set(scores["step"])) == steps and set(scores["rank"]) == {1}  # the same model three times
    assert (folder / "figures/steps.svg").is_file()
    by_task = pd.read_csv(folder / "figures/steps_by_task.csv")
    assert set(by_task["panel"]) == {"one (accuracy)", "two (accuracy)"} and set(by_task["x"]) == set(steps)
    assert "mean rank over tasks" in (folder / "report.md").read_text()


@pytest.mark.slow
def test_layers_have_a_map_of_layer_and_task_alone_and_compared(tmp_path):
    one, two = write_task(tmp_path, "one"), write_task(tmp_path, "two")
    files = [save(tmp_path, f"{name}.py", layered()) for name in ("a", "b")]
    arguments = words(tmp_path, files[0], one, two)
    arguments[arguments.index("--no-figures")] = "--figures"
    arguments[1:2] = map(str, files)
    assert probe.main(["--layers", "all", *arguments]) == 0
    folders = sorted((tmp_path / "out").glob("*-layers"))
    assert len(folders) == 2
    own = pd.read_csv(folders[0] / "figures/layer_map_knn-strict.csv")
    assert list(own.columns) == ["layer", "one", "two"] and len(own) > 1
    assert (folders[0] / "figures/layer_map_knn-strict.svg").is_file()
    flags = ["--output-dir", str(tmp_path / "compare"), "--quiet", "--figures"]
    assert compare.main([*map(str, folders), *flags]) == 0
    (folder,) = (tmp_path / "compare").iterdir()
    assert len(list((folder / "figures").glob("layer_map_*.svg"))) == 4  # two encoders, two recipes
    rows = json.loads((folder / "summary.json").read_text())["comparisons"]
    assert {row["slice"] for row in rows} == {"layer"}
    assert all(row["p"] is None and row["difference"]["low"] is None for row in rows)
