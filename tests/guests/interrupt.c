/* vCPU 0 interrupts vCPU 1, which sleeps, ROUNDS times; each waits for the other's answer. */
#include "pleemu.h"

#define ROUNDS 20
#define VECTOR 0x40

static volatile unsigned long received;

static pleemu_handler(on_ipi)
{
    received++;
    ipi_acked(0);
    eoi();
}
pleemu_vector(VECTOR, on_ipi);

void guest_main(unsigned long vcpu, unsigned long vcpus, unsigned long seed)
{
    (void)vcpus;
    (void)seed;
    if (vcpu == 1)
        while (received < ROUNDS)
            halt();
    if (vcpu == 0)
        for (unsigned long round = 1; round <= ROUNDS; round++) {
            ipi_wait(1);
            send_ipi(1, VECTOR);
            while (received != round)
                cpu_relax();
            operation_done();
        }
}
