"""The forward pass as it is run: samples followed from call to call, every boundary kept for the backward pass.

Nothing is known of the model beforehand, and nothing is kept of it afterwards: where the samples are in a tensor
follows from where they are in those that it is made of (`gradkernels.hooks.follow`). A tensor in which they cannot be
told apart may still be computed with, but no gradient may come back through it: then the backward pass raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from gradkernels.backend import Array
from gradkernels.hooks import tags
from gradkernels.hooks.axis import Axis
from gradkernels.hooks.calls import Place, in_place, leaves, replaced
from gradkernels.hooks.complete import leads_to
from gradkernels.hooks.follow import rule_of
from gradkernels.hooks.follow.call import Call, Followed, Rule
from gradkernels.hooks.opened import OPENED
from gradkernels.hooks.step import Names, Step
from gradkernels.hooks.tags import Tag
from gradkernels.hooks.unfit import Unfit
from gradkernels.hooks.use import Target, Use
from gradkernels.problems.structure import Parameters

Arrived = Callable[[Use, Array], None]
"""Called with each use and its output's gradient, samples first, during the backward pass."""

Start = Callable[["Tape", Step, tuple[Any, ...], Mapping[str, Any]], Any]
"""Runs a boundary forward and keeps its uses; gives what the model's call returns."""

Alike = Callable[["Tape", Any, tuple[Any, ...], Mapping[str, Any], Sequence[Followed]], Any]
"""`alike(tape, function, args, kwargs, data)`: the call, with one draw for all samples."""

UNSEEN = (
    "is computed from parameters where no call of a torch function shows it: by an autograd.Function, compiled code or "
    "a change in place of another view; pass kernel='torch.loop', which takes one sample at a time"
)
NOT_FIRST = "the model's output does not have the samples first"

_RULES: dict[Any, Rule | None] = {}
_IS_QUIET: dict[Any, bool] = {}
_QUIET = frozenset(
    ("shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_leaf", "grad_fn", "is_cuda", "is_cpu",
     "is_meta", "is_sparse", "is_quantized", "is_nested", "names", "grad", "size", "dim", "numel", "nelement", "stride",
     "storage_offset", "is_contiguous", "is_floating_point", "is_complex", "is_inference", "data_ptr", "element_size",
     "itemsize", "nbytes", "get_device", "untyped_storage", "is_pinned", "is_same_size", "item", "tolist", "__len__",
     "__bool__", "__int__", "__float__", "__index__", "__hash__", "__repr__", "retain_grad", "register_hook",
     "_version", "_is_view")
)  # fmt: skip
"""What gives no tensor that anything is computed with."""


