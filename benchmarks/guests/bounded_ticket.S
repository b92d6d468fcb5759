# A ticket lock that all vCPUs take again and again, ending by count.

.include "pleemu.inc"

.text
.globl guest_main
guest_main:
    lea rbx, [rip + lock]
    mov ecx, 2000000000
1:  mov eax, 0x10000
    lock xadd dword ptr [rbx], eax
    mov edx, eax
    shr edx, 16
2:  cmp ax, dx
    je 3f
    pause
    mov ax, word ptr [rbx]
    jmp 2b
3:  inc qword ptr [rbx + 64]
    inc word ptr [rbx]
    operation_done
    dec ecx
    jne 1b
    ret

.data
.balign 64
lock:
    .long 0
.balign 64
    .quad 0
