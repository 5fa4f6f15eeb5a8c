"""One call of a module's dispatcher: what is validated, kept and said besides the numbers."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.dispatch import dispatcher, keywords, memory_limit
from gradkernels.dispatch.dispatcher import ModuleDispatcher
from gradkernels.dispatch.history import FailedAttempt
from gradkernels.dispatch.memory_limit import MemoryLimit
from gradkernels.dispatch.request import Criteria
from gradkernels.quantity import QUANTITIES

LOSS = nn.CrossEntropyLoss()
HOOKS, VMAP = gk.kernel("torch.hooks.norms"), gk.kernel("torch.vmap+.norms")


def dispatched(quantity="norms", model=None, forced=None, **criteria):
    """A dispatcher of a linear model, and seven samples."""
    torch.manual_seed(0)
    problem = gk.ModuleProblem(nn.Linear(4, 3) if model is None else model, LOSS)
    given = Criteria(None, None, criteria.get("max_bytes"), None, 1)
    return ModuleDispatcher(problem, QUANTITIES[quantity], forced, given), torch.randn(7, 4), torch.arange(7) % 3


def by_definition(call, quantity, x, y, **options):
    return getattr(gk, quantity)(call.problem, None, x, y, kernel="torch.loop", **options)


# --- memory for the result, and what is no memory


@pytest.mark.parametrize("quantity", ["norms", "per_sample"])
def test_memory_is_validated_and_filled_by_name_and_by_place(quantity):
    call, x, y = dispatched(quantity)
    want = by_definition(call, quantity, x, y)
    for by_name in (True, False):
        out = torch.zeros(7) if quantity == "norms" else {name: torch.zeros_like(one) for name, one in want.items()}
        assert (call(None, x, y, out=out) if by_name else call(None, x, y, out)) is out
        torch.testing.assert_close(out, want)
        short = torch.zeros(6) if quantity == "norms" else {name: one[:6] for name, one in out.items()}
        with pytest.raises(ValueError, match=r"out.* is \(6,.*; it must be \(7,"):
            call(None, x, y, *([] if by_name else [short]), **({"out": short} if by_name else {}))


def test_a_clipping_norm_by_place_is_no_memory():
    call, x, y = dispatched("clipped_sum")
    torch.testing.assert_close(call(None, x, y, 0.1), by_definition(call, "clipped_sum", x, y, max_norm=0.1))


def test_an_audit_asks_with_the_clipping_norm_that_was_given_by_place():
    hooks = gk.kernel("torch.hooks.clipped_sum")

    def build(problem):
        right = hooks.build(problem)

        def compute(theta, x, y, max_norm=1.0):
            factor = 2 if max_norm == 0.123 else 1
            return {name: factor * one for name, one in right(theta, x, y, max_norm=max_norm).items()}

        return compute

    call, x, y = dispatched("clipped_sum", forced=replace(hooks, name="odd", builder=build))
    with gk.audit("always"):
        call(None, x, y, 0.1)
        with pytest.raises(gk.Disagreement, match=r"torch\.odd\.clipped_sum on .*, 3 of 7 samples"):
            call(None, x, y, 0.123)


@pytest.mark.parametrize(
    ("quantity", "arguments", "options", "says"),
    [
        ("norms", (None, None), {}, "5 arguments were given; norms takes theta, x, y and out="),
        ("norms", (), {"max_norm": 1.0}, "max_norm= was given; norms takes theta, x, y and out="),
        ("gradient", (None,), {}, "4 arguments were given; gradient takes theta, x, y"),
        ("clipped_sum", (), {"out": None}, "out= was given; clipped_sum takes theta, x, y and max_norm="),
        ("clipped_sum", (1.0,), {"max_norm": 2.0}, "max_norm is given by position and by name; leave one of them out"),
        ("clipped_sum", (-1.0,), {}, "max_norm is -1.0; it must be positive (float('inf') clips nothing)"),
    ],
)
def test_what_a_quantity_does_not_take_is_refused_before_any_kernel_is_asked(quantity, arguments, options, says):
    call, x, y = dispatched(quantity)
    with pytest.raises((TypeError, ValueError)) as caught:
        call(None, x, y, *arguments, **options)
    assert (str(caught.value), call.kernel) == (says, None)


# --- inputs that are written to


class Writes(nn.Module):
    """Writes to its input where that is of many samples."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        if len(x) > 10:
            x.mul_(1)
        return self.linear(x)


def test_a_model_that_writes_to_the_callers_input_is_refused_and_given_copies_from_then_on():
    call, x, y = dispatched(model=Writes(), forced=HOOKS)
    x = torch.cat([x, x])
    with pytest.raises(ValueError, match="^the model or loss_fn wrote to x, which it had not done on the samples"):
        call(None, x, torch.cat([y, y]))
    version = x._version
    call(None, x, torch.cat([y, y]))
    assert x._version == version


