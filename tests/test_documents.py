"""Documents say what the program does: names, figures and commands are held against the real thing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from earmark.models.encoders.registry import encoder_specs
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


def test_files_in_the_readme_exist():
    tree = README.split("## The tree")[1].split("```")[1]
    listed, folders = [], [""]
    for line in tree.strip().splitlines():
        name = line.split("  ")[0] if not line.startswith(" ") else line.strip().split("  ")[0]
        depth = (len(line) - len(line.lstrip())) // 2
        parent = "".join(folders[: depth + 1])
        listed += [parent + one for one in name.split(", ")]
        folders = [*folders[: depth + 1], name] if name.endswith("/") else folders
    assert len(listed) > 40
    assert [name for name in listed if not (ROOT / name).exists()] == []


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


def test_the_readme_lists_every_kind_of_encoder_as_the_registry_does():
    rows = [f"| `{spec}` | {what} |" for spec, what in encoder_specs().items()]
    assert "\n".join(rows) in README


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
    estimates["cross_fitted_threshold"] = scored["cross_fitted_threshold"]["balanced_accuracy"]
    shown = examples("demo")
    assert len(shown) > 35
    assert shown == {name: f"{estimates[name]['value']:.3f}" for name in shown}


def test_worked_examples_in_metrics_match_the_library():
    from earmark.metrics import detection

    scores = detection.LabelledScores(np.array([2.1, 1.4, -0.3, 0.6, -0.8, -1.5, -2.2]), np.arange(7) < 3)
    expected = {name: f"{metric.point(scores, 0.01).rate:.3f}" for name, metric in detection.METRICS.items()}
    assert examples("worked") == expected
