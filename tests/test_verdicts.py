"""Verdicts on kernels for a model: once for each kind of input, with the rows of what is composed, in any order."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.check.modules import verdicts
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.check.modules.verdicts import is_definition, proof_kind, require_proof, require_sample_gradients

LOSS = nn.MSELoss()
VMAP, LOOP = gk.kernel("torch.vmap.per_sample"), gk.kernel("torch.loop.per_sample")
NORMS = gk.kernel("torch.vmap+.norms")


def batch(n=5, model=None, **settings):
    problem = gk.ModuleProblem(nn.Linear(2, 1) if model is None else model, LOSS, **settings)
    return CallerBatch(problem, problem.parameters(), torch.arange(2.0 * n).view(n, 2), torch.zeros(n, 1))


@pytest.fixture
def proofs(monkeypatch):
    """What is proven from here on: key, first inputs, problem and options; nothing is computed."""
    seen = []

    def prove(kernel, compute, sample, **how):
        seen.append((kernel.key, sample.x[:, 0].tolist(), sample.problem, compute, how))

    monkeypatch.setattr(verdicts, "prove_on_samples", prove)
    return seen


def first(key, batch, *given, kind="kind", **how):
    """Whether a kernel is proven now."""
    kernel = gk.kernel(key) if isinstance(key, str) else key
    return require_proof(kernel, kind, batch, kernel.build(batch.problem), *given, **how)


# --- which kernels are proven, and when


def test_a_kernel_is_proven_once_for_each_kind_of_each_model(proofs):
    one = batch()
    assert [first("torch.vmap.per_sample", one) for _ in range(3)] == [True, False, False]
    assert first("torch.vmap.per_sample", one, kind="other")
    assert first("torch.vmap.per_sample", batch())
    again = gk.ModuleProblem(one.problem.model, LOSS)
    assert not first("torch.vmap.per_sample", replace(one, problem=again))
    assert [key for key, *_ in proofs] == ["torch.vmap.per_sample"] * 3
    # Samples 1, 0, 2, 3, 4, whose inputs begin with twice their numbers.
    assert proofs[0][1] == [2.0, 0.0, 4.0, 6.0, 8.0]
    assert proofs[0][-1] == {"tight": False}


def test_what_is_composed_is_proven_by_its_rows_for_all_quantities_and_of_any_chunk(proofs):
    one = batch()
    assert first("torch.vmap+[chunk=2].norms", one, tight=True)
    assert not any(first(f"torch.vmap+.{name}", one) for name in ("norms", "gradient", "moments", "clipped_sum"))
    assert not first("torch.vmap.per_sample", one)
    assert not first("torch.vmap[chunk=3].per_sample", one)
    ((key, _, problem, compute, how),) = proofs
    assert (key, problem, how) == ("torch.vmap.per_sample", one.problem, {"tight": True})
    assert list(compute(one.theta, one.x, one.y)) == ["weight", "bias"], "rows, not norms"
    assert first("torch.hooks.norms", one)
    assert first("torch.hooks.per_sample", one)
    assert [key for key, *_ in proofs[1:]] == ["torch.hooks.norms", "torch.hooks.per_sample"]


def test_a_kernel_that_is_not_registered_is_proven_itself(proofs):
    one = batch()
    for own in (replace(NORMS, name="own+"), replace(NORMS, builder=lambda problem: None)):
        assert first(own, one)
        assert proofs[-1][0] == own.key
        assert proofs[-1][0].endswith(".norms")
    assert len(proofs) == 2


def test_the_definition_and_no_samples_are_not_proven(proofs):
    assert not first("torch.loop.per_sample", batch())
    assert not first("torch.loop+.norms", batch())
    assert not first("torch.vmap.per_sample", batch(0))
    assert proofs == []
    assert [is_definition(gk.kernel(f"torch.{way}.{name}")) for way, name in (
        ("loop", "per_sample"), ("loop+", "norms"), ("loop+", "gradient"), ("vmap", "per_sample"), ("vmap+", "norms"),
    )] == [True, True, True, False, False]  # fmt: skip
    assert not is_definition(gk.kernel("numpy.loop.per_sample"))
    assert not is_definition(replace(LOOP, builder=lambda problem: None))


def test_a_verdict_is_repeated_and_may_be_given_by_others(proofs, monkeypatch):
    one, faults = batch(), iter([gk.Disagreement("it is off"), RuntimeError("no memory")])

    def fail(*given, **how):
        raise next(faults)

    with monkeypatch.context() as patch:
        patch.setattr(verdicts, "prove_on_samples", fail)
        for kernel in (NORMS, NORMS, VMAP):
            with pytest.raises(gk.Disagreement, match="^it is off$"):
                first(kernel, one)
        with pytest.raises(RuntimeError, match="no memory"):
            first("torch.hooks.norms", one)
    assert first("torch.hooks.norms", one), "what raises something else may do another time"
    verdicts.set_aside(gk.kernel("torch.hooks.norms"), "kind", one.problem, "it was off later")
    verdicts.set_aside(NORMS, "third", one.problem, "its rows are off")
    with pytest.raises(gk.Disagreement, match="^it was off later$"):
        first("torch.hooks.norms", one)
    with pytest.raises(gk.Disagreement, match="^its rows are off$"):
        first(VMAP, one, kind="third")
    assert first("torch.hooks.norms", one, kind="other")


def test_verdicts_are_kept_with_the_model_up_to_a_number_of_them(monkeypatch):
    one = batch()
    verdicts.verdicts(one.problem)["a"] = verdicts.verdicts(one.problem)["b"] = ""
    assert verdicts.verdicts(gk.ModuleProblem(one.problem.model, LOSS)) == {"a": "", "b": ""}
    monkeypatch.setattr(verdicts, "MOST_VERDICTS", 2)
    assert len(verdicts.verdicts(one.problem)) == 2
    monkeypatch.setattr(verdicts, "MOST_VERDICTS", 1)
    assert verdicts.verdicts(one.problem) == {}
    assert verdicts.verdicts(batch().problem) == {}


# --- of what kind a batch is


def test_a_kind_is_of_model_loss_and_data_whatever_the_sizes():
    one, model = batch(), nn.Linear(2, 1)

    def kind(n=5, theta=None, change=None, **settings):
        loss = settings.pop("loss", LOSS)
        problem = gk.ModuleProblem(model, loss, **settings)
        given = {"theta": problem.parameters() if theta is None else theta, "x": one.x[:n], "y": one.y[:n]}
        return proof_kind(problem, problem.mode_key(), *{**given, **(change or {})}.values())

    same = kind()
    assert same == kind(2) == kind() == kind(change={"x": torch.zeros(5, 7)}) == kind(loss=nn.MSELoss())
    own = gk.ModuleProblem(model, LOSS).parameters()
    others = [
        kind(1), kind(loss=nn.L1Loss()), kind(loss=lambda output, y: output.mean()),
        kind(loss=lambda output, y: output.square().mean()), kind(reduction="sum", loss=nn.MSELoss(reduction="sum")),
        kind(randomness="same"), kind(randomness="different"), kind(seed=1),
        kind(change={"x": one.x.double()}), kind(change={"x": one.x[..., None]}), kind(change={"x": (one.x,)}),
        kind(change={"y": one.y.long()}), kind(change={"y": one.y[:, 0]}), kind(change={"x": one.x.to("meta")}),
        kind(theta={name: part.double() for name, part in own.items()}),
        kind(theta={**own, "bias": own["bias"].double()}),
        kind(theta={name: part.to("meta") for name, part in own.items()}),
        kind(theta={"weight": own["weight"]}),
    ]  # fmt: skip
    assert len({same, *others}) == 1 + len(others)
    model.eval()
    assert kind() != same


# --- in an order


class Rising(nn.Module):
    """Takes its samples in rising order alone, or as `asks` says."""

    def __init__(self, asks=True):
        super().__init__()
        self.linear, self.asks = nn.Linear(2, 1), asks

    def forward(self, x):
        if self.asks and (x[1:, 0] < x[:-1, 0]).any():
            raise RuntimeError("the order must rise")
        return self.linear(x)


def test_a_model_that_asks_for_an_order_is_proven_in_the_order_of_the_batch(monkeypatch):
    seen = []

    def prove(kernel, compute, sample, **how):
        seen.append((kernel.key, sample.x[:, 0].tolist(), how))
        assert callable(compute)
        if sample.x[0, 0] > 0:
            raise RuntimeError("the order must rise")

    monkeypatch.setattr(verdicts, "prove_on_samples", prove)
    for kernel in (NORMS, VMAP):
        seen.clear()
        assert first(kernel, batch(4, Rising()), tight=True)
        assert seen == [
            ("torch.vmap.per_sample", [2.0, 0.0, 4.0, 6.0], {"tight": True}),
            ("torch.vmap.per_sample", [0.0, 2.0, 4.0, 6.0], {"tight": True, "backwards": False}),
        ]


@pytest.mark.parametrize("asks", [True, False])
def test_what_it_raises_is_raised_where_the_model_asks_for_no_order_or_it_disagrees(monkeypatch, asks):
    seen = []

    def prove(kernel, compute, sample, **how):
        seen.append(how)
        raise gk.Disagreement("it is off") if asks else RuntimeError("the kernel's own")

    monkeypatch.setattr(verdicts, "prove_on_samples", prove)
    with pytest.raises(gk.Disagreement if asks else RuntimeError, match="it is off" if asks else "the kernel's own"):
        first(NORMS, batch(4, Rising(asks)))
    assert seen == [{"tight": False}]


def test_whether_a_model_asks_for_an_order_is_told_with_the_parameters_of_the_batch():
    one = batch(4, Rising())
    assert verdicts._asks_for_order(one, [0, 1, 2])
    assert not verdicts._asks_for_order(one, [2, 1, 0])
    wider = replace(one, x=torch.arange(12.0).view(4, 3))
    assert not verdicts._asks_for_order(wider, [0, 1, 2]), "it runs in no order"
    assert verdicts._asks_for_order(replace(wider, theta={**one.theta, "linear.weight": torch.ones(1, 3)}), [0, 1, 2])


# --- with random numbers


def test_what_draws_for_each_sample_is_proven_with_one_draw_for_all_by_a_kernel_built_for_it(proofs):
    one = batch(randomness="different")
    built = VMAP.build(one.problem)
    assert require_proof(VMAP, "kind", one, built)
    assert require_proof(NORMS, "second", one, NORMS.build(one.problem))
    for _, _, problem, compute, _ in proofs:
        assert problem == replace(one.problem, randomness="same")
        assert compute is not built
    fixed = batch(randomness="same")
    built = VMAP.build(fixed.problem)
    require_proof(VMAP, "kind", fixed, built)
    assert proofs[-1][2:4] == (fixed.problem, built)


def test_torchs_random_numbers_go_on_as_if_nothing_had_been_proven(monkeypatch):
    monkeypatch.setattr(verdicts, "prove_on_samples", lambda *given, **how: torch.rand(3))
    one, before = batch(), torch.get_rng_state()
    assert first(VMAP, one)
    assert torch.equal(torch.get_rng_state(), before)


# --- gradients of single samples


def looked_at(monkeypatch, one, times=1, kind="kind"):
    seen = []
    monkeypatch.setattr(verdicts, "require_independent_samples", lambda *given: seen.append(given))
    for _ in range(times):
        require_sample_gradients(kind, one)
    return seen


def test_each_kind_is_looked_at_once_on_three_samples_in_their_order(monkeypatch):
    one = batch()
    ((problem, theta, x, y),) = looked_at(monkeypatch, one, 3)
    assert (problem, theta) == (one.problem, one.theta)
    assert (x[:, 0].tolist(), len(y)) == ([0.0, 2.0, 4.0], 3)
    assert looked_at(monkeypatch, one) == []
    assert len(looked_at(monkeypatch, one, kind="other")) == 1
    assert looked_at(monkeypatch, batch(0)) == []


@pytest.mark.parametrize(("most", "samples"), [(8 * 12, 3), (8 * 12 - 1, 2)])
def test_of_large_models_two_samples_are_looked_at(monkeypatch, most, samples):
    monkeypatch.setattr(verdicts, "MOST_ROW_BYTES", most)  # eight rows of 3 float32
    ((_, _, x, _),) = looked_at(monkeypatch, batch())
    assert len(x) == samples


def test_what_is_refused_is_refused_again(monkeypatch):
    def refuse(*given):
        raise ValueError("they mix")

    monkeypatch.setattr(verdicts, "require_independent_samples", refuse)
    one = batch()
    for _ in range(2):
        with pytest.raises(ValueError, match="they mix"):
            require_sample_gradients("kind", one)
