import json

import numpy as np
import pytest

from earmark.errors import MissingError
from earmark.metrics.retrieval import retrieval_metrics
from earmark.probing.heads import retrieval as module
from earmark.probing.heads.batched import seeded_generator
from earmark.probing.heads.optimise import TrainingConfig
from earmark.probing.heads.retrieval import CaptionedClips, WordTokenizer, train_retrieval

torch = pytest.importorskip("torch")

ANIMALS = ["dog", "cat", "bird", "cow", "frog", "bee"]
PLACES = ["street", "forest", "room", "river", "barn"]
WIDTH = 16
CODES = np.random.default_rng(5).normal(size=(len(ANIMALS) + len(PLACES), WIDTH))
CONFIG = TrainingConfig(epochs=4, batch_size=16, learning_rate=1e-3)


def clips(seed, n=30, noise=0.1, captions=3):
    """Distinct scenes, each an animal in a place, with captions that name both."""
    rng = np.random.default_rng(seed)
    scenes = rng.permutation(len(ANIMALS) * len(PLACES))[:n]
    animal, place = scenes % len(ANIMALS), scenes // len(ANIMALS)
    x = CODES[animal] + CODES[len(ANIMALS) + place] + noise * rng.normal(size=(n, WIDTH))
    templates = ["A {} in a {}.", "In the {1}: {0}!", "one {} and its {}", "{} {}"][:captions]
    texts = [
        [template.format(ANIMALS[a], PLACES[p]) for template in templates] for a, p in zip(animal, place, strict=True)
    ]
    return CaptionedClips(x.astype(np.float32), texts)


@pytest.fixture(scope="module")
def retrieved():
    return train_retrieval(clips(0), clips(1), clips(2), TrainingConfig(15, 16, 1e-3))


def test_retrieval_learns_scenes(retrieved):
    assert retrieved.metrics["mean_r1"] > 0.9
    assert retrieved.metrics == retrieval_metrics(retrieved.similarity, retrieved.clip)
    assert retrieved.history.losses[-1] < retrieved.history.losses[0] / 3
    assert retrieved.history.best_epoch == retrieved.history.valid_scores.index(max(retrieved.history.valid_scores))
    assert np.linalg.norm(retrieved.audio, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(retrieved.text, axis=1) == pytest.approx(1, abs=1e-5)
    assert retrieved.audio.shape == (30, 1024) and retrieved.text.shape == (90, 1024)
    assert retrieved.clip.tolist() == np.repeat(np.arange(30), 3).tolist()


def test_retrieval_scores_low_on_unrelated_clips():
    splits = [CaptionedClips(np.random.default_rng(i).normal(size=(30, WIDTH)), clips(i).captions) for i in range(3)]
    assert train_retrieval(*splits, CONFIG).metrics["mean_r1"] < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("n", [25, 30])
def test_identical_clips_are_not_retrieved(n):
    """Blocked products may differ in the last bits for equal columns; rounding restores the ties."""
    splits = [CaptionedClips(np.ones((n, WIDTH)), clips(i, n=n, captions=4).captions) for i in range(3)]
    retrieved = train_retrieval(*splits, CONFIG)
    assert retrieved.metrics["text_to_audio_r1"] == 0
    assert max(retrieved.history.valid_scores) <= 1 / (
        2 * n
    )  # all clips retrieve the same caption, which belongs to one clip
    same_captions = CaptionedClips(clips(2).embeddings, [["A dog in a street.", "the river"]] * 30)
    result = train_retrieval(clips(0), clips(1), same_captions, CONFIG)
    assert (result.similarity == result.similarity[:, :1])[:, ::2].all() and result.metrics["audio_to_text_r1"] == 0


def test_towers_and_loss_match_torch_modules():
    """One epoch of one batch, one caption a clip, against torch.nn with the same first parameters."""
    train = clips(0, n=8, captions=1)
    retrieved = train_retrieval(train, train, train, TrainingConfig(1, 8, 1e-12))
    first = {name: torch.as_tensor(value) for name, value in retrieved.parameters.items()}
    audio = torch.nn.Sequential(
        torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 1024)
    )
    text = torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 1024))
    names = [f"{tower}_{i}.{part}" for tower in ("audio", "text") for i in (1, 2) for part in ("weight", "bias")]
    with torch.no_grad():
        for value, name in zip([*audio[1:].parameters(), *text.parameters()], names, strict=True):
            value.copy_(first[name])
        words = WordTokenizer(train.texts)
        a = torch.nn.functional.normalize(audio(torch.as_tensor(train.embeddings)))
        means = torch.stack([text(first["tokens"][words.tokens(caption)]).mean(0) for caption in train.texts])
        b = torch.nn.functional.normalize(means)
        logits = a @ b.T / 0.07
        diagonal = torch.arange(8)
        loss = (
            torch.nn.functional.cross_entropy(logits, diagonal) + torch.nn.functional.cross_entropy(logits.T, diagonal)
        ) / 2
    assert retrieved.audio == pytest.approx(a.numpy(), abs=1e-5)
    assert retrieved.text == pytest.approx(b.numpy(), abs=1e-5)
    assert retrieved.history.losses[0] == pytest.approx(loss.item(), rel=1e-4)


