"""The key of a model's state: another one after every change that computing depends on, the same one after none."""

import gc
import pickle
import weakref
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import gradkernels as gk
from gradkernels.check.modules import verdicts
from gradkernels.problems.module.mode_key.counters import COUNTS, loss_key
from gradkernels.problems.module.mode_key.tracker import ModeTracker


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 5), nn.Dropout(0.1), nn.Linear(5, 3)
        self.tau, self.flag, self.act, self.sizes = 1.0, False, torch.tanh, [1, 2]
        self.constant = torch.ones(3)
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x):
        return self.last(self.drop(self.act(self.first(x)))) / self.tau


class Settings:
    def __init__(self):
        self.eps = 1e-5


def weight_norm(m):
    parametrizations.weight_norm(m.first)


CHANGES = {
    "mode": lambda m: m.eval(),
    "mode of one layer": lambda m: m.drop.eval(),
    "layer": lambda m: setattr(m, "last", nn.Linear(5, 3)),
    "layer added": lambda m: m.add_module("more", nn.Linear(1, 1)),
    "layer removed": lambda m: delattr(m, "drop"),
    "parameter": lambda m: setattr(m.last, "weight", nn.Parameter(torch.ones(3, 5))),
    "parameter removed": lambda m: setattr(m.last, "bias", None),
    "tie": lambda m: setattr(m.last, "bias", nn.Parameter(m.last.bias.data)),
    "frozen": lambda m: m.first.weight.requires_grad_(False),
    "dtype": lambda m: m.double(),
    "buffer": lambda m: setattr(m, "scale", torch.ones(3, dtype=torch.float64)),
    "buffer removed": lambda m: setattr(m, "scale", None),
    "hook": lambda m: m.first.register_forward_hook(lambda *_: None),
    "hook before": lambda m: m.register_forward_pre_hook(lambda *_: None),
    "hook of a parameter": lambda m: m.first.weight.register_hook(lambda g: 0 * g),
    "parametrization": weight_norm,
    "number": lambda m: setattr(m, "tau", 0.1),
    "flag": lambda m: setattr(m, "flag", True),
    "activation": lambda m: setattr(m, "act", torch.sigmoid),
    "a list's entry": lambda m: m.sizes.__setitem__(0, 7),
    "probability": lambda m: setattr(m.drop, "p", 0.2),
    "new attribute": lambda m: setattr(m, "other", 1),
    "own forward": lambda m: setattr(m.first, "forward", lambda x: x),
    "constant": lambda m: setattr(m, "constant", torch.zeros(3)),
    "constant in place": lambda m: m.constant.zero_(),
    "settings": lambda m: setattr(m.settings, "eps", 1e-3),
}


@pytest.fixture
def model():
    made = Model()
    made.settings = Settings()
    return made


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_computing_depends_on_is_another_key(model, name):
    modes = ModeTracker(model)
    before = modes.key()
    assert modes.key() is before
    CHANGES[name](model)
    after = modes.key()
    assert after != before
    assert modes.key() is after


class Scaled(nn.Module):
    """A map that no submodule of a model is, times a number."""

    def __init__(self):
        super().__init__()
        self.linear, self.factor = nn.Linear(3, 3), 2.0

    def forward(self, x):
        return self.linear(x) * self.factor


class Holder:
    """A helper that is no module."""

    def __init__(self, **parts):
        vars(self).update(parts)


HIDDEN = {
    "list": lambda one: [one],
    "tuple": lambda one: (1, one),
    "dict": lambda one: {"a": one},
    "nested": lambda one: {"a": [(one,)]},
    "seventieth": lambda one: [*range(69), one],
    "helper": lambda one: Holder(part=one),
    "list in a helper": lambda one: Holder(parts=[one]),
    "helpers in a list": lambda one: [Holder(part=one)],
    "list of a hidden module": lambda one: [Holder(part=[Hiding(one)])],
}
HIDDEN_CHANGES = {
    "number": lambda one: setattr(one, "factor", 0.5),
    "mode": lambda one: one.eval(),
    "number of a submodule": lambda one: setattr(one.linear, "factor", 0.5),
    "frozen": lambda one: one.linear.weight.requires_grad_(False),
    "parameter": lambda one: setattr(one.linear, "bias", nn.Parameter(torch.ones(3))),
    "hook": lambda one: one.linear.register_forward_hook(lambda *_: None),
}


