"""evaluate_speaker.py case, check and verify, on a benchmark in CASE's layout with synthetic embeddings."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import evaluate_speaker
from earmark.metrics.detection import case_equal_error_rate, equal_error_rate, roc
from earmark.models.encoders.registry import load_encoder
from earmark.models.encoders.torch_encoder import NetworkEncoder
from earmark.models.encoders.user_file import CaseEncoder
from earmark.speaker.case.conditions import aggregate_eers, case_definition, category, condition_names
from earmark.speaker.case.leaderboard import read_results
from earmark.speaker.case.submission import (
    CARD_SECTIONS,
    PLACEHOLDER,
    REQUIRED_VALUES,
    ModelCardDetails,
    check_card,
    check_results,
    read_card,
)
from tests.conftest import contents, visible
from tests.hub_files import LOG, check_logged, read_hub_files

SPEAKERS, UTTERANCES, NOISE = (
    8,
    4,
    {"clean": 0.8, "codec": 1.0, "mic": 0.9, "noise": 1.2, "reverb": 1.5, "playback": 2.0},
)


def condition_folder(condition):
    return {"clean": "clean", "reverb": "reverb"}.get(
        category(condition), condition.removeprefix("clean_").replace("_", "/", 1)
    )


def utterance_name(condition, speaker, utterance):
    return f"voxceleb1_o/{condition_folder(condition)}/id{speaker:02d}/utt_{utterance:04d}.wav"


@pytest.fixture
def benchmark(tmp_path):
    """Lists with self-trials and repeats, and embeddings with more noise from category to category."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "case"
    (folder / "trials").mkdir(parents=True)
    centres = rng.normal(size=(SPEAKERS, 16))
    vectors = {}
    for condition in condition_names():
        for speaker in range(SPEAKERS):
            for utterance in range(UTTERANCES):
                noise = NOISE[category(condition)] * rng.normal(size=16)
                vectors.setdefault(utterance_name(condition, speaker, utterance), centres[speaker] + noise)
        lines = []
        for _ in range(150):
            first, second = rng.integers(0, SPEAKERS, 2)
            utterances = rng.integers(0, UTTERANCES, 2)
            second = first if rng.random() < 0.4 else second
            enrolment = utterance_name("clean_clean", first, utterances[0])
            lines.append(f"{int(first == second)} {enrolment} {utterance_name(condition, second, utterances[1])}")
        (folder / "trials" / f"{condition}.txt").write_text("\n".join([*lines, *lines[:7]]) + "\n")
    np.savez(tmp_path / "vectors.npz", **vectors)
    return folder


def run(benchmark, *flags, code=0):
    out = benchmark.parent / "out"
    flags = ["--embeddings", str(benchmark.parent / "vectors.npz"), "--bootstrap", "50", *map(str, flags)]
    assert evaluate_speaker.main(["case", str(benchmark), "--quiet", "--output-dir", str(out), *flags]) == code
    return out / "vectors"


def read_scores(folder, condition):
    lines = gzip.decompress((folder / "scores" / f"{condition}.csv.gz").read_bytes()).decode().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    return rows, np.array([float(row[2]) for row in rows]), np.array([row[3] == "1" for row in rows])


@pytest.mark.slow
def test_case_published_and_strict_metrics_match_scores(benchmark):
    folder = run(benchmark)
    summary = json.loads((folder / "summary.json").read_text())
    results = json.loads((folder / "results.json").read_text())
    assert [p["protocol"] for p in summary["protocols"]] == condition_names()
    for row in summary["protocols"]:
        rows, scores, labels = read_scores(folder, row["protocol"])
        published = case_equal_error_rate(scores, labels).rate
        assert row["published"]["eer"]["value"] == pytest.approx(published)
        assert results["protocol_results"][row["protocol"]]["eer"] == pytest.approx(published)
        is_self = np.array([enrol.split("/")[-2:] == test.split("/")[-2:] for enrol, test, *_ in rows])
        seen, is_repeated = set(), []
        for enrol, test, *_ in rows:
            is_repeated.append((enrol, test) in seen)
            seen.add((enrol, test))
        selected = ~is_self & ~np.array(is_repeated)
        assert (row["n_self_trials"], row["n_repeated_trials"]) == (is_self.sum(), sum(is_repeated))
        assert row["strict"]["n_trials"] == selected.sum() < row["published"]["n_trials"] == 157
        assert row["strict"]["eer"]["value"] == pytest.approx(
            equal_error_rate(roc(scores[selected], labels[selected])).rate
        )
        assert row["strict"]["eer"]["low"] <= row["strict"]["eer"]["value"] <= row["strict"]["eer"]["high"]
    expected = aggregate_eers({p: r["eer"] for p, r in results["protocol_results"].items()})
    for key in ("clean_eer", "absolute_eer", "degradation_factor", "case_score_v1"):
        assert results[key] == pytest.approx(getattr(expected, key))
        estimate = summary["aggregates"]["published"][key]
        assert estimate["value"] == pytest.approx(getattr(expected, key))
        assert estimate["low"] < estimate["high"]
    assert results["category_breakdown"] == pytest.approx(expected.category_breakdown)


