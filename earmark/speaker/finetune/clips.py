"""Waveforms of training clips: a check of all files before training, and decoded waveforms in memory."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import AudioError
from earmark.audio.decode import read_nonsilent_audio
from earmark.errors import EarmarkError, shown_path
from earmark.files.atomic import write_together
from earmark.models.encoders.wespeaker.front_end import SAMPLE_RATE
from earmark.speaker.finetune.data import REMEDY, Utterance, grouped_faults

Array = NDArray[np.float32]
CHECK_FILE = "audio_check.json"
CACHE_BYTES = 1 << 30  # of decoded waveforms kept in memory
Track = Callable[[Iterable[Any], int], Iterable[Any]]


class Waveforms:
    """Decoded clips at 16 kHz; kept in memory up to `CACHE_BYTES`. Thread-safe."""

    def __init__(self) -> None:
        self._kept: dict[Path, Array] = {}
        self._bytes = 0

    def __call__(self, path: Path) -> Array:
        """Decode a clip, or return it from memory; AudioError if it is unusable."""
        waveform = self._kept.get(path)
        if waveform is None:
            waveform = read_nonsilent_audio(path, SAMPLE_RATE)
            if self._bytes + waveform.nbytes <= CACHE_BYTES:
                self._kept[path] = waveform
                self._bytes += waveform.nbytes
        return waveform


def fingerprint(utterances: Sequence[Utterance]) -> str:
    """Hash of names, speakers, and sizes and times of the files; changes if the training data change."""
    digest = hashlib.sha256()
    for each in utterances:
        stat = each.path.stat()
        digest.update(f"{each.name}\0{each.speaker}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def check_clips(
    utterances: Sequence[Utterance],
    source: Path,
    folder: Path,
    waveforms: Waveforms,
    *,
    allow_missing: bool,
    workers: int,
    track: Track,
) -> dict[str, int]:
    """Decode all clips once, so that no unusable clip stops the training.

    The result is stored in the output folder and used again for the same files.

    Parameters
    ----------
    utterances : sequence of Utterance
    source : Path
        The training list or folder, for messages.
    folder : Path
        Output folder.
    waveforms : Waveforms
    allow_missing : bool
        Whether to leave unusable clips out.
    workers : int
        Number of threads.
    track : callable
        Wraps the iterator over clips, given their number; for a progress bar.

    Returns
    -------
    dict
        {name: number of samples at 16 kHz} of the usable clips.

    Raises
    ------
    EarmarkError
        With all unusable clips (silent, not finite, damaged), unless they may be left out.
    """
    path, state = folder / CHECK_FILE, fingerprint(utterances)
    lengths = _stored(path, state)
    if lengths is None:
        lengths, faults = {}, []
        with ThreadPoolExecutor(workers) as pool:
            checked = pool.map(lambda each: _length(each, waveforms), utterances)
            for each, (length, fault) in zip(utterances, track(checked, len(utterances)), strict=True):
                if fault:
                    faults.append((each.name, fault))
                else:
                    lengths[each.name] = length
        if faults and not allow_missing:
            raise EarmarkError(f"{grouped_faults(shown_path(source), faults)}\n{REMEDY}")
        write_together({path: json.dumps({"files": state, "samples": lengths}, ensure_ascii=False) + "\n"})
    if len(lengths) < len(utterances) and not allow_missing:
        n = len(utterances) - len(lengths)
        raise EarmarkError(f"{shown_path(source)}: {n:,} clips are unusable. {REMEDY}")
    return lengths


def _length(utterance: Utterance, waveforms: Waveforms) -> tuple[int, str]:
    try:
        return len(waveforms(utterance.path)), ""
    except AudioError as error:
        return 0, str(error).removeprefix(f"{utterance.path.name}: ")


def _stored(path: Path, state: str) -> dict[str, int] | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {str(k): int(v) for k, v in stored["samples"].items()} if stored["files"] == state else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def ahead(tasks: Sequence[Any], work: Callable[[Any], Any], workers: int, depth: int) -> Iterator[Any]:
    """Results of a function in the order of the tasks, computed ahead by threads.

    Parameters
    ----------
    tasks : sequence
    work : callable
    workers : int
        Number of threads.
    depth : int
        Number of results computed ahead.
    """
    with ThreadPoolExecutor(workers) as pool:
        pending = [pool.submit(work, task) for task in tasks[:depth]]
        try:
            for number in range(len(tasks)):
                if number + depth < len(tasks):
                    pending.append(pool.submit(work, tasks[number + depth]))
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()
