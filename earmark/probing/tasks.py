"""What a task is: what is told apart, how its data are named, how its head is trained and scored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Task:
    """What a probe learns from frozen embeddings, and how.

    type: the name of a class in `task_types`: clip (one class), multilabel, frame (classes over time), regression
    (numbers), retrieval (captions), asr (transcripts). metric: one that the type has; word_accuracy is max(0, 1 − WER).
    A frame task scored by accuracy has one label for each frame, else any number. n_classes: as published; None where
    labels are no classes.
    splits: {train, valid, test: pattern of tar files}. folds: {fold: pattern}, in place of splits.
    learning_rate, epochs, batch_size: the published recipe; batches are of clips. crop_seconds: clips are cut into
    pieces of this length. segment_seconds: what a frame task is scored over. pos_weight: of what is there, in the
    binary cross-entropy. weight: in the weighted average; 0 where the published averages leave the task out.
    zenodo: the record that holds the data. disabled: left out by the suite itself. mini: the suite also has a smaller
    variant. knn: scored by nearest neighbours too. reader, key: how the JSON beside a clip is read
    (labels.READERS). group: regular expression that finds the source recording, or the speaker, in a clip's file
    name. manifest: of a user's task, relative to home, the folder of its TOML file, or to the data root.
    """

    name: str
    formal_name: str
    suite: str
    domain: str
    type: str
    metric: str
    n_classes: int | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    folds: Mapping[str, str] = field(default_factory=dict)
    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 32
    crop_seconds: float | None = None
    segment_seconds: float | None = None
    pos_weight: float = 1.0
    weight: float = 1.0
    zenodo: str = ""
    private: bool = False
    disabled: bool = False
    mini: bool = False
    knn: bool = False
    reader: str = ""
    key: str = ""
    group: str = ""
    manifest: str = "manifest.csv"
    home: Path | None = None

    @property
    def select_on_test(self) -> bool:
        """Whether the published recipe chooses the epoch on the clips it reports: folds, and valid the same as test."""
        return bool(self.folds) or (bool(self.splits) and self.splits["valid"] == self.splits["test"])

    @property
    def trains_on_test(self) -> bool:
        """Whether the published recipe trains on the clips it reports (subway_broadcast); no score should be trusted.

        >>> Task("x", "X", "mine", "", "clip", "accuracy", splits=dict.fromkeys(SPLITS, "x*.tar")).trains_on_test
        True
        """
        return bool(self.splits) and self.splits["train"] == self.splits["test"]

    @property
    def patterns(self) -> dict[str, str]:
        """{split or fold: pattern of its tar files}. Where valid and test are the same files, they are the test's.

        >>> splits = {"train": "a*.tar", "valid": "b*.tar", "test": "b*.tar"}
        >>> Task("x", "X", "mine", "", "clip", "accuracy", splits=splits).patterns
        {'train': 'a*.tar', 'test': 'b*.tar'}
        """
        if self.folds:
            return dict(self.folds)
        return {name: glob for name, glob in self.splits.items() if not (name == "valid" and self.select_on_test)}
