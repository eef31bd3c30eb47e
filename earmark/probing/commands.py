"""`probe.py check`, `list` and `download`: an encoder's promises, the tasks, their data."""

from dataclasses import astuple

from earmark import cli
from earmark.cli import Invocation
from earmark.errors import EarmarkError, shown_path
from earmark.files.download import RemoteFile
from earmark.models.encoders.conformance.runner import HEADERS, MAX_CLIP_SECONDS, REQUIREMENTS, check_encoder
from earmark.models.encoders.from_options import load_encoder_from_options
from earmark.probing.downloads import download_task, record_files
from earmark.probing.layouts import locate_task
from earmark.probing.options import CheckOptions, DownloadOptions, ListOptions
from earmark.probing.task_files import select_tasks
from earmark.probing.xares import published_tasks
from earmark.report.tables import to_markdown

PASSED = {True: "pass", False: "FAIL", None: "–"}


def run_check(options: CheckOptions, invocation: Invocation) -> int:
    """Every check of an encoder as a table; 1 where one fails."""
    model = options.model
    found = check_encoder(
        load_encoder_from_options(model) if model.spec.startswith("http") else model.spec,
        device=model.device,
        dtype=model.dtype,
        max_clip_seconds=options.max_clip_seconds or MAX_CLIP_SECONDS,
    )
    bar = invocation.progress(found, total=len(REQUIREMENTS), label="checks", unit="check")
    rows = [[PASSED[cell] if i == 1 else cell for i, cell in enumerate(astuple(one))] for one in bar]
    failed = sum(row[1] == PASSED[False] for row in rows)
    cli.show(to_markdown(list(HEADERS), rows))
    cli.show(f"{failed} of {len(rows)} checks failed." if failed else "Every check that applies is passed.")
    return cli.FAILED if failed else cli.COMPLETE


def run_list(options: ListOptions, invocation: Invocation) -> int:
    """The tasks, and whether their data are here."""
    rows = []
    for task in select_tasks(options.tasks) if options.tasks else published_tasks().values():
        located = locate_task(task, options.data_root)
        size = "–" if not located.size else f"{located.size / 1e6:,.0f} MB"
        tracks = "linear, kNN" if task.knn else "linear"
        rows.append([task.name, task.formal_name, task.domain, task.type, task.metric, tracks, located.state, size])
    where = f"data in {shown_path(options.data_root)}"
    cli.show(to_markdown(["task", "name", "domain", "type", "metric", "tracks", where, "size"], rows))
    return cli.COMPLETE


def run_download(options: DownloadOptions, invocation: Invocation) -> int:
    """Every task that is asked for; one that fails does not stop the others. Of `all`, those that have a record.

    EarmarkError with what failed, at the end.
    """
    failed: list[str] = []
    for task in select_tasks(options.tasks):
        if "all" in options.tasks and task.name not in options.tasks and not task.zenodo:
            cli.show(f"{task.name}: left out; it has no public record")
            continue
        try:
            total = sum(file.size or 0 for file in record_files(task, options.zenodo))
            with invocation.bytes_bar(total=total, label=task.name) as bar:

                def advance(_: RemoteFile, n: int) -> None:
                    bar.update(n)

                made = download_task(task, options.data_root, base=options.zenodo, on_bytes=advance)
            cli.show(f"{task.name}: {len(made):,} files in {shown_path(options.data_root / task.name)}/")
        except EarmarkError as error:
            failed.append(f"{task.name}: {str(error).removeprefix(f'{task.name}: ')}")
    if failed:
        raise EarmarkError("\n".join(failed))
    return cli.COMPLETE
