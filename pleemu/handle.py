"""A named tuple of arrays, passed between compiled functions as one pointer.

numba passes a tuple of thirty arrays by value: two hundred machine words an argument list,
in every call of every function. `pointer_to` puts the tuple into the caller's frame and gives
its address; an attribute of that is a load. Measured on the core: a third of the time to
compile it, and smaller, faster code.

The pointer is good for as long as the function that made it has not returned. Without numba
it is the tuple itself.
"""

from pleemu.deferred import in_machine_code


def _intrinsic():
    from pleemu.handle_type import pointer_to

    return pointer_to


@in_machine_code(_intrinsic)
def pointer_to(values):
    """Return ``values``, in plain Python; in compiled code a pointer to it."""
    return values
