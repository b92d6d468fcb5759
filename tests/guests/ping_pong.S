# Every vCPU sends the next one an IPI, spins a while for its answer, and then halts until it is asked itself.
# Some of the time they compute in user mode. Nobody waits for ever: whoever is halted has been asked or will be.

.include "pleemu.inc"

.set ASK, 0xf2
.set SPINS, 2000

.text
.globl guest_main
guest_main:
    mov r12, rdx
    mov r13, rdi                        # this vCPU
    mov r14, rsi                        # number of vCPUs
    lea r15, [rip + answers]
    sti
again:
    random r12, rax
    mov rax, r12
    and eax, 0x7fff
    work rax
    lea r8, [r13 + 1]                   # whom to ask
    cmp r8, r14
    jb 1f
    xor r8d, r8d
1:  mov r9, qword ptr [r15 + r8 * 8]
    ipi_wait r8
    send_ipi r8d, ASK
    mov r10d, SPINS
2:  cmp qword ptr [r15 + r8 * 8], r9
    jne 3f
    pause
    dec r10d
    jne 2b
3:  operation_done
    test r12, 0x300000
    jne 4f
    cli                                 # sometimes to user mode, until the next interrupt
    mov qword ptr [rip + nothing], rsp
    mov rax, rsp
    enter_user user, rax
4:  test r12, 0xc00000
    jne again
    sti
    hlt
    jmp again

user:
    mov ecx, 300
5:  pause                               # PAUSEs in user mode, which nobody sees
    dec ecx
    jne 5b
    work 20000
    jmp user

    vector ASK, asked
asked:
    push rax
    push rcx
    push rdx
    lock inc qword ptr [r15 + r13 * 8]
    eoi
    pop rdx
    pop rcx
    test qword ptr [rsp + 16], 3        # CS of the interrupted code: out of user mode, back to `again`
    pop rax
    je 6f
    mov rsp, qword ptr [rsp + 24]
    sti
    jmp again
6:  iretq

.data
.balign 64
answers:
    .skip 64 * 8
nothing:
    .quad 0
