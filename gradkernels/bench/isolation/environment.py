"""The surroundings of a worker process: its variables, threads, cores, memory limit, input and output."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

POOL_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS"),
)
UNPINNED = "unpinned"


def child_environment(threads: int) -> dict[str, str]:
    """Return the caller's environment with variables that limit every thread pool and give JAX float64."""
    # XLA_FLAGS do not limit the pool of JAX's CPU client; PJRT_NPROC does.
    jax = {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "PJRT_NPROC": str(threads)}
    return {**os.environ, **dict.fromkeys(POOL_VARIABLES, str(threads)), **jax}


def memory_environment() -> Mapping[str, str]:
    """Return variables with which glibc gives large blocks back at once, so that each kernel's own peak is seen."""
    return {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}


def steady_environment() -> Mapping[str, str]:
    """Return variables with which glibc keeps blocks up to its limit of 32 MiB for the next call in every process.

    Without them it depends on the order of the first allocations whether a process gives its memory back after each
    call, and one of two equal processes may take eight times as long as the other to fault it in again.
    """
    return {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**33)}


def pin(threads: int, rng: np.random.Generator) -> str:
    """Bind this process to `threads` cores drawn at random; return `unpinned` where the system cannot."""
    cores = draw_cores(threads, rng)
    pin_to(cores)
    return "" if cores else UNPINNED


def draw_cores(threads: int, rng: np.random.Generator) -> list[int]:
    """Draw as many cores as threads; none where the system cannot bind to them or has too few."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        return []
    return [int(core) for core in rng.choice(cores, threads, replace=False)]


def pin_to(cores: Sequence[int]) -> None:
    """Bind every thread of this process, those of pools too, to `cores`; leave them as they are if there are none."""
    threads = Path("/proc/self/task")
    if cores:
        for thread in os.listdir(threads) if threads.exists() else ["0"]:
            os.sched_setaffinity(int(thread), cores)


def bound_cores() -> dict[int, set[int]]:
    """Return the cores that each thread of this process may use; nothing where the system does not say."""
    found: dict[int, set[int]] = {}
    if hasattr(os, "sched_getaffinity"):
        threads = Path("/proc/self/task")
        for thread in map(int, os.listdir(threads)) if threads.exists() else [os.getpid()]:
            with suppress(OSError):  # it has ended meanwhile
                found[thread] = os.sched_getaffinity(thread)
    return found


def strayed(before: Mapping[int, set[int]]) -> dict[int, set[int]]:
    """Return the threads that may use other cores than before, and which they were; a new one has those of the first.

    Args:
        before: What `bound_cores` returned.
    """
    first = before.get(os.getpid(), set())
    return {thread: own for thread, cores in bound_cores().items() if cores != (own := before.get(thread, first))}


def private_input() -> BinaryIO:
    """Return the pipe from the parent; file descriptor 0 becomes empty, so that what kernels read is no order."""
    pipe, nothing = os.fdopen(os.dup(0), "rb"), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return pipe


def private_output() -> BinaryIO:
    """Return the pipe to the parent; file descriptor 1 becomes standard error, so that prints of kernels do no harm."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to end this process, and what it forks, when its parent ends, however that happens.

    Args:
        parent: Process number of the parent; if it is gone already, this process ends at once.
    """
    if sys.platform == "linux":
        import ctypes
        import signal

        prctl, pr_set_pdeathsig = ctypes.CDLL(None).prctl, 1
        prctl(pr_set_pdeathsig, signal.SIGKILL)
        os.register_at_fork(after_in_child=lambda: prctl(pr_set_pdeathsig, signal.SIGKILL))
    if parent not in (None, os.getppid()):
        os._exit(0)


def limit_memory(max_bytes: int) -> None:
    """Have the system refuse this process more than `max_bytes` of private writable memory.

    The limit is on the data segment (setrlimit(2), since Linux 4.7), and not on the address space, of which libraries
    reserve many times what they use.
    """
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_DATA)  # only root may ask for more
    limit = max_bytes if most == resource.RLIM_INFINITY else min(max_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def limit_torch(threads: int) -> None:
    """Limit torch's own pools, which do not read every variable."""
    import torch

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)


@contextmanager
def preserved_process_state() -> Iterator[None]:
    """Restore what a kernel may change for all: folder, variables, warnings, output, modes of libraries, cores."""
    folder, variables, output = _folder(), dict(os.environ), (sys.stdout, sys.stderr)
    bound = bound_cores()
    with warnings.catch_warnings(), np.errstate(), _torch_modes():
        try:
            yield
        finally:
            sys.stdout, sys.stderr = output
            for thread, cores in strayed(bound).items():
                with suppress(OSError):  # it has ended meanwhile
                    os.sched_setaffinity(thread, cores)
            if os.environ != variables:
                os.environ.clear()
                os.environ.update(variables)
            if _folder() != folder:
                os.chdir(folder)


def _folder() -> str:
    with suppress(FileNotFoundError):
        return os.getcwd()
    return "/"  # it was removed


@contextmanager
def _torch_modes() -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    modes = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_default_dtype(modes[0])
        torch.set_grad_enabled(modes[1])
        if torch.get_num_threads() != modes[2]:
            torch.set_num_threads(modes[2])
