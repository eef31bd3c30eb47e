"""Audio-text retrieval from frozen clip embeddings: two small towers, trained to meet.

Audio: LayerNorm → Linear → GELU → Linear. Text: token embeddings, trained from nothing, each through Linear → GELU →
Linear, then their mean. Both end at length 1, and a symmetric InfoNCE pulls a clip and its caption together.

A clip enters an epoch once, with one of its captions drawn at random: two captions of a clip never meet in a batch, so
none is held against the other. The tower's shapes are those of X-ARES; its loss leaves the embeddings' lengths free.
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
from earmark.probing.heads.optimise import Fit, TrainingConfig, fit, to_numpy

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

WIDTH = 1024  # of token embeddings, hidden layers and the common space
FIRST_TEMPERATURE = 0.07
LARGEST_SCALE = 100.0  # of the similarities, as in CLIP
AT_ONCE = 1024  # clips or captions embedded
DECIMALS = 5  # of a cosine: how sums are rounded must not tell the same caption of two clips apart
RECIPE = TrainingConfig(epochs=20, batch_size=128, learning_rate=1e-3)  # of Clotho in X-ARES


@dataclass(frozen=True)
class CaptionedClips:
    """embeddings: (n, D), finite. captions: each clip's texts, at least one; as many as there are, not always five."""

    embeddings: FloatArray
    captions: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        x = np.asarray(self.embeddings)
        if x.ndim != 2 or len(x) != len(self.captions):
            raise ValueError(
                f"embeddings {x.shape} must be (clips, width), as many as the {len(self.captions)} captions'"
            )
        bad = ~np.isfinite(x).all(axis=1)
        if bad.any():
            raise ValueError(f"row {bad.argmax()} of the embeddings is not finite")
        without = next((i for i, own in enumerate(self.captions) if isinstance(own, str) or not own), None)
        if without is not None:
            raise ValueError(f"clip {without} has no list of captions")
        object.__setattr__(self, "embeddings", x.astype(np.float32, copy=False))

    @property
    def texts(self) -> list[str]:
        """All captions, clip after clip."""
        return [text for own in self.captions for text in own]

    @property
    def clip(self) -> IntArray:
        """(m,) the clip of each of `texts`."""
        return np.repeat(np.arange(len(self.captions)), [len(own) for own in self.captions])


@dataclass(frozen=True)
class Retrieval:
    """Test clips and captions in the common space, and what can be found there.

    audio: (n, 1024), text: (m, 1024), of length 1; clip: (m,) the clip of each caption. tokenizer: which one cut the
    captions, and how many tokens it knows.
    """

    audio: FloatArray
    text: FloatArray
    clip: IntArray
    fit: Fit
    tokenizer: dict[str, Any]
    parameters: dict[str, FloatArray]

    @property
    def similarity(self) -> NDArray[np.float64]:
        """Cosine of every clip and caption, (n, m), to DECIMALS."""
        return _cosines(self.audio, self.text)

    @property
    def metrics(self) -> dict[str, float]:
        """What `retrieval_metrics` makes of the similarities."""
        return retrieval_metrics(self.similarity, self.clip)


class WordTokenizer:
    """Words of the training captions, lower-case and without punctuation; the frequent ones have the low numbers.

    Other words are left out of a caption. One of none but such words is the token 0, which is never trained.

    >>> WordTokenizer(["A dog barks.", "a cat"]).tokens("The DOG, a cat!")
    [2, 1, 4]
    """

    def __init__(self, captions: Sequence[str]) -> None:
        counts = Counter(word for text in captions for word in normalise(text).split())
        self._number = {word: i for i, (word, _) in enumerate(counts.most_common(), start=1)}
        self.size = len(self._number) + 1
        self.description: dict[str, Any] = {"tokenizer": "words of the training captions", "tokens": self.size}

    def tokens(self, text: str) -> list[int]:
        """The numbers of a text's words, at least one."""
        return [self._number[word] for word in normalise(text).split() if word in self._number] or [0]


class SavedTokenizer:
    """A transformers tokenizer from a folder or the hub, with the special tokens that it adds."""

    def __init__(self, name: str | Path) -> None:
        self._tokenizer = load_tokenizer(name)
        self.size = len(self._tokenizer)
        shown = Path(name).resolve().name if Path(name).is_dir() else str(name)
        self.description: dict[str, Any] = {"tokenizer": shown, "tokens": self.size}

    def tokens(self, text: str) -> list[int]:
        """The numbers of a text's tokens, at least one."""
        return list(self._tokenizer(text)["input_ids"]) or [0]


