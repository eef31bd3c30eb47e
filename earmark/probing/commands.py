"""`probe.py check`, `list` and `download`: an encoder's promises, the tasks, their data."""

from argparse import Namespace
from dataclasses import astuple

from earmark import cli
from earmark.errors import EarmarkError, shown_path
from earmark.files.download import RemoteFile
from earmark.models.encoders.conformance.runner import HEADERS, PROMISES, check
from earmark.models.encoders.from_options import loaded_encoder
from earmark.models.encoders.options import EncoderOptions
from earmark.probing.downloads import download_task, record_files
from earmark.probing.layouts import status
from earmark.probing.task_files import chosen
from earmark.probing.tasks import tasks
from earmark.report.tables import to_markdown

PASSED = {True: "pass", False: "FAIL", None: "–"}


def tell_check(arguments: Namespace) -> int:
    """Every check of an encoder as a table; 1 where one fails."""
    found = check(
        loaded_encoder(cli.options(EncoderOptions, arguments))
        if arguments.encoder.startswith("http")
        else arguments.encoder,
        device=arguments.device,
        dtype=arguments.dtype,
        longest_seconds=arguments.longest,
    )
    bar = cli.progress(found, arguments, total=len(PROMISES), what="checks", unit="check")
    rows = [[PASSED[cell] if i == 1 else cell for i, cell in enumerate(astuple(one))] for one in bar]
    failed = sum(row[1] == PASSED[False] for row in rows)
    cli.show(to_markdown(list(HEADERS), rows))
    cli.show(f"{failed} of {len(rows)} checks failed." if failed else "Every check that applies is passed.")
    return cli.FAILED if failed else cli.COMPLETE


def tell_list(arguments: Namespace) -> int:
    """The tasks, and whether their data are here."""
    known = chosen(arguments.tasks) if arguments.tasks else list(tasks().values())
    rows = []
    for task in known:
        there = status(task, arguments.data_root)
        size = "–" if not there.size else f"{there.size / 1e6:,.0f} MB"
        tracks = "linear, kNN" if task.knn else "linear"
        rows.append([task.name, task.formal_name, task.domain, task.type, task.metric, tracks, there.state, size])
    headers = [
        "task",
        "name",
        "domain",
        "type",
        "metric",
        "tracks",
        f"data in {shown_path(arguments.data_root)}",
        "size",
    ]
    cli.show(to_markdown(headers, rows))
    return cli.COMPLETE


def tell_download(arguments: Namespace) -> int:
    """Every task that is asked for; one that fails does not stop the others. Of `all`, those that have a record.

    EarmarkError with what failed, at the end.
    """
    failed: list[str] = []
    for task in chosen(arguments.tasks):
        if "all" in arguments.tasks and task.name not in arguments.tasks and not task.zenodo:
            cli.show(f"{task.name}: left out; it has no public record")
            continue
        try:
            total = sum(file.size or 0 for file in record_files(task, arguments.zenodo))
            with cli.bytes_bar(arguments, total=total, what=task.name) as bar:

                def advance(_: RemoteFile, n: int) -> None:
                    bar.update(n)

                made = download_task(task, arguments.data_root, base=arguments.zenodo, on_bytes=advance)
            cli.show(f"{task.name}: {len(made):,} files in {shown_path(arguments.data_root / task.name)}/")
        except EarmarkError as error:
            failed.append(f"{task.name}: {str(error).removeprefix(f'{task.name}: ')}")
    if failed:
        raise EarmarkError("\n".join(failed))
    return cli.COMPLETE