@pytest.mark.slow
def test_case_writes_all_output_files(benchmark):
    folder = run(benchmark, "--model-name", "My model (v2)").parent / "My-model-v2"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files - {".lock"} == {
        "results.json", "model_card.md", "summary.json", "protocols.csv", "report.md", "report.tex", "det.svg",
        "categories.svg", "speakers.csv.gz", *(f"scores/{p}.csv.gz" for p in condition_names()),
    }  # fmt: skip
    report = (folder / "report.md").read_text()
    assert "not official" not in report
    assert "favours models with a high error rate on clean speech" in report
    assert "| 7 | My model (v2) |" in report
    table = (folder / "protocols.csv").read_text().splitlines()
    assert len(table) == 25
    assert "published_eer,published_eer_low,published_eer_high" in table[0]
    assert read_results(folder / "results.json").model_name == "My model (v2)"
    assert str(benchmark.parent) not in (folder / "summary.json").read_text() + (folder / "results.json").read_text()


@pytest.mark.slow
def test_case_output_is_deterministic(benchmark):
    folder = run(benchmark)
    first = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "summary.json"}
    run(benchmark)
    assert {path: path.read_bytes() for path in first} == first


@pytest.mark.slow
def test_case_keeps_edited_model_card(benchmark):
    card = run(benchmark) / "model_card.md"
    assert PLACEHOLDER in card.read_text()
    card.write_text("# mine\n")
    run(benchmark)
    assert card.read_text() == "# mine\n"


@pytest.mark.parametrize(
    ("scoring", "present", "absent"), [("published", "published", "strict"), ("strict", "strict", "published")]
)
def test_case_with_one_scoring(benchmark, scoring, present, absent):
    folder = run(benchmark, "--scoring", scoring)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["protocols"][0][absent] is None
    assert set(summary["aggregates"]) == {present}
    assert (folder / "results.json").exists() == (present == "published")


def test_case_with_some_conditions_has_no_aggregates(benchmark):
    folder = run(benchmark, "--conditions", "clean_clean", "clean_reverb")
    summary = json.loads((folder / "summary.json").read_text())
    assert (len(summary["protocols"]), summary["aggregates"]) == (2, {})
    assert not (folder / "results.json").exists()


def test_case_writes_results_for_hubs(benchmark):
    folder = run(benchmark, "--dataset-id", "bigstorm/case-benchmark@main", "--no-intervals")
    entries, mteb = read_hub_files(folder)
    aggregates = json.loads((folder / "summary.json").read_text())["aggregates"]
    assert {name: entry["value"] for name, entry in entries.items()} == {
        f"case.{scoring}_{metric}": aggregates[scoring][metric]["value"]
        for scoring in ("published", "strict")
        for metric in ("clean_eer", "absolute_eer")
    }
    assert "|protocol:published|metric:clean_eer|" in entries["case.published_clean_eer"]["notes"]
    (scores,) = mteb["scores"]["test"]
    assert scores["main_score"] == aggregates["strict"]["absolute_eer"]["value"]


