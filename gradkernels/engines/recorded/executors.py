"""What runs a recording: TorchScript's interpreter, or the graph's own Python where that cannot take it.

TorchScript's compiler of Python is not used: the operations are known, and are handed to its interpreter one by one.
No Python runs between them, and a temporary goes back to the allocator after its last use. The interpreter takes none
of the liberties of its optimizer, which would look at shapes again for each number of samples.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

Run = Callable[..., Sequence[Any]]
"""`run(n, *tensors)`: the tensors that a recording gives, for n samples."""


class Unsupported(RuntimeError):
    """Why TorchScript's interpreter cannot take a graph, as a sentence."""


def executor_of(graph: fx.Graph, trial: Sequence[Any]) -> Run:
    """Return what runs a graph: the interpreter if it takes it and runs it once.

    Args:
        graph: Its first argument is the number of samples, all others are tensors.
        trial: Such arguments, of a few samples; tensors among them may be written to.
    """
    try:
        run = by_interpreter(graph)
        run(*trial)
    except Exception:  # what torch has no TorchScript for, or no longer; what is wrong with the data Python says too
        return by_python(graph)
    return run


def by_python(graph: fx.Graph) -> Run:
    """Return the graph as Python code."""
    module = fx.GraphModule({}, graph)
    run: Run = module.forward
    return run


def by_interpreter(graph: fx.Graph) -> Run:
    """Return the graph as TorchScript's interpreter runs it.

    Raises:
        Unsupported: It has something in it that is neither an operation of torch nor arithmetic of sizes.
    """
    function = torch._C._create_function_from_graph("recorded", _Translation(graph).graph)
    optimizing = torch._C._get_graph_executor_optimize
    optimize = torch._C._set_graph_executor_optimize

    def run(*arguments: Any) -> Sequence[Any]:
        before = optimizing()
        optimize(False)
        try:
            results: Sequence[Any] = function(*arguments)
            return results
        finally:
            optimize(before)

    return run


_ARITHMETIC: Mapping[Any, tuple[str, Any]] = {
    operator.mul: ("aten::mul", torch._C.IntType.get()),
    operator.add: ("aten::add", torch._C.IntType.get()),
    operator.truediv: ("aten::div", torch._C.FloatType.get()),
}
"""What is done with the number of samples, and what it gives."""


class _Translation:
    """A graph as TorchScript's own, node by node.

    Attributes:
        graph: TorchScript's.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self.graph: Any = torch._C.Graph()
        self._values: dict[fx.Node, Any] = {}
        self._outputs: dict[fx.Node, list[Any]] = {}
        self._constants: dict[Any, Any] = {}
        for node in graph.nodes:
            self._take(node)

    def _take(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            value = self._values[node] = self.graph.addInput()
            value.setType(torch._C.IntType.get() if node.type is int else torch._C.TensorType.get())
        elif node.op == "output":
            results: Any = node.args[0]
            self.graph.registerOutput(self._list(results, torch._C.TensorType.get()))
        elif node.target is operator.getitem:
            self._pick(node, *node.args)
        elif node.target in _ARITHMETIC:
            kind, gives = _ARITHMETIC[node.target]
            (self._values[node],) = self._create(kind, [self._value(one) for one in node.args], [gives])
        elif isinstance(node.target, torch._ops.OpOverload):
            self._call(node, node.target._schema)
        else:
            raise Unsupported(f"{node.format_node()} is no operation of torch")

    def _call(self, node: fx.Node, schema: Any) -> None:
        given = dict(zip((one.name for one in schema.arguments), node.args, strict=False)) | node.kwargs
        inputs = []
        for one in schema.arguments:
            value = given.get(one.name, one.default_value)
            inputs.append(self._value(value, one.type))
        outputs = self._create(schema.name, inputs, [one.type for one in schema.returns])
        self._outputs[node] = outputs
        if len(outputs) == 1:
            self._values[node] = outputs[0]

    def _pick(self, node: fx.Node, source: Any, at: Any) -> None:
        outputs = self._outputs[source]
        if len(outputs) > 1:
            self._values[node] = outputs[at]
        else:
            gives = [torch._C.TensorType.get()]
            (self._values[node],) = self._create("aten::__getitem__", [outputs[0], self._value(at)], gives)

    def _value(self, given: Any, kind: Any = None) -> Any:
        if isinstance(given, fx.Node):
            return self._values[given]
        if isinstance(given, list | tuple):
            element = _element(kind)
            if any(isinstance(one, fx.Node) for one in given) or not given:
                return self._list(given, element)
            return self._constant((str(element), *given), list(given))
        if isinstance(given, bool | int | float | str | torch.device | torch.dtype) or given is None:
            return self._constant((type(given), given), given)
        return self._constant((type(given), given), _enumerated(given))

    def _list(self, given: Sequence[Any], element: Any) -> Any:
        values = [self._value(one, element) for one in given]
        return self._create("prim::ListConstruct", values, [torch._C.ListType(element)])[0]

    def _constant(self, key: Any, value: Any) -> Any:
        key = repr(key)
        if key not in self._constants:
            self._constants[key] = self.graph.insertConstant(value)
        return self._constants[key]

    def _create(self, kind: str, inputs: Sequence[Any], gives: Sequence[Any]) -> list[Any]:
        node = self.graph.create(kind, list(inputs), len(gives))
        self.graph.insertNode(node)
        outputs = list(node.outputs())
        for output, one in zip(outputs, gives, strict=True):
            output.setType(one)
        if kind.startswith("aten::") and node.schema() == "(no schema)":
            raise Unsupported(f"{kind} of these arguments, a number for a tensor among them, say, is none of its own")
        return outputs


def _element(kind: Any) -> Any:
    """Return the type of a list's elements, from that of an argument."""
    while kind is not None and kind.kind() == "OptionalType":
        kind = kind.getElementType()
    if kind is None or kind.kind() != "ListType":
        raise Unsupported(f"a list is given as {kind}")
    return kind.getElementType()


_MEMORY_FORMATS = {
    torch.contiguous_format: 0,
    torch.preserve_format: 1,
    torch.channels_last: 2,
    torch.channels_last_3d: 3,
}
"""Their numbers in c10, by which TorchScript knows them."""


def _enumerated(given: Any) -> Any:
    """Return what TorchScript takes for a layout or a memory format."""
    if isinstance(given, torch.memory_format):
        return _MEMORY_FORMATS[given]
    if isinstance(given, torch.layout | complex):
        return given
    raise Unsupported(f"{given!r} has no place among TorchScript's constants")
