# Both vCPUs do the same: take the lock, hold it, let it go, think. The lock is held most
# of the time, so whoever is preempted is probably holding it.

.include "pleemu.inc"
.include "spin_lock.inc"

.set HOLD, 420000               # cycles: 200 us at 2.1 GHz
.set THINK, 0x1ffff             # at most: 62 us, at random

.text
.globl guest_main
guest_main:
    mov r12, rdx                # state of the random numbers
    lea rbx, [rip + lock]
again:
    spin_lock rbx
    work HOLD
    spin_unlock rbx
    operation_done
    random r12, rax
    mov rax, r12
    and eax, THINK
    work rax
    jmp again

.data
.balign 64
lock:
    .long 0
