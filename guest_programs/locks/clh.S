# The CLH lock (Craig 1993; Magnusson, Landin and Hagersten 1994). First in, first out; each waits at the node of the
# one before it, and takes that node for its next round.
#
#   lock: tail -> last node, 0: as in the beginning; behind it the lock's first node
#   acquire   p -> n       n.locked = 1 before, then until p.locked is 0
#   release   n.locked = 0; my node is p from here on
#
# Nobody waits in release. One lock at a time for each vCPU.

.include "pleemu.inc"

.set FIRST_NODE, 32                     # in the lock
.set NODE_SHIFT, 6                      # a cache line each

.text
function clh_lock, acquire              # rdi: lock, rsi: vCPU
    lock_wait rdi, in_order
    lea r8, [rip + mine]
    mov rdx, qword ptr [r8 + rsi * 8]   # my node, n
    test rdx, rdx
    jne 1f
    mov rdx, rsi                        # the first time
    shl rdx, NODE_SHIFT
    lea rcx, [rip + nodes]
    add rdx, rcx
    mov qword ptr [r8 + rsi * 8], rdx
1:  mov dword ptr [rdx], 1              # n.locked
    mov rax, rdx
    xchg qword ptr [rdi], rax           # p -> n
    test rax, rax
    jne 2f
    lea rax, [rdi + FIRST_NODE]
2:  lea r8, [rip + before]
    mov qword ptr [r8 + rsi * 8], rax
clh_node_wait:
    cmp dword ptr [rax], 0              # p.locked
    je 3f
    pause
    jmp clh_node_wait
3:  lock_acquired rdi
    ret
end_function clh_lock

function clh_unlock, release            # rdi: lock, rsi: vCPU
    lea r8, [rip + mine]
    lea r9, [rip + before]
    mov rdx, qword ptr [r8 + rsi * 8]
    mov rax, qword ptr [r9 + rsi * 8]
    mov qword ptr [r8 + rsi * 8], rax   # p is free when n is: it has been my turn
    mov dword ptr [rdx], 0              # n.locked
    lock_released rdi
    ret
end_function clh_unlock

function is_free                        # rdi: lock; eax: 1 if nobody has it
    mov rcx, qword ptr [rdi]
    mov eax, 1
    test rcx, rcx
    je 1f
    xor eax, eax
    cmp dword ptr [rcx], 0
    sete al
1:  ret
end_function is_free

.bss
.balign 64
nodes:
    .skip 1024 << NODE_SHIFT            # as many vCPUs as a scenario can have
mine:
    .skip 1024 * 8
before:
    .skip 1024 * 8
