/*
 * Concurrency Kit's locks, as they come (http://concurrencykit.org), around a counter that is not atomic.
 * -DLOCK_fas, _cas, _dec, _ticket, _mcs, _clh, _hclh, _anderson, _rwlock, _pflock, _tflock, _swlock choose one.
 *
 * Writers add 1 to two counters; readers, where the lock knows them, find the two equal. The last vCPU to
 * finish says operation_done once for every increment that was not lost, if no reader saw a difference.
 */
#define CK_PR_DISABLE_DOUBLE /* no SSE registers */
#include "pleemu.h"
#include <ck_spinlock.h>
#include <ck_rwlock.h>
#include <ck_pflock.h>
#include <ck_tflock.h>
#include <ck_swlock.h>

#ifndef ROUNDS
#define ROUNDS 4
#endif
#define MOST 16

static volatile unsigned long first, second, torn, finished;

#if defined(LOCK_fas) || defined(LOCK_cas) || defined(LOCK_dec) || defined(LOCK_ticket)
#if defined(LOCK_fas)
#define CALL(x) ck_spinlock_fas##x
static ck_spinlock_fas_t lock = CK_SPINLOCK_FAS_INITIALIZER;
#elif defined(LOCK_cas)
#define CALL(x) ck_spinlock_cas##x
static ck_spinlock_cas_t lock = CK_SPINLOCK_CAS_INITIALIZER;
#elif defined(LOCK_dec)
#define CALL(x) ck_spinlock_dec##x
static ck_spinlock_dec_t lock = CK_SPINLOCK_DEC_INITIALIZER;
#else
#define CALL(x) ck_spinlock_ticket##x
static ck_spinlock_ticket_t lock = CK_SPINLOCK_TICKET_INITIALIZER;
#endif
static void prepare(unsigned long vcpu) { (void)vcpu; }
static void write_lock(unsigned long vcpu) { (void)vcpu; CALL(_lock)(&lock); }
static void write_unlock(unsigned long vcpu) { (void)vcpu; CALL(_unlock)(&lock); }

#elif defined(LOCK_mcs)
static ck_spinlock_mcs_t lock;
static ck_spinlock_mcs_context_t nodes[MOST];
static void prepare(unsigned long vcpu) { (void)vcpu; }
static void write_lock(unsigned long vcpu) { ck_spinlock_mcs_lock(&lock, &nodes[vcpu]); }
static void write_unlock(unsigned long vcpu) { ck_spinlock_mcs_unlock(&lock, &nodes[vcpu]); }

#elif defined(LOCK_clh)
static ck_spinlock_clh_t unowned;
static ck_spinlock_clh_t *lock = &unowned;
static ck_spinlock_clh_t nodes[MOST];
static ck_spinlock_clh_t *mine[MOST];
static void prepare(unsigned long vcpu) { mine[vcpu] = &nodes[vcpu]; }
static void write_lock(unsigned long vcpu) { ck_spinlock_clh_lock(&lock, mine[vcpu]); }
static void write_unlock(unsigned long vcpu) { ck_spinlock_clh_unlock(&mine[vcpu]); }

#elif defined(LOCK_hclh)
#define CLUSTERS 2
static ck_spinlock_hclh_t unowned = {.cluster_id = -1};
static ck_spinlock_hclh_t local_unowned[CLUSTERS];
static ck_spinlock_hclh_t *lock = &unowned;
static ck_spinlock_hclh_t *local[CLUSTERS];
static ck_spinlock_hclh_t nodes[MOST];
static ck_spinlock_hclh_t *mine[MOST];
static volatile int prepared;
static void prepare(unsigned long vcpu)
{
    nodes[vcpu].cluster_id = vcpu % CLUSTERS;
    mine[vcpu] = &nodes[vcpu];
    if (vcpu == 0) {
        for (int i = 0; i < CLUSTERS; i++)
            ck_spinlock_hclh_init(&local[i], &local_unowned[i], i);
        ck_spinlock_hclh_init(&lock, &unowned, -1);
        __atomic_store_n(&prepared, 1, __ATOMIC_RELEASE);
    }
    while (!__atomic_load_n(&prepared, __ATOMIC_ACQUIRE))
        cpu_relax();
}
static void write_lock(unsigned long vcpu) { ck_spinlock_hclh_lock(&lock, &local[vcpu % CLUSTERS], mine[vcpu]); }
static void write_unlock(unsigned long vcpu) { ck_spinlock_hclh_unlock(&mine[vcpu]); }

