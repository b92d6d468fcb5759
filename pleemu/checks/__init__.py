"""Properties of a yield policy, checked on the events of runs: a conformance kit.

    finding     what a check raises: cycle, pCPU, vCPUs, and what is wrong
    observed    a run as a command line, and all its events
    locks       who is inside a lock, and in which order                      P1 P8
    windows     when a PAUSE exits, and what becomes of the window            P2
    yields      whom KVM names, and what it owes them                         P3 P4 P5 P6
    threads     one thread a pCPU; no interrupt is lost                       P9
    fairness    nobody starves, and the neighbour VM keeps its share          P7
    repeat      the same run again, and a policy that has nothing to do       P10
    properties  all of these in a table
    machines    hypothesis strategies: machines, placements, guests, schedules, policies
    kit         machines against a policy, as `pleemu check` does it

Only the last two need hypothesis. Guests whose code at CPL 3 stands under labels that begin with
`user` are checked for what depends on the privilege level, too.
"""
