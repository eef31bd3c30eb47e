"""Encoders of WeSpeaker checkpoints: loading, faults, batches of clips of any length."""

import os
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("kaldi_native_fbank")

from earmark.audio.clips import AudioError  # noqa: E402
from earmark.errors import EarmarkError, MissingError  # noqa: E402
from earmark.models.encoders.registry import load_encoder  # noqa: E402
from tests.models.encoders.wespeaker.checkpoints import TINY, state_of, voice, write_checkpoint  # noqa: E402

PLAIN = {"model": "ResNet18", "model_args": {"feat_dim": 80, "embed_dim": 16}}


def load(folder):
    return load_encoder(f"wespeaker:{folder}", device="cpu")


def test_load_wespeaker_embeds_clips_as_one_by_one(tmp_path):
    encoder = load(write_checkpoint(tmp_path))
    clips = [voice(), voice()[:16_000], voice()[::-1].copy(), voice()[5_000:21_000]]
    embeddings = encoder.embed(clips)
    assert embeddings.shape == (4, 16) and encoder.dimension == 16
    alone = np.concatenate([encoder.embed([clip]) for clip in clips])
    np.testing.assert_allclose(embeddings, alone, rtol=1e-4, atol=1e-5)
    assert np.abs(embeddings[0] - embeddings[1]).max() > 1e-3


def test_load_wespeaker_ignores_training_head_and_prefix(tmp_path):
    expected = load(write_checkpoint(tmp_path / "plain")).embed([voice()])
    state = {f"module.{name}": value for name, value in state_of(TINY).items()}
    state["module.projection.weight"] = torch.zeros(100, 16)
    encoder = load(write_checkpoint(tmp_path / "trained", state=state))
    np.testing.assert_array_equal(encoder.embed([voice()]), expected)


def test_load_wespeaker_identity_depends_on_weights_not_on_folder(tmp_path):
    first, copy = (load(write_checkpoint(tmp_path / place / "model")) for place in ("a", "b"))
    state = state_of(TINY)
    state["bottleneck.bias"] += 1
    other = load(write_checkpoint(tmp_path / "c/model", state=state))
    assert first.identity == copy.identity != other.identity


@pytest.mark.parametrize(
    "arguments", [{}, {"pooling_func": "ASTP"}, {"two_emb_layer": True}], ids=["TSTP", "ASTP", "two layers"]
)
def test_load_wespeaker_plain_resnet(tmp_path, arguments):
    settings = {**PLAIN, "model_args": {**PLAIN["model_args"], **arguments}}
    encoder = load(write_checkpoint(tmp_path, settings))
    assert encoder.embed([voice()[:8_000]]).shape == (1, 16)


def test_embed_rejects_clip_too_short_for_deviation(tmp_path):
    encoder = load(write_checkpoint(tmp_path, PLAIN))
    assert np.isfinite(encoder.embed([voice()[: 400 + 8 * 160]])).all()  # nine frames, two after the strides
    with pytest.raises(AudioError, match=r"too short: 0.105 s, the model needs 0.105 s|too short"):
        encoder.embed([voice()[: 400 + 8 * 160 - 1]])


