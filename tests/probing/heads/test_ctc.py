import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.metrics.word_error_rate import word_errors
from earmark.probing.heads.batched import schedule, seeded_generator
from earmark.probing.heads.ctc import Utterances, frames_needed, greedy_decode, train_ctc
from earmark.probing.heads.optimise import TrainingConfig, train_with_selection

torch = pytest.importorskip("torch")

ALPHABET = " abcd"
WIDTH = 12
CODES = np.random.default_rng(7).normal(size=(len(ALPHABET) + 1, WIDTH))  # one per character, and silence


def frames_of(text, rng, noise=0.1):
    """Frames of a text: 1 to 3 per character, each followed by 1 or 2 of silence."""
    codes = [code for c in text for code in [ALPHABET.index(c)] * rng.integers(1, 4) + [-1] * rng.integers(1, 3)]
    return (CODES[codes or [-1]] + noise * rng.normal(size=(len(codes) or 1, WIDTH))).astype(np.float32)


def corpus(n, seed, noise=0.1, **more):
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcd"), size=rng.integers(1, 4))) for _ in range(30)]
    texts = [" ".join(rng.choice(words, size=rng.integers(1, 5))) for _ in range(n)]
    return Utterances([frames_of(text, rng, noise) for text in texts], texts, **more)


CONFIG = TrainingConfig(epochs=8, batch_size=8, learning_rate=3e-2)


def test_ctc_learns_clean_characters():
    train, valid, test = corpus(80, 0), corpus(10, 1), corpus(20, 2)
    result = train_ctc(train, valid, test, CONFIG)
    assert result.score > 0.95
    assert result.errors.tolist() == word_errors(test.transcripts, result.hypotheses).tolist()
    assert result.history.losses[-1] < result.history.losses[0] / 5
    assert result.characters == ALPHABET
    assert result.history.best_score == max(result.history.valid_scores)
    assert result.history.best_epoch == result.history.valid_scores.index(result.history.best_score)


def test_ctc_scores_low_on_noise():
    rng = np.random.default_rng(0)
    noise_only = [
        Utterances([rng.normal(size=f.shape) for f in c.frames], c.transcripts)
        for c in map(corpus, (40, 9, 9), (0, 1, 2))
    ]
    assert train_ctc(*noise_only, CONFIG).score < 0.2


def test_ctc_loss_matches_torch_modules():
    """One epoch of one batch: the mean loss before any step, from torch.nn with the same first parameters."""
    train = corpus(5, 0)
    result = train_ctc(train, train, train, TrainingConfig(epochs=1, batch_size=5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded_generator(0, 0).initial_seed())
        norm, linear = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, 1 + len(result.characters))
    losses = [
        torch.nn.CTCLoss()(
            linear(norm(torch.as_tensor(frames))).log_softmax(1)[:, None],
            torch.tensor([[1 + result.characters.index(c) for c in text]]),
            torch.tensor([len(frames)]),
            torch.tensor([len(text)]),
        ).item()
        for frames, text in zip(train.frames, train.transcripts, strict=True)
    ]
    assert result.history.losses[0] == pytest.approx(np.mean(losses), rel=1e-5)


def test_same_seed_gives_identical_head():
    splits = corpus(20, 0), corpus(5, 1), corpus(5, 2)
    first, repeated, other = (train_ctc(*splits, CONFIG, seed=seed) for seed in (0, 0, 1))
    assert first.history == repeated.history
    assert all(np.array_equal(first.parameters[name], repeated.parameters[name]) for name in first.parameters)
    assert first.history != other.history


def test_hypotheses_are_independent_of_other_utterances():
    train, valid, test = corpus(20, 0), corpus(5, 1), corpus(6, 2)
    together = train_ctc(train, valid, test, CONFIG).hypotheses
    alone = [
        train_ctc(train, valid, Utterances([test.frames[i]], [test.transcripts[i]]), CONFIG).hypotheses[0]
        for i in range(len(test))
    ]
    assert together == alone


def test_training_ignores_test_transcripts():
    train, valid, test = corpus(20, 0), corpus(5, 1), corpus(6, 2)
    silent = Utterances(test.frames, ["" for _ in test.frames])
    assert train_ctc(train, valid, test, CONFIG).history == train_ctc(train, valid, silent, CONFIG).history


def test_transcripts_too_long_for_frames_are_excluded_from_training():
    good = corpus(20, 0)
    short = [np.zeros((3, WIDTH), np.float32)] * 2
    names = [*(f"good-{i}" for i in range(20)), "fits", "misfit"]
    train = Utterances([*good.frames, *short], [*good.transcripts, "abc", "aab"], names)
    test = Utterances(short[:1], ["abcdabcd"])
    result = train_ctc(train, corpus(5, 1), test, CONFIG)
    assert result.excluded == ("misfit",)
    assert np.isfinite(result.history.losses).all()
    assert len(result.hypotheses) == 1
    with pytest.raises(ValueError, match=r"all training utterances have too few frames for their transcripts: misfit"):
        train_ctc(Utterances(short[:1], ["aab"], ["misfit"]), good, good, CONFIG)


