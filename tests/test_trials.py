"""Kernels take turns in the calls of a program once that can pay; who is fastest there computes from then on."""

import pytest
import torch
from measured import record
from torch import nn

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.dispatch import select, wisdom
from gradkernels.dispatch.machine import machine
from gradkernels.dispatch.request import Criteria, Request
from gradkernels.dispatch.select import Choice, choose
from gradkernels.dispatch.trials import trial as trial_module
from gradkernels.dispatch.trials.trial import KernelTrial
from gradkernels.dispatch.trials.trials import Trials
from gradkernels.kernel import declare
from gradkernels.problems.module.module_problem import ModuleProblem

HOOKS, VMAP, LOOP = (gk.kernel(f"torch.{way}.norms") for way in ("hooks", "vmap+", "loop+"))


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(trial_module, "_clock", lambda device: self.now)

    def call(self, seconds):
        """Return a call that takes so long."""

        def run():
            self.now += seconds
            return "result"

        return run


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def problem_of(model=None):
    torch.manual_seed(0)
    return ModuleProblem(model or nn.Linear(3, 2), nn.CrossEntropyLoss())


def turns(trial, clock, seconds, calls):
    """Let kernels compute `calls` calls, each as long as `seconds` says; return who did."""
    seen = []
    for _ in range(calls):
        kernel = trial.turn(())
        assert trial.timed(kernel, "cpu", clock.call(seconds[kernel].pop(0))) == "result"
        seen.append(kernel)
    return seen


def test_first_calls_count_for_nothing_and_the_fastest_of_the_others_computes_from_then_on(clock):
    trial = KernelTrial((HOOKS, VMAP))
    seconds = {HOOKS: [9.0, 3.0, 3.0, 3.0, 3.0, 30.0], VMAP: [100.0, 2.0, 2.0, 20.0, 2.0, 2.0, *[50.0] * 9]}
    assert turns(trial, clock, seconds, 12) == [HOOKS, VMAP] * 6
    assert turns(trial, clock, seconds, 9) == [VMAP] * 9
    assert (trial.winner, trial.typical(HOOKS), trial.typical(VMAP)) == (VMAP, 3.0, 2.0)


@pytest.mark.parametrize(("rival", "winner"), [(0.96, VMAP), (0.98, HOOKS), (1.0, HOOKS), (1.1, HOOKS)])
def test_a_rival_has_to_be_faster_by_more_than_measurements_differ(clock, rival, winner):
    trial = KernelTrial((HOOKS, VMAP))
    turns(trial, clock, {HOOKS: [1.0] * 6, VMAP: [rival] * 6}, 12)
    assert trial.turn(()) is winner


def test_who_is_excluded_has_no_turn_and_cannot_win(clock):
    trial = KernelTrial((HOOKS, VMAP, LOOP))
    assert [trial.turn({HOOKS}), trial.turn({HOOKS, VMAP}), trial.turn({HOOKS, VMAP, LOOP})] == [VMAP, LOOP, None]
    choice = Choice(HOOKS, "a rule", (), ())
    assert trial.apply(choice, {HOOKS, VMAP, LOOP}) is choice
    turns(trial, clock, {HOOKS: [1.0] * 6, VMAP: [0.1] * 6, LOOP: [0.2] * 6}, 18)
    assert (trial.turn({VMAP}), trial.turn({})) == (LOOP, LOOP)


def test_a_winner_that_is_excluded_for_a_while_is_back_after_it(clock):
    trial = KernelTrial((HOOKS, VMAP))
    turns(trial, clock, {HOOKS: [1.0] * 6, VMAP: [0.1] * 6}, 12)
    assert [trial.turn(()), trial.turn({VMAP}), trial.turn(())] == [VMAP, HOOKS, VMAP]


def test_a_choice_by_trial_tells_the_times(clock):
    trial, choice = KernelTrial((HOOKS, VMAP)), Choice(HOOKS, "a rule", (), ((LOOP, "it is slow"),))
    assert trial.apply(choice, ()).source == "turns that kernels take in this program's calls, to be timed"
    turns(trial, clock, {HOOKS: [1.0] * 6, VMAP: [0.5] * 6}, 12)
    source = "the calls of this program, in which they took turns"
    assert trial.apply(choice, ()) == Choice(VMAP, source, ((VMAP, 0.5), (HOOKS, 1.0)), ((LOOP, "it is slow"),))


