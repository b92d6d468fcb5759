# A boot sector: from the BIOS straight into 64-bit mode, memory mapped as it is, then the guest behind it.
# At the end the machine is switched off, as Bochs and QEMU each offer it. If the disk cannot be read, or the guest
# comes back with rounds left in ecx, the machine ends by a triple fault instead.
#
#   0x1000   page tables: PML4, PDPT, PD; the first GB in pages of 2 MB
#   0x7c00   this sector
#   0x8000   stack, downwards
#   0x10000  the guest's memory: the sectors that follow on the disk

.set SECTOR, 0x7c00
.set TABLES, 0x1000
.set GDT, 0x1d0
.set NO_IDT, GDT + 8

.text
.code16
start:
    cli
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    cld

    mov ax, 0x1000              # read 16 sectors to 0x1000:0, from the disk in dl
    mov es, ax
    xor bx, bx
    mov ax, 0x0210
    mov cx, 0x0002
    mov dh, 0
    int 0x13
    jc failed

    xor ax, ax
    mov es, ax
    mov di, TABLES
    xor eax, eax
    mov ecx, 3072
    rep stosd
    mov dword ptr [TABLES], TABLES + 0x1003
    mov dword ptr [TABLES + 0x1000], TABLES + 0x2003
    mov di, TABLES + 0x2000
    mov eax, 0x83
    mov cx, 512
1:  mov dword ptr [di], eax
    add eax, 0x200000
    add di, 8
    loop 1b

    mov eax, 0xa0               # PAE, PGE
    mov cr4, eax
    mov eax, TABLES
    mov cr3, eax
    mov ecx, 0xc0000080         # EFER.LME
    rdmsr
    or eax, 0x100
    wrmsr
    lgdt [SECTOR + GDT]
    mov eax, cr0
    or eax, 0x80000001
    and eax, 0x9fffffff         # caches on
    mov cr0, eax
    .byte 0xea                  # jmp 8:long
    .word SECTOR + (long - start), 8

failed:
    lidt [SECTOR + NO_IDT]      # ds is 0
    ud2

.code64
long:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, 0x8000
    mov eax, 0x0badcafe         # where the guest begins: filled in
    call rax
    test ecx, ecx
    jne unfinished

    mov dx, 0x8900              # Bochs ends at this word, letter by letter
    lea rsi, [rip + shutdown]
2:  lodsb
    out dx, al
    test al, al
    jne 2b
    mov dx, 0xf4                # QEMU's isa-debug-exit
    xor eax, eax
    out dx, al
3:  hlt
    jmp 3b

unfinished:
    lidt [rip + no_idt]         # nothing to handle what follows
    ud2

shutdown:
    .asciz "Shutdown"
.org GDT
    .word 23                    # limit and address of what follows
    .long SECTOR + GDT + 8
    .word 0
no_idt:                         # its limit is 0: the GDT's first entry, which is empty
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff

.org 510
    .byte 0x55, 0xaa
