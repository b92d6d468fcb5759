# The ticket lock of Linux 2.6.25 to 4.1 (v3.10 arch/x86/include/asm/spinlock.h), 16 bits each. First in, first out.
#
#   head, tail    h, h: free      h, t: held by ticket h, t - h - 1 vCPUs wait in order
#   acquire       h, t -> h, t+1  my ticket is t: I have it when head is t
#   release       h, t -> h+1, t  the next in line has it, even if it does not run
#
# A preempted next waiter keeps everybody else waiting, though nobody has the lock: lock-waiter preemption.

.include "pleemu.inc"

.text
function _raw_spin_lock, acquire        # rdi: lock
    lock_wait rdi, in_order
    mov eax, 0x10000
    lock xadd dword ptr [rdi], eax      # h, t -> h, t+1; eax: h, t
    mov ecx, eax
    shr ecx, 16                         # my ticket
1:  cmp ax, cx
    je 2f
    pause
    mov ax, word ptr [rdi]
    jmp 1b
2:  lock_acquired rdi
    ret
end_function _raw_spin_lock

function _raw_spin_unlock, release      # rdi: lock
    inc word ptr [rdi]                  # h, t -> h+1, t: only the owner writes the head
    lock_released rdi
    ret
end_function _raw_spin_unlock

function is_free                        # rdi: lock; eax: 1 if nobody has it
    mov ecx, dword ptr [rdi]
    mov edx, ecx
    shr edx, 16
    xor eax, eax
    cmp cx, dx
    sete al
    ret
end_function is_free
