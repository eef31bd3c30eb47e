"""Train or fine-tune a speaker encoder with an additive angular margin, by the recipe of TidyVoice's baseline.

Reads   training clips: a folder spk/…/file, a CSV (path, speaker, language, gender) or a list of `path speaker` lines;
        with --init, a WeSpeaker checkpoint: a folder with avg_model.pt and config.yaml
Writes  <output-dir>/: avg_model.pt and config.yaml, for `--encoder wespeaker:<output-dir>`; log.csv, summary.json,
        report.md, report.html, figures/, model_card.md, validation_trials.txt; training_state.pt, with which a stopped
        run continues

  uv run --extra torch finetune_speaker.py --init voxblink2_samresnet34 --train TidyVoiceX_Train --output-dir tuned
  uv run --extra torch finetune_speaker.py --init voxblink2_samresnet34 --train train.csv --recipe strict --output-dir t
  uv run --extra torch finetune_speaker.py --model simam-resnet-tiny --train dataset/speaker-demo --output-dir tiny
  uv run --extra torch torchrun --nproc-per-node 2 finetune_speaker.py --init … --train … --output-dir …

Recipes: `published` repeats the baseline, with the last epoch and no validation. `strict` has its settings as they are
written, holds 10 % of the speakers out and keeps the epoch with their lowest equal error rate. `scratch` is for small
models with random weights. The same command continues after a stop; on a CPU, the result is the same.
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.cli import Invocation
from earmark.speaker.finetune.options import RECIPES, TINY, FinetuneOptions, ProcessGroup

SEED = 42  # as published


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def run(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.speaker.finetune.run import run_finetune

    group = ProcessGroup(*(int(os.environ.get(name, default)) for name, default in GROUP_VARIABLES.items()))
    return run_finetune(cli.options(FinetuneOptions, arguments, group=group), invocation)


GROUP_VARIABLES = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}  # set by torchrun


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run, seed=SEED)
    add_model(parser)
    add_data(parser)
    add_training(parser)
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="output directory")
    parser.add_argument("--restart", action="store_true", help="replace the run in --output-dir")
    parser.add_argument("--model-name", metavar="NAME", help="name in the report (default: that of --output-dir)")
    cli.add_figures_flag(parser)
    return parser


def add_model(parser: ArgumentParser) -> None:
    """Add the flags that select the initial weights."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--init", metavar="FOLDER", help="checkpoint to start from: a folder, or ORG/NAME on the hub")
    model.add_argument("--model", choices=[TINY], help="start from random weights")


def add_data(parser: ArgumentParser) -> None:
    """Add the flags of the data."""
    parser.add_argument("--train", type=Path, required=True, metavar="PATH", help="folder, CSV or list of clips")
    parser.add_argument("--audio-root", type=Path, metavar="DIR", help="directory of the audio (default: of the list)")
    parser.add_argument("--speakers", type=Path, metavar="FILE", help="`utterance speaker` lines (default: from paths)")
    parser.add_argument(
        "--validation", type=Path, metavar="FILE", help="labelled trial list (default: held-out speakers)"
    )
    parser.add_argument(
        "--test", type=Path, nargs="+", default=[], metavar="FILE", help="trial lists whose speakers are not trained on"
    )
    parser.add_argument("--allow-overlap", action="store_true", help="train on speakers of --validation and --test")
    parser.add_argument("--allow-missing", action="store_true", help="leave unusable clips out and report the count")
    parser.add_argument("--noises", type=Path, metavar="DIR", help="noise recordings (default: synthetic)")
    parser.add_argument("--rooms", type=Path, metavar="DIR", help="room impulse responses (default: simulated)")


def add_training(parser: ArgumentParser) -> None:
    """Add the flags of the training."""
    parser.add_argument(
        "--recipe", choices=RECIPES, help="table of settings (default: published; scratch for random weights)"
    )
    parser.add_argument(
        "--set", dest="settings", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="change settings of the recipe, such as epochs=2 learning_rate=1e-4,1e-5",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="cpu, cuda, … (default: a GPU if available)")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], default="float32",
        help="float32, or mixed precision (default: float32)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=cli.positive_int, default=2, metavar="N", help="threads that read clips (default: 2)"
    )


if __name__ == "__main__":
    sys.exit(main())
