"""Tasks in a remote folder: the labels, splits and digests of the same files on disk, in every layout."""

import uuid
from pathlib import Path

import numpy as np
import pytest

from earmark.errors import DataError, EarmarkError, MissingError
from earmark.probing import releases
from earmark.probing.layouts import locate_task
from earmark.probing.reading import read_task_data
from earmark.probing.task_files import read_task_file
from earmark.probing.xares import published_tasks
from tests.object_storage import upload
from tests.probing import release_trees as trees
from tests.probing.test_reading import pack, pairs

pytest.importorskip("fsspec", reason="fsspec is not installed")


def remote(folder: Path):
    """The folder, copied to memory."""
    return upload(folder, f"memory://{uuid.uuid4().hex}/data")


def assert_same_data(task, local_root, remote_root):
    local, distant = locate_task(task, local_root), locate_task(task, remote_root)
    assert distant.layout == local.layout and distant.state == local.state == "present"
    assert distant.labels_hash == local.labels_hash and distant.fingerprint != local.fingerprint
    assert distant.size == local.size
    expected, found = read_task_data(local), read_task_data(distant)
    assert found.names == expected.names and found.classes == expected.classes and found.group == expected.group
    for mine, other in ((found.split, expected.split), (found.fold, expected.fold), (found.labels, expected.labels)):
        assert (mine is None) == (other is None)
        if mine is not None:
            np.testing.assert_array_equal(np.asarray(mine), np.asarray(other))


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(trees.TREES))
def test_release_in_a_remote_folder(task, tmp_path, monkeypatch):
    monkeypatch.setattr(releases, "MIN_SHARE", 0)
    root = tmp_path / "trees"
    root.mkdir()
    folder, write = trees.TREES[task]
    write(root / folder)
    assert_same_data(published_tasks()[task], root, remote(root))


def test_tar_files_in_a_remote_folder(tmp_path):
    for number in range(1, 6):
        members = pairs({f"{number}-{target}": target for target in range(3)}, key="label")
        pack(tmp_path / f"esc50/wds-audio-fold-{number}-0.tar", members)
    assert_same_data(published_tasks()["esc50"], tmp_path, remote(tmp_path))


@pytest.fixture
def manifest(tmp_path):
    """A frame task whose labels are files of their own, in the data root."""
    root = tmp_path / "data"
    (root / "clips").mkdir(parents=True)
    lines = ["path,label,split"]
    for part in ("train", "valid", "test"):
        (root / f"clips/{part}.wav").write_bytes(b"RIFF")
        (root / f"clips/{part}.json").write_text('[{"onset": 0, "offset": 1, "label": "bark"}]')
        lines.append(f"clips/../clips/{part}.wav,clips/{part}.json,{part}")
    (root / "mine.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "mine.toml").write_text('name = "mine"\ntype = "frame"\ndata = "mine.csv"\n')
    return read_task_file(tmp_path / "mine.toml"), root


def test_manifest_with_label_files_in_a_remote_folder(manifest):
    task, root = manifest
    local, distant = locate_task(task, root), locate_task(task, remote(root))
    assert distant.labels_hash == local.labels_hash and distant.layout == "mine.csv"
    found = read_task_data(distant)
    assert found.names == read_task_data(local).names and str(found.clips[0]).startswith("memory://")
    assert found.labels == read_task_data(local).labels


def test_fingerprint_of_remote_manifest_changes_with_a_clip(manifest):
    task, root = manifest
    data = remote(root)
    first = locate_task(task, data).fingerprint
    assert locate_task(task, data).fingerprint == first
    (data / "clips/test.wav").put(b"RIFFx")
    assert locate_task(task, data).fingerprint != first


def test_manifest_names_missing_remote_clips(manifest):
    task, root = manifest
    (root / "clips/valid.wav").unlink()
    with pytest.raises(DataError, match=r"'clips/../clips/valid.wav' does not exist"):
        read_task_data(locate_task(task, remote(root)))


def test_missing_remote_data_name_the_download_and_the_copy(tmp_path):
    located = locate_task(published_tasks()["esc50"], remote(tmp_path))
    with pytest.raises(MissingError, match=r"Run `uv run probe.py download esc50` and copy data/esc50 there"):
        located.require_present()


def test_truncated_remote_tar_is_named(tmp_path):
    for number in range(1, 6):
        path = pack(tmp_path / f"esc50/wds-audio-fold-{number}-0.tar", pairs({"a": 1}, key="label"))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(EarmarkError, match=r"fold-5-0.tar: truncated or damaged"):
        read_task_data(locate_task(published_tasks()["esc50"], remote(tmp_path)))
