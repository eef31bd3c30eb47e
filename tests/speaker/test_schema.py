"""What a summary holds of the back end."""

import json

from earmark.metrics.calibration import LinearCalibration
from earmark.report.schema import StrictModel, to_json
from earmark.speaker.schema import BackEndSummary, Calibration


class Holder(StrictModel):
    back_end: BackEndSummary


def test_back_end_is_written_as_it_was_given_and_read_again():
    given = BackEndSummary(
        scores="given", calibration=Calibration.from_fit(LinearCalibration(2.0, -1.0)), cohort_speakers_in_trials=None
    )
    text = to_json(Holder(back_end=given))
    assert json.loads(text)["back_end"] == {
        "scores": "given", "calibration": {"scale": 2.0, "offset": -1.0}, "cohort_speakers_in_trials": None,
    }  # fmt: skip
    assert Holder.model_validate_json(text).back_end == given
    assert given.mean is given.top_n is None


def test_parameters_of_the_back_end_leave_out_what_decides_no_number():
    assert BackEndSummary(scores="cosine", top_n=5, cohort_speakers_in_trials=2).parameters == {
        "scores": "cosine", "top_n": 5,
    }  # fmt: skip
