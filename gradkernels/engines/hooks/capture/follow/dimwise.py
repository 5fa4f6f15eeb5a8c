"""Functions that work along some axes: reductions, sums that run, softmax, sorting; never along the samples'."""

from __future__ import annotations

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.follow.tracked_call import AxisRule, TrackedCall, dims_from
from gradkernels.engines.hooks.capture.sample_axis import Axis


def reduction(position: int, default: int | None = None) -> AxisRule:
    """Return the rule of functions that take axes away, or keep them with one entry.

    Args:
        position: Of the argument that names them.
        default: What is meant without; None for all axes.
    """

    def rule(call: TrackedCall, output: Array) -> Axis:
        ndim = call.first.tensor.ndim
        given = call.argument(position, "dim", "axis", default=default)
        # std(x, True) is over all axes.
        dims = range(ndim) if isinstance(given, bool) else dims_from(given, ndim) or range(ndim)
        axes = [one.axis.moved(one.axis.dim + ndim - one.tensor.ndim) for one in call.data]
        axis = call.agreed(axes)
        if axis.dim in dims:
            raise call.mixes()
        if output.ndim == ndim:
            return axis
        return axis.moved(axis.dim - sum(dim < axis.dim for dim in dims))

    return rule


def along_dims(position: int, default: int | None = None) -> AxisRule:
    """Return the rule of functions that keep all axes, whatever happens along those that are named."""

    def rule(call: TrackedCall, output: Array) -> Axis:
        ndim = call.first.tensor.ndim
        dims = dims_from(call.argument(position, "dim", "dims", "axis", default=default), ndim) or range(ndim)
        axis = call.agreed([one.axis for one in call.data])
        if axis.dim in dims or not axis.fits(output.shape, call.n):
            raise call.mixes("takes the samples apart or in another order")
        return axis

    return rule


def minimum_or_maximum(call: TrackedCall, output: Array) -> Axis:
    """Follow `max` and `min`: of two tensors by entry, of one along an axis."""
    from gradkernels.engines.hooks.capture.follow.pointwise import pointwise

    other = call.argument(1, "other", "dim")
    return pointwise(call, output) if hasattr(other, "ndim") else reduction(1)(call, output)


def flip(call: TrackedCall, output: Array) -> Axis:
    """Follow `flip`, whose axes may be named one by one."""
    ndim = call.first.tensor.ndim
    given = call.kwargs.get("dims", call.args[1:])
    dims = dims_from(given[0] if len(given) == 1 and not isinstance(given[0], int) else given, ndim)
    axis = call.agreed([one.axis for one in call.data])
    if axis.dim in dims:
        raise call.mixes("takes the samples in another order")
    return axis


def select_by_index(call: TrackedCall, output: Array) -> Axis:
    """Follow entries along another axis, picked by an index that is the same for all samples."""
    if len(call.data) > 1 and any(one.place in _INDICES for one in call.data):
        raise call.mixes("picks by an index that samples have, entries of all of them")
    return along_dims(1)(call, output)


_INDICES = (("args", 2), ("kwargs", "index"))


def below_diagonal(call: TrackedCall, output: Array) -> Axis:
    """Follow `tril` and `triu`, which tell entries of the last two axes apart."""
    (axis,) = (one.axis for one in call.data)
    if axis.dim >= output.ndim - 2:
        raise call.mixes("treats samples by their place")
    return axis


DIMWISE_RULES: dict[str, AxisRule] = {
    **dict.fromkeys(
        ("sum", "mean", "amax", "amin", "prod", "any", "all", "std", "var", "std_mean", "var_mean", "nansum", "nanmean",
         "logsumexp", "special_logsumexp", "argmax", "argmin", "median", "nanmedian", "mode", "count_nonzero",
         "aminmax"),
        reduction(1),
    ),
    **dict.fromkeys(("norm", "linalg_vector_norm", "linalg_norm"), reduction(2)),
    "kthvalue": reduction(2, -1),
    "linalg_vecdot": reduction(2, -1),
    "cosine_similarity": reduction(2, 1),
    "pairwise_distance": reduction(4, -1),
    "max": minimum_or_maximum,
    "min": minimum_or_maximum,
    **dict.fromkeys(("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "softmax", "log_softmax", "softmin",
                     "special_softmax", "special_log_softmax", "narrow"), along_dims(1)),
    **dict.fromkeys(("sort", "argsort", "glu", "unfold"), along_dims(1, -1)),
    "normalize": along_dims(2, 1),
    **dict.fromkeys(("topk", "diff"), along_dims(2, -1)),
    **dict.fromkeys(("split", "chunk", "tensor_split", "split_with_sizes"), along_dims(2, 0)),
    "roll": along_dims(2),
    "flip": flip,
    "gumbel_softmax": along_dims(4, -1),
    **dict.fromkeys(("tril", "triu"), below_diagonal),
    **dict.fromkeys(("index_add", "index_copy", "index_fill"), select_by_index),
    **dict.fromkeys(("gather", "scatter", "scatter_add",
                     "scatter_reduce"), along_dims(1)),
    "take_along_dim": along_dims(2),
}  # fmt: skip
"""By name: where the function's axes are among its arguments, and what they are without."""
