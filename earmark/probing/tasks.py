"""The definition of a task: its data, training parameters and metric."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Task:
    """A task for probes of frozen embeddings.

    Attributes
    ----------
    name, formal_name : str
        Identifier, and name in reports.
    suite, domain : str
        Source of the task and its audio domain.
    type : str
        Name of a class in `task_types`: clip (one class), multilabel, frame (classes over time), regression,
        retrieval (captions) or asr (transcripts).
    metric : str
        A metric of the type. A frame task scored by accuracy has one label per frame, otherwise any number.
    n_classes : int or None
        Published number of classes; None if labels are not classes.
    splits : mapping
        {train, valid, test: pattern of tar files}; empty if there are folds.
    folds : mapping
        {fold: pattern of tar files}; empty if there are splits.
    epochs, learning_rate, batch_size : int, float, int
        Published training parameters; batch_size counts clips.
    crop_seconds : float or None
        Clips are cut into crops of this length.
    segment_seconds : float or None
        Segment length in which frame tasks are scored.
    pos_weight : float
        Weight of positives in the binary cross-entropy.
    weight : float
        Weight in the weighted mean over tasks; 0 if the published means exclude the task.
    zenodo : str
        Zenodo record of the data.
    private, disabled, mini, knn : bool
        Data not public; excluded by the suite; the suite has a smaller variant; also scored by k-NN.
    reader, key : str
        How the JSON of a clip is read (`labels.READERS`).
    group : str
        Regular expression for the source (recording or speaker) in a clip's file name.
    manifest : str
        Path of the manifest, relative to `home` or to the data root.
    home : Path or None
        Folder of the TOML file of a user's task; None for published tasks.
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
        """Whether the published recipe selects the epoch on the test clips: with folds, or if valid equals test."""
        return bool(self.folds) or (bool(self.splits) and self.splits["valid"] == self.splits["test"])

    @property
    def trains_on_test(self) -> bool:
        """Whether the published recipe trains on the test clips (subway_broadcast); such scores are not trustworthy.

        >>> Task("x", "X", "mine", "", "clip", "accuracy", splits=dict.fromkeys(SPLITS, "x*.tar")).trains_on_test
        True
        """
        return bool(self.splits) and self.splits["train"] == self.splits["test"]

    @property
    def patterns(self) -> dict[str, str]:
        """{split or fold: pattern of its tar files}; a valid split with the same files as test is omitted.

        >>> splits = {"train": "a*.tar", "valid": "b*.tar", "test": "b*.tar"}
        >>> Task("x", "X", "mine", "", "clip", "accuracy", splits=splits).patterns
        {'train': 'a*.tar', 'test': 'b*.tar'}
        """
        if self.folds:
            return dict(self.folds)
        return {name: glob for name, glob in self.splits.items() if not (name == "valid" and self.select_on_test)}
