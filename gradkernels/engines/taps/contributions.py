"""What a batch leaves of each parameter: factors whose product is its gradient, or rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gradkernels.backend import Array
from gradkernels.engines.taps.program import Line, SampleProgram, program_of
from gradkernels.engines.taps.rules import Factors, TapRule, rule_of
from gradkernels.tree import Tree

REARRANGING = {"transpose", "reshape", "squeeze", "expand_dims", "rev", "copy"}
"""Equations that keep every entry of a parameter once, and with them its length."""


@dataclass(frozen=True, eq=False)
class TappedUse:
    """The only use of a parameter, by an equation that has a rule.

    Attributes:
        leaf: Place of the parameter among theta's arrays.
        value: Number of what is used: the parameter, or it rearranged.
        site: Place of the equation.
        rule: For it.
    """

    leaf: int
    value: int
    site: int
    rule: TapRule


@dataclass(frozen=True, eq=False)
class Contributions:
    """What a batch of n samples leaves.

    Attributes:
        program: The equations.
        theta: Parameters, in order.
        uses: Of those parameters that have factors.
        factors: Of each use a `(n, T, i)` and b `(n, T, o)`.
        rows: Of the other parameters `(n, *shape)`, by place.
        outputs: Of the program, `(n, *shape)` each: the losses, and what goes beside them.
    """

    program: SampleProgram
    theta: list[Array]
    uses: list[TappedUse]
    factors: list[Factors]
    rows: dict[int, Array]
    outputs: list[Array]

    def pulled(self, use: TappedUse, matrix: Array) -> Array:
        """Return a gradient `(i, o)` of what is used as one of the parameter."""
        (found,) = jax.vjp(self._maker(use), self.theta[use.leaf])[1](use.rule.restored(matrix))
        return found

    def pushed(self, use: TappedUse, direction: Array) -> Array:
        """Return a direction of the parameter's shape as `(i, o)`, one of what is used."""
        return use.rule.flat(self._maker(use)(direction))

    def _maker(self, use: TappedUse) -> Callable[[Array], Array]:
        def made(parameter: Array) -> Array:
            theta = [parameter if place == use.leaf else one for place, one in enumerate(self.theta)]
            return self.program.prepared(theta)[use.value]

        return made


def contributions(loss: Callable[..., Array], theta: Tree, x: Tree, y: Tree) -> Contributions:
    """Run one forward and one backward pass.

    Args:
        loss: `loss(theta, x, y)` of one sample.
        theta: Parameters, flat.
        x: Inputs of n samples.
        y: Targets.

    Raises:
        Unfit: The function cannot be tapped.
    """
    return of_program(program_of(loss, theta, (x, y)), jax.tree.leaves(theta), jax.tree.leaves((x, y)))


def of_program(program: SampleProgram, theta: list[Array], batch: list[Array]) -> Contributions:
    """Run one forward and one backward pass of a program.

    Args:
        program: The equations.
        theta: Parameters, in order.
        batch: Arrays of n samples, in order.
    """
    uses = uses_of(program)
    factors, rows, outputs = jax.vmap(lambda *sample: _of_sample(program, uses, theta, sample))(*batch)
    return Contributions(program, theta, uses, factors, rows, outputs)


def uses_of(program: SampleProgram) -> list[TappedUse]:
    """Find the parameters that one equation with a rule uses, and nothing else does."""
    met: dict[int, list[tuple[int, int]]] = {}
    for site in program.sites:
        line = program.lines[site]
        for at in program.parameters_of(line):
            for leaf in program.reach[line.ins[at]]:
                met.setdefault(leaf, []).append((site, at))
    rearranged = _rearranged(program)
    found = []
    for leaf, places in met.items():
        site, at = places[0]
        line = program.lines[site]
        rule = rule_of(line.equation, at) if len(places) == 1 and line.ins[at] in rearranged else None
        if rule is not None and len(program.parameters_of(line)) == 1:
            found.append(TappedUse(leaf, line.ins[at], site, rule))
    return found


def _rearranged(program: SampleProgram) -> set[int]:
    """Return the values that are a parameter, or its entries in another order."""
    found = {*program.leaves}
    for line in program.lines:
        if line.equation.primitive.name in REARRANGING and line.ins[0] in found:
            found |= {*line.outs}
    return found


def _of_sample(
    program: SampleProgram, uses: Sequence[TappedUse], theta: list[Array], sample: Sequence[Array]
) -> tuple[list[Factors], dict[int, Array], list[Array]]:
    known = program.prepared(theta)
    taps = {site: program.zeros(site) for site in program.sites}
    gradients, (operands, outputs) = jax.grad(lambda taps: program.tapped(known, sample, taps), has_aux=True)(taps)
    by_rule = {use.site: use for use in uses}
    factors = [use.rule.factors(operands[use.site], gradients[use.site][0]) for use in uses]
    arrived: dict[int, Array] = {}
    for site in program.sites:
        if site not in by_rule:
            _collect(arrived, program, program.lines[site], operands[site], gradients[site])
    others = [place for place in range(len(theta)) if place not in {use.leaf for use in uses}]
    return factors, _pulled_back(program, theta, others, arrived), outputs


def _collect(arrived: dict[int, Array], program: SampleProgram, line: Line, inputs: Sequence[Array], taps: Any) -> None:
    """Add the gradients of what an equation takes of parameters, by its vjp alone.

    Args:
        arrived: Gradients by the number of the value.
        program: The equations.
        line: One of them.
        inputs: Of it.
        taps: Gradients of its outputs; None for those that are not real.
    """
    at = program.parameters_of(line)

    def outputs(*parameters: Array) -> list[Array]:
        given = dict(zip(at, parameters, strict=True))
        found = line.run([given.get(place, one) for place, one in enumerate(inputs)])
        return [one for one, tap in zip(found, taps, strict=True) if tap is not None]

    back = jax.vjp(outputs, *(inputs[place] for place in at))[1]([tap for tap in taps if tap is not None])
    for place, gradient in zip(at, back, strict=True):
        value = line.ins[place]
        arrived[value] = arrived[value] + gradient if value in arrived else gradient


def _pulled_back(
    program: SampleProgram, theta: list[Array], places: Sequence[int], arrived: dict[int, Array]
) -> dict[int, Array]:
    """Return the gradients of some parameters from those of what is made of them.

    Args:
        program: The equations.
        theta: Parameters, in order.
        places: Of those that are asked for.
        arrived: Gradients by the number of the value.
    """

    def made(some: list[Array]) -> list[Array]:
        given = dict(zip(places, some, strict=True))
        known = program.prepared([given.get(place, one) for place, one in enumerate(theta)])
        return [known[value] for value in arrived]

    if not arrived:
        return {place: jnp.zeros_like(theta[place]) for place in places}
    (found,) = jax.vjp(made, [theta[place] for place in places])[1]([*arrived.values()])
    return dict(zip(places, found, strict=True))
