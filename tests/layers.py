"""Every layer that the hooks have a rule for, with its options: what is run to prove each rule."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

PLAIN, STEPS, STEPS_BEFORE, SEQUENCE = "samples first", "time and samples merged", "samples last in time", "time first"
MERGED = (PLAIN, STEPS, STEPS_BEFORE)
ANYWHERE = (*MERGED, SEQUENCE)
T = 3  # steps of the layouts; sizes, steps and numbers of samples coincide on purpose


@dataclass(frozen=True)
class Case:
    """A layer and what a sample of its input is.

    Attributes:
        make: Makes the layer.
        shape: Of a sample.
        words: The number of words, where the input is made of those.
        layouts: Where the samples may be in the input.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    words: int = 0
    layouts: tuple[str, ...] = (PLAIN,)

    def model(self, layout: str) -> nn.Module:
        """The layer with three outputs, behind another one where that is possible; float64, in eval mode."""
        learned = [] if self.words else [nn.Linear(self.shape[-1], self.shape[-1])]
        model = nn.Sequential(*learned, Placed(self.make(), layout), Outputs()).double()
        with torch.no_grad():
            for name, tensor in (*model.named_parameters(), *model.named_buffers()):
                if tensor.is_floating_point():
                    torch.nn.init.uniform_(tensor, 0.5 if "var" in name else -1, 1.5 if "var" in name else 1)
        return model.eval()

    def x(self, n: int, layout: str) -> torch.Tensor:
        """n samples."""
        shape = (n, *self.shape) if layout == PLAIN else (n, T, *self.shape)
        if not self.words:
            return torch.randn(shape, dtype=torch.float64)
        words = torch.randint(self.words, shape)
        words.view(n, -1)[:, 0] = 1  # which is never the padding: no row is zero
        return words


class Placed(nn.Module):
    """A layer that sees its samples in a layout; `(n, ...)`, or `(n, T, ...)`, in and out."""

    def __init__(self, layer: nn.Module, layout: str) -> None:
        super().__init__()
        self.layer, self.layout = layer, layout

    def forward(self, x):
        n = len(x)
        if self.layout == STEPS:
            return self.layer(x.flatten(0, 1)).unflatten(0, (n, T))
        if self.layout == STEPS_BEFORE:
            return self.layer(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (T, n)).transpose(0, 1)
        return self.layer(x.transpose(0, 1)).transpose(0, 1) if self.layout == SEQUENCE else self.layer(x)


class Outputs(nn.Module):
    """Three numbers that every entry of a sample has its own share in."""

    def forward(self, h):
        h = h.tanh().flatten(1)
        shares = torch.arange(1.0, 1 + 3 * h.shape[1], dtype=torch.float64).view(-1, 3)
        return h @ (shares * shares).sin().to(h.dtype) / h.shape[1] ** 0.5


class Attention(nn.Module):
    """Attention to itself, to a memory, or with other values than keys; with its weights as a second output."""

    def __init__(self, to="self", need_weights=True, average=True, mask=None, padded=False, causal=False, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, **options)
        self.to, self.batch_first = to, options.get("batch_first", False)
        self.options = {"need_weights": need_weights, "average_attn_weights": average, "is_causal": causal}
        self.mask, self.padded, self.other = mask, padded, options.get("kdim", 4) - 4

    def forward(self, x):
        n, steps = x.shape[:2]
        memory = nn.functional.pad(x, (0, self.other)) * 2 if self.to != "self" else x
        padding = torch.arange(steps).expand(n, steps) == steps - 1 if self.padded else None
        if not self.batch_first:
            x, memory = (x.transpose(0, 1), memory.transpose(0, 1)) if self.to != "self" else (x.transpose(0, 1),) * 2
        if self.to == "self":
            memory = x
        values = memory.sin() if self.to == "values" else memory
        mask = _mask(self.mask, steps, n, x.dtype)
        h, weights = self.attention(x, memory, values, key_padding_mask=padding, attn_mask=mask, **self.options)
        h = h if self.batch_first else h.transpose(0, 1)
        return h.flatten(1) if weights is None else torch.cat([h.flatten(1), weights.flatten(1)], 1)


