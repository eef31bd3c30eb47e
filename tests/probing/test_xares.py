"""The table of tasks and the published scores: consistency, recomputed averages."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from earmark.probing.evaluation import METRICS
from earmark.probing.task_types import metrics_by_type
from earmark.probing.tasks import Task
from earmark.probing.xares import (
    SOURCES,
    differences_from_published,
    published_averages,
    published_scores,
    published_tasks,
    published_test_clips,
    rerun_differences,
    weighted_average,
)

ENCODERS = ("dasheng", "wav2vec2", "whisper", "data2vec")
HALF_A_DIGIT = 0.0005 + 1e-9  # rounding of three decimals


def test_published_tasks_complete():
    by_suite = {suite: [t for t in published_tasks().values() if t.suite == suite] for suite in ("xares", "icme2025")}
    assert (len(by_suite["xares"]), len(by_suite["icme2025"])) == (27, 3)
    assert {t.name for t in by_suite["icme2025"]} == {"speechocean762", "librispeechphoneme", "nsynthpitch"}
    assert sum(t.select_on_test for t in by_suite["xares"]) == 14
    assert {t.name for t in published_tasks().values() if t.private} == {
        "finger_snap",
        "inside_outside_car",
        "key_scratching",
        "liveenv",
        "subway_broadcast",
    }


@pytest.mark.parametrize("task", published_tasks().values(), ids=lambda task: task.name)
def test_published_tasks_consistent(task: Task):
    assert task.metric in metrics_by_type()[task.type]
    assert bool(task.splits) != bool(task.folds)
    assert bool(task.zenodo) != (task.private or task.name in ("librispeechphoneme", "speechcommandsv2"))
    assert (task.segment_seconds is not None) == task.metric.startswith("segment_f1")
    assert task.epochs > 0 and task.batch_size > 0 and 0 < task.learning_rate < 1
    assert all(glob.endswith(".tar") for glob in task.patterns.values())
    assert len(set(task.patterns.values())) == (1 if task.trains_on_test else len(task.patterns))


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("cremad", {s: f"wds-audio-{s}*.tar" for s in ("train", "valid", "test")}),
        ("desed", {"train": "wds-audio-train*.tar", "test": "wds-audio-eval*.tar"}),
        ("gtzan_genre", {str(i): f"gtzan_fold_{i}_0000000.tar" for i in range(10)}),
        ("urbansound8k", {str(i): f"urbansound_fold{i}_0000000.tar" for i in range(1, 11)}),
        ("libricount", {str(i): f"libricount_fold0{i}.tar" for i in range(5)}),
        ("vocalimitations", {str(i): f"vocal_imitations_fold0{i}_0000000.tar" for i in range(3)}),
    ],
)
def test_published_tasks_file_patterns(name, patterns):
    assert published_tasks()[name].patterns == patterns


def test_clotho_test_split_is_named_validation():
    assert published_tasks()["clotho"].patterns["test"] == "clotho_validation*.tar"


@pytest.mark.parametrize(
    ("source", "linear", "knn"),
    [("xares_full", 26, 20), ("xares_0.1.3", 1, 0), ("xares_early", 21, 16), ("icme2025", 16, 15)],
)
def test_published_scores_of_known_tasks(source, linear, knn):
    published = published_scores(source)
    for track, n in (("linear", linear), ("knn", knn)):
        assert {encoder for t, _, encoder in published if t == track} == (set(ENCODERS) if n else set())
        listed = {name for t, name, _ in published if t == track}
        assert len(listed) == n and listed <= published_tasks().keys()
        assert track == "linear" or all(published_tasks()[name].knn for name in listed)
    assert all(0 <= row.score <= 1 for row in published.values())


def test_published_scores_use_our_task_names():
    early = published_scores("xares_early")
    assert early["linear", "desed", "dasheng"].score == 0.532  # "desde" there
    assert early["linear", "vocalimitations", "data2vec"].score == 0.112  # "vocalimiations"
    assert early["linear", "librispeech", "data2vec"].score == 0.860
    assert not early["linear", "librispeech", "data2vec"].mini and early["linear", "voxceleb1", "dasheng"].mini
    assert (
        published_scores("icme2025")["linear", "librispeechmalefemale", "whisper"].score == 0.877
    )  # no space before (mini)


def scored(source: str, track: str, encoder: str) -> list[tuple[Task, float]]:
    return [
        (published_tasks()[n], row.score)
        for (t, n, e), row in published_scores(source).items()
        if (t, e) == (track, encoder)
    ]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(
    ("track", "average", "within"),
    [
        ("linear", "average_public", HALF_A_DIGIT),
        ("knn", "average_public", HALF_A_DIGIT),
        ("knn", "average_all", HALF_A_DIGIT),
        ("linear", "average_all", 0.0045),  # published value is higher than with the table's weights
    ],
)
def test_published_averages_match_weighted_scores(track, average, within, encoder):
    ours = weighted_average(scored("xares_full", track, encoder), private=average == "average_all")
    theirs = published_averages()[track, average, encoder]
    # Each score is rounded too, which can shift the mean by the same amount.
    assert ours == pytest.approx(theirs, abs=within + HALF_A_DIGIT)


@pytest.mark.parametrize("track", ["linear", "knn"])
@pytest.mark.parametrize("source", ["xares_early", "icme2025"])
def test_older_published_averages_use_other_weights(source, track):
    rows = [scored(source, track, encoder) for encoder in ENCODERS]
    weights = np.array([task.weight for task, _ in rows[0]])
    scores = np.array([[score for _, score in row] for row in rows])
    published = np.array([published_averages(source)[track, "average_public", e] for e in ENCODERS])
    whole = np.abs(scores @ weights / weights.sum() - published).max()
    assert 0.03 < whole < 0.085
    for out in itertools.combinations(range(len(weights)), 2):
        kept = np.delete(weights, out)
        assert np.abs(np.delete(scores, out, axis=1) @ kept / kept.sum() - published).max() > 0.01


def test_weighted_average_excludes_private_tasks_and_errors():
    known = published_tasks()
    scores = [(known["esc50"], 0.9), (known["gtzan_genre"], 0.4), (known["finger_snap"], 0.1)]
    assert weighted_average(scores) == pytest.approx(0.8)
    assert weighted_average(scores, private=True) == pytest.approx((400 * 0.9 + 100 * 0.4 + 5000 * 0.1) / 5500)
    assert weighted_average([*scores, (known["speechocean762"], 99.0)]) == pytest.approx(0.8)
    assert METRICS[known["speechocean762"].metric].lower_is_better
    assert np.isnan(weighted_average([(known["nsynthpitch"], 0.5)]))  # weight 0
    assert np.isnan(weighted_average([]))


def test_published_scores_rejects_unknown_source():
    with pytest.raises(KeyError, match=f"'mine' is not one of {', '.join(SOURCES)}"):
        published_scores("mine")


def test_rerun_differences_of_known_scores():
    """NSynth with Dasheng: 0.688, then 2,307 of 4,096; k-NN of FMA with Whisper: 0.406, then 369 of 875."""
    assert rerun_differences("linear").largest == pytest.approx(0.688 - 2307 / 4096, abs=1e-6)
    assert rerun_differences("knn").largest == pytest.approx(369 / 875 - 0.406, abs=1e-6)


@pytest.mark.parametrize("track", ["linear", "knn"])
@pytest.mark.parametrize(
    "task",
    ["cremad", "esc50", "fluentspeechcommands", "fsdkaggle2018", "libricount", "nsynthinstument", "ravdess",
     "speechcommandsv1", "vocalimitations", "vocalsound", "voxlingua33"],
)  # fmt: skip
def test_published_test_clips_explain_the_scores_of_the_rerun(task, track):
    """Accuracies are whole numbers of clips, so that each is a multiple of 1 / n (six decimals are given)."""
    n = published_test_clips()[task].n
    scores = [row.score for (of, name, _), row in published_scores("rerun").items() if (of, name) == (track, task)]
    assert len(scores) == (2 if published_tasks()[task].knn or track == "linear" else 0)
    assert [abs(round(score * n) / n - score) <= 5.1e-7 for score in scores] == [True] * len(scores)


def test_published_test_clips_of_gtzan_are_nine_folds_of_100_and_one_of_99():
    tenfold = [10 * row.score for (_, name, _), row in published_scores("rerun").items() if name == "gtzan_genre"]
    steps = np.array([k / 99 for k in range(100)])
    rest = (np.array(tenfold)[:, None] - steps) * 100
    assert len(tenfold) == 4 and (np.abs(rest - rest.round()).min(axis=1) < 5.1e-4).all()
    assert published_test_clips()["gtzan_genre"].n == 9 * 100 + 99


@pytest.mark.parametrize(
    ("track", "n", "means"), [("classification", 15, (0.614, 0.652)), ("understanding", 5, (0.268, 0.435))]
)
def test_interspeech_2026_overall_is_the_unweighted_mean(track, n, means):
    """The published 0.40 of Whisper on understanding is not the mean of its five scores, 0.435."""
    rows = published_scores("interspeech2026")
    for encoder, mean in zip(("dasheng-base", "whisper-base"), means, strict=True):
        scores = {name: row.score for (t, name, e), row in rows.items() if (t, e) == (track, encoder)}
        overall = scores.pop("overall")
        assert len(scores) == n and np.mean(list(scores.values())) == pytest.approx(mean, abs=5e-4)
        assert (abs(overall - mean) < 6e-3) == ((track, encoder) != ("understanding", "whisper-base"))


CREMAD_SPLITS = ["train"] * 5000 + ["valid"] * 700 + ["test"] * 1116


@pytest.mark.parametrize(
    ("name", "n_classes", "parts", "folds", "message"),
    [
        ("cremad", 6, CREMAD_SPLITS, False, ""),
        ("cremad", 5, CREMAD_SPLITS, False, "5 of 6 classes"),
        ("cremad", 7, CREMAD_SPLITS, False, "7 classes, published: 6"),
        ("cremad", 6, ["train", "test"] * 3000, False, "no valid split"),
        ("cremad", 6, ["1", "2"] * 3000, True, "folds instead of splits"),
        (
            "cremad",
            6,
            ["train", "valid", *["test"] * 557],
            False,
            "557 test clips, published: 1,116",
        ),
        ("cremad", 6, ["train", "valid", *["test"] * 1115], False, ""),
        ("cremad", 6, ["train", "valid", *["test"] * 1114], False, "1,114 test clips, published: 1,116"),
        ("esc50", 50, list("12345") * 400, True, ""),
        ("esc50", 50, list("abcde") * 400, True, ""),
        ("esc50", 50, list("1234") * 400, True, "4 of 5 folds"),
        ("esc50", 50, ["train", "test"] * 1000, False, "splits instead of 5 folds"),
        ("esc50", 50, list("12345") * 40, True, "200 test clips, published: 2,000"),
        ("desed", 10, ["train", "test"] * 1000, False, ""),
        ("desed", 10, ["train", "valid", "test"] * 1000, False, "a valid split, which the published data do not have"),
        ("librispeech", 0, ["train", "valid", "test"] * 1310, False, ""),
        ("librispeech", 0, ["train", "valid", "test"] * 100, False, "100 test clips, published: about 2,620 or more"),
        ("gtzan_genre", 10, [str(i // 100) for i in range(1000)], True, ""),
        (
            "speechcommandsv1",
            35,
            ["train", "valid", *["test"] * 11005],
            False,
            "35 classes, published: 30, 11,005 test",
        ),
        ("speechcommandsv2", 12, ["train", "test"], False, ""),
        ("nsynthpitch", 112, ["train", "valid", "test"], False, ""),
    ],
)
def test_differences_from_published(name, n_classes, parts, folds, message):
    published = differences_from_published(
        published_tasks()[name], [str(i) for i in range(n_classes)], parts, folds=folds
    )
    assert published.startswith(message) and bool(published) == bool(message)
    if published or name == "gtzan_genre":
        with_reason = differences_from_published(
            published_tasks()[name], [str(i) for i in range(n_classes)], parts, folds=folds, own_split="own folds"
        )
        assert with_reason == ", ".join(filter(None, ("own folds", published)))
    mine = replace(published_tasks()[name], home=Path("here"))
    assert differences_from_published(mine, ["a"], parts, folds=folds) == ""
