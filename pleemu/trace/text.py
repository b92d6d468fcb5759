"""Events as `perf script` and as `trace-cmd report` print them.

    CPU 2/KVM 2679 [006] 276.731784: kvm:kvm_exit: vcpu 2 reason PAUSE_INSTRUCTION rip 0xffffffffb72e29e3 info 0 0
       CPU 2/KVM-2679  [006]   276.731784: kvm_exit:             vcpu 2 reason PAUSE_INSTRUCTION rip ...

A probe of the guest is an SDT event to perf, `sdt_pleemu:lock_wait: (ffffffff81000010) arg1=8`, and an event of the
system `pleemu` to trace-cmd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import BinaryIO

from pleemu.trace.stream import Happening
from pleemu.trace.threads import IDLE, Threads

Line = Callable[[Happening, Threads], str]


def perf_line(one: Happening, threads: Threads) -> str:
    """Return one line of `perf script`."""
    comm = "swapper" if one.thread == IDLE else threads.comm(one.thread, one.pcpu)
    system = "sdt_pleemu" if one.point.system == "pleemu" else one.point.system
    seconds, us = divmod(one.time_ns // 1_000, 1_000_000)
    where = f"{comm} {threads.pids[one.thread]} [{one.pcpu:03d}] {seconds}.{us:06d}"
    return f"{where}: {system}:{one.point.name}: {one.point.text(one.values)}\n"


def ftrace_line(one: Happening, threads: Threads) -> str:
    """Return one line of `trace-cmd report -N`, which prints what the kernel's `print fmt` says."""
    comm = "<idle>" if one.thread == IDLE else threads.comm(one.thread, one.pcpu)
    seconds, us = divmod((one.time_ns + 500) // 1_000, 1_000_000)
    stamp = f"{seconds:5d}.{us:06d}"
    payload = one.point.text(one.values)
    return f"{comm:>16}-{threads.pids[one.thread]:<5d} [{one.pcpu:03d}] {stamp}: {one.point.name + ':':<21} {payload}\n"


class TextWriter:
    """Writes a line for each happening."""

    def __init__(self, file: BinaryIO, threads: Threads, line: Line, heading: str = "") -> None:
        self._file = file
        self._threads = threads
        self._line = line
        file.write(heading.encode("ascii"))

    def write(self, happenings: Iterable[Happening]) -> None:
        """Write some lines."""
        text = "".join([self._line(one, self._threads) for one in happenings])
        self._file.write(text.encode("utf-8"))

    def close(self) -> None:
        """Nothing is left to be written."""