class Hiding(nn.Module):
    """Keeps modules where torch does not look."""

    def __init__(self, hidden):
        super().__init__()
        self.hidden = [hidden]


@pytest.mark.parametrize("change", HIDDEN_CHANGES)
@pytest.mark.parametrize("where", HIDDEN)
def test_modules_that_are_no_submodules_are_seen_wherever_they_are_kept(model, where, change):
    one = Scaled()
    model.parts = HIDDEN[where](one)
    modes = ModeTracker(model)
    before = modes.key()
    assert modes.key() is before
    HIDDEN_CHANGES[change](one)
    assert modes.key() != before


def test_a_helper_in_a_list_is_seen(model):
    model.helpers = [Settings(), Settings()]
    modes = ModeTracker(model)
    before = modes.key()
    model.helpers[1].eps = 1e-3
    assert modes.key() != before


@pytest.mark.parametrize("where", [name for name in HIDDEN if name != "seventieth"])
def test_what_comes_to_be_held_later_is_seen_from_then_on(model, where):
    model.parts = HIDDEN[where](Scaled())
    modes = ModeTracker(model)
    modes.key()
    other = Scaled()
    model.parts = HIDDEN[where](other)
    before = modes.key()
    other.factor = 0.5
    assert modes.key() != before


def test_a_module_that_replaces_another_in_its_list_is_seen_from_then_on(model):
    model.parts, other = [Scaled()], Scaled()
    modes = ModeTracker(model)
    before = modes.key()
    model.parts[0] = other
    assert (between := modes.key()) != before
    other.factor = 0.5
    assert modes.key() not in (before, between)


def test_who_holds_each_other_is_listed_once(model):
    one = Scaled()
    one.owner, model.parts = [model], [one, Holder(owner=model, parts=[one])]
    modes = ModeTracker(model)
    before = modes.key()
    assert modes.key() is before
    one.factor = 0.5
    assert modes.key() != before


def test_what_is_taken_back_is_the_same_again(model):
    modes = ModeTracker(model)
    before = modes.key()
    model.eval()
    model.tau = 0.5
    assert modes.key() != before
    model.train()
    model.tau = 1.0
    assert modes.key() == before
    assert hash(modes.key()) == hash(before)


def test_a_hook_that_is_taken_away_and_another_one_later_are_seen(model):
    modes = ModeTracker(model)
    seen = [modes.key()]
    handle = model.first.register_forward_hook(lambda *_: None)
    seen.append(modes.key())
    handle.remove()
    assert modes.key() == seen[0]
    model.last.register_forward_hook(lambda *_: 1)
    assert modes.key() not in seen


def test_a_hook_of_a_parameter_that_is_taken_off_counts_no_longer(model):
    modes = ModeTracker(model)
    before = modes.key()
    handles = [one.register_hook(lambda g: 0 * g) for one in (model.last.bias, model.first.bias)]
    both = modes.key()
    handles[0].remove()
    assert len({before, both, modes.key()}) == 3
    handles[1].remove()
    assert modes.key() == before
    model.last.bias.register_post_accumulate_grad_hook(lambda p: None)  # which is of .grad
    assert modes.key() == before


def test_values_of_tensors_are_no_part_of_it(model):
    modes = ModeTracker(model)
    before = modes.key()
    model.scale = torch.zeros(3)  # buffers are arguments of what is recorded
    assert modes.key() is before
    with torch.no_grad():
        for one in (*model.parameters(), *model.buffers()):
            one.add_(1)
    model.first.weight.grad = torch.ones(5, 4)
    assert modes.key() is before


def test_models_of_one_structure_are_of_one_kind_but_not_the_same():
    one, other = ModeTracker(Model()).key(), ModeTracker(Model()).key()
    assert one.kind == other.kind
    assert one != other
    tied = Model()
    tied.first, tied.last = nn.Linear(5, 5), nn.Linear(5, 5)
    apart = ModeTracker(tied).key()
    tied.last.weight = tied.first.weight
    assert ModeTracker(tied).key().kind != apart.kind


