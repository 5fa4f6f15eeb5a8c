"""Sums cut by the norms of groups of parameters, recorded for each kind of groups and rule; the hooks do the rest."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache, partial
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks import clipped_sums as hooks
from gradkernels.engines.hooks import products, quantities
from gradkernels.engines.hooks.accumulate.grouped_sums import GroupBook, GroupedSums
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.precision import sum_dtype, widen
from gradkernels.engines.hooks.quantities import Theta
from gradkernels.engines.recorded.functions import Passes, RecordedFunction
from gradkernels.engines.recorded.mending import MOST_MENDED
from gradkernels.engines.recorded.quantities import added_parts, recorded_parts
from gradkernels.engines.recorded.recordings import Recordings
from gradkernels.engines.recorded.uses.callers_rule import callers_weights, calling
from gradkernels.engines.recorded.uses.doubts import Doubts
from gradkernels.engines.recorded.uses.recorded_uses import recording
from gradkernels.kernel import Compute
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.quantities.clipped_sum_by import Clipped
from gradkernels.quantities.shared.cut_options import CutOptions
from gradkernels.quantities.shared.groups import Groups
from gradkernels.quantities.shared.rules import Rule, weights_of
from gradkernels.tree import Tree, count, take

CALLERS = "a function"
"""Stands for every function of norms: what is recorded is that there is one."""

MOST_WAYS = 8
"""Groups and rules for which recordings are kept."""


def clipping_function(passes: Passes, groups: Groups, rule: Rule) -> RecordedFunction:
    """Return a function that gives the sums in theta's order, norms by group, and which samples are in doubt.

    Args:
        passes: Of the model.
        groups: Names of parameters by group.
        rule: By which rows are cut.
    """

    def function(theta: Theta, rest: Theta, x: Tree, y: Tree, numbers: Array) -> list[Array]:
        gamma, *of_each = numbers.unbind()
        limits, doubts = dict(zip([group for group, _ in groups], of_each, strict=True)), Doubts()

        def norms_of(squares: Array, book: GroupBook) -> Array:
            if not passes.engine.draws_each:
                doubts.look_at(squares)
            return squares.sqrt()

        def cut(group: str, norms: Array) -> Array:
            if rule == CALLERS:
                return callers_weights(norms, group)
            return weights_of(torch, norms, limits[group], rule, gamma)

        with passes.forward(theta, rest, x, y) as forward:
            if forward.repeated:
                raise Unfit("torch.recorded keeps what comes of checkpointed parts until a group is complete")
            found = GroupedSums(forward.theta, forward.shared, count(y), groups, cut, norms_of, doubts.of_products)
            forward.backward(recording(found, doubts))
            sums, norms, _ = found.finish()
        of_groups = [norms[group] for group, _ in groups]
        return [*(sums[name] for name in theta if name in sums), *of_groups, doubts.all(count(y), of_groups[0])]

    return function


class RecordedCutting:
    """Cuts rows of a problem's model by what is recorded; what is in doubt, and what cannot be recorded, by the hooks.

    Args:
        problem: Whose model.
        chunk: Samples at a time.
    """

    def __init__(self, problem: ModuleProblem, chunk: int) -> None:
        self._problem, self._chunk = problem, chunk
        self._alone = problem.randomness != "different"  # else no sample's numbers are drawn again without the others
        self._plain = hooks.clipped_sum_by(problem, chunk)
        self._norms, self._rows = products.norms_by(problem, chunk), quantities.per_sample(problem, chunk)
        self._recordings: dict[Hashable, Recordings] = {}

    def compute(self, theta: Theta, x: Tree, y: Tree, **options: Any) -> Clipped[Any]:
        """Return sums and norms, as the quantity's definition does.

        Args:
            theta: Parameters by name.
            x: Inputs, samples first.
            y: Targets, samples first.
            options: As `CutOptions` has them.
        """
        asked, data = CutOptions(**options), (theta, x, y)
        groups, rule, plain = asked.groups(theta), asked.rule, partial(self._plain, *data, **options)
        numbers = (asked.gamma, *(asked.limit(group) for group, _ in groups))
        widest = max(theta.values(), key=torch.Tensor.element_size)
        given = _placed(numbers, sum_dtype(widest.dtype), widest.device)
        parts = self._parts(data, groups, rule, given) if count(y) > 1 else None
        if parts is None:
            return plain()
        with torch.inference_mode(False), torch.no_grad():
            sums, norms, doubtful = _joined(parts, theta, groups)
            if doubtful.any() and not self._mend(data, groups, (sums, norms), doubtful, numbers, rule):
                return plain()
            if asked.drops and not all(one.isfinite().all() for one in norms.values()):
                return plain()
        return hooks.clipped_result(theta, asked.by, sums, norms)

    def _parts(self, data: Any, groups: Groups, rule: Rule, given: Array) -> list[Any] | None:
        """Return what is recorded of each chunk; None where nothing is, or the caller's function has failed."""
        theta, *samples = data
        if not callable(rule):
            return recorded_parts(self._of(groups, rule), theta, (samples[0], samples[1]), self._chunk, given)
        n = count(samples[1])
        if given.is_cuda or n > self._chunk:  # CUDA's graphs call no Python; and a function gets all norms at once
            return None
        with calling(rule, n) as call:
            parts = recorded_parts(self._of(groups, CALLERS), theta, (samples[0], samples[1]), n, given)
        return None if call.failed else parts

    def _of(self, groups: Groups, rule: Rule) -> Recordings:
        key = groups, rule
        if key not in self._recordings:
            if len(self._recordings) >= MOST_WAYS:
                del self._recordings[next(iter(self._recordings))]
            self._recordings[key] = Recordings(self._problem, partial(clipping_function, groups=groups, rule=rule))
        return self._recordings[key]

    def _mend(
        self, data: Any, groups: Groups, found: tuple[Theta, Theta], doubtful: Array, numbers: Any, rule: Rule
    ) -> bool:
        """Correct norms that are in doubt, and sums by what their weights change; return whether all is right now."""
        if not self._alone or callable(rule):  # which gets the norms of all samples, and all of them right
            return False
        (theta, x, y), (sums, norms), at = data, found, doubtful.nonzero().flatten()
        exact = self._norms(theta, take(x, at), take(y, at), by=groups)
        changes = {}
        for (group, _), limit in zip(groups, numbers[1:], strict=True):
            before, after = norms[group][at], exact[group].to(norms[group].dtype)
            one, other = (weights_of(torch, of, limit, rule, numbers[0]) for of in (after, before))
            changes[group] = one - other
            norms[group][at] = after
        wrong = torch.stack([*changes.values()]).ne(0).any(0)
        if not all(one.isfinite().all() for one in changes.values()) or int(wrong.sum()) > MOST_MENDED:
            return False
        if wrong.any():
            rows = self._rows(theta, take(x, at[wrong]), take(y, at[wrong]))
            for group, names in groups:
                for name in names:
                    sums[name] = sums[name] + torch.tensordot(
                        changes[group][wrong].to(sums[name].dtype), widen(rows[name]), 1
                    )
        return all(one.isfinite().all() for one in sums.values())


def _joined(parts: list[Any], theta: Theta, groups: Groups) -> tuple[Theta, Theta, Array]:
    """Return sums by name, norms by group and which samples are in doubt, from those of each chunk.

    Args:
        parts: What is recorded of each.
        theta: Parameters by name.
        groups: Names of parameters by group.
    """
    named = {name for _, names in groups for name in names}
    inside = [name for name in theta if name in named]
    found = parts[0]
    if len(parts) > 1:
        each = zip(*(part[len(inside) :] for part in parts), strict=True)
        found = [*added_parts([[*part[: len(inside)]] for part in parts]), *map(torch.cat, each)]
    sums = dict(zip(inside, found, strict=False))
    norms = {group: one for (group, _), one in zip(groups, found[len(inside) : -1], strict=True)}
    return sums, norms, found[-1]


@lru_cache(maxsize=64)
def _placed(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Array:
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=dtype, device=device)


def clipped_sum_by(problem: ModuleProblem, chunk: int) -> Compute:
    """Return a compute of sums cut by groups; what is not recorded is computed by the hooks."""
    return RecordedCutting(problem, chunk).compute
