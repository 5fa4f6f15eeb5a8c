"""Parameters in any pytree, taken apart into arrays by name and put together again."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.tree import Tree, each


class PytreeLayout:
    """Where each array of a pytree is, and what in it is no array of numbers that one can differentiate by.

    A flat theta is a dict from names to arrays, in the order of the names; of a pytree that is one array it is that.

    Attributes:
        own: The arrays that are differentiated by, flat, of the params it was made of.
    """

    def __init__(self, params: Any) -> None:
        import jax

        self._treedef: Any  # its class has no types
        found, self._treedef = jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_none)
        self._leaves = [leaf for _, leaf in found]
        self._names = [_name(path) if _is_real(leaf) else None for path, leaf in found]
        if len({*self._names} - {None}) < sum(name is not None for name in self._names):
            paths = [jax.tree_util.keystr(path) for path, _ in found]  # a dot in a key, say
            self._names = [None if name is None else path for name, path in zip(self._names, paths, strict=True)]
        if not any(name is not None for name in self._names):
            raise ValueError(f"params has no arrays of real numbers to differentiate by: {self._treedef}")
        self._is_array = self._treedef == jax.tree_util.tree_structure(0)
        self.own = self._flat(self._leaves)

    def flat(self, tree: Any, what: str = "theta") -> Tree:
        """Return the arrays of a pytree of the structure of params by name; one that is flat already as it is.

        Where params has constants it may have None, as results do.

        Args:
            tree: Of that structure.
            what: It is called in messages.

        Raises:
            ValueError: It has another structure, or other constants than params.
        """
        import jax

        if isinstance(self.own, dict) and isinstance(tree, dict) and tree.keys() == self.own.keys():
            return each(_as_array, {name: tree[name] for name in self.own})
        treedef: Any
        leaves, treedef = jax.tree_util.tree_flatten(tree, is_leaf=_is_none)
        if treedef != self._treedef:
            raise ValueError(f"{what} has the structure {treedef}; params has {self._treedef}, give it the same")
        for name, leaf, own in zip(self._names, leaves, self._leaves, strict=True):
            if name is None and leaf is not None and not _is_same(leaf, own):
                raise ValueError(
                    f"{what} has {leaf!r} where params has {own!r}, which is not differentiated by and so part of the "
                    "function: make a FunctionProblem with these params"
                )
        return self._flat(leaves)

    def nested(self, flat: Tree, constants: bool) -> Any:
        """Return arrays by name in the structure of params.

        Args:
            flat: The arrays; those of some names may be missing, and are None.
            constants: Whether what is not differentiated by is as in params, and not None.
        """
        arrays = flat if isinstance(self.own, dict) else {"": flat}
        leaves = [
            (own if constants else None) if name is None else arrays.get(name)
            for name, own in zip(self._names, self._leaves, strict=True)
        ]
        return self._treedef.unflatten(leaves)

    def _flat(self, leaves: list[Any]) -> Tree:
        arrays = {name: _as_array(leaf) for name, leaf in zip(self._names, leaves, strict=True) if name is not None}
        return arrays[""] if self._is_array else dict(sorted(arrays.items()))

    @property
    def constants(self) -> tuple[Any, ...]:
        """What is not differentiated by, in order."""
        return tuple(leaf for name, leaf in zip(self._names, self._leaves, strict=True) if name is None)

    @property
    def identity(self) -> tuple[int, ...]:
        """What tells the very params apart from others."""
        return tuple(map(id, self._leaves))


def _name(path: Any) -> str:
    import jax

    return str(jax.tree_util.keystr(path, simple=True, separator="."))


def _is_none(part: Any) -> bool:
    return part is None


def _is_real(leaf: Any) -> bool:
    import jax

    if isinstance(leaf, bool | int | str | bytes) or not (isinstance(leaf, float) or hasattr(leaf, "dtype")):
        return False
    dtype = jax.numpy.result_type(leaf)
    if jax.numpy.issubdtype(dtype, jax.numpy.complexfloating):
        raise TypeError(f"params holds {dtype}; per-sample gradients are of real parameters: keep its two parts apart")
    return bool(jax.numpy.issubdtype(dtype, jax.numpy.floating))


def _as_array(leaf: Any) -> Array:
    import jax

    return leaf if isinstance(leaf, jax.Array) else jax.numpy.asarray(leaf)


def _is_same(leaf: Any, own: Any) -> bool:
    if leaf is own:
        return True
    if hasattr(leaf, "dtype") and hasattr(own, "dtype"):
        return bool(np.array_equal(np.asarray(leaf), np.asarray(own)))
    return bool(leaf == own)
