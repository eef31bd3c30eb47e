"""Architectures of WeSpeaker checkpoints that run without the toolkit, and the settings of `config.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

MEL_BINS = 80
TSTP, ASTP = "TSTP", "ASTP"  # mean and standard deviation over time, without and with attention
POOLINGS = (TSTP, ASTP)
STRIDE = 8  # of the four stages, along time and mel bins
RESNET_CHANNELS = 32  # of the first stage of a plain ResNet; each further stage doubles them


@dataclass(frozen=True)
class Architecture:
    """Shape of a residual network.

    Attributes
    ----------
    blocks : tuple of 4 int
        Number of blocks per stage.
    bottleneck : bool
        Whether a block has three convolutions (1×1, 3×3, 1×1) instead of two (3×3).
    simam : bool
        Whether blocks have SimAM attention and the pooling is attentive, as in `SimAM_ResNet*_ASP`.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool = False
    simam: bool = False


ARCHITECTURES = {
    "SimAM_ResNet10_ASP": Architecture((1, 1, 1, 1), simam=True),  # not in WeSpeaker
    "SimAM_ResNet34_ASP": Architecture((3, 4, 6, 3), simam=True),
    "SimAM_ResNet100_ASP": Architecture((6, 16, 24, 3), simam=True),
    "ResNet18": Architecture((2, 2, 2, 2)),
    "ResNet34": Architecture((3, 4, 6, 3)),
    "ResNet50": Architecture((3, 4, 6, 3), bottleneck=True),
    "ResNet101": Architecture((3, 4, 23, 3), bottleneck=True),
    "ResNet152": Architecture((3, 8, 36, 3), bottleneck=True),
    "ResNet221": Architecture((6, 16, 48, 3), bottleneck=True),
    "ResNet293": Architecture((10, 20, 64, 3), bottleneck=True),
}


@dataclass(frozen=True)
class SimAmArguments:
    """`model_args` of a SimAM network: channels of the first stage, dimension, mel bins, dropout of the pooling."""

    in_planes: int = 64
    embed_dim: int = 256
    acoustic_dim: int = MEL_BINS
    dropout: float = 0.0


@dataclass(frozen=True)
class ResNetArguments:
    """`model_args` of a plain ResNet: mel bins, dimension, pooling, and whether a second linear layer follows."""

    feat_dim: int = MEL_BINS
    embed_dim: int = 256
    pooling_func: str = TSTP
    two_emb_layer: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """The part of `config.yaml` that defines a network.

    Attributes
    ----------
    model : str
        A key of `ARCHITECTURES`.
    arguments : SimAmArguments or ResNetArguments
        The `model_args`.
    """

    model: str
    arguments: SimAmArguments | ResNetArguments

    @property
    def architecture(self) -> Architecture:
        """Shape of the network."""
        return ARCHITECTURES[self.model]

    @property
    def dimension(self) -> int:
        """Of an embedding."""
        return self.arguments.embed_dim

    @property
    def mel_bins(self) -> int:
        """Number of mel bins of the input."""
        own = self.arguments
        return own.acoustic_dim if isinstance(own, SimAmArguments) else own.feat_dim

    @property
    def min_frames(self) -> int:
        """Fewest frames for which the embedding is defined: an unbiased deviation needs two after the strides."""
        plain = isinstance(self.arguments, ResNetArguments) and self.arguments.pooling_func == TSTP
        return STRIDE + 1 if plain else 1

    @property
    def model_args(self) -> dict[str, Any]:
        """The `model_args` as written to `config.yaml`."""
        return {field.name: getattr(self.arguments, field.name) for field in fields(self.arguments)}


def model_config(model: str, model_args: Mapping[str, Any]) -> ModelConfig:
    """Check the model and `model_args` of a `config.yaml`.

    Parameters
    ----------
    model : str
        A key of `ARCHITECTURES`.
    model_args : mapping
        Arguments; missing ones have WeSpeaker's defaults.

    Returns
    -------
    ModelConfig

    Raises
    ------
    ValueError
        With all arguments that are unknown or invalid, separated by semicolons.

    Examples
    --------
    >>> model_config("SimAM_ResNet34_ASP", {"embed_dim": 192}).dimension
    192
    >>> model_config("ResNet34", {"feat_dim": 80, "pooling_func": "TAP"})
    Traceback (most recent call last):
    ValueError: pooling_func is 'TAP'; it must be one of TSTP, ASTP
    """
    kind = SimAmArguments if ARCHITECTURES[model].simam else ResNetArguments
    defaults = {field.name: field.default for field in fields(kind)}
    faults = [f"{name} is not an argument of {model}" for name in model_args if name not in defaults]
    known = {name: value for name, value in model_args.items() if name in defaults}
    faults += [fault for name, value in known.items() if (fault := _argument_fault(name, value, defaults[name]))]
    if faults:
        raise ValueError("; ".join(faults))
    return ModelConfig(model, kind(**known))


def _argument_fault(name: str, value: Any, default: Any) -> str:
    if name == "pooling_func":
        return "" if value in POOLINGS else f"{name} is {value!r}; it must be one of {', '.join(POOLINGS)}"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else f"{name} is {value!r}; it must be true or false"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, float):
        return "" if is_number and 0 <= value < 1 else f"{name} is {value!r}; it must be a number from 0 to below 1"
    least = STRIDE if name in ("feat_dim", "acoustic_dim") else 1
    valid = is_number and isinstance(value, int) and value >= least
    return "" if valid else f"{name} is {value!r}; it must be a whole number of at least {least}"
