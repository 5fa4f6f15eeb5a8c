"""Memory for rows that is filled by one use after another: blocks are written first, and added to from then on."""

from __future__ import annotations

import math

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterTensor


class RowMemory:
    """Rows of parameters, of which some blocks have been written.

    Args:
        out: `(n, *parameter.shape)` by name.
    """

    def __init__(self, out: dict[str, Array]) -> None:
        self.out = out
        self._known: dict[str, list[range]] = {name: [] for name in out}

    def takes(self, target: ParameterTensor) -> bool:
        """Return whether a target's rows are a block of this memory."""
        return target.direct or (target.block is not None and self.out[target.names[0]].is_contiguous())

    def place(self, target: ParameterTensor) -> tuple[Array, bool]:
        """Return where the target's rows belong, `(n, *target.tensor.shape)`, and whether they are to be added."""
        name, block = target.names[0], target.block
        assert block is not None
        known = self._known[name]
        add = any(max(one.start, block.start) < min(one.stop, block.stop) for one in known)
        if add:
            self.fill(name)
        else:
            known.append(block)
        rows = self.out[name]
        if target.direct:
            return rows, add
        return _flat(rows)[:, block.start : block.stop].view(len(rows), *target.tensor.shape), add

    def whole(self, name: str) -> tuple[Array, bool]:
        """Return where rows of a whole parameter belong, and whether they are to be added; they will be written."""
        add = self.fill(name)
        if not add:
            self._known[name].append(range(math.prod(self.out[name].shape[1:])))
        return self.out[name], add

    def fill(self, name: str) -> bool:
        """Write zeros where nothing has been written, if anything has; return whether it has."""
        rows, known, at = self.out[name], self._known[name], 0
        if not known:
            return False
        size = math.prod(rows.shape[1:])
        for block in (*sorted(known, key=lambda one: one.start), range(size, size)):
            if block.start > at:
                _flat(rows)[:, at : block.start] = 0
            at = block.stop
        known[:] = [range(size)]
        return True

    def finish(self) -> dict[str, Array]:
        """Return all rows, zeros where nothing has been written."""
        for name, rows in self.out.items():
            if not self.fill(name):
                rows.zero_()
        return self.out


def _flat(rows: Array) -> Array:
    return rows.view(len(rows), -1)