@pytest.mark.slow
def test_log_sends_the_headline_numbers(benchmark, logged, monkeypatch, capsys):
    folder = run(benchmark, "--dataset-id", "org/case", *LOG)
    check_logged(logged, folder, name="vectors", suite="case")
    monkeypatch.setitem(sys.modules, "wandb", None)
    run(benchmark, *LOG, code=2)
    assert "`uv run --extra wandb evaluate_speaker.py …`" in capsys.readouterr().err and len(logged) == 1


def test_log_names_the_reason_of_undefined_numbers(benchmark, logged):
    run(benchmark, "--conditions", "clean_clean", "--scoring", "strict", "--log", "trackio")
    ((_, record),) = logged
    assert (record.project, record.step, record.metrics) == ("earmark", None, {})
    assert record.settings["undefined.case/strict_absolute_eer"] == "needs all 24 conditions; 1 were evaluated"


def test_case_with_some_conditions_has_no_results_for_hubs(benchmark):
    folder = run(benchmark, "--conditions", "clean_clean", "--scoring", "strict", "--dataset-id", "org/case")
    entries, mteb = read_hub_files(folder)
    assert entries == {}
    reason = "needs all 24 conditions; 1 were evaluated"
    assert f'# left out: "case.strict_absolute_eer: {reason}"' in (folder / "eval_results.yaml").read_text()
    assert mteb["scores"]["test"] == [
        {
            "hf_subset": "default",
            "languages": [],
            "notes": [f"strict_absolute_eer: {reason}", f"strict_clean_eer: {reason}"],
        }
    ]


def test_case_model_card_has_results_in_per_cent(benchmark):
    folder = run(benchmark, "--model-name", "My model").parent / "My-model"
    summary = json.loads((folder / "summary.json").read_text())
    card = (folder / "model_card.md").read_text()
    values = read_card(card)
    assert card.startswith("# My model\n")
    assert values["Architecture", "Embedding dimension"] == "16"
    assert values["Evaluation results", "Date"] == summary["created_utc"][:10]
    assert values["Evaluation results", "Signature"] == summary["signature"]
    for name in ("clean_eer", "absolute_eer"):
        cells = [
            f"{100 * rate['value']:.2f} % [{100 * rate['low']:.2f}, {100 * rate['high']:.2f}]"
            for rate in (summary["aggregates"][scoring][name] for scoring in ("published", "strict"))
        ]
        assert f"| {' | '.join(cells)} |" in card
    assert "| mean of category codec | " in card and "not official" not in card


def test_case_model_card_of_some_conditions_lists_them(benchmark):
    folder = run(benchmark, "--conditions", "clean_clean", "clean_reverb", "--no-intervals")
    eer = json.loads((folder / "summary.json").read_text())["protocols"][1]["strict"]["eer"]["value"]
    lines = [line for line in (folder / "model_card.md").read_text().splitlines() if line.startswith("| clean_reverb")]
    assert [line.endswith(f" | {100 * eer:.2f} % |") for line in lines] == [True]


def test_check_reports_results_of_another_run_in_the_card(benchmark, capsys):
    folder = run(benchmark, "--no-intervals")
    assert evaluate_speaker.main(["check", str(folder)]) == 1
    assert "another run" not in capsys.readouterr().out
    run(benchmark, "--p-target", "0.05", "--no-intervals")
    assert evaluate_speaker.main(["check", str(folder)]) == 1
    assert "model_card.md: Evaluation results are those of another run" in capsys.readouterr().out


def test_model_card_details_of_a_network():
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    description = {"model": "org/m", "kind": "wavlm", "revision": "abc", "weights_sha256": "0123"}
    encoder = NetworkEncoder("m", 16_000, "m-0", description, None, len, "cpu", network=torch.nn.Linear(30, 40))
    details = ModelCardDetails.from_encoder(encoder, 40)
    assert details == ModelCardDetails(
        "wavlm", "1,240", "40", "16 kHz", "org/m, revision abc, weights sha256 0123"
    )  # 30 · 40 + 40 parameters


def test_model_card_details_of_a_case_file():
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

    class Model:
        first, second, embedding_dim = None, None, 3

        def extract_embedding(self, audio_path): ...

    model = Model()
    model.first, model.second = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1, bias=False)
    parts = {"contract": "case", "class": "Model", "weights": {"first": "01", "second": "23"}}
    details = ModelCardDetails.from_encoder(CaseEncoder(model, Path("m.py"), parts))
    assert details == ModelCardDetails(
        "case, Model", "12", "3", "16 kHz", "m.py, weights sha256 first 01, second 23"
    )  # 2 · 3 + 3 + 3 parameters


