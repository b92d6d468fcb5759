# User code that calls its kernel: SYSCALL to an entry point named by IA32_LSTAR, work there with interrupts
# on, SYSRET. Each vCPU interrupts the next one now and then, in the kernel or in user mode. Whatever is not
# as the manual has it ends in ud2.

.include "pleemu.inc"

.set RING, 0xf2
.set SYSTEM_CALL, 77
.set LEFT, 0x123456789abcdef0

.text
.globl guest_main
guest_main:
    mov r12, rdx
    mov r13, rdi                        # this vCPU
    mov r14, rsi                        # number of vCPUs
    mov r15, rsp                        # the kernel's stack
    syscall_entry entry
    mov ecx, IA32_LSTAR                 # what was written can be read
    rdmsr
    shl rdx, 32
    or rax, rdx
    lea rbx, [rip + entry]
    cmp rax, rbx
    jne wrong
    lea rbx, [rsp - 2048]               # the user's
    enter_user user, rbx

user:
    random r12, rax
    mov rbp, rsp
    mov rdi, r12
    movabs rsi, LEFT
    mov eax, SYSTEM_CALL
    cmp r12, r12                        # ZF = 1, CF = 0
    syscall
back:
    jne wrong                           # flags are as before
    jc wrong
    cmp rsp, rbp
    jne wrong
    cmp rax, r12                        # what the kernel answers
    jne wrong
    lea rax, [rip + back]
    cmp rcx, rax
    jne wrong
    test r11d, RFLAGS_IF
    je wrong
    operation_done
    mov eax, r12d
    and eax, 0x1fff
    work rax
    jmp user

entry:                                  # CPL 0, interrupts off, on the user's stack
    cmp eax, SYSTEM_CALL
    jne wrong
    xchg rsp, r15
    push rcx
    push r11
    sti
    mov eax, r12d
    shr eax, 13
    and eax, 0xfff
    work rax
    test r12, 0x30000
    jne 2f
    lea r8, [r13 + 1]                   # ring the next vCPU
    cmp r8, r14
    jb 1f
    xor r8d, r8d
1:  send_ipi r8d, RING
2:  mov rax, rdi
    cli
    pop r11
    pop rcx
    xchg rsp, r15
    sysretq

wrong:
    ud2

    vector RING, ring
ring:
    push rax
    push rcx
    push rdx
    test qword ptr [rsp + 32], 3        # CS: from user mode on the stack for interrupts, otherwise on that of the call
    je 3f
    cmp rsp, r15
    jbe wrong
3:  eoi
    pop rdx
    pop rcx
    pop rax
    iretq
