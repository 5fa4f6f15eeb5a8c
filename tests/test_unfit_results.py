"""Results that are none: views of inputs and parameters, of another library, in a graph; models that changed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from honest import HONEST, P, wrapped
from modules import problem
from mutants import instead
from torch import nn

import gradkernels as gk
from gradkernels.check.side_effects import require_same_state


@pytest.mark.parametrize("honest_calls", [0, 1])
def test_an_input_is_no_result(honest_calls):
    def sloppy(compute):
        left = iter(range(honest_calls))
        return lambda theta, x, y: y if next(left, None) is None else compute(theta, x, y)

    kernel = wrapped(gk.kernel(HONEST["norms"]), sloppy)
    with pytest.raises(gk.Disagreement, match="returned memory of one of its inputs"):
        gk.check(kernel, gk.Case(P, "norms", 5))


def test_a_view_of_an_input_is_no_result_in_torch():
    kernel = wrapped(gk.kernel("torch.vmap+.norms"), lambda compute: lambda theta, x, y: y[:].view(-1))
    with pytest.raises(gk.Disagreement, match="returned memory of one of its inputs"):
        gk.check(kernel, gk.Case(P, "norms", 5))


@pytest.mark.parametrize(("way", "says"), [("numpy.broadcast", "a Tensor, not an array of numpy"),
                                           ("torch.vmap", "a ndarray, not an array of torch")])  # fmt: skip
def test_a_result_of_another_library_is_rejected(way, says):
    kernel = gk.kernel(f"{way}.per_sample")
    other = gk.kernel("torch.vmap.per_sample" if way.startswith("numpy") else "numpy.broadcast.per_sample").backend
    foreign = instead(lambda rows: other.put(np.asarray(kernel.backend.get(rows))))
    with pytest.raises(gk.Disagreement, match=says):
        gk.check(wrapped(kernel, foreign), gk.Case(P, "per_sample", 5))


def test_a_result_that_is_part_of_a_graph_is_rejected():
    kernel = wrapped(gk.kernel("torch.vmap+.norms"), instead(lambda norms: norms.requires_grad_()))
    says = r"^torch\.vmap\+\.norms returned an array that is part of a graph; detach it$"
    with pytest.raises(gk.Disagreement, match=says):
        gk.check(kernel, gk.Case(P, "norms", 5))


def test_a_result_on_another_device_is_rejected():
    kernel = wrapped(gk.kernel("torch.vmap.per_sample"), instead(lambda rows: rows.to("meta")))
    with pytest.raises(gk.Disagreement, match="returned an array on meta, not on cpu"):
        gk.check(kernel, gk.Case(P, "per_sample", 5))


def test_what_of_a_models_state_was_changed_is_named():
    kernel, before = gk.kernel("torch.hooks.norms"), {"a": 1, "b": 2, "c": 3}
    require_same_state(kernel, before, dict(before))
    with pytest.raises(gk.Disagreement, match=r"^torch\.hooks\.norms left the model changed: b, c, d$"):
        require_same_state(kernel, before, {"a": 1, "b": 3, "d": 4})
    with pytest.raises(gk.Disagreement, match=r": a, b, c, d$"):
        require_same_state(kernel, dict.fromkeys("edcba", 1), {})


def test_an_entry_of_a_models_parameter_is_called_by_its_name():
    def doubled(rows):
        return {**rows, "bias": 2 * rows["bias"]}

    kernel = replace(wrapped(gk.kernel("torch.vmap.per_sample"), instead(doubled)), out=False)
    case = gk.Case(problem(nn.Linear(4, 3), 4), "per_sample", 3, "float32")
    with pytest.raises(
        gk.Disagreement, match=r"^torch\.vmap\.per_sample on .*: entry \(\d, \d\) of bias is .*, off by"
    ):
        gk.check(kernel, case)


def test_a_kernel_that_changes_the_model_is_rejected():
    model = nn.Linear(4, 3)
    model.register_buffer("steps", torch.zeros(()))

    def counting(compute):
        def counted(theta, x, y, **options):
            model.steps += 1
            return compute(theta, x, y, **options)

        return counted

    case = gk.Case(problem(model, 4), "norms", 3, "float32")
    with pytest.raises(gk.Disagreement, match=r"^torch\.hooks\.norms left the model changed: .*steps"):
        gk.check(wrapped(gk.kernel("torch.hooks.norms"), counting), case)
