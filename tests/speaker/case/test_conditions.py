"""The conditions of CASE, and its published aggregates recomputed from published rates."""

import pytest

from earmark.speaker.case.conditions import aggregate_eers, case_definition, category, condition_names, conditions
from tests.conftest import ROOT
from tests.speaker.case.published import WESPEAKER


def test_condition_names_has_24_conditions_in_six_categories():
    assert len(condition_names()) == len(set(condition_names())) == 24
    counts = {name: sum(category(p) == name for p in condition_names()) for name in case_definition()["categories"]}
    assert counts == {"clean": 1, "codec": 7, "mic": 7, "noise": 5, "reverb": 1, "playback": 3}


def test_conditions_have_official_names_and_categories():
    names_by_category = {
        "codec": ("gsm", "ulaw", "alaw", "opus_6k", "opus_12k", "opus_24k", "mp3_32k"),
        "mic": (
            *("webcam_budget", "webcam_quality", "headset_usb", "laptop_internal"),
            *("phone", "smartphone_flagship", "conference_ceiling"),
        ),
        "noise": ("snr_25", "snr_20", "snr_15", "snr_10", "snr_5"),
        "playback": ("alaw_snr25_phone", "gsm_snr20_webcam_budget", "ulaw_snr15_laptop_internal"),
    }
    names = [f"clean_{category}_{rest}" for category, names in names_by_category.items() for rest in names]
    names += ["clean_clean", "clean_reverb"]
    assert len(names) == 24
    assert sorted(conditions()) == sorted(names)
    assert all(condition.category == name.split("_")[1] for name, condition in conditions().items())


def test_conditions_match_their_names():
    for name, condition in conditions().items():
        if condition.category == "codec":
            assert name == f"clean_codec_{condition.codec}"
        elif condition.category == "mic":
            assert name == f"clean_mic_{condition.microphone}"
        elif condition.category == "noise":
            assert name == f"clean_noise_snr_{condition.snr:g}"
        elif condition.category == "playback":
            assert name == f"clean_playback_{condition.codec}_snr{condition.snr:g}_{condition.microphone}"
            assert condition.room
            assert condition.loudspeaker


def test_aggregate_eers_reproduces_published_wespeaker_scores():
    scores = aggregate_eers(WESPEAKER)
    assert scores.case_score_v1 == pytest.approx(5.030331746, abs=1e-9)
    assert scores.absolute_eer == pytest.approx(0.0301369841, abs=1e-10)
    assert scores.degradation_factor == pytest.approx(0.0243369841, abs=1e-10)
    assert scores.clean_eer == 0.0058


@pytest.mark.parametrize("model", case_definition()["published"], ids=lambda m: m["model_name"])
def test_aggregate_eers_reproduces_published_scores_from_categories(model):
    eers = {p: model["category_breakdown"][category(p)] for p in condition_names()}
    scores = aggregate_eers(eers)
    for name in ("clean_eer", "absolute_eer", "degradation_factor", "case_score_v1"):
        assert getattr(scores, name) == pytest.approx(model[name], rel=1e-6)


def test_absolute_eer_averages_categories_not_conditions():
    eers = dict.fromkeys(condition_names(), 0.0) | {"clean_reverb": 0.6, "clean_clean": 0.1}
    assert aggregate_eers(eers).absolute_eer == pytest.approx(0.7 / 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean_reverb": None}, "clean_reverb is missing"),
        ({"clean_fax": 0.1}, "clean_fax is not a CASE condition"),
        ({"clean_reverb": float("nan")}, r"clean_reverb: equal error rate nan is not in \[0, 1\]"),
        ({"clean_reverb": 5.0}, r"clean_reverb: equal error rate 5.0 is not in \[0, 1\]"),
    ],
)
def test_aggregate_eers_rejects_invalid_rates(change, message):
    eers = {name: e for name, e in (WESPEAKER | change).items() if e is not None}
    with pytest.raises(ValueError, match=message):
        aggregate_eers(eers)


def test_further_condition_is_simulated_and_evaluated_without_entering_aggregates(tmp_path, monkeypatch):
    import json

    import evaluate_speaker
    from earmark.speaker.case import conditions as module

    definition = module.case_definition()
    further = {"clean_noise_snr_0": {"category": "noise", "snr": 0.0}}
    monkeypatch.setattr(module, "case_definition", lambda: {**definition, "further_conditions": further})
    module.conditions.cache_clear()
    try:
        assert len(module.condition_names()) == 24 and "clean_noise_snr_0" in module.conditions()
        speech, out = ROOT / "dataset/speaker-demo/case.csv", tmp_path / "simulated"
        names = ["--conditions", "clean_clean", "clean_noise_snr_0"]
        words = ["--quiet", "simulate", str(speech), "--output-dir", str(out), *names, "--trials", "50", "50"]
        assert evaluate_speaker.main(words) == 0
        words = ["--quiet", "case", str(out), "--encoder", "logmel", *names, "--output-dir", str(tmp_path / "o")]
        assert evaluate_speaker.main([*words, "--embedding-cache", str(tmp_path / "cache")]) == 0
        summary = json.loads((tmp_path / "o/logmel/summary.json").read_text())
        assert [one["protocol"] for one in summary["protocols"]] == ["clean_clean", "clean_noise_snr_0"]
        assert summary["aggregates"] == {} and not (tmp_path / "o/logmel/results.json").exists()
    finally:
        module.conditions.cache_clear()
