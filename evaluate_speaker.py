"""Evaluate speaker verification systems: equal error rate, minDCF, actDCF and Cllr with 95 % confidence intervals.

Reads   a trial list or a benchmark in the CASE layout, and audio, precomputed embeddings or scores
Writes  benchmark_outputs/speaker/{case/<model>, tidyvoice/<model>, trials}/: summary.json, report.md, report.tex,
        det.svg, scores; for CASE also results.json, model_card.md, protocols.csv; for TidyVoice submission.zip,
        and with keys evaluation.json, evaluation.md, evaluation.tex, ranking.csv;
        with --dataset-id also eval_results.yaml and mteb_results.json for model hubs.
        These directories hold the latest run. benchmark_outputs/runs/<system>/speaker/ holds the runs of every system

  uv run evaluate_speaker.py
  uv run evaluate_speaker.py case case-benchmark --encoder my_model.py
  uv run evaluate_speaker.py tidyvoice --trials dataset/speaker-demo/trials_crosslingual.txt --encoder logmel
  uv run evaluate_speaker.py trials --trials trials.txt --scores scores.txt
  uv run evaluate_speaker.py COMMAND --help

Without a command, the script evaluates the built-in encoder on the demo speech under the simulated CASE conditions,
which are generated on first use. The format of a list is detected: `1|0 enrol test`, `enrol test target|nontarget`,
`enrol test score [label]` or `enrol test label score`. The speaker of an utterance is the first folder of its path
`spk/…`, unless --speakers maps utterances to speakers.
"""

