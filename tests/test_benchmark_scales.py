"""benchmark.py on nominal, ordinal and interval labels and with several wordings, end to end."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import benchmark
import compare
from earmark.annotation.subset_files import to_toml
from earmark.annotation.subsets import Subset
from earmark.audio_text.scale_schema import ScaleBenchmarkSummary
from earmark.audio_text.scorers.sham import sham_similarity
from earmark.report.schema import read_summary
from sham_server import Faults, ShamServer, make_server
from tests.audio_text.scale_projects import (
    AROUSAL,
    CHOICE,
    WARMTH,
    simulated_choices,
    simulated_levels,
    simulated_numbers,
    write_project,
)
from tests.hub_files import LOG, check_logged, read_hub_files

NAMES = ("choice", "arousal", "warmth")


def run(root: Path, *flags: str) -> int:
    roots = ["--analysis-root", f"{root}/analysis_outputs", "--dataset-root", f"{root}/dataset"]
    return benchmark.main([*roots, "--output-dir", f"{root}/out", "--bootstrap", "50", "--quiet", *flags])


def summary(root: Path, name: str) -> dict[str, Any]:
    return json.loads((root / "out" / name / "summary.json").read_text(encoding="utf-8"))


def predictions(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(root / "out" / name / "predictions.csv", keep_default_na=False)


@contextmanager
def sham_endpoint() -> Iterator[str]:
    server = make_server("127.0.0.1", 0, Faults())
    assert isinstance(server, ShamServer)
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/similarity"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A subset on each scale."""
    rng = np.random.default_rng(0)
    write_project(tmp_path, CHOICE, simulated_choices(30, 4, rng))
    write_project(tmp_path, AROUSAL, simulated_numbers(30, 4, rng))
    return write_project(tmp_path, WARMTH, simulated_levels(20, 3, rng))


# --- each scale -------------------------------------------------------------------------------------------------


def test_nominal_subset_answers_with_the_highest_sham_similarity(project: Path, capsys):
    assert run(project, "--subset", "choice") == 0
    assert "# choice: sham" in capsys.readouterr().out
    table = predictions(project, "choice")
    for row in table.to_dict("records"):
        stem = f"choice/{Path(row['file']).stem}"
        by_class = {level: sham_similarity(stem, f"Speech that sounds {level}.") for level in CHOICE.levels}
        assert [row[f"similarity_{level}"] for level in CHOICE.levels] == pytest.approx(list(by_class.values()))
        assert row["predicted_class"] == max(by_class, key=lambda level: by_class[level])
        assert row["correct"] == int(row["predicted_class"] == row["reference_class"])
    found = summary(project, "choice")
    assert found["metrics"]["zero_shot_accuracy"]["value"] == pytest.approx(table["correct"].mean())
    assert found["signature"].split("|")[3] == "metric:zero_shot_accuracy"
    confusion = pd.read_csv(project / "out/choice/confusion.csv", keep_default_na=False)
    assert confusion["n"].sum() == len(table)


def test_interval_subset_correlates_sham_similarities(project: Path):
    assert run(project, "--subset", "arousal") == 0
    labels = pd.read_csv(project / "analysis_outputs/arousal/benchmark_labels.csv")
    sentence = AROUSAL.prompt["sentence"]
    similarities = [sham_similarity(f"arousal/{Path(file).stem}", sentence) for file in labels["file"]]
    found = summary(project, "arousal")
    expected = spearmanr(similarities, labels["mean_rating"])[0]
    assert found["metrics"]["mean_rating_spearman"]["value"] == pytest.approx(expected)
    assert predictions(project, "arousal")["similarity"].tolist() == pytest.approx(similarities)


def test_ordinal_subset_reports_each_sentence(project: Path):
    assert run(project, "--subset", "warmth") == 0
    table = pd.read_csv(project / "out/warmth/metrics_by_sentence.csv")
    assert table[["label", "sentence", "n"]].to_numpy().tolist() == [
        ["rough", "A rough voice.", 20],
        ["warm", "A warm voice.", 20],
    ]
    assert "mean_level" in predictions(project, "warmth")


@pytest.mark.parametrize("name", NAMES)
def test_server_and_sham_scorer_agree(project: Path, name: str):
    assert run(project, "--subset", name) == 0
    there = predictions(project, name)
    with sham_endpoint() as url:
        assert run(project, "--subset", name, "--endpoint", url) == 0
    pd.testing.assert_frame_equal(predictions(project, name), there)
    assert summary(project, name)["mode"] == "endpoint"
    assert not list((project / "out").rglob("journal.jsonl"))


