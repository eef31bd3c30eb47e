"""Report, figures and summary.json of nominal, ordinal and interval scales."""

import json
from dataclasses import replace

import numpy as np
import pytest

from earmark.annotation.page import analysis_figures, disputed_items
from earmark.annotation.schema import AnalysisSummary, ScaleSummary
from earmark.annotation.subsets import subsets
from earmark.report.render import definitions, render
from earmark.report.schema import read_summary, to_json
from tests.annotation.scale_data import (
    AROUSAL,
    COLOURS,
    NATURALNESS,
    analysed,
    annotations,
    missing_audio,
    random_votes,
    summary_of,
)
from tests.annotation.test_scales import CONSTANT, NOMINAL, ONE_RATER
from tests.conftest import ROOT

SCALES = [COLOURS, AROUSAL, NATURALNESS]
NOTHING: dict = {"nominal": {}, "ordinal": {}, "interval": {}}
NOT_THEIRS = {
    "nominal": ["present", "absent", "median", "ICC", "prior", "emolia-bench", "step"],
    "ordinal": ["present", "absent", "ICC", "prior", "emolia-bench", "Specific agreement"],
    "interval": ["present", "absent", "kappa", "majority", "tie", "prior", "emolia-bench", "Dawid"],
}


def report_of(analysis):
    return render("analysis.md.j2", summaries=[summary_of(analysis)], subsets={})[0]


@pytest.mark.parametrize("subset", SCALES, ids=lambda subset: subset.scale)
def test_report_prints_every_coefficient_and_nothing_of_other_scales(subset):
    analysis = analysed(subset, random_votes(subset, 30, 4))
    text = report_of(analysis)
    for name in analysis.result.agreement.estimates:
        assert definitions()[name]["label"] in text
    words = text.split("## " + subset.name)[1]
    assert [word for word in NOT_THEIRS[subset.scale] if f" {word}" in words] == []


@pytest.mark.parametrize("votes", [ONE_RATER, CONSTANT, NOTHING])
@pytest.mark.parametrize("subset", SCALES, ids=lambda subset: subset.scale)
def test_report_of_degenerate_data_is_written(subset, votes):
    text = report_of(analysed(subset, votes[subset.scale]))
    assert "undefined" in text or "contains no ratings" in text
    assert "nan" not in text.lower().replace("annan", "")


@pytest.mark.parametrize("subset", SCALES, ids=lambda subset: subset.scale)
def test_summary_survives_json(subset):
    summary = summary_of(analysed(subset, random_votes(subset, 30, 4)))
    assert ScaleSummary.model_validate_json(to_json(summary)) == summary
    content = json.loads(to_json(summary))
    assert content["scale"] == subset.scale
    assert content["rating_scale"] == list(subset.levels)
    assert (content["items_tied"] is None) == (subset is NATURALNESS)


@pytest.mark.parametrize("subset", SCALES, ids=lambda subset: subset.scale)
def test_report_lists_agreement_by_column(subset):
    sliced = replace(subset, carried=("task",), by=("task",))
    votes = random_votes(sliced, 30, 4)
    task = {item: ("calm", "loud")[number % 2] for number, item in enumerate(votes)}
    text = report_of(analysed(sliced, votes, task=task))
    assert "### Agreement by task" in text
    assert "| calm | 15 |" in text


def test_report_escapes_names_of_classes():
    names = ("a|b", "c_d", "<e>")
    subset = replace(COLOURS, levels=names)
    votes = random_votes(subset, 20, 3)
    text = report_of(analysed(subset, votes))
    assert "| a\\|b |" in text
    assert "<e>" not in text


@pytest.mark.slow
@pytest.mark.parametrize("subset", SCALES, ids=lambda subset: subset.scale)
def test_figures_of_a_scale(subset):
    figures = analysis_figures(summary_of(analysed(subset, random_votes(subset, 30, 4))), subset)
    names = {figure.name.removeprefix(subset.name + "_") for figure in figures}
    expected = {"nominal": {"agreement", "classes", "raters"}}
    assert names == expected.get(subset.scale, {"agreement", "bias", "raters"})
    agreement = next(figure for figure in figures if figure.name.endswith("_agreement"))
    assert "Mean absolute difference" not in set(agreement.values["label"])


def test_disputed_items_are_those_with_most_disagreement(tmp_path):
    data, labels = annotations(COLOURS, NOMINAL), analysed(COLOURS, NOMINAL).tables["benchmark_labels"]
    clips = disputed_items(data, labels, missing_audio(tmp_path)).clips
    assert [group[0].name for group in clips] == ["c.wav", "b.wav"]
    assert clips[0][0].facts == [("ann", "red"), ("ben", "blue")]


def test_disputed_items_of_numbers_show_the_numbers(tmp_path):
    votes = {"a.wav": {"ann": 1.0, "ben": 2.5}, "b.wav": {"ann": 1.0, "ben": 9.0}, "c.wav": {"ann": 4.0, "ben": 4.0}}
    labels = analysed(NATURALNESS, votes).tables["benchmark_labels"]
    clips = disputed_items(annotations(NATURALNESS, votes), labels, missing_audio(tmp_path)).clips
    assert [group[0].name for group in clips] == ["b.wav", "a.wav"]
    assert clips[0][0].facts == [("ann", "1.000"), ("ben", "9.000")]


def test_bias_intervals_contain_their_value():
    raters = analysed(AROUSAL, random_votes(AROUSAL, 40, 3)).result.raters
    assert all(r["bias_low"] <= r["bias"] <= r["bias_high"] for r in raters)
    assert np.mean([r["bias"] for r in raters]) == pytest.approx(0, abs=1e-9)


def test_report_of_decided_and_other_subsets_together():
    """Each subset is reported by its own scale; the sections of the decided one stay as they are."""
    path = ROOT / "analysis_outputs"
    decided = read_summary(AnalysisSummary, path / "emolia-emo" / "summary.json")
    other = summary_of(analysed(NATURALNESS, random_votes(NATURALNESS, 10, 3)))
    text = render("analysis.md.j2", summaries=[decided, other], subsets=subsets())[0]
    alone = render("analysis.md.j2", summaries=[decided], subsets=subsets())[0]
    assert text.startswith(alone.rstrip())
    assert "## naturalness" in text.removeprefix(alone.rstrip())


def test_a_dawid_skene_model_that_has_not_converged_is_named(monkeypatch):
    monkeypatch.setattr("earmark.metrics.accelerated_em.MAX_STEPS", 2)
    text = report_of(analysed(COLOURS, random_votes(COLOURS, 30, 4)))
    assert "the Dawid-Skene model has not converged" in text
    monkeypatch.undo()
    assert "has not converged" not in report_of(analysed(COLOURS, random_votes(COLOURS, 30, 4)))
