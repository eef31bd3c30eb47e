"""Additive angular margin loss over the training speakers. Imports torch.

References
----------
Deng et al. (2019), ArcFace: additive angular margin loss for deep face recognition, CVPR.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALLEST_SQUARED_SINE = 1e-12  # keeps the gradient of the sine finite where an embedding equals a class centre


def margin_logits(cosines: Tensor, labels: Tensor, margin: float, scale: float) -> Tensor:
    """Logits of the additive angular margin loss.

    Parameters
    ----------
    cosines : (B, C) Tensor
        Cosines of embeddings and class centres.
    labels : (B,) Tensor
        Class of each row.
    margin : float
        m, in radians.
    scale : float

    Returns
    -------
    (B, C) Tensor
        scale · cos θ; for the own class scale · cos(θ + m) where cos θ > cos(π − m), else
        scale · (cos θ − (1 + cos(π − m))), which goes on falling with θ.

    Examples
    --------
    >>> cosines = torch.tensor([[0.5, 0.0], [0.0, -1.0]])
    >>> margin_logits(cosines, torch.tensor([0, 1]), math.pi / 3, 1.0)
    tensor([[-0.5000,  0.0000],
            [ 0.0000, -1.5000]])
    """
    own = cosines.gather(1, labels[:, None])
    sine = (1 - own.square()).clamp(min=SMALLEST_SQUARED_SINE).sqrt()
    shifted = own * math.cos(margin) - sine * math.sin(margin)
    limit = math.cos(math.pi - margin)
    shifted = torch.where(own > limit, shifted, own - (1 + limit))
    return scale * cosines.scatter(1, labels[:, None], shifted)


class SpeakerClassifier(nn.Module):
    """A network with class centres for the training speakers: the part that is trained.

    Parameters
    ----------
    network : nn.Module
        Features (B, T, mel bins) to embeddings (B, D).
    dimension, n_speakers : int
    scale : float
        Of the logits.
    generator : torch.Generator
        Draws the class centres, uniform as in Glorot and Bengio (2010).
    """

    def __init__(
        self, network: nn.Module, dimension: int, n_speakers: int, scale: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.network = network
        centres = torch.empty(n_speakers, dimension)
        bound = math.sqrt(6 / (n_speakers + dimension))
        self.centres = nn.Parameter(centres.uniform_(-bound, bound, generator=generator))
        self.scale, self.margin = scale, 0.0

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy over the batch, and the number of rows whose own class has the largest cosine."""
        embeddings = self.network(features)
        with torch.autocast(features.device.type, enabled=False):
            cosines = functional.normalize(embeddings.float()) @ functional.normalize(self.centres).T
            logits = margin_logits(cosines, labels, self.margin, self.scale)
            loss = functional.cross_entropy(logits, labels)
        return loss, (cosines.detach().argmax(dim=1) == labels).sum()


def seeded_generator(seed: int) -> torch.Generator:
    """Generator of random weights."""
    return torch.Generator().manual_seed(seed)


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw random weights: He initialisation of convolutions and linear layers, biases 0, normalisation neutral.

    References
    ----------
    He et al. (2015), Delving deep into rectifiers, ICCV.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
