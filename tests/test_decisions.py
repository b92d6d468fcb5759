"""PAUSE exits judged and told: what must hold for every machine, and the stories that the experiments are known for."""

from __future__ import annotations

import functools
import json
from collections import Counter

import attrs
import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from made_machines import Command, commands, observe, prepare_core, programs_of
from made_searches import ASLEEP, MS, QUEUED, RUNNING, machine
from test_on_spin import pick_alone

import pleemu
from pleemu import catalogue
from pleemu.cli import main
from pleemu.errors import ScenarioError
from pleemu.experiment.explain import explain, is_exit
from pleemu.machine.judgement import jain_index
from pleemu.machine.run import simulate
from pleemu.machine.story import Stories
from pleemu.observe.events import KVM_EXIT, PAUSE_INSTRUCTION, YIELD_TO
from pleemu.observe.records import VERDICTS
from pleemu.policy import POLICIES, policy
from pleemu.report.explain_report import sentences

ALL_EXITS = frozenset(range(1, 3000))
BY_TRUTH = ("ideal-nominee", "ideal", "ideal-nominee+debooster")
ANY = (*(one.name for one in POLICIES), *BY_TRUTH, "kvm-6.19", "ipi-aware-v2", "directed-yield-2011", "sleep-2009")


def told(command):
    """A run with the stories of its exits."""
    stories = Stories(ALL_EXITS)
    seen = observe(command, stories=stories)
    return seen, stories.found


@functools.cache
def run(name, chosen, duration=None):
    changes = {"policy": chosen} | ({"duration": duration} if duration else {})
    return observe(Command(name, changes)).run


@functools.cache
def story(name, exit_, chosen="vanilla"):
    prepare_core()
    (only,) = explain(Command(name, {"policy": chosen}).scenario(), [exit_]).stories
    return only


