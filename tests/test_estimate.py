"""The stochastic gradient as an estimator: identities to rounding, statistics against exact enumeration."""

import itertools
import subprocess
import sys
from dataclasses import astuple, replace

import numpy as np
import pytest

import gradkernels as gk
import gradkernels.estimate.study as module
from gradkernels.estimate.minibatch import Population, measure_minibatches, standard_error
from gradkernels.estimate.study import GRADIENT_KERNELS, compare_gradients, default_sizes, estimate
from gradkernels.problems.data.datasets import load_dataset, notebook_points

LINEAR = gk.LinearRegression()
NOTEBOOK = load_dataset("notebook")
POINT_1, POINT_2 = notebook_points().values()
ROWS = np.array([[1.0, 0.0], [2.0, -1.0], [-4.0, 0.5], [0.5, 8.0], [3.0, 3.0]])


def enumerated(rows, size, with_replacement):
    """The mean gradient of every mini-batch that can be drawn, each as likely as the others."""
    samples = range(len(rows))
    batches = itertools.product(samples, repeat=size) if with_replacement else itertools.combinations(samples, size)
    return np.array([rows[list(batch)].mean(0) for batch in batches])


def population(rows, with_replacement):
    return Population(rows, rows.mean(0), np.full(rows.shape[1], 1e-14), with_replacement)


def estimated(theta=POINT_1, **options):
    return estimate(LINEAR, theta, NOTEBOOK.x, NOTEBOOK.y, **options)


@pytest.mark.parametrize("way", GRADIENT_KERNELS)
@pytest.mark.parametrize(
    ("theta", "gradient"), [(POINT_1, (-7.0330, -1.2066)), (POINT_2, (-5.1731, -2.2966))], ids=["point 1", "point 2"]
)
def test_four_ways_give_the_coursework_gradient(theta, gradient, way):
    found = compare_gradients(LINEAR, theta, NOTEBOOK.x, NOTEBOOK.y)
    assert list(found.gradients) == list(GRADIENT_KERNELS)
    assert found.gradients[way] == pytest.approx(gradient, abs=5e-5)


def test_four_ways_agree_to_rounding_at_both_points():
    for theta in (POINT_1, POINT_2):
        found = compare_gradients(LINEAR, theta, NOTEBOOK.x, NOTEBOOK.y)
        assert found.agree
        assert found.difference < 1e-14 < found.allowed < 1e-12


def test_one_way_off_by_a_millionth_disagrees(monkeypatch):
    right = module.kernel_by_key("numpy.matmul.gradient")
    wrong = replace(right, builder=lambda problem: lambda *inputs: right.build(problem)(*inputs) * (1 + 1e-6))
    monkeypatch.setattr(
        module, "kernel_by_key", {**{key: gk.kernel(key) for key in GRADIENT_KERNELS}, right.key: wrong}.get
    )
    found = compare_gradients(LINEAR, POINT_1, NOTEBOOK.x, NOTEBOOK.y)
    assert not found.agree
    assert found.difference == pytest.approx(7.033e-6, rel=1e-3)


def test_ways_of_many_features_without_intercept():
    data = load_dataset("diabetes")
    problem = gk.LinearRegression(fit_intercept=False)
    theta = problem.draw_theta(10, seed=0)
    found = compare_gradients(problem, theta, data.x, data.y)
    expected = 2 * (data.x @ theta - data.y) @ data.x / 442
    assert found.agree
    for gradient in found.gradients.values():
        assert gradient == pytest.approx(expected, rel=1e-12)


def test_mean_of_the_rows_is_the_true_gradient():
    found = estimated()
    assert found.gradient == pytest.approx((-7.0330, -1.2066), abs=5e-5)
    assert found.mean == pytest.approx(found.gradient, rel=1e-14)
    assert found.loss == pytest.approx(15.5923, abs=5e-5)


def test_noise_scale_by_hand():
    # Slopes 2 (0 - y): per-sample gradients 1 and 3, mean 2, variance 1.
    problem = gk.LinearRegression(fit_intercept=False)
    found = estimate(problem, [0.0], [1.0, 1.0], [-0.5, -1.5], draws=30)
    assert found.gradient.tolist() == [2.0]
    assert (found.trace, found.noise_scale, found.loss) == (1.0, 0.25, 1.25)


