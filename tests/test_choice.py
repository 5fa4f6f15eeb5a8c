"""Wisdom and the choice that follows from it: order of trust, interpolation, conversion, memory, calls, ties."""

from __future__ import annotations

import os

import numpy as np
import pytest
from measured import record

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.dispatch import bind, bound_kernels, request, select, wisdom
from gradkernels.dispatch.bound_kernels import bound_kernel, forget_choices
from gradkernels.dispatch.request import Criteria
from gradkernels.dispatch.rule import FASTEST_FIRST, by_rule
from gradkernels.dispatch.wisdom import MeasuredPoint, Origin
from gradkernels.record import HEADER, append

P = gk.LinearRegression()
STARTED = "2026-03-01T12:00:00+00:00"
BROADCAST, LOOP, VMAP = "numpy.broadcast.per_sample", "numpy.loop.per_sample", "torch.vmap.per_sample"


@pytest.fixture(autouse=True)
def no_wisdom(tmp_path, monkeypatch):
    """A machine that has measured nothing, and a package that ships nothing."""
    monkeypatch.setenv(wisdom.ENVIRONMENT, str(tmp_path / "wisdom.json"))
    monkeypatch.setattr(wisdom, "shipped", lambda: ())
    wisdom.saved.cache_clear()
    forget_choices()
    yield
    wisdom.saved.cache_clear()
    forget_choices()


def row(kernel, n, seconds, **changes):
    return record(
        kernel=kernel,
        backend=kernel.partition(".")[0],
        quantity="per_sample",
        n=n,
        seconds_median=seconds,
        **{"machine": wisdom_machine(), **changes},
    )


def wisdom_machine():
    from gradkernels.dispatch.machine import machine

    return machine()


def results(path, *rows):
    path.write_text(HEADER)
    append(path, rows)
    return path


def test_times_between_sizes_are_interpolated_in_log_n():
    points = (MeasuredPoint(10, 1e-6, 0.0, None), MeasuredPoint(1000, 1e-4, 0.0, None))
    assert wisdom.seconds_at(points, 100) == pytest.approx(1e-5)
    assert wisdom.seconds_at(points, 10) == 1e-6
    assert wisdom.seconds_at(points, 1) == 1e-6
    assert wisdom.seconds_at(points, 5000) == pytest.approx(5e-4)


def test_only_ok_rows_teach_and_passes_are_pooled_by_their_median():
    rows = [row(BROADCAST, 10, seconds, pass_=i) for i, seconds in enumerate((3.0, 1.0, 2.0), 1)]
    wrong = record(kernel=VMAP, quantity="per_sample", n=10, status="wrong", reason="off")
    (entry,) = wisdom.learn([*rows, wrong, row("control", 10, 1.0)])
    assert entry.curves == {BROADCAST: (MeasuredPoint(10, 2.0, 0.0, None, Origin(STARTED, "", 3)),)}


def test_a_table_survives_being_written_and_read():
    table = wisdom.learn([row(BROADCAST, 10, 1.25e-6, seconds_first=0.5, peak_bytes=160), row(VMAP, 10, 2e-6)])
    assert wisdom.loads(wisdom.dumps(table), "test") == table


def test_the_winner_changes_with_the_size_where_the_curves_cross(tmp_path):
    path = results(
        tmp_path / "r.csv",
        *(row(LOOP, n, n * 1e-7) for n in (10, 1000)),
        *(row(BROADCAST, n, 1e-5) for n in (10, 1000)),
    )
    # The lines cross at n = 100.
    assert gk.fastest(P, "per_sample", n=60, results=path).kernel.key == LOOP
    assert gk.fastest(P, "per_sample", n=160, results=path).kernel.key == BROADCAST


def arrays_of(n):
    theta, x, y = P.draw(n, seed=0)
    return theta, x, y


def called_at(n, **options):
    return bound_kernel("per_sample", P, arrays_of(n), (None, None, options.get("max_bytes"))).kernel.key


