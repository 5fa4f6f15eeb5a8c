"""Jacobians: worked by hand, by every way against single passes, their shapes, and what is refused."""

import re

import pytest
import torch
from matrices import in_turn
from models import MODELS, Checkpointed, Recurrent, Reused, Tied, frozen, image, mlp, normalised
from modules import Unused
from torch import nn

import gradkernels as gk
from gradkernels.kernel import Kernel

WAYS = [one.key for one in gk.kernels(gk.ModuleProblem(nn.Linear(1, 1)).of_outputs(), "jacobian")]
QUICK = ["torch.hooks.jacobian", "torch.vmap.jacobian", "torch.recorded+.jacobian", "torch.loop+.jacobian"]


class Attention(nn.Module):
    """A small transformer: LayerNorm, attention and a feed-forward block, then a mean over positions."""

    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.block(x).mean(1))


class Several(nn.Module):
    """A model that gives two tensors."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x), x.sum(1)


class Sorted(nn.Module):
    """Looks at numbers of its samples in Python, one by one."""

    def forward(self, x):
        return torch.stack([row * (2 if float(row.detach().sum()) > 0 else 3) for row in x])


class AsManyAsSamples(nn.Module):
    """Has as many outputs as the batch has samples."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 9)

    def forward(self, x):
        return self.layer(x)[:, : len(x)]


