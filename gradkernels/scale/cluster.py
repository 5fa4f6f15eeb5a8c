"""Workers on this machine: dask.distributed's own cluster, sized to it and reachable from it alone."""

from __future__ import annotations

from typing import Any

from dask import config
from dask.system import CPU_COUNT
from distributed import LocalCluster

from gradkernels.scale.task_groups import group_tasks, leave_tasks_alone
from gradkernels.thread_variables import XLA_VARIABLES
from gradkernels.validate import validate_count

LOOPBACK = "127.0.0.1"

FEWER_LOOKS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.worker.memory.monitor-interval": "250ms",
}
"""Settings of distributed's processes, which by default look at themselves so often that on a machine of two cores a
seventh of one is gone before there is any work. A worker's memory is still looked at four times a second."""


class Workers(LocalCluster):  # type: ignore[misc] # distributed has no types
    """Workers on this machine, that are given several small blocks at once for as long as they are there."""

    def close(self, timeout: float | None = None) -> Any:
        """End them.

        Args:
            timeout: Seconds that they have for it.
        """
        leave_tasks_alone()
        return super().close(timeout)


def cluster(workers: int | None = None, threads: int = 1, memory_limit: str | float = "auto") -> LocalCluster:
    """Start workers on this machine, on which dask computes from then on: `with gk.cluster(): lazy.compute()`.

    Each is a process of its own, so that one that dies takes no other along; its work is done again. In a script the
    call belongs below `if __name__ == "__main__":`, since workers import the script.

    Args:
        workers: Number of processes; None for one for each core that this process may use.
        threads: Of each worker, each of which computes a block; kernels themselves use one.
        memory_limit: Of each worker, in bytes or as `"2 GiB"`: one that needs more is started anew; "auto" for its
            share of the machine's.

    Returns:
        The cluster: `close()` it, or use it as a context. `get_client()` is the default client.

    Raises:
        ValueError: Fewer than one of either.
    """
    for name, value in (("workers", workers), ("threads", threads)):
        validate_count(name, value)
    count = workers or CPU_COUNT
    group_tasks(count * threads)
    with config.set(FEWER_LOOKS):  # of which each process has a copy, workers that are started anew too
        started = Workers(
            n_workers=count,
            threads_per_worker=threads,
            processes=True,
            host=LOOPBACK,
            dashboard_address=f"{LOOPBACK}:0",
            memory_limit=memory_limit,
            env=_variables(),
        )
    started.default_client = started.get_client()  # which lives as long as something holds it
    return started


def _variables() -> dict[str, str]:
    """Return what has to be set in a worker before JAX loads; distributed itself gives BLAS one thread."""
    return {"JAX_ENABLE_X64": "1", XLA_VARIABLES[0]: "1"}
