"""benchmark.py against a server: interrupted and continued runs, concurrent runs, servers that stop."""

import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

import benchmark
from earmark.audio_text.scorers.sham import sham_similarity
from earmark.audio_text.scorers.sham_stem import sham_stem
from tests.conftest import interruptible
from tests.hostile import Reply, hostile_server

ROOT = Path(__file__).resolve().parents[1]
DURATIONS = ("created_utc", "scorer", "argv")


def sham(n, body, seconds=0.0):
    time.sleep(seconds)
    return Reply({"similarity": sham_similarity(sham_stem(body["audio_relpath"]), body["text"])})


# Pairs of the demo that a model scores: those with a label, and ties of two raters (comparison with single raters).
EMO, DIM = 83 + 7, 45 + 3


def command(url, out, *flags):
    words = ["--endpoint", url, "--output-dir", str(out), "--quiet", "--no-figures"]
    return [sys.executable, "benchmark.py", *words, *flags]


def environment(**variables):
    return {**os.environ, "NO_PROXY": "127.0.0.1", **variables}


def contents(out):
    """Text of every file of a run, without keys that differ between two runs of the same command."""
    texts = {}
    for path in sorted(out.rglob("*")):
        if not path.is_file() or path.name == ".lock":
            continue
        text = path.read_text(encoding="utf-8")
        if path.name == "summary.json":
            data = json.loads(text)
            text = json.dumps({key: value for key, value in data.items() if key not in DURATIONS})
        texts[path.relative_to(out).as_posix()] = text
    return texts


def pairs(requests):
    return [(body["audio_relpath"], body["text"]) for _, body in requests]


