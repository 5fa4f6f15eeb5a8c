"""Opacus and BackPACK: what they compute, scaled as here, and a reason for everything that they cannot do."""

import subprocess
import sys

import modules
import numpy as np
import pytest
import torch
from matrices import matrix
from peer_keys import BACKPACK, KEYS, OPACUS
from torch import nn

import gradkernels as gk
from gradkernels.check.reference import true_gradients
from gradkernels.tree import each, take
from gradkernels.zoo import ZOO

pytest.importorskip("opacus")
pytest.importorskip("backpack")

REFUSED = {
    ("resnet", "backpack"): ["BackPACK has no rule for GroupNorm (1 and 6 more)"],
    ("transformer", "opacus"): [
        "Opacus records a layer in training mode only, and Transformer (the model itself)",
        "Opacus refuses MultiheadAttention (encoder.layers.0.self_attn and 1 more): We do not support nn.Multihead",
    ],
    ("transformer", "backpack"): ["BackPACK has no rule for Transformer (the model itself), MultiheadAttention (enc"],
    ("embedding_bag", "opacus"): ["Opacus needs offsets for EmbeddingBag (0) and counts a repeated word once"],
    ("embedding_bag", "backpack"): ["BackPACK has no rule for EmbeddingBag (0); it has those for BatchNorm1d, B"],
}
"""Why a library cannot do a model of the zoo, by the beginnings of its sentences; none for all others."""


def case(problem, key, dtype="float64", n=5):
    return gk.Case(problem, gk.kernel(key).quantity, n, dtype=dtype)


def reasons(problem, key, dtype="float64"):
    return gk.kernel(key).unsupported(case(problem, key, dtype))


def of_library(name, key, dtype):
    """What has to occur: each model with each library, and each kernel with each dtype."""
    return f"{name} {key.partition('.')[0]}", f"{key} {dtype}"


@matrix("name,key,dtype", ZOO, KEYS, ["float64", "float32"], occurring=of_library)
def test_a_model_of_the_zoo_is_proven_or_refused(name, key, dtype):
    problem, expected = ZOO[name](), REFUSED.get((name, key.partition(".")[0]), [])
    given = reasons(problem, key, dtype)
    if not expected:
        assert given == ()
        gk.check(key, case(problem, key, dtype))
    for beginning in expected:
        assert any(reason.startswith(beginning) for reason in given), given


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_library_leaves_the_scale_of_a_reduction_in(reduction, key):
    problem = modules.problem(modules.seeded(lambda: nn.Linear(4, 3)), 4, reduction=reduction)
    gk.check(key, case(problem, key))


