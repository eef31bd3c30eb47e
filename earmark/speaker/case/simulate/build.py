"""A speaker verification benchmark shaped like CASE, made from clean speech by real codecs, microphones and rooms.

CASE publishes the names of its conditions and no generator. What is made here are self-made carriers: figures from
them are not official CASE figures. Facts: which condition is what in ../case.toml, all curves in simulation.toml.
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
from earmark.speaker.case import conditions as case
from earmark.speaker.case.conditions import CLEAN, Condition, conditions
from earmark.speaker.case.simulate.clean_speech import (
    TRIALS,
    LeftOut,
    Pairs,
    Source,
    clean_speech,
    faulty,
    not_by_suffix,
    told_of_left_out,
    trial_pairs,
)
from earmark.speaker.case.simulate.codecs import (
    RATE,
    FloatArray,
    codecs,
    pass_codec,
    pass_response,
    responses,
    simulation_parameters,
)
from earmark.speaker.case.simulate.noise_and_rooms import Recordings, add_noise, find_recordings, pass_room
from earmark.workers import exit_with_parent

SHORTEST = 0.1  # seconds: five frames, the least in which a level means anything
SILENT = 1e-3  # peak: −60 dB
LOUDEST = 0.99  # peak after scaling what would clip
MEASURES = ("codec", "loudspeaker", "room", "rt60_s", "distance_m", "microphone", "noise", "snr_db", "gain_db")
REMEDY = (
    "Speech must be audible, at least 0.1 s long and recorded at 16 kHz or more. What was made of the rest is kept; "
    "--allow-missing leaves the unusable out."
)
LEFT_OUT = "left_out.csv"

Row = dict[str, str]


def degrade(
    waveform: FloatArray,
    condition: Condition,
    rng: np.random.Generator,
    noises: Recordings | None = None,
    rooms: Recordings | None = None,
) -> tuple[FloatArray, Row]:
    """Clean speech under a condition, aligned to the sample with the input and of its length.

    waveform: (n,) 16 kHz mono float32. noises, rooms: recordings instead of the built-in ones.
    Returns (n,) float32 within [−1, 1] (scaled down where it would clip) and one text for each of MEASURES, empty
    where it does not apply; gain_db is that scaling. ValueError for a waveform that is not speech, see REMEDY.

    >>> tone, rng = np.sin(np.arange(16000, dtype=np.float32)), np.random.default_rng(0)
    >>> degraded, what = degrade(tone, conditions()["clean_codec_alaw"], rng)
    >>> degraded.shape, what["codec"]
    ((16000,), 'alaw')
    """
    if reason := _unusable(waveform):
        raise ValueError(reason)
    what = dict.fromkeys(MEASURES, "")
    degraded = waveform
    if condition.codec:
        degraded, what["codec"] = pass_codec(degraded, codecs()[condition.codec]), condition.codec
    if condition.loudspeaker:
        degraded = pass_response(degraded, responses("loudspeakers")[condition.loudspeaker])
        what["loudspeaker"] = condition.loudspeaker
    if condition.room:
        degraded, room = pass_room(degraded, rng, rooms)
        what |= room
    if condition.microphone:
        degraded = pass_response(degraded, responses("microphones")[condition.microphone])
        what["microphone"] = condition.microphone
    if condition.snr is not None:
        degraded, what["noise"] = add_noise(degraded, condition.snr, rng, noises)
        what["snr_db"] = f"{condition.snr:g}"
    peak = float(np.abs(degraded).max())
    gain = LOUDEST / peak if peak > 1 else 1.0
    what["gain_db"] = f"{20 * np.log10(gain):.4f}"
    return (degraded * np.float32(gain)).astype(np.float32), what


def _unusable(waveform: FloatArray) -> str | None:
    """Why these samples cannot be degraded."""
    if waveform.ndim != 1:
        return f"has shape {waveform.shape}, not (samples,)"
    if len(waveform) < SHORTEST * RATE:
        return f"is {1000 * len(waveform) / RATE:.0f} ms long"
    if not np.isfinite(waveform).all():
        return "holds samples that are not finite"
    return "is silent" if np.abs(waveform).max() < SILENT else None


# --- the benchmark on disk ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """A file of the benchmark: its row of the manifest, and whether it was made now or found finished."""

    row: Row
    fresh: bool


@dataclass(frozen=True)
class BuildSpec:
    """All that the bytes of a file depend on, apart from its source."""

    output: Path
    seed: int
    conditions: tuple[Condition, ...]
    noises: Recordings | None
    rooms: Recordings | None

    def make(self, source: Source) -> list[Made] | str:
        """The source under every condition, on disk; or why it is unusable."""
        try:
            content = hashlib.sha256(source.path.read_bytes()).hexdigest()
            marks = {condition: self._mark(source, content, condition) for condition in self.conditions}
            finished = {condition: self._finished(source, condition, mark) for condition, mark in marks.items()}
            if all(finished.values()):
                return [Made(row, False) for row in finished.values() if row]
            waveform, rate = _read_clean(source.path)
        except (AudioError, OSError) as error:
            return f"{source.given}: {str(error).removeprefix(f'{source.path.name}: ')}"
        origin = {
            "speaker": source.speaker,
            "gender": source.gender,
            "source": source.recorded,
            "source_sha256": content,
        }
        origin |= {"source_rate": str(rate), "seconds": f"{len(waveform) / RATE:.4f}"}
        made = []
        for condition, mark in marks.items():
            row = finished[condition]
            if row is None:
                rng = np.random.default_rng(seed_of(self.seed, condition.name, source.name))
                degraded, what = degrade(waveform, condition, rng, self.noises, self.rooms)
                path = audio_path(condition.name, source.name)
                row = {"path": path, "protocol": condition.name, "category": condition.category, **origin, **what}
                write_together({self.output / path: _wav(degraded, {"made": mark, "row": row})})
                made.append(Made(row, True))
            else:
                made.append(Made(row, False))
        return made

    def _mark(self, source: Source, content: str, condition: Condition) -> str:
        """A digest of everything that decides the bytes; a finished file is one that carries it."""
        recorded = [self.noises if condition.snr is not None else None, self.rooms if condition.room else None]
        versions = [soundfile.__libsndfile_version__, soxr.__version__, np.__version__, scipy.__version__]
        given = [source.recorded, source.speaker, source.gender, content]
        fingerprints = [each and each.fingerprint for each in recorded]
        tables = {**simulation_parameters(), "protocols": case.case_definition()["protocols"]}
        everything = [self.seed, asdict(condition), tables, given, fingerprints, versions]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:32]

    def _finished(self, source: Source, condition: Condition, mark: str) -> Row | None:
        try:
            with soundfile.SoundFile(self.output / audio_path(condition.name, source.name)) as file:
                written = json.loads(file.comment)
        except (OSError, soundfile.LibsndfileError, json.JSONDecodeError):
            return None
        return written["row"] if isinstance(written, dict) and written.get("made") == mark else None


@dataclass(frozen=True)
class Building:
    """A benchmark about to be built: `len` files, each yielded when it is finished; trials and manifest come last.

    trials_per_protocol: target and non-target. allow_missing: leave sources that are unusable out. not_by_suffix: files
    that are left out by their name. left_out, used: filled when all is built.
    """

    clean: Path
    spec: BuildSpec
    sources: tuple[Source, ...]
    pairs: tuple[Pairs, Pairs]
    processes: int
    trials_per_protocol: tuple[int, int] = TRIALS
    allow_missing: bool = False
    not_by_suffix: tuple[LeftOut, ...] = ()
    left_out: list[LeftOut] = field(default_factory=list)
    used: list[Source] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sources) * len(self.spec.conditions)

    def __iter__(self) -> Iterator[Made]:
        rows, faults = [], []
        for source, outcome in zip(self.sources, self._outcomes(), strict=True):
            if isinstance(outcome, str):
                faults.append((source, outcome))
                continue
            rows += [made.row for made in outcome]
            yield from outcome
        if faults and not self.allow_missing:
            raise faulty(self.clean, faults, REMEDY)
        unusable = dict(faults)
        self.used[:] = [source for source in self.sources if source not in unusable]
        self.left_out[:] = [*self.not_by_suffix, *(_left_out(source, text) for source, text in faults)]
        pairs = self.pairs
        if faults:
            pairs = drawn_pairs(self.used, self.spec.seed, self.trials_per_protocol, self.left_out)
        output, conditions = self.spec.output, self.spec.conditions
        lists = {
            output / "trials" / f"{condition.name}.txt": _trials(condition, self.used, pairs)
            for condition in conditions
        }
        left_out = {output / LEFT_OUT: _table_of_left_out(self.left_out, self.used) if self.left_out else None}
        write_together({**lists, **left_out, output / "manifest.csv": _table(rows, conditions)})

    def _outcomes(self) -> Iterator[list[Made] | str]:
        if self.processes == 1:
            yield from map(self.spec.make, self.sources)
            return
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.processes, spawn, initializer=exit_with_parent)
        try:
            yield from pool.map(partial(BuildSpec.make, self.spec), self.sources)
        except BrokenProcessPool as error:
            raise EarmarkError(
                "A worker was killed, perhaps for memory. What was finished is kept; continue with fewer processes."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def drawn_pairs(
    sources: Sequence[Source], seed: int, wanted: tuple[int, int], left_out: Sequence[LeftOut]
) -> tuple[Pairs, Pairs]:
    """Target and non-target pairs of these sources, the same ones for the same seed.

    EarmarkError where there are none, with what is left out and might have given some.
    """
    try:
        return trial_pairs(sources, np.random.default_rng(seed_of(seed, "trials", "")), wanted)
    except EarmarkError as error:
        raise EarmarkError(
            "\n".join([str(error), *([told_of_left_out(left_out, sources)] * bool(left_out))])
        ) from error


def _trials(condition: Condition, sources: Sequence[Source], both: tuple[Pairs, Pairs]) -> str:
    names = [source.name for source in sources]
    lines = [
        f"{label} {audio_path(CLEAN, names[enrol])} {audio_path(condition.name, names[test])}\n"
        for label, pairs in zip((1, 0), both, strict=True)
        for enrol, test in pairs.tolist()
    ]
    return "".join(lines)


def build(
    clean: Path,
    output: Path,
    *,
    seed: int,
    protocols: Sequence[str] = (),
    processes: int = 1,
    noises: Path | None = None,
    rooms: Path | None = None,
    trials_per_protocol: tuple[int, int] = TRIALS,
    allow_missing: bool = False,
) -> Building:
    """A benchmark from clean speech; iterate over what is returned to make it.

    clean: a folder `spk/…/file` or a CSV, see `clean_speech`. protocols: names, all if none; clean_clean is always
    made, since every trial enrols on it. noises, rooms: folders of recordings, instead of the built-in ones.
    trials_per_protocol: target and non-target, fewer where the data have fewer; the same pairs in every protocol.
    allow_missing: leave speech that is unusable out, instead of an error at the end.

    Writes audio/<protocol>/spk/…/x.wav (16 kHz mono PCM 16), trials/<protocol>.txt (`label enrol test`, relative to
    output), manifest.csv, and left_out.csv where files are left out: no audio by their suffix, or unusable. Each file
    appears whole, holds its own row in its WAV comment, and is not made again while its source, the seed, the
    recordings and the libraries stay the same. The same seed, the same bytes, whatever the number of processes. Raises
    DataError or EarmarkError with all that is wrong: what the lists say here, what the audio says after the last file,
    and then without trials and manifest.
    """
    if clean.is_dir() and output.resolve().is_relative_to(clean.resolve()):
        raise EarmarkError(f"{shown_path(output)}: lies inside the clean speech. Choose another output folder.")
    sources = clean_speech(clean)
    others = (*not_by_suffix(clean), *(one for folder in (noises, rooms) for one in not_by_suffix(folder, owned=False)))
    pairs = drawn_pairs(sources, seed, trials_per_protocol, others)
    recorded = [None if folder is None else find_recordings(folder) for folder in (noises, rooms)]
    spec = BuildSpec(output, seed, _chosen(protocols), *recorded)
    return Building(clean, spec, tuple(sources), pairs, processes, trials_per_protocol, allow_missing, others)


def _chosen(names: Sequence[str]) -> tuple[Condition, ...]:
    known = conditions()
    if unknown := [name for name in names if name not in known]:
        raise EarmarkError(f"{', '.join(unknown)}: not a protocol. Known: {', '.join(known)}.")
    return tuple(known[name] for name in known if not names or name in names or name == CLEAN)


def seed_of(seed: int, protocol: str, name: str) -> int:
    """The seed of one file, which depends on nothing but these three."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{protocol}\n{name}".encode()).digest()[:16])


