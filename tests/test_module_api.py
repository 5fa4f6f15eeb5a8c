"""Module problems in the public API: what may be given, memory for results, the choice, the proof and the race."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import models
import numpy as np
import pytest
import torch
from models import CROSS_ENTROPY, Pair, mlp, oracle, pair_loss
from torch import nn

import gradkernels as gk
from gradkernels.bench.race.plan import plan_race
from gradkernels.check.modules import reference, verdicts
from gradkernels.check.reference import Reference
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.machine import machine
from gradkernels.kernel import Kernel
from gradkernels.memory.overlap import overlap
from gradkernels.quantity import QUANTITIES


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def problem():
    return gk.ModuleProblem(mlp(), CROSS_ENTROPY, example=(torch.randn(6, 4), models.classes(6)))


@pytest.fixture
def data():
    return torch.randn(5, 4), models.classes(5)


# --- what may be given


def theta_of(model, **changes):
    theta = {name: one.detach().clone() for name, one in model.named_parameters()}
    return {name: one for name, one in {**theta, **changes}.items() if one is not None}


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"0.bias": None}, ValueError, r"theta lacks '0.bias'; the model's trainable parameters are '0.weight', '0.b"),
        ({"bias": torch.ones(1)}, ValueError, "theta has 'bias' besides; the model's"),
        ({"0.bias": torch.ones(4)}, ValueError, r"theta\['0.bias'\] is \(4,\); it must be \(5,\) as in the model"),
        ({"0.bias": torch.ones(5).double()}, TypeError, "mixed dtype: .*0.bias.* torch.float64"),
        ({"0.bias": torch.ones(5).int()}, TypeError, r"theta\['0.bias'\] is torch.int32; allowed are float64 and"),
        ({"0.bias": np.ones(5, "float32")}, TypeError, r"theta\['0.bias'\] is a numpy.ndarray; a module takes torch"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(problem, data, changes, kind, says):
    with pytest.raises(kind, match=says):
        gk.per_sample(problem, theta_of(problem.model, **changes), *data)


@pytest.mark.parametrize(
    ("x", "y", "kind", "says"),
    [
        (
            np.ones((5, 4), "float32"),
            models.classes(5),
            TypeError,
            "x is a numpy.ndarray; a module takes torch tensors",
        ),
        (
            [torch.ones(4)],
            models.classes(1),
            ValueError,
            r"x\[0\] \(4,\), y \(1,\): the first axis is the samples",
        ),
        (torch.ones(5, 4), models.classes(4), ValueError, r"x \(5, 4\), y \(4,\): the first axis is the samples"),
        ((torch.ones(5, 4), torch.ones(3)), models.classes(5), ValueError, r"x\[0\] \(5, 4\), x\[1\] \(3,\), y \(5,\)"),
        (torch.ones(5, 4), torch.tensor(1), ValueError, r"y \(\): each needs the samples as its first axis"),
        ((), (), ValueError, "x and y are empty"),
    ],
)
def test_data_that_do_not_fit_are_refused(problem, x, y, kind, says):
    with pytest.raises(kind, match=says):
        gk.per_sample(problem, None, x, y)


def test_a_theta_that_is_no_dict_is_refused(problem, data):
    with pytest.raises(ValueError, match="theta is a Tensor; it must be a dict of '0.weight', '0.bias'"):
        gk.per_sample(problem, torch.ones(20), *data)


def test_a_regression_has_no_parameters_of_its_own():
    with pytest.raises(TypeError, match="theta is None; linear has no parameters of its own, pass them"):
        gk.per_sample(gk.LinearRegression(), None, np.ones(2), np.ones(2))


def test_none_is_the_models_own_parameters_as_they_are_at_the_call(problem, data):
    first = gk.per_sample(problem, None, *data)
    torch.testing.assert_close(first, gk.per_sample(problem, theta_of(problem.model), *data))
    bound = gk.fastest(problem, "per_sample", like=(None, *data))
    with torch.no_grad():
        problem.model[2].weight += 1
    now = gk.per_sample(problem, theta_of(problem.model), *data)
    assert not torch.equal(first["0.bias"], now["0.bias"])
    torch.testing.assert_close(gk.per_sample(problem, None, *data), now)
    torch.testing.assert_close(bound(None, *data), now)


@pytest.mark.parametrize("way", ["torch.loop", "torch.vmap"])
def test_rows_come_in_the_order_of_the_parameters_that_are_given(problem, data, way):
    theta = dict(reversed(theta_of(problem.model).items()))
    assert list(gk.per_sample(problem, theta, *data, kernel=way)) == list(theta)


def test_sample_weights_are_for_regressions(problem, data):
    with pytest.raises(TypeError, match="put weights into the loss of a ModuleProblem"):
        gk.per_sample(problem, None, *data, sample_weight=torch.ones(5))


# --- memory for results


def buffers(problem, n, **changes):
    made = {name: torch.full((n, *one.shape), torch.nan) for name, one in problem.parameters().items()}
    return {name: one for name, one in {**made, **changes}.items() if one is not None}


@pytest.mark.parametrize("way", [None, "torch.loop", "torch.vmap", "torch.vmap[chunk=2]"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_rows_are_written_into_given_memory(problem, data, way, mode):
    with mode():
        out = buffers(problem, 5)
        kept = dict(out)
        assert gk.per_sample(problem, None, *data, out=out, kernel=way) is out
    assert all(out[name] is kept[name] for name in kept)
    for name, rows in oracle(problem.model, problem.loss_fn, *data).items():
        torch.testing.assert_close(out[name].double(), rows, atol=1e-5, rtol=1e-5)


def test_norms_are_written_into_given_memory(problem, data):
    out = torch.full((5,), torch.nan)
    assert gk.norms(problem, None, *data, out=out) is out
    torch.testing.assert_close(out, gk.norms(problem, None, *data))


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (
            lambda p, x: torch.empty(5, 43),
            TypeError,
            "out is a Tensor; it must be a dict of buffers with theta's names",
        ),
        (lambda p, x: buffers(p, 5, **{"0.bias": None}), ValueError, "out lacks '0.bias'; its names must be those of"),
        (lambda p, x: buffers(p, 5, more=x), ValueError, "out has 'more' besides"),
        (
            lambda p, x: buffers(p, 4),
            ValueError,
            r"out\['0.weight'\] is \(4, 5, 4\) float32 on cpu; it must be \(5, 5,",
        ),
        (
            lambda p, x: buffers(p, 5, **{"0.bias": torch.empty(5, 5).double()}),
            ValueError,
            "float64 on cpu; it must be",
        ),
        (lambda p, x: buffers(p, 5, **{"0.bias": np.empty((5, 5))}), TypeError, "must be an array of the same"),
        (
            lambda p, x: buffers(p, 5, **{"0.bias": torch.empty(5, 5, requires_grad=True)}),
            ValueError,
            r"out\['0.bias'\] requires gradients, so it cannot be written to",
        ),
        (
            lambda p, x: buffers(p, 5, **{"2.bias": x.view(-1)[:15].view(5, 3)}),
            ValueError,
            r"out\['2.bias'\] shares memory with an input",
        ),
    ],
)
def test_memory_that_does_not_fit_is_refused(problem, data, make, kind, says):
    with pytest.raises(kind, match=says):
        gk.per_sample(problem, None, *data, out=make(problem, data[0]))


def test_memory_that_two_parameters_share_is_refused(problem, data):
    both = torch.empty(40)
    out = buffers(problem, 5, **{"0.bias": both[:25].view(5, 5), "2.bias": both[20:35].view(5, 3)})
    with pytest.raises(ValueError, match=r"out\['0.bias'\] and out\['2.bias'\] share memory"):
        gk.per_sample(problem, None, *data, out=out)


@pytest.mark.parametrize("transposed", [False, True])
def test_columns_of_one_buffer_are_memory_of_their_own(problem, data, transposed):
    sizes = [parameter.numel() for parameter in problem.parameters().values()]
    whole = torch.full((5, sum(sizes)), torch.nan)
    columns = (whole.T.contiguous().T if transposed else whole).split(sizes, 1)
    out = {
        name: part.unflatten(1, one.shape)
        for (name, one), part in zip(problem.parameters().items(), columns, strict=True)
    }
    found = gk.per_sample(problem, None, *data, out=out)
    expected = gk.per_sample(problem, None, *data, kernel="torch.loop")
    assert all(found[name].data_ptr() == out[name].data_ptr() for name in out)
    torch.testing.assert_close(found, expected)
    assert not columns[0]._base.isnan().any()


def test_columns_that_overlap_in_one_entry_are_refused(problem, data):
    whole = torch.empty(5, 100)
    out = buffers(problem, 5, **{"0.bias": whole[:, 10:15], "2.bias": whole[:, 14:17]})
    with pytest.raises(ValueError, match=r"out\['0.bias'\] and out\['2.bias'\] share memory"):
        gk.per_sample(problem, None, *data, out=out)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (np.s_[:, :3], np.s_[:, 3:], False),
        (np.s_[:, :4], np.s_[:, 3:], True),
        (np.s_[::2], np.s_[1::2], False),
        (np.s_[::2], np.s_[::3], True),
        (np.s_[:0], np.s_[:], False),
        (np.s_[:, ::2], np.s_[:, 1::2], False),
    ],
)
def test_views_share_memory_where_they_have_an_entry_in_common(one, other, shared):
    whole = np.zeros((7, 9))
    assert overlap(whole[one], whole[other]) is shared
    assert overlap(torch.from_numpy(whole)[one], torch.from_numpy(whole)[other]) is shared


# --- the choice


def declared(name, quantity, builder, **options):
    return replace(gk.kernel("torch.loop.per_sample"), name=name, quantity=QUANTITIES[quantity], loops=False,
                   out=False, builder=builder, **options)  # fmt: skip


def doubled(problem):
    compute = gk.kernel("torch.loop.per_sample").build(problem)
    return lambda theta, x, y: {name: 2 * rows for name, rows in compute(theta, x, y).items()}


def breaks(problem):
    raise NotImplementedError("not this model\nat all")


@pytest.fixture
def only(monkeypatch):
    """A function that makes the registry have these kernels alone."""

    def limit(*kernels: Kernel):
        monkeypatch.setattr("gradkernels.dispatch.select.kernels", lambda problem, quantity: kernels)

    return limit


def test_a_kernel_that_fails_or_is_wrong_is_set_aside_with_the_reason(problem, data, only):
    only(declared("breaks", "per_sample", breaks), declared("doubled", "per_sample", doubled),
         gk.kernel("torch.loop.per_sample"))  # fmt: skip
    bound = gk.fastest(problem, "per_sample", like=(None, *data))
    assert bound.kernel.key == "torch.loop.per_sample"
    assert "torch.breaks.per_sample: NotImplementedError: not this model\n" in bound.why
    assert "torch.doubled.per_sample: Disagreement: torch.doubled.per_sample on module:Sequential:" in bound.why


def test_where_all_fail_every_reason_is_given(problem, data, only):
    only(declared("breaks", "per_sample", breaks), declared("doubled", "per_sample", doubled))
    says = "nothing can compute per_sample of module:.* here: .*not this model; .*Disagreement: torch.doubled"
    with pytest.raises(ValueError, match=says):
        gk.fastest(problem, "per_sample", like=(None, *data))


def test_a_kernel_that_is_asked_for_is_not_set_aside(problem, data):
    with pytest.raises(gk.Disagreement, match="off by"):
        gk.per_sample(problem, None, *data, kernel=declared("doubled", "per_sample", doubled))
    with pytest.raises(NotImplementedError, match="not this model"):
        gk.per_sample(problem, None, *data, kernel=declared("breaks", "per_sample", breaks))


def test_the_rule_takes_what_is_ranked_first_and_never_compiles(problem, data):
    first = {quantity: gk.fastest(problem, quantity, like=(None, *data)).kernel for quantity in QUANTITIES}
    assert first["gradient"].key == "torch.autograd.gradient"
    assert not any(kernel.compiles or kernel.loops for kernel in first.values())
    assert "a rule, as nothing was measured for it: nothing to compile" in gk.fastest(problem, "norms", n=6).why


def test_one_proof_answers_for_all_sizes_but_one_and_for_other_modes_another(problem, data, monkeypatch):
    proofs, really = [], verdicts.prove_on_samples
    monkeypatch.setattr(
        verdicts, "prove_on_samples", lambda *given, **how: proofs.append(len(given[2].y)) or really(*given, **how)
    )
    model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.0), nn.Linear(5, 3))
    problem, (x, y) = gk.ModuleProblem(model, CROSS_ENTROPY), data
    for n in (1, 2, 5):
        gk.per_sample(problem, None, x[:n], y[:n], kernel="torch.vmap")
    assert proofs == [3, 3]
    model.eval()
    gk.per_sample(problem, None, x, y, kernel="torch.vmap")
    gk.norms(problem, None, x, y, kernel="torch.vmap")  # from rows, which are proven
    assert proofs == [3, 3, 5]
    gk.per_sample(problem, None, x.repeat(9, 1), y.repeat(9), kernel="torch.vmap[chunk=3]")
    assert proofs == [3, 3, 5]
    gk.per_sample(gk.ModuleProblem(model, nn.CrossEntropyLoss()), None, x, y, kernel="torch.vmap")
    assert proofs == [3, 3, 5]
    gk.per_sample(problem, None, x.repeat(9, 1), y.repeat(9), kernel="torch.hooks")
    assert proofs == [3, 3, 5, 8]


def test_without_arrays_the_example_is_what_is_proven_on(problem):
    bound = gk.fastest(problem, "per_sample", n=1000)
    assert (bound.request.case.dtype, bound.request.case.features) == ("float32", 4)
    assert bound(None, *problem.example)["2.bias"].shape == (6, 3)
    bare = replace(problem, example=None)
    with pytest.raises(ValueError, match=r"has no data to draw from; make the ModuleProblem with example=\(x, y\)"):
        gk.fastest(bare, "per_sample", n=10)


def measured(problem, **seconds_and_first):
    points = {f"torch.{way}.per_sample": (wisdom.MeasuredPoint(6, seconds, first, None),)
              for way, (seconds, first) in seconds_and_first.items()}  # fmt: skip
    case = Coordinates(problem.name, "per_sample", ALL_SIZES, 4, "float32", "C", "cpu", 1)
    return (wisdom.WisdomEntry(machine(), case, points),)


def test_what_was_measured_for_the_structure_decides_for_every_model_of_it(problem, data):
    wisdom.save(measured(problem, loop=(1.0, 1.0), vmap=(2.0, 1.0)))
    try:
        for model in (problem.model, mlp()):
            bound = gk.fastest(gk.ModuleProblem(model, CROSS_ENTROPY), "per_sample", like=(None, *data))
            assert bound.kernel.key == "torch.loop.per_sample"
            assert "this machine's saved wisdom" in bound.why
        other = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        assert "a rule" in gk.fastest(gk.ModuleProblem(other, CROSS_ENTROPY), "per_sample", like=(None, *data)).why
    finally:
        wisdom.saved_path().unlink()
        wisdom.saved.cache_clear()


def test_few_calls_weigh_the_first(problem, data):
    wisdom.save(measured(problem, loop=(2.0, 1.0), vmap=(1.0, 100.0)))
    try:
        for calls, winner in ((None, "vmap"), (1, "loop"), (50, "loop"), (200, "vmap")):
            bound = gk.fastest(problem, "per_sample", like=(None, *data), calls=calls)
            assert bound.kernel.key == f"torch.{winner}.per_sample"
    finally:
        wisdom.saved_path().unlink()
        wisdom.saved.cache_clear()


# --- the proof


def inputs_of(problem, x, y, dtype="float64"):
    theta = {name: one.detach().numpy().astype(dtype) for name, one in problem.parameters().items()}
    return theta, x.numpy().astype(dtype), y.numpy()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_honest_kernels_pass(problem, quantity, dtype):
    ways = ["torch.autograd"] if quantity == "gradient" else []
    plus = "" if quantity == "per_sample" else "+"
    for way in [*ways, f"torch.loop{plus}", f"torch.vmap{plus}"]:
        proof = gk.check(f"{way}.{quantity}", gk.Case(problem, quantity, 9, dtype))
        assert proof.error < proof.tolerance == {"float64": 1e-10, "float32": 1e-4}[dtype]


WRONG = {
    "doubled": lambda rows: {name: 2 * one for name, one in rows.items()},
    "zero": lambda rows: {name: 0 * one for name, one in rows.items()},
    "negated": lambda rows: {name: -one for name, one in rows.items()},
    "1/n left in": lambda rows: {name: one / len(one) for name, one in rows.items()},
    "rows swapped": lambda rows: {name: one.flip(0) for name, one in rows.items()},
    "one parameter's rows swapped": lambda rows: {**rows, "0.bias": rows["0.bias"].flip(0)},
    "one parameter zero": lambda rows: {**rows, "0.bias": 0 * rows["0.bias"]},
    "not a number": lambda rows: {**rows, "0.bias": rows["0.bias"] * torch.nan},
    "one entry off by 1%": lambda rows: {**rows, "0.weight": one_off(rows["0.weight"])},
}


def one_off(rows):
    rows = rows.clone()
    rows.view(-1)[rows.abs().argmax()] *= 1.01
    return rows


def instead(change):
    """The right way, with `change` of its rows for the result."""

    def build(problem):
        compute = gk.kernel("torch.loop.per_sample").build(problem)
        return lambda theta, x, y: change(compute(theta, x, y))

    return declared("wrong", "per_sample", build)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_rows_are_rejected_and_the_parameter_is_named(problem, name, dtype):
    case = gk.Case(problem, "per_sample", 5, dtype)
    with pytest.raises(gk.Disagreement, match=r"entry \(\d, .*\) of (0|2)\.(weight|bias) is"):
        gk.check(instead(WRONG[name]), case)


@pytest.mark.parametrize(
    ("wrong_from", "told", "asked_about"), [(0, "for some of the samples on .*, n=16", 16), (17, "on .*, n=40", 40)]
)
@pytest.mark.parametrize("quantity", ["gradient", "clipped_sum"])
def test_a_wrong_sum_is_known_by_some_samples_where_it_is_wrong_for_them(
    problem, monkeypatch, quantity, wrong_from, told, asked_about
):
    """How well a row can be known takes five passes for each sample that is asked about."""
    asked, look = [], reference.row_errors
    monkeypatch.setattr(reference, "row_errors", lambda *given: asked.append(len(given[-2])) or look(*given))

    def build(problem):
        compute = gk.kernel(f"torch.loop+.{quantity}").build(problem)

        def off(theta, x, y, **options):
            found = compute(theta, x, y, **options)
            return found if len(y) < wrong_from else {**found, "0.bias": 1.5 * found["0.bias"]}

        return off

    with pytest.raises(gk.Disagreement, match=f"^torch.wrong.{quantity} {told}, float32"):
        gk.check(declared("wrong", quantity, build), gk.Case(problem, quantity, 40, "float32"))
    assert asked == [asked_about]


MALFORMED = {
    "a name missing": (lambda rows: {k: v for k, v in rows.items() if k != "0.bias"}, r"lacks \['0.bias'\] parameters"),
    "another order": (lambda rows: dict(reversed(rows.items())), "their order is not theta's"),
    "another dtype": (lambda rows: {**rows, "0.bias": rows["0.bias"].half()}, r"\['0.bias'\]: dtype torch.float16, ex"),
    "another shape": (
        lambda rows: {**rows, "0.bias": rows["0.bias"][:, None]},
        r"\['0.bias'\]: shape \(5, 1, 5\), exp",
    ),
    "no dict": (lambda rows: rows["0.bias"], "returned a Tensor, not per_sample's structure"),
    "a tuple": (lambda rows: tuple(rows.values()), "returned a tuple, not per_sample's structure"),
    "a graph": (lambda rows: {**rows, "0.bias": rows["0.bias"].requires_grad_()}, "part of a graph"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_results_of_another_form_are_rejected(problem, name):
    change, says = MALFORMED[name]
    with pytest.raises(gk.Disagreement, match=says):
        gk.check(instead(change), gk.Case(problem, "per_sample", 5))


def test_a_view_of_a_parameter_is_no_result(problem):
    def build(problem):
        return lambda theta, x, y: dict(theta)

    with pytest.raises(gk.Disagreement, match="returned memory of one of its inputs"):
        gk.check(declared("view", "gradient", build), gk.Case(problem, "gradient", 5))


SPOILS = {
    "a gradient": lambda model: setattr(model[0].bias, "grad", torch.ones(5)),
    "a mode": lambda model: model.eval(),
    "a hook": lambda model: model[0].register_forward_hook(lambda *_: None),
    "requires_grad": lambda model: model[0].weight.requires_grad_(False),
    "a parameter": lambda model: setattr(model[0], "bias", nn.Parameter(torch.ones(5))),
}


@pytest.mark.parametrize("name", SPOILS)
def test_a_kernel_that_leaves_the_model_changed_is_rejected(problem, name):
    def build(problem):
        compute = gk.kernel("torch.loop.per_sample").build(problem)

        def spoiling(theta, x, y):
            result = compute(theta, x, y)
            SPOILS[name](problem.model)
            return result

        return spoiling

    with pytest.raises(gk.Disagreement, match="left the model changed: "):
        gk.check(declared("spoils", "per_sample", build), gk.Case(problem, "per_sample", 5, "float32"))


def test_the_gradient_of_the_reference_is_a_pass_of_its_own(problem, data):
    reference = Reference(problem, *inputs_of(problem, *data))
    model = mlp().double()
    model.load_state_dict(problem.model.state_dict())
    CROSS_ENTROPY(model(data[0].double()), data[1]).backward()
    want = np.concatenate([one.grad.numpy().ravel() for one in model.parameters()])
    np.testing.assert_allclose(reference.gradient, want, atol=1e-14)
    assert reference.rows.shape == (5, 43)


def test_a_nearly_flat_loss_is_not_held_to_digits_that_float32_has_not():
    model, x = nn.Linear(1, 1), torch.full((2, 1), 1e4)
    y = model(x).detach() + 1e-3  # the residual is below what float32 has of a prediction that large
    problem = gk.ModuleProblem(model, nn.MSELoss())
    gk.per_sample(problem, None, x, y, kernel="torch.loop")


def test_tokens_and_masks_reach_the_model_as_they_are():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(9, 3)

        def forward(self, tokens, mask):
            assert (tokens.dtype, mask.dtype) == (torch.int64, torch.bool)
            return (self.embedding(tokens) * mask[..., None]).sum(1)

    model, y = Masked(), models.classes(4)
    x = {"tokens": torch.randint(0, 9, (4, 6)), "mask": torch.rand(4, 6) > 0.3}
    rows = gk.per_sample(gk.ModuleProblem(model, CROSS_ENTROPY), None, x, y)
    want = oracle(model, CROSS_ENTROPY, x, y)["embedding.weight"]
    torch.testing.assert_close(rows["embedding.weight"].double(), want, atol=1e-6, rtol=1e-5)


def test_a_case_has_the_parameters_and_features_of_the_module(problem):
    case = gk.Case(problem, "norms", 3)
    assert (case.parameters, case.features) == (4 * 5 + 5 + 5 * 3 + 3, 4)
    pair = gk.ModuleProblem(
        Pair(), pair_loss, example=({"a": torch.ones(2, 3), "b": torch.ones(2, 2)}, models.targets(2))
    )
    assert gk.Case(pair, "norms", 3).features == 5
    theta, x, y = gk.Case(pair, "norms", 3).draw()
    assert (x["a"].shape, y["weight"].shape, theta["left.weight"].dtype) == ((3, 3), (3,), np.float64)
    with pytest.raises(ValueError, match="numpy has no bfloat16"):
        gk.Case(problem, "norms", 3, "bfloat16").draw()
    with pytest.raises(ValueError, match="there is no dtype 'float16'"):
        gk.Case(gk.LinearRegression(), "norms", 3, "float16")


def test_ways_of_other_libraries_say_why_they_cannot(problem):
    (says,) = gk.kernel("jax.vmap.per_sample").unsupported(gk.Case(problem, "per_sample", 3))
    assert says == "jax.vmap.per_sample computes with arrays of jax, a ModuleProblem with those of torch"
    (says,) = gk.kernel("numpy.loop.per_sample").unsupported(gk.Case(problem, "per_sample", 3))
    assert says == "numpy.loop.per_sample is written for a Regression, not for ModuleProblem"


# --- the race and the command line

SCRIPT = """
import sys, torch
from torch import nn
import gradkernels as gk
from gradkernels.bench.race import elimination, plan

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
    def forward(self, x):
        return torch.tanh(self.linear(x))

