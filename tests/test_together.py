"""Several uses of the same gradients that share a pass: the same numbers as alone, by one forward pass."""

import pytest
import torch
from every_quantity import products
from models import CROSS_ENTROPY, MODELS, oracle
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.fastest.compute import compute


@pytest.fixture
def model_case():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    problem = gk.ModuleProblem(model, CROSS_ENTROPY, mixing="own")  # no batch is looked at besides
    return problem, torch.randn(40, 4), torch.arange(40) % 3


@pytest.fixture
def passes(monkeypatch):
    """Numbers of samples of the forward passes so far."""
    seen, output = [], gk.ModuleProblem.output

    def counted(self, x):
        seen.append(len(x))
        return output(self, x)

    monkeypatch.setattr(gk.ModuleProblem, "output", counted)
    return seen


def close(found, want):
    torch.testing.assert_close(found, want, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["tied weight", "sequence", "image", "checkpoint"])
def test_together_gives_what_each_gives_alone(name):
    torch.manual_seed(0)
    model, loss, x, y = MODELS[name](6)
    problem, rows = gk.ModuleProblem(model, loss), oracle(model, loss, x, y)
    matrix = gk.rows(problem, None, x, y)
    g = torch.cat([one.flatten(1) for one in rows.values()], 1).float()
    v, w = torch.randn(g.shape[1]), torch.randn(6)
    uses = {
        "norms": (lambda: matrix.norms(), g.norm(dim=1)),
        "inner": (lambda: matrix @ v, g @ v),
        "weighted": (lambda: w @ matrix, w @ g),
        "gram": (lambda: matrix @ matrix.T, g @ g.T),
        "clipped": (lambda: matrix.layout.join(matrix.clipped_sum(0.3)), (0.3 / g.norm(dim=1)).clamp(max=1) @ g),
        "mean": (lambda: matrix.layout.join(matrix.mean()), g.mean(0)),
        "variance": (lambda: matrix.layout.join(matrix.variance()), g.var(0, correction=0)),
        "dense": (lambda: matrix.dense(), g),
        "outer": (lambda: matrix.T @ matrix, g.T @ g),
    }
    found = gk.together(*(use for use, _ in uses.values()))
    for (of, (_, want)), result in zip(uses.items(), found, strict=True):
        torch.testing.assert_close(result, want, rtol=2e-4, atol=2e-5, msg=lambda says, of=of: f"{of}: {says}")


def test_every_kernel_of_the_engine_takes_a_pass_that_is_shared():
    torch.manual_seed(0)
    model, loss, x, y = MODELS["tied weight"](6)
    model = model.double()
    problem, rows = gk.ModuleProblem(model, loss), oracle(model, loss, x, y)

    def all_of_them():
        for quantity, options, want in products(rows):
            close(compute(quantity, problem, (None, x, y), (None, None, None), None, **options), want)

    gk.together(all_of_them)


def test_one_forward_pass_is_enough(model_case, passes):
    problem, x, y = model_case
    matrix, v = gk.rows(problem, None, x, y), torch.randn(51)
    uses = (
        lambda: matrix.norms(),
        lambda: matrix @ v,
        lambda: matrix.clipped_sum(1.0),
        lambda: gk.gram(problem, None, x, y),
    )
    with gk.audit("off"):
        gk.together(*uses)
        passes.clear()
        alone = [use() for use in uses]
        assert passes == [40] * 4
        passes.clear()
        found = gk.together(*uses)
    assert passes == [40]
    torch.testing.assert_close(list(found), alone)


def test_an_iteration_of_scipy_runs_the_model_once(model_case, passes):
    from scipy.sparse.linalg import svds

    problem, x, y = model_case
    matrix = gk.rows(problem, None, x, y)
    largest = torch.linalg.svdvals(matrix.dense())[:2]
    with gk.audit("off"):
        gk.together(lambda: svds(matrix.linear_operator(), k=2))
        passes.clear()
        (found,) = gk.together(lambda: svds(matrix.linear_operator(), k=2, return_singular_vectors=False))
    assert passes == [40]
    torch.testing.assert_close(torch.tensor(sorted(found)[::-1]).float(), largest, rtol=1e-4, atol=1e-5)


