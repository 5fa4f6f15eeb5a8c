"""Recurrent layers and cells: rows are formed once over time, from the gradients of every step's gates.

Each layer and direction are two linear maps, of the inputs and of the states before each step, and with an LSTM's
projection a third. A backward pass of our own gives the gradients of their outputs for all steps (`layer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import bind_by_name, name_of
from gradkernels.engines.hooks.capture.boundary import BoundaryCall
from gradkernels.engines.hooks.capture.boundary_rules import RunBoundary
from gradkernels.engines.hooks.capture.one_draw import multiply_by_one_draw
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.recurrent.callers_parameters import CallersParameters
from gradkernels.engines.hooks.rules.recurrent.layer import RecurrentFunction, RecurrentLayer, RecurrentWeights
from gradkernels.engines.hooks.rules.recurrent.packing import padded_axis
from gradkernels.engines.hooks.rules.recurrent.steps import CellStep
from gradkernels.engines.hooks.rules.rule import NamedArguments, Targets

NETWORK_ARGUMENTS = (
    "input",
    "hx",
    "params",
    "has_biases",
    "num_layers",
    "dropout",
    "train",
    "bidirectional",
    "batch_first",
)
PACKED_ARGUMENTS = ("input", "sizes", *NETWORK_ARGUMENTS[1:-1])
CELL_ARGUMENTS = ("input", "hx", "w_ih", "w_hh", "b_ih", "b_hh")

AUTOCAST = (
    "{name} runs under autocast, of whose half precision its rule knows nothing: call it within "
    "torch.autocast(..., enabled=False), on a float32 input"
)

LayerParameters = tuple[dict[str, Array], Targets]
"""Parameters of one layer in one direction by the names of a cell's, `w_hr` an LSTM's projection; their targets."""


@dataclass(frozen=True)
class Layout:
    """Where a network has its samples.

    Attributes:
        tape: The pass.
        axis: Of the samples in `(t, n, ...)`, and in states.
        sizes: How many of them have each step, where not all have.
    """

    tape: Tape
    axis: Axis
    sizes: tuple[int, ...] = ()


def run_layers(kind: type[RecurrentLayer]) -> RunBoundary:
    """Return how calls of a whole recurrent network are run."""

    def start(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Array, ...]:
        given = bind_by_name(NETWORK_ARGUMENTS, args, kwargs)
        if torch.is_autocast_enabled(given["input"].device.type):
            raise Unfit(AUTOCAST.format(name=step.name))
        targets = {place[-1]: target for place, target in tape.targets(step, args, kwargs).items()}
        if not isinstance(given["has_biases"], bool):
            return _packed(tape, kind, step, bind_by_name(PACKED_ARGUMENTS, args, kwargs), targets)
        layout = Layout(tape, _axis(step, NETWORK_ARGUMENTS, 0 if given["batch_first"] else 1, 1))
        output, *ends = _network(given, targets, layout, kind)
        tape.tracker.mark_boundary(output, replace(layout.axis, dim=0 if given["batch_first"] else 1))
        for end in ends:
            tape.tracker.mark_boundary(end, layout.axis)
        return output, *ends

    return start


def _packed(
    tape: Tape, kind: type[RecurrentLayer], step: BoundaryCall, given: NamedArguments, targets: Mapping[int, Any]
) -> tuple[Array, ...]:
    """Run a network on packed sequences: padded, as one on `(t, n, ...)` whose steps some samples have."""
    data = {name_of(place, PACKED_ARGUMENTS): axis for place, axis in step.data.items()}
    packed = data.pop("input", None)
    if packed is None or packed.order is None or not packed.packed:
        raise Unfit(f"{step.name} takes packed sequences that `pack_padded_sequence` has not packed of data")
    layout = Layout(tape, padded_axis(packed, 1), packed.order.sizes)
    made = {name_of(place, PACKED_ARGUMENTS) for place in step.parameters}
    if "hx" in made or any(axis != layout.axis for axis in data.values()):
        raise Unfit(f"{step.name} of packed sequences begins with states that are not in their order along axis 1")
    lengths = torch.tensor(packed.order.lengths)
    padded, _ = torch._pad_packed_sequence(given["input"], given["sizes"], False, 0.0, len(layout.sizes))
    output, *ends = _network({**given, "input": padded, "batch_first": False}, targets, layout, kind)
    steps, _ = torch._pack_padded_sequence(output, lengths, False)
    tape.tracker.mark_boundary(steps, packed)
    for end in ends:
        tape.tracker.mark_boundary(end, layout.axis)
    return steps, *ends


def run_cell(do: CellStep) -> RunBoundary:
    """Return how calls of a single step are run: two linear maps, and what autograd follows."""

    def start(tape: Tape, step: BoundaryCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        given = bind_by_name(CELL_ARGUMENTS, args, kwargs)
        axis = replace(_axis(step, CELL_ARGUMENTS, 0, 0), dim=0)
        targets = {name_of(place, CELL_ARGUMENTS): target for place, target in tape.targets(step, args, kwargs).items()}
        states, projected = _first(given), []
        for a, names in ((given["input"], ("w_ih", "b_ih")), (states[0], ("w_hh", "b_hh"))):
            projected.append(functional.linear(a, given[names[0]], given.get(names[1])))
            if named := _named(targets, *names):
                tape.listen(Linear(named, axis.first(a.detach(), tape.n)), projected[-1], axis, [a])
        ends = do(projected[0], projected[1], states)
        for end in ends:
            tape.tracker.mark_boundary(end, axis)
        return ends if len(ends) > 1 else ends[0]

    return start


def _axis(step: BoundaryCall, names: tuple[str, ...], of_input: int, of_states: int) -> Axis:
    """Return the samples' axis of all states of the network, once it is where a batch must have it."""
    allowed = {"input": of_input, "hx": of_states}
    data = {name_of(place, names): axis for place, axis in step.data.items()}
    made = {name_of(place, names) for place in step.parameters}
    if "hx" in data and not {"input"} <= made | data.keys():  # zeros, as many as there are states
        data["input"] = data["hx"].moved(of_input)
    if "input" not in data or any(allowed.get(name) != axis.dim for name, axis in data.items()):
        at = ", ".join(f"axis {axis.dim} of {name}" for name, axis in data.items())
        raise Unfit(
            f"{step.name} has the samples along {at}; there is a rule for axis {of_input} of its input "
            f"(batch_first?) and axis {of_states} of its states"
        )
    if not made.isdisjoint(allowed):
        raise Unfit(f"{step.name} takes parameters as its input or its states, which has no rule")
    return replace(data["input"], dim=1)