if __name__ == "__main__":
    problem = gk.ModuleProblem(Mine(), lambda output, y: ((output - y) ** 2).mean())
    x, y = torch.randn(8, 3), torch.randn(8, 2)
    elimination.ELIMINATION_LOOKS, elimination.FRESH_PASSES = ((2, 0.05),), 1
    ways = [gk.kernel(f"torch.{way}.norms") for way in ("hooks", "loop+")]
    plan.kernels = lambda problem, quantity: ways
    won = gk.race(problem, "norms", like=(None, x, y), budget=2, calls=1000, parameters="*.weight")
    print(won.kernel.key, "saved wisdom" in won.why, won.why.count('times the winner') == 1)
    print(torch.allclose(won(None, x, y), gk.norms(problem, None, x, y, parameters="*.weight")))
"""


def test_a_race_of_a_class_and_a_lambda_of_the_script_itself(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {"GRADKERNELS_WISDOM": str(tmp_path / "wisdom.json")}
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment})  # fmt: skip
    assert done.returncode == 0, done.stderr
    key, *facts = done.stdout.split()
    assert facts == ["True", "True", "True"]
    assert key.endswith(".norms")


def test_compiled_ways_take_part_where_half_the_budget_pays_for_them(problem, data, tmp_path, monkeypatch):
    ways = (gk.kernel("torch.vmap.per_sample"), declared("compiles", "per_sample", doubled, compiles=True))
    monkeypatch.setattr("gradkernels.bench.race.plan.kernels", lambda problem, quantity: ways)
    monkeypatch.setattr("gradkernels.bench.run.plan.kernel_by_key", lambda key: gk.kernel("torch.vmap.per_sample"))
    for budget, keys in ((59, 1), (60, 2)):
        plan = plan_race(problem, QUANTITIES["per_sample"], (None, *data), tmp_path, budget)
        assert len(plan.kernels) == keys
    assert (plan.sizes, plan.dtype, plan.data) == ((5,), "float32", None)


def test_a_model_that_cannot_be_raced_is_refused_before_anything_is_measured(data):
    mixing = gk.ModuleProblem(nn.Sequential(nn.Linear(4, 3), nn.Softmax(0)), CROSS_ENTROPY)
    with pytest.raises(ValueError, match="mixes the samples"):
        gk.race(mixing, "norms", like=(None, *data))


def test_drawn_parameters_are_near_the_models_own_and_nowhere_zero():
    model = mlp()
    nn.init.zeros_(model[2].weight)
    drawn = gk.ModuleProblem(model, CROSS_ENTROPY).draw_theta(1, seed=3)
    own = model[0].weight.detach().numpy()
    off = np.abs(drawn["0.weight"] / own - 1)
    assert 0.03 < off.mean() < 0.2
    assert 0.001 < np.abs(drawn["2.weight"]).mean() < 0.03  # or what is before it would have no gradient
    assert not np.array_equal(
        drawn["0.weight"], gk.ModuleProblem(model, CROSS_ENTROPY).draw_theta(1, seed=4)["0.weight"]
    )


# --- threads


@pytest.mark.parametrize("way", ["torch.hooks", "torch.vmap"])
def test_threads_take_turns_at_one_model(problem, data, way):
    x, y = data
    thetas = [{name: scale * one.detach() for name, one in problem.parameters().items()} for scale in (1.0, 2.0)]
    want = [gk.per_sample(problem, theta, x, y, kernel=way) for theta in thetas]

    def wrong(at):
        rows = [gk.per_sample(problem, thetas[at], x, y, kernel=way) for _ in range(50)]
        return sum(not all(torch.equal(row[name], want[at][name]) for name in row) for row in rows)

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(wrong, (0, 1, 0, 1))) == [0, 0, 0, 0]


# --- samples in an order of the model's own


class Sorted(nn.Linear):
    """Puts its samples in order, and back."""

    def forward(self, x):
        order = x[:, 0].argsort()
        return super().forward(x[order])[order.argsort()]


@pytest.mark.parametrize("first", [[0], [0, 1], [1, 0], [0, 1, 2, 3], [3, 2, 1, 0]])
def test_a_kernel_that_relies_on_the_order_of_samples_does_not_pass_on_sorted_ones(first):
    problem = gk.ModuleProblem(Sorted(4, 3), CROSS_ENTROPY)
    x, y = torch.arange(16.0).reshape(4, 4).sin().cumsum(0), torch.tensor([0, 1, 2, 1])
    x[:, 0] = torch.arange(4.0)
    gk.per_sample(problem, None, x[first], y[first])
    mixed = [2, 0, 3, 1]
    rows, want = gk.per_sample(problem, None, x[mixed], y[mixed]), oracle(problem.model, CROSS_ENTROPY, x, y)
    for name, row in rows.items():
        torch.testing.assert_close(row.double(), want[name][mixed])