@pytest.mark.parametrize("name", NAMES)
def test_run_is_kept_and_readable(project: Path, name: str):
    assert run(project, "--subset", name, "--dataset-id", "org/name") == 0
    saved = project / "out/runs/sham" / name
    assert read_summary(ScaleBenchmarkSummary, saved / "summary.json").subset == name
    files = {path.name for path in saved.iterdir() if path.name[0] != "."}
    assert {"predictions.csv", "report.md", "report.tex", "eval_results.yaml", "mteb_results.json"} <= files
    entries, mteb = read_hub_files(saved)
    metrics = summary(project, name)["metrics"]
    assert set(entries) == {f"{name}.{metric}" for metric in metrics}
    assert mteb["scores"]["test"][0]["main_score"] == next(iter(metrics.values()))["value"]


@pytest.mark.parametrize("name", NAMES)
def test_log_sends_the_headline_numbers(project: Path, name: str, logged):
    assert run(project, "--subset", name, "--dataset-id", "org/name", *LOG) == 0
    check_logged(logged, project / "out/runs/sham" / name, name="sham", suite=name)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_gives_same_bytes(project: Path, name: str):
    assert run(project, "--subset", name) == 0
    first = (
        (project / "out" / name / "report.md").read_bytes(),
        (project / "out" / name / "predictions.csv").read_bytes(),
    )
    assert run(project, "--subset", name) == 0
    assert first == (
        (project / "out" / name / "report.md").read_bytes(),
        (project / "out" / name / "predictions.csv").read_bytes(),
    )


@pytest.mark.slow
def test_pages_have_figures(project: Path):
    assert run(project, "--subset", "all", "--figures", "--by", "language", "--limit", "20") == 2  # no JSON files
    assert run(project, "--subset", "all", "--figures", "--limit", "20") == 0
    assert {p.name for p in (project / "out/choice/figures").glob("*.svg")} == {"raters.svg", "confusion.svg"}
    assert {p.name for p in (project / "out/arousal/figures").glob("*.svg")} == {"raters.svg", "mean_rating.svg"}
    assert "by_sentence.svg" in {p.name for p in (project / "out/warmth/figures").glob("*.svg")}
    assert all((project / "out" / name / "report.html").is_file() for name in NAMES)
    assert [summary(project, name)["items_total"] for name in NAMES] == [20, 20, 20]


def test_by_slices_scores(project: Path):
    for path in (project / "dataset/arousal").glob("*.wav"):
        path.with_suffix(".json").write_text(json.dumps({"language": "de" if path.stem < "clip_015" else "en"}))
    assert run(project, "--subset", "arousal", "--by", "language") == 0
    table = pd.read_csv(project / "out/arousal/metrics_by_language.csv")
    assert table[["language", "n"]].to_numpy().tolist() == [["de", 15], ["en", 15]]


def test_missing_clip_fails_its_item_alone(project: Path, capsys):
    (project / "dataset/choice/clip_003.wav").unlink()
    assert run(project, "--subset", "choice") == 1
    table = predictions(project, "choice").set_index("file")
    assert table.loc["clip_003.wav", "predicted_class"] == ""
    assert summary(project, "choice")["missing_audio"] == 1
    assert run(project, "--subset", "choice", "--allow-missing") == 0


# --- which subset, which sentence, which clips ----------------------------------------------------------------


def test_unknown_subset_lists_known_ones(project: Path, capsys):
    assert run(project, "--subset", "arousel") == 2
    error = capsys.readouterr().err
    assert "--subset arousel: no such subset. Known: arousal, choice, emolia-dim, emolia-emo, warmth." in error


def test_all_adds_described_subsets(project: Path):
    assert run(project, "--subset", "all") == 0
    assert {path.name for path in (project / "out").iterdir() if path.is_dir()} == {*NAMES, "runs"}


def test_subset_file_describes_a_subset(project: Path, capsys):
    described = project / "own.toml"
    (project / "analysis_outputs/arousal/subset.toml").unlink()
    assert run(project, "--subset", "arousal") == 2
    described.write_text(to_toml([AROUSAL]))
    assert run(project, "--subset-file", str(described)) == 0
    assert summary(project, "arousal")["scale"] == "interval"
    described.write_text('[arousal]\nscale = "interval"\nkeys = ["file"]\n')
    capsys.readouterr()
    assert run(project, "--subset-file", str(described)) == 1
    assert "did you mean key?" in capsys.readouterr().err


