"""Score clips against sentences with an audio–text model and evaluate the scores against human labels.

Reads   analysis_outputs/<subset>/{benchmark_labels.csv, leave_one_out.csv, summary.json}, dataset/<subset>/
Writes  benchmark_outputs/<subset>/{predictions.csv, metrics_by_*.csv, summary.json, report.md, report.tex} (latest run)
        benchmark_outputs/runs/<model>/<subset>/ (the same files, one directory per model)
        With --dataset-id, also eval_results.yaml and mteb_results.json for model hubs

  uv run benchmark.py
  uv run benchmark.py --endpoint http://127.0.0.1:8765/v1/similarity --concurrency 32
  uv run benchmark.py --embeddings-endpoint http://127.0.0.1:7997/embeddings --model my-clap
  uv run --extra clap benchmark.py --clap-model laion/clap-htsat-unfused --device cuda
  uv run --extra clap benchmark.py --model voiceclap-small --subset emolia-dim --require-3-raters
  uv run --extra clap benchmark.py --model voiceclap-large-v2 --protocol voicenet
  uv run benchmark.py --by language speaker --limit 100
  uv run benchmark.py --resample both
  uv run benchmark.py --subset my-arousal --prompt "Speech of a highly aroused speaker." --clip "{file}.wav"
  uv run benchmark.py --subset emolia-emo --prompts wordings.csv

Without a model, the sham scorer computes placeholder scores from a hash of file names and sentences. An interrupted run
against a server continues with its stored replies; --restart discards them. The environment variable EARMARK_API_KEY
holds the bearer token of a server.
"""

import os
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.annotation.subsets import subsets
from earmark.audio_text.options import LABEL_COLUMNS, MIN_RATERS, BenchmarkOptions
from earmark.files.remote import location
from earmark.metrics.resample import RESAMPLE
from earmark.models.audio_text.published import VOICECLAP

TOKEN_VARIABLE = "EARMARK_API_KEY"


def main(argv: Sequence[str] | None = None) -> int:
    return cli.main(argument_parser(), __file__, argv)


