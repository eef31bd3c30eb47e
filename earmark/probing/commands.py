"""Commands `check`, `list` and `download` of `probe.py`."""

from dataclasses import astuple
from pathlib import Path

from tqdm import tqdm

from earmark import cli
from earmark.cli import Invocation
from earmark.errors import SCRIPT_PLACEHOLDER, EarmarkError, MissingError, shown_path
from earmark.files.download import RemoteFile
from earmark.files.remote import is_remote, require_reachable
from earmark.models.encoders.case_source import notes as case_notes
from earmark.models.encoders.conformance.isolation import check_apart
from earmark.models.encoders.conformance.memory import default_limit
from earmark.models.encoders.conformance.runner import HEADERS, MAX_CLIP_SECONDS, REQUIREMENTS
from earmark.models.encoders.registry import PYTHON_FILE
from earmark.probing.downloads import download_task, record_files
from earmark.probing.layouts import locate_task
from earmark.probing.options import CheckOptions, DownloadOptions, ListOptions
from earmark.probing.task_files import select_tasks
from earmark.probing.xares import published_tasks
from earmark.report.tables import to_markdown

PASSED = {True: "pass", False: "FAIL", None: "–"}


def run_check(options: CheckOptions, invocation: Invocation) -> int:
    """Check an encoder in a process of its own, and print each row of the table as soon as it is known.

    Returns
    -------
    int
        Exit code: 1 if a check failed, otherwise 0.
    """
    model = options.model
    if match := PYTHON_FILE.match(model.spec):
        for note in case_notes(Path(match["file"])):
            invocation.warn(note)
    max_memory = options.max_memory or default_limit()
    if max_memory is None:
        invocation.warn("This system does not report its memory: --max-memory limits the checks.")
    passed: list[bool | None] = []
    bar: tqdm[object] = invocation.progress((), total=len(REQUIREMENTS), label="checks", unit="check")
    seconds = options.max_clip_seconds or MAX_CLIP_SECONDS
    with bar:
        for result in check_apart(model, seconds, max_memory, lambda clip: bar.set_postfix_str(f"clip of {clip:g} s")):
            cells = [PASSED[cell] if i == 1 else cell for i, cell in enumerate(astuple(result))]
            table = to_markdown(list(HEADERS), [cells]).replace(SCRIPT_PLACEHOLDER, invocation.script.name)
            bar.clear()
            cli.show(table if not passed else table.splitlines()[-1])
            passed.append(result.passed)
            bar.update()
    failed = passed.count(False)
    cli.show(f"{failed} of {len(passed)} checks failed." if failed else "All applicable checks passed.")
    return cli.FAILED if failed else cli.COMPLETE


def run_list(options: ListOptions, invocation: Invocation) -> int:
    """Print the tasks, the layout and state of their data, and what is missing."""
    require_reachable(options.data_root)
    rows, notes = [], []
    for task in select_tasks(options.tasks) if options.tasks else published_tasks().values():
        located = locate_task(task, options.data_root)
        size = "–" if not located.size else f"{located.size / 1e6:,.0f} MB"
        tracks = "linear, k-NN" if task.knn else "linear"
        names = [task.name, task.formal_name, task.domain, task.type, task.metric, tracks]
        rows.append([*names, located.layout, located.state, size])
        notes += [f"{task.name}: {located.notes}"] if located.notes else []
    cli.show(f"Data directory: {shown_path(options.data_root)}\n")
    headers = ["task", "name", "domain", "type", "metric", "tracks", "layout", "data", "size"]
    cli.show("\n\n".join([to_markdown(headers, rows).rstrip(), *notes]))
    return cli.COMPLETE


def run_download(options: DownloadOptions, invocation: Invocation) -> int:
    """Download the data of the selected tasks.

    A failed task does not stop the others. With `all`, tasks without a public record are skipped.

    Raises
    ------
    EarmarkError
        At the end, with all failures.
    """
    if is_remote(options.data_root):
        raise MissingError(
            f"{options.data_root} is not a local folder. Download into one, and copy its folders of tasks there."
        )
    failed: list[str] = []
    for task in select_tasks(options.tasks):
        if "all" in options.tasks and task.name not in options.tasks and not task.zenodo:
            cli.show(f"{task.name}: skipped; it has no public record")
            continue
        try:
            total = sum(file.size or 0 for file in record_files(task, options.zenodo))
            with invocation.bytes_bar(total=total, label=task.name) as progress:

                def advance(_: RemoteFile, n: int) -> None:
                    progress.update(n)

                files = download_task(task, options.data_root, base=options.zenodo, on_bytes=advance)
            cli.show(f"{task.name}: {len(files):,} files in {shown_path(options.data_root / task.name)}/")
        except EarmarkError as error:
            failed.append(f"{task.name}: {str(error).removeprefix(f'{task.name}: ')}")
    if failed:
        raise EarmarkError("\n".join(failed))
    return cli.COMPLETE