def test_model_card_details_of_the_built_in_encoder():
    assert ModelCardDetails.from_encoder(load_encoder("logmel")) == ModelCardDetails("", "", "80", "16 kHz", "")


def test_case_finds_second_layout(benchmark):
    (benchmark / "benchmark").mkdir()
    (benchmark / "trials").rename(benchmark / "benchmark" / "trials")
    assert (run(benchmark) / "results.json").exists()


def test_case_reports_all_missing_lists(benchmark, capsys):
    for condition in ("clean_reverb", "clean_codec_gsm"):
        (benchmark / "trials" / f"{condition}.txt").unlink()
    run(benchmark, code=1)
    message = capsys.readouterr().err
    assert "2 trial lists not found" in message
    assert "clean_reverb.txt" in message and "clean_codec_gsm.txt" in message
    assert not (benchmark.parent / "out").exists()


def test_case_missing_embeddings_are_an_error_or_excluded(benchmark, capsys):
    path = benchmark.parent / "vectors.npz"
    with np.load(path) as vectors:
        remaining = {key: vectors[key] for key in vectors.files if key != utterance_name("clean_reverb", 3, 1)}
    np.savez(path, **remaining)
    run(benchmark, code=1)
    assert utterance_name("clean_reverb", 3, 1) in capsys.readouterr().err
    summary = json.loads((run(benchmark, "--allow-missing") / "summary.json").read_text())
    reverb = next(row for row in summary["protocols"] if row["protocol"] == "clean_reverb")
    assert reverb["n_missing"] > 0
    assert reverb["published"]["n_trials"] == 157 - reverb["n_missing"]
    assert summary["exclusions"] == [{"reason": "without a score", "count": reverb["n_missing"]}]


def test_case_reports_condition_without_targets(benchmark, capsys):
    path = benchmark / "trials" / "clean_mic_phone.txt"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines() if line.startswith("0")))
    run(benchmark, code=1)
    assert "clean_mic_phone: no target trials" in capsys.readouterr().err


def test_case_rejects_constant_embeddings(benchmark, capsys):
    path = benchmark.parent / "vectors.npz"
    with np.load(path) as vectors:
        np.savez(path, **dict.fromkeys(vectors.files, np.arange(1.0, 5.0)))
    run(benchmark, code=1)
    assert "identical" in capsys.readouterr().err


