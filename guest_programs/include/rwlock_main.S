# rwlock_main.S: the main of locks for readers and writers: `read_lock`, `read_unlock`, `write_lock` and `write_unlock`,
# each with (lock, vcpu). As lock_main.S, but some rounds only read.

.include "lock_main.inc"

parameter readers, 75                   # of 100 rounds, how many only read

function guest_main
    begin_rounds
    push 0                              # rounds that wrote
    push 0                              # 16 bytes
again:
    think_and_choose
    mov rdi, rbx
    mov rsi, r13
    random r12, rax
    mov eax, r12d
    imul rax, rax, 100
    shr rax, 32
    cmp rax, qword ptr [rip + pleemu_parameter_readers]
    jb reader
    call write_lock
    write_section
    inc qword ptr [rsp]
    mov rdi, rbx
    mov rsi, r13
    call write_unlock
    jmp round_is_over

reader:
    call read_lock
    mov rbp, qword ptr [rbx + FIRST_COUNTER]
    draw hold, r12, rcx, rax
    work rcx
    cmp rbp, qword ptr [rbx + SECOND_COUNTER]
    jne a_read_is_torn
    mov rdi, rbx
    mov rsi, r13
    call read_unlock

round_is_over:
    operation_done
    dec r14
    jne again
    pop rdx
    pop rax
    end_rounds rdx, rwlock_is_free
a_read_is_torn:                         # a writer was inside with a reader
    ud2
end_function guest_main
