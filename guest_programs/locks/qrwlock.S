# The queued lock for readers and writers of Linux v5.6 (kernel/locking/qrwlock.c), on a spinlock: that which is linked
# beside it, as in `pleemu run qrwlock.S ticket.S`, or else qspinlock.S.
#
#   bits 31..9    8         7..0
#       readers   waiting   writer (0xff)          wait_lock: 8 bytes behind
#
#   read     r,0,0 -> r+1,0,0    no writer has it or waits
#     else   r+1 -> r, take wait_lock, r -> r+1, until the writer is gone, let wait_lock go
#   write    0,0,0 -> 0,0,ff     nobody has it
#     else   take wait_lock; r,0,* -> r,1,*, until 0,1,0 -> 0,0,ff; let wait_lock go
#
# A waiting writer waits for every reader inside. The kernel's way for readers in interrupts is not here.

.include "pleemu.inc"

.set WRITER, 0xff
.set WAITING, 0x100
.set WRITER_MASK, 0x1ff
.set READER, 0x200
.set WAIT_LOCK, 8

.text
function _raw_read_lock, read_lock      # rdi: lock, rsi: vCPU
    lock_wait rdi, shared
    mov eax, READER
    lock xadd dword ptr [rdi], eax      # r -> r+1
    test eax, WRITER_MASK
    jne queued_read_lock_slowpath
    lock_acquired rdi, shared
    ret
end_function _raw_read_lock

function queued_read_lock_slowpath      # rdi: lock, rsi: vCPU; jumped to
    lock sub dword ptr [rdi], READER    # r+1 -> r
    push rdi
    push rsi
    sub rsp, 8
    add rdi, WAIT_LOCK
    call acquire
    mov rdi, qword ptr [rsp + 16]
    lock add dword ptr [rdi], READER    # r -> r+1
read_wait:
    cmp byte ptr [rdi], 0
    je 1f
    pause
    jmp read_wait
1:  lock_acquired rdi, shared
    add rsp, 8
    pop rsi
    add rdi, WAIT_LOCK
    call release
    pop rdi
    ret
end_function queued_read_lock_slowpath

function _raw_read_unlock, read_unlock  # rdi: lock
    lock sub dword ptr [rdi], READER    # r -> r-1
    lock_released rdi
    ret
end_function _raw_read_unlock

function _raw_write_lock, write_lock    # rdi: lock, rsi: vCPU
    lock_wait rdi
    xor eax, eax
    mov ecx, WRITER
    lock cmpxchg dword ptr [rdi], ecx   # 0,0,0 -> 0,0,ff
    jne queued_write_lock_slowpath
    lock_acquired rdi
    ret
end_function _raw_write_lock

function queued_write_lock_slowpath     # rdi: lock, rsi: vCPU; jumped to
    push rdi
    push rsi
    sub rsp, 8
    add rdi, WAIT_LOCK
    call acquire
    mov rdi, qword ptr [rsp + 16]
    cmp dword ptr [rdi], 0
    jne 1f
    xor eax, eax
    mov ecx, WRITER
    lock cmpxchg dword ptr [rdi], ecx   # 0,0,0 -> 0,0,ff
    je 2f
1:  lock add dword ptr [rdi], WAITING   # r,0,* -> r,1,*
write_wait:
    cmp dword ptr [rdi], WAITING
    jne 3f
    mov eax, WAITING
    mov ecx, WRITER
    lock cmpxchg dword ptr [rdi], ecx   # 0,1,0 -> 0,0,ff
    je 2f
3:  pause
    jmp write_wait
2:  lock_acquired rdi
    add rsp, 8
    pop rsi
    add rdi, WAIT_LOCK
    call release
    pop rdi
    ret
end_function queued_write_lock_slowpath

function _raw_write_unlock, write_unlock # rdi: lock
    mov byte ptr [rdi], 0               # r,w,ff -> r,w,0
    lock_released rdi
    ret
end_function _raw_write_unlock

function rwlock_is_free                 # rdi: lock; eax: 1 if nobody has it or wants it
    xor eax, eax
    cmp dword ptr [rdi], 0
    jne 1f
    add rdi, WAIT_LOCK
    jmp is_free                         # of the spinlock
1:  ret
end_function rwlock_is_free

.include "is_free.inc"                   # for a spinlock that brings none
