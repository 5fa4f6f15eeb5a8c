"""Options that the functions of the fused engine are compiled with."""

from __future__ import annotations

ORDERED = {"error_model": "numpy", "nogil": True}
"""Division by zero gives infinity or NaN; the order of operations is kept, as compensated sums need it."""

FAST = {**ORDERED, "fastmath": {"reassoc", "contract", "nsz", "arcp"}}
"""Sums in any order, so that they can be vectorised. Without nnan and ninf: NaN and infinity stay what they are."""

INLINE = {**FAST, "forceinline": True}
"""For what is called once for a block with a Workspace and BatchPointers, whose fields would be passed one by one."""
