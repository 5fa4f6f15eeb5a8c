"""The loss of one sample as a line of equations, and where in it parameters and data meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.tree import Tree

INLINED = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"}
"""Calls whose equations join the line. Functions with derivatives of their own stay whole."""

CUT = "stop_gradient"
"""Whose output counts as a constant: what it meets, such as a loop on the sample, need not have a derivative."""


@dataclass(frozen=True, eq=False)
class Line:
    """One equation.

    Attributes:
        equation: JAX's.
        ins: Numbers of the values that it takes.
        outs: Numbers of the values that it makes.
    """

    equation: Any
    ins: tuple[int, ...]
    outs: tuple[int, ...]

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """Compute the outputs."""
        primitive = self.equation.primitive
        found = primitive.get_bind_params(self.equation.params)
        functions, params = found if isinstance(found, tuple) else ((), found)
        with self.equation.ctx.manager:
            outputs = primitive.bind(*functions, *inputs, **params)
        return list(outputs) if primitive.multiple_results else [outputs]


class SampleProgram:
    """The equations of a scalar loss of theta and one sample, each done once, in order.

    Args:
        closed: Its jaxpr: of theta's arrays, then the sample's; its first output is the loss, the others go beside it.
        several: Number of theta's arrays.

    Attributes:
        leaves: Numbers of theta's arrays.
        sites: Places in `lines` of the equations where something made of parameters meets the sample.
        reach: Of each value made of parameters alone, which of theta's arrays it is made of.
    """

    def __init__(self, closed: Any, several: int) -> None:
        self.values: dict[int, Any] = {}
        self.lines: list[Line] = []
        self._avals: list[Any] = []
        inputs = [self._new(var.aval) for var in closed.jaxpr.invars]
        self._loss, *self._beside = self._lay_out(closed.jaxpr, closed.consts, inputs)
        self.leaves, self.data = inputs[:several], inputs[several:]
        self._classify()

    def _new(self, aval: Any) -> int:
        self._avals.append(aval)
        return len(self._avals) - 1

    def _constant(self, value: Any, aval: Any) -> int:
        number = self._new(aval)
        self.values[number] = value
        return number

    def _lay_out(self, jaxpr: Any, consts: Iterable[Any], inputs: Sequence[int]) -> list[int]:
        """Append the equations of a jaxpr, those of calls in it in their place; return the numbers of its outputs."""
        known = dict(zip(jaxpr.invars, inputs, strict=True))
        known |= {var: self._constant(value, var.aval) for var, value in zip(jaxpr.constvars, consts, strict=True)}

        def number(atom: Any) -> int:
            return self._constant(atom.val, atom.aval) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            ins = [number(atom) for atom in equation.invars]
            if equation.primitive.name in INLINED:
                inner = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
                outs = self._lay_out(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), ins)
            else:
                outs = [self._new(var.aval) for var in equation.outvars]
                self.lines.append(Line(equation, tuple(ins), tuple(outs)))
            known |= dict(zip(equation.outvars, outs, strict=True))
        return [number(atom) for atom in jaxpr.outvars]

    def _classify(self) -> None:
        """Tell what depends on the sample from what is made of parameters alone, and find the sites."""
        depends, self.sites = {*self.data}, list[int]()
        self.reach: dict[int, frozenset[int]] = {leaf: frozenset([place]) for place, leaf in enumerate(self.leaves)}
        self._of_data: list[bool] = []
        for place, line in enumerate(self.lines):
            of_data = any(value in depends for value in line.ins)
            self._of_data.append(of_data)
            if of_data:
                depends |= {*line.outs}
                if self.parameters_of(line) and any(map(self.is_real, line.outs)):
                    self.sites.append(place)
            elif line.equation.primitive.name == CUT:
                continue
            elif made := frozenset().union(*(self.reach.get(value, frozenset()) for value in line.ins)):
                self.reach |= dict.fromkeys(line.outs, made)
        if self._loss not in depends:
            raise Unfit("jax.hooks needs a loss that depends on the sample")
        if any(jnp.issubdtype(self._avals[value].dtype, jnp.complexfloating) for value in depends):
            raise Unfit("jax.hooks taps real numbers, and the function computes with complex ones")

    def parameters_of(self, line: Line) -> list[int]:
        """Return the positions of the inputs of an equation that are made of parameters alone, and are real."""
        return [at for at, value in enumerate(line.ins) if value in self.reach and self.is_real(value)]

    def is_real(self, value: int) -> bool:
        """Return whether a value has numbers that can be differentiated by."""
        return bool(jnp.issubdtype(self._avals[value].dtype, jnp.floating))

    def zeros(self, place: int) -> list[Any]:
        """Return taps for the outputs of a site; None for those that are not real."""
        outs = self.lines[place].outs
        shaped = [(self._avals[out].shape, self._avals[out].dtype) for out in outs]
        return [jnp.zeros(*one) if self.is_real(out) else None for out, one in zip(outs, shaped, strict=True)]

    def prepared(self, theta: Sequence[Any]) -> dict[int, Any]:
        """Compute all that is made of parameters alone, and constants, by number."""
        known = {**self.values, **dict(zip(self.leaves, theta, strict=True))}
        for line, of_data in zip(self.lines, self._of_data, strict=True):
            if not of_data:
                known |= dict(zip(line.outs, line.run([known[value] for value in line.ins]), strict=True))
        return known

    def tapped(self, known: dict[int, Any], sample: Sequence[Any], taps: dict[int, list[Any]]) -> tuple[Any, Any]:
        """Compute the loss of one sample with the taps added; beside it the inputs of each site, and all outputs.

        Args:
            known: By `prepared`.
            sample: Arrays of one sample.
            taps: Of each site, by its place.
        """
        known, operands = {**known, **dict(zip(self.data, sample, strict=True))}, {}
        for place, (line, of_data) in enumerate(zip(self.lines, self._of_data, strict=True)):
            if not of_data:
                continue
            inputs = [known[value] for value in line.ins]
            outputs = line.run(inputs)
            if place in taps:
                operands[place] = inputs
                outputs = [one if tap is None else one + tap for one, tap in zip(outputs, taps[place], strict=True)]
            known |= dict(zip(line.outs, outputs, strict=True))
        return known[self._loss], (operands, [known[value] for value in (self._loss, *self._beside)])


def program_of(loss: Callable[..., Array], theta: Tree, batch: tuple[Tree, Tree]) -> SampleProgram:
    """Trace the loss of one sample.

    Args:
        loss: `loss(theta, x, y)` of it.
        theta: Parameters; shapes and dtypes count.
        batch: `(x, y)` of all samples; likewise, but for their first axis.
    """
    shaped: Any = jax.ShapeDtypeStruct
    sample = jax.tree.map(lambda one: shaped(one.shape[1:], one.dtype), batch)
    like = jax.tree.map(lambda one: shaped(one.shape, one.dtype), theta)
    return SampleProgram(jax.make_jaxpr(loss)(like, *sample), len(jax.tree.leaves(theta)))
