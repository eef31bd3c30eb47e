"""benchmark.py end to end: demo data, invalid clips, servers that work and servers that fail."""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from benchmark import main
from earmark.audio_text.scorers.sham import sham_similarity
from sham_server import Faults, ShamServer, make_server
from tests.hub_files import LOG, check_logged, read_hub_files

ROOT = Path(__file__).resolve().parent.parent
SUBSETS = ("emolia-emo", "emolia-dim")
KEYS = {
    "emolia-emo": ["file_name", "queried_emotion", "task_type"],
    "emolia-dim": ["file_name", "dimension", "level", "polarity"],
}
SLICES = {
    "emolia-emo": ["task_type", "benchmark_bucket", "queried_emotion"],
    "emolia-dim": ["polarity", "benchmark_bucket", "dimension"],
}
AFTER_KEY = [
    "benchmark_bucket",
    "n_raters",
    "majority_present",
    "audio_path",
    "prompt",
    "similarity",
    "pred_present",
    "ok",
    "error",
]
SLICE_METRICS = ["n", "n_positive", "accuracy", "balanced_accuracy", "f1", "roc_auc", "average_precision"]
NO_FAULTS = Faults()
SENTENCE = "Speech audio in which the speaker expresses or conveys {}."

# Eight labels on four clips: two ties and six pairs.
LABELS = """\
file_name,queried_emotion,task_type,source_emotion,majority_present,benchmark_bucket,n_raters,flagged
a.wav,Joy,affirmative,Joy,1,unanimous_present,3,False
a.wav,Fear,contrastive_1,Joy,0,majority_absent,3,False
b.wav,Joy,affirmative,Joy,,tie,2,False
b.wav,Anger,ultimate,Joy,0,single_rater_absent,1,False
c.wav,Jealousy___Envy,affirmative,Jealousy___Envy,1,unanimous_present,2,True
c.wav,Joy,contrastive_2,Jealousy___Envy,0,unanimous_absent,3,False
d.wav,Fear,affirmative,Fear,1,majority_present,3,True
d.wav,Joy,penultimate,Fear,,tie,4,False
"""
PAIRS = ["a Joy", "a Fear", "b Anger", "c Jealousy___Envy", "c Joy", "d Fear"]


# --- helpers ---------------------------------------------------------------------------------------------------


def run(root: Path, out: Path, *flags: str) -> int:
    """Run benchmark.py in this process on the directories of a project."""
    roots = ["--analysis-root", f"{root}/analysis_outputs", "--dataset-root", f"{root}/dataset"]
    return main([*roots, "--output-dir", str(out), "--bootstrap", "20", *flags])


