"""What a module problem means: each sample's own gradient, by plain torch or by hand, whatever the model is made of."""

import copy
from functools import partial

import models
import pytest
import torch
from models import MODELS, mlp, oracle
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.problems.module.structure import model_state

WAYS = ("torch.loop", "torch.vmap")
NOT_BY_VMAP = ("sequence", "checkpoint")  # torch.func has no rule for these


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def close(rows, want, tolerance):
    assert list(rows) == list(want)
    for name, row in rows.items():
        assert row.shape == want[name].shape
        assert (row.double() - want[name]).abs().max() <= tolerance * max(1.0, want[name].abs().max()), name


def linear():
    """The model 2 x + 1, without a random number."""
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(1.0)
    return model


X, Y = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([[1.0], [6.0], [-1.0]])
# The predictions are 3, 5 and -1, the residuals 2, -1 and 0; twice the residual, and times x.
BIAS, WEIGHT = torch.tensor([[4.0], [-2.0], [0.0]]), torch.tensor([[[4.0]], [[-4.0]], [[0.0]]])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_rows_are_those_of_each_samples_unscaled_loss(way, reduction):
    problem = gk.ModuleProblem(linear(), nn.MSELoss(reduction=reduction), reduction=reduction)
    rows = gk.per_sample(problem, None, X, Y, kernel=way)
    assert torch.equal(rows["weight"], WEIGHT)
    assert torch.equal(rows["bias"], BIAS)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_every_quantity_of_three_samples_by_hand(reduction):
    problem = gk.ModuleProblem(linear(), nn.MSELoss(reduction=reduction), reduction=reduction)
    norms = gk.norms(problem, None, X, Y)
    torch.testing.assert_close(norms, torch.tensor([32**0.5, 20**0.5, 0.0]))
    gradient = gk.gradient(problem, None, X, Y)  # of the mean, whatever the reduction is
    torch.testing.assert_close(gradient, {"weight": torch.tensor([[0.0]]), "bias": torch.tensor([2 / 3])})
    mean, variance = gk.moments(problem, None, X, Y)
    torch.testing.assert_close(mean, gradient)
    torch.testing.assert_close(variance["weight"], torch.tensor([[32 / 3]]))
    torch.testing.assert_close(variance["bias"], torch.tensor([20 / 3 - 4 / 9]))
    total = gk.clipped_sum(problem, None, X, Y, max_norm=1.0)
    torch.testing.assert_close(total["bias"], torch.tensor([4 / 32**0.5 - 2 / 20**0.5]))
    torch.testing.assert_close(total["weight"], torch.tensor([[4 / 32**0.5 - 4 / 20**0.5]]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_rows_are_those_of_plain_torch(name, way, dtype):
    if way == "torch.vmap" and name in NOT_BY_VMAP:
        pytest.skip("torch.func has no rule for it")
    model, loss_fn, x, y = MODELS[name](5)
    want = oracle(model, loss_fn, x, y)
    model.to(dtype)
    x, y = (models.mapped(lambda part: part.to(dtype) if part.is_floating_point() else part, one) for one in (x, y))
    rows = gk.per_sample(gk.ModuleProblem(model, loss_fn), None, x, y, kernel=way)
    assert {row.dtype for row in rows.values()} == {dtype}
    close(rows, want, 1e-10 if dtype == torch.float64 else 1e-5)


def test_what_is_frozen_is_left_out_and_what_is_tied_is_there_once():
    frozen, loss_fn, *_ = MODELS["frozen weight"](1)
    assert list(gk.ModuleProblem(frozen, loss_fn).parameters()) == ["0.bias", "2.weight", "2.bias"]
    tied, loss_fn, *_ = MODELS["tied weight"](1)
    assert list(gk.ModuleProblem(tied, loss_fn).parameters()) == ["embedding.weight"]


def test_a_parameter_without_influence_has_zeros():
    model, loss_fn, x, y = MODELS["raw parameter and buffer"](4)
    rows = gk.per_sample(gk.ModuleProblem(model, loss_fn), None, x, y)
    assert torch.equal(rows["unused"], torch.zeros(4, 2))


@pytest.mark.parametrize("way", WAYS)
def test_parameters_that_are_given_are_used_instead_of_the_models(way):
    theta = {"weight": torch.tensor([[0.0]]), "bias": torch.tensor([0.0])}
    problem = gk.ModuleProblem(linear(), nn.MSELoss())
    rows = gk.per_sample(problem, theta, X, Y, kernel=way)
    assert torch.equal(rows["bias"], -2 * Y)
    assert torch.equal(problem.model.weight, torch.tensor([[2.0]]))


def test_given_parameters_count_where_the_backward_pass_calls_the_model_again():
    model, loss_fn, x, y = MODELS["checkpoint"](3)
    theta = {name: 2 * one.detach() for name, one in model.named_parameters()}
    other = copy.deepcopy(model)
    other.load_state_dict(theta)
    rows = gk.per_sample(gk.ModuleProblem(model, loss_fn), theta, x, y, kernel="torch.loop")
    close(rows, oracle(other, loss_fn, x, y), 1e-5)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("way", WAYS)
def test_none_and_one_sample(way, n):
    model, loss_fn, x, y = MODELS["multilayer perceptron"](1)
    problem = gk.ModuleProblem(model, loss_fn)
    rows = gk.per_sample(problem, None, x[:n], y[:n], kernel=way)
    assert {name: tuple(row.shape) for name, row in rows.items()} == {
        "0.weight": (n, 5, 4), "0.bias": (n, 5), "2.weight": (n, 3, 5), "2.bias": (n, 3),
    }  # fmt: skip
    assert gk.norms(problem, None, x[:n], y[:n], kernel=way).shape == (n,)
    total = gk.clipped_sum(problem, None, x[:n], y[:n], max_norm=float("inf"), kernel=way)
    for name, part in total.items():
        torch.testing.assert_close(part, rows[name].sum(0))


def test_a_mean_over_no_samples_is_refused():
    model, loss_fn, x, y = MODELS["multilayer perceptron"](1)
    for quantity in (gk.gradient, gk.moments):
        with pytest.raises(ValueError, match="n = 0 samples"):
            quantity(gk.ModuleProblem(model, loss_fn), None, x[:0], y[:0])


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_ragged_chunks_of_vmap(chunk):
    model, loss_fn, x, y = MODELS["image"](7)
    rows = gk.per_sample(gk.ModuleProblem(model, loss_fn), None, x, y, kernel=f"torch.vmap[chunk={chunk}]")
    close(rows, oracle(model, loss_fn, x, y), 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", WAYS)
def test_half_precision_is_proven_in_single_and_computed_in_half(way, dtype):
    model, loss_fn, x, y = MODELS["multilayer perceptron"](5)
    want = oracle(model, loss_fn, x, y)
    rows = gk.per_sample(gk.ModuleProblem(model.to(dtype), loss_fn), None, x.to(dtype), y, kernel=way)
    assert {row.dtype for row in rows.values()} == {dtype}
    close(rows, want, 0.03)


# --- losses of which a batch is not the mean of its samples


@pytest.mark.parametrize("way", WAYS)
def test_class_weights_cancel_in_a_batch_of_one(way):
    model, _, x, y = MODELS["multilayer perceptron"](6)
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.5]))
    rows = gk.per_sample(gk.ModuleProblem(model, weighted, mixing="own"), None, x, y, kernel=way)
    close(rows, oracle(model, nn.CrossEntropyLoss(), x, y), 1e-5)
    # The gradient is of the mean of those, not of what torch calls the weighted mean.
    gradient = gk.gradient(gk.ModuleProblem(model, weighted, mixing="own"), None, x, y)
    torch.testing.assert_close(gradient["2.bias"], rows["2.bias"].mean(0))


