"""Weighted sums and products of rows from recordings; what is in doubt is computed again by the hooks."""

from __future__ import annotations

from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks import pairs
from gradkernels.engines.hooks import products as hooks
from gradkernels.engines.hooks.accumulate.random_matrices import MOST_MATRIX_BYTES, RandomMatrices
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.precision import spread_nan
from gradkernels.engines.hooks.quantities import Theta
from gradkernels.engines.recorded import product_functions as functions
from gradkernels.engines.recorded.quantities import added_parts, in_dtypes_of, recorded_parts
from gradkernels.engines.recorded.recordings import Recordings
from gradkernels.kernel import Compute
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.quantities.project import KIND, SEED, SIZE
from gradkernels.quantities.shared.groups import WHOLE, Groups, whole_or_groups
from gradkernels.tree import Tree, count, take

_element_size = torch.Tensor.element_size

TOO_MANY_MATRICES = (
    "torch.recorded keeps a projection's matrices, here {:,} bytes, and at most {:,}, none where max_bytes is set; "
    "torch.hooks makes them in blocks"
)


def weighted_sum(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of weighted sums, one backward pass for all weightings."""
    recordings, plain = Recordings(problem, functions.weighted_sum), hooks.weighted_sum(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree, weights: Array) -> Theta:
        recorded = count(y) > 1 and weights.numel() > 0
        parts = recorded_parts(recordings, theta, (x, y), chunk, each=(weights,)) if recorded else None
        if parts is None:
            return plain(theta, x, y, weights)
        with torch.inference_mode(False), torch.no_grad():
            return spread_nan(in_dtypes_of(theta, added_parts(parts)), weights)

    return compute


def group_sums(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the sums of rows by group, of one parameter after another."""
    recordings, plain = Recordings(problem, functions.group_sums), hooks.group_sums(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree, groups: Any, count: int) -> Theta:
        numbers = torch.as_tensor(groups, device=next(iter(theta.values())).device)
        recorded = len(numbers) > 1
        parts = recorded_parts(recordings, theta, (x, y), chunk, each=(numbers,), count=count) if recorded else None
        if parts is None:
            return plain(theta, x, y, groups, count)
        with torch.inference_mode(False), torch.no_grad():
            return in_dtypes_of(theta, added_parts(parts))

    return compute


def inner(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the inner products with directions, layer by layer."""
    recordings, plain = Recordings(problem, functions.inner), hooks.inner(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree, v: Theta) -> Array:
        # In a layout that does not change from call to call.
        directions = [v[name].contiguous() for name in theta]
        recorded = count(y) > 1 and any(one.numel() for one in directions)
        parts = recorded_parts(recordings, theta, (x, y), chunk, *directions) if recorded else None
        if parts is None:
            return plain(theta, x, y, v)
        with torch.inference_mode(False), torch.no_grad():
            return _joined(parts, 0).to(max(theta.values(), key=_element_size).dtype)

    return compute


def _joined(parts: list[Any], at: int) -> Array:
    """Return one of the results that there are of each chunk, of all samples."""
    return torch.cat([part[at] for part in parts]) if len(parts) > 1 else parts[0][at]


def gram(problem: ModuleProblem) -> Compute:
    """Return a compute of the inner products of each two samples, all in one pass; of two batches as one."""
    grams = _Grams(problem)

    def compute(theta: Theta, x: Tree, y: Tree, other: tuple[Tree, Tree] | None = None) -> Array:
        return grams(theta, x, y, other, whole_or_groups(None, theta))[WHOLE]

    return compute


def gram_by(problem: ModuleProblem) -> Compute:
    """Return a compute of the inner products over groups of parameters, as `gram`."""
    grams = _Grams(problem)

    def compute(theta: Theta, x: Tree, y: Tree, by: Groups, other: tuple[Tree, Tree] | None = None) -> Theta:
        return grams(theta, x, y, other, by)

    return compute


class _Grams:
    """Inner products by group; what may have lost digits is computed again by the hooks, but for gradients of zero."""

    def __init__(self, problem: ModuleProblem) -> None:
        self._recordings, self._alone = Recordings(problem, functions.gram), problem.randomness != "different"
        self._plain, self._norms = pairs.gram_by(problem, 1 << 20), hooks.norms_by(problem, 1 << 20)

    def __call__(self, theta: Theta, x: Tree, y: Tree, other: tuple[Tree, Tree] | None, by: Groups) -> Theta:
        """Return the products by group, `(n, n)` or `(n, m)`.

        Args:
            theta: Parameters by name.
            x: Inputs, samples first.
            y: Targets, samples first.
            other: Further samples, with whose gradients the products are; None for the same.
            by: Names of parameters by group.
        """
        if other is None:
            return self._of_all(theta, x, y, by)
        if not self._alone:
            return dict(self._plain(theta, x, y, by=by, other=other))
        n, (every_x, every_y) = count(y), hooks.joined_batches((x, y), other)
        found = self._of_all(theta, every_x, every_y, by)
        return {group: products[:n, n:].contiguous() for group, products in found.items()}

    def _of_all(self, theta: Theta, x: Tree, y: Tree, by: Groups) -> Theta:
        parts = recorded_parts(self._recordings, theta, (x, y), count(y), by=by) if count(y) > 1 else None
        if parts is None:
            return dict(self._plain(theta, x, y, by=by))
        ((*products, doubtful),) = parts
        with torch.inference_mode(False), torch.no_grad():
            if doubtful.any() and not self._are_zero(theta, (x, y), by, products, doubtful):
                return dict(self._plain(theta, x, y, by=by))
            widest = {group: max((theta[name] for name in names), key=_element_size).dtype for group, names in by}
            return {group: one.to(dtype) for one, (group, dtype) in zip(products, widest.items(), strict=True)}

    def _are_zero(
        self, theta: Theta, data: tuple[Tree, Tree], by: Groups, products: list[Array], doubtful: Array
    ) -> bool:
        """Return whether what is in doubt, `(groups, n)`, is of gradients of zero, whose products lose nothing."""
        at = doubtful.any(0).nonzero().flatten()
        if not self._alone or not all(one[at].isfinite().all() for one in products):
            return False
        norms = self._norms(theta, take(data[0], at), take(data[1], at), by=by)
        return not any(one[lost].any() for one, lost in zip(norms.values(), doubtful[:, at], strict=True))


def norms_by(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of the norms over groups of parameters; those in doubt by the hooks."""
    recordings, plain = Recordings(problem, functions.norms_by), hooks.norms_by(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree, by: Groups) -> Theta:
        parts = recorded_parts(recordings, theta, (x, y), chunk, by=by) if count(y) > 1 else None
        if parts is None:
            return plain(theta, x, y, by=by)
        doubtful = _joined(parts, -1)
        if doubtful.any() and problem.randomness == "different":  # no sample's numbers are drawn again alone
            return plain(theta, x, y, by=by)
        with torch.inference_mode(False), torch.no_grad():
            found = {group: _joined(parts, i) for i, (group, _) in enumerate(by)}
            if len(at := doubtful.nonzero().flatten()):
                again = plain(theta, take(x, at), take(y, at), by=by)
                for group, norms in found.items():
                    norms[at] = again[group].to(norms.dtype)
            widest = {group: max((theta[name] for name in names), key=_element_size).dtype for group, names in by}
            return {group: norms.to(widest[group]) for group, norms in found.items()}

    return compute


def project(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of random projections, by matrices that are kept: an Unfit where they are too large for that."""
    recordings, plain = Recordings(problem, functions.project), hooks.project(problem, chunk)

    def compute(theta: Theta, x: Tree, y: Tree, size: int = SIZE, seed: int = SEED, kind: str = KIND) -> Array:
        if count(y) < 2:
            return plain(theta, x, y, size=size, seed=seed, kind=kind)
        matrices = RandomMatrices(theta, (size, seed, kind))
        given = matrices.tensors()
        if given is None:
            raise Unfit(TOO_MANY_MATRICES.format(matrices.nbytes(), MOST_MATRIX_BYTES))
        parts = recorded_parts(recordings, theta, (x, y), chunk, *given, size=size, kind=kind)
        if parts is None:
            return plain(theta, x, y, size=size, seed=seed, kind=kind)
        with torch.inference_mode(False), torch.no_grad():
            return _joined(parts, 0).to(max(theta.values(), key=_element_size).dtype)

    return compute