def test_what_had_one_call_or_none_has_no_typical_time_and_one_later_call_is_one(clock):
    trial = KernelTrial((HOOKS, VMAP), {HOOKS: [9.0], VMAP: [9.0, 2.0]})
    assert [*map(trial.typical, (LOOP, HOOKS, VMAP))] == [float("inf"), float("inf"), 2.0]


def test_a_choice_by_trial_tells_no_time_of_who_had_its_first_call_alone():
    trial = KernelTrial((HOOKS, VMAP, LOOP), {HOOKS: [9.0], VMAP: [9.0, 2.0], LOOP: []}, winner=VMAP)
    assert trial.apply(Choice(HOOKS, "a rule", (), ()), ()).costs == ((VMAP, 2.0),)


def test_a_gpu_is_waited_for_before_and_after_a_timed_call(monkeypatch):
    done = []
    monkeypatch.setattr("torch.cuda.synchronize", done.append)
    trial = KernelTrial((HOOKS, VMAP))
    trial.timed(HOOKS, "cuda:1", lambda: done.append("call"))
    assert done == ["cuda:1", "call", "cuda:1"]
    trial.timed(HOOKS, "cpu", lambda: done.append("call"))
    assert done[3:] == ["call"]


def request_of(n, problem=None, **criteria):
    return Request(gk.Case(problem or problem_of(), "norms", n), BACKENDS["torch"], Criteria(**criteria))


def choice_with(pays_after):
    rival = declare("torch.rival.norms", problems=ModuleProblem, pays_after=pays_after)(lambda problem: None)
    return Choice(HOOKS, "a rule", (), (), (rival,)), rival


@pytest.mark.parametrize(
    ("pays_after", "expected", "begins_at"),
    [(0, None, 3), (1, None, 3), (2, None, 3), (5, None, 6), (5, 5, None), (5, 6, 1), (0, 2, None), (0, 3, 1)],
)
def test_a_trial_begins_once_the_set_up_can_have_paid(pays_after, expected, begins_at):
    (choice, rival), trials = choice_with(pays_after), Trials()
    begun = []
    for calls in range(1, 9):
        trials.apply(choice, request_of(16, calls=expected), calls, ())
        begun.append(bool(trials.by_size))
    assert begun == [begins_at is not None and calls >= begins_at for calls in range(1, 9)]
    assert all(trial.kernels == (HOOKS, rival) for trial in trials.by_size.values())


def test_there_is_a_trial_for_each_power_of_two_and_none_without_rivals_or_where_bits_are_to_be_the_same():
    (choice, _), trials = choice_with(1), Trials()
    for n in (15, 16, 17, 31, 32, 9):
        trials.apply(choice, request_of(n), 100, ())
    assert list(trials.by_size) == [4, 5, 6]
    assert trials.at(request_of(8)) is trials.by_size[4]
    assert trials.at(request_of(7)) is None
    torch.use_deterministic_algorithms(True)
    try:
        assert trials.apply(choice, request_of(100), 100, ()) is choice
    finally:
        torch.use_deterministic_algorithms(False)
    alone = Choice(HOOKS, "a rule", (), ())
    assert trials.apply(alone, request_of(100), 100, ()) is alone


@pytest.fixture
def saved(monkeypatch):
    """A function that sets what was measured on this machine."""

    def set_saved(problem, *times):
        rows = [
            record(kernel=f"torch.{way}.norms", backend="torch", problem=problem.name, dtype="float32", n=n,
                   seconds_median=seconds, machine=machine())
            for way, n, seconds in times
        ]  # fmt: skip
        monkeypatch.setattr(wisdom, "saved", lambda: wisdom.learn(rows))

    monkeypatch.setattr(wisdom, "saved", lambda: ())
    monkeypatch.setattr(wisdom, "shipped", lambda: ())
    return set_saved


def chosen_at(problem, n, **criteria):
    choice = choose(Request(gk.Case(problem, "norms", n, dtype="float32"), BACKENDS["torch"], Criteria(**criteria)))
    return choice.kernel.way, [one.way for one in choice.rivals]


