"""A policy of the user's own: a file of Python beside pleemu, which is not compiled again for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_machines import programs_of
from numba import njit

import pleemu
from pleemu import jit, template
from pleemu.cli import main
from pleemu.errors import PleemuError
from pleemu.generations import GENERATIONS
from pleemu.machine.own import READABLE
from pleemu.machine.run import simulate
from pleemu.policy import policy

HERE = Path(__file__).parent
PING = str(HERE / "guests" / "ping.S")
SHORT = "4ms" if jit.is_plain_python() else "60ms"

# Strict Boost as its authors coded it, in twelve lines.
STRICT_BOOST = """
REPLACES = ("not-ready", "not-preempted", "user-mode")
def on_ipi(sender, receiver):
    if receiver.scheduled_out:
        receiver.mine[0] |= 1 << sender.id
def on_sched_in(vcpu):
    vcpu.mine[0] = 0
on_entry = on_sched_in
def refuses(me, candidate):
    if not candidate.preempted and not (candidate.ready and candidate.mine[0] >> me.id & 1):
        candidate.mine[0] |= 1 << me.id
        return 1
    return 0 if candidate.preempted_in_kernel or candidate.mine[0] >> me.id & 1 else 2
"""

# The rules of KVM, as a user would write them.
RULES = {
    "itself": "return candidate.id == me.id",
    "halted": "return candidate.blocking",
    "not-preempted": "return not candidate.preempted",
    "not-ready": "return not candidate.ready",
    "no-interrupt": "return candidate.blocking and not candidate.dy_runnable",
    "user-mode": """
        spared = candidate.preempted_in_kernel or (LATER and candidate.pending_irq)
        return candidate.preempted and not spared""",
    "spins": """
        passes = not candidate.in_spin_loop or candidate.dy_eligible
        if candidate.in_spin_loop:
            candidate.dy_eligible = 1 - candidate.dy_eligible
        return not passes""",
}

# Uses all that there is, and hands on what it has seen.
BUSY = f"""
COMPILED = True

def mix(a, b):
    return (a ^ b) * 0x9E3779B1 % 1000003

def note(vcpu, kind, value):
    vcpu.mine[kind] = mix(vcpu.mine[kind], value)
    vcpu.mine[63] = mix(vcpu.mine[63], vcpu.mine[kind])

def refuses(me, candidate):
    seen = {" + ".join(f"candidate.{name}" for name in READABLE if name != "mine")} + candidate.mine[63] + me.mine[63]
    candidate.mine[9] += 1
    return seen % 3

def starts_at(me):
    return me.mine[63] - 500000

def on_entry(vcpu):
    note(vcpu, 1, vcpu.now_ns)
def on_sched_in(vcpu):
    note(vcpu, 2, vcpu.ready)
def on_sched_out(vcpu):
    note(vcpu, 3, vcpu.preempted)
def on_ipi(sender, receiver):
    note(receiver, 4, sender.id)
def on_eoi(vcpu, vector):
    note(vcpu, 5, vector)
def on_yield(me, candidate, answer):
    note(candidate, 6, answer)
    note(me, 7, candidate.id)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, in which ``mine.py`` is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(source: str, name: str = "mine.py") -> str:
    """Write a policy's file; its path."""
    Path(name).write_text(source)
    return f"./{name}"


def plain(source: str) -> str:
    """The same policy, never compiled."""
    return source.replace("COMPILED = True", "") + "\nCOMPILED = False\n"


def run_of(experiment: str, named: str, duration: str = SHORT, **fields: str):
    scenario = pleemu.load_scenario(experiment, duration=duration, fields=fields)
    return simulate(scenario, policy=policy(named), programs=programs_of(scenario))


