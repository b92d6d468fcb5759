/*
 * pleemu.h: what pleemu.inc is for assembly, for C (and C++) guests and for real programs.
 *
 * A guest is freestanding C. Every vCPU enters at CPL 0, interrupts off, with a stack of its own, at
 *
 *     void guest_main(unsigned long vcpu, unsigned long vcpus, unsigned long seed)
 *
 * and ends when that returns; all vCPUs of a VM share the globals. There is no C library.
 *
 * A real program may include this header too: a probe is one nop there, and a note about it that
 * perf, gdb and bpftrace read (`readelf -n`). So one lock, in one file, runs in both.
 *
 * Every name begins with pleemu_ and has a short form without it, unless PLEEMU_PREFIX_ONLY is defined.
 */
#ifndef PLEEMU_H
#define PLEEMU_H

#if !defined(__x86_64__) || !defined(__LP64__)
#error "pleemu.h is for 64-bit x86"
#endif

/* Inlined at -O0 too, for clang's sake: a handler that calls anything saves vector registers, which guests have not. */
#define PLEEMU_INLINE static inline __attribute__((always_inline))

/* ---- Probes ----------------------------------------------------------------------------
 * The format is that of SystemTap's <sys/sdt.h>. A probe keeps memory accesses before it before, and those
 * after it after.
 */

/* pleemu_lock_wait(LOCK)       before the first try: this vCPU wants the lock at address LOCK
 * pleemu_lock_wait_in_order(LOCK)  the same, and the lock serves its waiters in order (ticket, queue): a waiter's
 *                              place comes from its latest LOCKed instruction that changed the 8 bytes at LOCK
 * pleemu_lock_wait_shared(LOCK)  as a reader, who shares the lock with others; pleemu_lock_wait_in_order_shared: both
 * pleemu_lock_acquired(LOCK)   it has it
 * pleemu_lock_acquired_shared(LOCK)  it shares it
 * pleemu_lock_released(LOCK)   directly after the store that frees it
 * pleemu_lock_wait_over(LOCK)  the wait has ended without the lock: what it stood for has come about, or it was given up
 * pleemu_barrier_wait(BARRIER) this vCPU has arrived at the barrier at address BARRIER and waits for the others
 * pleemu_barrier_passed(BARRIER)  the last one has arrived: directly after the store that lets all go on
 * pleemu_ipi_wait(VCPU)        from here on this vCPU waits until VCPU has acknowledged its request
 * pleemu_ipi_acked(VCPU)       in the handler: the request of VCPU is acknowledged
 * pleemu_operation_done()      one unit of the guest's own work (a lock operation, a record) is finished
 * pleemu_work(CYCLES)          compute for so many cycles, without writing the instructions
 */
#define pleemu_lock_wait(lock) PLEEMU_PROBE("lock_wait", (unsigned long)(lock))
#define pleemu_lock_wait_in_order(lock) PLEEMU_PROBE_AND("lock_wait", (unsigned long)(lock), " 8@$1")
#define pleemu_lock_wait_shared(lock) PLEEMU_PROBE_AND("lock_wait", (unsigned long)(lock), " 8@$2")
#define pleemu_lock_wait_in_order_shared(lock) PLEEMU_PROBE_AND("lock_wait", (unsigned long)(lock), " 8@$3")
#define pleemu_lock_acquired(lock) PLEEMU_PROBE("lock_acquired", (unsigned long)(lock))
#define pleemu_lock_acquired_shared(lock) PLEEMU_PROBE_AND("lock_acquired", (unsigned long)(lock), " 8@$2")
#define pleemu_lock_released(lock) PLEEMU_PROBE("lock_released", (unsigned long)(lock))
#define pleemu_lock_wait_over(lock) PLEEMU_PROBE("lock_wait_over", (unsigned long)(lock))
#define pleemu_barrier_wait(barrier) PLEEMU_PROBE("barrier_wait", (unsigned long)(barrier))
#define pleemu_barrier_passed(barrier) PLEEMU_PROBE("barrier_passed", (unsigned long)(barrier))
#define pleemu_ipi_wait(vcpu) PLEEMU_PROBE("ipi_wait", vcpu)
#define pleemu_ipi_acked(vcpu) PLEEMU_PROBE("ipi_acked", vcpu)
#define pleemu_operation_done() PLEEMU_NOTE("operation_done", "", : : : "memory")
#define pleemu_work(cycles) PLEEMU_PROBE("work", cycles)