def _drop(layout: Layout, x: Array, share: float) -> Array:
    """Drop entries between two layers."""
    if not layout.tape.draws_once:
        return functional.dropout(x, share)
    if layout.sizes:
        raise Unfit("dropout between layers of packed sequences has no rule for one draw of all samples")
    return multiply_by_one_draw(lambda one: functional.dropout(one, share), x, layout.axis, layout.tape.n)


def _network(
    given: NamedArguments, targets: Mapping[int, Any], layout: Layout, kind: type[RecurrentLayer]
) -> tuple[Array, ...]:
    """Run layer after layer, in each direction, as torch's own calls do."""
    x = given["input"].transpose(0, 1) if given["batch_first"] else given["input"]
    first, directions, ends = _first(given), 2 if given["bidirectional"] else 1, []
    parameters = _layers(given, targets)
    for depth in range(given["num_layers"]):
        if depth and given["train"] and given["dropout"]:
            x = _drop(layout, x, given["dropout"])
        outputs = []
        for reverse in range(directions):
            begin = [one[depth * directions + reverse] for one in first]
            output, *end = _run(layout, kind, x, begin, next(parameters), bool(reverse))
            outputs.append(output)
            ends.append(end)
        x = torch.cat(outputs, -1) if directions == 2 else outputs[0]
    if directions == 1:  # it is in memory that the backward pass reads: the model may write to what it is given
        x = x.clone()
    return x.transpose(0, 1) if given["batch_first"] else x, *(torch.stack(one) for one in zip(*ends, strict=True))


