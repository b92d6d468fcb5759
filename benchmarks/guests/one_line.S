# The ten instructions of loop.S, but all vCPUs on one cache line: it goes from hand to hand.

.globl guest_main
guest_main:
    lea rbx, [rip + data]
    mov ecx, 2000000000
1:  mov rax, [rbx]
    add rax, 7
    mov [rbx], rax
    mov rdx, [rbx + 8]
    xor rdx, rax
    mov [rbx + 8], rdx
    lea rsi, [rax + rdx]
    and esi, 63
    dec ecx
    jne 1b
    ret

.data
.balign 64
data:
    .zero 64
