# A spin loop that nobody ends.

.globl guest_main
guest_main:
1:  mov eax, [rip + lock]
    test eax, eax
    je 2f
    pause
    jmp 1b
2:  ret

.data
.balign 64
lock:
    .long 1
