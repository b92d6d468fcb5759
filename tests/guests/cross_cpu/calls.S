# Calls of functions on other CPUs, some waited for and some not, from vCPUs that are in the kernel, in the kernel with
# interrupts off, or in user mode. Each is run by each of its targets once, in the order in which its caller made them,
# and those that are waited for before the caller goes on; or else a ud2 says what is wrong.
#
#   asked   by caller, target   calls made, which only the caller counts
#   ran     by caller, target   calls run, which only the target counts

.include "kernel.inc"

parameter rounds, 0                     # of each vCPU
parameter waiting, 50                   # of 100 calls are waited for
parameter user, 30                      # of 100 turns are in user mode
parameter interrupts_off, 20            # and in the kernel with interrupts off
parameter longest, 0x3fff               # cycles of a function, at most; a mask
distribution think, 0, 42000            # cycles between two calls

.set ROW, 64 * 4                        # bytes of a caller: 32 numbers of 8

# percent: a number from 0 to 99, in rax.
.macro percent
    random r12, rax
    mov eax, r12d
    imul rax, rax, 100
    shr rax, 32
.endm

.text
function guest_main
    random_init r12
    mov r13, rdi
    mov r15, rsi
    push rbx                            # 16 bytes
    mov rbp, rsp
    syscall_entry out_of_user_mode
    get_parameter r14, rounds
    sti

again:
    mov rsp, rbp
    percent
    sub rax, qword ptr [rip + pleemu_parameter_user]
    jb to_user_mode
    sub rax, qword ptr [rip + pleemu_parameter_interrupts_off]
    jae 1f
    cli
1:  draw think, r12, rcx, rax
    work rcx
back_from_user_mode:
    sti
    random r12, rax                     # whom to call: any set; none: all
    mov rdi, r12
    shr rdi, 20
    mov rcx, r15
    mov eax, 1
    shl rax, cl
    dec rax
    and rdi, rax
    btr rdi, r13
    test rdi, rdi
    jne 2f
    mov rdi, rax
    btr rdi, r13
2:  mov rbx, rdi
    percent
    xor ecx, ecx
    cmp rax, qword ptr [rip + pleemu_parameter_waiting]
    adc ecx, 0
    dec r14
    jne 3f
    mov rcx, r15                        # the last one reaches all, and is waited for
    mov ebx, 1
    shl rbx, cl
    dec rbx
    btr rbx, r13
    mov ecx, 1
3:  push rcx
    push rcx
    mov rdi, rbx
    lea r8, [rip + asked]
    mov rax, r13
    imul rax, rax, ROW
    add r8, rax
4:  bsf rax, rdi
    btr rdi, rax
    inc qword ptr [r8 + rax * 8]
    test rdi, rdi
    jne 4b
    mov rdi, rbx
    lea rsi, [rip + called]
    mov rdx, r14
    shl rdx, 8
    add rdx, r13
    call smp_call_function_many
    pop rcx
    pop rcx
    test ecx, ecx
    je 6f
    lea r8, [rip + asked]
    lea r9, [rip + ran]
    mov rax, r13
    imul rax, rax, ROW
    add r8, rax
    add r9, rax
5:  bsf rax, rbx
    btr rbx, rax
    mov rcx, qword ptr [r8 + rax * 8]
    cmp qword ptr [r9 + rax * 8], rcx
    jb a_call_is_not_done
    ja a_call_is_run_twice
    test rbx, rbx
    jne 5b
6:  operation_done
    test r14, r14
    jne again
    lock inc qword ptr [rip + finished]
stay:                                   # and answer, until the others are through
    cmp qword ptr [rip + finished], r15
    jae done
    work 500
    jmp stay

done:
    cli
    mov rsp, rbp
    pop rbx
    ret
a_call_is_not_done:                     # though its caller has waited
    ud2
a_call_is_run_twice:
    ud2

to_user_mode:
    cli
    mov rax, rsp
    enter_user user_mode, rax
user_mode:
    draw think, r12, rcx, rax
    work rcx
    syscall
out_of_user_mode:
    jmp back_from_user_mode
end_function guest_main

function called                         # rdi: rounds left << 8 | caller, rsi: vCPU
    cmp rsi, r13
    jne a_call_is_run_elsewhere
    movzx eax, dil
    imul eax, eax, ROW / 8
    add eax, esi
    lea r9, [rip + last]
    mov rcx, qword ptr [r9 + rax * 8]
    not rcx                             # at first none
    cmp rdi, rcx
    jae a_call_is_out_of_order
    not rdi
    mov qword ptr [r9 + rax * 8], rdi
    mov rcx, rdi
    imul rcx, rcx, 0x1e3779b1
    shr rcx, 16
    and rcx, qword ptr [rip + pleemu_parameter_longest]
    work rcx
    lea r8, [rip + ran]
    inc qword ptr [r8 + rax * 8]
    ret
a_call_is_run_elsewhere:
    ud2
a_call_is_out_of_order:
    ud2
end_function called

.bss
.balign 64
asked:
    .skip ROW * VCPUS_MOST
ran:
    .skip ROW * VCPUS_MOST
last:                                   # what was passed last by this caller to this target, complemented
    .skip ROW * VCPUS_MOST
finished:
    .skip 8
