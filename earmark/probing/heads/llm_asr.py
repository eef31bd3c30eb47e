"""Speech recognition from frozen frame embeddings, protocol `xares`: a frozen language model reads through an adapter.

The adapter, SwiGLU, turns frames into vectors of the model's own embedding space; after them comes a short prompt,
then the transcript, then the token that ends a text. Only the adapter learns, from the cross-entropy of transcript and
end. X-ARES takes Qwen2.5-0.5B; any causal model of transformers will do.

Sequences are padded on the left and masked, so that each ends where its transcript is read or goes on.
"""

import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.word_error_rate import word_errors
from earmark.models.torch_runtime import dtype_option, explain_load_errors, load_complete_model, quiet_transformers
from earmark.optional import require_library
from earmark.probing.heads.batched import Tensor, initial_parameters, seeded_generator, torch_library
from earmark.probing.heads.ctc import Transcription, Utterances, check_splits, share_right
from earmark.probing.heads.optimise import TrainingConfig, fit, to_numpy
from earmark.probing.options import PUBLISHED_LANGUAGE_MODEL

IntArray = NDArray[np.int64]

FILES = "the configuration, weights and tokenizer files"
RECIPE = TrainingConfig(epochs=10, batch_size=4, learning_rate=1e-3)  # of LibriSpeech in X-ARES
transformers_library = partial(require_library, "transformers", "--extra clap", "A language model")
NO_TARGET = -100  # what cross-entropy passes over


@dataclass(frozen=True)
class Reading:
    """How a language model is asked for a transcript.

    prompt: text between the frames and the transcript; X-ARES's is a token of Qwen's own that ends an image. stack:
    consecutive frames that the adapter sees as one; the last are filled up with zeros. max_tokens: of a transcript,
    where a generation ends that has not ended itself. repetition_penalty: what the scores of tokens already written
    are divided by (negative ones multiplied), 1 for none. at_once: utterances generated together; padding is masked,
    so that neighbours matter by rounding alone, and with 1 not at all.
    """

    prompt: str = "<|vision_end|>"
    stack: int = 1
    max_tokens: int = 200
    repetition_penalty: float = 1.1
    at_once: int = 16

    def __post_init__(self) -> None:
        if min(self.stack, self.max_tokens, self.at_once) < 1 or not self.repetition_penalty > 0:
            raise ValueError(
                f"frames stacked, tokens and utterances at once are at least 1, the penalty above 0: {self}"
            )


@dataclass(frozen=True)
class LanguageModel:
    """A frozen causal model of transformers. description: what was loaded, as a summary records it."""

    network: Any
    tokenizer: Any
    device: str
    description: dict[str, Any]

    @property
    def width(self) -> int:
        """Numbers of a token's embedding."""
        return int(self.network.get_input_embeddings().weight.shape[1])

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text alone, nothing before or after."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def load_language_model(
    name: str | Path = PUBLISHED_LANGUAGE_MODEL, *, device: str = "cpu", dtype: str | None = None
) -> LanguageModel:
    """A causal language model and its tokenizer from a folder or the hub, frozen.

    dtype: of its weights, as torch calls it; None: bfloat16 on a GPU, float32 on a CPU. Raises MissingError where it
    cannot be had, lacks some of its weights, or its tokenizer has no token that ends a text.
    """
    torch, transformers = torch_library(), transformers_library()
    dtype = dtype or ("float32" if torch.device(device).type == "cpu" else "bfloat16")
    tokenizer = load_tokenizer(name)
    with explain_load_errors(str(name), "a causal language model", hub=FILES), _quiet():
        network = load_complete_model(transformers.AutoModelForCausalLM, str(name), **dtype_option(dtype))
        if tokenizer.eos_token_id is None:
            raise ValueError("its tokenizer has no token that ends a text")
    shown = Path(name).resolve().name if Path(name).is_dir() else str(name)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    description = {"model": shown, "dtype": dtype, "parameters": parameters, "transformers": transformers.__version__}
    return LanguageModel(network.to(device).requires_grad_(False).eval(), tokenizer, device, description)


def load_tokenizer(name: str | Path) -> Any:
    """A transformers tokenizer from a folder or the hub; MissingError where it cannot be had."""
    transformers = transformers_library()
    with explain_load_errors(str(name), "a tokenizer", hub=FILES), _quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes of a folder without its files
            raise ValueError("it has no vocabulary")
        return tokenizer


