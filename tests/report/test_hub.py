"""Results in the formats of model hubs."""

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark import __version__
from earmark.cli import DatasetId
from earmark.metrics.estimate import Estimate
from earmark.report.hub import HubResult, HubTask, eval_results, hub_files, mteb_results, slug, to_yaml
from earmark.report.schema import SummaryBase
from earmark.report.signature import Signature

DATASET = DatasetId("org/name", "v1")
SIGNATURE = Signature((("earmark", "1.0"), ("suite", "trials"), ("metric", "eer")))
EER = HubResult("eer", Estimate(0.125, 0.1, 0.15, n=1200), SIGNATURE)
MIN_DCF = HubResult(
    "min_dcf", Estimate(0.00001, n=1200, why='only 1 "speaker"', note="small"), SIGNATURE.replaced(metric="min_dcf")
)
CLLR = HubResult("cllr", Estimate(None, n=3, why="scores are\nno ratios\u2028"), SIGNATURE.replaced(metric="cllr"))
UNDEFINED = HubResult("auc", Estimate(None), SIGNATURE)


def test_eval_results_is_the_expected_text():
    assert eval_results(DATASET, [HubTask("Trials", [EER, MIN_DCF, CLLR])], "2026-01-31") == (
        '# left out: "trials.cllr: scores are\\nno ratios\\u2028"\n'
        "- dataset:\n"
        '    id: "org/name"\n'
        '    task_id: "trials.eer"\n'
        '    revision: "v1"\n'
        "  value: 0.125\n"
        '  date: "2026-01-31"\n'
        '  notes: "n = 1,200; 95 % confidence interval 0.1 to 0.15; earmark:1.0|suite:trials|metric:eer"\n'
        "- dataset:\n"
        '    id: "org/name"\n'
        '    task_id: "trials.min_dcf"\n'
        '    revision: "v1"\n'
        "  value: 1.0e-05\n"
        '  date: "2026-01-31"\n'
        '  notes: "n = 1,200; no confidence interval; only 1 \\"speaker\\"; small; '
        'earmark:1.0|suite:trials|metric:min_dcf"\n'
    )


def test_eval_results_without_values_is_an_empty_list():
    text = eval_results(DatasetId("org/name"), [HubTask("trials", [UNDEFINED])], "2026-01-31")
    assert text == '# left out: "trials.auc: undefined"\n[]\n'


def test_huggingface_hub_reads_eval_results():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    hub = pytest.importorskip("huggingface_hub", reason="the extra `download` is not installed")
    if not hasattr(hub, "parse_eval_result_entries"):
        pytest.skip("this version of huggingface_hub does not read evaluation results")
    data = yaml.safe_load(eval_results(DATASET, [HubTask("trials", [EER, CLLR, MIN_DCF])], "2026-01-31"))
    first, second = hub.parse_eval_result_entries(data)
    assert (first.dataset_id, first.task_id, first.dataset_revision) == ("org/name", "trials.eer", "v1")
    assert (first.value, first.date, second.value) == (0.125, "2026-01-31", 0.00001)
    assert hub.eval_result_entries_to_yaml([first, second]) == data


def test_mteb_results_has_the_expected_content():
    tasks = [HubTask("trials", [EER, MIN_DCF, CLLR]), HubTask("other", [CLLR, EER], "other")]
    assert json.loads(mteb_results(DatasetId("org/name"), "trials", tasks, SIGNATURE)) == {
        "task_name": "trials",
        "dataset_revision": None,
        "mteb_version": None,
        "earmark_version": __version__,
        "signature": "earmark:1.0|suite:trials|metric:eer",
        "scores": {
            "test": [
                {
                    "main_score": 0.125,
                    "n": 1200,
                    "hf_subset": "default",
                    "languages": [],
                    "eer": 0.125,
                    "eer_low": 0.1,
                    "eer_high": 0.15,
                    "eer_n": 1200,
                    "min_dcf": 0.00001,
                    "min_dcf_n": 1200,
                    "notes": ['min_dcf: only 1 "speaker"', "cllr: scores are\nno ratios\u2028"],
                },
                {
                    "hf_subset": "other",
                    "languages": [],
                    "eer": 0.125,
                    "eer_low": 0.1,
                    "eer_high": 0.15,
                    "eer_n": 1200,
                    "notes": ["cllr: scores are\nno ratios\u2028"],
                },
            ]
        },
        "evaluation_time": None,
    }


def test_hub_files_need_a_dataset():
    summary = SummaryBase(
        schema_version=2, script="x.py", argv=[], created_utc="2026-01-31T23:59:59Z", git={}, python="3", packages={},
        device="cpu", seed=0, signature=SIGNATURE, inputs=[], parameters={}, exclusions=[],
    )  # fmt: skip
    tasks = [HubTask("trials", [EER])]
    assert hub_files(None, "trials", tasks, summary) == {}
    files = hub_files(DATASET, "trials", tasks, summary)
    assert files == {
        "eval_results.yaml": eval_results(DATASET, tasks, "2026-01-31"),
        "mteb_results.json": mteb_results(DATASET, "trials", tasks, SIGNATURE),
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_errors(value):
    tasks = [HubTask("trials", [HubResult("eer", Estimate(value), SIGNATURE)])]
    with pytest.raises(ValueError, match="cannot be written"):
        eval_results(DATASET, tasks, "2026-01-31")
    with pytest.raises(ValueError, match="JSON"):
        mteb_results(DATASET, "trials", tasks, SIGNATURE)


scalars = st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.integers()
mappings = st.dictionaries(
    st.sampled_from(["id", "value", "notes"]),
    scalars | st.dictionaries(st.sampled_from("ab"), scalars, min_size=1),
    min_size=1,
)


@given(st.lists(mappings, min_size=1))
def test_yaml_is_read_as_written(entries):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    assert yaml.safe_load(to_yaml(entries)) == entries


@pytest.mark.parametrize("text", ["\x7f\x85\u2028\ufeff\ufffe", "\udcff", "# no: comment", "yes", "\U0001f600"])
def test_yaml_keeps_unusual_text(text):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    assert yaml.safe_load(to_yaml([{"notes": text}])) == [{"notes": text}]


@given(st.text())
def test_slug_is_lower_case_without_spaces(name):
    assert re.fullmatch(r"[a-z0-9_][a-z0-9._-]*", slug(name))
    assert slug(slug(name)) == slug(name)
