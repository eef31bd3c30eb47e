"""Turn annotations into labels, and say how far people agree.

Reads   annotations/<subset>/{annotations,users[,flags]}.csv
Writes  analysis_outputs/<subset>/{benchmark_labels,per_*_summary,incomplete_items}.csv, summary.json
        analysis_outputs/report.md

  uv run analysis.py
  uv run analysis.py --subset emolia-dim --required-raters 2
  uv run analysis.py --ties absent --output-dir analysis_published

--ties absent counts a tie as absent, which is what emolia-bench published.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from earmark import script
from earmark.annotation.analysis import Analysis, analyse
from earmark.annotation.labels import TIES
from earmark.annotation.subsets import Subset, subsets
from earmark.annotation.tables import Annotations, load_annotations
from earmark.errors import DataError
from earmark.report.documents import render
from earmark.report.files import write_together
from earmark.report.provenance import data_hash, provenance, signature
from earmark.report.summaries import AnalysisSummary, to_json
from earmark.report.tables import to_csv


def main(argv: Sequence[str] | None = None) -> int:
    return script.run(tell, argument_parser(), argv)


def argument_parser() -> ArgumentParser:
    parser = script.argument_parser(__doc__ or "")
    parser.add_argument("--subset", choices=[*subsets(), "all"], default="all", help="which subset (default all)")
    parser.add_argument("--required-raters", type=script.positive_int, default=3, help="raters of a complete item (3)")
    parser.add_argument(
        "--ties", choices=TIES, default="exclude", help="what a tied item is labelled (exclude: nothing)"
    )
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="replicates per interval (1000)")
    parser.add_argument("--annotations-root", type=Path, default=Path("annotations"))
    parser.add_argument("--output-dir", type=Path, default=Path("analysis_outputs"))
    return parser


def tell(arguments: Namespace) -> int:
    chosen = script.chosen(subsets(), arguments.subset)
    loaded = load_all(chosen, arguments.annotations_root)
    contents: dict[Path, str | bytes | None] = {}
    summaries = []
    for annotations in loaded:
        name = annotations.subset.name
        script.warn(f"{name}: {len(annotations.ratings):,} ratings", arguments)
        found = analyse(
            annotations,
            ties=arguments.ties,
            required=arguments.required_raters,
            replicates=arguments.bootstrap,
            rng=script.generator(arguments),
        )
        summary = to_json(AnalysisSummary, summarise(annotations, found, arguments))
        summaries.append(AnalysisSummary.model_validate_json(summary).model_dump())
        folder = arguments.output_dir / name
        contents |= {folder / f"{table}.csv": to_csv(rows) for table, rows in found.tables.items()}
        contents[folder / "summary.json"] = summary
    report = render("analysis.md.j2", summaries=summaries, subsets=subsets())
    contents[arguments.output_dir / "report.md"] = report
    write_together(contents)
    script.show(report)
    return script.COMPLETE


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


def summarise(annotations: Annotations, found: Analysis, arguments: Namespace) -> dict[str, object]:
    """summary.json: where the numbers came from, then the numbers."""
    return {
        **provenance(
            script=Path(__file__),
            argv=arguments.argv,
            seed=arguments.seed,
            inputs=annotations.rows,
            parameters={
                "required_raters": arguments.required_raters,
                "ties": arguments.ties,
                "bootstrap": arguments.bootstrap,
            },
            exclusions=found.exclusions,
            signature=signature(
                suite=annotations.subset.name,
                protocol="earmark",
                metric="human_upper_bound_binary",
                ties=arguments.ties,
                ci=f"clip-bootstrap-{arguments.bootstrap}",
                seed=arguments.seed,
                data=data_hash(list(annotations.rows)),
            ),
        ),
        **found.numbers,
    }


if __name__ == "__main__":
    sys.exit(main())
