# vCPU 0 holds the lock longer than any time slice, so it is preempted with the lock in its hand
# again and again; all others do nothing but wait for the lock. They exit, KVM nominates vCPU 0,
# and how long it takes until vCPU 0 runs is up to the host's scheduler alone.

.include "pleemu.inc"
.include "spin_lock.inc"

.set HOLD, 63000000             # cycles: 30 ms at 2.1 GHz
.set THINK, 0x1ffff             # at most: 62 us

.text
.globl guest_main
guest_main:
    mov r12, rdx                # the seed
    lea rbx, [rip + lock]
    test edi, edi
    jne waiter
    lock_loop rbx, HOLD, THINK

waiter:                         # not counted as operations: what counts is what the holder gets done
    spin_lock rbx
    work 2100                   # 1 us
    spin_unlock rbx
    random r12, rax
    mov rax, r12
    and eax, 0xfffff
    add rax, 0x200000
    work rax                    # 1 to 1.5 ms: the holder comes first
    jmp waiter

.data
.balign 64
lock:
    .long 0
