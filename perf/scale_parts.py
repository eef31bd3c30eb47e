"""What `perf/scale.py` measures: each step runs as a process of its own, so that its peak of memory is its own.

Reads   nothing: generates its data in a folder
Writes  the data (`prepare`), or the outputs of what is measured (`measure`); seconds of its steps on stdout, as JSON

  uv run --all-extras perf/scale_parts.py prepare clips 1000 folder
  uv run --all-extras perf/scale_parts.py measure clips 1000 folder
"""

import io
import json
import sys
import tarfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.remove(str(Path(__file__).resolve().parent))  # numba imports the package coverage, not perf/coverage.py

from earmark import cli

RATERS, SUBSET = 8, "emolia-dim"
QUESTIONS, QUESTIONS_PER_CLIP = "emolia-emo", 10
TASK_TYPES = ("affirmative", "contrastive_1", "contrastive_2", "ultimate", "penultimate")
LEVELS = ("not_present", "weakly_present", "strongly_present")
RATINGS_PER_MULTIPLE = 34_097  # of perf/agreement.py, whose ratings are those of the published set
WIDTH, CLASSES = 768, 50
KNN_CLIPS = 1000  # clips to classify; with all clips of a test set, k-NN would be quadratic
ROWS_AT_ONCE = 10_000
CLIP_SECONDS, RATE = 0.25, 16_000
CLIPS_PER_TAR = 10_000
TRIALS_AT_ONCE = 1_000_000

Steps = dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument("action", choices=["prepare", "measure"])
    parser.add_argument("part", choices=[*PREPARE], help="what to prepare or measure")
    parser.add_argument("size", type=cli.positive_int)
    parser.add_argument("folder", type=Path)
    return parser


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    if arguments.action == "prepare":
        arguments.folder.mkdir(parents=True, exist_ok=True)
        PREPARE[arguments.part](arguments.size, arguments.folder, invocation.generator())
    else:
        cli.show(json.dumps(MEASURE[arguments.part](arguments.size, arguments.folder)))
    return cli.COMPLETE


@contextmanager
def timed(steps: Steps, name: str) -> Iterator[None]:
    """Add the seconds that a block takes to the steps."""
    started = time.perf_counter()
    yield
    steps[name] = steps.get(name, 0.0) + time.perf_counter() - started


# --- ratings and questions ----------------------------------------------------------------------------------


def prepare_ratings(size: int, folder: Path, rng: np.random.Generator) -> None:
    """Write annotations with about `size` ratings, distributed as in the published set."""
    from perf.agreement import COVERAGE, write_annotations

    share = size / RATINGS_PER_MULTIPLE
    write_annotations(folder / SUBSET, {n: round(items * share) for n, items in COVERAGE.items()}, RATERS, rng)


