"""Kernels that are wrong in one way each: what the checker is there to reject."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from first_five import FIVE

from gradkernels.quantity import Moments
from gradkernels.tree import leaves

ALL = FIVE
ROWS, MEANS, REDUCED = ("per_sample", "norms"), ("gradient", "moments"), ("gradient", "moments", "clipped_sum")
VECTORS = tuple(name for name in ALL if name != "norms")
ENTRY = r"entry \(.*\) is \S+, expected [^,\s]+"
OFF = ENTRY + r", off by \S+ of its scale, allowed \d"


@dataclass(frozen=True)
class Mutant:
    """`wrap(compute)` is wrong for these quantities, and the checker's message matches `says`."""

    wrap: Callable
    quantities: tuple[str, ...] = ALL
    says: str = OFF


def rebuilt(result, parts):
    return Moments(*parts) if isinstance(result, Moments) else parts[0]


def changed(change):
    """Every array of the result goes through `change(array, n)`."""

    def wrap(compute):
        def mutant(theta, x, y, out=None, **options):
            result = compute(theta, x, y, **options)
            parts = [change(part, len(y)) for part in leaves(result)]
            if out is None:
                return rebuilt(result, parts)
            out[...] = parts[0]
            return out

        return mutant

    return wrap


def times(factor):
    return changed(lambda array, n: array * array.dtype.type(factor(n)))


def reordered(order):
    return changed(lambda array, n: array[order(n)])


def on(inputs):
    """The right function of the wrong data."""
    return lambda compute: lambda theta, x, y, **options: compute(*inputs(theta, x, y), **options)


def largest(change):
    """Changes the entry that is largest in size, and no other."""

    def one(array, n):
        array = array.copy()
        at = np.unravel_index(np.abs(array).argmax(), array.shape)
        array[at] = change(array[at])
        return array

    return changed(one)


def cancelling(array, n):
    array = array.copy()
    array[0] += array[1]
    array[1] -= array[1]
    return array


def moments(change):
    """`change(mean, variance, n)` gives the wrong pair."""
    return lambda compute: lambda theta, x, y: Moments(*change(*compute(theta, x, y), len(y)))


def clipped(max_norm):
    """Clips at a bound of its own."""
    return lambda compute: lambda theta, x, y, **options: compute(theta, x, y, max_norm=max_norm)


def instead(give):
    """Returns `give(result)`."""
    return lambda compute: lambda *inputs, **options: give(compute(*inputs, **options))


def stale(compute):
    """Keeps its first result."""
    kept = []

    def mutant(theta, x, y, out=None, **options):
        kept.append(compute(theta, x, y, **options))
        if out is None:
            return rebuilt(kept[0], [part.copy() for part in leaves(kept[0])])
        out[...] = kept[0]
        return out

    return mutant


def remembering(position):
    """Knows an input again by its identity and goes on with what it held the first time."""

    def wrap(compute):
        kept = {}

        def mutant(*inputs, **options):
            array = inputs[position]
            known = kept.setdefault(id(array), array.copy())
            return compute(*inputs[:position], known, *inputs[position + 1 :], **options)

        return mutant

    return wrap


def workspace(compute):
    """Writes every result to the same memory."""
    kept = []

    def mutant(theta, x, y, out=None, **options):
        kept.append(compute(theta, x, y, **options))
        for mine, new in zip(leaves(kept[0]), leaves(kept[-1]), strict=True):
            mine[...] = new
        if out is None:
            return kept[0]
        out[...] = kept[0]
        return out

    return mutant


def writing(position):
    """Computes the right thing and leaves an input changed."""

    def wrap(compute):
        def mutant(*inputs, **options):
            result = compute(*inputs, **options)
            inputs[position][-1] += 1
            return result

        return mutant

    return wrap


