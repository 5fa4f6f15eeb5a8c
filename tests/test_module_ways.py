"""torch.jacobian and torch.compiled on modules: right, chunked without compiling again, and clean behind themselves."""

from dataclasses import replace

import modules
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.engines.compiled.modules import equal_chunks
from gradkernels.engines.recorded.trace import holding_untrained, trace_operations, untrained_tensors
from gradkernels.problems.module.module_problem import ModuleProblem
from gradkernels.tree import each, take
from gradkernels.zoo import ZOO

JACOBIAN, COMPILED = "torch.jacobian.per_sample", "torch.compiled.per_sample"


def check(key, problem, n=5, dtype="float64"):
    return gk.check(key, gk.Case(problem, "per_sample", n, dtype=dtype))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ZOO)
def test_jacobians_of_the_zoo(name, dtype):
    check(JACOBIAN, ZOO[name](), dtype=dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ZOO)
def test_compiled_models_of_the_zoo(name, dtype, long):
    if not long and (name, dtype) != ("mlp", "float32"):
        pytest.skip("compiling takes long: --long")
    if (name, dtype) == ("lstm", "float64"):
        # torch's own float64 cell adds a batch to a state that has none, which vmap refuses, compiled or not.
        with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
            check("torch.compiled[chunk=4].per_sample", ZOO[name](), n=6, dtype=dtype)
    else:
        check("torch.compiled[chunk=4].per_sample", ZOO[name](), n=6, dtype=dtype)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("make", modules.SHARED)
def test_jacobians_of_parameters_that_are_not_one_layers_alone(make, reduction):
    check(JACOBIAN, modules.problem(modules.seeded(make), 4, reduction=reduction))


@pytest.mark.parametrize("names", [False, True], ids=["tuple", "dict"])
def test_jacobians_of_models_of_several_inputs(names):
    check(JACOBIAN, modules.pair(names))


@pytest.mark.parametrize("make", modules.SHARED)
def test_compiled_parameters_that_are_not_one_layers_alone(make, eager):
    check("torch.compiled[chunk=4].per_sample", modules.problem(modules.seeded(make), 4))


@pytest.mark.parametrize("names", [False, True], ids=["tuple", "dict"])
def test_compiled_models_of_several_inputs(names, eager):
    check("torch.compiled[chunk=4].per_sample", modules.pair(names))


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [
        (0, 4, []),
        (3, 4, [(0, 3)]),
        (4, 4, [(0, 4)]),
        (8, 4, [(0, 4), (4, 8)]),
        (9, 4, [(0, 4), (4, 8), (5, 9)]),
        (2, 1, [(0, 1), (1, 2)]),
    ],
)
def test_chunks_have_one_length_and_cover_all(n, size, expected):
    assert [(part.start, part.stop) for part in equal_chunks(n, size)] == expected


def test_a_ragged_tail_is_not_compiled_anew(eager):
    problem = modules.problem(modules.seeded(lambda: nn.Linear(4, 3)), 4, n=11)
    compute = gk.kernel("torch.compiled[chunk=4].per_sample").build(problem)
    for n in (11, 8, 4, 10):
        compute(problem.parameters(), *take(problem.example, slice(0, n)))
    assert eager == [(4, 4)]
    compute(problem.parameters(), *take(problem.example, slice(0, 3)))
    assert eager == [(4, 4), (3, 4)]


@pytest.mark.parametrize("key", [JACOBIAN, COMPILED])
def test_rows_are_written_into_the_memory_that_is_given(key, eager):
    problem = modules.problem(modules.seeded(modules.Unused), 4)
    compute, (x, y) = gk.kernel(key).with_options({"chunk": 3}).build(problem), problem.example
    fresh = compute(problem.parameters(), x, y)
    out = each(lambda tensor: torch.full((7, *tensor.shape), np.nan), problem.parameters())
    places = each(lambda tensor: tensor.data_ptr(), out)
    assert compute(problem.parameters(), x, y, out=out) is out
    assert each(lambda tensor: tensor.data_ptr(), out) == places
    assert all(torch.equal(out[name], fresh[name]) for name in fresh)
    assert fresh["head.weight"].abs().min() > 0
    assert not fresh["idle.weight"].any()


@pytest.mark.parametrize("key", [JACOBIAN, COMPILED])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_works_in_every_grad_mode_and_leaves_no_graph(context, key, eager):
    problem = modules.problem(modules.seeded(lambda: nn.Linear(4, 3)), 4)
    with context():
        x, y = problem.example
        theta = {name: tensor.clone() for name, tensor in problem.parameters().items()}
        rows = gk.kernel(key).build(problem)(theta, 2 * x, y)
        empty = gk.kernel(key).build(problem)(theta, x[:0], y[:0])
    assert not any(tensor.requires_grad or tensor.is_inference() for tensor in (*rows.values(), *empty.values()))
    assert {name: tensor.shape for name, tensor in empty.items()} == {"weight": (0, 3, 4), "bias": (0, 3)}


@pytest.mark.parametrize("key", [JACOBIAN, COMPILED])
def test_a_failed_call_leaves_the_model_as_it_was(key, eager):
    problem = modules.problem(modules.seeded(modules.normalised), 4)
    state, (x, y) = problem.state(), problem.example
    with pytest.raises(RuntimeError, match="shape|Expected size"):
        gk.kernel(key).build(problem)(problem.parameters(), x[:, :3], y)
    assert problem.state() == state


