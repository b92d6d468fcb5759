# Tasks that wake each other on other CPUs by try_to_wake_up, each CPU with a run queue: a set of tasks, a bit each.
#
# Two levels of waiting: for the CPU that switches a task out, and for the pi_lock of who waits for that. vCPU 0 never
# sleeps, and wakes somebody now and then, as devices do.

.include "kernel.inc"
.include "task.inc"

parameter rounds, 0                     # wake-ups by vCPU 0; 0: without end
parameter tasks, 0                      # 0: two for each vCPU
distribution think, 0, 21000            # cycles between wake-ups by vCPU 0: 0 to 10 us
distribution burst, 0, 42000            # cycles that a task runs: 0 to 20 us
distribution switch, 3000               # cycles of switching out: proposed, 1.4 us

.set TASKS_MOST, 64
.set OWNER, 8                           # 1: somebody runs it

# own_balance: at rcx + rax, of this CPU: wake-ups by it, minus tasks that it took. Clobbers rax, rcx.
.macro own_balance
    lea rcx, [rip + balance]
    mov rax, r13
    shl rax, 6
.endm

.text
function guest_main
    mov r12, rdx
    mov r13, rdi
    mov r15, rsi
    push rbx                            # 16 bytes
    get_parameter r14, tasks
    test r14, r14
    jne 1f
    lea r14, [rsi + rsi]
1:  cmp r14, TASKS_MOST
    jbe 1f
    mov r14d, TASKS_MOST
1:  test r13, r13
    jne schedule
    get_parameter rbx, rounds

device:
    sti
    draw think, r12, rcx, rax
    work rcx
    call wake_somebody
    operation_done
    dec rbx
    jne device
    mov dword ptr [rip + over], 1
    mov ebx, 1                          # whoever is halted must see that
2:  cmp rbx, r15
    jae done
    send_ipi ebx, RESCHEDULE_VECTOR
    inc rbx
    jmp 2b

schedule:
    cli
    lea r8, [rip + run_queue]
    mov rax, r13
    shl rax, 6
    add r8, rax
    mov rcx, qword ptr [r8]
    test rcx, rcx
    je idle
    bsf rcx, rcx
    lock btr qword ptr [r8], rcx
    shl rcx, TASK_SHIFT
    lea rbx, [rip + task]
    add rbx, rcx
    mov dword ptr [rbx + ON_CPU], 1
    lock_acquired rbx
    mov eax, 1
    xchg dword ptr [rbx + OWNER], eax
    test eax, eax
    jne a_task_runs_twice
    mov dword ptr [rbx + STATE], RUNS
    own_balance
    dec qword ptr [rcx + rax]
    sti
    draw burst, r12, rcx, rax
    work rcx
    call wake_somebody
    operation_done
    cli
    mov eax, SLEEPS
    xchg dword ptr [rbx + STATE], eax   # set_current_state: seen before what follows
    draw switch, r12, rcx, rax
    work rcx                            # __switch_to
    mov dword ptr [rbx + OWNER], 0
    mov dword ptr [rbx + ON_CPU], 0     # finish_task: the last that this CPU does with it
    lock_released rbx
    jmp schedule

idle:
    cmp dword ptr [rip + over], 0
    jne done
    sti
    hlt                                 # STI lets nothing in between the two
    jmp schedule

done:
    cli
    mov eax, 1
    lock xadd qword ptr [rip + finished], rax
    inc rax
    cmp rax, r15
    jne 2f
    xor eax, eax                        # the last one: what has been woken has run, or is on a run queue
    lea r8, [rip + run_queue]
    lea r9, [rip + balance]
    mov ecx, VCPUS_MOST
1:  mov rdx, qword ptr [r8]
    popcnt rdx, rdx
    add rax, rdx
    sub rax, qword ptr [r9]
    add r8, 64
    add r9, 64
    dec ecx
    jne 1b
    test rax, rax
    jne a_wake_up_is_lost
2:  pop rbx
    ret
a_task_runs_twice:                      # on two CPUs at once
    ud2
a_wake_up_is_lost:
    ud2
end_function guest_main

function wake_somebody
    random r12, rax
    mov eax, r12d
    imul rax, r14
    shr rax, 32
    shl rax, TASK_SHIFT
    lea rdi, [rip + task]
    add rdi, rax
    random r12, rax
    lea rcx, [r15 - 1]
    mov eax, r12d
    imul rax, rcx
    shr rax, 32
    lea rsi, [rax + 1]                  # anyone but vCPU 0
    jmp try_to_wake_up
end_function wake_somebody

function ttwu_queue                     # rdi: task, rsi: CPU: onto its run queue, and an IPI if that was empty
    mov rax, rdi
    lea rcx, [rip + task]
    sub rax, rcx
    shr rax, TASK_SHIFT
    lea r8, [rip + run_queue]
    mov r9, rsi
    shl r9, 6
    add r8, r9
    mov r9, qword ptr [r8]
    lock bts qword ptr [r8], rax
    own_balance
    inc qword ptr [rcx + rax]
    test r9, r9
    jne 1f
    cmp rsi, r13
    je 1f
    send_ipi esi, RESCHEDULE_VECTOR
1:  ret
end_function ttwu_queue

    reschedule_handler

.data
.balign 128
task:                                   # all sleep
    .rept TASKS_MOST
        .long 0, SLEEPS
        .skip (1 << TASK_SHIFT) - 8
    .endr
over:
    .long 0

.bss
.balign 64
run_queue:
    .skip 64 * VCPUS_MOST
balance:
    .skip 64 * VCPUS_MOST
finished:
    .skip 8
