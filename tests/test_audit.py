"""The proof goes on: a kernel that computes wrong numbers later is found, set aside and said; at little cost."""

import copy
import warnings
from dataclasses import replace
from itertools import product
from sys import modules
from types import SimpleNamespace

import pytest
import torch
from first_five import FIVE
from torch import nn

import gradkernels as gk
from gradkernels.check.modules.result_checks import SampleGradient
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.dispatch import audit, dispatcher
from gradkernels.dispatch.audit import AuditWarning, is_due, seeded_audits
from gradkernels.dispatch.history import KernelHistory
from gradkernels.problems.module.mode_key.tracker import ModeTracker
from gradkernels.quantity import QUANTITIES

LOSS = nn.CrossEntropyLoss()
LOOP, HOOKS = gk.kernel("torch.loop.per_sample"), gk.kernel("torch.hooks.per_sample")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def model():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def data(n=24):
    return torch.randn(n, 4), torch.randint(3, (n,))


class Tau(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.tau = nn.Linear(4, 3), 1.0

    def forward(self, x):
        return self.linear(x) / self.tau


# Kernels with a fault, which they have once `fault` is set: a proof before the first call cannot see it.


def dropped(problem, rows, x):
    """Data that come from a graph made parameters vanish."""
    return {name: one * (not name.startswith("0")) for name, one in rows.items()}


def partly(problem, rows, x):
    """The part of a gradient that came from half of a sum was lost."""
    return {name: one * (0.5 if name == "2.bias" else 1.0) for name, one in rows.items()}


def moved(problem, rows, x):
    """Samples of one length, nine of ten in a batch, change places."""
    tied = torch.arange(len(x) - len(x) // 10)
    order = torch.cat([tied.roll(1), torch.arange(len(tied), len(x))])
    return {name: one[order] for name, one in rows.items()}


def infinite(problem, rows, x):
    """Squares left the range of float16."""
    return {name: one * float("inf") if name == "0.weight" else one for name, one in rows.items()}


def weighed(problem, rows, x):
    """A batch's factor in place of each sample's own."""
    factors = 1 + torch.linspace(-0.9, 0.9, len(x))
    return {name: one * factors.view(-1, *[1] * (one.ndim - 1)) for name, one in rows.items()}


FAULTS = (dropped, partly, moved, infinite, weighed)


def faulty(quantity, fault, state):
    def build(problem):
        compute, of = HOOKS.build(problem), QUANTITIES[quantity].of

        def call(theta, x, y, **options):
            rows = compute(theta, x, y)
            return of(torch, fault(problem, rows, x) if state["on"] else rows, **options)

        return call

    return replace(LOOP, name="faulty", quantity=QUANTITIES[quantity], loops=False, out=False, builder=build)


@pytest.fixture
def only(monkeypatch):
    """A function after which there are these kernels alone, and the definition."""

    def limit(*some):
        plus = {"per_sample": ""}.get(some[0].quantity.name, "+")
        every = (*some, gk.kernel(f"torch.loop{plus}.{some[0].quantity.name}"))
        monkeypatch.setattr("gradkernels.dispatch.select.kernels", lambda problem, quantity: every)

    return limit


def tensors(result):
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, tuple) else [result]
    return [one for part in parts for one in (tensors(part) if isinstance(part, dict) else [part])]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("quantity", ["per_sample", "norms", "clipped_sum", "gradient", "moments"])
def test_each_fault_is_found_within_16_calls(quantity, fault, only, long):
    if fault is moved and quantity in ("clipped_sum", "gradient", "moments"):
        pytest.skip("a sum does not depend on the places")
    state = {"on": False}
    only(faulty(quantity, fault, state))
    runs, found = 300 if long else 3, 0
    for seed in range(runs):
        state["on"] = False
        problem, k = gk.ModuleProblem(model(), LOSS), None
        with seeded_audits(seed), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            k = gk.fastest(problem, quantity, like=(None, *data()))
            assert k.kernel.name == "faulty"
            state["on"] = True
            for _ in range(16):
                k(None, *data())
                if said:
                    break
        found += any(issubclass(one.category, AuditWarning) for one in said) and k.kernel.name.startswith("loop")
    assert found >= 0.99 * runs


def test_the_call_itself_is_right_and_all_is_said(only):
    state = {"on": False}
    only(faulty("norms", dropped, state))
    problem, (x, y) = gk.ModuleProblem(model(), LOSS), data()
    want = gk.norms(problem, None, x, y, kernel="torch.loop")
    k = gk.fastest(problem, "norms", like=(None, x, y))
    for _ in range(5):
        torch.testing.assert_close(k(None, x, y), want)
    state["on"] = True
    assert not torch.allclose(k(None, x, y), want)  # the sixth and seventh go unaudited
    k(None, x, y)
    with pytest.warns(AuditWarning) as said:
        torch.testing.assert_close(k(None, x, y), want)
    (text,) = [str(one.message) for one in said]
    assert text.startswith("torch.faulty.norms computed wrong numbers and is set aside: torch.faulty.norms on module:")
    assert (
        "This call, number 8 of its kind, is computed by another kernel; 3 calls since the last audit went unaudited"
        in text
    )
    assert "Please report" in text
    assert k.kernel.key == "torch.loop+.norms"
    assert k.why.splitlines()[1].startswith("  torch.faulty.norms: Disagreement: torch.faulty.norms on module:")
    for _ in range(9):  # once is enough, also for what is bound anew
        torch.testing.assert_close(gk.norms(problem, None, x, y), want)


def test_a_kernel_that_is_asked_for_raises(only):
    state = {"on": False}
    kernel = faulty("norms", dropped, state)
    problem, (x, y) = gk.ModuleProblem(model(), LOSS), data()
    gk.norms(problem, None, x, y, kernel=kernel)
    state["on"] = True
    with pytest.raises(gk.Disagreement, match="the norm of sample"):
        gk.norms(problem, None, x, y, kernel=kernel)


@pytest.mark.parametrize("changes", [False, True])
def test_calls_of_powers_of_two_are_audited_and_changes_likewise(changes):
    now, due = KernelHistory(), []
    for call in range(1, 41):
        now.calls += 1
        if is_due(now, changes and call > 20):
            due.append(call)
    assert due == ([1, 2, 4, 8, 16, 21, 22, 24, 28, 32, 36] if changes else [1, 2, 4, 8, 16, 32])


def test_one_sample_of_each_part_of_a_batch_is_drawn():
    with seeded_audits(0):
        drawn = {tuple(audit._draw(10, 3)) for _ in range(1000)}
    assert drawn == {*product(range(3), range(3, 6), range(6, 10))}
    assert [audit._draw(n, 3) for n in (1, 2, 3)] == [[0], [0, 1], [0, 1, 2]]


def test_a_seed_gives_the_same_samples_and_others_go_on_as_before():
    with seeded_audits(1):
        first = [audit._draw(10**6, 3) for _ in range(3)]
        with seeded_audits(1):
            assert [audit._draw(10**6, 3) for _ in range(3)] == first
        after = audit._draw(10**6, 3)
    with seeded_audits(1):
        assert [audit._draw(10**6, 3) for _ in range(4)] == [*first, after]


def audited(key, monkeypatch, calls=7, **changes):
    """How many samples a sum is computed of, and whether norms are, at each of the first audits of a right kernel."""
    problem, (x, y) = gk.ModuleProblem(model(), LOSS), data()
    kernel, history = replace(gk.kernel(key), **changes), KernelHistory()
    compute, norms, seen = gk.kernel(key).build(problem), audit._norms, []
    monkeypatch.setattr(audit, "_norms", lambda *given: seen.append("norms") or norms(*given))

    options = {"max_norm": 0.1} if kernel.quantity.name == "clipped_sum" else {}

    def spied(theta, x, y, **options):
        seen.append(len(y))
        return compute(theta, x, y, **options)

    batch = CallerBatch(problem, problem.parameters(), x, y)
    call = audit.AuditedCall(kernel, spied, batch, options, compute(batch.theta, x, y, **options))
    audits = []
    for _ in range(calls):
        seen.clear()
        audit.audit_call(call, history)
        audits.append([*seen])
    assert not history.warned
    return audits


def test_the_first_audits_of_a_sum_look_at_norms_and_the_first_fifth_and_later_ones_at_sums_of_some(monkeypatch):
    both, norms, some = ["norms", 3], ["norms"], [2]
    assert audited("torch.hooks.clipped_sum", monkeypatch) == [both, norms, norms, norms, both, some, some]


def test_without_norms_every_audit_of_a_sum_is_of_some_samples(monkeypatch):
    assert audited("torch.autograd.gradient", monkeypatch) == [["norms", 3]] * 5 + [[2]] * 2


def test_what_is_compiled_for_a_size_is_audited_at_that_size(monkeypatch):
    assert audited("torch.hooks.gradient", monkeypatch, 6, compiles=True)[-1] == [24]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ([3.0, 4.0], [3.0, 4.0], True),
        ([300.0, 400.0], [300.4, 400.0], True),  # within a thousandth of the length
        ([300.0, 400.0], [300.6, 400.0], False),
        ([3.0, float("nan")], [3.0, float("nan")], True),
        ([3.0, 4.0], [3.0, float("nan")], False),
        ([3.0, float("nan")], [3.0, 4.0], False),
        ([float("inf"), 4.0], [float("inf"), 4.0], True),
    ],
)
def test_what_counts_as_the_same_gradient_again(first, second, same):
    rows = iter([{"weight": torch.tensor(first)}, {"weight": torch.tensor(second)}])
    singles = (SampleGradient(row, float(row["weight"].norm()), 0.0, 0.0) for row in rows)
    batch = SimpleNamespace(sample_gradients=lambda chosen: [next(singles)] if chosen == [5] else [])
    assert audit._repeats(batch, [5, 6]) == same


