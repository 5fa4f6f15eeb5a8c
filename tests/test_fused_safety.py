"""What broke numba.fused: arrays of other dtypes, packed rows, slopes and constants of other problems."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import gradkernels as gk
from gradkernels.problems import ScalarRegression

pytest.importorskip("numba")

THETA = np.array([[0.5, -0.25, 0.0], [1.0, 0.0, -1.0]])
X, CLASSES = np.array([[1.0], [-2.0], [0.5], [3.0]]), np.array([0, 2, 1, 2])


def fused(problem: Any, quantity: str = "gradient") -> Any:
    return gk.kernel(f"numba.fused.{quantity}").build(problem)


def logistic() -> tuple[Any, Any, Any]:
    return np.array([0.5, 1.0]), X, np.array([0.0, 1.0, 1.0, 0.0])


@pytest.mark.parametrize("quantity", ["gradient", "per_sample", "norms", "moments", "clipped_sum"])
@pytest.mark.parametrize("step", [1, -1, 2])
def test_int32_classes_are_those_of_int64(quantity: str, step: int) -> None:
    classes = np.repeat(CLASSES, 2)[::2] if step == 2 else CLASSES[::step]
    compute = fused(gk.SoftmaxRegression(classes=3), quantity)
    expected = compute(THETA, X, classes.astype(np.int64))
    np.testing.assert_array_equal(compute(THETA, X, classes.astype(np.int32)), expected)


def test_int32_classes_through_dispatch() -> None:
    problem = gk.SoftmaxRegression(classes=3)
    expected = gk.gradient(problem, THETA, X, CLASSES, kernel="numpy.matmul")
    given = gk.gradient(problem, THETA, X, CLASSES.astype(np.int32), kernel="numba.fused")
    np.testing.assert_allclose(given, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["float16", "float32", "longdouble", "complex128", "uint8", "bool", ">f8", "O"])
def test_other_dtypes_are_refused_and_leave_no_trace(place: int, dtype: str) -> None:
    compute, args = fused(gk.LogisticRegression()), list(logistic())
    expected = compute(*args)
    wrong = [arg.astype(dtype) if i == place else arg for i, arg in enumerate(args)]
    with pytest.raises(TypeError, match="float64"):
        compute(*wrong)
    column = args[1][:, 0]  # another number of axes, which may have to be compiled now
    np.testing.assert_allclose(compute(args[0], column, args[2]), expected, rtol=1e-14)


UNALIGNED_FIRST = """
import numpy as np, gradkernels as gk
compute = gk.kernel("numba.fused.gradient").build(gk.LogisticRegression())
theta, x, y = np.array([0.5, 1.0]), np.arange(4.0)[:, None], np.array([0.0, 1.0, 1.0, 0.0])
for place in range(3):
    given = [theta, x, y]
    memory = np.zeros(given[place].nbytes + 1, np.uint8)[1:].view(float).reshape(given[place].shape)
    memory[...] = given[place]
    given[place] = memory
    assert np.array_equal(compute(*given), compute(theta, x, y))
for place in range(3):
    given = [array.astype(">f8") if i == place else array for i, array in enumerate((theta, x, y))]
    try:
        print(compute(*given))
    except TypeError as error:
        assert "float64" in str(error)
