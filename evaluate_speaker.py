"""Speaker verification: how often a system takes two people for one, or one for two.

Reads   a trial list, and audio, embeddings by utterance, or scores; or clean speech; or CASE results files
Writes  benchmark_outputs/speaker/trials/{summary.json, report.md, report.tex}, scores.csv of embeddings
        carriers: audio/, trials/, manifest.csv; leaderboard.{csv,json,md}

  uv run evaluate_speaker.py trials --trials dataset/speaker-demo/trials_crosslingual.txt --encoder logmel
  uv run evaluate_speaker.py trials --trials trials.txt --scores scores.txt
  uv run evaluate_speaker.py trials --trials trials.txt --embeddings embeddings.npz --speakers utt2spk
  uv run evaluate_speaker.py carriers dataset/speaker-demo/speakers.csv --output-dir carriers --processes 2
  uv run evaluate_speaker.py leaderboard results.json other_results.json --output-dir leaderboard

Lists are `1|0 enrol test`, `enrol test target|nontarget` or `enrol test score [label]`, told apart by content. The
speaker of an utterance is the first folder of its path `spk/…`, unless --speakers maps utterances to speakers.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from earmark import script
from earmark.audio.carriers import build
from earmark.embeddings.store import EmbeddingStore
from earmark.errors import DataError, EarmarkError, Fault, MissingError, shown_path
from earmark.models.encoders import Encoder, load_encoder
from earmark.models.encoders.given import GivenEmbeddings
from earmark.report.documents import render
from earmark.report.files import locked, write_together
from earmark.report.provenance import data_hash, exclusions, parameters_hash, provenance, signature
from earmark.report.summaries import SpeakerSummary, to_json
from earmark.report.tables import to_csv, to_markdown, to_tex
from earmark.suites import case
from earmark.suites.trials import (
    Trials,
    Verification,
    cosine_scores,
    evaluate,
    read_speakers,
    read_trials,
    speakers_of,
)


def main(argv: Sequence[str] | None = None) -> int:
    return script.run(lambda arguments: arguments.tell(arguments), argument_parser(), argv)


def argument_parser() -> ArgumentParser:
    parser = script.argument_parser(__doc__ or "")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    trials = commands.add_parser("trials", help="any trial list", description=__doc__, allow_abbrev=False)
    trials.add_argument("--trials", type=Path, required=True, metavar="FILE", help="the list, labelled")
    source = trials.add_mutually_exclusive_group()
    source.add_argument("--scores", type=Path, metavar="FILE", help="`enrol test score` lines for the list's trials")
    source.add_argument("--embeddings", type=Path, metavar="NPZ", help="{utterance: vector}, scored by cosine")
    source.add_argument("--encoder", metavar="SPEC", help="logmel, FILE.py, onnx:FILE, hf:ID, resemblyzer, …")
    trials.add_argument(
        "--audio-root", type=Path, metavar="DIR", help="what the list's paths are below (its own folder)"
    )
    trials.add_argument("--device", default="auto", help="cpu, cuda, … (default: a GPU where there is one)")
    trials.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    trials.add_argument("--batch-size", type=script.positive_int, default=16, metavar="N", help="clips at a time (16)")
    trials.add_argument(
        "--store", type=Path, default=Path("benchmark_outputs/embeddings"), help="embeddings made so far"
    )
    trials.add_argument("--speakers", type=Path, metavar="FILE", help="`utterance speaker` lines")
    trials.add_argument("--p-target", type=script.positive_float, default=0.01, help="prior of the costs (0.01)")
    trials.add_argument("--no-self-trials", action="store_true", help="leave trials of a file against itself out")
    trials.add_argument("--allow-missing", action="store_true", help="leave trials without a score out, and count them")
    trials.add_argument("--bootstrap", type=script.natural_int, default=1000, metavar="N", help="replicates (1000)")
    trials.add_argument("--output-dir", type=Path, default=Path("benchmark_outputs/speaker/trials"))
    trials.set_defaults(tell=tell_trials)
    made = commands.add_parser("carriers", help="a CASE-shaped benchmark from clean speech", allow_abbrev=False)
    made.add_argument("clean", type=Path, help="a folder spk/…/file, or a CSV of path, speaker and perhaps gender")
    made.add_argument("--output-dir", type=Path, required=True)
    made.add_argument("--protocols", nargs="+", default=[], metavar="NAME", help="some of the 24 (all)")
    made.add_argument("--processes", type=script.positive_int, default=1, metavar="N")
    made.add_argument("--noises", type=Path, metavar="DIR", help="recordings of noise instead of the built-in noise")
    made.add_argument("--rooms", type=Path, metavar="DIR", help="impulse responses instead of the built-in rooms")
    made.add_argument("--trials", nargs=2, type=script.positive_int, default=[5000, 5000], metavar=("TARGET", "OTHER"))
    made.set_defaults(tell=tell_carriers)
    board = commands.add_parser("leaderboard", help="CASE results beside the published models", allow_abbrev=False)
    board.add_argument("results", type=Path, nargs="*", metavar="FILE", help="results.json files")
    board.add_argument("--output-dir", type=Path, default=Path("benchmark_outputs/speaker/case"))
    board.set_defaults(tell=tell_leaderboard)
    return parser


# --- any trial list -----------------------------------------------------------------------------------------


def tell_trials(arguments: Namespace) -> int:
    encoder = None
    if arguments.encoder:
        encoder = load_encoder(arguments.encoder, device=arguments.device, dtype=arguments.dtype)
    trials = scored(read_trials(arguments.trials), encoder, arguments)
    left_out = {"without a score": int(np.isnan(trials.scores).sum())} if trials.scores is not None else {}
    trials = trials.take(~np.isnan(trials.scores)) if trials.scores is not None else trials
    if arguments.no_self_trials:
        left_out["of a file against itself"] = int(trials.is_self.sum())
        trials = trials.take(~trials.is_self)
    known = read_speakers(arguments.speakers) if arguments.speakers else None
    try:
        found = evaluate(
            trials,
            speakers_of(trials.names, known),
            replicates=arguments.bootstrap,
            rng=script.generator(arguments),
            p_target=arguments.p_target,
        )
    except ValueError as error:
        raise EarmarkError(f"{shown_path(arguments.trials)}: {error}") from error
    with locked([arguments.output_dir]):
        script.show(write(trials, found, encoder, left_out, arguments))
    return script.COMPLETE


def scored(trials: Trials, encoder: Encoder | GivenEmbeddings | None, arguments: Namespace) -> Trials:
    """The list with a score for every trial; without one, an error that lists what is missing, or NaN."""
    if trials.labels is None:
        raise EarmarkError(f"{shown_path(arguments.trials)}: has no labels, so no error rate can be computed")
    if encoder is not None:
        scores, missing = scores_of_audio(trials, encoder, arguments)
    elif arguments.embeddings:
        scores, missing = scores_of_embeddings(trials, arguments.embeddings)
    elif arguments.scores:
        scores, missing = scores_of_file(trials, arguments.scores)
    elif trials.scores is not None:
        return trials
    else:
        raise MissingError("--encoder SPEC, --scores FILE or --embeddings NPZ: the list holds no scores of its own")
    if missing and not arguments.allow_missing:
        shown = "\n".join(f"  {name}" for name in missing[:20])
        more = f"\n  and {len(missing) - 20:,} more" if len(missing) > 20 else ""
        raise EarmarkError(
            f"{len(missing):,} are missing:\n{shown}{more}\n--allow-missing leaves their trials out and counts them."
        )
    return Trials(trials.names, trials.enrolment, trials.test, trials.labels, scores)


def scores_of_audio(
    trials: Trials, encoder: Encoder | GivenEmbeddings, arguments: Namespace
) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Cosines of an encoder's embeddings, which the store keeps; and the utterances without one, and why."""
    root = arguments.audio_root or arguments.trials.parent
    names = {root / name: str(name) for name in trials.names}
    made = EmbeddingStore(arguments.store).embed(encoder, list(names), batch_size=arguments.batch_size, audio_root=root)
    bar = script.progress(made, arguments, total=len(names), what=encoder.name, unit="clip")
    found = {names[path]: embedding for path, embedding in bar}
    vectors = {name: e.vector.astype(float) for name, e in found.items() if e.vector is not None}
    try:
        scores, _ = cosine_scores(trials, vectors)
    except ValueError as error:
        raise EarmarkError(f"{arguments.encoder}: {error}") from error
    return scores, [f"{name} ({e.error})" for name, e in found.items() if e.vector is None]


