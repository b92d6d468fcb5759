# The neighbour: every vCPU computes all the time and waits for nobody.

.include "pleemu.inc"

.text
.globl guest_main
guest_main:
    work 20000
    operation_done
    jmp guest_main
