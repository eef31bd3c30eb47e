"""Schema of summary.json of `finetune_speaker.py`."""

from typing import Any

from pydantic import Field

from earmark.metrics.estimate import Estimate
from earmark.report.schema import StrictModel, SummaryBase


class EpochSummary(StrictModel):
    """An epoch; epoch 0 is the model before training.

    Attributes
    ----------
    epoch, step : int
        Numbers of finished epochs and steps.
    learning_rate, margin : float or None
        Of the last step.
    loss, accuracy : float or None
        Mean loss, and share of training segments with the nearest class centre of their own speaker.
    validation_eer, validation_cross_language_eer : float or None
        Equal error rates in [0, 1].
    """

    epoch: int
    step: int
    learning_rate: float | None
    margin: float | None
    loss: float | None
    accuracy: float | None
    validation_eer: float | None
    validation_cross_language_eer: float | None


class DataSummary(StrictModel):
    """Clips of a part of the data.

    Attributes
    ----------
    n_clips, n_speakers : int
    hours : float
    languages : list of str
        Empty if unknown.
    """

    n_clips: int
    n_speakers: int
    hours: float
    languages: list[str]


class ComparedRate(StrictModel):
    """An equal error rate in [0, 1] before training and of the written epoch, and after minus before."""

    before: Estimate
    after: Estimate
    difference: Estimate


class ValidationSummary(StrictModel):
    """Validation before training and of the written epoch.

    Attributes
    ----------
    source : str
        Held-out speakers, or the name of the list.
    n_target, n_nontarget : int
    rates : dict
        `eer` and, if languages are known, `cross_language_eer`.
    """

    source: str
    n_target: int
    n_nontarget: int
    rates: dict[str, ComparedRate]


class FinetuneSummary(SummaryBase):
    """Contents of summary.json.

    Attributes
    ----------
    model_name, architecture : str
    dimension, n_parameters : int
        Of an embedding, and of the network without class centres.
    init : dict
        Origin of the initial weights.
    recipe : str
    settings : dict
        All settings of the recipe.
    training : DataSummary
    held_out : DataSummary or None
    overlap : dict
        {list: training speakers that occur in it}; empty unless that was allowed.
    processes : int
    steps_per_epoch : int
    epochs : list of EpochSummary
    written_epoch : int
        The epoch of the written checkpoint.
    weights_sha256 : str
    validation : ValidationSummary or None
    """

    model_name: str
    architecture: str
    dimension: int
    n_parameters: int
    init: dict[str, Any]
    recipe: str
    settings: dict[str, Any]
    training: DataSummary
    held_out: DataSummary | None = None
    overlap: dict[str, list[str]] = Field(default_factory=dict)
    processes: int
    steps_per_epoch: int
    epochs: list[EpochSummary]
    written_epoch: int
    weights_sha256: str
    validation: ValidationSummary | None = None
