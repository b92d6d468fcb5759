"""Evaluations whose runs are made up: fast, and with known effects."""

from __future__ import annotations

import random

from pleemu.reproduce.measures import Measures
from pleemu.reproduce.plan import Job, Plan
from pleemu.reproduce.results import Results, results_of

FASTER = {"strict-boost+debooster": 1.6, "strict-boost": 1.3}  # how much more each policy gets done
FEWER = {"strict-boost+debooster": 0.2, "strict-boost": 0.5}  # and how many of the exits are left


def made_measures(job: Job) -> Measures:
    """Return measures of a run that has not been: noise by its seed, and the effects above."""
    noise = random.Random(job.seed)
    vms = len(job.scenario.vm)
    exits = round(10_000 * (1 + noise.random()) * FEWER.get(job.policy, 1.0))
    operations = round(5_000 * (1 + noise.random()) * FASTER.get(job.policy, 1.0))
    return Measures(
        digest=f"{job.seed:016x}",
        duration_ns=job.scenario.duration_ns,
        exits=exits,
        continuous=exits * 9 // 10,
        longest=150,
        waits={"lock": exits // 4, "answer": exits - exits // 4},
        functions={"native_queued_spin_lock_slowpath": exits // 4, "smp_call_function_many": exits - exits // 4},
        attempts=exits,
        honoured=exits // 2,
        operations=(operations,) * vms,
        cpu_ns=(job.scenario.duration_ns,) * vms,
        guest_ns=(1_000_000,) * vms,
        spin_ns=(400_000,) * vms,
    )


def made_results(chosen: Plan) -> Results:
    """Return the results of a plan with such runs."""
    return results_of(chosen, [(job, made_measures(job)) for job in chosen.jobs()])
