# Calls of a function on other CPUs, as Linux v5.6 does them (kernel/smp.c), for callers that wait.
#
#   csd flags   0 -> LOCK           the caller fills it in and pushes it on the target's list
#               LOCK -> 0           the target has run the function
#
# One csd for each caller and target, and one list for each target: a cmpxchg pushes, an xchg takes all. Only who finds
# the list empty sends an IPI; who comes later is served by that one. The caller then waits for one target after the
# other, so the first that does not run holds it up. Callers must take interrupts: two that call each other without
# wait for ever.

.include "kernel.inc"

.set CSD_NEXT, 0
.set CSD_FUNC, 8
.set CSD_INFO, 16
.set CSD_FLAGS, 24
.set CSD_CALLER, 28
.set CSD_SHIFT, 6                       # a cache line each
.set CSD_FLAG_LOCK, 1

.text
# fill_csd: a csd in r8 for target r9 -> on its list; ZF = 1: the list was empty. r14 function, r15 info.
.macro fill_csd
    mov dword ptr [r8 + CSD_FLAGS], CSD_FLAG_LOCK
    mov qword ptr [r8 + CSD_FUNC], r14
    mov qword ptr [r8 + CSD_INFO], r15
    mov dword ptr [r8 + CSD_CALLER], r13d
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

function smp_call_function_single       # rdi: target, rsi: function(info, vcpu), rdx: info; until it has run
    push r14
    push r15
    sub rsp, 2 << CSD_SHIFT             # a csd on the stack, on a line of its own
    mov r14, rsi
    mov r15, rdx
    mov r9, rdi
    lea r8, [rsp + 63]
    and r8, -64
    fill_csd
    jne 2f
    send_ipi r9d, CALL_FUNCTION_SINGLE_VECTOR
2:  ipi_wait r9
csd_lock_wait_single:
    test dword ptr [r8 + CSD_FLAGS], CSD_FLAG_LOCK
    je 3f
    pause
    jmp csd_lock_wait_single
3:  add rsp, 2 << CSD_SHIFT
    pop r15
    pop r14
    ret
end_function smp_call_function_single

function smp_call_function_many         # rdi: set of targets, rsi: function(info, vcpu), rdx: info; until all have
    btr rdi, r13                        # not myself
    lea rax, [rdi - 1]
    test rdi, rdi
    je 9f
    test rax, rdi
    jne 1f
    bsf rdi, rdi                        # only one
    jmp smp_call_function_single
1:  push rbx
    push r12
    push r14
    push r15
    mov rbx, rdi
    mov r14, rsi
    mov r15, rdx
    xor r12d, r12d                      # whom to send an IPI
    mov r11, rbx
2:  bsf r9, r11
    btr r11, r9
    csd_of
    fill_csd
    jne 3f
    bts r12, r9
3:  test r11, r11
    jne 2b
    test r12, r12
    je 5f
4:  bsf r9, r12
    btr r12, r9
    send_ipi r9d, CALL_FUNCTION_VECTOR
    test r12, r12
    jne 4b
5:  mov r11, rbx
6:  bsf r9, r11
    btr r11, r9
    ipi_wait r9
    test r11, r11
    jne 6b
7:  bsf r9, rbx
    btr rbx, r9
    csd_of
csd_lock_wait:
    test dword ptr [r8 + CSD_FLAGS], CSD_FLAG_LOCK
    je 8f
    pause
    jmp csd_lock_wait
8:  test rbx, rbx
    jne 7b
    pop r15
    pop r14
    pop r12
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
    call qword ptr [rbx + CSD_FUNC]
    mov ecx, dword ptr [rbx + CSD_CALLER]
    ipi_acked rcx
    mov dword ptr [rbx + CSD_FLAGS], 0  # LOCK -> 0
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
