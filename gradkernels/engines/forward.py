"""Forward-mode differentiation: the derivatives of all losses along a direction, from one pass without a backward one.

The loss of sample i depends on the parameters alone, so that one pass of dual numbers has g_i . v for all of them.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from gradkernels.backend import Array
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.memory import ordinary
from gradkernels.problems import BlackBox
from gradkernels.tree import Tree, each

with warnings.catch_warnings():
    # Loaded by the first dual number otherwise, with a warning of torch to itself.
    warnings.simplefilter("ignore", DeprecationWarning)
    importlib.import_module("torch._decomp.decompositions_for_jvp")

WORDS_OF_NO_FORWARD = ("forward AD", "forward mode AD", "forward-mode", "jvp")
"""What torch's messages say of operations that have no forward mode; one of these words at least."""

_make_dual: Any = forward_ad.make_dual
_unpack_dual: Any = forward_ad.unpack_dual
_LEVEL = threading.RLock()
"""Held while there are dual numbers: torch has one level of them for all threads."""


class _EndedByNoGrad(TorchFunctionMode):
    """Ends derivatives where `torch.no_grad` does, which forward mode by itself does not heed."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if torch.is_grad_enabled():
            return func(*args, **(kwargs or {}))
        with forward_ad._set_fwd_grad_enabled(False):
            return func(*args, **(kwargs or {}))


def losses_along(
    problem: BlackBox, theta: Mapping[str, Array], data: tuple[Tree, Tree], v: Mapping[str, Array]
) -> Array:
    """Return the derivative of each sample's loss along a direction, `(n,)`.

    Args:
        problem: Of a module.
        theta: Parameters by name.
        data: Inputs and targets, samples first.
        v: Direction, of theta's names and shapes.

    Raises:
        Unfit: An operation of the model has no forward mode, or parameters are complex.
    """
    if any(one.is_complex() for one in theta.values()):
        raise Unfit("torch.jvp differentiates by real parameters, and some are complex; use torch.hooks")
    x, y = each(lambda tensor: ordinary(tensor).detach(), data)
    # The fused kernels of attention have no forward mode.
    with _LEVEL, torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        try:
            with forward_ad.dual_level(), _EndedByNoGrad():
                duals = {
                    name: _make_dual(*(ordinary(part).detach() for part in (one, v[name])))
                    for name, one in theta.items()
                }
                losses = _unpack_dual(problem.sample_losses(duals, x, y))
        except (RuntimeError, NotImplementedError) as error:
            if not any(word in str(error) for word in WORDS_OF_NO_FORWARD):
                raise
            says = str(error).partition("\n")[0].partition(". ")[0]
            raise Unfit(f"torch.jvp needs forward-mode differentiation, which torch has not here: {says}") from error
    return (torch.zeros_like(losses.primal) if losses.tangent is None else losses.tangent).detach()
