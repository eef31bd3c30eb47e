"""Coverage of confidence intervals and tests; `perf/coverage.py` writes the same simulations to docs/coverage.md."""

import pytest

from tests.coverage import annotation, comparison, probes, similarity, speaker
from tests.coverage.framework import faults, simulate

SCENARIOS = [*annotation.SCENARIOS, *similarity.SCENARIOS, *speaker.SCENARIOS, *probes.SCENARIOS, *comparison.SCENARIOS]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_coverage_of_intervals_and_p_values(scenario):
    assert faults(scenario, simulate(scenario)) == []
