"""Experiment trackers: the real ones, without network, and faulty ones."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.cli import Invocation, TrackerOptions
from earmark.errors import MissingError
from earmark.metrics.estimate import Estimate
from earmark.report import trackers
from earmark.report.hub import HubResult, HubTask
from earmark.report.provenance import provenance
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.trackers import FinishedRun, Record, log_run, log_to, metrics, record_of, require_trackers, settings
from tests.conftest import ROOT

SIGNATURE = Signature((("earmark", "1.0"), ("suite", "emolia-emo"), ("metric", "roc_auc")))
AUC = HubResult("roc_auc", Estimate(0.75, 0.5, 0.875, n=40), SIGNATURE)
ACCURACY = HubResult("balanced_accuracy", Estimate(0.625, n=40), SIGNATURE)
UNDEFINED = HubResult("eer", Estimate(None, why="no targets"), SIGNATURE)
NUMBERS = {
    "emolia-emo/roc_auc": 0.75,
    "emolia-emo/roc_auc_low": 0.5,
    "emolia-emo/roc_auc_high": 0.875,
    "emolia-emo/roc_auc_n": 40,
    "emolia-emo/balanced_accuracy": 0.625,
    "emolia-emo/balanced_accuracy_n": 40,
}
PASSWORD, TOKEN = "pa55-of-endpoint", "t0ken-of-server"


@pytest.fixture
def run(tmp_path: Path) -> FinishedRun:
    """A finished run with its files on disk, called with a password in a URL."""
    folder = tmp_path / "out"
    folder.mkdir()
    invocation = Invocation(
        Path("benchmark.py"), ("--endpoint", f"https://me:{PASSWORD}@host/v1?key={TOKEN}", "--log", "wandb"), seed=7
    )
    summary = provenance(
        invocation, inputs=[], parameters={"threshold": 0.5, "by": [], "only": ["a", "b"]}, signature=SIGNATURE
    )
    (folder / "report.md").write_text("# Scores\n")
    (folder / "report.html").write_text("<p>Scores</p>")
    (folder / "summary.json").write_text(to_json(summary))
    return FinishedRun("my model", "emolia-emo", [HubTask("Emolia-Emo", [AUC, ACCURACY, UNDEFINED])], summary, folder)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory where trackers find no account, and keep their data below it."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "HF_HOME", "TRACKIO_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("EARMARK_API_KEY", TOKEN)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--endpoint", f"https://me:{PASSWORD}@host"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(run: FinishedRun, step: int | None = None) -> Record:
    return record_of(TrackerOptions((), "my-project", step), run)


def later(run: FinishedRun) -> FinishedRun:
    """The same model after more training: another score and other parameters."""
    summary = run.summary.model_copy(update={"parameters": {"threshold": 0.25}})
    better = HubResult("roc_auc", Estimate(0.9375, 0.875, 1.0, n=40), SIGNATURE)
    return FinishedRun(run.name, run.suite, [HubTask("emolia-emo", [better])], summary, run.folder)


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


# --- what is logged -----------------------------------------------------------------------------------------


def test_metrics_are_the_headline_numbers_with_intervals(run):
    assert dict(metrics(run.tasks)) == NUMBERS


@given(
    st.lists(
        st.one_of(
            st.builds(Estimate, st.none(), why=st.text()),
            st.builds(Estimate, st.floats(0, 1), n=st.integers(0, 10**9)),
            st.builds(Estimate, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), n=st.integers(0, 10**9)),
        )
    )
)
def test_metrics_and_reasons_cover_every_number_once(estimates):
    results = [HubResult(f"m{i}", estimate, SIGNATURE) for i, estimate in enumerate(estimates)]
    logged = dict(metrics([HubTask("t", results)]))
    for i, estimate in enumerate(estimates):
        expected = {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
        assert {end: logged.get(f"t/m{i}{end}") for end in expected} == expected
        assert logged.get(f"t/m{i}_n") == (None if estimate.value is None else estimate.n)


def test_settings_hold_provenance_without_secrets(run):
    values = settings(run)
    assert values["argv"] == '["--endpoint", "https://host/v1", "--log", "wandb"]'
    assert (values["suite"], values["signature"], values["seed"]) == ("emolia-emo", str(SIGNATURE), 7)
    assert (values["parameters.threshold"], values["parameters.only"]) == (0.5, '["a", "b"]')
    assert values["undefined.emolia-emo/eer"] == "no targets"
    assert "parameters.by" not in values and "inputs" not in values, "empty"
    assert not [value for value in values.values() if PASSWORD in str(value) or TOKEN in str(value)]


def test_settings_shorten_long_texts(run):
    run.summary.parameters["names"] = ["x" * 60_000]
    assert len(settings(run)["parameters.names"]) == 5000


def test_record_lists_the_files_that_exist(run):
    (run.folder / "report.html").unlink()
    assert [path.name for path in record(run).files] == ["report.md", "summary.json"]


def test_identity_depends_on_name_and_suite(run):
    same = record_of(TrackerOptions((), "p", 2), later(run))
    other = record_of(TrackerOptions((), "p", 2), FinishedRun("my model", "emolia-dim", [], run.summary, run.folder))
    assert record(run).identity == same.identity != other.identity


# --- real trackers ------------------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("trackio") is None, reason="needs the extra trackio")
@pytest.mark.slow
def test_trackio_holds_a_curve_over_steps_in_one_run(run, offline):
    from trackio.sqlite_storage import SQLiteStorage

    for step, finished in ((100, run), (200, later(run))):
        assert log_to("trackio", record(finished, step)).startswith("logged run my model of project my-project")
    (database,) = (offline / "TRACKIO_DIR").glob("*.db")
    reader = _trackio_at(database, SQLiteStorage)
    (name,) = reader.get_runs("my-project")
    first, second = reader.get_logs("my-project", name)
    assert name == "my model" and NUMBERS.items() <= first.items()
    assert [row["step"] for row in (first, second)] == [100, 200]
    assert second["emolia-emo/roc_auc"] == 0.9375
    assert first["emolia-emo/report"]["_value"] == "# Scores\n"
    assert reader.get_run_config("my-project", name)["signature"] == str(SIGNATURE)
    stored = [path.read_bytes() for path in (offline / "TRACKIO_DIR" / "artifacts").rglob("*") if path.is_file()]
    assert {b"# Scores\n", b"<p>Scores</p>"} <= set(stored)
    assert not files_with(PASSWORD, offline) and not files_with(TOKEN, offline)


def _trackio_at(database: Path, storage: Any) -> Any:
    """trackio's reader for a database; it looks up its folder when it is imported."""
    import trackio.sqlite_storage
    import trackio.utils

    for module in (trackio.utils, trackio.sqlite_storage):
        module.TRACKIO_DIR = database.parent
    return storage


