"""Outputs of every script as a reader meets them: the page in a browser, the tables in LaTeX, the values of figures."""

import json
import re
import shutil
import subprocess

import pandas as pd
import pytest

import analysis
import benchmark
import compare
import evaluate_speaker
import probe
from tests.browser import opened
from tests.comparison.runs import better_on, change_scores, copy_run
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

DEMO = ROOT / "dataset/speaker-demo"
TRIALS = DEMO / "trials_crosslingual.txt"
CONDITIONS = ("clean_clean", "clean_codec_gsm")
SCRIPTS = ("analysis", "benchmark", "trials", "case", "probe", "compare")
ARTICLE = r"""\documentclass[twocolumn]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{array,booktabs}
\textwidth=455pt \columnsep=23pt \columnwidth=216pt
\begin{document}
\input{report.tex}
\end{document}
"""


def run(module, *words):
    """Run a script on demo data."""
    assert module.main(["--quiet", *map(str, words)]) == 0


def make_analysis(folder):
    run(analysis, "--figures", "--output-dir", folder)
    return folder


def make_benchmark(folder, *words):
    run(benchmark, "--subset", "emolia-emo", "--figures", "--output-dir", folder, *words)
    return folder / "emolia-emo"


def make_trials(folder, *words):
    run(
        evaluate_speaker, "trials", "--trials", TRIALS, "--encoder", "logmel", "--audio-root", DEMO,
        "--embedding-cache", folder / "cache", "--figures", "--output-dir", folder / "out", *words,
    )  # fmt: skip
    return folder / "out"


def make_case(folder):
    simulated = folder / "benchmark"
    run(evaluate_speaker, "simulate", DEMO, "--output-dir", simulated, "--conditions", *CONDITIONS)
    run(
        evaluate_speaker, "case", simulated, "--encoder", "logmel", "--conditions", *CONDITIONS, "--no-intervals",
        "--embedding-cache", folder / "cache", "--figures", "--output-dir", folder / "out",
    )  # fmt: skip
    return folder / "out/logmel"


def make_probe(folder):
    run(
        probe,
        "run",
        "--track",
        "knn",
        "--embedding-cache",
        folder / "cache",
        "--figures",
        "--output-dir",
        folder / "out",
    )
    return folder / "out/logmel"


def make_compare(folder, *words):
    first = make_benchmark(folder / "first")
    change_scores(copy_run(first, folder / "copies", "second"), better_on(10))
    other = folder / "copies/second/emolia-emo"
    run(compare, first, other, "--names", "first", "second", "--figures", "--output-dir", folder / "out", *words)
    return folder / "out/first-vs-second"


MAKERS = {name: globals()[f"make_{name}"] for name in SCRIPTS}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """{script: folder with its report}, each made when first asked for."""
    made = {}

    def output(name):
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp(name))
        return made[name]

    return output