def test_class_weights_stay_where_the_reduction_is_a_sum():
    model, _, x, y = MODELS["multilayer perceptron"](6)
    weight = torch.tensor([1.0, 5.0, 0.5])
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss(weight=weight, reduction="sum"), reduction="sum")
    plain = oracle(model, nn.CrossEntropyLoss(), x, y)
    want = {name: row * weight[y].double().reshape(6, *[1] * (row.ndim - 1)) for name, row in plain.items()}
    close(gk.per_sample(problem, None, x, y), want, 1e-5)


def test_positions_to_ignore_divide_by_those_of_the_sample_alone():
    model, x = nn.Linear(3, 4), torch.randn(3, 5, 3)
    y = torch.tensor([[0, 1, 2, 3, 0], [1, -100, -100, 2, -100], [3, 3, -100, 0, 1]])
    settings = {"mixing": "own"}
    problem = gk.ModuleProblem(model, lambda output, y: functional.cross_entropy(output.transpose(1, 2), y), **settings)
    close(gk.per_sample(problem, None, x, y), oracle(model, problem.loss_fn, x, y), 1e-5)
    sliced = gk.ModuleProblem(nn.Sequential(model, Transposed()), nn.CrossEntropyLoss(), **settings)
    close(gk.per_sample(sliced, None, x, y), oracle(sliced.model, sliced.loss_fn, x, y), 1e-5)


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


