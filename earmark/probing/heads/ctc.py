"""Speech recognition from frozen frame embeddings, recipe `strict`: a linear CTC head over characters.

LayerNorm → Linear gives the logits of all characters and the blank for each frame. Decoding is greedy, without lexicon
or language model, so that the score reflects the embeddings alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from earmark.metrics.word_error_rate import one_minus_wer, word_errors
from earmark.probing.heads.batched import Parameters, Tensor, initial_parameters, seeded_generator, torch_library
from earmark.probing.heads.optimise import TrainingConfig, TrainingHistory, to_numpy, train_with_selection

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]

BLANK = 0  # output of the blank; the characters follow
SHOWN_NAMES = 3  # in a message


@dataclass(frozen=True)
class Utterances:
    """Frame embeddings of utterances and their reference transcripts.

    Attributes
    ----------
    frames : n arrays (T', D)
        At least one frame each.
    transcripts : n str
        Runs of white space become single spaces. Normalise case and punctuation beforehand if they should not count.
    names : n str, optional
        Names for messages; indices by default.

    Raises
    ------
    ValueError
        If the lengths differ, an utterance has no frames, or dimensions differ.
    """

    frames: Sequence[FloatArray]
    transcripts: Sequence[str]
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.transcripts) or len(self.names) not in (0, len(self.frames)):
            raise ValueError(
                f"{len(self.frames)} arrays of frames, {len(self.transcripts)} transcripts and {len(self.names)} names "
                "must be equal in number"
            )
        object.__setattr__(self, "transcripts", [" ".join(text.split()) for text in self.transcripts])
        width = None
        for i, frames in enumerate(self.frames):
            if frames.ndim != 2 or not frames.size or frames.shape[1] != (width := width or frames.shape[1]):
                raise ValueError(
                    f"utterance {self.name(i)}: frames have shape {frames.shape}, expected (n, {width or 'd'})"
                )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def width(self) -> int:
        """Dimension of a frame, D."""
        return int(self.frames[0].shape[1])

    def name(self, i: int) -> str:
        """Name of an utterance in messages."""
        return self.names[i] if self.names else str(i)

    def read(self, i: int) -> NDArray[np.float32]:
        """Frames of one utterance as float32; ValueError if a value is not finite."""
        frames = np.array(self.frames[i], dtype=np.float32)
        if not np.isfinite(frames).all():
            raise ValueError(f"utterance {self.name(i)}: frames are not finite")
        return frames


@dataclass(frozen=True)
class Transcription:
    """Transcripts of the test utterances by a trained probe.

    Attributes
    ----------
    hypotheses : n str
    errors : (n, 4) int
        Counts of `word_errors`.
    history : TrainingHistory
    parameters : dict of str to array
    excluded : tuple of str
        CTC: training utterances with too few frames for their transcript.
    characters : str
        CTC: characters of the outputs after the blank.
    n_truncated : int
        Language model: hypotheses that reached the length limit.
    """

    hypotheses: list[str]
    errors: IntArray
    history: TrainingHistory
    parameters: dict[str, NDArray[np.float32]]
    excluded: tuple[str, ...] = ()
    characters: str = ""
    n_truncated: int = 0

    @property
    def score(self) -> float:
        """max(0, 1 − WER), with errors and words summed over all test utterances."""
        return float(one_minus_wer(self.errors.sum(axis=0)))


def train_ctc(
    train: Utterances,
    valid: Utterances,
    test: Utterances,
    config: TrainingConfig,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Transcription:
    """Train a linear CTC head, select the epoch by max(0, 1 − WER) on validation data, and transcribe the test set.

    Parameters
    ----------
    train, valid, test : Utterances
    config : TrainingConfig
    seed : int
        A seed gives identical results on a CPU. CTC in torch is not deterministic on a GPU.
    device : str
        Name of a torch device.

    Returns
    -------
    Transcription

    Raises
    ------
    ValueError
        If a set is empty, dimensions differ, frames are not finite, or there is nothing to train on.

    Notes
    -----
    The outputs are the characters of the training transcripts; any other character in a reference counts as an error.
    CTC needs one frame per character, and one more between two equal characters. Training utterances with fewer
    frames are listed in `excluded`; validation and test utterances are never excluded. Utterances are transcribed one
    by one, so the hypothesis of one does not depend on others.

    References
    ----------
    Graves et al. (2006), Connectionist temporal classification, ICML.
    """
    check_splits(train, valid, test)
    torch = torch_library()
    characters = "".join(sorted(set("".join(train.transcripts))))
    index = {character: i for i, character in enumerate(characters, start=BLANK + 1)}
    targets = [[index[character] for character in text] for text in train.transcripts]
    long_enough = [frames_needed(text) <= len(train.frames[i]) for i, text in enumerate(train.transcripts)]
    items = np.flatnonzero(long_enough)
    excluded = tuple(train.name(i) for i, enough in enumerate(long_enough) if not enough)
    if not len(items) or not characters:
        raise ValueError(
            f"all training utterances have too few frames for their transcripts: {', '.join(excluded[:SHOWN_NAMES])}, …"
            if excluded
            else "all training transcripts are empty"
        )
    generator = seeded_generator(seed, 0)
    initial = initial_parameters(train.width, len(characters) + 1, generator)
    parameters = {name: value.to(device) for name, value in initial._asdict().items()}

    def loss(batch: IntArray) -> Tensor:
        frames = [train.read(i) for i in items[batch]]
        lengths = [len(each) for each in frames]
        logits = _logits(parameters, np.concatenate(frames)).split(lengths)
        batch_targets = [targets[i] for i in items[batch]]
        return torch.nn.functional.ctc_loss(
            torch.nn.utils.rnn.pad_sequence(logits).log_softmax(dim=2),
            torch.tensor([c for target in batch_targets for c in target], dtype=torch.long, device=device),
            torch.tensor(lengths),
            torch.tensor([len(target) for target in batch_targets]),
            blank=BLANK,
        )

    def hypotheses(utterances: Utterances) -> list[str]:
        outputs = (_logits(parameters, utterances.read(i)) for i in range(len(utterances)))
        return [greedy_decode(logits.cpu().numpy(), characters) for logits in outputs]

    def score() -> float:
        return corpus_score(valid, hypotheses(valid))

    history = train_with_selection(parameters, config, len(items), generator, loss, score)
    with torch.no_grad():
        texts = hypotheses(test)
    errors = word_errors(test.transcripts, texts)
    return Transcription(texts, errors, history, to_numpy(parameters), excluded, characters)


def frames_needed(transcript: str) -> int:
    """Smallest number of frames in which CTC can emit a text.

    >>> frames_needed("hello")
    6
    """
    return len(transcript) + sum(a == b for a, b in pairwise(transcript))


def greedy_decode(logits: FloatArray, characters: str) -> str:
    """Greedy CTC decoding: merge runs of the most likely output, then remove blanks.

    Parameters
    ----------
    logits : (T', 1 + C) float
        The blank comes first. The lowest index wins ties.
    characters : str
        The C characters.

    Returns
    -------
    str
        Without leading and trailing white space; runs of white space become single spaces.

    Examples
    --------
    >>> greedy_decode(np.eye(3)[[1, 1, 0, 1, 2, 2, 0]], "ab")
    'aab'
    """
    path = np.asarray(logits).argmax(axis=1)
    changed = np.diff(path, prepend=-1) != 0
    return " ".join("".join(characters[c - 1] for c in path[changed & (path != BLANK)]).split())


def check_splits(train: Utterances, valid: Utterances, test: Utterances) -> None:
    """Raise ValueError if a set is empty or dimensions differ between sets."""
    for name, split in (("training", train), ("validation", valid), ("test", test)):
        if not len(split):
            raise ValueError(f"the {name} set has no utterances")
    if len({split.width for split in (train, valid, test)}) > 1:
        raise ValueError("frames of the training, validation and test set must have the same dimension")


def corpus_score(utterances: Utterances, hypotheses: Sequence[str]) -> float:
    """max(0, 1 − WER), with errors and words summed over all utterances."""
    return float(one_minus_wer(word_errors(utterances.transcripts, hypotheses).sum(axis=0)))


def _logits(parameters: dict[str, Tensor], frames: NDArray[np.float32]) -> Tensor:
    """Logits (T', 1 + C) of frames (T', D)."""
    torch = torch_library()
    head = Parameters(**parameters)
    x = torch.as_tensor(frames).to(head.weight.device)
    normalised = torch.nn.functional.layer_norm(x, (x.shape[1],), head.scale, head.shift)
    return torch.nn.functional.linear(normalised, head.weight, head.bias)