def digest(experiment: str, named: str, duration: str = SHORT, **fields: str) -> str:
    return run_of(experiment, named, duration, **fields).digest


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which the command line refuses."""
    assert main(list(arguments)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("pleemu: error: ").strip()


# What it can be


@pytest.mark.parametrize("form", [str, plain], ids=["compiled", "plain Python"])
@pytest.mark.parametrize("experiment", ["overboost", "lost_opportunity", "ticket_lock"])
def test_strict_boost_in_twelve_lines_is_strict_boost(experiment, form):
    """A dozen lines of a user's make the run that the authors' own code makes, to the event, and not vanilla's."""
    assert len(STRICT_BOOST.strip().splitlines()) <= 12
    duration = "15ms" if experiment == "ticket_lock" else SHORT
    mine = digest(experiment, write(form(STRICT_BOOST)), duration)
    assert mine == digest(experiment, "strict-boost", duration)
    if experiment == "lost_opportunity":
        assert mine != digest(experiment, "vanilla", duration)


@pytest.mark.parametrize("added", ["debooster", "in-kernel-2017", "kvm-6.19+debooster"])
def test_own_policy_composes_as_a_cure_does(added):
    """`./mine.py+debooster` is `strict-boost+debooster`, and so on with other generations as the ground."""
    mine = write(STRICT_BOOST)
    assert digest("overboost", f"{added}+{mine}") == digest("overboost", f"{mine}+{added}")
    assert digest("overboost", f"{mine}+{added}") == digest("overboost", f"strict-boost+{added}")


REPLACED = [
    (one.name, rule) for one in GENERATIONS.values() for rule in one.search.rules if rule in RULES
]  # fmt: skip


@settings(max_examples=20)
@given(st.sampled_from(REPLACED), st.sampled_from(["overboost", "ticket_lock", "lost_opportunity"]), st.integers(1, 99))
def test_rule_rewritten_by_a_user_changes_nothing(replaced, experiment, seed):
    """Each rule of each generation, replaced by the same rule in a user's words: the same run."""
    generation, rule = replaced
    source = f"""
BASED_ON = {generation!r}
REPLACES = ({rule!r},)
LATER = {GENERATIONS[generation].search.pending_irq}

def refuses(me, candidate):
{textwrap.indent(textwrap.dedent(RULES[rule]), "    ")}
"""
    duration = "3ms" if jit.is_plain_python() else "40ms"
    mine = digest(experiment, write(source), duration, seed=str(seed))
    assert mine == digest(experiment, generation, duration, seed=str(seed))


def test_all_rules_of_a_generation_can_be_a_users():
    """REPLACES = "all" leaves nothing but `itself`: v5.6's search, written anew, is v5.6's."""
    source = """
REPLACES = "all"

def refuses(me, candidate):
    if not candidate.ready:
        return 1
    if candidate.blocking and not candidate.dy_runnable:
        return 2
    if candidate.preempted and not candidate.preempted_in_kernel:
        return 3
    if not candidate.in_spin_loop:
        return 0
    candidate.dy_eligible = 1 - candidate.dy_eligible
    return 4 if candidate.dy_eligible else 0
"""
    assert digest("overboost", write(source)) == digest("overboost", "vanilla")
    assert digest("ticket_lock", "./mine.py", "10ms") == digest("ticket_lock", "vanilla", "10ms")


@pytest.mark.parametrize("generation", ["directed-yield-2011", "vanilla", "kvm-6.19"])
def test_search_starts_where_a_user_says(generation):
    """`starts_at` alone: behind the one boosted last it is the same run, at 0 each time another one."""
    again = write("def starts_at(me):\n    return me.last_boosted + 1\n")
    first = write("def starts_at(me):\n    return 0\n", "first.py")
    common = digest("ticket_lock", generation, "40ms")
    same = digest("ticket_lock", f"{generation}+{again}", "40ms")
    assert generation == "directed-yield-2011" or same == common
    assert digest("ticket_lock", f"{generation}+{first}", "40ms") != same


def test_policy_that_refuses_all_boosts_nobody():
    """Asked first, before all rules, it has the last word."""
    run = run_of("overboost", write("def refuses(me, candidate):\n    return 7\n"))
    assert run.ple.exits > 0
    assert run.boosts == ()


def test_compiled_and_plain_python_are_the_same_policy():
    """One that uses every field and every event makes the same run either way, and not vanilla's."""
    fields = {"kvm.apicv": "false"}
    compiled, slow = write(BUSY), write(plain(BUSY), "slow.py")
    for experiment, duration in (("ticket_lock", "40ms"), ("overboost", "60ms"), (PING, "3ms")):
        found = digest(experiment, compiled, duration, **fields)
        assert found == digest(experiment, slow, duration, **fields)
        assert found != digest(experiment, "vanilla", duration, **fields) or experiment == PING


