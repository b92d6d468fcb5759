# virt_spin_lock (v5.6 arch/x86/include/asm/qspinlock.h): what a Linux guest takes for a spinlock where a hypervisor is
# and PV spinlocks are not: a test and set inside the queued spinlock's slow path, "to avoid queue preemption". Unfair.
#
#   0 -> 1   acquire: by a cmpxchg, tried only when the lock looks free
#   1 -> 0   release: by a plain store of a byte
#
# Its instructions are in spin_lock.inc, whose macros the experiments around worst_case have in line.

.include "pleemu.inc"
.include "spin_lock.inc"

.text
function _raw_spin_lock, acquire        # rdi: lock
    spin_lock rdi                       # calls native_queued_spin_lock_slowpath
    ret
end_function _raw_spin_lock

function _raw_spin_unlock, release      # rdi: lock
    spin_unlock rdi
    ret
end_function _raw_spin_unlock
