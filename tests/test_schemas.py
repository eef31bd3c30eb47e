"""docs/schema holds the JSON Schema of every summary, and summaries that scripts write keep to it."""

import importlib.util
import json

import pytest

import benchmark
from tests.conftest import ROOT

jsonschema = pytest.importorskip("jsonschema", reason="the extra `test` is not installed")


def schemas():
    """docs/make_schemas.py as a module."""
    spec = importlib.util.spec_from_file_location("make_schemas", ROOT / "docs/make_schemas.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.schemas()


def faults(name, path):
    """What in a summary breaks its schema."""
    schema = json.loads((ROOT / "docs/schema" / name).read_text(encoding="utf-8"))
    found = jsonschema.Draft202012Validator(schema).iter_errors(json.loads(path.read_text(encoding="utf-8")))
    return [f"{list(error.absolute_path)}: {error.message}" for error in found]


def test_schemas_are_those_of_the_models():
    written = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs/schema").glob("*.json")}
    assert written == schemas(), "run `uv run docs/make_schemas.py`"


@pytest.mark.parametrize("subset", ["emolia-emo", "emolia-dim"])
def test_committed_analysis_keeps_to_its_schema(subset):
    assert faults("analysis.json", ROOT / "analysis_outputs" / subset / "summary.json") == []


def test_benchmark_keeps_to_its_schema(tmp_path):
    assert benchmark.main(["--quiet", "--subset", "emolia-dim", "--output-dir", str(tmp_path)]) == 0
    assert faults("benchmark.json", tmp_path / "emolia-dim/summary.json") == []
    broken = json.loads((tmp_path / "emolia-dim/summary.json").read_text()) | {"rows_total": "many"}
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    assert len(faults("benchmark.json", tmp_path / "broken.json")) == 1
