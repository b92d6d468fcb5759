# Both vCPUs do the same: take the lock, hold it, let it go, think. The lock is held most
# of the time, so whoever is preempted is probably holding it.
# Each VM has a lock of its own. What makes the difference to case_study is the other VM's
# spinner: it takes the pCPU at each yield, and gives it back at its own.

.include "pleemu.inc"
.include "spin_lock.inc"

.set HOLD, 420000               # cycles: 200 us at 2.1 GHz
.set THINK, 0x1ffff             # at most: 62 us

.text
.globl guest_main
guest_main:
    mov r12, rdx                # the seed
    lea rbx, [rip + lock]
    lock_loop rbx, HOLD, THINK

.data
.balign 64
lock:
    .long 0
