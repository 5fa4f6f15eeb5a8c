"""What people type on the command line."""

from __future__ import annotations

import pytest
from torch import nn

import gradkernels as gk
from gradkernels.bench.cli import parse
from gradkernels.bench.cli.options import Format
from gradkernels.names import counted


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("10", (10,)),
        ("1000, 10,100,10", (10, 100, 1000)),
        ("10:1e6", (10, 100, 1000, 10_000, 100_000, 1_000_000)),
        ("1:100:5", (1, 3, 10, 32, 100)),
        ("10:20", (10, 20)),
        ("1e3", (1000,)),
    ],
)
def test_sizes(text, sizes):
    assert parse.sizes(text) == sizes


@pytest.mark.parametrize(
    "text", ["", "ten", "10,,20", "0", "-5", "1.5", "10:", ":10", "100:10", "1:10:1", "1:2:3:4", "nan", "inf", "1e30"]
)
def test_sizes_that_are_none_are_refused_with_what_was_given(text):
    with pytest.raises(ValueError, match="sizes"):
        parse.sizes(text)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("2min", 120), ("1.5h", 5400), ("500 ms", 0.5)])
def test_durations(text, seconds):
    assert parse.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "0", "10 parsecs", "nan", "inf"])
def test_durations_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="--budget"):
        parse.duration(text)


def test_a_way_means_its_composed_form_too_and_globs_mean_several():
    chosen = parse.chosen_kernels(["numpy.broadcast"], ["gradient", "per_sample"])
    assert [kernel.key for kernel in chosen] == ["numpy.broadcast+.gradient", "numpy.broadcast.per_sample"]
    assert {k.backend.name for k in parse.chosen_kernels(["numpy.*"], ["norms"])} == {"numpy"}
    assert [k.key for k in parse.chosen_kernels(["torch.vmap[chunk=64]"], ["norms"])] == ["torch.vmap+[chunk=64].norms"]
    assert [k.key for k in parse.chosen_kernels(["*.matmul.gradient"], ["gradient"])] == ["numpy.matmul.gradient"]


def test_an_unknown_kernel_or_quantity_names_what_is_near():
    with pytest.raises(ValueError, match="did you mean numpy.broadcast"):
        parse.chosen_kernels(["numpy.brodcast"], ["norms"])
    with pytest.raises(ValueError, match="did you mean norms"):
        parse.chosen_quantities("norm")
    with pytest.raises(ValueError, match="chunk"):
        parse.chosen_kernels(["torch.vmap[chunks=64]"], ["norms"])


def test_a_format_that_a_command_does_not_print_is_refused_with_those_it_has():
    with pytest.raises(ValueError, match="--format json: this command prints table, csv$"):
        parse.chosen_writer(Format.json, {Format.csv: str})
    assert parse.chosen_writer(Format.csv, {Format.csv: str}) is str


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "row", "1 row"), (0, "row", "0 rows"), (2, "row", "2 rows"), (1000, "row", "1,000 rows"),
        (1, "pass", "1 pass"), (3, "pass", "3 passes"), (2, "mini-batch", "2 mini-batches"), (2, "CUDA device",
        "2 CUDA devices"),
    ],
)  # fmt: skip
def test_what_is_counted_is_singular_where_there_is_one(number, noun, text):
    assert counted(number, noun) == text


def test_quantities_of_outputs_are_for_problems_of_outputs():
    losses, outputs = gk.LinearRegression(), gk.ModuleProblem(nn.Linear(2, 1)).of_outputs()
    assert parse.chosen_quantities("norms,jacobian", outputs) == ["norms", "jacobian"]
    assert parse.askable(["norms", "jacobian"], losses) == ["norms"]
    says = (
        "a Jacobian is of the outputs of a torch module, and a LinearRegression is losses alone; pass gk.ModuleProblem"
    )
    with pytest.raises(ValueError, match=says):
        parse.chosen_quantities("norms,jacobian", losses)
    with pytest.raises(ValueError, match="jacobian is of a model's outputs, and this problem is of a loss"):
        parse.chosen_kernels([], ["jacobian"], gk.ModuleProblem(nn.Linear(2, 1)))
