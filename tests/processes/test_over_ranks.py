"""Samples in several processes of torch.distributed: as in one process, and a rank that dies ends the others."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from torch import nn

import gradkernels as gk
from gradkernels.tree import leaves

X, Y = ranks.samples()
P = gk.ModuleProblem(ranks.model(), nn.CrossEntropyLoss())


@pytest.fixture(scope="module")
def size(request):
    return 4 if request.config.getoption("--long") else 2


@pytest.fixture(scope="module")
def found(tmp_path_factory, size):
    """What each of the processes found, and what became of those that one of them left alone."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, Path(ranks.__file__)]
    processes = [
        subprocess.Popen([*command, str(rank), str(size), folder], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(size)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    loaded = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]
    left = [(folder / f"{rank}.txt").read_text() for rank in range(size - 1)]
    return loaded, left


def of_ranks(found, name):
    return [one["results"][name] for one in found[0]]


def assert_same(result, expected):
    for one, other in zip(leaves(result), leaves(expected), strict=True):
        assert (type(one), one.dtype, one.shape) == (type(other), other.dtype, other.shape)
        np.testing.assert_allclose(one, other, 1e-6, 1e-6 * float(abs(other).max()))


ALL = torch.arange(ranks.N)
SUMS = {
    "gradient": lambda: gk.gradient(P, None, X, Y),
    "moments": lambda: gk.moments(P, None, X, Y),
    "weighted_sum": lambda: gk.weighted_sum(P, None, X, Y, ALL.double()),
    "group_sums": lambda: gk.group_sums(P, None, X, Y, ALL % 3, 3),
    "outer": lambda: gk.outer(P, None, X, Y, groups=ALL // 5),
    "wrapped": lambda: gk.clipped_sum(P, None, X, Y, 0.4, parameters="2.*"),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_on_each_rank_are_those_of_all_samples_in_one_process(found, name):
    expected = SUMS[name]()
    for result in of_ranks(found, name):
        assert_same(result, expected)


def test_a_regression_of_numpy_is_merged_too(found):
    problem, *arrays = ranks.regression()
    for result in of_ranks(found, "regression"):
        assert_same(result, gk.moments(problem, *arrays))


def test_norms_stay_local_and_sums_that_come_with_them_do_not(found, size):
    norms = gk.norms(P, None, X, Y)
    for rank, (total, own) in enumerate(of_ranks(found, "clipped_sum")):
        assert_same(total, gk.clipped_sum(P, None, X, Y, 0.4))
        assert_same(own, norms[rank::size])
    for rank, own in enumerate(of_ranks(found, "norms")):
        assert_same(own, norms[rank::size])


def test_small_rows_are_gathered_in_the_order_of_the_ranks(found, size):
    order = torch.cat([ALL[rank::size] for rank in range(size)])
    rows, gram = gk.project(P, None, X, Y, size=6), gk.gram(P, None, X, Y)
    others = gk.gram(P, None, X, Y, other=(X[:5], Y[:5]))
    for rank in range(size):
        assert_same(of_ranks(found, "project")[rank], rows[order])
        assert_same(of_ranks(found, "gram")[rank], gram[order][:, order])
        assert_same(of_ranks(found, "gram with others")[rank], others[order])
        assert_same(of_ranks(found, "file")[rank], rows[rank::size])


def test_each_rank_may_stay_alone(found, size):
    for rank, result in enumerate(of_ranks(found, "alone")):
        assert_same(result, gk.gradient(P, None, X[rank::size], Y[rank::size]))


REFUSED = {
    "parameters": r"ValueError: rank \d and rank \d of \d asked for different things: theta; ask the same on each",
    "quantities": r"ValueError: rank \d and rank \d of \d asked for different things: (max_norm= and )?quantity; ",
    "file": r"ValueError: out is 'rows.npy' on each of \d ranks; give each a file: 'rows-\{rank\}.npy'",
    "padded": r"ValueError: the loader's DistributedSampler has \d samples? twice, so that ranks have as many; ",
    "tensors alone": r"TypeError: 0.weight is distributed as \(Shard\(dim=0\),\); fully_shard alone is known, ",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_wrong_on_some_rank_is_refused_on_each(found, name):
    for one in found[0]:
        assert re.match(REFUSED[name], one["refusals"][name]), one["refusals"][name]


def of_shards(found, name):
    return [one["of shards"][name] for one in found[0]]


SHARDED = {
    "gradient": SUMS["gradient"],
    "moments": SUMS["moments"],
    "group_sums": SUMS["group_sums"],
    "some": lambda: gk.gradient(P, None, X, Y, parameters="2.*"),
    "theta": lambda: gk.gradient(P, {name: 2 * one for name, one in P.parameters().items()}, X, Y),
}


@pytest.mark.parametrize("name", SHARDED)
def test_sums_of_sharded_parameters_are_sharded_and_together_those_of_one_process(found, name):
    expected = SHARDED[name]()
    for result in of_shards(found, name):
        assert_same(result, expected)


def test_a_rank_keeps_its_part_of_sharded_parameters_and_sums_and_no_more(found, size):
    parts = of_shards(found, "parts")
    assert sum(one["0.weight"][0] for one in parts) == 4
    assert {one["0.weight"] for one in parts} == {(4 // size, 3)}
    assert of_shards(found, "bytes") == [0] * size
    for text in of_shards(found, "outside"):
        assert re.match(r"TypeError: the model's parameters are sharded .* call gk.over\(\[\(x, y\)\]\)", text)


def test_norms_and_products_of_sharded_parameters_are_those_of_whole_ones(found, size):
    order = torch.cat([ALL[rank::size] for rank in range(size)])
    rows, norms = gk.project(P, None, X, Y, size=6), gk.norms(P, None, X, Y)
    inner = gk.inner(P, None, X, Y, gk.gradient(P, None, X, Y))
    for rank, (total, own) in enumerate(of_shards(found, "clipped_sum")):
        assert_same(total, gk.clipped_sum(P, None, X, Y, 0.4))
        assert_same(own, norms[rank::size])
        assert_same(of_shards(found, "inner")[rank], inner[rank::size])
        assert_same(of_shards(found, "project")[rank], rows[order])


def test_a_sharded_module_is_seen_as_it_is_after_a_step_and_with_another_hook(found):
    module = ranks.model()
    problem = gk.ModuleProblem(module, nn.CrossEntropyLoss())
    for name, one in gk.gradient(problem, None, X, Y).items():
        module.get_parameter(name).data -= 0.5 * one
    module[1].register_forward_hook(lambda module, args, output: 2 * output)
    for result in of_shards(found, "after a step"):
        assert_same(result, gk.gradient(problem, None, X, Y))


def test_a_rank_that_dies_ends_the_others_with_a_sentence(found, size):
    says = rf"RuntimeError: rank \d of {size} could not compare what was asked with the others: one of them ended, "
    assert len(found[1]) == size - 1
    for text in found[1]:
        assert re.match(says, text), text
