"""How a kernel is chosen for a module: what fails is set aside, what was measured decides."""

from dataclasses import replace

import pytest
from models import CROSS_ENTROPY, mlp
from module_kernels import breaks, declared, doubled
from torch import nn

import gradkernels as gk
from gradkernels.check.modules import verdicts
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.machine import machine
from gradkernels.quantity import QUANTITIES

OF_LOSSES = [name for name, one in QUANTITIES.items() if not one.of_outputs]


def test_a_kernel_that_fails_or_is_wrong_is_set_aside_with_the_reason(problem, data, only):
    only(declared("breaks", "per_sample", breaks), declared("doubled", "per_sample", doubled),
         gk.kernel("torch.loop.per_sample"))  # fmt: skip
    bound = gk.fastest(problem, "per_sample", like=(None, *data))
    assert bound.kernel.key == "torch.loop.per_sample"
    assert "torch.breaks.per_sample: NotImplementedError: not this model\n" in bound.why
    assert "torch.doubled.per_sample: Disagreement: torch.doubled.per_sample on module:Sequential:" in bound.why


def test_the_reason_is_that_of_the_last_attempt(problem, data, only):
    attempts = []

    def fails(problem):
        attempts.append(len(attempts) + 1)
        raise NotImplementedError(f"attempt {attempts[-1]}")

    only(declared("breaks", "per_sample", fails), gk.kernel("torch.loop.per_sample"))
    bound = gk.fastest(problem, "per_sample", like=(None, *data))
    for last in (1, 2):
        assert attempts[-1] == last
        assert f"torch.breaks.per_sample: NotImplementedError: attempt {last}" in bound.why
        bound(None, *data)


def test_where_all_fail_every_reason_is_given(problem, data, only):
    only(declared("breaks", "per_sample", breaks), declared("doubled", "per_sample", doubled))
    says = "nothing can compute per_sample of module:.* here: .*not this model; .*Disagreement: torch.doubled"
    with pytest.raises(ValueError, match=says):
        gk.fastest(problem, "per_sample", like=(None, *data))


def test_a_kernel_that_is_asked_for_is_not_set_aside(problem, data):
    with pytest.raises(gk.Disagreement, match="off by"):
        gk.per_sample(problem, None, *data, kernel=declared("doubled", "per_sample", doubled))
    with pytest.raises(NotImplementedError, match="not this model"):
        gk.per_sample(problem, None, *data, kernel=declared("breaks", "per_sample", breaks))


def test_the_rule_takes_what_is_ranked_first_and_never_compiles(problem, data):
    first = {quantity: gk.fastest(problem, quantity, like=(None, *data)).kernel for quantity in OF_LOSSES}
    assert first["gradient"].key == "torch.autograd.gradient"
    assert not any(kernel.compiles or kernel.loops for kernel in first.values())
    assert "a rule, as nothing was measured for it: nothing to compile" in gk.fastest(problem, "norms", n=6).why


def test_one_proof_answers_for_all_sizes_but_one_and_for_other_modes_another(problem, data, monkeypatch):
    proofs, really = [], verdicts.prove_on_samples
    monkeypatch.setattr(
        verdicts, "prove_on_samples", lambda *given, **how: proofs.append(len(given[2].y)) or really(*given, **how)
    )
    model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.0), nn.Linear(5, 3))
    problem, (x, y) = gk.ModuleProblem(model, CROSS_ENTROPY), data
    for n in (1, 2, 5):
        gk.per_sample(problem, None, x[:n], y[:n], kernel="torch.vmap")
    assert proofs == [3, 3]
    model.eval()
    gk.per_sample(problem, None, x, y, kernel="torch.vmap")
    gk.norms(problem, None, x, y, kernel="torch.vmap")  # from rows, which are proven
    assert proofs == [3, 3, 5]
    gk.per_sample(problem, None, x.repeat(9, 1), y.repeat(9), kernel="torch.vmap[chunk=3]")
    assert proofs == [3, 3, 5]
    gk.per_sample(gk.ModuleProblem(model, nn.CrossEntropyLoss()), None, x, y, kernel="torch.vmap")
    assert proofs == [3, 3, 5]
    gk.per_sample(problem, None, x.repeat(9, 1), y.repeat(9), kernel="torch.hooks")
    assert proofs == [3, 3, 5, 8]


def test_without_arrays_the_example_is_what_is_proven_on(problem):
    bound = gk.fastest(problem, "per_sample", n=1000)
    assert (bound.request.case.dtype, bound.request.case.features) == ("float32", 4)
    assert bound(None, *problem.example)["2.bias"].shape == (6, 3)
    bare = replace(problem, example=None)
    with pytest.raises(ValueError, match=r"has no data to draw from; make the ModuleProblem with example=\(x, y\)"):
        gk.fastest(bare, "per_sample", n=10)


def measured(problem, **seconds_and_first):
    points = {f"torch.{way}.per_sample": (wisdom.MeasuredPoint(6, seconds, first, None),)
              for way, (seconds, first) in seconds_and_first.items()}  # fmt: skip
    case = Coordinates(problem.name, "per_sample", ALL_SIZES, 4, "float32", "C", "cpu", 1)
    return (wisdom.WisdomEntry(machine(), case, points),)


def test_what_was_measured_for_the_structure_decides_for_every_model_of_it(problem, data):
    wisdom.save(measured(problem, loop=(1.0, 1.0), vmap=(2.0, 1.0)))
    try:
        for model in (problem.model, mlp()):
            bound = gk.fastest(gk.ModuleProblem(model, CROSS_ENTROPY), "per_sample", like=(None, *data))
            assert bound.kernel.key == "torch.loop.per_sample"
            assert "this machine's saved wisdom" in bound.why
        other = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        assert "a rule" in gk.fastest(gk.ModuleProblem(other, CROSS_ENTROPY), "per_sample", like=(None, *data)).why
    finally:
        wisdom.saved_path().unlink()
        wisdom.saved.cache_clear()


def test_few_calls_weigh_the_first(problem, data):
    wisdom.save(measured(problem, loop=(2.0, 1.0), vmap=(1.0, 100.0)))
    try:
        for calls, winner in ((None, "vmap"), (1, "loop"), (50, "loop"), (200, "vmap")):
            bound = gk.fastest(problem, "per_sample", like=(None, *data), calls=calls)
            assert bound.kernel.key == f"torch.{winner}.per_sample"
    finally:
        wisdom.saved_path().unlink()
        wisdom.saved.cache_clear()
