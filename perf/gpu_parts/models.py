"""Models of real size with random weights, saved in the layout of published ones, and clips of generated speech."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import torch
import yaml

from earmark.models.audio_text.encoder import AudioTextEncoder
from earmark.models.audio_text.loading import AudioTextModel, load_clap
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.conformance.encoder_under_test import synthetic_voice
from earmark.models.encoders.registry import load_encoder
from earmark.models.encoders.wespeaker.architectures import model_config
from earmark.models.encoders.wespeaker.checkpoint import CONFIG, WEIGHTS
from earmark.models.encoders.wespeaker.front_end import filter_bank
from earmark.models.encoders.wespeaker.networks import Block, build_network
from earmark.models.torch_runtime import quiet_transformers
from earmark.speaker.finetune.loss import initialise, seeded_generator
from perf.gpu_parts.common import Context

TRANSFORMER, CLAP, SIMAM, RESNET = "transformer (X-ARES)", "ClapModel", "SimAM-ResNet34", "ResNet34"
MODELS = (TRANSFORMER, CLAP, SIMAM, RESNET)
RATE = 16_000
MP3_RATE = 24_000  # of the published clips
BLOCK_SCALE = 0.3  # of the last normalisation of a residual block
VOICES = 16  # clips are shifted versions of these

XARES_CODE = '''"""A transformer encoder with random weights and the X-ARES interface."""

import torch

WIDTH, LAYERS, HEADS = {width}, {layers}, {heads}


class RandomEncoder(torch.nn.Module):
    sampling_rate, output_dim, hop_size_in_ms = 16_000, WIDTH, 20

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.patches = torch.nn.Conv1d(1, WIDTH, 400, stride=320, padding=40)
            layer = torch.nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.layers = torch.nn.TransformerEncoder(layer, LAYERS, torch.nn.LayerNorm(WIDTH), False)
            for parameter in self.layers.parameters():  # TransformerEncoder copies one layer
                if parameter.ndim > 1:
                    torch.nn.init.xavier_uniform_(parameter)

    def forward(self, waveforms):
        return self.layers(self.patches(10 * waveforms[:, None]).transpose(1, 2))
'''


def load(context: Context, name: str, device: str, dtype: str = "float32") -> Encoder:
    """Load a model with Earmark's own loader; its files are written once."""
    if name not in context.built:
        context.built[name] = _build(context, name)
    path = context.built[name]
    if name == CLAP:
        return AudioTextEncoder(load_audio_text(context, device, dtype))
    encoder = load_encoder(str(path) if name == TRANSFORMER else f"wespeaker:{path}", device=device, dtype=dtype)
    assert isinstance(encoder, Encoder)
    return encoder


def load_audio_text(context: Context, device: str, dtype: str) -> AudioTextModel:
    """Load the ClapModel."""
    if CLAP not in context.built:
        context.built[CLAP] = _build(context, CLAP)
    return load_clap(str(context.built[CLAP]), device, dtype)


def _build(context: Context, name: str) -> Path:
    folder = context.folder / "models" / name.split()[0]
    folder.mkdir(parents=True, exist_ok=True)
    if name == TRANSFORMER:
        width, layers, heads = (48, 2, 4) if context.sizes.small else (768, 12, 12)
        path = folder / "encoder.py"
        path.write_text(XARES_CODE.format(width=width, layers=layers, heads=heads), encoding="utf-8")
        return path
    if name == CLAP:
        return _build_clap(folder, context)
    small = {SIMAM: ("SimAM_ResNet10_ASP", {"in_planes": 8, "embed_dim": 32}), RESNET: ("ResNet18", {"embed_dim": 32})}
    large = {SIMAM: ("SimAM_ResNet34_ASP", {}), RESNET: ("ResNet34", {})}
    return _build_wespeaker(folder, *(small if context.sizes.small else large)[name])


def _build_wespeaker(folder: Path, model: str, arguments: dict[str, int]) -> Path:
    """A checkpoint whose batch normalisation fits its random weights, so that activations keep their scale.

    The blocks add little to their input: without that, a random network amplifies rounding errors from block to block.
    """
    config = model_config(model, arguments)
    network = build_network(config)
    initialise(network, seeded_generator(0))
    norms = [module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # a mean over batches
        norm.reset_running_stats()
    for block in network.modules():
        if isinstance(block, Block):
            torch.nn.init.constant_(block.bn2.weight, BLOCK_SCALE)
    voices = [
        filter_bank(synthetic_voice(2, RATE, seed), config.mel_bins, min_frames=config.min_frames) for seed in range(8)
    ]
    with torch.no_grad():
        network.train()(torch.from_numpy(np.stack(voices)))
    settings = {"model": model, "model_args": config.model_args}
    (folder / CONFIG).write_text(yaml.safe_dump(settings), encoding="utf-8")
    torch.save(network.state_dict(), folder / WEIGHTS)
    return folder


def _build_clap(folder: Path, context: Context) -> Path:
    """The default configuration of transformers is the published one; the tokenizer knows single bytes."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

    from tests.models import tiny

    if context.sizes.small:
        with quiet_transformers():
            return tiny.clap(folder, seconds=2)
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        ClapModel(ClapConfig()).save_pretrained(folder)
    extractor = ClapFeatureExtractor(truncation="rand_trunc")
    ClapProcessor(feature_extractor=extractor, tokenizer=tiny.tokenizer()).save_pretrained(folder)
    return folder


def write_clips(context: Context, suffix: str) -> list[Path]:
    """Write clips once, with several threads: .wav with the rate of most models, or .mp3 with another one.

    The clips are shifted versions of a few voices.
    """
    folder, sizes = context.folder / suffix, context.sizes
    n, rate = (sizes.clips, RATE) if suffix == "wav" else (sizes.mp3_clips, MP3_RATE)
    paths = [folder / f"{i:05d}.{suffix}" for i in range(n)]
    if folder.exists():
        return paths
    folder.mkdir()
    voices = [synthetic_voice(sizes.seconds, rate, seed) for seed in range(min(VOICES, n))]

    def write(i: int) -> None:
        soundfile.write(paths[i], np.roll(voices[i % VOICES], 37 * (i // VOICES)), rate)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(n)))
    return paths


def write_agreement_clips(context: Context) -> list[Path]:
    """Six clips of different lengths."""
    folder = context.folder / "agreement"
    longest = 1.0 if context.sizes.small else 5.0
    paths = [folder / f"{i}.wav" for i in range(6)]
    if not folder.exists():
        folder.mkdir()
        for i, path in enumerate(paths):
            voice = synthetic_voice(longest * (1 + i // 2) / 3, RATE, 100 + i)
            soundfile.write(path, voice, RATE, subtype="FLOAT")
    return paths
