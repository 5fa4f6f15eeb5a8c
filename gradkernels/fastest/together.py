"""Several uses of the same gradients that share one forward and one backward pass."""

from __future__ import annotations

from typing import Any

from gradkernels.memory.shared_passes import SharedPasses, current_passes


def together(*uses: Any) -> tuple[Any, ...]:
    """Compute several things of the same per-sample gradients by one forward and one backward pass of the module.

    Within it the calls of `gk.norms` and its siblings, and the uses of `gk.rows`, that have the same problem, theta, x
    and y share a pass: the first one runs it, and the others are made of the activations and output gradients that it
    left. These are kept until the end, and for nothing longer. Each result is proven and audited as alone. What cannot
    be computed of a kept pass (another kernel was named, `max_bytes` is set, activations are checkpointed, or
    `randomness="different"`) is computed by itself. What is written between two uses is noticed, but for writes that
    torch does not count: through a tensor's `.data`, or to a plain object that the model holds. These need another
    `together`.

    Args:
        uses: Functions without arguments, `lambda: G.norms()`; one of them may compute as much as it likes. What is no
            function is a result already, and is returned as it is.

    Returns:
        What each gives.
    """
    if current_passes() is not None:
        return _results(uses)
    with SharedPasses().scope():
        return _results(uses)


def _results(uses: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(use() if callable(use) else use for use in uses)
