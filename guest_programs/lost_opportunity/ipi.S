# vCPU 0 interrupts vCPU 1 and spins until it has answered, as smp_call_function_single does.
# vCPU 1 computes in user mode all the time; only its interrupt handler is kernel code.

.include "pleemu.inc"

.set CALL_FUNCTION_VECTOR, 0xfb         # as in Linux
.set THINK, 0x3ffff                     # cycles at most between two calls: 125 us at 2.1 GHz
.set SLICE_OF_WORK, 100000

.text
.globl guest_main
guest_main:
    test edi, edi
    jne receiver
    mov r12, rdx                        # state of the random numbers
    xor ebx, ebx                        # number of calls

call_again:
    random r12, rax
    mov rax, r12
    and eax, THINK
    work rax
    inc ebx
    mov dword ptr [rip + requested], ebx
    ipi_wait 1
    send_ipi 1, CALL_FUNCTION_VECTOR
    call smp_call_function_single
    operation_done
    jmp call_again

smp_call_function_single:               # wait until `answered` is ebx
    mov eax, dword ptr [rip + answered]
    cmp eax, ebx
    je 1f
    pause                               # here the sender exits
    jmp smp_call_function_single
1:  ret

receiver:
    lea rax, [rip + user_stack_top]
    enter_user user_main, rax
user_main:
    work SLICE_OF_WORK
    jmp user_main

    vector CALL_FUNCTION_VECTOR, call_function_interrupt
call_function_interrupt:
    push rax
    push rcx
    push rdx
    mov eax, dword ptr [rip + requested]
    mov dword ptr [rip + answered], eax
    ipi_acked 0
    eoi
    pop rdx
    pop rcx
    pop rax
    iretq

.data
.balign 64
requested:
    .long 0
.balign 64
answered:
    .long 0

.bss
.balign 16
    .skip 1024
user_stack_top:
