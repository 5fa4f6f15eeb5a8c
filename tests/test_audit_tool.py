"""`gk.audit_tool`: what is right passes, and each way to be wrong is named with its parameter and sample."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

import gradkernels as gk
from gradkernels.tool_audit.audit_trial import Outcome

N = 6


@pytest.fixture(scope="module")
def problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    return gk.ModuleProblem(model, nn.functional.cross_entropy)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 4, generator=generator), torch.randint(3, (N,), generator=generator)


def functional(problem):
    """`f(theta, x, y)` by vmap, without anything of this library."""

    def one(theta, x, y):
        return problem.loss_fn(functional_call(problem.model, theta, (x[None],)), y[None])

    def rows(theta, x, y):
        if not len(x):
            return {name: part.new_zeros(0, *part.shape) for name, part in theta.items()}
        return vmap(grad(one), (None, 0, 0))({name: part.detach() for name, part in theta.items()}, x, y)

    return rows


def rows_of(problem):
    rows = functional(problem)
    return lambda x, y: rows(dict(problem.model.named_parameters()), x, y)


def outcomes(report):
    return {trial.name: trial.outcome for trial in report.trials}


def wrong(report):
    assert not report.ok
    return report.first_wrong


FORMS = {
    "dict": lambda rows: rows,
    "list": lambda rows: list(rows.values()),
    "flat": lambda rows: torch.cat([part.flatten(1) for part in rows.values()], 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_right_rows_pass_in_every_form_and_all_that_the_model_takes_was_tried(problem, data, form):
    f = rows_of(problem)
    before = copy.deepcopy(problem.model.state_dict())
    report = gk.audit_tool(lambda x, y: FORMS[form](f(x, y)), problem, data, name="mine")
    assert report.ok, str(report)
    report.require()
    assert report.first_wrong is None
    assert [name for name, outcome in outcomes(report).items() if outcome is not Outcome.ok] == ["lengths"]
    assert outcomes(report).keys() >= {"batch", "again", "reversed", "ties", "fewer", "one", "empty", "after"}
    assert outcomes(report).keys() >= {"parameters", "float64", "float16"}
    assert all(torch.equal(before[name], one) for name, one in problem.model.state_dict().items())


def test_functions_of_parameters_are_tried_at_others(problem, data):
    rows = functional(problem)
    report = gk.audit_tool(rows, problem, (None, *data), dtypes=("float64",))
    assert report.ok, str(report)
    first = {name: part.detach().clone() for name, part in problem.model.named_parameters()}
    stale = gk.audit_tool(lambda theta, x, y: rows(first, x, y), problem, (None, *data), dtypes=())
    assert wrong(stale).name == "parameters"


def test_a_tool_with_a_copy_of_the_model_is_told_from_one_that_is_wrong(problem, data):
    held = rows_of(gk.ModuleProblem(copy.deepcopy(problem.model), problem.loss_fn))
    report = gk.audit_tool(held, problem, data)
    assert report.ok
    assert outcomes(report)["parameters"] is Outcome.skipped
    assert "parameters that it was made with" in str(report)


def scaled(factor):
    return lambda rows: {name: part * factor(len(part)) for name, part in rows.items()}


def only(name, change):
    return lambda rows: {key: change(part) if key == name else part for key, part in rows.items()}


def one_entry(part):
    part = part.clone()
    part[4:5, 1, 2] += 1.0
    return part


DIAGNOSED = {
    "mean": (scaled(lambda n: 1 / max(n, 1)), "0.weight", 0, "the 1/n of a mean loss is left in"),
    "n": (scaled(lambda n: n), "0.weight", 0, "every row is n times its sample's gradient"),
    "negated": (scaled(lambda n: -1), "0.weight", 0, "every row is -1 times"),
    "zero": (only("2.bias", torch.zeros_like), "2.bias", 0, "every row is zero"),
    "reversed": (lambda rows: {k: part.flip(0) for k, part in rows.items()}, "0.weight", 0, f"of sample {N - 1}"),
    "tied": (only("2.weight", lambda part: part / 2), "2.weight", 0, "every row is 0.5 times"),
    "averaged": (
        lambda rows: {k: part.mean(0, keepdim=True).expand_as(part) for k, part in rows.items()},
        "0.weight", 0, "every row is the mean of the samples' gradients",
    ),
    "lengths": (
        lambda rows: {k: torch.einsum("i,i...->i...", 1 + torch.arange(len(part)), part) for k, part in rows.items()},
        "0.weight", 1, "a factor of its own, from 1 to 6",
    ),
    "entry": (only("0.weight", one_entry), "0.weight", 4, "entry (1, 2) of sample 4"),
}  # fmt: skip


@pytest.mark.parametrize("fault", DIAGNOSED)
def test_what_is_wrong_is_named_with_its_first_parameter_and_sample(problem, data, fault):
    change, parameter, sample, says = DIAGNOSED[fault]
    f = rows_of(problem)
    report = gk.audit_tool(lambda x, y: change(f(x, y)), problem, data)
    trial = wrong(report)
    assert (trial.name, trial.parameter, trial.sample) == ("batch", parameter, sample)
    assert says in trial.explained
    assert parameter in report.verdict
    assert f"sample {sample}" in report.verdict
    with pytest.raises(gk.Disagreement, match=parameter):
        report.require()


MISSHAPEN = {
    "dtype": (lambda rows: {k: part.double() for k, part in rows.items()}, "0.weight", "float64, expected float32"),
    "shape": (only("2.weight", lambda part: part.mT), "2.weight", "shape (6, 5, 3), expected (6, 3, 5)"),
    "missing": (lambda rows: {k: rows[k] for k in list(rows)[1:]}, "0.weight", "without '0.weight'"),
    "extra": (lambda rows: rows | {"head": rows["2.bias"]}, None, "'head', which is no parameter"),
    "none": (only("2.bias", lambda part: None), "2.bias", "None, expected an array (6, 3)"),
    "few": (lambda rows: list(rows.values())[:3], None, "3 arrays for 4 parameters"),
    "flat": (lambda rows: torch.zeros(6, 42), None, "array (6, 42), expected (6, 43)"),
    "text": (lambda rows: "rows", None, "returned a str"),
}  # fmt: skip


@pytest.mark.parametrize("fault", MISSHAPEN)
def test_other_forms_are_named(problem, data, fault):
    change, parameter, says = MISSHAPEN[fault]
    f = rows_of(problem)
    trial = wrong(gk.audit_tool(lambda x, y: change(f(x, y)), problem, data))
    assert (trial.name, trial.parameter) == ("batch", parameter)
    assert says in trial.says


def test_what_only_later_calls_show_is_found(problem, data):
    f, kept = rows_of(problem), {}

    def adding(x, y):
        for name, part in f(x, y).items():
            old = kept.get(name)
            kept[name] = part + old if old is not None and len(old) == len(part) else part
        return dict(kept)

    assert wrong(gk.audit_tool(adding, problem, data)).name == "again"
    buffers = {name: part.clone() for name, part in f(*data).items()}

    def reusing(x, y):
        for name, part in f(x, y).items():
            buffers[name][: len(part)] = part
        return {name: part[: len(x)] for name, part in buffers.items()}

    reused = wrong(gk.audit_tool(reusing, problem, data))
    assert (reused.name, reused.says) == ("again", "a later call wrote over the result of the first one")
    first = f(*data)
    assert wrong(gk.audit_tool(lambda x, y: first, problem, data)).name == "reversed"


def test_a_tool_may_change_neither_data_nor_parameters(problem, data):
    f = rows_of(problem)

    def writes(x, y):
        found = f(x, y)
        x.zero_()
        return found

    assert wrong(gk.audit_tool(writes, problem, data)).says == "changed its input x"

    def steps(x, y):
        found = f(x, y)
        with torch.no_grad():
            problem.model[2].bias.add_(1.0)
        return found

    before = problem.model[2].bias.detach().clone()
    assert "the model's parameter ['2.bias']" in wrong(gk.audit_tool(steps, problem, data)).says
    assert not torch.equal(before, problem.model[2].bias)  # it is the tool that has changed it
    with torch.no_grad():
        problem.model[2].bias.copy_(before)


def test_a_tool_that_leaves_eval_mode_or_seeds_anew_is_told_so(problem, data):
    f = rows_of(problem)

    def with_eval(x, y):
        problem.model[0].eval()
        return f(x, y)

    def with_seed(x, y):
        torch.manual_seed(7)
        return f(x, y)

    def with_draw(x, y):
        torch.rand(3)
        return f(x, y)

    try:
        report = gk.audit_tool(with_eval, problem, data)
    finally:
        problem.model.train()
    assert report.ok
    assert report.left == ("it has left 1 module of the model, first 0, in eval mode",)
    assert "afterwards: it has left 1 module" in str(report)
    assert json.loads(report.to_json())["left"] == [*report.left]
    for seed in (6, 7):  # another one, and the very same
        torch.manual_seed(seed)
        torch.rand(3)
        assert "seeded torch's random numbers anew" in gk.audit_tool(with_seed, problem, data).left[0]
    assert gk.audit_tool(with_draw, problem, data).left == gk.audit_tool(f, problem, data).left == ()


def test_exceptions_are_no_wrong_rows_but_the_batch_must_come(problem, data):
    f = rows_of(problem)

    def raising(most):
        def rows(x, y):
            if len(x) <= most:
                raise RuntimeError("no batch of this size\nmore of it")
            return f(x, y)

        return rows

    report = gk.audit_tool(raising(0), problem, data)
    assert report.ok
    assert outcomes(report)["empty"] is Outcome.raised
    assert "empty: RuntimeError: no batch of this size\n" in str(report)
    assert "raised an exception: empty" in report.verdict
    never = gk.audit_tool(raising(N), problem, data)
    assert not never.ok
    assert "no rows of the batch: RuntimeError" in never.verdict


def test_sequences_are_cut_and_their_targets_left_out(data):
    torch.manual_seed(0)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, tokens):
            return self.head(self.words(tokens)).mT

    problem = gk.ModuleProblem(Tagger(), nn.functional.cross_entropy)
    x, y = torch.randint(9, (4, 6)), torch.randint(3, (4, 6))
    report = gk.audit_tool(rows_of(problem), problem, (x, y), dtypes=())
    assert report.ok
    assert {outcomes(report)[name] for name in ("lengths", "ragged")} == {Outcome.ok}

    def of_sum(x, y):
        """As tools have it that take a batch's mean times n: each row by the batch's number of targets."""
        rows, used = rows_of(problem)(x, y), (y != -100).sum(1)
        return {k: torch.einsum("i,i...->i...", used * len(used) / used.sum(), part) for k, part in rows.items()}

    trial = wrong(gk.audit_tool(of_sum, problem, (x, y), dtypes=()))
    assert trial.name == "ragged"
    assert "a batch's mean weighs samples" in trial.diagnosis


def test_hooks_of_tools_are_not_on_the_model_that_rows_are_known_from(problem, data):
    GradSampleModule = pytest.importorskip("opacus").GradSampleModule
    model = copy.deepcopy(problem.model).train()
    wrapped = GradSampleModule(model)

    def hooked(x, y):
        wrapped.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(wrapped(x), y).backward()
        return {name: one.grad_sample for name, one in model.named_parameters()}

    report = gk.audit_tool(hooked, gk.ModuleProblem(model, nn.functional.cross_entropy), data, packages=["opacus"])
    assert report.ok, str(report)
    assert report.versions["opacus"]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_regressions_are_audited_with_arrays_of_either_library(library):
    p = gk.LogisticRegression()
    drawn = p.draw(7, seed=3, features=2)
    arrays = tuple(map(torch.from_numpy, drawn)) if library == "torch" else drawn

    def by_hand(theta, x, y, off=0.0):
        eta = x @ theta[1:] + theta[0]
        slope = 1 / (1 + (np if library == "numpy" else torch).exp(-eta)) - y
        rows = (np.column_stack if library == "numpy" else torch.column_stack)([slope, x * slope[:, None]])
        return rows + off

    report = gk.audit_tool(by_hand, p, arrays)
    assert report.ok, str(report)
    assert outcomes(report)["float32"] is Outcome.ok
    assert wrong(gk.audit_tool(lambda *given: by_hand(*given, off=1e-9), p, arrays)).sample == 0


def test_functions_of_jax_are_audited_and_float64_only_where_it_is_on():
    jax = pytest.importorskip("jax")

    def losses(params, x, y):
        return (x @ params["w"] + params["b"] - y) ** 2

    def rows(params, x, y):
        one = jax.grad(lambda params, x, y: losses(params, x[None], y[None])[0])
        return jax.vmap(one, (None, 0, 0))(params, x, y)

    params = {"b": jax.numpy.float32(0.5), "w": jax.numpy.ones(3, "float32")}
    nested = {"layers": [params], "name": "regression"}

    def of_nested(params, x, y):
        return losses(params["layers"][0], x, y)

    def nested_rows(params, x, y):
        return {"layers": [rows(params["layers"][0], x, y)], "name": None}

    x, y = np.random.default_rng(0).standard_normal((2, 5, 3), "float32")
    data = jax.numpy.asarray(x), jax.numpy.asarray(y[:, 0])
    problem = gk.FunctionProblem(losses, params)
    with jax.enable_x64(False):
        report = gk.audit_tool(rows, problem, (params, *data))
        assert report.ok, str(report)
        assert outcomes(report)["float64"] is Outcome.skipped
        assert gk.audit_tool(nested_rows, gk.FunctionProblem(of_nested, nested), (nested, *data)).ok
        held = gk.audit_tool(lambda x, y: rows(params, x, y), problem, data)
        assert held.ok
        assert outcomes(held)["parameters"] is Outcome.skipped
        means = gk.audit_tool(lambda *given: scaled(lambda n: 1 / max(n, 1))(rows(*given)), problem, (params, *data))
        assert (wrong(means).parameter, wrong(means).sample) == ("b", 0)
        with pytest.raises(ValueError, match="vmap differentiates models"):
            gk.audit_tool("vmap", problem, data)


def test_a_parameter_that_is_left_out_is_found_however_small_its_gradient(data):
    model = nn.Sequential(nn.Linear(4, 3))
    problem = gk.ModuleProblem(model, lambda out, y: nn.functional.cross_entropy(out, y))
    x = data[0] * 1e5  # beside which the bias's gradient is below the tolerance
    f = rows_of(problem)
    left = gk.audit_tool(lambda x, y: only("0.bias", torch.zeros_like)(f(x, y)), problem, (x, data[1]), dtypes=())
    assert wrong(left).parameter == "0.bias"


def test_a_report_is_text_json_and_a_page(problem, data):
    f = rows_of(problem)
    report = gk.audit_tool(lambda x, y: scaled(lambda n: n)(f(x, y)), problem, data, name="<mine>\x1b[31m")
    told = json.loads(report.to_json())
    assert told["ok"] is False
    assert told["first_wrong"] == {"trial": "batch", "parameter": "0.weight", "sample": 0}
    assert told["trials"][0]["wrong_samples"] == list(range(N))
    page = report.to_html()
    assert "&lt;mine&gt;" in page
    assert "<mine>" not in page
    assert "\x1b" not in page + report.to_json()
    assert report.verdict in " ".join(str(report).split())
    assert max(map(len, str(report).splitlines())) <= 80
    assert page == report._repr_html_()


def test_what_cannot_be_audited_is_refused_in_a_sentence(problem, data):
    f = rows_of(problem)
    with pytest.raises(TypeError, match="f is a Tensor"):
        gk.audit_tool(data[0], problem, data)
    with pytest.raises(ValueError, match="no tool 'opacu'; did you mean opacus"):
        gk.audit_tool("opacu", problem, data)
    with pytest.raises(ValueError, match="vmap differentiates models; linear is none"):
        gk.audit_tool("vmap", gk.LinearRegression(), (np.ones(3), np.ones(3)))
    with pytest.raises(TypeError, match="data must be a tuple"):
        gk.audit_tool(f, problem, data[0])
    with pytest.raises(TypeError, match="no parameters of its own"):
        gk.audit_tool(f, gk.LinearRegression(), (np.ones(3), np.ones(3)))
    with pytest.raises(ValueError, match="no sample in the data"):
        gk.audit_tool(f, problem, (data[0][:0], data[1][:0]))
    normed = gk.ModuleProblem(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), nn.functional.cross_entropy)
    with pytest.raises(ValueError, match="batch|buffer"):
        gk.audit_tool(rows_of(normed), normed, data)
    with pytest.raises(ValueError, match="randomness"):
        gk.audit_tool(f, gk.ModuleProblem(problem.model, problem.loss_fn, randomness="same"), data)
