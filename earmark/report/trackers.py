"""Log finished runs to experiment trackers: trackio, Weights & Biases, MLflow.

A tracker runs in a process of its own, after all results are on disk. Whatever happens there, also an exit or no answer
at all, becomes a warning; the exit code is that of the evaluation. Trackers receive the headline numbers of the files
for model hubs, fields that every summary.json begins with, and the files of `LOGGED_FILES`. What they would collect
themselves (command line, environment, source code, output, host) is turned off, and so is the usage data of MLflow.
"""

import json
import multiprocessing
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from earmark.cli import MLFLOW, TRACKIO, WANDB, Invocation, TrackerOptions
from earmark.errors import SCRIPT_PLACEHOLDER, MissingError, shown_cause, shown_path
from earmark.report.hub import HubTask, slug
from earmark.report.schema import SummaryBase, to_json

LOGGED_FILES = ("report.md", "report.html", "summary.json")
SECONDS = 300.0  # after which a tracker that does not answer is stopped
CONNECT_SECONDS = 30.0  # for the first answer of a server
CLOSING_SECONDS = 10.0  # for the end of the process after everything is logged
LONGEST_VALUE = 5000  # characters; MLflow refuses longer tags
PARAMETER = "parameters."  # begins the names of parameters among the settings
IDENTITY_TAG = "earmark.run"  # tag of MLflow runs that steps continue
MLFLOW_BATCH = 100  # values in one request; MLflow accepts no more parameters or tags
STEP = "training_step"  # x axis of curves in Weights & Biases

Setting = str | int | float | bool


@dataclass(frozen=True)
class FinishedRun:
    """Results of an evaluation that are on disk.

    Attributes
    ----------
    name : str
        Name of the model or system.
    suite : str
        Name of the evaluation.
    tasks : sequence of HubTask
        The headline numbers.
    summary : SummaryBase
    folder : Path
        Directory with the files of `LOGGED_FILES`; absent ones are not logged.
    """

    name: str
    suite: str
    tasks: Sequence[HubTask]
    summary: SummaryBase
    folder: Path


@dataclass(frozen=True)
class Record:
    """What a tracker receives: plain values, so that another process can read them.

    Attributes
    ----------
    project, name, suite : str
        The name is that of the run.
    step : int or None
        Training step of the checkpoint. Runs with a step and the same name and suite are one run of the tracker.
    metrics : dict of str to float
        From `metrics`.
    settings : dict
        From `settings`.
    files : tuple of Path
    """

    project: str
    name: str
    suite: str
    step: int | None
    metrics: dict[str, float]
    settings: dict[str, Setting]
    files: tuple[Path, ...]

    @property
    def identity(self) -> str:
        """Identifies the run that steps of the same name and suite belong to; 16 hexadecimal digits."""
        return sha256(f"{self.name}\n{self.suite}".encode(errors="backslashreplace")).hexdigest()[:16]


def require_trackers(options: TrackerOptions) -> None:
    """Check that the requested trackers are installed.

    Parameters
    ----------
    options : TrackerOptions

    Raises
    ------
    MissingError
        If one is not. The message has the command that installs it.
    """
    if missing := [tracker for tracker in dict.fromkeys(options.log) if not _is_installed(tracker)]:
        extras = " ".join(f"--extra {tracker}" for tracker in missing)
        raise MissingError(f"--log: not installed: {', '.join(missing)}. Use `uv run {extras} {SCRIPT_PLACEHOLDER} …`.")


