"""The command of `compare.py`: read results, compare them, write tables, figures and pages."""

import shlex
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from earmark import cli
from earmark.cli import Invocation
from earmark.comparison.comparison import Comparison
from earmark.comparison.differences import MetricOfSystems, comparison_rows
from earmark.comparison.options import CompareOptions
from earmark.comparison.results import FinishedResult, list_results, matched_results, signature_of
from earmark.comparison.schema import ComparedResult, CompareSummary, ComparisonRow, SystemScore
from earmark.errors import MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.metrics.estimate import Estimate
from earmark.report.figures import Figure, Interval, figure_files, forest_plot, small_multiples
from earmark.report.page import LongTable, page
from earmark.report.provenance import data_hash, file_name, input_records, output_path, parameters_hash, provenance
from earmark.report.render import definitions, render
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.tables import Table, to_csv
from earmark.report.tex import to_tex

MOST_CHARACTERS = 100  # of the names of systems in the name of a folder
MOST_DIFFERENT = "Items on which the systems differ most"


Compare = Callable[[Sequence[FinishedResult], int, CompareOptions, Invocation], Comparison]


def run_compare(options: CompareOptions, invocation: Invocation) -> int:
    """Compare finished results, or list what can be compared if none is given."""
    if not options.results:
        cli.show(_listing(options.runs))
        return cli.COMPLETE
    by_suite = matched_results(options.results, options.names, options.steps, options.runs)
    names = [result.system for result in next(iter(by_suite.values()))]
    reference = _reference(options.reference, names)
    folder = options.output_dir / comparison_name(names)
    folders = [folder / file_name(suite) if len(by_suite) > 1 else folder for suite in by_suite]
    compared = [
        _compare_suite(suite, results, reference, place, options, invocation)
        for (suite, results), place in zip(by_suite.items(), folders, strict=True)
    ]
    with locked(folders):
        for contents, report in compared:
            write_together(contents)
            cli.show(report)
    return cli.COMPLETE


def comparison_name(names: Sequence[str]) -> str:
    """The folder of a comparison; of many systems its beginning and a hash of all names.

    >>> comparison_name(["org/model", "baseline"])
    'org-model-vs-baseline'
    """
    joined = "-vs-".join(map(file_name, names))
    if len(joined) <= MOST_CHARACTERS:
        return joined
    return f"{joined[:MOST_CHARACTERS].rstrip('-.')}-{sha256(joined.encode()).hexdigest()[:8]}"


def _reference(name: str | None, names: Sequence[str]) -> int:
    if name is None:
        return 0
    if name not in names:
        raise MissingError(f"--reference {name}: not one of {', '.join(names)}.")
    return list(names).index(name)


def _listing(runs: Path) -> str:
    """Every kept run, by suite, with the commands that compare them."""
    by_suite = list_results(runs)
    if not by_suite:
        return f"No finished runs in {shown_path(runs)} yet. Run benchmark.py, evaluate_speaker.py or probe.py first."
    lines = []
    for suite, found in by_suite.items():
        lines += [f"{suite}:", *(f"  {name}  {signature}" for name, signature in found)]
        if len(found) > 1:
            lines.append(f"  uv run compare.py {' '.join(shlex.quote(name) for name, _ in found)}")
    return "\n".join(lines)


def _kind(results: Sequence[FinishedResult]) -> Compare:
    """How results of a script are compared; imported only then."""
    script = results[0].script
    if any(result.is_of_scale for result in results):
        from earmark.comparison.scale_similarity import compare_scales

        return compare_scales
    if script == "benchmark.py":
        from earmark.comparison.similarity import compare_benchmarks

        return compare_benchmarks
    if script == "evaluate_speaker.py":
        from earmark.comparison.verification import compare_verifications

        return compare_verifications
    from earmark.comparison.probes import compare_probes

    return compare_probes


def _compare_suite(
    suite: str,
    results: Sequence[FinishedResult],
    reference: int,
    folder: Path,
    options: CompareOptions,
    invocation: Invocation,
) -> tuple[dict[Path, str | bytes | None], str]:
    """{file: content} of a comparison, and its report."""
    comparison = _kind(results)(results, reference, options, invocation)
    for note in comparison.notes:
        invocation.warn(f"{suite}: {note}.")
    names = [result.system for result in results]
    rows = comparison_rows(comparison.metrics, names, reference)
    summary = _summary(suite, results, rows, comparison, options, invocation)
    side_by_side = side_by_side_tables(comparison.metrics, names)
    figures = [*_figures(comparison.metrics, results, rows, reference), *comparison.figures]
    report, tables = render(
        "compare.md.j2",
        s=summary,
        names=names,
        reference=names[reference],
        tables=_tables(rows),
        side_by_side=side_by_side,
        further=comparison.tables,
    )
    contents: dict[Path, str | bytes | None] = {
        folder / "comparison.csv": to_csv(comparison_table(rows)),
        folder / "scores.csv": to_csv(scores_table(summary.scores)) if summary.scores else None,
        folder / "flips.csv": to_csv(comparison.flips),
        folder / "summary.json": to_json(summary),
        folder / "report.md": report,
        folder / "report.tex": to_tex(tables, f"compare {suite} {' '.join(names)}"),
    }
    html = None
    if options.figures:
        html = page(
            f"{' vs. '.join(names)} on {suite}",
            report,
            folder,
            figures=figures,
            clips=comparison.clips,
            tables=[
                LongTable(MOST_DIFFERENT, list(comparison.flips.columns), _cells(comparison.flips)),
            ],
            embed_audio_mib=options.embed_audio,
        )
    files = {**contents, folder / "report.html": html, **figure_files(folder, figures if options.figures else [])}
    return files, report


