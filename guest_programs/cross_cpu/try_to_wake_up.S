# Waking a task on another CPU, as try_to_wake_up of Linux v5.6 does (kernel/sched/core.c), reduced to what waits for what.
#
#   wake    lock pi_lock, interrupts off; sleeps -> is being woken; until on_cpu is 0; ttwu_queue
#   sleep   runs -> sleeps; switch out; on_cpu = 0
#
# Who wakes a task that is still being switched out spins, with a lock in its hand and interrupts off. If the CPU
# that switches it out is preempted, then so do all that want the lock: two levels of waiting, and neither loop
# is a lock's slow path. The program brings ttwu_queue (rdi: task, rsi: CPU), which makes the task run there.

.include "kernel.inc"
.include "task.inc"

.text
function try_to_wake_up                 # rdi: task, rsi: the CPU where it shall run
    pushfq
    cli
    push rdi
    push rsi
    push rdi
    add rdi, PI_LOCK
    mov rsi, r13
    call acquire
    pop rdi
    mov eax, SLEEPS
    mov ecx, WAKING
    lock cmpxchg dword ptr [rdi + STATE], ecx   # sleeps -> is being woken
    jne 3f
    cmp dword ptr [rdi + ON_CPU], 0
    je 2f
    lock_wait rdi
on_cpu_wait:                            # its CPU is still switching it out
    pause
    cmp dword ptr [rdi + ON_CPU], 0
    jne on_cpu_wait
    lock_wait_over rdi
2:  mov rsi, qword ptr [rsp]
    call ttwu_queue
3:  pop rsi
    pop rdi
    add rdi, PI_LOCK
    mov rsi, r13
    call release
    popfq
    ret
end_function try_to_wake_up
