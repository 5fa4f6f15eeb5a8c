"""`gk.over`: the functions of `gk` without x and y, of all samples of a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gradkernels.batches.asking import batch_call_of, identity_of_call, is_path, require_given, sums_of_own_groups
from gradkernels.batches.batch import Split
from gradkernels.batches.pairs import gram_of_all
from gradkernels.batches.resume import rows_into_file
from gradkernels.batches.row_memory import GivenRows, GrowingRows
from gradkernels.batches.stream import Stream
from gradkernels.batches.sums import MeanAndVariance, OuterOfGroups, Sum, Total
from gradkernels.fastest.clipped import clipped_sum
from gradkernels.fastest.of_gradients import gradient, moments, norms, per_sample
from gradkernels.fastest.products import gram, inner, project
from gradkernels.fastest.sums import group_sums, outer, weighted_sum
from gradkernels.problems import BlackBox, Problem
from gradkernels.tree import Tree
from gradkernels.validate import validate_count, validate_problem

Out = Any
"""Memory for rows, an array or a dict of them, or the name of an NPY or Zarr file."""


@dataclass(frozen=True, eq=False)
class OverBatches:
    """The functions of `gk` without x and y, of all samples that a loader has; each call goes through it once.

    All of them take the problem, theta (None for a module's own parameters) and the keyword arguments of the function
    of that name: `parameters`, `kernel`, `results`, `max_bytes`, `sample_weight`. What has an entry for each sample
    (`weights`, `groups`, `sample_weight`) is an array in the order of the batches, or a function `f(x, y)` of a batch.

    Attributes:
        stream: Of the batches.
    """

    stream: Stream

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
            options: `by`, `rule`, `gamma`, `nonfinite`, and those of every function. With `nonfinite="drop"` a warning
                counts samples within their batch.
        """
        if callable(options.get("rule")):
            raise ValueError("rule= is a function of all norms, and those of batches are there one batch at a time; go "
                             "through them twice: over.weighted_sum(p, theta, rule(over.norms(p, theta)))")  # fmt: skip
        options |= {"max_norm": max_norm}
        if not norms_out:
            return self._total(Sum(), clipped_sum, problem, theta, options)
        call = batch_call_of(clipped_sum, problem, theta, options | {"norms_out": True})
        total, norms = Sum(), GrowingRows(self.stream.samples)
        for batch in self.stream.batches(call):
            part, of_batch = call(batch)
            total.add(part, batch.size)
            norms.write(of_batch)
        return total.result(), norms.finish()

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
        call = batch_call_of(gram, problem, theta, options)
        batches = list(self.stream.batches(call))
        return gram_of_all(batches, batches, call)

    def _total(
        self, total: Total, function: Callable[..., Any], problem: Problem, theta: Tree, options: dict[str, Any]
    ) -> Any:
        call = batch_call_of(function, problem, theta, options)
        for batch in self.stream.batches(call):
            total.add(call(batch), batch.size)
        return total.result()

    def _rows(
        self, function: Callable[..., Any], problem: Problem, theta: Tree, out: Out, options: dict[str, Any]
    ) -> Any:
        call = batch_call_of(function, problem, theta, options)
        if is_path(out):
            if options.get("by") is not None:
                raise TypeError("by= gives several arrays and a file has one; leave out out=, or call with parameters= "
                                "for each group")  # fmt: skip
            return rows_into_file(self.stream, call, out, identity_of_call(function.__name__, call, self.stream))
        sink = GrowingRows(self.stream.samples) if out is None else GivenRows(out)
        for batch in self.stream.batches(call):
            sink.write(call(batch))
        return sink.finish()


def over(
    batches: Iterable[Any], *, split: Split | None = None, prefetch: int = 2, progress: bool | None = None
) -> OverBatches:
    """Ask quantities of all samples of a DataLoader, or of any iterable of `(x, y)`, a batch at a time.

    Args:
        batches: They are gone through once for each call. Arrays may be of numpy or torch, whatever theta is, and are
            moved to its device.
        split: `split(batch)` makes `(x, y)` of what is yielded, where that is anything else; a dict is the inputs of a
            module that computes its own loss.
        prefetch: How many batches a thread loads ahead; 0 for no thread.
        progress: False to show nothing; True or None to show how far it is, with the time left: on a terminal, in a
            notebook, and elsewhere by a line on stderr each half minute.

    Returns:
        What has the functions: sums with memory for one result and one batch, and rows, which fill memory, a memory
        map or a file as they come.
    """
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches is a {type(batches).__name__}; it must be a DataLoader, or an iterable of (x, y)")
    if prefetch:
        validate_count("prefetch", prefetch)
    return OverBatches(Stream(batches, split, prefetch, progress))
