# lock_main.S: the main of every lock. A lock is two functions, `acquire(lock, vcpu)` and `release(lock, vcpu)`, in
# assembly or C; a guest that defines both and no guest_main gets this one.
#
# lock points to 64 zeroed bytes on a cache line of their own, vcpu is the number of the vCPU that calls.

.include "lock_main.inc"

function guest_main
    begin_rounds
again:
    think_and_choose
    mov rdi, rbx
    mov rsi, r13
    call acquire
    write_section
    mov rdi, rbx
    mov rsi, r13
    call release
    operation_done
    dec r14
    jne again                           # 0 rounds: 2^64
    end_rounds
end_function guest_main
