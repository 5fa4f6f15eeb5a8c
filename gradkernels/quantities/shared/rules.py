"""Rules by which the gradient of a sample is cut: from norms to weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkernels.backend import Array, Backend, backend_of
from gradkernels.names import dtype_name, pick
from gradkernels.quantities.shared.arguments import positive
from gradkernels.row_norms import cast_like, wide
from gradkernels.tree import Tree, leaves

CLIP, AUTOMATIC = "clip", "automatic"
CLIPPING_RULES = (CLIP, AUTOMATIC)
GAMMA = 0.01

Rule = str | Callable[[Array], Array]
"""`clip`, `automatic`, or a function of norms `(n,)` that gives weights `(n,)`."""

Limit = float | dict[str, float]
"""What norms are cut to: one length for all groups, or one for each by its name."""


class WrongRule(ValueError):
    """A caller's own rule failed, or gave what cannot be weights: no kernel's fault, and no other could do better."""


def weights_of(xp: Any, norms: Array, limit: Any, rule: Rule, gamma: Any) -> Array:
    """Return the weight of each sample, `(n,)`: min(1, limit / norm), limit / (norm + gamma), or what a function gives.

    Args:
        xp: `numpy`, `torch` or `jax.numpy`.
        norms: `(n,)`; one may be zero, or not finite.
        limit: Length to which norms are cut; infinity cuts nothing.
        rule: Which of these.
        gamma: Of the automatic rule (Bu et al. 2022, arXiv:2206.07136).
    """
    if callable(rule):
        return rule(norms)
    if rule == AUTOMATIC:
        return limit / (norms + gamma)
    if xp.__name__ == "torch":  # which divides by zero without a warning
        return (limit / norms).clamp(max=1.0)
    return xp.reciprocal(xp.clip(norms / limit, min=1.0))


def limit_of(limit: Any, group: str) -> Any:
    """Return the length to which the norms of a group are cut."""
    return limit[group] if isinstance(limit, dict) else limit


def stand_in(norms: Array) -> Array:
    """Return 1 / (1 + norm): a rule by which kernels are proven, in any library."""
    return 1 / (1 + norms)


def of_some(rule: Rule, samples: Any) -> Rule:
    """Return the rule for some of the samples: a caller's function is for those of its call alone.

    Args:
        rule: It.
        samples: Their numbers.
    """
    return stand_in if callable(rule) else rule


def limits(value: Any, n: int, theta: Tree) -> Limit:
    """Return the lengths to which norms are cut: one, or one for each group by its name.

    Args:
        value: A positive number, or a dict of them.
        n: Number of samples.
        theta: Parameters.
    """
    if not isinstance(value, Mapping):
        return positive(value)
    return {str(group): positive(one, name=f"max_norm[{group!r}]") for group, one in value.items()}


def positive_gamma(value: Any, n: int, theta: Tree) -> float:
    """Return what is added to norms, or raise a ValueError unless it is a positive, finite number.

    Args:
        value: It.
        n: Number of samples.
        theta: Parameters.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"gamma is {value}; it must be a positive number, which keeps weights of small norms finite")
    return number


def known_rule(value: Any, n: int, theta: Tree) -> Rule:
    """Return the rule as kernels take it: a word, or a function that takes norms of any library and is looked at.

    Args:
        value: `clip`, `automatic` or a function.
        n: Number of samples.
        theta: Parameters, arrays of the caller's library.

    Raises:
        TypeError: It is neither.
        ValueError: There is no rule of that name; the message lists near ones.
    """
    if value is stand_in or isinstance(value, CallersRule):
        return value
    if callable(value):
        library = backend_of(leaves(theta)[0])
        assert library is not None
        return CallersRule(value, library)
    if not isinstance(value, str):
        raise TypeError(f"rule is {value!r}; it must be {', '.join(CLIPPING_RULES)}, or a function of the norms (n,)")
    found: str = pick(dict(zip(CLIPPING_RULES, CLIPPING_RULES, strict=True)), value, "rule")
    return found


@dataclass(frozen=True)
class CallersRule:
    """A caller's function of norms, given them in the caller's library, whose weights are looked at.

    Attributes:
        function: `function(norms)`, `(n,)` to `(n,)`.
        library: Of the caller's arrays.
    """

    function: Callable[[Array], Array]
    library: Backend

    def __call__(self, norms: Array) -> Array:
        """Return the weights `(n,)` in the library and dtype of the norms.

        Raises:
            WrongRule: The function raised, or gave no array of weights.
        """
        own = backend_of(norms)
        assert own is not None
        if not len(norms):
            return norms
        device = own.arrays.device_of(norms)
        # Memory of its own, which the function may write to: the norms are a result too.
        given = 1 * norms if own is self.library else self.library.put(1 * own.get(norms), device)
        try:
            found = self.function(given)
        except Exception as error:
            raise WrongRule(f"rule raised {type(error).__name__}: {error}") from error
        self._require_weights(given, found)
        found = found.detach() if hasattr(found, "detach") else found
        return cast_like(found if own is self.library else own.put(self.library.get(found), device), norms)

    def _require_weights(self, norms: Array, found: Any) -> None:
        wanted = f"it must return {tuple(norms.shape)} weights, an array of {self.library.name} like its norms"
        if backend_of(found) is not self.library:
            raise WrongRule(f"rule returned a {type(found).__name__}; {wanted}")
        if tuple(found.shape) != tuple(norms.shape):
            raise WrongRule(f"rule returned {tuple(found.shape)}; {wanted}")
        if "float" not in dtype_name(found.dtype):
            raise WrongRule(f"rule returned {dtype_name(found.dtype)}; weights must be floating-point numbers")
        if not hasattr(norms, "device") and self.library.name == "jax":  # what JAX traces has no numbers yet
            return
        of, weights = (np.asarray(self.library.get(wide(one)), np.float64) for one in (norms, found))
        if (odd := np.isfinite(of) & ~np.isfinite(weights)).any():
            at = int(np.flatnonzero(odd)[0])
            raise WrongRule(f"rule returned {weights[at]} for a norm of {of[at]:.6g}; weights must be finite")
