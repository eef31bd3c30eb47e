"""Probing a task: no leakage from test clips, crops and layers, reproducible seeds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

pytest.importorskip("torch", reason="the extra `torch` is not installed")

from earmark.embeddings.cache import EmbeddingCache
from earmark.errors import EarmarkError
from earmark.models.encoders.output import EmbeddingRequest
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.models.encoders.registry import load_encoder
from earmark.probing.data import TaskData
from earmark.probing.evaluation import OF_CLASSES
from earmark.probing.features import ClipEmbedder
from earmark.probing.heads.knn import K_CANDIDATES
from earmark.probing.heads.linear import Fold, HeadConfig, train_heads
from earmark.probing.heads.selection import selection_metric
from earmark.probing.options import ProbeSettings
from earmark.probing.probe import drop_clips, probe
from earmark.probing.schema import leading_scores
from earmark.probing.splits import few_shot_folds, strict_folds
from earmark.probing.task_types import task_type
from earmark.probing.tasks import Task
from earmark.probing.tracks import LEARNING_RATES
from earmark.probing.xares import published_tasks
from tests.models.encoders.sources import XARES, clips, layered, save

N, WIDTH, CLASSES = 48, 6, 3
BOTH = [("linear", "xares"), ("linear", "strict"), ("knn", "xares"), ("knn", "strict")]
SETTINGS = ProbeSettings(seeds=2, replicates=20)
TASK = Task("mine", "mine", "yours", "", "clip", "accuracy", epochs=6, learning_rate=3e-2, batch_size=8, knn=True)


def embeddings(noise=1.5, seed=0):
    """Overlapping embeddings of three classes, by clip name."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(CLASSES, WIDTH))[np.arange(N) % CLASSES] + noise * rng.normal(size=(N, WIDTH))
    rows = {f"{i}.wav": i for i in range(N)}
    return PrecomputedEmbeddings("mine", f"mine-{seed}", {}, WIDTH, rows, x.astype(np.float32))


def clips_in(parts, labels=None, folds=False, classes=CLASSES):
    column = np.array(parts, dtype=str)
    labels = np.arange(len(parts)) % classes if labels is None else labels
    names = [f"c{i}" for i in range(classes)]
    paths = [Path(f"{i}.wav") for i in range(len(parts))]
    return TaskData(paths, labels, names, None if folds else column, column if folds else None, [p.name for p in paths])


