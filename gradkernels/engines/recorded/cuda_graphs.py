"""Recordings replayed as CUDA graphs: a GPU that waits for Python to launch its operations waits no more.

A graph reads and writes the addresses that it was captured with. Parameters, buffers and the memory of results are
where they are, and belong to what tells graphs apart; the samples, and what else is new at each call, are copied to
memory of the graph's own, and what it gives is copied to fresh memory. A graph is kept that gave what a run had given.
"""

from __future__ import annotations

import math
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

UNREPLAYED_CALLS = 64
"""Calls since the last replay of a graph, after which another one may take its place."""

LAUNCH_BOUND = 1.5
"""A GPU that needs at most so many times the time in which the CPU launches its operations waits for the CPU."""


class Replays:
    """Runs a recording on a GPU, by a graph once a kind of call has come a few times and the GPU waits for the CPU.

    Args:
        run: What runs the recording.
        changing: Which tensors are others at each call; all others are read and written where they are.
        found: Further tensors that it takes, at the end.
    """

    def __init__(self, run: Run, changing: slice, found: Sequence[Array] = ()) -> None:
        self._recorded, self._changing, self._found = run, changing, found
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
        with torch.cuda.device(tensors[-1].device):
            if torch.cuda.is_current_stream_capturing():
                return self._run(n, *tensors)
            with self._lock:
                self._calls += 1
                return self._called(torch.cuda.current_stream().cuda_stream, n, *tensors)

    def _called(self, stream: int, n: int, *tensors: Array) -> Sequence[Array]:
        """Replay a graph, capture one, or run the recording as it is.

        Args:
            stream: The current one.
            n: Number of samples.
            tensors: Arguments.
        """
        changing = tensors[self._changing]
        stay = *tensors[: self._changing.start], *tensors[self._changing.stop :], *self._found
        key = n, stream, torch.is_inference_mode_enabled(), _numerics(), *(one.data_ptr() for one in stay)
        if (graph := self._graphs.pop(key, None)) is not None:
            self._graphs[key] = graph  # the last to make room
            graph.used = self._calls
            return graph.replay(changing)
        if not self._is_due(key):
            return self._run(n, *tensors)
        waits, results = self._timed(n, *tensors)
        if waits and (graph := self._captured(stream, n, tensors, results)) is not None:
            self._graphs[key] = graph
            graph.used = self._calls
        return results

    def _run(self, n: int, *tensors: Array) -> Sequence[Array]:
        """Run the operations one by one."""
        return self._recorded(n, *tensors, *self._found)

    def _is_due(self, key: Hashable) -> bool:
        """Return whether a kind of call has come so often that it is to be captured, and there is room."""
        if len(self._seen) >= MOST_SEEN and key not in self._seen:
            self._seen.clear()
        seen = self._seen[key] = self._seen.get(key, 0) + 1
        if seen != CALLS_BEFORE + 1:
            return False
        oldest = next(iter(self._graphs.values()), None)
        if oldest is not None and len(self._graphs) >= MOST_GRAPHS:
            if self._calls - oldest.used < UNREPLAYED_CALLS:
                self._seen[key] = 0
                return False
            unused = next(iter(self._graphs))
            del self._graphs[unused]
            self._seen.pop(unused, None)  # it may come again
        return True

    def _timed(self, n: int, *tensors: Array) -> tuple[bool, Sequence[Array]]:
        """Return whether the GPU waits for the CPU, being done soon after the last launch, and what a run gives."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()
        before = perf_counter()
        results = self._run(n, *tensors)
        launched = perf_counter() - before
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000 <= LAUNCH_BOUND * launched, results

    def _captured(self, stream: int, n: int, tensors: Sequence[Array], results: Sequence[Array]) -> _Graph | None:
        """Return a graph that gives what a run gave; None where the operations cannot be captured.

        Args:
            stream: On which it will be replayed; graphs of one stream share memory, as they never run at once.
            n: Number of samples.
            tensors: Arguments of the recording.
            results: What a run of them gave.
        """
        changing, memory = tensors[self._changing], tensors[self._changing.stop :]
        written: list[Array] = []
        try:
            pool = self._pools.setdefault(stream, torch.cuda.graph_pool_handle())
            own, captured = [one.clone() for one in changing], torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured, pool=pool, capture_error_mode="thread_local"):
                given = self._run(n, *tensors[: self._changing.start], *own, *memory)
            graph = _Graph(captured, own, given)
            written += [one.clone() for one in memory]
            _overwrite([*given, *memory])
            if _agree([*graph.replay(changing), *memory], [*results, *written]):
                return graph
        except Exception:  # it waits for the GPU, say, to look at a value, or there is no memory for it
            pass
        for one, right in zip(memory, written, strict=False):  # none was overwritten before all were copied
            one.copy_(right)
        return None


def _overwrite(tensors: Sequence[Array]) -> None:
    """Fill tensors with what no recording gives, so that it is seen whether a graph writes them."""
    for one in tensors:
        one.fill_(torch.nan if one.is_floating_point() else 0)


def _agree(given: Sequence[Array], wanted: Sequence[Array]) -> bool:
    """Return whether tensors are the same, up to sums that a GPU takes in another order at each run."""
    for one, other in zip(given, wanted, strict=True):
        if not one.is_floating_point():
            if not torch.equal(one, other):
                return False
            continue
        within = math.sqrt(torch.finfo(one.dtype).eps)
        scale = float(other.abs().nan_to_num(0.0, 0.0, 0.0).max()) if other.numel() else 0.0
        if not torch.allclose(one, other, rtol=within, atol=within * scale, equal_nan=True):
            return False
    return True


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

    def replay(self, given: Sequence[Array]) -> list[Array]:
        """Return what it gives for what it reads of this call, as copies."""
        torch._foreach_copy_(self._own, [*given])
        self._graph.replay()
        fresh = [torch.empty_like(one) for one in self._results]
        if fresh:
            torch._foreach_copy_(fresh, self._results)
        return fresh
