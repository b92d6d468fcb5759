/*
 * The ticket lock of ticket.S in C: what a lock of your own may look like. Two functions, and the main of all locks
 * comes with them:
 *
 *     pleemu run ticket_in_c.c --vcpus 4 --pcpus 2
 *
 * The same file is a lock for real threads: there the probes are nops that perf, gdb and bpftrace know.
 */
#include "pleemu.h"

struct lock {
    unsigned short head, tail; /* h, h: free; h, t: held by ticket h, t - h - 1 wait in order */
};

/* A function of its own, by Linux's name: reports count PAUSE exits by function. */
__attribute__((noinline)) static void _raw_spin_lock(struct lock *lock)
{
    unsigned short ticket = __atomic_fetch_add(&lock->tail, 1, __ATOMIC_ACQ_REL); /* h, t -> h, t+1 */

    while (__atomic_load_n(&lock->head, __ATOMIC_ACQUIRE) != ticket)
        cpu_relax();
}

void acquire(struct lock *lock, unsigned long vcpu)
{
    (void)vcpu;
    lock_wait_in_order(lock);
    _raw_spin_lock(lock);
    lock_acquired(lock);
}

void release(struct lock *lock, unsigned long vcpu)
{
    (void)vcpu;
    __atomic_store_n(&lock->head, (unsigned short)(lock->head + 1), __ATOMIC_RELEASE); /* h, t -> h+1, t */
    lock_released(lock);
}

int is_free(const struct lock *lock)
{
    return lock->head == lock->tail;
}
