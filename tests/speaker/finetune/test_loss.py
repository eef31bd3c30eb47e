"""Additive angular margin: values by hand, its gradient, and the classifier."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from earmark.speaker.finetune.loss import SpeakerClassifier, initialise, margin_logits, seeded_generator  # noqa: E402


def logit(cosine, margin, scale=1.0):
    cosines = torch.tensor([[cosine, 0.25]], dtype=torch.float64)
    own, other = margin_logits(cosines, torch.tensor([0]), margin, scale)[0].tolist()
    assert other == pytest.approx(0.25 * scale)
    return own


def test_margin_logits_of_hand_computed_values():
    assert logit(0.5, 0.3) == pytest.approx(math.cos(math.pi / 3 + 0.3))
    assert logit(0.5, 0.3, scale=32) == pytest.approx(32 * math.cos(math.pi / 3 + 0.3))
    # θ = 175° with m = .3 (17.2°) would pass 180°, so the second form applies: cos θ − (1 + cos(π − m)).
    theta = math.radians(175)
    assert logit(math.cos(theta), 0.3) == pytest.approx(math.cos(theta) - (1 - math.cos(0.3)))


def test_margin_logits_without_margin_are_scaled_cosines():
    assert logit(0.3, 0.0, scale=32) == pytest.approx(9.6)


def test_margin_logits_fall_with_the_angle_beyond_the_margin():
    angles = np.linspace(0.05, math.pi - 0.05, 200)
    values = [logit(math.cos(angle), 0.3) for angle in angles]
    assert (np.diff(values) < 0).all()


def test_margin_logits_has_finite_gradient_at_class_centre():
    cosines = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    margin_logits(cosines, torch.tensor([0, 0]), 0.3, 32.0).sum().backward()
    assert torch.isfinite(cosines.grad).all()


def test_speaker_classifier_loss_of_hand_computed_values():
    classifier = SpeakerClassifier(torch.nn.Identity(), 2, 2, scale=2.0, generator=seeded_generator(0))
    classifier.centres.data = torch.tensor([[2.0, 0.0], [0.0, 5.0]])  # the length has no effect
    classifier.margin = math.pi / 6
    embeddings, labels = torch.tensor([[3.0, 3.0], [0.0, 1.0]]), torch.tensor([0, 1])
    loss, correct = classifier(embeddings, labels)
    # Row 1: θ = 45°, own logit 2 cos 75°, other 2 cos 45°. Row 2: own 2 cos 30°, other 0.
    first = np.log1p(np.exp(2 * math.cos(math.pi / 4) - 2 * math.cos(math.radians(75))))
    second = np.log1p(np.exp(-2 * math.cos(math.pi / 6)))
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)
    assert correct.item() == 2  # a tie in row 1 goes to the first class


def test_initialise_depends_on_seed_alone():
    networks = [torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Flatten(), torch.nn.Linear(4, 2)) for _ in "abc"]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        initialise(network, seeded_generator(seed))
    first, same, other = ([value.tolist() for value in network.state_dict().values()] for network in networks)
    assert first == same != other
