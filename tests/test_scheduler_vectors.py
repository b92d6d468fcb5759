"""CFS against the scheduler functions of Linux 5.6.4, recorded state by state."""

import gzip
import json
from pathlib import Path

import pytest

from pleemu.conform.scheduler import replay

VECTORS = Path(__file__).parent / "vectors" / "cfs-5.6.json.gz"
SCENARIOS = json.loads(gzip.decompress(VECTORS.read_bytes()))["scenarios"]


def test_the_recording_has_one_and_many_cpus_and_worked_examples():
    """100 scenarios with one CPU, 30 with many, 18 that were worked out by hand."""
    assert len(SCENARIOS) == 148
    assert sum(scenario["ncpu"] > 1 for scenario in SCENARIOS) >= 30


@pytest.mark.parametrize("number", range(len(SCENARIOS)))
def test_cfs_agrees_with_the_kernel_on_every_state(number):
    """After each operation every integer of the scheduler is the one of Linux 5.6.4."""
    assert list(replay({"scenarios": [SCENARIOS[number]]})) == [None]
