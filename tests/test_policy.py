"""Policies and processors by name."""

from __future__ import annotations

from itertools import permutations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleemu.catalogue import find
from pleemu.cli import main
from pleemu.errors import ScenarioError
from pleemu.experiment.compare import cases_of
from pleemu.kernel import HOST_SCHEDULERS
from pleemu.policy import ALL, DEBOOSTERS, POLICIES, check_policy, policies, policy, suits
from pleemu.processor import PROCESSORS, processor


def test_shipped_policies_are_the_reference_first() -> None:
    """The shipped policies are these five, vanilla first, each under its canonical name."""
    names = [one.name for one in POLICIES]
    assert names == ["vanilla", "strict-boost", "debooster", "strict-boost+debooster", "no-ple"]
    assert [policy(name) for name in names] == list(POLICIES)


@pytest.mark.parametrize("parts", list(permutations(["vanilla", "strict-boost", "debooster"])))
def test_parts_compose_in_any_order(parts: tuple[str, ...]) -> None:
    """The order of parts does not matter, and vanilla is the ground they stand on."""
    composed = policy("+".join(parts))
    assert composed.name == "strict-boost+debooster"
    assert (composed.ple, composed.cures, composed.debooster) == (True, ("strict-boost",), "debooster")


@pytest.mark.parametrize("name", ["no-ple+debooster", "strict-boost+no-ple", "vanilla+no-ple"])
def test_contradictory_parts_are_refused(name: str) -> None:
    """Nothing can be combined with the absence of pause-loop exiting."""
    with pytest.raises(ScenarioError, match="contradicts itself"):
        policy(name)


@pytest.mark.parametrize("name", ["kvm-5.6", "ready-2019", "vanilla+kvm-5.6", " ready-2019 "])
def test_other_names_of_vanilla_are_vanilla(name: str) -> None:
    """The kernel and the year of v5.6 are aliases: one canonical name."""
    assert policy(name) == policy("vanilla")
    assert policy(name).name == "vanilla"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("kvm-6.13+kvm-6.19", "2 generations"),
        ("vanilla+kvm-6.19", "2 generations"),
        ("strict-boost+strict-boost-rfc", "change the same rule"),
        ("ipi-aware-v2+strict-boost", "change the same rule"),
        ("sleep-2009+pending-irq", "the spinner sleeps and nominates nobody"),
        ("sleep-2009+debooster", "nobody yields"),
        ("strict-boost+directed-yield-2011", "lacks the rule 'not-ready' or 'not-preempted' that it changes"),
        ("strict-boost-rfc+in-kernel-2017", "lacks the rule 'not-ready' that it changes"),
        ("ipi-bool+preempted-2013", "lacks the rule 'user-mode' that it changes"),
        ("kvm-6.19+pending-irq", "has it already"),
        ("ipi-aware-v2+pending-irq", "has it already"),
    ],
)
def test_meaningless_combinations_are_refused(name: str, why: str) -> None:
    """What a part would change must be there, once; the message names the parts."""
    with pytest.raises(ScenarioError, match=why) as error:
        policy(name)
    assert all(part in str(error.value) for part in name.split("+"))
    assert "\n" not in str(error.value)


@given(st.sets(st.sampled_from([one.name for one in ALL if "+" not in one.name]), min_size=1, max_size=4))
def test_any_combination_of_parts_is_a_policy_or_explained(parts: set[str]) -> None:
    """Parts make one policy in any order, or none in any."""
    found = set()
    for order in (sorted(parts), sorted(parts, reverse=True)):
        try:
            found.add(policy("+".join(order)).name)
        except ScenarioError as error:
            assert len(str(error)) < 300
            found.add(None)
    assert len(found) == 1


@given(st.text(max_size=30))
def test_any_name_is_a_policy_or_explained(name: str) -> None:
    """Any text names a policy or is a ScenarioError."""
    try:
        assert policy(policy(name).name) == policy(name)
    except ScenarioError as error:
        assert "unknown policy" in str(error)


def test_unknown_part_is_answered_with_the_nearest() -> None:
    """A misspelt part is named, with the nearest name."""
    with pytest.raises(ScenarioError, match=r"unknown policy 'debooser' in 'strict-boost\+debooser'.*'debooster'"):
        policy("strict-boost+debooser")


def test_list_of_policies_names_each_once() -> None:
    """A list is read by commas, `all` is every one, the usual five among them, and none stands twice."""
    assert set(POLICIES) < set(policies("all")) == set(ALL)
    for scheduler in HOST_SCHEDULERS:
        for one in ALL:
            if suits(one, scheduler):
                check_policy(one, scheduler)
    assert [one.name for one in policies("no-ple, vanilla")] == ["no-ple", "vanilla"]
    with pytest.raises(ScenarioError, match="named twice"):
        policies("strict-boost+debooster,debooster+strict-boost")


def test_presets_differ_where_pause_does() -> None:
    """PAUSE is short before Skylake, longer than the default gap on Skylake-SP, and in between after."""
    costs = {one.name: one.pause_cycles for one in PROCESSORS}
    assert max(costs["haswell"], costs["broadwell"]) < 20 < min(costs["cascade-lake"], costs["ice-lake-sp"]) < 128
    assert costs["skylake-sp"] > 128


def test_unknown_processor_is_answered_with_the_nearest() -> None:
    """A misspelt preset is answered with the nearest name."""
    with pytest.raises(ScenarioError, match="did you mean 'haswell'"):
        processor("haswel")


def test_every_mechanism_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever looks for a name finds it, and once."""
    assert main(["list", "policies"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    for name in {one.name for one in POLICIES} | set(DEBOOSTERS):
        assert listed.count(name) == 1


def test_all_policies_are_compared_under_any_scheduler() -> None:
    """`--policies all` means those that go with the host's scheduler."""
    scenario = find("worst_case")
    scenario = attrs.evolve(scenario, host=attrs.evolve(scenario.host, scheduler="eevdf-6.12"))
    assert [case.policy.name for case in cases_of(scenario, "all").cases] == [
        one.name for one in ALL if suits(one, "eevdf-6.12")
    ]
