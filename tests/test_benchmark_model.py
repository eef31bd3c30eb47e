"""benchmark.py with in-process models: tiny checkpoints with random weights."""

import csv
import json
import uuid

import numpy as np
import pandas as pd
import pytest

import benchmark
from earmark.files.remote import location

pytest.importorskip("transformers", reason="needs `--extra clap`")
from earmark.models.audio_text import networks
from tests.models import tiny


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    return tiny.clap(tmp_path_factory.mktemp("models") / "tiny-clap")


def run(out, *flags):
    cache = out / "embeddings"
    common = ["--subset", "emolia-dim", "--quiet", "--output-dir", str(out), "--embedding-cache", str(cache)]
    code = benchmark.main([*common, *map(str, flags)])
    return code, json.loads((out / "emolia-dim" / "summary.json").read_text())


def similarities(out):
    with (out / "emolia-dim" / "predictions.csv").open(encoding="utf-8") as file:
        return np.array([float(row["similarity"]) for row in csv.DictReader(file)])


@pytest.mark.slow
def test_clap_model_scores_every_pair(clap, tmp_path):
    code, summary = run(tmp_path, "--clap-model", clap)
    assert (code, summary["mode"], summary["rows_evaluated_ok"]) == (0, "in-process", 45)
    scorer = summary["scorer"]
    assert scorer["model"] == "tiny-clap"
    assert len(scorer["weights_sha256"]) == 16
    assert (scorer["dtype"], scorer["device"]) == ("float32", summary["device"])
    assert scorer["transformers"]
    assert summary["signature"].endswith(f"|model:tiny-clap-{scorer['weights_sha256'][:8]}")
    assert np.abs(similarities(tmp_path)).max() <= 1
    assert str(clap.parent) not in json.dumps(summary)


@pytest.mark.slow
def test_scores_do_not_depend_on_batch_size(clap, tmp_path):
    run(tmp_path / "1", "--clap-model", clap, "--batch-size", 1)
    run(tmp_path / "7", "--clap-model", clap, "--batch-size", 7)
    np.testing.assert_allclose(similarities(tmp_path / "1"), similarities(tmp_path / "7"), atol=1e-5)


@pytest.mark.slow
def test_run_is_reproducible(clap, tmp_path):
    for name in ("first", "second"):
        run(tmp_path / name, "--clap-model", clap)
    first, second = (tmp_path / name / "emolia-dim" / "predictions.csv" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_second_run_uses_embedding_cache(clap, tmp_path, monkeypatch):
    run(tmp_path / "first", "--clap-model", clap, "--embedding-cache", tmp_path / "cache")
    for method in ("embed_audio", "embed_texts", "prepare"):
        monkeypatch.setattr(networks.Clap, method, lambda self, items: pytest.fail("embedded again"))
    run(tmp_path / "second", "--clap-model", clap, "--embedding-cache", tmp_path / "cache", "--threshold", 0.2)
    np.testing.assert_array_equal(similarities(tmp_path / "first"), similarities(tmp_path / "second"))


@pytest.mark.slow
def test_runs_of_checkpoints_with_same_name_are_kept(clap, tmp_path):
    other = tiny.clap(tmp_path / "elsewhere" / clap.name, seed=1)
    out = tmp_path / "out"
    run(out, "--clap-model", clap)
    first = similarities(out)
    run(out, "--clap-model", other)
    paths = [out / "runs" / name / "emolia-dim" / "predictions.csv" for name in ("tiny-clap", "tiny-clap-2")]
    values = [np.array(pd.read_csv(path)["similarity"]) for path in paths]
    np.testing.assert_array_equal(values[0], first)
    np.testing.assert_array_equal(values[1], similarities(out))
    assert np.abs(values[0] - values[1]).max() > 1e-4
    run(out, "--clap-model", clap, "--model-name", "before training")
    assert (out / "runs" / "before-training" / "emolia-dim" / "report.md").is_file()


@pytest.mark.slow
def test_lower_precision(clap, tmp_path):
    run(tmp_path / "32", "--clap-model", clap)
    _, summary = run(tmp_path / "16", "--clap-model", clap, "--dtype", "bfloat16")
    assert summary["scorer"]["dtype"] == "bfloat16"
    difference = np.abs(similarities(tmp_path / "32") - similarities(tmp_path / "16")).max()
    assert 0 < difference < 0.1


@pytest.mark.slow
def test_sentence_transformers_model(tmp_path):
    folder = tiny.sentence_transformer(tmp_path / "st")
    code, summary = run(tmp_path / "out", "--model", folder)
    assert (code, summary["scorer"]["kind"]) == (0, "sentence-transformers")


@pytest.mark.parametrize("flags", [["--clap-model", "./nowhere"], ["--model", "./nowhere/at/all"]])
def test_missing_model(flags, tmp_path, capsys):
    assert benchmark.main([*flags, "--output-dir", str(tmp_path), "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert "no such folder" in error
    assert "\n" not in error


def test_two_models_are_rejected(clap, capsys):
    with pytest.raises(SystemExit) as ended:
        benchmark.main(["--clap-model", str(clap), "--endpoint", "http://127.0.0.1:9/"])
    assert ended.value.code == 2
    assert benchmark.main(["--clap-model", str(clap), "--model", "other"]) == 2
    assert "--model" in capsys.readouterr().err


@pytest.mark.slow
def test_remote_embedding_cache_gives_the_scores_of_a_local_one(clap, tmp_path):
    pytest.importorskip("fsspec", reason="the extra `s3` is not installed")
    run(tmp_path / "local", "--clap-model", clap)
    url = f"memory://{uuid.uuid4().hex}/store"
    for name in ("first", "second"):
        run(tmp_path / name, "--clap-model", clap, "--embedding-cache", url)
        assert (similarities(tmp_path / name) == similarities(tmp_path / "local")).all()
    shards = list(location(url).rglob("*.ids"))
    assert len(shards) == 2  # clips and sentences of the first run; the second computed nothing
