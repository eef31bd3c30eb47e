"""What a run of `probe.py` would do: tasks with their sizes, what is cached, and the order."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from earmark.audio.clips import TarMember
from earmark.embeddings.cache import EmbeddingCache
from earmark.errors import EarmarkError, shown_path
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.probing.layouts import LocatedTask
from earmark.probing.options import ProbeSettings, RunOptions
from earmark.probing.outcome import stored_outcome
from earmark.probing.reading import read_task_data
from earmark.probing.schema import SkippedTask
from earmark.probing.task_types import task_type
from earmark.report.tables import to_markdown

COLUMNS = ("order", "task", "clips", "size", "embeddings stored", "scores")


def task_size(located: LocatedTask) -> tuple[int, int]:
    """Size of a task, for the order in which parallel workers take tasks.

    Parameters
    ----------
    located : LocatedTask
        The task and its files.

    Returns
    -------
    tuple of (int, int)
        Bytes of its tar files or clips (0 if they are not there, as with precomputed embeddings); rows of the manifest.
    """
    if located.manifest is None:
        return located.size or 0, 0
    total, rows = 0, 0
    for _, row in located.table.records():
        rows += 1
        with contextlib.suppress(OSError):
            total += (located.manifest.parent / row.get("path", "")).stat().st_size
    return total, rows


def planned_run(
    located: Sequence[LocatedTask],
    skipped: Sequence[SkippedTask],
    keys: dict[str, str],
    settings: ProbeSettings,
    encoder: Encoder | PrecomputedEmbeddings,
    folder: Path,
    options: RunOptions,
) -> str:
    """Describe a run without doing it.

    Parameters
    ----------
    located : sequence of LocatedTask
        The tasks.
    skipped : sequence of SkippedTask
        Tasks that will not be run.
    keys : dict
        {task: key of its outcome}; tasks without data have none.
    settings : ProbeSettings
        Settings of the run.
    encoder : Encoder or PrecomputedEmbeddings
        Source of the embeddings.
    folder : Path
        Result folder of the encoder.
    options : RunOptions
        Workers and cache.

    Returns
    -------
    str
        A table in the order of the run: with several workers the largest task first, otherwise as given.
    """
    sizes = {each.task.name: task_size(each) for each in located}
    ordered = list(located)
    if options.workers > 1:
        ordered.sort(key=lambda each: sizes[each.task.name], reverse=True)
    rows, number = [], 0
    for each in ordered:
        name = each.task.name
        state = _state(each, keys.get(name), folder)
        pending = state not in ("finished", "no data")
        number += pending
        clips, stored = _clips(each, settings, encoder, options) if each.present else ("–", "–")
        size = f"{sizes[name][0] / 1e6:,.1f} MB" if sizes[name][0] else "–"
        rows.append([str(number) if pending else "–", name, clips, size, stored, state])
    kind = "in parallel, the largest first" if options.workers > 1 else "one after the other"
    lines = [f"{encoder.name}: results in {shown_path(folder)}/. Tasks to run: {number}, {kind}. Nothing was run.", ""]
    lines += [to_markdown(list(COLUMNS), rows), *(f"Skipped: {each.task} ({each.reason})." for each in skipped)]
    return "\n".join(lines)


def _state(located: LocatedTask, key: str | None, folder: Path) -> str:
    if key is None:
        return "no data"
    stored = stored_outcome(folder, located.task.name, key)
    if stored is None:
        return "to run"
    return "finished" if stored.is_final else "to continue"


def _clips(
    located: LocatedTask, settings: ProbeSettings, encoder: Encoder | PrecomputedEmbeddings, options: RunOptions
) -> tuple[str, str]:
    """Number of clips, and of those whose embeddings are in the cache."""
    try:
        data = read_task_data(located, require_audio=False)
    except EarmarkError as error:
        return f"faulty data: {str(error).splitlines()[0]}", "–"
    clips = list(dict.fromkeys(data.clips))
    if isinstance(encoder, PrecomputedEmbeddings):
        return f"{len(clips):,}", "precomputed"
    request = task_type(located.task).embedding_request(layers=settings.layers is not None)
    present = [clip for clip in clips if isinstance(clip, TarMember) or clip.is_file()]
    stored = EmbeddingCache(options.model.embedding_cache).count(encoder, present, request=request)
    return f"{len(clips):,}", f"{stored:,}"
