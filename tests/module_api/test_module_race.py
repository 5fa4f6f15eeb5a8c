"""Races of a module's kernels, several threads at one module, and samples in an order of its own."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from models import CROSS_ENTROPY, mlp, oracle
from module_kernels import declared, doubled
from torch import nn

import gradkernels as gk
from gradkernels.bench.race.plan import plan_race
from gradkernels.quantity import QUANTITIES

SCRIPT = """
import sys, torch
from torch import nn
import gradkernels as gk
from gradkernels.bench.race import elimination, plan

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
    def forward(self, x):
        return torch.tanh(self.linear(x))

if __name__ == "__main__":
    problem = gk.ModuleProblem(Mine(), lambda output, y: ((output - y) ** 2).mean())
    x, y = torch.randn(8, 3), torch.randn(8, 2)
    elimination.ELIMINATION_LOOKS, elimination.FRESH_PASSES = ((2, 0.05),), 1
    ways = [gk.kernel(f"torch.{way}.norms") for way in ("hooks", "loop+")]
    plan.kernels = lambda problem, quantity: ways
    won = gk.race(problem, "norms", like=(None, x, y), budget=2, calls=1000, parameters="*.weight")
    print(won.kernel.key, "saved wisdom" in won.why, won.why.count('times the winner') == 1)
    print(torch.allclose(won(None, x, y), gk.norms(problem, None, x, y, parameters="*.weight")))
"""


def test_a_race_of_a_class_and_a_lambda_of_the_script_itself(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {"GRADKERNELS_WISDOM": str(tmp_path / "wisdom.json")}
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment})  # fmt: skip
    assert done.returncode == 0, done.stderr
    key, *facts = done.stdout.split()
    assert facts == ["True", "True", "True"]
    assert key.endswith(".norms")


def test_compiled_ways_take_part_where_half_the_budget_pays_for_them(problem, data, tmp_path, monkeypatch):
    ways = (gk.kernel("torch.vmap.per_sample"), declared("compiles", "per_sample", doubled, compiles=True))
    monkeypatch.setattr("gradkernels.bench.race.plan.kernels", lambda problem, quantity: ways)
    monkeypatch.setattr("gradkernels.bench.run.plan.kernel_by_key", lambda key: gk.kernel("torch.vmap.per_sample"))
    for budget, keys in ((59, 1), (60, 2)):
        plan = plan_race(problem, QUANTITIES["per_sample"], (None, *data), tmp_path, budget)
        assert len(plan.kernels) == keys
    assert (plan.sizes, plan.dtype, plan.data) == ((5,), "float32", None)


def test_a_model_that_cannot_be_raced_is_refused_before_anything_is_measured(data):
    mixing = gk.ModuleProblem(nn.Sequential(nn.Linear(4, 3), nn.Softmax(0)), CROSS_ENTROPY)
    with pytest.raises(ValueError, match="mixes the samples"):
        gk.race(mixing, "norms", like=(None, *data))


def test_drawn_parameters_are_near_the_models_own_and_nowhere_zero():
    model = mlp()
    nn.init.zeros_(model[2].weight)
    drawn = gk.ModuleProblem(model, CROSS_ENTROPY).draw_theta(1, seed=3)
    own = model[0].weight.detach().numpy()
    off = np.abs(drawn["0.weight"] / own - 1)
    assert 0.03 < off.mean() < 0.2
    assert 0.001 < np.abs(drawn["2.weight"]).mean() < 0.03  # or what is before it would have no gradient
    assert not np.array_equal(
        drawn["0.weight"], gk.ModuleProblem(model, CROSS_ENTROPY).draw_theta(1, seed=4)["0.weight"]
    )


@pytest.mark.parametrize("way", ["torch.hooks", "torch.vmap"])
def test_threads_take_turns_at_one_model(problem, data, way):
    x, y = data
    thetas = [{name: scale * one.detach() for name, one in problem.parameters().items()} for scale in (1.0, 2.0)]
    want = [gk.per_sample(problem, theta, x, y, kernel=way) for theta in thetas]

    def wrong(at):
        rows = [gk.per_sample(problem, thetas[at], x, y, kernel=way) for _ in range(50)]
        return sum(not all(torch.equal(row[name], want[at][name]) for name in row) for row in rows)

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(wrong, (0, 1, 0, 1))) == [0, 0, 0, 0]


class Sorted(nn.Linear):
    """Puts its samples in order, and back."""

    def forward(self, x):
        order = x[:, 0].argsort()
        return super().forward(x[order])[order.argsort()]


@pytest.mark.parametrize("first", [[0], [0, 1], [1, 0], [0, 1, 2, 3], [3, 2, 1, 0]])
def test_a_kernel_that_relies_on_the_order_of_samples_does_not_pass_on_sorted_ones(first):
    problem = gk.ModuleProblem(Sorted(4, 3), CROSS_ENTROPY)
    x, y = torch.arange(16.0).reshape(4, 4).sin().cumsum(0), torch.tensor([0, 1, 2, 1])
    x[:, 0] = torch.arange(4.0)
    gk.per_sample(problem, None, x[first], y[first])
    mixed = [2, 0, 3, 1]
    rows, want = gk.per_sample(problem, None, x[mixed], y[mixed]), oracle(problem.model, CROSS_ENTROPY, x, y)
    for name, row in rows.items():
        torch.testing.assert_close(row.double(), want[name][mixed])