def test_what_changes_within_is_seen(model_case):
    problem, x, y = model_case

    def norms():
        return gk.norms(problem, None, x, y)

    def step():
        with torch.no_grad():
            for one in problem.model.parameters():
                one.add_(0.5)

    with gk.audit("off"):  # which would see it too
        before = norms()
        first, _, second, _, third = gk.together(norms, step, norms, lambda: x.mul_(2), norms)
        torch.testing.assert_close(first, before)
        torch.testing.assert_close(third, norms())
        x /= 2
        torch.testing.assert_close(second, norms())
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)


def test_what_each_sample_draws_is_drawn_again(model_case):
    problem, x, y = model_case
    drops = nn.Sequential(problem.model, nn.Dropout(0.5))
    dropped = gk.ModuleProblem(drops, CROSS_ENTROPY, randomness="different")
    alone = gk.norms(dropped, None, x, y), gk.clipped_sum(dropped, None, x, y)
    found = gk.together(lambda: gk.norms(dropped, None, x, y), lambda: gk.clipped_sum(dropped, None, x, y))
    torch.testing.assert_close(found, alone)


def test_results_and_regressions_are_what_they_are(model_case):
    problem, x, y = model_case
    matrix, v = gk.rows(problem, None, x, y), torch.ones(51)
    norms, along, total = gk.together(matrix.norms(), matrix @ v, matrix.clipped_sum(max_norm=0.5))
    torch.testing.assert_close(norms, matrix.norms())
    torch.testing.assert_close(along, matrix.dense().sum(1))
    torch.testing.assert_close(total, gk.clipped_sum(problem, None, x, y, 0.5))
    regression = gk.LinearRegression()
    arrays = regression.draw(5, seed=0)
    way = {"kernel": "numpy.broadcast"}
    found = gk.together(
        lambda: gk.norms(regression, *arrays, **way), lambda: gk.rows(regression, *arrays, **way).mean()
    )
    assert found[0].tolist() == gk.norms(regression, *arrays, **way).tolist()
    assert found[1].tolist() == gk.gradient(regression, *arrays, **way).tolist()
    assert gk.together() == ()
    assert gk.together(lambda: gk.together(lambda: 3)) == ((3,),)


def test_faults_are_those_of_the_call_alone_and_leave_nothing(model_case):
    problem, x, y = model_case
    with pytest.raises(ValueError, match=r"^v is \(3,\); it must be \(51,\)"):
        gk.together(lambda: gk.rows(problem, None, x, y) @ torch.ones(3))
    with pytest.raises(ValueError, match="first axis"):
        gk.together(lambda: gk.norms(problem, None, x, y), lambda: gk.norms(problem, None, x[:3], y))
    limited = gk.together(lambda: gk.norms(problem, None, x, y, max_bytes=2**30), lambda: gk.norms(problem, None, x, y))
    torch.testing.assert_close(*limited)
    assert problem.model.training
    assert all(one.requires_grad for one in problem.model.parameters())


def test_batches_losses_and_restricted_problems_are_told_apart(model_case):
    problem, x, y = model_case
    first = gk.ModuleProblem(problem.model, functional.cross_entropy, mixing="own")
    second = gk.ModuleProblem(problem.model, lambda output, y: 2 * functional.cross_entropy(output, y), mixing="own")
    with gk.audit("off"):
        one, two, some, plain, doubled = gk.together(
            lambda: gk.norms(problem, None, x, y),
            lambda: gk.norms(problem, None, x.flip(0), y),
            lambda: gk.norms(problem, None, x, y, parameters="2.*"),
            lambda: gk.norms(first, None, x, y),
            lambda: gk.norms(second, None, x, y),
        )
    torch.testing.assert_close(2 * plain, doubled)
    torch.testing.assert_close(plain, one)
    torch.testing.assert_close(one, gk.norms(problem, None, x, y))
    torch.testing.assert_close(two, gk.norms(problem, None, x.flip(0), y))
    torch.testing.assert_close(some, gk.norms(problem, None, x, y, parameters="2.*"))
    assert (some < one).all()


def test_half_precision_and_inference_tensors():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to(torch.bfloat16)
    problem = gk.ModuleProblem(model, lambda output, y: functional.cross_entropy(output.float(), y))
    with torch.inference_mode():
        x, y = torch.randn(8, 4, dtype=torch.bfloat16), torch.arange(8) % 3
        norms, mean = gk.together(lambda: gk.norms(problem, None, x, y), lambda: gk.gradient(problem, None, x, y))
    torch.testing.assert_close(norms, gk.norms(problem, None, x, y))
    torch.testing.assert_close(mean, gk.gradient(problem, None, x, y))
