# Every vCPU spins for ever, for nothing.

.include "pleemu.inc"

.text
.globl guest_main
guest_main:
    pause
    jmp guest_main