@pytest.mark.skipif(find_spec("trackio") is None, reason="needs the extra trackio")
@pytest.mark.slow
def test_trackio_without_a_step_starts_a_new_run_each_time(run, offline):
    from trackio.sqlite_storage import SQLiteStorage

    for _ in range(2):
        log_to("trackio", record(run))
    (database,) = (offline / "TRACKIO_DIR").glob("*.db")
    assert len(_trackio_at(database, SQLiteStorage).get_run_records("my-project")) == 2


@pytest.mark.skipif(find_spec("trackio") is None, reason="needs the extra trackio")
@pytest.mark.slow
def test_trackio_reports_what_it_cannot_write(run, offline):
    (offline / "TRACKIO_DIR").write_text("a file where trackio wants a folder")
    assert log_to("trackio", record(run)).startswith("not logged: ")


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs the extra wandb")
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", None])
def test_wandb_offline_run_holds_the_record_and_no_secret(run, offline, monkeypatch, mode):
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    answer = log_to("wandb", record(run, 100))
    (file,) = (offline / "wandb").glob("offline-run-*/*.wandb")
    assert answer.endswith(f"logged offline; `wandb sync wandb/{file.parent.name}` uploads it")
    assert answer.startswith("logged offline" if mode else "no API key is configured (`wandb login`); ")
    records = list(wandb_records(file))
    (started,) = [each.run for each in records if each.HasField("run")]
    assert (started.project, started.display_name, started.run_group) == ("my-project", "my model", "emolia-emo")
    assert (started.run_id, started.host) == (record(run).identity, "")
    config = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert (config["signature"], config["parameters.threshold"]) == (str(SIGNATURE), 0.5)
    (row,) = [each.history for each in records if each.HasField("history")]
    logged = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row.item}
    assert (NUMBERS | {"training_step": 100}).items() <= logged.items()
    (artifact,) = [each.request.log_artifact.artifact for each in records if _is_artifact(each)] or [
        each.artifact for each in records if each.HasField("artifact")
    ]
    assert {entry.path for entry in artifact.manifest.contents} == {"report.md", "report.html", "summary.json"}
    for secret in (PASSWORD, TOKEN):
        assert not files_with(secret, offline)


def _is_artifact(record: Any) -> bool:
    return record.HasField("request") and record.request.HasField("log_artifact")


