"""Memory that holds what follows from the number of samples alone, which Python may look at while it is recorded.

Told by memory, not by tensors: a write to one of several tensors that show the same memory changes what all hold.
"""

from __future__ import annotations

from gradkernels.backend import Array


class KnownMemory:
    """The memory of masks, positions and the like, held, so that nothing else gets it while it is asked about."""

    def __init__(self) -> None:
        self._held: dict[int, Array] = {}

    def holds(self, *tensors: Array) -> bool:
        """Return whether what all of these hold follows from the number of samples alone: no argument was read."""
        return all(memory_of(one) in self._held for one in tensors)

    def note(self, known: bool, *tensors: Array) -> None:
        """Note what an operation has made or written.

        Args:
            known: Whether it follows from the number of samples alone.
            tensors: That hold it.
        """
        for tensor in tensors:
            address = memory_of(tensor)
            if known and address:
                self._held.setdefault(address, tensor)
            elif not known:
                self._held.pop(address, None)


def memory_of(tensor: Array) -> int:
    """Return the address of a tensor's memory; 0 where it has none, or is in several pieces."""
    try:
        return int(tensor.untyped_storage().data_ptr())
    except NotImplementedError:  # sparse, say
        return 0
