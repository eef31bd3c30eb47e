"""summary.json: round trip, validation, and files of earlier releases."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from earmark.annotation.schema import AnalysisSummary, AnonymizeSummary
from earmark.audio_text.schema import BenchmarkSummary
from earmark.errors import EarmarkError
from earmark.metrics.estimate import Estimate
from earmark.probing.schema import ProbeSummary
from earmark.report.schema import StrictModel, read_summary, to_json
from earmark.report.signature import Signature
from earmark.speaker.case.schema import CaseSummary
from earmark.speaker.schema import SpeakerSummary
from tests.conftest import ROOT

GOOD = {
    "schema_version": 1,
    "script": "anonymize.py",
    "argv": [],
    "created_utc": "2026-05-09T12:00:00Z",
    "git": {"commit": None, "dirty": False},
    "python": "3.11.7",
    "packages": {"numpy": "2.4.0"},
    "device": "cpu",
    "seed": 0,
    "signature": Signature.parse("earmark:0"),
    "inputs": [{"path": "a.csv", "sha256": "0" * 64, "rows": 3}],
    "parameters": {"drop": [], "band_age": None},
    "exclusions": [{"reason": "x", "count": 1}],
    "subset": "emolia-emo",
    "people": 4,
    "k": 1,
    "unique_people": 2,
    "unique_by": {"age": 2},
}


def test_summary_rejects_invalid_signature():
    with pytest.raises(ValidationError, match="is not a signature"):
        AnonymizeSummary(**GOOD | {"signature": "earmark:0||x"})


def test_read_summary_rejects_nan():
    text = '{"value": NaN, "low": null, "high": null, "n": 1}'
    with pytest.raises(ValidationError):
        Holder.model_validate_json(f'{{"estimate": {text}}}')


class Holder(StrictModel):
    estimate: Estimate


def test_summary_round_trip(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(to_json(AnonymizeSummary(**GOOD)))
    assert read_summary(AnonymizeSummary, path).model_dump() == GOOD


def test_to_json_key_order_and_line_end():
    text = to_json(AnonymizeSummary(**GOOD))
    assert list(json.loads(text)) == list(GOOD)
    assert text.endswith("}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float64("nan")])
def test_to_json_rejects_non_finite_numbers(number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(AnonymizeSummary(**GOOD | {"parameters": {"deep": [number]}}))


@pytest.mark.parametrize(
    "data",
    [
        GOOD | {"surprise": 1},
        {key: value for key, value in GOOD.items() if key != "k"},
        GOOD | {"k": "many"},
        GOOD | {"inputs": [{"path": "a.csv", "rows": 3}]},
    ],
    ids=["unknown key", "missing key", "wrong type", "missing key inside"],
)
def test_summary_rejects_invalid_keys(data):
    with pytest.raises(ValidationError):
        AnonymizeSummary(**data)


def test_to_json_converts_numpy_and_estimates():
    parameters = {"e": Estimate(0.5, 0.25, 0.75, 9), "n": Estimate(None, why="no")}
    text = to_json(AnonymizeSummary(**GOOD | {"k": np.int64(3), "parameters": parameters}))
    result = json.loads(text)
    assert result["k"] == 3
    assert result["parameters"]["e"] == {"value": 0.5, "low": 0.25, "high": 0.75, "n": 9}
    assert result["parameters"]["n"] == {"value": None, "low": None, "high": None, "n": 0, "why": "no"}


def test_to_json_rejects_other_types():
    with pytest.raises(TypeError, match="cannot serialise set in a summary"):
        to_json(AnonymizeSummary(**GOOD | {"parameters": {"deep": {1, 2}}}))


@pytest.mark.parametrize("subset", ["emolia-emo", "emolia-dim"])
def test_committed_summaries_load(subset):
    analysis = read_summary(AnalysisSummary, ROOT / "analysis_outputs" / subset / "summary.json")
    release = read_summary(AnonymizeSummary, ROOT / "annotations" / subset / "summary.json")
    assert analysis.subset == release.subset == subset
    assert analysis.human_upper_bound_binary == analysis.agreement.percent_binary
    assert release.people >= len(analysis.annotators)


@pytest.mark.parametrize(
    "content",
    [b"{}", b"", b"[]", b"\xff\xfe", b'{"schema_version": NaN}'],
    ids=["no keys", "empty", "list", "bytes", "NaN"],
)
def test_read_summary_names_invalid_file(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(
        EarmarkError, match=r"^summary\.json is not a valid BenchmarkSummary: .*rerun the command that wrote it"
    ):
        read_summary(BenchmarkSummary, tmp_path / "summary.json")


MODELS = {
    "anonymize": AnonymizeSummary,
    "analysis": AnalysisSummary,
    "benchmark": BenchmarkSummary,
    "probe": ProbeSummary,
    "case": CaseSummary,
    "tidyvoice": SpeakerSummary,
}
RELEASED = sorted((ROOT / "tests" / "report" / "summaries").glob("*/*.json"))


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_summaries_of_all_releases_load(path):
    loaded = read_summary(MODELS[path.stem], path)
    assert loaded.script in (f"{path.stem}.py", "evaluate_speaker.py")
