"""Networks of WeSpeaker: parity with WeSpeaker's own code, and values derived by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("kaldi_native_fbank")

from earmark.models.encoders.wespeaker import networks  # noqa: E402
from earmark.models.encoders.wespeaker.architectures import model_config  # noqa: E402
from earmark.models.encoders.wespeaker.front_end import filter_bank  # noqa: E402
from tests.models.encoders.wespeaker.checkpoints import filled, voice  # noqa: E402

PARITY = json.loads((Path(__file__).parent / "simam_resnet34.json").read_text())
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def simam_resnet34():
    network = networks.build_network(model_config("SimAM_ResNet34_ASP", {})).eval()
    network.load_state_dict(filled(network.state_dict()))
    return network


def relative_error(network, features, expected):
    with torch.inference_mode():
        embedding = network(torch.from_numpy(features))[0].numpy()
    return np.linalg.norm(embedding - expected) / np.linalg.norm(expected)


def test_simam_resnet34_has_names_and_shapes_of_wespeaker(simam_resnet34):
    assert {name: list(value.shape) for name, value in simam_resnet34.state_dict().items()} == PARITY["parameters"]
    assert sum(value.numel() for value in simam_resnet34.parameters()) == PARITY["n_parameters"] == 25_213_760


@pytest.mark.slow
def test_simam_resnet34_agrees_with_wespeaker_on_features(simam_resnet34):
    features = np.random.default_rng(1).normal(0, 1, (1, 200, 80)).astype(np.float32)
    assert relative_error(simam_resnet34, features, PARITY["embedding_of_features"]) < TOLERANCE


@pytest.mark.slow
def test_simam_resnet34_agrees_with_wespeaker_on_audio(simam_resnet34):
    assert relative_error(simam_resnet34, filter_bank(voice())[None], PARITY["embedding_of_wave"]) < TOLERANCE


def test_filter_bank_agrees_with_kaldi():
    features, expected = filter_bank(voice()), PARITY["filter_bank_of_wave"]
    assert list(features.shape) == expected["shape"]
    np.testing.assert_allclose(features[0, :6], expected["first"], atol=1e-4)
    np.testing.assert_allclose(features[100, 40:46], expected["mid"], atol=1e-4)
    assert np.std(features, ddof=1) == pytest.approx(expected["std"], abs=1e-4)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "arguments", "millions"),
    # Millions of parameters in WeSpeaker's table of results, for 256 dimensions.
    [("ResNet34", {}, 6.63), ("ResNet221", {}, 23.79), ("ResNet293", {}, 28.62), ("SimAM_ResNet100_ASP", {}, 50.2)],
)
def test_build_network_has_published_size(model, arguments, millions):
    with torch.device("meta"):
        network = networks.build_network(model_config(model, arguments))
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_resnet34_has_names_of_wespeaker():
    with torch.device("meta"):
        names = set(networks.build_network(model_config("ResNet34", {})).state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer2.0.shortcut.0.weight", "layer4.2.conv2.weight"} <= names
    assert {name for name in names if not name.startswith(("conv1", "bn1", "layer"))} == {"seg_1.weight", "seg_1.bias"}


def test_simam_of_hand_computed_values():
    # Mean 1.5; d = 2.25, .25, .25, 2.25; v = 5 / 3; d / 4v ≈ .3375, .0375; plus .5, then the logistic function.
    images = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    weights = 1 / (1 + np.exp(-np.array([0.5 + 0.25 / (4 * (5 / 3 + 1e-4)), 0.5 + 2.25 / (4 * (5 / 3 + 1e-4))])))
    expected = [0, weights[0], 2 * weights[0], 3 * weights[1]]
    np.testing.assert_allclose(networks.simam(images).ravel(), expected, rtol=1e-6)


def test_statistics_are_mean_and_unbiased_deviation():
    frames = torch.tensor([[[1.0, 2.0, 6.0]]])  # mean 3, variance (4 + 1 + 9) / 2 = 7
    np.testing.assert_allclose(networks.Statistics()(frames).ravel(), [3, np.sqrt(7 + 1e-7)], rtol=1e-6)


def test_weighted_statistics_of_hand_computed_values():
    frames, weights = torch.tensor([[[1.0, 3.0], [2.0, 2.0]]]), torch.tensor([[[0.25, 0.75], [0.5, 0.5]]])
    # Means 2.5 and 2; variances .25 + 6.75 − 6.25 = .75 and 0, which is raised to the lower bound.
    expected = [2.5, 2, np.sqrt(0.75), np.sqrt(1e-5)]
    np.testing.assert_allclose(networks.weighted_statistics(frames, weights, 1e-5).ravel(), expected, rtol=1e-6)
