# Two locks, taken in one order by vCPU 0 and in the other by vCPU 1; a third vCPU takes only the first, and a fourth
# computes.

.include "pleemu.inc"

.macro take lock
    lock_wait \lock
1:  mov eax, 1
    xchg dword ptr [\lock], eax
    test eax, eax
    je 2f
    pause
    jmp 1b
2:  lock_acquired \lock
.endm

.text
.globl guest_main
guest_main:
    lea rbx, [rip + lock_a]
    lea rbp, [rip + lock_b]
    cmp edi, 3
    je compute
    cmp edi, 2
    je late
    cmp edi, 1
    jne 3f
    xchg rbx, rbp
3:  take rbx
    work 200000
    take rbp
    ud2                                 # not to be reached
late:
    work 60000000
    take rbx
    ud2
compute:
    work 10000
    operation_done
    jmp compute

.data
.balign 64
lock_a:
    .long 0
.balign 64
lock_b:
    .long 0
