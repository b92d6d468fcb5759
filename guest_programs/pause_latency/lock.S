# Two vCPUs take turns on a lock and on a pCPU. Who waits does so in the barest loop there is:
# its PAUSEs are as near to each other as the processor's PAUSE is short.

.include "pleemu.inc"

.set HOLD, 420000               # cycles: 200 us at 2.1 GHz
.set THINK, 0x1ffff             # at most: 62 us

.text
.globl guest_main
guest_main:
    mov r12, rdx                # the seed
    lea rbx, [rip + lock]
again:
    lock_wait rbx
    call acquire
    lock_acquired rbx
    work HOLD
    mov dword ptr [rbx], 0      # 1 -> 0
    lock_released rbx
    operation_done
    random r12, rax
    mov rax, r12
    and eax, THINK
    work rax
    jmp again

acquire:                        # rbx: lock; test and test-and-set
    mov eax, 1
    xchg dword ptr [rbx], eax   # 0 -> 1
    test eax, eax
    je 2f
1:  pause                       # here a spinner exits, if PLE takes this for a loop
    cmp dword ptr [rbx], 0
    jne 1b
    jmp acquire
2:  ret

.data
.balign 64
lock:
    .long 0