/* A probe with one whole number, in whatever place it is: size (negative: signed) and operand, as in -4@%edi.
 * `%n` prints a constant negated, hence the sign. */
#define PLEEMU_PROBE(name, value) PLEEMU_PROBE_AND(name, value, "")
#define PLEEMU_PROBE_AND(name, value, more)                                                           \
    PLEEMU_NOTE(name, "%n[pleemu_size]@%[pleemu_value]" more,                                         \
                : : [pleemu_size] "n"(PLEEMU_SIZE(__typeof__((value) + 0))), [pleemu_value] "nor"((value) + 0) : "memory")
#define PLEEMU_SIZE(type) ((type)-1 < (type)1 ? (int)sizeof(type) : -(int)sizeof(type))

#define PLEEMU_NOTE(name, operand, ...)                                                               \
    do {                                                                                              \
        __asm__ volatile("990: nop\n"                                                                 \
                         ".pushsection .note.stapsdt, \"?\", @note\n"                                 \
                         ".balign 4\n"                                                                \
                         ".4byte 992f - 991f, 994f - 993f, 3\n" /* NT_STAPSDT */                      \
                         "991: .asciz \"stapsdt\"\n"                                                  \
                         "992: .balign 4\n"                                                           \
                         "993: .8byte 990b, _.stapsdt.base, 0\n" /* no semaphore */                   \
                         ".asciz \"pleemu\"\n"                                                        \
                         ".asciz \"" name "\"\n"                                                      \
                         ".asciz \"" operand "\"\n"                                                   \
                         "994: .balign 4\n"                                                           \
                         ".popsection\n"                                                              \
                         ".ifndef _.stapsdt.base\n" /* tells if the object was prelinked */           \
                         ".pushsection .stapsdt.base, \"aG\", @progbits, .stapsdt.base, comdat\n"     \
                         ".weak _.stapsdt.base\n"                                                     \
                         ".hidden _.stapsdt.base\n"                                                   \
                         "_.stapsdt.base: .space 1\n"                                                 \
                         ".size _.stapsdt.base, 1\n"                                                  \
                         ".popsection\n"                                                              \
                         ".endif\n" __VA_ARGS__);                                                     \
    } while (0)

/* ---- Waiting, time --------------------------------------------------------------------- */

/* PAUSE: what a spin loop does while it waits, and where a spinner exits. */
#define pleemu_cpu_relax() __asm__ volatile("pause" : : : "memory")

PLEEMU_INLINE unsigned long pleemu_rdtsc(void)
{
    unsigned int low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (unsigned long)high << 32 | low;
}

/* ---- Random numbers --------------------------------------------------------------------
 * unsigned long state = pleemu_random_init(vcpu, seed);    with guest_main's own arguments
 * ... pleemu_random(&state) & mask ...                     Marsaglia's xorshift64, as in pleemu.inc
 */
PLEEMU_INLINE unsigned long pleemu_random_init(unsigned long vcpu, unsigned long seed)
{
    return ((vcpu << 32) + seed) * 0x9e3779b97f4a7c15UL | 1; /* never 0 */
}