def run_in_subprocess(
    out: Path, *flags: str, root: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run benchmark.py in a process of its own, in the directory of a project."""
    command = [sys.executable, str(ROOT / "benchmark.py"), "--no-figures", "--output-dir", str(out), *flags]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False, timeout=120)


def cells(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def predictions(out: Path, subset: str = "emolia-emo") -> pd.DataFrame:
    return cells(out / subset / "predictions.csv")


def summary(out: Path, subset: str = "emolia-emo") -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((out / subset / "summary.json").read_text(encoding="utf-8"), parse_constant=refuse)


def excluded(out: Path) -> dict[str, int]:
    return {exclusion["reason"]: exclusion["count"] for exclusion in summary(out)["exclusions"]}


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def predicted_pairs(out: Path) -> list[str]:
    """Rows of predictions.csv in the form `a Joy`."""
    table = predictions(out)
    return [
        f"{Path(f).stem} {emotion}" for f, emotion in zip(table["file_name"], table["queried_emotion"], strict=True)
    ]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project with the eight labels above and real audio."""
    labels = tmp_path / "small/analysis_outputs/emolia-emo/benchmark_labels.csv"
    labels.parent.mkdir(parents=True)
    labels.write_text(LABELS)
    clips = {"a": "Joy", "b": "Joy", "c": "Jealousy_&_Envy", "d": "Fear"}
    for i, (name, emotion) in enumerate(clips.items()):
        folder = tmp_path / f"small/dataset/emolia-emo/data/{emotion}_best"
        folder.mkdir(parents=True, exist_ok=True)
        tone = 0.3 * np.sin(2 * np.pi * 200 * (i + 1) * np.arange(8000) / 16000)
        soundfile.write(folder / f"{name}.wav", tone, 16000)
    return tmp_path / "small"


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A copy of the demo data that a test may change."""
    for folder in ("dataset", "analysis_outputs"):
        shutil.copytree(ROOT / folder, tmp_path / "demo" / folder)
    return tmp_path / "demo"


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The process and outputs of `uv run benchmark.py` in a fresh clone."""
    out = tmp_path_factory.mktemp("run") / "out"
    return run_in_subprocess(out), out


# --- servers ----------------------------------------------------------------------------------------------------


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[ThreadingHTTPServer]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def sham(faults: Faults = NO_FAULTS) -> Iterator[ShamServer]:
    with serving(make_server("127.0.0.1", 0, faults)) as server:
        assert isinstance(server, ShamServer)
        yield server


@dataclass
class ReceivedRequest:
    """A request as a server received it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def pair(self) -> str:
        label = self.body["text"].removeprefix(SENTENCE.partition("{")[0]).removesuffix(".").replace(" / ", "___")
        return f"{Path(self.body['audio_filename']).stem} {label}"


Reply = tuple[int, bytes, dict[str, str]]


def ok(body: object) -> Reply:
    return 200, body if isinstance(body, bytes) else json.dumps(body).encode(), {}


def sham_reply(request: ReceivedRequest) -> Reply:
    stem = Path(request.body["audio_relpath"]).stem
    return ok({"similarity": sham_similarity(stem, request.body["text"])})


class ScriptedServer(ThreadingHTTPServer):
    """Replies with the result of a function and records every request."""

    request_queue_size = 64

    def __init__(self, respond: Callable[[ReceivedRequest], Reply]) -> None:
        self.respond, self.received, self.lock = respond, list[ReceivedRequest](), threading.Lock()
        super().__init__(("127.0.0.1", 0), ScriptedHandler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1/similarity"


class ScriptedHandler(BaseHTTPRequestHandler):
    server: ScriptedServer
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = ReceivedRequest(self.path, dict(self.headers), json.loads(content or b"{}"))
        with self.server.lock:
            self.server.received.append(request)
        status, body, headers = self.server.respond(request)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@contextmanager
def scripted(respond: Callable[[ReceivedRequest], Reply]) -> Iterator[ScriptedServer]:
    with serving(ScriptedServer(respond)) as server:
        assert isinstance(server, ScriptedServer)
        yield server


@pytest.fixture
def closed_port() -> int:
    """A port without a server."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


# --- the demo ---------------------------------------------------------------------------------------------------


def test_demo_run_scores_both_subsets(demo_run):
    done, out = demo_run
    assert done.returncode == 0, done.stderr
    for subset in SUBSETS:
        assert (out / subset / "report.md").read_text(encoding="utf-8") in done.stdout
        assert f"# {subset}: sham" in done.stdout
    assert done.stdout.index("# emolia-emo") < done.stdout.index("# emolia-dim")
    assert "\r" not in done.stderr  # no progress bar if stderr is not a terminal


@pytest.mark.parametrize("subset", SUBSETS)
def test_demo_run_writes_all_files(demo_run, subset: str):
    names = {path.name for path in (demo_run[1] / subset).iterdir()}
    tables = {"predictions.csv", *(f"metrics_by_{key}.csv" for key in SLICES[subset])}
    assert {name for name in names if name.endswith(".csv")} == tables
    assert {"summary.json", "report.md"} <= names
    assert not [name for name in names if name.endswith((".tmp", ".jsonl"))]


@pytest.mark.parametrize("subset", SUBSETS)
def test_predictions_columns(demo_run, subset: str):
    assert list(predictions(demo_run[1], subset)) == [*KEYS[subset], *AFTER_KEY]


@pytest.mark.parametrize(("subset", "key"), [(subset, key) for subset in SUBSETS for key in SLICES[subset]])
def test_slice_metrics_columns(demo_run, subset: str, key: str):
    assert list(cells(demo_run[1] / subset / f"metrics_by_{key}.csv")) == [key, *SLICE_METRICS]


@pytest.mark.parametrize("subset", SUBSETS)
def test_summary_keys(demo_run, subset: str):
    result = summary(demo_run[1], subset)
    common = "schema_version script argv created_utc git python packages device seed signature inputs parameters"
    own_keys = (
        "exclusions subset mode endpoint threshold filters rows_total rows_evaluated_ok missing_audio "
        "evaluation_errors items_tied_excluded majority_baseline overall unanimous_subset cross_fitted_threshold "
        "quality_band human_ceiling"
    )
    assert set(f"{common} {own_keys}".split(" ")) <= set(result)
    estimates = ["balanced_accuracy", "accuracy", "f1", "precision", "recall", "roc_auc", "average_precision"]
    for part in ("overall", "unanimous_subset"):
        assert set(result[part]) == {*estimates, "tp", "fp", "tn", "fn"}
        assert set(result[part]["accuracy"]) == {"value", "low", "high", "n"}
    assert (result["subset"], result["mode"], result["endpoint"], result["threshold"]) == (subset, "sham", None, 0.0)
    assert result["inputs"][0]["path"] == f"analysis_outputs/{subset}/benchmark_labels.csv"
    assert result["inputs"][0]["rows"] == len(cells(ROOT / result["inputs"][0]["path"]))


@pytest.mark.parametrize("subset", SUBSETS)
def test_human_ceiling_is_copied_from_analysis(demo_run, subset: str):
    ceiling = json.loads((ROOT / "analysis_outputs" / subset / "summary.json").read_text())["human_ceiling"]
    copied = summary(demo_run[1], subset)["human_ceiling"]
    for key in ("pairwise_balanced_accuracy", "loo_balanced_accuracy", "loo_accuracy"):
        assert copied[key]["value"] == ceiling[key]["value"]
    report = (demo_run[1] / subset / "report.md").read_text()
    model = summary(demo_run[1], subset)["overall"]["balanced_accuracy"]["value"]
    section = report.partition("## Comparison with the reference labels")[2].partition("## ")[0]
    assert f"{ceiling['loo_balanced_accuracy']['value']:.3f}" in section
    assert f"{model:.3f}" in section


@pytest.mark.parametrize("subset", SUBSETS)
def test_report_has_band_table_at_both_ends(demo_run, subset: str):
    report = (demo_run[1] / subset / "report.md").read_text()
    [first, last] = [m.start() for m in re.finditer(r"\| Bad \| below 0\.55 \|.*\n\| Weak \|", report)]
    assert report[:first].count("\n## ") == 0
    assert report[last:].count("\n## ") == 0


@pytest.mark.parametrize("subset", SUBSETS)
def test_predictions_keep_order_of_untied_labels(demo_run, subset: str):
    labels = cells(ROOT / "analysis_outputs" / subset / "benchmark_labels.csv")
    untied = labels[labels["majority_present"] != ""]
    columns = [*KEYS[subset], "benchmark_bucket", "n_raters", "majority_present"]
    assert predictions(demo_run[1], subset)[columns].to_numpy().tolist() == untied[columns].to_numpy().tolist()
    assert summary(demo_run[1], subset)["items_tied_excluded"] == len(labels) - len(untied) > 0


@pytest.mark.parametrize("subset", SUBSETS)
def test_sham_similarities(demo_run, subset: str):
    for row in predictions(demo_run[1], subset).to_dict("records"):
        path = Path(row["audio_path"])
        assert (ROOT / "dataset" / path).is_file()
        stem = path.stem if subset == "emolia-emo" else str(path.with_suffix(""))
        assert float(row["similarity"]) == sham_similarity(stem, row["prompt"])
        assert row["pred_present"] == str(int(float(row["similarity"]) >= 0))
        assert (row["ok"], row["error"]) == ("True", "")


def test_prompts(demo_run):
    emo = predictions(demo_run[1], "emolia-emo").set_index("queried_emotion")["prompt"]
    assert set(emo["Jealousy___Envy"]) == {SENTENCE.format("Jealousy / Envy")}
    assert set(emo["Affection"]) == {SENTENCE.format("Affection")}
    rubric = json.loads((ROOT / "dataset/emolia-dim/variables.json").read_text())
    for row in predictions(demo_run[1], "emolia-dim").to_dict("records"):
        assert row["prompt"] == rubric[row["dimension"]]["levels"][row["level"]]


def test_summary_counts_match_predictions(demo_run):
    table, written = predictions(demo_run[1]), summary(demo_run[1])
    predicted, label = (pd.to_numeric(table[column]) == 1 for column in ("pred_present", "majority_present"))
    expected = [int((predicted & label).sum()), int((predicted & ~label).sum()), int((~predicted & ~label).sum())]
    overall = written["overall"]
    assert [overall["tp"], overall["fp"], overall["tn"]] == expected
    assert overall["tp"] + overall["fp"] + overall["tn"] + overall["fn"] == len(table) == written["rows_total"]
    assert overall["accuracy"]["value"] == pytest.approx((expected[0] + expected[2]) / len(table))


def test_main_and_subprocess_write_same_bytes(demo_run, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out"
    assert main(["--no-figures", "--output-dir", str(out)]) == 0
    assert capsys.readouterr().out == demo_run[0].stdout
    here, there = contents(out), contents(demo_run[1])
    assert list(here) == list(there)
    stamp = re.compile(rb'"created_utc": "[^"]+"')
    for name in here:
        assert stamp.sub(b"", here[name]) == stamp.sub(b"", there[name]), name
    assert len(stamp.findall(here["emolia-emo/summary.json"])) == 1


def test_outputs_have_no_absolute_path(demo_run):
    for name, content in contents(demo_run[1]).items():
        assert str(ROOT).encode() not in content, name
        assert str(demo_run[1].parent).encode() not in content, name


def test_quiet(small: Path, tmp_path: Path, capfd):
    next((small / "dataset").rglob("a.wav")).unlink()
    assert run(small, tmp_path / "out", "--subset", "emolia-emo") == 1
    assert "2" in capfd.readouterr().err  # there is a warning without --quiet
    assert run(small, tmp_path / "out", "--subset", "emolia-emo", "--quiet") == 1
    printed = capfd.readouterr()
    assert printed.err == ""
    assert printed.out.startswith("# emolia-emo: sham")


def test_subset_option(demo_run, tmp_path: Path):
    assert run(ROOT, tmp_path / "out", "--subset", "emolia-dim") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["emolia-dim", "runs"]
    assert [path.name for path in (tmp_path / "out/runs/sham").iterdir() if path.is_dir()] == ["emolia-dim"]
    assert (
        contents(tmp_path / "out")["emolia-dim/predictions.csv"] == contents(demo_run[1])["emolia-dim/predictions.csv"]
    )


# --- an endpoint ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [("--concurrency", "1"), ("--concurrency", "32"), ("--no-audio-send",), ("--concurrency", "32", "--no-audio-send")],
    ids=" ".join,
)
def test_endpoint_predictions_equal_sham_predictions(demo_run, tmp_path: Path, flags):
    with sham() as server:
        assert run(ROOT, tmp_path / "out", "--endpoint", server.url, *flags) == 0
    for subset in SUBSETS:
        name = f"{subset}/predictions.csv"
        assert (tmp_path / "out" / name).read_bytes() == (demo_run[1] / name).read_bytes()
        result = summary(tmp_path / "out", subset)
        assert (result["mode"], result["endpoint"]) == ("endpoint", server.url)


def test_endpoint_with_replies_out_of_order(demo_run, tmp_path: Path):
    with sham(Faults(latency_ms=(20, 20))) as server:
        assert run(ROOT, tmp_path / "out", "--endpoint", server.url, "--concurrency", "32") == 0
    for subset in SUBSETS:
        name = f"{subset}/predictions.csv"
        assert (tmp_path / "out" / name).read_bytes() == (demo_run[1] / name).read_bytes()


def test_predictions_follow_order_of_labels(small: Path, tmp_path: Path):
    labels = small / "analysis_outputs/emolia-emo/benchmark_labels.csv"
    header, *rows = LABELS.splitlines()
    labels.write_text("\n".join([header, *reversed(rows)]))
    with scripted(sham_reply) as server:
        assert run(small, tmp_path / "out", "--subset", "emolia-emo", "--endpoint", server.url) == 0
    assert predicted_pairs(tmp_path / "out") == PAIRS[::-1]


def test_endpoint_receives_each_untied_pair_once(small: Path, tmp_path: Path):
    with scripted(sham_reply) as server:
        assert run(small, tmp_path / "out", "--subset", "emolia-emo", "--endpoint", server.url) == 0
    assert sorted(request.pair for request in server.received) == sorted(PAIRS)
    for request in server.received:
        clip = small / "dataset" / request.body["audio_relpath"]
        assert base64.b64decode(request.body["audio_base64"]) == clip.read_bytes()
        assert request.body["audio_filename"] == clip.name
        assert set(request.body) == {"text", "audio_filename", "audio_relpath", "audio_base64"}
        assert request.headers["Content-Type"] == "application/json"
        assert "Authorization" not in request.headers


def test_no_audio_send(small: Path, tmp_path: Path):
    flags = ("--subset", "emolia-emo", "--no-audio-send")
    with scripted(sham_reply) as server:
        assert run(small, tmp_path / "out", *flags, "--endpoint", server.url) == 0
    assert len(server.received) == 6
    for request in server.received:
        assert set(request.body) == {"text", "audio_filename", "audio_relpath", "audio_stem"}
        assert request.body["audio_stem"] == Path(request.body["audio_filename"]).stem


@pytest.mark.parametrize("key", ["similarity", "score", "logit"])
@pytest.mark.parametrize("value", [0.25, -3, 0])
def test_reply_keys(small: Path, tmp_path: Path, key: str, value: float):
    with scripted(lambda _: ok({key: value, "model": "m"})) as server:
        assert run(small, tmp_path / "out", "--subset", "emolia-emo", "--endpoint", server.url) == 0
    assert {float(cell) for cell in predictions(tmp_path / "out")["similarity"]} == {float(value)}
    assert set(predictions(tmp_path / "out")["pred_present"]) == {"1" if value >= 0 else "0"}


@pytest.mark.slow
def test_transient_error_is_retried(small: Path, tmp_path: Path):
    once = set[str]()

    def first_503(request: ReceivedRequest) -> Reply:
        if request.pair == "c Joy" and not once:
            once.add(request.pair)
            return 503, b'{"error": "starting"}', {"Retry-After": "0"}
        return sham_reply(request)

    with scripted(first_503) as server:
        assert run(small, tmp_path / "out", "--subset", "emolia-emo", "--endpoint", server.url) == 0
    assert len(server.received) == 7
    assert set(predictions(tmp_path / "out")["ok"]) == {"True"}


# --- filters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "left", "counts"),
    [
        ([], PAIRS, []),
        (["--min-raters", "2"], ["a Joy", "a Fear", "c Jealousy___Envy", "c Joy", "d Fear"], [1]),
        (["--min-raters", "3"], ["a Joy", "a Fear", "c Joy", "d Fear"], [2]),
        (["--require-3-raters"], ["a Joy", "a Fear", "c Joy", "d Fear"], [2]),
        (["--require-3-raters", "--min-raters", "2"], ["a Joy", "a Fear", "c Joy", "d Fear"], [2]),
        (["--exclude-flagged"], ["a Joy", "a Fear", "b Anger", "c Joy"], [2]),
        (["--unanimous-only"], ["a Joy", "c Jealousy___Envy", "c Joy"], [3]),
        (["--limit", "2"], ["a Joy", "a Fear"], [4]),
        (["--limit", "60"], PAIRS, []),
        (["--unanimous-only", "--limit", "2"], ["a Joy", "c Jealousy___Envy"], [1, 3]),
        (["--require-3-raters", "--exclude-flagged", "--unanimous-only", "--limit", "1"], ["a Joy"], [1, 1, 1, 2]),
    ],
    ids=lambda value: " ".join(value) if value and str(value[0]).startswith("--") else "",
)
def test_filters(small: Path, tmp_path: Path, flags, left, counts):
    assert run(small, tmp_path / "out", "--subset", "emolia-emo", *flags) == 0
    assert predicted_pairs(tmp_path / "out") == left
    result = summary(tmp_path / "out")
    assert result["items_tied_excluded"] == 2
    assert result["rows_total"] == result["rows_evaluated_ok"] == len(left)
    assert sorted(excluded(tmp_path / "out").values()) == sorted([*counts, 2])
    assert sum(excluded(tmp_path / "out").values()) + len(left) == 8 == result["inputs"][0]["rows"]


