"""How long verification metrics take at the sizes of the published benchmarks.

Reads   nothing: trials and scores are made up
Prints  a score file of 12 million trials (TidyVoice's development list) through `evaluate_speaker.py trials` without
        and with intervals, as a whole process; the equal error rate against numpy.sort of the same scores; 24 protocols
        of 10,000 trials with intervals over speakers, the metrics alone and the whole `case` command from embeddings;
        and Resemblyzer on the demo speech, a loop over files against the store (--resemblyzer)

  uv run perf/speaker.py
  uv run perf/speaker.py --trials 1000000
  uv run --all-extras perf/speaker.py --resemblyzer
"""

import resource
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from earmark import cli
from earmark.embeddings.cache import EmbeddingCache
from earmark.metrics.detection import equal_error_rate, roc
from earmark.models.encoders.registry import load_encoder
from earmark.speaker.case.conditions import condition_names
from earmark.speaker.evaluation import evaluate
from earmark.speaker.trials import Trials, speakers_from_paths

ROOT = Path(__file__).resolve().parents[1]
SPEAKERS, UTTERANCES = 1000, 40
ROUNDS = 3  # of what takes less than a second; the first one pays for fresh memory


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument("--trials", type=cli.positive_int, default=12_000_000, help="lines of the file (12 million)")
    parser.add_argument("--resemblyzer", action="store_true", help="time Resemblyzer instead of metrics")
    parser.add_argument("--conditions", type=cli.positive_int, default=24, help="lists with intervals (24)")
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    return time_embedding() if arguments.resemblyzer else time_metrics(arguments, invocation)


def time_embedding() -> int:
    """Resemblyzer's own loop, decoding and all, against the store; then what the store reads again."""
    import resemblyzer

    files = sorted((ROOT / "dataset/speaker-demo").rglob("*.mp3"))
    own = resemblyzer.VoiceEncoder("cpu", verbose=False)
    own.embed_utterance(resemblyzer.preprocess_wav(files[0]))  # compiles what it compiles
    loop = seconds(lambda: [own.embed_utterance(resemblyzer.preprocess_wav(path)) for path in files])
    encoder = load_encoder("resemblyzer", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        first, second = (seconds(lambda: list(EmbeddingCache(Path(folder)).embed(encoder, files))) for _ in range(2))
    cli.show(f"Resemblyzer, {len(files)} clips: loop {loop:.1f} s, store {first:.1f} s, {loop / first:.2f} times")
    cli.show(f"the second time, from the store: {second:.2f} s")
    return cli.COMPLETE


def time_metrics(arguments: Namespace, invocation: cli.Invocation) -> int:
    rng = invocation.generator()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.txt"
        sorting, eer = time_many(arguments.trials, path, rng)
        command = [sys.executable, str(ROOT / "evaluate_speaker.py"), "trials", "--trials", str(path)]
        flags = ["--output-dir", folder]
        whole, with_intervals = (
            seconds(lambda more=more: subprocess.run([*command, *flags, *more], check=True, stdout=subprocess.DEVNULL))
            for more in (["--no-intervals"], [])
        )
        megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    lists = [make_trials(10_000, 40, rng) for _ in range(arguments.conditions)]
    intervals = seconds(lambda: [evaluate(t, speakers_from_paths(t.names)) for t in lists])
    with tempfile.TemporaryDirectory() as folder:
        write_case(Path(folder), rng)
        flags = ["case", folder, "--embeddings", f"{folder}/vectors.npz", "--output-dir", folder]
        case_command = [sys.executable, str(ROOT / "evaluate_speaker.py"), *flags, "--scoring", "published"]
        whole_case = seconds(lambda: subprocess.run(case_command, check=True, stdout=subprocess.DEVNULL))
    cli.show(f"{arguments.trials:,} trials from a file, all metrics: {whole:.1f} s")
    cli.show(f"the same with intervals: {with_intervals:.1f} s, peak of both {megabytes:,.0f} MB")
    cli.show(f"equal error rate of {arguments.trials:,} scores: {eer:.2f} s, {eer / sorting:.2f} times numpy.sort")
    cli.show(f"{arguments.conditions} lists of 10,000 trials, metrics with intervals over speakers: {intervals:.1f} s")
    cli.show(f"`case`, 24 protocols of 10,000 trials, from embeddings to the report: {whole_case:.1f} s")
    return cli.COMPLETE


def time_many(n: int, path: Path, rng: np.random.Generator) -> tuple[float, float]:
    """Seconds of numpy.sort and of the equal error rate on the same scores, which are left in a file."""
    trials = make_trials(n, SPEAKERS, rng)
    assert trials.scores is not None
    assert trials.labels is not None
    scores, labels = trials.scores, trials.labels
    write_scores(trials, path)
    works: list[Callable[[], object]] = [lambda: np.sort(scores), lambda: equal_error_rate(roc(scores, labels))]
    sorting, eer = (min(seconds(work) for _ in range(ROUNDS)) for work in works)
    return sorting, eer


def make_trials(n: int, speakers: int, rng: np.random.Generator) -> Trials:
    """Trials of which a twentieth are target trials (half in small lists), with scores that tell them apart."""
    names = np.array([f"id{s:05d}/{u:03d}.wav" for s in range(speakers) for u in range(UTTERANCES)], dtype=object)
    enrolment = rng.integers(0, len(names), n)
    target = rng.random(n) < (0.05 if n > 100_000 else 0.5)
    same = enrolment // UTTERANCES * UTTERANCES + rng.integers(0, UTTERANCES, n)
    test = np.where(target, same, rng.integers(0, len(names), n))
    labels = enrolment // UTTERANCES == test // UTTERANCES
    return Trials(names, enrolment, test, labels, rng.normal(size=n) + 2.5 * labels)


def write_case(folder: Path, rng: np.random.Generator) -> None:
    """A benchmark in the shape of CASE with an embedding for each of its files, noisier than the clean ones."""
    (folder / "trials").mkdir()
    centres, vectors = rng.normal(size=(40, 192)), {}
    for protocol in condition_names():
        trials = make_trials(10_000, 40, rng)
        assert trials.labels is not None
        for name in trials.names:
            for carrier in ("clean", protocol):
                noise = rng.normal(size=192) * (1 if carrier == "clean" else 2)
                vectors.setdefault(f"set/{carrier}/{name}", (centres[int(name[2:7])] + noise).astype(np.float32))
        sides = trials.names[trials.enrolment], trials.names[trials.test]
        rows = zip(*sides, trials.labels.tolist(), strict=True)
        lines = (f"{int(label)} set/clean/{enrol} set/{protocol}/{test}\n" for enrol, test, label in rows)
        (folder / "trials" / f"{protocol}.txt").write_text("".join(lines), encoding="utf-8")
    np.savez(folder / "vectors.npz", ids=np.array(list(vectors)), embeddings=np.stack(list(vectors.values())))


def write_scores(trials: Trials, path: Path) -> None:
    """A score file with labels, a million lines at a time."""
    assert trials.scores is not None
    assert trials.labels is not None
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(trials), 1_000_000):
            part = slice(start, start + 1_000_000)
            sides = trials.names[trials.enrolment[part]], trials.names[trials.test[part]]
            rows = zip(*sides, trials.scores[part].tolist(), trials.labels[part].tolist(), strict=True)
            file.writelines(f"{enrol} {test} {score:.6f} {int(label)}\n" for enrol, test, score, label in rows)


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
