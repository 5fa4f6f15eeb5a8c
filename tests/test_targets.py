"""Targets without a loss are refused at every call, whatever the way; integers and memory maps are taken."""

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from typer.testing import CliRunner

import gradkernels as gk
from gradkernels.bench.cli.app import app
from gradkernels.problems.regression.scalar import ScalarRegression

LOGISTIC, POISSON, SOFTMAX = gk.LogisticRegression(), gk.PoissonRegression(), gk.SoftmaxRegression(classes=3)
FUNCTIONS = (gk.gradient, gk.per_sample, gk.norms, gk.moments, gk.clipped_sum)
X = np.array([1.0, -2.0, 0.5, 3.0])
WRONG = [
    (LOGISTIC, [1.0, 0.5, -1.0, 2.0], "y[2] is -1.0; for logistic targets must lie in [0, 1]"),
    (LOGISTIC, [1.0, -1.0, 1.0, -1.0], "y[1] is -1.0; for logistic targets must lie in [0, 1] (for labels -1 and 1 "),
    (LOGISTIC, [np.nan, 0.0, 1.5, 1.0], "y[2] is 1.5; for logistic"),
    (LOGISTIC, [0.0, 0.0, 1.0, np.inf], "y[3] is inf; for logistic"),
    (POISSON, [3.0, 0.0, 7.5, -2.0], "y[3] is -2.0; for poisson targets must be at least 0"),
    (POISSON, [-np.inf, 0.0, 7.5, -2.0], "y[0] is -inf; for poisson"),
    (SOFTMAX, [1, 2, 3, 0], "y[2] is 3; for softmax targets must be whole numbers from 0 to 2 (softmax(classes=4) ta"),
    (SOFTMAX, [1, 2, 3, 1], "y[2] is 3; for softmax targets must be whole numbers from 0 to 2 (for numbers from 1 on"),
    (SOFTMAX, [2, -1, 0, 0], "y[1] is -1; for softmax targets must be whole numbers from 0 to 2"),
]  # fmt: skip
RIGHT = {LOGISTIC: [0.0, 0.25, 1.0, 1.0], POISSON: [0.0, 2.5, 7.0, 1.0], SOFTMAX: [0, 2, 1, 1]}


def theta_of(problem):
    return np.zeros(problem.shape(1))


@pytest.mark.parametrize(
    "library", [np.asarray, lambda values: torch.from_numpy(np.asarray(values))], ids=["numpy", "torch"]
)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("problem", "y", "says"), WRONG)
def test_the_first_target_without_a_loss_is_named_also_after_a_call_that_was_right(problem, y, says, function, library):
    theta, x = library(theta_of(problem)), library(X)
    function(problem, theta, x, library(RIGHT[problem]))
    for _ in range(2):
        with pytest.raises(ValueError, match=re.escape(says)):
            function(problem, theta, x, library(y))


@pytest.mark.parametrize("way", ["torch.vmap", "torch.loop", "numpy.loop", "numpy.broadcast", "jax.vmap"])
@pytest.mark.parametrize(("problem", "y", "says"), WRONG)
def test_and_by_every_way_that_is_asked_for(problem, y, says, way):
    theta, x, dtype = theta_of(problem).astype("f4"), X.astype("f4"), None if problem is SOFTMAX else "f4"
    gk.per_sample(problem, theta, x, np.array(RIGHT[problem], dtype), kernel=way)
    with pytest.raises(ValueError, match=re.escape(says)):
        gk.per_sample(problem, theta, x, np.array(y, dtype), kernel=way)


@pytest.mark.parametrize(("problem", "y", "says"), WRONG)
def test_and_by_a_bound_kernel_with_weights_and_in_parts(problem, y, says):
    theta, y = theta_of(problem), np.array(y)
    with pytest.raises(ValueError, match=re.escape(says)):
        gk.fastest(problem, "norms", n=4)(theta, X, y)
    with pytest.raises(ValueError, match=re.escape(says)):
        gk.fastest(problem, "norms", like=(theta, X, y))
    with pytest.raises(ValueError, match=re.escape(says.replace("y[", "y.target[", 1).partition(";")[0])):
        gk.norms(problem, theta, X, y, sample_weight=np.ones(4))
    with pytest.raises(ValueError, match=re.escape(says.partition(" is ")[2])):
        list(gk.per_sample_chunks(problem, theta, X, y, chunk=2))


def test_nan_stands_for_itself():
    rows = gk.per_sample(LOGISTIC, np.zeros(2), X, np.array([1.0, np.nan, 0.0, 1.0]))
    assert_array_equal(rows, [[-0.5, -0.5], [np.nan, np.nan], [0.5, 0.25], [-0.5, -1.5]])


@dataclass(frozen=True, kw_only=True)
class Even(ScalarRegression):
    """A loss of even targets."""

    family: ClassVar[str] = "even"

    def loss_of(self, xp, eta, y):
        return (eta - y) ** 2

    def slope(self, xp, eta, y):
        return 2 * (eta - y)

    def draw_target(self, rng, eta):
        return 2.0 * rng.integers(0, 5, eta.shape)

    def misfit(self, target):
        return "" if (target % 2 == 0).all() else "targets must be even"


@dataclass(frozen=True, kw_only=True)
class Hard(gk.LogisticRegression):
    """A logistic regression without probabilities."""

    family: ClassVar[str] = "hard"

    def misfit(self, target):
        return "" if np.isin(target, (0, 1)).all() else "targets must be 0 or 1"


