"""Parts of a model that torch runs in a way that cannot be differentiated, unless told otherwise.

Activation checkpointing: the reentrant kind of `torch.utils.checkpoint` can be differentiated by `backward()` alone,
and neither kind under `torch.func`. A gradient is the same whether a part's activations are kept or computed again, so
here the other kind runs it, or it is run as it is.

Recurrent layers in eval mode on a GPU: cuDNN keeps nothing for their backward pass, so torch's own kernels run them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from threading import Lock
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

RunModel = Callable[..., Any]
"""`run(function, *args, **kwargs)`: what a part gives."""

_FUNCTION = getattr(checkpoint, "__wrapped__", checkpoint)
_HANDLE = "__dynamo_disable"
"""Under this name torch's own decorator keeps what a call of `checkpoint` runs, wherever it was imported to."""

_OPTIONS = ("use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop")
_running: ContextVar[RunModel | None] = ContextVar("running", default=None)
_calling: ContextVar[bool] = ContextVar("calling", default=False)
_lock, _users = Lock(), 0
_before: RunModel | None = None


def _dispatch(function: Any, *args: Any, **kwargs: Any) -> Any:
    run = _running.get()
    if run is None:  # another thread's model
        return (_before or _FUNCTION)(function, *args, **kwargs)
    return run(function, *args, **{name: value for name, value in kwargs.items() if name not in _OPTIONS})


@contextmanager
def run_by(run: RunModel) -> Iterator[None]:
    """Have `run` run the parts that are checkpointed, in this thread, as long as the context lasts."""
    _enter()
    token = _running.set(run)
    try:
        yield
    finally:
        _running.reset(token)
        _leave()


@contextmanager
def parts_of(model: Any) -> Iterator[None]:
    """Have the parts of a model run so that they can be differentiated; checkpointed ones unless `run_by` says how."""
    run = nullcontext() if _running.get() is not None else run_by(_differentiable)
    token = _calling.set(True)
    try:
        with run, _without_cudnn() if _has_frozen_rnn(model) else nullcontext():
            yield
    finally:
        _calling.reset(token)


def is_called_by_us() -> bool:
    """Return whether a model runs for a kernel or a proof, and not for its own caller."""
    return _calling.get()


def _has_frozen_rnn(model: Any) -> bool:
    """Tell whether cuDNN may run a recurrent layer of the model that is not in training mode."""
    return torch.cuda.is_initialized() and any(  # type: ignore[no-untyped-call]
        isinstance(module, torch.nn.RNNBase) and not module.training for module in model.modules()
    )


@contextmanager
def _without_cudnn() -> Iterator[None]:
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def _differentiable(function: Any, *args: Any, **kwargs: Any) -> Any:
    if torch._C._functorch.peek_interpreter_stack() is not None or not torch.is_grad_enabled():
        return function(*args, **kwargs)
    return (_before or _FUNCTION)(function, *args, use_reentrant=False, **kwargs)


def _enter() -> None:
    global _users, _before
    with _lock:
        if not _users:
            _before = getattr(_FUNCTION, _HANDLE, None)
            setattr(_FUNCTION, _HANDLE, _dispatch)
        _users += 1


def _leave() -> None:
    global _users
    with _lock:
        _users -= 1
        if not _users and _before is None:
            delattr(_FUNCTION, _HANDLE)
        elif not _users:
            setattr(_FUNCTION, _HANDLE, _before)
