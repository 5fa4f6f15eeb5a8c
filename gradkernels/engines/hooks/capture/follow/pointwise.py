"""Functions of entries at the same place, after broadcasting: samples stay where they are."""

from __future__ import annotations

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.follow.tracked_call import TrackedCall
from gradkernels.engines.hooks.capture.sample_axis import Axis

UNARY = """
abs absolute acos arccos acosh arccosh angle asin arcsin asinh arcsinh atan arctan atanh arctanh bitwise_not ceil
celu clamp clamp_max clamp_min clip clone conj conj_physical resolve_conj resolve_neg contiguous cos cosh cpu cuda
deg2rad detach digamma double elu erf erfc erfinv exp exp2 expm1 float floor frac gelu half bfloat16 hardshrink
hardsigmoid hardswish hardtanh i0 imag int isfinite isinf isnan isneginf isposinf isreal leaky_relu lgamma log log10
log1p log2 logical_not logit logsigmoid long mish mvlgamma nan_to_num neg negative ones_like positive pow polygamma
rad2deg real reciprocal relu relu6 requires_grad_ round rsqrt selu sgn sigmoid sign signbit silu sin sinc sinh softplus
softshrink softsign sqrt square tan tanh tanhshrink threshold to trunc fix type type_as
zeros_like full_like empty_like rand_like randn_like float_power bool dropout
dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout rrelu bernoulli masked_fill
special_expit special_erf special_erfc special_entr special_ndtr special_log_ndtr special_log1p special_expm1
special_gammaln special_digamma special_logit special_xlogy special_i0 special_i0e special_i1 special_i1e
special_psi special_sinc special_round special_exp2 special_xlog1py special_zeta
"""
BINARY = """
add addcdiv addcmul atan2 arctan2 bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift copysign div
divide true_divide floor_divide eq fmax fmin fmod ge greater greater_equal gt heaviside hypot igamma igammac
isclose ldexp le lerp less less_equal logaddexp logaddexp2 logical_and logical_or logical_xor lt maximum minimum mul
multiply ne not_equal nextafter remainder rsub sub subtract where xlogy gcd lcm complex polar copy_ prelu
"""
DUNDER = """
__and__ __or__ __xor__ __invert__ __rand__ __ror__ __rxor__ __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __div__
__rdiv__ __truediv__ __rtruediv__ __floordiv__ __rfloordiv__ __mod__ __rmod__ __pow__ __rpow__ __neg__ __pos__ __abs__
__eq__ __ne__ __lt__ __le__ __gt__ __ge__ __iadd__ __isub__ __imul__ __idiv__ __itruediv__ __ifloordiv__ __imod__
__ipow__ __iand__ __ior__ __ixor__ __lshift__ __rshift__ __ilshift__ __irshift__
"""
POINTWISE = frozenset(f"{UNARY} {BINARY} {DUNDER}".split())


def pointwise(call: TrackedCall, output: Array) -> Axis:
    """Return the axis of the arguments, counted from the last one."""
    ndim = output.ndim
    if len(call.data) == 1 and call.first.tensor.ndim == ndim:
        return call.first.axis
    axes = [one.axis.moved(one.axis.dim + ndim - one.tensor.ndim) for one in call.data]
    if axes[0].fits(output.shape, call.n):
        return call.agreed(axes)
    raise call.mixes("broadcasts the samples")
