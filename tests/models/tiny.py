"""Tiny checkpoints for tests: real configuration, tokenizer, extractor and weight files, with random weights.

They have the layout of published models, so tests load them with the same code.
"""

import json
from pathlib import Path

import pytest

pytest.importorskip("sentence_transformers", reason="the extra `clap` is not installed")

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    ClapTextConfig,
    PreTrainedTokenizerFast,
)

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
WINDOW = 2  # seconds; input length of the tiny models
RATE = 48_000
DIMENSION = 16


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level RoBERTa tokenizer whose vocabulary is the 256 bytes."""
    vocabulary = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bpe = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, model_max_length=126, cls_token="<s>", sep_token="</s>", **names
    )


def clap(
    folder: Path,
    *,
    fusion: bool = False,
    seed: int = 0,
    seconds: int = WINDOW,
    wide: int = 16,
    depths: tuple[int, ...] = (1, 1, 1, 1),
) -> Path:
    """Save a ClapModel with its processor. seconds: its window. wide: width of its first layer."""
    audio = ClapAudioConfig(
        spec_size=256 if seconds > WINDOW else 128,  # 1024 or 256 frames of 10 ms have room
        window_size=8 if seconds > WINDOW else 4,
        patch_embeds_hidden_size=wide,
        hidden_size=8 * wide,
        depths=list(depths),
        num_attention_heads=[1, 2, 4, 8],
        enable_fusion=fusion,
        projection_dim=DIMENSION,
        num_classes=8,
    )
    text = ClapTextConfig(
        vocab_size=len(SPECIAL) + 256,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        projection_dim=DIMENSION,
    )
    config = ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=DIMENSION)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ClapModel(config)
        with torch.no_grad():  # with the default initial weights, all embeddings would be nearly equal
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.mul_(5)
    extractor = ClapFeatureExtractor(
        sampling_rate=RATE, max_length_s=seconds, truncation="fusion" if fusion else "rand_trunc"
    )
    model.save_pretrained(folder)
    ClapProcessor(feature_extractor=extractor, tokenizer=tokenizer()).save_pretrained(folder)
    return folder


def sentence_transformer(folder: Path, **kind: bool) -> Path:
    """Save a sentence-transformers model with a tiny ClapModel."""
    inner = clap(folder.with_name(f"{folder.name}-inner"), **kind)
    SentenceTransformer(modules=[Transformer(str(inner))]).save_pretrained(str(folder))
    return folder


VOICECLAP_CODE = '''"""A tiny VoiceCLAP model: an audio tower without mel spectrogram, and a bag of tokens."""

import torch
from transformers import PretrainedConfig, PreTrainedModel


class TinyVoiceClapConfig(PretrainedConfig):
    model_type = "tiny_voiceclap"

    def __init__(self, width=16, vocabulary=261, **rest):
        self.width, self.vocabulary = width, vocabulary
        super().__init__(**rest)


class TinyVoiceClap(PreTrainedModel):
    config_class = TinyVoiceClapConfig

    def __init__(self, config):
        super().__init__(config)
        self.tower = torch.nn.Conv1d(201, config.width, 3, padding=1)
        self.words = torch.nn.Embedding(config.vocabulary, config.width)
        self.head = torch.nn.Linear(config.width, config.width)
        self.post_init()

    def encode_waveform(self, waveform, sample_rate=16000):
        print("chatter of a model")
        window = torch.hann_window(400, device=waveform.device)
        mel = torch.stft(waveform, 400, 160, window=window, return_complex=True).abs().clamp_min(1e-5).log()
        return self.head(self.tower(mel).mean(-1))

    ENCODE_TEXT
'''
ENCODE_TEXT = {
    "ids": """def encode_text(self, input_ids, attention_mask):
        return self.head((self.words(input_ids) * attention_mask[..., None]).sum(1))""",
    "strings": """def encode_text(self, texts):
        longest = max(map(len, texts))
        ids = torch.tensor([[ord(c) % 256 for c in text.ljust(longest)] for text in texts])
        return self.head(self.words(ids).mean(1))""",
}


def voiceclap(folder: Path, takes: str = "ids", seed: int = 0) -> Path:
    """Save a VoiceCLAP model with its code. takes: input of `encode_text`, ids or strings."""
    folder.mkdir(parents=True)
    code = folder / "modeling_tiny_voiceclap.py"
    code.write_text(VOICECLAP_CODE.replace("ENCODE_TEXT", ENCODE_TEXT[takes]), encoding="utf-8")
    config = {
        "architectures": ["TinyVoiceClap"],
        "model_type": "tiny_voiceclap",
        "width": DIMENSION,
        "auto_map": {
            "AutoConfig": f"{code.stem}.TinyVoiceClapConfig",
            "AutoModel": f"{code.stem}.TinyVoiceClap",
        },
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "tower.weight": (DIMENSION, 201, 3),
        "tower.bias": (DIMENSION,),
        "words.weight": (261, DIMENSION),
        "head.weight": (DIMENSION, DIMENSION),
        "head.bias": (DIMENSION,),
    }
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer().save_pretrained(folder)
    return folder
