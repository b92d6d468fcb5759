# The queued spinlock of Linux v5.6 (kernel/locking/qspinlock.c), with one context per vCPU.
#
#   bits 31..16     15..8     7..0
#        tail       pending   locked      tail: (vCPU + 1) << 2, 0: nobody queues
#
#   0,0,0 -> 0,0,1  uncontended
#   0,0,1 -> 0,1,1  the first waiter sets pending and spins on locked:    0,1,0 -> 0,0,1
#   n,*,* -> m,*,*  the others queue, each on its own node (MCS); the head of the queue spins
#                   until nobody is locked or pending:                    n,0,0 -> n,0,1
#
# Three loops spin, and each has a label of its own.

.include "pleemu.inc"

.set HOLD, 4200                         # cycles: 2 us at 2.1 GHz
.set THINK, 0x3ffff                     # at most: 125 us

.set LOCKED, 0x1
.set PENDING, 0x100
.set PENDING_LOOPS, 512
.set NODE_NEXT, 0
.set NODE_LOCKED, 8
.set NODE_SHIFT, 6                      # a cache line each

.text
.globl guest_main
guest_main:
    mov r12, rdx                        # state of the random numbers
    lea r13, [rip + nodes]
    lea r15d, [rdi + 1]
    shl r15d, 2                         # my tail
    shl rdi, NODE_SHIFT
    lea r14, [r13 + rdi]                # my node
    lea rbx, [rip + lock]
again:
    random r12, rax
    mov rax, r12
    and eax, THINK
    work rax
    lock_wait rbx, in_order
    xor eax, eax
    mov ecx, LOCKED
    lock cmpxchg dword ptr [rbx], ecx   # 0,0,0 -> 0,0,1
    je 1f
    call native_queued_spin_lock_slowpath
1:  lock_acquired rbx
    work HOLD
    mov byte ptr [rbx], 0               # *,*,1 -> *,*,0
    lock_released rbx
    operation_done
    jmp again

native_queued_spin_lock_slowpath:       # eax: the word as seen; clobbers eax, ecx, edx
    cmp eax, PENDING                    # 0,1,0: the lock is being handed over, wait a little
    jne 2f
    mov ecx, PENDING_LOOPS
1:  mov eax, dword ptr [rbx]
    cmp eax, PENDING
    jne 2f
    pause
    dec ecx
    jne 1b
2:  test eax, ~0xff                     # somebody is pending or queued
    jne queue
    lock bts dword ptr [rbx], 8         # 0,0,* -> 0,1,*
    setc cl
    mov eax, dword ptr [rbx]
    test cl, cl
    jne queue                           # it was pending already
    test eax, 0xffff0000
    je pending_wait
    mov byte ptr [rbx + 1], 0           # n,1,* -> n,0,*: a queue has formed, undo
    jmp queue

pending_wait:                           # loop 1: the holder's unlock
    cmp byte ptr [rbx], 0
    je 1f
    pause
    jmp pending_wait
1:  mov word ptr [rbx], LOCKED          # 0,1,0 -> 0,0,1
    ret

queue:
    mov dword ptr [r14 + NODE_LOCKED], 0
    mov qword ptr [r14 + NODE_NEXT], 0
    cmp dword ptr [rbx], 0              # the way here has cost time: try once more
    jne 1f
    xor eax, eax
    mov ecx, LOCKED
    lock cmpxchg dword ptr [rbx], ecx
    jne 1f
    ret
1:  mov edx, r15d
    xchg word ptr [rbx + 2], dx         # p,*,* -> n,*,*
    and edx, 0xffff
    je queue_head_wait
    shr edx, 2
    dec edx
    shl rdx, NODE_SHIFT
    mov qword ptr [r13 + rdx + NODE_NEXT], r14

mcs_node_wait:                          # loop 2: the one in front of me in the queue
    cmp dword ptr [r14 + NODE_LOCKED], 0
    jne queue_head_wait
    pause
    jmp mcs_node_wait

queue_head_wait:                        # loop 3: the holder and the pending one
    mov eax, dword ptr [rbx]
    test eax, 0xffff
    je 1f
    pause
    jmp queue_head_wait
1:  mov ecx, eax
    shr ecx, 16
    cmp ecx, r15d
    jne 2f
    mov ecx, LOCKED
    lock cmpxchg dword ptr [rbx], ecx   # n,0,0 -> 0,0,1: nobody behind me
    jne 2f
    ret
2:  mov byte ptr [rbx], LOCKED          # n,0,0 -> n,0,1
3:  mov rdx, qword ptr [r14 + NODE_NEXT]
    test rdx, rdx
    jne 4f
    pause                               # it has queued, but not yet told me its node
    jmp 3b
4:  mov dword ptr [rdx + NODE_LOCKED], 1
    ret

.data
.balign 64
lock:
    .long 0

.bss
.balign 64
nodes:
    .skip 64 * 64                       # for up to 64 vCPUs