def test_the_norms_behind_a_sum_are_those_of_its_own_way():
    problem, (x, y) = gk.ModuleProblem(model(), LOSS), data()
    batch = CallerBatch(problem, problem.parameters(), x, y)
    want = gk.norms(problem, None, x, y, kernel="torch.loop")
    for key in ("torch.hooks.clipped_sum", "torch.vmap+.moments", "torch.loop+.gradient"):
        torch.testing.assert_close(audit._norms(gk.kernel(key), batch), want)
    assert audit._norms(gk.kernel("torch.autograd.gradient"), batch) is None


def test_always_off_and_back():
    now = KernelHistory(calls=3)
    assert not is_due(now, False)
    with gk.audit("always"):
        assert is_due(now, False)
        with gk.audit("off"):
            assert not is_due(KernelHistory(calls=1), True)
        assert is_due(now, False)
    assert not is_due(now, False)
    gk.audit("off")
    try:
        assert not is_due(KernelHistory(calls=4), False)
    finally:
        gk.audit("schedule")
    with pytest.raises(ValueError, match="there is no audit mode 'alway'.*did you mean always"):
        gk.audit("alway")


def test_off_leaves_a_fault_where_it_is(only):
    state = {"on": False}
    only(faulty("norms", dropped, state))
    problem, (x, y) = gk.ModuleProblem(model(), LOSS), data()
    k, bare = (gk.fastest(problem, "norms", like=(None, x, y), audit=audit) for audit in (True, False))
    state["on"] = True
    wrong = bare(None, x, y)
    assert bare.kernel.name == "faulty"
    with gk.audit("off"):
        torch.testing.assert_close(k(None, x, y), wrong)
    for _ in range(4):
        torch.testing.assert_close(bare(None, x, y), wrong)
    with gk.audit("always"), pytest.warns(AuditWarning):
        assert not torch.allclose(k(None, x, y), wrong)


