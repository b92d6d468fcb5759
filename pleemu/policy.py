"""Yield policies by name: what the hypervisor and the host scheduler do with a spinning vCPU.

A policy is a set of independent mechanisms, so that an ablation is one name:

    vanilla            KVM as in Linux v5.6, the host scheduler as its kernel has it; or another generation of KVM:
                       sleep-2009, directed-yield-2011, ... kvm-6.19, see `generations`
    strict-boost       Strict Boost: nominate only a vCPU that can be what the spinner waits for; strict-boost-rfc as
                       posted, strict-boost-ideal as described; and the other cures of `generations`
    debooster          Debooster: make CFS follow the hint, by raising the yielder's vruntime; debooster-rfc as posted
    debooster-2025-v2  the same idea for EEVDF: a bounded penalty for the yielder; debooster-2025-v1 as first posted
    ideal-nominee      KVM nominates by ground truth, the scheduler is the real one; ideal: and is obeyed: the bound
    no-ple             PAUSE exits off (`ple_gap=0`, AMD: `pause_filter_count=0`): nobody notices a spinning vCPU

    ./mine.py          a policy of your own: see `own_policy`

Names are joined with `+` in any order: `debooster+strict-boost` is `strict-boost+debooster`. A name has at most one
generation, by default vanilla; `kvm-5.6` and `ready-2019` are other names for it.
"""

from __future__ import annotations

from attrs import field, frozen

from pleemu.errors import ScenarioError, nearest
from pleemu.generations import ALIASES, CURES, GENERATIONS, VANILLA, Meaningless, Search, search_of
from pleemu.kernel import CFS, CHAOS, EEVDF, HOST_SCHEDULERS
from pleemu.own_policy import OwnPolicy, is_own, own_policy


@frozen(kw_only=True)
class Policy:
    """The switches that a run is built with."""

    name: str
    summary: str = field(eq=False)
    ple: bool = True
    generation: str = VANILLA  # which of `GENERATIONS`
    cures: tuple[str, ...] = ()  # some of `CURES`
    debooster: str | None = None  # which of `DEBOOSTERS`
    own: OwnPolicy | None = None  # the user's

    @property
    def search(self) -> Search:
        """How KVM looks for whom to boost."""
        search = search_of(self.generation, self.cures)
        if self.own is None:
            return search
        if search.sleeps:
            raise ScenarioError(
                f"{self.own.name} needs candidates, but in {self.generation} the spinner sleeps and nominates nobody"
            )
        try:
            return self.own.apply(search)
        except Meaningless as error:
            ground = "+".join([self.generation, *self.cures])
            raise ScenarioError(f"{self.own.name} makes no sense with {ground}, which {error}") from None


# Mechanisms in the order in which a canonical name lists them.
_PARTS = {
    **{one.name: f"KVM of {one.kernel}: {one.what}" for one in GENERATIONS.values()},
    VANILLA: "Linux v5.6's KVM as it is: kvm_vcpu_on_spin, dynamic PLE window, the scheduler's own yield_to",
    "ideal-nominee": "KVM nominates by ground truth: who can act, and what the spinner waits for depends on it",
    "ideal": "the same, and the scheduler runs whom it nominates: the bound for any policy",
    "no-ple": "PAUSE exits off, as with kvm_intel.ple_gap=0 or kvm_amd.pause_filter_count=0",
    **{name: cure.what for name, cure in CURES.items()},
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
    parts = {ALIASES.get(part.strip(), part.strip()) for part in name.split("+")}
    for part in sorted(parts):
        if part not in _PARTS and not is_own(part):
            where = f" in {name!r}" if len(parts) > 1 else ""
            raise ScenarioError(f"unknown policy {part!r}{where}{nearest(part, [*_PARTS, *ALIASES])}")
    if "no-ple" in parts and len(parts) > 1:
        others = "+".join([part for part in (*_PARTS, *filter(is_own, parts)) if part in parts - {"no-ple"}])
        raise ScenarioError(
            f"policy {name!r} contradicts itself: without pause-loop exiting nothing asks for a yield; "
            f"use 'no-ple' or {others!r}"
        )
    deboosters = [part for part in DEBOOSTERS if part in parts]
    if len(deboosters) > 1:
        raise ScenarioError(f"policy {name!r} has {len(deboosters)} deboosters; use one of {', '.join(deboosters)}")
    generations = [part for part in GENERATIONS if part in parts]
    if len(generations) > 1:
        raise ScenarioError(f"policy {name!r} has {len(generations)} generations; use one of {', '.join(generations)}")
    files = sorted(filter(is_own, parts))
    if len(files) > 1:
        raise ScenarioError(f"policy {name!r} has {len(files)} policies of your own; use one of {', '.join(files)}")
    own = own_policy(files[0]) if files else None
    ground = generations[0] if generations else own.based_on if own else VANILLA
    if len(parts) > 1 and (own is None or own.based_on == VANILLA):
        parts.discard(VANILLA)  # the ground that the others stand on
    return _policy_of(name, parts, ground, own)


def _policy_of(name: str, parts: set[str], ground: str, own: OwnPolicy | None) -> Policy:
    ordered = [part for part in _PARTS if part in parts] + ([own.name] if own else [])
    made = Policy(
        name="+".join(ordered),
        summary="; ".join(own.summary if own and part == own.name else _PARTS[part] for part in ordered),
        ple="no-ple" not in parts,
        generation=ground,
        cures=tuple(part for part in CURES if part in parts),
        debooster=next((part for part in DEBOOSTERS if part in parts), None),
        own=own,
    )
    try:
        search = made.search
    except ScenarioError as error:
        raise ScenarioError(f"policy {name!r}: {error}") from None
    if search.forced and made.debooster:
        raise ScenarioError(f"policy {name!r}: {made.generation} is obeyed, so {made.debooster} has nothing to do")
    if search.sleeps and made.debooster:
        raise ScenarioError(
            f"policy {name!r}: {made.debooster} needs a yielder, but in {made.generation} nobody yields"
        )
    return made


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


def suits(policy: Policy, scheduler: str) -> bool:
    """Does the policy mean something to a host scheduler?"""
    return policy.debooster is None or DEBOOSTERS[policy.debooster] == HOST_SCHEDULERS[scheduler].model


def check_policy(policy: Policy, scheduler: str) -> None:
    """Refuse a policy that means nothing to a host scheduler."""
    if policy.debooster is None or suits(policy, scheduler):
        return
    model = HOST_SCHEDULERS[scheduler].model
    there = [name for name in _COMPARED[model] if name in DEBOOSTERS]
    parts = [part for part in policy.name.split("+") if part != policy.debooster] + there
    raise ScenarioError(
        f"policy {policy.name!r} does not go with host.scheduler {scheduler!r}: {policy.debooster} changes "
        f"{DEBOOSTERS[policy.debooster]}; use {'+'.join(parts) or 'vanilla'!r} or another scheduler"
    )


# All that `all` means, where they suit the scheduler: every part once, and the sum of the two cures of 2021.
ALL = tuple(policy(name) for name in (*_PARTS, "strict-boost+debooster"))


def policies(names: str) -> tuple[Policy, ...]:
    """Return the policies of a comma-separated list, or every one for ``all``, whatever the scheduler."""
    if names.strip() == "all":
        return ALL
    chosen = [policy(name) for name in names.split(",")]
    doubled = next((one.name for number, one in enumerate(chosen) if one in chosen[:number]), None)
    if doubled is not None:
        raise ScenarioError(f"policy {doubled!r} is named twice in {names!r}; name each policy once")
    return tuple(chosen)
