"""Typed addresses for numba: an offset counts elements, and nothing is checked.

Drivers are compiled once for all memory layouts and problems, so they get addresses and steps instead of arrays.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from gradkernels.engines.fused.codegen.options import ORDERED

I32, I64 = ir.IntType(32), ir.IntType(64)


class Pointer(types.Type):  # type: ignore[misc]
    """Address of elements of one float type."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"gradkernels.Pointer({dtype})")


@register_model(Pointer)
class PointerModel(models.PrimitiveModel):  # type: ignore[misc]
    """A pointer of LLVM."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, dmm.lookup(fe_type.dtype).get_data_type().as_pointer())


@intrinsic
def pointer(typing, array):
    """Return the address of an array's first element."""

    def generate(context, builder, signature, args):
        return cgutils.create_struct_proxy(array)(context, builder, args[0]).data

    return Pointer(array.dtype)(array), generate


@intrinsic
def keep_alive(typing, array):
    """Hold on to an array up to here, since numba frees it after its last use, whatever points into it."""

    def generate(context, builder, signature, args):
        return context.get_dummy_value()

    return types.void(array), generate


STACK = 256  # float64 numbers; getting them from the heap would be a third of a small call


@intrinsic
def stack_memory(typing):
    """Return an array whose data are STACK float64 numbers that live until the function returns."""

    def generate(context, builder, signature, args):
        empty = context.get_constant_null(signature.return_type)  # without an owner: numba frees none
        array = cgutils.create_struct_proxy(signature.return_type)(context, builder, empty)
        array.data = cgutils.alloca_once(builder, ir.DoubleType(), size=STACK)
        return array._getvalue()

    return types.Array(types.float64, 1, "C")(), generate


@intrinsic
def at(typing, base, offset):
    """Return the address `offset` elements on.

    Args:
        typing: numba's typing context.
        base: Address.
        offset: Elements from there.
    """

    def generate(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return base(base, types.intp), generate


@intrinsic
def address(typing, base):
    """Return the address as a whole number of bytes."""

    def generate(context, builder, signature, args):
        return builder.ptrtoint(args[0], I64)

    return types.intp(base), generate


@intrinsic
def get(typing, base, offset):
    """Read one element.

    Args:
        typing: numba's typing context.
        base: Address.
        offset: Elements from there.
    """

    def generate(context, builder, signature, args):
        return builder.load(builder.gep(args[0], [args[1]]), align=1)

    return base.dtype(base, types.intp), generate


@intrinsic
def put(typing, base, offset, value):
    """Write one element.

    Args:
        typing: numba's typing context.
        base: Address.
        offset: Elements from there.
        value: Of the pointer's type.
    """

    def generate(context, builder, signature, args):
        builder.store(args[2], builder.gep(args[0], [args[1]]), align=1)
        return context.get_dummy_value()

    return types.void(base, types.intp, base.dtype), generate


@intrinsic
def cast_pointer(typing, base, like):
    """Return the same address as a Pointer like another.

    Args:
        typing: numba's typing context.
        base: Address.
        like: A pointer of the wanted type.
    """

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], args[1].type)

    return like(base, like), generate


def _get_integer(kind, width):
    @intrinsic
    def function(typing, base, offset):
        def generate(context, builder, signature, args):
            return builder.load(builder.gep(builder.bitcast(args[0], width.as_pointer()), [args[1]]), align=1)

        return kind(base, types.intp), generate

    return function


get_whole, get_narrow = _get_integer(types.int64, I64), _get_integer(types.int32, I32)
"""One int64 or int32, whatever the pointer's type."""


@intrinsic
def is_whole(typing, array):
    """Return whether an array holds whole numbers, known at compile time."""

    def generate(context, builder, signature, args):
        return ir.Constant(ir.IntType(1), isinstance(array.dtype, types.Integer))

    return types.boolean(array), generate


def _at_address(kind):
    @intrinsic
    def function(typing, base, offset):
        def generate(context, builder, signature, args):
            pointer = builder.inttoptr(args[0], context.get_value_type(kind).as_pointer())
            return builder.load(builder.gep(pointer, [args[1]]))

        return kind(types.intp, types.intp), generate

    return function


whole_at, real_at = _at_address(types.int64), _at_address(types.float64)
"""One int64 or float64 of what lies at an address that is a number."""


@intrinsic
def put_wide(typing, base, offset, value):
    """Write one float64, whatever the pointer's type.

    Args:
        typing: numba's typing context.
        base: Address.
        offset: float64 numbers from there.
        value: A float64.
    """

    def generate(context, builder, signature, args):
        double = builder.bitcast(args[0], args[2].type.as_pointer())
        builder.store(args[2], builder.gep(double, [args[1]]), align=1)
        return context.get_dummy_value()

    return types.void(base, types.intp, types.float64), generate


@intrinsic
def call_address(typing, function, args):
    """Call compiled code.

    Args:
        typing: numba's typing context.
        function: Its address.
        args: A tuple of all arguments.
    """

    def generate(context, builder, signature, given):
        values = cgutils.unpack_tuple(builder, given[1])
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(given[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.intp, args), generate


@intrinsic
def pointer_at(typing, address, like):
    """Return a number of bytes as a Pointer like another.

    Args:
        typing: numba's typing context.
        address: In bytes.
        like: A pointer of the wanted type.
    """

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], args[1].type)

    return like(types.intp, like), generate


@njit(**ORDERED)
def fill_zeros(base, count):
    """Write zeros."""
    for j in range(count):
        put(base, j, 0)