def comparison_table(rows: Sequence[ComparisonRow]) -> pd.DataFrame:
    """The rows as comparison.csv holds them."""
    return pd.DataFrame(
        [
            {
                "metric": row.metric,
                "slice": row.slice,
                "value_of_slice": row.value_of_slice,
                "system": row.system,
                "reference": row.reference,
                "value": row.value,
                "reference_value": row.reference_value,
                "difference": row.difference.value,
                "low": row.difference.low,
                "high": row.difference.high,
                "p": row.p,
                "p_holm": row.p_holm,
                "p_mcnemar": row.p_mcnemar,
                "n": row.n,
                "tied_with_best": row.tied_with_best,
                "minimum_detectable": row.minimum_detectable,
            }
            for row in rows
        ]
    )


def _summary(
    suite: str,
    results: Sequence[FinishedResult],
    rows: Sequence[ComparisonRow],
    comparison: Comparison,
    options: CompareOptions,
    invocation: Invocation,
) -> CompareSummary:
    inputs = input_records({result.folder / "summary.json": 1 for result in results})
    return CompareSummary.from_common(
        provenance(
            invocation,
            inputs=inputs,
            parameters=options.parameters,
            signature=Signature.from_parts(
                suite=suite,
                protocol="comparison",
                metric=rows[0].metric if rows else "none",
                seed=invocation.seed,
                parameters=parameters_hash(options.parameters),
                data=data_hash(inputs),
            ),
        ),
        suite=suite,
        systems=[
            ComparedResult(
                name=result.system,
                folder=output_path(result.folder),
                signature=signature_of(result.summary),
                step=result.step,
            )
            for result in results
        ],
        n_items=comparison.n_items,
        n_left_out=comparison.n_left_out,
        flips=comparison.n_flips,
        notes=comparison.notes,
        comparisons=list(rows),
        scores=system_scores(comparison.metrics, results),
    )


def system_scores(metrics: Sequence[MetricOfSystems], results: Sequence[FinishedResult]) -> list[SystemScore]:
    """Value and rank of every system, the reference included, on every metric with a track and recipe."""
    scores = []
    for metric in metrics:
        if not metric.line:
            continue
        ranks, tied = metric.ranks(), metric.tied_with_best()
        scores += [
            SystemScore(
                metric=metric.metric,
                slice=metric.slice,
                value_of_slice=metric.value_of_slice,
                system=result.system,
                step=result.step,
                value=metric.estimate(place),
                rank=ranks[place],
                tied_with_best=tied[place],
                n=metric.n,
            )
            for place, result in enumerate(results)
        ]
    return scores


def scores_table(scores: Sequence[SystemScore]) -> pd.DataFrame:
    """The content of scores.csv: one row for each metric, slice and system."""
    columns = ["metric", "slice", "value_of_slice", "system", "step", "value", "low", "high", "rank"]
    rows = [
        [
            *(row.metric, row.slice, row.value_of_slice, row.system, row.step),
            *(row.value.value, row.value.low, row.value.high, row.rank, row.tied_with_best, row.n),
        ]
        for row in scores
    ]
    table = pd.DataFrame(rows, columns=[*columns, "tied_with_best", "n"])
    return table.astype({"step": "Int64", "rank": "Int64"})


