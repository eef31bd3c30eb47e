"""Audio-text retrieval from frozen clip embeddings: an audio tower and a text tower with a common space.

Audio: LayerNorm → Linear → GELU → Linear. Text: token embeddings trained from scratch, Linear → GELU → Linear for each
token, then the mean over tokens. Outputs have length 1. The loss is the symmetric InfoNCE.

In each epoch, every clip is used once, with one of its captions drawn at random. A batch therefore never contains two
captions of a clip, which would be negatives of each other. The layers are those of X-ARES; the loss has no penalty on
the length of embeddings.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.retrieval import mean_recall_at_1, retrieval_metrics
from earmark.metrics.word_error_rate import normalise
from earmark.probing.heads.batched import Tensor, initial_parameters, seeded_generator, torch_library
from earmark.probing.heads.llm_asr import load_tokenizer
from earmark.probing.heads.optimise import TrainingConfig, TrainingHistory, to_numpy, train_with_selection

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

WIDTH = 1024  # dimension of token embeddings, hidden layers and common space
INITIAL_TEMPERATURE = 0.07
MAX_SCALE = 100.0  # of the similarities, as in CLIP
EMBEDDING_BATCH = 1024  # clips or captions
COSINE_DECIMALS = 5  # so that rounding errors do not separate identical captions of two clips
XARES_CONFIG = TrainingConfig(epochs=20, batch_size=128, learning_rate=1e-3)  # Clotho in X-ARES


@dataclass(frozen=True)
class CaptionedClips:
    """Clip embeddings with captions.

    Attributes
    ----------
    embeddings : (n, D) float32
        Finite.
    captions : sequence of sequence of str
        At least one caption per clip; their number may vary.

    Raises
    ------
    ValueError
        If shapes do not match, an embedding is not finite, or a clip has no captions.
    """

    embeddings: FloatArray
    captions: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        x = np.asarray(self.embeddings)
        if x.ndim != 2 or len(x) != len(self.captions):
            raise ValueError(
                f"embeddings have shape {x.shape}, expected ({len(self.captions)}, d) for {len(self.captions)} clips"
            )
        bad = ~np.isfinite(x).all(axis=1)
        if bad.any():
            raise ValueError(f"row {bad.argmax()} of the embeddings is not finite")
        invalid = next((i for i, texts in enumerate(self.captions) if isinstance(texts, str) or not texts), None)
        if invalid is not None:
            raise ValueError(f"clip {invalid} has no list of captions")
        object.__setattr__(self, "embeddings", x.astype(np.float32, copy=False))

    @property
    def texts(self) -> list[str]:
        """All m captions, ordered by clip."""
        return [text for texts in self.captions for text in texts]

    @property
    def clip(self) -> IntArray:
        """Clip index of each of `texts`, (m,)."""
        return np.repeat(np.arange(len(self.captions)), [len(texts) for texts in self.captions])


@dataclass(frozen=True)
class RetrievalResult:
    """Test clips and captions in the common space.

    Attributes
    ----------
    audio : (n, 1024) float32
        Of length 1.
    text : (m, 1024) float32
        Of length 1.
    clip : (m,) int
        Clip index of each caption.
    history : TrainingHistory
    tokenizer : dict
        Name of the tokenizer and size of its vocabulary.
    parameters : dict of str to array
    """

    audio: FloatArray
    text: FloatArray
    clip: IntArray
    history: TrainingHistory
    tokenizer: dict[str, Any]
    parameters: dict[str, FloatArray]

    @property
    def similarity(self) -> NDArray[np.float64]:
        """Cosine of all clips and captions, (n, m), rounded to COSINE_DECIMALS."""
        return _cosines(self.audio, self.text)

    @property
    def metrics(self) -> dict[str, float]:
        """`retrieval_metrics` of the similarities."""
        return retrieval_metrics(self.similarity, self.clip)


class WordTokenizer:
    """Splits captions into the words of the training captions, lower-case and without punctuation.

    Tokens are numbered from 1 by decreasing frequency. Unknown words are dropped. A caption without known words
    becomes token 0, whose embedding is never trained.

    Parameters
    ----------
    captions : sequence of str
        The training captions.

    Examples
    --------
    >>> WordTokenizer(["A dog barks.", "a cat"]).tokens("The DOG, a cat!")
    [2, 1, 4]
    """

    def __init__(self, captions: Sequence[str]) -> None:
        counts = Counter(word for text in captions for word in normalise(text).split())
        self._index = {word: i for i, (word, _) in enumerate(counts.most_common(), start=1)}
        self.size = len(self._index) + 1
        self.description: dict[str, Any] = {"tokenizer": "words of the training captions", "tokens": self.size}

    def tokens(self, text: str) -> list[int]:
        """Token numbers of a caption, at least one."""
        return [self._index[word] for word in normalise(text).split() if word in self._index] or [0]


class SavedTokenizer:
    """A transformers tokenizer from a folder or the Hugging Face Hub, including its special tokens."""

    def __init__(self, name: str | Path) -> None:
        self._tokenizer = load_tokenizer(name)
        self.size = len(self._tokenizer)
        shown = Path(name).resolve().name if Path(name).is_dir() else str(name)
        self.description: dict[str, Any] = {"tokenizer": shown, "tokens": self.size}

    def tokens(self, text: str) -> list[int]:
        """Token numbers of a caption, at least one."""
        return list(self._tokenizer(text)["input_ids"]) or [0]


def train_retrieval(
    train: CaptionedClips,
    valid: CaptionedClips,
    test: CaptionedClips,
    config: TrainingConfig = XARES_CONFIG,
    *,
    seed: int = 0,
    tokenizer: str | Path | None = None,
    device: str = "cpu",
) -> RetrievalResult:
    """Train both towers, select the epoch by mean R@1 on validation data, and embed the test clips and captions.

    Parameters
    ----------
    train, valid, test : CaptionedClips
    config : TrainingConfig
        That of Clotho in X-ARES by default.
    seed : int
        A seed gives identical results on the same device.
    tokenizer : str or Path, optional
        Folder or Hugging Face id of a transformers tokenizer (X-ARES: bert-base-uncased). By default, captions are
        split into words (`WordTokenizer`), without any download.
    device : str
        Name of a torch device.

    Returns
    -------
    RetrievalResult

    Raises
    ------
    ValueError
        If there are fewer than two training clips, the validation or test set is empty, or dimensions differ.
    MissingError
        If the tokenizer cannot be loaded.

    Notes
    -----
    The temperature is trained; it starts at 0.07 and is at least 0.01. A batch of a single clip, which may be the last
    one, has a loss of 0.

    References
    ----------
    Zhang et al. (2025), X-ARES: a comprehensive framework for assessing audio encoder performance.
    Radford et al. (2021), Learning transferable visual models from natural language supervision (loss).
    """
    if len(train.captions) < 2 or not len(valid.captions) or not len(test.captions):
        raise ValueError("retrieval requires at least two training clips, one validation clip and one test clip")
    if len({split.embeddings.shape[1] for split in (train, valid, test)}) > 1:
        raise ValueError("embeddings of the training, validation and test set must have the same dimension")
    torch = torch_library()
    splitter = WordTokenizer(train.texts) if tokenizer is None else SavedTokenizer(tokenizer)
    captions = [[splitter.tokens(text) for text in texts] for texts in train.captions]
    valid_tokens, test_tokens = ([splitter.tokens(text) for text in split.texts] for split in (valid, test))
    generator = seeded_generator(seed, 0)
    parameters = _initial_towers(train.embeddings.shape[1], splitter.size, generator, device)

    def loss(batch: IntArray) -> Tensor:
        draws = torch.rand(len(batch), generator=generator).tolist()
        drawn = [captions[i][int(draw * len(captions[i]))] for i, draw in zip(batch, draws, strict=True)]
        with torch.no_grad():
            parameters["log_scale"].clamp_(max=np.log(MAX_SCALE))
        audio = _embed_audio(parameters, train.embeddings[batch])
        logits = parameters["log_scale"].exp() * audio @ _embed_text(parameters, drawn).T
        target = torch.arange(len(batch), device=logits.device)
        cross_entropy = torch.nn.functional.cross_entropy
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2

    def score() -> float:
        audio = _embed_all(parameters, valid.embeddings, _embed_audio)
        similarity = _cosines(audio, _embed_all(parameters, valid_tokens, _embed_text))
        return mean_recall_at_1(similarity, valid.clip) if np.isfinite(similarity).all() else float("nan")

    history = train_with_selection(parameters, config, len(captions), generator, loss, score)
    audio = _embed_all(parameters, test.embeddings, _embed_audio)
    text = _embed_all(parameters, test_tokens, _embed_text)
    return RetrievalResult(audio, text, test.clip, history, splitter.description, to_numpy(parameters))


def _initial_towers(width: int, n_tokens: int, generator: Any, device: str) -> dict[str, Tensor]:
    """Initial parameters as in torch.nn: LayerNorm, four Linear, and a standard normal Embedding."""
    torch = torch_library()
    layers = {
        "audio_1": initial_parameters(width, WIDTH, generator),
        "audio_2": initial_parameters(WIDTH, WIDTH, generator),
        "text_1": initial_parameters(WIDTH, WIDTH, generator),
        "text_2": initial_parameters(WIDTH, WIDTH, generator),
    }
    parameters = {
        "scale": layers["audio_1"].scale,
        "shift": layers["audio_1"].shift,
        "tokens": torch.empty(n_tokens, WIDTH).normal_(generator=generator),
        "log_scale": torch.tensor(np.log(1 / INITIAL_TEMPERATURE), dtype=torch.float32),
    }
    for name, layer in layers.items():
        parameters |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    return {name: value.to(device) for name, value in parameters.items()}


def _embed_audio(parameters: dict[str, Tensor], embeddings: FloatArray) -> Tensor:
    """Map clips (n, D) to the common space, (n, 1024) of length 1."""
    torch = torch_library()
    x = torch.as_tensor(embeddings).to(parameters["scale"].device)
    x = torch.nn.functional.layer_norm(x, (x.shape[1],), parameters["scale"], parameters["shift"])
    return torch.nn.functional.normalize(_two_layers(parameters, "audio", x), dim=1)


def _embed_text(parameters: dict[str, Tensor], captions: Sequence[Sequence[int]]) -> Tensor:
    """Map captions, as token numbers, to the common space, (n, 1024) of length 1.

    The output of a token does not depend on the others, so each distinct token of a batch is computed once. Means over
    tokens are a matrix product, which is deterministic on a GPU.
    """
    torch = torch_library()
    used, column = np.unique([token for tokens in captions for token in tokens], return_inverse=True)
    lengths = [len(tokens) for tokens in captions]
    weights = np.zeros((len(captions), len(used)), dtype=np.float32)
    row = np.repeat(np.arange(len(captions)), lengths)
    np.add.at(weights, (row, column), np.repeat(1 / np.array(lengths), lengths))
    device = parameters["tokens"].device
    tokens = parameters["tokens"].index_select(0, torch.as_tensor(used).to(device))
    mean = torch.as_tensor(weights).to(device) @ _two_layers(parameters, "text", tokens)
    return torch.nn.functional.normalize(mean, dim=1)


def _two_layers(parameters: dict[str, Tensor], tower: str, x: Tensor) -> Tensor:
    functional = torch_library().nn.functional
    hidden = functional.gelu(functional.linear(x, parameters[f"{tower}_1.weight"], parameters[f"{tower}_1.bias"]))
    return functional.linear(hidden, parameters[f"{tower}_2.weight"], parameters[f"{tower}_2.bias"])


def _cosines(audio: FloatArray, text: FloatArray) -> NDArray[np.float64]:
    """Inner products in float64, rounded: without rounding, equal columns may differ in their last bits."""
    return np.round(audio.astype(np.float64) @ text.T.astype(np.float64), COSINE_DECIMALS)


def _embed_all(parameters: dict[str, Tensor], items: Any, tower: Any) -> FloatArray:
    """Output of a tower for all items, EMBEDDING_BATCH at a time."""
    starts = range(0, len(items), EMBEDDING_BATCH)
    with torch_library().no_grad():
        return np.concatenate([tower(parameters, items[i : i + EMBEDDING_BATCH]).cpu().numpy() for i in starts])
