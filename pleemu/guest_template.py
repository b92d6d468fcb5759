"""What `pleemu new guest` writes: a lock as two functions, which is an experiment as it stands."""

ASSEMBLY = """\
# NAME: a lock of your own. It runs as it stands:
#
#   pleemu run PATH --vcpus 4 --pcpus 2             once, in full
#   pleemu compare PATH --vcpus 4 --pcpus 2         under the usual policies
#   pleemu compare PATH --vcpus 4 --pcpus 2 --across 'vm.0.parameters.hold=1us,20us,lognormal(5us, 1)'
#   pleemu run PATH --vcpus 4 --pcpus 2 --host.scheduler chaos --vm.0.parameters.rounds 100      looks for bugs
#   pleemu list parameters PATH                     what can be set: threads, rounds, hold, think, objects and yours
#
# A lock is two functions. pleemu adds a main (pleemu list programs include) in which every vCPU takes the lock, holds
# it, lets it go and thinks, and which stops where two have it at once. A guest of another kind has a main of its own:
# `function guest_main`, with rdi = this vCPU, rsi = number of vCPUs, rdx = a random seed.
#
# Both functions: rdi = the lock, 64 bytes that are 0 at first, on a cache line of their own; rsi = this vCPU's number.
# Keep rbx, rbp, rsp and r12 to r15; the other registers are yours.

.include "pleemu.inc"                   # probes, parameters, interrupts, IPIs, hypercalls: read it

parameter pauses, 1                     # PAUSEs between two looks at the lock: --vm.0.parameters.pauses 8

.text
function acquire                        # reports, perf and gdb know it by this name
    lock_wait rdi                       # probe: it wants the lock; `lock_wait rdi, in_order` if it serves in order
    get_parameter rdx, pauses
wait_for_lock:                          # reports name the loop, too
    cmp dword ptr [rdi], 0
    je 2f
    mov rax, rdx
1:  pause                               # here a spinner exits
    dec rax
    jg 1b
    jmp wait_for_lock
2:  mov eax, 1
    xchg dword ptr [rdi], eax           # 0 -> 1: mine; 1 -> 1: another was faster
    test eax, eax
    jne wait_for_lock
    lock_acquired rdi                   # probe: it has the lock
    ret
end_function acquire

function release
    mov dword ptr [rdi], 0              # 1 -> 0
    lock_released rdi                   # probe: directly behind the store that frees it
    ret
end_function release
"""

C = """\
/*
 * NAME: a lock of your own. It runs as it stands:
 *
 *   pleemu run PATH --vcpus 4 --pcpus 2             once, in full
 *   pleemu compare PATH --vcpus 4 --pcpus 2         under the usual policies
 *   pleemu compare PATH --vcpus 4 --pcpus 2 --across 'vm.0.parameters.hold=1us,20us,lognormal(5us, 1)'
 *   pleemu run PATH --vcpus 4 --pcpus 2 --host.scheduler chaos --vm.0.parameters.rounds 100      looks for bugs
 *   pleemu list parameters PATH                     what can be set: threads, rounds, hold, think, objects and yours
 *
 * A lock is two functions. pleemu adds a main (pleemu list programs include) in which every vCPU takes the lock,
 * holds it, lets it go and thinks, and which stops where two have it at once. A guest of another kind has a main of
 * its own: void guest_main(unsigned long vcpu, unsigned long vcpus, unsigned long seed). There is no C library.
 *
 * The same file is a lock for real threads: there a probe is a nop that perf, gdb and bpftrace know.
 */
#include "pleemu.h" /* probes, parameters, interrupts, IPIs, hypercalls: read it */

struct lock { /* at most 64 bytes, 0 at first, on a cache line of its own */
    unsigned int held;
};

PLEEMU_PARAMETER(pauses, 1); /* PAUSEs between two looks at the lock: --vm.0.parameters.pauses 8 */

/* A function of its own, so that reports name it. */
__attribute__((noinline)) void wait_for_lock(struct lock *lock)
{
    unsigned long left;

    while (__atomic_load_n(&lock->held, __ATOMIC_RELAXED)) {
        cpu_relax(); /* PAUSE: here a spinner exits */
        for (left = pleemu_parameter(pauses); left > 1; left--)
            cpu_relax();
    }
}

void acquire(struct lock *lock, unsigned long vcpu)
{
    (void)vcpu; /* the calling vCPU's number, for locks with a node for each */
    lock_wait(lock); /* probe: it wants the lock; lock_wait_in_order if it serves in order */
    while (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE)) /* 0 -> 1: mine; 1 -> 1: another was faster */
        wait_for_lock(lock);
    lock_acquired(lock); /* probe: it has the lock */
}

void release(struct lock *lock, unsigned long vcpu)
{
    (void)vcpu;
    __atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE); /* 1 -> 0 */
    lock_released(lock); /* probe: directly behind the store that frees it */
}
"""