@pytest.mark.parametrize(
    ("loss_fn", "said", "is_"),
    [
        (lambda output, y: ((output - y) ** 2).sum(), "mean", "sum"),
        (lambda output, y: ((output - y) ** 2).mean(), "sum", "mean"),
        (partial(functional.mse_loss, reduction="sum"), "mean", "sum"),
    ],
)
def test_a_reduction_that_is_not_what_is_said_is_refused(loss_fn, said, is_):
    problem = gk.ModuleProblem(linear(), loss_fn, reduction=said)
    says = f"reduction='{said}', but loss_fn of a batch of 3 is the {is_} of its samples' losses, off by the factor n"
    with pytest.raises(ValueError, match=says):
        gk.per_sample(problem, None, X, Y)
    right = gk.ModuleProblem(linear(), loss_fn, reduction=is_)
    assert torch.equal(gk.per_sample(right, None, X, Y)["bias"], BIAS)


@pytest.mark.parametrize("way", WAYS)
def test_a_batchmean_is_the_mean_over_samples_of_each_ones_sum(way):
    model = nn.Linear(1, 2)
    problem = gk.ModuleProblem(model, nn.KLDivLoss(reduction="batchmean"))
    y = torch.tensor([[0.5, 0.25], [0.25, 0.75], [1.0, 0.5]])
    # A sample's loss is sum_k y_k (log y_k - output_k): minus y by the bias, whatever the weights are.
    assert torch.equal(gk.per_sample(problem, None, X, y, kernel=way)["bias"], -y)
    torch.testing.assert_close(gk.gradient(problem, None, X, y)["bias"], torch.tensor([-1.75 / 3, -0.5]))
    with pytest.raises(ValueError, match="make them equal"):
        gk.ModuleProblem(model, problem.loss_fn, reduction="sum")


def test_a_loss_that_says_its_reduction_itself_is_held_to_it():
    with pytest.raises(ValueError, match="reduction='mean', but loss_fn has reduction='sum'; make them equal"):
        gk.ModuleProblem(linear(), nn.MSELoss(reduction="sum"))


def test_a_loss_that_is_not_reduced_is_refused():
    problem = gk.ModuleProblem(linear(), lambda output, y: (output - y) ** 2)
    with pytest.raises(ValueError, match=r"loss_fn returned shape \(3, 1\); it must be a scalar"):
        gk.per_sample(problem, None, X, Y)


# --- what has no per-sample gradients


class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x - x.mean(0))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.linear(x)


