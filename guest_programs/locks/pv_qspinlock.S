# The paravirtual queued spinlock of Linux v5.6 (kernel/locking/qspinlock_paravirt.h). Hybrid: a newcomer may steal the
# lock from the queue, unless the queue's head forbids it by the pending bit.
#
#   locked byte   0 free, 1 held, 3 held, and whoever is at the head of the queue sleeps (_Q_SLOW_VAL)
#   pending bit   the head of the queue spins: no stealing
#   node state    running 0, halted 1, hashed 2: halted, and found by the lock's address
#
#   wait in the queue   running -> halted, HLT; after a kick halted -> running
#   hand over           next.locked = 1; if it is halted: halted -> hashed, locked 1 -> 3
#   wait at the head    pending, 2^15 tries; then hash, locked 1 -> 3, state hashed, HLT
#   unlock              1 -> 0; or 3: take the node out of the hash, 3 -> 0, kick its vCPU
#
# Nobody halts where KVM does not offer kicks (kvm.pv_unhalt=false). Interrupts may be on or off. Linux 4.10 to 5.3
# also waited early if the vCPU in front was preempted, by its steal time: vm.parameters.preempted_counts = 1.

.include "pleemu.inc"
.include "qspinlock.inc"

.set SLOW, 3
.set RUNNING, 0
.set HALTED, 1
.set HASHED, 2
.set HASH_MASK, 4095                    # entries: lock, node; at least four a vCPU
.set STEAL_TIME_SHIFT, 6

parameter spin_threshold, 1 << 15       # PAUSEs before a HLT
parameter preempted_counts, 0           # 1: wait early for a preempted vCPU, too

.text
function _raw_spin_lock, acquire        # rdi: lock, rsi: vCPU
    lock_wait rdi, in_order
    xor eax, eax
    mov ecx, Q_LOCKED
    lock cmpxchg dword ptr [rdi], ecx
    je 1f
    call __pv_queued_spin_lock_slowpath
1:  lock_acquired rdi
    ret
end_function _raw_spin_lock

function __pv_queued_spin_lock_slowpath         # rdi: lock, rsi: vCPU
    lea rax, [rip + known]
    cmp byte ptr [rax + rsi], 0
    je pv_init
pv_queue:
    take_node                           # r8: my node, r9d: my tail, r10: my counter
    jae no_node_left
    mov dword ptr [r8 + Q_NODE_LOCKED], 0
    mov qword ptr [r8 + Q_NODE_NEXT], 0
    mov dword ptr [r8 + Q_NODE_CPU], esi
    mov dword ptr [r8 + Q_NODE_STATE], RUNNING

pv_hybrid_queued_unfair_trylock:        # steal while others queue and the head lets me
    mov edx, dword ptr [rdi]
    test edx, Q_LOCKED_MASK | Q_PENDING_MASK
    jne 1f
    xor eax, eax
    mov ecx, Q_LOCKED
    lock cmpxchg byte ptr [rdi], cl     # *,0,0 -> *,0,1
    je release_node
1:  test edx, Q_TAIL_MASK
    je 2f
    test edx, Q_PENDING_MASK
    jne 2f
    pause
    jmp pv_hybrid_queued_unfair_trylock
2:  mov edx, r9d
    xchg word ptr [rdi + 2], dx         # p,*,* -> n,*,*
    and edx, 0xffff
    je pv_wait_head
    node_of_tail                        # rdx: the node before me
    lock_acquired rdx                   # `next` of it, until it is told
    mov qword ptr [rdx + Q_NODE_NEXT], r8
    lock_released rdx

pv_wait_node_again:
    get_parameter rcx, spin_threshold
pv_wait_node:
    cmp dword ptr [r8 + Q_NODE_LOCKED], 0
    jne pv_wait_head
    test ecx, 0xff                      # wait early: the one before me does not run either
    jne 1f
    cmp dword ptr [rdx + Q_NODE_STATE], RUNNING
    jne 2f
    cmp byte ptr [rip + pleemu_parameter_preempted_counts], 0
    je 1f
    mov eax, dword ptr [rdx + Q_NODE_CPU]
    shl eax, STEAL_TIME_SHIFT
    lea r11, [rip + steal_times]
    add r11, rax
    vcpu_is_preempted r11
    jne 2f
1:  pause
    dec ecx
    jne pv_wait_node
2:  mov eax, HALTED
    xchg dword ptr [r8 + Q_NODE_STATE], eax     # running -> halted; seen before `locked` is read: pairs with pv_kick_node
    cmp dword ptr [r8 + Q_NODE_LOCKED], 0
    jne 3f
    mov r11, r8
    add r11, Q_NODE_STATE
    mov ecx, HALTED
    call pv_wait
3:  mov eax, HALTED
    mov ecx, RUNNING
    lock cmpxchg dword ptr [r8 + Q_NODE_STATE], ecx     # halted -> running; hashed stays
    jmp pv_wait_node_again              # it may have been for nothing

pv_wait_head:
    cmp dword ptr [r8 + Q_NODE_STATE], HASHED
    sete dl                             # edx: 1: in the hash already
    movzx edx, dl
pv_wait_head_again:
    mov dword ptr [r8 + Q_NODE_STATE], RUNNING
    mov byte ptr [rdi + 1], 1           # no more stealing
    get_parameter rcx, spin_threshold
