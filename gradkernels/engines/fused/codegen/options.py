"""Options that the functions of the fused engine are compiled with."""

from __future__ import annotations

ENTERED = {"error_model": "numpy", "nogil": True}
"""For what Python or C calls. Division by zero gives infinity or NaN; the order of operations is kept."""

ORDERED = {**ENTERED, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""For what compiled code calls, such as compensated sums: Python's way in would be a fifth of the compiling."""

REASSOCIATED = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}}
FAST = {**ORDERED, **REASSOCIATED}
"""Sums in any order, so that they can be vectorised. Without nnan and ninf: NaN and infinity stay what they are."""

INLINE = {**FAST, "forceinline": True}
"""For what is called once for a block with a Workspace and BatchPointers, whose fields would be passed one by one."""
