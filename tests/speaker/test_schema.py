"""The back end in summaries."""

import json

from earmark.metrics.calibration import LinearCalibration
from earmark.report.schema import StrictModel, to_json
from earmark.speaker.schema import BackEndSummary, Calibration


class Holder(StrictModel):
    back_end: BackEndSummary


def test_back_end_summary_round_trip():
    summary = BackEndSummary(
        scores="given", calibration=Calibration.from_fit(LinearCalibration(2.0, -1.0)), cohort_speakers_in_trials=None
    )
    text = to_json(Holder(back_end=summary))
    assert json.loads(text)["back_end"] == {
        "scores": "given", "calibration": {"scale": 2.0, "offset": -1.0}, "cohort_speakers_in_trials": None,
    }  # fmt: skip
    assert Holder.model_validate_json(text).back_end == summary
    assert summary.mean is summary.top_n is None


def test_back_end_parameters_exclude_diagnostics():
    assert BackEndSummary(scores="cosine", top_n=5, cohort_speakers_in_trials=2).parameters == {
        "scores": "cosine", "top_n": 5,
    }  # fmt: skip
