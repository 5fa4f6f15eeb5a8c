"""Named set-ups of `gk.audit_tool`: each installed library's rows are right on a small model, which stays as it was."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from real.stand_in import with_torchvision
from torch import nn

import gradkernels as gk
from gradkernels.tool_audit.audit_trial import Outcome
from gradkernels.tool_audit.tools.set_ups import SET_UPS

TORCHVISION = with_torchvision()  # which laplace-torch imports
OF_MODELS = [name for name, one in SET_UPS.items() if not one.of_functions]


@pytest.fixture(scope="module", params=["mean", "sum"])
def problem(request):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 3))
    return gk.ModuleProblem(model.eval(), nn.CrossEntropyLoss(reduction=request.param), reduction=request.param)


@pytest.fixture(scope="module")
def data():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 2, 1, 1, 0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of what laplace-torch imports
@pytest.mark.parametrize("name", OF_MODELS)
def test_a_library_is_audited_by_its_name(problem, data, name):
    pytest.importorskip(SET_UPS[name].imported)
    before, modes = copy.deepcopy(problem.model.state_dict()), [one.training for one in problem.model.modules()]
    report = gk.audit_tool(name, problem, data, dtypes=("float64",))
    assert report.ok, str(report)
    assert report.tool == name
    assert report.versions[SET_UPS[name].package]
    assert {trial.name for trial in report.trials if trial.outcome is Outcome.ok} >= {"ties", "one", "float64"}
    assert not any(one._forward_hooks or one._backward_hooks for one in problem.model.modules())
    assert modes == [one.training for one in problem.model.modules()]
    assert all(torch.equal(before[key], one) for key, one in problem.model.state_dict().items())


@pytest.mark.filterwarnings("ignore:optax.global_norm is deprecated")
def test_functions_of_jax_have_set_ups_of_their_own(data):
    pytest.importorskip("jax_privacy")
    from jax import numpy as jnp

    def losses(params, x, y):
        return ((x @ params["a"] - y) ** 2) * params["scale"]

    params = {"a": jnp.arange(2.0), "scale": 2}
    of_jax = gk.FunctionProblem(losses, params)
    x, y = jnp.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]]), jnp.array([1.0, 0.0, 2.0])
    report = gk.audit_tool("jax_privacy", of_jax, (None, x, y), dtypes=())
    assert report.ok, str(report)
    assert {trial.name for trial in report.trials if trial.outcome is Outcome.ok} >= {"ties", "one", "parameters"}
    assert report.versions["jax_privacy"]
    with pytest.raises(ValueError, match="functions of JAX; .* is none: give a FunctionProblem"):
        gk.audit_tool("jax_privacy", gk.ModuleProblem(nn.Linear(4, 3), nn.functional.cross_entropy), data)
    with pytest.raises(ValueError, match="differentiates models; .* is none, give a ModuleProblem"):
        gk.audit_tool("vmap", of_jax, (x, y))


@pytest.mark.parametrize("name", ["opacus", "vmap", "trak"])
def test_inputs_by_name_and_several_of_them_are_passed_on(name):
    pytest.importorskip(SET_UPS[name].imported)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, a, b):
            return self.left(a) * self.right(b)

    problem, y = gk.ModuleProblem(Two(), nn.functional.mse_loss), torch.randn(4, 2)
    a, b = torch.randn(4, 3), torch.randn(4, 2)
    assert gk.audit_tool(name, problem, ({"a": a, "b": b}, y), dtypes=()).ok
    assert gk.audit_tool(name, problem, ((a, b), y), dtypes=()).ok


def test_opacus_has_its_own_layers_in_the_place_of_recurrent_ones():
    pytest.importorskip("opacus")

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent, self.head = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, x):
            return self.head(self.recurrent(x)[0][:, -1])

    problem = gk.ModuleProblem(Recurrent(), nn.functional.cross_entropy)
    report = gk.audit_tool("opacus", problem, (torch.randn(4, 3, 2), torch.tensor([0, 1, 0, 0])), dtypes=())
    assert report.ok, str(report)


def test_a_library_that_is_missing_is_a_sentence(problem, data, monkeypatch):
    monkeypatch.setattr("gradkernels.tool_audit.tools.named_tools.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs trak, which is not installed: pip install traker"):
        gk.audit_tool("trak", problem, data)
    assert "gradkernels.tool_audit.tools.jacobian" not in sys.modules


def test_what_a_set_up_raises_comes_of_its_trials_and_the_next_ones_have_a_new_one(data):
    """Expanded weights take no empty batch, and leave the model's parameters wrapped where they raise."""
    problem = gk.ModuleProblem(nn.Linear(4, 3), nn.functional.cross_entropy)
    report = gk.audit_tool("expanded_weights", problem, data, dtypes=("float64",))
    outcomes = {trial.name: trial.outcome for trial in report.trials}
    assert outcomes["empty"] is Outcome.raised
    assert outcomes["parameters"] is outcomes["float64"] is Outcome.ok


def test_audits_are_rows_of_a_file_and_tables_of_a_page(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench" / "audits"))
    import audit_rows
    import audit_run
    import audit_tables

    file = tmp_path / "audits.csv"
    for model in ("class_weights", "frozen", "frozen"):  # rows of the same audit are replaced, and all are in order
        audit_rows.write(file, audit_run.audits("vmap", model), audit_run.place)
    rows = audit_rows.read(file)
    assert len({(row["model"], row["trial"]) for row in rows}) == len(rows)
    assert rows[0]["model"] == "frozen"
    assert audit_tables.functions(rows).count("\n") == 2
    assert {row["model"] for row in rows} == {"frozen", "class_weights"}
    assert audit_tables.models(rows).splitlines()[2] == "| `frozen` | right |"
    wrong = [row | {"outcome": "wrong", "parameter": "2.bias", "sample": "3", "diagnosis": "n times"} for row in rows]
    (first, _) = audit_tables.wrong(wrong).splitlines()[2:]
    assert first == "| `bench/audits/audit_models.py:frozen` | `vmap` | in batch, `2.bias`, sample 3 | n times |"
    assert audit_tables.models(wrong).splitlines()[2] == "| `frozen` | **wrong** |"
    assert audit_tables.models([row | {"sample": ""} for row in wrong]).splitlines()[2] == "| `frozen` | other form |"
    assert audit_tables.models([row | {"outcome": "raised"} for row in rows]).splitlines()[2] == "| `frozen` | raises |"
