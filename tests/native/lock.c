/* A lock as a real program: threads in place of vCPUs, each in the guest's own guest_main, which the object brings.
 * What that finds wrong is a ud2, so the program dies of SIGILL. Prints how many rounds were done under the lock.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void guest_main(unsigned long vcpu, unsigned long vcpus, unsigned long seed);
extern unsigned long written;                 /* of lock_main.inc */
extern unsigned long pleemu_parameter_rounds; /* read-only: what a scenario would set before the guest begins */

static unsigned long threads;

static void *run(void *vcpu)
{
    guest_main((unsigned long)vcpu, threads, 88172645463325252UL + (unsigned long)vcpu);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread[64];
    uintptr_t page = (uintptr_t)&pleemu_parameter_rounds & -(uintptr_t)sysconf(_SC_PAGESIZE);

    if (argc != 3 || (threads = strtoul(argv[1], NULL, 10)) > 64)
        return 2;
    if (mprotect((void *)page, (uintptr_t)(&pleemu_parameter_rounds + 1) - page, PROT_READ | PROT_WRITE))
        return 2;
    pleemu_parameter_rounds = strtoul(argv[2], NULL, 10);
    for (unsigned long i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, run, (void *)i))
            return 2;
    for (unsigned long i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    printf("%lu\n", written);
    return 0;
}