def serious_violations(shown):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra `test` is not installed")
    found = axe.Axe().run(shown).response["violations"]
    return [
        (one["id"], [node["target"] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def column(table, place):
    """JavaScript: the sort keys of a column as they are shown."""
    return (
        f"(table => [...table.tBodies[0].rows].map(row => {{ const cell = row.cells[{place}];"
        f" return cell.dataset.order ?? cell.textContent; }}))(document.querySelector({json.dumps(table)}))"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_page_opens_without_errors_network_or_serious_barriers(outputs, name, scheme):
    with opened(outputs(name) / "report.html", color_scheme=scheme) as (shown, problems):
        assert shown.locator("figure img").count() > 0
        broken = "[...document.querySelectorAll('figure img')].filter(image => !image.naturalWidth).length"
        assert shown.evaluate(broken) == 0
        assert serious_violations(shown) == []
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert shown.evaluate(wider) <= 0
        assert problems == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_figures_of_a_page_link_to_values_that_exist(outputs, name):
    folder = outputs(name)
    text = (folder / "report.html").read_text(encoding="utf-8")
    linked = set(re.findall(r'href="(figures/[^"]+\.csv)"', text))
    assert linked and all((folder / path).is_file() for path in linked)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in ("case", "probe")])  # short tables only
def test_tables_sort(outputs, name):
    with opened(outputs(name) / "report.html") as (shown, problems):
        tables = "[...document.querySelectorAll('table.dataTable')]"
        sorted_tables = shown.evaluate(tables + ".map((table, i) => { table.dataset.number = i; return i; })")
        assert sorted_tables
        for number in sorted_tables:
            table = f"table[data-number='{number}']"
            headers = shown.locator(f"{table} thead th")
            place = headers.count() - 1 if shown.locator(f"{table}[id^=long-]").count() else 0
            headers.nth(place).click()
            shown.wait_for_selector(f"{table} th[aria-sort=ascending]")
            first = shown.evaluate(column(table, place))
            headers.nth(place).click()
            shown.wait_for_selector(f"{table} th[aria-sort=descending]")
            second = shown.evaluate(column(table, place))
            if len(set(first)) > 1:
                assert first != second, f"table {number}"
        assert problems == []


@pytest.mark.parametrize(("name", "word"), [("benchmark", "Joy"), ("compare", "Joy")])
def test_long_tables_filter(outputs, name, word):
    with opened(outputs(name) / "report.html") as (shown, problems):
        shown.fill("#long-0_wrapper input[type=search]", word)
        rows = shown.evaluate("[...document.querySelectorAll('#long-0 tbody tr')].map(row => row.textContent)")
        assert rows and all(word in row for row in rows)
        heights = "[...document.querySelectorAll('#long-0 tbody tr')].map(row => row.offsetHeight)"
        assert max(shown.evaluate(heights)) < 120  # sentences are not squeezed into a narrow column
        assert problems == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_clips_report_their_duration_when_they_come_into_view(outputs, name):
    with opened(outputs(name) / "report.html") as (shown, problems):
        assert shown.evaluate("document.querySelector('audio').preload") in ("none", "metadata")
        shown.locator("audio").last.scroll_into_view_if_needed()
        shown.wait_for_function("[...document.querySelectorAll('audio')].at(-1).duration > 0.3")
        assert problems == []


@pytest.mark.parametrize("make", [make_benchmark, make_trials, make_compare])
def test_embedded_audio_plays_after_the_page_is_moved(tmp_path, make):
    page = make(tmp_path / "made", "--embed-audio", "30") / "report.html"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(page, elsewhere / "my report.html")
    shutil.rmtree(tmp_path / "made")
    with opened(elsewhere / "my report.html") as (shown, problems):
        sources = shown.evaluate("[...document.querySelectorAll('audio')].map(audio => audio.getAttribute('src'))")
        assert sources and all(source.startswith("data:audio/") for source in sources)
        shown.locator("audio").first.scroll_into_view_if_needed()
        shown.evaluate("document.querySelector('audio').play()")
        shown.wait_for_function("document.querySelector('audio').currentTime > 0.1")
        assert problems == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_tables_fit_a_two_column_article(outputs, name, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    shutil.copy(outputs(name) / "report.tex", tmp_path)
    (tmp_path / "article.tex").write_text(ARTICLE, encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "article.log").read_text(encoding="utf-8", errors="replace")
    excess = [float(points) for points in re.findall(r"Overfull \\[hv]box \(([\d.]+)pt too", log)]
    assert [points for points in excess if points > 1] == []


def test_hostile_labels_and_comments_are_shown_as_text(tmp_path):
    hostile = "R&D_1 <script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">"
    raw = tmp_path / "annotations"
    shutil.copytree(ROOT / "annotations/emolia-emo", raw / "emolia-emo")
    path = raw / "emolia-emo/annotations.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["queried_emotion"] = table["queried_emotion"].replace("Anger", hostile)
    table.to_csv(path, index=False)
    keys = ["file_name", "queried_emotion", "task_type", "username"]
    flags = table[keys].head(5).assign(flag_id="f", reason=hostile, created_at="2026-05-09 18:00:00")
    flags["flag_id"] = [f"f-{number}" for number in range(5)]
    flags.to_csv(raw / "emolia-emo/flags.csv", index=False)
    run(analysis, "--figures", "--annotations-root", raw, "--output-dir", tmp_path / "out", "--subset", "emolia-emo")
    with opened(tmp_path / "out/report.html") as (shown, problems):
        assert shown.title() == "Annotation report"
        assert "<script>document.title" in shown.inner_text("main")
        assert problems == []
    tex = (tmp_path / "out/report.tex").read_text(encoding="utf-8")
    assert r"R\&D\_1" in tex


def summary(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_values_of_slices_are_those_of_the_metrics(outputs):
    folder = outputs("benchmark")
    for path in folder.glob("metrics_by_*.csv"):
        key = path.stem.removeprefix("metrics_by_")
        metrics = pd.read_csv(path).set_index(key)
        drawn = pd.read_csv(folder / f"figures/by_{key}.csv")
        assert len(drawn)
        for row in drawn.to_dict("records"):
            metric = row["group"].replace(" ", "_")
            own = metrics.loc[row["label"]]
            assert row["value"] == pytest.approx(own[metric], abs=1e-6)


def test_histogram_counts_every_scored_pair(outputs):
    folder = outputs("benchmark")
    predictions = pd.read_csv(folder / "predictions.csv")
    drawn = pd.read_csv(folder / "figures/similarities.csv")
    assert drawn["present"].sum() == (predictions["majority_present"] == 1).sum()
    assert drawn["absent"].sum() == (predictions["majority_present"] == 0).sum()


def test_values_of_agreement_are_those_of_the_summary(outputs):
    folder = outputs("analysis")
    for subset in ("emolia-emo", "emolia-dim"):
        agreement = summary(folder / subset)["agreement"]
        estimates = [one for name, one in agreement.items() if name != "pairs"]
        drawn = pd.read_csv(folder / f"figures/{subset}_agreement.csv")
        known = [one["value"] for one in estimates if one["value"] is not None]
        assert drawn["value"].tolist() == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("emolia-emo/per_emotion_summary", "majority_present_rate"),
        ("emolia-dim/per_dimension_summary", "majority_yes_rate"),
    ],
)
def test_rates_of_slices_are_those_of_the_summary_tables(outputs, table, column):
    folder = outputs("analysis")
    name = table.replace("/", "_").removesuffix("_summary")
    drawn = pd.read_csv(folder / f"figures/{name}.csv")
    rates = pd.read_csv(folder / f"{table}.csv")[column].dropna()
    assert drawn["value"].tolist() == pytest.approx(rates.tolist(), abs=1e-6)


def test_det_curve_passes_through_the_equal_error_rate(outputs):
    folder = outputs("trials")
    drawn = pd.read_csv(folder / "figures/det.csv")
    rate = re.search(r'"eer": \{\s*"value": ([\d.e-]+)', (folder / "summary.json").read_text(encoding="utf-8"))
    nearest = (drawn["false_alarm_rate"] - drawn["miss_rate"]).abs().idxmin()
    assert drawn.loc[nearest, "miss_rate"] == pytest.approx(float(rate.group(1)), abs=0.01)


def test_values_of_conditions_are_those_of_the_summary(outputs):
    folder = outputs("case")
    drawn = pd.read_csv(folder / "figures/conditions.csv")
    assert set(drawn["label"]) == {name.removeprefix("clean_") for name in CONDITIONS}
    protocols = pd.read_csv(folder / "protocols.csv")
    for value in drawn["value"]:
        assert (protocols.select_dtypes("number").sub(value / 100).abs().min() < 1e-6).any()


def test_values_of_tasks_are_those_of_the_scores(outputs):
    folder = outputs("probe")
    drawn = pd.read_csv(folder / "figures/tasks_knn.csv")
    scores = [one["score"]["value"] for one in summary(folder)["scores"] if one["layer"] is None]
    assert len(drawn) and all(min(abs(value - one) for one in scores) < 1e-6 for value in drawn["value"])


def test_values_of_differences_are_those_of_the_comparison(outputs):
    folder = outputs("compare")
    comparison = pd.read_csv(folder / "comparison.csv", keep_default_na=False)
    paths = list((folder / "figures").glob("differences*.csv"))
    assert len(paths) > 1
    for path in paths:
        slice_ = path.stem.removeprefix("differences").removeprefix("_by_")
        own = comparison[comparison["slice"] == slice_]
        for row in pd.read_csv(path).to_dict("records"):
            label = row["label"] if slice_ else ""
            values = own[own["value_of_slice"] == label]["difference"].replace("", "nan").astype(float)
            assert (values.sub(row["value"]).abs() < 1e-6).any()
