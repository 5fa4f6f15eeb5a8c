"""Where a rule says that samples are in an output, they are: Jacobians say on what each entry depends."""

import pytest
import torch
from torch.nn import functional as F

from gradkernels.engines.hooks.capture.follow.output_axis import AXIS_RULES, axis_rule_of
from gradkernels.engines.hooks.capture.follow.tracked_call import Mixes, TrackedArgument, TrackedCall
from gradkernels.engines.hooks.capture.sample_axis import Axis

N = 3
X = (4, 5)  # of one sample


def spread(axis, shape, seed=0):
    """A tensor of n samples along an axis, in double precision."""
    torch.manual_seed(seed)
    sizes = [*shape]
    sizes.insert(axis, N)
    return torch.randn(sizes, dtype=torch.float64) + 2 * torch.arange(N).view(-1, *[1] * (len(shape) - axis))


IDS = torch.tensor([2, 0, 1])
UNARY = {
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "in place": lambda x: x.clone().mul_(2),
    "to": lambda x: x.to(torch.float32).double(),
    "where": lambda x: torch.where(x > 0, x, -x),
    "add broadcast": lambda x: x + torch.ones(7, *x.shape, dtype=x.dtype),
    "transpose": lambda x: x.transpose(0, -1),
    "swapaxes": lambda x: torch.swapaxes(x, 0, 1),
    "permute": lambda x: x.permute(2, 0, 1),
    "permute tuple": lambda x: torch.permute(x, (1, 2, 0)),
    "mT": lambda x: x.mT,
    "T": lambda x: x.flatten(1).T,
    "t": lambda x: x.flatten(1).t(),
    "movedim": lambda x: x.movedim(0, -1),
    "movedim several": lambda x: torch.movedim(x, (0, 1), (1, 0)),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "unsqueeze last": lambda x: x.unsqueeze(-1),
    "squeeze": lambda x: x.unsqueeze(0).squeeze(0),
    "squeeze all": lambda x: x[:, None, :, None].squeeze(),
    "expand": lambda x: x.unsqueeze(0).expand(2, -1, -1, -1),
    "repeat others": lambda x: x.repeat(1, 2, 1),
    "repeat samples": lambda x: x.repeat(2, 1, 1),
    "tile": lambda x: torch.tile(x, (2,)),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 0),
    "repeat_interleave others": lambda x: torch.repeat_interleave(x, 2, dim=1),
    "cat": lambda x: torch.cat([x, 2 * x], 1),
    "cat constant": lambda x: torch.cat([torch.ones_like(x).detach(), x], dim=-1),
    "stack": lambda x: torch.stack([x, x.exp()]),
    "stack last": lambda x: torch.stack([x, x.exp()], -1),
    "flatten": lambda x: x.flatten(1),
    "flatten samples": lambda x: x.flatten(0, 1),
    "view": lambda x: x.view(-1, 5),
    "reshape": lambda x: x.reshape(x.shape[0], 2, -1),
    "unflatten": lambda x: x.flatten(0, 1).unflatten(0, (x.shape[0], -1)),
    "unbind": lambda x: x.unbind(1)[1],
    "select": lambda x: x.select(-1, 2),
    "split": lambda x: x.split(2, 1)[1],
    "split others": lambda x: torch.split(x, [1, 4], dim=2)[1],
    "chunk": lambda x: x.chunk(2, -1)[0],
    "narrow": lambda x: x.narrow(1, 1, 2),
    "getitem": lambda x: x[:, 1],
    "getitem none": lambda x: x[None, :, ..., 2],
    "getitem slices": lambda x: x[:, 1:3, ::2],
    "getitem dims": lambda x: x[..., None],
    "getitem pairs": lambda x: x[torch.arange(len(x)), torch.tensor([3, 0, 1])],
    "getitem same order": lambda x: x[torch.arange(len(x))],
    "getitem others": lambda x: x[:, torch.tensor([3, 1, 1])],
    "getitem other order": lambda x: x[IDS],
    "getitem there and back": lambda x: x[IDS][IDS.argsort()],
    "other order, merged": lambda x: x[IDS].flatten(0, 1).exp(),
    "other order, moved": lambda x: x.transpose(0, 1)[:, IDS].repeat_interleave(2, 1),
    "other order by index_select": lambda x: torch.index_select(x.transpose(0, 1), -2, IDS).sum(0),
    "two orders, one after the other": lambda x: x[IDS][IDS],
    "index_select": lambda x: x.index_select(1, torch.tensor([3, 1])),
    "gather": lambda x: x.gather(1, torch.zeros(len(x), 2, 5, dtype=torch.int64)),
    "scatter": lambda x: torch.zeros_like(x).detach().scatter(1, torch.zeros(x.shape, dtype=torch.int64), x),
    "sum": lambda x: x.sum(1),
    "sum kept": lambda x: x.sum((1, 2), keepdim=True),
    "mean": lambda x: torch.mean(x, dim=-1),
    "amax": lambda x: x.amax(dim=(1,)),
    "max": lambda x: x.max(1).values,
    "max of two": lambda x: torch.max(x, -x),
    "std": lambda x: x.std(dim=1),
    "var": lambda x: torch.var(x, 2, keepdim=True),
    "norm": lambda x: x.norm(2, 1),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, dim=1),
    "logsumexp": lambda x: x.logsumexp(1),
    "softmax": lambda x: x.softmax(-1),
    "F.softmax": lambda x: F.softmax(x, dim=1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "cumsum": lambda x: x.cumsum(1),
    "sort": lambda x: x.sort(1).values,
    "topk": lambda x: x.topk(2, 1).values,
    "flip": lambda x: x.flip(1),
    "roll": lambda x: x.roll(1, 2),
    "glu": lambda x: F.glu(x, 1),
    "normalize": lambda x: F.normalize(x, dim=1),
    "linear": lambda x: F.linear(x, torch.ones(2, 5, dtype=x.dtype)),
    "layer_norm": lambda x: F.layer_norm(x, (5,)),
    "matmul left": lambda x: x @ torch.ones(5, 2, dtype=x.dtype),
    "matmul right": lambda x: torch.ones(2, 4, dtype=x.dtype) @ x,
    "matmul vector": lambda x: x @ torch.ones(5, dtype=x.dtype),
    "matmul of itself": lambda x: x @ x.mT,
    "rmatmul": lambda x: torch.ones(3, 2, 4, dtype=x.dtype).matmul(x),
    "columns": lambda x: torch.ones(6, 20, dtype=x.dtype) @ x.flatten(1).T,
    "rows": lambda x: x.flatten(1) @ torch.ones(20, 6, dtype=x.dtype),
    "bmm": lambda x: torch.bmm(x, torch.ones(3, 5, 2, dtype=x.dtype)),
    "baddbmm": lambda x: torch.baddbmm(torch.ones(3, 4, 4, dtype=x.dtype), x, x.mT, beta=2),
    "addmm": lambda x: torch.addmm(torch.ones(6, dtype=x.dtype), x.flatten(1), torch.ones(20, 6, dtype=x.dtype)),
    "mv": lambda x: torch.mv(x.flatten(1), torch.ones(20, dtype=x.dtype)),
    "outer": lambda x: torch.outer(x[:, 0, 0], torch.ones(4, dtype=x.dtype)),
    "einsum": lambda x: torch.einsum("nij,jk->kni", x, torch.ones(5, 2, dtype=x.dtype)),
    "einsum of itself": lambda x: torch.einsum("nij,nkj->nik", x, x),
    "conv1d": lambda x: F.conv1d(x, torch.ones(2, 4, 2, dtype=x.dtype)),
    "conv of merged": lambda x: F.conv1d(x.flatten(0, 1)[:, None], torch.ones(2, 1, 2, dtype=x.dtype)),
    "max_pool": lambda x: F.max_pool1d(x, 2),
    "avg_pool": lambda x: F.adaptive_avg_pool1d(x, 2),
    "group_norm": lambda x: F.group_norm(x, 2),
    "pad": lambda x: F.pad(x, (1, 1)),
    "pad two": lambda x: F.pad(x, (1, 1, 2, 0)),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2),
    "windows": lambda x: x.unfold(1, 2, 1),
    "patches": lambda x: F.unfold(x[:, None], 2),
    "patches, padded": lambda x: F.unfold(x.unsqueeze(1), (2, 3), stride=2, padding=1),
    "patches and back": lambda x: F.fold(F.unfold(x[:, None], 2), (4, 5), 2),
    "im2col": lambda x: torch.nn.Unfold(2)(x[:, None]),
    "affine_grid": lambda x: F.affine_grid(x[:, :2, :3], [3, 1, 4, 4], align_corners=False),
    "attention": lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None].exp(), x[:, None]),
    "distances": lambda x: torch.cdist(x, torch.ones(2, 5, dtype=x.dtype)),
    "distances to itself": lambda x: torch.cdist(x, x.exp()),
    "distances of rows": lambda x: torch.cdist(x.flatten(1), torch.ones(2, 20, dtype=x.dtype)),
    "distances to rows": lambda x: torch.cdist(torch.ones(2, 20, dtype=x.dtype), x.flatten(1)),
    "cosine": lambda x: F.cosine_similarity(x, x.exp(), dim=1),
    "setitem": lambda x: torch.zeros(3, 6, 4, 5, dtype=x.dtype).index_fill(1, torch.tensor([0]), 0) + x[:, None],
}
ALONG = {
    "mean over all": lambda x: x.mean(),
    "mean over samples": lambda x: x.mean(0),
    "centred": lambda x: x.softmax(0),
    "running": lambda x: x.cumsum(0),
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1, 0),
    "roll flat": lambda x: x.roll(1),
    "sorted": lambda x: x.sort(0).values,
    "two orders of samples": lambda x: x[IDS] + x,
    "some by index_select": lambda x: x.index_select(0, IDS[:2]),
    "one twice": lambda x: x[torch.tensor([0, 1, 1])],
    "some": lambda x: x[:2],
    "mask": lambda x: x[torch.tensor([True, False, True])],
    "one": lambda x: x[0],
    "unbind": lambda x: x.unbind(0)[0],
    "split": lambda x: x.split(1)[0],
    "one behind the other": lambda x: torch.cat([x, x]),
    "contracted": lambda x: torch.ones(2, 3, dtype=x.dtype) @ x.flatten(1),
    "pairs": lambda x: x.flatten(1) @ x.flatten(1).T,
    "einsum": lambda x: torch.einsum("nij->ij", x),
    "over two axes": lambda x: x.reshape(5, 12)[:, :5],
    "unknown": lambda x: torch.linalg.qr(x.flatten(1)).Q,
    "two orders": lambda x: x.flatten(1)[:, :3] + x.flatten(1)[:, :3].T,
    "windows of samples": lambda x: x.unfold(0, 2, 1),
    "patches without samples": lambda x: F.unfold(x, 2),
    "patches of channels": lambda x: F.unfold(x.transpose(0, 1)[:, :, None], (1, 2)),
    "fold without samples": lambda x: F.fold(x.reshape(3, 20), (4, 5), 1),
    "distances of samples": lambda x: torch.cdist(x.flatten(1), x.flatten(1).exp()),
    "weight": lambda x: F.linear(torch.ones(3, 20, dtype=x.dtype), x.flatten(1)),
    "weight and data": lambda x: F.linear(x.flatten(1), x.flatten(1)),
    "kernel": lambda x: F.conv1d(x, x[:, :, :2]),
    "scale": lambda x: F.layer_norm(x.flatten(1)[:, :3], (3,), x[:, 0, 0]),
    "unbatched convolution": lambda x: F.conv1d(x.flatten(1), torch.ones(2, 3, 2, dtype=x.dtype)),
}


