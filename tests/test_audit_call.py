"""One audit: which samples of a call are held against single passes, and what is said of what is found."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.check.modules.audited_call import AuditedCall
from gradkernels.dispatch import audit
from gradkernels.dispatch.audit import AuditWarning, audit_call, repeats_the_proof, warn_set_aside
from gradkernels.dispatch.history import KernelHistory
from gradkernels.quantity import QUANTITIES

LOOP = gk.kernel("torch.loop.per_sample")


def batch(n=24, **settings):
    torch.manual_seed(0)
    problem = gk.ModuleProblem(nn.Linear(4, 3), nn.CrossEntropyLoss(), **settings)
    return audit.CallerBatch(problem, problem.parameters(), torch.randn(n, 4), torch.arange(n) % 3)


def called(quantity, of, change=lambda result, y: result, options=(), **kernel):
    """A call that was computed, its result and those of the same kernel changed; what the kernel is given."""
    seen = []

    def build(problem):
        rows = LOOP.build(problem)

        def compute(theta, x, y, **options):
            seen.append((problem, x, y, options))
            return change(QUANTITIES[quantity].of(torch, rows(theta, x, y), **options), y)

        return compute

    odd = replace(LOOP, name="odd", quantity=QUANTITIES[quantity], builder=build, **kernel)
    compute, options = build(of.problem), dict(options)
    call = AuditedCall(odd, compute, of, options, compute(of.theta, of.x, of.y, **options))
    seen.clear()
    return call, seen


def doubled(result, y):
    return {name: 2 * one for name, one in result.items()} if isinstance(result, dict) else 2 * result


# --- how many samples


@pytest.mark.parametrize("quantity", ["gram", "gram_by"])
def test_products_with_many_other_samples_are_held_against_few_of_them(quantity, monkeypatch):
    of, passes, really = batch(5), [], audit.CallerBatch.sample_gradients
    kernel = gk.kernel(f"torch.hooks.{quantity}")
    options = {"other": (torch.randn(400, 4), torch.arange(400) % 3)}
    if quantity == "gram_by":
        options["by"] = (("one", ("weight",)), ("two", ("bias",)))
    compute = kernel.build(of.problem)
    call = AuditedCall(kernel, compute, of, options, compute(of.theta, of.x, of.y, **options))
    monkeypatch.setattr(
        audit.CallerBatch, "sample_gradients", lambda self, chosen: passes.append(len(chosen)) or really(self, chosen)
    )
    audit_call(call, KernelHistory())
    assert passes == [3, 3]
    with pytest.raises(gk.Disagreement):
        audit_call(replace(call, result=doubled(call.result, None)), KernelHistory())


@pytest.mark.parametrize("quantity", ["per_sample", "norms"])
def test_three_rows_or_norms_are_looked_at_in_the_first_five_audits_and_one_in_later_ones(quantity, monkeypatch):
    seen, really = [], audit.require_agreement
    monkeypatch.setattr(
        audit, "require_agreement", lambda of, chosen, results: seen.append(chosen) or really(of, chosen, results)
    )
    (call, computed), history = called(quantity, batch()), KernelHistory()
    for _ in range(7):
        audit_call(call, history)
    assert [*map(len, seen)] == [3] * 5 + [1] * 2
    assert all(0 <= a < 8 <= b < 16 <= c < 24 for a, b, c in seen[:5])
    assert (history.audits, history.warned, computed) == (7, set(), [])


def test_no_samples_and_the_definition_are_not_audited():
    history = KernelHistory()
    audit_call(called("norms", batch(0))[0], history)
    call = called("norms", batch(), doubled)[0]
    audit_call(replace(call, kernel=gk.kernel("torch.loop+.norms")), history)
    assert history.audits == 0


def test_an_audit_of_sums_repeats_a_proof_on_schedule_alone():
    kernels = [gk.kernel(f"torch.hooks.{name}") for name in ("per_sample", "norms", "gradient", "clipped_sum")]
    assert [*map(repeats_the_proof, kernels)] == [False, False, True, True]
    with gk.audit("always"):
        assert not any(map(repeats_the_proof, kernels))


# --- what is found


@pytest.mark.parametrize(
    ("quantity", "says"),
    [
        ("norms", "torch.odd.norms on NAME, n=24, float32: the norm of sample "),
        ("per_sample", "torch.odd.per_sample on NAME, n=24, float32: entry ("),
        ("gradient", "torch.odd.gradient on NAME, 3 of 24 samples, float32: entry ("),
        ("clipped_sum", "torch.odd.clipped_sum on NAME, 3 of 24 samples, float32: entry ("),
    ],
)
def test_wrong_numbers_are_a_disagreement_that_says_where(quantity, says):
    call, _ = called(quantity, batch(), doubled)
    history = KernelHistory()
    for audits in (1, 2):
        with pytest.raises(gk.Disagreement) as caught:
            audit_call(call, history)
        assert str(caught.value).startswith(says.replace("NAME", call.batch.problem.name))
        assert history.audits == audits


def test_norms_behind_a_sum_are_built_again_only_for_a_changed_model(monkeypatch):
    call, _ = called("gradient", batch())
    hooks, norms = replace(call, kernel=gk.kernel("torch.hooks.gradient")), gk.kernel("torch.hooks.norms")
    made, history = [], KernelHistory()
    counting = replace(norms, builder=lambda problem: made.append(problem) or norms.build(problem))
    monkeypatch.setattr(audit, "kernels", lambda quantity: (counting,))
    for training in (False, False, True, True):
        call.batch.problem.model.train(training)
        audit_call(hooks, history)
    assert len(made) == 2


def test_wrong_norms_behind_a_sum_are_a_disagreement(monkeypatch):
    call, _ = called("gradient", batch())
    norms = QUANTITIES["norms"].of(torch, LOOP.build(call.batch.problem)(call.batch.theta, call.batch.x, call.batch.y))
    monkeypatch.setattr(audit, "_norms", lambda kernel, of: norms)
    history = KernelHistory()
    audit_call(call, history)
    monkeypatch.setattr(audit, "_norms", lambda kernel, of: 2 * norms)
    with pytest.raises(gk.Disagreement) as caught:
        audit_call(call, history)
    assert str(caught.value).startswith(f"torch.odd on {call.batch.problem.name}, n=24, float32: the norm of sample ")


def test_a_wrong_sum_is_a_disagreement_also_beside_right_norms(monkeypatch):
    call, _ = called("gradient", batch(), doubled)
    norms = QUANTITIES["norms"].of(torch, LOOP.build(call.batch.problem)(call.batch.theta, call.batch.x, call.batch.y))
    monkeypatch.setattr(audit, "_norms", lambda kernel, of: norms)
    with pytest.raises(gk.Disagreement, match="3 of 24 samples"):
        audit_call(call, KernelHistory())


def test_options_reach_what_is_audited():
    for options, wrong in (({"max_norm": 0.01}, False), ({"max_norm": 0.01}, True)):
        call, seen = called("clipped_sum", batch(), doubled if wrong else lambda result, y: result, options.items())
        if wrong:
            with pytest.raises(gk.Disagreement):
                audit_call(call, KernelHistory())
        else:
            audit_call(call, KernelHistory())
        ((_, _, y, given),) = seen
        assert (len(y), given) == (3, {"max_norm": 0.01})


@pytest.mark.parametrize("compiles", [False, True])
def test_options_by_sample_are_those_of_the_drawn_samples(compiles):
    options = {"weights": torch.arange(24.0) - 5}
    audit_call(called("weighted_sum", batch(), options=options.items(), compiles=compiles)[0], KernelHistory())
    with pytest.raises(gk.Disagreement, match="3 of 24 samples"):
        audit_call(called("weighted_sum", batch(), doubled, options.items(), compiles=compiles)[0], KernelHistory())


def test_what_is_compiled_for_a_size_is_given_the_drawn_samples_again_and_again():
    for n, often in ((24, [8, 8, 8]), (25, [9, 8, 8])):
        call, seen = called("gradient", batch(n), compiles=True)
        audit_call(call, KernelHistory())  # each sample counts as often as it was given
        ((_, x, _, _),) = seen
        assert len(x) == n
        assert [sum(torch.equal(one, other) for other in x) for one in x[:3]] == often
        with pytest.raises(gk.Disagreement, match=rf"3 of {n} samples"):
            audit_call(called("gradient", batch(n), doubled, compiles=True)[0], KernelHistory())


def test_norms_beside_a_sum_are_those_of_the_sample_wherever_it_was_given_again():
    of = batch()
    options = QUANTITIES["clipped_sum_by"].checked({"max_norm": 0.3}, 24, of.theta, None)
    audit_call(called("clipped_sum_by", of, options=options.items(), compiles=True)[0], KernelHistory())

    def turned(result, y):
        return result._replace(norms=result.norms.roll(1, 0))

    with pytest.raises(gk.Disagreement, match="3 of 24 samples"):
        audit_call(called("clipped_sum_by", of, turned, options.items(), compiles=True)[0], KernelHistory())


def test_where_each_sample_draws_for_itself_some_are_computed_again_with_one_draw():
    for quantity, options in (("norms", {}), ("per_sample", {}), ("clipped_sum", {"max_norm": 0.01})):
        call, seen = called(quantity, batch(randomness="different"), options=options.items())
        wrong, _ = called(quantity, batch(randomness="different"), doubled, options=options.items())
        audit_call(call, KernelHistory())
        assert {problem.randomness for problem, *_ in seen} == {"same"}
        assert {len(x) for _, x, _, _ in seen} == {3}
        assert all(given == options for *_, given in seen)
        says = "3 of 3 samples" if quantity == "clipped_sum" else "n=3"
        with pytest.raises(gk.Disagreement, match=says):
            audit_call(wrong, KernelHistory())


# --- what cannot be audited


def said(call, history, times=2):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            audit_call(call, history)
    assert {one.category for one in caught} == {AuditWarning}
    return [str(one.message) for one in caught]


def test_what_an_audit_raises_is_said_once_and_no_fault_of_the_result():
    call, _ = called("gradient", batch())
    history = KernelHistory()

    def fails(*given):
        raise RuntimeError("no memory")

    call = replace(call, compute=fails)
    assert said(call, history) == ["torch.odd.gradient cannot be audited here: RuntimeError: no memory"]
    assert history.audits == 2


def test_a_model_that_gives_another_gradient_each_time_is_said_to_once(monkeypatch):
    call, _ = called("norms", batch(), doubled)
    looked = []
    monkeypatch.setattr(audit, "_repeats", lambda of, chosen: looked.append((of, chosen)))
    name = call.batch.problem.name
    assert said(call, KernelHistory()) == [
        f"{name} gives the same sample another gradient at each call, so that what is computed for it cannot be "
        "audited; have it compute the same again, or pass gk.audit('off')"
    ]
    assert [(of, len(chosen)) for of, chosen in looked] == [(call.batch, 3)] * 2


@pytest.mark.parametrize(
    ("unaudited", "since"),
    [
        (0, "no call before it went unaudited"),
        (1, "1 call since the last audit went unaudited"),
        (3, "3 calls since the last audit went unaudited"),
    ],
)
def test_what_is_set_aside_is_said_once_with_how_many_calls_went_unaudited(unaudited, since):
    history = KernelHistory(calls=8, unaudited=unaudited)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            warn_set_aside(history, LOOP, gk.Disagreement("it is off"))
    assert [str(one.message) for one in caught] == [
        "torch.loop.per_sample computed wrong numbers and is set aside: it is off. This call, number 8 of its kind, is "
        f"computed by another kernel; {since}. Please report this sentence to the authors of gradkernels, with the "
        f"model's layers and torch {torch.__version__}"
    ]
