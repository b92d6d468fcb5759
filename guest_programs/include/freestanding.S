# freestanding.S: the functions that compilers call on their own, for guests that do not bring them.
#
# gcc and clang expect memcpy, memmove, memset and memcmp even of a freestanding program (GCC manual,
# "Standards"), clang bcmp too, and without -mpopcnt gcc counts bits with __popcountdi2. Linked in where
# one of them is needed and not defined. System V registers; DF is 0.

.text

.weak memcpy, memmove, memset, memcmp, bcmp, strlen, __popcountdi2

memmove:                                # rdi: to, rsi: from, rdx: bytes
    mov rax, rdi
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx                        # to - from < bytes, unsigned: copy from the end
    jb 1f
memcpy:
    mov rax, rdi
    mov rcx, rdx
    rep movsb
    ret
1:  lea rdi, [rdi + rdx - 1]
    lea rsi, [rsi + rdx - 1]
    mov rcx, rdx
    std
    rep movsb
    cld
    ret

memset:                                 # rdi: to, esi: value, rdx: bytes
    mov r8, rdi
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret

bcmp:
memcmp:                                 # rdi, rsi: compared, rdx: bytes
    xor eax, eax
    mov rcx, rdx
    test rcx, rcx
    je 1f
    repe cmpsb byte ptr [rsi], byte ptr [rdi]
    movzx eax, byte ptr [rdi - 1]
    movzx ecx, byte ptr [rsi - 1]
    sub eax, ecx
1:  ret

strlen:                                 # rdi: string
    mov rdx, rdi
    xor eax, eax
    mov rcx, -1
    repne scasb
    lea rax, [rdi - 1]
    sub rax, rdx
    ret

__popcountdi2:                          # rdi: number
    popcnt rax, rdi
    ret

