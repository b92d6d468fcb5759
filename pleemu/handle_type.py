"""numba's side of `handle`: the type of the pointer, and how a field is loaded through it."""

from numba import types
from numba.core import cgutils
from numba.core.extending import intrinsic, models, register_model
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, lower_getattr_generic


class HandleType(types.Type):
    """Pointer to a named tuple of type ``pointee``."""

    def __init__(self, pointee):
        self.pointee = pointee
        super().__init__(name=f"Handle({pointee})")

    @property
    def key(self):
        """What makes two of these types the same."""
        return self.pointee


@register_model(HandleType)
class HandleModel(models.OpaqueModel):
    """An address."""


@infer_getattr
class HandleAttribute(AttributeTemplate):
    """``handle.field`` has the type of the tuple's field."""

    key = HandleType

    def generic_resolve(self, handle, name):
        """Look the field up in the tuple's type."""
        if name in handle.pointee.fields:
            return handle.pointee[handle.pointee.fields.index(name)]
        return None


@lower_getattr_generic(HandleType)
def load_field(context, builder, handle, value, name):
    """Load one field through the pointer; the caller's arrays stay alive, so nothing is counted."""
    tuple_type = context.get_value_type(handle.pointee)
    pointer = builder.bitcast(value, tuple_type.as_pointer())
    number = handle.pointee.fields.index(name)
    return builder.load(cgutils.gep_inbounds(builder, pointer, 0, number))


@intrinsic
def pointer_to(typing_context, values):
    """Put ``values`` into the frame of the calling function; its address. A pointer stays as it is."""
    if isinstance(values, HandleType):
        return values(values), lambda context, builder, signature, arguments: arguments[0]
    if not isinstance(values, types.BaseNamedTuple):
        return None

    def codegen(context, builder, signature, arguments):
        slot = cgutils.alloca_once_value(builder, arguments[0])
        return builder.bitcast(slot, cgutils.voidptr_t)

    return HandleType(values)(values), codegen
