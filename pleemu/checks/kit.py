"""Machines against a policy: what `pleemu check` does.

Hypothesis makes machines, each of which is run once and asked for all properties. A property that fails on one of
them is then searched for alone, which leaves a small machine; under the chaos scheduler its schedule is
reduced to the preemptions that matter. All of it depends on the seed alone, but where the time is over.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import hypothesis
from attrs import field, frozen
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from pleemu.checks.finding import PropertyError
from pleemu.checks.machines import commands, fitting_schedulers, share_commands
from pleemu.checks.observed import Command, Observed, observe
from pleemu.checks.properties import EVERYWHERE, SHARES, Property
from pleemu.errors import GuestFault, ScenarioError, nearest
from pleemu.kernel import HOST_SCHEDULERS
from pleemu.policy import Policy
from pleemu.policy import policy as policy_named
from pleemu.scenario import Scenario
from pleemu.shrinking import shrink_schedule

EXAMPLES = 60
SHARE_EXAMPLES_IN = 12  # one long run, for shares, to so many short ones
SHRINK_SECONDS = 20.0  # for each property that fails
SCHEDULE_ATTEMPTS = 150
CYCLES = (300_000, 1_000_000, 3_000_000)

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much


@frozen
class Finding:
    """A property that does not hold, and the smallest run that was found to show it."""

    error: PropertyError
    command: Command


@frozen
class Verdict:
    """What became of one property."""

    of: Property
    runs: int  # in which it was checked
    finding: Finding | None = None
    not_about: str = ""  # why it was checked in none

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return self.finding is None


@frozen(kw_only=True)
class Checked:
    """All verdicts on a policy."""

    policy: str
    seed: int
    examples: int
    verdicts: tuple[Verdict, ...]
    seconds: float = field(eq=False)

    @property
    def holds(self) -> bool:
        """Whether all properties hold."""
        return all(one.holds for one in self.verdicts)


def check_policy(
    name: str,
    *,
    policy: Policy | None = None,
    examples: int = EXAMPLES,
    seed: int = 0,
    schedulers: Sequence[str] = (),
    cycles: Sequence[int] = CYCLES,
    progress: Progress | None = None,
) -> Checked:
    """Check all properties of a policy, by the name that the command line knows it by.

    ``policy`` is what that name stands for, if `pleemu.policy.policy` does not know it. ``schedulers`` of the host are
    by default all that it goes with; ``cycles`` those that the machines run for.
    """
    began = time.monotonic()
    chosen = policy or policy_named(name)
    fitting = _schedulers_of(name, schedulers)
    show = progress or (lambda what, done, total: None)
    search = _Search(chosen, seed)
    verdicts: list[Verdict] = []
    short = commands((name,), schedulers=fitting, cycles=cycles)
    long = share_commands((name,), fitting)
    for what, machines, count, properties in (
        ("machines", short, examples, EVERYWHERE),
        ("shares", long, -(-examples // SHARE_EXAMPLES_IN), SHARES),
    ):
        verdicts += search.run(machines, count, properties, partial(show, what))
    for number, one in enumerate(verdicts):
        if one.finding is not None:
            show("shrinking", number, len(verdicts))
            machines, count = (short, examples) if one.of in EVERYWHERE else (long, examples)
            verdicts[number] = attrs.evolve(one, finding=search.shrink(machines, count, one.of, one.finding))
    return Checked(
        policy=name, seed=seed, examples=examples, verdicts=tuple(verdicts), seconds=time.monotonic() - began
    )


def _schedulers_of(name: str, given: Sequence[str]) -> list[str]:
    for scheduler in given:
        if scheduler not in HOST_SCHEDULERS:
            raise ScenarioError(f"unknown scheduler {scheduler!r}{nearest(scheduler, HOST_SCHEDULERS)}")
    fitting = fitting_schedulers(name, given or tuple(HOST_SCHEDULERS))
    if not fitting:
        raise ScenarioError(f"policy {name!r} does not go with host.scheduler {', '.join(given)}; leave the option out")
    return fitting


class _TimeIsUp(KeyboardInterrupt):
    """Ends a search of hypothesis at once; it lets an interrupt of the user's through."""