def test_subset_without_sentence_names_what_to_add(project: Path, capsys):
    bare = Subset("arousal", "interval", ("file",))
    (project / "analysis_outputs/arousal/subset.toml").write_text(to_toml([bare]))
    assert run(project, "--subset", "arousal") == 2
    error = capsys.readouterr().err
    assert '--prompt "Speech of a highly aroused speaker."' in error
    assert 'prompt = { sentence = "' in error
    assert run(project, "--subset", "arousal", "--prompt", "An excited voice.") == 0
    assert set(predictions(project, "arousal")["prompt"]) == {"An excited voice."}


@pytest.mark.parametrize(
    ("name", "flags", "problem"),
    [
        ("arousal", ["--clip", "../arousal/{file}"], "clips lie below dataset/arousal/"),
        ("arousal", ["--clip", "/clips/{file}"], "clips lie below dataset/arousal/"),
        ("choice", ["--protocol", "voicenet"], "--protocol voicenet has no meaning for choice"),
        ("arousal", ["--protocol", "voicenet"], "this is an interval scale"),
        ("choice", ["--prompt", "A voice."], "needs {label} in the sentence"),
        ("arousal", ["--prompt", "A {label} voice."], "needs label = the column"),
        ("arousal", ["--prompt", "A { voice."], "--prompt 'A { voice.' for arousal"),
        ("arousal", ["--clip", "{speaker}/{file}"], "'speaker' is neither in key nor in carried"),
        ("arousal", ["--labels", "soft"], "--labels soft has no meaning"),
        ("choice", ["--threshold", "0.2"], "--threshold has no meaning for choice"),
    ],
)
def test_flags_that_do_not_fit_the_subset(project: Path, capsys, name: str, flags: list[str], problem: str):
    assert run(project, "--subset", name, *flags) == 2
    assert problem in capsys.readouterr().err
    assert not (project / "out").exists()


