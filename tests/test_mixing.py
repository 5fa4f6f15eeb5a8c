"""A loss that mixes the samples of a batch: warned about where it weighs them, refused where it compares them."""

import gc
import warnings
from types import SimpleNamespace

import pytest
import torch
from models import oracle
from modules import seeded
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.problems.module.mixing import batch_loss, check_schedule

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
ROWS = torch.randn(8, 3, generator=torch.Generator().manual_seed(2))
Y = torch.tensor([0, 1, 2, 0, 1, 1, 0, 2])


def linear(features: int = 3) -> nn.Module:
    return seeded(lambda: nn.Linear(4, features))


def contrastive(output, y):
    return functional.cross_entropy(output @ y.T, torch.arange(len(output)))


def dice(output, y):
    p = output.sigmoid()
    return 1 - 2 * (p * y).sum() / (p.sum() + y.sum())


def correlation(output, y):
    a, b = output[:, 0] - output.mean(), y - y.mean()
    return -(a * b).sum() / (a.norm() * b.norm())


def around_the_mean(output, y):
    return (output - output.mean(0)).square().mean()


def means_matched(output, y):
    return (output.mean() - y.mean()).square()


def rank(output, y):
    return torch.relu(1 - (output[:, None] - output) * (y[:, None] - y).sign()).mean()


