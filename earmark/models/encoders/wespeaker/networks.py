"""Residual networks of WeSpeaker in PyTorch, with the parameter names of its checkpoints. Imports torch.

References
----------
He et al. (2016), Deep residual learning for image recognition, CVPR.
Yang et al. (2021), SimAM: a simple, parameter-free attention module for convolutional neural networks, ICML.
Okabe et al. (2018), Attentive statistics pooling for deep speaker embedding, Interspeech.
Wang et al. (2023), WeSpeaker: a research and production oriented speaker embedding learning toolkit, ICASSP.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from earmark.models.encoders.wespeaker.architectures import (
    ASTP,
    RESNET_CHANNELS,
    STRIDE,
    Architecture,
    ModelConfig,
    ResNetArguments,
    SimAmArguments,
)

SIMAM_REGULARISER = 1e-4
ATTENTION_DIMENSION = 128
MIN_VARIANCE = {"ASP": 1e-5, "ASTP": 1e-7, "TSTP": 1e-7}
EXPANSION = 4  # output channels of a bottleneck block relative to its inner ones


def simam(images: Tensor) -> Tensor:
    """Weight each value of a channel by how far it is from the mean of the channel.

    Parameters
    ----------
    images : (B, C, H, W) Tensor

    Returns
    -------
    (B, C, H, W) Tensor
        x · sigmoid(d / (4 (v + 1e-4)) + 0.5) with d = (x − mean)² and v = Σd / (HW − 1). NaN if HW = 1.
    """
    n = images.shape[2] * images.shape[3] - 1
    squared = (images - images.mean(dim=(2, 3), keepdim=True)).square()
    variance = squared.sum(dim=(2, 3), keepdim=True) / n
    return images * torch.sigmoid(squared / (4 * (variance + SIMAM_REGULARISER)) + 0.5)


class Block(nn.Module):
    """Residual block: convolutions with batch normalisation, SimAM if requested, and the shortcut.

    Parameters
    ----------
    inputs, channels : int
        Channels of the input, and of the inner convolutions.
    stride : int
    architecture : Architecture
    """

    def __init__(self, inputs: int, channels: int, stride: int, architecture: Architecture) -> None:
        super().__init__()
        self._simam, self._bottleneck = architecture.simam, architecture.bottleneck
        outputs = channels * EXPANSION if architecture.bottleneck else channels
        if architecture.bottleneck:
            self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
            self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
            self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        projection = nn.Sequential()
        if stride != 1 or inputs != outputs:
            projection = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self._shortcut_name = "downsample" if architecture.simam else "shortcut"
        self.add_module(self._shortcut_name, projection)

    def forward(self, images: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        hidden = functional.relu(self.bn1(self.conv1(images)))
        hidden = self.bn2(self.conv2(hidden))
        if self._bottleneck:
            hidden = self.bn3(self.conv3(functional.relu(hidden)))
        if self._simam:
            hidden = simam(hidden)
        shortcut: Tensor = self.get_submodule(self._shortcut_name)(images)
        return functional.relu(hidden + shortcut)


class Trunk(nn.Module):
    """Convolution and four stages of blocks: features to frames.

    Parameters
    ----------
    architecture : Architecture
    channels : int
        Channels of the first stage.
    """

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        inputs = channels
        for stage, n_blocks in enumerate(architecture.blocks):
            width, blocks = channels * 2**stage, []
            for number in range(n_blocks):
                blocks.append(Block(inputs, width, 2 if stage and not number else 1, architecture))
                inputs = width * EXPANSION if architecture.bottleneck else width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.output_channels = inputs

    def frames(self, features: Tensor) -> Tensor:
        """(B, T, mel bins) to (B, C · mel bins / 8, T / 8)."""
        images = features.transpose(1, 2).unsqueeze(1)
        images = functional.relu(self.bn1(self.conv1(images)))
        for stage in range(1, 5):
            images = self.get_submodule(f"layer{stage}")(images)
        return images.flatten(1, 2)


def weighted_statistics(frames: Tensor, weights: Tensor, min_variance: float) -> Tensor:
    """Concatenate weighted means and standard deviations over time.

    Parameters
    ----------
    frames, weights : (B, D, T) Tensor
        The weights of a row sum to 1 over T.
    min_variance : float
        Lower bound of the variance.

    Returns
    -------
    (B, 2D) Tensor
    """
    mean = (weights * frames).sum(dim=2)
    variance = (weights * frames.square()).sum(dim=2) - mean.square()
    return torch.cat([mean, variance.clamp(min=min_variance).sqrt()], dim=1)


class AttentiveStatistics(nn.Module):
    """Attentive statistics pooling of SimAM networks: attention with batch normalisation, named `attention`."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Conv1d(dimension, ATTENTION_DIMENSION, 1),
            nn.ReLU(),
            nn.BatchNorm1d(ATTENTION_DIMENSION),
            nn.Conv1d(ATTENTION_DIMENSION, dimension, 1),
            nn.Softmax(dim=2),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """(B, D, T) to (B, 2D)."""
        return weighted_statistics(frames, self.attention(frames), MIN_VARIANCE["ASP"])