def side_by_side_tables(metrics: Sequence[MetricOfSystems], names: Sequence[str]) -> list[Table]:
    """Tables of task × system: first the scores, then the ranks, for each track and recipe.

    Parameters
    ----------
    metrics : sequence of MetricOfSystems
        Those without a panel are left out.
    names : sequence of str
        Systems.

    Returns
    -------
    list of Table
        Ranks end with their mean over tasks, where every task has ranks; without ranks their table is left out.
    """
    tables = []
    for line in dict.fromkeys(metric.line for metric in metrics if metric.panel and metric.line):
        shown = sorted((each for each in metrics if each.panel and each.line == line), key=lambda each: not each.slice)
        scores = [[each.panel, *(each.estimate(place) for place in range(len(names)))] for each in shown]
        tables.append(Table(f"Scores, {line}", ["task", *names], scores))
        ranks: list[list[Any]] = [[each.panel, *each.ranks()] for each in shown]
        own = [row[1:] for row, each in zip(ranks, shown, strict=True) if each.slice]
        if len(own) > 1 and all(None not in row for row in own):
            means = [sum(column) / len(own) for column in zip(*own, strict=True)]
            ranks.append(["mean rank over tasks", *means])
        if any(rank is not None for row in ranks for rank in row[1:]):
            tables.append(Table(f"Ranks, {line}", ["task", *names], ranks))
    return tables


def metric_label(name: str) -> str:
    """The name of a metric as reports print it."""
    cross_fitted = name.removesuffix("_cross_fitted")
    label = definitions().get(cross_fitted, {}).get("label", cross_fitted.replace("_", " "))
    return f"{label}, cross-fitted threshold" if cross_fitted != name else label


def is_error_rate(metric: str) -> bool:
    """Whether reports print a metric in per cent: equal error rates and their aggregates."""
    return "eer" in metric.split("_") or metric == "degradation_factor"


def _tables(rows: Sequence[ComparisonRow]) -> dict[str, list[dict[str, Any]]]:
    """{heading: rows of its table}: all items first, then each slice; without tables that hold no value."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        heading = f"By {row.slice.replace('_', ' ')}: {metric_label(row.metric)}" if row.slice else ""
        label = row.value_of_slice or metric_label(row.metric)
        tables.setdefault(heading, []).append({"row": row, "label": label, "in_percent": is_error_rate(row.metric)})
    undefined = [
        heading
        for heading, shown in tables.items()
        if heading and all(one["row"].value is None and one["row"].reference_value is None for one in shown)
    ]
    return {heading: shown for heading, shown in tables.items() if heading not in undefined}


def _figures(
    metrics: Sequence[MetricOfSystems], results: Sequence[FinishedResult], rows: Sequence[ComparisonRow], reference: int
) -> list[Figure]:
    """Differences as a forest plot, and values against training steps."""
    reference_name = results[reference].system
    figures = [_differences(metric, slice_, own, reference_name) for (metric, slice_), own in _groups(rows).items()]
    if all(result.step is not None for result in results):
        steps = [float(result.step or 0) for result in results]
        whole = [metric for metric in metrics if not metric.slice]
        by_slice = [metric for metric in metrics if metric.slice and metric.panel]
        axes = ("training step", "score")
        figures.append(small_multiples("steps", "Scores by training step.", _panels(whole, steps), axes))
        caption = "Scores of each task by training step, with 95 % intervals."
        figures.append(small_multiples("steps_by_task", caption, _panels(by_slice, steps), axes))
    return [figure for figure in figures if figure is not None]


def _panels(
    metrics: Sequence[MetricOfSystems], steps: Sequence[float]
) -> dict[str, dict[str, list[tuple[float, Estimate]]]]:
    """{panel: {line: [(training step, estimate)]}}."""
    panels: dict[str, dict[str, list[tuple[float, Estimate]]]] = {}
    for metric in metrics:
        lines = panels.setdefault(metric.panel or metric_label(metric.metric), {})
        lines[metric.line] = [
            (step, metric.estimate(place)) for place, step in enumerate(steps) if metric.values[place] is not None
        ]
    return panels


def _differences(metric: str, slice_: str, rows: Sequence[ComparisonRow], reference: str) -> Figure | None:
    """Differences to the reference on one metric, of all items or of each slice."""
    label = metric_label(metric)
    in_percent = is_error_rate(metric)
    return forest_plot(
        f"differences{'_by_' + slice_ if slice_ else ''}",
        f"{label}: difference to {reference}"
        + (f" by {slice_.replace('_', ' ')}" if slice_ else "")
        + ", with 95 % intervals.",
        [
            Interval(
                row.value_of_slice or row.system,
                row.difference.in_percent() if in_percent else row.difference,
                row.system if slice_ else "",
            )
            for row in rows
        ],
        "difference in percentage points" if in_percent else "difference",
        chance=0.0,
        chance_label="no difference",
    )


def _groups(rows: Sequence[ComparisonRow]) -> dict[tuple[str, str], list[ComparisonRow]]:
    """The rows of the first metric, of all items and of each kind of slice."""
    groups: dict[tuple[str, str], list[ComparisonRow]] = {}
    first = {row.slice: row.metric for row in reversed(rows)}
    for row in rows:
        if row.metric == first[row.slice]:
            groups.setdefault((row.metric, row.slice), []).append(row)
    return groups


def _cells(table: pd.DataFrame) -> list[list[Any]]:
    return table.astype(object).where(table.notna(), None).head(5000).values.tolist()
