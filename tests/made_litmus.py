"""Litmus tests as guests: a small program run hundreds of times, each time with other timing.

Each round has variables of its own, one a cache line, all 0. Before it the threads touch
them at random, so that lines are in every state; then they meet at a TSC time and execute the
program, each instruction after a random delay.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
from made_machines import prepare_core
from reference.tso import Outcome, Program

from pleemu.guest import load
from pleemu.machine.build import build
from pleemu.machine.loop import FINISHED, STUCK, run_machine
from pleemu.policy import policy
from pleemu.scenario import Hardware, Scenario, Vm

PERIOD = 6000  # TSC ticks from round to round
FIRST = 10  # its number: by then all threads run
LINE = 64
VARIABLES = 4  # room in each round
RESULTS = 8  # room for what a thread reads
NOT_READ = 0x7FFFFFFF
UNTOUCHED, READ, WRITTEN = range(3)  # before the round


def observe_litmus(
    folder: Path, program: Program, *, rounds: int = 300, seed: int = 1, delay: int = 200, **hardware: int
) -> Counter[Outcome]:
    """Run ``program`` on a pCPU a thread; return how often each outcome was seen."""
    prepare_core()
    threads = len(program)
    (folder / "litmus.S").write_text(source(program, rounds, random.Random(seed), delay))
    image = load(folder / "litmus.S")
    vm = Vm(name="litmus", program="litmus.S", vcpus=threads, memory_kib=max(256, len(image.memory) // 1024 + 64))
    duration = (rounds + FIRST + 4) * PERIOD / 2_100_000
    scenario = Scenario(
        name="litmus",
        policy="no-ple",
        duration_ms=duration,
        hardware=Hardware(pcpus=threads, tsc_khz=2_100_000, **hardware),
        vm=(vm,),
        folder=folder,
    )
    machine, _ = build(scenario, policy("no-ple"), {scenario.program_of(vm): image}, recording=False)
    machine.pcpu.next_tick = 1 << 62  # nothing but the program
    machine.run.progress = 1 << 62
    with np.errstate(over="ignore"):
        assert run_machine(machine) in (FINISHED, STUCK)
    assert machine.fault.kind[0] == 0
    memory = machine.memory

    def words(symbol: str) -> np.ndarray:
        return memory[(image.address_of(symbol) - image.base) // 8 :]

    variables = words("variables")[: rounds * VARIABLES * 8].reshape(rounds, VARIABLES, 8)[:, :, 0]
    results = words("results")[: threads * rounds * RESULTS].reshape(threads, rounds, RESULTS)
    counted: Counter[Outcome] = Counter()
    for number in range(rounds):
        read = tuple(tuple(int(v) for v in results[t, number] if v != NOT_READ) for t in range(threads))
        assert all(len(values) == reads_of(code) for values, code in zip(read, program, strict=True)), "unfinished"
        counted[read, tuple(int(v) for v in variables[number, : variables_of(program)])] += 1
    return counted


def variables_of(program: Program) -> int:
    """Return the number of variables of a program."""
    return 1 + max((instruction[1] for code in program for instruction in code if len(instruction) > 1), default=0)


def reads_of(code) -> int:
    """Return how many values a thread reads."""
    return sum(instruction[0] in ("ld", "xchg", "xadd") for instruction in code)


def source(program: Program, rounds: int, choose: random.Random, delay: int) -> str:
    """Return the guest's assembly."""
    threads = len(program)
    lines = ['.include "pleemu.inc"', ".globl guest_main", "guest_main:"]
    lines += [f" cmp edi, {t}\n je thread_{t}" for t in range(threads)] + [" ret"]
    for thread, code in enumerate(program):
        lines += thread_of(thread, code, variables_of(program), rounds)
    # Like the rows that a thread reads: before[variables], delays[instructions].
    for thread, code in enumerate(program):
        lines += [".data", ".balign 64", f"choices_{thread}:"]
        for _ in range(rounds):
            before = [choose.choice((UNTOUCHED, READ, WRITTEN)) for _ in range(variables_of(program))]
            waits = [choose.choice((0, 0, choose.randrange(8), choose.randrange(delay))) for _ in code]
            lines.append(f" .quad {', '.join(map(str, before + waits))}")
    lines += [".bss", ".balign 64", "variables:", f" .space {rounds * VARIABLES * LINE}"]
    lines += [".data", ".balign 64", "results:", f" .fill {threads * rounds * RESULTS}, 8, {NOT_READ}", ""]
    return "\n".join(lines)


def thread_of(thread: int, code, variables: int, rounds: int) -> list[str]:
    """Return one thread: rbx variables, rbp choices, r12 results, r13 TSC of the round, r14 round."""
    lines = [
        f"thread_{thread}:",
        " lea rbx, [rip + variables]",
        f" lea rbp, [rip + choices_{thread}]",
        f" lea r12, [rip + results + {thread * rounds * RESULTS * 8}]",
        f" mov r13d, {FIRST * PERIOD}",
        " xor r14d, r14d",
        f"round_{thread}:",
    ]
    for variable in range(variables):
        lines += [
            f" mov rax, [rbp + {8 * variable}]",
            f" cmp rax, {READ}",
            " jb 2f",
            " je 1f",
            f" mov qword ptr [rbx + {LINE * variable}], 0",
            " jmp 2f",
            f"1: mov rax, [rbx + {LINE * variable}]",
            "2:",
        ]
    # All delays in registers, so that fetching them is no delay.
    delays = ("r8", "r9", "r10", "r11", "rsi", "rdi")
    assert len(code) <= len(delays)
    lines += [f" mov {delays[k]}, [rbp + {8 * (variables + k)}]" for k in range(len(code))]
    lines += ["3: rdtsc", " shl rdx, 32", " or rax, rdx", " cmp rax, r13", " jb 3b"]
    read = 0
    for k, (name, *operands) in enumerate(code):
        place = f"qword ptr [rbx + {LINE * operands[0]}]" if operands else ""
        lines.append(f" work {delays[k]}")
        if name == "st":
            lines.append(f" mov {place}, {operands[1]}")
        elif name == "mfence":
            lines.append(" mfence")
        else:
            lines += [f" mov rax, {place}"] if name == "ld" else [
                f" mov eax, {operands[1]}",
                f" xchg rax, {place}" if name == "xchg" else f" lock xadd {place}, rax",
            ]  # fmt: skip
            # What was read stays in a register until the round is over: no store of ours comes between.
            lines.append(f" mov {delays[read]}, rax")
            read += 1
    lines += [f" mov [r12 + {8 * k}], {delays[k]}" for k in range(read)]
    lines += [
        f" add rbx, {VARIABLES * LINE}",
        f" add rbp, {8 * (variables + len(code))}",
        f" add r12, {8 * RESULTS}",
        f" add r13, {PERIOD}",
        " inc r14",
        f" cmp r14, {rounds}",
        f" jb round_{thread}",
        " ret",
    ]
    return lines