def test_prompt_and_prompts_together_are_wrong_usage(project: Path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(project, "--subset", "choice", "--prompt", "A {label} voice.", "--prompts", "wordings.csv")
    assert stopped.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_filters_that_leave_nothing_give_undefined_scores(project: Path, capsys, name: str):
    assert run(project, "--subset", name, "--min-raters", "9") == 0
    assert "0 of 0 items were scored" in capsys.readouterr().out
    found = summary(project, name)
    assert found["items_total"] == 0
    assert {estimate["value"] for estimate in found["metrics"].values()} == {None}


@pytest.mark.parametrize("name", NAMES)
def test_ratings_of_another_run_write_nothing(project: Path, capsys, name: str):
    path = project / "analysis_outputs" / name / "leave_one_out.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], *lines[2:]]), encoding="utf-8")
    assert run(project, "--subset", name) == 1
    assert "the files are of different runs" in capsys.readouterr().err
    assert not (project / "out" / name / "summary.json").exists()
    table = pd.read_csv(io.StringIO("\n".join(lines)))
    column = "level" if name == "warmth" else "rating"
    value = table.at[0, column]
    other = {"choice": "Joy" if value != "Joy" else "Fear", "warmth": 1 if value != 1 else 3, "arousal": 77.0}[name]
    table[column] = [other, *table[column][1:]]
    table.to_csv(path, index=False)
    assert run(project, "--subset", name) == 1
    assert "has ratings other than those behind benchmark_labels.csv" in capsys.readouterr().err
    path.write_text("\n".join(lines[:1] + lines[5:]), encoding="utf-8")  # no rating of the first items is left
    assert run(project, "--subset", name) == 1
    assert "different runs" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_pairs_of_raters_and_new_raters_are_reported(project: Path, name: str):
    assert run(project, "--subset", name) == 0
    clips, report = summary(project, name), (project / "out" / name / "report.md").read_text(encoding="utf-8")
    assert clips["resample"] == "clips"
    assert clips["pairwise"].keys() == clips["equal_footing"].keys()
    assert "\n\n| score | model against a rater [95 % CI] | rater against another rater [95 % CI] |" in report
    assert run(project, "--subset", name, "--resample", "both") == 0
    both = summary(project, name)
    assert both["resample"] == "both"
    for key in ("equal_footing", "pairwise"):
        for score, parity in both[key].items():
            assert parity["model"]["value"] == clips[key][score]["model"]["value"]
            assert "raters" in parity["person"].get("note", parity["person"].get("why", ""))
    assert both["metrics"] == clips["metrics"]


def test_subset_without_clips_names_what_to_change(project: Path, capsys):
    (project / "dataset/arousal").rename(project / "dataset/elsewhere")
    assert run(project, "--subset", "arousal") == 2
    error = capsys.readouterr().err
    assert "holds none of the 30 clips of arousal, such as clip_000.wav" in error
    assert "--clip PATTERN (now {file})" in error


def test_clip_pattern_finds_clips(project: Path):
    folder = project / "dataset/arousal"
    (folder / "deep").mkdir()
    for path in folder.glob("*.wav"):
        path.rename(folder / "deep" / f"take-{path.name}")
    assert run(project, "--subset", "arousal", "--clip", "deep/take-{file}") == 0
    assert predictions(project, "arousal")["audio_path"][0] == "arousal/deep/take-clip_000.wav"


# --- several wordings -------------------------------------------------------------------------------------------


def test_wordings_of_a_binary_subset_average_similarities(tmp_path: Path):
    path = tmp_path / "wordings.csv"
    path.write_text("label,sentence\n,A voice of {label}.\n,The speaker feels {label}.\n")
    flags = ["--subset", "emolia-emo", "--quiet", "--output-dir", str(tmp_path / "out"), "--bootstrap", "20"]
    assert benchmark.main([*flags, "--prompts", str(path)]) == 0
    table = predictions(tmp_path, "emolia-emo")
    for row in table.to_dict("records"):
        label = row["queried_emotion"].replace("___", " / ").replace("_", " ")
        sentences = [f"A voice of {label}.", f"The speaker feels {label}."]
        each = [sham_similarity(Path(row["audio_path"]).stem, sentence) for sentence in sentences]
        assert [row["similarity_wording_1"], row["similarity_wording_2"]] == pytest.approx(each)
        assert row["similarity"] == pytest.approx(np.mean(each))
        assert row["prompt"] == sentences[0]
    found = summary(tmp_path, "emolia-emo")["wordings"]
    assert (found["file"], found["count"], found["fewer"]) == ("wordings.csv", 2, {})
    areas = [row["scores"]["roc_auc"]["value"] for row in found["scores"]]
    spread = found["spread"]["roc_auc"]
    assert (spread["low"], spread["high"]) == (min(areas), max(areas))
    assert (spread["mean"], spread["sd"]) == pytest.approx((np.mean(areas), np.std(areas, ddof=1)))
    overall = summary(tmp_path, "emolia-emo")["overall"]["roc_auc"]["value"]
    assert found["mean_similarity"]["roc_auc"]["value"] == pytest.approx(overall)


@pytest.mark.slow
def test_one_wording_equals_the_sentence_of_the_subset(tmp_path: Path):
    path = tmp_path / "wordings.csv"
    path.write_text("sentence\nSpeech audio in which the speaker expresses or conveys {label}.\n")
    flags = ["--subset", "emolia-emo", "--quiet", "--bootstrap", "20"]
    assert benchmark.main([*flags, "--output-dir", str(tmp_path / "out")]) == 0
    assert benchmark.main([*flags, "--output-dir", str(tmp_path / "two/out"), "--prompts", str(path)]) == 0
    assert summary(tmp_path, "emolia-emo")["overall"] == summary(tmp_path / "two", "emolia-emo")["overall"]


def test_wordings_of_classes(project: Path, capsys):
    path = project / "wordings.csv"
    path.write_text("label,sentence\nAnger,Angry.\nAnger,Shouting.\nJoy,Happy.\nFear,Afraid.\nFear,Trembling.\n")
    assert run(project, "--subset", "choice", "--prompts", str(path)) == 0
    found = summary(project, "choice")["wordings"]
    assert (found["count"], found["fewer"]) == (2, {"Joy": 1})
    row = predictions(project, "choice").iloc[0]
    stem = f"choice/{Path(row['file']).stem}"
    assert row["similarity_Anger"] == pytest.approx(
        (sham_similarity(stem, "Angry.") + sham_similarity(stem, "Shouting.")) / 2
    )
    assert row["similarity_Joy"] == pytest.approx(sham_similarity(stem, "Happy."))
    assert "Labels with fewer than 2 sentences: Joy (1)." in capsys.readouterr().out


def test_wordings_of_one_sentence(project: Path):
    path = project / "wordings.toml"
    path.write_text('sentences = ["Excited.", "Aroused.", "Loud."]\n')
    assert run(project, "--subset", "arousal", "--prompts", str(path)) == 0
    labels = pd.read_csv(project / "analysis_outputs/arousal/benchmark_labels.csv")
    found = summary(project, "arousal")["wordings"]
    for row, sentence in zip(found["scores"], ["Excited.", "Aroused.", "Loud."], strict=True):
        own = [sham_similarity(f"arousal/{Path(file).stem}", sentence) for file in labels["file"]]
        assert row["sentence"] == sentence
        assert row["scores"]["mean_rating_spearman"]["value"] == pytest.approx(spearmanr(own, labels["mean_rating"])[0])


def test_wordings_with_faults_write_nothing(project: Path, capsys):
    path = project / "wordings.csv"
    path.write_text("label,sentence\nHope,Hopeful.\n")
    assert run(project, "--subset", "choice", "--prompts", str(path)) == 1
    assert "'Hope' is not a label of the subset" in capsys.readouterr().err
    assert not (project / "out").exists()


def test_wordings_are_each_sent_once(project: Path):
    path = project / "wordings.toml"
    path.write_text('sentences = ["Excited.", "Aroused."]\n')
    with sham_endpoint() as url:
        assert run(project, "--subset", "arousal", "--prompts", str(path), "--endpoint", url) == 0
    assert summary(project, "arousal")["scorer"]["replies"] == 60


# --- comparison -------------------------------------------------------------------------------------------------


def two_models(project: Path, name: str, *flags: str) -> list[str]:
    """Results of two models, which differ in their sentences; the names of their folders."""
    sentences = ["Speech that sounds {label}.", "{label}."] if name == "choice" else ["A voice.", "Loud speech."]
    for model, sentence in zip("ab", sentences, strict=True):
        assert run(project, "--subset", name, "--prompt", sentence, "--name", model, *flags) == 0
    return [str(project / f"out/runs/{model}/{name}") for model in "ab"]


def compared(project: Path, *words: str) -> dict[str, Any]:
    out = project / "compared"
    assert compare.main([*words, "--names", "a", "b", "--output-dir", str(out), "--bootstrap", "50", "--quiet"]) == 0
    return json.loads((out / "a-vs-b/summary.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("choice", "zero_shot_accuracy"),
        ("arousal", "mean_rating_spearman"),
        ("warmth", "mean_rating_pearson"),
    ],
)
def test_compare_gives_paired_differences(project: Path, name: str, metric: str):
    folders = two_models(project, name)
    values = [json.loads((Path(f) / "summary.json").read_text())["metrics"][metric]["value"] for f in folders]
    rows = {row["metric"]: row for row in compared(project, *folders)["comparisons"]}
    assert (rows[metric]["reference_value"], rows[metric]["value"]) == pytest.approx(tuple(values))
    assert rows[metric]["difference"]["value"] == pytest.approx(values[1] - values[0])
    assert 0 < rows[metric]["p"] <= 1


@pytest.mark.slow
def test_compare_counts_different_answers(project: Path):
    folders = two_models(project, "choice")
    tables = [pd.read_csv(Path(f) / "predictions.csv", keep_default_na=False) for f in folders]
    different = int((tables[0]["predicted_class"] != tables[1]["predicted_class"]).sum())
    assert compared(project, *folders)["flips"] == different > 0


@pytest.mark.slow
def test_compare_notes_other_sentences(project: Path):
    notes = compared(project, *two_models(project, "arousal"))["notes"]
    assert notes == [
        "the results were scored with different sentences: a --prompt 'A voice.', b --prompt 'Loud speech.'"
    ]
    same = two_models(project, "arousal")[0]
    assert compared(project, same, same)["notes"] == []


@pytest.mark.slow
def test_compare_soft_labels_by_accuracy(project: Path):
    folders = two_models(project, "choice", "--labels", "soft")
    assert [row["metric"] for row in compared(project, *folders)["comparisons"]] == ["zero_shot_accuracy"]


@pytest.mark.slow
def test_compare_refuses_other_items_and_labels(project: Path, capsys):
    first, second = two_models(project, "choice")
    assert run(project, "--subset", "choice", "--name", "b", "--prompt", "{label}.", "--limit", "5") == 0
    words = [first, second, "--names", "a", "b", "--output-dir", str(project / "compared"), "--quiet"]
    assert compare.main(words) == 1
    assert "The results hold different items" in capsys.readouterr().err
    assert compared(project, first, second, "--common")["n_items"] == 5
    assert run(project, "--subset", "choice", "--name", "b", "--prompt", "{label}.", "--labels", "soft") == 0
    assert compare.main(words) == 1
    assert "evaluated on different labels (a: majority, b: soft)" in capsys.readouterr().err
