# Test, and test and set, by BTS; two locks taken in turn, and sometimes both, in order. Holds are long
# enough to be preempted in.

.include "pleemu.inc"

.macro take lock
    lock_wait \lock
1:  test dword ptr [\lock], 1
    jne 2f
    lock bts dword ptr [\lock], 0       # 0 -> 1
    jnc 3f
2:  pause
    jmp 1b
3:  lock_acquired \lock
.endm

.macro give lock
    lock btr dword ptr [\lock], 0       # 1 -> 0
    lock_released \lock
.endm

.macro compute most
    random r12, rax
    mov rax, r12
    and eax, \most
    work rax
.endm

.text
.globl guest_main
guest_main:
    mov r12, rdx
    lea rbx, [rip + lock_a]
    lea rbp, [rip + lock_b]
again:
    take rbx
    compute 0xffff
    test r12, 0x10000
    je 4f
    take rbp
    compute 0x3fff
    give rbp
4:  give rbx
    compute 0x3fff
    take rbp
    compute 0xffff
    give rbp
    operation_done
    jmp again

.data
.balign 64
lock_a:
    .long 0
.balign 64
lock_b:
    .long 0