@frozen
class _Search:
    """Runs under one policy."""

    policy: Policy
    seed: int

    def run(
        self,
        machines: st.SearchStrategy[Command],
        examples: int,
        properties: Sequence[Property],
        progress: Callable[[int, int], None],
    ) -> list[Verdict]:
        """Ask each machine for all properties that have held so far."""
        runs = dict.fromkeys(properties, 0)
        findings: dict[Property, Finding] = {}
        reasons: dict[Property, str] = {}
        done = 0

        def ask(command: Command) -> None:
            nonlocal done
            progress(min(done, examples), examples)
            done += 1
            observed = _observed(command, self.policy)
            for one in properties:
                if one in findings:
                    continue
                reason, error = _asked(one, observed)
                reasons[one] = reason
                runs[one] += not reason
                if error is not None:
                    findings[one] = Finding(error, command)

        self._each(machines, examples, ask, Phase.generate)
        return [
            Verdict(one, runs[one], findings.get(one), "" if runs[one] else reasons.get(one, "")) for one in properties
        ]

    def shrink(self, machines: st.SearchStrategy[Command], examples: int, wanted: Property, found: Finding) -> Finding:
        """Look for the same with less, for some seconds."""
        until = time.monotonic() + SHRINK_SECONDS
        least = found

        def ask(command: Command) -> None:
            nonlocal least
            if time.monotonic() > until:
                raise _TimeIsUp
            error = _asked(wanted, _observed(command, self.policy))[1]
            if error is None:
                return
            least = min(least, Finding(error, command), key=_size)
            raise error

        ends = (_TimeIsUp, PropertyError, hypothesis.errors.HypothesisException)
        with contextlib.suppress(*ends):  # what it has found so far is in `least`
            self._each(machines, examples, ask, Phase.generate, Phase.shrink)
        return self._with_fewer_points(least, wanted)

    def _with_fewer_points(self, found: Finding, wanted: Property) -> Finding:
        """Leave the preemptions that matter, if the finding's run has any."""
        scenario = found.command.scenario()
        if scenario.host.scheduler != "chaos" or scenario.points is not None:
            return found
        until = time.monotonic() + SHRINK_SECONDS

        def command_of(one: Scenario) -> Command:
            return found.command.having(host__schedule=one.host.schedule)

        def fails(one: Scenario) -> bool:
            if time.monotonic() > until:
                return False
            return _asked(wanted, _observed(command_of(one), self.policy))[1] is not None

        try:
            command = command_of(shrink_schedule(scenario, fails, attempts=SCHEDULE_ATTEMPTS))
        except ScenarioError:
            return found  # too many points for a token, or too slow: the seed repeats them
        error = _asked(wanted, _observed(command, self.policy))[1]
        return found if error is None else Finding(error, command)

    def _each(
        self, machines: st.SearchStrategy[Command], examples: int, ask: Callable[[Command], None], *phases: Phase
    ) -> None:
        settings = hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            derandomize=False,
            phases=phases,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            verbosity=hypothesis.Verbosity.quiet,
        )
        hypothesis.seed(self.seed)(settings(hypothesis.given(machines)(ask)))()


def _observed(command: Command, policy: Policy) -> Observed | PropertyError:
    """Run; that a guest is stopped is a finding of its own: the guests of the checks do so if a lock is broken."""
    try:
        return observe(command, policy)
    except GuestFault as fault:
        return PropertyError("the guest is stopped: " + str(fault).partition("\n")[0])


def _asked(one: Property, observed: Observed | PropertyError) -> tuple[str, PropertyError | None]:
    """Return why the property is not about this run, or what it has found, if anything."""
    if isinstance(observed, PropertyError):
        return ("", observed) if one.name == "exclusion" else ("the guest was stopped", None)
    if reason := one.about(observed):
        return reason, None
    try:
        one.check(observed)
    except PropertyError as error:
        return "", error
    return "", None


def _size(found: Finding) -> tuple[int, ...]:
    """The smaller, the sooner understood."""
    scenario = found.command.scenario()
    vcpus = sum(vm.vcpus for vm in scenario.vm)
    return (
        vcpus + scenario.hardware.pcpus + len(found.command.fields),
        round(scenario.duration_ns * scenario.hardware.core_rate_khz),
    )