MIXES = {
    "in-batch contrastive": (linear, contrastive, ROWS),
    "dice over the batch": (linear, dice, (ROWS > 0).float()),
    "correlation": (lambda: linear(1), correlation, ROWS[:, 0]),
    "distance to the mean": (linear, around_the_mean, Y),
    "means that match": (lambda: linear(1), means_matched, ROWS[:, 0]),
    "ranks": (lambda: nn.Sequential(linear(1), nn.Flatten(0)), rank, ROWS[:, 0]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MIXES)
def test_losses_that_compare_samples_are_refused_at_every_call(name):
    make, loss, y = MIXES[name]
    problem = gk.ModuleProblem(make(), loss)
    for _ in range(3):
        with pytest.raises(ValueError, match="no weighted mean of the losses of its samples: .*mixing='own'"):
            gk.norms(problem, None, X, y)


def token_mean(output, y):
    return (output - y).square()[y > -0.5].mean()


def root(output, y):
    return functional.mse_loss(output, y).sqrt()


WEIGHTS = torch.tensor([1.0, 2.0, 4.0])
IGNORING = torch.tensor([0, 1, 2, -100, 1, 1, 0, 2])
WEIGHS = {
    # 8 / 7 of the mean of their own, for each but the one that is left out; its own has no number.
    "ignored targets": (nn.CrossEntropyLoss(), IGNORING, "1.14 to 1.14 times"),
    # The weights 1, 2, 4 times 8 over their sum 3 * 1 + 3 * 2 + 2 * 4 = 17.
    "class weights": (nn.CrossEntropyLoss(weight=WEIGHTS), Y, "0.471 to 1.88 times"),
    "token means": (token_mean, ROWS, "times those in the mean"),
    "a root": (root, ROWS, "times those in the mean"),
}


@pytest.mark.parametrize("name", WEIGHS)
def test_losses_that_weigh_samples_are_computed_as_defined_with_one_warning(name):
    loss, y, says = WEIGHS[name]
    problem = gk.ModuleProblem(linear(), loss)
    with pytest.warns(gk.MixingWarning, match=says) as caught:
        rows = gk.per_sample(problem, None, X, y)
    gk.norms(problem, None, X, y)
    gk.norms(gk.ModuleProblem(problem.model, loss), None, X, y)
    assert [one.filename for one in caught] == [__file__]
    if name == "class weights":
        loss = nn.CrossEntropyLoss()  # weights cancel in a batch of one
    expected = oracle(problem.model, loss, X, y)
    for name, found in rows.items():
        torch.testing.assert_close(found.double(), expected[name], rtol=1e-4, atol=1e-5, equal_nan=True)


def test_the_warning_says_by_how_much_backward_differs():
    """Outputs 1 and 1, targets 0 and 0; the squares of sample 0 count once, those of sample 1 three times."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)

    def loss(output, y):
        weight = y[:, 1:] + 1
        return ((output - y[:, :1]).square() * weight).sum() / weight.sum()

    x, y = torch.ones(2, 1), torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    # Gradients at the outputs: (2/4, 6/4) of the batch, (1, 1) of the mean; |(-1/2, 1/2)| / |(1/2, 3/2)| = 44.7%.
    with pytest.warns(gk.MixingWarning, match=r"are 0.5 to 1.5 times .* off by 44.7% there"):
        gradient = gk.gradient(gk.ModuleProblem(model, loss), None, x, y)
    assert gradient["weight"].item() == 2.0  # the mean of each one's own


PLAIN = {
    "cross entropy": (nn.CrossEntropyLoss(), Y),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), Y),
    "by hand": (lambda output, y: (output - y).abs().sum(1).mean(), ROWS),
    "writes to the output": (lambda output, y: output.mul_(2).sub_(y).square().mean(), ROWS),
    "takes draws": (lambda output, y: (output - y + torch.rand_like(output)).square().mean(), ROWS),
}


@pytest.mark.parametrize("name", PLAIN)
def test_nothing_is_said_of_means(name):
    loss, y = PLAIN[name]
    randomness = {"randomness": "different"} if name == "takes draws" else {}
    before = torch.get_rng_state()
    gk.gradient(gk.ModuleProblem(linear(), loss, **randomness), None, X, y, kernel="torch.loop")
    assert torch.equal(torch.get_rng_state(), before)


class InFloat32(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = linear()

    def forward(self, x):
        return self.layer(x).float()


def test_rounding_under_autocast_is_no_mixing():
    """The share of seven is off by a thousandth and more in bfloat16."""
    wide = torch.randn(3, 64, generator=torch.Generator().manual_seed(3))

    def loss(output, y):
        return (output @ wide).square().mean()

    around = gk.ModuleProblem(InFloat32(), lambda output, y: (output @ output.T).square().mean())
    with torch.autocast("cpu", torch.bfloat16):
        weighing = gk.ModuleProblem(InFloat32(), loss)
        weighing.check_mixing(weighing.parameters(), X[:7], Y[:7])
        with pytest.raises(ValueError, match="no weighted mean"):
            around.check_mixing(around.parameters(), X[:7], Y[:7])


def test_sums_are_compared_as_sums():
    total = nn.CrossEntropyLoss(weight=WEIGHTS, reduction="sum")
    gk.norms(gk.ModuleProblem(linear(), total, reduction="sum"), None, X, Y)


@pytest.mark.parametrize(("loss", "y"), [(contrastive, ROWS), (root, ROWS), (nn.CrossEntropyLoss(), IGNORING)])
def test_own_says_that_batches_of_one_are_meant(loss, y):
    problem = gk.ModuleProblem(linear(), loss, mixing="own")
    rows = gk.per_sample(problem, None, X, y, kernel="torch.loop")
    expected = oracle(problem.model, loss, X, y)
    torch.testing.assert_close(rows["bias"].double(), expected["bias"], rtol=1e-4, atol=1e-5, equal_nan=True)


def test_what_is_meant_is_no_other_problems_affair():
    model = linear()
    gk.norms(gk.ModuleProblem(model, root, mixing="own"), None, X, ROWS)
    with pytest.warns(gk.MixingWarning):
        gk.norms(gk.ModuleProblem(model, root), None, X, ROWS)


def test_another_mixing_is_refused():
    with pytest.raises(ValueError, match="there is no mixing 'mine'"):
        gk.ModuleProblem(linear(), root, mixing="mine")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dtype_of_the_output_decides_what_is_equal(dtype):
    model = linear().to(dtype)
    gk.norms(gk.ModuleProblem(model, lambda o, y: (o - y).square().mean()), None, X.to(dtype), ROWS.to(dtype))
    with pytest.warns(gk.MixingWarning):
        gk.norms(gk.ModuleProblem(model, root), None, X.to(dtype), ROWS.to(dtype))


def test_calls_1_2_4_8_are_looked_at_and_those_of_one_sample_do_not_count(monkeypatch):
    seen = []
    monkeypatch.setattr(batch_loss, "_compared", lambda problem, theta, x, y, rng: seen.append(len(x)) or "")
    problem = gk.ModuleProblem(linear(), root)
    k = gk.fastest(problem, "norms", like=(None, X, ROWS))
    for n in (1, 8, 7, 6, 5, 4, 3, 2, 8):
        k(None, X[:n], ROWS[:n])
    assert seen == [8, 7, 5, 8]


def test_a_batch_that_mixes_later_is_found_and_named_by_its_sample():
    def loss(output, y):
        """Of neighbours, where the second one's target says so."""
        return (output - y).square().mean() + (output[1:] * output[:-1] * y[1:].gt(2)).sum()

    problem = gk.ModuleProblem(linear(), loss)
    gk.norms(problem, None, X, ROWS.clamp(max=1))
    mixed = ROWS.clamp(max=1).index_fill(0, torch.tensor([5]), 3.0)
    with pytest.raises(ValueError, match="sample 4's gradient at the model's output has another direction"):
        gk.norms(problem, None, X, mixed)


# --- losses that the model computes itself


class Scored(nn.Module):
    """Computes its loss, as transformers do."""

    def __init__(self, score) -> None:
        super().__init__()
        self.layer, self.score = linear(), score

    def forward(self, x, labels):
        output = self.layer(x)
        return SimpleNamespace(loss=self.score(output, labels), logits=output)


def scored(score, y, **settings):
    problem = gk.ModuleProblem(Scored(score), None, **settings)
    return problem, {"x": X, "labels": y}


def test_the_models_own_loss_is_compared_by_value():
    problem, x = scored(lambda output, y: functional.cross_entropy(output, y), Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = gk.per_sample(problem, None, x, None)
    expected = oracle(problem.model.layer, nn.CrossEntropyLoss(), X, Y)
    torch.testing.assert_close(rows["layer.weight"].double(), expected["weight"], rtol=1e-4, atol=1e-5)


def test_the_models_own_loss_that_weighs_is_warned_about():
    problem, x = scored(root, ROWS)
    with pytest.warns(gk.MixingWarning, match="the model weighs its samples: its loss of 4 of this batch is"):
        gk.norms(problem, None, x, None)


def test_the_models_own_loss_that_compares_is_refused():
    problem, x = scored(lambda output, y: contrastive(output, y), ROWS)
    with pytest.raises(ValueError, match=r"that of 4 samples is .*, those of each alone 0 to 0\. Losses that compare"):
        gk.norms(problem, None, x, None)


def test_looks_are_forgotten_with_the_model():
    problem = gk.ModuleProblem(linear(), root, mixing="error")
    check_schedule.check_schedule_of(problem)
    known = len(check_schedule._SCHEDULES)
    model = problem.model
    del problem
    assert model in check_schedule._SCHEDULES
    del model
    gc.collect()
    assert len(check_schedule._SCHEDULES) < known