@pytest.mark.parametrize(
    ("problem", "good", "bad", "says"),
    [
        (Even(), [2.0, 4.0, 6.0, np.nan], [2.0, 4.0, np.nan, 5.0], "y[3] is 5.0; for even targets must be even"),
        (Hard(), [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.5, 0.0], "y[2] is 0.5; for hard targets must be 0 or 1"),
    ],
)
def test_a_problem_of_ones_own_is_asked_for_its_misfit(problem, good, bad, says):
    gk.gradient(problem, np.zeros(2), X, np.array(good))
    with pytest.raises(ValueError, match=re.escape(says)):
        gk.gradient(problem, np.zeros(2), X, np.array(bad))


def test_the_whole_of_a_data_file_is_looked_at_before_anything_is_timed(tmp_path):
    rows = [f"{i / 10},{i % 2}" for i in range(2000)]
    rows[1700] = "0.5,7"
    (tmp_path / "mine.csv").write_text("\n".join(["x,label", *rows]))
    out = tmp_path / "out.csv"
    arguments = ["--problem", "logistic", "--target", "label", "--sizes", "10", "--budget", "1s", "--out", str(out)]
    done = CliRunner().invoke(app, ["run", "--data", str(tmp_path / "mine.csv"), *arguments])
    assert isinstance(done.exception, ValueError)
    says = "the target goes from 0 to 7 and is 7 in row 1701; for logistic targets must lie in [0, 1]"
    assert str(done.exception) == says
    assert not out.exists()


INTEGERS = ["int64", "int32", "int8", "uint8", "bool"]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("floats", ["float64", "float32"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_integers_are_targets_like_their_floats(function, floats, dtype):
    theta, x, y = np.array([0.5, -1.0], floats), X.astype(floats), np.array([1, 0, 1, 1], dtype)
    given, wanted = (function(LOGISTIC, theta, x, target) for target in (y, y.astype(floats)))
    assert_array_equal(given, wanted)
    for part in given if isinstance(given, tuple) else (given,):
        assert part.dtype == floats


@pytest.mark.parametrize("dtype", INTEGERS)
def test_class_numbers_may_be_any_integers(dtype):
    theta, y = np.array([[0.5, -1.0], [1.0, 0.0]]), np.array([1, 0, 1, 1])
    problem = gk.SoftmaxRegression(classes=2)
    wanted = gk.per_sample(problem, theta, X, y)
    assert_array_equal(gk.per_sample(problem, theta, X, y.astype(dtype)), wanted)
    bound = gk.fastest(problem, "per_sample", like=(theta, X, y.astype(dtype)))
    assert_array_equal(bound(theta, X, y.astype(dtype)), wanted)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_integers_of_torch_and_as_weights(dtype):
    theta, x, y = torch.tensor([0.5, -1.0]), torch.tensor(X).float(), torch.tensor([1, 0, 1, 1])
    wanted = gk.norms(LOGISTIC, theta, x, y.float(), sample_weight=y.float())
    assert torch.equal(gk.norms(LOGISTIC, theta, x, y.to(dtype), sample_weight=y.to(dtype)), wanted)


def test_integers_of_jax():
    jnp = pytest.importorskip("jax.numpy")
    theta, x, y = jnp.array([0.5, -1.0], "float32"), jnp.array(X, "float32"), jnp.array([1, 0, 1, 1])
    wanted = gk.norms(LOGISTIC, theta, x, y.astype("float32"))
    assert_array_equal(gk.norms(LOGISTIC, theta, x, y), wanted)


def test_integers_as_features_or_parameters_stay_refused():
    for given in ((np.zeros(2), X.astype(int)), (np.zeros(2, int), X)):
        with pytest.raises(TypeError, match="is int64; allowed are float64 and float32"):
            gk.gradient(LOGISTIC, *given, np.array([1, 0, 1, 1]))


@pytest.mark.parametrize("way", [None, "numba.fused", "numpy.blocked", "torch.vmap"])
def test_memory_maps_are_arrays(tmp_path, way):
    theta, y = np.array([0.5, -1.0]), np.array([1.0, 0.0, 1.0, 1.0])
    maps = []
    for name, array in (("x", X), ("y", y)):
        array.tofile(tmp_path / name)
        maps.append(np.memmap(tmp_path / name, "float64", "r", shape=(4,)))
    wanted = gk.per_sample(LOGISTIC, theta, X, y, kernel=way)
    found = gk.per_sample(LOGISTIC, theta, *maps, kernel=way)
    assert type(found) is np.ndarray
    assert_array_equal(found, wanted)
    rows = np.memmap(tmp_path / "rows", "float64", "w+", shape=(4, 2))
    assert gk.per_sample(LOGISTIC, theta, *maps, kernel=way, out=rows) is rows
    assert_array_equal(np.fromfile(tmp_path / "rows").reshape(4, 2), wanted)
    bound = gk.fastest(LOGISTIC, "gradient", like=(theta, *maps), kernel=None)
    assert type(bound(theta, *maps)) is np.ndarray


def test_masks_are_refused_since_they_would_not_be_heeded():
    with pytest.raises(TypeError, match=re.escape("leave masked samples out, or fill them and pass y.filled(value)")):
        gk.gradient(LOGISTIC, np.zeros(2), X, np.ma.masked_array(np.ones(4), [True, False, False, False]))
