# All that vCPUs wait for, in random order: a lock, the answer of another vCPU to an IPI, an interrupt in HLT; and
# user mode, where nobody sees their PAUSEs. vCPU 0 never halts, so whoever halts is called again.
# What runs at CPL 3 stands under labels that begin with `user`: the checks go by that.

.include "pleemu.inc"
.include "checks.inc"

.set CALL, 0xfb                         # as Linux's CALL_FUNCTION_VECTOR

.text
.globl guest_main
guest_main:
    random_init r12
    mov r13, rdi                        # this vCPU
    mov r14, rsi                        # number of vCPUs
    lea rbx, [rip + lock]
    lea r15, [rip + asked]
    mov rbp, rsp
    syscall_entry out_of_user_mode
again:
    mov rsp, rbp
    sti
    operation_done
    random r12, rax
    mov rax, r12
    and eax, 0x3fff
    work rax
    mov rax, r12
    shr rax, 40
    and eax, 7                          # 0 1 2: lock; 3 4 5: call; 6: user mode; 7: halt
    cmp eax, 7
    je halt
    cmp eax, 6
    je to_user_mode
    cmp eax, 3
    jae call
    count_up rbx, 0x3fff
    jmp again

halt:
    test r13, r13
    je again
    sti
    hlt                                 # STI lets nothing in between the two
    jmp again

call:                                   # asked[me] = whom + 1, until that vCPU makes 0 of it
    mov rax, r12
    shr rax, 48
    xor edx, edx
    lea rcx, [r14 - 1]
    div rcx
    lea r8, [r13 + rdx + 1]             # anyone but myself
    cmp r8, r14
    jb 1f
    sub r8, r14
1:  lea eax, [r8 + 1]
    mov dword ptr [r15 + r13 * 4], eax
    ipi_wait r8
    send_ipi r8d, CALL
call_wait:
    cmp dword ptr [r15 + r13 * 4], 0
    je again
    pause
    jmp call_wait

to_user_mode:
    cli
    mov rax, rsp
    enter_user user_mode, rax
user_mode:
    mov ecx, 600                        # PAUSEs that pass
user_pause:
    pause
    dec ecx
    jne user_pause
    work 3000
    syscall
out_of_user_mode:
    jmp again

    vector CALL, called
called:                                 # answer everybody who asks this vCPU
    push rax
    push rcx
    push rdx
    xor ecx, ecx
    lea edx, [r13 + 1]
1:  cmp dword ptr [r15 + rcx * 4], edx
    jne 2f
    ipi_acked rcx
    mov dword ptr [r15 + rcx * 4], 0
2:  inc ecx
    cmp ecx, r14d
    jb 1b
    eoi
    pop rdx
    pop rcx
    pop rax
    iretq

.data
.balign 64
lock:
    .skip 64 * 3
.balign 64
asked:
    .skip 64 * 4
