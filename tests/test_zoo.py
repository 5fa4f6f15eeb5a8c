"""The models that ship: the sizes that their texts promise, the same at every call, and a loss that can be learned."""

import pickle

import pytest
import torch

from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.zoo import ZOO

SIZES = {
    "mlp": (26_122, (64, 64)),
    "cnn": (26_010, (64, 1, 28, 28)),
    "resnet": (77_850, (64, 3, 14, 14)),
    "transformer": (84_618, (64, 16)),
    "lstm": (25_738, (64, 20, 32)),
    "embedding_bag": (64_650, (64, 30)),
}


def test_every_model_has_its_size_here():
    assert list(SIZES) == list(ZOO)


@pytest.mark.parametrize("name", SIZES)
def test_a_model_is_what_its_text_says(name):
    problem = ZOO[name]()
    size, shape = SIZES[name]
    x, y = problem.example
    assert isinstance(problem, ModuleProblem)
    assert problem.size(0) == size
    assert f"p = {size:,}" in ZOO[name].__doc__
    assert (x.shape, y.shape) == (shape, (64,))
    assert not any(module.training for module in problem.model.modules())
    assert {parameter.dtype for parameter in problem.parameters().values()} == {torch.float32}


@pytest.mark.parametrize("name", SIZES)
def test_a_model_is_the_same_at_every_call_and_leaves_the_generator_alone(name):
    before = torch.get_rng_state()
    first, second = ZOO[name](), ZOO[name]()
    assert torch.equal(before, torch.get_rng_state())
    assert first.name == second.name
    assert all(torch.equal(first.parameters()[key], second.parameters()[key]) for key in first.parameters())
    assert torch.equal(first.example[0], second.example[0])
    assert torch.equal(first.example[1], second.example[1])


@pytest.mark.parametrize("name", SIZES)
def test_samples_and_classes_differ(name):
    x, y = ZOO[name]().example
    assert len(torch.unique(x.flatten(1), dim=0)) == 64
    assert len(torch.unique(y)) == 10


@pytest.mark.parametrize("name", SIZES)
def test_an_untrained_model_knows_nothing_yet(name):
    problem = ZOO[name]()
    x, y = problem.example
    loss = problem.loss_fn(problem.output(x), y).item()
    assert loss == pytest.approx(2.3026, abs=0.4)  # log 10


@pytest.mark.parametrize("name", SIZES)
def test_a_problem_travels_to_other_processes(name):
    problem = ZOO[name]()
    assert pickle.loads(pickle.dumps(problem)).name == problem.name
