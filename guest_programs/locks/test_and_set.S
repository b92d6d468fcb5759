# Test and set: one bit, and an atomic exchange at each try (Herlihy and Shavit, The Art of Multiprocessor
# Programming, 7.2). Unfair.
#
#   0 -> 1   acquire, by whoever comes first
#   1 -> 0   release
#
# Each try takes the cache line from everybody else, so with many spinners the exchange itself takes longer than
# PLE_Gap, and a contended test and set may never exit.

.include "pleemu.inc"

.text
function test_and_set_lock, acquire     # rdi: lock
    lock_wait rdi
test_and_set:
    mov eax, 1
    xchg dword ptr [rdi], eax           # 0 -> 1: mine; 1 -> 1: somebody has it
    test eax, eax
    je 1f
    pause
    jmp test_and_set
1:  lock_acquired rdi
    ret
end_function test_and_set_lock

function test_and_set_unlock, release   # rdi: lock
    mov dword ptr [rdi], 0              # 1 -> 0
    lock_released rdi
    ret
end_function test_and_set_unlock
