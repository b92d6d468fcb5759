# Each vCPU interrupts itself and keeps a log of the vectors that come, in its own order: what TPR holds back,
# what nests and what waits for an EOI. A log that is not as expected ends in ud2.

.include "pleemu.inc"

.set LOG_BYTES, 64
.set EXPECTED_LENGTH, 11

.macro logged vector:req
    mov byte ptr [r14 + rbx], \vector
    inc ebx
.endm

.macro handler vector:req
    vector \vector, handler_\vector
handler_\vector:
    push rax
    push rcx
    push rdx
    logged \vector
    eoi
    pop rdx
    pop rcx
    pop rax
    iretq
.endm

.text
.globl guest_main
guest_main:
    mov r12, rdx
    mov r14, rdi
    shl r14, 6
    lea rax, [rip + logs]
    add r14, rax                        # this vCPU's log
    sti
again:
    xor ebx, ebx                        # its length
    # TPR holds back its own class and those below.
    set_tpr 0x40
    self_ipi 0x41
    self_ipi 0x52                       # at once: 52
    mov ecx, X2APIC_IRR + 2
    rdmsr
    cmp eax, 2                          # 41 waits
    jne wrong
    set_tpr 0x4f
    mov ecx, X2APIC_PPR
    rdmsr
    cmp eax, 0x4f
    jne wrong
    set_tpr 0x3f                        # 41
    mov eax, 5                          # the same by CR8
    mov cr8, rax
    self_ipi 0x52
    mov rax, cr8
    cmp rax, 5
    jne wrong
    mov ecx, X2APIC_TPR
    rdmsr
    cmp eax, 0x50
    jne wrong
    xor eax, eax
    mov cr8, rax                        # 52
    # IF holds back everything; then the highest comes first.
    cli
    self_ipi 0x35
    self_ipi 0x52
    self_ipi 0x41
    sti
    nop                                 # 52 41 35
    # A higher class interrupts a handler, one of its own class waits for its EOI.
    self_ipi 0x31                       # 31 (52 61) 35
    # STI and HLT let nothing in between them: 41 ends the HLT.
    cli
    self_ipi 0x41
    sti
    hlt
    mov r8d, ebx
    cmp r8d, EXPECTED_LENGTH
    jne wrong
    lea r9, [rip + expected]
1:  dec r8d
    js 2f
    mov al, byte ptr [r9 + r8]
    cmp al, byte ptr [r14 + r8]
    je 1b
wrong:
    ud2
2:  operation_done
    random r12, rax
    mov eax, r12d
    and eax, 0x3fff
    work rax
    jmp again

    handler 0x35
    handler 0x41
    handler 0x52

    vector 0x31, nesting
nesting:
    push rax
    push rcx
    push rdx
    logged 0x31
    sti
    self_ipi 0x35
    mov ecx, X2APIC_PPR
    rdmsr
    cmp eax, 0x30
    jne wrong
    self_ipi 0x52                       # nests
    mov ecx, X2APIC_ISR + 1
    rdmsr
    cmp eax, 1 << 17                    # only 31 is in service again
    jne wrong
    logged 0x61                         # mark of the handler's end
    cli
    eoi
    pop rdx
    pop rcx
    pop rax
    iretq

.section .rodata
expected:
    .byte 0x52, 0x41, 0x52, 0x52, 0x41, 0x35, 0x31, 0x52, 0x61, 0x35, 0x41

.bss
.balign 64
logs:
    .skip 64 * LOG_BYTES