def train_retrieval(
    train: CaptionedClips,
    valid: CaptionedClips,
    test: CaptionedClips,
    recipe: TrainingConfig = RECIPE,
    *,
    seed: int = 0,
    tokenizer: str | Path | None = None,
    device: str = "cpu",
) -> Retrieval:
    """Train both towers, choose the epoch by mean R@1 on validation, and embed the test clips and captions.

    tokenizer: a folder or hub name of a transformers tokenizer (X-ARES: bert-base-uncased); None cuts captions into
    the words of the training captions, without any download. The same seed repeats exactly on the same device. The
    temperature starts at 0.07 and never falls below 0.01. A batch of one clip, the last perhaps, teaches nothing.
    ValueError: fewer than two training clips, an empty validation or test split, widths that differ.
    Source: X-ARES, Zhang et al. (2025); loss, Radford et al. (2021), Learning transferable visual models.
    """
    if len(train.captions) < 2 or not len(valid.captions) or not len(test.captions):
        raise ValueError("retrieval needs two training clips, and one in validation and in test")
    if len({split.embeddings.shape[1] for split in (train, valid, test)}) > 1:
        raise ValueError("the embeddings of training, validation and test must be of the same width")
    torch = torch_library()
    cut = WordTokenizer(train.texts) if tokenizer is None else SavedTokenizer(tokenizer)
    captions = [[cut.tokens(text) for text in own] for own in train.captions]
    valid_tokens, test_tokens = ([cut.tokens(text) for text in split.texts] for split in (valid, test))
    generator = seeded_generator(seed, 0)
    parameters = _fresh(train.embeddings.shape[1], cut.size, generator, device)

    def loss(batch: IntArray) -> Tensor:
        draws = torch.rand(len(batch), generator=generator).tolist()
        drawn = [captions[i][int(draw * len(captions[i]))] for i, draw in zip(batch, draws, strict=True)]
        with torch.no_grad():
            parameters["log_scale"].clamp_(max=np.log(LARGEST_SCALE))
        audio = _audio(parameters, train.embeddings[batch])
        logits = parameters["log_scale"].exp() * audio @ _text(parameters, drawn).T
        own = torch.arange(len(batch), device=logits.device)
        entropy = torch.nn.functional.cross_entropy
        return (entropy(logits, own) + entropy(logits.T, own)) / 2

    def score() -> float:
        similarity = _cosines(
            _embedded(parameters, valid.embeddings, _audio), _embedded(parameters, valid_tokens, _text)
        )
        return mean_recall_at_1(similarity, valid.clip) if np.isfinite(similarity).all() else float("nan")

    how = fit(parameters, recipe, len(captions), generator, loss, score)
    audio, text = _embedded(parameters, test.embeddings, _audio), _embedded(parameters, test_tokens, _text)
    return Retrieval(audio, text, test.clip, how, cut.description, to_numpy(parameters))


def _fresh(width: int, n_tokens: int, generator: Any, device: str) -> dict[str, Tensor]:
    """Parameters as torch.nn makes them: LayerNorm, four Linear, an Embedding from the normal distribution."""
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
        "log_scale": torch.tensor(np.log(1 / FIRST_TEMPERATURE), dtype=torch.float32),
    }
    for name, layer in layers.items():
        parameters |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    return {name: value.to(device) for name, value in parameters.items()}


def _audio(parameters: dict[str, Tensor], embeddings: FloatArray) -> Tensor:
    """Clips (n, D) in the common space, of length 1."""
    torch = torch_library()
    x = torch.as_tensor(embeddings).to(parameters["scale"].device)
    x = torch.nn.functional.layer_norm(x, (x.shape[1],), parameters["scale"], parameters["shift"])
    return torch.nn.functional.normalize(_two_layers(parameters, "audio", x), dim=1)


def _text(parameters: dict[str, Tensor], captions: Sequence[Sequence[int]]) -> Tensor:
    """Captions, each its tokens' numbers, in the common space, of length 1.

    What becomes of a token does not depend on its neighbours, so that each of a batch is computed once; shares of
    tokens in captions then make the means as one product, which a GPU repeats exactly.
    """
    torch = torch_library()
    used, place = np.unique([token for own in captions for token in own], return_inverse=True)
    lengths = [len(own) for own in captions]
    shares = np.zeros((len(captions), len(used)), dtype=np.float32)
    np.add.at(shares, (np.repeat(np.arange(len(captions)), lengths), place), np.repeat(1 / np.array(lengths), lengths))
    device = parameters["tokens"].device
    tokens = parameters["tokens"].index_select(0, torch.as_tensor(used).to(device))
    mean = torch.as_tensor(shares).to(device) @ _two_layers(parameters, "text", tokens)
    return torch.nn.functional.normalize(mean, dim=1)


def _two_layers(parameters: dict[str, Tensor], tower: str, x: Tensor) -> Tensor:
    functional = torch_library().nn.functional
    hidden = functional.gelu(functional.linear(x, parameters[f"{tower}_1.weight"], parameters[f"{tower}_1.bias"]))
    return functional.linear(hidden, parameters[f"{tower}_2.weight"], parameters[f"{tower}_2.bias"])


def _cosines(audio: FloatArray, text: FloatArray) -> NDArray[np.float64]:
    """Of vectors of length 1, to DECIMALS; a product of float32 gives equal columns other last bits."""
    return np.round(audio.astype(np.float64) @ text.T.astype(np.float64), DECIMALS)


def _embedded(parameters: dict[str, Tensor], items: Any, tower: Any) -> FloatArray:
    """What a tower makes of all items, a bounded number at a time."""
    with torch_library().no_grad():
        parts = [tower(parameters, items[i : i + AT_ONCE]).cpu().numpy() for i in range(0, len(items), AT_ONCE)]
    return np.concatenate(parts)
