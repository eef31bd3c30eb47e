"""Figures of reports and papers, each as SVG and PDF with its values as CSV.

Figures are as wide as a column of a two-column paper or as the page. Colours are safe for the colour-blind; markers
and line styles differ as well, so that figures can be read in grey. The same numbers give the same bytes.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from earmark.metrics.estimate import Estimate
from earmark.report.tables import to_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

FloatArray = NDArray[np.float64]

COLUMN, PAGE = 3.4, 7.0  # widths in inches: a column and both columns of a paper
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#1b1b1b", "#e69f00", "#56b4e9", "#7f7f7f")  # Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1, 1, 1)))
BAND = "#d9d9d9"
DET_TICKS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
DET_END, HIGH_EER = 0.6, 0.3  # axes end at 60 %, or at 90 % where an equal error rate is above 30 %
LABEL_LENGTH = 24  # characters of a line of a row's label
TALLEST = 8.5  # inches: a page with a caption
MOST_POINTS = 300  # of a curve: as many as a printed page can show
STYLE: Any = {
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.hashsalt": "earmark",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
}


@dataclass(frozen=True)
class Figure:
    """A figure as it is written to disk and shown in reports.

    Attributes
    ----------
    name : file name without suffix.
    caption : a sentence; also the text for readers who cannot see the figure.
    svg : text of the SVG file.
    pdf : content of the PDF file.
    values : the plotted values.
    """

    name: str
    caption: str
    svg: str
    pdf: bytes
    values: pd.DataFrame

    def contents(self, folder: str) -> dict[str, str | bytes]:
        """{path: content} of its three files in a folder."""
        stem = f"{folder}/{self.name}"
        return {f"{stem}.svg": self.svg, f"{stem}.pdf": self.pdf, f"{stem}.csv": to_csv(self.values)}


def figure_files(folder: Path, figures: Sequence[Figure]) -> dict[Path, str | bytes | None]:
    """{path: content} of figures in <folder>/figures; None for figures of an earlier run, which are removed."""
    new = {folder / name: content for figure in figures for name, content in figure.contents("figures").items()}
    stale = {path: None for path in (folder / "figures").glob("*.*") if path not in new}
    return {**stale, **new}


@dataclass(frozen=True)
class Interval:
    """A labelled interval of a forest plot: a value, its interval, and the group it is drawn with."""

    label: str
    estimate: Estimate
    group: str = ""


def forest_plot(
    name: str,
    caption: str,
    rows: Sequence[Interval],
    axis: str,
    band: Estimate | None = None,
    chance: float | None = None,
    chance_label: str = "chance",
) -> Figure | None:
    """Estimates with their intervals, one row for each label, groups side by side.

    Parameters
    ----------
    name, caption : of the figure.
    rows : estimates; undefined ones are left out.
    axis : label of the value axis.
    band : an estimate drawn as a vertical band, such as the human ceiling.
    chance : the value of chance, drawn as a dashed line.
    chance_label : its name in the legend.

    Returns
    -------
    Figure or None
        None if all estimates are undefined.
    """
    known = [row for row in rows if row.estimate.value is not None]
    if not known:
        return None
    labels = list(dict.fromkeys(row.label for row in known))
    groups = list(dict.fromkeys(row.group for row in known))
    step = 0.7 / len(groups)
    wrapped = [wrapped_label(label) for label in labels]

    def draw(axes: "Axes") -> None:
        if band is not None and band.value is not None:
            low, high = (band.low, band.high) if band.low is not None else (band.value, band.value)
            axes.axvspan(float(low), float(high or band.value), color=BAND, linewidth=0, label="human ceiling")
            axes.axvline(band.value, color="#8c8c8c", linewidth=0.8)
        if chance is not None:
            axes.axvline(chance, color="#8c8c8c", linewidth=0.8, linestyle="--", label=chance_label)
        for group, colour, marker in _styles(groups):
            own = [row for row in known if row.group == group]
            shift = (groups.index(group) - (len(groups) - 1) / 2) * step
            heights = np.array([labels.index(row.label) + shift for row in own])
            values, lows, highs = np.array(
                [(row.estimate.value, row.estimate.low, row.estimate.high) for row in own], float
            ).T
            known_ends = np.isfinite(lows)
            if known_ends.any():
                axes.hlines(heights[known_ends], lows[known_ends], highs[known_ends], color=colour)
            axes.plot(values, heights, marker, color=colour, label=group or None)
        axes.set_yticks(range(len(labels)), wrapped, fontsize=7)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel(axis)
        axes.locator_params(axis="x", nbins=5)
        _legend(axes, len(groups) > 1 or band is not None or chance is not None)

    values = pd.DataFrame([{"label": row.label, "group": row.group, **_ends(row.estimate)} for row in known])
    lines = max(1.0, 0.6 * len(groups), 0.6 * max(label.count("\n") + 1 for label in wrapped))
    entries = [*(groups if len(groups) > 1 else ()), *(["human ceiling"] if band else ())]
    entries += [chance_label] if chance is not None else []
    height = 0.8 + 0.2 * len(labels) * lines + _legend_height(entries)
    return _figure(name, caption, draw, values, (COLUMN, min(height, TALLEST)))


def wrapped_label(label: str, length: int = LABEL_LENGTH) -> str:
    """A label in lines of at most `length` characters, broken at spaces and after underscores where it has any.

    >>> wrapped_label("playback_gsm_snr20_webcam_budget").splitlines()
    ['playback_gsm_snr20_', 'webcam_budget']
    """
    lines = [""]
    for part in re.findall(r"[^ _]*(?:[ _]+|$)", label):
        if lines[-1] and len(lines[-1]) + len(part.rstrip(" ")) > length:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip(" ") for line in lines)


def histograms(
    name: str,
    caption: str,
    values: Mapping[str, FloatArray],
    axis: str,
    thresholds: Mapping[str, float] | None = None,
    most_bins: int = 30,
) -> Figure | None:
    """Distributions of several groups on one axis, as outlines, with vertical lines for thresholds.

    values: {group: (n,) finite values}. most_bins: fewer where there are few values. None if there is no value.
    """
    everything = np.concatenate([np.empty(0), *values.values()])
    if not len(everything):
        return None
    edges = np.histogram_bin_edges(everything, bins=int(np.clip(np.sqrt(len(everything)), 8, most_bins)))
    counts = {group: np.histogram(own, edges)[0] for group, own in values.items()}

    def draw(axes: "Axes") -> None:
        for (group, height), colour, line in zip(counts.items(), cycle(COLOURS), cycle(LINES)):
            axes.stairs(height, edges, color=colour, linestyle=line, label=f"{group} (n = {int(height.sum()):,})")
            axes.stairs(height, edges, color=colour, fill=True, alpha=0.12, linewidth=0)
        for (label, value), line in zip((thresholds or {}).items(), cycle((":", "-."))):
            axes.axvline(value, color="#1b1b1b", linewidth=0.9, linestyle=line, label=f"{label} ({value:.3g})")
        axes.set(xlabel=axis, ylabel="count")
        _legend(axes)

    table = pd.DataFrame({"from": edges[:-1], "to": edges[1:], **counts})
    return _figure(name, caption, draw, table, (COLUMN, 2.7))


def curves(
    name: str,
    caption: str,
    lines: Mapping[str, tuple[FloatArray, FloatArray]],
    axes_labels: tuple[str, str],
    *,
    points: Mapping[str, tuple[float, float]] | None = None,
    diagonal: bool = False,
) -> Figure | None:
    """Lines in the unit square, such as ROC and precision-recall curves.

    lines: {label: (x, y)}, each (n,). points: {label: (x, y)}, marked. diagonal: draw chance. None without a line.
    """
    if not lines:
        return None
    thinned = {label: (x[kept := _thinned(len(x))], y[kept]) for label, (x, y) in lines.items()}

    def draw(axes: "Axes") -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color="#8c8c8c", linewidth=0.8, linestyle="--", label="chance")
        for (label, (x, y)), colour, line in zip(thinned.items(), cycle(COLOURS), cycle(LINES)):
            axes.plot(x, y, color=colour, linestyle=line, label=label)
        for (label, (across, up)), marker in zip((points or {}).items(), cycle(MARKERS)):
            axes.plot([across], [up], marker, color="#1b1b1b", markersize=5, label=label)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=axes_labels[0], ylabel=axes_labels[1], aspect="equal")
        _legend(axes)

    table = pd.concat([pd.DataFrame({"line": label, "x": x, "y": y}) for label, (x, y) in thinned.items()])
    return _figure(name, caption, draw, table, (COLUMN, 3.2))


def scatter(
    name: str,
    caption: str,
    x: FloatArray,
    y: FloatArray,
    axes_labels: tuple[str, str],
    groups: Sequence[str] | None = None,
) -> Figure | None:
    """Points, with the median of y in each of up to ten bins of x. None without a point."""
    if not len(x):
        return None
    edges = np.unique(np.quantile(x, np.linspace(0, 1, 11)))

    def draw(axes: "Axes") -> None:
        jitter = np.random.default_rng(0).uniform(-0.012, 0.012, len(x)) * (np.ptp(x) or 1)
        axes.plot(x + jitter, y, "o", color=COLOURS[0], markersize=2, alpha=0.35, markeredgewidth=0, label="items")
        levels = np.unique(x)
        bins = x if len(levels) <= 12 else np.digitize(x, edges[1:-1]).astype(float)
        filled = np.unique(bins)
        centres = np.array([x[bins == one].mean() for one in filled])
        medians = np.array([np.median(y[bins == one]) for one in filled])
        axes.plot(centres, medians, "-s", color=COLOURS[1], label="median")
        axes.set(xlabel=axes_labels[0], ylabel=axes_labels[1])
        _legend(axes)

    table = pd.DataFrame({axes_labels[0]: x, axes_labels[1]: y})
    return _figure(name, caption, draw, table, (COLUMN, 2.6))


def matrix(
    name: str,
    caption: str,
    cells: FloatArray,
    rows: Sequence[str],
    columns: Sequence[str],
    axes_labels: tuple[str, str],
    *,
    shares: bool = False,
    by_column: bool = False,
    digits: int = 2,
) -> Figure | None:
    """A matrix as shades of grey-blue with its values: kappas of pairs of raters, a confusion matrix.

    cells: (rows, columns), NaN for undefined. shares: shade by the share of the row. by_column: shade each column from
    its lowest to its highest value. None without a defined cell.
    """
    if not np.isfinite(cells).any():
        return None
    totals = np.maximum(np.nansum(cells, axis=1, keepdims=True), 1e-12)
    shade = _column_shades(cells) if by_column else cells / totals if shares else cells
    size = max(COLUMN, min(PAGE, 1.1 + 0.36 * len(columns)))
    font = 6 if max(cells.shape) <= 20 else 5

    def draw(axes: "Axes") -> None:
        low, high = (
            (0.0, 1.0)
            if shares or by_column
            else (min(0.0, float(np.nanmin(shade))), max(1.0, float(np.nanmax(shade))))
        )
        axes.imshow(shade, cmap="Blues", vmin=low, vmax=high, aspect="auto")
        if max(cells.shape) <= 31:
            for (row, column), value in np.ndenumerate(cells):
                bright = np.isfinite(value) and (shade[row, column] - low) / (high - low) > 0.6
                text = (f"{value:,.0f}" if value else "") if shares else f"{value:.{digits}f}"
                text = text.replace("-", "−") if np.isfinite(value) else "–"
                colour = "white" if bright else "black"
                if text:  # texts within the axes do not change the layout, but measuring them takes long
                    inside = axes.text(column, row, text, ha="center", va="center", fontsize=font, color=colour)
                    inside.set_in_layout(False)
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), rows)
        axes.set(ylabel=axes_labels[0], xlabel=axes_labels[1])
        axes.tick_params(labelsize=6)
        axes.spines[:].set_visible(True)

    table = pd.DataFrame(cells, index=list(rows), columns=list(columns)).rename_axis(axes_labels[0]).reset_index()
    return _figure(name, caption, draw, table, (size, min(TALLEST, max(2.4, 0.9 + 0.3 * len(rows)))))


def _column_shades(cells: FloatArray) -> FloatArray:
    """Each column from 0 at its lowest to 1 at its highest value; 0.5 where all values are equal."""
    shades = np.full(cells.shape, np.nan)
    for own, column in zip(shades.T, cells.T, strict=True):
        known = np.isfinite(column)
        if known.any():
            low, width = column[known].min(), np.ptp(column[known])
            own[known] = (column[known] - low) / width if width else 0.5
    return shades


def det_plot(
    name: str,
    caption: str,
    systems: Mapping[str, tuple[FloatArray, FloatArray]],
    eer: Mapping[str, float] | None = None,
    min_dcf: Mapping[str, tuple[float, float]] | None = None,
) -> Figure | None:
    """Detection error trade-off curves on probit axes, with points at the equal error rate and at minDCF.

    Parameters
    ----------
    name, caption : of the figure.
    systems : {label: (false alarm rates, miss rates)}, shares.
    eer : {label: equal error rate}, marked on the diagonal.
    min_dcf : {label: (false alarm rate, miss rate)} at the threshold of minDCF.

    References
    ----------
    Martin et al. (1997), The DET curve in assessment of detection task performance, Eurospeech.
    """
    if not systems:
        return None
    drawn = {}
    for label, (false_alarms, misses) in systems.items():
        inside = (false_alarms > 0) & (false_alarms < 1) & (misses > 0) & (misses < 1)
        kept = _thinned(int(inside.sum()))
        drawn[label] = (false_alarms[inside][kept], misses[inside][kept])
    end = DET_TICKS[-1] if any(rate > HIGH_EER for rate in (eer or {}).values()) else DET_END
    ticks = [tick for tick in DET_TICKS if tick <= end]
    ends = ndtri([ticks[0], end])
    marks = {
        ("equal error rate", "o"): {label: (rate, rate) for label, rate in (eer or {}).items()},
        ("minDCF", "^"): min_dcf or {},
    }

    def inside_axes(point: tuple[float, float]) -> bool:
        return all(ticks[0] <= value <= end for value in point)

    def draw(axes: "Axes") -> None:
        axes.plot(ends, ends, color="#8c8c8c", linewidth=0.8, linestyle="--")
        for (label, (x, y)), colour, line in zip(drawn.items(), cycle(COLOURS), cycle(LINES)):
            axes.plot(ndtri(x), ndtri(y), color=colour, linestyle=line, label=label)
            for (_, marker), points in marks.items():
                if label in points and inside_axes(points[label]):
                    axes.plot(*ndtri(points[label])[:, None], marker, color=colour, markersize=4, zorder=3)
        for (label, marker), points in marks.items():
            if any(map(inside_axes, points.values())):
                axes.plot([], [], marker, color="#595959", markersize=4, label=label)
        axes.set(xlim=ends, ylim=ends, xlabel="false alarm rate in %", ylabel="miss rate in %", aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(list(ndtri(ticks)), [f"{100 * tick:g}" for tick in ticks])
        axes.tick_params(labelsize=7)
        axes.grid(color="#eeeeee", linewidth=0.5)
        _legend(axes)

    if not all(inside_axes(point) for points in marks.values() for point in points.values()):
        caption += " Points beyond the axes are not drawn."
    table = pd.concat(
        [pd.DataFrame({"system": label, "false_alarm_rate": x, "miss_rate": y}) for label, (x, y) in drawn.items()]
    )
    return _figure(name, caption, draw, table, (COLUMN, 3.4))


def small_multiples(
    name: str,
    caption: str,
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, Estimate]]]],
    axes_labels: tuple[str, str],
) -> Figure | None:
    """One small panel for each key, with lines of estimates along a whole-numbered axis: layers, training steps.

    panels: {title: {line: [(x, estimate)]}}, in any order; undefined estimates are left out. The legend lies outside
    the panels.
    """
    panels = {
        title: {
            line: sorted(((x, e) for x, e in points if e.value is not None), key=lambda point: point[0])
            for line, points in lines.items()
        }
        for title, lines in panels.items()
    }
    panels = {title: lines for title, lines in panels.items() if any(lines.values())}
    if not panels:
        return None
    names = list(dict.fromkeys(line for lines in panels.values() for line in lines))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)

    def draw(canvas: "Canvas") -> None:
        from matplotlib.ticker import MaxNLocator

        grid = canvas.subplots(rows, columns, squeeze=False)
        handles: dict[str, Any] = {}
        for axes, (title, lines) in zip(grid.flat, panels.items(), strict=False):
            for line, points in lines.items():
                if not points:
                    continue
                place = names.index(line)
                colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
                style = LINES[place % len(LINES)]
                x = [one for one, _ in points]
                (handles[line],) = axes.plot(
                    x, [e.value for _, e in points], color=colour, marker=marker, linestyle=style, markersize=2.5
                )
                bounded = [(one, e) for one, e in points if e.low is not None]
                axes.fill_between(
                    [one for one, _ in bounded],
                    [e.low for _, e in bounded],
                    [e.high for _, e in bounded],
                    color=colour, alpha=0.12, linewidth=0,
                )  # fmt: skip
            axes.set_title(wrapped_label(title, 36), fontsize=7)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
            axes.tick_params(labelsize=6)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        for axes in list(grid.flat)[max(0, len(panels) - columns) : len(panels)]:  # the lowest panel of each column
            axes.set_xlabel(axes_labels[0], fontsize=8)  # a label of the whole figure would lie under the legend
        canvas.supylabel(axes_labels[1], fontsize=8)
        if any(handles):  # a single line needs no name
            most = 4 if columns > 1 else _legend_columns(list(handles))
            canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(most, len(handles)))

    table = pd.DataFrame(
        [
            {"panel": title, "line": line, "x": x, **_ends(estimate)}
            for title, lines in panels.items()
            for line, points in lines.items()
            for x, estimate in points
        ]
    )
    width = COLUMN if columns == 1 else PAGE
    return _figure(name, caption, draw, table, (width, 0.7 + 1.7 * rows), whole=True)


def _ends(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def _styles(groups: Sequence[str]) -> list[tuple[str, str, str]]:
    n = len(groups)
    return list(zip(groups, islice(cycle(COLOURS), n), islice(cycle(MARKERS), n), strict=True))


def _legend(axes: "Axes", wanted: bool = True) -> None:
    """A legend below the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if wanted and handles:
        axes.figure.legend(handles, labels, loc="outside lower center", ncols=_legend_columns(labels))


def _legend_columns(labels: Sequence[str]) -> int:
    longest = max(map(len, labels))
    return min(len(labels), 3 if longest <= 12 else 2 if longest <= 24 else 1)


def _legend_height(labels: Sequence[str]) -> float:
    """Inches."""
    return 0.1 + 0.16 * -(-len(labels) // _legend_columns(labels)) if labels else 0.0


def _thinned(n: int) -> NDArray[np.int64]:
    """Positions of at most MOST_POINTS of n points, with both ends."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).astype(np.int64)) if n else np.empty(0, dtype=np.int64)


def _figure(
    name: str,
    caption: str,
    draw: Callable[[Any], None],
    values: pd.DataFrame,
    size: tuple[float, float],
    whole: bool = False,
) -> Figure:
    """Draw and save; matplotlib is imported only here, because that takes long."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas

    with rc_context(STYLE):
        canvas = Canvas(figsize=size, layout="constrained")
        draw(canvas if whole else canvas.add_subplot())
        text, binary = io.StringIO(), io.BytesIO()
        canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        canvas.set_layout_engine("none")  # keeps the layout, which takes as long as drawing
        canvas.savefig(binary, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    svg = "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
    return Figure(name, caption, svg, binary.getvalue(), values.reset_index(drop=True))
