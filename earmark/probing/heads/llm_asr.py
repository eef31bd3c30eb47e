"""Speech recognition from frozen frame embeddings, recipe `xares`: a frozen language model with a trained adapter.

The adapter, a SwiGLU layer, maps frames to vectors in the embedding space of the language model. The input of the
model is these vectors, a short prompt, the transcript and the end-of-text token. Only the adapter is trained, by the
cross-entropy of transcript and end-of-text token. X-ARES uses Qwen2.5-0.5B; any causal transformers model can be used.

Sequences are padded on the left and masked, so that generation continues right after the prompt.
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
from earmark.probing.heads.ctc import Transcription, Utterances, check_splits, corpus_score
from earmark.probing.heads.optimise import TrainingConfig, to_numpy, train_with_selection
from earmark.probing.options import PUBLISHED_LANGUAGE_MODEL

IntArray = NDArray[np.int64]

REQUIRED_FILES = "the configuration, weights and tokenizer files"
XARES_CONFIG = TrainingConfig(epochs=10, batch_size=4, learning_rate=1e-3)  # LibriSpeech in X-ARES
transformers_library = partial(require_library, "transformers", "--extra clap", "A language model")
IGNORED_TARGET = -100  # ignore_index of the cross-entropy


@dataclass(frozen=True)
class DecodingConfig:
    """Input and generation settings of the language model.

    Attributes
    ----------
    prompt : str
        Text between frames and transcript. The prompt of X-ARES is Qwen's token for the end of an image.
    stack : int
        Consecutive frames that the adapter gets as one vector; the last vector is zero-padded.
    max_tokens : int
        Length limit of a generated transcript.
    repetition_penalty : float
        Logits of tokens generated before are divided by it if positive, and multiplied if negative; 1 disables it.
    batch_size : int
        Utterances generated together. Padding is masked, so other utterances change results by rounding only; with 1,
        not at all.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    prompt: str = "<|vision_end|>"
    stack: int = 1
    max_tokens: int = 200
    repetition_penalty: float = 1.1
    batch_size: int = 16

    def __post_init__(self) -> None:
        if min(self.stack, self.max_tokens, self.batch_size) < 1 or not self.repetition_penalty > 0:
            raise ValueError(
                f"stack, max_tokens and batch_size must be at least 1 and repetition_penalty above 0, got {self}"
            )