def _is_installed(module: str) -> bool:
    """Whether a module is installed; the folders `wandb` that Weights & Biases writes do not count."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None


def log_run(options: TrackerOptions, run: FinishedRun, invocation: Invocation) -> None:
    """Log a finished run to the requested trackers. Failures are warnings.

    Parameters
    ----------
    options : TrackerOptions
    run : FinishedRun
    invocation : Invocation
    """
    for tracker in dict.fromkeys(options.log):
        invocation.warn(f"{tracker}: {log_to(tracker, record_of(options, run))}.")


def record_of(options: TrackerOptions, run: FinishedRun) -> Record:
    """Collect what trackers receive.

    Parameters
    ----------
    options : TrackerOptions
    run : FinishedRun

    Returns
    -------
    Record
    """
    return Record(
        project=options.log_project,
        name=run.name,
        suite=run.suite,
        step=options.log_step,
        metrics=dict(metrics(run.tasks)),
        settings=settings(run),
        files=tuple(path for name in LOGGED_FILES if (path := run.folder / name).is_file()),
    )


def metrics(tasks: Sequence[HubTask]) -> Iterator[tuple[str, float]]:
    """Yield names and values of the headline numbers; undefined ones are left out.

    Parameters
    ----------
    tasks : sequence of HubTask

    Yields
    ------
    (str, float)
        `<task>/<metric>` with its value, and `…_low`, `…_high` and `…_n` where they exist.

    Examples
    --------
    >>> from earmark.metrics.estimate import Estimate
    >>> from earmark.report.hub import HubResult
    >>> from earmark.report.signature import Signature
    >>> signature = Signature.from_parts()
    >>> eer = HubResult("eer", Estimate(0.125, 0.1, 0.15, n=800), signature)
    >>> undefined = HubResult("min_dcf", Estimate(None, why="no targets"), signature)
    >>> dict(metrics([HubTask("trials", [eer, undefined])]))
    {'trials/eer': 0.125, 'trials/eer_low': 0.1, 'trials/eer_high': 0.15, 'trials/eer_n': 800}
    """
    for task in tasks:
        for result in task.results:
            name, estimate = f"{slug(task.name)}/{slug(result.metric)}", result.estimate
            if estimate.value is None:
                continue
            yield name, estimate.value
            if estimate.low is not None and estimate.high is not None:
                yield f"{name}_low", estimate.low
                yield f"{name}_high", estimate.high
            yield f"{name}_n", estimate.n


def settings(run: FinishedRun) -> dict[str, Setting]:
    """Provenance of a run as in summary.json, one level deep; lists and mappings are JSON.

    Parameters
    ----------
    run : FinishedRun

    Returns
    -------
    dict
        Parameters begin with `parameters.`, reasons of undefined numbers with `undefined.`. Empty values are left out,
        and texts of more than 5,000 characters are shortened.
    """
    whole = json.loads(to_json(run.summary))
    common = {name: whole[name] for name in SummaryBase.model_fields}
    parameters, git = common.pop("parameters"), common.pop("git")
    values = {"suite": run.suite, **common, "commit": git.get("commit"), "uncommitted_changes": git.get("dirty")}
    values |= {f"{PARAMETER}{key}": value for key, value in parameters.items()}
    values |= {
        f"undefined.{slug(task.name)}/{slug(result.metric)}": result.estimate.why or "undefined"
        for task in run.tasks
        for result in task.results
        if result.estimate.value is None
    }
    return {key: _setting(value) for key, value in values.items() if value not in (None, "", [], {})}


def _setting(value: Any) -> Setting:
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


# --- the process of a tracker -------------------------------------------------------------------------------


def log_to(tracker: str, record: Record) -> str:
    """Log to one tracker in a process of its own, without a terminal.

    Parameters
    ----------
    tracker : str
        A key of `TRACKERS`.
    record : Record

    Returns
    -------
    str
        What was logged where, or why not.
    """
    context = multiprocessing.get_context("spawn")  # its standard input is closed, so nothing can ask for a key
    answers, sender = context.Pipe(duplex=False)
    process = context.Process(target=_log_and_answer, args=(tracker, record, sender), daemon=True)
    try:
        process.start()
        sender.close()
        if not answers.poll(SECONDS):
            return f"not logged: no answer within {SECONDS:g} s"
        answer = str(answers.recv())
        process.join(CLOSING_SECONDS)
        return answer
    except EOFError:
        process.join()
        return f"not logged: the process of the tracker ended with exit code {process.exitcode}"
    except Exception as error:  # such as no memory for a process
        return f"not logged: {_reason(error)}"
    finally:
        answers.close()
        if process.pid is not None:
            process.kill()
            process.join()


def _log_and_answer(tracker: str, record: Record, sender: Connection) -> None:
    """Work of the process: log, and send the answer."""
    try:
        silent = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # trackers print on both, and so do their own processes
            os.dup2(silent, stream)
        answer = TRACKERS[tracker](record)
    except BaseException as error:  # also SystemExit: a tracker must never end the run
        answer = f"not logged: {_reason(error)}"
    sender.send(answer)
    sender.close()


def _reason(error: BaseException) -> str:
    """First line of an error with its type, without credentials in URLs."""
    text = re.sub(r"(\w+://)[^\s/@]+@", r"\1", str(error))
    return f"{type(error).__name__}: {shown_cause(Exception(text)) if text.strip() else 'no message'}"


def log_to_trackio(record: Record) -> str:
    """Log to trackio: its local database, or a server or Space that its environment variables name."""
    trackio = import_module("trackio")
    with warnings.catch_warnings(record=True) as caught:  # trackio warns where it loses data
        warnings.simplefilter("always", UserWarning)
        run = trackio.init(
            project=record.project,
            name=record.name,
            group=record.suite,
            config=record.settings,
            resume="never" if record.step is None else "allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        reports = {
            f"{record.suite}/report": trackio.Markdown(path.read_text(encoding="utf-8"))
            for path in record.files
            if path.name == "report.md"
        }
        trackio.log({**record.metrics, **reports}, step=record.step)
        if record.files:
            artifact = trackio.Artifact(_artifact_name(record), type="report")
            for path in record.files:
                artifact.add_file(str(path))
            run.log_artifact(artifact)
        trackio.finish()
    if problems := [str(each.message) for each in caught if each.category is UserWarning]:
        raise RuntimeError(problems[0])
    return f"logged run {record.name} of project {record.project}; see `trackio show`"


def log_to_wandb(record: Record) -> str:
    """Log to Weights & Biases; offline without an API key or a network."""
    wandb = import_module("wandb")
    configured = wandb.setup().settings
    mode, problem = configured.mode, ""
    if mode not in ("offline", "disabled") and (problem := _wandb_problem(wandb)):
        mode = "offline"
    run = wandb.init(
        project=record.project,
        name=record.name,
        group=record.suite,
        config=record.settings,
        id=None if record.step is None else record.identity,
        resume=None if record.step is None else "allow",
        settings=wandb.Settings(mode=mode, **WANDB_SETTINGS),
    )
    run.config.update(record.settings, allow_val_change=True)  # of a continued run
    if record.step is not None:
        run.define_metric("*", step_metric=STEP)
    run.log({**record.metrics, **({} if record.step is None else {STEP: record.step})})
    if record.files:
        artifact = wandb.Artifact(_artifact_name(record), type="report")
        for path in record.files:
            artifact.add_file(str(path))
        run.log_artifact(artifact)
    place = run.url if run.url else shown_path(Path(run.dir).parent)
    run.finish()
    if mode == "disabled":
        return "not logged: WANDB_MODE is disabled"
    if mode == "offline":
        return f"{problem}logged offline; `wandb sync {place}` uploads it"
    return f"logged run {record.name}: {place}"


def _wandb_problem(wandb: Any) -> str:
    """Why the account of Weights & Biases cannot be used; empty if it can."""
    try:
        return "" if wandb.login(prompt=False) else "no API key is configured (`wandb login`); "
    except Exception as error:  # a wrong key, or no network
        return f"{_reason(error)}; "


WANDB_SETTINGS = {
    "silent": True,
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "host": "",
    "x_disable_meta": True,  # the command line and the environment
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "init_timeout": CONNECT_SECONDS,
    "finish_timeout": SECONDS / 2,
    "finish_timeout_raises": True,
}


def log_to_mlflow(record: Record) -> str:
    """Log to MLflow: the store of MLFLOW_TRACKING_URI, else mlflow.db in the working directory."""
    mlflow = import_module("mlflow")
    variables = import_module("mlflow.environment_variables")
    variables.MLFLOW_DISABLE_TELEMETRY.set(True)
    mlflow.telemetry.set_telemetry_client()  # reads the variable again: MLflow sends usage data unless told otherwise
    for variable, value in (
        (variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES, 2),  # the default of 7 waits for minutes
        (variables.MLFLOW_HTTP_REQUEST_TIMEOUT, int(CONNECT_SECONDS)),
    ):
        if not variable.is_set():
            variable.set(value)
    client = mlflow.MlflowClient()
    run = _mlflow_run(client, record)
    run_id, folder = run.info.run_id, None if record.step is None else f"step-{record.step}"
    now, step = int(time.time() * 1000), record.step or 0
    numbers = [mlflow.entities.Metric(key, number, now, step) for key, number in record.metrics.items()]
    texts = {key: str(value) for key, value in record.settings.items()}
    parameters = [  # a parameter of a run cannot be changed; the step's own are in its summary.json
        mlflow.entities.Param(key, text)
        for key, text in texts.items()
        if key.startswith(PARAMETER) and key not in run.data.params
    ]
    tags = [mlflow.entities.RunTag(key, text) for key, text in texts.items() if not key.startswith(PARAMETER)]
    for kind, items in (("metrics", numbers), ("params", parameters), ("tags", tags)):
        for start in range(0, len(items), MLFLOW_BATCH):
            client.log_batch(run_id, **{kind: items[start : start + MLFLOW_BATCH]})
    for path in record.files:
        client.log_artifact(run_id, str(path), folder)
    client.set_terminated(run_id)
    return f"logged run {record.name} of experiment {record.project}; see `uvx mlflow ui`"


def _mlflow_run(client: Any, record: Record) -> Any:
    """The run that a step continues, or a new one."""
    experiment = client.get_experiment_by_name(record.project)
    experiment_id = client.create_experiment(record.project) if experiment is None else experiment.experiment_id
    if record.step is None:
        return client.create_run(experiment_id, run_name=record.name)
    found = client.search_runs([experiment_id], f"tags.`{IDENTITY_TAG}` = '{record.identity}'", max_results=1)
    return (
        found[0]
        if found
        else client.create_run(experiment_id, run_name=record.name, tags={IDENTITY_TAG: record.identity})
    )


def _artifact_name(record: Record) -> str:
    return slug(f"{record.name}-{record.suite}-report")


TRACKERS: Mapping[str, Callable[[Record], str]] = {
    TRACKIO: log_to_trackio,
    WANDB: log_to_wandb,
    MLFLOW: log_to_mlflow,
}
