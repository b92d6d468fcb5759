# A ticket lock as in Linux 2.6.25 to 4.1 (v3.10 arch/x86/include/asm/spinlock.h), 16 bits each:
#
#   head, tail    h, h: free      h, t: held by ticket h, t - h - 1 vCPUs wait in order
#   lock          h, t -> h, t+1  my ticket is t: I have it when head is t
#   unlock        h, t -> h+1, t  the next in line has it, even if it does not run

.include "pleemu.inc"

.set HOLD, 4200                         # cycles: 2 us at 2.1 GHz
.set THINK, 0x3ffff                     # at most: 125 us

.text
.globl guest_main
guest_main:
    mov r12, rdx                        # state of the random numbers
    lea rbx, [rip + lock]
again:
    random r12, rax
    mov rax, r12
    and eax, THINK
    work rax
    lock_wait rbx, in_order
    call _raw_spin_lock
    lock_acquired rbx
    work HOLD
    inc word ptr [rbx]                  # h, t -> h+1, t: only the owner writes the head
    lock_released rbx
    operation_done
    jmp again

_raw_spin_lock:                         # rbx: lock; clobbers eax, ecx
    mov eax, 0x10000
    lock xadd dword ptr [rbx], eax      # h, t -> h, t+1; eax: h, t
    mov ecx, eax
    shr ecx, 16                         # my ticket
1:  cmp ax, cx
    je 2f
    pause                               # here a waiter exits
    mov ax, word ptr [rbx]
    jmp 1b
2:  ret

.data
.balign 64
lock:
    .long 0
