# A sense-reversing barrier (Herlihy and Shavit, The Art of Multiprocessor Programming, 17.3), in the kernel or in user mode.
#
#   arrive    count k -> k+1, and until the sense turns
#   the last  count n -> 0, sense s -> 1-s
#
# Everybody waits for whoever has not arrived: a set. In user mode PLE does not count (SDM 3C 25.1.3), so there the
# same wait burns whole time slices without an exit.

.include "kernel.inc"

parameter rounds, 0                     # of each vCPU; 0: without end
parameter user, 0                       # 1: wait in user mode
distribution burst, 0, 42000            # cycles between two barriers: 0 to 20 us

.set SENSE, 64

.text
function guest_main
    mov r12, rdx
    mov r13, rdi
    mov r15, rsi
    push rbx                            # 16 bytes
    mov rbp, rsp
    syscall_entry out_of_user_mode
    get_parameter r14, rounds
    xor ebx, ebx                        # barriers passed
    cmp qword ptr [rip + pleemu_parameter_user], 0
    je again
    mov rax, rsp
    sub rax, 64
    enter_user user_mode, rax
user_mode:
again:
    draw burst, r12, rcx, rax
    work rcx
    lea rcx, [rip + arrived]            # this vCPU has come as far as barrier rbx + 1
    mov rax, r13
    shl rax, 6
    lea rdx, [rbx + 1]
    mov qword ptr [rcx + rax], rdx
    lea rdi, [rip + barrier]
    call user_barrier
    inc rbx
    lea rcx, [rip + arrived]            # and so has everybody else
    xor eax, eax
1:  cmp qword ptr [rcx], rbx
    jb passed_too_early
    add rcx, 64
    inc rax
    cmp rax, r15
    jb 1b
    operation_done
    dec r14
    jne again
    cmp qword ptr [rip + pleemu_parameter_user], 0
    je out_of_user_mode
    syscall
out_of_user_mode:
    mov rsp, rbp
    pop rbx
    ret
passed_too_early:
    ud2
end_function guest_main

function user_barrier                   # rdi: barrier; at either privilege level
    mov ecx, dword ptr [rdi + SENSE]
    barrier_wait rdi
    mov eax, 1
    lock xadd qword ptr [rdi], rax      # k -> k+1
    inc rax
    cmp rax, r15
    je 2f
user_barrier_wait:
    cmp dword ptr [rdi + SENSE], ecx
    jne 1f
    pause
    jmp user_barrier_wait
1:  ret
2:  mov qword ptr [rdi], 0              # n -> 0: before anybody can arrive again
    xor ecx, 1
    mov dword ptr [rdi + SENSE], ecx    # s -> 1-s
    barrier_passed rdi
    ret
end_function user_barrier

.bss
.balign 64
barrier:
    .skip 128
arrived:
    .skip 64 * VCPUS_MOST
