"""Yield policies by name: what the hypervisor and the host scheduler do with a spinning vCPU.

A policy is a set of independent mechanisms, so that an ablation is one name:

    vanilla       KVM and CFS as in Linux v5.6
    strict-boost  Strict Boost: nominate only a vCPU that can be what the spinner waits for
    debooster     Debooster: make CFS follow the hint, by raising the yielder's vruntime
    no-ple        PAUSE exits off (`ple_gap=0`, AMD: `pause_filter_count=0`): nobody notices a spinning vCPU

Names are joined with `+` in any order: `debooster+strict-boost` is `strict-boost+debooster`.
"""

from __future__ import annotations

from attrs import field, frozen

from pleemu.errors import ScenarioError, nearest


@frozen(kw_only=True)
class Policy:
    """The switches that a run is built with."""

    name: str
    summary: str = field(eq=False)
    ple: bool = True
    strict_boost: bool = False
    debooster: bool = False


# Mechanisms in the order in which a canonical name lists them.
_PARTS = {
    "vanilla": "Linux v5.6 as it is: kvm_vcpu_on_spin, dynamic PLE window, CFS yield_to",
    "no-ple": "PAUSE exits off, as with kvm_intel.ple_gap=0 or kvm_amd.pause_filter_count=0",
    "strict-boost": "nominate only preempted vCPUs and those that the spinner sent an IPI",
    "debooster": "raise the yielder's vruntime until CFS picks the nominated vCPU",
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
        debooster="debooster" in parts,
    )


# What `pleemu compare` compares unless told otherwise, reference first.
POLICIES = tuple(policy(name) for name in ("vanilla", "strict-boost", "debooster", "strict-boost+debooster", "no-ple"))


def policies(names: str) -> tuple[Policy, ...]:
    """Return the policies of a comma-separated list, or all shipped ones for ``all``."""
    if names.strip() == "all":
        return POLICIES
    chosen = [policy(name) for name in names.split(",")]
    doubled = next((one.name for number, one in enumerate(chosen) if one in chosen[:number]), None)
    if doubled is not None:
        raise ScenarioError(f"policy {doubled!r} is named twice in {names!r}; name each policy once")
    return tuple(chosen)