def test_summary_records_filters(small: Path, tmp_path: Path):
    flags = ["--min-raters", "2", "--exclude-flagged", "--limit", "3", "--threshold", "0.1"]
    assert run(small, tmp_path / "out", "--subset", "emolia-emo", *flags) == 0
    assert summary(tmp_path / "out")["filters"] == {
        "min_raters": 2,
        "require_3_raters": False,
        "exclude_flagged": True,
        "unanimous_only": False,
        "limit": 3,
    }
    assert summary(tmp_path / "out")["threshold"] == 0.1


def test_filter_that_excludes_everything(small: Path, tmp_path: Path, capsys):
    assert run(small, tmp_path / "out", "--subset", "emolia-emo", "--min-raters", "9") == 0
    result = summary(tmp_path / "out")
    assert (result["rows_total"], result["overall"]["accuracy"]["value"]) == (0, None)
    assert result["overall"]["accuracy"]["why"]
    assert list(predictions(tmp_path / "out")) == [*KEYS["emolia-emo"], *AFTER_KEY]
    assert "0 of 0 pairs of clip and sentence were scored" in capsys.readouterr().out


@pytest.mark.parametrize(("threshold", "predicted"), [("0.25", "1"), ("0.2500001", "0"), ("-1", "1"), ("1", "0")])
def test_threshold_is_inclusive(small: Path, tmp_path: Path, threshold: str, predicted: str):
    with scripted(lambda _: ok({"similarity": 0.25})) as server:
        flags = ["--subset", "emolia-emo", "--endpoint", server.url, f"--threshold={threshold}"]
        assert run(small, tmp_path / "out", *flags) == 0
    assert set(predictions(tmp_path / "out")["pred_present"]) == {predicted}
    overall = summary(tmp_path / "out")["overall"]
    assert [overall[key] for key in ("tp", "fp", "tn", "fn")] == ([3, 3, 0, 0] if predicted == "1" else [0, 0, 3, 3])
    assert summary(tmp_path / "out")["quality_band"] == "Bad"