def test_case_rejects_folder_without_lists(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    assert evaluate_speaker.main(["case", str(tmp_path / "x"), "--encoder", "logmel"]) == 2
    assert "trials/" in capsys.readouterr().err


# --- submission ---------------------------------------------------------------------------------------------


def published_results():
    """A valid results file."""
    eers = {p: 0.01 + 0.001 * i for i, p in enumerate(condition_names())}
    scores = aggregate_eers(eers)
    keys = ("clean_eer", "absolute_eer", "degradation_factor", "case_score_v1", "category_breakdown")
    return {
        "model_name": "M",
        **{key: getattr(scores, key) for key in keys},
        "config": {"benchmark_dir": "case", "device": "cuda"},
        "protocol_results": {
            p: {"eer": e, "min_dcf": 0.1, "num_trials": case_definition()["trials"]} for p, e in eers.items()
        },
    }


def complete_card():
    lines = ["# M"]
    for section, entries in CARD_SECTIONS.items():
        lines.append(f"\n## {section}\n")
        lines += [
            f"- {entry}: {REQUIRED_VALUES.get(entry, '16 kHz' if entry == 'Sample rate' else 'AAM-softmax')}"
            for entry in entries
        ]
    return "\n".join(lines) + "\n"


def test_check_accepts_valid_case_submission(tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(published_results()))
    (tmp_path / "model_card.md").write_text(complete_card())
    assert evaluate_speaker.main(["check", str(tmp_path)]) == 0
    assert "valid CASE submission" in capsys.readouterr().out


def broken(**changes):
    def change(results):
        for key, value in changes.items():
            results[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda r: r["protocol_results"].pop("clean_reverb"), "condition clean_reverb is missing"),
        (lambda r: r["protocol_results"]["clean_clean"].update(eer=float("nan")), "eer is nan"),
        (lambda r: r["protocol_results"]["clean_clean"].update(min_dcf=None), "min_dcf is None"),
        (
            lambda r: r["protocol_results"]["clean_clean"].update(num_trials=157),
            "num_trials is 157, expected 10,000",
        ),
        (lambda r: r["protocol_results"].update(my_own={"eer": 0.1}), "my_own is not a CASE condition"),
        (broken(absolute_eer=0.5), "absolute_eer is 0.5; the rates of the conditions give 0."),
        (broken(case_score_v1=None), "case_score_v1 is None"),
        (lambda r: r["category_breakdown"].update(codec=0.9), "category codec is 0.9"),
        (broken(model_name=" "), "model_name is empty"),
        (broken(config={}), "config has no benchmark_dir or no device"),
        (
            broken(config={"benchmark_dir": "x", "device": "cpu", "self_made_carriers": True}),
            "results are on simulated conditions",
        ),
    ],
)
def test_check_results_reports_violation(change, problem):
    results = published_results()
    change(results)
    assert [p for p in check_results(results) if problem in p], check_results(results)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("- Loss: AAM-softmax", "", "Training / Loss is missing"),
        ("- Loss: AAM-softmax", f"- Loss: {PLACEHOLDER} (AAM)", "Training / Loss is not filled in"),
        ("16 kHz", "8 kHz", "CASE requires 16 kHz"),
        ("- Single model: yes", "- Single model: no, three of them", "CASE requires 'yes'"),
        ("in the training data: no", "in the training data: yes", "CASE requires 'no'"),
    ],
)
def test_check_card_reports_violation(tmp_path, old, new, problem):
    card = tmp_path / "model_card.md"
    assert old in complete_card()
    card.write_text(complete_card().replace(old, new))
    assert [p for p in check_card(card) if problem in p]


def test_check_reports_all_violations(benchmark, capsys):
    assert evaluate_speaker.main(["check", str(run(benchmark))]) == 1
    message = capsys.readouterr().out
    assert "24 conditions (clean_clean, …): num_trials is 157" in message
    assert "Training / Data is not filled in" in message
    assert "Preprocessing / Sample rate" in message


# --- on disk ------------------------------------------------------------------------------------------------


def test_verify_reports_all_missing_files(benchmark, capsys):
    for path in benchmark.glob("trials/*.txt"):
        for line in path.read_text().splitlines():
            for utterance in line.split()[1:]:
                target = benchmark / utterance
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(target, np.full(1600, 0.1), 16_000)
    assert evaluate_speaker.main(["verify", str(benchmark)]) == 0
    removed = next(iter(sorted(benchmark.glob("voxceleb1_o/reverb/*/*.wav"))))
    removed.unlink()
    (benchmark / "trials" / "clean_noise_snr_5.txt").unlink()
    capsys.readouterr()
    assert evaluate_speaker.main(["verify", str(benchmark)]) == 1
    message = capsys.readouterr().out
    assert removed.relative_to(benchmark).as_posix() in message
    assert "clean_noise_snr_5" in message


# --- runs by their system -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_case_keeps_runs_of_models_with_same_name(benchmark, capsys):
    folder = run(benchmark)
    saved = benchmark.parent / "out/runs/vectors/speaker/case"
    first = contents(saved)
    assert first == contents(folder)
    with np.load(benchmark.parent / "vectors.npz") as given:
        np.savez(benchmark.parent / "vectors.npz", **{key: given[key] + 1 for key in given.files})
    run(benchmark)
    assert contents(saved) == first
    second = contents(benchmark.parent / "out/runs/vectors-2/speaker/case")
    latest = contents(folder)
    # A card may have been filled in, so that it stays; `check` names results of another run.
    assert {name: latest[name] for name in latest if name != "model_card.md"} == {
        name: second[name] for name in second if name != "model_card.md"
    }
    assert latest["model_card.md"] == first["model_card.md"] and second != first


