"""Coverage of confidence intervals and tests; `perf/coverage.py` writes the same simulations to docs/coverage.md."""

import pytest

from tests.coverage import (
    annotation,
    comparison,
    equal_footing,
    new_raters,
    new_raters_of_scales,
    probes,
    scale_similarity,
    scales,
    similarity,
    speaker,
)
from tests.coverage.framework import faults, simulate

AREAS = (
    annotation,
    new_raters_of_scales,
    new_raters,
    equal_footing,
    scales,
    similarity,
    speaker,
    probes,
    comparison,
    scale_similarity,
)
SCENARIOS = [scenario for area in AREAS for scenario in area.SCENARIOS]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_coverage_of_intervals_and_p_values(scenario):
    assert faults(scenario, simulate(scenario)) == []
