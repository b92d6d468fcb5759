# The MCS lock (Mellor-Crummey and Scott, ACM TOCS 1991). First in, first out; each waits at a node of its own.
#
#   tail -> last node, 0: free                    node: next, locked
#   acquire   p -> n       p.next = n, then until n.locked
#   release   n -> 0       nobody behind me
#             else         until n.next, then n.next.locked = 1
#
# Who has swapped the tail and not yet told the one before it holds up that one's release: the owner spins for a waiter.
# A probe says so: until it has told, the waiter has `next`. One lock at a time for each vCPU.

.include "pleemu.inc"

.set NEXT, 0
.set LOCKED, 8
.set NODE_SHIFT, 6                      # a cache line each

.text
function mcs_spin_lock, acquire         # rdi: lock, rsi: vCPU
    lock_wait rdi, in_order
    shl rsi, NODE_SHIFT
    lea rdx, [rip + nodes]
    add rdx, rsi                        # my node, n
    mov qword ptr [rdx + NEXT], 0
    mov dword ptr [rdx + LOCKED], 0
    mov rax, rdx
    xchg qword ptr [rdi], rax           # p -> n
    test rax, rax
    je 1f
    lock_acquired rax
    mov qword ptr [rax + NEXT], rdx     # p.next = n
    lock_released rax
mcs_node_wait:
    cmp dword ptr [rdx + LOCKED], 0
    jne 1f
    pause
    jmp mcs_node_wait
1:  lock_acquired rdi
    ret
end_function mcs_spin_lock

function mcs_spin_unlock, release       # rdi: lock, rsi: vCPU
    shl rsi, NODE_SHIFT
    lea rdx, [rip + nodes]
    add rdx, rsi
    mov rcx, qword ptr [rdx + NEXT]
    test rcx, rcx
    jne 2f
    mov rax, rdx
    lock cmpxchg qword ptr [rdi], rcx   # n -> 0
    jne 1f
    lock_released rdi
    ret
1:  lock_wait rdx
mcs_next_wait:                          # somebody is behind me, and has not told me yet
    mov rcx, qword ptr [rdx + NEXT]
    test rcx, rcx
    jne 1f
    pause
    jmp mcs_next_wait
1:  lock_wait_over rdx
2:  mov dword ptr [rcx + LOCKED], 1     # it is the turn of the one behind me
    lock_released rdi
    ret
end_function mcs_spin_unlock

.bss
.balign 64
nodes:
    .skip 1024 << NODE_SHIFT            # as many vCPUs as a scenario can have