def _mask(kind, steps, n, dtype):
    earlier = torch.ones(steps, steps, dtype=torch.bool).triu(1)
    if kind == "bool":
        return earlier
    if kind == "float":
        return torch.zeros(steps, steps, dtype=dtype).masked_fill(earlier, -float("inf"))
    return torch.linspace(0, 1, steps * steps, dtype=dtype).view(steps, steps).expand(2 * n, -1, -1) if kind else None


class Decoder(nn.Module):
    """A decoder layer that looks at the sequence itself, backwards."""

    def __init__(self, **options):
        super().__init__()
        self.layer, self.batch_first = nn.TransformerDecoderLayer(4, 2, 6, 0.0, **options), options["batch_first"]

    def forward(self, x):
        if self.batch_first:
            return self.layer(x, x.flip(1))
        return self.layer(x.transpose(0, 1), x.transpose(0, 1).flip(0)).transpose(0, 1)


class Encoder(nn.Module):
    """An encoder of two layers."""

    def __init__(self, **options):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 6, 0.0, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.batch_first = options["batch_first"]

    def forward(self, x):
        return self.encoder(x) if self.batch_first else self.encoder(x.transpose(0, 1)).transpose(0, 1)


class Pairs(nn.Module):
    """A bilinear map of x and something made of it."""

    def __init__(self, bias):
        super().__init__()
        self.layer = nn.Bilinear(4, 3, 5, bias)

    def forward(self, x):
        return self.layer(x, x[..., :3].sin())


class Bag(nn.Module):
    """A bag, weighted by its own words."""

    def __init__(self, **options):
        super().__init__()
        self.bag = nn.EmbeddingBag(5, 4, mode="sum", **options)

    def forward(self, words):
        return self.bag(words, per_sample_weights=words.to(self.bag.weight.dtype).cos())


def _linear():
    for shape, bias in product([(4,), (2, 4), (3, 4), (2, 3, 4), (2, 3, 2, 4)], [True, False]):
        layouts = MERGED if len(shape) == 1 else ANYWHERE
        yield f"{shape} bias={bias}", Case(lambda b=bias: nn.Linear(4, 3, b), shape, layouts=layouts)


def _bilinear():
    for shape, bias in product([(4,), (3, 4), (2, 3, 4)], [True, False]):
        layouts = MERGED if len(shape) == 1 else ANYWHERE
        yield f"{shape} bias={bias}", Case(lambda bias=bias: Pairs(bias), shape, layouts=layouts)


def _in_place():
    """What changes a layer's output where it is."""
    for shape, bias in product([(4,), (3, 4)], [True, False]):
        make = lambda bias=bias: nn.Sequential(nn.Linear(4, 3, bias), nn.LeakyReLU(0.3, inplace=True))  # noqa: E731
        yield f"linear {shape} bias={bias}", Case(make, shape, layouts=MERGED)
    layers = {
        "conv1d": lambda: nn.Conv1d(4, 4, 2),
        "conv2d": lambda: nn.Conv2d(4, 4, 2),
        "transposed": lambda: nn.ConvTranspose1d(4, 4, 2),
        "group": lambda: nn.GroupNorm(2, 4),
        "instance": lambda: nn.InstanceNorm1d(4, affine=True),
        "instance learned": lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
        "batch": lambda: nn.BatchNorm1d(4),
        "layer": lambda: nn.LayerNorm(3),
        "rms": lambda: nn.RMSNorm(3),
    }
    for name, make in layers.items():
        model = lambda make=make: nn.Sequential(make(), nn.LeakyReLU(0.3, inplace=True))  # noqa: E731
        yield name, Case(model, (4, 4, 3) if name == "conv2d" else (4, 3), layouts=MERGED)


