# A test-and-set lock around two numbers that are equal whenever it is free: who finds them different, or finds the
# lock taken after it has set it free itself, ends in ud2. Holds are long enough to be preempted in.

.include "pleemu.inc"
.include "checks.inc"

.text
.globl guest_main
guest_main:
    random_init r12
    lea rbx, [rip + lock]
again:
    count_up rbx, 0x3fff
    operation_done
    random r12, rax
    mov rax, r12
    and eax, 0x7fff
    work rax
    jmp again

.data
.balign 64
lock:
    .skip 64 * 3
