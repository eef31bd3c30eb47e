"""CASE: the published aggregates from the published rates, and leaderboards around them."""

import json

import pytest

from earmark.errors import EarmarkError
from earmark.speaker.case.protocols import Results, aggregates, category, facts, leaderboard, protocols, read_results

# Published equal error rates of WeSpeaker ResNet34 (CASE benchmark, results of 2025).
WESPEAKER = {
    "clean_clean": 0.0058,
    "clean_codec_alaw": 0.012199999999999996,
    "clean_codec_gsm": 0.025999999999995246,
    "clean_codec_mp3_32k": 0.007199999999998569,
    "clean_codec_opus_12k": 0.010399999999999961,
    "clean_codec_opus_24k": 0.0058,
    "clean_codec_opus_6k": 0.0445,
    "clean_codec_ulaw": 0.014900000000000017,
    "clean_mic_conference_ceiling": 0.005199999999999978,
    "clean_mic_headset_usb": 0.006200000000000002,
    "clean_mic_laptop_internal": 0.005999999999988237,
    "clean_mic_phone": 0.006399999999999952,
    "clean_mic_smartphone_flagship": 0.0057000000000000245,
    "clean_mic_webcam_budget": 0.005900000000000014,
    "clean_mic_webcam_quality": 0.006199999999998453,
    "clean_noise_snr_10": 0.007700000000000025,
    "clean_noise_snr_15": 0.005799999999762621,
    "clean_noise_snr_20": 0.007000000000000003,
    "clean_noise_snr_25": 0.006,
    "clean_noise_snr_5": 0.009799999999999419,
    "clean_playback_alaw_snr25_phone": 0.07779999999897591,
    "clean_playback_gsm_snr20_webcam_budget": 0.10059999999992478,
    "clean_playback_ulaw_snr15_laptop_internal": 0.07879999999999998,
    "clean_reverb": 0.05879999999999995,
}


def test_there_are_24_protocols_in_six_categories():
    assert len(protocols()) == len(set(protocols())) == 24
    counts = {name: sum(category(p) == name for p in protocols()) for name in facts()["categories"]}
    assert counts == {"clean": 1, "codec": 7, "mic": 7, "noise": 5, "reverb": 1, "playback": 3}


def test_wespeakers_published_aggregates_follow_from_its_rates():
    found = aggregates(WESPEAKER)
    assert found.case_score_v1 == pytest.approx(5.030331746, abs=1e-9)
    assert found.absolute_eer == pytest.approx(0.0301369841, abs=1e-10)
    assert found.degradation_factor == pytest.approx(0.0243369841, abs=1e-10)
    assert found.clean_eer == 0.0058


@pytest.mark.parametrize("model", facts()["published"], ids=lambda m: m["model_name"])
def test_every_published_models_aggregates_follow_from_its_categories(model):
    eers = {p: model["category_breakdown"][category(p)] for p in protocols()}
    found = aggregates(eers)
    for name in ("clean_eer", "absolute_eer", "degradation_factor", "case_score_v1"):
        assert getattr(found, name) == pytest.approx(model[name], rel=1e-6)


def test_the_absolute_rate_is_the_mean_of_categories_not_of_protocols():
    eers = dict.fromkeys(protocols(), 0.0) | {"clean_reverb": 0.6, "clean_clean": 0.1}
    assert aggregates(eers).absolute_eer == pytest.approx(0.7 / 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean_reverb": None}, "clean_reverb is missing"),
        ({"clean_fax": 0.1}, "clean_fax is no protocol"),
        ({"clean_reverb": float("nan")}, "clean_reverb has the equal error rate nan"),
        ({"clean_reverb": 5.0}, "clean_reverb has the equal error rate 5.0"),
    ],
)
def test_protocols_that_do_not_add_up_are_named(change, message):
    eers = {name: e for name, e in (WESPEAKER | change).items() if e is not None}
    with pytest.raises(ValueError, match=message):
        aggregates(eers)


@pytest.mark.parametrize("shape", [lambda e: e, lambda e: {"eer": e, "min_dcf": 0.5, "num_trials": 10}])
def test_results_files_are_read_in_every_shape(tmp_path, shape):
    path = tmp_path / "results.json"
    results = {name: shape(e) for name, e in WESPEAKER.items()}
    for further in (
        {"case_score_v2": {"clean_eer": 1.0}, "contributions": {}},
        {"category_summary": {}},
        {"config": {}},
    ):
        path.write_text(json.dumps({"model_name": "Mine", **further, "protocol_results": results}))
        assert read_results(path) == Results("Mine", WESPEAKER)


def test_what_is_no_results_file_is_named(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"eer": 3}')
    with pytest.raises(EarmarkError, match=r"results\.json is no results file"):
        read_results(path)


def test_a_leaderboard_ranks_yours_among_the_published():
    table = leaderboard([Results("Mine", {p: e / 2 for p, e in WESPEAKER.items()}), Results("Twin", WESPEAKER)])
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


def test_results_on_self_made_carriers_have_no_rank(tmp_path):
    path = tmp_path / "results.json"
    said = {
        "model_name": "Mine",
        "config": {"self_made_carriers": True},
        "protocol_results": dict.fromkeys(WESPEAKER, 0.001),
    }
    path.write_text(json.dumps(said))
    table = leaderboard([read_results(path)])
    assert table["model_name"].tolist()[-1] == "Mine"
    assert table["rank"].isna().tolist() == [False] * 6 + [True]
    assert table["rank"].tolist()[:6] == [1, 2, 3, 4, 5, 6]
    assert table["source"].tolist()[-1] == "yours, self-made carriers"