# --- clips ------------------------------------------------------------------------------------------------------

CLIP = "DE_demo_00003.mp3"  # a clip of the demo with several pairs


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "zero bytes":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("A sentence, not a sound.\n" * 200)
    else:
        path.unlink()
        if how == "directory":
            path.mkdir()


CLIP_ERRORS = {
    "missing": r"file not found",
    "zero bytes": r"is empty \(0 bytes\)",
    "truncated": r"ends after [01]\.\d s of [23]\.\d s",
    "text": r"is not audio",
    "directory": r"is a folder, not a file",
}


@pytest.mark.parametrize("how", CLIP_ERRORS)
def test_invalid_clip_fails_its_rows_alone(demo: Path, tmp_path: Path, how: str, capsys):
    [clip] = (demo / "dataset/emolia-emo").rglob(CLIP)
    damage(clip, how)
    out = tmp_path / "out"
    assert run(demo, out, "--subset", "emolia-emo") == 1
    table = predictions(out)
    bad = table["file_name"] == CLIP
    labels = cells(demo / "analysis_outputs/emolia-emo/benchmark_labels.csv")
    n_bad = int(((labels["file_name"] == CLIP) & (labels["majority_present"] != "")).sum())
    assert bad.sum() == n_bad > 1
    for row in table[bad].to_dict("records"):
        assert re.search(rf"^{re.escape(CLIP)}: {CLIP_ERRORS[how]}", row["error"])
        assert (row["ok"], row["similarity"], row["pred_present"]) == ("False", "", "")
        assert row["audio_path"].endswith(CLIP)
    for row in table[~bad].to_dict("records"):
        assert float(row["similarity"]) == sham_similarity(Path(row["file_name"]).stem, row["prompt"])
        assert (row["ok"], row["error"]) == ("True", "")
    result = summary(out)
    assert (result["rows_total"], result["rows_evaluated_ok"]) == (len(table), len(table) - n_bad)
    assert result["missing_audio"] == (n_bad if how == "missing" else 0)
    assert result["evaluation_errors"] == (0 if how == "missing" else n_bad)
    assert sum(result["overall"][key] for key in ("tp", "fp", "tn", "fn")) == len(table) - n_bad
    printed = capsys.readouterr()
    assert "predictions.csv" in printed.err
    assert "Traceback" not in printed.err
    for name, content in contents(out).items():
        assert str(tmp_path).encode() not in content, f"{name} holds an absolute path"


def test_invalid_clip_is_not_sent(small: Path, tmp_path: Path):
    damage(next((small / "dataset").rglob("a.wav")), "truncated")
    damage(next((small / "dataset").rglob("b.wav")), "missing")
    with scripted(sham_reply) as server:
        assert run(small, tmp_path / "out", "--subset", "emolia-emo", "--endpoint", server.url) == 1
    assert sorted(request.pair for request in server.received) == sorted(PAIRS[3:])
    assert predictions(tmp_path / "out")["ok"].tolist() == ["False"] * 3 + ["True"] * 3


