# A PAUSE spin that ends by count, for emulators that cannot stop by time.

.globl guest_main
guest_main:
    mov ecx, 2000000000
1:  mov eax, [rip + lock]
    test eax, eax
    je 2f
    pause
    dec ecx
    jne 1b
2:  ret

.data
.balign 64
lock:
    .long 1
