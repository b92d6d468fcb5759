# A kick that comes before its HLT must end it. vCPU 0 kicks one of the others exactly once a round, after a
# while that may be shorter or longer than the other needs to get to its HLT, and waits for the answer: each
# executes exactly one HLT a round, so a lost kick ends all rounds, and a HLT that ends without one, ud2.

.include "pleemu.inc"

.text
.globl guest_main
guest_main:
    mov r12, rdx
    mov r13, rdi                        # this vCPU
    mov r14, rsi                        # number of vCPUs
    lea r15, [rip + rounds]
    xor ebp, ebp                        # rounds of this vCPU, of vCPU 0: of all
    mov ebx, edi
    shl rbx, 40
    xor r12, rbx
    or r12, 1
    test edi, edi
    je kicker

sleeper:
    random r12, rax
    mov eax, r12d
    and eax, 0x3fff
    work rax
    hlt                                 # interrupts are off: nothing but a kick ends it
    inc rbp
    mov rax, r13
    shl rax, 6
    cmp qword ptr [r15 + rax], rbp      # it was for this round
    jne wrong
    mov qword ptr [r15 + rax + 8], rbp
    operation_done
    jmp sleeper

kicker:
    cmp r14, 2
    jb alone
again:
    random r12, rax
    mov eax, r12d
    and eax, 0x3fff
    work rax
    mov rax, r12                        # whom: 1 to vCPUs - 1
    shr rax, 20
    xor edx, edx
    lea rcx, [r14 - 1]
    div rcx
    lea r8, [rdx + 1]
    mov r9, r8
    shl r9, 6
    inc qword ptr [r15 + r9]
    kick r8d
    test rax, rax
    jne wrong
    mov rax, qword ptr [r15 + r9]
    ipi_wait r8
1:  cmp qword ptr [r15 + r9 + 8], rax
    je 2f
    pause
    jmp 1b
2:  operation_done
    jmp again
alone:
    ret
wrong:
    ud2

.bss
.balign 64
rounds:                                 # by vCPU, a line each: kicks, answers
    .skip 256 * 64