def test_allow_missing(small: Path, tmp_path: Path):
    damage(next((small / "dataset").rglob("a.wav")), "missing")
    assert run(small, tmp_path / "out", "--subset", "emolia-emo", "--allow-missing") == 0
    assert summary(tmp_path / "out")["missing_audio"] == 2
    damage(next((small / "dataset").rglob("d.wav")), "zero bytes")
    assert run(small, tmp_path / "out", "--subset", "emolia-emo", "--allow-missing") == 1
    result = summary(tmp_path / "out")
    assert (result["missing_audio"], result["evaluation_errors"], result["rows_evaluated_ok"]) == (2, 1, 3)


def test_allow_missing_does_not_allow_failed_scores(small: Path, tmp_path: Path):
    damage(next((small / "dataset").rglob("a.wav")), "missing")
    with scripted(lambda request: ok({}) if request.pair == "d Fear" else sham_reply(request)) as server:
        flags = ["--subset", "emolia-emo", "--allow-missing", "--endpoint", server.url]
        assert run(small, tmp_path / "out", *flags) == 1


def test_dataset_without_audio(small: Path, tmp_path: Path):
    shutil.rmtree(small / "dataset")
    assert run(small, tmp_path / "out", "--subset", "emolia-emo") == 1
    result = summary(tmp_path / "out")
    assert (result["missing_audio"], result["rows_evaluated_ok"]) == (6, 0)
    assert result["overall"]["balanced_accuracy"]["value"] is None


def test_clip_shorter_than_its_metadata_is_truncated(small: Path, tmp_path: Path):
    next((small / "dataset").rglob("a.wav")).with_suffix(".json").write_text('{"duration": 2.1}')  # it lasts 0.5 s
    next((small / "dataset").rglob("b.wav")).with_suffix(".json").write_text('{"duration": 0.5}')
    assert run(small, tmp_path / "out", "--subset", "emolia-emo") == 1
    errors = predictions(tmp_path / "out")["error"].tolist()
    assert errors == ["a.wav: ends after 0.5 s of 2.1 s"] * 2 + [""] * 4


@pytest.mark.parametrize(
    "duration", ["0.5", "0.45", '"2.1"', "0", "-1", "NaN", "Infinity", "1e999", "true", "null", "[2.1]"]
)
def test_clip_metadata_duration_that_is_valid_or_unusable(small: Path, tmp_path: Path, duration: str):
    next((small / "dataset").rglob("a.wav")).with_suffix(".json").write_text(f'{{"duration": {duration}}}')
    assert run(small, tmp_path / "out", "--subset", "emolia-emo") == 0
    assert set(predictions(tmp_path / "out")["error"]) == {""}


@pytest.mark.parametrize("text", ["{", "[0.5]", "", '"long"', "5", "\x00"])
def test_clip_metadata_that_is_invalid(small: Path, tmp_path: Path, text: str):
    next((small / "dataset").rglob("a.wav")).with_suffix(".json").write_text(text)
    assert run(small, tmp_path / "out", "--subset", "emolia-emo") == 0


def test_clip_folder_with_ampersand(small: Path, tmp_path: Path):
    assert run(small, tmp_path / "out", "--subset", "emolia-emo") == 0
    paths = predictions(tmp_path / "out")["audio_path"].tolist()
    assert paths[3] == paths[4] == "emolia-emo/data/Jealousy_&_Envy_best/c.wav"


# --- servers that fail ------------------------------------------------------------------------------------------

