"""`pleemu check`: it finds planted bugs, lets all that is right pass, and says so in few words."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from made_machines import Command, observe

from pleemu.checks.finding import PropertyError
from pleemu.checks.kit import check_policy
from pleemu.checks.machines import GUESTS, commands
from pleemu.checks.observed import Observed
from pleemu.checks.properties import EVERYWHERE, PROPERTIES
from pleemu.checks.yields import check_ideal, check_own_vm
from pleemu.cli import main
from pleemu.jit import sources_digest
from pleemu.observe.events import YIELD_TO

HERE = Path(__file__).parent
PLANTED = HERE / "planted_policies.py"
FOUND_BY = {
    "boosts-across-vms": "own-vm",
    "boosts-running": "only-ready",
    "starves": "starvation",
    "keeps-spin-flag": "spin-flag",
}


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, list]]:
    """What is found in each planted policy, by a core that is compiled with them and kept beside the usual one."""
    digest = hashlib.sha256(sources_digest().encode() + PLANTED.read_bytes()).hexdigest()[:16]
    cache = Path(tempfile.gettempdir()) / f"pleemu-planted-{digest}"
    done = subprocess.run(
        [sys.executable, str(PLANTED)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env={**os.environ, "PLEEMU_CACHE_DIR": str(cache), "PYTHONPATH": f"{HERE.parent}:{HERE}"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("bug", "by"), FOUND_BY.items())
def test_planted_bugs_are_found(found: dict, bug: str, by: str) -> None:
    """Each by its property, with the vCPUs and a command; vanilla in the same core has none."""
    error, vcpus, command = found[bug][by]
    assert vcpus
    assert "cycle " in error
    assert command.startswith("pleemu run ")
    assert not found["vanilla"]


@pytest.mark.parametrize("name", ["vanilla", "strict-boost-ideal", "debooster", "sleep-2009"])
def test_policies_that_are_right_pass(name: str) -> None:
    """Built-in policies keep every property, which all are asked."""
    checked = check_policy(name, examples=12, seed=3)
    assert checked.holds, [one for one in checked.verdicts if not one.holds]
    assert [one.of for one in checked.verdicts] == list(PROPERTIES)


@settings(max_examples=10)
@given(commands(subjects=GUESTS[:2]))
def test_the_table_of_properties_holds(command: Command) -> None:
    """Each property by itself, on the guests that are made for them."""
    observed = observe(command)
    for one in EVERYWHERE:
        if not one.about(observed):
            one.check(observed)


def changed(observed: Observed, kind: int, **values: int) -> Observed:
    """The same with another first event of a kind."""
    events = observed.events.copy()
    place = int((events["kind"] == kind).argmax())
    for name, value in values.items():
        events[name][place] = value
    return Observed(observed.run, events, observed.command, observed.policy)


def test_a_forged_yield_is_named_with_its_place() -> None:
    """A directed yield to the other VM's vCPU: the error has cycle, pCPU and both vCPUs."""
    slow = {"hardware.tsc_khz": "50000", "host.hz": "1000", "host.online_cpus": "1"}
    observed = observe(Command(GUESTS[0], {"vms": 2, "vcpus": 2, "pcpus": 1, "duration": "20ms"}, slow))
    check_own_vm(observed)
    first = observed.of_kind(YIELD_TO)[0]
    other = 3 if first["vcpu"] < 2 else 0
    with pytest.raises(PropertyError) as caught:
        check_own_vm(changed(observed, YIELD_TO, a=other))
    assert (caught.value.cycle, caught.value.pcpu) == (first["cycle"], first["pcpu"])
    assert caught.value.vcpus == (first["vcpu"], other)


def test_vanilla_is_not_ideal() -> None:
    """What only a policy with the truth can keep, vanilla breaks: it passes over who was preempted in user mode."""
    with pytest.raises(PropertyError, match="boosts nobody"):
        check_ideal(observe(Command("lost_opportunity")))


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a property, exit code 0; as JSON, too."""
    assert main(["check", "vanilla", "--examples", "2", "--scheduler", "cfs-5.6"]) == 0
    printed = capsys.readouterr().out
    assert all(one.what[:20] in printed for one in PROPERTIES)
    assert main(["check", "vanilla", "--examples", "1", "--scheduler", "cfs-5.6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["holds"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["vanila"], "did you mean 'vanilla'"),
        (["vanilla", "--examples", "0"], "use at least 1"),
        (["vanilla", "--scheduler", "cfs"], "unknown scheduler 'cfs'"),
        (["debooster", "--scheduler", "chaos"], "does not go with"),
    ],
)
def test_bad_arguments_are_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and what would be right."""
    assert main(["check", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_without_hypothesis_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["check", "vanilla"]) == 2
    assert "pip install 'pleemu[check]'" in capsys.readouterr().err
