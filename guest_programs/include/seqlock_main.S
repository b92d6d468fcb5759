# seqlock_main.S: the main of sequence locks: `read_seqbegin(lock)`, which returns a number, `read_seqretry(lock, number)`,
# which says whether it was overtaken, `write_seqlock(lock, vcpu)` and `write_sequnlock(lock, vcpu)`.

.include "lock_main.inc"

parameter readers, 75                   # of 100 rounds, how many only read

function guest_main
    begin_rounds
    push 0                              # rounds that wrote
    push 0                              # 16 bytes
again:
    think_and_choose
    random r12, rax
    mov eax, r12d
    imul rax, rax, 100
    shr rax, 32
    cmp rax, qword ptr [rip + pleemu_parameter_readers]
    jb reader
    mov rdi, rbx
    mov rsi, r13
    call write_seqlock
    write_section
    inc qword ptr [rsp]
    mov rdi, rbx
    mov rsi, r13
    call write_sequnlock
    jmp round_is_over

reader:
    mov rdi, rbx
    call read_seqbegin
    mov rsi, rax
    mov rbp, qword ptr [rbx + FIRST_COUNTER]
    draw hold, r12, rcx, rax
    work rcx
    mov rdx, qword ptr [rbx + SECOND_COUNTER]
    mov rdi, rbx
    mov qword ptr [rsp + 8], rdx
    call read_seqretry
    test eax, eax
    jne reader                          # without a PAUSE: a fast writer starves readers, and PLE cannot see it
    cmp rbp, qword ptr [rsp + 8]
    jne a_read_is_torn

round_is_over:
    operation_done
    dec r14
    jne again
    pop rdx
    pop rax
    end_rounds rdx, seqlock_is_free
a_read_is_torn:                         # the number said that no writer had been inside
    ud2
end_function guest_main
