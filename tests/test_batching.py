"""How the loop cuts its work into calls changes nothing: one instruction at a time gives the same run.

The core lets a pCPU run ahead of the others as far as nobody can tell. Here it may not: a call of
`execute` ends after one instruction, and every store goes through the store buffer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from made_machines import GUESTS, Command, observe

HERE = Path(__file__).parent

# Plain Python, in which a function of the core can be replaced.
SCRIPT = """
import json, sys
from made_machines import Command
from pleemu.hardware.isa import OP_PROBE
from pleemu.machine import loop
from pleemu.machine.run import simulate

execute = loop.execute

def one_instruction(m, p, v, now, ordered_until, free_until, horizon):
    # A `work` probe may take many cycles: cut now and then.
    step = now + 1 if m.code[m.cpu[v].pc].op != OP_PROBE else now + 997
    return execute(m, p, v, now, min(ordered_until, now + 1), min(free_until, step), -(1 << 62))

loop.execute = one_instruction
found = {}
for name, (subject, changes, fields) in json.load(sys.stdin).items():
    run = simulate(Command(subject, changes, fields).scenario())
    found[name] = [run.digest, run.instructions, run.ple.exits]
print(json.dumps(found))
"""

# Slow machines: much happens in few instructions.
SLOW = {
    "host.hz": "1000",
    "host.online_cpus": "1",
    "hardware.tsc_khz": "2000",
    "hardware.transfer_ns": "20000",
    "hardware.far_transfer_ns": "50000",
    "hardware.llc_pcpus": "2",
    "hardware.store_buffer": "3",
    "kvm.ple_window": "300",
    "cost.ipi_ns": "100000",
    "cost.posted_ns": "100000",
}
POLLING = {  # and a thread of the host that takes the pCPU of one now and then
    "kvm.halt_poll_ns": "50000000",
    "kvm.halt_poll_ns_grow_start": "50000000",
    "thread.0.name": "kworker",
    "thread.0.busy_us": "300",
    "thread.0.period_us": "2500",
    "thread.0.pinning": "1",
    "host.start_spread_ms": "3",
    "host.skew_tick": "true",
}
PING_PONG = str(GUESTS / "ping_pong.S")
RUNS = (
    {
        f"{subject} {policy}": Command(subject, {"duration": "10ms", "policy": policy}, SLOW)
        for subject in ("case_study", "worst_case", "lost_opportunity", "overboost", "ticket_lock", "queued_lock")
        for policy in ("vanilla", "strict-boost+debooster")
    }
    | {
        f"ping_pong {costs}": Command(PING_PONG, {"duration": "10ms", "vcpus": 4, "pcpus": 3}, SLOW | costs)
        for costs in (
            {"kvm.apicv": "false", "cost.ipi_ns": "300000"},
            {"cost.exit_ns": "0", "cost.entry_ns": "0"},
            {"cost.exit_ns": "500", "cost.msr_write_ns": "0"},
            {"kvm.apicv": "false", "cost.exit_ns": "0", "cost.interrupt_handler_ns": "0"},
        )
    }
    | {
        f"polling {mode} {value}": Command(
            PING_PONG, {"duration": "250ms", "vcpus": 3, "pcpus": 4}, SLOW | POLLING | {f"kvm.{mode}": value}
        )
        for mode, value in (("apicv", "false"), ("apicv", "true"), ("ipiv", "true"))
    }
    | {
        f"crossing {vcpus}": Command(str(GUESTS / "crossing.S"), {"duration": "8ms", "vcpus": vcpus, "pcpus": 3}, SLOW)
        for vcpus in (2, 4)
    }
)


def test_one_instruction_at_a_time_gives_the_same_runs():
    """Digest and counts do not depend on how far a pCPU runs ahead."""
    asked = {name: (one.subject, one.changes, one.fields) for name, one in RUNS.items()}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": f"{HERE.parent}:{HERE}"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = {name: observe(one).run for name, one in RUNS.items()}
    assert found == {name: [run.digest, run.instructions, run.ple.exits] for name, run in expected.items()}
    assert sum(run.ple.exits for run in expected.values()) > 20
    assert sum(vm.polled for run in expected.values() for vm in run.vms) > 8
