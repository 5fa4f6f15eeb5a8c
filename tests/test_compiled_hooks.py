"""torch.compiled_hooks: what the hooks compute, recorded once for each shape, in chunks, without a value baked in."""

import modules
import pytest
import torch
from matrices import matrix
from torch import nn

import gradkernels as gk
from gradkernels.zoo import ZOO

QUANTITIES = ("per_sample", "norms", "clipped_sum")


def check(quantity, problem, n=6, dtype="float64", chunk=4):
    way = f"torch.compiled_hooks[chunk={chunk}].{quantity}"
    return gk.check(way, gk.Case(problem, quantity, n, dtype=dtype))


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("make", modules.SHARED)
@pytest.mark.usefixtures("eager")
def test_recordings_are_right(make, quantity):
    check(quantity, modules.problem(modules.seeded(make), 4))


@matrix(
    "name,quantity",
    [name for name in ZOO if name != "lstm"],
    QUANTITIES,
    always=lambda name, quantity: (name, quantity) == ("embedding_bag", "norms"),
)
@pytest.mark.usefixtures("eager")
def test_recordings_of_the_zoo_are_right(name, quantity):
    if name == "embedding_bag" and quantity != "per_sample":
        # Its short-cut counts the distinct words of a sample, a size that depends on the data.
        with pytest.raises(
            RuntimeError, match=r"^torch\.compile cannot compile the gradient of .*; take another kernel$"
        ):
            check(quantity, ZOO[name](), dtype="float32")
    else:
        check(quantity, ZOO[name](), dtype="float32")


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", [name for name in ZOO if name not in ("lstm", "embedding_bag")])
def test_compiled_models_of_the_zoo_are_right(name, quantity, long):
    if not long and (name, quantity) != ("mlp", "norms"):
        pytest.skip("compiling takes long: --long")
    check(quantity, ZOO[name](), dtype="float32")


@pytest.mark.usefixtures("eager")
def test_another_bound_is_no_other_recording(monkeypatch):
    from gradkernels.engines.compiled import modules as compiled_modules

    recorded = []
    monkeypatch.setattr(
        compiled_modules,
        "trace_operations",
        lambda function, *arrays: recorded.append(1) or (lambda *given: function(*given)),
    )
    problem = ZOO["mlp"]()
    x, y = problem.example
    compute = gk.kernel("torch.compiled_hooks[chunk=16].clipped_sum").build(problem)
    plain = gk.kernel("torch.loop+.clipped_sum").build(problem)
    for bound in (0.5, 2.0, float("inf")):
        got, want = (f(problem.parameters(), x[:40], y[:40], max_norm=bound) for f in (compute, plain))
        for name, one in want.items():
            torch.testing.assert_close(got[name], one, rtol=1e-4, atol=1e-4 * float(one.abs().max()))
    assert recorded == [1]


def test_what_hooks_cannot_follow_is_refused_in_a_sentence():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.bias = nn.Linear(4, 3), nn.Parameter(torch.ones(3))

        def forward(self, x):
            h = self.linear(x)
            h[:, 0] += self.bias[0]
            return h

    problem = gk.ModuleProblem(InPlace(), nn.CrossEntropyLoss())
    x, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    with pytest.raises((RuntimeError, ValueError), match=r"changes data in place with a parameter"):
        gk.kernel("torch.compiled_hooks.per_sample").build(problem)(problem.parameters(), x, y)