REFUSED = {
    "batch norm in training mode": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
        r"1 \(BatchNorm1d\) is in training mode and normalises by the whole batch; a per-sample gradient is not "
        r"defined there: call model.eval\(\), or use GroupNorm",
    ),
    "batch norm without statistics": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).eval(),
        r"1 \(BatchNorm1d\) has no running statistics",
    ),
    "synchronised batch norm": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.SyncBatchNorm(3)),
        r"1 \(SyncBatchNorm\) is in training mode",
    ),
    "samples mixed": (Centred, "the model or loss_fn mixes the samples of a batch"),
    "buffer written": (Counting, "the model writes to its buffer calls when it is called"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_per_sample_gradients_is_refused(name):
    make, says = REFUSED[name]
    model = make()
    before = model_state(model)
    with pytest.raises(ValueError, match=says):
        gk.per_sample(gk.ModuleProblem(model, nn.CrossEntropyLoss()), None, torch.randn(4, 4), models.classes(4))
    assert model_state(model) == before


def test_a_lazy_layer_must_know_its_parameters_first():
    says = r"1 \(LazyLinear\) has no parameters yet; call the model once on a batch"
    with pytest.raises(ValueError, match=says):
        gk.ModuleProblem(nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(3)), nn.CrossEntropyLoss())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit itself
def test_scripted_modules_are_refused():
    scripted = torch.jit.trace(nn.Linear(4, 3), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"0 \(TopLevelTracedModule\) is made by torch.jit"):
        gk.ModuleProblem(nn.Sequential(scripted), nn.CrossEntropyLoss())


def test_samples_that_are_not_first_are_refused():
    class TimeFirst(models.Recurrent):
        def forward(self, x):  # an LSTM that takes the second axis for the samples
            return self.head(nn.LSTM.forward(self.lstm, x)[0][:, -1])

    model = TimeFirst()
    model.lstm.batch_first = False
    with pytest.raises(ValueError, match="or does not have them first"):
        gk.per_sample(gk.ModuleProblem(model, nn.CrossEntropyLoss()), None, torch.randn(4, 4, 3), models.classes(4))


def test_a_mode_that_changes_later_counts():
    model, x, y = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval(), torch.randn(4, 4), models.classes(4)
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss())
    gk.per_sample(problem, None, x, y)
    model.train()
    with pytest.raises(ValueError, match="in training mode"):
        gk.per_sample(problem, None, x, y)
    model.eval()[0].weight.requires_grad_(False)
    assert list(gk.per_sample(problem, None, x, y)) == ["0.bias", "1.weight", "1.bias"]


# --- random numbers


def dropped(**options):
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    return gk.ModuleProblem(model, nn.CrossEntropyLoss(), **options)


@pytest.mark.parametrize("model", [lambda: dropped().model, models.Functional])
def test_dropout_is_an_error_unless_it_is_said_what_it_shall_do(model):
    problem = gk.ModuleProblem(model(), nn.CrossEntropyLoss())
    before = torch.get_rng_state()
    says = r"randomness='error' refuses: call model.eval\(\), or .* randomness='same' .* or 'different'"
    with pytest.raises(ValueError, match=says):
        gk.per_sample(problem, None, torch.randn(3, 4, generator=torch.Generator()), models.classes(3))
    assert torch.equal(torch.get_rng_state(), before)
    problem.model.eval()
    gk.per_sample(problem, None, torch.randn(3, 4), models.classes(3))


@pytest.mark.parametrize("way", WAYS)
def test_the_same_draw_for_every_sample_is_the_seeds(way):
    problem, x, y = dropped(randomness="same", seed=7), torch.randn(5, 4), models.classes(5)

    def seeded(output, target):
        return functional.cross_entropy(output, target)

    rows = gk.per_sample(problem, None, x, y, kernel=way)
    torch.manual_seed(7)
    mask = functional.dropout(torch.ones(1, 8), 0.5)
    masked = copy.deepcopy(problem.model)
    masked[1] = Masked(mask.double())
    close(rows, oracle(masked, seeded, x, y), 1e-5)


class Masked(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, x):
        return x * self.mask


def test_the_same_draw_begins_anew_with_each_chunk_and_each_way_agrees():
    problem, x, y = dropped(randomness="same", seed=7), torch.randn(5, 4), models.classes(5)
    whole, chunks = (gk.per_sample(problem, None, x, y, kernel=f"torch.vmap{c}") for c in ("", "[chunk=2]"))
    torch.testing.assert_close(whole, chunks)
    torch.testing.assert_close(whole, gk.per_sample(problem, None, x, y, kernel="torch.loop"))


