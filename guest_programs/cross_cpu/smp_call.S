# Calls of a function on other CPUs, as Linux v5.6 does them (kernel/smp.c).
#
#   csd flags   0 -> LOCK            the caller may fill it in (csd_lock) and push it on the target's list
#               0 -> LOCK|SYNC       the same, and the caller waits until the function has run
#               LOCK|SYNC -> 0       the target has run the function
#               LOCK -> 0            without SYNC: the target has read all it needs, and runs the function then
#
# One csd for each caller and target, and one list for each target: a cmpxchg pushes, an xchg takes all. Only who finds
# the list empty sends an IPI; who comes later is served by that one. A caller that waits does so for one target after
# the other, so the first that does not run holds it up. It must take interrupts: two that call each other without
# wait for ever.
#
# AWAITED is not Linux's: the caller marks a csd that it needs again and finds locked, so that the target's probe ends
# that wait and no other. Linux unlocks by a plain store, this a csd without SYNC by a cmpxchg.

.include "kernel.inc"

.set CSD_NEXT, 0
.set CSD_FUNC, 8
.set CSD_INFO, 16
.set CSD_FLAGS, 24
.set CSD_CALLER, 28
.set CSD_TARGET, 32
.set CSD_SHIFT, 6                       # a cache line each
.set CSD_FLAG_LOCK, 1
.set CSD_FLAG_SYNC, 2
.set CSD_FLAG_AWAITED, 4

.text
# csd_lock LABEL: the csd in r8 becomes the caller's, as soon as its last target is through with it. Clobbers rax, rcx.
.macro csd_lock label:req
    test dword ptr [r8 + CSD_FLAGS], CSD_FLAG_LOCK
    je 2f
    mov eax, CSD_FLAG_LOCK
    mov ecx, CSD_FLAG_LOCK | CSD_FLAG_AWAITED
    lock cmpxchg dword ptr [r8 + CSD_FLAGS], ecx
    jne 2f
    mov ecx, dword ptr [r8 + CSD_TARGET]
    ipi_wait rcx
\label:
    test dword ptr [r8 + CSD_FLAGS], CSD_FLAG_LOCK
    je 2f
    pause
    jmp \label
2:
.endm

# push_csd: the csd in r8 -> on the list of target r9; ZF = 1: that was empty. r14 function, r15 info, ecx flags.
# Clobbers rax, r10.
.macro push_csd
    mov dword ptr [r8 + CSD_FLAGS], ecx
    mov qword ptr [r8 + CSD_FUNC], r14
    mov qword ptr [r8 + CSD_INFO], r15
    mov dword ptr [r8 + CSD_CALLER], r13d
    mov dword ptr [r8 + CSD_TARGET], r9d
    lea r10, [rip + call_single_queue]
    mov rax, r9
    shl rax, 6
    add r10, rax
    mov rax, qword ptr [r10]
1:  mov qword ptr [r8 + CSD_NEXT], rax
    lock cmpxchg qword ptr [r10], r8    # first -> csd -> first
    jne 1b
    test rax, rax
.endm

# csd_of: that of this vCPU for target r9, in r8. Clobbers rax.
.macro csd_of
    lea r8, [rip + cfd_data]
    mov rax, r13
    imul rax, rax, VCPUS_MOST
    add rax, r9
    shl rax, CSD_SHIFT
    add r8, rax
.endm

function smp_call_function_single       # rdi: target, another CPU; rsi: function(info, vcpu); rdx: info; ecx: 1: wait
    push rbx
    push r14
    push r15
    sub rsp, 2 << CSD_SHIFT             # a csd on the stack, on a line of its own
    mov ebx, ecx
    mov r14, rsi
    mov r15, rdx
    mov r9, rdi
    test ebx, ebx
    jne 3f
    lea r8, [rip + csd_data]            # who does not wait leaves the stack: this CPU's own csd
    mov rax, r13
    shl rax, CSD_SHIFT
    add r8, rax
    csd_lock csd_lock_single
    mov ecx, CSD_FLAG_LOCK
    jmp 4f
3:  lea r8, [rsp + 63]
    and r8, -64
    mov ecx, CSD_FLAG_LOCK | CSD_FLAG_SYNC
4:  push_csd
    jne 5f
    send_ipi r9d, CALL_FUNCTION_SINGLE_VECTOR
5:  test ebx, ebx
    je 6f
    ipi_wait r9
