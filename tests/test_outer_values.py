"""What code reads besides attributes of modules: a recording made before it changed is not run after it."""

import functools
import types

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.problems.module.mode_key.outer_values import OuterValues
from gradkernels.problems.module.mode_key.tracker import ModeTracker
from gradkernels.tree import leaves

N = 6
FACTOR = 2.0
TENSOR = torch.ones(3)
SETTINGS = types.SimpleNamespace(factor=2.0, other=1.0)


class Model(nn.Module):
    """Reads from everywhere."""

    factor = 2.0

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.config = nn.Linear(4, 3), types.SimpleNamespace(inner=types.SimpleNamespace(factor=2.0))
        self.function, self.plain = (lambda h: h), torch.ones(3)

    def forward(self, x):
        h = self.function(self.layer(x) * self.plain * self.factor * self.config.inner.factor)
        return h * FACTOR * TENSOR * SETTINGS.factor


def loss_by_factor(output, y):
    return functional.cross_entropy(output, y) * FACTOR


class Scale:
    def __init__(self):
        self.factor = 2.0

    def __call__(self, h):
        return h * self.factor


def change_global(model, patch):
    patch.setitem(globals(), "FACTOR", 0.5)


def change_global_tensor(model, patch):
    patch.setitem(globals(), "TENSOR", torch.linspace(0, 1, 3))


def change_global_object(model, patch):
    patch.setattr(SETTINGS, "factor", 0.5)


def change_class(model, patch):
    patch.setattr(Model, "factor", 0.5)


def change_method(model, patch):
    plain = Model.forward
    patch.setattr(Model, "forward", lambda self, x: plain(self, x * 0.5))


def change_nested_object(model, patch):
    model.config.inner.factor = 0.5


def change_memory(model, patch):
    model.plain.data = torch.linspace(0, 1, 3)


def change_variable(model, patch):
    model.set_factor(0.5)


def change_owner(model, patch):
    model.scale.factor = 0.5


def hook_all_modules(model, patch):
    handle = nn.modules.module.register_module_forward_hook(lambda module, given, output: output * 0.5)
    patch.setitem(globals(), "_handle", handle)


def made(change):
    model = Model()
    factor = 2.0
    scale = Scale()

    def scaled(h):
        return h * factor

    def set_factor(value):
        nonlocal factor
        factor = value

    if change is change_variable:
        model.function, model.set_factor = scaled, set_factor
    if change is change_owner:
        model.function, model.scale = functools.partial(scale.__call__), scale
    return gk.ModuleProblem(model, loss_by_factor)


CHANGES = [
    change_global,
    change_global_tensor,
    change_global_object,
    change_class,
    change_method,
    change_nested_object,
    change_memory,
    change_variable,
    change_owner,
    hook_all_modules,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_outside_of_modules_is_seen(change, monkeypatch):
    problem, x, y = made(change), torch.randn(N, 4), torch.arange(N) % 3
    compute, loop = (gk.kernel(f"{way}.per_sample").build(problem) for way in ("torch.recorded", "torch.loop"))
    before = [compute(problem.parameters(), x, y) for _ in range(2)][1]
    try:
        change(problem.model, monkeypatch)
        got, want = (leaves(f(problem.parameters(), x, y)) for f in (compute, loop))
    finally:
        if "_handle" in globals():
            globals()["_handle"].remove()
    assert not all(map(torch.allclose, leaves(before), got))
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_code_of_installed_packages_is_not_followed():
    assert OuterValues([(vars(Model()), Model)], [loss_by_factor]).description
    assert (
        OuterValues([({}, nn.Linear), ({}, pytest.Item)], [functional.cross_entropy, pytest.approx]).description == ()
    )


def test_what_no_code_mentions_changes_no_key(monkeypatch):
    modes = ModeTracker(Model(), loss_by_factor)
    before = modes.key()
    monkeypatch.setattr(SETTINGS, "other", 3.0)
    monkeypatch.setitem(globals(), "N", 7)
    assert modes.key() is before


def test_a_weight_on_a_schedule_is_another_key_but_needs_no_other_proof(monkeypatch):
    modes = ModeTracker(Model(), loss_by_factor)
    before = modes.key()
    monkeypatch.setitem(globals(), "FACTOR", 0.25)
    assert modes.key() != before
    assert modes.key().watched == before.watched
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert modes.key() == before


def test_functions_that_models_come_to_have_are_followed(monkeypatch):
    model = Model()
    modes = ModeTracker(model)
    modes.key()
    monkeypatch.setitem(globals(), "DEEP", {"factor": [1.0]})
    model.function = lambda h: h * DEEP["factor"][0]  # noqa: F821
    before = modes.key()
    assert modes.key() is before
    globals()["DEEP"]["factor"][0] = 2.0
    assert modes.key() != before


def test_a_flag_with_the_name_of_hooks_is_a_flag():
    model = nn.Linear(3, 2)
    model.keeps_hooks, model.more_hooks = True, ["one"]
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss())
    before = problem.mode_key().watched
    model.keeps_hooks = 1
    assert problem.mode_key().watched != before