SPLITS = ["train"] * 30 + ["valid"] * 6 + ["test"] * 12
LAYOUTS = {
    "splits": clips_in(SPLITS),
    "no valid": clips_in(["train"] * 36 + ["test"] * 12),
    "2 folds": clips_in([i // 3 % 2 for i in range(N)], folds=True),
    "4 folds": clips_in([i // 3 % 4 for i in range(N)], folds=True),
}


def probed(tmp_path, data, task=TASK, encoder=None, settings=SETTINGS):
    encoder = embeddings() if encoder is None else encoder
    embedder = ClipEmbedder(encoder, EmbeddingCache(tmp_path / "store"), batch_size=4)
    return probe(task, data, embedder, settings, data_root=tmp_path)


def predictions_of(result, place, fold=None):
    """Predictions of the heads, for all clips or for one fold."""
    table = result.predictions[place]
    table = table if fold is None else table[table["fold"].astype(str) == str(fold)]
    return table.filter(like="said_")


def chosen(result):
    return {(row.track, row.protocol): row.chosen for row in result.outcome.scores}


def permuted(data, seed=0):
    """The data with shuffled labels of the test clips, or of the first fold."""
    tested = data.split == "test" if data.fold is None else data.fold == "0"
    labels = np.array(data.labels)
    labels[tested] = np.random.default_rng(seed).permutation(labels[tested])
    assert (labels != data.labels).any()
    return replace(data, labels=labels)


# --- held out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strict_ignores_test_labels(tmp_path, layout):
    data = LAYOUTS[layout]
    fold = None if data.fold is None else 0
    settings = replace(SETTINGS, protocols=("strict",))
    before, after = (probed(tmp_path, each, settings=settings) for each in (data, permuted(data)))
    for place, of_a_fold in ((("linear", "strict"), 2), (("knn", "strict"), 1)):  # learning rates of two seeds; one k
        assert predictions_of(before, place, fold).equals(predictions_of(after, place, fold))
        first, second = (chosen(result)[place].split(", ")[:of_a_fold] for result in (before, after))
        assert first == second
    scores = [[row.score.value for row in result.outcome.scores] for result in (before, after)]
    assert scores[0] != scores[1]


@pytest.mark.parametrize(("layout", "leaks"), [("splits", False), ("no valid", True), ("4 folds", True)])
def test_xares_selects_epoch_on_test_without_validation(tmp_path, layout, leaks):
    data = LAYOUTS[layout]
    fold = None if data.fold is None else 0
    settings = replace(SETTINGS, protocols=("xares",))
    before = probed(tmp_path, data, settings=settings)
    others = [probed(tmp_path, permuted(data, seed), settings=settings) for seed in range(4)]
    same = [
        predictions_of(before, ("linear", "xares"), fold).equals(predictions_of(o, ("linear", "xares"), fold))
        for o in others
    ]
    assert all(same) != leaks
    assert all(
        predictions_of(before, ("knn", "xares"), fold).equals(predictions_of(o, ("knn", "xares"), fold)) for o in others
    )


def test_drop_clips_rejects_empty_split():
    data = LAYOUTS["splits"]
    with pytest.raises(EarmarkError, match="no clip of valid has an embedding"):
        drop_clips(TASK, data, data.split == "valid")


def test_predictions_independent_of_other_test_clips(tmp_path):
    data = LAYOUTS["splits"]
    fewer = clips_in(SPLITS[:-5])
    for place in BOTH:
        whole, part = (predictions_of(probed(tmp_path, each), place) for each in (data, fewer))
        assert whole[:-5].equals(part)


def test_seed_reproduces_scores(tmp_path):
    data = LAYOUTS["4 folds"]

    def rows(seed):
        result = probed(tmp_path, data, settings=replace(SETTINGS, seed=seed))
        return [row.model_copy(update={"seconds": 0.0}) for row in result.outcome.scores]

    assert rows(0) == rows(0) != rows(7)


# --- scores -------------------------------------------------------------------------------------------------


def accuracies(result):
    """The accuracies of a result, without the further metrics of clip tasks."""
    return [row for row in result.outcome.scores if row.metric == "accuracy"]


def test_probe_scores_every_track_and_recipe(tmp_path):
    result = probed(tmp_path, LAYOUTS["4 folds"], encoder=embeddings(noise=0.7))
    assert [(row.track, row.protocol) for row in accuracies(result)] == BOTH
    assert [(row.n_test, row.folds, row.n_heads) for row in accuracies(result)] == [
        *((N, 4, 1), (N, 4, 2)),  # linear: one seed for xares, two for strict
        *((N, 4, 1), (N, 4, 1)),
    ]
    rates = accuracies(result)[1].chosen.removeprefix("learning rate ").split(", ")
    assert len(rates) == 8 and {float(rate) for rate in rates} <= set(LEARNING_RATES)
    assert len(accuracies(result)[3].chosen.split(", ")) == 4
    for row in accuracies(result):
        table = result.predictions[row.track, row.protocol]
        right = table.filter(like="said_").eq(table["label"], axis=0)
        assert row.score.value == pytest.approx(right.to_numpy().mean())
        assert row.score.low < row.score.value < row.score.high and row.score.value > 0.4
    assert [{row["class"] for row in table.rows} for table in result.outcome.classes] == [{"c0", "c1", "c2"}] * 4


def test_unequal_folds_weighting_by_recipe(tmp_path):
    parts = ["0"] * 6 + ["1"] * 30 + ["2"] * 12
    result = probed(tmp_path, clips_in(parts, folds=True))
    for row in accuracies(result):
        table = result.predictions[row.track, row.protocol]
        right = table.filter(like="said_").eq(table["label"], axis=0).mean(axis=1)
        by_fold = right.groupby(table["fold"]).mean()
        expected = by_fold.mean() if row.protocol == "xares" else right.mean()
        assert row.score.value == pytest.approx(expected)
        assert by_fold.mean() != pytest.approx(right.mean())


def test_strict_selects_middle_of_best_k(tmp_path):
    """Direct loops over clips: cosine, votes exp(similarity / 0.07), accuracy on validation."""
    data, encoder = LAYOUTS["splits"], embeddings()
    x = encoder.vectors / np.linalg.norm(encoder.vectors, axis=1, keepdims=True)
    train, valid, test = (np.flatnonzero(data.split == part) for part in ("train", "valid", "test"))

    def vote(clip, k):
        near = sorted(train, key=lambda other: -float(x[clip] @ x[other]))[:k]
        votes = np.zeros(CLASSES)
        for other in near:
            votes[data.labels[other]] += np.exp(x[clip] @ x[other] / 0.07)
        return votes.argmax()

    shares = [np.mean([vote(clip, k) == data.labels[clip] for clip in valid]) for k in K_CANDIDATES]
    tied = np.flatnonzero(np.array(shares) == max(shares))
    assert len(tied) > 1
    best = K_CANDIDATES[int(tied[len(tied) // 2])]
    result = probed(tmp_path, data)
    assert chosen(result)["knn", "strict"] == f"k {best}"
    assert predictions_of(result, ("knn", "strict"))["said_0"].tolist() == [f"c{vote(clip, best)}" for clip in test]


@pytest.mark.parametrize("track", ["linear", "knn"])
@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        ("accuracy", ("accuracy", "macro_f1", "balanced_accuracy")),
        ("macro_f1", ("macro_f1", "accuracy", "balanced_accuracy")),
        ("balanced_accuracy", ("balanced_accuracy", "accuracy", "macro_f1")),
    ],
)
def test_clip_tasks_show_all_metrics_of_classes(track, metric, shown):
    type_ = task_type(replace(TASK, metric=metric))
    assert type_.metrics_on(track, calibration=False) == shown
    assert type_.metrics_on(track, calibration=True) == (*shown, *(["calibration_error"] * (track == "linear")))


def test_calibration_error_of_strict_heads_only(tmp_path):
    result = probed(tmp_path, LAYOUTS["splits"])
    rows = {(row.track, row.protocol): row for row in result.outcome.scores if row.metric == "calibration_error"}
    assert list(rows) == [("linear", "strict")]
    few_shot = probed(tmp_path, LAYOUTS["splits"], settings=replace(SETTINGS, shots=2))
    assert all(row.metric != "calibration_error" for row in few_shot.outcome.scores)


def test_macro_f1_of_a_task_agrees_with_its_predictions(tmp_path):
    result = probed(tmp_path, LAYOUTS["splits"])
    for row in result.outcome.scores:
        if row.metric == "macro_f1" and row.track == "knn":
            table = result.predictions[row.track, row.protocol]
            classes = sorted(set(table["label"]))
            expected = f1_score(table["label"], table["said_0"], labels=classes, average="macro")
            assert row.value == pytest.approx(expected)
    assert {row.track for row in result.outcome.scores if row.metric == "macro_f1"} == {"linear", "knn"}


def test_knn_of_eer_task_uses_accuracy(tmp_path):
    task = replace(TASK, metric="eer")
    assert [task_type(task).metrics_on(track, calibration=False) for track in ("linear", "knn")] == [
        ("eer", *OF_CLASSES), OF_CLASSES,
    ]  # fmt: skip
    assert task_type(published_tasks()["asvspoof2015"]).metrics_on("linear", calibration=False)[:2] == (
        "accuracy",
        "eer",
    )
    result = probed(tmp_path, clips_in(SPLITS, np.arange(N) % 2, classes=2), task)
    assert [(row.track, row.metric) for row in leading_scores(result.outcome.scores)] == [
        ("linear", "eer"), ("linear", "eer"), ("knn", "accuracy"), ("knn", "accuracy"),
    ]  # fmt: skip
    assert all(0 <= row.score.value <= 1 for row in result.outcome.scores)


def test_regression_reports_mse_and_mae(tmp_path):
    encoder = embeddings(seed=3)
    labels = encoder.vectors[:, :2].astype(float) * 0.1 + 1
    task = replace(TASK, type="regression", metric="mae", epochs=40, knn=False)
    result = probed(tmp_path, replace(clips_in(SPLITS, labels), classes=[]), task, encoder)
    assert [(row.protocol, row.metric) for row in result.outcome.scores] == [
        ("xares", "mae"), ("xares", "mse"), ("strict", "mae"), ("strict", "mse"),
    ]  # fmt: skip
    table = result.predictions["linear", "xares"]
    off = [
        np.subtract(*([float(v) for v in cell.split("|")] for cell in pair))
        for pair in zip(table["label"], table["said_0"], strict=True)
    ]
    assert result.outcome.scores[0].score.value == pytest.approx(np.abs(off).mean(), rel=1e-4)
    assert result.outcome.scores[1].score.value == pytest.approx(np.square(off).mean(), rel=1e-4)
    assert result.outcome.scores[1].score.value < np.var(labels[36:])


def test_probe_multilabel_task(tmp_path):
    encoder = embeddings(seed=4)
    labels = (encoder.vectors[:, :3] > 0.3).astype(np.uint8)
    task = replace(TASK, type="multilabel", metric="mAP", epochs=30, knn=False)
    result = probed(tmp_path, clips_in(SPLITS, labels), task, encoder)
    assert [row.metric for row in result.outcome.scores] == ["mAP", "mAP"]
    chance = labels[36:].mean()
    assert all(row.score.value > chance + 0.2 for row in result.outcome.scores)
    predicted = result.predictions["linear", "strict"]
    assert predicted["label"].tolist() == ["|".join(f"c{i}" for i in np.flatnonzero(each)) for each in labels[36:]]


# --- overlapping sources --------------------------------------------------------------------------------------


def spoken(parts, folds):
    """Sixty sources with four similar clips and a random label each, and their embeddings."""
    rng = np.random.default_rng(5)
    source = np.repeat(np.arange(60), 4)
    x = rng.normal(size=(60, 32))[source] + 0.1 * rng.normal(size=(240, 32))
    data = clips_in([parts(i) for i in range(240)], rng.integers(0, 3, 60)[source], folds)
    encoder = PrecomputedEmbeddings("mine", "mine-5", {}, 32, {f"{i}.wav": i for i in range(240)}, x.astype(np.float32))
    return replace(data, group=[f"s{i}" for i in source]), encoder


GIVEN = {
    "folds": spoken(lambda i: i % 4, folds=True),
    "splits": spoken(lambda i: ("train", "train", "valid", "test")[i % 4], folds=False),
}


@pytest.mark.parametrize("parts", GIVEN)
def test_strict_is_source_disjoint(tmp_path, parts):
    data, encoder = GIVEN[parts]
    result = probed(tmp_path, data, encoder=encoder)
    scores = {(row.track, row.protocol): row.score for row in accuracies(result)}
    assert list(scores) == [(t, p) for t in ("linear", "knn") for p in ("xares", "strict", "strict_given_splits")]
    for track, known_again in (("linear", 0.55), ("knn", 0.95)):
        assert scores[track, "strict"].value < 0.5 and scores[track, "strict_given_splits"].value > known_again
    shared = result.outcome.shared_sources
    assert (shared.parts, shared.sources, shared.spanning) == (parts, 60, 60)
    assert shared.shared_test_clips == shared.test_clips == (240 if parts == "folds" else 60)
    assert shared.strict.startswith("sources reassigned")
    table = result.predictions["knn", "strict"]
    assert table.groupby("group")["fold"].nunique().max() == 1
    published = probed(tmp_path, replace(data, group=data.names), encoder=encoder)  # each clip is a source: no overlap
    assert published.outcome.shared_sources is None
    assert "strict_given_splits" not in {row.protocol for row in published.outcome.scores}
    alike = {row.track: row.score.value for row in accuracies(published) if row.protocol == "xares"}
    assert alike == {track: scores[track, "xares"].value for track in ("linear", "knn")}
    as_given = {row.track: row.score.value for row in accuracies(published) if row.protocol == "strict"}
    assert as_given == {track: scores[track, "strict_given_splits"].value for track in ("linear", "knn")}


def test_strict_fails_if_classes_are_sources(tmp_path):
    data, encoder = GIVEN["folds"]
    result = probed(tmp_path, replace(data, group=[f"c{label}" for label in data.labels]), encoder=encoder)
    assert {row.protocol for row in result.outcome.scores} == {"xares", "strict_given_splits"}
    errors = {(one.track, one.protocol, one.again): one.error for one in result.outcome.failed}
    assert errors.keys() == {("linear", "strict", False), ("knn", "strict", False)}
    assert set(errors.values()) == {
        "no source-disjoint splits: 3 sources are too few for the parts 0, 1, 2, 3; each needs at least one"
    }
    speakers = replace(data, group=[f"s{i // 4 % 60 % 7}" for i in range(240)], labels=np.arange(240) // 4 % 7)
    names = [f"c{i}" for i in range(7)]
    (error, *_) = probed(tmp_path, replace(speakers, classes=names), encoder=encoder).outcome.failed
    assert "no source-disjoint splits: no training clips of c" in error.error


def test_strict_counts_excluded_clips(tmp_path):
    data = LAYOUTS["splits"]
    group = [name if name != "40.wav" else "3.wav" for name in data.names]
    result = probed(tmp_path, replace(data, group=group))
    assert result.outcome.left_out == {"clips of mine whose source is in the test or validation set (strict)": 1}
    assert (result.outcome.shared_sources.spanning, result.outcome.shared_sources.shared_test_clips) == (1, 1)


def test_few_shot_is_source_disjoint(tmp_path):
    data, encoder = GIVEN["folds"]
    result = probed(tmp_path, data, encoder=encoder, settings=replace(SETTINGS, shots=5))
    values = {(row.track, row.protocol): row.score.value for row in result.outcome.scores}
    for track in ("linear", "knn"):
        assert values[track, "strict"] < values[track, "strict_given_splits"]


# --- few-shot ------------------------------------------------------------------------------------------------


def test_few_shot_ten_draws_strict_only(tmp_path):
    result = probed(tmp_path, LAYOUTS["splits"], settings=replace(SETTINGS, shots=2))
    assert [(row.track, row.protocol, row.n_heads, row.shots, row.n_test) for row in accuracies(result)] == [
        ("linear", "strict", 10, 2, 12), ("knn", "strict", 10, 2, 12),
    ]  # fmt: skip
    assert len({tuple(column) for _, column in predictions_of(result, ("knn", "strict")).items()}) > 3
    for row in accuracies(result):
        table = result.predictions[row.track, row.protocol]
        right = table.filter(like="said_").eq(table["label"], axis=0)
        assert row.score.value == pytest.approx(right.to_numpy().mean())


def test_few_shot_ignores_validation(tmp_path):
    data, settings = LAYOUTS["splits"], replace(SETTINGS, shots=3)
    labels = np.array(data.labels)
    labels[data.split == "valid"] = (labels[data.split == "valid"] + 1) % CLASSES
    before, after = (probed(tmp_path, each, settings=settings) for each in (data, replace(data, labels=labels)))
    for track in ("linear", "knn"):
        assert predictions_of(before, (track, "strict")).equals(predictions_of(after, (track, "strict")))
    assert chosen(before) == {("linear", "strict"): "", ("knn", "strict"): "k 10"}
    more = probed(
        tmp_path, clips_in(["train"] * 36 + ["valid"] * 3 + ["test"] * 9), settings=replace(SETTINGS, shots=12)
    )
    assert chosen(more)["knn", "strict"] == "k 12"


@pytest.mark.slow
def test_few_shot_wide_embeddings_match_scikit_learn(tmp_path):
    """Ten classes, 768 dimensions, five shots; training for the usual number of epochs would underfit."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    labels = np.arange(700) % 10
    x = (0.21 * rng.normal(size=(10, 768))[labels] + rng.normal(size=(700, 768))).astype(np.float32)
    encoder = PrecomputedEmbeddings("wide", "wide", {}, 768, {f"{i}.wav": i for i in range(700)}, x)
    data = clips_in(["train"] * 300 + ["valid"] * 100 + ["test"] * 300, labels, classes=10)
    result = {
        row.track: row.score
        for row in probed(tmp_path, data, encoder=encoder, settings=replace(SETTINGS, shots=5)).outcome.scores
    }
    draws = few_shot_folds(labels, strict_folds(data, 0)[0], 5, 10, 0)
    theirs = [LogisticRegression().fit(x[one.train], labels[one.train]).score(x[400:], labels[400:]) for one in draws]
    assert result["linear"].value >= np.mean(theirs) - 0.01
    assert result["linear"].value > result["knn"].value > 0.6


def test_few_shot_errors(tmp_path):
    result = probed(tmp_path, LAYOUTS["splits"], settings=replace(SETTINGS, shots=11))
    assert [one.error for one in result.outcome.failed] == ["11 shots: a class has only 10 training clips"] * 2
    several = replace(TASK, type="multilabel", metric="mAP", knn=False)
    data = clips_in(SPLITS, np.eye(3, dtype=np.uint8)[np.arange(N) % 3])
    (failed,) = probed(tmp_path, data, several, settings=replace(SETTINGS, shots=1)).outcome.failed
    assert failed.error == "few-shot training needs one class per clip; mine is a multilabel task"


# --- crops, layers, frames ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cropped(tmp_path_factory):
    """Twelve clips of at least 0.6 s, with three or four crops of 0.2 s."""
    folder = tmp_path_factory.mktemp("cropped")
    paths = clips(folder, 12, seconds=0.6)
    parts = ["train"] * 6 + ["valid"] * 3 + ["test"] * 3
    return replace(clips_in(parts), clips=paths, names=[])


def test_crops_scored_by_xares_and_averaged_by_strict(tmp_path, cropped):
    encoder, task = load_encoder("logmel"), replace(TASK, crop_seconds=0.2)
    result = probed(tmp_path, cropped, task, encoder)
    store = EmbeddingCache(tmp_path / "store")
    rows, _ = ClipEmbedder(encoder, store, batch_size=4).embed(cropped.clips, EmbeddingRequest(crop_seconds=0.2))
    crops = np.isin(rows.clip, (9, 10, 11))
    assert crops.sum() > 8
    of_crops, of_clips = (crops.sum(), "crops"), (3, "clips")
    assert [(row.n_test, row.counts) for row in accuracies(result)] == [of_crops, of_clips, of_crops, of_clips]
    names = [cropped.clips[clip].as_posix().rsplit("/", 1)[1] for clip in rows.clip[crops]]
    assert [Path(name).name for name in result.predictions["linear", "xares"]["clip"]] == names
    # Train the strict heads again, then loop over the test clips.
    labels = np.asarray(cropped.labels)[rows.clip]
    fold = Fold(0, *(np.flatnonzero(np.isin(rows.clip, part)) for part in (range(6), range(6, 9), range(9, 12))))
    heads = train_heads(
        rows.x, labels, [fold], HeadConfig("cross_entropy", 3, 6, 8, most_trained_on_ties=True),
        selection_metric("accuracy", labels, clip=rows.clip),
        seeds=[0, 1], learning_rates=LEARNING_RATES, best_rate_only=True,
    )  # fmt: skip
    for head, column in zip(heads, ("said_0", "said_1"), strict=True):
        means = [head.test[rows.clip[crops] == clip].mean(axis=0) for clip in (9, 10, 11)]
        assert predictions_of(result, ("linear", "strict"))[column].tolist() == [
            f"c{np.argmax(mean)}" for mean in means
        ]


@pytest.mark.slow
def test_last_layer_equals_encoder_output(tmp_path, cropped):
    encoder = load_encoder(str(save(tmp_path, "layers.py", layered())), device="cpu")
    plain = load_encoder(str(save(tmp_path / "plain", "plain.py", XARES)), device="cpu")
    everything = probed(tmp_path, cropped, encoder=encoder, settings=replace(SETTINGS, layers=()))
    assert sorted({row.layer for row in everything.outcome.scores}) == [0, 1, 2]
    assert everything.predictions == {} and everything.outcome.classes == []

    def values(result, layer):
        return [(row.track, row.protocol, row.score) for row in result.outcome.scores if row.layer == layer]

    assert values(everything, 2) == values(probed(tmp_path, cropped, encoder=encoder), None)
    assert values(everything, 0) == values(probed(tmp_path, cropped, encoder=plain), None)
    two = probed(tmp_path, cropped, encoder=encoder, settings=replace(SETTINGS, layers=(0, 2)))
    assert [values(two, layer) for layer in (0, 1, 2)] == [values(everything, 0), [], values(everything, 2)]
    with pytest.raises(ValueError, match="layer 3: TinyEncoder has layers 0 to 2"):
        probed(tmp_path, cropped, encoder=encoder, settings=replace(SETTINGS, layers=(1, 3)))


def test_scores_independent_of_batch_size(tmp_path, cropped):
    encoder = load_encoder(str(save(tmp_path, "tiny.py", XARES)), device="cpu")

    def rows(size):
        store = EmbeddingCache(tmp_path / f"store{size}")
        result = probe(TASK, cropped, ClipEmbedder(encoder, store, size), SETTINGS, data_root=tmp_path)
        scores = [(row.track, row.protocol, row.score) for row in accuracies(result)]
        return scores, result.predictions["linear", "strict"]

    (one, predicted), (other, predicted_again) = rows(1), rows(12)
    assert one == other and predicted.equals(predicted_again)


def test_frame_task_requires_hop(tmp_path, cropped):
    class Hopless(type(load_encoder("logmel"))):
        hop_seconds = None

    encoder = load_encoder("logmel")
    encoder.__class__ = Hopless
    task = replace(TASK, type="frame", metric="segment_f1_macro", knn=False)
    events = [[(0.0, 0.3, i % 3)] for i in range(12)]
    failed = probed(tmp_path, replace(cropped, labels=events), task, encoder).outcome.failed
    assert failed and all("has no frame duration" in one.error for one in failed)