def wait_for_replies(journal, n):
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= n):
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("subset", "replies"), [("emolia-emo", 10), ("emolia-dim", 20)])
def test_killed_run_continues(tmp_path, subset, replies):
    """Kill the run in the first subset, or in the second; finished pairs are not requested again."""
    with hostile_server(lambda n, body: sham(n, body, 0.02)) as server:
        with subprocess.Popen(command(server.url, tmp_path / "killed", "--concurrency", "2"), cwd=ROOT) as run:
            wait_for_replies(tmp_path / "killed" / subset / "journal.jsonl", replies)
            run.send_signal(signal.SIGKILL)
        n_requests = len(server.requests)
        done = subprocess.run(
            command(server.url, tmp_path / "killed", "--concurrency", "2"), cwd=ROOT, capture_output=True, check=False
        )
        assert done.returncode == 0
        first, second = pairs(server.requests[:n_requests]), pairs(server.requests[n_requests:])
        # Only requests in flight and the first pair of each journal may be repeated.
        assert len(set(first) & set(second)) <= 2 + (1 if subset == "emolia-emo" else 2)
        assert len(set(first) | set(second)) == EMO + DIM

        subprocess.run(command(server.url, tmp_path / "undisturbed"), cwd=ROOT, capture_output=True, check=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


@pytest.mark.slow
def test_complete_run_removes_journal(tmp_path):
    with hostile_server(sham) as server:
        for _ in range(2):
            assert benchmark.main([*command(server.url, tmp_path)[2:], "--subset", "emolia-dim"]) == 0
        assert len(server.requests) == 2 * DIM
    assert not list(tmp_path.rglob("journal.jsonl"))


@pytest.mark.slow
def test_second_run_requests_failed_pairs_only(tmp_path):
    flags = ["--subset", "emolia-dim", "--retries", "0"]
    with hostile_server(lambda n, body: Reply({}, 404) if n % 5 == 0 else sham(n, body)) as server:
        assert benchmark.main([*command(server.url, tmp_path)[2:], *flags]) == 1
        port = int(server.url.split(":")[2].split("/")[0])
    with hostile_server(sham, port) as server:
        assert benchmark.main([*command(server.url, tmp_path)[2:], *flags]) == 0
        assert len(server.requests) == 10 + 1  # one known pair, to check that the model is the same


@pytest.mark.slow
def test_changed_model_needs_restart(tmp_path, capsys):
    flags = ["--subset", "emolia-dim", "--retries", "0"]
    with hostile_server(lambda n, body: Reply({}, 404) if n % 5 == 0 else sham(n, body)) as server:
        assert benchmark.main([*command(server.url, tmp_path)[2:], *flags]) == 1
        port = int(server.url.split(":")[2].split("/")[0])
    before = contents(tmp_path)
    capsys.readouterr()
    with hostile_server(lambda n, body: Reply({"similarity": 0.125}), port) as server:
        assert benchmark.main([*command(server.url, tmp_path)[2:], *flags]) == 2
        error = capsys.readouterr().err
        assert "journal.jsonl: its 38 results are from a different model" in error
        assert "Use --restart to compute all results again" in error
        assert error.count("\n") == 1
        assert contents(tmp_path) == before
        assert benchmark.main([*command(server.url, tmp_path)[2:], *flags, "--restart"]) == 0
        assert len(server.requests) == 1 + DIM


def test_nearly_identical_text_embeddings_are_reported(tmp_path, capsys):
    def embed(n, body):
        numbers = [int.from_bytes(sha256(text.encode()).digest()[:4], "big") / 2**32 for text in body["input"]]
        spread = 1e-3 if body["modality"] == "text" else 1.0
        return Reply({"data": [{"index": i, "embedding": [1.0, spread * x]} for i, x in enumerate(numbers)]})

    with hostile_server(embed) as server:
        flags = ["--embeddings-endpoint", server.url, "--subset", "emolia-dim", "--output-dir", str(tmp_path)]
        assert benchmark.main(flags) == 0
    assert "emolia-dim: http://127.0.0.1" in capsys.readouterr().err
    scorer = json.loads((tmp_path / "emolia-dim" / "summary.json").read_text())["scorer"]
    assert "nearly identical" in scorer["warnings"][0]


@pytest.mark.slow
def test_surrogates_in_replies_and_names(tmp_path):
    half = Reply(b'{"similarity": "\\ud800\xed\xa0\x80"}')
    flags = ["--subset", "emolia-dim", "--retries", "0", "--concurrency", "1"]
    with hostile_server(lambda n, body: half if n % 5 == 0 else sham(n, body)) as server:
        assert benchmark.main([*command(server.url, tmp_path)[2:], *flags]) == 1
    predictions = (tmp_path / "emolia-dim" / "predictions.csv").read_text(encoding="utf-8")
    assert predictions.count("the similarity is not a number") == 9

    def embed(n, body):
        numbers = [sha256(text.encode()).digest()[:8] for text in body["input"]]
        return Reply({"data": [{"index": i, "embedding": list(x)} for i, x in enumerate(numbers)]})

    with hostile_server(embed) as server:
        flags = ["--embeddings-endpoint", server.url, "--model", "caf\udce9", "--output-dir", str(tmp_path), "--quiet"]
        assert benchmark.main([*flags, "--subset", "emolia-dim"]) == 0
    summary = json.loads((tmp_path / "emolia-dim" / "summary.json").read_text(encoding="utf-8"))
    assert summary["argv"][3] == "caf\\udce9"


@pytest.mark.parametrize(
    "token", ["s3cret-value\n", "s3cret\r\nX-Other: 1", "s3cret\u2026value", "s3cret\0value", " s3cret"]
)
@pytest.mark.parametrize("endpoint", ["--endpoint", "--embeddings-endpoint"])
def test_invalid_token_is_not_printed(tmp_path, capsys, monkeypatch, token, endpoint):
    monkeypatch.setattr(os, "environ", {**os.environ, "EARMARK_API_KEY": token})  # setenv would refuse some of them
    assert benchmark.main([endpoint, "http://127.0.0.1:9/v1", "--output-dir", str(tmp_path), "--debug"]) == 2
    error = capsys.readouterr().err
    assert "EARMARK_API_KEY: the token " in error.splitlines()[-1]
    assert "s3cret" not in error


def test_restart(tmp_path):
    flags = ["--subset", "emolia-dim", "--retries", "0"]
    with hostile_server(lambda n, body: Reply({}, 404) if n == 0 else sham(n, body)) as server:
        assert benchmark.main([*command(server.url, tmp_path)[2:], *flags]) == 1
        assert benchmark.main([*command(server.url, tmp_path)[2:], *flags, "--restart"]) == 0
        assert len(server.requests) == 2 * DIM


def test_consecutive_failures_stop_the_run(tmp_path, capsys):
    out = tmp_path / "out"
    assert benchmark.main(["--subset", "emolia-dim", "--output-dir", str(out), "--quiet"]) == 0
    before = contents(out)
    flags = ["--subset", "emolia-dim", "--retries", "0", "--max-consecutive-failures", "4", "--concurrency", "2"]
    with hostile_server(lambda n, body: sham(n, body) if n < 12 else Reply({"error": "gone"}, 503)) as server:
        assert benchmark.main([*command(server.url, out)[2:], *flags]) == 1
        assert len(server.requests) < 25
    error = capsys.readouterr().err
    assert "4 consecutive requests failed. Last error: HTTP 503" in error
    assert "12 replies are stored in" in error
    assert "Run the same command again to continue" in error
    after = contents(out)
    assert after.pop("emolia-dim/journal.jsonl").count("\n") == 12
    assert after == before


@pytest.mark.slow
def test_concurrent_run_on_same_folder_is_rejected(tmp_path):
    with hostile_server(lambda n, body: sham(n, body, 0.05)) as server:
        with subprocess.Popen(command(server.url, tmp_path, "--concurrency", "1"), cwd=ROOT) as first:
            wait_for_replies(tmp_path / "emolia-emo" / "journal.jsonl", 1)
            second = subprocess.run(
                command(server.url, tmp_path), cwd=ROOT, capture_output=True, text=True, check=False
            )
            first.kill()
        assert second.returncode == 1
        assert "Another run is writing to" in second.stderr
        # The lock of a killed run is released.
        third = subprocess.run(command(server.url, tmp_path), cwd=ROOT, capture_output=True, text=True, check=False)
        assert third.returncode == 0


@pytest.mark.slow
def test_keyboard_interrupt_keeps_replies(tmp_path):
    with hostile_server(lambda n, body: sham(n, body, 0.05)) as server:
        flags = command(server.url, tmp_path, "--concurrency", "1")
        with subprocess.Popen(flags, cwd=ROOT, preexec_fn=interruptible) as run:
            wait_for_replies(tmp_path / "emolia-emo" / "journal.jsonl", 5)
            run.send_signal(signal.SIGINT)
        assert run.returncode == 130
        n_stored = (tmp_path / "emolia-emo" / "journal.jsonl").read_bytes().count(b"\n")
        n_requests = len(server.requests)
        assert n_stored >= 5
        assert benchmark.main([*command(server.url, tmp_path)[2:], "--subset", "emolia-emo"]) == 0
        assert len(server.requests) - n_requests == EMO - n_stored + 1


SMALL_DISK = """
import resource, sys
import benchmark
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
sys.exit(benchmark.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="file size limits are a POSIX matter")
def test_full_disk_while_writing_journal(tmp_path):
    with hostile_server(sham) as server:
        flags = command(server.url, tmp_path)[2:]
        full = subprocess.run(
            [sys.executable, "-c", SMALL_DISK, *flags], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert full.returncode == 1
        assert "cannot be written" in full.stderr
        assert "Traceback" not in full.stderr
        journal = tmp_path / "emolia-emo" / "journal.jsonl"
        stored = [json.loads(line) for line in journal.read_text().splitlines()]
        n_requests = len(server.requests)
        assert benchmark.main(flags) == 0
        assert len(server.requests) - n_requests == EMO + DIM - len(stored) + 1


@pytest.mark.slow
def test_by(tmp_path):
    assert benchmark.main(["--by", "language", "--output-dir", str(tmp_path), "--quiet"]) == 0
    rows = (tmp_path / "emolia-emo" / "metrics_by_language.csv").read_text().splitlines()
    assert rows[0].split(",")[:3] == ["language", "n", "n_positive"]
    assert [row.split(",")[0] for row in rows[1:]] == ["de", "en", "es", "fr"]
    assert benchmark.main(["--limit", "3", "--output-dir", str(tmp_path), "--quiet"]) == 0
    assert not (tmp_path / "emolia-emo" / "metrics_by_language.csv").exists()  # files of an earlier run are removed


def test_by_with_unknown_key(tmp_path, capsys):
    assert benchmark.main(["--by", "langage", "--output-dir", str(tmp_path), "--quiet"]) == 2
    assert "--by langage: no clip's JSON file has this key. Available keys:" in capsys.readouterr().err


def test_signature_depends_on_filters_and_threshold(tmp_path):
    signatures = set()
    for i, flags in enumerate([[], ["--limit", "5"], ["--unanimous-only"], ["--threshold", "0.5"]]):
        out = tmp_path / str(i)
        assert benchmark.main(["--subset", "emolia-dim", "--output-dir", str(out), "--quiet", *flags]) == 0
        signatures.add(json.loads((out / "emolia-dim" / "summary.json").read_text())["signature"])
    assert len(signatures) == 4


def test_cross_fitted_value_does_not_depend_on_replicates(tmp_path):
    values = set()
    for replicates in ("0", "50"):
        out = tmp_path / replicates
        assert benchmark.main(["--output-dir", str(out), "--quiet", "--bootstrap", replicates]) == 0
        summary = json.loads((out / "emolia-emo" / "summary.json").read_text())
        values.add(summary["cross_fitted_threshold"]["balanced_accuracy"]["value"])
    assert len(values) == 1


@pytest.mark.slow
def test_summary_records_endpoint_traffic(tmp_path):
    with hostile_server(lambda n, body: Reply({}, 503) if n == 0 else sham(n, body)) as server:
        assert benchmark.main([*command(server.url, tmp_path)[2:], "--subset", "emolia-dim"]) == 0
    summary = json.loads((tmp_path / "emolia-dim" / "summary.json").read_text())
    assert summary["mode"] == "endpoint"
    assert summary["scorer"]["retries"] == 1
    assert summary["scorer"]["replies"] == DIM + 1
    assert summary["scorer"]["latency_ms"]["p50"] > 0
    assert "|model:endpoint-" in summary["signature"]
