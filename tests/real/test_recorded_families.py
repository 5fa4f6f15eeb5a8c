"""torch.recorded of real models: one recording for any number of samples, masks of padded text included."""

import pytest
import torch
from families import FAMILIES, rows

import gradkernels as gk
from gradkernels.tree import take

TOLERANCE = 1e-5
"""Of a row's norm."""

RECORDED = ("bert", "gpt2", "llama", "llama lora", "albert", "qwen2", "vit")


@pytest.mark.parametrize("name", RECORDED)
def test_padded_batches_of_any_size_are_right(name):
    family = FAMILIES[name]
    model, data = family.make(), family.data(full=False)
    problem = gk.ModuleProblem(model, family.loss, mixing="own")
    per_sample, norms = (gk.kernel(f"torch.recorded.{quantity}").build(problem) for quantity in ("per_sample", "norms"))
    for n in (6, 3):
        x, y = problem.prepared(*take(data, slice(n)))
        want = rows(model, family.loss, x, y)
        lengths = torch.stack([one.flatten(1).norm(dim=1) for one in want.values()]).norm(dim=0)
        torch.testing.assert_close(norms(problem.parameters(), x, y).double(), lengths, rtol=TOLERANCE, atol=0)
        for key, row in per_sample(problem.parameters(), x, y).items():
            assert ((row.double() - want[key]).abs() <= TOLERANCE * lengths.max()).all()
