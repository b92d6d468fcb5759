"""Compiled or plain Python: the same machine, to the event."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from made_machines import Command, observe

from pleemu import catalogue
from pleemu.hardware.alu import multiply
from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.memory import readable
from pleemu.hardware.records import CLOCK, CPU, SPACE
from pleemu.jit import callable_alone
from pleemu.kernel import SCHEDULERS
from pleemu.observe.journal import mix

HERE = Path(__file__).parent
PLAIN = os.environ | {"NUMBA_DISABLE_JIT": "1"}
MODES = {"none": {"kvm.apicv": "false"}, "apicv": {}, "ipiv": {"kvm.ipiv": "true"}}
POLICIES = ("vanilla", "strict-boost+debooster")

# Short runs in which each experiment shows what it is about: more time slices than its own duration has.
FIELDS = {"host.hz": "1000", "host.online_cpus": "1", "hardware.tsc_khz": "30000", "cost.ipi_ns": "3000"}
DURATIONS = dict.fromkeys(catalogue.experiments(), "3ms") | {
    "case_study": "20ms",
    "worst_case": "25ms",
    "lost_opportunity": "15ms",
    "overboost": "25ms",
    "pause_latency": "20ms",
    "boost_latency": "20ms",
}
RUNS = (
    {
        f"{name} {policy}": Command(name, {"duration": duration, "policy": policy}, FIELDS)
        for name, duration in DURATIONS.items()
        for policy in POLICIES
    }
    | {
        scheduler: Command("case_study", {"duration": "10ms"}, FIELDS | {"host.scheduler": scheduler})
        for scheduler in SCHEDULERS
    }
    | {
        f"ideal, {scheduler}": Command(
            "ticket_lock",
            {"duration": "3ms", "policy": "ideal"},
            FIELDS | {"host.scheduler": scheduler, "vm.0.pinning": "none"},
        )
        for scheduler in ("cfs-5.6", "eevdf-6.12", "chaos")
    }
)
THREADS = {
    "thread.0.name": "kworker",
    "thread.0.busy_us": "200",
    "thread.0.period_us": "1700",
    "thread.0.count": "3",
    "thread.1.name": "hog",
    "thread.1.nice": "7",
    "host.skew_tick": "true",
    "kvm.halt_poll_ns": "5000000",
}
RUNS |= {
    f"host threads, {mode}": Command("overboost", {"duration": "25ms"}, FIELDS | THREADS | MODES[mode])
    for mode in MODES
}

SCRIPT = """
import json, sys
from made_machines import Command
from pleemu.machine.run import simulate
found = {}
for name, (subject, changes, fields) in json.load(sys.stdin).items():
    run = simulate(Command(subject, changes, fields).scenario())
    found[name] = [run.digest, run.instructions, run.ple.exits]
print(json.dumps(found))
"""


def test_plain_python_gives_the_same_runs():
    """Every shipped experiment, under two policies, has the compiled core's digest with NUMBA_DISABLE_JIT=1, too."""
    asked = {name: (one.subject, one.changes, one.fields) for name, one in RUNS.items()}
    command = [sys.executable, "-c", SCRIPT]
    environment = PLAIN | {"PYTHONPATH": f"{HERE.parent}:{HERE}"}
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    runs = {name: observe(one).run for name, one in RUNS.items()}
    assert json.loads(done.stdout) == {
        name: [run.digest, run.instructions, run.ple.exits] for name, run in runs.items()
    }
    assert sum(run.ple.exits for run in runs.values()) > 50


UNITS = {
    "ple": ("test_ple.py",),
    "pause_filter": ("test_pause_filter.py", "-k", "not machine"),
    "window": ("test_window.py",),
    "on_spin": ("test_on_spin.py",),
    "generations": ("test_generations.py",),
    "halt_poll": ("test_halt_poll.py", "-k", "follows"),
    "apic": ("test_apic.py",),
    "execute": ("test_execute.py",),
    "instruction_set": ("test_instruction_set.py", "-k", "not interrupts"),
    "fuzz": ("test_fuzz_unicorn.py", "-k", "unicorn[0]"),
    "chaos": ("test_chaos.py", "-k", "lists or alike"),
    "conform": ("test_conform.py", "-k", "agrees"),
    "own_policy": ("test_own_policy.py", "-k", "error_is or keyboard"),
    "scheduler": ("test_scheduler_vectors.py", "-k", "every_state and 6.6"),
    "schedulers": ("test_scheduler_operations.py", "-k", "queue or sleeper"),
    "tree": ("test_tree.py",),
    "waits": ("test_waits.py",),
    "hints": ("test_hints.py",),
}


@pytest.mark.parametrize("unit", UNITS)
def test_unit_passes_as_plain_python(unit):
    """The unit's own tests pass with NUMBA_DISABLE_JIT=1."""
    file, *chosen = UNITS[unit]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", str(HERE / file), *chosen]
    done = subprocess.run(
        [*command, "--hypothesis-profile=few"], capture_output=True, text=True, check=False, timeout=300, env=PLAIN,
        cwd=HERE.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


BIG = (0, 1, -1, 3, 1 << 31, 1 << 32, (1 << 62) + 12345, (1 << 63) - 1, -(1 << 63), -(1 << 62))


def test_compiled_arithmetic_wraps_around():
    """Sums and products beyond 64 bits are what Python computes modulo 2^64, and are never assumed not to happen."""
    cpu = np.zeros(1, CPU).view(np.recarray)[0]
    multiply_alone, mix_alone = callable_alone(multiply), callable_alone(mix)
    for a, b in product(BIG, BIG):
        assert int(multiply_alone(cpu, np.int64(a), np.int64(b), 8)) == wrapped(a * b)
        assert (cpu.flag_carry < 0) == (a * b != wrapped(a * b))
        digest = wrapped((a ^ b) * 0x1B873593CC9E2D51)
        assert int(mix_alone(np.int64(a), np.int64(b))) == digest ^ ((digest >> 32) & 0xFFFFFFFF)


@pytest.mark.parametrize("start", [0x400000, -0x7F000000, 0, -(1 << 63)])
def test_no_address_outside_the_guest_is_readable(start):
    """Whatever wraps around at 2^64, an address has an offset exactly if all its bytes lie in the guest's memory."""
    space = np.zeros(1, SPACE).view(np.recarray)[0]
    space.start, space.bytes, space.stacks = start, 65536, 65536
    readable_alone = callable_alone(readable)
    near = [start + offset for offset in (-9, -8, -1, 0, 1, 65528, 65529, 65535, 65536)]
    for address, size in product((*near, *BIG), (1, 2, 4, 8, 40)):
        offset = (address - start) % 2**64
        expected = offset if offset <= 65536 - size else -1
        assert readable_alone(space, np.int64(wrapped(address)), size) == expected


@pytest.mark.parametrize("khz", [1_000, 2_100_000, 3_333_333, 10_000_000])
def test_the_clock_is_exact(khz):
    """Cycles become nanoseconds rounded down, for ten minutes and far beyond, as with unbounded integers."""
    clock = np.zeros(1, CLOCK).view(np.recarray)[0]
    clock.core_khz = clock.tsc_khz = khz
    alone = callable_alone(cycles_to_ns)
    for cycles in (0, 1, khz - 1, khz, khz + 1, 600_000 * khz + 12345, 10**15 + 7):
        assert alone(clock, np.int64(cycles)) == cycles * 1_000_000 // khz


def wrapped(value):
    return (value + 2**63) % 2**64 - 2**63
