"""Simulate the CASE conditions on clean speech and write the result as a benchmark in CASE's layout.

CASE publishes the names of its conditions but no generator, so results on simulated conditions are not official CASE
results. ../case.toml defines the conditions, simulation.toml the codecs, response curves and rooms.
"""

import csv
import hashlib
import io
import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import soundfile
import soxr

from earmark.audio.decode import AudioError, read_audio_and_native_rate
from earmark.errors import EarmarkError, shown_path
from earmark.files.atomic import write_together
from earmark.speaker.case.conditions import CLEAN, Condition, case_definition, conditions
from earmark.speaker.case.simulate.clean_speech import (
    TRIALS,
    ExcludedFile,
    Pairs,
    Source,
    clean_speech,
    describe_excluded,
    find_non_audio,
    sample_trial_pairs,
    source_error,
)
from earmark.speaker.case.simulate.codecs import (
    SAMPLE_RATE,
    FloatArray,
    apply_codec,
    apply_response,
    codecs,
    response_curves,
    simulation_parameters,
)
from earmark.speaker.case.simulate.noise_and_rooms import Recordings, add_noise, apply_room, find_recordings
from earmark.workers import exit_with_parent

MIN_SECONDS = 0.1  # five frames, the minimum for a meaningful level
MIN_PEAK = 1e-3  # −60 dB; below this, audio is silent
MAX_PEAK = 0.99  # peak of a waveform that was scaled down because it would clip
PROCESSING_COLUMNS = (
    "codec",
    "loudspeaker",
    "room",
    "rt60_s",
    "distance_m",
    "microphone",
    "noise",
    "snr_db",
    "gain_db",
)
REMEDY = (
    "Speech must be audible, at least 0.1 s long and sampled at 16 kHz or more. Finished files are kept. Replace or "
    "remove the unusable files, or exclude them with --allow-missing."
)
EXCLUDED_FILE = "left_out.csv"

ManifestRow = dict[str, str]


def degrade(
    waveform: FloatArray,
    condition: Condition,
    rng: np.random.Generator,
    noises: Recordings | None = None,
    rooms: Recordings | None = None,
) -> tuple[FloatArray, ManifestRow]:
    """Simulate a condition on clean speech.

    Parameters
    ----------
    waveform : (n,) float32
        16 kHz mono.
    condition : Condition
    rng : Generator
    noises, rooms : Recordings or None
        Recordings of noise and impulse responses; None for synthetic ones.

    Returns
    -------
    degraded : (n,) float32
        Aligned to the sample with the input; scaled down if it would exceed [−1, 1].
    row : dict
        A text for each of `PROCESSING_COLUMNS`, empty if the step does not apply; `gain_db` is the scaling.

    Raises
    ------
    ValueError
        If the waveform is not (n,), shorter than 0.1 s, silent, or not finite.
    EarmarkError
        If no segment of the noise recordings is audible, see `add_noise`.

    Examples
    --------
    >>> tone, rng = np.sin(np.arange(16000, dtype=np.float32)), np.random.default_rng(0)
    >>> degraded, row = degrade(tone, conditions()["clean_codec_alaw"], rng)
    >>> degraded.shape, row["codec"]
    ((16000,), 'alaw')
    """
    if reason := _unusable(waveform):
        raise ValueError(reason)
    row = dict.fromkeys(PROCESSING_COLUMNS, "")
    degraded = waveform
    if condition.codec:
        degraded, row["codec"] = apply_codec(degraded, codecs()[condition.codec]), condition.codec
    if condition.loudspeaker:
        degraded = apply_response(degraded, response_curves("loudspeakers")[condition.loudspeaker])
        row["loudspeaker"] = condition.loudspeaker
    if condition.room:
        degraded, room = apply_room(degraded, rng, rooms)
        row |= room
    if condition.microphone:
        degraded = apply_response(degraded, response_curves("microphones")[condition.microphone])
        row["microphone"] = condition.microphone
    if condition.snr is not None:
        degraded, row["noise"] = add_noise(degraded, condition.snr, rng, noises)
        row["snr_db"] = f"{condition.snr:g}"
    peak = float(np.abs(degraded).max())
    gain = MAX_PEAK / peak if peak > 1 else 1.0
    row["gain_db"] = f"{20 * np.log10(gain):.4f}"
    return (degraded * np.float32(gain)).astype(np.float32), row


