"""A way keeps its colour for ever, and no two of those drawn together look alike."""

from itertools import combinations

import pytest

from gradkernels.bench.report.colours import CATALOGUE, DASHES, MARKERS, PALETTE, colour_of, look_of, looks_of
from gradkernels.registry import kernels


@pytest.mark.parametrize(
    ("way", "look"),
    [
        ("numba.fused", ("#0072B2", "solid", "circle")),
        ("torch.vmap", ("#CC79A7", "solid", "triangle-up")),
        ("torch.vmap+", ("#CC79A7", "solid", "triangle-up")),
        ("opacus.ghost", ("#CC79A7", "dot", "triangle-up")),
        ("function.mine", ("#7B5A2E", "solid", "triangle-up")),
    ],
)
def test_a_look_is_that_of_the_first_release(way, look):
    found = look_of(way)
    assert (found.on_light, found.dash, found.marker) == look
    assert colour_of(way) == found.on_light


def test_settings_keep_the_colour():
    assert look_of("torch.compiled[chunk=16]").colour == look_of("torch.compiled").colour
    assert look_of("torch.compiled[chunk=16]") != look_of("torch.compiled")


def test_every_way_of_the_catalogue_is_told_apart_without_colours():
    pairs = [(look.dash, look.marker) for look in CATALOGUE.values()]
    assert len(set(pairs)) == len(pairs)
    assert set(CATALOGUE) <= {kernel.key.rpartition(".")[0].replace("+", "") for kernel in kernels()}


def test_what_is_drawn_together_looks_different_and_keeps_its_colour():
    names = [f"function.f{number}" for number in range(12)] + ["numba.fused", "torch.compiled[chunk=16]"]
    looks = looks_of(names)
    assert list(looks) == names
    assert len({(look.dash, look.marker) for look in looks.values()}) == len(names)
    assert all(looks[name].colour == look_of(name).colour for name in names)
    assert looks["numba.fused"] == CATALOGUE["numba.fused"]
    assert looks_of(reversed(names)) == looks, "whatever the order"


def test_more_ways_than_looks_are_drawn_all_the_same():
    assert len(looks_of(f"function.f{number}" for number in range(len(DASHES) * len(MARKERS) + 3))) == 35


def luminance(colour):
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_are_seen_on_their_page():
    """Contrasts of WCAG 2.1, which asks for 3 where nothing else tells a thing; here line style and marker do too."""
    for light, dark in PALETTE.values():
        assert 1.05 / (luminance(light) + 0.05) > 2.6
        assert (luminance(dark) + 0.05) / (luminance("#1b1b1b") + 0.05) > 5


def as_seen_without(kind, colour):
    """The colour as dichromats see it, by the matrices of Viénot, Brettel & Mollon (1999), in linear light."""
    matrix = {
        "red": [(0.10889, 0.89111, 0.0), (0.10889, 0.89111, 0.0), (0.00447, -0.00447, 1.0)],
        "green": [(0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)],
    }[kind]
    channels = [(int(colour[place : place + 2], 16) / 255) ** 2.2 for place in (1, 3, 5)]
    return [max(0.0, sum(w * c for w, c in zip(row, channels, strict=True))) ** (1 / 2.2) for row in matrix]


@pytest.mark.parametrize("kind", ["red", "green"])
@pytest.mark.parametrize("page", [0, 1])
def test_colours_stay_apart_for_dichromats(kind, page):
    seen = {name: as_seen_without(kind, both[page]) for name, both in PALETTE.items()}
    for one, other in combinations(seen, 2):
        apart = max(abs(a - b) for a, b in zip(seen[one], seen[other], strict=True))
        assert apart > 0.08, (one, other)
