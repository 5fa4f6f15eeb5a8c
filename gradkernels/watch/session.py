"""What the caller of `gk.watch` holds: told of calls of the model and of gradients, it says what is seen of them."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch
from torch.autograd import Variable

from gradkernels.backend import Array
from gradkernels.engines.hooks.precision import without_autocast
from gradkernels.problems.module.differentiable import is_called_by_us
from gradkernels.problems.module.structure import Module
from gradkernels.watch.audit import WatchAudits
from gradkernels.watch.backward import BackwardPass
from gradkernels.watch.calls_seen import CallsWithGraphs, SeenCall
from gradkernels.watch.clipping import Clipping, UnseenPasses, clipping_of, put_in_place
from gradkernels.watch.completeness import Completeness, Directions, compared
from gradkernels.watch.errors import CannotWatch
from gradkernels.watch.model_calls import ModelCalls, is_distributed, watched_module
from gradkernels.watch.passes import KnownPasses, TrainedParameters, parameters_of
from gradkernels.watch.request import WatchRequest
from gradkernels.watch.steps import Steps
from gradkernels.watch.values.history import History
from gradkernels.watch.values.measures import MEASURES


class Watch:
    """What is seen of a model's samples while its caller trains it; made by `gk.watch`.

    Attributes:
        history: A record of each quantity at each step that was looked at.
    """

    def __init__(self, model: Module, request: WatchRequest) -> None:
        self._model, self._watched, self._request = model, watched_module(model), request
        self._wanted = request.quantities
        self._steps, self._directions, self._draw = Steps(request.every), Directions(), random.Random()
        self._passes, self._trained = KnownPasses(self._watched, request.shared), TrainedParameters(self._watched)
        self._audits = WatchAudits(self._watched, request.shared, self._draw)
        self._calls: ModelCalls | None = None
        self._pending = CallsWithGraphs()
        self._current: SeenCall | None = None
        self._backward: BackwardPass | None = None
        self._clipping: Clipping | None = None
        self._clippable: BackwardPass | None = None
        self._unseen: UnseenPasses | None = None
        self._last_seen = -1
        self._keeps, self._unkept, self._mixed, self._ours = request.every == 1, False, False, False
        self.history: History = self._steps.history

    def __enter__(self) -> Self:
        """Begin to watch."""
        if self._calls is not None:
            raise CannotWatch("this watch has been entered already; make another one for another block")
        self._calls = ModelCalls(self._model, self._begin, self._end)
        self._steps.left(self._trained.now().values())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the model as it was; what was seen stays."""
        if self._calls is not None:
            self._calls.remove()
        if self._current is not None:
            self._current.close()
        self._pending.close()
        if self._backward is not None:
            self._backward.close()
        if self._unseen is not None:
            self._unseen.close()
        self._current = self._backward = self._clippable = None

    def __getattr__(self, name: str) -> Any:
        """Return a quantity of the last backward pass, or step; None where it was not looked at."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._wanted:
            return self._steps.value(name)
        what = "is not among what is watched" if name in MEASURES else "is no quantity that is watched"
        raise AttributeError(
            f"{name} {what}: this watch has {', '.join(self._wanted)}; there are {', '.join(MEASURES)}"
        )

    @property
    def n(self) -> int:
        """Number of samples that the values are of; 0 where the step was not looked at."""
        return self._steps.n

    def clip(
        self, max_norm: float | Mapping[str, float] = 1.0, *, by: Any = None, rule: Any = "clip", gamma: float = 0.01,
        nonfinite: str = "propagate",
    ) -> None:  # fmt: skip
        """Put the clipped sum of the samples' gradients into `.grad`, in the place of what backward() added to it.

        Called after a backward pass, it is done for that one; called before, for each from now on. With a GradScaler as
        `scale` the sum is scaled as the loss was, until `unscale_` or `step` takes that off.

        Args:
            max_norm: C, for all parameters or by group.
            by: None for the norm over all parameters; `parameter`, or lists of globs by group, for norms of their own.
            rule: `clip` for min(1, C / norm), `automatic` for C / (norm + gamma), or a function of the norms `(n,)`.
            gamma: Of `automatic`.
            nonfinite: Whether samples whose norms are not finite spoil the sum (`propagate`), or are left out (`drop`).
        """
        clipping = clipping_of(parameters_of(self._watched), max_norm, by, rule, gamma, nonfinite)
        if self._request.every > 1:
            raise CannotWatch("seen.clip needs each step: pass every=1")
        if is_distributed(self._model):
            raise CannotWatch("DistributedDataParallel averages .grad before a clipped sum can be put there")
        if self._clippable is None and self._unkept:
            raise CannotWatch(
                "seen.clip was not called after the backward pass before, so that nothing was kept of this one: call "
                "it after each backward pass, or once before the loop"
            )
        self._unseen = self._unseen or UnseenPasses(self._is_seen)
        self._unseen.hear(trained := self._trained.now())
        if self._clippable is None:
            if self._clipping is None:
                self._steps.require_nothing_unseen(trained)
            self._clipping = clipping
        else:
            self._clip(self._clippable, clipping)

    def _clip(self, backward: BackwardPass, clipping: Clipping) -> None:
        if self._mixed:
            raise CannotWatch(
                ".grad holds what an earlier backward pass has left there unclipped: call seen.clip after each "
                "backward pass, or once before the loop"
            )
        put_in_place(backward, clipping, self._factors(backward), *self._request.scale_left())
        self._clippable = None
        self._steps.left(backward.theta.values())

    def _is_seen(self, task: int) -> bool:
        """Return whether a backward pass is one through a watched call, or runs within one."""
        return task == self._last_seen or self._backward is not None

    def step(self) -> None:
        """End a step of several backward passes: the values are then those of all its samples."""
        self._steps.close()

    @property
    def _model_calls(self) -> ModelCalls:
        assert self._calls is not None
        return self._calls

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin to follow a call of the model, if it is looked at."""
        self._current = None
        self._ours = is_called_by_us() or not torch.is_grad_enabled()
        if self._ours:
            return
        if torch._C._current_graph_task_id() != -1:
            if self._pending.alive():  # a part of the program runs again, whose first run was followed
                self._ours = True
                return
            raise CannotWatch("the model is called in a backward pass: watch a model whose parts are checkpointed")
        trained = self._trained.now()
        self._begin_step(trained.values())
        if not self._steps.looked:
            return
        self._trained.require_usable(trained)
        if self._unseen is not None:
            self._unseen.hear(trained)
        call = self._passes.begin(trained, (args, kwargs), self._model_calls)
        self._request.require_room(trained, call.n)
        call.buffers = self._audits.buffers()
        self._current = call
        call.begin()

    def _begin_step(self, trained: Collection[Array]) -> None:
        if self._clippable is not None or self._unkept:
            self._mixed = self._steps.is_going_on(trained)
            self._keeps, self._clippable, self._unkept = False, None, False
        self._steps.begin(trained)

    def _end(self, output: Any) -> Any:
        """Follow nothing any more; listen to what comes back through the output, or through another in its place."""
        call, self._current = self._current, None
        if call is None and not self._ours:
            self._steps.listen(output)
        elif call is None:
            return None
        elif output is None:
            call.close()
        else:
            seen, instead = self._passes.end(call, output, self._model_calls, self._arrived)
            self._pending.add(seen)
            return instead
        return None

    def _arrived(self, call: SeenCall) -> None:
        """Take it that gradients arrive for a forward pass, maybe the first of a backward pass."""
        task = torch._C._current_graph_task_id()
        if self._backward is not None and self._backward.task != task:  # that one raised
            self._backward.close()
            self._backward = None
        if self._backward is None and not call.reaches_parameters():
            return
        if self._backward is None:
            keep = self._keeps or self._clipping is not None
            calls = [*dict.fromkeys([*self._pending.alive(), call])]
            together, names = self._request.passes == "same", compared([*call.theta], self._steps.seen + 1, self._draw)
            check = Completeness(call.theta, self._directions, names)
            wanted = self._request.within_limit(call.theta, max(one.n for one in calls))
            self._backward = BackwardPass(calls, wanted, together, keep, check)
            Variable._execution_engine.queue_callback(self._finish)
        if self._backward.heard and self._request.passes == "one":
            raise CannotWatch(
                "one backward pass goes through several forward passes: pass passes='same' if they are of the same "
                "samples, whose gradients add up, or passes='more' if each has samples of its own"
            )
        self._backward.begin(call, frozenset(call.theta) if call.repeats else frozenset())

    def _finish(self) -> None:
        """Look at what has arrived, once a backward pass is over."""
        backward, self._backward = self._backward, None
        if backward is None:
            return
        try:
            with torch.no_grad(), without_autocast(backward.device):
                self._look(backward)
        finally:
            backward.close()

    def _look(self, backward: BackwardPass) -> None:
        backward.settle()
        self._last_seen = backward.task
        backward.require(self._request.reduction, self._request.scale_now())
        factors = self._factors(backward)
        backward.length = partial(self._audits.length, backward)
        self._steps.add(backward, factors, self._wanted)
        self._steps.left(backward.theta.values())
        (first, *_) = factors.values()
        self._audits.audit(backward, self._steps.values, first)
        if self._clipping is not None:
            self._clip(backward, self._clipping)
        else:
            self._clippable, self._unkept = (backward, False) if backward.keep else (None, True)

    def _factors(self, backward: BackwardPass) -> dict[int, float]:
        reduction, scale = self._request.reduction, self._request.scale_now()
        return {key: backward.factor(one, reduction, scale) for key, one in backward.samples.items()}
