import os
import subprocess
import sys

import numpy as np
import pytest

from earmark.errors import SCRIPT_PLACEHOLDER, MissingError
from earmark.probing.heads.batched import epoch_batches, schedule, seeded_generator, torch_library
from earmark.probing.heads.linear import Fold, HeadConfig, train_heads
from earmark.probing.heads.selection import selection_metric
from tests.conftest import ROOT

torch = pytest.importorskip("torch")

D, C = 12, 4
LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error")
METRIC = {"cross_entropy": "accuracy", "binary_cross_entropy": "mAP", "squared_error": "mse"}


def example(n=60, seed=0, loss="cross_entropy"):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, C, n)
    x = (2 * rng.normal(size=(C, D))[y] + rng.normal(size=(n, D)) + 3).astype(np.float32)
    if loss == "binary_cross_entropy":
        return x, (rng.random((n, C)) < 0.4).astype(int)
    return (x, y) if loss == "cross_entropy" else (x, rng.normal(size=(n, C)))


def fold(n=60, number=0, seed=1):
    items = np.random.default_rng(seed).permutation(n)
    return Fold(number, items[: n - 20], items[n - 20 : n - 10], items[n - 10 :])


def train_with_torch(x, y, split, config, seed, rate, offsets=None):
    """Train one head with torch.nn and autograd; return the parameters after each epoch."""
    offsets = np.arange(len(x) + 1) if offsets is None else offsets
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded_generator(seed, split.number).initial_seed())
        norm, linear = torch.nn.LayerNorm(x.shape[1]), torch.nn.Linear(x.shape[1], config.n_outputs)
        adam = torch.optim.Adam([*norm.parameters(), *linear.parameters()], lr=rate)
        loss = {
            "cross_entropy": torch.nn.CrossEntropyLoss(),
            "binary_cross_entropy": torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(config.pos_weight)),
            "squared_error": torch.nn.MSELoss(),
        }[config.loss]
        target = torch.as_tensor(y if config.loss == "cross_entropy" else y.astype(np.float32))
        states = []
        for epoch in range(config.epochs):
            adam.param_groups[0]["lr"] = rate * (1 - 0.45 * (1 - np.cos(np.pi * epoch / config.epochs)))
            order = split.train[torch.randperm(len(split.train)).numpy()]
            for start in range(0, len(order), config.batch_size):
                items = order[start : start + config.batch_size]
                rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in items])
                rows = rows[y[rows] >= 0] if config.loss == "cross_entropy" else rows
                adam.zero_grad()
                loss(linear(norm(torch.as_tensor(x[rows]).float())), target[rows]).backward()
                adam.step()
            states.append([p.detach().numpy().copy() for p in (norm.weight, norm.bias, linear.weight, linear.bias)])
    return states


def apply(state, x):
    scale, shift, weight, bias = state
    x = x.astype(np.float64)
    centred = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    return (centred * scale + shift) @ weight.T + bias


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rate", [1e-4, 1e-2])
def test_heads_match_torch_modules_and_adam(loss, rate):
    x, y = example(loss=loss)
    config = HeadConfig(loss, C, epochs=4, batch_size=7, pos_weight=10.0 if loss == "binary_cross_entropy" else 1.0)
    split, score = fold(number=3), selection_metric(METRIC[loss], y)
    states = train_with_torch(x, y, split, config, seed=5, rate=rate)
    rates = (3e-3, rate, 1e-3)
    head = train_heads(x, y, [split], config, score, seeds=(4, 5), learning_rates=rates)[4]
    assert (head.fold, head.seed, head.learning_rate) == (3, 5, rate)
    expected = [score(apply(state, x[split.valid]).astype(np.float32), split.valid) for state in states]
    np.testing.assert_allclose(head.valid_scores, expected, atol=1e-5)
    assert head.best_epoch == int(np.argmax(head.valid_scores))
    best = states[head.best_epoch]
    for parameter, expected_parameter in zip(head.parameters, best, strict=True):
        np.testing.assert_allclose(parameter, expected_parameter, atol=1e-5)
    np.testing.assert_allclose(head.valid, apply(best, x[split.valid]), atol=1e-5)
    np.testing.assert_allclose(head.test, apply(best, x[split.test]), atol=1e-5)


