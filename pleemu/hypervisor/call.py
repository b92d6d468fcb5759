"""Calling a function by its address, so that one compiled core serves functions that it has never seen.

The function is C's: `int64_t f(void *vcpus, int64_t a, int64_t b, int64_t c)`. Without numba an address
is the key of a Python function in FUNCTIONS.
"""

from pleemu.deferred import in_machine_code

FUNCTIONS = {}


def _intrinsic():
    from llvmlite import ir
    from numba import types
    from numba.core.extending import intrinsic

    @intrinsic
    def call(typing_context, address, vcpus, a, b, c):
        signature = types.int64(types.int64, types.int64, types.int64, types.int64, types.int64)

        def codegen(context, builder, signature, arguments):
            word = ir.IntType(64)
            pointer = ir.FunctionType(word, [word] * 4).as_pointer()
            return builder.call(builder.inttoptr(arguments[0], pointer), arguments[1:])

        return signature, codegen

    return call


@in_machine_code(_intrinsic)
def call(address, vcpus, a, b, c):
    """Call the function that ``address`` stands for."""
    return FUNCTIONS[address](vcpus, a, b, c)
