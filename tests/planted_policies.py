"""Policies with a bug each, in a core that is compiled with them: a child of test_check.py runs this.

They are rules of their own, behind those that there are: the first rule of a policy says which bug it has.
"""

from __future__ import annotations

import json
import sys

import pleemu.hypervisor.on_spin as on_spin
import pleemu.hypervisor.rules as rules
from pleemu.jit import compiled

PLANTED = ("boosts-across-vms", "boosts-running", "starves", "keeps-spin-flag")
FIRST = len(rules.RULES)
rules.RULES.update(dict.fromkeys(PLANTED, "planted"))
ACROSS, RUNNING, STARVES, KEEPS = range(FIRST, FIRST + len(PLANTED))
VANILLA_SEARCH, VANILLA_END = on_spin.search, on_spin.end_spin
YIELD = on_spin.kvm_vcpu_yield_to
AHEAD_NS = 20_000_000


@compiled
def search(m, p, me, now):
    """Whom a planted policy names; all others search as they do."""
    bug = m.kvm[0].rules & 0xFF
    if bug < FIRST:
        return VANILLA_SEARCH(m, p, me, now)
    vcpu = m.vcpu[me]
    first, end = m.vm[vcpu.vm].first_vcpu, m.vm[vcpu.vm].first_vcpu + m.vm[vcpu.vm].vcpus
    if bug == ACROSS:
        first, end = 0, m.vcpu.shape[0]
    for candidate in range(first, end):
        wanted = m.vcpu[candidate].ready == 1 or (bug == RUNNING and m.vcpu[candidate].on_wait_queue == 0)
        if candidate == me or not wanted:
            continue
        if bug == STARVES:
            m.task[candidate].vruntime -= AHEAD_NS
        if YIELD(m, p, me, candidate, now) > 0:
            return True
    return False


@compiled
def end_spin(m, me):
    """Forget it, or do what there is to do."""
    if m.kvm[0].rules & 0xFF != KEEPS:
        VANILLA_END(m, me)


on_spin.search, on_spin.end_spin = search, end_spin

import attrs  # noqa: E402

from pleemu.checks import kit  # noqa: E402
from pleemu.policy import Policy, policy  # noqa: E402

kit.SHRINK_SECONDS = 1.0


class Planted(Policy):
    """Vanilla with another first rule."""

    bug = ""

    @property
    def search(self):
        return attrs.evolve(policy("vanilla").search, rules=(self.bug,))


def planted(bug: str) -> Policy:
    """Return the policy with a bug."""
    made = type(bug, (Planted,), {"bug": bug})
    given = {one.name: getattr(policy("vanilla"), one.name) for one in attrs.fields(Policy)}
    return made(**given)


def main() -> None:
    """Check all of them, and print what fails and the commands."""
    found = {}
    for bug in (*PLANTED, "vanilla"):
        chosen = policy("vanilla") if bug == "vanilla" else planted(bug)
        checked = kit.check_policy("vanilla", policy=chosen, examples=40, schedulers=["cfs-5.6"])
        found[bug] = {
            one.of.name: [str(one.finding.error), list(one.finding.error.vcpus), str(one.finding.command)]
            for one in checked.verdicts
            if one.finding is not None
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