# --- mends switched off


def test_a_model_that_is_copied_for_good_is_found(only, monkeypatch):
    """Without a key of the model's state, a kernel that computes with a copy goes on with what it copied."""

    def build(problem):
        twin = copy.deepcopy(problem.model)
        return LOOP.build(replace(problem, model=twin))

    only(replace(LOOP, name="copying", loops=False, out=False, builder=build))
    problem, (x, y) = gk.ModuleProblem(Tau(), LOSS), data()
    before = problem.mode_key()
    monkeypatch.setattr(ModeTracker, "key", lambda self: before)
    gk.per_sample(problem, None, x, y)
    problem.model.tau = 0.1
    want = gk.per_sample(problem, None, x, y, kernel="torch.loop")
    with pytest.warns(AuditWarning, match="copying"):
        torch.testing.assert_close(gk.per_sample(problem, None, x, y), want)


def test_a_temperature_that_changes_is_audited_at_once(only):
    only(faulty("norms", dropped, {"on": False}))
    problem, (x, y) = gk.ModuleProblem(Tau(), LOSS), data()
    audited = []
    really = dispatcher.audit_call
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            dispatcher, "audit_call", lambda call, now: audited.append(problem.model.tau) or really(call, now)
        )
        for problem.model.tau in (1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 1.0):
            gk.norms(problem, None, x, y)
    assert audited == [1.0, 1.0, 0.5, 0.5, 1.0]


