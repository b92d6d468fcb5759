# Ten instructions: loads, arithmetic, stores, a branch. Each vCPU has a cache line of its own.

.globl guest_main
guest_main:                             # edi: vCPU
    lea rbx, [rip + data]
    shl edi, 6
    add rbx, rdi
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
    .zero 8 * 64
