"""Time the speaker verification metrics at the sizes of the published benchmarks.

Reads   nothing; trials and scores are random
Prints  the times of
        - `evaluate_speaker.py tidyvoice` on a score file of 12 million trials, the size of TidyVoice's development
          list, with the four kinds of trials by language, as a whole process, without and with intervals
        - the equal error rate, and numpy.sort on the same scores
        - 24 lists of 10,000 trials with intervals over speakers, and the whole `case` command on such lists
        - with --resemblyzer instead: Resemblyzer on the demo speech, in a loop over files and with the embedding cache

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
        "--conditions", type=cli.positive_int, default=24, metavar="N", help="lists with intervals (default: 24)"
    )
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    return time_embedding() if arguments.resemblyzer else time_metrics(arguments, invocation)


def time_embedding() -> int:
    """Time Resemblyzer in a loop with decoding, with an empty embedding cache, and with a filled one."""
    import resemblyzer

    files = sorted((ROOT / "dataset/speaker-demo").rglob("*.mp3"))
    encoder_alone = resemblyzer.VoiceEncoder("cpu", verbose=False)
    encoder_alone.embed_utterance(resemblyzer.preprocess_wav(files[0]))  # warm-up
    loop = seconds(lambda: [encoder_alone.embed_utterance(resemblyzer.preprocess_wav(path)) for path in files])
    encoder = load_encoder("resemblyzer", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        first, second = (seconds(lambda: list(EmbeddingCache(Path(folder)).embed(encoder, files))) for _ in range(2))
    cli.show(
        f"Resemblyzer, {len(files)} clips: loop {loop:.1f} s, cache {first:.1f} s, {loop / first:.2f} times as fast"
    )
    cli.show(f"from the filled cache: {second:.2f} s")
    return cli.COMPLETE


def time_metrics(arguments: Namespace, invocation: cli.Invocation) -> int:
    rng = invocation.generator()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.txt"
        sorting, eer = time_equal_error_rate(arguments.trials, path, rng)
        command = [sys.executable, str(ROOT / "evaluate_speaker.py"), "tidyvoice", "--trials", str(path)]
        flags = ["--output-dir", folder]
        (whole, megabytes), (with_intervals, more_megabytes) = (
            (
                seconds(
                    lambda more=more: subprocess.run([*command, *flags, *more], check=True, stdout=subprocess.DEVNULL)
                ),
                resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
            )
            for more in (["--no-intervals"], [])
        )
    lists = [make_trials(10_000, 40, rng) for _ in range(arguments.conditions)]
    intervals = seconds(lambda: [evaluate(t, speakers_from_paths(t.names)) for t in lists])
    with tempfile.TemporaryDirectory() as folder:
        write_case(Path(folder), rng)
        flags = ["case", folder, "--embeddings", f"{folder}/vectors.npz", "--output-dir", folder]
        case_command = [sys.executable, str(ROOT / "evaluate_speaker.py"), *flags, "--scoring", "published"]
        whole_case = seconds(lambda: subprocess.run(case_command, check=True, stdout=subprocess.DEVNULL))
    cli.show(f"{arguments.trials:,} trials from a file, four kinds: {whole:.1f} s, {megabytes:,.0f} MB at most")
    cli.show(f"the same with intervals: {with_intervals:.1f} s, {more_megabytes:,.0f} MB at most")
    cli.show(f"equal error rate of {arguments.trials:,} scores: {eer:.2f} s, {eer / sorting:.2f} times numpy.sort")
    cli.show(f"{arguments.conditions} lists of 10,000 trials, metrics with intervals over speakers: {intervals:.1f} s")
    cli.show(f"`case`, 24 conditions of 10,000 trials, from embeddings to the report: {whole_case:.1f} s")
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


def make_trials(n: int, speakers: int, rng: np.random.Generator) -> Trials:
    """Random trials with 5 % targets (50 % in lists of up to 100,000), whose scores separate the classes."""
    names = np.array(
        [f"id{s:05d}/{LANGUAGES[(s + u % 2) % 5]}/{u:03d}.wav" for s in range(speakers) for u in range(UTTERANCES)],
        dtype=object,
    )
    enrolment = rng.integers(0, len(names), n)
    target = rng.random(n) < (0.05 if n > 100_000 else 0.5)
    same_speaker = enrolment // UTTERANCES * UTTERANCES + rng.integers(0, UTTERANCES, n)
    test = np.where(target, same_speaker, rng.integers(0, len(names), n))
    labels = enrolment // UTTERANCES == test // UTTERANCES
    return Trials(names, enrolment, test, labels, rng.normal(size=n) + 2.5 * labels)


def write_case(folder: Path, rng: np.random.Generator) -> None:
    """Write a benchmark in the CASE layout with precomputed embeddings; those of degraded files are noisier."""
    (folder / "trials").mkdir()
    centres, vectors = rng.normal(size=(40, 192)), {}
    for condition in condition_names():
        trials = make_trials(10_000, 40, rng)
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


def write_scores(trials: Trials, path: Path) -> None:
    """Write a score file with labels, a million lines at a time."""
    assert trials.scores is not None
    assert trials.labels is not None
    with path.open("w", encoding="utf-8") as file:
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