class Mixed(nn.Module):
    """The mean over the batch is in one of its outputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        own = self.layer(x)
        return torch.cat([own, own.mean(0, keepdim=True).expand_as(own)], 1)


INPUTS = {
    "mlp": (mlp, (4,)),
    "image": (image, (1, 6, 6)),
    "transformer": (Attention, (5, 4)),
    "lstm": (Recurrent, (5, 3)),
    "tied": (Tied, None),
    "reused": (Reused, (4,)),
    "unused": (Unused, (4,)),
    "frozen": (frozen, (4,)),
    "batch norm in evaluation mode": (normalised, (4,)),
    "checkpoint": (Checkpointed, (4,)),
    "one output": (lambda: nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 1)), (4,)),
    "no axis of outputs": (lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), (4,)),
    "outputs of positions": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh()), (2, 4)),
    "probabilities": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), (4,)),
}
"""How to make a model, and the shape of one of its inputs; None for five words of seven."""


def made(name, n=4, dtype=torch.float64):
    """A model and n inputs."""
    torch.manual_seed(2)
    make, shape = INPUTS[name]
    model = make().to(dtype)
    return model, torch.randint(7, (n, 5)) if shape is None else torch.randn(n, *shape, dtype=dtype)


def single_passes(model, x):
    """The Jacobian by `backward()` for each output of each sample: `(n, ..., *shape)` by name."""
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    rows = {name: [] for name in trained}
    for i in range(len(x)):
        shape = model(x[i : i + 1]).shape
        for place in range(shape.numel()):
            model.zero_grad()
            model(x[i : i + 1]).flatten()[place].backward()
            for name, one in trained.items():
                rows[name].append(torch.zeros_like(one) if one.grad is None else one.grad.clone())
    model.zero_grad()
    return {name: torch.stack(found).view(len(x), *shape[1:], *trained[name].shape) for name, found in rows.items()}


def require_close(found, wanted, rtol=1e-9, atol=1e-12):
    assert [*found] == [*wanted]
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one, rtol=rtol, atol=atol, msg=lambda says, of=name: f"{of}: {says}")


def test_a_linear_map_worked_by_hand():
    model = nn.Linear(2, 2)
    found = gk.jacobian(gk.ModuleProblem(model), None, torch.tensor([[5.0, 7.0], [1.0, -1.0]]))
    # Output k is the sum over i of W[k, i] x[i], plus b[k].
    weight = [
        [[[5.0, 7.0], [0.0, 0.0]], [[0.0, 0.0], [5.0, 7.0]]],
        [[[1.0, -1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, -1.0]]],
    ]
    assert found["weight"].tolist() == weight
    assert found["bias"].tolist() == [[[1.0, 0.0], [0.0, 1.0]]] * 2


def test_a_product_of_two_weights_worked_by_hand():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0]]))
        model[1].weight.copy_(torch.tensor([[2.0], [-1.0]]))
    found = gk.jacobian(gk.ModuleProblem(model), None, torch.tensor([[1.0], [10.0]]), flat=True)
    # Outputs are 2 w x and -w x at w = 3: by w, by their own factor, by the other's.
    assert found.tolist() == [[[2.0, 3.0, 0.0], [-1.0, 0.0, 3.0]], [[20.0, 30.0, 0.0], [-10.0, 0.0, 30.0]]]


@pytest.mark.parametrize("key", QUICK)
@pytest.mark.parametrize("name", INPUTS)
def test_every_way_gives_what_single_passes_give(name, key):
    model, x = made(name)
    if (name, key) == ("lstm", "torch.vmap.jacobian"):
        # torch's own float64 cell adds a batch to a state that has none, which vmap refuses.
        with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
            gk.jacobian(gk.ModuleProblem(model), None, x, kernel=key)
        return
    require_close(gk.jacobian(gk.ModuleProblem(model), None, x, kernel=key), single_passes(model, x))


@pytest.mark.parametrize("key", [key for key in WAYS if key not in QUICK])
def test_the_other_ways_give_it_too(key, eager):
    model, x = made("mlp")
    require_close(gk.jacobian(gk.ModuleProblem(model), None, x, kernel=key), single_passes(model, x))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("key", QUICK)
def test_a_check_on_request_passes(key, dtype):
    model, x = made("image", n=5)
    problem = gk.ModuleProblem(model, example=(x, None)).of_outputs()
    proof = gk.check(key, gk.Case(problem, "jacobian", 5, dtype=dtype))
    assert proof.error < proof.tolerance == {"float64": 1e-10, "float32": 1e-4}[dtype]


def test_central_differences_agree():
    model, x = made("mlp", n=2)
    found, theta = gk.jacobian(gk.ModuleProblem(model), None, x), dict(model.named_parameters())
    for name, place in (("0.weight", (3, 1)), ("0.bias", (4,)), ("2.weight", (0, 2))):
        step = torch.zeros_like(theta[name]).detach()
        step[place] = 1e-6
        sides = [torch.func.functional_call(model, theta | {name: theta[name] + s * step}, (x,)) for s in (1, -1)]
        difference = (sides[0] - sides[1]).detach() / 2e-6
        torch.testing.assert_close(found[name][(..., *place)], difference, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("key", [None, *QUICK])
def test_few_samples(n, key):
    model, x = made("mlp")
    wanted = {name: one[:n] for name, one in single_passes(model, x).items()}
    require_close(gk.jacobian(gk.ModuleProblem(model), None, x[:n], kernel=key), wanted)


def test_single_precision_is_as_close_as_it_can_be():
    model, x = made("image", dtype=torch.float32)
    wide = single_passes(model.double(), x.double())
    model.float()
    for key in QUICK:
        found = gk.jacobian(gk.ModuleProblem(model), None, x, kernel=key)
        require_close({name: one.double() for name, one in found.items()}, wide, rtol=1e-4, atol=1e-5)
        assert {one.dtype for one in found.values()} == {torch.float32}


@pytest.mark.parametrize("key", QUICK)
def test_given_parameters_are_those_that_count(key):
    model, x = made("mlp")
    theta = {name: one.detach() * 1.5 for name, one in model.named_parameters()}
    found = gk.jacobian(gk.ModuleProblem(model), theta, x, kernel=key)
    model.load_state_dict(theta)
    require_close(found, single_passes(model, x))


def test_named_parameters_alone():
    model, x = made("mlp")
    wanted = {name: one for name, one in single_passes(model, x).items() if name.startswith("2.")}
    require_close(gk.jacobian(gk.ModuleProblem(model), None, x, parameters="2.*"), wanted)
    assert model[0].weight.requires_grad


@pytest.mark.parametrize("name", ["mlp", "outputs of positions", "no axis of outputs", "tied"])
@pytest.mark.parametrize("key", QUICK)
def test_a_flat_jacobian_has_the_parameters_side_by_side(name, key):
    model, x = made(name)
    problem, wanted = gk.ModuleProblem(model), single_passes(model, x)
    leading = next(iter(wanted.values())).ndim - next(model.parameters()).ndim
    found = gk.jacobian(problem, None, x, flat=True, kernel=key)
    layout = gk.flat(problem)
    assert found.shape == (*next(iter(wanted.values())).shape[:leading], len(layout))
    require_close(layout.split(found), wanted)


def test_a_large_flat_jacobian_is_written_in_place():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 10)), torch.randn(64, 32)
    found = gk.jacobian(gk.ModuleProblem(model), None, x, flat=True)
    assert found.shape == (64, 10, 2762)
    # The last bias is each output's own.
    assert found[:, :, -10:].equal(torch.eye(10).expand(64, 10, 10))


def test_memory_of_the_caller_is_written_to():
    model, x = made("mlp")
    wanted = single_passes(model, x)
    out = {name: torch.full_like(one, torch.nan) for name, one in wanted.items()}
    assert gk.jacobian(gk.ModuleProblem(model), None, x, out=out) is out
    require_close(out, wanted)
    flat = torch.full((4, 3, 43), torch.nan, dtype=torch.float64)
    assert gk.jacobian(gk.ModuleProblem(model), None, x, flat=True, out=flat) is flat
    require_close(gk.flat(gk.ModuleProblem(model)).split(flat), wanted)
    with pytest.raises(
        ValueError, match=re.escape("out['0.weight'] is (4, 5, 4) float64 on cpu; it must be (4, 3, 5, 4)")
    ):
        gk.jacobian(gk.ModuleProblem(model), None, x, out={name: one[:, 0].clone() for name, one in out.items()})
    with pytest.raises(ValueError, match=re.escape("out is (4, 43); it must be (4, 3, 43)")):
        gk.jacobian(gk.ModuleProblem(model), None, x, flat=True, out=flat[:, 0].clone())


def test_hooks_run_the_model_forward_once():
    model, x = made("mlp")
    problem = gk.ModuleProblem(model).of_outputs()
    compute, calls = gk.kernel("torch.hooks.jacobian").build(problem), []
    inputs = problem.parameters(), *problem.prepared(x, None)
    with_hook = model.register_forward_hook(lambda *_: calls.append(1))
    compute(*inputs)
    with_hook.remove()
    assert len(calls) == 1


@pytest.mark.parametrize("key", ["torch.hooks[chunk=3].jacobian", "torch.vmap[chunk=3].jacobian"])
def test_samples_in_chunks(key):
    model, x = made("image", n=7)
    require_close(gk.jacobian(gk.ModuleProblem(model), None, x, kernel=key), single_passes(model, x))


class LooksAtGradients(nn.Module):
    """Has a hook in its backward pass that vmap cannot run: it looks at numbers."""

    def __init__(self):
        super().__init__()
        self.first, self.head, self.seen = nn.Linear(4, 4), nn.Linear(4, 3), []

    def forward(self, x):
        inner = torch.tanh(self.first(x))
        if inner.requires_grad:
            inner.register_hook(lambda g: self.seen.append(g.numpy().shape))
        return self.head(inner)


def test_a_backward_pass_that_vmap_cannot_run_is_run_for_each_output():
    torch.manual_seed(0)
    model, x = LooksAtGradients().double(), made("mlp")[1]
    problem = gk.ModuleProblem(model).of_outputs()
    compute = gk.kernel("torch.hooks.jacobian").build(problem)
    for _ in range(2):
        model.seen.clear()
        found = compute(problem.parameters(), *problem.prepared(x, None))
        assert model.seen == [(4, 4)] * 3
    require_close(found, single_passes(model, x))


def test_a_backward_pass_that_vmap_cannot_run_is_tried_once(monkeypatch):
    from gradkernels.engines.hooks import outputs

    tried, really = [], outputs._of_several
    monkeypatch.setattr(outputs, "_of_several", lambda *given: tried.append(1) or really(*given))
    problem = gk.ModuleProblem(LooksAtGradients().double()).of_outputs()
    compute, x = gk.kernel("torch.hooks.jacobian").build(problem), made("mlp")[1]
    for _ in range(3):
        compute(problem.parameters(), *problem.prepared(x, None))
    assert len(tried) == 1


@pytest.mark.parametrize("limit", [1, 8, 12])
@pytest.mark.parametrize("name", ["mlp", "image", "transformer", "tied", "outputs of positions"])
def test_several_outputs_in_a_pass_or_one(name, limit, monkeypatch):
    from gradkernels.engines.hooks import outputs

    monkeypatch.setattr(outputs, "OUTPUTS_AT_ONCE", limit)
    model, x = made(name)
    found = gk.jacobian(gk.ModuleProblem(model), None, x, kernel="torch.hooks")
    require_close(found, single_passes(model, x))


def test_outputs_as_samples_in_several_batches(monkeypatch):
    from gradkernels.quantities.shared import outputs

    monkeypatch.setattr(outputs, "OUTPUTS_AT_ONCE", 5)
    model, x = made("mlp")
    require_close(gk.jacobian(gk.ModuleProblem(model), None, x, kernel="torch.recorded+"), single_passes(model, x))


def test_a_limit_of_memory_counts_the_outputs():
    model = nn.Linear(1000, 100)
    problem, x = gk.ModuleProblem(model), torch.randn(2, 1000)
    result = 2 * 100 * (100 * 1000 + 100) * 4
    with pytest.raises(ValueError, match="torch.hooks.jacobian needs about .* bytes, max_bytes=80,000,000"):
        gk.jacobian(problem, None, x, max_bytes=result - 80_000)
    found = gk.jacobian(problem, None, x, max_bytes=2 * result + 2**24)
    assert found["weight"][1, 7, 7].equal(x[1])


@pytest.mark.parametrize("key", ["torch.hooks", "torch.vmap"])
def test_chunks_within_a_limit_have_room_for_the_rows_of_all_outputs(key):
    problem, x = gk.ModuleProblem(nn.Linear(100, 20)).of_outputs(), torch.randn(100, 100)
    of_sample = 20 * (20 * 100 + 20) * 4  # rows, beside which the layer's data are a hundredth
    limit = 100 * of_sample + 8 * 2**20 + 10 * of_sample
    bound = gk.fastest(problem, "jacobian", like=(None, x, None), max_bytes=limit, kernel=key)
    assert dict(bound.kernel.set_options)["chunk"] == 9  # since the layer's data take some, too


def test_the_part_of_an_output_that_is_meant():
    model, x = Several().double(), made("mlp")[1]
    found = gk.jacobian(gk.ModuleProblem(model), None, x, of=lambda output: output[0])
    assert found["layer.weight"][2, 1, 1].equal(x[2])
    says = "a Jacobian is of a tensor, and this is a tuple; say which tensor of the model's output is meant: of=lambda"
    with pytest.raises(ValueError, match=re.escape(says)):
        gk.jacobian(gk.ModuleProblem(model), None, x)


@pytest.mark.parametrize("name", ["tuple of inputs", "dict of inputs"])
def test_models_of_several_inputs(name):
    torch.manual_seed(0)
    model, _, x, _ = MODELS[name](4)
    left, right = (x["a"], x["b"]) if isinstance(x, dict) else x
    found = gk.jacobian(gk.ModuleProblem(model), None, x, of=lambda output: output[0])
    # (A l + a)(B r + b), entry by entry.
    torch.testing.assert_close(found["left.weight"][3, 1, 1], model.right(right)[3, 1].detach() * left[3])
    torch.testing.assert_close(found["right.bias"][2, 0, 0], model.left(left)[2, 0].detach())
    assert not found["left.weight"][3, 1, 0].any()


def test_the_loss_of_a_problem_plays_no_part():
    model, x = made("mlp")
    one, other = (
        gk.ModuleProblem(model, nn.CrossEntropyLoss()),
        gk.ModuleProblem(model, nn.MSELoss(reduction="sum"), "sum"),
    )
    require_close(gk.jacobian(one, None, x), gk.jacobian(other, None, x), rtol=0, atol=0)
    assert one.of_outputs() is one.of_outputs().of_outputs()


def test_targets_of_a_problem_of_outputs_choose_one_or_weigh_all():
    model, x = made("mlp")
    problem, wanted = gk.ModuleProblem(model).of_outputs(), single_passes(model, x)
    chosen = torch.tensor([2, 0, 1, 1])
    rows = {name: one[torch.arange(4), chosen] for name, one in wanted.items()}
    require_close(gk.per_sample(problem, None, x, chosen), rows)
    weights = torch.randn(4, 3, dtype=torch.float64)
    sums = {name: torch.einsum("nc,nc...->n...", weights, one) for name, one in wanted.items()}
    require_close(gk.per_sample(problem, None, x, weights), sums)


def test_draws_are_the_same_for_all_outputs_of_a_sample():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2)).double(), torch.ones(5, 6, dtype=torch.float64)
    for randomness in ("same", "different"):
        for key in ("torch.hooks", "torch.vmap"):
            found = gk.jacobian(gk.ModuleProblem(model, randomness=randomness), None, x, kernel=key)["1.weight"]
            masks = found[:, 0, 0]
            assert found[:, 1, 1].equal(masks)
            assert set(masks.unique().tolist()) == {0.0, 2.0}
            assert bool((masks == masks[:1]).all()) is (randomness == "same")
    with pytest.raises(ValueError, match="it draws other random numbers for each output"):
        gk.jacobian(gk.ModuleProblem(model, randomness="different"), None, x, kernel="torch.loop+")


BATCH_NORM = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
REFUSED = [
    (BATCH_NORM, "1 (BatchNorm1d) is in training mode and normalises by the whole batch"),
    (Mixed(), "the gradient of the mean loss of a batch is not the mean of the gradients of its samples"),
    (nn.Sequential(nn.Dropout(), nn.Linear(4, 2)), "the model draws random numbers (dropout?)"),
    (AsManyAsSamples(), "the model gives outputs of shape (3,) for a sample of this batch and (1,) for the first one"),
    (nn.Sequential(nn.Linear(4, 2), nn.Flatten(0)), "the model gives 2 rows of outputs for one sample"),
]


@pytest.mark.parametrize(("model", "says"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_models_whose_samples_have_no_outputs_of_their_own_are_refused(model, says):
    with pytest.raises(ValueError, match=f"^{re.escape(says)}"):
        gk.jacobian(gk.ModuleProblem(model), None, torch.randn(6, 4))


def test_a_batch_of_one_moves_no_statistics():
    with pytest.raises(ValueError, match="BatchNorm1d"):
        gk.jacobian(gk.ModuleProblem(BATCH_NORM), None, torch.randn(1, 4))
    assert BATCH_NORM[1].num_batches_tracked == 0


def test_what_has_no_outputs_says_so():
    theta, x, y = gk.LinearRegression().draw(5, seed=0)
    says = (
        "a Jacobian is of the outputs of a torch module, and a LinearRegression is losses alone; pass gk.ModuleProblem"
    )
    with pytest.raises(TypeError, match=re.escape(says)):
        gk.jacobian(gk.LinearRegression(), theta, x)
    with pytest.raises(TypeError, match=re.escape(says)):
        gk.fastest(gk.LinearRegression(), "jacobian", like=(theta, x, y))
    with pytest.raises(ValueError, match="differentiates outputs, and linear is a loss; pass problem.of_outputs"):
        gk.check("torch.loop+.jacobian", gk.Case(gk.LinearRegression(), "jacobian", 3))
    assert not gk.kernels(gk.LinearRegression(), "jacobian")


def test_outputs_and_losses_are_not_confused():
    model, x = made("mlp")
    problem, chosen = gk.ModuleProblem(model, nn.CrossEntropyLoss()), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(TypeError, match="this problem is of a loss; pass problem.of_outputs"):
        gk.fastest(problem, "jacobian", like=(None, x, chosen))
    with pytest.raises(ValueError, match="jacobian is of all outputs of the samples; pass None for y"):
        gk.fastest(problem.of_outputs(), "jacobian", like=(None, x, chosen))
    with pytest.raises(TypeError, match="y is None; per_sample of a problem of outputs is of one of them"):
        gk.per_sample(problem.of_outputs(), None, x, None)
    gk.per_sample(problem.of_outputs(), None, x, chosen)
    with pytest.raises(TypeError, match="y is None; per_sample of a problem of outputs is of one of them"):
        gk.per_sample(problem.of_outputs(), None, x, None)
    bound = gk.fastest(problem.of_outputs(), "jacobian", like=(None, x, None))
    require_close(bound(None, x, None), single_passes(model, x))


def swapped(problem):
    """A way that confuses the last two outputs."""
    right = gk.kernel("torch.hooks.jacobian").build(problem)

    def compute(theta, x, y, out=None):
        return {name: one[:, [0, 2, 1]].contiguous() for name, one in right(theta, x, y).items()}

    return compute


def wrong_from(n, problem):
    """A way that is wrong for so many samples or more alone."""
    right = gk.kernel("torch.hooks.jacobian").build(problem)

    def compute(theta, x, y, out=None):
        found = right(theta, x, y)
        if len(y) >= n:
            found["0.bias"][:, 1] *= 1.01
        return found

    return compute


def kernel_of(builder):
    like = gk.kernel("torch.hooks.jacobian")
    return Kernel("broken", like.quantity, like.backend, builder, like.problems)


def test_a_way_that_confuses_outputs_is_found_before_its_first_use():
    model, x = made("mlp")
    with pytest.raises(gk.Disagreement, match=r"broken.jacobian .* of sample \(.*expected"):
        gk.jacobian(gk.ModuleProblem(model), None, x, kernel=kernel_of(swapped))
    problem = gk.ModuleProblem(model, example=(x, None)).of_outputs()
    with pytest.raises(gk.Disagreement, match="broken.jacobian"):
        gk.check(kernel_of(swapped), gk.Case(problem, "jacobian", 4))


def test_an_audit_finds_a_way_that_is_wrong_for_large_batches():
    model, x = made("mlp", n=40)
    with pytest.raises(gk.Disagreement, match=r"broken.jacobian .*n=40.* of 0.bias of sample \(\d+, 1\)"):
        gk.jacobian(gk.ModuleProblem(model), None, x, kernel=kernel_of(lambda problem: wrong_from(20, problem)))


def test_a_model_that_hooks_cannot_follow_is_computed_by_another_way():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4), Sorted(), nn.Linear(4, 2)).double(), made("mlp")[1]
    bound = gk.fastest(gk.ModuleProblem(model).of_outputs(), "jacobian", like=(None, x, None))
    require_close(bound(None, x, None), single_passes(model, x))
    assert bound.kernel.name != "hooks"


def test_a_model_whose_head_changes():
    model, x = made("mlp")
    problem = gk.ModuleProblem(model)
    assert gk.jacobian(problem, None, x)["2.bias"].shape == (4, 3, 3)
    model[2] = nn.Linear(5, 2).double()
    require_close(gk.jacobian(problem, None, x), single_passes(model, x))


def test_turns_of_many_calls_stay_right():
    model, x = made("mlp")
    problem, wanted = gk.ModuleProblem(model), single_passes(model, x)
    for _ in range(in_turn([3, 5, 9], 1)[0]):
        require_close(gk.jacobian(problem, None, x), wanted)