def _unusable(waveform: FloatArray) -> str | None:
    """The reason why a waveform cannot be processed, or None."""
    if waveform.ndim != 1:
        return f"has shape {waveform.shape}, expected (samples,)"
    if len(waveform) < MIN_SECONDS * SAMPLE_RATE:
        return f"is {1000 * len(waveform) / SAMPLE_RATE:.0f} ms long (minimum {1000 * MIN_SECONDS:.0f} ms)"
    if not np.isfinite(waveform).all():
        return "contains samples that are not finite"
    return "is silent" if np.abs(waveform).max() < MIN_PEAK else None


# --- the benchmark on disk ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SimulatedFile:
    """A file of the benchmark.

    Attributes
    ----------
    row : dict
        Row of manifest.csv.
    is_new : bool
        True if the file was written now, False if it was already finished.
    """

    row: ManifestRow
    is_new: bool


@dataclass(frozen=True)
class BuildSpec:
    """Settings that determine the content of the simulated files.

    Attributes
    ----------
    output : Path
        Folder of the benchmark.
    seed : int
    conditions : tuple of Condition
    noises, rooms : Recordings or None
        None for synthetic noise and rooms.
    """

    output: Path
    seed: int
    conditions: tuple[Condition, ...]
    noises: Recordings | None
    rooms: Recordings | None

    def simulate(self, source: Source) -> list[SimulatedFile] | str:
        """Write a source under all conditions; return the reason if it is unusable."""
        try:
            content_hash = hashlib.sha256(source.path.read_bytes()).hexdigest()
            fingerprints = {
                condition: self._fingerprint(source, content_hash, condition) for condition in self.conditions
            }
            finished = {
                condition: self._finished_row(source, condition, fingerprint)
                for condition, fingerprint in fingerprints.items()
            }
            if all(finished.values()):
                return [SimulatedFile(row, False) for row in finished.values() if row]
            waveform, rate = _read_clean(source.path)
        except (AudioError, OSError) as error:
            return f"{source.listed_path}: {str(error).removeprefix(f'{source.path.name}: ')}"
        origin = {
            "speaker": source.speaker,
            "gender": source.gender,
            "source": source.manifest_path,
            "source_sha256": content_hash,
        }
        origin |= {"source_rate": str(rate), "seconds": f"{len(waveform) / SAMPLE_RATE:.4f}"}
        simulated = []
        for condition, fingerprint in fingerprints.items():
            row = finished[condition]
            if row is None:
                rng = np.random.default_rng(file_seed(self.seed, condition.name, source.name))
                degraded, processing = degrade(waveform, condition, rng, self.noises, self.rooms)
                path = audio_path(condition.name, source.name)
                row = {"path": path, "protocol": condition.name, "category": condition.category, **origin, **processing}
                write_together({self.output / path: _wav(degraded, {"made": fingerprint, "row": row})})
                simulated.append(SimulatedFile(row, True))
            else:
                simulated.append(SimulatedFile(row, False))
        return simulated

    def _fingerprint(self, source: Source, content_hash: str, condition: Condition) -> str:
        """Hash of everything that determines the content of a simulated file."""
        used = [self.noises if condition.snr is not None else None, self.rooms if condition.room else None]
        versions = [soundfile.__libsndfile_version__, soxr.__version__, np.__version__, scipy.__version__]
        source_facts = [source.manifest_path, source.speaker, source.gender, content_hash]
        recordings = [recording and recording.fingerprint for recording in used]
        tables = {**simulation_parameters(), "protocols": case_definition()["protocols"]}
        everything = [self.seed, asdict(condition), tables, source_facts, recordings, versions]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:32]

    def _finished_row(self, source: Source, condition: Condition, fingerprint: str) -> ManifestRow | None:
        """The manifest row in the WAV comment of a finished file; None if the file must be simulated (again)."""
        try:
            with soundfile.SoundFile(self.output / audio_path(condition.name, source.name)) as file:
                comment = json.loads(file.comment)
        except (OSError, soundfile.LibsndfileError, json.JSONDecodeError):
            return None
        return comment["row"] if isinstance(comment, dict) and comment.get("made") == fingerprint else None