class TanhAttentiveStatistics(nn.Module):
    """Attentive statistics pooling `ASTP` of plain ResNets: two convolutions, `linear1` and `linear2`, with tanh."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.linear1 = nn.Conv1d(dimension, ATTENTION_DIMENSION, 1)
        self.linear2 = nn.Conv1d(ATTENTION_DIMENSION, dimension, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, D, T) to (B, 2D)."""
        weights = torch.softmax(self.linear2(torch.tanh(self.linear1(frames))), dim=2)
        return weighted_statistics(frames, weights, MIN_VARIANCE["ASTP"])


class Statistics(nn.Module):
    """Statistics pooling `TSTP`: mean and standard deviation over time."""

    def forward(self, frames: Tensor) -> Tensor:
        """(B, D, T) to (B, 2D); NaN for a single frame."""
        deviation = (frames.var(dim=2) + MIN_VARIANCE["TSTP"]).sqrt()
        return torch.cat([frames.mean(dim=2), deviation], dim=1)


class SimAmResNet(nn.Module):
    """SimAM-ResNet with attentive statistics pooling: features to embeddings."""

    def __init__(self, architecture: Architecture, arguments: SimAmArguments) -> None:
        super().__init__()
        self.front = Trunk(architecture, arguments.in_planes)
        dimension = self.front.output_channels * (arguments.acoustic_dim // STRIDE)
        self.pooling = AttentiveStatistics(dimension)
        self._dropout = nn.Dropout(arguments.dropout)
        self.bottleneck = nn.Linear(2 * dimension, arguments.embed_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, mel bins) to (B, D)."""
        pooled = self._dropout(self.pooling(self.front.frames(features)))
        embeddings: Tensor = self.bottleneck(pooled)
        return embeddings


class ResNet(Trunk):
    """Plain ResNet; its trunk has no prefix in the checkpoint."""

    def __init__(self, architecture: Architecture, arguments: ResNetArguments) -> None:
        super().__init__(architecture, RESNET_CHANNELS)
        dimension = self.output_channels * (arguments.feat_dim // STRIDE)
        self.pool = TanhAttentiveStatistics(dimension) if arguments.pooling_func == ASTP else Statistics()
        self.seg_1 = nn.Linear(2 * dimension, arguments.embed_dim)
        self._two_layers = arguments.two_emb_layer
        if self._two_layers:
            self.seg_bn_1 = nn.BatchNorm1d(arguments.embed_dim, affine=False)
            self.seg_2 = nn.Linear(arguments.embed_dim, arguments.embed_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, mel bins) to (B, D)."""
        embeddings: Tensor = self.seg_1(self.pool(self.frames(features)))
        if self._two_layers:
            embeddings = self.seg_2(self.seg_bn_1(functional.relu(embeddings)))
        return embeddings


def build_network(config: ModelConfig) -> nn.Module:
    """Build a network with random weights.

    Parameters
    ----------
    config : ModelConfig

    Returns
    -------
    torch.nn.Module
        Maps features (B, T, mel bins) to embeddings (B, D).
    """
    if isinstance(config.arguments, SimAmArguments):
        return SimAmResNet(config.architecture, config.arguments)
    return ResNet(config.architecture, config.arguments)
