# Accesses across the end of a cache line, by all vCPUs at once: LOCKed, loads, stores, strings, and a
# `work` whose operand others write.

.include "pleemu.inc"

.globl guest_main
guest_main:
    random_init r12
    lea rbx, [rip + line]
again:
    lock inc dword ptr [rbx + 60]
    lock inc qword ptr [rbx + 61]
    mov rax, [rbx + 60]
    mov [rbx + 124], rax
    mov ecx, [rbx + 80]
    mov ecx, [rbx + 126]
    lea rsi, [rbx + 62]
    lea rdi, [rbx + 126]
    cmpsd
    random r12, rax
    mov rax, r12
    and eax, 0xff
    lock xchg [rbx + 200], rax
    probe_operand work, "4@200(%rbx)"
    operation_done
    jmp again

.data
.balign 64
line:
    .space 256