def wandb_records(file: Path) -> Iterator[Any]:
    """Records of a .wandb file: a header of 7 bytes, then LevelDB's log format with blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow without runs; creating its tables takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}")
    return path


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs the extra mlflow")
@pytest.mark.slow
def test_mlflow_holds_a_curve_over_steps_in_one_run(run, offline, empty_database):
    from mlflow import MlflowClient

    shutil.copy(empty_database, offline)
    for step, finished in ((100, run), (200, later(run))):
        assert log_to("mlflow", record(finished, step)).startswith("logged run my model of experiment my-project")
    client = MlflowClient(f"sqlite:///{offline / 'mlflow.db'}")
    (stored,) = client.search_runs([client.get_experiment_by_name("my-project").experiment_id])
    assert (stored.info.run_name, stored.info.status) == ("my model", "FINISHED")
    assert stored.data.metrics == NUMBERS | {
        "emolia-emo/roc_auc": 0.9375, "emolia-emo/roc_auc_low": 0.875, "emolia-emo/roc_auc_high": 1.0
    }  # fmt: skip
    history = client.get_metric_history(stored.info.run_id, "emolia-emo/roc_auc")
    assert [(point.step, point.value) for point in history] == [(100, 0.75), (200, 0.9375)]
    assert stored.data.params == {"parameters.threshold": "0.5", "parameters.only": '["a", "b"]'}
    assert stored.data.tags["signature"] == str(SIGNATURE)
    for step in (100, 200):
        names = {file.path for file in client.list_artifacts(stored.info.run_id, f"step-{step}")}
        assert names == {f"step-{step}/{name}" for name in ("report.md", "report.html", "summary.json")}
    assert not files_with(PASSWORD, offline) and not files_with(TOKEN, offline)


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs the extra mlflow")
@pytest.mark.slow
def test_mlflow_uses_the_store_of_the_environment(run, offline, empty_database, monkeypatch):
    from mlflow import MlflowClient

    shutil.copy(empty_database, offline / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{offline / 'elsewhere.db'}")
    for _ in range(2):
        log_to("mlflow", record(run))
    client = MlflowClient(f"sqlite:///{offline / 'elsewhere.db'}")
    stored = client.search_runs([client.get_experiment_by_name("my-project").experiment_id])
    assert [each.data.metrics for each in stored] == [NUMBERS, NUMBERS]
    assert not (offline / "mlflow.db").exists()


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs the extra mlflow")
@pytest.mark.slow
def test_mlflow_sends_no_usage_data(offline, empty_database):
    """MLflow sends none in tests and on build servers anyway; therefore a process without the variables that tell."""
    shutil.copy(empty_database, offline)
    code = (
        "import requests, time; from earmark.report.trackers import Record, log_to_mlflow\n"
        "requests.Session.request = lambda self, method, url, **rest: print('request', url)\n"
        "print(log_to_mlflow(Record('p', 'n', 's', None, {'a': 0.5}, {}, ()))); time.sleep(0.5)"
    )
    telling = ("CI", "PYTEST_", "GITHUB_", "BUILD", "TEAMCITY", "DO_NOT_TRACK", "MLFLOW_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(telling)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "logged run n of experiment p; see `uvx mlflow ui`\n"


# --- faults -------------------------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for modules that replace trackers."""
    folder = tmp_path / "fake"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    for name in ("trackio", "wandb", "mlflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("raise ValueError('no space left')", "ValueError: no space left"),
        (
            f"raise OSError('cannot reach https://me:{PASSWORD}@host/path\\nmore')",
            "OSError: cannot reach https://host/path",
        ),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import os; os._exit(3)", "the process of the tracker ended with exit code 3"),
        ("import sys; print('noise'); input('Key: ')", "EOFError: EOF when reading a line"),
    ],
)
def test_faulty_tracker_is_a_warning_with_the_reason(run, fake, capfd, code, answer):
    (fake / "trackio.py").write_text(code)
    log_run(TrackerOptions(("trackio", "trackio")), run, Invocation(Path("probe.py")))
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"trackio: not logged: {answer}.\n")


@pytest.mark.slow
def test_tracker_that_does_not_answer_is_stopped(run, fake, monkeypatch):
    (fake / "trackio.py").write_text("import time; time.sleep(600)")
    monkeypatch.setattr(trackers, "SECONDS", 0.5)
    assert log_to("trackio", record(run)) == "not logged: no answer within 0.5 s"


@pytest.mark.parametrize("folder_of_runs", [False, True])
def test_missing_trackers_are_reported_with_the_command(tmp_path, monkeypatch, folder_of_runs):
    if folder_of_runs:  # Weights & Biases writes to a folder of its own name, which Python could import
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        monkeypatch.delitem(sys.modules, "wandb", raising=False)
        (tmp_path / "wandb").mkdir()
    else:
        monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(
        MissingError, match=r"not installed: wandb, mlflow. Use `uv run --extra wandb --extra mlflow SCRIPT.py …`"
    ):
        require_trackers(TrackerOptions(("wandb", "mlflow", "wandb")))


def test_installed_trackers_pass():
    require_trackers(TrackerOptions())
    require_trackers(TrackerOptions(tuple(name for name in trackers.TRACKERS if find_spec(name))))