csd_lock_wait_single:
    test dword ptr [r8 + CSD_FLAGS], CSD_FLAG_LOCK
    je 6f
    pause
    jmp csd_lock_wait_single
6:  add rsp, 2 << CSD_SHIFT
    pop r15
    pop r14
    pop rbx
    ret
end_function smp_call_function_single

function smp_call_function_many         # rdi: set of targets; rsi: function(info, vcpu); rdx: info; ecx: 1: wait for all
    btr rdi, r13                        # not myself
    lea rax, [rdi - 1]
    test rdi, rdi
    je 9f
    test rax, rdi
    jne 1f
    bsf rdi, rdi                        # only one
    jmp smp_call_function_single
1:  push rbx
    push rbp
    push r12
    push r14
    push r15
    mov rbx, rdi
    mov r14, rsi
    mov r15, rdx
    xor r12d, r12d                      # whom to send an IPI
    lea ebp, [rcx + rcx + CSD_FLAG_LOCK]        # LOCK, or LOCK|SYNC
    mov r11, rbx
3:  bsf r9, r11
    btr r11, r9
    csd_of
    csd_lock csd_lock_many
    mov ecx, ebp
    push_csd
    jne 4f
    bts r12, r9
4:  test r11, r11
    jne 3b
    test r12, r12
    je 6f
5:  bsf r9, r12
    btr r12, r9
    send_ipi r9d, CALL_FUNCTION_VECTOR
    test r12, r12
    jne 5b
6:  test ebp, CSD_FLAG_SYNC
    je 8f
    mov r11, rbx
7:  bsf r9, r11
    btr r11, r9
    ipi_wait r9
    test r11, r11
    jne 7b
7:  bsf r9, rbx
    btr rbx, r9
    csd_of
csd_lock_wait:
    test dword ptr [r8 + CSD_FLAGS], CSD_FLAG_LOCK
    je 6f
    pause
    jmp csd_lock_wait
6:  test rbx, rbx
    jne 7b
8:  pop r15
    pop r14
    pop r12
    pop rbp
    pop rbx
9:  ret
end_function smp_call_function_many

    vector CALL_FUNCTION_VECTOR, call_function_interrupt
    vector CALL_FUNCTION_SINGLE_VECTOR, call_function_interrupt
function call_function_interrupt
    save_scratch
    call flush_smp_call_function_queue
    eoi
    restore_scratch
    iretq
end_function call_function_interrupt

function flush_smp_call_function_queue  # with interrupts off
    push rbx
    push rbp
    lea r10, [rip + call_single_queue]
    mov rax, r13
    shl rax, 6
    xor ebx, ebx
    xchg qword ptr [r10 + rax], rbx     # all of them, the latest first
    xor ebp, ebp
1:  test rbx, rbx                       # turn the list round
    je 2f
    mov rax, qword ptr [rbx + CSD_NEXT]
    mov qword ptr [rbx + CSD_NEXT], rbp
    mov rbp, rbx
    mov rbx, rax
    jmp 1b
2:  test rbp, rbp
    je 3f
    mov rbx, rbp
    mov rbp, qword ptr [rbx + CSD_NEXT] # before its owner has it back
    mov rdi, qword ptr [rbx + CSD_INFO]
    mov rsi, r13
    mov ecx, dword ptr [rbx + CSD_CALLER]
    test dword ptr [rbx + CSD_FLAGS], CSD_FLAG_SYNC
    je 4f
    call qword ptr [rbx + CSD_FUNC]
    mov ecx, dword ptr [rbx + CSD_CALLER]
    ipi_acked rcx
    mov dword ptr [rbx + CSD_FLAGS], 0  # LOCK|SYNC -> 0
    jmp 2b
4:  mov r8, qword ptr [rbx + CSD_FUNC]
    xor edx, edx
    mov eax, CSD_FLAG_LOCK
    lock cmpxchg dword ptr [rbx + CSD_FLAGS], edx       # LOCK -> 0
    je 5f
    ipi_acked rcx                       # its caller needs it again
    mov dword ptr [rbx + CSD_FLAGS], 0  # LOCK|AWAITED -> 0
5:  call r8
    jmp 2b
3:  pop rbp
    pop rbx
    ret
end_function flush_smp_call_function_queue

.bss
.balign 64
call_single_queue:
    .skip 64 * VCPUS_MOST
cfd_data:                               # caller, target
    .skip (VCPUS_MOST * VCPUS_MOST) << CSD_SHIFT
csd_data:                               # of each caller, for one target
    .skip VCPUS_MOST << CSD_SHIFT