def test_without_numba_it_is_the_same_policy():
    """NUMBA_DISABLE_JIT=1 calls the user's functions directly: the same run."""
    compiled = write(BUSY)
    command = [sys.executable, "-m", "pleemu", "run", "ticket_lock", "--policy", compiled, "--duration", "15ms"]
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=True, timeout=120,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(HERE.parent)},
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["digest"] == digest("ticket_lock", compiled, "15ms")
    assert found["ple"]["exits"] > 0


def test_njit_functions_are_taken_as_they_are():
    """What the user has compiled with njit himself is the same policy."""
    source = STRICT_BOOST.replace("def ", "@njit\ndef ")
    assert digest("overboost", write("from numba import njit\n" + source)) == digest("overboost", "strict-boost")


def test_no_policy_of_ones_own_compiles_the_core_again(monkeypatch):
    """With the core compiled, another file announces no compilation and leaves its folder as it is."""
    digest("overboost", "vanilla", "1ms")
    kept = jit.cache_folder()
    assert kept is not None
    before = sorted(path.name for path in kept.glob("*.code"))
    announced: list[int] = []
    monkeypatch.setattr(jit, "_announce", lambda: announced.append(1))
    for number in range(3):
        digest("overboost", write(f"def refuses(me, candidate):\n    return candidate.id == {number}\n"), "1ms")
    assert announced == []
    assert sorted(path.name for path in kept.glob("*.code")) == before


# Where it comes from


def test_python_takes_paths_modules_functions_and_mappings(folder, monkeypatch):
    """`pleemu.run(policy=...)`: a path, a module, a function or several; the same policy is the same run."""
    expected = digest("overboost", "strict-boost")
    write(STRICT_BOOST, "imported_policy.py")
    monkeypatch.syspath_prepend(str(folder))
    import imported_policy

    functions = {key: value for key, value in vars(imported_policy).items() if not key.startswith("__")}
    for given_policy in (Path("imported_policy.py"), imported_policy, functions, type("Mine", (), functions)):
        assert pleemu.run("overboost", policy=given_policy, duration=SHORT).digest == expected

    def refuses_all(me, candidate):
        return 1

    assert pleemu.run("overboost", policy=refuses_all, duration=SHORT).boosts == ()
    runs = pleemu.compare("overboost", ["vanilla", refuses_all, Path("imported_policy.py")], duration=SHORT)
    assert [bool(run.boosts) for run in runs] == [True, False, True]


ANSWER: int | bool = 0


def refuses_by_a_global(me, candidate):
    return ANSWER


def test_functions_that_differ_are_different_policies(monkeypatch):
    """On one line, by a global, or without a source: what was compiled of one is not run in place of another."""

    def attempts(function):
        return sum(one.attempts for one in pleemu.run("overboost", policy=function, duration=SHORT).boosts)

    somebody = attempts("vanilla")
    assert somebody > 0
    assert [attempts(one) > 0 for one in (lambda me, c: True, lambda me, c: False)] == [False, True]
    found = []
    for answer in (True, False, True):
        monkeypatch.setitem(globals(), "ANSWER", answer)
        found.append(attempts(refuses_by_a_global) > 0)
    assert found == [False, True, False]
    compiled = njit(refuses_by_a_global)
    calling = njit(lambda me, candidate: compiled(me, candidate))
    for function in (compiled, calling):
        for answer in (False, True, False):
            monkeypatch.setitem(globals(), "ANSWER", answer)
            assert (attempts(function) > 0) is not answer
    unread: list[dict] = [{}, {}]
    exec("def refuses(me, c):\n    return c.id >= me.id - me.id", unread[0])
    exec("def refuses(me, c):\n    return c.id < me.last_boosted - me.last_boosted", unread[1])
    assert [attempts(one["refuses"]) > 0 for one in unread] == [False, True]
    results = pleemu.compare("overboost", [lambda me, c: True, lambda me, c: False], duration="2ms")
    assert len(set(results.names)) == 2