class Follower(torch.overrides.TorchFunctionMode):
    """Follows the samples of one tensor by the rules."""

    def __init__(self, x):
        super().__init__()
        self.known = {id(x): (x, Axis(0))}
        self.lost = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        flat = [("args", i, one) for i, one in enumerate(args)] + [("kwargs", k, v) for k, v in (kwargs or {}).items()]
        inside = [(where, key, part) for where, key, one in flat
                  for part in (one if isinstance(one, list | tuple) else [one])]  # fmt: skip
        data = [TrackedArgument((where, key), one, self.known[id(one)][1], True)
                for where, key, one in inside if isinstance(one, torch.Tensor) and id(one) in self.known]  # fmt: skip
        outputs = result if isinstance(result, list | tuple) else [result]
        for at, output in enumerate(outputs):
            if data and isinstance(output, torch.Tensor) and output.requires_grad:
                self._learn(func, args, kwargs or {}, data, output, at)
        return result

    def _learn(self, func, args, kwargs, data, output, at):
        rule = axis_rule_of(func)
        try:
            axis = rule(TrackedCall(func, args, kwargs, data, N, at), output) if rule else None
        except Mixes:
            axis = None
        if axis is not None and axis.fits(output.shape, N):
            self.known[id(output)] = output, axis
        else:
            self.lost = True