def test_within_what_was_measured_nothing_is_tried_and_far_outside_the_next_best_and_the_rule(saved, monkeypatch):
    monkeypatch.setattr(select, "kernels", lambda *_: (HOOKS, VMAP, LOOP, gk.kernel("torch.jacobian+.norms")))
    problem = problem_of()
    saved(problem, ("vmap+", 32, 1.0), ("jacobian+", 32, 1.5), ("hooks", 32, 9.0), ("vmap+", 128, 1.0),
          ("jacobian+", 128, 1.5), ("hooks", 128, 9.0), ("loop+", 128, 2.0))  # fmt: skip
    for n in (16, 32, 64, 256):
        assert chosen_at(problem, n) == ("torch.vmap+", [])
    for n in (15, 257, 1024):  # hooks are the rule, what loops is never a rival, and costs over four times are none
        assert chosen_at(problem, n) == ("torch.vmap+", ["torch.hooks", "torch.jacobian+"])


def test_what_pays_after_many_calls_is_no_first_choice_but_a_rival_where_it_was_not_measured(saved, monkeypatch):
    _, rival = choice_with(100)
    monkeypatch.setattr(select, "kernels", lambda *_: (rival, HOOKS, VMAP))
    problem = problem_of()
    assert chosen_at(problem, 16) == ("torch.hooks", ["torch.rival"])
    saved(problem, ("vmap+", 16, 1.0), ("hooks", 16, 2.0))
    assert chosen_at(problem, 16) == ("torch.vmap+", ["torch.rival"])


def test_a_running_program_tries_the_rival_from_its_call_on_and_keeps_what_is_faster(saved, monkeypatch, clock):
    built = []

    def build(problem):
        compute = HOOKS.build(problem)

        def timed(theta, x, y):
            built.append(len(y))
            clock.now -= 1.0  # so that it is the faster one
            return compute(theta, x, y)

        return timed

    rival = declare("torch.rival.norms", problems=ModuleProblem, pays_after=4)(build)
    monkeypatch.setattr(select, "kernels", lambda *_: (rival, HOOKS))
    problem = problem_of()
    x, y = torch.randn(16, 3), torch.arange(16) % 2
    k = gk.fastest(problem, "norms", like=(None, x, y))
    want, seen = HOOKS.build(problem)(problem.parameters(), x, y), []
    for _ in range(19):
        torch.testing.assert_close(k(None, x, y), want)
        seen.append("rival" if k.kernel is rival else "hooks")
    assert seen == ["hooks"] * 4 + ["hooks", "rival"] * 6 + ["rival"] * 3
    assert (
        k.why.splitlines()[0] == "torch.rival.norms for n = 16, by the calls of this program, in which they took turns"
    )


def test_a_rival_that_fails_costs_its_turn_and_no_call(saved, monkeypatch, clock):
    def build(problem):
        def compute(theta, x, y):
            raise RuntimeError("it cannot be recorded")

        return compute

    rival = declare("torch.rival.norms", problems=ModuleProblem, pays_after=4)(build)
    monkeypatch.setattr(select, "kernels", lambda *_: (rival, HOOKS))
    problem = problem_of()
    x, y = torch.randn(16, 3), torch.arange(16) % 2
    k = gk.fastest(problem, "norms", like=(None, x, y))
    want = HOOKS.build(problem)(problem.parameters(), x, y)
    for _ in range(30):
        torch.testing.assert_close(k(None, x, y), want)
        assert k.kernel is HOOKS


@pytest.mark.parametrize(("quantity", "eager"), [("norms", "torch.hooks"), ("gradient", "torch.autograd")])
def test_what_is_recorded_is_tried_at_once_where_many_calls_are_announced_and_from_the_101st_on_else(
    saved, clock, quantity, eager
):
    problem = problem_of(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    x, y = torch.randn(16, 3), torch.arange(16) % 2
    firsts = {}
    for calls in (100, 101, None):
        k = gk.fastest(problem, quantity, like=(None, x, y), calls=calls)
        seen = [k(None, x, y) is not None and k.kernel.way for _ in range(114 if calls is None else 14)]
        firsts[calls] = seen.index("torch.recorded") if "torch.recorded" in seen else None
        # Nothing takes any time here, and the kernel that needs no set-up wins a tie.
        assert set(seen) <= {eager, "torch.recorded"}
        assert seen[-1] == eager
    assert firsts == {100: None, 101: 1, None: 101}