@pytest.mark.parametrize("with_replacement", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_theory_is_the_enumeration_of_all_mini_batches(size, with_replacement):
    batches = enumerated(ROWS, size, with_replacement)
    true = ROWS.mean(0)
    trace = ((ROWS - true) ** 2).sum() / 5
    assert batches.mean(0) == pytest.approx(true, abs=1e-13)  # no bias, exactly
    exact = ((batches - true) ** 2).sum(1).mean() ** 0.5
    assert standard_error(trace, 5, size, with_replacement) == pytest.approx(exact, abs=1e-14)


@pytest.mark.parametrize("with_replacement", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_measured_is_the_enumeration_within_its_intervals(size, with_replacement):
    batches, true = enumerated(ROWS, size, with_replacement), ROWS.mean(0)
    exact = ((batches - true) ** 2).sum(1).mean() ** 0.5
    cosine = (batches @ true / np.linalg.norm(batches, axis=1)).mean() / np.linalg.norm(true)
    found = measure_minibatches(population(ROWS, with_replacement), size, draws=20_000, seed=0)
    assert found.standard_error_low < exact < found.standard_error_high
    assert found.standard_error == pytest.approx(exact, rel=0.02)
    assert found.cosine_low < cosine < found.cosine_high
    assert found.cosine == pytest.approx(cosine, abs=0.02)
    assert found.bias_error == pytest.approx(exact / 20_000**0.5, rel=0.02)
    assert found.bias < 3 * found.bias_error
    assert found.theory == pytest.approx(exact)


def test_all_rows_without_replacement_are_the_true_gradient():
    data = load_dataset("diabetes")
    theta = LINEAR.draw_theta(10, seed=0)
    whole = estimate(LINEAR, theta, data.x, data.y, batch_sizes=[442], draws=30)
    assert (whole.mean != whole.gradient).any()  # by rounding, which must not pass for an error
    (found,) = whole.batches
    assert astuple(found)[1:7] == (0, 0, 0, 0, 0, 0)
    assert (found.cosine, found.cosine_low) == (pytest.approx(1), pytest.approx(1))


@pytest.mark.parametrize("size", [1, 4])
def test_intervals_cover_as_often_as_they_say(size):
    rows = LINEAR.slopes(np, POINT_1, NOTEBOOK.x, NOTEBOOK.y)[:, None] * LINEAR.design(NOTEBOOK.x)
    everyone = population(rows, with_replacement=True)
    found = [measure_minibatches(everyone, size, draws=300, seed=seed) for seed in range(200)]
    covered = np.mean([batch.standard_error_low <= batch.theory <= batch.standard_error_high for batch in found])
    # 95% is meant; 200 intervals would show 88.8% or less of a true 95% in fewer than 1 of 1000 tests.
    assert 0.89 <= covered <= 0.99
    # Without bias, bias_error is the root mean square of bias; the relative error of 200 squares is 10%.
    assert np.mean([batch.bias**2 for batch in found]) == pytest.approx(
        np.mean([batch.bias_error**2 for batch in found]), rel=0.3
    )
    assert np.mean([batch.bias > 3 * batch.bias_error for batch in found]) <= 0.02


def test_bias_of_a_wrong_centre_shows():
    shifted = replace(population(ROWS, with_replacement=True), gradient=ROWS.mean(0) + np.array([0.1, 0]))
    found = measure_minibatches(shifted, 5, draws=20_000, seed=0)
    assert found.bias == pytest.approx(0.1, rel=0.2)
    assert found.bias > 3 * found.bias_error


def test_at_the_optimum_noise_is_all_there_is():
    slope, intercept = np.polyfit(NOTEBOOK.x, NOTEBOOK.y, 1)
    found = estimated([intercept, slope], batch_sizes=[1, 8])
    assert found.noise_scale == np.inf
    assert all(np.isnan(batch.cosine) for batch in found.batches)
    assert found.batches[0].standard_error == pytest.approx(found.batches[0].theory, rel=0.1)


def test_a_mini_batch_of_zero_gradient_has_cosine_zero():
    rows = np.array([[0.0], [1.0]])
    found = measure_minibatches(population(rows, with_replacement=False), 1, draws=1000, seed=0)
    assert found.cosine == pytest.approx(0.5, abs=0.06)


def test_kernels_are_interchangeable():
    by_hand, by_vmap = (estimated(kernel=key, draws=50) for key in (None, "torch.vmap.per_sample"))
    assert (by_hand.kernel, by_vmap.kernel) == ("numpy.broadcast.per_sample", "torch.vmap.per_sample")
    for one, other in zip(by_hand.batches, by_vmap.batches, strict=True):
        assert astuple(one) == pytest.approx(astuple(other), rel=1e-9)


def test_a_wrong_kernel_is_refused(monkeypatch):
    right = gk.kernel("numpy.broadcast.per_sample")
    wrong = replace(
        right, out=False, builder=lambda problem: lambda *inputs: right.build(problem)(*inputs)[::-1].copy()
    )
    monkeypatch.setattr(module, "kernel_by_key", lambda key: wrong)
    with pytest.raises(gk.Disagreement, match="entry"):
        estimated()


def test_a_size_is_drawn_the_same_whatever_the_others():
    together, alone = estimated(batch_sizes=[16, 2, 2], draws=50), estimated(batch_sizes=[16], draws=50)
    assert [batch.size for batch in together.batches] == [2, 16]
    assert together.batches[1] == alone.batches[0]
    assert estimated(batch_sizes=[16], draws=50, seed=1).batches[0] != alone.batches[0]


@pytest.mark.parametrize(
    ("n", "sizes"),
    [(1, (1,)), (2, (1, 2)), (40, (1, 2, 4, 8, 16, 32, 40)), (64, (1, 2, 4, 8, 16, 32, 64))],
)
def test_default_sizes_double_up_to_all_rows(n, sizes):
    assert default_sizes(n) == sizes


def test_default_sizes_end_at_4096():
    assert default_sizes(10**6)[-2:] == (2048, 4096)


def test_one_row_is_a_population_without_error():
    found = estimate(LINEAR, [0.0, 1.0], [2.0], [1.0])
    assert found.trace == 0
    assert found.batches[0].theory == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sizes": [41]}, "a batch of 41 cannot be drawn from 40 rows without replacement"),
        ({"batch_sizes": [0, 4]}, "batch sizes are 0, 4; each must be at least 1"),
        ({"batch_sizes": []}, "batch sizes are none"),
        ({"draws": 29}, "29 draws cannot give an interval; take at least 30"),
        ({"kernel": "numpy.matmul.gradient"}, "computes gradient, not per_sample"),
        ({"kernel": "numpy.brodcast.per_sample"}, "did you mean numpy.broadcast.per_sample"),
        ({"theta": [1.0]}, r"theta must be \(2,\)"),
        ({"theta": [1.0, np.nan]}, "theta holds NaN or infinity"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        estimated(**options)


def test_no_rows_have_no_gradient():
    for function in (estimate, compare_gradients):
        with pytest.raises(ValueError, match="there are no rows"):
            function(LINEAR, [0.0, 1.0], np.empty(0), np.empty(0))


def test_batches_beyond_the_rows_need_replacement():
    (found,) = estimated(batch_sizes=[400], replace=True).batches
    assert found.theory == pytest.approx((36.277144513467775 / 400) ** 0.5)
    assert found.standard_error_low < found.theory < found.standard_error_high


def test_importing_it_loads_nothing_heavy():
    code = "import sys, gradkernels.estimate.study; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "jax", "pandas", "scipy", "matplotlib", "pyarrow"} & set(loaded)


def test_gradients_whose_squares_overflow_are_refused_in_a_sentence():
    x, y = np.array([1e200, 2e200, -1e200]), np.array([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="overflow float64; rescale"):
        estimate(gk.LinearRegression(), np.array([1.0, 1.0]), x, y)
