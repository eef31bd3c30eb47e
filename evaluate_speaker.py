"""Speaker verification: how often a system takes two people for one, or one for two.

Reads   a trial list, or a benchmark in the shape of CASE; and audio, embeddings by utterance, or scores
Writes  benchmark_outputs/speaker/{case/<model>, tidyvoice/<model>, trials}/: summary.json, report.md, report.tex,
        det.svg, scores; for CASE also results.json, model_card.md, protocols.csv; for TidyVoice submission.zip.
        These hold the latest run; benchmark_outputs/runs/<system>/speaker/ keeps each system's

  uv run evaluate_speaker.py
  uv run evaluate_speaker.py case case-benchmark --encoder my_model.py
  uv run evaluate_speaker.py tidyvoice --trials dataset/speaker-demo/trials_crosslingual.txt --encoder logmel
  uv run evaluate_speaker.py trials --trials trials.txt --scores scores.txt
  uv run evaluate_speaker.py COMMAND --help

Without a command: CASE on the demo speech, whose carriers are made the first time. Lists are `1|0 enrol test`,
`enrol test target|nontarget`, `enrol test score [label]` or `enrol test label score`, told apart by content. The
speaker of an utterance is the first folder of its path `spk/…`, unless --speakers maps utterances to speakers.
"""

import os
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from earmark import cli
from earmark.cli import Invocation
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.registry import encoder_specs
from earmark.speaker.case.conditions import PUBLISHED, STRICT, categories, condition_names, recording_sets
from earmark.speaker.options import (
    HUB,
    TOP_N,
    CaseOptions,
    CheckOptions,
    DownloadOptions,
    LeaderboardOptions,
    SimulateOptions,
    TidyVoiceOptions,
    TrialsOptions,
    VerifyOptions,
)

OUTPUT = Path("benchmark_outputs/speaker")
TRIALS = (
    "uv run evaluate_speaker.py trials --trials trials.txt --encoder hf:microsoft/wavlm-base-plus-sv",
    "uv run evaluate_speaker.py trials --trials trials.txt --scores scores.csv --compare-with other_scores.csv",
)
TIDYVOICE = (
    "uv run evaluate_speaker.py tidyvoice --trials dev.txt --encoder my_model.py --audio-root audio --cohort utt2spk",
    "uv run evaluate_speaker.py tidyvoice --eval-a A.txt --eval-u U.txt --encoder my_model.py --audio-root audio",
)
DEMO_SPEECH = Path(__file__).resolve().parent / "dataset/speaker-demo/case.csv"
DEMO = OUTPUT / "demo-carriers"
TOKEN_VARIABLE = "EARMARK_API_KEY"  # holds the bearer token of an embeddings server, if there is one
HUB_TOKEN_VARIABLE = "HF_TOKEN"
N = len(condition_names())


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


# --- commands: what computes waits until the flags are right ------------------------------------------------


def run_demo(arguments: Namespace, invocation: Invocation) -> int:
    """CASE on the demo speech with the built-in encoder."""
    from earmark.speaker.case.commands import simulate
    from earmark.speaker.case.run import run_case

    simulate(SimulateOptions(DEMO_SPEECH, DEMO, trials=(1000, 1000), workers=2), invocation)
    return run_case(CaseOptions(DEMO, OUTPUT / "case", EncoderOptions(encoder="logmel")), invocation)


