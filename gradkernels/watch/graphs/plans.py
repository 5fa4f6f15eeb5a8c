"""Passes whose graph is that of an earlier one, which was followed: then nothing needs to be followed to hear of uses.

Where the samples are in each tensor follows from the operations that autograd has recorded, from their sizes and axes.
A pass that was followed tells which of the graph's nodes are uses of parameters; another one with the same graph has
them at the same nodes, and autograd has kept there what the uses need. So the caller's forward pass runs as it is, and
its graph is compared afterwards. Operations that pick entries by an index which they are given are not taken part in
that: such a graph is followed each time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.following import Following, GradientListener
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.rules.kept_data import Remake, agrees, remake_of
from gradkernels.watch.graphs.waiting import WaitingGradients
from gradkernels.watch.graphs.walk import AutogradGraph, graph_of
from gradkernels.watch.values.waiting_maps import WaitingUse
from gradkernels.watch.values.waiting_norms import WaitingNorms

MOST_CALL_KINDS = 16
"""Kinds of calls that plans are kept of."""

MOST_MISSES = 3
"""Graphs that were others than expected: from then on calls of that kind are followed."""

POOLED = tuple(f"MaxPool{axes}DWithIndicesBackward0" for axes in (1, 2, 3))
WITHIN_SAMPLES = (*POOLED, "NllLossBackward0", "NllLoss2DBackward0")
"""Operations whose integers say where in a window the largest entry was, or which class is right: of no samples."""

HIDDEN = ("CopySlices", "AsStridedBackward0", "AsStridedBackward1")
"""Operations that do not tell what they do to the samples."""


class PlannedUse(NamedTuple):
    """A use of parameters at a node.

    Attributes:
        at: Number of the node.
        output: Number of its output that the gradient is of.
        shape: Of the gradient, samples first.
        remake: Makes the use of a pass.
    """

    at: int
    output: int
    shape: torch.Size
    remake: Remake


class Heard(NamedTuple):
    """A pass whose uses are heard at the nodes of its graph.

    Attributes:
        ends: Nodes where a backward pass for samples alone may end, and numbers of their outputs.
        waiting: Gradients that may wait for each other.
        norms: Squares them.
    """

    ends: list[tuple[Any, int]]
    waiting: WaitingGradients
    norms: WaitingNorms


NodeNumbers = tuple[int, Callable[[Any], Any], Any]
"""Number of a node, what gets attributes of it that are compared, and their values."""


@dataclass(frozen=True)
class GraphPlan:
    """What is known of passes with one graph.

    Attributes:
        graph: Kinds, edges and leaves; without nodes.
        numbers: Number of each node of which some attributes are compared, what gets them, and their values.
        words: Numbers of nodes that look up words which are the same in all passes, and these words.
        uses: Of parameters.
        ends: Numbers of nodes where a backward pass for samples alone may end, and of their outputs.
        shared: Names of parameters with several uses.
        first: Whether the samples are first in all outputs.
        answers: What the model's Python was told of its data.
        norms: Of those uses whose gradients may wait for each other.
        others: Numbers of the other uses.
    """

    graph: AutogradGraph
    numbers: list[NodeNumbers]
    words: list[tuple[int, Array]]
    uses: list[PlannedUse]
    ends: list[tuple[int, int]]
    shared: frozenset[str]
    first: bool
    answers: list[Any]
    norms: WaitingNorms
    others: list[int]

    def listen(self, outputs: Sequence[Array], listener: GradientListener) -> Heard | None:
        """Have a listener told of the uses' gradients; return None for another graph.

        Args:
            outputs: Of the pass.
            listener: Told.
        """
        (nodes, *found), (_, *known) = graph_of(outputs), self.graph
        if found != known:  # kinds, edges and leaves
            return None
        same = all(get(nodes[at]) == values for at, get, values in self.numbers)
        if not same or any(not torch.equal(nodes[at]._saved_indices, words) for at, words in self.words):
            return None
        kept = [one.remake.kept(nodes[one.at]) for one in self.uses]
        mine = self.norms.members
        waiting = WaitingGradients([self.uses[one].remake for one in mine], [kept[one] for one in mine])
        for at, one in enumerate(self.uses[number] for number in mine):
            nodes[one.at].register_prehook(waiting.hook(at, one.output, one.shape, listener))
        for number in self.others:
            one = self.uses[number]
            hear = partial(_hear, listener, one.remake.use(kept[number]), one.output, one.shape)
            nodes[one.at].register_prehook(hear)
        return Heard([(nodes[at], number) for at, number in self.ends], waiting, self.norms)


def _hear(listener: GradientListener, use: ParameterUse, number: int, shape: torch.Size, gradients: Any) -> None:
    if (g := gradients[number]) is not None:
        listener(use, g if g.shape == shape else g.reshape(shape))


def plan_of(following: Following, outputs: Sequence[Array], first: bool) -> GraphPlan | None:
    """Return what is known of passes with the graph of one that was followed; None where that is not enough.

    Args:
        following: The pass that was followed.
        outputs: Of the model.
        first: Whether the samples are first in all of them.
    """
    heard, ends, graph = following.heard, following.sources, graph_of(outputs)
    places = {node: at for at, node in enumerate(graph.nodes)}
    if following.repeats or following.refuses or any(one.axis != Axis(0) for one in heard):
        return None
    if any(one.node not in places for one in (*heard, *ends)):
        return None
    uses, remade = list[PlannedUse](), list[WaitingUse]()
    for one in heard:
        remake = remake_of(one.use, one.node, one.shape)
        if remake is None or not agrees(one.use, remake.use(data := remake.kept(one.node))):
            return None
        uses.append(PlannedUse(places[one.node], one.output, one.shape, remake))
        remade.append(WaitingUse(one.use, one.shape, data))
    kept = _kept_by(graph.nodes, {one.at for one in uses})
    if kept is None:
        return None
    at_ends = [(places[edge.node], edge.output_nr) for edge in ends]
    norms = WaitingNorms(remade, following.shared)
    others = [number for number in range(len(uses)) if number not in norms.members]
    graph = graph._replace(nodes=[])
    return GraphPlan(graph, *kept, uses, at_ends, following.shared, first, following.answers, norms, others)


def _kept_by(nodes: list[Any], planned: set[int]) -> tuple[list[NodeNumbers], list[tuple[int, Array]]] | None:
    """Return numbers and words that nodes have kept, by which passes are compared; None where they tell too little."""
    numbers, words = list[NodeNumbers](), list[tuple[int, Array]]()
    for at, node in enumerate(nodes):
        if isinstance(node, torch.autograd.function.BackwardCFunction) or node.name() in HIDDEN:
            return None
        compared = list[str]()
        for name in (name for name in dir(node) if name.startswith("_saved_")):
            value = getattr(node, name)
            kind = _kind_of_attribute(node, value)
            if kind == "words" and at not in planned:  # those of a use are kept for it anew in each pass
                words.append((at, value.detach().clone()))
            elif kind == "number":
                compared.append(name)
            elif kind == "unknown":
                return None
        if compared:
            numbers.append((at, get := operator.attrgetter(*compared), get(node)))
    return numbers, words


def _kind_of_attribute(node: Any, value: Any) -> str:
    """Return what an attribute of a node is: `number`, `words`, `data` that says nothing of samples, or `unknown`."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() or value.dtype == torch.bool or node.name() in WITHIN_SAMPLES:
            return "data"
        return "words" if node.name() == "EmbeddingBackward0" else "unknown"
    if value is None or isinstance(value, float | complex | torch.dtype | torch.layout):
        return "data"
    parts = value if isinstance(value, tuple | list) else (value,)
    if any(isinstance(part, torch.Tensor) for part in parts):
        return "unknown"
    return "number" if all(isinstance(part, int | str | bool) or part is None for part in parts) else "data"


