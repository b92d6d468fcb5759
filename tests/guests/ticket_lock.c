/* A ticket lock around a counter that every vCPU increments ROUNDS times. vCPU 0 then sees whether it is exact:
 * only then is there an operation. BROKEN leaves out the waiting. */
#include "pleemu.h"

#ifndef ROUNDS
#define ROUNDS 32
#endif

static struct { unsigned short head, tail; } lock;
static unsigned long counter, finished;

static void take(void)
{
    lock_wait(&lock);
    unsigned short ticket = __atomic_fetch_add(&lock.tail, 1, __ATOMIC_ACQUIRE);
#ifndef BROKEN
    while (__atomic_load_n(&lock.head, __ATOMIC_ACQUIRE) != ticket)
        cpu_relax();
#else
    (void)ticket;
#endif
    lock_acquired(&lock);
}

static void give(void)
{
    __atomic_store_n(&lock.head, (unsigned short)(lock.head + 1), __ATOMIC_RELEASE);
    lock_released(&lock);
}

void guest_main(unsigned long vcpu, unsigned long vcpus, unsigned long seed)
{
    unsigned long state = pleemu_random_init(vcpu, seed);

    for (int round = 0; round < ROUNDS; round++) {
        take();
        unsigned long seen = *(volatile unsigned long *)&counter;
        work(300);
        counter = seen + 1;
        give();
        work(pleemu_random(&state) & 0x1ff);
    }
    __atomic_fetch_add(&finished, 1, __ATOMIC_ACQ_REL);
    if (vcpu != 0)
        return;
    while (__atomic_load_n(&finished, __ATOMIC_ACQUIRE) != vcpus)
        cpu_relax();
    if (counter == vcpus * ROUNDS)
        operation_done();
}
