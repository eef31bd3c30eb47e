"""The in-process scorer with real (tiny, random) models: clips alone and in company, long, broken, silent."""

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
    """A real model that counts what it is asked, and how many prepared pieces exist."""

    def __init__(self, real: Clap) -> None:
        super().__init__(**vars(real))
        self.prepared = self.embedded = self.texts = self.most_alive = 0
        self.lock = threading.Lock()

    def prepare(self, waveform):
        with self.lock:
            self.prepared += 1
            self.most_alive = max(self.most_alive, self.prepared - self.embedded)
        return super().prepare(waveform)

    def embed_audio(self, pieces):
        found = super().embed_audio(pieces)
        with self.lock:
            self.embedded += len(pieces)
        return found

    def embed_texts(self, texts):
        self.texts += len(texts)
        return super().embed_texts(texts)


def counting(folder: Path, **flags) -> Counting:
    return Counting(load_clap(str(folder), device="cpu", **flags))


def scorer(model: AudioTextModel, *settings: int, **further: int) -> InProcessScorer:
    """With an empty store of its own."""
    return InProcessScorer(model, EmbeddingCache(Path(mkdtemp(dir=STORES.name))), *settings, **further)


def voice(seconds: float, pitch: float, rate: int = 48_000) -> np.ndarray:
    """A hum with some breath, at a pitch that rises."""
    t = np.arange(int(seconds * rate)) / rate
    breath = np.random.default_rng(int(pitch)).normal(scale=0.02, size=len(t))
    return (0.3 * np.sin(2 * np.pi * pitch * t * (1 + t / 10)) + breath).astype(np.float32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    """Nine clips: short, as long as the window, longer; some of one length."""
    root = tmp_path_factory.mktemp("clips")
    lengths = [0.5, 2.0, 5.0, 1.0, 1.0, 3.3, 2.0, 0.7, 1.0]
    for i, seconds in enumerate(lengths):
        soundfile.write(root / f"clip_{i}.wav", voice(seconds, 100 + 90 * i), 48_000)
    return sorted(root.iterdir())


def questions(clips: list[Path], texts: tuple[str, ...] = TEXTS) -> list[ClipTextPair]:
    return [ClipTextPair(clip, clip.name, clip.stem, text) for clip in clips for text in texts]


def scores(scoring: InProcessScorer, asked: list[ClipTextPair]) -> dict[tuple[str, str], float]:
    """{(clip, sentence): similarity}; every question answered once and without an error."""
    answers = list(scoring(asked))
    assert sorted(i for i, _ in answers) == list(range(len(asked)))
    assert not {answer.error for _, answer in answers} - {""}
    return {(asked[i].stem, asked[i].text): answer.similarity for i, answer in answers}


def by_clip(scoring: InProcessScorer, asked: list[ClipTextPair]) -> dict[str, set[str]]:
    """{clip: the errors of its answers}"""
    found: dict[str, set[str]] = {}
    for i, answer in scoring(asked):
        assert (answer.similarity is None) == bool(answer.error)
        assert answer.similarity is None or np.isfinite(answer.similarity)
        found.setdefault(asked[i].clip.name, set()).add(answer.error)
    return found


def test_a_score_is_the_cosine_of_the_two_embeddings(folder, clips):
    model = load_clap(str(folder), device="cpu")
    waveform, _ = soundfile.read(clips[1], dtype="float32")
    audio, text = model.embed_audio([model.prepare(waveform)])[0], model.embed_texts(["calm"])[0]
    expected = audio @ text / np.linalg.norm(audio) / np.linalg.norm(text)
    (answer,) = dict(scorer(model)(questions([clips[1]], ("calm",)))).values()
    assert answer.similarity == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_a_score_depends_on_neither_order_nor_batches_nor_neighbours(model, clips):
    reference = scores(scorer(model, batch_size=1), questions(clips))
    assert len({round(score, 4) for score in reference.values()}) > 20
    rng = np.random.default_rng(0)
    for batch_size, decoders in [(2, 1), (16, 4)]:
        asked = questions(clips)
        rng.shuffle(asked)
        assert scores(scorer(model, batch_size, decoders), asked) == pytest.approx(reference, abs=1e-5)
    assert scores(scorer(model), questions(clips[4:5], TEXTS[:1])) == pytest.approx(
        {key: reference[key] for key in [(clips[4].stem, TEXTS[0])]}, abs=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_run_repeats_to_the_last_bit(model, clips, batch_size):
    asked = questions(clips[1:6])
    first = scores(scorer(model, batch_size, decoders=3), asked)
    assert scores(scorer(model, batch_size, decoders=1), asked) == first


@pytest.mark.slow
def test_25_seconds_are_the_mean_of_three_windows_and_the_same_every_time(tmp_path):
    model = load_clap(str(tiny.clap(tmp_path / "model", seconds=10)), device="cpu")
    soundfile.write(tmp_path / "long.wav", waveform := voice(25, 90, 16_000), 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "first.wav", waveform[: 25 * 16_000 // 3], 16_000, subtype="FLOAT")
    runs = [scores(scorer(model), questions([tmp_path / "long.wav"])) for _ in range(2)]
    assert runs[0] == runs[1]
    first = scores(scorer(model), questions([tmp_path / "first.wav"]))
    assert abs(runs[0]["long", "calm"] - first["first", "calm"]) > 1e-4

    from earmark.audio.decode import read_audio

    pieces = split_into_windows(read_audio(tmp_path / "long.wav", 48_000), 48_000, 10)
    assert [len(piece) for piece in pieces] == [400_000] * 3
    heard = [vector / np.linalg.norm(vector) for vector in model.embed_audio([model.prepare(p) for p in pieces])]
    mean, text = np.mean(heard, axis=0), model.embed_texts(["calm"])[0]
    expected = mean @ text / np.linalg.norm(mean) / np.linalg.norm(text)
    assert runs[0]["long", "calm"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_sample_rate_and_channels_of_the_file_hardly_matter(model, tmp_path):
    sound = voice(1.5, 200, 8_000)
    sound -= sound.mean()
    soundfile.write(tmp_path / "a_8k.wav", sound, 8_000, subtype="FLOAT")
    soundfile.write(tmp_path / "b_8k_stereo.wav", np.column_stack([sound, sound]), 8_000, subtype="FLOAT")
    soundfile.write(tmp_path / "c_48k.wav", voice(1.5, 200, 48_000), 48_000, subtype="FLOAT")
    found = scores(scorer(model), questions(sorted(tmp_path.glob("*.wav"))))
    for text in TEXTS:
        assert found["b_8k_stereo", text] == pytest.approx(found["a_8k", text], abs=1e-5)
        assert -1 <= found["c_48k", text] <= 1


def test_broken_clips_fail_alone_and_by_name(model, clips, tmp_path):
    soundfile.write(tmp_path / "whole.wav", voice(1, 150), 48_000)
    content = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "truncated.wav").write_bytes(content[: len(content) // 3])
    (tmp_path / "prose.mp3").write_text("not audio at all", encoding="ascii")
    soundfile.write(tmp_path / "silent.wav", np.zeros(48_000), 48_000)
    soundfile.write(tmp_path / "nan.wav", np.full(4_800, np.nan), 48_000, subtype="FLOAT")
    bad = [tmp_path / name for name in ("truncated.wav", "prose.mp3", "silent.wav", "nan.wav", "absent.wav")]
    mixed = [clips[0], *bad[:3], clips[1], clips[2], *bad[3:]]
    found = by_clip(scorer(model, batch_size=2), questions(mixed))
    assert {name for name, errors in found.items() if errors == {""}} == {clip.name for clip in clips[:3]}
    for name, words in [
        ("truncated.wav", "ends after"),
        ("prose.mp3", "is not audio"),
        ("silent.wav", "is silent"),
        ("nan.wav", "not finite"),
        ("absent.wav", "file not found"),
    ]:
        (error,) = found[name]
        assert error.startswith(f"{name}: ")
        assert words in error
        assert str(tmp_path) not in error


def test_an_embedding_that_is_not_finite_is_an_error_that_names_the_clip(folder, clips):
    model = load_clap(str(folder), device="cpu")
    with torch.no_grad():
        model.network.audio_projection.linear2.bias.fill_(float("nan"))
    found = by_clip(scorer(model), questions(clips[:2]))
    assert found == {clip.name: {f"{clip.name}: the embedding is not finite"} for clip in clips[:2]}


@pytest.mark.slow
def test_work_and_memory_grow_with_clips_plus_sentences_not_with_their_product(folder, clips):
    model = counting(folder, max_seconds=0.25)
    texts = tuple(f"sentence number {i}" for i in range(30))
    asked = questions(clips, texts)
    assert len(scores(scorer(model, batch_size=2, decoders=2), asked)) == 270
    assert model.texts == 30
    assert model.prepared == model.embedded == 2 + 8 + 20 + 4 + 4 + 14 + 8 + 3 + 4
    assert model.most_alive <= most_alive(2, 2, longest=20)


def most_alive(batch_size: int, decoders: int, longest: int) -> int:
    """The bound that the store states, for clips of at most so many windows."""
    return decoders + 3 * batch_size + (decoders + 1) * (longest - 1)


@pytest.mark.slow
def test_prepared_pieces_of_many_clips_are_bounded(folder, tmp_path):
    for i in range(40):
        soundfile.write(tmp_path / f"{i:02d}.wav", voice(1.25, 100 + i, 16_000), 16_000)
    model = counting(folder, max_seconds=0.25)
    scores(scorer(model, 4, 2), questions(sorted(tmp_path.glob("*.wav")), ("calm",)))
    assert model.prepared == 200
    assert 4 < model.most_alive <= most_alive(4, 2, longest=5)


def test_a_second_run_reads_clips_and_sentences_from_the_store(folder, clips, tmp_path):
    first, second = counting(folder), counting(folder)
    expected = scores(InProcessScorer(first, EmbeddingCache(tmp_path)), questions(clips))
    assert scores(InProcessScorer(second, EmbeddingCache(tmp_path)), questions(clips)) == expected
    assert (first.embedded, first.texts) == (12, 4)
    assert (second.prepared, second.embedded, second.texts) == (0, 0, 0)


@pytest.mark.slow
def test_another_window_or_checkpoint_has_embeddings_of_its_own(folder, clips, tmp_path):
    other = tiny.clap(tmp_path / "other", seed=1)
    models = [counting(folder), counting(folder, max_seconds=0.25), counting(other), counting(folder, dtype="bfloat16")]
    for model in models:
        scores(InProcessScorer(model, EmbeddingCache(tmp_path / "store")), questions(clips[:2]))
        assert model.embedded > 0 and model.texts == 4


@pytest.mark.slow
def test_a_model_that_gives_all_clips_one_embedding_is_an_error(folder, clips):
    model = load_clap(str(folder), device="cpu")
    with torch.no_grad():
        last = model.network.audio_projection.linear2
        last.weight.fill_(0)
        last.bias.copy_(torch.arange(len(last.bias)))
    with pytest.raises(EmbeddingError, match="all 9 clips have identical embeddings"):
        list(scorer(model)(questions(clips)))


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "decoders"), [(1, 1), (1, 5), (7, 1)])
def test_no_combination_of_batches_and_threads_waits_for_itself(folder, clips, batch_size, decoders):
    model = counting(folder, max_seconds=0.4)
    scores(scorer(model, batch_size, decoders), questions(clips, ("calm",)))
    assert model.most_alive <= most_alive(batch_size, decoders, longest=13)


def test_answers_come_as_soon_as_the_batch_is_done(folder, clips):
    model = counting(folder)
    answers: Iterator[tuple[int, Score]] = scorer(model, batch_size=1, decoders=1)(questions(clips))
    next(answers)
    assert model.embedded == 1
    answers.close()


def test_closing_early_ends_the_threads_at_once(folder, clips):
    before = threading.active_count()
    answers = scorer(counting(folder, max_seconds=0.1), batch_size=1)(questions(clips))
    next(answers)
    started = time.monotonic()
    answers.close()
    assert time.monotonic() - started < 2
    assert threading.active_count() <= before


def test_ctrl_c_in_the_model_ends_the_threads(folder, clips):
    class Interrupted(Counting):
        def embed_audio(self, pieces):
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        list(scorer(Interrupted(load_clap(str(folder), device="cpu")))(questions(clips)))
    assert threading.active_count() <= before


@pytest.mark.slow
def test_a_gpu_that_is_full_gets_smaller_batches(folder, clips):
    class Small(Counting):
        sizes: tuple[int, ...] = ()

        def embed_audio(self, pieces):
            self.sizes += (len(pieces),)
            if len(pieces) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return super().embed_audio(pieces)

    model = Small(load_clap(str(folder), device="cpu"))
    reference = scores(scorer(load_clap(str(folder), device="cpu"), batch_size=1), questions(clips))
    assert scores(scorer(model, batch_size=8), questions(clips)) == pytest.approx(reference, abs=1e-5)
    assert model.sizes[:3] == (8, 4, 2)
    assert set(model.sizes[2:]) <= {1, 2}  # once small, small from then on


@pytest.mark.slow
def test_a_piece_that_the_model_cannot_take_fails_alone(folder, clips):
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

    found = by_clip(scorer(Picky(load_clap(str(folder), device="cpu"))), questions(clips))
    (error,) = found.pop("clip_7.wav")
    assert error == "clip_7.wav: the model failed (Kernel size can't be greater than actual input size)"
    assert set.union(*found.values()) == {""}


def test_an_extractor_that_fails_on_a_clip_fails_alone(folder, clips):
    class Picky(Counting):
        def prepare(self, waveform):
            if len(waveform) == int(0.7 * 48_000):
                raise TypeError("no such length")
            return super().prepare(waveform)

    found = by_clip(scorer(Picky(load_clap(str(folder), device="cpu"))), questions(clips))
    assert found.pop("clip_7.wav") == {"clip_7.wav: cannot be prepared for the model (no such length)"}
    assert set.union(*found.values()) == {""}


def test_no_question_has_no_answer(folder):
    assert list(scorer(load_clap(str(folder), device="cpu"))([])) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here")
def test_a_gpu_scores_as_the_cpu_does(folder, clips):
    expected = scores(scorer(load_clap(str(folder), device="cpu")), questions(clips))
    found = scores(scorer(load_clap(str(folder), device="cuda")), questions(clips))
    assert found == pytest.approx(expected, abs=5e-3)