def test_frames_are_batched_by_clip_and_unknown_labels_excluded():
    lengths = np.random.default_rng(0).integers(1, 9, 30)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    x, y = example(offsets[-1])
    y[::5] = -1
    split, config = fold(30), HeadConfig("cross_entropy", C, epochs=3, batch_size=4)
    states = train_with_torch(x.astype(np.float16), y, split, config, 0, 1e-2, offsets)
    head = train_heads(
        x.astype(np.float16),
        y,
        [split],
        config,
        selection_metric("accuracy", y),
        learning_rates=[1e-2],
        offsets=offsets,
    )[0]
    rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in split.test])
    expected = apply(states[head.best_epoch], x.astype(np.float16)[rows])
    np.testing.assert_allclose(head.test, expected, atol=2e-5)  # frames of unknown label are predicted as well


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("width", "outputs", "batch"), [(12, 4, 7), (13, 1, 1), (5, 2, 32), (33, 17, 5), (8, 35, 6)])
def test_compiled_heads_match_torch(loss, width, outputs, batch):
    rng = np.random.default_rng(width)
    x = rng.normal(size=(70, width)).astype(np.float32)
    y = {
        "cross_entropy": np.arange(70) % max(outputs, 2),
        "binary_cross_entropy": (rng.random((70, outputs)) < 0.4).astype(int),
        "squared_error": rng.normal(size=(70, outputs)),
    }[loss]
    config = HeadConfig(loss, max(outputs, 2) if loss == "cross_entropy" else outputs, 3, batch)
    arguments = (x, y, [fold(70), fold(50, 1, 2)], config, lambda outputs, rows: -float(np.square(outputs).mean()))
    both = {"seeds": (0, 1), "learning_rates": (1e-2, 1e-4)}
    compiled, by_torch = train_heads(*arguments, **both), train_heads(*arguments, **both, offsets=np.arange(71))
    for ours, theirs in zip(compiled, by_torch, strict=True):
        for parameter, expected_parameter in zip(ours.parameters, theirs.parameters, strict=True):
            np.testing.assert_allclose(parameter, expected_parameter, atol=2e-5)
        np.testing.assert_allclose(ours.test, theirs.test, atol=5e-5)


