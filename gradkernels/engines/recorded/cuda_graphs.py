"""Recordings replayed as CUDA graphs: a GPU that waits for Python to launch its operations waits no more.

A graph reads and writes the addresses that it was captured with. Parameters, buffers and the memory of results are
where they are, and belong to what tells graphs apart; the samples, and what else is new at each call, are copied to
memory of the graph's own, and what it gives is copied to fresh memory.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from threading import Lock
from time import perf_counter
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.recorded.executors import Run

MOST_GRAPHS = 8
"""That one recording keeps; each holds what it needs between its operations."""

MOST_SEEN = 64
"""Kinds of call that are counted until they are captured."""

CALLS_BEFORE = 2
"""Calls of a kind that run as they are, so that libraries are loaded and have their workspace."""

UNUSED_CALLS = 64
"""Calls since the last replay of a graph, after which another one may take its place."""

LAUNCH_BOUND = 1.5
"""A GPU that needs at most so many times the time in which the CPU launches its operations waits for the CPU."""


class Replays:
    """Runs a recording on a GPU, by a graph once a kind of call has come a few times and the GPU waits for the CPU.

    Args:
        run: What runs the recording.
        changing: Which tensors are others at each call; all others are read and written where they are.
    """

    def __init__(self, run: Run, changing: slice) -> None:
        self._run, self._changing = run, changing
        self._graphs: dict[Hashable, _Graph] = {}
        self._seen: dict[Hashable, int] = {}
        self._pools: dict[int, Any] = {}
        self._calls, self._lock = 0, Lock()

    @property
    def count(self) -> int:
        """Number of graphs that are kept."""
        return len(self._graphs)

    def __call__(self, n: int, *tensors: Array) -> Sequence[Array]:
        """Return what the recording gives, in memory that no later call writes to.

        Args:
            n: Number of samples.
            tensors: Arguments of the recording, all on one GPU.
        """
        if torch.cuda.is_current_stream_capturing():
            return self._run(n, *tensors)
        stream = torch.cuda.current_stream(tensors[-1].device).cuda_stream
        changing = tensors[self._changing]
        stay = *tensors[: self._changing.start], *tensors[self._changing.stop :]
        key = n, stream, torch.is_inference_mode_enabled(), _numerics(), *(one.data_ptr() for one in stay)
        with self._lock:
            self._calls += 1
            if (graph := self._graphs.pop(key, None)) is not None:
                self._graphs[key] = graph  # the last to make room
                return graph.replay(changing, self._calls)
            if not self._is_due(key):
                return self._run(n, *tensors)
            results = self._captured(key, stream, (n, *tensors)) if self._waits(n, *tensors) else None
            return self._run(n, *tensors) if results is None else results

    def _is_due(self, key: Hashable) -> bool:
        """Return whether a kind of call has come so often that it is to be captured, and there is room."""
        if len(self._seen) >= MOST_SEEN and key not in self._seen:
            self._seen.clear()
        seen = self._seen[key] = self._seen.get(key, 0) + 1
        if seen != CALLS_BEFORE + 1:
            return False
        oldest = next(iter(self._graphs.values()), None)
        if oldest is not None and len(self._graphs) >= MOST_GRAPHS:
            if self._calls - oldest.used < UNUSED_CALLS:
                self._seen[key] = 0
                return False
            del self._graphs[next(iter(self._graphs))]
        return True

    def _waits(self, n: int, *tensors: Array) -> bool:
        """Return whether the GPU waits for the CPU: it is done soon after the last operation was launched."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()
        before = perf_counter()
        self._run(n, *tensors)
        launched = perf_counter() - before
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000 <= LAUNCH_BOUND * launched

    def _captured(self, key: Hashable, stream: int, arguments: tuple[Any, ...]) -> Sequence[Array] | None:
        """Return what a new graph gives; None where the operations cannot be captured.

        Args:
            key: Of the graph.
            stream: On which it will be replayed; graphs of one stream share memory, as they never run at once.
            arguments: Of the recording.
        """
        n, *tensors = arguments
        pool = self._pools.setdefault(stream, torch.cuda.graph_pool_handle())
        own = [one.clone() for one in tensors[self._changing]]
        given = tensors[: self._changing.start], own, tensors[self._changing.stop :]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                results = self._run(n, *(one for part in given for one in part))
        except Exception:  # it waits for the GPU, say, to look at a value
            return None
        self._graphs[key] = made = _Graph(graph, own, results)
        return made.replay(tensors[self._changing], self._calls)


def _numerics() -> tuple[Any, ...]:
    """Return the settings by which torch chooses how a GPU computes: a graph keeps to those of its capture."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    parts = cuda, getattr(cudnn, "conv", cudnn), getattr(cudnn, "rnn", cudnn)
    precision = [getattr(one, "fp32_precision", None) or one.allow_tf32 for one in parts]
    return *precision, cudnn.enabled, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()


class _Graph:
    """A graph with what it reads and what it gives.

    Args:
        graph: It.
        own: What it reads of each call.
        results: What it gives, until it is replayed.

    Attributes:
        used: Number of the last call that replayed it.
    """

    def __init__(self, graph: Any, own: list[Array], results: Sequence[Array]) -> None:
        self._graph, self._own, self._results = graph, own, [*results]
        self.used = 0

    def replay(self, given: Sequence[Array], call: int) -> list[Array]:
        """Return what it gives, as copies.

        Args:
            given: What it reads of this call.
            call: The number of the call.
        """
        self.used = call
        torch._foreach_copy_(self._own, [*given])
        self._graph.replay()
        fresh = [torch.empty_like(one) for one in self._results]
        if fresh:
            torch._foreach_copy_(fresh, self._results)
        return fresh
