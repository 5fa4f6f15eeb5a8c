"""Fingerprints of arrays, trees and options, by which data and calls are known again in another process."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np

from gradkernels.backend import backend_of
from gradkernels.problems import BlackBox, Problem
from gradkernels.row_norms import wide
from gradkernels.tree import Constant, Folded, Tree

DIGEST_BYTES = 16
"""Bytes of a fingerprint."""


def digest(*values: Any) -> str:
    """Return the fingerprint of arrays, trees of them, and what Python prints the same in every process."""
    found = blake2b(digest_size=DIGEST_BYTES)
    for value in values:
        _add(found, value)
    return found.hexdigest()


def of_parameters(problem: Problem, theta: Tree) -> str:
    """Return the fingerprint of what the problem computes with: theta, and a module's buffers and modes.

    Args:
        problem: What is differentiated.
        theta: Parameters.
    """
    if not isinstance(problem, BlackBox):
        return digest(theta)
    modules = [(name, module.training) for name, module in problem.model.named_modules()]
    return digest(theta, dict(problem.model.state_dict()), modules)


def _add(found: Any, value: Any) -> None:
    if isinstance(value, Constant):
        value = value.value
    if isinstance(value, Folded):
        value = value.parts
    library = backend_of(value)
    if library is not None:
        array = np.ascontiguousarray(library.get(wide(_detached(value))))
        found.update(f"{value.dtype} {tuple(value.shape)}".encode())
        found.update(array.reshape(-1).view(np.uint8).data if array.dtype != object else repr(array.tolist()).encode())
    elif isinstance(value, dict):
        for name, part in value.items():
            found.update(repr(name).encode())
            _add(found, part)
    elif isinstance(value, list | tuple):
        found.update(f"{len(value)} parts".encode())
        for part in value:
            _add(found, part)
    elif callable(value):
        found.update(f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}".encode())
    else:
        found.update(repr(value).encode())


def _detached(array: Any) -> Any:
    return array.detach() if getattr(array, "requires_grad", False) else array
