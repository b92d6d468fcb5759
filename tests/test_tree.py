"""The tree of a run queue against a sorted list, and against what makes a tree red-black."""

from __future__ import annotations

from bisect import insort
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleemu.jit import callable_alone
from pleemu.scheduler import mru, tree
from pleemu.scheduler.records import RQ, TASK, TUNABLES, sched_init

Pieces = namedtuple("Pieces", "task rq tunables")

insert = callable_alone(tree.insert)
remove = callable_alone(tree.remove)
successor = callable_alone(tree.successor)
list_add = callable_alone(mru.list_add)
list_del = callable_alone(mru.list_del)
list_move = callable_alone(mru.list_move)

TASKS = 40


def records(count, dtype):
    return np.zeros(count, dtype).view(np.recarray)


def queue(*, deadline_order=0):
    """One empty run queue and its tasks."""
    m = Pieces(records(TASKS, TASK), records(1, RQ), records(1, TUNABLES))
    sched_init(m.rq)
    m.tunables.deadline_order = deadline_order
    return m


def check(m, node, key, other):
    """Check a subtree; return (black nodes on each way down, its tasks in order, its minimum)."""
    if node < 0:
        return 1, [], 2**62
    se = m.task[node]
    found = []
    for child in se.child:
        if child >= 0:
            assert m.task[child].parent == node
            assert not (se.red and m.task[child].red), "a red node has a red child"
        found.append(check(m, int(child), key, other))
    (black, before, low), (black_too, behind, low_too) = found
    assert black == black_too, "one way down has more black nodes than another"
    least = min(low, low_too, int(se[other]))
    assert se.smallest == least
    assert all(m.task[k][key] <= se[key] for k in before)
    assert all(m.task[k][key] >= se[key] for k in behind)
    return black + (1 - se.red), [*before, node, *behind], least


@pytest.mark.parametrize("key", ["vruntime", "deadline"])
@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, TASKS - 1), st.integers(-3, 3), st.integers(-9, 9)), max_size=120))
def test_a_tree_is_a_sorted_list_and_red_black(key, steps):
    """A task that is in is taken out, another is put in; equal keys keep the order in which they came."""
    other = {"vruntime": "deadline", "deadline": "vruntime"}[key]
    m = queue(deadline_order=int(key == "deadline"))
    model = []
    for number, (task, value, weight) in enumerate(steps):
        inside = next((entry for entry in model if entry[2] == task), None)
        if inside:
            remove(m, 0, task)
            model.remove(inside)
        else:
            m.task[task][key], m.task[task][other] = value, weight
            insert(m, 0, task)
            insort(model, (value, number, task))
        root = int(m.rq[0].root)
        assert root < 0 or (m.task[root].parent == -1 and m.task[root].red == 0)
        expected = [task for _, _, task in model]
        assert check(m, root, key, other)[1] == expected
        assert m.rq[0].leftmost == (expected[0] if expected else -1)
        assert [successor(m, task) for task in expected] == [*expected, -1][1:]


def test_the_shape_is_the_kernels():
    """Ten rising keys, and two removals, worked by hand with the rules of lib/rbtree.c."""
    m = queue()
    for task in range(10):
        m.task[task].vruntime = task
        insert(m, 0, task)
    shape = {int(k): tuple(map(int, m.task[k].child)) for k in range(10)}
    assert m.rq[0].root == 3
    assert shape == {
        3: (1, 5), 1: (0, 2), 5: (4, 7), 7: (6, 8), 8: (-1, 9), 0: (-1, -1), 2: (-1, -1), 4: (-1, -1), 6: (-1, -1),
        9: (-1, -1),
    }  # fmt: skip
    remove(m, 0, 3)  # its successor 4 takes its place; 5 loses a black child, its red sibling 7 turns up
    assert m.rq[0].root == 4
    assert tuple(m.task[4].child) == (1, 7)
    assert tuple(m.task[7].child) == (5, 8)
    assert tuple(m.task[5].child) == (-1, 6)
    remove(m, 0, 0)
    check(m, 4, "vruntime", "deadline")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60))
def test_cfs_tasks_is_a_list(steps):
    """Put at the head, moved to the head, taken out: both ways along it is the same list."""
    m = queue()
    model = []
    for task, moves in steps:
        if task not in model:
            list_add(m, 0, task)
            model.insert(0, task)
        elif moves:
            list_move(m, 0, task)
            model.remove(task)
            model.insert(0, task)
        else:
            list_del(m, 0, task)
            model.remove(task)
        assert along(m.rq[0].mru_head, m.task.mru_next) == model
        assert along(m.rq[0].mru_tail, m.task.mru_prev) == model[::-1]


def along(task, links):
    found = []
    while task >= 0:
        found.append(int(task))
        task = links[task]
    return found
