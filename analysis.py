"""Turn annotations into labels, and say how far people agree.

Reads   annotations/<subset>/{annotations,users[,flags]}.csv
Writes  analysis_outputs/<subset>/{benchmark_labels,leave_one_out,per_*_summary,incomplete_items}.csv, summary.json
        analysis_outputs/{report.md, report.tex}

  uv run analysis.py
  uv run analysis.py --subset emolia-dim --required-raters 2
  uv run analysis.py --exclude-rater user_1 --min-reaction-ms 300 --output-dir analysis_strict

--ties absent counts a tie as absent, which is what emolia-bench published.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.annotation.analysis import Analysis, analyse
from earmark.annotation.labels import TIES
from earmark.annotation.subsets import Subset, subsets
from earmark.annotation.tables import Annotations, leave_out, load_annotations
from earmark.errors import DataError, MissingError, shown_path
from earmark.files.atomic import write_together
from earmark.report.provenance import data_hash, exclusions, parameters_hash, provenance, signature
from earmark.report.render import render
from earmark.report.summaries import AnalysisSummary, to_json
from earmark.report.tables import to_csv, to_tex


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run(tell, argument_parser(), argv)


def argument_parser() -> ArgumentParser:
    parser = cli.argument_parser(__doc__ or "")
    parser.add_argument(
        "--subset", choices=[*subsets(), "all"], default="all", help="which subset (default: all there are)"
    )
    parser.add_argument("--required-raters", type=cli.positive_int, default=3, help="raters of a complete item (3)")
    parser.add_argument(
        "--ties", choices=TIES, default="exclude", help="what a tied item is labelled (exclude: nothing)"
    )
    parser.add_argument("--exclude-rater", nargs="+", default=[], metavar="NAME", help="leave these people out")
    parser.add_argument("--min-reaction-ms", type=cli.positive_float, metavar="MS", help="leave faster ratings out")
    parser.add_argument(
        "--bootstrap", type=cli.natural_int, default=1000, metavar="N", help="replicates per interval (1000)"
    )
    parser.add_argument("--annotations-root", type=Path, default=Path("annotations"))
    parser.add_argument("--output-dir", type=Path, default=Path("analysis_outputs"))
    return parser


def tell(arguments: Namespace) -> int:
    chosen = cli.chosen(subsets(), arguments.subset)
    if arguments.subset == "all":
        chosen = [subset for subset in chosen if (arguments.annotations_root / subset.name).is_dir()]
    if not chosen:
        root = shown_path(arguments.annotations_root)
        raise MissingError(f"{root}/ holds no subset. Run `uv run anonymize.py` to fill it from annotations_raw/.")
    loaded = restricted(load_all(chosen, arguments.annotations_root), arguments)
    contents: dict[Path, str | bytes | None] = {}
    summaries = []
    for annotations in loaded:
        name = annotations.subset.name
        cli.warn(
            f"{name}: {len(annotations.ratings):,} ratings" if len(annotations.ratings) else f"{name}: NO RATINGS",
            arguments,
        )
        found = analyse(
            annotations,
            ties=arguments.ties,
            required=arguments.required_raters,
            replicates=arguments.bootstrap,
            rng=cli.generator(arguments),
        )
        summary = to_json(AnalysisSummary, summarise(annotations, found, arguments))
        summaries.append(AnalysisSummary.model_validate_json(summary).model_dump())
        folder = arguments.output_dir / name
        contents |= {folder / f"{table}.csv": to_csv(rows) for table, rows in found.tables.items()}
        contents[folder / "summary.json"] = summary
    report, tables = render("analysis.md.j2", summaries=summaries, subsets=subsets())
    contents |= {arguments.output_dir / "report.md": report, arguments.output_dir / "report.tex": to_tex(tables)}
    write_together(contents)
    cli.show(report)
    return cli.COMPLETE


def load_all(chosen: Sequence[Subset], root: Path) -> list[Annotations]:
    """Every chosen subset's tables; the faults of all of them in one error."""
    loaded, failures = [], []
    for subset in chosen:
        try:
            loaded.append(load_annotations(root / subset.name, subset))
        except DataError as error:
            failures.append(error)
    if failures:
        raise DataError.merged(failures)
    return loaded


def restricted(loaded: list[Annotations], arguments: Namespace) -> list[Annotations]:
    """Without the people and the hasty ratings that the flags leave out."""
    known = {name for annotations in loaded for name in annotations.ratings["username"]}
    if unknown := sorted(set(arguments.exclude_rater) - known):
        raise MissingError(
            f"--exclude-rater {unknown[0]}: rated nothing here. Those who did: {', '.join(sorted(known))}"
        )
    return [leave_out(annotations, arguments.exclude_rater, arguments.min_reaction_ms) for annotations in loaded]


def summarise(annotations: Annotations, found: Analysis, arguments: Namespace) -> dict[str, object]:
    """summary.json: where the numbers came from, then the numbers."""
    names = ("required_raters", "ties", "bootstrap", "exclude_rater", "min_reaction_ms")
    parameters = {name: getattr(arguments, name) for name in names}
    return {
        **provenance(
            script=Path(__file__),
            argv=arguments.argv,
            seed=arguments.seed,
            inputs=annotations.rows,
            parameters=parameters,
            exclusions=exclusions(annotations.left_out),
            signature=signature(
                suite=annotations.subset.name,
                protocol="earmark",
                metric="human_upper_bound_binary",
                ties=arguments.ties,
                ci=f"clip-bootstrap-{arguments.bootstrap}",
                seed=arguments.seed,
                parameters=parameters_hash(parameters),
                data=data_hash(list(annotations.rows)),
            ),
        ),
        **found.numbers,
    }


if __name__ == "__main__":
    sys.exit(main())
