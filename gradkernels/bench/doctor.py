"""Can this machine be trusted for timing: what it is like, and one line of advice for each thing found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.isolation import environment
from gradkernels.bench.timing.slices import TimedCall, no_collection, time_slice, warm_up
from gradkernels.names import counted

CONTROL_SECONDS = 2.0
SLOW = 1.3
"""A slice counts as slow beyond this multiple of the fast ones; a busy sibling thread costs 1.6 to 1.75."""

MOST_SLOW = 0.05
MOST_DRIFT = 0.02
BUSY_LOAD = 0.25  # load per core
READS_PER_SLICE = 50
_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Finding:
    """One thing about the machine.

    Attributes:
        name: What was looked at.
        found: What it is, in words.
        advice: What to do about it, or why nothing need be done.
    """

    name: str
    found: str
    advice: str


def examine(seconds: float = CONTROL_SECONDS) -> list[Finding]:
    """Find out all there is to know about timing on this machine, in order.

    Args:
        seconds: How long to run the control; before libraries load, whose pools could disturb it.
    """
    load_before = load()  # before this very program adds to it
    times = control_times(seconds)
    return [timer(), pinning(), *governor(), turbo(), load_before, slow_mode(times), drift(times), pools()]


def timer() -> Finding:
    """Measure the finest step of the clock, and what reading it costs."""
    reads = [perf_counter_ns() for _ in range(10_000)]
    steps = np.diff(reads)
    step, cost = int(steps[steps > 0].min()), float(np.median(steps))
    longest = READS_PER_SLICE * max(step, cost) * 1e-9
    advice = "fine for slices of 100 microseconds"
    if longest > 100e-6:
        advice = f"too coarse for slices of 100 microseconds: trust no time below {longest:.2g} s"
    return Finding("timer", f"steps of {step} ns, {cost:.0f} ns a reading", advice)


def pinning() -> Finding:
    """Look whether a process can be bound to a core."""
    cores = environment.draw_cores(1, np.random.default_rng())
    if not cores:
        return Finding("pinning", "not possible here", "expect more noise: unpinned duels find less; prefer Linux")
    allowed, there = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    found = f"possible, {allowed} of {counted(there, 'core')} allowed"
    if allowed == 1:
        return Finding("pinning", found, "one core: everything else that runs takes time from what is measured")
    return Finding("pinning", found, "each pass runs on one core drawn at random")


def governor() -> Iterator[Finding]:
    """Read how the system sets the frequency, for each policy in use."""
    names = {_read(file) for file in _CPUS.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    if not names:
        yield Finding("governor", "not readable (usual on virtual machines)", "nothing to set from here")
    for name in sorted(names):
        advice = "fine" if name == "performance" else "sudo cpupower frequency-set -g performance, then measure"
        yield Finding("governor", name, advice)


def turbo() -> Finding:
    """Look whether the frequency may rise above the nominal one."""
    # The two drivers say the opposite: Intel's whether it is off, the general one whether it is on.
    for path, on in ((_CPUS / "intel_pstate/no_turbo", "0"), (_CPUS / "cpufreq/boost", "1")):
        if path.exists():
            if _read(path) != on:
                return Finding("turbo", "off", "fine")
            advice = f"times depend on heat: echo {1 - int(on)} | sudo tee {path}, or compare side by side only"
            return Finding("turbo", "on", advice)
    return Finding("turbo", "not readable", "nothing to set from here")


def load() -> Finding:
    """Read how busy the machine was in the last minute."""
    if not hasattr(os, "getloadavg"):
        return Finding("load", "not readable", "close what computes before measuring")
    cores = os.cpu_count() or 1
    busy = os.getloadavg()[0] / cores
    advice = "fine" if busy <= BUSY_LOAD else "something else is running: wait for it, or close it, before measuring"
    return Finding("load", f"{busy:.0%} of {counted(cores, 'core')} over the last minute", advice)


def control_times(seconds: float) -> np.ndarray[Any, Any]:
    """Time a small fixed computation on one core: seconds per call, for each slice of 100 microseconds."""
    numbers = np.arange(1000.0)
    timed = TimedCall("control", lambda: (numbers * numbers).sum())
    with _pinned(), no_collection():
        warm_up(timed, 0.2)
        until, times = perf_counter() + seconds, []
        while perf_counter() < until:
            times.append(time_slice(timed.call, timed.iterations))
    return np.array(times)


def slow_mode(times: np.ndarray[Any, Any]) -> Finding:
    """Return the fraction of slices that took much longer than the fast ones."""
    fast = float(np.quantile(times, 0.05))
    slow = times > SLOW * fast
    if not slow.any():
        return Finding("slow mode", "never", "fine")
    found = f"{slow.mean():.1%} of slices, {np.median(times[slow]) / fast:.2f} times as long as the fast ones"
    advice = "fine" if slow.mean() <= MOST_SLOW else "a neighbour shares this core: believe ratios from `ab`, not times"
    return Finding("slow mode", found, advice)


def drift(times: np.ndarray[Any, Any]) -> Finding:
    """Return how much the fast slices changed from the first half to the second."""
    first, second = (float(np.quantile(half, 0.25)) for half in np.array_split(times, 2))
    change = second / first - 1
    advice = "fine"
    if abs(change) > MOST_DRIFT:
        advice = "never measure one version after the other: `gradkernels ab` takes turns"
    return Finding("drift", f"{change:+.1%} from the first half to the second", advice)


def pools() -> Finding:
    """List the thread pools that the installed array libraries bring into one process."""
    import threadpoolctl  # type: ignore[import-untyped]

    for backend in BACKENDS.values():
        backend.load()
    found = sorted({(pool["internal_api"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()})
    told = ", ".join(f"{name} with {threads}" for name, threads in found) or "none"
    advice = "fine"
    if sum(threads > 1 for _, threads in found) > 1:
        advice = "pools of several threads spin against each other: OMP_NUM_THREADS=1, as `run` and `ab` set it"
    return Finding("thread pools", told, advice)


@contextmanager
def _pinned() -> Iterator[None]:
    """Hold this process to one core for a while."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    environment.pin(1, np.random.default_rng())
    try:
        yield
    finally:
        environment.pin_to(sorted(before))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "not readable"
