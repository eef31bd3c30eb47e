import json
from dataclasses import replace

import numpy as np
import pytest

from earmark.errors import MissingError
from earmark.probing.heads.ctc import Utterances
from earmark.probing.heads.llm_asr import (
    DecodingConfig,
    load_language_model,
    load_tokenizer,
    stack_frames,
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
CONFIG = TrainingConfig(epochs=120, batch_size=3, learning_rate=1e-2)
DECODING = DecodingConfig(prompt="=", max_tokens=12, repetition_penalty=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved tiny Qwen2 with random weights, large enough to distinguish its inputs."""
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


def utterances(texts, seed=0, noise=0.05):
    """Utterances with three frames per letter, each a noisy code of the letter."""
    codes = np.random.default_rng(3).normal(size=(256, WIDTH))
    rng = np.random.default_rng(seed)
    frames = [np.repeat(codes[list(text.encode())], 3, axis=0) for text in texts]
    return Utterances([(f + noise * rng.normal(size=f.shape)).astype(np.float32) for f in frames], texts)


@pytest.fixture(scope="module")
def trained(model):
    data = utterances(TEXTS)
    return train_adapter(model, data, data, data, CONFIG, DECODING)


@pytest.mark.slow
def test_adapter_learns_three_utterances(trained):
    assert trained.hypotheses == TEXTS
    assert trained.score == 1.0
    assert trained.n_truncated == 0
    assert trained.history.losses[-1] < trained.history.losses[0] / 10


@pytest.mark.slow
def test_training_changes_adapter_only(folder, model, trained):
    assert trained.score == 1.0  # training was effective
    fresh = load_language_model(folder)
    before, after = fresh.network.state_dict(), model.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(value.requires_grad or value.grad is not None for value in model.network.parameters())
    assert set(trained.parameters) == {
        f"{name}.{part}" for name in ("gate", "up", "down") for part in ("weight", "bias")
    }
    assert trained.parameters["gate.weight"].shape == (192, WIDTH)  # hidden width of the model's feed-forward layers


def test_loss_matches_transformers_without_padding(model):
    """Left-padded batch, compared with the transformers loss of single utterances without padding."""
    data = utterances(TEXTS)
    result = train_adapter(
        model, data, data, data, TrainingConfig(epochs=1, batch_size=3, learning_rate=1e-12), DECODING
    )
    parts = {name: torch.as_tensor(value) for name, value in result.parameters.items()}
    total, count = 0.0, 0
    for frames, text in zip(data.frames, data.transcripts, strict=True):
        x = torch.as_tensor(frames)
        gate = torch.nn.functional.silu(x @ parts["gate.weight"].T + parts["gate.bias"])
        x = (gate * (x @ parts["up.weight"].T + parts["up.bias"])) @ parts["down.weight"].T + parts["down.bias"]
        transcript = [*model.tokens(text), model.tokenizer.eos_token_id]
        ids = torch.tensor([*model.tokens("="), *transcript])
        embedded = torch.cat([x, model.network.get_input_embeddings()(ids)])[None]
        labels = torch.tensor([[-100] * (embedded.shape[1] - len(transcript)) + transcript])
        total += model.network(inputs_embeds=embedded, labels=labels).loss.item() * len(transcript)
        count += len(transcript)
    assert result.history.losses[0] == pytest.approx(total / count, rel=1e-4)


@pytest.mark.slow
def test_transcripts_independent_of_batch(model, trained):
    """Perturbed adapter, so that predictions are uncertain; utterances of 3 to 60 frames."""
    adapter = {name: value * 0.7 for name, value in trained.parameters.items()}
    texts = ["a", "dad fad cab bad add", "bad", "cab dad", "f", "deaf bee", "abcdefabcdef"]
    alone, _ = transcribe(model, adapter, utterances(texts, 1, 0.5), replace(DECODING, batch_size=1))
    assert len(set(alone)) > 3
    for batch_size in (2, 7):
        assert (
            transcribe(model, adapter, utterances(texts, 1, 0.5), replace(DECODING, batch_size=batch_size))[0] == alone
        )
    reversed_order = Utterances(utterances(texts, 1, 0.5).frames[::-1], texts[::-1])
    assert transcribe(model, adapter, reversed_order, replace(DECODING, batch_size=3))[0] == alone[::-1]


@pytest.mark.slow
def test_truncated_transcripts_are_counted(model, trained):
    data = utterances(TEXTS)
    texts, n_truncated = transcribe(model, trained.parameters, data, replace(DECODING, max_tokens=3))
    assert texts == ["cab", "a b", "fad"]
    assert n_truncated == 3  # the fourth token would be the end


def test_same_seed_gives_identical_adapter(model):
    data = utterances(TEXTS)
    first, repeated, other = (
        train_adapter(model, data, data, data, TrainingConfig(2, 2, 1e-2), DECODING, seed=seed) for seed in (0, 0, 1)
    )
    assert first.history == repeated.history
    assert all(np.array_equal(first.parameters[name], repeated.parameters[name]) for name in first.parameters)
    assert first.history.losses != other.history.losses


@pytest.mark.slow
def test_stacked_frames_and_bfloat16(folder):
    model = load_language_model(folder, dtype="bfloat16")
    assert model.description["dtype"] == "bfloat16"
    assert {value.dtype for value in model.network.parameters()} == {torch.bfloat16}
    data = utterances(TEXTS)
    result = train_adapter(model, data, data, data, CONFIG, replace(DECODING, stack=2))
    assert result.parameters["gate.weight"].shape == (192, 2 * WIDTH)
    assert result.parameters["gate.weight"].dtype == np.float32
    assert result.score > 0.5
    assert result.history.losses[-1] < result.history.losses[0] / 4


def test_stack_frames_by_hand():
    frames = np.arange(10, dtype=np.float32).reshape(5, 2)
    assert np.array_equal(stack_frames(frames, 1), frames)
    assert stack_frames(frames, 3).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 0, 0]]
    assert stack_frames(frames, 9).shape == (1, 18)


def test_load_language_model_is_silent_and_describes_model(folder, capfd):
    model = load_language_model(folder)
    assert capfd.readouterr().out == ""
    assert model.description["model"] == "tiny-qwen2"
    assert model.description["dtype"] == "float32"
    assert model.description["parameters"] == sum(p.numel() for p in model.network.parameters())


def test_missing_model_files_are_named(tmp_path, folder):
    with pytest.raises(MissingError, match="no such folder"):
        load_language_model(tmp_path / "none")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}), encoding="utf-8")
    with pytest.raises(MissingError, match="its folder needs the configuration, weights and tokenizer"):
        load_language_model(tmp_path)
    with pytest.raises(MissingError, match="cannot be loaded as a tokenizer"):
        load_tokenizer(tmp_path)


def test_missing_weights_are_rejected(tmp_path, folder):
    network = Qwen2ForCausalLM.from_pretrained(folder)
    state = {k: v for k, v in network.state_dict().items() if "layers.1.mlp.up_proj" not in k and k != "lm_head.weight"}
    network.save_pretrained(tmp_path, state_dict=state)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        MissingError, match=r"no weights for 1 parameters, such as model\.layers\.1\.mlp\.up_proj\.weight"
    ):
        load_language_model(tmp_path)


def test_train_adapter_rejects_invalid_input(model):
    data = utterances(TEXTS)
    with pytest.raises(ValueError, match="validation set has no utterances"):
        train_adapter(model, data, Utterances([], []), data, CONFIG, DECODING)
    with pytest.raises(ValueError, match="utterance 0: frames are not finite"):
        train_adapter(model, Utterances([np.full((4, WIDTH), np.inf)], ["a"]), data, data, CONFIG, DECODING)
    with pytest.raises(ValueError, match="at least 1"):
        DecodingConfig(stack=0)
