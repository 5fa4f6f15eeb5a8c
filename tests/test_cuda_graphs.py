"""Which graph of a recording is replayed, and with what: on a stand-in for CUDA, whose graphs run Python again."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from gradkernels.engines.recorded import cuda_graphs
from gradkernels.engines.recorded.cuda_graphs import CALLS_BEFORE, MOST_GRAPHS, UNREPLAYED_CALLS, Replays

capturing = []


class Graph:
    """What a capture noted: a function that is run at each replay."""

    program = None

    def replay(self):
        self.program()


@contextmanager
def capture(graph, pool, capture_error_mode):
    assert capture_error_mode == "thread_local"
    capturing.append(graph)
    try:
        yield
    finally:
        capturing.pop()


class Event:
    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        pass

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return Event.milliseconds


@pytest.fixture
def cuda(monkeypatch):
    """A stand-in for torch.cuda in which the GPU always waits; its current stream can be set."""
    Event.milliseconds = 0.0
    fake = SimpleNamespace(
        Event=Event, CUDAGraph=Graph, graph=capture, synchronize=lambda: None, graph_pool_handle=object, stream=1,
        is_current_stream_capturing=lambda: False, device=lambda device: nullcontext(),
        current_stream=lambda: SimpleNamespace(cuda_stream=fake.stream),
    )  # fmt: skip
    monkeypatch.setattr(cuda_graphs.torch, "cuda", fake)
    return fake


def doubled(faulty=False):
    """A recording: theta * x in a new tensor, or in memory; noted where it is captured."""
    runs = []

    def run(n, theta, x, *out):
        runs.append(n)
        result = out[0] if out else torch.empty_like(x)

        def program():
            torch.mul(theta, x, out=result)
            if faulty:
                result.add_(1)

        if capturing:
            capturing[-1].program = program
            if not out:
                result.fill_(torch.nan)  # a capture computes nothing
        else:
            torch.mul(theta, x, out=result)
        return [] if out else [result]

    return Replays(run, slice(1, 2)), runs


def test_a_call_that_comes_again_is_replayed_with_its_own_samples(cuda):
    replays, runs = doubled()
    theta, results = torch.tensor([2.0, 3.0]), []
    for step in range(CALLS_BEFORE + 4):
        results.append(replays(2, theta, torch.tensor([1.0, 10.0 * step]))[0])
    assert [one.tolist() for one in results] == [[2.0, 30.0 * step] for step in range(CALLS_BEFORE + 4)]
    assert (len(runs), replays.count) == (CALLS_BEFORE + 2, 1)  # one that is timed, one that is captured
    theta.fill_(5.0)
    assert replays(2, theta, torch.ones(2))[0].tolist() == [5.0, 5.0], "what stays is read where it is"


def test_what_was_found_besides_is_read_where_it_is_now(cuda):
    found = torch.tensor([3.0])

    def run(n, theta, x, scale):
        result = torch.empty_like(x)

        def program():
            torch.mul(theta * scale, x, out=result)

        if capturing:
            capturing[-1].program = program
        else:
            program()
        return [result]

    replays, theta = Replays(run, slice(1, 2), [found]), torch.tensor([2.0])
    for _ in range(CALLS_BEFORE + 2):
        assert replays(1, theta, torch.ones(1))[0].tolist() == [6.0]
    found.data = torch.tensor([5.0])
    for _ in range(CALLS_BEFORE + 2):
        assert replays(1, theta, torch.ones(1))[0].tolist() == [10.0]
    assert replays.count == 2


@pytest.mark.parametrize("memory", [False, True])
def test_what_fails_while_a_graph_is_made_leaves_the_results_of_the_run(cuda, monkeypatch, memory):
    def failing(self):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(Graph, "replay", failing)
    replays, runs = doubled()
    theta, out = torch.tensor([2.0, 3.0]), [torch.zeros(2)] if memory else []
    for step in range(CALLS_BEFORE + 3):
        result = [*replays(2, theta, torch.tensor([1.0, step]), *out), *out]
        assert result[0].tolist() == [2.0, 3.0 * step]
    assert (len(runs), replays.count) == (CALLS_BEFORE + 4, 0)


def test_a_capture_that_computes_nothing_on_replay_is_not_kept(cuda, monkeypatch):
    monkeypatch.setattr(Graph, "replay", lambda self: None)
    replays, runs = doubled()
    theta = torch.tensor([2.0])
    for _ in range(CALLS_BEFORE + 3):
        assert replays(1, theta, torch.ones(1))[0].tolist() == [2.0]
    assert len(runs) == CALLS_BEFORE + 4
    assert replays.count == 0


def test_other_tensors_numbers_streams_and_settings_get_graphs_of_their_own(cuda, monkeypatch):
    replays, _ = doubled()
    theta, other = torch.tensor([2.0]), torch.tensor([3.0])

    def call(times, theta, n=1):
        for _ in range(times):
            (result,) = replays(n, theta, torch.full((n,), 7.0))
        assert result.tolist() == [7.0 * theta.item()] * n
        return replays.count

    assert [call(CALLS_BEFORE, theta), call(1, theta), call(2, theta)] == [0, 1, 1]
    assert [call(CALLS_BEFORE + 1, other), call(1, theta)] == [2, 2]
    assert call(CALLS_BEFORE + 1, theta, n=4) == 3
    cuda.stream = 2
    assert [call(CALLS_BEFORE, theta), call(1, theta)] == [3, 4]
    with torch.inference_mode():
        assert call(CALLS_BEFORE + 1, theta) == 5
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert [call(CALLS_BEFORE, theta), call(1, theta)] == [5, 6]


def test_memory_for_results_is_written_where_it_is(cuda):
    replays, runs = doubled()
    theta, out = torch.tensor([2.0, 3.0]), torch.zeros(2)
    for step in range(CALLS_BEFORE + 4):
        assert replays(2, theta, torch.tensor([1.0, step]), out) == []
        assert out.tolist() == [2.0, 3.0 * step]
    elsewhere = torch.zeros(2)
    replays(2, theta, torch.ones(2), elsewhere)
    assert (out.tolist(), elsewhere.tolist()) == ([2.0, 15.0], [2.0, 3.0])
    assert (len(runs), replays.count) == (CALLS_BEFORE + 3, 1)


@pytest.mark.parametrize("memory", [False, True])
def test_a_graph_that_gives_something_else_is_not_kept(cuda, memory):
    replays, runs = doubled(faulty=True)
    theta, out = torch.tensor([2.0, 3.0]), [torch.zeros(2)] if memory else []
    for step in range(CALLS_BEFORE + 4):
        result = [*replays(2, theta, torch.tensor([1.0, step]), *out), *out]
        assert result[0].tolist() == [2.0, 3.0 * step]
    assert (len(runs), replays.count) == (CALLS_BEFORE + 5, 0)


def test_what_cannot_be_captured_or_has_enough_to_do_runs_as_it_is(cuda, monkeypatch):
    replays, runs = doubled()

    def failing(graph, pool, capture_error_mode):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda, "graph", failing)
    theta = torch.tensor([2.0])
    assert [replays(1, theta, torch.ones(1))[0].item() for _ in range(6)] == [2.0] * 6
    assert (len(runs), replays.count) == (6, 0)
    monkeypatch.setattr(cuda, "graph", capture)
    Event.milliseconds = 1e6
    busy, runs = doubled()
    assert [busy(1, theta, torch.ones(1))[0].item() for _ in range(6)] == [2.0] * 6
    assert (len(runs), busy.count) == (6, 0)
    Event.milliseconds = 0.0
    monkeypatch.setattr(cuda, "is_current_stream_capturing", lambda: True)
    inside, runs = doubled()
    assert [inside(1, theta, torch.ones(1))[0].item() for _ in range(6)] == [2.0] * 6
    assert (len(runs), inside.count) == (6, 0)


def test_graphs_are_bounded_and_make_room_when_they_are_not_used(cuda):
    replays, _ = doubled()
    theta = torch.tensor([2.0])
    for n in range(1, MOST_GRAPHS + 4):
        for _ in range(CALLS_BEFORE + 1):
            replays(n, theta, torch.ones(n))
    assert replays.count == MOST_GRAPHS
    for _ in range(UNREPLAYED_CALLS):
        replays(1, theta, torch.ones(1))
    for _ in range(CALLS_BEFORE + 1):
        assert replays(99, theta, torch.ones(99))[0].tolist() == [2.0] * 99
    assert replays.count == MOST_GRAPHS
    for _ in range(UNREPLAYED_CALLS):
        replays(99, theta, torch.ones(99))
    evicted = 2
    for _ in range(CALLS_BEFORE + 1):
        replays(evicted, theta, torch.ones(evicted))
    assert any(key[0] == evicted for key in replays._graphs), "what made room may come back"
    before = replays.count
    for _ in range(3):
        assert replays(99, theta, torch.ones(99))[0].tolist() == [2.0] * 99
    assert replays.count == before


def test_results_without_entries_and_without_numbers_agree(cuda):
    nan = torch.tensor([torch.nan, 1.0])
    assert cuda_graphs._agree([nan, torch.zeros(0), torch.tensor([True])], [nan, torch.zeros(0), torch.tensor([True])])
    assert not cuda_graphs._agree([torch.tensor([True])], [torch.tensor([False])])
    assert not cuda_graphs._agree([torch.tensor([0.0, 1.0])], [nan])
    assert cuda_graphs._agree([torch.tensor([1.0, 1e-9])], [torch.tensor([1.0, 0.0])])
    assert not cuda_graphs._agree([torch.tensor([1.0, 1e-3])], [torch.tensor([1.0, 0.0])])
