# TLB shootdowns as Linux v5.6 does them (arch/x86/mm/tlb.c), on top of smp_call.S.
#
# The address space has a generation, and each CPU remembers up to which one it has flushed. Who changes page tables
# raises the generation, flushes its own TLB and has all others that use the address space do so; who has come
# that far already does nothing. An idle CPU in lazy mode is left out, unless page tables were freed: it catches up
# when it comes back.

.include "kernel.inc"

parameter pv_flush, 0                   # 1: leave preempted vCPUs to KVM, which flushes before they run (steal time)

.set FLUSH_CEILING, 33                  # pages, tlb_single_page_flush_ceiling
.set FLUSH_PAGE, 210                    # cycles, proposed: 100 ns a page
.set FLUSH_ALL, 1050                    # cycles, proposed: 500 ns, what is refilled later not counted

.set INFO_GENERATION, 0                 # flush_tlb_info, one of each vCPU
.set INFO_PAGES, 8
.set INFO_SHIFT, 6

.text
function flush_tlb_mm_range             # rdi: pages, 0: all; rsi: 1: page tables are freed; rax: who had to be told
    push rbx
    push rbp
    lea rbp, [rip + flush_tlb_info]
    mov rax, r13
    shl rax, INFO_SHIFT
    add rbp, rax
    mov qword ptr [rbp + INFO_PAGES], rdi
    mov eax, 1
    lock xadd qword ptr [rip + tlb_generation], rax     # inc_mm_tlb_gen
    inc rax
    mov qword ptr [rbp + INFO_GENERATION], rax
    mov rbx, qword ptr [rip + mm_cpumask]
    btr rbx, r13
    test esi, esi
    jne 1f
    mov rax, qword ptr [rip + lazy_cpus]
    not rax
    and rbx, rax                        # who is lazy will see the generation
1:  pushfq
    cli
    mov rdi, rbp
    mov rsi, r13
    call flush_tlb_func
    popfq
    cmp qword ptr [rip + pleemu_parameter_pv_flush], 0
    je 2f
    call kvm_flush_tlb_others
2:  mov rdi, rbx
    lea rsi, [rip + flush_tlb_func]
    mov rdx, rbp
    mov ecx, 1
    call smp_call_function_many         # native_flush_tlb_others
    mov rax, rbx
    pop rbp
    pop rbx
    ret
end_function flush_tlb_mm_range

function flush_tlb_func                 # rdi: info, rsi: vCPU; with interrupts off
    lea r8, [rip + cpu_tlb_generation]
    shl rsi, 6
    add r8, rsi
    mov rax, qword ptr [r8]
    mov rcx, qword ptr [rip + tlb_generation]
    cmp rax, rcx
    je 3f                               # an earlier flush has done it
    cmp rcx, qword ptr [rdi + INFO_GENERATION]
    jne 1f                              # there is a later one already: all, and be done with that, too
    inc rax
    cmp rax, rcx
    jne 1f                              # more than one behind: all
    mov rdx, qword ptr [rdi + INFO_PAGES]
    lea rax, [rdx - 1]
    cmp rax, FLUSH_CEILING
    jae 1f
    imul rdx, rdx, FLUSH_PAGE
    work rdx
    jmp 2f
1:  work FLUSH_ALL
2:  mov qword ptr [r8], rcx
3:  ret
end_function flush_tlb_func

function kvm_flush_tlb_others           # rbx: set of vCPUs -> without those that KVM will flush (v5.6 kernel/kvm.c)
    mov r11, rbx
1:  test r11, r11
    je 3f
    bsf r9, r11
    btr r11, r9
    lea r8, [rip + steal_time]
    mov rax, r9
    shl rax, 6
    add r8, rax
    movzx eax, byte ptr [r8 + STEAL_TIME_PREEMPTED]
    test eax, KVM_VCPU_PREEMPTED
    je 1b
    mov ecx, eax
    or ecx, KVM_VCPU_FLUSH_TLB
    lock cmpxchg byte ptr [r8 + STEAL_TIME_PREEMPTED], cl
    jne 1b
    btr rbx, r9
    jmp 1b
3:  ret
end_function kvm_flush_tlb_others

function init_tlb                       # this vCPU uses the address space, with interrupts off
    cmp qword ptr [rip + pleemu_parameter_pv_flush], 0
    je 1f
    lea r8, [rip + steal_time]
    mov rax, r13
    shl rax, 6
    add r8, rax
    steal_time_at r8
1:  lock bts qword ptr [rip + mm_cpumask], r13
    jmp switch_mm_irqs_off
end_function init_tlb

function enter_lazy_tlb                 # this vCPU will be idle
    lock bts qword ptr [rip + lazy_cpus], r13
    ret
end_function enter_lazy_tlb

function leave_lazy_tlb                 # and is back, with interrupts off
    lock btr qword ptr [rip + lazy_cpus], r13
    jmp switch_mm_irqs_off
end_function leave_lazy_tlb

function switch_mm_irqs_off             # catch up: after this vCPU can be told, so that no flush is missed
    lea r8, [rip + cpu_tlb_generation]
    mov rsi, r13
    shl rsi, 6
    add r8, rsi
    mov rcx, qword ptr [rip + tlb_generation]
    cmp qword ptr [r8], rcx
    je 1f
    work FLUSH_ALL
    mov qword ptr [r8], rcx
1:  ret
end_function switch_mm_irqs_off

.globl tlb_generation, cpu_tlb_generation, flush_tlb_info
.bss
.balign 64
tlb_generation:
    .skip 64
mm_cpumask:
    .skip 64
lazy_cpus:
    .skip 64
cpu_tlb_generation:
    .skip 64 * VCPUS_MOST
flush_tlb_info:
    .skip VCPUS_MOST << INFO_SHIFT
steal_time:
    .skip 64 * VCPUS_MOST
