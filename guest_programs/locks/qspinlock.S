# The queued spinlock of Linux v5.6 (kernel/locking/qspinlock.c). First in, first out once somebody waits.
#
#   bits 31..18   17..16   15..8     7..0
#        cpu+1    context  pending   locked       the upper 16 bits are the tail, 0: nobody queues
#
#   0,0,0 -> 0,0,1  uncontended
#   0,0,1 -> 0,1,1  the first waiter sets pending and spins on locked:    0,1,0 -> 0,0,1
#   n,*,* -> m,*,*  the others queue, each on its own node (MCS); the head of the queue spins
#                   until nobody is locked or pending:                    n,0,0 -> n,0,1
#
# Three loops spin, and each has a label of its own. A vCPU has four nodes, for a lock taken in an interrupt handler
# while it waits for another.

.include "pleemu.inc"
.include "qspinlock.inc"

.set PENDING_LOOPS, 512                 # _Q_PENDING_LOOPS on x86

.text
function _raw_spin_lock, acquire        # rdi: lock, rsi: vCPU
    lock_wait rdi, in_order
    xor eax, eax
    mov ecx, Q_LOCKED
    lock cmpxchg dword ptr [rdi], ecx   # 0,0,0 -> 0,0,1
    je 1f
    call native_queued_spin_lock_slowpath
1:  lock_acquired rdi
    ret
end_function _raw_spin_lock

function native_queued_spin_lock_slowpath       # rdi: lock, rsi: vCPU, eax: the word as seen
    cmp eax, Q_PENDING                  # 0,1,0: the lock is being handed over, wait a little
    jne 2f
    mov ecx, PENDING_LOOPS
hand_over_wait:
    mov eax, dword ptr [rdi]
    cmp eax, Q_PENDING
    jne 2f
    pause
    dec ecx
    jne hand_over_wait
2:  test eax, ~Q_LOCKED_MASK            # somebody is pending or queued
    jne queue
    lock bts dword ptr [rdi], 8         # 0,0,* -> 0,1,*
    setc cl
    mov eax, dword ptr [rdi]
    test cl, cl
    jne queue                           # it was pending already
    test eax, Q_TAIL_MASK
    je pending_wait
    mov byte ptr [rdi + 1], 0           # n,1,* -> n,0,*: a queue has formed, undo
    jmp queue

pending_wait:                           # loop 1: the holder's unlock
    cmp byte ptr [rdi], 0
    je 1f
    pause
    jmp pending_wait
1:  mov word ptr [rdi], Q_LOCKED        # 0,1,0 -> 0,0,1
    ret

queue:
    take_node                           # r8: my node, r9d: my tail, r10: my counter
    jae no_node_left
    mov dword ptr [r8 + Q_NODE_LOCKED], 0
    mov qword ptr [r8 + Q_NODE_NEXT], 0
    cmp dword ptr [rdi], 0              # the way here has cost time: try once more
    jne 1f
    xor eax, eax
    mov ecx, Q_LOCKED
    lock cmpxchg dword ptr [rdi], ecx
    je release_node
1:  mov edx, r9d
    xchg word ptr [rdi + 2], dx         # p,*,* -> n,*,*
    and edx, 0xffff
    je queue_head_wait
    node_of_tail                        # rdx: the node before me
    lock_acquired rdx                   # `next` of it, until it is told
    mov qword ptr [rdx + Q_NODE_NEXT], r8
    lock_released rdx

mcs_node_wait:                          # loop 2: the one in front of me in the queue
    cmp dword ptr [r8 + Q_NODE_LOCKED], 0
    jne queue_head_wait
    pause
    jmp mcs_node_wait

queue_head_wait:                        # loop 3: the holder and the pending one
    mov eax, dword ptr [rdi]
    test eax, Q_LOCKED_MASK | Q_PENDING_MASK
    je 1f
    pause
    jmp queue_head_wait
1:  mov ecx, eax
    shr ecx, 16
    cmp ecx, r9d
    jne 2f
    mov ecx, Q_LOCKED
    lock cmpxchg dword ptr [rdi], ecx   # n,0,0 -> 0,0,1: nobody behind me
    je release_node
2:  mov byte ptr [rdi], Q_LOCKED        # n,0,0 -> n,0,1
    wait_for_next                       # rdx: the node behind me
    mov dword ptr [rdx + Q_NODE_LOCKED], 1
release_node:
    dec dword ptr [r10]
    ret

no_node_left:                           # a fifth context: take turns with all others, out of order
    cmp dword ptr [rdi], 0
    jne 1f
    xor eax, eax
    mov ecx, Q_LOCKED
    lock cmpxchg dword ptr [rdi], ecx
    je release_node
1:  pause
    jmp no_node_left
end_function native_queued_spin_lock_slowpath

function _raw_spin_unlock, release      # rdi: lock
    mov byte ptr [rdi], 0               # *,*,1 -> *,*,0
    lock_released rdi
    ret
end_function _raw_spin_unlock
