"""What a kernel is bound to: the request as the caller made it, and data that it is proven on."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from modules import problem
from torch import nn

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.case import Case
from gradkernels.dispatch import bind
from gradkernels.dispatch.dispatcher import ModuleDispatcher
from gradkernels.dispatch.request import Criteria, Request, Size

P = gk.LinearRegression()
# y = 1 + 2 x + residual (1, -1, 2) at theta = (1, 2), so slopes are -2, 2, -4.
ARRAYS = (np.array([1.0, 2.0]), np.array([0.0, 1.0, 3.0]), np.array([2.0, 2.0, 9.0]))


@pytest.fixture
def prepared(monkeypatch):
    """What modules' kernels are proven on."""
    seen, really = [], ModuleDispatcher.prepare
    monkeypatch.setattr(ModuleDispatcher, "prepare", lambda self, *given: seen.append(given) or really(self, *given))
    return seen


def test_a_modules_kernel_is_proven_on_its_example_or_on_what_is_like_the_data(prepared):
    of = problem(nn.Linear(4, 3), 4)
    k = gk.fastest(of, "norms", n=5)
    ((theta, x, y),) = prepared
    assert all(isinstance(one, torch.Tensor) for one in (*theta.values(), x, y))
    assert (list(theta), x.shape[1:], x.dtype, len(x) == len(y) > 1) == (["weight", "bias"], (4,), torch.float32, True)
    assert (k.request.case.n, k.request.arrays) == (5, None)
    given = {name: one.detach() * 2 for name, one in of.parameters().items()}
    for audit in (True, False):
        k = gk.fastest(of, "norms", like=(given, x, y), audit=audit)
        assert all(one is other for one, other in zip(prepared[-1], (given, x, y), strict=True))
        assert k.request.arrays is None, "they are the caller's to keep"


@pytest.mark.parametrize("kernel", [None, "torch.hooks"])
def test_a_dispatcher_is_asked_for_what_the_caller_asked_for(kernel, prepared):
    k = gk.fastest(problem(nn.Linear(4, 3), 4), "norms", n=5, threads=1, max_bytes=10**9, kernel=kernel)
    criteria = k.dispatcher.criteria
    assert (criteria.threads, criteria.max_bytes, criteria.kernel) == (1, 10**9, None)
    assert (k.dispatcher.forced is None) == (kernel is None)
    free = gk.fastest(problem(nn.Linear(4, 3), 4), "norms", n=5)
    assert free.dispatcher.criteria.threads == free.request.case.threads >= 1


@pytest.mark.parametrize(
    ("name", "key"), [("FunctionDispatcher", "jax.vmap+.norms"), ("ModuleDispatcher", "torch.hooks.norms")]
)
def test_a_dispatcher_has_the_problem_and_the_threads_of_the_case(monkeypatch, name, key):
    monkeypatch.setattr(bind, name, lambda *given: given)
    if name == "FunctionDispatcher":
        of = gk.FunctionProblem(lambda theta, x, y: (x @ theta - y) ** 2, np.zeros(2, np.float32))
    else:
        of = problem(nn.Linear(4, 3), 4)
    for forced in (None, gk.kernel(key)):
        case = Case(of, "norms", 5, "float32", threads=2)
        asked = Request(case, BACKENDS["torch"], Criteria(forced, "file", 10**9, 3))
        assert bind.dispatcher_for(asked) == (of, case.quantity, forced, Criteria(None, "file", 10**9, 3, 2))


def test_a_kernel_that_is_asked_for_and_cannot_do_the_case_says_every_reason():
    for of, key in ((P, "numpy.broadcast+.norms"), (problem(nn.Linear(4, 3), 4), "torch.hooks.norms")):
        kernel = replace(gk.kernel(key), refuses=lambda case: ["it is large", "it is long"])
        with pytest.raises(ValueError, match=r"norms cannot do this: it is large; it is long$"):
            gk.fastest(of, "norms", n=5, kernel=kernel)


def test_options_go_through_where_arrays_are_converted():
    tensors = tuple(map(torch.from_numpy, ARRAYS))
    found = gk.fastest(P, "clipped_sum", like=tensors, kernel="numpy.blocked")(*tensors, max_norm=2.0)
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == pytest.approx([-2 + 2**0.5 - 0.4**0.5, 2**0.5 - 3 * 0.4**0.5])


def test_options_that_are_arrays_are_converted_with_the_inputs_and_others_are_not():
    case, given = Case(P, "inner", 3), {"v": torch.ones(2), "by": "parameter", "own": np.ones(2)}
    seen = {}
    compute = bind._converted(
        lambda *arrays, **options: seen.update(options) or arrays[0],
        BACKENDS["numpy"],
        Request(case, BACKENDS["torch"]),
    )
    assert isinstance(compute(*map(torch.from_numpy, ARRAYS), **given), torch.Tensor)
    assert type(seen["v"]) is np.ndarray
    assert (seen["by"], seen["own"] is given["own"]) == ("parameter", True)


def test_a_kernel_of_the_callers_library_writes_into_the_memory_that_it_is_given():
    plain, reached = gk.kernel("numpy.broadcast.per_sample"), []

    def build(problem):
        right = plain.build(problem)
        return lambda *arrays, out=None: right(*arrays, out=reached.append(out) or out)

    k = gk.fastest(P, "per_sample", like=ARRAYS, kernel=replace(plain, builder=build))
    reached.clear()
    out = np.empty((3, 2))
    assert k(*ARRAYS, out=out) is out
    assert reached[0] is out or reached[0].base is out
    assert out.tolist() == [[-2, 0], [2, 2], [-4, -12]]


def test_options_of_a_regression_are_looked_at():
    k = gk.fastest(P, "inner", like=ARRAYS, kernel="numpy.broadcast")
    assert k(*ARRAYS, v=np.array([1.0, 2.0])).tolist() == [-2.0, 6.0, -28.0]
    with pytest.raises(ValueError, match="v"):
        k(*ARRAYS, v=np.ones(3))


def test_a_kernel_that_there_is_not_is_told_from_those_that_are_near():
    with pytest.raises(
        ValueError, match="^there is no kernel for norms 'numpy.broadcst'; did you mean numpy.broadcast"
    ):
        gk.fastest(P, "norms", n=5, kernel="numpy.broadcst")


def test_fastest_asks_for_what_it_is_given(monkeypatch):
    room = import_module("gradkernels.dispatch.fastest_kernel")
    monkeypatch.setattr(room, "make_request", lambda *given: given)
    monkeypatch.setattr(room, "bind", lambda request, audited: (request, audited))
    size = {"n": 3, "features": 4, "dtype": "float32", "device": "cpu"}
    how = {"threads": 1, "results": "file", "max_bytes": 5, "calls": 6, "kernel": "way", "audit": False}
    asked = (P, "gradient", Criteria("way", "file", 5, 6, 1), None, Size(3, 4, "float32", "cpu"))
    assert gk.fastest(P, "gradient", **size, **how) == (asked, False)
    free = Criteria(None, None, None, None, None)
    assert gk.fastest(P, "norms", like=ARRAYS) == ((P, "norms", free, ARRAYS, None), True)
    assert gk.fastest(P, "norms", n=3) == ((P, "norms", free, None, Size(3, 1, None, None)), True)


def test_one_feature_is_meant_where_none_is_said():
    case = gk.fastest(P, "gradient", n=3, kernel="numpy.matmul").request.case
    assert (case.n, case.features, case.dtype, case.device) == (3, 1, "float64", "cpu")
