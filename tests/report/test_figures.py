"""Figures: nothing covers data, labels and legends lie inside, values in CSV are those drawn."""

import re

import numpy as np
import pytest

from earmark.metrics.estimate import Estimate
from earmark.report import figures
from earmark.report.figures import Interval, det_plot, forest_plot, histograms, matrix, small_multiples, wrapped_label

LONG = "Cohen's kappa, quadratic weights, mean over pairs"


@pytest.fixture
def canvases(monkeypatch):
    """The matplotlib figures drawn in a test, laid out."""
    from matplotlib.figure import Figure as Canvas

    drawn = []
    original = Canvas.savefig

    def savefig(self, *arguments, **options):
        original(self, *arguments, **options)
        drawn.append(self)

    monkeypatch.setattr(Canvas, "savefig", savefig)
    return drawn


def boxes(canvas):
    """Bounding boxes in inches: of the canvas, of axes with their labels, and of legends."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(canvas).get_renderer()
    canvas.draw_without_rendering()
    axes = [one.get_tightbbox(renderer) for one in canvas.axes if one.get_visible()]
    legends = [one.get_window_extent(renderer) for one in canvas.legends]
    return canvas.bbox, axes, legends


def assert_laid_out(canvas, least_width=1.5):
    """Axes and legends do not overlap, lie on the canvas, and leave the data `least_width` inches."""
    whole, axes, legends = boxes(canvas)
    for box in [*axes, *legends]:
        assert box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1
        assert box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1
    for legend in legends:
        assert not any(legend.y1 > box.y0 + 1 for box in axes)
    for one in canvas.axes:
        assert one.get_window_extent().width / canvas.dpi >= least_width


@pytest.mark.parametrize("n", [1, 2, 24])
@pytest.mark.parametrize("groups", [("",), ("a", "b"), ("a/model", "a long name of a model that few can read", "c")])
def test_forest_plot_keeps_its_legend_off_the_axes_and_room_for_long_labels(canvases, n, groups):
    rows = [Interval(f"{i} {LONG}", Estimate(0.5, 0.4, 0.6), group) for i in range(n) for group in groups]
    forest_plot("x", "c", rows, "score", band=Estimate(0.8, 0.7, 0.9), chance=0.5)
    assert_laid_out(canvases[-1])


def test_histogram_keeps_its_legend_off_the_bars(canvases):
    values = np.random.default_rng(0).normal(size=400)
    histograms("x", "c", {"present": values, "absent": values}, "score", {"cross-fitted threshold": 0.5})
    assert_laid_out(canvases[-1])


def test_few_values_get_few_bins():
    figure = histograms("x", "c", {"a": np.arange(50.0)}, "score")
    assert len(figure.values) == 8
    assert figure.values["a"].sum() == 50


def test_lines_without_a_name_need_no_legend(canvases):
    points = [(1000.0, Estimate(0.5, 0.4, 0.6)), (100_000.0, Estimate(0.6, 0.5, 0.7))]
    small_multiples("x", "c", {name: {"": points} for name in ("a", LONG, "c", "d")}, ("training step", "score"))
    assert canvases[-1].legends == []


def test_points_beyond_the_axes_of_a_det_plot_are_not_in_its_legend(canvases):
    rates = np.linspace(1, 0, 101)
    curve = {"a": (rates, 1 - rates)}
    figure = det_plot("x", "c.", curve, {"a": 0.2}, {"a": (0.001, 0.95)})
    assert "minDCF" not in figure.svg and figure.caption == "c. Points beyond the axes are not drawn."
    assert_laid_out(canvases[-1])
    assert "minDCF" in det_plot("x", "c.", curve, {"a": 0.2}, {"a": (0.01, 0.5)}).svg


def test_det_plot_of_a_poor_system_reaches_90_per_cent():
    rates = np.linspace(1, 0, 101)
    assert ">90<" in re.sub(r"\s", "", det_plot("x", "c", {"a": (rates, 1 - rates)}, {"a": 0.5}).svg)


def test_systems_of_a_plot_differ_in_grey():
    assert len(figures.LINES) >= 6 and len(figures.MARKERS) >= 8


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("short", ["short"]),
        (LONG, ["Cohen's kappa, quadratic", "weights, mean over pairs"]),
        ("playback_gsm_snr20_webcam_budget", ["playback_gsm_snr20_", "webcam_budget"]),
        ("x" * 40, ["x" * 40]),
    ],
)
def test_labels_wrap(label, lines):
    assert wrapped_label(label).splitlines() == lines


@pytest.mark.parametrize("n_panels", [1, 2, 3, 4])
def test_small_multiples_keep_their_legend_off_the_axis_labels(canvases, n_panels):
    points = [(1000.0, Estimate(0.5, 0.4, 0.6)), (8000.0, Estimate(0.6, 0.5, 0.7))]
    lines = dict.fromkeys(["linear, xares", "linear, strict", "knn, xares", "knn, strict"], points)
    small_multiples("x", "c", {f"task {i}": lines for i in range(n_panels)}, ("training step", "score"))
    assert_laid_out(canvases[-1], least_width=1.2)
    labelled = [axes for axes in canvases[-1].axes if axes.get_xlabel() == "training step"]
    assert len(labelled) == min(n_panels, 3)


def test_matrix_by_column_shades_each_column_from_its_lowest_to_its_highest(canvases):
    cells = np.array([[0.90, 0.1, 0.5, np.nan], [0.95, 0.3, 0.5, np.nan], [0.92, np.nan, 0.5, np.nan]])
    figure = matrix("x", "c", cells, list("012"), list("abcd"), ("layer", "task"), by_column=True, digits=3)
    shown = canvases[-1].axes[0].images[0].get_array()
    assert np.ma.filled(shown, -1) == pytest.approx(np.array([[0, 0, 0.5, -1], [1, 1, 0.5, -1], [0.4, -1, 0.5, -1]]))
    assert list(figure.values.columns) == ["layer", "a", "b", "c", "d"] and "0.950" in figure.svg


def test_matrix_without_a_defined_cell_is_no_figure():
    assert matrix("x", "c", np.full((2, 2), np.nan), list("01"), list("ab"), ("layer", "task"), by_column=True) is None
    assert matrix("x", "c", np.empty((0, 0)), [], [], ("layer", "task")) is None
