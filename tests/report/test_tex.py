"""LaTeX tables: labels, captions, escapes; compiled in a two-column article without an overfull box."""

import re
import shutil
import subprocess

import pytest

from earmark.metrics.estimate import Estimate
from earmark.report.tables import Table, percent
from earmark.report.tex import escape_tex, to_tex

ESTIMATE = Estimate(0.5123, 0.4, 0.6, 83)
SENTENCE = "Agreement beyond chance, with a chance term that is robust if one category dominates the ratings."
TABLES = [
    Table("Items by number of raters", ["raters", "items"], [[1, 7], [2, 18]]),
    Table(
        "agreement",
        ["measure", "value [95 % CI]", "n", "definition"],
        [[f"kappa {i}", ESTIMATE, 83, SENTENCE] for i in range(60)],
    ),
    Table(
        "Slices",
        ["task_type", *(f"majority_present_rate_{i}" for i in range(6))],
        [["contrastive_1", *[ESTIMATE] * 6]] * 4,
    ),
    Table("Systems of & and _", ["system", "EER"], [["wespeaker/voxceleb_resnet34_LM & $x$ <b>", percent(ESTIMATE)]]),
    Table("", ["not", "captioned"], [[1, 2]]),
]


def test_labels_are_unique_across_files_and_captions_are_sentences():
    one, other = to_tex(TABLES, "emolia-emo sham"), to_tex(TABLES, "emolia-emo my/model")
    labels = re.findall(r"\\label\{(.*?)\}", one + other)
    assert len(labels) == len(set(labels)) == 8
    assert labels[0] == "tab:emolia-emo-sham-1"
    captions = re.findall(r"\\caption\{(.*?)\}\n", one)
    assert captions[0] == "Items by number of raters." and captions[1] == "Agreement."


def test_wide_tables_span_both_columns_and_long_ones_continue():
    text = to_tex(TABLES, "x")
    assert text.count(r"\begin{table*}") >= 2
    assert "(continued)" in text
    assert text.count(r"\begin{table}") + text.count(r"\begin{table*}") == text.count(r"\bottomrule")


def test_error_rates_are_in_per_cent_and_names_as_given():
    text = to_tex(TABLES, "x")
    assert r"51.23 \%" in text
    assert r"\& \$x\$ \textless{}b\textgreater{}" in text


@pytest.mark.parametrize("text", ["[0.1, 0.2]", "* starred", "R&D_1 50 % #~^\\{}|"])
def test_every_character_is_escaped(text):
    assert not re.search(r"(?<!\\)[&%#_]", escape_tex(text))
    assert not escape_tex(text).startswith(("[", "*"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
@pytest.mark.parametrize("margin", ["2cm", "2.5cm"])
def test_three_files_compile_in_one_two_column_article(tmp_path, margin):
    for name in "abc":
        (tmp_path / f"{name}.tex").write_text(to_tex(TABLES, name), encoding="utf-8")
    inputs = "\n".join(rf"\input{{{name}}}\clearpage" for name in "abc")
    (tmp_path / "article.tex").write_text(
        "\\documentclass[twocolumn]{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{array,booktabs}\n"
        f"\\usepackage[margin={margin}]{{geometry}}\n\\begin{{document}}\nText.\n{inputs}\n\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    log = (tmp_path / "article.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    too_wide = [float(width) for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log)]
    assert [width for width in too_wide if width > 1] == []
    assert "multiply defined" not in log and "Float too large" not in log
