"""`analysis.py`: annotations → labels, agreement, human ceiling, raters, report."""

from collections.abc import Sequence
from pathlib import Path

from earmark import cli
from earmark.annotation.analysis import Analysis, analyse
from earmark.annotation.options import AnalysisOptions
from earmark.annotation.schema import AnalysisSummary
from earmark.annotation.subsets import Subset, chosen_subsets, subsets
from earmark.annotation.tables import Annotations, leave_out, load_annotations
from earmark.cli import Invocation
from earmark.errors import DataError, MissingError, shown_path
from earmark.files.atomic import write_together
from earmark.report.provenance import data_hash, exclusions, parameters_hash, provenance
from earmark.report.render import render
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv, to_tex


def run_analysis(options: AnalysisOptions, invocation: Invocation) -> int:
    """Load, analyse, write and show every subset asked for."""
    chosen = chosen_subsets(options.subset)
    if options.subset == "all":
        chosen = [subset for subset in chosen if (options.annotations_root / subset.name).is_dir()]
    if not chosen:
        root = shown_path(options.annotations_root)
        raise MissingError(f"{root}/ holds no subset. Run `uv run anonymize.py` to fill it from annotations_raw/.")
    loaded = restricted(load_all(chosen, options.annotations_root), options)
    contents: dict[Path, str | bytes | None] = {}
    summaries = []
    for annotations in loaded:
        name = annotations.subset.name
        invocation.warn(
            f"{name}: {len(annotations.ratings):,} ratings" if len(annotations.ratings) else f"{name}: NO RATINGS"
        )
        found = analyse(
            annotations,
            ties=options.ties,
            required=options.required_raters,
            replicates=options.bootstrap,
            rng=invocation.generator(),
        )
        summary = summarise(annotations, found, options, invocation)
        summaries.append(summary)
        folder = options.output_dir / name
        contents |= {folder / f"{table}.csv": to_csv(rows) for table, rows in found.tables.items()}
        contents[folder / "summary.json"] = to_json(summary)
    report, tables = render("analysis.md.j2", summaries=summaries, subsets=subsets())
    contents |= {options.output_dir / "report.md": report, options.output_dir / "report.tex": to_tex(tables)}
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


def restricted(loaded: list[Annotations], options: AnalysisOptions) -> list[Annotations]:
    """Without the people and the hasty ratings that the flags leave out."""
    known = {name for annotations in loaded for name in annotations.ratings["username"]}
    if unknown := sorted(set(options.exclude_rater) - known):
        raise MissingError(
            f"--exclude-rater {unknown[0]}: rated nothing here. Those who did: {', '.join(sorted(known))}"
        )
    return [leave_out(annotations, options.exclude_rater, options.min_reaction_ms) for annotations in loaded]


def summarise(
    annotations: Annotations, found: Analysis, options: AnalysisOptions, invocation: Invocation
) -> AnalysisSummary:
    """summary.json: where the numbers came from, then the numbers."""
    common = provenance(
        invocation,
        inputs=annotations.rows,
        parameters=options.parameters,
        exclusions=exclusions(annotations.left_out),
        signature=Signature.of(
            suite=annotations.subset.name,
            protocol="earmark",
            metric="human_upper_bound_binary",
            ties=options.ties,
            ci=f"clip-bootstrap-{options.bootstrap}",
            seed=invocation.seed,
            parameters=parameters_hash(options.parameters),
            data=data_hash(list(annotations.rows)),
        ),
    )
    return AnalysisSummary.extending(common, found.result)