pv_wait_head_or_lock:
    cmp byte ptr [rdi], 0
    jne 1f
    mov eax, Q_PENDING
    mov r11d, Q_LOCKED
    lock cmpxchg word ptr [rdi], r11w   # *,1,0 -> *,0,1
    je got_lock
1:  pause
    dec ecx
    jne pv_wait_head_or_lock
    mov byte ptr [rdi + 1], 0
    test edx, edx
    jne 2f
    mov rdx, r8
    call pv_hash                        # r11: my entry
    mov eax, SLOW
    lock_wait r11                       # a wait of its own: this exchange gives no new place in the lock
    xchg byte ptr [rdi], al             # 1 -> 3; 0 -> 3: it has just been freed, so it is mine
    lock_wait_over r11
    test al, al
    jne 3f
    mov byte ptr [rdi], Q_LOCKED
    mov qword ptr [r11], 0
    jmp got_lock
3:  mov edx, 1
2:  mov dword ptr [r8 + Q_NODE_STATE], HASHED
    mov r11, rdi
    mov ecx, SLOW
    call pv_wait_byte
    jmp pv_wait_head_again

got_lock:
    mov eax, dword ptr [rdi]
    or eax, Q_LOCKED
    mov ecx, eax
    shr ecx, 16
    cmp ecx, r9d
    jne 4f
    mov ecx, Q_LOCKED
    lock cmpxchg dword ptr [rdi], ecx   # n,0,1 -> 0,0,1: nobody behind me
    je release_node
4:  mov byte ptr [rdi], Q_LOCKED
    wait_for_next                       # rdx: the node behind me
    mov dword ptr [rdx + Q_NODE_LOCKED], 1
    mov eax, HALTED                     # pv_kick_node: LOCKed, so it comes behind the store; pairs with pv_wait_node
    mov ecx, HASHED
    lock cmpxchg dword ptr [rdx + Q_NODE_STATE], ecx
    jne release_node
    mov byte ptr [rdi], SLOW            # my unlock will kick it
    call pv_hash
release_node:
    dec dword ptr [r10]
    ret

no_node_left:                           # a fifth context: take turns with all others, out of order
    xor eax, eax
    mov ecx, Q_LOCKED
    lock cmpxchg dword ptr [rdi], ecx
    je release_node
    pause
    jmp no_node_left

pv_init:                                # the first time: does KVM offer kicks? and where is my steal time?
    push rbx
    mov byte ptr [rax + rsi], 1
    mov eax, KVM_FEATURES
    cpuid
    bt eax, KVM_FEATURE_PV_UNHALT
    setc byte ptr [rip + pv_unhalt]
    bt eax, KVM_FEATURE_STEAL_TIME
    jnc 1f
    mov r11, rsi
    shl r11, STEAL_TIME_SHIFT
    lea rax, [rip + steal_times]
    add r11, rax
    steal_time_at r11
1:  pop rbx
    jmp pv_queue

pv_wait:                                # until [r11] is not ecx any more, or a kick
    pushfq
    cli
    cmp dword ptr [r11], ecx
    jmp 1f
pv_wait_byte:
    pushfq
    cli
    cmp byte ptr [r11], cl
1:  jne 3f
    cmp byte ptr [rip + pv_unhalt], 0
    je 3f
    test dword ptr [rsp], RFLAGS_IF     # kvm_wait, v5.6 arch/x86/kernel/kvm.c
    je 2f
    sti
2:  hlt
3:  popfq
    ret

pv_hash:                                # rdi: lock, rdx: node -> r11: the entry
    mov eax, edi
    shr eax, 6
5:  and eax, HASH_MASK
    lea r11, [rip + pv_lock_hash]
    mov ecx, eax
    shl ecx, 4
    add r11, rcx
    mov ecx, eax
    xor eax, eax
    lock cmpxchg qword ptr [r11], rdi   # 0 -> lock
    je 6f
    lea eax, [rcx + 1]
    jmp 5b
6:  mov qword ptr [r11 + 8], rdx
    ret
end_function __pv_queued_spin_lock_slowpath

function __pv_queued_spin_unlock, release # rdi: lock
    mov eax, Q_LOCKED
    xor ecx, ecx
    lock cmpxchg byte ptr [rdi], cl     # *,*,1 -> *,*,0
    jne 1f
    lock_released rdi
    ret
1:  push rbx                            # *,*,3: somebody sleeps
    mov eax, edi
    shr eax, 6
2:  and eax, HASH_MASK
    lea r11, [rip + pv_lock_hash]
    mov ecx, eax
    shl ecx, 4
    add r11, rcx
    inc eax
    cmp qword ptr [r11], rdi
    jne 2b
    mov rdx, qword ptr [r11 + 8]
    mov qword ptr [r11], 0
    mov r8d, dword ptr [rdx + Q_NODE_CPU]
    mov byte ptr [rdi], 0               # *,*,3 -> *,*,0
    lock_released rdi
    kick r8d
    pop rbx
    ret
end_function __pv_queued_spin_unlock

.bss
.balign 64
pv_lock_hash:
    .skip 16 * (HASH_MASK + 1)
.balign 64
steal_times:
    .skip 1024 << STEAL_TIME_SHIFT
known:                                  # by vCPU: has it been to pv_init?
    .skip 1024
pv_unhalt:
    .skip 1