def scores_of_embeddings(trials: Trials, path: Path) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Cosines, and the utterances without an embedding."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return cosine_scores(trials, {name: archive[name] for name in trials.names if name in archive})
    except FileNotFoundError as error:
        raise MissingError(f"{shown_path(path)} is not there") from error
    except (ValueError, OSError) as error:
        raise EarmarkError(f"{shown_path(path)}: {error}") from error


def scores_of_file(trials: Trials, path: Path) -> tuple[np.ndarray[Any, Any], list[str]]:
    """The scores of the list's trials in a score file, and the trials that it does not hold."""
    given = read_trials(path)
    if given.scores is None:
        raise DataError({shown_path(path): [Fault(1, "", "holds no scores")]}, "A line is `enrol test score`.")
    index = pd.MultiIndex.from_arrays([given.names[given.enrolment], given.names[given.test]])
    wanted = pd.MultiIndex.from_arrays([trials.names[trials.enrolment], trials.names[trials.test]])
    by_pair = pd.Series(given.scores, index=index)
    scores = by_pair[~by_pair.index.duplicated()].reindex(wanted).to_numpy()
    absent = wanted[np.isnan(scores)].unique()
    return scores, [f"{enrol} {test}" for enrol, test in absent]


def write(
    trials: Trials,
    found: Verification,
    encoder: Encoder | GivenEmbeddings | None,
    left_out: dict[str, int],
    arguments: Namespace,
) -> str:
    """All files at once; returns the report."""
    text = to_json(SpeakerSummary, summarise(found, encoder, left_out, arguments))
    summary = SpeakerSummary.model_validate_json(text).model_dump()
    report, tables = render("trials.md.j2", s=summary)
    folder = arguments.output_dir
    contents: dict[Path, str | bytes | None] = {
        folder / "summary.json": text,
        folder / "report.md": report,
        folder / "report.tex": to_tex(tables),
    }
    if arguments.embeddings or arguments.encoder:  # scores that came from a file are there already
        sides = {"enrol": trials.names[trials.enrolment], "test": trials.names[trials.test]}
        scores = pd.DataFrame({**sides, "score": trials.scores, "label": np.asarray(trials.labels).astype(int)})
        contents[folder / "scores.csv"] = to_csv(scores)
    write_together(contents)
    return report