def train_adapter(
    model: LanguageModel,
    train: Utterances,
    valid: Utterances,
    test: Utterances,
    recipe: TrainingConfig = RECIPE,
    reading: Reading | None = None,
    *,
    seed: int = 0,
) -> Transcription:
    """Train the adapter, choose its epoch by max(0, 1 − WER) on validation, and transcribe the test utterances.

    The adapter: W₃(silu(W₁x + b₁) ∘ (W₂x + b₂)) + b₃, as wide inside as the model's own feed-forward layers, in
    float32 whatever the model's precision. The loss is the mean over a batch's transcript tokens and ends. Generation
    takes the likeliest token each time, the repetition penalty allowing. The model's weights never change.
    ValueError: an empty split, widths that differ, frames that are not finite, a loss that never is.
    Source: X-ARES, Zhang et al. (2025); SwiGLU, Shazeer (2020), GLU variants improve Transformer, eq. 6.
    """
    check_splits(train, valid, test)
    torch = torch_library()
    how = reading or Reading()
    prompt = model.tokens(how.prompt)
    ending = [[*model.tokens(text), model.tokenizer.eos_token_id] for text in train.transcripts]
    generator = seeded_generator(seed, 0)
    parameters = _fresh(how.stack * train.width, model, generator)

    def loss(batch: IntArray) -> Tensor:
        frames = [stacked(train.read(i), how.stack) for i in batch]
        transcripts = [ending[i] for i in batch]
        embedded, mask = _inputs(model, _adapted(parameters, frames), [prompt + own for own in transcripts])
        longest = max(len(own) for own in transcripts)
        targets = torch.tensor([[NO_TARGET] * (longest - len(own)) + own for own in transcripts], device=model.device)
        logits = model.network(  # the last gives a token after the end, which nothing asks for
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
            logits_to_keep=longest + 1,
            use_cache=False,
        ).logits[:, :-1]
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=NO_TARGET
        )

    def score() -> float:
        return share_right(valid, transcribe(model, parameters, valid, how)[0])

    trained = fit(parameters, recipe, len(train), generator, loss, score)
    found, unfinished = transcribe(model, parameters, test, how)
    errors = word_errors(test.transcripts, found)
    return Transcription(found, errors, trained, to_numpy(parameters), unfinished=unfinished)


def transcribe(
    model: LanguageModel, adapter: dict[str, Any], utterances: Utterances, reading: Reading
) -> tuple[list[str], int]:
    """Texts that the model writes for the utterances, and how many of them ended at the length limit.

    adapter: the parameters of `train_adapter`, tensors or arrays. Utterances of like length are generated together.
    """
    torch = torch_library()
    parameters = {name: torch.as_tensor(value).to(model.device) for name, value in adapter.items()}
    end, prompt = model.tokenizer.eos_token_id, model.tokens(reading.prompt)
    settings = transformers_library().GenerationConfig(
        do_sample=False,
        max_new_tokens=reading.max_tokens,
        repetition_penalty=reading.repetition_penalty,
        eos_token_id=end,
        pad_token_id=end,  # fills up the shorter texts of a batch, after their end
    )
    order = sorted(range(len(utterances)), key=lambda i: len(utterances.frames[i]))
    texts, unfinished = [""] * len(utterances), 0
    for start in range(0, len(order), reading.at_once):
        items = order[start : start + reading.at_once]
        with torch.no_grad(), _quiet():
            frames = _adapted(parameters, [stacked(utterances.read(i), reading.stack) for i in items])
            embedded, mask = _inputs(model, frames, [prompt] * len(items))
            written = model.network.generate(inputs_embeds=embedded, attention_mask=mask, generation_config=settings)
        for i, tokens in zip(items, written.tolist(), strict=True):
            unfinished += end not in tokens
            own = tokens[: tokens.index(end)] if end in tokens else tokens
            texts[i] = " ".join(model.tokenizer.decode(own, skip_special_tokens=True).split())
    return texts, unfinished


def stacked(frames: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Consecutive frames side by side: (T', D) → (⌈T' / count⌉, count · D), filled up with zeros.

    >>> stacked(np.array([[1], [2], [3]], dtype=np.float32), 2).tolist()
    [[1.0, 2.0], [3.0, 0.0]]
    """
    missing = -len(frames) % count
    return np.pad(frames, ((0, missing), (0, 0))).reshape(-1, count * frames.shape[1])


def _fresh(width: int, model: LanguageModel, generator: Any) -> dict[str, Tensor]:
    """The adapter as torch.nn makes its three Linear."""
    config = model.network.config.get_text_config()
    inner = int(getattr(config, "intermediate_size", None) or 4 * model.width)
    layers = {
        "gate": initial_parameters(width, inner, generator),
        "up": initial_parameters(width, inner, generator),
        "down": initial_parameters(inner, model.width, generator),
    }
    return {
        f"{name}.{part}": getattr(layer, part).to(model.device)
        for name, layer in layers.items()
        for part in ("weight", "bias")
    }


def _adapted(parameters: dict[str, Tensor], frames: Sequence[NDArray[np.float32]]) -> Sequence[Tensor]:
    """Each utterance's frames in the space of the model's embeddings, (T', width) float32 each."""
    torch = torch_library()
    linear, silu = torch.nn.functional.linear, torch.nn.functional.silu
    x = torch.as_tensor(np.concatenate(frames)).to(parameters["gate.weight"].device)
    gate, up = (linear(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"]) for name in ("gate", "up"))
    adapted = linear(silu(gate) * up, parameters["down.weight"], parameters["down.bias"])
    return adapted.split([len(own) for own in frames])


def _inputs(model: LanguageModel, frames: Sequence[Tensor], tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Frames and then tokens as the model's input embeddings (n, longest, width), padded on the left, and the mask."""
    torch = torch_library()
    embedding = model.network.get_input_embeddings()
    rows = [
        torch.cat([own.to(embedding.weight.dtype), embedding(torch.tensor(ids, dtype=torch.long, device=model.device))])
        for own, ids in zip(frames, tokens, strict=True)
    ]
    longest = max(len(row) for row in rows)
    embedded = torch.stack([torch.nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    mask = torch.arange(longest, device=model.device) >= longest - lengths[:, None]
    return embedded, mask.long()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers without progress bars, warnings and chatter on stdout, for a while."""
    with quiet_transformers(), contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