@pytest.mark.skipif(jit.is_plain_python(), reason="nothing is compiled")
def test_functions_that_have_changed_since_they_were_given_are_refused(monkeypatch):
    """A scenario that names them is not run with another value than it was made with."""
    monkeypatch.setitem(globals(), "ANSWER", 17)
    scenario = pleemu.load_scenario("overboost", policy=refuses_by_a_global, duration="1ms")
    monkeypatch.setitem(globals(), "ANSWER", 18)
    with pytest.raises(PleemuError, match=r"refuses_by_a_global@\w+: a value that it reads has changed since"):
        pleemu.run(scenario)


def test_compare_has_a_row_for_each_file(capsys):
    """Several files beside built-in policies, each row under its own name."""
    write(STRICT_BOOST)
    write("def refuses(me, candidate):\n    return 1\n", "nobody.py")
    assert (
        main(
            ["compare", "overboost", "--policies", "strict-boost,./mine.py,./nobody.py", "--duration", SHORT, "--json"]
        )
        == 0
    )
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row["name"] for row in rows] == ["strict-boost", "./mine.py", "./nobody.py"]
    assert rows[0]["digest"] == rows[1]["digest"]
    assert rows[2]["boosts"] == []


def test_content_of_the_file_belongs_to_the_run():
    """The JSON has path and digest; an edited file has another digest, in the same process too."""
    files = []
    for number in (1, 0):
        run = run_of("overboost", write(f"def refuses(me, candidate):\n    return {number}\n"), "1ms")
        files.append(run.policy_file)
        assert bool(policy("./mine.py").own.functions["refuses"](0, 0)) == bool(number)
    assert files[0]["path"] == files[1]["path"] == str(Path("mine.py").absolute())
    assert len({one["digest"] for one in files}) == 2
    assert run_of("overboost", "vanilla", "1ms").policy_file is None


@pytest.mark.parametrize(
    "line",
    ['policy = "./mine.py"', 'policy = "debooster+./mine.py"', '[[variant]]\nname = "a"\nset = ["policy = ./mine.py"]'],
)
def test_scenario_cannot_run_python(capsys, line):
    """A scenario's file that names a policy's file is refused before any of it runs."""
    write("open('ran', 'w')\ndef refuses(me, candidate):\n    return 0\n")
    Path("guest.S").write_text("guest_main: ret\n")
    head, _, tail = line.partition("\n") if line.startswith("policy") else ("", "", line)
    Path("s.toml").write_text(f'{head}\n[[vm]]\nname = "a"\nprogram = "guest.S"\n{tail}\n')
    assert "a file of Python could do anything" in refusal(capsys, "run", "s.toml")
    assert not Path("ran").exists()


# The template


def test_template_runs_and_is_never_written_over_a_file(capsys):
    """`pleemu new policy NAME` writes a policy that runs as it is: Strict Boost's first rule, as described."""
    assert main(["new", "policy", "my_policy"]) == 0
    assert "my_policy.py" in capsys.readouterr().out
    written = Path("my_policy.py").read_text()
    assert all(name in written for name in READABLE)
    assert all(f"def {name}(" in written for name in ("refuses", "starts_at", "on_entry", "on_eoi", "on_yield"))
    assert digest("overboost", "./my_policy.py") == digest("overboost", "strict-boost-ideal")
    assert main(["new", "policy", "my_policy.py"]) == 2
    assert "my_policy.py is there already" in capsys.readouterr().err
    assert Path("my_policy.py").read_text() == written


@pytest.mark.parametrize("name", ["a-b", "a+b", "1", "", "no/such/folder/mine", "."])
def test_template_needs_a_name_that_can_be_used(capsys, name):
    """A name that --policy could not take, or a folder that is not there, is refused in one line."""
    assert "new policy" in refusal(capsys, "new", "policy", name)
    assert not list(Path().iterdir())


def test_template_explains_all_functions():
    """The commented functions of the template are valid, and all of them together run."""
    lines = template.POLICY.splitlines()
    events = [re.sub(r":  +.*", ": return 0", line.removeprefix("# ")) for line in lines if line.startswith("# def ")]
    assert len(events) == 7
    source = template.POLICY + "\n".join(events)
    assert digest("overboost", write(source), "2ms")


