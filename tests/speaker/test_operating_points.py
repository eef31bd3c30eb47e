"""Operating points in summaries: thresholds of a run applied to another list."""

import json
from pathlib import Path

import numpy as np
import pytest

import evaluate_speaker
from earmark.errors import EarmarkError
from earmark.metrics.detection import LabelledScores
from earmark.speaker.operating_points import (
    EER_POINT,
    choose_operating_points,
    false_alarm_point,
    read_thresholds,
    thresholds_of,
)
from earmark.speaker.schema import Calibration


@pytest.fixture
def lists(tmp_path, monkeypatch):
    """Two scored lists of 20 speakers; all scores of the second are .5 higher."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, shift in (("first", 0.0), ("second", 0.5)):
        lines, scored = [], []
        for s in range(20):
            for u in range(30):
                other = (s + 1 + u % 19) % 20 if u >= 6 else s
                pair = f"s{s}/{u}.wav s{other}/x{u}.wav"
                lines.append(f"{int(other == s)} {pair}\n")
                scored.append(f"{pair} {rng.normal() + 2.5 * (other == s) + shift}\n")
        (tmp_path / f"{name}.txt").write_text("".join(lines))
        (tmp_path / f"{name}.scores").write_text("".join(scored))
    return tmp_path


def run(name, *flags, code=0):
    words = ["trials", "--quiet", "--no-figures", "--trials", f"{name}.txt", "--scores", f"{name}.scores"]
    assert evaluate_speaker.main([*words, "--output-dir", f"out/{name}", *flags]) == code
    return json.loads((lists_folder(name) / "summary.json").read_text()) if not code else None


def lists_folder(name):
    return Path("out") / name


def test_thresholds_of_a_run_are_applied_to_another_list(lists):
    first = run("first", "--far", "0.01", "0.1")
    names = [point["name"] for point in first["operating_points"]]
    assert names == ["false alarm rate 1 %", "false alarm rate 10 %", "lowest cost, P_target = 0.01"]
    second = run("second", "--threshold-from", "out/first/summary.json")
    applied = second["transferred"]
    assert applied["source"] == "out/first/summary.json"
    assert [point["name"] for point in applied["points"]] == [EER_POINT, *names]
    threshold = {point["name"]: point["threshold"] for point in first["operating_points"]}["false alarm rate 10 %"]
    scores = np.array([float(line.split()[2]) for line in Path("second.scores").read_text().splitlines()])
    target = np.array([line.startswith("1") for line in Path("second.txt").read_text().splitlines()])
    point = applied["points"][2]
    assert point["false_alarm_rate"]["value"] == pytest.approx((scores[~target] >= threshold).mean())
    assert point["miss_rate"]["value"] == pytest.approx((scores[target] < threshold).mean())
    assert point["false_alarm_rate"]["value"] > 0.13  # the scores are shifted
    report = (lists_folder("second") / "report.md").read_text()
    assert "## Thresholds of out/first/summary.json" in report and "## Operating points" in report
    assert "out/first/summary.json" in [each["path"] for each in second["inputs"]]


def test_metrics_and_signature_do_not_depend_on_far(lists):
    default, other = run("first"), run("first", "--far", "0.2")
    assert default["metrics"] == other["metrics"] and default["signature"] == other["signature"]
    assert other["operating_points"][0]["name"] == "false alarm rate 20 %"


def test_operating_points_without_intervals_have_the_same_values(lists):
    with_, without = run("first"), run("first", "--no-intervals")
    for one, other in zip(with_["operating_points"], without["operating_points"], strict=True):
        assert one["threshold"] == other["threshold"]
        for rate in ("miss_rate", "false_alarm_rate"):
            assert one[rate]["value"] == other[rate]["value"]
            assert other[rate]["low"] is other[f"{rate}_upper_bound"] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "is not a summary"),
        ("[]", "is not a summary"),
        ('{"signature": "earmark:1|suite:trials"}', "has no thresholds"),
        ('{"signature": "earmark:1", "operating_points": [{"name": "x"}]}', "is not a summary"),
    ],
)
def test_read_thresholds_rejects_other_files(tmp_path, content, message):
    path = tmp_path / "summary.json"
    path.write_text(content)
    with pytest.raises(EarmarkError, match=message):
        read_thresholds(path)
    with pytest.raises(EarmarkError, match="does not exist"):
        read_thresholds(tmp_path / "absent.json")


def test_read_thresholds_of_another_model_has_a_note(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text('{"signature": "earmark:1|model:a b", "threshold": 0.5, "back_end": {"scores": "cosine"}}')
    assert read_thresholds(path, "a b", {"scores": "cosine"}).note == ""
    assert read_thresholds(path, "a b").thresholds == {EER_POINT: 0.5}
    note = read_thresholds(path, "c", {"scores": "AS-norm of cosines"}).note
    assert "another model (a b)" in note and "(scores: cosine, here AS-norm of cosines)" in note
    calibrated = {"scores": "cosine", "calibration": Calibration(scale=2.0, offset=1.0)}
    assert "(calibration: none, here {'scale': 2.0" in read_thresholds(path, "a b", calibrated).note


def test_undefined_operating_points_give_no_threshold():
    trials = LabelledScores.from_arrays([0.9, 0.7, 0.2, 0.5, 0.1, 0.0], np.arange(6) < 3)
    points = choose_operating_points(trials, [0.001, 0.4, 0.4], 0.01)
    assert [point.threshold is None for point in points] == [True, False, False]
    assert list(thresholds_of(points)) == [false_alarm_point(0.4), "lowest cost, P_target = 0.01"]