PLEEMU_INLINE unsigned long pleemu_random(unsigned long *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- Parameters -------------------------------------------------------------------------
 * What a scenario can set, in [vm.parameters] or by --vm.0.parameters.NAME; elsewhere globals with their defaults.
 *
 *     PLEEMU_PARAMETER(rounds, 100);           a number: pleemu_parameter(rounds)
 *     PLEEMU_DISTRIBUTION(hold, 4200);         256 equally likely numbers of cycles: pleemu_draw(hold, &state)
 */
#define PLEEMU_PARAMETER(name, value) volatile unsigned long pleemu_parameter_##name = (value) /* not folded by LTO */
#define PLEEMU_DISTRIBUTION(name, cycles) \
    volatile unsigned long pleemu_distribution_##name[256] __attribute__((aligned(64))) = { \
        PLEEMU_X64(cycles), PLEEMU_X64(cycles), PLEEMU_X64(cycles), PLEEMU_X64(cycles)}
#define PLEEMU_X4(value) (value), (value), (value), (value) /* C++ has no [0 ... 255] = */
#define PLEEMU_X16(value) PLEEMU_X4(value), PLEEMU_X4(value), PLEEMU_X4(value), PLEEMU_X4(value)
#define PLEEMU_X64(value) PLEEMU_X16(value), PLEEMU_X16(value), PLEEMU_X16(value), PLEEMU_X16(value)
#define pleemu_parameter(name) pleemu_parameter_##name
#define pleemu_draw(name, state) (pleemu_distribution_##name[pleemu_random(state) >> 56])

/* ---- For guests only: a real program has no right to these ------------------------------ */

#define PLEEMU_X2APIC_ID 0x802 /* MSRs, SDM 3A table 11-6 */
#define PLEEMU_X2APIC_EOI 0x80b
#define PLEEMU_X2APIC_ICR 0x830
#define PLEEMU_X2APIC_SELF_IPI 0x83f

PLEEMU_INLINE void pleemu_wrmsr(unsigned int msr, unsigned long value)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((unsigned int)value), "d"((unsigned int)(value >> 32)) : "memory");
}

PLEEMU_INLINE unsigned long pleemu_rdmsr(unsigned int msr)
{
    unsigned int low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (unsigned long)high << 32 | low;
}

PLEEMU_INLINE void pleemu_enable_interrupts(void)
{
    __asm__ volatile("sti" : : : "memory");
}

PLEEMU_INLINE void pleemu_disable_interrupts(void)
{
    __asm__ volatile("cli" : : : "memory");
}

/* Sleep until an interrupt. STI lets none in between the two instructions, so no wake-up is lost. */
PLEEMU_INLINE void pleemu_halt(void)
{
    __asm__ volatile("sti\n\thlt" : : : "memory");
}

/* An interrupt to the vCPU of that number, by the x2APIC's ICR (SDM 3A 11.12.9). The fences let earlier stores
 * be seen first, which this WRMSR does not wait for (11.12.3). */
PLEEMU_INLINE void pleemu_send_ipi(unsigned int vcpu, unsigned int vector)
{
    __asm__ volatile("mfence\n\tlfence" : : : "memory");
    pleemu_wrmsr(PLEEMU_X2APIC_ICR, (unsigned long)vcpu << 32 | vector);
}

/* Any IPI, by the whole ICR (SDM 3A figure 11-28): destination in bits 63:32, shorthand in 19:18. */
PLEEMU_INLINE void pleemu_send_ipis(unsigned long icr)
{
    __asm__ volatile("mfence; lfence" : : : "memory");
    pleemu_wrmsr(PLEEMU_X2APIC_ICR, icr);
}

PLEEMU_INLINE void pleemu_self_ipi(unsigned int vector)
{
    pleemu_wrmsr(PLEEMU_X2APIC_SELF_IPI, vector);
}

/* This vCPU's number, for where guest_main's argument is not at hand; at CPL 0. */
PLEEMU_INLINE unsigned long pleemu_vcpu(void)
{
    return pleemu_rdmsr(PLEEMU_X2APIC_ID);
}

/* The end of this interrupt, for the local APIC. */
PLEEMU_INLINE void pleemu_eoi(void)
{
    pleemu_wrmsr(PLEEMU_X2APIC_EOI, 0);
}

