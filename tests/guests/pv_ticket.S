# A ticket lock whose waiters halt: PV ticket locks, Linux 3.12 to 4.1 (arch/x86/kernel/kvm.c, kvm_lock_spinning and
# kvm_unlock_kick). Who has spun long enough says which ticket it waits for, looks again, and halts; who
# unlocks kicks the one that waits for the next ticket. Where KVM does not offer kicks, all spin.
#
#   wants[me] = ticket (xchg: a barrier)          head += 1; mfence
#   head == ticket? then not hlt                  wants[i] == head? then kick i
#
# So either the waiter sees the new head or the owner sees the waiter. Each vCPU has its steal time, too:
# no time of it runs backwards, and while a vCPU runs it is not preempted. What is wrong ends in ud2.

.include "pleemu.inc"

.set SPIN_THRESHOLD, 64                 # PAUSEs; Linux has 1 << 15

.text
.globl guest_main
guest_main:
    mov r12, rdx
    mov r13, rdi                        # this vCPU
    mov r14, rsi                        # number of vCPUs
    mov ebx, edi
    shl rbx, 40
    xor r12, rbx
    or r12, 1
    lea r15, [rip + vcpus]
    mov rbx, rdi
    shl rbx, 7
    add r15, rbx                        # what this vCPU has
    xor ebp, ebp                        # steal time seen
    mov eax, KVM_FEATURES
    cpuid
    bt eax, KVM_FEATURE_PV_UNHALT
    setc byte ptr [rip + kicks]
    bt eax, KVM_FEATURE_STEAL_TIME
    jnc again
    steal_time_at r15

again:
    lea rdi, [rip + tail]
    lock_wait rdi
    mov r8d, 1
    lock xadd dword ptr [rip + tail], r8d
1:  mov ecx, SPIN_THRESHOLD
2:  cmp dword ptr [rip + head], r8d
    je locked
    pause
    dec ecx
    jne 2b
    cmp byte ptr [rip + kicks], 0
    je 1b
    mov eax, r8d
    bts rax, 32                         # no ticket is 0
    xchg qword ptr [r15 + 64], rax
    cmp dword ptr [rip + head], r8d
    je 3f
    hlt
3:  mov qword ptr [r15 + 64], 0
    jmp 1b                              # it may have been for an earlier ticket
locked:
    lea rdi, [rip + tail]
    lock_acquired rdi
    mov rax, qword ptr [rip + counter]  # not atomic: the lock is
    random r12, rcx
    mov ecx, r12d
    and ecx, 0x3ff
    work rcx
    inc rax
    mov qword ptr [rip + counter], rax
    mov edx, r8d
    inc edx
    cmp eax, edx                        # one a ticket
    jne wrong
    cmp qword ptr [r15], rbp
    jb wrong
    mov rbp, qword ptr [r15]
    vcpu_is_preempted r15
    jne wrong
    inc r8d                             # the next ticket
    mov dword ptr [rip + head], r8d
    lock_released rdi
    mfence                              # before the look at `wants`
    bts r8, 32
    lea rdi, [rip + vcpus + 64]
    xor r9d, r9d
4:  cmp qword ptr [rdi], r8
    je 5f
    add rdi, 128
    inc r9d
    cmp r9d, r14d
    jb 4b
    jmp 6f
5:  kick r9d
    test rax, rax
    jne wrong
6:  operation_done
    random r12, rcx
    mov ecx, r12d
    and ecx, 0xfff
    work rcx
    jmp again
wrong:
    ud2

.bss
.balign 64
vcpus:                                  # by vCPU, two lines each: steal time, the ticket that it waits for
    .skip 256 * 128
tail:
    .skip 64
head:
    .skip 64
counter:
    .skip 64
kicks:
    .skip 1