@pytest.mark.slow
def test_numba_cache_is_optional():
    program = "from earmark.probing.heads.batched_numba import OPTIONS; print(OPTIONS['cache'])"
    for variables, cached in ({}, "True"), ({"NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}, "False"):
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, env={**os.environ, **variables}, cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == cached


def test_schedule_by_hand():
    assert [schedule(e, 4) for e in range(4)] == pytest.approx(
        [1, 0.55 + 0.45 * 0.5**0.5, 0.55, 0.55 - 0.45 * 0.5**0.5]
    )


def test_epoch_batches_by_hand():
    offsets = np.array([0, 2, 3, 7])
    rows, row_weights, active = epoch_batches(
        [np.array([0, 1, 2]), np.array([1])], [seeded_generator(0, 0), seeded_generator(0, 1)], offsets, 2
    )
    order = torch.randperm(3, generator=seeded_generator(0, 0)).numpy()
    first = [np.arange(offsets[i], offsets[i + 1]) for i in order]
    assert active == [2, 1]
    assert rows[0, 0][row_weights[0, 0] > 0].tolist() == np.concatenate(first[:2]).tolist()
    assert rows[1, 0][row_weights[1, 0] > 0].tolist() == first[2].tolist()
    assert rows[0, 1][row_weights[0, 1] > 0].tolist() == [2]
    np.testing.assert_allclose(row_weights.sum(axis=2), [[1, 1], [1, 0]], rtol=1e-6)


@pytest.mark.slow
def test_earliest_best_epoch_is_selected_and_never_nan():
    x, y = example()
    valid_scores_by_epoch = iter([float("nan"), 0.2, 0.7, 0.7, 0.1])
    head = train_heads(
        x, y, [fold()], HeadConfig("cross_entropy", C, 5), lambda outputs, rows: next(valid_scores_by_epoch)
    )[0]
    assert head.best_epoch == 2
    states = train_with_torch(x, y, fold(), HeadConfig("cross_entropy", C, 5), 0, 1e-3)
    np.testing.assert_allclose(head.parameters.weight, states[2][2], atol=1e-5)


def test_last_best_epoch_and_highest_best_rate_on_request():
    x, y = example()
    scores = [[0.7, 0.2], [0.7, 0.9], [0.1, 0.9], [float("nan")] * 2]
    for wanted, epoch, rate in ((False, 1, 1e-3), (True, 2, 1e-3)):
        by_call = iter(np.ravel(scores))
        config = HeadConfig("cross_entropy", C, 4, most_trained_on_ties=wanted)
        arguments = (x, y, [fold()], config, lambda outputs, rows, by_call=by_call: next(by_call))
        head = train_heads(*arguments, learning_rates=[1e-2, 1e-3], best_rate_only=True)[0]
        assert (head.best_epoch, head.learning_rate) == (epoch, rate)
        head = train_heads(*arguments[:4], lambda outputs, rows: 0.5, learning_rates=[1e-3, 1e-2], best_rate_only=True)[
            0
        ]
        assert (head.best_epoch, head.learning_rate) == ((3, 1e-2) if wanted else (0, 1e-3))


def test_training_keeps_the_number_of_torch_threads():
    """In a process of its own, because numba sets torch's threads once, when it starts its own."""
    code = (
        "import numpy as np, torch; torch.set_num_threads(1)\n"
        "from earmark.probing.heads.linear import Fold, HeadConfig, train_heads\n"
        "parts = Fold(0, *np.arange(12).reshape(3, 4))\n"
        "x, y = np.random.default_rng(0).normal(size=(12, 4)).astype('f4'), np.arange(12) % 2\n"
        "train_heads(x, y, [parts], HeadConfig('cross_entropy', 2, 1), lambda outputs, rows: 0.0)\n"
        "print(torch.get_num_threads())"
    )
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.strip() == "1", done.stderr


def test_diverging_learning_rate_is_not_selected():
    x, y = example(200)
    y = np.where(np.arange(200) % 5, 0, y)
    heads = train_heads(
        x, y, [fold(200)], HeadConfig("cross_entropy", C, 2), selection_metric("accuracy", y),
        learning_rates=[1e-3, 1e38], best_rate_only=True,
    )  # fmt: skip
    assert np.isfinite(heads[0].test).all()
    with pytest.raises(ValueError, match="validation score is undefined in all 2 epochs"):
        train_heads(
            x, y, [fold(200)], HeadConfig("cross_entropy", C, 2), selection_metric("accuracy", y), learning_rates=[1e38]
        )


def test_head_is_independent_of_other_heads():
    x, y = example(90)
    folds = [fold(90, 0, 1), fold(60, 1, 2), fold(75, 2, 3)]  # of different lengths: groups end at different steps
    config, score = HeadConfig("cross_entropy", C, 6, 8), selection_metric("accuracy", y)
    together = train_heads(x, y, folds, config, score, seeds=(0, 7), learning_rates=(1e-3, 1e-2))
    assert [(h.fold, h.seed, h.learning_rate) for h in together][:3] == [(0, 0, 1e-3), (0, 0, 1e-2), (0, 7, 1e-3)]
    for head in together:
        split = folds[head.fold]
        alone = train_heads(x, y, [split], config, score, seeds=[head.seed], learning_rates=[head.learning_rate])[0]
        assert (alone.best_epoch, alone.valid_scores) == (head.best_epoch, head.valid_scores)
        np.testing.assert_allclose(alone.test, head.test, atol=1e-5)


def test_same_seed_gives_identical_heads():
    x, y = example()
    config, score = HeadConfig("cross_entropy", C, 3), selection_metric("accuracy", y)
    first, second = (train_heads(x, y, [fold()], config, score, seeds=(1, 2)) for _ in range(2))
    assert all((a.test == b.test).all() for a, b in zip(first, second, strict=True))
    assert (first[0].test != first[1].test).any()


@pytest.mark.parametrize("frames", [False, True])
def test_heads_are_identical_where_large_inputs_are_normalised_on_read(monkeypatch, frames):
    x, y = example()
    config = HeadConfig("cross_entropy", C, 3, 8)
    offsets = {"offsets": np.arange(61)} if frames else {}  # frames use torch, rows compiled code

    def train():
        heads = train_heads(x, y, [fold()], config, selection_metric("accuracy", y), seeds=[0, 1], **offsets)
        return [(head.valid_scores, *head.parameters, head.valid, head.test) for head in heads]

    kept = train()
    monkeypatch.setattr("earmark.probing.heads.batched.MAX_NORMALISED", 0)
    for ours, theirs in zip(train(), kept, strict=True):
        assert ours[0] == theirs[0]
        for value, expected in zip(ours[1:], theirs[1:], strict=True):
            np.testing.assert_array_equal(value, expected)


def test_test_items_do_not_influence_heads():
    x, y = example()
    split, config = fold(), HeadConfig("cross_entropy", C, 3)
    other = y.copy()
    other[split.test] = np.roll(y[split.test], 1)
    assert (other != y).any()
    first, second = (
        train_heads(x, labels, [split], config, selection_metric("accuracy", labels))[0] for labels in (y, other)
    )
    assert all((a == b).all() for a, b in zip(first.parameters, second.parameters, strict=True))
    other = x.copy()
    other[split.test] += 1
    third = train_heads(other, y, [split], config, selection_metric("accuracy", y))[0]
    assert all((a == b).all() for a, b in zip(first.parameters, third.parameters, strict=True))


def test_best_rate_only_per_seed():
    x, y = example()
    arguments = (
        x,
        y,
        [fold(number=1), fold(number=2)],
        HeadConfig("squared_error", 1, 3),
        selection_metric("mse", y[:, None]),
    )
    x, y = arguments[0], arguments[1][:, None]
    every = train_heads(x, y, *arguments[2:], seeds=(0, 1), learning_rates=(1e-4, 1e-2, 1e-3))
    best = train_heads(x, y, *arguments[2:], seeds=(0, 1), learning_rates=(1e-4, 1e-2, 1e-3), best_rate_only=True)
    expected = [max(every[i : i + 3], key=lambda head: head.best_score).learning_rate for i in range(0, 12, 3)]
    assert [head.learning_rate for head in best] == expected


def test_separable_classes_are_learned():
    x, y = example(300)
    head = train_heads(
        x, y, [fold(300)], HeadConfig("cross_entropy", C, 30), selection_metric("accuracy", y), learning_rates=[1e-2]
    )
    assert head[0].best_score == 1.0


def test_class_without_training_items_is_not_predicted():
    x, y = example(200)
    split = fold(200)
    split = Fold(0, split.train[y[split.train] != 2], split.valid, np.empty(0, dtype=int))
    head = train_heads(
        x, y, [split], HeadConfig("cross_entropy", C, 20), selection_metric("accuracy", y), learning_rates=[1e-2]
    )[0]
    assert not (head.valid.argmax(axis=1) == 2).any()
    assert head.test.shape == (0, C)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("loss", LOSSES)
def test_gpu_and_cpu_agree(loss):
    x, y = example(300, loss=loss)
    config, score = HeadConfig(loss, C, 10), selection_metric(METRIC[loss], y)
    cpu, gpu = (train_heads(x, y, [fold(300)], config, score, seeds=(0, 1), device=d) for d in ("cpu", "cuda"))
    for a, b in zip(cpu, gpu, strict=True):
        np.testing.assert_allclose(a.valid_scores, b.valid_scores, atol=1e-3)
        np.testing.assert_allclose(a.test, b.test, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, y, f: (x * np.where(np.arange(60) == 9, np.nan, 1)[:, None], y, f),
            "row 9 of the embeddings is not",
        ),
        (lambda x, y, f: (x, y * 0, f), "the training set has only one class"),
        (
            lambda x, y, f: (x, y, Fold(4, f.train[:0], f.valid, f.test)),
            "fold 4: the training set has no labelled row",
        ),
        (lambda x, y, f: (x, y, Fold(4, f.train, f.valid[:0], f.test)), "the validation set has no labelled row"),
        (
            lambda x, y, f: (x, y, Fold(4, f.train, f.train[:3], f.test)),
            "the training set overlaps the validation or test set",
        ),
        (lambda x, y, f: (x, y + 1, f), r"classes must be 0 … 3"),
        (lambda x, y, f: (x, y * 1.0, f), "one integer per row"),
        (
            lambda x, y, f: (x[:, 0], y, f),
            r"embeddings have shape \(60,\) and labels \(60,\); expected \(n, d\) and n labels",
        ),
        (lambda x, y, f: (x, y[:-1], f), r"embeddings have shape \(60, 12\) and labels \(59,\)"),
    ],
)
def test_train_heads_rejects_invalid_data(change, message):
    x, y, split = change(*example(), fold())
    with pytest.raises(ValueError, match=message):
        train_heads(x, y, [split], HeadConfig("cross_entropy", C, 1), selection_metric("accuracy", y))


