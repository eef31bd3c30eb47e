"""Checks in a process of their own: limits, deaths, interruptions. The encoders are unmodified user files."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

import probe
from earmark.errors import EarmarkError, MissingError
from earmark.models.encoders.conformance.isolation import (
    CheckPlan,
    Ended,
    Started,
    _Progress,
    check_apart,
    run_watched,
)
from earmark.models.encoders.conformance.memory import held_bytes
from earmark.models.encoders.conformance.runner import REQUIREMENTS, CheckResult, check_encoder
from earmark.models.encoders.options import EncoderOptions
from tests.conftest import ROOT, interruptible
from tests.hostile import Reply, hostile_server
from tests.models.encoders import sources
from tests.models.encoders.sources import save
from tests.models.encoders.test_endpoint import embed

NAMES = [requirement.name for requirement in REQUIREMENTS]
# Four heads of full attention over frames of 20 ms, without any economy: the weights of 80 s take 4 · 4,000² · 4 bytes.
ATTENTION = """import torch


class AttentionEncoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.sampling_rate, self.output_dim, self.hop_size_in_ms = 16_000, 16, 20
        torch.manual_seed(0)
        self.front = torch.nn.Conv1d(1, 16, 400, stride=320, padding=200)

    def forward(self, audio):
        x = self.front(audio[:, None]).transpose(1, 2)
        heads = x.unflatten(2, (4, 4)).transpose(1, 2)
        weights = torch.softmax(heads @ heads.transpose(2, 3), dim=-1)
        return x + (weights @ heads).transpose(1, 2).flatten(2)