def run(arguments: Namespace, invocation: cli.Invocation) -> int:
    from earmark.audio_text.run import run_benchmark  # slow import; not needed for --help and usage errors
    from earmark.cluster.session import connected

    token = os.environ.get(TOKEN_VARIABLE)
    arguments.min_raters = max(arguments.min_raters, MIN_RATERS[arguments.protocol])
    options = cli.options(BenchmarkOptions, arguments, token=token)
    needs = "" if options.scorer.is_in_process else "--model NAME or --clap-model NAME"
    with connected(options.cluster, invocation, needs=needs):
        return run_benchmark(options, invocation)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "", run)
    parser.add_argument(
        "--subset",
        default="both",
        metavar="NAME",
        help=f"subset to evaluate: {', '.join(subsets())}, or one that analysis.py described; both: every published "
        "subset with labels, or every subset of --subset-file; all: every subset with labels (default: both)",
    )
    parser.add_argument(
        "--subset-file", type=Path, metavar="FILE", help="TOML description of own subsets (default: of analysis.py)"
    )
    sentences = parser.add_argument_group("sentences and clips")
    wording = sentences.add_mutually_exclusive_group()
    wording.add_argument(
        "--prompt",
        metavar="SENTENCE",
        help="sentence to score; {label} stands for a class or the label of an item (default: set by the subset)",
    )
    wording.add_argument(
        "--prompts", type=Path, metavar="FILE", help="CSV or TOML file with several sentences for each label"
    )
    sentences.add_argument(
        "--clip",
        metavar="PATTERN",
        help="path of a clip below dataset/<subset>/, such as {speaker}/{file} (default: set by the subset)",
    )
    model = parser.add_argument_group("model")
    source = model.add_mutually_exclusive_group()
    source.add_argument("--endpoint", metavar="URL", type=url, help="server that scores a clip and a sentence")
    source.add_argument("--embeddings-endpoint", metavar="URL", type=url, help="server that embeds clips and sentences")
    source.add_argument("--clap-model", metavar="PATH_OR_ID", help="transformers ClapModel: directory or hub id")
    model.add_argument(
        "--model",
        metavar="NAME",
        help=f"{', '.join(VOICECLAP)}, or directory or hub id of a VoiceCLAP or sentence-transformers model; with "
        "--embeddings-endpoint, the model name to request; with --endpoint, the name of the model in results",
    )
    cli.add_renamed_argument(
        model, "--device", "--clap-device", default="auto",
        help="device of the model: auto, cpu, cuda, … (default: auto, a GPU if available)",
    )  # fmt: skip
    cli.add_renamed_argument(
        model, "--dtype", "--clap-dtype", choices=["float32", "bfloat16", "float16"], default="float32",
        help="precision of the model (default: float32)",
    )  # fmt: skip
    cli.add_renamed_argument(
        model, "--batch-size", "--clap-audio-batch-size", type=cli.positive_int, default=16, metavar="N",
        help="clips and sentences per batch; at most 32 per request to a server (default: 16)",
    )  # fmt: skip
    model.add_argument("--clap-text-batch-size", dest="text_batch_size", type=cli.positive_int, help=SUPPRESS)
    cli.add_renamed_argument(
        model, "--max-seconds", "--clap-max-seconds", type=cli.positive_float, metavar="S",
        help="maximum window length; longer clips are split into equal windows (default: set by the model)",
    )  # fmt: skip
    cli.add_renamed_argument(
        model, "--embedding-cache", "--store", type=location, default=Path("benchmark_outputs/embeddings"),
        metavar="DIR", help="embedding cache directory or URL (default: benchmark_outputs/embeddings)",
    )  # fmt: skip
    server = parser.add_argument_group("server")
    server.add_argument("--no-audio-send", action="store_true", help="send the names of clips without their audio")
    server.add_argument(
        "--sample-rate",
        type=cli.positive_int,
        metavar="HZ",
        help="resample clips before sending; --embeddings-endpoint only (default: send files unchanged)",
    )
    server.add_argument(
        "--concurrency", type=cli.positive_int, default=8, metavar="N", help="concurrent requests (default: 8)"
    )
    server.add_argument(
        "--timeout", type=cli.positive_float, default=60.0, metavar="S", help="seconds per reply (default: 60)"
    )
    server.add_argument(
        "--retries", type=cli.natural_int, default=5, metavar="N", help="retries per request (default: 5)"
    )
    server.add_argument(
        "--max-wait",
        type=cli.positive_float,
        default=300.0,
        metavar="S",
        help="seconds per request including retries (default: 300)",
    )
    server.add_argument(
        "--max-consecutive-failures",
        type=cli.positive_int,
        default=20,
        metavar="N",
        help="stop after N failed requests in a row (default: 20)",
    )
    cli.add_renamed_argument(
        server, "--restart", "--fresh", action="store_true", help="discard the stored replies of an interrupted run"
    )
    items = parser.add_argument_group("items")
    items.add_argument(
        "--min-raters",
        type=cli.positive_int,
        default=1,
        metavar="N",
        help="only items with at least N raters (default: 1)",
    )
    items.add_argument("--require-3-raters", action="store_true", help="same as --min-raters 3")
    items.add_argument("--exclude-flagged", action="store_true", help="exclude items that a rater flagged")
    items.add_argument(
        "--unanimous-only", action="store_true", help="only items with at least two raters who all agree"
    )
    items.add_argument(
        "--limit",
        type=cli.positive_int,
        metavar="N",
        help="only the first N items; items in between that only the comparison with raters needs are scored too",
    )
    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument(
        "--protocol",
        choices=list(MIN_RATERS),
        default="earmark",
        help="voicenet: items with at least two raters, with the measures by prompt first in the report (default: "
        "earmark)",
    )
    evaluation.add_argument(
        "--labels",
        choices=list(LABEL_COLUMNS),
        default="majority",
        help="reference labels: majority vote, Dawid–Skene posterior or share of raters (default: majority)",
    )
    evaluation.add_argument(
        "--threshold",
        type=cli.finite_float,
        default=0.0,
        help="predict present if the similarity is at least this value (default: 0.0)",
    )
    evaluation.add_argument(
        "--by",
        nargs="+",
        default=[],
        metavar="KEY",
        help="report metrics by these keys of the clips' JSON files (default: none)",
    )
    evaluation.add_argument(
        "--bootstrap",
        type=cli.natural_int,
        default=1000,
        metavar="N",
        help="bootstrap replicates; 0 for no confidence intervals (default: 1000)",
    )
    evaluation.add_argument(
        "--resample",
        choices=RESAMPLE,
        default="clips",
        help="what intervals of the comparison with raters generalise over: clips, raters or both (default: clips)",
    )
    evaluation.add_argument("--allow-missing", action="store_true", help="exit with 0 even if clips are missing")
    files = parser.add_argument_group("files")
    cli.add_renamed_argument(
        files, "--name", "--model-name", dest="model_name", metavar="NAME",
        help="name of the model in the report and of its directory in benchmark_outputs/runs (default: from the model)",
    )  # fmt: skip
    cli.add_page_flags(files)
    cli.add_dataset_id_flag(files)
    cli.add_log_flags(files)
    cli.add_ray_flags(parser.add_argument_group("Ray cluster"))
    files.add_argument(
        "--analysis-root",
        type=Path,
        default=Path("analysis_outputs"),
        metavar="DIR",
        help="outputs of analysis.py (default: analysis_outputs)",
    )
    files.add_argument(
        "--dataset-root", type=Path, default=Path("dataset"), metavar="DIR", help="clips (default: dataset)"
    )
    files.add_argument(
        "--output-dir",
        type=Path,
        default=Path("benchmark_outputs"),
        metavar="DIR",
        help="results (default: benchmark_outputs)",
    )
    return parser


def url(text: str) -> str:
    """Parse an HTTP or HTTPS URL, as an argparse type."""
    if not text.lower().startswith(("http://", "https://")):
        raise ArgumentTypeError("a URL must start with http:// or https://")  # the value may contain a password
    return text


if __name__ == "__main__":
    sys.exit(main())