def half_written(compute):
    def mutant(theta, x, y, out=None):
        rows = compute(theta, x, y)
        if out is None:
            return rows
        out[: len(y) // 2] = rows[: len(y) // 2]
        return out

    return mutant


MUTANTS = {
    "zero": Mutant(times(lambda n: 0)),
    "doubled": Mutant(times(lambda n: 2)),
    "halved": Mutant(times(lambda n: 0.5)),
    "negated": Mutant(times(lambda n: -1)),
    "squared": Mutant(changed(lambda array, n: array**2)),
    "1/n left in": Mutant(times(lambda n: 1 / n)),
    "sum instead of mean": Mutant(times(lambda n: n), MEANS),
    "mean over n - 1": Mutant(times(lambda n: n / (n - 1)), MEANS),
    "mean instead of sum": Mutant(times(lambda n: 1 / n), ("clipped_sum",)),
    "one entry 1% up": Mutant(largest(lambda value: value * 1.01)),
    "one entry 1% down": Mutant(largest(lambda value: value * 0.99)),
    "NaN in one entry": Mutant(largest(lambda value: np.nan), says=ENTRY + ", one of them not finite"),
    "infinity in one entry": Mutant(largest(lambda value: np.inf), says=ENTRY + ", one of them not finite"),
    "half precision inside": Mutant(changed(lambda array, n: array.astype("f2").astype(array.dtype))),
    "first two rows swapped": Mutant(reordered(lambda n: [1, 0, *range(2, n)]), ROWS),
    "rows backwards": Mutant(reordered(lambda n: slice(None, None, -1)), ROWS),
    "last row twice": Mutant(reordered(lambda n: [*range(1, n), n - 1]), ROWS),
    "two errors that cancel": Mutant(changed(cancelling), ROWS),
    "intercept last": Mutant(changed(lambda array, n: np.roll(array, -1, axis=-1)), VECTORS),
    "no features": Mutant(on(lambda theta, x, y: (theta, x * 0, y))),
    "theta backwards": Mutant(on(lambda theta, x, y: (theta[::-1], x, y))),
    "targets of other samples": Mutant(on(lambda theta, x, y: (theta, x, np.roll(y, 1)))),
    "one sample left out": Mutant(on(lambda theta, x, y: (theta, x[1:], y[1:])), REDUCED),
    "one sample twice": Mutant(on(lambda theta, x, y: (theta, np.r_[x, x[:1]], np.r_[y, y[:1]])), REDUCED),
    "variance over n - 1": Mutant(
        moments(lambda mean, variance, n: (mean, variance * variance.dtype.type(n / (n - 1)))), ("moments",)
    ),
    "standard deviation": Mutant(moments(lambda mean, variance, n: (mean, variance**0.5)), ("moments",)),
    "second moment": Mutant(moments(lambda mean, variance, n: (mean, variance + mean**2)), ("moments",)),
    "moments swapped": Mutant(moments(lambda mean, variance, n: (variance, mean)), ("moments",)),
    "clips always at 1": Mutant(clipped(1.0), ("clipped_sum",)),
    "never clips": Mutant(clipped(1e30), ("clipped_sum",)),
    "wrong dtype": Mutant(
        changed(lambda array, n: array.astype({"f": "f8", "d": "f4"}[array.dtype.char])),
        says=r"dtype float\d\d, expected float\d\d",
    ),
    "one axis more": Mutant(instead(lambda result: rebuilt(result, [part[None] for part in leaves(result)])),
                            says=r"shape \(1, .*\), expected \("),
    "one entry less": Mutant(instead(lambda result: rebuilt(result, [part[..., 1:] for part in leaves(result)])),
                             says=r"shape .*, expected \("),
    "a number": Mutant(instead(lambda result: leaves(result)[0].sum()), says="returned a float"),
    "a list": Mutant(instead(lambda result: list(leaves(result))), says="returned a list"),
    "a plain tuple": Mutant(instead(lambda result: tuple(leaves(result))), says="returned a tuple"),
    "a masked array": Mutant(instead(lambda result: np.ma.array(leaves(result)[0])), says="returned a MaskedArray"),
    "nothing": Mutant(instead(lambda result: None), says="returned a NoneType"),
    "its first result for ever": Mutant(stale),
    "the theta it knows": Mutant(remembering(0)),
    "the x it knows": Mutant(remembering(1)),
    "the y it knows": Mutant(remembering(2)),
    "one workspace for all results": Mutant(workspace, says="wrote over the result of an earlier call"),
    "writes to theta": Mutant(writing(0), says="changed its input theta"),
    "writes to x": Mutant(writing(1), says="changed its input x"),
    "writes to y": Mutant(writing(2), says="changed its input y"),
    "ignores out=": Mutant(
        lambda compute: lambda theta, x, y, out=None: compute(theta, x, y),
        ("per_sample",),
        "out= was given but is not what came back",
    ),
    "writes half of out=": Mutant(half_written, ("per_sample",), ENTRY + ", one of them not finite"),
}  # fmt: skip
