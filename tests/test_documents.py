"""Documents say what the program does: names, figures and commands are compared with what the program does."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from earmark.report.render import definitions

ROOT = Path(__file__).resolve().parents[1]
METRICS = (ROOT / "METRICS.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def summary(subset):
    return json.loads((ROOT / "analysis_outputs" / subset / "summary.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", definitions())
def test_every_defined_number_is_explained(name):
    assert f"`{name}`" in METRICS


@pytest.mark.parametrize("name", definitions())
def test_a_definition_stands_alone(name):
    assert not definitions()[name]["sentence"].startswith("The same")


@pytest.mark.parametrize("subset", ["emolia-emo", "emolia-dim"])
def test_every_estimate_of_the_analysis_is_defined(subset):
    found = summary(subset)
    names = {*found["agreement"], *found["human_ceiling"]} - {"pairs", "loo_n_annotations"}
    names |= {name for name, value in found.items() if isinstance(value, dict) and "low" in value}
    assert names <= set(definitions())


def test_the_demo_values_in_metrics_are_those_of_the_committed_analysis():
    ours = {
        "pairwise_exact_binary": lambda s: s["agreement"]["percent_binary"]["value"],
        "fleiss_binary_kappa": lambda s: s["agreement"]["fleiss_kappa_binary"]["value"],
        "majority_present_rate": lambda s: s["majority_present_rate"]["value"],
        "preselection_confirm_rate": lambda s: s["preselection_confirm_rate"]["value"],
    }
    both = [summary("emolia-emo"), summary("emolia-dim")]
    for name, value in ours.items():
        figures = " | ".join(f"{s['emolia_bench'][name]:.3f} | {value(s):.3f}" for s in both)
        assert f"| `{name}` | {figures} |" in METRICS


def test_the_readme_shows_what_benchmark_prints(tmp_path, capsys):
    import benchmark

    assert benchmark.main(["--subset", "emolia-emo", "--quiet", "--output-dir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    shown = [line for line in README.splitlines() if line.startswith(("| model", "| rater"))]
    assert len(shown) == 4
    assert [line for line in shown if line not in printed] == []


def tree(text):
    """Paths of the layout that README shows: {path}, folders end in a slash."""
    listed, folders = [], [""]
    for line in text.strip().splitlines():
        names = line.strip().split("  ")[0]
        depth = (len(line) - len(line.lstrip())) // 2
        parent = "".join(folders[: depth + 1])
        listed += [parent + name for name in names.split(", ")]
        folders = [*folders[: depth + 1], names] if names.endswith("/") else folders
    return set(listed)


def test_readme_layout_lists_what_exists():
    listed = tree(README.split("## Layout")[1].split("```")[1])
    assert [name for name in listed if not (ROOT / name).exists()] == []
    parts = {f"earmark/{path.name}/" for path in (ROOT / "earmark").iterdir() if (path / "__init__.py").is_file()}
    scripts = {path.name for path in ROOT.glob("*.py")}
    assert (parts | scripts) - listed == set()


def test_architecture_names_files_that_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w./-]+)`", text) if "/" in name and "<" not in name}
    roots = (ROOT, ROOT / "earmark")
    missing = {name for name in named if not any((root / name).exists() for root in roots)}
    assert missing == set()


def tables():
    """docs/make_tables.py as a module."""
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs/make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flags_and_readme_tables_are_those_of_the_code():
    written = tables()
    assert (ROOT / "docs/flags.md").read_text(encoding="utf-8") == written.flags(), "run `uv run docs/make_tables.py`"
    scaling = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    for document, of_document in ((README, written.readme_tables()), (scaling, written.scaling_tables())):
        assert written.with_tables(document, of_document) == document, "run `uv run docs/make_tables.py`"


def test_every_flag_has_a_help_text():
    written = tables()
    found = [
        (command, name)
        for script in written.SCRIPTS
        for command, parser in written.parsers(script)
        for name, text in written.rows(parser)
        if not text.strip()
    ]
    assert found == []


def test_commands_in_documents_name_scripts_that_exist():
    texts = [README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")]
    named = {name for text in texts for name in re.findall(r"uv run (?:--\S+ (?:\w+ )?)*([\w/]+\.py)", text)}
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_no_document_or_code_names_this_machine_or_a_download_host():
    hosts = re.compile(r"pypi\.org|pythonhosted|registry\.npmjs|deb\.debian|/home/\w+/\w+/|/root/")
    texts = [*ROOT.glob("*.md"), *ROOT.glob("*.py"), *(ROOT / "earmark").rglob("*.py"), ROOT / "pyproject.toml"]
    assert [path.name for path in texts if hosts.search(path.read_text(encoding="utf-8"))] == []


def test_tasks_that_documents_name_exist():
    from earmark.probing.xares import published_tasks

    text = README + (ROOT / "probe.py").read_text(encoding="utf-8")
    named = re.findall(r"(?:--tasks|probe\.py download) ((?:\w+(?:\.toml)? )+)", text)
    words = {word for group in named for word in group.split() if not word.endswith(".toml")}
    assert len(words) > 1
    assert words - {"all", "TASKS"} <= set(published_tasks())


EXAMPLE = re.compile(r"`(\w+)` = (-?\d\.\d{3})")


def examples(kind):
    """{metric: the example value that METRICS.md prints}, of the lines marked `demo` or `worked`."""
    lines = [line for line in METRICS.splitlines() if line.startswith(f"Example ({kind})")]
    return {name: value for line in lines for name, value in EXAMPLE.findall(line)}


def test_demo_examples_in_metrics_match_the_scripts(tmp_path):
    import benchmark

    assert benchmark.main(["--subset", "emolia-emo", "--quiet", "--output-dir", str(tmp_path)]) == 0
    scored = json.loads((tmp_path / "emolia-emo/summary.json").read_text(encoding="utf-8"))
    analysed = summary("emolia-emo")
    estimates = {**analysed["agreement"], **analysed["human_ceiling"], **analysed, **scored["overall"]}
    estimates |= {name: scored["human_parity"][name] for name in ("model", "person", "difference")}
    estimates |= {name: value for name, value in scored.items() if isinstance(value, dict) and "value" in value}
    estimates["pairwise_parity"] = scored["pairwise_parity"]["balanced_accuracy"]["difference"]
    estimates["cross_fitted_threshold"] = scored["cross_fitted_threshold"]["balanced_accuracy"]
    shown = examples("demo")
    assert len(shown) > 35
    assert shown == {name: f"{estimates[name]['value']:.3f}" for name in shown}


def test_worked_examples_in_metrics_match_the_library():
    from earmark.metrics import detection

    scores = detection.LabelledScores(np.array([2.1, 1.4, -0.3, 0.6, -0.8, -1.5, -2.2]), np.arange(7) < 3)
    expected = {name: f"{metric.point(scores, 0.01).rate:.3f}" for name, metric in detection.METRICS.items()}
    assert examples("worked") == expected


RATED_CLASSES = {
    "a": {"ann": "red", "ben": "red", "cat": "red"},
    "b": {"ann": "green", "ben": "green", "cat": "blue"},
    "c": {"ann": "red", "ben": "green", "cat": "red"},
    "d": {"ann": "blue", "ben": "blue"},
}
RATED_LEVELS = {
    "a": {"ann": "1", "ben": "2", "cat": "1"},
    "b": {"ann": "3", "ben": "4", "cat": "3"},
    "c": {"ann": "5", "ben": "5", "cat": "4"},
    "d": {"ann": "2", "ben": "4"},
}


def test_examples_of_other_scales_in_metrics_match_the_library():
    from tests.annotation.scale_data import AROUSAL, COLOURS, NATURALNESS, analysed
    from tests.metrics.test_interval_agreement import SHROUT_FLEISS

    numbers = {str(item): dict(zip("abcd", map(float, row), strict=True)) for item, row in enumerate(SHROUT_FLEISS)}
    results = [
        analysed(subset, votes, replicates=0, required=3).result
        for subset, votes in ((AROUSAL, RATED_LEVELS), (COLOURS, RATED_CLASSES), (NATURALNESS, numbers))
    ]
    values = {name: e.value for result in results for name, e in result.agreement.estimates.items()}
    shown = examples("ratings")
    assert shown == {name: f"{values[name]:.3f}" for name in shown}
    own = {"krippendorff_alpha_ordinal"}  # the example of this name is that of the demo
    assert set(values) - set(shown) == own
    by_class = ", ".join(f"{name} {e.value:.3f}" for name, e in results[1].specific_agreement.items())
    assert f"Example: above, {by_class}." in METRICS