@settings(max_examples=25)
@given(commands(policies=ANY))
def test_telling_changes_nothing_and_agrees_with_the_events(command):
    """Any machine: the same digest with and without stories; exits, targets and verdicts are those counted."""
    seen, stories = told(command)
    scenario = command.scenario()
    silent = simulate(scenario, programs=programs_of(scenario))
    assert silent.digest == seen.run.digest
    assert silent.decisions == seen.run.decisions
    exits = seen.of_kind(KVM_EXIT)
    exits = exits[exits["a"] == PAUSE_INSTRUCTION][: len(ALL_EXITS)]
    judged = [one for one in stories if one.verdict]
    khz, cycles = scenario.hardware.core_rate_khz, exits["cycle"].tolist()
    assert [one.at_ns for one in judged] == [cycles[one.number - 1] * 1_000_000 // khz for one in judged]
    if len(exits) < len(ALL_EXITS):
        asked = [(look.vcpu, look.answer) for one in judged for look in one.looked_at if look.answer is not None]
        names = [f"{vm.name}/{index}" for vm in scenario.vm for index in range(vm.vcpus)]
        yields = seen.of_kind(YIELD_TO)
        yields = yields[yields["c"] == 0]  # no hypercall's
        assert Counter(asked) == Counter((names[one["a"]], one["b"]) for one in yields)
        total = seen.run.decisions.total
        counted = {name: getattr(total, name) for name in VERDICTS}
        assert Counter(one.verdict for one in judged) == Counter({k: n for k, n in counted.items() if n})
        assert total.useful_possible == sum(bool(one.useful) for one in judged)
        assert total.judged <= seen.run.ple.exits <= total.judged + scenario.hardware.pcpus


@settings(max_examples=25)
@given(commands(policies=ANY))
def test_stories_are_consistent(command):
    """Any machine: a verdict follows from what the story itself says, and things happen behind the exit."""
    for one in told(command)[1]:
        note(str(one))
        assert set(one.useful) <= set(one.can_act)
        assert one.spinner not in one.can_act
        if one.verdict == "useful":
            assert one.target in one.useful
        elif one.verdict in ("wasted", "irrelevant"):
            assert one.target not in one.useful
        elif one.verdict == "nobody":
            assert one.target is None
        elif one.verdict == "unknown":
            assert one.waits_for == ""
        assert (one.target is not None) == any(look.answer is not None for look in one.looked_at)
        for after in (one.ran_after_ns, one.moved_after_ns, one.over_after_ns):
            assert after is None or after >= 0
        assert one.ran is None or one.ran in one.useful or one.ran_after_ns > 0
        assert all(isinstance(line, str) and line for line in sentences(one))


@settings(max_examples=30)
@given(commands(policies=BY_TRUTH))
def test_nominating_by_truth_is_precise_and_complete(command):
    """Any machine: precision and recall are 1, and nobody is boosted where nobody is useful."""
    total = observe(command).run.decisions.total
    assert total.wasted == total.irrelevant == 0
    assert total.useful == total.useful_possible
    assert total.precision in (1, None)
    assert total.recall in (1, None)


@settings(max_examples=15)
@given(commands(policies=("vanilla", "ideal-nominee", "ideal")))
def test_truth_holds_under_chaos_too(command):
    """Preempted anywhere: a nomination by truth is useful, and the hint is obeyed but for points and later hints."""
    seen, stories = told(attrs.evolve(command, fields={**command.fields, "host.scheduler": "chaos"}))
    if command.changes["policy"] != "vanilla":
        assert seen.run.decisions.total.precision in (1, None)
        assert seen.run.decisions.total.recall in (1, None)
    for one in stories:
        note(str(one))
        assert one.hint in ("", "obeyed")
        if one.accepted and one.target_pcpu == one.pcpu and not seen.run.preemptions:
            assert one.next_here == one.target


@settings(max_examples=30)
@given(commands(policies=("vanilla", "ideal", "debooster")), st.sampled_from(("ticket_lock", "queued_lock")))
def test_next_in_line_is_who_takes_the_lock(command, lock):
    """A lock that serves in order and is free goes to whom, as told, could act; a held one is released by a holder."""
    for one in told(attrs.evolve(command, subject=lock))[1]:
        note(str(one))
        if not one.in_order or one.moved is None:
            continue
        if one.holders:
            assert one.moved == "lock_released"
            assert one.moved_by in [holder.vcpu for holder in one.holders]
        elif one.can_act:
            assert one.moved == "lock_acquired"
            assert [one.moved_by] == one.can_act


NAMES = (
    *("boost_latency", "case_study", "worst_case", "lost_opportunity"),
    *("overboost", "ticket_lock", "queued_lock", "pause_latency"),
)


@pytest.mark.parametrize("name", NAMES)
def test_ideal_is_never_beaten(name):
    """No policy needs fewer exits a hand-over than `ideal`, which needs one; with it somebody useful runs soonest."""
    assert set(NAMES) <= set(catalogue.experiments())
    bound = run(name, "ideal", "100ms").decisions.total
    assert bound.exits_per_hand_over == 1
    for chosen in ("vanilla", "strict-boost", "debooster", "strict-boost+debooster", "ideal-nominee", "kvm-6.19"):
        total = run(name, chosen, "100ms").decisions.total
        assert total.exits_per_hand_over is None or total.exits_per_hand_over >= 1
        assert total.ran_after_ns is None or total.ran_after_ns >= bound.ran_after_ns


@pytest.mark.parametrize("name", ["boost_latency", "ticket_lock", "worst_case"])
@pytest.mark.parametrize("pinning", ["vcpu-to-pcpu", "none"])
def test_ideal_needs_one_exit_under_eevdf_too(name, pinning):
    """Pinned or moved about by the balancer: one exit a hand-over, and the truth is never wrong."""
    vms = len(catalogue.find(name).vm)
    fields = {"host.scheduler": "eevdf-6.12"} | {f"vm.{vm}.pinning": pinning for vm in range(vms)}
    for chosen in ("ideal", "ideal-nominee", "vanilla"):
        duration = "60ms" if name == "ticket_lock" else "30ms"  # where two VMs may take turns for long
        total = observe(Command(name, {"policy": chosen, "duration": duration}, fields)).run.decisions.total
        assert total.hand_overs > 0
        if chosen == "ideal":
            assert total.exits_per_hand_over == 1
        else:
            assert total.exits_per_hand_over >= 1
        if chosen != "vanilla":
            assert total.precision == total.recall == 1


def test_case_study_is_the_scheduler_s_refusal():
    """KVM nominates the holder at every exit, the scheduler refuses: it is further ahead than it may be."""
    total = run("case_study", "vanilla").decisions.total
    assert total.precision == total.recall == 1
    assert total.exits_per_hand_over > 5
    one = story("case_study", "longest")
    assert (one.verdict, one.accepted, one.next_here) == ("useful", True, one.spinner)
    assert one.distance_ns > one.limit_ns == 4_000_000
    assert one.ran == one.moved_by == one.target
    told_ = " ".join(sentences(one))
    assert f"ran {one.spinner} again, not {one.target}" in told_
    assert "only 4.0 ms are followed" in told_


def test_worst_case_runs_the_other_vm_s_spinner():
    """The other VM's spinner is what runs in place of the holder."""
    one = story("worst_case", "longest")
    assert one.verdict == "useful"
    assert one.next_here.split("/")[0] != one.spinner.split("/")[0]
    assert one.lock_symbol == "lock"
    assert [holder.vcpu for holder in one.holders] == [one.target]
    assert run("worst_case", "ideal").decisions.total.exits_per_hand_over == 1


def test_lost_opportunity_is_kvm_s_refusal():
    """Vanilla nominates nobody, for one rule; Strict Boost finds the receiver each time."""
    lost = run("lost_opportunity", "vanilla").decisions
    assert lost.total.recall == 0
    assert lost.total.nobody == lost.total.useful_possible > 10
    assert [(one.rule, one.useful) for one in lost.refusals if one.useful] == [("user-mode", lost.total.nobody)]
    assert run("lost_opportunity", "strict-boost").decisions.total.recall == 1
    one = story("lost_opportunity", "first")
    assert (one.waits_for, one.useful) == ("answer", [holder.vcpu for holder in one.holders])
    assert "preempted in user mode" in " ".join(sentences(one))


def test_overboost_boosts_whom_nobody_waits_for():
    """Half of vanilla's nominations are of woken vCPUs that have nothing to do with the lock; the truth has none."""
    total = run("overboost", "vanilla").decisions.total
    assert total.irrelevant > 30
    assert total.precision < 0.7
    assert run("overboost", "ideal").decisions.total.irrelevant == 0
    one = story("overboost", "irrelevant")
    assert one.target not in one.can_act
    assert one.useful


def test_ticket_lock_shows_the_first_semantic_gap():
    """The scheduler obeys, yet little is useful; by truth the guests get a third more done, with 1 % of the exits."""
    vanilla, truth = run("ticket_lock", "vanilla"), run("ticket_lock", "ideal")
    assert vanilla.decisions.total.precision < 0.3
    assert sum(vm.operations for vm in truth.vms) > 1.3 * sum(vm.operations for vm in vanilla.vms)
    assert truth.ple.exits < 0.03 * vanilla.ple.exits
    assert story("ticket_lock", "wasted").in_order


def test_spinning_is_counted_without_exits():
    """Without pause-loop exiting a spinner burns its time slice: that is counted, and no more than its guest time."""
    found = run("case_study", "no-ple")
    guest_ns = sum(vm.guest_share for vm in found.vms) * found.duration_ns
    total = found.decisions.total
    assert total.judged == 0
    assert 0.2 * guest_ns < total.spin_ns < guest_ns


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=10))
def test_jain_s_index_is_between_one_nth_and_one(shares):
    """Fair is 1, and the index does not ask for the unit."""
    index = jain_index(shares)
    assert 1 / len(shares) - 1e-9 <= index <= 1 + 1e-9
    assert jain_index([7.0] * len(shares)) == pytest.approx(1)
    assert jain_index([0.0] * (len(shares) - 1) + [1.0]) == pytest.approx(1 / len(shares))


