"""Results of batches added up to that of all samples: in float64, in the order of the batches, in memory for one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradkernels.backend import Array, arrays_of, backend_of
from gradkernels.batches.ranks.group import Ranks
from gradkernels.names import dtype_name
from gradkernels.quantity import Moments
from gradkernels.tree import Tree, each, leaves


class Total(ABC):
    """What is known of the samples so far.

    Attributes:
        samples: Their number.
    """

    samples: int = 0

    @abstractmethod
    def add(self, result: Any, size: int) -> None:
        """Take the result of a batch in.

        Args:
            result: Of the batch.
            size: Its number of samples, at least 1.
        """

    @abstractmethod
    def merge(self, ranks: Ranks) -> None:
        """Take in what the other ranks know, at the same time as they do."""

    @abstractmethod
    def result(self) -> Any:
        """Return that of all samples, in the dtype and library of those of batches."""

    @abstractmethod
    def arrays(self) -> list[Any]:
        """Return what is known as arrays of numpy, which `resume` goes on with to the same bits."""

    @abstractmethod
    def resume(self, arrays: Sequence[Any], samples: int) -> None:
        """Forget what is known but its form, and go on from what `arrays` gave.

        Args:
            arrays: As they were.
            samples: Their number of samples.
        """


class Sum(Total):
    """A sum over samples, or their mean: each batch counts by its number of samples."""

    def __init__(self, mean: bool = False) -> None:
        self._mean = mean
        self._like: Tree = None
        self._sum: Tree = None

    def add(self, result: Any, size: int) -> None:
        """Add a batch's sum, or `size` times its mean."""
        part = each(lambda one: widened(one) * float(size if self._mean else 1), result)
        if self.samples == 0:
            self._like, self._sum = each(blank_like, result), part
        else:
            each(_add, self._sum, part)
        self.samples += size

    def merge(self, ranks: Ranks) -> None:
        """Add the sums of all ranks up, and their numbers of samples."""
        self.samples, (self._sum,) = _summed(ranks, self.samples, self._sum)

    def result(self) -> Any:
        """Return the sum, or divided by the number of samples."""
        by = self.samples if self._mean else 1
        return each(lambda total, like: narrowed_like(total / by, like), self._sum, self._like)

    def arrays(self) -> list[Any]:
        """Return the sum's."""
        return host_arrays(self._sum)

    def resume(self, arrays: Sequence[Any], samples: int) -> None:
        """Go on from a sum of so many samples."""
        self.samples, [self._sum] = samples, filled(arrays, self._sum)


class MeanAndVariance(Total):
    """Mean and biased variance, merged around the means (Chan, Golub & LeVeque 1983): nothing large is subtracted."""

    def __init__(self) -> None:
        self._like: Tree = None
        self._mean: Tree = None
        self._squares: Tree = None

    def add(self, result: Any, size: int) -> None:
        """Merge a batch's mean and variance in."""
        mean, squares = each(widened, result.mean), each(lambda one: widened(one) * float(size), result.variance)
        if self.samples == 0:
            self._like, self._mean, self._squares = each(blank_like, result.mean), mean, squares
        else:
            share = size / (self.samples + size)
            off = each(lambda one, all_: one - all_, mean, self._mean)
            each(_add, self._mean, each(lambda one: one * share, off))
            each(_add, self._squares, squares)
            each(_add, self._squares, each(lambda one: one**2 * (self.samples * share), off))
        self.samples += size

    def merge(self, ranks: Ranks) -> None:
        """Merge mean and variance of all ranks, by two exchanges: the second is of squares around the mean of all."""
        own, size = self._mean, self.samples
        self.samples, (total,) = _summed(ranks, size, each(lambda one: one * size, own))
        self._mean = each(lambda one: one / self.samples, total)
        around = each(lambda sq, one, all_: sq + size * (one - all_) ** 2, self._squares, own, self._mean)
        _, (self._squares,) = _summed(ranks, size, around)

    def result(self) -> Moments[Any]:
        """Return mean and variance over all samples."""
        variance = each(lambda one: one / self.samples, self._squares)
        return Moments(each(narrowed_like, self._mean, self._like), each(narrowed_like, variance, self._like))

    def arrays(self) -> list[Any]:
        """Return those of the mean, and of the squares around it."""
        return host_arrays((self._mean, self._squares))

    def resume(self, arrays: Sequence[Any], samples: int) -> None:
        """Go on from mean and squares of so many samples."""
        self._mean, self._squares = filled(arrays, self._mean, self._squares)
        self.samples = samples