import os
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from earmark import cli
from earmark.cli import Invocation
from earmark.files.remote import location
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.registry import encoder_specs
from earmark.speaker.case.conditions import PUBLISHED, STRICT, categories, condition_names, recording_sets
from earmark.speaker.options import (
    FALSE_ALARM_RATES,
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
TRIALS_EXAMPLES = (
    "uv run evaluate_speaker.py trials --trials trials.txt --encoder hf:microsoft/wavlm-base-plus-sv",
    "uv run evaluate_speaker.py trials --trials trials.txt --scores scores.csv --compare-with other_scores.csv",
    "uv run evaluate_speaker.py trials --trials phone.txt --scores phone.csv --threshold-from studio/summary.json",
)
TIDYVOICE_EXAMPLES = (
    "uv run evaluate_speaker.py tidyvoice --trials dev.txt --encoder my_model.py --audio-root audio --cohort utt2spk",
    "uv run evaluate_speaker.py tidyvoice --eval-a A.txt --eval-u U.txt --encoder my_model.py --audio-root audio",
    "uv run evaluate_speaker.py tidyvoice --eval-a A.txt --eval-u U.txt --key-a key_A.txt --submission s.zip",
)
DEMO_SPEECH = Path(__file__).resolve().parent / "dataset/speaker-demo/case.csv"
DEMO = OUTPUT / "demo-carriers"
TOKEN_VARIABLE = "EARMARK_API_KEY"  # bearer token of an embeddings server
HUB_TOKEN_VARIABLE = "HF_TOKEN"
N_CONDITIONS = len(condition_names())


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


# --- commands: each imports its module when it runs, so that help and usage errors appear at once -----------


def run_demo(arguments: Namespace, invocation: Invocation) -> int:
    """Evaluate the built-in encoder on the demo speech under simulated CASE conditions."""
    from earmark.speaker.case.commands import simulate
    from earmark.speaker.case.run import run_case

    simulate(SimulateOptions(DEMO_SPEECH, DEMO, trials=(1000, 1000), workers=2), invocation)
    return run_case(CaseOptions(DEMO, OUTPUT / "case", EncoderOptions(encoder="logmel")), invocation)


def run_case(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.cluster.session import connected
    from earmark.speaker.case.run import run_case

    options = cli.options(CaseOptions, arguments, token=os.environ.get(TOKEN_VARIABLE))
    with connected(options.cluster, invocation, needs=needed_for_ray(options.encoder_options)):
        return run_case(options, invocation)


def run_trials(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.cluster.session import connected
    from earmark.speaker.run import run_trials

    options = cli.options(TrialsOptions, arguments, token=os.environ.get(TOKEN_VARIABLE))
    with connected(options.cluster, invocation, needs=needed_for_ray(options.encoder_options)):
        return run_trials(options, invocation)


def run_tidyvoice(arguments: Namespace, invocation: Invocation) -> int:
    from earmark.cluster.session import connected
    from earmark.speaker.run import run_tidyvoice

    options = cli.options(TidyVoiceOptions, arguments, token=os.environ.get(TOKEN_VARIABLE))
    labelled = options.labelled
    with connected(labelled.cluster, invocation, needs=needed_for_ray(labelled.encoder_options)):
        return run_tidyvoice(options, invocation)


def needed_for_ray(options: EncoderOptions) -> str:
    """The flag without which a Ray cluster has nothing to compute; empty if it is given."""
    return "" if options.encoder else "--encoder SPEC"


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
    """Add the command `case`."""
    case = cli.subcommand(
        commands,
        "case",
        run_case,
        f"evaluate a model on the CASE benchmark: {N_CONDITIONS} conditions from clean speech to playback",
        [
            "uv run evaluate_speaker.py case case-benchmark --encoder my_model.py",
            'uv run evaluate_speaker.py case case-benchmark --embeddings vectors.npz --model-name "My model"',
        ],
    )
    case.add_argument("benchmark", type=Path, help="directory with trials/<condition>.txt and the audio")
    add_encoder(case.add_mutually_exclusive_group())
    add_embedding(case)
    add_statistics(case)
    cli.add_renamed_argument(
        case, "--scoring", "--protocol", choices=[PUBLISHED, STRICT, "both"], default="both",
        help="published: all trials; strict: without self-trials and repeated trials (default: both)",
    )  # fmt: skip
    cli.add_renamed_argument(
        case, "--conditions", "--protocols", nargs="+", default=[], metavar="NAME",
        help=f"evaluate only these conditions, without aggregates (default: all {N_CONDITIONS})",
    )  # fmt: skip
    cli.add_renamed_argument(
        case, "--model-name", "--name", metavar="NAME", help="name of the model in reports (default: the encoder's)"
    )
    cli.add_page_flags(case)
    cli.add_dataset_id_flag(case)
    cli.add_log_flags(case)
    cli.add_ray_flags(case)
    case.add_argument(
        "--output-dir",
        type=Path,
        default=OUTPUT / "case",
        metavar="DIR",
        help=f"parent of the model's directory (default: {OUTPUT}/case)",
    )


def add_lists(commands: Any) -> None:
    """Add the commands `trials` and `tidyvoice`."""
    for name, run, summary, examples in (
        ("trials", run_trials, "evaluate a system on a trial list", TRIALS_EXAMPLES),
        (
            "tidyvoice",
            run_tidyvoice,
            "evaluate same- and cross-language trials and write a TidyVoice submission",
            TIDYVOICE_EXAMPLES,
        ),
    ):
        command = cli.subcommand(commands, name, run, summary, examples)
        command.add_argument(
            "--trials",
            type=Path,
            required=name == "trials",
            metavar="FILE",
            help="labelled trial list, or one without labels and --key",
        )
        source = command.add_mutually_exclusive_group()
        add_encoder(source)
        source.add_argument(
            "--scores",
            type=Path,
            metavar="FILE",
            help="score file: `enrol test score` lines, a CSV, or one score per line in the order of the list",
        )
        add_embedding(command)
        add_back_end(command)
        add_statistics(command)
        command.add_argument(
            "--audio-root",
            type=Path,
            metavar="DIR",
            help="directory that paths in lists are relative to (default: the directory of each list)",
        )
        command.add_argument(
            "--speakers",
            type=Path,
            metavar="FILE",
            help="`utterance speaker` lines (default: the speaker is the first folder of a path)",
        )
        command.add_argument(
            "--key",
            type=Path,
            metavar="FILE",
            help="labels of a --trials list without labels: `enrol test label` lines",
        )
        command.add_argument("--languages", type=Path, metavar="FILE", help="`utterance language` lines")
        command.add_argument(
            "--utterances",
            type=Path,
            metavar="FILE",
            help="CSV with a row per utterance: the column utterance or path, and any attributes",
        )
        command.add_argument(
            "--condition",
            nargs="+",
            default=[],
            metavar="COLUMN",
            help="columns of --utterances to report results by: same or different in targets and non-targets",
        )
        command.add_argument("--no-self-trials", action="store_true", help="exclude trials of a file against itself")
        if name == "trials":
            command.add_argument(
                "--target-means",
                default="",
                metavar="TEXT",
                help='what target trials have in common, such as "same language", if not the speaker',
            )
        cli.add_renamed_argument(
            command, "--compare-with", "--against", type=Path, metavar="FILE",
            help="score file of another system; reports paired differences with p-values",
        )  # fmt: skip
        cli.add_renamed_argument(
            command, "--compare-with-calibration", "--against-calibrate", type=Path, metavar="FILE",
            help="scores of the --compare-with system on the --calibrate list",
        )  # fmt: skip
        if name == "tidyvoice":
            command.add_argument("--eval-a", type=Path, metavar="FILE", help="eval A trial list, to write a submission")
            command.add_argument("--eval-u", type=Path, metavar="FILE", help="eval U trial list, to write a submission")
            command.add_argument("--key-a", type=Path, metavar="FILE", help="labels of eval A, to rank the results")
            command.add_argument("--key-u", type=Path, metavar="FILE", help="labels of eval U, to rank the results")
            command.add_argument(
                "--submission", type=Path, metavar="ZIP", help="scores of both evaluation lists, instead of an encoder"
            )
        cli.add_renamed_argument(
            command, "--model-name", "--name", metavar="NAME",
            help="name of the system (default: the name of the encoder or of the score file)",
        )  # fmt: skip
        cli.add_page_flags(command)
        cli.add_dataset_id_flag(command)
        cli.add_log_flags(command)
        cli.add_ray_flags(command)
        command.add_argument(
            "--output-dir",
            type=Path,
            default=OUTPUT / name,
            metavar="DIR",
            help=f"output directory (default: {OUTPUT / name})",
        )


def add_simulate(commands: Any) -> None:
    """Add the command `simulate`."""
    simulate = cli.subcommand(
        commands,
        "simulate",
        run_simulate,
        "simulate the CASE conditions on your own clean speech",
        ["uv run evaluate_speaker.py simulate speech/ --output-dir my-conditions --workers 4"],
        former="carriers",
    )
    simulate.add_argument(
        "clean", type=Path, help="directory spk/…/file, or a CSV with the columns path, speaker and optionally gender"
    )
    simulate.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="output directory")
    cli.add_renamed_argument(
        simulate, "--conditions", "--protocols", nargs="+", default=[], metavar="NAME",
        help=f"simulate only these conditions (default: all {N_CONDITIONS})",
    )  # fmt: skip
    cli.add_renamed_argument(
        simulate, "--workers", "--processes", type=cli.positive_int, default=1, metavar="N",
        help="worker processes (default: 1)",
    )  # fmt: skip
    simulate.add_argument(
        "--noises", type=Path, metavar="DIR", help="noise recordings to use instead of built-in noise"
    )
    simulate.add_argument(
        "--rooms", type=Path, metavar="DIR", help="impulse responses to use instead of built-in rooms"
    )
    simulate.add_argument("--allow-missing", action="store_true", help="skip unusable speech and report the count")
    simulate.add_argument(
        "--trials",
        nargs=2,
        type=cli.positive_int,
        default=[5000, 5000],
        metavar=("TARGET", "NONTARGET"),
        help="maximum number of trials per condition (default: 5000 5000)",
    )


def add_submissions(commands: Any) -> None:
    """Add the commands `leaderboard` and `check`."""
    board = cli.subcommand(
        commands,
        "leaderboard",
        run_leaderboard,
        "rank CASE results against the published models",
        ["uv run evaluate_speaker.py leaderboard benchmark_outputs/speaker/case/*/results.json"],
    )
    board.add_argument("results", type=Path, nargs="*", metavar="FILE", help="results.json files of `case`")
    board.add_argument(
        "--output-dir",
        type=Path,
        default=OUTPUT / "case",
        metavar="DIR",
        help=f"output directory (default: {OUTPUT}/case)",
    )
    check = cli.subcommand(
        commands,
        "check",
        run_check,
        "validate a CASE or TidyVoice submission and list all violations",
        [
            "uv run evaluate_speaker.py check benchmark_outputs/speaker/case/my-model",
            "uv run evaluate_speaker.py check submission.zip --eval-a A.txt --eval-u U.txt",
        ],
    )
    check.add_argument(
        "submission", type=Path, help="CASE directory with results.json and model_card.md, or TidyVoice ZIP"
    )
    check.add_argument("--eval-a", type=Path, metavar="FILE", help="eval A trial list, to compare the number of lines")
    check.add_argument("--eval-u", type=Path, metavar="FILE", help="eval U trial list, to compare the number of lines")


def add_files(commands: Any) -> None:
    """Add the commands `download` and `verify`."""
    download = cli.subcommand(
        commands,
        "download",
        run_download,
        "download the CASE benchmark from the Hugging Face Hub",
        ["uv run --extra download evaluate_speaker.py download --output-dir case-benchmark --categories clean codec"],
    )
    download.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="output directory")
    cli.add_renamed_argument(
        download, "--categories", "--conditions", nargs="+", choices=categories(), default=[], metavar="NAME",
        help=f"categories of conditions: {', '.join(categories())} (default: all)",
    )  # fmt: skip
    download.add_argument(
        "--sets", nargs="+", choices=recording_sets(), default=[], metavar="NAME",
        help=f"subsets of recordings: {', '.join(recording_sets())} (default: both)",
    )  # fmt: skip
    download.add_argument("--hub", default=HUB, metavar="URL", help=f"address of the hub (default: {HUB})")
    verify = cli.subcommand(
        commands,
        "verify",
        run_verify,
        "check that a downloaded CASE benchmark is complete",
        ["uv run evaluate_speaker.py verify case-benchmark"],
    )
    verify.add_argument("benchmark", type=Path, help="directory of the benchmark")


def add_encoder(source: Any) -> None:
    """Add the flags that select the model."""
    source.add_argument("--encoder", metavar="SPEC", help=f"one of {', '.join(encoder_specs())}")
    source.add_argument(
        "--embeddings", metavar="FILE", help="precomputed embeddings: .npz, .npy with ids, Kaldi .scp or .ark, .parquet"
    )


def add_embedding(parser: ArgumentParser) -> None:
    """Add the flags for computing embeddings."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, … (default: a GPU if available)")
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        default="float32",
        help="precision (default: float32)",
    )
    parser.add_argument(
        "--batch-size", type=cli.positive_int, default=16, metavar="N", help="clips per batch (default: 16)"
    )
    cli.add_renamed_argument(
        parser, "--embedding-cache", "--store", type=location, default=Path("benchmark_outputs/embeddings"),
        metavar="DIR", help="embedding cache directory or URL (default: benchmark_outputs/embeddings)",
    )  # fmt: skip


def add_back_end(parser: ArgumentParser) -> None:
    """Add the flags of the back end: mean subtraction, AS-norm, calibration, enrolment models."""
    cli.add_renamed_argument(
        parser, "--subtract-mean", "--mean", default="none", metavar="WHICH",
        help="mean to subtract from embeddings: none, cohort, or a .npy file (default: none)",
    )  # fmt: skip
    parser.add_argument("--cohort", type=Path, metavar="FILE", help="`utterance speaker` lines of a cohort for AS-norm")
    parser.add_argument(
        "--cohort-embeddings",
        type=Path,
        metavar="FILE",
        help="precomputed embeddings of the cohort (default: those of the system)",
    )
    parser.add_argument(
        "--top-n",
        type=cli.positive_int,
        default=TOP_N,
        metavar="N",
        help=f"number of most similar cohort speakers used by AS-norm (default: {TOP_N})",
    )
    parser.add_argument(
        "--calibrate", type=Path, metavar="FILE", help="labelled trial list to fit a linear calibration on"
    )
    parser.add_argument(
        "--enrolments",
        type=Path,
        metavar="FILE",
        help="`model utterance utterance …` lines; the embeddings of a model's utterances are averaged",
    )


def add_statistics(parser: ArgumentParser) -> None:
    """Add the flags of the metrics."""
    parser.add_argument(
        "--p-target",
        type=cli.probability,
        default=0.01,
        metavar="P",
        help="target prior P_target of minDCF and actDCF (default: 0.01)",
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="exclude trials without a score and report the count"
    )
    parser.add_argument(
        "--far",
        type=cli.probability,
        nargs="+",
        default=list(FALSE_ALARM_RATES),
        metavar="RATE",
        help="false alarm rates to give the threshold and the miss rate for, as fractions "
        f"(default: {' '.join(f'{rate:g}' for rate in FALSE_ALARM_RATES)})",
    )
    parser.add_argument(
        "--threshold-from",
        type=Path,
        metavar="SUMMARY",
        help="summary.json of another run, whose thresholds are applied to this one",
    )
    parser.add_argument("--no-intervals", action="store_true", help="skip confidence intervals, which is faster")
    parser.add_argument("--bootstrap", type=cli.natural_int, metavar="N", help=SUPPRESS)  # no longer used


if __name__ == "__main__":
    sys.exit(main())
