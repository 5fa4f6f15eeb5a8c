"""Vectors of 64 bytes for numba: LLVM makes one register of each, or two or four where registers are narrower.

Loops over rows are written with these, since LLVM by itself leaves the last entries of a row of, say, 30 to scalar
code. Nothing but `stream` asks for aligned addresses.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from gradkernels.engines.fused.codegen.pointers import I32, I64

BYTES = 64


class Vector(types.Type):  # type: ignore[misc]
    """A vector of as many elements as fit into 64 bytes."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.lanes = BYTES * 8 // dtype.bitwidth
        self.suffix = f"v{self.lanes}f{dtype.bitwidth}"  # of LLVM's names for it
        super().__init__(f"gradkernels.Vector({dtype})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    """A vector of LLVM."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(dmm.lookup(fe_type.dtype).get_value_type(), fe_type.lanes))


def _splat(builder, value, lanes):
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def _as_vector(context, builder, vector, pointer, offset):
    return builder.bitcast(builder.gep(pointer, [offset]), context.get_value_type(vector).as_pointer())


def _mask(builder, lanes, count):
    numbers = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
    return builder.icmp_signed("<", numbers, _splat(builder, count, lanes))


def _call(builder, name, result, *args):
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@intrinsic
def lanes(typing, base):
    """Return the number of elements in a vector, known at compile time."""

    def generate(context, builder, signature, args):
        return ir.Constant(I64, Vector(base.dtype).lanes)

    return types.intp(base), generate


@intrinsic
def load_vector(typing, base, offset):
    """Read a vector from memory.

    Args:
        typing: numba's typing context.
        base: Address.
        offset: Elements from there.
    """
    vector = Vector(base.dtype)

    def generate(context, builder, signature, args):
        return builder.load(_as_vector(context, builder, vector, *args), align=1)

    return vector(base, types.intp), generate


@intrinsic
def load_part(typing, base, offset, count):
    """Read the first `count` elements from memory, and zeros for the rest; touch nothing behind them.

    Args:
        typing: numba's typing context.
        base: Address.
        offset: Elements from there.
        count: Elements to read, at most a vector's.
    """
    vector = Vector(base.dtype)

    def generate(context, builder, signature, args):
        source, kind = _as_vector(context, builder, vector, *args[:2]), context.get_value_type(vector)
        align, zeros = ir.Constant(I32, 1), ir.Constant(kind, [0.0] * vector.lanes)
        mask = _mask(builder, vector.lanes, args[2])
        return _call(builder, f"llvm.masked.load.{vector.suffix}.p0", kind, source, align, mask, zeros)

    return vector(base, types.intp, types.intp), generate


@intrinsic
def store_vector(typing, base, offset, value):
    """Write a vector to memory.

    Args:
        typing: numba's typing context.
        base: Address.
        offset: Elements from there.
        value: The vector.
    """

    def generate(context, builder, signature, args):
        builder.store(args[2], _as_vector(context, builder, value, *args[:2]), align=1)
        return context.get_dummy_value()

    return types.void(base, types.intp, value), generate


@intrinsic
def store_part(typing, base, offset, value, count):
    """Write the first `count` elements to memory.

    Args:
        typing: numba's typing context.
        base: Address.
        offset: Elements from there.
        value: The vector.
        count: Elements to write, at most a vector's.
    """

    def generate(context, builder, signature, args):
        target = _as_vector(context, builder, value, *args[:2])
        align, mask = ir.Constant(I32, 1), _mask(builder, value.lanes, args[3])
        _call(builder, f"llvm.masked.store.{value.suffix}.p0", ir.VoidType(), args[2], target, align, mask)
        return context.get_dummy_value()

    return types.void(base, types.intp, value, types.intp), generate


@intrinsic
def stream(typing, base, offset, value):
    """Write a vector to memory past the caches; the address must be a multiple of 64 bytes.

    Args:
        typing: numba's typing context.
        base: Address.
        offset: Elements from there.
        value: The vector.
    """

    def generate(context, builder, signature, args):
        stored = builder.store(args[2], _as_vector(context, builder, value, *args[:2]), align=BYTES)
        stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(I32, 1)]))
        return context.get_dummy_value()

    return types.void(base, types.intp, value), generate


@intrinsic
def fence(typing):
    """Order what was streamed before what is written next."""

    def generate(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def zeros(typing, base):
    """Return a vector of zeros of the pointer's type."""
    vector = Vector(base.dtype)

    def generate(context, builder, signature, args):
        return ir.Constant(context.get_value_type(vector), [0.0] * vector.lanes)

    return vector(base), generate


@intrinsic
def splat(typing, value):
    """Return a vector of equal elements."""
    vector = Vector(value)

    def generate(context, builder, signature, args):
        return _splat(builder, args[0], vector.lanes)

    return vector(value), generate


@intrinsic
def add_wide(typing, base, offset, value):
    """Add a vector to float64 numbers in memory, element by element.

    Args:
        typing: numba's typing context.
        base: Address of float64 numbers.
        offset: Elements from there.
        value: A vector of as many elements of either type.
    """
    wide = Vector(types.float64)

    def generate(context, builder, signature, args):
        kind = context.get_value_type(wide)
        for part in range(value.lanes // wide.lanes):
            numbers = [part * wide.lanes + i for i in range(wide.lanes)]
            chosen = ir.Constant(ir.VectorType(I32, wide.lanes), numbers)
            own = builder.shuffle_vector(args[2], ir.Constant(args[2].type, ir.Undefined), chosen)
            own = own if own.type == kind else builder.fpext(own, kind)
            place = builder.add(args[1], ir.Constant(I64, numbers[0]))
            target = _as_vector(context, builder, wide, args[0], place)
            builder.store(builder.fadd(builder.load(target, align=1), own), target, align=1)
        return context.get_dummy_value()

    return types.void(base, types.intp, value), generate