def test_a_new_number_of_samples_is_bound_without_a_new_choice_but_far_from_the_others(monkeypatch):
    curves = [(LOOP, n, n * 1e-7) for n in (10, 1000)] + [(BROADCAST, n, 1e-5) for n in (10, 1000)]
    wisdom.save(wisdom.learn([row(*one) for one in curves]))  # the lines cross at n = 100
    choose, chosen = select.choose, []
    monkeypatch.setattr(bind, "choose", lambda request: chosen.append(request.case.n) or choose(request))
    assert {called_at(n) for n in range(40, 90)} == {LOOP}
    assert {called_at(n) for n in range(111, 200)} == {BROADCAST}
    assert 12 <= len(chosen) <= 20
    assert {called_at(n) for n in range(40, 90)} == {LOOP}
    theta, x, y = arrays_of(75)
    assert gk.per_sample(P, theta, x, y).shape == (75, 2)
    assert len(chosen) <= 20


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (lambda y: y[:-1], r"y \(50,\)"),
        (lambda y: y.astype("float32"), "mixed dtype"),
        (lambda y: y[:, None], r"\(51, 1\)"),
        (lambda y: list(y), "list"),
    ],
)
def test_what_is_wrong_at_a_new_number_of_samples_is_refused(y, says):
    theta, x, right = arrays_of(51)
    for n in (49, 50):
        gk.norms(P, *arrays_of(n))
    with pytest.raises((ValueError, TypeError), match=says):
        gk.norms(P, theta, x, y(right))
    assert gk.norms(P, theta, x, right).shape == (51,)


def test_weights_and_columns_first_are_bound_for_any_number_of_samples_too(monkeypatch):
    choose, chosen = select.choose, []
    monkeypatch.setattr(bind, "choose", lambda request: chosen.append(request.case) or choose(request))
    theta = np.arange(3.0)
    for n in range(100, 104):
        x, y = np.asfortranarray(np.ones((n, 2))), np.arange(n) / n
        rows = gk.per_sample(P, theta, x, y, sample_weight=np.full(n, 2.0))
        np.testing.assert_allclose(rows, 2 * gk.per_sample(P, theta, np.ascontiguousarray(x), y))
    assert [(case.layout, case.problem.weighted) for case in chosen] == [("F", True), ("C", False)]


def test_memory_is_held_to_at_every_number_of_samples(monkeypatch):
    wisdom.save(wisdom.learn([row(LOOP, 100, 1e-3, peak_bytes=100), row(BROADCAST, 100, 1e-6, peak_bytes=1000)]))
    assert called_at(100, max_bytes=1000) == BROADCAST
    assert called_at(101, max_bytes=1000) == LOOP
    assert called_at(101) == BROADCAST


def test_the_callers_file_is_trusted_before_saved_wisdom_and_that_before_what_ships(tmp_path, monkeypatch):
    def best(kernel):
        return wisdom.learn([row(kernel, 10, 1e-6), *(row(k, 10, 1e-3) for k in {BROADCAST, LOOP, VMAP} - {kernel})])

    monkeypatch.setattr(wisdom, "shipped", lambda: best(VMAP))
    assert gk.fastest(P, "per_sample", n=10).kernel.key == VMAP
    wisdom.save(best(LOOP))
    assert gk.fastest(P, "per_sample", n=10).kernel.key == LOOP
    path = results(tmp_path / "r.csv", row(BROADCAST, 10, 1e-6), row(LOOP, 10, 2e-6))
    bound = gk.fastest(P, "per_sample", n=10, results=path)
    assert bound.kernel.key == BROADCAST
    assert str(path) in bound.why
    assert "numpy.loop.per_sample: 2 µs, 2 times the winner's 1 µs" in bound.why


def test_no_file_takes_the_place_of_a_device(tmp_path, monkeypatch):
    os.symlink("/dev/null", tmp_path / "null")
    monkeypatch.setenv("GRADKERNELS_WISDOM", str(tmp_path / "null"))
    wisdom.saved.cache_clear()
    assert wisdom.saved() == ()
    with pytest.raises(ValueError, match="null is no regular file; have GRADKERNELS_WISDOM name another"):
        wisdom.save(wisdom.learn([row(LOOP, 10, 2.0)]))
    assert (tmp_path / "null").is_char_device()


def test_converting_the_arrays_is_part_of_another_librarys_cost(tmp_path):
    rows = [row(BROADCAST, 10, 1.0), row(VMAP, 10, 0.9), row("convert.torch", 10, 0.2)]
    path = results(tmp_path / "r.csv", *rows)
    theta, x, y = P.draw(10, 0)
    assert gk.fastest(P, "per_sample", like=(theta, x, y), results=path).kernel.key == BROADCAST
    import torch

    tensors = tuple(map(torch.from_numpy, (theta, x, y)))
    assert gk.fastest(P, "per_sample", like=tensors, results=path).kernel.key == VMAP