def test_a_replaced_parameter_is_of_the_same_kind(model):
    modes = ModeTracker(model)
    before = modes.key()
    model.last.bias = nn.Parameter(torch.ones(3))
    assert modes.key().kind == before.kind
    assert modes.key().watched != before.watched


def test_a_counter_is_in_the_end_no_part_of_the_kind(model):
    modes, stamps = ModeTracker(model), []
    for i in range(COUNTS + 4):
        model.tau = float(i + 2)
        stamps.append(modes.key())
    assert stamps[0].kind != stamps[1].kind
    assert stamps[-1].kind == stamps[-2].kind
    assert stamps[-1] != stamps[-2]


class Plain(nn.Module):
    """Without tensors besides parameters, so that it is not described anew at each call."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)
        self.sizes, self.settings, self.names = [1, [2, 3]], {"flag": True, "deep": {"tau": 1.0}}, {"a"}
        self.pair, self.empty, self.label, self.log = (1, [2]), [], "", []

    def forward(self, x):
        return self.last(x)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.sizes.__setitem__(0, 7),
        lambda m: m.sizes[1].append(4),
        lambda m: m.settings.__setitem__("flag", False),
        lambda m: m.settings["deep"].__setitem__("tau", 2.0),
        lambda m: m.settings.__setitem__("new", 1),
        lambda m: m.names.add("b"),
        lambda m: m.pair[1].clear(),
        lambda m: m.empty.append(0),
    ],
)
def test_a_change_within_a_container_is_another_key(change):
    model = Plain()
    modes = ModeTracker(model)
    before = modes.key()
    assert modes.key() is before
    change(model)
    after = modes.key()
    assert after.kind != before.kind
    assert modes.key() is after


def hooked(m, i):
    for handle in m.log:
        handle.remove()
    m.log[:] = [m.last.register_forward_hook(lambda *_: None)]


COUNTERS = {
    "a list's number": lambda m, i: m.sizes.__setitem__(0, float(i)),
    "a new list": lambda m, i: setattr(m, "sizes", [float(i)]),
    "a list that grows": lambda m, i: m.empty.append(float(i)),
    "a dict of figures": lambda m, i: setattr(m, "settings", {"flag": True, "deep": {"tau": float(i)}}),
    "ever other names": lambda m, i: setattr(m, "settings", {f"step {i}": True}),
    "a text": lambda m, i: setattr(m, "label", f"step {i}"),
    "a set": lambda m, i: setattr(m, "names", {i}),
    "a hook that comes and goes": hooked,
}


@pytest.mark.parametrize("name", COUNTERS)
def test_what_is_another_at_each_step_is_in_the_end_no_part_of_the_kind(name):
    model = Plain()
    modes, stamps = ModeTracker(model), []
    for i in range(COUNTS + 4):
        COUNTERS[name](model, i)
        stamps.append(modes.key())
    assert stamps[-1].kind == stamps[-2].kind
    assert stamps[-1] != stamps[-2]
    model.eval()
    assert modes.key().kind != stamps[-1].kind


def test_what_lies_beside_a_counter_stays_a_part_of_the_kind():
    model = Plain()
    modes = ModeTracker(model)
    for i in range(COUNTS + 4):
        model.settings["deep"]["tau"] = float(i)
        before = modes.key()
    model.settings["flag"] = False
    assert modes.key().kind != before.kind


def test_what_goes_back_and_forth_stays_a_part_of_the_kind():
    model = Plain()
    modes = ModeTracker(model)
    for i in range(4 * COUNTS):
        model.label = ("train", "test")[i % 2]
        before = modes.key()
    model.label = "train"
    assert modes.key().kind != before.kind


def test_functions_are_a_part_of_the_kind_however_many_there_were():
    model = Plain()
    modes = ModeTracker(model)
    for i in range(COUNTS + 4):
        model.label = eval(f"lambda x: x + {i}")
        before = modes.key()
    model.label = eval("lambda x: x - 1")
    assert modes.key().kind != before.kind

    def around(inner):
        return lambda output, y: inner(output, y)

    assert len({loss_key(around(eval(f"lambda output, y: {i}"))) for i in range(COUNTS + 4)}) == COUNTS + 4


@pytest.mark.parametrize("name", [*COUNTERS, "a loss with a default", "a loss with a number around it"])
def test_steps_that_change_no_more_than_a_counter_prove_nothing_in_the_end(name, monkeypatch):
    def loss_with(w):
        return lambda output, y: nn.functional.cross_entropy(output, y) * (1 + 0 * w)

    losses = {
        "a loss with a default": lambda i: lambda output, y, w=float(i): nn.functional.cross_entropy(output, y) * w,
        "a loss with a number around it": lambda i: loss_with(float(i)),
    }
    torch.manual_seed(0)
    model, x, y, looks = Plain(), torch.randn(5, 4), torch.arange(5) % 3, []
    looked = verdicts.require_independent_samples
    monkeypatch.setattr(verdicts, "require_independent_samples", lambda *some: looks.append(1) or looked(*some))
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss())
    for i in range(1, COUNTS + 8):
        COUNTERS.get(name, lambda m, i: None)(model, i)
        if name in losses:
            problem = gk.ModuleProblem(model, losses[name](i))
        gk.norms(problem, None, x, y)
        if i == COUNTS + 3:
            before = len(looks)
    assert len(looks) == before


def test_of_a_list_that_grows_without_end_little_is_kept():
    model = Plain()
    modes = ModeTracker(model)
    model.log += [torch.ones(1) for _ in range(200)]
    modes.key()
    kept = [weakref.ref(one) for one in model.log]
    model.log.clear()
    assert not any(one() is not None for one in kept)


def test_the_settings_of_a_loss_count():
    loss = nn.CrossEntropyLoss()
    problem = gk.ModuleProblem(Model(), loss)
    before = problem.mode_key()
    loss.label_smoothing = 0.1
    assert problem.mode_key() != before


def test_autocast_around_the_call_counts(model):
    modes = ModeTracker(model)
    before = modes.key()
    with torch.autocast("cpu", torch.bfloat16):
        assert modes.key().kind != before.kind
    assert modes.key() == before


def test_nothing_that_the_model_lets_go_is_kept_alive(model):
    modes = ModeTracker(model)
    model.kept = torch.ones(2, requires_grad=True) * 2
    modes.key()
    kept = weakref.ref(model.kept)
    before = modes.key()
    model.kept = torch.ones(2, requires_grad=True) * 3
    assert kept() is None
    assert modes.key() == before  # a result that is kept from call to call is no setting


def test_a_problem_and_its_model_go_together():
    model = Model()
    model.itself = [model]
    problem = gk.ModuleProblem(model, partial(nn.functional.cross_entropy, label_smoothing=0.1))
    problem.mode_key()
    gone = weakref.ref(model)
    del model, problem
    gc.collect()
    assert gone() is None


def test_a_pickled_problem_has_keys_of_its_own():
    problem = gk.ModuleProblem(nn.Linear(2, 2), nn.MSELoss())
    assert problem.mode_key() == problem.mode_key()
    again = pickle.loads(pickle.dumps(problem))
    assert again.mode_key().kind == problem.mode_key().kind
    assert again.mode_key() != problem.mode_key()


def test_a_compiled_part_is_a_module_like_any_other():
    torch.manual_seed(0)
    part, last = nn.Linear(3, 4), nn.Linear(4, 2)
    model = nn.Sequential(torch.compile(part, backend="eager"), nn.Tanh(), last).double()
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randint(2, (5,))
    loss = nn.CrossEntropyLoss()
    norms = gk.norms(gk.ModuleProblem(model, loss), None, x, y)
    for i, norm in enumerate(norms):
        alone = loss(last(torch.tanh(part(x[i : i + 1]))), y[i : i + 1])
        rows = torch.autograd.grad(alone, [*part.parameters(), *last.parameters()])
        torch.testing.assert_close(norm, torch.cat([one.flatten() for one in rows]).norm())
