"""What is known of the tensors of one forward pass: where the samples are, what is made of parameters, what is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import Place, in_place, leaves, tensors
from gradkernels.engines.hooks.capture import tags
from gradkernels.engines.hooks.capture.boundary import Names
from gradkernels.engines.hooks.capture.follow import rule_of
from gradkernels.engines.hooks.capture.follow.pointwise import pointwise
from gradkernels.engines.hooks.capture.follow.tracked_call import Call, Followed, Rule
from gradkernels.engines.hooks.capture.graph_search import leads_to
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tags import Tag
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.problems.module.structure import Parameters

UNSEEN = (
    "is computed from parameters where no call of a torch function shows it: by an autograd.Function, compiled code or "
    "a change in place of another view; pass kernel='torch.loop', which takes one sample at a time"
)
SHARED = (
    "random numbers are drawn for all samples together, and randomness='different' needs some for each: draw them with "
    "the samples first, or pass kernel='torch.loop'"
)
NOT_FIRST = "the model's output does not have the samples first"

Other = tuple[Place, Array, Tag]
"""An argument in which samples are lost, or random numbers."""

_RULES: dict[Any, Rule | None] = {}


def _rule_of(func: Any) -> Rule | None:
    try:
        return _RULES[func]
    except KeyError:
        _RULES[func] = found = rule_of(func)
        return found


class Marks:
    """Of one pass, kept on the tensors themselves (`gradkernels.engines.hooks.capture.tags`).

    Args:
        n: Number of samples, at least 2.
        theta: Parameters that the model holds.

    Attributes:
        n: Number of samples.
        sources: Where a backward pass may end.
        boundaries: Nodes of the graph that uses hear from.
    """

    def __init__(self, n: int, theta: Parameters) -> None:
        self.n = n
        self.sources: list[GradientEdge] = []
        self.boundaries = set[Any]()
        self._names: dict[int, Names] = {id(tensor): (name,) for name, tensor in theta.items()}
        self._run = object()
        self._poisons: list[Any] = []
        self._lost = self._sentence = ""

    def samples(self, tensors: Iterable[Array]) -> None:
        """Take these for inputs, with the samples first."""
        for tensor in tensors:
            tags.write(tensor, Tag(self._run, Axis(0)))

    def input(self, value: Any, tag: Tag | None) -> Any:
        """An argument of a part that is followed again: apart from the graph that it comes from."""
        if not isinstance(value, torch.Tensor) or id(value) in self._names:
            return value
        own = value.detach().requires_grad_(tag is not None and tag.flows)
        if tag is not None:
            tags.write(own, Tag(self._run, tag.axis, tag.flows))
        return own

    def known(self, args: Any, kwargs: Any) -> tuple[list[Followed], dict[Place, tuple[Array, Names]], list[Other]]:
        """The arguments that have samples, those made of parameters alone, and others of which something is known."""
        data, made, others = list[Followed](), dict[Place, tuple[Array, Names]](), list[Other]()
        run, names_of = self._run, self._names
        for place, value in tensors(args, kwargs):
            tag = value.__dict__.get(tags.KEPT)
            if tag is None or tag[0] is not run:  # tag.run: this is asked at each call of the forward pass
                names = names_of.get(id(value))
                if names is not None:
                    made[place] = value, names
                elif value.requires_grad:
                    self._require_seen(value, False)
                continue
            _, axis, flows, names, *_ = tag
            if axis is not None:
                if not flows and value.requires_grad:
                    self._require_seen(value, False)
                data.append(Followed(place, value, axis, flows))
            elif names:
                made[place] = value, names
            else:
                others.append((place, value, tag))
        return data, made, others

    def _require_seen(self, tensor: Array, known: bool) -> None:
        """Raise an Unfit if a tensor comes from parameters although no call of this pass has given it."""
        if known or not tensor.requires_grad or tensor.is_leaf:
            return
        if leads_to(tensor, self._names, self.boundaries):
            raise Unfit(f"a tensor of {tuple(tensor.shape)} {UNSEEN}")

    def tag(self, tensor: Array) -> Tag | None:
        """What is known of a tensor; raises an Unfit where it comes from parameters unseen."""
        tag = tags.read(tensor, self._run)
        self._require_seen(tensor, tag is not None)
        return tag

    def knows(self, tensor: Array) -> bool:
        """Whether a tensor is a parameter or has been computed in this pass."""
        return id(tensor) in self._names or tags.read(tensor, self._run) is not None

    def boundary(self, output: Array, axis: Axis, copied: Array | None = None) -> None:
        """Remember that an output of a boundary has samples, each perhaps a copy of the same."""
        tags.write(output, Tag(self._run, axis, flows=True, copied=copied))

    def copied(self, tensor: Array) -> Array | None:
        """What a tensor has a copy of for each sample; None where it is something else."""
        tag = tags.read(tensor, self._run)
        return None if tag is None else tag.copied

    def derived(self, func: Any, args: Any, result: Any, names: Mapping[Place, Names]) -> None:
        """Remember what is made of parameters alone, and of which."""
        of = tuple(dict.fromkeys(name for some in names.values() for name in some))
        results = args[:1] if func is torch.Tensor.__setitem__ else [value for _, value in leaves(result)]
        for value in results:
            if isinstance(value, torch.Tensor) and value.requires_grad and id(value) not in self._names:
                tags.write(value, Tag(self._run, names=of))

    def rows_of_table(self, output: Array, names: Names, words: Array) -> None:
        """Remember that an output is rows of a parameter, for words that are the same for all samples."""
        tags.write(output, Tag(self._run, names=names, words=words))

    def words_of(self, tensor: Array) -> tuple[Names, Array] | None:
        """The parameter that a tensor is rows of, and of which words; None where it is something else."""
        tag = tags.read(tensor, self._run)
        return None if tag is None or tag.words is None else (tag.names, tag.words)

    def axis(self, func: Any, args: Any, kwargs: Any, data: Sequence[Followed], output: Array, at: int = 0) -> Axis:
        """Where the samples are in an output of a call; raises an Unfit where they cannot be told apart."""
        rule = _rule_of(func)
        if rule is pointwise and len(data) == 1 and data[0].tensor.ndim == output.ndim:
            axis = data[0].axis
            if axis.fits(output.shape, self.n):
                return axis
        call = Call(func, args, kwargs, data, self.n, at)
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

    def tagged(self, func: Any, args: Any, kwargs: Any, data: Sequence[Followed], result: Any) -> None:
        """Keep what is known of the result of a call without parameters."""
        flowing = [one for one in data if one.flows] if torch.is_grad_enabled() else []
        if isinstance(result, torch.Tensor):
            self._tagged(func, args, kwargs, data, flowing, result, 0)
            return
        outputs = args[:1] if getattr(func, "__name__", "") == "__setitem__" else (result,)
        for at, (_, output) in enumerate(leaves(outputs)):
            if isinstance(output, torch.Tensor):
                self._tagged(func, args, kwargs, data, flowing, output, at)

    def _tagged(
        self, func: Any, args: Any, kwargs: Any, data: Sequence[Followed], flowing: Sequence[Followed], output: Array,
        at: int,
    ) -> None:  # fmt: skip
        flows = bool(flowing) and output.requires_grad
        tag: Tag | None = None
        try:
            tag = Tag(self._run, self.axis(func, args, kwargs, data, output, at), flows)
        except Unfit as error:
            self._sentence = str(error)
            self._lost = self._lost or self._sentence
            if flows:
                self.poison(output, self._sentence)
        if tag is not None:
            tags.write(output, tag)
        elif not flows:
            tags.write(output, Tag(self._run, lost=self._sentence))
        if flows and output._base is not None and in_place(func):
            self._written_through(output, tag)

    def met(self, func: Any, args: Any, others: Sequence[Other], result: Any) -> None:
        """Keep what is known of the result of a call that takes data without samples, or numbers that were drawn."""
        # By which index entries are picked, the rule for it looks at itself.
        others = [one for one in others if func is not torch.Tensor.__getitem__ or one[0] == ("args", 0)]
        for _, output in leaves(args[:1] if func is torch.Tensor.__setitem__ else result):
            if not isinstance(output, torch.Tensor):
                continue
            own = tags.read(output, self._run)
            wrong = [tag for _, value, tag in others if not (tag.drawn and self._apart(value, own, output))]
            if wrong and output.requires_grad and torch.is_grad_enabled():
                self.poison(output, SHARED if wrong[0].drawn else wrong[0].lost)
            elif wrong:
                tags.write(output, wrong[0])

    def _apart(self, drawn: Array, own: Tag | None, output: Array) -> bool:
        """Whether numbers that were drawn are other ones for each sample of an output."""
        if own is None or own.axis is None:
            return False
        dim = own.axis.dim - (output.ndim - drawn.ndim)
        return 0 <= dim < drawn.ndim and drawn.shape[dim] == output.shape[own.axis.dim]

    def draw(self, result: Any) -> None:
        """Remember that random numbers were drawn, apart from data."""
        for _, output in leaves(result):
            if isinstance(output, torch.Tensor) and tags.read(output, self._run) is None:
                tags.write(output, Tag(self._run, drawn=True))

    def _written_through(self, view: Array, tag: Tag | None) -> None:
        """What is written to a view in place is in what it is a view of."""
        base = view._base
        known = tags.read(base, self._run)
        if (known is not None and known.flows) or base.grad_fn is None or id(base) in self._names:
            return
        if not leads_to(base, (), self.boundaries):
            return
        dims = [] if tag is None or tag.axis is None else [
            dim for dim in range(base.ndim)
            if base.stride(dim) == view.stride(tag.axis.dim) and base.shape[dim] == view.shape[tag.axis.dim]
        ]  # fmt: skip
        if tag is None or tag.axis is None or len(dims) != 1:
            self.poison(base, "data are written in place to a part of a tensor that tells no samples apart")
        else:
            tags.write(base, Tag(self._run, tag.axis.moved(dims[0]), flows=True))

    def poison(self, tensor: Array, sentence: str) -> None:
        """Have the backward pass raise where a gradient comes back through a tensor."""

        def refuse(g: Array) -> None:
            raise Unfit(sentence)

        tags.write(tensor, Tag(self._run, lost=sentence))
        self._poisons.append(tensor.register_hook(refuse))
        self.sources.append(get_gradient_edge(tensor))  # or what leads to parameters alone would not be gone through

    def finish(self, outputs: Iterable[Array]) -> None:
        """Look at the model's output: samples first, or no gradient may come back through it."""
        for output in outputs:
            tag = tags.read(output, self._run)
            if output.requires_grad and (tag is None or tag.axis != Axis(0)):
                known = tag.axis if tag is not None else None
                why = f"they are along {known}" if known else self._lost or "no samples reach it"
                self.poison(output, f"{NOT_FIRST}: {why}")

    def close(self) -> None:
        """Take off what would make a later backward pass through the same tensors raise."""
        for handle in self._poisons:
            handle.remove()
