"""How each emulator runs a benchmark's guest to its end: the wall seconds of so many rounds of its loop.

Unicorn is timed alone. The others are whole processes: `Rate` takes the difference between many rounds and few, so
that neither their start nor a BIOS counts.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.guests_for_peers import Guest

BASE, STACK, RETURN = 0x400000, 0x800000, 0xA00000
TIME_LIMIT = 120  # seconds
FEWEST = 10_000  # rounds

Seconds = Callable[[Guest, int, int], float]  # guest, rounds, vCPUs


class Rate:
    """One emulator on one guest; each call measures how many rounds a second all its vCPUs make together."""

    def __init__(self, seconds: Seconds, guest: Guest, vcpus: int, long_enough: float) -> None:
        self.seconds, self.guest, self.vcpus = seconds, guest, vcpus
        self.few = self.many = FEWEST
        while self.difference() < long_enough:
            self.many *= 4

    def difference(self) -> float:
        """Return what many rounds take more than few."""
        return self.seconds(self.guest, self.many, self.vcpus) - self.seconds(self.guest, self.few, self.vcpus)

    def __call__(self) -> float:
        """Measure once."""
        return (self.many - self.few) * self.vcpus / self.difference()


def unicorn(code: Guest, rounds: int, vcpus: int) -> float:
    """Unicorn without hooks."""
    from unicorn import UC_ARCH_X86, UC_MODE_64, Uc
    from unicorn.x86_const import UC_X86_REG_ECX, UC_X86_REG_RDI, UC_X86_REG_RSP

    machine = Uc(UC_ARCH_X86, UC_MODE_64)
    for start in (BASE, STACK, RETURN):
        machine.mem_map(start, 0x10000)
    machine.mem_write(BASE, code.counting(rounds))
    machine.mem_write(STACK + 0x8000, RETURN.to_bytes(8, "little"))
    machine.reg_write(UC_X86_REG_RSP, STACK + 0x8000)
    machine.reg_write(UC_X86_REG_RDI, 0)
    began = time.perf_counter()
    machine.emu_start(BASE + code.entry, RETURN)
    seconds = time.perf_counter() - began
    assert machine.reg_read(UC_X86_REG_ECX) == 0, "the loop has not ended"
    return seconds


def qemu_user(code: Guest, rounds: int, vcpus: int) -> float:
    """qemu-x86_64: each vCPU is a thread of a Linux process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "guest"
        path.write_bytes(code.executable(rounds, vcpus))
        path.chmod(0o755)
        return spent(["qemu-x86_64", str(path)], ends_with=0)


def qemu_system(code: Guest, rounds: int, vcpus: int) -> float:
    """qemu-system-x86_64, translating (TCG): a whole PC that boots the guest."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "disk"
        path.write_bytes(code.floppy(rounds))
        command = ["qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-net", "none", "-no-reboot"]
        disk = ["-drive", f"format=raw,if=floppy,file={path}", "-device", "isa-debug-exit,iobase=0xf4"]
        return spent([*command, *disk], ends_with=1)


BOCHS_ROMS = Path("/usr/share/bochs")
BOCHS_CONFIGURATION = """
plugin_ctrl: unmapped=1, biosdev=1, extfpuirq=1, speaker=0, parallel=0, serial=0, gameport=0
config_interface: textconfig
display_library: rfb, options="timeout=0"
megs: 32
romimage: file={roms}/BIOS-bochs-legacy
vgaromimage: file={roms}/VGABIOS-lgpl-latest
floppya: 1_44={folder}/disk, status=inserted
boot: floppy
cpu: count=1, ips=50000000, reset_on_triple_fault=0
clock: sync=none
log: {folder}/log
panic: action=fatal
"""


def bochs(code: Guest, rounds: int, vcpus: int) -> float:
    """Bochs as it is installed: a whole PC that boots the guest."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "disk").write_bytes(code.floppy(rounds))
        (Path(folder) / "go").write_text("c\n")  # where it is built with its debugger
        (Path(folder) / "configuration").write_text(BOCHS_CONFIGURATION.format(roms=BOCHS_ROMS, folder=folder))
        seconds = spent(["bochs", "-q", "-f", f"{folder}/configuration", "-rc", f"{folder}/go"], ends_with=1)
        assert "Shutdown port: shutdown requested" in (Path(folder) / "log").read_text(), "the guest has not ended"
        return seconds


def spent(command: list[str], ends_with: int) -> float:
    """Run a command; its wall seconds."""
    began = time.perf_counter()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIME_LIMIT
    )
    seconds = time.perf_counter() - began
    assert done.returncode == ends_with, f"{command[0]} ended with {done.returncode}: {done.stderr[-1000:]}"
    return seconds


# By name: how, how many vCPUs it has at most, and whether it is there, or else what would bring it.
PEERS: dict[str, tuple[Seconds, int, Callable[[], bool], str]] = {
    "Unicorn": (unicorn, 1, lambda: importlib.util.find_spec("unicorn") is not None, "pip install unicorn"),
    "QEMU user": (qemu_user, 8, lambda: shutil.which("qemu-x86_64") is not None, "apt install qemu-user"),
    "QEMU system": (
        qemu_system, 1, lambda: shutil.which("qemu-system-x86_64") is not None, "apt install qemu-system-x86"
    ),
    "Bochs": (
        bochs, 1, lambda: shutil.which("bochs") is not None and BOCHS_ROMS.exists(), "apt install bochs bochsbios"
    ),
}  # fmt: skip
