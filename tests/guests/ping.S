# kvm-unit-tests' `ipi`: vCPU 0 interrupts vCPU 1, which idles in the kernel, and spins until it has answered,
# again and again. With an odd seed vCPU 1 idles in HLT. Others return at once.

.include "pleemu.inc"

.set PING, 0xe0

.text
.globl guest_main
guest_main:
    cmp edi, 1
    je receiver
    ja 9f
    mov dword ptr [rip + seed], edx
    xor ebx, ebx
1:  pause                               # until the receiver is there
    cmp dword ptr [rip + ready], 0
    je 1b
2:  work 30000
    inc ebx
    ipi_wait 1
    send_ipi 1, PING
3:  cmp dword ptr [rip + answered], ebx
    je 4f
    pause
    jmp 3b
4:  operation_done
    jmp 2b
9:  ret

receiver:
    mov dword ptr [rip + ready], 1
    test edx, 1
    jne 6f
    sti
5:  pause
    jmp 5b
6:  sti
    hlt
    jmp 6b

    vector PING, ping
ping:
    push rax
    push rcx
    push rdx
    inc dword ptr [rip + answered]
    eoi
    pop rdx
    pop rcx
    pop rax
    iretq

.bss
.balign 64
seed:
    .skip 4
.balign 64
ready:
    .skip 4
.balign 64
answered:
    .skip 4
