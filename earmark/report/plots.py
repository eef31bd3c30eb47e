"""Charts as SVG text: small vector graphics, byte-identical for the same numbers."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from earmark.metrics.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
COLOURS = (
    "#1b1b1b",
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7f7f7f",
)  # distinguishable with colour blindness
DET_TICKS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
MAX_POINTS = 300  # per curve


def det_chart(curves: Mapping[str, Sequence[tuple[FloatArray, FloatArray]]], title: str = "") -> str:
    """Draw DET curves: miss rate against false alarm rate on probit axes, with the diagonal.

    Parameters
    ----------
    curves : mapping of str to sequence of (false alarms, misses)
        Groups of curves, each group with its own colour; rates on probit axes, as from `detection.det_curve`.
    title : str
        Name of the system.

    Returns
    -------
    str
        SVG.

    References
    ----------
    Martin et al. (1997), The DET curve in assessment of detection task performance, Eurospeech.
    """
    figure = _figure((5.2, 5.2))
    axes = figure.add_subplot()
    ends = ndtri([DET_TICKS[0], DET_TICKS[-1]])
    axes.plot(ends, ends, color="#bbbbbb", linewidth=0.8, linestyle="--")
    for colour, (group, drawn) in zip(_colours(len(curves)), curves.items(), strict=True):
        for number, (false_alarms, misses) in enumerate(drawn):
            indices = _thinned(len(misses))
            label = group if not number else None
            axes.plot(false_alarms[indices], misses[indices], color=colour, linewidth=1.0, label=label)
    ticks = ndtri(DET_TICKS)
    axes.set(xlim=ends, ylim=ends, xlabel="false alarm rate", ylabel="miss rate", aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [f"{100 * tick:g} %" for tick in DET_TICKS])
    axes.grid(color="#eeeeee", linewidth=0.6)
    if title:
        axes.set_title(title.replace("$", r"\$"), fontsize="medium")
    if len(curves) > 1:
        axes.legend(frameon=False)
    return _svg(figure)


def bar_chart(values: Mapping[str, Estimate], label: str) -> str:
    """Draw estimates as horizontal bars with their confidence intervals; undefined ones are omitted.

    Parameters
    ----------
    values : mapping of str to Estimate
    label : str
        What the values are, for the axis.

    Returns
    -------
    str
        SVG.
    """
    defined = {name: estimate for name, estimate in values.items() if estimate.value is not None}
    figure = _figure((5.2, 0.6 + 0.42 * len(defined)))
    axes = figure.add_subplot()
    positions = np.arange(len(defined))
    heights = np.array([estimate.value for estimate in defined.values()], dtype=float)
    axes.barh(positions, heights, color="#8cc0e0", height=0.6)
    for position, estimate in zip(positions, defined.values(), strict=True):
        if estimate.low is not None:
            axes.plot(
                np.array([estimate.low, estimate.high], float), [position, position], color="#1b1b1b", linewidth=1.2
            )
    axes.set_yticks(positions, list(defined))
    axes.invert_yaxis()
    axes.set_xlabel(f"{label} (95 % confidence interval)")
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def line_chart(lines: Mapping[str, Sequence[tuple[float, Estimate]]], x_label: str, y_label: str) -> str:
    """Draw estimates as lines with bands for their confidence intervals; undefined ones are omitted.

    Parameters
    ----------
    lines : mapping of str to sequence of (x, Estimate)
    x_label, y_label : str

    Returns
    -------
    str
        SVG.
    """
    figure = _figure((6.0, 4.0))
    axes = figure.add_subplot()
    for colour, (name, points) in zip(_colours(len(lines)), lines.items(), strict=True):
        defined = [(x, estimate) for x, estimate in points if estimate.value is not None]
        positions = [x for x, _ in defined]
        heights = np.array([estimate.value for _, estimate in defined], dtype=float)
        axes.plot(positions, heights, color=colour, marker="o", markersize=3, label=name)
        bounded = [(x, e) for x, e in defined if e.low is not None]
        lows, highs = ([getattr(e, end) for _, e in bounded] for end in ("low", "high"))
        axes.fill_between([x for x, _ in bounded], lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def _colours(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _thinned(n: int) -> NDArray[np.int64]:
    """Indices of at most MAX_POINTS of n points, including both ends."""
    return np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS)).astype(np.int64)) if n else np.empty(0, dtype=np.int64)


def _figure(size: tuple[float, float]) -> "Figure":
    """Create an empty figure. matplotlib is slow to import, so it is imported only when a chart is drawn."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _svg(figure: "Figure") -> str:
    """Render as SVG: text stays text, and the output is deterministic."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": "earmark", "svg.fonttype": "none", "font.size": 9}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