"""
CASE = sources.case().replace("assert self.ready", "assert self.ready\n        BODY")


def options(file, **settings) -> EncoderOptions:
    return EncoderOptions(encoder=str(file), **{"device": "cpu", **settings})


def check_file(file, **limits):
    results = list(check_apart(options(file), **limits))
    assert [result.name for result in results] == NAMES
    return {result.name: result for result in results}


def needs_torch():
    pytest.importorskip("torch", reason="the extra `torch` is not installed")


@pytest.mark.slow
def test_full_attention_is_bounded_and_the_longest_clip_that_fits_is_found(tmp_path):
    needs_torch()
    loaded = 700_000_000  # torch and a clip of ten seconds; twice the weights of 80 s are 0.5 GB, those of 160 s 2 GB
    results = check_file(save(tmp_path, "mine.py", ATTENTION), max_memory=loaded + 1_000_000_000)
    longest = results["longest clip"]
    assert longest.passed is False
    match = re.fullmatch(r"up to (\d+) s; (\d+) s needs more than 1\.7 GB of memory \(--max-memory\)", longest.observed)
    assert match and int(match[2]) == 2 * int(match[1]) and int(match[1]) in (40, 80)
    assert results["memory"].passed is None and results["memory"].observed.endswith(
        f"for {match[1]} s, the longest clip embedded"
    )
    assert results["speed"].observed.endswith("the longest clip embedded")
    assert results["eval mode"].passed  # runs in a new process
    assert results["hop"].passed and results["batch invariance"].passed


def fill_memory(plan, sender, folder):
    kept = []
    for i in range(80):
        kept.append(b"x" * 50_000_000)
        sender.send(Started(str(i)))
    time.sleep(60)


@pytest.mark.slow
def test_run_watched_kills_soon_after_the_limit(tmp_path):
    messages = list(run_watched(fill_memory, CheckPlan(options("logmel"), 10, ()), 900_000_000, tmp_path))
    assert messages[-1] == Ended("needs more than 900 MB of memory (--max-memory)")
    assert 5 < len(messages) - 1 < 40  # of 18 blocks at the limit, less what Python takes, and of 80 in all


def test_death_between_two_checks_loses_nothing():
    progress = _Progress(CheckPlan(options("logmel"), 10, ("finite", "speed")))
    result = CheckResult("finite", True, "", "", "earmark")
    messages = [Started("finite"), result, Ended("ended the process with SIGKILL")]
    assert [each for message in messages for each in progress.results(message)] == [result]
    assert progress.next_plan().names == ("speed",)


@pytest.mark.slow
def test_same_results_as_in_one_process(tmp_path):
    file = save(tmp_path, "mine.py", sources.case())
    apart = check_file(file, max_clip_seconds=2, max_memory=8_000_000_000)
    here = {result.name: result for result in check_encoder(str(file), device="cpu", max_clip_seconds=2)}
    measured = {"memory", "speed"}
    assert [apart[name] for name in NAMES if name not in measured] == [
        here[name] for name in NAMES if name not in measured
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os.kill(os.getpid(), 11)", "ended the process with SIGSEGV"),
        ("os.kill(os.getpid(), 9)", "ended the process with SIGKILL, as the system does when memory runs out"),
        ("os._exit(3)", "ended the process with exit code 3"),
        ("kept = [b'x' * 50_000_000 for _ in range(80)]", "needs more than 700 MB of memory (--max-memory)"),
    ],
)
def test_death_fails_its_check_and_the_others_run(tmp_path, body, reason):
    # Only the clip of 3.3 s of the check `dimension` is so long.
    text = "import os\n" + CASE.replace("BODY", f"if 50_000 < os.path.getsize(audio_path) // 2 < 60_000: {body}")
    results = check_file(save(tmp_path, "mine.py", text), max_clip_seconds=2, max_memory=700_000_000)
    assert {name: result.observed for name, result in results.items() if result.passed is False} == {
        "dimension": reason
    }
    assert results["repeatable"].passed and results["speed"].passed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "observed"),
    [("os._exit(0)", "ended the process with exit code 0"), ("time.sleep(0)", None)],
)
def test_death_at_the_longest_clip_keeps_the_shorter(tmp_path, body, observed):
    text = "import os, time\n" + CASE.replace("BODY", f"if os.path.getsize(audio_path) > 1_000_000: {body}")
    results = check_file(save(tmp_path, "mine.py", text), max_clip_seconds=60, max_memory=8_000_000_000)
    assert results["longest clip"].observed == (f"up to 20 s; 40 s {observed}" if observed else "6 values for 60 s")


@pytest.mark.slow
def test_loading_above_the_limit_ends_the_checks(tmp_path):
    text = "KEPT = [b'x' * 50_000_000 for _ in range(80)]\n" + sources.case()
    results = check_file(save(tmp_path, "mine.py", text), max_memory=600_000_000)
    reason = "loading needs more than 600 MB of memory (--max-memory)"
    assert (results["loadable"].passed, results["loadable"].observed) == (False, reason)
    others = [result for name, result in results.items() if name != "loadable"]
    assert {(result.passed, result.observed) for result in others} == {(None, f"not checked: {reason}")}


@pytest.mark.slow
def test_missing_file_or_package_is_raised_in_the_parent(tmp_path):
    with pytest.raises(MissingError, match=r"no such file; expected FILE\.py"):
        list(check_apart(options(tmp_path / "absent.py")))
    with pytest.raises(MissingError, match=r"No module named 'nobody'; try `uv run --with nobody "):
        list(check_apart(options(save(tmp_path, "mine.py", "import nobody\n"))))
    with pytest.raises(EarmarkError, match="max_clip_seconds is 0") as caught:
        list(check_apart(options("logmel"), max_clip_seconds=0))
    assert not isinstance(caught.value, MissingError)


@pytest.mark.slow
def test_server_is_checked_and_must_be_reachable():
    with hostile_server(lambda n, body: embed(n, body) if body else Reply({})) as server:
        results = list(check_apart(EncoderOptions(encoder=server.url), max_clip_seconds=2))
    assert not [result.name for result in results if result.passed is False]
    with pytest.raises(MissingError):
        list(check_apart(EncoderOptions(encoder=server.url), max_clip_seconds=2))


@pytest.mark.slow
def test_message_of_a_row_names_the_script(tmp_path, capsys):
    needs_torch()
    text = "import torch\nraise RuntimeError('PyTorch and TorchAudio were compiled with different CUDA versions')\n"
    assert probe.main(["check", str(save(tmp_path, "mine.py", text))]) == 1
    out = capsys.readouterr().out.replace("\\`", "`")  # escaped in Markdown
    assert "; try `uv run --extra torch --with torchaudio==2.11.0 --with torch==2.11.0 probe.py …`" in out


@pytest.mark.slow
def test_interrupted_check_prints_what_was_found_and_leaves_nothing(tmp_path):
    wait = "if os.path.getsize(audio_path) > 1_000_000: open(MARK, 'w').write(str(os.getpid())); time.sleep(600)"
    mark = tmp_path / "mark"
    text = "import os, time\n" + CASE.replace("BODY", wait.replace("MARK", repr(str(mark))))
    command = [sys.executable, str(ROOT / "probe.py"), "check", str(save(tmp_path, "mine.py", text))]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        command, **pipes, env=environment, start_new_session=True, preexec_fn=interruptible
    ) as process:
        deadline = time.monotonic() + 100
        while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    rows = [line.split(" | ")[:1] + line.split(" | ")[3:4] for line in out.splitlines()]
    assert ["| loadable", "bands: 16,000 Hz, 6 dimensions"] in rows
    assert ["| longest clip", "up to 20 s; 40 s was interrupted"] in rows
    assert held_bytes(int(mark.read_text())) is None
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
def test_rows_are_printed_as_they_are_found(tmp_path):
    text = "import os, time\n" + CASE.replace("BODY", "if os.path.getsize(audio_path) > 1_000_000: time.sleep(600)")
    command = [sys.executable, str(ROOT / "probe.py"), "check", str(save(tmp_path, "mine.py", text))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=interruptible) as process:
        lines = [process.stdout.readline() for _ in range(3 + NAMES.index("10 ms"))]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == NAMES[: NAMES.index("10 ms") + 1]


@pytest.mark.slow
def test_check_flags(tmp_path, capsys):
    file = str(save(tmp_path, "mine.py", sources.case()))
    assert probe.main(["check", file, "--longest", "4", "--max-memory", "4GB"]) == 0
    assert "6 values for 4 s" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        probe.main(["check", file, "--max-memory", "much"])
    assert "'much' is not a size such as 6GB or 500MiB" in capsys.readouterr().err