# Errors


PASS = "def refuses(me, candidate):\n    return 0\n"
ERRORS = {
    "syntax": ("def refuses(me, candidate)\n    return 0\n", "./mine.py:1: expected ':'"),
    "top level": ("import math\n\nmath.sqrt(-1)\n" + PASS, "./mine.py:3: ValueError"),
    "exit": ("import sys\nsys.exit(3)\n", "./mine.py:2: SystemExit: 3"),
    "NUL": ("\0", "./mine.py"),
    "nothing": ("", "./mine.py: defines neither refuses(me, candidate) nor starts_at(me)"),
    "signature": ("\n\ndef refuses(candidate):\n    return 0\n", "./mine.py:3: refuses(candidate) must take (me, cand"),
    "event's signature": (PASS + "def on_ipi(vcpu):\n    pass\n", "./mine.py:3: on_ipi(vcpu) must take (sender, rec"),
    "no function": ("refuses = 3\n", "./mine.py:1: refuses is not a function"),
    "no event": (
        PASS + "def on_enter(vcpu):\n    pass\n",
        "./mine.py:3: there is no event 'on_enter'; did you mean 'o",
    ),
    "generation": ("BASED_ON = 'kvm-5.7'\n" + PASS, "./mine.py:1: BASED_ON = 'kvm-5.7' is no generation of KVM; did"),
    "no text": ("BASED_ON = 5.6\n" + PASS, "./mine.py:1: BASED_ON = 5.6 is no generation"),
    "rule": (
        PASS + "REPLACES = ('not-redy',)\n",
        "./mine.py:3: REPLACES has 'not-redy', which is no rule; did you mean",
    ),
    "no rules": (PASS + "REPLACES = 3\n", "./mine.py:3: REPLACES = 3 is not a tuple"),
    "nothing to replace": ("REPLACES = ('halted',)\n" + PASS, "lacks the rule 'halted' that it replaces"),
    "sleeping ground": ("BASED_ON = 'sleep-2009'\n" + PASS, "the spinner sleeps and nominates nobody"),
    "compiled": (PASS + "COMPILED = 'no'\n", "./mine.py:3: COMPILED = 'no' is neither True nor False"),
    "field": (
        PASS + "def on_entry(vcpu):\n    x = vcpu.redy\n",
        "./mine.py:4: vcpu.redy: a vCPU has no such field; did you mean 'ready'?",
    ),
    "read-only": (
        PASS + "def on_entry(vcpu):\n    vcpu.ready = 1\n",
        "./mine.py:4: vcpu.ready is not yours to write; use vcpu.mine[0]",
    ),
    "all of mine": (PASS + "def on_entry(vcpu):\n    vcpu.mine = 1\n", "./mine.py:4: vcpu.mine is not yours to write"),
    "result": ("def refuses(me, candidate):\n    return 0.5\n", "./mine.py:1: refuses return"),
    "no result": ("def refuses(me, candidate):\n    pass\n", "./mine.py:1: refuses "),
    "sometimes": ("def refuses(me, candidate):\n    if candidate.id:\n        return 1\n", "./mine.py:1: refuses "),
    "starts nowhere": ("def starts_at(me):\n    return None\n", "./mine.py:1: starts_at "),
    "index": ("def refuses(me, candidate):\n    n = 60\n    return me.mine[n + 4]\n", "./mine.py:3: IndexError"),
    "division": (
        "def refuses(me, candidate):\n    return 1 // (me.id - me.id)\n",
        "./mine.py:2: FloatingPointError: divide by zero",
    ),
    "raised": (
        "def refuses(me, candidate):\n    if candidate.id >= 0:\n        raise ValueError('no')\n    return 0\n",
        "./mine.py:3: ValueError: no",
    ),
    "raised in a helper": (
        "def f(n):\n    assert n < 0\n    return n\n\ndef refuses(me, candidate):\n    return f(me.id)\n",
        "./mine.py:2: AssertionError",
    ),
    "raised in an event": (
        PASS + "def on_entry(vcpu):\n    if vcpu.id >= 0:\n        raise KeyError(1)\n",
        "./mine.py:5: KeyError: 1",
    ),
    "unknown name": (
        "def refuses(me, candidate):\n    if me.id < 0:\n        return 1\n    return redy(candidate)\n",
        "./mine.py:4: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", [str, plain], ids=["compiled", "plain Python"])
@pytest.mark.parametrize("what", ERRORS)
def test_error_is_one_line_with_file_and_line(capsys, what, form):
    """Whatever is wrong in the file, and whenever it shows: file, line, what is wrong, exit code 2."""
    source, expected = ERRORS[what]
    if form is plain and "COMPILED" in source:
        return
    write(form(source))
    assert expected in refusal(capsys, "run", "barrier", "--policy", "./mine.py", "--duration", "4ms")


NOT_COMPILED = {
    "with": ("def refuses(me, candidate):\n    with open('x') as f:\n        return 0\n", 1),
    "dict": ("names = {'a': 1}\n\ndef refuses(me, candidate):\n    return names['a']\n", 4),
    "print": ("import os\n\ndef refuses(me, candidate):\n    x = 1\n    return os.getpid() * x\n", 5),
    "in a helper": ("import os\ndef f():\n    return os.getpid()\n\ndef refuses(me, candidate):\n    return f()\n", 3),
}  # fmt: skip


@pytest.mark.skipif(jit.is_plain_python(), reason="nothing is compiled")
@pytest.mark.parametrize("what", NOT_COMPILED)
def test_what_numba_cannot_compile_is_named_and_can_stay_python(capsys, what):
    """The error has the line and the way out: with COMPILED = False the same file runs."""
    source, line = NOT_COMPILED[what]
    error = refusal(capsys, "run", "barrier", "--policy", write(source), "--duration", "4ms")
    assert f"./mine.py:{line}: numba does not compile this: " in error
    assert error.endswith("COMPILED = False in the file keeps plain Python")
    if what != "with":
        assert digest("barrier", write(plain(source)), "4ms")


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("./none.py", "./none.py: no such file; `pleemu new policy none` writes one"),
        (".py", ".py: no such file"),
        ("folder.py", "folder.py: Is a directory"),
        ("./mine.py+./other.py", "2 policies of your own"),
        ("no-ple+./mine.py", "contradicts itself"),
        ("sleep-2009+./mine.py", "the spinner sleeps and nominates nobody"),
        ("./mine.py+debooster-2025-v2", "does not go with"),
        ("./mine.py+x", "unknown policy 'x'"),
    ],
)
def test_name_that_cannot_be_is_refused(capsys, named, expected):
    """Files that are not there, and sums that make no sense."""
    write(PASS)
    write(PASS, "other.py")
    Path("folder.py").mkdir()
    assert expected in refusal(capsys, "run", "worst_case", "--policy", named, "--duration", "1ms")


