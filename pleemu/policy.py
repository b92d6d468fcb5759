"""Yield policies by name: what the hypervisor and the host scheduler do with a spinning vCPU.

A policy is a set of independent mechanisms, so that an ablation is one name:

    vanilla            KVM as in Linux v5.6, the host scheduler as its kernel has it
    strict-boost       Strict Boost: nominate only a vCPU that can be what the spinner waits for
    debooster          Debooster: make CFS follow the hint, by raising the yielder's vruntime; debooster-rfc as posted
    debooster-2025-v2  the same idea for EEVDF: a bounded penalty for the yielder; debooster-2025-v1 as first posted
    no-ple             PAUSE exits off (`ple_gap=0`, AMD: `pause_filter_count=0`): nobody notices a spinning vCPU

Names are joined with `+` in any order: `debooster+strict-boost` is `strict-boost+debooster`.
"""

from __future__ import annotations

from attrs import field, frozen

from pleemu.errors import ScenarioError, nearest
from pleemu.kernel import CFS, CHAOS, EEVDF, HOST_SCHEDULERS


@frozen(kw_only=True)
class Policy:
    """The switches that a run is built with."""

    name: str
    summary: str = field(eq=False)
    ple: bool = True
    strict_boost: bool = False
    debooster: str | None = None  # which of `DEBOOSTERS`


# Mechanisms in the order in which a canonical name lists them.
_PARTS = {
    "vanilla": "Linux v5.6's KVM as it is: kvm_vcpu_on_spin, dynamic PLE window, the scheduler's own yield_to",
    "no-ple": "PAUSE exits off, as with kvm_intel.ple_gap=0 or kvm_amd.pause_filter_count=0",
    "strict-boost": "nominate only preempted vCPUs and those that the spinner sent an IPI",
    "debooster": "CFS: raise the yielder's vruntime until the nominated vCPU is picked (v5.6)",
    "debooster-rfc": "the same, as posted for review in 2021: the yielder's weight decides how far",
    "debooster-2025-v1": "EEVDF: that penalty as first posted: its rate limit begins anew at each yield",
    "debooster-2025-v2": "EEVDF: a bounded penalty on the yielder, at most one in 6 ms a CPU",
}

# Debooster -> the kind of scheduler that it changes.
DEBOOSTERS = {
    "debooster": CFS,
    "debooster-rfc": CFS,
    "debooster-2025-v1": EEVDF,
    "debooster-2025-v2": EEVDF,
}


def policy(name: str) -> Policy:
    """Return the policy that ``name`` spells, or say what is wrong with the name."""
    parts = {part.strip() for part in name.split("+")}
    for part in sorted(parts):
        if part not in _PARTS:
            where = f" in {name!r}" if len(parts) > 1 else ""
            raise ScenarioError(f"unknown policy {part!r}{where}{nearest(part, _PARTS)}")
    if "no-ple" in parts and len(parts) > 1:
        others = "+".join(part for part in _PARTS if part in parts - {"no-ple"})
        raise ScenarioError(
            f"policy {name!r} contradicts itself: without pause-loop exiting nothing asks for a yield; "
            f"use 'no-ple' or {others!r}"
        )
    deboosters = [part for part in DEBOOSTERS if part in parts]
    if len(deboosters) > 1:
        raise ScenarioError(f"policy {name!r} has {len(deboosters)} deboosters; use one of {', '.join(deboosters)}")
    if len(parts) > 1:
        parts.discard("vanilla")  # the ground that the others stand on
    return _policy_of(parts)


def _policy_of(parts: set[str]) -> Policy:
    ordered = [part for part in _PARTS if part in parts]
    return Policy(
        name="+".join(ordered),
        summary="; ".join(_PARTS[part] for part in ordered),
        ple="no-ple" not in parts,
        strict_boost="strict-boost" in parts,
        debooster=next((part for part in DEBOOSTERS if part in parts), None),
    )


# What `pleemu compare` compares unless told otherwise, reference first, by the kind of scheduler.
_COMPARED = {
    CFS: ("vanilla", "strict-boost", "debooster", "strict-boost+debooster", "no-ple"),
    EEVDF: ("vanilla", "strict-boost", "debooster-2025-v2", "strict-boost+debooster-2025-v2", "no-ple"),
    CHAOS: ("vanilla", "strict-boost", "no-ple"),
}
POLICIES = tuple(policy(name) for name in _COMPARED[CFS])


def fitting(scheduler: str) -> tuple[Policy, ...]:
    """Return the policies that are compared under a host scheduler unless others are asked for."""
    return tuple(policy(name) for name in _COMPARED[HOST_SCHEDULERS[scheduler].model])


def check_policy(policy: Policy, scheduler: str) -> None:
    """Refuse a policy that means nothing to a host scheduler."""
    model = HOST_SCHEDULERS[scheduler].model
    if policy.debooster is None or DEBOOSTERS[policy.debooster] == model:
        return
    there = [name for name in _COMPARED[model] if name in DEBOOSTERS]
    parts = [part for part in policy.name.split("+") if part != policy.debooster] + there
    raise ScenarioError(
        f"policy {policy.name!r} does not go with host.scheduler {scheduler!r}: {policy.debooster} changes "
        f"{DEBOOSTERS[policy.debooster]}; use {'+'.join(parts) or 'vanilla'!r} or another scheduler"
    )


def policies(names: str, scheduler: str = "cfs-5.6") -> tuple[Policy, ...]:
    """Return the policies of a comma-separated list, or for ``all`` those that fit the host scheduler."""
    if names.strip() == "all":
        return fitting(scheduler)
    chosen = [policy(name) for name in names.split(",")]
    doubled = next((one.name for number, one in enumerate(chosen) if one in chosen[:number]), None)
    if doubled is not None:
        raise ScenarioError(f"policy {doubled!r} is named twice in {names!r}; name each policy once")
    return tuple(chosen)