# --- what is said


def test_why_says_that_nothing_was_computed_what_was_asked_for_and_what_a_limit_does():
    call, x, y = dispatched(forced=HOOKS)
    assert (call.why, call.kernel, call.choice, call.request) == ("nothing was computed yet", None, None, None)
    call(None, x, y)
    assert call.why == "torch.hooks.norms, because kernel= asked for it"
    plain, _, _ = dispatched()
    plain.prepare(None, x, y)
    assert plain.why.startswith("torch.hooks.norms for n = 7, by a rule")
    assert "in chunks" not in plain.why
    model = nn.Sequential(nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 3))
    limit = 8 * 2**20 + 3 * 375_000 + 28
    tight, _, y = dispatched(model=model, max_bytes=limit)
    tight(None, torch.randn(7, 300), y)
    chunk = dict(tight.kernel.set_options)["chunk"]
    assert (
        tight.why.splitlines()[-1] == f"  in chunks, torch.hooks[chunk={chunk}].norms, to stay within max_bytes={limit}"
    )


def test_a_mean_over_no_samples_is_refused_with_what_it_is():
    call, x, y = dispatched("gradient")
    with pytest.raises(ValueError, match=r"^x has n = 0 samples; gradient divides by n and needs at least 1$"):
        call(None, x[:0], y[:0])
    assert dispatched("norms")[0](None, x[:0], y[:0]).shape == (0,)


def test_a_kernel_that_is_asked_for_and_cannot_do_a_later_batch_says_every_reason():
    forced = replace(HOOKS, refuses=lambda case: ["it is large", "it is long"] if case.n > 5 else [])
    call, x, y = dispatched(forced=forced)
    call(None, x[:5], y[:5])
    with pytest.raises(ValueError, match=r"^torch\.hooks\.norms cannot do this: it is large; it is long$"):
        call(None, x, y)


# --- the request


def test_the_request_is_of_the_call():
    call, x, y = dispatched()
    call(None, x, y)
    case = call.request.case
    assert (case.problem, case.quantity.name, case.n) == (call.problem, "norms", 7)
    assert (case.dtype, case.device, case.threads, case.features) == ("float32", "cpu", 1, 4)
    assert call.request.criteria == call.criteria
    wide = {name: one.detach().double() for name, one in call.problem.parameters().items()}
    call(wide, x[:0].double(), y[:0])
    assert (call.request.case.n, call.request.case.dtype) == (1, "float64")


# --- what is kept


def test_built_kernels_are_kept_up_to_a_number_of_them(monkeypatch):
    monkeypatch.setattr(dispatcher, "MOST_BUILT", 2)
    call, _, _ = dispatched()
    built, really = [], gk.Kernel.build
    monkeypatch.setattr(gk.Kernel, "build", lambda kernel, problem: built.append(kernel.key) or really(kernel, problem))
    for key in (
        "torch.hooks.norms",
        "torch.vmap+.norms",
        "torch.hooks.norms",
        "torch.loop+.norms",
        "torch.hooks.norms",
    ):
        call._build(gk.kernel(key), "kind")
    assert [key for key in built if key.endswith("norms")] == [
        "torch.hooks.norms", "torch.vmap+.norms", "torch.loop+.norms", "torch.hooks.norms",
    ]  # fmt: skip
    assert len(call._built) == 2
    call._build(gk.kernel("torch.hooks.norms"), "other")
    assert built[-1] == "torch.hooks.norms"


def test_what_is_built_is_shared_by_the_dispatchers_of_a_problem():
    call, x, y = dispatched()
    other = ModuleDispatcher(call.problem, QUANTITIES["norms"], None, call.criteria)
    call(None, x, y)
    other(None, x, y)
    assert other._built is call._built
    assert len(call._built) == 1


def test_a_kernel_alone_takes_the_models_parameters_or_those_that_are_given():
    call, x, y = dispatched("clipped_sum")
    call.prepare(None, x, y)
    bare = call.bare()
    torch.testing.assert_close(bare(None, x, y, 0.1), by_definition(call, "clipped_sum", x, y, max_norm=0.1))
    torch.testing.assert_close(bare(None, x, y, max_norm=0.1), bare(None, x, y, 0.1))
    theta = {name: 2 * one.detach() for name, one in call.problem.parameters().items()}
    want = gk.clipped_sum(call.problem, theta, x, y, kernel="torch.loop")
    torch.testing.assert_close(bare(theta, x, y), want)