def test_functions_fail_with_their_line(capsys):
    """Functions given in Python name the file that they stand in."""

    def refuses(me, candidate):
        return me.idd

    with pytest.raises(PleemuError, match=r"test_own_policy\.py:\d+: me\.idd: a vCPU has no such field; did you"):
        pleemu.run("worst_case", policy=refuses, duration="2ms")
    with pytest.raises(PleemuError, match="is not a policy"):
        pleemu.run("worst_case", policy=3, duration="2ms")
    with pytest.raises(PleemuError, match="must take"):
        pleemu.run("worst_case", policy=lambda me: 0, duration="2ms")


def test_interrupt_from_the_keyboard_is_one():
    """Ctrl-C while plain Python runs ends the run as ever."""
    write(plain("def refuses(me, candidate):\n    raise KeyboardInterrupt\n"))
    assert main(["run", "barrier", "--policy", "./mine.py", "--duration", "4ms"]) == 130


def test_failure_ends_the_machine_not_the_process():
    """After a policy that fails, the next run is what it always was."""
    expected = digest("overboost", "strict-boost")
    write("def refuses(me, candidate):\n    return 1 // (me.id - me.id)\n")
    with pytest.raises(PleemuError, match="FloatingPointError: divide by zero"):
        digest("overboost", "./mine.py")
    assert digest("overboost", write(STRICT_BOOST)) == expected
