"""Probes on the device and on the CPU: linear heads, k-NN, speech recognition."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from earmark.models.torch_runtime import quiet_transformers
from earmark.probing.heads.ctc import Utterances, train_ctc
from earmark.probing.heads.knn import K_CANDIDATES, knn_predict, neighbours_on_device, normalise_embeddings
from earmark.probing.heads.linear import Fold, Head, HeadConfig, train_heads
from earmark.probing.heads.optimise import TrainingConfig
from earmark.probing.heads.selection import selection_metric
from perf.gpu_parts.common import HEAD_TOLERANCE, Context, Figure, within

SEEDS, RATES = (0, 1, 2), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
LETTERS = "abcdefgh "
LOSS_TOLERANCE = 1e-3  # of training losses, relative
SPEECH_TOLERANCE, CTC_LOSS_TOLERANCE = 0.01, 0.01  # of 1 − WER and, relative, losses; CTC is not deterministic on a GPU
Result = TypeVar("Result")
Array = NDArray[Any]


def timed(function: Callable[[], Result]) -> tuple[Result, float]:
    """Result and seconds of a function whose result is in the memory of the CPU."""
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started


def linear_heads(context: Context) -> Iterator[Figure]:
    """The fifteen heads of the strict recipe: three seeds and five learning rates."""
    x, y = embeddings(context)
    items = np.random.default_rng(context.seed).permutation(len(x))
    fold = Fold(0, *np.split(items, [len(x) * 8 // 10, len(x) * 9 // 10]))
    config = HeadConfig("cross_entropy", context.sizes.head_classes, context.sizes.head_epochs)
    choose = selection_metric("accuracy", y)

    def heads(device: str, config: HeadConfig = config, **batched: Any) -> list[Head]:
        axes = {"seeds": SEEDS, "learning_rates": RATES, "best_rate_only": True}
        return train_heads(x, y, [fold], config, choose, device=device, **axes, **batched)

    # On a CPU, rows that are clips are trained by compiled code; with offsets, by the code of the GPU.
    as_on_gpu = {} if context.on_gpu else {"offsets": np.arange(len(x) + 1)}
    for device in ("cpu", context.device):
        heads(device, replace(config, epochs=1))  # warm-up: numba compiles once
    expected, cpu_seconds = timed(lambda: heads("cpu"))
    found, seconds = timed(lambda: heads(context.device, **as_on_gpu))
    scores = [[float((head.test.argmax(1) == y[fold.test]).mean()) for head in each] for each in (found, expected)]
    gap = abs(float(np.mean(scores[0]) - np.mean(scores[1])))
    subject = f"{len(SEEDS) * len(RATES)} strict heads"
    yield within("heads", subject, "difference of the score from the CPU", gap, HEAD_TOLERANCE)
    yield Figure("heads", subject, "score", float(np.mean(scores[0])))
    yield Figure("heads", subject, "time", seconds, "s")
    yield Figure("heads", subject, "time on the CPU / time", cpu_seconds / seconds)


def nearest_neighbours(context: Context) -> Iterator[Figure]:
    """k-NN with all candidates of k."""
    x, y = embeddings(context)
    half = len(x) // 2
    train, labels, test = x[:half], y[:half], x[half:]
    if context.on_gpu:
        knn_predict(train, labels, test[:100], K_CANDIDATES, device=context.device)  # warm-up
    expected, cpu_seconds = timed(lambda: knn_predict(train, labels, test, K_CANDIDATES))
    found, seconds = timed(lambda: knn_predict(train, labels, test, K_CANDIDATES, device=context.device))
    gaps = [abs(float((found[k] == y[half:]).mean() - (expected[k] == y[half:]).mean())) for k in K_CANDIDATES]
    yield within("heads", "k-NN", "difference of the scores from the CPU", max(gaps), HEAD_TOLERANCE)
    a, b = normalise_embeddings(train, test[:200], "strict")
    values = neighbours_on_device(a, b, 10, context.device)[0]
    exact = -np.sort(-(b.astype(np.float64) @ a.T.astype(np.float64)), axis=1)[:, :10]
    yield within("heads", "k-NN", "difference of cosines from float64", float(np.abs(values - exact).max()), 1e-5)
    yield Figure("heads", "k-NN", "time", seconds, "s")
    yield Figure("heads", "k-NN", "time on the CPU / time", cpu_seconds / seconds)


def embeddings(context: Context) -> tuple[Array, Array]:
    """Embeddings of overlapping classes, so that no head reaches a loss of 0."""
    sizes, rng = context.sizes, np.random.default_rng(context.seed)
    y = rng.integers(0, sizes.head_classes, sizes.head_clips)
    centres = 0.15 * rng.normal(size=(sizes.head_classes, sizes.head_width))
    return (centres[y] + rng.normal(size=(len(y), sizes.head_width))).astype(np.float32), y


def speech(context: Context, n: int, seed: int) -> Utterances:
    """Utterances whose frames are noisy codes of the letters of a random text, four frames each."""
    width = context.sizes.head_width
    codes = np.random.default_rng(context.seed).normal(size=(len(LETTERS), width))
    rng = np.random.default_rng([context.seed, seed])
    n_letters = len(LETTERS) - 1
    # Steps from letter to letter of at least 1, since CTC learns doubled letters late; every fifth is a space.
    letters = [rng.integers(1, n_letters, rng.integers(8, 24)).cumsum() % n_letters for _ in range(n)]
    for each in letters:
        each[4::5] = n_letters
    frames = [np.repeat(codes[each], 4, axis=0) for each in letters]
    noisy = [(f + 0.3 * rng.normal(size=f.shape)).astype(np.float32) for f in frames]
    return Utterances(noisy, ["".join(LETTERS[i] for i in each) for each in letters])


def ctc_head(context: Context) -> Iterator[Figure]:
    """Speech recognition with CTC."""
    n = context.sizes.utterances
    train, valid, test = (speech(context, count, seed) for seed, count in enumerate((4 * n, n, n)))
    config = TrainingConfig(epochs=6, batch_size=4, learning_rate=3e-2)
    expected, cpu_seconds = timed(lambda: train_ctc(train, valid, test, config))
    found, seconds = timed(lambda: train_ctc(train, valid, test, config, device=context.device))
    gap = abs(found.score - expected.score)
    yield within("heads", "CTC", "difference of 1 − WER from the CPU", gap, SPEECH_TOLERANCE)
    losses = relative(found.history.losses[0], expected.history.losses[0])
    yield within("heads", "CTC", "difference of the first loss, relative", losses, CTC_LOSS_TOLERANCE)
    yield Figure("heads", "CTC", "1 − WER", found.score)
    yield Figure("heads", "CTC", "time", seconds, "s")
    yield Figure("heads", "CTC", "time on the CPU / time", cpu_seconds / seconds)


def language_model_head(context: Context) -> Iterator[Figure]:
    """Speech recognition with a frozen language model: Qwen2 with random weights."""
    from earmark.probing.heads.llm_asr import DecodingConfig, load_language_model, train_adapter

    folder = build_language_model(context)
    train, test = (speech(context, context.sizes.utterances // 2, seed) for seed in (4, 5))
    config = TrainingConfig(epochs=2, batch_size=4, learning_rate=1e-3)
    decoding = DecodingConfig(prompt="=", max_tokens=16)

    def losses(device: str, dtype: str | None) -> tuple[float, ...]:
        model = load_language_model(folder, device=device, dtype=dtype)
        return train_adapter(model, train, test, test, config, decoding).history.losses

    expected = losses("cpu", "float32")
    subject = "ASR with a language model"
    for dtype, tolerance in (("float32", LOSS_TOLERANCE), ("bfloat16", 0.05)):
        found, seconds = timed(lambda dtype=dtype: losses(context.device, dtype))
        gap = max(relative(a, b) for a, b in zip(found, expected, strict=True))
        yield within("heads", subject, f"{dtype}: difference of losses, relative", gap, tolerance)
        yield Figure("heads", subject, f"{dtype}: loading, training, generation", seconds, "s")


def build_language_model(context: Context) -> Path:
    """Save a Qwen2 with random weights and a tokenizer of bytes."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from tests.models.tiny import tokenizer

    words, folder = tokenizer(), context.folder / "models" / "Qwen2"
    large = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 12, "num_attention_heads": 14}
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(
        vocab_size=len(words),
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        **(small if context.sizes.small else large),
    )
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def relative(found: float, expected: float) -> float:
    """Absolute difference divided by the expected value."""
    return abs(found - expected) / abs(expected)