def test_explain_prints_sentences(capsys):
    """`explain` names spinner, lock, holder, candidates, the scheduler's numbers and the verdict."""
    prepare_core()
    assert main(["explain", "case_study", "3"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for part in (
        "precision 100.0%, recall 100.0%",
        "Exit 3 vm0/",
        "spun at native_queued_spin_lock_slowpath+0xb (0xffffffff8100001b) for the lock lock at 0x",
        "(off its pCPU). Useful to run: vm0/",
        "asked for, yield_to accepted",
        "of virtual time ahead of the first in line, and only 4.0 ms are followed",
        "Verdict: nominating vm0/",
        "released the lock",
    ):
        assert part in printed


def test_explain_prints_json(capsys):
    """`--json` has the same exits, once each, in order, with every key of a story."""
    prepare_core()
    assert main(["explain", "lost_opportunity", "nobody", "2-4", "first", "--duration", "60ms", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [one["number"] for one in printed["explained"]] == [1, 2, 3, 4]
    assert printed["explained"][0]["verdict"] == "nobody"
    assert printed["decisions"]["total"]["recall"] == 0
    assert printed["exits"] == printed["decisions"]["total"]["nobody"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["9999"], "exit 9999: this run has 12 PAUSE exits; use 1 to 12"),
        (["0"], "exit 0: this run has 12 PAUSE exits; use 1 to 12"),
        (["11-20"], "exit 20: this run has 12 PAUSE exits"),
        (["7-3"], "exit '7-3': the range ends before it begins; write 3-7"),
        (["1-500"], "exit '1-500': 500 exits are too many; ask for at most 100"),
        (["wasted"], "exit 'wasted': this run has no such PAUSE exit; it has 12"),
        (["wastd"], "wastd"),
        (["1", "--policy", "no-ple"], "exit 1: this run has no PAUSE exits; there is none to explain"),
    ],
)
def test_explain_refuses_with_a_sentence(arguments, expected, capsys):
    """A number that does not exist, a range that is none, a word that is none: exit code 2 and what would be right."""
    prepare_core()
    assert main(["explain", "case_study", *arguments, "--duration", "40ms"]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error


def test_explain_of_a_run_without_exits_says_so(capsys):
    """Nothing to explain is no error, unless somebody asks for an exit."""
    prepare_core()
    assert main(["explain", "case_study", "--policy", "no-ple", "--duration", "5ms"]) == 0
    assert "There was no PAUSE exit" in capsys.readouterr().out


def test_exit_without_a_decision_is_explained_in_a_line(capsys):
    """The run has ended before KVM had decided: exits that are counted and have no story, as text and as JSON."""
    prepare_core()
    run_ = pleemu.run("ticket_lock", duration="30ms")
    judged = run_.decisions.total.judged
    assert run_.ple.exits > judged
    last = f"{judged - 2}-{run_.ple.exits}"
    assert main(["explain", "ticket_lock", last, "--duration", "30ms"]) == 0
    said = capsys.readouterr().out
    assert main(["explain", "ticket_lock", last, "--duration", "30ms", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    told = [one["number"] for one in found["explained"]]
    assert sorted(told + found["pending"]) == list(range(judged - 2, run_.ple.exits + 1))
    assert len(found["pending"]) > 0
    for number in found["pending"]:
        assert f"Exit {number}  The run ended before KVM had decided." in said


def test_exits_are_told_from_files():
    """Numbers, ranges and words are exits, all else is a file."""
    assert all(is_exit(one) for one in ("1", "#12", "3-7", "first", "longest", *VERDICTS))
    assert not any(is_exit(one) for one in ("lock.S", "./1", "a-b", "1-", "-1", ""))


def test_explain_is_a_function_too():
    """In Python the stories are objects, and a word that is none is a sentence."""
    prepare_core()
    run_, stories = pleemu.explain("case_study", 1, "3-4", duration="40ms", policy="ideal")
    assert [one.number for one in stories] == [1, 3, 4]
    assert all(one.next_here == one.target for one in stories)
    assert run_.decisions.total.exits_per_hand_over == 1
    with pytest.raises(ScenarioError, match="exit 'las': write a number, a range as 3-7, or one of first, longest"):
        pleemu.explain("case_study", "las", duration="1ms")


@pytest.mark.parametrize(
    ("forced", "picked"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 0), (5, 0)], ids=lambda one: str(one)
)
def test_forced_pick_is_obeyed_once(forced, picked):
    """A queued task is picked however far ahead it is, once; one that sleeps or is queued elsewhere is not."""
    threads = [(0, RUNNING, 0), (0, QUEUED, 90 * MS), (0, QUEUED, 50 * MS), (0, ASLEEP, 0), (1, QUEUED, 0)]
    m = machine(threads, 2)
    m.rq.forced[0] = forced
    assert pick_alone(m, 0, 0) == picked
    assert m.rq.forced[0] == 0
    assert pick_alone(m, 0, 0) == 0


@pytest.mark.parametrize("name", ["ideal+debooster", "ideal+strict-boost", "ideal+ideal-nominee"])
def test_ideal_goes_with_nothing(name):
    """What is obeyed needs no Debooster, and what knows the truth no Strict Boost."""
    with pytest.raises(ScenarioError, match="ideal"):
        policy(name)


def test_truth_is_for_the_ideal_alone():
    """The flag that says who would be useful is read by one rule, which only the ideal policies have."""
    for name in ("vanilla", "strict-boost", "kvm-6.19", "ipi-aware-v2", "directed-yield-2011"):
        assert "not-useful" not in policy(name).search.rules
        assert not policy(name).search.forced
    assert np.all([policy(name).search.rules == ("not-useful",) for name in BY_TRUTH])
