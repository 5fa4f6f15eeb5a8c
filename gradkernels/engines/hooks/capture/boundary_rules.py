"""How boundaries are run: the signatures of rules, and all rules that a tape is given."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import ArgPath
from gradkernels.engines.hooks.capture.boundary import BoundaryCall, ParameterNames
from gradkernels.engines.hooks.capture.follow.tracked_call import TrackedArgument
from gradkernels.engines.hooks.parameter_use import ParameterUse

GradientConsumer = Callable[[ParameterUse, Array], None]
"""Called with each use and its output's gradient, samples first, during the backward pass."""

RunBoundary = Callable[[Any, BoundaryCall, tuple[Any, ...], Mapping[str, Any]], Any]
"""`run(tape, step, args, kwargs)`: runs a boundary forward and keeps its uses; gives what the model's call returns."""

RunWithOneDraw = Callable[[Any, Any, tuple[Any, ...], Mapping[str, Any], Sequence[TrackedArgument]], Any]
"""`alike(tape, function, args, kwargs, data)`: the call, with one draw for all samples."""


class BoundaryRules(NamedTuple):
    """How calls that take parameters are run.

    Attributes:
        rules: Functions with a rule, where they are boundaries.
        other: The same for all other functions.
        copies: Functions that may make copies of parameters for each sample; they give None where not.
        recipes: Functions whose results are weights made of parameters of which something is remembered.
        remember: `remember(tape, function, args, result, names)`: what that is.
        remade: `remade(tape, use)`: a use of such weights as one of the parameters.
        special: Functions that are run otherwise for some of their data: `run(tape, args)` gives None for all others.
    """

    rules: Mapping[Any, RunBoundary]
    other: RunBoundary
    copies: Mapping[Any, RunBoundary]
    recipes: Container[Any]
    remember: Callable[[Any, Any, Any, Any, Mapping[ArgPath, ParameterNames]], None]
    remade: Callable[[Any, ParameterUse], ParameterUse]
    special: Mapping[Any, Callable[[Any, tuple[Any, ...]], Any]]