/* ---- The hypervisor: paravirtual KVM as Linux uses it (kvm_para.h) ----------------------
 * `vmcall` is the hypercall on AMD, too. It returns 0 or more, or an error below 0.
 */
#define PLEEMU_KVM_STEAL_TIME 0x4b564d03 /* MSR */
#define PLEEMU_KVM_HC_KICK_CPU 5
#define PLEEMU_KVM_HC_SEND_IPI 10
#define PLEEMU_KVM_HC_SCHED_YIELD 11
#define PLEEMU_KVM_FEATURE_STEAL_TIME 5 /* bits of pleemu_kvm_features() */
#define PLEEMU_KVM_FEATURE_PV_UNHALT 7
#define PLEEMU_KVM_FEATURE_PV_TLB_FLUSH 9
#define PLEEMU_KVM_FEATURE_PV_SEND_IPI 11
#define PLEEMU_KVM_FEATURE_PV_SCHED_YIELD 13
#define PLEEMU_KVM_VCPU_PREEMPTED 1 /* bits of `preempted` */
#define PLEEMU_KVM_VCPU_FLUSH_TLB 2

PLEEMU_INLINE long pleemu_hypercall(unsigned long number, unsigned long a0, unsigned long a1, unsigned long a2,
                                    unsigned long a3)
{
    long result;

    __asm__ volatile("vmcall" : "=a"(result) : "a"(number), "b"(a0), "c"(a1), "d"(a2), "S"(a3) : "memory");
    return result;
}

/* What KVM offers. */
PLEEMU_INLINE unsigned int pleemu_kvm_features(void)
{
    unsigned int a = 0x40000001, b, c = 0, d;

    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return a;
}

/* End the vCPU's HLT, even one that it does not execute before later. */
PLEEMU_INLINE long pleemu_kick(unsigned int vcpu)
{
    return pleemu_hypercall(PLEEMU_KVM_HC_KICK_CPU, 0, vcpu, 0, 0);
}

/* Sleep until a kick, with interrupts as they are. */
PLEEMU_INLINE void pleemu_wait_for_kick(void)
{
    __asm__ volatile("hlt" : : : "memory");
}

/* Let a vCPU run in place of this one, if it waits for a pCPU. */
PLEEMU_INLINE long pleemu_pv_sched_yield(unsigned int vcpu)
{
    return pleemu_hypercall(PLEEMU_KVM_HC_SCHED_YIELD, vcpu, 0, 0, 0);
}

/* One interrupt to vCPUs min + i (bit i of low) and min + 64 + i (bit i of high), with one exit; how many took it. */
PLEEMU_INLINE long pleemu_pv_send_ipi(unsigned long low, unsigned long high, unsigned int min, unsigned int vector)
{
    return pleemu_hypercall(PLEEMU_KVM_HC_SEND_IPI, low, high, min, vector);
}

struct pleemu_steal_time {
    unsigned long steal;   /* ns that the vCPU waited for a pCPU */
    unsigned int version;  /* even; the same before and after a read: it is consistent */
    unsigned int flags;
    unsigned char preempted;
    unsigned char padding[47];
} __attribute__((aligned(64)));

/* KVM keeps this vCPU's steal time there. */
PLEEMU_INLINE void pleemu_steal_time_at(struct pleemu_steal_time *place)
{
    pleemu_wrmsr(PLEEMU_KVM_STEAL_TIME, (unsigned long)place | 1);
}

/* Has the vCPU whose steal time is there no pCPU? In v5.6 that is so of a halted one, too. */
PLEEMU_INLINE int pleemu_vcpu_is_preempted(const struct pleemu_steal_time *place)
{
    return *(const volatile unsigned char *)&place->preempted & PLEEMU_KVM_VCPU_PREEMPTED;
}

/* What the processor pushes when it delivers an interrupt. */
struct pleemu_frame {
    unsigned long rip, cs, rflags, rsp, ss;
};

