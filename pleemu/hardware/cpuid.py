"""What CPUID says (SDM 2 CPUID): little, and nothing that is not so.

    leaf                  EAX             EBX           ECX                     EDX
    0                     0x15            the vendor "pleemu model" in EBX, EDX, ECX
    1                     family 6        initial APIC  cmpxchg16b, x2APIC,     TSC, MSR, cmpxchg8b,
                                          ID << 24      popcnt, hypervisor      APIC, cmov
    7                     0               0             0                       0
    0x15                  1               TSC rate      1000: the "crystal"     0
                                          in kHz        has 1 kHz
    0x40000000            0x40000001      "KVMKVMKVM" and three zeros in EBX, ECX, EDX
    0x40000001            PV features     0             0                       0
    0x80000000            0x80000001      0             0                       0
    0x80000001            0               0             lahf, lzcnt, prefetchw  syscall, rdtscp, 64-bit mode
    any other             0               0             0                       0

The features are KVM's, by their bit: what the host offers (kvm.steal_time, kvm.pv_*).

There is no FPU, SSE or AVX, hence no bit for them. tzcnt works, but its bit stands for all of BMI1.
In a guest CPUID exits to the hypervisor, whatever its controls are (SDM 3 25.1.2).
"""

from pleemu.hardware.isa import RAX, RBX, RCX, RDX
from pleemu.jit import compiled

# v5.6 arch/x86/include/uapi/asm/kvm_para.h
KVM_FEATURE_STEAL_TIME, KVM_FEATURE_PV_UNHALT, KVM_FEATURE_PV_TLB_FLUSH = 5, 7, 9
KVM_FEATURE_PV_SEND_IPI, KVM_FEATURE_PV_SCHED_YIELD = 11, 13


@compiled
def cpuid(m, v):
    """Write RAX, RBX, RCX and RDX for the leaf in EAX."""
    cpu = m.cpu[v]
    leaf = cpu.registers[RAX] & 0xFFFFFFFF
    a = b = c = d = 0
    if leaf == 0:
        a, b, d, c = 0x15, 0x65656C70, 0x6D20756D, 0x6C65646F  # "plee" "mu m" "odel"
    elif leaf == 1:
        a = 0x600
        b = (cpu.apic_id & 0xFF) << 24
        c = 1 << 13 | 1 << 21 | 1 << 23 | 1 << 31
        d = 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 15
    elif leaf == 0x15:
        a, b, c = 1, m.clock[0].tsc_khz, 1000
    elif leaf == 0x40000000:
        a, b, c, d = 0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D  # "KVMK" "VMKV" "M"
    elif leaf == 0x40000001:
        a = cpu.kvm_features
    elif leaf == 0x80000000:
        a = 0x80000001
    elif leaf == 0x80000001:
        c = 1 << 0 | 1 << 5 | 1 << 8
        d = 1 << 11 | 1 << 27 | 1 << 29
    cpu.registers[RAX] = a
    cpu.registers[RBX] = b
    cpu.registers[RCX] = c
    cpu.registers[RDX] = d