@pytest.mark.parametrize("way", ["opacus.hooks", "opacus.functorch", "opacus.ew", "backpack.batch"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_rows_are_those_of_single_samples(reduction, way):
    # By hand, for a squared error: (output - y) x, of each sample's own mean over two outputs or of their sum.
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    problem = gk.ModuleProblem(model, nn.MSELoss(reduction=reduction), reduction=reduction)
    x, y = torch.tensor([[1.0, 2.0], [3.0, -1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    rows = gk.kernel(f"{way}.per_sample").build(problem)({"weight": model.weight}, x, y)["weight"]
    of_mean = [[[1.0, 2.0], [4.0, 8.0]], [[6.0, -2.0], [-9.0, 3.0]]]
    assert rows.tolist() == (torch.tensor(of_mean) * (1 if reduction == "mean" else 2)).tolist()


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("make", [modules.frozen, modules.Unused, modules.Reused, modules.Tied, modules.normalised])
def test_parameters_that_are_not_one_layers_alone(make, key):
    problem = modules.problem(modules.seeded(make), 4)
    refused = {
        (modules.Tied, "opacus.ghost"): "Opacus' ghost clipping cannot do tied parameters such as first.weight",
        (modules.Tied, "backpack"): "BackPACK overwrites the results of tied parameters such as first.weight",
        (modules.normalised, "opacus"): "Opacus refuses BatchNorm1d (1): BatchNorm cannot support training with",
    }
    said = [text for (of, start), text in refused.items() if of is make and key.startswith(start)]
    if said:
        assert any(reason.startswith(said[0]) for reason in reasons(problem, key))
    elif make is modules.Reused and key in (*BACKPACK, "opacus.ghost.norms", "opacus.ghost.clipped_sum"):
        sentence = "calls layer twice" if key in BACKPACK else "Parameter tying is not supported"
        with pytest.raises(RuntimeError, match=f"failed on Reused with NotImplementedError: .*{sentence}"):
            gk.check(key, case(problem, key))
    else:
        gk.check(key, case(problem, key))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("names", [False, True], ids=["tuple", "dict"])
def test_models_of_several_inputs(names, key):
    problem = modules.pair(names)
    if names and key == "opacus.ew.per_sample":
        assert reasons(problem, key) == (
            "expanded weights take inputs by position, not by name: pass x as a tensor or a tuple",
        )
    else:
        gk.check(key, case(problem, key))


@pytest.mark.parametrize("key", KEYS)
def test_random_numbers_are_refused(key):
    problem = modules.problem(nn.Linear(4, 3), 4, randomness="same")
    assert any("has no randomness='same'; use torch.loop" in reason for reason in reasons(problem, key))


def test_settings_that_a_library_does_not_look_at_are_refused():
    padded = modules.problem(nn.Sequential(nn.Embedding(5, 3, padding_idx=0)), 1)
    assert reasons(padded, "opacus.hooks.per_sample") == (
        "Opacus does not look at padding_idx, scale_grad_by_freq and sparse of Embedding (0)",
    )
    assert "BackPACK refuses Embedding (0): Only padding_idx=None supported" in reasons(padded, "backpack.l2.norms")
    words = modules.problem(nn.Sequential(nn.Embedding(5, 3)), 1)
    assert reasons(words, "backpack.l2.norms", "float32") == ()
    assert reasons(words, "backpack.l2.norms", "float64") == (
        "BackPACK computes the rows of an Embedding in float32, torch's default dtype, only",
    )
    deep = modules.problem(nn.Sequential(nn.LSTM(4, 3, num_layers=2, batch_first=True)), 2, 4)
    assert reasons(deep, "backpack.l2.norms") == ("BackPACK refuses LSTM (0): only num_layers = 1 is supported",)
    plain = modules.problem(nn.Sequential(nn.RNN(4, 3)), 2, 4)
    assert reasons(plain, "opacus.hooks.per_sample") == (
        "Opacus has no layer of its own for RNN (0); it has those for LSTM, GRU",
    )
    projected = modules.problem(nn.Sequential(nn.LSTM(4, 3, proj_size=2)), 2, 4)
    assert reasons(projected, "opacus.hooks.per_sample") == (
        "LSTM (0) has a projection, which Opacus' own layer leaves out",
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("key", KEYS)
def test_half_precision_is_for_rows_alone(key, dtype):
    # A row of 300 has a square of 90000, which float16 does not have.
    model = nn.Linear(2, 1, bias=False).to(getattr(torch, dtype))
    problem = gk.ModuleProblem(model, lambda output, y: output.sum(), reduction="sum")
    x = torch.tensor([[300.0, 0.0], [0.0, 1.0]], dtype=model.weight.dtype)
    if key.endswith("per_sample"):
        assert reasons(problem, key, dtype) == ()
        rows = gk.kernel(key).build(problem)(problem.parameters(), x, x)["weight"]
        assert (rows.tolist(), rows.dtype) == ([[[300.0, 0.0]], [[0.0, 1.0]]], x.dtype)
    else:
        who = "Opacus' ghost clipping" if key in OPACUS else "BackPACK"
        assert reasons(problem, key, dtype) == (
            f"{who} squares and adds in {dtype} itself: pass float32, or take rows, which are squared in float32",
        )


MAPS = {
    "plain": (lambda: nn.Conv2d(4, 4, 3, stride=2, padding=1, dilation=2), ()),
    "grouped": (lambda: nn.Conv2d(4, 4, 3, groups=2), ("backpack.l2",)),
    "circular": (
        lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        ("opacus.hooks", "opacus.ghost", "backpack"),
    ),
    "same": (lambda: nn.Conv2d(4, 4, 3, padding="same"), ("backpack",)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1), ("opacus.ew",)),
    "longer": (lambda: nn.ConvTranspose2d(4, 4, 3, stride=2, output_padding=1), ("opacus.ew", "backpack")),
    "instances": (lambda: nn.InstanceNorm2d(4, affine=True), ("backpack",)),
    "groups": (lambda: nn.GroupNorm(2, 4), ("backpack",)),
    "layers": (lambda: nn.LayerNorm([5, 5]), ("backpack",)),
    "slopes": (lambda: nn.PReLU(4), ("opacus.ew", "backpack")),
}
"""Layers of images 4 x 5 x 5, and the ways that refuse them."""


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("layer", MAPS)
def test_settings_of_layers_are_proven_or_refused(layer, key):
    make, refused = MAPS[layer]
    size = {"plain": 4, "grouped": 9, "transposed": 81, "longer": 144}.get(layer, 25)
    model = modules.seeded(lambda: nn.Sequential(make(), nn.Tanh(), nn.Flatten(), nn.Linear(4 * size, 3)))
    problem = modules.problem(model, 4, 5, 5)
    if key.startswith(refused):
        assert len(reasons(problem, key)) == 1
    else:
        gk.check(key, case(problem, key))


@pytest.mark.parametrize("key", KEYS)
def test_more_axes_than_a_rule_knows_are_no_norm_of_zero(key):
    model = modules.seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.Flatten(), nn.Linear(30, 3)))
    problem = modules.problem(model, 2, 3, 4)
    if key.startswith("opacus.ghost"):
        with pytest.raises(RuntimeError, match="NotImplementedError: Opacus left no norms on 0.weight"):
            gk.check(key, case(problem, key))
    else:
        gk.check(key, case(problem, key))


def test_a_layer_in_eval_mode_stays_in_it_but_for_its_recording():
    model = modules.seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.9), nn.Linear(5, 3)))
    problem = modules.problem(model, 4)
    for key in OPACUS:
        gk.check(key, case(problem, key))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("key", OPACUS)