def prepare_questions(size: int, folder: Path, rng: np.random.Generator) -> None:
    """Write what `benchmark.py` reads: the labels of about `size` items, each rated twice, and clips of 0.1 s."""
    import soundfile

    import analysis

    item = np.repeat(np.arange(size), 2)
    emotion = np.array([f"emotion {i}" for i in range(40)], dtype=object)
    table = pd.DataFrame(
        {
            "annotation_id": [f"a{i}" for i in range(len(item))],
            "username": [f"user_{i}" for i in (item + np.tile([0, 1], size)) % RATERS],
            "source_emotion": emotion[item // QUESTIONS_PER_CLIP % 40],
            "queried_emotion": emotion[item % 40],
            "task_type": np.array(TASK_TYPES, dtype=object)[item % len(TASK_TYPES)],
            "file_name": [f"{i // QUESTIONS_PER_CLIP:06d}.wav" for i in item],
            "rating": np.array(LEVELS, dtype=object)[rng.integers(0, len(LEVELS), len(item))],
            "reaction_time_ms": rng.integers(500, 9000, len(item)),
            "sample_time_ms": rng.integers(2000, 30000, len(item)),
            "created_at": pd.Timestamp("2026-05-01") + pd.to_timedelta(np.arange(len(item)), unit="s"),
        }
    )
    (folder / QUESTIONS).mkdir()
    table.to_csv(folder / QUESTIONS / "annotations.csv", index=False)
    pd.DataFrame({"username": [f"user_{i}" for i in range(RATERS)]}).to_csv(
        folder / QUESTIONS / "users.csv", index=False
    )
    flags = ["--subset", QUESTIONS, "--bootstrap", "0", "--no-figures", "--quiet", "--annotations-root", str(folder)]
    assert analysis.main([*flags, "--output-dir", str(folder / "labels")]) == cli.COMPLETE
    one_clip = folder / "clip.wav"
    soundfile.write(one_clip, 0.1 * rng.normal(size=RATE // 10), RATE)
    for emotion_name, name in set(zip(table["source_emotion"], table["file_name"], strict=True)):
        clip = folder / "dataset" / QUESTIONS / "data" / f"{emotion_name}_best" / name
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.hardlink_to(one_clip)


# --- trials -------------------------------------------------------------------------------------------------


def prepare_trials(size: int, folder: Path, rng: np.random.Generator) -> None:
    """Write a score file, a million lines at a time."""
    from perf.speaker import SPEAKERS, make_trials, write_scores

    for start in range(0, size, TRIALS_AT_ONCE):
        n = min(TRIALS_AT_ONCE, size - start)
        write_scores(
            make_trials(n, SPEAKERS, rng, rare_targets=size > 100_000), folder / "scores.txt", append=start > 0
        )


# --- embeddings in a store ----------------------------------------------------------------------------------


def _key(number: int) -> str:
    return sha256(number.to_bytes(8, "little")).hexdigest()


def prepare_embeddings(size: int, folder: Path, rng: np.random.Generator) -> None:
    """Write a store of embeddings of overlapping classes, and the classes."""
    from earmark.embeddings.shards import ShardedArrayStore

    y = rng.integers(0, CLASSES, size)
    centres = (0.15 * rng.normal(size=(CLASSES, WIDTH))).astype(np.float32)
    with ShardedArrayStore(folder / "store", {"name": "generated"}) as store:
        for start in range(0, size, ROWS_AT_ONCE):
            part = y[start : start + ROWS_AT_ONCE]
            rows = centres[part] + rng.normal(size=(len(part), WIDTH)).astype(np.float32)
            store.add([_key(start + i) for i in range(len(part))], rows)
    np.save(folder / "classes.npy", y)


def measure_embeddings(size: int, folder: Path) -> Steps:
    """Open the store, read all embeddings, and probe them: k-NN of the strict recipe, and an epoch of a linear head."""
    from earmark.embeddings.shards import ShardedArrayStore
    from earmark.probing.features import FeatureRows
    from earmark.probing.heads.linear import Fold, HeadConfig, train_heads
    from earmark.probing.heads.selection import selection_metric

    steps: Steps = {}
    with timed(steps, "open"):
        store = ShardedArrayStore(folder / "store", {"name": "generated"})
    with timed(steps, "read"):
        collected = FeatureRows(size)
        for number in range(size):
            vector = store.get(_key(number))
            assert vector is not None
            collected.add([number], vector)
        features, _ = collected.features()
    store.close()
    del store, collected  # as after `EmbeddingCache.embed`
    y = np.load(folder / "classes.npy")
    items = np.random.default_rng(0).permutation(size)
    fold = Fold(0, *np.split(items, [size * 8 // 10, size * 9 // 10]))
    with timed(steps, "k-NN"):
        nearest(features.x, y, fold.train, fold.valid[:KNN_CLIPS])
    config = HeadConfig("cross_entropy", CLASSES, 1, 32)
    with timed(steps, "linear head, one epoch"):
        train_heads(features.x, y, [fold], config, selection_metric("accuracy", y))
    return steps


def nearest(x: NDArray[np.floating], y: NDArray[np.int64], train: NDArray[np.int64], test: NDArray[np.int64]) -> object:
    """Predict the classes of test rows, as the strict recipe does."""
    from earmark.probing.heads.knn import K_CANDIDATES, knn_predict

    return knn_predict(x[train], y[train], x[test], K_CANDIDATES, overwrite=True)


# --- clips --------------------------------------------------------------------------------------------------


def prepare_clips(size: int, folder: Path, rng: np.random.Generator) -> None:
    """Write tar files of WAV clips of noise, 10,000 in each."""
    import soundfile

    for start in range(0, size, CLIPS_PER_TAR):
        with tarfile.open(folder / f"{start // CLIPS_PER_TAR:04d}.tar", "w") as tar:
            for number in range(start, min(start + CLIPS_PER_TAR, size)):
                buffer = io.BytesIO()
                sound = 0.1 * rng.normal(size=int(CLIP_SECONDS * RATE))
                soundfile.write(buffer, sound, RATE, format="WAV", subtype="PCM_16")
                member = tarfile.TarInfo(f"{number:07d}.wav")
                member.size = buffer.tell()
                buffer.seek(0)
                tar.addfile(member, buffer)


def measure_clips(size: int, folder: Path) -> Steps:
    """Embed all clips with the built-in encoder into an empty store."""
    from earmark.audio.clips import tar_members
    from earmark.embeddings.cache import EmbeddingCache
    from earmark.models.encoders.registry import load_encoder

    steps: Steps = {}
    encoder = load_encoder("logmel")
    with timed(steps, "list"):
        clips = [member for tar in sorted(folder.glob("*.tar")) for member in tar_members(tar)]
    with timed(steps, "embed"):
        n = sum(embedding.vector is not None for _, embedding in EmbeddingCache(folder / "store").embed(encoder, clips))
    assert n == size
    return steps


PREPARE: dict[str, Callable[[int, Path, np.random.Generator], None]] = {
    "ratings": prepare_ratings,
    "trials": prepare_trials,
    "questions": prepare_questions,
    "embeddings": prepare_embeddings,
    "clips": prepare_clips,
}
MEASURE: dict[str, Callable[[int, Path], Steps]] = {"embeddings": measure_embeddings, "clips": measure_clips}

if __name__ == "__main__":
    sys.exit(main())
