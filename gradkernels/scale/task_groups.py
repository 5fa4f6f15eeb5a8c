"""Several blocks and the merging of their results in one task, since a scheduler takes milliseconds for each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from dask import config
from dask.array.optimization import optimize
from dask.core import flatten, reverse_dict

from gradkernels.scale.lazy_results import combined, finished_blocks

TaskGraph = dict[Any, Any]
"""Tasks of dask by key."""

PER_THREAD = 4
"""Groups of blocks that there are at least for each thread, so that none of them waits long for another one."""

SETTING = "array_optimize"
"""Under which name dask's configuration has what optimises graphs of arrays."""


def group_tasks(threads: int) -> None:
    """Have dask compute blocks in the task that merges their results, unless the user has set an optimisation.

    The results are the same to the last bit: what is merged with what is settled before.

    Args:
        threads: That compute blocks at once.
    """
    if config.get(SETTING, None) is None or is_ours():
        config.set({SETTING: partial(optimize_with_groups, threads)})


def leave_tasks_alone() -> None:
    """Have dask optimise as it does by itself."""
    if is_ours():
        config.config.pop(SETTING, None)


def is_ours() -> bool:
    """Tell whether `group_tasks` is in force."""
    return getattr(config.get(SETTING, None), "func", None) is optimize_with_groups


def optimize_with_groups(threads: int, graph: Any, keys: Any, **options: Any) -> TaskGraph:
    """Return a graph as dask optimises it, with groups of blocks as one task each.

    Args:
        threads: That compute blocks at once; where there are few groups, blocks are tasks of their own.
        graph: Of arrays.
        keys: That are asked for.
        options: Of dask's optimisation.
    """
    found: TaskGraph = dict(optimize(graph, keys, **options))
    asked = set(flatten([keys]))
    groups = dict(_groups(found, asked))
    if len(groups) < PER_THREAD * threads:
        return found
    for key, inside in groups.items():
        tasks = [found.pop(one) for one in inside]
        found[key] = type(found[key]).fuse(*tasks, found[key])
    return found


def _groups(graph: TaskGraph, asked: set[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the key of each task that merges blocks, and the keys of what is needed for that alone.

    Args:
        graph: Of dask's tasks.
        asked: Keys that stay.
    """
    needs = {key: set(task.dependencies) for key, task in graph.items()}
    needed_by = reverse_dict(needs)
    merging = {key for key, task in graph.items() if _merges(task)}
    stay = asked | merging | {key for key, task in graph.items() if not hasattr(task, "func")}
    for key in merging:
        if not needs[key] & merging:
            inside, open_ = {key}, [*needs[key]]
            while open_:
                one = open_.pop()
                if one not in inside and one not in stay and needed_by[one] <= inside:
                    inside.add(one)
                    open_ += needs[one]
            yield key, sorted(inside - {key}, key=str)


def _merges(task: Any) -> bool:
    function: Callable[..., Any] | None = getattr(task, "func", None)
    return getattr(function, "func", None) in (combined, finished_blocks)