def test_a_kernel_alone_writes_into_the_memory_that_it_is_given():
    call, x, y = dispatched()
    reached, right = [], HOOKS.build(call.problem)

    def build(problem):
        return lambda *arrays, out=None: right(*arrays, out=reached.append(out) or out)

    call.kernel = replace(HOOKS, builder=build)
    bare, out = call.bare(), torch.zeros(7)
    assert bare(None, x, y, out) is out
    assert bare(None, x, y, out=out) is out
    bare(None, x, y)
    assert [None if one is None else one.data_ptr() for one in reached] == [out.data_ptr(), out.data_ptr(), None]
    torch.testing.assert_close(out, by_definition(call, "norms", x, y))


def test_a_limit_of_memory_knows_the_options_of_the_call_but_not_its_memory(monkeypatch):
    seen = []
    monkeypatch.setattr(MemoryLimit, "fit", lambda self, kernel, *given: seen.append(given[-1]) or kernel)
    call, x, y = dispatched("clipped_sum")
    call(None, x, y, 0.25)
    call, x, y = dispatched()
    call.prepare(None, x, y)
    call(None, x, y, out=torch.zeros(7))
    assert seen == [{"max_norm": 0.25}, {}, {}]


def test_memory_is_validated_by_the_call_itself_and_by_no_kernel_again(monkeypatch):
    monkeypatch.setattr(keywords, "validate_out", lambda *given: pytest.fail("it was validated already"))
    call, x, y = dispatched()
    for _ in range(3):
        out = torch.zeros(7)
        assert call(None, x, y, out=out) is out
        torch.testing.assert_close(out, by_definition(call, "norms", x, y))


def test_the_reason_against_a_kernel_is_that_of_this_call_or_of_the_one_since_which_it_waits(monkeypatch):
    faults, really = iter(("first", "second")), dispatcher.require_proof

    def proof(kernel, *given, **how):
        if kernel == HOOKS:
            raise RuntimeError(next(faults))
        return really(kernel, *given, **how)

    monkeypatch.setattr(dispatcher, "require_proof", proof)
    call, x, y = dispatched()
    history = call._seen.look_at(None, x, y)[1].history
    history.failed[VMAP] = FailedAttempt("before", 9, 99)
    for fault in ("first", "second"):
        call(None, x, y)
        assert call.choice.refused[:2] == ((HOOKS, f"RuntimeError: {fault}"), (VMAP, "before"))


def test_a_limit_of_memory_is_known_to_proofs_and_to_what_keeps_random_matrices(monkeypatch):
    tight, few = [], []
    monkeypatch.setattr(dispatcher, "require_proof", lambda *given, **how: tight.append(how["tight"]) or True)
    monkeypatch.setattr(memory_limit, "without_kept_blocks", lambda: few.append(len(tight)) or nullcontext())
    for limit in (None, 10**9):
        call, x, y = dispatched(max_bytes=limit)
        call(None, x, y)
    assert (tight, few) == ([False, True], [1])


def test_where_all_kernels_wait_they_are_tried_again_at_once():
    call, x, y = dispatched()
    history = call._seen.look_at(None, x, y)[1].history
    history.failed |= {one: FailedAttempt("before", 9, 99) for one in gk.kernels(call.problem, "norms")}
    torch.testing.assert_close(call(None, x, y), by_definition(call, "norms", x, y))
    assert (call.kernel, history.failed) == (HOOKS, {})


# --- random numbers and audits


def test_torchs_random_numbers_are_looked_at_where_a_kernel_is_new_or_audited(monkeypatch):
    call, x, y = dispatched()
    looked, really = [], dispatcher.preserved_rng
    monkeypatch.setattr(dispatcher, "preserved_rng", lambda theta: looked.append(theta) or really(theta))
    times = []
    for _ in range(9):
        call(None, x, y)
        times.append(len(looked))
    assert times == [1, 2, 2, 3, 3, 3, 3, 4, 4]


@pytest.mark.parametrize("named", [True, False])
def test_an_audit_is_given_the_options_besides_memory_and_calls_without_one_are_counted(monkeypatch, named):
    call, x, y = dispatched("clipped_sum")
    seen, histories = [], []

    def audited(one, history):
        histories.append(history)
        seen.append((one.kernel.key, one.options, one.batch.y is not None, history.calls, history.unaudited))

    monkeypatch.setattr(dispatcher, "audit_call", audited)
    for _ in range(5):
        call(None, x, y, max_norm=torch.tensor(0.25)) if named else call(None, x, y, 0.25)
    # The first call has just been proven.
    assert seen == [("torch.hooks.clipped_sum", {"max_norm": 0.25}, True, 2, 0), ("torch.hooks.clipped_sum",
                    {"max_norm": 0.25}, True, 4, 1)]  # fmt: skip
    history = histories[0]
    assert (history.calls, history.unaudited) == (5, 1)
    call.prepare(None, x, y)
    assert (history.calls, history.unaudited) == (5, 1)
    with gk.audit("always"):
        call(None, x, y)
    assert history.unaudited == 0
