"""SYSCALL and SYSRET in 64-bit mode (SDM 2): a change of privilege that leaves the stack alone."""

from pleemu.hardware import flags
from pleemu.hardware.interrupts import set_fault
from pleemu.hardware.isa import RCX
from pleemu.hardware.records import FAULT_SYSCALL
from pleemu.hardware.system import table_index
from pleemu.jit import compiled

R11 = 11


@compiled
def syscall(m, v, pc, now):
    """RCX = RIP, R11 = RFLAGS, flags of IA32_FMASK cleared, CPL 0, to IA32_LSTAR; -1 with a fault."""
    cpu = m.cpu[v]
    if cpu.lstar == 0:
        set_fault(m.fault[0], FAULT_SYSCALL, v, pc, 0, 0, now)
        return -1
    following = table_index(m, v, pc, cpu.lstar, now)
    if following >= 0:
        i = m.code[pc]
        image = flags.rflags(cpu)
        cpu.registers[RCX] = i.address + i.length
        cpu.registers[R11] = image
        flags.load_flags(cpu, image & ~cpu.fmask)
        cpu.cpl = 0
    return following


@compiled
def sysret(m, v, pc, now):
    """RIP = RCX, RFLAGS = R11, CPL 3; -1 with a fault."""
    cpu = m.cpu[v]
    following = table_index(m, v, pc, cpu.registers[RCX], now)
    if following >= 0:
        flags.load_flags(cpu, cpu.registers[R11])
        cpu.cpl = 3
    return following
