"""Every kernel of the registry on the regression problems, proven and timed across sizes.

pytest bench                                              # gradient and per_sample at n = 10, 1000, 100000
pytest bench --gradkernels-sizes=10:1e6 -k torch.vmap     # one way, six sizes
pytest bench -k torch.compiled                            # each size compiles for seconds: only when named
pytest bench --gradkernels-kernels=numpy,torch.vmap       # as --kernel of `gradkernels run`
pytest bench --gradkernels-quantities=all --gradkernels-csv=results/mine.csv
"""

from itertools import product

import pytest

import gradkernels as gk
from gradkernels.bench.cli.parse import chosen_kernels
from gradkernels.key import OUT, Key
from gradkernels.problems import REGRESSIONS
from gradkernels.quantity import QUANTITIES


def pytest_generate_tests(metafunc):
    axes = ("problems", "sizes", "features", "dtypes", "quantities")
    points = list(product(*(metafunc.config.getoption(f"gradkernels_{axis}") for axis in axes)))
    # All kernels of a point one after the other: they share its inputs and its reference.
    ways = [(key, *point) for point in points for key in keys(point[0], point[-1], metafunc.config)]
    names = "key", "problem", "n", "features", "dtype", "quantity"
    metafunc.parametrize(names, ways, ids=[label(way, points) for way in ways])


def keys(problem, quantity, config):
    patterns, named = config.getoption("gradkernels_kernels"), config.getoption("keyword")
    for kernel in chosen_kernels(patterns or ["*"], QUANTITIES, REGRESSIONS[problem]()):
        if kernel.quantity.name != quantity or (kernel.compiles and not patterns and kernel.name not in named):
            continue
        yield kernel.key
        if kernel.out:
            yield kernel.key + OUT


def label(way, points):
    """The kernel's key and n, and of the other coordinates those that differ between the tests."""
    key, problem, n, features, dtype, _ = way
    told = (problem, f"d={features}", dtype)
    differ = [len({point[axis] for point in points}) > 1 for axis in (0, 2, 3)]
    return "-".join((key, f"n={n}", *(text for text, shown in zip(told, differ, strict=True) if shown)))


# Rounds of at least 100 microseconds, and no garbage collection within them.
@pytest.mark.benchmark(min_time=1e-4, disable_gc=True)
def test_kernel(gradkernels_benchmark, key, problem, n, features, dtype, quantity):
    case = gk.Case(REGRESSIONS[problem](), quantity, n, dtype, features=features)
    gradkernels_benchmark(key.removesuffix(OUT), case, out=Key.parse(key).out)