HOSTILE: dict[str, tuple[Reply, str]] = {
    "NaN": (ok(b'{"similarity": NaN}'), r"not finite"),
    "Infinity": (ok(b'{"similarity": Infinity}'), r"not finite"),
    "-Infinity": (ok(b'{"similarity": -Infinity}'), r"not finite"),
    "1e999": (ok(b'{"similarity": 1e999}'), r"not finite"),
    "an integer beyond floats": (ok(b'{"similarity": 1' + b"0" * 400 + b"}"), r"not finite"),
    "a string": (ok({"similarity": "0.9"}), r"not a number.*0\.9"),
    "a boolean": (ok({"similarity": True}), r"not a number"),
    "a list": (ok({"similarity": [0.9]}), r"not a number"),
    "null": (ok({"similarity": None}), r"similarity"),
    "a missing key": (ok({"result": 0.9}), r"similarity, score, logit.*result"),
    "a bare number": (ok(b"0.9"), r"similarity, score, logit"),
    "an HTML page": (ok(b'<html>\n<body>Welcome, "friend"</body>'), r"not JSON.*<html> <body>Welcome"),
    "nothing": (ok(b""), r"not JSON"),
    "deep nesting": (ok(b"[" * 200_000), r"not JSON"),
    "bytes that are no text": (ok(b"\xff\xfe\x00"), r"not JSON"),
    "404 with a message": ((404, b'{"error": "no such model: clap"}', {}), r"404.*no such model: clap"),
    "400 with a long message": ((400, b"x" * 5000, {}), r"400.*x{400}"),
    "503 that stays": ((503, b'{"error": "overloaded"}', {}), r"503.*overloaded"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_invalid_reply_fails_its_row_alone(small: Path, tmp_path: Path, kind: str, capsys):
    reply, why = HOSTILE[kind]
    out = tmp_path / "out"
    with scripted(lambda request: reply if request.pair == "c Joy" else ok({"similarity": 0.5})) as server:
        flags = ["--subset", "emolia-emo", "--retries", "0", "--endpoint", server.url]
        assert run(small, out, *flags) == 1
    table = predictions(out)
    assert table["ok"].tolist() == ["True"] * 4 + ["False", "True"]
    row = table.iloc[4]
    assert (row["similarity"], row["pred_present"]) == ("", "")
    assert re.search(why, row["error"])
    assert len(row["error"]) < 700
    assert "\n" not in row["error"]
    result = summary(out)
    assert (result["rows_evaluated_ok"], result["evaluation_errors"], result["missing_audio"]) == (5, 1, 0)
    assert [result["overall"][key] for key in ("tp", "fp", "tn", "fn")] == [3, 2, 0, 0]  # no negative prediction
    assert "Traceback" not in capsys.readouterr().err


def test_server_that_always_fails(small: Path, tmp_path: Path, capsys):
    with scripted(lambda _: ok(b'{"similarity": NaN}')) as server:
        flags = ["--subset", "emolia-emo", "--endpoint", server.url, "--retries", "0"]
        assert run(small, tmp_path / "out", *flags) == 1
    result = summary(tmp_path / "out")  # which refuses NaN
    assert result["evaluation_errors"] == 6
    assert result["overall"]["roc_auc"]["value"] is None
    assert result["overall"]["roc_auc"]["why"]
    assert result["quality_band"] is None
    for key in SLICES["emolia-emo"]:
        assert len(cells(tmp_path / f"out/emolia-emo/metrics_by_{key}.csv")) == 0
    assert not re.search(r"\bnan\b", capsys.readouterr().out, re.IGNORECASE)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(small: Path, tmp_path: Path, status: int):
    with scripted(lambda _: ok({"similarity": 0.5})) as elsewhere:
        there = elsewhere.url.replace("127.0.0.1", "localhost")
        with scripted(lambda _: (status, b"", {"Location": there})) as server:
            flags = ["--subset", "emolia-emo", "--endpoint", server.url, "--retries", "0"]
            assert run(small, tmp_path / "out", *flags) == 1
        assert elsewhere.received == []
    assert len(server.received) == 6
    assert all(re.search(rf"{status}.*redirect", error) for error in predictions(tmp_path / "out")["error"])


def test_server_that_is_not_running(small: Path, tmp_path: Path, closed_port: int, capsys):
    url = f"http://127.0.0.1:{closed_port}/v1/similarity"
    flags = ["--subset", "emolia-emo", "--endpoint", url, "--retries", "0"]
    assert run(small, tmp_path / "out", *flags) == 1
    table = predictions(tmp_path / "out")
    assert set(table["ok"]) == {"False"}
    assert all(re.search(r"(?i)connection", error) for error in table["error"])
    assert "Traceback" not in capsys.readouterr().err


# --- secrets ----------------------------------------------------------------------------------------------------

TOKEN, PASSWORD, KEY = "tok-5f1c0ffee", "hunter2-pass", "k3y-in-query"


def check_no_secrets(printed: str, out: Path, *secrets: str) -> None:
    files = contents(out)
    assert "emolia-emo/summary.json" in files
    assert "emolia-emo" in printed
    for secret in secrets:
        assert secret not in printed
        assert [name for name, content in files.items() if secret.encode() in content] == []


@pytest.mark.slow
def test_token_is_sent_and_not_written(small: Path, tmp_path: Path):
    with scripted(sham_reply) as server:
        flags = ["--subset", "emolia-emo", "--bootstrap", "20", "--endpoint", server.url]
        done = run_in_subprocess(tmp_path / "out", *flags, root=small, EARMARK_API_KEY=TOKEN)
    assert done.returncode == 0, done.stderr
    assert [request.headers.get("Authorization") for request in server.received] == [f"Bearer {TOKEN}"] * 6
    check_no_secrets(done.stdout + done.stderr, tmp_path / "out", TOKEN)


@pytest.mark.slow
@pytest.mark.parametrize(("status", "code"), [(400, 1), (401, 2)])
def test_token_echoed_by_server_is_redacted(small: Path, tmp_path: Path, status: int, code: int):
    def refuse(request: ReceivedRequest) -> Reply:
        return status, json.dumps({"error": f"bad credentials: {request.headers['Authorization']}"}).encode(), {}

    with scripted(refuse) as server:
        flags = ["--subset", "emolia-emo", "--bootstrap", "20", "--endpoint", server.url, "--retries", "0"]
        done = run_in_subprocess(tmp_path / "out", *flags, root=small, EARMARK_API_KEY=TOKEN)
    assert done.returncode == code
    written = contents(tmp_path / "out")
    printed = done.stdout + done.stderr + "".join(content.decode() for content in written.values())
    assert "bad credentials" in printed  # the message of the server, in predictions.csv or on stderr
    assert TOKEN not in printed


@pytest.mark.parametrize("form", ["--endpoint URL", "--endpoint=URL"])
def test_url_is_written_without_secrets(small: Path, tmp_path: Path, form: str, capfd):
    with scripted(sham_reply) as server:
        url = server.url.replace("://", f"://me:{PASSWORD}@") + f"?key={KEY}"
        flags = [f"--endpoint={url}"] if "=" in form else ["--endpoint", url]
        assert run(small, tmp_path / "out", "--subset", "emolia-emo", *flags) == 0
    assert {request.path for request in server.received} == {f"/v1/similarity?key={KEY}"}
    check_no_secrets("".join(capfd.readouterr()), tmp_path / "out", PASSWORD, KEY)
    assert summary(tmp_path / "out")["endpoint"] == server.url


def test_url_credentials_are_sent(small: Path, tmp_path: Path):
    with scripted(sham_reply) as server:
        url = server.url.replace("://", f"://me:{PASSWORD}@")
        assert run(small, tmp_path / "out", "--subset", "emolia-emo", "--endpoint", url) == 0
    basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert {request.headers.get("Authorization") for request in server.received} == {f"Basic {basic}"}


def test_url_in_capitals_is_written_without_secrets(small: Path, tmp_path: Path, capfd):
    out = tmp_path / "out"
    with scripted(sham_reply) as server:
        url = server.url.replace("http://", f"HTTP://me:{PASSWORD}@")
        try:
            code = run(small, out, "--subset", "emolia-emo", "--endpoint", url)
        except SystemExit as ended:
            code = int(ended.code or 0)
    assert code in (0, 2)
    assert PASSWORD not in "".join(capfd.readouterr())
    assert not [name for name, content in contents(out).items() if PASSWORD.encode() in content]


@pytest.mark.slow
def test_unreachable_url_is_written_without_secrets(small: Path, tmp_path: Path, closed_port: int):
    url = f"http://me:{PASSWORD}@127.0.0.1:{closed_port}/v1/similarity?key={KEY}"
    flags = ["--subset", "emolia-emo", "--bootstrap", "20", "--endpoint", url, "--retries", "0"]
    done = run_in_subprocess(tmp_path / "out", *flags, root=small, EARMARK_API_KEY=TOKEN)
    assert done.returncode == 1
    check_no_secrets(done.stdout + done.stderr, tmp_path / "out", PASSWORD, KEY, TOKEN)


# --- labels, rubric and usage -----------------------------------------------------------------------------------


def test_missing_rubric_level(demo: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert run(demo, out) == 0
    before = contents(out)
    variables = demo / "dataset/emolia-dim/variables.json"
    rubric = json.loads(variables.read_text())
    del rubric["ACCT"]["levels"]["British"]
    variables.write_text(json.dumps(rubric))
    capsys.readouterr()
    assert run(demo, out) == 1
    printed = capsys.readouterr()
    labels = (demo / "analysis_outputs/emolia-dim/benchmark_labels.csv").read_text().splitlines()
    lines = [i for i, text in enumerate(labels, 1) if ",ACCT,British," in text]
    assert len(lines) > 1
    shown = ", ".join(map(str, lines[:5])) + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")
    assert f"lines {shown}, column level: variables.json has no rubric for ACCT level 'British'" in printed.err
    assert f"benchmark_labels.csv: {len(lines)} faults" in printed.err
    assert printed.out == ""
    assert contents(out) == before


def test_missing_rubric_file(demo: Path, tmp_path: Path, capsys):
    (demo / "dataset/emolia-dim/variables.json").unlink()
    assert run(demo, tmp_path / "out") == 2
    assert "variables.json does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_labels(tmp_path: Path, capsys):
    assert run(tmp_path, tmp_path / "out") == 2
    printed = capsys.readouterr().err
    assert re.fullmatch(r"\S*benchmark_labels\.csv does not exist.*`uv run analysis\.py`.*\n", printed)
    assert not (tmp_path / "out").exists()


def test_invalid_labels(small: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert run(small, out, "--subset", "emolia-emo") == 0
    before = contents(out)
    labels = small / "analysis_outputs/emolia-emo/benchmark_labels.csv"
    rows = LABELS.splitlines()
    rows[1] = rows[1].replace(",1,unanimous", ",2,unanimous")
    rows[2] = rows[2].replace(",3,False", ",x,False")
    labels.write_text("\n".join([*rows, rows[4]]))
    assert run(small, out, "--subset", "emolia-emo") == 1
    printed = capsys.readouterr().err
    assert "benchmark_labels.csv: 3 faults" in printed
    assert "line 2, column majority_present: '2'" in printed
    assert "line 3, column n_raters: 'x'" in printed
    assert "line 10, column file_name: duplicate of an item" in printed
    assert "uv run analysis.py" in printed
    assert "Traceback" not in printed
    assert contents(out) == before


@pytest.mark.parametrize("text", [LABELS.splitlines()[0] + "\n", ""], ids=["header only", "empty file"])
def test_empty_labels(small: Path, tmp_path: Path, text: str):
    (small / "analysis_outputs/emolia-emo/benchmark_labels.csv").write_text(text)
    assert run(small, tmp_path / "out", "--subset", "emolia-emo") == 0
    assert summary(tmp_path / "out")["rows_total"] == 0


def test_labels_with_byte_order_mark_and_crlf(small: Path, tmp_path: Path):
    assert run(small, tmp_path / "plain", "--subset", "emolia-emo") == 0
    labels = small / "analysis_outputs/emolia-emo/benchmark_labels.csv"
    labels.write_bytes(b"\xef\xbb\xbf" + LABELS.replace("\n", "\r\n").encode())
    assert run(small, tmp_path / "windows", "--subset", "emolia-emo") == 0
    name = "emolia-emo/predictions.csv"
    assert (tmp_path / "windows" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


@pytest.mark.parametrize(
    "flags",
    [
        ["--sub", "emolia-emo"],
        ["--limit", "0"],
        ["--min-raters", "0"],
        ["--concurrency", "0"],
        ["--threshold", "high"],
        ["--threshold", "nan"],
        ["--threshold", "inf"],
        ["--bootstrap", "-1"],
        ["--retries", "-1"],
        ["--timeout", "0"],
        ["--timeout", "nan"],
        ["--endpoint", ""],
        ["--endpoint", f"me:{PASSWORD}@127.0.0.1:9/v1/similarity"],
        ["--endpoint", "ftp://127.0.0.1/v1/similarity"],
    ],
    ids=" ".join,
)
def test_invalid_usage(small: Path, tmp_path: Path, flags: list[str], capsys):
    timeouts = "--timeout" in flags or "--retries" in flags
    where = ["--endpoint", "http://127.0.0.1:9/v1/similarity"] if timeouts else []
    with pytest.raises(SystemExit) as ended:
        run(small, tmp_path / "out", "--subset", "emolia-emo", *where, *flags)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert flags[0] in printed.err
    assert PASSWORD not in printed.err
    assert not (tmp_path / "out").exists()


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.count("uv run benchmark.py") >= 3


# --- model hubs -------------------------------------------------------------------------------------------------


def test_dataset_id_writes_results_for_hubs_until_a_run_without_it(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(small, out, "--quiet", "--subset", "emolia-emo", "--dataset-id", "org/emolia@v1") == 0
    entries, mteb = read_hub_files(out / "emolia-emo")
    written = summary(out)
    estimates = {
        "emolia-emo.balanced_accuracy": written["overall"]["balanced_accuracy"],
        "emolia-emo.balanced_accuracy_cross_fitted": written["cross_fitted_threshold"]["balanced_accuracy"],
        "emolia-emo.roc_auc": written["overall"]["roc_auc"],
    }
    defined = {name: estimate for name, estimate in estimates.items() if estimate["value"] is not None}
    assert {name: entry["value"] for name, entry in entries.items()} == {k: v["value"] for k, v in defined.items()}
    assert "emolia-emo.balanced_accuracy" in defined
    (scores,) = mteb["scores"]["test"]
    for name, estimate in defined.items():
        metric = name.partition(".")[2]
        assert [scores.get(f"{metric}{end}") for end in ("", "_low", "_high", "_n")] == [
            estimate[key] for key in ("value", "low", "high", "n")
        ]
        assert f"metric:{metric}|" in entries[name]["notes"]
        assert entries[name]["dataset"]["id"] == "org/emolia" and entries[name]["dataset"]["revision"] == "v1"
        assert entries[name]["date"] == written["created_utc"][:10]
    assert (mteb["task_name"], mteb["dataset_revision"]) == ("emolia-emo", "v1")
    assert (scores["main_score"], scores["n"]) == (scores["balanced_accuracy"], written["rows_evaluated_ok"])
    assert list((out / "runs").rglob("eval_results.yaml"))
    assert run(small, out, "--quiet", "--subset", "emolia-emo") == 0
    assert not list(out.rglob("eval_results.yaml")) and not list(out.rglob("mteb_results.json"))


def test_log_sends_the_headline_numbers(small: Path, tmp_path: Path, logged, monkeypatch, capsys) -> None:
    log = ["--subset", "emolia-emo", "--dataset-id", "org/name", *LOG, "--name", "m"]
    assert run(small, tmp_path / "out", *log, "--figures") == 0
    check_logged(logged, tmp_path / "out/runs/m/emolia-emo", name="m", suite="emolia-emo")
    assert "wandb: logged.\n" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert run(small, tmp_path / "new", *log) == 2
    assert "`uv run --extra wandb " in capsys.readouterr().err and not (tmp_path / "new").exists()
    assert len(logged) == 1 and run(small, tmp_path / "new", "--subset", "emolia-emo") == 0
    assert len(logged) == 1, "off by default"


def test_failing_tracker_does_not_fail_the_run(small: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "trackio.py").write_text("raise OSError('no space left')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    assert run(small, tmp_path / "out", "--subset", "emolia-emo", "--log", "trackio") == 0
    assert "trackio: not logged: OSError: no space left.\n" in capsys.readouterr().err
    assert (tmp_path / "out/emolia-emo/summary.json").is_file()


@pytest.mark.parametrize(
    "name", ["emolia", "org/two words", "a/b/c", "org/name@", "/name", "org/", "org/name@a b", "", "org/näme"]
)
def test_invalid_dataset_id_is_a_usage_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--dataset-id", name])
    assert stopped.value.code == 2
    assert "must have the form ORG/NAME or ORG/NAME@REVISION" in capsys.readouterr().err


# --- measures by prompt, protocols and names ------------------------------------------------------------------------

PROMPT_ESTIMATES = [
    *(
        f"balanced_accuracy_{kind}{version}"
        for kind in ("best_threshold", "by_prompt")
        for version in ("", "_cross_fitted", "_permuted")
    ),
    "spearman_by_prompt",
    "spearman_ceiling",
    "spearman_attainable",
]


@pytest.mark.parametrize("subset", SUBSETS)
def test_summary_has_measures_by_prompt(demo_run, subset: str):
    found = summary(demo_run[1], subset)
    assert all(found[name]["value"] is not None for name in PROMPT_ESTIMATES)
    assert found["balanced_accuracy_best_threshold"]["value"] >= found["overall"]["balanced_accuracy"]["value"]
    same = "balanced_accuracy_best_threshold_cross_fitted"
    assert found[same] == found["cross_fitted_threshold"]["balanced_accuracy"]
    prompts = predictions(demo_run[1], subset)["prompt"]
    assert found["prompts"] == prompts.nunique()
    assert found["prompts_with_threshold"] == (prompts.value_counts() >= 10).sum()
    assert found["spearman_prompts"] + found["spearman_prompts_left_out"] == found["prompts"]


def test_ties_enter_the_rank_correlation(demo_run):
    """Also ties of two raters, which are scored for this alone."""
    found = summary(demo_run[1])
    labels = pd.read_csv(ROOT / "analysis_outputs/emolia-emo/benchmark_labels.csv")
    ties = labels[labels["benchmark_bucket"] == "tie"]
    assert found["items_tied_excluded"] == len(ties) > 0
    assert found["questions_for_pairs"] == (ties["n_raters"] == 2).sum() > 0
    assert found["spearman_by_prompt"]["n"] == len(labels)
    assert found["rows_total"] == len(labels) - len(ties)


def test_protocol_voicenet_needs_two_raters_and_prints_its_measures_first(tmp_path: Path, capsys):
    assert run(ROOT, tmp_path, "--subset", "emolia-emo", "--protocol", "voicenet") == 0
    report, found = capsys.readouterr().out, summary(tmp_path)
    assert report.index("## Thresholds and ranks by prompt") < report.index("Quality band of the balanced accuracy")
    assert report.count("## Thresholds and ranks by prompt") == 1
    assert (found["protocol"], found["filters"]["min_raters"]) == ("voicenet", 2)
    assert "|protocol:voicenet|" in found["signature"]
    assert "|protocol:voicenet|metric:balanced_accuracy_by_prompt|" in report
    labels = pd.read_csv(ROOT / "analysis_outputs/emolia-emo/benchmark_labels.csv")
    assert found["spearman_by_prompt"]["n"] == (labels["n_raters"] >= 2).sum()
    assert predictions(tmp_path)["n_raters"].astype(int).min() == 2


def test_protocol_voicenet_keeps_a_stricter_filter(tmp_path: Path):
    flags = ["--subset", "emolia-emo", "--protocol", "voicenet", "--min-raters", "3", "--quiet"]
    assert run(ROOT, tmp_path, *flags) == 0
    assert summary(tmp_path)["filters"]["min_raters"] == 3


def test_default_protocol_prints_measures_by_prompt_after_the_reference_labels(demo_run):
    report = (demo_run[1] / "emolia-emo/report.md").read_text(encoding="utf-8")
    assert report.index("## Comparison with the reference labels") < report.index("## Thresholds and ranks by prompt")
    assert summary(demo_run[1])["protocol"] == "earmark"
    assert "|protocol:earmark|" in summary(demo_run[1])["signature"]


def test_labels_without_votes_have_thresholds_but_no_rank_correlation(small: Path, tmp_path: Path, capsys):
    assert run(small, tmp_path / "out", "--subset", "emolia-emo") == 0
    found = summary(tmp_path / "out")
    assert found["balanced_accuracy_best_threshold"]["value"] is not None
    assert "soft_present" in found["spearman_by_prompt"]["why"]
    assert "soft_present" in found["pairwise_parity"]["accuracy"]["model"]["why"]
    assert "Rank correlation is undefined: the labels do not give" in capsys.readouterr().out


def test_model_names_a_server_in_directory_signature_and_report(small: Path, tmp_path: Path, capsys):
    with sham() as server:
        assert run(small, tmp_path, "--subset", "emolia-emo", "--endpoint", server.url, "--model", "acme/ours v1") == 0
    found = summary(tmp_path)
    assert "|model:acme/ours v1-" in found["signature"]
    assert (found["name"], found["scorer"]["model"]) == ("acme/ours v1", "acme/ours v1")
    assert (tmp_path / "runs/acme-ours-v1/emolia-emo/summary.json").is_file()
    assert capsys.readouterr().out.startswith("# emolia-emo: acme/ours v1, endpoint at http://")


@pytest.mark.parametrize("flag", ["--name", "--model-name"])
def test_name_of_the_model(small: Path, tmp_path: Path, flag: str, capsys):
    assert run(small, tmp_path, "--subset", "emolia-emo", flag, "Ours (v2)") == 0
    assert (tmp_path / "runs/Ours-v2/emolia-emo/summary.json").is_file()
    assert capsys.readouterr().out.startswith("# emolia-emo: Ours (v2), sham")
    assert summary(tmp_path)["signature"].endswith("|model:sham")