@pytest.mark.parametrize("way", WAYS)
def test_a_draw_for_each_sample_differs_and_can_be_repeated(way):
    x, y = torch.ones(6, 4), torch.zeros(6, dtype=torch.long)
    problem = dropped(randomness="different", seed=3)
    before = torch.get_rng_state()
    rows = gk.per_sample(problem, None, x, y, kernel=way)["2.weight"]
    again = gk.per_sample(problem, None, x, y, kernel=way)["2.weight"]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(rows, again)
    zeros = [tuple((row == 0).all(0).tolist()) for row in rows]  # what was dropped of each of the equal samples
    assert len(set(zeros)) > 3
    other = gk.ModuleProblem(problem.model, problem.loss_fn, randomness="different", seed=4)
    assert not torch.equal(gk.per_sample(other, None, x, y, kernel=way)["2.weight"], rows)


# --- as it was found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("quantity", ["per_sample", "norms", "moments", "clipped_sum", "gradient"])
def test_the_model_and_its_inputs_are_left_as_they_were(way, quantity):
    model, loss_fn, x, y = MODELS["batch norm in evaluation mode"](4)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[2].register_forward_hook(lambda *_: None)
    before, generator, copies = model_state(model), torch.get_rng_state(), (x.clone(), y.clone())
    kernel = None if quantity == "gradient" else way
    result = getattr(gk, quantity)(gk.ModuleProblem(model, loss_fn), None, x, y, kernel=kernel)
    assert model_state(model) == before
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])
    assert all(not part.requires_grad for part in leaves(result))


def leaves(result):
    if isinstance(result, dict | tuple):
        return [leaf for part in (result.values() if isinstance(result, dict) else result) for leaf in leaves(part)]
    return [result]


class Breaking(nn.Module):
    """Raises from its second layer on, once `broken` is set."""

    broken = False

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        output = self.linear(x)
        if self.broken:
            raise RuntimeError("no more")
        return output


@pytest.mark.parametrize("way", WAYS)
def test_the_model_is_left_as_it_was_after_an_exception(way):
    problem, x, y = gk.ModuleProblem(Breaking(), nn.CrossEntropyLoss()), torch.randn(3, 4), models.classes(3)
    bound = gk.fastest(problem, "per_sample", like=(None, x, y), kernel=way)
    before, generator = model_state(problem.model), torch.get_rng_state()
    problem.model.broken = True
    for call in (lambda: bound(None, x, y), lambda: gk.norms(problem, None, x, y)):
        with pytest.raises(RuntimeError, match="no more"):
            call()
    assert model_state(problem.model) == before
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_whatever_mode_the_caller_is_in(way, mode):
    model, loss_fn, x, y = MODELS["tied weight"](4)
    want = oracle(model, loss_fn, x, y)
    with mode():
        rows = gk.per_sample(gk.ModuleProblem(model, loss_fn), None, x.clone(), y, kernel=way)
    close(rows, want, 1e-5)
    assert not any(row.requires_grad for row in rows.values())


def test_a_model_with_floats_of_its_own_is_proven_in_them():
    model, x, y = models.OwnFloats(), torch.randn(4, 4), models.classes(4)
    rows = gk.per_sample(gk.ModuleProblem(model, nn.CrossEntropyLoss()), None, x, y, kernel="torch.loop")
    assert rows["cell.bias_ih" if "cell.bias_ih" in rows else next(iter(rows))].shape[0] == 4
    assert torch.isfinite(rows["cell.weight_ih"]).all()


# --- what tells problems apart


def named(model=None, loss_fn=None, **options):
    return gk.ModuleProblem(model or mlp(), loss_fn or nn.CrossEntropyLoss(), **options).name