def test_unknown_reference_characters_count_as_errors():
    train = corpus(20, 0)
    assert train_ctc(train, train, Utterances(train.frames[:1], ["žž"]), CONFIG).score == 0.0


def test_greedy_decode_by_hand():
    path = [0, 1, 1, 0, 1, 2, 2, 3, 3, 0, 0, 2]  # a, a after a blank, b, space, b
    assert greedy_decode(np.eye(4)[path], "ab ") == "aab b"
    assert greedy_decode(np.eye(4)[[0, 0]], "ab ") == ""
    assert greedy_decode(np.eye(4)[[3, 1, 3, 0, 3]], "ab ") == "a"


@given(st.text("ab", max_size=4), st.integers(0, 5))
def test_frames_needed_is_shortest_path(text, frames):
    paths = itertools.product(range(3), repeat=frames)
    readable = any(greedy_decode(np.eye(3)[list(path)].reshape(-1, 3), "ab") == text for path in paths)
    assert readable == (frames_needed(text) <= frames)


def test_training_restores_earliest_best_epoch_and_follows_schedule():
    weight = {"w": torch.zeros(1)}
    scores = iter([0.1, 0.5, float("nan"), 0.5, 0.2])
    weights = []

    def score():
        weights.append(weight["w"].item())
        return next(scores)

    history = train_with_selection(
        weight, TrainingConfig(5, 4, 0.1), 4, seeded_generator(0, 0), lambda batch: -weight["w"].sum(), score
    )
    assert history.best_epoch == 1
    assert weight["w"].item() == weights[1]
    # Adam moves by its rate where the gradient is constant.
    assert np.diff(weights, prepend=0.0) == pytest.approx([0.1 * schedule(e, 5) for e in range(5)], rel=1e-4)


def test_training_restores_last_best_epoch_on_request():
    weight, scores = {"w": torch.zeros(1)}, iter([0.1, 0.5, float("nan"), 0.5, 0.2])
    config = TrainingConfig(5, 4, 0.1, most_trained_on_ties=True)
    history = train_with_selection(
        weight, config, 4, seeded_generator(0, 0), lambda batch: -weight["w"].sum(), lambda: next(scores)
    )
    assert history.best_epoch == 3
    assert weight["w"].item() == pytest.approx(sum(0.1 * schedule(e, 5) for e in range(4)), rel=1e-4)


def test_training_without_finite_epoch():
    weight = {"w": torch.ones(1)}
    with pytest.raises(ValueError, match=r"learning rate 0\.1 too high"):
        train_with_selection(
            weight,
            TrainingConfig(2, 1, 0.1),
            2,
            seeded_generator(0, 0),
            lambda b: weight["w"].sum() * np.nan,
            lambda: 1.0,
        )


@pytest.mark.parametrize(
    ("frames", "transcripts", "match"),
    [
        ([np.ones((2, 3))], ["a", "b"], "must be equal in number"),
        ([np.ones((0, 3))], ["a"], "utterance 0: frames have shape"),
        ([np.ones((2, 3)), np.ones((2, 4))], ["a", "b"], r"utterance 1: frames have shape \(2, 4\), expected \(n, 3\)"),
        ([np.ones(3)], ["a"], r"frames have shape \(3,\)"),
    ],
)
def test_utterances_reject_invalid_frames(frames, transcripts, match):
    with pytest.raises(ValueError, match=match):
        Utterances(frames, transcripts)


def test_train_ctc_rejects_invalid_sets_and_config():
    good, empty, wide = corpus(3, 0), Utterances([], []), Utterances([np.ones((9, 2))], ["a"])
    with pytest.raises(ValueError, match="training set has no utterances"):
        train_ctc(empty, good, good, CONFIG)
    with pytest.raises(ValueError, match="test set has no utterances"):
        train_ctc(good, good, empty, CONFIG)
    with pytest.raises(ValueError, match="same dimension"):
        train_ctc(good, good, wide, CONFIG)
    with pytest.raises(ValueError, match="transcripts are empty"):
        train_ctc(Utterances(good.frames, ["", " ", ""]), good, good, CONFIG)
    with pytest.raises(ValueError, match="utterance x: frames are not finite"):
        train_ctc(Utterances([np.full((9, WIDTH), np.nan)], ["a"], ["x"]), good, good, CONFIG)
    with pytest.raises(ValueError, match="must be above 0"):
        TrainingConfig(epochs=0)
