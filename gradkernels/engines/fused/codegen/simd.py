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
    """As many elements as fit into 64 bytes."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.lanes = BYTES * 8 // dtype.bitwidth
        super().__init__(f"gradkernels.Vector({dtype})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    """A vector of LLVM."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(dmm.lookup(fe_type.dtype).get_value_type(), fe_type.lanes))


def _suffix(vector):
    return f"v{vector.lanes}f{vector.dtype.bitwidth}"


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
    """Elements in a vector, known at compile time."""

    def generate(context, builder, signature, args):
        return ir.Constant(I64, Vector(base.dtype).lanes)

    return types.intp(base), generate


@intrinsic
def load(typing, base, offset):
    """A vector from memory."""
    vector = Vector(base.dtype)

    def generate(context, builder, signature, args):
        return builder.load(_as_vector(context, builder, vector, *args), align=1)

    return vector(base, types.intp), generate


@intrinsic
def load_part(typing, base, offset, count):
    """The first `count` elements from memory and zeros; touches nothing behind them."""
    vector = Vector(base.dtype)

    def generate(context, builder, signature, args):
        source = _as_vector(context, builder, vector, *args[:2])
        kind = context.get_value_type(vector)
        align, zeros = ir.Constant(I32, 1), ir.Constant(kind, [0.0] * vector.lanes)
        mask = _mask(builder, vector.lanes, args[2])
        return _call(builder, f"llvm.masked.load.{_suffix(vector)}.p0", kind, source, align, mask, zeros)

    return vector(base, types.intp, types.intp), generate


@intrinsic
def store(typing, base, offset, value):
    """A vector into memory."""

    def generate(context, builder, signature, args):
        builder.store(args[2], _as_vector(context, builder, value, *args[:2]), align=1)
        return context.get_dummy_value()

    return types.void(base, types.intp, value), generate


@intrinsic
def store_part(typing, base, offset, value, count):
    """The first `count` elements into memory."""

    def generate(context, builder, signature, args):
        target = _as_vector(context, builder, value, *args[:2])
        align, mask = ir.Constant(I32, 1), _mask(builder, value.lanes, args[3])
        _call(builder, f"llvm.masked.store.{_suffix(value)}.p0", ir.VoidType(), args[2], target, align, mask)
        return context.get_dummy_value()

    return types.void(base, types.intp, value, types.intp), generate


@intrinsic
def stream(typing, base, offset, value):
    """A vector into memory past the caches; the address must be a multiple of 64 bytes."""

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
    """A vector of zeros of the pointer's type."""
    vector = Vector(base.dtype)

    def generate(context, builder, signature, args):
        return ir.Constant(context.get_value_type(vector), [0.0] * vector.lanes)

    return vector(base), generate


@intrinsic
def splat(typing, value):
    """A vector of equal elements."""
    vector = Vector(value)

    def generate(context, builder, signature, args):
        return _splat(builder, args[0], vector.lanes)

    return vector(value), generate


@intrinsic
def fma(typing, a, b, c):
    """Product a * b plus c, in one instruction where there is one."""

    def generate(context, builder, signature, args):
        return builder.fadd(builder.fmul(args[0], args[1], flags=["contract"]), args[2], flags=["contract"])

    return a(a, a, a), generate


@intrinsic
def add(typing, a, b):
    """Sum a + b."""

    def generate(context, builder, signature, args):
        return builder.fadd(*args)

    return a(a, a), generate


@intrinsic
def sub(typing, a, b):
    """Difference a - b."""

    def generate(context, builder, signature, args):
        return builder.fsub(*args, flags=["contract"])

    return a(a, a), generate


@intrinsic
def mul(typing, a, b):
    """Product a * b, which a subtraction may absorb."""

    def generate(context, builder, signature, args):
        return builder.fmul(*args, flags=["contract"])

    return a(a, a), generate


@intrinsic
def sum_lanes(typing, a):
    """Sum of the elements, as a tree."""

    def generate(context, builder, signature, args):
        kind = context.get_value_type(a.dtype)
        function = ir.FunctionType(kind, [kind, args[0].type])
        name = f"llvm.vector.reduce.fadd.{_suffix(a)}"
        reduce = cgutils.get_or_insert_function(builder.module, function, name)
        return builder.call(reduce, [ir.Constant(kind, -0.0), args[0]], fastmath=["reassoc"])

    return a.dtype(a), generate
