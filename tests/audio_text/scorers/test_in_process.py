"""The in-process scorer with tiny models with random weights: batching, windows, invalid clips, threads."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np
import pytest
import soundfile

pytest.importorskip("torch", reason="the extra `clap` is not installed")
pytest.importorskip("sentence_transformers", reason="the extra `clap` is not installed")

import torch

from earmark.audio_text.scorers import ClipTextPair, Score
from earmark.audio_text.scorers.in_process import InProcessScorer
from earmark.embeddings.cache import EmbeddingCache
from earmark.models.audio_text.loading import AudioTextModel, load_clap, load_model
from earmark.models.audio_text.networks import Clap
from earmark.models.batching import split_into_windows
from earmark.models.encoders.base import EmbeddingError
from tests.models import tiny

STORES = TemporaryDirectory()
TEXTS = ("calm", "a voice full of joy", "someone very tired", "loud")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.clap(tmp_path_factory.mktemp("models") / "clap")


@pytest.fixture(scope="module", params=["clap", "fusion", "sentence-transformer", "voiceclap"])
def model(request, tmp_path_factory) -> AudioTextModel:
    folder = tmp_path_factory.mktemp("models") / request.param
    makers = {
        "clap": tiny.clap,
        "fusion": lambda folder: tiny.clap(folder, fusion=True),
        "sentence-transformer": lambda folder: tiny.sentence_transformer(folder, fusion=True),
        "voiceclap": tiny.voiceclap,
    }
    return load_model(str(makers[request.param](folder)), device="cpu")


class Counting(Clap):
    """A model that counts its inputs, and the prepared windows in memory."""

    def __init__(self, real: Clap) -> None:
        super().__init__(**vars(real))
        self.prepared = self.embedded = self.texts = self.max_in_memory = 0
        self.lock = threading.Lock()

    def prepare(self, waveform):
        with self.lock:
            self.prepared += 1
            self.max_in_memory = max(self.max_in_memory, self.prepared - self.embedded)
        return super().prepare(waveform)

    def embed_audio(self, pieces):
        embeddings = super().embed_audio(pieces)
        with self.lock:
            self.embedded += len(pieces)
        return embeddings

    def embed_texts(self, texts):
        self.texts += len(texts)
        return super().embed_texts(texts)


def counting(folder: Path, **flags) -> Counting:
    return Counting(load_clap(str(folder), device="cpu", **flags))


def make_scorer(model: AudioTextModel, *settings: int, **further: int) -> InProcessScorer:
    """A scorer with an empty embedding cache."""
    return InProcessScorer(model, EmbeddingCache(Path(mkdtemp(dir=STORES.name))), *settings, **further)


def voice(seconds: float, pitch: float, rate: int = 48_000) -> np.ndarray:
    """A rising harmonic tone with noise."""
    t = np.arange(int(seconds * rate)) / rate
    breath = np.random.default_rng(int(pitch)).normal(scale=0.02, size=len(t))
    return (0.3 * np.sin(2 * np.pi * pitch * t * (1 + t / 10)) + breath).astype(np.float32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    """Nine clips: shorter than, as long as and longer than the window; some of equal length."""
    root = tmp_path_factory.mktemp("clips")
    lengths = [0.5, 2.0, 5.0, 1.0, 1.0, 3.3, 2.0, 0.7, 1.0]
    for i, seconds in enumerate(lengths):
        soundfile.write(root / f"clip_{i}.wav", voice(seconds, 100 + 90 * i), 48_000)
    return sorted(root.iterdir())


def make_pairs(clips: list[Path], texts: tuple[str, ...] = TEXTS) -> list[ClipTextPair]:
    return [ClipTextPair(clip, clip.name, clip.stem, text) for clip in clips for text in texts]


def similarities(scorer: InProcessScorer, pairs: list[ClipTextPair]) -> dict[tuple[str, str], float]:
    """{(clip, sentence): similarity}; checks that every pair has one score and no error."""
    scores = list(scorer(pairs))
    assert sorted(i for i, _ in scores) == list(range(len(pairs)))
    assert not {score.error for _, score in scores} - {""}
    return {(pairs[i].stem, pairs[i].text): score.similarity for i, score in scores}


def errors_by_clip(scorer: InProcessScorer, pairs: list[ClipTextPair]) -> dict[str, set[str]]:
    """{clip: errors of its scores}"""
    errors: dict[str, set[str]] = {}
    for i, score in scorer(pairs):
        assert (score.similarity is None) == bool(score.error)
        assert score.similarity is None or np.isfinite(score.similarity)
        errors.setdefault(pairs[i].clip.name, set()).add(score.error)
    return errors


def test_score_is_cosine_of_embeddings(folder, clips):
    model = load_clap(str(folder), device="cpu")
    waveform, _ = soundfile.read(clips[1], dtype="float32")
    audio, text = model.embed_audio([model.prepare(waveform)])[0], model.embed_texts(["calm"])[0]
    expected = audio @ text / np.linalg.norm(audio) / np.linalg.norm(text)
    (score,) = dict(make_scorer(model)(make_pairs([clips[1]], ("calm",)))).values()
    assert score.similarity == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_score_does_not_depend_on_order_or_batch(model, clips):
    reference = similarities(make_scorer(model, batch_size=1), make_pairs(clips))
    assert len({round(score, 4) for score in reference.values()}) > 20
    rng = np.random.default_rng(0)
    for batch_size, decoder_threads in [(2, 1), (16, 4)]:
        pairs = make_pairs(clips)
        rng.shuffle(pairs)
        assert similarities(make_scorer(model, batch_size, decoder_threads), pairs) == pytest.approx(
            reference, abs=1e-5
        )
    assert similarities(make_scorer(model), make_pairs(clips[4:5], TEXTS[:1])) == pytest.approx(
        {key: reference[key] for key in [(clips[4].stem, TEXTS[0])]}, abs=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4])
def test_run_is_bit_reproducible(model, clips, batch_size):
    pairs = make_pairs(clips[1:6])
    first = similarities(make_scorer(model, batch_size, decoder_threads=3), pairs)
    assert similarities(make_scorer(model, batch_size, decoder_threads=1), pairs) == first


@pytest.mark.slow
def test_long_clip_is_mean_of_windows(tmp_path):
    model = load_clap(str(tiny.clap(tmp_path / "model", seconds=10)), device="cpu")
    soundfile.write(tmp_path / "long.wav", waveform := voice(25, 90, 16_000), 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "first.wav", waveform[: 25 * 16_000 // 3], 16_000, subtype="FLOAT")
    runs = [similarities(make_scorer(model), make_pairs([tmp_path / "long.wav"])) for _ in range(2)]
    assert runs[0] == runs[1]
    first = similarities(make_scorer(model), make_pairs([tmp_path / "first.wav"]))
    assert abs(runs[0]["long", "calm"] - first["first", "calm"]) > 1e-4

    from earmark.audio.decode import read_audio

    pieces = split_into_windows(read_audio(tmp_path / "long.wav", 48_000), 48_000, 10)
    assert [len(piece) for piece in pieces] == [400_000] * 3
    unit_vectors = [vector / np.linalg.norm(vector) for vector in model.embed_audio([model.prepare(p) for p in pieces])]
    mean, text = np.mean(unit_vectors, axis=0), model.embed_texts(["calm"])[0]
    expected = mean @ text / np.linalg.norm(mean) / np.linalg.norm(text)
    assert runs[0]["long", "calm"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_score_does_not_depend_on_sample_rate_or_channels(model, tmp_path):
    sound = voice(1.5, 200, 8_000)
    sound -= sound.mean()
    soundfile.write(tmp_path / "a_8k.wav", sound, 8_000, subtype="FLOAT")
    soundfile.write(tmp_path / "b_8k_stereo.wav", np.column_stack([sound, sound]), 8_000, subtype="FLOAT")
    soundfile.write(tmp_path / "c_48k.wav", voice(1.5, 200, 48_000), 48_000, subtype="FLOAT")
    by_pair = similarities(make_scorer(model), make_pairs(sorted(tmp_path.glob("*.wav"))))
    for text in TEXTS:
        assert by_pair["b_8k_stereo", text] == pytest.approx(by_pair["a_8k", text], abs=1e-5)
        assert -1 <= by_pair["c_48k", text] <= 1


def test_invalid_clips_fail_alone(model, clips, tmp_path):
    soundfile.write(tmp_path / "whole.wav", voice(1, 150), 48_000)
    content = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "truncated.wav").write_bytes(content[: len(content) // 3])
    (tmp_path / "prose.mp3").write_text("not audio at all", encoding="ascii")
    soundfile.write(tmp_path / "silent.wav", np.zeros(48_000), 48_000)
    soundfile.write(tmp_path / "nan.wav", np.full(4_800, np.nan), 48_000, subtype="FLOAT")
    bad = [tmp_path / name for name in ("truncated.wav", "prose.mp3", "silent.wav", "nan.wav", "absent.wav")]
    mixed = [clips[0], *bad[:3], clips[1], clips[2], *bad[3:]]
    errors_of = errors_by_clip(make_scorer(model, batch_size=2), make_pairs(mixed))
    assert {name for name, errors in errors_of.items() if errors == {""}} == {clip.name for clip in clips[:3]}
    for name, words in [
        ("truncated.wav", "ends after"),
        ("prose.mp3", "is not audio"),
        ("silent.wav", "is silent"),
        ("nan.wav", "not finite"),
        ("absent.wav", "file not found"),
    ]:
        (error,) = errors_of[name]
        assert error.startswith(f"{name}: ")
        assert words in error
        assert str(tmp_path) not in error


def test_non_finite_embedding_is_error_of_its_clip(folder, clips):
    model = load_clap(str(folder), device="cpu")
    with torch.no_grad():
        model.network.audio_projection.linear2.bias.fill_(float("nan"))
    errors = errors_by_clip(make_scorer(model), make_pairs(clips[:2]))
    assert errors == {clip.name: {f"{clip.name}: the embedding is not finite"} for clip in clips[:2]}


@pytest.mark.slow
def test_each_clip_and_sentence_is_embedded_once(folder, clips):
    model = counting(folder, max_seconds=0.25)
    texts = tuple(f"sentence number {i}" for i in range(30))
    pairs = make_pairs(clips, texts)
    assert len(similarities(make_scorer(model, batch_size=2, decoder_threads=2), pairs)) == 270
    assert model.texts == 30
    assert model.prepared == model.embedded == 2 + 8 + 20 + 4 + 4 + 14 + 8 + 3 + 4
    assert model.max_in_memory <= max_in_memory(2, 2, longest=20)


def max_in_memory(batch_size: int, decoder_threads: int, longest: int) -> int:
    """The bound that the cache documents, for clips of at most `longest` windows."""
    return decoder_threads + 3 * batch_size + (decoder_threads + 1) * (longest - 1)


@pytest.mark.slow
def test_prepared_windows_in_memory_are_bounded(folder, tmp_path):
    for i in range(40):
        soundfile.write(tmp_path / f"{i:02d}.wav", voice(1.25, 100 + i, 16_000), 16_000)
    model = counting(folder, max_seconds=0.25)
    similarities(make_scorer(model, 4, 2), make_pairs(sorted(tmp_path.glob("*.wav")), ("calm",)))
    assert model.prepared == 200
    assert 4 < model.max_in_memory <= max_in_memory(4, 2, longest=5)


def test_second_run_reads_embedding_cache(folder, clips, tmp_path):
    first, second = counting(folder), counting(folder)
    expected = similarities(InProcessScorer(first, EmbeddingCache(tmp_path)), make_pairs(clips))
    assert similarities(InProcessScorer(second, EmbeddingCache(tmp_path)), make_pairs(clips)) == expected
    assert (first.embedded, first.texts) == (12, 4)
    assert (second.prepared, second.embedded, second.texts) == (0, 0, 0)


@pytest.mark.slow
def test_cache_separates_windows_and_checkpoints(folder, clips, tmp_path):
    other = tiny.clap(tmp_path / "other", seed=1)
    models = [counting(folder), counting(folder, max_seconds=0.25), counting(other), counting(folder, dtype="bfloat16")]
    for model in models:
        similarities(InProcessScorer(model, EmbeddingCache(tmp_path / "store")), make_pairs(clips[:2]))
        assert model.embedded > 0 and model.texts == 4


@pytest.mark.slow
def test_identical_embeddings_are_an_error(folder, clips):
    model = load_clap(str(folder), device="cpu")
    with torch.no_grad():
        last = model.network.audio_projection.linear2
        last.weight.fill_(0)
        last.bias.copy_(torch.arange(len(last.bias)))
    with pytest.raises(EmbeddingError, match="all 9 clips have identical embeddings"):
        list(make_scorer(model)(make_pairs(clips)))


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "decoder_threads"), [(1, 1), (1, 5), (7, 1)])
def test_batches_and_threads_do_not_deadlock(folder, clips, batch_size, decoder_threads):
    model = counting(folder, max_seconds=0.4)
    similarities(make_scorer(model, batch_size, decoder_threads), make_pairs(clips, ("calm",)))
    assert model.max_in_memory <= max_in_memory(batch_size, decoder_threads, longest=13)


def test_scores_are_yielded_per_batch(folder, clips):
    model = counting(folder)
    scores: Iterator[tuple[int, Score]] = make_scorer(model, batch_size=1, decoder_threads=1)(make_pairs(clips))
    next(scores)
    # One batch of one clip may run ahead, while the first score is used.
    assert 1 <= model.embedded <= 2
    scores.close()


def test_closing_early_ends_threads(folder, clips):
    before = threading.active_count()
    scores = make_scorer(counting(folder, max_seconds=0.1), batch_size=1)(make_pairs(clips))
    next(scores)
    started = time.monotonic()
    scores.close()
    assert time.monotonic() - started < 2
    assert threading.active_count() <= before


def test_keyboard_interrupt_ends_threads(folder, clips):
    class Interrupted(Counting):
        def embed_audio(self, pieces):
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        list(make_scorer(Interrupted(load_clap(str(folder), device="cpu")))(make_pairs(clips)))
    assert threading.active_count() <= before


@pytest.mark.slow
def test_out_of_memory_reduces_batch_size(folder, clips):
    class Small(Counting):
        sizes: tuple[int, ...] = ()

        def embed_audio(self, pieces):
            self.sizes += (len(pieces),)
            if len(pieces) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return super().embed_audio(pieces)

    model = Small(load_clap(str(folder), device="cpu"))
    reference = similarities(make_scorer(load_clap(str(folder), device="cpu"), batch_size=1), make_pairs(clips))
    assert similarities(make_scorer(model, batch_size=8), make_pairs(clips)) == pytest.approx(reference, abs=1e-5)
    assert model.sizes[:3] == (8, 4, 2)
    assert set(model.sizes[2:]) <= {1, 2}  # the reduced batch size is kept


@pytest.mark.slow
def test_window_that_fails_to_embed_fails_alone(folder, clips):
    class Picky(Counting):
        def embed_audio(self, pieces):
            if any(piece.flat[0] == -1 for piece in pieces):
                raise RuntimeError("Kernel size can't be greater than actual input size\nat C++ line 1")
            return super().embed_audio(pieces)

        def prepare(self, waveform):
            prepared = super().prepare(waveform)
            if len(waveform) == int(0.7 * 48_000):
                prepared.flat[0] = -1
            return prepared

    errors = errors_by_clip(make_scorer(Picky(load_clap(str(folder), device="cpu"))), make_pairs(clips))
    (error,) = errors.pop("clip_7.wav")
    assert error == "clip_7.wav: the model failed (Kernel size can't be greater than actual input size)"
    assert set.union(*errors.values()) == {""}


def test_clip_that_fails_to_prepare_fails_alone(folder, clips):
    class Picky(Counting):
        def prepare(self, waveform):
            if len(waveform) == int(0.7 * 48_000):
                raise TypeError("no such length")
            return super().prepare(waveform)

    errors = errors_by_clip(make_scorer(Picky(load_clap(str(folder), device="cpu"))), make_pairs(clips))
    assert errors.pop("clip_7.wav") == {"clip_7.wav: cannot be prepared for the model (no such length)"}
    assert set.union(*errors.values()) == {""}


def test_scorer_without_pairs(folder):
    assert list(make_scorer(load_clap(str(folder), device="cpu"))([])) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here")
def test_gpu_scores_equal_cpu_scores(folder, clips):
    expected = similarities(make_scorer(load_clap(str(folder), device="cpu")), make_pairs(clips))
    actual = similarities(make_scorer(load_clap(str(folder), device="cuda")), make_pairs(clips))
    assert actual == pytest.approx(expected, abs=5e-3)
