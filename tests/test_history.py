"""How kernels did on one kind of input: waits that grow, what is wrong for good, choices that are made once."""

import gradkernels as gk
from gradkernels.dispatch.history import MOST_REMEMBERED, FailedAttempt, KernelHistory, clear_choices, history_of
from gradkernels.dispatch.memory_limit import TooSmall

HOOKS, VMAP = gk.kernel("torch.hooks.norms"), gk.kernel("torch.vmap+.norms")


class Model:
    """Anything that can be referred to weakly."""


def test_a_kernel_that_does_not_fit_waits_twice_as_long_each_time_but_64_calls_at_most():
    now, waits = KernelHistory(calls=10), []
    for _ in range(9):
        assert now.note(HOOKS, RuntimeError("the first line\nthe second")) == "RuntimeError: the first line"
        waits.append(now.failed[HOOKS].retry_at - 10)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert now.failed == {HOOKS: FailedAttempt("RuntimeError: the first line", 9, 74)}
    assert now.note(VMAP, IndexError()) == "IndexError: "
    assert now.failed[VMAP] == FailedAttempt("IndexError: ", 1, 11)
    assert now.wrong == {}


def test_a_kernel_is_tried_again_at_its_call_and_not_before():
    now = KernelHistory(calls=2, failed={HOOKS: FailedAttempt("it does not fit", 2, 4)}, wrong={VMAP: "it is wrong"})
    seen = []
    for now.calls in (1, 2, 3, 4, 5):
        seen.append((now.excluded(), now.settled))
    both, wrong = {HOOKS: "it does not fit", VMAP: "it is wrong"}, {VMAP: "it is wrong"}
    assert seen == [(both, False), (both, True), (both, True), (wrong, False), (wrong, False)]


def test_a_wrong_kernel_is_out_for_good_and_a_limit_of_memory_is_not_its_fault():
    now = KernelHistory(calls=10)
    assert now.note(HOOKS, gk.Disagreement("off by 2")) == "Disagreement: off by 2"
    assert now.note(VMAP, TooSmall("it needs more")) == "it needs more"
    assert (now.wrong, now.failed) == ({HOOKS: "Disagreement: off by 2"}, {})


def test_a_choice_is_made_once_for_its_key_and_room_is_made_for_new_ones():
    now, made = KernelHistory(), []
    for key in (*range(MOST_REMEMBERED + 1), 0, MOST_REMEMBERED):
        assert now.choice(key, lambda key=key: made.append(key) or f"choice {key}") == f"choice {key}"
    assert made == [*range(MOST_REMEMBERED + 1)]
    now.choice("new", lambda: "choice new")
    assert now.choices == {"new": "choice new"}


def test_a_history_belongs_to_its_model_and_kind_and_the_oldest_makes_room():
    model, other = Model(), Model()
    first = history_of(model, 0)
    first.calls = 7
    assert history_of(model, 0) is first
    assert history_of(other, 0) == KernelHistory()
    rest = [history_of(model, kind) for kind in range(1, MOST_REMEMBERED)]
    assert history_of(model, 0) is first
    history_of(model, "new")
    assert history_of(model, 0) is not first
    assert [history_of(model, kind) is one for kind, one in enumerate(rest[1:], 2)] == [True] * (MOST_REMEMBERED - 2)


def test_choices_are_forgotten_and_what_failed_is_not():
    now = history_of(model := Model(), "kind")
    now.note(HOOKS, RuntimeError("no"))
    now.choice("key", lambda: "old")
    clear_choices()
    assert history_of(model, "kind").choice("key", lambda: "new") == "new"
    assert HOOKS in now.failed