@dataclass(frozen=True)
class LanguageModel:
    """A frozen causal language model with its tokenizer.

    Attributes
    ----------
    network : transformers model
    tokenizer : transformers tokenizer
    device : str
    description : dict
        Model, precision, number of parameters and version of transformers, for the summary.
    """

    network: Any
    tokenizer: Any
    device: str
    description: dict[str, Any]

    @property
    def width(self) -> int:
        """Dimension of the token embeddings."""
        return int(self.network.get_input_embeddings().weight.shape[1])

    def tokens(self, text: str) -> list[int]:
        """Tokens of a text, without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def load_language_model(
    name: str | Path = PUBLISHED_LANGUAGE_MODEL, *, device: str = "cpu", dtype: str | None = None
) -> LanguageModel:
    """Load a causal language model and its tokenizer, and freeze the weights.

    Parameters
    ----------
    name : str or Path
        A folder or a Hugging Face id.
    device : str
        Name of a torch device.
    dtype : str, optional
        torch dtype of the weights. bfloat16 on a GPU and float32 on a CPU by default.

    Returns
    -------
    LanguageModel

    Raises
    ------
    MissingError
        If the model cannot be loaded, weights are missing, or the tokenizer has no end-of-text token.
    """
    torch, transformers = torch_library(), transformers_library()
    dtype = dtype or ("float32" if torch.device(device).type == "cpu" else "bfloat16")
    tokenizer = load_tokenizer(name)
    with explain_load_errors(str(name), "a causal language model", hub=REQUIRED_FILES), _quiet():
        network = load_complete_model(transformers.AutoModelForCausalLM, str(name), **dtype_option(dtype))
        if tokenizer.eos_token_id is None:
            raise ValueError("its tokenizer has no end-of-text token")
    shown = Path(name).resolve().name if Path(name).is_dir() else str(name)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    description = {"model": shown, "dtype": dtype, "parameters": parameters, "transformers": transformers.__version__}
    return LanguageModel(network.to(device).requires_grad_(False).eval(), tokenizer, device, description)


def load_tokenizer(name: str | Path) -> Any:
    """Load a transformers tokenizer from a folder or the Hugging Face Hub; MissingError if that fails."""
    transformers = transformers_library()
    with explain_load_errors(str(name), "a tokenizer", hub=REQUIRED_FILES), _quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers accepts a folder without tokenizer files
            raise ValueError("it has no vocabulary")
        return tokenizer


def train_adapter(
    model: LanguageModel,
    train: Utterances,
    valid: Utterances,
    test: Utterances,
    config: TrainingConfig = XARES_CONFIG,
    decoding: DecodingConfig | None = None,
    *,
    seed: int = 0,
) -> Transcription:
    """Train the adapter, select the epoch by max(0, 1 − WER) on validation data, and transcribe the test set.

    Parameters
    ----------
    model : LanguageModel
        Its weights do not change.
    train, valid, test : Utterances
    config : TrainingConfig
        That of LibriSpeech in X-ARES by default.
    decoding : DecodingConfig, optional
    seed : int

    Returns
    -------
    Transcription

    Raises
    ------
    ValueError
        If a set is empty, dimensions differ, frames are not finite, or no epoch has a finite loss.

    Notes
    -----
    The adapter is W₃(silu(W₁x + b₁) ∘ (W₂x + b₂)) + b₃, with the hidden width of the model's feed-forward layers, in
    float32 for any precision of the model. The loss is the mean over transcript and end-of-text tokens of a batch.
    Generation is greedy with a repetition penalty.

    References
    ----------
    Zhang et al. (2025), X-ARES: a comprehensive framework for assessing audio encoder performance.
    Shazeer (2020), GLU variants improve Transformer, eq. 6 (SwiGLU).
    """
    check_splits(train, valid, test)
    torch = torch_library()
    decoding = decoding or DecodingConfig()
    prompt = model.tokens(decoding.prompt)
    transcript_tokens = [[*model.tokens(text), model.tokenizer.eos_token_id] for text in train.transcripts]
    generator = seeded_generator(seed, 0)
    parameters = _initial_adapter(decoding.stack * train.width, model, generator)

    def loss(batch: IntArray) -> Tensor:
        frames = [stack_frames(train.read(i), decoding.stack) for i in batch]
        transcripts = [transcript_tokens[i] for i in batch]
        embedded, mask = _inputs(model, _adapt(parameters, frames), [prompt + tokens for tokens in transcripts])
        longest = max(len(tokens) for tokens in transcripts)
        padded = [[IGNORED_TARGET] * (longest - len(tokens)) + tokens for tokens in transcripts]
        targets = torch.tensor(padded, device=model.device)
        logits = model.network(  # without the last position, which follows the end-of-text token
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
            logits_to_keep=longest + 1,
            use_cache=False,
        ).logits[:, :-1]
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED_TARGET
        )

    def score() -> float:
        return corpus_score(valid, transcribe(model, parameters, valid, decoding)[0])

    history = train_with_selection(parameters, config, len(train), generator, loss, score)
    texts, n_truncated = transcribe(model, parameters, test, decoding)
    errors = word_errors(test.transcripts, texts)
    return Transcription(texts, errors, history, to_numpy(parameters), n_truncated=n_truncated)


def transcribe(
    model: LanguageModel, adapter: dict[str, Any], utterances: Utterances, decoding: DecodingConfig
) -> tuple[list[str], int]:
    """Generate transcripts with the language model.

    Parameters
    ----------
    model : LanguageModel
    adapter : dict of str to tensor or array
        Parameters of the adapter, as `train_adapter` returns them.
    utterances : Utterances
        Batched by length.
    decoding : DecodingConfig

    Returns
    -------
    texts : list of str
        One per utterance.
    n_truncated : int
        Number of transcripts that reached the length limit.
    """
    torch = torch_library()
    parameters = {name: torch.as_tensor(value).to(model.device) for name, value in adapter.items()}
    end, prompt = model.tokenizer.eos_token_id, model.tokens(decoding.prompt)
    settings = transformers_library().GenerationConfig(
        do_sample=False,
        max_new_tokens=decoding.max_tokens,
        repetition_penalty=decoding.repetition_penalty,
        eos_token_id=end,
        pad_token_id=end,  # padding after the end of shorter texts
    )
    order = sorted(range(len(utterances)), key=lambda i: len(utterances.frames[i]))
    texts, n_truncated = [""] * len(utterances), 0
    for start in range(0, len(order), decoding.batch_size):
        items = order[start : start + decoding.batch_size]
        with torch.no_grad(), _quiet():
            frames = _adapt(parameters, [stack_frames(utterances.read(i), decoding.stack) for i in items])
            embedded, mask = _inputs(model, frames, [prompt] * len(items))
            generated = model.network.generate(inputs_embeds=embedded, attention_mask=mask, generation_config=settings)
        for i, tokens in zip(items, generated.tolist(), strict=True):
            n_truncated += end not in tokens
            transcript = tokens[: tokens.index(end)] if end in tokens else tokens
            texts[i] = " ".join(model.tokenizer.decode(transcript, skip_special_tokens=True).split())
    return texts, n_truncated


def stack_frames(frames: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Concatenate `count` consecutive frames: (T', D) → (⌈T' / count⌉, count · D), with zero padding.

    >>> stack_frames(np.array([[1], [2], [3]], dtype=np.float32), 2).tolist()
    [[1.0, 2.0], [3.0, 0.0]]
    """
    missing = -len(frames) % count
    return np.pad(frames, ((0, missing), (0, 0))).reshape(-1, count * frames.shape[1])