def _first(given: NamedArguments) -> list[Array]:
    """Return the states, and an LSTM's cells, to begin with."""
    return list(given["hx"]) if isinstance(given["hx"], list | tuple) else [given["hx"]]


def _layers(given: NamedArguments, targets: Mapping[int, Any]) -> Iterator[LayerParameters]:
    """Yield the parameters and targets of each layer from the flat list of weights."""
    states = _first(given)
    projected = len(states) == 2 and states[0].shape[-1] != states[1].shape[-1]
    names = ["w_ih", "w_hh", *(["b_ih", "b_hh"] if given["has_biases"] else []), *(["w_hr"] if projected else [])]
    for at in range(0, len(given["params"]), len(names)):
        places = dict(zip(names, range(at, at + len(names)), strict=True))
        parameters = {name: given["params"][place] for name, place in places.items()}
        yield parameters, {name: targets[place] for name, place in places.items() if place in targets}


def _run(
    layout: Layout, kind: type[RecurrentLayer], x: Array, first: list[Array], layer: LayerParameters, reverse: bool
) -> tuple[Array, ...]:
    """Run one layer in one direction, from inputs `(t, n, i)`; keep a use for each of its linear maps."""
    axis, tape = layout.axis, layout.tape
    parameters, targets = {name: tensor.detach() for name, tensor in layer[0].items()}, layer[1]
    bias, weights = _weights(kind, parameters)
    mine = CallersParameters(layer[0]) if tape.wanted else None
    of_inputs = (parameters["w_ih"], bias) if mine is None else mine.of_inputs(bias)
    gates = functional.linear(x.reshape(-1, x.shape[-1]), *of_inputs).view(*x.shape[:2], -1)
    inputs, hidden, states = (_named(targets, *names) for names in (("w_ih", "b_ih"), ("w_hh", "b_hh"), ("w_hr",)))
    if inputs and not gates.requires_grad:
        gates.requires_grad_()
    # Nobody else reads the projected inputs: the run may write over them, which `data` keeps from autograd.
    run = kind(gates.data, [one.detach() for one in first], weights, reverse, layout.sizes)
    if mine is None:
        products, added = _zeros(gates, gates.shape, bool(hidden)), _zeros(gates, run.after.shape, bool(states))
    else:
        products, added = mine.products(run, gates.shape), mine.added(run)
    results: tuple[Array, ...] = RecurrentFunction.apply(run, gates, products, added, *first)  # type: ignore[no-untyped-call]
    for named, a, output in ((inputs, x, gates), (hidden, run.before, products), (states, run.units, added)):
        if named:
            tape.listen(Linear(named, axis.first(a.detach(), tape.n)), output, axis, [a])
    return results


def _weights(kind: type[RecurrentLayer], parameters: Mapping[str, Array]) -> tuple[Array | None, RecurrentWeights]:
    """Return the bias of the projected inputs, with what of the other is merely added, and what acts on the states."""
    hidden, projection = parameters["w_hh"], parameters.get("w_hr")
    if "b_ih" not in parameters:
        return None, RecurrentWeights(hidden, None, projection)
    merged = len(hidden) // kind.gate_count * kind.merged_count
    bias, other = parameters["b_ih"].clone(), parameters["b_hh"]
    bias[:merged] += other[:merged]
    return bias, RecurrentWeights(hidden, other[merged:], projection)


def _zeros(like: Array, shape: Any, heard: bool) -> Array:
    """Return zeros without memory, as a leaf whose gradient is heard of, or not."""
    return like.detach().new_zeros(()).expand(shape).requires_grad_(heard)


def _named(targets: Targets, weight: str, bias: str | None = None) -> Targets:
    """Return the targets of one linear map, by the names that it has for them."""
    roles = {"weight": weight, "bias": bias}
    return {name: targets[role] for name, role in roles.items() if role in targets}
