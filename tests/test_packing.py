"""A bound kernel goes to another process and gives the same numbers there."""

import copy
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.check.modules import verdicts
from gradkernels.dispatch import dispatcher, pickling
from gradkernels.tree import leaves

REGRESSIONS = (gk.LinearRegression(), gk.HuberRegression(delta=0.5, l2=0.1), gk.SoftmaxRegression(classes=3))


def packed(bound):
    return pickle.loads(pickle.dumps(bound))


@pytest.mark.parametrize("problem", REGRESSIONS, ids=lambda problem: problem.name)
@pytest.mark.parametrize("quantity", ["gradient", "per_sample", "norms", "moments", "clipped_sum"])
def test_a_regressions_kernel_gives_the_same_numbers(problem, quantity):
    inputs = problem.draw(20, seed=0)
    bound = gk.fastest(problem, quantity, like=inputs)
    there = packed(bound)
    assert (there.kernel, there.why, repr(there)) == (bound.kernel, bound.why, repr(bound))
    for one, other in zip(leaves(there(*inputs)), leaves(bound(*inputs)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_kernel_that_was_asked_for_with_settings_comes_back():
    inputs = REGRESSIONS[0].draw(20, seed=0)
    there = packed(gk.fastest(REGRESSIONS[0], "norms", like=inputs, kernel="numpy.blocked[rows=3]"))
    assert there.why == "numpy.blocked[rows=3].norms, because kernel= asked for it"
    assert there.kernel.set_options == (("rows", 3),)
    out = np.empty(20)
    assert there(*inputs, out=out) is out


def test_the_library_of_the_caller_comes_along():
    theta, x, y = (torch.tensor(array) for array in REGRESSIONS[0].draw(20, seed=0))
    there = packed(gk.fastest(REGRESSIONS[0], "norms", like=(theta, x, y), kernel="numpy.blocked"))
    assert isinstance(there(theta, x, y), torch.Tensor)


@pytest.mark.parametrize("quantity", ["per_sample", "norms", "clipped_sum"])
def test_a_modules_kernel_gives_the_same_numbers(quantity):
    torch.manual_seed(0)
    problem = gk.ModuleProblem(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), nn.CrossEntropyLoss())
    x, y = torch.randn(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    bound = gk.fastest(problem, quantity, like=(None, x, y))
    options = {"max_norm": 0.1} if quantity == "clipped_sum" else {}
    expected = bound(None, x, y, **options)
    there = packed(bound)
    assert there.request.case.problem.name == problem.name
    for _ in range(2):
        for one, other in zip(leaves(there(None, x, y, **options)), leaves(expected), strict=True):
            torch.testing.assert_close(one, other)


def test_a_modules_kernel_that_is_not_audited_is_proven_at_its_first_call_and_computes_alone(monkeypatch):
    torch.manual_seed(0)
    problem = gk.ModuleProblem(nn.Linear(3, 2), nn.CrossEntropyLoss())
    x, y = torch.randn(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    bound = gk.fastest(problem, "clipped_sum", like=(None, x, y), audit=False)
    there = packed(bound)
    assert (there.kernel, there.why, repr(there)) == (bound.kernel, bound.why, repr(bound))
    proven, really = [], verdicts.prove_on_samples
    monkeypatch.setattr(verdicts, "prove_on_samples", lambda *given, **how: proven.append(1) or really(*given, **how))
    monkeypatch.setattr(dispatcher, "audit_call", lambda *given: pytest.fail("it is audited"))
    for max_norm in (0.1, 0.2):
        for one, other in zip(
            leaves(there(None, x, y, max_norm=max_norm)), leaves(bound(None, x, y, max_norm)), strict=True
        ):
            torch.testing.assert_close(one, other)
    assert proven == [1]


def test_it_is_proven_with_the_parameters_of_that_call_and_takes_options_by_place(monkeypatch):
    problem = gk.ModuleProblem(nn.Linear(3, 2), nn.CrossEntropyLoss())
    x, y = torch.randn(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    bound = gk.fastest(problem, "clipped_sum", like=(None, x, y), audit=False, kernel="torch.hooks")
    theta = {name: 2 * one.detach() for name, one in problem.parameters().items()}
    there, want = packed(bound), bound(theta, x, y, max_norm=0.1)
    seen, really = [], dispatcher.ModuleDispatcher.prepare
    monkeypatch.setattr(
        dispatcher.ModuleDispatcher, "prepare", lambda self, *given: seen.append(given) or really(self, *given)
    )
    for name, one in there(theta, x, y, 0.1).items():
        torch.testing.assert_close(one, want[name])
    ((parameters, *data),) = seen
    assert (parameters is theta, [*map(id, data)]) == (True, [id(x), id(y)])


def test_what_comes_back_is_bound_to_the_kernel_that_it_was_and_a_choice_is_made_anew(monkeypatch):
    asked, really = [], pickling.bind
    monkeypatch.setattr(pickling, "bind", lambda request: asked.append(request.criteria.kernel) or really(request))
    bound = gk.fastest(REGRESSIONS[0], "norms", like=REGRESSIONS[0].draw(20, seed=0), kernel="numpy.blocked")
    packed(bound)
    assert asked == [bound.kernel]
    problem = gk.ModuleProblem(nn.Linear(3, 2), nn.CrossEntropyLoss())
    like = (None, torch.randn(6, 3), torch.tensor([0, 1, 1, 0, 1, 0]))
    named, free = (gk.fastest(problem, "norms", like=like, kernel=kernel) for kernel in ("torch.vmap", None))
    assert packed(named).dispatcher.forced == named.kernel == gk.kernel("torch.vmap+.norms")
    assert packed(free).dispatcher.forced is None


def test_a_kernel_goes_by_its_key_where_that_means_the_same():
    known = gk.kernel("numpy.blocked[rows=3].norms")
    assert packed(known) == known
    for own in (replace(known, name="own"), replace(known, builder=len)):
        made, (parts,) = pickling._by_key(own)
        assert (made(parts), parts["backend"], parts["quantity"]) == (own, "numpy", "norms")


def test_what_cannot_be_pickled_says_so_itself():
    problem = gk.ModuleProblem(nn.Linear(3, 1), lambda output, y: (output - y).square().mean())
    x, y = torch.randn(6, 3), torch.randn(6, 1)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(gk.fastest(problem, "norms", like=(None, x, y)))


def test_a_copy_is_bound_to_the_same():
    inputs = REGRESSIONS[0].draw(20, seed=0)
    bound = gk.fastest(REGRESSIONS[0], "norms", like=inputs)
    np.testing.assert_array_equal(copy.deepcopy(bound)(*inputs), bound(*inputs))


LOAD = """
import pickle, sys
import numpy as np
bound = pickle.load(sys.stdin.buffer)
print(bound(np.array([1.0, 2.0]), np.array([1.0, 3.0]), np.array([2.0, 2.0])).tolist())
"""


def test_another_process_needs_nothing_but_the_pickle():
    bound = gk.fastest(REGRESSIONS[0], "per_sample", n=2)
    done = subprocess.run([sys.executable, "-c", LOAD], input=pickle.dumps(bound), capture_output=True, timeout=300)
    assert done.stdout.decode().strip() == "[[2.0, 2.0], [10.0, 30.0]]", done.stderr.decode()