# --- faults ---------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("legacy", [True, False])
def test_load_wespeaker_refuses_pickled_code(tmp_path, legacy):
    folder, marker = write_checkpoint(tmp_path / "model"), tmp_path / "was-run"
    state = {**state_of(TINY), "extra": Evil(str(marker))}
    torch.save(state, folder / "avg_model.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(EarmarkError, match=r"avg_model.pt: contains Python objects \(posix.mkdir\).*not loaded"):
        load(folder)
    assert not marker.exists()


def test_load_wespeaker_names_missing_unexpected_and_misshapen_parameters(tmp_path):
    state = state_of(TINY)
    del state["front.conv1.weight"]
    state["tail.weight"] = torch.zeros(1)
    state["bottleneck.weight"] = torch.zeros(32, 640)
    state["bottleneck.bias"] = torch.full((16,), torch.nan)
    with pytest.raises(EarmarkError) as caught:
        load(write_checkpoint(tmp_path, state=state))
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("avg_model.pt: does not fit SimAM_ResNet10_ASP as in config.yaml:")
    assert [line.strip() for line in lines[1:]] == [
        "1 parameter is missing: front.conv1.weight",
        "1 parameter is unexpected: tail.weight",
        "1 parameter is of another shape: bottleneck.weight (32, 640), expected (16, 640)",
        "1 parameter is not finite: bottleneck.bias",
    ]


def test_load_wespeaker_shortens_long_lists_of_parameters(tmp_path):
    state = {name: value for name, value in state_of(TINY).items() if "layer4" not in name}
    with pytest.raises(EarmarkError, match=r"15 parameters are missing: front.layer4.0.conv1.weight; .*; and 10 more$"):
        load(write_checkpoint(tmp_path, state=state))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_args": {}}, "has no `model`"),
        ({**TINY, "model_args": {"in_plane": 3}}, "in_plane is not an argument of SimAM_ResNet10_ASP"),
        ({**TINY, "model_args": {"embed_dim": "16"}}, "embed_dim is '16'; it must be a whole number"),
        ({**PLAIN, "model_args": {"pooling_func": "MHASTP"}}, "pooling_func is 'MHASTP'; it must be one of TSTP, ASTP"),
        ({**TINY, "dataset_args": {"fbank_args": {"num_mel_bins": 40}}}, "num_mel_bins is 40, .* expects 80"),
        ({**TINY, "dataset_args": {"resample_rate": 8000}}, "resample_rate is 8000; only 16000 is supported"),
        ({**TINY, "dataset_args": {"cmvn_args": {"norm_var": True}}}, "norm_var is True; only false is supported"),
    ],
)
def test_load_wespeaker_names_invalid_settings(tmp_path, settings, message):
    with pytest.raises(EarmarkError, match=message):
        load(write_checkpoint(tmp_path, settings, state={}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "ECAPA_TDNN_GLOB_c512"}, "the model is ECAPA_TDNN_GLOB_c512; built in are .*ResNet293.*wespeaker"),
        ({**TINY, "dataset_args": {"frontend": "w2vbert"}}, "the front end is w2vbert; built in is fbank.*wespeaker"),
    ],
)
def test_load_wespeaker_needs_toolkit_for_others(tmp_path, settings, message):
    with pytest.raises(MissingError, match=message):
        load(write_checkpoint(tmp_path, settings, state={}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no checkpoint", "is not a PyTorch checkpoint, or is damaged"),
        (b"", "is damaged|not a PyTorch"),
        (pickle.dumps(3, protocol=2), "is damaged|not a dictionary"),
    ],
)
def test_load_wespeaker_names_damaged_file(tmp_path, content, message):
    folder = write_checkpoint(tmp_path)
    (folder / "avg_model.pt").write_bytes(content)
    with pytest.raises(EarmarkError, match=message):
        load(folder)


def test_load_wespeaker_refuses_list_of_tensors(tmp_path):
    folder = write_checkpoint(tmp_path)
    torch.save([torch.zeros(2)], folder / "avg_model.pt")
    with pytest.raises(EarmarkError, match="is not a dictionary of tensors"):
        load(folder)


def test_load_wespeaker_refuses_yaml_with_objects(tmp_path):
    folder = write_checkpoint(tmp_path)
    (folder / "config.yaml").write_text("model: !!python/object/apply:os.mkdir [was-run]\n")
    with pytest.raises(EarmarkError, match="is not YAML of plain values"):
        load(folder)


def test_load_wespeaker_names_missing_files(tmp_path):
    with pytest.raises(MissingError, match=r"has no config.yaml and no avg_model.pt"):
        load(tmp_path)
    with pytest.raises(MissingError, match="no such folder"):
        load(tmp_path / "none")


# --- hub ------------------------------------------------------------------------------------------------------


def test_load_wespeaker_from_hub_uses_revision(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def snapshot_download(repository, revision, allow_patterns):
        asked.append((repository, revision))
        return str(write_checkpoint(tmp_path / "0123abcd").parent / "0123abcd")

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    encoder = load_encoder("wespeaker:org/some-model@v2", device="cpu")
    assert asked == [("org/some-model", "v2")]
    assert encoder.description["revision"] == "0123abcd" and encoder.name == "org/some-model@v2"


def test_load_wespeaker_from_hub_names_failure(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def snapshot_download(repository, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    with pytest.raises(MissingError, match=r"org/model: cannot be downloaded .*no route to host.*give its folder"):
        load_encoder("wespeaker:org/model")
