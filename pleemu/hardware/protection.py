"""What a guest may not write: its code and constants, as a kernel's page tables have them.

A guest that asks for writable code may write beside its instructions, never over one: the
instruction table is made before the run, and code that changes would run as it was.
"""

from pleemu.jit import compiled

# In `index_of`: no instruction, or a byte inside of one.
NO_INSTRUCTION, INSIDE = -1, -2


@compiled
def is_protected(m, space, offset, size):
    """May the guest not write these bytes, which begin below `readonly_size`?"""
    if space.writable_code == 0:
        return True
    for place in range(offset, min(offset + size, space.code_size)):
        if m.index_of[space.first_index + place] != NO_INSTRUCTION:
            return True
    return False