def test_a_tie_goes_to_fewer_dependencies_and_the_explanation_says_so(tmp_path):
    rows = [row(BROADCAST, 10, 1.02), row(VMAP, 10, 1.00), row("convert.torch", 10, 1e-9)]
    bound = gk.fastest(P, "per_sample", n=10, results=results(tmp_path / "r.csv", *rows))
    assert bound.kernel.key == BROADCAST
    assert "a tie" in bound.why


def test_a_lead_of_a_few_percent_is_no_tie(tmp_path):
    rows = [row(BROADCAST, 10, 1.04), row(VMAP, 10, 1.00), row("convert.torch", 10, 1e-9)]
    bound = gk.fastest(P, "per_sample", n=10, results=results(tmp_path / "r.csv", *rows))
    assert bound.kernel.key == VMAP
    assert "a tie" not in bound.why


def test_few_calls_weigh_the_first_one(tmp_path):
    rows = [
        row(BROADCAST, 10, 2e-3, seconds_first=2e-3),
        row(VMAP, 10, 1e-3, seconds_first=1.0),
        row("convert.torch", 10, 1e-9),
    ]
    path = results(tmp_path / "r.csv", *rows)
    assert gk.fastest(P, "per_sample", n=10, results=path).kernel.key == VMAP
    assert gk.fastest(P, "per_sample", n=10, results=path, calls=5000).kernel.key == VMAP
    assert gk.fastest(P, "per_sample", n=10, results=path, calls=10).kernel.key == BROADCAST


def test_a_memory_limit_keeps_out_what_needs_more_or_was_not_measured(tmp_path):
    rows = [row(BROADCAST, 10, 1.0, peak_bytes=2000), row(LOOP, 10, 5.0, peak_bytes=100), row(VMAP, 10, 0.5)]
    path = results(tmp_path / "r.csv", *rows)
    bound = gk.fastest(P, "per_sample", n=10, results=path, max_bytes=1000)
    assert bound.kernel.key == LOOP
    assert "it needs about 2e+03 bytes, max_bytes=1000" in bound.why
    assert "torch.vmap.per_sample: its memory was not measured" in bound.why
    with pytest.raises(ValueError, match="no kernel is known to stay within max_bytes=10"):
        gk.fastest(P, "per_sample", n=10, results=path, max_bytes=10)


def test_a_file_without_the_case_is_refused_rather_than_passed_over(tmp_path):
    path = results(tmp_path / "r.csv", row(BROADCAST, 10, 1.0))
    with pytest.raises(ValueError, match="no proven time for norms of linear in float64"):
        gk.fastest(P, "norms", n=10, results=path)


def test_a_file_that_changes_is_read_again(tmp_path):
    path = results(tmp_path / "r.csv", row(BROADCAST, 10, 1.0))
    arrays = P.draw(10, 0)
    gk.per_sample(P, *arrays, results=path)
    append(path, [row(LOOP, 10, 0.5)])
    assert gk.fastest(P, "per_sample", n=10, results=path).kernel.key == LOOP
    assert bound_kernel("per_sample", P, arrays, (None, path, None)).kernel.key == LOOP


def test_nearest_number_of_features_decides_and_another_machine_only_if_nothing_else(tmp_path):
    rows = [row(BROADCAST, 10, 1.0, features=1), row(LOOP, 10, 1.0, features=100)]
    path = results(tmp_path / "r.csv", *rows)
    assert gk.fastest(P, "per_sample", n=10, features=2, results=path).kernel.key == BROADCAST
    assert gk.fastest(P, "per_sample", n=10, features=60, results=path).kernel.key == LOOP
    wisdom.save(wisdom.learn([row(LOOP, 10, 1.0, machine="elsewhere"), row(BROADCAST, 10, 1.0, features=100)]))
    assert gk.fastest(P, "per_sample", n=10).kernel.key == BROADCAST


def test_without_any_measurement_a_rule_decides_and_never_takes_a_python_loop():
    for quantity, key in (("gradient", "numpy.matmul.gradient"), ("per_sample", BROADCAST)):
        bound = gk.fastest(P, quantity, n=10)
        assert bound.kernel.key == key
        assert "a rule" in bound.why