def audio_path(protocol: str, name: str) -> str:
    """Where a file of a protocol lies below the benchmark's folder."""
    return f"audio/{protocol}/{name}"


def _read_clean(path: Path) -> tuple[FloatArray, int]:
    """The clean speech at 16 kHz and the rate it had; AudioError where it is no use."""
    waveform, rate = read_audio_and_native_rate(path, RATE)
    reason = f"is {rate} Hz: the band above {rate // 2} Hz is lost already" if rate < RATE else _unusable(waveform)
    if reason:
        raise AudioError(f"{path.name}: {reason}")
    return waveform, rate


def _left_out(source: Source, text: str) -> LeftOut:
    """text: as `BuildSpec.make` gives it, with the path before it."""
    return LeftOut(source.recorded, source.speaker, text.removeprefix(f"{source.given}: "))


def _table_of_left_out(left_out: Sequence[LeftOut], used: Sequence[Source]) -> str:
    """A row for each file; files_used is 0 where the speaker is left out with it."""
    files = Counter(source.speaker for source in used)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "speaker", "reason", "files_used"])
    writer.writerows([one.given, one.speaker, one.reason, files[one.speaker]] for one in left_out)
    return text.getvalue()


def _wav(waveform: FloatArray, comment: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", RATE, 1, "PCM_16", format="WAV") as file:
        file.comment = json.dumps(comment)
        file.write(np.clip(np.rint(waveform * 32768), -32768, 32767).astype(np.int16))
    return buffer.getvalue()


def _table(rows: Sequence[Row], order: Sequence[Condition]) -> str:
    place = {condition.name: number for number, condition in enumerate(order)}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: (place[row["protocol"]], row["path"])))
    return text.getvalue()
