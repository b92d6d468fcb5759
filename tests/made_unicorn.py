"""The same sequence on Unicorn: an x86 that is not ours."""

from __future__ import annotations

import attrs
import unicorn
from made_sequences import MEMORY, SIZE
from unicorn import x86_const as x86

from pleemu.testing import CODE_BASE, REGISTERS

_CODES = tuple(getattr(x86, f"UC_X86_REG_{name.upper()}") for name in REGISTERS)
_PAGE = 4096
DIVIDE_ERROR = 0


@attrs.frozen
class Outcome:
    """What Unicorn made of a sequence."""

    registers: tuple[int, ...]
    rflags: int
    memory: bytes
    rip: int
    exception: int | None  # its vector
    error: str = ""


class Emulator:
    """One instance for all sequences."""

    def __init__(self) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self.uc.mem_map(CODE_BASE, _PAGE)
        self.uc.mem_map(MEMORY, _PAGE)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)
        self.exception: int | None = None
        self.executed: set[int] | None = None  # addresses of instructions, where somebody wants to know

    def watch(self) -> set[int]:
        """Return the set that the addresses of all instructions that run are put into from now on."""
        self.executed = set()
        self.uc.hook_add(unicorn.UC_HOOK_CODE, lambda _, address, __, ___: self.executed.add(address))
        return self.executed

    def _interrupt(self, uc, number, _):
        self.exception = number
        uc.emu_stop()

    def run(self, code: bytes, registers, rflags: int, memory: bytes) -> Outcome:
        """Run ``code`` from its first byte to the byte behind its last."""
        uc = self.uc
        uc.mem_write(CODE_BASE, code)
        uc.ctl_remove_cache(CODE_BASE, CODE_BASE + _PAGE)
        uc.mem_write(MEMORY, memory)
        for number, value in zip(_CODES, registers, strict=True):
            uc.reg_write(number, value)
        uc.reg_write(x86.UC_X86_REG_EFLAGS, rflags | 2)
        self.exception, error = None, ""
        try:
            uc.emu_start(CODE_BASE, CODE_BASE + len(code), count=1000)
        except unicorn.UcError as problem:
            error = str(problem)
        return Outcome(
            tuple(uc.reg_read(number) for number in _CODES),
            uc.reg_read(x86.UC_X86_REG_EFLAGS),
            bytes(uc.mem_read(MEMORY, SIZE)),
            uc.reg_read(x86.UC_X86_REG_RIP),
            self.exception,
            error,
        )


_current: list[Emulator] = []


def run(code: bytes, registers, rflags: int, memory: bytes) -> Outcome:
    """Run on the one instance of this process; an exception leaves traces in it, so another follows."""
    if not _current:
        _current.append(Emulator())
    outcome = _current[0].run(code, registers, rflags, memory)
    if outcome.exception is not None or outcome.error:
        _current.clear()
    return outcome
