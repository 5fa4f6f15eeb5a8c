"""What kernels of modules are proven by: wrong results are rejected, and the parameter is named."""

import models
import numpy as np
import pytest
import torch
from models import CROSS_ENTROPY, Pair, mlp, oracle, pair_loss
from module_kernels import declared, inputs_of, instead
from torch import nn

import gradkernels as gk
from gradkernels.check.modules import reference
from gradkernels.check.reference import Reference
from gradkernels.quantity import QUANTITIES


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("quantity", [name for name, one in QUANTITIES.items() if not one.of_outputs])
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
