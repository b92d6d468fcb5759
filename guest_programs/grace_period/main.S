# Waiting for readers, in the manner of RCU (McKenney, Is Parallel Programming Hard, 9.5; reduced): readers take no lock, and
# who wants to free what they may still read waits until each CPU has passed a quiescent state.
#
#   update    publish the new object; grace period g -> g+1; until every CPU has reported g+1; free the old object
#   read      take the published object, use it; between two reads: report g, if it is new
#
# vCPU 0 updates, the others read. A preempted reader keeps the updater waiting, and nobody else. An idle CPU would be
# quiescent all the time; here nobody is idle.

.include "kernel.inc"

parameter rounds, 0                     # grace periods; 0: without end
distribution think, 0, 42000            # cycles between two updates: 0 to 20 us
distribution read, 0, 21000             # cycles of one read: 0 to 10 us

.set FREED, 0xdead
.set OBJECTS, 2

.text
function guest_main
    mov r12, rdx
    mov r13, rdi
    mov r15, rsi
    push rbx                            # 16 bytes
    test r13, r13
    jne reader
    get_parameter r14, rounds
    xor ebx, ebx                        # which object is published
update:
    draw think, r12, rcx, rax
    work rcx
    mov rax, rbx
    xor rax, 1
    lea rcx, [rip + object]
    shl rax, 6
    mov qword ptr [rcx + rax], 0        # anew
    xor rbx, 1
    mov qword ptr [rip + published], rbx
    call synchronize_rcu
    mov rax, rbx
    xor rax, 1
    lea rcx, [rip + object]
    shl rax, 6
    mov qword ptr [rcx + rax], FREED
    operation_done
    dec r14
    jne update
    mov qword ptr [rip + over], 1
    pop rbx
    ret

reader:
    mov rbx, qword ptr [rip + published]
    shl rbx, 6
    lea rcx, [rip + object]
    add rbx, rcx
    draw read, r12, rcx, rax
    work rcx
    cmp qword ptr [rbx], FREED
    je read_after_free
    call rcu_qs
    cmp qword ptr [rip + over], 0
    je reader
    pop rbx
    ret
read_after_free:
    ud2
end_function guest_main

function rcu_qs                         # a quiescent state: whoever waits for one is answered
    mov rax, qword ptr [rip + grace_period]
    lea rcx, [rip + reported]
    mov rdx, r13
    shl rdx, 6
    cmp qword ptr [rcx + rdx], rax
    je 1f
    xor r8d, r8d
    ipi_acked r8                        # vCPU 0 is who asks
    mov qword ptr [rcx + rdx], rax
1:  ret
end_function rcu_qs

function synchronize_rcu
    lock inc qword ptr [rip + grace_period]     # g -> g+1; the new object is seen by who sees this
    mov rax, qword ptr [rip + grace_period]
    mov r9d, 1
1:  cmp r9, r15
    jae 2f
    ipi_wait r9
    inc r9
    jmp 1b
2:  mov r9d, 1
    lea rcx, [rip + reported]
3:  add rcx, 64
    cmp r9, r15
    jae 4f
quiescent_state_wait:
    cmp qword ptr [rcx], rax
    je 5f
    pause
    jmp quiescent_state_wait
5:  inc r9
    jmp 3b
4:  ret
end_function synchronize_rcu

.bss
.balign 64
grace_period:
    .skip 64
published:
    .skip 64
over:
    .skip 64
object:
    .skip 64 * OBJECTS
reported:
    .skip 64 * VCPUS_MOST
