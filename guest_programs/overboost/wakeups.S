# Three kinds of vCPUs, by number: two that share a lock; some that sleep until an IPI gives
# them work; and the last one, which sends these IPIs and waits for nobody.

.include "pleemu.inc"
.include "spin_lock.inc"

.set RESCHEDULE_VECTOR, 0xfd            # as in Linux
.set LOCKERS, 2                         # vCPUs that share the lock
.set HOLD, 420000                       # cycles: 200 us at 2.1 GHz
.set THINK, 0x1ffff                     # at most: 62 us
.set CHORE, 630000                      # what a woken vCPU does: 300 us
.set REST, 0x3fffff                     # at most, between two rounds of IPIs: 2 ms

.text
.globl guest_main
guest_main:
    mov r12, rdx                        # state of the random numbers
    mov r13, rsi                        # number of vCPUs
    lea rbx, [rip + lock]
    cmp edi, LOCKERS
    jb locker
    inc edi
    cmp edi, esi
    je waker

sleeper:
    sti
    hlt                                 # until an IPI; STI lets none in between the two
    work CHORE
    operation_done
    jmp sleeper

locker:
    lock_loop rbx, HOLD, THINK

waker:
    random r12, rax
    mov rax, r12
    and eax, REST
    work rax
    mov r14d, LOCKERS                   # everyone but the lockers and itself
1:  send_ipi r14d, RESCHEDULE_VECTOR
    inc r14d
    lea eax, [r13 - 1]
    cmp r14d, eax
    jb 1b
    jmp waker

    vector RESCHEDULE_VECTOR, reschedule_interrupt
reschedule_interrupt:
    push rax
    push rcx
    push rdx
    eoi
    pop rdx
    pop rcx
    pop rax
    iretq

.data
.balign 64
lock:
    .long 0