#elif defined(LOCK_anderson)
static ck_spinlock_anderson_t lock;
static ck_spinlock_anderson_thread_t slots[MOST];
static ck_spinlock_anderson_thread_t *slot;
static volatile int prepared;
static void prepare(unsigned long vcpu)
{
    if (vcpu == 0) {
        ck_spinlock_anderson_init(&lock, slots, MOST);
        __atomic_store_n(&prepared, 1, __ATOMIC_RELEASE);
    }
    while (!__atomic_load_n(&prepared, __ATOMIC_ACQUIRE))
        cpu_relax();
}
static void write_lock(unsigned long vcpu)
{
    ck_spinlock_anderson_thread_t *taken;
    (void)vcpu;
    ck_spinlock_anderson_lock(&lock, &taken);
    slot = taken;
}
static void write_unlock(unsigned long vcpu) { (void)vcpu; ck_spinlock_anderson_unlock(&lock, slot); }

#else
#define READERS 1
#if defined(LOCK_rwlock)
#define CALL(x) ck_rwlock##x
static ck_rwlock_t lock = CK_RWLOCK_INITIALIZER;
#elif defined(LOCK_pflock)
#define CALL(x) ck_pflock##x
static ck_pflock_t lock = CK_PFLOCK_INITIALIZER;
#elif defined(LOCK_tflock)
#define CALL(x) ck_tflock_ticket##x
static ck_tflock_ticket_t lock = CK_TFLOCK_TICKET_INITIALIZER;
#elif defined(LOCK_swlock)
#define CALL(x) ck_swlock##x
#define ONE_WRITER 1
static ck_swlock_t lock = CK_SWLOCK_INITIALIZER;
#elif defined(LOCK_none)
#define CALL(x) none##x
static int lock;
static void none_write_lock(int *it) { (void)it; }
static void none_write_unlock(int *it) { (void)it; }
static void none_read_lock(int *it) { (void)it; }
static void none_read_unlock(int *it) { (void)it; }
#endif
static void prepare(unsigned long vcpu) { (void)vcpu; }
static void write_lock(unsigned long vcpu) { (void)vcpu; CALL(_write_lock)(&lock); }
static void write_unlock(unsigned long vcpu) { (void)vcpu; CALL(_write_unlock)(&lock); }
static void read_lock(void) { CALL(_read_lock)(&lock); }
static void read_unlock(void) { CALL(_read_unlock)(&lock); }
#endif

static int writes(unsigned long vcpu)
{
#ifdef ONE_WRITER
    return vcpu == 0;
#else
    (void)vcpu;
    return 1;
#endif
}

void guest_main(unsigned long vcpu, unsigned long vcpus, unsigned long seed)
{
    unsigned long state = seed | 1, expected = 0;

    prepare(vcpu);
    for (int round = 0; round < ROUNDS; round++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if (writes(vcpu)) {
            write_lock(vcpu);
            first = first + 1;
            work(state & 255);
            second = second + 1;
            write_unlock(vcpu);
        }
#ifdef READERS
        read_lock();
        unsigned long seen = first;
        work((state >> 8) & 63);
        if (seen != second)
            __atomic_fetch_add(&torn, 1, __ATOMIC_SEQ_CST);
        read_unlock();
#endif
        work((state >> 16) & 1023);
    }
    if (__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST) != vcpus)
        return;
    for (unsigned long i = 0; i < vcpus; i++)
        expected += writes(i) ? ROUNDS : 0;
    if (first == expected && second == expected && torn == 0)
        for (unsigned long i = 0; i < expected; i++)
            operation_done();
}
