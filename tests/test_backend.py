"""Array libraries: arrays go in and come back as they were, and what cannot be done is a reason."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.backend import BACKENDS, LIBRARIES, backend_of

TORCH = BACKENDS["torch"]


@pytest.fixture(params=LIBRARIES)
def backend(request):
    return LIBRARIES[request.param]


def frozen(array):
    array = array.copy(order="K")
    array.flags.writeable = False
    return array


PACKED = np.zeros(5, dtype=[("a", "i4"), ("b", "f8")])
PACKED["b"] = [1, 2, 3, 4, 5]
ARRAYS = {
    "plain": np.arange(6.0).reshape(2, 3),
    "columns together": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "backwards": np.arange(6.0).reshape(2, 3)[::-1, ::-1],
    "with gaps": np.arange(24.0).reshape(4, 6)[::2, 1::2],
    "repeated": np.broadcast_to(np.arange(3.0), (2, 3)),
    "read-only": frozen(np.arange(6.0)),
    "read-only columns together": frozen(np.asfortranarray(np.arange(6.0).reshape(2, 3))),
    "read-only backwards": frozen(np.arange(12.0))[::-2],
    "field of packed rows": PACKED["b"],
    "empty": np.empty((0, 3)),
    "empty read-only": frozen(np.empty((0, 3))),
    "single": np.array(7.0),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ARRAYS)
def test_any_memory_goes_in_and_comes_back_without_a_warning(name, dtype, backend):
    array = ARRAYS[name] if dtype == "float64" else np.asarray(ARRAYS[name], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        there = backend.put(array)
    assert backend_of(there) is backend
    back = backend.get(there)
    assert type(back) is np.ndarray
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)


def test_torch_shares_the_memory_of_numpy_also_when_it_is_read_only():
    for array in (np.arange(4.0), frozen(np.arange(4.0))):
        assert np.shares_memory(TORCH.get(TORCH.put(array)), array)


def test_the_memory_lives_as_long_as_the_tensor():
    tensor = TORCH.put(frozen(np.full(1_000_000, 3.0)))
    np.zeros(1_000_000)  # would take the place of memory that was given back
    assert bool((tensor == 3).all())


def test_torch_keeps_the_memory_order():
    assert TORCH.put(ARRAYS["columns together"]).stride() == (1, 2)
    assert TORCH.put(ARRAYS["read-only columns together"]).stride() == (1, 2)


def test_what_jax_gives_back_can_be_written_to():
    jax = BACKENDS["jax"]
    back = jax.get(jax.put(np.arange(3.0)))
    back[0] = 7
    assert back[0] == 7


def test_a_tensor_with_a_graph_comes_back_as_numbers():
    import torch

    assert TORCH.get(torch.ones(2, requires_grad=True) * 3).tolist() == [3, 3]


@pytest.mark.parametrize("thing", [3.0, [1.0], (1.0,), None, "x", np.float64(3), np.ma.array([1.0])])
def test_what_is_no_array_has_no_backend(thing):
    assert backend_of(thing) is None


@pytest.mark.parametrize(
    ("name", "device", "reasons"),
    [
        ("numpy", "cpu", []),
        ("numpy", "cuda", ["numpy computes on cpu here, not on cuda"]),
        ("torch", "mps", ["torch computes on cpu or cuda here, not on mps"]),
        ("jax", "cuda:1", ["jax computes on cpu here, not on cuda:1"]),
    ],
)
def test_a_device_that_a_library_does_not_have_is_a_reason(name, device, reasons):
    assert BACKENDS[name].refuses("float64", device) == reasons


def test_the_memory_order_of_numpys_arrays_is_told_and_that_of_others_is_c():
    plane = np.zeros((3, 2))
    assert [BACKENDS["numba"].arrays.layout(one) for one in (plane, plane.T, plane[:, 0])] == ["C", "F", "C"]
    assert TORCH.arrays.layout(None) == BACKENDS["jax"].arrays.layout(None) == "C"


def test_cuda_that_torch_does_not_see_is_a_reason(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert TORCH.refuses("float64", "cuda:0") == ["torch sees no CUDA device on this machine"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert TORCH.refuses("float64", "cuda") == TORCH.refuses("float64", "cuda:1") == []
    assert TORCH.refuses("float64", "cuda:2") == ["torch sees 2 CUDA devices on this machine"]


X64 = """
from gradkernels.backend import BACKENDS
refuses = BACKENDS["jax"].refuses
print(refuses("float64", "cpu"), refuses("float32", "cpu"))
import jax
print(refuses("float64", "cpu"))
jax.config.update("jax_enable_x64", {switch})
print(refuses("float64", "cpu"))
"""
NO_X64 = (
    "[\"JAX computes float64 as float32 until x64 is on: call jax.config.update('jax_enable_x64', True) or set "
    'JAX_ENABLE_X64=1 at your entry point"]'
)


@pytest.mark.parametrize(
    ("variable", "switch", "expected"),
    [("", True, [f"{NO_X64} []", NO_X64, "[]"]), ("0", True, [f"{NO_X64} []", NO_X64, "[]"]),
     ("1", False, ["[] []", "[]", NO_X64]), ("true", False, ["[] []", "[]", NO_X64])],
)  # fmt: skip
def test_jax_refuses_float64_exactly_until_x64_is_on(variable, switch, expected):
    environment = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    if variable:
        environment["JAX_ENABLE_X64"] = variable
    done = subprocess.run([sys.executable, "-c", X64.format(switch=switch)], env=environment,
                          capture_output=True, text=True, check=True, timeout=60)  # fmt: skip
    assert done.stdout.splitlines() == expected


def test_waiting_returns_the_result(backend):
    result = {"a": backend.put(np.arange(3.0))}
    assert backend.wait(result)["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("entries", "low", "within"),
    [
        ([2.0, 9.0], 1.0, True), ([1.0, 9.0], 1.0, False), ([2.0, 9.5], 1.0, False), ([2.0, np.nan], 1.0, False),
        ([2.0, np.inf], 1.0, False), ([-3.0, 9.0], -np.inf, True), ([np.nan, 9.0], -np.inf, False),
    ],
)  # fmt: skip
def test_entries_are_all_between_two_numbers_or_not(name, entries, low, within):
    library = BACKENDS[name]
    assert library.arrays.all_between(library.put(np.array(entries)), low, 9.0) is within


def test_of_what_jax_compiles_no_entry_is_known():
    assert BACKENDS["jax"].arrays.all_between is None


def test_libraries_without_arrays_of_their_own_take_those_of_another():
    assert set(LIBRARIES) == {"numpy", "torch", "jax"}
    borrowed = {name: backend.host.name for name, backend in BACKENDS.items() if name not in LIBRARIES}
    ours = {"numba": "numpy", "sklearn": "numpy", "statsmodels": "numpy", "opacus": "torch", "backpack": "torch"}
    assert borrowed == ours
    array = np.arange(3.0)
    for name in (name for name, host in borrowed.items() if host == "numpy"):
        backend = BACKENDS[name]
        assert backend.xp is np
        assert backend.put(array) is array
        assert backend.get(array) is array
        assert backend.wait(array) is array
        assert backend.eager("cpu")


def test_a_missing_library_is_named_as_it_is_installed(monkeypatch):
    monkeypatch.setattr("gradkernels.backend.libraries._found", lambda name: False)
    assert BACKENDS["sklearn"].refuses("float64", "cpu") == ["sklearn is not installed: pip install scikit-learn"]
    assert BACKENDS["numba"].refuses("float64", "cuda") == ["numba is not installed: pip install numba"]


def test_only_jax_compiles():
    def function(x):
        return x

    assert BACKENDS["numpy"].compile(function) is function
    assert TORCH.compile(function) is function
    assert BACKENDS["jax"].compile(function) is not function


def test_looking_for_a_library_does_not_load_it():
    code = """
import sys
from gradkernels.backend import BACKENDS
print({backend.installed for backend in BACKENDS.values()}, set(BACKENDS) & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "{True} {'numpy'}"


def test_every_backend_is_known_by_the_first_part_of_a_key():
    assert {kernel.key.partition(".")[0] for kernel in gk.kernels()} == set(BACKENDS)
