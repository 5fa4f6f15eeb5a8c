"""The size of a chunk is part of a kernel: it is raced, kept as wisdom and chosen."""

import gradkernels as gk
from gradkernels import zoo
from gradkernels.bench.race.plan import candidates_within_budget
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.wisdom import MeasuredPoint, WisdomEntry
from gradkernels.tree import count


def keys(kernels):
    return [kernel.key for kernel in kernels]


def test_variants_have_chunks_smaller_than_the_samples():
    kernel = gk.kernel("torch.compiled_hooks.per_sample")
    assert keys(kernel.variants(16)) == ["torch.compiled_hooks.per_sample"]
    assert keys(kernel.variants(17)) == [
        "torch.compiled_hooks.per_sample",
        "torch.compiled_hooks[chunk=16].per_sample",
    ]
    assert len(kernel.variants(1000)) == 3
    assert keys(gk.kernel("torch.hooks.per_sample").variants(1000)) == ["torch.hooks.per_sample"]


def test_a_race_compiles_what_half_its_budget_pays_for_default_chunks_first():
    among = gk.kernels(zoo.mlp(), "per_sample")
    of = {
        budget: [key for key in keys(candidates_within_budget(among, 1000, budget)) if "compiled" in key]
        for budget in (59, 60, 200, 1000)
    }
    assert of[59] == []
    assert of[60] == ["torch.compiled_hooks.per_sample"]
    assert of[200] == [
        "torch.compiled_hooks.per_sample",
        "torch.compiled.per_sample",
        "torch.compiled_hooks[chunk=16].per_sample",
    ]
    assert len(of[1000]) == 6
    everybody = keys(candidates_within_budget(among, 1000, 30))
    assert {"torch.hooks.per_sample", "torch.vmap.per_sample", "torch.vmap[chunk=64].per_sample"} <= set(everybody)


def test_a_short_race_loads_no_other_package():
    among = gk.kernels(zoo.mlp(), "per_sample")
    of = {budget: {one.backend.name for one in candidates_within_budget(among, 64, budget)} for budget in (29, 30)}
    assert of == {29: {"torch"}, 30: {"torch", "opacus", "backpack"}}


def test_a_chunk_that_was_measured_fastest_is_chosen(monkeypatch, tmp_path):
    problem = zoo.mlp()
    x, y = problem.example
    plain, chunked = "torch.vmap.per_sample", "torch.vmap[chunk=16].per_sample"
    curves = {plain: (MeasuredPoint(64, 2e-3, 0.1, None),), chunked: (MeasuredPoint(64, 1e-3, 0.1, None),)}
    case = Coordinates(problem.name, "per_sample", ALL_SIZES, 64, "float32", "C", "cpu", 1)
    entry = WisdomEntry(machine="x", case=case, curves=curves)
    monkeypatch.setenv(wisdom.ENVIRONMENT, str(tmp_path / "wisdom.json"))
    wisdom.saved.cache_clear()
    wisdom.save((entry,))
    try:
        bound = gk.fastest(problem, "per_sample", like=(None, x, y), threads=1)
        assert bound.kernel.key == chunked
        assert f"{plain}: 2 ms, 2 times the winner's 1 ms" in bound.why
        assert count(bound(None, x, y)) == 64
    finally:
        wisdom.saved.cache_clear()
