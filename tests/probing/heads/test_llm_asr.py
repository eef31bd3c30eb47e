import json
from dataclasses import replace

import numpy as np
import pytest

from earmark.errors import MissingError
from earmark.probing.heads.ctc import Utterances
from earmark.probing.heads.llm_asr import (
    Reading,
    load_language_model,
    load_tokenizer,
    stacked,
    train_adapter,
    transcribe,
)
from earmark.probing.heads.optimise import TrainingConfig

pytest.importorskip("sentence_transformers", reason="the extra `clap` is not installed")

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.models.tiny import tokenizer

WIDTH = 6
TEXTS = ["cab", "a bad dad", "fad"]
RECIPE = TrainingConfig(epochs=120, batch_size=3, learning_rate=1e-2)
READING = Reading(prompt="=", max_tokens=12, repetition_penalty=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Qwen2 with random weights, large enough to tell its inputs apart, saved as published models are."""
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen2"
    words = tokenizer()
    config = Qwen2Config(
        vocab_size=len(words),
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_language_model(folder)


def heard(texts, seed=0, noise=0.05):
    """Frames that say which letter is spoken, three of them for each."""
    codes = np.random.default_rng(3).normal(size=(256, WIDTH))
    rng = np.random.default_rng(seed)
    frames = [np.repeat(codes[list(text.encode())], 3, axis=0) for text in texts]
    return Utterances([(f + noise * rng.normal(size=f.shape)).astype(np.float32) for f in frames], texts)


@pytest.fixture(scope="module")
def trained(model):
    own = heard(TEXTS)
    return train_adapter(model, own, own, own, RECIPE, READING)


@pytest.mark.slow
def test_three_utterances_are_learnt_and_end_by_themselves(trained):
    assert trained.hypotheses == TEXTS
    assert trained.score == 1.0
    assert trained.unfinished == 0
    assert trained.fit.losses[-1] < trained.fit.losses[0] / 10


@pytest.mark.slow
def test_only_the_adapter_changes(folder, model, trained):
    assert trained.score == 1.0  # so it did learn, and this is the model that it learnt with
    fresh = load_language_model(folder)
    before, after = fresh.network.state_dict(), model.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(value.requires_grad or value.grad is not None for value in model.network.parameters())
    assert set(trained.parameters) == {
        f"{name}.{part}" for name in ("gate", "up", "down") for part in ("weight", "bias")
    }
    assert trained.parameters["gate.weight"].shape == (192, WIDTH)  # as wide inside as the model's feed-forward layers


def test_the_first_loss_is_that_of_the_model_on_each_utterance_alone(model):
    """Left padding and masks against one utterance at a time, nothing padded, the loss computed by transformers."""
    own = heard(TEXTS)
    found = train_adapter(model, own, own, own, TrainingConfig(epochs=1, batch_size=3, learning_rate=1e-12), READING)
    parts = {name: torch.as_tensor(value) for name, value in found.parameters.items()}
    total, count = 0.0, 0
    for frames, text in zip(own.frames, own.transcripts, strict=True):
        x = torch.as_tensor(frames)
        gate = torch.nn.functional.silu(x @ parts["gate.weight"].T + parts["gate.bias"])
        x = (gate * (x @ parts["up.weight"].T + parts["up.bias"])) @ parts["down.weight"].T + parts["down.bias"]
        spoken = [*model.tokens(text), model.tokenizer.eos_token_id]
        ids = torch.tensor([*model.tokens("="), *spoken])
        embedded = torch.cat([x, model.network.get_input_embeddings()(ids)])[None]
        labels = torch.tensor([[-100] * (embedded.shape[1] - len(spoken)) + spoken])
        total += model.network(inputs_embeds=embedded, labels=labels).loss.item() * len(spoken)
        count += len(spoken)
    assert found.fit.losses[0] == pytest.approx(total / count, rel=1e-4)


@pytest.mark.slow
def test_neighbours_in_a_batch_change_nothing(model, trained):
    """An adapter that is not sure of itself, on utterances of lengths from 3 to 60 frames."""
    adapter = {name: value * 0.7 for name, value in trained.parameters.items()}
    texts = ["a", "dad fad cab bad add", "bad", "cab dad", "f", "deaf bee", "abcdefabcdef"]
    alone, _ = transcribe(model, adapter, heard(texts, 1, 0.5), replace(READING, at_once=1))
    assert len(set(alone)) > 3
    for at_once in (2, 7):
        assert transcribe(model, adapter, heard(texts, 1, 0.5), replace(READING, at_once=at_once))[0] == alone
    backwards = Utterances(heard(texts, 1, 0.5).frames[::-1], texts[::-1])
    assert transcribe(model, adapter, backwards, replace(READING, at_once=3))[0] == alone[::-1]


@pytest.mark.slow
def test_generation_ends_at_the_limit_and_says_so(model, trained):
    own = heard(TEXTS)
    texts, unfinished = transcribe(model, trained.parameters, own, replace(READING, max_tokens=3))
    assert texts == ["cab", "a b", "fad"]
    assert unfinished == 3  # their ends would have been the fourth token


def test_a_seed_repeats_exactly(model):
    own = heard(TEXTS)
    first, again, other = (
        train_adapter(model, own, own, own, TrainingConfig(2, 2, 1e-2), READING, seed=seed) for seed in (0, 0, 1)
    )
    assert first.fit == again.fit
    assert all(np.array_equal(first.parameters[name], again.parameters[name]) for name in first.parameters)
    assert first.fit.losses != other.fit.losses


@pytest.mark.slow
def test_frames_stacked_and_lower_precision_learn_too(folder):
    model = load_language_model(folder, dtype="bfloat16")
    assert model.description["dtype"] == "bfloat16"
    assert {value.dtype for value in model.network.parameters()} == {torch.bfloat16}
    own = heard(TEXTS)
    found = train_adapter(model, own, own, own, RECIPE, replace(READING, stack=2))
    assert found.parameters["gate.weight"].shape == (192, 2 * WIDTH)
    assert found.parameters["gate.weight"].dtype == np.float32
    assert found.score > 0.5
    assert found.fit.losses[-1] < found.fit.losses[0] / 4


def test_stacked_by_hand():
    frames = np.arange(10, dtype=np.float32).reshape(5, 2)
    assert np.array_equal(stacked(frames, 1), frames)
    assert stacked(frames, 3).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 0, 0]]
    assert stacked(frames, 9).shape == (1, 18)


def test_loading_is_silent_and_says_what_was_loaded(folder, capfd):
    model = load_language_model(folder)
    assert capfd.readouterr().out == ""
    assert model.description["model"] == "tiny-qwen2"
    assert model.description["dtype"] == "float32"
    assert model.description["parameters"] == sum(p.numel() for p in model.network.parameters())


def test_what_is_not_there_is_named(tmp_path, folder):
    with pytest.raises(MissingError, match="no such folder"):
        load_language_model(tmp_path / "none")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}), encoding="utf-8")
    with pytest.raises(MissingError, match="its folder needs the configuration, weights and tokenizer"):
        load_language_model(tmp_path)
    with pytest.raises(MissingError, match="cannot be loaded as a tokenizer"):
        load_tokenizer(tmp_path)


def test_weights_that_are_absent_are_not_drawn_at_random(tmp_path, folder):
    network = Qwen2ForCausalLM.from_pretrained(folder)
    state = {k: v for k, v in network.state_dict().items() if "layers.1.mlp.up_proj" not in k and k != "lm_head.weight"}
    network.save_pretrained(tmp_path, state_dict=state)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(MissingError, match=r"lack 1 of its parameters, such as model\.layers\.1\.mlp\.up_proj\.weight"):
        load_language_model(tmp_path)


def test_faults(model):
    own = heard(TEXTS)
    with pytest.raises(ValueError, match="validation split has no utterance"):
        train_adapter(model, own, Utterances([], []), own, RECIPE, READING)
    with pytest.raises(ValueError, match="utterance 0: its frames are not finite"):
        train_adapter(model, Utterances([np.full((4, WIDTH), np.inf)], ["a"]), own, own, RECIPE, READING)
    with pytest.raises(ValueError, match="at least 1"):
        Reading(stack=0)
