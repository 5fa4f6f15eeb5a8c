"""How a way looks in every picture and on every page: its colour belongs to its name, whatever else is drawn beside it.

The colours are those of Okabe & Ito (2008), which people tell apart who see colours differently, two of them darker so
that a line is seen on white; each has a sister for a dark page. Beside its colour a way has a line style and a marker:
no two ways of the catalogue share both, so that a picture printed in grey can be read too.

What is in the table below keeps its look for ever. Any other name (of a kernel or a function of somebody's own) gets
one from its letters, which is as lasting. Names of line styles and markers are those of plotly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

DASHES = ("solid", "dash", "dot", "dashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")

PALETTE = {
    "blue": ("#0072B2", "#4A93DB"),
    "vermillion": ("#D55E00", "#FF7B33"),
    "green": ("#009E73", "#2CC99B"),
    "pink": ("#CC79A7", "#EFA6CC"),
    "orange": ("#D98E00", "#FFCB57"),
    "sky": ("#3BA3DC", "#93DAFF"),
    "black": ("#2B2B2B", "#F4F4F4"),
    "brown": ("#7B5A2E", "#A98550"),
}
"""Each colour on a light page and on a dark one."""


@dataclass(frozen=True)
class Look:
    """How a way is drawn.

    Attributes:
        colour: Its name in PALETTE.
        dash: One of DASHES.
        marker: One of MARKERS.
    """

    colour: str
    dash: str
    marker: str

    @property
    def on_light(self) -> str:
        """The colour on a light page, `#0072B2`."""
        return PALETTE[self.colour][0]

    @property
    def on_dark(self) -> str:
        """The colour on a dark page."""
        return PALETTE[self.colour][1]


CATALOGUE = {
    "numba.fused": Look("blue", "solid", "circle"),
    "jax.vmap": Look("vermillion", "solid", "square"),
    "numpy.broadcast": Look("green", "solid", "diamond"),
    "torch.vmap": Look("pink", "solid", "triangle-up"),
    "torch.hooks": Look("orange", "solid", "triangle-down"),
    "numpy.matmul": Look("sky", "solid", "cross"),
    "torch.loop": Look("black", "solid", "x"),
    "torch.autograd": Look("brown", "solid", "star"),
    "torch.recorded": Look("blue", "dash", "square"),
    "jax.grad": Look("vermillion", "dash", "circle"),
    "numpy.blocked": Look("green", "dash", "triangle-up"),
    "torch.compiled": Look("pink", "dash", "diamond"),
    "opacus.hooks": Look("orange", "dash", "cross"),
    "torch.closed": Look("sky", "dash", "triangle-down"),
    "numpy.loop": Look("black", "dash", "star"),
    "torch.compiled_hooks": Look("brown", "dash", "x"),
    "sklearn.loss": Look("blue", "dot", "star"),
    "backpack.l2": Look("vermillion", "dot", "cross"),
    "backpack.batch": Look("green", "dot", "triangle-down"),
    "opacus.ghost": Look("pink", "dot", "triangle-up"),
    "opacus.functorch": Look("orange", "dot", "circle"),
    "torch.jacobian": Look("sky", "dot", "square"),
    "statsmodels.score_obs": Look("black", "dot", "x"),
    "opacus.ew": Look("brown", "dot", "diamond"),
    "backpack.variance": Look("blue", "dashdot", "diamond"),
    "torch.reweighted": Look("vermillion", "dashdot", "triangle-up"),
}


def look_of(way: str) -> Look:
    """Return the look of a way, by its name alone; with settings it has the colour of the way without.

    Args:
        way: `numba.fused`, `torch.vmap+` or `torch.compiled[chunk=16]`; a `+` changes nothing.
    """
    plain, bracket, settings = way.replace("+", "").partition("[")
    base = CATALOGUE.get(plain) or _by_letters(plain)
    if not bracket:
        return base
    other = _by_letters(settings)
    return replace(base, dash=other.dash, marker=other.marker)


def colour_of(way: str) -> str:
    """Return the colour of a way on a light page, `#0072B2`."""
    return look_of(way).on_light


def looks_of(ways: Iterable[str]) -> dict[str, Look]:
    """Return the looks of ways that are drawn together, no two with one line style and marker while there are others.

    Each has the colour of `look_of`. Those of the catalogue have all of their look; another way whose line style and
    marker are taken has the next that are free.
    """
    names = list(dict.fromkeys(ways))
    found = {name: look_of(name) for name in names if name.replace("+", "") in CATALOGUE}
    taken = {(look.dash, look.marker) for look in found.values()}
    for name in sorted(name for name in names if name not in found):
        found[name] = _free(look_of(name), taken)
        taken.add((found[name].dash, found[name].marker))
    return {name: found[name] for name in names}


def _free(look: Look, taken: set[tuple[str, str]]) -> Look:
    """Return a look with a line style and marker that are free; as it is where none are."""
    first = DASHES.index(look.dash) * len(MARKERS) + MARKERS.index(look.marker)
    pairs = (_pair(first + step) for step in range(len(DASHES) * len(MARKERS)))
    dash, marker = next((pair for pair in pairs if pair not in taken), (look.dash, look.marker))
    return replace(look, dash=dash, marker=marker)


def _pair(number: int) -> tuple[str, str]:
    turn, place = divmod(number, len(MARKERS))
    return DASHES[turn % len(DASHES)], MARKERS[place]


def _by_letters(name: str) -> Look:
    """Return a look that follows from a name, evenly spread over all there are."""
    number = int.from_bytes(hashlib.sha256(name.encode(errors="replace")).digest()[:4], "big")
    rest, colour = divmod(number, len(PALETTE))
    dash, marker = _pair(rest)
    return Look(list(PALETTE)[colour], dash, marker)
