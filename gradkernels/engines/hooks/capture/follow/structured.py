"""Functions with axes of fixed meaning: products of matrices, convolutions, pooling, normalizations, attention."""

from __future__ import annotations

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import name_of
from gradkernels.engines.hooks.capture.follow.tracked_call import AxisRule, TrackedArgument, TrackedCall
from gradkernels.engines.hooks.capture.sample_axis import Axis


def samples_in(rule: AxisRule, *names: str) -> AxisRule:
    """Return a rule for calls whose first arguments alone may have samples, never weights: all samples meet in those.

    Args:
        rule: For such calls.
        names: Of these arguments, in their order.
    """
    places = {("args", at) for at in range(len(names))} | {("kwargs", name) for name in names}

    def checked(call: TrackedCall, output: Array) -> Axis:
        if any(one.place not in places for one in call.data):
            raise call.mixes("takes samples elsewhere than in its input, and brings all of them together")
        return rule(call, output)

    return checked


def before_last(count: int = 1) -> AxisRule:
    """Return the rule of functions that keep samples before the last axes: linear maps, normalizations of features."""

    def rule(call: TrackedCall, output: Array) -> Axis:
        axis = call.agreed([one.axis for one in call.data])
        if axis.dim >= call.first.tensor.ndim - count:
            raise call.mixes("has the samples along its features")
        return axis

    return rule


def normalized(call: TrackedCall, output: Array) -> Axis:
    """Follow `layer_norm` and `rms_norm`, over the last axes."""
    return before_last(len(call.argument(1, "normalized_shape")))(call, output)


def first_axis(call: TrackedCall, output: Array) -> Axis:
    """Follow functions that have the samples first and compute each alone."""
    axis = call.agreed([one.axis for one in call.data])
    if axis.dim != 0 or output.ndim != call.first.tensor.ndim:
        raise call.mixes("has the samples along another axis than the first")
    return axis


def spatial(dims: int) -> AxisRule:
    """Return the rule for `(n, channels, *places)` with so many axes of places; without the first it is one sample."""

    def rule(call: TrackedCall, output: Array) -> Axis:
        if call.first.tensor.ndim != dims + 2:
            raise call.mixes("takes one sample without its axis")
        return first_axis(call, output)

    return rule


def first_axis_of(ndim: int) -> AxisRule:
    """Return the rule for samples first among so many axes, and first again in the output."""

    def rule(call: TrackedCall, output: Array) -> Axis:
        axis = call.agreed([one.axis for one in call.data])
        if call.first.tensor.ndim != ndim or axis.dim != 0:
            raise call.mixes("has the samples along another axis than the first")
        return axis

    return rule


def batch_norm(call: TrackedCall, output: Array) -> Axis:
    """Follow `batch_norm` with statistics that were learned."""
    if call.argument(5, "training", default=False):
        raise call.mixes("normalizes by the statistics of the batch")
    return first_axis(call, output)


def padded(call: TrackedCall, output: Array) -> Axis:
    """Follow `pad`: further entries along the last axes."""
    axis = call.agreed([one.axis for one in call.data])
    pairs = call.argument(1, "pad")
    place = call.first.tensor.ndim - 1 - axis.dim
    if any(pairs[2 * place : 2 * place + 2]):
        raise call.mixes("adds entries along the samples")
    return axis


def embedding(call: TrackedCall, output: Array) -> Axis:
    """Follow rows of a table that has no samples."""
    if len(call.data) > 1 or name_of(call.first.place, ("input", "weight")) != "input":
        raise call.mixes("takes rows of a table with samples")
    return call.first.axis


def bag(call: TrackedCall, output: Array) -> Axis:
    """Follow one bag of each sample, `(n, t)`."""
    one = call.first
    if one.tensor.ndim != 2 or one.axis.dim != 0:
        raise call.mixes("has no axis of samples in its input")
    return one.axis


def matmul(call: TrackedCall, output: Array) -> Axis:
    """Follow products of matrices, with axes before them that are broadcast."""
    factors = call.argument(0, "input", "self"), call.argument(1, "other", "mat2", "vec")
    return call.agreed([_of_product(call, one, factors, output) for one in call.data])


def _of_product(call: TrackedCall, one: TrackedArgument, factors: tuple[Array, Array], output: Array) -> Axis:
    """Return where a factor's samples are in the product."""
    left = one.tensor is factors[0]
    other = factors[1] if left else factors[0]
    ndim, dim = one.tensor.ndim, one.axis.dim
    contracted = ndim - 1 if left or ndim == 1 else ndim - 2
    if dim == contracted:
        raise call.mixes()
    if dim == ndim - 2:  # the rows of the left factor
        return one.axis.moved(output.ndim - (1 if other.ndim == 1 else 2))
    if dim == ndim - 1:  # the columns of the right one
        return one.axis.moved(output.ndim - 1)
    rest = min(ndim, 2) - (ndim >= 2 and other.ndim == 1)
    return one.axis.moved(output.ndim - rest - (ndim - 2 - dim))