/* An interrupt handler, and the vector (0x20 to 0xff, a number or a macro) that enters it, at CPL 0 with
 * interrupts off:
 *
 *     static pleemu_handler(on_ipi) { ...; pleemu_eoi(); }
 *     pleemu_vector(0x40, on_ipi);
 */
#define pleemu_handler(name) \
    __attribute__((interrupt, used)) void name(__attribute__((unused)) struct pleemu_frame *frame)
#define pleemu_vector(number, handler)                            \
    __asm__(".pushsection .pleemu.vectors, \"\", @progbits\n\t"   \
            ".quad " PLEEMU_STRING(number) ", " #handler "\n\t"   \
            ".popsection")
#define PLEEMU_STRING(text) PLEEMU_STRING_(text)
#define PLEEMU_STRING_(text) #text

/* Go on at CPL 3, with interrupts on, in a function that must not return, on a stack that ends at stack_top. */
__attribute__((noreturn)) PLEEMU_INLINE void pleemu_enter_user(void (*function)(void), void *stack_top)
{
    unsigned long rsp = ((unsigned long)stack_top & ~15UL) - 8; /* as behind a call */

    __asm__ volatile("pushq $0x2b\n\t" /* SS, RSP, RFLAGS, CS, RIP */
                     "pushq %0\n\t"
                     "pushq $0x202\n\t"
                     "pushq $0x33\n\t"
                     "pushq %1\n\t"
                     "iretq"
                     :
                     : "r"(rsp), "r"(function)
                     : "memory");
    __builtin_unreachable();
}

#ifndef PLEEMU_PREFIX_ONLY
#define lock_wait(lock) pleemu_lock_wait(lock)
#define lock_wait_in_order(lock) pleemu_lock_wait_in_order(lock)
#define lock_wait_shared(lock) pleemu_lock_wait_shared(lock)
#define lock_wait_in_order_shared(lock) pleemu_lock_wait_in_order_shared(lock)
#define lock_acquired(lock) pleemu_lock_acquired(lock)
#define lock_acquired_shared(lock) pleemu_lock_acquired_shared(lock)
#define lock_wait_over(lock) pleemu_lock_wait_over(lock)
#define barrier_wait(barrier) pleemu_barrier_wait(barrier)
#define barrier_passed(barrier) pleemu_barrier_passed(barrier)
#define lock_released(lock) pleemu_lock_released(lock)
#define ipi_wait(vcpu) pleemu_ipi_wait(vcpu)
#define ipi_acked(vcpu) pleemu_ipi_acked(vcpu)
#define operation_done() pleemu_operation_done()
#define work(cycles) pleemu_work(cycles)
#define cpu_relax() pleemu_cpu_relax()
#define rdtsc() pleemu_rdtsc()
#define rdmsr(msr) pleemu_rdmsr(msr)
#define wrmsr(msr, value) pleemu_wrmsr(msr, value)
#define enable_interrupts() pleemu_enable_interrupts()
#define disable_interrupts() pleemu_disable_interrupts()
#define halt() pleemu_halt()
#define send_ipi(vcpu, vector) pleemu_send_ipi(vcpu, vector)
#define send_ipis(icr) pleemu_send_ipis(icr)
#define self_ipi(vector) pleemu_self_ipi(vector)
#define this_vcpu() pleemu_vcpu()
#define eoi() pleemu_eoi()
#define hypercall(number, a0, a1, a2, a3) pleemu_hypercall(number, a0, a1, a2, a3)
#define kvm_features() pleemu_kvm_features()
#define kick(vcpu) pleemu_kick(vcpu)
#define wait_for_kick() pleemu_wait_for_kick()
#define pv_sched_yield(vcpu) pleemu_pv_sched_yield(vcpu)
#define pv_send_ipi(low, high, min, vector) pleemu_pv_send_ipi(low, high, min, vector)
#define steal_time_at(place) pleemu_steal_time_at(place)
#define vcpu_is_preempted(place) pleemu_vcpu_is_preempted(place)
#endif

#endif