CONVOLUTIONS = (
    {},
    {"bias": False},
    {"stride": 2},
    {"padding": 1},
    {"stride": 3, "padding": 2},
    {"dilation": 2, "padding": 1},
    {"stride": 2, "dilation": 2, "padding": 2},
    {"padding": "same"},
    {"padding": "same", "dilation": 2},
    {"padding": "valid"},
    {"groups": 2},
    {"groups": 4, "padding": 1},
    {"groups": 2, "stride": 2, "dilation": 2, "padding": 2, "bias": False},
    {"padding": 1, "padding_mode": "circular"},
    {"padding": 2, "padding_mode": "reflect"},
    {"padding": 1, "padding_mode": "replicate", "stride": 2},
    {"padding": "same", "padding_mode": "circular"},
    {"kernel_size": 1},
    {"kernel_size": 2, "padding": "same"},
    {"kernel_size": 4, "padding": 1, "stride": 2},
)
OF_AXES = (
    {"kernel_size": (3, 2), "stride": (1, 2), "padding": (2, 0), "dilation": (1, 2)},
    {"kernel_size": (2, 4), "padding": "same", "groups": 2},
    {"kernel_size": (1, 5), "padding": (0, 2), "groups": 4, "stride": (2, 1)},
    {"kernel_size": (2, 3), "padding": (1, 0), "padding_mode": "circular"},
)
TRANSPOSED = (
    {},
    {"bias": False},
    {"stride": 2},
    {"padding": 1},
    {"padding": 2, "stride": 3, "output_padding": 1},
    {"stride": 3, "output_padding": 2},
    {"dilation": 2},
    {"dilation": 3, "stride": 2, "output_padding": 2, "padding": 1},
    {"groups": 2, "stride": 2},
    {"groups": 4, "padding": 1, "dilation": 2, "bias": False},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 4, "padding": 2, "output_padding": 1, "stride": 2, "groups": 2},
)
PLACES = {1: (6,), 2: (4, 5), 3: (4, 3, 4)}


def _convolution(layers, options):
    for dims, given in product(PLACES, options):
        if dims == 3 and given.get("padding_mode") == "reflect":
            continue  # the library's own backward pass of it draws a warning
        name, kernel = f"{dims}d {given}", given.get("kernel_size", 3 if dims < 3 else 2)
        more = {key: value for key, value in given.items() if key != "kernel_size"}
        make = lambda layer=layers[dims - 1], kernel=kernel, more=more: layer(4, 4, kernel, **more)  # noqa: E731
        yield name, Case(make, (4, *PLACES[dims]), layouts=MERGED)


def _of_axes():
    for given in OF_AXES:
        yield f"2d {given}", Case(lambda given=given: nn.Conv2d(4, 4, **given), (4, *PLACES[2]), layouts=MERGED)
    options = {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 1), "output_padding": (1, 0), "groups": 2}
    make = lambda: nn.ConvTranspose2d(4, 6, dilation=(1, 2), **options)  # noqa: E731
    yield "transposed 2d of axes", Case(make, (4, *PLACES[2]), layouts=MERGED)


def _embedding():
    for shape, padding in product([(), (3,), (2, 3), (20,)], [None, 2, -1]):
        if not shape and padding is not None:
            continue  # a sample of nothing but padding
        make = lambda padding=padding: nn.Embedding(5, 4, padding_idx=padding)  # noqa: E731
        yield f"{shape} padding_idx={padding}", Case(make, shape, 5, ANYWHERE if shape else MERGED)


def _bag():
    for mode, padding, t in product(("sum", "mean", "max"), (None, 2, -1), (1, 3, 8)):
        if t == 1 and padding is not None:
            continue
        make = lambda mode=mode, padding=padding: nn.EmbeddingBag(5, 4, mode=mode, padding_idx=padding)  # noqa: E731
        yield f"{mode} of {t} padding_idx={padding}", Case(make, (t,), 5, MERGED)
    for padding in (None, 2):
        yield f"weighted padding_idx={padding}", Case(lambda p=padding: Bag(padding_idx=p), (3,), 5, MERGED)


def _normalization():
    for shape, bias in product([(4,), (3, 4), (2, 3, 4)], [True, False]):
        for size in range(1, len(shape) + 1):
            make = lambda of=shape[-size:], bias=bias: nn.LayerNorm(of, bias=bias)  # noqa: E731
            yield f"layer {shape[-size:]} of {shape} {bias}", _normal(make, shape, size)
            if bias:
                make = lambda of=shape[-size:]: nn.RMSNorm(of, eps=None if len(of) == 1 else 1e-2)  # noqa: E731
                yield f"rms {shape[-size:]} of {shape}", _normal(make, shape, size)
    for dims, channels in product((0, 1, 2, 3), (4,)):
        shape = (channels, *((3,), (3,), (3, 2), (2, 3, 2))[dims])[: 1 + dims]
        for groups in (1, 2, 4):
            if dims or groups == 1:  # of two entries alone float32 knows too little
                yield f"{groups} groups of {shape}", Case(lambda g=groups: nn.GroupNorm(g, 4), shape, layouts=MERGED)
        if dims:
            layer = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 1]
            for learned in (False, True):
                make = lambda layer=layer, of=learned: layer(4, affine=True, track_running_stats=of)  # noqa: E731
                yield f"instance {shape} learned={learned}", Case(make, shape, layouts=MERGED)
        batch = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims]
        yield f"batch {shape}", Case(lambda layer=batch: layer(4), shape, layouts=MERGED)