class Tape(TorchFunctionMode):
    """Runs one forward pass.

    Args:
        starts: How functions with a rule are run where they are boundaries.
        other: The same for functions that are not in `starts`.
        copies: How functions are run that may make copies of parameters for each sample; they give None where not.
        n: Number of samples, at least 2.
        theta: Parameters that the model holds.
        arrived: What becomes of the gradients.
        alike: Runs a call so that all samples see the same draw; None where each may see its own.

    Attributes:
        n: Number of samples.
        sources: Where a backward pass may end.
        uses: How often each parameter is used; twice for what is made of it.
    """

    def __init__(
        self,
        starts: Mapping[Any, Start],
        other: Start,
        copies: Mapping[Any, Start],
        n: int,
        theta: Parameters,
        arrived: Arrived,
        alike: Alike | None = None,
    ) -> None:
        super().__init__()
        self.n = n
        self.sources: list[GradientEdge] = []
        self.uses = Counter[str]()
        self._starts, self._other, self._copies, self._alike = starts, other, copies, alike
        self._theta = theta
        self._names: dict[int, Names] = {id(tensor): (name,) for name, tensor in theta.items()}
        self._arrived = arrived
        self._run = object()
        self._paused = False
        self.segments = 0
        self._boundaries = set[Any]()
        self._poisons: list[Any] = []
        self._lost = ""

    @property
    def alike(self) -> bool:
        """Whether all samples are to see the same draws."""
        return self._alike is not None

    def samples(self, tensors: Iterable[Array]) -> None:
        """Take these for inputs, with the samples first."""
        for tensor in tensors:
            tags.write(tensor, Tag(self._run, Axis(0)))

    def again(self) -> Tape:
        """A tape that follows a part of the model another time."""
        return Tape(self._starts, self._other, self._copies, self.n, self._theta, self._arrived, self._alike)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A context in which nothing is followed."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def tag(self, tensor: Array) -> Tag | None:
        """What is known of a tensor; raises an Unfit where it comes from parameters unseen."""
        tag = tags.read(tensor, self._run)
        self._require_seen(tensor, tag is not None)
        return tag

    def input(self, value: Any, tag: Tag | None) -> Any:
        """An argument of a part that is followed again: apart from the graph that it comes from."""
        if not isinstance(value, torch.Tensor) or id(value) in self._names:
            return value
        own = value.detach().requires_grad_(tag is not None and tag.flows)
        if tag is not None:
            tags.write(own, Tag(self._run, tag.axis, tag.flows))
        return own

    def segment(self, output: Array, axis: Axis, start: Array, sentence: str) -> None:
        """Take an output of a checkpointed part for a boundary, whose uses are heard of when it runs again.

        Args:
            output: It.
            axis: Where its samples are, which is looked at when it runs again.
            start: A leaf of the part's graph; a backward pass to it goes through the part.
            sentence: Why no gradient may come back, where the samples cannot be there.
        """
        self.segments += 1
        if not axis.fits(output.shape, self.n):
            self._poison(output, sentence)
            return
        self.boundary(output, axis)
        self._boundaries.add(get_gradient_edge(output).node)
        self.sources.append(get_gradient_edge(start))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The call as it is, or as a boundary runs it."""
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        if func in OPENED:
            with self:
                return OPENED[func](*args, **kwargs)
        quiet = _IS_QUIET.get(func)
        if _quiet(func) if quiet is None else quiet:
            return func(*args, **kwargs)
        data, made, refused = self._known(args, kwargs)
        if made and torch.is_grad_enabled():
            return self._with_parameters(func, args, kwargs, data, made)
        result = self._alike(self, func, args, kwargs, data) if self._alike else func(*args, **kwargs)
        if data:
            self._tagged(func, args, kwargs, data, result)
        if refused:
            self._refused(result)
        return result

    def _known(self, args: Any, kwargs: Any) -> tuple[list[Followed], dict[Place, tuple[Array, Names]], bool]:
        """The arguments that have samples, those made of parameters alone, and whether samples are lost in another."""
        data, made, refused = list[Followed](), dict[Place, tuple[Array, Names]](), False
        run = self._run
        for place, value in tensors(args, kwargs):
            tag = tags.read(value, run)
            if tag is not None and tag.axis is not None:
                self._require_seen(value, tag.flows)
                data.append(Followed(place, value, tag.axis, tag.flows))
            elif names := tag.names if tag is not None else self._names.get(id(value), ()):
                made[place] = value, names
            elif tag is None:
                self._require_seen(value, False)
            else:
                refused = True
        return data, made, refused

    def _refused(self, result: Any) -> None:
        """Remember that samples are lost in what has been computed from such a tensor."""
        for _, output in leaves(result):
            if isinstance(output, torch.Tensor) and output.requires_grad and tags.read(output, self._run) is None:
                tags.write(output, Tag(self._run))

    def _require_seen(self, tensor: Array, known: bool) -> None:
        """Raise an Unfit if a tensor comes from parameters although no call of this pass has given it."""
        if known or not tensor.requires_grad or tensor.is_leaf:
            return
        if leads_to(tensor, self._names, self._boundaries):
            raise Unfit(f"a tensor of {tuple(tensor.shape)} {UNSEEN}")

    def _with_parameters(
        self, func: Any, args: Any, kwargs: Any, data: list[Followed], made: dict[Place, tuple[Array, Names]]
    ) -> Any:
        """A call that takes parameters: a boundary, or what makes something of parameters alone."""
        names = {place: of for place, (_, of) in made.items()}
        if not data:
            if func in self._copies:
                copy = self._copies[func](self, Step(func, {}, names), args, kwargs)
                if copy is not None:
                    return copy
            result = func(*args, **kwargs)
            self._derived(func, args, result, names)
            return result
        # What comes from elsewhere than the parameters ends here.
        outside = {one.place: one.tensor.detach() for one in data if not one.flows and one.tensor.requires_grad}
        if outside:
            given = replaced({"args": args, "kwargs": kwargs}, outside)
            args, kwargs = given["args"], given["kwargs"]
            data = [one._replace(tensor=outside.get(one.place, one.tensor)) for one in data]
        step = Step(func, {one.place: one.axis for one in data}, names)
        return self._starts.get(func, self._other)(self, step, args, kwargs)

    def _derived(self, func: Any, args: Any, result: Any, names: Mapping[Place, Names]) -> None:
        """Remember what is made of parameters alone, and of which."""
        of = tuple(dict.fromkeys(name for some in names.values() for name in some))
        results = args[:1] if func is torch.Tensor.__setitem__ else [value for _, value in leaves(result)]
        for value in results:
            if isinstance(value, torch.Tensor) and value.requires_grad and id(value) not in self._names:
                tags.write(value, Tag(self._run, names=of))

    def rows_of_table(self, output: Array, names: Names, words: Array) -> None:
        """Remember that an output is rows of a parameter, for words that are the same for all samples."""
        tags.write(output, Tag(self._run, names=names, words=words))

    def table(self, tensor: Array) -> tuple[Target, Array] | None:
        """The parameter that a tensor is rows of, and of which words; None where it is something else."""
        tag = tags.read(tensor, self._run)
        if tag is None or tag.words is None:
            return None
        whole = self._theta[tag.names[0]]
        return Target(whole, tag.names, True, whole, range(whole.numel())), tag.words

    def followed(self, step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Array) -> Axis:
        """Where the samples are in a boundary's output; raises an Unfit where they cannot be told apart."""
        found = {place: find(args, kwargs, place) for place in step.data}
        data = [Followed(place, tensor, step.data[place], True) for place, tensor in found.items()]
        return self._axis(step.function, args, kwargs, data, output)

    def boundary(self, output: Array, axis: Axis) -> None:
        """Remember that an output of a boundary has samples."""
        tags.write(output, Tag(self._run, axis, flows=True))

    def _axis(self, func: Any, args: Any, kwargs: Any, data: Sequence[Followed], output: Array, at: int = 0) -> Axis:
        if func not in _RULES:
            _RULES[func] = rule_of(func)
        rule, call = _RULES[func], Call(func, args, kwargs, data, self.n, at)
        if rule is None:
            raise call.mixes("has no rule that says where the samples are in what it gives")
        try:
            axis = rule(call, output)
        except (IndexError, KeyError, TypeError, AttributeError, StopIteration, ValueError) as error:
            if isinstance(error, Unfit):
                raise
            raise call.mixes(f"is called in a way that its rule does not know ({error})") from error
        if not axis.fits(output.shape, self.n):
            raise call.mixes("gives another number of samples")
        return axis

    def _tagged(self, func: Any, args: Any, kwargs: Any, data: Sequence[Followed], result: Any) -> None:
        """Keep what is known of the result of a call without parameters."""
        flowing = [one for one in data if one.flows] if torch.is_grad_enabled() else []
        outputs = args[:1] if getattr(func, "__name__", "") == "__setitem__" else (result,)
        for at, (_, output) in enumerate(leaves(outputs)):
            if isinstance(output, torch.Tensor):
                flows = bool(flowing) and output.requires_grad
                try:
                    axis = self._axis(func, args, kwargs, flowing if flows else data, output, at)
                    tag: Tag | None = Tag(self._run, axis, flows)
                except Unfit as error:
                    tag, self._lost = None, self._lost or str(error)
                    if flows:
                        self._poison(output, str(error))
                if tag is not None or not flows:
                    tags.write(output, tag)
                if flows and output._base is not None and in_place(func):
                    self._written_through(output, tag)

    def _written_through(self, view: Array, tag: Tag | None) -> None:
        """What is written to a view in place is in what it is a view of."""
        base = view._base
        known = tags.read(base, self._run)
        if (known is not None and known.flows) or base.grad_fn is None or id(base) in self._names:
            return
        if not leads_to(base, (), self._boundaries):
            return
        dims = [] if tag is None or tag.axis is None else [
            dim for dim in range(base.ndim)
            if base.stride(dim) == view.stride(tag.axis.dim) and base.shape[dim] == view.shape[tag.axis.dim]
        ]  # fmt: skip
        if tag is None or tag.axis is None or len(dims) != 1:
            self._poison(base, "data are written in place to a part of a tensor that tells no samples apart")
        else:
            tags.write(base, Tag(self._run, tag.axis.moved(dims[0]), flows=True))

    def _poison(self, tensor: Array, sentence: str) -> None:
        """Have the backward pass raise where a gradient comes back through a tensor."""

        def refuse(g: Array) -> None:
            raise Unfit(sentence)

        tags.write(tensor, Tag(self._run))
        self._poisons.append(tensor.register_hook(refuse))
        self.sources.append(get_gradient_edge(tensor))  # or what leads to parameters alone would not be gone through

    def close(self) -> None:
        """Take off what would make a later backward pass through the same tensors raise."""
        for handle in self._poisons:
            handle.remove()

    def finish(self, outputs: Iterable[Array]) -> None:
        """Look at the model's output: samples first, or no gradient may come back through it."""
        for output in outputs:
            tag = tags.read(output, self._run)
            if output.requires_grad and (tag is None or tag.axis != Axis(0)):
                known = tag.axis if tag is not None else None
                why = f"they are along {known}" if known else self._lost or "no samples reach it"
                self._poison(output, f"{NOT_FIRST}: {why}")

    def knows(self, tensor: Array) -> bool:
        """Whether a tensor is a parameter or has been computed in this pass."""
        return id(tensor) in self._names or tags.read(tensor, self._run) is not None

    def target(self, names: tuple[str, ...], tensor: Array) -> Target:
        """What a boundary differentiates by."""
        whole = self._theta[names[0]]
        return Target(tensor, names, tensor is whole, whole, _block(tensor, whole))

    def targets(self, step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[Place, Target]:
        """The targets of a call by place."""
        return {place: self.target(names, find(args, kwargs, place)) for place, names in step.parameters.items()}

    def keep(self, use: Use, output: Array, axis: Axis, data: Sequence[Array]) -> None:
        """Have `use` told when the gradient of `output` arrives; `data` is what comes from earlier boundaries."""
        if not axis.fits(output.shape, self.n):
            # A gradient of one row would else be broadcast to all samples.
            raise Unfit(f"a {type(use).__name__} gives another number of samples than the batch has")
        if not output.requires_grad:
            raise Unfit(f"a {type(use).__name__} has an output that cannot be differentiated")
        for target in use.targets.values():
            self.uses.update(target.names * (1 if target.direct else 2))
        arrived, n, shape, waiting = self._arrived, self.n, output.shape, [use]
        heard = _written_once(output, [*data, *(target.tensor for target in use.targets.values())])

        def hear(g: Array) -> None:
            arrived(waiting[0], axis.first(g.reshape(shape), n))

        heard.register_hook(hear)
        edge = get_gradient_edge(heard)
        self._boundaries.add(edge.node)
        if not any(one.requires_grad for one in data):
            self.sources.append(edge)


def _quiet(func: Any) -> bool:
    """Whether a function gives no tensor that anything is computed with."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(func.__self__, "__name__", "")
    _IS_QUIET[func] = name in _QUIET
    return _IS_QUIET[func]


def tensors(args: Any, kwargs: Any) -> Iterable[tuple[Place, Array]]:
    """The tensors among arguments, with their places."""
    for kind, some in (("args", enumerate(args)), ("kwargs", kwargs.items())):
        for key, value in some:
            if isinstance(value, torch.Tensor):
                yield (kind, key), value
            elif isinstance(value, list | tuple | dict):
                yield from ((place, one) for place, one in leaves(value, (kind, key)) if isinstance(one, torch.Tensor))


def _written_once(output: Array, inputs: Sequence[Array]) -> Array:
    """An output, or what it is another shape of.

    What is then done to a view in place is done to what it is a view of, and autograd takes the view out of its graph.
    """
    base = output._base
    if base is None or base.grad_fn is None or base.numel() != output.numel():
        return output
    if not (base.is_contiguous() and output.is_contiguous()) or any(base is one or base is one._base for one in inputs):
        return output
    return base


def _block(tensor: Array, whole: Array) -> range | None:
    """The entries of a parameter that a tensor is a view of."""
    if tensor is not whole and (tensor._base is not whole or not tensor.is_contiguous() or not whole.is_contiguous()):
        return None
    start = tensor.storage_offset() - whole.storage_offset()
    return range(start, start + tensor.numel())


def find(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: Place) -> Any:
    """The argument at a place."""
    found: Any = args if place[0] == "args" else kwargs
    for key in place[1:]:
        found = found[key]
    return found
