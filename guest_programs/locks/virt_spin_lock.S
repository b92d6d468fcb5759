# virt_spin_lock (v5.6 arch/x86/include/asm/qspinlock.h): what a Linux guest takes for a spinlock where a hypervisor is
# and PV spinlocks are not: a test and set inside the queued spinlock's slow path, "to avoid queue preemption". Unfair.
#
#   0 -> 1   by a cmpxchg, tried only when the lock looks free
#   1 -> 0   by a plain store of a byte

.include "pleemu.inc"

.text
function _raw_spin_lock, acquire        # rdi: lock
    lock_wait rdi
    xor eax, eax
    mov ecx, 1
    lock cmpxchg dword ptr [rdi], ecx   # 0 -> 1
    je 1f
    call native_queued_spin_lock_slowpath
1:  lock_acquired rdi
    ret
end_function _raw_spin_lock

function native_queued_spin_lock_slowpath
    mov ecx, 1
virt_spin_lock:
    mov eax, dword ptr [rdi]
    test eax, eax
    je 1f
    pause
    jmp virt_spin_lock
1:  lock cmpxchg dword ptr [rdi], ecx   # 0 -> 1
    jne virt_spin_lock
    ret
end_function native_queued_spin_lock_slowpath

function _raw_spin_unlock, release      # rdi: lock
    mov byte ptr [rdi], 0               # 1 -> 0; a plain store releases on x86
    lock_released rdi
    ret
end_function _raw_spin_unlock