"""


def test_the_other_byte_order_is_refused_after_an_unaligned_array() -> None:
    done = subprocess.run([sys.executable, "-c", UNALIGNED_FIRST], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0), done.stdout + done.stderr


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_weights_of_another_dtype_are_refused(dtype: str) -> None:
    theta, x, y = logistic()
    with pytest.raises(TypeError, match="float64"):
        fused(gk.LogisticRegression(weighted=True))(theta, x, (y, np.ones(4, dtype)))


@pytest.mark.parametrize("quantity", ["gradient", "per_sample", "norms", "moments"])
def test_one_row_of_a_packed_structure(quantity: str) -> None:
    row = np.zeros(1, dtype=[("x", "f8"), ("mark", "u4")])
    row["x"] = 3.0
    compute = fused(gk.LinearRegression(), quantity)
    theta, plain = np.array([0.5, 1.0]), np.array([3.0])
    np.testing.assert_array_equal(compute(theta, row["x"], row["x"]), compute(theta, plain, plain))


@dataclass(frozen=True)
class Doubled(gk.SoftmaxRegression):
    """A softmax with a slope of its own."""

    def loss_of(self, xp: Any, eta: Any, y: Any) -> Any:
        return 2 * super().loss_of(xp, eta, y)

    def slope(self, xp: Any, eta: Any, y: Any) -> Any:
        return 2 * super().slope(xp, eta, y)


def test_softmax_with_another_slope_is_left_to_other_kernels() -> None:
    with pytest.raises(ValueError, match="only softmax's"):
        fused(Doubled())(THETA, X, CLASSES)
    expected = 2 * gk.gradient(gk.SoftmaxRegression(), THETA, X, CLASSES, kernel="numpy.matmul")
    np.testing.assert_allclose(gk.gradient(Doubled(), THETA, X, CLASSES), expected, rtol=1e-13, atol=1e-15)


@dataclass(frozen=True, kw_only=True)
class Foreign(gk.LinearRegression):
    """A slope that numba cannot compile, under a name for which numba.fused is the choice."""

    def slope(self, xp: Any, eta: Any, y: Any) -> Any:
        return 2 * (eta - y) * float(str(1))


def test_a_slope_that_numba_cannot_compile_is_left_to_other_kernels() -> None:
    theta, x, y = logistic()
    expected = gk.gradient(gk.LinearRegression(), theta, x, y, kernel="numpy.matmul")
    np.testing.assert_allclose(gk.gradient(Foreign(), theta, x, y), expected, rtol=1e-13)
    with pytest.raises(ValueError, match=r"cannot compile Foreign\.slope"):
        gk.gradient(Foreign(), theta, x, y, kernel="numba.fused")


@dataclass(frozen=True, kw_only=True)
class Levels(ScalarRegression):
    """One predictor, and a field that is called as softmax calls its own."""

    classes: int = 3
    family: ClassVar[str] = "levels"

    def loss_of(self, xp: Any, eta: Any, y: Any) -> Any:
        return self.classes * (eta - y) ** 2

    def slope(self, xp: Any, eta: Any, y: Any) -> Any:
        return 2 * self.classes * (eta - y)


def test_a_field_called_classes_makes_no_softmax() -> None:
    # eta = 3, y = 1: slope 2 * 3 * 2 = 12
    np.testing.assert_array_equal(fused(Levels())(np.array([1.0, 2.0]), np.ones((2, 1)), np.ones(2)), [12.0, 12.0])


def tabled(table: Any) -> Any:
    @dataclass(frozen=True, kw_only=True)
    class Tabled(ScalarRegression):
        family: ClassVar[str] = "tabled"

        def loss_of(self, xp: Any, eta: Any, y: Any) -> Any:
            return table[1000] * (eta - y) ** 2

        def slope(self, xp: Any, eta: Any, y: Any) -> Any:
            return 2 * table[1000] * (eta - y)

    return Tabled()


@pytest.mark.parametrize("level", [1.0, 7.0])
def test_tables_that_print_alike_are_told_apart(level: float) -> None:
    table = np.ones(3000)
    table[1000] = level
    given = fused(tabled(table))(np.array([1.0, 2.0]), np.ones((2, 1)), np.ones(2))
    np.testing.assert_array_equal(given, [4 * level, 4 * level])


NAMELESS = """
import subprocess
import sys
from dataclasses import dataclass
from gradkernels.problems import ScalarRegression

@dataclass(frozen=True, kw_only=True)
class Halved(ScalarRegression):
    family = "halved"

    def loss_of(self, xp, eta, y):
        return (eta - y) ** 2 / 2

    def slope(self, xp, eta, y):
        return eta - y
"""


def test_a_problem_of_no_module_is_compiled_too() -> None:
    scope: dict[str, Any] = {}
    exec(NAMELESS, scope)  # without a __name__, as doctest and some notebooks do
    gk.check("numba.fused.norms", gk.Case(scope["Halved"](), "norms", 20))


@pytest.mark.parametrize("quantity", ["gradient", "per_sample", "norms", "moments", "clipped_sum"])
@pytest.mark.parametrize("place", range(3))
def test_the_other_byte_order_is_refused_after_an_array_that_may_not_be_written_to(quantity, place):
    """To numba both look the same."""
    compute = gk.kernel(f"numba.fused.{quantity}").build(gk.LinearRegression())
    given = [np.array(array) for array in gk.LinearRegression().draw(10, 0, 2)]
    for array in given:
        array.flags.writeable = False
    compute(*given)
    given[place] = given[place].astype(">f8")
    given[place].flags.writeable = False
    with pytest.raises(TypeError, match=">f8.*convert them with astype"):
        compute(*given)


def test_a_plan_stays_in_memory_where_two_threads_make_it_at_once(monkeypatch):
    """A first call on a large batch does: small batches, called with its address, came out wrong afterwards."""
    from gradkernels.engines.fused import build
    from gradkernels.engines.fused.drivers.norms import norms_workspace, write_norms

    plans = build.CallPlans((write_norms, norms_workspace), gk.LinearRegression(l2=2.5))
    compiled, meanwhile = build.compiled_driver, []

    def slow(driver, size):
        if not meanwhile:
            meanwhile.append(0)
            meanwhile[0] = plans[size]
        return compiled(driver, size)

    monkeypatch.setattr(build, "compiled_driver", slow)
    address = plans[8]
    assert meanwhile == [address]
    held = np.frombuffer((ctypes.c_int64 * 7).from_address(address), np.int64)
    others = [np.full(7, -1) for _ in range(100)]  # in the memory of what was dropped
    assert held[:5].tolist() == [compiled((write_norms, norms_workspace), 8).address, held[1], 1, 0, -1]
    assert held[build.L2 :].view(float).tolist() == [2.5, build.UNCLIPPED]
    assert len(others) == 100


def test_numbas_threads_leave_torch_as_many_as_it_has(monkeypatch):
    """Numba's first question starts its pool, and tells the OpenMP library that torch uses too."""
    from gradkernels.engines.fused.codegen import threads

    asked = []

    def starts():
        if not asked:
            torch.set_num_threads(torch.get_num_threads() + 1)
        asked.append(1)
        return 2

    monkeypatch.setattr(threads.numba, "get_num_threads", starts)
    threads._start_numba.cache_clear()
    before = torch.get_num_threads()
    assert threads.numba_threads() == 2
    assert (torch.get_num_threads(), len(asked)) == (before, 2)
