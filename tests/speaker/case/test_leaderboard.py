"""Reading results files, and ranking them among the published models."""

import json

import pytest

from earmark.errors import EarmarkError
from earmark.speaker.case.leaderboard import ModelResults, leaderboard, read_results
from tests.speaker.case.published import WESPEAKER


@pytest.mark.parametrize("shape", [lambda e: e, lambda e: {"eer": e, "min_dcf": 0.5, "num_trials": 10}])
def test_read_results_accepts_all_known_formats(tmp_path, shape):
    path = tmp_path / "results.json"
    results = {name: shape(e) for name, e in WESPEAKER.items()}
    for further in (
        {"case_score_v2": {"clean_eer": 1.0}, "contributions": {}},
        {"category_summary": {}},
        {"config": {}},
    ):
        path.write_text(json.dumps({"model_name": "Mine", **further, "protocol_results": results}))
        assert read_results(path) == ModelResults("Mine", WESPEAKER)


def test_read_results_rejects_other_json(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"eer": 3}')
    with pytest.raises(EarmarkError, match=r"results\.json: not a CASE results file"):
        read_results(path)


def test_leaderboard_ranks_results_among_published_models():
    table = leaderboard(
        [ModelResults("Mine", {p: e / 2 for p, e in WESPEAKER.items()}), ModelResults("Twin", WESPEAKER)]
    )
    assert len(table) == 8
    assert table["model_name"][0] == "Mine"
    ranks = dict(zip(table["model_name"], table["rank"], strict=True))
    assert ranks["Twin"] == ranks["WeSpeaker ResNet34"] == 2
    assert dict(zip(table["model_name"], table["rank_clean"], strict=True))["SpeechBrain ECAPA-TDNN"] == 2
    assert table["rank"].is_monotonic_increasing
    assert list(table.columns[:6]) == [
        "rank",
        "model_name",
        "clean_eer",
        "absolute_eer",
        "degradation_factor",
        "case_score_v1",
    ]


def test_leaderboard_does_not_rank_simulated_conditions(tmp_path):
    path = tmp_path / "results.json"
    content = {
        "model_name": "Mine",
        "config": {"self_made_carriers": True},
        "protocol_results": dict.fromkeys(WESPEAKER, 0.001),
    }
    path.write_text(json.dumps(content))
    table = leaderboard([read_results(path)])
    assert table["model_name"].tolist()[-1] == "Mine"
    assert table["rank"].isna().tolist() == [False] * 6 + [True]
    assert table["rank"].tolist()[:6] == [1, 2, 3, 4, 5, 6]
    assert table["source"].tolist()[-1] == "yours, simulated conditions"
