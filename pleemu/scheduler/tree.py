"""The tree of a run queue (rq->cfs.tasks_timeline): its waiting tasks in order, equal ones first come first.

A red-black tree of the very shape that lib/rbtree.c gives it: insertion as a red leaf and
removal by the successor, each repaired as in Cormen et al., Introduction to Algorithms. The
shape matters: where several tasks have the best deadline, Linux 6.6 takes the one that it meets
first (`eevdf.pick_by_vruntime`). The nodes are the tasks themselves. The order is by vruntime or
by deadline; of the other one each node knows the smallest below it, itself included: `smallest`.

``child[0]`` is to the left, ``child[1]`` to the right; ``side`` is 0 or 1, -1 is NULL.
"""

from pleemu.jit import compiled, inlined

LEFT, RIGHT = range(2)


@inlined
def key_of(m, task):
    """What the tree is ordered by."""
    return m.task[task].deadline if m.tunables[0].deadline_order == 1 else m.task[task].vruntime


@inlined
def other_of(m, task):
    """What the tree keeps the minimum of."""
    return m.task[task].vruntime if m.tunables[0].deadline_order == 1 else m.task[task].deadline


@compiled
def insert(m, q, task):
    """Put a task into the tree of run queue ``q``, behind those with the same key."""
    rq, se = m.rq[q], m.task[task]
    key, other = key_of(m, task), other_of(m, task)
    parent, node, side = -1, rq.root, LEFT
    first = True
    while node >= 0:
        parent = node
        m.task[node].smallest = min(m.task[node].smallest, other)
        side = LEFT if key < key_of(m, node) else RIGHT
        first = first and side == LEFT
        node = m.task[node].child[side]
    se.child[LEFT] = se.child[RIGHT] = -1
    se.parent = parent
    se.red = 1
    se.smallest = other
    if parent < 0:
        rq.root = task
    else:
        m.task[parent].child[side] = task
    if first:
        rq.leftmost = task
    repair_insertion(m, q, task)


@compiled
def repair_insertion(m, q, node):
    """A red node may have a red parent: pass that upwards, or rotate it away."""
    while True:
        parent = m.task[node].parent
        if parent < 0:
            m.task[node].red = 0
            return
        if m.task[parent].red == 0:
            return
        above = m.task[parent].parent
        side = RIGHT if m.task[above].child[RIGHT] == parent else LEFT
        uncle = m.task[above].child[1 - side]
        if uncle >= 0 and m.task[uncle].red == 1:
            m.task[parent].red = m.task[uncle].red = 0
            m.task[above].red = 1
            node = above
            continue
        if m.task[parent].child[1 - side] == node:
            rotate(m, q, parent, side)
            parent = node
        m.task[parent].red = 0
        m.task[above].red = 1
        rotate(m, q, above, 1 - side)
        return


@compiled
def remove(m, q, task):
    """Take a task out of the tree; a node with two children is replaced by its successor."""
    rq, se = m.rq[q], m.task[task]
    if rq.leftmost == task:
        rq.leftmost = successor(m, task)
    left, right = se.child[LEFT], se.child[RIGHT]
    if left < 0 or right < 0:
        child = right if left < 0 else left
        parent = se.parent
        red = se.red
        replace(m, q, task, child)
    else:
        heir = leftmost_below(m, right)
        red = m.task[heir].red
        child = m.task[heir].child[RIGHT]
        parent = m.task[heir].parent
        if parent == task:
            parent = heir
        else:
            replace(m, q, heir, child)
            adopt(m, heir, RIGHT, right)
        replace(m, q, task, heir)
        adopt(m, heir, LEFT, left)
        m.task[heir].red = se.red
    node = parent
    while node >= 0:
        find_smallest(m, node)
        node = m.task[node].parent
    if red == 0:
        repair_removal(m, q, child, parent)


@compiled
def repair_removal(m, q, node, parent):
    """The way through ``node`` (-1: an empty place below ``parent``) has a black node too few."""
    while parent >= 0 and not is_red(m, node):
        side = LEFT if m.task[parent].child[LEFT] == node else RIGHT
        sibling = m.task[parent].child[1 - side]
        if is_red(m, sibling):
            m.task[sibling].red = 0
            m.task[parent].red = 1
            rotate(m, q, parent, side)
            sibling = m.task[parent].child[1 - side]
        near, far = m.task[sibling].child[side], m.task[sibling].child[1 - side]
        if not is_red(m, near) and not is_red(m, far):
            m.task[sibling].red = 1
            node, parent = parent, m.task[parent].parent
            continue
        if not is_red(m, far):
            m.task[near].red = 0
            m.task[sibling].red = 1
            rotate(m, q, sibling, 1 - side)
            far, sibling = sibling, near
        m.task[sibling].red = m.task[parent].red
        m.task[parent].red = m.task[far].red = 0
        rotate(m, q, parent, side)
        return
    if node >= 0:
        m.task[node].red = 0


@inlined
def is_red(m, node):
    """Empty places are black."""
    return node >= 0 and m.task[node].red == 1


@compiled
def rotate(m, q, node, side):
    """``node`` goes down to ``side``, its child on the other side takes its place."""
    child = m.task[node].child[1 - side]
    adopt(m, node, 1 - side, m.task[child].child[side])
    replace(m, q, node, child)
    adopt(m, child, side, node)
    m.task[child].smallest = m.task[node].smallest
    find_smallest(m, node)


@compiled
def replace(m, q, node, other):
    """Hang ``other`` (or nothing, -1) where ``node`` hangs."""
    parent = m.task[node].parent
    if parent < 0:
        m.rq[q].root = other
    elif m.task[parent].child[LEFT] == node:
        m.task[parent].child[LEFT] = other
    else:
        m.task[parent].child[RIGHT] = other
    if other >= 0:
        m.task[other].parent = parent


@inlined
def adopt(m, parent, side, child):
    """Hang ``child`` (or nothing, -1) below ``parent``."""
    m.task[parent].child[side] = child
    if child >= 0:
        m.task[child].parent = parent


@compiled
def find_smallest(m, node):
    """Compute `smallest` from the node itself and its children."""
    smallest = other_of(m, node)
    for side in (LEFT, RIGHT):
        child = m.task[node].child[side]
        if child >= 0:
            smallest = min(smallest, m.task[child].smallest)
    m.task[node].smallest = smallest


@compiled
def leftmost_below(m, node):
    """First task of the subtree of ``node``."""
    while m.task[node].child[LEFT] >= 0:
        node = m.task[node].child[LEFT]
    return node


@compiled
def successor(m, node):
    """The task behind ``node``, -1 if it is the last."""
    right = m.task[node].child[RIGHT]
    if right >= 0:
        return leftmost_below(m, right)
    parent = m.task[node].parent
    while parent >= 0 and m.task[parent].child[RIGHT] == node:
        node, parent = parent, m.task[parent].parent
    return parent
