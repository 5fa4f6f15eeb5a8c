"""What is known of the tensors of one forward pass: where the samples are, what is made of parameters, what is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import ArgPath, tensor_arguments, walk_arguments, writes_in_place
from gradkernels.engines.hooks.capture import tags
from gradkernels.engines.hooks.capture.boundary import ParameterNames
from gradkernels.engines.hooks.capture.follow.indexing import looks_at_index
from gradkernels.engines.hooks.capture.follow.output_axis import output_axis
from gradkernels.engines.hooks.capture.follow.tracked_call import TrackedArgument
from gradkernels.engines.hooks.capture.graph_search import leads_to
from gradkernels.engines.hooks.capture.sample_axis import Axis
from gradkernels.engines.hooks.capture.tags import JOINT_DRAW, NOT_FIRST, UNSEEN, Made, Other, TensorTag, drawn_apart
from gradkernels.engines.hooks.capture.views import axis_of_base
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.problems.module.structure import Parameters


class SampleTracker:
    """The tags of one pass, kept on the tensors themselves (`gradkernels.engines.hooks.capture.tags`).

    Args:
        n: Number of samples, at least 2.
        theta: Parameters that the model holds.
        for_caller: Whether gradients flow on to where inputs come from.

    Attributes:
        n: Number of samples.
        sources: Where a backward pass may end.
        boundaries: Nodes of the graph that uses hear from.
        refusals: Hooks that raise where a gradient comes back, and the number of axes of each one's tensor.
    """

    def __init__(self, n: int, theta: Parameters, for_caller: bool = False) -> None:
        self.n, self._flowing = n, for_caller
        self.sources: list[GradientEdge] = []
        self.boundaries = set[Any]()
        self._names: dict[int, ParameterNames] = {id(tensor): (name,) for name, tensor in theta.items()}
        self._run, self.refusals = object(), list[Any]()
        self._lost = self._sentence = ""

    def mark_inputs(self, tensors: Iterable[Array], dim: int = 0) -> None:
        """Take tensors for inputs, with the samples along axis `dim`."""
        for tensor in tensors:
            tags.write_tag(tensor, TensorTag(self._run, Axis(dim), flows=self._flowing and tensor.requires_grad))

    def detached_input(self, value: Any, tag: TensorTag | None) -> Any:
        """Return an argument of a part that is followed again, apart from the graph that it comes from."""
        if not isinstance(value, torch.Tensor) or id(value) in self._names:
            return value
        own = value.detach().requires_grad_(tag is not None and tag.flows)
        if tag is not None:
            tags.write_tag(own, TensorTag(self._run, tag.axis, tag.flows))
        return own

    def classify(self, args: Any, kwargs: Any) -> tuple[list[TrackedArgument], dict[ArgPath, Made], list[Other]]:
        """Sort tensor arguments: with samples, made of parameters alone, and others of which something is known."""
        data, made, others = list[TrackedArgument](), dict[ArgPath, Made](), list[Other]()
        run, names_of = self._run, self._names
        for place, value in tensor_arguments(args, kwargs):
            tag = value.__dict__.get(tags.TAG_ATTRIBUTE)
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
                data.append(TrackedArgument(place, value, axis, flows))
            elif names:
                made[place] = value, names
            else:
                others.append((place, value, tag))
        return data, made, others

    def _require_seen(self, tensor: Array, known: bool) -> None:
        """Raise an Unfit if a tensor comes from parameters although no call of this pass has given it."""
        if not (known or tensor.is_leaf) and tensor.requires_grad and leads_to(tensor, self._names, self.boundaries):
            raise Unfit(f"a tensor of {tuple(tensor.shape)} {UNSEEN}")

    def tag(self, tensor: Array) -> TensorTag | None:
        """Return what is known of a tensor; raise an Unfit where it comes from parameters unseen."""
        tag = tags.read_tag(tensor, self._run)
        self._require_seen(tensor, tag is not None)
        return tag

    def knows(self, tensor: Array) -> bool:
        """Return whether a tensor is a parameter or has been computed in this pass."""
        return id(tensor) in self._names or tags.read_tag(tensor, self._run) is not None

    def mark_boundary(self, output: Array, axis: Axis, copied: Array | None = None, flows: bool = True) -> None:
        """Remember that an output has samples.

        Args:
            output: Of a boundary.
            axis: Where its samples are.
            copied: What each of them is a copy of, if they are.
            flows: Whether gradients flow through it: it may be of a call without parameters too.
        """
        tags.write_tag(output, TensorTag(self._run, axis, flows, copied=copied))

    def copied_parameter(self, tensor: Array) -> Array | None:
        """Return what a tensor has a copy of for each sample; None where it is something else."""
        return None if (tag := tags.read_tag(tensor, self._run)) is None else tag.copied

    def mark_derived(self, func: Any, args: Any, result: Any, names: Mapping[ArgPath, ParameterNames]) -> None:
        """Remember what is made of parameters alone, and of which.

        Args:
            func: What is called.
            args: Its arguments by position.
            result: What it gives.
            names: Of the parameters by path.
        """
        if args and result is args[0] and not writes_in_place(func):
            return  # `rows.to(device)` are the rows, known already
        of = tuple(dict.fromkeys(name for some in names.values() for name in some))
        results = args[:1] if func is torch.Tensor.__setitem__ else [value for _, value in walk_arguments(result)]
        for value in results:
            if isinstance(value, torch.Tensor) and value.requires_grad and id(value) not in self._names:
                tags.write_tag(value, TensorTag(self._run, names=of))

    def mark_table_rows(self, output: Array, names: ParameterNames, words: Array) -> None:
        """Remember that an output is rows of a parameter, for words that are the same for all samples.

        Args:
            output: The rows.
            names: Of the parameter.
            words: Which rows.
        """
        tags.write_tag(output, TensorTag(self._run, names=names, words=words))

    def table_words(self, tensor: Array) -> tuple[ParameterNames, Array] | None:
        """Return the parameter that a tensor is rows of, and of which words; None where it is something else."""
        tag = tags.read_tag(tensor, self._run)
        return None if tag is None or tag.words is None else (tag.names, tag.words)

    def mark_result(self, func: Any, args: Any, kwargs: Any, data: Sequence[TrackedArgument], result: Any) -> None:
        """Keep what is known of the result of a call without parameters.

        Args:
            func: What is called.
            args: Its arguments by position.
            kwargs: Its arguments by name.
            data: Those with samples.
            result: What it gives.
        """
        flows = torch.is_grad_enabled() and any(one.flows for one in data)
        if isinstance(result, torch.Tensor):
            self._mark_output(func, args, kwargs, data, result, 0, flows=flows)
            return
        outputs = args[:1] if getattr(func, "__name__", "") == "__setitem__" else (result,)
        for at, (_, output) in enumerate(walk_arguments(outputs)):
            if isinstance(output, torch.Tensor):
                self._mark_output(func, args, kwargs, data, output, at, flows=flows)

    def _mark_output(
        self, func: Any, args: Any, kwargs: Any, data: Sequence[TrackedArgument], output: Array, at: int, *, flows: bool
    ) -> None:
        flows, tag = flows and output.requires_grad, None
        try:
            tag = TensorTag(self._run, output_axis(func, args, kwargs, data, output, self.n, at), flows)
        except Unfit as error:
            self._sentence = str(error)
            self._lost = self._lost or self._sentence
            if flows:
                self.refuse_gradient(output, self._sentence)
        if tag is not None:
            tags.write_tag(output, tag)
        elif not flows:
            tags.write_tag(output, TensorTag(self._run, lost=self._sentence))
        if flows and output._base is not None and writes_in_place(func):
            self._written_through(output, tag)

    def mark_mixed(self, func: Any, args: Any, others: Sequence[Other], result: Any) -> None:
        """Keep what is known of the result of a call that takes data without samples, or numbers that were drawn.

        Args:
            func: What is called.
            args: Its arguments by position.
            others: Those arguments.
            result: What it gives.
        """
        if looks_at_index(func, args, tags.read_tag(result, self._run) if isinstance(result, torch.Tensor) else None):
            others = [one for one in others if one[0] == ("args", 0)]
        for _, output in walk_arguments(args[:1] if func is torch.Tensor.__setitem__ else result):
            if not isinstance(output, torch.Tensor):
                continue
            own = tags.read_tag(output, self._run)
            wrong = [tag for _, value, tag in others if not (tag.drawn and drawn_apart(value, own, output))]
            if wrong and output.requires_grad and torch.is_grad_enabled():
                self.refuse_gradient(output, JOINT_DRAW if wrong[0].drawn else wrong[0].lost)
            elif wrong:
                tags.write_tag(output, wrong[0])

    def mark_drawn(self, result: Any) -> None:
        """Remember that random numbers were drawn, apart from data."""
        for _, output in walk_arguments(result):
            if isinstance(output, torch.Tensor) and tags.read_tag(output, self._run) is None:
                tags.write_tag(output, TensorTag(self._run, drawn=True))

    def _written_through(self, view: Array, tag: TensorTag | None) -> None:
        """Mark what a view is of as holding what is written to the view in place."""
        known = tags.read_tag(base := view._base, self._run)
        seen = (known is not None and known.flows) or base.grad_fn is None or id(base) in self._names
        if seen or not leads_to(base, (), self.boundaries):
            return
        axis = None if tag is None or tag.axis is None else axis_of_base(base, view, tag.axis)
        if axis is None:
            self.refuse_gradient(base, "data are written in place to a part of a tensor that tells no samples apart")
        else:
            tags.write_tag(base, TensorTag(self._run, axis, flows=True))

    def refuse_gradient(self, tensor: Array, sentence: str) -> None:
        """Have the backward pass raise where a gradient comes back through a tensor."""

        def refuse(g: Array) -> None:
            raise Unfit(sentence)

        tags.write_tag(tensor, TensorTag(self._run, lost=sentence))
        self.refusals.append((tensor.register_hook(refuse), tensor.ndim))
        self.sources.append(get_gradient_edge(tensor))  # or what leads to parameters alone would not be gone through

    def check_outputs(self, outputs: Iterable[Array], anywhere: bool = False) -> None:
        """Look at an output: samples first, or `anywhere` beside losses of all, or no gradient may come back."""
        for output in (one for one in outputs if one.requires_grad):
            tag = tags.read_tag(output, self._run)
            axis = Axis(0) if anywhere and not output.ndim else tag and tag.axis
            if axis is None or (axis != Axis(0) and not anywhere):
                why = f"they are along {axis}" if axis else self._lost or "no samples reach it"
                self.refuse_gradient(output, f"{NOT_FIRST}: {why}")
            elif not (tag and tag.flows) and leads_to(output, self._names, self.boundaries, True):
                self.refuse_gradient(output, f"the output of {tuple(output.shape)} {UNSEEN}")

    def allow_gradients(self, ndim: int | None = None) -> None:
        """Have no later backward pass through the same tensors raise; with `ndim` through those of so many axes."""
        for handle, _ in (one for one in self.refusals if ndim in (None, one[1])):
            handle.remove()
        self.refusals = [one for one in self.refusals if ndim not in (None, one[1])]
