"""Requests: what is read off the caller's arrays, or off a size alone, and what is refused."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.dispatch.request import Criteria, Size, available_threads, make_request, request_like, signature

P = gk.LinearRegression()
ONE, TWO = Criteria(threads=1), Criteria(threads=2)


def module(dtype=torch.float32):
    return gk.ModuleProblem(nn.Linear(3, 2).to(dtype), nn.MSELoss())


def like(n=4, d=2, order="C"):
    return np.ones(d + 1), np.ones((n, d), order=order), np.ones(n)


def test_a_size_alone_is_of_numpy_arrays_on_the_cpu_and_of_tensors_elsewhere():
    found = make_request(P, "norms", TWO, None, Size(7))
    assert found.case == gk.Case(P, "norms", 7, "float64", "cpu", 2, features=1)
    assert (found.library.name, found.criteria, found.foreign, found.arrays) == ("numpy", TWO, False, None)
    found = make_request(P, "norms", ONE, None, Size(7, 3, "float32", "cuda"))
    assert found.case == gk.Case(P, "norms", 7, "float32", "cuda", 1, features=3)
    assert found.library.name == "torch"


def test_the_dtype_and_device_of_a_module_are_its_own_unless_they_are_given():
    found = make_request(module(torch.bfloat16), "norms", ONE, None, Size(7, 3))
    assert (found.case.dtype, found.case.device, found.library.name) == ("bfloat16", "cpu", "torch")
    mixed = module()
    mixed.model.bias.data = mixed.model.bias.data.double()
    assert make_request(mixed, "norms", ONE, None, Size(7, 3)).case.dtype == "float32", "that of the first parameter"
    found = make_request(module(), "norms", ONE, None, Size(7, 3, "float64", "cuda"))
    assert (found.case.dtype, found.case.device, found.library.name) == ("float64", "cuda", "torch")


@pytest.mark.parametrize(
    ("arrays", "layout", "features"),
    [
        (like(), "C", 2),
        (like(order="F"), "F", 2),
        (like(d=1, order="F"), "C", 1),
        ((np.ones(2), np.ones(4), np.ones(4)), "C", 1),
        ((np.ones(2), np.ones(8)[::2], np.ones(4)), "C", 1),
        ((np.ones(3), np.ones((4, 6))[:, ::3], np.ones(4)), "C", 2),
    ],
)
def test_the_case_of_numpy_arrays(arrays, layout, features):
    found = request_like(P, "norms", arrays, TWO)
    assert found.case == gk.Case(P, "norms", 4, "float64", "cpu", 2, layout, features=features)
    assert (found.library.name, found.arrays) == ("numpy", None)


def test_the_case_of_tensors_and_of_a_module():
    tensors = tuple(torch.from_numpy(array.astype("f4")) for array in like(order="F"))
    found = make_request(P, "norms", TWO, tensors, None)
    assert found.case == gk.Case(P, "norms", 4, "float32", "cpu", 2, "C", features=2)
    assert found.library.name == "torch"
    problem, x, y = module(), torch.ones(4, 3), torch.ones(4, 2)
    found = request_like(problem, "norms", (None, x, y), TWO)
    assert found.case == gk.Case(problem, "norms", 4, "float32", "cpu", 2, features=3)
    assert found.library.name == "torch"
    assert found.arrays is not None
    assert [*found.arrays[0]] == ["weight", "bias"]
    assert found.arrays[1] is x


@pytest.mark.parametrize("which", [0, 1, 2, None])
def test_memory_maps_are_converted_and_plain_arrays_are_not(which, tmp_path):
    arrays = [*like()]
    if which is not None:
        np.save(tmp_path / "array.npy", arrays[which])
        arrays[which] = np.load(tmp_path / "array.npy", mmap_mode="r")
    assert request_like(P, "norms", tuple(arrays), ONE).foreign == (which is not None)


def test_no_samples_count_as_one_and_have_no_mean():
    assert request_like(P, "norms", like(n=0), ONE).case.n == 1
    for quantity in ("gradient", "moments"):
        says = rf"^x has n = 0 samples; {quantity} divides by n and needs at least 1$"
        with pytest.raises(ValueError, match=says):
            request_like(P, quantity, like(n=0), ONE)


@pytest.mark.parametrize(("arrays", "size", "which"), [(None, None, "neither"), (like(), Size(3), "both")])
def test_either_a_size_or_arrays_are_given(arrays, size, which):
    with pytest.raises(ValueError, match=rf"^give either n= or like=\(theta, x, y\), not {which}$"):
        make_request(P, "norms", ONE, arrays, size)


@pytest.mark.parametrize(("arrays", "kind"), [(5, "int"), (like()[:2], "tuple"), ([1, 2, 3, 4], "list")])
def test_what_is_not_three_arrays_is_named(arrays, kind):
    with pytest.raises(TypeError, match=rf"^like is a {kind} that is not three arrays; pass \(theta, x, y\)$"):
        request_like(P, "norms", arrays, ONE)


def test_the_targets_of_a_problem_of_outputs_say_which_of_them_is_meant():
    of, x = module().of_outputs(), torch.ones(4, 3)
    assert request_like(of, "norms", (None, x, torch.tensor([0, 1, 1, 0])), ONE).case.n == 4
    with pytest.raises(TypeError, match="^y is None; norms of a problem of outputs is of one of them for each sample"):
        request_like(of, "norms", (None, x, None), ONE)


@pytest.mark.parametrize("name", ["threads", "calls", "max_bytes"])
def test_criteria_are_whole_numbers_of_at_least_one(name):
    for fine in (None, 1, 2**60, np.int64(1), True):
        assert getattr(Criteria(**{name: fine}), name) == fine
    for value in (0, -1):
        with pytest.raises(ValueError, match=rf"^{name} is {value}; it must be at least 1, or None$"):
            Criteria(**{name: value})
    for value, shown in ((1.0, "1.0"), ("1", "'1'")):
        with pytest.raises(TypeError, match=rf"^{name} is {shown}; it must be a whole number of at least 1, or None$"):
            Criteria(**{name: value})


def test_threads_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7}, raising=False)
    assert available_threads() == 3
    assert request_like(P, "norms", like(), Criteria()).case.threads == 3
    assert make_request(P, "norms", Criteria(), None, Size(3)).case.threads == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_threads() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_threads() == 1


def test_arrays_differ_by_class_shape_dtype_and_device():
    tensor = torch.ones(2, 3)
    assert signature(tensor) == (torch.Tensor, (2, 3), torch.float32, torch.device("cpu"))
    assert signature(None) == (type(None), None, None, None)
    some = SimpleNamespace(shape=(2,), device="cpu")
    assert signature(some) == (SimpleNamespace, (2,), None, "cpu")
    some = SimpleNamespace(dtype="half")
    assert signature(some) == (SimpleNamespace, None, "half", None)
