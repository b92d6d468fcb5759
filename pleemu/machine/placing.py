"""Which pCPUs each vCPU may run on, and the scheduling domains, from a scenario."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pleemu.scenario import Scenario
from pleemu.scheduler.domains import BALANCE, BALANCER, PLACEMENT, SCHED_DOMAIN, SYSCTL_SCHED_MIGRATION_COST


def sets_of(sets: tuple[Sequence[int], ...], pcpus: int) -> Any:
    """Sets of pCPUs as rows of 64-bit words."""
    bits = np.zeros((len(sets), -(-pcpus // 64) * 64), np.uint8)
    for row, members in zip(bits, sets, strict=True):
        row[list(members)] = 1
    return np.packbits(bits, axis=1, bitorder="little").view("<i8").astype(np.int64)


def llc_size(scenario: Scenario) -> int:
    """Neighbouring pCPUs that share a last-level cache."""
    return min(scenario.hardware.costs().llc_pcpus or scenario.hardware.pcpus, scenario.hardware.pcpus)


def placement_of(scenario: Scenario) -> Any:
    """What wake-ups remember, at the start."""
    sizes = [len(allowed) for allowed in scenario.allowed_pcpus()]
    pcpus = scenario.hardware.pcpus
    placement = np.zeros(len(sizes) + pcpus, PLACEMENT).view(np.recarray)
    placement.nr_cpus_allowed[: len(sizes)] = sizes
    placement.last_wakee = -1
    return placement


def balance_of(scenario: Scenario) -> Any:
    """What balancing keeps of each pCPU, at the start."""
    pcpus, size = scenario.hardware.pcpus, llc_size(scenario)
    balance = np.zeros(pcpus, BALANCE).view(np.recarray)
    balance.llc_first = np.arange(pcpus) // size * size
    balance.llc_end = np.minimum(balance.llc_first + size, pcpus)
    balance.idle_stamp = -1
    balance.avg_idle = 2 * SYSCTL_SCHED_MIGRATION_COST
    return balance


def balancer_of(scenario: Scenario, ipi: int) -> Any:
    """What there is one of; ``ipi``: flight of a reschedule IPI, in cycles."""
    balancer = np.zeros(1, BALANCER).view(np.recarray)
    hz = scenario.host.hz
    balancer.hz = hz
    balancer.max_interval = max(1, hz * scenario.hardware.pcpus // 10)
    if scenario.host.scheduler != "chaos":  # which places who wakes, and balances nothing
        balancer.floating = sum(len(allowed) > 1 for allowed in scenario.allowed_pcpus())
    balancer.ipi = ipi
    return balancer


def domains_of(scenario: Scenario) -> Any:
    """The scheduling domains of each pCPU (v5.6 kernel/sched/topology.c, sd_init)."""
    pcpus, size = scenario.hardware.pcpus, llc_size(scenario)
    levels = []
    if size > 1:
        levels.append((size, 1, 117))
    if size < pcpus:
        levels.append((pcpus, size, 125))
    domains = np.zeros((pcpus, len(levels)), SCHED_DOMAIN).view(np.recarray)
    for level, (span, group_size, imbalance_pct) in enumerate(levels):
        for pcpu in range(pcpus):
            domain = domains[pcpu, level]
            domain.first = pcpu // span * span
            domain.end = min(domain.first + span, pcpus)
            domain.group_size = group_size
            domain.imbalance_pct = imbalance_pct
            domain.cache_nice_tries = 1
            domain.prefer_sibling = level > 0
            weight = domain.end - domain.first
            domain.min_interval = domain.balance_interval = weight
            domain.max_interval = 2 * weight
    return domains