def test_initial_parameters_match_torch():
    fresh = module._initial_towers(WIDTH, 9, seeded_generator(0, 0), "cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded_generator(0, 0).initial_seed())
        linear = torch.nn.Linear(WIDTH, 1024)
    assert torch.equal(fresh["audio_1.weight"], linear.weight) and torch.equal(fresh["audio_1.bias"], linear.bias)
    assert fresh["log_scale"].exp().item() == pytest.approx(1 / 0.07)
    assert fresh["tokens"].std().item() == pytest.approx(1, abs=0.05)


def test_same_seed_gives_identical_towers():
    splits = clips(0), clips(1), clips(2)
    first, repeated, other = (train_retrieval(*splits, TrainingConfig(2, 16, 1e-3), seed=seed) for seed in (0, 0, 1))
    assert first.history == repeated.history
    assert np.array_equal(first.audio, repeated.audio) and np.array_equal(first.text, repeated.text)
    assert first.history.losses != other.history.losses


def test_training_ignores_test_set():
    train, valid, test = clips(0), clips(1), clips(2)
    other = CaptionedClips(-test.embeddings[:4], [["something else entirely"]] * 4)
    first, second = (train_retrieval(train, valid, end, TrainingConfig(2, 16, 1e-3)) for end in (test, other))
    assert first.history == second.history
    assert np.array_equal(first.parameters["tokens"], second.parameters["tokens"])


@pytest.mark.slow
def test_test_embeddings_independent_of_other_clips(monkeypatch, retrieved):
    test = clips(2)
    few = CaptionedClips(test.embeddings[7:9], test.captions[7:9])
    monkeypatch.setattr(module, "EMBEDDING_BATCH", 1)
    alone = train_retrieval(clips(0), clips(1), few, TrainingConfig(15, 16, 1e-3))
    assert alone.audio == pytest.approx(retrieved.audio[7:9], abs=1e-5)
    assert alone.text == pytest.approx(retrieved.text[21:27], abs=1e-5)


def test_temperature_is_at_least_0_01(monkeypatch):
    monkeypatch.setattr(module, "INITIAL_TEMPERATURE", 1e-4)
    train = clips(0)
    retrieved = train_retrieval(train, train, train, TrainingConfig(1, 30, 1e-3))
    # The scale is clamped before each step, and the length of Adam's first step is the learning rate.
    assert retrieved.parameters["log_scale"] == pytest.approx(np.log(100), abs=1.1e-3)


@pytest.mark.slow
def test_all_captions_of_a_clip_are_used():
    """Two captions without common words: both are retrieved, so both were drawn."""
    x = np.eye(12, WIDTH, dtype=np.float32) * 4
    own = CaptionedClips(x, [[f"left{i}", f"right{i}"] for i in range(12)])
    retrieved = train_retrieval(own, own, own, TrainingConfig(20, 12, 1e-3))
    assert retrieved.metrics["text_to_audio_r1"] == 1.0


def test_word_tokenizer_by_hand():
    words = WordTokenizer(["The dog, the dog", "a DOG's bone", "the end"])
    assert words.size == 7  # the, dog, a, dogs, bone, end, and token 0
    assert words.tokens("The dog!") == [1, 2]
    assert words.tokens("unheard dog") == [2]
    assert words.tokens("unheard") == words.tokens("") == [0]


def test_saved_tokenizer_is_used_and_described(tmp_path):
    pytest.importorskip("transformers", reason="the extra `clap` is not installed")
    from tests.models.tiny import tokenizer

    folder = tmp_path / "letters"
    tokenizer().save_pretrained(folder)
    retrieved = train_retrieval(clips(0), clips(1), clips(2), TrainingConfig(1, 16, 1e-3), tokenizer=folder)
    assert retrieved.tokenizer == {"tokenizer": "letters", "tokens": 261}
    assert retrieved.parameters["tokens"].shape == (261, 1024)
    with pytest.raises(MissingError, match="no such folder"):
        train_retrieval(clips(0), clips(1), clips(2), CONFIG, tokenizer=tmp_path / "none")
    (folder / "tokenizer.json").write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(MissingError, match="letters: cannot be loaded as a tokenizer"):
        train_retrieval(clips(0), clips(1), clips(2), CONFIG, tokenizer=folder)


def test_retrieval_rejects_invalid_input():
    good = clips(0)
    with pytest.raises(ValueError, match="row 1 of the embeddings is not finite"):
        CaptionedClips(np.array([[1.0], [np.nan]]), [["a"], ["b"]])
    with pytest.raises(ValueError, match="clip 1 has no list of captions"):
        CaptionedClips(np.ones((2, 1)), [["a"], []])
    with pytest.raises(ValueError, match="clip 0 has no list of captions"):
        CaptionedClips(np.ones((1, 1)), ["a caption, not a list"])
    with pytest.raises(ValueError, match=r"embeddings have shape \(2, 1\), expected \(1, d\) for 1 clips"):
        CaptionedClips(np.ones((2, 1)), [["a"]])
    with pytest.raises(ValueError, match="at least two training clips"):
        train_retrieval(clips(0, n=1), good, good, CONFIG)
    with pytest.raises(ValueError, match="same dimension"):
        train_retrieval(good, good, CaptionedClips(np.ones((1, 3)), [["a"]]), CONFIG)