def pairs_of_points(call: TrackedCall, output: Array) -> Axis:
    """Follow `cdist` of points `(..., p, d)` and `(..., r, d)` to `(..., p, r)`."""
    axes = []
    for one in call.data:
        behind = one.tensor.ndim - one.axis.dim
        if behind == 1:
            raise call.mixes()
        last = behind == 2 and one.tensor is not call.argument(0, "x1")  # points of the second are the columns
        axes.append(one.axis.moved(output.ndim - (1 if last else behind)))
    return call.agreed(axes)


def added_product(call: TrackedCall, output: Array) -> Axis:
    """Follow `addmm`, `baddbmm` and the like: a product, and what is added to it."""
    factors = call.argument(1, "mat1", "batch1", "mat"), call.argument(2, "mat2", "batch2", "vec")
    axes = []
    for one in call.data:
        if any(one.tensor is factor for factor in factors):
            axes.append(_of_product(call, one, factors, output))
        else:
            axes.append(one.axis.moved(one.axis.dim + output.ndim - one.tensor.ndim))
    return call.agreed(axes)


def outer_product(call: TrackedCall, output: Array) -> Axis:
    """Follow all products of two vectors' entries."""
    return call.agreed([one.axis.moved(0 if one.tensor is call.args[0] else 1) for one in call.data])


def einsum_output(call: TrackedCall, output: Array) -> Axis:
    """Return where the samples' letter is in the output."""
    equation, operands = call.args[0], call.args[1:]
    if not isinstance(equation, str) or "." in equation:
        raise call.mixes("with an ellipsis or lists has no rule")
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        right = "".join(sorted(letter for letter in set(left) - {","} if left.count(letter) == 1))
    axes = []
    for one in call.data:
        at = next(i for i, operand in enumerate(operands) if operand is one.tensor)
        letter = terms[at][one.axis.dim]
        if letter not in right or terms[at].count(letter) > 1:
            raise call.mixes()
        axes.append(one.axis.moved(right.index(letter)))
    return call.agreed(axes)


def attention(call: TrackedCall, output: Array) -> Axis:
    """Follow `(..., t, features)`: the samples are before the last two axes of queries, keys and values."""
    axes = []
    for one in call.data:
        behind = one.tensor.ndim - one.axis.dim
        if behind <= 2:
            raise call.mixes()
        axes.append(one.axis.moved(output.ndim - behind))
    return call.agreed(axes)


def recurrent(call: TrackedCall, output: Array) -> Axis:
    """Follow `(t, n, features)`, or `(n, t, features)` with `batch_first`; states are `(layers, n, features)`."""
    batch_first, first = call.argument(8, "batch_first", default=False), call.args[0]
    if not isinstance(call.args[3], bool):
        raise call.mixes("of a packed sequence has its samples in no axis")
    for one in call.data:
        if one.axis.dim != (0 if one.tensor is first and batch_first else 1):
            raise call.mixes("has the samples along another axis than its batch")
    return call.first.axis.moved(0 if batch_first and call.at == 0 else 1)


POOLS = ("avg_pool", "max_pool", "adaptive_avg_pool", "adaptive_max_pool", "lp_pool")
STRUCTURED_RULES: dict[str, AxisRule] = {
    "linear": samples_in(before_last(), "input"),
    **dict.fromkeys(("layer_norm", "rms_norm"), samples_in(normalized, "input")),
    **{f"{kind}{d}d": samples_in(spatial(d), "input") for kind in ("conv", "conv_transpose") for d in (1, 2, 3)},
    **{f"{pool}{d}d": spatial(d) for pool in POOLS for d in (1, 2, 3)},
    **{f"{pool}{d}d_with_indices": spatial(d) for pool in ("max_pool", "adaptive_max_pool") for d in (1, 2, 3)},
    "batch_norm": samples_in(batch_norm, "input"),
    **dict.fromkeys(("instance_norm", "group_norm"), samples_in(first_axis, "input")),
    **dict.fromkeys(
        ("interpolate", "upsample", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "grid_sample",
         "local_response_norm", "native_channel_shuffle",),
        first_axis,
    ),
    "im2col": first_axis_of(4),
    **dict.fromkeys(("fold", "col2im", "affine_grid", "affine_grid_generator"), first_axis_of(3)),
    "pad": padded,
    "constant_pad_nd": padded,
    "embedding": embedding,
    "embedding_bag": bag,
    "bilinear": samples_in(before_last(), "input1", "input2"),
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "__matmul__"), matmul),
    "__rmatmul__": lambda call, output: matmul(call._replace(args=call.args[::-1], kwargs={}, at=0), output),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), added_product),
    **dict.fromkeys(("outer", "ger"), outer_product),
    "cdist": pairs_of_points,
    "einsum": einsum_output,
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), samples_in(first_axis, "input", "hx")),
}  # fmt: skip
"""By name."""
