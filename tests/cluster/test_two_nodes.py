"""The scripts on a real Ray cluster of two nodes on this machine, one of which is lost."""

import subprocess
import sys
import time

import pandas as pd
import pytest

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytest.importorskip("torch", reason="the extra `torch` is not installed")

import probe
from earmark.embeddings.shards import ShardedArrayStore
from tests.cluster.nodes import ENVIRONMENT, SECONDS, Nodes
from tests.conftest import ROOT
from tests.models.encoders.sources import case, save
from tests.test_probe import QUICK, write_task

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes():
    started = Nodes()
    try:
        started.start()
        started.start()
        yield started
    finally:
        started.close()


def words(tmp_path, encoder, *tasks, out, cache):
    flags = ["--output-dir", tmp_path / out, "--embedding-cache", tmp_path / cache, "--data-root", tmp_path / "data"]
    flags += ["--batch-size", "2", "--track", "knn", "--device", "cpu", "--no-figures", *QUICK]
    return [str(word) for word in ["--encoder", encoder, *flags, "--tasks", *tasks]]


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, script, *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip


def embeddings(folder):
    """{key: bytes of its embedding} in a cache."""
    (of_encoder,) = [path for path in folder.iterdir() if path.is_dir()]
    with ShardedArrayStore(of_encoder, {}) as store:
        return {key.hex(): store.get(key.hex()).tobytes() for key in store._locations}


def writers(folder):
    """Processes that have written embeddings into a cache."""
    return [path for path in folder.glob("*/*.ids") if path.stat().st_size]


def test_probe_on_two_nodes_gives_the_results_of_one_machine_although_a_node_is_lost(tmp_path, nodes):
    files = [write_task(tmp_path, name) for name in ("one", "two")]
    encoder = save(tmp_path, "bands.py", case(0.1))
    run = start("probe.py", *words(tmp_path, encoder, *files, out="ray", cache="store"), "--ray", nodes.address)
    for _ in range(SECONDS * 20):
        if len(writers(tmp_path / "store")) == 2 or run.poll() is not None:
            break
        time.sleep(0.05)
    stored = len(writers(tmp_path / "store"))
    nodes.kill(1)
    assert stored == 2, run.communicate()
    out, err = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, (out, err)
    assert f"Ray: the cluster at {nodes.address}, 2 nodes, 2 CPU cores." in err
    assert probe.main([*words(tmp_path, encoder, *files, out="alone", cache="other"), "--quiet"]) == 0
    distributed, alone = (pd.read_csv(tmp_path / name / "bands/scores.csv") for name in ("ray", "alone"))
    pd.testing.assert_frame_equal(distributed, alone, check_exact=True)
    assert embeddings(tmp_path / "store") == embeddings(tmp_path / "other")
