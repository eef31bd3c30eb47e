"""Write the JSON Schema of every summary.json.

Reads   the models of the library
Writes  docs/schema/<script>.json

  uv run docs/make_schemas.py

A test compares the files with what this script would write.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from earmark.annotation.schema import AnalysisSummary, AnonymizeSummary, ScaleSummary  # noqa: E402
from earmark.audio_text.scale_schema import ScaleBenchmarkSummary  # noqa: E402
from earmark.audio_text.schema import BenchmarkSummary  # noqa: E402
from earmark.comparison.schema import CompareSummary  # noqa: E402
from earmark.probing.schema import ProbeSummary  # noqa: E402
from earmark.report.schema import SCHEMA_VERSION, SummaryBase  # noqa: E402
from earmark.speaker.case.schema import CaseSummary  # noqa: E402
from earmark.speaker.finetune.schema import FinetuneSummary  # noqa: E402
from earmark.speaker.schema import SpeakerSummary  # noqa: E402
from earmark.speaker.tidyvoice.schema import EvaluationSummary  # noqa: E402

SUMMARIES: dict[str, type[SummaryBase]] = {
    "anonymize": AnonymizeSummary,
    "analysis": AnalysisSummary,
    "analysis_scale": ScaleSummary,
    "benchmark": BenchmarkSummary,
    "benchmark_scale": ScaleBenchmarkSummary,
    "evaluate_speaker_trials": SpeakerSummary,
    "evaluate_speaker_case": CaseSummary,
    "finetune_speaker": FinetuneSummary,
    "evaluate_speaker_evaluation": EvaluationSummary,
    "probe": ProbeSummary,
    "compare": CompareSummary,
}


def schemas() -> dict[str, str]:
    """{file name: JSON Schema of a summary}."""
    texts = {}
    for name, model in SUMMARIES.items():
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$comment": f"schema_version {SCHEMA_VERSION}; written by docs/make_schemas.py",
            **model.model_json_schema(mode="serialization"),
        }
        texts[f"{name}.json"] = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    return texts


def main() -> int:
    folder = ROOT / "docs/schema"
    folder.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