def test_the_name_is_of_the_structure_and_not_of_the_weights():
    name = named()
    assert name.startswith("module:Sequential:")
    assert len(name.rpartition(":")[2]) == 8
    assert named() == name  # other weights
    assert named(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))) != name
    assert named(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))) != name
    assert named(loss_fn=nn.MSELoss()) != name
    assert named(loss_fn=nn.CrossEntropyLoss(reduction="sum"), reduction="sum") != name
    assert named(models.frozen()) != name
    assert named(mlp().eval()) != name


def test_the_name_of_a_partial_loss_has_no_address_in_it():
    losses = [partial(functional.huber_loss, delta=delta) for delta in (1.0, 1.0, 2.0)]
    first, same, other = (named(loss_fn=loss_fn) for loss_fn in losses)
    assert first == same != other


def test_problems_of_one_model_and_loss_are_equal():
    model, loss_fn = mlp(), nn.CrossEntropyLoss()
    assert gk.ModuleProblem(model, loss_fn) == gk.ModuleProblem(model, loss_fn)
    assert hash(gk.ModuleProblem(model, loss_fn)) == hash(gk.ModuleProblem(model, loss_fn))
    assert gk.ModuleProblem(model, loss_fn) != gk.ModuleProblem(model, loss_fn, seed=1)
    assert gk.ModuleProblem(model, loss_fn) != gk.ModuleProblem(mlp(), loss_fn)


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (("model", nn.MSELoss()), TypeError, "model is a str; it must be a torch.nn.Module"),
        ((nn.Linear(1, 1), "loss"), TypeError, "loss_fn is a str; pass a function"),
        ((nn.Linear(1, 1), nn.MSELoss(), "max"), ValueError, "there is no reduction 'max'"),
        ((nn.Linear(1, 1), nn.MSELoss(), "mean", "some"), ValueError, "there is no randomness 'some'"),
        ((nn.ReLU(), nn.MSELoss()), ValueError, "ReLU has no parameter that requires a gradient"),
    ],
)
def test_what_is_no_problem_is_refused(arguments, kind, says):
    with pytest.raises(kind, match=says):
        gk.ModuleProblem(*arguments)


@pytest.mark.parametrize(
    ("example", "kind", "says"),
    [
        ([X, Y], TypeError, r"example is a list; it must be a tuple of two, example=\(x, y\)"),
        ((X, X, Y), ValueError, r"example is a tuple of 3; it must be of two, example=\(x, y\)"),
        ((X, [1.0, 6.0, -1.0]), TypeError, r"y of the example is a list; it must be a torch tensor"),
        (({"a": X, "b": {1}}, Y), TypeError, r"x\['b'\] of the example is a set; .* torch.as_tensor\(x\['b'\]\)"),
        ((X, torch.tensor(1.0)), ValueError, r"example: x \(3, 1\), y \(\): each needs the samples as its first axis"),
        ((X, Y[:2]), ValueError, r"example: x \(3, 1\), y \(2, 1\): the first axis is the samples, and must be as"),
        (((X, X[:2]), Y), ValueError, r"example: x\[0\] \(3, 1\), x\[1\] \(2, 1\), y \(3, 1\): the first axis"),
        ((X[:0], Y[:0]), ValueError, r"example: x \(0, 1\), y \(0, 1\) have no samples; give at least one"),
    ],
)
def test_what_is_no_example_is_refused(example, kind, says):
    with pytest.raises(kind, match=says):
        gk.ModuleProblem(linear(), nn.MSELoss(), example=example)


@pytest.mark.parametrize(
    ("training", "asked", "given"), [(False, True, False), (True, True, True), (False, False, False)]
)
def test_cudnn_runs_no_recurrent_layer_that_it_could_not_differentiate(monkeypatch, training, asked, given):
    seen = []

    class Model(nn.LSTM):
        def forward(self, x):
            seen.append(torch.backends.cudnn.enabled)
            return super().forward(x)[0][:, -1]

    problem = gk.ModuleProblem(nn.Sequential(Model(2, 3, batch_first=True)).train(training), nn.MSELoss())
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "enabled", asked)
    problem.output(torch.zeros(4, 5, 2))
    assert (seen, torch.backends.cudnn.enabled) == ([given], asked)
