# The sequence lock of Linux v5.6 (include/linux/seqlock.h), on a spinlock: that which is linked beside it, as in
# `pleemu run seqlock.S virt_spin_lock.S`, or else qspinlock.S.
#
#   even: nobody writes          write    take the spinlock, n -> n+1, write, n+1 -> n+2, let it go
#   odd: somebody does           read     until n is even; read; again if n has changed
#
# A preempted writer makes readers exit; a preempted reader harms nobody. Who must read again does so without a PAUSE.

.include "pleemu.inc"

.set WRITERS_LOCK, 8                    # bytes behind the number

.text
function read_seqbegin                  # rdi: lock; eax: the number
    mov eax, dword ptr [rdi]
    test eax, 1
    je 2f
    lock_wait rdi, shared
odd_wait:
    pause
    mov eax, dword ptr [rdi]
    test eax, 1
    jne odd_wait
    lock_wait_over rdi
2:  ret
end_function read_seqbegin

function read_seqretry                  # rdi: lock, esi: the number; eax: 0 if it is still the same
    mov eax, dword ptr [rdi]
    xor eax, esi
    ret
end_function read_seqretry

function write_seqlock                  # rdi: lock, rsi: vCPU
    push rdi
    add rdi, WRITERS_LOCK
    call acquire
    pop rdi
    lock_acquired rdi
    inc dword ptr [rdi]                 # n -> n+1: odd
    ret
end_function write_seqlock

function write_sequnlock                # rdi: lock, rsi: vCPU
    inc dword ptr [rdi]                 # n+1 -> n+2: even; stores come in order on x86
    lock_released rdi
    add rdi, WRITERS_LOCK
    jmp release
end_function write_sequnlock

function seqlock_is_free                # rdi: lock; eax: 1 if nobody writes or wants to
    xor eax, eax
    test dword ptr [rdi], 1
    jne 1f
    add rdi, WRITERS_LOCK
    jmp is_free                         # of the spinlock
1:  ret
end_function seqlock_is_free

.include "is_free.inc"                   # for a spinlock that brings none
