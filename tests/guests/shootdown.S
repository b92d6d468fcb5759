# TLB shootdowns: vCPU 0 interrupts all others, which compute in user mode, and spins until everybody has
# answered. By turns it writes the ICR once with the shorthand all-but-self, once with a broadcast that it
# answers itself, once for each cluster of 16 with a logical ID, and once for each vCPU. An answer too many
# or too few ends in ud2.

.include "pleemu.inc"

.set INVALIDATE, 0xf8

.text
.globl guest_main
guest_main:
    mov r12, rdx
    mov r13, rdi                        # this vCPU
    mov r14, rsi                        # number of vCPUs
    lea r15, [rip + answers]
    test edi, edi
    je initiator
    lock inc dword ptr [rip + ready]
    mov rbx, rsp
    enter_user user, rbx
user:
    work 20000
    jmp user

initiator:
    lea eax, [r14 - 1]
1:  pause
    cmp dword ptr [rip + ready], eax
    jne 1b
    sti
    xor ebp, ebp                        # rounds
again:
    random r12, rax
    mov eax, r12d
    and eax, 0x3fff
    work rax
    inc rbp
    mov eax, ebp
    and eax, 3
    je each
    dec eax
    je broadcast
    dec eax
    je clusters

    send_ipis 0, ICR_TO_ALL_BUT_SELF | INVALIDATE
    jmp wait
broadcast:
    send_ipis ICR_EVERYBODY, INVALIDATE
    jmp wait
each:
    mov ebx, 1
2:  cmp rbx, r14
    jae wait
    send_ipi ebx, INVALIDATE
    inc ebx
    jmp 2b
clusters:
    xor ebx, ebx                        # first vCPU of the cluster
3:  cmp rbx, r14
    jae wait
    mov r8d, 0xffff
    lea rcx, [rbx + 16]
    sub rcx, r14                        # as many are missing in the last one
    jle 4f
    shr r8d, cl
4:  mov r9d, ebx
    shl r9d, 12                         # cluster number << 16
    or r8d, r9d
    test ebx, ebx
    jne 5f
    and r8d, ~1                         # not vCPU 0 itself
5:  test r8d, 0xffff
    je 6f
    send_ipis r8d, ICR_LOGICAL | INVALIDATE
6:  add ebx, 16
    jmp 3b

wait:
    mov ebx, 1
7:  cmp rbx, r14
    jae done
    ipi_wait rbx
8:  cmp qword ptr [r15 + rbx * 8], rbp
    je 9f
    ja wrong
    pause
    jmp 8b
9:  inc ebx
    jmp 7b
done:
    cli                                 # to itself it has sent every fourth time
    lea rax, [rbp + 3]
    shr rax, 2
    cmp qword ptr [r15], rax
    jne wrong
    sti
    operation_done
    jmp again
wrong:
    ud2

    vector INVALIDATE, invalidate
invalidate:
    push rax
    push rcx
    push rdx
    inc qword ptr [r15 + r13 * 8]       # only this vCPU writes it
    ipi_acked 0
    eoi
    pop rdx
    pop rcx
    pop rax
    iretq

.bss
.balign 64
answers:
    .skip 128 * 8
ready:
    .skip 4