def test_what_is_frozen_or_a_buffer_may_change_after_compiling(eager):
    for make in (modules.frozen, modules.normalised):
        problem = modules.problem(modules.seeded(make), 4)
        compute, (x, y) = gk.kernel(COMPILED).build(problem), problem.example
        compute(problem.parameters(), x, y)
        for tensor in (*problem.model.buffers(), *problem.model.parameters()):
            if not tensor.requires_grad and tensor.is_floating_point():
                tensor.mul_(1.7)
        if make is modules.normalised:
            problem.model[1].running_mean = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0])
        expected = gk.kernel(JACOBIAN).build(problem)(problem.parameters(), x, y)
        each(lambda got, want: torch.testing.assert_close(got, want), compute(problem.parameters(), x, y), expected)
    assert len(eager) == 2


def test_buffers_and_frozen_parameters_are_arguments_once_each():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    model[2].weight = model[0].weight
    loss = nn.CrossEntropyLoss(weight=torch.ones(2))
    problem = ModuleProblem(model, loss)
    names = ["0.weight", "0.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked", "loss_fn().weight"]
    assert list(untrained_tensors(problem)) == names
    given = {name: torch.full_like(tensor, 5) for name, tensor in untrained_tensors(problem).items()}
    with holding_untrained(problem, given):
        assert loss.weight is given["loss_fn().weight"]
        assert model[0].weight is model[2].weight is given["0.weight"]
        assert model[1].running_var is given["1.running_var"]
    assert model[0].weight is model[2].weight is not given["0.weight"]


def test_what_cannot_be_recorded_is_one_sentence():
    def loss(output, y):
        if output.sum() > 0:
            return functional.cross_entropy(output, y)
        return functional.cross_entropy(-output, y)

    model = modules.seeded(lambda: nn.Linear(4, 3))
    own = modules.problem(model, 4)
    problem = ModuleProblem(model, loss, example=own.example)
    sentence = "^torch.compile cannot compile the gradient of module:Linear:[0-9a-f]{8}: .*; take another kernel$"
    with pytest.raises(RuntimeError, match=sentence):
        gk.kernel(COMPILED).build(problem)(own.parameters(), *own.example)


def test_random_numbers_are_refused():
    for randomness, key, refused in [
        ("same", JACOBIAN, "torch.jacobian draws random numbers for a batch, not the same for every sample"),
        ("same", COMPILED, "torch.compile draws other random numbers than randomness='same' asks for"),
        ("different", COMPILED, "torch.compile draws other random numbers than randomness='different' asks for"),
    ]:
        problem = modules.problem(nn.Linear(4, 3), 4, randomness=randomness)
        (reason,) = gk.kernel(key).unsupported(gk.Case(problem, "per_sample", 3, dtype="float32"))
        assert reason.startswith(refused)
    problem = modules.problem(nn.Linear(4, 3), 4, randomness="different")
    assert gk.kernel(JACOBIAN).unsupported(gk.Case(problem, "per_sample", 3, dtype="float32")) == ()


def test_jacobians_with_draws_are_repeatable():
    model = nn.Sequential(nn.Linear(4, 40), nn.Dropout(0.5), nn.Linear(40, 3)).train()
    problem = modules.problem(model, 4, randomness="different", seed=3)
    compute = gk.kernel(JACOBIAN).build(problem)
    before = torch.get_rng_state()
    first, second = (compute(problem.parameters(), *problem.example)["2.weight"] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
    dropped = {tuple(row.abs().sum(0).eq(0).tolist()) for row in first}
    assert len(dropped) == 7  # each sample has a draw of its own


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_a_chunk_is_a_setting_of_both(chunk, eager):
    problem = modules.problem(modules.seeded(lambda: nn.Linear(4, 3)), 4)
    for way in ("torch.jacobian", "torch.compiled"):
        check(f"{way}[chunk={chunk}].per_sample", problem, n=7)


def test_a_chunk_means_nothing_to_a_regression():
    case = gk.Case(gk.LinearRegression(), "per_sample", 5, features=2)
    gk.check("torch.compiled[chunk=2].per_sample", case)


def test_a_kernel_for_several_kinds_names_them():
    linear = gk.Case(gk.LinearRegression(), "per_sample", 3)
    both = replace(gk.kernel(JACOBIAN), problems=(gk.SoftmaxRegression, ModuleProblem))
    assert both.unsupported(linear) == (
        f"{JACOBIAN} is written for a SoftmaxRegression or a ModuleProblem, not for LinearRegression",
    )
    assert gk.kernel(JACOBIAN).unsupported(linear) == (
        f"{JACOBIAN} is written for a ModuleProblem, not for LinearRegression",
    )
    assert gk.kernel(COMPILED).accepts(linear.problem)
    assert gk.kernel(COMPILED).accepts(ZOO["mlp"]())


def test_a_recording_is_of_operations_and_not_of_python():
    calls = []

    def function(x):
        calls.append(1)
        return 2 * x

    recorded = trace_operations(function, torch.ones(3))
    assert recorded(torch.tensor([1.0, 2.0, 3.0])).tolist() == [2.0, 4.0, 6.0]
    assert calls == [1]