def run_case(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.speaker.case.run import run_case

    return run_case(cli.options(CaseOptions, arguments, token=os.environ.get(TOKEN_VARIABLE)), invocation)


def run_trials(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.speaker.run import run_trials

    return run_trials(cli.options(TrialsOptions, arguments, token=os.environ.get(TOKEN_VARIABLE)), invocation)


def run_tidyvoice(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.speaker.run import run_tidyvoice

    return run_tidyvoice(cli.options(TidyVoiceOptions, arguments, token=os.environ.get(TOKEN_VARIABLE)), invocation)


def run_simulate(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.speaker.case.commands import run_simulate

    return run_simulate(cli.options(SimulateOptions, arguments), invocation)


def run_leaderboard(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.speaker.case.commands import run_leaderboard

    return run_leaderboard(cli.options(LeaderboardOptions, arguments), invocation)


def run_check(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.speaker.case.commands import run_check

    return run_check(cli.options(CheckOptions, arguments), invocation)


def run_download(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.speaker.case.commands import run_download

    return run_download(cli.options(DownloadOptions, arguments, token=os.environ.get(HUB_TOKEN_VARIABLE)), invocation)


def run_verify(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.speaker.case.commands import run_verify

    return run_verify(cli.options(VerifyOptions, arguments), invocation)


# --- flags --------------------------------------------------------------------------------------------------


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run_demo)
    commands = parser.add_subparsers(metavar="COMMAND")
    add_case(commands)
    add_lists(commands)
    add_simulate(commands)
    add_submissions(commands)
    add_files(commands)
    return parser


def add_case(commands: Any) -> None:
    """The CASE benchmark."""
    case_ = cli.subcommand(
        commands,
        "case",
        run_case,
        f"the CASE benchmark: {N} carriers, from clean to playback",
        [
            "uv run evaluate_speaker.py case case-benchmark --encoder my_model.py",
            'uv run evaluate_speaker.py case case-benchmark --embeddings vectors.npz --model-name "My model"',
        ],
    )
    case_.add_argument("benchmark", type=Path, help="a folder with trials/<protocol>.txt and the audio")
    add_encoder(case_.add_mutually_exclusive_group())
    add_embedding(case_)
    add_statistics(case_)
    cli.add_renamed_argument(
        case_, "--scoring", "--protocol", choices=[PUBLISHED, STRICT, "both"], default="both",
        help="published: all trials; strict: without self-trials and repeats (both)",
    )  # fmt: skip
    cli.add_renamed_argument(
        case_, "--conditions", "--protocols", nargs="+", default=[], metavar="NAME",
        help=f"only these of the {N} conditions; no aggregates are computed",
    )  # fmt: skip
    cli.add_renamed_argument(case_, "--model-name", "--name", metavar="NAME", help="name of the model (the encoder's)")
    case_.add_argument("--output-dir", type=Path, default=OUTPUT / "case", help="a folder for each model goes there")


def add_lists(commands: Any) -> None:
    """Any trial list, and TidyVoice."""
    for name, story, summary, examples in (
        ("trials", run_trials, "any trial list", TRIALS),
        ("tidyvoice", run_tidyvoice, "TidyVoice: across languages, and its submission", TIDYVOICE),
    ):
        command = cli.subcommand(commands, name, story, summary, examples)
        command.add_argument("--trials", type=Path, required=name == "trials", metavar="FILE", help="a labelled list")
        source = command.add_mutually_exclusive_group()
        add_encoder(source)
        source.add_argument(
            "--scores", type=Path, metavar="FILE", help="`enrol test score` lines, a CSV, or scores in the list's order"
        )
        add_embedding(command)
        add_back_end(command)
        add_statistics(command)
        command.add_argument(
            "--audio-root", type=Path, metavar="DIR", help="the folder that paths in lists start from (a list's own)"
        )
        command.add_argument(
            "--speakers", type=Path, metavar="FILE", help="`utterance speaker` lines; others have their path's"
        )
        command.add_argument("--no-self-trials", action="store_true", help="leave a file against itself out")
        cli.add_renamed_argument(
            command, "--compare-with", "--against", type=Path, metavar="FILE",
            help="scores of another system: paired differences with p-values",
        )  # fmt: skip
        cli.add_renamed_argument(
            command, "--compare-with-calibration", "--against-calibrate", type=Path, metavar="FILE",
            help="that system's scores of the --calibrate list",
        )  # fmt: skip
        if name == "tidyvoice":
            command.add_argument("--eval-a", type=Path, metavar="FILE", help="the list of eval A, for a submission")
            command.add_argument("--eval-u", type=Path, metavar="FILE", help="the list of eval U, for a submission")
        cli.add_renamed_argument(
            command, "--model-name", "--name", metavar="NAME", help="name of the system (the encoder's or score file's)"
        )
        command.add_argument("--output-dir", type=Path, default=OUTPUT / name)


def add_simulate(commands: Any) -> None:
    """A benchmark of one's own."""
    made = cli.subcommand(
        commands,
        "simulate",
        run_simulate,
        "simulate the CASE conditions on your own clean speech",
        ["uv run evaluate_speaker.py simulate speech/ --output-dir my-conditions --workers 4"],
        former="carriers",
    )
    made.add_argument("clean", type=Path, help="a folder spk/…/file, or a CSV of path, speaker and perhaps gender")
    made.add_argument("--output-dir", type=Path, required=True)
    cli.add_renamed_argument(
        made, "--conditions", "--protocols", nargs="+", default=[], metavar="NAME",
        help=f"only these of the {N} conditions (all)",
    )  # fmt: skip
    cli.add_renamed_argument(
        made, "--workers", "--processes", type=cli.positive_int, default=1, metavar="N", help="worker processes (1)"
    )
    made.add_argument("--noises", type=Path, metavar="DIR", help="recordings of noise instead of the built-in noise")
    made.add_argument("--rooms", type=Path, metavar="DIR", help="impulse responses instead of the built-in rooms")
    made.add_argument("--allow-missing", action="store_true", help="leave unusable speech out, and count it")
    made.add_argument("--trials", nargs=2, type=cli.positive_int, default=[5000, 5000], metavar=("TARGET", "OTHER"),
                      help="trials of each protocol, where the speech allows (5000 5000)")  # fmt: skip


def add_submissions(commands: Any) -> None:
    """What becomes of results."""
    board = cli.subcommand(
        commands,
        "leaderboard",
        run_leaderboard,
        "CASE results beside the published models",
        ["uv run evaluate_speaker.py leaderboard benchmark_outputs/speaker/case/*/results.json"],
    )
    board.add_argument("results", type=Path, nargs="*", metavar="FILE", help="results.json files")
    board.add_argument("--output-dir", type=Path, default=OUTPUT / "case")
    check = cli.subcommand(
        commands,
        "check",
        run_check,
        "whether a submission to CASE or TidyVoice keeps the rules",
        [
            "uv run evaluate_speaker.py check benchmark_outputs/speaker/case/my-model",
            "uv run evaluate_speaker.py check submission.zip --eval-a A.txt --eval-u U.txt",
        ],
    )
    check.add_argument("submission", type=Path, help="a folder with results.json and model_card.md, or a ZIP")
    check.add_argument("--eval-a", type=Path, metavar="FILE", help="the list of eval A, for its length")
    check.add_argument("--eval-u", type=Path, metavar="FILE", help="the list of eval U, for its length")


def add_files(commands: Any) -> None:
    """The official files."""
    fetched = cli.subcommand(
        commands,
        "download",
        run_download,
        "the CASE benchmark from the Hugging Face hub",
        ["uv run --extra download evaluate_speaker.py download --output-dir case-benchmark --categories clean codec"],
    )
    fetched.add_argument("--output-dir", type=Path, required=True)
    cli.add_renamed_argument(
        fetched, "--categories", "--conditions", nargs="+", choices=categories(), default=[], metavar="NAME",
        help=f"only these categories of conditions: {', '.join(categories())} (all)",
    )  # fmt: skip
    fetched.add_argument(
        "--sets", nargs="+", choices=recording_sets(), default=[], metavar="NAME",
        help=f"subset of recordings: {', '.join(recording_sets())} (both)",
    )  # fmt: skip
    fetched.add_argument("--hub", default=HUB, metavar="URL", help=f"({HUB})")
    verify = cli.subcommand(
        commands,
        "verify",
        run_verify,
        "whether a CASE benchmark on disk is complete",
        ["uv run evaluate_speaker.py verify case-benchmark"],
    )
    verify.add_argument("benchmark", type=Path)


def add_encoder(source: Any) -> None:
    """Flags that say which model."""
    source.add_argument(
        "--encoder",
        metavar="SPEC",
        help=", ".join(encoder_specs()),
    )
    source.add_argument("--embeddings", metavar="FILE", help="made elsewhere: .npz, .npy with ids, .scp, .parquet")


def add_embedding(parser: ArgumentParser) -> None:
    """Flags that say how a model runs."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, … (default: a GPU where there is one)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--batch-size", type=cli.positive_int, default=16, metavar="N", help="clips at a time (16)")
    cli.add_renamed_argument(
        parser, "--embedding-cache", "--store", type=Path, default=Path("benchmark_outputs/embeddings"), metavar="DIR",
        help="embedding cache directory (benchmark_outputs/embeddings)",
    )  # fmt: skip


def add_back_end(parser: ArgumentParser) -> None:
    """Flags that say what happens between embeddings and scores."""
    cli.add_renamed_argument(
        parser, "--subtract-mean", "--mean", default="none", metavar="WHICH",
        help="mean to subtract from embeddings: none, cohort, or a .npy file (none)",
    )  # fmt: skip
    parser.add_argument("--cohort", type=Path, metavar="FILE", help="`utterance speaker` lines: AS-norm against them")
    parser.add_argument(
        "--cohort-embeddings", type=Path, metavar="FILE", help="of the cohort, where --embeddings has only the trials'"
    )
    parser.add_argument(
        "--top-n",
        type=cli.positive_int,
        default=TOP_N,
        metavar="N",
        help=f"nearest speakers of the cohort that count ({TOP_N})",
    )
    parser.add_argument("--calibrate", type=Path, metavar="FILE", help="a labelled list to fit a linear calibration on")
    parser.add_argument("--enrolments", type=Path, metavar="FILE", help="`model utterance utterance …` lines, averaged")


def add_statistics(parser: ArgumentParser) -> None:
    """Flags that say what is made of scores."""
    parser.add_argument("--p-target", type=cli.probability, default=0.01, help="prior of the costs (0.01)")
    parser.add_argument("--allow-missing", action="store_true", help="leave trials without a score out, and count them")
    parser.add_argument("--no-intervals", action="store_true", help="values alone, which is faster")
    parser.add_argument("--bootstrap", type=cli.natural_int, metavar="N", help=SUPPRESS)  # once: replicates


if __name__ == "__main__":
    sys.exit(main())
