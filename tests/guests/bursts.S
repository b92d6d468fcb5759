# Every vCPU computes for a while, wakes some others, and sleeps until it is woken itself; the first one never sleeps.

.include "pleemu.inc"

.set WAKE, 0xf3
.set LONGEST, 0x1ffff                   # cycles of a burst

.text
.globl guest_main
guest_main:
    mov r12, rdx
    mov r13, rdi                        # this vCPU
    mov r14, rsi                        # number of vCPUs
again:
    random r12, rax
    mov rax, r12
    and eax, LONGEST
    work rax
    operation_done
    mov rax, r12                        # whom to wake
    shr rax, 32
    xor edx, edx
    div r14
    send_ipi edx, WAKE
    test r13, r13
    je again
    test r12, 0x30000000                # one in four goes on at once
    je again
    sti
    hlt
    cli
    jmp again

    vector WAKE, woken
woken:
    push rax
    push rcx
    push rdx
    eoi
    pop rdx
    pop rcx
    pop rax
    iretq
