"""Whether samples have gradients of their own is looked at one by one and together, and nothing is left behind."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.check.modules import independence
from gradkernels.check.modules.independence import require_independent_samples
from gradkernels.problems.module import output_axes

INF, NAN = float("inf"), float("nan")
X, Y = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([[1.0], [6.0], [-1.0]])
# Of the model 2 x + 1 the residuals are 2, -1 and 0; a row is twice that, times x for the weight.
MEAN, LENGTH = {"weight": 0.0, "bias": 2 / 3}, (32**0.5 + 20**0.5) / 3


class Two(nn.Module):
    """The model 2 x + 1, after what is done to x; `done(model, x)` may do something else besides."""

    def __init__(self, done=lambda model, x: x):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor([[2.0]])), nn.Parameter(torch.tensor([1.0]))
        self.register_buffer("calls", torch.zeros(()))
        self.done = done

    def forward(self, x):
        return self.done(self, x) * self.weight + self.bias


LOSS = nn.MSELoss()


def problem(done=lambda model, x: x, loss=LOSS, **settings):
    return gk.ModuleProblem(Two(done), loss, **settings)


def looked_at(of, theta=None, x=X, y=Y):
    require_independent_samples(of, of.parameters() if theta is None else theta, x.clone(), y.clone())


def counts(model, x):
    model.calls += 1
    return x


def draws(model, x):
    return x + torch.rand(()) * 0


def centres(model, x):
    return x - x.mean(0)


REFUSED = {
    "writes": (problem(counts), "the model writes to its buffer calls when it is called"),
    "draws": (problem(draws), "the model draws random numbers (dropout?), which randomness='error' refuses"),
    "mixes": (problem(centres), "the gradient of the mean loss of a batch is not the mean of the gradients"),
    "mixes much": (
        problem(lambda model, x: x + 0.1 * x.mean(0)),
        "the gradient of the mean loss of a batch is not the mean of the gradients",
    ),
    "sum": (
        problem(loss=lambda output, y: (output - y).square().sum()),
        "reduction='mean', but loss_fn of a batch of 3 is the sum of its samples' losses",
    ),
    "shape": (
        problem(loss=lambda output, y: (output - y).square()),
        "loss_fn returned shape (3, 1); it must be a scalar, the mean or the sum",
    ),
    "detached": (
        problem(loss=lambda output, y: (output.detach() - y).square().mean()),
        "the loss of a sample does not depend on the model's parameters: is something detached in between, or made by "
        "what torch does not differentiate?",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_what_has_no_gradients_of_its_own_is_refused_and_left_as_it_was(name, mode):
    of, says = REFUSED[name]
    before, held, x = torch.get_rng_state(), dict(of.model.named_buffers()), X.clone()
    with mode(), pytest.raises(ValueError, match="^the |^red|^loss_fn") as caught:
        require_independent_samples(of, of.parameters(), x, Y)
    assert str(caught.value).startswith(says)
    assert torch.equal(torch.get_rng_state(), before)
    assert of.model.calls is held["calls"]
    assert of.model.calls.item() == 0.0
    assert of.model.weight.grad is None


def test_a_loss_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match=r"^loss_fn returned a float; it must return a tensor, the mean or the sum$"):
        looked_at(problem(loss=lambda output, y: 1.0))


def writes(model, x):
    return x.mul_(1)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    "of",
    [
        problem(),
        problem(writes),
        problem(draws, randomness="same"),
        problem(draws, randomness="different"),
        problem(centres, randomness="same", loss=lambda output, y: (output * torch.rand(()) - y).square().mean()),
        problem(loss=nn.MSELoss(reduction="sum"), reduction="sum"),
        problem(loss=lambda output, y: (output - y).square().mean() if len(output) == 1 else output.sum() / NAN),
    ],
)
def test_what_has_is_taken_and_left_as_it_was(of, mode):
    before, x = torch.get_rng_state(), X.clone()
    with mode():
        require_independent_samples(of, of.parameters(), x, Y)
        theta = {name: one.detach().clone() for name, one in of.parameters().items()}
        require_independent_samples(of, theta, x, Y)
    assert torch.equal(torch.get_rng_state(), before)
    assert x._version == 0
    assert not any(one.requires_grad for one in theta.values())


def test_one_parameter_is_enough():
    of = gk.ModuleProblem(nn.Linear(1, 1, bias=False), LOSS)
    looked_at(of)
    with pytest.raises(ValueError, match="mixes the samples"):
        looked_at(gk.ModuleProblem(nn.Sequential(Centre(), nn.Linear(1, 1, bias=False)), LOSS))


class Centre(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Own:
    """An output that torch does not know."""

    def __init__(self, value):
        self.value = value


def test_a_model_that_takes_single_samples_alone_is_taken_where_its_batch_can_not_be_split():
    class Boxed(Two):
        def forward(self, x):
            return Own(super().forward(x - x.mean(0) if len(x) > 1 else x))

    looked_at(gk.ModuleProblem(Boxed(), lambda output, y: (output.value - y).square().mean()))


def test_the_parameters_that_are_given_are_looked_at():
    def only_at_zero(model, x):
        return x - x.mean(0) if model.weight.item() == 0.0 else x

    of = problem(only_at_zero)
    looked_at(of)
    with pytest.raises(ValueError, match="mixes the samples"):
        looked_at(of, {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)})


@pytest.mark.parametrize("kind", ["tensor", "namespace", "drawn"])
def test_outputs_of_several_parts_are_looked_at_for_what_has_samples(kind):
    class Parted(Two):
        def forward(self, x):
            output = super().forward(x)
            return output if kind == "tensor" else SimpleNamespace(logits=output, more=output)

    loss = (lambda output, y: (output - y).square().mean()) if kind == "tensor" else (
        lambda output, y: (output.logits - y).square().mean() + (0 * torch.rand(()) if kind == "drawn" else 0)
    )  # fmt: skip
    of = gk.ModuleProblem(Parted(), loss, randomness="same")
    looked_at(of)
    assert output_axes.output_axes_of(of.model).looked == (kind != "tensor")


# --- how far a batch may be off


def off(monkeypatch, batch, mean=(3.0, 4.0), length=1.0, dtype=torch.float32, rounded=None, drew=False):
    """Whether a gradient of the batch is refused beside the mean of the rows."""
    split = lambda values: [torch.tensor([value], dtype=torch.float64) for value in values]  # noqa: E731
    monkeypatch.setattr(independence, "_mean", lambda *given: (split(mean), length, drew))
    monkeypatch.setattr(independence, "_of_batch", lambda *given: batch and split(batch))
    asked = []

    def again(*given):
        asked.append(given)
        if rounded is not None:
            raise rounded

    monkeypatch.setattr(independence, "rows_and_gradient", again)
    of = problem()
    of.model.to(dtype)
    try:
        looked_at(of)
    except ValueError as fault:
        return str(fault)[:12], asked
    return None, asked


MIXED = ValueError("it is mixed in float64 too")


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-6), (torch.float32, 1e-3), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)],
)
def test_each_dtype_has_its_tolerance(monkeypatch, dtype, tolerance):
    for length in (1.0, 5.0):
        for sign in (1, -1):
            for factor, says in ((0.95, None), (1.05, "it is mixed ")):
                batch = (3.0 + sign * 0.6 * factor * tolerance * length, 4.0 + 0.8 * factor * tolerance * length)
                assert off(monkeypatch, batch, length=length, dtype=dtype, rounded=MIXED)[0] == says


def test_what_differs_in_the_models_dtype_alone_is_rounding(monkeypatch):
    (says, ((of, theta, x, y, dtype),)) = off(monkeypatch, (30.0, 4.0))
    assert (says, type(of), dtype) == (None, gk.ModuleProblem, "float64")
    assert ({name: one.tolist() for name, one in theta.items()}, x.tolist(), y.tolist()) == (
        {"weight": [[2.0]], "bias": [1.0]}, X.tolist(), Y.tolist(),
    )  # fmt: skip
    for fault in (RuntimeError("no float64"), TypeError("no float64")):
        assert off(monkeypatch, (3.0 + 0.099, 4.0), rounded=fault)[0] is None
        assert off(monkeypatch, (3.0 + 0.101, 4.0), rounded=fault)[0] == "the gradient"
        assert off(monkeypatch, (3.0 + 0.49, 4.0), length=5.0, rounded=fault)[0] is None
    assert off(monkeypatch, (3.0, 4.0), rounded=MIXED) == (None, [])


@pytest.mark.parametrize("given", [{"batch": None}, {"length": INF}, {"length": NAN}, {"drew": True}])
def test_what_cannot_be_compared_is_taken(monkeypatch, given):
    batch = given.pop("batch", (30.0, 4.0))
    assert off(monkeypatch, batch, rounded=MIXED, **given) == (None, [])


# --- the rows and their mean


def leaf_of(of):
    return {name: one.detach().clone().requires_grad_() for name, one in of.parameters().items()}


def test_the_mean_of_the_rows_and_of_their_norms():
    of = problem()
    leaf = leaf_of(of)
    with of.with_parameters(leaf):
        mean, length, drew = independence._mean(of, leaf, X, Y)
        batch = independence._of_batch(of, leaf, X, Y)
    assert [one.item() for one in mean] == pytest.approx([*MEAN.values()])
    assert [one.item() for one in batch] == pytest.approx([*MEAN.values()])
    assert (length, drew) == (pytest.approx(LENGTH), False)


def test_each_sample_has_the_same_draw_and_one_that_draws_is_enough():
    def first_draws(model, x):
        return x * (1 + torch.rand(())) if x[0, 0] == 1.0 else x

    of = problem(first_draws, randomness="same", seed=3)
    leaf = leaf_of(of)
    factor = 1 + torch.rand((), generator=torch.Generator().manual_seed(3)).item()
    with of.with_parameters(leaf):
        mean, _, drew = independence._mean(of, leaf, X, Y)
    assert drew
    # The first sample's prediction is 2 factor + 1 for 1, with an input of `factor`.
    assert mean[0].item() == pytest.approx((4 * factor * factor - 4) / 3, abs=1e-6)


def test_gradients_are_dense_and_halves_are_added_in_float32():
    table, idle = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(2))
    rows = nn.functional.embedding(torch.tensor([1, 1]), table, sparse=True)
    found, none = independence._backward(rows.sum(), {"table": table, "idle": idle})
    assert (found.is_sparse, found.tolist()) == (False, [[0.0, 0.0], [2.0, 2.0], [0.0, 0.0]])
    assert none.tolist() == [0.0, 0.0]
    for dtype in (torch.float16, torch.bfloat16):
        assert independence._summable(torch.ones(2, dtype=dtype)).dtype == torch.float32
    for dtype in (torch.float64, torch.float32, torch.int16):
        one = torch.ones(2, dtype=dtype)
        made = independence._summable(one)
        assert (made.dtype, made is one) == (dtype, False)
        assert made.data_ptr() != one.data_ptr()


def test_a_leaf_is_differentiable_whatever_it_was_made_of():
    with torch.inference_mode():
        sealed = torch.ones(2)
    for one in (sealed, torch.ones(2), nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2)) * 2):
        leaf = independence._leaf(one)
        assert (leaf.requires_grad, leaf.is_leaf, leaf.is_inference()) == (True, True, False)
        assert (leaf.data_ptr() == one.data_ptr()) == (one is not sealed)
        assert one.requires_grad == (one.grad_fn is not None or isinstance(one, nn.Parameter))