class OuterOfGroups(Total):
    """The sum of outer products of the sums of each group, whose samples may be in many batches."""

    def __init__(self) -> None:
        self._like: Array = None
        self._sums: dict[int, Array] = {}

    def add(self, result: Any, size: int) -> None:
        """Add a batch's sums: `(numbers, sums)`, of the groups that it has, `(m,)` and `(m, P)`."""
        numbers, sums = result
        self._like = blank_like(sums)
        for number, one in zip(numbers.tolist(), widened(sums), strict=True):
            self._sums[number] = self._sums[number] + one if number in self._sums else one
        self.samples += size

    def merge(self, ranks: Ranks) -> None:
        """Add the sums of all ranks up, of the groups that any of them has."""
        numbers = sorted({number for own in ranks.objects([*self._sums], "compare groups") for number in own})
        blank = next(iter(self._sums.values())) * 0.0
        self.samples, (sums,) = _summed(ranks, self.samples, tuple(self._sums.get(one, blank) for one in numbers))
        self._sums = dict(zip(numbers, sums, strict=True))

    def result(self) -> Any:
        """Return the sum over groups of s s^T, `(P, P)`."""
        library = backend_of(first := next(iter(self._sums.values())))
        assert library is not None
        sums = library.xp.stack([first, *[one for one in self._sums.values() if one is not first]])
        return narrowed_like(sums.T @ sums, self._like)

    def arrays(self) -> list[Any]:
        """Return the numbers of the groups, and their sums."""
        return [np.array([*self._sums], np.int64), np.stack(host_arrays(tuple(self._sums.values())))]

    def resume(self, arrays: Sequence[Any], samples: int) -> None:
        """Go on from numbers and sums of groups of so many samples."""
        numbers, sums = arrays
        like = next(iter(self._sums.values()))
        self._sums = {int(number): filled([one], like)[0] for number, one in zip(numbers, sums, strict=True)}
        self.samples = samples


def _summed(ranks: Ranks, samples: int, tree: Tree) -> tuple[int, tuple[Tree]]:
    """Return the number of samples of all ranks, and the sums of a tree of float64 arrays, by one exchange."""
    first = leaves(tree)[0]
    number = first.reshape(-1)[:1] * 0.0 + float(samples)  # as exact as integers below 2 ** 53
    total, *found = ranks.summed([number, *leaves(tree)])
    rest = iter(found)
    return int(total[0]), (each(lambda one: next(rest), tree),)


def host_arrays(tree: Tree) -> list[Any]:
    """Return the arrays of a tree as numpy has them."""
    return [np.asarray(library.get(one)) for one in leaves(tree) if (library := backend_of(one)) is not None]


def filled(arrays: Sequence[Any], *trees: Tree) -> list[Tree]:
    """Return trees like others, of float64 arrays that hold what is in arrays of numpy.

    Args:
        arrays: In the order of the leaves of all trees.
        trees: Whose form, libraries and devices count.

    Raises:
        ValueError: Numbers or shapes of arrays are others.
    """
    own, found = ([tuple(one.shape) for one in several] for several in (leaves(trees), arrays))
    if own != found or any(one.dtype != np.float64 for one in arrays):
        raise ValueError(f"it has arrays of {found} where float64 ones of {own} belong")
    rest = iter(arrays)
    return [each(lambda one: _placed(next(rest), one), tree) for tree in trees]


def _placed(array: Any, like: Array) -> Array:
    library = backend_of(like)
    assert library is not None
    return (
        np.array(array)
        if isinstance(like, np.ndarray)
        else library.put(np.array(array), library.arrays.device_of(like))
    )


def widened(array: Array) -> Array:
    """Return a copy in float64: a tensor where it is, anything else as numpy's."""
    library = backend_of(array)
    assert library is not None
    if library.name == "torch":
        return library.arrays.cast(array.detach(), "float64").clone()
    return np.array(library.get(array), np.float64)


def blank_like(array: Array) -> Array:
    """Return an array without entries that has another's library, dtype and device."""
    return array.reshape(-1)[:0]


def narrowed_like(array: Array, like: Array) -> Array:
    """Return a float64 array of `widened` in the library and dtype of the array that it was made of.

    Args:
        array: In float64.
        like: Of the caller's library.
    """
    library = backend_of(like)
    assert library is not None
    dtype = dtype_name(like.dtype)
    if library.name == "torch":
        return library.arrays.cast(array, dtype)
    return library.put(np.asarray(array, dtype), arrays_of(like).device_of(like))


def _add(total: Array, part: Array) -> Array:
    total += part
    return total
