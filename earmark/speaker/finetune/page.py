"""Curves of a training run."""

from earmark.metrics.estimate import Estimate
from earmark.report.figures import Figure, small_multiples
from earmark.speaker.finetune.schema import EpochSummary, FinetuneSummary

PANELS = {  # title: {line: (field, factor)}
    "loss": {"loss": ("loss", 1.0)},
    "training accuracy in %": {"accuracy": ("accuracy", 100.0)},
    "validation EER in %": {
        "all trials": ("validation_eer", 100.0),
        "across languages": ("validation_cross_language_eer", 100.0),
    },
    "learning rate": {"learning rate": ("learning_rate", 1.0)},
    "margin in radians": {"margin": ("margin", 1.0)},
}


def training_figures(summary: FinetuneSummary) -> list[Figure]:
    """Draw the curves of a run over its epochs.

    Parameters
    ----------
    summary : FinetuneSummary

    Returns
    -------
    list of Figure
        Epoch 0 is the model before training. Empty without epochs.
    """
    panels = {
        title: {line: _points(summary.epochs, *source) for line, source in lines.items()}
        for title, lines in PANELS.items()
    }
    caption = f"Training of {summary.model_name}, recipe {summary.recipe}; epoch 0 is the model before training."
    figure = small_multiples("training", caption, panels, ("epoch", ""))
    return [figure] if figure else []


def _points(epochs: list[EpochSummary], name: str, factor: float) -> list[tuple[float, Estimate]]:
    values = ((each.epoch, getattr(each, name)) for each in epochs)
    return [(epoch, Estimate(None if value is None else factor * value)) for epoch, value in values]