def test_train_heads_rejects_invalid_labels_and_options():
    x, y = example()
    score = selection_metric("accuracy", y)
    with pytest.raises(ValueError, match="validation score is undefined in all 2 epochs"):
        train_heads(x, y, [fold()], HeadConfig("cross_entropy", C, 2), lambda outputs, rows: float("nan"))
    with pytest.raises(ValueError, match="0 or 1, or −1"):
        train_heads(x, np.full((60, C), 2), [fold()], HeadConfig("binary_cross_entropy", C), score)
    with pytest.raises(ValueError, match="regression targets must be finite"):
        train_heads(x, np.full((60, C), np.nan), [fold()], HeadConfig("squared_error", C), score)
    with pytest.raises(ValueError, match=r"labels have shape \(60, 2\); expected \(n, 4\)"):
        train_heads(x, np.zeros((60, 2)), [fold()], HeadConfig("squared_error", C), score)
    with pytest.raises(ValueError, match="offsets must increase from 0"):
        train_heads(x, y, [fold()], HeadConfig("cross_entropy", C), score, offsets=[0, 3, 2, 60])
    with pytest.raises(ValueError, match="at least one fold"):
        train_heads(x, y, [], HeadConfig("cross_entropy", C), score)
    with pytest.raises(ValueError, match="'f1' is not one of accuracy"):
        selection_metric("f1", y)


def test_missing_torch_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    torch_library.cache_clear()
    x, y = example()
    with pytest.raises(MissingError, match=rf"uv run --extra torch {SCRIPT_PLACEHOLDER} …"):
        train_heads(x, y, [fold()], HeadConfig("cross_entropy", C), selection_metric("accuracy", y))