def follow(function, x):
    mode = Follower(x)
    with mode:
        output = function(x)
    found = mode.known.get(id(output))
    return output, None if found is None else found[1]


@pytest.mark.parametrize("name", UNARY)
def test_an_entry_depends_on_its_own_sample_alone(name):
    x = spread(0, X).requires_grad_()
    output, axis = follow(UNARY[name], x)
    assert axis is not None, "the rule should know"
    of = axis.numbers(output.shape, N, x.device).reshape(-1)
    jacobian = torch.autograd.functional.jacobian(UNARY[name], x).reshape(output.numel(), N, -1)
    depends = jacobian.abs().sum(2) > 0
    assert depends.any()
    for entry, sample in enumerate(of.tolist()):
        assert not depends[entry, [other for other in range(N) if other != sample]].any()


@pytest.mark.parametrize("name", ALONG)
def test_what_takes_samples_together_or_elsewhere_is_lost(name):
    x = spread(0, X).requires_grad_()
    _, axis = follow(ALONG[name], x)
    assert axis is None


def test_every_rule_is_for_a_function_of_torch():
    places = [torch, torch.Tensor, F, torch.linalg, torch.special, torch._C._nn, torch._C._VariableFunctions]
    names = {name for place in places for name in dir(place)}
    known = {name.removesuffix("_") for name in names} | names
    assert [name for name in AXIS_RULES if name.removeprefix("special_").removeprefix("linalg_") not in known] == []