@dataclass(frozen=True)
class BenchmarkBuild:
    """A benchmark to simulate. Iterating writes the files one by one, and the trial lists and manifest at the end.

    The length is the number of simulated files if no source is excluded.

    Attributes
    ----------
    clean : Path
        Folder or CSV of clean speech.
    spec : BuildSpec
    sources : tuple of Source
    pairs : (Pairs, Pairs)
        Target and non-target pairs of `sources`.
    workers : int
        Number of processes.
    trials_per_condition : (int, int)
        Requested number of target and non-target trials.
    allow_missing : bool
        Whether unusable sources are excluded; otherwise they raise an error at the end.
    not_audio : tuple of ExcludedFile
        Files that are excluded because of their suffix.
    excluded : list of ExcludedFile
        All excluded files, those of `not_audio` first; filled at the end of the iteration.
    used : list of Source
        Sources that are not excluded; filled at the end of the iteration.
    """

    clean: Path
    spec: BuildSpec
    sources: tuple[Source, ...]
    pairs: tuple[Pairs, Pairs]
    workers: int
    trials_per_condition: tuple[int, int] = TRIALS
    allow_missing: bool = False
    not_audio: tuple[ExcludedFile, ...] = ()
    excluded: list[ExcludedFile] = field(default_factory=list)
    used: list[Source] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sources) * len(self.spec.conditions)

    def __iter__(self) -> Iterator[SimulatedFile]:
        rows, faults = [], []
        for source, result in zip(self.sources, self._simulate_all(), strict=True):
            if isinstance(result, str):
                faults.append((source, result))
                continue
            rows += [file.row for file in result]
            yield from result
        if faults and not self.allow_missing:
            raise source_error(self.clean, faults, REMEDY)
        unusable = dict(faults)
        self.used[:] = [source for source in self.sources if source not in unusable]
        self.excluded[:] = [*self.not_audio, *(_excluded_file(source, text) for source, text in faults)]
        pairs = self.pairs
        if faults:
            pairs = sample_pairs(self.used, self.spec.seed, self.trials_per_condition, self.excluded)
        output, conditions = self.spec.output, self.spec.conditions
        lists = {
            output / "trials" / f"{condition.name}.txt": _trial_list(condition, self.used, pairs)
            for condition in conditions
        }
        excluded = {output / EXCLUDED_FILE: _excluded_csv(self.excluded, self.used) if self.excluded else None}
        write_together({**lists, **excluded, output / "manifest.csv": _manifest_csv(rows, conditions)})

    def _simulate_all(self) -> Iterator[list[SimulatedFile] | str]:
        if self.workers == 1:
            yield from map(self.spec.simulate, self.sources)
            return
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.workers, spawn, initializer=exit_with_parent)
        try:
            yield from pool.map(partial(BuildSpec.simulate, self.spec), self.sources)
        except BrokenProcessPool as error:
            raise EarmarkError(
                "A worker process was killed, possibly because memory ran out. Finished files are kept: run the "
                "command again with fewer --workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def sample_pairs(
    sources: Sequence[Source], seed: int, n_trials: tuple[int, int], excluded: Sequence[ExcludedFile]
) -> tuple[Pairs, Pairs]:
    """Sample the target and non-target pairs of a seed.

    See `sample_trial_pairs`; the message of its EarmarkError is extended by the excluded files.
    """
    try:
        return sample_trial_pairs(sources, np.random.default_rng(file_seed(seed, "trials", "")), n_trials)
    except EarmarkError as error:
        description = [describe_excluded(excluded, sources)] if excluded else []
        raise EarmarkError("\n".join([str(error), *description])) from error


def _trial_list(condition: Condition, sources: Sequence[Source], pairs: tuple[Pairs, Pairs]) -> str:
    names = [source.name for source in sources]
    lines = [
        f"{label} {audio_path(CLEAN, names[enrol])} {audio_path(condition.name, names[test])}\n"
        for label, labelled_pairs in zip((1, 0), pairs, strict=True)
        for enrol, test in labelled_pairs.tolist()
    ]
    return "".join(lines)


