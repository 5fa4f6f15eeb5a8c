"""A kernel's proof for a module: what it is called with, and what of its results and effects is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.check.modules import proof
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.quantity import QUANTITIES
from gradkernels.tree import each

INF, NAN = float("inf"), float("nan")


def batch(y=(1.0, 6.0, -1.0)):
    """Three samples of the model 2 x + 1 and its squared loss, whose bias is the smaller parameter."""
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 0.0]]))
        model.bias.fill_(1.0)
    problem = gk.ModuleProblem(model, nn.MSELoss())
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
    return CallerBatch(problem, problem.parameters(), x, torch.tensor(y)[:, None])


def proven(quantity, change=None, sample=None, out=False, **how):
    """Prove a kernel that computes by definition and then changes its result; what it was called with.

    `change(result, number of the call, x, y)` gives what it returns.
    """
    sample = batch() if sample is None else sample
    kernel = replace(gk.kernel("torch.vmap.per_sample"), quantity=QUANTITIES[quantity], name="odd", out=out)
    rows, calls = gk.kernel("torch.loop.per_sample").build(sample.problem), []

    def compute(theta, x, y, **options):
        calls.append((theta, x.clone(), y.clone(), options))
        given = {name: value for name, value in options.items() if name != "out"}
        result = QUANTITIES[quantity].of(torch, rows(theta, x, y), **given)
        return result if change is None else change(result, len(calls), x, y, **options)

    proof.prove_on_samples(kernel, compute, sample, **how)
    return calls


def refused(says, *given, **how):
    with pytest.raises(gk.Disagreement) as caught:
        proven(*given, **how)
    assert str(caught.value).startswith(says.replace("ODD", "torch.odd."))


# --- what it is called with


@pytest.mark.parametrize(("how", "first"), [({}, [-1.0, 2.0, 1.0]), ({"backwards": False}, [1.0, 2.0, -1.0]),
                                            ({"tight": True}, [-1.0, 2.0, 1.0])])  # fmt: skip
def test_it_is_called_with_the_samples_in_reverse_order_and_as_they_are(how, first):
    (_, x, y, options), (_, again, targets, others) = proven("norms", **how)
    assert x[:, 0].tolist() == first
    assert y[:, 0].tolist() == {1.0: [1.0, 6.0, -1.0], -1.0: [-1.0, 6.0, 1.0]}[first[0]]
    assert (again[:, 0].tolist(), targets[:, 0].tolist()) == ([1.0, 2.0, -1.0], [1.0, 6.0, -1.0])
    assert options == others == {}


def test_the_smallest_parameter_is_another_and_none_is_zero():
    for theta, _, _, _ in proven("gradient"):
        assert theta["weight"].tolist() == [[2.0, 0.0]]
        assert theta["bias"].tolist() == pytest.approx([1.1])
    sample = batch()
    zero = {"weight": torch.zeros(1, 2), "bias": torch.zeros(1, dtype=torch.float16)}
    made, again = (proof._nowhere_zero(zero) for _ in range(2))
    for name, one in made.items():
        assert (one.dtype, one.shape) == (zero[name].dtype, zero[name].shape)
        assert 0 < one.abs().min() <= one.abs().max() < 0.1
        assert torch.equal(one, again[name])
    assert not zero["weight"].any()
    kept = proof._nowhere_zero({**sample.theta, "last": torch.ones(1)})
    assert proof._nowhere_zero({"a": torch.ones(3), "b": torch.ones(1)})["b"].tolist() == pytest.approx([1.1])
    assert (kept["weight"] is sample.theta["weight"], kept["last"].tolist()) == (True, [1.0])


@pytest.mark.parametrize(
    ("y", "norm"),
    [
        ((1.0, 6.0, -1.0), 0.9 * (4.2**2 + 4.2**2) ** 0.5),  # at a bias of 1.1 its residual is 2.1
        ((3.0, 6.0, -1.0), 0.9 * (0.2**2 + 0.2**2) ** 0.5),
        ((NAN, 6.0, -1.0), 1.0),
        ((INF, 6.0, -1.0), 1.0),
    ],
)
def test_a_clipped_sum_is_asked_with_some_rows_clipped_and_with_none(y, norm):
    sample = batch(y)
    if y[0] == INF:
        sample.x[0, 1] = 1.0  # 0 would make a NaN of it
    calls = proven("clipped_sum", sample=sample)
    (first, second) = (options["max_norm"] for *_, options in calls)
    assert (first, second) == (pytest.approx(norm, rel=1e-5), INF)


def test_a_gradient_of_zero_is_clipped_at_one():
    zero = batch((0.0, 0.0, 0.0))
    zero = replace(zero, x=torch.zeros(3, 2), y=torch.full((3, 1), float(torch.tensor(1.0) * 1.1)))
    assert [options for *_, options in proven("clipped_sum", sample=zero)] == [{"max_norm": 1.0}, {"max_norm": INF}]


@pytest.mark.parametrize("quantity", ["norms", "per_sample"])
def test_memory_for_the_result_is_full_of_nan(quantity):
    seen = []

    def filled(result, call, x, y, out=None):
        if out is None:
            return result
        for part, value in zip(
            *([one] if quantity == "norms" else [*one.values()] for one in (out, result)), strict=True
        ):
            seen.append((bool(part.isnan().all()), part.shape == value.shape, part.dtype, part.requires_grad))
            part.copy_(value)
        return out

    first, second = proven(quantity, filled, out=True)
    assert ("out" in first[-1], "out" in second[-1]) == (False, True)
    assert seen == [(True, True, torch.float32, False)] * (1 if quantity == "norms" else 2)


def test_memory_for_norms_is_like_the_only_parameter():
    problem = gk.ModuleProblem(nn.Linear(2, 1, bias=False).double(), nn.MSELoss())
    sample = CallerBatch(problem, problem.parameters(), torch.ones(3, 2).double(), torch.zeros(3, 1).double())

    def filled(result, call, x, y, out=None):
        return result if out is None else out.copy_(result) if out.dtype == torch.float64 else None

    assert len(proven("norms", filled, sample=sample, out=True)) == 2


# --- options


def test_options_are_tensors_like_their_parameters_or_the_first_one_and_numbers_of_groups_stay():
    theta = {"a": torch.zeros(2), "b": torch.zeros(1, dtype=torch.float64)}
    v = {"a": np.array([0.5, 2.0]), "b": np.array([0.1])}
    groups, by, limits = np.array([0, 1]), (("one", ("a",)),), {"one": 3.0}
    made = proof._placed({"v": v, "weights": v["b"], "groups": groups, "by": by, "limits": limits, "max": 2.5}, theta)
    assert (made["v"]["a"].dtype, made["v"]["a"].tolist()) == (torch.float32, [0.5, 2.0])
    assert (made["v"]["b"].dtype, made["v"]["b"].tolist()) == (torch.float64, [0.1])
    assert (made["weights"].dtype, made["weights"].tolist()) == (torch.float32, [pytest.approx(0.1)])
    assert made["groups"] is groups
    assert (made["by"], made["limits"], made["max"]) == (by, limits, 2.5)
    made["v"]["b"].zero_()
    assert v["b"].tolist() == [0.1], "what a kernel writes to is none of the proof's"


def test_both_calls_have_what_a_quantity_needs_the_first_and_the_last_of_several_settings_beside_it():
    sample, seen = batch(), []

    def asked(*settings):
        def with_settings(draw):
            seen.append(draw)
            return ((str(i), one) for i, one in enumerate(settings))

        norms = replace(QUANTITIES["clipped_sum"], needs=lambda draw: {"a": draw.n}, settings=with_settings)
        return proof._options(norms, sample)

    assert proof._options(QUANTITIES["norms"], sample) == ({}, {})
    assert asked() == ({"a": 3}, {"a": 3})
    assert asked({"b": 1}) == ({"a": 3, "b": 1}, {"a": 3})
    assert asked({"b": 1}, {"b": 2}, {"a": 4}) == ({"a": 3, "b": 1}, {"a": 4})
    assert seen[0].norms == [pytest.approx(0.9 * 32**0.5)]  # the residual is 2, and so is its slope
    assert (seen[0].theta, seen[0].batch) == (sample.theta, (sample.x, sample.y))


@pytest.mark.parametrize("quantity", ["weighted_sum", "group_sums", "outer", "inner", "clipped_sum_by"])
def test_options_by_sample_are_turned_with_the_samples(quantity):
    proven(quantity)
    with pytest.raises(gk.Disagreement, match=f"^torch.odd.{quantity} on "):
        proven(quantity, lambda result, call, *given, **options: each(lambda one: one + (call == 1), result))


@pytest.mark.parametrize("wrong", [1, 2])
def test_writing_to_an_option_is_refused(wrong):
    def writes(result, call, x, y, v):
        for part in v.values() if call == wrong else ():
            part.mul_(1)
        return result

    refused("ODDinner changed one of its options", "inner", writes)


# --- what is refused


@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("wrong", [1, 2])
def test_both_results_are_held_against_single_passes(wrong, tight):
    for quantity, says in (("norms", "the norm of sample "), ("gradient", "entry (0, 0) of weight is ")):

        def twice(result, call, x, y):
            factor = 1 + (call == wrong)
            return result * factor if isinstance(result, torch.Tensor) else {k: v * factor for k, v in result.items()}

        name = batch().problem.name
        refused(f"ODD{quantity} on {name}, n=3, float32: {says}", quantity, twice, tight=tight)


def test_the_places_of_the_samples_of_both_calls_are_known():
    def turned(result, call, x, y):
        return result.flip(0) if call == 1 else result

    refused(f"ODDnorms on {batch().problem.name}, n=3, float32: the norm of sample 2 is", "norms", turned)
    proven("norms")


def test_a_result_of_another_structure_is_refused():
    says = f"ODDnorms on {batch().problem.name}, n=3, float32: shape (3, 1), expected (3,)"
    refused(says, "norms", lambda result, call, x, y: result[:, None] if call == 2 else result)
    refused(says, "norms", lambda result, call, x, y: result[:, None] if call == 1 else result)


def test_a_result_that_the_next_call_writes_over_is_refused():
    kept = []

    def later(result, call, x, y):
        kept.append(result)
        if call == 2:
            kept[0] *= 1 + 1e-5  # within the tolerance
        return result

    refused("ODDnorms wrote over the result of an earlier call", "norms", later)
    kept.clear()
    proven("norms", later, tight=True)  # there is no earlier one any more


def test_nan_that_stays_is_no_change():
    proven("norms", sample=batch((NAN, 6.0, -1.0)))


@pytest.mark.parametrize("quantity", ["per_sample", "gradient", "norms"])
def test_nan_is_not_taken_for_infinity(quantity):
    problem = replace(batch().problem, loss_fn=lambda output, _: (1e30 * (1e30 * output)).mean())
    sample = replace(
        batch(), problem=problem, theta=problem.parameters(), x=torch.tensor([[1.0, 2.0], [2.0, 1.0], [-1.0, 3.0]])
    )

    def spoilt(result, *_):
        return each(lambda one: torch.where(one.isinf(), NAN, one), result)

    proven(quantity, sample=sample)
    with pytest.raises(gk.Disagreement, match=r" is nan, expected inf, allowed 0\.0001$"):
        proven(quantity, spoilt, sample)


def test_writing_to_an_input_or_to_the_model_is_refused():
    def writes(result, call, x, y):
        if call == 2:
            x.mul_(1)
        return result

    refused("ODDnorms changed one of its inputs", "norms", writes)
    sample = batch()
    sample.problem.model.register_buffer("steps", torch.zeros(()))

    def counts(result, call, x, y):
        sample.problem.model.steps += 1
        return result

    refused("ODDnorms left the model changed: ", "norms", counts, sample=sample)


def test_other_memory_than_was_given_is_refused():
    says = "ODDnorms: out= was given but is not what came back"
    refused(says, "norms", lambda result, call, x, y, out=None: result, out=True)

    def half(result, call, x, y, out=None):
        return result if out is None else out.index_copy_(0, torch.tensor([0]), result[:1])

    refused(f"ODDnorms on {batch().problem.name}, n=3, float32: the norm of sample 1 is nan", "norms", half, out=True)


@pytest.mark.parametrize(("tight", "seen"), [(False, ["call", "call", 2]), (True, ["call", 1, "call", 1])])
def test_under_a_limit_each_result_is_looked_at_before_the_next_call(monkeypatch, tight, seen):
    events = []
    monkeypatch.setattr(proof, "require_agreement", lambda sample, chosen, results: events.append(len(results())))
    proven("norms", lambda result, call, x, y: events.append("call") or result, tight=tight)
    assert events == seen
