"""The functions of `gk` without x and y, each with what becomes of results of batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradkernels.batches.agreement import agreed_ranks, merge_ranks, require_each_once
from gradkernels.batches.asking import (
    asked_of_batches,
    is_path,
    require_given,
    sums_of_own_groups,
)
from gradkernels.batches.loading.stream import Stream
from gradkernels.batches.pairs import gram_of_ranks
from gradkernels.batches.ranks.group import file_of_rank, ranks_here
from gradkernels.batches.resume import rows_into_file
from gradkernels.batches.row_memory import GivenRows, GrowingRows
from gradkernels.batches.sum_files import sum_with_file
from gradkernels.batches.sums import MeanAndVariance, OuterOfGroups, Sum, Total
from gradkernels.fastest.clipped import clipped_sum
from gradkernels.fastest.of_gradients import gradient, moments, norms, per_sample
from gradkernels.fastest.products import gram, inner, project
from gradkernels.fastest.sums import group_sums, outer, weighted_sum
from gradkernels.problems import BlackBox, Problem
from gradkernels.tree import Tree, each
from gradkernels.validate import validate_problem

GATHERED = (project, gram)
"""What has as many columns as the caller chose, so that all ranks may have the rows of each."""

Out = Any
"""Memory for rows, an array or a dict of them, or the name of an NPY or Zarr file."""


@dataclass(frozen=True, eq=False)
class OverBatches:
    """The functions of `gk` without x and y, of all samples that a loader has; each call goes through it once.

    All of them take the problem, theta (None for a module's own parameters) and the keyword arguments of the function
    of that name: `parameters`, `kernel`, `results`, `max_bytes`, `sample_weight`. What has an entry for each sample
    (`weights`, `groups`, `sample_weight`) is an array in the order of the batches, or a function `f(x, y)` of a batch.

    Sums take `checkpoint="sum.npz"`, a file from which the same call goes on after a kill, as `out=` is one for rows.

    Under torch.distributed sums, `project` and `gram` are of all ranks' samples; other rows are of the rank's own.

    Attributes:
        stream: Of the batches.
        distributed: Whether ranks go through samples together.
    """

    stream: Stream
    distributed: bool = True

    def gradient(self, problem: Problem, theta: Tree = None, **options: Any) -> Any:
        """Compute the gradient of the mean loss over all samples, of theta's structure; see `gk.gradient`.

        Args:
            problem: What is differentiated.
            theta: Parameters; None for a module's own.
            options: Of every function.
        """
        return self._total(Sum(mean=True), gradient, problem, theta, options)

    def moments(self, problem: Problem, theta: Tree = None, **options: Any) -> Any:
        """Compute mean and biased variance of all gradients, each of theta's structure; see `gk.moments`.

        Args:
            problem: What is differentiated.
            theta: Parameters; None for a module's own.
            options: Of every function.
        """
        return self._total(MeanAndVariance(), moments, problem, theta, options)

    def clipped_sum(
        self, problem: Problem, theta: Tree = None, max_norm: Any = 1.0, *, norms_out: bool = False, **options: Any
    ) -> Any:
        """Sum the gradients of all samples, each cut by its norm, of theta's structure; see `gk.clipped_sum`.

        Args:
            problem: What is differentiated.
            theta: Parameters; None for a module's own.
            max_norm: What they are cut to.
            norms_out: Whether to return `(sum, norms)`, with the norms of all samples.
            options: `by`, `rule`, `gamma`, `nonfinite` (whose warnings count samples of a batch), and the others.
        """
        if callable(options.get("rule")):
            raise ValueError("rule= is a function of all norms, and those of batches are there one batch at a time; go "
                             "through them twice: over.weighted_sum(p, theta, rule(over.norms(p, theta)))")  # fmt: skip
        options |= {"max_norm": max_norm}
        if norms_out and options.get("checkpoint") is not None:
            raise TypeError("norms_out= comes with no checkpoint=; call norms(..., out='norms.npy') and this one alone")
        if not norms_out:
            return self._total(Sum(), clipped_sum, problem, theta, options)
        require_each_once(self.stream.source, self.distributed)
        total, norms = Sum(), GrowingRows(self.stream.samples)
        with asked_of_batches(clipped_sum, problem, theta, options | {"norms_out": True}) as call:
            for batch in self.stream.batches(call):
                part, of_batch = call(batch)
                total.add(part, batch.size)
                norms.write(of_batch)
            return merge_ranks(total, self.distributed, call), norms.finish()

    def weighted_sum(self, problem: Problem, theta: Tree = None, weights: Any = None, **options: Any) -> Any:
        """Sum w_i g_i over all samples; see `gk.weighted_sum`.

        Args:
            problem: What is differentiated.
            theta: Parameters; None for a module's own.
            weights: `(n,)` or `(n, K)`, in the order of the batches, or a function `f(x, y)` of a batch.
            options: Of every function.
        """
        require_given("weights", weights)
        return self._total(Sum(), weighted_sum, problem, theta, options | {"weights": weights})

    def group_sums(
        self, problem: Problem, theta: Tree = None, groups: Any = None, count: int | None = None, **options: Any
    ) -> Any:
        """Sum the gradients of each group over all samples; see `gk.group_sums`.

        Args:
            problem: What is differentiated.
            theta: Parameters; None for a module's own.
            groups: Number of each sample's group, `(n,)`, in the order of the batches, or a function `f(x, y)`.
            count: How many groups there are.
            options: Of every function.
        """
        require_given("groups", groups)
        require_given("count", count)
        given = options | {"groups": groups, "count": count}
        return self._total(Sum(), group_sums, problem, theta, given)

    def outer(self, problem: Problem, theta: Tree = None, *, groups: Any = None, **options: Any) -> Any:
        """Sum the outer products of all gradients, or those of the sums of each group, `(P, P)`; see `gk.outer`.

        Args:
            problem: What is differentiated.
            theta: Parameters; None for a module's own.
            groups: Number of each sample's group, `(n,)`, in the order of the batches, or a function `f(x, y)`.
            options: Of every function.
        """
        if groups is None:
            return self._total(Sum(), outer, problem, theta, options)
        return self._total(OuterOfGroups(), sums_of_own_groups, problem, theta, options | {"groups": groups})

    def per_sample(
        self, problem: Problem, theta: Tree = None, *, out: Out = None, flat: bool = False, **options: Any
    ) -> Any:
        """Compute the gradients of all samples one by one; see `gk.per_sample`.

        Args:
            problem: What is differentiated.
            theta: Parameters; None for a module's own.
            out: Memory for them, or an NPY or Zarr file, which has a module's as rows of all parameters, `(n, P)`.
            flat: Whether all parameters are in one array `(n, P)`.
            options: Of every function.
        """
        validate_problem(problem)
        flat = flat or (is_path(out) and isinstance(problem, BlackBox))
        return self._rows(per_sample, problem, theta, out, options | {"flat": flat})

    def norms(self, problem: Problem, theta: Tree = None, *, out: Out = None, **options: Any) -> Any:
        """Compute the length of each sample's gradient, `(n,)`; see `gk.norms`.

        Args:
            problem: What is differentiated.
            theta: Parameters; None for a module's own.
            out: Memory for them, or an NPY or Zarr file.
            options: `by`, and those of every function.
        """
        return self._rows(norms, problem, theta, out, options)

    def inner(self, problem: Problem, theta: Tree = None, v: Tree = None, *, out: Out = None, **options: Any) -> Any:
        """Compute the inner product of each sample's gradient with directions, `(n,)` or `(n, K)`; see `gk.inner`.

        Args:
            problem: What is differentiated.
            theta: Parameters; None for a module's own.
            v: Of theta's structure, or each array with an axis of K directions in front.
            out: Memory for the products, or an NPY or Zarr file.
            options: Of every function.
        """
        require_given("v", v)
        return self._rows(inner, problem, theta, out, options | {"v": v})

    def project(self, problem: Problem, theta: Tree = None, *, out: Out = None, **options: Any) -> Any:
        """Multiply each sample's gradient by a random matrix, `(n, size)`; see `gk.project`.

        Args:
            problem: What is differentiated.
            theta: Parameters; None for a module's own.
            out: Memory for the products, or an NPY or Zarr file.
            options: `size`, `seed`, `kind`, and those of every function.
        """
        return self._rows(project, problem, theta, out, options)

    def gram(self, problem: Problem, theta: Tree = None, *, other: Any = None, out: Out = None, **options: Any) -> Any:
        """Compute g_i . h_j of all samples with others, `(n, m)`, or with each other, `(n, n)`; see `gk.gram`.

        Args:
            problem: What is differentiated.
            theta: Parameters; None for a module's own.
            other: `(x, y)`, the samples of h. Without it the inputs of all batches are kept in memory.
            out: Memory for the products with others, or an NPY or Zarr file.
            options: `by`, and those of every function.
        """
        if other is not None:
            return self._rows(gram, problem, theta, out, options | {"other": other})
        if out is not None or options.get("sample_weight") is not None:
            raise TypeError("gram of all samples with each other takes neither out= nor sample_weight=; leave them "
                            "out, or pass other=(x, y)")  # fmt: skip
        require_each_once(self.stream.source, self.distributed)
        with asked_of_batches(gram, problem, theta, options) as call:
            return gram_of_ranks(list(self.stream.batches(call)), call, agreed_ranks(self.distributed, call))

    def _total(
        self, total: Total, function: Callable[..., Any], problem: Problem, theta: Tree, options: dict[str, Any]
    ) -> Any:
        require_each_once(self.stream.source, self.distributed)
        file = options.pop("checkpoint", None)
        with asked_of_batches(function, problem, theta, options) as call:
            if file is not None:
                sum_with_file(self.stream, call, total, file_of_rank(file, ranks_here(self.distributed)))
            else:
                for batch in self.stream.batches(call):
                    total.add(call(batch), batch.size)
            return merge_ranks(total, self.distributed, call)

    def _rows(
        self, function: Callable[..., Any], problem: Problem, theta: Tree, out: Out, options: dict[str, Any]
    ) -> Any:
        with asked_of_batches(function, problem, theta, options) as call:
            if is_path(out):
                return rows_into_file(self.stream, call, file_of_rank(out, ranks_here(self.distributed)))
            if gathers := out is None and function in GATHERED:
                require_each_once(self.stream.source, self.distributed)
            sink = GrowingRows(self.stream.samples) if out is None else GivenRows(out)
            for batch in self.stream.batches(call):
                sink.write(call(batch))
            rows = sink.finish()
            return each(agreed_ranks(self.distributed, call).gathered, rows) if gathers else rows
