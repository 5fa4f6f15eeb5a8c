"""The surroundings of a worker process: variables, cores, pipes, its parent, and what kernels leave changed."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from gradkernels.bench.isolation import environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="binds to cores, asks for signals")


# Variables.


def test_every_pool_of_threads_is_limited_and_jax_has_float64(monkeypatch):
    for name in [*os.environ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert environment.child_environment(3) == {
        "HOME": "/home/me",
        "OMP_NUM_THREADS": "3",
        "OPENBLAS_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "3",
        "NUMEXPR_NUM_THREADS": "3",
        "VECLIB_MAXIMUM_THREADS": "3",
        "NUMBA_NUM_THREADS": "3",
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        "PJRT_NPROC": "3",
    }


def test_the_allocator_gives_back_at_once_or_keeps():
    assert environment.memory_environment() == {
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "MALLOC_TOP_PAD_": "0",
    }
    assert environment.steady_environment() == {
        "MALLOC_MMAP_THRESHOLD_": "33554432",
        "MALLOC_TRIM_THRESHOLD_": "8589934592",
    }


def test_torch_is_told_of_its_threads(monkeypatch):
    told = []
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: told.append(("threads", threads)))
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda threads: told.append(("interop", threads)))
    environment.limit_torch(3)
    assert told == [("threads", 3), ("interop", 1)]


# Cores.


@pytest.fixture
def bound(monkeypatch):
    """What threads were bound to, on a machine with the cores 3, 5 and 7."""
    found = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0: {3, 5, 7}}[process])
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, cores: found.update({thread: cores}))
    return found


def test_cores_are_drawn_at_random_and_each_once(bound):
    drawn = [environment.draw_cores(2, np.random.default_rng(seed)) for seed in range(50)]
    assert {tuple(cores) for cores in drawn} == {(3, 5), (5, 3), (3, 7), (7, 3), (5, 7), (7, 5)}
    assert {type(core) for cores in drawn for core in cores} == {int}
    assert sorted(environment.draw_cores(3, np.random.default_rng(0))) == [3, 5, 7]
    assert environment.draw_cores(4, np.random.default_rng(0)) == []


def test_every_thread_is_bound(bound):
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    assert environment.pin(1, np.random.default_rng(0)) == ""
    assert {thread.native_id, os.getpid()} <= bound.keys()
    assert {tuple(cores) for cores in bound.values()} <= {(3,), (5,), (7,)}
    assert len({tuple(cores) for cores in bound.values()}) == 1
    stop.set()
    thread.join()


def test_without_enough_cores_nothing_is_bound(bound):
    assert environment.pin(4, np.random.default_rng(0)) == "unpinned"
    assert bound == {}


def test_without_proc_the_process_is_bound(bound, monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "Path", lambda name: tmp_path / "none")
    environment.pin_to([5])
    assert bound == {0: [5]}


def test_where_the_system_binds_nothing_nothing_is_drawn(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity")
    assert environment.draw_cores(1, np.random.default_rng(0)) == []


# Pipes.


@contextmanager
def replaced(descriptor, other):
    """Another file behind a descriptor of this process."""
    kept = os.dup(descriptor)
    os.dup2(other, descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def test_orders_are_read_by_the_worker_alone():
    read, write = os.pipe()
    os.write(write, b"an order\n")
    with replaced(0, read), environment.private_input() as pipe:
        assert os.read(0, 9) == b""
        assert pipe.readline() == b"an order\n"
    os.close(read)
    os.close(write)


def test_what_kernels_print_goes_to_standard_error():
    (read, write), (errors, error) = os.pipe(), os.pipe()
    with replaced(1, write), replaced(2, error):
        os.close(write)
        with environment.private_output() as pipe:
            pipe.write(b"a message")
            os.write(1, b"printed")
    os.close(error)
    assert (os.read(read, 99), os.read(errors, 99)) == (b"a message", b"printed")
    os.close(read)
    os.close(errors)


# The end of the parent, and memory.


PRCTL, SET_DEATH_SIGNAL, GET_DEATH_SIGNAL = ctypes.CDLL(None).prctl, 1, 2


def death_signal():
    """The signal that this process gets when its parent ends; from then on none."""
    number = ctypes.c_int()
    PRCTL(GET_DEATH_SIGNAL, ctypes.byref(number))
    PRCTL(SET_DEATH_SIGNAL, 0)
    return number.value


def test_a_process_and_what_it_forks_are_killed_at_the_end_of_the_parent(monkeypatch):
    hooks, left = [], []
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr(os, "register_at_fork", lambda **when: hooks.append(when))
    for parent in ([], [None], [os.getppid()]):
        environment.die_with_parent(*parent)
        assert death_signal() == signal.SIGKILL
    assert left == []
    assert [[*when] for when in hooks] == [["after_in_child"]] * 3
    hooks[0]["after_in_child"]()
    assert death_signal() == signal.SIGKILL


def test_a_process_whose_parent_has_ended_already_ends(monkeypatch):
    left = []
    monkeypatch.setattr(os, "register_at_fork", lambda **when: None)
    monkeypatch.setattr(os, "_exit", left.append)
    environment.die_with_parent(os.getpid())
    death_signal()
    assert left == [0]


@pytest.mark.parametrize(
    ("most", "asked", "limit"), [(resource.RLIM_INFINITY, 10**9, 10**9), (10**9, 10**8, 10**8), (10**8, 10**9, 10**8)]
)
def test_memory_is_limited_for_good_but_never_beyond_what_is_allowed(monkeypatch, most, asked, limit):
    monkeypatch.setattr(resource, "getrlimit", {resource.RLIMIT_DATA: (10**7, most)}.__getitem__)
    limited = {}
    monkeypatch.setattr(resource, "setrlimit", limited.__setitem__)
    environment.limit_memory(asked)
    assert limited == {resource.RLIMIT_DATA: (limit, limit)}


# What a kernel may change for all.


def spoil():
    os.chdir("/")
    os.environ["NEW"] = "1"
    del os.environ["KEPT"]
    sys.stdout = sys.stderr = None
    warnings.simplefilter("ignore")
    np.seterr(all="raise")
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(torch.get_num_threads() + 1)
    raise LookupError


def test_what_a_kernel_has_changed_is_restored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEPT", "1")
    before, output, threads = dict(os.environ), (sys.stdout, sys.stderr), torch.get_num_threads()
    with pytest.raises(LookupError), environment.preserved_process_state():
        spoil()
    assert os.getcwd() == str(tmp_path)
    assert dict(os.environ) == before
    assert (sys.stdout, sys.stderr) == output
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)
    assert torch.get_num_threads() == threads
    assert np.geterr()["under"] == "ignore"
    with pytest.raises(UserWarning):
        warnings.warn("told", UserWarning, stacklevel=1)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core alone cannot be exchanged for another")
def test_cores_that_a_kernel_has_taken_are_given_back():
    """A thread of its own as well, and one that it starts."""
    all_ = os.sched_getaffinity(0)
    one, other = sorted(all_)[:2]
    stop, started = threading.Event(), []

    def start():
        started.append(threading.Thread(target=stop.wait))
        started[-1].start()
        return started[-1].native_id

    try:
        os.sched_setaffinity(0, {one})
        old = start()
        bound = environment.bound_cores()
        assert bound[os.getpid()] == bound[old] == {one}
        assert environment.strayed(bound) == {}
        with environment.preserved_process_state():
            os.sched_setaffinity(old, {one, other})
            os.sched_setaffinity(0, {one, other})
            new = start()
            assert environment.strayed(bound) == {os.getpid(): {one}, old: {one}, new: {one}}
        assert [os.sched_getaffinity(thread) for thread in (0, old, new)] == [{one}] * 3
    finally:
        stop.set()
        for thread in started:
            thread.join()
        environment.pin_to(sorted(all_))


def test_a_thread_that_has_ended_meanwhile_has_no_cores(monkeypatch):
    def cores(thread):
        if thread == 5:
            raise ProcessLookupError
        return {thread + 1}

    monkeypatch.setattr(os, "listdir", lambda folder: ["3", "5", "7"])
    monkeypatch.setattr(os, "sched_getaffinity", cores)
    assert environment.bound_cores() == {3: {4}, 7: {8}}


def test_without_proc_the_cores_are_those_of_the_process(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "Path", lambda name: tmp_path / "none")
    assert environment.bound_cores() == {os.getpid(): os.sched_getaffinity(0)}


def test_threads_stray_from_their_own_cores_and_new_ones_from_the_first_s(monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 10)
    monkeypatch.setattr(environment, "bound_cores", lambda: {10: {1}, 11: {2}, 12: {1}, 13: {1, 2}})
    assert environment.strayed({10: {1}, 11: {2}, 9: {5}}) == {13: {1}}
    assert environment.strayed({10: {1}, 11: {1}, 13: {2}}) == {11: {1}, 13: {2}}
    assert environment.strayed({11: {2}}) == {10: set(), 12: set(), 13: set()}


def test_where_the_system_binds_nothing_nothing_has_strayed(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert environment.bound_cores() == {}
    assert environment.strayed({}) == {}


def test_where_the_folder_was_removed_work_goes_on_in_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    os.chdir("gone")
    os.rmdir(tmp_path / "gone")
    with environment.preserved_process_state():
        os.chdir(tmp_path)
    assert os.getcwd() == "/"