def test_case_removes_files_of_earlier_run(benchmark):
    folder = run(benchmark)
    (folder / "model_card.md").write_text("# mine\n")
    run(benchmark, "--scoring", "strict", "--conditions", "clean_clean")
    written = {"summary.json", "report.md", "report.tex", "det.svg", "protocols.csv", "scores/clean_clean.csv.gz"}
    written |= {"speakers.csv.gz"}
    assert set(visible(folder)) == written | {"model_card.md"}
    assert set(visible(benchmark.parent / "out/runs/vectors/speaker/case")) == written | {"model_card.md"}
    assert (folder / "model_card.md").read_text() == "# mine\n"


def test_case_reports_missing_audio_before_embedding(benchmark, tmp_path, capsys):
    for number in range(UTTERANCES):
        path = benchmark / utterance_name("clean_clean", 0, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, 8000), 16_000)
    flags = ["--encoder", "logmel", "--conditions", "clean_clean", "--embedding-cache", str(tmp_path / "store")]
    assert evaluate_speaker.main(["case", str(benchmark), "--quiet", "--output-dir", str(tmp_path / "o"), *flags]) == 1
    message = capsys.readouterr().err
    assert f"{(SPEAKERS - 1) * UTTERANCES} missing:" in message and "(not found)" in message
    assert not (tmp_path / "store").exists()


# --- thresholds ---------------------------------------------------------------------------------------------


def test_thresholds_of_clean_speech_are_applied_to_every_condition(benchmark):
    folder = run(benchmark, "--far", "0.1", "--scoring", "published", "--no-figures")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["threshold_condition"] == summary["threshold_source"] == "clean_clean"
    chosen = summary["operating_points"][0]
    assert chosen["name"] == "false alarm rate 10 %"
    assert [row["protocol"] for row in summary["at_thresholds"]] == condition_names()
    for row in summary["at_thresholds"]:
        _, scores, labels = read_scores(folder, row["protocol"])
        eer, point, _ = row["points"]
        assert eer["name"] == "equal error rate" and point["threshold"] == chosen["threshold"]
        assert point["miss_rate"]["value"] == pytest.approx((scores[labels] < chosen["threshold"]).mean())
        assert point["false_alarm_rate"]["value"] == pytest.approx((scores[~labels] >= chosen["threshold"]).mean())
    by_name = {row["protocol"]: row["points"][1] for row in summary["at_thresholds"]}
    assert by_name["clean_clean"]["false_alarm_rate"]["value"] <= 0.1
    assert by_name["clean_playback_gsm_snr20_webcam_budget"]["miss_rate"]["value"] > 0.3
    report = (folder / "report.md").read_text()
    assert "## Thresholds of clean_clean on every condition" in report and "for false alarm rate 10 %" in report


def test_thresholds_of_another_run_are_applied_to_case(benchmark, capsys):
    first = run(benchmark, "--far", "0.1", "--no-figures", "--conditions", "clean_clean") / "summary.json"
    thresholds = benchmark.parent / "first.json"
    thresholds.write_text(first.read_text())
    folder = run(
        benchmark, "--threshold-from", thresholds, "--no-figures", "--conditions", "clean_reverb", "clean_codec_gsm"
    )
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["threshold_condition"] == "clean_codec_gsm"  # no clean speech: the first condition
    assert summary["threshold_source"] == "first.json, clean_clean" and summary["threshold_note"] == ""
    names = [point["name"] for point in summary["at_thresholds"][0]["points"]]
    assert names == ["equal error rate", "false alarm rate 10 %", "lowest cost, P_target = 0.01"]
    assert "first.json" in {each["path"] for each in summary["inputs"]}
    thresholds.write_text("{}")
    run(benchmark, "--threshold-from", thresholds, code=1)
    assert "is not a summary of a speaker verification run" in capsys.readouterr().err


def test_case_without_enough_non_targets_says_why_a_threshold_is_missing(benchmark):
    folder = run(benchmark, "--far", "0.001", "--no-figures", "--conditions", "clean_clean")
    report = (folder / "report.md").read_text()
    assert "No threshold for false alarm rate 0.1 %: a rate of 0.1 % needs at least 1,000 non-target trials" in report
