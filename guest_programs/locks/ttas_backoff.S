# Test, then test and set, with exponential back-off (Anderson, IEEE TPDS 1990; libvsync's ttaslock). Unfair.
#
#   0 -> 1   acquire: by an exchange, tried only when the lock looks free
#   1 -> 0   release
#
# Who loses an exchange waits for some PAUSEs, twice as many each time. Their distance stays small, so PLE sees the
# back-off, too: it is no cure for exits.

.include "pleemu.inc"

.set BACK_OFF_LEAST, 4                  # PAUSEs
.set BACK_OFF_MOST, 256

.text
function ttas_lock, acquire             # rdi: lock
    lock_wait rdi
    mov edx, BACK_OFF_LEAST
test_loop:
    cmp dword ptr [rdi], 0
    je 1f
    pause
    jmp test_loop
1:  mov eax, 1
    xchg dword ptr [rdi], eax           # 0 -> 1: mine; 1 -> 1: another was faster
    test eax, eax
    je 2f
    mov ecx, edx
back_off:
    pause
    dec ecx
    jne back_off
    cmp edx, BACK_OFF_MOST
    jae test_loop
    add edx, edx
    jmp test_loop
2:  lock_acquired rdi
    ret
end_function ttas_lock

function ttas_unlock, release           # rdi: lock
    mov dword ptr [rdi], 0              # 1 -> 0
    lock_released rdi
    ret
end_function ttas_unlock