def _normal(make, shape, size):
    return Case(make, shape, layouts=ANYWHERE if len(shape) > size else MERGED)


def _plain_normalization():
    """Without a parameter there is nothing to differentiate by; what is before them is."""
    layers = {
        "layer": lambda: nn.LayerNorm(4, elementwise_affine=False),
        "rms": lambda: nn.RMSNorm(4, elementwise_affine=False),
        "group": lambda: nn.GroupNorm(2, 4, affine=False),
        "instance": lambda: nn.InstanceNorm1d(4),
        "batch": lambda: nn.BatchNorm1d(4, affine=False),
    }
    for name, make in layers.items():
        yield f"{name} without parameters", Case(make, (4, 4), layouts=MERGED)


def _prelu():
    for shape in [(4,), (4, 3), (4, 3, 2)]:
        yield f"one slope {shape}", Case(nn.PReLU, shape, layouts=ANYWHERE)
        yield f"slopes {shape}", Case(lambda: nn.PReLU(4), shape, layouts=MERGED)


def _attention():
    for to, first, weights in product(("self", "memory", "values"), (True, False), (True, False)):
        make = lambda to=to, first=first, w=weights: Attention(to, w, batch_first=first)  # noqa: E731
        yield f"to {to} batch_first={first} need_weights={weights}", Case(make, (T, 4))
    options = {
        "each head's weights": {"average": False},
        "bool mask": {"mask": "bool"},
        "float mask": {"mask": "float", "need_weights": False},
        "mask of each sample": {"mask": "each"},
        "mask of each sample, no weights": {"mask": "each", "need_weights": False},
        "padding": {"padded": True},
        "padding, no weights": {"padded": True, "need_weights": False},
        "padding and mask": {"padded": True, "mask": "bool", "batch_first": True},
        "causal": {"mask": "bool", "causal": True, "need_weights": False},
        "causal with weights": {"mask": "float", "causal": True},
        "no bias": {"bias": False},
        "bias of keys": {"add_bias_kv": True},
        "zero to attend to": {"add_zero_attn": True, "batch_first": True},
        "both, no weights": {"add_bias_kv": True, "add_zero_attn": True, "need_weights": False, "padded": True},
        "other sizes": {"to": "memory", "kdim": 6, "vdim": 6},
        "other sizes, other values": {"to": "values", "kdim": 6, "vdim": 6, "batch_first": True, "need_weights": False},
    }
    for name, given in options.items():
        yield name, Case(lambda given=given: Attention(**given), (T, 4))


def _transformer():
    for layer, norm_first, batch_first in product((Encoder, Decoder), (True, False), (True, False)):
        given = {"norm_first": norm_first, "batch_first": batch_first}
        yield f"{layer.__name__} {given}", Case(lambda layer=layer, given=given: layer(**given), (T, 4))


CONV, CONV_TRANSPOSE = (nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
KINDS = {
    "linear": _linear(),
    "bilinear": _bilinear(),
    "in place": _in_place(),
    "convolution": _convolution(CONV, CONVOLUTIONS),
    "transposed": _convolution(CONV_TRANSPOSE, TRANSPOSED),
    "axes": _of_axes(),
    "embedding": _embedding(),
    "bag": _bag(),
    "normalization": _normalization(),
    "plain": _plain_normalization(),
    "prelu": _prelu(),
    "attention": _attention(),
    "transformer": _transformer(),
}
CASES = {f"{kind}: {name}": case for kind, of_kind in KINDS.items() for name, case in of_kind}
"""All of them by name."""
