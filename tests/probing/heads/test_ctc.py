import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.metrics.word_error_rate import word_errors
from earmark.probing.heads.batched import schedule, seeded_generator
from earmark.probing.heads.ctc import Utterances, frames_needed, greedy_text, train_ctc
from earmark.probing.heads.optimise import TrainingConfig, fit

torch = pytest.importorskip("torch")

ALPHABET = " abcd"
WIDTH = 12
CODES = np.random.default_rng(7).normal(size=(len(ALPHABET) + 1, WIDTH))  # what each character sounds like; last: none


def spoken(text, rng, noise=0.1):
    """Frames of a text: each character for 1 to 3 frames, then silence for 1 or 2."""
    sounds = [sound for c in text for sound in [ALPHABET.index(c)] * rng.integers(1, 4) + [-1] * rng.integers(1, 3)]
    return (CODES[sounds or [-1]] + noise * rng.normal(size=(len(sounds) or 1, WIDTH))).astype(np.float32)


def corpus(n, seed, noise=0.1, **more):
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcd"), size=rng.integers(1, 4))) for _ in range(30)]
    texts = [" ".join(rng.choice(words, size=rng.integers(1, 5))) for _ in range(n)]
    return Utterances([spoken(text, rng, noise) for text in texts], texts, **more)


RECIPE = TrainingConfig(epochs=8, batch_size=8, learning_rate=3e-2)


def test_a_head_learns_to_read_clean_sounds():
    train, valid, test = corpus(80, 0), corpus(10, 1), corpus(20, 2)
    found = train_ctc(train, valid, test, RECIPE)
    assert found.score > 0.95
    assert found.errors.tolist() == word_errors(test.transcripts, found.hypotheses).tolist()
    assert found.fit.losses[-1] < found.fit.losses[0] / 5
    assert found.characters == ALPHABET
    assert found.fit.best_score == max(found.fit.valid_scores)
    assert found.fit.best_epoch == found.fit.valid_scores.index(found.fit.best_score)


def test_noise_without_speech_is_not_read():
    rng = np.random.default_rng(0)
    deaf = [
        Utterances([rng.normal(size=f.shape) for f in c.frames], c.transcripts)
        for c in map(corpus, (40, 9, 9), (0, 1, 2))
    ]
    assert train_ctc(*deaf, RECIPE).score < 0.2


def test_the_loss_is_that_of_torch_modules():
    """One epoch of one batch: the mean loss before any step, from torch.nn with the same first parameters."""
    train = corpus(5, 0)
    found = train_ctc(train, train, train, TrainingConfig(epochs=1, batch_size=5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded_generator(0, 0).initial_seed())
        norm, linear = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, 1 + len(found.characters))
    losses = [
        torch.nn.CTCLoss()(
            linear(norm(torch.as_tensor(frames))).log_softmax(1)[:, None],
            torch.tensor([[1 + found.characters.index(c) for c in text]]),
            torch.tensor([len(frames)]),
            torch.tensor([len(text)]),
        ).item()
        for frames, text in zip(train.frames, train.transcripts, strict=True)
    ]
    assert found.fit.losses[0] == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_seed_repeats_exactly_and_another_does_not():
    splits = corpus(20, 0), corpus(5, 1), corpus(5, 2)
    first, again, other = (train_ctc(*splits, RECIPE, seed=seed) for seed in (0, 0, 1))
    assert first.fit == again.fit
    assert all(np.array_equal(first.parameters[name], again.parameters[name]) for name in first.parameters)
    assert first.fit != other.fit


def test_no_utterance_depends_on_the_others_of_its_split():
    train, valid, test = corpus(20, 0), corpus(5, 1), corpus(6, 2)
    together = train_ctc(train, valid, test, RECIPE).hypotheses
    alone = [
        train_ctc(train, valid, Utterances([test.frames[i]], [test.transcripts[i]]), RECIPE).hypotheses[0]
        for i in range(len(test))
    ]
    assert together == alone


def test_what_the_test_split_says_does_not_change_training():
    train, valid, test = corpus(20, 0), corpus(5, 1), corpus(6, 2)
    silent = Utterances(test.frames, ["" for _ in test.frames])
    assert train_ctc(train, valid, test, RECIPE).fit == train_ctc(train, valid, silent, RECIPE).fit


