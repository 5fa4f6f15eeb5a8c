"""What is kept of calls that are settled, and of inputs that were seen: how much, and what is forgotten when."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.dispatch.kinds import seen_inputs, settled_calls
from gradkernels.dispatch.kinds.settled_calls import SettledCalls
from gradkernels.dispatch.memory_limit import MemoryLimit


@pytest.fixture(scope="module", autouse=True)
def unaudited():
    with gk.audit("off"):
        yield


@pytest.fixture(scope="module")
def computed():
    """A problem, the dispatcher of its norms, and what that knows of a batch which it has computed."""
    torch.manual_seed(0)
    problem = gk.ModuleProblem(nn.Linear(4, 3), nn.CrossEntropyLoss())
    gk.norms(problem, None, torch.randn(6, 4), torch.arange(6) % 3, kernel="torch.hooks")
    (dispatcher,) = problem.cache["dispatchers"].values()
    (known,) = dispatcher._seen._known.values()
    return problem, dispatcher, known


def kept(computed, trials=None, **changes):
    """Return the inputs, others than those of the batch in what is named here, with a history of their own."""
    _, _, known = computed
    history = replace(known.history, trials=trials or replace(known.history.trials))
    return replace(known, history=history, **changes)


def settle(calls, computed, known, choice=None):
    problem, dispatcher, _ = computed
    calls.settle(known, problem, dispatcher.kernel, choice, "compute")
    return known


def test_what_raised_is_forgotten_and_nothing_else(computed):
    calls, small = SettledCalls(), kept(computed)
    settle(calls, computed, small)
    large = settle(calls, computed, replace(small, size=7))
    other = settle(calls, computed, kept(computed))
    calls.drop(small)
    assert calls.get(small) is None
    assert calls.get(large).compute == calls.get(other).compute == "compute"
    calls.drop(small)


@pytest.mark.parametrize("winner", ["none as yet", "another", "it"])
def test_a_kernel_that_stands_on_trial_is_settled_once_it_has_won(computed, winner):
    kernel = {"none as yet": None, "another": gk.kernel("torch.loop+.norms"), "it": computed[1].kernel}[winner]
    known = kept(computed, trials=SimpleNamespace(at=lambda request: SimpleNamespace(winner=kernel)))
    calls = SettledCalls()
    settle(calls, computed, known)
    assert (calls.get(known) is not None) == (winner == "it")


def test_a_limit_of_calls_is_kept_by_forgetting_the_first(computed, monkeypatch):
    monkeypatch.setattr(settled_calls, "MOST_SETTLED", 2)
    calls, first = SettledCalls(), kept(computed)
    three = [settle(calls, computed, replace(first, size=size)) for size in (1, 2, 3)]
    assert [calls.get(one) is not None for one in three] == [False, True, True]


@pytest.mark.parametrize("criteria", [{"max_bytes": 2**30}, {"results": "file.csv"}])
def test_what_is_chosen_for_these_shapes_or_this_file_is_not_settled(computed, criteria):
    calls, known = SettledCalls(), kept(computed)
    request = replace(known.request, criteria=replace(known.request.criteria, **criteria))
    settle(calls, computed, replace(known, request=request))
    assert calls.get(known) is None


def test_what_did_not_fit_is_tried_again_at_its_call(computed):
    calls, known = SettledCalls(), kept(computed)
    known.history.failed = {name: SimpleNamespace(retry_at=at) for name, at in (("one", 9), ("other", 4))}
    settle(calls, computed, known)
    for call, holds in ((1, True), (3, True), (4, False)):
        known.history.calls = call
        assert (calls.get(known) is not None) == holds


@pytest.mark.parametrize(("expected", "until"), [(None, 51), (200, 1), (50, float("inf"))])
def test_a_choice_holds_until_its_rivals_are_tried(computed, expected, until):
    calls, known = SettledCalls(), kept(computed)
    request = replace(known.request, criteria=replace(known.request.criteria, calls=expected))
    choice = SimpleNamespace(rivals=(SimpleNamespace(pays_after=50),))
    known = settle(calls, computed, replace(known, request=request), choice)
    known.history.calls = 0
    assert (calls.get(known).choice, calls.get(known).until) == (choice, until)
    for call in (1, 50, 51):
        known.history.calls = call
        assert (calls.get(known) is not None) == (call < until)


@pytest.mark.parametrize(("now", "holds"), [(None, True), ("lessons", False), ("set aside", False)])
def test_what_was_learnt_since_then_ends_it(computed, monkeypatch, now, holds):
    calls, known = SettledCalls(), kept(computed)
    settle(calls, computed, known)
    if now == "lessons":
        known.history.lessons += 1
    elif now == "set aside":
        before = settled_calls.times_set_aside()
        monkeypatch.setattr(settled_calls, "times_set_aside", lambda: before + 1)
    assert (calls.get(known) is not None) == holds


def test_shapes_are_validated_once_and_forgotten_all_at_once_where_there_are_many(monkeypatch):
    monkeypatch.setattr(seen_inputs, "MOST_SHAPES", 2)
    validated, really = [], seen_inputs.validate_inputs
    monkeypatch.setattr(
        seen_inputs, "validate_inputs", lambda *given: validated.append(len(given[-1])) or really(*given)
    )
    problem = gk.ModuleProblem(nn.Linear(4, 3), nn.CrossEntropyLoss())
    x, y = torch.randn(9, 4), torch.arange(9) % 3
    for n in (6, 6, 7, 6, 7, 9, 9, 6):
        gk.norms(problem, None, x[:n], y[:n], kernel="torch.hooks")
    assert validated == [6, 7, 9, 6]


@pytest.mark.parametrize(("n", "size"), [(1, 1), (6, 3), (7, 3), (8, 4)])
def test_kernels_are_chosen_for_sizes_within_a_factor_of_two(computed, n, size):
    _, dispatcher, _ = computed
    x, y = torch.randn(n, 4), torch.arange(n) % 3
    _, known = dispatcher._seen.look_at(None, x, y)
    assert (known.size, known.request.case.n) == (size, n)
    assert known.request.case.threads == dispatcher.criteria.threads
    assert (known.request.case.features, known.request.case.dtype, known.request.case.device) == (4, "float32", "cpu")


def test_a_theta_of_the_callers_own_and_trees_are_told_apart(computed):
    problem, dispatcher, _ = computed
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    theta = {name: one.detach() for name, one in problem.parameters().items()}
    own, known = dispatcher._seen.look_at(None, x, y)
    given, other = dispatcher._seen.look_at(theta, x, y)
    assert given is theta
    assert own["weight"] is problem.model.weight
    assert dispatcher._seen.look_at(None, x, y)[1] is known
    assert dispatcher._seen.look_at(theta, x, y)[1] is other
    assert known.shapes != other.shapes
    with pytest.raises(ValueError, match=r"^theta\['bias'\] is \(4,\); it must be \(3,\)"):
        dispatcher._seen.look_at({**theta, "bias": torch.zeros(4)}, x, y)


def test_a_dict_of_inputs_is_told_apart_by_its_shapes_and_the_model_is_noted():
    problem = gk.ModuleProblem(nn.Bilinear(4, 2, 3), nn.CrossEntropyLoss())
    y = torch.arange(6) % 3
    x = {"input1": torch.randn(6, 4), "input2": torch.randn(6, 2)}
    row = gk.per_sample(problem, None, {name: one[3:4] for name, one in x.items()}, y[3:4])
    want = torch.cat([part.ravel() for part in row.values()]).norm()
    torch.testing.assert_close(gk.norms(problem, None, x, y)[3], want)
    (seen,) = (one._seen for one in problem.cache["dispatchers"].values() if one.quantity.name == "norms")
    assert seen.look_at(None, x, y)[1] is not seen.look_at(None, {name: one[:5] for name, one in x.items()}, y[:5])[1]
    assert seen.state == problem.mode_key().watched is not None


def test_no_samples_have_no_mean_and_a_kernel_that_cannot_says_why():
    problem = gk.ModuleProblem(nn.Linear(4, 3), nn.CrossEntropyLoss())
    x, y = torch.randn(0, 4), torch.arange(0)
    with pytest.raises(ValueError, match=r"^x has n = 0 samples; gradient divides by n and needs at least 1$"):
        gk.gradient(problem, None, x, y)
    assert gk.norms(problem, None, x, y).shape == (0,)
    with pytest.raises(
        ValueError, match=r"^numpy.loop\+.norms cannot do this: numpy.loop\+.norms is written for a Regression, not"
    ):
        gk.norms(problem, None, torch.randn(2, 4), torch.arange(2), kernel=gk.kernel("numpy.loop+.norms"))


def test_a_settled_call_has_the_options_of_its_own(computed):
    problem, _, _ = computed
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    norms = gk.norms(problem, None, x, y, kernel="torch.loop+")
    for max_norm in (0.5, 0.01):
        found = gk.clipped_sum(problem, None, x, y, max_norm=max_norm, kernel="torch.hooks")
        rows = gk.per_sample(problem, None, x, y, kernel="torch.loop")
        want = torch.tensordot((max_norm / norms).clamp(max=1), rows["weight"], 1)
        torch.testing.assert_close(found["weight"], want)


def test_memory_for_the_result_may_be_of_one_tensor_with_the_inputs(computed):
    problem, _, _ = computed
    whole, y = torch.randn(6, 5), torch.arange(6) % 3
    x, out = whole[:, :4], whole[:, 4]
    want = gk.norms(problem, None, x.clone(), y, kernel="torch.loop+")
    for _ in range(2):
        assert gk.norms(problem, None, x, y, out=out) is out
        torch.testing.assert_close(out, want)


def test_what_fits_into_memory_is_kept_by_the_shapes_that_it_was_found_for(monkeypatch):
    seen, really = [], MemoryLimit.fit

    def noted(self, kernel, case, batch, shapes, options=None):
        seen.append(shapes)
        return really(self, kernel, case, batch, shapes, options)

    monkeypatch.setattr(MemoryLimit, "fit", noted)
    problem = gk.ModuleProblem(nn.Linear(4, 3), nn.CrossEntropyLoss())
    for n in (6, 6, 7):
        gk.norms(problem, None, torch.randn(n, 4), torch.arange(n) % 3, kernel="torch.hooks", max_bytes=2**28)
    first, again, other = seen
    assert first == again != other
