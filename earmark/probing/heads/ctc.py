"""Speech recognition from frozen frame embeddings, protocol `strict`: a linear CTC head over characters.

LayerNorm → Linear gives each frame a probability of every character and of the blank; the reading is greedy, without
a lexicon or a language model, so that what is right was in the embeddings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.word_error_rate import one_minus_wer, word_errors
from earmark.probing.heads.batched import Parameters, Tensor, initial_parameters, seeded_generator, torch_library
from earmark.probing.heads.optimise import Fit, TrainingConfig, fit, to_numpy

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]

BLANK = 0  # the first output; the characters follow
SHOWN = 3


@dataclass(frozen=True)
class Utterances:
    """Frame embeddings and what was said.

    frames: n arrays (T', D) of their own lengths, at least one frame each. transcripts: n texts, whose white space is
    taken for single spaces; normalise them first where case or punctuation should not count. names: what messages
    call the utterances; their numbers if none are given.
    """

    frames: Sequence[FloatArray]
    transcripts: Sequence[str]
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.transcripts) or len(self.names) not in (0, len(self.frames)):
            raise ValueError(
                f"{len(self.frames)} arrays of frames, {len(self.transcripts)} transcripts and {len(self.names)} names "
                "must be as many"
            )
        object.__setattr__(self, "transcripts", [" ".join(text.split()) for text in self.transcripts])
        width = None
        for i, frames in enumerate(self.frames):
            if frames.ndim != 2 or not frames.size or frames.shape[1] != (width := width or frames.shape[1]):
                raise ValueError(
                    f"utterance {self.name(i)}: frames {frames.shape} must be (frames, {width or 'width'})"
                )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def width(self) -> int:
        """D, the numbers of a frame."""
        return int(self.frames[0].shape[1])

    def name(self, i: int) -> str:
        """What messages call an utterance."""
        return self.names[i] if self.names else str(i)

    def read(self, i: int) -> NDArray[np.float32]:
        """The frames of one utterance as float32; ValueError where one is not finite."""
        frames = np.array(self.frames[i], dtype=np.float32)
        if not np.isfinite(frames).all():
            raise ValueError(f"utterance {self.name(i)}: its frames are not finite")
        return frames


@dataclass(frozen=True)
class Transcription:
    """What a probe makes of the test utterances.

    hypotheses: n texts. errors: (n, 4) as `word_errors` counts them. parameters: the probe's. Of CTC alone, left_out:
    names of the utterances that training left out, and characters: those of the outputs after the blank. Of a language
    model alone, unfinished: how many hypotheses ended at the length limit.
    """

    hypotheses: list[str]
    errors: IntArray
    fit: Fit
    parameters: dict[str, NDArray[np.float32]]
    left_out: tuple[str, ...] = ()
    characters: str = ""
    unfinished: int = 0

    @property
    def score(self) -> float:
        """max(0, 1 − WER) over all test utterances together."""
        return float(one_minus_wer(self.errors.sum(axis=0)))


def train_ctc(
    train: Utterances,
    valid: Utterances,
    test: Utterances,
    recipe: TrainingConfig,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Transcription:
    """Train a linear CTC head, choose its epoch by max(0, 1 − WER) on validation, and read the test utterances.

    Characters are those of the training transcripts; any other is beyond the head and counts as an error. An utterance
    whose transcript needs more frames than it has (one for each character, one between equal neighbours) cannot be
    trained on: it is named in `left_out`, and validation and test keep theirs. Utterances are read one at a time, so
    none depends on another. The same seed repeats exactly on a CPU; torch's CTC on a GPU does not promise it.
    ValueError: an empty split, widths that differ, frames that are not finite, nothing to train.
    Source: Graves et al. (2006), Connectionist temporal classification, ICML.
    """
    check_splits(train, valid, test)
    torch = torch_library()
    characters = "".join(sorted(set("".join(train.transcripts))))
    number = {character: i for i, character in enumerate(characters, start=BLANK + 1)}
    targets = [[number[character] for character in text] for text in train.transcripts]
    fits = [frames_needed(text) <= len(train.frames[i]) for i, text in enumerate(train.transcripts)]
    items = np.flatnonzero(fits)
    left_out = tuple(train.name(i) for i, enough in enumerate(fits) if not enough)
    if not len(items) or not characters:
        raise ValueError(
            f"no training utterance has frames enough for its transcript; {', '.join(left_out[:SHOWN])} … have not"
            if left_out
            else "the training transcripts are empty; there is nothing to learn"
        )
    generator = seeded_generator(seed, 0)
    fresh = initial_parameters(train.width, len(characters) + 1, generator)
    parameters = {name: value.to(device) for name, value in fresh._asdict().items()}

    def loss(batch: IntArray) -> Tensor:
        frames = [train.read(i) for i in items[batch]]
        lengths = [len(own) for own in frames]
        logits = _logits(parameters, np.concatenate(frames)).split(lengths)
        chosen = [targets[i] for i in items[batch]]
        return torch.nn.functional.ctc_loss(
            torch.nn.utils.rnn.pad_sequence(logits).log_softmax(dim=2),
            torch.tensor([c for own in chosen for c in own], dtype=torch.long, device=device),
            torch.tensor(lengths),
            torch.tensor([len(own) for own in chosen]),
            blank=BLANK,
        )

    def hypotheses(utterances: Utterances) -> list[str]:
        read = (_logits(parameters, utterances.read(i)) for i in range(len(utterances)))
        return [greedy_text(logits.cpu().numpy(), characters) for logits in read]

    how = fit(parameters, recipe, len(items), generator, loss, lambda: share_right(valid, hypotheses(valid)))
    with torch.no_grad():
        found = hypotheses(test)
    return Transcription(found, word_errors(test.transcripts, found), how, to_numpy(parameters), left_out, characters)


def frames_needed(transcript: str) -> int:
    """The fewest frames that CTC can write a text in.

    >>> frames_needed("hello")
    6
    """
    return len(transcript) + sum(a == b for a, b in pairwise(transcript))


def greedy_text(logits: FloatArray, characters: str) -> str:
    """The likeliest output of each frame, runs of the same taken for one, blanks left out. logits: (T', 1 + C).

    The first of equal outputs wins. White space at the ends goes, runs of it become one space.

    >>> greedy_text(np.eye(3)[[1, 1, 0, 1, 2, 2, 0]], "ab")
    'aab'
    """
    path = np.asarray(logits).argmax(axis=1)
    new = np.diff(path, prepend=-1) != 0
    return " ".join("".join(characters[c - 1] for c in path[new & (path != BLANK)]).split())


def check_splits(train: Utterances, valid: Utterances, test: Utterances) -> None:
    """ValueError where a split is empty, or the widths of the splits differ."""
    for name, split in (("training", train), ("validation", valid), ("test", test)):
        if not len(split):
            raise ValueError(f"the {name} split has no utterance")
    if len({split.width for split in (train, valid, test)}) > 1:
        raise ValueError("the frames of training, validation and test must be of the same width")


def share_right(utterances: Utterances, hypotheses: Sequence[str]) -> float:
    """max(0, 1 − WER) of all utterances together."""
    return float(one_minus_wer(word_errors(utterances.transcripts, hypotheses).sum(axis=0)))


def _logits(parameters: dict[str, Tensor], frames: NDArray[np.float32]) -> Tensor:
    """LayerNorm → Linear of frames (T', D): (T', 1 + C)."""
    torch = torch_library()
    head = Parameters(**parameters)
    x = torch.as_tensor(frames).to(head.weight.device)
    normalised = torch.nn.functional.layer_norm(x, (x.shape[1],), head.scale, head.shift)
    return torch.nn.functional.linear(normalised, head.weight, head.bias)