class GraphPlans:
    """Plans by the kind of a call: parameters, and shapes and types of the arguments."""

    def __init__(self) -> None:
        self._plans: dict[Hashable, GraphPlan | None] = {}
        self._misses: dict[Hashable, int] = {}

    def kind(self, theta: Mapping[str, Array], args: Any, kwargs: Any) -> Hashable:
        """Return the kind of a call; None where plans are not to be made of it.

        Args:
            theta: Parameters by name.
            args: Arguments by position.
            kwargs: Arguments by name.
        """
        leaves, spec = pytree.tree_flatten((args, kwargs))
        kinds = [
            (one.shape, one.dtype, one.device, one.requires_grad) if isinstance(one, torch.Tensor) else one
            for one in leaves
        ]
        found = tuple(map(id, theta.values())), str(spec), *kinds
        try:
            hash(found)
        except TypeError:
            return None
        return found if self._misses.get(found, 0) < MOST_MISSES else None

    def get(self, kind: Hashable) -> GraphPlan | None:
        """Return the plan for calls of a kind, if there is one."""
        return self._plans.get(kind)

    def keep(self, kind: Hashable, plan: GraphPlan | None) -> None:
        """Keep a plan for calls of a kind; None where none can be made."""
        if len(self._plans) >= MOST_CALL_KINDS:
            del self._plans[next(iter(self._plans))]
        self._plans[kind] = plan

    def miss(self, kind: Hashable) -> None:
        """Take it that a call's graph was another one than its kind's."""
        self._plans.pop(kind, None)
        self._misses[kind] = self._misses.get(kind, 0) + 1
