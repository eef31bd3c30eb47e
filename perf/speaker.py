"""Time the speaker verification metrics at the sizes of the published benchmarks.

Reads   nothing; trials and scores are random
Prints  the times of
        - pandas.read_csv on the same file, as the least that reading it takes
        - `evaluate_speaker.py tidyvoice` on a score file of 12 million trials, the size of TidyVoice's development
          list, with the four kinds of trials by language, as a whole process, without and with intervals
        - the equal error rate, and numpy.sort on the same scores
        - 24 lists of 10,000 trials with intervals over speakers, and the whole `case` command on such lists
        perf/scale.py measures their memory
        - with --resemblyzer instead: the whole `case` command with Resemblyzer on the demo speech under the simulated
          conditions, the model alone on decoded audio, and a loop over the files

  uv run perf/speaker.py
  uv run perf/speaker.py --trials 1000000
  uv run --all-extras perf/speaker.py --resemblyzer
  uv run --all-extras perf/speaker.py --resemblyzer --conditions 4
"""

import resource
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if (own := str(Path(__file__).resolve().parent)) in sys.path:
    sys.path.remove(own)  # numba imports the package coverage, not perf/coverage.py

from earmark import cli
from earmark.metrics.detection import equal_error_rate, roc
from earmark.models.encoders.registry import load_encoder
from earmark.speaker.case.conditions import condition_names
from earmark.speaker.evaluation import evaluate
from earmark.speaker.trials import Trials, speakers_from_paths

ROOT = Path(__file__).resolve().parents[1]
SPEAKERS, UTTERANCES = 1000, 40
BATCH = 16  # clips, as in evaluate_speaker.py
LANGUAGES = ("de", "en", "es", "fr", "it")  # two of each speaker
ROUNDS = 3  # of measurements below a second; the first includes memory allocation


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument(
        "--trials",
        type=cli.positive_int,
        default=12_000_000,
        metavar="N",
        help="trials of the score file (default: 12 million)",
    )
    parser.add_argument("--resemblyzer", action="store_true", help="time Resemblyzer instead of the metrics")
    parser.add_argument(
        "--conditions",
        type=cli.positive_int,
        default=24,
        metavar="N",
        help="lists with intervals, and conditions of --resemblyzer (default: 24)",
    )
    parser.add_argument(
        "--case-trials",
        type=cli.positive_int,
        default=10_000,
        metavar="N",
        help="trials of each list with intervals and of each condition of `case` (default: 10,000)",
    )
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    if arguments.resemblyzer:
        return time_embedding(list(condition_names())[: arguments.conditions])
    return time_metrics(arguments, invocation)