def test_recurrent_layers_are_replaced_by_the_librarys_own(kind, key):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = kind(4, 3, num_layers=2, batch_first=True, dropout=0.5)
            self.layer.weight_hh_l0.requires_grad_(False)

        def forward(self, x):
            return self.layer(x)[0][:, -1]

    problem = modules.problem(modules.seeded(Last), 6, 4)
    assert list(problem.parameters())[:2] == ["layer.weight_ih_l0", "layer.bias_ih_l0"]
    gk.check(key, case(problem, key))


@pytest.mark.parametrize("key", KEYS)
def test_a_failed_call_leaves_the_model_and_the_kernel_as_they_were(key):
    problem = modules.problem(modules.seeded(modules.frozen), 4)
    kernel, theta = gk.kernel(key), problem.parameters()
    compute, state = kernel.build(problem), problem.state()
    x, y = problem.example
    before = compute(theta, x, y)
    with pytest.raises(
        RuntimeError, match=f"{key.rpartition('.')[0]} failed on Sequential with .*; take another kernel"
    ):
        compute(theta, x[:, :3], y)
    with pytest.raises(RuntimeError, match="failed on Sequential"):
        compute(theta, x, y + 5)
    assert problem.state() == state
    each(np.testing.assert_array_equal, compute(theta, x, y), before)


