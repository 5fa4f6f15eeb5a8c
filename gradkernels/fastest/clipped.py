"""Sums of gradients that are cut by their norms, each computed by the fastest kernel that is proven and installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import numpy as np

from gradkernels.backend import backend_of
from gradkernels.dispatch.bound_kernels import bound_kernel
from gradkernels.dispatch.keywords import with_names, with_weights
from gradkernels.dispatch.request import ComputeOptions, KernelLike, NameGlobs, ResultsPath
from gradkernels.fastest.compute import Chosen, compute
from gradkernels.fastest.odd_gradients import MOST_NAMED, RAISE, NonFiniteWarning, said_of_odd
from gradkernels.names import pick
from gradkernels.problems import Problem
from gradkernels.problems.module.mixing.batch_loss import callers_depth
from gradkernels.quantities.shared.arguments import positive
from gradkernels.quantities.shared.cut_options import DROP, PROPAGATE
from gradkernels.quantities.shared.rules import CLIP, GAMMA
from gradkernels.row_norms import wide
from gradkernels.scale.lazy_arrays import is_lazy
from gradkernels.tree import Tree, leaves

if TYPE_CHECKING:
    from torch import Tensor

    from gradkernels.dispatch.request import A, FeatureArray, OwnOrGiven, TargetArray, Tensors
    from gradkernels.problems.module.module_problem import ModuleProblem
    from gradkernels.tree import ArrayProtocol, LazyArrayProtocol


class Rules(ComputeOptions, total=False):
    """Keyword arguments of `gk.clipped_sum` besides `max_norm` and `norms_out`, as type checkers see them."""

    by: str | Mapping[str, str | list[str]] | None
    rule: str | Callable[[Any], Any]
    gamma: float
    nonfinite: Literal["propagate", "drop", "raise"]


Length = float | Mapping[str, float]


@overload
def clipped_sum(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, max_norm: Length = 1.0,
    *, norms_out: Literal[True], **options: Unpack[Rules],
) -> tuple[Tensors, Tensor | Tensors]: ...  # fmt: skip
@overload
def clipped_sum(
    problem: ModuleProblem, theta: OwnOrGiven, x: object, y: object, max_norm: Length = 1.0,
    *, norms_out: Literal[False] = False, **options: Unpack[Rules],
) -> Tensors: ...  # fmt: skip
@overload
def clipped_sum(
    problem: Problem,
    theta: ArrayProtocol,
    x: LazyArrayProtocol,
    y: LazyArrayProtocol,
    max_norm: Length = 1.0,
    *,
    norms_out: bool = False,
    **options: Unpack[Rules],
) -> Any: ...
@overload
def clipped_sum(
    problem: Problem, theta: A, x: FeatureArray, y: TargetArray, max_norm: Length = 1.0,
    *, norms_out: Literal[True], **options: Unpack[Rules],
) -> tuple[A, A | dict[str, A]]: ...  # fmt: skip
@overload
def clipped_sum(
    problem: Problem, theta: A, x: FeatureArray, y: TargetArray, max_norm: Length = 1.0,
    *, norms_out: Literal[False] = False, **options: Unpack[Rules],
) -> A: ...  # fmt: skip
def clipped_sum(
    problem: Problem, theta: Any, x: Any, y: Any, max_norm: Any = 1.0, *, by: Any = None, rule: Any = CLIP,
    gamma: float = GAMMA, norms_out: bool = False, nonfinite: str = PROPAGATE, parameters: NameGlobs = None,
    sample_weight: Any = None, kernel: KernelLike = None, results: ResultsPath = None, max_bytes: int | None = None,
) -> Any:  # fmt: skip
    """Sum w_i g_i over samples, w_i = min(1, max_norm / |g_i|) (Abadi et al. 2016, DP-SGD before its noise).

    Args:
        problem: What is differentiated.
        theta: Parameters, `(d+1,)` with the intercept first; of a module a dict by name, or None for its own.
        x: Features, `(n, d)` or `(n,)`; of a module its inputs, samples first. The sum over n = 0 is zero.
        y: Targets, samples first; integers and truth values stand for numbers of x's dtype.
        max_norm: C, to which gradients are cut, positive; infinity cuts nothing. With `by` also a dict of one a group.
        by: `"parameter"`: each parameter is cut by its own norm; `{"group": ["glob", ...]}`: each group of them is.
            Parameters in no group are left out of the result, as `gk.norms(by=)` leaves them out.
        rule: `"clip"`: w = min(1, C / norm); `"automatic"`: w = C / (norm + gamma) (Bu et al. 2022, arXiv:2206.07136);
            or a function of all n norms, of each group in turn, that gives weights `(n,)`, whatever C is.
        gamma: Of the automatic rule, positive.
        norms_out: Whether to return `(sum, norms)`: norms before the cut, `(n,)`; with `by` a dict of them by group.
        nonfinite: Where a norm, of any group, is not finite: `"propagate"` computes with it, and a weight of NaN
            makes the whole sum of its group NaN, for NaN times a row of zeros is NaN; `"drop"` leaves the sample out
            and warns (NonFiniteWarning); `"raise"` raises a ValueError that names it.
        parameters: Names or globs of the only parameters that are asked about; see `gradient`.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions.
        kernel: A way (`numpy.broadcast`), key or Kernel to take instead of the fastest.
        results: A results file that decides which is fastest.
        max_bytes: Peak memory allowed in bytes, the result included; see `gradient`.
    """
    problem = problem if parameters is None else with_names(problem, parameters)
    arrays, chosen = (theta, x, y), (kernel, results, max_bytes)
    cut = {"max_norm": max_norm, "by": by, "rule": rule, "gamma": gamma, "nonfinite": nonfinite}
    if norms_out or not _is_plain(**cut):
        return _by_rule(problem, arrays, chosen, sample_weight, cut, norms_out)
    if sample_weight is not None:
        problem, y = with_weights(problem, y, sample_weight)
    return bound_kernel("clipped_sum", problem, (theta, x, y), chosen)(theta, x, y, max_norm=positive(max_norm))


def _is_plain(max_norm: Any, by: Any, rule: Any, gamma: Any, nonfinite: Any) -> bool:
    """Return whether this is what kernels of `clipped_sum` compute: one length, one norm, nothing else."""
    if by is not None or rule is not CLIP or gamma is not GAMMA or nonfinite is not PROPAGATE:
        return False  # what is the same in other words takes the longer way
    return not isinstance(max_norm, Mapping)


def _by_rule(
    problem: Problem,
    arrays: tuple[Tree, Tree, Tree],
    chosen: Chosen,
    sample_weight: Any,
    cut: dict[str, Any],
    norms_out: bool,
) -> Any:
    nonfinite = cut["nonfinite"]
    pick(dict.fromkeys((PROPAGATE, DROP, RAISE)), str(nonfinite), "setting of nonfinite")
    if any(map(is_lazy, leaves(arrays))):
        from gradkernels.fastest.lazy_clipped import lazily_clipped

        found = lazily_clipped(problem, arrays, chosen, sample_weight, **cut)
        return tuple(found) if norms_out else found.sum
    asked = cut | {"nonfinite": PROPAGATE if nonfinite == RAISE else nonfinite}
    found = compute("clipped_sum_by", problem, arrays, chosen, sample_weight, **asked)
    if nonfinite != PROPAGATE:
        _look_at(found.norms, nonfinite)
    return tuple(found) if norms_out else found.sum


def _look_at(norms: Tree, nonfinite: str) -> None:
    """Warn of samples whose norms are not finite, or raise a ValueError that names them."""
    odd = ~np.all([np.isfinite(_numbers(one)) for one in leaves(norms)], 0)
    if says := said_of_odd(np.flatnonzero(odd)[: MOST_NAMED + 1], int(odd.sum()), len(odd), nonfinite):
        warnings.warn(says, NonFiniteWarning, stacklevel=callers_depth())


def _numbers(norms: Any) -> Any:
    library = backend_of(norms)
    assert library is not None
    return library.get(wide(norms))