def _initial_adapter(width: int, model: LanguageModel, generator: Any) -> dict[str, Tensor]:
    """Initial parameters of the three linear layers, as in torch.nn."""
    config = model.network.config.get_text_config()
    hidden = int(getattr(config, "intermediate_size", None) or 4 * model.width)
    layers = {
        "gate": initial_parameters(width, hidden, generator),
        "up": initial_parameters(width, hidden, generator),
        "down": initial_parameters(hidden, model.width, generator),
    }
    return {
        f"{name}.{part}": getattr(layer, part).to(model.device)
        for name, layer in layers.items()
        for part in ("weight", "bias")
    }


def _adapt(parameters: dict[str, Tensor], frames: Sequence[NDArray[np.float32]]) -> Sequence[Tensor]:
    """Frames of each utterance, mapped to the embedding space of the model: (T', width) float32."""
    torch = torch_library()
    linear, silu = torch.nn.functional.linear, torch.nn.functional.silu
    x = torch.as_tensor(np.concatenate(frames)).to(parameters["gate.weight"].device)
    gate, up = (linear(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"]) for name in ("gate", "up"))
    adapted = linear(silu(gate) * up, parameters["down.weight"], parameters["down.bias"])
    return adapted.split([len(each) for each in frames])


def _inputs(model: LanguageModel, frames: Sequence[Tensor], tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Input embeddings (n, longest, width) of frames followed by tokens, padded on the left, and the mask."""
    torch = torch_library()
    embedding = model.network.get_input_embeddings()
    rows = [
        torch.cat([x.to(embedding.weight.dtype), embedding(torch.tensor(ids, dtype=torch.long, device=model.device))])
        for x, ids in zip(frames, tokens, strict=True)
    ]
    longest = max(len(row) for row in rows)
    embedded = torch.stack([torch.nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    mask = torch.arange(longest, device=model.device) >= longest - lengths[:, None]
    return embedded, mask.long()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress progress bars, warnings and stdout of transformers."""
    with quiet_transformers(), contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
