"""The array namespace that slopes see inside numba: `exp`, `where`, `clip`, ... of one number, after numpy's.

`exp` is written so that LLVM vectorises it, which a call into the system's library is not: reduction to |r| <= ln(2)/2
by a two-part constant and a Taylor polynomial (Cody & Waite 1980, Software Manual for the Elementary Functions), then
two multiplications by powers of two, so that results below the normal range are rounded once. At most 1 ulp.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload

STRICT = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True}
"""No reassociation: it would undo the argument reduction."""


def _bits_function(kind, bits):
    @intrinsic
    def function(typing, value):
        def generate(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(signature.return_type))

        return kind(bits), generate

    return function


_int_of_double, _double_of_int = _bits_function(types.int64, types.float64), _bits_function(types.float64, types.int64)
_int_of_float, _float_of_int = _bits_function(types.int32, types.float32), _bits_function(types.float32, types.int32)

_LOG2E, _ROUND = 1 / math.log(2), 1.5 * 2.0**52  # adding and subtracting _ROUND rounds to a whole number
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42fefap-1"), float.fromhex("0x1.cf79abc9e3b3ap-40")
C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13 = (1 / math.factorial(k) for k in range(2, 14))


@njit(**STRICT)
def _exp64(x):
    x = -746.0 if x < -746.0 else x  # 0 from here on, and infinity from 710 on; NaN passes
    x = 710.0 if x > 710.0 else x
    shifted = x * _LOG2E + _ROUND
    whole = shifted - _ROUND
    r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    q = r * r
    tail = (C10 + C11 * r) + q * (C12 + C13 * r)
    p = (C2 + C3 * r) + q * ((C4 + C5 * r) + q * ((C6 + C7 * r) + q * ((C8 + C9 * r) + q * tail)))
    k = _int_of_double(shifted) - _int_of_double(_ROUND)
    half = k >> np.int64(1)
    one, two = (half + np.int64(1023)) << np.int64(52), (k - half + np.int64(1023)) << np.int64(52)
    return (1.0 + (r + q * p)) * _double_of_int(one) * _double_of_int(two)


_F = np.float32
_LOG2E_F, _ROUND_F = _F(_LOG2E), _F(1.5 * 2.0**23)
_LN2_HIGH_F, _LN2_LOW_F = _F(float.fromhex("0x1.62e4p-1")), _F(math.log(2) - float.fromhex("0x1.62e4p-1"))
_LEAST_F, _MOST_F, _ONE_F = _F(-104), _F(89), _F(1)
D2, D3, D4, D5, D6, D7 = (_F(1 / math.factorial(k)) for k in range(2, 8))


@njit(**STRICT)
def _exp32(x):
    x = _LEAST_F if x < _LEAST_F else x
    x = _MOST_F if x > _MOST_F else x
    shifted = x * _LOG2E_F + _ROUND_F
    whole = shifted - _ROUND_F
    r = (x - whole * _LN2_HIGH_F) - whole * _LN2_LOW_F
    q = r * r
    p = (D2 + D3 * r) + q * ((D4 + D5 * r) + q * (D6 + D7 * r))
    k = np.int32(_int_of_float(shifted) - _int_of_float(_ROUND_F))
    half = np.int32(k >> np.int32(1))
    one = np.int32(np.int32(half + np.int32(127)) << np.int32(23))
    two = np.int32(np.int32(k - half + np.int32(127)) << np.int32(23))
    return (_ONE_F + (r + q * p)) * _float_of_int(one) * _float_of_int(two)


def exp(a):
    """Return e to the power of a."""
    raise NotImplementedError("exp is for compiled code")


@overload(exp, jit_options=STRICT)
def _exp(a):
    if a == types.float32:
        return lambda a: _exp32(a)
    return lambda a: _exp64(np.float64(a))


@njit(**STRICT)
def where(condition, a, b):
    """Return a if condition holds, else b.

    Args:
        condition: A truth value.
        a: A number.
        b: A number.
    """
    return a if condition else b


def clip(a, min=None, max=None):
    """Return a, but at least min and at most max; NaN stays.

    Args:
        a: A number.
        min: Lower bound, or None.
        max: Upper bound, or None.
    """
    raise NotImplementedError("clip is for compiled code")


@overload(clip, jit_options=STRICT)
def _clip(a, min=None, max=None):
    number = np.float32 if a == types.float32 else np.float64

    def clipped(a, min=None, max=None):
        if min is not None and a < min:
            return number(min)
        if max is not None and a > max:
            return number(max)
        return number(a)

    return clipped


@njit(**STRICT)
def sign(a):
    """Return -1, 0 or 1 times one; NaN for NaN."""
    return 1.0 if a > 0 else (-1.0 if a < 0 else a)


@njit(**STRICT)
def minimum(a, b):
    """Return the smaller one, NaN if either is."""
    return a if a <= b or a != a else b


@njit(**STRICT)
def maximum(a, b):
    """Return the larger one, NaN if either is."""
    return a if a >= b or a != a else b


XP: Any = ModuleType("gradkernels.engines.fused.codegen.elementary.XP", "What slopes are called with as `xp`.")
XP.exp, XP.where, XP.clip, XP.sign, XP.minimum, XP.maximum = exp, where, clip, sign, minimum, maximum
XP.abs = njit(**STRICT)(lambda a: abs(a))
# From the system's library, one number at a time.
XP.sqrt = njit(**STRICT)(lambda a: math.sqrt(a))
XP.log = njit(**STRICT)(lambda a: math.log(a))
XP.log1p = njit(**STRICT)(lambda a: math.log1p(a))
XP.expm1 = njit(**STRICT)(lambda a: math.expm1(a))
XP.sin = njit(**STRICT)(lambda a: math.sin(a))
XP.cos = njit(**STRICT)(lambda a: math.cos(a))
XP.sinh = njit(**STRICT)(lambda a: math.sinh(a))
XP.cosh = njit(**STRICT)(lambda a: math.cosh(a))
XP.tanh = njit(**STRICT)(lambda a: math.tanh(a))
