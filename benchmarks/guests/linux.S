# A Linux process that runs the guest in several threads. Where the guest begins, and how many: filled in.
# Each thread's stack is 4 KB behind the guest. It exits with 1 if a thread cannot start or has rounds left in ecx.

.set CLONE_FLAGS, 0x50f00               # VM, FS, FILES, SIGHAND, THREAD, SYSVSEM

.text
start:
    mov r12d, 0x0badcafe                # the guest
    mov r13d, 0x7eadc0de                # threads
    lea r14, [rip + done]
    xor ebx, ebx                        # this thread's number
1:  lea eax, [rbx + 1]
    cmp eax, r13d
    jae 2f
    mov r15d, eax
    shl eax, 12
    lea rsi, [rip + start]
    lea rsi, [rsi + rax + 0x8000]
    mov edi, CLONE_FLAGS
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    mov eax, 56                         # clone
    syscall
    test eax, eax
    js 4f
    jz 3f
    mov ebx, r15d
    jmp 1b

2:  xor edi, edi                        # the first thread
    call r12
    test ecx, ecx                       # rounds left?
    jne 4f
    lock inc dword ptr [r14]
5:  cmp dword ptr [r14], r13d
    je 6f
    mov eax, 24                         # sched_yield
    syscall
    jmp 5b
6:  xor edi, edi
    mov eax, 231                        # exit_group
    syscall

3:  mov edi, r15d                       # another
    call r12
    test ecx, ecx                       # rounds left?
    jne 4f
    lock inc dword ptr [r14]
    xor edi, edi
    mov eax, 60                         # exit
    syscall

4:  mov edi, 1
    mov eax, 231
    syscall

.balign 64
done:
    .long 0
