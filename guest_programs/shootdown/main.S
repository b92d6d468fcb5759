# TLB shootdowns: the first vCPUs change page tables and have everybody else flush; the others are in user mode, in the
# kernel, in the kernel with interrupts off, or halted, as chance and the parameters have it.

.include "kernel.inc"

parameter rounds, 0                     # of each initiator; 0: without end
parameter initiators, 2
parameter masked, 0                     # 1: initiators call with interrupts off, which they must not
parameter pages, 8                      # of each shootdown; 0: the whole TLB
parameter freed_tables, 0               # 1: tell lazy vCPUs, too
parameter user, 50                      # of 100 turns of the others, in user mode;
parameter interrupts_off, 10            # in the kernel with interrupts off;
parameter halted, 20                    # halted; the rest in the kernel
parameter wake_ups, 50                  # of 100 shootdowns are followed by a reschedule IPI to somebody
distribution think, 0, 420000           # cycles between shootdowns: 0 to 200 us
distribution burst, 0, 105000           # cycles of the others' turns: 0 to 50 us
distribution critical, 0, 10500         # and of those with interrupts off: 0 to 5 us

.text
function guest_main
    mov r12, rdx
    mov r13, rdi
    mov r15, rsi
    push rbx                            # 16 bytes
    mov rbp, rsp
    syscall_entry out_of_user_mode
    call init_tlb
    sti
    get_parameter rax, initiators
    cmp r13, rax
    jae receiver
    get_parameter r14, rounds

initiator:
    draw think, r12, rcx, rax
    work rcx
    cmp qword ptr [rip + pleemu_parameter_masked], 0
    je 1f
    cli
1:  get_parameter rdi, pages
    get_parameter rsi, freed_tables
    call flush_tlb_mm_range
    sti
    lea r8, [rip + flush_tlb_info]      # all that were told have come as far as this flush
    mov rcx, r13
    shl rcx, 6
    mov rcx, qword ptr [r8 + rcx]
    lea r8, [rip + cpu_tlb_generation]
2:  test rax, rax
    je 3f
    bsf r9, rax
    btr rax, r9
    shl r9, 6
    cmp qword ptr [r8 + r9], rcx
    jb a_tlb_is_stale
    jmp 2b
3:  mov rax, qword ptr [rip + flushed]  # the highest generation whose shootdown has returned
4:  cmp rax, rcx
    jae 5f
    lock cmpxchg qword ptr [rip + flushed], rcx
    jne 4b
5:  operation_done
    random r12, rax
    mov eax, r12d
    imul rax, rax, 100
    shr rax, 32
    cmp rax, qword ptr [rip + pleemu_parameter_wake_ups]
    jae 7f
    mov rax, r12
    shr rax, 32
    lea rcx, [r15 - 1]
    imul rax, rcx
    shr rax, 32
    lea rdi, [r13 + rax + 1]            # anyone but myself
    cmp rdi, r15
    jb 6f
    sub rdi, r15
6:  send_ipi edi, RESCHEDULE_VECTOR
7:  dec r14
    jne initiator
    mov eax, 1
    lock xadd qword ptr [rip + finished], rax
    inc rax
    cmp rax, qword ptr [rip + pleemu_parameter_initiators]
    jne 1f
    imul rax, qword ptr [rip + pleemu_parameter_rounds]
    cmp rax, qword ptr [rip + tlb_generation]
    jne a_generation_is_lost
1:  xor r14d, r14d                      # whoever is halted must see that
4:  cmp r14, r13
    je 5f
    send_ipi r14d, RESCHEDULE_VECTOR
5:  inc r14
    cmp r14, r15
    jb 4b

stay:                                   # and answer, until the other initiators are through
    get_parameter rax, initiators
    cmp qword ptr [rip + finished], rax
    jae done
    work 2000
    jmp stay

receiver:
    mov rsp, rbp
    get_parameter rax, initiators
    cmp qword ptr [rip + finished], rax
    jae done
    mov rcx, qword ptr [rip + flushed]  # nobody in here may use what was unmapped by then
    lea r8, [rip + cpu_tlb_generation]
    mov rax, r13
    shl rax, 6
    cmp qword ptr [rip + pleemu_parameter_pv_flush], 0
    jne 1f                              # KVM may have flushed, which it does not count
    cmp qword ptr [r8 + rax], rcx
    jb a_stale_tlb_is_used
1:  random r12, rax
    mov eax, r12d
    imul rax, rax, 100
    shr rax, 32
    sub rax, qword ptr [rip + pleemu_parameter_user]
    jb to_user_mode
    sub rax, qword ptr [rip + pleemu_parameter_interrupts_off]
    jb interrupts_are_off
    sub rax, qword ptr [rip + pleemu_parameter_halted]
    jb halt
    draw burst, r12, rcx, rax
    work rcx
    jmp receiver

interrupts_are_off:
    cli
    draw critical, r12, rcx, rax
    work rcx
    sti
    jmp receiver

halt:
    call enter_lazy_tlb
    get_parameter rax, initiators
    cli
    cmp qword ptr [rip + finished], rax
    jae 1f
    sti
    hlt                                 # STI lets nothing in between the two
    cli
1:  call leave_lazy_tlb
    sti
    jmp receiver

to_user_mode:
    cli
    mov rax, rsp
    enter_user user_mode, rax
user_mode:
    draw burst, r12, rcx, rax
    work rcx
    syscall
out_of_user_mode:
    sti
    jmp receiver

done:
    cli
    mov rsp, rbp
    pop rbx
    ret

a_tlb_is_stale:                         # of a vCPU that was told
    ud2
a_stale_tlb_is_used:                    # by one that was not, and must have caught up
    ud2
a_generation_is_lost:                   # two initiators have raised it at once
    ud2
end_function guest_main

    reschedule_handler

.bss
.balign 64
finished:
    .skip 64
flushed:
    .skip 8