def prepare_build(
    clean: Path,
    output: Path,
    *,
    seed: int,
    selected: Sequence[str] = (),
    workers: int = 1,
    noises: Path | None = None,
    rooms: Path | None = None,
    trials_per_condition: tuple[int, int] = TRIALS,
    allow_missing: bool = False,
) -> BenchmarkBuild:
    """Prepare the simulation of a benchmark; iterate over the result to run it.

    The output has the layout of CASE: audio/<condition>/spk/…/x.wav (16 kHz mono PCM 16), trials/<condition>.txt
    (`label enrol test`, paths relative to `output`), manifest.csv, and left_out.csv if files are excluded.

    Parameters
    ----------
    clean : Path
        Folder or CSV of clean speech, see `clean_speech`.
    output : Path
    seed : int
    selected : sequence of str
        Conditions; all 24 if empty. clean_clean is always included, because all trials enrol on it.
    workers : int
        Number of processes; does not affect the output.
    noises, rooms : Path or None
        Folders with recordings of noise and impulse responses; None for synthetic ones.
    trials_per_condition : (int, int)
        Number of target and non-target trials, or all possible trials if there are fewer. All conditions use the same
        pairs of files.
    allow_missing : bool
        Exclude unusable speech; otherwise it raises an error at the end, and no trial lists and manifest are written.

    Returns
    -------
    BenchmarkBuild

    Raises
    ------
    DataError, EarmarkError
        With all faults of the list of files. Faults of the audio are raised at the end of the iteration.

    Notes
    -----
    Each WAV file is written atomically and stores its manifest row in its comment. It is not simulated again as long
    as the source, the seed, the recordings and the library versions are the same.
    """
    if clean.is_dir() and output.resolve().is_relative_to(clean.resolve()):
        raise EarmarkError(f"{shown_path(output)} is inside the folder of clean speech. Choose another output folder.")
    sources = clean_speech(clean)
    not_audio = (
        *find_non_audio(clean),
        *(file for folder in (noises, rooms) for file in find_non_audio(folder, by_speaker=False)),
    )
    pairs = sample_pairs(sources, seed, trials_per_condition, not_audio)
    recordings = [None if folder is None else find_recordings(folder) for folder in (noises, rooms)]
    spec = BuildSpec(output, seed, _select_conditions(selected), *recordings)
    return BenchmarkBuild(clean, spec, tuple(sources), pairs, workers, trials_per_condition, allow_missing, not_audio)


def _select_conditions(names: Sequence[str]) -> tuple[Condition, ...]:
    known = conditions()
    if unknown := [name for name in names if name not in known]:
        raise EarmarkError(f"{', '.join(unknown)}: unknown condition. Known: {', '.join(known)}.")
    return tuple(known[name] for name in known if not names or name in names or name == CLEAN)


def file_seed(seed: int, condition: str, name: str) -> int:
    """Derive the random seed of a file from the global seed, the condition and the file name."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{condition}\n{name}".encode()).digest()[:16])


def audio_path(condition: str, name: str) -> str:
    """The path of a simulated file relative to the benchmark folder."""
    return f"audio/{condition}/{name}"


def _read_clean(path: Path) -> tuple[FloatArray, int]:
    """Read clean speech at 16 kHz; returns the waveform and its original sample rate."""
    waveform, rate = read_audio_and_native_rate(path, SAMPLE_RATE)
    reason = f"is sampled at {rate} Hz (minimum {SAMPLE_RATE} Hz)" if rate < SAMPLE_RATE else _unusable(waveform)
    if reason:
        raise AudioError(f"{path.name}: {reason}")
    return waveform, rate


def _excluded_file(source: Source, text: str) -> ExcludedFile:
    """text: the result of `BuildSpec.simulate`, which starts with the path."""
    return ExcludedFile(source.manifest_path, source.speaker, text.removeprefix(f"{source.listed_path}: "))


def _excluded_csv(excluded: Sequence[ExcludedFile], used: Sequence[Source]) -> str:
    """left_out.csv; files_used is the number of used files of the same speaker."""
    n_used = Counter(source.speaker for source in used)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "speaker", "reason", "files_used"])
    writer.writerows([file.path, file.speaker, file.reason, n_used[file.speaker]] for file in excluded)
    return text.getvalue()


def _wav(waveform: FloatArray, comment: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", SAMPLE_RATE, 1, "PCM_16", format="WAV") as file:
        file.comment = json.dumps(comment)
        file.write(np.clip(np.rint(waveform * 32768), -32768, 32767).astype(np.int16))
    return buffer.getvalue()


def _manifest_csv(rows: Sequence[ManifestRow], conditions: Sequence[Condition]) -> str:
    order = {condition.name: number for number, condition in enumerate(conditions)}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: (order[row["protocol"]], row["path"])))
    return text.getvalue()
