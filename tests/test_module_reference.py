"""The reference for modules: a backward pass for each sample in the widest dtype that works, and what it may be off."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.check.modules import reference
from gradkernels.check.modules.model_pass import model_pass, require_mean_or_sum
from gradkernels.check.modules.reference import module_gradients, row_errors, rows_and_gradient
from gradkernels.check.rounding import changed_a_little
from gradkernels.problems.module.output_axes import output_axes_of
from gradkernels.tree import Constant

INF, NAN = float("inf"), float("nan")
X, Y = np.array([[1.0], [2.0], [-1.0]]), np.array([[1.0], [6.0], [-1.0]])
THETA = {"weight": np.array([[2.0]]), "bias": np.array([1.0])}
# Of the model 2 x + 1 the residuals are 2, -1 and 0; a row is twice that, times x for the weight.
ROWS = np.array([[4.0, 4.0], [-4.0, -2.0], [0.0, 0.0]])


class Line(nn.Module):
    """The model weight x + bias, after `done(model, x)`."""

    def __init__(self, done=lambda model, x: x):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor([[7.0]])), nn.Parameter(torch.tensor([7.0]))
        self.register_buffer("calls", torch.zeros(()))
        self.done = done

    def forward(self, x):
        return self.done(self, x) * self.weight + self.bias


def squares(output, y):
    return (output - y).square().mean()


def problem(done=lambda model, x: x, loss=squares, **settings):
    return gk.ModuleProblem(Line(done), loss, **settings)


def draws(model, x):
    return x + 0 * torch.rand(())


def centres(model, x):
    return x - x.mean(0)


# --- the model, holding everything in one dtype


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_rows_and_gradient_are_of_the_parameters_that_are_given_and_the_model_has_its_own_back(mode):
    of, before = problem(), torch.get_rng_state()
    own = dict(of.model.named_parameters()), dict(of.model.named_buffers())
    with mode(), model_pass(of, THETA, X, Y, "float64") as one:
        rows, gradient, drawn = one.rows([2, 0, 1]), one.gradient(), one.drawn()
        torch.rand(3)
    assert rows.tolist() == ROWS[[2, 0, 1]].tolist()
    assert (gradient, drawn) == (pytest.approx(ROWS.mean(0)), False)
    for mine, now in zip(own, (dict(of.model.named_parameters()), dict(of.model.named_buffers())), strict=True):
        assert all(now[name] is part for name, part in mine.items())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("dtype", "seen"),
    [
        ("float64", [torch.float64] * 4 + [torch.complex128, torch.int64]),
        ("float32", [torch.float32] * 4 + [torch.complex64, torch.int64]),
        ("own", [torch.bfloat16, torch.float32, torch.float64, torch.float32, torch.complex64, torch.int64]),
    ],
)
def test_everything_is_held_in_one_dtype_or_each_parameter_in_its_own(dtype, seen):
    held = []

    def look(model, given):
        x, number, shared = given
        parts = (model.weight, model.bias, x.real, model.calls, shared.value, number)
        held.append([part.dtype for part in parts])
        return x.real

    of = gk.ModuleProblem(Line(), nn.MSELoss())
    of.model.weight.data = of.model.weight.data.bfloat16()
    shared = Constant(torch.ones(2, dtype=torch.complex64), "kind")
    with model_pass(of, THETA, (X, np.arange(3), shared, Constant("a", "a")), Y, dtype) as one:
        look(of.model, one.x[:3])
        assert one.x[3].value == "a"
        assert one.y.dtype == (torch.float64 if dtype == "own" else seen[0]) or dtype == "own"
        assert all(part.requires_grad for part in one.theta.values())
    # Data and parameters that the model does not know are in torch's default dtype.
    if dtype == "own":
        seen = [seen[0], seen[1], torch.float32, *seen[3:]]
    assert held == [seen]


def test_a_loss_of_a_module_is_held_in_the_same_dtype():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.tensor(2.0))

        def forward(self, output, y):
            assert output.dtype == self.weight.dtype == y.dtype
            return squares(output, y) * self.weight

    of = gk.ModuleProblem(Line(), Weighted())
    with model_pass(of, THETA, X, Y, "float64") as one:
        assert one.rows([0]).tolist() == [[8.0, 8.0]]
    assert of.loss_fn.weight.dtype == torch.float32


def test_whether_any_sample_draws_is_told():
    def first_draws(model, x):
        return x + 0 * torch.rand(()) if x[0, 0] == 1.0 else x

    with model_pass(problem(first_draws, randomness="same"), THETA, X, Y, "float64") as one:
        one.rows([1, 2])
        assert not one.drawn()
        one.rows([0, 2])
        assert one.drawn()


def test_each_sample_has_the_draw_of_the_seed():
    factor = torch.rand((), generator=torch.Generator().manual_seed(5)).item()
    with model_pass(
        problem(lambda model, x: x * torch.rand(()), randomness="same", seed=5), THETA, X, Y, "float64"
    ) as one:
        rows = one.rows([0, 1])
    # Predictions 2 f + 1 and 4 f + 1, whose residuals are twice f and four times f less 5.
    want = [[2 * (2 * factor) * factor, 4 * factor], [2 * (4 * factor - 5) * 2 * factor, 2 * (4 * factor - 5)]]
    assert rows.tolist() == [pytest.approx(row, rel=1e-6) for row in want]


def test_a_buffer_that_is_written_to_is_named():
    def counts(model, x):
        model.calls += 1
        return x

    of = problem(counts)
    with pytest.raises(ValueError, match=r"^the model writes to its buffer calls when it is called"):
        module_gradients(of, THETA, X, Y)
    assert of.model.calls.item() == 0.0


def test_inputs_that_the_model_writes_to_are_copies():
    of = problem(lambda model, x: x.mul_(2))
    with model_pass(of, THETA, X, Y, "float64") as one:
        x = one.x.clone()
        for _ in range(2):
            assert one.rows([0]).tolist() == [[2 * 4 * 2, 2 * 4.0]]  # the prediction is 5
        assert torch.equal(one.x, x)


def test_parameters_without_influence_have_zeros_and_sparse_gradients_are_dense():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle, self.table = nn.Parameter(torch.zeros(2)), nn.Embedding(3, 1, sparse=True)

        def forward(self, x):
            return self.table(x)

    of = gk.ModuleProblem(Table(), lambda output, y: output.sum(1).mean())
    theta = {"idle": np.zeros(2), "table.weight": np.zeros((3, 1))}
    with model_pass(of, theta, np.array([1, 2]), np.zeros(2), "float64") as one:
        assert one.rows([0, 1]).tolist() == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]


# --- reductions


@pytest.mark.parametrize(
    ("reduction", "losses", "batch", "other"),
    [
        ("mean", [1.0, 2.0, 3.0], 2.0, None),
        ("mean", [1.0, 2.0, 3.0], 6.0, "sum"),
        ("mean", [1.0, 2.0, 3.0], 6.0 + 5e-6, "sum"),
        ("mean", [1.0, 2.0, 3.0], 6.0 - 7e-6, None),
        ("mean", [1.0, 2.0, 3.0], 3.0, None),  # weights, say
        ("mean", [-1.0, -2.0, -3.0], -6.0, "sum"),
        ("sum", [1.0, 2.0, 3.0], 6.0, None),
        ("sum", [1.0, 2.0, 3.0], 2.0, "mean"),
        ("mean", [5.0], 5.0, None),
        ("mean", [0.0, 0.0], 0.0, None),
        ("mean", [1.0, -1.0], 0.0, None),
        ("mean", [1.0, -1.0 + 3e-6], 3e-6, "sum"),  # of losses that nearly cancel
    ],
)
def test_a_loss_that_is_the_other_reduction_is_refused(reduction, losses, batch, other):
    losses, batch = (torch.tensor(one, dtype=torch.float64, requires_grad=True) for one in (losses, batch))
    if other is None:
        require_mean_or_sum(SimpleNamespace(reduction=reduction), losses, batch)
        return
    with pytest.raises(ValueError, match=f"^reduction='{reduction}'") as caught:
        require_mean_or_sum(SimpleNamespace(reduction=reduction), losses, batch)
    assert str(caught.value) == (
        f"reduction='{reduction}', but loss_fn of a batch of {len(losses)} is the {other} of its samples' losses, off "
        f"by the factor n; make the ModuleProblem with reduction='{other}'"
    )


@pytest.mark.parametrize("loss", [squares, lambda output, y: (output - y).square()])
def test_a_loss_that_is_no_scalar_is_refused_and_one_of_the_other_reduction(loss):
    of = problem(loss=lambda output, y: (output - y).square().sum() if loss is squares else loss(output, y))
    says = "^reduction='mean', but" if loss is squares else r"^loss_fn returned shape \(3, 1\); it must be a scalar"
    with pytest.raises(ValueError, match=says):
        rows_and_gradient(of, THETA, X, Y, "float64")


# --- rows and gradient


def test_samples_that_are_mixed_are_refused_to_the_tolerance_of_the_dtype(monkeypatch):
    rows = np.array([[3.0, 4.0], [3.0, 4.0]])

    def said(off, dtype, drawn=False, gradient=True, rows=rows):
        fake = SimpleNamespace(
            x=X, rows=lambda samples: rows[[*samples][:2]], drawn=lambda: drawn,
            gradient=lambda: np.array([3.0 + 0.6 * off, 4.0 + 0.8 * off]) if gradient else None,
        )  # fmt: skip
        monkeypatch.setattr(reference, "model_pass", lambda *given: SimpleContext(fake))
        of = problem(randomness="same")
        try:
            return rows_and_gradient(of, THETA, X[:2], Y[:2], dtype)[1].tolist()
        except ValueError as fault:
            return str(fault)[:36]

    for dtype, tolerance in (("float64", 1e-6), ("float32", 1e-3), ("own", 0.05)):
        near, far = 0.9 * 5 * tolerance, 1.1 * 5 * tolerance
        assert said(near, dtype) == pytest.approx([3.0 + 0.6 * near, 4.0 + 0.8 * near], rel=1e-12)
        assert said(far, dtype) == "the gradient of the mean loss of a b"
        assert said(far, dtype, drawn=True) == said(far, dtype, gradient=False) == [3.0, 4.0]
    endless = np.array([[INF, 4.0], [3.0, 4.0]])
    assert said(1.0, "float64", rows=endless) == pytest.approx([3.6, 4.8]), "nothing can be compared"


class SimpleContext:
    def __init__(self, value):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *_):
        return False


def test_mixing_and_drawing_models_are_refused():
    with pytest.raises(ValueError, match="^the gradient of the mean loss of a batch is not the mean"):
        rows_and_gradient(problem(centres), THETA, X, Y, "float64")
    with pytest.raises(ValueError, match=r"^the model draws random numbers \(dropout\?\)"):
        rows_and_gradient(problem(draws), THETA, X, Y, "float64")
    rows, gradient = rows_and_gradient(problem(draws, randomness="different"), THETA, X, Y, "float64")
    assert (rows.tolist(), gradient.tolist()) == (ROWS.tolist(), pytest.approx(ROWS.mean(0)))


def test_an_output_of_several_parts_is_looked_at_for_what_has_samples():
    class Parted(Line):
        def forward(self, x):
            output = super().forward(x)
            return {"logits": output, "table": torch.zeros(3)}  # as long as the batch

    of = gk.ModuleProblem(Parted(), lambda output, y: squares(output["logits"], y))
    rows, gradient = rows_and_gradient(of, THETA, X, Y, "float64")
    assert (rows.tolist(), gradient.tolist()) == (ROWS.tolist(), pytest.approx(ROWS.mean(0)))
    assert output_axes_of(of.model).looked


# --- the widest dtype that works


class Floats(nn.Module):
    def __init__(self, *dtypes):
        super().__init__()
        for i, dtype in enumerate(dtypes):
            self.register_parameter(str(i), nn.Parameter(torch.zeros(1, dtype=dtype)))


@pytest.mark.parametrize(
    ("held", "dtypes"),
    [
        ([torch.float64], ["float64"]),
        ([torch.float32], ["float64", "float32"]),
        ([torch.float64, torch.float32], ["float64", "float32"]),
        ([torch.float64, torch.complex128], ["float64"]),
        ([torch.float16], ["float64", "float32", "own"]),
        ([torch.bfloat16, torch.float32], ["float64", "float32", "own"]),
    ],
)
def test_the_dtypes_that_are_tried_begin_with_float64(held, dtypes):
    assert reference._dtypes(SimpleNamespace(model=Floats(*held))) == dtypes


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        ([1.0], ("float64", 1.0)),
        ([RuntimeError, 2.0], ("float32", 2.0)),
        ([TypeError, RuntimeError, 3.0], ("own", 3.0)),
        ([NAN, 2.0], ("float32", 2.0)),
        ([NAN, INF, 3.0], ("own", 3.0)),
        ([RuntimeError, NAN, INF], ("float32", NAN)),  # the first of those that are not finite
        ([NAN, RuntimeError, RuntimeError], ("float64", NAN)),
        ([RuntimeError, RuntimeError, TypeError], TypeError),
        ([ValueError], ValueError),
    ],
)
def test_the_widest_dtype_that_gives_finite_numbers_is_taken(monkeypatch, outcomes, found):
    left = iter(outcomes)

    def rows(problem, theta, x, y, dtype):
        outcome = next(left)
        if isinstance(outcome, type):
            raise outcome("it cannot")
        return np.array([[1.0, outcome]]), np.array([len(dtype)])

    monkeypatch.setattr(reference, "rows_and_gradient", rows)
    of = SimpleNamespace(model=Floats(torch.float16))
    if isinstance(found, type):
        with pytest.raises(found, match="it cannot"):
            reference._widest(of, THETA, X, Y)
    else:
        wide, gradient, dtype = reference._widest(of, THETA, X, Y)
        assert (dtype, str(wide[0, 1]), gradient[0]) == (found[0], str(found[1]), len(dtype))
    assert next(left, None) is None


def test_the_scale_of_a_row_is_its_norm_or_rounding_of_the_largest(monkeypatch):
    wide = np.array([[3.0, 4.0], [1e-9, 0.0], [INF, 0.0]])
    monkeypatch.setattr(reference, "_widest", lambda *given: (wide, np.array([1.0, 2.0]), "own"))
    asked = []
    monkeypatch.setattr(reference, "row_errors", lambda *given: asked.append(given))
    of = problem()
    true = module_gradients(of, THETA, X, Y)
    assert true.norm_scale.tolist() == pytest.approx([5.0, 5.0 * 2**-23, INF])
    assert true.scale.tolist() == [[one, one] for one in true.norm_scale.tolist()]
    assert true.rows is wide
    assert true.gradient.tolist() == [1.0, 2.0]
    true.row_errors([1], "float32")
    assert asked == [(of, THETA, X, Y, wide, "own", [1], "float32")]
    small = np.array([[0.003, 0.004], [0.0, 0.0]])
    monkeypatch.setattr(reference, "_widest", lambda *given: (small, np.array([1.0, 2.0]), "own"))
    assert module_gradients(of, THETA, X, Y).norm_scale.tolist() == pytest.approx([0.005, 0.005 * 2**-23])
    monkeypatch.setattr(reference, "_widest", lambda *given: (np.full((1, 2), NAN), np.array([1.0, 2.0]), "own"))
    assert str(module_gradients(of, THETA, X, Y).norm_scale.tolist()) == "[nan]"


# --- by how much rows may be off


def weighted(**settings):
    """A row is weight x^2 for x of 1, 2 and 3: it changes as the weight does."""
    model = nn.Linear(1, 1, bias=False)
    return gk.ModuleProblem(model, lambda output, y: output.square().mean() / 2, **settings)


SQUARES = (weighted(), {"weight": np.array([[2.0]])}, np.array([[1.0], [2.0], [3.0]]), np.zeros(3))
OFF = np.array([[2.0], [8.0], [18.0]])


@pytest.mark.parametrize(
    ("held", "dtype", "by"),
    [
        ("float64", "float64", 2.0**-48),
        ("float64", "float32", 2.0**-19),
        ("float64", "float16", 2.0**-10),
        ("float64", "bfloat16", 2.0**-7),
        ("float32", "float32", 2.0**-19),
        ("own", "float32", 2.0**-7),
    ],
)
def test_rows_may_be_off_as_much_as_parameters_that_change_a_little(held, dtype, by):
    found = row_errors(*SQUARES, OFF, held, [2, 0], dtype)
    assert found.tolist() == pytest.approx([18 * by, 2 * by], rel=1e-2)


def test_each_change_is_made_both_ways_and_one_pass_is_in_the_working_precision(monkeypatch):
    seen = []

    def passes(problem, parameters, x, y, kind):
        seen.append((float(parameters["weight"][0, 0]), kind))
        rows = {
            1: OFF[[2, 0]] + 0.5,
            2: OFF[[2, 0]] - [[0.25], [0.75]],
            3: np.full((2, 1), INF),
            4: np.full((2, 1), NAN),
        }
        if len(seen) == 5:
            raise RuntimeError("it cannot")
        return SimpleContext(SimpleNamespace(rows=lambda samples: rows.get(len(seen), OFF[[2, 0]])))

    monkeypatch.setattr(reference, "model_pass", passes)
    assert row_errors(*SQUARES, OFF, "float64", [2, 0], "float32").tolist() == [0.5, 0.75]
    assert [kind for _, kind in seen] == ["float64"] * 4 + ["float32"]
    one, two, three, four, five = (weight for weight, _ in seen)
    assert five == 2.0
    assert {abs(weight - 2.0) for weight in (one, two, three, four)} == {2 * 2.0**-19}
    assert (one - 2.0, three - 2.0) == (2.0 - two, 2.0 - four)
    seen.clear()
    row_errors(*SQUARES, OFF, "float64", [2, 0], "float64")
    row_errors(*SQUARES, OFF, "float32", [2, 0], "float32")
    assert [kind for _, kind in seen] == ["float64"] * 4 + ["float32"] * 4


def test_rows_that_leave_the_range_say_nothing_and_warn_of_nothing(monkeypatch):
    others = np.array([[INF, 0.0], [1e300, 0.0], [3.0, 4.0]])
    fake = SimpleNamespace(rows=lambda samples: others)
    monkeypatch.setattr(reference, "model_pass", lambda *given: SimpleContext(fake))
    rows = np.array([[INF, 0.0], [0.0, 0.0], [0.0, 0.0]])
    with np.errstate(all="raise"):
        found = row_errors(SQUARES[0], SQUARES[1], *SQUARES[2:], rows, "float64", [0, 1, 2], "float64")
    assert found.tolist() == [0.0, 0.0, 5.0]


def test_what_changes_is_drawn_for_each_parameter_and_always_the_same():
    theta = {"a": np.ones((50, 2)), "b": np.full(100, 3.0)}
    some, again = ([*changed_a_little(theta, 0.25)] for _ in range(2))
    assert len(some) == 4
    for one, other in zip(some, again, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in theta)
    assert {*some[0]["a"].ravel()} == {0.75, 1.25}
    assert {*some[0]["b"]} == {2.25, 3.75}
    assert not np.array_equal(some[0]["a"].ravel(), some[0]["b"] / 3)
    assert not np.array_equal(some[0]["a"], some[2]["a"])
    assert np.array_equal(some[0]["a"] + some[1]["a"], 2 * theta["a"])
    assert np.array_equal(some[2]["b"] + some[3]["b"], 2 * theta["b"])
