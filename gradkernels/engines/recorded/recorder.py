"""A function of tensors as a graph of operations: it is run once on a few samples, and every operation is noted.

The operations are seen below autograd and vmap, so that what is noted are those of the backward pass too, in the order
in which they run. A recording has no `if`: whatever tells Python what is in a tensor is refused. What Python finds
besides the arguments, such as a tensor that is an attribute, becomes an argument.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import TensorWeakRef, WeakIdKeyDictionary

from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import DRAWS_RANDOM
from gradkernels.engines.recorded.known_memory import KnownMemory, memory_of
from gradkernels.engines.recorded.trace import (
    LOOKS_AT_DATA,
    Untraceable,
    drawn_by_python,
    draws_numbers,
    node_draws_random,
)
from gradkernels.engines.recorded.uses.whole import Method, keeping_methods

_LOOKING = frozenset((torch.Tensor.tolist, torch.Tensor.__repr__))
"""Functions that give Python what is in a tensor, and are no operations."""

_SHARING = frozenset((torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.__dlpack__))
"""Functions that give Python the memory of a tensor, into which operations may write what it then looks at."""

_CONSTANTS = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
"""What an operation may be given besides tensors: neither bare memory nor a source of random numbers."""

_LOOKING_TAGS = frozenset((torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape))
_LENGTHS = "_pack_padded_sequence"
"""An operation whose output is as long as its data say, although it has no tag for that."""


@dataclass
class Recorded:
    """What was noted of a run.

    Attributes:
        graph: The operations; its placeholders are the arguments, then the tensors that were found.
        found: These tensors.
        drawn: Shapes of what was drawn at random, in order.
        methods: What of uses is one operation each; known while this is kept.
    """

    graph: fx.Graph = field(default_factory=fx.Graph)
    found: list[Array] = field(default_factory=list)
    drawn: list[tuple[int, ...]] = field(default_factory=list)
    methods: list[Method] = field(default_factory=list)


def record(
    function: Callable[..., Sequence[Array]], tensors: Sequence[Array], draws: bool, compiled: bool = False
) -> Recorded:
    """Run `function(*tensors)` and return what was noted.

    Args:
        function: Of tensors; gives a list of them.
        tensors: Of a few samples, which may be written to.
        draws: Whether torch's random numbers may be drawn.
        compiled: Whether a model that asks is told that it is compiled, so that it takes no short cut by its data.

    Raises:
        Untraceable: It asks what its data hold, or draws random numbers that a recording would not draw again.
    """
    before = drawn_by_python()
    recorder = _Recorder(tensors)
    session = torch.compiler._compile_session_context() if compiled else nullcontext()
    try:
        with keeping_methods() as methods, session, _Guard(recorder), recorder:
            results = function(*tensors)
    except Untraceable:
        raise
    except Exception as error:  # whatever the model's own Python raises
        raise Untraceable(str(error)) from error
    if drawn_by_python() != before:
        raise Untraceable("the model draws random numbers of Python or numpy, which would be the same ones again")
    recorded = recorder.finished(results)
    recorded.methods += methods
    if recorded.drawn and not draws:
        raise Untraceable(DRAWS_RANDOM)
    return recorded


class _Guard(TorchFunctionMode):
    """Refuses what reads a tensor behind the dispatcher's back."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _SHARING or (func in _LOOKING and not self._recorder.known.holds(args[0])):
            raise Untraceable(LOOKS_AT_DATA)
        return func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    """Notes operations as they run.

    Args:
        tensors: The arguments.

    Attributes:
        known: Memory with what follows from the number of samples alone.
    """

    def __init__(self, tensors: Sequence[Array]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recorded = Recorded()
        # Not by value, nor forever: what autograd keeps of a tensor is the same Python object again.
        self._nodes: Any = WeakIdKeyDictionary()
        self._views: dict[Hashable, Any] = {}
        self._found = set[int]()
        self.known = KnownMemory()
        for tensor in tensors:
            self._nodes[tensor] = self._last = self._recorded.graph.placeholder(f"a{len(self._nodes)}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note it."""
        kwargs = kwargs or {}
        if func is torch.ops.aten.lift_fresh.default:  # of a tensor made of Python's numbers, which may be written to
            return self._noted(torch.ops.aten.clone.default, args, {}, args[0].clone())
        if not all(isinstance(one, (torch.Tensor, *_CONSTANTS)) for one in pytree.tree_leaves((args, kwargs))):
            raise Untraceable(f"the model gives {func.name()} more than tensors and numbers")
        looks = _LENGTHS in func.name() or not _LOOKING_TAGS.isdisjoint(func.tags)
        if looks and not _by_whole_numbers(func, args) and not self.known.holds(*_tensors(args, kwargs)):
            raise Untraceable(LOOKS_AT_DATA)
        written = _written(func, args, kwargs)
        if any(self._nodes.get(one) is None or memory_of(one) in self._found for one in written):
            raise Untraceable("the model writes to a tensor of its own that is no buffer")
        known = self.known.holds(*_tensors(args, kwargs)) and not draws_numbers(func, args, kwargs)
        output = func(*args, **kwargs)
        self.known.note(known, *written, *_tensors(output))
        return self._noted(func, args, kwargs, output)

    def _noted(self, func: Any, args: Any, kwargs: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor) and not func._schema.is_mutable and func.is_view:
            self._first_like(args[0])
            if (same := self._first_like(output)) is not output:
                self._nodes[output] = self._node(same)
                return output
        arguments, named = (self._translated(one) for one in (args, kwargs))
        node = self._recorded.graph.call_function(func, arguments, named)
        if node_draws_random(node):
            self._recorded.drawn += [tuple(one.shape) for one in pytree.tree_leaves(output)]
        if isinstance(output, torch.Tensor):
            self._nodes[output] = node
        elif isinstance(output, list | tuple):
            for at, one in enumerate(output):
                if isinstance(one, torch.Tensor):
                    self._nodes[one] = self._recorded.graph.call_function(operator.getitem, (node, at))
        return output

    def _first_like(self, tensor: Array) -> Array:
        """Return the first of the tensors that are alive and show the same memory in the same way.

        So the same is not looked at twice, and a view of the whole is none.
        """
        key = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
        found = self._views[key]() if key in self._views and tensor.numel() else None
        if found is None:
            self._views[key] = TensorWeakRef(tensor)
            return tensor
        return found

    def _translated(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._node(value)
        if isinstance(value, list | tuple):
            return type(value)(map(self._translated, value)) if type(value) in (list, tuple) else list(value)
        if isinstance(value, dict):
            return {name: self._translated(one) for name, one in value.items()}
        return value

    def _node(self, tensor: Array) -> fx.Node:
        node: fx.Node | None = self._nodes.get(tensor)
        if node is None:
            with self._recorded.graph.inserting_after(self._last):
                node = self._last = self._recorded.graph.placeholder(f"found{len(self._recorded.found)}")
            self._recorded.found.append(tensor)
            self._found.add(memory_of(tensor))
            self._nodes[tensor] = node
        return node

    def finished(self, results: Sequence[Array]) -> Recorded:
        """Return what was noted, with the results as its output and without what nobody reads."""
        graph = self._recorded.graph
        graph.output([self._node(one) for one in results])
        graph.eliminate_dead_code(_is_needed)
        return self._recorded


def _by_whole_numbers(func: Any, args: Any) -> bool:
    """Return whether it picks entries by their numbers: how many does not depend on which."""
    return func is torch.ops.aten.index.Tensor and all(
        one is None or one.dtype not in (torch.bool, torch.uint8) for one in args[1]
    )


def _written(func: Any, args: Any, kwargs: Any) -> list[Array]:
    """Return the tensors that an operation writes to."""
    if not func._schema.is_mutable:
        return []
    given = dict(zip((one.name for one in func._schema.arguments), args, strict=False)) | kwargs
    return _tensors([given.get(one.name) for one in func._schema.arguments if one.is_write])


def _tensors(*arguments: Any) -> list[Array]:
    return [one for one in pytree.tree_leaves(arguments) if isinstance(one, torch.Tensor)]


def _is_needed(node: fx.Node) -> bool:
    """Return whether a node does more than give a result: it writes, or draws numbers that others come after."""
    if node.op in ("placeholder", "output"):
        return True
    schema: Any = getattr(node.target, "_schema", None)
    return (schema is not None and schema.is_mutable) or node_draws_random(node)