def test_transcripts_too_long_for_their_frames_are_left_out_of_training_only():
    good = corpus(20, 0)
    short = [np.zeros((3, WIDTH), np.float32)] * 2
    names = [*(f"good-{i}" for i in range(20)), "fits", "misfit"]
    train = Utterances([*good.frames, *short], [*good.transcripts, "abc", "aab"], names)
    test = Utterances(short[:1], ["abcdabcd"])
    found = train_ctc(train, corpus(5, 1), test, RECIPE)
    assert found.left_out == ("misfit",)
    assert np.isfinite(found.fit.losses).all()
    assert len(found.hypotheses) == 1
    with pytest.raises(ValueError, match=r"no training utterance has frames enough.*misfit"):
        train_ctc(Utterances(short[:1], ["aab"], ["misfit"]), good, good, RECIPE)


def test_a_character_of_no_training_transcript_is_an_error_not_a_fault():
    train = corpus(20, 0)
    assert train_ctc(train, train, Utterances(train.frames[:1], ["žž"]), RECIPE).score == 0.0


def test_greedy_reading_by_hand():
    path = [0, 1, 1, 0, 1, 2, 2, 3, 3, 0, 0, 2]  # a, a after a blank, b, space, b
    assert greedy_text(np.eye(4)[path], "ab ") == "aab b"
    assert greedy_text(np.eye(4)[[0, 0]], "ab ") == ""
    assert greedy_text(np.eye(4)[[3, 1, 3, 0, 3]], "ab ") == "a"


@given(st.text("ab", max_size=4), st.integers(0, 5))
def test_frames_needed_is_the_shortest_path_that_reads_so(text, frames):
    paths = itertools.product(range(3), repeat=frames)
    readable = any(greedy_text(np.eye(3)[list(path)].reshape(-1, 3), "ab") == text for path in paths)
    assert readable == (frames_needed(text) <= frames)


def test_fit_keeps_the_earliest_best_epoch_and_lowers_the_rate():
    weight = {"w": torch.zeros(1)}
    scores = iter([0.1, 0.5, float("nan"), 0.5, 0.2])
    seen = []

    def score():
        seen.append(weight["w"].item())
        return next(scores)

    how = fit(weight, TrainingConfig(5, 4, 0.1), 4, seeded_generator(0, 0), lambda batch: -weight["w"].sum(), score)
    assert how.best_epoch == 1
    assert weight["w"].item() == seen[1]
    # Adam moves by its rate where the gradient is constant.
    assert np.diff(seen, prepend=0.0) == pytest.approx([0.1 * schedule(e, 5) for e in range(5)], rel=1e-4)


def test_fit_without_any_finite_epoch():
    weight = {"w": torch.ones(1)}
    with pytest.raises(ValueError, match=r"learning rate 0\.1 too high"):
        fit(
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
        ([np.ones((2, 3))], ["a", "b"], "must be as many"),
        ([np.ones((0, 3))], ["a"], "utterance 0: frames"),
        ([np.ones((2, 3)), np.ones((2, 4))], ["a", "b"], r"utterance 1: frames \(2, 4\) must be \(frames, 3\)"),
        ([np.ones(3)], ["a"], r"frames \(3,\) must be"),
    ],
)
def test_faults_of_utterances(frames, transcripts, match):
    with pytest.raises(ValueError, match=match):
        Utterances(frames, transcripts)


def test_faults_of_splits_and_recipes():
    good, empty, wide = corpus(3, 0), Utterances([], []), Utterances([np.ones((9, 2))], ["a"])
    with pytest.raises(ValueError, match="training split has no utterance"):
        train_ctc(empty, good, good, RECIPE)
    with pytest.raises(ValueError, match="test split has no utterance"):
        train_ctc(good, good, empty, RECIPE)
    with pytest.raises(ValueError, match="same width"):
        train_ctc(good, good, wide, RECIPE)
    with pytest.raises(ValueError, match="transcripts are empty"):
        train_ctc(Utterances(good.frames, ["", " ", ""]), good, good, RECIPE)
    with pytest.raises(ValueError, match="utterance x: its frames are not finite"):
        train_ctc(Utterances([np.full((9, WIDTH), np.nan)], ["a"], ["x"]), good, good, RECIPE)
    with pytest.raises(ValueError, match="must be above 0"):
        TrainingConfig(epochs=0)
