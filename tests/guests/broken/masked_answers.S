# Two vCPUs ask each other for an answer with interrupts off: neither can ever give one.

.include "pleemu.inc"

.set CALL, 0xfb

.text
.globl guest_main
guest_main:
    mov r13, rdi
    mov ebx, 1
    sub ebx, edi                        # the other one
    lea r15, [rip + asked]
    mov dword ptr [r15 + r13 * 4], 1
    ipi_wait rbx
    send_ipi ebx, CALL
answer_wait:
    cmp dword ptr [r15 + r13 * 4], 0
    je 1f
    pause
    jmp answer_wait
1:  operation_done
    ret

    vector CALL, called
called:
    push rax
    push rcx
    push rdx
    mov ecx, 1
    sub ecx, r13d
    ipi_acked rcx
    mov dword ptr [r15 + rcx * 4], 0
    eoi
    pop rdx
    pop rcx
    pop rax
    iretq

.bss
asked:
    .skip 64
