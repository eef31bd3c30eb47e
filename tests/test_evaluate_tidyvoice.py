"""evaluate_speaker.py tidyvoice: languages, back end, calibration, comparison, submission."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import evaluate_speaker
from earmark.metrics.detection import cllr, equal_error_rate, min_cllr, roc
from earmark.speaker.trial_files import read_trials
from tests.conftest import contents, visible
from tests.hub_files import LOG, check_logged, read_hub_files

LANGUAGES, SPEAKERS = ("de", "fr"), 10


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A labelled list across languages, unlabelled evaluation lists, a cohort, and embeddings of all utterances."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    offset = rng.normal(size=12)  # common to all embeddings; mean subtraction removes it
    languages = {language: 0.5 * rng.normal(size=12) for language in LANGUAGES}
    vectors = {}
    for group in ("spk", "other"):
        for s in range(SPEAKERS):
            centre = rng.normal(size=12)
            for language in LANGUAGES:
                for u in range(3):
                    noise = 0.6 * rng.normal(size=12)
                    vectors[f"{group}{s}/{language}/{u}.wav"] = centre + languages[language] + noise + 3 * offset
    np.savez("vectors.npz", **vectors)
    utterances = [name for name in vectors if name.startswith("spk")]
    pairs = [(a, b) for a, b in rng.choice(utterances, (600, 2)) if a != b]
    same = [a.split("/")[0] == b.split("/")[0] for a, b in pairs]
    (tmp_path / "dev.txt").write_text("".join(f"{int(y)} {a} {b}\n" for (a, b), y in zip(pairs, same, strict=True)))
    (tmp_path / "swapped.txt").write_text("".join(f"{int(y)} {b} {a}\n" for (a, b), y in zip(pairs, same, strict=True)))
    known = {frozenset(pair) for pair in pairs}
    calibration_pairs = [
        (a, b) for a, b in rng.choice(utterances, (2400, 2)) if a != b and frozenset((a, b)) not in known
    ]
    same = [a.split("/")[0] == b.split("/")[0] for a, b in calibration_pairs]
    (tmp_path / "cal.txt").write_text(
        "".join(f"{int(y)} {a} {b}\n" for (a, b), y in zip(calibration_pairs, same, strict=True))
    )
    (tmp_path / "A.txt").write_text("".join(f"{a}\t{b}\n" for a, b in pairs[:50]))
    (tmp_path / "U.txt").write_text("".join(f"{a} {b}\n" for a, b in pairs[50:80]))
    cohort = [name for name in vectors if name.startswith("other")]
    (tmp_path / "cohort").write_text("".join(f"{name} {name.split('/')[0]}\n" for name in cohort))
    return tmp_path, vectors


def run(*flags, command="tidyvoice", code=0, vectors="vectors.npz"):
    flags = ["--embeddings", vectors, "--bootstrap", "50", "--output-dir", "out", *map(str, flags)]
    assert evaluate_speaker.main([command, "--quiet", *flags]) == code
    folder = Path("out") if command == "trials" else Path("out") / Path(vectors).stem
    return None if code else json.loads((folder / "summary.json").read_text())


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_tidyvoice_reports_languages_and_baseline(data):
    summary = run("--trials", "dev.txt")
    languages = summary["languages"]
    assert [row["name"] for row in languages["conditions"]] == ["all", "same language", "different languages"]
    by_name = {row["name"]: row for row in languages["conditions"]}
    assert by_name["all"]["eer"]["value"] == pytest.approx(summary["metrics"]["eer"]["value"])
    assert by_name["different languages"]["eer"]["low"] is not None
    assert sum(row["n"] for row in languages["groups"]) == summary["n_trials"]
    assert languages["baseline"]["results"]["dev"] == {"eer": 0.0307, "min_dcf": 0.82}
    report = (data[0] / "out" / "vectors" / "report.md").read_text()
    assert "SimAM-ResNet34" in report
    assert "Error rates by same and different language" in report and "| target, different languages |" in report
    assert "| dev | 3.07 % | 0.820 |" in report


def test_as_norm_matches_direct_loop(data):
    folder, vectors = data
    summary = run("--trials", "dev.txt", "--subtract-mean", "cohort", "--cohort", "cohort", "--top-n", "5")
    assert summary["back_end"] == {
        "scores": "AS-norm of cosines", "mean": "cohort", "cohort_speakers": 10, "top_n": 5, "enrolment_models": 0,
        "calibration": None, "cohort_speakers_in_trials": 0,
    }  # fmt: skip
    names = [line.split()[0] for line in (folder / "cohort").read_text().splitlines()]
    mean = np.mean([vectors[name].astype(np.float32) for name in names], axis=0, dtype=float)
    speakers = sorted({name.split("/")[0] for name in names})
    cohort = [
        np.mean([unit(vectors[name].astype(np.float32) - mean) for name in names if name.startswith(f"{s}/")], axis=0)
        for s in speakers
    ]
    trials = read_trials(folder / "out" / "vectors" / "scores.csv.gz")
    for i in range(0, len(trials), 37):
        sides = [trials.names[trials.enrolment[i]], trials.names[trials.test[i]]]
        enrol, test = (unit(vectors[name].astype(np.float32) - mean) for name in sides)
        expected = 0.0
        for side in (enrol, test):
            top = np.sort([side @ unit(speaker) for speaker in cohort])[-5:]
            expected += ((enrol @ test) - top.mean()) / top.std() / 2
        assert trials.scores[i] == pytest.approx(expected, abs=1e-4)


def test_subtract_mean_lowers_eer(data):
    _, vectors = data
    raw = run("--trials", "dev.txt")["metrics"]["eer"]["value"]
    centred = run("--trials", "dev.txt", "--subtract-mean", "cohort", "--cohort", "cohort")
    assert centred["metrics"]["eer"]["value"] < raw
    np.save("mean.npy", np.mean(list(vectors.values()), axis=0))
    from_file = run("--trials", "dev.txt", "--subtract-mean", "mean.npy")
    assert from_file["back_end"]["mean"] == "mean.npy"
    assert from_file["metrics"]["eer"]["value"] < raw


def test_calibrate_lowers_cllr_and_keeps_eer(data):
    raw = run("--trials", "dev.txt")
    calibrated = run("--trials", "dev.txt", "--calibrate", "cal.txt")
    assert calibrated["metrics"]["eer"]["value"] == pytest.approx(raw["metrics"]["eer"]["value"])
    assert calibrated["metrics"]["cllr"]["value"] < raw["metrics"]["cllr"]["value"]
    # Fitted on other pairs than the evaluated ones; fitted on those, with 45 targets, the gap would be below 0.15.
    assert calibrated["metrics"]["cllr"]["value"] - calibrated["metrics"]["min_cllr"]["value"] < 0.2
    assert calibrated["back_end"]["calibration"]["scale"] > 0
    trials = read_trials(data[0] / "out" / "vectors" / "scores.csv.gz")
    assert cllr(trials.scores, trials.labels) == pytest.approx(calibrated["metrics"]["cllr"]["value"])
    assert min_cllr(trials.scores, trials.labels) == pytest.approx(calibrated["metrics"]["min_cllr"]["value"])


def test_calibrate_on_evaluated_pairs_is_refused(data, capsys):
    run("--trials", "dev.txt", "--calibrate", "swapped.txt", code=1)
    assert "swapped.txt: it contains half of the evaluated trials or more" in capsys.readouterr().err


def test_calibrate_counts_evaluated_pairs(data):
    lines = Path("cal.txt").read_text().splitlines() + Path("swapped.txt").read_text().splitlines()[:40]
    Path("some.txt").write_text("\n".join(lines) + "\n")
    back_end = run("--trials", "dev.txt", "--calibrate", "some.txt")["back_end"]
    pairs = {frozenset(line.split()[1:]) for line in lines[-40:]}
    assert back_end["calibration_pairs_in_trials"] == len(pairs)
    assert "pairs of the calibration list are also in the trials" in Path("out/vectors/report.md").read_text()


def test_compare_with_calibrated_system(data):
    for name in ("dev", "cal"):
        trials = read_trials(data[0] / f"{name}.txt")
        noise = np.random.default_rng(len(trials)).normal(size=len(trials))
        scores = 3 * trials.labels + noise
        rows = zip(trials.names[trials.enrolment], trials.names[trials.test], scores, strict=True)
        Path(f"other_{name}.txt").write_text("".join(f"{a} {b} {score}\n" for a, b, score in rows))
    flags = ["--trials", "dev.txt", "--calibrate", "cal.txt", "--compare-with", "other_dev.txt"]
    uncalibrated = run(*flags)["against"]
    assert [name for name, d in uncalibrated["differences"].items() if d["value"] is None] == ["act_dcf", "cllr"]
    assert (
        "--compare-with-calibration" in uncalibrated["differences"]["cllr"]["why"]
        and uncalibrated["p_values"]["cllr"] is None
    )
    calibrated = run(*flags, "--compare-with-calibration", "other_cal.txt")["against"]
    assert calibrated["calibration"]["scale"] > 0
    assert calibrated["differences"]["cllr"]["value"] is not None
    assert calibrated["metrics"]["cllr"]["value"] - calibrated["metrics"]["min_cllr"]["value"] < 0.15
    run("--trials", "dev.txt", "--compare-with", "other_dev.txt", "--compare-with-calibration", "other_cal.txt", code=2)


def test_cohort_speakers_in_trials_by_utterance_or_unknown(data):
    cohort = [line.split() for line in Path("cohort").read_text().splitlines()]
    Path("renamed").write_text("".join(f"{name} {speaker}\n" for name, speaker in [*cohort, ["spk0/de/0.wav", "ann"]]))
    back_end = run("--trials", "dev.txt", "--cohort", "renamed", "--top-n", "5")["back_end"]
    assert back_end["cohort_speakers_in_trials"] == 1, "under another name"
    lines = [line.split() for line in Path("dev.txt").read_text().splitlines()]
    flat = {name: name.replace("/", "_") for line in lines for name in line[1:]}
    Path("flat.txt").write_text("".join(f"{y} {flat[a]} {flat[b]}\n" for y, a, b in lines))
    vectors = {flat.get(name, name): vector for name, vector in data[1].items()}
    np.savez("flat.npz", **vectors)
    unknown = run("--trials", "flat.txt", "--cohort", "cohort", "--top-n", "5", command="trials", vectors="flat.npz")
    assert unknown["back_end"]["cohort_speakers_in_trials"] is None


def test_enrolments_average_unit_vectors(data):
    folder, vectors = data
    (folder / "spk2utt").write_text("".join(f"model{s} spk{s}/de/0.wav spk{s}/fr/0.wav\n" for s in range(SPEAKERS)))
    lines = [f"{int(s == t)} model{s} spk{t}/de/2.wav\n" for s in range(SPEAKERS) for t in range(SPEAKERS)]
    (folder / "models.txt").write_text("".join(lines))
    (folder / "speakers").write_text(
        "".join(f"model{s} {s}\n" for s in range(SPEAKERS)) + "".join(f"spk{s}/de/2.wav {s}\n" for s in range(SPEAKERS))
    )
    summary = run("--trials", "models.txt", "--enrolments", "spk2utt", "--speakers", "speakers", command="trials")
    assert (summary["back_end"]["enrolment_models"], summary["n_speakers"]) == (10, 10)
    assert {row["path"]: row["rows"] for row in summary["inputs"]} | {"vectors.npz": 0} == {
        "models.txt": 100, "vectors.npz": 0, "spk2utt": 10, "speakers": 20,
    }  # fmt: skip
    by_paths = run("--trials", "models.txt", "--enrolments", "spk2utt", command="trials")
    assert (by_paths["resampled"], by_paths["n_speakers"]) == ("speakers", 10)
    trials = read_trials(folder / "out" / "scores.csv.gz")
    for i in (0, 37, 99):
        model, test = trials.names[trials.enrolment[i]], trials.names[trials.test[i]]
        parts = [unit(vectors[f"spk{model[5:]}/{language}/0.wav"]) for language in LANGUAGES]
        assert trials.scores[i] == pytest.approx(unit(np.mean(parts, axis=0)) @ unit(vectors[test]), abs=1e-6)


def test_compare_with_reports_paired_differences(data):
    _, vectors = data
    rng = np.random.default_rng(1)
    np.savez("noisy.npz", **{name: vector + 2 * rng.normal(size=12) for name, vector in vectors.items()})
    run("--trials", "dev.txt", vectors="noisy.npz")
    other = data[0] / "out" / "noisy" / "scores.csv.gz"
    assert evaluate_speaker.main(
        ["tidyvoice", "--quiet", "--embeddings", "vectors.npz", "--trials", "dev.txt", "--compare-with", str(other),
         "--output-dir", "second", "--subtract-mean", "cohort", "--cohort", "cohort"]
    ) == 0  # fmt: skip
    summary = json.loads((data[0] / "second" / "vectors" / "summary.json").read_text())
    scores = read_trials(other)
    rate = equal_error_rate(roc(scores.scores, scores.labels)).rate
    against = summary["against"]
    assert against["metrics"]["eer"]["value"] == pytest.approx(rate)
    assert against["differences"]["eer"]["value"] == pytest.approx(summary["metrics"]["eer"]["value"] - rate)
    assert against["differences"]["eer"]["high"] < 0
    assert against["p_values"]["eer"] < 0.05


# --- submission ---------------------------------------------------------------------------------------------


def test_submission_is_written_and_valid(data, capsys):
    folder, vectors = data
    assert evaluate_speaker.main(
        ["tidyvoice", "--quiet", "--embeddings", "vectors.npz", "--eval-a", "A.txt", "--eval-u", "U.txt",
         "--output-dir", "out"]
    ) == 0  # fmt: skip
    path = folder / "out" / "vectors" / "submission.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["tv26_eval-A.txt", "tv26_eval-U.txt"]
        numbers = [float(line) for line in archive.read("tv26_eval-A.txt").decode().splitlines()]
    trials = read_trials(folder / "A.txt")
    assert len(numbers) == 50
    first, last = (unit(vectors[trials.names[side[-1]]]) for side in (trials.enrolment, trials.test))
    assert numbers[-1] == pytest.approx(first @ last, abs=1e-6)
    capsys.readouterr()
    assert evaluate_speaker.main(["check", str(path), "--eval-a", "A.txt", "--eval-u", "U.txt"]) == 0
    assert "valid TidyVoice submission" in capsys.readouterr().out
    assert evaluate_speaker.main(["check", str(path)]) == 1  # against the published sizes
    assert "has 50 lines, but the list has 4,000,000 trials" in capsys.readouterr().out


def test_submission_requires_all_scores(data, capsys):
    folder, vectors = data
    np.savez("few.npz", **{name: vector for name, vector in vectors.items() if not name.startswith("spk3/")})
    flags = ["--eval-a", "A.txt", "--eval-u", "U.txt", "--output-dir", "out", "--allow-missing"]
    assert evaluate_speaker.main(["tidyvoice", "--quiet", "--embeddings", "few.npz", *flags]) == 1
    assert "spk3/" in capsys.readouterr().err
    assert not list(folder.glob("out/**/submission.zip"))


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--eval-a", "A.txt"], 2, "both --eval-a FILE and --eval-u FILE"),
        ([], 2, "--trials FILE"),
        (["--trials", "dev.txt", "--subtract-mean", "cohort"], 2, "--subtract-mean cohort needs --cohort"),
        (["--trials", "dev.txt", "--subtract-mean", "nowhere.npy"], 2, "nowhere.npy does not exist"),
        (["--trials", "dev.txt", "--subtract-mean", "vectors.npz"], 1, "not a .npy file of one vector"),
        (["--trials", "A.txt"], 1, "has no labels"),
        (["--trials", "nowhere.txt"], 1, "nowhere.txt"),
    ],
)
def test_usage_errors(data, capsys, flags, code, message):
    run(*flags, code=code)
    assert message in capsys.readouterr().err


def test_cohort_with_trial_speakers_is_warned_about(data, capsys):
    folder, vectors = data
    names = [name for name in vectors if name.startswith("spk")]
    (folder / "own").write_text("".join(f"{name} {name.split('/')[0]}\n" for name in names))
    flags = ["--trials", "dev.txt", "--cohort", "own", "--embeddings", "vectors.npz", "--bootstrap", "0"]
    assert evaluate_speaker.main(["tidyvoice", *flags, "--output-dir", "out"]) == 0
    assert "10 speakers are both in the cohort and in the trials" in capsys.readouterr().err
    assert "10 speakers are both in the cohort and in the trials" in (folder / "out/vectors/report.md").read_text()


# --- runs by system -----------------------------------------------------------------------------------------


def submit(*flags):
    lists = ["--eval-a", "A.txt", "--eval-u", "U.txt"]
    argv = ["tidyvoice", "--quiet", "--embeddings", "vectors.npz", *lists, "--output-dir", "out", *flags]
    return evaluate_speaker.main(argv)


def test_submission_and_evaluation_are_both_saved(data):
    assert submit() == 0
    latest, saved = Path("out/vectors"), Path("out/runs/vectors/speaker/tidyvoice")
    packed = (latest / "submission.zip").read_bytes()
    assert visible(saved) == ["submission/submission.zip"]
    run("--trials", "dev.txt")
    assert "submission.zip" not in visible(latest), "it is from an earlier run"
    assert (saved / "submission/submission.zip").read_bytes() == packed
    assert submit("--trials", "dev.txt", "--no-intervals") == 0
    assert (latest / "submission.zip").read_bytes() == packed
    assert {"summary.json", "submission.zip", "scores.csv.gz"} <= set(visible(latest))
    assert set(visible(saved)) == {*visible(latest), "submission/submission.zip"}


def test_other_back_end_is_saved_as_another_system(data):
    run("--trials", "dev.txt")
    plain = contents(Path("out/runs/vectors"))
    run("--trials", "dev.txt", "--cohort", "cohort", "--top-n", "5")
    run("--trials", "dev.txt", "--cohort", "cohort", "--top-n", "6")
    assert contents(Path("out/runs/vectors")) == plain
    assert submit("--trials", "dev.txt", "--model-name", "Mine", "--no-intervals") == 0
    assert sorted(path.name for path in Path("out/runs").iterdir() if path.is_dir()) == [
        "Mine", "vectors", "vectors-2", "vectors-3",
    ]  # fmt: skip
    assert Path("out/Mine/submission.zip").is_file()


def test_missing_utterances_of_submission_lists_are_reported_first(data, capsys):
    Path("A.txt").write_text("spk0/de/0.wav gone/de/1.wav\n")
    Path("U.txt").write_text("spk0/de/0.wav gone/de/2.wav\n")
    assert submit("--allow-missing") == 1
    message = capsys.readouterr().err
    assert "A.txt: 1 missing:" in message and "U.txt: 1 missing:" in message
    assert "--allow-missing" not in message, "a submission has a score for every trial"


def test_dataset_id_writes_results_for_hubs(data, capsys):
    summary = run("--trials", "dev.txt", "--dataset-id", "org/tidyvoice@abc123")
    entries, mteb = read_hub_files(Path("out/vectors"))
    assert {name: entry["value"] for name, entry in entries.items()} == {
        f"tidyvoice.{metric}": summary["metrics"][metric]["value"] for metric in ("eer", "min_dcf")
    }
    assert (mteb["task_name"], mteb["dataset_revision"]) == ("tidyvoice", "abc123")
    run("--eval-a", "A.txt", "--eval-u", "U.txt", "--dataset-id", "org/tidyvoice", code=2)
    assert "--dataset-id needs --trials FILE" in capsys.readouterr().err


def test_log_sends_the_headline_numbers(data, logged, monkeypatch, capsys):
    run("--trials", "dev.txt", "--dataset-id", "org/tidyvoice", *LOG)
    check_logged(logged, Path("out/vectors"), name="vectors", suite="tidyvoice")
    run("--eval-a", "A.txt", "--eval-u", "U.txt", *LOG, code=2)
    assert "--log needs --trials FILE" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "wandb", None)
    run("--trials", "dev.txt", *LOG, code=2)
    assert "`uv run --extra wandb evaluate_speaker.py …`" in capsys.readouterr().err and len(logged) == 1


# --- kinds of trials, other sources of languages, keys ------------------------------------------------------


def test_four_kinds_stand_beside_the_published_baseline(data):
    summary = run("--trials", "dev.txt")
    (breakdown,) = summary["by_condition"]
    assert (breakdown["name"], breakdown["source"], breakdown["n_unknown"]) == ("language", "paths", 0)
    kinds = {(row["targets"], row["nontargets"]): row for row in breakdown["kinds"]}
    assert {key: row["published_eer"] for key, row in kinds.items()} == {
        ("all", "all"): 0.0307,
        ("same language", "same language"): 0.0297,
        ("same language", "different language"): 0.0088,
        ("different language", "same language"): 0.0519,
        ("different language", "different language"): 0.0179,
    }
    trials = read_trials(data[0] / "out" / "vectors" / "scores.csv.gz")
    language = np.array([name.split("/")[1] for name in trials.names])
    same = language[trials.enrolment] == language[trials.test]
    selected = np.where(trials.labels, ~same, same)
    expected = equal_error_rate(roc(trials.scores[selected], trials.labels[selected])).rate
    hardest, easiest = (
        kinds[key]["eer"]["value"]
        for key in (("different language", "same language"), ("same language", "different language"))
    )
    assert hardest == pytest.approx(expected)
    assert kinds[("all", "all")]["eer"] == summary["metrics"]["eer"]
    dependence = breakdown["dependence"]
    assert dependence["value"] == pytest.approx(hardest - easiest)
    assert dependence["low"] < dependence["value"] < dependence["high"]
    report = (data[0] / "out" / "vectors" / "report.md").read_text()
    assert "Kinds of trials by language" in report and "5.19 %" in report and "count-equalised" in report


@pytest.fixture
def anonymous(data):
    """The lists of `data` with names that tell nothing, and files that say what they stand for."""
    folder, vectors = data
    names = {name: f"u{number:04d}" for number, name in enumerate(vectors)}
    np.savez("anonymous.npz", **{f"{names[name]}.wav": vector for name, vector in vectors.items()})
    for file in ("dev.txt", "A.txt", "U.txt"):
        rows = [line.split() for line in (folder / file).read_text().splitlines()]
        pairs = [[names[cell] for cell in row[-2:]] for row in rows]
        (folder / f"anonymous_{file}").write_text("".join(f"{a}.wav\t{b}.wav\n" for a, b in pairs))
        speakers = [[cell.split("/")[0] for cell in row[-2:]] for row in rows]
        key = [
            f"{a} {b} {'target' if x == y else 'nontarget'}\n" for (a, b), (x, y) in zip(pairs, speakers, strict=True)
        ]
        (folder / f"key_{file}").write_text("".join(sorted(set(key))))
    (folder / "languages").write_text("".join(f"{short} {name.split('/')[1]}\n" for name, short in names.items()))
    (folder / "speakers").write_text("".join(f"{short} {name.split('/')[0]}\n" for name, short in names.items()))
    return folder


def test_anonymous_list_with_key_gives_the_same_results(anonymous):
    named = run("--trials", "dev.txt")
    flags = ["--key", "key_dev.txt", "--languages", "languages", "--speakers", "speakers"]
    hidden = run("--trials", "anonymous_dev.txt", *flags, vectors="anonymous.npz")
    assert hidden["metrics"] == named["metrics"]
    assert hidden["languages"]["conditions"] == named["languages"]["conditions"]
    ours, theirs = (summary["by_condition"][0] for summary in (named, hidden))
    assert ours["kinds"] == theirs["kinds"] and ours["dependence"] == theirs["dependence"]
    assert theirs["source"] == "languages"
    assert {"key_dev.txt", "languages", "speakers"} <= {each["path"] for each in hidden["inputs"]}


def test_list_without_languages_says_what_to_do(anonymous):
    summary = run("--trials", "anonymous_dev.txt", "--key", "key_dev.txt", vectors="anonymous.npz")
    assert "use --languages FILE" in summary["languages"]["why"]
    assert summary["by_condition"][0]["why"] == "the language of the utterances is unknown"
    assert summary["languages"]["groups"] == summary["by_condition"][0]["kinds"] == []


EVALUATION = ("--eval-a", "anonymous_A.txt", "--eval-u", "anonymous_U.txt")


def test_evaluation_lists_with_keys_are_ranked(anonymous):
    keys = ["--key-a", "key_A.txt", "--key-u", "key_U.txt", "--languages", "languages", "--speakers", "speakers"]
    flags = ["--quiet", "--embeddings", "anonymous.npz", "--output-dir", "out", *EVALUATION, *keys]
    assert evaluate_speaker.main(["tidyvoice", *flags]) == 0
    folder = Path("out/anonymous")
    result = json.loads((folder / "evaluation.json").read_text())
    with zipfile.ZipFile(folder / "submission.zip") as archive:
        scores = np.array(archive.read("tv26_eval-A.txt").split(), float)
    pairs = [line.split() for line in Path("A.txt").read_text().splitlines()]
    labels = np.array([a.split("/")[0] == b.split("/")[0] for a, b in pairs])
    value = result["lists"]["A"]["metrics"]["eer"]["value"]
    assert value == pytest.approx(equal_error_rate(roc(scores, labels)).rate)
    assert (result["lists"]["A"]["ranked"], result["lists"]["A"]["n_speakers"]) == (44, 10)
    assert 1 <= result["lists"]["A"]["rank"] <= 44
    report = (folder / "evaluation.md").read_text()
    assert "**anonymous**" in report and "T01" in report
    assert len((folder / "ranking.csv").read_text().splitlines()) == 45
    # The same submission is scored without the encoder.
    submission = ["--submission", str(folder / "submission.zip"), "--output-dir", "again"]
    assert evaluate_speaker.main(["tidyvoice", "--quiet", *EVALUATION, *keys, *submission]) == 0
    again = json.loads(Path("again/submission/evaluation.json").read_text())
    assert again["lists"] == result["lists"]
    assert not Path("again/submission/submission.zip").exists()


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--trials", "dev.txt", "--key-a", "key_A.txt"], 2, "need both --eval-a FILE and --eval-u FILE"),
        ([*EVALUATION, "--key-a", "absent.txt"], 1, "absent.txt"),
        ([*EVALUATION, "--key-a", "key_U.txt"], 1, "key_U.txt: lacks"),
        (["--trials", "anonymous_dev.txt"], 1, "has no labels"),
        (["--trials", "anonymous_dev.txt", "--key", "anonymous_dev.txt"], 1, "has no labels; a key has lines"),
        (["--trials", "dev.txt", "--condition", "gender"], 2, "needs --utterances FILE"),
    ],
)
def test_tidyvoice_names_what_is_missing(anonymous, capsys, flags, code, message):
    vectors = "vectors.npz" if "dev.txt" in flags else "anonymous.npz"
    run(*flags, vectors=vectors, code=code)
    assert message in capsys.readouterr().err
    assert not Path("out").exists() or not list(Path("out").rglob("*.json"))


def test_conditions_of_a_table_of_utterances(data):
    folder, vectors = data
    rng = np.random.default_rng(3)
    rows = [f"{name},{'f' if int(name.split('/')[0][-1]) % 2 else 'm'},{rng.uniform(1, 9):.2f}" for name in vectors]
    (folder / "table.csv").write_text("path,gender,duration\n" + "\n".join(rows) + "\n")
    flags = ["--trials", "dev.txt", "--utterances", "table.csv", "--condition", "duration", "gender"]
    summary = run(*flags, "--model-name", "My model", command="trials")
    duration, gender = summary["by_condition"]
    assert (duration["name"], gender["name"], gender["source"]) == ("duration", "gender", "table.csv")
    by_sides = {(row["targets"], row["nontargets"]): row for row in gender["kinds"]}
    assert by_sides["different gender", "same gender"]["eer"]["why"] == "no target trials"  # a speaker has one gender
    assert gender["dependence"]["value"] is None and "of different gender" in gender["dependence"]["why"]
    assert duration["dependence"]["low"] < duration["dependence"]["high"]
    assert {each["name"] for each in summary["design"]["predictors"]} >= {"gender", "duration", "folder"}
    report, tex = ((folder / "out" / name).read_text() for name in ("report.md", "report.tex"))
    assert "## Kinds of trials by gender" in report and "needs targets and non-targets of the same" in report
    assert "My model: operating points" in tex and "My model: speaker verification" in tex
    run(*flags, "age", code=2)


def test_list_that_language_decides_is_warned_about(data, capsys):
    folder, _ = data
    lines = (folder / "dev.txt").read_text().splitlines()

    def fits(line):
        label, *pair = line.split()
        first, second = (name.split("/")[1] for name in pair)
        return (label == "1") == (first == second)

    (folder / "decided.txt").write_text("\n".join(filter(fits, lines)) + "\n")
    assert evaluate_speaker.main(["tidyvoice", "--trials", "decided.txt", "--embeddings", "vectors.npz"]) == 0
    warning = "The list decides itself: language (same value) alone separates target from non-target trials"
    assert warning in capsys.readouterr().err
    assert warning in (folder / "benchmark_outputs/speaker/tidyvoice/vectors/report.md").read_text()
