"""torch.compile with code of its own for each shape, so that no limit on versions of one function is ever met."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any

from gradkernels.problems.module.mode_key.identity import identity
from gradkernels.tree import Tree, constants, leaves

MOST_COMPILED_SHAPES = 64  # that a function keeps compiled; the oldest makes room
_numbers = itertools.count()


def per_shape(
    function: Callable[..., Any], prepared: Callable[..., Callable[..., Any]] | None = None
) -> Callable[..., Any]:
    """Compile a function of tensors anew for each combination of shapes, strides, constants and threads.

    torch keeps what it compiled with the code object, at most 8 versions of it, and then raises or interprets. So
    each combination gets a code object of its own.

    Args:
        function: Of tensors, or trees of them.
        prepared: `prepared(function, *arrays)`, what is compiled for them instead; new at each call.
    """
    import torch

    own = prepared or _copied

    ready: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def call(*arrays: Tree) -> Any:
        kinds = [(leaf.shape, leaf.stride(), leaf.dtype, leaf.device) for leaf in leaves(arrays)]
        # Its constants, and the entries of tensors among them, are written into what is compiled.
        key = (torch.get_num_threads(), *kinds, *map(identity, constants(arrays)))
        if (compiled := ready.get(key)) is not None:  # recordings have no truth value
            return compiled(*arrays)
        if len(ready) >= MOST_COMPILED_SHAPES:
            del ready[next(iter(ready))]
        with warnings.catch_warnings():
            # torch's compiler uses functions that torch itself calls deprecated, and vmap says what it has no rule for.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            # On a GPU it advises lower precision, and says how it splits a reduction.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\._inductor")
            compiled = torch.compile(own(function, *arrays), fullgraph=True, dynamic=False)
            result = compiled(*arrays)
        ready[key] = compiled
        return result

    return call


def _copied(function: Any, *arrays: Tree) -> FunctionType:
    """Copy a function, with a code object that is equal to no other."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(_numbers)}")
    return FunctionType(code, function.__globals__, code.co_name, function.__defaults__, function.__closure__)