def test_without_any_measurement_ways_for_modules_are_taken_in_the_order_of_the_table():
    case = gk.Case(module(), "gradient", 5, dtype="float32")
    able = [kernel for kernel in gk.kernels(case.problem, case.quantity) if not kernel.compiles]
    order = []
    while able:
        order.append(by_rule(case, BACKENDS["torch"], able)[0])
        able.remove(order[-1])
    keys = [kernel.key for kernel in order if kernel.backend.name == "torch"]
    ways = ["torch.autograd", "torch.vmap+", "torch.jacobian+", "torch.hooks", "torch.recorded", "torch.loop+"]
    assert keys == [f"{way}.gradient" for way in ways]
    assert [kernel.key for kernel in order[: len(keys)]] == keys, "torch's own come before those of other packages"
    names = {name for kernel in gk.kernels() for name in (kernel.key, kernel.way)}
    assert set(FASTEST_FIRST) <= names


def test_data_sets_share_what_is_known_of_their_problem():
    (entry,) = wisdom.learn([row(BROADCAST, 10, 1.0, problem="linear/diabetes")])
    assert entry.case.problem == "linear"


def test_what_ships_is_a_table_that_knows_the_linear_problem(monkeypatch):
    monkeypatch.undo()
    known = {(entry.case.problem, entry.case.quantity) for entry in wisdom.shipped()}
    assert {("linear", name) for name in ("gradient", "per_sample", "norms", "moments", "clipped_sum")} <= known


@pytest.fixture
def asked(monkeypatch):
    """The backends whose kernels were asked what they cannot do."""
    from gradkernels.kernel import Kernel

    names, unsupported = set(), Kernel.unsupported
    monkeypatch.setattr(
        Kernel, "unsupported", lambda kernel, case: names.add(kernel.backend.name) or unsupported(kernel, case)
    )
    return names


def module():
    from modules import problem, seeded
    from torch import nn

    return problem(seeded(lambda: nn.Linear(4, 3)), 4)


def test_of_a_regression_every_library_is_asked(asked):
    gk.fastest(P, "gradient", n=5)
    assert asked == {kernel.backend.name for kernel in gk.kernels(P, "gradient")}


def test_of_a_module_no_other_library_is_asked_what_the_choice_cannot_fall_on(asked):
    bound = gk.fastest(module(), "per_sample", n=5)
    assert asked == {"torch"}
    assert not any(name in bound.why for name in ("opacus", "backpack"))


def test_of_a_module_another_library_is_asked_where_it_was_measured(asked, tmp_path):
    pytest.importorskip("opacus")
    problem = module()
    more = {"problem": problem.name, "features": 4, "parameters": 15, "dtype": "float32"}
    rows = [row("opacus.hooks.per_sample", 5, 1e-6, **more), row("torch.loop.per_sample", 5, 1e-3, **more)]
    bound = gk.fastest(problem, "per_sample", n=5, results=results(tmp_path / "r.csv", *rows))
    assert asked == {"torch", "opacus"}
    assert bound.kernel.key == "opacus.hooks.per_sample"


def test_where_torch_has_no_way_left_all_others_are_asked(asked):
    pytest.importorskip("opacus")
    pytest.importorskip("backpack")
    from gradkernels.dispatch.request import Request
    from gradkernels.dispatch.select import choose

    case = gk.Case(module(), "per_sample", 5, dtype="float32")
    failed = {one: "it is set aside" for one in gk.kernels(case.problem, "per_sample") if one.backend.name == "torch"}
    choice = choose(Request(case, BACKENDS["torch"]), failed)
    assert choice.kernel.backend.name in ("opacus", "backpack")
    assert asked == {"opacus", "backpack"}


def test_blocks_of_dask_arrays_have_a_kernel_of_their_size_for_one_thread(monkeypatch):
    da = pytest.importorskip("dask.array")
    from gradkernels.scale import lazy_results

    monkeypatch.setattr(lazy_results, "lazy_call", lambda *given: given)
    lazy = (np.zeros(3), da.zeros((40, 3), chunks=(20, 3)), da.zeros(40, chunks=20))
    name, problem, choose, compute = bound_kernel("norms", P, lazy, ("numpy.broadcast", None, 10**9))
    assert (name, problem, compute) == ("norms", P, bound_kernel)
    asked = []
    monkeypatch.setattr(bound_kernels, "bind", lambda request: asked.append(request) or bind.bind(request))
    monkeypatch.setattr(request, "available_threads", lambda: 2)
    assert choose("per_sample", 20, 3, "float32").key == "numpy.broadcast.per_sample"
    (one,) = asked
    case, criteria = one.case, one.criteria
    assert (case.quantity.name, case.n, case.features, case.dtype) == ("per_sample", 20, 3, "float32")
    assert (case.problem, case.threads, criteria) == (P, 1, Criteria("numpy.broadcast", None, 10**9, None, 1))