def summarise(
    found: Verification, encoder: Encoder | GivenEmbeddings | None, left_out: dict[str, int], arguments: Namespace
) -> dict[str, Any]:
    """summary.json: where the numbers came from, then the numbers."""
    sources = [path for path in (arguments.trials, arguments.scores, arguments.embeddings) if path]
    rows = found.counts["n_trials"] + sum(left_out.values())
    parameters = {key: getattr(arguments, key) for key in ("p_target", "bootstrap", "no_self_trials", "allow_missing")}
    return {
        **provenance(
            script=Path(__file__),
            argv=arguments.argv,
            seed=arguments.seed,
            inputs=dict.fromkeys(sources, rows),
            parameters=parameters,
            exclusions=exclusions(left_out),
            signature=signature(
                suite="trials",
                protocol="earmark",
                metric="eer",
                ci=f"{found.resampled[:-1]}-bootstrap-{arguments.bootstrap}",
                seed=arguments.seed,
                parameters=parameters_hash(parameters),
                data=data_hash(sources),
                **({"model": encoder.identity} if encoder is not None else {}),
            ),
        ),
        **found.counts,
        "resampled": found.resampled,
        "threshold": found.threshold,
        "metrics": found.metrics,
        "encoder": encoder.description if encoder is not None else {},
    }


# --- carriers -----------------------------------------------------------------------------------------------


def tell_carriers(arguments: Namespace) -> int:
    with locked([arguments.output_dir]):
        building = build(
            arguments.clean,
            arguments.output_dir,
            seed=arguments.seed,
            protocols=arguments.protocols,
            processes=arguments.processes,
            noises=arguments.noises,
            rooms=arguments.rooms,
            trials_per_protocol=tuple(arguments.trials),
        )
        bar = script.progress(building, arguments, total=len(building), what="carriers", unit="file")
        fresh = sum(made.fresh for made in bar)
    script.show(
        f"{len(building):,} files, {fresh:,} of them new, in {shown_path(arguments.output_dir)}/. These carriers are "
        "made here, from your speech: results on them are not official CASE results."
    )
    return script.COMPLETE


# --- leaderboard --------------------------------------------------------------------------------------------


def tell_leaderboard(arguments: Namespace) -> int:
    results = []
    for path in arguments.results:
        name, eers = case.read_results(path)
        try:
            case.aggregates(eers)
        except ValueError as error:
            raise EarmarkError(f"{shown_path(path)}: {error}") from error
        results.append((name, eers))
    table = case.leaderboard(results)
    columns = list(case.COLUMNS)
    board = to_markdown(columns, table[columns].astype(object).to_numpy().tolist())
    folder = arguments.output_dir
    records = table.astype(object).to_dict("records")
    write_together(
        {
            folder / "leaderboard.csv": to_csv(table),
            folder / "leaderboard.json": json.dumps(records, indent=2, allow_nan=False) + "\n",
            folder / "leaderboard.md": f"# CASE\n\n{board}\n",
        }
    )
    script.show(board)
    return script.COMPLETE


if __name__ == "__main__":
    sys.exit(main())
