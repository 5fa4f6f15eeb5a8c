"""What a call over batches asks of each of them, and what tells one call from another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from gradkernels.backend import Array, backend_of
from gradkernels.batches.loading.batch import placed
from gradkernels.batches.loading.batch_call import BatchCall
from gradkernels.batches.loading.digests import digest, of_parameters
from gradkernels.batches.loading.stream import Stream
from gradkernels.batches.ranks.group import ranks_here
from gradkernels.batches.ranks.sharded import resharded, whole_parameters, whole_tensor
from gradkernels.batches.ranks.wrapped import unwrapped
from gradkernels.fastest import group_sums
from gradkernels.problems import BlackBox, Problem
from gradkernels.tree import Tree, each, leaves
from gradkernels.validate import validate_problem

BY_SAMPLE = ("sample_weight", "weights", "groups")
"""Options with an entry for each sample."""

NOT_ASKED = ("kernel", "results", "max_bytes")
"""Options that decide how something is computed and not what."""


@contextmanager
def asked_of_batches(
    function: Callable[..., Any], problem: Problem, theta: Tree, options: dict[str, Any]
) -> Iterator[BatchCall]:
    """Yield what is asked of each batch; parameters that are sharded over ranks are whole as long as it lasts.

    Args:
        function: Of `gk`.
        problem: What is differentiated.
        theta: Parameters, or None.
        options: Of the call, None where the caller gave none.

    Raises:
        TypeError: It is no problem, or has no parameters of its own where theta is None.
    """
    validate_problem(problem)
    problem, theta, options = unwrapped(problem, theta, options)
    if theta is None and not isinstance(problem, BlackBox):
        problem.as_inputs(theta, None, None)  # says that there is none
    if isinstance(problem, BlackBox) and resharded(problem.model):
        own = dict(problem.model.named_parameters()) if theta is None else theta
        theta, options = each(whole_tensor, theta), options | {"v": each(whole_tensor, options.get("v"))}
        with whole_parameters(problem, ranks_here()) as inside:
            yield replace(_batch_call(function, inside, theta, options), sharded=own)
    else:
        yield _batch_call(function, problem, theta, options)


def _batch_call(function: Callable[..., Any], problem: Problem, theta: Tree, options: dict[str, Any]) -> BatchCall:
    given = {name: value for name, value in options.items() if value is not None}
    if (other := given.get("other")) is not None:
        _, x, y = problem.as_inputs(theta, *other)
        like = leaves(problem.parameters() if theta is None else theta)[0]  # type: ignore[attr-defined]
        given["other"] = tuple(each(lambda leaf: placed(leaf, like), one) for one in (x, y))
    by_sample = {name: given.pop(name) for name in BY_SAMPLE if name in given}
    return BatchCall(function, problem, theta, given, by_sample)


def identity_of_call(call: BatchCall, stream: Stream) -> dict[str, str]:
    """Return what tells rows of this call from those of others, by name."""
    asked = what_is_asked(call)
    asked |= {"number of batches": str(stream.length), "number of samples": str(stream.samples)}
    return asked | {f"{name}=": digest(value) for name, value in call.by_sample.items()}


def what_is_asked(call: BatchCall) -> dict[str, str]:
    """Return what is the same for all samples of a call, by name: fingerprints."""
    problem = call.problem
    own = problem.parameters() if call.theta is None and isinstance(problem, BlackBox) else call.theta
    asked = {"quantity": call.function.__name__, "problem": _described(problem), "theta": of_parameters(problem, own)}
    given = {name: value for name, value in call.options.items() if name not in NOT_ASKED}
    return asked | {f"{name}=": digest(value) for name, value in given.items()}


def _described(problem: Problem) -> str:
    if not isinstance(problem, BlackBox):
        return repr(problem)
    seed = str(getattr(problem, "seed", ""))
    return " ".join([problem.name, problem.reduction, problem.randomness, seed, *problem.only])


def sums_of_own_groups(
    problem: Problem, theta: Tree, x: Tree, y: Tree, groups: Array, **options: Any
) -> tuple[Any, Array]:
    """Return the numbers of the groups that a batch has, and the sum of each one's gradients as a flat row.

    Args:
        problem: What is differentiated.
        theta: Parameters.
        x: Features or inputs.
        y: Targets.
        groups: Number of each sample's group, `(n,)`.
        options: Of every function.
    """
    library = backend_of(groups)
    if library is None:
        raise TypeError(f"groups is a {type(groups).__name__}; it must be an array of whole numbers")
    numbers, own = np.unique(library.get(groups), return_inverse=True)
    sums = leaves(group_sums(problem, theta, x, y, own, len(numbers), **options))
    flat = [one.reshape(len(numbers), -1) for one in sums]
    of = backend_of(flat[0])
    assert of is not None
    return numbers, of.xp.concatenate(flat, 1)


def is_path(out: Any) -> bool:
    """Return whether it names a file."""
    return isinstance(out, str | os.PathLike)


def require_given(name: str, value: Any) -> None:
    """Raise a TypeError where an argument is missing.

    Args:
        name: Of the argument.
        value: What the caller gave, or None.
    """
    if value is None:
        raise TypeError(f"{name} is missing; pass {name}=")
