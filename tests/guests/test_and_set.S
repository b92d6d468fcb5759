# The simplest lock there is: XCHG until it returns 0. Short holds, little time between them.

.include "pleemu.inc"

.text
.globl guest_main
guest_main:
    mov r12, rdx
    lea rbx, [rip + lock]
again:
    lock_wait rbx
1:  mov eax, 1
    xchg dword ptr [rbx], eax           # 0 -> 1
    test eax, eax
    je 2f
    pause
    jmp 1b
2:  lock_acquired rbx
    random r12, rax
    mov rax, r12
    and eax, 0xfff
    work rax
    mov dword ptr [rbx], 0              # 1 -> 0
    lock_released rbx
    operation_done
    random r12, rax
    mov rax, r12
    and eax, 0x7fff
    work rax
    jmp again

.data
.balign 64
lock:
    .long 0