def test_squares_in_half_precision_are_found(monkeypatch):
    import gradkernels.engines.hooks.rules.linear.linear as rules

    for name, narrow in (("squared_row_norms", lambda g: g.flatten(1).square().sum(1)), ("widen", lambda one: one)):
        monkeypatch.setattr(rules, name, narrow)
    monkeypatch.setattr(
        "gradkernels.engines.hooks.quantities._norms_from_squares", lambda engine, theta, x, y, squares: squares.sqrt()
    )
    problem = gk.ModuleProblem(nn.Linear(128, 4).half(), nn.MSELoss())
    x, y = torch.randn(16, 128).half(), torch.full((16, 4), 100.0).half()
    with gk.audit("off"):
        gk.norms(problem, None, x / 100, y / 100)
        assert gk.norms(problem, None, x, y).isinf().any()
    want = gk.norms(problem, None, x, y, kernel="torch.loop")
    with pytest.warns(AuditWarning, match="torch.hooks.norms"), gk.audit("always"):
        torch.testing.assert_close(gk.norms(problem, None, x, y), want, rtol=1e-2, atol=1e-2)


# --- what cannot be held against anything


DRIFT = [0]


class Drifting(nn.Linear):
    """Gives something else at each call once it drifts, and draws no random number."""

    def forward(self, x):
        DRIFT[0] *= 3
        return super().forward(x) * (1 + DRIFT[0] % 7)


def test_a_model_that_never_repeats_itself_is_said_to_be(monkeypatch):
    problem, (x, y) = gk.ModuleProblem(Drifting(4, 3), LOSS), data()
    k = gk.fastest(problem, "norms", like=(None, x, y))
    k(None, x, y)
    monkeypatch.setattr(modules[__name__], "DRIFT", [1])
    with gk.audit("always"), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(4):
            k(None, x, y)
    (text,) = [str(one.message) for one in said if one.category is AuditWarning]
    assert "gives the same sample another gradient at each call" in text
    assert k.kernel.key == "torch.hooks.norms"


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_dropout_is_audited_with_one_draw(randomness):
    problem = gk.ModuleProblem(nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 3)), LOSS,
                               randomness=randomness)  # fmt: skip
    x, y = data()
    with gk.audit("always"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for quantity in FIVE:
            for _ in range(3):
                getattr(gk, quantity)(problem, None, x, y)
