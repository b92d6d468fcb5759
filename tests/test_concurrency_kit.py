"""Locks that others wrote: Concurrency Kit's, compiled by gcc, run as guests and lose no increment."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_c_guests import needs_gcc, run_guest
from made_machines import GUESTS

LOCKS = ("fas", "cas", "dec", "ticket", "mcs", "clh", "hclh", "anderson", "rwlock", "pflock", "tflock", "swlock")
SHAPES = ((2, 2), (3, 2), (8, 8), (16, 16), (16, 4), (5, 1))  # vCPUs, pCPUs
# A slow machine, in which time slices are short; the vCPUs meet each other at any point of their code.
SLOW = {
    "hardware.tsc_khz": "20000",
    "hardware.transfer_ns": "3000",
    "hardware.far_transfer_ns": "6000",
    "hardware.llc_pcpus": "4",
    "host.hz": "1000",
    "kvm.ple_window": "1000",
}
pytestmark = [
    needs_gcc,
    pytest.mark.skipif(
        not Path("/usr/include/ck_spinlock.h").is_file(), reason="Concurrency Kit (libck-dev) is not installed"
    ),
]


def run_lock(lock: str, level: str, vcpus: int, pcpus: int, rounds: int = 4, **changes: object):
    """Run one lock until all vCPUs have finished."""
    return run_guest(
        GUESTS / "ck_lock.c",
        fields=SLOW,
        cc="gcc",
        cflags=f"{level} -DLOCK_{lock} -DROUNDS={rounds}",
        vcpus=vcpus,
        pcpus=pcpus,
        duration="20s",
        **changes,
    )


@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
@pytest.mark.parametrize("lock", LOCKS)
def test_no_increment_is_lost(lock: str, level: str) -> None:
    """From 2 to 16 vCPUs, with a pCPU for each and with fewer, all increments are there at the end."""
    for seed, (vcpus, pcpus) in enumerate(SHAPES):
        found = run_lock(lock, level, vcpus, pcpus, seed=seed)
        assert found.ended == "all vCPUs have returned from guest_main"
        assert found.vms[0].operations == 4 * (1 if lock == "swlock" else vcpus)


def test_without_a_lock_increments_are_lost() -> None:
    """The guest's own check can fail."""
    found = run_lock("none", "-O2", 8, 8, rounds=40)
    assert found.ended == "all vCPUs have returned from guest_main"
    assert found.vms[0].operations == 0
