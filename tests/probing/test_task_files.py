"""Tasks by name, by `all` and from a user's file, and errors for invalid files."""

from pathlib import Path

import pytest

from earmark.errors import EarmarkError, MissingError
from earmark.probing.task_files import read_task_file, select_tasks
from earmark.probing.xares import published_tasks

DEMO = Path(__file__).resolve().parents[2] / "dataset/speaker-demo/tasks"


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_select_tasks_order_and_uniqueness():
    assert [task.name for task in select_tasks(["gtzan_genre", "esc50", "gtzan_genre"])] == ["gtzan_genre", "esc50"]


def test_select_all_excludes_disabled_tasks():
    everything = {task.name for task in select_tasks(["all"])}
    assert published_tasks().keys() - everything == {
        "finger_snap", "key_scratching", "liveenv", "speechcommandsv2",
    }  # fmt: skip
    assert "subway_broadcast" in everything  # private, but runnable with local data


def test_select_tasks_suggests_similar_names():
    with pytest.raises(MissingError, match=r"ecs50: unknown task; did you mean esc50") as caught:
        select_tasks(["ecs50", "CREMA D", "zzzzzz", "esc50"])
    assert "CREMA D: unknown task; did you mean cremad?" in str(caught.value)
    assert "zzzzzz: unknown task.\n" in str(caught.value)
    assert caught.value.exit_code == 2


def test_read_task_file_defaults(tmp_path: Path):
    path = written(tmp_path, 'name = "mine"\ntype = "clip"\ndata = "mine.csv"\n')
    task = read_task_file(path)
    assert (task.name, task.type, task.metric, task.manifest, task.home) == (
        "mine",
        "clip",
        "accuracy",
        "mine.csv",
        tmp_path,
    )
    assert (task.epochs, task.batch_size, task.learning_rate, task.weight, task.knn) == (10, 32, 1e-3, 1.0, True)
    assert select_tasks([path, "esc50", str(path)]) == [task, published_tasks()["esc50"]]


def test_read_task_file_all_keys(tmp_path: Path):
    text = """
    name = "doors"
    type = "frame"
    metric = "segment_f1_micro"
    data = "doors.csv"
    domain = "environment"
    epochs = 3
    batch_size = 8
    learning_rate = 0.01
    weight = 20
    crop_seconds = 10
    segment_seconds = 0.5
    """
    task = read_task_file(written(tmp_path, text))
    assert (task.type, task.metric, task.segment_seconds, task.crop_seconds) == ("frame", "segment_f1_micro", 0.5, 10.0)
    assert (task.epochs, task.batch_size, task.learning_rate, task.weight, task.domain) == (
        3,
        8,
        0.01,
        20,
        "environment",
    )
    assert task.reader == "events" and not task.knn


@pytest.mark.parametrize(
    ("lines", "kind", "metric", "segment"),
    [
        ('type = "clip"\nmultilabel = true', "multilabel", "mAP", None),
        ('type = "frame"', "frame", "segment_f1_macro", 1.0),
        ('type = "frame"\nmetric = "accuracy"', "frame", "accuracy", None),
        ('type = "regression"\nmetric = "mae"', "regression", "mae", None),
        ('type = "retrieval"', "retrieval", "recall_at_1", None),
        ('type = "asr"', "asr", "word_accuracy", None),
    ],
)
def test_read_task_file_default_metric_of_types(tmp_path: Path, lines, kind, metric, segment):
    task = read_task_file(written(tmp_path, f'name = "x"\ndata = "x.csv"\n{lines}\n'))
    assert (task.type, task.metric, task.segment_seconds) == (kind, metric, segment)


def test_read_task_file_reports_all_faults(tmp_path: Path):
    text = (
        'name = "esc50"\ntype = "clip"\nmetric = "acuracy"\nepoch = 3\nepochs = "many"\nbatch_size = 0\nweight = nan\n'
    )
    with pytest.raises(EarmarkError) as caught:
        read_task_file(written(tmp_path, text))
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("mine.toml: 7 faults")
    assert lines[1:-1] == [
        "  data: is missing",
        "  epochs: 'many': input should be a valid integer",
        "  batch_size: 0: input should be greater than 0",
        "  weight: nan: input should be a finite number",
        "  epoch: unknown key; did you mean epochs?",
        "  name: 'esc50' is the name of a published task; choose another name",
        "  metric: 'acuracy' is not a metric of clip tasks (accuracy, macro_f1, balanced_accuracy, eer)",
    ]
    assert lines[-1].startswith("Valid keys: name, type, data, metric")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a/b"\ntype = "clip"\ndata = "x"', "name: 'a/b': string should match pattern"),
        ('name = "x"\ntype = "clips"\ndata = "x"', "type: 'clips': input should be 'clip', 'frame'"),
        ('name = "x"\ntype = "asr"\ndata = "x"\nmultilabel = true', "not available for asr tasks"),
        (
            'name = "x"\ntype = "clip"\nmultilabel = true\nmetric = "accuracy"\ndata = "x"',
            "not a metric of multilabel tasks \\(mAP\\)",
        ),
        (
            'name = "x"\ntype = "clip"\nsegment_seconds = 1\ndata = "x"',
            "segment_seconds: clip tasks scored by accuracy have no segments",
        ),
        ('name = "x"\ntype = ["clip"]\ndata = "x"', r"type: \['clip'\]"),
        ("name = ", r"invalid TOML: Invalid value"),
    ],
)
def test_read_task_file_rejects_invalid_value(tmp_path: Path, text, message):
    with pytest.raises(EarmarkError, match=message) as caught:
        read_task_file(written(tmp_path, text))
    assert "mine.toml" in str(caught.value) and caught.value.exit_code == 1


def test_read_task_file_missing(tmp_path: Path):
    with pytest.raises(MissingError, match=r"none\.toml: task file not found"):
        select_tasks([tmp_path / "none.toml"])


def test_select_tasks_reports_all_invalid_files(tmp_path: Path):
    one, two = written(tmp_path, "x = 1", "one.toml"), written(tmp_path, "y = 1", "two.toml")
    with pytest.raises(EarmarkError, match=r"(?s)one\.toml: 4 faults.*two\.toml: 4 faults"):
        select_tasks([one, two])


def test_select_tasks_rejects_equal_names(tmp_path: Path):
    text = 'name = "x"\ntype = "clip"\ndata = "x.csv"\n'
    paths = [written(tmp_path, text, "a.toml"), written(tmp_path, f"{text}epochs = 2\n", "b.toml")]
    with pytest.raises(EarmarkError, match="x: two different tasks have this name"):
        select_tasks(paths)


def test_read_demo_task_files():
    selected = select_tasks(sorted(DEMO.glob("*.toml")))
    assert [(task.name, task.type, task.metric) for task in selected] == [
        ("language", "clip", "accuracy"),
        ("tempo", "regression", "mse"),
        ("voice", "clip", "accuracy"),
    ]
