"""What a scenario sets in a guest: found by name in every kind of guest, written into a run's JSON, and applied."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_c_guests import build_executable, needs_gcc, run_guest
from made_guests import write_guest
from made_machines import prepare_core

from pleemu import catalogue
from pleemu.cli import main
from pleemu.distribution import parse_distribution
from pleemu.errors import GuestError, ScenarioError
from pleemu.experiment.compare import parse_axis
from pleemu.guest import load
from pleemu.guest.parameters import parameters_of
from pleemu.machine.build import build
from pleemu.machine.loop import run_machine
from pleemu.machine.run import load_programs
from pleemu.overrides import Overrides
from pleemu.policy import policy
from pleemu.scenario import Scenario, from_dict

DRAWS = 2_000
ASSEMBLY = f"""
.include "pleemu.inc"
parameter answer, 42
distribution hold, 1000
.globl guest_main
guest_main:
    random_init r12
    lea rbx, [rip + drawn]
    get_parameter rax, answer
    mov [rbx], rax
    mov r14d, {DRAWS}
1:  draw hold, r12, rcx, rax
    mov [rbx + r14 * 8], rcx
    dec r14
    jne 1b
    ret
.bss
.balign 8
drawn: .skip {8 * (DRAWS + 1)}
"""
C = f"""
#include "pleemu.h"
PLEEMU_PARAMETER(answer, 42);
PLEEMU_DISTRIBUTION(hold, 1000);
unsigned long drawn[{DRAWS + 1}];
void guest_main(unsigned long vcpu, unsigned long vcpus, unsigned long seed)
{{
    unsigned long state = pleemu_random_init(vcpu, seed);

    (void)vcpus;
    drawn[0] = pleemu_parameter(answer);
    for (int i = 1; i <= {DRAWS}; i++)
        drawn[i] = pleemu_draw(hold, &state);
}}
"""


def in_assembly(folder: Path) -> Path:
    return write_guest(folder, ASSEMBLY)


def in_c(folder: Path) -> Path:
    return write_guest(folder, C, "guest.c")


def in_an_archive(folder: Path) -> Path:
    object_ = folder / "guest.o"
    flags = [
        "-c",
        "-O2",
        "-ffreestanding",
        "-fno-pic",
        "-mcmodel=kernel",
        "-mgeneral-regs-only",
        "-fcf-protection=none",
    ]
    include = f"-I{catalogue.programs_folder() / 'include'}"
    subprocess.run(["gcc", *flags, include, "-o", object_, in_c(folder)], check=True)
    subprocess.run(["ar", "rc", folder / "guest.a", object_], check=True)
    return folder / "guest.a"


def in_an_executable(folder: Path) -> Path:
    return build_executable(folder, C)


FORMS = [
    pytest.param(in_assembly, id="assembly"),
    *(pytest.param(one, marks=needs_gcc, id=one.__name__) for one in (in_c, in_an_archive, in_an_executable)),
]


def scenario_of(path: Path, **parameters: str) -> Scenario:
    fields = {f"vm.0.parameters.{name}": value for name, value in parameters.items()}
    return Overrides(fields=fields).apply(catalogue.find(str(path)))


def left_by(scenario: Scenario) -> list[int]:
    """Run the guest to its end and return what it has drawn."""
    programs = load_programs(scenario)
    image = programs[scenario.program_of(scenario.vm[0])]
    machine, _ = build(scenario, policy("vanilla"), programs, recording=False)
    prepare_core()
    machine.run.progress = 1 << 62
    with np.errstate(over="ignore"):
        run_machine(machine)
    address = image.address_of("drawn")
    assert address is not None
    return machine.memory.view(np.uint64)[(address - image.base) // 8 :][: DRAWS + 1].tolist()


@pytest.mark.parametrize("form", FORMS)
def test_guest_of_any_kind_sees_what_a_scenario_gives(form, tmp_path: Path) -> None:
    """Found by symbol: the number, and draws from the table alone, of which each value comes in its turn."""
    path = form(tmp_path)
    assert {name: (one.is_distribution, one.default) for name, one in parameters_of(load(path)).items()} == {
        "answer": (False, 42),
        "hold": (True, 1000),
    }
    assert left_by(scenario_of(path)) == [42] + [1000] * DRAWS
    given = "lognormal(400ns, 0.8) max 2us"
    scenario = scenario_of(path, answer="7", hold=given)
    answer, *drawn = left_by(scenario)
    table = parse_distribution(given).quantiles(scenario.hardware.core_rate_khz)
    assert answer == 7
    assert set(drawn) <= set(table)
    assert len(set(drawn)) > 0.9 * len(set(table))  # of 2000 draws; e^-7.8 of the values stay away
    assert np.mean(drawn) == pytest.approx(np.mean(table), rel=0.1)


@given(st.integers(-(1 << 63), (1 << 63) - 1) | st.just("2us") | st.just("7cycles"))
def test_parameters_survive_json(value: int | str) -> None:
    """A scenario with them is the same after it was written and read."""
    vm = {"name": "a", "program": "a.S", "parameters": {"one": value, "two": "0..3us"}}
    scenario = from_dict({"name": "made", "vm": [vm]})
    assert from_dict(json.loads(json.dumps(scenario.to_dict()))) == scenario
    assert scenario.to_dict()["vm"][0]["parameters"] == vm["parameters"]


def test_run_writes_them_down_and_each_vm_has_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two VMs of one program: what is set for one stays out of the other."""
    command = ["run", str(in_assembly(tmp_path)), "--vms", "2", "--pcpus", "2", "--vm.1.parameters.answer", "-5"]
    assert main([*command, "--duration", "1ms", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)["scenario"]["vm"]
    assert [one["parameters"] for one in described] == [{}, {"answer": -5}]
    scenario = Overrides(vms=2, fields={"vm.1.parameters.answer": "-5"}).apply(
        catalogue.find(str(tmp_path / "guest.S"))
    )
    programs = load_programs(scenario)
    machine, _ = build(scenario, policy("vanilla"), programs, recording=False)
    (image,) = programs.values()
    offset = (parameters_of(image)["answer"].address - image.base) // 8
    first = [int(space.first_word) for space in machine.space]
    assert [int(machine.memory[start + offset]) for start in first] == [42, -5]
    assert parameters_of(image)["answer"].default == 42


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (
            "hodl",
            "2us",
            "vm.0.parameters.hodl: guest has no such parameter; did you mean 'hold'?; known are answer, hold",
        ),
        ("x", "2us", "vm.0.parameters.x: guest has no such parameter; known are answer, hold"),
        ("hold", "7", "vm.0.parameters.hold: 7 has no unit; write 7cycles, or a time such as 2us"),
        ("answer", "0..2us", "vm.0.parameters.answer: '0..2us' is a distribution, and this is one number"),
        ("hold", "soon", "vm.0.parameters.hold: 'soon': 'soon' is no time; write 2us, 4200cycles"),
        ("answer", str(1 << 63), "neither a whole number of 64 bits nor a text"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: str, problem: str
) -> None:
    """Exit code 2 and one line, with what the guest has."""
    assert main(["run", str(in_assembly(tmp_path)), f"--vm.0.parameters.{name}", value]) == 2
    assert problem in capsys.readouterr().err


def test_guest_without_parameters_says_so(tmp_path: Path) -> None:
    """The error does not list what is not there."""
    path = write_guest(tmp_path, ".globl guest_main\nguest_main: ret\n")
    with pytest.raises(ScenarioError, match="guest has no such parameter; it has none"):
        left_by(scenario_of(path, hold="2us"))


def test_symbol_that_is_no_memory_is_no_parameter(tmp_path: Path) -> None:
    """An absolute symbol, in front of all memory or behind it, and one too near to the end."""
    symbols = "\n".join(
        f".globl pleemu_{one}\n.set pleemu_{one}, {at}" for one, at in (("parameter_a", 5), ("distribution_b", -9))
    )
    short = ".globl pleemu_distribution_c\npleemu_distribution_c: .skip 8\n"
    text = f".globl guest_main\nguest_main: ret\n{symbols}\n.bss\n{short}"
    path = write_guest(tmp_path, text)
    assert list(parameters_of(load(path))) == ["c"]
    with pytest.raises(ScenarioError, match="c: its symbol in guest lies outside of the guest's memory"):
        left_by(scenario_of(path, c="2us"))


def test_across_splits_between_values_and_not_within_them() -> None:
    """Commas in parentheses belong to the value."""
    axis = parse_axis("vm.0.parameters.hold=lognormal(400ns, 0.8),2us, exponential(1us)")
    assert axis.values == ("lognormal(400ns, 0.8)", "2us", "exponential(1us)")


# A lock without a main.

LOCK = {
    "acquire": "acquire: mov eax, 1\n1: pause\nxchg [rdi], eax\ntest eax, eax\njne 1b\nret\n",
    "release": "release: mov dword ptr [rdi], 0\nret\n",
}


def lock_with(folder: Path, *names: str) -> Path:
    return write_guest(folder, "".join(f".globl {name}\n{LOCK[name]}" for name in names), "lock.S")


def test_two_functions_are_an_experiment(tmp_path: Path) -> None:
    """The harness comes with them: rounds, threads, objects, hold and think are parameters, and all rounds are run."""
    path = lock_with(tmp_path, "acquire", "release")
    assert set(parameters_of(load(path))) == {"rounds", "threads", "objects", "hold", "think"}
    for vcpus, threads in ((1, 0), (5, 0), (5, 3), (3, 64)):
        fields = {
            f"vm.parameters.{name}": value
            for name, value in {
                "rounds": "20",
                "threads": str(threads),
                "objects": "3",
                "hold": "1us",
                "think": "1us",
            }.items()
        }
        run = run_guest(path, vcpus=vcpus, pcpus=2, fields=fields | {"vm.pinning": "none"})
        assert run.ended == "all vCPUs have returned from guest_main"
        assert run.vms[0].operations == 20 * min(vcpus, threads or vcpus)


@needs_gcc
def test_lock_in_an_archive_is_an_experiment(tmp_path: Path) -> None:
    """Members that define the two functions are taken as the harness needs them."""
    source = "int own(int *l) { return __atomic_exchange_n(l, 1, 2); }\n"
    text = "int own(int *);\nvoid acquire(int *l) { while (own(l)) __builtin_ia32_pause(); }\n"
    text += "void release(int *l) { __atomic_store_n(l, 0, 3); }\n"
    for name, content in (("own.c", source), ("lock.c", text)):
        write_guest(tmp_path, content, name)
    flags = [
        "-c",
        "-O2",
        "-ffreestanding",
        "-fno-pic",
        "-mcmodel=kernel",
        "-mgeneral-regs-only",
        "-fcf-protection=none",
    ]
    subprocess.run(["gcc", *flags, "own.c", "lock.c"], cwd=tmp_path, check=True)
    subprocess.run(["ar", "rc", "lock.a", "own.o", "lock.o"], cwd=tmp_path, check=True)
    run = run_guest(tmp_path / "lock.a", vcpus=2, fields={"vm.parameters.rounds": "5"})
    assert run.vms[0].operations == 10


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("acquire",), "lock.S: defines acquire but not release; a lock is acquire and release, global functions"),
        (("release",), "lock.S: defines release but not acquire"),
    ],
)
def test_half_a_lock_is_told_what_it_lacks(tmp_path: Path, names: tuple[str, ...], problem: str) -> None:
    """One of the two functions is not enough."""
    with pytest.raises(GuestError) as error:
        load(lock_with(tmp_path, *names))
    assert problem in str(error.value)


@pytest.mark.parametrize("name", ["guest.S", pytest.param("guest.c", marks=needs_gcc)])
def test_guest_without_anything_is_told_in_its_own_language(tmp_path: Path, name: str) -> None:
    """In C as in assembly, and that two functions would do."""
    text = "void other(void) {}\n" if name.endswith(".c") else "other: ret\n"
    with pytest.raises(
        GuestError, match=r"has no guest_main.*`void guest_main\(unsigned long vcpu.*`\.globl guest_main`"
    ) as e:
        load(write_guest(tmp_path, text, name))
    assert "`acquire` and `release`" in str(e.value)
