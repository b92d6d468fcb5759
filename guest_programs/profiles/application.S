# An application on a small kernel. A record, its unit of work, is a burst in user mode and then a system call: locks,
# readers and writers of mmap_sem, a TLB shootdown, a wake-up of another vCPU, and now and then sleep. How often and
# how long is what its parameters say, and nothing else; each profile is one set of them.

.include "kernel.inc"
.include "task.inc"

# How often in a record, in hundredths: 250 is two times, and every other time a third.
parameter zone_locks, 0                 # takes zone_lock, one of zone_locks_of
parameter queue_locks, 0                # takes queue_lock
parameter mmap_reads, 0                 # reads under mmap_sem, as page faults do
parameter mmap_writes, 0                # writes under it, as mmap and munmap do
parameter shootdowns, 0                 # has all others flush their TLBs
parameter wakeups, 0                    # wakes the thread of another vCPU, if it sleeps
parameter sleeps, 0                     # sleeps until another wakes it; vCPU 0 never does
parameter zone_irqs_off, 0              # 1: with interrupts off, as Linux takes zone->lock and lru_lock
parameter zone_locks_of, 1              # zone locks, one taken at random
parameter pages, 0                      # of a shootdown; 0: the whole TLB
parameter freed_tables, 0               # 1: vCPUs in lazy mode, too
distribution burst, 0, 126000           # cycles in user mode
distribution kernel, 1050               # cycles in the kernel without a lock
distribution zone_hold, 1050
distribution queue_hold, 1050
distribution read_hold, 2100
distribution write_hold, 2100
distribution switch, 3000               # cycles of switching a thread out: proposed, 1.4 us

.set ZONES_MOST, 64

# times NAME: rbx = how often now. Clobbers rax, rcx, rdx.
.macro times name:req
    random r12, rax
    mov eax, r12d
    imul rax, rax, 100
    shr rax, 32
    add rax, qword ptr [rip + pleemu_parameter_\name]
    xor edx, edx
    mov ecx, 100
    div rcx
    mov rbx, rax
.endm

# repeat NAME ... end_repeat: so often; rbx counts.
.macro repeat name:req
    times \name
    jmp 9f
8:
.endm
.macro end_repeat
    dec rbx
9:  test rbx, rbx
    jne 8b
.endm

# hold_for NAME: time with a lock in hand.
.macro hold_for name:req
    draw \name, r12, rcx, rax
    work rcx
.endm

.text
function guest_main
    mov r12, rdx
    mov r13, rdi
    mov r15, rsi
    mov rbp, rsp
    syscall_entry entry_SYSCALL_64
    call init_tlb
to_user_mode:
    mov rsp, rbp
    mov rax, rsp
    enter_user user_mode, rax
user_mode:
    draw burst, r12, rcx, rax
    work rcx
    syscall
end_function guest_main

function entry_SYSCALL_64
    sti
    hold_for kernel
    repeat zone_locks
    random r12, rax
    mov eax, r12d
    imul rax, qword ptr [rip + pleemu_parameter_zone_locks_of]
    shr rax, 32
    and eax, ZONES_MOST - 1
    shl rax, 6
    lea r14, [rip + zone_lock]
    add r14, rax
    cmp qword ptr [rip + pleemu_parameter_zone_irqs_off], 0
    je 1f
    cli
1:  mov rdi, r14
    mov rsi, r13
    call acquire
    hold_for zone_hold
    mov rdi, r14
    mov rsi, r13
    call release
    sti
    end_repeat

    repeat queue_locks
    lea rdi, [rip + queue_lock]
    mov rsi, r13
    call acquire
    hold_for queue_hold
    lea rdi, [rip + queue_lock]
    mov rsi, r13
    call release
    end_repeat

    repeat mmap_reads
    lea rdi, [rip + mmap_sem]
    mov rsi, r13
    call read_lock
    hold_for read_hold
    lea rdi, [rip + mmap_sem]
    mov rsi, r13
    call read_unlock
    end_repeat

    repeat mmap_writes
    lea rdi, [rip + mmap_sem]
    mov rsi, r13
    call write_lock
    hold_for write_hold
    lea rdi, [rip + mmap_sem]
    mov rsi, r13
    call write_unlock
    end_repeat

    repeat shootdowns
    get_parameter rdi, pages
    get_parameter rsi, freed_tables
    call flush_tlb_mm_range
    end_repeat

    repeat wakeups
    random r12, rax
    lea rcx, [r15 - 1]
    mov eax, r12d
    imul rax, rcx
    shr rax, 32
    lea rsi, [r13 + rax + 1]            # anyone but myself
    cmp rsi, r15
    jb 1f
    sub rsi, r15
1:  mov rax, rsi
    shl rax, TASK_SHIFT
    lea rdi, [rip + task]
    add rdi, rax
    call try_to_wake_up
    end_repeat

    operation_done
    test r13, r13
    je to_user_mode_again
    times sleeps
    test rbx, rbx
    je to_user_mode_again
    call schedule
to_user_mode_again:
    cli
    jmp to_user_mode
end_function entry_SYSCALL_64

function schedule                       # this vCPU's thread sleeps; back when it has been woken, with interrupts off
    lea rbx, [rip + task]
    mov rax, r13
    shl rax, TASK_SHIFT
    add rbx, rax
    cli
    lock_acquired rbx                   # who wakes it now must wait for me
    mov eax, SLEEPS
    xchg dword ptr [rbx + STATE], eax   # set_current_state: seen before what follows
    draw switch, r12, rcx, rax
    work rcx                            # __switch_to
    mov dword ptr [rbx + ON_CPU], 0     # finish_task
    lock_released rbx
    call enter_lazy_tlb
1:  cmp dword ptr [rbx + STATE], RUNS
    je 2f
    sti
    hlt                                 # STI lets nothing in between the two
    cli
    jmp 1b
2:  call leave_lazy_tlb
    mov dword ptr [rbx + ON_CPU], 1
    ret
end_function schedule

function ttwu_queue                     # rdi: task, rsi: its vCPU: it runs as soon as that looks
    mov dword ptr [rdi + STATE], RUNS
    send_ipi esi, RESCHEDULE_VECTOR
    ret
end_function ttwu_queue

    reschedule_handler

.weak is_free
is_free:                                # only the mains of locks ask
    ret

.data
.balign 1 << TASK_SHIFT
task:                                   # all run
    .rept VCPUS_MOST
        .long 1, RUNS
        .skip (1 << TASK_SHIFT) - 8
    .endr

.bss
.balign 64
zone_lock:
    .skip 64 * ZONES_MOST
queue_lock:
    .skip 64
mmap_sem:
    .skip 64
