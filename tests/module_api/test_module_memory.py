"""Memory for the results of a module, which a caller gives."""

import numpy as np
import pytest
import torch
from models import oracle

import gradkernels as gk
from gradkernels.memory.overlap import overlap


def buffers(problem, n, **changes):
    made = {name: torch.full((n, *one.shape), torch.nan) for name, one in problem.parameters().items()}
    return {name: one for name, one in {**made, **changes}.items() if one is not None}


@pytest.mark.parametrize("way", [None, "torch.loop", "torch.vmap", "torch.vmap[chunk=2]"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_rows_are_written_into_given_memory(problem, data, way, mode):
    with mode():
        out = buffers(problem, 5)
        kept = dict(out)
        assert gk.per_sample(problem, None, *data, out=out, kernel=way) is out
    assert all(out[name] is kept[name] for name in kept)
    for name, rows in oracle(problem.model, problem.loss_fn, *data).items():
        torch.testing.assert_close(out[name].double(), rows, atol=1e-5, rtol=1e-5)


def test_norms_are_written_into_given_memory(problem, data):
    out = torch.full((5,), torch.nan)
    assert gk.norms(problem, None, *data, out=out) is out
    torch.testing.assert_close(out, gk.norms(problem, None, *data))


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (
            lambda p, x: torch.empty(5, 43),
            TypeError,
            "out is a Tensor; it must be a dict of buffers with theta's names",
        ),
        (lambda p, x: buffers(p, 5, **{"0.bias": None}), ValueError, "out lacks '0.bias'; its names must be those of"),
        (lambda p, x: buffers(p, 5, more=x), ValueError, "out has 'more' besides"),
        (
            lambda p, x: buffers(p, 4),
            ValueError,
            r"out\['0.weight'\] is \(4, 5, 4\) float32 on cpu; it must be \(5, 5,",
        ),
        (
            lambda p, x: buffers(p, 5, **{"0.bias": torch.empty(5, 5).double()}),
            ValueError,
            "float64 on cpu; it must be",
        ),
        (lambda p, x: buffers(p, 5, **{"0.bias": np.empty((5, 5))}), TypeError, "must be an array of the same"),
        (
            lambda p, x: buffers(p, 5, **{"0.bias": torch.empty(5, 5, requires_grad=True)}),
            ValueError,
            r"out\['0.bias'\] requires gradients, so it cannot be written to",
        ),
        (
            lambda p, x: buffers(p, 5, **{"2.bias": x.view(-1)[:15].view(5, 3)}),
            ValueError,
            r"out\['2.bias'\] shares memory with an input",
        ),
    ],
)
def test_memory_that_does_not_fit_is_refused(problem, data, make, kind, says):
    with pytest.raises(kind, match=says):
        gk.per_sample(problem, None, *data, out=make(problem, data[0]))


def test_memory_that_two_parameters_share_is_refused(problem, data):
    both = torch.empty(40)
    out = buffers(problem, 5, **{"0.bias": both[:25].view(5, 5), "2.bias": both[20:35].view(5, 3)})
    with pytest.raises(ValueError, match=r"out\['0.bias'\] and out\['2.bias'\] share memory"):
        gk.per_sample(problem, None, *data, out=out)


@pytest.mark.parametrize("transposed", [False, True])
def test_columns_of_one_buffer_are_memory_of_their_own(problem, data, transposed):
    sizes = [parameter.numel() for parameter in problem.parameters().values()]
    whole = torch.full((5, sum(sizes)), torch.nan)
    columns = (whole.T.contiguous().T if transposed else whole).split(sizes, 1)
    out = {
        name: part.unflatten(1, one.shape)
        for (name, one), part in zip(problem.parameters().items(), columns, strict=True)
    }
    found = gk.per_sample(problem, None, *data, out=out)
    expected = gk.per_sample(problem, None, *data, kernel="torch.loop")
    assert all(found[name].data_ptr() == out[name].data_ptr() for name in out)
    torch.testing.assert_close(found, expected)
    assert not columns[0]._base.isnan().any()


def test_columns_that_overlap_in_one_entry_are_refused(problem, data):
    whole = torch.empty(5, 100)
    out = buffers(problem, 5, **{"0.bias": whole[:, 10:15], "2.bias": whole[:, 14:17]})
    with pytest.raises(ValueError, match=r"out\['0.bias'\] and out\['2.bias'\] share memory"):
        gk.per_sample(problem, None, *data, out=out)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (np.s_[:, :3], np.s_[:, 3:], False),
        (np.s_[:, :4], np.s_[:, 3:], True),
        (np.s_[::2], np.s_[1::2], False),
        (np.s_[::2], np.s_[::3], True),
        (np.s_[:0], np.s_[:], False),
        (np.s_[:, ::2], np.s_[:, 1::2], False),
    ],
)
def test_views_share_memory_where_they_have_an_entry_in_common(one, other, shared):
    whole = np.zeros((7, 9))
    assert overlap(whole[one], whole[other]) is shared
    assert overlap(torch.from_numpy(whole)[one], torch.from_numpy(whole)[other]) is shared