@pytest.mark.parametrize("key", ["opacus.hooks.per_sample", "opacus.ew.per_sample", "backpack.batch.per_sample"])
def test_what_changes_in_the_model_is_seen(key):
    make = modules.frozen if key.startswith("opacus") else modules.normalised
    problem = modules.problem(modules.seeded(make), 4)
    compute, (x, y) = gk.kernel(key).build(problem), problem.example
    compute(problem.parameters(), x, y)
    for tensor in (*problem.model.buffers(), *problem.model.parameters()):
        if tensor.is_floating_point():
            tensor.data.mul_(1.7)
    if make is modules.normalised:
        problem.model[1].running_mean = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0])
    else:
        problem.model[2].weight = nn.Parameter(problem.model[2].weight.flip(0), requires_grad=False)
    own = {name: tensor.detach().numpy() for name, tensor in problem.parameters().items()}
    expected = true_gradients(problem, own, x.numpy(), y.numpy()).rows
    rows = compute(problem.parameters(), x, y)
    got = torch.cat([rows[name].flatten(1) for name in own], 1)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_works_in_every_grad_mode_and_leaves_no_graph(context, key):
    problem = modules.problem(modules.seeded(lambda: nn.Linear(4, 3)), 4)
    with context():
        x, y = take(problem.example, slice(0, 5))
        theta = {name: tensor.clone() for name, tensor in problem.parameters().items()}
        result = gk.kernel(key).build(problem)(theta, 2 * x, y)
    each(lambda tensor: None if not tensor.requires_grad else pytest.fail("a graph"), result)


@pytest.mark.parametrize("key", KEYS[:-1])
def test_no_samples(key):
    problem = modules.problem(modules.seeded(lambda: nn.Linear(4, 3)), 4)
    x, y = take(problem.example, slice(0, 0))
    result = gk.kernel(key).build(problem)(problem.parameters(), x, y)
    quantity = gk.kernel(key).quantity.name
    if quantity == "norms":
        assert result.shape == (0,)
    else:
        first = (0,) if quantity == "per_sample" else ()
        assert {name: tensor.shape for name, tensor in result.items()} == {
            "weight": (*first, 3, 4),
            "bias": (*first, 3),
        }
        assert not any(tensor.any() or tensor.requires_grad for tensor in result.values())


@pytest.mark.parametrize("key", KEYS)
def test_the_dtype_of_theta_decides(key):
    problem = modules.problem(modules.seeded(lambda: nn.Linear(4, 3)), 4)  # float32
    x, y = problem.example
    theta = {name: tensor.detach().double() for name, tensor in problem.parameters().items()}
    result = gk.kernel(key).build(problem)(theta, x.double(), y)
    each(lambda tensor: np.testing.assert_equal(tensor.dtype, torch.float64), result)
    assert problem.model.weight.dtype == torch.float32


def test_a_missing_library_is_a_reason():
    code = """
import sys
missing = "opacus", "backpack"
sys.modules.update(dict.fromkeys(missing))  # as if they were not there: imports of them fail
import gradkernels as gk, gradkernels.backend.libraries as backend
found = backend._found
backend._found = lambda name: name not in missing and found(name)
from gradkernels.zoo import mlp
problem = mlp()
for kernel in gk.kernels(problem):
    if kernel.backend.name in missing:
        print(*kernel.unsupported(gk.Case(problem, kernel.quantity, 3)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = {"opacus": "opacus", "backpack": "backpack-for-pytorch"}
    says = {f"{library} is not installed: pip install {package}" for library, package in packages.items()}
    assert set(done.stdout.splitlines()) == says


def test_the_first_calls_watch_is_taken_off():
    problem = modules.problem(modules.seeded(lambda: nn.Linear(4, 3)), 4)
    compute = gk.kernel("backpack.batch.per_sample").build(problem)
    copies = compute.__closure__[list(compute.__code__.co_freevars).index("copies")].cell_contents
    compute(problem.parameters(), *problem.example)
    (copied,) = copies.states.kept()
    assert not copied.problem.model._forward_pre_hooks
    assert not any(hasattr(one, "grad_batch") or one.grad is not None for one in copied.problem.model.parameters())


def test_the_copy_refers_to_theta_and_not_to_memory_of_its_own():
    problem = modules.problem(modules.seeded(lambda: nn.Linear(4, 3)), 4)
    compute = gk.kernel("opacus.hooks.per_sample").build(problem)
    theta = {name: tensor.detach().clone() for name, tensor in problem.parameters().items()}
    first = compute(theta, *problem.example)
    theta["weight"][0].add_(0.5)
    second = compute(theta, *problem.example)
    assert not torch.allclose(first["weight"], second["weight"])
