"""Embedding of clips: agreement with the CPU, speed, memory, recovery from an out-of-memory error, and decoding."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from earmark.audio.decode import read_audio, read_nonsilent_audio
from earmark.audio_text.scorers import ClipTextPair
from earmark.audio_text.scorers.in_process import InProcessScorer
from earmark.embeddings.cache import EmbeddingCache
from earmark.models.batching import in_batches
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.conformance.encoder_under_test import peak_resident_bytes
from earmark.models.encoders.output import DEFAULT_REQUEST
from perf.gpu_parts.common import DTYPES, Context, Figure, guarded, tolerance, within
from perf.gpu_parts.models import (
    MODELS,
    MP3_RATE,
    RATE,
    RESNET,
    SIMAM,
    TRANSFORMER,
    load,
    load_audio_text,
    write_agreement_clips,
    write_clips,
)

Array = NDArray[np.float32]
GOAL_SHARE, ENOUGH_CORES = 0.9, 8
TEXTS = tuple(f"a voice that conveys feeling number {i}" for i in range(8))
FULL_FLOAT32 = 1e-5  # TF32 has an error of about 1e-3


def full_float32(context: Context) -> Iterator[Figure]:
    """Whether convolutions and matrix products on the device are computed in float32 once a model is loaded."""
    load(context, TRANSFORMER, context.device)
    generator = torch.Generator().manual_seed(0)
    x, kernel = (torch.randn(shape, generator=generator) for shape in [(4, 64, 40, 40), (64, 64, 3, 3)])
    a, b = (torch.randn(256, 512, generator=generator) for _ in range(2))
    results = {
        "convolution": lambda kind, device: torch.conv2d(x.to(device, kind), kernel.to(device, kind)),
        "matrix product": lambda kind, device: a.to(device, kind) @ b.to(device, kind).T,
    }
    for name, compute in results.items():
        expected = compute(torch.float64, "cpu").numpy()
        found = compute(torch.float32, context.device).cpu().numpy()
        yield within("float32", name, "difference from float64 / largest", difference(found, expected), FULL_FLOAT32)


def decoding(context: Context) -> Iterator[Figure]:
    """Seconds of audio per second and thread count: reading, decoding, resampling, input of the models."""
    section, sizes = "decoding", context.sizes
    wav, mp3 = write_clips(context, "wav")[: sizes.mp3_clips], write_clips(context, "mp3")
    encoders = {name: load(context, name, "cpu") for name in MODELS}
    steps: dict[str, tuple[Sequence[Path], Callable[[Path], object]]] = {
        f"WAV {RATE // 1000} kHz": (wav, read_audio),
        f"MP3 {MP3_RATE // 1000} kHz": (mp3, read_audio),
        f"MP3 {MP3_RATE // 1000} → {RATE // 1000} kHz": (mp3, lambda clip: read_audio(clip, RATE)),
        **{f"MP3 → {name}": (mp3, preparing(encoder)) for name, encoder in encoders.items()},
    }
    cores = os.cpu_count() or 1
    counts = sorted({n for n in (1, 2, 4, ENOUGH_CORES, 16) if n <= cores} | {min(cores, ENOUGH_CORES)})
    for step, (clips, function) in steps.items():
        for threads in counts:
            rate = clips_per_second(function, clips, threads, sizes.timed_seconds / 4) * sizes.seconds
            if threads == min(cores, ENOUGH_CORES):
                context.prepare_rates[step.removeprefix("MP3 → ")] = rate
            yield Figure(section, step, f"{threads} threads", rate, "s audio/s")


def preparing(encoder: Encoder) -> Callable[[Path], list[Any]]:
    """What a thread does with a clip before the encoder runs."""
    return lambda clip: encoder.prepare_clip(read_nonsilent_audio(clip, encoder.sample_rate), DEFAULT_REQUEST)


def clips_per_second(function: Callable[[Path], object], clips: Sequence[Path], threads: int, seconds: float) -> float:
    """Clips per second of a function in threads, in blocks of four clips per thread, after a warm-up."""
    function(clips[0])
    done, started = 0, time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        while time.perf_counter() - started < seconds or not done:
            block = [clips[(done + i) % len(clips)] for i in range(4 * threads)]
            done += len(list(pool.map(function, block)))
        return done / (time.perf_counter() - started)


def embedding(context: Context) -> Iterator[Figure]:
    """Every model in every data type: agreement, speed, memory."""
    clips = write_agreement_clips(context)
    for name in MODELS:
        reference = embed(context, load(context, name, "cpu"), clips, batch_size=1)
        for dtype in DTYPES:
            part = partial(_model, context, name, dtype, clips, reference)
            yield from guarded(context, "embedding", f"{name}, {dtype}", part)
            release(context)


def _model(context: Context, name: str, dtype: str, clips: Sequence[Path], reference: Array) -> Iterator[Figure]:
    """One model in one data type; the reference are embeddings of the clips, one by one on the CPU in float32."""
    encoder, subject = load(context, name, context.device, dtype), f"{name}, {dtype}"
    found = difference(embed(context, encoder, clips), reference)
    yield within(
        "embedding", subject, "difference from the CPU / largest", found, tolerance(dtype, name in (SIMAM, RESNET))
    )
    if context.on_gpu or dtype == "float32":  # half precision is slow on many CPUs
        yield from _speed(context, name, subject, encoder)


def _speed(context: Context, name: str, subject: str, encoder: Encoder) -> Iterator[Figure]:
    """Clips per second of the model alone and of the pipeline, and the peak memory."""
    sizes = context.sizes

    def goal(least: float) -> str:
        return f">= {least:g}" if context.on_gpu else ""

    if context.on_gpu:
        torch.cuda.reset_peak_memory_stats(context.device)
    wav, mp3 = write_clips(context, "wav"), write_clips(context, "mp3")
    pieces = [piece for clip in wav[: 4 * sizes.batch_size] for piece in preparing(encoder)(clip)]
    alone = model_alone(context, encoder, pieces)
    per_clip = len(pieces) / min(len(wav), 4 * sizes.batch_size)
    clips = int(min(len(wav), max(3 * sizes.batch_size, alone / per_clip * sizes.timed_seconds)))
    from_wav = clips / context.seconds(lambda: embed(context, encoder, wav[:clips]))
    from_mp3 = min(clips, len(mp3)) / context.seconds(lambda: embed(context, encoder, mp3[:clips]))
    alone = max(alone, model_alone(context, encoder, pieces)) / per_clip
    yield Figure("embedding", subject, "model alone, prepared clips", alone, "clips/s")
    yield Figure("embedding", subject, "pipeline from WAV of the model's rate", from_wav, "clips/s")
    yield Figure("embedding", subject, "pipeline from MP3", from_mp3, "clips/s")
    yield Figure("embedding", subject, "WAV pipeline / model alone", from_wav / alone, goal=goal(GOAL_SHARE))
    yield Figure("embedding", subject, "MP3 pipeline / model alone", from_mp3 / alone)
    if name in context.prepare_rates:
        threads = min(os.cpu_count() or 1, ENOUGH_CORES)
        ratio = context.prepare_rates[name] / (alone * sizes.seconds)
        yield Figure("embedding", subject, f"decoding with {threads} threads / model alone", ratio, goal=goal(1))
    yield Figure("embedding", subject, "peak memory", peak_memory(context), "GB")


def model_alone(context: Context, encoder: Encoder, pieces: Sequence[Any]) -> float:
    """Pieces per second of an encoder, from prepared input in memory to embeddings in memory."""
    batches = list(in_batches(pieces, context.sizes.batch_size))
    for batch in batches[:2]:
        encoder.encode_prepared(batch, DEFAULT_REQUEST)
    done, context_seconds = 0, 0.0
    while context_seconds < context.sizes.timed_seconds / 2:
        context_seconds += context.seconds(
            lambda: [encoder.encode_prepared(batch, DEFAULT_REQUEST) for batch in batches]
        )
        done += len(pieces)
    return done / context_seconds


def audio_text(context: Context) -> Iterator[Figure]:
    """Scores of clips and sentences in process."""
    clips = write_agreement_clips(context)
    pairs = [ClipTextPair(clip, clip.name, clip.stem, text) for clip in clips for text in TEXTS]
    reference = similarities(context, "cpu", "float32", pairs)
    for dtype in DTYPES:
        found = similarities(context, context.device, dtype, pairs)
        gap = difference(found, reference, 1)  # the embeddings of clip and text both contribute
        yield within("audio-text", dtype, "difference of cosines from the CPU", gap, 2 * tolerance(dtype))
    long = [ClipTextPair(c, c.name, c.stem, text) for c in write_clips(context, "mp3") for text in TEXTS]
    seconds = context.seconds(lambda: similarities(context, context.device, "bfloat16", long))
    yield Figure(
        "audio-text",
        "bfloat16",
        f"clips with {len(TEXTS)} texts, with loading",
        len(long) / len(TEXTS) / seconds,
        "clips/s",
    )


def similarities(context: Context, device: str, dtype: str, pairs: Sequence[ClipTextPair]) -> Array:
    """Scores of pairs by `InProcessScorer` with an empty cache."""
    cache = EmbeddingCache(Path(mkdtemp(dir=context.folder)))
    scorer = InProcessScorer(load_audio_text(context, device, dtype), cache, context.sizes.batch_size)
    scores = np.full(len(pairs), np.nan, dtype=np.float32)
    for i, score in scorer(pairs):
        scores[i] = np.nan if score.similarity is None else score.similarity
    release(context)
    return scores


def out_of_memory(context: Context) -> Iterator[Figure]:
    """A batch that does not fit: all clips are embedded in halved batches, with the same embeddings."""
    clips = write_clips(context, "wav")[: min(192, context.sizes.clips)]
    encoder = load(context, TRANSFORMER, context.device)
    expected = embed(context, encoder, clips)
    failures: list[int] = []
    encode = encoder.encode_prepared

    def recording(prepared: Sequence[Any], request: Any) -> Any:
        try:
            if not context.on_gpu and len(prepared) > context.sizes.batch_size:
                raise torch.OutOfMemoryError("a CPU that acts as a full GPU")
            return encode(prepared, request)
        except torch.OutOfMemoryError:
            failures.append(len(prepared))
            raise

    encoder.encode_prepared = recording  # type: ignore[method-assign]
    with limited_memory(context, encoder, clips):
        found = embed(context, encoder, clips, batch_size=len(clips))
    n = len(failures)
    yield Figure(
        "out of memory", TRANSFORMER, "batches that did not fit", n, "", ">= 1", n >= 1, note=f"sizes {failures}"
    )
    yield within("out of memory", TRANSFORMER, "clips without embedding", float(np.isnan(found).any(axis=1).sum()), 0)
    yield within("out of memory", TRANSFORMER, "difference from smaller batches", difference(found, expected), 1e-4)


@contextmanager
def limited_memory(context: Context, encoder: Encoder, clips: Sequence[Path]) -> Iterator[None]:
    """Limit the memory of this process on the GPU to about three times what a quarter of a batch needs."""
    if not context.on_gpu:
        yield
        return
    few = clips[: max(1, context.sizes.batch_size // 4)]
    release(context)
    torch.cuda.reset_peak_memory_stats(context.device)
    before = torch.cuda.memory_reserved(context.device)
    embed(context, encoder, few, batch_size=len(few))
    needed = torch.cuda.max_memory_reserved(context.device) - before
    release(context)
    total = torch.cuda.get_device_properties(context.device).total_memory
    limit = torch.cuda.memory_reserved(context.device) + 3 * max(needed, 64 << 20)
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), context.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, context.device)


def embed(context: Context, encoder: Encoder, clips: Sequence[Path], batch_size: int | None = None) -> Array:
    """Embeddings of clips through an empty embedding cache, (n, d); NaN for a clip that failed."""
    cache = EmbeddingCache(Path(mkdtemp(dir=context.folder)))
    found = {
        clip: result.vector
        for clip, result in cache.embed(encoder, clips, batch_size=batch_size or context.sizes.batch_size)
    }
    width = next((len(vector) for vector in found.values() if vector is not None), 1)
    missing = np.full(width, np.nan, dtype=np.float32)
    return np.stack([missing if found[clip] is None else found[clip] for clip in clips])  # type: ignore[misc]


def difference(found: Any, expected: Any, scale: float | None = None) -> float:
    """Largest absolute difference, divided by the largest absolute expected value or by `scale`; NaN if any is NaN."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    return float(np.abs(found - expected).max() / (scale or np.abs(expected).max()))


def peak_memory(context: Context) -> float | None:
    """Peak memory in GB (1e9 bytes): of the GPU since the last reset, or of the process."""
    if context.on_gpu:
        return torch.cuda.max_memory_allocated(context.device) / 1e9
    resident = peak_resident_bytes()
    return None if resident is None else resident / 1e9


def release(context: Context) -> None:
    """Free cached memory of the GPU."""
    if context.on_gpu:
        torch.cuda.empty_cache()