def time_embedding(conditions: Sequence[str]) -> int:
    """Time the whole `case` command with Resemblyzer from WAV, the model alone, and a loop over files.

    The model alone embeds decoded audio in batches. The loop decodes and embeds one file after the other with
    Resemblyzer's own functions, as scripts around it do, and computes no metric.
    """
    import resemblyzer

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = [sys.executable, str(ROOT / "evaluate_speaker.py")]
        speech = str(ROOT / "dataset/speaker-demo")
        make = [*script, "simulate", speech, "--output-dir", f"{folder}/case", "--conditions", *conditions]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        files = sorted((folder / "case").rglob("*.wav"))
        evaluate_all = [
            *script,
            "case",
            f"{folder}/case",
            "--encoder",
            "resemblyzer",
            "--output-dir",
            f"{folder}/results",
        ]
        evaluate_all += ["--conditions", *conditions, "--embedding-cache", f"{folder}/cache", "--device", "cpu"]
        whole = Cost.of(lambda: subprocess.run(evaluate_all, check=True, stdout=subprocess.DEVNULL))
        again = Cost.of(lambda: subprocess.run(evaluate_all, check=True, stdout=subprocess.DEVNULL))
        encoder = load_encoder("resemblyzer", device="cpu")
        alone = Cost()
        for start in range(0, len(files), BATCH):
            waveforms = [soundfile.read(path, dtype="float32")[0] for path in files[start : start + BATCH]]
            alone += Cost.of(lambda clips=waveforms: encoder.embed(clips))
        voice = resemblyzer.VoiceEncoder("cpu", verbose=False)
        loop = Cost.of(lambda: [voice.embed_utterance(resemblyzer.preprocess_wav(path)) for path in files])
    cli.show(f"`case` with Resemblyzer, {len(conditions)} conditions, {len(files):,} WAV files: {whole}")
    cli.show(f"the model alone, in batches on decoded audio: {alone}; `case` takes {whole.ratio(alone)}")
    cli.show(f"a loop over the files, decoding and model: {loop}; `case` takes {whole.ratio(loop)}")
    cli.show(f"`case` again, from its embedding cache: {again}")
    return cli.COMPLETE


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time and of CPU time, child processes included."""

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def of(cls, function: Callable[[], object]) -> "Cost":
        """Run a function and return what it cost."""
        cpu = cpu_seconds()
        wall = seconds(function)
        return cls(wall, cpu_seconds() - cpu)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.wall + other.wall, self.cpu + other.cpu)

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.cpu:.1f} CPU seconds)"

    def ratio(self, other: "Cost") -> str:
        """This cost as a multiple of another."""
        return f"{self.wall / other.wall:.2f} times as long ({self.cpu / other.cpu:.2f} times the CPU time)"


def cpu_seconds() -> float:
    """CPU time of this process and of its finished child processes."""
    usage = (resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in usage)


def time_metrics(arguments: Namespace, invocation: cli.Invocation) -> int:
    rng = invocation.generator()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.txt"
        sorting, eer = time_equal_error_rate(arguments.trials, path, rng)
        reading = seconds(lambda: pd.read_csv(path, sep=" ", header=None))
        command = [sys.executable, str(ROOT / "evaluate_speaker.py"), "tidyvoice", "--trials", str(path)]
        flags = ["--output-dir", folder]
        whole, with_intervals = (
            seconds(lambda more=more: subprocess.run([*command, *flags, *more], check=True, stdout=subprocess.DEVNULL))
            for more in (["--no-intervals"], [])
        )
    lists = [make_trials(arguments.case_trials, 40, rng) for _ in range(arguments.conditions)]
    intervals = seconds(lambda: [evaluate(t, speakers_from_paths(t.names)) for t in lists])
    with tempfile.TemporaryDirectory() as folder:
        write_case(Path(folder), arguments.case_trials, rng)
        flags = ["case", folder, "--embeddings", f"{folder}/vectors.npz", "--output-dir", folder]
        case_command = [sys.executable, str(ROOT / "evaluate_speaker.py"), *flags, "--scoring", "published"]
        whole_case = seconds(lambda: subprocess.run(case_command, check=True, stdout=subprocess.DEVNULL))
    cli.show(f"{arguments.trials:,} trials from a file, four kinds: {whole:.1f} s")
    cli.show(f"the same with intervals: {with_intervals:.1f} s")
    cli.show(f"equal error rate of {arguments.trials:,} scores: {eer:.2f} s")
    n = f"{arguments.case_trials:,}"
    cli.show(f"{arguments.conditions} lists of {n} trials, metrics with intervals over speakers: {intervals:.1f} s")
    cli.show(f"`case`, 24 conditions of {n} trials, from embeddings to the report: {whole_case:.1f} s")
    cli.show(f"equal error rate / numpy.sort: {eer / sorting:.2f}")
    cli.show(f"evaluate_speaker.py without intervals / pandas.read_csv: {whole / reading:.1f}")
    cli.show(f"with intervals / without intervals: {with_intervals / whole:.1f}")
    return cli.COMPLETE


def time_equal_error_rate(n: int, path: Path, rng: np.random.Generator) -> tuple[float, float]:
    """Write a score file; return the seconds of numpy.sort and of the equal error rate on its scores."""
    trials = make_trials(n, SPEAKERS, rng)
    assert trials.scores is not None
    assert trials.labels is not None
    scores, labels = trials.scores, trials.labels
    write_scores(trials, path)
    functions: list[Callable[[], object]] = [lambda: np.sort(scores), lambda: equal_error_rate(roc(scores, labels))]
    sorting, eer = (min(seconds(function) for _ in range(ROUNDS)) for function in functions)
    return sorting, eer


def make_trials(n: int, speakers: int, rng: np.random.Generator, *, rare_targets: bool | None = None) -> Trials:
    """Random trials with 5 % targets (50 % in lists of up to 100,000), whose scores separate the classes."""
    share = 0.05 if (n > 100_000 if rare_targets is None else rare_targets) else 0.5
    names = np.array(
        [f"id{s:05d}/{LANGUAGES[(s + u % 2) % 5]}/{u:03d}.wav" for s in range(speakers) for u in range(UTTERANCES)],
        dtype=object,
    )
    enrolment = rng.integers(0, len(names), n)
    target = rng.random(n) < share
    same_speaker = enrolment // UTTERANCES * UTTERANCES + rng.integers(0, UTTERANCES, n)
    test = np.where(target, same_speaker, rng.integers(0, len(names), n))
    labels = enrolment // UTTERANCES == test // UTTERANCES
    return Trials(names, enrolment, test, labels, rng.normal(size=n) + 2.5 * labels)


def write_case(folder: Path, n_trials: int, rng: np.random.Generator) -> None:
    """Write a benchmark in the CASE layout with precomputed embeddings; those of degraded files are noisier."""
    (folder / "trials").mkdir()
    centres, vectors = rng.normal(size=(40, 192)), {}
    for condition in condition_names():
        trials = make_trials(n_trials, 40, rng)
        assert trials.labels is not None
        for name in trials.names:
            for folder_name in ("clean", condition):
                noise = rng.normal(size=192) * (1 if folder_name == "clean" else 2)
                vectors.setdefault(f"set/{folder_name}/{name}", (centres[int(name[2:7])] + noise).astype(np.float32))
        sides = trials.names[trials.enrolment], trials.names[trials.test]
        rows = zip(*sides, trials.labels.tolist(), strict=True)
        lines = (f"{int(label)} set/clean/{enrol} set/{condition}/{test}\n" for enrol, test, label in rows)
        (folder / "trials" / f"{condition}.txt").write_text("".join(lines), encoding="utf-8")
    np.savez(folder / "vectors.npz", ids=np.array(list(vectors)), embeddings=np.stack(list(vectors.values())))


def write_scores(trials: Trials, path: Path, *, append: bool = False) -> None:
    """Write a score file with labels, a million lines at a time, or append to one."""
    assert trials.scores is not None
    assert trials.labels is not None
    with path.open("a" if append else "w", encoding="utf-8") as file:
        for start in range(0, len(trials), 1_000_000):
            part = slice(start, start + 1_000_000)
            sides = trials.names[trials.enrolment[part]], trials.names[trials.test[part]]
            rows = zip(*sides, trials.scores[part].tolist(), trials.labels[part].tolist(), strict=True)
            file.writelines(f"{enrol} {test} {score:.6f} {int(label)}\n" for enrol, test, score, label in rows)


def seconds(function: Callable[[], object]) -> float:
    """Run a function and return its time in seconds."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
