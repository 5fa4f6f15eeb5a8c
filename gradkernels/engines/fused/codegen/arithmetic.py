"""Arithmetic of the vectors of `simd`."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def fma(typing, a, b, c):
    """Return a * b + c, in one instruction where there is one.

    Args:
        typing: numba's typing context.
        a: A vector.
        b: A vector.
        c: A vector.
    """

    def generate(context, builder, signature, args):
        return builder.fadd(builder.fmul(args[0], args[1], flags=["contract"]), args[2], flags=["contract"])

    return a(a, a, a), generate


@intrinsic
def add(typing, a, b):
    """Return a + b.

    Args:
        typing: numba's typing context.
        a: A vector.
        b: A vector.
    """

    def generate(context, builder, signature, args):
        return builder.fadd(*args)

    return a(a, a), generate


@intrinsic
def sub(typing, a, b):
    """Return a - b.

    Args:
        typing: numba's typing context.
        a: A vector.
        b: A vector.
    """

    def generate(context, builder, signature, args):
        return builder.fsub(*args, flags=["contract"])

    return a(a, a), generate


@intrinsic
def mul(typing, a, b):
    """Return a * b, which a subtraction may absorb.

    Args:
        typing: numba's typing context.
        a: A vector.
        b: A vector.
    """

    def generate(context, builder, signature, args):
        return builder.fmul(*args, flags=["contract"])

    return a(a, a), generate


@intrinsic
def sum_lanes(typing, a):
    """Return the sum of the elements, added as a tree."""

    def generate(context, builder, signature, args):
        kind = context.get_value_type(a.dtype)
        function = ir.FunctionType(kind, [kind, args[0].type])
        reduce = cgutils.get_or_insert_function(builder.module, function, f"llvm.vector.reduce.fadd.{a.suffix}")
        return builder.call(reduce, [ir.Constant(kind, -0.0), args[0]], fastmath=["reassoc"])

    return a.dtype(a), generate
