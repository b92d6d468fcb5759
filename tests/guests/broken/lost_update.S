# A lock that is none: it tests the word, and sets it some instructions later. Whoever is preempted in between
# believes that the lock is free, and two vCPUs are in it. At the end the counter shows it, and `lost` is a fault.

.include "pleemu.inc"

.set ROUNDS, 2000

.text
.globl guest_main
guest_main:
    lea rbx, [rip + word]
    mov ecx, ROUNDS
again:
    lock_wait rbx
1:  mov eax, dword ptr [rbx]
    test eax, eax
    je 2f
    pause
    jmp 1b
2:  work 20                             # the bug, wide enough to be hit in a short run
    mov dword ptr [rbx], 1
    lock_acquired rbx
    mov eax, dword ptr [rip + counter]
    work 300
    inc eax
    mov dword ptr [rip + counter], eax
    mov dword ptr [rbx], 0
    lock_released rbx
    operation_done
    work 400
    dec ecx
    jne again
    lock inc dword ptr [rip + finished]
    test edi, edi
    jne 5f
3:  cmp dword ptr [rip + finished], esi
    je 4f
    pause
    jmp 3b
4:  imul esi, esi, ROUNDS
    cmp dword ptr [rip + counter], esi
    je 5f
lost:
    mov dword ptr [8], 1
5:  ret

.data
.balign 64
word:
    .long 0
.balign 64
counter:
    .long 0
finished:
    .long 0
